// SPDX-License-Identifier: GPL-3.0-or-later
/* Sealing and opening records: round trips of both suites, and everything that must be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/codec-samples.h"

#include "base/banned.h"

#define LEN 5000

static const uint8_t uuid[UUID_LEN] = "0123456789abcdef", other_uuid[UUID_LEN] = "0123456789abcdeF";
static uint8_t plain[LEN], packed[LEN], stored[LEN + TAG_MAX], back[LEN];

struct fixture {
	struct codec_keys *keys, *other_keys;
	struct codec_ctx *ctx, *other_ctx;
	struct codec_pack_key *pk, *other_pk;
	uint8_t salt[SALT_LEN], other_salt[SALT_LEN];
};

static int setup_suite(void **state, unsigned suite)
{
	struct fixture *f = calloc(1, sizeof(*f));
	uint8_t key[KEY_LEN] = { 1, 2, 3 };
	*state = f;
	if (!f)
		return -1;
	if (suite) {
		memset(f->salt, 1, SALT_LEN);
		memset(f->other_salt, 2, SALT_LEN);
	}
	/* the same repository key under another uuid */
	int r = suite ? codec_keys_import(suite, uuid, key, KEY_LEN, &f->keys, NULL) :
			codec_keys_plain(uuid, &f->keys, NULL);
	r |= suite ? codec_keys_import(suite, other_uuid, key, KEY_LEN, &f->other_keys, NULL) :
		     codec_keys_plain(other_uuid, &f->other_keys, NULL);
	r |= codec_ctx_new(f->keys, &f->ctx, NULL);
	r |= codec_ctx_new(f->other_keys, &f->other_ctx, NULL);
	r |= codec_pack_key_new(f->keys, f->salt, codec_keys_epoch(f->keys), 1, &f->pk, NULL);
	r |= codec_pack_key_new(f->keys, f->other_salt, codec_keys_epoch(f->keys), 1, &f->other_pk,
				NULL);
	return r;
}

static int setup_plain(void **state)
{
	return setup_suite(state, 0);
}

static int setup_gcm(void **state)
{
	return setup_suite(state, 1);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	codec_pack_key_free(f->pk);
	codec_pack_key_free(f->other_pk);
	codec_ctx_free(f->ctx);
	codec_ctx_free(f->other_ctx);
	codec_keys_free(f->keys);
	codec_keys_free(f->other_keys);
	free(f);
	return 0;
}

/* Seals n bytes of plain into stored, compressed if level and data say so. */
static void seal(struct fixture *f, const struct codec_pack_key *pk, uint32_t slot, int level,
		 size_t n, struct record_header *h)
{
	enum object_codec codec;
	struct err err = ERR_INIT;
	size_t len;
	assert_int_equal(codec_compress(f->ctx, level, plain, n, packed, n, &codec, &len, &err), 0);
	*h = (struct record_header){ .type = OBJECT_BLOB,
				     .codec = (uint8_t)codec,
				     .level = (int8_t)(codec == CODEC_RAW ? 0 : level),
				     .slot = slot,
				     .plain_len = (uint32_t)n,
				     .xxh3 = check_xxh3(plain, n) };
	assert_int_equal(codec_id(f->ctx, plain, n, h->id, &err), 0);
	const void *payload = codec == CODEC_RAW ? plain : packed;
	assert_int_equal(codec_seal_record(f->ctx, pk, h, payload, len, stored, &err), 0);
	assert_int_equal(h->stored_len, len + codec_overhead(f->keys));
}

static int open_record(struct fixture *f, const struct record_header *h)
{
	memset(back, 0xee, sizeof(back));
	return codec_open_record(f->ctx, f->pk, h, stored, back, NULL);
}

static void test_round_trips(void **state)
{
	struct fixture *f = *state;
	static const size_t sizes[] = { 1, 2, 15, 16, 17, 100, 4096, LEN };
	for (int kind = 0; kind < SAMPLE_KINDS; kind++)
		for (size_t s = 0; s < ARRAY_SIZE(sizes); s++)
			for (int level = 0; level < 2; level++) {
				/* two keys by turns: the cached schedule must follow */
				const struct codec_pack_key *pk = s % 3 == 2 ? f->other_pk : f->pk;
				struct record_header h, decoded;
				uint8_t raw[RECORD_HEADER_LEN];
				sample_fill(kind, plain, sizes[s]);
				seal(f, pk, (uint32_t)(s * 9000), level, sizes[s], &h);
				record_header_encode(&h, raw);
				assert_int_equal(record_header_decode(raw, &decoded, NULL), 0);
				assert_int_equal(codec_open_record(f->ctx, pk, &decoded, stored,
								   back, NULL),
						 0);
				assert_memory_equal(back, plain, sizes[s]);
			}
}

