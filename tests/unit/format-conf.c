// SPDX-License-Identifier: GPL-3.0-or-later
/* livepoint.conf: round trips, flipped bits, keys and values that are refused, and with which
 * code. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/format-samples.h"

#include "base/banned.h"

static const char good[] = "format = 1\n"
			   "uuid = 000102030405060708090a0b0c0d0e0f\n"
			   "incompatible = 0000000000000000\n"
			   "compatible = 0000000000000000\n"
			   "autoclear = 0000000000000000\n"
			   "chunk-size = 65536\n"
			   "leaf-chunks = 1024\n"
			   "suite = 1\n"
			   "compression = default\n"
			   "kdf = scrypt\n"
			   "kdf-n = 65536\n"
			   "kdf-r = 8\n"
			   "kdf-p = 1\n"
			   "grace = 0\n"
			   "created = 2026-11-21T12:00:00Z\n";

/* Decodes lines with a right check line behind them. */
static int decode_lines(const char *lines, struct conf *c)
{
	cleanup_free char *text = str_printf("%scheck = %016llx\n", lines,
					     (unsigned long long)check_xxh3(lines, strlen(lines)));
	struct err err = ERR_INIT;
	assert_non_null(text);
	int r = conf_decode(text, strlen(text), c, &err);
	if (r < 0)
		assert_true(err.text[0] && err.code == r);
	return r;
}

/* good with `from` replaced by `to`. */
static int decode_replaced(const char *from, const char *to)
{
	const char *at = strstr(good, from);
	struct conf c;
	assert_non_null(at);
	cleanup_free char *lines =
		str_printf("%.*s%s%s", (int)(at - good), good, to, at + strlen(from));
	assert_non_null(lines);
	return decode_lines(lines, &c);
}

static void test_known_text(void **state)
{
	struct conf c;
	cleanup_buf struct buf out = BUF_INIT;
	(void)state;
	assert_int_equal(decode_lines(good, &c), 0);
	assert_int_equal(c.uuid[15], 15);
	assert_int_equal(c.chunk_size, 65536);
	assert_int_equal(c.suite, 1);
	assert_int_equal(c.compression, COMPRESSION_DEFAULT);
	assert_true(c.kdf_n == 65536 && c.kdf_r == 8 && c.kdf_p == 1);
	assert_int_equal(conf_encode(&c, &out, NULL), 0);
	assert_int_equal(out.len, strlen(good) + 25);
	assert_memory_equal(out.data, good, strlen(good));
}

static void test_round_trips(void **state)
{
	struct sample_source s = { 1 };
	(void)state;
	for (int i = 0; i < 2000; i++) {
		struct conf a = sample_conf(&s), b;
		cleanup_buf struct buf out = BUF_INIT, again = BUF_INIT;
		struct err err = ERR_INIT;
		assert_int_equal(conf_encode(&a, &out, &err), 0);
		assert_int_equal(conf_decode(out.data, out.len, &b, &err), 0);
		assert_memory_equal(a.uuid, b.uuid, UUID_LEN);
		assert_true(a.compatible == b.compatible && a.autoclear == b.autoclear &&
			    a.grace == b.grace && a.created == b.created && a.kdf_n == b.kdf_n &&
			    a.kdf_r == b.kdf_r && a.kdf_p == b.kdf_p && a.suite == b.suite &&
			    a.chunk_size == b.chunk_size && a.compression == b.compression);
		assert_int_equal(conf_encode(&b, &again, &err), 0);
		assert_int_equal(out.len, again.len);
		assert_memory_equal(out.data, again.data, out.len);
	}
}

