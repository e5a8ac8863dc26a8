/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Side files: small files beside the packs, sealed like a record, that may be lost: boot traces and proofs by booting.  Byte
 * tables in livepoint-repository(5).  Any thread.
 */
#ifndef LIVEPOINT_FORMAT_SIDEFILE_H
#define LIVEPOINT_FORMAT_SIDEFILE_H

#include "format/format.h"

#define SIDEFILE_HEADER_LEN 64 /* a record's header and its payload follow */
#define SIDEFILE_MAX (SIDEFILE_HEADER_LEN + RECORD_HEADER_LEN + OBJECT_PLAIN_MAX + TAG_MAX)

enum sidefile_kind { SIDEFILE_TRACE = 1, SIDEFILE_PROOF = 2 };
struct sidefile_header {
	enum sidefile_kind kind;
	uint16_t suite;
	uint32_t epoch; /* of the key; 0 of suite 0 */
	uint8_t uuid[UUID_LEN]; /* of the repository */
	uint8_t salt[SALT_LEN]; /* of the file's subkey; 0 of suite 0 */
};
void sidefile_header_encode(const struct sidefile_header *h, uint8_t out[SIDEFILE_HEADER_LEN]);
int sidefile_header_decode(const uint8_t in[SIDEFILE_HEADER_LEN], struct sidefile_header *out,
			   struct err *err);

/* --- a boot trace: which chunks of a disk the first minutes of a recovery read, in order --- */
#define TRACE_CHUNKS_MAX 131072u /* 512 MiB of the smallest chunks */
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

/* --- a proof by booting: what was found when a point was booted --- */
struct proof {
	uint8_t point[POINT_ID_LEN];
	int64_t time; /* seconds since 1970 UTC */
	bool passed;
	char *verdict; /* owned; a JSON object, at most PROOF_VERDICT_MAX bytes of text */
	uint8_t *png; /* owned; the last screen, or NULL */
	size_t png_len; /* bytes */
};
#define PROOF_VERDICT_MAX 65536u
#define PROOF_PNG_MAX (OBJECT_PLAIN_MAX - PROOF_VERDICT_MAX - 64)
void proof_release(struct proof *p); /* fields only */
int proof_encode(const struct proof *p, struct buf *out, struct err *err);
int proof_decode(const void *p, size_t n, struct proof *out, struct err *err);

#endif
