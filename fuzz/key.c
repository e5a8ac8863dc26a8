/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Key files, with their check made right. */
#include "format/format.h"
#include "fuzz/fuzz.h"

#include "base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct key_file k;
	struct err err = ERR_INIT;
	uint8_t again[KEY_FILE_LEN];
	cleanup_free uint8_t *raw = fuzz_copy(data, size, 0);
	(void)key_file_decode(raw, size, &k, &err);
	if (size != KEY_FILE_LEN)
		return 0;
	put_le64(raw + KEY_FILE_LEN - 8, check_xxh3(raw, KEY_FILE_LEN - 8));
	if (key_file_decode(raw, size, &k, &err) < 0)
		return 0;
	FUZZ_HOLDS(key_label_valid(k.label) && kdf_valid(k.kdf_n, k.kdf_r, k.kdf_p));
	key_file_encode(&k, again);
	FUZZ_HOLDS(memcmp(again, raw, KEY_FILE_LEN) == 0);
	return 0;
}
