// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Text: copying with a bound, hexadecimal, numbers with units.
 *
 * Invariants:
 *  1. Parsers take the whole string or nothing and write their output only on success.
 *  2. Nothing depends on the locale.
 */
#include "base/base.h"

#include <strings.h>

#include "base/banned.h"

bool str_copy(char *dst, size_t size, const char *src)
{
	size_t n = strlen(src);
	size_t fit = MIN(n, size - 1);

	memcpy(dst, src, fit);
	dst[fit] = 0;
	return fit == n;
}

bool str_starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_ends(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

void hex_encode(char *dst, const uint8_t *src, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	size_t i;

	for (i = 0; i < n; i++) {
		dst[2 * i] = digits[src[i] >> 4];
		dst[2 * i + 1] = digits[src[i] & 15];
	}
	dst[2 * n] = 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool hex_decode(uint8_t *dst, const char *src, size_t n)
{
	size_t i;

	/* Looks first: dst stays untouched, and a shorter text is not read beyond its end. */
	for (i = 0; i < 2 * n; i++)
		if (hex_digit(src[i]) < 0)
			return false;
	for (i = 0; i < n; i++)
		dst[i] = (uint8_t)(hex_digit(src[2 * i]) << 4 | hex_digit(src[2 * i + 1]));
	return true;
}

/* Reads digits; returns what follows them, NULL if there are none or too many. */
static const char *parse_digits(const char *s, uint64_t *value)
{
	const char *start = s;
	uint64_t v = 0;

	for (; *s >= '0' && *s <= '9'; s++)
		if (mul_overflow(v, (uint64_t)10, &v) || add_overflow(v, (uint64_t)(*s - '0'), &v))
			return NULL;
	*value = v;
	return s == start ? NULL : s;
}

bool parse_u64(const char *s, uint64_t *value)
{
	uint64_t v;
	const char *rest = parse_digits(s, &v);

	if (!rest || *rest)
		return false;
	*value = v;
	return true;
}

/* The power of 1024 that the letter stands for, 0 if none does. */
static uint64_t size_unit(char c)
{
	switch (c) {
	case 'k':
	case 'K':
		return KiB;
	case 'm':
	case 'M':
		return MiB;
	case 'g':
	case 'G':
		return GiB;
	case 't':
	case 'T':
		return TiB;
	default:
		return 0;
	}
}

bool parse_size(const char *s, uint64_t *bytes)
{
	uint64_t v, unit;
	const char *rest = parse_digits(s, &v);

	if (!rest)
		return false;
	unit = size_unit(*rest);
	if (unit) {
		rest++;
		if (strcasecmp(rest, "iB") == 0)
			rest += 2;
	}
	if (strcasecmp(rest, "B") == 0)
		rest++;
	if (*rest || mul_overflow(v, unit ? unit : 1, &v))
		return false;
	*bytes = v;
	return true;
}

bool parse_duration(const char *s, uint64_t *seconds)
{
	static const struct {
		const char *name;
		uint64_t seconds;
	} units[] = { { "y", 31536000 }, { "mo", 2592000 }, { "w", 604800 }, { "d", 86400 },
		      { "h", 3600 },	 { "m", 60 },	    { "s", 1 } };
	uint64_t sum, v;
	size_t i = 0;

	if (parse_u64(s, seconds))
		return true;
	for (sum = 0; *s; i++) {
		size_t n;

		s = parse_digits(s, &v);
		if (!s)
			return false;
		n = strspn(s, "ymowdhs");
		/* each unit once, the larger one first */
		while (i < ARRAY_SIZE(units) &&
		       (strlen(units[i].name) != n || strncmp(s, units[i].name, n) != 0))
			i++;
		if (i == ARRAY_SIZE(units) || mul_overflow(v, units[i].seconds, &v) ||
		    add_overflow(sum, v, &sum))
			return false;
		s += n;
	}
	if (!i)
		return false;
	*seconds = sum;
	return true;
}
