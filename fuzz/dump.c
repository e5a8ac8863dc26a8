/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Text dumps: of a whole file, as it is and with its checks made right; or of an object, if the
 * first byte is its type.  The text is lines of printable ASCII, the same each time.
 */
#include "format/format.h"
#include "fuzz/fuzz.h"

#include "base/banned.h"

static void fix_pack(uint8_t *p, size_t n)
{
	if (n < PACK_HEADER_LEN + PACK_TRAILER_LEN)
		return;
	uint8_t *tail = p + n - PACK_TRAILER_LEN;
	uint64_t footer = get_le64(tail + 8);
	uint32_t len = get_le32(tail + 16);
	put_le64(p + 120, check_xxh3(p, 120));
	if (footer <= n && len <= n - footer)
		put_le64(tail + 48, check_xxh3(p + footer, len));
	put_le64(tail + 56, check_xxh3(tail, 56));
	for (size_t at = PACK_HEADER_LEN; n - at >= RECORD_HEADER_LEN + PACK_TRAILER_LEN;) {
		uint32_t stored = get_le32(p + at + 16);
		put_le32(p + at + 92, check_crc32c(p + at, 92));
		if (stored > n - at - RECORD_HEADER_LEN)
			break;
		at += RECORD_HEADER_LEN + stored;
	}
}

static void fix_segment(uint8_t *p, size_t n)
{
	struct segment_header h;
	if (n < SEGMENT_HEADER_LEN)
		return;
	put_le64(p + 120, check_xxh3(p, 120));
	if (segment_header_decode(p, n, &h, NULL) < 0)
		return;
	put_le64(p + 80, check_xxh3(p + h.records_offset, (size_t)h.records * SEGMENT_RECORD_LEN));
	put_le64(p + 88, check_xxh3(p + h.fence_offset, 4 * (((size_t)1 << h.fence_bits) + 1)));
	put_le64(p + 96, check_xxh3(p + h.bloom_offset, h.bloom_len));
	put_le64(p + 120, check_xxh3(p, 120));
}

static void dump_twice(unsigned type, const uint8_t *p, size_t n)
{
	cleanup_buf struct buf out = BUF_INIT, again = BUF_INIT;
	struct err err = ERR_INIT;
	int r = type ? dump_object((enum object_type)type, p, n, &out, &err) :
		       dump_file(p, n, &out, &err);
	FUZZ_HOLDS(!out.failed && out.len > 0 && out.data[out.len - 1] == '\n');
	FUZZ_HOLDS(r == 0 || (r == err.code && err.text[0]));
	for (size_t i = 0; i < out.len; i++)
		FUZZ_HOLDS(out.data[i] == '\n' || (out.data[i] >= 0x20 && out.data[i] < 0x7f));
	FUZZ_HOLDS(r == (type ? dump_object((enum object_type)type, p, n, &again, NULL) :
				dump_file(p, n, &again, NULL)));
	fuzz_same(&again, out.data, out.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 0 && data[0] >= 1 && data[0] <= OBJECT_TYPE_LAST) {
		dump_twice(data[0], data + 1, size - 1);
		return 0;
	}
	cleanup_free uint8_t *copy = fuzz_copy(data, size, 0);
	dump_twice(0, copy, size);
	if (size < 8)
		return 0;
	if (memcmp(copy, "LVPTPACK", 8) == 0)
		fix_pack(copy, size);
	else if (memcmp(copy, "LVPTISEG", 8) == 0)
		fix_segment(copy, size);
	else if (memcmp(copy, "LVPTOVLY", 8) == 0)
		put_le64(copy + size - 8, check_xxh3(copy, size - 8));
	else if (memcmp(copy, "LVPTOLOG", 8) == 0 && size >= 512)
		put_le64(copy + 504, check_xxh3(copy, 504));
	else if (size == KEY_FILE_LEN)
		put_le64(copy + KEY_FILE_LEN - 8, check_xxh3(copy, KEY_FILE_LEN - 8));
	dump_twice(0, copy, size);
	return 0;
}
