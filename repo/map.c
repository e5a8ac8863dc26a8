/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The block map of a disk: root -> page -> leaf -> locator, each object checked by hash when it is read and then kept
 * in the map cache under its locator.
 *
 * 1. A repository is hostile input: a reference that names a cached object must name its type and id too, for two
 *    references with one locator need not agree about what lies there.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "repo/internal.h"

#include "base/banned.h"

int object_read(struct repo *r, enum object_type type, const struct object_ref *ref, size_t cap,
		uint8_t **out, size_t *len, struct err *err)
{
	cleanup_free uint8_t *bytes = NULL;
	struct store_reader *reader;
	int ret = repo_need_key(r, err);

	if (ret < 0)
		return ret;
	bytes = mem_realloc_array(NULL, cap, 1);
	if (!bytes)
		return err_nomem(err, "object");
	ret = repo_reader_get(r, &reader, err);
	if (ret < 0)
		return ret;
	ret = store_record_read(r->store, reader, ref->locator, type, ref->id, true, bytes, cap,
				len, err);
	repo_reader_put(r, reader);
	if (ret < 0)
		return err_prefix(err, "%s", object_type_name(type));
	*out = steal_ptr(bytes);
	return 0;
}

/* Decodes a leaf or page into memory of its own; *size: of that. */
static int decode(enum object_type type, const uint8_t *bytes, size_t n, void **out, size_t *size,
		  struct err *err)
{
	struct leaf *leaf;
	struct page *page;
	int r;

	if (type == OBJECT_LEAF) {
		r = leaf_decode(bytes, n, &leaf, err);
		if (r < 0)
			return r;
		*out = leaf;
		*size = leaf_size(leaf);
		return 0;
	}
	r = page_decode(bytes, n, &page, err);
	if (r < 0)
		return r;
	*out = page;
	*size = sizeof(*page) + page->count * sizeof(page->leaves[0]);
	return 0;
}

static int load(struct repo *r, enum object_type type, const struct object_ref *ref, void **out,
		size_t *size, struct err *err)
{
	cleanup_free uint8_t *bytes = NULL;
	size_t n;
	int ret = object_read(r, type, ref, type == OBJECT_LEAF ? LEAF_BYTES_MAX : PAGE_BYTES_MAX,
			      &bytes, &n, err);

	if (ret == 0)
		ret = decode(type, bytes, n, out, size, err);
	return ret;
}

/* Is the cached object the one that is meant? */
static int same_object(struct repo *r, struct cache_item *item, enum object_type type,
		       const struct object_ref *ref, struct err *err)
{
	if (item->type == type && memcmp(item->id, ref->id, ID_LEN) == 0)
		return 0;
	cache_put(r->map, item);
	return err_set(err, ERR_DAMAGED, "pack %012" PRIx64 ", slot %" PRIu32 " holds another %s",
		       locator_pack(ref->locator), locator_slot(ref->locator),
		       object_type_name(type));
}

static int object_get(struct repo *r, enum object_type type, const struct object_ref *ref,
		      struct cache_item **out, struct err *err)
{
	bool must_load;
	struct cache_item *item = cache_get(r->map, ref->locator, &must_load);
	void *data = NULL;
	size_t size = 0;
	int ret;

	if (!item)
		return err_nomem(err, "map cache");
	if (!must_load) {
		ret = same_object(r, item, type, ref, err);
		if (ret == 0)
			*out = item;
		return ret;
	}
	ret = load(r, type, ref, &data, &size, err);
	item->type = (uint8_t)type;
	memcpy(item->id, ref->id, ID_LEN);
	cache_loaded(r->map, item, ret < 0 ? NULL : data, size);
	if (ret < 0) {
		cache_put(r->map, item);
		return ret;
	}
	*out = item;
	return 0;
}

unsigned disk_leaf_chunks(const struct repo_disk *d, uint64_t leaf)
{
	return (unsigned)MIN(d->chunks - leaf * LEAF_CHUNKS, LEAF_CHUNKS);
}

int disk_leaf_ref(struct repo_disk *d, uint64_t leaf, struct object_ref *ref, struct err *err)
{
	const struct object_ref *page_ref = &d->root->pages[leaf / PAGE_LEAVES];
	uint64_t leaves = div_round_up(d->chunks, LEAF_CHUNKS);
	struct cache_item *item;
	const struct page *page;
	int r;

	if (page_ref->locator == LOCATOR_NONE) {
		*ref = (struct object_ref){ 0 };
		return 0;
	}
	r = object_get(d->point->repo, OBJECT_PAGE, page_ref, &item, err);
	if (r < 0)
		return r;
	page = item->data;
	if (page->count != MIN(leaves - leaf / PAGE_LEAVES * PAGE_LEAVES, PAGE_LEAVES))
		r = err_set(err, ERR_DAMAGED, "page %" PRIu64 " has %u leaves", leaf / PAGE_LEAVES,
			    page->count);
	else
		*ref = page->leaves[leaf % PAGE_LEAVES];
	cache_put(d->point->repo->map, item);
	return r;
}

