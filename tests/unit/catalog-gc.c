// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The transactions of a prune, one by one and as a whole run, each with a catalog opened again between the steps:
 * every answer, fencing, the state object, what is left of an expired point, and numbers as of a big repository.
 */
#include "tests/unit/catalog-help.h"

#include "base/banned.h"

struct lists {
	struct point_list roots, expired;
	struct pack_list packs;
};

static void lists_release(struct lists *l)
{
	point_list_release(&l->roots);
	point_list_release(&l->expired);
	pack_list_release(&l->packs);
}

static int roots(struct fixture *f, uint64_t token, int64_t now, struct lists *l)
{
	memset(l, 0, sizeof(*l));
	return catalog_gc_roots(f->c, token, now, &l->roots, &l->expired, &l->packs, &f->err);
}

static void forget(struct fixture *f, uint32_t n, int64_t until)
{
	uint8_t id[1][POINT_ID_LEN];

	help_id(id[0], n);
	assert_ok(f, catalog_forget(f->c, (const uint8_t(*)[POINT_ID_LEN])id, 1, 10, until, NULL,
				    &f->err));
}

/* A map of one or two bytes. */
struct map {
	uint8_t bytes[2];
	struct slot_bits bits;
};
static struct slot_bits *map(struct map *m, uint64_t pack, unsigned marked)
{
	m->bytes[0] = (uint8_t)marked;
	m->bytes[1] = (uint8_t)(marked >> 8);
	m->bits = (struct slot_bits){ .pack = pack, .nbytes = 2, .bits = m->bytes };
	return &m->bits;
}

/* What SQL sees of a pack's map, as text; "" for none. */
static void assert_map(struct fixture *f, uint64_t pack, const char *column, const char *wanted)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	char sql[96];

	snprintf(sql, sizeof(sql), "SELECT hex(%s) FROM pack WHERE number = %d", column, (int)pack);
	assert_ok(f, sql_query(f->c, &s, &f->err, sql, ""));
	assert_int_equal(sql_step(f->c, s, &f->err), 1);
	assert_string_equal((const char *)sqlite3_column_text(s, 0), wanted);
}

static void test_roots(void **state)
{
	struct fixture *f = *state;
	struct lease reader = help_spec(LEASE_READER, "");
	uint8_t id[POINT_ID_LEN];
	uint64_t token;
	struct lists l;

	for (uint32_t i = 1; i <= 5; i++)
		help_backup(f, "a", i, i);
	token = help_maintenance(f);
	assert_ok(f, catalog_lease_begin(f->c, &reader, &f->err));
	help_id(id, 3);
	assert_ok(f, catalog_pin(f->c, reader.token, id, &f->err));
	forget(f, 2, 20);
	forget(f, 3, 20);
	forget(f, 4, 21);
	assert_nothing(f, roots(f, 99, 20, &l), ERR_FENCED);
	assert_nothing(f, roots(f, reader.token, 20, &l), ERR_INTERNAL);
	assert_null(l.roots.rows);
	assert_ok(f, roots(f, token, 19, &l));
	assert_int_equal(l.roots.count, 5);
	assert_int_equal(l.expired.count, 0);
	lists_release(&l);
	help_sql(f, "UPDATE pack SET gone = x'0300', condemned = x'0100', doomed = x'0200',"
		    " damaged = x'8000', verified = 44 WHERE number = 5");
	assert_ok(f, roots(f, token, 20, &l)); /* 2 goes, 3 is pinned, 4 has a second left */
	assert_int_equal(l.roots.count, 4);
	assert_int_equal(l.roots.rows[1].m->time, 3);
	assert_int_equal(l.expired.count, 1);
	assert_int_equal(l.expired.rows[0].m->time, 2);
	assert_int_equal(l.expired.rows[0].state, POINT_EXPIRED);
	assert_int_equal(l.packs.count, 5);
	assert_true(l.packs.rows[4].published && l.packs.rows[4].verified == 44);
	assert_true(l.packs.rows[4].gone.bits[0] == 3 && l.packs.rows[4].condemned.bits[0] == 1 &&
		    l.packs.rows[4].doomed.bits[0] == 2 && l.packs.rows[4].damaged.bits[0] == 0x80);
	lists_release(&l);
	help_sql(f, "UPDATE pack SET gone = NULL, condemned = NULL, doomed = NULL, damaged = NULL");
	/* an expired one cannot be pinned; a forgotten one only by who finds it pinned */
	help_id(id, 2);
	assert_code(f, catalog_pin(f->c, reader.token, id, &f->err), ERR_NOT_FOUND);
	help_id(id, 4);
	assert_code(f, catalog_pin(f->c, reader.token, id, &f->err), ERR_NOT_FOUND);
	help_id(id, 3);
	assert_ok(f, catalog_pin(f->c, token, id, &f->err));
	assert_ok(f, catalog_lease_end(f->c, reader.token, &f->err));
	assert_ok(f, roots(f, token, 20, &l));
	assert_int_equal(l.expired.count, 1); /* the prune's own pin */
	lists_release(&l);
	assert_ok(f, catalog_unpin(f->c, token, id, &f->err));
	assert_ok(f, roots(f, token, 20, &l));
	assert_int_equal(l.expired.count, 2);
	lists_release(&l);
	help_check(f);
}