static void test_wrong_key_is_refused(void **state)
{
	struct fixture *f = *state;
	struct record_header h;
	sample_fill(SAMPLE_TEXT, plain, LEN);
	for (int level = 0; level < 2; level++) {
		seal(f, f->pk, 3, level, LEN, &h);
		assert_int_equal(open_record(f, &h), 0);
		assert_int_equal(codec_open_record(f->ctx, f->other_pk, &h, stored, back, NULL),
				 ERR_DAMAGED);
		/* the right subkey, but another repository's uuid in the associated data */
		assert_int_equal(codec_open_record(f->other_ctx, f->pk, &h, stored, back, NULL),
				 ERR_DAMAGED);
		assert_int_equal(open_record(f, &h), 0);
	}
}

static void test_pack_key_of_a_freed_address(void **state)
{
	struct fixture *f = *state;
	struct record_header h;
	sample_fill(SAMPLE_TEXT, plain, LEN);
	for (unsigned i = 0; i < 50; i++) {
		struct codec_pack_key *pk = NULL;
		uint8_t salt[SALT_LEN] = { (uint8_t)i };
		assert_int_equal(codec_pack_key_new(f->keys, salt, 1, 1, &pk, NULL), 0);
		seal(f, pk, i, 0, 100, &h);
		codec_pack_key_free(pk);
		assert_int_equal(open_record(f, &h), ERR_DAMAGED);
	}
}

