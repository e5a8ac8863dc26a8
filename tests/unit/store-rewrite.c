/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Rewriting packs: what is kept stays where it was, byte for byte; what is dropped is gone; what is fresh is there; a bad
 * record is named and never copied; readers of the old file are not disturbed.  Kills and errors: store-rewrite-faults.c.
 */
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "tests/unit/rewrite-help.h"

#include "base/banned.h"

static void compare_records(struct fixture *f, const struct buf *before, const struct buf *after,
			    const struct bits *kept)
{
	struct pack_header h, g;
	struct pack_trailer t, u;
	cleanup_free struct footer_entry *old = NULL, *new = NULL;
	uint32_t k = 0, end = PACK_HEADER_LEN;
	struct err err = ERR_INIT;

	(void)f;
	frame_of(before, &h, &t);
	frame_of(after, &g, &u);
	assert_memory_not_equal(h.instance, g.instance, sizeof(h.instance));
	memcpy(g.instance, h.instance, sizeof(h.instance));
	assert_memory_equal(&h, &g,
			    sizeof(h)); /* the compiler pads both alike: initialised as a whole */
	assert_int_equal(u.slots, t.slots);
	ok(footer_decode(before->data + t.footer_offset, t.footer_len, &t, &old, &err));
	ok(footer_decode(after->data + u.footer_offset, u.footer_len, &u, &new, &err));
	for (uint32_t i = 0; i < t.count; i++) {
		if (!has(kept, old[i].slot))
			continue;
		assert_true(k < u.count);
		assert_int_equal(new[k].slot, old[i].slot);
		assert_int_equal(new[k].offset, end); /* back to back */
		assert_memory_equal(before->data + old[i].offset, after->data + new[k].offset,
				    store_entry_bytes(&old[i]));
		end += store_entry_bytes(&new[k++]);
	}
	assert_int_equal(k, u.count);
	assert_int_equal(u.footer_offset, end);
}

static void keeps_and_drops(unsigned suite)
{
	struct object o[N];
	struct bits *kept = calloc(2, sizeof(*kept)), *again = kept + 1;
	struct rewrite_result res;
	struct fixture f;
	struct buf before = BUF_INIT, after = BUF_INIT;
	char path[128];

	setup(&f, suite, o);
	for (unsigned i = 0; i < N; i++)
		if (i % 7 == 3 || (i > 40 && i < 60))
			keep(kept, i);
	keep(kept, N + 5); /* the old one has no such slot: nothing */
	help_pack_path(&f, PACK, path);
	help_load(path, &before);
	struct rewrite_spec spec = spec_of(kept);
	assert_int_equal(rewrite_in(&f, &spec, true, &res), 0);
	help_load(path, &after);
	assert_int_equal(res.old_bytes, before.len);
	assert_int_equal(res.new_bytes, after.len);
	assert_int_equal(res.slots, N);
	assert_int_equal(res.nbad, 0);
	rewrite_result_release(&res);
	expect(&f, o, kept);
	compare_records(&f, &before, &after, kept);

	/* and once more, from the compacted one; slots never fall */
	help_load(path, &before);
	for (unsigned i = 0; i < 100; i += 2)
		keep(again, i);
	spec = spec_of(again);
	assert_int_equal(rewrite_in(&f, &spec, true, &res), 0);
	assert_int_equal(res.slots, N);
	rewrite_result_release(&res);
	for (unsigned i = 0; i < N; i++)
		if (!has(kept, i))
			again->bytes[i / 8] &= (uint8_t) ~(1u << (i % 8));
	expect(&f, o, again);
	help_load(path, &after);
	compare_records(&f, &before, &after, again);

	/* to nothing: a pack without records */
	memset(again, 0, sizeof(*again));
	assert_int_equal(rewrite_in(&f, &spec, true, &res), 0);
	assert_int_equal(res.new_bytes, PACK_HEADER_LEN + FOOTER_MAGIC_LEN + PACK_TRAILER_LEN);
	rewrite_result_release(&res);
	expect(&f, o, again);
	buf_release(&before);
	buf_release(&after);
	free(kept);
	help_store_end(&f);
}

