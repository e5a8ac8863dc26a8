// SPDX-License-Identifier: GPL-3.0-or-later
/* Suites, keys, wrapping, MACs; known answers of the algorithms behind them. */
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
#define KDF_R 1
#define KDF_P 1

static const uint8_t uuid[UUID_LEN] = "0123456789abcdef";

#define SLOT_SPEC(text, name)                                                                      \
	{                                                                                          \
		.passphrase = (text), .n = strlen(text), .label = (name), .kind = KEY_PASSPHRASE,  \
		.kdf_n = KDF_N, .kdf_r = KDF_R, .kdf_p = KDF_P                                     \
	}

static void from_hex(uint8_t *dst, const char *hex)
{
	assert_true(hex_decode(dst, hex, strlen(hex) / 2));
}

static void test_suites(void **state)
{
	(void)state;
	const struct codec_suite *plain = codec_suite_find(0), *gcm = codec_suite_find(1);
	assert_non_null(plain);
	assert_false(plain->keyed);
	assert_int_equal(plain->tag_len, 0);
	assert_non_null(gcm);
	assert_true(gcm->keyed);
	assert_int_equal(gcm->key_len, KEY_LEN);
	assert_int_equal(gcm->nonce_len, 12);
	assert_int_equal(gcm->tag_len, 16);
	for (unsigned i = 0; i < 70000; i++)
		assert_true((codec_suite_find(i) != NULL) == (i <= SUITE_LAST));
}

/* RFC 5869 A.1 has a key of 22 bytes, ours have 32: this answer is of an HKDF in Python that gives
 * A.1's, too. */
static void test_derive(void **state)
{
	(void)state;
	uint8_t ikm[KEY_LEN], salt[13], info[10], okm[KEY_LEN], expected[KEY_LEN];
	memset(ikm, 0x0b, sizeof(ikm));
	from_hex(salt, "000102030405060708090a0b0c");
	from_hex(info, "f0f1f2f3f4f5f6f7f8f9");
	from_hex(expected, "d4100799f26a09615a72af3e58fa3841a2ff20d5ace3fb392e562e207fe6b718");
	assert_int_equal(codec_row_find(1)->derive(ikm, salt, sizeof(salt), info, sizeof(info), okm,
						   NULL),
			 0);
	assert_memory_equal(okm, expected, KEY_LEN);
}

/* RFC 7914, section 12, the second and third vector (their first 32 bytes). */
static void test_scrypt_vectors(void **state)
{
	static const struct {
		const char *passphrase, *salt;
		uint64_t n;
		uint32_t r, p;
		const char *key;
	} vectors[] = {
		{ "password", "NaCl", 1024, 8, 16,
		  "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162" },
		{ "pleaseletmein", "SodiumChloride", 16384, 8, 1,
		  "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2" },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		uint8_t key[KEY_LEN], expected[KEY_LEN];
		from_hex(expected, vectors[i].key);
		assert_int_equal(EVP_PBE_scrypt(vectors[i].passphrase,
						strlen(vectors[i].passphrase),
						(const uint8_t *)vectors[i].salt,
						strlen(vectors[i].salt), vectors[i].n, vectors[i].r,
						vectors[i].p, 64 * MiB, key, sizeof(key)),
				 1);
		assert_memory_equal(key, expected, KEY_LEN);
	}
}

/* A whole key file, made once by codec_key_wrap and opened then by Python's hashlib and
 * cryptography, too. */
