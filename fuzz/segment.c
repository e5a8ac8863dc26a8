/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Headers of index segments: size of the file (8 bytes, first), header with its check made right.
 * */
#include "format/format.h"
#include "fuzz/fuzz.h"

#include "base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct segment_header h;
	struct err err = ERR_INIT;
	uint8_t again[SEGMENT_HEADER_LEN];
	if (size < 8)
		return 0;
	uint64_t file_size = get_le64(data);
	cleanup_free uint8_t *raw =
		fuzz_copy(data + 8, MIN(size - 8, (size_t)SEGMENT_HEADER_LEN), SEGMENT_HEADER_LEN);
	put_le64(raw + SEGMENT_HEADER_LEN - 8, check_xxh3(raw, SEGMENT_HEADER_LEN - 8));
	if (segment_header_decode(raw, file_size, &h, &err) < 0)
		return 0;
	FUZZ_HOLDS(h.records <= UINT32_MAX && h.fence_bits <= 30 && h.bloom_len % BLOOM_BLOCK == 0);
	FUZZ_HOLDS(h.records_offset + h.records * SEGMENT_RECORD_LEN <= file_size &&
		   h.fence_offset + 4 * (((uint64_t)1 << h.fence_bits) + 1) <= file_size &&
		   h.bloom_offset + h.bloom_len <= file_size);
	segment_header_encode(&h, again);
	FUZZ_HOLDS(memcmp(again, raw, SEGMENT_HEADER_LEN) == 0);
	return 0;
}
