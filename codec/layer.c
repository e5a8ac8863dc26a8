// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Data and state log of an overlay's layer: keys, sectors encrypted in place, MACs.
 *
 * Each layer of each disk has keys of its own, derived from the repository key of the epoch that the overlay's header names.  XTS
 * is deterministic: whoever sees two versions of a data file learns which 16-byte pieces of which sectors are the same.
 *
 * Invariants:
 *  1. The two keys of XTS are derived apart, and so never equal but by chance (which libcrypto refuses).
 *  2. A key is used for one layer of one disk of one overlay: its salt is random.
 */
#include <stdlib.h>

#include "codec/internal.h"

#include "base/banned.h"

static const char layer_info[] = "livepoint layer 1";
enum layer_part { LAYER_DATA = 1, LAYER_TWEAK = 2, LAYER_MAC = 3 };

struct codec_layer_ctx {
	const struct suite_row *row;
	EVP_CIPHER_CTX *encrypt, *decrypt;
};

static int layer_derive(const struct codec_keys *k, const uint8_t *salt, uint32_t epoch,
			struct codec_layer_key *lk, const char *disk, uint32_t layer,
			struct err *err)
{
	cleanup_buf struct buf info = BUF_INIT;
	unsigned parts = lk->row->layer_key_len / KEY_LEN;
	int r = 0;
	buf_put(&info, layer_info, strlen(layer_info));
	buf_put(&info, k->uuid, UUID_LEN);
	buf_put_le32(&info, epoch);
	buf_put_le32(&info, layer);
	size_t which = info.len;
	buf_put_u8(&info, LAYER_DATA);
	buf_put(&info, disk, strlen(disk));
	if (info.failed)
		return err_nomem(err, "a layer's keys");
	for (unsigned i = 0; r == 0 && i <= parts; i++) {
		info.data[which] = i == parts ? LAYER_MAC : (uint8_t)(LAYER_DATA + i);
		r = lk->row->derive(codec_epoch_key(k, epoch), salt, SALT_LEN, info.data, info.len,
				    lk->secret + (size_t)i * KEY_LEN, err);
	}
	return r;
}

int codec_layer_key_new(const struct codec_keys *k, const uint8_t salt[SALT_LEN], uint32_t epoch,
			const char *disk, uint32_t layer, struct codec_layer_key **out,
			struct err *err)
{
	const struct suite_row *row = k->row;
	if (row->suite.keyed ? epoch == 0 : epoch != 0 || !mem_is_zero(salt, SALT_LEN))
		return err_set(err, ERR_DAMAGED,
			       "key epoch %u and salt of the overlay do not fit cipher suite '%s'",
			       epoch, row->suite.name);
	if (epoch > k->epochs)
		return err_set(err, ERR_KEY,
			       "an overlay is encrypted under key epoch %u, which is newer than "
			       "the keys that this process was given (to epoch %u): after 'key "
			       "rotate' start it again",
			       epoch, k->epochs);
	cleanup_ptr(codec_layer_key) lk = mem_alloc(sizeof(*lk));
	if (!lk)
		return err_nomem(err, "a layer's keys");
	lk->row = row;
	if (row->suite.keyed) {
		lk->secret = codec_secret_new(row->layer_key_len + KEY_LEN);
		if (!lk->secret)
			return err_nomem(err, "a layer's keys");
		int r = layer_derive(k, salt, epoch, lk, disk, layer, err);
		if (r < 0)
			return r;
	}
	*out = steal_ptr(lk);
	return 0;
}

void codec_layer_key_free(struct codec_layer_key *lk)
{
	if (!lk)
		return;
	codec_secret_free(lk->secret, lk->row->layer_key_len + KEY_LEN);
	free(lk);
}

bool codec_layer_key_encrypts(const struct codec_layer_key *lk)
{
	return lk->secret;
}

int codec_layer_mac(const struct codec_layer_key *lk, const void *p, size_t n, uint8_t out[ID_LEN],
		    struct err *err)
{
	if (!lk->secret) {
		memset(out, 0, ID_LEN);
		return 0;
	}
	return codec_mac_under(lk->row, lk->secret + lk->row->layer_key_len, p, n, out, err);
}

int codec_layer_ctx_new(const struct codec_layer_key *lk, struct codec_layer_ctx **out,
			struct err *err)
{
	cleanup_ptr(codec_layer_ctx) c = mem_alloc(sizeof(*c));
	int r;
	if (!c)
		return err_nomem(err, "a cipher context");
	c->row = lk->row;
	c->encrypt = EVP_CIPHER_CTX_new();
	c->decrypt = EVP_CIPHER_CTX_new();
	if (!c->encrypt || !c->decrypt)
		return err_nomem(err, "a cipher context");
	r = c->row->layer_start(c->encrypt, lk->secret, 1, err);
	if (r == 0)
		r = c->row->layer_start(c->decrypt, lk->secret, 0, err);
	if (r == 0)
		*out = steal_ptr(c);
	return r;
}

void codec_layer_ctx_free(struct codec_layer_ctx *c)
{
	if (!c)
		return;
	EVP_CIPHER_CTX_free(c->encrypt); /* wipes its key schedule */
	EVP_CIPHER_CTX_free(c->decrypt);
	free(c);
}

int codec_layer_encrypt(struct codec_layer_ctx *c, void *dst, const void *src, size_t n,
			uint64_t unit, struct err *err)
{
	return c->row->layer_units(c->encrypt, dst, src, n, unit, err);
}

int codec_layer_decrypt(struct codec_layer_ctx *c, void *dst, const void *src, size_t n,
			uint64_t unit, struct err *err)
{
	return c->row->layer_units(c->decrypt, dst, src, n, unit, err);
}
