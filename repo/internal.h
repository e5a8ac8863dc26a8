/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Shared inside repo/: the repository, points, maps, caches.  Write sessions: repo/session-internal.h. */
#ifndef LIVEPOINT_REPO_INTERNAL_H
#define LIVEPOINT_REPO_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/pool.h"
#include "catalog/gc.h"
#include "format/sidefile.h"
#include "repo/repo.h"
#include "store/store.h"

#define CHUNK_CACHE_DEFAULT (64 * MiB)
#define MAP_CACHE (8 * MiB)
#define FOOTER_CACHE_READ (12 * MiB)
#define FOOTER_CACHE_WRITE (32 * MiB)

/* --- cache: decoded objects by locator --- */
struct cache;
struct cache_item {
	uint64_t key;
	size_t size; /* bytes of data */
	void *data; /* owned; immutable once ready */
	/* Map cache: what data is.  Written by the loader before cache_loaded. */
	uint8_t type; /* enum object_type */
	uint8_t id[ID_LEN];
	/* Under the shard's lock: */
	unsigned refs;
	bool loading, cached;
	struct cache_item *chain, *newer, *older;
};
/* common: the size of nearly all items' data, which then comes out of one region of the bound's size; 0: they differ. */
int cache_new(uint64_t bytes, size_t common, struct cache **out, struct err *err);
void cache_free(struct cache *c);
/* Counted item.  *load true: the caller must load it and call cache_loaded. NULL: out of memory. */
struct cache_item *cache_get(struct cache *c, uint64_t key, bool *load);
/* Is it there or being loaded?  (For prefetch; may be wrong a moment later.) */
bool cache_has(struct cache *c, uint64_t key);
/* data: taken; NULL: loading failed, the item leaves the cache and waiters try on their own. Keeps the caller's count. */
void cache_loaded(struct cache *c, struct cache_item *item, void *data, size_t size);
void cache_put(struct cache *c, struct cache_item *item);
/* Memory for an item's data, with any content; NULL: out of memory. */
void *cache_data_new(struct cache *c, size_t n);
void cache_data_free(struct cache *c, void *p); /* NULL is fine */
/* True once in a while: somebody who has the time (0.1 ms) is then to call cache_extend, which makes memory present. */
bool cache_wants_more(struct cache *c);
void cache_extend(struct cache *c);
uint64_t cache_bytes(struct cache *c);
uint64_t cache_limit(const struct cache *c); /* the bound */

/* --- the repository --- */
struct repo_worker { /* context of a pool thread */
	struct store_reader *reader;
};

struct repo {
	char *path;
	enum repo_mode mode;
	struct conf conf;
	struct codec_keys *keys; /* plain ones until unlocked */
	bool locked;
	struct store *store;
	struct pool *pool;
	struct cache *chunks, *map;
	struct pool_job extend; /* one at a time: who was told cache_wants_more */
	bool started, pinnable;
	_Atomic bool said_unpinned; /* once is enough */
	_Atomic unsigned prefetching; /* jobs under way */
	_Atomic unsigned streams; /* open ones */

	pthread_mutex_t lock; /* guards what follows; memory work only */
	struct catalog *catalogs[16]; /* free connections */
	unsigned ncatalogs;
	struct store_reader *readers[64]; /* free readers */
	unsigned nreaders;
	struct repo_point *points; /* open ones */

	pthread_mutex_t
		lease_lock; /* serialises making of the reader's lease (SQL inside: not a lock for hot paths) */
	uint64_t lease_token; /* 0: none */
	char lease_name[64];
	int lease_fd;
	struct pin *
		pins; /* under lease_lock: rows of our lease, with how many opens stand behind each */

	pthread_mutex_t overlay_lock; /* guards what follows, and counts in them; memory work only */
	pthread_cond_t overlay_changed; /* one came or went */
	struct repo_overlay *overlays; /* attached ones, and those that are coming and going */
};

/* For repair: without looking at the catalog, which may not be there.  With REPO_READ nothing is ever written, no lease either. */
int repo_open_bare(const char *path, enum repo_mode mode, struct repo **out, struct err *err);
/* One connection for one call; given back with repo_catalog_put. */
int repo_catalog_get(struct repo *r, struct catalog **out, struct err *err);
void repo_catalog_put(struct repo *r, struct catalog *c);
int repo_reader_get(struct repo *r, struct store_reader **out, struct err *err);
void repo_reader_put(struct repo *r, struct store_reader *reader);
/* Can this error of a write to the catalog be passed over?  A disk that is full or fails writes must not keep anybody from
 * reading points: that may be what they are needed for.  Says so, and clears err. */
