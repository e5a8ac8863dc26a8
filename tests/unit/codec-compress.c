// SPDX-License-Identifier: GPL-3.0-or-later
/* Compression: what is stored raw, that every level gives the bytes back, and broken frames. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/codec-samples.h"

#include "base/banned.h"

#define CHUNK 65536

static const uint8_t uuid[UUID_LEN] = { 1, 2, 3 };
static const uint8_t no_salt[SALT_LEN];
static uint8_t plain[OBJECT_PLAIN_MAX], stored[OBJECT_PLAIN_MAX], back[OBJECT_PLAIN_MAX];

struct fixture {
	struct codec_keys *keys;
	struct codec_ctx *ctx;
	struct codec_pack_key *pk;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	*state = f;
	return !f || codec_keys_plain(uuid, &f->keys, NULL) < 0 ||
	       codec_ctx_new(f->keys, &f->ctx, NULL) < 0 ||
	       codec_pack_key_new(f->keys, no_salt, 0, 1, &f->pk, NULL) < 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	codec_pack_key_free(f->pk);
	codec_ctx_free(f->ctx);
	codec_keys_free(f->keys);
	free(f);
	return 0;
}

static struct record_header header_of(enum object_codec codec, int level, size_t n, size_t len)
{
	return (struct record_header){ .type = OBJECT_CHUNK,
				       .codec = (uint8_t)codec,
				       .level = (int8_t)level,
				       .plain_len = (uint32_t)n,
				       .stored_len = (uint32_t)len,
				       .xxh3 = check_xxh3(plain, n) };
}

static void check_round_trip(struct fixture *f, int level, size_t n)
{
	struct err err = ERR_INIT;
	enum object_codec codec;
	size_t len;
	assert_int_equal(codec_compress(f->ctx, level, plain, n, stored, n, &codec, &len, &err), 0);
	if (codec == CODEC_RAW) {
		assert_int_equal(len, n);
		return;
	}
	assert_true(level != 0);
	assert_true(len <= n - n / 32 && len < n);
	struct record_header h = header_of(codec, level, n, len);
	memset(back, 0xee, n);
	assert_int_equal(codec_open_record(f->ctx, f->pk, &h, stored, back, &err), 0);
	assert_memory_equal(back, plain, n);
}

static void test_kinds_and_levels(void **state)
{
	static const int levels[] = { 0, -100, -3, 1, 3, 4, 5, 6, 15, 19 };
	static const size_t sizes[] = { 1, 31, 32, 33, 512, 4095, 4096, CHUNK, CHUNK + 1 };
	for (int kind = 0; kind < SAMPLE_KINDS; kind++)
		for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
			sample_fill(kind, plain, sizes[s]);
			for (size_t l = 0; l < ARRAY_SIZE(levels); l++)
				check_round_trip(*state, levels[l], sizes[s]);
		}
	sample_fill(SAMPLE_ISLANDS, plain, sizeof(plain));
	check_round_trip(*state, 1, sizeof(plain));
	check_round_trip(*state, 6, sizeof(plain));
}

/* What the quick look of the slow levels must not throw away, and what it must. */
static void test_probe_judges_right(void **state)
{
	struct fixture *f = *state;
	static const int levels[] = { 5, 6, 15 };
	static const size_t sizes[] = { 4096, 16383, 16384, CHUNK, 1024 * 1024 };
	for (int kind = 0; kind < SAMPLE_KINDS; kind++)
		for (size_t i = 0; i < ARRAY_SIZE(levels) * ARRAY_SIZE(sizes); i++) {
			enum object_codec codec;
			size_t len, n = sizes[i / ARRAY_SIZE(levels)];
			sample_fill(kind, plain, n);
			assert_int_equal(codec_compress(f->ctx, levels[i % ARRAY_SIZE(levels)],
							plain, n, stored, n, &codec, &len, NULL),
					 0);
			assert_int_equal(codec, kind == SAMPLE_RANDOM ? CODEC_RAW : CODEC_ZSTD);
		}
}

