/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Index segments: of no, one and many records; what is found and what is not; merging; flipped bits; many threads
 * while segments come and go.  A segment is a hint: what it must never do is give a locator that was not put in, lose
 * one while it is whole, or harm the process.
 */
#include "tests/unit/store-help.h"

#include "base/banned.h"

/* The key of number i, spread by splitmix64's finaliser (Steele, Lea, Flood 2014); locator i + 1 in pack 1 + i / 1000. */
static void key_of(uint64_t i, uint8_t id[ID_LEN])
{
	for (unsigned k = 0; k < ID_LEN / 8; k++) {
		uint64_t x = i * 4 + k + 0x9e3779b97f4a7c15u;

		x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
		x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
		put_le64(id + 8 * k, x ^ (x >> 31));
	}
}

static uint64_t locator_of(uint64_t i)
{
	return locator_make(1 + i / 1000, (uint32_t)(i % 1000));
}

static void write_range(struct fixture *f, uint64_t number, uint64_t first, size_t n)
{
	struct index_entry *e = calloc(n + 1, sizeof(*e));
	struct store_stage *st;
	struct err err = ERR_INIT;
	uint8_t id[ID_LEN];

	assert_non_null(e);
	for (size_t i = 0; i < n; i++) {
		key_of(first + i, id);
		memcpy(e[i].key, id, SEGMENT_KEY_LEN);
		e[i].locator = locator_of(first + i);
	}
	ok(store_stage_begin(f->store, 1000 + number, &st, &err));
	ok(store_segment_write(st, number, e, n, &err));
	ok(store_stage_end(st, &err));
	free(e);
}

/* How many of the numbers first to first + n - 1 are found, in batches; anything but the right locator fails. */
static uint64_t found(struct store_index *x, uint64_t first, uint64_t n)
{
	enum { BATCH = 700 };
	static uint8_t ids[BATCH][ID_LEN];
	static struct index_query q[BATCH];
	uint64_t hits = 0;

	for (uint64_t at = 0; at < n; at += BATCH) {
		size_t count = MIN(n - at, BATCH);

		for (size_t i = 0; i < count; i++) {
			key_of(first + at + i, ids[i]);
			q[i] = (struct index_query){ .id = ids[i], .count = 3 };
		}
		store_index_lookup(x, q, count);
		for (size_t i = 0; i < count; i++) {
			assert_true(q[i].count <= INDEX_CANDIDATES);
			for (unsigned k = 0; k < q[i].count; k++)
				assert_int_equal(q[i].locators[k], locator_of(first + at + i));
			hits += q[i].count > 0;
		}
	}
	return hits;
}

static void test_sizes(void **state)
{
	static const size_t counts[] = { 0, 1, 2, 127, 128, 129, 170, 171, 5000, 100000 };
	struct err err = ERR_INIT;
	struct store_index *x;
	struct fixture f;

	(void)state;
	help_store(&f, 0, 0);
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		size_t n = counts[i];

		write_range(&f, i + 1, 0, n);
		ok(store_segment_check(f.store, i + 1, &err));
		ok(store_index_new(f.store, &x, &err));
		assert_int_equal(found(x, 0, n ? n : 10), 0); /* nothing is added yet */
		ok(store_index_add(x, i + 1, &err));
		assert_int_equal(found(x, 0, n), n);
		assert_int_equal(found(x, 1000000, 5000), 0);
		/* 10 bits of bloom filter and 4 bytes for up to 128 records, and little more */
		assert_true(store_index_memory(x) <= n * 14 / 10 + 256);
		store_index_drop(x, i + 1);
		assert_int_equal(found(x, 0, n ? n : 10), 0);
		assert_int_equal(store_index_memory(x), 0);
		store_index_free(x);
	}
	help_store_end(&f);
}

