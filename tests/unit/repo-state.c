// SPDX-License-Identifier: GPL-3.0-or-later
/* Changes of holds and what the state object says of them; the form that prune uses, beside changes; the audit log's
 * chain across all of it; one change at a time. */
#include "tests/unit/repo-help.h"

#include <pthread.h>

#include "repo/audit.h"
#include "repo/internal.h"
#include "repo/retention.h"

#include "base/banned.h"

#define SMALL (128 * KiB)

struct fixture {
	char dir[64];
	struct repo *repo;
	struct session_result points[3];
};

static int setup(void **state, bool encrypted)
{
	static uint8_t data[SMALL];
	struct fixture *f = mem_alloc(sizeof(*f));
	cleanup_free char *path = NULL;

	help_dir(f->dir);
	path = str_printf("%s/r", f->dir);
	help_init(path, encrypted);
	f->repo = help_open(path, REPO_WRITE, REPO_SERIAL);
	for (unsigned i = 0; i < ARRAY_SIZE(f->points); i++) {
		help_random(data, SMALL, i + 1);
		help_backup(f->repo, i < 2 ? "web1" : "db1", data, SMALL, &f->points[i]);
	}
	*state = f;
	return 0;
}

static int setup_plain(void **state)
{
	return setup(state, false);
}

static int setup_encrypted(void **state)
{
	return setup(state, true);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	repo_close(f->repo);
	help_remove(f->dir);
	free(f);
	return 0;
}

/* The newest state object; fails if there is none. */
static void load(struct fixture *f, struct state *out)
{
	struct err err = ERR_INIT;
	struct object_ref ref;
	struct catalog *c;

	ok(repo_catalog_get(f->repo, &c, &err));
	ok(catalog_state_ref(c, &ref, &err));
	repo_catalog_put(f->repo, c);
	assert_true(ref.locator != LOCATOR_NONE);
	ok(state_load(f->repo, &ref, out, &err));
}

static void expect_hold(struct fixture *f, unsigned point, const char *reason, int64_t until)
{
	struct state s = { 0 }, notes = { 0 };
	struct err err = ERR_INIT;

	load(f, &s);
	ok(repo_notes(f->repo, &notes, &err));
	for (int i = 0; i < 2; i++) {
		const struct hold *h = state_hold(i ? &notes : &s, f->points[point].id);

		assert_true((h != NULL) == (reason != NULL));
		if (!h)
			continue;
		assert_string_equal(h->reason, reason);
		assert_int_equal(h->until, until);
	}
	assert_int_equal(s.nholds, notes.nholds);
	state_release(&s);
	state_release(&notes);
}

static void test_holds(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct state s = { 0 };
	int64_t until = time_now() + 1000;
	uint64_t count;

	for (unsigned i = 0; i < ARRAY_SIZE(f->points); i++)
		ok(repo_protect(f->repo, f->points[i].point, "first", 0, &err));
	expect_hold(f, 0, "first", 0);
	ok(repo_protect(f->repo, f->points[1].point, "second", until, &err));
	expect_hold(f, 1, "second", until);
	expect_hold(f, 2, "first", 0);
	ok(repo_unprotect(f->repo, f->points[1].point, &err));
	expect_hold(f, 1, NULL, 0);
	expect_hold(f, 0, "first", 0);
	assert_int_equal(repo_unprotect(f->repo, f->points[1].point, &err), ERR_NOT_FOUND);
	assert_int_equal(repo_protect(f->repo, f->points[1].point, "late", 1, &err), ERR_INVALID);
	assert_int_equal(repo_protect(f->repo, f->points[1].point, "\001", 0, &err), ERR_INVALID);
	/* init, 3 backups, 4 protects, 1 unprotect; the object was written before its own entry */
	ok(repo_log_verify(f->repo, &count, &err));
	assert_int_equal(count, 9);
	load(f, &s);
	assert_int_equal(s.audit_number, 8);
	state_release(&s);
}

