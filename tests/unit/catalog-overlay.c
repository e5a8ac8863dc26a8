// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Rows of overlays: a point under one is forgotten but never expired, a seal moves the row with its point or not at all,
 * names and ids are one each, a rebuild takes them back.
 */
#include "tests/unit/catalog-help.h"

#include "base/banned.h"

static struct overlay_row row_of(const char *id, const char *name, uint32_t point)
{
	struct overlay_row o = { .created = 100, .layer = 1 };

	str_copy(o.id, sizeof(o.id), id);
	str_copy(o.name, sizeof(o.name), name);
	help_id(o.point, point);
	return o;
}

static int add(struct fixture *f, const char *id, const char *name, uint32_t point)
{
	struct overlay_row o = row_of(id, name, point);

	return catalog_overlay_insert(f->c, &o, NULL, &f->err);
}

static void forget(struct fixture *f, uint32_t point)
{
	uint8_t id[1][POINT_ID_LEN];

	help_id(id[0], point);
	assert_ok(f, catalog_forget(f->c, (const uint8_t(*)[POINT_ID_LEN])id, 1, 10, 10, NULL,
				    &f->err));
}

/* How many points a prune would expire now; rolled back. */
static size_t expiring(struct fixture *f)
{
	uint64_t token = help_maintenance(f);
	struct point_list roots = { 0 }, expired = { 0 };
	struct pack_list packs = { 0 };
	size_t n;

	assert_ok(f, catalog_gc_preview(f->c, token, 1000, &roots, &expired, &packs, &f->err));
	n = expired.count;
	point_list_release(&roots);
	point_list_release(&expired);
	pack_list_release(&packs);
	assert_ok(f, catalog_lease_end(f->c, token, &f->err));
	return n;
}

static void test_rows(void **state)
{
	struct fixture *f = *state;
	struct overlay_row one, *all = NULL;
	struct audit a = HELP_AUDIT("discard");
	size_t n = 9;

	help_backup(f, "a", 5, 1);
	assert_ok(f, catalog_overlays(f->c, &all, &n, &f->err));
	assert_int_equal(n, 0);
	free(all);
	assert_ok(f, add(f, "o00000001", "lab", 1));
	assert_ok(f, add(f, "o00000002", "", 1));
	assert_ok(f, add(f, "o00000003", "", 1));
	assert_nothing(f, add(f, "o00000001", "", 1), ERR_EXISTS);
	assert_nothing(f, add(f, "o00000004", "lab", 1), ERR_EXISTS);
	assert_nothing(f, add(f, "o00000004", "o00000009", 1), ERR_INVALID);
	assert_nothing(f, add(f, "o00000004", "-x", 1), ERR_INVALID);
	assert_nothing(f, add(f, "x00000004", "", 1), ERR_INVALID);
	assert_nothing(f, add(f, "o0000000A", "", 1), ERR_INVALID);
	assert_nothing(f, add(f, "o00000004", "", 2), ERR_NOT_FOUND);
	assert_ok(f, catalog_overlay_find(f->c, "lab", &one, &f->err));
	assert_string_equal(one.id, "o00000001");
	assert_true(one.layer == 1 && one.created == 100 && !one.going && !one.sealed);
	assert_ok(f, catalog_overlay_find(f->c, "o00000002", &one, &f->err));
	assert_string_equal(one.name, "");
	assert_code(f, catalog_overlay_find(f->c, "", &one, &f->err), ERR_NOT_FOUND);

	/* going: no longer found, its name is free, its row stays until it is deleted */
	assert_ok(f, catalog_overlay_delete(f->c, "o00000001", &f->err)); /* is there: nothing */
	assert_ok(f, catalog_overlay_find(f->c, "lab", &one, &f->err));
	assert_ok(f, catalog_overlay_going(f->c, "o00000001", &a, &f->err));
	assert_int_equal(help_number(f, "SELECT count(*) FROM audit WHERE command = 'discard'"), 1);
	assert_code(f, catalog_overlay_going(f->c, "o00000001", &a, &f->err), ERR_NOT_FOUND);
	assert_int_equal(help_number(f, "SELECT count(*) FROM audit"), 1);
	assert_code(f, catalog_overlay_find(f->c, "lab", &one, &f->err), ERR_NOT_FOUND);
	assert_ok(f, add(f, "o00000004", "lab", 1));
	help_again(f);
	assert_ok(f, catalog_overlays(f->c, &all, &n, &f->err));
	assert_int_equal(n, 4);
	assert_true(all[0].going && mem_is_zero(all[0].point, POINT_ID_LEN) && !all[3].going);
	free(all);
	assert_ok(f, catalog_overlay_delete(f->c, "o00000001", &f->err));
	assert_ok(f, catalog_overlay_delete(f->c, "o00000001", &f->err));
	assert_int_equal(help_number(f, "SELECT count(*) FROM overlay"), 3);
	help_check(f);
}

