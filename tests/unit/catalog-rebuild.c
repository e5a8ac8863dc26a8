// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * What a rebuild writes: in any order, all or nothing, never below what was found, and what the state object knew of
 * forgotten, expired and held points.
 */
#include "tests/unit/catalog-help.h"

#include "base/banned.h"

static int add_pack(struct fixture *f, uint64_t number)
{
	struct rebuilt_pack p = { .number = number, .kind = PACK_MAP, .slots = 10, .bytes = 500 };

	return catalog_rebuild_pack(f->c, &p, &f->err);
}

/* Point n of the name: its manifest is slot 0 of the pack, the root of its first disk slot 1. */
static int add_point(struct fixture *f, uint32_t n, const char *name, int64_t time, uint64_t pack)
{
	struct object_ref ref = { .locator = locator_make(pack, 0) };
	struct manifest m = help_manifest(name, time, n, n + 1, pack);
	uint8_t id[POINT_ID_LEN];

	help_id(id, n);
	return catalog_rebuild_point(f->c, id, &ref, &m, &f->err);
}

static void open_new(struct fixture *f)
{
	catalog_close(f->c);
	f->c = NULL;
	assert_ok(f, dir_remove_flat(f->dir, "test.remove", &f->err));
	help_folder(f);
	assert_ok(f, catalog_create(f->path, help_uuid, &f->err));
	help_open(f);
}

/* A state object: point 1 expired, 2 forgotten, 3 held, and things that no pack has. */
struct known {
	struct state st;
	struct state_point points[3];
	struct hold holds[2];
	struct object_ref ref;
};
static void known_fill(struct known *k)
{
	memset(k, 0, sizeof(*k));
	k->st = (struct state){ .generation = 40,
				.next_pack = 50,
				.next_sequence = 60,
				.next_segment = 70,
				.audit_number = 7,
				.points = k->points,
				.npoints = 3,
				.holds = k->holds,
				.nholds = 2 };
	memcpy(k->st.uuid, help_uuid, UUID_LEN);
	memset(k->st.audit_mac, 0x11, ID_LEN);
	k->points[0] = (struct state_point){ .expired = true, .forgotten = 5, .until = 6 };
	k->points[1] = (struct state_point){ .forgotten = 7, .until = 8 };
	k->points[2] = k->points[0];
	k->holds[0] = (struct hold){ .reason = (char *)"law", .since = 3, .until = 4 };
	help_id(k->points[0].id, 1);
	help_id(k->points[1].id, 2);
	help_id(k->points[2].id, 77);
	help_id(k->holds[0].point, 3);
	help_id(k->holds[1].point, 78);
	k->ref.locator = locator_make(2, 9);
}

static int step(struct fixture *f, struct known *k, unsigned what)
{
	switch (what) {
	case 0:
		return catalog_rebuild_state(f->c, &k->st, &k->ref, &f->err);
	case 1:
		return add_point(f, 1, "a", 5, 1);
	case 2:
		return add_point(f, 2, "a", 6, 1);
	case 3:
		return add_point(f, 3, "a", 5, 2); /* the second of point 1, which expired */
	case 4:
		return add_pack(f, 1);
	case 5:
		return add_pack(f, 2);
	case 6:
		return catalog_rebuild_segment(f->c, 4, 99, &f->err);
	default:
		return catalog_rebuild_counters(f->c, 3, 2, 61, 1, 30, &f->err);
	}
}

