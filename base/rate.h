/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A limit of bytes a second, shared by any number of threads: a bucket that fills at the rate and holds a quarter of a
 * second's worth.  Whoever takes more than is in it goes into debt, and the next one waits until the debt is paid: so a
 * single large piece never waits for itself, and the mean holds.
 */
#ifndef LIVEPOINT_BASE_RATE_H
#define LIVEPOINT_BASE_RATE_H

#include "base/base.h"

struct rate;

/* For tests: another clock.  sleep may return early. */
struct rate_clock {
	uint64_t (*now)(void *opaque); /* nanoseconds, never backwards */
	void (*sleep)(void *opaque, uint64_t ns);
	void *opaque;
};

/* bytes: a second; 0: no limit, *out is NULL then, which rate_take() takes.  stop: set to an error code by a signal
 * handler, or NULL; borrowed.  clock: copied, or NULL: the monotonic one. */
int rate_new(uint64_t bytes, const volatile int *stop, const struct rate_clock *clock,
	     struct rate **out, struct err *err);
void rate_free(struct rate *r);
DEFINE_CLEANUP(rate, rate_free)
/* Waits until n bytes more may be moved; before they are.  The stop flag's code within a tenth of a second, as long as it
 * would wait.  Any thread. */
int rate_take(struct rate *r, uint64_t n, struct err *err);

#endif
