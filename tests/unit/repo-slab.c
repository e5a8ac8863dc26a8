/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Buffers of repo/slab.h: as many as fit, none to two owners at once, content kept while memory is made present. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <pthread.h>
#include <sched.h>

#include <cmocka.h>

#include "repo/slab.h"

#include "base/banned.h"

#define SLOT (64 * KiB)
#define SLOTS 100u /* not a whole number of steps */

static struct slab *make(uint64_t bytes)
{
	struct err err = ERR_INIT;
	struct slab *s;

	assert_int_equal(slab_new(bytes, SLOT, &s, &err), 0);
	return s;
}

static void test_all(void **state)
{
	struct slab *s = make(SLOTS * SLOT + 1);
	uint8_t *p[SLOTS], outside;

	(void)state;
	assert_null(slab_get(s, SLOT - 1));
	assert_null(slab_get(s, 2 * SLOT));
	for (unsigned i = 0; i < SLOTS; i++) {
		p[i] = slab_get(s, SLOT);
		assert_non_null(p[i]);
		memset(p[i], (int)i, SLOT);
	}
	assert_null(slab_get(s, SLOT));
	for (unsigned i = 0; i < SLOTS; i++)
		for (size_t k = 0; k < SLOT; k += 512)
			assert_int_equal(p[i][k], (uint8_t)i);
	assert_false(slab_put(s, &outside));
	assert_false(slab_put(s, NULL));
	assert_null(slab_get(s, SLOT));
	/* last in, first out */
	assert_true(slab_put(s, p[7]));
	assert_true(slab_put(s, p[50]));
	assert_ptr_equal(slab_get(s, SLOT), p[50]);
	assert_ptr_equal(slab_get(s, SLOT), p[7]);
	assert_null(slab_get(s, SLOT));
	slab_free(s);
}

static void test_less_than_one(void **state)
{
	struct slab *s = make(SLOT - 1);

	(void)state;
	assert_null(slab_get(s, SLOT));
	assert_false(slab_put(s, s));
	assert_false(slab_wants_more(s));
	slab_free(s);
	slab_free(NULL);
}

/* All of it becomes present, in steps, each asked for once, and ahead of what is taken; content stays. */
static void test_extend(void **state)
{
	struct slab *s = make(SLOTS * SLOT);
	uint8_t *first = slab_get(s, SLOT);
	unsigned steps = 0, got = 1;

	(void)state;
	assert_non_null(first);
	memset(first, 0x5a, SLOT);
	for (; got <= SLOTS; got++) {
		if (slab_wants_more(s)) {
			assert_false(slab_wants_more(s));
			slab_extend(s);
			steps++;
		}
		assert_true(got == SLOTS || slab_get(s, SLOT));
	}
	assert_int_equal(steps, (SLOTS * SLOT + 2 * MiB - 1) / (2 * MiB));
	assert_false(slab_wants_more(s));
	for (size_t k = 0; k < SLOT; k++)
		assert_int_equal(first[k], 0x5a);
	slab_free(s);
}

/* --- many threads --- */

struct user {
	struct slab *slab;
	unsigned number;
	atomic_uint *bad;
};

static void *use(void *opaque)
{
	struct user *u = opaque;

	for (unsigned i = 0; i < 3000; i++) {
		uint64_t *p = slab_get(u->slab, SLOT);
		uint64_t mark = (uint64_t)u->number << 32 | i;

		if (slab_wants_more(u->slab))
			slab_extend(u->slab);
		if (!p)
			continue;
		p[0] = p[SLOT / 8 - 1] = mark;
		if (i % 16 == 0)
			sched_yield();
		if (p[0] != mark || p[SLOT / 8 - 1] != mark)
			atomic_fetch_add(u->bad, 1);
		if (!slab_put(u->slab, p))
			atomic_fetch_add(u->bad, 1);
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct slab *s = make(40 * SLOT);
	pthread_t threads[8];
	struct user users[8];
	atomic_uint bad = 0;
	unsigned left = 0;

	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		users[i] = (struct user){ .slab = s, .number = i, .bad = &bad };
		assert_int_equal(pthread_create(&threads[i], NULL, use, &users[i]), 0);
	}
	for (unsigned i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(bad, 0);
	while (slab_get(s, SLOT))
		left++;
	assert_int_equal(left, 40);
	slab_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all),
		cmocka_unit_test(test_less_than_one),
		cmocka_unit_test(test_extend),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
