// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The life of overlays: made, attached, written, attached again, discarded; sealed while nobody has them, and while somebody
 * writes; prune, a lost catalog and a half-made folder beside them; errors that outlive the process.  Plain and encrypted.
 */
#include <stdatomic.h>
#include <sys/wait.h>

#include "base/pool.h"
#include "catalog/gc.h"
#include "repo/gc.h"
#include "repo/overlay-life-internal.h"
#include "repo/repair.h"
#include "tests/unit/repo-help.h"

#include "base/banned.h"

#define SIZE_A (5 * MiB + 1536) /* neither chunks nor blocks */
#define SIZE_B (2 * MiB)

struct world {
	char dir[64], path[80];
	bool encrypted;
	struct repo *r;
	uint8_t *a, *b; /* the disks as they are to be read */
	struct session_result point;
	char id[OVERLAY_ID_LEN + 1];
};

static void world_close(struct world *w)
{
	repo_close(w->r);
	w->r = NULL;
}

static void world_open(struct world *w)
{
	w->r = help_open(w->path, REPO_WRITE, 2);
}

static void backup_two(struct world *w, const char *name, struct session_result *result)
{
	struct err err = ERR_INIT;
	struct session_spec spec = { .name = name, .compression = -1 };
	struct publish_spec publish = { 0 };
	struct repo_session *s;

	ok(repo_session_begin(w->r, &spec, &s, &err));
	help_write_disk(s, "vda", w->a, SIZE_A);
	help_write_disk(s, "vdb", w->b, SIZE_B);
	ok(repo_session_publish(s, &publish, result, &err));
}

static void world_begin(struct world *w, bool encrypted)
{
	memset(w, 0, sizeof(*w));
	help_dir(w->dir);
	snprintf(w->path, sizeof(w->path), "%s/r", w->dir);
	w->encrypted = encrypted;
	help_init(w->path, encrypted);
	world_open(w);
	w->a = calloc(1, SIZE_A);
	w->b = calloc(1, SIZE_B);
	assert_true(w->a && w->b);
	help_text(w->a, 3 * MiB, 1); /* then a hole */
	help_text(w->a + 4 * MiB, SIZE_A - 4 * MiB, 2);
	help_random(w->b, SIZE_B, 3);
	backup_two(w, "web", &w->point);
}

static void world_end(struct world *w)
{
	world_close(w);
	free(w->a);
	free(w->b);
	help_remove(w->dir);
}

static int setup_plain(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	world_begin(w, false);
	*state = w;
	return 0;
}

static int setup_encrypted(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	world_begin(w, true);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	world_end(*state);
	free(*state);
	return 0;
}

/* --- what is there --- */

static void create(struct world *w, const char *name)
{
	struct err err = ERR_INIT;

	ok(repo_overlay_create(w->r, w->point.id, name, w->id, &err));
}

static size_t count_of(struct world *w)
{
	struct err err = ERR_INIT;
	struct overlay_info *list;
	size_t n;

	ok(repo_overlays(w->r, &list, &n, &err));
	overlay_infos_free(list, n);
	return n;
}

static int count_name(void *opaque, const char *name, struct err *err)
{
	(void)name, (void)err;
	++*(unsigned *)opaque;
	return 0;
}

static unsigned folders(struct world *w)
{
	struct err err = ERR_INIT;
	unsigned n = 0;

	ok(overlay_folders_each(w->r, count_name, &n, &err));
	return n;
}

static void print_line(void *opaque, const char *line)
{
	buf_printf(opaque, "%s\n", line);
}

static void no_leftovers(struct world *w)
{
	struct err err = ERR_INIT;
	cleanup_buf struct buf lines = BUF_INIT;
	int n = repo_leftovers(w->r, print_line, &lines, &err);

	if (n)
		fail_msg("leftovers: %d %s%s", n, err.text, buf_str(&lines));
}

/* --- using one --- */

