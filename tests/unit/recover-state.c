// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Records and states of recoveries: text and back, bad texts, locks, and for each state a kill at each step, reopened by another
 * process that goes on.  The steps themselves are replaced: each notes that it ran, once more if it is done again.
 */
#include "tests/unit/repo-help.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "recover/internal.h"

#include "base/banned.h"

static char dir[64], repository[80], state_dir[80];

/* --- steps --- */

static int note_step(struct recovery *r, const char *letter)
{
	cleanup_free char *path = str_printf("%s/steps", r->folder);
	cleanup_fd int fd = file_open(path, O_WRONLY | O_CREAT | O_APPEND, 0600, NULL);

	return fd >= 0 && write(fd, letter, 1) == 1 ? 0 : ERR_IO;
}

int step_make_ready(struct recovery *r, struct work *work, struct err *err)
{
	(void)work;
	(void)err;
	return note_step(r, "m");
}

int step_start_guest(struct recovery *r, struct work *work, struct err *err)
{
	(void)work;
	(void)err;
	return note_step(r, "s");
}

int step_note_end(struct recovery *r, struct work *work, struct err *err)
{
	(void)work;
	(void)err;
	return note_step(r, "e");
}

/* --- records --- */

static void fill(struct record *rec, const char *id, enum recovery_state state)
{
	struct err err = ERR_INIT;

	str_copy(rec->id, sizeof(rec->id), id);
	rec->state = state;
	rec->created = 100;
	rec->since = 200;
	assert_true(text_copy(&rec->repository, repository));
	assert_true(text_copy(&rec->point, "web1@2026-11-20T14:03:07Z"));
	assert_true(text_copy(&rec->connection, "qemu:///session"));
	assert_true(text_copy(&rec->host, "here"));
	assert_true(text_copy(&rec->domain, "web1"));
	assert_true(text_copy(&rec->uuid, "6a1f5e3c-0000-4000-8000-123456789abc"));
	assert_true(text_copy(&rec->network, "isolated"));
	assert_true(text_copy(&rec->local_dir, "/var/lib/livepoint/overlays"));
	assert_true(text_copy(&rec->problem, "a \"problem\"\n"));
	ok(texts_add(&rec->networks, "br0=none", &err));
	ok(texts_add(&rec->macs, "0=52:54:00:12:34:56", &err));
	ok(texts_add(&rec->macs, "1=52:54:00:12:34:57", &err));
	rec->memory = 3 * GiB;
	rec->vcpus = 2;
	rec->paused = rec->captured = true;
	rec->ndisks = 2;
	rec->disks = mem_alloc_array(2, sizeof(*rec->disks));
	str_copy(rec->disks[0].name, sizeof(rec->disks[0].name), "vda");
	str_copy(rec->disks[0].target, sizeof(rec->disks[0].target), "sda");
	rec->disks[0].size = 5 * TiB;
	str_copy(rec->disks[1].name, sizeof(rec->disks[1].name), "vdb");
	str_copy(rec->disks[1].target, sizeof(rec->disks[1].target), "sdb");
	assert_true(text_copy(&rec->disks[1].file, "/x/r-vdb.qcow2"));
	rec->ndamage = 1;
	rec->damage = mem_alloc_array(1, sizeof(*rec->damage));
	rec->damage[0] = (struct recovery_damage){ .start = 65536, .length = 65536, .time = 1234 };
	str_copy(rec->damage[0].disk, sizeof(rec->damage[0].disk), "vda");
	assert_true(text_copy(&rec->damage[0].other, "web1@2026-11-19T14:03:07Z"));
}

static void test_text_and_back(void **unused)
{
	cleanup_record struct record a = { 0 }, b = { 0 };
	cleanup_buf struct buf one = BUF_INIT, two = BUF_INIT;
	struct err err = ERR_INIT;
	unsigned state;

	(void)unused;
	fill(&a, "r12345678", RECOVERY_PREPARED);
	str_copy(a.overlay, sizeof(a.overlay), "o87654321");
	for (state = 0; state < RECOVERY_STATES; state++) {
		a.state = state;
		buf_reset(&one);
		buf_reset(&two);
		ok(recovery_record_encode(&a, &one, &err));
		ok(recovery_record_decode(one.data, one.len, &b, &err));
		assert_int_equal(b.state, state);
		assert_int_equal(b.ndisks, 2);
		assert_string_equal(b.disks[1].file, a.disks[1].file);
		assert_null(b.disks[0].file);
		assert_string_equal(b.damage[0].other, a.damage[0].other);
		assert_string_equal(b.macs.items[1], a.macs.items[1]);
		assert_null(b.nvram);
		ok(recovery_record_encode(&b, &two, &err));
		assert_int_equal(one.len, two.len);
		assert_memory_equal(one.data, two.data, one.len);
		recovery_record_release(&b);
	}
}

