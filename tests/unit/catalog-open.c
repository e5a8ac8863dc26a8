// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Making, opening, migrating and closing; the ways to open a catalog that is only read; other writers, full disk,
 * fork.  What needs another user or mount table runs in a child and reports by its exit status; without root those
 * tests are skipped.
 */
#include <errno.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/unit/catalog-help.h"

#include "base/banned.h"

#define SKIPPED 77

/* In a child: says what was wrong and ends it.  cmocka's asserts would run the other tests there. */
#define CHECK(f, cond)                                                                             \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			dprintf(STDERR_FILENO, "line %d: %s: %s\n", __LINE__, #cond,               \
				(f)->err.text);                                                    \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

static int in_child(void (*fn)(struct fixture *), struct fixture *f)
{
	int status = 0;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		fn(f);
		_exit(0);
	}
	assert_true(waitpid(pid, &status, 0) == pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
		skip();
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail_msg("the child ended with %#x", (unsigned)status);
	return 0;
}

static bool beside_exists(struct fixture *f, const char *suffix)
{
	char path[128];

	snprintf(path, sizeof(path), "%s%s", f->path, suffix);
	return access(path, F_OK) == 0;
}

/* A folder, without a catalog. */
static int folder_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	help_folder(f);
	*state = f;
	return 0;
}

static void test_create(void **state)
{
	struct fixture *f = *state;
	struct stat st;
	char missing[128];

	assert_code(f, catalog_open(f->path, CATALOG_READ_WRITE, help_uuid, &f->c, &f->err),
		    ERR_NO_REPO);
	assert_code(f, catalog_open(f->dir, CATALOG_READ_WRITE, help_uuid, &f->c, &f->err),
		    ERR_NO_REPO);
	assert_null(f->c);
	assert_ok(f, catalog_create(f->path, help_uuid, &f->err));
	assert_code(f, catalog_create(f->path, help_uuid, &f->err), ERR_EXISTS);
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_false(beside_exists(f, "-wal"));
	snprintf(missing, sizeof(missing), "%s/no/catalog", f->dir);
	assert_code(f, catalog_create(missing, help_uuid, &f->err), ERR_NOT_FOUND);
	help_open(f);
	assert_int_equal(help_number(f, "PRAGMA application_id"), CATALOG_APPLICATION_ID);
	assert_int_equal(help_number(f, "PRAGMA user_version"), CATALOG_SCHEMA_VERSION);
	assert_int_equal(help_number(f, "PRAGMA page_size"), CATALOG_PAGE_SIZE);
	assert_int_equal(help_number(f, "PRAGMA synchronous"), 2);
	assert_int_equal(help_number(f, "PRAGMA foreign_keys"), 1);
	assert_int_equal(help_number(f, "PRAGMA busy_timeout"), CATALOG_BUSY_MS);
	assert_int_equal(help_number(f, "PRAGMA mmap_size"), 0);
	assert_int_equal(help_number(f, "SELECT journal_mode = 'wal' FROM pragma_journal_mode"), 1);
	help_check(f);
}

static void test_identity(void **state)
{
	static const struct {
		const char *sql;
		int code;
	} rows[] = {
		{ "PRAGMA user_version = 99", ERR_NO_REPO },
		{ "PRAGMA user_version = 0", ERR_DAMAGED },
		{ "PRAGMA user_version = -1", ERR_DAMAGED },
		{ "PRAGMA user_version = 1; PRAGMA application_id = 7", ERR_DAMAGED },
		{ "PRAGMA application_id = 1279874640; DROP TABLE meta", ERR_DAMAGED },
	};
	struct fixture *f = *state;
	enum catalog_mode modes[] = { CATALOG_READ_WRITE, CATALOG_READ_ONLY };
	uint8_t other[UUID_LEN] = { 9 };
	struct catalog *c = NULL;
	size_t i, m;

	for (m = 0; m < ARRAY_SIZE(modes); m++)
		assert_code(f, catalog_open(f->path, modes[m], other, &c, &f->err), ERR_DAMAGED);
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		help_sql(f, rows[i].sql);
		for (m = 0; m < ARRAY_SIZE(modes); m++)
			assert_code(f, catalog_open(f->path, modes[m], help_uuid, &c, &f->err),
				    rows[i].code);
		assert_null(c);
	}
}

