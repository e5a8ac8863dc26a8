/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Data of several kinds for the tests of codec/; the same bytes in every run. */
#ifndef LIVEPOINT_TESTS_CODEC_SAMPLES_H
#define LIVEPOINT_TESTS_CODEC_SAMPLES_H

#include "codec/codec.h"

enum sample_kind {
	SAMPLE_RANDOM,
	SAMPLE_HALF_TWICE, /* random, second half = first half */
	SAMPLE_SEVEN_BITS, /* random, but for the top bits */
	SAMPLE_ZERO_TAIL, /* random, the last 1/16 zero */
	SAMPLE_ISLANDS, /* random with a little text every 512 bytes */
	SAMPLE_BASE64,
	SAMPLE_PIECE_TWICE, /* random, one piece of 1/16 stands there twice, unaligned */
	SAMPLE_TEXT,
	SAMPLE_COUNTERS, /* ascending 32-bit numbers */
	SAMPLE_KINDS
};

static inline uint64_t sample_random(uint64_t *state)
{
	/* xorshift64 (Marsaglia 2003) */
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static inline void sample_fill(enum sample_kind kind, uint8_t *p, size_t n)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	static const char text[] = "the quick brown fox jumps over the lazy dog, then sleeps; ";
	uint64_t state = 88172645463325252u + (uint64_t)kind;
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(sample_random(&state) >> 24);
	size_t piece = n / 16;
	switch (kind) {
	case SAMPLE_HALF_TWICE:
		memcpy(p + n / 2, p, n / 2);
		break;
	case SAMPLE_ZERO_TAIL:
		memset(p + n - piece, 0, piece);
		break;
	case SAMPLE_PIECE_TWICE:
		memcpy(p + n - piece, p + piece + 3, piece);
		break;
	default:
		for (size_t i = 0; i < n; i++) {
			if (kind == SAMPLE_SEVEN_BITS)
				p[i] &= 0x7f;
			else if (kind == SAMPLE_BASE64)
				p[i] = (uint8_t)digits[p[i] & 63];
			else if (kind == SAMPLE_TEXT || (kind == SAMPLE_ISLANDS && i % 512 < 57))
				p[i] = (uint8_t)text[i % 512 % (sizeof(text) - 1)];
			else if (kind == SAMPLE_COUNTERS)
				p[i] = (uint8_t)(i / 4 >> 8 * (i % 4));
		}
	}
}

#endif
