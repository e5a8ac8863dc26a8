/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Walking a pack without its footer: everything that is whole is found again, what is damaged is counted, nothing that is
 * not this pack's record is ever given out as one, and no bytes make it work without end (the invariants of
 * store/pack-scan.c).
 */
#include "tests/unit/rewrite-help.h"

#include "base/banned.h"

struct seen {
	const struct footer_entry *want; /* of the undamaged pack */
	unsigned nwant;
	unsigned records, bad, foreign;
	bool found[SLOT_MAX_COUNT], good[SLOT_MAX_COUNT];
	int64_t before;
	unsigned stop_after; /* 0: never */
};

static int see(void *opaque, const struct footer_entry *e, bool good, struct err *err)
{
	struct seen *seen = opaque;
	const struct footer_entry *w = NULL;

	(void)err;
	assert_true((int64_t)e->slot > seen->before);
	seen->before = e->slot;
	for (unsigned i = 0; i < seen->nwant && !w; i++)
		if (seen->want[i].slot == e->slot)
			w = &seen->want[i];
	if (!w || w->offset != e->offset || memcmp(w->id, e->id, ID_LEN) != 0)
		seen->foreign++;
	seen->found[e->slot] = true;
	seen->good[e->slot] = good;
	seen->records++;
	seen->bad += !good;
	return seen->stop_after && seen->records == seen->stop_after ? 7 : 0;
}

struct scene {
	struct fixture f;
	struct object o[N];
	struct buf file; /* the undamaged one */
	struct pack_header header;
	struct pack_trailer trailer;
	struct footer_entry *entries;
	char path[128];
	struct seen *seen;
	struct scan_result res;
};

static void load(struct scene *sc)
{
	struct err err = ERR_INIT;

	help_pack_path(&sc->f, PACK, sc->path);
	help_load(sc->path, &sc->file);
	frame_of(&sc->file, &sc->header, &sc->trailer);
	free(sc->entries);
	ok(footer_decode(sc->file.data + sc->trailer.footer_offset, sc->trailer.footer_len,
			 &sc->trailer, &sc->entries, &err));
}

static struct scene *scene(unsigned suite)
{
	struct scene *sc = calloc(1, sizeof(*sc));

	setup(&sc->f, suite, sc->o);
	sc->seen = calloc(1, sizeof(*sc->seen));
	load(sc);
	return sc;
}

static void scene_end(struct scene *sc)
{
	help_store_end(&sc->f);
	buf_release(&sc->file);
	free(sc->entries);
	free(sc->seen);
	free(sc);
}

static int scan(struct scene *sc)
{
	memset(sc->seen, 0, sizeof(*sc->seen));
	sc->seen->before = -1;
	sc->seen->want = sc->entries;
	sc->seen->nwant = sc->trailer.count;
	return store_pack_scan(sc->f.store, sc->f.reader, PACK, see, sc->seen, &sc->res,
			       &sc->f.err);
}

/* Saves bytes and scans; a scan of a file with a good header never fails. */
static void scan_bytes(struct scene *sc, const uint8_t *p, size_t n)
{
	help_save(sc->path, p, n);
	help_ok(scan(sc), &sc->f.err, "scan", __LINE__);
	assert_int_equal(sc->res.bytes, n);
}

static uint64_t end_of(const struct scene *sc, unsigned i)
{
	return sc->entries[i].offset + store_entry_bytes(&sc->entries[i]);
}

static void test_whole(void **state)
{
	(void)state;
	for (unsigned suite = 0; suite <= 1; suite++) {
		struct scene *sc = scene(suite);
		struct bits *kept = calloc(1, sizeof(*kept));
		struct rewrite_spec spec = spec_of(kept);
		struct rewrite_result res;

		scan_bytes(sc, sc->file.data, sc->file.len);
		assert_int_equal(sc->seen->records, N);
		assert_true(!sc->seen->bad && !sc->seen->foreign);
		assert_true(sc->res.footer_good && sc->res.lost_bytes == 0);
		assert_int_equal(sc->res.header.number, PACK);
		assert_int_equal(sc->res.header.suite, suite);
		/* compacted */
		for (unsigned i = 0; i < N; i += 3)
			keep(kept, i);
		assert_int_equal(rewrite_in(&sc->f, &spec, true, &res), 0);
		rewrite_result_release(&res);
		load(sc);
		assert_int_equal(scan(sc), 0);
		assert_int_equal(sc->seen->records, (N + 2) / 3);
		assert_true(!sc->seen->bad && !sc->seen->foreign && sc->res.footer_good);
		/* the walk ends when it is told to */
		memset(sc->seen, 0, sizeof(*sc->seen));
		sc->seen->before = -1;
		sc->seen->stop_after = 3;
		assert_int_equal(store_pack_scan(sc->f.store, sc->f.reader, PACK, see, sc->seen,
						 &sc->res, &sc->f.err),
				 7);
		assert_int_equal(sc->seen->records, 3);
		free(kept);
		scene_end(sc);
	}
}

