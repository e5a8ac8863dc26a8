/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The state object: what is written is read, one encoding a value, nothing that the table does not allow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/format-samples.h"

#include "base/banned.h"

static void assert_same(const struct state *a, const struct state *b)
{
	assert_memory_equal(a->uuid, b->uuid, UUID_LEN);
	assert_true(a->time == b->time && a->generation == b->generation);
	assert_true(a->next_pack == b->next_pack && a->next_sequence == b->next_sequence &&
		    a->next_segment == b->next_segment && a->audit_number == b->audit_number);
	assert_memory_equal(a->audit_mac, b->audit_mac, ID_LEN);
	assert_int_equal(a->nholds, b->nholds);
	for (size_t i = 0; i < a->nholds; i++) {
		assert_memory_equal(a->holds[i].point, b->holds[i].point, POINT_ID_LEN);
		assert_string_equal(a->holds[i].reason, b->holds[i].reason);
		assert_true(a->holds[i].since == b->holds[i].since &&
			    a->holds[i].until == b->holds[i].until);
	}
	assert_int_equal(a->npoints, b->npoints);
	for (size_t i = 0; i < a->npoints; i++) {
		assert_memory_equal(a->points[i].id, b->points[i].id, POINT_ID_LEN);
		assert_true(a->points[i].expired == b->points[i].expired &&
			    a->points[i].forgotten == b->points[i].forgotten &&
			    a->points[i].until == b->points[i].until);
	}
}

static void test_round_trip(void **state)
{
	static const unsigned holds[] = { 0, 1, 0, 3, 300 }, points[] = { 0, 0, 1, 5, 700 };
	struct sample_source s = { 11 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(holds); i++) {
		cleanup_buf struct buf b = BUF_INIT, again = BUF_INIT, text = BUF_INIT;
		struct state in, out;
		struct err err = ERR_INIT;

		assert_true(sample_state(&s, holds[i], points[i], &in));
		assert_int_equal(state_encode(&in, &b, &err), 0);
		assert_int_equal(state_decode(b.data, b.len, &out, &err), 0);
		assert_same(&in, &out);
		assert_int_equal(state_encode(&out, &again, &err), 0);
		assert_int_equal(again.len, b.len);
		assert_memory_equal(again.data, b.data, b.len);
		assert_int_equal(dump_object(OBJECT_STATE, b.data, b.len, &text, &err), 0);
		assert_true(!holds[i] || strstr(buf_str(&text), "\nhold 0 point 0000"));
		assert_true(!points[i] || strstr(buf_str(&text), "\npoint 0 id 0000"));
		state_release(&in);
		state_release(&out);
	}
}

/* The bytes of the table in livepoint-repository(5). */
static void test_bytes(void **state)
{
	struct hold hold = { .point = { 1, 2 }, .reason = (char *)"why", .since = 5, .until = -6 };
	struct state_point point = { .id = { 9 }, .expired = true, .forgotten = 7, .until = 8 };
	struct state s = { .uuid = { 0xaa },
			   .time = -1,
			   .generation = 3,
			   .next_pack = 4,
			   .next_sequence = 5,
			   .next_segment = 6,
			   .audit_number = 1,
			   .audit_mac = { 7 },
			   .holds = &hold,
			   .nholds = 1,
			   .points = &point,
			   .npoints = 1 };
	cleanup_buf struct buf b = BUF_INIT;

	(void)state;
	assert_int_equal(state_encode(&s, &b, NULL), 0);
	assert_int_equal(b.len, 112 + 34 + 3 + 33);
	assert_memory_equal(b.data, "LPST\1\0\0\0\xaa", 9);
	assert_int_equal(get_le64(b.data + 24), UINT64_MAX);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(get_le64(b.data + 32 + 8 * (size_t)i), 3 + i);
	assert_int_equal(get_le64(b.data + 64), 1);
	assert_int_equal(b.data[72], 7);
	assert_int_equal(get_le32(b.data + 104), 1);
	assert_int_equal(get_le32(b.data + 108), 1);
	assert_int_equal(b.data[113], 2);
	assert_int_equal(get_le64(b.data + 128), 5);
	assert_int_equal(get_le64(b.data + 136), (uint64_t)-6);
	assert_memory_equal(b.data + 144, "\3\0why\x09", 6);
	assert_int_equal(b.data[165], 2);
	assert_int_equal(get_le64(b.data + 166), 7);
	assert_int_equal(get_le64(b.data + 174), 8);
}

