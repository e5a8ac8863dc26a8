/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Prefetch: bringing chunks that will be wanted into the cache, on the pool.
 *
 * A range becomes windows of at most WINDOW_CHUNKS chunks, a job each.  A window's job first announces to the kernel the
 * ends of all packs that are not open, then opens them and announces the records, and only then hands out the chunks, a
 * job each: a disk with a long history has its neighbouring chunks in as many packs, and reading those one after the
 * other would cost three disk latencies for each.
 *
 * 1. Prefetch is a hint: bounded in number, its errors are dropped (the read that needs the chunk meets them again).
 * 2. The thread that asks looks at the map and at the cache only; packs are opened and announced on the pool.
 */
#include <stdlib.h>

#include "repo/internal.h"

#include "base/banned.h"

#define PREFETCH_MOST 256u /* jobs under way in one repository */
#define WINDOW_CHUNKS 64u

struct prefetch {
	struct pool_job job;
	struct repo *repo;
	uint32_t chunk_size;
	uint64_t locator;
};

struct window {
	struct pool_job job;
	struct repo *repo;
	uint32_t chunk_size;
	unsigned count;
	uint64_t locators[WINDOW_CHUNKS]; /* in the order of the disk, data only */
};

/* Memory for one more job; NULL if there are enough. */
static void *job_new(struct repo *r, size_t size)
{
	void *p = NULL;

	if (atomic_fetch_add(&r->prefetching, 1) < PREFETCH_MOST)
		p = mem_alloc(size);
	if (!p)
		atomic_fetch_sub(&r->prefetching, 1);
	return p;
}

static void job_end(struct repo *r, void *p)
{
	atomic_fetch_sub(&r->prefetching, 1);
	free(p);
}

static void chunk_run(struct pool_job *job, void *ctx)
{
	struct prefetch *p = container_of(job, struct prefetch, job);
	struct repo_worker *w = ctx;
	struct cache_item *item;

	if (w && chunk_get(p->repo, w->reader, p->locator, p->chunk_size, &item, NULL) == 0)
		cache_put(p->repo->chunks, item);
	job_end(p->repo, p);
}

static void chunk_submit(struct repo *r, uint64_t locator, uint32_t chunk_size)
{
	struct prefetch *p = job_new(r, sizeof(*p));

	if (!p)
		return;
	p->job.run = chunk_run;
	p->repo = r;
	p->locator = locator;
	p->chunk_size = chunk_size;
	pool_submit(r->pool, &p->job);
}

/* Was the pack of locator i met before it? */
static bool pack_met(const struct window *w, unsigned i)
{
	for (unsigned k = i; k--;)
		if (locator_pack(w->locators[k]) == locator_pack(w->locators[i]))
			return true;
	return false;
}

static void window_announce(const struct window *w)
{
	struct store *s = w->repo->store;

	for (unsigned i = 0; i < w->count; i++)
		if (!pack_met(w, i))
			store_pack_willneed(s, locator_pack(w->locators[i]));
	for (unsigned i = 0, n; i < w->count; i += n) {
		for (n = 1; i + n < w->count && w->locators[i + n] == w->locators[i] + n;)
			n++;
		store_records_willneed(s, w->locators[i], n);
	}
}

static void window_run(struct pool_job *job, void *ctx)
{
	struct window *w = container_of(job, struct window, job);

	(void)ctx;
	window_announce(w);
	for (unsigned i = 0; i < w->count; i++)
		chunk_submit(w->repo, w->locators[i], w->chunk_size);
	job_end(w->repo, w);
}

/* A window of what is data and not in the cache. */
static void window_submit(struct repo *r, const uint64_t *locators, unsigned count,
			  uint32_t chunk_size)
{
	struct window *w = job_new(r, sizeof(*w));

	if (!w)
		return;
	w->job.run = window_run;
	w->repo = r;
	w->chunk_size = chunk_size;
	for (unsigned i = 0; i < count; i++)
		if (locators[i] != LOCATOR_NONE && locators[i] != LOCATOR_UNREADABLE &&
		    !cache_has(r->chunks, locators[i]))
			w->locators[w->count++] = locators[i];
	if (w->count)
		pool_submit_urgent(r->pool, &w->job);
	else
		job_end(r, w);
}

void repo_disk_prefetch(struct repo_disk *d, uint64_t offset, uint64_t n)
{
	struct repo *r = d->point->repo;
	uint64_t end, chunk, last;

	if (!pool_threads(r->pool) || offset >= d->info->size || !n)
		return;
	if (add_overflow(offset, n, &end) || end > d->info->size)
		end = d->info->size;
	chunk = offset / d->chunk_size;
	last = (end - 1) / d->chunk_size;
	while (chunk <= last) {
		uint64_t locators[WINDOW_CHUNKS];
		unsigned count = (unsigned)MIN(last - chunk + 1, ARRAY_SIZE(locators));

		if (disk_locators(d, chunk, count, locators, NULL) < 0)
			return;
		window_submit(r, locators, count, d->chunk_size);
		chunk += count;
	}
}
