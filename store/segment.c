/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Writing index segments: sorted records, a fence, a blocked bloom filter; from a table in memory, or merged from
 * other segments by streaming.
 *
 * 1. A segment is derived: it can be lost or wrong, and a backup goes on without it.
 * 2. Memory: fence and bloom (1.3 bytes a record), and 1 MiB a segment that is merged.
 * 3. A merge that leaves entries out reads its input twice: fence and filter are made for the number that stays.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "store/internal.h"

#include "base/banned.h"

#define SEGMENT_FLUSH (1u << 20)

struct segment_writer {
	struct store_stage *stage;
	struct backend_file file;
	char name[32];
	struct segment_header h;
	uint64_t expected, written; /* records announced, bytes in the file */
	struct buf pending;
	struct check_stream *check;
	uint32_t *fence;
	uint8_t *bloom;
	uint64_t next_prefix; /* first fence entry not yet filled */
};

static const struct backend_ops *ops_of(const struct segment_writer *w)
{
	return w->stage->store->backend->ops;
}

static void writer_release(struct segment_writer *w)
{
	if (w->file.path)
		ops_of(w)->close(&w->file);
	buf_release(&w->pending);
	check_stream_free(w->check);
	free(w->fence);
	free(w->bloom);
}

static int writer_begin(struct segment_writer *w, struct store_stage *st, uint64_t number,
			uint64_t records, struct err *err)
{
	struct store *s = st->store;

	w->stage = st;
	w->expected = records;
	memcpy(w->h.uuid, s->uuid, UUID_LEN);
	w->h.number = number;
	w->h.records = records;
	w->h.fence_bits = segment_fence_bits(records);
	w->h.bloom_len = segment_bloom_len(records);
	w->h.records_offset = SEGMENT_HEADER_LEN;
	w->h.fence_offset = w->h.records_offset + records * SEGMENT_RECORD_LEN;
	w->h.bloom_offset = w->h.fence_offset + 4 * (((uint64_t)1 << w->h.fence_bits) + 1);
	w->fence = mem_alloc_array(((size_t)1 << w->h.fence_bits) + 1, sizeof(*w->fence));
	w->bloom = mem_alloc(w->h.bloom_len ? w->h.bloom_len : 1);
	w->check = check_stream_new();
	if (!w->fence || !w->bloom || !w->check)
		return err_nomem(err, "index segment");
	snprintf(w->name, sizeof(w->name), "%016" PRIx64 ".seg", number);
	buf_put_zero(&w->pending, SEGMENT_HEADER_LEN); /* the header is written last */
	return s->backend->ops->stage_create(s->backend, st->token, w->name, &w->file, err);
}

static int writer_flush(struct segment_writer *w, struct err *err)
{
	int r;

	if (w->pending.failed)
		return err_nomem(err, "index segment");
	r = ops_of(w)->write(&w->file, w->pending.data, w->pending.len, w->written,
			     "store.segment.write", err);
	if (r < 0)
		return r;
	w->written += w->pending.len;
	buf_reset(&w->pending);
	return 0;
}

static uint64_t key_prefix(const uint8_t *key, unsigned bits)
{
	return bits ? get_be64(key) >> (64 - bits) : 0;
}

/* Entries must come in order; index: of this one. */
static int writer_add(struct segment_writer *w, const struct index_entry *e, uint64_t index,
		      struct err *err)
{
	uint8_t record[SEGMENT_RECORD_LEN];
	uint64_t prefix = key_prefix(e->key, w->h.fence_bits);

	while (w->next_prefix <= prefix)
		w->fence[w->next_prefix++] = (uint32_t)index;
	memcpy(record, e->key, SEGMENT_KEY_LEN);
	put_le64(record + SEGMENT_KEY_LEN, e->locator);
	check_stream_update(w->check, record, sizeof(record));
	buf_put(&w->pending, record, sizeof(record));
	segment_bloom_add(w->bloom, w->h.bloom_len, e->key);
	return w->pending.len >= SEGMENT_FLUSH ? writer_flush(w, err) : 0;
}