static void test_keeps_and_drops(void **state)
{
	(void)state;
	keeps_and_drops(0);
	keeps_and_drops(1);
}

/* --- fresh records --- */

struct fresh {
	struct rewrite_slot slot;
	uint8_t id[ID_LEN];
	uint8_t *plain, *packed;
};

static void fresh_make(struct fixture *f, struct fresh *x, uint32_t slot, struct object *o)
{
	struct err err = ERR_INIT;
	struct store_append *a = &x->slot.append;

	x->plain = malloc(o->size);
	x->packed = malloc(o->size);
	help_object_bytes(o, x->plain);
	ok(codec_id(f->codec, x->plain, o->size, x->id, &err));
	memcpy(o->id, x->id, ID_LEN);
	o->locator = locator_make(PACK, slot);
	*a = (struct store_append){ .type = o->type,
				    .id = x->id,
				    .plain_len = o->size,
				    .level = 1,
				    .xxh3 = check_xxh3(x->plain, o->size) };
	ok(codec_compress(f->codec, 1, x->plain, o->size, x->packed, o->size, &a->codec, &a->n,
			  &err));
	a->payload = a->codec == CODEC_RAW ? x->plain : x->packed;
	x->slot.slot = slot;
}

static void fresh_free(struct fresh *x)
{
	free(x->plain);
	free(x->packed);
}

static void heals(unsigned suite)
{
	static const uint32_t slots[] = { 0, 17, 18, N - 1, N + 3 };
	enum { FRESH = ARRAY_SIZE(slots) };
	struct object o[N], extra = { .type = OBJECT_CHUNK, .size = 5000, .seed = 4 };
	struct bits *kept = calloc(1, sizeof(*kept));
	struct rewrite_slot list[FRESH];
	struct fresh x[FRESH];
	struct rewrite_result res;
	struct fixture f;
	struct buf file = BUF_INIT;
	char path[128];

	setup(&f, suite, o);
	help_pack_path(&f, PACK, path);
	help_load(path, &file);
	for (unsigned i = 0; i < N; i++)
		keep(kept, i);
	keep(kept, N + 3);
	for (unsigned i = 0; i < FRESH; i++) {
		fresh_make(&f, &x[i], slots[i], slots[i] < N ? &o[slots[i]] : &extra);
		list[i] = x[i].slot;
	}
	/* 17 is damaged: its fresh one takes the place, so that there is nothing bad */
	{
		struct store_pack *p;
		uint32_t at;

		help_ok(store_pack_get(f.store, PACK, &p, &f.err), &f.err, "get", __LINE__);
		at = store_pack_entry(p, 17)->offset + RECORD_HEADER_LEN;
		store_pack_put(p);
		file.data[at] ^= 1;
		help_save(path, file.data, file.len);
		assert_int_equal(help_read(&f, f.reader, &o[17], &f.err), ERR_DAMAGED);
	}
	struct rewrite_spec spec = spec_of(kept);
	spec.fresh = list;
	spec.nfresh = FRESH;
	assert_int_equal(rewrite_in(&f, &spec, true, &res), 0);
	assert_int_equal(res.nbad, 0);
	assert_int_equal(res.slots, N + 4);
	rewrite_result_release(&res);
	expect(&f, o, kept);
	help_ok(help_read(&f, f.reader, &extra, &f.err), &f.err, "extra", __LINE__);
	if (suite) { /* a nonce is used once: the fresh record of a slot differs from the old one, in the nonce too */
		struct buf after = BUF_INIT;

		help_load(path, &after);
		assert_memory_equal(after.data + PACK_HEADER_LEN, file.data + PACK_HEADER_LEN, 64);
		assert_memory_not_equal(after.data + PACK_HEADER_LEN + 64 + 4,
					file.data + PACK_HEADER_LEN + 64 + 4, 8);
		buf_release(&after);
	}

	/* content that is not what the id says is not sealed in, and nothing is left */
	help_load(path, &file);
	x[0].plain[0] ^= 1;
	list[0].append.codec = CODEC_RAW;
	list[0].append.payload = x[0].plain;
	list[0].append.n = o[0].size;
	list[0].append.xxh3 = check_xxh3(x[0].plain, o[0].size);
	assert_int_equal(rewrite_in(&f, &spec, true, &res), ERR_DAMAGED);
	assert_non_null(strstr(f.err.text, "heal slot 0"));
	/* out of order, or not kept */
	list[0].slot = 18;
	assert_int_equal(rewrite_in(&f, &spec, true, &res), ERR_INTERNAL);
	list[0].slot = N + 9;
	spec.nfresh = 1;
	assert_int_equal(rewrite_in(&f, &spec, true, &res), ERR_INTERNAL);
	struct buf after = BUF_INIT;
	help_load(path, &after);
	assert_int_equal(after.len, file.len);
	assert_memory_equal(after.data, file.data, file.len);
	buf_release(&after);
	buf_release(&file);
	for (unsigned i = 0; i < FRESH; i++)
		fresh_free(&x[i]);
	free(kept);
	help_store_end(&f);
}

