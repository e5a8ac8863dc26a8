// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Prune, step by step: what goes, what stays, who is waited for, what ends it, what it refuses.
 *
 * Over 800 lines: the steps share the repositories that they are set up with, and the counts that they look at.
 */
#include "tests/unit/repo-help.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include "catalog/gc.h"
#include "repo/gc.h"
#include "repo/gc-internal.h"
#include "repo/retention.h"

#include "base/banned.h"

#define SIZE (12 * MiB)
#define POINTS 4u

struct world {
	char dir[64];
	struct repo *r;
	uint8_t *data[POINTS]; /* of each generation */
	struct session_result points[POINTS];
	unsigned notes;
	char note[2048]; /* the last one */
};

static void note(void *opaque, const char *line)
{
	struct world *w = opaque;

	w->notes++;
	str_copy(w->note, sizeof(w->note), line);
}

static int prune_with(struct world *w, struct prune_spec *spec, struct prune_result *out,
		      struct err *err)
{
	spec->note = note;
	spec->opaque = w;
	return repo_prune(w->r, spec, out, err);
}

static struct prune_result prune(struct world *w)
{
	struct err err = ERR_INIT;
	struct prune_spec spec = { .min_doomed = PRUNE_MIN_DOOMED };
	struct prune_result res;

	ok(prune_with(w, &spec, &res, &err));
	return res;
}

static void forget(struct world *w, const struct session_result *p)
{
	struct err err = ERR_INIT;
	struct forget_plan plan = { 0 };
	const char *text = p->point;

	ok(repo_forget_points(w->r, &text, 1, 0, false, &plan, &err));
	assert_int_equal(plan.going, 1);
	forget_plan_release(&plan);
}

/* Four generations: a third of the chunks is new in each, a third is shared with the one before, the rest with all. */
static void begin(struct world *w, bool encrypted, unsigned points)
{
	memset(w, 0, sizeof(*w));
	help_dir(w->dir);
	help_init(w->dir, encrypted);
	w->r = help_open(w->dir, REPO_WRITE, 2);
	for (unsigned i = 0; i < POINTS; i++) {
		w->data[i] = malloc(SIZE);
		assert_non_null(w->data[i]);
		help_random(w->data[i], SIZE / 3, 100 + i);
		help_text(w->data[i] + SIZE / 3, SIZE / 3, 200 + i / 2);
		help_text(w->data[i] + 2 * SIZE / 3, SIZE / 3, 300);
	}
	for (unsigned i = 0; i < points; i++)
		help_backup(w->r, "a", w->data[i], SIZE, &w->points[i]);
}

static void tell(void *opaque, const char *line)
{
	(void)opaque;
	print_message("leftover: %s\n", line);
}

static void no_leftovers(struct world *w)
{
	struct err err = ERR_INIT;

	assert_int_equal(repo_leftovers(w->r, tell, NULL, &err), 0);
}

static void end(struct world *w)
{
	if (w->r)
		repo_close(w->r);
	for (unsigned i = 0; i < POINTS; i++)
		free(w->data[i]);
	help_remove(w->dir);
}

static struct catalog_totals totals(struct world *w)
{
	struct err err = ERR_INIT;
	struct catalog_totals t;
	struct catalog *c;

	ok(repo_catalog_get(w->r, &c, &err));
	ok(catalog_totals(c, &t, &err));
	repo_catalog_put(w->r, c);
	return t;
}

static void sql(struct world *w, const char *text)
{
	cleanup_free char *path = str_printf("%s/catalog.sqlite", w->dir);
	sqlite3 *db;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	sqlite3_busy_timeout(db, 10000);
	if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s: %s", text, sqlite3_errmsg(db));
	sqlite3_close(db);
}

