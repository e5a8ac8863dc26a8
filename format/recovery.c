/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Text of a recovery key: 160 bits as 32 letters of base32 (RFC 4648, section 6) in groups of four, and a check group.
 *
 * Letters count as elements of GF(32) (x^5 + x^2 + 1, a = x); check letter j = 1..4 is the sum of a^(i j) times letter i,
 * i = 0..31: the syndromes of a Reed-Solomon code.  A letter that is wrong changes the first of them, and two neighbours that
 * were swapped do, since a^i and a^(i + 1) differ; across the border to the check group the second one does.  Anything
 * else passes once in 2^20 times.
 */
#include "format/internal.h"

#include "base/banned.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
#define FIELD_POLYNOMIAL 0x25u /* x^5 + x^2 + 1 */
#define GROUP 4

static unsigned field_times(unsigned a, unsigned b)
{
	unsigned product = 0;

	for (; b; b >>= 1) {
		if (b & 1)
			product ^= a;
		a <<= 1;
		if (a & 32)
			a ^= FIELD_POLYNOMIAL;
	}
	return product;
}

static void check_letters(const uint8_t values[RECOVERY_LETTERS], uint8_t checks[RECOVERY_CHECKS])
{
	unsigned step = 1;

	for (unsigned j = 0; j < RECOVERY_CHECKS; j++) {
		unsigned sum = 0, weight = 1;

		step = field_times(step, 2);
		for (unsigned i = 0; i < RECOVERY_LETTERS; i++) {
			sum ^= field_times(weight, values[i]);
			weight = field_times(weight, step);
		}
		checks[j] = (uint8_t)sum;
	}
}

void recovery_encode(const uint8_t bits[RECOVERY_BITS_LEN], char out[RECOVERY_TEXT_MAX])
{
	uint8_t values[RECOVERY_LETTERS + RECOVERY_CHECKS] = { 0 };
	size_t at = 0;

	for (unsigned i = 0; i < 8 * RECOVERY_BITS_LEN; i++)
		values[i / 5] = (uint8_t)(values[i / 5] << 1 | (bits[i / 8] >> (7 - i % 8) & 1));
	check_letters(values, values + RECOVERY_LETTERS);
	for (unsigned i = 0; i < sizeof(values); i++) {
		if (i && i % GROUP == 0)
			out[at++] = '-';
		out[at++] = alphabet[values[i]];
	}
	out[at] = '\0';
	mem_wipe(values, sizeof(values));
}

/* 0 to 31; 32 for what may stand between letters; else -1. */
static int letter_value(uint8_t c)
{
	if (c == ' ' || c == '-' || c == '\t' || c == '\r' || c == '\n')
		return 32;
	if (c >= 'a' && c <= 'z')
		return c - 'a';
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= '2' && c <= '7')
		return c - '2' + 26;
	return c == '0' ? 'O' - 'A' : c == '1' ? 'I' - 'A' : c == '8' ? 'B' - 'A' : -1;
}

enum recovery_text recovery_decode(const void *text, size_t n, char letters[RECOVERY_LETTERS])
{
	const uint8_t *p = text;
	uint8_t values[RECOVERY_LETTERS + RECOVERY_CHECKS], checks[RECOVERY_CHECKS];
	enum recovery_text result = RECOVERY_WRONG;
	size_t count = 0;

	for (size_t i = 0; i < n && result != RECOVERY_NOT; i++) {
		int v = letter_value(p[i]);

		if (v == 32)
			continue;
		if (v < 0 || count == sizeof(values))
			result = RECOVERY_NOT;
		else
			values[count++] = (uint8_t)v;
	}
	if (count != sizeof(values))
		result = RECOVERY_NOT;
	if (result != RECOVERY_NOT) {
		check_letters(values, checks);
		if (memcmp(checks, values + RECOVERY_LETTERS, sizeof(checks)) == 0)
			result = RECOVERY_RIGHT;
	}
	for (unsigned i = 0; result == RECOVERY_RIGHT && i < RECOVERY_LETTERS; i++)
		letters[i] = alphabet[values[i]];
	mem_wipe(values, sizeof(values));
	return result;
}