static void expect_bad(const char *text, const char *from, const char *to, int code)
{
	cleanup_record struct record r = { 0 };
	cleanup_buf struct buf b = BUF_INIT;
	struct err err = ERR_INIT;
	const char *at = strstr(text, from);

	assert_non_null(at);
	buf_put(&b, text, (size_t)(at - text));
	buf_printf(&b, "%s%s", to, at + strlen(from));
	if (recovery_record_decode(b.data, b.len, &r, &err) != code)
		fail_msg("'%s' for '%s': %d %s", to, from, err.code, err.text);
	assert_null(r.disks);
}

static void test_bad_texts(void **unused)
{
	static const char *const needed[] = { "repository", "point", "connection", "host", "domain",
					      "uuid",	    "id",    "state",	   "disks" };
	cleanup_record struct record a = { 0 };
	cleanup_buf struct buf b = BUF_INIT;
	struct err err = ERR_INIT;
	const char *text;
	size_t i;

	(void)unused;
	fill(&a, "r12345678", RECOVERY_RUNNING);
	ok(recovery_record_encode(&a, &b, &err));
	text = buf_str(&b);
	for (i = 0; i < ARRAY_SIZE(needed); i++) {
		cleanup_free char *key = str_printf("\"%s\": ", needed[i]);

		expect_bad(text, key, "\"x\": ", ERR_DAMAGED);
	}
	expect_bad(text, "\"version\": 1", "\"version\": 2", ERR_UNSUPPORTED);
	expect_bad(text, "\"version\": 1", "\"version\": \"1\"", ERR_DAMAGED);
	expect_bad(text, "\"running\"", "\"walking\"", ERR_DAMAGED);
	expect_bad(text, "\"r12345678\"", "\"../../etc\"", ERR_DAMAGED);
	expect_bad(text, "\"r12345678\"", "\"r1234567\"", ERR_DAMAGED);
	expect_bad(text, "\"vda\"", "\"../vda\"", ERR_DAMAGED);
	expect_bad(text, "\"6a1f5e3c", "\"6a1f5e3", ERR_DAMAGED);
	expect_bad(text, "3221225472", "-1", ERR_DAMAGED);
	for (i = 0; i + 2 < b.len; i += 7) { /* cut anywhere */
		cleanup_record struct record r = { 0 };

		assert_int_equal(recovery_record_decode(text, i, &r, &err), ERR_DAMAGED);
	}
}

/* --- folders and locks --- */

static void make_record(const char *id, enum recovery_state state, struct recovery *r)
{
	struct err err = ERR_INIT;
	cleanup_free char *root = NULL;

	ok(state_subfolder("recoveries", &root, &err));
	r->folder = str_printf("%s/%s", root, id);
	ok(dir_make(r->folder, 0700, "recover.folder.make", &err));
	ok(recovery_lock(r, 0, &err));
	fill(&r->rec, id, state);
	ok(recovery_save(r, &err));
}

static void remove_record(struct recovery *r)
{
	help_remove(r->folder);
	recovery_release(r);
}

