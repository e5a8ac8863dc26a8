// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Opening a catalog that is only read, also where nothing can be written.
 *
 * A reader of a WAL database writes: it needs the -shm file.  So, the first that works:
 *
 *	shared		the file and its folder can be written, or a -shm lies there already: an ordinary
 *			read-only connection.  It sees what others commit.
 *	immutable	read-only file system, no -shm, no -wal with frames: nobody is at work there, and the
 *			file alone is the whole catalog.
 *	copy		anything else: catalog and WAL are copied to a private folder and opened there.
 *
 * A catalog of an older schema, which only a writer may migrate, is copied in any case and the copy migrated: so
 * everything else here knows one schema only.  Such a handle shows the moment of its opening.
 *
 * Invariants:
 *  1. Never immutable beside a WAL with frames: committed points would be missing (SQLite 3.40 opens it
 *     without a word).  Never immutable only because we may not write: somebody else may.
 *  2. A copy holds one moment: size and times of both files are the same before and after, else again.
 *  3. The catalog file itself is read through SQLite's VFS: a close() of our own would drop the POSIX
 *     locks of any other connection of this process (sqlite.org/howtocorrupt.html, 2.2).
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "catalog/internal.h"

#include "base/banned.h"

#define WAL_HEADER_LEN                                                                             \
	32 /* a WAL of this length or less has no frames (sqlite.org/fileformat2.html, 4.1) */
#define COPY_TRIES 20
#define COPY_STEP (256 * 1024)

static bool beside(char *dst, const char *real, const char *suffix)
{
	int n = snprintf(dst, PATH_MAX, "%s%s", real, suffix);

	return n > 0 && n < PATH_MAX;
}

static bool has_shm(const char *real)
{
	char path[PATH_MAX];
	struct stat st;

	return beside(path, real, "-shm") && stat(path, &st) == 0;
}

/* True also if it cannot be looked at. */
static bool has_frames(const char *real)
{
	char path[PATH_MAX];
	struct stat st;

	if (!beside(path, real, "-wal"))
		return true;
	if (stat(path, &st) != 0)
		return errno != ENOENT;
	return st.st_size > WAL_HEADER_LEN;
}

static bool can_write(const char *real)
{
	char dir[PATH_MAX];

	if (!str_copy(dir, sizeof(dir), real))
		return false;
	return eaccess(real, W_OK) == 0 && eaccess(dirname(dir), W_OK | X_OK) == 0;
}

/* --- the copy --- */

struct moment {
	struct stat db, wal;
	bool has_wal;
};

static int moment_take(const char *real, const char *wal, struct moment *m, struct err *err)
{
	memset(m, 0, sizeof(*m));
	if (stat(real, &m->db) != 0)
		return err_set_errno(err, ERR_IO, errno, "cannot look at '%s'", real);
	m->has_wal = stat(wal, &m->wal) == 0;
	if (!m->has_wal && errno != ENOENT)
		return err_set_errno(err, ERR_IO, errno, "cannot look at '%s'", wal);
	return 0;
}