static uint64_t disk_use(struct world *w)
{
	struct err err = ERR_INIT;
	cleanup_free uint64_t *numbers = NULL;
	uint64_t bytes = 0;
	size_t count = 0;

	ok(store_packs_list(w->r->store, &numbers, &count, &err));
	for (size_t i = 0; i < count; i++) {
		cleanup_free char *path = str_printf("%s/packs/%02x/%012llx.pack", w->dir,
						     (unsigned)(numbers[i] & 0xff),
						     (unsigned long long)numbers[i]);
		struct stat st;

		assert_int_equal(stat(path, &st), 0);
		bytes += (uint64_t)st.st_size;
	}
	return bytes;
}

static void verify_all(struct world *w)
{
	struct err err = ERR_INIT;
	struct verify_spec spec = { .data = true };
	struct verify_result res;

	ok(repo_verify(w->r, &spec, &res, &err));
	assert_int_equal(res.findings, 0);
}

/* --- space comes back, nothing else changes --- */

static void space(bool encrypted)
{
	struct prune_result res;
	struct world w, fresh;
	uint64_t before;

	begin(&w, encrypted, POINTS);
	res = prune(&w);
	assert_int_equal(res.points, 0);
	assert_true(res.marked > 100);
	before = disk_use(&w);
	for (unsigned i = 0; i + 1 < POINTS; i++) {
		forget(&w, &w.points[i]);
		res = prune(&w);
		assert_int_equal(res.points, 1);
		assert_true(res.doomed > 60 && res.doomed == res.condemned);
		assert_true(res.bytes_freed > SIZE / 4);
		for (unsigned k = i + 1; k < POINTS; k++)
			help_compare(w.r, w.points[k].id, w.data[k], SIZE);
		no_leftovers(&w);
	}
	verify_all(&w);
	assert_int_equal(totals(&w).condemn_gen, 0);
	begin(&fresh, encrypted, 0);
	help_backup(fresh.r, "a", w.data[POINTS - 1], SIZE, &fresh.points[0]);
	assert_true(disk_use(&w) < before / 2);
	assert_true(disk_use(&w) < disk_use(&fresh) + disk_use(&fresh) / 20 + 64 * KiB);
	end(&fresh);

	/* what is gone is stored again, what is there is found */
	help_backup(w.r, "b", w.data[0], SIZE, &w.points[0]);
	assert_true(w.points[0].chunks_new >= 128 && w.points[0].chunks_index >= 32);
	help_compare(w.r, w.points[0].id, w.data[0], SIZE);
	repo_close(w.r);
	w.r = help_open(w.dir, REPO_WRITE, REPO_SERIAL);
	help_compare(w.r, w.points[0].id, w.data[0], SIZE);
	prune(&w);
	verify_all(&w);
	end(&w);
}

static void test_space_plain(void **state)
{
	(void)state;
	space(false);
}

static void test_space_encrypted(void **state)
{
	(void)state;
	space(true);
}

static void test_everything_goes(void **state)
{
	struct prune_result res;
	struct world w;

	(void)state;
	begin(&w, false, 2);
	forget(&w, &w.points[0]);
	forget(&w, &w.points[1]);
	res = prune(&w);
	assert_int_equal(res.points, 2);
	assert_int_equal(res.marked, 0);
	assert_true(disk_use(&w) < 4096); /* the state object */
	no_leftovers(&w);
	help_backup(w.r, "a", w.data[2], SIZE, &w.points[2]);
	help_compare(w.r, w.points[2].id, w.data[2], SIZE);
	end(&w);
}

/* --- the index follows what is stored --- */

static struct catalog_totals segments_checked(struct world *w)
{
	struct err err = ERR_INIT;
	struct catalog_totals t = totals(w);
	cleanup_free uint64_t *numbers = NULL;
	uint64_t records = 0, sum = 0;
	size_t count = 0;

	ok(store_segments_list(w->r->store, &numbers, &count, &err));
	assert_int_equal(count, t.segments);
	for (size_t i = 0; i < count; i++) {
		ok(store_segment_check(w->r->store, numbers[i], &err));
		ok(store_segment_records(w->r->store, numbers[i], &records, &err));
		sum += records;
	}
	assert_int_equal(sum, t.segment_records);
	return t;
}