/* One byte anywhere in a record: that record is bad or lost, every other one is found, with the footer and without. */
static void test_one_record(void **state)
{
	static const unsigned victims[] = { 0, 1, 77, N - 1 };

	(void)state;
	for (unsigned k = 0; k < 2 * 2 * ARRAY_SIZE(victims) * 2; k++) {
		unsigned suite = k % 2, v = victims[k / 2 % ARRAY_SIZE(victims)];
		bool header = k / 2 / ARRAY_SIZE(victims) % 2;
		bool footer = k / 4 / ARRAY_SIZE(victims) % 2;
		struct scene *sc = scene(suite);
		const struct footer_entry *e = &sc->entries[v];

		sc->file.data[e->offset + (header ? 25 : RECORD_HEADER_LEN)] ^= 1;
		if (!footer) /* the trailer still tells where it begins */
			sc->file.data[sc->trailer.footer_offset] ^= 1;
		scan_bytes(sc, sc->file.data, sc->file.len);
		assert_int_equal(sc->seen->foreign, 0);
		assert_int_equal(sc->seen->records, header ? N - 1 : N);
		assert_int_equal(sc->seen->bad, !header);
		for (unsigned i = 0; i < N; i++)
			assert_int_equal(sc->seen->good[i], i != v);
		assert_int_equal(sc->res.lost_bytes,
				 (header ? store_entry_bytes(e) : 0) +
					 (footer ? 0 : sc->trailer.footer_len + PACK_TRAILER_LEN));
		/* with a header gone the footer lists more than there is */
		assert_int_equal(sc->res.footer_good, footer && !header);
		scene_end(sc);
	}
}

/* Two headers gone, and with them what of the footer `how` says. */
static void test_two_breaks(void **state)
{
	enum { WHOLE, CHECK, TRAILER, ALL, HOWS };

	(void)state;
	for (unsigned k = 0; k < 2 * HOWS; k++) {
		unsigned suite = k % 2, how = k / 2, lost = 2;
		struct scene *sc = scene(suite);
		uint8_t *footer = sc->file.data + sc->trailer.footer_offset;

		sc->file.data[sc->entries[40].offset] ^= 1;
		sc->file.data[sc->entries[90].offset] ^= 1;
		if (how == CHECK)
			footer[FOOTER_MAGIC_LEN + 5] ^= 1; /* entry 0 */
		if (how == TRAILER)
			memset(sc->file.data + sc->file.len - PACK_TRAILER_LEN, 0,
			       PACK_TRAILER_LEN);
		if (how == ALL)
			memset(footer, 0, sc->file.len - sc->trailer.footer_offset);
		/* without a key and without a piece of the footer nothing confirms what is behind the first break */
		if (how == ALL && suite == 0)
			lost = N - 40;
		scan_bytes(sc, sc->file.data, sc->file.len);
		assert_int_equal(sc->seen->foreign, 0);
		assert_int_equal(sc->seen->bad, 0);
		assert_int_equal(sc->seen->records, N - lost);
		assert_false(sc->seen->found[40] || sc->seen->found[90]);
		scene_end(sc);
	}
}

