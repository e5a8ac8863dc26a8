// SPDX-License-Identifier: GPL-3.0-or-later
/* Header of an overlay and state log: what is written is read, and nothing that the tables do not allow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/format-samples.h"

#include "base/banned.h"

struct change {
	size_t at;
	uint64_t value;
	unsigned n; /* bytes */
	int code;
};

/* A copy with one field changed; the caller frees. */
static uint8_t *changed(const struct buf *b, const struct change *c)
{
	uint8_t *copy = mem_dup(b->data, b->len);

	assert_non_null(copy);
	for (unsigned i = 0; i < c->n; i++)
		copy[c->at + i] = (uint8_t)(c->value >> (8 * i));
	return copy;
}

static void header_make(const struct overlay_header *h, struct buf *b)
{
	struct err err = ERR_INIT;

	if (overlay_header_encode(h, b, &err) < 0)
		fail_msg("%s", err.text);
	overlay_header_seal(b, h->mac);
	assert_false(b->failed);
}

static void test_header_round_trip(void **state)
{
	static struct overlay_header_disk disks[POINT_DISKS_MAX];
	struct sample_source s = { 21 };

	(void)state;
	for (size_t n = 1; n <= POINT_DISKS_MAX; n += 51) {
		struct overlay_header in = sample_overlay(&s, disks, n), out;
		cleanup_buf struct buf b = BUF_INIT, again = BUF_INIT, text = BUF_INIT;
		struct err err = ERR_INIT;

		header_make(&in, &b);
		assert_true(overlay_header_is(b.data, b.len));
		if (overlay_header_decode(b.data, b.len, &out, &err) < 0)
			fail_msg("%s", err.text);
		assert_memory_equal(in.uuid, out.uuid, UUID_LEN);
		assert_memory_equal(in.point, out.point, POINT_ID_LEN);
		assert_memory_equal(in.salt, out.salt, SALT_LEN);
		assert_memory_equal(in.mac, out.mac, ID_LEN);
		assert_string_equal(in.id, out.id);
		assert_string_equal(in.name, out.name);
		assert_true(in.created == out.created && in.suite == out.suite &&
			    in.epoch == out.epoch && in.first == out.first && in.last == out.last &&
			    in.block_size == out.block_size && in.ndisks == out.ndisks);
		for (size_t i = 0; i < n; i++) {
			assert_string_equal(in.disks[i].name, out.disks[i].name);
			assert_int_equal(in.disks[i].size, out.disks[i].size);
		}
		header_make(&out, &again);
		assert_true(again.len == b.len && memcmp(again.data, b.data, b.len) == 0);
		assert_int_equal(dump_file(b.data, b.len, &text, &err), 0);
		assert_non_null(strstr(buf_str(&text), "file overlay-header\nid o"));
		assert_non_null(strstr(buf_str(&text), "\ndisk 0 name vd0 size "));
		overlay_header_release(&out);
	}
}

static struct overlay_header plain_header(struct overlay_header_disk disks[2])
{
	struct overlay_header h = { .id = "o0123abcd",
				    .name = "work",
				    .block_size = 4096,
				    .created = 7,
				    .first = 2,
				    .last = 3,
				    .disks = disks,
				    .ndisks = 2 };

	str_copy(disks[0].name, sizeof(disks[0].name), "vda");
	str_copy(disks[1].name, sizeof(disks[1].name), "vdb");
	disks[0].size = 5 * 512;
	disks[1].size = 0;
	return h;
}

/* The bytes of the table in livepoint-repository(5). */
static void test_header_bytes(void **state)
{
	struct overlay_header_disk disks[2];
	struct overlay_header h = plain_header(disks);
	cleanup_buf struct buf b = BUF_INIT;

	(void)state;
	h.suite = 1;
	h.epoch = 9;
	memset(h.uuid, 1, UUID_LEN);
	memset(h.point, 2, POINT_ID_LEN);
	memset(h.salt, 3, SALT_LEN);
	memset(h.mac, 4, ID_LEN);
	header_make(&h, &b);
	assert_int_equal(b.len, 128 + 4 + 2 * (1 + 3 + 8) + 40);
	assert_memory_equal(b.data, "LVPTOVLY\1\0\1\0\0\x10\0\0\1", 17);
	assert_memory_equal(b.data + 32, "o0123abcd\0\0\0\0\0\0\0\2", 17);
	assert_memory_equal(b.data + 64, "\7\0\0\0\0\0\0\0\x09\0\0\0\2\0\0\0\3\0\0\0\2\0\4\0\3",
			    25);
	assert_true(b.data[119] == 3 && mem_is_zero(b.data + 120, 8));
	assert_memory_equal(b.data + 128, "work\3vda\0\x0a\0\0\0\0\0\0\3vdb\0", 21);
	assert_true(b.data[b.len - 40] == 4 && b.data[b.len - 9] == 4);
	assert_true(get_le64(b.data + b.len - 8) == check_xxh3(b.data, b.len - 8));
}

