/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The catalog's part of retention and garbage collection: forget, holds, the transactions of a prune (G1 to G10 of
 * docs/PROTOCOL.md), what a rebuild writes, and the audit log.  A handle: one thread at a time.
 *
 * Invariants:
 *  1. Only the holder of the maintenance lease changes gone, condemned, doomed bits, and removes rows of packs that are
 *     live; each of its transactions looks for the token first (ERR_FENCED).
 *  2. gone contains condemned and doomed, and what was dropped; it is kept as long as the pack's row.
 *  3. A slot goes used -> condemned -> used again, or doomed -> dropped; never back from doomed.
 *  4. A held point is never forgotten; a pinned one, and one that an overlay stands on, never expires.
 */
#ifndef LIVEPOINT_CATALOG_GC_H
#define LIVEPOINT_CATALOG_GC_H

#include "catalog/catalog.h"
#include "format/state.h"

/* --- the audit log (struct audit: catalog/audit.h) --- */
/* For commands that change no row otherwise (key add, ...). */
int catalog_audit_append(struct catalog *c, struct audit *a, struct err *err);
/* Calls fn for entries numbered `from` and up, ascending; borrowed for the call; 0 to go on, 1 to stop, negative is
 * returned.  No transaction is open meanwhile: fn may be slow, and may use the catalog. */
int catalog_audit_each(struct catalog *c, uint64_t from,
		       int (*fn)(void *opaque, const struct audit_entry *e, struct err *err),
		       void *opaque, struct err *err);
/* Number and mac of the last entry; 0 and zeroes if there is none. */
int catalog_audit_head(struct catalog *c, uint64_t *number, uint8_t mac[ID_LEN], struct err *err);
/* What the first entry here follows: 0 and zeroes, or in a rebuilt catalog the head that the state object knew.  The first
 * entry's number is one more, its mac is over this one. */
int catalog_audit_anchor(struct catalog *c, uint64_t *number, uint8_t mac[ID_LEN], struct err *err);

/* --- forget (F1) and its way back --- */
/* until: the second up to which it can be unforgotten; now: when it was forgotten.  All or nothing, one transaction.
 * ERR_NOT_FOUND: a point is not complete (named); ERR_HELD: one is held, unless its hold has ended at `now` (named, with reason and end; else
 * the hold goes).  No id twice.  count 0: nothing is done or logged. */
int catalog_forget(struct catalog *c, const uint8_t (*ids)[POINT_ID_LEN], size_t count, int64_t now,
		   int64_t until, struct audit *audit, struct err *err);
/* forgotten -> complete, also after `until` while no prune has expired it; ERR_NOT_FOUND: not there, not forgotten, or
 * expired.  A forgotten point keeps its name and time, which nobody else gets, so that it can always come back. */
int catalog_unforget(struct catalog *c, const uint8_t id[POINT_ID_LEN], struct audit *audit,
		     struct err *err);

/* --- holds --- */
/* By point id; freed with holds_free(). */
int catalog_holds(struct catalog *c, struct hold **out, size_t *count, struct err *err);

/* The small tables as they are stored as an object (OBJECT_STATE): what a rebuild from the packs cannot know else.  One read
 * transaction. */
/* Releases with state_release(). */
int catalog_state_read(struct catalog *c, struct state *out, struct err *err);
/* Where the newest state object is (LOCATOR_NONE: none yet). */
int catalog_state_ref(struct catalog *c, struct object_ref *out, struct err *err);
/* Publishes a state object, under an ingest lease of name "" or the maintenance lease: packs live (but not published: see
 * pack_row), `ref` becomes the state object, the generation is raised (no two objects say the same one), a hold is set or removed (may be NULL), lease removed (only if it is an
 * ingest lease; prune keeps its own).  ERR_NOT_FOUND: the hold's point is not complete.  ERR_LOCKED: another state object
 * was published since this handle's last catalog_state_read() (a hold would be lost from it): read and store again. */
struct hold_change {
	uint8_t point[POINT_ID_LEN];
	bool set; /* else removed (ERR_NOT_FOUND if there is none) */
	const char *reason;
	int64_t since, until;
};
/* An ingest lease of name ""; ERR_LOCKED, with the holder filled (may be NULL), if there is one: waiting is the caller's. */
int catalog_state_begin(struct catalog *c, struct lease *spec, struct lease *holder,
			struct err *err);
int catalog_state_publish(struct catalog *c, uint64_t token, const struct session_done *done,
			  const struct object_ref *ref, const struct hold_change *hold,
			  struct audit *audit, struct err *err);

/* --- prune: the token is that of the maintenance lease (ERR_FENCED if it ended, ERR_INTERNAL if it is another kind) --- */
/* G4: forgotten points that nobody pins, that no overlay stands on and whose `until` is not after now become expired; roots: all points that are not
 * expired; expired: those that are, also from a prune that ended before G8; packs: live ones with all bits.  Raises
 * nothing, condemns nothing.  Lists are released by the caller. */
int catalog_gc_roots(struct catalog *c, uint64_t token, int64_t now, struct point_list *roots,
		     struct point_list *expired, struct pack_list *packs, struct err *err);
/* Forgotten points whose `until` is not after now. */
int catalog_gc_due(struct catalog *c, int64_t now, uint64_t *count, struct err *err);
/* The same lists as they would be; nothing is changed. */
int catalog_gc_preview(struct catalog *c, uint64_t token, int64_t now, struct point_list *roots,
		       struct point_list *expired, struct pack_list *packs, struct err *err);