static int writer_end(struct segment_writer *w, struct err *err)
{
	uint64_t nfence = ((uint64_t)1 << w->h.fence_bits) + 1;
	uint8_t header[SEGMENT_HEADER_LEN];
	cleanup_buf struct buf fence = BUF_INIT;
	int r;

	while (w->next_prefix < nfence)
		w->fence[w->next_prefix++] = (uint32_t)w->h.records;
	for (uint64_t i = 0; i < nfence; i++)
		buf_put_le32(&fence, w->fence[i]);
	buf_put(&w->pending, fence.data, fence.len);
	buf_put(&w->pending, w->bloom, w->h.bloom_len);
	if (fence.failed)
		return err_nomem(err, "index segment");
	r = writer_flush(w, err);
	if (r < 0)
		return r;
	w->h.records_check = check_stream_value(w->check);
	w->h.fence_check = check_xxh3(fence.data, fence.len);
	w->h.bloom_check = check_xxh3(w->bloom, w->h.bloom_len);
	segment_header_encode(&w->h, header);
	r = ops_of(w)->write(&w->file, header, sizeof(header), 0, "store.segment.write", err);
	if (r == 0)
		r = ops_of(w)->sync(&w->file, "store.segment.sync", err);
	if (r == 0)
		r = ops_of(w)->publish(w->stage->store->backend, w->stage->token, w->name,
				       BACKEND_SEGMENT, w->h.number, err);
	if (r < 0)
		return r;
	w->stage->index = true;
	return ops_of(w)->folder_sync(w->stage->store->backend, BACKEND_SEGMENT, w->h.number, err);
}

static int compare_entries(const void *a, const void *b)
{
	const struct index_entry *x = a, *y = b;
	int r = memcmp(x->key, y->key, SEGMENT_KEY_LEN);

	if (r)
		return r;
	return x->locator < y->locator ? -1 : x->locator > y->locator;
}

int store_segment_write(struct store_stage *st, uint64_t number, struct index_entry *entries,
			size_t n, struct err *err)
{
	struct segment_writer w = { 0 };
	int r;

	if (n > UINT32_MAX)
		return err_set(err, ERR_TOO_BIG, "index segment of %zu records", n);
	if (n)
		qsort(entries, n, sizeof(*entries), compare_entries);
	r = writer_begin(&w, st, number, n, err);
	for (size_t i = 0; i < n && r == 0; i++)
		r = writer_add(&w, &entries[i], i, err);
	if (r == 0)
		r = writer_end(&w, err);
	writer_release(&w);
	return r < 0 ? err_prefix(err, "index segment %" PRIu64, number) : 0;
}

/* --- merging --- */

struct segment_input {
	struct store *store;
	struct backend_file file;
	struct segment_header h;
	struct check_stream *check;
	uint8_t *window; /* SEGMENT_FLUSH / record length records */
	uint64_t next; /* records read from the file */
	size_t at, have; /* records in the window */
	struct index_entry head;
	bool done;
};

static void input_release(struct segment_input *in)
{
	if (in->file.path)
		in->store->backend->ops->close(&in->file);
	check_stream_free(in->check);
	free(in->window);
}

static int input_next(struct segment_input *in, struct err *err)
{
	const size_t most = SEGMENT_FLUSH / SEGMENT_RECORD_LEN;

	if (in->at == in->have) {
		uint64_t left = in->h.records - in->next;
		int r;

		if (!left) {
			in->done = true;
			if (check_stream_value(in->check) != in->h.records_check)
				return err_set(err, ERR_DAMAGED,
					       "'%s': records do not have their check",
					       in->file.path);
			return 0;
		}
		in->have = (size_t)MIN(left, most);
		in->at = 0;
		r = in->store->backend->ops->read(
			&in->file, in->window, in->have * SEGMENT_RECORD_LEN,
			in->h.records_offset + in->next * SEGMENT_RECORD_LEN, err);
		if (r < 0)
			return r;
		check_stream_update(in->check, in->window, in->have * SEGMENT_RECORD_LEN);
		in->next += in->have;
	}
	memcpy(in->head.key, in->window + in->at * SEGMENT_RECORD_LEN, SEGMENT_KEY_LEN);
	in->head.locator = get_le64(in->window + in->at * SEGMENT_RECORD_LEN + SEGMENT_KEY_LEN);
	in->at++;
	return 0;
}

static int input_open(struct segment_input *in, struct store *s, uint64_t number, struct err *err)
{
	uint8_t header[SEGMENT_HEADER_LEN];
	uint64_t size;
	int r;

	in->store = s;
	r = s->backend->ops->open(s->backend, BACKEND_SEGMENT, number, &in->file, err);
	if (r == 0)
		r = s->backend->ops->size(&in->file, &size, err);
	if (r == 0)
		r = s->backend->ops->read(&in->file, header, sizeof(header), 0, err);
	if (r == 0)
		r = segment_header_decode(header, size, &in->h, err);
	if (r < 0)
		return r;
	in->check = check_stream_new();
	in->window = mem_alloc(SEGMENT_FLUSH);
	if (!in->check || !in->window)
		return err_nomem(err, "index segment");
	return input_next(in, err);
}

static struct segment_input *smallest(struct segment_input *in, size_t n)
{
	struct segment_input *best = NULL;

	for (size_t i = 0; i < n; i++)
		if (!in[i].done && (!best || compare_entries(&in[i].head, &best->head) < 0))
			best = &in[i];
	return best;
}

