/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The catalog: names, restore points, the pack directory, leases, pins, index segment list.
 * SQLite (WAL, synchronous=FULL); SQL text lives in this room only.  Megabytes, never a row per chunk.
 *
 * Words and steps (I2, S1, ...) are those of docs/PROTOCOL.md:
 * a token that is not in `lease` changes nothing, so every transaction of a session looks first (ERR_FENCED).
 *
 * Invariants:
 *  1. Every change is one BEGIN IMMEDIATE transaction, durable when the function returns 0; but leases and
 *     pins of readers, which need not outlive a power cut, are only seen by everybody then.
 *  2. An error from COMMIT is ERR_UNKNOWN: the caller reopens and looks; nothing of the session is removed.
 *  3. Only SQLite opens the catalog file.  No handle crosses a fork.  No read transaction outlives a call.
 *  4. Pack numbers, segment numbers, sequences, generations and tokens are never given out twice.
 *
 * A handle is one SQLite connection: one thread at a time.
 */
#ifndef LIVEPOINT_CATALOG_CATALOG_H
#define LIVEPOINT_CATALOG_CATALOG_H

#include "catalog/audit.h"
#include "format/format.h"

struct catalog;

#define CATALOG_SCHEMA_VERSION 3

/* Makes an empty catalog with the first schema; the file must not exist. */
int catalog_create(const char *path, const uint8_t uuid[UUID_LEN], struct err *err);

enum catalog_mode {
	CATALOG_READ_WRITE,
	/* Reads only.  Where the file and its folder can be written, or a -shm lies beside it, an ordinary read-only
	 * connection.  Else on a read-only file system: immutable if no -wal with frames lies beside it.  Else (also
	 * without permission alone: somebody else may write) catalog and WAL are copied to a private temporary folder
	 * and opened there (removed at close).  An older schema is copied in any case, and the copy is migrated. */
	CATALOG_READ_ONLY,
};
/* Missing: ERR_NO_REPO; of another repository, corrupt, no catalog: ERR_DAMAGED; newer schema: ERR_NO_REPO.  Waits up to 30 s for
 * other writers.  Older schemas are migrated, one numbered step each (read-only: in a private copy). */
int catalog_open(const char *path, enum catalog_mode mode, const uint8_t uuid[UUID_LEN],
		 struct catalog **out, struct err *err);
/* A writer checkpoints the WAL (TRUNCATE) if nobody else is there. */
void catalog_close(struct catalog *c);
DEFINE_CLEANUP(catalog, catalog_close)

/* --- leases --- */
enum lease_kind { LEASE_INGEST = 1, LEASE_READER = 2, LEASE_MAINTENANCE = 3 };
struct lease {
	uint64_t token; /* never used twice */
	enum lease_kind kind;
	uint64_t gen; /* generation when it was taken */
	char lock_name[64]; /* file in locks/ */
	char name[NAME_MAX_LEN + 1]; /* NAME being backed up; "" else */
	char host[256]; /* host, pid, boot id, start: for messages only */
	int64_t pid;
	char boot_id[40];
	uint64_t start_ticks;
	int64_t since;
};

/* Bits of slots; bit i of byte i / 8 is slot i. */
struct slot_bits {
	uint64_t pack;
	uint32_t nbytes;
	uint8_t *bits; /* owned by the list it stands in */
};
enum pack_state { PACK_WRITING = 1, PACK_LIVE = 2 };
struct pack_row {
	uint64_t number;
	enum pack_state state;
	uint64_t token; /* of the session that wrote it */
	enum pack_kind kind;
	uint32_t slots; /* 0 while writing */
	uint64_t bytes; /* of the file */
	bool published; /* its session published: what it wrote and no point uses needs an explanation
			 * (not of packs with a state object; always after a rebuild) */
	int64_t verified; /* when all its records were last read and good, seconds; 0: never */
	struct slot_bits gone; /* condemned, doomed or dropped; nbytes 0: none */
	struct slot_bits condemned, doomed; /* parts of gone; empty but for the calls that say so */
	struct slot_bits damaged;
};
struct pack_list {
	struct pack_row *rows; /* ascending number */
	size_t count;
};
void pack_list_release(struct pack_list *l);