int leaf_ref_get(struct repo *r, const struct object_ref *ref, unsigned chunks,
		 struct cache_item **item, const struct leaf **out, struct err *err)
{
	int ret = object_get(r, OBJECT_LEAF, ref, item, err);

	if (ret < 0)
		return ret;
	*out = (*item)->data;
	if ((*out)->chunks != chunks) {
		ret = err_set(err, ERR_DAMAGED, "leaf has %u chunks instead of %u", (*out)->chunks,
			      chunks);
		cache_put(r->map, *item);
		return ret;
	}
	return 0;
}

int disk_leaf_get(struct repo_disk *d, uint64_t leaf, struct cache_item **item,
		  const struct leaf **out, struct err *err)
{
	struct object_ref ref;
	int r = disk_leaf_ref(d, leaf, &ref, err);

	if (r == 0 && ref.locator == LOCATOR_NONE) {
		*item = NULL;
		*out = NULL;
		return 0;
	}
	if (r == 0)
		r = leaf_ref_get(d->point->repo, &ref, disk_leaf_chunks(d, leaf), item, out, err);
	if (r < 0)
		return err_prefix(err, "map of disk '%s', leaf %" PRIu64, d->info->name, leaf);
	return 0;
}

int disk_locators(struct repo_disk *d, uint64_t first, unsigned count, uint64_t *locators,
		  struct err *err)
{
	while (count) {
		uint64_t leaf_no = first / LEAF_CHUNKS;
		unsigned at = (unsigned)(first % LEAF_CHUNKS);
		unsigned n = MIN(count, LEAF_CHUNKS - at);
		struct cache_item *item;
		const struct leaf *leaf;
		int r = disk_leaf_get(d, leaf_no, &item, &leaf, err);

		if (r < 0)
			return r;
		for (unsigned i = 0; i < n;) {
			unsigned left = n - i;
			uint64_t locator = leaf ? leaf_lookup(leaf, at + i, &left) : LOCATOR_NONE;
			bool data = locator != LOCATOR_NONE && locator != LOCATOR_UNREADABLE;

			for (left = MIN(left, n - i); left; left--, i++)
				locators[i] = data ? locator++ : locator;
		}
		if (item)
			cache_put(d->point->repo->map, item);
		first += n;
		locators += n;
		count -= n;
	}
	return 0;
}

int leaf_ids(struct repo *r, const uint64_t *locators, unsigned count, uint8_t (*ids)[ID_LEN],
	     struct err *err)
{
	struct store_pack *p = NULL;
	uint64_t number = 0;
	int ret = 0;

	for (unsigned i = 0; i < count && ret == 0; i++) {
		const struct footer_entry *e;

		if (locators[i] == LOCATOR_NONE || locators[i] == LOCATOR_UNREADABLE) {
			memset(ids[i], locators[i] == LOCATOR_NONE ? 0 : 0xff, ID_LEN);
			continue;
		}
		if (!p || number != locator_pack(locators[i])) {
			if (p)
				store_pack_put(p);
			p = NULL;
			number = locator_pack(locators[i]);
			ret = store_pack_get(r->store, number, &p, err);
			if (ret == ERR_NOT_FOUND)
				ret = err_recode(err, ERR_DAMAGED);
			if (ret < 0)
				break;
		}
		e = store_pack_entry(p, locator_slot(locators[i]));
		if (!e || e->type != OBJECT_CHUNK)
			ret = err_set(err, ERR_DAMAGED,
				      "pack %012" PRIx64 ", slot %" PRIu32 " holds no chunk",
				      number, locator_slot(locators[i]));
		else
			memcpy(ids[i], e->id, ID_LEN);
	}
	if (p)
		store_pack_put(p);
	return ret;
}

int repo_disk_chunk_id(struct repo_disk *d, uint64_t chunk, uint8_t id[ID_LEN], struct err *err)
{
	uint64_t locator;
	int r;

	if (chunk >= d->chunks)
		return err_set(err, ERR_INVALID, "chunk %" PRIu64 " is beyond the disk", chunk);
	r = disk_locators(d, chunk, 1, &locator, err);
	if (r < 0)
		return r;
	if (locator == LOCATOR_UNREADABLE)
		return err_set(err, ERR_DAMAGED,
			       "disk '%s', chunk %" PRIu64 " could not be read at backup",
			       d->info->name, chunk);
	return leaf_ids(d->point->repo, &locator, 1, (uint8_t(*)[ID_LEN])id, err);
}

int repo_content_id(struct repo *r, const void *p, size_t n, uint8_t id[ID_LEN], struct err *err)
{
	struct store_reader *reader;
	int ret = repo_need_key(r, err);

	if (ret == 0)
		ret = repo_reader_get(r, &reader, err);
	if (ret < 0)
		return ret;
	ret = codec_id(store_reader_codec(reader), p, n, id, err);
	repo_reader_put(r, reader);
	return ret;
}
