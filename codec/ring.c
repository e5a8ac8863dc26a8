/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The key ring: every slot opens the keys of all epochs; byte tables and derivations in livepoint-repository(5).
 *
 *	passphrase --scrypt--> private key of the slot, and the key of one epoch (bound)
 *	private key --X25519--> key of the newest epoch --> of the one before --> ... --> repository key
 *
 * A new epoch is sealed to the public keys of the slots, so nobody's passphrase is needed; who was a slot's owner and has
 * every older key learns nothing of the new one once his slot has gone.
 *
 * Sealing to a public key is what RFC 9180 does in base mode, with X25519 (RFC 7748), HKDF-SHA-256 and the suite's AEAD
 * (libcrypto 3.0 has no HPKE).
 *
 * Invariants:
 *  1. Anybody can seal to a public key.  So a ring is used only if the key of the bound epoch, which came out of the
 *     passphrase, is the one that the chain leads to: whoever made the ring had that key.
 *  2. And the MAC under the newest epoch's key is right: slots, labels and public keys are of the same maker.
 *  3. A derived key seals one thing: its nonce may be 0.
 */
#include <openssl/crypto.h>
#include <openssl/err.h>

#include "base/pool.h"
#include "codec/internal.h"

#include "base/banned.h"

static const char seal_info[] = "livepoint seal 1";
static const char chain_info[] = "livepoint chain 1";
static const char keys_info[] = "livepoint keys 1";
static const uint8_t zero_nonce[NONCE_MAX];

/* --- X25519 --- */

static int public_key(const uint8_t private[KEY_LEN], uint8_t out[KEY_PUBLIC_LEN], struct err *err)
{
	size_t n = KEY_PUBLIC_LEN;
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, private, KEY_LEN);
	bool ok = key && EVP_PKEY_get_raw_public_key(key, out, &n) > 0 && n == KEY_PUBLIC_LEN;

	EVP_PKEY_free(key);
	return ok ? 0 : codec_crypto_failed(err, "X25519");
}

/* A public key that gives the secret 0 is refused by libcrypto (RFC 7748, section 6.1): ERR_DAMAGED. */
static int shared_secret(const uint8_t private[KEY_LEN], const uint8_t public[KEY_PUBLIC_LEN],
			 uint8_t out[KEY_LEN], struct err *err)
{
	size_t n = KEY_LEN;
	EVP_PKEY *mine = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, private, KEY_LEN);
	EVP_PKEY *theirs =
		EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, public, KEY_PUBLIC_LEN);
	EVP_PKEY_CTX *ctx = mine ? EVP_PKEY_CTX_new(mine, NULL) : NULL;
	bool ready = ctx && theirs && EVP_PKEY_derive_init(ctx) > 0;
	bool ok = ready && EVP_PKEY_derive_set_peer(ctx, theirs) > 0 &&
		  EVP_PKEY_derive(ctx, out, &n) > 0 && n == KEY_LEN;

	EVP_PKEY_CTX_free(ctx);
	EVP_PKEY_free(mine);
	EVP_PKEY_free(theirs);
	if (ok)
		return 0;
	if (!ready)
		return codec_crypto_failed(err, "X25519");
	ERR_clear_error();
	return err_set(err, ERR_DAMAGED, "a public key of the key ring is not usable");
}

/* --- sealing one key with another, once --- */

static int seal_key(const struct suite_row *row, const uint8_t key[KEY_LEN], const uint8_t *uuid,
		    const uint8_t plain[KEY_LEN], uint8_t out[KEY_WRAPPED_LEN], struct err *err)
{
	const struct codec_sealing s = { .nonce = zero_nonce, .aad = uuid, .aad_len = UUID_LEN };
	EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();

	if (!cipher)
		return err_nomem(err, "a cipher context");
	int r = row->seal(row, cipher, key, &s, plain, KEY_LEN, out, err);
	EVP_CIPHER_CTX_free(cipher);
	return r;
}

static int open_key(const struct suite_row *row, const uint8_t key[KEY_LEN], const uint8_t *uuid,
		    const uint8_t sealed[KEY_WRAPPED_LEN], uint8_t out[KEY_LEN], struct err *err)
{
	const struct codec_sealing s = { .nonce = zero_nonce, .aad = uuid, .aad_len = UUID_LEN };

	return codec_open_once(row, key, &s, sealed, KEY_WRAPPED_LEN, out, err);
}

