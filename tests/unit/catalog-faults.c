// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Every transaction stopped on both sides of its COMMIT, by an error and by a kill.
 *
 * base/fault.c reads the environment once a process, so each test is three children of a parent that never hits a
 * fault point: one prepares a catalog and notes all its rows, one does the step with the fault set, one opens the
 * catalog again and compares.
 *
 *	before COMMIT, error: the error of that kind, nothing changed, the same handle can do it again
 *	before COMMIT, kill: nothing changed
 *	after COMMIT, error: ERR_UNKNOWN, the handle is of no more use, the change is there
 *	after COMMIT, kill: the change is there
 */
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/unit/catalog-help.h"

#include "base/banned.h"

#define CHECK(f, cond)                                                                             \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			dprintf(STDERR_FILENO, "line %d: %s: %s\n", __LINE__, #cond,               \
				(f)->err.text);                                                    \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

/* What help_prepare() leaves: point 1 (pack 1), pinned by reader 2; ingest lease 3 of "b" with pack 2, listed segment 1,
 * segment 2 and a reservation; rows writing of lease 4, which is gone: pack 3. */
enum { READER = 2, INGEST = 3, GONE = 4 };
static int64_t reserved_time = 50;

static int step_session(struct fixture *f)
{
	struct lease l = help_spec(LEASE_INGEST, "c");
	struct pack_list packs = { 0 };
	struct point_row parent = { 0 };
	bool has = false;
	int r = catalog_session_begin(f->c, &l, NULL, &packs, &has, &parent, NULL, &f->err);

	pack_list_release(&packs);
	return r;
}
static int step_lease(struct fixture *f)
{
	struct lease l = help_spec(LEASE_MAINTENANCE, "");

	return catalog_lease_begin(f->c, &l, &f->err);
}
static int step_end(struct fixture *f)
{
	return catalog_lease_end(f->c, READER, &f->err);
}
static int step_pin(struct fixture *f)
{
	uint8_t id[POINT_ID_LEN];

	help_id(id, 1);
	return catalog_pin(f->c, INGEST, id, &f->err);
}
static int step_unpin(struct fixture *f)
{
	uint8_t id[POINT_ID_LEN];

	help_id(id, 1);
	return catalog_unpin(f->c, READER, id, &f->err);
}
static int step_pack(struct fixture *f)
{
	uint64_t n;

	return catalog_pack_begin(f->c, INGEST, PACK_DATA, &n, &f->err);
}
static int step_segment(struct fixture *f)
{
	uint64_t n;

	return catalog_segment_begin(f->c, INGEST, &n, &f->err);
}
static const struct pack_done done_pack = { .number = 2, .slots = 4, .bytes = 400 };
static const struct session_done done = { .packs = &done_pack,
					  .npacks = 1,
					  .segment = 2,
					  .segment_records = 4 };
static int step_checkpoint(struct fixture *f)
{
	return catalog_checkpoint(f->c, INGEST, &done, &f->err);
}
static int step_reserve(struct fixture *f)
{
	uint64_t seq, gen;
	int64_t time = 70;

	return catalog_reserve(f->c, INGEST, "b", &time, &seq, &gen, &f->err);
}
static int step_publish(struct fixture *f)
{
	struct object_ref ref = { .locator = locator_make(2, 0) };
	struct manifest m = help_manifest("b", reserved_time, 2, 3, 2);
	uint8_t id[POINT_ID_LEN];

	help_id(id, 2);
	return catalog_publish(f->c, INGEST, &done, NULL, 0, id, &ref, &m, NULL, &f->err);
}
static int step_writing(struct fixture *f)
{
	return catalog_writing_delete(f->c, GONE, &f->err);
}
static int step_damaged(struct fixture *f)
{
	const uint32_t slot = 3;

	return catalog_slots_damaged(f->c, 1, &slot, 1, true, &f->err);
}
static int step_swap(struct fixture *f)
{
	const uint64_t old = 1;
	int r = catalog_segments_swap(f->c, INGEST, 2, 9, &old, 1, &f->err);

	return r == 0 ? ERR_FAILED : r;
}
static int step_drop(struct fixture *f)
{
	return catalog_segment_drop(f->c, 1, &f->err);
}
static int step_verified(struct fixture *f)
{
	uint8_t id[POINT_ID_LEN];

	help_id(id, 1);
	return catalog_point_set_verified(f->c, id, VERIFIED_DATA, 5, 1, false, &f->err);
}

