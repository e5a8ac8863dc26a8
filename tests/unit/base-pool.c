// SPDX-License-Identifier: GPL-3.0-or-later
/* Pool and queue: order of submission whatever the durations, serial twin, contexts, signals. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <pthread.h>

#include <cmocka.h>

#include "base/pool.h"

#include "base/banned.h"

#define JOBS 500

struct work {
	struct pool_job job;
	uint32_t input, output;
	unsigned us; /* how long it takes */
	bool signals_blocked;
};

static atomic_uint running, most_running, runs;

static void run_work(struct pool_job *job, void *ctx)
{
	struct work *w = container_of(job, struct work, job);
	unsigned now = atomic_fetch_add(&running, 1) + 1, most = atomic_load(&most_running);
	uint64_t end = time_mono_ns() + (uint64_t)w->us * 1000;
	sigset_t mask;

	while (now > most && !atomic_compare_exchange_weak(&most_running, &most, now))
		;
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	w->signals_blocked = sigismember(&mask, SIGTERM) && sigismember(&mask, SIGINT);
	if (ctx)
		++*(unsigned *)ctx;
	if (w->us >= 1000)
		time_sleep_ms(w->us / 1000);
	while (time_mono_ns() < end)
		;
	w->output = check_crc32c(&w->input, sizeof(w->input));
	atomic_fetch_add(&runs, 1);
	atomic_fetch_sub(&running, 1);
}

/* Runs JOBS jobs through a queue; returns a check over the outputs in the order in which they came. */
static uint32_t run_all(unsigned threads, unsigned depth, bool ready_first)
{
	struct work *works = calloc(JOBS, sizeof(*works));
	uint32_t outputs[JOBS];
	struct err err = ERR_INIT;
	struct pool *pool;
	struct queue *q;
	unsigned pushed = 0, popped = 0;

	assert_int_equal(pool_new(threads, NULL, &pool, &err), 0);
	assert_int_equal(pool_threads(pool), threads);
	assert_int_equal(queue_new(pool, depth, &q, &err), 0);
	assert_null(queue_pop(q));
	while (popped < JOBS) {
		struct pool_job *job = NULL;

		if (pushed < JOBS && !queue_full(q)) {
			struct work *w = &works[pushed];

			w->job.run = run_work;
			w->input = pushed++;
			w->us = random() % 8 ? (unsigned)random() % 20 : 1000;
			queue_push(q, &w->job);
			assert_true(pushed - popped <= depth);
			if (!ready_first)
				continue;
		}
		job = ready_first ? queue_pop_ready(q) : queue_pop(q);
		if (!job && pushed == JOBS)
			job = queue_pop(q);
		if (!job)
			continue;
		assert_ptr_equal(job, &works[popped].job);
		assert_true(threads == 0 || works[popped].signals_blocked);
		outputs[popped] = works[popped].output;
		popped++;
	}
	assert_null(queue_pop(q));
	assert_null(queue_pop_ready(q));
	queue_free(q);
	pool_free(pool);
	free(works);
	return check_crc32c(outputs, sizeof(outputs));
}

static void test_order(void **state)
{
	static const unsigned threads[] = { 1, 2, 3, 8, 64 }, depths[] = { 1, 2, 7, 100, 1000 };
	uint32_t serial = run_all(0, 16, false);
	size_t i;

	(void)state;
	assert_int_equal(run_all(0, 1, true), serial);
	for (i = 0; i < ARRAY_SIZE(threads); i++) {
		atomic_store(&most_running, 0);
		assert_int_equal(run_all(threads[i], depths[i], false), serial);
		assert_true(atomic_load(&most_running) <= threads[i]);
		assert_int_equal(run_all(threads[i], depths[ARRAY_SIZE(depths) - 1 - i], true),
				 serial);
	}
}

