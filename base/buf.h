/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A growing byte buffer to encode into, and a bounds-checked cursor to decode from.
 *
 * Both have a sticky error, so that encoders and decoders test once at their end:
 * buf.failed after a failed allocation, cur.failed after a read beyond the end or a bad varint.
 * One thread at a time.
 */
#ifndef LIVEPOINT_BASE_BUF_H
#define LIVEPOINT_BASE_BUF_H

#include "base/base.h"

struct buf {
	uint8_t *data; /* owned */
	size_t len, cap; /* bytes */
	bool failed; /* an allocation failed; appends do nothing since */
};
#define BUF_INIT                                                                                   \
	{                                                                                          \
		0                                                                                  \
	}
void buf_release(struct buf *b);
#define cleanup_buf __attribute__((cleanup(buf_release)))
void buf_reset(struct buf *b); /* length 0, memory kept, failed cleared */
bool buf_reserve(struct buf *b, size_t more); /* false: failed is set */
void buf_put(struct buf *b, const void *p, size_t n);
void buf_put_zero(struct buf *b, size_t n);
void buf_put_u8(struct buf *b, uint8_t v);
void buf_put_le16(struct buf *b, uint16_t v);
void buf_put_le32(struct buf *b, uint32_t v);
void buf_put_le64(struct buf *b, uint64_t v);
/* Unsigned LEB128, minimal: 7 bits a byte, low bits first, at most 10 bytes (DWARF 5, 7.6). */
void buf_put_varint(struct buf *b, uint64_t v);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Makes data a terminated string (the 0 is not counted in len); "" if it failed.  Borrowed until the next call. */
const char *buf_str(struct buf *b);

struct cursor {
	const uint8_t *p, *end; /* borrowed */
	bool failed;
};
static inline struct cursor cursor_of(const void *p, size_t n)
{
	return (struct cursor){ .p = p, .end = (const uint8_t *)p + n };
}
static inline size_t cursor_left(const struct cursor *c)
{
	return c->failed ? 0 : (size_t)(c->end - c->p);
}
/* Borrows n bytes and moves on; NULL and failed if there are fewer. */
const uint8_t *cursor_take(struct cursor *c, size_t n);
bool cursor_get(struct cursor *c, void *dst, size_t n); /* copies; on failure dst is zeroed */
uint8_t cursor_u8(struct cursor *c); /* these return 0 on failure */
uint16_t cursor_le16(struct cursor *c);
uint32_t cursor_le32(struct cursor *c);
uint64_t cursor_le64(struct cursor *c);
uint64_t cursor_varint(struct cursor *c); /* refuses encodings that are not minimal */

#endif
