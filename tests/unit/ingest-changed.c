// SPDX-License-Identifier: GPL-3.0-or-later
/* Change maps: ranges against a model of one byte a unit, and the files that are read or refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "ingest/internal.h"

#include "base/banned.h"

#define UNIT 4096u

static struct change_map *map_of(uint64_t size)
{
	struct change_map *m = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(change_map_new(size, UNIT, &m, &err), 0);
	return m;
}

/* The map says the same as the model, run by run, and its runs are maximal. */
static void check_model(const struct change_map *m, const uint8_t *model, uint64_t units,
			uint64_t size)
{
	uint64_t at = 0, i;

	while (at < size) {
		uint64_t end = 0;
		enum change c = change_map_get(m, at, &end);

		assert_true(end > at && end <= size);
		for (i = at / UNIT; i < div_round_up(end, UNIT); i++)
			assert_int_equal(model[i], c);
		if (end < size) {
			assert_int_equal(end % UNIT, 0);
			assert_int_not_equal(model[end / UNIT], c);
		}
		at = end;
	}
	assert_int_equal(div_round_up(at, UNIT), units);
}

static void test_single_ranges(void **state)
{
	struct change_map *m = map_of(10 * UNIT);
	uint64_t end;

	(void)state;
	assert_int_equal(change_map_get(m, 0, &end), CHANGE_NONE);
	assert_int_equal(end, 10 * UNIT);
	change_map_add(m, UNIT + 5, 1, CHANGE_DATA);
	assert_int_equal(change_map_get(m, 0, &end), CHANGE_NONE);
	assert_int_equal(end, UNIT);
	assert_int_equal(change_map_get(m, UNIT, &end), CHANGE_DATA);
	assert_int_equal(end, 2 * UNIT);
	/* a hole that covers units in part: its edges are data, what is whole is a hole */
	change_map_add(m, 3 * UNIT - 1, 2 * UNIT + 2, CHANGE_HOLE);
	assert_int_equal(change_map_get(m, 2 * UNIT, &end), CHANGE_DATA);
	assert_int_equal(end, 3 * UNIT);
	assert_int_equal(change_map_get(m, 3 * UNIT, &end), CHANGE_HOLE);
	assert_int_equal(end, 5 * UNIT);
	assert_int_equal(change_map_get(m, 5 * UNIT, &end), CHANGE_DATA);
	assert_int_equal(end, 6 * UNIT);
	/* data wins, whichever came first */
	change_map_add(m, 3 * UNIT, UNIT, CHANGE_DATA);
	change_map_add(m, 3 * UNIT, UNIT, CHANGE_HOLE);
	assert_int_equal(change_map_get(m, 3 * UNIT, &end), CHANGE_DATA);
	/* a hole within one unit changes it all the same */
	change_map_add(m, 8 * UNIT + 1, 10, CHANGE_HOLE);
	assert_int_equal(change_map_get(m, 8 * UNIT, &end), CHANGE_DATA);
	change_map_free(m);
}

static void test_ends(void **state)
{
	struct change_map *m = map_of(3 * UNIT + 512);
	uint64_t end;

	(void)state;
	change_map_add(m, 4 * UNIT, UINT64_MAX, CHANGE_DATA); /* beyond the end */
	change_map_add(m, 0, 0, CHANGE_DATA); /* nothing */
	assert_int_equal(change_map_get(m, 0, &end), CHANGE_NONE);
	assert_int_equal(end, 3 * UNIT + 512);
	change_map_add(m, 3 * UNIT, UINT64_MAX,
		       CHANGE_HOLE); /* the last unit, whole as far as it goes */
	assert_int_equal(change_map_get(m, 3 * UNIT, &end), CHANGE_HOLE);
	assert_int_equal(end, 3 * UNIT + 512);
	change_map_add(m, 3 * UNIT + 511, 1, CHANGE_DATA);
	assert_int_equal(change_map_get(m, 3 * UNIT, &end), CHANGE_DATA);
	change_map_free(m);
	m = map_of(0);
	change_map_add(m, 0, 1, CHANGE_DATA);
	change_map_free(m);
}

static void model_add(uint8_t *model, uint64_t size, uint64_t start, uint64_t length, enum change c)
{
	uint64_t end = MIN(start + length, size), i;

	for (i = start / UNIT; start < end && i < div_round_up(end, UNIT); i++) {
		bool whole = start <= i * UNIT && (end >= (i + 1) * UNIT || end == size);

		if (c == CHANGE_DATA || !whole)
			model[i] = CHANGE_DATA;
		else if (model[i] == CHANGE_NONE)
			model[i] = CHANGE_HOLE;
	}
}

