/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Shared by the files of an overlay's life cycle (repo/overlay.c, overlay-folder.c, overlay-stack.c, overlay-attach.c,
 * overlay-view.c, overlay-control.c, overlay-seal.c).  Face: repo/overlay.h; layers: repo/overlay-internal.h.
 */
#ifndef LIVEPOINT_REPO_OVERLAY_LIFE_INTERNAL_H
#define LIVEPOINT_REPO_OVERLAY_LIFE_INTERNAL_H

#include "catalog/overlay.h"
#include "repo/overlay-internal.h"
#include "repo/trace.h"

#define OVERLAY_LAYERS_MAX                                                                         \
	64u /* of one overlay: each seal that failed while it was attached leaves one */

/* --- overlay-folder.c: the files of overlays/ID/ but those of layers.  Any thread --- */
#define OVERLAY_TMP ".tmp" /* ending of the folder of one that is being made */
/* REPO/overlays/ID/FILE; file NULL: the folder; id NULL: overlays/ itself.  NULL: out of memory. */
char *overlay_path(const struct repo *r, const char *id, const char *file);
/* ERR_UNSUPPORTED, with the file system's name, if it may say only at a sync that it is full. */
int overlay_fs_check(const struct repo *r, struct err *err);
/* Takes the lock.  ERR_LOCKED with the holder; ERR_NOT_FOUND: no folder.  *fd is the lock: closing it ends it. */
int overlay_lock(struct repo *r, const char *id, int *fd, struct err *err);
/* Makes the lock's file in a new folder, held. */
int overlay_lock_make(struct repo *r, const char *folder, int *fd, struct err *err);
/* 1: somebody holds it; 0: nobody, or there is none. */
int overlay_lock_held(struct repo *r, const char *id, struct err *err);
/* `attached`: who has it attached, or had it and died.  pid may be NULL; false: the file is not there. */
bool overlay_attached(const struct repo *r, const char *id, int64_t *pid);
int overlay_attached_write(const struct repo *r, const char *id, struct err *err);
int overlay_attached_remove(const struct repo *r, const char *id, struct err *err);
/* `error` (invariant 4 of repo/overlay.h). */
bool overlay_error_is(const struct repo *r, const char *id);
void overlay_error_set(const struct repo *r, const char *id, const char *why); /* best effort */
int overlay_error_clear(const struct repo *r, const char *id, struct err *err);
/* The sentence of ERR_IO that everything gets then. */
int overlay_in_error(const char *id, struct err *err);
/* Reads the header, with its MAC, and compares repository and id.  ERR_NOT_FOUND: there is none.  Released by the caller with
 * overlay_header_release(). */
int overlay_header_load(const struct repo *r, const char *id, struct overlay_header *out,
			struct err *err);
/* Replaces it, durably.  folder: its name in overlays/ (the id, or that with OVERLAY_TMP). */
int overlay_header_store(const struct repo *r, const char *folder, const struct overlay_header *h,
			 struct err *err);
/* Removes files of layers that the header does not name, and what a replacement of the header left.  Under the lock. */
int overlay_strays_remove(const struct repo *r, const struct overlay_header *h, struct err *err);
/* Under the lock: the header follows the row, then strays go (invariant 5 of repo/overlay.h).  ERR_DAMAGED if they cannot
 * belong together. */
int overlay_reconcile(const struct repo *r, const struct overlay_row *row, struct overlay_header *h,
		      struct err *err);
/* Header first, then the rest, then the folder; durable. */
int overlay_folder_remove(const struct repo *r, const char *folder, struct err *err);
/* Bytes that all its files take. */
int overlay_folder_bytes(const struct repo *r, const char *id, uint64_t *bytes, struct err *err);
/* Names in overlays/, a missing folder has none; fn returns 0 to go on. */
int overlay_folders_each(const struct repo *r,
			 int (*fn)(void *opaque, const char *name, struct err *err), void *opaque,
			 struct err *err);

/* --- overlay.c --- */
int overlay_find(struct repo *r, const char *id_or_name, struct overlay_row *out, struct err *err);

/* --- overlay-stack.c: layers over the point's disk, as one reads them.  Immutable; any thread --- */
struct overlay_base { /* the disk of a point, shared by stacks */
	_Atomic unsigned refs;
	struct repo_disk *disk; /* owned */
	struct repo_trace *trace; /* owned; NULL: none */
};
struct overlay_level { /* a layer, shared by stacks */
	_Atomic unsigned refs;
	uint32_t number;
	struct overlay_layer *layer; /* owned */
};
struct overlay_stack;
struct overlay_step { /* what the layer below number i+1 is asked through */
	const struct overlay_stack *stack;
	unsigned level;
};
struct overlay_stack {
	_Atomic unsigned refs;
	struct overlay_base *base; /* counted */
	unsigned count; /* of levels, at least 1; the last one is the top */
	struct overlay_level *levels[OVERLAY_LAYERS_MAX]; /* counted */
	struct overlay_below below[OVERLAY_LAYERS_MAX]; /* of each level */
	struct overlay_step steps[OVERLAY_LAYERS_MAX];
};
struct overlay_open {
	struct repo *repo;
	const struct overlay_header *header;
	struct repo_point *point; /* on which layer `first` stands */
	uint32_t first, last; /* layers */
	bool frozen; /* the last one too */
	bool unclean;
	bool damaged; /* filled: ERR_DAMAGED was a layer's, not the point's */
};
/* One disk of the header, which must be one of the point's, with the same size (else ERR_DAMAGED). */
int overlay_stack_open(struct overlay_open *spec, const struct overlay_header_disk *disk,
		       struct overlay_stack **out, struct err *err);