static void test_not_a_catalog(void **state)
{
	static const char text[] =
		"this is no database, however long one looks at it, not even a small one";
	struct fixture *f = *state;
	struct catalog *c = NULL;

	assert_ok(f, file_write_all(f->path, text, sizeof(text), 0600, true, "test", &f->err));
	assert_code(f, catalog_open(f->path, CATALOG_READ_WRITE, help_uuid, &c, &f->err),
		    ERR_DAMAGED);
	assert_code(f, catalog_open(f->path, CATALOG_READ_ONLY, help_uuid, &c, &f->err),
		    ERR_DAMAGED);
	assert_non_null(strstr(f->err.text, f->path));
	assert_ok(f, file_write_all(f->path, "", 0, 0600, true, "test", &f->err));
	assert_code(f, catalog_open(f->path, CATALOG_READ_WRITE, help_uuid, &c, &f->err),
		    ERR_DAMAGED);
	assert_code(f, catalog_open(f->path, CATALOG_READ_ONLY, help_uuid, &c, &f->err),
		    ERR_DAMAGED);
}

static void test_upgrade(void **state)
{
	static const struct schema_step steps[] = {
		{ "this is never run" },
		{ "nor this" },
		{ "nor that" },
		{ "CREATE TABLE extra (x INTEGER) STRICT; INSERT INTO extra VALUES (7)" },
		{ "UPDATE extra SET x = x + 1" },
	};
	const struct schema_step bad[] = {
		steps[0], steps[1], steps[2],
		steps[3], steps[4], { "UPDATE extra SET x = 99; SELECT * FROM missing" },
	};
	struct fixture *f = *state;

	help_backup(f, "a", 5, 1);
	assert_ok(f, schema_upgrade(f->c, steps, 3, &f->err)); /* nothing to do */
	assert_ok(f, schema_upgrade(f->c, steps, 5, &f->err));
	assert_int_equal(help_number(f, "PRAGMA user_version"), 5);
	assert_int_equal(help_number(f, "SELECT x FROM extra"), 8);
	assert_ok(f, schema_upgrade(f->c, steps, 5, &f->err)); /* once is enough */
	assert_int_equal(help_number(f, "SELECT x FROM extra"), 8);
	assert_true(schema_upgrade(f->c, bad, 6, &f->err) < 0);
	assert_non_null(strstr(f->err.text, "schema 5 to 6"));
	assert_int_equal(help_number(f, "PRAGMA user_version"), 5); /* all of a step or nothing */
	assert_int_equal(help_number(f, "SELECT x FROM extra"), 8);
	assert_int_equal(help_number(f, "SELECT count(*) FROM point"), 1);
}

/* As version 1 made it: packs 1 and 2 of session 3, which published point 1 with its manifest in pack 2; pack 3 of session
 * 4, which stopped at a checkpoint; pack 4 being written. */
static void make_version_1(struct fixture *f)
{
	static const char rows[] =
		"INSERT INTO meta VALUES (1, x'0102030405060708090a0b0c0d0e0f10', 2, 5, 1, 2, 0);"
		"INSERT INTO pack VALUES (1, 2, 3, 1, 10, 50, NULL, NULL, NULL, NULL);"
		"INSERT INTO pack VALUES (2, 2, 3, 2, 10, 50, NULL, NULL, NULL, x'0100');"
		"INSERT INTO pack VALUES (3, 2, 4, 1, 10, 50, NULL, NULL, NULL, NULL);"
		"INSERT INTO pack VALUES (4, 1, 5, 1, 0, 0, NULL, NULL, NULL, NULL);"
		"INSERT INTO point (id, manifest_locator, manifest_id, state, name, time, time_text,"
		" sequence, generation, kind, consistency, stored) VALUES (zeroblob(16),"
		" (2 << 24) + 9, zeroblob(32), 1, 'a', 5, '1970-01-01T00:00:05Z', 1, 2, 1, 1, 7);";
	sqlite3 *db = NULL;

	assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db,
				      "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL;"
				      "PRAGMA application_id = 1279874640; PRAGMA user_version = 1",
				      NULL, NULL, NULL),
			 SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, schema_steps[0].sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, rows, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

