/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Reading a disk: leaf, hole or chunk, slice; read-ahead; extents.
 *
 * 1. A read either fills all its bytes with verified data or fails: nothing is ever zeroes but a hole.
 * 2. A large request decodes its later chunks on the pool (repo/prefetch.c) while the caller decodes the first.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "repo/internal.h"

#include "base/banned.h"

#define READAHEAD_MIN (256 * KiB)
#define READAHEAD_MAX (8 * MiB) /* 5 ms at 1.5 GiB/s: time to open a pack and to read from it */

/* --- chunks --- */

static void extend_run(struct pool_job *job, void *ctx)
{
	(void)ctx;
	cache_extend(container_of(job, struct repo, extend)->chunks);
}

/* On the pool, so that no reader waits for the clearing of pages. */
void chunk_memory_ahead(struct repo *r)
{
	if (!r->started || !pool_threads(r->pool) || !cache_wants_more(r->chunks))
		return;
	r->extend.run = extend_run;
	pool_submit_urgent(r->pool, &r->extend);
}

static int chunk_load(struct repo *r, struct store_reader *reader, uint64_t locator,
		      uint32_t chunk_size, void **out, struct err *err)
{
	uint8_t *data = cache_data_new(r->chunks, chunk_size);
	size_t len;
	int ret;

	if (!data)
		return err_nomem(err, "chunk");
	ret = store_record_read(r->store, reader, locator, OBJECT_CHUNK, NULL, false, data,
				chunk_size, &len, err);
	if (ret == 0 && len != chunk_size)
		ret = err_set(err, ERR_DAMAGED,
			      "pack %012" PRIx64 ", slot %" PRIu32
			      ": chunk has %zu bytes instead of %" PRIu32,
			      locator_pack(locator), locator_slot(locator), len, chunk_size);
	if (ret < 0) {
		cache_data_free(r->chunks, data);
		return ret;
	}
	chunk_memory_ahead(r);
	*out = data;
	return 0;
}

int chunk_get(struct repo *r, struct store_reader *reader, uint64_t locator, uint32_t chunk_size,
	      struct cache_item **out, struct err *err)
{
	bool load;
	struct cache_item *item = cache_get(r->chunks, locator, &load);
	struct store_reader *own = NULL;
	void *data = NULL;
	int ret = 0;

	if (!item)
		return err_nomem(err, "chunk cache");
	if (load) {
		if (!reader) {
			ret = repo_reader_get(r, &own, err);
			reader = own;
		}
		if (ret == 0)
			ret = chunk_load(r, reader, locator, chunk_size, &data, err);
		if (own)
			repo_reader_put(r, own);
		cache_loaded(r->chunks, item, ret < 0 ? NULL : data, chunk_size);
	} else if (item->size != chunk_size) {
		ret = err_set(err, ERR_DAMAGED, "chunk %" PRIx64 " has another size", locator);
	}
	if (ret < 0) {
		cache_put(r->chunks, item);
		return ret;
	}
	*out = item;
	return 0;
}

/* --- reads --- */

/* The part of one leaf: chunks [chunk, ...) up to end (bytes of the disk) or the leaf's end. */
static int read_leaf(struct repo_disk *d, const struct leaf *leaf, uint64_t offset, uint64_t end,
		     uint8_t *dst, struct err *err)
{
	struct repo *r = d->point->repo;

	while (offset < end) {
		uint64_t chunk = offset / d->chunk_size;
		unsigned in_leaf = (unsigned)(chunk % LEAF_CHUNKS), left = 0;
		uint64_t locator = leaf ? leaf_lookup(leaf, in_leaf, &left) : LOCATOR_NONE;
		uint64_t stop = leaf ? MIN(end, (chunk + left) * d->chunk_size) : end;
		struct cache_item *item;
		int ret;

		if (locator == LOCATOR_NONE) {
			memset(dst, 0, stop - offset);
			dst += stop - offset;
			offset = stop;
			continue;
		}
		stop = MIN(end, (chunk + 1) * d->chunk_size);
		if (locator == LOCATOR_UNREADABLE)
			return err_set(err, ERR_DAMAGED,
				       "disk '%s', offset %" PRIu64 ": could not be read at backup",
				       d->info->name, offset);
		ret = chunk_get(r, NULL, locator, d->chunk_size, &item, err);
		if (ret < 0)
			return err_prefix(err, "disk '%s', offset %" PRIu64, d->info->name, offset);
		memcpy(dst, (const uint8_t *)item->data + offset % d->chunk_size, stop - offset);
		cache_put(r->chunks, item);
		dst += stop - offset;
		offset = stop;
	}
	return 0;
}

int repo_disk_read(struct repo_disk *d, void *dst, size_t n, uint64_t offset, struct err *err)
{
	const uint64_t leaf_bytes = (uint64_t)d->chunk_size * LEAF_CHUNKS;
	uint64_t end;

	if (add_overflow(offset, (uint64_t)n, &end) || end > d->info->size)
		return err_set(err, ERR_INVALID,
			       "read of %zu bytes at %" PRIu64 " is beyond the disk's %" PRIu64
			       " bytes",
			       n, offset, d->info->size);
	if (n > 2 * (size_t)d->chunk_size)
		repo_disk_prefetch(d, offset + d->chunk_size, n - d->chunk_size);
	while (offset < end) {
		uint64_t leaf_no = offset / leaf_bytes;
		uint64_t stop = MIN(end, (leaf_no + 1) * leaf_bytes);
		struct cache_item *item;
		const struct leaf *leaf;
		int r = disk_leaf_get(d, leaf_no, &item, &leaf, err);

		if (r < 0) {
			if (err && err->code == ERR_DAMAGED)
				log_error("%s", err->text);
			return r;
		}
		r = read_leaf(d, leaf, offset, stop, dst, err);
		if (item)
			cache_put(d->point->repo->map, item);
		if (r < 0)
			return r;
		dst = (uint8_t *)dst + (stop - offset);
		offset = stop;
	}
	return 0;
}

