// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Worker pool and ordered queues; see base/pool.h.
 *
 * How it works: jobs wait in two linked lists, urgent ones and others; each worker takes the first, runs it without a lock and
 * marks it done in its queue.  A queue is a ring of pointers in the order of submission.  The serial
 * twin runs the list in the submitting thread: whoever finds nobody at it (a busy mark) empties it.
 *
 * Invariants:
 *  1. No lock is held while a job runs or a context is made.
 *  2. A job that belongs to no queue is not touched after its run function returned.
 *  3. A worker's context is used by one thread at a time: its own, or the one with the busy mark.
 *  4. A queue is not touched by a worker after it has released the queue's lock with done set.
 */
#include "base/pool.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/banned.h"

#define POOL_THREADS_MAX 256

struct worker {
	struct pool *pool;
	pthread_t thread;
	void *ctx; /* NULL until made; the worker's own */
};

struct job_list {
	struct pool_job *first, **last;
};

struct pool {
	unsigned nthreads;
	struct pool_ctx_ops ops;
	pthread_mutex_t lock; /* innermost */
	pthread_cond_t work; /* a job came, or stopping */
	pthread_cond_t idle; /* serial twin: busy ended */
	struct job_list urgent, waiting; /* lock; those before these */
	bool stopping; /* lock */
	bool busy; /* lock; serial twin only: serial_owner runs jobs */
	pthread_t serial_owner; /* lock; valid while busy */
	struct worker *workers; /* nthreads of them, or one for the serial twin */
};

struct queue {
	struct pool *pool;
	unsigned depth;
	pthread_mutex_t lock; /* before the pool's */
	pthread_cond_t changed; /* the oldest job is done, or all are */
	struct pool_job **ring; /* lock; depth entries */
	unsigned head, count; /* lock; oldest job, jobs between push and pop */
	unsigned running; /* lock; jobs that are not done */
};

unsigned pool_default_threads(void)
{
	cpu_set_t set;
	long n = 0;

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		n = CPU_COUNT(&set);
	if (n < 1) /* more CPUs than the set has bits */
		n = sysconf(_SC_NPROCESSORS_ONLN);
	return (unsigned)MAX(1L, MIN(n, (long)POOL_THREADS_MAX));
}

unsigned pool_threads(const struct pool *pool)
{
	return pool->nthreads;
}

static void queue_job_done(struct queue *q, struct pool_job *job)
{
	pthread_mutex_lock(&q->lock);
	job->done = true;
	q->running--;
	if (q->ring[q->head] == job || !q->running)
		pthread_cond_broadcast(&q->changed);
	pthread_mutex_unlock(&q->lock);
}

static void worker_run(struct worker *worker, struct pool_job *job)
{
	const struct pool_ctx_ops *ops = &worker->pool->ops;
	struct queue *q = job->queue;

	if (!worker->ctx && ops->make)
		worker->ctx = ops->make(ops->opaque);
	job->run(job, worker->ctx);
	if (q)
		queue_job_done(q, job);
}

static struct pool_job *list_take_locked(struct job_list *l)
{
	struct pool_job *job = l->first;

	if (job) {
		l->first = job->next;
		if (!l->first)
			l->last = &l->first;
	}
	return job;
}

static struct pool_job *pool_take_locked(struct pool *pool)
{
	struct pool_job *job = list_take_locked(&pool->urgent);

	return job ? job : list_take_locked(&pool->waiting);
}

static void *worker_main(void *opaque)
{
	struct worker *worker = opaque;
	struct pool *pool = worker->pool;

	for (;;) {
		struct pool_job *job;

		pthread_mutex_lock(&pool->lock);
		while (!(job = pool_take_locked(pool)) && !pool->stopping)
			pthread_cond_wait(&pool->work, &pool->lock);
		pthread_mutex_unlock(&pool->lock);
		if (!job)
			return NULL;
		worker_run(worker, job);
	}
}

/* The serial twin.  A job submitted by a running job of the same pool waits for that one: its turn comes
 * before the outer pool_submit() returns. */
static void serial_run(struct pool *pool)
{
	struct pool_job *job;

	pthread_mutex_lock(&pool->lock);
	if (pool->busy && pthread_equal(pool->serial_owner, pthread_self())) {
		pthread_mutex_unlock(&pool->lock);
		return;
	}
	while (pool->busy)
		pthread_cond_wait(&pool->idle, &pool->lock);
	pool->busy = true;
	pool->serial_owner = pthread_self();
	while ((job = pool_take_locked(pool))) {
		pthread_mutex_unlock(&pool->lock);
		worker_run(&pool->workers[0], job);
		pthread_mutex_lock(&pool->lock);
	}
	pool->busy = false;
	pthread_cond_signal(&pool->idle);
	pthread_mutex_unlock(&pool->lock);
}

