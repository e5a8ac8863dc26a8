// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The limit is kept as one number, the moment at which everything taken so far is paid for (the "theoretical arrival
 * time" of the generic cell rate algorithm, ITU-T I.371 annex A): taking n bytes moves it by n / rate.
 *
 * Invariants:
 *  1. `paid` is never more than a quarter of a second behind the clock: what was not used does not add up.
 *  2. The lock is held for memory work only; waiting is done outside.
 */
#include "base/rate.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/banned.h"

#define SECOND_NS UINT64_C(1000000000)
#define BURST_NS (SECOND_NS / 4)
#define SLICE_NS (SECOND_NS / 10) /* how long a stop flag may go unseen */

struct rate {
	uint64_t bytes; /* a second */
	const volatile int *stop;
	struct rate_clock clock;
	pthread_mutex_t lock; /* guards paid */
	uint64_t paid; /* nanoseconds of the clock */
};

static uint64_t mono_now(void *opaque)
{
	(void)opaque;
	return time_mono_ns();
}

static void mono_sleep(void *opaque, uint64_t ns)
{
	(void)opaque;
	time_sleep_ms((unsigned)div_round_up(ns, 1000000));
}

int rate_new(uint64_t bytes, const volatile int *stop, const struct rate_clock *clock,
	     struct rate **out, struct err *err)
{
	struct rate *r;

	if (!bytes) {
		*out = NULL;
		return 0;
	}
	r = mem_alloc(sizeof(*r));
	if (!r)
		return err_nomem(err, "rate limit");
	r->bytes = bytes;
	r->stop = stop;
	r->clock = clock ? *clock : (struct rate_clock){ .now = mono_now, .sleep = mono_sleep };
	pthread_mutex_init(&r->lock, NULL);
	r->paid = r->clock.now(r->clock.opaque);
	*out = r;
	return 0;
}

void rate_free(struct rate *r)
{
	if (!r)
		return;
	pthread_mutex_destroy(&r->lock);
	free(r);
}

/* Nanoseconds that n bytes cost; saturates at a century. */
static uint64_t cost(const struct rate *r, uint64_t n)
{
	const uint64_t most = 100u * 366u * 86400u * SECOND_NS;
	uint64_t whole = n / r->bytes;

	if (whole >= most / SECOND_NS)
		return most;
	return whole * SECOND_NS +
	       (uint64_t)((double)(n % r->bytes) / (double)r->bytes * (double)SECOND_NS);
}

/* The moment from which on these bytes may be moved. */
static uint64_t reserve(struct rate *r, uint64_t now, uint64_t n)
{
	uint64_t oldest = now > BURST_NS ? now - BURST_NS : 0, due;

	pthread_mutex_lock(&r->lock);
	r->paid = MAX(r->paid, oldest);
	due = r->paid;
	if (add_overflow(r->paid, cost(r, n), &r->paid))
		r->paid = UINT64_MAX;
	pthread_mutex_unlock(&r->lock);
	return due;
}

int rate_take(struct rate *r, uint64_t n, struct err *err)
{
	uint64_t now, due;

	if (!r)
		return 0;
	now = r->clock.now(r->clock.opaque);
	due = reserve(r, now, n);
	while (now < due) {
		int code = r->stop ? *r->stop : 0;

		if (code)
			return err_set(err, code, "%s", err_code_sentence(code));
		r->clock.sleep(r->clock.opaque, MIN(due - now, SLICE_NS));
		now = r->clock.now(r->clock.opaque);
	}
	return 0;
}
