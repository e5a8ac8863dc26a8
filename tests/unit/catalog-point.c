// SPDX-License-Identifier: GPL-3.0-or-later
/* Restore points: what the row keeps of the manifest, lists, filters, prefixes, verification, memory. */
#include "tests/unit/catalog-help.h"

#include "base/banned.h"

static void assert_ids(const struct point_list *l, size_t count, const uint32_t *ids)
{
	size_t i;

	assert_int_equal(l->count, count);
	for (i = 0; i < count; i++)
		assert_int_equal(get_be32(l->rows[i].id), ids[i]);
}
#define assert_list(l, ...)                                                                        \
	do {                                                                                       \
		const uint32_t ids_[] = { __VA_ARGS__ };                                           \
		assert_ids(l, ARRAY_SIZE(ids_), ids_);                                             \
		point_list_release(l);                                                             \
	} while (0)

static void test_round_trip(void **state)
{
	struct fixture *f = *state;
	struct session_done done = { 0 };
	struct object_ref ref = { .locator = locator_make(PACK_NUMBER_MAX, 9) };
	uint64_t token = help_session(f, "web1"), seq = 0, gen = 0;
	struct point_row row = { 0 };
	struct manifest m;
	uint8_t id[POINT_ID_LEN];
	int64_t time = 1700000000;

	memset(ref.id, 0xee, ID_LEN);
	help_id(id, 1);
	assert_ok(f, catalog_reserve(f->c, token, "web1", &time, &seq, &gen, &f->err));
	m = help_manifest("web1", time, seq, gen, PACK_NUMBER_MAX);
	m.has_parent = true;
	memset(m.parent, 0x77, POINT_ID_LEN);
	m.kind = POINT_INCREMENTAL;
	assert_ok(f, catalog_publish(f->c, token, &done, NULL, 0, id, &ref, &m, NULL, &f->err));
	assert_ok(f, catalog_point_by_id(f->c, id, &row, &f->err));
	assert_memory_equal(row.id, id, POINT_ID_LEN);
	assert_true(row.manifest_ref.locator == ref.locator);
	assert_memory_equal(row.manifest_ref.id, ref.id, ID_LEN);
	assert_int_equal(row.state, POINT_COMPLETE);
	assert_int_equal(row.verified_kind, VERIFIED_NONE);
	assert_memory_equal(row.m->uuid, help_uuid, UUID_LEN);
	assert_string_equal(row.m->name, "web1");
	assert_int_equal(row.m->time, time);
	assert_int_equal(row.m->sequence, seq);
	assert_int_equal(row.m->generation, gen);
	assert_int_equal(row.m->kind, POINT_INCREMENTAL);
	assert_int_equal(row.m->consistency, CONSISTENCY_CRASH);
	assert_int_equal(row.m->stored, 4711);
	assert_string_equal(row.m->program, "livepoint 1");
	assert_true(row.m->has_parent);
	assert_memory_equal(row.m->parent, m.parent, POINT_ID_LEN);
	assert_int_equal(row.m->ndisks, 2);
	assert_string_equal(row.m->disks[0].name, "vda");
	assert_int_equal(row.m->disks[0].size, 1 << 20);
	assert_int_equal(row.m->disks[0].source_size, (1 << 20) - 5);
	assert_int_equal(row.m->disks[0].chunk_size, 65536);
	assert_true(row.m->disks[0].root.locator == locator_make(PACK_NUMBER_MAX, 1));
	assert_memory_equal(row.m->disks[0].root.id, m.disks[0].root.id, ID_LEN);
	assert_int_equal(row.m->disks[0].method, METHOD_HASH);
	assert_string_equal(row.m->disks[0].source, "/dev/sda");
	assert_int_equal(row.m->disks[0].read_bytes, 77);
	assert_int_equal(row.m->disks[0].unreadable_bytes, 512);
	assert_string_equal(row.m->disks[1].name, "vdb");
	assert_true(row.m->disks[1].root.locator == LOCATOR_NONE);
	assert_null(row.m->disks[1].source);
	assert_int_equal(row.m->nlabels, 2);
	assert_string_equal(row.m->labels[0].key, "env");
	assert_string_equal(row.m->labels[0].value, "prod");
	assert_string_equal(row.m->labels[1].value, "");
	point_row_release(&row);
	id[15] ^= 1;
	assert_code(f, catalog_point_by_id(f->c, id, &row, &f->err), ERR_NOT_FOUND);
	assert_null(row.m);
}

