/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The read path of repo/repo.h against images that are known: many threads with a cache that holds next to nothing,
 * every border, extents against a model, unreadable ranges, several disks, 16 TiB of almost nothing, small and large
 * chunks.
 */
#include <pthread.h>

#include "tests/unit/repo-help.h"

#include "base/banned.h"

#define DISK (12 * MiB + 1536)

static struct repo *reopen(const char *path, uint64_t cache, uint32_t threads)
{
	struct err err = ERR_INIT;
	struct repo *r;

	ok(repo_open(path, REPO_READ, &r, &err));
	if (repo_is_locked(r))
		ok(repo_unlock(r, PASS, strlen(PASS), true, &err));
	ok(repo_start(r, cache, threads, &err));
	return r;
}

/* Chunks of every kind in an order that chance gives: zeroes, text, random bytes, repeated ones, one byte in zeroes. */
static uint8_t *mixed(uint64_t size, uint32_t chunk, unsigned seed)
{
	uint8_t *p = calloc(1, size);

	assert_non_null(p);
	for (uint64_t at = 0, i = 0; at < size; at += chunk, i++) {
		size_t n = MIN(size - at, chunk);

		switch ((unsigned)rand_r(&seed) % 7) {
		case 0:
		case 1:
			break;
		case 2:
			p[at + n - 1] = 1;
			break;
		case 3:
			help_text(p + at, n, 5);
			break;
		default:
			help_random(p + at, n, i + seed);
		}
	}
	return p;
}

static void open_point(struct repo *r, const uint8_t *id, const char *name, struct repo_point **p,
		       struct repo_disk **d)
{
	struct err err = ERR_INIT;

	ok(repo_point_open(r, id, p, &err));
	ok(repo_disk_open(*p, name, d, &err));
}

/* --- extents against the model: a chunk of zeroes is a hole, all else is data --- */

struct model {
	const uint8_t *data;
	uint64_t size, at, end; /* at: where the next extent must start */
	uint32_t chunk;
	unsigned calls, most;
	enum extent_kind last;
};

static int check_extent(void *opaque, const struct extent *e, struct err *err)
{
	struct model *m = opaque;

	(void)err;
	assert_true(m->calls < m->most);
	assert_int_equal(e->start, m->at);
	assert_true(e->length > 0 && e->start + e->length <= m->end);
	/* maximal: it differs from the one before */
	assert_true(!m->calls || e->kind != m->last);
	for (uint64_t at = e->start; at < e->start + e->length;) {
		uint64_t chunk = at / m->chunk * m->chunk;
		bool hole = mem_is_zero(m->data + chunk, MIN(m->chunk, m->size - chunk));

		assert_int_equal(e->kind, hole ? EXTENT_HOLE : EXTENT_DATA);
		at = chunk + m->chunk;
	}
	m->at += e->length;
	m->last = e->kind;
	return ++m->calls == m->most;
}

static void check_extents(struct repo_disk *d, const uint8_t *data, uint64_t size, uint32_t chunk)
{
	unsigned seed = 9;
	struct err err = ERR_INIT;

	for (unsigned i = 0; i < 300; i++) {
		uint64_t from =
			i ? ((uint64_t)rand_r(&seed) << 20 ^ (unsigned)rand_r(&seed)) % size : 0;
		uint64_t n = i ? (uint64_t)rand_r(&seed) % (size - from) + 1 : size;
		struct model m = { .data = data,
				   .size = size,
				   .at = from,
				   .end = from + n,
				   .chunk = chunk,
				   .most = i % 5 == 4 ? 2 : UINT32_MAX };

		ok(repo_disk_extents(d, from, n, check_extent, &m, &err));
		assert_true(m.at == from + n || m.calls == m.most);
	}
	assert_int_equal(repo_disk_extents(d, size - 1, 2, check_extent, NULL, &err), ERR_INVALID);
	assert_int_equal(repo_disk_extents(d, UINT64_MAX, 2, check_extent, NULL, &err),
			 ERR_INVALID);
	ok(repo_disk_extents(d, size, 0, check_extent, NULL, &err));
}

