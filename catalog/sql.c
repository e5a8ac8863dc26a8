// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Statements, errors and transactions over SQLite: what every other file of the room builds on.
 *
 * Invariants:
 *  1. A write transaction is BEGIN IMMEDIATE, so that it never fails half-way on a lock.
 *  2. After an error from COMMIT (or a fault point behind it) the handle is broken: nobody asks a
 *     connection whose view may differ from the file; the caller opens the catalog again.
 *  3. A handle that crossed a fork, is broken or is read-only begins no write transaction.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "catalog/internal.h"

#include "base/banned.h"

int sql_code(sqlite3 *db, int rc)
{
	int eno = db ? sqlite3_system_errno(db) : 0;

	if (rc == SQLITE_IOERR_NOMEM)
		return ERR_NOMEM;
	/* The -shm file could not grow; SQLite keeps no errno of that, and there is hardly another reason. */
	if (rc == SQLITE_IOERR_SHMSIZE)
		return ERR_NOSPC;
	switch (rc & 0xff) {
	case SQLITE_FULL:
		return ERR_NOSPC;
	case SQLITE_READONLY:
		return ERR_READONLY;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_PROTOCOL:
		return ERR_LOCKED;
	case SQLITE_NOTADB:
	case SQLITE_CORRUPT:
		return ERR_DAMAGED;
	case SQLITE_NOMEM:
		return ERR_NOMEM;
	case SQLITE_TOOBIG:
		return ERR_TOO_BIG;
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return ERR_PERM;
	case SQLITE_CANTOPEN:
		return eno == EACCES || eno == EPERM ? ERR_PERM : ERR_IO;
	case SQLITE_IOERR:
		return eno == ENOSPC || eno == EDQUOT ? ERR_NOSPC :
		       eno == EROFS		      ? ERR_READONLY :
							ERR_IO;
	case SQLITE_CONSTRAINT:
	case SQLITE_MISMATCH:
	case SQLITE_MISUSE:
	case SQLITE_RANGE:
		return ERR_INTERNAL;
	default:
		return ERR_FAILED;
	}
}

int sql_err(struct catalog *c, int rc, struct err *err, const char *what)
{
	int code = sql_code(c->db, rc);

	if (code == ERR_LOCKED)
		return err_set(err, code, "catalog '%s': %s: another process is writing it: %s",
			       c->path, what, sqlite3_errstr(rc));
	if (code == ERR_NOSPC) /* SQLite says "disk I/O error" of some */
		return err_set(err, code, "catalog '%s': %s: no space left", c->path, what);
	return err_set(err, code, "catalog '%s': %s: %s", c->path, what,
		       c->db ? sqlite3_errmsg(c->db) : sqlite3_errstr(rc));
}

int sql_bad_row(struct catalog *c, struct err *err, const char *table, int64_t row)
{
	return err_set(err, ERR_DAMAGED,
		       "catalog '%s': row %lld of table '%s' has a value out of range", c->path,
		       (long long)row, table);
}

/* --- statements --- */

void sql_cleanup_stmt(sqlite3_stmt **s)
{
	sqlite3_finalize(*s);
}

static int bind_all(sqlite3_stmt *s, const char *types, va_list ap)
{
	int rc = SQLITE_OK, i;

	for (i = 1; *types && rc == SQLITE_OK; types++, i++) {
		switch (*types) {
		case 'n':
			rc = sqlite3_bind_int(s, i, va_arg(ap, int));
			break;
		case 'u':
			rc = sqlite3_bind_int64(s, i, va_arg(ap, int64_t));
			break;
		case 'd':
			rc = sqlite3_bind_double(s, i, va_arg(ap, double));
			break;
		case 't':
			rc = sqlite3_bind_text(s, i, va_arg(ap, const char *), -1, SQLITE_STATIC);
			break;
		case 'b': {
			const void *p = va_arg(ap, const void *);

			rc = sqlite3_bind_blob64(s, i, p, va_arg(ap, size_t), SQLITE_STATIC);
			break;
		}
		default:
			rc = SQLITE_MISUSE;
		}
	}
	return rc;
}