/* Cut anywhere. */
static void test_cut(void **state)
{
	(void)state;
	for (unsigned suite = 0; suite <= 1; suite++) {
		struct scene *sc = scene(suite);

		for (unsigned i = 0; i <= N; i += 40) {
			uint64_t at = i < N ? sc->entries[i].offset : sc->trailer.footer_offset;

			scan_bytes(sc, sc->file.data, at);
			assert_int_equal(sc->seen->records, i);
			assert_int_equal(sc->res.lost_bytes, 0);
			scan_bytes(sc, sc->file.data, at + 50);
			assert_int_equal(sc->seen->records, i);
			assert_int_equal(sc->res.lost_bytes, 50);
			assert_true(!sc->seen->bad && !sc->seen->foreign && !sc->res.footer_good);
		}
		help_save(sc->path, sc->file.data, PACK_HEADER_LEN - 1);
		assert_int_equal(scan(sc), ERR_DAMAGED);
		sc->file.data[60] ^= 1;
		help_save(sc->path, sc->file.data, sc->file.len);
		assert_int_equal(scan(sc), ERR_DAMAGED);
		scene_end(sc);
	}
}

/* The disk that was backed up has a repository on it: one of our records has, as data, records that are as good as ours.
 * Its own header is gone. */
static void test_nested(void **state)
{
	enum { OUTER = 3 };

	(void)state;
	for (unsigned k = 0; k < 2 * 4; k++) {
		unsigned suite = k % 2, how = k / 2;
		struct fixture inner;
		struct object small[40], outer[OUTER];
		struct scene *sc = calloc(1, sizeof(*sc));
		struct buf nested = BUF_INIT;
		struct store_stage *st;
		struct store_writer *w;
		struct err err = ERR_INIT;
		char path[128];

		sc->seen = calloc(1, sizeof(*sc->seen));
		help_store(&inner, 0, 0);
		for (unsigned i = 0; i < 40; i++)
			small[i] = (struct object){ .type = OBJECT_CHUNK, .size = 500, .seed = i };
		help_pack(&inner, 1, 9, small, 40, 1);
		help_pack_path(&inner, 9, path);
		help_load(path, &nested);

		help_store(&sc->f, suite, 0);
		ok(store_stage_begin(sc->f.store, 1, &st, &err));
		ok(store_writer_new(st, PACK, PACK_DATA, &w, &err));
		for (unsigned i = 0; i < OUTER; i++)
			outer[i] = (struct object){ .type = OBJECT_CHUNK, .size = 3000, .seed = i };
		assert_int_equal(help_append(&sc->f, w, &outer[0], 1), 0);
		struct store_append a = { .type = OBJECT_CHUNK,
					  .id = outer[1].id,
					  .plain_len = (uint32_t)nested.len,
					  .codec = CODEC_RAW,
					  .payload = nested.data,
					  .n = nested.len,
					  .xxh3 = check_xxh3(nested.data, nested.len) };
		ok(codec_id(sc->f.codec, nested.data, nested.len, outer[1].id, &err));
		ok(store_writer_append(w, sc->f.codec, &a, &outer[1].locator, &err));
		assert_int_equal(help_append(&sc->f, w, &outer[2], 1), 0);
		ok(store_writer_finish(w, sc->f.reader, &err));
		ok(store_writer_publish(w, &err));
		store_writer_free(w);
		ok(store_stage_end(st, &err));
		load(sc);

		/* whole: its records are where they are */
		scan_bytes(sc, sc->file.data, sc->file.len);
		assert_true(sc->seen->records == OUTER && !sc->seen->foreign && !sc->seen->bad);
		/* the outer header gone: the third is found if anything tells so, the nested ones never are */
		sc->file.data[sc->entries[1].offset] ^= 1;
		if (how == 1)
			sc->file.data[sc->trailer.footer_offset] ^= 1;
		if (how == 2)
			memset(sc->file.data + sc->file.len - PACK_TRAILER_LEN, 0,
			       PACK_TRAILER_LEN);
		if (how == 3)
			sc->file.len = sc->trailer.footer_offset;
		scan_bytes(sc, sc->file.data, sc->file.len);
		assert_int_equal(sc->seen->foreign, 0);
		assert_int_equal(sc->seen->records, how == 3 && suite == 0 ? 1 : 2);
		buf_release(&nested);
		help_store_end(&inner);
		scene_end(sc);
	}
}

/* --- reads that are counted, or fail --- */

static struct {
	struct backend_ops ops;
	const struct backend_ops *real;
	uint64_t bytes;
	uint64_t bad_from, bad_to; /* EIO when a read touches these */
} spy;