/* What today's version says of it. */
static void look_at_version_1(struct fixture *f)
{
	struct pack_list packs = { 0 };
	struct point_list points = { 0 };
	struct point_filter all = { .forgotten = true };
	struct state st = { 0 };

	assert_ok(f, catalog_packs(f->c, 0, &packs, &f->err));
	assert_int_equal(packs.count, 4);
	assert_true(packs.rows[0].published && packs.rows[1].published);
	assert_false(packs.rows[2].published || packs.rows[3].published);
	assert_true(packs.rows[0].verified == 0 && packs.rows[1].damaged.bits[0] == 1);
	pack_list_release(&packs);
	assert_ok(f, catalog_points(f->c, &all, &points, &f->err));
	assert_int_equal(points.count, 1);
	assert_true(points.rows[0].forgotten == 0 && points.rows[0].until == 0);
	assert_string_equal(points.rows[0].m->name, "a");
	point_list_release(&points);
	assert_ok(f, catalog_state_read(f->c, &st, &f->err));
	assert_true(st.nholds == 0 && st.npoints == 0 && st.audit_number == 0);
	state_release(&st);
	help_check(f);
}

static void test_version_1(void **state)
{
	struct fixture *f = *state;
	char dir[128];
	struct lease l = help_spec(LEASE_READER, "");

	make_version_1(f);
	/* only read: the copy is migrated, the catalog is not touched, nothing is left */
	assert_ok(f, catalog_open(f->path, CATALOG_READ_ONLY, help_uuid, &f->c, &f->err));
	look_at_version_1(f);
	assert_non_null(f->c->private_dir);
	str_copy(dir, sizeof(dir), f->c->private_dir);
	assert_code(f, catalog_lease_begin(f->c, &l, &f->err), ERR_READONLY);
	assert_false(catalog_can_write(f->c));
	catalog_close(f->c);
	assert_int_not_equal(access(dir, F_OK), 0);
	setenv("TMPDIR", "/nowhere", 1);
	assert_code(f, catalog_open(f->path, CATALOG_READ_ONLY, help_uuid, &f->c, &f->err), ERR_IO);
	unsetenv("TMPDIR");
	f->c = NULL;
	{
		sqlite3 *db = NULL;

		assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
		assert_int_equal(sqlite3_exec(db, "SELECT forgotten FROM point", NULL, NULL, NULL),
				 SQLITE_ERROR);
		sqlite3_close(db);
	}
	/* written: migrated, once */
	help_open(f);
	look_at_version_1(f);
	assert_int_equal(help_number(f, "PRAGMA user_version"), CATALOG_SCHEMA_VERSION);
	catalog_close(f->c);
	help_open(f);
	look_at_version_1(f);
	help_backup(f, "a", 5, 1);
}

static void test_read_only_handle(void **state)
{
	struct fixture *f = *state;
	struct lease l = help_spec(LEASE_READER, "");
	struct catalog_totals t;
	struct catalog *c = NULL;

	help_backup(f, "a", 5, 1);
	assert_ok(f, catalog_open(f->path, CATALOG_READ_ONLY, help_uuid, &c, &f->err));
	assert_null(c->private_dir);
	assert_ok(f, catalog_totals(c, &t, &f->err));
	assert_int_equal(t.points, 1);
	help_backup(f, "a", 6, 2);
	assert_ok(f, catalog_totals(c, &t, &f->err)); /* sees what others commit */
	assert_int_equal(t.points, 2);
	assert_code(f, catalog_lease_begin(c, &l, &f->err), ERR_READONLY);
	catalog_close(c);
}

/* Ends without closing: the WAL stays with its frames. */
static void killed_writer(struct fixture *f)
{
	struct err err = ERR_INIT;
	uint64_t token = 0, seq = 0, gen = 0;
	struct lease l = help_spec(LEASE_INGEST, "web1");
	struct pack_list packs = { 0 };
	struct point_row parent = { 0 };
	struct session_done done = { 0 };
	struct object_ref ref = { 0 };
	struct manifest m;
	uint8_t id[POINT_ID_LEN] = { 1 };
	int64_t time = 100;
	bool has = false;

	f->err = err;
	CHECK(f, catalog_open(f->path, CATALOG_READ_WRITE, help_uuid, &f->c, &f->err) == 0);
	CHECK(f, catalog_session_begin(f->c, &l, NULL, &packs, &has, &parent, NULL, &f->err) == 0);
	token = l.token;
	CHECK(f, catalog_reserve(f->c, token, "web1", &time, &seq, &gen, &f->err) == 0);
	m = help_manifest("web1", time, seq, gen, 0);
	m.ndisks = 0;
	CHECK(f, catalog_publish(f->c, token, &done, NULL, 0, id, &ref, &m, NULL, &f->err) == 0);
}

