/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Packs through the store: what a writer makes a reader gives back, in every size, type and suite; what is cut off,
 * exchanged or compacted; a cache too small for its work; and a writer that meets an error.
 *
 * base/fault.c reads the environment once a process, so a fault is met by this program started again with the name of
 * the point as its argument (invariant 4 of store/store.h).
 */
#include "tests/unit/store-help.h"

#include "base/banned.h"

static const uint32_t sizes[] = { 1,
				  2,
				  511,
				  512,
				  513,
				  4095,
				  4096,
				  4097,
				  65535,
				  65536,
				  65537,
				  128 * 1024 - 1,
				  1 << 20,
				  262143,
				  1048577,
				  OBJECT_PLAIN_MAX - 1,
				  OBJECT_PLAIN_MAX };

static void fill_objects(struct object *o, size_t n, uint64_t seed)
{
	for (size_t i = 0; i < n; i++)
		o[i] = (struct object){ .type = 1 + (enum object_type)(i % OBJECT_TYPE_LAST),
					.size = sizes[i % ARRAY_SIZE(sizes)],
					.seed = seed + i };
}

/* Every size with every type, compressible and not, at two levels. */
static void round_trip(unsigned suite)
{
	enum { N = 34 };
	struct object o[N], wrong;
	uint8_t small[512];
	struct store_pack *p;
	struct fixture f;
	unsigned count;
	size_t len;

	for (int level = 0; level <= 3; level += 3) {
		help_store(&f, suite, 0);
		fill_objects(o, N, 1000);
		help_pack(&f, 7, 0x1ab, o, N, level);
		for (size_t i = 0; i < N; i++) {
			assert_int_equal(locator_pack(o[i].locator), 0x1ab);
			assert_int_equal(locator_slot(o[i].locator), i);
			help_ok(help_read(&f, f.reader, &o[i], &f.err), &f.err, "read", __LINE__);
		}
		/* what is asked for wrongly is not given */
		wrong = o[4];
		wrong.type = o[4].type % OBJECT_TYPE_LAST + 1;
		assert_int_equal(help_read(&f, f.reader, &wrong, &f.err), ERR_DAMAGED);
		wrong = o[4];
		wrong.id[31] ^= 1;
		assert_int_equal(help_read(&f, f.reader, &wrong, &f.err), ERR_DAMAGED);
		wrong.locator = locator_make(0x1ab, N);
		assert_int_equal(help_read(&f, f.reader, &wrong, &f.err), ERR_DAMAGED);
		wrong.locator = locator_make(0x1ac, 0);
		assert_int_equal(help_read(&f, f.reader, &wrong, &f.err), ERR_DAMAGED);
		assert_int_equal(store_record_read(f.store, f.reader, o[4].locator, o[4].type, NULL,
						   false, small, sizes[4] - 1, &len, &f.err),
				 ERR_DAMAGED);
		help_ok(store_pack_get(f.store, 0x1ab, &p, &f.err), &f.err, "get", __LINE__);
		assert_non_null(store_pack_entries(p, &count));
		assert_int_equal(count, N);
		store_pack_put(p);
		assert_int_equal(store_pack_get(f.store, 0x1ac, &p, &f.err), ERR_NOT_FOUND);
		help_store_end(&f);
	}
}

static void test_round_trip_plain(void **state)
{
	(void)state;
	round_trip(0);
}

static void test_round_trip_encrypted(void **state)
{
	(void)state;
	round_trip(1);
}