/* One byte, and one across, at each border of a chunk and of the leaf; the last byte; beyond it. */
static void check_borders(struct repo_disk *d, const uint8_t *data, uint64_t size, uint32_t chunk)
{
	static const int before[] = { 0, 1, 3, 511, 512 };
	uint8_t got[2048];
	struct err err = ERR_INIT;

	for (uint64_t at = 0; at <= size; at += chunk) {
		for (size_t i = 0; i < ARRAY_SIZE(before); i++) {
			uint64_t from = at - MIN(at, (uint64_t)before[i]);

			for (size_t n = 1; n <= 1025 && from + n <= size; n = n * 4 + 1) {
				memset(got, 0xee, sizeof(got));
				ok(repo_disk_read(d, got, n, from, &err));
				assert_memory_equal(got, data + from, n);
				assert_int_equal(got[n], 0xee);
			}
		}
	}
	ok(repo_disk_read(d, got, 1, size - 1, &err));
	assert_int_equal(got[0], data[size - 1]);
	ok(repo_disk_read(d, got, 0, size, &err));
	assert_int_equal(repo_disk_read(d, got, 2, size - 1, &err), ERR_INVALID);
	assert_int_equal(repo_disk_read(d, got, 1, size, &err), ERR_INVALID);
	assert_int_equal(repo_disk_read(d, got, 2, UINT64_MAX, &err), ERR_INVALID);
	/* hints beyond the end are nothing */
	repo_disk_prefetch(d, size, 10);
	repo_disk_prefetch(d, size - 1, UINT64_MAX);
	repo_disk_prefetch(d, UINT64_MAX, UINT64_MAX);
}

/* --- many threads, next to no cache --- */

enum { READERS = 8, READS = 250 };
struct reader {
	struct repo_disk *disk;
	const uint8_t *data;
	uint64_t size;
	unsigned seed, wrong, mode;
	struct err err;
};

static void *reader_run(void *opaque)
{
	struct reader *c = opaque;
	struct repo_stream *stream = NULL;
	uint8_t *got = malloc(700000);
	uint64_t next = 0;

	c->wrong += !got || (c->mode % 2 && repo_stream_new(c->disk, &stream, &c->err) < 0);
	for (unsigned i = 0; i < READS && !c->wrong; i++) {
		/* half of the threads go in order (and jump at times), half anywhere */
		uint64_t at = stream && i % 40 ? next : (unsigned)rand_r(&c->seed) % c->size;
		size_t n = (unsigned)rand_r(&c->seed) % (i % 9 ? 9000 : 700000);

		n = MIN(n, c->size - at);
		if (stream)
			repo_stream_hint(stream, at, n);
		else if (c->mode % 4 == 0)
			repo_disk_prefetch(c->disk, at, 3 * n);
		c->wrong += repo_disk_read(c->disk, got, n, at, &c->err) < 0;
		c->wrong += memcmp(got, c->data + at, n) != 0;
		next = at + n < c->size ? at + n : 0;
	}
	repo_stream_free(stream);
	free(got);
	return NULL;
}

static void crowd(const char *dir, const uint8_t *id, const uint8_t *data, uint64_t size,
		  uint64_t cache, uint32_t pool)
{
	struct repo *r = reopen(dir, cache, pool);
	struct reader readers[READERS];
	pthread_t threads[READERS];
	struct repo_point *p;
	struct repo_disk *d;

	open_point(r, id, NULL, &p, &d);
	for (unsigned t = 0; t < READERS; t++) {
		readers[t] = (struct reader){
			.disk = d, .data = data, .size = size, .seed = t + 1, .mode = t
		};
		assert_int_equal(pthread_create(&threads[t], NULL, reader_run, &readers[t]), 0);
	}
	for (unsigned t = 0; t < READERS; t++) {
		assert_int_equal(pthread_join(threads[t], NULL), 0);
		if (readers[t].wrong)
			fail_msg("reader %u: %s", t, readers[t].err.text);
	}
	repo_disk_close(d);
	repo_point_close(p);
	repo_close(r);
}