/* --- points --- */
enum point_state { POINT_COMPLETE = 1, POINT_FORGOTTEN = 2, POINT_EXPIRED = 3 };
enum verified_kind {
	VERIFIED_NONE = 0,
	VERIFIED_STRUCTURE = 1,
	VERIFIED_DATA = 2,
	VERIFIED_BOOT = 3
};
struct point_row {
	uint8_t id[POINT_ID_LEN];
	struct object_ref manifest_ref;
	enum point_state state;
	int64_t forgotten,
		until; /* seconds: when, and up to when it can come back; 0 of a complete one */
	int verified_kind; /* enum verified_kind */
	int64_t verified_time;
	double verified_share; /* 0 to 1 */
	bool damaged;
	struct manifest *m; /* what the row caches of the manifest; owned */
};
struct point_list {
	struct point_row *rows;
	size_t count;
};
void point_row_release(struct point_row *r);
void point_list_release(struct point_list *l);

/* I2.  In one transaction: refuses (ERR_LOCKED, with the holder in the text and *holder filled) if another ingest lease
 * for the same name exists; inserts the lease; reads all live packs with their gone and damaged bits; finds the parent:
 * the complete point `since` if not NULL (also a forgotten one that an overlay stands on; ERR_NOT_FOUND if it is gone), else the name's complete point with the highest
 * sequence.  spec: everything but token and gen is the caller's; filled in.  *has_parent false: none, *parent untouched.
 * packs, parent: released by the caller. */
int catalog_session_begin(struct catalog *c, struct lease *spec, const uint8_t *since,
			  struct pack_list *packs, bool *has_parent, struct point_row *parent,
			  struct lease *holder, struct err *err);
/* R1 without a pin, or G1: a reader's or maintenance lease; ERR_LOCKED if somebody holds the maintenance lease. */
int catalog_lease_begin(struct catalog *c, struct lease *spec, struct err *err);
/* Removes the lease and its pins; not there is fine (S1, R3). */
int catalog_lease_end(struct catalog *c, uint64_t token, struct err *err);
/* False if it was opened read-only, and after an error from COMMIT: then only catalog_close is left. */
bool catalog_can_write(const struct catalog *c);
/* All leases; *out is freed by the caller. */
int catalog_leases(struct catalog *c, struct lease **out, size_t *count, struct err *err);

/* R1: pins a complete point, or one that is pinned or has an overlay already, for a reader's lease; ERR_NOT_FOUND if it is neither. Repeating is fine. */
int catalog_pin(struct catalog *c, uint64_t token, const uint8_t id[POINT_ID_LEN], struct err *err);
int catalog_unpin(struct catalog *c, uint64_t token, const uint8_t id[POINT_ID_LEN],
		  struct err *err);

/* I4: hands out a pack number and notes the row as writing(token). */
int catalog_pack_begin(struct catalog *c, uint64_t token, enum pack_kind kind, uint64_t *number,
		       struct err *err);
/* I8: the same for an index segment. */
int catalog_segment_begin(struct catalog *c, uint64_t token, uint64_t *number, struct err *err);

struct overlay_sealed;
struct pack_done {
	uint64_t number;
	uint32_t slots;
	uint64_t bytes;
};
struct session_done {
	const struct pack_done *packs; /* finished and renamed, folders synced; become live */
	size_t npacks;
	uint64_t segment; /* number to list; 0: none */
	uint64_t segment_records;
	const struct overlay_sealed *
		overlay; /* publish: the overlay that becomes the point (catalog/overlay.h); NULL: none */
};
/* I9: checkpoint. */
int catalog_checkpoint(struct catalog *c, uint64_t token, const struct session_done *done,
		       struct err *err);

/* Before the manifest is written (publish refuses other values): hands out the publish sequence, raises the generation, and moves *time to the first
 * second at which the name has no point and no other reservation; remembers it in the lease. */
int catalog_reserve(struct catalog *c, uint64_t token, const char *name, int64_t *time,
		    uint64_t *sequence, uint64_t *generation, struct err *err);

/* I10: publish.  reused: slots that came from the index, re-checked (pack live; slot not gone, or condemned with
 * condemn_gen > the lease's gen); a failure is ERR_INTERNAL and publishes nothing.  All live packs of the token count as
 * published; audit (may be NULL) is appended; the lease is removed. */
int catalog_publish(struct catalog *c, uint64_t token, const struct session_done *done,
		    const struct slot_bits *reused, size_t nreused, const uint8_t id[POINT_ID_LEN],
		    const struct object_ref *manifest_ref, const struct manifest *m,
		    struct audit *audit, struct err *err);