static int spy_read(const struct backend_file *f, void *p, size_t n, uint64_t offset,
		    struct err *err)
{
	spy.bytes += n;
	if (offset < spy.bad_to && offset + n > spy.bad_from)
		return err_set(err, ERR_IO, "bad sector");
	return spy.real->read(f, p, n, offset, err);
}

static void spy_on(struct fixture *f, uint64_t from, uint64_t to)
{
	spy.real = f->store->backend->ops;
	spy.ops = *spy.real;
	spy.ops.read = spy_read;
	spy.bytes = 0;
	spy.bad_from = from;
	spy.bad_to = to;
	f->store->backend->ops = &spy.ops;
}

static void spy_off(struct fixture *f)
{
	f->store->backend->ops = spy.real;
}

/* Sectors that cannot be read cost the records that lie on them, in a scan and in a rewrite. */
static void test_unreadable(void **state)
{
	(void)state;
	for (unsigned suite = 0; suite <= 1; suite++) {
		struct scene *sc = scene(suite);
		struct bits *kept = calloc(1, sizeof(*kept));
		struct rewrite_spec spec = spec_of(kept);
		struct rewrite_result res;
		uint64_t from = sc->entries[100].offset / 4096 * 4096, to = from + 8192;
		unsigned hit = 0;

		for (unsigned i = 0; i < N; i++) {
			keep(kept, i);
			hit += sc->entries[i].offset < to && end_of(sc, i) > from;
		}
		assert_in_range(hit, 3, 30);
		spy_on(&sc->f, from, to);
		assert_int_equal(scan(sc), 0);
		assert_int_equal(sc->seen->foreign, 0);
		for (unsigned i = 0; i < N; i++)
			assert_int_equal(sc->seen->good[i],
					 sc->entries[i].offset >= to || end_of(sc, i) <= from);
		assert_int_equal(rewrite_in(&sc->f, &spec, false, &res), 1);
		assert_int_equal(res.nbad, hit);
		rewrite_result_release(&res);
		spy_off(&sc->f);
		free(kept);
		scene_end(sc);
	}
}

/* Headers back to back from a place where none must be, of records of plain_len bytes; a whole trailer over a footer that is
 * none, so that chains are walked. */
static void hostile_file(struct scene *sc, uint8_t *file, size_t size, uint32_t plain_len)
{
	unsigned suite = sc->header.suite;
	struct record_header h = { .type = OBJECT_CHUNK, .epoch = sc->header.epoch };
	struct pack_trailer t = { .footer_offset = size - PACK_TRAILER_LEN - FOOTER_MAGIC_LEN,
				  .footer_len = FOOTER_MAGIC_LEN };
	size_t at = PACK_HEADER_LEN + 1;

	memset(file, 0, size);
	memcpy(file, sc->file.data, PACK_HEADER_LEN);
	h.plain_len = plain_len;
	h.stored_len = plain_len + (suite ? TAG_MAX : 0);
	for (uint32_t i = 0; at + RECORD_HEADER_LEN + h.stored_len < t.footer_offset;
	     at += RECORD_HEADER_LEN, i++) {
		h.slot = i % SLOT_MAX_COUNT;
		put_le32(h.nonce, suite ? h.slot : 0);
		record_header_encode(&h, file + at);
	}
	memcpy(t.instance, sc->header.instance, sizeof(t.instance));
	pack_trailer_encode(&t, file + size - PACK_TRAILER_LEN);
}

/* The work stays in proportion to the file, whatever lengths it tells. */
static void test_hostile_lengths(void **state)
{
	/* long ones, so that trying each tag reads the file again and again; short ones that chain */
	static const uint32_t lengths[] = { 3 << 19, 7 * RECORD_HEADER_LEN, 1000 };
	enum { SIZE = 4 << 20 };
	uint8_t *file = malloc(SIZE);

	(void)state;
	for (unsigned k = 0; k < 2 * ARRAY_SIZE(lengths); k++) {
		struct scene *sc = scene(k % 2);
		uint32_t sealed = k % 2 ? TAG_MAX : 0;

		hostile_file(sc, file, SIZE, lengths[k / 2] - (k / 2 == 1 ? sealed : 0));
		help_save(sc->path, file, SIZE);
		spy_on(&sc->f, 0, 0);
		help_ok(scan(sc), &sc->f.err, "scan", __LINE__);
		spy_off(&sc->f);
		assert_int_equal(sc->seen->records, 0);
		assert_int_equal(sc->res.lost_bytes, SIZE - PACK_HEADER_LEN);
		if (spy.bytes > 16 * (uint64_t)SIZE)
			fail_msg("case %u: %" PRIu64 " bytes read of %d", k, spy.bytes, SIZE);
		scene_end(sc);
	}
	free(file);
}

