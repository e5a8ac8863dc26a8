/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Overlays: writable views of a restore point that survive crashes, can be attached again, thrown away, or sealed into a
 * new restore point.
 *
 * An overlay is the folder overlays/ID/ and a row of the catalog, which pins its point.  It has all disks of its point, each
 * as a stack of layers over the point's disk: a layer is a sparse data file at the disk's own offsets and a state log;
 * each block of OVERLAY_BLOCK bytes is in state base (look below), data or zero.  Only the top layer is written; there is
 * more than one only while, or after, a seal of an attached overlay froze the one below.
 *
 * Path of a write: repo_view_write -> range lock (blocks) -> what is missing of an edge block from below -> data file -> state in
 * memory and pending set -> answer.  Flush: take the pending set; fdatasync of the data file; the set as one record at the end
 * of the state log; fdatasync; answer.  Formats and the order of writes: livepoint-repository(5), docs/PROTOCOL.md.
 *
 * Invariants:
 *  1. Nothing but a record in the state log makes a block's state durable, and it is written after a fdatasync of the data file
 *     that began after each write in it had been made.
 *  2. After kill -9 or a power cut every flushed write is there, and every other 512-byte sector is old or new; after kill -9
 *     alone every answered write is there (overlay-live.c): a client that finds its server again may take it for durable.
 *  3. One process holds an overlay: flock on its header.
 *  4. After a failed sync, or a state log that does not hold, the overlay is in error (every write, flush and read of overlay
 *     data is ERR_IO), also after a restart, until repo_overlay_check() or discard.
 *  5. The catalog's row says from which layer on, and on which point, the overlay stands: the transaction that publishes a
 *     sealed point moves it.  Files of lower layers, and of an overlay whose row says it goes, are removed afterwards.
 *  6. A folder without a row is never removed: repair gives it its row back.
 */
#ifndef LIVEPOINT_REPO_OVERLAY_H
#define LIVEPOINT_REPO_OVERLAY_H

#include "repo/repo.h"
#include "repo/session.h"

#define OVERLAY_ID_LEN 9 /* 'o' and eight hexadecimal digits */
#define OVERLAY_BLOCK 4096u /* bytes */

struct overlay_disk {
	char name[DISK_NAME_MAX_LEN + 1];
	uint64_t size; /* bytes */
};
struct overlay_info {
	char id[OVERLAY_ID_LEN + 1];
	char name[NAME_MAX_LEN + 1]; /* "": none */
	uint8_t point[POINT_ID_LEN]; /* that it stands on now */
	char point_text[POINT_TEXT_MAX];
	struct overlay_disk *disks; /* owned; in the point's order */
	size_t ndisks;
	int64_t created; /* seconds since 1970 UTC */
	uint64_t bytes; /* allocated by its files */
	bool attached; /* somebody holds it: */
	int64_t pid; /* who, for messages; 0: unknown */
	bool error; /* invariant 4 */
};
void overlay_infos_free(struct overlay_info *list, size_t count);
/* Oldest first.  Needs no key. */
int repo_overlays(struct repo *r, struct overlay_info **out, size_t *count, struct err *err);
/* By id or name; ERR_NOT_FOUND.  Release with overlay_infos_free(out, 1), which frees out itself. */
int repo_overlay_find(struct repo *r, const char *id_or_name, struct overlay_info **out,
		      struct err *err);

/* A new one over all disks of the point; name: NULL or a NAME that no overlay has (ERR_EXISTS).  The repository is REPO_WRITE and
 * unlocked.  Refuses a file system that does not reserve space at write time (ERR_UNSUPPORTED). */
int repo_overlay_create(struct repo *r, const uint8_t point[POINT_ID_LEN], const char *name,
			char id[OVERLAY_ID_LEN + 1], struct err *err);