static void test_lists(void **state)
{
	struct fixture *f = *state;
	struct point_filter all = { 0 }, newest = { .newest_first = true, .limit = 2 };
	struct point_filter named = { .name = "b" }, forgotten = { .name = "b", .forgotten = true };
	struct point_filter prod = { .label_key = "env", .label_value = "prod" };
	struct point_filter test = { .label_key = "env", .label_value = "test" };
	struct point_filter keyed = { .label_key = "why", .name = "a", .newest_first = true };
	struct point_list l = { 0 };
	struct point_row row = { 0 };
	uint8_t id[POINT_ID_LEN];
	char **names = NULL;
	size_t n = 0;

	help_backup(f, "b", 300, 1);
	help_backup(f, "a", 200, 2);
	help_backup(f, "b", 100, 3);
	help_backup(f, "b", 400, 4);
	help_backup(f, "c", 400, 5);
	help_sql(
		f,
		"UPDATE point SET state = 2 WHERE num = 4; UPDATE point SET state = 3 WHERE num = 5;"
		"UPDATE label SET value = 'test' WHERE point = 3 AND key = 'env'");
	assert_ok(f, catalog_points(f->c, &all, &l, &f->err));
	assert_list(&l, 1, 2, 3);
	assert_ok(f, catalog_points(f->c, &newest, &l, &f->err));
	assert_list(&l, 3, 2);
	assert_ok(f, catalog_points(f->c, &named, &l, &f->err));
	assert_list(&l, 1, 3);
	assert_ok(f, catalog_points(f->c, &forgotten, &l, &f->err));
	assert_list(&l, 1, 3, 4);
	assert_ok(f, catalog_points(f->c, &prod, &l, &f->err));
	assert_list(&l, 1, 2);
	assert_ok(f, catalog_points(f->c, &test, &l, &f->err));
	assert_list(&l, 3);
	assert_ok(f, catalog_points(f->c, &keyed, &l, &f->err));
	assert_list(&l, 2);
	assert_ok(f, catalog_point_latest(f->c, "b", &row, &f->err));
	assert_int_equal(get_be32(row.id), 3); /* by sequence, not by clock; 4 is forgotten */
	point_row_release(&row);
	assert_code(f, catalog_point_latest(f->c, "c", &row, &f->err), ERR_NOT_FOUND);
	assert_code(f, catalog_point_latest(f->c, "zz", &row, &f->err), ERR_NOT_FOUND);
	help_id(id, 4);
	assert_ok(f, catalog_point_by_id(f->c, id, &row, &f->err));
	assert_int_equal(row.state, POINT_FORGOTTEN);
	point_row_release(&row);
	help_id(id, 5);
	assert_code(f, catalog_point_by_id(f->c, id, &row, &f->err), ERR_NOT_FOUND);
	assert_ok(f, catalog_names(f->c, &names, &n, &f->err));
	assert_int_equal(n, 2);
	assert_string_equal(names[0], "a");
	assert_string_equal(names[1], "b");
	catalog_names_free(names, n);
}

