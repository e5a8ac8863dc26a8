// SPDX-License-Identifier: GPL-3.0-or-later
/* A layer of an overlay against a model: random requests, reopening, crashes, threads; plain and encrypted. */
#include <pthread.h>

#include "tests/unit/overlay-help.h"

#include "base/banned.h"

#define SIZE_PAGES (64 * MiB + 300 * KiB + 3 * SECTOR) /* two pages, the last block is short */

static const uint64_t sizes[] = { SECTOR, 5 * OVERLAY_BLOCK, 700 * KiB + SECTOR, SIZE_PAGES };

static void random_world(bool encrypted, uint64_t size, unsigned steps)
{
	struct err err = ERR_INIT;
	struct world w;

	world_begin(&w, size, encrypted, 1 + size + encrypted);
	model_begin(&w);
	for (unsigned i = 0; i < steps; i++) {
		random_step(&w);
		if (i % 200 == 199) {
			ok(overlay_layer_flush(w.l, &err));
			model_flushed(&w);
			world_close(&w);
			world_open(&w, i % 400 == 199);
			world_compare(&w, MIN(size, 2 * MiB), 0);
		}
	}
	world_compare(&w, size, 0);
	world_end(&w);
}

static void test_random(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		random_world(false, sizes[i], 2000);
		random_world(true, sizes[i], 1200);
	}
}

/* A copy of the files at any moment is what a kill leaves. */
static void crash(struct world *w)
{
	char dir[32], from[160];
	const char *argv[] = { "cp", "-a", "--sparse=always", from, dir, NULL };
	cleanup_buf struct buf out = BUF_INIT;

	world_folder(dir);
	snprintf(from, sizeof(from), "%s/.", w->dir);
	assert_int_equal(proc_run(argv, &out, 4096, NULL), 0);
	world_close(w);
	world_remove(w->dir);
	str_copy(w->dir, sizeof(w->dir), dir);
	world_open(w, true);
}

static void test_crash(void **state)
{
	struct world w;

	(void)state;
	for (unsigned encrypted = 0; encrypted < 2; encrypted++) {
		world_begin(&w, 700 * KiB + SECTOR, encrypted, 77 + encrypted);
		model_begin(&w);
		for (unsigned round = 0; round < 60; round++) {
			for (unsigned i = world_random(&w, 60); i > 0; i--)
				random_step(&w);
			crash(&w);
			world_after_crash(&w);
		}
		world_end(&w);
	}
}

/* --- threads that write alternate sectors of the same blocks --- */

#define WRITERS 4
#define SHARED_BLOCKS 12
#define ROUNDS 400

struct writer {
	struct world *w;
	unsigned number;
	uint64_t last[SHARED_BLOCKS * OVERLAY_BLOCK / SECTOR];
	pthread_t thread;
	int result;
};

static void fill(uint8_t *sector, uint64_t stamp)
{
	for (unsigned i = 0; i < SECTOR; i += 8)
		put_le64(sector + i, stamp);
}

static void *write_alternate(void *opaque)
{
	struct writer *me = opaque;
	uint64_t sectors = SHARED_BLOCKS * OVERLAY_BLOCK / SECTOR;
	uint8_t data[SECTOR];
	struct err err = ERR_INIT;

	for (uint64_t i = 1; me->result == 0 && i <= ROUNDS; i++) {
		uint64_t s = (i * 7 + me->number * 3) % (sectors / WRITERS) * WRITERS + me->number;

		fill(data, i << 8 | me->number);
		if (i % 37 == 0) {
			memset(data, 0, sizeof(data));
			me->result = overlay_layer_zero(me->w->l, &base, SECTOR, s * SECTOR, &err);
		} else {
			me->result = overlay_layer_write(me->w->l, &base, data, SECTOR, s * SECTOR,
							 &err);
		}
		me->last[s] = get_le64(data);
		if (me->result == 0 && i % 50 == 0)
			me->result = overlay_layer_flush(me->w->l, &err);
	}
	return NULL;
}

