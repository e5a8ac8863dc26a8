// SPDX-License-Identifier: GPL-3.0-or-later
/* The rate limit, on a clock of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rate.h"

#include "base/banned.h"

#define SECOND UINT64_C(1000000000)

struct fake {
	uint64_t now, longest;
	unsigned sleeps, stop_after;
	volatile int stop;
};

static uint64_t fake_now(void *opaque)
{
	return ((struct fake *)opaque)->now;
}

static void fake_sleep(void *opaque, uint64_t ns)
{
	struct fake *f = opaque;

	f->now += ns;
	f->longest = MAX(f->longest, ns);
	if (++f->sleeps == f->stop_after)
		f->stop = ERR_TERMINATED;
}

static struct rate *make(struct fake *f, uint64_t bytes)
{
	struct rate_clock clock = { .now = fake_now, .sleep = fake_sleep, .opaque = f };
	struct rate *r;

	assert_int_equal(rate_new(bytes, &f->stop, &clock, &r, NULL), 0);
	return r;
}

static void test_no_limit(void **state)
{
	struct rate *r = (struct rate *)1;

	(void)state;
	assert_int_equal(rate_new(0, NULL, NULL, &r, NULL), 0);
	assert_null(r);
	assert_int_equal(rate_take(r, UINT64_MAX, NULL), 0);
	rate_free(r);
}

/* The mean is the rate, whatever the pieces are. */
static void test_mean(void **state)
{
	const uint64_t pieces[] = { 1, 1000, 64 * KiB, 3 * MiB };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
		struct fake f = { .now = 7 * SECOND };
		struct rate *r = make(&f, MiB);
		uint64_t total = 0, wanted;

		while (f.now < 17 * SECOND && total < 100 * MiB) {
			uint64_t before = f.now;

			assert_int_equal(rate_take(r, pieces[i], NULL), 0);
			total += pieces[i];
			assert_true(f.now >= before);
			if (pieces[i] == 1 && total > 20000)
				break;
		}
		/* what was taken but the last piece, less the burst, took its time */
		wanted = (uint64_t)((double)(total - pieces[i]) / (double)MiB * (double)SECOND);
		assert_true(f.now - 7 * SECOND + SECOND / 4 + 1000000 >= wanted);
		assert_true(f.now - 7 * SECOND <= wanted + 1000000);
		rate_free(r);
	}
}

/* What was not used does not add up. */
static void test_burst(void **state)
{
	struct fake f = { .now = SECOND };
	struct rate *r = make(&f, 1000);

	(void)state;
	f.now += 3600 * SECOND;
	assert_int_equal(rate_take(r, 250, NULL), 0);
	assert_int_equal(f.sleeps, 0);
	assert_int_equal(rate_take(r, 1000, NULL), 0); /* nothing is owed yet: goes into debt */
	assert_int_equal(f.sleeps, 0);
	assert_int_equal(rate_take(r, 1, NULL), 0);
	assert_int_equal(f.now, 3602 * SECOND);
	assert_true(f.longest <= SECOND / 10);
	rate_free(r);
}

static void test_stop(void **state)
{
	struct fake f = { .now = SECOND, .stop_after = 3 };
	struct rate *r = make(&f, 1);
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(rate_take(r, UINT64_MAX, &err), 0);
	assert_int_equal(rate_take(r, 1, &err), ERR_TERMINATED);
	assert_int_equal(f.sleeps, 3);
	assert_int_equal(err.code, ERR_TERMINATED);
	rate_free(r);
}

/* The real clock only goes forward and the call comes back. */
static void test_real(void **state)
{
	struct rate *r;
	uint64_t begun = time_mono_ns();

	(void)state;
	assert_int_equal(rate_new(GiB, NULL, NULL, &r, NULL), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(rate_take(r, 16 * MiB, NULL), 0);
	assert_true(time_mono_ns() > begun);
	rate_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_limit), cmocka_unit_test(test_mean),
		cmocka_unit_test(test_burst),	 cmocka_unit_test(test_stop),
		cmocka_unit_test(test_real),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