/* Each generation brings 64 to 192 chunks, one segment; with a few generations nothing is merged by their number. */
static void test_index_shrinks(void **state)
{
	struct session_result p[2] = { 0 };
	struct catalog_totals t;
	struct world w;

	(void)state;
	begin(&w, false, 1);
	p[0] = w.points[0];
	for (unsigned i = 1; i < 12; i++) {
		help_random(w.data[0], 2 * SIZE / 3, 1000 + i);
		help_backup(w.r, "a", w.data[0], SIZE, &p[1]);
		forget(&w, &p[0]);
		prune(&w);
		p[0] = p[1];
		t = segments_checked(&w);
		/* 192 chunks are in use; at most as many again are remembered in vain */
		assert_in_range(t.segment_records, 192, 2 * 192);
		assert_in_range(t.segments, 1, 3);
	}
	no_leftovers(&w);
	/* what is left is found: nothing is stored again */
	help_backup(w.r, "b", w.data[0], SIZE, &p[1]);
	assert_int_equal(p[1].chunks_new, 0);
	assert_int_equal(p[1].chunks_index, SIZE / CHUNK);
	help_compare(w.r, p[1].id, w.data[0], SIZE);
	end(&w);
}

/* Nothing is used any more: no entry is left. */
static void test_index_empties(void **state)
{
	struct catalog_totals t;
	struct world w;

	(void)state;
	begin(&w, true, 3);
	for (unsigned i = 0; i < 3; i++)
		forget(&w, &w.points[i]);
	prune(&w);
	t = segments_checked(&w);
	assert_int_equal(t.segment_records, 0);
	assert_int_equal(t.segments, 1);
	help_backup(w.r, "a", w.data[3], SIZE, &w.points[3]);
	help_compare(w.r, w.points[3].id, w.data[3], SIZE);
	prune(&w);
	no_leftovers(&w);
	end(&w);
}

/* Which entries may go: dropped and doomed, not condemned; without a row only what has a number that was handed out. */
static void test_index_live(void **state)
{
	uint8_t gone[] = { 0x0f }, condemned[] = { 0x03 };
	struct pack_row rows[] = {
		{ .number = 5,
		  .slots = 8,
		  .gone = { .nbytes = 1, .bits = gone },
		  .condemned = { .nbytes = 1, .bits = condemned } },
		{ .number = 9, .slots = 8 },
	};
	struct index_live live = { .packs = { .rows = rows, .count = 2 }, .next_pack = 12 };

	(void)state;
	for (uint32_t slot = 0; slot < 20; slot++) {
		assert_int_equal(index_live_keeps(&live, locator_make(5, slot)),
				 slot < 2 || slot > 3);
		assert_true(index_live_keeps(&live, locator_make(9, slot)));
	}
	assert_false(index_live_keeps(&live, locator_make(4, 0)));
	assert_false(index_live_keeps(&live, locator_make(7, 0)));
	assert_false(index_live_keeps(&live, locator_make(11, 0)));
	assert_true(index_live_keeps(&live, locator_make(12, 0)));
	live.next_pack = 0; /* after a rebuild */
	assert_true(index_live_keeps(&live, locator_make(4, 0)));
}

/* --- a dry run says what the real one does, and changes nothing --- */

