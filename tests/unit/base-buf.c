// SPDX-License-Identifier: GPL-3.0-or-later
/* Buffer and cursor: round trips, sticky errors, varints that are not minimal, failing growth. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"

#include "base/banned.h"

static void test_round_trip(void **state)
{
	cleanup_buf struct buf b = BUF_INIT;
	struct cursor c;
	uint8_t raw[3];

	(void)state;
	buf_put_u8(&b, 1);
	buf_put_le16(&b, 0x0203);
	buf_put_le32(&b, 0x04050607);
	buf_put_le64(&b, UINT64_C(0x08090a0b0c0d0e0f));
	buf_put(&b, "abc", 3);
	buf_put_zero(&b, 2);
	buf_put(&b, NULL, 0);
	buf_printf(&b, "%s-%d", "x", 42);
	assert_false(b.failed);
	assert_int_equal(b.len, 24);
	assert_memory_equal(b.data, "\1\3\2\7\6\5\4", 7);
	c = cursor_of(b.data, b.len);
	assert_int_equal(cursor_u8(&c), 1);
	assert_int_equal(cursor_le16(&c), 0x0203);
	assert_int_equal(cursor_le32(&c), 0x04050607);
	assert_true(cursor_le64(&c) == UINT64_C(0x08090a0b0c0d0e0f));
	assert_true(cursor_get(&c, raw, 3));
	assert_memory_equal(raw, "abc", 3);
	assert_int_equal(cursor_le16(&c), 0);
	assert_memory_equal(cursor_take(&c, 4), "x-42", 4);
	assert_int_equal(cursor_left(&c), 0);
	assert_false(c.failed);
}

static void test_cursor_fails(void **state)
{
	struct cursor c = cursor_of("abc", 3);
	uint8_t raw[4] = { 1, 1, 1, 1 };

	(void)state;
	assert_non_null(cursor_take(&c, 0));
	assert_false(cursor_get(&c, raw, 4));
	assert_memory_equal(raw, "\0\0\0\0", 4);
	assert_true(c.failed);
	assert_int_equal(cursor_left(&c), 0);
	assert_int_equal(cursor_u8(&c), 0); /* sticky: the three bytes are not given out any more */
	assert_null(cursor_take(&c, 0));
	c = cursor_of("abc", 3);
	assert_null(cursor_take(&c, SIZE_MAX));
	assert_true(c.failed);
	c = cursor_of(NULL, 0);
	assert_int_equal(cursor_le64(&c), 0);
	assert_true(c.failed);
}

static void test_varint(void **state)
{
	static const uint64_t values[] = { 0,	  1,	 127,	     128,	255,
					   16383, 16384, UINT32_MAX, INT64_MAX, UINT64_MAX };
	static const size_t sizes[] = { 1, 1, 1, 2, 2, 2, 3, 5, 9, 10 };
	cleanup_buf struct buf b = BUF_INIT;
	size_t i, cut;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(values); i++) {
		struct cursor c;

		buf_reset(&b);
		buf_put_varint(&b, values[i]);
		assert_int_equal(b.len, sizes[i]);
		c = cursor_of(b.data, b.len);
		assert_true(cursor_varint(&c) == values[i]);
		assert_false(c.failed);
		assert_int_equal(cursor_left(&c), 0);
		for (cut = 0; cut < b.len; cut++) {
			c = cursor_of(b.data, cut);
			assert_int_equal(cursor_varint(&c), 0);
			assert_true(c.failed);
		}
	}
}

static void test_varint_bad(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
	} bad[] = { { "\x80\x00", 2 },
		    { "\xff\x80\x00", 3 },
		    { "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10 },
		    { "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x01", 11 } };
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		struct cursor c = cursor_of(bad[i].bytes, bad[i].n);

		assert_int_equal(cursor_varint(&c), 0);
		assert_true(c.failed);
	}
}

static void test_text(void **state)
{
	cleanup_buf struct buf b = BUF_INIT;
	int i;

	(void)state;
	assert_string_equal(buf_str(&b), "");
	for (i = 0; i < 1000; i++)
		buf_printf(&b, "%03d,", i);
	assert_int_equal(b.len, 4000);
	assert_int_equal(strlen(buf_str(&b)), 4000);
	assert_memory_equal(b.data + 3996, "999,", 5);
	buf_reset(&b);
	assert_string_equal(buf_str(&b), "");
	assert_true(b.cap >= 4000);
}

static void fill(struct buf *b)
{
	int i;

	for (i = 0; i < 100; i++)
		buf_put(b, "0123456789", 10);
	buf_printf(b, "%0300d", 1);
}

/* The n-th growth fails, for each n until none does. */
static void test_growth_fails(void **state)
{
	unsigned n;

	(void)state;
	for (n = 1;; n++) {
		cleanup_buf struct buf b = BUF_INIT;

		mem_fail_after(n);
		fill(&b);
		mem_fail_after(0);
		if (!b.failed) {
			assert_int_equal(b.len, 1300);
			break;
		}
		assert_true(b.len < 1300);
		assert_string_equal(buf_str(&b), "");
		buf_put_u8(&b, 1);
		assert_true(b.failed);
		buf_reset(&b);
		fill(&b);
		assert_int_equal(b.len, 1300);
	}
	assert_true(n > 3);
}

static void test_reserve_overflow(void **state)
{
	cleanup_buf struct buf b = BUF_INIT;

	(void)state;
	buf_put_u8(&b, 7);
	assert_false(buf_reserve(&b, SIZE_MAX));
	assert_true(b.failed);
	assert_int_equal(b.len, 1);
	assert_int_equal(b.data[0], 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_cursor_fails),
		cmocka_unit_test(test_varint),
		cmocka_unit_test(test_varint_bad),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_growth_fails),
		cmocka_unit_test(test_reserve_overflow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
