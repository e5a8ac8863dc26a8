/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A repository, and a restore point in it as an object: what NBD, FUSE, restore and verify stand on.
 *
 * Path of a block out: repo_disk_read -> leaf (LRU) -> hole? zeroes -> chunk cache (decoded, bounded by bytes; a second
 * reader of a chunk that is being decoded waits for it) -> store: pack footer, one pread, open -> slice.
 *
 * Invariants:
 *  1. Bytes that leave here were verified (tag or XXH3, and the record's id against the footer); damage is ERR_DAMAGED
 *     with id, pack and offset in the log, never zeroes, never a short read.
 *  2. Opening a point reads its manifest and takes everything from it; a row that differs is ERR_DAMAGED.
 *  3. Opening costs the same for any point: catalog row, one manifest, one root.
 *  4. Nothing here starts a thread before repo_start(), and no SQLite connection lives across a fork: programs that
 *     fork open the repository afterwards.
 *
 * A struct repo, repo_point and repo_disk may be used by any thread, after repo_start().
 */
#ifndef LIVEPOINT_REPO_REPO_H
#define LIVEPOINT_REPO_REPO_H

#include "catalog/catalog.h"
#include "format/format.h"

struct repo;

/* --- making and opening --- */
struct repo_init_spec {
	unsigned suite; /* 0: plain */
	const void *passphrase; /* with a suite */
	size_t passphrase_len;
	uint32_t chunk_size; /* bytes; 0: default */
	int compression; /* enum compression; -1: default */
	uint64_t kdf_n; /* 0: default */
	uint64_t grace; /* seconds that forgotten points can come back (repo/retention.h) */
	struct conf *made; /* fills: the header that was written; or NULL */
};
/* Turns a missing or empty folder into a repository (0700); anything else is refused (ERR_EXISTS). A failure half way
 * removes what it made. */
int repo_init(const char *path, const struct repo_init_spec *spec, struct err *err);

enum repo_mode { REPO_READ, REPO_WRITE };
/* Reads livepoint.conf and opens the catalog.  REPO_READ also works on read-only media (no lease then).  Needs no key: lists work. */
int repo_open(const char *path, enum repo_mode mode, struct repo **out, struct err *err);
void repo_close(struct repo *r); /* every point and disk must be closed */
DEFINE_CLEANUP(repo, repo_close)
const struct conf *repo_conf(const struct repo *r);
const char *repo_path(const struct repo *r);

/* True until a key was given to an encrypted repository; reading contents is then ERR_KEY. */
bool repo_is_locked(const struct repo *r);
/* passphrase: also a recovery key, as a person types it.  Tries every slot; ERR_KEY.  in_process: no child process for scrypt.
 * With REPO_WRITE it also ends what a change of keys that crashed has begun. */
int repo_unlock(struct repo *r, const void *passphrase, size_t n, bool in_process, struct err *err);
/* The keys of all epochs (n bytes: KEY_LEN each), as handed to servers; keys/ is not looked at. */
int repo_unlock_raw(struct repo *r, const uint8_t *raw, size_t n, struct err *err);
#define REPO_KEYS_MAX (KEY_EPOCHS_MAX * KEY_LEN)
int repo_export_key(const struct repo *r, uint8_t out[REPO_KEYS_MAX], size_t *n, struct err *err);

/* Sizes the caches and starts the pool; call once, after forks.  cache_bytes: decoded chunks (0: 64 MiB);
 * threads: of read-ahead and of sessions (0: as many as CPUs; REPO_SERIAL: none, everything in the caller). */
#define REPO_SERIAL UINT32_MAX
int repo_start(struct repo *r, uint64_t cache_bytes, uint32_t threads, struct err *err);

/* --- finding points: POINT and POINT/DISK of DESIGN 6 --- */
struct repo_spec {
	struct point_row row;
	char disk[DISK_NAME_MAX_LEN + 1]; /* "" if none was named */
	bool latest; /* it was asked for as @latest, or by NAME alone */
};
void repo_spec_release(struct repo_spec *s);
/* text: NAME@TIME, NAME@latest, NAME, hexadecimal id or unique prefix, each optionally with /DISK.  ERR_NOT_FOUND with near
 * matches in the text, ERR_AMBIGUOUS with a list, ERR_UNSUPPORTED for /volumes/... */
int repo_resolve(struct repo *r, const char *text, struct repo_spec *out, struct err *err);
int repo_points(struct repo *r, const struct point_filter *f, struct point_list *out,
		struct err *err);
/* "NAME@TIME" of a row or manifest; fills at most POINT_TEXT_MAX bytes. */
#define POINT_TEXT_MAX (NAME_MAX_LEN + 1 + TIME_TEXT_MAX)
void repo_point_text(const struct manifest *m, char dst[POINT_TEXT_MAX]);

/* --- an open point --- */
struct repo_point;
/* Reads the manifest, pins the point.  Shared: opening one point again gives the same object. */
int repo_point_open(struct repo *r, const uint8_t id[POINT_ID_LEN], struct repo_point **out,
		    struct err *err);
void repo_point_close(struct repo_point *p);
DEFINE_CLEANUP(repo_point, repo_point_close)
const struct manifest *
repo_point_manifest(const struct repo_point *p); /* borrowed for the point's life */

/* --- files kept with a point: configs of the manifest --- */
/* NULL if there is none of that name. Borrowed. */
const struct manifest_config *repo_config_find(const struct manifest *m, const char *name);
/* Appends all of a file (at most CONFIG_BYTES_MAX) to out.  ERR_NOT_FOUND names those that there are; ERR_DAMAGED. */
int repo_config_read(struct repo_point *p, const char *name, struct buf *out, struct err *err);
/* The manifest of a row, for what the row does not cache (those files), without a pin and without repo_start().  ERR_KEY. */
int repo_manifest_read(struct repo *r, const struct point_row *row, struct manifest **out,
		       struct err *err);

struct repo_disk;
/* name: a disk's, or NULL for the only one (ERR_AMBIGUOUS if there are several).  Keeps the point open. */
int repo_disk_open(struct repo_point *p, const char *name, struct repo_disk **out, struct err *err);
void repo_disk_close(struct repo_disk *d);
DEFINE_CLEANUP(repo_disk, repo_disk_close)
uint64_t repo_disk_size(const struct repo_disk *d); /* bytes */
uint32_t repo_disk_chunk_size(const struct repo_disk *d);
const struct manifest_disk *repo_disk_info(const struct repo_disk *d);
/* Reads exactly n bytes at offset (offset + n within the size).  Unreadable ranges and damage are ERR_DAMAGED. */
int repo_disk_read(struct repo_disk *d, void *dst, size_t n, uint64_t offset, struct err *err);
/* A reader that goes through the disk in order: the same, with read-ahead on the pool.  One stream a connection; one
 * thread at a time may be inside with one stream, but out-of-order offsets are fine. */
struct repo_stream;
int repo_stream_new(struct repo_disk *d, struct repo_stream **out, struct err *err);
void repo_stream_free(struct repo_stream *s); /* before its disk */
/* Tells the stream about a read at offset, before it; any thread. */
void repo_stream_hint(struct repo_stream *s, uint64_t offset, size_t n);
/* Brings chunks of a range into the cache, on the pool; returns at once. */
void repo_disk_prefetch(struct repo_disk *d, uint64_t offset, uint64_t n);

enum extent_kind { EXTENT_HOLE = 0, EXTENT_DATA = 1, EXTENT_UNREADABLE = 2 };
struct extent {
	uint64_t start, length; /* bytes */
	enum extent_kind kind;
};
/* Calls fn for maximal extents of [offset, offset + n), ascending, clipped to the range; fn returns 0 to go on, 1 to stop.
 * From the map only. */
int repo_disk_extents(struct repo_disk *d, uint64_t offset, uint64_t n,
		      int (*fn)(void *opaque, const struct extent *e, struct err *err),
		      void *opaque, struct err *err);

/* --- diff: what is different in B, from the maps only --- */
struct diff_extent {
	uint64_t start, length; /* bytes of B's disk (or of A's beyond B's end: kind hole) */
	bool data; /* B's side: data, or a hole */
};
/* Sorted, maximal, in chunks (the last clipped to the larger size).  a NULL: everything that is data in B. */
int repo_disk_diff(struct repo_disk *a, struct repo_disk *b,
		   int (*fn)(void *opaque, const struct diff_extent *e, struct err *err),
		   void *opaque, struct err *err);

/* --- comparing foreign data with a disk without reading the disk: content ids --- */
/* Fills id of chunk number `chunk` (zeroes: hole); ERR_DAMAGED if unreadable. */
int repo_disk_chunk_id(struct repo_disk *d, uint64_t chunk, uint8_t id[ID_LEN], struct err *err);
/* Content id of plaintext (a full chunk, zero-padded by the caller). Any thread. */
int repo_content_id(struct repo *r, const void *p, size_t n, uint8_t id[ID_LEN], struct err *err);

#endif
