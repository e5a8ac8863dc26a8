/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The trace of powerloss-record, read by powerloss-replay on the same machine: records as they are in memory. */
#ifndef LIVEPOINT_TESTS_POWERLOSS_H
#define LIVEPOINT_TESTS_POWERLOSS_H

#include "base/base.h"

enum pl_op {
	PL_CREATE = 1, /* a: path; an empty file */
	PL_OPEN, /* a: path, of a file or folder; fd means it from now on */
	PL_CLOSE,
	PL_WRITE, /* fd, offset, len, data */
	PL_TRUNCATE, /* fd, offset: new size */
	PL_SYNC, /* fd: data of a file, entries of a folder */
	PL_RENAME, /* a, b */
	PL_LINK, /* a, b */
	PL_UNLINK, /* a: file or folder */
	PL_MKDIR, /* a; "" for the recorded folder itself */
	PL_MARK, /* data: text */
};

/* Followed by alen bytes of path a, blen of path b, and for writes and marks len bytes of data.  Paths are relative to
 * the recorded folder. */
struct pl_record {
	uint32_t op;
	int32_t fd;
	uint32_t pid; /* descriptors are a process' own */
	uint32_t alen, blen;
	uint32_t pad;
	uint64_t offset, len;
};

#endif