static bool stat_same(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* The catalog file through the VFS of SQLite, without any lock. */
static int copy_through_vfs(sqlite3_file *in, const char *real, int out, const char *to,
			    struct err *err)
{
	cleanup_free uint8_t *block = mem_alloc(COPY_STEP);
	sqlite3_int64 size = 0, at;
	int rc = in->pMethods->xFileSize(in, &size), r = 0;

	if (!block)
		return err_nomem(err, "copying the catalog");
	for (at = 0; at < size && rc == SQLITE_OK && r == 0; at += COPY_STEP) {
		int n = (int)MIN(size - at, (sqlite3_int64)COPY_STEP);

		rc = in->pMethods->xRead(in, block, n, at);
		if (rc == SQLITE_OK)
			r = file_pwrite(out, block, (size_t)n, (uint64_t)at, to,
					"catalog.copy.write", err);
	}
	if (rc != SQLITE_OK)
		return err_set(err, sql_code(NULL, rc), "cannot read '%s': %s", real,
			       sqlite3_errstr(rc));
	return r;
}

static int copy_catalog(const char *real, const char *to, struct err *err)
{
	sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
	cleanup_free sqlite3_file *in = NULL;
	cleanup_fd int out = -1;
	sqlite3_filename name;
	int rc, r, flags = 0;

	if (!vfs)
		return err_set(err, ERR_INTERNAL, "SQLite has no VFS");
	in = mem_alloc((size_t)vfs->szOsFile);
	name = in ? sqlite3_create_filename(real, "", "", 0, NULL) : NULL;
	if (!name)
		return err_nomem(err, "copying the catalog");
	out = file_create(to, "catalog.copy.create", err);
	r = out < 0 ? out : 0;
	if (r == 0) {
		rc = vfs->xOpen(vfs, name, in, SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_READONLY, &flags);
		if (rc != SQLITE_OK)
			r = err_set(err, sql_code(NULL, rc), "cannot open '%s': %s", real,
				    sqlite3_errstr(rc));
		else
			r = copy_through_vfs(in, real, out, to, err);
		if (in->pMethods)
			in->pMethods->xClose(in);
	}
	sqlite3_free_filename(name);
	return r;
}

static int copy_wal(const char *wal, const char *to, struct err *err)
{
	cleanup_free uint8_t *block = mem_alloc(COPY_STEP);
	cleanup_fd int in = -1, out = -1;
	uint64_t at = 0;
	ssize_t n;
	int r;

	if (!block)
		return err_nomem(err, "copying the catalog");
	in = file_open(wal, O_RDONLY, 0, err);
	if (in < 0)
		return in;
	out = file_create(to, "catalog.copy.create", err);
	if (out < 0)
		return out;
	while ((n = file_pread_some(in, block, COPY_STEP, at, wal, err)) > 0) {
		r = file_pwrite(out, block, (size_t)n, at, to, "catalog.copy.write", err);
		if (r < 0)
			return r;
		at += (uint64_t)n;
	}
	return n < 0 ? (int)n : 0;
}

/* One attempt; 1: the copy is of one moment, 0: somebody wrote meanwhile. */
static int copy_once(const char *real, const char *wal, const char *to, const char *to_wal,
		     struct err *err)
{
	struct moment before, after;
	struct err ignored = ERR_INIT;
	int r = moment_take(real, wal, &before, err), copied;

	if (r < 0)
		return r;
	file_unlink(to, "catalog.copy.unlink", &ignored);
	file_unlink(to_wal, "catalog.copy.unlink", &ignored);
	copied = copy_catalog(real, to, err);
	if (copied == 0 && before.has_wal)
		copied = copy_wal(wal, to_wal, err);
	r = moment_take(real, wal, &after, &ignored);
	if (r == 0 && (before.has_wal != after.has_wal || !stat_same(&before.db, &after.db) ||
		       (before.has_wal && !stat_same(&before.wal, &after.wal))))
		return copied == 0 || copied == ERR_NOT_FOUND || copied == ERR_IO ? 0 : copied;
	return copied < 0 ? copied : 1;
}

static int copy_open(struct catalog *c, const char *real, int *version, struct err *err)
{
	char wal[PATH_MAX], to[PATH_MAX], to_wal[PATH_MAX];
	const char *tmp = secure_getenv("TMPDIR");
	cleanup_free char *dir = str_printf("%s/livepoint-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	int r = 0, tries;

	if (!dir)
		return err_nomem(err, "copying the catalog");
	if (!beside(wal, real, "-wal") || !beside(to, dir, "/catalog.sqlite") ||
	    !beside(to_wal, dir, "/catalog.sqlite-wal"))
		return err_set(err, ERR_TOO_BIG, "the path of '%s' is too long", real);
	if (!mkdtemp(dir))
		return err_set_errno(err, ERR_IO, errno, "cannot make a temporary folder '%s'",
				     dir);
	beside(to, dir, "/catalog.sqlite");
	beside(to_wal, dir, "/catalog.sqlite-wal");
	c->private_dir = steal_ptr(dir);
	for (tries = 0; tries < COPY_TRIES && r == 0; tries++) {
		if (tries)
			time_sleep_ms(50);
		r = copy_once(real, wal, to, to_wal, err);
	}
	if (r == 0)
		return err_set(err, ERR_LOCKED,
			       "it is written all the time; wait, or read it where its "
			       "folder can be written");
	if (r < 0)
		return r;
	r = connection_open(c, to, SQLITE_OPEN_READWRITE, err);
	return r < 0 ? r : schema_identify(c, version, err);
}

void readonly_remove(const char *dir)
{
	struct err err = ERR_INIT;

	if (dir_remove_flat(dir, "catalog.copy.remove", &err) < 0)
		log_warning("private copy of the catalog: %s", err.text);
}

/* --- the ways --- */

static int shared_open(struct catalog *c, const char *real, int *version, struct err *err)
{
	int r = connection_open(c, real, SQLITE_OPEN_READONLY, err);

	return r < 0 ? r : schema_identify(c, version, err);
}

/* "file:" URI of an absolute path (RFC 3986, 2.1: everything unusual is escaped). */
static int immutable_open(struct catalog *c, const char *real, int *version, struct err *err)
{
	static const char plain[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-";
	cleanup_buf struct buf uri = BUF_INIT;
	const char *p;
	int r;

	buf_printf(&uri, "file://");
	for (p = real; *p; p++) {
		if (strchr(plain, *p))
			buf_put_u8(&uri, (uint8_t)*p);
		else
			buf_printf(&uri, "%%%02x", (unsigned char)*p);
	}
	buf_printf(&uri, "?immutable=1");
	p = buf_str(&uri);
	if (uri.failed)
		return err_nomem(err, "opening the catalog");
	r = connection_open(c, p, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, err);
	return r < 0 ? r : schema_identify(c, version, err);
}

int readonly_open(struct catalog *c, const char *real, int *version, struct err *err)
{
	int r = ERR_READONLY;

	if (can_write(real) || has_shm(real))
		r = shared_open(c, real, version, err);
	else if (path_is_readonly_fs(real) && !has_frames(real))
		return immutable_open(c, real, version, err);
	if (r >= 0 || r == ERR_DAMAGED || r == ERR_NO_REPO || r == ERR_NOMEM || r == ERR_LOCKED)
		return r;
	connection_close(c);
	r = copy_open(c, real, version, err);
	return r < 0 ? err_prefix(err, "catalog '%s': private copy", c->path) : r;
}

int readonly_migrate(struct catalog *c, const char *real, struct err *err)
{
	int version = 0, r = 0;

	if (!c->private_dir) {
		connection_close(c);
		r = copy_open(c, real, &version, err);
	}
	if (r >= 0) {
		c->mode = CATALOG_READ_WRITE; /* the copy is ours */
		r = schema_upgrade(c, schema_steps, CATALOG_SCHEMA_VERSION, err);
		c->mode = CATALOG_READ_ONLY;
	}
	return r < 0 ? err_prefix(err, "catalog '%s': private copy", c->path) : 0;
}