static void test_key_file_of_version_1_opens(void **state)
{
	static const char file_hex[] =
		"4c5650544b4559310100010001000000100000000000000001000000010000005e3408304cc3e05574d7a1a6e1354f48"
		"ba2e2e87dc3e3b5196e21772394b051a5383cc81310dc84dc73d85e80000000000000000000000003031323334353637"
		"3839616263646566676f6c64656e00000000000000000000000000000000000000000000000000000000000000000000"
		"000000000000000000000000000000000000000000000000388a016b00000000300000000000000030cc559fdfc04704"
		"9ddbb1ff03344d8e352669989569ea2d19a613b320e08d8fb75685d957f5300cc44e3a143b0384cdf74dfe61b21a77a9";
	uint8_t raw[KEY_FILE_LEN], expected[KEY_LEN], key[KEYS_RAW_MAX];
	size_t n;
	struct key_file f;
	(void)state;
	assert_int_equal(strlen(file_hex), 2 * KEY_FILE_LEN);
	from_hex(raw, file_hex);
	for (unsigned i = 0; i < KEY_LEN; i++)
		expected[i] = (uint8_t)i;
	assert_int_equal(key_file_decode(raw, sizeof(raw), &f, NULL), 0);
	cleanup_ptr(codec_keys) k = NULL;
	assert_int_equal(codec_key_unwrap(&f, "correct horse", 13, true, &k, NULL), 0);
	assert_int_equal(codec_keys_epoch(k), 1);
	assert_memory_equal(codec_keys_opened(k), f.salt, SALT_LEN);
	assert_int_equal(codec_keys_export(k, key, &n, NULL), 0);
	assert_int_equal(n, KEY_LEN);
	assert_memory_equal(key, expected, KEY_LEN);
	struct codec_keys *none = NULL;
	assert_int_equal(codec_key_unwrap(&f, "correct horsf", 13, true, &none, NULL), ERR_KEY);
	assert_int_equal(codec_key_unwrap(&f, "", 0, true, &none, NULL), ERR_KEY);
	f.suite = 9;
	assert_int_equal(codec_key_unwrap(&f, "correct horse", 13, true, &none, NULL),
			 ERR_UNSUPPORTED);
	/* every bit with its check made right again: the tag or a bound refuses */
	for (size_t bit = 0; bit < 8 * 232; bit++) {
		from_hex(raw, file_hex);
		raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
		put_le64(raw + 232, check_xxh3(raw, 232));
		/* slow ones are no other case */
		if (key_file_decode(raw, sizeof(raw), &f, NULL) == 0 && f.kdf_n <= 1024)
			assert_int_equal(codec_key_unwrap(&f, "correct horse", 13, true, &none,
							  NULL),
					 ERR_KEY);
	}
	assert_null(none);
}

