// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The data file of a layer: plain bytes, or sectors encrypted in place.
 *
 * A plain request is one system call.  In an encrypted layer a write goes through a buffer, piece by piece (the caller's bytes must
 * stay); a read is decrypted where it is wanted.  Contexts and buffers are kept for the next request: making one costs 3 us.
 *
 * Invariant: who calls holds the range of blocks, shared to read, exclusively to write; else half a new sector would be
 * decrypted with half an old one.
 */
#include <stdlib.h>

#include "base/file.h"
#include "repo/overlay-layer-internal.h"

#include "base/banned.h"

#define PIECE ((size_t)128 * 1024) /* bytes encrypted at a time: fits the second-level cache */

static void slot_free(struct cipher_slot *s)
{
	codec_layer_ctx_free(s->ctx);
	free(s);
}

static int slot_get(struct overlay_layer *l, struct cipher_slot **out, struct err *err)
{
	pthread_mutex_lock(&l->slot_lock);
	struct cipher_slot *s = l->slots;
	if (s)
		l->slots = s->next;
	pthread_mutex_unlock(&l->slot_lock);
	if (!s) {
		s = mem_alloc(sizeof(*s) + PIECE);
		if (!s)
			return err_nomem(err, "a cipher context");
		int r = codec_layer_ctx_new(l->key, &s->ctx, err);
		if (r < 0) {
			slot_free(s);
			return r;
		}
	}
	*out = s;
	return 0;
}

static void slot_put(struct overlay_layer *l, struct cipher_slot *s)
{
	pthread_mutex_lock(&l->slot_lock);
	s->next = l->slots;
	l->slots = s;
	pthread_mutex_unlock(&l->slot_lock);
}

void layer_slots_free(struct overlay_layer *l)
{
	while (l->slots) {
		struct cipher_slot *s = l->slots;
		l->slots = s->next;
		slot_free(s);
	}
}

static int read_units(struct overlay_layer *l, struct cipher_slot *s, uint8_t *dst, size_t n,
		      uint64_t offset, struct err *err)
{
	int r = file_pread(l->data_fd, dst, n, offset, l->data_path, err);
	/* A hole: the block was discarded, and a power cut took the state that said so.  No sector encrypts to zeroes. */
	for (size_t at = 0, end; r == 0 && at < n; at = end) {
		bool hole = mem_is_zero(dst + at, CODEC_UNIT);
		for (end = at + CODEC_UNIT; end < n && mem_is_zero(dst + end, CODEC_UNIT) == hole;)
			end += CODEC_UNIT;
		if (!hole)
			r = codec_layer_decrypt(s->ctx, dst + at, dst + at, end - at,
						(offset + at) / CODEC_UNIT, err);
	}
	return r;
}

static int read_encrypted(struct overlay_layer *l, struct cipher_slot *s, uint8_t *dst, size_t n,
			  uint64_t offset, struct err *err)
{
	uint8_t unit[CODEC_UNIT];
	int r = 0;
	while (r == 0 && n > 0) {
		size_t in = (size_t)(offset % CODEC_UNIT), here = n / CODEC_UNIT * CODEC_UNIT;
		if (in == 0 && here > 0) {
			r = read_units(l, s, dst, here, offset, err);
		} else {
			here = MIN(n, CODEC_UNIT - in);
			r = read_units(l, s, unit, CODEC_UNIT, offset - in, err);
			memcpy(dst, unit + in, here);
		}
		dst += here;
		n -= here;
		offset += here;
	}
	return r;
}

int layer_data_read(struct overlay_layer *l, void *dst, size_t n, uint64_t offset, struct err *err)
{
	struct cipher_slot *s;
	if (!codec_layer_key_encrypts(l->key))
		return file_pread(l->data_fd, dst, n, offset, l->data_path, err);
	int r = slot_get(l, &s, err);
	if (r < 0)
		return r;
	r = read_encrypted(l, s, dst, n, offset, err);
	slot_put(l, s);
	return r;
}

int layer_data_write(struct overlay_layer *l, const void *src, size_t n, uint64_t offset,
		     struct err *err)
{
	const uint8_t *p = src;
	struct cipher_slot *s;
	if (!codec_layer_key_encrypts(l->key))
		return file_pwrite(l->data_fd, src, n, offset, l->data_path, "overlay.data.write",
				   err);
	int r = slot_get(l, &s, err);
	if (r < 0)
		return r;
	while (r == 0 && n > 0) {
		size_t here = MIN(n, PIECE);
		r = codec_layer_encrypt(s->ctx, s->buffer, p, here, offset / CODEC_UNIT, err);
		if (r == 0)
			r = file_pwrite(l->data_fd, s->buffer, here, offset, l->data_path,
					"overlay.data.write", err);
		p += here;
		n -= here;
		offset += here;
	}
	slot_put(l, s);
	return r;
}
