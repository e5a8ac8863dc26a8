// SPDX-License-Identifier: GPL-3.0-or-later
/* The key ring: slots, epochs, and what somebody without the right keys can make of one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "codec/internal.h"

#include "base/banned.h"

/* Small, so that the tests are quick. */
#define KDF_N 16

static const uint8_t uuid[UUID_LEN] = "0123456789abcdef";

static int make_slot(const struct codec_keys *k, const char *passphrase, const char *label,
		     uint64_t kdf_n, struct key_ring_slot *out, struct err *err)
{
	const struct codec_slot_spec spec = { .passphrase = passphrase,
					      .n = strlen(passphrase),
					      .label = label,
					      .kind = KEY_PASSPHRASE,
					      .kdf_n = kdf_n,
					      .kdf_r = 1,
					      .kdf_p = 1 };

	return codec_slot_make(k, &spec, out, err);
}

static void add(const struct codec_keys *k, struct key_ring *ring, const char *passphrase)
{
	assert_int_equal(
		make_slot(k, passphrase, passphrase, KDF_N, &ring->slots[ring->nslots], NULL), 0);
	ring->nslots++;
}

static void seal(const struct codec_keys *k, struct key_ring *ring)
{
	ring->serial++;
	assert_int_equal(codec_ring_seal(k, ring, NULL), 0);
	assert_int_equal(codec_ring_check(k, ring, NULL), 0);
}

static int open_ring(const struct key_ring *ring, const char *passphrase, struct codec_keys **out)
{
	const struct codec_passphrase p = { .text = passphrase, .n = strlen(passphrase) };
	struct err err = ERR_INIT;

	return codec_ring_open(ring, &p, true, out, &err);
}

static void assert_same_keys(const struct codec_keys *a, const struct codec_keys *b)
{
	uint8_t x[KEYS_RAW_MAX], y[KEYS_RAW_MAX], id[ID_LEN], other[ID_LEN];
	size_t nx, ny;

	assert_int_equal(codec_keys_export(a, x, &nx, NULL), 0);
	assert_int_equal(codec_keys_export(b, y, &ny, NULL), 0);
	assert_int_equal(nx, ny);
	assert_memory_equal(x, y, nx);
	assert_int_equal(codec_keys_epoch(a), nx / KEY_LEN);
	assert_int_equal(codec_mac(a, "p", "abc", 3, id, NULL), 0);
	assert_int_equal(codec_mac(b, "p", "abc", 3, other, NULL), 0);
	assert_memory_equal(id, other, ID_LEN);
}

static void rotate(struct codec_keys **k)
{
	struct codec_keys *next = NULL;

	assert_int_equal(codec_keys_rotate(*k, &next, NULL), 0);
	codec_keys_free(*k);
	*k = next;
}

/* A ring with one slot and two epochs, made once by the functions here and opened then by Python's hashlib and cryptography,
 * too. */
static void test_ring_of_version_1_opens(void **state)
{
	static const char ring_hex[] =
		"4c5650544b45595301000100010002003031323334353637383961626364656607000000000000000100000001000100"
		"100000000000000001000000010000001e896977a7b276077ab947f98fd6bd1e2a89d01f7964998b0649ac63af9875e2"
		"08089cdde3e7d14c8885927a000000000000000000000000676f6c64656e000000000000000000000000000000000000"
		"000000000000000000000000000000000000000000000000000000000000000000000000000000008cc4016b00000000"
		"be437c0d92d8ddd32460de7ee9c013a4c4498347d2b917fc07ee88fbb0bbfe5d3dfad9cebb0b4ed702b38191030de7d0"
		"740bd2569bfa177b368b26a723733ceddf3ebd8cdb55d4937695f8f11249d93ed205c50eea62148e51889dadb327a42a"
		"af1ccb6e2ca89f399f40e6a1fab91474e5fc9ff8c444c3f78b9982628777b97050e5bd3ff3250d8bdf9ea70cea531a1c"
		"53bf429a19ab9375bf773cbde7ea6f10d805e8dd860987713cfae1b10929a8a2ce8b530f4cf47742bc844e7bc4bbd95b"
		"05674d2c7c0b069cb395c1ec8029af9b94f638b6a74de4388a1106a16cabb9c180f901628f544df73b9883a4eec68c9d"
		"ea0d8759c04b448e08720ab4bfcaaa67ff27da35eefe3a4a0a31bf6655631d1394040097cb8b6d03";
	uint8_t raw[(sizeof(ring_hex) - 1) / 2], key[KEYS_RAW_MAX];
	struct key_ring ring;
	cleanup_ptr(codec_keys) k = NULL;
	size_t n;
	(void)state;
	assert_true(hex_decode(raw, ring_hex, sizeof(raw)));
	assert_int_equal(key_ring_decode(raw, sizeof(raw), &ring, NULL), 0);
	assert_int_equal(ring.serial, 7);
	assert_int_equal(open_ring(&ring, "correct horse", &k), 0);
	assert_int_equal(codec_keys_export(k, key, &n, NULL), 0);
	assert_int_equal(n, 2 * KEY_LEN);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(key[i], i);
}