static void test_find_and_lock(void **unused)
{
	cleanup_ptr(repo) repo = help_open(repository, REPO_READ, REPO_SERIAL);
	struct recovery a = RECOVERY_INIT(repo), b = RECOVERY_INIT(repo);
	struct recovery found = RECOVERY_INIT(repo);
	struct err err = ERR_INIT;

	(void)unused;
	make_record("r00000001", RECOVERY_RUNNING, &a);
	assert_true(recovery_is_locked(a.folder));
	assert_int_equal(recovery_open(repo, "r00000001", 50, &found, &err), ERR_LOCKED);
	close(steal_fd(&a.lock_fd));
	assert_false(recovery_is_locked(a.folder));
	ok(recovery_open(repo, "r00000001", 0, &found, &err));
	assert_string_equal(found.rec.domain, "web1");
	recovery_release(&found);
	ok(recovery_open(repo, "web1", 0, &found, &err));
	recovery_release(&found);
	make_record("r00000002", RECOVERY_RUNNING, &b);
	assert_int_equal(recovery_open(repo, "web1", 0, &found, &err), ERR_AMBIGUOUS);
	assert_int_equal(recovery_open(repo, "r00000003", 0, &found, &err), ERR_NOT_FOUND);
	/* of another repository */
	assert_true(text_copy(&b.rec.repository, "/elsewhere"));
	ok(recovery_save(&b, &err));
	assert_int_equal(recovery_open(repo, "r00000002", 0, &found, &err), ERR_NOT_FOUND);
	ok(recovery_open(repo, "web1", 0, &found, &err));
	recovery_release(&found);
	/* in a folder that is not its own */
	str_copy(b.rec.id, sizeof(b.rec.id), "r00000009");
	ok(recovery_save(&b, &err));
	assert_int_equal(recovery_open(repo, "web1", 0, &found, &err), ERR_DAMAGED);
	remove_record(&b);
	remove_record(&a);
}

/* --- states --- */

static void test_no_way(void **unused)
{
	cleanup_ptr(repo) repo = help_open(repository, REPO_READ, REPO_SERIAL);
	struct recovery r = RECOVERY_INIT(repo);
	struct err err = ERR_INIT;

	(void)unused;
	make_record("r00000001", RECOVERY_MIGRATED, &r);
	assert_int_equal(recovery_advance(&r, RECOVERY_RUNNING, NULL, &err), ERR_REFUSED);
	assert_int_equal(r.rec.state, RECOVERY_MIGRATED);
	remove_record(&r);
}

/* In a process of its own: RECOVER-STATE child ID GOAL. */
static int child(const char *id, const char *goal_name)
{
	struct recovery r = RECOVERY_INIT(NULL);
	cleanup_free char *root = NULL;
	enum recovery_state goal;
	struct err err = ERR_INIT;

	if (!recovery_state_parse(goal_name, &goal) ||
	    state_subfolder("recoveries", &root, &err) < 0)
		return 1;
	r.folder = str_printf("%s/%s", root, id);
	if (recovery_lock(&r, 0, &err) < 0 || recovery_record_read(r.folder, &r.rec, &err) < 0 ||
	    recovery_advance(&r, goal, NULL, &err) < 0) {
		fprintf(stderr, "child: %s\n", err.text);
		return 1;
	}
	recovery_release(&r);
	return 0;
}

static int run_child(const char *id, enum recovery_state goal, const char *fault)
{
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	const char *const argv[] = { self, "child", id, recovery_state_name(goal), NULL };
	const char *const env[] = { fault, NULL };
	const struct proc_spec spec = {
		.argv = argv, .env_add = env, .in_fd = -1, .out_fd = -1, .err_fd = STDERR_FILENO
	};
	struct err err = ERR_INIT;
	int status = 0;
	pid_t pid;

	assert_true(n > 0);
	self[n] = 0;
	ok(proc_start(&spec, &pid, &err));
	ok(proc_wait(pid, &status, &err));
	return status;
}

static const struct {
	enum recovery_state from, goal;
	const char *way; /* steps that lead there */
} ways[] = {
	{ RECOVERY_PREPARED, RECOVERY_RUNNING, "ms" },
	{ RECOVERY_STARTING, RECOVERY_RUNNING, "s" },
	{ RECOVERY_ENDED, RECOVERY_RUNNING, "ms" },
	{ RECOVERY_RUNNING, RECOVERY_ENDED, "e" },
};

/* Every step ran at least once, in order, and at most one of them twice. */
static void check_steps(const struct recovery *r, const char *way)
{
	cleanup_free char *path = str_printf("%s/steps", r->folder);
	cleanup_buf struct buf text = BUF_INIT;
	struct err err = ERR_INIT;
	const char *at, *w = way;

	ok(file_read_all(path, 64, &text, &err));
	assert_in_range(text.len, strlen(way), strlen(way) + 1);
	for (at = buf_str(&text); *at; at++) {
		if (*w != *at)
			w++;
		assert_int_equal(*w, *at);
	}
}