/* A pack without a record is a pack; and one is full at its last slot. */
static void test_empty_and_full(void **state)
{
	struct err err = ERR_INIT;
	struct object o = { .type = OBJECT_CHUNK, .size = 1, .seed = 3 };
	struct store_stage *st;
	struct store_writer *w;
	struct fixture f;
	unsigned count;

	(void)state;
	help_store(&f, 0, 0);
	help_pack(&f, 1, 1, NULL, 0, 0);
	struct store_pack *p;
	ok(store_pack_get(f.store, 1, &p, &err));
	assert_non_null(store_pack_entries(p, &count));
	assert_int_equal(count, 0);
	assert_null(store_pack_entry(p, 0));
	store_pack_put(p);

	ok(store_stage_begin(f.store, 2, &st, &err));
	ok(store_writer_new(st, 2, PACK_MAP, &w, &err));
	for (unsigned i = 0; i < SLOT_MAX_COUNT; i++) {
		assert_false(store_writer_full(w));
		assert_int_equal(help_append(&f, w, &o, 0), 0);
	}
	assert_true(store_writer_full(w));
	assert_true(help_append(&f, w, &o, 0) < 0);
	o.locator = locator_make(2, SLOT_MAX_COUNT - 1);
	ok(store_writer_finish(w, f.reader, &err));
	ok(store_writer_publish(w, &err));
	store_writer_free(w);
	ok(store_stage_end(st, &err));
	ok(help_read(&f, f.reader, &o, &err));
	help_store_end(&f);
}

/* What compaction leaves: the same number, sealed records copied byte for byte, dead slots dropped, slots kept. */
static void compact(const struct fixture *f, uint64_t number, unsigned keep_every,
		    unsigned keep_rest)
{
	char path[128];
	struct buf in = BUF_INIT, out = BUF_INIT;
	struct pack_trailer t;
	struct footer_entry *e;
	uint8_t trailer[PACK_TRAILER_LEN];
	uint32_t kept = 0;
	struct err err = ERR_INIT;

	help_pack_path(f, number, path);
	help_load(path, &in);
	ok(pack_trailer_decode(in.data + in.len - PACK_TRAILER_LEN, in.len, &t, &err));
	ok(footer_decode(in.data + t.footer_offset, t.footer_len, &t, &e, &err));
	buf_put(&out, in.data, PACK_HEADER_LEN);
	for (uint32_t i = 0; i < t.count; i++) {
		uint32_t offset = e[i].offset;

		if (e[i].slot % keep_every != keep_rest)
			continue;
		e[kept] = e[i];
		e[kept].offset = (uint32_t)out.len;
		buf_put(&out, in.data + offset, RECORD_HEADER_LEN + e[kept].stored_len);
		kept++;
	}
	t.footer_offset = out.len;
	t.count = kept;
	footer_encode(&out, e, kept);
	t.footer_len = (uint32_t)(out.len - t.footer_offset);
	t.footer_check = check_xxh3(out.data + t.footer_offset, t.footer_len);
	pack_trailer_encode(&t, trailer);
	buf_put(&out, trailer, sizeof(trailer));
	help_save(path, out.data, out.len);
	free(e);
	buf_release(&in);
	buf_release(&out);
}

static void test_compacted(void **state)
{
	enum { N = 300, EVERY = 7, REST = 3 };
	struct object *o = calloc(N, sizeof(*o));
	struct store_pack *p;
	struct fixture f;

	(void)state;
	for (unsigned suite = 0; suite <= 1; suite++) {
		help_store(&f, suite, 0);
		for (unsigned i = 0; i < N; i++)
			o[i] = (struct object){ .type = OBJECT_CHUNK, .size = 100 + i, .seed = i };
		help_pack(&f, 1, 5, o, N, 1);
		compact(&f, 5, EVERY, REST);
		for (unsigned i = 0; i < N; i++) {
			int r = help_read(&f, f.reader, &o[i], &f.err);

			/* the slots that stayed are where they were, the others are gone and said to be */
			assert_int_equal(r, i % EVERY == REST ? 0 : ERR_DAMAGED);
		}
		help_ok(store_pack_get(f.store, 5, &p, &f.err), &f.err, "get", __LINE__);
		for (unsigned i = 0; i < N + 10; i++) {
			const struct footer_entry *e = store_pack_entry(p, i);

			assert_true(i < N && i % EVERY == REST ? e && e->slot == i : !e);
		}
		assert_null(store_pack_entry(p, UINT32_MAX));
		store_pack_put(p);
		help_store_end(&f);
	}
	free(o);
}