static void test_threads(void **state)
{
	char dir[64];
	uint8_t *data = mixed(DISK, CHUNK, 4);
	struct session_result result;
	struct repo *r;

	(void)state;
	for (int encrypted = 0; encrypted <= 1; encrypted++) {
		help_dir(dir);
		help_init(dir, encrypted);
		r = help_open(dir, REPO_WRITE, 2);
		help_backup(r, "a", data, DISK, &result);
		repo_close(r);
		crowd(dir, result.id, data, DISK, 64 * KiB, 2); /* less than a chunk a shard */
		crowd(dir, result.id, data, DISK, 2 * MiB, 3);
		crowd(dir, result.id, data, DISK, 64 * MiB, REPO_SERIAL);
		help_remove(dir);
	}
	free(data);
}

/* --- chunk sizes, borders and extents --- */

static void one_chunk_size(uint32_t chunk, uint64_t size)
{
	struct err err = ERR_INIT;
	struct repo_init_spec spec = { .chunk_size = chunk, .compression = -1 };
	uint8_t *data = mixed(size, chunk, chunk);
	struct session_result one, two;
	struct repo_point *p;
	struct repo_disk *d;
	struct repo *r;
	char dir[64];

	help_dir(dir);
	ok(repo_init(dir, &spec, &err));
	r = help_open(dir, REPO_WRITE, 2);
	help_backup(r, "c", data, size, &one);
	help_compare(r, one.id, data, size);
	open_point(r, one.id, NULL, &p, &d);
	assert_int_equal(repo_disk_chunk_size(d), chunk);
	check_borders(d, data, size, chunk);
	check_extents(d, data, size, chunk);
	repo_disk_close(d);
	repo_point_close(p);
	/* a change of one byte is a change of one chunk */
	data[size / 2] ^= 0x80;
	help_backup(r, "c", data, size, &two);
	assert_int_equal(two.chunks_new, 1);
	help_compare(r, two.id, data, size);
	repo_close(r);
	crowd(dir, two.id, data, size, 64 * KiB, 2);
	help_remove(dir);
	free(data);
}

static void test_chunk_4k(void **state)
{
	(void)state;
	one_chunk_size(4096, 9 * MiB + 512); /* more than two leaves of 4 MiB */
}

static void test_chunk_64k(void **state)
{
	(void)state;
	one_chunk_size(CHUNK, DISK);
}

static void test_chunk_1m(void **state)
{
	(void)state;
	one_chunk_size(1 << 20, 20 * MiB + 1024);
}

/* --- unreadable ranges --- */

static void put_unreadable(struct repo *r, const char *name, const uint8_t *data, uint64_t size,
			   uint64_t from, uint64_t n, struct session_result *result)
{
	struct session_spec spec = { .name = name, .compression = -1 };
	struct disk_spec disk = { .name = "vda", .size = size, .method = METHOD_FULL };
	struct publish_spec publish = { 0 };
	struct err err = ERR_INIT;
	struct repo_session *s;

	ok(repo_session_begin(r, &spec, &s, &err));
	ok(session_disk_begin(s, &disk, &err));
	for (uint64_t at = 0; at < size;) {
		uint64_t stop = at < from ? MIN(from, at + SESSION_BUFFER) :
					    MIN(size, at + SESSION_BUFFER);
		uint8_t *buffer;

		if (at == from) {
			ok(session_disk_unreadable(s, at, n, &err));
			at += n;
			continue;
		}
		ok(session_buffer(s, &buffer, &err));
		memcpy(buffer, data + at, stop - at);
		ok(session_disk_write(s, buffer, at, stop - at, &err));
		at = stop;
	}
	ok(session_disk_end(s, size, size - n, &err));
	ok(repo_session_publish(s, &publish, result, &err));
}