static void test_holds_its_point(void **state)
{
	struct fixture *f = *state;
	struct lease reader = help_spec(LEASE_READER, ""), ingest = help_spec(LEASE_INGEST, "b");
	struct pack_list packs = { 0 };
	struct point_row parent = { 0 };
	bool has_parent = false;
	uint8_t id[POINT_ID_LEN];

	help_id(id, 1);
	help_backup(f, "a", 5, 1);
	help_backup(f, "a", 6, 2);
	assert_ok(f, add(f, "o00000001", "", 1));
	forget(f, 1);
	forget(f, 2);
	assert_int_equal(expiring(f), 1); /* point 2 */
	help_check(f);

	/* a forgotten point under an overlay can be pinned, and be what a seal is compared with */
	assert_ok(f, catalog_lease_begin(f->c, &reader, &f->err));
	assert_ok(f, catalog_pin(f->c, reader.token, id, &f->err));
	assert_ok(f, catalog_unpin(f->c, reader.token, id, &f->err));
	assert_ok(f, catalog_session_begin(f->c, &ingest, id, &packs, &has_parent, &parent, NULL,
					   &f->err));
	assert_true(has_parent);
	assert_memory_equal(parent.id, id, POINT_ID_LEN);
	pack_list_release(&packs);
	point_row_release(&parent);
	assert_ok(f, catalog_lease_end(f->c, ingest.token, &f->err));
	assert_ok(f, catalog_overlay_going(f->c, "o00000001", NULL, &f->err));
	assert_code(f, catalog_pin(f->c, reader.token, id, &f->err), ERR_NOT_FOUND);
	assert_code(f,
		    catalog_session_begin(f->c, &ingest, id, &packs, &has_parent, &parent, NULL,
					  &f->err),
		    ERR_NOT_FOUND);
	assert_ok(f, catalog_lease_end(f->c, reader.token, &f->err));
	assert_int_equal(expiring(f), 2); /* also while the row is going */
}

/* Prune goes through with rows of both kinds, and takes the point of one that is going. */
static void test_prune(void **state)
{
	struct fixture *f = *state;
	struct point_list roots = { 0 }, expired = { 0 };
	struct pack_list packs = { 0 };
	uint64_t token, doomed = 0;

	help_backup(f, "a", 5, 1);
	help_backup(f, "a", 6, 2);
	assert_ok(f, add(f, "o00000001", "", 1));
	assert_ok(f, add(f, "o00000002", "", 2));
	forget(f, 1);
	forget(f, 2);
	assert_ok(f, catalog_overlay_going(f->c, "o00000002", NULL, &f->err));
	token = help_maintenance(f);
	assert_ok(f, catalog_gc_roots(f->c, token, 1000, &roots, &expired, &packs, &f->err));
	assert_int_equal(expired.count, 1);
	assert_int_equal(roots.count, 1);
	help_check(f);
	assert_nothing(f, add(f, "o00000003", "", 2), ERR_NOT_FOUND); /* too late */
	assert_ok(f, catalog_gc_settle(f->c, token, NULL, 0, &doomed, &f->err));
	assert_int_equal(help_number(f, "SELECT count(*) FROM point"), 1);
	assert_int_equal(help_number(f, "SELECT count(*) FROM overlay"), 2);
	help_check(f);
	point_list_release(&roots);
	point_list_release(&expired);
	pack_list_release(&packs);
}