static void test_slots_and_epochs(void **state)
{
	struct key_ring ring = { 0 };
	struct codec_keys *k = NULL;
	(void)state;
	assert_int_equal(codec_keys_generate(1, uuid, &k, NULL), 0);
	add(k, &ring, "one");
	add(k, &ring, "two");
	for (unsigned epoch = 1; epoch <= 4; epoch++) {
		seal(k, &ring);
		assert_int_equal(ring.epochs, epoch);
		for (unsigned i = 0; i < ring.nslots; i++) {
			cleanup_ptr(codec_keys) back = NULL;
			cleanup_ptr(codec_keys) raw = NULL;
			uint8_t bytes[KEYS_RAW_MAX];
			struct codec_keys *none = NULL;
			size_t n;

			assert_int_equal(open_ring(&ring, ring.slots[i].label, &back), 0);
			assert_same_keys(k, back);
			assert_memory_equal(codec_keys_opened(back), ring.slots[i].salt, SALT_LEN);
			assert_int_equal(codec_ring_check(back, &ring, NULL), 0);
			assert_int_equal(codec_keys_export(k, bytes, &n, NULL), 0);
			assert_int_equal(codec_keys_import(1, uuid, bytes, n, &raw, NULL), 0);
			assert_same_keys(k, raw);
			assert_null(codec_keys_opened(raw));
			assert_int_equal(open_ring(&ring, "onf", &none), ERR_KEY);
			assert_int_equal(open_ring(&ring, "", &none), ERR_KEY);
			assert_null(none);
		}
		if (epoch == 2) /* bound to it */
			add(k, &ring, "three");
		rotate(&k);
		/* of the epoch before */
		assert_int_equal(codec_ring_check(k, &ring, NULL), ERR_DAMAGED);
	}
	assert_int_equal(ring.slots[2].bound, 2);
	codec_keys_free(k);
}

/* Keys of packs come from their epoch's key alone; the id key stays. */
static void test_epochs_of_packs(void **state)
{
	uint8_t raw[KEYS_RAW_MAX], salt[SALT_LEN] = { 1 }, id[2][ID_LEN];
	struct codec_keys *old = NULL, *k = NULL, *swapped = NULL;
	struct codec_pack_key *a = NULL, *b = NULL, *c = NULL, *none = NULL;
	size_t n;
	(void)state;
	assert_int_equal(codec_keys_generate(1, uuid, &old, NULL), 0);
	assert_int_equal(codec_keys_rotate(old, &k, NULL), 0);
	assert_int_equal(codec_keys_epoch(k), 2);
	for (int i = 0; i < 2; i++) {
		cleanup_ptr(codec_ctx) ctx = NULL;

		assert_int_equal(codec_ctx_new(i ? k : old, &ctx, NULL), 0);
		assert_int_equal(codec_id(ctx, "abc", 3, id[i], NULL), 0);
	}
	assert_memory_equal(id[0], id[1], ID_LEN);
	assert_int_equal(codec_pack_key_new(old, salt, 1, 1, &a, NULL), 0);
	assert_int_equal(codec_pack_key_new(k, salt, 1, 1, &b, NULL), 0);
	assert_memory_equal(a->key, b->key, KEY_LEN);
	codec_pack_key_free(b);
	assert_int_equal(codec_pack_key_new(k, salt, 2, 1, &b, NULL), 0);
	assert_memory_not_equal(a->key, b->key, KEY_LEN);
	assert_int_equal(codec_pack_key_new(old, salt, 2, 1, &none, NULL), ERR_KEY);
	assert_int_equal(codec_pack_key_new(k, salt, 3, 1, &none, NULL), ERR_KEY);
	assert_int_equal(codec_pack_key_new(k, salt, 0, 1, &none, NULL), ERR_DAMAGED);
	assert_null(none);
	/* another first key changes nothing in epoch 2 */
	assert_int_equal(codec_keys_export(k, raw, &n, NULL), 0);
	raw[0] ^= 1;
	assert_int_equal(codec_keys_import(1, uuid, raw, n, &swapped, NULL), 0);
	assert_int_equal(codec_pack_key_new(swapped, salt, 2, 1, &c, NULL), 0);
	assert_memory_equal(b->key, c->key, KEY_LEN);
	codec_pack_key_free(a);
	codec_pack_key_free(b);
	codec_pack_key_free(c);
	codec_keys_free(old);
	codec_keys_free(k);
	codec_keys_free(swapped);
}

