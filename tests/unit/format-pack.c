// SPDX-License-Identifier: GPL-3.0-or-later
/* Packs: header, record headers, footer and trailer; layout, round trips, flipped bits, bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/format-samples.h"

#include "base/banned.h"

static void test_header_round_trips(void **state)
{
	struct sample_source s = { 1 };
	(void)state;
	for (int i = 0; i < 1000; i++) {
		struct pack_header a = sample_pack(&s), b;
		uint8_t raw[PACK_HEADER_LEN], again[PACK_HEADER_LEN];
		pack_header_encode(&a, raw);
		assert_int_equal(pack_header_decode(raw, &b, NULL), 0);
		assert_true(a.suite == b.suite && a.kind == b.kind && a.number == b.number &&
			    a.epoch == b.epoch);
		assert_memory_equal(a.uuid, b.uuid, UUID_LEN);
		assert_memory_equal(a.salt, b.salt, SALT_LEN);
		assert_memory_equal(a.instance, b.instance, 16);
		pack_header_encode(&b, again);
		assert_memory_equal(raw, again, sizeof(raw));
	}
}

static int header_with(size_t offset, uint8_t value)
{
	struct pack_header h = { .suite = 1, .kind = PACK_DATA, .number = 5, .epoch = 1 }, out;
	uint8_t raw[PACK_HEADER_LEN];
	pack_header_encode(&h, raw);
	raw[offset] = value;
	put_le64(raw + 120, check_xxh3(raw, 120));
	return pack_header_decode(raw, &out, NULL);
}

static void test_header_fields(void **state)
{
	(void)state;
	assert_int_equal(header_with(0, 'L'), 0);
	assert_int_equal(header_with(8, 2), ERR_UNSUPPORTED);
	assert_int_equal(header_with(10, 2), ERR_UNSUPPORTED);
	assert_int_equal(header_with(10, 0), ERR_DAMAGED); /* epoch without suite */
	assert_int_equal(header_with(12, 2), 0);
	assert_int_equal(header_with(12, 3), ERR_UNSUPPORTED);
	assert_int_equal(header_with(16, 0), ERR_DAMAGED);
	assert_int_equal(header_with(20, 255), 0);
	assert_int_equal(header_with(21, 1), ERR_DAMAGED);
	assert_int_equal(header_with(56, 1), 0);
	assert_int_equal(header_with(88, 0), ERR_DAMAGED); /* suite without epoch */
	assert_int_equal(header_with(92, 1), ERR_DAMAGED);
	assert_int_equal(header_with(119, 1), ERR_DAMAGED);
}

static void test_record_round_trips(void **state)
{
	struct sample_source s = { 2 };
	(void)state;
	for (int i = 0; i < 5000; i++) {
		struct record_header a =
			sample_record(&s, (uint32_t)sample_below(&s, SLOT_MAX_COUNT),
				      (uint32_t)sample_below(&s, 2), OBJECT_PLAIN_MAX);
		struct record_header b;
		uint8_t raw[RECORD_HEADER_LEN], again[RECORD_HEADER_LEN];
		record_header_encode(&a, raw);
		assert_int_equal(record_header_decode(raw, &b, NULL), 0);
		assert_true(a.type == b.type && a.codec == b.codec && a.level == b.level &&
			    a.slot == b.slot && a.plain_len == b.plain_len &&
			    a.stored_len == b.stored_len && a.epoch == b.epoch && a.xxh3 == b.xxh3);
		assert_memory_equal(a.id, b.id, ID_LEN);
		assert_memory_equal(a.nonce, b.nonce, NONCE_MAX);
		record_header_encode(&b, again);
		assert_memory_equal(raw, again, sizeof(raw));
	}
}

static int record_of(struct record_header h)
{
	struct record_header out;
	uint8_t raw[RECORD_HEADER_LEN];
	record_header_encode(&h, raw);
	return record_header_decode(raw, &out, NULL);
}