static void test_same_bytes_in_another_context(void **state)
{
	struct fixture *f = *state, *other = NULL;
	enum object_codec codec;
	size_t len, len_other;
	assert_int_equal(setup((void **)&other), 0);
	sample_fill(SAMPLE_ISLANDS, plain, CHUNK);
	for (int level = -3; level <= 9; level += 3) {
		/* one has seen other data and levels, has other room */
		assert_int_equal(codec_compress(f->ctx, 15, plain + 7, 5000, stored, 5000, &codec,
						&len, NULL),
				 0);
		assert_int_equal(codec_compress(f->ctx, level, plain, CHUNK, stored, CHUNK, &codec,
						&len, NULL),
				 0);
		assert_int_equal(codec_compress(other->ctx, level, plain, CHUNK, back, sizeof(back),
						&codec, &len_other, NULL),
				 0);
		assert_int_equal(len, len_other);
		assert_true(codec == CODEC_RAW || memcmp(stored, back, len) == 0);
	}
	teardown((void **)&other);
}

static void test_limits_refused(void **state)
{
	struct fixture *f = *state;
	enum object_codec codec;
	size_t len;
	assert_int_equal(codec_compress(f->ctx, 1, plain, 0, stored, 10, &codec, &len, NULL),
			 ERR_INTERNAL);
	assert_int_equal(codec_compress(f->ctx, 1, plain, 10, stored, 9, &codec, &len, NULL),
			 ERR_INTERNAL);
	assert_int_equal(codec_compress(f->ctx, 1, plain, OBJECT_PLAIN_MAX + 1, stored,
					OBJECT_PLAIN_MAX + 1, &codec, &len, NULL),
			 ERR_INTERNAL);
	assert_int_equal(codec_compress(f->ctx, 23, plain, 10, stored, 10, &codec, &len, NULL),
			 ERR_INVALID);
	assert_int_equal(codec_compress(f->ctx, -129, plain, 10, stored, 10, &codec, &len, NULL),
			 ERR_INVALID);
}

static int open_stored(struct fixture *f, size_t n, size_t len)
{
	struct record_header h = header_of(CODEC_ZSTD, 1, n, len);
	return codec_open_record(f->ctx, f->pk, &h, stored, back, NULL);
}

static void test_broken_frames_refused(void **state)
{
	struct fixture *f = *state;
	enum object_codec codec;
	size_t len;
	const size_t n = 3000;
	sample_fill(SAMPLE_TEXT, plain, CHUNK);
	assert_int_equal(codec_compress(f->ctx, 1, plain, n, stored, n, &codec, &len, NULL), 0);
	assert_int_equal(codec, CODEC_ZSTD);
	assert_int_equal(open_stored(f, n, len), 0);
	assert_int_equal(open_stored(f, n - 1, len), ERR_DAMAGED);
	assert_int_equal(open_stored(f, n + 1, len), ERR_DAMAGED);
	assert_int_equal(open_stored(f, n, len - 1), ERR_DAMAGED);
	assert_int_equal(open_stored(f, n, len + 1), ERR_DAMAGED);
	/* a second, and a skippable, frame behind it */
	memcpy(stored + len, stored, len);
	assert_int_equal(open_stored(f, n, 2 * len), ERR_DAMAGED);
	assert_int_equal(open_stored(f, 2 * n, 2 * len), ERR_DAMAGED);
	memcpy(stored + len, "\x50\x2a\x4d\x18\0\0\0\0", 8);
	assert_int_equal(open_stored(f, n, len + 8), ERR_DAMAGED);
	/* every bit: refused, by zstd or by the XXH3, or it says the same */
	for (size_t bit = 0; bit < 8 * len; bit++) {
		stored[bit / 8] ^= (uint8_t)(1 << bit % 8);
		int r = open_stored(f, n, len);
		assert_true(r == ERR_DAMAGED || (r == 0 && memcmp(back, plain, n) == 0));
		assert_true(r == 0 || mem_is_zero(back, n) || memcmp(back, plain, n) == 0);
		stored[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_kinds_and_levels, setup, teardown),
		cmocka_unit_test_setup_teardown(test_probe_judges_right, setup, teardown),
		cmocka_unit_test_setup_teardown(test_same_bytes_in_another_context, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_limits_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_broken_frames_refused, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