/* Each sector that is read is one that somebody wrote, or of the base. */
static void *read_beside(void *opaque)
{
	struct writer *me = opaque;
	static uint8_t got[SHARED_BLOCKS * OVERLAY_BLOCK];
	struct err err = ERR_INIT;

	for (unsigned i = 0; me->result == 0 && i < ROUNDS; i++) {
		me->result = overlay_layer_read(me->w->l, &base, got, sizeof(got), 0, &err);
		for (unsigned s = 0; me->result == 0 && s < sizeof(got) / SECTOR; s++) {
			const uint8_t *p = got + (size_t)s * SECTOR;
			bool stamped = get_le64(p) == get_le64(p + SECTOR - 8) &&
				       (get_le64(p) == 0 || (get_le64(p) & 255) == s % WRITERS);

			if (!stamped && p[0] != base_byte((uint64_t)s * SECTOR))
				me->result = -1;
		}
	}
	return NULL;
}

static void test_alternate_sectors(void **state)
{
	(void)state;
	for (unsigned encrypted = 0; encrypted < 2; encrypted++) {
		struct writer writers[WRITERS + 1] = { 0 };
		uint8_t got[SECTOR], expected[SECTOR];
		struct err err = ERR_INIT;
		struct world w;

		world_begin(&w, 1 * MiB, encrypted, 5);
		for (unsigned i = 0; i <= WRITERS; i++) {
			writers[i].w = &w;
			writers[i].number = i;
			assert_int_equal(pthread_create(&writers[i].thread, NULL,
							i < WRITERS ? write_alternate : read_beside,
							&writers[i]),
					 0);
		}
		for (unsigned i = 0; i <= WRITERS; i++) {
			pthread_join(writers[i].thread, NULL);
			assert_int_equal(writers[i].result, 0);
		}
		for (unsigned pass = 0; pass < 2; pass++) {
			for (uint64_t s = 0; s < SHARED_BLOCKS * OVERLAY_BLOCK / SECTOR; s++) {
				ok(overlay_layer_read(w.l, &base, got, SECTOR, s * SECTOR, &err));
				fill(expected, writers[s % WRITERS].last[s]);
				assert_memory_equal(got, expected, SECTOR);
			}
			ok(overlay_layer_flush(w.l, &err));
			world_close(&w);
			world_open(&w, true);
		}
		world_end(&w);
	}
}

/* --- what lies in the files --- */

static bool file_has(const char *dir, const char *name, const void *what, size_t n)
{
	cleanup_free char *path = str_printf("%s/%s", dir, name);
	cleanup_buf struct buf content = BUF_INIT;
	struct err err = ERR_INIT;

	ok(file_read_all(path, 64 * MiB, &content, &err));
	return memmem(content.data, content.len, what, n);
}

/* Nothing that was written, and nothing of the base that was copied up. */
static void test_no_plaintext(void **state)
{
	static const char secret[] = "a secret of the guest, 40 bytes long....";
	uint8_t from_base[64];

	(void)state;
	base_read(NULL, from_base, sizeof(from_base), 8 * OVERLAY_BLOCK + 1024, NULL);
	for (unsigned encrypted = 0; encrypted < 2; encrypted++) {
		struct err err = ERR_INIT;
		struct world w;

		world_begin(&w, 1 * MiB, encrypted, 6);
		ok(overlay_layer_write(w.l, &base, secret, sizeof(secret), 8 * OVERLAY_BLOCK + 3,
				       &err));
		ok(overlay_layer_flush(w.l, &err));
		assert_true(file_has(w.dir, "vda.1.data", secret, sizeof(secret)) == !encrypted);
		assert_true(file_has(w.dir, "vda.1.data", from_base, sizeof(from_base)) ==
			    !encrypted);
		assert_false(file_has(w.dir, "vda.1.log", secret, sizeof(secret)));
		world_end(&w);
	}
}

