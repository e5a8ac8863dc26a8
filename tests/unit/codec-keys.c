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
	uint8_t raw[KEY_FILE_LEN], expected[KEY_LEN], key[KEY_LEN];
	struct key_file f;
	(void)state;
	assert_int_equal(strlen(file_hex), 2 * KEY_FILE_LEN);
	from_hex(raw, file_hex);
	for (unsigned i = 0; i < KEY_LEN; i++)
		expected[i] = (uint8_t)i;
	assert_int_equal(key_file_decode(raw, sizeof(raw), &f, NULL), 0);
	cleanup_ptr(codec_keys) k = NULL;
	assert_int_equal(codec_key_unwrap(&f, "correct horse", 13, true, &k, NULL), 0);
	assert_int_equal(codec_keys_export(k, key, NULL), 0);
	assert_memory_equal(key, expected, KEY_LEN);
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
	assert_int_equal(codec_keys_export(k, id, NULL), ERR_INVALID);
	struct key_file f;
	assert_int_equal(codec_key_wrap(k, "x", 1, "", KDF_N, KDF_R, KDF_P, &f, NULL), ERR_INVALID);
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
	assert_int_equal(codec_keys_import(1, uuid, key, &k, NULL), 0);
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
	uint8_t key[KEY_LEN] = { 1 };
	struct codec_keys *k = NULL;
	(void)state;
	assert_int_equal(codec_keys_import(0, uuid, key, &k, NULL), ERR_INVALID);
	assert_int_equal(codec_keys_import(2, uuid, key, &k, NULL), ERR_UNSUPPORTED);
	assert_int_equal(codec_keys_generate(0, uuid, &k, NULL), ERR_INVALID);
	assert_null(k);
}

static void wrap(const struct codec_keys *k, struct key_file *f)
{
	struct err err = ERR_INIT;
	assert_int_equal(
		codec_key_wrap(k, "secret", 6, "l\xc3\xb6sung", KDF_N, KDF_R, KDF_P, f, &err), 0);
}

static void test_wrap_and_unwrap(void **state)
{
	struct key_file f, g;
	uint8_t raw[KEY_FILE_LEN], a[KEY_LEN], b[KEY_LEN];
	cleanup_ptr(codec_keys) k = NULL;
	(void)state;
	assert_int_equal(codec_keys_generate(1, uuid, &k, NULL), 0);
	assert_int_equal(codec_keys_export(k, a, NULL), 0);
	assert_false(mem_is_zero(a, KEY_LEN));
	wrap(k, &f);
	wrap(k, &g);
	assert_memory_not_equal(f.salt, g.salt, SALT_LEN);
	assert_memory_not_equal(f.nonce, g.nonce, 12);
	assert_memory_not_equal(f.wrapped, g.wrapped, KEY_WRAPPED_LEN);
	key_file_encode(&f, raw);
	assert_int_equal(key_file_decode(raw, sizeof(raw), &g, NULL), 0);
	assert_string_equal(g.label, "l\xc3\xb6sung");
	for (int in_process = 0; in_process < 2; in_process++) {
		struct err err = ERR_INIT;
		cleanup_ptr(codec_keys) back = NULL;
		assert_int_equal(codec_key_unwrap(&g, "secret", 6, in_process, &back, &err), 0);
		assert_int_equal(codec_keys_export(back, b, NULL), 0);
		assert_memory_equal(a, b, KEY_LEN);
		assert_memory_equal(codec_keys_uuid(back), uuid, UUID_LEN);
		struct codec_keys *none = NULL;
		assert_int_equal(codec_key_unwrap(&g, "secreT", 6, in_process, &none, &err),
				 ERR_KEY);
		assert_int_equal(codec_key_unwrap(&g, "secret", 5, in_process, &none, &err),
				 ERR_KEY);
		assert_int_equal(codec_key_unwrap(&g, "", 0, in_process, &none, &err), ERR_KEY);
		assert_null(none);
	}
}

/* Every bit of a key file with its check made right again: the tag or a bound refuses. */
static void test_changed_key_file_does_not_open(void **state)
{
	struct key_file f, g;
	uint8_t raw[KEY_FILE_LEN];
	cleanup_ptr(codec_keys) k = NULL;
	struct codec_keys *none = NULL;
	(void)state;
	assert_int_equal(codec_keys_generate(1, uuid, &k, NULL), 0);
	wrap(k, &f);
	for (size_t bit = 0; bit < 8 * 232; bit++) {
		key_file_encode(&f, raw);
		raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
		put_le64(raw + 232, check_xxh3(raw, 232));
		if (key_file_decode(raw, sizeof(raw), &g, NULL) < 0)
			continue;
		if (g.kdf_n > 1024) /* slow, and no other case */
			continue;
		assert_int_equal(codec_key_unwrap(&g, "secret", 6, true, &none, NULL), ERR_KEY);
	}
	assert_null(none);
}

