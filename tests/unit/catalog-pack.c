// SPDX-License-Identifier: GPL-3.0-or-later
/* Pack directory, damaged bits, index segments, totals, check, copy. */
#include "tests/unit/catalog-help.h"

#include "base/banned.h"

static void test_packs(void **state)
{
	struct fixture *f = *state;
	uint64_t token, number = 0;
	struct pack_list l = { 0 };

	help_backup(f, "a", 5, 1);
	token = help_session(f, "a");
	assert_ok(f, catalog_pack_begin(f->c, token, PACK_MAP, &number, &f->err));
	assert_ok(f, catalog_packs(f->c, 0, &l, &f->err));
	assert_int_equal(l.count, 2);
	assert_int_equal(l.rows[0].kind, PACK_DATA);
	assert_int_equal(l.rows[1].state, PACK_WRITING);
	assert_int_equal(l.rows[1].kind, PACK_MAP);
	assert_int_equal(l.rows[1].token, token);
	assert_int_equal(l.rows[1].slots, 0);
	pack_list_release(&l);
	assert_ok(f, catalog_packs(f->c, number, &l, &f->err));
	assert_int_equal(l.count, 1);
	assert_int_equal(l.rows[0].number, number);
	pack_list_release(&l);
	assert_ok(f, catalog_packs(f->c, 77, &l, &f->err));
	assert_int_equal(l.count, 0);
	help_sql(f, "UPDATE pack SET gone = x'010203' WHERE number = 1");
	assert_code(f, catalog_packs(f->c, 0, &l, &f->err), ERR_DAMAGED);
	help_sql(f, "UPDATE pack SET gone = NULL WHERE number = 1");
	help_sql(f, "UPDATE meta SET next_pack = 1099511627775");
	assert_ok(f, catalog_pack_begin(f->c, token, PACK_MAP, &number, &f->err));
	assert_true(number == PACK_NUMBER_MAX);
	assert_code(f, catalog_pack_begin(f->c, token, PACK_MAP, &number, &f->err), ERR_TOO_BIG);
}

static void test_damaged(void **state)
{
	struct fixture *f = *state;
	uint64_t pack = help_backup(f, "a", 5, 1);
	const uint32_t slots[] = { 0, 9 }, nine = 9, ten = 10;
	struct pack_list l = { 0 };

	assert_ok(f, catalog_slots_damaged(f->c, pack, slots, 2, true, &f->err));
	assert_ok(f, catalog_slots_damaged(f->c, pack, slots, 2, true, &f->err));
	assert_ok(f, catalog_packs(f->c, pack, &l, &f->err));
	assert_int_equal(l.rows[0].damaged.nbytes, 2);
	assert_memory_equal(l.rows[0].damaged.bits, "\1\2", 2);
	assert_int_equal(l.rows[0].damaged.pack, pack);
	assert_int_equal(l.rows[0].gone.nbytes, 0);
	pack_list_release(&l);
	assert_ok(f, catalog_slots_damaged(f->c, pack, &nine, 1, false, &f->err));
	assert_int_equal(help_number(f, "SELECT damaged = x'0100' FROM pack"), 1);
	assert_code(f, catalog_slots_damaged(f->c, pack, &ten, 1, true, &f->err), ERR_INVALID);
	assert_int_equal(help_number(f, "SELECT damaged = x'0100' FROM pack"), 1);
	assert_ok(f, catalog_slots_damaged(f->c, pack, slots, 2, false, &f->err));
	assert_int_equal(help_number(f, "SELECT damaged IS NULL FROM pack"), 1);
	assert_code(f, catalog_slots_damaged(f->c, 99, slots, 2, true, &f->err), ERR_NOT_FOUND);
	help_check(f);
}

static uint64_t list_segment(struct fixture *f, uint64_t token, uint64_t records)
{
	struct session_done done = { .segment_records = records };

	assert_ok(f, catalog_segment_begin(f->c, token, &done.segment, &f->err));
	assert_ok(f, catalog_checkpoint(f->c, token, &done, &f->err));
	return done.segment;
}

static void test_segments(void **state)
{
	struct fixture *f = *state;
	uint64_t token = help_session(f, "a"), old[2], merged = 0, second = 0;
	struct segment_row *rows = NULL;
	size_t n = 9;

	old[0] = list_segment(f, token, 100);
	old[1] = list_segment(f, token, 200);
	assert_ok(f, catalog_segment_begin(f->c, token, &merged, &f->err));
	assert_ok(f, catalog_segment_begin(f->c, token, &second, &f->err));
	assert_ok(f, catalog_segments(f->c, &rows, &n, &f->err));
	assert_int_equal(n, 2);
	assert_int_equal(rows[1].number, old[1]);
	assert_int_equal(rows[1].records, 200);
	free(rows);
	assert_code(f, catalog_segments_swap(f->c, token, 999, 300, old, 2, &f->err), ERR_INTERNAL);
	assert_int_equal(help_number(f, "SELECT count(*) FROM segment WHERE state = 2"), 2);
	assert_code(f, catalog_segments_swap(f->c, token, merged, 300, old, 2, &f->err), 1);
	/* somebody else was first: old ones stay as they are, also those still listed */
	old[0] = merged;
	assert_code(f, catalog_segments_swap(f->c, token, second, 300, old, 2, &f->err), 0);
	assert_ok(f, catalog_segments(f->c, &rows, &n, &f->err));
	assert_int_equal(n, 1);
	assert_int_equal(rows[0].number, merged);
	assert_int_equal(rows[0].records, 300);
	free(rows);
	assert_ok(f, catalog_segment_drop(f->c, second, &f->err)); /* not listed: untouched */
	assert_int_equal(help_number(f, "SELECT count(*) FROM segment WHERE state = 1"), 1);
	assert_ok(f, catalog_segment_drop(f->c, merged, &f->err));
	assert_ok(f, catalog_segments(f->c, &rows, &n, &f->err));
	assert_int_equal(n, 0);
	free(rows);
}