/* Throws it away, with its row and pin.  ERR_LOCKED with the holder while it is attached; ERR_NOT_FOUND. */
int repo_overlay_discard(struct repo *r, const char *id_or_name, struct err *err);
/* Reads all of it, past the page cache, and ends the error state if all can be read.  What was written and not flushed before the
 * error may be lost; text of the findings is appended to out.  ERR_DAMAGED: it stays in error. */
int repo_overlay_check(struct repo *r, const char *id_or_name, struct buf *out, struct err *err);
/* Ends what crashed discards and seals began.  Done by create, discard, seal, and the sweep of every session. */
int repo_overlay_sweep(struct repo *r, struct err *err);

/* Makes a restore point of it: NAME (NULL: the name of its point), parent its point, cost its changed blocks.  An overlay that is
 * not attached is gone afterwards.  Of an attached one the server is asked (its control socket) to hold writes, flush all disks
 * and freeze; writes go on in a new layer, and the overlay stands on the new point afterwards.  ERR_LOCKED: a seal is at
 * work, or the holder does not answer.  stop: as in struct session_spec. */
struct overlay_seal_spec {
	const char *overlay; /* id or name */
	const char *name; /* or NULL */
	const struct publish_spec *publish;
	unsigned wait_seconds;
	const volatile int *stop;
};
int repo_overlay_seal(struct repo *r, const struct overlay_seal_spec *spec,
		      struct session_result *result, struct err *err);

/* --- attached --- */
struct repo_overlay;
/* Takes the lock; in one process attaching one again gives the same object.  ERR_LOCKED with the holder's pid; ERR_NOT_FOUND.  The
 * repository is started and unlocked; it may be REPO_READ.  Starts a thread for the control socket. */
int repo_overlay_attach(struct repo *r, const char *id_or_name, struct repo_overlay **out,
			struct err *err);
/* The last one flushes; an error of that flush is logged and kept (invariant 4). */
void repo_overlay_detach(struct repo_overlay *o);
DEFINE_CLEANUP(repo_overlay, repo_overlay_detach)
const char *repo_overlay_id(const struct repo_overlay *o);

/* One disk of it.  Any thread, any number of requests at a time. */
struct repo_view;
/* name: NULL for the only one.  Keeps the overlay attached. */
int repo_view_open(struct repo_overlay *o, const char *name, struct repo_view **out,
		   struct err *err);
void repo_view_close(struct repo_view *v);
DEFINE_CLEANUP(repo_view, repo_view_close)
uint64_t repo_view_size(const struct repo_view *v); /* bytes */
/* Any byte range within the size.  Damage of the point below is ERR_DAMAGED, as of repo_disk_read(). */
int repo_view_read(struct repo_view *v, void *dst, size_t n, uint64_t offset, struct err *err);
/* ERR_NOSPC is answered here, never first by a flush. */
int repo_view_write(struct repo_view *v, const void *src, size_t n, uint64_t offset,
		    struct err *err);
/* All bytes of the range read as zeroes afterwards; edges of blocks are written. */
int repo_view_zero(struct repo_view *v, uint64_t n, uint64_t offset, struct err *err);
/* Whole blocks of the range become zero; edges stay as they are. */
int repo_view_trim(struct repo_view *v, uint64_t n, uint64_t offset, struct err *err);
/* Every write of any connection that was answered before is durable afterwards. */
int repo_view_flush(struct repo_view *v, struct err *err);
/* As repo_disk_extents(), of what would be read: overlay data is data, zeroed blocks are holes. */
int repo_view_extents(struct repo_view *v, uint64_t offset, uint64_t n,
		      int (*fn)(void *opaque, const struct extent *e, struct err *err),
		      void *opaque, struct err *err);
/* Read-ahead, for what lies in the point; as repo_stream_hint() and repo_disk_prefetch(). */
void repo_view_hint(struct repo_view *v, uint64_t offset, size_t n);
void repo_view_prefetch(struct repo_view *v, uint64_t offset, uint64_t n);

#endif