static void test_parameters_are_bounded(void **state)
{
	struct key_file f, g = { 0 };
	cleanup_ptr(codec_keys) k = NULL;
	struct codec_keys *none = NULL;
	char label[KEY_LABEL_MAX + 2];
	(void)state;
	assert_int_equal(codec_keys_generate(1, uuid, &k, NULL), 0);
	assert_int_equal(codec_key_wrap(k, "x", 1, "", 17, 1, 1, &g, NULL), ERR_INVALID);
	assert_int_equal(codec_key_wrap(k, "x", 1, "", 1 << 21, 1, 1, &g, NULL), ERR_INVALID);
	assert_int_equal(codec_key_wrap(k, "x", 1, "", 16, 33, 1, &g, NULL), ERR_INVALID);
	assert_int_equal(codec_key_wrap(k, "x", 1, "", 16, 1, 17, &g, NULL), ERR_INVALID);
	assert_int_equal(codec_key_wrap(k, "x", 0, "", 16, 1, 1, &g, NULL), ERR_KEY);
	assert_int_equal(codec_key_wrap(k, "x", 1, "two\nlines", 16, 1, 1, &g, NULL), ERR_INVALID);
	memset(label, 'a', sizeof(label));
	label[KEY_LABEL_MAX + 1] = 0;
	assert_int_equal(codec_key_wrap(k, "x", 1, label, 16, 1, 1, &g, NULL), ERR_INVALID);
	assert_true(mem_is_zero(&g, sizeof(g)));
	wrap(k, &f);
	f.kdf_n = (uint64_t)1 << 40;
	assert_int_equal(codec_key_unwrap(&f, "secret", 6, true, &none, NULL), ERR_INVALID);
	f.kdf_n = KDF_N;
	f.suite = 9;
	assert_int_equal(codec_key_unwrap(&f, "secret", 6, true, &none, NULL), ERR_UNSUPPORTED);
}

/* The real parameters need libcrypto's memory bound raised. */
static void test_real_parameters(void **state)
{
	struct key_file f;
	struct err err = ERR_INIT;
	cleanup_ptr(codec_keys) k = NULL;
	cleanup_ptr(codec_keys) back = NULL;
	(void)state;
	assert_int_equal(codec_keys_generate(1, uuid, &k, NULL), 0);
	assert_int_equal(codec_key_wrap(k, "secret", 6, "", 65536, 8, 1, &f, &err), 0);
	assert_int_equal(codec_key_unwrap(&f, "secret", 6, false, &back, &err), 0);
}

/* One allocation after another fails, until none is left to fail. */
static void test_allocation_failures(void **state)
{
	struct key_file f;
	cleanup_ptr(codec_keys) k = NULL;
	(void)state;
	assert_int_equal(codec_keys_generate(1, uuid, &k, NULL), 0);
	wrap(k, &f);
	int r = ERR_NOMEM;
	for (unsigned n = 1; r == ERR_NOMEM; n++) {
		struct err err = ERR_INIT;
		cleanup_ptr(codec_keys) back = NULL;
		cleanup_ptr(codec_ctx) ctx = NULL;
		cleanup_ptr(codec_pack_key) pk = NULL;
		mem_fail_after(n);
		r = codec_key_unwrap(&f, "secret", 6, true, &back, &err);
		if (r == 0)
			r = codec_ctx_new(back, &ctx, &err);
		if (r == 0)
			r = codec_pack_key_new(back, f.salt, 1, 1, &pk, &err);
		mem_fail_after(0);
		assert_true(r == 0 || r == ERR_NOMEM);
		assert_true(n < 100);
		assert_true(n > 3 || r == ERR_NOMEM);
	}
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
		cmocka_unit_test(test_wrap_and_unwrap),
		cmocka_unit_test(test_changed_key_file_does_not_open),
		cmocka_unit_test(test_parameters_are_bounded),
		cmocka_unit_test(test_real_parameters),
		cmocka_unit_test(test_allocation_failures),
		cmocka_unit_test(test_many_pack_keys),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
