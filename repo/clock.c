// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Is the clock to be believed?  Asked before something goes because of what time it is: times of grace and dated holds.
 *
 * A clock that was set years ahead ends them all at once.  What time it was when the repository was last changed is in
 * its audit log, in its points and in its header, and the file system has a clock of its own (another host's, maybe).
 *
 * 1. Doubtful is a clock that is more than CLOCK_AHEAD beyond all that the repository has seen, or more than CLOCK_APART
 *    from the file system's; and any clock after a jump of CLOCK_AHEAD in the audit log that nobody accepted, since the
 *    backup of a night with a wrong clock comes before its prune.
 * 2. Points in the future (imports, wrong clocks) show nothing.
 * 3. Doubt only keeps: nothing ends earlier by it.
 */
#include <stdlib.h>
#include <sys/stat.h>

#include "repo/audit.h"
#include "repo/internal.h"

#include "base/banned.h"

#define DAY INT64_C(86400)
#define CLOCK_AHEAD (400 * DAY)
#define CLOCK_APART DAY

static int64_t apart(int64_t a, int64_t b)
{
	return a > b ? a - b : b - a;
}

static void doubt(struct repo_clock *k, const char *what, int64_t other)
{
	char now[TIME_TEXT_MAX], text[TIME_TEXT_MAX];

	time_format(now, k->now);
	time_format(text, other);
	k->doubtful = true;
	snprintf(k->why, sizeof(k->why), "the clock says %s, %s %s", now, what, text);
}

int repo_clock_look(struct repo *r, struct catalog *c, int fd, struct repo_clock *out,
		    struct err *err)
{
	int64_t seen = 0, jump = 0;
	struct stat st;
	int ret;

	*out = (struct repo_clock){ .now = time_now() };
	ret = catalog_clock(c, out->now, CLOCK_AHEAD, &seen, &jump, err);
	if (ret < 0)
		return ret;
	if (r->conf.created <= out->now)
		seen = MAX(seen, r->conf.created);
	out->seen = seen;
	if (fd >= 0 && fstat(fd, &st) == 0 && apart(st.st_mtime, out->now) > CLOCK_APART)
		doubt(out, "but the file system with the repository", st.st_mtime);
	else if (out->now - seen > CLOCK_AHEAD)
		doubt(out, "but the repository was last changed at", seen);
	else if (jump)
		doubt(out, "and the audit log jumps ahead by more than 400 days at", jump);
	return 0;
}

int repo_clock_accept(struct repo *r, const struct repo_clock *k, struct err *err)
{
	char text[TIME_TEXT_MAX];

	time_format(text, k->now);
	return repo_audit_append(r, "clock", text, NULL, err);
}
