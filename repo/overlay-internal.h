/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Shared by the files of overlays in repo/ only.  Face: repo/overlay.h. */
#ifndef LIVEPOINT_REPO_OVERLAY_INTERNAL_H
#define LIVEPOINT_REPO_OVERLAY_INTERNAL_H

#include "format/overlay.h"
#include "repo/internal.h"
#include "repo/overlay.h"

/* --- overlay-layer.c, overlay-state.c, overlay-log.c: one layer of one disk: DISK.N.data and DISK.N.log --- */
struct overlay_layer;
struct overlay_layer_spec {
	const char *folder; /* overlays/ID */
	const char *disk;
	uint64_t size; /* bytes of the disk */
	uint32_t number; /* of the layer, from 1 */
	const struct codec_keys *keys; /* suite 0: neither encrypted nor authenticated */
	const struct overlay_header *header; /* salt, epoch: borrowed for the call */
};
/* Makes both files, durably but for the folder's sync. */
int overlay_layer_create(const struct overlay_layer_spec *spec, struct err *err);
/* unclean: its holder died: the data file is synced and dropped from the page cache before the first read.  frozen: only read.
 * ERR_DAMAGED: the log does not hold (a torn tail is no damage: it is cut off when not frozen). */
int overlay_layer_open(const struct overlay_layer_spec *spec, bool frozen, bool unclean,
		       struct overlay_layer **out, struct err *err);
void overlay_layer_close(struct overlay_layer *l); /* does not flush */
DEFINE_CLEANUP(overlay_layer, overlay_layer_close)

/* What is below a layer: another layer or the point's disk. */
struct overlay_below {
	int (*read)(void *opaque, void *dst, size_t n, uint64_t offset, struct err *err);
	void *opaque;
};
enum block_state { BLOCK_BASE = 0, BLOCK_DATA = 1, BLOCK_ZERO = 2 };
/* States of [offset, offset + n): calls fn for maximal runs, clipped to the range, ascending; fn returns 0 to go on, 1 to stop. */
int overlay_layer_runs(struct overlay_layer *l, uint64_t offset, uint64_t n,
		       int (*fn)(void *opaque, enum block_state state, uint64_t start,
				 uint64_t length, struct err *err),
		       void *opaque, struct err *err);
int overlay_layer_read(struct overlay_layer *l, const struct overlay_below *below, void *dst,
		       size_t n, uint64_t offset, struct err *err);
int overlay_layer_write(struct overlay_layer *l, const struct overlay_below *below, const void *src,
			size_t n, uint64_t offset, struct err *err);
int overlay_layer_zero(struct overlay_layer *l, const struct overlay_below *below, uint64_t n,
		       uint64_t offset, struct err *err);
int overlay_layer_trim(struct overlay_layer *l, uint64_t n, uint64_t offset, struct err *err);
/* A failure is for ever: ERR_IO from then on for everything but close. */
int overlay_layer_flush(struct overlay_layer *l, struct err *err);
bool overlay_layer_failed(const struct overlay_layer *l);
/* Bytes of data and log that are allocated. */
int overlay_layer_bytes(const struct overlay_layer *l, uint64_t *bytes, struct err *err);
/* Reads every data block past the page cache. */
int overlay_layer_check(struct overlay_layer *l, struct err *err);

#endif