static void test_condemn(void **state)
{
	struct fixture *f = *state;
	struct map m[2];
	struct slot_bits maps[2], empty = { .pack = 1 };
	uint64_t token, n = 7, gen, other;

	help_backup(f, "a", 1, 1);
	help_backup(f, "a", 2, 2);
	other = help_session(f, "b");
	assert_ok(f, catalog_pack_begin(f->c, other, PACK_DATA, &n, &f->err));
	token = help_maintenance(f);
	gen = help_number(f, "SELECT generation FROM meta");
	n = 7;
	maps[0] = *map(&m[0], 1, 0x3f);
	maps[1] = *map(&m[1], 2, 0xffff); /* bits beyond the last slot are nobody's */
	assert_nothing(f, catalog_gc_condemn(f->c, 99, maps, 2, &n, &f->err), ERR_FENCED);
	assert_nothing(f, catalog_gc_condemn(f->c, other, maps, 2, &n, &f->err), ERR_INTERNAL);
	maps[1].pack = 1;
	assert_nothing(f, catalog_gc_condemn(f->c, token, maps, 2, &n, &f->err), ERR_INTERNAL);
	maps[1].pack = 3; /* being written: the first one's bits are rolled back too */
	assert_nothing(f, catalog_gc_condemn(f->c, token, maps, 2, &n, &f->err), ERR_INTERNAL);
	maps[1].pack = 2;
	assert_int_equal(n, 7);
	/* nothing to condemn raises nothing */
	assert_ok(f, catalog_gc_condemn(f->c, token, maps + 1, 1, &n, &f->err));
	assert_int_equal(n, 0);
	assert_int_equal(help_number(f, "SELECT condemn_gen FROM meta"), 0);
	assert_int_equal(help_number(f, "SELECT generation FROM meta"), gen);
	/* what is gone already is not condemned again */
	help_sql(f, "UPDATE pack SET gone = x'8000' WHERE number = 1");
	assert_ok(f, catalog_gc_condemn(f->c, token, maps, 2, &n, &f->err));
	assert_int_equal(n, 3);
	assert_map(f, 1, "gone", "C003");
	assert_map(f, 1, "condemned", "4003");
	assert_map(f, 2, "gone", "");
	assert_int_equal(help_number(f, "SELECT condemn_gen FROM meta"), gen + 1);
	assert_int_equal(help_number(f, "SELECT generation FROM meta"), gen + 1);
	help_check(f);
	assert_nothing(f, catalog_gc_condemn(f->c, token, &empty, 1, &n, &f->err), ERR_INTERNAL);
}