/* One key several times: at most four candidates; keys that share their first bytes, or all but the last, are apart. */
static void test_duplicates(void **state)
{
	struct index_entry e[600];
	uint8_t id[ID_LEN] = { 0 }, ends[2][ID_LEN];
	struct index_query q = { .id = id };
	struct err err = ERR_INIT;
	struct store_stage *st;
	struct store_index *x;
	struct fixture f;

	(void)state;
	help_store(&f, 0, 0);
	memset(ends[0], 0, ID_LEN);
	memset(ends[1], 0xff, ID_LEN);
	memset(e, 0, sizeof(e));
	for (unsigned i = 0; i < 600; i++) {
		memset(e[i].key, 0x55, SEGMENT_KEY_LEN);
		/* 0 to 99 are one key, then 498 neighbours, then both ends of all keys */
		if (i >= 598)
			memcpy(e[i].key, ends[i - 598], SEGMENT_KEY_LEN);
		else if (i >= 100) {
			e[i].key[SEGMENT_KEY_LEN - 1] = (uint8_t)i;
			e[i].key[SEGMENT_KEY_LEN - 2] = (uint8_t)(i >> 8);
		}
		e[i].locator = locator_make(7, i);
	}
	ok(store_stage_begin(f.store, 1, &st, &err));
	ok(store_segment_write(st, 1, e, 600, &err));
	ok(store_stage_end(st, &err));
	ok(store_segment_check(f.store, 1, &err));
	ok(store_index_new(f.store, &x, &err));
	ok(store_index_add(x, 1, &err));
	memset(id, 0x55, ID_LEN);
	store_index_lookup(x, &q, 1);
	assert_int_equal(q.count, INDEX_CANDIDATES);
	for (unsigned i = 0; i < q.count; i++)
		assert_true(locator_slot(q.locators[i]) < 100);
	for (unsigned i = 100; i < 598; i++) {
		id[SEGMENT_KEY_LEN - 1] = (uint8_t)i;
		id[SEGMENT_KEY_LEN - 2] = (uint8_t)(i >> 8);
		store_index_lookup(x, &q, 1);
		assert_int_equal(q.count, 1);
		assert_int_equal(q.locators[0], locator_make(7, i));
	}
	for (unsigned i = 0; i < 2; i++) {
		q.id = ends[i];
		store_index_lookup(x, &q, 1);
		assert_int_equal(q.count, 1);
		assert_int_equal(q.locators[0], locator_make(7, 598 + i));
	}
	/* the same segment twice: still four at most */
	ok(store_index_add(x, 1, &err));
	q.id = ends[0];
	store_index_lookup(x, &q, 1);
	assert_int_equal(q.count, 2);
	store_index_lookup(x, NULL, 0);
	store_index_free(x);
	help_store_end(&f);
}

/* A merge of several is their union, whatever their sizes; the old files stay for the caller to remove. */
static void test_merge(void **state)
{
	static const size_t counts[] = { 0, 1, 40000, 700, 0, 65536 };
	uint64_t old[ARRAY_SIZE(counts)], records = 0, total = 0, *numbers;
	struct err err = ERR_INIT;
	struct store_stage *st;
	struct store_index *x;
	struct fixture f;
	size_t count;

	(void)state;
	help_store(&f, 1, 0);
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		/* each overlaps the one before by a third: duplicates are kept, they are candidates */
		write_range(&f, i + 1, total - MIN(total, counts[i] / 3), counts[i]);
		total += counts[i] - MIN(total, counts[i] / 3);
		old[i] = i + 1;
	}
	ok(store_stage_begin(f.store, 77, &st, &err));
	ok(store_segment_merge(st, 50, old, ARRAY_SIZE(old), NULL, NULL, &records, &err));
	assert_int_equal(records, 1 + 40000 + 700 + 65536);
	ok(store_segment_merge(st, 51, NULL, 0, NULL, NULL, &records, &err));
	assert_int_equal(records, 0);
	/* a number that is taken is never replaced */
	assert_true(store_segment_merge(st, 3, old, 2, NULL, NULL, &records, &err) < 0);
	ok(store_stage_end(st, &err));
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
		ok(store_segment_remove(f.store, old[i], &err));
	ok(store_segments_list(f.store, &numbers, &count, &err));
	assert_int_equal(count, 2);
	assert_int_equal(numbers[0], 50);
	assert_int_equal(numbers[1], 51);
	free(numbers);
	ok(store_segment_check(f.store, 50, &err));
	ok(store_segment_check(f.store, 51, &err));
	ok(store_index_new(f.store, &x, &err));
	ok(store_index_add(x, 50, &err));
	ok(store_index_add(x, 51, &err));
	assert_int_equal(found(x, 0, total), total);
	assert_int_equal(found(x, total, 5000), 0);
	store_index_free(x);
	help_store_end(&f);
}

static bool keep_even(void *opaque, uint64_t locator)
{
	++*(unsigned *)opaque;
	return locator_slot(locator) % 2 == 0;
}

static bool keep_none(void *opaque, uint64_t locator)
{
	(void)opaque;
	(void)locator;
	return false;
}