static void test_every_bit_and_every_cut(void **state)
{
	struct sample_source s = { 2 };
	struct conf a = sample_conf(&s), b;
	cleanup_buf struct buf out = BUF_INIT;
	(void)state;
	assert_int_equal(conf_encode(&a, &out, NULL), 0);
	for (size_t bit = 0; bit < 8 * out.len; bit++) {
		out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(conf_decode(out.data, out.len, &b, NULL), ERR_DAMAGED);
		out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (size_t n = 0; n < out.len; n++)
		assert_int_equal(conf_decode(out.data, n, &b, NULL), ERR_DAMAGED);
	buf_put_u8(&out, '\n');
	assert_int_equal(conf_decode(out.data, out.len, &b, NULL), ERR_DAMAGED);
}

static void test_newer_repositories(void **state)
{
	(void)state;
	assert_int_equal(decode_replaced("format = 1", "format = 2"), ERR_NO_REPO);
	/* also when all that follows makes no sense to us */
	assert_int_equal(decode_replaced("format = 1\nuuid", "format = 2\nnew-key = 7\nuuid"),
			 ERR_NO_REPO);
	assert_int_equal(decode_replaced("incompatible = 0000000000000000",
					 "incompatible = 0000000000000001"),
			 ERR_NO_REPO);
	assert_int_equal(decode_replaced("suite = 1", "suite = 2"), ERR_NO_REPO);
	assert_int_equal(decode_replaced("grace", "new-key = 7\ngrace"), ERR_NO_REPO);
	assert_int_equal(decode_replaced("compatible = 0000000000000000\nautoclear",
					 "compatible = 8000000000000000\nautoclear"),
			 0);
	assert_int_equal(
		decode_replaced("autoclear = 0000000000000000", "autoclear = 0000000000000001"), 0);
	struct err err = ERR_INIT;
	struct conf c;
	cleanup_free char *text = str_printf("format = 7\ncheck = %016llx\n",
					     (unsigned long long)check_xxh3("format = 7\n", 11));
	assert_int_equal(conf_decode(text, strlen(text), &c, &err), ERR_NO_REPO);
	assert_non_null(strstr(err.text, "upgrade"));
}

static void test_extra_keys_are_skipped(void **state)
{
	(void)state;
	assert_int_equal(decode_replaced("grace", "x-note = anything = at all \xc3\xa4\ngrace"), 0);
	assert_int_equal(decode_replaced("format", "x-first = 1\nformat"), 0);
	assert_int_equal(decode_replaced("Z\n", "Z\nx-last = \n"), 0);
	assert_int_equal(decode_replaced("grace", "x-note=1\ngrace"), ERR_DAMAGED);
	assert_int_equal(decode_replaced("grace", "x-note = a\tb\ngrace"), ERR_DAMAGED);
}

static void test_bad_lines(void **state)
{
	static const struct {
		const char *from, *to;
	} cases[] = {
		{ "format = 1", "format = 01" },
		{ "format = 1", "format = 0" },
		{ "format = 1\n", "" },
		{ "00010203", "0001020G" },
		{ "0d0e0f", "0D0E0F" },
		{ "0d0e0f", "0d0e" },
		{ "compatible = 0000000000000000\nauto", "compatible = 0\nauto" },
		{ "65536\nleaf", "65535\nleaf" },
		{ "65536\nleaf", "2048\nleaf" },
		{ "65536\nleaf", "8388608\nleaf" },
		{ "65536\nleaf", "065536\nleaf" },
		{ "65536\nleaf", "+65536\nleaf" },
		{ "65536\nleaf", "65536 \nleaf" },
		{ "65536\nleaf", "4295032832\nleaf" },
		{ "1024", "512" },
		{ "suite = 1", "suite = 65537" },
		{ "suite = 1", "suite = 0" }, /* then the kdf lines must go */
		{ "default", "Default" },
		{ "scrypt", "argon2id" },
		{ "kdf = scrypt\n", "" },
		{ "kdf-n = 65536", "kdf-n = 65537" },
		{ "kdf-n = 65536", "kdf-n = 2097152" },
		{ "kdf-r = 8", "kdf-r = 0" },
		{ "kdf-p = 1", "kdf-p = 17" },
		{ "grace = 0", "grace = 1d" },
		{ "grace = 0", "grace = 9223372036854775808" },
		{ "grace = 0\n", "grace = 0\ngrace = 0\n" },
		{ "grace = 0\n", "\ngrace = 0\n" },
		{ "grace = 0\n", "grace =0\n" },
		{ "grace = 0\n", " = 0\n" },
		{ "T12", " 12" },
		{ "2026-11", "2026-13" },
		{ "created = 2026-11-21T12:00:00Z\n", "" },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int r = decode_replaced(cases[i].from, cases[i].to);
		if (r != ERR_DAMAGED)
			fail_msg("'%s' for '%s' gives %d", cases[i].to, cases[i].from, r);
	}
}

static void test_size_is_bounded(void **state)
{
	cleanup_free char *pad = mem_alloc(CONF_MAX + 1);
	(void)state;
	memset(pad, 'p', CONF_MAX);
	cleanup_free char *lines = str_printf("%sx-pad = %s\n", good, pad);
	struct conf c;
	assert_int_equal(decode_lines(lines, &c), ERR_DAMAGED);
	pad[CONF_MAX / 2] = 0;
	cleanup_free char *half = str_printf("%sx-pad = %s\n", good, pad);
	assert_int_equal(decode_lines(half, &c), 0);
}

static void test_encoder_refuses(void **state)
{
	struct sample_source s = { 3 };
	cleanup_buf struct buf out = BUF_INIT;
	(void)state;
#define REFUSED(change)                                                                            \
	do {                                                                                       \
		struct conf c = sample_conf(&s);                                                   \
		c.suite = 1;                                                                       \
		c.kdf_n = 16;                                                                      \
		c.kdf_r = c.kdf_p = 1;                                                             \
		change;                                                                            \
		assert_int_equal(conf_encode(&c, &out, NULL), ERR_INVALID);                        \
		assert_int_equal(out.len, 0);                                                      \
	} while (0)
	REFUSED(c.chunk_size = 5000);
	REFUSED(c.chunk_size = 0);
	REFUSED(c.leaf_chunks = 1);
	REFUSED(c.suite = SUITE_LAST + 1);
	REFUSED(c.compression = (enum compression)5);
	REFUSED(c.compression = (enum compression) - 1);
	REFUSED(c.kdf_n = 3);
	REFUSED(c.kdf_r = 0);
	REFUSED(c.kdf_n = 1 << 20; c.kdf_r = 16); /* 2 GiB */
	REFUSED(c.kdf_n = 1 << 20; c.kdf_r = 8; c.kdf_p = 3);
	REFUSED(c.kdf_p = 99);
	REFUSED(c.grace = UINT64_MAX);
	REFUSED(c.created = INT64_MAX);
	REFUSED(c.created = 253402300800);
#undef REFUSED
}

static void test_allocation_failures(void **state)
{
	struct sample_source s = { 4 };
	struct conf a = sample_conf(&s), b;
	int r = ERR_NOMEM;
	unsigned n = 0;
	(void)state;
	while (r == ERR_NOMEM && ++n < 1000) {
		struct err err = ERR_INIT;
		cleanup_buf struct buf out = BUF_INIT;
		mem_fail_after(n);
		r = conf_encode(&a, &out, &err);
		if (r == 0)
			r = conf_decode(out.data, out.len, &b, &err);
		mem_fail_after(0);
	}
	assert_int_equal(r, 0);
	assert_true(n > 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known_text),
		cmocka_unit_test(test_round_trips),
		cmocka_unit_test(test_every_bit_and_every_cut),
		cmocka_unit_test(test_newer_repositories),
		cmocka_unit_test(test_extra_keys_are_skipped),
		cmocka_unit_test(test_bad_lines),
		cmocka_unit_test(test_size_is_bounded),
		cmocka_unit_test(test_encoder_refuses),
		cmocka_unit_test(test_allocation_failures),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