static void test_random_against_model(void **state)
{
	uint64_t seed = 42;
	unsigned round, k;

	(void)state;
	for (round = 0; round < 300; round++) {
		uint64_t units = 1 + round * 7 % 400;
		uint64_t size = units * UNIT - (round % 3 ? 0 : 512 * (1 + round % 7));
		struct change_map *m = map_of(size);
		uint8_t *model = calloc(units, 1);

		assert_non_null(model);
		for (k = 0; k < 1 + round % 20; k++) {
			uint64_t start, length;
			enum change c;

			seed = seed * 6364136223846793005u + 1442695040888963407u;
			start = (seed >> 20) % (size + UNIT);
			length = (seed >> 40) % (k % 4 ? 3 * UNIT : size);
			c = seed >> 63 ? CHANGE_DATA : CHANGE_HOLE;
			if (k % 5 == 0)
				start -= start % UNIT;
			change_map_add(m, start, length, c);
			model_add(model, size, start, length, c);
			check_model(m, model, units, size);
		}
		free(model);
		change_map_free(m);
	}
}

/* --- files --- */

/* Reads text as the map of disk vda of 16 units; *m is filled in any case. */
static int read_text(const char *text, struct change_map **m, struct err *err)
{
	int fd = memfd_create("map", MFD_CLOEXEC);
	int r;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	*m = map_of(16 * UNIT);
	r = change_map_read(*m, fd, "FILE", "vda", err);
	close(fd);
	return r;
}

/* The map as one letter a unit. */
static void assert_reads(const char *text, const char *units)
{
	struct change_map *m;
	struct err err = ERR_INIT;
	char got[17] = "";
	unsigned i;

	if (read_text(text, &m, &err) != 0)
		fail_msg("%s: %s", text, err.text);
	for (i = 0; i < 16; i++) {
		uint64_t end;

		got[i] = ".dh"[change_map_get(m, (uint64_t)i * UNIT, &end)];
	}
	assert_string_equal(got, units);
	change_map_free(m);
}

static void assert_refused(const char *text, const char *why)
{
	struct change_map *m;
	struct err err = ERR_INIT;

	assert_int_equal(read_text(text, &m, &err), ERR_INVALID);
	if (!strstr(err.text, why) || !strstr(err.text, "FILE"))
		fail_msg("'%s' says '%s' and not '%s'", text, err.text, why);
	change_map_free(m);
}

static void test_forms(void **state)
{
	(void)state;
	assert_reads("", "................");
	assert_reads("[]", "................");
	assert_reads("[{\"disk\":\"vda\",\"start\":4096,\"length\":4096,\"data\":true}]",
		     ".d..............");
	assert_reads("{\"start\":4096,\"length\":8192,\"data\":false}\n{\"start\":0,\"length\":1}",
		     "dhh.............");
	assert_reads("{\"disk\":\"vdb\",\"start\":4096,\"length\":4096}", "................");
	assert_reads("{\"path\":\"etc/passwd\",\"change\":\"changed\"}", "................");
	assert_reads(
		"[{\"offset\":0,\"length\":4096,\"exists\":\"true\"},{\"offset\":4096,\"length\":4096,\"exists\":\"false\"}]",
		"dh..............");
	assert_reads(
		"[{\"offset\":0,\"length\":4096,\"exists\":true},{\"offset\":4096,\"length\":4096,\"exists\":false}]",
		"dh..............");
	assert_reads("[{\"offset\":0,\"length\":8192,\"type\":0,\"description\":\"clean\"},"
		     "{\"offset\":8192,\"length\":4096,\"type\":1,\"description\":\"dirty\"},"
		     "{\"offset\":12288,\"length\":4096,\"type\":1}]",
		     "..dd............");
	assert_reads("[{\"start\":61440,\"length\":9000000000000000000}]", "...............d");
	assert_reads("[{\"start\":9000000000000000000,\"length\":1}]", "................");
}

static void test_refusals(void **state)
{
	(void)state;
	assert_refused("[{\"offset\":0,\"length\":1,\"type\":0,\"description\":\"data\"}]",
		       "allocation map");
	assert_refused("[{\"offset\":0,\"length\":1,\"type\":1,\"description\":\"hole\"}]",
		       "allocation map");
	assert_refused("[{\"offset\":0,\"length\":1,\"type\":3,\"description\":\"hole,zero\"}]",
		       "allocation map");
	assert_refused("[{\"offset\":0,\"length\":1,\"type\":2}]", "0 or 1");
	assert_refused("[{\"offset\":0,\"length\":1,\"description\":\"dirty\"}]", "0 or 1");
	assert_refused("[{\"offset\":0,\"length\":1,\"type\":1,\"data\":true}]", "more than one");
	assert_refused("[{\"length\":1}]", "either");
	assert_refused("[{\"offset\":0,\"start\":0,\"length\":1}]", "either");
	assert_refused("[{\"start\":0}]", "whole numbers");
	assert_refused("[{\"start\":-1,\"length\":1}]", "whole numbers");
	assert_refused("[{\"start\":1.5,\"length\":1}]", "whole numbers");
	assert_refused("[{\"start\":\"1\",\"length\":1}]", "whole numbers");
	assert_refused("[{\"start\":18446744073709551615,\"length\":1}]", "");
	assert_refused("[{\"start\":0,\"length\":1,\"data\":\"true\"}]", "neither true nor false");
	assert_refused("[{\"start\":0,\"length\":1,\"exists\":\"maybe\"}]",
		       "neither true nor false");
	assert_refused("nonsense", "");
	assert_refused("[{\"start\":0,\"length\":1}", "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_single_ranges),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_random_against_model),
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
