/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * From plaintext to what a pack stores, and back: content ids, compression, sealing, keys.
 * The only room that calls zstd and OpenSSL.
 *
 * A cipher suite is one row of a table (codec/suite.c), found by the number that stands in the
 * repository header, in each pack and each key file; lengths come from the row.  Suite 0 stores
 * plain bytes (ids are SHA-256, FIPS 180-4; an XXH3-64 checks online reads); suite 1 is AES-256-GCM
 * (NIST SP 800-38D), HMAC-SHA-256 (RFC 2104), HKDF-SHA-256 (RFC 5869), scrypt (RFC 7914), and AES-256-XTS (IEEE 1619) for data
 * of overlays.
 *
 * Invariants:
 *  1. Keys live in memory locked against swap, and are wiped when freed.
 *  2. Each pack has a subkey of its own (HKDF of the repository key, the pack's random salt), so a
 *     nonce of slot number and 8 random bytes never meets another use under one key.
 *  3. codec_open_record returns plaintext only after tag or XXH3, codec, lengths were right.
 */
#ifndef LIVEPOINT_CODEC_CODEC_H
#define LIVEPOINT_CODEC_CODEC_H

#include "format/format.h"

struct codec_suite {
	uint16_t number;
	const char *name; /* "aes-256-gcm"; "none" */
	bool keyed;
	unsigned key_len, nonce_len, tag_len; /* bytes */
};
/* NULL if unknown.  Static. */
const struct codec_suite *codec_suite_find(unsigned number);

/* Keys of one repository.  Immutable after it was made; any thread. */
struct codec_keys;
/* Suite 0. */
int codec_keys_plain(const uint8_t uuid[UUID_LEN], struct codec_keys **out, struct err *err);
/* A new random repository key. */
int codec_keys_generate(unsigned suite, const uint8_t uuid[UUID_LEN], struct codec_keys **out,
			struct err *err);
void codec_keys_free(struct codec_keys *k);
DEFINE_CLEANUP(codec_keys, codec_keys_free)
const struct codec_suite *codec_keys_suite(const struct codec_keys *k);
const uint8_t *codec_keys_uuid(const struct codec_keys *k); /* borrowed, UUID_LEN bytes */
uint32_t codec_keys_epoch(const struct codec_keys *k); /* the newest: of new packs; 0 for suite 0 */
/* Salt of the slot that a passphrase opened, SALT_LEN bytes, borrowed; NULL if these keys came otherwise. */
const uint8_t *codec_keys_opened(const struct codec_keys *k);
/* The same keys with a random one for a further epoch; ERR_TOO_BIG after KEY_EPOCHS_MAX. */
int codec_keys_rotate(const struct codec_keys *k, struct codec_keys **out, struct err *err);

/* --- the key ring (codec/ring.c): format/format.h has its fields, livepoint-repository(5) what is sealed how --- */
struct codec_slot_spec {
	const void *passphrase; /* n bytes; of a recovery key its letters */
	size_t n;
	const char *label; /* not empty */
	enum key_slot_kind kind;
	uint64_t kdf_n;
	uint32_t kdf_r, kdf_p;
};
/* A slot for the newest epoch, to be sealed with the ring; runs scrypt in a child process. */
int codec_slot_make(const struct codec_keys *k, const struct codec_slot_spec *spec,
		    struct key_ring_slot *out, struct err *err);
/* The same for the passphrase that opened these keys: another key pair, the newest epoch.  ERR_INVALID if none did. */
int codec_slot_again(const struct codec_keys *k, const char *label, enum key_slot_kind kind,
		     int64_t created, struct key_ring_slot *out, struct err *err);
/* Fills all of the ring but serial and slots; seals the newest epoch's key for each slot; makes the MAC. */
int codec_ring_seal(const struct codec_keys *k, struct key_ring *ring, struct err *err);
/* ERR_DAMAGED if the ring was not made by somebody with these keys, or is of another epoch. */
int codec_ring_check(const struct codec_keys *k, const struct key_ring *ring, struct err *err);
struct codec_passphrase {
	const void *text; /* n bytes */
	size_t n;
	const char *letters; /* the RECOVERY_LETTERS of a recovery key, if it is one, else NULL */
};
/* All keys, through whichever slot fits.  ERR_KEY if none does; ERR_DAMAGED if one does, and the ring is not as somebody with
 * the keys made it.  Runs scrypt for several slots at once in a child process (64 MiB each that must not stay), unless
 * in_process (servers that already have threads): then here, one after the other. */
int codec_ring_open(const struct key_ring *ring, const struct codec_passphrase *p, bool in_process,
		    struct codec_keys **out, struct err *err);
/* The same for a key file of version 1. */
int codec_key_unwrap(const struct key_file *f, const void *passphrase, size_t n, bool in_process,
		     struct codec_keys **out, struct err *err);

/* The keys of all epochs, KEY_LEN bytes each, first the repository key, to hand to a server of ours through a pipe (which
 * holds them in one page); the caller wipes them. */
#define KEYS_RAW_MAX (KEY_EPOCHS_MAX * KEY_LEN)
int codec_keys_export(const struct codec_keys *k, uint8_t out[KEYS_RAW_MAX], size_t *n,
		      struct err *err);
/* n: a multiple of KEY_LEN; ERR_KEY for any other. */
int codec_keys_import(unsigned suite, const uint8_t uuid[UUID_LEN], const uint8_t *raw, size_t n,
		      struct codec_keys **out, struct err *err);
/* HMAC-SHA-256 under a subkey named by purpose ("catalog row", ...), for MACs outside packs; suite 0: SHA-256. */
int codec_mac(const struct codec_keys *k, const char *purpose, const void *p, size_t n,
	      uint8_t out[ID_LEN], struct err *err);

/* Contexts for one thread at a time: zstd, cipher, hash.  Cheap to keep, dear to make. */
struct codec_ctx;
int codec_ctx_new(const struct codec_keys *k, struct codec_ctx **out,
		  struct err *err); /* borrows k for its life */
void codec_ctx_free(struct codec_ctx *ctx);
DEFINE_CLEANUP(codec_ctx, codec_ctx_free)

/* Content id of n bytes. */
int codec_id(struct codec_ctx *ctx, const void *p, size_t n, uint8_t out[ID_LEN], struct err *err);

/* Compresses n bytes (1 to OBJECT_PLAIN_MAX) into dst of cap >= n bytes with zstd at level (0: not at all).
 * Fills *codec and *len; data that does not shrink by at least 1/32 is reported as CODEC_RAW with len = n and dst
 * left undefined (the caller stores p).  An incompressible chunk is recognised cheaply. */
int codec_compress(struct codec_ctx *ctx, int level, const void *p, size_t n, void *dst, size_t cap,
		   enum object_codec *codec, size_t *len, struct err *err);

/* Subkey of one pack; immutable; any thread.  For suite 0 an object without secrets.  It depends on the pack's number, so
 * that no pack can be put in the place of another. */
struct codec_pack_key;
int codec_pack_key_new(const struct codec_keys *k, const uint8_t salt[SALT_LEN], uint32_t epoch,
		       uint64_t number, struct codec_pack_key **out, struct err *err);
void codec_pack_key_free(struct codec_pack_key *pk);
DEFINE_CLEANUP(codec_pack_key, codec_pack_key_free)

/* Bytes that sealing adds. */
unsigned codec_overhead(const struct codec_keys *k);
/* Seals payload (n bytes: plain or compressed as h->codec says) into dst (n + overhead bytes), and completes h: epoch,
 * stored_len, nonce, xxh3 (of h->xxh3 as the caller gave it for suite 0; zeroed else).  h->type, codec, level, slot,
 * plain_len, id are the caller's. */
int codec_seal_record(struct codec_ctx *ctx, const struct codec_pack_key *pk,
		      struct record_header *h, const void *payload, size_t n, void *dst,
		      struct err *err);
/* Opens a stored payload of h->stored_len bytes into dst of h->plain_len bytes and checks tag or XXH3.
 * ERR_DAMAGED if it does not fit. The content id is not recomputed here: see codec_id. */
int codec_open_record(struct codec_ctx *ctx, const struct codec_pack_key *pk,
		      const struct record_header *h, const void *payload, void *dst,
		      struct err *err);

/* --- data of an overlay's layer (one of one disk): encrypted in place, by sectors, without a check of its own --- */
#define CODEC_UNIT 512u /* bytes that are encrypted as one: a sector */
/* Keys of a layer; immutable; any thread.  Of suite 0 an object without secrets. */
struct codec_layer_key;
/* disk: its name; epoch 0 and a salt of zeroes exactly for suite 0.  ERR_KEY: an epoch that these keys have not got. */
int codec_layer_key_new(const struct codec_keys *k, const uint8_t salt[SALT_LEN], uint32_t epoch,
			const char *disk, uint32_t layer, struct codec_layer_key **out,
			struct err *err);
void codec_layer_key_free(struct codec_layer_key *lk);
DEFINE_CLEANUP(codec_layer_key, codec_layer_key_free)
bool codec_layer_key_encrypts(const struct codec_layer_key *lk); /* false: suite 0 */
/* MAC of n bytes of the layer's state log; zeroes for suite 0. */
int codec_layer_mac(const struct codec_layer_key *lk, const void *p, size_t n, uint8_t out[ID_LEN],
		    struct err *err);
/* Cipher contexts of a layer that encrypts, for one thread at a time; cheap to keep, dear to make.  Borrows lk for its life. */
struct codec_layer_ctx;
int codec_layer_ctx_new(const struct codec_layer_key *lk, struct codec_layer_ctx **out,
			struct err *err);
void codec_layer_ctx_free(struct codec_layer_ctx *c);
DEFINE_CLEANUP(codec_layer_ctx, codec_layer_ctx_free)
/* n bytes, whole units, from unit number `unit` of the disk on; dst may be src. */
int codec_layer_encrypt(struct codec_layer_ctx *c, void *dst, const void *src, size_t n,
			uint64_t unit, struct err *err);
int codec_layer_decrypt(struct codec_layer_ctx *c, void *dst, const void *src, size_t n,
			uint64_t unit, struct err *err);

#endif
