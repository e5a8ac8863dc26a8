/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Files of the data folders: packs, index segments, staging, lock files.
 *
 * Behind it stands a backend, one table of operations (store/backend.h; a directory now), so that object stores can
 * follow.  This room knows bytes and numbers; who hands out numbers and what is live is the catalog's business.
 *
 * Invariants:
 *  1. A file enters packs/ or index/ only by rename out of staging/TOKEN/; a new one never replaces.
 *  2. A pack's descriptor and footer are one cache entry: a footer is used only with the file that it was read from.
 *  3. What store_record_read returns was checked: record header against footer, tag or XXH3, lengths; and the content
 *     id too when asked for.
 *  4. A writer that failed once only fails from then on.
 */
#ifndef LIVEPOINT_STORE_STORE_H
#define LIVEPOINT_STORE_STORE_H

#include "codec/codec.h"

struct store;

/* At init: makes the folders in an existing repository folder and probes what the protocol rests on: files and names can be made
 * durable, staging/ and packs/ are one mount, a rename there does not replace, flock excludes between two descriptors. Each lock and
 * each stage made later looks again at what costs nothing: flock, mounts (ERR_UNSUPPORTED). */
int store_make_folders(const char *repo_path, struct err *err);

struct store_spec {
	const char *path; /* of the repository */
	const struct codec_keys *keys; /* borrowed for the store's life */
	uint64_t footer_cache; /* bytes; 0: 32 MiB */
};
int store_open(const struct store_spec *spec, struct store **out, struct err *err);
void store_close(struct store *s); /* every pack given back */
DEFINE_CLEANUP(store, store_close)
/* Drops cached descriptors and footers of packs that nobody uses (after damage, for tests). Any thread. */
void store_drop_cache(struct store *s);

/* --- locks/NAME: who is alive --- */
/* Makes a lock file with a random name, locked; fills name (64 bytes).  The lock ends with *fd. */
int store_lock_make(struct store *s, char name[64], int *fd, struct err *err);
/* 1: somebody holds it; 0: nobody (or no file). */
int store_lock_held(struct store *s, const char *name, struct err *err);
int store_lock_remove(struct store *s, const char *name, struct err *err);
/* A name that leads out of locks/ is that of no file: not held, and nothing is removed.
 * Removes a lock file that no lease names, unless somebody holds it; safe beside store_lock_make. */
int store_lock_sweep(struct store *s, const char *name, struct err *err);
/* Names of lock files; fn returns 0 to go on. */
int store_locks_each(struct store *s, int (*fn)(void *opaque, const char *name, struct err *err),
		     void *opaque, struct err *err);

/* --- reading: any thread; one struct store_reader a thread at a time --- */
struct store_reader;
int store_reader_new(struct store *s, struct store_reader **out, struct err *err);
void store_reader_free(struct store_reader *r);
DEFINE_CLEANUP(store_reader, store_reader_free)
struct codec_ctx *store_reader_codec(struct store_reader *r); /* borrowed */

struct store_pack; /* a pack file that is open, with its footer; counted */
/* ERR_NOT_FOUND: no such file; ERR_DAMAGED: header, trailer or footer do not hold. */
int store_pack_get(struct store *s, uint64_t number, struct store_pack **out, struct err *err);
void store_pack_put(struct store_pack *p);
DEFINE_CLEANUP(store_pack, store_pack_put)
/* NULL: the slot is not in the file. Borrowed until put. */
const struct footer_entry *store_pack_entry(const struct store_pack *p, uint32_t slot);
const struct footer_entry *store_pack_entries(const struct store_pack *p, unsigned *count);
unsigned store_pack_suite(const struct store_pack *p); /* cipher suite of its header */
uint64_t store_pack_size(const struct store_pack *p); /* bytes */

/* Reads and opens a record into dst (cap bytes); fills *len.  id: what it must be, or NULL; by_hash: recompute the content
 * id from the plaintext. */
int store_record_read(struct store *s, struct store_reader *r, uint64_t locator,
		      enum object_type type, const uint8_t *id, bool by_hash, void *dst, size_t cap,
		      size_t *len, struct err *err);

/* Tells the kernel that header and footer of a pack that is not open yet will be read soon, so that several packs can be
 * opened at the price of one wait.  A hint; does not wait for the disk but where the file system does to find the file. */
void store_pack_willneed(struct store *s, uint64_t number);
/* Tells the kernel that `count` records from a locator on (consecutive slots) will be read soon.  A hint. */
void store_records_willneed(struct store *s, uint64_t locator, unsigned count);

