/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Inside codec/ only: the row of a suite with its operations, and the objects behind the face.
 *
 * A row's operations see keys and bytes only; nonces, associated data and record headers are made
 * by seal.c for all rows alike.
 */
#ifndef LIVEPOINT_CODEC_INTERNAL_H
#define LIVEPOINT_CODEC_INTERNAL_H

#include <openssl/evp.h>
#include <openssl/kdf.h>

#include <zstd.h>

#include "codec/codec.h"

/* Algorithms fetched once for the process; a fetch by name costs a lock and a search each time. */
struct codec_algorithms {
	EVP_MD *sha256;
	EVP_MAC *hmac;
	EVP_KDF *hkdf;
	EVP_CIPHER *aes_256_gcm;
	EVP_CIPHER *aes_256_xts;
};
/* NULL if libcrypto has not got them; static. */
const struct codec_algorithms *codec_algorithms_get(struct err *err);
/* A failure of libcrypto while doing `what`: ERR_INTERNAL with its reason, which is taken off its
 * queue. */
int codec_crypto_failed(struct err *err, const char *what);

/* --- memory for keys: locked against swap, not dumped, as far as the system allows --- */
void *codec_secret_new(size_t n); /* zeroed; NULL: out of memory */
void codec_secret_free(void *p, size_t n); /* wipes */

struct codec_sealing {
	const uint8_t *nonce; /* nonce_len bytes */
	const uint8_t *aad;
	size_t aad_len;
};

struct suite_row {
	struct codec_suite suite;
	EVP_CIPHER *(*cipher)(const struct codec_algorithms *a); /* NULL: no cipher */
	/* HKDF of the key ikm; info: n bytes */
	int (*derive)(const uint8_t ikm[KEY_LEN], const uint8_t *salt, size_t salt_len,
		      const void *info, size_t n, uint8_t out[KEY_LEN], struct err *err);
	/* key NULL: that of the last call stays.  Writes n + tag_len bytes. */
	int (*seal)(const struct suite_row *row, EVP_CIPHER_CTX *cipher, const uint8_t *key,
		    const struct codec_sealing *s, const void *plain, size_t n, uint8_t *dst,
		    struct err *err);
	/* n: bytes of sealed, tag included; writes n - tag_len; ERR_DAMAGED, and dst wiped, if the
	 * tag is wrong. */
	int (*open)(const struct suite_row *row, EVP_CIPHER_CTX *cipher, const uint8_t *key,
		    const struct codec_sealing *s, const uint8_t *sealed, size_t n, void *dst,
		    struct err *err);
	/* Data of overlays: its own cipher under a key of layer_key_len bytes, set when a context is started; units of CODEC_UNIT
	 * bytes from number `unit` on.  NULL: none. */
	unsigned layer_key_len;
	int (*layer_start)(EVP_CIPHER_CTX *cipher, const uint8_t *key, int encrypt,
			   struct err *err);
	int (*layer_units)(EVP_CIPHER_CTX *cipher, void *dst, const void *src, size_t n,
			   uint64_t unit, struct err *err);
	/* One hash or MAC; the key was set by hash_start (suite 0: none). */
	int (*hash_start)(struct codec_ctx *ctx, const uint8_t *key, struct err *err);
	int (*hash)(struct codec_ctx *ctx, const void *p, size_t n, uint8_t out[ID_LEN],
		    struct err *err);
};
const struct suite_row *codec_row_find(unsigned number); /* NULL if unknown */

struct codec_kdf { /* scrypt */
	uint8_t salt[SALT_LEN];
	uint64_t n;
	uint32_t r, p;
};

struct codec_keys {
	const struct suite_row *row;
	uint8_t uuid[UUID_LEN];
	uint32_t epochs; /* 0 for suite 0 */
	/* epochs + 1 times KEY_LEN bytes: repository key (epoch 1), id key, keys of epochs 2 and on; NULL for suite 0 */
	uint8_t *secret;
	/* The slot that a passphrase opened: its key, so that it can be written again; NULL: keys were handed over. */
	uint8_t *kek;
	struct codec_kdf opened;
};
/* epoch: 1 to k->epochs.  Borrowed. */
const uint8_t *codec_epoch_key(const struct codec_keys *k, uint32_t epoch);
int codec_keys_remember(struct codec_keys *k, const struct codec_kdf *kdf,
			const uint8_t kek[KEY_LEN], struct err *err);
struct codec_try { /* a passphrase, or a recovery key's letters, for a slot */
	struct codec_kdf kdf;
	const void *secret; /* n bytes, borrowed */
	size_t n;
};
#define CODEC_TRIES_MAX 4u /* at once: 64 MiB each */
/* scrypt for up to CODEC_TRIES_MAX, side by side, in a child process unless in_process; ERR_KEY for an empty passphrase. */
int codec_passphrase_keys(const struct codec_try *tries, unsigned count, bool in_process,
			  uint8_t (*out)[KEY_LEN], struct err *err);
/* row->open with a context for this once. */
int codec_open_once(const struct suite_row *row, const uint8_t key[KEY_LEN],
		    const struct codec_sealing *s, const uint8_t *sealed, size_t n, uint8_t *out,
		    struct err *err);
/* The suite's MAC (suite 0: hash) under a key as it is. */
int codec_mac_under(const struct suite_row *row, const uint8_t key[KEY_LEN], const void *p,
		    size_t n, uint8_t out[ID_LEN], struct err *err);

struct codec_pack_key {
	const struct suite_row *row;
	uint64_t serial; /* unique in the process, not 0: an address may come back, this does not */
	uint32_t epoch;
	uint8_t *key; /* KEY_LEN bytes; NULL for suite 0 */
};

struct codec_ctx {
	const struct codec_keys *keys; /* borrowed */
	ZSTD_CCtx *cctx;
	ZSTD_DCtx *dctx;
	int level; /* that cctx is set to; 0: none */
	EVP_CIPHER_CTX *cipher; /* NULL for suite 0 */
	uint64_t cipher_serial; /* of the pack key whose schedule it holds; 0: none */
	EVP_MD_CTX *md; /* suite 0 */
	EVP_MAC_CTX *mac; /* keyed suites: under the id key */
	uint8_t *scratch; /* decrypted, not yet decompressed bytes */
	size_t scratch_len; /* bytes */
};

struct codec_layer_key {
	const struct suite_row *row;
	uint8_t *secret; /* layer_key_len bytes, then KEY_LEN of the MAC; NULL for suite 0 */
};

/* Decompresses one zstd frame of exactly n bytes into exactly plain_len bytes; ERR_DAMAGED. */
int codec_decompress(struct codec_ctx *ctx, const void *p, size_t n, void *dst, size_t plain_len,
		     struct err *err);

#endif
