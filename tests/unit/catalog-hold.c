// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Forget and its way back, holds, and the state object: every answer of every function, and that a refusal
 * changes no row.
 */
#include "tests/unit/catalog-help.h"

#include "base/banned.h"

static void ids_make(uint8_t (*ids)[POINT_ID_LEN], uint32_t from, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		help_id(ids[i], from + (uint32_t)i);
}

static void test_forget(void **state)
{
	struct fixture *f = *state;
	struct audit a = HELP_AUDIT("forget");
	struct point_filter all = { .forgotten = true };
	struct point_list l = { 0 };
	struct point_row row = { 0 };
	uint8_t ids[3][POINT_ID_LEN];

	help_backup(f, "a", 5, 1);
	help_backup(f, "a", 6, 2);
	help_backup(f, "b", 6, 3);
	ids_make(ids, 1, 3);
	assert_ok(f, catalog_forget(f->c, ids, 0, 10, 20, &a, &f->err));
	assert_int_equal(help_number(f, "SELECT count(*) FROM audit"), 0);
	assert_ok(f, catalog_forget(f->c, ids + 1, 2, 10, 20, &a, &f->err));
	assert_int_equal(a.entry.number, 1);
	assert_ok(f, catalog_points(f->c, &all, &l, &f->err));
	assert_int_equal(l.count, 3);
	assert_int_equal(l.rows[0].state, POINT_COMPLETE);
	assert_true(l.rows[0].forgotten == 0 && l.rows[0].until == 0);
	assert_int_equal(l.rows[1].state, POINT_FORGOTTEN);
	assert_true(l.rows[1].forgotten == 10 && l.rows[1].until == 20);
	point_list_release(&l);
	/* it is found by id, and by nothing else */
	assert_ok(f, catalog_point_by_id(f->c, ids[2], &row, &f->err));
	point_row_release(&row);
	assert_code(f, catalog_point_latest(f->c, "b", &row, &f->err), ERR_NOT_FOUND);
	assert_ok(f, catalog_point_latest(f->c, "a", &row, &f->err));
	assert_int_equal(row.m->time, 5);
	point_row_release(&row);
	/* all or nothing: 2 is forgotten already, 9 was never there */
	assert_nothing(f, catalog_forget(f->c, ids, 2, 10, 20, &a, &f->err), ERR_NOT_FOUND);
	assert_non_null(strstr(f->err.text, "forgotten already"));
	ids_make(ids, 9, 1);
	assert_nothing(f, catalog_forget(f->c, ids, 1, 10, 20, &a, &f->err), ERR_NOT_FOUND);
	assert_non_null(strstr(f->err.text, "00000009"));
	help_check(f);
}

/* The name and second of a forgotten point are its own, until it is expired. */
static void test_unforget(void **state)
{
	struct fixture *f = *state;
	struct audit a = HELP_AUDIT("unforget");
	struct session_done done = { 0 };
	uint8_t ids[1][POINT_ID_LEN];
	uint64_t token;
	int64_t time = 5;

	help_backup(f, "a", 5, 1);
	ids_make(ids, 1, 1);
	assert_nothing(f, catalog_unforget(f->c, ids[0], &a, &f->err), ERR_NOT_FOUND);
	assert_ok(f, catalog_forget(f->c, (const uint8_t(*)[POINT_ID_LEN])ids, 1, 10, 20, NULL,
				    &f->err));
	token = help_session(f, "a");
	assert_ok(f, help_publish(f, token, "a", &time, 2, &done, NULL, 0));
	assert_int_equal(time, 6);
	assert_ok(f, catalog_unforget(f->c, ids[0], &a, &f->err));
	assert_int_equal(a.entry.number, 1);
	assert_int_equal(help_number(f, "SELECT sum(state * 10 + forgotten + until) FROM point"),
			 20);
	help_check(f);
	assert_ok(f, catalog_forget(f->c, (const uint8_t(*)[POINT_ID_LEN])ids, 1, 10, 20, NULL,
				    &f->err));
	help_sql(f, "UPDATE point SET state = 3 WHERE state = 2");
	assert_nothing(f, catalog_unforget(f->c, ids[0], &a, &f->err), ERR_NOT_FOUND);
	/* expired: its second is free, and it is not found by its id */
	token = help_session(f, "a");
	time = 5;
	assert_ok(f, help_publish(f, token, "a", &time, 3, &done, NULL, 0));
	assert_int_equal(time, 5);
	{
		struct point_row row = { 0 };

		assert_code(f, catalog_point_by_id(f->c, ids[0], &row, &f->err), ERR_NOT_FOUND);
		assert_code(f, catalog_point_set_verified(f->c, ids[0], 1, 1, 1, false, &f->err),
			    ERR_NOT_FOUND);
	}
}

