/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Keys of a repository: passphrases and recovery keys, each a slot of the key ring (keys/ring-a.key, keys/ring-b.key), and
 * the epochs of the sealing key.  Slots are named by label, unique; at most KEY_SLOTS_MAX.  The last slot cannot be removed.
 * Every call but the list needs the repository open for writing, unlocked by a passphrase, and not started.  One change at a
 * time (ERR_LOCKED); each leaves an entry in the audit log, before the files change.
 *
 * Key files of version 1 (of repositories made earlier) are slots, too; the one that opened the repository moves into the
 * ring with the first change.
 */
#ifndef LIVEPOINT_REPO_KEYS_H
#define LIVEPOINT_REPO_KEYS_H

#include "repo/repo.h"

struct key_slot {
	char file[64]; /* in keys/ */
	char label[KEY_LABEL_MAX + 1];
	int64_t created;
	bool recovery; /* a printable recovery key */
	bool opened; /* by the passphrase that unlocked this repository */
	bool old; /* a key file of version 1 */
	uint32_t epochs; /* of the sealing key that it opens: 1 to this; 0: the file is damaged */
};
/* *out: owned.  The newest ring's slots, key files of version 1, then damaged files. */
int repo_key_list(struct repo *r, struct key_slot **out, size_t *count, struct err *err);
/* ERR_EXISTS for a label in use, ERR_TOO_BIG when there is no free slot. */
int repo_key_add(struct repo *r, const char *label, const void *passphrase, size_t n,
		 struct err *err);
/* ERR_NOT_FOUND, ERR_REFUSED for the last slot. */
int repo_key_remove(struct repo *r, const char *label, struct err *err);
/* A new passphrase for the slot that opened the repository, or the one with this label (NULL: the former). */
int repo_key_change(struct repo *r, const char *label, const void *passphrase, size_t n,
		    struct err *err);
/* Makes a slot with a random recovery key; text: groups of four base32 letters (RFC 4648) and a check group. */
int repo_key_export_recovery(struct repo *r, const char *label, char text[RECOVERY_TEXT_MAX],
			     struct err *err);
/* A new epoch of the sealing key for new packs; old ones stay readable; the id key stays.  ERR_REFUSED while there are key files
 * of version 1 other than the one that opened the repository. */
int repo_key_rotate(struct repo *r, uint32_t *epoch, struct err *err);

#endif
