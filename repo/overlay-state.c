// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * States of blocks in memory, changes of state in their order, and the lock on ranges of blocks.
 *
 * The table is of two levels: a page has 16384 blocks (64 MiB of disk) in 4 KiB.  A page that is all data or all zero is a shared
 * one, so that a disk that was discarded or filled as a whole takes no memory: 64 MiB per TiB is the worst case.
 *
 * Invariants:
 *  1. Pages are as in a record of kind 2: two bits a block, zero beyond the end of the disk.  The last page is never a shared
 *     one unless the disk fills it.
 *  2. Entries of the pending set are applied in their order: joined are only neighbours in the list.
 *  3. Of two ranges that exclude each other the older goes first: nobody starves, and who holds one range at a time is in no
 *     circle of waiting.
 */
#include <stdlib.h>

#include "repo/overlay-layer-internal.h"

#include "base/banned.h"

#define FILL(state) ((uint8_t)((state)*0x55u))

static uint8_t shared_data[OVERLAY_PAGE_LEN], shared_zero[OVERLAY_PAGE_LEN]; /* by shared_make */
static pthread_once_t shared_once = PTHREAD_ONCE_INIT;

static void shared_make(void)
{
	memset(shared_data, FILL(BLOCK_DATA), sizeof(shared_data));
	memset(shared_zero, FILL(BLOCK_ZERO), sizeof(shared_zero));
}

static uint8_t *shared_page(enum block_state state)
{
	return state == BLOCK_DATA ? shared_data : state == BLOCK_ZERO ? shared_zero : NULL;
}

static bool page_owned(const uint8_t *page)
{
	return page && page != shared_data && page != shared_zero;
}

static uint64_t page_blocks(const struct block_table *t, uint64_t page)
{
	return MIN(t->blocks - page * OVERLAY_PAGE_BLOCKS, OVERLAY_PAGE_BLOCKS);
}

int block_table_init(struct block_table *t, uint64_t blocks, struct err *err)
{
	pthread_once(&shared_once, shared_make);
	t->blocks = blocks;
	t->npages = div_round_up(blocks, OVERLAY_PAGE_BLOCKS);
	t->pages = mem_alloc_array((size_t)t->npages + 1, sizeof(*t->pages));
	return t->pages ? 0 : err_nomem(err, "the states of a disk's blocks");
}

void block_table_release(struct block_table *t)
{
	for (uint64_t i = 0; t->pages && i < t->npages; i++)
		if (page_owned(t->pages[i]))
			free(t->pages[i]);
	free(t->pages);
	t->pages = NULL;
	t->blocks = t->npages = 0;
}

enum block_state block_table_get(const struct block_table *t, uint64_t block)
{
	const uint8_t *page = t->pages[block / OVERLAY_PAGE_BLOCKS];
	uint64_t i = block % OVERLAY_PAGE_BLOCKS;
	return page ? (enum block_state)(page[i / 4] >> i % 4 * 2 & 3) : BLOCK_BASE;
}

/* Blocks of an owned page from i on that have the state. */
static uint64_t page_run(const uint8_t *page, uint64_t i, enum block_state state)
{
	uint64_t pattern = state * UINT64_C(0x5555555555555555), start = i;
	while (i < OVERLAY_PAGE_BLOCKS) {
		uint64_t differ = (get_le64(page + i / 32 * 8) ^ pattern) >> i % 32 * 2;
		if (differ)
			return i + (uint64_t)__builtin_ctzll(differ) / 2 - start;
		i += 32 - i % 32;
	}
	return i - start;
}

uint64_t block_table_run(const struct block_table *t, uint64_t first, uint64_t most,
			 enum block_state *state)
{
	uint64_t n = 0;
	*state = block_table_get(t, first);
	while (n < most) {
		uint64_t i = (first + n) % OVERLAY_PAGE_BLOCKS, here;
		const uint8_t *page = t->pages[(first + n) / OVERLAY_PAGE_BLOCKS];
		if (page_owned(page))
			here = page_run(page, i, *state);
		else
			here = page == shared_page(*state) ? OVERLAY_PAGE_BLOCKS - i : 0;
		n += here;
		if (i + here < OVERLAY_PAGE_BLOCKS)
			break;
	}
	return MIN(n, most);
}

bool block_table_is(const struct block_table *t, uint64_t first, uint64_t count,
		    enum block_state state)
{
	enum block_state found;
	return count == 0 || (block_table_run(t, first, count, &found) == count && found == state);
}

/* The part of a range in one page: *i its first block there; returns how many. */
static uint64_t part(const struct block_table *t, uint64_t first, uint64_t end, uint64_t page,
		     uint64_t *i)
{
	uint64_t start = page * OVERLAY_PAGE_BLOCKS;
	*i = first > start ? first - start : 0;
	return MIN(end - start, page_blocks(t, page)) - *i;
}

bool block_table_prepare(struct block_table *t, uint64_t first, uint64_t count,
			 enum block_state state)
{
	uint64_t end = first + count, i;
	for (uint64_t p = first / OVERLAY_PAGE_BLOCKS; p * OVERLAY_PAGE_BLOCKS < end; p++) {
		uint8_t *page = t->pages[p];
		if (part(t, first, end, p, &i) == OVERLAY_PAGE_BLOCKS || page_owned(page) ||
		    page == shared_page(state))
			continue;
		t->pages[p] = page ? mem_dup(page, OVERLAY_PAGE_LEN) : mem_alloc(OVERLAY_PAGE_LEN);
		if (!t->pages[p]) {
			t->pages[p] = page;
			return false;
		}
	}
	return true;
}

