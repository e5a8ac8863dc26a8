/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Write sessions and what they leave: round trips, sharing with the parent, dedup, sizes, the serial twin. */
#include "tests/unit/repo-help.h"

#include "format/format.h"

#include "base/banned.h"

#define SIZE (20 * MiB + 512)

static uint8_t *image(uint64_t size)
{
	uint8_t *p = calloc(1, size);

	assert_non_null(p);
	help_text(p, size / 2, 1);
	/* a quarter of holes, then random, then a repetition of the beginning */
	help_random(p + 3 * size / 4, size / 8, 2);
	memcpy(p + 7 * size / 8 / CHUNK * CHUNK, p, size / 16);
	return p;
}

static void round_trip(bool encrypted)
{
	char dir[64];
	cleanup_free uint8_t *data = image(SIZE);
	struct session_result one, two, three;
	struct repo *r;

	help_dir(dir);
	help_init(dir, encrypted);
	r = help_open(dir, REPO_WRITE, 2);
	help_backup(r, "a", data, SIZE, &one);
	assert_true(one.chunks_new > 100 && one.chunks_zero > 50 && one.chunks_index > 10);
	help_compare(r, one.id, data, SIZE);

	/* unchanged: no data at all, hardly any map */
	help_backup(r, "a", data, SIZE, &two);
	assert_int_equal(two.chunks_new, 0);
	assert_true(two.stored < 16 * KiB);
	assert_true(two.chunks_parent > 100);

	/* one byte in two places */
	data[5 * MiB + 3] ^= 1;
	data[SIZE - 1] ^= 1;
	help_backup(r, "a", data, SIZE, &three);
	assert_int_equal(three.chunks_new, 2);
	help_compare(r, three.id, data, SIZE);
	data[5 * MiB + 3] ^= 1;
	data[SIZE - 1] ^= 1;
	help_compare(r, one.id, data, SIZE);
	help_compare(r, two.id, data, SIZE);
	repo_close(r);

	/* another name: everything by the index, and by another process' eyes */
	r = help_open(dir, REPO_WRITE, 2);
	help_backup(r, "b", data, SIZE, &two);
	assert_int_equal(two.chunks_new, 0);
	assert_true(two.chunks_index > 100);
	help_compare(r, two.id, data, SIZE);
	repo_close(r);
	help_remove(dir);
}

static void test_round_trip_plain(void **state)
{
	(void)state;
	round_trip(false);
}

static void test_round_trip_encrypted(void **state)
{
	(void)state;
	round_trip(true);
}

/* Shrunk and grown disks never show old bytes. */
static void test_grow_shrink(void **state)
{
	const uint64_t sizes[] = {
		8 * MiB + 512, 8 * MiB - CHUNK + 1024, 8 * MiB + 512, 512, 70 * MiB, 0, 3 * CHUNK
	};
	char dir[64];
	cleanup_free uint8_t *data = calloc(1, 70 * MiB);
	struct session_result results[ARRAY_SIZE(sizes)];
	struct repo *r;

	(void)state;
	help_dir(dir);
	help_init(dir, false);
	r = help_open(dir, REPO_WRITE, 2);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		memset(data, 0, 70 * MiB);
		help_text(data, sizes[i] > 6 * MiB ? 6 * MiB : sizes[i], 7);
		if (sizes[i] > MiB)
			help_random(data + sizes[i] - 600, 600, i);
		help_backup(r, "g", data, sizes[i], &results[i]);
		if (sizes[i])
			help_compare(r, results[i].id, data, sizes[i]);
	}
	repo_close(r);
	help_remove(dir);
}

struct ranges {
	struct diff_extent e[64];
	unsigned n;
};

static int add_range(void *opaque, const struct diff_extent *e, struct err *err)
{
	struct ranges *r = opaque;

	(void)err;
	assert_true(r->n < ARRAY_SIZE(r->e));
	r->e[r->n++] = *e;
	return 0;
}

static void open_disk(struct repo *r, const uint8_t *id, struct repo_point **p,
		      struct repo_disk **d)
{
	struct err err = ERR_INIT;

	ok(repo_point_open(r, id, p, &err));
	ok(repo_disk_open(*p, NULL, d, &err));
}

