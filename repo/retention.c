/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Which points of a name the rules keep: a pure function of times, sequences and holds.
 *
 * Points are looked at from the newest to the oldest; a rule of periods keeps a point whose period is another one than
 * that of the point it kept last, until it has kept as many as it may.  (Newest first is what makes "the newest of each
 * period" one comparison.  Where a time zone moves its calendar back, a period can come twice and is kept twice: more
 * stays, never less.)
 *
 * 1. A point stays if any rule keeps it; rules do not see each other.
 * 2. The newest point that is not in the future stays whatever the rules are.
 * 3. Points in the future use up nothing: a wrong clock, once, must not push out the rest.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "repo/retention.h"

#include "base/banned.h"

/* Times that RFC 3339 can say, and then some: no sum of them overflows. */
#define TIME_BOUND INT64_C(1000000000000)

bool keep_rules_any(const struct keep_rules *k)
{
	return k->last || k->hourly || k->daily || k->weekly || k->monthly || k->yearly ||
	       k->within;
}

const char *keep_reason_name(unsigned bit)
{
	switch (bit) {
	case KEEP_LAST:
		return "last";
	case KEEP_HOURLY:
		return "hourly";
	case KEEP_DAILY:
		return "daily";
	case KEEP_WEEKLY:
		return "weekly";
	case KEEP_MONTHLY:
		return "monthly";
	case KEEP_YEARLY:
		return "yearly";
	case KEEP_WITHIN:
		return "within";
	case KEEP_HELD:
		return "held";
	case KEEP_FUTURE:
		return "future";
	default:
		return "unknown";
	}
}

static int64_t floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

enum { P_HOURLY, P_DAILY, P_WEEKLY, P_MONTHLY, P_YEARLY, P_COUNT };

/* Numbers of the periods that a time lies in.  1970-01-01 was a Thursday, so day number + 3 counts from a Monday. */
static int periods_of(int64_t local, int64_t out[P_COUNT], struct err *err)
{
	time_t t = (time_t)local;
	struct tm tm;

	if (!gmtime_r(&t, &tm))
		return err_set(err, ERR_INVALID, "time %" PRId64 " has no calendar date", local);
	out[P_HOURLY] = floor_div(local, 3600);
	out[P_DAILY] = floor_div(local, 86400);
	out[P_WEEKLY] = floor_div(out[P_DAILY] + 3, 7);
	out[P_MONTHLY] = (int64_t)tm.tm_year * 12 + tm.tm_mon;
	out[P_YEARLY] = tm.tm_year;
	return 0;
}

static int newest_first(const void *a, const void *b)
{
	const struct keep_point *x = *(const struct keep_point *const *)a;
	const struct keep_point *y = *(const struct keep_point *const *)b;

	if (x->time != y->time)
		return x->time > y->time ? -1 : 1;
	return x->sequence > y->sequence ? -1 : x->sequence < y->sequence;
}

/* What the rules have kept so far. */
struct keeper {
	const struct keep_rules *rules;
	uint32_t last_left, left[P_COUNT];
	bool any; /* a point that is not in the future was seen */
	int64_t newest, period[P_COUNT]; /* of the newest point; of those kept last */
};

static int decide_one(struct keeper *k, int64_t time, unsigned *reasons, struct err *err)
{
	static const unsigned bits[P_COUNT] = { KEEP_HOURLY, KEEP_DAILY, KEEP_WEEKLY, KEEP_MONTHLY,
						KEEP_YEARLY };
	int64_t offset = k->rules->offset ? k->rules->offset(time) : 0, periods[P_COUNT];
	int r = periods_of(time + offset, periods, err);

	if (r < 0)
		return r;
	if (!k->any)
		k->newest = time;
	if (k->last_left) {
		k->last_left--;
		*reasons |= KEEP_LAST;
	}
	for (int i = 0; i < P_COUNT; i++) {
		if (!k->left[i] || (k->any && periods[i] == k->period[i]))
			continue;
		k->left[i]--;
		k->period[i] = periods[i];
		*reasons |= bits[i];
	}
	if (k->rules->within && (uint64_t)(k->newest - time) <= k->rules->within)
		*reasons |= KEEP_WITHIN;
	k->any = true;
	return 0;
}

int keep_decide(const struct keep_rules *rules, const struct keep_point *points, size_t count,
		int64_t now, unsigned *reasons, struct err *err)
{
	struct keeper k = { .rules = rules,
			    .last_left = rules->last,
			    .left = { rules->hourly, rules->daily, rules->weekly, rules->monthly,
				      rules->yearly } };
	cleanup_free const struct keep_point **order =
		mem_alloc_array(count ? count : 1, sizeof(*order));
	cleanup_free unsigned *why = mem_alloc_array(count ? count : 1, sizeof(*why));
	int r = 0;

	if (!order || !why)
		return err_nomem(err, "deciding which points stay");
	if (!keep_rules_any(rules))
		return err_set(err, ERR_USAGE, "no rule says what to keep");
	for (size_t i = 0; i < count; i++) {
		if (points[i].time > TIME_BOUND || points[i].time < -TIME_BOUND)
			return err_set(err, ERR_INVALID, "time %" PRId64 " of a point",
				       points[i].time);
		order[i] = &points[i];
	}
	qsort(order, count, sizeof(const struct keep_point *), newest_first);
	for (size_t i = 0; i < count && r == 0; i++) {
		size_t at = (size_t)(order[i] - points);

		if (order[i]->time - KEEP_FUTURE_SLACK > now)
			why[at] = KEEP_FUTURE;
		else
			r = decide_one(&k, order[i]->time, &why[at], err);
		if (order[i]->held)
			why[at] |= KEEP_HELD;
	}
	if (r == 0 && count)
		memcpy(reasons, why, count * sizeof(*why));
	return r;
}
