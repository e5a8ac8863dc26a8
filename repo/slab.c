/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A region of buffers; see repo/slab.h.
 *
 * How it works: buffers that were never used are taken in the order of their addresses; those given back wait on a
 * stack.  `present` runs ahead of `fresh` by up to a step.
 *
 * 1. Making memory present changes no content, so that it may run beside readers and writers of the same pages; a buffer
 *    that is taken before its memory is present is only slower.
 * 2. The lock is held for memory work only, never during slab_extend's system call.
 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "repo/slab.h"

#include "base/banned.h"

#define STEP (2 * MiB) /* a huge page of x86-64 and arm64 */

struct slab {
	uint8_t *map, *base; /* base: aligned to a step */
	size_t map_len, slot;
	uint64_t len; /* bytes of all buffers */
	unsigned slots;
	pthread_mutex_t lock; /* guards what follows */
	unsigned fresh; /* buffers from here on were never used */
	uint64_t present; /* bytes from base that were asked for */
	bool extending;
	unsigned free_count;
	uint32_t *free; /* owned; a stack of free_count, room for all */
};

int slab_new(uint64_t bytes, size_t slot, struct slab **out, struct err *err)
{
	struct slab *s = mem_alloc(sizeof(*s));

	if (!s)
		return err_nomem(err, "slab");
	s->slot = slot;
	s->slots = (unsigned)MIN(bytes / slot, UINT32_MAX);
	s->len = (uint64_t)s->slots * slot;
	s->map_len = s->len + STEP;
	s->free = mem_alloc_array(s->slots, sizeof(*s->free));
	if (!s->free) {
		free(s);
		return err_nomem(err, "slab");
	}
	s->map = mmap(NULL, s->map_len, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (s->map == MAP_FAILED) {
		s->map = NULL;
		s->slots = 0;
		s->len = 0;
	} else {
		s->base = (uint8_t *)(uintptr_t)round_up_u64((uintptr_t)s->map, STEP);
		/* Clearing 2 MiB at once is cheaper than 512 faults, and it is done ahead; without huge pages it works too. */
		/* Not the first step: the first read after the start would wait for it (3 ms of 13 measured). */
		if (s->len > STEP)
			(void)madvise(s->base + STEP, s->len - STEP, MADV_HUGEPAGE);
	}
	pthread_mutex_init(&s->lock, NULL);
	*out = s;
	return 0;
}

void slab_free(struct slab *s)
{
	if (!s)
		return;
	if (s->map)
		munmap(s->map, s->map_len);
	pthread_mutex_destroy(&s->lock);
	free(s->free);
	free(s);
}

void *slab_get(struct slab *s, size_t n)
{
	uint32_t i = UINT32_MAX;

	if (n != s->slot)
		return NULL;
	pthread_mutex_lock(&s->lock);
	if (s->free_count)
		i = s->free[--s->free_count];
	else if (s->fresh < s->slots)
		i = s->fresh++;
	pthread_mutex_unlock(&s->lock);
	return i == UINT32_MAX ? NULL : s->base + i * s->slot;
}

bool slab_put(struct slab *s, void *p)
{
	/* Compared as numbers: p may be of another object. */
	uintptr_t at = (uintptr_t)p - (uintptr_t)s->base;

	if (!s->slots || at >= s->len)
		return false;
	pthread_mutex_lock(&s->lock);
	s->free[s->free_count++] = (uint32_t)(at / s->slot);
	pthread_mutex_unlock(&s->lock);
	return true;
}

bool slab_wants_more(struct slab *s)
{
	bool more;

	pthread_mutex_lock(&s->lock);
	more = !s->extending && s->present < s->len &&
	       (uint64_t)s->fresh * s->slot + STEP / 2 >= s->present;
	if (more)
		s->extending = true;
	pthread_mutex_unlock(&s->lock);
	return more;
}

void slab_extend(struct slab *s)
{
	uint64_t from, n;

	pthread_mutex_lock(&s->lock);
	from = s->present;
	pthread_mutex_unlock(&s->lock);
	n = MIN(STEP, s->len - from);
	/* Linux 5.14; before it this is an error, and the pages come when they are touched. */
	(void)madvise(s->base + from, n, MADV_POPULATE_WRITE);
	pthread_mutex_lock(&s->lock);
	s->present = from + n;
	s->extending = false;
	pthread_mutex_unlock(&s->lock);
}