struct extents {
	struct extent e[16];
	unsigned n;
};

static int add_extent(void *opaque, const struct extent *e, struct err *err)
{
	struct extents *x = opaque;

	(void)err;
	assert_true(x->n < ARRAY_SIZE(x->e));
	x->e[x->n++] = *e;
	return 0;
}

static void test_unreadable(void **state)
{
	const uint64_t size = 4 * MiB + 512, from = 10 * CHUNK, n = 3 * CHUNK;
	struct err err = ERR_INIT;
	struct extents x = { .n = 0 };
	uint8_t *data = malloc(size), *got = malloc(size), id[ID_LEN];
	struct session_result bad, good;
	struct repo_point *p;
	struct repo_disk *d;
	struct repo *r;
	char dir[64];

	(void)state;
	assert_true(data && got);
	help_dir(dir);
	help_init(dir, true);
	help_random(data, size, 8);
	r = help_open(dir, REPO_WRITE, 2);
	put_unreadable(r, "u", data, size, from, n, &bad);
	open_point(r, bad.id, NULL, &p, &d);
	assert_int_equal(repo_disk_info(d)->unreadable_bytes, n);
	/* whatever touches it fails, all else is right */
	ok(repo_disk_read(d, got, from, 0, &err));
	assert_memory_equal(got, data, from);
	ok(repo_disk_read(d, got, size - from - n, from + n, &err));
	assert_memory_equal(got, data + from + n, size - from - n);
	for (uint64_t at = from - 1; at < from + n; at += CHUNK / 2) {
		err_clear(&err);
		assert_int_equal(repo_disk_read(d, got, 2, at, &err), ERR_DAMAGED);
		assert_non_null(strstr(err.text, "vda"));
	}
	assert_int_equal(repo_disk_read(d, got, 2, from + n - 1, &err), ERR_DAMAGED);
	assert_int_equal(repo_disk_read(d, got, size, 0, &err), ERR_DAMAGED);
	assert_int_equal(repo_disk_chunk_id(d, 11, id, &err), ERR_DAMAGED);
	ok(repo_disk_chunk_id(d, 9, id, &err));
	repo_disk_prefetch(d, 0, size);
	ok(repo_disk_extents(d, 0, size, add_extent, &x, &err));
	assert_int_equal(x.n, 3);
	assert_true(x.e[0].kind == EXTENT_DATA && x.e[2].kind == EXTENT_DATA);
	assert_int_equal(x.e[1].kind, EXTENT_UNREADABLE);
	assert_int_equal(x.e[1].start, from);
	assert_int_equal(x.e[1].length, n);
	repo_disk_close(d);
	repo_point_close(p);
	/* the next backup has to read it again, and then it is there */
	help_backup(r, "u", data, size, &good);
	assert_int_equal(good.chunks_new, 3);
	help_compare(r, good.id, data, size);
	repo_close(r);
	help_remove(dir);
	free(data);
	free(got);
}

/* --- several disks --- */

