/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Key file: a repository key wrapped under a passphrase, 240 bytes; byte table in
 * livepoint-repository(5).
 *
 * Invariants:
 *  1. The check at the end finds accidents; that nobody changed a field is the wrapped key's own
 *     tag, whose associated data are the bytes before it.
 *  2. Parameters of the key derivation are bounded here, before anybody spends memory on them.
 */
#include <inttypes.h>

#include "format/internal.h"

#include "base/banned.h"

static const uint8_t key_magic[8] = "LVPTKEY1";
#define KDF_SCRYPT 1
#define KEY_CHECK_OFFSET 232
#define SUITE1_NONCE_LEN 12

/* Of 128 bytes: 1 GiB.  Key files are hostile input, and are tried before anything is known of them. */
#define KDF_BLOCKS_MAX ((uint64_t)1 << 23)

bool kdf_valid(uint64_t n, uint32_t r, uint32_t p)
{
	return n >= 2 && n <= (uint64_t)1 << 20 && (n & (n - 1)) == 0 && r >= 1 && r <= 32 &&
	       p >= 1 && p <= 16 && n * r <= KDF_BLOCKS_MAX && n * r * p <= 2 * KDF_BLOCKS_MAX;
}

/* Length of the UTF-8 sequence at p (RFC 3629), 0 if it is none or a control character. */
static size_t utf8_length(const uint8_t *p, size_t n)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	if (p[0] < 0x80)
		return p[0] >= 0x20 && p[0] != 0x7f;
	size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	if (p[0] < 0xc2 || p[0] > 0xf4 || len > n)
		return 0;
	uint32_t v = p[0] & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		v = v << 6 | (p[i] & 0x3fu);
	}
	/* over-long forms, surrogates, beyond Unicode, C1 controls */
	if (v < least[len] || (v >= 0xd800 && v <= 0xdfff) || v > 0x10ffff || v < 0xa0)
		return 0;
	return len;
}

bool text_bytes_valid(const uint8_t *p, size_t n)
{
	while (n > 0) {
		size_t len = utf8_length(p, n);
		if (len == 0)
			return false;
		p += len;
		n -= len;
	}
	return true;
}

bool key_label_valid(const char *label)
{
	size_t n = strnlen(label, KEY_LABEL_MAX + 1);
	return n <= KEY_LABEL_MAX && text_bytes_valid((const uint8_t *)label, n);
}

void key_file_encode(const struct key_file *k, uint8_t out[KEY_FILE_LEN])
{
	memset(out, 0, KEY_FILE_LEN);
	memcpy(out, key_magic, 8);
	put_le16(out + 8, FORMAT_VERSION);
	put_le16(out + 10, k->suite);
	put_le32(out + 12, KDF_SCRYPT);
	put_le64(out + 16, k->kdf_n);
	put_le32(out + 24, k->kdf_r);
	put_le32(out + 28, k->kdf_p);
	memcpy(out + 32, k->salt, SALT_LEN);
	memcpy(out + 64, k->nonce, NONCE_MAX);
	memcpy(out + 88, k->uuid, UUID_LEN);
	memcpy(out + 104, k->label, strnlen(k->label, KEY_LABEL_MAX));
	put_le64(out + 168, (uint64_t)k->created);
	put_le32(out + 176, KEY_WRAPPED_LEN);
	memcpy(out + KEY_AAD_LEN, k->wrapped, KEY_WRAPPED_LEN);
	put_le64(out + KEY_CHECK_OFFSET, check_xxh3(out, KEY_CHECK_OFFSET));
}

static int key_frame_check(const uint8_t *in, struct err *err)
{
	if (memcmp(in, key_magic, 8) != 0)
		return err_set(err, ERR_DAMAGED, "not a key file: wrong magic");
	if (get_le64(in + KEY_CHECK_OFFSET) != check_xxh3(in, KEY_CHECK_OFFSET))
		return err_set(err, ERR_DAMAGED, "the check of the key file does not match");
	if (get_le16(in + 8) != FORMAT_VERSION)
		return err_set(err, ERR_UNSUPPORTED, "key file of version %u", get_le16(in + 8));
	if (get_le16(in + 10) > SUITE_LAST)
		return err_set(err, ERR_UNSUPPORTED, "key file of cipher suite %u",
			       get_le16(in + 10));
	if (get_le32(in + 12) != KDF_SCRYPT)
		return err_set(err, ERR_UNSUPPORTED, "key file with key derivation %" PRIu32,
			       get_le32(in + 12));
	return 0;
}

int key_file_decode(const void *p, size_t n, struct key_file *out, struct err *err)
{
	const uint8_t *in = p;
	if (n != KEY_FILE_LEN)
		return err_set(err, ERR_DAMAGED, "the key file has %zu bytes, not %d", n,
			       KEY_FILE_LEN);
	int r = key_frame_check(in, err);
	if (r < 0)
		return r;
	if (get_le16(in + 10) == 0)
		return err_set(err, ERR_DAMAGED, "key file without a cipher suite");
	if (!kdf_valid(get_le64(in + 16), get_le32(in + 24), get_le32(in + 28)))
		return err_set(err, ERR_DAMAGED,
			       "the key file's derivation parameters are out of range");
	if (!mem_is_zero(in + 64 + SUITE1_NONCE_LEN, NONCE_MAX - SUITE1_NONCE_LEN) ||
	    get_le32(in + 180) != 0)
		return err_set(err, ERR_DAMAGED, "reserved bytes of the key file are not zero");
	if (get_le32(in + 176) != KEY_WRAPPED_LEN)
		return err_set(err, ERR_DAMAGED, "the wrapped key has %" PRIu32 " bytes",
			       get_le32(in + 176));
	size_t label_len = strnlen((const char *)in + 104, KEY_LABEL_MAX);
	if (!text_bytes_valid(in + 104, label_len) ||
	    !mem_is_zero(in + 104 + label_len, KEY_LABEL_MAX - label_len))
		return err_set(err, ERR_DAMAGED, "the key file's label is not text");

	struct key_file k = { .suite = get_le16(in + 10),
			      .kdf_n = get_le64(in + 16),
			      .kdf_r = get_le32(in + 24),
			      .kdf_p = get_le32(in + 28),
			      .created = (int64_t)get_le64(in + 168) };
	memcpy(k.salt, in + 32, SALT_LEN);
	memcpy(k.nonce, in + 64, NONCE_MAX);
	memcpy(k.uuid, in + 88, UUID_LEN);
	memcpy(k.label, in + 104, label_len);
	memcpy(k.wrapped, in + KEY_AAD_LEN, KEY_WRAPPED_LEN);
	*out = k;
	return 0;
}