static void test_heals(void **state)
{
	(void)state;
	heals(0);
	heals(1);
}

/* --- bad records --- */

static void bad_records(unsigned suite)
{
	struct object o[N];
	struct bits *kept = calloc(1, sizeof(*kept));
	struct rewrite_result res;
	struct fixture f;
	struct buf file = BUF_INIT, after = BUF_INIT;
	struct store_pack *p;
	char path[128];

	setup(&f, suite, o);
	help_pack_path(&f, PACK, path);
	help_load(path, &file);
	for (unsigned i = 0; i < 150; i++)
		keep(kept, i);
	/* 20: payload; 77: header; 160: not kept, nobody looks */
	help_ok(store_pack_get(f.store, PACK, &p, &f.err), &f.err, "get", __LINE__);
	file.data[store_pack_entry(p, 20)->offset + RECORD_HEADER_LEN + 3] ^= 0x10;
	file.data[store_pack_entry(p, 77)->offset + 30] ^= 1;
	file.data[store_pack_entry(p, 160)->offset + RECORD_HEADER_LEN] ^= 1;
	store_pack_put(p);
	help_save(path, file.data, file.len);

	struct rewrite_spec spec = spec_of(kept);
	assert_int_equal(rewrite_in(&f, &spec, true, &res), 1);
	assert_int_equal(res.nbad, 2);
	assert_int_equal(res.bad[0], 20);
	assert_int_equal(res.bad[1], 77);
	rewrite_result_release(&res);
	help_load(path, &after);
	assert_int_equal(after.len, file.len);
	assert_memory_equal(after.data, file.data, file.len);

	spec.skip_bad = true;
	assert_int_equal(rewrite_in(&f, &spec, true, &res), 0);
	assert_int_equal(res.nbad, 2);
	rewrite_result_release(&res);
	kept->bytes[20 / 8] &= (uint8_t) ~(1u << (20 % 8));
	kept->bytes[77 / 8] &= (uint8_t) ~(1u << (77 % 8));
	expect(&f, o, kept);
	buf_release(&file);
	buf_release(&after);
	free(kept);
	help_store_end(&f);
}

static void test_bad_records(void **state)
{
	(void)state;
	bad_records(0);
	bad_records(1);
}