/* --- a cache that is too small, many threads --- */

enum { PACKS = 300, EACH = 4, THREADS = 6, ROUNDS = 1500 };
struct crowd {
	struct fixture *f;
	struct object *objects;
	unsigned seed;
	unsigned wrong;
	char text[256];
};

static void *crowd_run(void *opaque)
{
	struct crowd *c = opaque;
	struct store_reader *reader;
	struct store_pack *held = NULL;
	struct err err = ERR_INIT;

	if (store_reader_new(c->f->store, &reader, &err) < 0) {
		c->wrong++;
		return NULL;
	}
	for (unsigned i = 0; i < ROUNDS; i++) {
		unsigned x = (unsigned)rand_r(&c->seed);
		const struct object *o = &c->objects[x % (PACKS * EACH)];

		if (help_read(c->f, reader, o, &err) < 0) {
			c->wrong++;
			snprintf(c->text, sizeof(c->text), "%.255s", err.text);
		}
		if (x % 101 == 0)
			store_drop_cache(c->f->store);
		/* a missing pack, asked for by several at once, stays an error and harms nobody */
		if (x % 53 == 0) {
			struct store_pack *none;

			c->wrong += store_pack_get(c->f->store, PACKS + 1, &none, &err) !=
				    ERR_NOT_FOUND;
		}
		/* a pack in use is never dropped */
		if (x % 11 == 0) {
			const struct footer_entry *e;

			if (held) {
				e = store_pack_entry(held, EACH - 1);
				c->wrong += !e || e->slot != EACH - 1;
				store_pack_put(held);
				held = NULL;
			}
			if (store_pack_get(c->f->store, 1 + x % PACKS, &held, &err) < 0)
				c->wrong++;
		}
	}
	if (held)
		store_pack_put(held);
	store_reader_free(reader);
	return NULL;
}

