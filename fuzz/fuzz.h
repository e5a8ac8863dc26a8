/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Shared by the fuzz targets: one function each, in the form that libFuzzer wants (LLVM,
 * "libFuzzer", "Fuzz Target"), one target a program.
 *
 * Beside "does not crash", each holds a property: what a decoder takes, the encoder makes again,
 * byte for byte.  Checksums are made right first, for a mutation would never get past them; that
 * wrong ones are refused is for the unit tests.
 */
#ifndef LIVEPOINT_FUZZ_FUZZ_H
#define LIVEPOINT_FUZZ_FUZZ_H

#include <stdlib.h>

#include "base/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A property does not hold: ends the process so that the fuzzer and the replay both see it. */
#define FUZZ_HOLDS(condition)                                                                      \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__,          \
				#condition);                                                       \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* The encoder's bytes are the n bytes at p. */
static inline void fuzz_same(const struct buf *made, const uint8_t *p, size_t n)
{
	FUZZ_HOLDS(!made->failed && made->len == n && (n == 0 || memcmp(made->data, p, n) == 0));
}

/* A copy of its own, so that a sanitizer sees a read beyond it; at least `least` bytes, zeroes
 * behind. */
static inline uint8_t *fuzz_copy(const uint8_t *p, size_t n, size_t least)
{
	uint8_t *copy = mem_alloc(MAX(MAX(n, least), 1));
	FUZZ_HOLDS(copy);
	if (n > 0)
		memcpy(copy, p, n);
	return copy;
}

#endif
