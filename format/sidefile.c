// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Side files: their header, boot traces, proofs by booting; byte tables in livepoint-repository(5).
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
#include "format/sidefile.h"

#include "base/banned.h"

static const uint8_t sidefile_magic[4] = "LPSF";
#define SIDEFILE_VERSION 1
#define CHECKED 60u /* bytes of the header before its check */

void sidefile_header_encode(const struct sidefile_header *h, uint8_t out[SIDEFILE_HEADER_LEN])
{
	memset(out, 0, SIDEFILE_HEADER_LEN);
	memcpy(out, sidefile_magic, sizeof(sidefile_magic));
	out[4] = SIDEFILE_VERSION;
	out[5] = (uint8_t)h->kind;
	put_le16(out + 6, h->suite);
	put_le32(out + 8, h->epoch);
	memcpy(out + 12, h->uuid, UUID_LEN);
	memcpy(out + 28, h->salt, SALT_LEN);
	put_le32(out + CHECKED, check_crc32c(out, CHECKED));
}

int sidefile_header_decode(const uint8_t in[SIDEFILE_HEADER_LEN], struct sidefile_header *out,
			   struct err *err)
{
	struct sidefile_header h = { 0 };

	if (memcmp(in, sidefile_magic, sizeof(sidefile_magic)) != 0)
		return err_set(err, ERR_DAMAGED, "not a side file");
	if (check_crc32c(in, CHECKED) != get_le32(in + CHECKED))
		return err_set(err, ERR_DAMAGED, "the check of its header does not match");
	if (in[4] != SIDEFILE_VERSION)
		return err_set(err, ERR_UNSUPPORTED, "side file of version %u", in[4]);
	h.kind = in[5];
	h.suite = get_le16(in + 6);
	h.epoch = get_le32(in + 8);
	memcpy(h.uuid, in + 12, UUID_LEN);
	memcpy(h.salt, in + 28, SALT_LEN);
	if (h.suite > SUITE_LAST)
		return err_set(err, ERR_UNSUPPORTED, "side file of cipher suite %u", h.suite);
	if (h.kind != SIDEFILE_TRACE && h.kind != SIDEFILE_PROOF)
		return err_set(err, ERR_UNSUPPORTED, "side file of kind %u", in[5]);
	if ((h.suite == 0) != (h.epoch == 0) || (h.suite == 0 && !mem_is_zero(h.salt, SALT_LEN)))
		return err_set(err, ERR_DAMAGED, "its key epoch or salt do not fit");
	*out = h;
	return 0;
}

/* --- boot traces --- */

void trace_release(struct trace *t)
{
	free(t->chunks);
	t->chunks = NULL;
	t->count = 0;
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

/* --- proofs by booting --- */

void proof_release(struct proof *p)
{
	free(p->verdict);
	free(p->png);
	p->verdict = NULL;
	p->png = NULL;
	p->png_len = 0;
}

int proof_encode(const struct proof *p, struct buf *out, struct err *err)
{
	size_t n = strlen(p->verdict);

	if (n < 1 || n > PROOF_VERDICT_MAX || p->png_len > PROOF_PNG_MAX ||
	    !text_bytes_valid((const uint8_t *)p->verdict, n))
		return err_set(err, ERR_TOO_BIG,
			       "proof by booting: a verdict of %zu bytes, a screen of %zu", n,
			       p->png_len);
	buf_put(out, p->point, POINT_ID_LEN);
	buf_put_le64(out, (uint64_t)p->time);
	buf_put_u8(out, p->passed);
	buf_put_le32(out, (uint32_t)n);
	buf_put(out, p->verdict, n);
	buf_put_le32(out, (uint32_t)p->png_len);
	if (p->png_len)
		buf_put(out, p->png, p->png_len);
	return out->failed ? err_nomem(err, "proof by booting") : 0;
}

/* A counted run of bytes with a 0 behind it; NULL if it does not hold or there is no memory (*nomem). */
static uint8_t *get_bytes(struct cursor *c, size_t max, size_t *n, bool *nomem)
{
	uint32_t len = cursor_le32(c);
	uint8_t *p;

	if (len > max || len > cursor_left(c)) {
		c->failed = true;
		return NULL;
	}
	p = mem_alloc((size_t)len + 1);
	*nomem |= !p;
	if (p)
		cursor_get(c, p, len);
	*n = len;
	return p;
}

int proof_decode(const void *p, size_t n, struct proof *out, struct err *err)
{
	__attribute__((cleanup(proof_release))) struct proof proof = { 0 };
	struct cursor c = cursor_of(p, n);
	size_t text = 0;
	bool nomem = false;
	unsigned passed;

	cursor_get(&c, proof.point, POINT_ID_LEN);
	proof.time = (int64_t)cursor_le64(&c);
	passed = cursor_u8(&c);
	proof.passed = passed;
	proof.verdict = (char *)get_bytes(&c, PROOF_VERDICT_MAX, &text, &nomem);
	proof.png = get_bytes(&c, PROOF_PNG_MAX, &proof.png_len, &nomem);
	if (nomem)
		return err_nomem(err, "proof by booting");
	if (c.failed || cursor_left(&c) || passed > 1 || text < 1 ||
	    !text_bytes_valid((const uint8_t *)proof.verdict, text))
		return err_set(err, ERR_DAMAGED, "proof by booting: a field or a length is wrong");
	*out = proof;
	proof = (struct proof){ 0 };
	return 0;
}