static void test_header_refused(void **state)
{
	static const struct change cases[] = {
		{ 0, 'X', 1, ERR_DAMAGED },    { 8, 2, 2, ERR_UNSUPPORTED },
		{ 10, 2, 2, ERR_UNSUPPORTED }, { 10, 1, 2, ERR_DAMAGED }, /* no epoch */
		{ 12, 512, 4, ERR_DAMAGED }, /* block size */
		{ 32, 'x', 1, ERR_DAMAGED },   { 40, 'g', 1, ERR_DAMAGED }, /* id */
		{ 41, 'a', 1, ERR_DAMAGED },   { 47, 1, 1, ERR_DAMAGED },
		{ 72, 1, 4, ERR_DAMAGED }, /* epoch without a suite */
		{ 76, 0, 4, ERR_DAMAGED },     { 76, 4, 4, ERR_DAMAGED }, /* layers */
		{ 84, 0, 2, ERR_DAMAGED },     { 84, 1, 2, ERR_DAMAGED }, /* disks */
		{ 84, 3, 2, ERR_DAMAGED },     { 84, 257, 2, ERR_DAMAGED },
		{ 86, 129, 2, ERR_DAMAGED },   { 86, 5, 2, ERR_DAMAGED }, /* length of the name */
		{ 88, 1, 1, ERR_DAMAGED }, /* salt without a suite */
		{ 127, 1, 1, ERR_DAMAGED }, /* reserved */
		{ 128, '-', 1, ERR_DAMAGED },  { 130, 0, 1, ERR_DAMAGED }, /* name */
		{ 132, 0, 1, ERR_DAMAGED },    { 132, 65, 1, ERR_DAMAGED }, /* disk's name */
		{ 133, '.', 1, ERR_DAMAGED },  { 136, 511, 8, ERR_DAMAGED }, /* its size */
		{ 143, 0x80, 1, ERR_DAMAGED }, { 147, 'a', 1, ERR_DAMAGED }, /* the same disk */
		{ 156, 1, 1, ERR_DAMAGED }, /* MAC without a suite */
	};
	struct overlay_header_disk disks[2];
	struct overlay_header h = plain_header(disks), out;
	cleanup_buf struct buf b = BUF_INIT;
	struct err err = ERR_INIT;

	(void)state;
	header_make(&h, &b);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		cleanup_free uint8_t *copy = changed(&b, &cases[i]);

		assert_int_equal(overlay_header_decode(copy, b.len, &out, NULL), ERR_DAMAGED);
		put_le64(copy + b.len - 8, check_xxh3(copy, b.len - 8));
		if (overlay_header_decode(copy, b.len, &out, &err) != cases[i].code)
			fail_msg("case %zu: %s", i, err.text);
	}
	for (size_t n = 0; n < b.len; n++) {
		cleanup_free uint8_t *copy = mem_alloc(n + 1);

		memcpy(copy, b.data, n);
		if (n > 8)
			put_le64(copy + n - 8, check_xxh3(copy, n - 8));
		assert_int_equal(overlay_header_decode(copy, n, &out, &err), ERR_DAMAGED);
	}
	assert_int_equal(overlay_header_decode(b.data, b.len, &out, &err), 0);
	overlay_header_release(&out);
}

/* The encoder writes nothing that the decoder would refuse. */
static void test_header_not_written(void **state)
{
	struct overlay_header_disk disks[2];
	struct overlay_header good = plain_header(disks), bad = good;
	cleanup_buf struct buf b = BUF_INIT;

	(void)state;
	bad.last = 1;
	assert_int_equal(overlay_header_encode(&bad, &b, NULL), ERR_INTERNAL);
	bad = good;
	bad.epoch = 1;
	assert_int_equal(overlay_header_encode(&bad, &b, NULL), ERR_INTERNAL);
	bad = good;
	bad.id[9] = 'x';
	assert_int_equal(overlay_header_encode(&bad, &b, NULL), ERR_INTERNAL);
	bad = good;
	bad.ndisks = 0;
	assert_int_equal(overlay_header_encode(&bad, &b, NULL), ERR_INTERNAL);
	bad = good;
	str_copy(disks[1].name, sizeof(disks[1].name), "vda");
	assert_int_equal(overlay_header_encode(&bad, &b, NULL), ERR_INTERNAL);
	assert_int_equal(b.len, 0);
}

