/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Inside one layer of an overlay: the table of block states, the pending set, the range lock, the state log's file.
 * For overlay-layer.c, overlay-flush.c, overlay-data.c, overlay-log.c, overlay-state.c and their unit tests only.
 */
#ifndef LIVEPOINT_REPO_OVERLAY_LAYER_INTERNAL_H
#define LIVEPOINT_REPO_OVERLAY_LAYER_INTERNAL_H

#include "repo/overlay-internal.h"

/* --- block states in memory (overlay-state.c): one thread at a time --- */
struct block_table {
	uint64_t blocks, npages;
	/* NULL: all base; or one of the shared pages that are all data or all zero; else owned: two bits a block. */
	uint8_t **pages;
};
int block_table_init(struct block_table *t, uint64_t blocks, struct err *err);
void block_table_release(struct block_table *t);
enum block_state block_table_get(const struct block_table *t, uint64_t block);
/* Blocks from first on that have the same state, at most `most`; fills state. */
uint64_t block_table_run(const struct block_table *t, uint64_t first, uint64_t most,
			 enum block_state *state);
bool block_table_is(const struct block_table *t, uint64_t first, uint64_t count,
		    enum block_state state);
/* Makes the memory for block_table_set() of that range present, until the next block_table_tidy(); false: out of memory. */
bool block_table_prepare(struct block_table *t, uint64_t first, uint64_t count,
			 enum block_state state);
void block_table_set(struct block_table *t, uint64_t first, uint64_t count, enum block_state state);
/* Frees pages of the range that have become all data or all zero. */
void block_table_tidy(struct block_table *t, uint64_t first, uint64_t count);
/* A record's entries; false: out of memory. */
bool block_table_apply(struct block_table *t, const struct overlay_record *r);
/* Copies the states of a page; false if all are base. */
bool block_table_page(const struct block_table *t, uint64_t page, uint8_t states[OVERLAY_PAGE_LEN]);

/* Changes of state in their order. */
struct pending {
	struct overlay_run *runs; /* owned */
	size_t count, cap;
};
bool pending_reserve(struct pending *p, size_t cap); /* false: out of memory */
void pending_add(struct pending *p, const struct overlay_run *run); /* after pending_reserve() */

/* --- ranges of blocks in use (overlay-state.c): any thread --- */
struct block_range {
	uint64_t first, count;
	bool exclusive;
	struct block_range *before, *after; /* under the lock */
};
struct range_lock {
	pthread_mutex_t lock; /* memory work only; no other lock is taken under it */
	pthread_cond_t dropped;
	struct block_range *oldest, *newest;
	unsigned waiting;
};
void range_lock_init(struct range_lock *l);
void range_lock_release(struct range_lock *l);
/* Waits until nobody who came before uses blocks of it in a way that excludes this one: first come, first served.  A thread
 * holds one range at a time. */
void range_take(struct range_lock *l, struct block_range *r, uint64_t first, uint64_t count,
		bool exclusive);
void range_drop(struct range_lock *l, struct block_range *r);

/* --- the state log's file (overlay-log.c): one thread at a time --- */
struct layer_log {
	int fd; /* -1: none */
	char *path; /* owned; where the file is to be found in the end */
	struct overlay_log_header h;
	const struct codec_layer_key *key; /* borrowed */
	uint64_t last; /* number of the last record */
	uint64_t end; /* where the next one goes, bytes */
	uint64_t size; /* of the file, bytes: zeroes from end to here */
};
void layer_log_close(struct layer_log *log);
/* A new file at `at`, which becomes path later (or is it): header and zeroes up to `room` bytes; not synced.  h: id and MAC of the log are
 * made here. */
int layer_log_create(const char *at, const char *path, const struct overlay_log_header *h,
		     const struct codec_layer_key *key, uint64_t room, struct layer_log *out,
		     struct err *err);
/* Replays it into the table.  want: whose log it must be (log and MAC do not matter). */
int layer_log_open(const char *path, const struct overlay_log_header *want,
		   const struct codec_layer_key *key, bool frozen, bool unclean,
		   struct block_table *table, struct layer_log *out, struct err *err);
/* Room that records with so many runs need at most. */
uint64_t layer_log_room(size_t runs);
/* Writes within the room, and leaves log->size alone: that is for who makes room meanwhile. */
int layer_log_append(struct layer_log *log, const struct overlay_run *runs, size_t count,
		     struct err *err);
/* All states.  page: as block_table_page(), which may be asked for under a lock. */
int layer_log_append_table(struct layer_log *log, uint64_t npages,
			   bool (*page)(void *opaque, uint64_t page,
					uint8_t states[OVERLAY_PAGE_LEN]),
			   void *opaque, struct err *err);
