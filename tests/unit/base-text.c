// SPDX-License-Identifier: GPL-3.0-or-later
/* Text, numbers, time, zero test, checks, errors, log lines, and the allocation hook. */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/internal.h"
#include "base/log.h"

#include "base/banned.h"

static void test_copy_and_ends(void **state)
{
	char dst[4];

	(void)state;
	assert_true(str_copy(dst, sizeof(dst), "abc"));
	assert_string_equal(dst, "abc");
	assert_false(str_copy(dst, sizeof(dst), "abcd"));
	assert_string_equal(dst, "abc");
	assert_false(str_copy(dst, 1, "a"));
	assert_string_equal(dst, "");
	assert_true(str_starts("abc", "ab"));
	assert_false(str_starts("a", "ab"));
	assert_true(str_ends("abc", "bc"));
	assert_true(str_ends("abc", ""));
	assert_false(str_ends("c", "bc"));
}

static void test_hex(void **state)
{
	const uint8_t bytes[] = { 0x00, 0x7f, 0xab, 0xff };
	uint8_t back[4] = { 1, 2, 3, 4 };
	char text[9];

	(void)state;
	hex_encode(text, bytes, sizeof(bytes));
	assert_string_equal(text, "007fabff");
	assert_true(hex_decode(back, "007FaBfF", 4));
	assert_memory_equal(back, bytes, 4);
	assert_false(hex_decode(back, "007fabf", 4));
	assert_false(hex_decode(back, "007fabfg", 4));
	assert_false(hex_decode(back, "", 1));
	assert_memory_equal(back, bytes, 4);
	assert_true(hex_decode(back, "1122", 1));
	assert_int_equal(back[0], 0x11);
}

struct number_case {
	const char *text;
	bool ok;
	uint64_t value;
};

static void run_cases(bool (*parse)(const char *, uint64_t *), const struct number_case *cases,
		      size_t n)
{
	size_t i;

	for (i = 0; i < n; i++) {
		uint64_t v = 12345678987654321;

		if (parse(cases[i].text, &v) != cases[i].ok)
			fail_msg("'%s' was %s", cases[i].text,
				 cases[i].ok ? "refused" : "accepted");
		assert_true(v == (cases[i].ok ? cases[i].value : 12345678987654321));
	}
}

static void test_numbers(void **state)
{
	static const struct number_case plain[] = {
		{ "0", true, 0 },
		{ "007", true, 7 },
		{ "18446744073709551615", true, UINT64_MAX },
		{ "", false, 0 },
		{ "-1", false, 0 },
		{ "18446744073709551616", false, 0 },
		{ "+1", false, 0 },
		{ " 1", false, 0 },
		{ "99999999999999999999", false, 0 },
		{ "1 ", false, 0 },
		{ "0x10", false, 0 },
	};
	static const struct number_case sizes[] = {
		{ "512", true, 512 },	   { "512B", true, 512 },
		{ "4k", true, 4096 },	   { "64KiB", true, 65536 },
		{ "64kB", true, 65536 },   { "1M", true, MiB },
		{ "2gib", true, 2 * GiB }, { "16777215T", true, 16777215 * TiB },
		{ "16777216T", false, 0 }, { "1P", false, 0 },
		{ "K", false, 0 },	   { "1Ki", false, 0 },
		{ "1KiBx", false, 0 },	   { "1iB", false, 0 },
		{ "1KBB", false, 0 },	   { "1.5G", false, 0 },
	};
	static const struct number_case times[] = {
		{ "0", true, 0 },
		{ "90", true, 90 },
		{ "90s", true, 90 },
		{ "5m", true, 300 },
		{ "2h", true, 7200 },
		{ "1d", true, 86400 },
		{ "3w", true, 1814400 },
		{ "1y", true, 31536000 },
		{ "6mo", true, 15552000 },
		{ "1y2mo3w4d5h6m7s", true, 38898367 },
		{ "1d12h", true, 129600 },
		{ "0d", true, 0 },
		{ "12h1d", false, 0 },
		{ "1d1d", false, 0 },
		{ "1d2", false, 0 },
		{ "1m1mo", false, 0 },
		{ "1dh", false, 0 },
		{ "1o", false, 0 },
		{ "", false, 0 },
		{ "1D", false, 0 },
		{ "1d ", false, 0 },
		{ "1.5d", false, 0 },
		{ "-1d", false, 0 },
		{ "18446744073709551615s1s", false, 0 },
		{ "1m18446744073709551615s", false, 0 },
		{ "1hh", false, 0 },
		{ "h", false, 0 },
		{ "18446744073709551615m", false, 0 },
	};

	(void)state;
	run_cases(parse_u64, plain, ARRAY_SIZE(plain));
	run_cases(parse_size, sizes, ARRAY_SIZE(sizes));
	run_cases(parse_duration, times, ARRAY_SIZE(times));
}