/* Nobody marked the state object: it stays. */
static void test_condemn_state(void **state)
{
	struct fixture *f = *state;
	struct session_done none = { 0 };
	struct object_ref ref = { .locator = locator_make(1, 9) };
	struct slot_bits all = { .pack = 1 };
	uint64_t token, n = 0;

	help_backup(f, "a", 1, 1);
	token = help_maintenance(f);
	assert_ok(f, catalog_state_publish(f->c, token, &none, &ref, NULL, NULL, &f->err));
	assert_ok(f, catalog_gc_condemn(f->c, token, &all, 1, &n, &f->err));
	assert_int_equal(n, 9);
	assert_map(f, 1, "condemned", "FF01");
}

static void test_settle(void **state)
{
	struct fixture *f = *state;
	struct slot_bits all[2] = { { .pack = 1 }, { .pack = 2 } };
	struct map m[2];
	struct slot_bits maps[2];
	struct lease *older = NULL;
	uint64_t token, session, younger, n = 0;
	size_t count = 9;

	help_backup(f, "a", 1, 1);
	help_backup(f, "a", 2, 2);
	session = help_session(f, "b");
	token = help_maintenance(f);
	assert_ok(f, catalog_gc_condemn(f->c, token, all, 2, &n, &f->err));
	assert_int_equal(n, 20);
	younger = help_session(f, "c");
	help_again(f);
	/* G6: only the one that began before */
	assert_code(f, catalog_gc_older(f->c, 99, &older, &count, &f->err), ERR_FENCED);
	assert_code(f, catalog_gc_older(f->c, younger, &older, &count, &f->err), ERR_INTERNAL);
	assert_ok(f, catalog_gc_older(f->c, token, &older, &count, &f->err));
	assert_int_equal(count, 1);
	assert_int_equal(older[0].token, session);
	free(older);
	maps[0] = *map(&m[0], 1, 0x03);
	maps[1] = *map(&m[1], 2, 0x07);
	assert_nothing(f, catalog_gc_settle(f->c, token, maps, 2, &n, &f->err), ERR_LOCKED);
	assert_non_null(strstr(f->err.text, "hosty"));
	assert_ok(f, catalog_lease_end(f->c, session, &f->err));
	assert_nothing(f, catalog_gc_settle(f->c, session, maps, 2, &n, &f->err), ERR_FENCED);
	assert_nothing(f, catalog_gc_settle(f->c, younger, maps, 2, &n, &f->err), ERR_INTERNAL);
	maps[1].pack = 1;
	assert_nothing(f, catalog_gc_settle(f->c, token, maps, 2, &n, &f->err), ERR_INTERNAL);
	maps[1].pack = 2;
	/* the second map has no condemned pack: passed over; the first pack has no map: all doomed */
	maps[0].pack = 2;
	maps[1].pack = 7;
	n = 0;
	assert_ok(f, catalog_gc_settle(f->c, token, maps, 2, &n, &f->err));
	assert_int_equal(n, 18);
	assert_map(f, 1, "gone", "FF03");
	assert_map(f, 1, "doomed", "FF03");
	assert_map(f, 1, "condemned", "");
	assert_map(f, 2, "gone", "FC03");
	assert_map(f, 2, "doomed", "FC03");
	assert_map(f, 2, "condemned", "");
	assert_int_equal(help_number(f, "SELECT condemn_gen FROM meta"), 0);
	assert_ok(f, catalog_gc_older(f->c, token, &older, &count, &f->err));
	assert_int_equal(count, 0);
	free(older);
	/* point 1 was not marked: that is what the check is for */
	{
		cleanup_buf struct buf b = BUF_INIT;

		assert_int_equal(catalog_check(f->c, &b, &f->err), 2);
		assert_non_null(strstr(buf_str(&b), "manifest of point 000000015a"));
		assert_non_null(strstr(buf_str(&b), "root of disk vda of point 00000001"));
	}
}