static void test_any_order(void **state)
{
	struct fixture *f = *state;
	struct known k;
	unsigned turn, i;

	known_fill(&k);
	for (turn = 0; turn < 8; turn++) {
		struct audit a = HELP_AUDIT("repair");
		struct state st = { 0 };
		bool rebuilt = false;

		if (turn)
			open_new(f);
		assert_ok(f, catalog_rebuild_begin(f->c, &f->err));
		for (i = 0; i < 8; i++)
			assert_ok(f, step(f, &k, turn % 2 ? (turn + i) % 8 : (turn + 8 - i) % 8));
		assert_int_equal(catalog_rebuild_end(f->c, &a, &f->err), 0);
		help_again(f);
		help_check(f);
		assert_int_equal(help_number(f, "SELECT group_concat(state, '') FROM"
						" (SELECT state FROM point ORDER BY sequence)"),
				 321);
		assert_int_equal(help_number(f, "SELECT forgotten * 10 + until FROM point"
						" WHERE sequence = 2"),
				 78);
		assert_int_equal(help_number(f,
					     "SELECT sequence FROM hold h JOIN point ON num = point"
					     " WHERE reason = 'law' AND since = 3 AND h.until = 4"),
				 3);
		assert_int_equal(help_number(f, "SELECT count(*) FROM hold"), 1);
		assert_int_equal(help_number(f, "SELECT sum(published) FROM pack"), 2);
		assert_int_equal(help_number(f, "SELECT records FROM segment WHERE state = 2"), 99);
		assert_ok(f, catalog_state_read(f->c, &st, &f->err));
		assert_true(st.generation == 40 && st.next_pack == 50 && st.next_sequence == 61 &&
			    st.next_segment == 70);
		assert_int_equal(st.audit_number, 8);
		assert_memory_equal(st.audit_mac, a.entry.mac, ID_LEN);
		state_release(&st);
		assert_int_equal(help_session(f, "n"), 30);
		assert_ok(f, catalog_rebuilt(f->c, &rebuilt, &f->err));
		assert_true(rebuilt);
	}
}

/* The log goes on where the state object saw it. */
static void test_audit_goes_on(void **state)
{
	struct fixture *f = *state;
	struct audit a = HELP_AUDIT("repair");
	uint8_t mac[ID_LEN], want[ID_LEN];
	struct audit_entry e;
	struct known k;
	uint64_t number = 0;

	known_fill(&k);
	assert_ok(f, catalog_audit_anchor(f->c, &number, mac, &f->err));
	assert_int_equal(number, 0);
	assert_ok(f, catalog_rebuild_begin(f->c, &f->err));
	assert_ok(f, add_pack(f, 2));
	assert_ok(f, catalog_rebuild_state(f->c, &k.st, NULL, &f->err));
	assert_ok(f, catalog_rebuild_end(f->c, &a, &f->err));
	assert_ok(f, catalog_audit_anchor(f->c, &number, mac, &f->err));
	assert_int_equal(number, 7);
	assert_memory_equal(mac, k.st.audit_mac, ID_LEN);
	assert_int_equal(a.entry.number, 8);
	e = a.entry;
	e.subject = "";
	e.detail = "{}";
	assert_ok(f, help_mac(NULL, mac, &e, want, &f->err));
	assert_memory_equal(want, a.entry.mac, ID_LEN);
	help_check(f);
	help_sql(f, "UPDATE meta SET audit_mac = NULL");
	assert_code(f, catalog_audit_anchor(f->c, &number, mac, &f->err), ERR_DAMAGED);
}

/* Without a state object: everything is complete, and counters are above what was found. */
static void test_without_state(void **state)
{
	struct fixture *f = *state;
	struct catalog_totals t;

	assert_ok(f, catalog_rebuild_begin(f->c, &f->err));
	assert_ok(f, add_pack(f, 9));
	assert_ok(f, add_point(f, 5, "a", 5, 9));
	assert_ok(f, add_point(f, 6, "a", 6, 9));
	assert_ok(f, catalog_rebuild_segment(f->c, 12, 0, &f->err));
	assert_ok(f, catalog_rebuild_state(f->c, NULL, NULL, &f->err));
	assert_int_equal(catalog_rebuild_end(f->c, NULL, &f->err), 0);
	help_check(f);
	assert_ok(f, catalog_totals(f->c, &t, &f->err));
	assert_true(t.points == 2 && t.next_pack == 10 && t.next_sequence == 7 &&
		    t.generation == 7);
	assert_int_equal(help_number(f, "SELECT next_segment FROM meta"), 13);
	assert_int_equal(help_session(f, "n"), 1);
}

/* Two points of one name and second, and nobody knows which expired: the newer one gets it, and it is said. */
static void test_same_second(void **state)
{
	struct fixture *f = *state;

	assert_ok(f, catalog_rebuild_begin(f->c, &f->err));
	assert_ok(f, add_pack(f, 1));
	assert_ok(f, add_point(f, 2, "a", 5, 1));
	assert_ok(f, add_point(f, 3, "a", 5, 1));
	assert_ok(f, add_point(f, 1, "a", 5, 1));
	assert_ok(f, add_point(f, 4, "b", 5, 1));
	assert_int_equal(catalog_rebuild_end(f->c, NULL, &f->err), 2);
	assert_int_equal(help_number(f, "SELECT group_concat(state, '') FROM"
					" (SELECT state FROM point ORDER BY sequence)"),
			 3311);
	help_check(f);
}