/* --- writing: one thread at a time a stage or writer --- */
struct store_stage; /* staging/TOKEN and the folders to sync */
int store_stage_begin(struct store *s, uint64_t token, struct store_stage **out, struct err *err);
/* fsync of each folder into which this stage renamed since the last call (I7). */
int store_stage_sync(struct store_stage *st, struct err *err);
/* Removes the folder and what is left in it; frees. */
int store_stage_end(struct store_stage *st, struct err *err);
/* Frees only: what a killed process would leave. */
void store_stage_abandon(struct store_stage *st);
/* Sweep S2 for a token; missing is fine. */
int store_stage_remove(struct store *s, uint64_t token, struct err *err);
/* Tokens that have a folder in staging/. */
int store_stages_each(struct store *s, int (*fn)(void *opaque, uint64_t token, struct err *err),
		      void *opaque, struct err *err);

struct store_writer; /* a pack being written */
int store_writer_new(struct store_stage *st, uint64_t number, enum pack_kind kind,
		     struct store_writer **out, struct err *err);
void store_writer_free(struct store_writer *w); /* the staged file stays for stage_end */
DEFINE_CLEANUP(store_writer, store_writer_free)
struct store_append {
	enum object_type type;
	const uint8_t *id;
	uint32_t plain_len;
	enum object_codec codec;
	int level;
	uint64_t xxh3; /* of the plaintext, for suite 0 */
	const void *payload; /* plain or compressed, as codec says */
	size_t n; /* bytes of payload */
};
/* Seals and appends; fills *locator. */
int store_writer_append(struct store_writer *w, struct codec_ctx *ctx, const struct store_append *a,
			uint64_t *locator, struct err *err);
bool store_writer_full(const struct store_writer *w);
uint64_t store_writer_number(const struct store_writer *w);
uint32_t store_writer_slots(const struct store_writer *w);
uint64_t
store_writer_bytes(const struct store_writer *w); /* of the file so far, or whole after finish */
const struct footer_entry *store_writer_entries(const struct store_writer *w, unsigned *count);
/* Footer, trailer, fdatasync, then the whole file read back through decoding and hash (I5).  May run on another thread. */
int store_writer_finish(struct store_writer *w, struct store_reader *r, struct err *err);
/* Rename into packs/ (I6). */
int store_writer_publish(struct store_writer *w, struct err *err);

/* Sweep S3, G9: removes a pack's file; missing is fine (returns 0; 1 if it was there). */
int store_pack_remove(struct store *s, uint64_t number, struct err *err);
/* fsync of the pack's folder; none is fine. */
int store_pack_folder_sync(struct store *s, uint64_t number, struct err *err);
/* Numbers of all files in packs/, ascending; freed by the caller.  A name that is not a pack's is ERR_DAMAGED, named. */
int store_packs_list(struct store *s, uint64_t **numbers, size_t *count, struct err *err);
/* The highest number of a file in packs/, 0 if there is none; other names are passed over. */
int store_packs_newest(struct store *s, uint64_t *number, struct err *err);

/* --- replacing packs: for the holder of the maintenance lease only --- */
struct rewrite_spec {
	uint64_t number;
	const uint8_t *
		keep; /* bit i of byte i / 8: slot i goes into the new file, if the old one has it */
	uint32_t keep_bytes;
	/* Slots that are not copied but sealed anew (healing), also such as the old file's footer has not; ascending slots, all in keep. */
	const struct rewrite_slot {
		uint32_t slot;
		struct store_append append; /* type, id, plain_len, codec, level, xxh3, payload, n */
	} * fresh;
	size_t nfresh;
	bool skip_bad; /* leave bad records out (footer repair) instead of giving up */
	bool from_records; /* do not trust footer and trailer: walk the records (store_pack_scan) */
};
struct rewrite_result {
	uint64_t old_bytes, new_bytes; /* of the files */
	uint32_t slots; /* in the new trailer: highest slot ever used + 1 */
	uint32_t *bad; /* kept slots whose record failed its check; owned */
	size_t nbad;
};
void rewrite_result_release(struct rewrite_result *r);
/* G9b, first half: makes the new file in staging/TOKEN: same number, slots, salt, suite and epoch, new instance; records copied byte for
 * byte after a check (tag or XXH3, content id), fdatasync, read back.  Reads the file that is there, not a cached one.  Returns 0 if it is
 * made; 1 if there are bad records (listed in result) and skip_bad is false: nothing was made; ERR_NOT_FOUND; ERR_DAMAGED if the old file
 * cannot be used at all.  After an error nothing is left in the stage, and *result is as it was; else it is to be released. */
int store_pack_rewrite(struct store_stage *st, struct store_reader *r,
		       const struct rewrite_spec *spec, struct rewrite_result *result,
		       struct err *err);
/* A pack that has no file: makes one of these slots alone, under the same number, durably read back and renamed into place (never over
 * another: ERR_EXISTS).  store_stage_sync makes the rename durable. */
int store_pack_remake(struct store_stage *st, struct store_reader *r, uint64_t number,
		      enum pack_kind kind, const struct rewrite_slot *fresh, size_t nfresh,
		      uint64_t *bytes, struct err *err);
