// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Which points the rules keep: weeks across years, leap days, time zones, equal seconds, future points, holds, and
 * random histories against a reference that asks each point what is newer (slow, and with the C library's calendar).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "repo/retention.h"

#include "base/banned.h"

#define MOST 64
#define FAR INT64_C(4000000000) /* a now after all times here */
/* As POSIX writes zones, so that no data base of them is needed. */
#define BERLIN "CET-1CEST,M3.5.0,M10.5.0/3"
#define NEW_YORK "EST5EDT,M3.2.0,M11.1.0"
#define LORD_HOWE "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0" /* half an hour */
#define KATHMANDU "<+0545>-5:45"

static int64_t at(const char *text)
{
	int64_t t;

	if (!time_parse(text, &t))
		fail_msg("no time: %s", text);
	return t;
}

static int64_t local_offset(int64_t t)
{
	time_t when = (time_t)t;
	struct tm tm;

	assert_non_null(localtime_r(&when, &tm));
	return tm.tm_gmtoff;
}

static void set_zone(const char *zone)
{
	assert_int_equal(setenv("TZ", zone, 1), 0);
	tzset();
}

/* Decides for points given as times, sequences ascending; *out has one letter a point: the first reason, or '-'. */
static void decide(const struct keep_rules *rules, int64_t now, const char *const *times,
		   size_t count, unsigned *out)
{
	struct err err = ERR_INIT;
	struct keep_point points[MOST];

	for (size_t i = 0; i < count; i++)
		points[i] = (struct keep_point){ .time = at(times[i]), .sequence = i + 1 };
	if (keep_decide(rules, points, count, now, out, &err) < 0)
		fail_msg("%s", err.text);
}

#define expect(rules, now, times, ...)                                                             \
	do {                                                                                       \
		const unsigned want[] = { __VA_ARGS__ };                                           \
		unsigned got[MOST];                                                                \
                                                                                                   \
		assert_int_equal(ARRAY_SIZE(want), ARRAY_SIZE(times));                             \
		decide(rules, now, times, ARRAY_SIZE(times), got);                                 \
		for (size_t i = 0; i < ARRAY_SIZE(want); i++)                                      \
			if (got[i] != want[i])                                                     \
				fail_msg("line %d: point %zu: reasons %u, not %u", __LINE__, i,    \
					 got[i], want[i]);                                         \
	} while (0)

static void test_last_and_order(void **state)
{
	static const char *const days[] = { "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z",
					    "2026-01-03T00:00:00Z" };
	static const char *const one_second[] = { "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z",
						  "2026-01-01T00:00:00Z" };
	static const char *const mixed[] = { "2026-01-03T00:00:00Z", "2026-01-01T00:00:00Z",
					     "2026-01-02T00:00:00Z" };
	struct keep_rules two = { .last = 2 }, daily = { .daily = 9 };

	(void)state;
	expect(&two, FAR, days, 0, KEEP_LAST, KEEP_LAST);
	/* of one second the one published last is the newest */
	expect(&two, FAR, one_second, 0, KEEP_LAST, KEEP_LAST);
	expect(&daily, FAR, one_second, 0, 0, KEEP_DAILY);
	/* by time, not by sequence: an import */
	expect(&two, FAR, mixed, KEEP_LAST, 0, KEEP_LAST);
}

static void test_weeks(void **state)
{
	/* 2020 has 53 weeks: 2021-01-03 is a Sunday of 2020-W53, 2021-01-04 the Monday of 2021-W01; 2018-12-31 is in 2019-W01. */
	static const char *const around_2021[] = { "2020-12-27T23:59:59Z", "2020-12-28T00:00:00Z",
						   "2020-12-31T12:00:00Z", "2021-01-01T12:00:00Z",
						   "2021-01-03T23:59:59Z", "2021-01-04T00:00:00Z" };
	static const char *const around_2019[] = { "2018-12-30T23:59:59Z", "2018-12-31T00:00:00Z",
						   "2019-01-01T00:00:00Z", "2019-01-06T23:59:59Z",
						   "2019-01-07T00:00:00Z" };
	static const char *const before_1970[] = { "1969-12-28T23:59:59Z", "1969-12-29T00:00:00Z",
						   "1970-01-04T23:59:59Z", "1970-01-05T00:00:00Z" };
	struct keep_rules weekly = { .weekly = 9 }, two = { .weekly = 2 };

	(void)state;
	expect(&weekly, FAR, around_2021, KEEP_WEEKLY, 0, 0, 0, KEEP_WEEKLY, KEEP_WEEKLY);
	expect(&two, FAR, around_2021, 0, 0, 0, 0, KEEP_WEEKLY, KEEP_WEEKLY);
	expect(&weekly, FAR, around_2019, KEEP_WEEKLY, 0, 0, KEEP_WEEKLY, KEEP_WEEKLY);
	expect(&weekly, FAR, before_1970, KEEP_WEEKLY, 0, KEEP_WEEKLY, KEEP_WEEKLY);
}

static void test_months_and_leap_days(void **state)
{
	static const char *const leap[] = { "2024-02-28T12:00:00Z", "2024-02-29T00:00:00Z",
					    "2024-02-29T23:59:59Z", "2024-03-01T00:00:00Z" };
	static const char *const centuries[] = { "1900-02-28T00:00:00Z", "1900-03-01T00:00:00Z",
						 "2000-02-29T00:00:00Z", "2000-03-01T00:00:00Z" };
	static const char *const years[] = { "2023-12-31T23:59:59Z", "2024-01-01T00:00:00Z",
					     "2024-12-31T23:59:59Z", "2025-01-01T00:00:00Z" };
	struct keep_rules daily = { .daily = 9 }, monthly = { .monthly = 9 },
			  yearly = { .yearly = 9 };

	(void)state;
	expect(&daily, FAR, leap, KEEP_DAILY, 0, KEEP_DAILY, KEEP_DAILY);
	expect(&monthly, FAR, leap, 0, 0, KEEP_MONTHLY, KEEP_MONTHLY);
	expect(&monthly, FAR, centuries, KEEP_MONTHLY, KEEP_MONTHLY, KEEP_MONTHLY, KEEP_MONTHLY);
	expect(&yearly, FAR, years, KEEP_YEARLY, 0, KEEP_YEARLY, KEEP_YEARLY);
	/* the same month of another year is another month */
	static const char *const january[] = { "2024-01-05T00:00:00Z", "2025-01-05T00:00:00Z" };

	expect(&monthly, FAR, january, KEEP_MONTHLY, KEEP_MONTHLY);
}

static void test_time_zones(void **state)
{
	/* Berlin: 2026-03-29 02:00 becomes 03:00; 2026-10-25 03:00 becomes 02:00 at 01:00 UTC. */
	static const char *const autumn[] = { "2026-10-25T00:10:00Z", "2026-10-25T00:50:00Z",
					      "2026-10-25T01:10:00Z", "2026-10-25T02:10:00Z" };
	static const char *const spring[] = { "2026-03-29T00:50:00Z", "2026-03-29T01:10:00Z" };
	static const char *const midnight[] = { "2026-07-01T21:59:59Z", "2026-07-01T22:00:00Z",
						"2026-07-01T23:00:00Z" };
	/* Monday begins in Kathmandu at 18:15 UTC of Sunday. */
	static const char *const monday[] = { "2026-11-15T18:14:59Z", "2026-11-15T18:15:00Z" };
	struct keep_rules hourly = { .hourly = 9, .offset = local_offset };
	struct keep_rules daily = { .daily = 9, .offset = local_offset };
	struct keep_rules weekly = { .weekly = 9, .offset = local_offset };
	struct keep_rules utc = { .daily = 9 };

	(void)state;
	set_zone(BERLIN);
	/* 02:10 and 02:50 of summer, 02:10 of winter: one hour of the clock on the wall */
	expect(&hourly, FAR, autumn, 0, 0, KEEP_HOURLY, KEEP_HOURLY);
	expect(&hourly, FAR, spring, KEEP_HOURLY, KEEP_HOURLY);
	expect(&daily, FAR, midnight, KEEP_DAILY, 0, KEEP_DAILY);
	expect(&utc, FAR, midnight, 0, 0, KEEP_DAILY);
	set_zone(KATHMANDU);
	expect(&weekly, FAR, monday, KEEP_WEEKLY, KEEP_WEEKLY);
	set_zone("UTC");
	expect(&weekly, FAR, monday, 0, KEEP_WEEKLY);
}

static void test_within(void **state)
{
	static const char *const days[] = { "2020-01-01T00:00:00Z", "2020-01-08T23:59:59Z",
					    "2020-01-09T00:00:00Z", "2020-01-10T00:00:00Z" };
	struct keep_rules day = { .within = 86400 }, all = { .within = UINT64_MAX };

	(void)state;
	/* years after the newest point nothing more goes than on its day */
	expect(&day, FAR, days, 0, 0, KEEP_WITHIN, KEEP_WITHIN);
	expect(&day, at("2020-01-10T00:00:00Z"), days, 0, 0, KEEP_WITHIN, KEEP_WITHIN);
	expect(&all, FAR, days, KEEP_WITHIN, KEEP_WITHIN, KEEP_WITHIN, KEEP_WITHIN);
}

static void test_future(void **state)
{
	static const char *const points[] = { "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z",
					      "2038-01-01T00:00:00Z", "2038-01-02T00:00:00Z" };
	static const char *const near[] = { "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z",
					    "2026-01-01T00:01:01Z" };
	struct keep_rules last = { .last = 1 }, yearly = { .yearly = 1 }, within = { .within = 60 };
	int64_t now = at("2026-01-02T12:00:00Z");

	(void)state;
	expect(&last, now, points, 0, KEEP_LAST, KEEP_FUTURE, KEEP_FUTURE);
	expect(&yearly, now, points, 0, KEEP_YEARLY, KEEP_FUTURE, KEEP_FUTURE);
	/* relative to the newest that is not in the future, or nothing would stay */
	expect(&within, now, points, 0, KEEP_WITHIN, KEEP_FUTURE, KEEP_FUTURE);
	expect(&last, at("2026-01-01T00:00:00Z"), near, 0, KEEP_LAST, KEEP_FUTURE);
	/* a clock that is behind: everything is in the future, nothing goes */
	expect(&last, at("2020-01-01T00:00:00Z"), points, KEEP_FUTURE, KEEP_FUTURE, KEEP_FUTURE,
	       KEEP_FUTURE);
}

static void test_holds(void **state)
{
	struct err err = ERR_INIT;
	struct keep_point points[] = {
		{ .time = 1000, .sequence = 1, .held = true },
		{ .time = 2000, .sequence = 2 },
		{ .time = 3000, .sequence = 3, .held = true },
	};
	struct keep_rules last = { .last = 2 };
	unsigned why[3];

	(void)state;
	/* held points always stay, and count: the rule is not widened by them */
	assert_int_equal(keep_decide(&last, points, 3, FAR, why, &err), 0);
	assert_int_equal(why[0], KEEP_HELD);
	assert_int_equal(why[1], KEEP_LAST);
	assert_int_equal(why[2], KEEP_LAST | KEEP_HELD);
	points[0].time = FAR + 1000;
	assert_int_equal(keep_decide(&last, points, 3, FAR, why, &err), 0);
	assert_int_equal(why[0], KEEP_FUTURE | KEEP_HELD);
}

static void test_rules_add_up(void **state)
{
	static const char *const points[] = { "2025-12-31T23:00:00Z", "2026-01-01T08:00:00Z",
					      "2026-01-01T09:00:00Z", "2026-01-01T09:30:00Z" };
	struct keep_rules rules = { .last = 1, .hourly = 2, .daily = 1, .yearly = 2, .within = 1 };

	(void)state;
	expect(&rules, FAR, points, KEEP_YEARLY, KEEP_HOURLY, 0,
	       KEEP_LAST | KEEP_HOURLY | KEEP_DAILY | KEEP_YEARLY | KEEP_WITHIN);
}

static void test_bounds(void **state)
{
	struct err err = ERR_INIT;
	struct keep_point bad = { .time = INT64_MAX };
	struct keep_rules none = { 0 }, last = { .last = UINT32_MAX };
	unsigned why = 77;

	(void)state;
	assert_int_equal(keep_decide(&last, NULL, 0, FAR, NULL, &err), 0);
	assert_int_equal(keep_decide(&none, &bad, 1, FAR, &why, &err), ERR_USAGE);
	assert_int_equal(keep_decide(&none, NULL, 0, FAR, NULL, &err), ERR_USAGE);
	assert_int_equal(keep_decide(&last, &bad, 1, FAR, &why, &err), ERR_INVALID);
	assert_int_equal(why, 77);
	assert_false(keep_rules_any(&none));
	for (unsigned bit = 1; bit <= KEEP_FUTURE; bit *= 2)
		assert_string_not_equal(keep_reason_name(bit), "unknown");
	assert_string_equal(keep_reason_name(3), "unknown");
}

/* Without memory nothing is decided. */
static void test_no_memory(void **state)
{
	struct err err = ERR_INIT;
	struct keep_point points[] = { { .time = 1000, .sequence = 1 } };
	struct keep_rules last = { .last = 1 };
	unsigned why = 77, n = 1;
	int r;

	(void)state;
	for (;; n++) {
		mem_fail_after(n);
		r = keep_decide(&last, points, 1, FAR, &why, &err);
		mem_fail_after(0);
		if (r == 0)
			break;
		assert_int_equal(r, ERR_NOMEM);
		assert_int_equal(why, 77);
	}
	assert_int_equal(n, 3);
	assert_int_equal(why, KEEP_LAST);
}

/* --- the reference --- */

static bool is_newer(const struct keep_point *a, const struct keep_point *b)
{
	return a->time > b->time || (a->time == b->time && a->sequence > b->sequence);
}

/* Literal formats, so that the compiler checks them. */
static void label_of(const struct keep_point *p, unsigned period, bool local, char out[32])
{
	time_t t = (time_t)p->time;
	size_t n = 0;
	struct tm tm;

	assert_non_null(local ? localtime_r(&t, &tm) : gmtime_r(&t, &tm));
	switch (period) {
	case KEEP_HOURLY:
		n = strftime(out, 32, "%Y-%m-%d %H", &tm);
		break;
	case KEEP_DAILY:
		n = strftime(out, 32, "%Y-%m-%d", &tm);
		break;
	case KEEP_WEEKLY:
		n = strftime(out, 32, "%G-%V", &tm);
		break;
	case KEEP_MONTHLY:
		n = strftime(out, 32, "%Y-%m", &tm);
		break;
	case KEEP_YEARLY:
		n = strftime(out, 32, "%Y", &tm);
		break;
	}
	assert_true(n > 0);
}

/* Is point i the newest of its period, and are fewer than n other periods newer? */
static bool kept_by_period(const struct keep_point *p, size_t count, size_t i, int64_t now,
			   uint32_t n, unsigned period, bool local)
{
	static char newer[MOST][32];
	char mine[32];
	size_t distinct = 0;

	label_of(&p[i], period, local, mine);
	for (size_t k = 0; k < count; k++) {
		char label[32];
		bool known = false;

		if (p[k].time > now + KEEP_FUTURE_SLACK || !is_newer(&p[k], &p[i]))
			continue;
		label_of(&p[k], period, local, label);
		if (!strcmp(label, mine))
			return false;
		for (size_t j = 0; j < distinct && !known; j++)
			known = !strcmp(newer[j], label);
		if (!known)
			memcpy(newer[distinct++], label, sizeof(label));
	}
	return distinct < n;
}

static unsigned reference(const struct keep_rules *k, const struct keep_point *p, size_t count,
			  size_t i, int64_t now)
{
	const struct {
		unsigned bit;
		uint32_t n;
	} periods[] = { { KEEP_HOURLY, k->hourly },
			{ KEEP_DAILY, k->daily },
			{ KEEP_WEEKLY, k->weekly },
			{ KEEP_MONTHLY, k->monthly },
			{ KEEP_YEARLY, k->yearly } };
	unsigned why = p[i].held ? KEEP_HELD : 0;
	bool local = k->offset != NULL;
	size_t newer = 0;
	int64_t newest = p[i].time;

	if (p[i].time > now + KEEP_FUTURE_SLACK)
		return why | KEEP_FUTURE;
	for (size_t j = 0; j < count; j++) {
		if (p[j].time > now + KEEP_FUTURE_SLACK)
			continue;
		newer += is_newer(&p[j], &p[i]);
		newest = MAX(newest, p[j].time);
	}
	why |= newer < k->last ? KEEP_LAST : 0;
	for (size_t j = 0; j < ARRAY_SIZE(periods); j++)
		if (kept_by_period(p, count, i, now, periods[j].n, periods[j].bit, local))
			why |= periods[j].bit;
	if (k->within && (uint64_t)(newest - p[i].time) <= k->within)
		why |= KEEP_WITHIN;
	return why;
}

static uint64_t seed, shown_seed;
static uint64_t rnd(uint64_t below)
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return (seed * 0x2545f4914f6cdd1du >> 16) % below;
}

