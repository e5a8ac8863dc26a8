/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Boot traces. */
#include "format/sidefile.h"
#include "fuzz/fuzz.h"

#include "base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err = ERR_INIT;
	cleanup_buf struct buf again = BUF_INIT;
	struct trace trace;
	if (trace_decode(data, size, &trace, &err) < 0) {
		FUZZ_HOLDS(err.code && err.text[0]);
		return 0;
	}
	FUZZ_HOLDS(trace_encode(&trace, &again, &err) == 0);
	fuzz_same(&again, data, size);
	trace_release(&trace);
	return 0;
}
