/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Verify: structure (catalog, manifests, roots, pages, leaves by hash, every locator in its pack's footer with type and
 * length) or data (every chunk decoded, its content id recomputed, leaf digests compared).
 * Each pack's records are read once, in pack order, on the pool.  Results are recorded in the points' rows, if the
 * repository is open for writing.
 */
#ifndef LIVEPOINT_REPO_VERIFY_H
#define LIVEPOINT_REPO_VERIFY_H

#include "base/progress.h"
#include "repo/repo.h"

struct verify_finding {
	const char *what; /* sentence */
	uint64_t locator; /* LOCATOR_NONE: not about a record */
	uint32_t slots; /* consecutive ones from the locator's on; 0: it is about the locator's pack as a whole */
	const uint8_t *id; /* of the object, or NULL */
	const char *point; /* NAME@TIME of an affected point, or NULL */
	const char *disk; /* and its disk and byte range, or NULL */
	const char *config; /* or its file config/NAME and byte range, or NULL */
	uint64_t start, length; /* bytes of the disk or file; 0, 0: the whole point */
};
struct verify_spec {
	const char *point; /* POINT text; NULL: all points */
	bool data;
	double sample; /* percent of the packs to read with data, by random; 0: all */
	uint64_t since_verified; /* seconds: packs read and good within that time are passed over, so that an
				  * interrupted run goes on; 0: none */
	uint64_t io_limit; /* bytes a second, 0: none */
	bool no_record; /* keep nothing of it in the catalog */
	progress_fn progress; /* or NULL */
	void (*finding)(void *opaque,
			const struct verify_finding *f); /* or NULL; calls come one at a time */
	void *opaque; /* for both */
	const volatile int *stop;
};
struct verify_result {
	uint64_t points, packs, objects, bytes; /* looked at; bytes of stored records read */
	uint64_t findings, damaged_points;
	double share; /* with data: of the bytes of the packs, 0 to 1 */
};
/* 0: all good; ERR_DAMAGED if there were findings (result is filled then too); other codes: could not be done. */
int repo_verify(struct repo *r, const struct verify_spec *spec, struct verify_result *result,
		struct err *err);

/* `verify --leftovers`: files, leases and rows that no step owns; calls fn with one sentence each; returns their number. */
int repo_leftovers(struct repo *r, void (*fn)(void *opaque, const char *line), void *opaque,
		   struct err *err);
/* What repair has put into quarantine/, which is no leftover: the same; returns how many files. */
int repo_quarantined(struct repo *r, void (*fn)(void *opaque, const char *line), void *opaque,
		     struct err *err);

#endif