/* What the newest epoch's key is sealed with for a slot; private: the slot's, or the one made for the sealing. */
static int slot_seal_key(const struct key_ring *ring, const struct key_ring_slot *slot,
			 const uint8_t private[KEY_LEN], const uint8_t peer[KEY_PUBLIC_LEN],
			 uint8_t out[KEY_LEN], struct err *err)
{
	const struct suite_row *row = codec_row_find(ring->suite);
	uint8_t info[sizeof(seal_info) - 1 + 4 + 2 * KEY_PUBLIC_LEN], secret[KEY_LEN];
	uint8_t *p = info + sizeof(seal_info) - 1;
	int r = shared_secret(private, peer, secret, err);

	memcpy(info, seal_info, sizeof(seal_info) - 1);
	put_le32(p, ring->epochs);
	memcpy(p + 4, slot->ephemeral, KEY_PUBLIC_LEN);
	memcpy(p + 4 + KEY_PUBLIC_LEN, slot->public, KEY_PUBLIC_LEN);
	if (r == 0)
		r = row->derive(secret, ring->uuid, UUID_LEN, info, sizeof(info), out, err);
	mem_wipe(secret, sizeof(secret));
	return r;
}

/* What the key of an epoch is sealed with; next: the key of the epoch after it. */
static int chain_key(const struct suite_row *row, const uint8_t *uuid, const uint8_t next[KEY_LEN],
		     uint32_t epoch, uint8_t out[KEY_LEN], struct err *err)
{
	uint8_t info[sizeof(chain_info) - 1 + 4];

	memcpy(info, chain_info, sizeof(chain_info) - 1);
	put_le32(info + sizeof(chain_info) - 1, epoch);
	return row->derive(next, uuid, UUID_LEN, info, sizeof(info), out, err);
}

/* --- slots --- */

static int slot_wrap(const struct codec_keys *k, const uint8_t kek[KEY_LEN],
		     struct key_ring_slot *s, struct err *err)
{
	uint8_t aad[UUID_LEN + KEY_SLOT_AAD_LEN], secret[KEY_SECRET_LEN];
	const struct codec_sealing how = { .nonce = s->nonce, .aad = aad, .aad_len = sizeof(aad) };
	EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
	int r = cipher ? 0 : err_nomem(err, "a cipher context");

	random_bytes(secret, KEY_LEN);
	memcpy(secret + KEY_LEN, codec_epoch_key(k, k->epochs), KEY_LEN);
	s->bound = (uint16_t)k->epochs;
	random_bytes(s->nonce, k->row->suite.nonce_len);
	if (r == 0)
		r = public_key(secret, s->public, err);
	memcpy(aad, k->uuid, UUID_LEN);
	key_slot_head_encode(s, aad + UUID_LEN);
	if (r == 0)
		r = k->row->seal(k->row, cipher, kek, &how, secret, sizeof(secret), s->wrapped,
				 err);
	EVP_CIPHER_CTX_free(cipher);
	mem_wipe(secret, sizeof(secret));
	return r;
}

static int slot_begin(const struct codec_keys *k, const char *label, enum key_slot_kind kind,
		      struct key_ring_slot *s, struct err *err)
{
	memset(s, 0, sizeof(*s));
	if (!k->secret)
		return err_set(err, ERR_INVALID, "a repository without encryption has no key");
	if (!label[0] || !key_label_valid(label))
		return err_set(err, ERR_INVALID,
			       "the label of a key is 1 to %d bytes of UTF-8 without control "
			       "characters",
			       KEY_LABEL_MAX);
	str_copy(s->label, sizeof(s->label), label);
	s->kind = (uint16_t)kind;
	s->created = time_now();
	return 0;
}

int codec_slot_make(const struct codec_keys *k, const struct codec_slot_spec *spec,
		    struct key_ring_slot *out, struct err *err)
{
	struct codec_try try = { .kdf = { .n = spec->kdf_n, .r = spec->kdf_r, .p = spec->kdf_p },
				 .secret = spec->passphrase,
				 .n = spec->n };
	struct key_ring_slot s;
	uint8_t kek[KEY_LEN];
	int r = slot_begin(k, spec->label, spec->kind, &s, err);

	if (r < 0)
		return r;
	random_bytes(try.kdf.salt, SALT_LEN);
	memcpy(s.salt, try.kdf.salt, SALT_LEN);
	s.kdf_n = try.kdf.n;
	s.kdf_r = try.kdf.r;
	s.kdf_p = try.kdf.p;
	r = codec_passphrase_keys(&try, 1, false, &kek, err);
	if (r == 0)
		r = slot_wrap(k, kek, &s, err);
	mem_wipe(kek, sizeof(kek));
	if (r == 0)
		*out = s;
	return r;
}