/* Cut at each length and longer by a byte. */
static void test_lengths(void **state)
{
	struct sample_source s = { 12 };
	cleanup_buf struct buf b = BUF_INIT;
	struct state in, out;

	(void)state;
	assert_true(sample_state(&s, 3, 4, &in));
	assert_int_equal(state_encode(&in, &b, NULL), 0);
	for (size_t n = 0; n < b.len; n++) {
		cleanup_free uint8_t *copy = mem_alloc(n + 1);
		struct err err = ERR_INIT;

		if (n)
			memcpy(copy, b.data, n);
		assert_int_equal(state_decode(copy, n, &out, &err), ERR_DAMAGED);
		assert_true(err.text[0]);
	}
	buf_put_u8(&b, 0);
	assert_int_equal(state_decode(b.data, b.len, &out, NULL), ERR_DAMAGED);
	state_release(&in);
}

static void test_refused(void **state)
{
	static const struct {
		size_t at;
		uint64_t value;
		unsigned n; /* bytes */
		int code;
	} cases[] = {
		{ 0, 'X', 1, ERR_DAMAGED },
		{ 4, 2, 2, ERR_UNSUPPORTED },
		{ 6, 1, 2, ERR_DAMAGED },
		{ 40, 0, 8, ERR_DAMAGED }, /* next pack */
		{ 40, PACK_NUMBER_MAX + 2, 8, ERR_DAMAGED },
		{ 48, 0, 8, ERR_DAMAGED }, /* next sequence */
		{ 56, 0, 8, ERR_DAMAGED }, /* next segment */
		{ 64, 0, 8, ERR_DAMAGED }, /* an empty log with a MAC */
		{ 104, UINT32_MAX, 4, ERR_DAMAGED },
		{ 104, 3, 4, ERR_DAMAGED },
		{ 108, UINT32_MAX, 4, ERR_DAMAGED },
		{ 108, 1, 4, ERR_DAMAGED },
		{ 112, 9, 1, ERR_DAMAGED }, /* holds out of order */
		{ 112 + 32, 1025, 2, ERR_DAMAGED }, /* length of a reason */
		{ 112 + 34, 0, 1, ERR_DAMAGED }, /* 0 byte in it */
		{ 112 + 34, '\n', 1, ERR_DAMAGED },
		{ 112 + 34, 0xff, 1, ERR_DAMAGED },
		{ 112 + 2 * 37, 9, 1, ERR_DAMAGED }, /* points out of order */
		{ 112 + 2 * 37 + 16, 0, 1, ERR_DAMAGED }, /* kind of a point */
		{ 112 + 2 * 37 + 16, 3, 1, ERR_DAMAGED },
	};
	struct hold holds[2] = { { .point = { 1 }, .reason = (char *)"why" },
				 { .point = { 2 }, .reason = (char *)"who" } };
	struct state_point points[2] = { { .id = { 1 } }, { .id = { 2 } } };
	struct state s = { .next_pack = 1,
			   .next_sequence = 1,
			   .next_segment = 1,
			   .audit_number = 1,
			   .audit_mac = { 7 },
			   .holds = holds,
			   .nholds = 2,
			   .points = points,
			   .npoints = 2 };
	cleanup_buf struct buf b = BUF_INIT;
	struct state out;

	(void)state;
	assert_int_equal(state_encode(&s, &b, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		cleanup_free uint8_t *copy = mem_dup(b.data, b.len);
		struct err err = ERR_INIT;

		for (unsigned k = 0; k < cases[i].n; k++)
			copy[cases[i].at + k] = (uint8_t)(cases[i].value >> (8 * k));
		if (state_decode(copy, b.len, &out, &err) != cases[i].code)
			fail_msg("case %zu: %s", i, err.text);
	}
	assert_int_equal(state_decode(b.data, b.len, &out, NULL), 0);
	state_release(&out);
}

/* The encoder writes nothing that the decoder would refuse. */
static void test_not_written(void **state)
{
	cleanup_free char *text = mem_alloc(HOLD_REASON_MAX + 2);
	struct hold holds[2] = { { .point = { 1 }, .reason = text },
				 { .point = { 2 }, .reason = (char *)"" } };
	struct state good = {
		.next_pack = 1, .next_sequence = 1, .next_segment = 1, .holds = holds, .nholds = 2
	};
	struct state bad = good;
	cleanup_buf struct buf b = BUF_INIT;

	(void)state;
	memset(text, 'x', HOLD_REASON_MAX);
	assert_int_equal(state_encode(&good, &b, NULL), 0);
	text[HOLD_REASON_MAX] = 'x';
	assert_false(hold_reason_valid(text));
	assert_int_equal(state_encode(&good, &b, NULL), ERR_INTERNAL);
	str_copy(text, HOLD_REASON_MAX, "two\nlines");
	assert_false(hold_reason_valid(text));
	assert_int_equal(state_encode(&good, &b, NULL), ERR_INTERNAL);
	str_copy(text, HOLD_REASON_MAX, "");
	assert_true(hold_reason_valid(text));
	holds[1].point[0] = 1;
	assert_int_equal(state_encode(&good, &b, NULL), ERR_INTERNAL);
	holds[1].point[0] = 2;
	bad.next_pack = 0;
	assert_int_equal(state_encode(&bad, &b, NULL), ERR_INTERNAL);
	bad = good;
	bad.audit_mac[3] = 1;
	assert_int_equal(state_encode(&bad, &b, NULL), ERR_INTERNAL);
}

/* The largest that fits, and one point more. */
static void test_too_big(void **state)
{
	size_t most = (STATE_MAX - 112) / 33;
	cleanup_free struct state_point *points = mem_alloc_array(most + 1, sizeof(*points));
	struct state s = { .next_pack = 1,
			   .next_sequence = 1,
			   .next_segment = 1,
			   .points = points,
			   .npoints = most };
	cleanup_buf struct buf b = BUF_INIT;
	struct err err = ERR_INIT;
	struct state out;

	(void)state;
	for (size_t i = 0; i <= most; i++)
		put_be32(points[i].id, (uint32_t)i);
	assert_int_equal(state_encode(&s, &b, &err), 0);
	assert_int_equal(state_decode(b.data, b.len, &out, &err), 0);
	state_release(&out);
	s.npoints++;
	assert_int_equal(state_encode(&s, &b, &err), ERR_TOO_BIG);
}

static void test_allocation_failures(void **state)
{
	struct sample_source s = { 13 };
	cleanup_buf struct buf b = BUF_INIT;
	struct state in, out;
	int r = ERR_NOMEM;
	unsigned n = 0;

	(void)state;
	assert_true(sample_state(&s, 4, 4, &in));
	assert_int_equal(state_encode(&in, &b, NULL), 0);
	while (r != 0 && ++n < 100) {
		mem_fail_after(n);
		r = state_decode(b.data, b.len, &out, NULL);
		mem_fail_after(0);
		assert_true(r == 0 || r == ERR_NOMEM);
	}
	assert_int_equal(r, 0);
	assert_int_equal(n, 7); /* two lists, four reasons */
	state_release(&in);
	state_release(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_not_written),
		cmocka_unit_test(test_too_big),
		cmocka_unit_test(test_allocation_failures),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
