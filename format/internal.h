/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside format/ only: what several files of the room share. */
#ifndef LIVEPOINT_FORMAT_INTERNAL_H
#define LIVEPOINT_FORMAT_INTERNAL_H

#include "format/format.h"

/* Pack number 1 to PACK_NUMBER_MAX and `count` slots from its slot on within a pack. */
static inline bool locator_run_valid(uint64_t locator, uint32_t count)
{
	return locator_pack(locator) != 0 &&
	       (uint64_t)locator_slot(locator) + count <= SLOT_MAX_COUNT;
}

/* NULL if the two could stand in a record header or footer entry together, else what is wrong. */
const char *record_fields_wrong(unsigned type, unsigned codec, uint32_t slot, uint32_t plain_len,
				uint32_t stored_len);

/* UTF-8 (RFC 3629) without control characters; n may be 0. */
bool text_bytes_valid(const uint8_t *p, size_t n);

bool chunk_size_valid(uint32_t chunk_size);

/* --- text dumps --- */
struct dump {
	struct buf *out;
	struct err *err; /* of the first problem */
	int code; /* its code, 0 if none */
};
/* Appends a line "problem TEXT" and notes the first one. */
void dump_problem(struct dump *d, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void dump_hex(struct dump *d, const char *key, const uint8_t *p,
	      size_t n); /* " KEY HEX", no newline */
/* " KEY TEXT", no newline; all but printable ASCII as \xNN. */
void dump_text(struct dump *d, const char *key, const void *p, size_t n);
void dump_pack(struct dump *d, const uint8_t *p, size_t n);
void dump_overlay_header(struct dump *d, const uint8_t *p, size_t n);
void dump_overlay_log(struct dump *d, const uint8_t *p, size_t n);
void dump_segment(struct dump *d, const uint8_t *p, size_t n);
int dump_end(struct dump *d);

#endif