static void test_bits(void **state)
{
	struct fixture *f = *state;
	uint8_t bits[4] = { 1, 2, 0, 0 }, bad[4] = { 0, 4, 0, 0 }, far[4] = { 0, 0, 0, 1 };
	struct slot_bits gone = { 0, 4, bits }, beyond = { 0, 4, bad }, off = { 0, 4, far },
			 none = { 0, 0, NULL };
	struct rebuilt_pack p = {
		.number = 3, .kind = PACK_DATA, .slots = 10, .bytes = 500, .gone = &gone
	};
	struct pack_list list = { 0 };

	assert_ok(f, catalog_rebuild_begin(f->c, &f->err));
	p.damaged = &beyond;
	assert_code(f, catalog_rebuild_pack(f->c, &p, &f->err), ERR_INVALID);
	p.damaged = &off;
	assert_code(f, catalog_rebuild_pack(f->c, &p, &f->err), ERR_INVALID);
	p.damaged = &none;
	assert_ok(f, catalog_rebuild_pack(f->c, &p, &f->err));
	assert_code(f, catalog_rebuild_pack(f->c, &p, &f->err), ERR_EXISTS);
	p.number = 4;
	p.slots = 16;
	p.damaged = &beyond;
	assert_ok(f, catalog_rebuild_pack(f->c, &p, &f->err));
	assert_ok(f, catalog_rebuild_end(f->c, NULL, &f->err));
	assert_ok(f, catalog_packs(f->c, 0, &list, &f->err));
	assert_int_equal(list.count, 2);
	assert_true(list.rows[0].gone.nbytes == 2 && list.rows[0].gone.bits[1] == 2 &&
		    list.rows[0].damaged.nbytes == 0 && list.rows[1].damaged.bits[1] == 4);
	assert_true(list.rows[0].kind == PACK_DATA && list.rows[0].bytes == 500);
	pack_list_release(&list);
	help_check(f);
}

