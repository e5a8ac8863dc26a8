/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Pack headers, with their check made right. */
#include "format/format.h"
#include "fuzz/fuzz.h"

#include "base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pack_header h;
	struct err err = ERR_INIT;
	uint8_t again[PACK_HEADER_LEN];
	cleanup_free uint8_t *raw =
		fuzz_copy(data, MIN(size, (size_t)PACK_HEADER_LEN), PACK_HEADER_LEN);
	put_le64(raw + PACK_HEADER_LEN - 8, check_xxh3(raw, PACK_HEADER_LEN - 8));
	if (pack_header_decode(raw, &h, &err) < 0)
		return 0;
	pack_header_encode(&h, again);
	FUZZ_HOLDS(memcmp(again, raw, PACK_HEADER_LEN) == 0);
	return 0;
}