static void test_record_fields(void **state)
{
	const struct record_header plain = {
		.type = 1, .slot = 7, .plain_len = 100, .stored_len = 100, .xxh3 = 9
	};
	const struct record_header sealed = {
		.type = 1, .slot = 7, .plain_len = 100, .stored_len = 116, .epoch = 1
	};
	struct record_header h;
	(void)state;
#define WITH(base, change) (h = base, change, record_of(h))
	assert_int_equal(record_of(plain), 0);
	assert_int_equal(record_of(sealed), 0);
	assert_int_equal(WITH(plain, h.type = 0), ERR_DAMAGED);
	assert_int_equal(WITH(plain, h.type = OBJECT_TYPE_LAST), 0);
	assert_int_equal(WITH(plain, h.type = OBJECT_TYPE_LAST + 1), ERR_DAMAGED);
	assert_int_equal(WITH(plain, h.codec = 2), ERR_DAMAGED);
	assert_int_equal(WITH(plain, h.level = 1), ERR_DAMAGED);
	assert_int_equal(WITH(plain, h.slot = SLOT_MAX_COUNT), ERR_DAMAGED);
	assert_int_equal(WITH(plain, h.slot = SLOT_MAX_COUNT - 1), 0);
	assert_int_equal(WITH(plain, h.stored_len = 99), ERR_DAMAGED);
	assert_int_equal(WITH(plain, h.stored_len = 101), ERR_DAMAGED);
	assert_int_equal(WITH(plain, h.nonce[23] = 1), ERR_DAMAGED);
	assert_int_equal(WITH(plain, (h.plain_len = 0, h.stored_len = 0)), ERR_DAMAGED);
	assert_int_equal(WITH(plain, (h.plain_len = h.stored_len = OBJECT_PLAIN_MAX)), 0);
	assert_int_equal(WITH(plain, (h.plain_len = h.stored_len = OBJECT_PLAIN_MAX + 1)),
			 ERR_DAMAGED);
	assert_int_equal(WITH(plain, (h.codec = 1, h.level = 1, h.stored_len = 99)), 0);
	assert_int_equal(WITH(plain, (h.codec = 1, h.level = -128, h.stored_len = 1)), 0);
	assert_int_equal(WITH(plain, (h.codec = 1, h.level = 0, h.stored_len = 99)), ERR_DAMAGED);
	assert_int_equal(WITH(plain, (h.codec = 1, h.level = 23, h.stored_len = 99)), ERR_DAMAGED);
	assert_int_equal(WITH(plain, (h.codec = 1, h.level = 1)), ERR_DAMAGED);
	assert_int_equal(WITH(plain, (h.codec = 1, h.level = 1, h.stored_len = 0)), ERR_DAMAGED);
	assert_int_equal(WITH(sealed, h.xxh3 = 1), ERR_DAMAGED);
	assert_int_equal(WITH(sealed, h.stored_len = 117), ERR_DAMAGED);
	assert_int_equal(WITH(sealed, (h.codec = 1, h.level = 1, h.stored_len = 115)), 0);
	assert_int_equal(WITH(sealed, (h.codec = 1, h.level = 1)), ERR_DAMAGED);
#undef WITH
	uint8_t raw[RECORD_HEADER_LEN];
	record_header_encode(&plain, raw);
	raw[4] = 2;
	put_le32(raw + 92, check_crc32c(raw, 92));
	assert_int_equal(record_header_decode(raw, &h, NULL), ERR_UNSUPPORTED);
	record_header_encode(&plain, raw);
	raw[88] = 1;
	put_le32(raw + 92, check_crc32c(raw, 92));
	assert_int_equal(record_header_decode(raw, &h, NULL), ERR_DAMAGED);
}

/* "repository uuid, bytes 4 to 7, bytes 12 to 23, content id" of the page. */
static void test_associated_data(void **state)
{
	struct sample_source s = { 3 };
	struct record_header h = sample_record(&s, 9, 4, 1000);
	uint8_t uuid[UUID_LEN], raw[RECORD_HEADER_LEN], aad[RECORD_AAD_LEN];
	(void)state;
	sample_bytes(&s, uuid, UUID_LEN);
	record_header_encode(&h, raw);
	record_aad(uuid, &h, aad);
	assert_memory_equal(aad, uuid, 16);
	assert_memory_equal(aad + 16, raw + 4, 4);
	assert_memory_equal(aad + 20, raw + 12, 12);
	assert_memory_equal(aad + 32, raw + 24, 32);
}