/* Sweep.  S3: pack numbers of rows writing(token), and segment numbers; freed by the caller.  With token 0: of every
 * token that has no lease (catalog_writing_tokens: the distinct ones).  S5: deletes the rows of one token (not 0: a lease
 * may have ended since the numbers were read). */
int catalog_writing(struct catalog *c, uint64_t token, uint64_t **packs, size_t *npacks,
		    uint64_t **segments, size_t *nsegments, struct err *err);
int catalog_writing_tokens(struct catalog *c, uint64_t **tokens, size_t *ntokens, struct err *err);
int catalog_writing_delete(struct catalog *c, uint64_t token, struct err *err);

/* --- segments --- */
struct segment_row {
	uint64_t number, records;
};
/* Listed ones, ascending number; freed by the caller. */
int catalog_segments(struct catalog *c, struct segment_row **out, size_t *count, struct err *err);
/* Numbers of all rows, listed or being written, ascending; freed by the caller. */
int catalog_segment_numbers(struct catalog *c, uint64_t **numbers, size_t *count, struct err *err);
/* Merge: one transaction lists `number` (begun under token) and removes the old ones, if all of them are still listed;
 * returns 1 if done, 0 if somebody else was first. */
int catalog_segments_swap(struct catalog *c, uint64_t token, uint64_t number, uint64_t records,
			  const uint64_t *old, size_t nold, struct err *err);
/* Drops a listed segment that is lost or bad. */
int catalog_segment_drop(struct catalog *c, uint64_t number, struct err *err);

/* --- points --- */
struct point_filter {
	const char *name; /* exact; NULL: all */
	const char *label_key, *label_value; /* NULL: all */
	bool forgotten; /* list forgotten ones too */
	bool newest_first; /* by sequence; else oldest first */
	uint64_t limit; /* 0: none */
};
int catalog_points(struct catalog *c, const struct point_filter *f, struct point_list *out,
		   struct err *err);
/* Complete or forgotten; ERR_NOT_FOUND. */
int catalog_point_by_id(struct catalog *c, const uint8_t id[POINT_ID_LEN], struct point_row *out,
			struct err *err);
/* Complete points whose id begins with these hexadecimal digits (at most `limit`). */
int catalog_points_by_prefix(struct catalog *c, const char *hex, uint64_t limit,
			     struct point_list *out, struct err *err);
/* Complete points of the name whose RFC 3339 time text begins with `time_prefix` ("" : all), newest first. */
int catalog_points_by_time(struct catalog *c, const char *name, const char *time_prefix,
			   uint64_t limit, struct point_list *out, struct err *err);
/* The complete one with the highest sequence; ERR_NOT_FOUND. */
int catalog_point_latest(struct catalog *c, const char *name, struct point_row *out,
			 struct err *err);
/* Distinct names of complete points, sorted; each owned by the array, which the caller frees with catalog_names_free. */
int catalog_names(struct catalog *c, char ***out, size_t *count, struct err *err);
void catalog_names_free(char **names, size_t count);

int catalog_point_set_verified(struct catalog *c, const uint8_t id[POINT_ID_LEN], int kind,
			       int64_t time, double share, bool damaged, struct err *err);
/* Sets bits of the pack's damaged bitmap (n slots), or clears them. */
int catalog_slots_damaged(struct catalog *c, uint64_t pack, const uint32_t *slots, size_t n,
			  bool damaged, struct err *err);

/* --- the rest --- */
/* All packs with all bits, also those being written, or only one (number != 0; none if it is not there). */
int catalog_packs(struct catalog *c, uint64_t number, struct pack_list *out, struct err *err);
struct catalog_totals {
	uint64_t generation, next_pack, next_sequence, condemn_gen;
	uint64_t points, names, packs, pack_bytes, segments, segment_records, leases;
};
int catalog_totals(struct catalog *c, struct catalog_totals *out, struct err *err);
/* A copy by VACUUM INTO; the target must not exist. */
int catalog_copy(struct catalog *c, const char *path, struct err *err);
/* PRAGMA quick_check and the rules of the schema; problems as text lines appended to out; returns their number. */
int catalog_check(struct catalog *c, struct buf *out, struct err *err);

#endif
