/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The audit log: a chain of MACs over every command that changed the repository (SHA-256 in plain repositories, which finds
 * accidents and not a forger).  `livepoint log`.
 */
#ifndef LIVEPOINT_REPO_AUDIT_H
#define LIVEPOINT_REPO_AUDIT_H

#include "catalog/gc.h"
#include "repo/repo.h"

/* Fills what a changing call hands to the catalog: command, subject, detail are borrowed until then; actor points into *a's own buffer. */
struct repo_audit {
	struct audit audit;
	char actor[256];
};
/* Refuse with ERR_KEY before any change: who cannot make the MAC changes nothing.  (repo_need_key in repo/internal.h.) */
void repo_audit_fill(struct repo *r, struct repo_audit *a, const char *command, const char *subject,
		     const char *detail);
/* The same before there is a struct repo (init); keys: borrowed until the append. */
struct codec_keys;
void repo_audit_fill_keys(const struct codec_keys *keys, struct repo_audit *a, const char *command,
			  const char *subject, const char *detail);
/* For commands that change no row of the catalog otherwise. */
int repo_audit_append(struct repo *r, const char *command, const char *subject, const char *detail,
		      struct err *err);
int repo_log_each(struct repo *r, uint64_t from,
		  int (*fn)(void *opaque, const struct audit_entry *e, struct err *err),
		  void *opaque, struct err *err);
/* The whole chain (ERR_KEY without the key of an encrypted repository), and that it has not been cut below what the newest state object remembers.  *count: entries.  ERR_DAMAGED names the first bad entry. */
int repo_log_verify(struct repo *r, uint64_t *count, struct err *err);

#endif