/* Every bit with the check made right again, opened through either slot. */
static void test_every_bit(void **state)
{
	struct key_ring ring = { 0 }, got;
	cleanup_buf struct buf b = BUF_INIT;
	struct codec_keys *k = NULL, *none = NULL;
	unsigned decoded = 0;
	(void)state;
	assert_int_equal(codec_keys_generate(1, uuid, &k, NULL), 0);
	add(k, &ring, "one");
	rotate(&k);
	add(k, &ring, "two");
	seal(k, &ring);
	assert_int_equal(key_ring_encode(&ring, &b, NULL), 0);
	for (size_t bit = 0; bit < 8 * (b.len - 8); bit++) {
		b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		put_le64(b.data + b.len - 8, check_xxh3(b.data, b.len - 8));
		if (key_ring_decode(b.data, b.len, &got, NULL) == 0 && got.slots[0].kdf_n <= 1024 &&
		    got.slots[1].kdf_n <= 1024) {
			for (unsigned i = 0; i < 2; i++) {
				int r = open_ring(&got, i ? "two" : "one", &none);

				assert_true(r == ERR_KEY || r == ERR_DAMAGED);
			}
			decoded++;
		}
		b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_null(none);
	assert_true(decoded > 4000);
	codec_keys_free(k);
}

/* Somebody who can write into keys/ and has no key: public keys are all he needs to seal his own to every slot. */
static void test_forged_by_a_stranger(void **state)
{
	struct key_ring ring = { 0 }, forged;
	struct codec_keys *k = NULL, *his = NULL, *none = NULL;
	(void)state;
	assert_int_equal(codec_keys_generate(1, uuid, &k, NULL), 0);
	assert_int_equal(codec_keys_generate(1, uuid, &his, NULL), 0);
	add(k, &ring, "one");
	seal(k, &ring);
	forged = ring;
	seal(his, &forged);
	assert_int_equal(open_ring(&forged, "one", &none), ERR_DAMAGED);
	/* a slot of his own beside ours */
	forged = ring;
	add(his, &forged, "his");
	assert_int_equal(open_ring(&forged, "one", &none), ERR_DAMAGED);
	assert_int_equal(open_ring(&forged, "his", &none), ERR_DAMAGED);
	forged = ring;
	rotate(&his);
	seal(his, &forged);
	assert_int_equal(open_ring(&forged, "one", &none), ERR_DAMAGED);
	/* public keys that give a secret that everybody knows */
	forged = ring;
	memset(forged.slots[0].ephemeral, 0, KEY_PUBLIC_LEN);
	assert_int_equal(open_ring(&forged, "one", &none), ERR_DAMAGED);
	assert_null(none);
	codec_keys_free(k);
	codec_keys_free(his);
}

/* Whoever was removed has all older keys, his passphrase and every older file. */
static void test_removed_before_rotation(void **state)
{
	struct key_ring old = { 0 }, ring, mixed;
	struct codec_keys *k = NULL, *his = NULL, *none = NULL;
	(void)state;
	assert_int_equal(codec_keys_generate(1, uuid, &k, NULL), 0);
	add(k, &old, "gone");
	add(k, &old, "stays");
	seal(k, &old);
	assert_int_equal(open_ring(&old, "gone", &his), 0);
	ring = old;
	ring.slots[0] = old.slots[1];
	ring.nslots = 1;
	rotate(&k);
	seal(k, &ring);
	/* his slot put back into the new ring: the new key is not sealed to it */
	mixed = ring;
	mixed.slots[1] = old.slots[0];
	mixed.nslots = 2;
	assert_int_equal(open_ring(&mixed, "gone", &none), ERR_DAMAGED);
	memcpy(mixed.slots[1].sealed, ring.slots[0].sealed, KEY_WRAPPED_LEN);
	memcpy(mixed.slots[1].ephemeral, ring.slots[0].ephemeral, KEY_PUBLIC_LEN);
	assert_int_equal(open_ring(&mixed, "gone", &none), ERR_DAMAGED);
	/* an epoch 2 of his own: refused by passphrases set since the rotation, which are bound to ours */
	add(k, &ring, "new");
	seal(k, &ring);
	rotate(&his);
	mixed = ring;
	seal(his, &mixed);
	assert_int_equal(open_ring(&mixed, "new", &none), ERR_DAMAGED);
	assert_null(none);
	codec_keys_free(k);
	codec_keys_free(his);
}

/* The slot that opened is written again without its passphrase: with another pair, bound to the newest epoch. */
static void test_slot_again(void **state)
{
	struct key_ring ring = { 0 };
	struct key_ring_slot again, none;
	struct codec_keys *k = NULL, *opened = NULL, *back = NULL;
	(void)state;
	assert_int_equal(codec_keys_generate(1, uuid, &k, NULL), 0);
	add(k, &ring, "one");
	seal(k, &ring);
	assert_int_equal(codec_slot_again(k, "x", KEY_PASSPHRASE, 5, &none, NULL), ERR_INVALID);
	assert_int_equal(open_ring(&ring, "one", &opened), 0);
	rotate(&opened);
	assert_int_equal(codec_slot_again(opened, "", KEY_PASSPHRASE, 5, &none, NULL), ERR_INVALID);
	assert_int_equal(codec_slot_again(opened, "uno", KEY_PASSPHRASE, 5, &again, NULL), 0);
	assert_memory_equal(again.salt, ring.slots[0].salt, SALT_LEN);
	assert_memory_not_equal(again.nonce, ring.slots[0].nonce, 12);
	assert_memory_not_equal(again.public, ring.slots[0].public, KEY_PUBLIC_LEN);
	assert_int_equal(again.bound, 2);
	assert_int_equal(again.created, 5);
	ring.slots[0] = again;
	seal(opened, &ring);
	assert_int_equal(open_ring(&ring, "one", &back), 0);
	assert_same_keys(opened, back);
	codec_keys_free(k);
	codec_keys_free(opened);
	codec_keys_free(back);
}

static void test_bounds(void **state)
{
	struct key_ring ring = { 0 };
	struct key_ring_slot s;
	struct codec_keys *k = NULL, *back = NULL, *none = NULL;
	cleanup_buf struct buf b = BUF_INIT;
	char label[KEY_LABEL_MAX + 2];
	(void)state;
	assert_int_equal(codec_keys_generate(1, uuid, &k, NULL), 0);
	assert_int_equal(make_slot(k, "x", "l", 17, &s, NULL), ERR_INVALID);
	assert_int_equal(make_slot(k, "x", "l", 1 << 21, &s, NULL), ERR_INVALID);
	assert_int_equal(make_slot(k, "", "l", KDF_N, &s, NULL), ERR_KEY);
	assert_int_equal(make_slot(k, "x", "", KDF_N, &s, NULL), ERR_INVALID);
	assert_int_equal(make_slot(k, "x", "two\nlines", KDF_N, &s, NULL), ERR_INVALID);
	memset(label, 'a', sizeof(label));
	label[KEY_LABEL_MAX + 1] = 0;
	assert_int_equal(make_slot(k, "x", label, KDF_N, &s, NULL), ERR_INVALID);
	label[KEY_LABEL_MAX] = 0;
	for (ring.nslots = 0; ring.nslots < KEY_SLOTS_MAX;) {
		label[0] = (char)('a' + ring.nslots);
		assert_int_equal(make_slot(k, "x", label, KDF_N, &ring.slots[ring.nslots++], NULL),
				 0);
	}
	while (codec_keys_epoch(k) < KEY_EPOCHS_MAX)
		rotate(&k);
	assert_int_equal(codec_keys_rotate(k, &none, NULL), ERR_TOO_BIG);
	seal(k, &ring);
	assert_int_equal(key_ring_encode(&ring, &b, NULL), 0);
	assert_int_equal(b.len, KEY_RING_MAX);
	assert_int_equal(open_ring(&ring, "x", &back), 0);
	assert_same_keys(k, back);
	ring.suite = 9;
	assert_int_equal(open_ring(&ring, "x", &none), ERR_UNSUPPORTED);
	codec_keys_free(k);
	codec_keys_free(back);
}

/* The real parameters need libcrypto's memory bound raised; the child process and its threads are used. */
static void test_real_parameters(void **state)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
	const struct codec_slot_spec spec = { .passphrase = letters,
					      .n = RECOVERY_LETTERS,
					      .label = "l",
					      .kind = KEY_RECOVERY,
					      .kdf_n = 65536,
					      .kdf_r = 8,
					      .kdf_p = 1 };
	struct codec_passphrase p = { .text = letters, .n = RECOVERY_LETTERS };
	struct key_ring ring = { 0 };
	struct err err = ERR_INIT;
	struct codec_keys *k = NULL, *back = NULL;
	(void)state;
	assert_int_equal(codec_keys_generate(1, uuid, &k, NULL), 0);
	add(k, &ring, "one");
	add(k, &ring, "two");
	assert_int_equal(codec_slot_make(k, &spec, &ring.slots[ring.nslots++], &err), 0);
	seal(k, &ring);
	/* a recovery slot is for recovery keys only */
	assert_int_equal(codec_ring_open(&ring, &p, false, &back, &err), ERR_KEY);
	p.letters = letters;
	assert_int_equal(codec_ring_open(&ring, &p, false, &back, &err), 0);
	assert_same_keys(k, back);
	codec_keys_free(k);
	codec_keys_free(back);
}

