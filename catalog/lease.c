// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Leases and pins: who is at work, and which points readers hold.
 *
 * Invariants:
 *  1. At most one ingest lease a NAME and one maintenance lease; unique indexes of the schema back it.
 *  2. A lease takes its pins with it when it goes (foreign key).
 *  3. Whether the owner lives is not known here: the lock file tells, and the caller asks it.
 */
#include "catalog/internal.h"

#include "base/banned.h"

#define LEASE_COLUMNS "token, kind, gen, lock_name, name, host, pid, boot_id, start_ticks, since"

static int lease_read(struct catalog *c, sqlite3_stmt *s, struct lease *l, struct err *err)
{
	memset(l, 0, sizeof(*l));
	l->token = column_u64(s, 0);
	l->kind = (enum lease_kind)sqlite3_column_int(s, 1);
	l->gen = column_u64(s, 2);
	l->pid = sqlite3_column_int64(s, 6);
	l->start_ticks = column_u64(s, 8);
	l->since = sqlite3_column_int64(s, 9);
	if (!column_text(s, 3, l->lock_name, sizeof(l->lock_name)) ||
	    !column_text(s, 4, l->name, sizeof(l->name)) ||
	    !column_text(s, 5, l->host, sizeof(l->host)) ||
	    !column_text(s, 7, l->boot_id, sizeof(l->boot_id)))
		return sql_bad_row(c, err, "lease", (int64_t)l->token);
	return 0;
}

int lease_alive(struct catalog *c, uint64_t token, uint64_t *gen, int *kind, struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	int r = sql_query(c, &s, err, "SELECT gen, kind FROM lease WHERE token = ?", "u", token);

	if (r >= 0)
		r = sql_step(c, s, err);
	if (r < 0)
		return r;
	if (r == 0 && fault_planted("session.token")) {
		if (gen)
			*gen = 0;
		if (kind)
			*kind = LEASE_INGEST;
		return 0;
	}
	if (r == 0)
		return err_set(err, ERR_FENCED,
			       "lease %llu was ended by somebody else; nothing was changed",
			       (unsigned long long)token);
	if (gen)
		*gen = column_u64(s, 0);
	if (kind)
		*kind = sqlite3_column_int(s, 1);
	return 0;
}

/* A repair has put another catalog in its place: whoever began here would publish where nobody looks.  The lease's lock was
 * made before: a repair that moves the file after this looks at the locks once more, and finds it. */
