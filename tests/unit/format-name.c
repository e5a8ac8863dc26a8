// SPDX-License-Identifier: GPL-3.0-or-later
/* Grammar of names, and the words for enums. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "format/format.h"

#include "base/banned.h"

static void test_names(void **state)
{
	static const char *const good[] = { "a", "web1", "A-Z.a_z-0", "_", "9", "a..b", "a-" };
	static const char *const bad[] = { "",	  ".",	 "..",	     ".a",  "-a",    "a b",
					   "a/b", "a@b", "\xc3\xa4", "a\n", "a\x7f", "a:b" };
	char text[NAME_MAX_LEN + 2];
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_true(name_valid(good[i]));
		assert_true(disk_name_valid(good[i]));
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_false(name_valid(bad[i]));
		assert_false(disk_name_valid(bad[i]));
	}
	memset(text, 'x', sizeof(text));
	text[NAME_MAX_LEN + 1] = 0;
	assert_false(name_valid(text));
	text[NAME_MAX_LEN] = 0;
	assert_true(name_valid(text));
	text[DISK_NAME_MAX_LEN + 1] = 0;
	assert_false(disk_name_valid(text));
	text[DISK_NAME_MAX_LEN] = 0;
	assert_true(disk_name_valid(text));
}

static void test_reserved_disk_names(void **state)
{
	static const char *const reserved[] = { "disks", "volumes", "tree", "config" };
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(reserved); i++) {
		assert_true(name_valid(reserved[i]));
		assert_false(disk_name_valid(reserved[i]));
	}
	assert_true(disk_name_valid("trees"));
}

static void test_compression(void **state)
{
	(void)state;
	assert_int_equal(compression_level(COMPRESSION_NONE), 0);
	for (int c = COMPRESSION_NONE; c <= COMPRESSION_BEST; c++) {
		assert_int_equal(compression_parse(compression_name((enum compression)c)), c);
		if (c > COMPRESSION_NONE)
			assert_int_not_equal(compression_level((enum compression)c), 0);
		if (c > COMPRESSION_FAST)
			assert_true(compression_level((enum compression)c) >
				    compression_level((enum compression)(c - 1)));
	}
	assert_int_equal(compression_level(COMPRESSION_DEFAULT), 1);
	assert_int_equal(compression_parse("zip"), -1);
	assert_int_equal(compression_parse(""), -1);
	assert_string_equal(compression_name((enum compression)99), "unknown");
}

static void test_words(void **state)
{
	(void)state;
	assert_string_equal(object_type_name(OBJECT_CHUNK), "chunk");
	assert_string_equal(object_type_name(OBJECT_BLOB), "blob");
	assert_string_equal(object_type_name(0), "unknown");
	assert_string_equal(object_type_name(OBJECT_STATE), "state");
	assert_string_equal(object_type_name(OBJECT_TYPE_LAST + 1), "unknown");
	assert_string_equal(object_type_name(-1), "unknown");
	assert_string_equal(point_kind_name(POINT_DIFFERENTIAL), "differential");
	assert_string_equal(point_kind_name(4), "unknown");
	assert_string_equal(disk_method_name(METHOD_SNAPSHOT), "snapshot");
	assert_string_equal(disk_method_name(0), "unknown");
	for (int i = CONSISTENCY_CRASH; i <= CONSISTENCY_APPLICATION; i++)
		assert_int_equal(consistency_parse(consistency_name(i)), i);
	assert_int_equal(consistency_parse("perfect"), -1);
	assert_int_equal(consistency_parse("unknown"), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_reserved_disk_names),
		cmocka_unit_test(test_compression),
		cmocka_unit_test(test_words),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