/* Stores a state object in a pack of its own, with a change of a hold; ends the lease. */
static int store_state(struct fixture *f, const struct hold_change *h, struct audit *a,
		       uint64_t *locator)
{
	struct lease l = help_spec(LEASE_INGEST, "");
	struct pack_done pack = { .slots = 1, .bytes = 300 };
	struct session_done done = { .packs = &pack, .npacks = 1 };
	struct object_ref ref = { 0 };
	struct state st;
	int r;

	assert_ok(f, catalog_state_begin(f->c, &l, NULL, &f->err));
	assert_ok(f, catalog_state_read(f->c, &st, &f->err));
	state_release(&st);
	assert_ok(f, catalog_pack_begin(f->c, l.token, PACK_MAP, &pack.number, &f->err));
	ref.locator = locator_make(pack.number, 0);
	memset(ref.id, 0x77, ID_LEN);
	r = catalog_state_publish(f->c, l.token, &done, &ref, h, a, &f->err);
	if (r < 0)
		assert_ok(f, catalog_lease_end(f->c, l.token, &f->err));
	else if (locator)
		*locator = ref.locator;
	return r;
}

static void test_holds(void **state)
{
	struct fixture *f = *state;
	struct hold_change h = { .set = true, .reason = "law", .since = 3, .until = 15 };
	struct audit a = HELP_AUDIT("protect");
	struct hold *holds = NULL;
	uint8_t ids[2][POINT_ID_LEN];
	size_t n = 0;

	help_backup(f, "a", 5, 1);
	help_backup(f, "a", 6, 2);
	ids_make(ids, 1, 2);
	memcpy(h.point, ids[1], POINT_ID_LEN);
	assert_ok(f, store_state(f, &h, &a, NULL));
	h.reason = NULL;
	h.until = 0;
	memcpy(h.point, ids[0], POINT_ID_LEN);
	assert_ok(f, store_state(f, &h, &a, NULL));
	assert_ok(f, catalog_holds(f->c, &holds, &n, &f->err));
	assert_int_equal(n, 2);
	assert_memory_equal(holds[0].point, ids[0], POINT_ID_LEN);
	assert_string_equal(holds[0].reason, "");
	assert_true(holds[1].since == 3 && holds[1].until == 15);
	assert_string_equal(holds[1].reason, "law");
	holds_free(holds, n);
	help_check(f);
	/* without end, and until 15 */
	assert_nothing(f, catalog_forget(f->c, ids, 1, 99, 99, &a, &f->err), ERR_HELD);
	assert_nothing(f, catalog_forget(f->c, ids + 1, 1, 14, 99, &a, &f->err), ERR_HELD);
	assert_non_null(strstr(f->err.text, "until 1970-01-01T00:00:15Z: law"));
	assert_ok(f, catalog_forget(f->c, ids + 1, 1, 15, 99, &a, &f->err));
	assert_int_equal(help_number(f, "SELECT count(*) FROM hold"), 1);
	help_check(f);
	/* replaced, removed, and removed again; on what is forgotten or not there */
	h.reason = "other";
	h.until = 77;
	assert_ok(f, store_state(f, &h, NULL, NULL));
	assert_int_equal(help_number(f, "SELECT until FROM hold WHERE reason = 'other'"), 77);
	h.set = false;
	assert_ok(f, store_state(f, &h, NULL, NULL));
	assert_code(f, store_state(f, &h, &a, NULL), ERR_NOT_FOUND);
	h.set = true;
	memcpy(h.point, ids[1], POINT_ID_LEN);
	assert_code(f, store_state(f, &h, &a, NULL), ERR_NOT_FOUND);
	help_id(h.point, 7);
	assert_code(f, store_state(f, &h, &a, NULL), ERR_NOT_FOUND);
	assert_int_equal(help_number(f, "SELECT count(*) FROM hold"), 0);
}

static void test_hold_bounds(void **state)
{
	struct fixture *f = *state;
	char reason[HOLD_REASON_MAX + 2];
	struct hold_change h = { .set = true, .reason = reason, .until = 0 };

	help_backup(f, "a", 5, 1);
	help_id(h.point, 1);
	memset(reason, 'x', sizeof(reason));
	reason[HOLD_REASON_MAX + 1] = 0;
	assert_code(f, store_state(f, &h, NULL, NULL), ERR_INVALID);
	reason[HOLD_REASON_MAX] = 0;
	h.until = -1;
	assert_code(f, store_state(f, &h, NULL, NULL), ERR_INVALID);
	h.until = 0;
	assert_ok(f, store_state(f, &h, NULL, NULL));
}