/* A merge with a filter: what it refuses is not there, equal entries become one, the rest is found as before. */
static void test_merge_filter(void **state)
{
	uint64_t old[] = { 1, 2, 3 }, records = 0;
	struct err err = ERR_INIT;
	struct store_stage *st;
	struct store_index *x;
	struct fixture f;
	uint8_t id[ID_LEN];
	unsigned asked = 0;

	(void)state;
	help_store(&f, 0, 0);
	write_range(&f, 1, 0, 50000);
	write_range(&f, 2, 40000, 20000); /* 10 000 of them once more */
	write_range(&f, 3, 0, 0);
	ok(store_stage_begin(f.store, 77, &st, &err));
	ok(store_segment_merge(st, 50, old, 3, keep_even, &asked, &records, &err));
	assert_int_equal(records, 30000);
	assert_int_equal(asked, 2 * 60000);
	ok(store_segment_merge(st, 51, old, 3, keep_none, NULL, &records, &err));
	assert_int_equal(records, 0);
	ok(store_stage_end(st, &err));
	for (uint64_t n = 50; n <= 51; n++) {
		ok(store_segment_check(f.store, n, &err));
		ok(store_segment_records(f.store, n, &records, &err));
		assert_int_equal(records, n == 50 ? 30000 : 0);
	}
	ok(store_index_new(f.store, &x, &err));
	ok(store_index_add(x, 50, &err));
	ok(store_index_add(x, 51, &err));
	assert_true(store_index_memory(x) <= 30000 * 14 / 10 + 512);
	for (uint64_t i = 0; i < 60000; i += 7) {
		struct index_query q = { .id = id };

		key_of(i, id);
		store_index_lookup(x, &q, 1);
		assert_int_equal(q.count, locator_slot(locator_of(i)) % 2 == 0);
		if (q.count)
			assert_int_equal(q.locators[0], locator_of(i));
	}
	store_index_free(x);
	help_store_end(&f);
}

static void segment_path(const struct fixture *f, uint64_t number, char path[128])
{
	snprintf(path, 128, "%s/index/%016" PRIx64 ".seg", f->dir, number);
}

/* A flipped bit: refused when it is opened, or found by the check, and until then never a locator that is not in the
 * records as they are now. */
static void test_flips(void **state)
{
	enum { N = 900 };
	struct err err = ERR_INIT;
	struct buf whole = BUF_INIT;
	struct segment_header h;
	struct fixture f;
	char path[128];
	unsigned at_open = 0, at_check = 0;

	(void)state;
	help_store(&f, 0, 0);
	write_range(&f, 1, 0, N);
	segment_path(&f, 1, path);
	help_load(path, &whole);
	ok(segment_header_decode(whole.data, whole.len, &h, &err));
	assert_int_equal(h.bloom_offset + h.bloom_len, whole.len);
	for (size_t at = 0; at < whole.len; at += at < 160 || at > h.fence_offset ? 1 : 29) {
		bool in_records = at >= h.records_offset && at < h.fence_offset;
		struct store_index *x;

		whole.data[at] ^= (uint8_t)(1u << at % 8);
		help_save(path, whole.data, whole.len);
		ok(store_index_new(f.store, &x, &err));
		if (store_index_add(x, 1, &err) < 0) {
			at_open++;
			assert_false(in_records);
			/* bad and not there: the index goes on without it */
			assert_int_equal(store_index_memory(x), 0);
		} else {
			struct index_query q;
			uint8_t id[ID_LEN];
			unsigned lost = 0;

			assert_true(in_records);
			at_check++;
			assert_int_equal(store_segment_check(f.store, 1, &err), ERR_DAMAGED);
			for (unsigned i = 0; i < N; i += 7) {
				key_of(i, id);
				q.id = id;
				store_index_lookup(x, &q, 1);
				lost += q.count == 0;
			}
			/* a record that is out of order hides at most those of its fence entry */
			assert_true(lost <= 129);
		}
		store_index_free(x);
		whole.data[at] ^= (uint8_t)(1u << at % 8);
	}
	assert_true(at_open > 1000 && at_check > 100);

	/* cut off anywhere */
	for (size_t n = 0; n < whole.len; n += n < 200 ? 1 : 97) {
		struct store_index *x;

		help_save(path, whole.data, n);
		ok(store_index_new(f.store, &x, &err));
		assert_int_equal(store_index_add(x, 1, &err), ERR_DAMAGED);
		assert_int_equal(store_segment_check(f.store, 1, &err), ERR_DAMAGED);
		store_index_free(x);
	}
	buf_release(&whole);
	help_store_end(&f);
}