static void test_holes_are_punched(void **state)
{
	static uint8_t data[512 * 1024];
	struct err err = ERR_INIT;
	uint64_t full, less;
	struct world w;

	(void)state;
	memset(data, 7, sizeof(data));
	world_begin(&w, 1 * MiB, false, 6);
	ok(overlay_layer_write(w.l, &base, data, sizeof(data), 0, &err));
	ok(overlay_layer_flush(w.l, &err));
	ok(overlay_layer_bytes(w.l, &full, &err));
	ok(overlay_layer_trim(w.l, 256 * KiB, 0, &err));
	ok(overlay_layer_flush(w.l, &err));
	ok(overlay_layer_bytes(w.l, &less, &err));
	if (!w.l->no_punch)
		assert_true(less + 256 * KiB <= full);
	world_end(&w);
}

static int collect(void *opaque, enum block_state state, uint64_t start, uint64_t length,
		   struct err *err)
{
	(void)err;
	buf_printf(opaque, "%d %llu %llu\n", (int)state, (unsigned long long)start,
		   (unsigned long long)length);
	return 0;
}

static void test_runs(void **state)
{
	cleanup_buf struct buf out = BUF_INIT;
	struct err err = ERR_INIT;
	struct world w;

	(void)state;
	world_begin(&w, 10 * OVERLAY_BLOCK + SECTOR, false, 6);
	ok(overlay_layer_write(w.l, &base, "x", 1, 2 * OVERLAY_BLOCK, &err));
	ok(overlay_layer_zero(w.l, &base, 6 * OVERLAY_BLOCK, 4 * OVERLAY_BLOCK - 1, &err));
	ok(overlay_layer_trim(w.l, SECTOR, 10 * OVERLAY_BLOCK, &err));
	ok(overlay_layer_trim(w.l, OVERLAY_BLOCK + SECTOR, OVERLAY_BLOCK - 1, &err));
	ok(overlay_layer_runs(w.l, 100, w.size - 200, collect, &out, &err));
	assert_string_equal(buf_str(&out), "0 100 3996\n"
					   "2 4096 4096\n"
					   "1 8192 8192\n"
					   "2 16384 20480\n"
					   "1 36864 4096\n"
					   "2 40960 412\n");
	buf_reset(&out);
	ok(overlay_layer_runs(w.l, 0, 0, collect, &out, &err));
	assert_int_equal(out.len, 0);
	assert_int_equal(overlay_layer_runs(w.l, 1, w.size, collect, &out, &err), ERR_INVALID);
	assert_int_equal(overlay_layer_write(w.l, &base, "xy", 2, w.size - 1, &err), ERR_INVALID);
	assert_int_equal(overlay_layer_trim(w.l, UINT64_MAX, 1, &err), ERR_INVALID);
	world_end(&w);
}

static void test_frozen(void **state)
{
	struct overlay_layer_spec spec;
	struct overlay_layer *frozen = NULL;
	struct err err = ERR_INIT;
	uint8_t byte;
	struct world w;

	(void)state;
	world_begin(&w, 1 * MiB, true, 6);
	ok(overlay_layer_write(w.l, &base, "x", 1, 5, &err));
	ok(overlay_layer_flush(w.l, &err));
	spec = world_spec(&w);
	ok(overlay_layer_open(&spec, true, false, &frozen, &err));
	ok(overlay_layer_read(frozen, &base, &byte, 1, 5, &err));
	assert_int_equal(byte, 'x');
	assert_int_equal(overlay_layer_write(frozen, &base, "y", 1, 5, &err), ERR_READONLY);
	assert_int_equal(overlay_layer_trim(frozen, 8192, 0, &err), ERR_READONLY);
	ok(overlay_layer_flush(frozen, &err));
	ok(overlay_layer_check(frozen, &err));
	overlay_layer_close(frozen);
	assert_int_equal(overlay_layer_create(&spec, &err), ERR_EXISTS);
	world_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runs),	     cmocka_unit_test(test_random),
		cmocka_unit_test(test_crash),	     cmocka_unit_test(test_alternate_sectors),
		cmocka_unit_test(test_no_plaintext), cmocka_unit_test(test_holes_are_punched),
		cmocka_unit_test(test_frozen),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
