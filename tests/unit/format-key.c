// SPDX-License-Identifier: GPL-3.0-or-later
/* Key files: round trips, flipped bits, bounds, labels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/format-samples.h"

#include "base/banned.h"

static void test_round_trips(void **state)
{
	struct sample_source s = { 1 };
	(void)state;
	for (int i = 0; i < 2000; i++) {
		struct key_file a = sample_key(&s), b;
		uint8_t raw[KEY_FILE_LEN], again[KEY_FILE_LEN];
		key_file_encode(&a, raw);
		assert_int_equal(key_file_decode(raw, sizeof(raw), &b, NULL), 0);
		assert_string_equal(a.label, b.label);
		assert_memory_equal(a.wrapped, b.wrapped, KEY_WRAPPED_LEN);
		assert_memory_equal(a.salt, b.salt, SALT_LEN);
		assert_memory_equal(a.nonce, b.nonce, NONCE_MAX);
		assert_memory_equal(a.uuid, b.uuid, UUID_LEN);
		assert_true(a.kdf_n == b.kdf_n && a.kdf_r == b.kdf_r && a.kdf_p == b.kdf_p &&
			    a.suite == b.suite && a.created == b.created);
		key_file_encode(&b, again);
		assert_memory_equal(raw, again, sizeof(raw));
	}
}

/* The byte table of the page. */
static void test_layout(void **state)
{
	struct key_file k = {
		.suite = 1, .kdf_n = 65536, .kdf_r = 8, .kdf_p = 2, .label = "home", .created = 5
	};
	uint8_t raw[KEY_FILE_LEN];
	(void)state;
	memset(k.salt, 0xaa, SALT_LEN);
	memset(k.nonce, 0xbb, 12);
	memset(k.uuid, 0xcc, UUID_LEN);
	memset(k.wrapped, 0xdd, KEY_WRAPPED_LEN);
	key_file_encode(&k, raw);
	assert_memory_equal(raw, "LVPTKEY1\1\0\1\0\1\0\0\0\0\0\1\0\0\0\0\0\10\0\0\0\2\0\0\0", 32);
	assert_true(raw[32] == 0xaa && raw[63] == 0xaa && raw[64] == 0xbb && raw[75] == 0xbb &&
		    raw[76] == 0);
	assert_true(raw[87] == 0 && raw[88] == 0xcc && raw[103] == 0xcc);
	assert_memory_equal(raw + 104, "home\0", 5);
	assert_memory_equal(raw + 168, "\5\0\0\0\0\0\0\0\60\0\0\0\0\0\0\0\xdd", 17);
	assert_true(raw[231] == 0xdd);
	assert_true(get_le64(raw + 232) == check_xxh3(raw, 232));
}