/* Pool_free runs what is left; queue_free waits for what is under way. */
static void test_free_waits(void **state)
{
	static struct work works[40];
	struct err err = ERR_INIT;
	struct pool *pool;
	struct queue *q;
	unsigned i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(works); i++)
		works[i] = (struct work){ .job.run = run_work, .us = 1000 };
	atomic_store(&runs, 0);
	assert_int_equal(pool_new(3, NULL, &pool, &err), 0);
	assert_int_equal(queue_new(pool, 20, &q, &err), 0);
	for (i = 0; i < 20; i++)
		queue_push(q, &works[i].job);
	queue_free(q);
	assert_int_equal(atomic_load(&runs), 20);
	for (; i < 40; i++)
		pool_submit(pool, &works[i].job);
	pool_free(pool);
	assert_int_equal(atomic_load(&runs), 40);
}

static atomic_uint made, dropped, counted;

static void *make_ctx(void *opaque)
{
	assert_ptr_equal(opaque, &made);
	atomic_fetch_add(&made, 1);
	return calloc(1, sizeof(unsigned));
}

static void drop_ctx(void *ctx)
{
	atomic_fetch_add(&counted, *(unsigned *)ctx);
	atomic_fetch_add(&dropped, 1);
	free(ctx);
}

static void test_contexts(void **state)
{
	static const unsigned threads[] = { 0, 1, 4 };
	const struct pool_ctx_ops ops = { .make = make_ctx, .drop = drop_ctx, .opaque = &made };
	static struct work works[50];
	struct err err = ERR_INIT;
	struct pool *pool;
	unsigned i, k;

	(void)state;
	for (k = 0; k < ARRAY_SIZE(threads); k++) {
		atomic_store(&made, 0);
		atomic_store(&dropped, 0);
		atomic_store(&counted, 0);
		assert_int_equal(pool_new(threads[k], &ops, &pool, &err), 0);
		for (i = 0; i < ARRAY_SIZE(works); i++) {
			works[i] = (struct work){ .job.run = run_work, .us = 100 };
			pool_submit(pool, &works[i].job);
		}
		pool_free(pool);
		assert_in_range(atomic_load(&made), 1, MAX(threads[k], 1u));
		assert_int_equal(atomic_load(&dropped), atomic_load(&made));
		assert_int_equal(atomic_load(&counted), ARRAY_SIZE(works));
	}
}

/* Several threads submit to one pool; with the serial twin they must exclude each other. */
static void *submitter(void *pool)
{
	struct work works[100];
	struct queue *q;
	unsigned i;

	if (queue_new(pool, 5, &q, NULL) < 0)
		return NULL;
	for (i = 0; i < ARRAY_SIZE(works); i++) {
		works[i] = (struct work){ .job.run = run_work, .us = 5 };
		if (queue_full(q))
			queue_pop(q);
		queue_push(q, &works[i].job);
	}
	queue_free(q);
	return pool;
}

static void test_many_submitters(void **state)
{
	static const unsigned threads[] = { 0, 2, 16 };
	const struct pool_ctx_ops ops = { .make = make_ctx, .drop = drop_ctx, .opaque = &made };
	struct err err = ERR_INIT;
	pthread_t ids[8];
	struct pool *pool;
	void *result;
	unsigned i, k;

	(void)state;
	for (k = 0; k < ARRAY_SIZE(threads); k++) {
		atomic_store(&counted, 0);
		atomic_store(&most_running, 0);
		assert_int_equal(pool_new(threads[k], &ops, &pool, &err), 0);
		for (i = 0; i < ARRAY_SIZE(ids); i++)
			assert_int_equal(pthread_create(&ids[i], NULL, submitter, pool), 0);
		for (i = 0; i < ARRAY_SIZE(ids); i++) {
			pthread_join(ids[i], &result);
			assert_ptr_equal(result, pool);
		}
		pool_free(pool);
		assert_int_equal(atomic_load(&counted), 800);
		assert_true(atomic_load(&most_running) <= MAX(threads[k], 1u));
	}
}

struct nested {
	struct pool_job job;
	struct pool *pool;
	struct work inner;
};