static void write_at(struct repo_view *v, uint8_t *model, const void *p, size_t n, uint64_t at)
{
	struct err err = ERR_INIT;

	ok(repo_view_write(v, p, n, at, &err));
	memcpy(model + at, p, n);
}

static void compare_view(struct repo_view *v, const uint8_t *model, uint64_t size)
{
	struct err err = ERR_INIT;
	cleanup_free uint8_t *got = malloc(size);

	assert_int_equal(repo_view_size(v), size);
	ok(repo_view_read(v, got, size, 0, &err));
	assert_memory_equal(got, model, size);
	for (uint64_t at = 0; at + 4999 < size; at += 55555) {
		ok(repo_view_read(v, got, 4999, at, &err));
		assert_memory_equal(got, model + at, 4999);
		repo_view_hint(v, at, 4999);
	}
}

static void compare_overlay(struct world *w, const char *id)
{
	struct err err = ERR_INIT;
	struct repo_overlay *o;
	struct repo_view *v;

	ok(repo_overlay_attach(w->r, id, &o, &err));
	ok(repo_view_open(o, "vda", &v, &err));
	compare_view(v, w->a, SIZE_A);
	repo_view_close(v);
	ok(repo_view_open(o, "vdb", &v, &err));
	compare_view(v, w->b, SIZE_B);
	repo_view_close(v);
	repo_overlay_detach(o);
}

/* Writes of all kinds, to both disks; flushed by the detach. */
static void change_both(struct world *w, const char *id, uint64_t seed)
{
	struct err err = ERR_INIT;
	struct repo_overlay *o;
	struct repo_view *a, *b;
	uint8_t data[20000];

	help_random(data, sizeof(data), seed);
	ok(repo_overlay_attach(w->r, id, &o, &err));
	ok(repo_view_open(o, "vda", &a, &err));
	ok(repo_view_open(o, "vdb", &b, &err));
	write_at(a, w->a, data, 512, 512 + seed * 4096);
	write_at(a, w->a, data, 20000, 700001 + seed);
	write_at(a, w->a, data, 1536, SIZE_A - 1536);
	write_at(b, w->b, data, 4096, 65536 * 3);
	ok(repo_view_zero(a, 200000, 1 * MiB + 100 + seed, &err));
	memset(w->a + 1 * MiB + 100 + seed, 0, 200000);
	ok(repo_view_trim(b, 256 * KiB, 512 * KiB, &err));
	memset(w->b + 512 * KiB, 0, 256 * KiB);
	repo_view_close(a);
	repo_view_close(b);
	repo_overlay_detach(o);
}

static int read_point(struct world *w, const uint8_t id[POINT_ID_LEN], const char *disk,
		      uint8_t *to, uint64_t size)
{
	struct err err = ERR_INIT;
	cleanup_ptr(repo_point) p = NULL;
	cleanup_ptr(repo_disk) d = NULL;

	ok(repo_point_open(w->r, id, &p, &err));
	ok(repo_disk_open(p, disk, &d, &err));
	assert_int_equal(repo_disk_size(d), size);
	ok(repo_disk_read(d, to, size, 0, &err));
	return 0;
}

static void compare_point(struct world *w, const uint8_t id[POINT_ID_LEN])
{
	cleanup_free uint8_t *got = malloc(SIZE_A);

	read_point(w, id, "vda", got, SIZE_A);
	assert_memory_equal(got, w->a, SIZE_A);
	read_point(w, id, "vdb", got, SIZE_B);
	assert_memory_equal(got, w->b, SIZE_B);
}

static void verify_clean(struct world *w)
{
	struct err err = ERR_INIT;
	struct verify_spec spec = { .data = true };
	struct verify_result result;

	ok(repo_verify(w->r, &spec, &result, &err));
}

/* --- tests --- */