static void test_dry_run(void **state)
{
	struct err err = ERR_INIT;
	struct prune_spec spec = { .dry_run = true, .min_doomed = PRUNE_MIN_DOOMED };
	struct prune_result dry, res;
	struct catalog_totals before, after;
	struct world w;
	uint64_t use;

	(void)state;
	begin(&w, false, 3);
	prune(&w); /* so that both find the same state objects */
	forget(&w, &w.points[0]);
	forget(&w, &w.points[1]);
	before = totals(&w);
	use = disk_use(&w);
	ok(prune_with(&w, &spec, &dry, &err));
	after = totals(&w);
	assert_int_equal(before.generation, after.generation);
	assert_int_equal(before.next_pack, after.next_pack);
	assert_int_equal(disk_use(&w), use);
	no_leftovers(&w);
	res = prune(&w);
	assert_int_equal(dry.points, 2);
	assert_int_equal(res.points, 2);
	/* the real one stores a state object too, and drops the one before */
	assert_int_equal(dry.marked, res.marked + 1);
	assert_int_equal(dry.doomed + 1, res.doomed);
	assert_int_equal(dry.packs_removed + 1, res.packs_removed);
	assert_int_equal(dry.packs_rewritten, res.packs_rewritten);
	assert_true(dry.bytes_freed <= res.bytes_freed);
	assert_true(dry.bytes_freed + 8 * KiB > res.bytes_freed);
	end(&w);
}

/* --- who is waited for --- */

/* A backup that began before: nothing that it uses goes, and it is not refused. */
static void test_backup_beside(void **state)
{
	struct err err = ERR_INIT;
	struct session_spec spec = { .name = "b", .compression = -1 };
	struct publish_spec publish = { 0 };
	struct session_result b;
	struct prune_result res;
	struct repo_session *s;
	struct world w;

	(void)state;
	begin(&w, false, 2);
	ok(repo_session_begin(w.r, &spec, &s, &err));
	forget(&w, &w.points[0]);
	res = prune(&w);
	assert_true(res.waiting);
	assert_true(res.condemned > 60);
	assert_int_equal(res.doomed, 0);
	assert_true(w.notes == 1 && strstr(w.note, "'b'") && strstr(w.note, "--fence"));
	/* condemned slots are found by the index all the same: they were not gone at I2 */
	help_write_disk(s, "vda", w.data[0], SIZE);
	ok(repo_session_publish(s, &publish, &b, &err));
	assert_int_equal(b.chunks_new, 0);
	res = prune(&w);
	assert_false(res.waiting);
	assert_int_equal(res.points, 1);
	assert_true(res.doomed < 10); /* manifest, root, leaves of the forgotten point, state */
	help_compare(w.r, b.id, w.data[0], SIZE);
	help_compare(w.r, w.points[1].id, w.data[1], SIZE);
	verify_all(&w);
	no_leftovers(&w);
	end(&w);
}

/* A backup that begins after G5 stores again what is condemned, and is not waited for. */
static void test_backup_after(void **state)
{
	struct err err = ERR_INIT;
	struct session_spec spec = { .name = "b", .compression = -1 };
	struct session_spec late = { .name = "c", .compression = -1 };
	struct publish_spec publish = { 0 };
	struct session_result c;
	struct prune_result res;
	struct repo_session *s, *t;
	struct world w;

	(void)state;
	begin(&w, false, 2);
	ok(repo_session_begin(w.r, &spec, &s, &err));
	forget(&w, &w.points[0]);
	assert_true(prune(&w).waiting);
	ok(repo_session_begin(w.r, &late, &t, &err));
	help_write_disk(t, "vda", w.data[0], SIZE);
	repo_session_abort(s);
	res = prune(
		&w); /* c goes on: what was condemned before it goes, what is condemned now waits */
	assert_true(res.waiting);
	assert_int_equal(res.points, 1);
	assert_true(res.doomed > 60);
	ok(repo_session_publish(t, &publish, &c, &err));
	assert_true(c.chunks_new >= 64);
	help_compare(w.r, c.id, w.data[0], SIZE);
	prune(&w);
	help_compare(w.r, c.id, w.data[0], SIZE);
	verify_all(&w);
	end(&w);
}

