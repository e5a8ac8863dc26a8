/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The state object (OBJECT_STATE): the catalog's small tables, stored among the packs at every prune and change of a hold, so
 * that a catalog that was lost can be rebuilt without bringing back what was forgotten and losing what was held.
 * Byte table in livepoint-repository(5).  Any thread.
 */
#ifndef LIVEPOINT_FORMAT_STATE_H
#define LIVEPOINT_FORMAT_STATE_H

#include "format/format.h"

#define HOLD_REASON_MAX 1024 /* bytes of UTF-8 */
/* At most that, without control characters; may be empty. */
bool hold_reason_valid(const char *reason);
struct hold {
	uint8_t point[POINT_ID_LEN];
	char *reason; /* owned; "" if none was given */
	int64_t since; /* seconds since 1970 UTC */
	int64_t until; /* the same; 0: without end */
};
void holds_free(struct hold *holds, size_t count);

struct state_point {
	uint8_t id[POINT_ID_LEN];
	bool expired; /* else forgotten */
	int64_t forgotten, until; /* seconds: when, and up to when it can come back */
};

struct state {
	uint8_t uuid[UUID_LEN];
	int64_t time; /* when it was made, for messages */
	uint64_t generation; /* of the catalog when it was read; the highest of several objects counts */
	uint64_t next_pack, next_sequence, next_segment;
	uint64_t audit_number; /* head of the audit log; 0: empty */
	uint8_t audit_mac[ID_LEN];
	struct hold *holds; /* owned; ascending point id */
	size_t nholds;
	struct state_point *points; /* owned; ascending id: forgotten and expired ones */
	size_t npoints;
};
/* Fields only; the struct itself is the caller's. */
void state_release(struct state *s);
#define STATE_MAX OBJECT_PLAIN_MAX
/* Appends.  ERR_TOO_BIG beyond STATE_MAX: the caller leaves expired points out first (their manifests go first in a prune), then says so.
 * ERR_INTERNAL: lists out of order, or a field that the table does not allow. */
int state_encode(const struct state *s, struct buf *out, struct err *err);
/* Fills *out only on success; released with state_release(). */
int state_decode(const void *p, size_t n, struct state *out, struct err *err);

#endif