static void test_life(void **state)
{
	struct world *w = *state;
	struct err err = ERR_INIT;
	struct overlay_info *list, *one;
	char id[OVERLAY_ID_LEN + 1];
	size_t n;

	assert_int_equal(count_of(w), 0);
	create(w, "lab");
	assert_true(overlay_id_valid(w->id));
	ok(repo_overlays(w->r, &list, &n, &err));
	assert_int_equal(n, 1);
	assert_string_equal(list[0].id, w->id);
	assert_string_equal(list[0].name, "lab");
	assert_string_equal(list[0].point_text, w->point.point);
	assert_true(list[0].ndisks == 2 && list[0].disks[1].size == SIZE_B && list[0].bytes > 0);
	assert_true(!list[0].attached && !list[0].error && list[0].pid == 0);
	overlay_infos_free(list, n);
	assert_int_equal(repo_overlay_create(w->r, w->point.id, "lab", id, &err), ERR_EXISTS);
	assert_int_equal(repo_overlay_create(w->r, w->point.id, "o12345678", id, &err),
			 ERR_INVALID);
	assert_int_equal(repo_overlay_create(w->r, (const uint8_t *)"nobodyhasthisid", NULL, id,
					     &err),
			 ERR_NOT_FOUND);
	assert_int_equal(folders(w), 1);
	compare_overlay(w, "lab");
	change_both(w, "lab", 1);
	compare_overlay(w, w->id);
	world_close(w);
	world_open(w);
	compare_overlay(w, "lab");
	verify_clean(w);
	no_leftovers(w);
	assert_int_equal(repo_overlay_find(w->r, "labx", &one, &err), ERR_NOT_FOUND);
	assert_int_equal(repo_overlay_discard(w->r, "labx", &err), ERR_NOT_FOUND);
	ok(repo_overlay_discard(w->r, "lab", &err));
	assert_int_equal(repo_overlay_discard(w->r, w->id, &err), ERR_NOT_FOUND);
	assert_int_equal(count_of(w), 0);
	assert_int_equal(folders(w), 0);
	no_leftovers(w);
}

static void test_attached_once(void **state)
{
	struct world *w = *state;
	struct err err = ERR_INIT;
	struct repo_overlay *o, *again, *third;
	struct overlay_info *one;
	struct repo_view *v;
	struct repo *other;
	cleanup_buf struct buf out = BUF_INIT;

	create(w, NULL);
	ok(repo_overlay_attach(w->r, w->id, &o, &err));
	ok(repo_overlay_attach(w->r, w->id, &again, &err));
	assert_ptr_equal(o, again);
	assert_string_equal(repo_overlay_id(o), w->id);
	assert_int_equal(repo_view_open(o, NULL, &v, &err), ERR_AMBIGUOUS);
	assert_int_equal(repo_view_open(o, "vdc", &v, &err), ERR_NOT_FOUND);
	ok(repo_overlay_find(w->r, w->id, &one, &err));
	assert_true(one->attached && one->pid == getpid());
	overlay_infos_free(one, 1);
	/* another process would open the repository for itself */
	other = help_open(w->path, REPO_WRITE, 1);
	assert_int_equal(repo_overlay_attach(other, w->id, &third, &err), ERR_LOCKED);
	assert_non_null(strstr(err.text, "process"));
	assert_int_equal(repo_overlay_discard(other, w->id, &err), ERR_LOCKED);
	assert_int_equal(repo_overlay_check(other, w->id, &out, &err), ERR_LOCKED);
	repo_overlay_detach(o);
	assert_int_equal(repo_overlay_attach(other, w->id, &third, &err), ERR_LOCKED);
	ok(repo_view_open(again, "vda", &v, &err));
	repo_overlay_detach(again); /* the view keeps it */
	assert_int_equal(repo_overlay_attach(other, w->id, &third, &err), ERR_LOCKED);
	repo_view_close(v);
	ok(repo_overlay_attach(other, w->id, &third, &err));
	repo_overlay_detach(third);
	repo_close(other);
}

struct extents {
	struct extent e[64];
	unsigned n, most;
};

static int take_extent(void *opaque, const struct extent *e, struct err *err)
{
	struct extents *x = opaque;

	(void)err;
	assert_true(x->n < 64);
	x->e[x->n++] = *e;
	return x->most && x->n == x->most;
}

