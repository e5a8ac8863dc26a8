// SPDX-License-Identifier: GPL-3.0-or-later
/* Key files: round trips, flipped bits, bounds, labels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/format-samples.h"

#include "base/banned.h"

static void test_round_trips(void **state)
{
	struct sample_source s = { 1 };
	(void)state;
	for (int i = 0; i < 2000; i++) {
		struct key_file a = sample_key(&s), b;
		uint8_t raw[KEY_FILE_LEN], again[KEY_FILE_LEN];
		key_file_encode(&a, raw);
		assert_int_equal(key_file_decode(raw, sizeof(raw), &b, NULL), 0);
		assert_string_equal(a.label, b.label);
		assert_memory_equal(a.wrapped, b.wrapped, KEY_WRAPPED_LEN);
		assert_memory_equal(a.salt, b.salt, SALT_LEN);
		assert_memory_equal(a.nonce, b.nonce, NONCE_MAX);
		assert_memory_equal(a.uuid, b.uuid, UUID_LEN);
		assert_true(a.kdf_n == b.kdf_n && a.kdf_r == b.kdf_r && a.kdf_p == b.kdf_p &&
			    a.suite == b.suite && a.created == b.created);
		key_file_encode(&b, again);
		assert_memory_equal(raw, again, sizeof(raw));
	}
}

/* The byte table of the page. */
static void test_layout(void **state)
{
	struct key_file k = {
		.suite = 1, .kdf_n = 65536, .kdf_r = 8, .kdf_p = 2, .label = "home", .created = 5
	};
	uint8_t raw[KEY_FILE_LEN];
	(void)state;
	memset(k.salt, 0xaa, SALT_LEN);
	memset(k.nonce, 0xbb, 12);
	memset(k.uuid, 0xcc, UUID_LEN);
	memset(k.wrapped, 0xdd, KEY_WRAPPED_LEN);
	key_file_encode(&k, raw);
	assert_memory_equal(raw, "LVPTKEY1\1\0\1\0\1\0\0\0\0\0\1\0\0\0\0\0\10\0\0\0\2\0\0\0", 32);
	assert_true(raw[32] == 0xaa && raw[63] == 0xaa && raw[64] == 0xbb && raw[75] == 0xbb &&
		    raw[76] == 0);
	assert_true(raw[87] == 0 && raw[88] == 0xcc && raw[103] == 0xcc);
	assert_memory_equal(raw + 104, "home\0", 5);
	assert_memory_equal(raw + 168, "\5\0\0\0\0\0\0\0\60\0\0\0\0\0\0\0\xdd", 17);
	assert_true(raw[231] == 0xdd);
	assert_true(get_le64(raw + 232) == check_xxh3(raw, 232));
}

static void test_every_bit_and_length(void **state)
{
	struct sample_source s = { 2 };
	struct key_file a = sample_key(&s), b;
	uint8_t raw[KEY_FILE_LEN + 1] = { 0 };
	(void)state;
	key_file_encode(&a, raw);
	for (size_t bit = 0; bit < 8 * KEY_FILE_LEN; bit++) {
		raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(key_file_decode(raw, KEY_FILE_LEN, &b, NULL), ERR_DAMAGED);
		raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (size_t n = 0; n <= sizeof(raw); n++)
		assert_int_equal(key_file_decode(raw, n, &b, NULL),
				 n == KEY_FILE_LEN ? 0 : ERR_DAMAGED);
}

/* Sets one byte and makes the check right again. */
static int decode_with(size_t offset, uint8_t value)
{
	struct key_file k = { .suite = 1, .kdf_n = 65536, .kdf_r = 8, .kdf_p = 1, .label = "home" },
			out;
	uint8_t raw[KEY_FILE_LEN];
	key_file_encode(&k, raw);
	raw[offset] = value;
	put_le64(raw + 232, check_xxh3(raw, 232));
	return key_file_decode(raw, sizeof(raw), &out, NULL);
}

static void test_fields(void **state)
{
	(void)state;
	assert_int_equal(decode_with(0, 'L'), 0);
	assert_int_equal(decode_with(0, 'M'), ERR_DAMAGED);
	assert_int_equal(decode_with(8, 2), ERR_UNSUPPORTED);
	assert_int_equal(decode_with(10, 0), ERR_DAMAGED);
	assert_int_equal(decode_with(10, 2), ERR_UNSUPPORTED);
	assert_int_equal(decode_with(12, 2), ERR_UNSUPPORTED);
	assert_int_equal(decode_with(16, 1), ERR_DAMAGED); /* not a power of two */
	assert_int_equal(decode_with(18, 0), ERR_DAMAGED); /* 0 */
	assert_int_equal(decode_with(18, 16), 0); /* 2^20 */
	assert_int_equal(decode_with(18, 32), ERR_DAMAGED);
	assert_int_equal(decode_with(23, 1), ERR_DAMAGED);
	assert_int_equal(decode_with(24, 0), ERR_DAMAGED);
	assert_int_equal(decode_with(24, 32), 0);
	assert_int_equal(decode_with(24, 33), ERR_DAMAGED);
	assert_int_equal(decode_with(28, 16), 0);
	assert_int_equal(decode_with(28, 17), ERR_DAMAGED);
	assert_int_equal(decode_with(76, 1), ERR_DAMAGED);
	assert_int_equal(decode_with(104, 10), ERR_DAMAGED);
	assert_int_equal(decode_with(104, 0), ERR_DAMAGED); /* text behind the end */
	assert_int_equal(decode_with(167, 1), ERR_DAMAGED);
	assert_int_equal(decode_with(176, 47), ERR_DAMAGED);
	assert_int_equal(decode_with(180, 1), ERR_DAMAGED);
}

static void test_labels(void **state)
{
	static const char *const good[] = {
		"", "a", "b\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x92\xbe", "two words"
	};
	static const char *const bad[] = {
		"\n",	    "\x7f",	    "\x1b[0m",	       "\xc3",
		"\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80",    "\xf4\x90\x80\x80",
		"\x80",	    "\xc2\x85",	    "\xf0\x80\x80\xaf"
	};
	char text[KEY_LABEL_MAX + 2];
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_true(key_label_valid(good[i]));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(key_label_valid(bad[i]));
	memset(text, 'x', sizeof(text));
	text[KEY_LABEL_MAX + 1] = 0;
	assert_false(key_label_valid(text));
	text[KEY_LABEL_MAX] = 0;
	assert_true(key_label_valid(text));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trips),
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_every_bit_and_length),
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_labels),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