static void test_diff(void **state)
{
	char dir[64];
	cleanup_free uint8_t *data = image(SIZE);
	struct session_result one, two;
	struct err err = ERR_INIT;
	struct ranges ranges = { .n = 0 };
	struct repo_point *pa, *pb;
	struct repo_disk *a, *b;
	struct repo *r;

	(void)state;
	help_dir(dir);
	help_init(dir, true);
	r = help_open(dir, REPO_WRITE, 2);
	help_backup(r, "d", data, SIZE, &one);
	memset(data + 2 * MiB, 0, 2 * CHUNK); /* data to hole */
	data[3 * MiB] ^= 1;
	data[3 * MiB + CHUNK] ^= 1;
	data[SIZE - 1] = 7;
	help_backup(r, "d", data, SIZE, &two);
	open_disk(r, one.id, &pa, &a);
	open_disk(r, two.id, &pb, &b);
	ok(repo_disk_diff(a, b, add_range, &ranges, &err));
	assert_int_equal(ranges.n, 3);
	assert_int_equal(ranges.e[0].start, 2 * MiB);
	assert_int_equal(ranges.e[0].length, 2 * CHUNK);
	assert_false(ranges.e[0].data);
	assert_int_equal(ranges.e[1].start, 3 * MiB);
	assert_int_equal(ranges.e[1].length, 2 * CHUNK);
	assert_true(ranges.e[1].data);
	assert_int_equal(ranges.e[2].start, 20 * MiB);
	assert_int_equal(ranges.e[2].length, 512);
	ranges.n = 0;
	ok(repo_disk_diff(b, b, add_range, &ranges, &err));
	assert_int_equal(ranges.n, 0);
	repo_disk_close(a);
	repo_disk_close(b);
	repo_point_close(pa);
	repo_point_close(pb);
	repo_close(r);
	help_remove(dir);
}

/* Records of the packs, without header (instance id) and trailer. */
static void pack_bytes(const char *dir, unsigned number, struct buf *out)
{
	struct err err = ERR_INIT;
	cleanup_free char *path =
		str_printf("%s/packs/%02x/%012x.pack", dir, number & 0xff, number);
	struct buf all = BUF_INIT;

	ok(file_read_all(path, PACK_BYTES_MAX, &all, &err));
	buf_put(out, all.data + PACK_HEADER_LEN, all.len - PACK_HEADER_LEN - PACK_TRAILER_LEN);
	buf_release(&all);
}

/* Same input and parent, same bytes, whatever the number of workers.  (The uuid is not in the bytes compared; the manifest
 * has times, so the pack with it is left out: the second map pack of each run.) */
static void test_serial_twin(void **state)
{
	const uint32_t threads[] = { REPO_SERIAL, 1, 2, 7 };
	const uint64_t size = 150 * MiB;
	cleanup_free uint8_t *data = calloc(1, size);
	struct buf first = BUF_INIT;

	(void)state;
	help_random(data, size, 3);
	memcpy(data + 80 * MiB, data + 10 * MiB, 20 * MiB); /* duplicates near and far */
	for (unsigned i = 0; i < 64; i++)
		memcpy(data + 120 * MiB + i * CHUNK, data, CHUNK);
	for (size_t t = 0; t < ARRAY_SIZE(threads); t++) {
		struct session_result result;
		struct buf bytes = BUF_INIT;
		char dir[64];
		struct repo *r;

		help_dir(dir);
		help_init(dir, false);
		r = help_open(dir, REPO_WRITE, threads[t]);
		help_backup(r, "twin", data, size, &result);
		help_compare(r, result.id, data, size);
		repo_close(r);
		pack_bytes(dir, 1, &bytes);
		pack_bytes(dir, 2, &bytes);
		if (t == 0) {
			first = bytes;
			assert_true(first.len > 100 * MiB);
		} else {
			assert_int_equal(bytes.len, first.len);
			assert_memory_equal(bytes.data, first.data, first.len);
			buf_release(&bytes);
		}
		help_remove(dir);
	}
	buf_release(&first);
}

/* A pack of maps ends at 4096 slots, so that no reader of one leaf needs a footer of megabytes; all of it can be read. */
static void test_map_packs(void **state)
{
	enum { LEAVES = 4200, SMALL = 4096, STEP = 1024 * SMALL };
	struct repo_init_spec init = { .chunk_size = SMALL, .compression = -1 };
	uint64_t size = (uint64_t)LEAVES * STEP;
	struct session_spec spec = { .name = "m", .compression = -1 };
	struct disk_spec disk = { .name = "vda", .size = size, .method = METHOD_FULL };
	struct publish_spec publish = { 0 };
	struct err err = ERR_INIT;
	struct session_result result;
	struct repo_session *s;
	struct repo_point *p;
	struct repo_disk *d;
	uint8_t want[512], got[512];
	unsigned many = 0, packs = 0;
	struct repo *r;
	char dir[64];

	(void)state;
	help_dir(dir);
	ok(repo_init(dir, &init, &err));
	help_random(want, sizeof(want), 11);
	r = help_open(dir, REPO_WRITE, 2);
	ok(repo_session_begin(r, &spec, &s, &err));
	ok(session_disk_begin(s, &disk, &err));
	for (uint64_t at = 0; at < size; at += STEP) {
		uint8_t *buffer;

		ok(session_buffer(s, &buffer, &err));
		memset(buffer, 0, SMALL);
		memcpy(buffer, want, sizeof(want));
		ok(session_disk_write(s, buffer, at, SMALL, &err));
		ok(session_disk_hole(s, at + SMALL, STEP - SMALL, &err));
	}
	ok(session_disk_end(s, size, 0, &err));
	ok(repo_session_publish(s, &publish, &result, &err));
	for (unsigned number = 1; number <= 4; number++, packs++) {
		cleanup_free char *path =
			str_printf("%s/packs/%02x/%012x.pack", dir, number, number);
		struct buf b = BUF_INIT;
		struct pack_trailer t;

		if (access(path, F_OK) < 0)
			break;
		ok(file_read_all(path, 64 * MiB, &b, &err));
		ok(pack_trailer_decode(b.data + b.len - PACK_TRAILER_LEN, b.len, &t, &err));
		assert_true(t.slots <= 4096);
		many += t.slots == 4096;
		buf_release(&b);
	}
	/* one of data, two of maps, the first of them full */
	assert_int_equal(packs, 3);
	assert_int_equal(many, 1);
	ok(repo_point_open(r, result.id, &p, &err));
	ok(repo_disk_open(p, NULL, &d, &err));
	for (uint64_t at = 0; at < size; at += 100 * (uint64_t)STEP) {
		ok(repo_disk_read(d, got, sizeof(got), at, &err));
		assert_memory_equal(got, want, sizeof(got));
	}
	repo_disk_close(d);
	repo_point_close(p);
	repo_close(r);
	help_remove(dir);
}