static void test_extents(void **state)
{
	struct world *w = *state;
	struct err err = ERR_INIT;
	struct repo_overlay *o;
	struct repo_view *v;
	struct extents x = { .n = 0 };
	uint8_t byte = 1;
	uint64_t at = 0;

	create(w, NULL);
	ok(repo_overlay_attach(w->r, w->id, &o, &err));
	ok(repo_view_open(o, "vda", &v, &err));
	ok(repo_view_zero(v, 256 * KiB, 1 * MiB, &err));
	ok(repo_view_write(v, &byte, 1, 3 * MiB + 200 * KiB, &err)); /* in the hole */
	ok(repo_view_extents(v, 0, SIZE_A, take_extent, &x, &err));
	for (unsigned i = 0; i < x.n; i++) {
		assert_int_equal(x.e[i].start, at);
		if (i)
			assert_int_not_equal(x.e[i].kind, x.e[i - 1].kind);
		at += x.e[i].length;
	}
	assert_int_equal(at, SIZE_A);
	assert_int_equal(x.n, 7);
	assert_true(x.e[1].kind == EXTENT_HOLE && x.e[1].start == 1 * MiB &&
		    x.e[1].length == 256 * KiB);
	assert_true(x.e[4].kind == EXTENT_DATA && x.e[4].start == 3 * MiB + 200 * KiB &&
		    x.e[4].length == 4096);
	for (unsigned most = 1; most < 7; most++) {
		struct extents part = { .most = most };

		ok(repo_view_extents(v, 0, SIZE_A, take_extent, &part, &err));
		assert_int_equal(part.n, most);
	}
	assert_int_equal(repo_view_read(v, &byte, 1, SIZE_A, &err), ERR_INVALID);
	assert_int_equal(repo_view_write(v, &byte, 1, SIZE_A, &err), ERR_INVALID);
	repo_view_prefetch(v, 0, SIZE_A);
	repo_view_close(v);
	repo_overlay_detach(o);
}

/* --- sealing --- */

static int seal(struct world *w, const char *name, struct session_result *result, struct err *err)
{
	struct publish_spec publish = { 0 };
	struct overlay_seal_spec spec = { .overlay = w->id, .name = name, .publish = &publish };

	return repo_overlay_seal(w->r, &spec, result, err);
}

static void test_seal_detached(void **state)
{
	struct world *w = *state;
	struct err err = ERR_INIT;
	struct session_result sealed = { 0 };
	struct repo_point *p;
	const struct manifest *m;

	create(w, "lab");
	change_both(w, w->id, 1);
	ok(seal(w, NULL, &sealed, &err));
	compare_point(w, sealed.id);
	ok(repo_point_open(w->r, sealed.id, &p, &err));
	m = repo_point_manifest(p);
	assert_string_equal(m->name, "web");
	assert_true(m->has_parent && memcmp(m->parent, w->point.id, POINT_ID_LEN) == 0);
	assert_int_equal(m->kind, POINT_INCREMENTAL);
	assert_int_equal(m->disks[0].method, METHOD_MAP);
	assert_true(m->disks[0].read_bytes < 1 * MiB); /* what was changed, in chunks */
	repo_point_close(p);
	assert_true(sealed.stored < 600 * KiB);
	assert_int_equal(count_of(w), 0);
	assert_int_equal(folders(w), 0);
	assert_int_equal(seal(w, NULL, &sealed, &err), ERR_NOT_FOUND);
	verify_clean(w);
	no_leftovers(w);
}

