// SPDX-License-Identifier: GPL-3.0-or-later
/* Index segments: header, where its parts may lie, fence bits, bloom filter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/format-samples.h"

#include "base/banned.h"

static const struct segment_header good = { .number = 3,
					    .records = 10,
					    .fence_bits = 2,
					    .records_offset = 128,
					    .fence_offset = 368,
					    .bloom_offset = 388,
					    .bloom_len = 64,
					    .records_check = 1,
					    .fence_check = 2,
					    .bloom_check = 3 };
#define GOOD_SIZE 452

static int decode(struct segment_header h, uint64_t size)
{
	struct segment_header out;
	uint8_t raw[SEGMENT_HEADER_LEN], again[SEGMENT_HEADER_LEN];
	segment_header_encode(&h, raw);
	int r = segment_header_decode(raw, size, &out, NULL);
	if (r == 0) {
		segment_header_encode(&out, again);
		assert_memory_equal(raw, again, sizeof(raw));
	}
	return r;
}

static void test_parts(void **state)
{
	struct segment_header h;
	(void)state;
#define WITH(change, size) (h = good, change, decode(h, size))
	assert_int_equal(decode(good, GOOD_SIZE), 0);
	assert_int_equal(decode(good, GOOD_SIZE + 1000), 0);
	assert_int_equal(decode(good, GOOD_SIZE - 1), ERR_DAMAGED);
	assert_int_equal(decode(good, 0), ERR_DAMAGED);
	assert_int_equal(WITH(h.records = 11, GOOD_SIZE), ERR_DAMAGED);
	assert_int_equal(WITH(h.records = 0, GOOD_SIZE), 0);
	assert_int_equal(WITH(h.records = UINT64_MAX, GOOD_SIZE), ERR_DAMAGED);
	assert_int_equal(WITH(h.records = (uint64_t)UINT32_MAX + 1, UINT64_MAX), ERR_DAMAGED);
	assert_int_equal(WITH(h.fence_bits = 3, GOOD_SIZE), ERR_DAMAGED);
	assert_int_equal(WITH(h.fence_bits = 31, UINT64_MAX), ERR_DAMAGED);
	assert_int_equal(WITH(h.records_offset = 127, GOOD_SIZE), ERR_DAMAGED);
	assert_int_equal(WITH(h.records_offset = 129, GOOD_SIZE), ERR_DAMAGED);
	assert_int_equal(WITH(h.records_offset = UINT64_MAX - 5, GOOD_SIZE), ERR_DAMAGED);
	assert_int_equal(WITH(h.fence_offset = 367, GOOD_SIZE), ERR_DAMAGED);
	assert_int_equal(WITH(h.bloom_offset = 387, GOOD_SIZE), ERR_DAMAGED);
	assert_int_equal(WITH(h.bloom_offset = UINT64_MAX, GOOD_SIZE), ERR_DAMAGED);
	assert_int_equal(WITH(h.bloom_len = 0, GOOD_SIZE), ERR_DAMAGED);
	assert_int_equal(WITH(h.bloom_len = 63, GOOD_SIZE), ERR_DAMAGED);
	assert_int_equal(WITH(h.bloom_len = UINT64_MAX - 63, UINT64_MAX), ERR_DAMAGED);
	/* in any order */
	assert_int_equal(WITH((h.bloom_offset = 128, h.fence_offset = 192, h.records_offset = 212),
			      GOOD_SIZE),
			 0);
#undef WITH
}

static void test_every_bit(void **state)
{
	struct segment_header out;
	uint8_t raw[SEGMENT_HEADER_LEN];
	(void)state;
	segment_header_encode(&good, raw);
	for (size_t bit = 0; bit < 8 * SEGMENT_HEADER_LEN; bit++) {
		raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(segment_header_decode(raw, GOOD_SIZE, &out, NULL), ERR_DAMAGED);
		raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	static const struct {
		size_t offset;
		int code;
	} cases[] = { { 8, ERR_UNSUPPORTED },
		      { 12, ERR_UNSUPPORTED },
		      { 104, ERR_DAMAGED },
		      { 119, ERR_DAMAGED } };
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		segment_header_encode(&good, raw);
		raw[cases[i].offset] ^= 1;
		put_le64(raw + 120, check_xxh3(raw, 120));
		assert_int_equal(segment_header_decode(raw, GOOD_SIZE, &out, NULL), cases[i].code);
	}
}