/* Points that are open stay, whatever happens to them; then they go. */
static void test_reader_beside(void **state)
{
	struct err err = ERR_INIT;
	struct repo_point *p;
	struct repo_disk *d;
	struct prune_result res;
	struct world w;
	uint8_t back[4096];

	(void)state;
	begin(&w, false, 3);
	ok(repo_point_open(w.r, w.points[0].id, &p, &err));
	ok(repo_disk_open(p, NULL, &d, &err));
	forget(&w, &w.points[0]);
	forget(&w, &w.points[1]);
	for (unsigned i = 0; i < 10; i++) {
		res = prune(&w);
		assert_false(res.waiting);
		assert_int_equal(res.points, i == 0);
		store_drop_cache(w.r->store); /* footers of the new files */
		for (uint64_t at = i * 4096; at + 4096 < SIZE; at += SIZE / 50) {
			ok(repo_disk_read(d, back, sizeof(back), at, &err));
			assert_memory_equal(back, w.data[0] + at, sizeof(back));
		}
	}
	repo_disk_close(d);
	repo_point_close(p);
	res = prune(&w);
	assert_int_equal(res.points, 1);
	help_compare(w.r, w.points[2].id, w.data[2], SIZE);
	no_leftovers(&w);
	end(&w);
}

/* --- what ends or delays it --- */

static void test_stop(void **state)
{
	struct err err = ERR_INIT;
	volatile int stop = ERR_TERMINATED;
	struct prune_spec spec = { .stop = &stop };
	struct prune_result res;
	struct world w;

	(void)state;
	begin(&w, false, 2);
	forget(&w, &w.points[0]);
	assert_int_equal(prune_with(&w, &spec, &res, &err), ERR_TERMINATED);
	no_leftovers(&w);
	assert_int_equal(totals(&w).condemn_gen, 0);
	assert_int_equal(prune(&w).points, 1);
	help_compare(w.r, w.points[1].id, w.data[1], SIZE);
	end(&w);
}

static void test_limits(void **state)
{
	struct err err = ERR_INIT;
	struct prune_spec spec = { .max_rewrite = 1, .min_doomed = 0 };
	struct prune_result res;
	struct world w;

	(void)state;
	begin(&w, false, 2);
	forget(&w, &w.points[0]);
	ok(prune_with(&w, &spec, &res, &err));
	assert_true(res.packs_left >= 1 && res.bytes_left > SIZE / 4);
	/* condemned is not what is left: nothing is found anew, the list of work stays */
	spec.max_rewrite = 0;
	spec.min_doomed = 100;
	ok(prune_with(&w, &spec, &res, &err));
	assert_true(res.packs_left >= 1 && res.doomed == 1);
	spec.min_doomed = 1;
	ok(prune_with(&w, &spec, &res, &err));
	assert_int_equal(res.packs_left, 0);
	assert_int_equal(res.bytes_left, 0);
	assert_true(res.bytes_freed > SIZE / 4);
	help_compare(w.r, w.points[1].id, w.data[1], SIZE);
	/* a limit of bytes a second changes nothing else */
	spec.io_limit = 64 * MiB;
	forget(&w, &w.points[1]);
	ok(prune_with(&w, &spec, &res, &err));
	assert_int_equal(res.marked, 0);
	end(&w);
}

static void test_another_prune(void **state)
{
	struct err err = ERR_INIT;
	struct lease l = { .kind = LEASE_MAINTENANCE };
	struct prune_spec spec = { 0 };
	struct prune_result res;
	struct catalog *c;
	struct world w;
	int fd;

	(void)state;
	begin(&w, false, 1);
	ok(repo_catalog_get(w.r, &c, &err));
	ok(store_lock_make(w.r->store, l.lock_name, &fd, &err));
	ok(catalog_lease_begin(c, &l, &err));
	assert_int_equal(prune_with(&w, &spec, &res, &err), ERR_LOCKED);
	err_clear(&err);
	close(fd); /* its owner has died */
	ok(prune_with(&w, &spec, &res, &err));
	no_leftovers(&w);
	repo_catalog_put(w.r, c);
	end(&w);
}