static void set_slot(struct scene *sc, unsigned record, uint32_t slot)
{
	uint8_t *raw = sc->file.data + sc->entries[record].offset;

	put_le32(raw + 8, slot);
	put_le32(raw + RECORD_HEADER_LEN - 4, check_crc32c(raw, RECORD_HEADER_LEN - 4));
}

/* A header that names a slot again, in the chain and behind a break: `see` wants slots to ascend. */
static void test_slot_again(void **state)
{
	struct scene *sc = scene(0);

	(void)state;
	set_slot(sc, 10, 5);
	sc->file.data[sc->entries[50].offset] ^= 1;
	set_slot(sc, 51, 5);
	sc->file.data[sc->trailer.footer_offset] ^= 1;
	scan_bytes(sc, sc->file.data, sc->file.len);
	assert_int_equal(sc->seen->records, N - 3);
	assert_int_equal(sc->seen->foreign, 0);
	assert_true(sc->seen->good[5] && sc->seen->good[11] && sc->seen->good[52]);
	scene_end(sc);
}

/* Anything at all happens to a pack: what is said to be good is what was there, slot for slot. */
static void test_random_harm(void **state)
{
	unsigned seed = 20261121;
	uint8_t *copy = NULL;

	(void)state;
	for (unsigned suite = 0; suite <= 1; suite++) {
		struct scene *sc = scene(suite);
		unsigned found = 0;

		copy = realloc(copy, sc->file.len);
		for (unsigned round = 0; round < 150; round++) {
			size_t n = sc->file.len;

			memcpy(copy, sc->file.data, n);
			for (int hits = rand_r(&seed) % 12; hits >= 0; hits--) {
				size_t at = PACK_HEADER_LEN +
					    (size_t)rand_r(&seed) % (n - PACK_HEADER_LEN);
				size_t len = (size_t)rand_r(&seed) % (hits % 3 ? 4 : 4000);

				len = MIN(len, n - at);
				if (hits % 4 == 3) /* something of the pack itself, elsewhere */
					memmove(copy + at, sc->file.data + (n - len) / 2, len);
				else
					memset(copy + at, rand_r(&seed), len);
			}
			if (round % 5 == 4)
				n -= (size_t)rand_r(&seed) % (n / 2);
			scan_bytes(sc, copy, n);
			if (sc->seen->foreign)
				fail_msg("suite %u, round %u: %u records that never were", suite,
					 round, sc->seen->foreign);
			found += sc->seen->records - sc->seen->bad;
		}
		/* most of most packs is saved */
		assert_true(found > 150 * N / 2);
		scene_end(sc);
	}
	free(copy);
}

static void test_without_key(void **state)
{
	struct scene *sc = scene(1);
	struct fixture plain = sc->f;
	struct err err = ERR_INIT;
	struct scan_result res;

	(void)state;
	ok(codec_keys_plain(sc->f.uuid, &plain.keys, &err));
	help_store_open(&plain, 0);
	assert_int_equal(store_pack_scan(plain.store, plain.reader, PACK, see, sc->seen, &res,
					 &err),
			 ERR_KEY);
	help_store_close(&plain);
	codec_keys_free(plain.keys);
	scene_end(sc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),		cmocka_unit_test(test_one_record),
		cmocka_unit_test(test_two_breaks),	cmocka_unit_test(test_cut),
		cmocka_unit_test(test_nested),		cmocka_unit_test(test_unreadable),
		cmocka_unit_test(test_hostile_lengths), cmocka_unit_test(test_slot_again),
		cmocka_unit_test(test_random_harm),	cmocka_unit_test(test_without_key),
	};

	return cmocka_run_group_tests_name("store-scan", tests, NULL, NULL);
}
