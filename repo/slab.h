/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Buffers of one size out of one region of memory: those of the cache of decoded chunks.
 *
 * malloc kept a heap for each of a server's many threads, which together grew a third over what the cache counts, and a
 * fresh buffer of 64 KiB cost its reader sixteen page faults.  Here the region's size is the bound, buffers are used
 * again last in, first out, and memory is made present in steps before it is needed, by whoever calls slab_extend().
 *
 * Any thread.
 */
#ifndef LIVEPOINT_REPO_SLAB_H
#define LIVEPOINT_REPO_SLAB_H

#include "base/base.h"

struct slab;

/* Room for `bytes` / `slot` buffers of `slot` bytes, as address space; where there is none, a slab without buffers. */
int slab_new(uint64_t bytes, size_t slot, struct slab **out, struct err *err);
void slab_free(struct slab *s); /* buffers included */
/* A buffer with any content, the caller's until slab_put; NULL: all are taken, or n is not their size. */
void *slab_get(struct slab *s, size_t n);
/* False: p is none of its buffers, and nothing was done. */
bool slab_put(struct slab *s, void *p);
/* Should somebody call slab_extend() soon?  True once for each step. */
bool slab_wants_more(struct slab *s);
/* Makes the next step present; takes some 0.1 ms. */
void slab_extend(struct slab *s);

#endif