/* Publishes point n of "a" as what the overlay became. */
static int seal(struct fixture *f, uint32_t n, const char *id, uint32_t on, uint32_t layer,
		uint32_t next)
{
	struct pack_done pack = { .slots = 10, .bytes = 5000 };
	struct overlay_sealed sealed = { .layer = layer, .next = next };
	struct session_done done = { .packs = &pack, .npacks = 1, .overlay = &sealed };
	uint64_t token = help_session(f, "a");
	int64_t time = 50;
	int r;

	str_copy(sealed.id, sizeof(sealed.id), id);
	help_id(sealed.point, on);
	assert_ok(f, catalog_pack_begin(f->c, token, PACK_DATA, &pack.number, &f->err));
	r = help_publish(f, token, "a", &time, n, &done, NULL, 0);
	if (r < 0)
		assert_ok(f, catalog_lease_end(f->c, token, NULL));
	return r;
}

static void test_seal(void **state)
{
	struct fixture *f = *state;
	struct overlay_row o, *all = NULL;
	uint8_t id[POINT_ID_LEN];
	size_t n = 0;

	help_backup(f, "a", 5, 1);
	assert_ok(f, add(f, "o00000001", "lab", 1));
	/* attached: the row moves with the point */
	assert_ok(f, seal(f, 2, "o00000001", 1, 1, 2));
	assert_ok(f, catalog_overlay_find(f->c, "lab", &o, &f->err));
	help_id(id, 2);
	assert_true(o.layer == 2 && !o.sealed && memcmp(o.point, id, POINT_ID_LEN) == 0);
	help_check(f);
	/* somebody who began before that publishes nothing */
	assert_code(f, seal(f, 3, "o00000001", 1, 1, 2), ERR_LOCKED);
	assert_code(f, seal(f, 3, "o00000001", 2, 1, 3), ERR_LOCKED);
	assert_code(f, seal(f, 3, "o00000001", 1, 1, 0), ERR_LOCKED);
	assert_code(f, seal(f, 3, "o00000007", 2, 2, 3), ERR_LOCKED);
	assert_code(f, seal(f, 3, "o00000001", 2, 2, 2), ERR_INTERNAL);
	assert_int_equal(help_number(f, "SELECT count(*) FROM point"), 2);
	assert_ok(f, catalog_overlay_find(f->c, "lab", &o, &f->err));
	assert_int_equal(o.layer, 2);
	/* not attached: it is going, and says what it became */
	assert_ok(f, seal(f, 3, "o00000001", 2, 2, 0));
	assert_code(f, catalog_overlay_find(f->c, "lab", &o, &f->err), ERR_NOT_FOUND);
	assert_ok(f, catalog_overlays(f->c, &all, &n, &f->err));
	help_id(id, 3);
	assert_true(n == 1 && all[0].going && all[0].sealed);
	assert_memory_equal(all[0].sealed_as, id, POINT_ID_LEN);
	free(all);
	assert_code(f, seal(f, 4, "o00000001", 2, 2, 0), ERR_LOCKED);
	assert_int_equal(help_number(f, "SELECT count(*) FROM point"), 3);
	help_check(f);
}

static void rebuilt_point(struct fixture *f, uint32_t n, int64_t time)
{
	struct rebuilt_pack p = { .number = n, .kind = PACK_MAP, .slots = 10, .bytes = 500 };
	struct object_ref ref = { .locator = locator_make(n, 0) };
	struct manifest m = help_manifest("a", time, n, n + 1, n);
	uint8_t id[POINT_ID_LEN];

	help_id(id, n);
	assert_ok(f, catalog_rebuild_pack(f->c, &p, &f->err));
	assert_ok(f, catalog_rebuild_point(f->c, id, &ref, &m, &f->err));
}

