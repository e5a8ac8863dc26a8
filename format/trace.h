/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A boot trace: which chunks of a disk the first minutes of a recovery read, in order.  traces/NAME~DISK.trace; byte tables in
 * livepoint-repository(5).  Any thread.
 */
#ifndef LIVEPOINT_FORMAT_TRACE_H
#define LIVEPOINT_FORMAT_TRACE_H

#include "format/format.h"

#define TRACE_CHUNKS_MAX 131072u /* 512 MiB of the smallest chunks */
#define TRACE_HEADER_LEN 64 /* of the file; a record's header and payload follow */
#define TRACE_FILE_MAX (TRACE_HEADER_LEN + RECORD_HEADER_LEN + OBJECT_PLAIN_MAX + TAG_MAX)

struct trace_header {
	uint16_t suite;
	uint32_t epoch; /* of the key; 0 of suite 0 */
	uint8_t uuid[UUID_LEN]; /* of the repository */
	uint8_t salt[SALT_LEN]; /* of the trace's subkey; 0 of suite 0 */
};
void trace_header_encode(const struct trace_header *h, uint8_t out[TRACE_HEADER_LEN]);
int trace_header_decode(const uint8_t in[TRACE_HEADER_LEN], struct trace_header *out,
			struct err *err);

struct trace {
	char name[NAME_MAX_LEN + 1];
	char disk[DISK_NAME_MAX_LEN + 1];
	uint64_t size; /* bytes of the disk */
	uint32_t chunk_size; /* bytes */
	int64_t time; /* when it was recorded, seconds since 1970 UTC */
	uint64_t *chunks; /* owned; numbers of chunks of the disk, in the order of their first read, each once */
	size_t count; /* 1 to TRACE_CHUNKS_MAX */
};
void trace_release(struct trace *t); /* fields only */
/* Appends the payload. */
int trace_encode(const struct trace *t, struct buf *out, struct err *err);
/* Fills *out only on success.  That each chunk stands there once is not checked: twice does no harm. */
int trace_decode(const void *p, size_t n, struct trace *out, struct err *err);

#endif