static void test_prefixes(void **state)
{
	struct fixture *f = *state;
	struct point_list l = { 0 };

	help_backup(f, "a", 1700000000, 0xabcd0001); /* 2023-11-14T22:13:20Z */
	help_backup(f, "a", 1700000001, 0xabce0002);
	help_backup(f, "a", 1690000000, 0xabcd0003); /* 2023-07-22T04:26:40Z */
	help_backup(f, "b", 1700000000, 0x00000004);
	help_sql(f, "UPDATE point SET state = 2 WHERE name = 'b'");
	assert_ok(f, catalog_points_by_prefix(f->c, "abcd", 0, &l, &f->err));
	assert_list(&l, 0xabcd0001, 0xabcd0003);
	assert_ok(f, catalog_points_by_prefix(f->c, "ABC", 0, &l, &f->err));
	assert_list(&l, 0xabcd0001, 0xabcd0003, 0xabce0002);
	assert_ok(f, catalog_points_by_prefix(f->c, "abc", 1, &l, &f->err));
	assert_list(&l, 0xabcd0001);
	assert_ok(f, catalog_points_by_prefix(f->c, "abce00025a5a5a5a5a5a5a5a5a5a5a5a", 2, &l,
					      &f->err));
	assert_list(&l, 0xabce0002);
	assert_ok(f, catalog_points_by_prefix(f->c, "abce00025a5a5a5a5a5a5a5a5a5a5a5a0", 2, &l,
					      &f->err));
	assert_int_equal(l.count, 0);
	assert_ok(f, catalog_points_by_prefix(f->c, "0000", 0, &l, &f->err)); /* forgotten */
	assert_int_equal(l.count, 0);
	assert_ok(f, catalog_points_by_prefix(f->c, "ab'g", 0, &l, &f->err));
	assert_int_equal(l.count, 0);

	assert_ok(f, catalog_points_by_time(f->c, "a", "", 0, &l, &f->err));
	assert_list(&l, 0xabcd0003, 0xabce0002, 0xabcd0001);
	assert_ok(f, catalog_points_by_time(f->c, "a", "2023-1", 0, &l, &f->err));
	assert_list(&l, 0xabce0002, 0xabcd0001);
	assert_ok(f, catalog_points_by_time(f->c, "a", "2023", 2, &l, &f->err));
	assert_list(&l, 0xabcd0003, 0xabce0002);
	assert_ok(f, catalog_points_by_time(f->c, "a", "2023-11-14T22:13:20Z", 0, &l, &f->err));
	assert_list(&l, 0xabcd0001);
	assert_ok(f, catalog_points_by_time(f->c, "a", "2024", 0, &l, &f->err));
	assert_int_equal(l.count, 0);
	assert_ok(f, catalog_points_by_time(f->c, "a", "2023-11-14T22:13:20Z0", 0, &l, &f->err));
	assert_int_equal(l.count, 0);
	assert_ok(f, catalog_points_by_time(f->c, "b", "2023", 0, &l, &f->err));
	assert_int_equal(l.count, 0);
}

static void test_verified(void **state)
{
	struct fixture *f = *state;
	struct point_row row = { 0 };
	uint8_t id[POINT_ID_LEN];

	help_backup(f, "a", 5, 1);
	help_id(id, 1);
	assert_ok(f, catalog_point_set_verified(f->c, id, VERIFIED_DATA, 99, 0.25, true, &f->err));
	assert_ok(f, catalog_point_by_id(f->c, id, &row, &f->err));
	assert_int_equal(row.verified_kind, VERIFIED_DATA);
	assert_int_equal(row.verified_time, 99);
	assert_true(row.verified_share == 0.25);
	assert_true(row.damaged);
	point_row_release(&row);
	assert_code(f, catalog_point_set_verified(f->c, id, 4, 99, 1, true, &f->err), ERR_INVALID);
	assert_code(f, catalog_point_set_verified(f->c, id, 1, 99, 1.5, true, &f->err),
		    ERR_INVALID);
	id[3] = 9;
	assert_code(f, catalog_point_set_verified(f->c, id, 1, 99, 1, true, &f->err),
		    ERR_NOT_FOUND);
}

/* Values that no version of the program writes are damage, not a crash. */
static void test_bad_rows(void **state)
{
	struct fixture *f = *state;
	struct point_filter all = { 0 };
	struct point_list l = { 0 };
	static const char *const bad[] = {
		"UPDATE point SET name = ''||hex(zeroblob(65))",
		"UPDATE disk SET name = hex(zeroblob(40))",
		"WITH RECURSIVE n(i) AS (VALUES (2) UNION ALL SELECT i + 1 FROM n WHERE i < 300)"
		" INSERT INTO disk SELECT 1, i, 'x', 1, 1, 1, 0, zeroblob(32), 1, NULL, 0, 0 FROM n",
	};
	size_t i;

	help_backup(f, "a", 5, 1);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		help_sql(f, bad[i]);
		assert_code(f, catalog_points(f->c, &all, &l, &f->err), ERR_DAMAGED);
		assert_int_equal(l.count, 0);
		help_sql(f, "UPDATE point SET name = 'a'; DELETE FROM disk WHERE ord > 0;"
			    "UPDATE disk SET name = 'vda'");
		assert_ok(f, catalog_points(f->c, &all, &l, &f->err));
		point_list_release(&l);
	}
}

