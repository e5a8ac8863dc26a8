/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Keys of a repository: made, wrapped under a passphrase, opened, handed on; MACs outside packs.
 *
 * Derivation (HKDF-SHA-256, RFC 5869), all from the repository key:
 *	id key		salt = uuid, info = "livepoint id 1"
 *	MAC key		salt = uuid, info = "livepoint mac 1 " || purpose
 *	pack key	salt = the pack's, info = "livepoint pack 1" || uuid || epoch || number of
 *			the pack (ctx.c)
 * A key file seals the repository key under scrypt (RFC 7914) of the passphrase.
 *
 * Invariants:
 *  1. Key bytes are in libcrypto's secure heap (locked, not dumped) while there is room, and wiped
 *     wherever they were.  After a fork the child's copy is not locked.
 *  2. Parameters of scrypt are bounded before it runs, those of a key file too.
 */
#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdlib.h>

#include "base/proc.h"
#include "codec/internal.h"

#include "base/banned.h"

#define SECURE_HEAP_LEN (256 * 1024) /* bytes: 4096 pack keys; RLIMIT_MEMLOCK is 8 MiB */
#define SECURE_HEAP_LEAST 32 /* bytes, of one piece */
#define PURPOSE_MAX 64
#define FIRST_EPOCH 1
static const char id_info[] = "livepoint id 1";
static const char mac_info[] = "livepoint mac 1 ";

static CRYPTO_ONCE secure_heap_once = CRYPTO_ONCE_STATIC_INIT;

static void secure_heap_start(void)
{
	/* a program may have one of its own; without any the ordinary heap serves */
	if (!CRYPTO_secure_malloc_initialized())
		CRYPTO_secure_malloc_init(SECURE_HEAP_LEN, SECURE_HEAP_LEAST);
}

void *codec_secret_new(size_t n)
{
	if (CRYPTO_THREAD_run_once(&secure_heap_once, secure_heap_start) &&
	    CRYPTO_secure_malloc_initialized()) {
		void *p = OPENSSL_secure_zalloc(n);
		if (p)
			return p;
	}
	return mem_alloc(n);
}

void codec_secret_free(void *p, size_t n)
{
	if (!p)
		return;
	mem_wipe(p, n);
	if (CRYPTO_secure_allocated(p))
		OPENSSL_secure_clear_free(p, n);
	else
		free(p);
}

/* Takes no key: fills k->secret with one given (or none for suite 0). */
static int keys_new(unsigned suite, const uint8_t *uuid, const uint8_t *key,
		    struct codec_keys **out, struct err *err)
{
	const struct suite_row *row = codec_row_find(suite);
	if (!row)
		return err_set(err, ERR_UNSUPPORTED, "cipher suite %u is not known", suite);
	if (!codec_algorithms_get(err))
		return ERR_INTERNAL;
	cleanup_ptr(codec_keys) k = mem_alloc(sizeof(*k));
	if (!k)
		return err_nomem(err, "keys");
	k->row = row;
	memcpy(k->uuid, uuid, UUID_LEN);
	if (row->suite.keyed) {
		k->epoch = FIRST_EPOCH;
		k->secret = codec_secret_new(SECRET_LEN);
		if (!k->secret)
			return err_nomem(err, "keys");
		memcpy(k->secret, key, KEY_LEN);
		int r = row->derive(key, uuid, UUID_LEN, id_info, strlen(id_info),
				    k->secret + KEY_LEN, err);
		if (r < 0)
			return r;
	}
	*out = steal_ptr(k);
	return 0;
}

int codec_keys_plain(const uint8_t uuid[UUID_LEN], struct codec_keys **out, struct err *err)
{
	return keys_new(0, uuid, NULL, out, err);
}

int codec_keys_import(unsigned suite, const uint8_t uuid[UUID_LEN], const uint8_t key[KEY_LEN],
		      struct codec_keys **out, struct err *err)
{
	const struct codec_suite *s = codec_suite_find(suite);
	if (s && !s->keyed)
		return err_set(err, ERR_INVALID, "cipher suite '%s' has no key", s->name);
	return keys_new(suite, uuid, key, out, err);
}