static void test_fence(void **state)
{
	struct err err = ERR_INIT;
	struct session_spec spec = { .name = "b", .compression = -1 };
	struct publish_spec publish = { 0 };
	struct prune_spec fence = { .min_doomed = PRUNE_MIN_DOOMED };
	struct session_result b;
	struct prune_result res;
	struct repo_session *s;
	struct repo_point *p;
	struct lease *leases;
	struct catalog *c;
	struct world w;
	size_t count;

	(void)state;
	begin(&w, false, 2);
	ok(repo_point_open(w.r, w.points[1].id, &p, &err));
	ok(repo_session_begin(w.r, &spec, &s, &err));
	help_write_disk(s, "vda", w.data[3], SIZE);
	forget(&w, &w.points[0]);
	ok(repo_catalog_get(w.r, &c, &err));
	ok(catalog_leases(c, &leases, &count, &err));
	assert_int_equal(count, 2);
	for (size_t i = 0; i < count; i++) {
		fence.fence = leases[i].token;
		if (leases[i].kind != LEASE_READER)
			continue;
		assert_int_equal(prune_with(&w, &fence, &res, &err), ERR_REFUSED);
		err_clear(&err);
	}
	for (size_t i = 0; i < count; i++) {
		fence.fence = leases[i].token;
		if (leases[i].kind == LEASE_INGEST)
			ok(prune_with(&w, &fence, &res, &err));
	}
	free(leases);
	repo_catalog_put(w.r, c);
	assert_false(res.waiting);
	assert_int_equal(res.points, 1);
	/* the session goes on unaware, and gets nowhere */
	assert_int_equal(repo_session_publish(s, &publish, &b, &err), ERR_FENCED);
	err_clear(&err);
	fence.fence = 9999;
	assert_int_equal(prune_with(&w, &fence, &res, &err), ERR_NOT_FOUND);
	repo_point_close(p);
	prune(&w);
	no_leftovers(&w);
	help_compare(w.r, w.points[1].id, w.data[1], SIZE);
	end(&w);
}

/* --- refusals --- */

static void test_shrink_guard(void **state)
{
	struct err err = ERR_INIT;
	struct prune_spec spec = { .min_doomed = PRUNE_MIN_DOOMED };
	struct prune_result res;
	cleanup_free uint8_t *big = malloc(80 * MiB);
	struct world w;
	uint64_t use;

	(void)state;
	begin(&w, false, 1);
	assert_non_null(big);
	help_random(big, 80 * MiB, 9);
	help_backup(w.r, "big", big, 80 * MiB, &w.points[1]);
	prune(&w);
	use = disk_use(&w);
	/* the catalog loses a point: it is not garbage */
	sql(&w, "PRAGMA foreign_keys = ON; DELETE FROM point WHERE name = 'big'");
	spec.dry_run = true;
	assert_int_equal(prune_with(&w, &spec, &res, &err), ERR_REFUSED);
	spec.dry_run = false;
	err_clear(&err);
	assert_int_equal(prune_with(&w, &spec, &res, &err), ERR_REFUSED);
	assert_non_null(strstr(err.text, "--yes-really"));
	err_clear(&err);
	assert_int_equal(totals(&w).condemn_gen, 0);
	assert_true(disk_use(&w) >= use);
	no_leftovers(&w);
	spec.really = true;
	ok(prune_with(&w, &spec, &res, &err));
	assert_true(res.doomed > 1280);
	help_compare(w.r, w.points[0].id, w.data[0], SIZE);

	/* forgotten points explain what they used, also when a prune died between expiring and condemning */
	help_backup(w.r, "big", big, 80 * MiB, &w.points[1]);
	forget(&w, &w.points[1]);
	sql(&w, "UPDATE point SET state = 3 WHERE name = 'big'");
	spec.really = false;
	ok(prune_with(&w, &spec, &res, &err));
	assert_true(res.doomed > 1280 && res.points == 1);
	end(&w);
}

