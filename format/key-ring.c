/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Key ring: slots, each a passphrase or recovery key, and the keys of all epochs; byte tables in livepoint-repository(5).
 *
 * Invariants:
 *  1. The check at the end finds accidents; that nobody changed a field is told by the MAC before it and the slots' tags
 *     (codec/ring.c).
 *  2. Slots and epochs are bounded, and with them the length, which must be just what they ask for; so are the parameters
 *     of the key derivation, before anybody spends memory on them.
 *  3. Labels are unique: they name slots.
 */
#include <inttypes.h>

#include "format/internal.h"

#include "base/banned.h"

static const uint8_t ring_magic[8] = "LVPTKEYS";
#define KDF_SCRYPT 1
#define SUITE1_NONCE_LEN 12

static size_t ring_len(unsigned slots, unsigned epochs)
{
	return KEY_RING_HEAD_LEN + (size_t)slots * KEY_SLOT_LEN +
	       (size_t)(epochs - 1) * KEY_WRAPPED_LEN + KEY_RING_TAIL_LEN;
}

bool key_ring_is(const void *p, size_t n)
{
	return n >= sizeof(ring_magic) && memcmp(p, ring_magic, sizeof(ring_magic)) == 0;
}

void key_slot_head_encode(const struct key_ring_slot *s, uint8_t out[KEY_SLOT_AAD_LEN])
{
	memset(out, 0, KEY_SLOT_AAD_LEN);
	put_le32(out, KDF_SCRYPT);
	put_le16(out + 4, s->kind);
	put_le16(out + 6, s->bound);
	put_le64(out + 8, s->kdf_n);
	put_le32(out + 16, s->kdf_r);
	put_le32(out + 20, s->kdf_p);
	memcpy(out + 24, s->salt, SALT_LEN);
	memcpy(out + 56, s->nonce, NONCE_MAX);
	memcpy(out + 80, s->label, strnlen(s->label, KEY_LABEL_MAX));
	put_le64(out + 144, (uint64_t)s->created);
	memcpy(out + 152, s->public, KEY_PUBLIC_LEN);
}

static void slot_encode(const struct key_ring_slot *s, struct buf *out)
{
	uint8_t head[KEY_SLOT_AAD_LEN];

	key_slot_head_encode(s, head);
	buf_put(out, head, sizeof(head));
	buf_put(out, s->wrapped, sizeof(s->wrapped));
	buf_put(out, s->ephemeral, sizeof(s->ephemeral));
	buf_put(out, s->sealed, sizeof(s->sealed));
}

/* --- what a slot may hold --- */

static int slot_check(const struct key_ring_slot *s, unsigned epochs, struct err *err)
{
	if (s->kind != KEY_PASSPHRASE && s->kind != KEY_RECOVERY)
		return err_set(err, ERR_DAMAGED, "slot of kind %u", s->kind);
	if (s->bound == 0 || s->bound > epochs)
		return err_set(err, ERR_DAMAGED, "slot bound to key epoch %u of %u", s->bound,
			       epochs);
	if (!kdf_valid(s->kdf_n, s->kdf_r, s->kdf_p))
		return err_set(err, ERR_DAMAGED,
			       "the slot's derivation parameters are out of range");
	if (!mem_is_zero(s->nonce + SUITE1_NONCE_LEN, NONCE_MAX - SUITE1_NONCE_LEN))
		return err_set(err, ERR_DAMAGED, "reserved bytes of the slot are not zero");
	if (!s->label[0] || !key_label_valid(s->label))
		return err_set(err, ERR_DAMAGED, "the slot's label is not text");
	return 0;
}

static int ring_check(const struct key_ring *k, struct err *err)
{
	if (k->suite == 0 || k->suite > SUITE_LAST)
		return err_set(err, ERR_UNSUPPORTED, "key ring of cipher suite %u", k->suite);
	if (k->nslots == 0 || k->nslots > KEY_SLOTS_MAX)
		return err_set(err, ERR_DAMAGED, "key ring with %u slots", k->nslots);
	if (k->epochs == 0 || k->epochs > KEY_EPOCHS_MAX)
		return err_set(err, ERR_DAMAGED, "key ring with %u epochs", k->epochs);
	if (k->serial == 0)
		return err_set(err, ERR_DAMAGED, "key ring without a serial");
	for (unsigned i = 0; i < k->nslots; i++) {
		int r = slot_check(&k->slots[i], k->epochs, err);

		if (r < 0) {
			err_prefix(err, "slot %u", i + 1);
			return r;
		}
		for (unsigned j = 0; j < i; j++)
			if (strcmp(k->slots[j].label, k->slots[i].label) == 0)
				return err_set(err, ERR_DAMAGED, "slots %u and %u have one label",
					       j + 1, i + 1);
	}
	return 0;
}