/* A seal under another name, of a point that was forgotten meanwhile. */
static void test_seal_forgotten(void **state)
{
	struct world *w = *state;
	struct err err = ERR_INIT;
	struct session_result sealed = { 0 }, second;
	struct prune_spec prune = { .min_doomed = 0 };
	struct prune_result pruned;
	struct catalog *c;

	create(w, NULL);
	change_both(w, w->id, 2);
	ok(repo_catalog_get(w->r, &c, &err));
	ok(catalog_forget(c, (const uint8_t(*)[POINT_ID_LEN])w->point.id, 1, 1, 1, NULL, &err));
	repo_catalog_put(w->r, c);
	ok(repo_prune(w->r, &prune, &pruned, &err));
	assert_int_equal(pruned.points, 0);
	world_close(w);
	world_open(w);
	compare_overlay(w, w->id);
	ok(seal(w, "other", &sealed, &err));
	compare_point(w, sealed.id);
	/* now nothing holds the first point: what the new one does not share goes */
	ok(repo_prune(w->r, &prune, &pruned, &err));
	assert_int_equal(pruned.points, 1);
	compare_point(w, sealed.id);
	backup_two(w, "web", &second);
	verify_clean(w);
	no_leftovers(w);
}

/* Numbers in both disks, the same in both after each flush; what is sealed must have a moment's state of all disks. */
struct writer {
	struct pool_job job;
	struct repo_view *a, *b;
	_Atomic bool stop;
	_Atomic uint64_t written; /* both disks have it */
	int result;
	struct err err;
};

static void writer_run(struct pool_job *job, void *ctx)
{
	struct writer *w = container_of(job, struct writer, job);
	uint8_t block[512] = { 0 };

	(void)ctx;
	for (uint64_t n = 1; w->result == 0 && !atomic_load(&w->stop); n++) {
		put_le64(block, n);
		w->result = repo_view_write(w->a, block, 512, 512 * (n % 1000), &w->err);
		if (w->result == 0)
			w->result = repo_view_write(w->b, block, 512, 512 * (n % 1000), &w->err);
		if (w->result == 0 && n % 7 == 0)
			w->result = repo_view_flush(n % 2 ? w->a : w->b, &w->err);
		atomic_store(&w->written, n);
	}
}

static uint64_t highest(const uint8_t *disk)
{
	uint64_t most = 0;

	for (unsigned i = 0; i < 1000; i++)
		most = MAX(most, get_le64(disk + 512 * i));
	return most;
}

/* Writes come one after the other, first to disk a, then to b: whatever moment was frozen, all numbers up to the highest are there. */
static void check_moment(const uint8_t *a, const uint8_t *b)
{
	uint64_t na = highest(a), nb = highest(b);

	assert_true(na == nb || na == nb + 1);
	for (uint64_t n = na > 999 ? na - 999 : 1; n <= na; n++)
		assert_int_equal(get_le64(a + 512 * (n % 1000)), n);
	for (uint64_t n = nb > 999 ? nb - 999 : 1; n <= nb; n++)
		assert_int_equal(get_le64(b + 512 * (n % 1000)), n);
}