static void test_rebuilt(void **state)
{
	struct err err = ERR_INIT;
	struct prune_spec spec = { 0 };
	struct prune_result res;
	struct world w;

	(void)state;
	begin(&w, false, 1);
	sql(&w, "UPDATE meta SET rebuilt = 1");
	assert_int_equal(prune_with(&w, &spec, &res, &err), ERR_REFUSED);
	sql(&w, "UPDATE meta SET rebuilt = 0");
	err_clear(&err);
	ok(prune_with(&w, &spec, &res, &err));
	end(&w);
}

/* Flips a byte in the middle of a record. */
static void hurt(struct world *w, uint64_t locator)
{
	struct err err = ERR_INIT;
	struct store_pack *p;
	const struct footer_entry *e;
	cleanup_free char *path = str_printf("%s/packs/%02x/%012llx.pack", w->dir,
					     (unsigned)(locator_pack(locator) & 0xff),
					     (unsigned long long)locator_pack(locator));
	uint64_t at;
	uint8_t byte;
	int fd;

	ok(store_pack_get(w->r->store, locator_pack(locator), &p, &err));
	e = store_pack_entry(p, locator_slot(locator));
	assert_non_null(e);
	at = e->offset + RECORD_HEADER_LEN + e->stored_len / 2;
	store_pack_put(p);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
	byte ^= 0x40;
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
	close(fd);
}

static uint64_t chunk_locator(struct world *w, const struct session_result *point, uint64_t chunk,
			      uint64_t *leaf)
{
	struct err err = ERR_INIT;
	struct repo_point *p;
	struct repo_disk *d;
	struct object_ref ref;
	uint64_t locator;

	ok(repo_point_open(w->r, point->id, &p, &err));
	ok(repo_disk_open(p, NULL, &d, &err));
	ok(disk_locators(d, chunk, 1, &locator, &err));
	ok(disk_leaf_ref(d, chunk / LEAF_CHUNKS, &ref, &err));
	if (leaf)
		*leaf = ref.locator;
	repo_disk_close(d);
	repo_point_close(p);
	return locator;
}

static void test_damaged_map(void **state)
{
	struct err err = ERR_INIT;
	struct prune_spec spec = { .min_doomed = PRUNE_MIN_DOOMED };
	struct prune_result res;
	struct world w;
	uint64_t leaf;

	(void)state;
	begin(&w, false, 3);
	forget(&w, &w.points[0]);
	(void)chunk_locator(&w, &w.points[1], 0, &leaf);
	hurt(&w, leaf);
	assert_int_equal(prune_with(&w, &spec, &res, &err), ERR_DAMAGED);
	assert_non_null(strstr(err.text, w.points[1].point));
	assert_non_null(strstr(err.text, "repair"));
	err_clear(&err);
	assert_int_equal(totals(&w).condemn_gen, 0);
	no_leftovers(&w);
	/* the way out that the message names; the map of what is going may be damaged */
	forget(&w, &w.points[1]);
	ok(prune_with(&w, &spec, &res, &err));
	assert_int_equal(res.points, 2);
	help_compare(w.r, w.points[2].id, w.data[2], SIZE);
	end(&w);
}

