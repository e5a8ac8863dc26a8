/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A cache of decoded objects by locator, bounded by bytes, least recently used first out.
 *
 * 1. A locator is one content for ever, so an item is immutable once it is ready and never goes stale.
 * 2. Loading is a busy mark: one caller loads, the others wait for it on the shard's condition; when it fails, the next
 *    waiter becomes the loader.
 * 3. Items in use (refs > 0) are never dropped; over the bound, only as far as they allow.
 * 4. Sixteen shards by a hash of the locator, each with its lock; a lock is held for memory work only.
 */
#include <stdlib.h>

#include "repo/internal.h"
#include "repo/slab.h"

#include "base/banned.h"

#define SHARDS 16u
#define SHARD_BUCKETS 1024u
#define ITEM_OVERHEAD 128u

struct shard {
	pthread_mutex_t lock;
	pthread_cond_t loaded;
	struct cache_item *buckets[SHARD_BUCKETS];
	struct cache_item *newest, *oldest;
	uint64_t bytes;
};

struct cache {
	uint64_t shard_bytes; /* bound of each */
	struct slab *slab; /* of the data; NULL: malloc */
	struct shard shards[SHARDS];
};

static uint64_t mix(uint64_t x)
{
	/* splitmix64's finaliser (Steele, Lea, Flood 2014) */
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

int cache_new(uint64_t bytes, size_t common, struct cache **out, struct err *err)
{
	struct cache *c = mem_alloc(sizeof(*c));
	int r;

	if (!c)
		return err_nomem(err, "cache");
	r = common ? slab_new(bytes, common, &c->slab, err) : 0;
	if (r < 0) {
		free(c);
		return r;
	}
	c->shard_bytes = bytes / SHARDS;
	for (unsigned i = 0; i < SHARDS; i++) {
		pthread_mutex_init(&c->shards[i].lock, NULL);
		pthread_cond_init(&c->shards[i].loaded, NULL);
	}
	*out = c;
	return 0;
}

void *cache_data_new(struct cache *c, size_t n)
{
	void *p = c->slab ? slab_get(c->slab, n) : NULL;

	return p ? p : mem_realloc_array(NULL, n, 1);
}

void cache_data_free(struct cache *c, void *p)
{
	if (!c->slab || !slab_put(c->slab, p))
		free(p);
}

bool cache_wants_more(struct cache *c)
{
	return c->slab && slab_wants_more(c->slab);
}

void cache_extend(struct cache *c)
{
	slab_extend(c->slab);
}

static void item_free(struct cache *c, struct cache_item *item)
{
	cache_data_free(c, item->data);
	free(item);
}

void cache_free(struct cache *c)
{
	if (!c)
		return;
	for (unsigned i = 0; i < SHARDS; i++) {
		struct cache_item *item = c->shards[i].newest;

		while (item) {
			struct cache_item *older = item->older;

			item_free(c, item);
			item = older;
		}
		pthread_cond_destroy(&c->shards[i].loaded);
		pthread_mutex_destroy(&c->shards[i].lock);
	}
	slab_free(c->slab);
	free(c);
}

static struct shard *shard_of(struct cache *c, uint64_t key)
{
	return &c->shards[mix(key) % SHARDS];
}

static struct cache_item **bucket_of(struct shard *s, uint64_t key)
{
	return &s->buckets[mix(key) / SHARDS % SHARD_BUCKETS];
}

static struct cache_item *find_locked(struct shard *s, uint64_t key)
{
	struct cache_item *item = *bucket_of(s, key);

	while (item && item->key != key)
		item = item->chain;
	return item;
}

static void use_unlink_locked(struct shard *s, struct cache_item *item)
{
	if (item->newer)
		item->newer->older = item->older;
	else
		s->newest = item->older;
	if (item->older)
		item->older->newer = item->newer;
	else
		s->oldest = item->newer;
	item->newer = item->older = NULL;
}

static void use_push_locked(struct shard *s, struct cache_item *item)
{
	item->older = s->newest;
	item->newer = NULL;
	if (s->newest)
		s->newest->newer = item;
	else
		s->oldest = item;
	s->newest = item;
}

static void uncache_locked(struct shard *s, struct cache_item *item)
{
	struct cache_item **at = bucket_of(s, item->key);

	while (*at != item)
		at = &(*at)->chain;
	*at = item->chain;
	use_unlink_locked(s, item);
	item->cached = false;
}

/* Unused items over the bound, chained for freeing outside the lock. */
static struct cache_item *trim_locked(struct shard *s, uint64_t most)
{
	struct cache_item *gone = NULL, *item = s->oldest;

	while (item && s->bytes > most) {
		struct cache_item *next = item->newer;

		if (!item->refs) {
			uncache_locked(s, item);
			s->bytes -= item->size + ITEM_OVERHEAD;
			item->chain = gone;
			gone = item;
		}
		item = next;
	}
	return gone;
}

struct cache_item *cache_get(struct cache *c, uint64_t key, bool *load)
{
	struct shard *s = shard_of(c, key);
	struct cache_item *item, *fresh = NULL;

	*load = false;
	pthread_mutex_lock(&s->lock);
	for (;;) {
		item = find_locked(s, key);
		if (item && item->loading) {
			pthread_cond_wait(&s->loaded, &s->lock);
			continue;
		}
		if (item || fresh)
			break;
		/* Not there: allocate outside the lock, then look again. */
		pthread_mutex_unlock(&s->lock);
		fresh = mem_alloc(sizeof(*fresh));
		if (!fresh)
			return NULL;
		pthread_mutex_lock(&s->lock);
	}
	if (item) {
		item->refs++;
		if (s->newest != item) {
			use_unlink_locked(s, item);
			use_push_locked(s, item);
		}
	} else {
		item = fresh;
		fresh = NULL;
		item->key = key;
		item->refs = 1;
		item->loading = true;
		item->cached = true;
		item->chain = *bucket_of(s, key);
		*bucket_of(s, key) = item;
		use_push_locked(s, item);
		*load = true;
	}
	pthread_mutex_unlock(&s->lock);
	free(fresh);
	return item;
}

bool cache_has(struct cache *c, uint64_t key)
{
	struct shard *s = shard_of(c, key);
	bool has;

	pthread_mutex_lock(&s->lock);
	has = find_locked(s, key);
	pthread_mutex_unlock(&s->lock);
	return has;
}

void cache_loaded(struct cache *c, struct cache_item *item, void *data, size_t size)
{
	struct shard *s = shard_of(c, item->key);
	struct cache_item *gone = NULL;

	pthread_mutex_lock(&s->lock);
	item->loading = false;
	if (data) {
		item->data = data;
		item->size = size;
		s->bytes += size + ITEM_OVERHEAD;
		gone = trim_locked(s, c->shard_bytes);
	} else {
		uncache_locked(s, item);
	}
	pthread_cond_broadcast(&s->loaded);
	pthread_mutex_unlock(&s->lock);
	while (gone) {
		struct cache_item *next = gone->chain;

		item_free(c, gone);
		gone = next;
	}
}

void cache_put(struct cache *c, struct cache_item *item)
{
	struct shard *s = shard_of(c, item->key);
	bool destroy;

	pthread_mutex_lock(&s->lock);
	item->refs--;
	destroy = !item->refs && !item->cached;
	pthread_mutex_unlock(&s->lock);
	if (destroy)
		item_free(c, item);
}

uint64_t cache_bytes(struct cache *c)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < SHARDS; i++) {
		pthread_mutex_lock(&c->shards[i].lock);
		bytes += c->shards[i].bytes;
		pthread_mutex_unlock(&c->shards[i].lock);
	}
	return bytes;
}

uint64_t cache_limit(const struct cache *c)
{
	return c->shard_bytes * SHARDS;
}