static unsigned open_files(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 4096; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void eviction(uint64_t footer_cache)
{
	struct object *o = calloc(PACKS * EACH, sizeof(*o));
	struct crowd crowd[THREADS];
	pthread_t threads[THREADS];
	struct fixture f;
	unsigned before;

	help_store(&f, 1, footer_cache);
	before = open_files();
	for (unsigned p = 0; p < PACKS; p++) {
		for (unsigned i = 0; i < EACH; i++)
			o[p * EACH + i] = (struct object){ .type = OBJECT_CHUNK,
							   .size = 64 + i * 1000,
							   .seed = p * EACH + i };
		help_pack(&f, p + 1, p + 1, o + p * EACH, EACH, 1);
	}
	for (unsigned t = 0; t < THREADS; t++) {
		crowd[t] = (struct crowd){ .f = &f, .objects = o, .seed = t + 1 };
		assert_int_equal(pthread_create(&threads[t], NULL, crowd_run, &crowd[t]), 0);
	}
	for (unsigned t = 0; t < THREADS; t++) {
		assert_int_equal(pthread_join(threads[t], NULL), 0);
		if (crowd[t].wrong)
			fail_msg("thread %u: %u wrong, the last: %s", t, crowd[t].wrong,
				 crowd[t].text);
	}
	/* the bound of descriptors holds however large the cache is */
	assert_true(open_files() <= before + 256 + 1);
	store_drop_cache(f.store);
	assert_int_equal(open_files(), before);
	help_store_end(&f);
	free(o);
}

static void test_eviction_one_pack(void **state)
{
	(void)state;
	eviction(1);
}

static void test_eviction_descriptors(void **state)
{
	(void)state;
	eviction(64 * MiB);
}

/* --- files that are not what their name says --- */

static int get(struct fixture *f, uint64_t number)
{
	struct store_pack *p;
	int r;

	store_drop_cache(f->store);
	r = store_pack_get(f->store, number, &p, &f->err);
	if (r == 0)
		store_pack_put(p);
	return r;
}

static void test_foreign(void **state)
{
	struct object o = { .type = OBJECT_CHUNK, .size = 5000, .seed = 2 }, other = o;
	struct fixture f, g;
	struct buf one = BUF_INIT, two = BUF_INIT;
	uint8_t uuid[UUID_LEN];
	char path[128], from[128];

	(void)state;
	help_store(&f, 0, 0);
	help_pack(&f, 1, 1, &o, 1, 1);
	other.seed = 4;
	help_pack(&f, 2, 2, &other, 1, 1);
	assert_int_equal(get(&f, 1), 0);
	help_pack_path(&f, 1, path);
	help_load(path, &one);

	/* another number's file */
	help_pack_path(&f, 2, from);
	help_load(from, &two);
	help_save(path, two.data, two.len);
	assert_int_equal(get(&f, 1), ERR_DAMAGED);
	assert_non_null(strstr(f.err.text, "pack 2"));
	assert_non_null(strstr(f.err.text, "000000000001"));

	/* header of one instance, trailer of another */
	memcpy(two.data, one.data, PACK_HEADER_LEN);
	help_save(path, two.data, two.len);
	assert_int_equal(get(&f, 1), ERR_DAMAGED);
	assert_non_null(strstr(f.err.text, "instances"));

	/* another repository's pack of the same number */
	memcpy(uuid, f.uuid, UUID_LEN);
	help_store(&g, 0, 0);
	help_store_close(&g);
	codec_keys_free(g.keys);
	g.uuid[0] ^= 1;
	help_ok(codec_keys_plain(g.uuid, &g.keys, &g.err), &g.err, "keys", __LINE__);
	help_store_open(&g, 0);
	other = o;
	help_pack(&g, 1, 1, &other, 1, 1);
	help_pack_path(&g, 1, from);
	buf_release(&two);
	help_load(from, &two);
	help_save(path, two.data, two.len);
	assert_int_equal(get(&f, 1), ERR_DAMAGED);
	assert_non_null(strstr(f.err.text, "another repository"));
	help_store_end(&g);

	/* a repository with keys takes no plain pack of its own uuid */
	help_store(&g, 1, 0);
	help_pack(&g, 1, 1, &other, 1, 1);
	help_pack_path(&g, 1, from);
	help_save(from, one.data, one.len);
	assert_int_equal(get(&g, 1), ERR_DAMAGED);
	assert_non_null(strstr(g.err.text, "suite"));
	help_store_end(&g);

	/* and after all that the right file is right */
	help_save(path, one.data, one.len);
	assert_int_equal(get(&f, 1), 0);
	help_ok(help_read(&f, f.reader, &o, &f.err), &f.err, "read", __LINE__);
	buf_release(&one);
	buf_release(&two);
	help_store_end(&f);
}

/* Cut at any length: an error, at once or when the record is read, never other bytes. */
static void test_truncated(void **state)
{
	struct object o[3] = { { .type = OBJECT_CHUNK, .size = 700, .seed = 1 },
			       { .type = OBJECT_LEAF, .size = 900, .seed = 2 },
			       { .type = OBJECT_BLOB, .size = 1, .seed = 3 } };
	struct fixture f;
	struct buf whole = BUF_INIT;
	char path[128];

	(void)state;
	for (unsigned suite = 0; suite <= 1; suite++) {
		help_store(&f, suite, 0);
		help_pack(&f, 1, 1, o, 3, 0);
		help_pack_path(&f, 1, path);
		buf_reset(&whole);
		help_load(path, &whole);
		for (size_t n = 0; n < whole.len; n++) {
			assert_int_equal(truncate(path, (off_t)n), 0);
			assert_int_equal(get(&f, 1), ERR_DAMAGED);
			help_save(path, whole.data, whole.len);
		}
		/* cut while it is open: the footer is known, the bytes are gone */
		help_ok(help_read(&f, f.reader, &o[0], &f.err), &f.err, "read", __LINE__);
		assert_int_equal(truncate(path, PACK_HEADER_LEN + RECORD_HEADER_LEN + 10), 0);
		assert_int_equal(help_read(&f, f.reader, &o[0], &f.err), ERR_DAMAGED);
		assert_int_equal(help_read(&f, f.reader, &o[2], &f.err), ERR_DAMAGED);
		/* longer than it was */
		store_drop_cache(f.store);
		help_save(path, whole.data, whole.len);
		assert_int_equal(truncate(path, (off_t)whole.len + 1), 0);
		assert_int_equal(get(&f, 1), ERR_DAMAGED);
		help_store_end(&f);
	}
	buf_release(&whole);
}

/* --- publishing --- */

static void test_never_replaces(void **state)
{
	struct object o = { .type = OBJECT_CHUNK, .size = 100, .seed = 1 }, second = o;
	struct err err = ERR_INIT;
	struct store_stage *st;
	struct store_writer *w;
	struct fixture f;
	struct buf before = BUF_INIT, after = BUF_INIT;
	uint64_t *numbers;
	size_t count;
	char path[128];

	(void)state;
	help_store(&f, 0, 0);
	help_pack(&f, 1, 9, &o, 1, 0);
	help_pack_path(&f, 9, path);
	help_load(path, &before);

	second.seed = 2;
	ok(store_stage_begin(f.store, 2, &st, &err));
	ok(store_writer_new(st, 9, PACK_DATA, &w, &err));
	assert_int_equal(help_append(&f, w, &second, 0), 0);
	/* in this order only */
	assert_true(store_writer_publish(w, &err) < 0);
	ok(store_writer_finish(w, f.reader, &err));
	assert_true(store_writer_finish(w, f.reader, &err) < 0);
	assert_true(store_writer_publish(w, &err) < 0);
	assert_non_null(strstr(err.text, "there already"));
	/* invariant 4: it stays in error when the way is free */
	assert_int_equal(unlink(path), 0);
	assert_true(store_writer_publish(w, &err) < 0);
	assert_int_equal(access(path, F_OK), -1);
	store_writer_free(w);
	ok(store_stage_end(st, &err));

	help_save(path, before.data, before.len);
	ok(help_read(&f, f.reader, &o, &err));
	help_load(path, &after);
	assert_int_equal(after.len, before.len);
	assert_memory_equal(after.data, before.data, before.len);
	ok(store_packs_list(f.store, &numbers, &count, &err));
	assert_int_equal(count, 1);
	free(numbers);
	buf_release(&before);
	buf_release(&after);
	help_store_end(&f);
}

/* The staging folder is the fence: without it nothing is created and nothing published. */
static void test_fenced(void **state)
{
	struct object o = { .type = OBJECT_CHUNK, .size = 100, .seed = 1 };
	struct err err = ERR_INIT;
	struct store_stage *st;
	struct store_writer *w, *more;
	struct fixture f;
	uint64_t *numbers;
	size_t count;

	(void)state;
	help_store(&f, 0, 0);
	ok(store_stage_begin(f.store, 4, &st, &err));
	assert_int_equal(store_stage_begin(f.store, 4, &(struct store_stage *){ NULL }, &err),
			 ERR_EXISTS);
	ok(store_writer_new(st, 1, PACK_DATA, &w, &err));
	assert_int_equal(help_append(&f, w, &o, 0), 0);
	ok(store_writer_finish(w, f.reader, &err));
	ok(store_stage_remove(f.store, 4, &err)); /* a sweep that takes us for dead */
	assert_int_equal(store_writer_publish(w, &err), ERR_FENCED);
	assert_int_equal(store_writer_new(st, 2, PACK_DATA, &more, &err), ERR_FENCED);
	ok(store_packs_list(f.store, &numbers, &count, &err));
	assert_int_equal(count, 0);
	free(numbers);
	store_writer_free(w);
	ok(store_stage_end(st, &err));
	help_store_end(&f);
}

/* --- a fault at a named point; run in a process of its own --- */

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			dprintf(STDERR_FILENO, "line %d: %s (%s)\n", __LINE__, #cond, err.text);   \
			return 1;                                                                  \
		}                                                                                  \
	} while (0)