bool repo_goes_unpinned(struct repo *r, int code, struct err *err);
/* Fills the parts of a lease that say who we are. */
void repo_lease_describe(struct lease *l, enum lease_kind kind, const char *name);
/* Takes keys, also when it fails.  Before repo_start(), and with no reader in use: the store is opened anew. */
int repo_use_keys(struct repo *r, struct codec_keys *keys, struct err *err);
/* repo_overlay_sweep() on a connection of the caller's; err: not NULL. */
int overlay_sweep_with(struct repo *r, struct catalog *c, struct err *err);
/* Tells what lies in overlays/ and no row owns, and rows that are going or have no folder (the same; repo/overlay-look.c). */
struct catalog;
int overlay_leftovers(struct repo *r, struct catalog *c, void (*fn)(void *opaque, const char *line),
		      void *opaque, struct err *err);
/* Tells what lies in keys/ for no reason (verify --leftovers). */
int repo_key_leftovers(const struct repo *r, void (*fn)(void *opaque, const char *line),
		       void *opaque, struct err *err);
/* ERR_KEY with the next step if contents cannot be read. */
int repo_need_key(const struct repo *r, struct err *err);

/* --- points and maps --- */
struct repo_point {
	struct repo *repo;
	unsigned refs; /* under repo->lock */
	uint8_t id[POINT_ID_LEN];
	struct manifest *m;
	bool pinned;
	struct repo_point *next;
};
struct repo_disk {
	struct repo_point *point; /* counted */
	const struct manifest_disk *info;
	struct root *root;
	uint64_t chunks;
	uint32_t chunk_size;
};
/* Reads the manifest behind a reference. */
int point_manifest_read(struct repo *r, const struct object_ref *ref, struct manifest **out,
			struct err *err);

/* Reads an object of at most cap bytes, checked by hash, into *out (caller frees). */
int object_read(struct repo *r, enum object_type type, const struct object_ref *ref, size_t cap,
		uint8_t **out, size_t *len, struct err *err);
/* Reference of leaf number `leaf` (none: holes). */
int disk_leaf_ref(struct repo_disk *d, uint64_t leaf, struct object_ref *ref, struct err *err);
/* The leaf itself: *out NULL with *item NULL for holes; else give item back with cache_put(repo->map). */
int disk_leaf_get(struct repo_disk *d, uint64_t leaf, struct cache_item **item,
		  const struct leaf **out, struct err *err);
int leaf_ref_get(struct repo *r, const struct object_ref *ref, unsigned chunks,
		 struct cache_item **item, const struct leaf **out, struct err *err);
/* Chunks of leaf number `leaf`: LEAF_CHUNKS, or fewer for the last. */
unsigned disk_leaf_chunks(const struct repo_disk *d, uint64_t leaf);
/* Locators of count chunks from first on. */
int disk_locators(struct repo_disk *d, uint64_t first, unsigned count, uint64_t *locators,
		  struct err *err);
/* Content ids of the chunks of a leaf, by footers: 32 bytes each, zeroes for holes, FF for unreadable. */
int leaf_ids(struct repo *r, const uint64_t *locators, unsigned count, uint8_t (*ids)[ID_LEN],
	     struct err *err);
/* The chunk behind a locator, decoded, in the cache; counted. */
int chunk_get(struct repo *r, struct store_reader *reader, uint64_t locator, uint32_t chunk_size,
	      struct cache_item **out, struct err *err);

/* Keeps memory for chunks present ahead of need. */
void chunk_memory_ahead(struct repo *r);

/* --- worker context for pools --- */
void *repo_worker_make(void *opaque); /* opaque: struct repo */
void repo_worker_drop(void *ctx);