/* A record whose bytes hold but whose content is another's: only the id tells. */
static void test_wrong_content(void **state)
{
	struct object o = { .type = OBJECT_CHUNK, .size = 300, .seed = 1 };
	struct bits *kept = calloc(1, sizeof(*kept));
	struct rewrite_result res;
	struct fixture f;
	struct buf file = BUF_INIT;
	struct pack_header h;
	struct pack_trailer t;
	char path[128];

	(void)state;
	help_store(&f, 0, 0);
	help_pack(&f, 1, PACK, &o, 1, 0);
	keep(kept, 0);
	help_pack_path(&f, PACK, path);
	help_load(path, &file);
	frame_of(&file, &h, &t);
	uint8_t *record = file.data + PACK_HEADER_LEN;
	record[RECORD_HEADER_LEN] ^= 1; /* another byte, and every check made to fit */
	put_le64(record + 56, check_xxh3(record + RECORD_HEADER_LEN, 300));
	put_le32(record + 92, check_crc32c(record, 92));
	help_save(path, file.data, file.len);
	struct rewrite_spec spec = spec_of(kept);
	assert_int_equal(rewrite_in(&f, &spec, true, &res), 1);
	assert_int_equal(res.nbad, 1);
	rewrite_result_release(&res);
	buf_release(&file);
	free(kept);
	help_store_end(&f);
}

/* --- without the footer --- */

enum harm { FOOTER_FLIP, FOOTER_ZERO, TRAILER_ZERO, TAIL_CUT, MIDDLE, HARMS };

/* Returns the first and last slot that may be lost. */
static void harm(struct buf *file, const struct footer_entry *e, const struct pack_trailer *t,
		 enum harm how, unsigned *first, unsigned *last)
{
	*first = N;
	*last = N;
	switch (how) {
	case FOOTER_FLIP:
		file->data[t->footer_offset + 100] ^= 4;
		break;
	case FOOTER_ZERO:
		memset(file->data + t->footer_offset, 0, file->len - t->footer_offset);
		break;
	case TRAILER_ZERO:
		memset(file->data + file->len - PACK_TRAILER_LEN, 0, PACK_TRAILER_LEN);
		break;
	case TAIL_CUT:
		file->len = e[150].offset + RECORD_HEADER_LEN + 10;
		*first = 150;
		*last = N - 1;
		break;
	case MIDDLE: /* from the end of record 50 into the payload of 60; the footer stands */
		memset(file->data + e[50].offset + store_entry_bytes(&e[50]) - 5, 0xee,
		       e[60].offset + 200 - (e[50].offset + store_entry_bytes(&e[50]) - 5));
		*first = 50;
		*last = 60;
		break;
	default:
		break;
	}
}

static void from_records(unsigned suite, enum harm how)
{
	struct object o[N];
	struct bits *kept = calloc(1, sizeof(*kept));
	struct rewrite_result res;
	struct fixture f;
	struct buf file = BUF_INIT;
	struct pack_header h;
	struct pack_trailer t;
	cleanup_free struct footer_entry *e = NULL;
	struct store_pack *p;
	unsigned first, last;
	char path[128];
	struct err err = ERR_INIT;
	int r;

	setup(&f, suite, o);
	help_pack_path(&f, PACK, path);
	help_load(path, &file);
	frame_of(&file, &h, &t);
	ok(footer_decode(file.data + t.footer_offset, t.footer_len, &t, &e, &err));
	harm(&file, e, &t, how, &first, &last);
	help_save(path, file.data, file.len);
	store_drop_cache(f.store);
	r = store_pack_get(f.store, PACK, &p, &f.err);
	assert_int_equal(r, how == MIDDLE ? 0 : ERR_DAMAGED);
	if (r == 0)
		store_pack_put(p);
	for (unsigned i = 0; i < N; i++)
		keep(kept, i);
	struct rewrite_spec spec = spec_of(kept);
	if (how != MIDDLE)
		assert_int_equal(rewrite_in(&f, &spec, true, &res), ERR_DAMAGED);
	spec.from_records = true;
	spec.skip_bad = true;
	assert_int_equal(rewrite_in(&f, &spec, true, &res), 0);
	/* all but what was hit is there again */
	for (unsigned i = 0; i < N; i++) {
		r = help_read(&f, f.reader, &o[i], &f.err);
		if (r != (i >= first && i <= last ? ERR_DAMAGED : 0))
			fail_msg("suite %u, harm %d, slot %u: %d %s", suite, how, i, r, f.err.text);
	}
	/* cut off at 150: the trailer that told of more is gone, and so is record 150's header's promise */
	assert_int_equal(res.slots, how == TAIL_CUT ? 150 : N);
	rewrite_result_release(&res);
	buf_release(&file);
	free(kept);
	help_store_end(&f);
}

