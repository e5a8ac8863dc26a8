// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Time: clocks, sleeping, time stamps in the one form of RFC 3339 that Livepoint writes.
 *
 * Invariants:
 *  1. time_parse() accepts exactly what time_format() prints: years 0000 to 9999, "Z", no fractions,
 *     no leap second (POSIX time has none).
 *  2. Nothing depends on the time zone.
 */
#include "base/base.h"

#include <errno.h>
#include <time.h>

#include "base/banned.h"

#define TIME_FIRST INT64_C(-62167219200) /* 0000-01-01T00:00:00Z */
#define TIME_LAST INT64_C(253402300799) /* 9999-12-31T23:59:59Z */

int64_t time_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec;
}

uint64_t time_mono_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

void time_sleep_ms(unsigned ms)
{
	struct timespec left = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR)
		;
}

/* Times that RFC 3339 cannot say are shown as the nearest one that it can. */
void time_format(char *dst, int64_t t)
{
	time_t shown = (time_t)MAX(TIME_FIRST, MIN(TIME_LAST, t));
	struct tm tm = { 0 };

	gmtime_r(&shown, &tm);
	snprintf(dst, TIME_TEXT_MAX, "%04u-%02u-%02uT%02u:%02u:%02uZ",
		 (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)(tm.tm_mon + 1) % 100,
		 (unsigned)tm.tm_mday % 100, (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100,
		 (unsigned)tm.tm_sec % 100);
}

static int two_digits(const char *s)
{
	return (s[0] - '0') * 10 + (s[1] - '0');
}

bool time_parse(const char *s, int64_t *t)
{
	static const char form[] = "0000-00-00T00:00:00Z";
	char again[TIME_TEXT_MAX];
	struct tm tm = { 0 };
	int64_t v;
	size_t i;

	for (i = 0; i < sizeof(form); i++)
		if (form[i] == '0' ? s[i] < '0' || s[i] > '9' : s[i] != form[i])
			return false;
	tm.tm_year = two_digits(s) * 100 + two_digits(s + 2) - 1900;
	tm.tm_mon = two_digits(s + 5) - 1;
	tm.tm_mday = two_digits(s + 8);
	tm.tm_hour = two_digits(s + 11);
	tm.tm_min = two_digits(s + 14);
	tm.tm_sec = two_digits(s + 17);
	v = timegm(&tm);
	/* timegm() carries 30 February over into March: what does not print as itself was no date. */
	time_format(again, v);
	if (strcmp(again, s) != 0)
		return false;
	*t = v;
	return true;
}