static void test_state_begin(void **state)
{
	struct fixture *f = *state;
	struct lease l = help_spec(LEASE_INGEST, ""), other = help_spec(LEASE_INGEST, "a"),
		     holder = { 0 }, second = help_spec(LEASE_INGEST, "");

	assert_nothing(f, catalog_state_begin(f->c, &other, NULL, &f->err), ERR_INVALID);
	other = help_spec(LEASE_MAINTENANCE, "");
	assert_nothing(f, catalog_state_begin(f->c, &other, NULL, &f->err), ERR_INVALID);
	help_session(f, "a"); /* backups are not in the way */
	help_maintenance(f);
	assert_ok(f, catalog_state_begin(f->c, &l, NULL, &f->err));
	assert_nothing(f, catalog_state_begin(f->c, &second, &holder, &f->err), ERR_LOCKED);
	assert_int_equal(holder.token, l.token);
	assert_nothing(f, catalog_state_begin(f->c, &second, NULL, &f->err), ERR_LOCKED);
	assert_ok(f, catalog_lease_end(f->c, l.token, &f->err));
	assert_ok(f, catalog_state_begin(f->c, &second, NULL, &f->err));
	assert_true(second.token > l.token);
}

static void test_state_publish(void **state)
{
	struct fixture *f = *state;
	struct session_done none = { 0 };
	struct object_ref ref = { 0 }, got = { 0 };
	struct state st = { 0 };
	uint64_t token, generation, locator = 0;

	assert_ok(f, catalog_state_ref(f->c, &got, &f->err));
	assert_int_equal(got.locator, LOCATOR_NONE);
	help_backup(f, "a", 5, 1);
	assert_ok(f, store_state(f, NULL, NULL, &locator));
	assert_ok(f, catalog_state_ref(f->c, &got, &f->err));
	assert_true(got.locator == locator && got.id[0] == 0x77);
	assert_int_equal(help_number(f, "SELECT count(*) FROM lease"), 0);
	/* two objects never say the same generation */
	assert_ok(f, catalog_state_read(f->c, &st, &f->err));
	generation = st.generation;
	state_release(&st);
	assert_ok(f, store_state(f, NULL, NULL, &locator));
	assert_ok(f, catalog_state_read(f->c, &st, &f->err));
	assert_true(st.generation > generation);
	state_release(&st);
	/* its pack is live but does not count as published; a backup's does */
	assert_int_equal(help_number(f, "SELECT published FROM pack WHERE number = 1"), 1);
	assert_int_equal(help_number(f, "SELECT published * 10 + state FROM pack WHERE number = 2"),
			 2);
	/* without a lease, under one that does not store state, in a pack that is not live */
	ref.locator = locator;
	assert_nothing(f, catalog_state_publish(f->c, 99, &none, &ref, NULL, NULL, &f->err),
		       ERR_FENCED);
	token = help_session(f, "b");
	assert_nothing(f, catalog_state_publish(f->c, token, &none, &ref, NULL, NULL, &f->err),
		       ERR_INTERNAL);
	token = help_maintenance(f);
	ref.locator = locator_make(9, 0);
	assert_nothing(f, catalog_state_publish(f->c, token, &none, &ref, NULL, NULL, &f->err),
		       ERR_INTERNAL);
	ref.locator = locator_make(1, 10);
	assert_nothing(f, catalog_state_publish(f->c, token, &none, &ref, NULL, NULL, &f->err),
		       ERR_INTERNAL);
	/* prune keeps its lease */
	ref.locator = locator_make(1, 9);
	assert_ok(f, catalog_state_publish(f->c, token, &none, &ref, NULL, NULL, &f->err));
	assert_int_equal(help_number(f, "SELECT count(*) FROM lease WHERE kind = 3"), 1);
	help_check(f);
	help_sql(f, "UPDATE meta SET state_id = NULL");
	assert_code(f, catalog_state_ref(f->c, &got, &f->err), ERR_DAMAGED);
}

