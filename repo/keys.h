/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Keys of a repository: passphrases and recovery keys, each a slot (a file in keys/), and the epochs of the sealing key.
 * Slots are named by label, unique; at most KEY_SLOTS_MAX.  The last slot that opens the repository cannot be removed.
 * Every call but the list needs the repository open for writing and unlocked.
 */
#ifndef LIVEPOINT_REPO_KEYS_H
#define LIVEPOINT_REPO_KEYS_H

#include "repo/repo.h"

#define KEY_SLOTS_MAX 8
struct key_slot {
	char file[64]; /* in keys/ */
	char label[KEY_LABEL_MAX + 1];
	int64_t created;
	bool recovery; /* a printable recovery key */
	bool opened; /* by the passphrase that unlocked this repository */
	uint32_t epochs; /* of the sealing key that it opens: 1 to this; 0: the file is damaged */
};
int repo_key_list(struct repo *r, struct key_slot **out, size_t *count, struct err *err);
int repo_key_add(struct repo *r, const char *label, const void *passphrase, size_t n,
		 struct err *err);
int repo_key_remove(struct repo *r, const char *label, struct err *err);
/* A new passphrase for the slot that opened the repository, or the one with this label (NULL: the former). */
int repo_key_change(struct repo *r, const char *label, const void *passphrase, size_t n,
		    struct err *err);
/* Makes a slot with a random recovery key; text: groups of four base32 letters (RFC 4648) and a check group. */
#define RECOVERY_TEXT_MAX 64
int repo_key_export_recovery(struct repo *r, const char *label, char text[RECOVERY_TEXT_MAX],
			     struct err *err);
/* Adds a passphrase slot; the repository was unlocked with the recovery key (any passphrase input takes one). */
/* A new epoch of the sealing key for new packs; old ones stay readable; the id key stays. */
int repo_key_rotate(struct repo *r, uint32_t *epoch, struct err *err);

#endif