/* Each field of the header, payload and tag, bit by bit. */
static void test_every_bit_counts(void **state)
{
	struct fixture *f = *state;
	struct record_header h, changed;
	uint8_t raw[RECORD_HEADER_LEN];
	for (int level = 0; level < 2; level++) {
		sample_fill(SAMPLE_TEXT, plain, 300);
		seal(f, f->pk, 5, level, 300, &h);
		for (size_t bit = 0; bit < 8 * h.stored_len; bit++) {
			stored[bit / 8] ^= (uint8_t)(1 << bit % 8);
			assert_int_equal(open_record(f, &h), ERR_DAMAGED);
			assert_memory_not_equal(back, plain, 300);
			stored[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		for (size_t bit = 8 * 5; bit < 8 * 88; bit++) {
			record_header_encode(&h, raw);
			raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
			put_le32(raw + 92, check_crc32c(raw, 92));
			if (record_header_decode(raw, &changed, NULL) == 0)
				assert_int_equal(open_record(f, &changed), ERR_DAMAGED);
		}
		assert_int_equal(open_record(f, &h), 0);
	}
}

static void test_fields_are_refused(void **state)
{
	struct fixture *f = *state;
	struct record_header h, good;
	sample_fill(SAMPLE_TEXT, plain, 300);
	seal(f, f->pk, 5, 0, 300, &good);
	h = good;
	h.slot = 6;
	assert_int_equal(open_record(f, &h), codec_keys_suite(f->keys)->keyed ? ERR_DAMAGED : 0);
	h = good;
	h.epoch++;
	assert_int_equal(open_record(f, &h), ERR_DAMAGED);
	h = good;
	h.nonce[NONCE_MAX - 1] = 1;
	assert_int_equal(open_record(f, &h), ERR_DAMAGED);
	h = good;
	h.xxh3 ^= 1;
	assert_int_equal(open_record(f, &h), ERR_DAMAGED);
	h = good;
	h.plain_len = 299;
	assert_int_equal(open_record(f, &h), ERR_DAMAGED);
	h.plain_len = OBJECT_PLAIN_MAX + 1;
	h.stored_len = h.plain_len + codec_overhead(f->keys);
	assert_int_equal(open_record(f, &h), ERR_DAMAGED);
	h = good;
	h.codec = CODEC_ZSTD;
	assert_int_equal(open_record(f, &h), ERR_DAMAGED);
	h.codec = 2;
	assert_int_equal(open_record(f, &h), ERR_DAMAGED);
}

static void test_seal_refuses(void **state)
{
	struct fixture *f = *state;
	struct record_header h = { .type = OBJECT_CHUNK, .plain_len = 100 };
	assert_int_equal(codec_seal_record(f->ctx, f->pk, &h, plain, 99, stored, NULL),
			 ERR_INTERNAL);
	h.codec = CODEC_ZSTD;
	assert_int_equal(codec_seal_record(f->ctx, f->pk, &h, plain, 100, stored, NULL),
			 ERR_INTERNAL);
	assert_int_equal(codec_seal_record(f->ctx, f->pk, &h, plain, 0, stored, NULL),
			 ERR_INTERNAL);
	h.slot = SLOT_MAX_COUNT;
	assert_int_equal(codec_seal_record(f->ctx, f->pk, &h, plain, 50, stored, NULL),
			 ERR_INTERNAL);
	assert_int_equal(h.stored_len, 0);
}

static void test_nonces_differ(void **state)
{
	struct fixture *f = *state;
	struct record_header a, b;
	sample_fill(SAMPLE_TEXT, plain, 64);
	seal(f, f->pk, 5, 0, 64, &a);
	uint8_t first[64 + TAG_MAX];
	memcpy(first, stored, sizeof(first));
	seal(f, f->pk, 5, 0, 64, &b);
	assert_memory_equal(a.nonce, b.nonce, 4);
	assert_int_equal(get_le32(a.nonce), 5);
	assert_memory_not_equal(a.nonce + 4, b.nonce + 4, 8);
	assert_memory_not_equal(first, stored, sizeof(first));
	assert_int_equal(a.xxh3, 0);
	assert_true(mem_is_zero(a.nonce + 12, NONCE_MAX - 12));
}

static void test_pack_key_must_fit_the_suite(void **state)
{
	struct fixture *f = *state;
	struct codec_pack_key *pk = NULL;
	bool keyed = codec_keys_suite(f->keys)->keyed;
	uint8_t salt[SALT_LEN] = { 1 };
	assert_int_equal(codec_pack_key_new(f->keys, salt, keyed ? 0 : 1, 1, &pk, NULL),
			 ERR_DAMAGED);
	assert_int_equal(codec_pack_key_new(f->keys, salt, 0, 1, &pk, NULL), ERR_DAMAGED);
	assert_null(pk);
}

static void test_allocation_failures(void **state)
{
	struct fixture *f = *state;
	struct record_header h;
	sample_fill(SAMPLE_TEXT, plain, LEN);
	seal(f, f->pk, 5, 1, LEN, &h);
	cleanup_ptr(codec_ctx) ctx = NULL;
	assert_int_equal(codec_ctx_new(f->keys, &ctx, NULL), 0);
	int r = ERR_NOMEM;
	for (unsigned n = 1; r == ERR_NOMEM && n < 50; n++) {
		mem_fail_after(n);
		r = codec_open_record(ctx, f->pk, &h, stored, back, NULL);
		mem_fail_after(0);
		assert_true(n > 1 || r == ERR_NOMEM);
	}
	assert_int_equal(r, 0);
	assert_memory_equal(back, plain, LEN);
}

int main(void)
{
#define BOTH(test)                                                                                 \
	cmocka_unit_test_setup_teardown(test, setup_plain, teardown),                              \
		cmocka_unit_test_setup_teardown(test, setup_gcm, teardown)
	const struct CMUnitTest tests[] = {
		BOTH(test_round_trips),
		BOTH(test_fields_are_refused),
		BOTH(test_seal_refuses),
		BOTH(test_pack_key_must_fit_the_suite),
		cmocka_unit_test_setup_teardown(test_wrong_key_is_refused, setup_gcm, teardown),
		cmocka_unit_test_setup_teardown(test_pack_key_of_a_freed_address, setup_gcm,
						teardown),
		cmocka_unit_test_setup_teardown(test_every_bit_counts, setup_gcm, teardown),
		cmocka_unit_test_setup_teardown(test_nonces_differ, setup_gcm, teardown),
		cmocka_unit_test_setup_teardown(test_allocation_failures, setup_gcm, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