static void test_forget(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	const char *names[] = { "web1" }, *point = f->points[2].point;
	struct keep_rules rules = { .last = 1 };
	struct forget_plan plan = { 0 };
	struct state s = { 0 };
	char text[POINT_TEXT_MAX];

	ok(repo_forget_plan(f->repo, names, 1, &rules, &plan, &err));
	assert_int_equal(plan.count, 2);
	assert_int_equal(plan.going, 1);
	/* newest first */
	assert_memory_equal(plan.items[1].id, f->points[0].id, POINT_ID_LEN);
	assert_int_equal(plan.items[1].reasons, 0);
	/* held between plan and deed: nothing goes */
	ok(repo_protect(f->repo, f->points[0].point, "", 0, &err));
	assert_int_equal(repo_forget_apply(f->repo, &plan, 0, &err), ERR_HELD);
	ok(repo_unprotect(f->repo, f->points[0].point, &err));
	ok(repo_forget_apply(f->repo, &plan, 100, &err));
	/* gone between plan and deed */
	assert_int_equal(repo_forget_apply(f->repo, &plan, 100, &err), ERR_NOT_FOUND);
	forget_plan_release(&plan);
	ok(repo_notes(f->repo, &s, &err));
	assert_int_equal(s.npoints, 1);
	assert_memory_equal(s.points[0].id, f->points[0].id, POINT_ID_LEN);
	assert_int_equal(s.points[0].until - s.points[0].forgotten, 100);
	assert_false(s.points[0].expired);
	state_release(&s);
	/* the next state object knows */
	ok(repo_forget_points(f->repo, &point, 1, -1, false, &plan, &err));
	forget_plan_release(&plan);
	ok(repo_protect(f->repo, f->points[1].point, "", 0, &err));
	load(f, &s);
	assert_int_equal(s.npoints, 2);
	assert_non_null(state_forgotten(&s, f->points[2].id));
	state_release(&s);
	ok(repo_unforget(f->repo, point, text, &err));
	assert_string_equal(text, point);
	assert_int_equal(repo_unforget(f->repo, point, text, &err), ERR_NOT_FOUND);
}

/* After a rebuild the log goes on where the state object saw its end, if the rebuild itself comes next. */
static void rebuilt_log(struct fixture *f, const char *subject, int want)
{
	struct err err = ERR_INIT;
	struct state s = { 0 };
	struct repo_audit audit;
	struct catalog *c, *old;
	struct object_ref ref;
	cleanup_free char *path = str_printf("%s/r/catalog.sqlite", f->dir);
	cleanup_free char *fresh = str_printf("%s/fresh.sqlite", f->dir);
	uint64_t count = 0;
	int r;

	ok(repo_catalog_get(f->repo, &old, &err));
	ok(catalog_state_ref(old, &ref, &err));
	repo_catalog_put(f->repo, old);
	load(f, &s);
	ok(catalog_create(fresh, repo_conf(f->repo)->uuid, &err));
	ok(catalog_open(fresh, CATALOG_READ_WRITE, repo_conf(f->repo)->uuid, &c, &err));
	ok(catalog_rebuild_begin(c, &err));
	ok(catalog_rebuild_pack(c,
				&(struct rebuilt_pack){ .number = locator_pack(ref.locator),
							.kind = PACK_MAP,
							.slots = locator_slot(ref.locator) + 1,
							.bytes = 4096 },
				&err));
	ok(catalog_rebuild_state(c, &s, &ref, &err));
	repo_audit_fill(f->repo, &audit, "repair", subject, NULL);
	ok(catalog_rebuild_end(c, &audit.audit, &err));
	catalog_close(c);
	state_release(&s);
	repo_close(f->repo);
	ok(file_rename_over(fresh, path, NULL, &err));
	path[strlen(path) - strlen("/catalog.sqlite")] = '\0';
	f->repo = help_open(path, REPO_WRITE, REPO_SERIAL);
	r = repo_log_verify(f->repo, &count, &err);
	assert_int_equal(r, want);
	if (r == 0)
		assert_int_equal(count, 1);
}