static void test_seal_attached(void **state)
{
	struct world *w = *state;
	struct err err = ERR_INIT;
	struct repo_overlay *o;
	struct writer writer = { .job = { .run = writer_run } };
	struct pool *pool;
	cleanup_free uint8_t *a = malloc(SIZE_A), *b = malloc(SIZE_B);
	struct overlay_info *info;
	uint64_t before = 0;

	memset(w->a, 0, 512 * 1000);
	memset(w->b, 0, 512 * 1000);
	backup_two(w, "web", &w->point);
	create(w, "lab");
	ok(repo_overlay_attach(w->r, w->id, &o, &err));
	ok(repo_view_open(o, "vda", &writer.a, &err));
	ok(repo_view_open(o, "vdb", &writer.b, &err));
	ok(pool_new(1, NULL, &pool, &err));
	pool_submit(pool, &writer.job);
	for (unsigned turn = 0; turn < 5; turn++) {
		struct session_result sealed = { 0 };
		uint64_t known = atomic_load(&writer.written), frozen;

		ok(seal(w, turn % 2 ? "other" : NULL, &sealed, &err));
		read_point(w, sealed.id, "vda", a, SIZE_A);
		read_point(w, sealed.id, "vdb", b, SIZE_B);
		check_moment(a, b);
		frozen = highest(a);
		assert_true(frozen >= known && frozen >= before);
		assert_memory_equal(a + 1 * MiB, w->a + 1 * MiB, SIZE_A - 1 * MiB);
		before = frozen;
		/* writes went on, on the new ground */
		while (atomic_load(&writer.written) < frozen + 3 && writer.result == 0)
			time_sleep_ms(1);
		ok(repo_overlay_find(w->r, "lab", &info, &err));
		assert_memory_equal(info->point, sealed.id, POINT_ID_LEN);
		assert_true(info->attached && !info->error);
		overlay_infos_free(info, 1);
		assert_int_equal(o->header.first, o->header.last);
	}
	atomic_store(&writer.stop, true);
	pool_free(pool);
	if (writer.result < 0)
		fail_msg("writer: %s", writer.err.text);
	ok(repo_view_read(writer.a, a, SIZE_A, 0, &err));
	ok(repo_view_read(writer.b, b, SIZE_B, 0, &err));
	assert_int_equal(highest(a), atomic_load(&writer.written));
	memcpy(w->a, a, SIZE_A);
	memcpy(w->b, b, SIZE_B);
	repo_view_close(writer.a);
	repo_view_close(writer.b);
	repo_overlay_detach(o);
	world_close(w);
	world_open(w);
	compare_overlay(w, "lab");
	verify_clean(w);
	ok(repo_overlay_discard(w->r, "lab", &err));
	no_leftovers(w);
}

/* Seals that die after the freeze leave layers; the next one takes them all.  Sealing again what was not changed is right too. */
static void test_seal_layers(void **state)
{
	struct world *w = *state;
	struct err err = ERR_INIT;
	struct session_result sealed = { 0 };
	struct overlay_client *c;
	struct repo_overlay *o;
	uint32_t first, last;
	uint64_t until = time_mono_ns() + UINT64_C(5000000000);

	create(w, NULL);
	ok(repo_overlay_attach(w->r, w->id, &o, &err));
	for (unsigned i = 1; i <= 4; i++) {
		change_both(w, w->id, i);
		ok(overlay_client_open(w->r, w->id, until, NULL, &c, &err));
		if (i == 1) {
			struct overlay_client *second;

			assert_int_equal(overlay_client_open(w->r, w->id, until, NULL, &second,
							     &err),
					 ERR_LOCKED);
		}
		ok(overlay_client_freeze(c, &first, &last, &err));
		assert_true(first == 1 && last == i);
		ok(overlay_client_rebase(c, &err)); /* nothing was published: nothing changes */
		overlay_client_close(c);
		compare_overlay(w, w->id);
	}
	repo_overlay_detach(o);
	world_close(w);
	world_open(w);
	compare_overlay(w, w->id);
	change_both(w, w->id, 9);
	ok(repo_overlay_attach(w->r, w->id, &o, &err));
	ok(seal(w, NULL, &sealed, &err));
	assert_true(o->header.first == 6 && o->header.last == 6);
	compare_point(w, sealed.id);
	compare_overlay(w, w->id);
	ok(seal(w, NULL, &sealed, &err));
	compare_point(w, sealed.id);
	assert_int_equal(sealed.chunks_new, 0);
	change_both(w, w->id, 10);
	repo_overlay_detach(o);
	ok(seal(w, NULL, &sealed, &err));
	compare_point(w, sealed.id);
	assert_int_equal(folders(w), 0);
	verify_clean(w);
	no_leftovers(w);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup_plain, teardown)
#define E(fn) cmocka_unit_test_setup_teardown(fn, setup_encrypted, teardown)
	const struct CMUnitTest tests[] = {
		T(test_life),		E(test_life),	       T(test_attached_once),
		T(test_extents),	T(test_seal_detached), E(test_seal_detached),
		T(test_seal_forgotten), T(test_seal_attached), E(test_seal_attached),
		T(test_seal_layers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