static void test_log_header(void **state)
{
	static const struct change cases[] = {
		{ 0, 'X', 1, ERR_DAMAGED },    { 8, 2, 2, ERR_UNSUPPORTED },
		{ 10, 2, 2, ERR_UNSUPPORTED }, { 10, 1, 2, ERR_DAMAGED },
		{ 12, 0, 4, ERR_DAMAGED },     { 48, 511, 8, ERR_DAMAGED },
		{ 55, 0x80, 1, ERR_DAMAGED },  { 56, 512, 4, ERR_DAMAGED },
		{ 60, 1, 4, ERR_DAMAGED },     { 64, 'x', 1, ERR_DAMAGED },
		{ 79, 1, 1, ERR_DAMAGED },     { 80, 0, 1, ERR_DAMAGED },
		{ 80, '.', 1, ERR_DAMAGED },   { 143, 1, 1, ERR_DAMAGED },
		{ 144, 1, 1, ERR_DAMAGED },    { 176, 1, 1, ERR_DAMAGED },
		{ 503, 1, 1, ERR_DAMAGED },
	};
	struct overlay_log_header in = { .id = "o0123abcd", .disk = "vda", .size = 512, .layer = 3 };
	struct overlay_log_header out;
	uint8_t raw[OVERLAY_LOG_HEADER_LEN];
	struct buf b = { .data = raw, .len = sizeof(raw) };
	struct sample_source s = { 22 };
	struct err err = ERR_INIT;

	(void)state;
	overlay_log_header_encode(&in, raw);
	assert_memory_equal(raw, "LVPTOLOG\1\0\0\0\3\0\0\0", 16);
	assert_memory_equal(raw + 48, "\0\2\0\0\0\0\0\0\0\x10\0\0\0\0\0\0o0123abcd\0", 26);
	assert_memory_equal(raw + 80, "vda\0", 4);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		cleanup_free uint8_t *copy = changed(&b, &cases[i]);

		assert_int_equal(overlay_log_header_decode(copy, &out, NULL), ERR_DAMAGED);
		put_le64(copy + 504, check_xxh3(copy, 504));
		if (overlay_log_header_decode(copy, &out, &err) != cases[i].code)
			fail_msg("case %zu: %s", i, err.text);
	}
	for (unsigned i = 0; i < 20; i++) {
		in = sample_overlay_log(&s);
		overlay_log_header_encode(&in, raw);
		assert_int_equal(overlay_log_header_decode(raw, &out, &err), 0);
		assert_true(in.size == out.size && in.layer == out.layer && in.suite == out.suite &&
			    in.epoch == out.epoch && strcmp(in.id, out.id) == 0 &&
			    strcmp(in.disk, out.disk) == 0);
		assert_memory_equal(in.uuid, out.uuid, UUID_LEN);
		assert_memory_equal(in.log, out.log, OVERLAY_LOG_ID_LEN);
		assert_memory_equal(in.mac, out.mac, ID_LEN);
	}
}

static const struct overlay_log_header small = { .id = "o0123abcd",
						 .disk = "vda",
						 .size = (OVERLAY_PAGE_BLOCKS + 5) * 4096 + 512,
						 .layer = 1,
						 .log = "id of the log 1" };