static void test_rebuilt(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;

	ok(repo_protect(f->repo, f->points[0].point, "", 0, &err));
	ok(repo_protect(f->repo, f->points[1].point, "", 0, &err));
	rebuilt_log(f, "catalog", 0);
}

static void test_rebuilt_by_nobody(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;

	ok(repo_protect(f->repo, f->points[0].point, "", 0, &err));
	rebuilt_log(f, "index", ERR_DAMAGED);
}

/* --- prune's form --- */

struct maintenance {
	struct catalog *c;
	struct lease lease;
	struct store_stage *stage;
	int fd;
};

static void maintenance_begin(struct fixture *f, struct maintenance *m)
{
	struct err err = ERR_INIT;

	memset(m, 0, sizeof(*m));
	ok(repo_catalog_get(f->repo, &m->c, &err));
	repo_lease_describe(&m->lease, LEASE_MAINTENANCE, "");
	ok(store_lock_make(f->repo->store, m->lease.lock_name, &m->fd, &err));
	ok(catalog_lease_begin(m->c, &m->lease, &err));
	ok(store_stage_begin(f->repo->store, m->lease.token, &m->stage, &err));
}

static void maintenance_end(struct fixture *f, struct maintenance *m)
{
	struct err err = ERR_INIT;

	ok(catalog_lease_end(m->c, m->lease.token, &err));
	ok(store_stage_end(m->stage, &err));
	ok(store_lock_remove(f->repo->store, m->lease.lock_name, &err));
	base_cleanup_fd(&m->fd);
	repo_catalog_put(f->repo, m->c);
}

static void test_under_maintenance(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct state s = { 0 };
	struct maintenance m;
	struct repo_audit audit;
	uint64_t count;

	maintenance_begin(f, &m);
	/* beside it holds change; its own object has them */
	ok(repo_protect(f->repo, f->points[0].point, "beside", 0, &err));
	repo_audit_fill(f->repo, &audit, "prune", "", "{\"points\":0}");
	ok(state_store(f->repo, m.c, m.lease.token, m.stage, NULL, &audit.audit, &err));
	expect_hold(f, 0, "beside", 0);
	/* its lease went on: again */
	ok(state_store(f->repo, m.c, m.lease.token, m.stage, NULL, NULL, &err));
	maintenance_end(f, &m);
	load(f, &s);
	assert_int_equal(s.nholds, 1);
	assert_int_equal(s.audit_number, 6);
	state_release(&s);
	ok(repo_log_verify(f->repo, &count, &err));
	assert_int_equal(count, 6);
}

/* Without the lease nothing is published. */
static void test_fenced(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct maintenance m;

	maintenance_begin(f, &m);
	ok(catalog_lease_end(m.c, m.lease.token, &err));
	assert_int_equal(state_store(f->repo, m.c, m.lease.token, m.stage, NULL, NULL, &err),
			 ERR_FENCED);
	maintenance_end(f, &m);
}

/* --- at once --- */

struct worker {
	struct fixture *f;
	unsigned number;
	int result;
	struct err err;
};

static void *protect_many(void *opaque)
{
	struct worker *w = opaque;

	for (unsigned i = 0; i < 6 && w->result == 0; i++)
		w->result =
			i % 2 ? repo_unprotect(w->f->repo, w->f->points[w->number].point, &w->err) :
				repo_protect(w->f->repo, w->f->points[w->number].point, "x", 0,
					     &w->err);
	if (w->result == 0)
		w->result =
			repo_protect(w->f->repo, w->f->points[w->number].point, "last", 0, &w->err);
	return NULL;
}

