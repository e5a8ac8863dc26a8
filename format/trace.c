// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Boot traces; byte tables in livepoint-repository(5).
 *
 * Chunk numbers are written as differences to the one before, zigzag and LEB128: a boot reads mostly forwards, so a chunk
 * costs one or two bytes.
 *
 * Invariants:
 *  1. Every chunk number lies within the disk.
 *  2. The count is compared with the bytes that are there before anything is allocated for it.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "format/internal.h"
#include "format/trace.h"

#include "base/banned.h"

static const uint8_t trace_magic[4] = "LPTR";
#define TRACE_VERSION 1

void trace_release(struct trace *t)
{
	free(t->chunks);
	t->chunks = NULL;
	t->count = 0;
}

void trace_header_encode(const struct trace_header *h, uint8_t out[TRACE_HEADER_LEN])
{
	memset(out, 0, TRACE_HEADER_LEN);
	memcpy(out, trace_magic, sizeof(trace_magic));
	put_le16(out + 4, TRACE_VERSION);
	put_le16(out + 6, h->suite);
	put_le32(out + 8, h->epoch);
	memcpy(out + 12, h->uuid, UUID_LEN);
	memcpy(out + 28, h->salt, SALT_LEN);
	put_le32(out + 60, check_crc32c(out, 60));
}

int trace_header_decode(const uint8_t in[TRACE_HEADER_LEN], struct trace_header *out,
			struct err *err)
{
	struct trace_header h = { 0 };

	if (memcmp(in, trace_magic, sizeof(trace_magic)) != 0)
		return err_set(err, ERR_DAMAGED, "not a boot trace");
	if (check_crc32c(in, 60) != get_le32(in + 60))
		return err_set(err, ERR_DAMAGED, "the check of the trace's header does not match");
	if (get_le16(in + 4) != TRACE_VERSION)
		return err_set(err, ERR_UNSUPPORTED, "boot trace of version %u", get_le16(in + 4));
	h.suite = get_le16(in + 6);
	h.epoch = get_le32(in + 8);
	memcpy(h.uuid, in + 12, UUID_LEN);
	memcpy(h.salt, in + 28, SALT_LEN);
	if (h.suite > SUITE_LAST)
		return err_set(err, ERR_UNSUPPORTED, "boot trace of cipher suite %u", h.suite);
	if ((h.suite == 0) != (h.epoch == 0) || (h.suite == 0 && !mem_is_zero(h.salt, SALT_LEN)))
		return err_set(err, ERR_DAMAGED, "key epoch or salt of the trace do not fit");
	*out = h;
	return 0;
}

/* What is wrong with the fields, or NULL. */
static const char *trace_wrong(const struct trace *t)
{
	if (!name_valid(t->name) || !disk_name_valid(t->disk))
		return "a name is not valid";
	if (!chunk_size_valid(t->chunk_size))
		return "chunk size out of range";
	if (t->size == 0 || t->size > INT64_MAX || t->size % 512 != 0)
		return "size out of range";
	if (t->count < 1 || t->count > TRACE_CHUNKS_MAX)
		return "number of chunks out of range";
	for (size_t i = 0; i < t->count; i++)
		if (t->chunks[i] > (t->size - 1) / t->chunk_size)
			return "a chunk is beyond the disk";
	return NULL;
}

static uint64_t zigzag(int64_t v)
{
	return ((uint64_t)v << 1) ^ (v < 0 ? UINT64_MAX : 0);
}

static int64_t unzigzag(uint64_t v)
{
	return (int64_t)((v >> 1) ^ (v & 1 ? UINT64_MAX : 0));
}

static void put_text(struct buf *out, const char *s)
{
	buf_put_u8(out, (uint8_t)strlen(s));
	buf_put(out, s, strlen(s));
}

int trace_encode(const struct trace *t, struct buf *out, struct err *err)
{
	const char *wrong = trace_wrong(t);
	uint64_t before = 0;

	if (wrong)
		return err_set(err, ERR_INTERNAL, "boot trace: %s", wrong);
	buf_put_le64(out, t->size);
	buf_put_le32(out, t->chunk_size);
	buf_put_le32(out, (uint32_t)t->count);
	buf_put_le64(out, (uint64_t)t->time);
	put_text(out, t->name);
	put_text(out, t->disk);
	for (size_t i = 0; i < t->count; i++) {
		buf_put_varint(out, zigzag((int64_t)(t->chunks[i] - before)));
		before = t->chunks[i];
	}
	return out->failed ? err_nomem(err, "boot trace") : 0;
}

static bool get_text(struct cursor *c, char *dst, size_t max)
{
	size_t n = cursor_u8(c);

	return n <= max && cursor_get(c, dst, n);
}

int trace_decode(const void *p, size_t n, struct trace *out, struct err *err)
{
	__attribute__((cleanup(trace_release))) struct trace t = { 0 };
	struct cursor c = cursor_of(p, n);
	uint64_t before = 0;
	const char *wrong;

	t.size = cursor_le64(&c);
	t.chunk_size = cursor_le32(&c);
	t.count = cursor_le32(&c);
	t.time = (int64_t)cursor_le64(&c);
	if (!get_text(&c, t.name, NAME_MAX_LEN) || !get_text(&c, t.disk, DISK_NAME_MAX_LEN) ||
	    t.count > cursor_left(&c) || t.count > TRACE_CHUNKS_MAX)
		return err_set(err, ERR_DAMAGED, "boot trace: it is cut off, or a length is wrong");
	t.chunks = mem_alloc_array(t.count, sizeof(*t.chunks));
	if (!t.chunks)
		return err_nomem(err, "boot trace");
	for (size_t i = 0; i < t.count; i++) {
		t.chunks[i] = before + (uint64_t)unzigzag(cursor_varint(&c));
		before = t.chunks[i];
	}
	if (c.failed || cursor_left(&c))
		return err_set(err, ERR_DAMAGED, "boot trace: its list has the wrong length");
	wrong = trace_wrong(&t);
	if (wrong)
		return err_set(err, ERR_DAMAGED, "boot trace: %s", wrong);
	*out = t;
	t = (struct trace){ 0 };
	return 0;
}