static void test_fence_bits(void **state)
{
	(void)state;
	assert_int_equal(segment_fence_bits(0), 0);
	assert_int_equal(segment_fence_bits(128), 0);
	assert_int_equal(segment_fence_bits(129), 1);
	assert_int_equal(segment_fence_bits(257), 1);
	assert_int_equal(segment_fence_bits(258), 2);
	for (uint64_t n = 1; n <= UINT32_MAX; n = n * 2 + 1) {
		unsigned k = segment_fence_bits(n);
		assert_true(k <= 30 && n >> k <= 128);
		assert_true(k == 0 || n >> (k - 1) > 128);
	}
}

static void test_bloom(void **state)
{
	enum { COUNT = 20000 };
	struct sample_source s = { 1 };
	uint64_t len = segment_bloom_len(COUNT);
	cleanup_free uint8_t *bloom = mem_alloc(len),
			     *keys = mem_alloc((size_t)COUNT * SEGMENT_KEY_LEN);
	unsigned wrong = 0;
	(void)state;
	assert_int_equal(segment_bloom_len(0), 64);
	assert_int_equal(segment_bloom_len(51), 64);
	assert_int_equal(segment_bloom_len(52), 128);
	assert_true(len >= COUNT * BLOOM_BITS_PER_KEY / 8 &&
		    len < COUNT * BLOOM_BITS_PER_KEY / 8 + 64);
	sample_bytes(&s, keys, (size_t)COUNT * SEGMENT_KEY_LEN);
	for (size_t i = 0; i < COUNT; i++)
		segment_bloom_add(bloom, len, keys + i * SEGMENT_KEY_LEN);
	for (size_t i = 0; i < COUNT; i++)
		assert_true(segment_bloom_has(bloom, len, keys + i * SEGMENT_KEY_LEN));
	for (unsigned i = 0; i < COUNT; i++) {
		uint8_t key[SEGMENT_KEY_LEN];
		sample_bytes(&s, key, sizeof(key));
		wrong += segment_bloom_has(bloom, len, key);
	}
	/* a plain filter of these numbers would have 0.9 %; blocks cost a little */
	assert_true(wrong < COUNT / 50);
	/* keys at the ends of the range stay in the filter */
	memset(keys, 0xff, SEGMENT_KEY_LEN);
	segment_bloom_add(bloom, len, keys);
	memset(keys, 0, SEGMENT_KEY_LEN);
	segment_bloom_add(bloom, len, keys);
	assert_true(segment_bloom_has(bloom, len, keys));
}

/* The page's words: block by the first half, bits by the second. */
static void test_bloom_layout(void **state)
{
	uint8_t bloom[4 * BLOOM_BLOCK] = { 0 }, key[SEGMENT_KEY_LEN] = { 0xc0 };
	uint64_t h = 0;
	(void)state;
	for (unsigned i = 0; i < 6; i++)
		h |= (uint64_t)(100 + i) << (9 * i);
	put_le64(key + 8, h);
	segment_bloom_add(bloom, sizeof(bloom), key);
	for (unsigned bit = 0; bit < 8 * sizeof(bloom); bit++)
		assert_int_equal(bloom[bit / 8] >> bit % 8 & 1,
				 bit >= 3 * 512 + 100 && bit < 3 * 512 + 106);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parts),	     cmocka_unit_test(test_every_bit),
		cmocka_unit_test(test_fence_bits),   cmocka_unit_test(test_bloom),
		cmocka_unit_test(test_bloom_layout),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