/* --- read-ahead --- */

struct repo_stream {
	struct repo_disk *disk;
	pthread_mutex_t lock; /* guards what follows */
	uint64_t expected; /* where the next sequential read starts */
	uint64_t ahead; /* asked for up to here */
	uint64_t window; /* bytes; 0: not sequential */
};

int repo_stream_new(struct repo_disk *d, struct repo_stream **out, struct err *err)
{
	struct repo_stream *s = mem_alloc(sizeof(*s));

	if (!s)
		return err_nomem(err, "stream");
	s->disk = d;
	s->expected = UINT64_MAX;
	atomic_fetch_add(&d->point->repo->streams, 1);
	pthread_mutex_init(&s->lock, NULL);
	*out = s;
	return 0;
}

void repo_stream_free(struct repo_stream *s)
{
	if (!s)
		return;
	atomic_fetch_sub(&s->disk->point->repo->streams, 1);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* All streams together may fill a quarter of the cache, or what was read ahead would be gone before its time. */
static uint64_t window_max(struct repo *r)
{
	uint64_t share = cache_limit(r->chunks) / 4 / MAX(atomic_load(&r->streams), 1u);

	return MAX(MIN(share, READAHEAD_MAX), READAHEAD_MIN);
}

void repo_stream_hint(struct repo_stream *s, uint64_t offset, size_t n)
{
	uint64_t from = 0, to = 0, most = window_max(s->disk->point->repo);

	pthread_mutex_lock(&s->lock);
	/* Requests of one stream may overtake each other by a few. */
	if (s->expected != UINT64_MAX && offset <= s->expected + READAHEAD_MIN &&
	    offset + READAHEAD_MIN >= s->expected) {
		s->window = s->window ? MIN(s->window * 2, most) : READAHEAD_MIN;
		s->expected = MAX(s->expected, offset + n);
		from = MAX(s->ahead, s->expected);
		to = s->expected + s->window;
		/* In steps of half a window, so that small reads do not ask each time. */
		if (to > from && to - from >= s->window / 2)
			s->ahead = to;
		else
			to = from;
	} else {
		s->window = 0;
		s->expected = offset + n;
		s->ahead = 0;
	}
	pthread_mutex_unlock(&s->lock);
	if (to > from)
		repo_disk_prefetch(s->disk, from, to - from);
}

/* --- extents --- */

struct merge {
	struct extent e;
	bool any;
	int (*fn)(void *opaque, const struct extent *e, struct err *err);
	void *opaque;
};

static int merge_add(struct merge *m, uint64_t start, uint64_t length, enum extent_kind kind,
		     struct err *err)
{
	int r = 0;

	if (m->any && m->e.kind == kind && m->e.start + m->e.length == start) {
		m->e.length += length;
		return 0;
	}
	if (m->any)
		r = m->fn(m->opaque, &m->e, err);
	m->e = (struct extent){ .start = start, .length = length, .kind = kind };
	m->any = true;
	return r;
}

static int extents_leaf(struct repo_disk *d, const struct leaf *leaf, uint64_t offset,
			uint64_t stop, struct merge *m, struct err *err)
{
	while (offset < stop) {
		uint64_t chunk = offset / d->chunk_size;
		unsigned left = 0;
		uint64_t locator =
			leaf ? leaf_lookup(leaf, (unsigned)(chunk % LEAF_CHUNKS), &left) :
			       LOCATOR_NONE;
		uint64_t end = leaf ? MIN(stop, (chunk + left) * d->chunk_size) : stop;
		enum extent_kind kind = locator == LOCATOR_NONE	      ? EXTENT_HOLE :
					locator == LOCATOR_UNREADABLE ? EXTENT_UNREADABLE :
									EXTENT_DATA;
		int r = merge_add(m, offset, end - offset, kind, err);

		if (r)
			return r;
		offset = end;
	}
	return 0;
}

int repo_disk_extents(struct repo_disk *d, uint64_t offset, uint64_t n,
		      int (*fn)(void *opaque, const struct extent *e, struct err *err),
		      void *opaque, struct err *err)
{
	const uint64_t leaf_bytes = (uint64_t)d->chunk_size * LEAF_CHUNKS;
	struct merge m = { .fn = fn, .opaque = opaque };
	uint64_t end;
	int r = 0;

	if (add_overflow(offset, n, &end) || end > d->info->size)
		return err_set(err, ERR_INVALID, "range is beyond the disk");
	while (offset < end && r == 0) {
		uint64_t leaf_no = offset / leaf_bytes;
		uint64_t stop = MIN(end, (leaf_no + 1) * leaf_bytes);
		struct cache_item *item;
		const struct leaf *leaf;

		r = disk_leaf_get(d, leaf_no, &item, &leaf, err);
		if (r < 0)
			return r;
		r = extents_leaf(d, leaf, offset, stop, &m, err);
		if (item)
			cache_put(d->point->repo->map, item);
		offset = stop;
	}
	if (r == 0 && m.any)
		r = fn(opaque, &m.e, err);
	return r < 0 ? r : 0;
}