/* A session that began before the condemning may publish what is condemned, and the second mark takes it back; a
 * younger one saw the slots as gone, and may use only what came back. */
static void test_taken_back(void **state)
{
	struct fixture *f = *state;
	struct map m[2];
	struct slot_bits *used;
	uint64_t token, older, younger, n = 0;
	struct session_done done = { 0 };
	int64_t time = 9;

	help_backup(f, "a", 1, 1);
	token = help_maintenance(f);
	older = help_session(f, "c");
	assert_ok(f, catalog_gc_condemn(f->c, token, map(&m[0], 1, 3), 1, &n, &f->err));
	assert_ok(f, help_publish(f, older, "c", &time, 3, &done, map(&m[1], 1, 0x08), 1));
	younger = help_session(f, "b");
	used = map(&m[1], 1, 0x10);
	assert_code(f, help_publish(f, younger, "b", &time, 2, &done, used, 1), ERR_INTERNAL);
	assert_ok(f, catalog_gc_settle(f->c, token, map(&m[0], 1, 0x1b), 1, &n, &f->err));
	assert_int_equal(n, 6);
	assert_map(f, 1, "gone", "E403");
	assert_ok(f, help_publish(f, younger, "b", &time, 2, &done, used, 1));
	help_check(f);
}

static void test_drop(void **state)
{
	struct fixture *f = *state;
	struct audit a = HELP_AUDIT("prune");
	struct pack_list list = { 0 };
	struct lease reader = help_spec(LEASE_READER, "");
	struct map m;
	uint64_t token;

	help_backup(f, "a", 1, 1);
	token = help_maintenance(f);
	assert_ok(f, catalog_lease_begin(f->c, &reader, &f->err));
	assert_ok(f, catalog_gc_doomed(f->c, &list, &f->err));
	assert_int_equal(list.count, 0);
	pack_list_release(&list);
	help_sql(f, "UPDATE pack SET gone = x'fc03', doomed = x'f803', damaged = x'0903'");
	assert_ok(f, catalog_gc_doomed(f->c, &list, &f->err));
	assert_int_equal(list.count, 1);
	assert_true(list.rows[0].doomed.bits[0] == 0xf8 && list.rows[0].gone.bits[0] == 0xfc);
	pack_list_release(&list);
	assert_code(f, catalog_gc_pack(f->c, 99, 1, &list, &f->err), ERR_FENCED);
	assert_code(f, catalog_gc_pack(f->c, reader.token, 1, &list, &f->err), ERR_INTERNAL);
	assert_code(f, catalog_gc_pack(f->c, token, 2, &list, &f->err), ERR_NOT_FOUND);
	assert_ok(f, catalog_gc_pack(f->c, token, 1, &list, &f->err));
	assert_true(list.count == 1 && list.rows[0].doomed.nbytes == 2);
	pack_list_release(&list);
	map(&m, 1, 0x3f8);
	assert_nothing(f, catalog_gc_dropped(f->c, 99, 1, &m.bits, 9, &a, &f->err), ERR_FENCED);
	assert_nothing(f, catalog_gc_dropped(f->c, reader.token, 1, &m.bits, 9, &a, &f->err),
		       ERR_INTERNAL);
	assert_nothing(f, catalog_gc_dropped(f->c, token, 2, &m.bits, 9, &a, &f->err),
		       ERR_NOT_FOUND);
	assert_nothing(f, catalog_gc_dropped(f->c, token, 1, &m.bits, 0, &a, &f->err),
		       ERR_INTERNAL); /* two slots are left, so there is a file */
	map(&m, 1, 0x3fc); /* slot 2 is gone but not doomed */
	assert_nothing(f, catalog_gc_dropped(f->c, token, 1, &m.bits, 9, &a, &f->err),
		       ERR_INTERNAL);
	map(&m, 1, 0x83f8); /* beyond its slots */
	assert_nothing(f, catalog_gc_dropped(f->c, token, 1, &m.bits, 9, &a, &f->err),
		       ERR_INTERNAL);
	/* a part, then the rest; damage of what is dropped goes with it */
	map(&m, 1, 0x0f8);
	assert_ok(f, catalog_gc_dropped(f->c, token, 1, &m.bits, 4000, &a, &f->err));
	assert_map(f, 1, "gone", "FC03");
	assert_map(f, 1, "doomed", "0003");
	assert_map(f, 1, "damaged", "0103");
	assert_int_equal(help_number(f, "SELECT bytes FROM pack"), 4000);
	assert_nothing(f, catalog_gc_dropped(f->c, token, 1, &m.bits, 4000, &a, &f->err),
		       ERR_INTERNAL); /* dropped already */
	map(&m, 1, 0x300);
	assert_ok(f, catalog_gc_dropped(f->c, token, 1, &m.bits, 3000, NULL, &f->err));
	assert_map(f, 1, "doomed", "");
	assert_int_equal(help_number(f, "SELECT count(*) FROM audit"), 1);
	help_check(f);
	/* the last ones: the row goes, and only without a file */
	help_sql(f, "DELETE FROM point; UPDATE pack SET gone = x'ff03', doomed = x'0300'");
	map(&m, 1, 0x003);
	assert_nothing(f, catalog_gc_dropped(f->c, token, 1, &m.bits, 3000, &a, &f->err),
		       ERR_INTERNAL);
	assert_ok(f, catalog_gc_dropped(f->c, token, 1, &m.bits, 0, &a, &f->err));
	assert_int_equal(help_number(f, "SELECT count(*) FROM pack"), 0);
	assert_int_equal(help_number(f, "SELECT next_pack FROM meta"), 2);
	help_check(f);
}

