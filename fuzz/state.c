/* SPDX-License-Identifier: GPL-3.0-or-later */
/* State objects. */
#include "format/state.h"
#include "fuzz/fuzz.h"

#include "base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err = ERR_INIT;
	cleanup_buf struct buf again = BUF_INIT;
	struct state state;
	if (state_decode(data, size, &state, &err) < 0) {
		FUZZ_HOLDS(err.code && err.text[0]);
		return 0;
	}
	FUZZ_HOLDS(state_encode(&state, &again, &err) == 0);
	fuzz_same(&again, data, size);
	state_release(&state);
	return 0;
}