/* A chunk in use that is bad: its pack stays, noted; the others are freed; the next backup heals. */
static void test_damaged_data(void **state)
{
	struct err err = ERR_INIT;
	struct prune_spec spec = { 0 };
	struct prune_result res;
	struct pack_list packs = { 0 };
	struct catalog *c;
	struct world w;
	uint64_t bad;

	(void)state;
	begin(&w, false, 3);
	bad = chunk_locator(&w, &w.points[2], SIZE / CHUNK - 1, NULL); /* in the first pack */
	assert_int_equal(chunk_locator(&w, &w.points[0], SIZE / CHUNK - 1, NULL), bad);
	hurt(&w, bad);
	forget(&w, &w.points[0]);
	forget(&w, &w.points[1]);
	ok(prune_with(&w, &spec, &res, &err));
	assert_int_equal(res.packs_damaged, 1);
	assert_true(res.bytes_left > 0 && res.packs_removed + res.packs_rewritten > 1);
	ok(repo_catalog_get(w.r, &c, &err));
	ok(catalog_packs(c, locator_pack(bad), &packs, &err));
	assert_int_equal(packs.count, 1);
	assert_true(bits_has(&packs.rows[0].damaged, locator_slot(bad)));
	assert_true(packs.rows[0].doomed.nbytes > 0);
	pack_list_release(&packs);
	repo_catalog_put(w.r, c);
	no_leftovers(&w);
	help_backup(w.r, "a", w.data[2], SIZE, &w.points[3]);
	assert_int_equal(w.points[3].chunks_new, 1);
	help_compare(w.r, w.points[3].id, w.data[2], SIZE);
	forget(&w, &w.points[2]);
	ok(prune_with(&w, &spec, &res, &err));
	assert_int_equal(res.packs_damaged, 0);
	help_compare(w.r, w.points[3].id, w.data[2], SIZE);
	verify_all(&w);
	end(&w);
}

/* An older catalog that was put back knows neither the newest points nor what became of pack numbers. */
static void test_older_catalog(void **state)
{
	struct err err = ERR_INIT;
	struct prune_spec spec = { 0 };
	struct prune_result res;
	struct world w;

	(void)state;
	begin(&w, false, 2);
	sql(&w, "UPDATE meta SET next_pack = 2");
	assert_int_equal(prune_with(&w, &spec, &res, &err), ERR_DAMAGED);
	end(&w);
}

/* --- parts --- */

static void test_slot_sets(void **state)
{
	struct err err = ERR_INIT;
	struct slot_set s = { 0 };

	(void)state;
	assert_false(slot_set_has(&s, locator_make(1, 0)));
	slot_set_fill(&s, locator_make(1, 0), 5); /* no room: nothing */
	assert_null(slot_set_find(&s, 1));
	ok(slot_set_reserve(&s, 1, 100, &err));
	for (unsigned from = 0; from < 40; from++) {
		for (unsigned n = 1; n < 40; n++) {
			struct slot_set t = { 0 };

			ok(slot_set_reserve(&t, 7, 100, &err));
			slot_set_fill(&t, locator_make(7, from), n);
			for (unsigned i = 0; i < 100; i++)
				assert_int_equal(slot_set_has(&t, locator_make(7, i)),
						 i >= from && i < from + n);
			slot_set_release(&t);
		}
	}
	slot_set_fill(&s, locator_make(1, 120), 1000); /* only as far as there is room */
	assert_true(slot_set_has(&s, locator_make(1, 127)));
	assert_int_equal(slot_set_visit(&s, locator_make(1, 9), &err), 1);
	assert_int_equal(slot_set_visit(&s, locator_make(1, 9), &err), 0);
	assert_int_equal(slot_set_visit(&s, locator_make(2, 9), &err), 1);
	slot_set_release(&s);
	assert_int_equal(slots_byte(8, 0), 0xff);
	assert_int_equal(slots_byte(9, 1), 1);
	assert_int_equal(slots_byte(15, 1), 0x7f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slot_sets),	cmocka_unit_test(test_space_plain),
		cmocka_unit_test(test_space_encrypted), cmocka_unit_test(test_everything_goes),
		cmocka_unit_test(test_index_shrinks),	cmocka_unit_test(test_index_empties),
		cmocka_unit_test(test_index_live),	cmocka_unit_test(test_dry_run),
		cmocka_unit_test(test_backup_beside),	cmocka_unit_test(test_backup_after),
		cmocka_unit_test(test_reader_beside),	cmocka_unit_test(test_stop),
		cmocka_unit_test(test_limits),		cmocka_unit_test(test_another_prune),
		cmocka_unit_test(test_fence),		cmocka_unit_test(test_shrink_guard),
		cmocka_unit_test(test_rebuilt),		cmocka_unit_test(test_damaged_map),
		cmocka_unit_test(test_damaged_data),	cmocka_unit_test(test_older_catalog),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
