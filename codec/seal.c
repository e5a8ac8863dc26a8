/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Records: from a payload to what a pack stores, and back to plaintext.
 *
 * Invariants:
 *  1. Nonce of a keyed suite: slot number, 8 random bytes, zeroes; a record whose nonce names
 *     another slot is damaged.
 *  2. Lengths are compared with those that the encoder would have made before a byte is opened.
 *  3. dst holds plaintext only if 0 is returned; else it is wiped or was not touched.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "codec/internal.h"

#include "base/banned.h"

#define NONCE_SLOT_LEN 4
#define NONCE_RANDOM_LEN 8

/* The key to give to the cipher: NULL if it holds the schedule already. */
static const uint8_t *schedule_key(struct codec_ctx *ctx, const struct codec_pack_key *pk)
{
	return ctx->cipher_serial == pk->serial ? NULL : pk->key;
}

int codec_seal_record(struct codec_ctx *ctx, const struct codec_pack_key *pk,
		      struct record_header *h, const void *payload, size_t n, void *dst,
		      struct err *err)
{
	const struct suite_row *row = pk->row;
	struct record_header sealed = *h;
	uint8_t aad[RECORD_AAD_LEN];

	if (row != ctx->keys->row)
		return err_set(err, ERR_INTERNAL, "a pack's key of another cipher suite");
	if (n < 1 || h->plain_len > OBJECT_PLAIN_MAX || h->slot >= SLOT_MAX_COUNT ||
	    (h->codec == CODEC_RAW ? n != h->plain_len : n >= h->plain_len))
		return err_set(err, ERR_INTERNAL,
			       "a payload of %zu bytes for %" PRIu32 " bytes in slot %" PRIu32, n,
			       h->plain_len, h->slot);
	sealed.epoch = pk->epoch;
	sealed.stored_len = (uint32_t)n + row->suite.tag_len;
	memset(sealed.nonce, 0, NONCE_MAX);
	if (row->suite.keyed) {
		sealed.xxh3 = 0;
		put_le32(sealed.nonce, h->slot);
		random_bytes(sealed.nonce + NONCE_SLOT_LEN, NONCE_RANDOM_LEN);
	}
	record_aad(ctx->keys->uuid, &sealed, aad);
	const struct codec_sealing s = { .nonce = sealed.nonce,
					 .aad = aad,
					 .aad_len = sizeof(aad) };
	int r = row->seal(row, ctx->cipher, schedule_key(ctx, pk), &s, payload, n, dst, err);
	ctx->cipher_serial = r < 0 ? 0 : pk->serial;
	if (r < 0)
		return r;
	*h = sealed;
	return 0;
}

static int header_check(const struct codec_pack_key *pk, const struct record_header *h,
			struct err *err)
{
	const struct codec_suite *suite = &pk->row->suite;
	const char *wrong = NULL;
	uint8_t slot[NONCE_SLOT_LEN];
	put_le32(slot, h->slot);
	size_t used = suite->keyed ? NONCE_SLOT_LEN + NONCE_RANDOM_LEN : 0;

	if (h->epoch != pk->epoch)
		wrong = "its key epoch is not the pack's";
	else if (h->plain_len < 1 || h->plain_len > OBJECT_PLAIN_MAX || h->codec > CODEC_ZSTD)
		wrong = "its plain length or codec is out of range";
	else if (h->codec == CODEC_RAW ? h->stored_len != h->plain_len + suite->tag_len :
					 h->stored_len <= suite->tag_len ||
						 h->stored_len >= h->plain_len + suite->tag_len)
		wrong = "its stored length does not fit";
	else if (!mem_is_zero(h->nonce + used, NONCE_MAX - used) ||
		 (suite->keyed && memcmp(h->nonce, slot, NONCE_SLOT_LEN) != 0))
		wrong = "its nonce does not fit";
	else if (suite->keyed && h->xxh3 != 0)
		wrong = "it has a check of the plaintext beside the seal";
	return wrong ? err_set(err, ERR_DAMAGED, "record in slot %" PRIu32 ": %s", h->slot, wrong) :
		       0;
}

/* Room for n bytes between cipher and zstd. */
static int scratch_reserve(struct codec_ctx *ctx, size_t n, struct err *err)
{
	if (n <= ctx->scratch_len)
		return 0;
	uint8_t *p = mem_alloc(n);
	if (!p)
		return err_nomem(err, "a compressed object");
	free(ctx->scratch);
	ctx->scratch = p;
	ctx->scratch_len = n;
	return 0;
}

/* The payload as it was before sealing, into dst. */
static int unseal(struct codec_ctx *ctx, const struct codec_pack_key *pk,
		  const struct record_header *h, const void *payload, void *dst, struct err *err)
{
	uint8_t aad[RECORD_AAD_LEN];
	record_aad(ctx->keys->uuid, h, aad);
	const struct codec_sealing s = { .nonce = h->nonce, .aad = aad, .aad_len = sizeof(aad) };
	int r = pk->row->open(pk->row, ctx->cipher, schedule_key(ctx, pk), &s, payload,
			      h->stored_len, dst, err);
	/* a wrong tag leaves the schedule in place; other failures may not */
	ctx->cipher_serial = r < 0 && r != ERR_DAMAGED ? 0 : pk->serial;
	return r;
}

static int open_payload(struct codec_ctx *ctx, const struct codec_pack_key *pk,
			const struct record_header *h, const void *payload, void *dst,
			struct err *err)
{
	size_t inner = h->stored_len - pk->row->suite.tag_len;
	if (h->codec == CODEC_RAW)
		return unseal(ctx, pk, h, payload, dst, err);
	if (!pk->row->suite.keyed)
		return codec_decompress(ctx, payload, inner, dst, h->plain_len, err);
	int r = scratch_reserve(ctx, inner, err);
	if (r == 0)
		r = unseal(ctx, pk, h, payload, ctx->scratch, err);
	return r < 0 ? r : codec_decompress(ctx, ctx->scratch, inner, dst, h->plain_len, err);
}

int codec_open_record(struct codec_ctx *ctx, const struct codec_pack_key *pk,
		      const struct record_header *h, const void *payload, void *dst,
		      struct err *err)
{
	if (pk->row != ctx->keys->row)
		return err_set(err, ERR_INTERNAL, "a pack's key of another cipher suite");
	int r = header_check(pk, h, err);
	if (r < 0)
		return r;
	r = open_payload(ctx, pk, h, payload, dst, err);
	if (r < 0)
		return err_prefix(err, "record in slot %" PRIu32, h->slot), r;
	if (!pk->row->suite.keyed && check_xxh3(dst, h->plain_len) != h->xxh3) {
		mem_wipe(dst, h->plain_len);
		return err_set(err, ERR_DAMAGED,
			       "record in slot %" PRIu32
			       ": the check of its plaintext does not match",
			       h->slot);
	}
	return 0;
}
