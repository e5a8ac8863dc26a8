// SPDX-License-Identifier: GPL-3.0-or-later
/* Block map: references, leaves, pages, roots, geometry; only the canonical encoding is taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/format-samples.h"

#include "base/banned.h"

static void test_references(void **state)
{
	const struct {
		uint64_t locator;
		uint8_t id;
		bool good;
	} cases[] = {
		{ 0, 0, true },
		{ 0, 1, false },
		{ locator_make(1, 0), 1, true },
		{ locator_make(1, 0), 0, true }, /* an id of zeroes is as likely as any */
		{ locator_make(0, 1), 1, false },
		{ locator_make(1, SLOT_MAX_COUNT - 1), 1, true },
		{ locator_make(1, SLOT_MAX_COUNT), 1, false },
		{ locator_make(PACK_NUMBER_MAX, 5), 1, true },
		{ LOCATOR_UNREADABLE, 1, false },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		cleanup_buf struct buf b = BUF_INIT;
		struct object_ref ref = { .locator = cases[i].locator, .id = { cases[i].id } },
				  back;
		ref_encode(&b, &ref);
		assert_int_equal(b.len, REF_LEN);
		struct cursor c = cursor_of(b.data, b.len);
		ref_decode(&c, &back);
		assert_int_equal(c.failed, !cases[i].good);
		if (cases[i].good)
			assert_true(back.locator == ref.locator &&
				    memcmp(back.id, ref.id, ID_LEN) == 0);
		c = cursor_of(b.data, b.len - 1);
		ref_decode(&c, &back);
		assert_true(c.failed);
	}
	assert_int_equal(locator_pack(locator_make(PACK_NUMBER_MAX, 65535)), PACK_NUMBER_MAX);
	assert_int_equal(locator_slot(locator_make(PACK_NUMBER_MAX, 65535)), 65535);
}

static void check_lookup(const struct leaf *leaf, const uint64_t *locators, unsigned chunks)
{
	for (unsigned i = 0; i < chunks; i++) {
		unsigned left = 0, expected = 1;
		bool data = locators[i] != LOCATOR_NONE && locators[i] != LOCATOR_UNREADABLE;
		assert_true(leaf_lookup(leaf, i, &left) == locators[i]);
		while (i + expected < chunks &&
		       locators[i + expected] == locators[i] + (data ? expected : 0))
			expected++;
		assert_int_equal(left, expected);
	}
}

static void test_leaf_round_trips(void **state)
{
	struct sample_source s = { 1 };
	uint64_t locators[LEAF_CHUNKS];
	uint8_t digest[ID_LEN];
	(void)state;
	for (int i = 0; i < 1000; i++) {
		cleanup_buf struct buf out = BUF_INIT;
		cleanup_free struct leaf *leaf = NULL;
		unsigned chunks = 1 + (unsigned)sample_below(&s, i % 2 ? LEAF_CHUNKS : 20);
		sample_locators(&s, locators, chunks);
		sample_bytes(&s, digest, sizeof(digest));
		assert_int_equal(leaf_encode(locators, chunks, digest, &out, NULL), 0);
		assert_true(out.len <= LEAF_BYTES_MAX);
		assert_int_equal(leaf_decode(out.data, out.len, &leaf, NULL), 0);
		assert_int_equal(leaf->chunks, chunks);
		assert_memory_equal(leaf->digest, digest, ID_LEN);
		assert_int_equal(leaf_size(leaf), sizeof(*leaf) + leaf->nruns * sizeof(struct run));
		check_lookup(leaf, locators, chunks);
	}
}

/* Scattered chunks take the most bytes. */
static void test_largest_leaf(void **state)
{
	uint64_t locators[LEAF_CHUNKS];
	uint8_t digest[ID_LEN] = { 0 };
	cleanup_buf struct buf out = BUF_INIT;
	cleanup_free struct leaf *leaf = NULL;
	(void)state;
	for (unsigned i = 0; i < LEAF_CHUNKS; i++)
		locators[i] = locator_make(i % 2 ? (uint64_t)1 << 38 : 3 * ((uint64_t)1 << 38), i);
	assert_int_equal(leaf_encode(locators, LEAF_CHUNKS, digest, &out, NULL), 0);
	assert_true(out.len > 10000 && out.len <= LEAF_BYTES_MAX);
	assert_int_equal(leaf_decode(out.data, out.len, &leaf, NULL), 0);
	assert_int_equal(leaf->nruns, LEAF_CHUNKS);
	check_lookup(leaf, locators, LEAF_CHUNKS);
}