/* Kills at the n-th hit of the fault point; 1: it was killed, and another process went on. */
static int kill_once(struct repo *repo, size_t way, const char *fault, unsigned nth)
{
	struct recovery r = RECOVERY_INIT(repo), again = RECOVERY_INIT(repo);
	cleanup_free char *env = str_printf("LIVEPOINT_FAULT=%s:%u:kill", fault, nth);
	struct err err = ERR_INIT;
	int status;

	make_record("r0000000a", ways[way].from, &r);
	close(steal_fd(&r.lock_fd));
	status = run_child("r0000000a", ways[way].goal, env);
	if (WIFSIGNALED(status)) {
		ok(recovery_open(repo, "r0000000a", 0, &again, &err));
		assert_true(again.rec.state == ways[way].from ||
			    again.rec.state == RECOVERY_STARTING ||
			    again.rec.state == ways[way].goal);
		assert_string_equal(again.rec.uuid, r.rec.uuid);
		recovery_release(&again);
		assert_int_equal(run_child("r0000000a", ways[way].goal, NULL), 0);
	} else {
		assert_int_equal(status, 0);
	}
	ok(recovery_open(repo, "r0000000a", 0, &again, &err));
	assert_int_equal(again.rec.state, ways[way].goal);
	check_steps(&again, ways[way].way);
	recovery_release(&again);
	remove_record(&r);
	return WIFSIGNALED(status);
}

static void test_kills(void **unused)
{
	static const char *const faults[] = {
		"recover.record.create", "recover.record.write",   "recover.record.sync",
		"recover.record.rename", "recover.record.dirsync", "recover.step.ready",
		"recover.step.guest",	 "recover.step.again",	   "recover.step.end",
	};
	cleanup_ptr(repo) repo = help_open(repository, REPO_READ, REPO_SERIAL);
	unsigned kills = 0, nth;
	size_t way, i;

	(void)unused;
	for (way = 0; way < ARRAY_SIZE(ways); way++)
		for (i = 0; i < ARRAY_SIZE(faults); i++)
			for (nth = 1; nth <= 2; nth++)
				kills += (unsigned)kill_once(repo, way, faults[i], nth);
#ifdef ENABLE_FAULT_POINTS
	assert_int_equal(kills, 5 * (2 + 1 + 2 + 1) + 6); /* writes of records, steps */
#endif
}

/* A record that cannot be written leaves the state, in memory and on disk. */
static void test_failing_write(void **unused)
{
	cleanup_ptr(repo) repo = help_open(repository, REPO_READ, REPO_SERIAL);
	struct recovery r = RECOVERY_INIT(repo), again = RECOVERY_INIT(repo);
	struct err err = ERR_INIT;
	int status;

	(void)unused;
	make_record("r0000000b", RECOVERY_STARTING, &r);
	close(steal_fd(&r.lock_fd));
	status = run_child("r0000000b", RECOVERY_RUNNING,
			   "LIVEPOINT_FAULT=recover.record.sync:1:enospc");
#ifdef ENABLE_FAULT_POINTS
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	ok(recovery_open(repo, "r0000000b", 0, &again, &err));
	assert_int_equal(again.rec.state, RECOVERY_STARTING);
#else
	(void)status;
#endif
	recovery_release(&again);
	remove_record(&r);
}

static void make_repository(void)
{
	help_dir(dir);
	snprintf(repository, sizeof(repository), "%s/repo", dir);
	snprintf(state_dir, sizeof(state_dir), "%s/state", dir);
	help_init(repository, false);
	setenv("LIVEPOINT_STATE_DIR", state_dir, 1);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text_and_back), cmocka_unit_test(test_bad_texts),
		cmocka_unit_test(test_find_and_lock), cmocka_unit_test(test_no_way),
		cmocka_unit_test(test_kills),	      cmocka_unit_test(test_failing_write),
	};
	int failed;

	if (argc == 4 && strcmp(argv[1], "child") == 0)
		return child(argv[2], argv[3]);
	make_repository();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	help_remove(dir);
	return failed;
}