static void test_totals(void **state)
{
	struct fixture *f = *state;
	struct catalog_totals t;
	uint64_t token, n;

	assert_ok(f, catalog_totals(f->c, &t, &f->err));
	assert_int_equal(t.points + t.names + t.packs + t.pack_bytes + t.segments + t.leases, 0);
	assert_int_equal(t.next_pack, 1);
	help_backup(f, "a", 5, 1);
	help_backup(f, "a", 6, 2);
	help_backup(f, "b", 7, 3);
	token = help_session(f, "a");
	assert_ok(f, catalog_pack_begin(f->c, token, PACK_DATA, &n, &f->err));
	list_segment(f, token, 123);
	help_sql(f, "UPDATE point SET state = 2 WHERE name = 'b'");
	assert_ok(f, catalog_totals(f->c, &t, &f->err));
	assert_int_equal(t.generation, 4);
	assert_int_equal(t.next_pack, 5);
	assert_int_equal(t.next_sequence, 4);
	assert_int_equal(t.condemn_gen, 0);
	assert_int_equal(t.points, 2);
	assert_int_equal(t.names, 1);
	assert_int_equal(t.packs, 3);
	assert_int_equal(t.pack_bytes, 15000);
	assert_int_equal(t.segments, 1);
	assert_int_equal(t.segment_records, 123);
	assert_int_equal(t.leases, 1);
}