static void test_every_bit_and_length(void **state)
{
	struct sample_source s = { 2 };
	struct key_file a = sample_key(&s), b;
	uint8_t raw[KEY_FILE_LEN + 1] = { 0 };
	(void)state;
	key_file_encode(&a, raw);
	for (size_t bit = 0; bit < 8 * KEY_FILE_LEN; bit++) {
		raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(key_file_decode(raw, KEY_FILE_LEN, &b, NULL), ERR_DAMAGED);
		raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (size_t n = 0; n <= sizeof(raw); n++)
		assert_int_equal(key_file_decode(raw, n, &b, NULL),
				 n == KEY_FILE_LEN ? 0 : ERR_DAMAGED);
}

/* Sets one byte and makes the check right again. */
static int decode_with(size_t offset, uint8_t value)
{
	struct key_file k = { .suite = 1, .kdf_n = 65536, .kdf_r = 8, .kdf_p = 1, .label = "home" },
			out;
	uint8_t raw[KEY_FILE_LEN];
	key_file_encode(&k, raw);
	raw[offset] = value;
	put_le64(raw + 232, check_xxh3(raw, 232));
	return key_file_decode(raw, sizeof(raw), &out, NULL);
}

static void test_fields(void **state)
{
	(void)state;
	assert_int_equal(decode_with(0, 'L'), 0);
	assert_int_equal(decode_with(0, 'M'), ERR_DAMAGED);
	assert_int_equal(decode_with(8, 2), ERR_UNSUPPORTED);
	assert_int_equal(decode_with(10, 0), ERR_DAMAGED);
	assert_int_equal(decode_with(10, 2), ERR_UNSUPPORTED);
	assert_int_equal(decode_with(12, 2), ERR_UNSUPPORTED);
	assert_int_equal(decode_with(16, 1), ERR_DAMAGED); /* not a power of two */
	assert_int_equal(decode_with(18, 0), ERR_DAMAGED); /* 0 */
	assert_int_equal(decode_with(18, 16), 0); /* 2^20 */
	assert_int_equal(decode_with(18, 32), ERR_DAMAGED);
	assert_int_equal(decode_with(23, 1), ERR_DAMAGED);
	assert_int_equal(decode_with(24, 0), ERR_DAMAGED);
	assert_int_equal(decode_with(24, 32), 0);
	assert_int_equal(decode_with(24, 33), ERR_DAMAGED);
	assert_int_equal(decode_with(28, 16), 0);
	assert_int_equal(decode_with(28, 17), ERR_DAMAGED);
	assert_int_equal(decode_with(76, 1), ERR_DAMAGED);
	assert_int_equal(decode_with(104, 10), ERR_DAMAGED);
	assert_int_equal(decode_with(104, 0), ERR_DAMAGED); /* text behind the end */
	assert_int_equal(decode_with(167, 1), ERR_DAMAGED);
	assert_int_equal(decode_with(176, 47), ERR_DAMAGED);
	assert_int_equal(decode_with(180, 1), ERR_DAMAGED);
}

static void test_labels(void **state)
{
	static const char *const good[] = {
		"", "a", "b\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x92\xbe", "two words"
	};
	static const char *const bad[] = {
		"\n",	    "\x7f",	    "\x1b[0m",	       "\xc3",
		"\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80",    "\xf4\x90\x80\x80",
		"\x80",	    "\xc2\x85",	    "\xf0\x80\x80\xaf"
	};
	char text[KEY_LABEL_MAX + 2];
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_true(key_label_valid(good[i]));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(key_label_valid(bad[i]));
	memset(text, 'x', sizeof(text));
	text[KEY_LABEL_MAX + 1] = 0;
	assert_false(key_label_valid(text));
	text[KEY_LABEL_MAX] = 0;
	assert_true(key_label_valid(text));
}

/* --- the key ring --- */

static void test_ring_round_trips(void **state)
{
	struct sample_source s = { 7 };
	(void)state;
	for (int i = 0; i < 300; i++) {
		struct key_ring a, b;
		cleanup_buf struct buf raw = BUF_INIT, again = BUF_INIT;

		sample_key_ring(&s, &a);
		assert_int_equal(key_ring_encode(&a, &raw, NULL), 0);
		assert_true(key_ring_is(raw.data, raw.len) && raw.len <= KEY_RING_MAX);
		assert_int_equal(key_ring_decode(raw.data, raw.len, &b, NULL), 0);
		assert_true(a.serial == b.serial && a.nslots == b.nslots && a.epochs == b.epochs);
		for (unsigned k = 0; k < a.nslots; k++) {
			assert_string_equal(a.slots[k].label, b.slots[k].label);
			assert_int_equal(a.slots[k].created, b.slots[k].created);
			assert_memory_equal(a.slots[k].wrapped, b.slots[k].wrapped,
					    sizeof(a.slots[k].wrapped));
		}
		assert_int_equal(key_ring_encode(&b, &again, NULL), 0);
		assert_memory_equal(raw.data, again.data, raw.len);
	}
}

/* The byte table of the page. */
static void test_ring_layout(void **state)
{
	struct key_ring k = { .suite = 1, .serial = 0x0102, .nslots = 1, .epochs = 2 };
	struct key_ring_slot *s = &k.slots[0];
	cleanup_buf struct buf b = BUF_INIT;
	(void)state;
	*s = (struct key_ring_slot){ .kind = KEY_RECOVERY,
				     .bound = 2,
				     .kdf_n = 65536,
				     .kdf_r = 8,
				     .kdf_p = 1,
				     .label = "home",
				     .created = 5 };
	memset(k.uuid, 0xcc, UUID_LEN);
	memset(s->salt, 0xaa, SALT_LEN);
	memset(s->nonce, 0xbb, 12);
	memset(s->public, 0x11, KEY_PUBLIC_LEN);
	memset(s->wrapped, 0x22, sizeof(s->wrapped));
	memset(s->ephemeral, 0x33, KEY_PUBLIC_LEN);
	memset(s->sealed, 0x44, KEY_WRAPPED_LEN);
	memset(k.chain[0], 0x55, KEY_WRAPPED_LEN);
	memset(k.mac, 0x66, ID_LEN);
	assert_int_equal(key_ring_encode(&k, &b, NULL), 0);
	assert_int_equal(b.len, 40 + 344 + 48 + 32 + 8);
	assert_memory_equal(b.data, "LVPTKEYS\1\0\1\0\1\0\2\0\xcc", 17);
	assert_memory_equal(b.data + 31, "\xcc\2\1\0\0\0\0\0\0", 9);
	const uint8_t *p = b.data + 40;
	assert_memory_equal(p, "\1\0\0\0\2\0\2\0\0\0\1\0\0\0\0\0\10\0\0\0\1\0\0\0\xaa", 25);
	assert_true(p[55] == 0xaa && p[56] == 0xbb && p[67] == 0xbb && p[68] == 0 && p[79] == 0);
	assert_memory_equal(p + 80, "home\0", 5);
	assert_memory_equal(p + 143, "\0\5\0\0\0\0\0\0\0\x11", 10);
	assert_true(p[183] == 0x11 && p[184] == 0x22 && p[263] == 0x22 && p[264] == 0x33 &&
		    p[295] == 0x33 && p[296] == 0x44 && p[343] == 0x44 && p[344] == 0x55);
	assert_true(p[391] == 0x55 && p[392] == 0x66 && p[423] == 0x66);
	assert_true(get_le64(p + 424) == check_xxh3(b.data, b.len - 8));
}

static void test_ring_every_bit_and_length(void **state)
{
	struct sample_source s = { 8 };
	struct key_ring a, b;
	cleanup_buf struct buf raw = BUF_INIT;
	(void)state;
	sample_key_ring(&s, &a);
	assert_int_equal(key_ring_encode(&a, &raw, NULL), 0);
	for (size_t bit = 0; bit < 8 * raw.len; bit++) {
		raw.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(key_ring_decode(raw.data, raw.len, &b, NULL), ERR_DAMAGED);
		raw.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (size_t n = 0; n < raw.len; n++)
		assert_int_equal(key_ring_decode(raw.data, n, &b, NULL), ERR_DAMAGED);
	buf_put_zero(&raw, KEY_RING_MAX);
	assert_int_equal(key_ring_decode(raw.data, raw.len, &b, NULL), ERR_DAMAGED);
}

/* A field with what it must not hold, and the check made right. */
static int ring_with(const struct key_ring *k, size_t at, const void *p, size_t n)
{
	cleanup_buf struct buf raw = BUF_INIT;
	struct key_ring out;

	assert_int_equal(key_ring_encode(k, &raw, NULL), 0);
	memcpy(raw.data + at, p, n);
	put_le64(raw.data + raw.len - 8, check_xxh3(raw.data, raw.len - 8));
	return key_ring_decode(raw.data, raw.len, &out, NULL);
}

static void test_ring_fields(void **state)
{
	struct sample_source s = { 9 };
	struct key_ring k;
	const size_t slot = 40 + 344; /* the second one */
	(void)state;
	do
		sample_key_ring(&s, &k);
	while (k.nslots < 3 || k.epochs < 3);
	assert_int_equal(ring_with(&k, 0, "", 0), 0);
	assert_int_equal(ring_with(&k, 0, "LVPTKEYT", 8), ERR_DAMAGED);
	assert_int_equal(ring_with(&k, 8, "\2", 1), ERR_UNSUPPORTED);
	assert_int_equal(ring_with(&k, 10, "\2", 1), ERR_UNSUPPORTED);
	assert_int_equal(ring_with(&k, 10, "\0", 1), ERR_UNSUPPORTED);
	assert_int_equal(ring_with(&k, 12, "\0", 1), ERR_DAMAGED);
	assert_int_equal(ring_with(&k, 12, "\11", 1), ERR_DAMAGED);
	assert_int_equal(ring_with(&k, 14, "\0", 1), ERR_DAMAGED);
	assert_int_equal(ring_with(&k, 14, "\171", 1), ERR_DAMAGED);
	assert_int_equal(ring_with(&k, 14, "\2", 1), ERR_DAMAGED);
	assert_int_equal(ring_with(&k, 32, "\0\0\0\0\0\0\0\0", 8), ERR_DAMAGED);
	assert_int_equal(ring_with(&k, slot, "\2", 1), ERR_UNSUPPORTED);
	assert_int_equal(ring_with(&k, slot + 4, "\0", 1), ERR_DAMAGED);
	assert_int_equal(ring_with(&k, slot + 4, "\3", 1), ERR_DAMAGED);
	assert_int_equal(ring_with(&k, slot + 6, "\0", 2), ERR_DAMAGED);
	assert_int_equal(ring_with(&k, slot + 6, "\377", 1), ERR_DAMAGED);
	assert_int_equal(ring_with(&k, slot + 8, "\3\0\0\0\0\0\0\0", 8), ERR_DAMAGED);
	assert_int_equal(ring_with(&k, slot + 16, "\41", 1), ERR_DAMAGED);
	assert_int_equal(ring_with(&k, slot + 20, "\0", 1), ERR_DAMAGED);
	assert_int_equal(ring_with(&k, slot + 68, "\1", 1), ERR_DAMAGED);
	assert_int_equal(ring_with(&k, slot + 80, "\n", 1), ERR_DAMAGED);
	assert_int_equal(ring_with(&k, slot + 80, "\0", 1), ERR_DAMAGED);
	assert_int_equal(ring_with(&k, slot + 143, "x", 1), ERR_DAMAGED);
	/* the label of the first slot */
	assert_int_equal(ring_with(&k, slot + 80, "slot 0", 6), ERR_DAMAGED);
}

static void test_ring_encode_refuses(void **state)
{
	struct sample_source s = { 10 };
	struct key_ring k;
	cleanup_buf struct buf raw = BUF_INIT;
	(void)state;
#define REFUSED(change)                                                                            \
	do {                                                                                       \
		do                                                                                 \
			sample_key_ring(&s, &k);                                                   \
		while (k.nslots < 2);                                                              \
		change;                                                                            \
		assert_int_equal(key_ring_encode(&k, &raw, NULL), ERR_INVALID);                    \
	} while (0)
	REFUSED(k.nslots = 0);
	REFUSED(k.nslots = KEY_SLOTS_MAX + 1);
	REFUSED(k.epochs = 0);
	REFUSED(k.epochs = KEY_EPOCHS_MAX + 1);
	REFUSED(k.serial = 0);
	REFUSED(k.suite = 0);
	REFUSED(k.slots[1].bound = 0);
	REFUSED(k.slots[1].label[0] = 0);
	REFUSED(str_copy(k.slots[1].label, KEY_LABEL_MAX, k.slots[0].label));
#undef REFUSED
	assert_int_equal(raw.len, 0);
}

/* --- recovery keys --- */

static enum recovery_text read_back(const char *text, char letters[RECOVERY_LETTERS + 1])
{
	letters[RECOVERY_LETTERS] = 0;
	return recovery_decode(text, strlen(text), letters);
}

static void test_recovery_text(void **state)
{
	struct sample_source s = { 11 };
	uint8_t bits[RECOVERY_BITS_LEN] = { 0 };
	char text[RECOVERY_TEXT_MAX], letters[RECOVERY_LETTERS + 1], typed[200];
	(void)state;
	recovery_encode(bits, text);
	assert_string_equal(text, "AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAA");
	/* RFC 4648, section 10: "foobar" is MZXW6YTBOI */
	memcpy(bits, "foobar", 6);
	recovery_encode(bits, text);
	assert_memory_equal(text, "MZXW-6YTB-OIAA-AAAA-AAAA-AAAA-AAAA-AAAA-", 40);
	for (int i = 0; i < 200; i++) {
		size_t n = 0;

		sample_bytes(&s, bits, sizeof(bits));
		recovery_encode(bits, text);
		assert_int_equal(strlen(text), 44);
		assert_int_equal(read_back(text, letters), RECOVERY_RIGHT);
		for (unsigned k = 0; k < 40; k++)
			if (text[k] != '-')
				assert_int_equal(letters[k - k / 5], text[k]);
		/* as people type */
		for (const char *p = text; *p; p++) {
			char c = *p;

			c = c == 'O' ? '0' : c == 'I' ? '1' : c == 'B' ? '8' : c;
			if (c >= 'A' && c <= 'Z' && sample_below(&s, 2))
				c = (char)(c - 'A' + 'a');
			if (c == '-' && sample_below(&s, 2))
				c = ' ';
			typed[n++] = c;
		}
		typed[n++] = '\n';
		typed[n] = 0;
		memset(letters, 0, sizeof(letters));
		assert_int_equal(read_back(typed, letters), RECOVERY_RIGHT);
		assert_int_equal(letters[0], text[0]);
	}
	assert_int_equal(read_back("", letters), RECOVERY_NOT);
	assert_int_equal(read_back("a passphrase of 36 letters, or nearly", letters), RECOVERY_NOT);
	text[43] = 0;
	assert_int_equal(read_back(text, letters), RECOVERY_NOT);
	snprintf(typed, sizeof(typed), "%sAA", text);
	assert_int_equal(read_back(typed, letters), RECOVERY_NOT);
}

/* Each letter wrong in each way, and each two neighbours swapped, also across the border of the check group. */
static void test_recovery_errors(void **state)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
	struct sample_source s = { 12 };
	unsigned wrong = 0, swapped = 0;
	(void)state;
	for (int i = 0; i < 60; i++) {
		uint8_t bits[RECOVERY_BITS_LEN];
		char text[RECOVERY_TEXT_MAX], letters[RECOVERY_LETTERS + 1];

		sample_bytes(&s, bits, sizeof(bits));
		recovery_encode(bits, text);
		for (size_t k = 0; text[k]; k++) {
			char was = text[k];
			size_t next = text[k + 1] == '-' ? k + 2 : k + 1;

			for (const char *c = alphabet; was != '-' && *c; c++) {
				text[k] = *c;
				if (*c == was)
					continue;
				assert_int_equal(read_back(text, letters), RECOVERY_WRONG);
				wrong++;
			}
			text[k] = was;
			if (was == '-' || !text[next] || text[next] == was)
				continue;
			text[k] = text[next];
			text[next] = was;
			assert_int_equal(read_back(text, letters), RECOVERY_WRONG);
			swapped++;
			text[next] = text[k];
			text[k] = was;
		}
		assert_int_equal(read_back(text, letters), RECOVERY_RIGHT);
	}
	assert_int_equal(wrong, 60 * 36 * 31);
	assert_true(swapped > 60 * 30);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trips),
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_every_bit_and_length),
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_labels),
		cmocka_unit_test(test_ring_round_trips),
		cmocka_unit_test(test_ring_layout),
		cmocka_unit_test(test_ring_every_bit_and_length),
		cmocka_unit_test(test_ring_fields),
		cmocka_unit_test(test_ring_encode_refuses),
		cmocka_unit_test(test_recovery_text),
		cmocka_unit_test(test_recovery_errors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