static void test_every_bit(void **state)
{
	struct sample_source s = { 4 };
	struct pack_header h = sample_pack(&s), h2;
	struct record_header r = sample_record(&s, 1, 0, 1000), r2;
	cleanup_buf struct buf file = BUF_INIT;
	struct pack_trailer t;
	uint8_t raw[PACK_HEADER_LEN];
	(void)state;
	pack_header_encode(&h, raw);
	for (size_t bit = 0; bit < 8 * PACK_HEADER_LEN; bit++) {
		raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(pack_header_decode(raw, &h2, NULL), ERR_DAMAGED);
		raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	record_header_encode(&r, raw);
	for (size_t bit = 0; bit < 8 * RECORD_HEADER_LEN; bit++) {
		raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(record_header_decode(raw, &r2, NULL), ERR_DAMAGED);
		raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	size_t footer = sample_pack_file(&s, 10, &file);
	for (size_t bit = 8 * footer; bit < 8 * file.len; bit++) {
		struct footer_entry *entries = NULL;
		file.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		int rc = pack_trailer_decode(file.data + file.len - PACK_TRAILER_LEN, file.len, &t,
					     NULL);
		if (rc == 0)
			rc = footer_decode(file.data + t.footer_offset, t.footer_len, &t, &entries,
					   NULL);
		assert_int_equal(rc, ERR_DAMAGED);
		assert_null(entries);
		file.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

static void test_footer_round_trips(void **state)
{
	struct sample_source s = { 5 };
	(void)state;
	for (unsigned count = 0; count <= 64; count++) {
		cleanup_buf struct buf file = BUF_INIT, again = BUF_INIT;
		cleanup_free struct footer_entry *entries = NULL;
		struct pack_trailer t;
		size_t footer = sample_pack_file(&s, count, &file);
		const uint8_t *tail = file.data + file.len - PACK_TRAILER_LEN;
		assert_int_equal(pack_trailer_decode(tail, file.len, &t, NULL), 0);
		assert_int_equal(t.footer_offset, footer);
		assert_int_equal(t.count, count);
		assert_int_equal(
			footer_decode(file.data + footer, t.footer_len, &t, &entries, NULL), 0);
		assert_non_null(entries);
		footer_encode(&again, entries, count);
		assert_int_equal(again.len, t.footer_len);
		assert_memory_equal(again.data, file.data + footer, again.len);
		/* a file that is longer or shorter than the trailer says */
		assert_int_equal(pack_trailer_decode(tail, file.len + 1, &t, NULL), ERR_DAMAGED);
		assert_int_equal(pack_trailer_decode(tail, file.len - 1, &t, NULL), ERR_DAMAGED);
		assert_int_equal(pack_trailer_decode(tail, 0, &t, NULL), ERR_DAMAGED);
	}
}

/* Footer of two entries at 128 and 324, the footer at 600; changed by the caller. */
static int footer_of(const struct footer_entry entries[2], uint32_t slots)
{
	cleanup_buf struct buf out = BUF_INIT;
	cleanup_free struct footer_entry *list = NULL;
	footer_encode(&out, entries, 2);
	struct pack_trailer t = { .footer_offset = 600,
				  .footer_len = (uint32_t)out.len,
				  .count = 2,
				  .slots = slots,
				  .footer_check = check_xxh3(out.data, out.len) };
	return footer_decode(out.data, out.len, &t, &list, NULL);
}

static void test_footer_rules(void **state)
{
	const struct footer_entry good[2] = {
		{ .slot = 0, .offset = 128, .stored_len = 100, .plain_len = 100, .type = 1 },
		{ .slot = 3, .offset = 324, .stored_len = 100, .plain_len = 100, .type = 1 },
	};
	struct footer_entry e[2];
	(void)state;
#define WITH(change, slots) (memcpy(e, good, sizeof(e)), change, footer_of(e, slots))
	assert_int_equal(footer_of(good, 4), 0);
	assert_int_equal(footer_of(good, 100), 0);
	assert_int_equal(footer_of(good, 3), ERR_DAMAGED);
	assert_int_equal(WITH(e[0].slot = 3, 4), ERR_DAMAGED);
	assert_int_equal(WITH(e[0].slot = 5, 9), ERR_DAMAGED);
	assert_int_equal(WITH(e[0].offset = 127, 4), ERR_DAMAGED);
	assert_int_equal(WITH(e[0].offset = 129, 4), ERR_DAMAGED);
	assert_int_equal(WITH(e[0].offset = UINT32_MAX, 4), ERR_DAMAGED);
	assert_int_equal(WITH(e[1].offset = 128, 4), ERR_DAMAGED);
	assert_int_equal(WITH(e[1].offset = 404, 4), 0);
	assert_int_equal(WITH(e[1].offset = 405, 4), ERR_DAMAGED);
	assert_int_equal(WITH(e[1].stored_len = 117, 4), ERR_DAMAGED);
	assert_int_equal(WITH(e[1].plain_len = 0, 4), ERR_DAMAGED);
	assert_int_equal(WITH(e[1].type = 0, 4), ERR_DAMAGED);
	assert_int_equal(WITH(e[1].type = 9, 4), ERR_DAMAGED);
	assert_int_equal(WITH(e[1].codec = 2, 4), ERR_DAMAGED);
#undef WITH
}

static int trailer_of(struct pack_trailer t, uint64_t size)
{
	struct pack_trailer out;
	uint8_t raw[PACK_TRAILER_LEN];
	pack_trailer_encode(&t, raw);
	return pack_trailer_decode(raw, size, &out, NULL);
}

static void test_trailer_rules(void **state)
{
	const struct pack_trailer good = {
		.footer_offset = 1000, .footer_len = 8 + 2 * 52, .count = 2, .slots = 5
	};
	const uint64_t size = 1000 + 112 + 64;
	struct pack_trailer t;
	(void)state;
#define WITH(change, size) (t = good, change, trailer_of(t, size))
	assert_int_equal(trailer_of(good, size), 0);
	assert_int_equal(WITH(t.slots = 1, size), ERR_DAMAGED);
	assert_int_equal(WITH(t.slots = SLOT_MAX_COUNT, size), 0);
	assert_int_equal(WITH(t.slots = SLOT_MAX_COUNT + 1, size), ERR_DAMAGED);
	assert_int_equal(WITH(t.count = 1, size), ERR_DAMAGED);
	assert_int_equal(WITH(t.footer_len = 111, size - 1), ERR_DAMAGED);
	assert_int_equal(WITH(t.footer_offset = 127, 127 + 112 + 64), ERR_DAMAGED);
	assert_int_equal(WITH(t.footer_offset = UINT64_MAX - 100, size), ERR_DAMAGED);
	assert_int_equal(WITH(t.footer_offset = PACK_BYTES_MAX - 112 - 64, PACK_BYTES_MAX), 0);
	assert_int_equal(WITH(t.footer_offset = PACK_BYTES_MAX - 112 - 63, PACK_BYTES_MAX + 1),
			 ERR_DAMAGED);
#undef WITH
}

static void test_footer_allocation_failure(void **state)
{
	struct sample_source s = { 6 };
	cleanup_buf struct buf file = BUF_INIT;
	struct footer_entry *entries = NULL;
	struct pack_trailer t;
	struct err err = ERR_INIT;
	(void)state;
	sample_pack_file(&s, 3, &file);
	assert_int_equal(pack_trailer_decode(file.data + file.len - PACK_TRAILER_LEN, file.len, &t,
					     NULL),
			 0);
	mem_fail_after(1);
	int r = footer_decode(file.data + t.footer_offset, t.footer_len, &t, &entries, &err);
	mem_fail_after(0);
	assert_int_equal(r, ERR_NOMEM);
	assert_null(entries);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header_round_trips),
		cmocka_unit_test(test_header_fields),
		cmocka_unit_test(test_record_round_trips),
		cmocka_unit_test(test_record_fields),
		cmocka_unit_test(test_associated_data),
		cmocka_unit_test(test_every_bit),
		cmocka_unit_test(test_footer_round_trips),
		cmocka_unit_test(test_footer_rules),
		cmocka_unit_test(test_trailer_rules),
		cmocka_unit_test(test_footer_allocation_failure),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