/* --- a set of slots: those that came from the index, for the re-check at publication; those that verify has seen --- */
struct slot_set {
	struct slot_bits *packs; /* hash table by number; pack 0: free */
	size_t cap, count;
};
int slot_set_add(struct slot_set *s, uint64_t locator, struct err *err);
/* The same; 1 if it is new there, 0 if it was there already. */
int slot_set_visit(struct slot_set *s, uint64_t locator, struct err *err);
bool slot_set_has(const struct slot_set *s, uint64_t locator);
/* Room for the slots of a pack, none of them set yet. */
int slot_set_reserve(struct slot_set *s, uint64_t pack, uint32_t slots, struct err *err);
/* Sets consecutive slots, as far as there is room for them already: without room for the pack nothing happens. */
void slot_set_fill(struct slot_set *s, uint64_t locator, uint32_t count);
/* NULL: no slot of the pack, and no room.  Borrowed until the next add or reserve. */
const struct slot_bits *slot_set_find(const struct slot_set *s, uint64_t pack);
/* Moves all to the front; the set is good for nothing else afterwards. */
size_t slot_set_compact(struct slot_set *s);
void slot_set_release(struct slot_set *s);

/* --- the state object (repo/state.c); releases with state_release() --- */
/* ERR_KEY, ERR_DAMAGED. */
int state_load(struct repo *r, const struct object_ref *ref, struct state *out, struct err *err);
/* A small session of its own: waits up to 30 s for another one, writes the object, and publishes it with the change (may be
 * NULL).  The repository is REPO_WRITE and unlocked. */
int state_publish(struct repo *r, const struct hold_change *hold, struct audit *audit,
		  struct err *err);
/* The same under the caller's maintenance lease and stage (prune, repair), which go on; what the sweep would remove after a
 * failure is the caller's. */
int state_store(struct repo *r, struct catalog *c, uint64_t token, struct store_stage *stage,
		const struct hold_change *hold, struct audit *audit, struct err *err);

/* --- is the clock to be believed? (repo/clock.c) --- */
struct repo_clock {
	int64_t now; /* seconds */
	int64_t seen; /* the newest time, not after now, at which the repository was changed */
	bool doubtful;
	char why[200]; /* if so: half a sentence */
};
/* fd: a file that was just made in the repository, whose file system has a clock too; or -1. */
int repo_clock_look(struct repo *r, struct catalog *c, int fd, struct repo_clock *out,
		    struct err *err);
/* A person says that the clock is right: an entry of the audit log. */
int repo_clock_accept(struct repo *r, const struct repo_clock *k, struct err *err);

/* --- merging of index segments (repo/index-merge.c) --- */
/* Which entries may be left out; read before the merge. */
struct index_live {
	struct pack_list packs;
	uint64_t next_pack; /* packs without a row and a number below it were removed */
	bool any; /* something may be left out at all */
};
int index_live_read(struct catalog *c, struct index_live *out, struct err *err);
void index_live_release(struct index_live *l);
/* False: the slot is gone for ever.  opaque: struct index_live. */
bool index_live_keeps(void *opaque, uint64_t locator);
/* Writes the segments `old` as one, lists it in their place and removes their files.  1: done, *out is the new one; 0: somebody
 * else was first, and a file and a row of the token stay, which its sweep removes. */
int index_merge(struct repo *r, struct catalog *c, uint64_t token, struct store_stage *stage,
		struct index_live *live, const uint64_t *old, size_t n, struct segment_row *out,
		struct err *err);

/* ERR_DAMAGED if packs are newer than the catalog, which then is an older one that was put back: publishing would use
 * their numbers again, and a sweep remove what has become a point's.  Before any sweep. */
int sweep_check(struct repo *r, struct catalog *c, struct err *err);
/* S3 to S5 for what a token has renamed and not published; the caller is its owner, or its lease is gone. */
int sweep_rows(struct repo *r, struct catalog *c, uint64_t token, struct err *err);
/* Sweep on a connection of the caller's. */
int sweep_with(struct repo *r, struct catalog *c, struct err *err);

/* --- side files (repo/sidefile.c) --- */
/* Appends the payload, which fits in every check, of a file of this kind; ERR_NOT_FOUND, ERR_DAMAGED, ERR_UNSUPPORTED. */
int sidefile_read(struct repo *r, enum sidefile_kind kind, const char *path, struct buf *payload,
		  struct err *err);
/* Replaces path in folder, which is made if it is missing. */
int sidefile_write(struct repo *r, enum sidefile_kind kind, const char *folder, const char *path,
		   const struct buf *payload, struct err *err);
/* Removes traces of names, and proofs of points, that the catalog does not know any more. */
int sidefile_sweep(struct repo *r, struct catalog *c, struct err *err);

#endif