static void test_record_bytes(void **state)
{
	const struct overlay_run runs[] = { { 3, 4, 1 }, { UINT64_C(0x0102), 0x0304, 2 } };
	struct overlay_record r;
	cleanup_buf struct buf b = BUF_INIT;
	struct err err = ERR_INIT;

	(void)state;
	overlay_record_begin(&b, OVERLAY_RUNS, 7, small.log);
	overlay_record_run(&b, &runs[0]);
	overlay_record_run(&b, &runs[1]);
	assert_int_equal(overlay_record_end(&b), 72);
	overlay_record_close(&b, NULL);
	assert_int_equal(b.len, 512);
	assert_memory_equal(b.data,
			    "LPOR\1\0\0\0\7\0\0\0\0\0\0\0id of the log 1\0\x20\0\0\0\0\0\0\0", 40);
	assert_memory_equal(b.data + 40,
			    "\3\0\0\0\0\0\0\0\4\0\0\0\0\0\0\1\2\1\0\0\0\0\0\0\4\3\0\0\0\0\0\2", 32);
	assert_true(mem_is_zero(b.data + 72, 32));
	assert_int_equal(get_le32(b.data + 104), check_crc32c(b.data, 104));
	assert_true(mem_is_zero(b.data + 108, 404));
	assert_int_equal(overlay_record_head(b.data, &small), 512);
	assert_int_equal(overlay_record_decode(b.data, b.len, &small, &r, &err), 0);
	assert_true(r.kind == OVERLAY_RUNS && r.number == 7 && r.entries == 2 && r.maced == 72 &&
		    r.size == 512);
	for (size_t i = 0; i < 2; i++) {
		struct overlay_run run = overlay_record_get_run(&r, i);

		assert_true(run.first == runs[i].first && run.count == runs[i].count &&
			    run.state == runs[i].state);
	}
}

/* Decodes a copy with its check made right. */
static int decode_again(uint8_t *raw, size_t n, struct err *err)
{
	size_t checked = OVERLAY_RECORD_HEAD + get_le32(raw + 32) + ID_LEN;
	struct overlay_record r;

	if (checked + 4 <= n)
		put_le32(raw + checked, check_crc32c(raw, checked));
	return overlay_record_decode(raw, n, &small, &r, err);
}

static void test_runs_refused(void **state)
{
	static const struct change cases[] = {
		{ 0, 'X', 1, 0 },
		{ 4, 0, 1, 0 },
		{ 4, 2, 1, 0 },
		{ 4, 3, 1, 0 },
		{ 5, 1, 1, 0 },
		{ 7, 1, 1, 0 },
		{ 8, 0, 8, 0 },
		{ 16, 'x', 1, 0 }, /* id of another log */
		{ 32, 0, 4, 0 },
		{ 32, 17, 4, 0 },
		{ 32, 48, 4, 0 },
		{ 32, UINT32_MAX, 4, 0 },
		{ 32, OVERLAY_ENTRIES_MAX + 16, 4, 0 },
		{ 36, 1, 1, 0 },
		{ 40, OVERLAY_PAGE_BLOCKS + 6, 8, 0 }, /* beyond the disk */
		{ 40, UINT64_MAX, 8, 0 },
		{ 48, 0, 7, 0 },
		{ 48, OVERLAY_PAGE_BLOCKS + 4, 7, 0 },
		{ 48, UINT64_MAX, 7, 0 },
		{ 55, 0, 1, 0 },
		{ 55, 3, 1, 0 },
		{ 55, 0x81, 1, 0 },
		{ 72, 1, 1, 0 }, /* MAC without a suite */
		{ 511, 1, 1, 0 }, /* padding */
	};
	const struct overlay_run runs[] = { { 3, 4, 1 }, { 9, 1, 2 } };
	cleanup_buf struct buf b = BUF_INIT;
	struct err err = ERR_INIT;
	struct overlay_record r;

	(void)state;
	overlay_record_begin(&b, OVERLAY_RUNS, 7, small.log);
	overlay_record_run(&b, &runs[0]);
	overlay_record_run(&b, &runs[1]);
	overlay_record_end(&b);
	overlay_record_close(&b, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		cleanup_free uint8_t *copy = changed(&b, &cases[i]);

		assert_int_equal(overlay_record_decode(copy, b.len, &small, &r, NULL), ERR_DAMAGED);
		if (decode_again(copy, b.len, &err) != ERR_DAMAGED)
			fail_msg("case %zu", i);
	}
	for (size_t n = 0; n < b.len; n++) {
		cleanup_free uint8_t *copy = mem_alloc(n + 1);

		memcpy(copy, b.data, n);
		assert_int_equal(overlay_record_decode(copy, n, &small, &r, &err), ERR_DAMAGED);
	}
	for (size_t i = 0; i < 108; i++) {
		b.data[i] ^= 0x10;
		assert_int_equal(overlay_record_decode(b.data, b.len, &small, &r, &err),
				 ERR_DAMAGED);
		b.data[i] ^= 0x10;
	}
}