static void run_nested(struct pool_job *job, void *ctx)
{
	struct nested *n = container_of(job, struct nested, job);

	(void)ctx;
	n->inner.job.run = run_work;
	pool_submit(n->pool, &n->inner.job);
}

static void test_job_submits_job(void **state)
{
	static const unsigned threads[] = { 0, 1 };
	struct err err = ERR_INIT;
	unsigned k;

	(void)state;
	for (k = 0; k < ARRAY_SIZE(threads); k++) {
		struct nested n = { .job.run = run_nested };

		atomic_store(&runs, 0);
		assert_int_equal(pool_new(threads[k], NULL, &n.pool, &err), 0);
		pool_submit(n.pool, &n.job);
		if (!threads[k])
			assert_int_equal(atomic_load(&runs), 1);
		pool_free(n.pool);
		assert_int_equal(atomic_load(&runs), 1);
	}
}

struct numbered {
	struct pool_job job;
	atomic_uint *next;
	unsigned turn; /* fills */
};

static void run_numbered(struct pool_job *job, void *ctx)
{
	struct numbered *n = container_of(job, struct numbered, job);

	(void)ctx;
	n->turn = atomic_fetch_add(n->next, 1);
}

/* While the only worker is busy, four jobs come; the last two are urgent and go before the others, in their order. */
static void test_submit_urgent(void **state)
{
	atomic_uint next = 0;
	struct work busy = { .job.run = run_work, .us = 50000 };
	struct numbered jobs[4];
	struct err err = ERR_INIT;
	struct pool *pool;

	(void)state;
	assert_int_equal(pool_new(1, NULL, &pool, &err), 0);
	pool_submit(pool, &busy.job);
	while (!atomic_load(&running))
		time_sleep_ms(1);
	for (unsigned i = 0; i < ARRAY_SIZE(jobs); i++) {
		jobs[i] = (struct numbered){ .job.run = run_numbered, .next = &next };
		if (i >= 2)
			pool_submit_urgent(pool, &jobs[i].job);
		else
			pool_submit(pool, &jobs[i].job);
	}
	pool_free(pool);
	assert_int_equal(jobs[2].turn, 0);
	assert_int_equal(jobs[3].turn, 1);
	assert_int_equal(jobs[0].turn, 2);
	assert_int_equal(jobs[1].turn, 3);

	/* Into an empty list, and in the serial twin. */
	for (unsigned threads = 0; threads < 2; threads++) {
		assert_int_equal(pool_new(threads, NULL, &pool, &err), 0);
		pool_submit_urgent(pool, &jobs[0].job);
		pool_submit(pool, &jobs[1].job);
		pool_free(pool);
		assert_true(jobs[0].turn < jobs[1].turn);
	}
	assert_int_equal(atomic_load(&next), 8);
}

static void test_bad_arguments(void **state)
{
	struct err err = ERR_INIT;
	struct pool *pool;
	struct queue *q;
	unsigned n;

	(void)state;
	assert_int_equal(pool_new(257, NULL, &pool, &err), ERR_INVALID);
	for (n = 1; n <= 2; n++) {
		mem_fail_after(n);
		assert_int_equal(pool_new(2, NULL, &pool, &err), ERR_NOMEM);
	}
	assert_int_equal(pool_new(0, NULL, &pool, &err), 0);
	assert_int_equal(queue_new(pool, 0, &q, &err), ERR_INVALID);
	for (n = 1; n <= 2; n++) {
		mem_fail_after(n);
		assert_int_equal(queue_new(pool, 3, &q, &err), ERR_NOMEM);
	}
	pool_free(pool);
	pool_free(NULL);
	queue_free(NULL);
	assert_true(pool_default_threads() >= 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),		cmocka_unit_test(test_free_waits),
		cmocka_unit_test(test_contexts),	cmocka_unit_test(test_many_submitters),
		cmocka_unit_test(test_job_submits_job), cmocka_unit_test(test_bad_arguments),
		cmocka_unit_test(test_submit_urgent),
	};

	srandom(20261120);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
