/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Contexts of a thread, content ids, and subkeys of packs.
 *
 * Invariants:
 *  1. A context belongs to one repository's keys: its MAC is under the id key for its life.
 *  2. A pack key's serial is never used twice in a process.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "codec/internal.h"

#include "base/banned.h"

static const char pack_info[] = "livepoint pack 1";
static _Atomic uint64_t next_serial = 1;

int codec_ctx_new(const struct codec_keys *k, struct codec_ctx **out, struct err *err)
{
	cleanup_ptr(codec_ctx) ctx = mem_alloc(sizeof(*ctx));
	if (!ctx)
		return err_nomem(err, "a codec context");
	ctx->keys = k;
	ctx->cctx = ZSTD_createCCtx();
	ctx->dctx = ZSTD_createDCtx();
	if (k->row->suite.keyed)
		ctx->cipher = EVP_CIPHER_CTX_new();
	if (!ctx->cctx || !ctx->dctx || (k->row->suite.keyed && !ctx->cipher))
		return err_nomem(err, "a codec context");
	int r = k->row->hash_start(ctx, k->secret ? k->secret + KEY_LEN : NULL, err);
	if (r < 0)
		return r;
	*out = steal_ptr(ctx);
	return 0;
}

void codec_ctx_free(struct codec_ctx *ctx)
{
	if (!ctx)
		return;
	ZSTD_freeCCtx(ctx->cctx);
	ZSTD_freeDCtx(ctx->dctx);
	EVP_CIPHER_CTX_free(ctx->cipher); /* wipes its key schedule */
	EVP_MD_CTX_free(ctx->md);
	EVP_MAC_CTX_free(ctx->mac);
	free(ctx->scratch);
	free(ctx);
}

int codec_id(struct codec_ctx *ctx, const void *p, size_t n, uint8_t out[ID_LEN], struct err *err)
{
	return ctx->keys->row->hash(ctx, p, n, out, err);
}

int codec_pack_key_new(const struct codec_keys *k, const uint8_t salt[SALT_LEN], uint32_t epoch,
		       uint64_t number, struct codec_pack_key **out, struct err *err)
{
	const struct suite_row *row = k->row;
	if (row->suite.keyed ? epoch == 0 : epoch != 0 || !mem_is_zero(salt, SALT_LEN))
		return err_set(err, ERR_DAMAGED,
			       "key epoch %u and salt of the pack do not fit cipher suite '%s'",
			       epoch, row->suite.name);
	if (epoch > k->epochs)
		return err_set(err, ERR_KEY,
			       "sealed under key epoch %u, which is newer than the keys that this "
			       "process was given (to epoch %u): after 'key rotate' start it again",
			       epoch, k->epochs);
	cleanup_ptr(codec_pack_key) pk = mem_alloc(sizeof(*pk));
	if (!pk)
		return err_nomem(err, "a pack's key");
	pk->row = row;
	pk->serial = atomic_fetch_add(&next_serial, 1);
	pk->epoch = epoch;
	if (row->suite.keyed) {
		uint8_t info[sizeof(pack_info) - 1 + UUID_LEN + 4 + 8];
		memcpy(info, pack_info, sizeof(pack_info) - 1);
		memcpy(info + sizeof(pack_info) - 1, k->uuid, UUID_LEN);
		put_le32(info + sizeof(pack_info) - 1 + UUID_LEN, epoch);
		put_le64(info + sizeof(pack_info) - 1 + UUID_LEN + 4, number);
		pk->key = codec_secret_new(KEY_LEN);
		if (!pk->key)
			return err_nomem(err, "a pack's key");
		int r = row->derive(codec_epoch_key(k, epoch), salt, SALT_LEN, info, sizeof(info),
				    pk->key, err);
		if (r < 0)
			return r;
	}
	*out = steal_ptr(pk);
	return 0;
}

void codec_pack_key_free(struct codec_pack_key *pk)
{
	if (!pk)
		return;
	codec_secret_free(pk->key, KEY_LEN);
	free(pk);
}
