// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Growing buffer and bounds-checked cursor; see base/buf.h.
 *
 * Invariants:
 *  1. len <= cap; data is NULL only while cap is 0.
 *  2. After a failure an object does nothing more: data stays as it was, a cursor yields zeros.
 */
#include "base/buf.h"

#include <stdlib.h>

#include "base/banned.h"

#define BUF_FIRST 64 /* bytes of the first allocation; doubled from then on */

void buf_release(struct buf *b)
{
	free(b->data);
	*b = (struct buf)BUF_INIT;
}

void buf_reset(struct buf *b)
{
	b->len = 0;
	b->failed = false;
}

bool buf_reserve(struct buf *b, size_t more)
{
	size_t need, cap;
	uint8_t *data;

	if (b->failed)
		return false;
	if (more <= b->cap - b->len)
		return true;
	if (add_overflow(b->len, more, &need)) {
		b->failed = true;
		return false;
	}
	cap = b->cap > SIZE_MAX / 2 ? need : MAX(MAX(2 * b->cap, need), (size_t)BUF_FIRST);
	data = mem_realloc_array(b->data, cap, 1);
	if (!data) {
		b->failed = true;
		return false;
	}
	b->data = data;
	b->cap = cap;
	return true;
}

void buf_put(struct buf *b, const void *p, size_t n)
{
	if (!n || !buf_reserve(b, n))
		return;
	memcpy(b->data + b->len, p, n);
	b->len += n;
}

void buf_put_zero(struct buf *b, size_t n)
{
	if (!n || !buf_reserve(b, n))
		return;
	memset(b->data + b->len, 0, n);
	b->len += n;
}

void buf_put_u8(struct buf *b, uint8_t v)
{
	buf_put(b, &v, 1);
}

void buf_put_le16(struct buf *b, uint16_t v)
{
	uint8_t p[2];

	put_le16(p, v);
	buf_put(b, p, sizeof(p));
}

void buf_put_le32(struct buf *b, uint32_t v)
{
	uint8_t p[4];

	put_le32(p, v);
	buf_put(b, p, sizeof(p));
}

void buf_put_le64(struct buf *b, uint64_t v)
{
	uint8_t p[8];

	put_le64(p, v);
	buf_put(b, p, sizeof(p));
}

void buf_put_varint(struct buf *b, uint64_t v)
{
	uint8_t p[10];
	size_t n = 0;

	for (; v >= 0x80; v >>= 7)
		p[n++] = (uint8_t)(v | 0x80);
	p[n++] = (uint8_t)v;
	buf_put(b, p, n);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0) {
		b->failed = true;
		return;
	}
	if (!buf_reserve(b, (size_t)n + 1))
		return;
	va_start(ap, fmt);
	vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t)n;
}

const char *buf_str(struct buf *b)
{
	if (!buf_reserve(b, 1))
		return "";
	b->data[b->len] = 0;
	return (const char *)b->data;
}

const uint8_t *cursor_take(struct cursor *c, size_t n)
{
	const uint8_t *p = c->p;

	if (c->failed || n > (size_t)(c->end - c->p)) {
		c->failed = true;
		return NULL;
	}
	if (n)
		c->p += n;
	return p;
}

bool cursor_get(struct cursor *c, void *dst, size_t n)
{
	const uint8_t *p = cursor_take(c, n);

	if (c->failed) {
		memset(dst, 0, n);
		return false;
	}
	if (n)
		memcpy(dst, p, n);
	return true;
}

uint8_t cursor_u8(struct cursor *c)
{
	const uint8_t *p = cursor_take(c, 1);

	return p ? *p : 0;
}

uint16_t cursor_le16(struct cursor *c)
{
	const uint8_t *p = cursor_take(c, 2);

	return p ? get_le16(p) : 0;
}

uint32_t cursor_le32(struct cursor *c)
{
	const uint8_t *p = cursor_take(c, 4);

	return p ? get_le32(p) : 0;
}

uint64_t cursor_le64(struct cursor *c)
{
	const uint8_t *p = cursor_take(c, 8);

	return p ? get_le64(p) : 0;
}

uint64_t cursor_varint(struct cursor *c)
{
	uint64_t v = 0;
	unsigned shift;

	for (shift = 0; shift < 70; shift += 7) {
		uint8_t byte = cursor_u8(c);

		/* The tenth byte has room for one bit; a last byte of 0 says nothing and is not minimal. */
		if (c->failed || (shift == 63 && byte > 1) || (shift && !byte))
			break;
		v |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return v;
	}
	c->failed = true;
	return 0;
}