int codec_keys_generate(unsigned suite, const uint8_t uuid[UUID_LEN], struct codec_keys **out,
			struct err *err)
{
	uint8_t key[KEY_LEN];
	random_bytes(key, sizeof(key));
	int r = codec_keys_import(suite, uuid, key, out, err);
	mem_wipe(key, sizeof(key));
	return r;
}

void codec_keys_free(struct codec_keys *k)
{
	if (!k)
		return;
	codec_secret_free(k->secret, SECRET_LEN);
	free(k);
}

const struct codec_suite *codec_keys_suite(const struct codec_keys *k)
{
	return &k->row->suite;
}

const uint8_t *codec_keys_uuid(const struct codec_keys *k)
{
	return k->uuid;
}

uint32_t codec_keys_epoch(const struct codec_keys *k)
{
	return k->epoch;
}

unsigned codec_overhead(const struct codec_keys *k)
{
	return k->row->suite.tag_len;
}

int codec_keys_export(const struct codec_keys *k, uint8_t out[KEY_LEN], struct err *err)
{
	if (!k->secret)
		return err_set(err, ERR_INVALID, "a repository without encryption has no key");
	memcpy(out, k->secret, KEY_LEN);
	return 0;
}

/* --- passphrases --- */

struct scrypt_job {
	const struct key_file *file; /* salt and parameters */
	const void *passphrase;
	size_t n;
};

/* Appends the derived key; runs in a child process or here. */
static int scrypt_run(void *arg, struct buf *result, struct err *err)
{
	const struct scrypt_job *job = arg;
	const struct key_file *f = job->file;
	uint8_t key[KEY_LEN];
	/* what libcrypto counts, and room to round */
	uint64_t memory = 128 * (uint64_t)f->kdf_r * (f->kdf_n + f->kdf_p + 2) + MiB;
	int r = 0;
	if (!EVP_PBE_scrypt(job->passphrase, job->n, f->salt, SALT_LEN, f->kdf_n, f->kdf_r,
			    f->kdf_p, memory, key, sizeof(key)))
		r = codec_crypto_failed(err, "scrypt");
	else
		buf_put(result, key, sizeof(key));
	mem_wipe(key, sizeof(key));
	return r < 0 ? r : result->failed ? err_nomem(err, "a passphrase's key") : 0;
}

static int passphrase_key(const struct key_file *f, const void *passphrase, size_t n,
			  bool in_process, uint8_t out[KEY_LEN], struct err *err)
{
	struct scrypt_job job = { .file = f, .passphrase = passphrase, .n = n };
	struct buf result = BUF_INIT;
	if (n == 0)
		return err_set(err, ERR_KEY, "an empty passphrase is not allowed");
	if (!kdf_valid(f->kdf_n, f->kdf_r, f->kdf_p))
		return err_set(err, ERR_INVALID, "key derivation parameters are out of range");
	/* so that it never moves and leaves a copy behind */
	int r = buf_reserve(&result, 256) ? 0 : err_nomem(err, "a passphrase's key");
	if (r == 0)
		r = in_process ? scrypt_run(&job, &result, err) :
				 proc_call(scrypt_run, &job, &result, err);
	if (r >= 0 && result.len != KEY_LEN)
		r = err_set(err, ERR_CHILD, "the child for the passphrase gave %zu bytes",
			    result.len);
	if (r >= 0)
		memcpy(out, result.data, KEY_LEN);
	if (result.data)
		mem_wipe(result.data, result.cap);
	buf_release(&result);
	return r < 0 ? r : 0;
}