/* FIPS 180-4's example. */
static void test_id_of_suite_0(void **state)
{
	uint8_t id[ID_LEN], expected[ID_LEN];
	cleanup_ptr(codec_keys) k = NULL;
	cleanup_ptr(codec_ctx) ctx = NULL;
	(void)state;
	assert_int_equal(codec_keys_plain(uuid, &k, NULL), 0);
	assert_int_equal(codec_keys_epoch(k), 0);
	assert_int_equal(codec_overhead(k), 0);
	assert_memory_equal(codec_keys_uuid(k), uuid, UUID_LEN);
	assert_int_equal(codec_keys_suite(k)->number, 0);
	assert_int_equal(codec_ctx_new(k, &ctx, NULL), 0);
	from_hex(expected, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	for (int i = 0; i < 3; i++) {
		assert_int_equal(codec_id(ctx, "abc", 3, id, NULL), 0);
		assert_memory_equal(id, expected, ID_LEN);
	}
	assert_int_equal(codec_mac(k, "anything", "abc", 3, id, NULL), 0);
	assert_memory_equal(id, expected, ID_LEN);
	uint8_t raw[KEYS_RAW_MAX];
	size_t n;
	struct codec_keys *none = NULL;
	struct key_ring_slot slot;
	struct key_ring ring = { .nslots = 1 };
	const struct codec_slot_spec spec = SLOT_SPEC("x", "label");
	assert_int_equal(codec_keys_export(k, raw, &n, NULL), ERR_INVALID);
	assert_int_equal(codec_keys_rotate(k, &none, NULL), ERR_INVALID);
	assert_int_equal(codec_slot_make(k, &spec, &slot, NULL), ERR_INVALID);
	assert_int_equal(codec_ring_seal(k, &ring, NULL), ERR_INVALID);
}

/* Answers of Python's hmac and hashlib for key 00..1f, uuid as above. */
static void test_id_and_mac_of_suite_1(void **state)
{
	uint8_t key[KEY_LEN], id[ID_LEN], expected[ID_LEN];
	cleanup_ptr(codec_keys) k = NULL;
	cleanup_ptr(codec_ctx) ctx = NULL;
	(void)state;
	for (unsigned i = 0; i < KEY_LEN; i++)
		key[i] = (uint8_t)i;
	assert_int_equal(codec_keys_import(1, uuid, key, KEY_LEN, &k, NULL), 0);
	assert_int_equal(codec_keys_epoch(k), 1);
	assert_int_equal(codec_overhead(k), 16);
	assert_int_equal(codec_ctx_new(k, &ctx, NULL), 0);
	from_hex(expected, "2458ee0cfce09fa529177635b065620da9ccebb6c118e687a7d275cf0723e042");
	for (int i = 0; i < 3; i++) {
		assert_int_equal(codec_id(ctx, "abc", 3, id, NULL), 0);
		assert_memory_equal(id, expected, ID_LEN);
	}
	from_hex(expected, "f9e4a1e6e0f64ef46f7b14d83566b896bf78c690a27c04871fe170b3fd1cffde");
	assert_int_equal(codec_mac(k, "catalog row", "abc", 3, id, NULL), 0);
	assert_memory_equal(id, expected, ID_LEN);
	assert_int_equal(codec_mac(k, "catalog rox", "abc", 3, id, NULL), 0);
	assert_memory_not_equal(id, expected, ID_LEN);
	assert_int_equal(codec_mac(k, "", "abc", 3, id, NULL), ERR_INTERNAL);
	struct codec_pack_key *pk = NULL;
	uint8_t salt[SALT_LEN];
	memset(salt, 7, sizeof(salt));
	assert_int_equal(codec_pack_key_new(k, salt, 1, 0x1ab, &pk, NULL), 0);
	from_hex(expected, "185164416e61674ded239cd24f96a107b39f884f12819e2b1efd7ff02551cdac");
	assert_memory_equal(pk->key, expected, KEY_LEN);
	codec_pack_key_free(pk);
}

static void test_import_refuses(void **state)
{
	static uint8_t key[KEYS_RAW_MAX + KEY_LEN] = { 1 };
	struct codec_keys *k = NULL;
	(void)state;
	assert_int_equal(codec_keys_import(0, uuid, key, KEY_LEN, &k, NULL), ERR_INVALID);
	assert_int_equal(codec_keys_import(2, uuid, key, KEY_LEN, &k, NULL), ERR_UNSUPPORTED);
	assert_int_equal(codec_keys_import(1, uuid, key, 0, &k, NULL), ERR_KEY);
	assert_int_equal(codec_keys_import(1, uuid, key, KEY_LEN - 1, &k, NULL), ERR_KEY);
	assert_int_equal(codec_keys_import(1, uuid, key, KEY_LEN + 1, &k, NULL), ERR_KEY);
	assert_int_equal(codec_keys_import(1, uuid, key, sizeof(key), &k, NULL), ERR_KEY);
	assert_int_equal(codec_keys_generate(0, uuid, &k, NULL), ERR_INVALID);
	assert_null(k);
}

/* More keys than the secure heap holds. */
static void test_many_pack_keys(void **state)
{
	enum { COUNT = 10000 };
	static struct codec_pack_key *list[COUNT];
	uint8_t salt[SALT_LEN] = { 0 };
	cleanup_ptr(codec_keys) k = NULL;
	(void)state;
	assert_int_equal(codec_keys_generate(1, uuid, &k, NULL), 0);
	for (unsigned i = 0; i < COUNT; i++) {
		put_le32(salt, i);
		assert_int_equal(codec_pack_key_new(k, salt, 1, 1, &list[i], NULL), 0);
		assert_true(i == 0 || list[i]->serial != list[i - 1]->serial);
	}
	for (unsigned i = 0; i < COUNT; i++)
		codec_pack_key_free(list[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_suites),
		cmocka_unit_test(test_derive),
		cmocka_unit_test(test_scrypt_vectors),
		cmocka_unit_test(test_key_file_of_version_1_opens),
		cmocka_unit_test(test_id_of_suite_0),
		cmocka_unit_test(test_id_and_mac_of_suite_1),
		cmocka_unit_test(test_import_refuses),
		cmocka_unit_test(test_many_pack_keys),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
