// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Checks against accidents: XXH3-64 through libxxhash; CRC-32C by the SSE 4.2 instruction where the CPU
 * has it, else by eight tables of 256 entries ("slicing by 8", Kounavis and Berry, Intel 2005).
 *
 * Invariants:
 *  1. Both ways give the same value for every input; tests/unit/base-text.c compares them.
 */
#include "base/base.h"

#include <pthread.h>
#include <xxhash.h>

#ifdef __x86_64__
#include <nmmintrin.h>
#endif

#include "base/internal.h"

#include "base/banned.h"

#define CRC32C_REFLECTED 0x82f63b78u /* 0x1EDC6F41 with its bits in reverse order */

static uint32_t crc_tables[8][256]; /* written once under crc_once */
static pthread_once_t crc_once = PTHREAD_ONCE_INIT;

uint64_t check_xxh3(const void *p, size_t n)
{
	return XXH3_64bits(p, n);
}

static void crc_make_tables(void)
{
	unsigned i, k;

	for (i = 0; i < 256; i++) {
		uint32_t c = i;

		for (k = 0; k < 8; k++)
			c = c >> 1 ^ (c & 1 ? CRC32C_REFLECTED : 0);
		crc_tables[0][i] = c;
	}
	for (i = 0; i < 256; i++)
		for (k = 1; k < 8; k++)
			crc_tables[k][i] = crc_tables[k - 1][i] >> 8 ^
					   crc_tables[0][crc_tables[k - 1][i] & 255];
}

uint32_t crc32c_table(const void *p, size_t n)
{
	const uint8_t *b = p;
	uint32_t c = ~0u;

	pthread_once(&crc_once, crc_make_tables);
	for (; n >= 8; n -= 8, b += 8) {
		uint32_t low = get_le32(b) ^ c, high = get_le32(b + 4);

		c = crc_tables[7][low & 255] ^ crc_tables[6][low >> 8 & 255] ^
		    crc_tables[5][low >> 16 & 255] ^ crc_tables[4][low >> 24] ^
		    crc_tables[3][high & 255] ^ crc_tables[2][high >> 8 & 255] ^
		    crc_tables[1][high >> 16 & 255] ^ crc_tables[0][high >> 24];
	}
	for (; n; n--)
		c = c >> 8 ^ crc_tables[0][(c ^ *b++) & 255];
	return ~c;
}

#ifdef __x86_64__
bool crc32c_have_sse42(void)
{
	return __builtin_cpu_supports("sse4.2");
}

__attribute__((target("sse4.2"))) uint32_t crc32c_sse42(const void *p, size_t n)
{
	const uint8_t *b = p;
	uint64_t c = ~0u;

	for (; n >= 8; n -= 8, b += 8)
		c = _mm_crc32_u64(c, get_le64(b));
	for (; n; n--)
		c = _mm_crc32_u8((uint32_t)c, *b++);
	return ~(uint32_t)c;
}
#else
bool crc32c_have_sse42(void)
{
	return false;
}

uint32_t crc32c_sse42(const void *p, size_t n)
{
	return crc32c_table(p, n);
}
#endif

uint32_t check_crc32c(const void *p, size_t n)
{
	return crc32c_have_sse42() ? crc32c_sse42(p, n) : crc32c_table(p, n);
}