static void test_leaf_is_small_when_orderly(void **state)
{
	uint64_t locators[LEAF_CHUNKS];
	uint8_t digest[ID_LEN] = { 0 };
	cleanup_buf struct buf out = BUF_INIT;
	(void)state;
	for (unsigned i = 0; i < LEAF_CHUNKS; i++)
		locators[i] = locator_make(1, i);
	assert_int_equal(leaf_encode(locators, LEAF_CHUNKS, digest, &out, NULL), 0);
	/* header; 1024 << 2 | 1 in 2 bytes; zigzag(1 << 24) in 4 */
	assert_int_equal(out.len, 40 + 2 + 4);
	assert_memory_equal(out.data + 40, "\x81\x20\x80\x80\x80\x10", 6);
}

/* Body of runs behind a header of `chunks`. */
static int leaf_of(unsigned chunks, const char *body, size_t n)
{
	cleanup_buf struct buf b = BUF_INIT;
	cleanup_free struct leaf *leaf = NULL;
	buf_put(&b, "LPLF\1\0", 6);
	buf_put_le16(&b, (uint16_t)chunks);
	buf_put_zero(&b, ID_LEN);
	buf_put(&b, body, n);
	int r = leaf_decode(b.data, b.len, &leaf, NULL);
	assert_true((r == 0) == (leaf != NULL));
	return r;
}
#define LEAF(chunks, body) leaf_of(chunks, body, sizeof(body) - 1)
#define PACK1 "\x80\x80\x80\x10" /* varint(zigzag(pack 1 slot 0)) */

static void test_leaf_only_canonical(void **state)
{
	(void)state;
	assert_int_equal(LEAF(1, "\x05" PACK1), 0);
	assert_int_equal(LEAF(2, "\x05" PACK1), ERR_DAMAGED); /* too short */
	assert_int_equal(LEAF(1, "\x09" PACK1), ERR_DAMAGED); /* too long */
	assert_int_equal(LEAF(1, "\x05" PACK1 "\x04"), ERR_DAMAGED); /* more behind */
	assert_int_equal(LEAF(1, "\x05" PACK1 "\x00"), ERR_DAMAGED);
	assert_int_equal(LEAF(1, "\x01" PACK1 "\x05" PACK1), ERR_DAMAGED); /* a run of none */
	assert_int_equal(LEAF(1, "\x07" PACK1), ERR_DAMAGED); /* kind 3 */
	assert_int_equal(LEAF(1, "\x85\x00" PACK1), ERR_DAMAGED); /* varint not minimal */
	assert_int_equal(LEAF(1, "\x05\x80\x80\x80\x90\x00"), ERR_DAMAGED);
	assert_int_equal(LEAF(1, "\x04"), ERR_DAMAGED); /* holes only */
	assert_int_equal(LEAF(1, "\x06"), 0); /* unreadable only */
	assert_int_equal(LEAF(2, "\x04\x05" PACK1), 0);
	assert_int_equal(LEAF(3, "\x04\x04\x05" PACK1), ERR_DAMAGED); /* two runs of holes */
	assert_int_equal(LEAF(2, "\x06\x06"), ERR_DAMAGED);
	assert_int_equal(LEAF(2, "\x05" PACK1 "\x05\x00"),
			 ERR_DAMAGED); /* goes on where the one before ends */
	assert_int_equal(LEAF(2, "\x05" PACK1 "\x05\x02"), 0);
	assert_int_equal(LEAF(3, "\x05" PACK1 "\x04\x05\x00"), 0); /* a hole between */
	assert_int_equal(LEAF(2, "\x05" PACK1 "\x05\x01"), 0); /* the same chunk twice */
	assert_int_equal(LEAF(1, "\x05\x02"), ERR_DAMAGED); /* pack 0 */
	assert_int_equal(LEAF(1, "\x05\x00"), ERR_DAMAGED); /* locator none */
	assert_int_equal(LEAF(1, "\x05\x01"), ERR_DAMAGED); /* -1 = unreadable */
	/* pack 1, slots 65535 and 65536: zigzag is twice of 1 << 24 | 65535 */
	assert_int_equal(LEAF(1, "\x05\xfe\xff\x87\x10"), 0);
	assert_int_equal(LEAF(2, "\x09\xfe\xff\x87\x10"), ERR_DAMAGED);
	assert_int_equal(LEAF(1, "\x05\x80\x80\x88\x10"), ERR_DAMAGED);
	assert_int_equal(LEAF(0, ""), ERR_DAMAGED);
	assert_int_equal(LEAF(1025, "\x85\x20" PACK1), ERR_DAMAGED);
	assert_int_equal(LEAF(1024, "\x81\x20" PACK1), 0);
}