static int query_va(struct catalog *c, sqlite3_stmt **out, struct err *err, const char *sql,
		    const char *types, va_list ap)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	int rc = sqlite3_prepare_v2(c->db, sql, -1, &s, NULL);

	if (rc != SQLITE_OK)
		return sql_err(c, rc, err, "cannot prepare a statement");
	rc = bind_all(s, types, ap);
	if (rc != SQLITE_OK)
		return sql_err(c, rc, err, "cannot bind a value");
	*out = steal_ptr(s);
	return 0;
}

int sql_query(struct catalog *c, sqlite3_stmt **out, struct err *err, const char *sql,
	      const char *types, ...)
{
	va_list ap;
	int r;

	va_start(ap, types);
	r = query_va(c, out, err, sql, types, ap);
	va_end(ap);
	return r;
}

int sql_bind(struct catalog *c, sqlite3_stmt *s, struct err *err, const char *types, ...)
{
	va_list ap;
	int rc;

	/* The error that reset repeats was reported by the step that failed. */
	sqlite3_reset(s);
	va_start(ap, types);
	rc = bind_all(s, types, ap);
	va_end(ap);
	return rc == SQLITE_OK ? 0 : sql_err(c, rc, err, "cannot bind a value");
}

int sql_step(struct catalog *c, sqlite3_stmt *s, struct err *err)
{
	int rc = sqlite3_step(s);

	if (rc == SQLITE_ROW)
		return 1;
	return rc == SQLITE_DONE ? 0 : sql_err(c, rc, err, "cannot run a statement");
}

int sql_finish(struct catalog *c, sqlite3_stmt *s, struct err *err)
{
	int r;

	do {
		r = sql_step(c, s, err);
	} while (r == 1);
	return r < 0 ? r : sqlite3_changes(c->db);
}

int sql_run(struct catalog *c, struct err *err, const char *sql, const char *types, ...)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	va_list ap;
	int r;

	va_start(ap, types);
	r = query_va(c, &s, err, sql, types, ap);
	va_end(ap);
	return r < 0 ? r : sql_finish(c, s, err);
}