/* What a prune and a change of holds do, each in a catalog that is prepared for it (struct step, ready). */
enum { MAINTENANCE = 5, STATE = 5 };
static void ready_maintenance(struct fixture *f)
{
	CHECK(f, help_maintenance(f) == MAINTENANCE);
}
static void ready_forgotten(struct fixture *f)
{
	uint8_t id[1][POINT_ID_LEN];

	ready_maintenance(f);
	CHECK(f, catalog_lease_end(f->c, READER, &f->err) == 0);
	help_id(id[0], 1);
	CHECK(f, catalog_forget(f->c, (const uint8_t(*)[POINT_ID_LEN])id, 1, 5, 6, NULL, &f->err) ==
			 0);
}
static void ready_condemned(struct fixture *f)
{
	struct slot_bits all = { .pack = 1 };
	struct point_list roots, expired;
	struct pack_list packs;
	uint64_t n = 0;

	ready_forgotten(f);
	CHECK(f, catalog_lease_end(f->c, INGEST, &f->err) == 0);
	CHECK(f, catalog_gc_roots(f->c, MAINTENANCE, 6, &roots, &expired, &packs, &f->err) == 0);
	point_list_release(&roots);
	point_list_release(&expired);
	pack_list_release(&packs);
	CHECK(f, catalog_gc_condemn(f->c, MAINTENANCE, &all, 1, &n, &f->err) == 0);
}
static void ready_doomed(struct fixture *f)
{
	uint64_t n = 0;

	ready_condemned(f);
	CHECK(f, catalog_gc_settle(f->c, MAINTENANCE, NULL, 0, &n, &f->err) == 0);
}
static void ready_state(struct fixture *f)
{
	struct lease l = help_spec(LEASE_INGEST, "");

	CHECK(f, catalog_state_begin(f->c, &l, NULL, &f->err) == 0 && l.token == STATE);
}
static void ready_rebuilt(struct fixture *f)
{
	help_sql(f, "UPDATE meta SET rebuilt = 1");
}
static void ready_empty(struct fixture *f)
{
	catalog_close(f->c);
	f->c = NULL;
	CHECK(f, dir_remove_flat(f->dir, "test.remove", &f->err) >= 0);
	CHECK(f, mkdir(f->dir, 0700) == 0);
	CHECK(f, catalog_create(f->path, help_uuid, &f->err) == 0);
	help_open(f);
}

static struct audit audit = HELP_AUDIT("step");
static int step_audit(struct fixture *f)
{
	return catalog_audit_append(f->c, &audit, &f->err);
}
static int step_forget(struct fixture *f)
{
	uint8_t id[1][POINT_ID_LEN];

	help_id(id[0], 1);
	return catalog_forget(f->c, (const uint8_t(*)[POINT_ID_LEN])id, 1, 5, 6, &audit, &f->err);
}
static int step_unforget(struct fixture *f)
{
	uint8_t id[POINT_ID_LEN];

	help_id(id, 1);
	return catalog_unforget(f->c, id, &audit, &f->err);
}
static int step_statelease(struct fixture *f)
{
	struct lease l = help_spec(LEASE_INGEST, "");

	return catalog_state_begin(f->c, &l, NULL, &f->err);
}
static int step_state(struct fixture *f)
{
	struct hold_change h = { .set = true, .reason = "x" };
	struct object_ref ref = { .locator = locator_make(1, 9) };
	struct session_done none = { 0 };

	help_id(h.point, 1);
	return catalog_state_publish(f->c, STATE, &none, &ref, &h, &audit, &f->err);
}
static int step_roots(struct fixture *f)
{
	struct point_list roots = { 0 }, expired = { 0 };
	struct pack_list packs = { 0 };
	int r = catalog_gc_roots(f->c, MAINTENANCE, 6, &roots, &expired, &packs, &f->err);

	point_list_release(&roots);
	point_list_release(&expired);
	pack_list_release(&packs);
	return r;
}
static int step_condemn(struct fixture *f)
{
	uint8_t bits[] = { 0x03, 0 };
	struct slot_bits marked = { 1, 2, bits };
	uint64_t n;

	return catalog_gc_condemn(f->c, MAINTENANCE, &marked, 1, &n, &f->err);
}
static int step_settle(struct fixture *f)
{
	uint64_t n;

	return catalog_gc_settle(f->c, MAINTENANCE, NULL, 0, &n, &f->err);
}
static int step_dropped(struct fixture *f)
{
	uint8_t bits[] = { 0xff, 0x03 };
	struct slot_bits dropped = { 1, 2, bits };

	return catalog_gc_dropped(f->c, MAINTENANCE, 1, &dropped, 0, &audit, &f->err);
}
static int step_replaced(struct fixture *f)
{
	return catalog_pack_replaced(f->c, MAINTENANCE, 1, 4444, NULL, 0, &f->err);
}
static int step_packread(struct fixture *f)
{
	return catalog_pack_set_verified(f->c, 1, 99, &f->err);
}
static int step_rebuild(struct fixture *f)
{
	struct rebuilt_pack p = { .number = 3, .kind = PACK_DATA, .slots = 5, .bytes = 50 };
	int r = catalog_rebuild_begin(f->c, &f->err);

	if (r >= 0)
		r = catalog_rebuild_pack(f->c, &p, &f->err);
	return r < 0 ? r : catalog_rebuild_end(f->c, &audit, &f->err);
}
static int step_accept(struct fixture *f)
{
	return catalog_rebuild_accept(f->c, &audit, &f->err);
}

