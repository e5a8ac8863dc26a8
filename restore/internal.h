/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Shared by the files of restore/ only: targets behind one table of operations, and the copy of one disk.
 *
 * One thread at a time, but for target_ops.read.
 */
#ifndef LIVEPOINT_RESTORE_INTERNAL_H
#define LIVEPOINT_RESTORE_INTERNAL_H

#include <errno.h>

#include "base/pool.h"
#include "restore/restore.h"

#define BLOCK_BYTES ((size_t)MiB)
#define BLOCK_CHUNKS (BLOCK_BYTES / CHUNK_SIZE_MIN)

enum block_mode {
	BLOCK_COPY, /* write it */
	BLOCK_DELTA, /* write what the target has not */
	BLOCK_VERIFY, /* fail if the target has it not */
};
struct copy;
/* A range on its way; at most BLOCK_BYTES, or one chunk if that is more. */
struct block {
	struct pool_job job;
	struct copy *copy;
	enum block_mode mode;
	bool hole; /* the point has zeroes here */
	uint64_t start; /* bytes */
	size_t n; /* bytes */
	uint8_t *data; /* owned: the point's content */
	uint8_t *found; /* owned: the target's; NULL in plain copies */
	bool write[BLOCK_CHUNKS]; /* chunks to be written (or zeroed) */
	bool damaged[BLOCK_CHUNKS]; /* chunks that cannot be read from the repository */
	int result; /* 0 or a code, text in err */
	struct err err;
	unsigned pending; /* requests of the target's that use data or found */
};

struct target;
struct target_ops {
	/* Fills *end with the end of the extent that holds offset; returns 1 if it reads as zeroes without reading, 0, or a
	 * code.  NULL: cannot tell. */
	int (*extent)(struct target *t, uint64_t offset, uint64_t *end, struct err *err);
	/* Reads at once; any thread.  NULL: start_read. */
	int (*read)(struct target *t, void *p, size_t n, uint64_t offset, struct err *err);
	/* Begins to read b->found; wait tells. */
	int (*start_read)(struct target *t, struct block *b, struct err *err);
	/* Begins to write n bytes of b->data at offset (within the block). */
	int (*start_write)(struct target *t, struct block *b, uint64_t offset, size_t n,
			   struct err *err);
	/* Until nothing of the block is under way.  NULL: nothing ever is. */
	int (*wait)(struct target *t, struct block *b, struct err *err);
	/* Makes a range read as zeroes; n at most ZERO_BYTES. */
	int (*zero)(struct target *t, uint64_t offset, uint64_t n, struct err *err);
	/* Everything written so far is durable. */
	int (*flush)(struct target *t, struct err *err);
	/* The target is complete: gives a new file its name.  NULL: nothing to do. */
	int (*finish)(struct target *t, struct err *err);
	/* Ends requests under way, so that blocks may be freed.  NULL: there are none. */
	void (*cancel)(struct target *t);
	/* Also removes what is not complete. */
	void (*close)(struct target *t);
};
#define ZERO_BYTES (64 * MiB)
struct target {
	const struct target_ops *ops;
	char *where; /* owned: for messages */
	const volatile int *stop;
	uint64_t size; /* bytes, of the disk that goes there */
	bool known_zero; /* everything reads as zeroes before the first write */
};
struct target_spec {
	const char *where;
	uint64_t size; /* of the disk, bytes */
	uint32_t chunk; /* bytes */
	bool overwrite, delta;
	const volatile int *stop;
};
/* Opens what `where` is.  Everything that can be refused is refused here, before a byte is written. */
int target_open(const struct target_spec *spec, struct target **out, struct err *err);
void target_close(struct target *t);
DEFINE_CLEANUP(target, target_close)
int target_file_open(const struct target_spec *spec, struct target **out, struct err *err);
int target_device_open(const struct target_spec *spec, struct target **out, struct err *err);
int target_nbd_open(const struct target_spec *spec, struct target **out, struct err *err);
bool target_is_nbd(const char *where);
int restore_stopped(const volatile int *stop, struct err *err);
/* "target 'WHERE' is too small" */
int target_too_small(const char *where, uint64_t has, uint64_t needs, struct err *err);
/* Zeroes by writing them. */
int target_write_zeroes(int fd, uint64_t offset, uint64_t n, const char *path, struct err *err);

/* --- one disk --- */
struct copy_spec {
	struct repo *repo;
	struct repo_disk *disk;
	struct repo_disk *from; /* what the target holds, or NULL */
	struct target *target;
	const char *name; /* of the disk */
	struct pool *pool;
	enum block_mode mode;
	bool keep_going;
	const volatile int *stop;
	progress_fn progress;
	void *progress_opaque;
	struct restore_result *result; /* counted here */
};
/* Carries the disk to the target, or compares the two (BLOCK_VERIFY). */
int copy_run(const struct copy_spec *spec, struct err *err);

#endif
