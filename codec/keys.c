/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Keys of a repository: made, opened by a passphrase, handed on; MACs outside packs.
 *
 * Derivation (HKDF-SHA-256, RFC 5869), from the repository key, which is the key of epoch 1:
 *	id key		salt = uuid, info = "livepoint id 1"
 *	MAC key		salt = uuid, info = "livepoint mac 1 " || purpose
 * and from the key of the pack's epoch:
 *	pack key	salt = the pack's, info = "livepoint pack 1" || uuid || epoch || number of
 *			the pack (ctx.c)
 *	layer keys	salt = the overlay's, info = "livepoint layer 1" || uuid || epoch || number of the
 *			layer || which key || name of the disk (layer.c)
 * Slots and epochs on disk: ring.c.  A key file of version 1 seals the repository key under scrypt (RFC 7914) of the
 * passphrase.
 *
 * Invariants:
 *  1. Key bytes are in libcrypto's secure heap (locked, not dumped) while there is room, and wiped
 *     wherever they were.  After a fork the child's copy is not locked.
 *  2. Parameters of scrypt are bounded before it runs, those of a key file too.
 */
#include <openssl/crypto.h>
#include <stdlib.h>

#include "base/pool.h"
#include "base/proc.h"
#include "codec/internal.h"

#include "base/banned.h"

#define SECURE_HEAP_LEN (256 * 1024) /* bytes: 4096 pack keys; RLIMIT_MEMLOCK is 8 MiB */
#define SECURE_HEAP_LEAST 32 /* bytes, of one piece */
#define PURPOSE_MAX 64
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

static size_t secret_len(unsigned epochs)
{
	return (size_t)(epochs + 1) * KEY_LEN;
}

/* raw: the keys of all epochs, or none for suite 0. */
static int keys_new(unsigned suite, const uint8_t *uuid, const uint8_t *raw, unsigned epochs,
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
		k->epochs = epochs;
		k->secret = codec_secret_new(secret_len(epochs));
		if (!k->secret)
			return err_nomem(err, "keys");
		memcpy(k->secret, raw, KEY_LEN);
		memcpy(k->secret + 2 * KEY_LEN, raw + KEY_LEN, (size_t)(epochs - 1) * KEY_LEN);
		int r = row->derive(raw, uuid, UUID_LEN, id_info, strlen(id_info),
				    k->secret + KEY_LEN, err);
		if (r < 0)
			return r;
	}
	*out = steal_ptr(k);
	return 0;
}

int codec_keys_plain(const uint8_t uuid[UUID_LEN], struct codec_keys **out, struct err *err)
{
	return keys_new(0, uuid, NULL, 0, out, err);
}

int codec_keys_import(unsigned suite, const uint8_t uuid[UUID_LEN], const uint8_t *raw, size_t n,
		      struct codec_keys **out, struct err *err)
{
	const struct codec_suite *s = codec_suite_find(suite);
	if (s && !s->keyed)
		return err_set(err, ERR_INVALID, "cipher suite '%s' has no key", s->name);
	if (n == 0 || n % KEY_LEN != 0 || n > KEYS_RAW_MAX)
		return err_set(err, ERR_KEY, "%zu bytes are no keys: they have %d for each epoch",
			       n, KEY_LEN);
	return keys_new(suite, uuid, raw, (unsigned)(n / KEY_LEN), out, err);
}

int codec_keys_generate(unsigned suite, const uint8_t uuid[UUID_LEN], struct codec_keys **out,
			struct err *err)
{
	uint8_t key[KEY_LEN];
	random_bytes(key, sizeof(key));
	int r = codec_keys_import(suite, uuid, key, sizeof(key), out, err);
	mem_wipe(key, sizeof(key));
	return r;
}

int codec_keys_rotate(const struct codec_keys *k, struct codec_keys **out, struct err *err)
{
	uint8_t raw[KEYS_RAW_MAX];
	struct codec_keys *made = NULL;
	size_t n;
	if (k->epochs == KEY_EPOCHS_MAX)
		return err_set(err, ERR_TOO_BIG, "a repository has at most %d key epochs",
			       KEY_EPOCHS_MAX);
	int r = codec_keys_export(k, raw, &n, err);
	if (r == 0) {
		random_bytes(raw + n, KEY_LEN);
		r = codec_keys_import(k->row->suite.number, k->uuid, raw, n + KEY_LEN, &made, err);
	}
	mem_wipe(raw, sizeof(raw));
	if (r == 0 && k->kek) {
		made->kek = codec_secret_new(KEY_LEN);
		made->opened = k->opened;
		if (!made->kek) {
			codec_keys_free(made);
			return err_nomem(err, "keys");
		}
		memcpy(made->kek, k->kek, KEY_LEN);
	}
	if (r == 0)
		*out = made;
	return r;
}