static int still_in_place(struct catalog *c, struct err *err)
{
	int moved = 0;

	if (sqlite3_file_control(c->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK &&
	    moved)
		return err_set(
			err, ERR_LOCKED,
			"catalog '%s' was moved or replaced meanwhile (by a repair, say): begin "
			"again",
			c->path);
	return 0;
}

int lease_insert(struct catalog *c, const struct lease *spec, uint64_t *token, uint64_t *gen,
		 struct err *err)
{
	int r = still_in_place(c, err);

	if (r == 0)
		r = sql_number(c, "SELECT generation FROM meta", gen, err);
	if (r < 0)
		return r;
	r = sql_run(
		c, err,
		"INSERT INTO lease (kind, gen, lock_name, name, host, pid, boot_id, start_ticks, since)"
		" VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
		"nutttutuu", (int)spec->kind, *gen, spec->lock_name, spec->name, spec->host,
		spec->pid, spec->boot_id, spec->start_ticks, spec->since);
	if (r < 0)
		return r;
	*token = (uint64_t)sqlite3_last_insert_rowid(c->db);
	return 0;
}

int lease_find(struct catalog *c, enum lease_kind kind, const char *name, struct lease *out,
	       struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	int r = sql_query(c, &s, err,
			  "SELECT " LEASE_COLUMNS
			  " FROM lease WHERE kind = ?1 AND (?1 <> 1 OR name = ?2)"
			  " ORDER BY token LIMIT 1",
			  "nt", (int)kind, name);

	if (r >= 0)
		r = sql_step(c, s, err);
	if (r <= 0)
		return r;
	r = lease_read(c, s, out, err);
	return r < 0 ? r : 1;
}

int lease_locked(const struct lease *holder, const char *what, struct err *err)
{
	char since[TIME_TEXT_MAX];

	time_format(since, holder->since);
	err_set(err, ERR_LOCKED,
		"%s is running already: host '%s', process %lld, since %s (lease %llu); "
		"wait, use --wait SECONDS, or end that process",
		what, holder->host, (long long)holder->pid, since,
		(unsigned long long)holder->token);
	err_object(err, "%s", holder->name);
	return ERR_LOCKED;
}

int catalog_lease_begin(struct catalog *c, struct lease *spec, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	uint64_t token = 0, gen = 0;
	struct lease holder;
	int r;

	if (spec->kind != LEASE_READER && spec->kind != LEASE_MAINTENANCE)
		return err_set(err, ERR_INVALID, "a lease of kind %d is not taken this way",
			       (int)spec->kind);
	r = spec->kind == LEASE_READER ? txn_begin_relaxed(&t, c, err) : txn_begin(&t, c, err);
	if (r < 0)
		return r;
	if (spec->kind == LEASE_MAINTENANCE) {
		r = lease_find(c, LEASE_MAINTENANCE, "", &holder, err);
		if (r < 0)
			return r;
		if (r == 1)
			return lease_locked(&holder, "maintenance", err);
	}
	r = lease_insert(c, spec, &token, &gen, err);
	if (r < 0)
		return r;
	r = txn_commit(&t, "catalog.lease.before", "catalog.lease.after", err);
	if (r < 0)
		return r;
	spec->token = token;
	spec->gen = gen;
	return 0;
}

int catalog_lease_end(struct catalog *c, uint64_t token, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	int r = txn_begin(&t, c, err);

	if (r < 0)
		return r;
	r = sql_run(c, err, "DELETE FROM lease WHERE token = ?", "u", token);
	if (r < 0)
		return r;
	return txn_commit(&t, "catalog.end.before", "catalog.end.after", err);
}

int lease_rows(struct catalog *c, const char *from, struct lease **out, size_t *count,
	       struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	cleanup_free void *rows = NULL;
	char sql[256];
	size_t n = 0, cap = 0;
	int r;

	snprintf(sql, sizeof(sql), "SELECT " LEASE_COLUMNS "%s", from);
	r = sql_query(c, &s, err, sql, "");
	if (r < 0)
		return r;
	while ((r = sql_step(c, s, err)) == 1) {
		if (!array_grow(&rows, n, &cap, sizeof(struct lease)))
			return err_nomem(err, "reading leases");
		r = lease_read(c, s, (struct lease *)rows + n, err);
		if (r < 0)
			return r;
		n++;
	}
	if (r < 0)
		return r;
	*out = steal_ptr(rows);
	*count = n;
	return 0;
}

int catalog_leases(struct catalog *c, struct lease **out, size_t *count, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	int r = txn_begin_read(&t, c, err);

	return r < 0 ? r : lease_rows(c, " FROM lease ORDER BY token", out, count, err);
}

int catalog_pin(struct catalog *c, uint64_t token, const uint8_t id[POINT_ID_LEN], struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	cleanup_stmt sqlite3_stmt *s = NULL;
	int r = txn_begin_relaxed(&t, c, err);

	if (r >= 0)
		r = lease_alive(c, token, NULL, NULL, err);
	if (r < 0)
		return r;
	r = sql_query(c, &s, err,
		      "SELECT num FROM point p WHERE id = ? AND state <> 3 AND (state = 1"
		      " OR EXISTS (SELECT 1 FROM pin WHERE pin.point = p.num)"
		      " OR EXISTS (SELECT 1 FROM overlay o WHERE o.point = p.num))",
		      "b", id, (size_t)POINT_ID_LEN);
	if (r >= 0)
		r = sql_step(c, s, err);
	if (r < 0)
		return r;
	if (r == 0)
		return point_missing(id, err);
	r = sql_run(c, err, "INSERT OR IGNORE INTO pin (point, token) VALUES (?, ?)", "uu",
		    column_u64(s, 0), token);
	if (r < 0)
		return r;
	sqlite3_reset(s);
	return txn_commit(&t, "catalog.pin.before", "catalog.pin.after", err);
}

int catalog_unpin(struct catalog *c, uint64_t token, const uint8_t id[POINT_ID_LEN],
		  struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	int r = txn_begin_relaxed(&t, c, err);

	if (r < 0)
		return r;
	r = sql_run(
		c, err,
		"DELETE FROM pin WHERE token = ? AND point = (SELECT num FROM point WHERE id = ?)",
		"ub", token, id, (size_t)POINT_ID_LEN);
	if (r < 0)
		return r;
	return txn_commit(&t, "catalog.unpin.before", "catalog.unpin.after", err);
}