static void test_disks(void **state)
{
	enum { DISKS = 5 };
	static const char *const names[DISKS] = { "vda", "root", "data.1", "empty", "z-9" };
	static const uint64_t sizes[DISKS] = { 3 * MiB, 512, 70000 * 512ull, 0, CHUNK };
	struct session_spec spec = { .name = "many", .compression = -1 };
	struct publish_spec publish = { 0 };
	struct err err = ERR_INIT;
	struct session_result result;
	struct repo_session *s;
	struct repo_point *p;
	struct repo_disk *d;
	uint8_t *data[DISKS], *got;
	struct repo *r;
	char dir[64];

	(void)state;
	help_dir(dir);
	help_init(dir, true);
	r = help_open(dir, REPO_WRITE, 2);
	ok(repo_session_begin(r, &spec, &s, &err));
	for (unsigned i = 0; i < DISKS; i++) {
		data[i] = sizes[i] ? mixed(sizes[i], CHUNK, i + 1) : calloc(1, 1);
		help_write_disk(s, names[i], data[i], sizes[i]);
	}
	ok(repo_session_publish(s, &publish, &result, &err));
	repo_close(r);

	r = reopen(dir, MiB, 1);
	ok(repo_point_open(r, result.id, &p, &err));
	assert_int_equal(repo_point_manifest(p)->ndisks, DISKS);
	assert_int_equal(repo_disk_open(p, NULL, &d, &err), ERR_AMBIGUOUS);
	assert_int_equal(repo_disk_open(p, "vdb", &d, &err), ERR_NOT_FOUND);
	for (unsigned i = 0; i < DISKS; i++) {
		ok(repo_disk_open(p, names[i], &d, &err));
		assert_string_equal(repo_disk_info(d)->name, names[i]);
		assert_int_equal(repo_disk_size(d), sizes[i]);
		got = malloc(sizes[i] + 1);
		assert_non_null(got);
		ok(repo_disk_read(d, got, sizes[i], 0, &err));
		assert_memory_equal(got, data[i], sizes[i]);
		if (sizes[i])
			check_extents(d, data[i], sizes[i], CHUNK);
		repo_disk_close(d);
		free(got);
		free(data[i]);
	}
	repo_point_close(p);
	repo_close(r);
	help_remove(dir);
}

/* --- 16 TiB with three chunks --- */

#define HUGE_SIZE (16 * TiB)
static const uint64_t places[] = { 0, 8 * TiB - CHUNK, HUGE_SIZE - CHUNK };

static void put_huge(struct repo *r, const char *name, unsigned changed,
		     struct session_result *result)
{
	struct session_spec spec = { .name = name, .compression = -1 };
	struct disk_spec disk = { .name = "vda", .size = HUGE_SIZE, .method = METHOD_FULL };
	struct publish_spec publish = { 0 };
	struct err err = ERR_INIT;
	struct repo_session *s;
	uint64_t at = 0;

	ok(repo_session_begin(r, &spec, &s, &err));
	ok(session_disk_begin(s, &disk, &err));
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		uint8_t *buffer;

		if (places[i] > at)
			ok(session_disk_hole(s, at, places[i] - at, &err));
		ok(session_buffer(s, &buffer, &err));
		help_random(buffer, CHUNK, i == changed ? 100 : i);
		ok(session_disk_write(s, buffer, places[i], CHUNK, &err));
		at = places[i] + CHUNK;
	}
	ok(session_disk_end(s, HUGE_SIZE, 3 * CHUNK, &err));
	ok(repo_session_publish(s, &publish, result, &err));
}

struct diffs {
	struct diff_extent e[8];
	unsigned n;
};

static int add_diff(void *opaque, const struct diff_extent *e, struct err *err)
{
	struct diffs *x = opaque;

	(void)err;
	assert_true(x->n < ARRAY_SIZE(x->e));
	x->e[x->n++] = *e;
	return 0;
}

static void check_huge(struct repo_disk *d, unsigned changed)
{
	uint8_t want[CHUNK], *got = malloc(MiB);
	struct err err = ERR_INIT;
	struct extents x = { .n = 0 };

	assert_non_null(got);
	assert_int_equal(repo_disk_size(d), HUGE_SIZE);
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		help_random(want, CHUNK, i == changed ? 100 : i);
		ok(repo_disk_read(d, got, CHUNK, places[i], &err));
		assert_memory_equal(got, want, CHUNK);
		if (i) {
			ok(repo_disk_read(d, got, MiB, places[i] - MiB, &err));
			assert_true(mem_is_zero(got, MiB));
		}
	}
	for (uint64_t at = CHUNK; at < 7 * TiB; at += TiB / 3) {
		ok(repo_disk_read(d, got, MiB, at, &err));
		assert_true(mem_is_zero(got, MiB));
	}
	ok(repo_disk_extents(d, 0, HUGE_SIZE, add_extent, &x, &err));
	assert_int_equal(x.n, 5);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(x.e[i].kind, i % 2 ? EXTENT_HOLE : EXTENT_DATA);
	assert_int_equal(x.e[2].start, places[1]);
	assert_int_equal(x.e[2].length, CHUNK);
	free(got);
}