int sql_exec(struct catalog *c, const char *sql, struct err *err)
{
	int rc = sqlite3_exec(c->db, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : sql_err(c, rc, err, "cannot run a statement");
}

int sql_number(struct catalog *c, const char *sql, uint64_t *out, struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	int r = sql_query(c, &s, err, sql, "");

	if (r < 0)
		return r;
	r = sql_step(c, s, err);
	if (r < 0)
		return r;
	if (r == 0)
		return err_set(err, ERR_DAMAGED,
			       "catalog '%s': a row is missing that every catalog has", c->path);
	*out = column_u64(s, 0);
	return 0;
}

/* --- columns --- */

bool column_text(sqlite3_stmt *s, int i, char *dst, size_t size)
{
	const char *text = (const char *)sqlite3_column_text(s, i);
	size_t n = (size_t)sqlite3_column_bytes(s, i);

	if (!text || n >= size || strlen(text) != n)
		return false;
	memcpy(dst, text, n + 1);
	return true;
}

bool column_blob(sqlite3_stmt *s, int i, void *dst, size_t n)
{
	const void *p = sqlite3_column_blob(s, i);

	if (!p || (size_t)sqlite3_column_bytes(s, i) != n)
		return false;
	memcpy(dst, p, n);
	return true;
}

bool array_grow(void **rows, size_t count, size_t *cap, size_t size)
{
	size_t more;
	void *p;

	if (count == *cap) {
		more = *cap ? *cap * 2 : 16;
		p = mem_realloc_array(*rows, more, size);
		if (!p)
			return false;
		*rows = p;
		*cap = more;
	}
	memset((char *)*rows + count * size, 0, size);
	return true;
}

int sql_u64_list(struct catalog *c, sqlite3_stmt *s, uint64_t **out, size_t *count, struct err *err)
{
	cleanup_free void *rows = NULL;
	size_t n = 0, cap = 0;
	int r;

	while ((r = sql_step(c, s, err)) == 1) {
		if (!array_grow(&rows, n, &cap, sizeof(uint64_t)))
			return err_nomem(err, "reading a list of numbers");
		((uint64_t *)rows)[n++] = column_u64(s, 0);
	}
	if (r < 0)
		return r;
	*out = steal_ptr(rows);
	*count = n;
	return 0;
}

/* --- transactions --- */

static int fault_step(struct catalog *c, const char *point, struct err *err)
{
	int eno = fault_hit(point);

	if (!eno)
		return 0;
	return err_set_errno(err, ERR_IO, eno == FAULT_SHORT ? ENOSPC : eno, "catalog '%s': %s",
			     c->path, point);
}

static int handle_usable(struct catalog *c, struct err *err)
{
	if (c->pid != getpid())
		return err_set(err, ERR_INTERNAL,
			       "catalog '%s': the handle belongs to another process", c->path);
	if (c->broken)
		return err_set(err, ERR_IO,
			       "catalog '%s': must be opened again after the commit that failed",
			       c->path);
	if (!sqlite3_get_autocommit(c->db))
		return err_set(err, ERR_INTERNAL, "catalog '%s': a transaction is open already",
			       c->path);
	return 0;
}

/* SQLite syncs the log at each commit, or (NORMAL) only before it copies the log into the file. */
static int set_relaxed(struct catalog *c, bool relaxed, struct err *err)
{
	int r = c->relaxed == relaxed ? 0 :
					sql_exec(c,
						 relaxed ? "PRAGMA synchronous = NORMAL" :
							   "PRAGMA synchronous = FULL",
						 err);

	if (r == 0)
		c->relaxed = relaxed;
	return r;
}

static int begin_immediate(struct txn *t, struct catalog *c, bool relaxed, struct err *err)
{
	int r = handle_usable(c, err);

	if (r < 0)
		return r;
	if (c->mode == CATALOG_READ_ONLY)
		return err_set(err, ERR_READONLY, "catalog '%s': opened for reading only", c->path);
	r = fault_step(c, "catalog.begin", err);
	if (r == 0)
		r = set_relaxed(c, relaxed, err);
	if (r == 0)
		r = sql_exec(c, "BEGIN IMMEDIATE", err);
	if (r < 0)
		return r;
	t->c = c;
	return 0;
}

int txn_begin(struct txn *t, struct catalog *c, struct err *err)
{
	return begin_immediate(t, c, false, err);
}

int txn_begin_relaxed(struct txn *t, struct catalog *c, struct err *err)
{
	return begin_immediate(t, c, true, err);
}

int txn_begin_read(struct txn *t, struct catalog *c, struct err *err)
{
	int r = handle_usable(c, err);

	if (r < 0)
		return r;
	r = sql_exec(c, "BEGIN", err);
	if (r < 0)
		return r;
	t->c = c;
	return 0;
}

int txn_commit(struct txn *t, const char *before, const char *after, struct err *err)
{
	struct catalog *c = t->c;
	int r = fault_step(c, "catalog.commit.before", err), fault;

	if (r == 0)
		r = fault_step(c, before, err);
	if (r < 0)
		return r;
	r = sql_exec(c, "COMMIT", err);
	if (r < 0) {
		txn_rollback(t);
		c->broken = true;
		err_prefix(err, "it is unknown whether the commit happened");
		return err_recode(err, ERR_UNKNOWN);
	}
	t->c = NULL;
	fault = fault_hit("catalog.commit.after");
	if (!fault)
		fault = fault_hit(after);
	if (!fault)
		return 0;
	c->broken = true;
	return err_set(err, ERR_UNKNOWN,
		       "it is unknown whether the commit happened: catalog '%s': %s", c->path,
		       after);
}

void txn_rollback(struct txn *t)
{
	struct catalog *c = t->c;

	t->c = NULL;
	/* SQLite rolls some errors back by itself. */
	if (!c || sqlite3_get_autocommit(c->db))
		return;
	if (sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL) != SQLITE_OK &&
	    !sqlite3_get_autocommit(c->db))
		c->broken = true;
}