int codec_slot_again(const struct codec_keys *k, const char *label, enum key_slot_kind kind,
		     int64_t created, struct key_ring_slot *out, struct err *err)
{
	struct key_ring_slot s;
	int r = slot_begin(k, label, kind, &s, err);

	if (r < 0)
		return r;
	if (!k->kek)
		return err_set(err, ERR_INVALID, "these keys were not opened by a passphrase");
	s.created = created;
	memcpy(s.salt, k->opened.salt, SALT_LEN);
	s.kdf_n = k->opened.n;
	s.kdf_r = k->opened.r;
	s.kdf_p = k->opened.p;
	r = slot_wrap(k, k->kek, &s, err);
	if (r == 0)
		*out = s;
	return r;
}

/* --- the ring --- */

static int ring_mac(const struct suite_row *row, const struct key_ring *ring,
		    const uint8_t newest[KEY_LEN], uint8_t out[ID_LEN], struct err *err)
{
	cleanup_buf struct buf b = BUF_INIT;
	uint8_t key[KEY_LEN];
	int r = key_ring_encode(ring, &b, err);

	if (r == 0)
		r = row->derive(newest, ring->uuid, UUID_LEN, keys_info, strlen(keys_info), key,
				err);
	if (r == 0)
		r = codec_mac_under(row, key, b.data, b.len - KEY_RING_TAIL_LEN, out, err);
	mem_wipe(key, sizeof(key));
	return r;
}

static int slot_seal(const struct codec_keys *k, struct key_ring *ring, struct key_ring_slot *s,
		     struct err *err)
{
	uint8_t private[KEY_LEN], key[KEY_LEN];
	int r;

	random_bytes(private, sizeof(private));
	r = public_key(private, s->ephemeral, err);
	if (r == 0)
		r = slot_seal_key(ring, s, private, s->public, key, err);
	if (r == 0)
		r = seal_key(k->row, key, k->uuid, codec_epoch_key(k, k->epochs), s->sealed, err);
	mem_wipe(private, sizeof(private));
	mem_wipe(key, sizeof(key));
	return r;
}

int codec_ring_seal(const struct codec_keys *k, struct key_ring *ring, struct err *err)
{
	uint8_t key[KEY_LEN];
	int r = 0;

	if (!k->secret)
		return err_set(err, ERR_INVALID, "a repository without encryption has no key");
	ring->suite = k->row->suite.number;
	ring->epochs = k->epochs;
	memcpy(ring->uuid, k->uuid, UUID_LEN);
	for (uint32_t e = 1; r == 0 && e < k->epochs; e++) {
		r = chain_key(k->row, k->uuid, codec_epoch_key(k, e + 1), e, key, err);
		if (r == 0)
			r = seal_key(k->row, key, k->uuid, codec_epoch_key(k, e),
				     ring->chain[e - 1], err);
	}
	mem_wipe(key, sizeof(key));
	for (unsigned i = 0; r == 0 && i < ring->nslots; i++)
		r = slot_seal(k, ring, &ring->slots[i], err);
	return r < 0 ? r : ring_mac(k->row, ring, codec_epoch_key(k, k->epochs), ring->mac, err);
}

static int not_authentic(struct err *err)
{
	return err_set(err, ERR_DAMAGED,
		       "the key ring was changed by somebody without the repository's keys");
}

static int mac_check(const struct suite_row *row, const struct key_ring *ring,
		     const uint8_t newest[KEY_LEN], struct err *err)
{
	uint8_t mac[ID_LEN];
	int r = ring_mac(row, ring, newest, mac, err);

	if (r < 0)
		return r;
	return CRYPTO_memcmp(mac, ring->mac, ID_LEN) == 0 ? 0 : not_authentic(err);
}

int codec_ring_check(const struct codec_keys *k, const struct key_ring *ring, struct err *err)
{
	if (ring->suite != k->row->suite.number || ring->epochs != k->epochs ||
	    memcmp(ring->uuid, k->uuid, UUID_LEN) != 0)
		return err_set(err, ERR_DAMAGED, "the key ring is of another epoch or repository");
	return mac_check(k->row, ring, codec_epoch_key(k, k->epochs), err);
}

/* From the slot's secret (private key, key of the bound epoch) to the keys of all epochs. */
static int ring_unroll(const struct suite_row *row, const struct key_ring *ring,
		       const struct key_ring_slot *s, const uint8_t secret[KEY_SECRET_LEN],
		       uint8_t raw[KEYS_RAW_MAX], struct err *err)
{
	uint8_t key[KEY_LEN];
	int r = slot_seal_key(ring, s, secret, s->ephemeral, key, err);

	if (r == 0)
		r = open_key(row, key, ring->uuid, s->sealed,
			     raw + (size_t)(ring->epochs - 1) * KEY_LEN, err);
	for (uint32_t e = ring->epochs - 1; r == 0 && e >= 1; e--) {
		r = chain_key(row, ring->uuid, raw + (size_t)e * KEY_LEN, e, key, err);
		if (r == 0)
			r = open_key(row, key, ring->uuid, ring->chain[e - 1],
				     raw + (size_t)(e - 1) * KEY_LEN, err);
	}
	mem_wipe(key, sizeof(key));
	if (r == 0 &&
	    CRYPTO_memcmp(secret + KEY_LEN, raw + (size_t)(s->bound - 1) * KEY_LEN, KEY_LEN) != 0)
		r = not_authentic(err);
	if (r == 0)
		r = mac_check(row, ring, raw + (size_t)(ring->epochs - 1) * KEY_LEN, err);
	return r;
}