/* A closed catalog of nobody's, readable by all. */
static void make_public(struct fixture *f)
{
	catalog_close(f->c);
	f->c = NULL;
	assert_int_equal(chmod(f->dir, 0755), 0);
	assert_int_equal(chmod(f->path, 0644), 0);
}

static void drop_shm(struct fixture *f)
{
	char path[128];

	snprintf(path, sizeof(path), "%s-shm", f->path);
	assert_int_equal(file_unlink(path, "test.unlink", &f->err), 1);
}

static void look(struct fixture *f, uint64_t points, bool copied)
{
	char dir[128] = "";
	struct catalog_totals t;
	bool wal = beside_exists(f, "-wal"), shm = beside_exists(f, "-shm");

	CHECK(f, catalog_open(f->path, CATALOG_READ_ONLY, help_uuid, &f->c, &f->err) == 0);
	CHECK(f, catalog_totals(f->c, &t, &f->err) == 0);
	CHECK(f, t.points == points);
	CHECK(f, (f->c->private_dir != NULL) == copied);
	if (copied)
		str_copy(dir, sizeof(dir), f->c->private_dir);
	CHECK(f, dir[0] == 0 || access(dir, F_OK) == 0);
	catalog_close(f->c);
	CHECK(f, dir[0] == 0 || access(dir, F_OK) != 0);
	CHECK(f, beside_exists(f, "-wal") == wal && beside_exists(f, "-shm") == shm);
}

static void as_nobody(struct fixture *f, uint64_t points, bool copied)
{
	struct catalog *c = NULL;

	if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0)
		_exit(SKIPPED);
	CHECK(f, catalog_open(f->path, CATALOG_READ_WRITE, help_uuid, &c, &f->err) == ERR_PERM);
	look(f, points, copied);
}
static void nobody_clean(struct fixture *f)
{
	as_nobody(f, 0, true);
}
static void nobody_shm(struct fixture *f)
{
	as_nobody(f, 1, false);
}
static void nobody_wal(struct fixture *f)
{
	as_nobody(f, 1, true);
}

static void test_no_permission(void **state)
{
	struct fixture *f = *state;

	make_public(f);
	in_child(nobody_clean, f); /* not writable by us is not unchanging: a copy */
	in_child(killed_writer, f);
	assert_true(beside_exists(f, "-shm"));
	in_child(nobody_shm, f);
	drop_shm(f);
	in_child(nobody_wal, f);
}

static void read_only_mount(struct fixture *f)
{
	if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, "") != 0 ||
	    mount(f->dir, f->dir, "none", MS_BIND, "") != 0 ||
	    mount("none", f->dir, "none", MS_BIND | MS_REMOUNT | MS_RDONLY, "") != 0)
		_exit(SKIPPED);
	CHECK(f, path_is_readonly_fs(f->path));
}
static void mount_clean(struct fixture *f)
{
	struct catalog *c = NULL;

	read_only_mount(f);
	CHECK(f, catalog_open(f->path, CATALOG_READ_WRITE, help_uuid, &c, &f->err) == ERR_READONLY);
	look(f, 0, false);
}
static void mount_shm(struct fixture *f)
{
	read_only_mount(f);
	look(f, 1, false);
}
static void mount_wal(struct fixture *f)
{
	read_only_mount(f);
	look(f, 1, true);
}

static void test_read_only_mount(void **state)
{
	struct fixture *f = *state;

	make_public(f);
	in_child(mount_clean, f); /* immutable */
	in_child(killed_writer, f);
	in_child(mount_shm, f);
	drop_shm(f);
	in_child(mount_wal, f);
	help_open(f); /* a writer recovers, and cleans up at its end */
	assert_int_equal(help_number(f, "SELECT count(*) FROM point"), 1);
	catalog_close(f->c);
	f->c = NULL;
	assert_false(beside_exists(f, "-wal"));
	in_child(mount_shm, f); /* the file alone is the whole catalog */
}

static void mount_version_1(struct fixture *f)
{
	read_only_mount(f);
	look(f, 1, true);
}

/* The other ways to open it lead to the same copy. */
static void test_version_1_elsewhere(void **state)
{
	struct fixture *f = *state;

	make_version_1(f);
	assert_int_equal(chmod(f->dir, 0755), 0);
	assert_int_equal(chmod(f->path, 0644), 0);
	in_child(nobody_wal, f);
	in_child(mount_version_1, f);
}