struct merge {
	struct store *store;
	const uint64_t *old;
	size_t nold;
	bool (*keep)(void *opaque, uint64_t locator); /* NULL: all */
	void *opaque;
};

/* Takes the smallest entry; an equal one that came before is not kept again. */
static int merge_step(const struct merge *m, struct segment_input *s, struct index_entry *last,
		      struct segment_writer *w, uint64_t *count, struct err *err)
{
	int r = 0;

	if (!m->keep ||
	    (compare_entries(last, &s->head) != 0 && m->keep(m->opaque, s->head.locator))) {
		if (w)
			r = writer_add(w, &s->head, *count, err);
		++*count;
	}
	*last = s->head;
	return r == 0 ? input_next(s, err) : r;
}

/* One walk through all of them in order: counts what is kept, and writes it if there is a writer. */
static int merge_walk(const struct merge *m, struct segment_writer *w, uint64_t *count,
		      struct err *err)
{
	cleanup_free struct segment_input *in = mem_alloc_array(MAX(m->nold, 1u), sizeof(*in));
	struct index_entry last = { .locator = LOCATOR_NONE };
	struct segment_input *s;
	int r = in ? 0 : err_nomem(err, "merge of index segments");

	*count = 0;
	for (size_t k = 0; k < m->nold && r == 0; k++)
		r = input_open(&in[k], m->store, m->old[k], err);
	while (r == 0 && (s = smallest(in, m->nold)))
		r = merge_step(m, s, &last, w, count, err);
	for (size_t k = 0; in && k < m->nold; k++)
		if (in[k].store)
			input_release(&in[k]);
	return r;
}

/* Without a filter the headers say how many there will be. */
static int merge_count(const struct merge *m, uint64_t *total, struct err *err)
{
	int r = 0;

	*total = 0;
	if (m->keep)
		return merge_walk(m, NULL, total, err);
	for (size_t k = 0; k < m->nold && r == 0; k++) {
		uint64_t records = 0;

		r = store_segment_records(m->store, m->old[k], &records, err);
		*total += records;
	}
	return r;
}

int store_segment_merge(struct store_stage *st, uint64_t number, const uint64_t *old, size_t nold,
			bool (*keep)(void *opaque, uint64_t locator), void *opaque,
			uint64_t *records, struct err *err)
{
	struct merge m = {
		.store = st->store, .old = old, .nold = nold, .keep = keep, .opaque = opaque
	};
	struct segment_writer w = { 0 };
	uint64_t total, written;
	int r = merge_count(&m, &total, err);

	if (r == 0 && total > UINT32_MAX)
		r = err_set(err, ERR_TOO_BIG, "index segment of %" PRIu64 " records", total);
	if (r == 0)
		r = writer_begin(&w, st, number, total, err);
	if (r == 0)
		r = merge_walk(&m, &w, &written, err);
	if (r == 0 && written != total)
		r = err_set(err, ERR_DAMAGED, "index segments changed while they were merged");
	if (r == 0)
		r = writer_end(&w, err);
	if (w.stage)
		writer_release(&w);
	if (r < 0)
		return err_prefix(err, "merge into index segment %" PRIu64, number);
	*records = total;
	return 0;
}

int store_segment_check(struct store *s, uint64_t number, struct err *err)
{
	struct segment_input in = { 0 };
	struct index_entry before = { 0 };
	int r = input_open(&in, s, number, err);

	while (r == 0 && !in.done) {
		if (compare_entries(&before, &in.head) > 0) {
			r = err_set(err, ERR_DAMAGED, "records are not sorted");
			break;
		}
		before = in.head;
		r = input_next(&in, err);
	}
	input_release(&in);
	return r < 0 ? err_prefix(err, "index segment %" PRIu64, number) : 0;
}

int store_segment_each(struct store *s, uint64_t number,
		       int (*fn)(void *opaque, const struct index_entry *e, struct err *err),
		       void *opaque, struct err *err)
{
	struct segment_input in = { 0 };
	int r = input_open(&in, s, number, err);

	while (r == 0 && !in.done) {
		r = fn(opaque, &in.head, err);
		if (r == 0)
			r = input_next(&in, err);
	}
	input_release(&in);
	return r < 0 ? err_prefix(err, "index segment %" PRIu64, number) : 0;
}

int store_segment_records(struct store *s, uint64_t number, uint64_t *records, struct err *err)
{
	struct segment_input in = { 0 };
	int r = input_open(&in, s, number, err);

	if (r == 0)
		*records = in.h.records;
	input_release(&in);
	return r < 0 ? err_prefix(err, "index segment %" PRIu64, number) : 0;
}
