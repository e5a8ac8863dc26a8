/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Shared inside repo/: what a write session is made of.  Face: repo/session.h. */
#ifndef LIVEPOINT_REPO_SESSION_INTERNAL_H
#define LIVEPOINT_REPO_SESSION_INTERNAL_H

#include "repo/internal.h"
#include "repo/session.h"

#define JOB_CHUNKS_MAX 256u /* SESSION_BUFFER / CHUNK_SIZE_MIN */
#define CHECKPOINT_PACKS 4u
#define CHECKPOINT_NS (60ull * 1000000000ull)
#define FINISH_DEPTH 4u /* packs being synced and read back */
#define MAP_PACK_SLOTS 4096u /* a pack of maps is closed at so many */

/* Ids of chunks that this session stored and that no listed segment has yet: open addressing by eight bytes of the id.
 * Two generations: what the last checkpoint listed stays until the next one, because jobs under way may have asked
 * the index before it knew. */
struct id_table {
	pthread_rwlock_t lock; /* guards both generations */
	struct id_gen {
		struct id_entry {
			uint8_t id[ID_LEN]; /* whole: no footer is asked again */
			uint64_t locator; /* LOCATOR_NONE: free */
		} * entries;
		size_t cap, count; /* cap a power of two */
	} now, before;
};
int id_table_init(struct id_table *t, struct err *err);
void id_table_release(struct id_table *t);
uint64_t id_table_find(struct id_table *t, const uint8_t *id); /* LOCATOR_NONE if not there */
int id_table_add(struct id_table *t, const uint8_t *id, uint64_t locator, struct err *err);
/* A new generation: `now` becomes `before`. */
int id_table_turn(struct id_table *t, struct err *err);

/* Which packs a session may refer to by the index. */
struct usable {
	struct pack_list packs; /* live at the session's start */
	bool any_damaged;
	pthread_rwlock_t lock; /* guards own */
	uint64_t *own; /* numbers of own packs that are live, ascending */
	size_t nown, own_cap;
};
int usable_add_own(struct usable *u, uint64_t number, struct err *err);
/* By the index: live, not gone, not damaged. */
bool usable_by_index(struct usable *u, uint64_t locator);
bool usable_is_own(struct usable *u, uint64_t locator);
/* Is the slot known to be damaged?  (Then the parent's chunk counts as different.) */
bool usable_damaged(const struct usable *u, uint64_t locator);

enum chunk_result { CHUNK_HOLE, CHUNK_PARENT, CHUNK_INDEX, CHUNK_NEW, CHUNK_UNREADABLE };
struct chunk_out {
	enum chunk_result result;
	uint64_t locator; /* PARENT, INDEX; NEW: where this session stored it, if it was seen */
	uint8_t id[ID_LEN];
	enum object_codec codec;
	uint64_t xxh3;
	const uint8_t *payload; /* NEW: in the job's buffers */
	size_t n;
};
enum job_kind { JOB_CHUNKS, JOB_HOLE, JOB_UNCHANGED, JOB_UNREADABLE };
struct chunk_job {
	struct pool_job job;
	struct repo_session *session;
	enum job_kind kind;
	uint64_t first, count; /* chunks of the disk */
	uint8_t *buffer; /* JOB_CHUNKS: taken; from the session's free list */
	uint8_t *packed; /* room for compressed chunks, count * chunk size; kept with the buffer */
	uint64_t *parents; /* locators in the parent, or NULL */
	struct chunk_out *out;
	struct err err;
	struct chunk_job *next; /* in the free list */
};
/* The worker's part; ctx: struct repo_worker. */
void chunk_job_run(struct pool_job *job, void *ctx);

struct finish_job {
	struct pool_job job;
	struct repo_session *session;
	struct store_writer *writer; /* owned */
	enum pack_kind kind;
	int result;
	struct err err;
	struct finish_job *next; /* in one of the session's lists, oldest first */
};

/* The map of the disk being written. */
struct map_writer {
	uint64_t leaf; /* number of the leaf being filled */
	unsigned at; /* chunks in it so far */
	uint64_t locators[LEAF_CHUNKS];
	uint8_t ids[LEAF_CHUNKS][ID_LEN];
	struct object_ref *leaves; /* PAGE_LEAVES of the current page */
	struct object_ref *pages; /* ROOT_PAGES_MAX */
	uint32_t npages;
};