static int list_points(struct fixture *f)
{
	struct point_filter all = { 0 };
	struct point_list l = { 0 };
	int r = catalog_points(f->c, &all, &l, &f->err);

	assert_int_equal(l.count, r < 0 ? 0 : 2);
	point_list_release(&l);
	return r;
}

static int list_names(struct fixture *f)
{
	char **names = NULL;
	size_t n = 0;
	int r = catalog_names(f->c, &names, &n, &f->err);

	assert_int_equal(n, r < 0 ? 0 : 2);
	catalog_names_free(names, n);
	return r;
}

static int list_leases(struct fixture *f)
{
	struct lease *leases = NULL;
	size_t n = 0;
	int r = catalog_leases(f->c, &leases, &n, &f->err);

	assert_int_equal(n, r < 0 ? 0 : 1);
	free(leases);
	return r;
}

static int list_packs(struct fixture *f)
{
	struct pack_list l = { 0 };
	int r = catalog_packs(f->c, 0, &l, &f->err);

	assert_int_equal(l.count, r < 0 ? 0 : 3);
	pack_list_release(&l);
	return r;
}

static int list_segments(struct fixture *f)
{
	struct segment_row *rows = NULL;
	size_t n = 0;
	int r = catalog_segments(f->c, &rows, &n, &f->err);

	assert_int_equal(n, r < 0 ? 0 : 1);
	free(rows);
	return r;
}

static int list_writing(struct fixture *f)
{
	uint64_t *a = NULL, *b = NULL;
	size_t na = 0, nb = 0;
	int r = catalog_writing(f->c, 3, &a, &na, &b, &nb, &f->err);

	assert_int_equal(na, r < 0 ? 0 : 1);
	free(a);
	if (r >= 0)
		free(b);
	return r;
}

static int one_point(struct fixture *f)
{
	struct point_row row = { 0 };
	int r = catalog_point_latest(f->c, "a", &row, &f->err);

	point_row_release(&row);
	return r;
}

/* The n-th allocation fails, for each n, until nothing fails: always ERR_NOMEM, never an output or a leak. */
static void test_without_memory(void **state)
{
	static int (*const bodies[])(struct fixture *) = { list_points, list_names,    list_leases,
							   list_packs,	list_segments, list_writing,
							   one_point };
	struct fixture *f = *state;
	uint64_t token, n;
	unsigned at;
	size_t i;
	int r;

	help_backup(f, "a", 5, 1);
	help_backup(f, "b", 5, 2);
	token = help_session(f, "c");
	assert_int_equal(token, 3);
	assert_ok(f, catalog_pack_begin(f->c, token, PACK_DATA, &n, &f->err));
	assert_ok(f, catalog_segment_begin(f->c, token, &n, &f->err));
	help_sql(f, "UPDATE pack SET gone = x'0100', damaged = x'0100' WHERE number = 1;"
		    "UPDATE segment SET state = 2; INSERT INTO segment VALUES (9, 1, 3, 0)");
	for (i = 0; i < ARRAY_SIZE(bodies); i++) {
		r = ERR_NOMEM;
		for (at = 1; r < 0 && at < 200; at++) {
			mem_fail_after(at);
			r = bodies[i](f);
			mem_fail_after(0);
			if (r < 0)
				assert_int_equal(r, ERR_NOMEM);
		}
		assert_true(r >= 0 && at > 2);
	}
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, help_setup, help_teardown)
	const struct CMUnitTest tests[] = {
		T(test_round_trip), T(test_lists),    T(test_prefixes),
		T(test_verified),   T(test_bad_rows), T(test_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