/* Seals or opens the repository key of f under kek. */
static int wrap_run(const struct suite_row *row, const struct key_file *f,
		    const uint8_t kek[KEY_LEN], bool seal, const uint8_t *in, uint8_t *out,
		    struct err *err)
{
	uint8_t raw[KEY_FILE_LEN];
	key_file_encode(f, raw);
	const struct codec_sealing s = { .nonce = f->nonce, .aad = raw, .aad_len = KEY_AAD_LEN };
	EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
	if (!cipher)
		return err_nomem(err, "a cipher context");
	int r = seal ? row->seal(row, cipher, kek, &s, in, KEY_LEN, out, err) :
		       row->open(row, cipher, kek, &s, in, KEY_LEN + row->suite.tag_len, out, err);
	EVP_CIPHER_CTX_free(cipher);
	return r;
}

int codec_key_wrap(const struct codec_keys *k, const void *passphrase, size_t n, const char *label,
		   uint64_t kdf_n, uint32_t kdf_r, uint32_t kdf_p, struct key_file *out,
		   struct err *err)
{
	struct key_file f = {
		.suite = k->row->suite.number, .kdf_n = kdf_n, .kdf_r = kdf_r, .kdf_p = kdf_p
	};
	uint8_t kek[KEY_LEN];
	if (!k->secret)
		return err_set(err, ERR_INVALID, "a repository without encryption has no key");
	if (!key_label_valid(label))
		return err_set(err, ERR_INVALID, "the label of a key is at most %d bytes of text",
			       KEY_LABEL_MAX);
	str_copy(f.label, sizeof(f.label), label);
	memcpy(f.uuid, k->uuid, UUID_LEN);
	f.created = time_now();
	random_bytes(f.salt, SALT_LEN);
	random_bytes(f.nonce, k->row->suite.nonce_len);
	int r = passphrase_key(&f, passphrase, n, false, kek, err);
	if (r == 0)
		r = wrap_run(k->row, &f, kek, true, k->secret, f.wrapped, err);
	mem_wipe(kek, sizeof(kek));
	if (r < 0)
		return r;
	*out = f;
	return 0;
}

int codec_key_unwrap(const struct key_file *f, const void *passphrase, size_t n, bool in_process,
		     struct codec_keys **out, struct err *err)
{
	const struct suite_row *row = codec_row_find(f->suite);
	uint8_t kek[KEY_LEN], key[KEY_LEN];
	if (!row || !row->suite.keyed)
		return err_set(err, ERR_UNSUPPORTED, "key file of cipher suite %u", f->suite);
	int r = passphrase_key(f, passphrase, n, in_process, kek, err);
	if (r == 0)
		r = wrap_run(row, f, kek, false, f->wrapped, key, err);
	mem_wipe(kek, sizeof(kek));
	if (r == ERR_DAMAGED)
		return err_set(err, ERR_KEY, "the passphrase does not open this key");
	if (r == 0)
		r = keys_new(f->suite, f->uuid, key, out, err);
	mem_wipe(key, sizeof(key));
	return r;
}

int codec_mac(const struct codec_keys *k, const char *purpose, const void *p, size_t n,
	      uint8_t out[ID_LEN], struct err *err)
{
	const struct suite_row *row = k->row;
	struct codec_ctx ctx = { .keys = k };
	uint8_t info[sizeof(mac_info) + PURPOSE_MAX], key[KEY_LEN] = { 0 };
	size_t purpose_len = strlen(purpose);
	int r = 0;
	if (purpose_len == 0 || purpose_len > PURPOSE_MAX)
		return err_set(err, ERR_INTERNAL, "the purpose of a MAC has %zu bytes",
			       purpose_len);
	if (row->suite.keyed) {
		memcpy(info, mac_info, strlen(mac_info));
		memcpy(info + strlen(mac_info), purpose, purpose_len);
		r = row->derive(k->secret, k->uuid, UUID_LEN, info, strlen(mac_info) + purpose_len,
				key, err);
	}
	if (r == 0)
		r = row->hash_start(&ctx, key, err);
	if (r == 0)
		r = row->hash(&ctx, p, n, out, err);
	EVP_MD_CTX_free(ctx.md);
	EVP_MAC_CTX_free(ctx.mac);
	mem_wipe(key, sizeof(key));
	return r;
}