static void test_from_records(void **state)
{
	(void)state;
	for (unsigned suite = 0; suite <= 1; suite++)
		for (enum harm how = 0; how < HARMS; how++)
			from_records(suite, how);
}

/* Nothing to begin with: not a pack's header, no file. */
static void test_unusable(void **state)
{
	struct object o[N];
	struct bits *kept = calloc(1, sizeof(*kept));
	struct rewrite_result res = { .slots = 77 };
	struct store_stage *st;
	struct fixture f;
	struct buf file = BUF_INIT;
	char path[128];
	struct err err = ERR_INIT;

	(void)state;
	setup(&f, 1, o);
	help_pack_path(&f, PACK, path);
	help_load(path, &file);
	struct rewrite_spec spec = spec_of(kept);
	file.data[30] ^= 1;
	help_save(path, file.data, file.len);
	for (int i = 0; i < 2; i++) {
		spec.from_records = i;
		assert_int_equal(rewrite_in(&f, &spec, false, &res), ERR_DAMAGED);
		assert_non_null(strstr(f.err.text, "0000000001ab"));
	}
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rewrite_in(&f, &spec, false, &res), ERR_NOT_FOUND);
	assert_int_equal(res.slots, 77);

	/* a file that went between the two halves is not made anew: whoever removed it had a reason */
	file.data[30] ^= 1;
	help_save(path, file.data, file.len);
	ok(store_stage_begin(f.store, TOKEN, &st, &err));
	spec.from_records = false;
	ok(store_pack_rewrite(st, f.reader, &spec, &res, &err));
	rewrite_result_release(&res);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(store_pack_replace(st, PACK, &err), ERR_NOT_FOUND);
	assert_int_equal(access(path, F_OK), -1);
	ok(store_stage_end(st, &err));

	/* fenced between the two halves */
	help_save(path, file.data, file.len);
	ok(store_stage_begin(f.store, TOKEN, &st, &err));
	ok(store_pack_rewrite(st, f.reader, &spec, &res, &err));
	rewrite_result_release(&res);
	ok(store_stage_remove(f.store, TOKEN, &err));
	assert_int_equal(store_pack_replace(st, PACK, &err), ERR_FENCED);
	assert_int_equal(store_pack_rewrite(st, f.reader, &spec, &res, &err), ERR_FENCED);
	ok(store_stage_end(st, &err));
	store_drop_cache(f.store);
	help_ok(help_read(&f, f.reader, &o[3], &f.err), &f.err, "read", __LINE__);
	buf_release(&file);
	free(kept);
	help_store_end(&f);
}

/* --- readers beside it --- */