#define STEP(name, ready)                                                                          \
	{                                                                                          \
#name, step_##name, ready                                                          \
	}
static const struct step {
	const char *name;
	int (*fn)(struct fixture *f);
	void (*ready)(struct fixture *f); /* or NULL: as prepare() leaves it */
} steps[] = {
	STEP(session, NULL),
	STEP(lease, NULL),
	STEP(end, NULL),
	STEP(pin, NULL),
	STEP(unpin, NULL),
	STEP(pack, NULL),
	STEP(segment, NULL),
	STEP(checkpoint, NULL),
	STEP(reserve, NULL),
	STEP(publish, NULL),
	STEP(writing, NULL),
	STEP(damaged, NULL),
	STEP(swap, NULL),
	STEP(drop, NULL),
	STEP(verified, NULL),
	STEP(audit, NULL),
	STEP(forget, NULL),
	STEP(unforget, ready_forgotten),
	STEP(statelease, NULL),
	STEP(state, ready_state),
	STEP(roots, ready_forgotten),
	STEP(condemn, ready_maintenance),
	STEP(settle, ready_condemned),
	STEP(dropped, ready_doomed),
	STEP(replaced, ready_maintenance),
	STEP(packread, NULL),
	STEP(rebuild, ready_empty),
	STEP(accept, ready_rebuilt),
};

struct job {
	struct fixture f;
	const struct step *step;
	char fault[128]; /* LIVEPOINT_FAULT of the second child */
	int code; /* what the step must return in it */
	bool changed; /* what the third child must find */
};

static void prepare(struct job *j)
{
	struct fixture *f = &j->f;
	struct lease l = help_spec(LEASE_READER, "");
	uint8_t id[POINT_ID_LEN];
	uint64_t n, seq, gen;
	int64_t time = reserved_time;
	struct session_done first = { .segment = 1, .segment_records = 7 };

	assert_ok(f, catalog_create(f->path, help_uuid, &f->err));
	help_open(f);
	help_backup(f, "a", 5, 1);
	help_id(id, 1);
	assert_ok(f, catalog_lease_begin(f->c, &l, &f->err));
	assert_ok(f, catalog_pin(f->c, l.token, id, &f->err));
	CHECK(f, l.token == READER && help_session(f, "b") == INGEST);
	assert_ok(f, catalog_pack_begin(f->c, INGEST, PACK_DATA, &n, &f->err));
	assert_ok(f, catalog_segment_begin(f->c, INGEST, &n, &f->err));
	assert_ok(f, catalog_segment_begin(f->c, INGEST, &n, &f->err));
	assert_ok(f, catalog_checkpoint(f->c, INGEST, &first, &f->err));
	assert_ok(f, catalog_reserve(f->c, INGEST, "b", &time, &seq, &gen, &f->err));
	CHECK(f, help_session(f, "gone") == GONE);
	assert_ok(f, catalog_pack_begin(f->c, GONE, PACK_DATA, &n, &f->err));
	assert_ok(f, catalog_lease_end(f->c, GONE, &f->err));
}

/* All rows as text. */
static void dump(struct fixture *f, struct buf *out)
{
	static const char *const tables[] = { "meta",	 "lease", "pin",   "pack",
					      "segment", "point", "disk",  "label",
					      "hold",	 "tomb",  "audit", "sqlite_sequence" };
	size_t i;
	int col, r;

	for (i = 0; i < ARRAY_SIZE(tables); i++) {
		cleanup_stmt sqlite3_stmt *s = NULL;
		char sql[64];

		snprintf(sql, sizeof(sql), "SELECT * FROM %s", tables[i]);
		CHECK(f, sql_query(f->c, &s, &f->err, sql, "") == 0);
		while ((r = sql_step(f->c, s, &f->err)) == 1) {
			for (col = 0; col < sqlite3_column_count(s); col++) {
				buf_put(out, sqlite3_column_blob(s, col),
					(size_t)sqlite3_column_bytes(s, col));
				buf_put_u8(out, '|');
			}
			buf_put_u8(out, '\n');
		}
		CHECK(f, r == 0);
	}
	CHECK(f, !out->failed);
}