static bool state_has(struct fixture *f, uint32_t n, bool expired)
{
	uint8_t id[POINT_ID_LEN];
	struct state st = { 0 };
	bool found = false;
	size_t i;

	help_id(id, n);
	assert_ok(f, catalog_state_read(f->c, &st, &f->err));
	for (i = 0; i < st.npoints; i++)
		found |= memcmp(st.points[i].id, id, POINT_ID_LEN) == 0 &&
			 st.points[i].expired == expired;
	state_release(&st);
	return found;
}

/* A whole prune of one point of two, opened again after each step; the expired point stays known until its manifest is
 * out of the file. */
static void test_run(void **state)
{
	struct fixture *f = *state;
	struct lists l;
	struct map m;
	uint64_t token, n = 0;
	struct slot_bits first;

	help_backup(f, "a", 1, 1);
	help_backup(f, "a", 2, 2);
	token = help_maintenance(f);
	forget(f, 1, 20);
	assert_true(state_has(f, 1, false));
	assert_ok(f, roots(f, token, 20, &l));
	lists_release(&l);
	help_again(f);
	assert_true(state_has(f, 1, true));
	/* a prune that ended here: the next one is told of it again */
	assert_ok(f, roots(f, token, 5, &l));
	assert_int_equal(l.expired.count, 1);
	lists_release(&l);
	first = (struct slot_bits){ .pack = 1 };
	assert_ok(f, catalog_gc_condemn(f->c, token, &first, 1, &n, &f->err));
	help_again(f);
	help_check(f);
	assert_int_equal(help_number(f, "SELECT condemn_gen <> 0 FROM meta"), 1);
	assert_ok(f, catalog_gc_settle(f->c, token, NULL, 0, &n, &f->err));
	assert_int_equal(n, 10);
	help_again(f);
	help_check(f);
	assert_int_equal(help_number(f, "SELECT count(*) FROM point"), 1);
	assert_int_equal(help_number(f, "SELECT count(*) FROM disk"), 2);
	assert_true(state_has(f, 1, true));
	/* other slots of the pack first: the manifest, slot 0, is still there */
	map(&m, 1, 0x3fe);
	assert_ok(f, catalog_gc_dropped(f->c, token, 1, &m.bits, 77, NULL, &f->err));
	assert_true(state_has(f, 1, true));
	map(&m, 1, 0x001);
	assert_ok(f, catalog_gc_dropped(f->c, token, 1, &m.bits, 0, NULL, &f->err));
	help_again(f);
	assert_false(state_has(f, 1, true));
	assert_int_equal(help_number(f, "SELECT count(*) FROM tomb"), 0);
	assert_ok(f, catalog_lease_end(f->c, token, &f->err));
	help_check(f);
}