/* The same disk with another layer on top (top: taken, also when it fails). */
int overlay_stack_grow(const struct overlay_stack *below, uint32_t number,
		       struct overlay_layer *top, struct overlay_stack **out, struct err *err);
/* The levels from number `first` on, over another disk (taken, also when it fails). */
int overlay_stack_rebase(const struct overlay_stack *above, uint32_t first, struct repo_disk *disk,
			 struct overlay_stack **out, struct err *err);
struct overlay_stack *overlay_stack_ref(struct overlay_stack *s);
void overlay_stack_unref(struct overlay_stack *s);
DEFINE_CLEANUP(overlay_stack, overlay_stack_unref)
struct overlay_layer *overlay_stack_top(const struct overlay_stack *s);
const struct overlay_below *overlay_stack_below(const struct overlay_stack *s); /* of the top */
int overlay_stack_read(const struct overlay_stack *s, void *dst, size_t n, uint64_t offset,
		       struct err *err);
/* State of the byte at offset as all layers together have it, and for how many bytes (at most n) it stays so at least. */
int overlay_stack_state(const struct overlay_stack *s, uint64_t offset, uint64_t n,
			enum block_state *state, uint64_t *length, struct err *err);
void overlay_layer_spec_of(const struct repo *r, const struct overlay_header *h,
			   const struct overlay_header_disk *disk, uint32_t number,
			   const char *folder, struct overlay_layer_spec *out);

/* --- overlay-attach.c --- */
enum overlay_use { OVERLAY_OPENING, OVERLAY_OPEN, OVERLAY_CLOSING };
struct overlay_disk_at { /* one disk of an attached overlay */
	const struct overlay_header_disk *info; /* borrowed from the header */
	struct overlay_stack *stack; /* counted; under the overlay's lock */
};
struct repo_overlay {
	struct repo *repo;
	char id[OVERLAY_ID_TEXT];
	/* under repo->overlay_lock: */
	struct repo_overlay *next;
	unsigned refs;
	enum overlay_use use;

	int lock_fd;
	_Atomic bool error;
	struct overlay_disk_at *disks; /* owned */
	size_t ndisks;

	pthread_mutex_t lock; /* guards what follows; memory work only */
	pthread_cond_t changed;
	bool held; /* a freeze is at work: nobody begins to write */
	unsigned writing; /* requests that write or flush */

	/* of the control thread, and of who attaches and detaches: */
	struct overlay_header header;
	struct repo_point *point;
	bool header_failed; /* what is on disk is unknown: no freeze any more */
	struct overlay_control *control;
};
/* A request that writes or flushes begins: waits while a freeze holds them.  Returns the disk's stack, counted. */
struct overlay_stack *overlay_write_begin(struct repo_overlay *o, struct overlay_disk_at *d);
void overlay_write_end(struct repo_overlay *o, struct overlay_stack *stack);
struct overlay_stack *overlay_read_begin(struct repo_overlay *o, struct overlay_disk_at *d);
/* A layer's sync has failed: the overlay is in error from now on. */
void overlay_failed(struct repo_overlay *o, const char *why);
/* Both for the control thread.  first, last: layers that are frozen afterwards. */
int overlay_freeze(struct repo_overlay *o, uint32_t *first, uint32_t *last, struct err *err);
/* Follows the row, if a seal has moved it. */
int overlay_rebase(struct repo_overlay *o, struct err *err);

/* --- overlay-control.c: the socket `control`, and both ends of what is spoken there --- */
struct overlay_control;
/* Binds the socket and starts a thread that serves it. */
int overlay_control_start(struct repo_overlay *o, struct overlay_control **out, struct err *err);
/* Ends the thread, after what it is at; removes the socket. NULL is fine. */
void overlay_control_stop(struct overlay_control *c);
struct overlay_client; /* of a seal */
/* Connects and waits for the greeting until `until` (monotonic, ns).  ERR_NOT_FOUND: nobody listens; ERR_LOCKED: another seal
 * is at work, or no answer. */
int overlay_client_open(struct repo *r, const char *id, uint64_t until, const volatile int *stop,
			struct overlay_client **out, struct err *err);
void overlay_client_close(struct overlay_client *c);
DEFINE_CLEANUP(overlay_client, overlay_client_close)
int overlay_client_freeze(struct overlay_client *c, uint32_t *first, uint32_t *last,
			  struct err *err);
int overlay_client_rebase(struct overlay_client *c, struct err *err);

#endif
