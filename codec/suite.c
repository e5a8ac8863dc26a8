/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The table of cipher suites and what a row does; the algorithms of libcrypto behind them.
 *
 * A further AEAD of libcrypto is one more row, with one more fetched algorithm.
 *
 * Invariants:
 *  1. Algorithms are fetched once and live as long as the process.
 *  2. A key given to a cipher context stays in it; NULL means that key.  Who holds a context knows
 *     whose key it is (codec_ctx.cipher_serial).
 */
#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/params.h>

#include "codec/internal.h"

#include "base/banned.h"

static struct codec_algorithms algorithms;
static bool algorithms_ok; /* written once, by algorithms_fetch */
static CRYPTO_ONCE algorithms_once = CRYPTO_ONCE_STATIC_INIT;

static void algorithms_fetch(void)
{
	algorithms.sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	algorithms.hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	algorithms.hkdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	algorithms.aes_256_gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
	algorithms.aes_256_xts = EVP_CIPHER_fetch(NULL, "AES-256-XTS", NULL);
	algorithms_ok = algorithms.sha256 && algorithms.hmac && algorithms.hkdf &&
			algorithms.aes_256_gcm && algorithms.aes_256_xts;
}

const struct codec_algorithms *codec_algorithms_get(struct err *err)
{
	if (CRYPTO_THREAD_run_once(&algorithms_once, algorithms_fetch) && algorithms_ok)
		return &algorithms;
	codec_crypto_failed(err, "loading SHA-256, HMAC, HKDF, AES-256-GCM and AES-256-XTS");
	return NULL;
}

int codec_crypto_failed(struct err *err, const char *what)
{
	unsigned long code = ERR_peek_last_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;
	ERR_clear_error();
	return err_set(err, ERR_INTERNAL, "%s failed in libcrypto: %s", what,
		       reason ? reason : "no reason given");
}

/* --- suite 0 --- */

static int plain_seal(const struct suite_row *row, EVP_CIPHER_CTX *cipher, const uint8_t *key,
		      const struct codec_sealing *s, const void *plain, size_t n, uint8_t *dst,
		      struct err *err)
{
	(void)row, (void)cipher, (void)key, (void)s, (void)err;
	memmove(dst, plain, n);
	return 0;
}

static int plain_open(const struct suite_row *row, EVP_CIPHER_CTX *cipher, const uint8_t *key,
		      const struct codec_sealing *s, const uint8_t *sealed, size_t n, void *dst,
		      struct err *err)
{
	(void)row, (void)cipher, (void)key, (void)s, (void)err;
	memmove(dst, sealed, n);
	return 0;
}

static int plain_hash_start(struct codec_ctx *ctx, const uint8_t *key, struct err *err)
{
	(void)key;
	ctx->md = EVP_MD_CTX_new();
	return ctx->md ? 0 : err_nomem(err, "a hash context");
}

static int plain_hash(struct codec_ctx *ctx, const void *p, size_t n, uint8_t out[ID_LEN],
		      struct err *err)
{
	if (!EVP_DigestInit_ex2(ctx->md, algorithms.sha256, NULL) ||
	    !EVP_DigestUpdate(ctx->md, p, n) || !EVP_DigestFinal_ex(ctx->md, out, NULL))
		return codec_crypto_failed(err, "SHA-256");
	return 0;
}

/* --- suites of libcrypto's AEAD ciphers --- */

static EVP_CIPHER *cipher_aes_256_gcm(const struct codec_algorithms *a)
{
	return a->aes_256_gcm;
}

static int hkdf_derive(const uint8_t ikm[KEY_LEN], const uint8_t *salt, size_t salt_len,
		       const void *info, size_t n, uint8_t out[KEY_LEN], struct err *err)
{
	char digest[] = "SHA256";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)ikm,
						  KEY_LEN),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)(uintptr_t)salt,
						  salt_len),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)(uintptr_t)info, n),
		OSSL_PARAM_construct_end(),
	};
	const struct codec_algorithms *a = codec_algorithms_get(err);
	if (!a)
		return ERR_INTERNAL;
	EVP_KDF_CTX *kdf = EVP_KDF_CTX_new(a->hkdf);
	int ok = kdf && EVP_KDF_derive(kdf, out, KEY_LEN, params) > 0;
	EVP_KDF_CTX_free(kdf);
	return ok ? 0 : codec_crypto_failed(err, "HKDF-SHA-256");
}

/* The first call of a context sets the cipher, too. */
static int aead_start(const struct suite_row *row, EVP_CIPHER_CTX *cipher, const uint8_t *key,
		      const struct codec_sealing *s, int encrypt, struct err *err)
{
	int len;
	const struct codec_algorithms *a = codec_algorithms_get(err);
	if (!a)
		return ERR_INTERNAL;
	if (key ? !EVP_CipherInit_ex2(cipher, row->cipher(a), key, s->nonce, encrypt, NULL) :
		  !EVP_CipherInit_ex2(cipher, NULL, NULL, s->nonce, encrypt, NULL))
		return codec_crypto_failed(err, row->suite.name);
	if (!EVP_CipherUpdate(cipher, NULL, &len, s->aad, (int)s->aad_len))
		return codec_crypto_failed(err, row->suite.name);
	return 0;
}

