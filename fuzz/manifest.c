/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Manifests: what is taken can be written, and what was written is taken and written alike. */
#include "format/format.h"
#include "fuzz/fuzz.h"

#include "base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err = ERR_INIT;
	cleanup_ptr(manifest) m = NULL;
	cleanup_ptr(manifest) second = NULL;
	cleanup_buf struct buf again = BUF_INIT, third = BUF_INIT;
	if (manifest_decode(data, size, &m, &err) < 0)
		return 0;
	FUZZ_HOLDS(manifest_encode(m, &again, &err) == 0);
	/* shorter if items were skipped */
	FUZZ_HOLDS(again.len <= size);
	if (again.len == size)
		fuzz_same(&again, data, size);
	FUZZ_HOLDS(manifest_decode(again.data, again.len, &second, &err) == 0);
	FUZZ_HOLDS(manifest_encode(second, &third, &err) == 0);
	fuzz_same(&third, again.data, again.len);
	return 0;
}
