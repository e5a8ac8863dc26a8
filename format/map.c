/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Upper part of the block map: references, pages, the root, and how many of each a disk needs.
 *
 * Invariants:
 *  1. A reference is empty as a whole or not at all.
 *  2. A page with nothing in it does not exist; a root has exactly the pages of its size.
 */
#include <inttypes.h>

#include "format/internal.h"

#include "base/banned.h"

static const uint8_t page_magic[4] = "LPPG";
static const uint8_t root_magic[4] = "LPRT";
#define PAGE_HEADER_LEN 8
#define ROOT_HEADER_LEN 24
_Static_assert(PAGE_HEADER_LEN + PAGE_LEAVES * REF_LEN <= PAGE_BYTES_MAX,
	       "a full page fits its bound");
_Static_assert(ROOT_HEADER_LEN + ROOT_PAGES_MAX * REF_LEN <= PAGE_BYTES_MAX,
	       "a full root fits its bound");

void ref_encode(struct buf *out, const struct object_ref *ref)
{
	buf_put_le64(out, ref->locator);
	buf_put(out, ref->id, ID_LEN);
}

static bool ref_valid(const struct object_ref *ref)
{
	return ref->locator == LOCATOR_NONE ? mem_is_zero(ref->id, ID_LEN) :
					      locator_run_valid(ref->locator, 1);
}

void ref_decode(struct cursor *c, struct object_ref *ref)
{
	ref->locator = cursor_le64(c);
	cursor_get(c, ref->id, ID_LEN);
	if (!c->failed && !ref_valid(ref))
		c->failed = true;
}

bool chunk_size_valid(uint32_t chunk_size)
{
	return chunk_size >= CHUNK_SIZE_MIN && chunk_size <= CHUNK_SIZE_MAX &&
	       (chunk_size & (chunk_size - 1)) == 0;
}

bool map_geometry(uint64_t size, uint32_t chunk_size, uint64_t *chunks, uint64_t *leaves,
		  uint32_t *pages)
{
	if (chunk_size == 0)
		return false;
	uint64_t c = div_round_up(size, chunk_size);
	uint64_t l = div_round_up(c, LEAF_CHUNKS);
	uint64_t p = div_round_up(l, PAGE_LEAVES);
	if (p > ROOT_PAGES_MAX)
		return false;
	*chunks = c;
	*leaves = l;
	*pages = (uint32_t)p;
	return true;
}

static int refs_check(const struct object_ref *refs, unsigned count, bool *any, struct err *err)
{
	*any = false;
	for (unsigned i = 0; i < count; i++) {
		if (!ref_valid(&refs[i]))
			return err_set(err, ERR_INTERNAL, "reference %u is invalid", i);
		*any |= refs[i].locator != LOCATOR_NONE;
	}
	return 0;
}

int page_encode(const struct object_ref *leaves, unsigned count, struct buf *out, struct err *err)
{
	bool any;
	if (count < 1 || count > PAGE_LEAVES)
		return err_set(err, ERR_INTERNAL, "page of %u leaves", count);
	int r = refs_check(leaves, count, &any, err);
	if (r < 0)
		return r;
	if (!any)
		return err_set(err, ERR_INTERNAL, "page of holes only");
	buf_put(out, page_magic, 4);
	buf_put_le16(out, FORMAT_VERSION);
	buf_put_le16(out, (uint16_t)count);
	for (unsigned i = 0; i < count; i++)
		ref_encode(out, &leaves[i]);
	return out->failed ? err_nomem(err, "a page of the block map") : 0;
}