static void page_set(uint8_t *page, uint64_t i, uint64_t n, enum block_state state)
{
	for (; n > 0 && i % 4; i++, n--)
		page[i / 4] = (uint8_t)((page[i / 4] & ~(3u << i % 4 * 2)) | (unsigned)state
										     << i % 4 * 2);
	memset(page + i / 4, FILL(state), (size_t)(n / 4));
	i += n / 4 * 4;
	for (n %= 4; n > 0; i++, n--)
		page[i / 4] = (uint8_t)((page[i / 4] & ~(3u << i % 4 * 2)) | (unsigned)state
										     << i % 4 * 2);
}

void block_table_set(struct block_table *t, uint64_t first, uint64_t count, enum block_state state)
{
	uint64_t end = first + count, i;
	for (uint64_t p = first / OVERLAY_PAGE_BLOCKS; p * OVERLAY_PAGE_BLOCKS < end; p++) {
		uint64_t n = part(t, first, end, p, &i);
		if (page_owned(t->pages[p]))
			page_set(t->pages[p], i, n, state);
		else if (n == OVERLAY_PAGE_BLOCKS)
			t->pages[p] = shared_page(state);
	}
}

void block_table_tidy(struct block_table *t, uint64_t first, uint64_t count)
{
	uint64_t end = first + count, i;
	for (uint64_t p = first / OVERLAY_PAGE_BLOCKS; p * OVERLAY_PAGE_BLOCKS < end; p++) {
		uint64_t n = part(t, first, end, p, &i);
		uint8_t *page = t->pages[p];
		enum block_state state;
		/* looked at when the last block of the page changes: what fills a disk does that once a page */
		if (i + n < OVERLAY_PAGE_BLOCKS || !page_owned(page))
			continue;
		state = block_table_get(t, p * OVERLAY_PAGE_BLOCKS);
		if (page_run(page, 0, state) == OVERLAY_PAGE_BLOCKS) {
			t->pages[p] = shared_page(state);
			free(page);
		}
	}
}

static bool page_apply(struct block_table *t, uint64_t p, const uint8_t *states)
{
	if (!page_owned(t->pages[p])) {
		uint8_t *page = mem_alloc(OVERLAY_PAGE_LEN);
		if (!page)
			return false;
		t->pages[p] = page;
	}
	memcpy(t->pages[p], states, OVERLAY_PAGE_LEN);
	block_table_tidy(t, p * OVERLAY_PAGE_BLOCKS, page_blocks(t, p));
	return true;
}

bool block_table_apply(struct block_table *t, const struct overlay_record *r)
{
	uint64_t p;
	for (size_t i = 0; i < r->entries; i++) {
		if (r->kind == OVERLAY_PAGES) {
			const uint8_t *states = overlay_record_get_page(r, i, &p);
			if (!page_apply(t, p, states))
				return false;
			continue;
		}
		struct overlay_run run = overlay_record_get_run(r, i);
		if (!block_table_prepare(t, run.first, run.count, (enum block_state)run.state))
			return false;
		block_table_set(t, run.first, run.count, (enum block_state)run.state);
		block_table_tidy(t, run.first, run.count);
	}
	return true;
}

bool block_table_page(const struct block_table *t, uint64_t page, uint8_t states[OVERLAY_PAGE_LEN])
{
	if (!t->pages[page])
		return false;
	memcpy(states, t->pages[page], OVERLAY_PAGE_LEN);
	return true;
}

/* --- pending set --- */

bool pending_reserve(struct pending *p, size_t cap)
{
	if (cap <= p->cap)
		return true;
	cap = MAX(cap, MAX(p->cap * 2, (size_t)256));
	struct overlay_run *runs = mem_realloc_array(p->runs, cap, sizeof(*runs));
	if (!runs)
		return false;
	p->runs = runs;
	p->cap = cap;
	return true;
}

void pending_add(struct pending *p, const struct overlay_run *run)
{
	struct overlay_run *last = p->count ? &p->runs[p->count - 1] : NULL;
	if (!last || last->state != run->state || run->first > last->first + last->count ||
	    last->first > run->first + run->count) {
		p->runs[p->count++] = *run;
		return;
	}
	uint64_t end = MAX(last->first + last->count, run->first + run->count);
	last->first = MIN(last->first, run->first);
	last->count = end - last->first;
}

/* --- range lock --- */

void range_lock_init(struct range_lock *l)
{
	memset(l, 0, sizeof(*l));
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->dropped, NULL);
}

void range_lock_release(struct range_lock *l)
{
	pthread_cond_destroy(&l->dropped);
	pthread_mutex_destroy(&l->lock);
}

static bool must_wait(const struct block_range *r)
{
	for (const struct block_range *o = r->before; o; o = o->before)
		if ((o->exclusive || r->exclusive) && o->first < r->first + r->count &&
		    r->first < o->first + o->count)
			return true;
	return false;
}

void range_take(struct range_lock *l, struct block_range *r, uint64_t first, uint64_t count,
		bool exclusive)
{
	*r = (struct block_range){ .first = first, .count = count, .exclusive = exclusive };
	pthread_mutex_lock(&l->lock);
	r->before = l->newest;
	if (l->newest)
		l->newest->after = r;
	else
		l->oldest = r;
	l->newest = r;
	l->waiting++;
	while (must_wait(r))
		pthread_cond_wait(&l->dropped, &l->lock);
	l->waiting--;
	pthread_mutex_unlock(&l->lock);
}

void range_drop(struct range_lock *l, struct block_range *r)
{
	pthread_mutex_lock(&l->lock);
	*(r->before ? &r->before->after : &l->oldest) = r->after;
	*(r->after ? &r->after->before : &l->newest) = r->before;
	if (l->waiting)
		pthread_cond_broadcast(&l->dropped);
	pthread_mutex_unlock(&l->lock);
}