void codec_keys_free(struct codec_keys *k)
{
	if (!k)
		return;
	codec_secret_free(k->secret, secret_len(k->epochs));
	codec_secret_free(k->kek, KEY_LEN);
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
	return k->epochs;
}

const uint8_t *codec_keys_opened(const struct codec_keys *k)
{
	return k->kek ? k->opened.salt : NULL;
}

const uint8_t *codec_epoch_key(const struct codec_keys *k, uint32_t epoch)
{
	return k->secret + (epoch == 1 ? 0 : (size_t)epoch * KEY_LEN);
}

unsigned codec_overhead(const struct codec_keys *k)
{
	return k->row->suite.tag_len;
}

int codec_keys_export(const struct codec_keys *k, uint8_t out[KEYS_RAW_MAX], size_t *n,
		      struct err *err)
{
	if (!k->secret)
		return err_set(err, ERR_INVALID, "a repository without encryption has no key");
	memcpy(out, k->secret, KEY_LEN);
	memcpy(out + KEY_LEN, k->secret + 2 * KEY_LEN, (size_t)(k->epochs - 1) * KEY_LEN);
	*n = (size_t)k->epochs * KEY_LEN;
	return 0;
}

/* --- passphrases --- */

struct scrypt_job {
	struct pool_job job;
	const struct codec_try *what;
	uint8_t key[KEY_LEN];
	int result;
	struct err err;
};

static void scrypt_one(struct pool_job *job, void *worker_ctx)
{
	struct scrypt_job *s = container_of(job, struct scrypt_job, job);
	const struct codec_kdf *f = &s->what->kdf;
	/* what libcrypto counts, and room to round */
	uint64_t memory = 128 * (uint64_t)f->r * (f->n + f->p + 2) + MiB;

	(void)worker_ctx;
	if (!EVP_PBE_scrypt(s->what->secret, s->what->n, f->salt, SALT_LEN, f->n, f->r, f->p,
			    memory, s->key, sizeof(s->key)))
		s->result = codec_crypto_failed(&s->err, "scrypt");
}

struct scrypt_jobs {
	const struct codec_try *tries;
	unsigned count;
};

/* Appends the derived keys; runs in a child process, with a thread for each, or here. */
static int scrypt_run(void *arg, struct buf *result, struct err *err)
{
	const struct scrypt_jobs *all = arg;
	struct scrypt_job jobs[CODEC_TRIES_MAX] = { 0 };
	struct pool *pool = NULL;
	int r = all->count == 1 ? 0 : pool_new(all->count, NULL, &pool, err);

	for (unsigned i = 0; r == 0 && i < all->count; i++) {
		jobs[i].job.run = scrypt_one;
		jobs[i].what = &all->tries[i];
		if (pool)
			pool_submit(pool, &jobs[i].job);
		else
			scrypt_one(&jobs[i].job, NULL);
	}
	pool_free(pool); /* waits for them */
	for (unsigned i = 0; r == 0 && i < all->count; i++) {
		r = jobs[i].result;
		if (r < 0 && err)
			*err = jobs[i].err;
		buf_put(result, jobs[i].key, KEY_LEN);
	}
	mem_wipe(jobs, sizeof(jobs));
	return r < 0 ? r : result->failed ? err_nomem(err, "a passphrase's key") : 0;
}

static int tries_check(const struct codec_try *tries, unsigned count, struct err *err)
{
	for (unsigned i = 0; i < count; i++) {
		if (tries[i].n == 0)
			return err_set(err, ERR_KEY, "an empty passphrase is not allowed");
		if (!kdf_valid(tries[i].kdf.n, tries[i].kdf.r, tries[i].kdf.p))
			return err_set(err, ERR_INVALID,
				       "key derivation parameters are out of range");
	}
	return 0;
}