int page_decode(const void *p, size_t n, struct page **out, struct err *err)
{
	const uint8_t *in = p;
	if (n < PAGE_HEADER_LEN || n > PAGE_BYTES_MAX || memcmp(in, page_magic, 4) != 0)
		return err_set(err, ERR_DAMAGED, "not a page of the block map (%zu bytes)", n);
	if (get_le16(in + 4) != FORMAT_VERSION)
		return err_set(err, ERR_UNSUPPORTED, "page of version %u", get_le16(in + 4));
	unsigned count = get_le16(in + 6);
	if (count < 1 || count > PAGE_LEAVES || n != PAGE_HEADER_LEN + (size_t)count * REF_LEN)
		return err_set(err, ERR_DAMAGED, "page of %u leaves in %zu bytes", count, n);
	cleanup_free struct page *page = mem_alloc(sizeof(*page) + count * sizeof(page->leaves[0]));
	if (!page)
		return err_nomem(err, "a page of the block map");
	page->count = (uint16_t)count;
	struct cursor c = cursor_of(in + PAGE_HEADER_LEN, n - PAGE_HEADER_LEN);
	bool any = false;
	for (unsigned i = 0; i < count; i++) {
		ref_decode(&c, &page->leaves[i]);
		if (c.failed)
			return err_set(err, ERR_DAMAGED, "reference %u of the page is invalid", i);
		any |= page->leaves[i].locator != LOCATOR_NONE;
	}
	if (!any)
		return err_set(err, ERR_DAMAGED, "page of holes only");
	*out = steal_ptr(page);
	return 0;
}

/* Of everything but the references. */
static const char *root_wrong(uint64_t size, uint32_t chunk_size, uint32_t leaf_chunks,
			      unsigned count)
{
	uint64_t chunks, leaves;
	uint32_t pages;
	if (size % 512 != 0)
		return "size is not a multiple of 512";
	if (!chunk_size_valid(chunk_size))
		return "chunk size out of range";
	if (leaf_chunks != LEAF_CHUNKS)
		return "leaf size out of range";
	if (!map_geometry(size, chunk_size, &chunks, &leaves, &pages))
		return "too big";
	if (count != pages)
		return "number of pages does not fit the size";
	return NULL;
}

int root_encode(const struct root *root, struct buf *out, struct err *err)
{
	bool any;
	const char *wrong =
		root_wrong(root->size, root->chunk_size, root->leaf_chunks, root->count);
	if (wrong)
		return err_set(err, ERR_INTERNAL, "root of a disk of %" PRIu64 " bytes: %s",
			       root->size, wrong);
	int r = refs_check(root->pages, root->count, &any, err);
	if (r < 0)
		return r;
	buf_put(out, root_magic, 4);
	buf_put_le16(out, FORMAT_VERSION);
	buf_put_le16(out, root->count);
	buf_put_le64(out, root->size);
	buf_put_le32(out, root->chunk_size);
	buf_put_le32(out, root->leaf_chunks);
	for (unsigned i = 0; i < root->count; i++)
		ref_encode(out, &root->pages[i]);
	return out->failed ? err_nomem(err, "a root of the block map") : 0;
}

int root_decode(const void *p, size_t n, struct root **out, struct err *err)
{
	const uint8_t *in = p;
	if (n < ROOT_HEADER_LEN || n > PAGE_BYTES_MAX || memcmp(in, root_magic, 4) != 0)
		return err_set(err, ERR_DAMAGED, "not a root of the block map (%zu bytes)", n);
	if (get_le16(in + 4) != FORMAT_VERSION)
		return err_set(err, ERR_UNSUPPORTED, "root of version %u", get_le16(in + 4));
	unsigned count = get_le16(in + 6);
	uint64_t size = get_le64(in + 8);
	const char *wrong = root_wrong(size, get_le32(in + 16), get_le32(in + 20), count);
	if (!wrong && n != ROOT_HEADER_LEN + (size_t)count * REF_LEN)
		wrong = "number of pages does not fit the length";
	if (wrong)
		return err_set(err, ERR_DAMAGED, "root of a disk of %" PRIu64 " bytes: %s", size,
			       wrong);
	cleanup_free struct root *root = mem_alloc(sizeof(*root) + count * sizeof(root->pages[0]));
	if (!root)
		return err_nomem(err, "a root of the block map");
	root->size = size;
	root->chunk_size = get_le32(in + 16);
	root->leaf_chunks = get_le32(in + 20);
	root->count = (uint16_t)count;
	struct cursor c = cursor_of(in + ROOT_HEADER_LEN, n - ROOT_HEADER_LEN);
	for (unsigned i = 0; i < count; i++) {
		ref_decode(&c, &root->pages[i]);
		if (c.failed)
			return err_set(err, ERR_DAMAGED, "reference %u of the root is invalid", i);
	}
	*out = steal_ptr(root);
	return 0;
}
