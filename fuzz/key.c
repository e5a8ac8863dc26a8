/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Key rings and key files of version 1, with their check made right; texts of recovery keys. */
#include "format/format.h"
#include "fuzz/fuzz.h"

#include "base/banned.h"

static void ring_holds(const struct key_ring *k)
{
	FUZZ_HOLDS(k->nslots >= 1 && k->nslots <= KEY_SLOTS_MAX && k->epochs >= 1 &&
		   k->epochs <= KEY_EPOCHS_MAX);
	for (unsigned i = 0; i < k->nslots; i++) {
		const struct key_ring_slot *s = &k->slots[i];

		FUZZ_HOLDS(s->label[0] && key_label_valid(s->label) &&
			   kdf_valid(s->kdf_n, s->kdf_r, s->kdf_p) && s->bound >= 1 &&
			   s->bound <= k->epochs);
	}
}

static void try_ring(uint8_t *raw, size_t size)
{
	cleanup_free struct key_ring *k = mem_alloc(sizeof(*k));
	cleanup_buf struct buf again = BUF_INIT;
	struct err err = ERR_INIT;

	(void)key_ring_decode(raw, size, k, &err);
	if (size < 8)
		return;
	put_le64(raw + size - 8, check_xxh3(raw, size - 8));
	if (key_ring_decode(raw, size, k, &err) < 0)
		return;
	ring_holds(k);
	FUZZ_HOLDS(key_ring_encode(k, &again, &err) == 0);
	fuzz_same(&again, raw, size);
}

static void try_recovery(const uint8_t *data, size_t size)
{
	char letters[RECOVERY_LETTERS + 1] = "";

	if (recovery_decode(data, size, letters) == RECOVERY_RIGHT)
		FUZZ_HOLDS(strspn(letters, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == RECOVERY_LETTERS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct key_file k;
	struct err err = ERR_INIT;
	uint8_t again[KEY_FILE_LEN];
	cleanup_free uint8_t *raw = fuzz_copy(data, size, 0);
	try_recovery(raw, size);
	if (key_ring_is(raw, size)) {
		try_ring(raw, size);
		return 0;
	}
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