int codec_passphrase_keys(const struct codec_try *tries, unsigned count, bool in_process,
			  uint8_t (*out)[KEY_LEN], struct err *err)
{
	struct scrypt_jobs jobs = { .tries = tries, .count = count };
	struct buf result = BUF_INIT;
	int r = tries_check(tries, count, err);

	/* so that it never moves and leaves a copy behind */
	if (r == 0 && !buf_reserve(&result, 256))
		r = err_nomem(err, "a passphrase's key");
	if (r == 0)
		r = in_process ? scrypt_run(&jobs, &result, err) :
				 proc_call(scrypt_run, &jobs, &result, err);
	if (r >= 0 && result.len != (size_t)count * KEY_LEN)
		r = err_set(err, ERR_CHILD, "the child for the passphrase gave %zu bytes",
			    result.len);
	if (r >= 0)
		memcpy(out, result.data, result.len);
	if (result.data)
		mem_wipe(result.data, result.cap);
	buf_release(&result);
	return r < 0 ? r : 0;
}

/* Takes the passphrase's key along, so that the slot can be written again. */
int codec_keys_remember(struct codec_keys *k, const struct codec_kdf *kdf,
			const uint8_t kek[KEY_LEN], struct err *err)
{
	k->kek = codec_secret_new(KEY_LEN);
	if (!k->kek)
		return err_nomem(err, "keys");
	memcpy(k->kek, kek, KEY_LEN);
	k->opened = *kdf;
	return 0;
}

int codec_open_once(const struct suite_row *row, const uint8_t key[KEY_LEN],
		    const struct codec_sealing *s, const uint8_t *sealed, size_t n, uint8_t *out,
		    struct err *err)
{
	EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
	if (!cipher)
		return err_nomem(err, "a cipher context");
	int r = row->open(row, cipher, key, s, sealed, n, out, err);
	EVP_CIPHER_CTX_free(cipher);
	return r;
}

int codec_key_unwrap(const struct key_file *f, const void *passphrase, size_t n, bool in_process,
		     struct codec_keys **out, struct err *err)
{
	const struct suite_row *row = codec_row_find(f->suite);
	uint8_t kek[KEY_LEN], key[KEY_LEN], raw[KEY_FILE_LEN];
	struct codec_try try = { .kdf = { .n = f->kdf_n, .r = f->kdf_r, .p = f->kdf_p },
				 .secret = passphrase,
				 .n = n };
	const struct codec_sealing s = { .nonce = f->nonce, .aad = raw, .aad_len = KEY_AAD_LEN };
	cleanup_ptr(codec_keys) k = NULL;
	if (!row || !row->suite.keyed)
		return err_set(err, ERR_UNSUPPORTED, "key file of cipher suite %u", f->suite);
	memcpy(try.kdf.salt, f->salt, SALT_LEN);
	key_file_encode(f, raw);
	int r = codec_passphrase_keys(&try, 1, in_process, &kek, err);
	if (r == 0)
		r = codec_open_once(row, kek, &s, f->wrapped, sizeof(f->wrapped), key, err);
	if (r == 0)
		r = keys_new(f->suite, f->uuid, key, 1, &k, err);
	if (r == 0)
		r = codec_keys_remember(k, &try.kdf, kek, err);
	mem_wipe(kek, sizeof(kek));
	mem_wipe(key, sizeof(key));
	if (r == ERR_DAMAGED)
		return err_set(err, ERR_KEY, "the passphrase does not open this key");
	if (r == 0)
		*out = steal_ptr(k);
	return r;
}

int codec_mac_under(const struct suite_row *row, const uint8_t key[KEY_LEN], const void *p,
		    size_t n, uint8_t out[ID_LEN], struct err *err)
{
	struct codec_ctx ctx = { 0 };
	int r = row->hash_start(&ctx, key, err);
	if (r == 0)
		r = row->hash(&ctx, p, n, out, err);
	EVP_MD_CTX_free(ctx.md);
	EVP_MAC_CTX_free(ctx.mac);
	return r;
}

int codec_mac(const struct codec_keys *k, const char *purpose, const void *p, size_t n,
	      uint8_t out[ID_LEN], struct err *err)
{
	const struct suite_row *row = k->row;
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
		r = codec_mac_under(row, key, p, n, out, err);
	mem_wipe(key, sizeof(key));
	return r;
}