/* The lease ended by somebody else between any two steps: each later one is ERR_FENCED and changes nothing. */
static void test_fenced(void **state)
{
	struct fixture *f = *state;
	struct slot_bits all = { .pack = 1 };
	struct session_done none = { 0 };
	struct object_ref ref = { .locator = locator_make(1, 0) };
	struct lease *older = NULL;
	struct pack_list list = { 0 };
	struct lists l;
	struct map m;
	uint64_t token, n = 0;
	size_t count = 0;

	help_backup(f, "a", 1, 1);
	token = help_maintenance(f);
	assert_ok(f, catalog_gc_condemn(f->c, token, &all, 1, &n, &f->err));
	assert_ok(f, catalog_lease_end(f->c, token, &f->err));
	map(&m, 1, 1);
	assert_nothing(f, roots(f, token, 99, &l), ERR_FENCED);
	assert_nothing(f, catalog_gc_condemn(f->c, token, &all, 1, &n, &f->err), ERR_FENCED);
	assert_nothing(f, catalog_gc_older(f->c, token, &older, &count, &f->err), ERR_FENCED);
	assert_nothing(f, catalog_gc_settle(f->c, token, &all, 1, &n, &f->err), ERR_FENCED);
	assert_nothing(f, catalog_gc_pack(f->c, token, 1, &list, &f->err), ERR_FENCED);
	assert_nothing(f, catalog_gc_dropped(f->c, token, 1, &m.bits, 9, NULL, &f->err),
		       ERR_FENCED);
	assert_nothing(f, catalog_pack_replaced(f->c, token, 1, 9, NULL, 0, &f->err), ERR_FENCED);
	assert_nothing(f, catalog_state_publish(f->c, token, &none, &ref, NULL, NULL, &f->err),
		       ERR_FENCED);
}

static void test_replaced(void **state)
{
	struct fixture *f = *state;
	const uint32_t good[] = { 0, 9 }, bad[] = { 1, 10 };
	uint64_t token, other = help_session(f, "b");

	help_backup(f, "a", 1, 1);
	token = help_maintenance(f);
	help_sql(f, "UPDATE pack SET damaged = x'0302'");
	assert_nothing(f, catalog_pack_replaced(f->c, other, 1, 9, good, 2, &f->err), ERR_INTERNAL);
	assert_nothing(f, catalog_pack_replaced(f->c, token, 7, 9, good, 2, &f->err),
		       ERR_NOT_FOUND);
	assert_nothing(f, catalog_pack_replaced(f->c, token, 1, 0, good, 2, &f->err), ERR_INVALID);
	assert_nothing(f, catalog_pack_replaced(f->c, token, 1, 9, bad, 2, &f->err), ERR_INVALID);
	assert_ok(f, catalog_pack_replaced(f->c, token, 1, 9, good, 2, &f->err));
	assert_map(f, 1, "damaged", "0200");
	assert_int_equal(help_number(f, "SELECT bytes FROM pack"), 9);
	assert_ok(f, catalog_pack_replaced(f->c, token, 1, 11, NULL, 0, &f->err));
	assert_int_equal(help_number(f, "SELECT bytes FROM pack"), 11);
	assert_nothing(f, catalog_pack_set_verified(f->c, 7, 55, &f->err), ERR_NOT_FOUND);
	assert_nothing(f, catalog_pack_set_verified(f->c, 1, -1, &f->err), ERR_INVALID);
	assert_ok(f, catalog_pack_set_verified(f->c, 1, 55, &f->err));
	assert_int_equal(help_number(f, "SELECT verified FROM pack"), 55);
}

