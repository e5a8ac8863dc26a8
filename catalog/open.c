// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Making, opening and closing a catalog; the settings of every connection.
 *
 * Invariants:
 *  1. WAL, synchronous=FULL: a commit that returned is on disk (txn_begin_relaxed in sql.c is the exception).
 *  2. No mmap: an I/O error would be SIGBUS instead of an error.
 *  3. A handle is closed by the process that opened it.  A forked child only forgets it: a checkpoint or
 *     a dropped lock of the child would harm the parent.
 */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "catalog/internal.h"

#include "base/banned.h"

static const char connection_settings[] = "PRAGMA foreign_keys = ON;"
					  "PRAGMA synchronous = FULL;"
					  "PRAGMA mmap_size = 0;"
					  "PRAGMA temp_store = MEMORY;"
					  "PRAGMA trusted_schema = OFF;"
					  "PRAGMA cell_size_check = ON;"
					  "PRAGMA wal_autocheckpoint = 1000;";

void catalog_set_busy(struct catalog *c, int ms)
{
	sqlite3_busy_timeout(c->db, ms);
}

void connection_close(struct catalog *c)
{
	sqlite3_close(c->db);
	c->db = NULL;
}

int connection_open(struct catalog *c, const char *name, int flags, struct err *err)
{
	int rc = sqlite3_open_v2(name, &c->db, flags | SQLITE_OPEN_FULLMUTEX, NULL);

	if (!c->db)
		return err_nomem(err, "opening the catalog");
	sqlite3_extended_result_codes(c->db, 1);
	if (rc != SQLITE_OK)
		return sql_err(c, rc, err, "cannot open it");
	catalog_set_busy(c, CATALOG_BUSY_MS);
	sqlite3_db_config(c->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	return sql_exec(c, connection_settings, err);
}

static int handle_new(const char *path, enum catalog_mode mode, const uint8_t uuid[UUID_LEN],
		      struct catalog **out, struct err *err)
{
	cleanup_ptr(catalog) c = mem_alloc(sizeof(*c));

	if (!c)
		return err_nomem(err, "opening the catalog");
	c->pid = getpid();
	c->mode = mode;
	memcpy(c->uuid, uuid, UUID_LEN);
	c->path = str_dup(path);
	if (!c->path)
		return err_nomem(err, "opening the catalog");
	*out = steal_ptr(c);
	return 0;
}

/* SQLite names a journal mode that it could not set by answering with another. */
static int set_wal(struct catalog *c, struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	char mode[16];
	int r = sql_query(c, &s, err, "PRAGMA journal_mode = WAL", "");

	if (r >= 0)
		r = sql_step(c, s, err);
	if (r < 0)
		return r;
	if (r == 1 && column_text(s, 0, mode, sizeof(mode)) && strcmp(mode, "wal") == 0)
		return 0;
	return err_set(err, ERR_UNSUPPORTED,
		       "catalog '%s': write-ahead log cannot be used on this file "
		       "system",
		       c->path);
}

/* --- create --- */

static int create_in(struct catalog *c, struct err *err)
{
	char sql[64], dir[PATH_MAX];
	int r = connection_open(c, c->path, SQLITE_OPEN_READWRITE, err);

	if (r < 0)
		return r;
	snprintf(sql, sizeof(sql), "PRAGMA page_size = %d", CATALOG_PAGE_SIZE);
	r = sql_exec(c, sql, err);
	if (r >= 0)
		r = set_wal(c, err);
	if (r >= 0)
		r = schema_create(c, err);
	if (r < 0)
		return r;
	if (!str_copy(dir, sizeof(dir), c->path))
		return err_set(err, ERR_TOO_BIG, "the path '%s' is too long", c->path);
	return dir_sync(dirname(dir), "catalog.create.dirsync", err);
}

static void create_undo(const char *path)
{
	static const char *const suffixes[] = { "", "-wal", "-shm" };
	char name[PATH_MAX];
	struct err err = ERR_INIT;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(suffixes); i++) {
		if (snprintf(name, sizeof(name), "%s%s", path, suffixes[i]) < (int)sizeof(name) &&
		    file_unlink(name, "catalog.create.unlink", &err) < 0)
			log_warning("catalog that was not finished: %s", err.text);
	}
}

