/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Shared by repo/repair*.c: one run of repair.  Face: repo/repair.h. */
#ifndef LIVEPOINT_REPO_REPAIR_INTERNAL_H
#define LIVEPOINT_REPO_REPAIR_INTERNAL_H

#include "repo/repair.h"
#include "repo/verify-internal.h"

/* What is known of a bad slot's content. */
struct bad_id {
	uint64_t locator; /* LOCATOR_NONE: free */
	uint8_t id[ID_LEN];
	uint8_t known; /* bytes of id: SEGMENT_KEY_LEN or ID_LEN */
};
struct id_map { /* hash table by locator */
	struct bad_id *entries; /* owned */
	size_t cap, count;
};

struct repair {
	struct repo *repo;
	const struct repair_spec *spec;
	struct repair_result *result;
	struct catalog *catalog; /* of the calling thread; NULL while there is none */
	struct store_reader *reader; /* the same */
	struct store_stage *stage; /* NULL with dry_run */
	struct rate *rate;
	struct lease lease;
	int lease_fd;
	struct id_map ids;
	uint64_t undone; /* actions that could not be done, points that stay damaged */
	uint64_t map_footers; /* of map packs, made again */
	struct slot_set taken; /* slots that read well again and lost their mark */
	struct slot_set remade; /* dry run: slot 0 of packs whose footer would be made again */
};

/* Tells of an action: before it is done, and (done) afterwards. */
void repair_say(struct repair *x, enum repair_kind kind, uint64_t locator, bool done,
		const char *fmt, ...) __attribute__((format(printf, 5, 6)));
int repair_stopped(const struct repair *x, struct err *err);

int id_map_add(struct id_map *m, uint64_t locator, const uint8_t *id, uint8_t known,
	       struct err *err);
const struct bad_id *id_map_find(const struct id_map *m, uint64_t locator);
void id_map_release(struct id_map *m);

/* repair-catalog.c: a new catalog out of the packs, in the place of the old one, which goes to quarantine/ (why: for people). */
int repair_catalog(struct repair *x, const char *why, struct err *err);
/* repair-survey.c: what the packs say */
struct survey_pack {
	uint64_t number, bytes;
	enum pack_kind kind;
	uint32_t slots;
	struct slot_bits gone, damaged; /* bits owned */
};
struct survey_point {
	struct object_ref ref;
	struct manifest *m; /* owned */
};
struct survey {
	struct survey_pack *
		packs; /* owned; ascending numbers, those with a header that holds, then made-up ones */
	size_t npacks;
	struct survey_point *points; /* owned; each id once */
	size_t npoints;
	bool has_state;
	struct state state; /* the newest */
	struct object_ref state_ref;
	struct slot_set data_refs, map_refs; /* slots that map objects name */
	uint64_t generation, next_pack, next_sequence, next_segment, next_token;
	uint64_t unreadable; /* packs of which nothing can be read */
};
int survey_make(struct repair *x, struct survey *s, struct err *err);
void survey_release(struct survey *s);

/* repair-pack.c: footers from records, packs that are lost.  Bad slots are marked in the rows; what is known of them is in x->ids. */
int repair_packs(struct repair *x, struct err *err);
/* repair-heal.c: bad slots, written again from the same content elsewhere.  bad: all of them; needed: those that points use.
 * *healed: how many. */
int repair_heal(struct repair *x, const struct slot_set *bad, const struct slot_set *needed,
		uint64_t *healed, struct err *err);
/* overlay-look.c: rows for folders of overlays that have none; in a catalog that is being built (those that cannot be are left), and
 * in one that there is */
int overlay_rebuild(struct repo *r, struct catalog *c, struct err *err);
int repair_overlays(struct repair *x, struct err *err);
/* repair-index.c */
int repair_index(struct repair *x, struct err *err);

#endif
