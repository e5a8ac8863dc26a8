/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Worker pool, and ordered queues on top of it.  After squashfs-tools-ng's threadpool.
 *
 * A pool runs jobs on a fixed number of threads, first come first served.  With 0 threads it is
 * the serial twin: pool_submit() runs the job before it returns; everything else is the same.
 * A queue hands finished jobs back in the order of their submission and bounds how many are under way.
 *
 * Job memory is the caller's (intrusive); it must stay until the job was handed back (queue) or has run
 * (pool_submit alone: the job's run function is the last to touch it).
 * Threads block all signals.  Lock order: queue, then pool; both are held for memory work only.
 */
#ifndef LIVEPOINT_BASE_POOL_H
#define LIVEPOINT_BASE_POOL_H

#include "base/base.h"

struct pool;
struct queue;

struct pool_job {
	void (*run)(struct pool_job *job, void *worker_ctx); /* set by the caller */
	struct pool_job *next; /* private to pool.c from here on */
	struct queue *queue;
	bool done;
};

/* Per-worker context (a zstd context, say): made lazily by the worker itself, freed at pool_free. */
struct pool_ctx_ops {
	void *(*make)(void *opaque); /* NULL: out of memory, run is then called with NULL */
	void (*drop)(void *ctx);
	void *opaque;
};

/* threads: 0 to 256.  ops may be NULL (ctx is NULL then) and is copied. */
int pool_new(unsigned threads, const struct pool_ctx_ops *ops, struct pool **out, struct err *err);
/* Runs what is still submitted, ends the threads. */
void pool_free(struct pool *pool);
unsigned pool_threads(const struct pool *pool);
/* Any thread. */
void pool_submit(struct pool *pool, struct pool_job *job);
/* The same, before all jobs that wait and were not urgent: for what is short and lets those go faster. */
void pool_submit_urgent(struct pool *pool, struct pool_job *job);
/* Number of CPUs this process may use (sched_getaffinity), at least 1. */
unsigned pool_default_threads(void);

/* depth: most jobs between push and pop, at least 1. */
int queue_new(struct pool *pool, unsigned depth, struct queue **out, struct err *err);
/* Waits for jobs under way; popped or not, they remain the caller's. */
void queue_free(struct queue *q);
bool queue_full(struct queue *q);
/* One thread at a time pushes; must not be called when full (that is the caller's back-pressure: pop first). */
void queue_push(struct queue *q, struct pool_job *job);
/* Waits for the oldest job and returns it; NULL if none is under way.  One thread at a time. */
struct pool_job *queue_pop(struct queue *q);
/* The same, but NULL too when the oldest is not finished yet. */
struct pool_job *queue_pop_ready(struct queue *q);

DEFINE_CLEANUP(pool, pool_free)
DEFINE_CLEANUP(queue, queue_free)

#endif
