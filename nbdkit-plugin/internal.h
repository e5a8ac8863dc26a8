/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Shared by the files of nbdkit-plugin/ only. */
#ifndef LIVEPOINT_NBDKIT_PLUGIN_INTERNAL_H
#define LIVEPOINT_NBDKIT_PLUGIN_INTERNAL_H

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "repo/repo.h"

#define EXPORT_NAME_MAX (POINT_TEXT_MAX + 1 + DISK_NAME_MAX_LEN) /* NAME@TIME/DISK and its 0 */
#define EXPORT_TEXT_MAX 128 /* a description, or a name made fit to be shown */

/* What point= leaves to be served. */
enum scope {
	SCOPE_ALL, /* every point of the repository, also those made later */
	SCOPE_POINT, /* this one, pinned from start to end */
	SCOPE_LATEST, /* the newest of this name, looked up for each connection */
};
struct serving {
	enum scope scope;
	uint8_t id[POINT_ID_LEN]; /* SCOPE_POINT */
	char name[NAME_MAX_LEN + 1]; /* SCOPE_LATEST */
	char text[POINT_TEXT_MAX]; /* NAME@TIME or NAME@latest */
	char disk[DISK_NAME_MAX_LEN + 1]; /* "": all disks of the point */
};

/* --- config.c: parameters; written before the fork, read only afterwards --- */
struct plugin_config {
	char *repo; /* owned: absolute path */
	char *passphrase_file; /* owned or NULL */
	const char *point; /* nbdkit's; NULL: all */
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
/* Opens the repository, proves the key, resolves point=, and closes it again: no SQLite handle, no thread and no child
 * is left when it returns.  Fills has_key, key and serving. */
int config_check(struct err *err);
/* Opens it for good, after the fork, and wipes the key.  out: repo_close() by the caller. */
int config_open(struct repo **out, struct err *err);
void config_release(void);

/* --- exports.c: names of exports; any thread --- */
struct export_target {
	uint8_t id[POINT_ID_LEN];
	char disk[DISK_NAME_MAX_LEN + 1]; /* "": the only one */
	bool fixed; /* the name means this point for ever: several connections see one disk */
};
/* name: untrusted bytes of a client.  ERR_INVALID for what no name looks like, else as repo_resolve(). */
int export_find(struct repo *r, const struct serving *s, const char *name,
		struct export_target *out, struct err *err);
/* Fills dst with the name that the empty one stands for; ERR_AMBIGUOUS if there is not just one disk. */
int export_default(struct repo *r, const struct serving *s, char dst[EXPORT_NAME_MAX],
		   struct err *err);
/* Hands names, newest point first, with descriptions to nbdkit; at most EXPORTS_LISTED_MAX. */
#define EXPORTS_LISTED_MAX 10000 /* nbdkit refuses more and would then list none */
int export_list(struct repo *r, const struct serving *s, struct nbdkit_exports *out,
		struct err *err);
/* "10.0 GiB, full, 2026-11-20T14:03:07Z" */
void export_describe(const struct manifest *m, const struct manifest_disk *d,
		     char dst[EXPORT_TEXT_MAX]);

#endif
