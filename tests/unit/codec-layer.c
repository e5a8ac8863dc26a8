// SPDX-License-Identifier: GPL-3.0-or-later
/* Data of overlays: AES-256-XTS by sectors as libcrypto does it on its own, keys for one layer of one disk, MACs. */
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "codec/codec.h"

#include "base/banned.h"

static const uint8_t uuid[UUID_LEN] = "0123456789abcdef";
static const uint8_t salt[SALT_LEN] = "salt of an overlay, 32 bytes...";
static const uint8_t raw[2 * KEY_LEN] =
	"key of epoch 1, with 32 bytes...key of epoch 2, with 32 bytes..";

static struct codec_keys *keys_of(unsigned suite)
{
	struct codec_keys *k = NULL;
	struct err err = ERR_INIT;

	if (suite)
		assert_int_equal(codec_keys_import(suite, uuid, raw, sizeof(raw), &k, &err), 0);
	else
		assert_int_equal(codec_keys_plain(uuid, &k, &err), 0);
	return k;
}

static struct codec_layer_key *layer_of(const struct codec_keys *k, const uint8_t *with,
					uint32_t epoch, const char *disk, uint32_t layer)
{
	struct codec_layer_key *lk = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(codec_layer_key_new(k, with, epoch, disk, layer, &lk, &err), 0);
	return lk;
}

/* The derivation in livepoint-repository(5), written a second time. */
static void derive(unsigned which, uint8_t out[KEY_LEN])
{
	uint8_t info[64] = "livepoint layer 1";
	size_t n = strlen((char *)info), len = KEY_LEN;
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, NULL);

	memcpy(info + n, uuid, UUID_LEN);
	n += UUID_LEN;
	memcpy(info + n, "\2\0\0\0\7\0\0", 8);
	n += 8;
	info[n++] = (uint8_t)which;
	memcpy(info + n, "vda", 3);
	n += 3;
	assert_true(EVP_PKEY_derive_init(c) > 0 && EVP_PKEY_CTX_set_hkdf_md(c, EVP_sha256()) > 0);
	assert_true(EVP_PKEY_CTX_set1_hkdf_key(c, raw + KEY_LEN, KEY_LEN) > 0);
	assert_true(EVP_PKEY_CTX_set1_hkdf_salt(c, salt, SALT_LEN) > 0);
	assert_true(EVP_PKEY_CTX_add1_hkdf_info(c, info, (int)n) > 0);
	assert_true(EVP_PKEY_derive(c, out, &len) > 0);
	EVP_PKEY_CTX_free(c);
}

static void test_as_the_page_says(void **state)
{
	cleanup_ptr(codec_keys) k = keys_of(1);
	cleanup_ptr(codec_layer_key) lk = layer_of(k, salt, 2, "vda", 7);
	cleanup_ptr(codec_layer_ctx) c = NULL;
	EVP_CIPHER_CTX *ours = EVP_CIPHER_CTX_new();
	uint8_t plain[3 * CODEC_UNIT], made[3 * CODEC_UNIT], expected[3 * CODEC_UNIT];
	uint8_t key[3 * KEY_LEN], mac[ID_LEN], expected_mac[ID_LEN];
	struct err err = ERR_INIT;
	int len;

	(void)state;
	for (size_t i = 0; i < sizeof(plain); i++)
		plain[i] = (uint8_t)(i * 7 + i / 256);
	for (unsigned i = 0; i < 3; i++)
		derive(i + 1, key + (size_t)i * KEY_LEN);
	for (unsigned i = 0; i < 3; i++) {
		uint8_t tweak[16] = { 0 };

		put_le64(tweak, UINT64_C(0x0102030405) + i);
		assert_true(EVP_EncryptInit_ex(ours, EVP_aes_256_xts(), NULL, key, tweak));
		assert_true(EVP_EncryptUpdate(ours, expected + (size_t)i * CODEC_UNIT, &len,
					      plain + (size_t)i * CODEC_UNIT, CODEC_UNIT));
	}
	EVP_CIPHER_CTX_free(ours);
	assert_int_equal(codec_layer_ctx_new(lk, &c, &err), 0);
	assert_int_equal(codec_layer_encrypt(c, made, plain, sizeof(plain), UINT64_C(0x0102030405),
					     &err),
			 0);
	assert_memory_equal(made, expected, sizeof(made));
	/* units on their own, in another order, in place */
	for (unsigned i = 3; i-- > 0;)
		assert_int_equal(codec_layer_decrypt(c, made + (size_t)i * CODEC_UNIT,
						     made + (size_t)i * CODEC_UNIT, CODEC_UNIT,
						     UINT64_C(0x0102030405) + i, &err),
				 0);
	assert_memory_equal(made, plain, sizeof(made));
	assert_int_equal(codec_layer_mac(lk, plain, 100, mac, &err), 0);
	EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, key + 2 * KEY_LEN, KEY_LEN, plain, 100,
		  expected_mac, sizeof(expected_mac), NULL);
	assert_memory_equal(mac, expected_mac, ID_LEN);
}