struct disk_writer {
	bool open;
	char name[DISK_NAME_MAX_LEN + 1];
	char *source;
	int method;
	uint64_t size; /* padded; UINT64_MAX: unknown */
	uint64_t source_size;
	uint64_t position; /* chunks submitted */
	uint64_t done; /* chunks that have come out of the queue */
	uint64_t unreadable; /* chunks */
	struct repo_disk *parent; /* or NULL */
	struct map_writer map;
};

struct repo_session {
	struct repo *repo;
	struct catalog *catalog;
	struct store_stage *stage;
	struct store_reader *reader; /* of the caller's thread */
	struct lease lease;
	int lease_fd;
	const volatile int *stop;
	int level; /* zstd */
	bool differential, has_parent;
	struct repo_point *parent;
	uint8_t parent_id[POINT_ID_LEN];

	struct usable usable;
	struct store_index *index;
	struct segment_row *segments; /* listed, for merging */
	size_t nsegments;
	struct id_table ids;
	struct slot_set reused;

	struct queue *chunks, *finishing;
	struct chunk_job *free_jobs;
	struct chunk_job *handed; /* buffers that the caller holds */
	struct chunk_job **all_jobs;
	unsigned njobs;
	struct store_writer *data, *map;
	struct finish_job *underway,
		*underway_tail; /* being synced and read back, in the queue's order */
	struct finish_job *finished, *finished_tail; /* synced and read back, not renamed */
	unsigned nfinished_data;
	struct finish_job
		*published; /* map packs and data packs renamed since the last transaction */
	uint64_t checkpoint_ns; /* when the last one was */

	struct disk_writer disk;
	struct manifest_disk *disks; /* finished ones */
	size_t ndisks;
	struct manifest_config *configs; /* owned, their parts too */
	size_t nconfigs;
	struct session_result counters;
	const struct overlay_sealed
		*sealed; /* borrowed until published: the overlay that becomes the point; or NULL */
	bool failed;
};

/* pack-flow.c: packs from append to rename */
int session_append(struct repo_session *s, enum pack_kind kind, const struct store_append *a,
		   uint64_t *locator, struct err *err);
/* Compresses and appends an object; fills *ref. */
int session_object(struct repo_session *s, enum object_type type, const void *p, size_t n,
		   struct object_ref *ref, struct err *err);
/* Closes the open pack of a kind, if there is one, and hands it to the pool. */
int session_rotate(struct repo_session *s, enum pack_kind kind, struct err *err);
/* Of the file, as it will be when it is closed now. */
uint64_t session_pack_bytes(const struct store_writer *w);
/* Collects packs that are finished; wait: all of them. */
int session_collect(struct repo_session *s, bool wait, struct err *err);
/* Renames what is finished (data packs first; map packs only if `maps`) and syncs the folders. */
int session_rename(struct repo_session *s, bool maps, struct err *err);
/* Writes the segment of the renamed data packs; fills done for the transaction. */
int session_done_fill(struct repo_session *s, struct session_done *done, struct pack_done **packs,
		      struct err *err);
void session_done_clear(struct repo_session *s); /* after the transaction */
int session_checkpoint(struct repo_session *s, struct err *err);
int session_merge_index(struct repo_session *s, struct err *err);

/* config.c */
void session_configs_free(struct repo_session *s);

/* map-write.c */
/* The parent's reference (or NULL) if it is this very object and good as far as anybody knows, else the object is stored. */
int session_share(struct repo_session *s, enum object_type type, const void *p, size_t n,
		  const struct object_ref *parent, struct object_ref *ref, struct err *err);
int map_begin(struct repo_session *s, struct err *err);
void map_release(struct map_writer *m);
int map_put(struct repo_session *s, uint64_t locator, const uint8_t *id, struct err *err);
/* count chunks of holes, unreadable or unchanged ones. */
int map_fill(struct repo_session *s, enum job_kind kind, uint64_t count, struct err *err);
int map_end(struct repo_session *s, uint64_t size, struct object_ref *root, struct err *err);

/* disk-write.c */
int disk_drain(struct repo_session *s, struct err *err); /* all jobs under way, applied in order */
void disk_discard(struct repo_session *s); /* the same, thrown away */
int session_jobs_make(struct repo_session *s, struct err *err);
void session_jobs_free(struct repo_session *s);
int session_stopped(const struct repo_session *s, struct err *err);

#endif
