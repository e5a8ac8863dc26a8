/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Record headers, with their check made right. */
#include "format/format.h"
#include "fuzz/fuzz.h"

#include "base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t uuid[UUID_LEN];
	struct record_header h;
	struct err err = ERR_INIT;
	uint8_t again[RECORD_HEADER_LEN], aad[RECORD_AAD_LEN];
	cleanup_free uint8_t *raw =
		fuzz_copy(data, MIN(size, (size_t)RECORD_HEADER_LEN), RECORD_HEADER_LEN);
	put_le32(raw + RECORD_HEADER_LEN - 4, check_crc32c(raw, RECORD_HEADER_LEN - 4));
	if (record_header_decode(raw, &h, &err) < 0)
		return 0;
	FUZZ_HOLDS(h.plain_len >= 1 && h.plain_len <= OBJECT_PLAIN_MAX && h.slot < SLOT_MAX_COUNT);
	FUZZ_HOLDS(h.stored_len >= 1 && h.stored_len <= h.plain_len + TAG_MAX);
	record_header_encode(&h, again);
	FUZZ_HOLDS(memcmp(again, raw, RECORD_HEADER_LEN) == 0);
	record_aad(uuid, &h, aad);
	FUZZ_HOLDS(memcmp(aad + 16, raw + 4, 4) == 0 && memcmp(aad + 20, raw + 12, 12) == 0 &&
		   memcmp(aad + 32, raw + 24, ID_LEN) == 0);
	return 0;
}