/* A path with characters that a URI gives a meaning to. */
static void mount_strange(struct fixture *f)
{
	snprintf(f->path, sizeof(f->path), "%s/a%%41 ?b#c", f->dir);
	read_only_mount(f);
	look(f, 0, false);
}
static void test_strange_path(void **state)
{
	struct fixture *f = *state;
	char path[128];

	snprintf(path, sizeof(path), "%s/a%%41 ?b#c", f->dir);
	assert_ok(f, catalog_create(path, help_uuid, &f->err));
	in_child(mount_strange, f);
}

static void test_other_writer(void **state)
{
	struct fixture *f = *state;
	struct lease l = help_spec(LEASE_READER, "");
	struct catalog *c = NULL;

	assert_ok(f, catalog_open(f->path, CATALOG_READ_WRITE, help_uuid, &c, &f->err));
	catalog_set_busy(f->c, 20);
	assert_ok(f, sql_exec(c, "BEGIN IMMEDIATE", &f->err));
	assert_code(f, catalog_lease_begin(f->c, &l, &f->err), ERR_LOCKED);
	assert_non_null(strstr(f->err.text, f->path));
	assert_ok(f, sql_exec(c, "ROLLBACK", &f->err));
	assert_ok(f, catalog_lease_begin(f->c, &l, &f->err));
	catalog_close(c);
}

static void test_full(void **state)
{
	struct fixture *f = *state;
	char sql[64];
	int r = 0, i;
	uint64_t leases;
	struct lease l = help_spec(LEASE_READER, "");

	snprintf(sql, sizeof(sql), "PRAGMA max_page_count = %d",
		 (int)help_number(f, "PRAGMA page_count"));
	help_sql(f, sql);
	for (i = 0; i < 1000 && r == 0; i++)
		r = catalog_lease_begin(f->c, &l, &f->err);
	assert_int_equal(r, ERR_NOSPC);
	leases = help_number(f, "SELECT count(*) FROM lease");
	assert_int_equal(leases, i - 1);
	help_sql(f, "PRAGMA max_page_count = 100000");
	assert_ok(f, catalog_lease_begin(f->c, &l, &f->err)); /* rolled back, and usable */
	help_check(f);
}

/* The connection that a child's close leaves alone on purpose: for leak checkers. */
static sqlite3 *volatile kept;

static void use_in_child(struct fixture *f)
{
	struct lease l = help_spec(LEASE_READER, "");
	struct catalog_totals t;

	CHECK(f, catalog_lease_begin(f->c, &l, &f->err) == ERR_INTERNAL);
	CHECK(f, catalog_totals(f->c, &t, &f->err) == ERR_INTERNAL);
	kept = f->c->db;
	catalog_close(f->c);
}

static void test_fork(void **state)
{
	struct fixture *f = *state;

	help_backup(f, "a", 5, 1);
	in_child(use_in_child, f);
	assert_true(beside_exists(f, "-wal")); /* the child's close did nothing to it */
	help_backup(f, "a", 6, 2);
	help_check(f);
}

static void test_without_memory(void **state)
{
	struct fixture *f = *state;
	struct catalog *c = NULL;
	char path[128];
	unsigned n;
	int r = ERR_NOMEM;

	for (n = 1; r < 0 && n < 100; n++) {
		mem_fail_after(n);
		r = catalog_open(f->path, CATALOG_READ_WRITE, help_uuid, &c, &f->err);
		mem_fail_after(0);
		assert_true(r == 0 || (r == ERR_NOMEM && !c));
	}
	assert_true(r == 0 && n > 2);
	catalog_close(c);
	snprintf(path, sizeof(path), "%s/new", f->dir);
	for (n = 1, r = ERR_NOMEM; r < 0 && n < 100; n++) {
		mem_fail_after(n);
		r = catalog_create(path, help_uuid, &f->err);
		mem_fail_after(0);
		assert_true(r == 0 || (r == ERR_NOMEM && access(path, F_OK) != 0));
	}
	assert_true(r == 0 && n > 2);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, help_setup, help_teardown)
#define F(fn) cmocka_unit_test_setup_teardown(fn, folder_setup, help_teardown)
	const struct CMUnitTest tests[] = {
		F(test_create),
		T(test_identity),
		F(test_not_a_catalog),
		T(test_upgrade),
		F(test_version_1),
		F(test_version_1_elsewhere),
		T(test_read_only_handle),
		T(test_no_permission),
		T(test_read_only_mount),
		F(test_strange_path),
		T(test_other_writer),
		T(test_full),
		T(test_fork),
		T(test_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
