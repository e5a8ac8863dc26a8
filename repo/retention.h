/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Which points stay: forget by rule or one by one, its way back, holds.  Nothing here frees space: repo/gc.h does.
 *
 * Rules (grandfather, father, son): each of --keep-hourly N ... --keep-yearly N keeps the newest point of each of the
 * newest N periods that have one; --keep-last N the newest N; --keep-within D all points not older than D before the
 * name's newest one (not before now: a wrong clock must not forget).  A point stays if any rule keeps it.  Held points
 * always stay and count as points of their period.  Points in the future (more than KEEP_FUTURE_SLACK ahead of the clock)
 * count for no rule and are not forgotten: they stay, with the reason.
 * Periods are of UTC, or of a time zone: weeks begin on Monday (ISO 8601), an hour that the end of daylight saving time
 * repeats is one.  Any rule keeps the newest point that is not in the future, so rules never forget all points of a name.
 *
 * One thread at a time a plan; any thread else.
 */
#ifndef LIVEPOINT_REPO_RETENTION_H
#define LIVEPOINT_REPO_RETENTION_H

#include "catalog/gc.h"
#include "repo/repo.h"

struct keep_rules {
	uint32_t last, hourly, daily, weekly, monthly, yearly; /* counts; 0: no such rule */
	uint64_t within; /* seconds; 0: no such rule */
	/* Seconds east of UTC at a time; NULL: periods in UTC.  (Time zones are the caller's business: cli/.) */
	int64_t (*offset)(int64_t time);
	bool any_clock; /* also if the clock is doubtful */
};
#define KEEP_FUTURE_SLACK 60 /* seconds: publication moves times to the first free second */
bool keep_rules_any(const struct keep_rules *k);

enum keep_reason { /* bits */
		   KEEP_LAST = 1,
		   KEEP_HOURLY = 2,
		   KEEP_DAILY = 4,
		   KEEP_WEEKLY = 8,
		   KEEP_MONTHLY = 16,
		   KEEP_YEARLY = 32,
		   KEEP_WITHIN = 64,
		   KEEP_HELD = 128,
		   KEEP_FUTURE = 256
};
/* "last", "hourly", ... of one bit. */
const char *keep_reason_name(unsigned bit);

/* Pure: decides for points of ONE name, any order; reasons[i]: bits why points[i] stays, 0: it goes.  now: seconds.
 * Of points of one second the one with the higher sequence is the newer.  No rule: ERR_USAGE. */
struct keep_point {
	int64_t time;
	uint64_t sequence;
	bool held; /* without end, or the end is after now */
};
int keep_decide(const struct keep_rules *rules, const struct keep_point *points, size_t count,
		int64_t now, unsigned *reasons, struct err *err);

struct forget_item {
	uint8_t id[POINT_ID_LEN];
	char point[POINT_TEXT_MAX]; /* NAME@TIME */
	char name[NAME_MAX_LEN + 1];
	int64_t time;
	unsigned reasons; /* why it stays; 0: it is forgotten */
	char *hold_reason; /* of a held one, or NULL; owned */
	int64_t hold_until; /* of a held one; 0: without end */
};
struct forget_plan {
	struct forget_item *items; /* by name, newest first */
	size_t count, going; /* points; of them to be forgotten */
};
void forget_plan_release(struct forget_plan *p);
/* names NULL: all names; an unknown name is ERR_NOT_FOUND.  No rule at all: ERR_USAGE.  After a rebuild that nobody
 * accepted, and with a clock that cannot be right (repo/clock.c) without any_clock: ERR_REFUSED. */
int repo_forget_plan(struct repo *r, const char *const *names, size_t nnames,
		     const struct keep_rules *rules, struct forget_plan *out, struct err *err);
#define GRACE_MAX                                                                                  \
	(UINT64_C(36525) * 86400) /* seconds: sums with times stay within what RFC 3339 says */
/* F1 for the plan's going items, in one transaction (nothing to do if there are none); grace: seconds, -1: the repository's.
 * ERR_NOT_FOUND, ERR_HELD: somebody else forgot or held one since the plan was made: plan again. */
int repo_forget_apply(struct repo *r, const struct forget_plan *plan, int64_t grace,
		      struct err *err);
/* Single points (text as repo_resolve takes, but no NAME alone: ERR_USAGE, since a person could mean all of its points), all or
 * nothing.  ERR_HELD names reason and end.  dry_run: the same errors, and nothing changes.  The plan has only these points.
 * With a clock that cannot be right a hold with an end has not ended. */
int repo_forget_points(struct repo *r, const char *const *points, size_t count, int64_t grace,
		       bool dry_run, struct forget_plan *out, struct err *err);
/* point: id, its unique prefix, or NAME@TIME (TIME may be shortened) of a forgotten point (repo_resolve does not see those). */
int repo_unforget(struct repo *r, const char *point, char text[POINT_TEXT_MAX], struct err *err);

/* until: seconds, 0: without end.  Holding a held point replaces reason and end.  Stores the state object. */
int repo_protect(struct repo *r, const char *point, const char *reason, int64_t until,
		 struct err *err);
int repo_unprotect(struct repo *r, const char *point, struct err *err);

/* Holds, and forgotten points with the times up to which they can come back; released with state_release(). */
int repo_notes(struct repo *r, struct state *out, struct err *err);
/* The hold of a point (also one that has ended), its entry among forgotten points; NULL: none.  Borrowed. */
const struct hold *state_hold(const struct state *s, const uint8_t id[POINT_ID_LEN]);
const struct state_point *state_forgotten(const struct state *s, const uint8_t id[POINT_ID_LEN]);
bool hold_is_over(const struct hold *h, int64_t now);

#endif