static int aead_seal(const struct suite_row *row, EVP_CIPHER_CTX *cipher, const uint8_t *key,
		     const struct codec_sealing *s, const void *plain, size_t n, uint8_t *dst,
		     struct err *err)
{
	int len, last, r;
	if (n > INT_MAX / 2)
		return err_set(err, ERR_INTERNAL, "sealing %zu bytes at once", n);
	r = aead_start(row, cipher, key, s, 1, err);
	if (r < 0)
		return r;
	if (!EVP_EncryptUpdate(cipher, dst, &len, plain, (int)n) ||
	    !EVP_EncryptFinal_ex(cipher, dst + len, &last) || (size_t)len + (size_t)last != n ||
	    !EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, (int)row->suite.tag_len, dst + n))
		return codec_crypto_failed(err, row->suite.name);
	return 0;
}

static int aead_open(const struct suite_row *row, EVP_CIPHER_CTX *cipher, const uint8_t *key,
		     const struct codec_sealing *s, const uint8_t *sealed, size_t n, void *dst,
		     struct err *err)
{
	int len = 0, last = 0, r;
	uint8_t tag[TAG_MAX];
	if (n < row->suite.tag_len || n > INT_MAX / 2)
		return err_set(err, ERR_DAMAGED, "%zu bytes are not sealed", n);
	n -= row->suite.tag_len;
	memcpy(tag, sealed + n, row->suite.tag_len);
	r = aead_start(row, cipher, key, s, 0, err);
	if (r < 0)
		return r;
	if (!EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_SET_TAG, (int)row->suite.tag_len, tag) ||
	    !EVP_DecryptUpdate(cipher, dst, &len, sealed, (int)n) || (size_t)len != n) {
		mem_wipe(dst, n);
		return codec_crypto_failed(err, row->suite.name);
	}
	if (!EVP_DecryptFinal_ex(cipher, (uint8_t *)dst + len, &last)) {
		/* nothing of it may reach anybody */
		mem_wipe(dst, n);
		ERR_clear_error();
		return err_set(err, ERR_DAMAGED, "the tag of the sealed data does not match");
	}
	return 0;
}

static int hmac_start(struct codec_ctx *ctx, const uint8_t *key, struct err *err)
{
	char digest[] = "SHA256";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_end(),
	};
	const struct codec_algorithms *a = codec_algorithms_get(err);
	if (!a)
		return ERR_INTERNAL;
	ctx->mac = EVP_MAC_CTX_new(a->hmac);
	if (!ctx->mac)
		return err_nomem(err, "a MAC context");
	return EVP_MAC_init(ctx->mac, key, KEY_LEN, params) ?
		       0 :
		       codec_crypto_failed(err, "HMAC-SHA-256");
}

static int hmac_hash(struct codec_ctx *ctx, const void *p, size_t n, uint8_t out[ID_LEN],
		     struct err *err)
{
	size_t len;
	/* no key: starts again under the one it has, without hashing it again */
	if (!EVP_MAC_init(ctx->mac, NULL, 0, NULL) || !EVP_MAC_update(ctx->mac, p, n) ||
	    !EVP_MAC_final(ctx->mac, out, &len, ID_LEN) || len != ID_LEN)
		return codec_crypto_failed(err, "HMAC-SHA-256");
	return 0;
}

/* --- data of overlays: AES-256-XTS --- */

static int xts_start(EVP_CIPHER_CTX *cipher, const uint8_t *key, int encrypt, struct err *err)
{
	const struct codec_algorithms *a = codec_algorithms_get(err);
	if (!a)
		return ERR_INTERNAL;
	return EVP_CipherInit_ex2(cipher, a->aes_256_xts, key, NULL, encrypt, NULL) ?
		       0 :
		       codec_crypto_failed(err, "AES-256-XTS");
}

static int xts_units(EVP_CIPHER_CTX *cipher, void *dst, const void *src, size_t n, uint64_t unit,
		     struct err *err)
{
	uint8_t tweak[16] = { 0 };
	int len;
	for (size_t at = 0; at < n; at += CODEC_UNIT) {
		put_le64(tweak, unit++);
		if (!EVP_CipherInit_ex2(cipher, NULL, NULL, tweak, -1, NULL) ||
		    !EVP_CipherUpdate(cipher, (uint8_t *)dst + at, &len, (const uint8_t *)src + at,
				      CODEC_UNIT) ||
		    len != CODEC_UNIT)
			return codec_crypto_failed(err, "AES-256-XTS");
	}
	return 0;
}

/* --- the table --- */

static const struct suite_row rows[] = {
	{
		.suite = { .number = 0, .name = "none" },
		.seal = plain_seal,
		.open = plain_open,
		.hash_start = plain_hash_start,
		.hash = plain_hash,
	},
	{
		.suite = { .number = 1,
			   .name = "aes-256-gcm",
			   .keyed = true,
			   .key_len = 32,
			   .nonce_len = 12,
			   .tag_len = 16 },
		.cipher = cipher_aes_256_gcm,
		.derive = hkdf_derive,
		.seal = aead_seal,
		.open = aead_open,
		.layer_key_len = 64,
		.layer_start = xts_start,
		.layer_units = xts_units,
		.hash_start = hmac_start,
		.hash = hmac_hash,
	},
};

const struct suite_row *codec_row_find(unsigned number)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].suite.number == number)
			return &rows[i];
	return NULL;
}

const struct codec_suite *codec_suite_find(unsigned number)
{
	const struct suite_row *row = codec_row_find(number);
	return row ? &row->suite : NULL;
}