/* Two that read the same: the second would store an object without the first one's hold. */
static void test_state_meanwhile(void **state)
{
	struct fixture *f = *state, g = *f;
	struct hold_change h = { .set = true, .reason = "" };
	struct session_done none = { 0 };
	struct object_ref ref = { .locator = locator_make(1, 8) };
	struct state st = { 0 };
	uint64_t token;

	help_backup(f, "a", 5, 1);
	help_id(h.point, 1);
	token = help_maintenance(f);
	g.c = NULL;
	help_open(&g);
	assert_ok(f, catalog_state_read(f->c, &st, &f->err));
	state_release(&st);
	assert_ok(&g, store_state(&g, &h, NULL, NULL));
	catalog_close(g.c);
	assert_nothing(f, catalog_state_publish(f->c, token, &none, &ref, NULL, NULL, &f->err),
		       ERR_LOCKED);
	assert_ok(f, catalog_state_read(f->c, &st, &f->err));
	assert_int_equal(st.nholds, 1);
	state_release(&st);
	assert_ok(f, catalog_state_publish(f->c, token, &none, &ref, NULL, NULL, &f->err));
	assert_ok(f, catalog_state_publish(f->c, token, &none, &ref, NULL, NULL, &f->err));
}

static void test_state_read(void **state)
{
	struct fixture *f = *state;
	struct hold_change h = { .set = true, .reason = "why", .since = 1, .until = 2 };
	struct audit a = HELP_AUDIT("x");
	uint8_t ids[3][POINT_ID_LEN];
	struct state st = { 0 };
	unsigned n;
	int r = ERR_NOMEM;

	help_backup(f, "a", 5, 1);
	help_backup(f, "a", 6, 2);
	help_backup(f, "a", 7, 3);
	ids_make(ids, 1, 3);
	memcpy(h.point, ids[2], POINT_ID_LEN);
	assert_ok(f, store_state(f, &h, &a, NULL));
	assert_ok(f, catalog_forget(f->c, ids, 2, 10, 20, &a, &f->err));
	help_sql(f, "UPDATE point SET state = 3 WHERE num = 1");
	help_id(ids[0], 0x80000000);
	help_sql(f, "INSERT INTO tomb SELECT x'00000000000000000000000000000001', manifest_locator,"
		    " 4, 5 FROM point WHERE num = 1");
	for (n = 1; r < 0 && n < 100; n++) {
		mem_fail_after(n);
		r = catalog_state_read(f->c, &st, &f->err);
		mem_fail_after(0);
		assert_true(r == 0 || r == ERR_NOMEM);
	}
	assert_true(r == 0 && n > 4);
	assert_memory_equal(st.uuid, help_uuid, UUID_LEN);
	assert_true(st.time > 1000000000);
	assert_int_equal(st.generation, help_number(f, "SELECT generation FROM meta"));
	assert_true(st.next_pack == 5 && st.next_sequence == 4 && st.next_segment == 1);
	assert_int_equal(st.audit_number, 2);
	assert_memory_equal(st.audit_mac, a.entry.mac, ID_LEN);
	assert_int_equal(st.nholds, 1);
	assert_string_equal(st.holds[0].reason, "why");
	assert_int_equal(st.npoints, 3);
	assert_true(st.points[0].expired && st.points[0].forgotten == 4 && st.points[0].until == 5);
	assert_true(st.points[1].expired && st.points[1].id[3] == 1);
	assert_true(!st.points[2].expired && st.points[2].forgotten == 10 &&
		    st.points[2].until == 20);
	state_release(&st);
}

static void test_read_only(void **state)
{
	struct fixture *f = *state;
	struct catalog *c = NULL;
	struct lease l = help_spec(LEASE_INGEST, "");
	uint8_t ids[1][POINT_ID_LEN] = { { 0 } };
	struct state st = { 0 };

	assert_ok(f, catalog_open(f->path, CATALOG_READ_ONLY, help_uuid, &c, &f->err));
	assert_code(f,
		    catalog_forget(c, (const uint8_t(*)[POINT_ID_LEN])ids, 1, 1, 1, NULL, &f->err),
		    ERR_READONLY);
	assert_code(f, catalog_unforget(c, ids[0], NULL, &f->err), ERR_READONLY);
	assert_code(f, catalog_state_begin(c, &l, NULL, &f->err), ERR_READONLY);
	assert_ok(f, catalog_state_read(c, &st, &f->err));
	state_release(&st);
	catalog_close(c);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, help_setup, help_teardown)
	const struct CMUnitTest tests[] = {
		T(test_forget),	     T(test_unforget),	      T(test_holds),
		T(test_hold_bounds), T(test_state_begin),     T(test_state_publish),
		T(test_state_read),  T(test_state_meanwhile), T(test_read_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