/* One allocation after another fails, until none is left to fail. */
static void test_allocation_failures(void **state)
{
	const struct codec_passphrase p = { .text = "one", .n = 3 };
	struct key_ring ring = { 0 };
	struct codec_keys *k = NULL;
	int r = ERR_NOMEM;
	(void)state;
	assert_int_equal(codec_keys_generate(1, uuid, &k, NULL), 0);
	add(k, &ring, "one");
	seal(k, &ring);
	for (unsigned n = 1; r == ERR_NOMEM; n++) {
		struct key_ring copy = ring;
		struct err err = ERR_INIT;
		cleanup_ptr(codec_keys) back = NULL;
		cleanup_ptr(codec_keys) next = NULL;

		mem_fail_after(n);
		r = codec_ring_open(&ring, &p, true, &back, &err);
		if (r == 0)
			r = codec_keys_rotate(back, &next, &err);
		if (r == 0)
			r = codec_slot_again(next, "one", KEY_PASSPHRASE, 1, &copy.slots[0], &err);
		if (r == 0)
			r = codec_ring_seal(next, &copy, &err);
		if (r == 0)
			r = codec_ring_check(next, &copy, &err);
		mem_fail_after(0);
		assert_true(r == 0 || r == ERR_NOMEM);
		assert_true(n < 100);
		assert_true(n > 3 || r == ERR_NOMEM);
	}
	codec_keys_free(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ring_of_version_1_opens),
		cmocka_unit_test(test_slots_and_epochs),
		cmocka_unit_test(test_epochs_of_packs),
		cmocka_unit_test(test_every_bit),
		cmocka_unit_test(test_forged_by_a_stranger),
		cmocka_unit_test(test_removed_before_rotation),
		cmocka_unit_test(test_slot_again),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_real_parameters),
		cmocka_unit_test(test_allocation_failures),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
