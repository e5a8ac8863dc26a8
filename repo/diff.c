/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What differs between two disks, from the maps only.
 *
 * Leaf by leaf: equal references are equal data; else equal digests are; else, inside, equal locators are; else equal
 * ids from the footers are (the same chunk can be stored twice by two sessions).
 */
#include <stdlib.h>

#include "repo/internal.h"

#include "base/banned.h"

struct diff {
	struct repo_disk *a, *b;
	uint64_t size; /* the larger one, bytes */
	int (*fn)(void *opaque, const struct diff_extent *e, struct err *err);
	void *opaque;
	struct diff_extent e;
	bool any;
	uint64_t la[LEAF_CHUNKS], lb[LEAF_CHUNKS];
	uint8_t ids_a[LEAF_CHUNKS][ID_LEN], ids_b[LEAF_CHUNKS][ID_LEN];
};

static int emit(struct diff *d, uint64_t start, uint64_t length, bool data, struct err *err)
{
	int r = 0;

	if (d->any && d->e.data == data && d->e.start + d->e.length == start) {
		d->e.length += length;
		return 0;
	}
	if (d->any)
		r = d->fn(d->opaque, &d->e, err);
	d->e = (struct diff_extent){ .start = start, .length = length, .data = data };
	d->any = true;
	return r;
}

/* Locators of the leaf's chunks in one disk; what lies beyond it is holes. */
static int locators_of(struct repo_disk *disk, uint64_t leaf, uint64_t *out, struct err *err)
{
	uint64_t first = leaf * LEAF_CHUNKS;

	memset(out, 0, LEAF_CHUNKS * sizeof(*out));
	if (!disk || first >= disk->chunks)
		return 0;
	return disk_locators(disk, first, disk_leaf_chunks(disk, leaf), out, err);
}

static int ref_of(struct repo_disk *disk, uint64_t leaf, struct object_ref *ref, struct err *err)
{
	*ref = (struct object_ref){ 0 };
	if (!disk || leaf * LEAF_CHUNKS >= disk->chunks)
		return 0;
	return disk_leaf_ref(disk, leaf, ref, err);
}

static int same_digest(struct diff *d, uint64_t leaf, bool *same, struct err *err)
{
	struct cache_item *ia, *ib;
	const struct leaf *a, *b;
	int r = disk_leaf_get(d->a, leaf, &ia, &a, err);

	if (r < 0)
		return r;
	r = disk_leaf_get(d->b, leaf, &ib, &b, err);
	if (r == 0) {
		/* Chunks that were unreadable in two different leaves are equal to nothing. */
		*same = a->chunks == b->chunks && memcmp(a->digest, b->digest, ID_LEN) == 0;
		for (unsigned i = 0; i < a->nruns && *same; i++)
			*same = a->runs[i].kind != RUN_UNREADABLE;
		cache_put(d->b->point->repo->map, ib);
	}
	cache_put(d->a->point->repo->map, ia);
	return r;
}

static int compare_leaf(struct diff *d, uint64_t leaf, struct err *err)
{
	const uint32_t cs = d->b->chunk_size;
	uint64_t base = leaf * LEAF_CHUNKS;
	bool need_ids = false;
	int r = locators_of(d->a, leaf, d->la, err);

	if (r == 0)
		r = locators_of(d->b, leaf, d->lb, err);
	for (unsigned i = 0; i < LEAF_CHUNKS && r == 0; i++)
		need_ids |= d->la[i] != d->lb[i] && d->la[i] != LOCATOR_NONE &&
			    d->lb[i] != LOCATOR_NONE;
	if (r == 0 && need_ids)
		r = leaf_ids(d->a->point->repo, d->la, LEAF_CHUNKS, d->ids_a, err);
	if (r == 0 && need_ids)
		r = leaf_ids(d->b->point->repo, d->lb, LEAF_CHUNKS, d->ids_b, err);
	for (unsigned i = 0; i < LEAF_CHUNKS && r == 0; i++) {
		uint64_t start = (base + i) * cs;
		bool unreadable = d->la[i] == LOCATOR_UNREADABLE || d->lb[i] == LOCATOR_UNREADABLE;

		if (start >= d->size)
			break;
		if (d->la[i] == d->lb[i] && !unreadable)
			continue;
		if (need_ids && !unreadable && memcmp(d->ids_a[i], d->ids_b[i], ID_LEN) == 0)
			continue;
		r = emit(d, start, MIN(cs, d->size - start), d->lb[i] != LOCATOR_NONE, err);
	}
	return r;
}

static int diff_run(struct diff *d, struct err *err)
{
	uint64_t chunks = MAX(d->a ? d->a->chunks : 0, d->b->chunks);
	uint64_t leaves = div_round_up(chunks, LEAF_CHUNKS);
	uint64_t size_a = d->a ? d->a->info->size : 0, size_b = d->b->info->size;
	int r = 0;

	d->size = MAX(size_a, size_b);
	for (uint64_t leaf = 0; leaf < leaves && r == 0; leaf++) {
		struct object_ref ra, rb;
		bool same = false;

		r = ref_of(d->a, leaf, &ra, err);
		if (r == 0)
			r = ref_of(d->b, leaf, &rb, err);
		if (r < 0)
			return r;
		if (ra.locator == LOCATOR_NONE && rb.locator == LOCATOR_NONE)
			continue;
		if (ra.locator == rb.locator)
			continue;
		if (ra.locator != LOCATOR_NONE && rb.locator != LOCATOR_NONE)
			r = same_digest(d, leaf, &same, err);
		if (r == 0 && !same)
			r = compare_leaf(d, leaf, err);
	}
	if (r == 0 && d->any)
		r = d->fn(d->opaque, &d->e, err);
	return r < 0 ? r : 0;
}

int repo_disk_diff(struct repo_disk *a, struct repo_disk *b,
		   int (*fn)(void *opaque, const struct diff_extent *e, struct err *err),
		   void *opaque, struct err *err)
{
	cleanup_free struct diff *d = NULL;

	if (a && a->chunk_size != b->chunk_size)
		return err_set(
			err, ERR_UNSUPPORTED,
			"the disks have chunks of %u and %u bytes and cannot be compared by map",
			a->chunk_size, b->chunk_size);
	if (a && a->point->repo != b->point->repo)
		return err_set(err, ERR_UNSUPPORTED, "the disks are in different repositories");
	d = mem_alloc(sizeof(*d));
	if (!d)
		return err_nomem(err, "diff");
	d->a = a;
	d->b = b;
	d->fn = fn;
	d->opaque = opaque;
	return diff_run(d, err);
}