static void pool_enqueue(struct pool *pool, struct pool_job *job, struct job_list *l)
{
	job->next = NULL;
	pthread_mutex_lock(&pool->lock);
	*l->last = job;
	l->last = &job->next;
	pthread_cond_signal(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	if (!pool->nthreads)
		serial_run(pool);
}

void pool_submit(struct pool *pool, struct pool_job *job)
{
	job->queue = NULL;
	job->done = false;
	pool_enqueue(pool, job, &pool->waiting);
}

void pool_submit_urgent(struct pool *pool, struct pool_job *job)
{
	job->queue = NULL;
	job->done = false;
	pool_enqueue(pool, job, &pool->urgent);
}

/* Ends the first `started` threads and frees everything. */
static void pool_destroy(struct pool *pool, unsigned started)
{
	unsigned i, n = MAX(pool->nthreads, 1u);

	pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	for (i = 0; i < started; i++)
		pthread_join(pool->workers[i].thread, NULL);
	for (i = 0; i < n; i++)
		if (pool->workers[i].ctx && pool->ops.drop)
			pool->ops.drop(pool->workers[i].ctx);
	pthread_cond_destroy(&pool->idle);
	pthread_cond_destroy(&pool->work);
	pthread_mutex_destroy(&pool->lock);
	free(pool->workers);
	free(pool);
}

void pool_free(struct pool *pool)
{
	if (pool)
		pool_destroy(pool, pool->nthreads);
}

/* Starts the threads with all signals blocked; returns 0 or an errno value, and how many it started. */
static int pool_start_threads(struct pool *pool, unsigned *started)
{
	sigset_t all, old;
	unsigned i;
	int eno = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (i = 0; i < pool->nthreads; i++) {
		eno = pthread_create(&pool->workers[i].thread, NULL, worker_main,
				     &pool->workers[i]);
		if (eno)
			break;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	*started = i;
	return eno;
}

int pool_new(unsigned threads, const struct pool_ctx_ops *ops, struct pool **out, struct err *err)
{
	struct pool *pool;
	unsigned i, started;
	int eno;

	if (threads > POOL_THREADS_MAX)
		return err_set(err, ERR_INVALID, "%u threads are more than %u", threads,
			       POOL_THREADS_MAX);
	pool = mem_alloc(sizeof(*pool));
	if (!pool)
		return err_nomem(err, "worker pool");
	pool->workers = mem_alloc_array(MAX(threads, 1u), sizeof(*pool->workers));
	if (!pool->workers) {
		free(pool);
		return err_nomem(err, "worker pool");
	}
	pool->nthreads = threads;
	if (ops)
		pool->ops = *ops;
	pool->urgent.last = &pool->urgent.first;
	pool->waiting.last = &pool->waiting.first;
	for (i = 0; i < MAX(threads, 1u); i++)
		pool->workers[i].pool = pool;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->work, NULL);
	pthread_cond_init(&pool->idle, NULL);
	eno = pool_start_threads(pool, &started);
	if (eno) {
		pool_destroy(pool, started);
		return err_set_errno(err, ERR_FAILED, eno, "cannot start thread %u of %u",
				     started + 1, threads);
	}
	*out = pool;
	return 0;
}

int queue_new(struct pool *pool, unsigned depth, struct queue **out, struct err *err)
{
	struct queue *q;

	if (!depth)
		return err_set(err, ERR_INVALID, "a queue needs a depth of at least 1");
	q = mem_alloc(sizeof(*q));
	if (!q)
		return err_nomem(err, "queue");
	q->ring = mem_alloc_array(depth, sizeof(*q->ring));
	if (!q->ring) {
		free(q);
		return err_nomem(err, "queue");
	}
	q->pool = pool;
	q->depth = depth;
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->changed, NULL);
	*out = q;
	return 0;
}

void queue_free(struct queue *q)
{
	if (!q)
		return;
	pthread_mutex_lock(&q->lock);
	while (q->running)
		pthread_cond_wait(&q->changed, &q->lock);
	pthread_mutex_unlock(&q->lock);
	pthread_cond_destroy(&q->changed);
	pthread_mutex_destroy(&q->lock);
	free(q->ring);
	free(q);
}

bool queue_full(struct queue *q)
{
	bool full;

	pthread_mutex_lock(&q->lock);
	full = q->count == q->depth;
	pthread_mutex_unlock(&q->lock);
	return full;
}

void queue_push(struct queue *q, struct pool_job *job)
{
	job->queue = q;
	job->done = false;
	pthread_mutex_lock(&q->lock);
	assert(q->count < q->depth);
	q->ring[(q->head + (uint64_t)q->count) % q->depth] = job;
	q->count++;
	q->running++;
	pthread_mutex_unlock(&q->lock);
	pool_enqueue(q->pool, job, &q->pool->waiting);
}

static struct pool_job *queue_take_locked(struct queue *q)
{
	struct pool_job *job = q->ring[q->head];

	q->head = (q->head + 1) % q->depth;
	q->count--;
	return job;
}

struct pool_job *queue_pop(struct queue *q)
{
	struct pool_job *job = NULL;

	pthread_mutex_lock(&q->lock);
	while (q->count && !q->ring[q->head]->done)
		pthread_cond_wait(&q->changed, &q->lock);
	if (q->count)
		job = queue_take_locked(q);
	pthread_mutex_unlock(&q->lock);
	return job;
}

struct pool_job *queue_pop_ready(struct queue *q)
{
	struct pool_job *job = NULL;

	pthread_mutex_lock(&q->lock);
	if (q->count && q->ring[q->head]->done)
		job = queue_take_locked(q);
	pthread_mutex_unlock(&q->lock);
	return job;
}
