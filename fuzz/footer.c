/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Trailer (64 bytes, first) and footer (the rest) of a pack, with their checks and lengths made
 * right. */
#include "format/format.h"
#include "fuzz/fuzz.h"

#include "base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pack_trailer t;
	struct err err = ERR_INIT;
	uint8_t tail[PACK_TRAILER_LEN];
	cleanup_free struct footer_entry *entries = NULL;
	cleanup_buf struct buf again = BUF_INIT;
	if (size < PACK_TRAILER_LEN)
		return 0;
	cleanup_free uint8_t *raw = fuzz_copy(data, PACK_TRAILER_LEN, 0);
	size_t n = size - PACK_TRAILER_LEN;
	cleanup_free uint8_t *footer = fuzz_copy(data + PACK_TRAILER_LEN, n, 0);
	put_le32(raw + 16, (uint32_t)n);
	put_le64(raw + 48, check_xxh3(footer, n));
	put_le64(raw + 56, check_xxh3(raw, 56));
	uint64_t file_size = get_le64(raw + 8) + n + PACK_TRAILER_LEN;
	if (pack_trailer_decode(raw, file_size, &t, &err) < 0)
		return 0;
	pack_trailer_encode(&t, tail);
	FUZZ_HOLDS(memcmp(tail, raw, PACK_TRAILER_LEN) == 0);
	if (footer_decode(footer, n, &t, &entries, &err) < 0)
		return 0;
	for (uint32_t i = 0; i < t.count; i++)
		FUZZ_HOLDS(entries[i].slot < t.slots && (uint64_t)entries[i].offset +
									RECORD_HEADER_LEN +
									entries[i].stored_len <=
								t.footer_offset);
	footer_encode(&again, entries, t.count);
	fuzz_same(&again, footer, n);
	return 0;
}