int key_ring_encode(const struct key_ring *k, struct buf *out, struct err *err)
{
	size_t start = out->len;
	int r = ring_check(k, err);

	if (r < 0) {
		err_recode(err, ERR_INVALID);
		return ERR_INVALID;
	}
	buf_put(out, ring_magic, sizeof(ring_magic));
	buf_put_le16(out, FORMAT_VERSION);
	buf_put_le16(out, k->suite);
	buf_put_le16(out, (uint16_t)k->nslots);
	buf_put_le16(out, (uint16_t)k->epochs);
	buf_put(out, k->uuid, UUID_LEN);
	buf_put_le64(out, k->serial);
	for (unsigned i = 0; i < k->nslots; i++)
		slot_encode(&k->slots[i], out);
	for (unsigned i = 0; i + 1 < k->epochs; i++)
		buf_put(out, k->chain[i], KEY_WRAPPED_LEN);
	buf_put(out, k->mac, ID_LEN);
	if (out->failed)
		return err_nomem(err, "key ring");
	buf_put_le64(out, check_xxh3(out->data + start, out->len - start));
	return out->failed ? err_nomem(err, "key ring") : 0;
}

static int slot_decode(const uint8_t *in, struct key_ring_slot *s, struct err *err)
{
	size_t label_len = strnlen((const char *)in + 80, KEY_LABEL_MAX);

	if (get_le32(in) != KDF_SCRYPT)
		return err_set(err, ERR_UNSUPPORTED, "slot with key derivation %" PRIu32,
			       get_le32(in));
	if (!mem_is_zero(in + 80 + label_len, KEY_LABEL_MAX - label_len))
		return err_set(err, ERR_DAMAGED, "the slot's label is not text");
	*s = (struct key_ring_slot){ .kind = get_le16(in + 4),
				     .bound = get_le16(in + 6),
				     .kdf_n = get_le64(in + 8),
				     .kdf_r = get_le32(in + 16),
				     .kdf_p = get_le32(in + 20),
				     .created = (int64_t)get_le64(in + 144) };
	memcpy(s->salt, in + 24, SALT_LEN);
	memcpy(s->nonce, in + 56, NONCE_MAX);
	memcpy(s->label, in + 80, label_len);
	memcpy(s->public, in + 152, KEY_PUBLIC_LEN);
	memcpy(s->wrapped, in + 184, sizeof(s->wrapped));
	memcpy(s->ephemeral, in + 264, KEY_PUBLIC_LEN);
	memcpy(s->sealed, in + 296, KEY_WRAPPED_LEN);
	return 0;
}

/* Everything but the slots; fills counts. */
static int frame_decode(const uint8_t *in, size_t n, struct key_ring *k, struct err *err)
{
	if (n < KEY_RING_HEAD_LEN + KEY_RING_TAIL_LEN || n > KEY_RING_MAX)
		return err_set(err, ERR_DAMAGED, "a key ring of %zu bytes", n);
	if (!key_ring_is(in, n))
		return err_set(err, ERR_DAMAGED, "not a key ring: wrong magic");
	if (get_le64(in + n - 8) != check_xxh3(in, n - 8))
		return err_set(err, ERR_DAMAGED, "the check of the key ring does not match");
	if (get_le16(in + 8) != FORMAT_VERSION)
		return err_set(err, ERR_UNSUPPORTED, "key ring of version %u", get_le16(in + 8));
	k->suite = get_le16(in + 10);
	k->nslots = get_le16(in + 12);
	k->epochs = get_le16(in + 14);
	memcpy(k->uuid, in + 16, UUID_LEN);
	k->serial = get_le64(in + 32);
	if (k->nslots == 0 || k->nslots > KEY_SLOTS_MAX || k->epochs == 0 ||
	    k->epochs > KEY_EPOCHS_MAX || n != ring_len(k->nslots, k->epochs))
		return err_set(err, ERR_DAMAGED,
			       "a key ring of %zu bytes with %u slots and %u epochs", n, k->nslots,
			       k->epochs);
	return 0;
}

int key_ring_decode(const void *p, size_t n, struct key_ring *out, struct err *err)
{
	const uint8_t *in = p;
	cleanup_free struct key_ring *k = mem_alloc(sizeof(*k));
	int r;

	if (!k)
		return err_nomem(err, "key ring");
	r = frame_decode(in, n, k, err);
	in += KEY_RING_HEAD_LEN;
	for (unsigned i = 0; r == 0 && i < k->nslots; i++, in += KEY_SLOT_LEN) {
		r = slot_decode(in, &k->slots[i], err);
		if (r < 0)
			err_prefix(err, "slot %u", i + 1);
	}
	for (unsigned i = 0; r == 0 && i + 1 < k->epochs; i++, in += KEY_WRAPPED_LEN)
		memcpy(k->chain[i], in, KEY_WRAPPED_LEN);
	if (r == 0) {
		memcpy(k->mac, in, ID_LEN);
		r = ring_check(k, err);
	}
	if (r == 0)
		*out = *k;
	return r;
}