int catalog_create(const char *path, const uint8_t uuid[UUID_LEN], struct err *err)
{
	cleanup_ptr(catalog) c = NULL;
	int fd, r = handle_new(path, CATALOG_READ_WRITE, uuid, &c, err);

	if (r < 0)
		return r;
	/* Empty, with our mode and refusing an existing one; no connection has it yet, so that this
	 * close() can drop nobody's lock. */
	fd = file_create(path, "catalog.create.file", err);
	if (fd < 0)
		return fd;
	close(fd);
	r = create_in(c, err);
	if (r < 0) {
		catalog_close(steal_ptr(c));
		create_undo(path);
	}
	return r;
}

/* --- open --- */

static int find_file(const char *path, char real[PATH_MAX], struct err *err)
{
	struct stat st;
	int eno;

	if (!realpath(path, real) || stat(real, &st) != 0) {
		eno = errno;
		if (eno == ENOENT || eno == ENOTDIR)
			return err_set(
				err, ERR_NO_REPO,
				"catalog '%s' is not there; 'livepoint repair' builds it again from the packs",
				path);
		return err_set_errno(err, ERR_IO, eno, "catalog '%s'", path);
	}
	if (!S_ISREG(st.st_mode))
		return err_set(err, ERR_NO_REPO, "catalog '%s' is not a file", path);
	return 0;
}

static int open_writer(struct catalog *c, const char *real, int *version, struct err *err)
{
	int r;

	/* SQLite would open it read-only in silence. */
	if (eaccess(real, W_OK) != 0)
		return err_set_errno(err, ERR_PERM, errno, "catalog '%s' cannot be written",
				     c->path);
	r = connection_open(c, real, SQLITE_OPEN_READWRITE, err);
	if (r >= 0)
		r = schema_identify(c, version, err);
	if (r >= 0)
		r = set_wal(c, err);
	return r < 0 ? r : schema_upgrade(c, schema_steps, CATALOG_SCHEMA_VERSION, err);
}

int catalog_open(const char *path, enum catalog_mode mode, const uint8_t uuid[UUID_LEN],
		 struct catalog **out, struct err *err)
{
	cleanup_ptr(catalog) c = NULL;
	char real[PATH_MAX];
	int version = 0;
	int r = find_file(path, real, err);

	if (r >= 0)
		r = handle_new(path, mode, uuid, &c, err);
	if (r < 0)
		return r;
	if (mode == CATALOG_READ_WRITE)
		r = open_writer(c, real, &version, err);
	else
		r = readonly_open(c, real, &version, err);
	if (r >= 0 && mode == CATALOG_READ_ONLY && version < CATALOG_SCHEMA_VERSION)
		r = readonly_migrate(c, real, err);
	if (r < 0)
		return r;
	*out = steal_ptr(c);
	return 0;
}

bool catalog_can_write(const struct catalog *c)
{
	return c->mode == CATALOG_READ_WRITE && !c->broken;
}

void catalog_close(struct catalog *c)
{
	if (!c)
		return;
	if (c->pid == getpid()) {
		if (c->db && c->mode == CATALOG_READ_WRITE && !c->broken) {
			/* Best effort: somebody else at work will do it at his end. */
			sqlite3_busy_timeout(c->db, 0);
			sqlite3_wal_checkpoint_v2(c->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL,
						  NULL);
		}
		connection_close(c);
		if (c->private_dir)
			readonly_remove(c->private_dir);
	}
	free(c->private_dir);
	free(c->path);
	free(c);
}