/* A map of another length than its slots want is damage, whoever meets it. */
static void test_bad_rows(void **state)
{
	struct fixture *f = *state;
	struct slot_bits all = { .pack = 1 };
	struct map m;
	struct pack_list list = { 0 };
	uint64_t token, n = 0;

	help_backup(f, "a", 1, 1);
	token = help_maintenance(f);
	map(&m, 1, 1);
	help_sql(f, "UPDATE pack SET doomed = x'01'");
	assert_nothing(f, catalog_gc_condemn(f->c, token, &all, 1, &n, &f->err), ERR_DAMAGED);
	assert_nothing(f, catalog_gc_dropped(f->c, token, 1, &m.bits, 9, NULL, &f->err),
		       ERR_DAMAGED);
	assert_code(f, catalog_gc_doomed(f->c, &list, &f->err), ERR_DAMAGED);
	assert_code(f, catalog_gc_pack(f->c, token, 1, &list, &f->err), ERR_DAMAGED);
	help_sql(f, "UPDATE pack SET doomed = NULL, condemned = x'01'");
	assert_nothing(f, catalog_gc_settle(f->c, token, NULL, 0, &n, &f->err), ERR_DAMAGED);
}

static void test_without_memory(void **state)
{
	struct fixture *f = *state;
	struct slot_bits all = { .pack = 1 };
	struct lists l = { 0 };
	uint64_t token, n = 0;
	unsigned at;
	int r = ERR_NOMEM;

	help_backup(f, "a", 1, 1);
	forget(f, 1, 20);
	help_backup(f, "a", 2, 2);
	token = help_maintenance(f);
	for (at = 1; r < 0 && at < 100; at++) {
		char *before = help_rows(f), *after;

		mem_fail_after(at);
		r = roots(f, token, 20, &l);
		mem_fail_after(0);
		after = help_rows(f);
		assert_true(r == 0 || (r == ERR_NOMEM && strcmp(before, after) == 0));
		free(before);
		free(after);
	}
	assert_true(r == 0 && at > 10);
	lists_release(&l);
	for (r = ERR_NOMEM, at = 1; r < 0 && at < 20; at++) {
		mem_fail_after(at);
		r = catalog_gc_condemn(f->c, token, &all, 1, &n, &f->err);
		mem_fail_after(0);
		assert_true(r == 0 || r == ERR_NOMEM);
	}
	assert_true(r == 0 && at > 2);
	for (r = ERR_NOMEM, at = 1; r < 0 && at < 20; at++) {
		mem_fail_after(at);
		r = catalog_gc_settle(f->c, token, NULL, 0, &n, &f->err);
		mem_fail_after(0);
		assert_true(r == 0 || r == ERR_NOMEM);
	}
	assert_true(r == 0 && at > 2);
	help_check(f);
}