/* Another overlay, epoch, disk or layer: other keys. */
static void test_keys_apart(void **state)
{
	static const uint8_t other_salt[SALT_LEN] = "another";
	cleanup_ptr(codec_keys) k = keys_of(1);
	struct codec_layer_key *lks[] = {
		layer_of(k, salt, 1, "vda", 1),	 layer_of(k, other_salt, 1, "vda", 1),
		layer_of(k, salt, 2, "vda", 1),	 layer_of(k, salt, 1, "vdb", 1),
		layer_of(k, salt, 1, "vda", 2),	 layer_of(k, salt, 1, "vda1", 1),
		layer_of(k, salt, 1, "vda", 256)
	};
	uint8_t data[ARRAY_SIZE(lks)][CODEC_UNIT] = { 0 }, macs[ARRAY_SIZE(lks)][ID_LEN];
	struct err err = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lks); i++) {
		cleanup_ptr(codec_layer_ctx) c = NULL;

		assert_true(codec_layer_key_encrypts(lks[i]));
		assert_int_equal(codec_layer_ctx_new(lks[i], &c, &err), 0);
		assert_int_equal(codec_layer_mac(lks[i], "x", 1, macs[i], &err), 0);
		assert_int_equal(codec_layer_encrypt(c, data[i], data[i], CODEC_UNIT, 0, &err), 0);
		for (size_t j = 0; j < i; j++) {
			assert_memory_not_equal(macs[i], macs[j], ID_LEN);
			assert_memory_not_equal(data[i], data[j], CODEC_UNIT);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(lks); i++)
		codec_layer_key_free(lks[i]);
}

static void test_plain(void **state)
{
	static const uint8_t none[SALT_LEN];
	cleanup_ptr(codec_keys) k = keys_of(0);
	cleanup_ptr(codec_layer_key) lk = layer_of(k, none, 0, "vda", 1);
	uint8_t mac[ID_LEN];
	struct err err = ERR_INIT;

	(void)state;
	assert_false(codec_layer_key_encrypts(lk));
	memset(mac, 1, sizeof(mac));
	assert_int_equal(codec_layer_mac(lk, "x", 1, mac, &err), 0);
	assert_true(mem_is_zero(mac, ID_LEN));
}

static void test_refused(void **state)
{
	static const uint8_t none[SALT_LEN];
	cleanup_ptr(codec_keys) k = keys_of(1);
	cleanup_ptr(codec_keys) plain = keys_of(0);
	struct codec_layer_key *lk = NULL;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(codec_layer_key_new(k, salt, 0, "vda", 1, &lk, &err), ERR_DAMAGED);
	assert_int_equal(codec_layer_key_new(k, salt, 3, "vda", 1, &lk, &err), ERR_KEY);
	assert_int_equal(codec_layer_key_new(plain, none, 1, "vda", 1, &lk, &err), ERR_DAMAGED);
	assert_int_equal(codec_layer_key_new(plain, salt, 0, "vda", 1, &lk, &err), ERR_DAMAGED);
	assert_null(lk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_as_the_page_says),
		cmocka_unit_test(test_keys_apart),
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
