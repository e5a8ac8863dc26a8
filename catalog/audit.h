/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * An entry of the audit log: a chain, one row for each command that changes the repository, appended in the transaction of
 * the change itself.  The MAC is the caller's business (this room has no keys): it is asked for inside the transaction.
 */
#ifndef LIVEPOINT_CATALOG_AUDIT_H
#define LIVEPOINT_CATALOG_AUDIT_H

#include "format/format.h"

struct audit_entry {
	uint64_t number; /* filled by append: 1, 2, ... without gap */
	int64_t time;
	const char *command; /* "backup", "forget", ... */
	const char *subject; /* name, point, key label; "" if none */
	const char *detail; /* one JSON object as text, "{}" if none */
	const char *actor; /* "user@host pid N" */
	uint8_t mac[ID_LEN]; /* over the previous row's mac and this row: audit_fn */
};
/* Fills mac from the previous row's (zeroes for the first) and the entry's other fields, number and time included. */
typedef int (*audit_fn)(void *opaque, const uint8_t previous[ID_LEN], const struct audit_entry *e,
			uint8_t mac[ID_LEN], struct err *err);
/* What a changing call appends in its own transaction; NULL: nothing (tests). */
struct audit {
	struct audit_entry
		entry; /* number and mac are filled here; time 0: not before the previous row's, else now */
	audit_fn fn;
	void *opaque;
};

#endif
