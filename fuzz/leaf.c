/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Leaves of the block map: canonical, covered without gap, every locator in range. */
#include "format/format.h"
#include "fuzz/fuzz.h"

#include "base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t locators[LEAF_CHUNKS];
	struct err err = ERR_INIT;
	cleanup_free struct leaf *leaf = NULL;
	cleanup_buf struct buf again = BUF_INIT;
	unsigned left;
	if (leaf_decode(data, size, &leaf, &err) < 0)
		return 0;
	for (unsigned i = 0; i < leaf->chunks; i++) {
		locators[i] = leaf_lookup(leaf, i, &left);
		FUZZ_HOLDS(left >= 1 && left <= leaf->chunks - i);
		FUZZ_HOLDS(locators[i] == LOCATOR_NONE || locators[i] == LOCATOR_UNREADABLE ||
			   (locator_pack(locators[i]) >= 1 &&
			    locator_slot(locators[i]) < SLOT_MAX_COUNT));
	}
	FUZZ_HOLDS(leaf_encode(locators, leaf->chunks, leaf->digest, &again, &err) == 0);
	fuzz_same(&again, data, size);
	return 0;
}
