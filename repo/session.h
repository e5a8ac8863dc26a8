/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Write session: buffers of a disk in, a restore point out.
 *
 * Path of a block in: source -> buffer from a bounded free list (back-pressure) -> worker: zero? hole; id; equal to the
 * parent's chunk? keep its locator; index batch: known? -> else compress -> results in order of submission -> the caller's
 * thread seals and appends to the staged pack -> commit (order in livepoint-repository(5)).
 * Same input and parent, same bytes in the packs, whatever the number of workers (ids of instances and nonces aside).
 *
 * Memory is bounded: buffers (2 workers + 4) MiB, footers 32 MiB, ids since the last checkpoint.
 *
 * One thread at a time per session.  After any error the session is only good for repo_session_abort().
 */
#ifndef LIVEPOINT_REPO_SESSION_H
#define LIVEPOINT_REPO_SESSION_H

#include "repo/repo.h"

struct repo_session;

struct session_spec {
	const char *name; /* NAME */
	const char *since; /* POINT to compare with, or NULL: the name's latest */
	const uint8_t *
		since_id; /* the same by id, and not for the record: a seal's; also a forgotten point under an overlay */
	bool full; /* no parent */
	int compression; /* enum compression; -1: the repository's */
	unsigned wait_seconds; /* for another backup of this name; 0: ERR_LOCKED at once */
	const volatile int *
		stop; /* set to a code (ERR_INTERRUPTED, ...) by a signal handler; checked everywhere; or NULL */
};
/* Sweeps what dead sessions left, takes the lease, chooses the parent. The repository must be REPO_WRITE, unlocked, started. */
int repo_session_begin(struct repo *r, const struct session_spec *spec, struct repo_session **out,
		       struct err *err);
/* The point it is compared with; NULL if none.  Borrowed. */
struct repo_point *repo_session_parent(struct repo_session *s);

/* --- one disk after the other --- */
struct disk_spec {
	const char *name;
	uint64_t size; /* bytes; rounded up to 512 here; UINT64_MAX: unknown until session_disk_end */
	int method; /* enum disk_method */
	const char *source; /* for the record, or NULL */
};
/* Starts a disk; compared with the parent's disk of that name, if there is one with the same chunk size. */
int session_disk_begin(struct repo_session *s, const struct disk_spec *spec, struct err *err);
/* The parent's disk of this name (NULL if none); borrowed until session_disk_end. */
struct repo_disk *session_disk_parent(struct repo_session *s);

/* A buffer to read into: SESSION_BUFFER bytes, aligned to 4096.  May wait, and do the session's other work meanwhile. */
#define SESSION_BUFFER (1u << 20)
int session_buffer(struct repo_session *s, uint8_t **buffer, struct err *err);
/* Gives a buffer back unused. */
void session_buffer_put(struct repo_session *s, uint8_t *buffer);
/* Ranges must come in ascending order without gap, starting at 0, each a multiple of the chunk size but for the disk's end.
 * write takes the buffer (n bytes of it, at most SESSION_BUFFER); what lies beyond the end in the last chunk is zeroed here. */
int session_disk_write(struct repo_session *s, uint8_t *buffer, uint64_t offset, size_t n,
		       struct err *err);
int session_disk_hole(struct repo_session *s, uint64_t offset, uint64_t n, struct err *err);
/* As in the parent (which must have the range; the part beyond the parent's last whole chunk is refused: write it). */
int session_disk_unchanged(struct repo_session *s, uint64_t offset, uint64_t n, struct err *err);
/* Ranges of the parent's disk whose stored chunks or maps are known to be damaged: whoever would call them unchanged writes
 * them instead, which heals them.  Ascending; fn returns 0 to go on. */
int session_disk_damaged(struct repo_session *s,
			 int (*fn)(void *opaque, uint64_t start, uint64_t length, struct err *err),
			 void *opaque, struct err *err);
/* Could not be read: reads of it will be EIO. */
int session_disk_unreadable(struct repo_session *s, uint64_t offset, uint64_t n, struct err *err);
/* size: the disk's real size if it was unknown at begin (else ignored).  read_bytes: taken from the source. */
int session_disk_end(struct repo_session *s, uint64_t size, uint64_t read_bytes, struct err *err);
/* Changes what is recorded as method of the current disk. */
void session_disk_method(struct repo_session *s, int method);
/* Throws the current disk away: it can be begun again (chunks stored so far are found again by dedup). */
int session_disk_restart(struct repo_session *s, struct err *err);

/* --- files kept with the point, as config/NAME; at any time before publication --- */
/* name: config_name_valid(), each once (ERR_EXISTS), at most POINT_CONFIGS_MAX of them and of CONFIG_BYTES_MAX bytes each
 * (ERR_TOO_BIG).  What the parent's file of that name has at the same place is not stored again. */
int repo_session_config(struct repo_session *s, const char *name, const void *p, size_t n,
			struct err *err);
/* The same of all that can be read from fd (a file, a pipe); path is for messages. */
int repo_session_config_fd(struct repo_session *s, const char *name, int fd, const char *path,
			   struct err *err);
/* Takes over the parent's files, but for those whose names were given; without a parent none. */
int repo_session_config_inherit(struct repo_session *s, struct err *err);

struct publish_spec {
	int64_t time; /* 0: now */
	int consistency; /* enum consistency */
	const struct manifest_label *labels; /* borrowed */
	size_t nlabels;
};
struct session_result {
	uint8_t id[POINT_ID_LEN];
	char point[POINT_TEXT_MAX]; /* NAME@TIME */
	uint64_t stored; /* bytes added to packs, but for the manifest; as the point records it */
	uint64_t chunks_new, chunks_parent, chunks_index, chunks_zero; /* counts */
	uint64_t read_bytes;
};
/* Makes it durable and visible; frees the session also when it fails. */
int repo_session_publish(struct repo_session *s, const struct publish_spec *spec,
			 struct session_result *result, struct err *err);
/* Ends without a point; finished packs stay for the next session (checkpoint). Frees. NULL is fine. */
void repo_session_abort(struct repo_session *s);
/* Counters so far (for progress and summaries). */
void repo_session_counters(const struct repo_session *s, struct session_result *result);

/* What another session's death left: leases, staging folders, packs and segments writing.  Done by
 * repo_session_begin; on its own for tests and `verify --leftovers`. */
int repo_sweep(struct repo *r, struct err *err);

DEFINE_CLEANUP(repo_session, repo_session_abort)

#endif