/* Packs of 1000 slots, and points whose manifests are in the first ones. */
static void many_fill(struct fixture *f, unsigned packs, uint8_t (*ids)[POINT_ID_LEN],
		      unsigned points)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	char sql[512];
	unsigned i;

	snprintf(sql, sizeof(sql),
		 "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %u)"
		 " INSERT INTO pack (number, state, token, kind, slots, bytes, published)"
		 " SELECT i, 2, 0, 1, 1000, 5000, 1 FROM n; UPDATE meta SET next_pack = %u; BEGIN",
		 packs, packs + 1);
	help_sql(f, sql);
	assert_ok(f, sql_query(f->c, &s, &f->err,
			       "INSERT INTO point (id, manifest_locator, manifest_id, state,"
			       " name, time, time_text, sequence, generation, kind,"
			       " consistency, stored) VALUES (?1, (?2 << 24) + 3, zeroblob(32),"
			       " 1, 'n' || (?2 % 100), ?2, strftime('%Y-%m-%dT%H:%M:%SZ', ?2,"
			       " 'unixepoch'), ?2, 1, 1, 1, 1)",
			       ""));
	for (i = 0; i < points; i++) {
		help_id(ids[i], i + 1);
		assert_ok(f, sql_bind(f->c, s, &f->err, "bu", ids[i], (size_t)POINT_ID_LEN,
				      (uint64_t)i + 1));
		assert_ok(f, sql_finish(f->c, s, &f->err));
	}
	snprintf(sql, sizeof(sql), "UPDATE meta SET next_sequence = %u; COMMIT", points + 1);
	help_sql(f, sql);
}

static bool many_print;
#define STEP(what, call)                                                                           \
	do {                                                                                       \
		uint64_t start_ = time_mono_ns();                                                  \
		assert_ok(f, call);                                                                \
		if (many_print)                                                                    \
			printf("%s %.2f s\n", what, (double)(time_mono_ns() - start_) / 1e9);      \
	} while (0)

/* 4000 packs and 1000 points at once; LIVEPOINT_BIG: 100 000 and 12 000, and the seconds are printed. */
static void test_many(void **state)
{
	struct fixture *f = *state;
	unsigned packs, points, i;
	cleanup_free struct slot_bits *maps = NULL;
	cleanup_free uint8_t *ids = NULL;
	uint8_t mark[125];
	struct lists l;
	uint64_t token, n = 0;

	many_print = getenv("LIVEPOINT_BIG") != NULL;
	packs = many_print ? 100000 : 4000;
	points = many_print ? 12000 : 1000;
	maps = calloc(packs, sizeof(*maps));
	ids = calloc(points, POINT_ID_LEN);
	assert_true(maps && ids);
	many_fill(f, packs, (uint8_t(*)[POINT_ID_LEN])ids, points);
	memset(mark, 0x5a, sizeof(mark));
	for (i = 0; i < packs; i++)
		maps[i] = (struct slot_bits){ i + 1, sizeof(mark), mark };
	token = help_maintenance(f);
	STEP("forget", catalog_forget(f->c, (const uint8_t(*)[POINT_ID_LEN])ids, points - 1, 10, 20,
				      NULL, &f->err));
	STEP("roots", roots(f, token, 20, &l));
	assert_int_equal(l.expired.count, points - 1);
	assert_int_equal(l.packs.count, packs);
	lists_release(&l);
	STEP("condemn", catalog_gc_condemn(f->c, token, maps, packs, &n, &f->err));
	assert_int_equal(n, (uint64_t)packs * 500);
	memset(mark, 0xff, sizeof(mark)); /* the first half is all taken back */
	STEP("settle", catalog_gc_settle(f->c, token, maps, packs / 2, &n, &f->err));
	assert_int_equal(n, (uint64_t)(packs - packs / 2) * 500);
	assert_int_equal(help_number(f, "SELECT count(*) FROM point"), 1);
	assert_int_equal(help_number(f, "SELECT count(*) FROM tomb"), points - 1);
	STEP("doomed", catalog_gc_doomed(f->c, &l.packs, &f->err));
	assert_int_equal(l.packs.count, packs - packs / 2);
	pack_list_release(&l.packs);
	help_check(f);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, help_setup, help_teardown)
	const struct CMUnitTest tests[] = {
		T(test_roots),	  T(test_condemn),	  T(test_condemn_state),
		T(test_settle),	  T(test_taken_back),	  T(test_drop),
		T(test_run),	  T(test_fenced),	  T(test_replaced),
		T(test_bad_rows), T(test_without_memory), T(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