/* A session that is dropped keeps its finished packs; the next one does not store them again. */
static void test_abort_keeps(void **state)
{
	const uint64_t size = 200 * MiB;
	char dir[64];
	cleanup_free uint8_t *data = malloc(size);
	struct err err = ERR_INIT;
	struct session_spec spec = { .name = "k", .compression = -1 };
	struct disk_spec disk = { .name = "vda", .size = size };
	struct repo_session *s;
	struct session_result result;
	struct repo *r;

	(void)state;
	help_dir(dir);
	help_init(dir, false);
	help_random(data, size, 5);
	r = help_open(dir, REPO_WRITE, 2);
	ok(repo_session_begin(r, &spec, &s, &err));
	ok(session_disk_begin(s, &disk, &err));
	for (uint64_t at = 0; at < 190 * MiB; at += SESSION_BUFFER) {
		uint8_t *buffer;

		ok(session_buffer(s, &buffer, &err));
		memcpy(buffer, data + at, SESSION_BUFFER);
		ok(session_disk_write(s, buffer, at, SESSION_BUFFER, &err));
	}
	repo_session_abort(s);
	assert_int_equal(repo_leftovers(r, NULL, NULL, &err), 0);
	help_backup(r, "k", data, size, &result);
	assert_true(result.chunks_new < 200 * 16 / 2);
	help_compare(r, result.id, data, size);
	assert_int_equal(repo_leftovers(r, NULL, NULL, &err), 0);
	repo_close(r);
	help_remove(dir);
}

static void test_locked_name(void **state)
{
	char dir[64];
	struct err err = ERR_INIT;
	struct session_spec spec = { .name = "one", .compression = -1 },
			    other = { .name = "two", .compression = -1 };
	struct repo_session *a, *b;
	struct repo *r;

	(void)state;
	help_dir(dir);
	help_init(dir, false);
	r = help_open(dir, REPO_WRITE, 1);
	ok(repo_session_begin(r, &spec, &a, &err));
	assert_int_equal(repo_session_begin(r, &spec, &b, &err), ERR_LOCKED);
	assert_non_null(strstr(err.text, "--wait"));
	ok(repo_session_begin(r, &other, &b, &err));
	repo_session_abort(b);
	repo_session_abort(a);
	assert_int_equal(repo_leftovers(r, NULL, NULL, &err), 0);
	repo_close(r);
	help_remove(dir);
}

static void test_bad_names(void **state)
{
	const char *const names[] = { "", ".x", "-x", "a/b", "..", "a\nb", "a b", "ä" };
	char dir[64], longest[302];
	struct err err = ERR_INIT;
	struct repo_session *s;
	struct repo *r;

	(void)state;
	help_dir(dir);
	help_init(dir, false);
	r = help_open(dir, REPO_WRITE, 1);
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	for (size_t i = 0; i <= ARRAY_SIZE(names); i++) {
		struct session_spec spec = { .name = i < ARRAY_SIZE(names) ? names[i] : longest,
					     .compression = -1 };

		assert_int_equal(repo_session_begin(r, &spec, &s, &err), ERR_INVALID);
	}
	repo_close(r);
	help_remove(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip_plain),
		cmocka_unit_test(test_round_trip_encrypted),
		cmocka_unit_test(test_grow_shrink),
		cmocka_unit_test(test_diff),
		cmocka_unit_test(test_serial_twin),
		cmocka_unit_test(test_abort_keeps),
		cmocka_unit_test(test_map_packs),
		cmocka_unit_test(test_locked_name),
		cmocka_unit_test(test_bad_names),
	};

	return cmocka_run_group_tests_name("repo-session", tests, NULL, NULL);
}