static int ring_keys(const struct suite_row *row, const struct key_ring *ring,
		     const struct key_ring_slot *s, const uint8_t secret[KEY_SECRET_LEN],
		     struct codec_keys **out, struct err *err)
{
	uint8_t raw[KEYS_RAW_MAX];
	int r = ring_unroll(row, ring, s, secret, raw, err);

	if (r == 0)
		r = codec_keys_import(ring->suite, ring->uuid, raw, (size_t)ring->epochs * KEY_LEN,
				      out, err);
	mem_wipe(raw, sizeof(raw));
	return r;
}

/* With the key that scrypt made; 1 if it opens, 0 if it does not. */
static int slot_open(const struct suite_row *row, const struct key_ring *ring,
		     const struct key_ring_slot *s, const struct codec_kdf *kdf,
		     const uint8_t kek[KEY_LEN], struct codec_keys **out, struct err *err)
{
	uint8_t aad[UUID_LEN + KEY_SLOT_AAD_LEN], secret[KEY_SECRET_LEN];
	const struct codec_sealing how = { .nonce = s->nonce, .aad = aad, .aad_len = sizeof(aad) };
	cleanup_ptr(codec_keys) k = NULL;
	int r;

	memcpy(aad, ring->uuid, UUID_LEN);
	key_slot_head_encode(s, aad + UUID_LEN);
	r = codec_open_once(row, kek, &how, s->wrapped, sizeof(s->wrapped), secret, err);
	if (r == ERR_DAMAGED) {
		err_clear(err);
		return 0;
	}
	if (r == 0)
		r = ring_keys(row, ring, s, secret, &k, err);
	if (r == 0)
		r = codec_keys_remember(k, kdf, kek, err);
	mem_wipe(secret, sizeof(secret));
	if (r == 0)
		*out = steal_ptr(k);
	return r < 0 ? r : 1;
}

/* The slots that a secret may open. */
struct tries {
	struct codec_try try[KEY_SLOTS_MAX];
	const struct key_ring_slot *slot[KEY_SLOTS_MAX];
	unsigned count;
};

static void tries_fill(struct tries *t, const struct key_ring *ring,
		       const struct codec_passphrase *p)
{
	t->count = 0;
	for (unsigned i = 0; i < ring->nslots; i++) {
		const struct key_ring_slot *s = &ring->slots[i];
		bool recovery = s->kind == KEY_RECOVERY;
		struct codec_try *try = &t->try[t->count];

		if (recovery && !p->letters)
			continue;
		*try = (struct codec_try){ .kdf = { .n = s->kdf_n, .r = s->kdf_r, .p = s->kdf_p },
					   .secret = recovery ? p->letters : p->text,
					   .n = recovery ? RECOVERY_LETTERS : p->n };
		memcpy(try->kdf.salt, s->salt, SALT_LEN);
		t->slot[t->count++] = s;
	}
}

int codec_ring_open(const struct key_ring *ring, const struct codec_passphrase *p, bool in_process,
		    struct codec_keys **out, struct err *err)
{
	const struct suite_row *row = codec_row_find(ring->suite);
	unsigned step = in_process ? 1 : MIN(pool_default_threads(), CODEC_TRIES_MAX);
	uint8_t keks[CODEC_TRIES_MAX][KEY_LEN];
	struct tries t;
	int r = 0;

	if (!row || !row->suite.keyed)
		return err_set(err, ERR_UNSUPPORTED, "key ring of cipher suite %u", ring->suite);
	tries_fill(&t, ring, p);
	for (unsigned at = 0; r == 0 && at < t.count; at += step) {
		unsigned n = MIN(step, t.count - at);

		r = codec_passphrase_keys(&t.try[at], n, in_process, keks, err);
		for (unsigned i = 0; r == 0 && i < n; i++)
			r = slot_open(row, ring, t.slot[at + i], &t.try[at + i].kdf, keks[i], out,
				      err);
	}
	mem_wipe(keks, sizeof(keks));
	if (r == 0)
		return err_set(err, ERR_KEY, "the passphrase opens no slot");
	return MIN(r, 0);
}