/* Lost, exchanged, of another repository; lost while it is open. */
static void test_lost(void **state)
{
	struct err err = ERR_INIT;
	struct buf one = BUF_INIT;
	struct store_stage *st;
	struct store_index *x;
	struct segment_header h;
	struct fixture f;
	uint64_t records, numbers[] = { 1, 3 };
	char path[128], second[128];

	(void)state;
	help_store(&f, 0, 0);
	write_range(&f, 1, 0, 3000);
	write_range(&f, 2, 3000, 3000);
	ok(store_index_new(f.store, &x, &err));
	assert_int_equal(store_index_add(x, 3, &err), ERR_NOT_FOUND);
	assert_int_equal(store_segment_check(f.store, 3, &err), ERR_NOT_FOUND);
	ok(store_index_add(x, 1, &err));
	assert_int_equal(found(x, 0, 6000), 3000);

	/* the file of another number under this one's name */
	segment_path(&f, 1, path);
	segment_path(&f, 2, second);
	help_load(path, &one);
	help_save(second, one.data, one.len);
	assert_int_equal(store_index_add(x, 2, &err), ERR_DAMAGED);
	/* another repository's */
	ok(segment_header_decode(one.data, one.len, &h, &err));
	h.number = 2;
	h.uuid[3] ^= 0x10;
	segment_header_encode(&h, one.data);
	help_save(second, one.data, one.len);
	assert_int_equal(store_index_add(x, 2, &err), ERR_DAMAGED);
	assert_int_equal(found(x, 0, 6000), 3000);

	/* a merge with a lost one fails and publishes nothing */
	ok(store_stage_begin(f.store, 5, &st, &err));
	assert_int_equal(store_segment_merge(st, 9, numbers, 2, NULL, NULL, &records, &err),
			 ERR_NOT_FOUND);
	assert_int_equal(store_segment_check(f.store, 9, &err), ERR_NOT_FOUND);
	ok(store_stage_end(st, &err));

	/* removed while open: it is read on; cut while open: misses, not errors */
	ok(store_segment_remove(f.store, 1, &err));
	assert_int_equal(store_segment_remove(f.store, 1, &err), 0);
	assert_int_equal(found(x, 0, 6000), 3000);
	store_index_drop(x, 1);
	write_range(&f, 4, 0, 3000);
	ok(store_index_add(x, 4, &err));
	segment_path(&f, 4, path);
	assert_int_equal(truncate(path, SEGMENT_HEADER_LEN), 0);
	assert_int_equal(found(x, 0, 3000), 0);
	store_index_free(x);
	buf_release(&one);
	help_store_end(&f);
}

/* --- many threads; segments come and go, two threads change the set --- */

enum { SEGMENTS = 40, PER = 500, ROUNDS = 400 };
struct crowd {
	struct store_index *index;
	unsigned from; /* changers: first segment number, every second one */
	_Atomic int *stop;
	unsigned seed, wrong;
};

static void *look(void *opaque)
{
	struct crowd *c = opaque;

	do {
		uint8_t ids[64][ID_LEN];
		struct index_query q[64];
		uint64_t numbers[64];

		for (unsigned i = 0; i < 64; i++) {
			numbers[i] = (unsigned)rand_r(&c->seed) % ((SEGMENTS + 1) * PER);
			key_of(numbers[i], ids[i]);
			q[i].id = ids[i];
		}
		store_index_lookup(c->index, q, 64);
		for (unsigned i = 0; i < 64; i++) {
			/* segment 0 is never dropped */
			c->wrong += numbers[i] < PER && !q[i].count;
			for (unsigned k = 0; k < q[i].count; k++)
				c->wrong += q[i].locators[k] != locator_of(numbers[i]);
		}
	} while (!*c->stop);
	return NULL;
}

static void *change(void *opaque)
{
	struct crowd *c = opaque;
	struct err err = ERR_INIT;

	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned n = c->from; n < SEGMENTS; n += 2)
			c->wrong += store_index_add(c->index, 1 + n, &err) < 0;
		if (round + 1 < ROUNDS)
			for (unsigned n = c->from; n < SEGMENTS; n += 2)
				store_index_drop(c->index, 1 + n);
	}
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t threads[6];
	struct crowd crowd[6];
	_Atomic int stop = 0;
	struct err err = ERR_INIT;
	struct store_index *x;
	struct fixture f;

	(void)state;
	help_store(&f, 0, 0);
	for (unsigned n = 0; n < SEGMENTS; n++)
		write_range(&f, 1 + n, (uint64_t)n * PER, PER);
	ok(store_index_new(f.store, &x, &err));
	ok(store_index_add(x, 1, &err));
	for (unsigned t = 0; t < 6; t++) {
		crowd[t] =
			(struct crowd){ .index = x, .from = 1 + t % 2, .stop = &stop, .seed = t };
		assert_int_equal(
			pthread_create(&threads[t], NULL, t < 2 ? change : look, &crowd[t]), 0);
	}
	for (unsigned t = 0; t < 6; t++) {
		if (t == 2)
			stop = 1;
		assert_int_equal(pthread_join(threads[t], NULL), 0);
		assert_int_equal(crowd[t].wrong, 0);
	}
	/* nobody's addition was lost to the other's */
	assert_int_equal(found(x, 0, (uint64_t)SEGMENTS * PER), (uint64_t)SEGMENTS * PER);
	assert_int_equal(found(x, (uint64_t)SEGMENTS * PER, 1000), 0);
	store_index_free(x);
	help_store_end(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),	cmocka_unit_test(test_duplicates),
		cmocka_unit_test(test_merge),	cmocka_unit_test(test_merge_filter),
		cmocka_unit_test(test_flips),	cmocka_unit_test(test_lost),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests_name("store-index", tests, NULL, NULL);
}