static void test_pages(void **state)
{
	const size_t first = OVERLAY_RECORD_HEAD, second = first + 8 + OVERLAY_PAGE_LEN;
	const struct change cases[] = {
		{ first, 1, 8, 0 }, /* out of order */
		{ second, 2, 8, 0 }, /* not within the disk */
		{ first + 8, 3, 1, 0 },
		{ first + 8 + 4095, 0xc0, 1, 0 }, /* no state */
		{ second + 8 + 1, 0x10, 1, 0 }, /* block 6 of six: beyond the disk */
		{ second + 8 + 2, 1, 1, 0 },
		{ second + 8 + 4095, 1, 1, 0 },
	};
	uint8_t states[OVERLAY_PAGE_LEN] = { 0x19 };
	struct overlay_record r;
	cleanup_buf struct buf b = BUF_INIT;
	struct err err = ERR_INIT;
	uint64_t page;

	(void)state;
	overlay_record_begin(&b, OVERLAY_PAGES, 1, small.log);
	overlay_record_page(&b, 0, states);
	states[1] = 0xa; /* blocks 4 and 5 zero; the disk has six there */
	overlay_record_page(&b, 1, states);
	overlay_record_end(&b);
	overlay_record_close(&b, NULL);
	assert_int_equal(overlay_record_decode(b.data, b.len, &small, &r, &err), 0);
	assert_true(r.kind == OVERLAY_PAGES && r.entries == 2 && r.size == b.len);
	assert_memory_equal(overlay_record_get_page(&r, 1, &page), states, OVERLAY_PAGE_LEN);
	assert_int_equal(page, 1);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		cleanup_free uint8_t *copy = changed(&b, &cases[i]);

		if (decode_again(copy, b.len, &err) != ERR_DAMAGED)
			fail_msg("case %zu", i);
	}
}

static unsigned count_of(const char *text, const char *word)
{
	unsigned n = 0;

	for (const char *p = strstr(text, word); p; p = strstr(p + 1, word))
		n++;
	return n;
}

static void test_log_dump(void **state)
{
	cleanup_buf struct buf log = BUF_INIT, text = BUF_INIT;
	struct sample_source s = { 23 };
	uint8_t raw[OVERLAY_LOG_HEADER_LEN];
	struct err err = ERR_INIT;

	(void)state;
	overlay_log_header_encode(&small, raw);
	buf_put(&log, raw, sizeof(raw));
	sample_overlay_record(&s, &small, OVERLAY_RUNS, 1, 40, &log);
	sample_overlay_record(&s, &small, OVERLAY_PAGES, 2, 2, &log);
	sample_overlay_record(&s, &small, OVERLAY_RUNS, 3, 1, &log);
	buf_put_zero(&log, 1000);
	assert_int_equal(dump_file(log.data, log.len, &text, &err), 0);
	assert_non_null(strstr(buf_str(&text), "file overlay-log\noverlay o0123abcd\ndisk vda\n"));
	assert_int_equal(count_of(buf_str(&text), "\nrecord "), 3);
	assert_int_equal(count_of(buf_str(&text), "\nrun "), 41);
	assert_int_equal(count_of(buf_str(&text), "\npage "), 2);
	assert_int_equal(count_of(buf_str(&text), "problem"), 0);
	log.data[log.len - 1] = 1;
	buf_reset(&text);
	assert_int_equal(dump_file(log.data, log.len, &text, &err), ERR_DAMAGED);
	assert_int_equal(count_of(buf_str(&text), "\nrecord "), 3);
	assert_int_equal(count_of(buf_str(&text), "\nproblem "), 1);
}

static void test_allocation_failures(void **state)
{
	struct overlay_header_disk disks[2];
	struct overlay_header h = plain_header(disks), out;
	cleanup_buf struct buf b = BUF_INIT;

	(void)state;
	header_make(&h, &b);
	mem_fail_after(1);
	assert_int_equal(overlay_header_decode(b.data, b.len, &out, NULL), ERR_NOMEM);
	mem_fail_after(0);
	assert_int_equal(overlay_header_decode(b.data, b.len, &out, NULL), 0);
	overlay_header_release(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header_round_trip),
		cmocka_unit_test(test_header_bytes),
		cmocka_unit_test(test_header_refused),
		cmocka_unit_test(test_header_not_written),
		cmocka_unit_test(test_log_header),
		cmocka_unit_test(test_record_bytes),
		cmocka_unit_test(test_runs_refused),
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_log_dump),
		cmocka_unit_test(test_allocation_failures),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