/* Zeroes up to size bytes. */
int layer_log_extend(struct layer_log *log, uint64_t size, struct err *err);

/* --- the layer --- */
#define PENDING_MAX                                                                                \
	(256u *                                                                                    \
	 1024) /* changes of state (6 MiB), before a flush is made: 1 GiB of random small writes */
#define LOG_ROOM_FIRST (64 * KiB)
#define LOG_ROOM_STEP (256 * KiB)
#define LOG_COMPACT (8 * MiB) /* a log is not compacted before it has reached this */
#define LOG_COMPACT_TIMES 4u /* nor before it is so many times what the last compaction left */

/* overlay-live.c: fields are guarded by the layer's lock; without a map nothing happens. */
#define LIVE_SLOTS                                                                                 \
	(128u *                                                                                    \
	 1024) /* in each area: changes, 512 MiB of random small writes, before a flush is made */
#define LIVE_LEN (OVERLAY_LIVE_HEADER_LEN + 2ul * LIVE_SLOTS * OVERLAY_RUN_LEN) /* bytes */
struct layer_live {
	int fd; /* -1: none */
	char *path; /* owned */
	uint8_t *map; /* LIVE_LEN bytes, or NULL */
	unsigned area; /* that changes go to: 0 or 1 */
	uint64_t used[2], age;
	struct overlay_run last; /* in the last slot of the area */
};

struct cipher_slot { /* what one thread needs to encrypt */
	struct codec_layer_ctx *ctx; /* owned */
	struct cipher_slot *next;
	uint8_t buffer[];
};

struct overlay_layer {
	char *folder, *data_path, *log_path;
	uint64_t size; /* bytes */
	uint64_t blocks;
	bool frozen;
	int data_fd;
	struct codec_layer_key *key;
	_Atomic bool failed; /* a sync has failed: for ever */
	_Atomic bool no_punch; /* the file system cannot */
	struct range_lock ranges;

	/* Order of locks: `lock` and `slot_lock` are taken alone, for memory work only. */
	pthread_mutex_t slot_lock;
	struct cipher_slot *slots; /* free ones */

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t changed; /* extending or flushing ended */
	struct block_table table;
	struct pending pending;
	size_t promised; /* changes that requests under way may still add to it */
	bool dirty; /* written to the data file since the last sync began */
	bool extending; /* somebody writes behind log.end, or changes the file */
	bool flushing; /* somebody is between taking the pending set and having punched holes */
	uint64_t flush_begun, flush_done; /* numbers of flushes */
	uint64_t log_used, log_size; /* bytes: log.end once what was taken is in it; log.size */
	struct layer_live live;

	struct pending taken; /* of who is flushing */
	struct layer_log log; /* end, last: of who is flushing; size, fd: of who is extending */
	uint64_t compact_at; /* of who is flushing: bytes of the log */
};

int layer_failed(const struct overlay_layer *l, struct err *err); /* ERR_IO with the way out */

/* overlay-data.c.  In an encrypted layer writes are of whole units (CODEC_UNIT); reads of any bytes. */
int layer_data_read(struct overlay_layer *l, void *dst, size_t n, uint64_t offset, struct err *err);
int layer_data_write(struct overlay_layer *l, const void *src, size_t n, uint64_t offset,
		     struct err *err);
void layer_slots_free(struct overlay_layer *l);

/* overlay-flush.c.  Before anything is written: makes room for so many changes of state, in memory and in the log, so that nothing
 * after it fails for want of room but the data itself.  Ended by one of the other two. */
int layer_change_begin(struct overlay_layer *l, unsigned changes, struct err *err);
void layer_change_abort(struct overlay_layer *l, unsigned changes, bool wrote);
/* runs: count of them, at most as promised; disjoint. */
int layer_change_commit(struct overlay_layer *l, unsigned changes, const struct overlay_run *runs,
			unsigned count, bool wrote, struct err *err);

/* overlay-live.c.  At open, before there is anything to do: enters what the last process left in the file, and flushes it. */
int layer_live_enter(struct overlay_layer *l, struct err *err);
/* Makes the file anew, once that is durable; a failure is logged. */
void layer_live_open(struct overlay_layer *l);
/* empty: nothing is left in it that was not flushed. */
void layer_live_close(struct overlay_layer *l, bool empty);
/* With the lock: is there room for so many changes; one change; the pending set is taken; what was taken is durable; a sync has
 * failed. */
bool layer_live_room(const struct overlay_layer *l, uint64_t changes);
void layer_live_add(struct overlay_layer *l, const struct overlay_run *run);
void layer_live_turn(struct overlay_layer *l);
void layer_live_flushed(struct overlay_layer *l);
void layer_live_forget(struct overlay_layer *l);

#endif
