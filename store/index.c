/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Looking chunks up in index segments.
 *
 * Fence and bloom filter of each segment are resident (1.3 bytes a record), records stay on disk.  A batch of keys
 * passes the filters first; the few pages that are left are announced with posix_fadvise, then read one by one.
 *
 * 1. What comes out is a candidate: the caller confirms it by the footer of its pack.
 * 2. A read error is a miss.
 * 3. The set of segments is immutable and counted; a lookup works on the set that it found (lock: x->lock, for the
 *    pointer only).
 */
#include <inttypes.h>
#include <stdlib.h>

#include "store/internal.h"

#include "base/banned.h"

struct segment {
	struct store *store;
	unsigned refs; /* sets that hold it; under x->lock */
	struct backend_file file;
	struct segment_header h;
	uint32_t *fence;
	uint8_t *bloom;
};

struct segment_set {
	unsigned refs; /* under x->lock */
	size_t count;
	struct segment *segments[];
};

struct store_index {
	struct store *store;
	pthread_mutex_t lock; /* guards set and all refs */
	struct segment_set *set;
};

static void segment_free(struct segment *g)
{
	if (!g)
		return;
	if (g->file.path)
		g->store->backend->ops->close(&g->file);
	free(g->fence);
	free(g->bloom);
	free(g);
}

static struct segment_set *set_get(struct store_index *x)
{
	struct segment_set *set;

	pthread_mutex_lock(&x->lock);
	set = x->set;
	set->refs++;
	pthread_mutex_unlock(&x->lock);
	return set;
}

static void set_put(struct store_index *x, struct segment_set *set)
{
	struct segment *dead[64];
	size_t ndead = 0;
	bool last;

	pthread_mutex_lock(&x->lock);
	last = !--set->refs;
	if (last) {
		/* Segments beyond the 64 stay until the next round; sets are smaller than that. */
		for (size_t i = 0; i < set->count; i++) {
			if (--set->segments[i]->refs)
				continue;
			if (ndead < ARRAY_SIZE(dead))
				dead[ndead++] = set->segments[i];
			else
				segment_free(set->segments[i]);
		}
	}
	pthread_mutex_unlock(&x->lock);
	while (ndead)
		segment_free(dead[--ndead]);
	if (last)
		free(set);
}

static struct segment_set *set_new(size_t count)
{
	return mem_alloc(sizeof(struct segment_set) + count * sizeof(struct segment *));
}

int store_index_new(struct store *s, struct store_index **out, struct err *err)
{
	struct store_index *x = mem_alloc(sizeof(*x));

	if (!x)
		return err_nomem(err, "chunk index");
	x->store = s;
	x->set = set_new(0);
	if (!x->set) {
		free(x);
		return err_nomem(err, "chunk index");
	}
	x->set->refs = 1;
	pthread_mutex_init(&x->lock, NULL);
	*out = x;
	return 0;
}

void store_index_free(struct store_index *x)
{
	if (!x)
		return;
	set_put(x, x->set);
	pthread_mutex_destroy(&x->lock);
	free(x);
}

static int segment_load(struct segment *g, uint64_t number, struct err *err)
{
	struct backend *b = g->store->backend;
	uint8_t header[SEGMENT_HEADER_LEN];
	uint64_t size, nfence;
	cleanup_free uint8_t *raw = NULL;
	int r = b->ops->open(b, BACKEND_SEGMENT, number, &g->file, err);

	if (r == 0)
		r = b->ops->size(&g->file, &size, err);
	if (r == 0)
		r = b->ops->read(&g->file, header, sizeof(header), 0, err);
	if (r == 0)
		r = segment_header_decode(header, size, &g->h, err);
	if (r < 0)
		return r;
	if (g->h.number != number || memcmp(g->h.uuid, g->store->uuid, UUID_LEN) != 0)
		return err_set(err, ERR_DAMAGED, "header is that of another segment");
	nfence = ((uint64_t)1 << g->h.fence_bits) + 1;
	raw = mem_alloc_array(nfence, 4);
	g->fence = mem_alloc_array(nfence, sizeof(*g->fence));
	g->bloom = mem_alloc(g->h.bloom_len ? g->h.bloom_len : 1);
	if (!raw || !g->fence || !g->bloom)
		return err_nomem(err, "index segment");
	r = b->ops->read(&g->file, raw, nfence * 4, g->h.fence_offset, err);
	if (r == 0 && g->h.bloom_len)
		r = b->ops->read(&g->file, g->bloom, g->h.bloom_len, g->h.bloom_offset, err);
	if (r < 0)
		return r;
	if (check_xxh3(raw, nfence * 4) != g->h.fence_check ||
	    check_xxh3(g->bloom, g->h.bloom_len) != g->h.bloom_check)
		return err_set(err, ERR_DAMAGED, "fence or bloom filter do not have their check");
	for (uint64_t i = 0; i < nfence; i++) {
		g->fence[i] = get_le32(raw + 4 * i);
		if (g->fence[i] > g->h.records || (i && g->fence[i] < g->fence[i - 1]))
			return err_set(err, ERR_DAMAGED, "fence is not sorted");
	}
	return 0;
}

/* Puts a new set in place: the old one's segments (without `without`) and `extra`.  Returns 0: done, 1: another thread
 * has put one in place meanwhile. */
