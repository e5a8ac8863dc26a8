/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Roots of the block map. */
#include "format/format.h"
#include "fuzz/fuzz.h"

#include "base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err = ERR_INIT;
	cleanup_free struct root *root = NULL;
	cleanup_buf struct buf again = BUF_INIT;
	uint64_t chunks, leaves;
	uint32_t pages;
	if (root_decode(data, size, &root, &err) < 0)
		return 0;
	FUZZ_HOLDS(map_geometry(root->size, root->chunk_size, &chunks, &leaves, &pages) &&
		   pages == root->count);
	FUZZ_HOLDS(root_encode(root, &again, &err) == 0);
	fuzz_same(&again, data, size);
	return 0;
}
