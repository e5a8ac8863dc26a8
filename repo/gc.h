/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Prune: takes back the space of what no point uses (G1 to G10 of docs/PROTOCOL.md; the protocol is model-checked).
 *
 * Marks with one bit a slot, each shared page and leaf read once; condemns what is not marked; waits until no backup is
 * left that may have reused it; marks again; dooms; then rewrites or removes packs, manifests' packs first, then the
 * other map packs, then data packs.  Runs beside backups, exports and mounts: readers are never waited for, and a backup is never refused.
 *
 * A dead prune is continued by the next one.  One thread calls; the pool of the repository helps to mark.
 */
#ifndef LIVEPOINT_REPO_GC_H
#define LIVEPOINT_REPO_GC_H

#include "base/progress.h"
#include "repo/repo.h"

struct prune_spec {
	bool dry_run; /* marks and counts; takes the lease, changes nothing */
	bool really; /* although the live set shrinks for no reason that is known, or the clock is doubtful, which is accepted */
	uint64_t max_rewrite; /* bytes of live data copied at most, 0: no limit; packs with doomed manifests are exempt */
	uint64_t io_limit; /* bytes a second read and written, 0: none */
	unsigned min_doomed; /* percent of a data pack's bytes that must be doomed before it is rewritten; whole packs always go */
	unsigned wait_seconds; /* for backups that began before, and for another prune; 0: do not wait: leave the rest to the next prune */
	uint64_t fence; /* token of a session to end first; 0: none */
	progress_fn progress; /* or NULL */
	void (*note)(void *opaque, const char *line); /* a warning or what is waited for; or NULL */
	void *opaque;
	const volatile int *stop;
};
#define PRUNE_MIN_DOOMED 20 /* percent */
struct prune_result {
	uint64_t points; /* whose rows went */
	uint64_t marked, condemned, doomed; /* slots */
	uint64_t packs_removed, packs_rewritten,
		packs_left; /* left: doomed slots stay, too few or over the limit */
	uint64_t packs_damaged; /* left as they are: a live record is bad */
	uint64_t bytes_freed, bytes_rewritten;
	uint64_t bytes_left; /* doomed and not freed yet */
	bool clock; /* doubtful, and something might be over by it: nothing was given up for good */
	bool waiting; /* backups that began before were there: continues next time */
};
/* 0; ERR_DAMAGED: a root, page, leaf or footer cannot be read (nothing was condemned); ERR_REFUSED: shrinks unexplained, or the catalog was
 * rebuilt and nobody accepted it; ERR_LOCKED: another prune.  packs_damaged > 0 is for the caller to say (exit 3). */
int repo_prune(struct repo *r, const struct prune_spec *spec, struct prune_result *out,
	       struct err *err);

#endif