static void test_readers(void **state)
{
	struct object o[N];
	struct bits *kept = calloc(1, sizeof(*kept));
	struct rewrite_result res;
	struct store_pack *held, *now;
	struct fixture f, other;
	struct store_reader *reader;
	unsigned count;
	uint8_t got[50];
	size_t len;
	struct err err = ERR_INIT;

	(void)state;
	setup(&f, 1, o);
	/* another process: a store of its own over the same folder */
	other = f;
	help_store_open(&other, 0);
	ok(help_read(&other, other.reader, &o[9], &err));
	ok(store_pack_get(f.store, PACK, &held, &err));
	keep(kept, 5);
	struct rewrite_spec spec = spec_of(kept);
	assert_int_equal(rewrite_in(&f, &spec, true, &res), 0);
	rewrite_result_release(&res);

	/* who holds the old one still has its slots and its bytes */
	assert_non_null(store_pack_entry(held, 9));
	ok(store_reader_new(f.store, &reader, &err));
	struct store_view v = { .pack = held };
	const uint8_t *record;
	uint8_t *plain = malloc(o[9].size);
	assert_int_equal(store_view_check(&v, reader, store_pack_entry(held, 9), true, plain,
					  &record, &err),
			 1);
	free(plain);
	store_view_release(&v);
	/* so does the other process, whose cache has the old descriptor with the old footer */
	ok(help_read(&other, other.reader, &o[9], &err));
	/* a new get sees the new file */
	ok(store_pack_get(f.store, PACK, &now, &err));
	assert_ptr_not_equal(now, held);
	assert_non_null(store_pack_entries(now, &count));
	assert_int_equal(count, 1);
	store_pack_put(now);
	assert_int_equal(help_read(&f, reader, &o[9], &err), ERR_DAMAGED);
	ok(help_read(&f, reader, &o[5], &err));
	store_pack_put(held);
	/* and the other process does once its descriptor was given up, footer and all */
	store_drop_cache(other.store);
	assert_int_equal(help_read(&other, other.reader, &o[9], &err), ERR_DAMAGED);
	ok(help_read(&other, other.reader, &o[5], &err));

	/* a pack that was removed: the next get finds none, whoever holds it keeps it */
	ok(store_pack_get(f.store, PACK, &held, &err));
	assert_int_equal(store_pack_remove(f.store, PACK, &err), 1);
	assert_int_equal(store_pack_get(f.store, PACK, &now, &err), ERR_NOT_FOUND);
	assert_non_null(store_pack_entry(held, 5));
	store_pack_put(held);
	assert_int_equal(store_record_read(f.store, reader, o[5].locator, o[5].type, o[5].id, true,
					   got, sizeof(got), &len, &err),
			 ERR_DAMAGED);
	store_reader_free(reader);
	help_store_close(&other);
	free(kept);
	help_store_end(&f);
}

/* --- quarantine --- */

static void test_quarantine(void **state)
{
	struct object o[N];
	struct fixture f;
	struct buf before = BUF_INIT, after = BUF_INIT;
	struct store_stage *st;
	struct index_entry entry = { .locator = locator_make(PACK, 1) };
	cleanup_free char *one = NULL, *two = NULL, *three = NULL, *segment = NULL;
	char path[128], moved[256];
	uint64_t *numbers;
	size_t count;
	struct err err = ERR_INIT;

	(void)state;
	setup(&f, 0, o);
	help_pack_path(&f, PACK, path);
	help_load(path, &before);
	ok(help_read(&f, f.reader, &o[3], &err));
	ok(store_pack_quarantine(f.store, PACK, &one, &err));
	assert_true(str_starts(one, "quarantine/pack-0000000001ab-"));
	assert_int_equal(access(path, F_OK), -1);
	snprintf(moved, sizeof(moved), "%s/%s", f.dir, one);
	help_load(moved, &after);
	assert_int_equal(after.len, before.len);
	assert_memory_equal(after.data, before.data, before.len);
	/* also from the cache */
	assert_int_equal(help_read(&f, f.reader, &o[3], &err), ERR_DAMAGED);
	assert_int_equal(store_pack_quarantine(f.store, PACK, &two, &err), ERR_NOT_FOUND);
	assert_null(two);
	/* the same file again, perhaps in the same second: another name */
	help_save(path, before.data, before.len);
	ok(store_pack_quarantine(f.store, PACK, &two, &err));
	assert_string_not_equal(one, two);
	assert_int_equal(access(moved, F_OK), 0);
	/* one that is no pack at all */
	help_save(path, "x", 1);
	ok(store_pack_quarantine(f.store, PACK, &three, &err));
	assert_true(str_starts(three, "quarantine/pack-0000000001ab-unknown-"));

	ok(store_stage_begin(f.store, TOKEN, &st, &err));
	ok(store_segment_write(st, 4, &entry, 1, &err));
	ok(store_stage_end(st, &err));
	ok(store_segment_quarantine(f.store, 4, &segment, &err));
	assert_true(str_starts(segment, "quarantine/segment-0000000000000004-"));
	ok(store_segments_list(f.store, &numbers, &count, &err));
	assert_int_equal(count, 0);
	free(numbers);
	buf_release(&before);
	buf_release(&after);
	help_store_end(&f);
}