static void test_leaf_header(void **state)
{
	uint8_t raw[40 + 1] = "LPLF\1\0\1";
	struct leaf *leaf = NULL;
	(void)state;
	raw[40] = 6;
	assert_int_equal(leaf_decode(raw, sizeof(raw), &leaf, NULL), 0);
	free(leaf);
	raw[4] = 2;
	assert_int_equal(leaf_decode(raw, sizeof(raw), &leaf, NULL), ERR_UNSUPPORTED);
	raw[4] = 1;
	for (size_t n = 0; n < sizeof(raw); n++)
		assert_int_equal(leaf_decode(raw, n, &leaf, NULL), ERR_DAMAGED);
	raw[0] = 'l';
	assert_int_equal(leaf_decode(raw, sizeof(raw), &leaf, NULL), ERR_DAMAGED);
}

static void test_leaf_encoder_refuses(void **state)
{
	uint64_t locators[LEAF_CHUNKS + 1] = { 0 };
	uint8_t digest[ID_LEN] = { 0 };
	cleanup_buf struct buf out = BUF_INIT;
	(void)state;
	assert_int_equal(leaf_encode(locators, 0, digest, &out, NULL), ERR_INTERNAL);
	assert_int_equal(leaf_encode(locators, 5, digest, &out, NULL), ERR_INTERNAL);
	locators[0] = locator_make(1, SLOT_MAX_COUNT);
	assert_int_equal(leaf_encode(locators, 5, digest, &out, NULL), ERR_INTERNAL);
	locators[0] = 5;
	assert_int_equal(leaf_encode(locators, 5, digest, &out, NULL), ERR_INTERNAL);
	locators[0] = locator_make(1, 0);
	assert_int_equal(leaf_encode(locators, LEAF_CHUNKS + 1, digest, &out, NULL), ERR_INTERNAL);
	assert_int_equal(out.len, 0);
}

