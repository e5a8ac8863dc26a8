/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Shared by repo/gc*.c: one run of prune, its marks, its plan of packs.  Face: repo/gc.h. */
#ifndef LIVEPOINT_REPO_GC_INTERNAL_H
#define LIVEPOINT_REPO_GC_INTERNAL_H

#include "base/rate.h"
#include "catalog/gc.h"
#include "repo/gc.h"
#include "repo/internal.h"

/* Which slots a set of points needs. */
struct marks {
	struct slot_set slots; /* of the candidate packs only: one bit a slot */
	struct slot_set visited; /* map objects, of whatever pack, that were or are being read */
	const struct marks *other; /* what is marked there is not looked at again; or NULL */
	bool tolerant; /* a map that cannot be read is noted and passed over */
	uint64_t lost; /* tolerant: most slots that maps which could not be read may name */
};

struct gc {
	struct repo *repo;
	const struct prune_spec *spec;
	struct prune_result *result;
	struct catalog *catalog;
	struct rate *rate;
	uint64_t deadline; /* monotonic: how long to wait for others */
	int64_t now; /* seconds: what `until` is compared with; INT64_MIN: the clock is doubtful, nothing is over */
	struct lease lease;
	int lease_fd;
	struct store_stage *stage; /* NULL in a dry run */
	struct pack_list packs; /* candidates: live at G4 */
	struct marks live;
	uint8_t (*points)[POINT_ID_LEN]; /* marked ones, ascending */
	size_t npoints;
	bool condemned; /* something is: G6 comes next */
	bool marked; /* G4 was ours: packs and live are filled */
	uint64_t expiring; /* points whose rows G8 takes */
	uint64_t noted; /* the highest token of a backup whose waiting was said */
};

/* A line for a person: what is waited for, what was left. */
void gc_note(const struct gc *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The stop flag's code. */
int gc_stopped(const struct gc *g, struct err *err);

static inline bool bits_has(const struct slot_bits *b, uint32_t slot)
{
	return slot / 8 < b->nbytes && (b->bits[slot / 8] >> (slot % 8) & 1);
}
static inline uint8_t bits_byte(const struct slot_bits *b, uint32_t i)
{
	return i < b->nbytes ? b->bits[i] : 0;
}
/* Bits of byte i that are slots of a pack which has `slots` of them. */
static inline uint8_t slots_byte(uint32_t slots, uint32_t i)
{
	return slots >= (i + 1) * 8 ? 0xff : (uint8_t)((1u << (slots - i * 8)) - 1);
}

/* --- gc-mark.c --- */
/* Room for each candidate's slots. */
int marks_begin(struct marks *m, const struct pack_list *candidates, struct err *err);
void marks_release(struct marks *m);
/* Marks everything that these points need, reading each map object that was not visited yet once, on the pool.
 * ERR_DAMAGED with the point named and the next step if a map cannot be read, unless tolerant. */
int mark_points(struct gc *g, struct marks *m, const struct point_list *points, struct err *err);

/* --- gc-reclaim.c --- */
/* G9 for packs with doomed slots, as the catalog has them. */
int reclaim(struct gc *g, struct err *err);
/* The figures of it only; rows: with gone, condemned and doomed as they would be. */
int reclaim_preview(struct gc *g, const struct pack_list *rows, struct err *err);

/* --- index-merge.c --- */
/* Segments that are mostly entries of slots that are gone for ever are merged without them.  What goes wrong with the
 * segments is noted, and no error. */
int index_trim(struct gc *g, struct err *err);

#endif