static void test_time(void **state)
{
	static const struct {
		const char *text;
		int64_t t;
	} good[] = { { "1970-01-01T00:00:00Z", 0 },
		     { "1969-12-31T23:59:59Z", -1 },
		     { "2000-02-29T12:34:56Z", 951827696 },
		     { "2026-11-20T14:03:07Z", 1795183387 },
		     { "0000-01-01T00:00:00Z", -62167219200 },
		     { "9999-12-31T23:59:59Z", 253402300799 } };
	static const char *const bad[] = { "",
					   "2026-11-20",
					   "2026-11-20T14:03:07",
					   "2026-11-20T14:03:07+",
					   "2026-11-20T14:03:07ZZ",
					   "2026-11-20 14:03:07Z",
					   "2026-11-20t14:03:07z",
					   "2026-02-29T00:00:00Z",
					   "2026-00-10T00:00:00Z",
					   "2026-13-10T00:00:00Z",
					   "2026-01-00T00:00:00Z",
					   "2026-01-01T24:00:00Z",
					   "2026-01-01T00:60:00Z",
					   "2016-12-31T23:59:60Z",
					   "+026-01-01T00:00:00Z" };
	char text[TIME_TEXT_MAX];
	int64_t t = 77;
	uint64_t before;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		if (time_parse(bad[i], &t))
			fail_msg("'%s' was accepted", bad[i]);
		assert_true(t == 77);
	}
	for (i = 0; i < ARRAY_SIZE(good); i++) {
		time_format(text, good[i].t);
		assert_string_equal(text, good[i].text);
		assert_true(time_parse(text, &t));
		assert_true(t == good[i].t);
	}
	time_format(text, INT64_MAX);
	assert_string_equal(text, "9999-12-31T23:59:59Z");
	time_format(text, INT64_MIN);
	assert_string_equal(text, "0000-01-01T00:00:00Z");
	assert_true(time_now() > 1700000000);
	before = time_mono_ns();
	time_sleep_ms(2);
	assert_true(time_mono_ns() - before >= 2000000);
}

static void test_is_zero(void **state)
{
	static uint8_t area[4096 + 64];
	size_t n, start, i;

	(void)state;
	assert_true(mem_is_zero(NULL, 0));
	for (n = 0; n < 200; n++) {
		for (start = 0; start < 9; start++) {
			uint8_t *p = area + 32 + start;

			/* What lies beside the range must not count, each byte within it must. */
			p[-1] = p[n] = 1;
			assert_true(mem_is_zero(p, n));
			for (i = 0; i < n; i++) {
				p[i] = 0x80;
				assert_false(mem_is_zero(p, n));
				p[i] = 0;
			}
			p[-1] = p[n] = 0;
		}
	}
	for (i = 0; i < 4096; i++) {
		area[i] = 1;
		assert_false(mem_is_zero(area, 4096));
		area[i] = 0;
	}
	assert_true(mem_is_zero(area, sizeof(area)));
}