static void test_rebuild(void **state)
{
	struct fixture *f = *state;
	struct state_point points[2] = { { .expired = true, .forgotten = 5, .until = 6 },
					 { .forgotten = 7, .until = 8 } };
	struct state st = { .generation = 40,
			    .next_pack = 50,
			    .next_sequence = 60,
			    .next_segment = 70,
			    .points = points,
			    .npoints = 2 };
	struct overlay_row o = row_of("o00000001", "", 1), *all = NULL;
	size_t n = 0;

	memcpy(st.uuid, help_uuid, UUID_LEN);
	help_id(points[0].id, 1);
	help_id(points[1].id, 2);
	assert_code(f, catalog_rebuild_overlay(f->c, &o, &f->err), ERR_INTERNAL);
	assert_ok(f, catalog_rebuild_begin(f->c, &f->err));
	rebuilt_point(f, 1, 5);
	rebuilt_point(f, 2, 6);
	assert_ok(f, catalog_rebuild_overlay(f->c, &o, &f->err));
	assert_code(f, catalog_rebuild_overlay(f->c, &o, &f->err), ERR_EXISTS);
	o = row_of("o00000002", "lab", 2);
	o.layer = 4;
	assert_ok(f, catalog_rebuild_overlay(f->c, &o, &f->err));
	o = row_of("o00000003", "", 77);
	assert_code(f, catalog_rebuild_overlay(f->c, &o, &f->err), ERR_NOT_FOUND);
	assert_ok(f, catalog_rebuild_state(f->c, &st, NULL, &f->err));
	assert_ok(f, catalog_rebuild_end(f->c, NULL, &f->err));
	/* the one on the forgotten point is back, the one on the expired point cannot be */
	assert_ok(f, catalog_overlays(f->c, &all, &n, &f->err));
	assert_true(n == 1 && all[0].layer == 4 && !all[0].going);
	assert_string_equal(all[0].id, "o00000002");
	free(all);
	help_check(f);
}

/* Version 2's catalog with a point gets the table, and keeps all else. */
static void test_version_2(void **state)
{
	struct fixture *f = *state;

	help_backup(f, "a", 5, 1);
	help_sql(f, "DROP TABLE overlay; PRAGMA user_version = 2");
	help_again(f);
	assert_int_equal(help_number(f, "PRAGMA user_version"), CATALOG_SCHEMA_VERSION);
	assert_int_equal(help_number(f, "SELECT count(*) FROM point"), 1);
	assert_ok(f, add(f, "o00000001", "lab", 1));
	help_check(f);
}

/* The rules of catalog_check each find what they are for. */
static void test_check(void **state)
{
	static const char *const wrong[] = {
		"UPDATE point SET state = 3, forgotten = 1",
		"UPDATE overlay SET id = 'oX0000001'",
	};
	struct fixture *f = *state;
	size_t i;

	help_backup(f, "a", 5, 1);
	assert_ok(f, add(f, "o00000001", "", 1));
	for (i = 0; i < ARRAY_SIZE(wrong); i++) {
		cleanup_buf struct buf b = BUF_INIT;

		help_sql(f, "BEGIN");
		help_sql(f, wrong[i]);
		help_sql(f, "COMMIT");
		assert_int_equal(catalog_check(f->c, &b, &f->err), 1);
		assert_non_null(strstr(buf_str(&b), "overlay o"));
		help_sql(f, "UPDATE point SET state = 1, forgotten = 0");
	}
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, help_setup, help_teardown)
	const struct CMUnitTest tests[] = {
		T(test_rows),	 T(test_holds_its_point), T(test_prune), T(test_seal),
		T(test_rebuild), T(test_version_2),	  T(test_check),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