static void random_round(void)
{
	static const int64_t spans[] = { 3, 7200, 86400 * 3, 86400 * 40, 86400 * 900, 86400 * 9000 };
	struct err err = ERR_INIT;
	struct keep_point p[MOST];
	unsigned got[MOST], kept = 0, timely = 0;
	size_t count = rnd(MOST);
	int64_t span = spans[rnd(ARRAY_SIZE(spans))];
	/* about ends of daylight saving time and of years */
	int64_t base = 1761400000 + (int64_t)rnd(4) * 5800000 - span / 2;
	int64_t now = rnd(3) ? FAR : base + (int64_t)rnd((uint64_t)span + 1);
	struct keep_rules k = { .last = (uint32_t)rnd(4),
				.hourly = (uint32_t)rnd(6),
				.daily = (uint32_t)rnd(6),
				.weekly = (uint32_t)rnd(6),
				.monthly = (uint32_t)rnd(6),
				.yearly = (uint32_t)rnd(4),
				.within = rnd(2) ? rnd((uint64_t)span + 1) : 0,
				.offset = rnd(2) ? local_offset : NULL };

	if (!keep_rules_any(&k))
		k.last = 1;
	for (size_t i = 0; i < count; i++)
		p[i] = (struct keep_point){ .time = base + (int64_t)rnd((uint64_t)span + 1),
					    .sequence = (i * 37 + 11) % 67,
					    .held = rnd(9) == 0 };
	if (keep_decide(&k, p, count, now, got, &err) < 0)
		fail_msg("%s", err.text);
	for (size_t i = 0; i < count; i++) {
		unsigned want = reference(&k, p, count, i, now);

		if (got[i] != want)
			fail_msg("LIVEPOINT_SEED=%llu: point %zu of %zu: reasons %u, not %u",
				 (unsigned long long)shown_seed, i, count, got[i], want);
		timely += !(want & KEEP_FUTURE);
		kept += got[i] & ~(unsigned)(KEEP_FUTURE | KEEP_HELD) ? 1 : 0;
	}
	/* invariant 2 */
	assert_true(kept > 0 || timely == 0);
}

static void test_random(void **state)
{
	static const char *const zones[] = { "UTC", BERLIN, NEW_YORK, LORD_HOWE, KATHMANDU };
	const char *given = getenv("LIVEPOINT_SEED");
	uint64_t first = 20261121;

	(void)state;
	if (given)
		assert_true(parse_u64(given, &first));
	for (uint64_t i = 0; i < 4000; i++) {
		set_zone(zones[i % ARRAY_SIZE(zones)]);
		shown_seed = first + i;
		seed = shown_seed * 0x9e3779b97f4a7c15u + 1;
		random_round();
	}
	set_zone("UTC");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_last_and_order),
		cmocka_unit_test(test_weeks),
		cmocka_unit_test(test_months_and_leap_days),
		cmocka_unit_test(test_time_zones),
		cmocka_unit_test(test_within),
		cmocka_unit_test(test_future),
		cmocka_unit_test(test_holds),
		cmocka_unit_test(test_rules_add_up),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
