/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Fault points: named places where a test makes the next step fail, or kills the process.
 *
 * A name is "room.object.step" ("store.pack.rename").  Names appear as string literals only, so that
 * tools/list-fault-points finds them all.  Environment, read at the first hit:
 *
 *	LIVEPOINT_FAULT=NAME:N:ACTION[,NAME:N:ACTION...]	the N-th hit (from 1) of NAME (or of any: "*");
 *		N as "N+" means this and every later hit.
 *		ACTION: kill (SIGKILL to itself), stop (SIGSTOP), eio, enospc, edquot, erofs, eperm, short (a write writes half, then
 *		ENOSPC), eintr (a step that the kernel gives up for a signal),
 *		skip (a sync says 0 and does nothing: the planted bug that a power-loss test must find; elsewhere EINVAL)
 *	LIVEPOINT_FAULT_LOG=FILE	appends "NAME\n" for each hit (for loops that then try each one)
 *	LIVEPOINT_FAULT_NUMBER=NAME:VALUE[,NAME:VALUE...]	another value of a limit that fault_number() names, so that a
 *		small trace goes through what takes gigabytes else
 *	LIVEPOINT_PLANT=NAME[,NAME...]	a bug that fault_planted() names: a check or a step of the protocol is left out.  The
 *		negative controls of the suite (tests/slow/planted.sh): each must be caught
 *
 * Built in unless configured with --disable-fault-points; they cost one load when unused.  Any thread.
 */
#ifndef LIVEPOINT_BASE_FAULT_H
#define LIVEPOINT_BASE_FAULT_H

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <stdbool.h>
#include <stdint.h>

#define FAULT_SHORT (-1) /* only for writes: write half of it, then fail with ENOSPC */
#define FAULT_SKIP (-2) /* only for syncs: succeed without doing it */

#ifdef ENABLE_FAULT_POINTS
/* Returns 0 (go on), an errno value to fail with, FAULT_SHORT or FAULT_SKIP; may not return. */
int fault_hit(const char *name);
/* A limit: `usual`, unless the environment has another value for this name ("store.pack.close": bytes at which a pack is
 * full; "repo.index.merge": segments at which they are merged, 4 or more). */
uint64_t fault_number(const char *name, uint64_t usual);
/* A planted bug: true if the environment asks for it.  Always false in builds without fault points. */
bool fault_planted(const char *name);
#else
static inline int fault_hit(const char *name)
{
	(void)name;
	return 0;
}
static inline uint64_t fault_number(const char *name, uint64_t usual)
{
	(void)name;
	return usual;
}
static inline bool fault_planted(const char *name)
{
	(void)name;
	return false;
}
#endif

#endif