static int set_replace_once(struct store_index *x, struct segment *extra, uint64_t without,
			    struct err *err)
{
	struct segment_set *old = set_get(x), *fresh = set_new(old->count + 1);
	bool mine;

	if (!fresh) {
		set_put(x, old);
		return err_nomem(err, "chunk index");
	}
	pthread_mutex_lock(&x->lock);
	mine = x->set == old;
	if (mine) {
		for (size_t i = 0; i < old->count; i++)
			if (old->segments[i]->h.number != without)
				fresh->segments[fresh->count++] = old->segments[i];
		if (extra)
			fresh->segments[fresh->count++] = extra;
		for (size_t i = 0; i < fresh->count; i++)
			fresh->segments[i]->refs++;
		fresh->refs = 1;
		x->set = fresh;
	}
	pthread_mutex_unlock(&x->lock);
	set_put(x, old); /* ours */
	if (mine)
		set_put(x, old); /* the index's */
	else
		free(fresh);
	return mine ? 0 : 1;
}

static int set_replace(struct store_index *x, struct segment *extra, uint64_t without,
		       struct err *err)
{
	int r;

	do
		r = set_replace_once(x, extra, without, err);
	while (r > 0);
	return r;
}

int store_index_add(struct store_index *x, uint64_t number, struct err *err)
{
	struct segment *g = mem_alloc(sizeof(*g));
	int r;

	if (!g)
		return err_nomem(err, "index segment");
	g->store = x->store;
	r = segment_load(g, number, err);
	if (r == 0)
		r = set_replace(x, g, 0, err);
	if (r < 0) {
		segment_free(g);
		return err_prefix(err, "index segment %" PRIu64, number);
	}
	return 0;
}

void store_index_drop(struct store_index *x, uint64_t number)
{
	/* Out of memory: the segment stays, which is only a hint too many. */
	(void)set_replace(x, NULL, number, NULL);
}

uint64_t store_index_memory(const struct store_index *x)
{
	struct segment_set *set = set_get((struct store_index *)x);
	uint64_t bytes = 0;

	for (size_t i = 0; i < set->count; i++)
		bytes += set->segments[i]->h.bloom_len +
			 4 * (((uint64_t)1 << set->segments[i]->h.fence_bits) + 1);
	set_put((struct store_index *)x, set);
	return bytes;
}

struct probe {
	struct index_query *query;
	struct segment *segment;
	uint64_t first, last; /* records to look at */
};

static void range_of(const struct segment *g, const uint8_t *id, uint64_t *first, uint64_t *last)
{
	uint64_t prefix = g->h.fence_bits ? get_be64(id) >> (64 - g->h.fence_bits) : 0;

	*first = g->fence[prefix];
	*last = g->fence[prefix + 1];
}

static void read_probe(const struct probe *p)
{
	uint8_t window[170 * SEGMENT_RECORD_LEN];
	const struct segment *g = p->segment;
	const uint64_t most = sizeof(window) / SEGMENT_RECORD_LEN;

	for (uint64_t at = p->first; at < p->last; at += most) {
		uint64_t n = MIN(p->last - at, most);

		if (g->store->backend->ops->read(&g->file, window, n * SEGMENT_RECORD_LEN,
						 g->h.records_offset + at * SEGMENT_RECORD_LEN,
						 NULL) < 0)
			return;
		for (uint64_t i = 0; i < n; i++) {
			const uint8_t *record = window + i * SEGMENT_RECORD_LEN;
			int c = memcmp(record, p->query->id, SEGMENT_KEY_LEN);

			if (c > 0)
				return;
			if (c == 0 && p->query->count < INDEX_CANDIDATES)
				p->query->locators[p->query->count++] =
					get_le64(record + SEGMENT_KEY_LEN);
		}
	}
}

#define PROBES_MAX 256u

static void read_probes(const struct probe *probes, size_t n)
{
	/* One alone is read at once: announcing it would only cost a call. */
	if (n > 1)
		for (size_t i = 0; i < n; i++)
			probes[i].segment->store->backend->ops->willneed(
				&probes[i].segment->file,
				probes[i].segment->h.records_offset +
					probes[i].first * SEGMENT_RECORD_LEN,
				(probes[i].last - probes[i].first) * SEGMENT_RECORD_LEN);
	for (size_t i = 0; i < n; i++)
		read_probe(&probes[i]);
}

void store_index_lookup(struct store_index *x, struct index_query *queries, size_t n)
{
	struct segment_set *set = set_get(x);
	struct probe probes[PROBES_MAX];
	size_t nprobes = 0;

	for (size_t i = 0; i < n; i++)
		queries[i].count = 0;
	/* The newest segments first: what was stored last is the likeliest. */
	for (size_t k = set->count; k-- > 0;) {
		struct segment *g = set->segments[k];

		for (size_t i = 0; i < n; i++) {
			struct probe p = { .query = &queries[i], .segment = g };

			if (!g->h.records ||
			    !segment_bloom_has(g->bloom, g->h.bloom_len, queries[i].id))
				continue;
			range_of(g, queries[i].id, &p.first, &p.last);
			if (p.first == p.last)
				continue;
			probes[nprobes++] = p;
			if (nprobes == PROBES_MAX) {
				read_probes(probes, nprobes);
				nprobes = 0;
			}
		}
	}
	read_probes(probes, nprobes);
	set_put(x, set);
}
