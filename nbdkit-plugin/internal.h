/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Shared by the files of nbdkit-plugin/ only. */
#ifndef LIVEPOINT_NBDKIT_PLUGIN_INTERNAL_H
#define LIVEPOINT_NBDKIT_PLUGIN_INTERNAL_H

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "repo/overlay.h"

#define EXPORT_NAME_MAX (POINT_TEXT_MAX + 1 + DISK_NAME_MAX_LEN) /* NAME@TIME/DISK and its 0 */
#define EXPORT_TEXT_MAX 384 /* a description, or a name made fit to be shown */

/* What point= or overlay= leaves to be served. */
enum scope {
	SCOPE_ALL, /* every point and overlay of the repository, also those made later */
	SCOPE_POINT, /* this one, pinned from start to end */
	SCOPE_LATEST, /* the newest of this name, looked up for each connection */
	SCOPE_OVERLAY, /* this one, attached from start to end */
};
struct serving {
	enum scope scope;
	uint8_t id[POINT_ID_LEN]; /* SCOPE_POINT */
	char name[NAME_MAX_LEN + 1]; /* SCOPE_LATEST */
	char overlay[OVERLAY_ID_LEN + 1]; /* SCOPE_OVERLAY */
	char text[POINT_TEXT_MAX]; /* NAME@TIME, NAME@latest, or the overlay's id */
	char disk[DISK_NAME_MAX_LEN + 1]; /* "": all disks of the point or overlay */
};

/* --- config.c: parameters; written before the fork, read only afterwards --- */
struct plugin_config {
	char *repo; /* owned: absolute path */
	char *passphrase_file; /* owned or NULL */
	const char *point, *overlay; /* nbdkit's; both NULL: all */
	uint64_t cache; /* bytes of decoded chunks */
	int key_fd, passphrase_fd, lock_fd; /* -1: not given */
	bool has_key;
	uint8_t key[REPO_KEYS_MAX]; /* of all epochs, from config_check() until the server has them */
	size_t key_len; /* bytes */
	struct serving serving;
};
extern struct plugin_config plugin_config;

/* .config: 0 or -1, after nbdkit_error(). */
int config_parameter(const char *key, const char *value);
/* Opens the repository, proves the key, resolves point= and overlay=, and closes it again: no SQLite handle, no thread and no child
 * is left when it returns.  Fills has_key, key and serving. */
int config_check(struct err *err);
/* Opens it for good, after the fork, and wipes the key.  out: repo_close() by the caller. */
int config_open(struct repo **out, struct err *err);
void config_release(void);

/* --- exports.c: names of exports; any thread --- */
struct export_target {
	char overlay[OVERLAY_ID_LEN + 1]; /* "": a point */
	char overlay_text[EXPORT_TEXT_MAX]; /* description, of an overlay's disk */
	uint8_t id[POINT_ID_LEN]; /* of a point */
	char disk[DISK_NAME_MAX_LEN + 1]; /* "": the only one */
	bool fixed; /* the name means this point for ever: several connections see one disk */
};
/* name: untrusted bytes of a client.  ERR_INVALID for what no name looks like, else as repo_resolve(). */
int export_find(struct repo *r, const struct serving *s, const char *name,
		struct export_target *out, struct err *err);
/* Fills dst with the name that the empty one stands for; ERR_AMBIGUOUS if there is not just one disk. */
int export_default(struct repo *r, const struct serving *s, char dst[EXPORT_NAME_MAX],
		   struct err *err);
/* Hands names, overlays and then the newest point first, with descriptions to nbdkit; at most EXPORTS_LISTED_MAX. */
#define EXPORTS_LISTED_MAX 10000 /* nbdkit refuses more and would then list none */
int export_list(struct repo *r, const struct serving *s, struct nbdkit_exports *out,
		struct err *err);
/* "10.0 GiB, full, 2026-11-20T14:03:07Z" */
void export_describe(const struct manifest *m, const struct manifest_disk *d,
		     char dst[EXPORT_TEXT_MAX]);
/* "10.0 GiB" */
void export_size_text(uint64_t bytes, char *dst, size_t size);

/* --- overlays.c: names of overlays' disks; any thread --- */
/* Parts of "WHAT/DISK": fills what (at most size bytes) and *disk, borrowed from name, "" if there is none.  False if WHAT does
 * not fit. */
bool overlay_name_split(const char *name, char *what, size_t size, const char **disk);
/* Returns 1 and fills *t if the name is an overlay's, 0 if there is none of that name, or a code.  With overlay= every name is
 * taken for an overlay's, and 0 is never returned. */
int overlay_export_find(struct repo *r, const struct serving *s, const char *name,
			struct export_target *t, struct err *err);
/* The name that the empty one stands for, with overlay=. */
int overlay_export_default(struct repo *r, const struct serving *s, char dst[EXPORT_NAME_MAX],
			   struct err *err);
/* *left counts names down. */
int overlay_export_list(struct repo *r, const struct serving *s, struct nbdkit_exports *out,
			unsigned *left, struct err *err);

/* --- requests.c: what a client asks for on an open connection; any thread --- */
/* A disk of a point, or of an overlay: the other half is NULL. */
struct connection {
	struct connection *before, *after; /* of those that are open */
	struct repo_point *point;
	struct repo_disk *disk;
	struct repo_stream *stream;
	struct repo_overlay *overlay;
	struct repo_view *view;
	bool fixed;
	char description[EXPORT_TEXT_MAX];
};
int request_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags);
int request_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset, uint32_t flags);
int request_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags);
int request_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags);
int request_flush(void *handle, uint32_t flags);
int request_cache(void *handle, uint32_t count, uint64_t offset, uint32_t flags);
int request_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
		    struct nbdkit_extents *extents);
/* Log line and error number for the client, in one; returns -1. */
int request_failed(const struct err *err);

#endif
