/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Shared by repo/verify*.c and repo/repair*.c: one run of verify.  Face: repo/verify.h. */
#ifndef LIVEPOINT_REPO_VERIFY_INTERNAL_H
#define LIVEPOINT_REPO_VERIFY_INTERNAL_H

#include "base/rate.h"
#include "catalog/gc.h"
#include "repo/internal.h"
#include "repo/verify.h"

struct verify {
	struct repo *repo;
	const struct verify_spec *spec;
	struct verify_result *result;
	struct catalog *catalog; /* of the calling thread */
	struct rate *rate; /* of all readers together; NULL: no limit */
	bool whole; /* all points, and what no point refers to */
	bool record; /* results are noted in the catalog */
	struct pack_list packs; /* live ones, read before the points were listed */
	struct pack_list doomed; /* the same; only those that have doomed slots */
	struct point_list points;
	bool *damaged, *left; /* of each point: affected by a finding; no longer there */
	struct slot_set seen; /* objects and chunks that are referenced */
	struct slot_set bad; /* those that are damaged */
	struct slot_set mixed; /* good leaves that somebody refers to under another id */
	struct slot_set lost; /* slot 0 of each pack that is bad as a whole */
	/* or NULL: told of every id of a bad object that becomes known */
	void (*noted)(void *opaque, uint64_t locator, const uint8_t *id);
	void *noted_opaque;
	double share; /* of the bytes of packs that data was read of, now or lately enough */
};

/* Errors that say something about the repository and not about this machine. */
bool verify_is_finding(int code);
int verify_stopped(const struct verify *v, struct err *err);
void verify_find(struct verify *v, const struct verify_finding *f);
/* A bad object, reported once however many points have it. */
int verify_bad_object(struct verify *v, uint64_t locator, const uint8_t *id, const char *what,
		      struct err *err);
/* A pack that is bad as a whole, reported once; its needed slots are added to v->bad one by one, without more words. */
int verify_bad_pack(struct verify *v, uint64_t number, const char *what, struct err *err);
/* The pack's row of before the points were listed; NULL if there was none. */
const struct pack_row *verify_pack_row(const struct pack_list *l, uint64_t number);
/* The row as it is now; count 0 if it has gone. */
int verify_row_now(struct verify *v, uint64_t number, struct pack_list *out, struct err *err);
bool bits_have(const struct slot_bits *b, uint32_t slot);

/* Without spec's point: also what no point refers to.  Everything is in v then; verify_end releases it. */
int verify_begin(struct verify *v, struct err *err);
int verify_run(struct verify *v, struct err *err);
/* Notes of slots that the structure has shown to be bad; those of data are noted by then. */
int verify_record_slots(struct verify *v, struct err *err);
void verify_end(struct verify *v);

/* verify-files.c: catalog, index segments, state object, audit log, footers */
int verify_files(struct verify *v, struct err *err);
/* The last of these alone. */
int verify_packs(struct verify *v, struct err *err);
/* overlay-look.c: headers and state logs of overlays that nobody has attached */
int verify_overlays(struct verify *v, struct err *err);
/* verify-structure.c: one point's manifest, roots, pages, leaves, locators */
int verify_walk_point(struct verify *v, size_t point, struct err *err);
/* verify-data.c: every record of the packs, on the pool */
int verify_data(struct verify *v, struct err *err);
/* verify-name.c: which points, disks and ranges the bad slots belong to; fills v->damaged */
int verify_name(struct verify *v, struct err *err);

#endif