/* G5: generation and condemn_gen; per candidate pack, condemned = slots neither marked nor gone.  marked: bits of each candidate
 * (nbytes 0: none is marked), one entry a pack, ascending numbers.  The state object's slot is never condemned.  *slots: how
 * many were condemned; 0: neither generation nor condemn_gen were raised, and settle only removes expired rows.
 * ERR_INTERNAL if something is condemned already, a candidate is not live, or the order is wrong. */
int catalog_gc_condemn(struct catalog *c, uint64_t token, const struct slot_bits *candidates,
		       size_t count, uint64_t *slots, struct err *err);
/* G6: ingest leases with gen < condemn_gen; freed by the caller. */
int catalog_gc_older(struct catalog *c, uint64_t token, struct lease **out, size_t *count,
		     struct err *err);
/* G8: condemned and marked -> used; the rest -> doomed; condemn_gen = 0; expired points' rows go.  ERR_LOCKED if an older
 * ingest lease is there.  marked need only have packs that have condemned slots (others are passed over), ascending.  An
 * expired point whose manifest still lies in a pack is remembered (catalog_state_read: expired) until that is dropped. */
int catalog_gc_settle(struct catalog *c, uint64_t token, const struct slot_bits *marked,
		      size_t count, uint64_t *doomed, struct err *err);
/* Packs with doomed slots; rows with all bits. */
int catalog_gc_doomed(struct catalog *c, struct pack_list *out, struct err *err);
/* G9a: the live pack's row as it is now, with all bits; ERR_NOT_FOUND. */
int catalog_gc_pack(struct catalog *c, uint64_t token, uint64_t number, struct pack_list *out,
		    struct err *err);
/* G9d: these doomed slots -> dropped, which are damaged no more; bytes: of the new file.  All slots dropped: the row is
 * deleted, bytes must be 0, and must not be else.  ERR_INTERNAL: that, or a slot is not doomed; ERR_NOT_FOUND: no such
 * live pack.  audit may be NULL (a prune logs once, not a row a pack). */
int catalog_gc_dropped(struct catalog *c, uint64_t token, uint64_t number,
		       const struct slot_bits *dropped, uint64_t bytes, struct audit *audit,
		       struct err *err);

/* --- maintenance of packs outside prune (heal, footer from records): under the maintenance lease --- */
/* The pack's file was replaced: its size; these slots (may be NULL) are in it and good: neither damaged nor, unless doomed or
 * condemned, gone.  ERR_NOT_FOUND, ERR_INVALID. */
int catalog_pack_replaced(struct catalog *c, uint64_t token, uint64_t number, uint64_t bytes,
			  const uint32_t *good, size_t ngood, struct err *err);
/* When a pack's records were last all read and good (seconds); 0: never. */
int catalog_pack_set_verified(struct catalog *c, uint64_t number, int64_t time, struct err *err);

/* --- rebuild --- */
struct rebuilt_pack {
	uint64_t number;
	enum pack_kind kind;
	uint32_t slots;
	uint64_t bytes;
	const struct slot_bits *gone; /* slots that are not in the file */
	const struct slot_bits *damaged;
};
/* Writes into a new catalog (catalog_create), one call a thing in any order, before it is put in place.  One transaction
 * until end: meanwhile no other call works on the handle.  After an error: close it, remove the file.  Wrong values, or a
 * catalog that is not new: ERR_INVALID; a pack, point or segment the second time: ERR_EXISTS (nothing was changed: go on). */
int catalog_rebuild_begin(struct catalog *c, struct err *err);
int catalog_rebuild_pack(struct catalog *c, const struct rebuilt_pack *p, struct err *err);
int catalog_rebuild_point(struct catalog *c, const uint8_t id[POINT_ID_LEN],
			  const struct object_ref *ref, const struct manifest *m, struct err *err);
int catalog_rebuild_segment(struct catalog *c, uint64_t number, uint64_t records, struct err *err);
/* After the point that it stands on (ERR_NOT_FOUND).  A point that turns out to be expired takes its overlays' rows with it. */
struct overlay_row;
int catalog_rebuild_overlay(struct catalog *c, const struct overlay_row *row, struct err *err);
/* Holds, forgotten and expired points, counters, the end of the audit log; `state` may be NULL.  What it says of points
 * that are not there is passed over. */
int catalog_rebuild_state(struct catalog *c, const struct state *state,
			  const struct object_ref *ref, struct err *err);
/* Counters become the larger of what they are and what is given (0: nothing); the end raises them above what was found. */
int catalog_rebuild_counters(struct catalog *c, uint64_t generation, uint64_t next_pack,
			     uint64_t next_sequence, uint64_t next_segment, uint64_t next_token,
			     struct err *err);
/* Returns how many points stay expired although no state object says so, because a newer one has their name and second. */
int catalog_rebuild_end(struct catalog *c, struct audit *audit, struct err *err);
/* Was it rebuilt and not accepted?  Rules of forget and prune refuse then. */
int catalog_rebuilt(struct catalog *c, bool *rebuilt, struct err *err);
/* Is there a row of this point, in whatever state, expired too? */
int catalog_point_known(struct catalog *c, const uint8_t id[POINT_ID_LEN], bool *known,
			struct err *err);
/* If it was not rebuilt: 0, and nothing is logged. */
int catalog_rebuild_accept(struct catalog *c, struct audit *audit, struct err *err);

/* Whether a clock can be right.  *jump: when the log first went ahead by more than `ahead` seconds from one entry to the next, up to
 * now (later: the clock was put right since) and after its last entry "clock"; 0 if it did not.  *seen: the newest time in the audit log and of
 * points that is not after now, and before the jump (0: none). */
int catalog_clock(struct catalog *c, int64_t now, int64_t ahead, int64_t *seen, int64_t *jump,
		  struct err *err);

#endif