static void test_refused(void **state)
{
	static const struct rebuilt_pack bad[] = {
		{ .number = 0, .kind = PACK_DATA, .slots = 1, .bytes = 1 },
		{ .number = PACK_NUMBER_MAX + 1, .kind = PACK_DATA, .slots = 1, .bytes = 1 },
		{ .number = 1, .kind = PACK_DATA, .slots = 0, .bytes = 1 },
		{ .number = 1, .kind = PACK_DATA, .slots = SLOT_MAX_COUNT + 1, .bytes = 1 },
		{ .number = 1, .kind = PACK_DATA, .slots = 1, .bytes = 0 },
		{ .number = 1, .kind = PACK_DATA, .slots = 1, .bytes = UINT64_MAX },
		{ .number = 1, .kind = (enum pack_kind)3, .slots = 1, .bytes = 1 },
	};
	struct fixture *f = *state;
	struct known k;
	struct manifest m = help_manifest("a", 1, 1, 1, 1);
	struct object_ref ref = { 0 };
	uint8_t id[POINT_ID_LEN] = { 0 };
	struct catalog_totals t;
	size_t i;

	known_fill(&k);
	/* nothing without a beginning */
	assert_code(f, add_pack(f, 1), ERR_INTERNAL);
	assert_code(f, add_point(f, 1, "a", 1, 1), ERR_INTERNAL);
	assert_code(f, catalog_rebuild_segment(f->c, 1, 1, &f->err), ERR_INTERNAL);
	assert_code(f, catalog_rebuild_state(f->c, &k.st, NULL, &f->err), ERR_INTERNAL);
	assert_code(f, catalog_rebuild_counters(f->c, 1, 1, 1, 1, 1, &f->err), ERR_INTERNAL);
	assert_code(f, catalog_rebuild_end(f->c, NULL, &f->err), ERR_INTERNAL);
	assert_ok(f, catalog_rebuild_begin(f->c, &f->err));
	/* nothing else before the end */
	assert_code(f, catalog_rebuild_begin(f->c, &f->err), ERR_INTERNAL);
	assert_code(f, catalog_totals(f->c, &t, &f->err), ERR_INTERNAL);
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_code(f, catalog_rebuild_pack(f->c, &bad[i], &f->err), ERR_INVALID);
	assert_code(f, catalog_rebuild_segment(f->c, 0, 1, &f->err), ERR_INVALID);
	assert_code(f, catalog_rebuild_segment(f->c, 1, UINT64_MAX, &f->err), ERR_INVALID);
	assert_ok(f, catalog_rebuild_segment(f->c, 1, 1, &f->err));
	assert_code(f, catalog_rebuild_segment(f->c, 1, 1, &f->err), ERR_EXISTS);
	assert_code(f, catalog_rebuild_counters(f->c, UINT64_MAX, 1, 1, 1, 1, &f->err),
		    ERR_INVALID);
	assert_code(f, catalog_rebuild_counters(f->c, 1, PACK_NUMBER_MAX + 2, 1, 1, 1, &f->err),
		    ERR_INVALID);
	m.uuid[0]++;
	assert_code(f, catalog_rebuild_point(f->c, id, &ref, &m, &f->err), ERR_INVALID);
	k.st.uuid[0]++;
	assert_code(f, catalog_rebuild_state(f->c, &k.st, NULL, &f->err), ERR_INVALID);
	assert_ok(f, add_point(f, 1, "a", 1, 1));
	assert_code(f, add_point(f, 1, "b", 2, 1), ERR_EXISTS);
	/* never ended: nothing of it is there, and it can be done again */
	help_again(f);
	assert_int_equal(help_number(f, "SELECT count(*) FROM segment JOIN point"), 0);
	assert_ok(f, catalog_rebuild_begin(f->c, &f->err));
	assert_ok(f, add_pack(f, 1));
	assert_ok(f, catalog_rebuild_end(f->c, NULL, &f->err));
	assert_code(f, catalog_rebuild_begin(f->c, &f->err), ERR_INVALID);
	assert_ok(f, catalog_totals(f->c, &t, &f->err));
	assert_int_equal(t.packs, 1);
}

/* An end that fails takes everything back. */
static void test_end_fails(void **state)
{
	struct fixture *f = *state;
	struct audit a = HELP_AUDIT("repair");
	int code = ERR_KEY;

	a.opaque = &code;
	assert_ok(f, catalog_rebuild_begin(f->c, &f->err));
	assert_ok(f, add_pack(f, 1));
	assert_code(f, catalog_rebuild_end(f->c, &a, &f->err), ERR_KEY);
	assert_code(f, catalog_rebuild_end(f->c, &a, &f->err), ERR_INTERNAL);
	assert_int_equal(help_number(f, "SELECT count(*) + max(rebuilt) FROM pack, meta"), 0);
	assert_ok(f, catalog_rebuild_begin(f->c, &f->err));
	assert_ok(f, catalog_rebuild_end(f->c, NULL, &f->err));
}

static void test_accept(void **state)
{
	struct fixture *f = *state;
	struct audit a = HELP_AUDIT("repair");
	bool rebuilt = true;

	assert_ok(f, catalog_rebuilt(f->c, &rebuilt, &f->err));
	assert_false(rebuilt);
	assert_nothing(f, catalog_rebuild_accept(f->c, &a, &f->err), 0);
	assert_ok(f, catalog_rebuild_begin(f->c, &f->err));
	assert_ok(f, catalog_rebuild_end(f->c, &a, &f->err));
	assert_ok(f, catalog_rebuild_accept(f->c, &a, &f->err));
	assert_int_equal(a.entry.number, 2);
	assert_ok(f, catalog_rebuilt(f->c, &rebuilt, &f->err));
	assert_false(rebuilt);
	assert_nothing(f, catalog_rebuild_accept(f->c, &a, &f->err), 0);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, help_setup, help_teardown)
	const struct CMUnitTest tests[] = {
		T(test_any_order),   T(test_audit_goes_on), T(test_without_state),
		T(test_same_second), T(test_bits),	    T(test_refused),
		T(test_end_fails),   T(test_accept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
