/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The files in keys/, between repo/key-files.c (reading, unlocking, writing) and repo/keys.c (changes). */
#ifndef LIVEPOINT_REPO_KEYS_INTERNAL_H
#define LIVEPOINT_REPO_KEYS_INTERNAL_H

#include "repo/internal.h"
#include "repo/keys.h"

#define KEY_RING_A "ring-a.key"
#define KEY_RING_B "ring-b.key"

struct key_found {
	char name[64];
	/* One of them, or neither: the file is damaged.  Owned. */
	struct key_ring *ring;
	struct key_file *file; /* version 1 */
	struct buf bytes; /* of a ring */
};
struct key_folder {
	struct key_found *found; /* rings first, the highest serial first; then by name */
	size_t count, nrings;
	bool unfinished; /* there are temporary files that a crash left */
};
/* warn: say what is damaged. */
int key_folder_load(const struct repo *r, bool warn, struct key_folder *out, struct err *err);
void key_folder_release(struct key_folder *f);
#define cleanup_key_folder __attribute__((cleanup(key_folder_release)))

/* Excludes other changes of keys until the descriptor is closed; ERR_LOCKED. */
int keys_lock(const struct repo *r, int *fd, struct err *err);
/* Under the lock: the ring with the highest serial that was made with our keys; NULL in *out: there is none. */
int keys_ring_ours(const struct repo *r, const struct key_folder *f, const struct key_found **out,
		   struct err *err);
/* Under the lock: the slot of a ring that has this salt, or NULL. */
const struct key_ring_slot *key_ring_salt(const struct key_ring *ring, const uint8_t *salt);
/* Under the lock: both files, ring-a first; what stood there is overwritten on disk, as far as the file system does that. */
int keys_write(const struct repo *r, const struct buf *bytes, struct err *err);
/* Under the lock: a file of version 1, the same way.  Not synced: keys_sync. */
int keys_remove(const struct repo *r, const char *name, struct err *err);
int keys_sync(const struct repo *r, struct err *err);
/* Under the lock: removes what crashes left. */
int keys_tidy(const struct repo *r, const struct key_folder *f, const struct key_ring *ring,
	      struct err *err);

#endif