static void note_path(struct job *j, char path[128])
{
	snprintf(path, 128, "%s/rows", j->f.dir);
}

static void child_prepare(struct job *j)
{
	cleanup_buf struct buf b = BUF_INIT;
	char path[128];

	prepare(j);
	if (j->step->ready)
		j->step->ready(&j->f);
	dump(&j->f, &b);
	note_path(j, path);
	CHECK(&j->f, file_write_all(path, b.data, b.len, 0600, true, "test", &j->f.err) == 0);
	catalog_close(j->f.c);
}

static void child_step(struct job *j)
{
	struct fixture *f = &j->f;
	cleanup_buf struct buf before = BUF_INIT, after = BUF_INIT;
	char path[128];
	int r;

	setenv("LIVEPOINT_FAULT", j->fault, 1);
	help_open(f);
	r = j->step->fn(f);
	CHECK(f, r == j->code);
	note_path(j, path);
	if (r == ERR_UNKNOWN) {
		CHECK(f, j->step->fn(f) == ERR_IO);
	} else if (r < 0) {
		CHECK(f, file_read_all(path, MiB, &before, &f->err) == 0);
		dump(f, &after);
		CHECK(f,
		      before.len == after.len && memcmp(before.data, after.data, after.len) == 0);
		CHECK(f, j->step->fn(f) >=
				 0); /* the fault was for once; the handle is as good as before */
	}
	_exit(0); /* as if killed: nothing is closed */
}

static void child_compare(struct job *j)
{
	struct fixture *f = &j->f;
	cleanup_buf struct buf before = BUF_INIT, after = BUF_INIT;
	char path[128];

	help_open(f);
	dump(f, &after);
	note_path(j, path);
	CHECK(f, file_read_all(path, MiB, &before, &f->err) == 0);
	CHECK(f, (before.len != after.len || memcmp(before.data, after.data, after.len) != 0) ==
			 j->changed);
	buf_reset(&before);
	CHECK(f, catalog_check(f->c, &before, &f->err) == 0);
	catalog_close(f->c);
}

static void child_remove(struct job *j)
{
	CHECK(&j->f, dir_remove_flat(j->f.dir, "test.remove", &j->f.err) >= 0);
}

/* Returns the wait status. */
static int run(void (*fn)(struct job *), struct job *j)
{
	int status = 0;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		fn(j);
		_exit(0);
	}
	assert_true(waitpid(pid, &status, 0) == pid);
	return status;
}

static void one(const struct step *step, const char *point, const char *action, int code,
		bool changed)
{
	struct job j = { .step = step, .code = code, .changed = changed };
	bool killed = strcmp(action, "kill") == 0;
	int status;

	help_folder(&j.f);
	snprintf(j.fault, sizeof(j.fault), "%s:1:%s", point, action);
	assert_int_equal(run(child_prepare, &j), 0);
	status = run(child_step, &j);
	if (killed ? !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) : status != 0)
		fail_msg("%s: %s ended with %#x", step->name, j.fault, (unsigned)status);
	if (run(child_compare, &j) != 0)
		fail_msg("%s: after %s", step->name, j.fault);
	assert_int_equal(run(child_remove, &j), 0);
}

static void test_error_at_each_step(void **state)
{
	char point[64];
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		snprintf(point, sizeof(point), "catalog.%s.before", steps[i].name);
		one(&steps[i], point, "eio", ERR_IO, true); /* the second attempt */
		snprintf(point, sizeof(point), "catalog.%s.after", steps[i].name);
		one(&steps[i], point, "eio", ERR_UNKNOWN, true);
	}
}

static void test_kill_at_each_step(void **state)
{
	char point[64];
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		snprintf(point, sizeof(point), "catalog.%s.before", steps[i].name);
		one(&steps[i], point, "kill", 0, false);
		snprintf(point, sizeof(point), "catalog.%s.after", steps[i].name);
		one(&steps[i], point, "kill", 0, true);
	}
}