/* chattr +i: neither replaced nor removed, and said so by name. */
static void test_immutable(void **state)
{
	struct object o[N];
	struct bits *kept = calloc(1, sizeof(*kept));
	struct rewrite_result res;
	struct store_stage *st;
	struct fixture f;
	char path[128];
	int flags = FS_IMMUTABLE_FL, fd;
	struct err err = ERR_INIT;

	(void)state;
	setup(&f, 1, o);
	help_pack_path(&f, PACK, path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	if (ioctl(fd, FS_IOC_SETFLAGS, &flags) < 0) {
		/* store-rewrite-faults.c has the same by a fault */
		close(fd);
		free(kept);
		help_store_end(&f);
		skip();
	}
	keep(kept, 5);
	struct rewrite_spec spec = spec_of(kept);
	ok(store_stage_begin(f.store, TOKEN, &st, &err));
	ok(store_pack_rewrite(st, f.reader, &spec, &res, &err));
	rewrite_result_release(&res);
	assert_int_equal(store_pack_replace(st, PACK, &err), ERR_PERM);
	assert_non_null(strstr(err.text, path));
	assert_int_equal(staged_files(&f), 0);
	assert_int_equal(store_pack_remove(f.store, PACK, &err), ERR_PERM);
	assert_non_null(strstr(err.text, path));
	ok(store_stage_end(st, &err));
	ok(help_read(&f, f.reader, &o[9], &err));
	flags = 0;
	assert_int_equal(ioctl(fd, FS_IOC_SETFLAGS, &flags), 0);
	close(fd);
	assert_int_equal(rewrite_in(&f, &spec, true, &res), 0);
	rewrite_result_release(&res);
	assert_int_equal(help_read(&f, f.reader, &o[9], &err), ERR_DAMAGED);
	free(kept);
	help_store_end(&f);
}

static void test_allocation_failures(void **state)
{
	struct object o[N];
	struct bits *kept = calloc(1, sizeof(*kept));
	struct fixture f;
	struct err err = ERR_INIT;

	(void)state;
	setup(&f, 0, o);
	kept_slots(kept);
	for (int records = 0; records < 2; records++) {
		struct rewrite_spec spec = spec_of(kept);
		int r = ERR_NOMEM;

		spec.from_records = records;
		for (unsigned n = 1; r != 0; n++) {
			struct rewrite_result res;
			struct store_stage *st;
			struct store_reader *reader;

			assert_true(n < 500);
			ok(store_stage_begin(f.store, TOKEN, &st, &err));
			ok(store_reader_new(f.store, &reader, &err));
			mem_fail_after(n);
			r = store_pack_rewrite(st, reader, &spec, &res, &err);
			mem_fail_after(0);
			if (r != 0 && r != ERR_NOMEM)
				fail_msg("allocation %u: %d %s", n, r, err.text);
			if (r == 0)
				rewrite_result_release(&res);
			store_reader_free(reader);
			ok(store_stage_end(st, &err));
		}
	}
	assert_int_equal(help_read(&f, f.reader, &o[9], &err), 0);
	free(kept);
	help_store_end(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keeps_and_drops), cmocka_unit_test(test_heals),
		cmocka_unit_test(test_bad_records),	cmocka_unit_test(test_wrong_content),
		cmocka_unit_test(test_from_records),	cmocka_unit_test(test_unusable),
		cmocka_unit_test(test_readers),		cmocka_unit_test(test_quarantine),
		cmocka_unit_test(test_immutable),	cmocka_unit_test(test_allocation_failures),
	};

	return cmocka_run_group_tests_name("store-rewrite", tests, NULL, NULL);
}