/* No flipped bit crashes, and what is still taken is again canonical. */
static void test_leaf_every_bit(void **state)
{
	struct sample_source s = { 7 };
	uint64_t locators[LEAF_CHUNKS];
	uint8_t digest[ID_LEN] = { 0 };
	cleanup_buf struct buf out = BUF_INIT;
	(void)state;
	sample_locators(&s, locators, 200);
	assert_int_equal(leaf_encode(locators, 200, digest, &out, NULL), 0);
	for (size_t bit = 0; bit < 8 * out.len; bit++) {
		cleanup_buf struct buf again = BUF_INIT;
		cleanup_free struct leaf *leaf = NULL;
		unsigned left;
		out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		if (leaf_decode(out.data, out.len, &leaf, NULL) == 0) {
			for (unsigned i = 0; i < leaf->chunks; i++)
				locators[i] = leaf_lookup(leaf, i, &left);
			assert_int_equal(
				leaf_encode(locators, leaf->chunks, leaf->digest, &again, NULL), 0);
			assert_int_equal(again.len, out.len);
			assert_memory_equal(again.data, out.data, out.len);
		}
		out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

static void test_pages(void **state)
{
	struct sample_source s = { 8 };
	static struct object_ref refs[PAGE_LEAVES + 1];
	(void)state;
	for (int i = 0; i < 50; i++) {
		cleanup_buf struct buf out = BUF_INIT;
		cleanup_free struct page *page = NULL;
		unsigned count = i ? 1 + (unsigned)sample_below(&s, PAGE_LEAVES) : PAGE_LEAVES;
		memset(refs, 0, sizeof(refs));
		for (unsigned k = 0; k < count; k++)
			if (k == 0 || sample_below(&s, 2))
				refs[k] = sample_ref(&s);
		assert_int_equal(page_encode(refs, count, &out, NULL), 0);
		assert_true(out.len <= PAGE_BYTES_MAX);
		assert_int_equal(page_decode(out.data, out.len, &page, NULL), 0);
		assert_int_equal(page->count, count);
		assert_memory_equal(page->leaves, refs, count * sizeof(refs[0]));
		struct page *none = NULL;
		assert_int_equal(page_decode(out.data, out.len - 1, &none, NULL), ERR_DAMAGED);
		buf_put_u8(&out, 0);
		assert_int_equal(page_decode(out.data, out.len, &none, NULL), ERR_DAMAGED);
		out.data[4] = 2;
		assert_int_equal(page_decode(out.data, out.len - 1, &none, NULL), ERR_UNSUPPORTED);
		assert_null(none);
	}
	cleanup_buf struct buf out = BUF_INIT;
	assert_int_equal(page_encode(refs, 0, &out, NULL), ERR_INTERNAL);
	assert_int_equal(page_encode(refs, PAGE_LEAVES + 1, &out, NULL), ERR_INTERNAL);
	memset(refs, 0, sizeof(refs));
	assert_int_equal(page_encode(refs, 5, &out, NULL), ERR_INTERNAL);
	refs[1].id[0] = 1;
	refs[0].locator = locator_make(1, 1);
	assert_int_equal(page_encode(refs, 5, &out, NULL), ERR_INTERNAL);
	assert_int_equal(out.len, 0);
	uint8_t empty[8 + REF_LEN] = "LPPG\1\0\1";
	struct page *none = NULL;
	assert_int_equal(page_decode(empty, sizeof(empty), &none, NULL), ERR_DAMAGED);
}

static struct root *root_of(uint64_t size, uint32_t chunk_size)
{
	uint64_t chunks, leaves;
	uint32_t pages;
	assert_true(map_geometry(size, chunk_size, &chunks, &leaves, &pages));
	struct root *root = mem_alloc(sizeof(*root) + pages * sizeof(root->pages[0]));
	assert_non_null(root);
	root->size = size;
	root->chunk_size = chunk_size;
	root->leaf_chunks = LEAF_CHUNKS;
	root->count = (uint16_t)pages;
	return root;
}

static void test_roots(void **state)
{
	static const uint64_t sizes[] = { 0,	   512,	    64 * KiB, 64 * GiB, 64 * GiB + 512,
					  1 * TiB, 64 * TiB };
	struct sample_source s = { 9 };
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		cleanup_buf struct buf out = BUF_INIT;
		cleanup_free struct root *root = root_of(sizes[i], CHUNK_SIZE_DEFAULT),
					 *back = NULL;
		struct root *none = NULL;
		for (unsigned k = 0; k < root->count; k++)
			if (sample_below(&s, 2))
				root->pages[k] = sample_ref(&s);
		assert_int_equal(root_encode(root, &out, NULL), 0);
		assert_int_equal(root_decode(out.data, out.len, &back, NULL), 0);
		assert_true(back->size == root->size && back->count == root->count);
		assert_memory_equal(back->pages, root->pages, root->count * sizeof(root->pages[0]));
		out.data[6] ^= 1; /* pages */
		assert_int_equal(root_decode(out.data, out.len, &none, NULL), ERR_DAMAGED);
		out.data[6] ^= 1;
		out.data[8] ^= 1; /* size */
		assert_int_equal(root_decode(out.data, out.len, &none, NULL), ERR_DAMAGED);
		out.data[8] ^= 1;
		out.data[20] ^= 1; /* chunks in a leaf */
		assert_int_equal(root_decode(out.data, out.len, &none, NULL), ERR_DAMAGED);
		out.data[20] ^= 1;
		assert_int_equal(root_decode(out.data, out.len - 1, &none, NULL), ERR_DAMAGED);
		out.data[4] = 9;
		assert_int_equal(root_decode(out.data, out.len, &none, NULL), ERR_UNSUPPORTED);
	}
}

static void test_root_encoder_refuses(void **state)
{
	cleanup_buf struct buf out = BUF_INIT;
	cleanup_free struct root *root = root_of(1 * TiB, CHUNK_SIZE_DEFAULT);
	(void)state;
	root->count--;
	assert_int_equal(root_encode(root, &out, NULL), ERR_INTERNAL);
	root->count++;
	root->size++;
	assert_int_equal(root_encode(root, &out, NULL), ERR_INTERNAL);
	root->size--;
	root->chunk_size = 65535;
	assert_int_equal(root_encode(root, &out, NULL), ERR_INTERNAL);
	root->chunk_size = CHUNK_SIZE_DEFAULT;
	root->leaf_chunks = 5;
	assert_int_equal(root_encode(root, &out, NULL), ERR_INTERNAL);
	root->leaf_chunks = LEAF_CHUNKS;
	root->pages[0].locator = 1;
	assert_int_equal(root_encode(root, &out, NULL), ERR_INTERNAL);
	root->pages[0].locator = 0;
	assert_int_equal(root_encode(root, &out, NULL), 0);
}

static void test_geometry(void **state)
{
	uint64_t chunks = 0, leaves = 0;
	uint32_t pages = 0;
	(void)state;
	assert_true(map_geometry(0, 65536, &chunks, &leaves, &pages));
	assert_true(chunks == 0 && leaves == 0 && pages == 0);
	assert_true(map_geometry(1, 65536, &chunks, &leaves, &pages));
	assert_true(chunks == 1 && leaves == 1 && pages == 1);
	assert_true(map_geometry(64 * MiB + 1, 65536, &chunks, &leaves, &pages));
	assert_true(chunks == 1025 && leaves == 2 && pages == 1);
	assert_true(map_geometry(64 * TiB, 65536, &chunks, &leaves, &pages));
	assert_true(chunks == (uint64_t)1 << 30 && leaves == 1 << 20 && pages == 1024);
	assert_false(map_geometry(64 * TiB + 1, 65536, &chunks, &leaves, &pages));
	assert_false(map_geometry(UINT64_MAX, CHUNK_SIZE_MAX, &chunks, &leaves, &pages));
	assert_false(map_geometry(5, 0, &chunks, &leaves, &pages));
	assert_int_equal(pages, 1024);
	assert_true(map_geometry(1024 * TiB, CHUNK_SIZE_MAX, &chunks, &leaves, &pages));
	assert_true(map_geometry(4 * TiB, CHUNK_SIZE_MIN, &chunks, &leaves, &pages));
	assert_false(map_geometry(4 * TiB + 1, CHUNK_SIZE_MIN, &chunks, &leaves, &pages));
}

static void test_allocation_failures(void **state)
{
	struct sample_source s = { 10 };
	uint64_t locators[LEAF_CHUNKS];
	uint8_t digest[ID_LEN] = { 0 };
	cleanup_free struct root *root = root_of(1 * TiB, CHUNK_SIZE_DEFAULT);
	struct object_ref ref = sample_ref(&s);
	int r = ERR_NOMEM;
	unsigned n = 0;
	(void)state;
	sample_locators(&s, locators, LEAF_CHUNKS);
	while (r == ERR_NOMEM && ++n < 1000) {
		cleanup_buf struct buf out = BUF_INIT, page_out = BUF_INIT, root_out = BUF_INIT;
		cleanup_free struct leaf *leaf = NULL;
		cleanup_free struct page *page = NULL;
		cleanup_free struct root *back = NULL;
		struct err err = ERR_INIT;
		mem_fail_after(n);
		r = leaf_encode(locators, LEAF_CHUNKS, digest, &out, &err);
		if (r == 0)
			r = leaf_decode(out.data, out.len, &leaf, &err);
		if (r == 0)
			r = page_encode(&ref, 1, &page_out, &err);
		if (r == 0)
			r = page_decode(page_out.data, page_out.len, &page, &err);
		if (r == 0)
			r = root_encode(root, &root_out, &err);
		if (r == 0)
			r = root_decode(root_out.data, root_out.len, &back, &err);
		mem_fail_after(0);
	}
	assert_int_equal(r, 0);
	assert_true(n > 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_references),
		cmocka_unit_test(test_leaf_round_trips),
		cmocka_unit_test(test_largest_leaf),
		cmocka_unit_test(test_leaf_is_small_when_orderly),
		cmocka_unit_test(test_leaf_only_canonical),
		cmocka_unit_test(test_leaf_header),
		cmocka_unit_test(test_leaf_encoder_refuses),
		cmocka_unit_test(test_leaf_every_bit),
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_roots),
		cmocka_unit_test(test_root_encoder_refuses),
		cmocka_unit_test(test_geometry),
		cmocka_unit_test(test_allocation_failures),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