/* want: the code of the first call that fails. */
static int meet_fault(const char *want)
{
	enum { N = 20 };
	struct err err = ERR_INIT;
	struct object o[N];
	struct store_stage *st;
	struct store_writer *w;
	struct fixture f;
	uint64_t *numbers;
	size_t count;
	uint64_t locator;
	uint8_t id[ID_LEN] = { 1 };
	struct store_append a = { .type = OBJECT_CHUNK,
				  .id = id,
				  .plain_len = 1,
				  .codec = CODEC_RAW,
				  .payload = "x",
				  .n = 1 };
	int r = 0;

	help_store(&f, 1, 0);
	for (unsigned i = 0; i < N; i++)
		o[i] = (struct object){ .type = OBJECT_CHUNK, .size = 300000, .seed = 2 * i + 1 };
	CHECK(store_stage_begin(f.store, 1, &st, &err) == 0);
	CHECK(store_writer_new(st, 3, PACK_DATA, &w, &err) == 0);
	for (unsigned i = 0; i < N && r == 0; i++)
		r = help_append(&f, w, &o[i], 0);
	err = f.err;
	if (r == 0)
		r = store_writer_finish(w, f.reader, &err);
	if (r == 0)
		r = store_writer_publish(w, &err);
	CHECK(strcmp(err_code_name(r), want) == 0);
	CHECK(err.text[0]);
	/* sticky: the fault is over, the writer stays in error */
	CHECK(store_writer_append(w, f.codec, &a, &locator, &err) < 0);
	CHECK(store_writer_finish(w, f.reader, &err) < 0);
	CHECK(store_writer_publish(w, &err) < 0);
	CHECK(store_packs_list(f.store, &numbers, &count, &err) == 0);
	CHECK(count == 0);
	free(numbers);
	store_writer_free(w);
	CHECK(store_stage_end(st, &err) >= 0);
	CHECK(store_stage_begin(f.store, 1, &st, &err) == 0); /* the folder had gone */
	CHECK(store_stage_end(st, &err) >= 0);
	/* the next one works */
	help_pack(&f, 2, 4, o, N, 0);
	for (unsigned i = 0; i < N; i++)
		CHECK(help_read(&f, f.reader, &o[i], &err) == 0);
	help_store_end(&f);
	return 0;
}