static void test_one_at_a_time(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct worker w[3] = { 0 };
	pthread_t threads[3];
	uint64_t count;

	for (unsigned i = 0; i < 3; i++) {
		w[i].f = f;
		w[i].number = i;
		assert_int_equal(pthread_create(&threads[i], NULL, protect_many, &w[i]), 0);
	}
	for (unsigned i = 0; i < 3; i++) {
		pthread_join(threads[i], NULL);
		if (w[i].result < 0)
			fail_msg("worker %u: %s", i, w[i].err.text);
	}
	for (unsigned i = 0; i < 3; i++)
		expect_hold(f, i, "last", 0);
	ok(repo_log_verify(f->repo, &count, &err));
	assert_int_equal(count, 1 + 3 + 3 * 7);
}

/* A prune that is overtaken between its reading and its transaction must not publish an older list of holds. */
static void test_overtaken(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct worker w[2] = { 0 };
	pthread_t threads[2];
	struct maintenance m;

	maintenance_begin(f, &m);
	for (unsigned i = 0; i < 2; i++) {
		w[i].f = f;
		w[i].number = i;
		assert_int_equal(pthread_create(&threads[i], NULL, protect_many, &w[i]), 0);
	}
	for (unsigned i = 0; i < 12; i++)
		ok(state_store(f->repo, m.c, m.lease.token, m.stage, NULL, NULL, &err));
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		if (w[i].result < 0)
			fail_msg("worker %u: %s", i, w[i].err.text);
	}
	maintenance_end(f, &m);
	for (unsigned i = 0; i < 2; i++)
		expect_hold(f, i, "last", 0);
}

/* Without the key nothing is changed. */
static void test_locked(void **state)
{
	struct fixture *f = *state;
	cleanup_free char *path = str_printf("%s/r", f->dir);
	const char *point = f->points[0].point;
	struct keep_rules rules = { .last = 1 };
	struct forget_plan plan = { 0 };
	struct err err = ERR_INIT;
	char text[POINT_TEXT_MAX];
	struct repo *r;
	uint64_t count;

	ok(repo_open(path, REPO_WRITE, &r, &err));
	assert_true(repo_is_locked(r));
	ok(repo_forget_plan(r, NULL, 0, &rules, &plan, &err));
	assert_int_equal(plan.going, 1);
	assert_int_equal(repo_forget_apply(r, &plan, 0, &err), ERR_KEY);
	forget_plan_release(&plan);
	assert_int_equal(repo_forget_points(r, &point, 1, 0, false, &plan, &err), ERR_KEY);
	ok(repo_forget_points(r, &point, 1, 0, true, &plan, &err));
	forget_plan_release(&plan);
	assert_int_equal(repo_unforget(r, point, text, &err), ERR_KEY);
	assert_int_equal(repo_protect(r, point, "", 0, &err), ERR_KEY);
	assert_int_equal(repo_unprotect(r, point, &err), ERR_KEY);
	assert_int_equal(repo_audit_append(r, "key-add", "", NULL, &err), ERR_KEY);
	assert_int_equal(repo_log_verify(r, &count, &err), ERR_KEY);
	repo_close(r);
	ok(repo_log_verify(f->repo, &count, &err));
	assert_int_equal(count, 4);
	ok(repo_audit_append(f->repo, "key-add", "label", NULL, &err));
	ok(repo_log_verify(f->repo, &count, &err));
	assert_int_equal(count, 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_holds, setup_plain, teardown),
		cmocka_unit_test_setup_teardown(test_forget, setup_plain, teardown),
		cmocka_unit_test_setup_teardown(test_rebuilt, setup_encrypted, teardown),
		cmocka_unit_test_setup_teardown(test_rebuilt_by_nobody, setup_plain, teardown),
		cmocka_unit_test_setup_teardown(test_under_maintenance, setup_encrypted, teardown),
		cmocka_unit_test_setup_teardown(test_fenced, setup_plain, teardown),
		cmocka_unit_test_setup_teardown(test_one_at_a_time, setup_plain, teardown),
		cmocka_unit_test_setup_teardown(test_overtaken, setup_plain, teardown),
		cmocka_unit_test_setup_teardown(test_locked, setup_encrypted, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