static void test_common_points(void **state)
{
	(void)state;
	one(&steps[9], "catalog.begin", "enospc", ERR_NOSPC, true);
	one(&steps[9], "catalog.begin", "kill", 0, false);
	one(&steps[9], "catalog.commit.before", "erofs", ERR_READONLY, true);
	one(&steps[9], "catalog.commit.before", "short", ERR_NOSPC, true);
	one(&steps[9], "catalog.commit.before", "kill", 0, false);
	one(&steps[9], "catalog.commit.after", "enospc", ERR_UNKNOWN, true);
	one(&steps[9], "catalog.commit.after", "kill", 0, true);
}

/* A creation that fails leaves no file. */
static void child_create(struct job *j)
{
	setenv("LIVEPOINT_FAULT", j->fault, 1);
	CHECK(&j->f, catalog_create(j->f.path, help_uuid, &j->f.err) == j->code);
	CHECK(&j->f, access(j->f.path, F_OK) != 0);
	CHECK(&j->f, catalog_create(j->f.path, help_uuid, &j->f.err) == 0);
	help_open(&j->f);
	help_check(&j->f);
	catalog_close(j->f.c);
}

static void test_create(void **state)
{
	static const struct {
		const char *fault;
		int code;
	} rows[] = {
		{ "catalog.create.file:1:enospc", ERR_NOSPC },
		{ "catalog.create.before:1:eio", ERR_IO },
		{ "catalog.create.after:1:eio", ERR_UNKNOWN },
		{ "catalog.create.dirsync:1:eio", ERR_IO },
	};
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		struct job j = { .code = rows[i].code };

		help_folder(&j.f);
		str_copy(j.fault, sizeof(j.fault), rows[i].fault);
		if (run(child_create, &j) != 0)
			fail_msg("%s", j.fault);
		assert_int_equal(run(child_remove, &j), 0);
	}
}

/* VACUUM INTO whose sync fails, and a private copy without space: both leave nothing. */
static void child_copy(struct job *j)
{
	struct fixture *f = &j->f;
	char path[128];

	setenv("LIVEPOINT_FAULT", "catalog.vacuum.sync:1:eio,catalog.vacuum.dirsync:1:eio", 1);
	prepare(j);
	snprintf(path, sizeof(path), "%s/copy", f->dir);
	CHECK(f, catalog_copy(f->c, path, &f->err) == ERR_IO);
	CHECK(f, access(path, F_OK) != 0);
	CHECK(f, catalog_copy(f->c, path, &f->err) == ERR_IO);
	CHECK(f, access(path, F_OK) != 0);
	CHECK(f, catalog_copy(f->c, path, &f->err) == 0);
	catalog_close(f->c);
}

static void child_private(struct job *j)
{
	struct fixture *f = &j->f;
	char tmp[128];

	setenv("LIVEPOINT_FAULT", "catalog.copy.write:1:enospc,catalog.copy.create:2:eio", 1);
	prepare(j);
	catalog_close(f->c);
	f->c = NULL;
	snprintf(tmp, sizeof(tmp), "%s/tmp", f->dir);
	CHECK(f, mkdir(tmp, 0777) == 0 && chmod(tmp, 0777) == 0 && chmod(f->dir, 0755) == 0 &&
			 chmod(f->path, 0644) == 0);
	setenv("TMPDIR", tmp, 1);
	CHECK(f, setresuid(65534, 65534, 65534) == 0);
	CHECK(f, catalog_open(f->path, CATALOG_READ_ONLY, help_uuid, &f->c, &f->err) == ERR_NOSPC);
	CHECK(f, catalog_open(f->path, CATALOG_READ_ONLY, help_uuid, &f->c, &f->err) == ERR_IO);
}

static void child_tmp_empty(struct job *j)
{
	char tmp[128];

	snprintf(tmp, sizeof(tmp), "%s/tmp", j->f.dir);
	CHECK(&j->f, rmdir(tmp) == 0); /* only if nothing is left in it */
}

static void test_copies(void **state)
{
	struct job j = { 0 };
	int status;

	(void)state;
	help_folder(&j.f);
	assert_int_equal(run(child_copy, &j), 0);
	assert_int_equal(run(child_remove, &j), 0);
	if (geteuid() != 0)
		skip(); /* nobody else's catalog to be had */
	help_folder(&j.f);
	status = run(child_private, &j);
	assert_int_equal(run(child_tmp_empty, &j), 0);
	assert_int_equal(run(child_remove, &j), 0);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_error_at_each_step),
		cmocka_unit_test(test_kill_at_each_step),
		cmocka_unit_test(test_common_points),
		cmocka_unit_test(test_create),
		cmocka_unit_test(test_copies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