/* RFC 3720 appendix B.4. */
static void test_crc32c_vectors(void **state)
{
	static const uint8_t command[48] = {
		0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,    0, 0, 0, 0,
		0x14, 0,    0, 0, 0, 0, 4, 0, 0, 0, 0, 0x14, 0, 0, 0, 0x18,
		0x28, 0,    0, 0, 0, 0, 0, 0, 2, 0, 0, 0,    0, 0, 0, 0,
	};
	uint8_t zero[32] = { 0 }, ones[32], up[32], down[32];
	const struct {
		const uint8_t *p;
		size_t n;
		uint32_t crc;
	} vectors[] = { { zero, 32, 0x8a9136aa },
			{ ones, 32, 0x62a8ab43 },
			{ up, 32, 0x46dd794e },
			{ down, 32, 0x113fdb5c },
			{ command, 48, 0xd9963a56 },
			{ (const uint8_t *)"123456789", 9, 0xe3069283 },
			{ zero, 0, 0 } };
	size_t i;

	(void)state;
	memset(ones, 0xff, sizeof(ones));
	for (i = 0; i < 32; i++) {
		up[i] = (uint8_t)i;
		down[i] = (uint8_t)(31 - i);
	}
	for (i = 0; i < ARRAY_SIZE(vectors); i++) {
		assert_int_equal(check_crc32c(vectors[i].p, vectors[i].n), vectors[i].crc);
		assert_int_equal(crc32c_table(vectors[i].p, vectors[i].n), vectors[i].crc);
		if (crc32c_have_sse42())
			assert_int_equal(crc32c_sse42(vectors[i].p, vectors[i].n), vectors[i].crc);
	}
}

static void test_crc32c_both_ways(void **state)
{
	uint8_t data[700];
	size_t start, n;

	(void)state;
	if (!crc32c_have_sse42())
		skip();
	random_bytes(data, sizeof(data));
	for (start = 0; start < 9; start++)
		for (n = 0; n + start <= sizeof(data); n += n < 64 ? 1 : 37)
			assert_int_equal(crc32c_table(data + start, n),
					 crc32c_sse42(data + start, n));
}

/* Known values for seed 0; the empty input's is also in xxHash's own self-test. */
static void test_xxh3(void **state)
{
	(void)state;
	assert_true(check_xxh3("", 0) == UINT64_C(0x2d06800538d394c2));
	assert_true(check_xxh3("abc", 3) == UINT64_C(0x78af5f94892f3950));
}

static void test_random(void **state)
{
	uint8_t a[600] = { 0 }, b[600] = { 0 };

	(void)state;
	random_bytes(a, sizeof(a));
	random_bytes(b, sizeof(b));
	assert_memory_not_equal(a, b, sizeof(a));
	assert_false(mem_is_zero(a + 568, 32));
	mem_wipe(a, sizeof(a));
	assert_true(mem_is_zero(a, sizeof(a)));
}

static void test_integers(void **state)
{
	uint8_t p[8];

	(void)state;
	put_le64(p, UINT64_C(0x0123456789abcdef));
	assert_memory_equal(p, "\xef\xcd\xab\x89\x67\x45\x23\x01", 8);
	assert_true(get_le64(p) == UINT64_C(0x0123456789abcdef));
	assert_true(get_be64(p) == UINT64_C(0xefcdab8967452301));
	put_be32(p, 0x01020304);
	assert_memory_equal(p, "\1\2\3\4", 4);
	assert_int_equal(get_be32(p), 0x01020304);
	assert_int_equal(get_le16(p), 0x0201);
	assert_true(div_round_up(UINT64_MAX, 2) == UINT64_C(1) << 63);
	assert_true(round_up_u64(4097, 4096) == 8192);
}

static void test_allocations_fail(void **state)
{
	char *s;

	(void)state;
	assert_null(mem_alloc_array(SIZE_MAX / 2, 3));
	assert_null(mem_realloc_array(NULL, SIZE_MAX / 2, 3));
	mem_fail_after(2);
	s = str_dup("x");
	assert_non_null(s);
	free(s);
	assert_null(str_printf("%d", 1));
	assert_int_equal(errno, ENOMEM);
	s = str_printf("%d-%s", 1, "y");
	assert_string_equal(s, "1-y");
	free(s);
	mem_fail_after(1);
	mem_fail_after(0);
	s = mem_alloc(0);
	assert_non_null(s);
	free(s);
}