static void test_huge(void **state)
{
	struct err err = ERR_INIT;
	struct session_result one, two;
	struct diffs x = { .n = 0 };
	struct repo_point *p1, *p2;
	struct repo_disk *d1, *d2;
	struct repo *r;
	char dir[64];

	(void)state;
	help_dir(dir);
	help_init(dir, false);
	r = help_open(dir, REPO_WRITE, 2);
	put_huge(r, "huge", UINT32_MAX, &one);
	put_huge(r, "huge", 1, &two);
	repo_close(r);
	assert_int_equal(one.chunks_new, 3);
	assert_int_equal(two.chunks_new, 1);
	/* three chunks, three leaves, three pages of at most 48 KiB, a root: nothing for 16 TiB of holes */
	assert_true(one.stored < 3 * CHUNK + 64 * KiB);
	assert_true(two.stored < CHUNK + 32 * KiB);

	r = reopen(dir, MiB, 2);
	open_point(r, one.id, NULL, &p1, &d1);
	open_point(r, two.id, NULL, &p2, &d2);
	check_huge(d1, UINT32_MAX);
	check_huge(d2, 1);
	ok(repo_disk_diff(d1, d2, add_diff, &x, &err));
	assert_int_equal(x.n, 1);
	assert_int_equal(x.e[0].start, places[1]);
	assert_int_equal(x.e[0].length, CHUNK);
	assert_true(x.e[0].data);
	x.n = 0;
	ok(repo_disk_diff(NULL, d2, add_diff, &x, &err));
	assert_int_equal(x.n, 3);
	repo_disk_close(d1);
	repo_disk_close(d2);
	repo_point_close(p1);
	repo_point_close(p2);
	repo_close(r);
	help_remove(dir);
}

/* More than a root can hold is said when the disk begins. */
static void test_too_big(void **state)
{
	struct err err = ERR_INIT;
	struct repo_init_spec spec = { .chunk_size = 4096, .compression = -1 };
	struct session_spec session = { .name = "big", .compression = -1 };
	struct disk_spec disk = { .name = "vda", .size = 4 * TiB + 512 };
	struct repo_session *s;
	struct repo *r;
	char dir[64];

	(void)state;
	help_dir(dir);
	ok(repo_init(dir, &spec, &err));
	r = help_open(dir, REPO_WRITE, 1);
	ok(repo_session_begin(r, &session, &s, &err));
	assert_true(session_disk_begin(s, &disk, &err) < 0);
	assert_non_null(strstr(err.text, "vda"));
	repo_session_abort(s);
	disk.size = 4 * TiB;
	ok(repo_session_begin(r, &session, &s, &err));
	ok(session_disk_begin(s, &disk, &err));
	ok(session_disk_hole(s, 0, disk.size, &err));
	ok(session_disk_end(s, disk.size, 0, &err));
	repo_session_abort(s);
	repo_close(r);
	help_remove(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads),	   cmocka_unit_test(test_chunk_4k),
		cmocka_unit_test(test_chunk_64k),  cmocka_unit_test(test_chunk_1m),
		cmocka_unit_test(test_unreadable), cmocka_unit_test(test_disks),
		cmocka_unit_test(test_huge),	   cmocka_unit_test(test_too_big),
	};

	return cmocka_run_group_tests_name("repo-read", tests, NULL, NULL);
}
