/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Overlays (writable views, repo/overlay.h): a row each, which pins the point that the overlay stands on.
 *
 * Invariants:
 *  1. A point that a row stands on is never expired; forgetting it is allowed, and a reader can pin it then.
 *  2. A row goes there -> going -> away; files are removed while it is going, so a row is there longer than any file.
 *  3. Publishing a sealed point moves the row, or lets it go, in the same transaction (struct session_done), and only if the
 *     row still stands where the seal began.
 */
#ifndef LIVEPOINT_CATALOG_OVERLAY_H
#define LIVEPOINT_CATALOG_OVERLAY_H

#include "catalog/catalog.h"
#include "format/overlay.h"

struct overlay_row {
	char id[OVERLAY_ID_TEXT];
	char name[NAME_MAX_LEN + 1]; /* "": none */
	uint8_t point[POINT_ID_LEN]; /* that it stands on; zeroes of one that is going */
	int64_t created; /* seconds */
	uint32_t layer; /* the first that counts, from 1 */
	bool going; /* discarded or sealed: its files may be removed */
	bool sealed; /* going because it became: */
	uint8_t sealed_as[POINT_ID_LEN];
};

/* Adds a row that is there (going, sealed are ignored).  ERR_NOT_FOUND: the point is not there, or expired; ERR_EXISTS: the id
 * or, among those that are there, the name is taken; ERR_INVALID: no id, no NAME, or a NAME that looks like an id. */
int catalog_overlay_insert(struct catalog *c, const struct overlay_row *row, struct audit *audit,
			   struct err *err);
/* All rows, oldest first; *out is freed by the caller. */
int catalog_overlays(struct catalog *c, struct overlay_row **out, size_t *count, struct err *err);
/* One that is there, by id or else by name; ERR_NOT_FOUND. */
int catalog_overlay_find(struct catalog *c, const char *id_or_name, struct overlay_row *out,
			 struct err *err);
/* there -> going: the pin ends.  ERR_NOT_FOUND. */
int catalog_overlay_going(struct catalog *c, const char *id, struct audit *audit, struct err *err);
/* Removes a row that is going; none is fine. */
int catalog_overlay_delete(struct catalog *c, const char *id, struct err *err);

/* What publishing a sealed point does to the overlay (struct session_done).  ERR_LOCKED, and nothing is published, if the
 * row is not there or stands elsewhere. */
struct overlay_sealed {
	char id[OVERLAY_ID_TEXT];
	uint8_t point[POINT_ID_LEN]; /* where it stands: */
	uint32_t layer;
	uint32_t next; /* the first layer above the new point; 0: the overlay is going */
};

#endif