static void faults(const char *fault, const char *code)
{
	char self[4096] = "", env[128];
	const char *argv[] = { "env", env, self, code, NULL };
	struct err err = ERR_INIT;
	struct buf out = BUF_INIT;

	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	snprintf(env, sizeof(env), "LIVEPOINT_FAULT=%s", fault);
	if (proc_run(argv, &out, 65536, &err) < 0)
		fail_msg("%s: %s", fault, err.text);
	buf_release(&out);
}

static void test_faults(void **state)
{
	const char *io = err_code_name(ERR_IO), *full = err_code_name(ERR_NOSPC);

	(void)state;
#ifndef ENABLE_FAULT_POINTS
	skip();
#endif
	faults("store.pack.write:1:eio", io);
	faults("store.pack.write:2:enospc", full);
	faults("store.pack.write:2:short", full);
	faults("store.pack.write:3:eio", io);
	faults("store.pack.sync:1:eio", io);
	faults("store.pack.sync:1:enospc", full);
	faults("store.pack.rename:1:eio", io);
	faults("store.folder.make:1:enospc", full);
	faults("store.folder.parent-sync:1:eio", io);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_faults), /* first: the fault points are still unread */
		cmocka_unit_test(test_round_trip_plain),
		cmocka_unit_test(test_round_trip_encrypted),
		cmocka_unit_test(test_empty_and_full),
		cmocka_unit_test(test_compacted),
		cmocka_unit_test(test_eviction_one_pack),
		cmocka_unit_test(test_eviction_descriptors),
		cmocka_unit_test(test_foreign),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_never_replaces),
		cmocka_unit_test(test_fenced),
	};

	if (argc == 2)
		return meet_fault(argv[1]);
	return cmocka_run_group_tests_name("store-pack", tests, NULL, NULL);
}
