/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Repair: the catalog from the packs, the index from footers, a footer from its records, bad records from wherever the same
 * content still is.  Quarantines, never deletes; says first what it would do; holds the maintenance lease (but for the
 * catalog itself, which then is not there: it holds a lock file and refuses while any lock in locks/ is held).
 */
#ifndef LIVEPOINT_REPO_REPAIR_H
#define LIVEPOINT_REPO_REPAIR_H

#include "base/progress.h"
#include "repo/repo.h"

enum repair_kind {
	REPAIR_CATALOG, /* rebuilt from manifests and the newest state object */
	REPAIR_INDEX, /* segments lost or bad: rebuilt from footers */
	REPAIR_FOOTER, /* a pack's footer or trailer: rebuilt from its records */
	REPAIR_PACK, /* a pack's file is missing, or beyond repair: quarantined; its slots are marked damaged */
	REPAIR_SLOT, /* a bad record: written again from the same content elsewhere */
	REPAIR_LOST, /* a bad record that no source has */
	REPAIR_OVERLAY, /* a folder of an overlay that the catalog does not know: given a row */
};
struct repair_action {
	enum repair_kind kind;
	const char *what; /* one sentence: what is wrong, and what is (or would be) done */
	uint64_t locator; /* or LOCATOR_NONE */
	bool done;
};
struct repair_spec {
	bool dry_run;
	bool catalog; /* rebuild it although it can be opened (an older one was put back) */
	bool accept; /* only: what was rebuilt is right, rules and prune may work again */
	bool read_data; /* look for bad records by reading everything (else only what is marked damaged already) */
	struct repo *from; /* another repository, open and unlocked, or NULL; borrowed */
	uint64_t io_limit; /* bytes a second, 0: none */
	progress_fn progress;
	void (*action)(void *opaque, const struct repair_action *a);
	void *opaque;
	const volatile int *stop;
};
struct repair_result {
	uint64_t actions, done, lost; /* lost: slots that stay bad */
	uint64_t points; /* after a rebuild: points found */
};
/* path: of the repository (its catalog may be unusable, so no struct repo is asked for).  key: the raw key ring as repo_export_key
 * gives it, or NULL with a passphrase, or neither for a plain repository.  0: nothing is wrong any more; ERR_DAMAGED: something stays damaged
 * (result says), else could not be done. */
struct repair_key {
	const void *passphrase;
	size_t n;
};
int repo_repair(const char *path, const struct repair_key *key, const struct repair_spec *spec,
		struct repair_result *out, struct err *err);

#endif