/* Each rule of the check finds the row that breaks it, and nothing else. */
static void test_check(void **state)
{
	static const struct {
		const char *sql, *undo, *words;
	} rows[] = {
		{ "UPDATE meta SET next_pack = 1", "UPDATE meta SET next_pack = 3", "next pack" },
		{ "UPDATE meta SET next_sequence = 2", "UPDATE meta SET next_sequence = 3",
		  "sequence 2" },
		{ "UPDATE meta SET next_segment = 1", "UPDATE meta SET next_segment = 2",
		  "index segment 1" },
		{ "UPDATE point SET generation = 99 WHERE num = 1",
		  "UPDATE point SET generation = 2 WHERE num = 1", "generation 99" },
		{ "UPDATE lease SET gen = 99", "UPDATE lease SET gen = 3", "lease" },
		{ "UPDATE meta SET condemn_gen = 99", "UPDATE meta SET condemn_gen = 0",
		  "condemned" },
		{ "UPDATE point SET sequence = 1 WHERE num = 2",
		  "UPDATE point SET sequence = 2 WHERE num = 2", "2 points" },
		{ "UPDATE pack SET bytes = 0 WHERE number = 1",
		  "UPDATE pack SET bytes = 9 WHERE number = 1", "0 bytes" },
		{ "UPDATE pack SET gone = x'01' WHERE number = 1", "UPDATE pack SET gone = NULL",
		  "does not fit" },
		{ "UPDATE pack SET damaged = x'0004' WHERE number = 1",
		  "UPDATE pack SET damaged = NULL", "does not fit" },
		{ "UPDATE pack SET doomed = x'0002', gone = x'0001' WHERE number = 1",
		  "UPDATE pack SET gone = NULL, doomed = NULL", "not gone" },
		{ "UPDATE pack SET condemned = x'0002', gone = x'0002' WHERE number = 1",
		  "UPDATE pack SET gone = NULL, condemned = NULL", "nothing was condemned" },
		{ "UPDATE point SET time_text = 'x' WHERE num = 1",
		  "UPDATE point SET time_text = '1970-01-01T00:00:05Z' WHERE num = 1",
		  "time text" },
		{ "UPDATE point SET manifest_locator = manifest_locator + 10 WHERE num = 1",
		  "UPDATE point SET manifest_locator = manifest_locator - 10 WHERE num = 1",
		  "manifest of" },
		{ "UPDATE disk SET root_locator = 77 << 24 WHERE point = 1 AND ord = 0",
		  "UPDATE disk SET root_locator = (1 << 24) + 1 WHERE point = 1 AND ord = 0",
		  "root of disk vda" },
		{ "UPDATE pack SET condemned = x'0002', doomed = x'0002', gone = x'0002'"
		  " WHERE number = 1; UPDATE meta SET condemn_gen = 1",
		  "UPDATE pack SET gone = NULL, condemned = NULL, doomed = NULL;"
		  " UPDATE meta SET condemn_gen = 0",
		  "condemned and doomed" },
		{ "UPDATE pack SET gone = x'0100' WHERE number = 1", "UPDATE pack SET gone = NULL",
		  "manifest of point 00000001" },
		{ "UPDATE pack SET gone = x'0200', doomed = x'0200' WHERE number = 1",
		  "UPDATE pack SET gone = NULL, doomed = NULL", "root of disk vda" },
		{ "UPDATE point SET until = 3 WHERE num = 1", "UPDATE point SET until = 0",
		  "time of being forgotten" },
		{ "INSERT INTO hold VALUES (1, '', 1, 0); UPDATE point SET state = 2 WHERE num = 1",
		  "DELETE FROM hold; UPDATE point SET state = 1", "held but not complete" },
		{ "INSERT INTO pin VALUES (1, 3); UPDATE point SET state = 3 WHERE num = 1",
		  "DELETE FROM pin; UPDATE point SET state = 1", "yet pinned" },
		{ "INSERT INTO tomb VALUES (zeroblob(16), 77 << 24, 1, 1)", "DELETE FROM tomb",
		  "expired point" },
		{ "UPDATE meta SET state_locator = 77 << 24, state_id = zeroblob(32)",
		  "UPDATE meta SET state_locator = 0", "state object is not in" },
		{ "UPDATE meta SET state_locator = (1 << 24) + 9, state_id = zeroblob(32);"
		  " UPDATE pack SET gone = x'0002' WHERE number = 1",
		  "UPDATE meta SET state_locator = 0; UPDATE pack SET gone = NULL",
		  "state object: its slot" },
		{ "UPDATE pack SET state = 1, slots = 0, bytes = 0 WHERE number = 2",
		  "UPDATE pack SET state = 2, slots = 10, bytes = 5000 WHERE number = 2",
		  "being written" },
		{ "PRAGMA foreign_keys = OFF; INSERT INTO pin VALUES (55, 3)",
		  "DELETE FROM pin; PRAGMA foreign_keys = ON", "missing row" },
	};
	struct fixture *f = *state;
	size_t i;

	help_backup(f, "a", 5, 1);
	help_backup(f, "a", 6, 2);
	list_segment(f, help_session(f, "b"), 5);
	help_check(f);
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		cleanup_buf struct buf b = BUF_INIT;
		int r;

		help_sql(f, rows[i].sql);
		r = catalog_check(f->c, &b, &f->err);
		if (r < 1 || !strstr(buf_str(&b), rows[i].words))
			fail_msg("%s: %d: %s", rows[i].sql, r, buf_str(&b));
		help_sql(f, rows[i].undo);
		help_check(f);
	}
}

/* Bytes of a page destroyed: the check counts it, whatever else fails. */
static void test_check_corrupt(void **state)
{
	struct fixture *f = *state;
	cleanup_buf struct buf b = BUF_INIT;
	cleanup_fd int fd = -1;
	uint8_t junk[CATALOG_PAGE_SIZE];
	int i;

	for (i = 1; i <= 100; i++)
		help_backup(f, "a", i, (uint32_t)i);
	catalog_close(f->c);
	f->c = NULL;
	fd = file_open(f->path, O_RDWR, 0, &f->err);
	assert_true(fd >= 0);
	memset(junk, 0xa5, sizeof(junk));
	for (i = 8; i < 14; i++)
		assert_ok(f, file_pwrite(fd, junk, sizeof(junk), (uint64_t)i * sizeof(junk),
					 f->path, "test.w", &f->err));
	help_open(f);
	assert_true(catalog_check(f->c, &b, &f->err) > 0);
	assert_true(b.len > 0);
}

static void test_copy(void **state)
{
	struct fixture *f = *state, g = { 0 };
	struct catalog_totals t;

	help_backup(f, "a", 5, 1);
	snprintf(g.path, sizeof(g.path), "%s/copy", f->dir);
	assert_ok(f, catalog_copy(f->c, g.path, &f->err));
	assert_code(f, catalog_copy(f->c, g.path, &f->err), ERR_EXISTS);
	help_open(&g);
	help_check(&g);
	assert_ok(&g, catalog_totals(g.c, &t, &g.err));
	assert_int_equal(t.points, 1);
	/* tokens are not used again in a copy either */
	assert_int_equal(help_session(&g, "a"), 2);
	assert_int_equal(help_number(&g, "PRAGMA page_size"), CATALOG_PAGE_SIZE);
	catalog_close(g.c);
	snprintf(g.path, sizeof(g.path), "%s/missing/copy", f->dir);
	assert_code(f, catalog_copy(f->c, g.path, &f->err), ERR_NOT_FOUND);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, help_setup, help_teardown)
	const struct CMUnitTest tests[] = {
		T(test_packs), T(test_damaged),	      T(test_segments), T(test_totals),
		T(test_check), T(test_check_corrupt), T(test_copy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