/* G9b, second half: renames it over the old file (ERR_FENCED if the folder is gone, ERR_NOT_FOUND if there is no old file, ERR_PERM if
 * that is immutable: the old one stands, named) and forgets the cached one.  store_stage_sync makes
 * it durable (G9c). */
int store_pack_replace(struct store_stage *st, uint64_t number, struct err *err);
/* True if the pack's file is known not to let itself be replaced or removed (immutable): saves writing a new one in vain. */
bool store_pack_fixed(struct store *s, uint64_t number);
/* Moves a file of packs/ or index/ into quarantine/ under a name that tells what it was and is free; synced. Fills *name (freed by the caller): the path in the repository. */
int store_pack_quarantine(struct store *s, uint64_t number, char **name, struct err *err);
/* The same, but the file stays where it is too: a second name for its bytes before another file takes its place. */
int store_pack_quarantine_copy(struct store *s, uint64_t number, char **name, struct err *err);
int store_segment_quarantine(struct store *s, uint64_t number, char **name, struct err *err);

/* Walks a pack's records by their own headers, without footer: calls fn (0 to go on, else the walk ends with that value) for each record
 * whose header holds, in file order, which is the order of the slots; ok: it also opened (tag or XXH3; hash for map objects).  Bytes that are no record are skipped until the next one (resynchronising at the record magic), and counted.
 * What is found behind such a gap counts only if it cannot be the record of another pack that lies, as data, in a record of this one:
 * store/pack-scan.c says how.  ERR_DAMAGED if the pack's header itself does not hold; ERR_KEY without the key. */
struct scan_result {
	struct pack_header header;
	uint64_t bytes,
		lost_bytes; /* of the file; of it not part of a record, footer and trailer left aside where they hold */
	bool footer_good; /* footer and trailer hold and list just these records */
};
int store_pack_scan(struct store *s, struct store_reader *r, uint64_t number,
		    int (*fn)(void *opaque, const struct footer_entry *e, bool ok, struct err *err),
		    void *opaque, struct scan_result *out, struct err *err);
/* Bytes of a record in the file, header included. */
uint32_t store_entry_bytes(const struct footer_entry *e);

/* --- chunk index: a hint for dedup --- */
struct index_entry {
	uint8_t key[SEGMENT_KEY_LEN];
	uint64_t locator;
};
/* Writes a segment of n entries, sorted here, through the stage: write, sync, rename, folder sync (I8). */
int store_segment_write(struct store_stage *st, uint64_t number, struct index_entry *entries,
			size_t n, struct err *err);
/* Merges segments into one under a new number, streaming.  keep: false for the locator of an entry that is to be left out (the same
 * answer each time; equal entries become one), or NULL: all stay.  *records: of the new one. */
int store_segment_merge(struct store_stage *st, uint64_t number, const uint64_t *old, size_t nold,
			bool (*keep)(void *opaque, uint64_t locator), void *opaque,
			uint64_t *records, struct err *err);
int store_segment_remove(struct store *s, uint64_t number, struct err *err);
/* fsync of the index folder. */
int store_segment_folder_sync(struct store *s, struct err *err);
/* Reads everything and compares the checks and the order. */
int store_segment_check(struct store *s, uint64_t number, struct err *err);
/* Its entries in order (fn: 0 to go on, else the walk ends with that value); ERR_DAMAGED may come after some. */
int store_segment_each(struct store *s, uint64_t number,
		       int (*fn)(void *opaque, const struct index_entry *e, struct err *err),
		       void *opaque, struct err *err);
/* How many its header says it has. */
int store_segment_records(struct store *s, uint64_t number, uint64_t *records, struct err *err);
int store_segments_list(struct store *s, uint64_t **numbers, size_t *count, struct err *err);

struct store_index; /* a set of open segments; any thread */
int store_index_new(struct store *s, struct store_index **out, struct err *err);
void store_index_free(struct store_index *x);
DEFINE_CLEANUP(store_index, store_index_free)
/* Opens a listed segment and adds it; one that is lost or bad is an error that the caller may pass over. */
int store_index_add(struct store_index *x, uint64_t number, struct err *err);
void store_index_drop(struct store_index *x, uint64_t number);
uint64_t store_index_memory(const struct store_index *x); /* bytes resident */
#define INDEX_CANDIDATES 4
struct index_query {
	const uint8_t *id; /* in: ID_LEN bytes */
	uint64_t locators[INDEX_CANDIDATES]; /* out: to be confirmed by footers */
	unsigned count;
};
/* Looks up n at once: bloom first, pages of the rest are asked for together, then read in order. Read errors are misses. */
void store_index_lookup(struct store_index *x, struct index_query *queries, size_t n);

#endif
