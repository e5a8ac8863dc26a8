/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Pages of the block map. */
#include "format/format.h"
#include "fuzz/fuzz.h"

#include "base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err = ERR_INIT;
	cleanup_free struct page *page = NULL;
	cleanup_buf struct buf again = BUF_INIT;
	if (page_decode(data, size, &page, &err) < 0)
		return 0;
	FUZZ_HOLDS(page_encode(page->leaves, page->count, &again, &err) == 0);
	fuzz_same(&again, data, size);
	return 0;
}