static void test_errors(void **state)
{
	struct err err = ERR_INIT;
	char big[2 * ERR_TEXT_MAX];

	(void)state;
	assert_int_equal(err_set(NULL, ERR_IO, "x"), ERR_IO);
	assert_int_equal(err_set(&err, ERR_DAMAGED, "pack %d", 7), ERR_DAMAGED);
	assert_int_equal(err_object(&err, "pack-%d", 7), ERR_DAMAGED);
	assert_int_equal(err_prefix(&err, "repository '%s'", "/r"), ERR_DAMAGED);
	assert_string_equal(err.text, "repository '/r': pack 7");
	assert_string_equal(err.object, "pack-7");
	assert_int_equal(err_recode(&err, ERR_SOURCE), ERR_SOURCE);
	assert_int_equal(err.code, ERR_SOURCE);
	err_set(&err, ERR_IO, "again: %s", err.text);
	assert_string_equal(err.text, "again: repository '/r': pack 7");
	assert_string_equal(err.object, "");
	assert_int_equal(err_set_errno(&err, ERR_IO, EDQUOT, "cannot write"), ERR_NOSPC);
	assert_string_equal(err.text, "cannot write: Disk quota exceeded");
	assert_int_equal(err_set_errno(&err, ERR_SOURCE, EIO, "r"), ERR_SOURCE);
	assert_int_equal(err_set_errno(&err, ERR_IO, EROFS, "r"), ERR_READONLY);
	assert_int_equal(err_set_errno(&err, ERR_IO, EPERM, "r"), ERR_PERM);
	assert_int_equal(err_set_errno(&err, ERR_IO, EEXIST, "r"), ERR_EXISTS);
	assert_int_equal(err_set_errno(&err, ERR_IO, ENOMEM, "r"), ERR_NOMEM);
	memset(big, 'x', sizeof(big));
	big[sizeof(big) - 1] = 0;
	err_set(&err, ERR_IO, "%s", big);
	err_prefix(&err, "%s", "front");
	assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
	assert_true(str_starts(err.text, "front: xxx"));
	err_object(&err, "%s", big);
	assert_int_equal(strlen(err.object), ERR_OBJECT_MAX - 1);
	err_clear(&err);
	assert_int_equal(err.code, 0);
	assert_string_equal(err.text, "");
}

static void test_error_table(void **state)
{
	(void)state;
	assert_string_equal(err_code_name(0), "ok");
	assert_int_equal(err_code_exit(0), 0);
	assert_string_equal(err_code_name(ERR_FAILED), "failed");
	assert_int_equal(err_code_exit(ERR_NO_REPO), 10);
	assert_int_equal(err_code_exit(ERR_TERMINATED), 143);
	assert_int_equal(err_code_errno(ERR_NOSPC), ENOSPC);
	assert_string_equal(err_code_sentence(ERR_TERMINATED), "terminated");
	assert_string_equal(err_code_name(5), "failed");
	assert_string_equal(err_code_name(ERR_FIRST_), "failed");
	assert_string_equal(err_code_name(ERR_LAST_), "failed");
	assert_string_equal(err_code_name(INT_MIN), "failed");
}

static char logged[64];

static void sink(void *opaque, enum log_level level, const char *line)
{
	assert_ptr_equal(opaque, logged);
	snprintf(logged, sizeof(logged), "%d %s", level, line);
}

static void test_log(void **state)
{
	(void)state;
	log_error("nobody listens");
	log_set_sink(sink, logged, LOG_LEVEL_INFO);
	log_warning("name '%s'", "a\nb\033[1m");
	assert_string_equal(logged, "1 name 'a b?[1m'");
	log_debug("too much");
	assert_string_equal(logged, "1 name 'a b?[1m'");
	log_info("fine");
	assert_string_equal(logged, "2 fine");
	log_set_sink(NULL, NULL, LOG_LEVEL_DEBUG);
	log_error("nobody again");
	assert_string_equal(logged, "2 fine");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_copy_and_ends),	 cmocka_unit_test(test_hex),
		cmocka_unit_test(test_numbers),		 cmocka_unit_test(test_time),
		cmocka_unit_test(test_is_zero),		 cmocka_unit_test(test_crc32c_vectors),
		cmocka_unit_test(test_crc32c_both_ways), cmocka_unit_test(test_xxh3),
		cmocka_unit_test(test_random),		 cmocka_unit_test(test_integers),
		cmocka_unit_test(test_allocations_fail), cmocka_unit_test(test_errors),
		cmocka_unit_test(test_error_table),	 cmocka_unit_test(test_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
