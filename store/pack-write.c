/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Writing a pack: append sealed records to a staged file, close it, sync it, read it back, publish it.
 *
 * 1. Sealing happens here, in the order of appends: slot numbers and the pack's subkey are known only now.
 * 2. A writer that failed is in error until it is freed; its file is thrown away whole with the stage, number and
 *    salt are never used again.
 *    (A pack that is rewritten keeps both: store/pack-rewrite.c.)
 * 3. finish() proves by decoding and hashing every record of the file that what will be published can be read. It
 *    finds faults of memory, CPU and codec; it reads the page cache and says nothing about the disk.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/fault.h"
#include "store/internal.h"

#include "base/banned.h"

#define WRITE_FLUSH (1u << 20) /* bytes buffered before a write */
#define READBACK_WINDOW (1u << 20)

static const struct backend_ops *ops_of(const struct store_writer *w)
{
	return w->store->backend->ops;
}

static int fail(struct store_writer *w, int r)
{
	w->state = WRITER_ERROR;
	return r;
}

void store_staged_name(uint64_t number, char name[32])
{
	snprintf(name, 32, "%012" PRIx64 ".pack", number);
}

int store_writer_open(struct store_stage *st, const struct pack_header *h,
		      struct store_writer **out, struct err *err)
{
	struct store *s = st->store;
	cleanup_ptr(store_writer) w = mem_alloc(sizeof(*w));
	uint8_t header[PACK_HEADER_LEN];
	int r;

	if (!w)
		return err_nomem(err, "pack writer");
	w->store = s;
	w->stage = st;
	w->header = *h;
	w->write_point = "store.pack.write";
	w->sync_point = "store.pack.sync";
	store_staged_name(h->number, w->name);
	r = codec_pack_key_new(s->keys, h->salt, h->epoch, h->number, &w->key, err);
	if (r < 0)
		return r;
	r = s->backend->ops->stage_create(s->backend, st->token, w->name, &w->file, err);
	if (r < 0)
		return r;
	pack_header_encode(&w->header, header);
	buf_put(&w->pending, header, sizeof(header));
	if (w->pending.failed)
		return err_nomem(err, "pack writer");
	*out = steal_ptr(w);
	return 0;
}

int store_writer_new(struct store_stage *st, uint64_t number, enum pack_kind kind,
		     struct store_writer **out, struct err *err)
{
	struct store *s = st->store;
	struct pack_header h = { .suite = codec_keys_suite(s->keys)->number,
				 .kind = kind,
				 .number = number,
				 .epoch = codec_keys_epoch(s->keys) };

	memcpy(h.uuid, s->uuid, UUID_LEN);
	random_bytes(h.instance, sizeof(h.instance));
	if (codec_keys_suite(s->keys)->keyed)
		random_bytes(h.salt, SALT_LEN);
	return store_writer_open(st, &h, out, err);
}

void store_writer_free(struct store_writer *w)
{
	if (!w)
		return;
	if (w->file.path)
		ops_of(w)->close(&w->file);
	codec_pack_key_free(w->key);
	buf_release(&w->pending);
	free(w->entries);
	free(w);
}

static int flush_pending(struct store_writer *w, struct err *err)
{
	int r;

	if (w->pending.failed)
		return fail(w, err_nomem(err, "pack writer"));
	r = ops_of(w)->write(&w->file, w->pending.data, w->pending.len, w->written, w->write_point,
			     err);
	if (r < 0)
		return fail(w, r);
	w->written += w->pending.len;
	buf_reset(&w->pending);
	return 0;
}

/* Of a record that begins where the file ends now. */
static int add_entry(struct store_writer *w, const struct footer_entry *entry, struct err *err)
{
	struct footer_entry *e;

	if (w->count == w->cap) {
		uint32_t cap = w->cap ? w->cap * 2 : 1024;
		struct footer_entry *p = mem_realloc_array(w->entries, cap, sizeof(*p));

		if (!p)
			return err_nomem(err, "footer of a pack");
		w->entries = p;
		w->cap = cap;
	}
	e = &w->entries[w->count++];
	*e = *entry;
	e->offset = (uint32_t)store_writer_bytes(w);
	w->slots = MAX(w->slots, e->slot + 1);
	return 0;
}

int store_writer_seal(struct store_writer *w, struct codec_ctx *ctx, const struct store_append *a,
		      uint32_t slot, const uint8_t **record, struct err *err)
{
	struct record_header h = {
		.type = (uint8_t)a->type,
		.codec = (uint8_t)a->codec,
		.level = a->codec == CODEC_RAW ? 0 : (int8_t)a->level,
		.slot = slot,
		.plain_len = a->plain_len,
		.xxh3 = a->xxh3,
	};
	struct footer_entry e = { .slot = slot,
				  .plain_len = a->plain_len,
				  .type = (uint8_t)a->type,
				  .codec = (uint8_t)a->codec };
	size_t room = RECORD_HEADER_LEN + a->n + codec_overhead(w->store->keys);
	uint8_t *at;
	int r;

	memcpy(h.id, a->id, ID_LEN);
	memcpy(e.id, a->id, ID_LEN);
	if (!buf_reserve(&w->pending, room))
		return fail(w, err_nomem(err, "pack writer"));
	at = w->pending.data + w->pending.len;
	r = codec_seal_record(ctx, w->key, &h, a->payload, a->n, at + RECORD_HEADER_LEN, err);
	e.stored_len = h.stored_len;
	if (r == 0)
		r = add_entry(w, &e, err);
	if (r < 0)
		return fail(w, r);
	record_header_encode(&h, at);
	w->pending.len += RECORD_HEADER_LEN + (size_t)h.stored_len;
	*record = at;
	return 0;
}

int store_writer_copy(struct store_writer *w, const struct footer_entry *e, const uint8_t *record,
		      struct err *err)
{
	size_t n = RECORD_HEADER_LEN + (size_t)e->stored_len;
	int r;

	if (!buf_reserve(&w->pending, n))
		return fail(w, err_nomem(err, "pack writer"));
	r = add_entry(w, e, err);
	if (r < 0)
		return fail(w, r);
	buf_put(&w->pending, record, n);
	return store_writer_flush(w, err);
}

int store_writer_flush(struct store_writer *w, struct err *err)
{
	return w->pending.len >= WRITE_FLUSH ? flush_pending(w, err) : 0;
}

int store_writer_append(struct store_writer *w, struct codec_ctx *ctx, const struct store_append *a,
			uint64_t *locator, struct err *err)
{
	uint32_t slot = w->count;
	const uint8_t *record;
	int r;

	if (w->state != WRITER_OPEN || slot >= SLOT_MAX_COUNT)
		return err_set(err, ERR_INTERNAL, "pack %012" PRIx64 " takes no more records",
			       w->header.number);
	r = store_writer_seal(w, ctx, a, slot, &record, err);
	if (r < 0)
		return r;
	*locator = locator_make(w->header.number, slot);
	return store_writer_flush(w, err);
}

bool store_writer_full(const struct store_writer *w)
{
	return store_writer_bytes(w) >= fault_number("store.pack.close", PACK_CLOSE_BYTES) ||
	       w->count >= SLOT_MAX_COUNT;
}

uint64_t store_writer_number(const struct store_writer *w)
{
	return w->header.number;
}

uint32_t store_writer_slots(const struct store_writer *w)
{
	return w->count;
}

uint64_t store_writer_bytes(const struct store_writer *w)
{
	return w->written + w->pending.len;
}

const struct footer_entry *store_writer_entries(const struct store_writer *w, unsigned *count)
{
	*count = w->count;
	return w->entries;
}

/* --- closing --- */

static int write_footer(struct store_writer *w, struct err *err)
{
	struct pack_trailer t = { .footer_offset = store_writer_bytes(w),
				  .count = w->count,
				  .slots = w->slots };
	uint8_t trailer[PACK_TRAILER_LEN];
	size_t start = w->pending.len;

	footer_encode(&w->pending, w->entries, w->count);
	if (w->pending.failed)
		return fail(w, err_nomem(err, "footer of a pack"));
	t.footer_len = (uint32_t)(w->pending.len - start);
	t.footer_check = check_xxh3(w->pending.data + start, t.footer_len);
	memcpy(t.instance, w->header.instance, sizeof(t.instance));
	pack_trailer_encode(&t, trailer);
	buf_put(&w->pending, trailer, sizeof(trailer));
	return flush_pending(w, err);
}

/* A record of the file as it lies there: decoded, hashed, compared. */
static int readback_record(struct store_writer *w, struct store_reader *r,
			   const struct footer_entry *e, const uint8_t *record, uint8_t *plain,
			   struct err *err)
{
	uint8_t id[ID_LEN];
	int ret = store_record_open(r, w->key, e, record, RECORD_HEADER_LEN + (size_t)e->stored_len,
				    plain, err);

	if (ret < 0 || w->hashed)
		return ret;
	ret = codec_id(r->ctx, plain, e->plain_len, id, err);
	if (ret < 0)
		return ret;
	if (memcmp(id, e->id, ID_LEN) != 0)
		return err_set(err, ERR_DAMAGED, "content has another id");
	return 0;
}

static int readback_records(struct store_writer *w, struct store_reader *r, uint64_t end,
			    uint8_t *plain, struct err *err)
{
	uint64_t start = 0, stop = 0; /* of the window in the file */

	for (uint32_t i = 0; i < w->count; i++) {
		const struct footer_entry *e = &w->entries[i];
		size_t n = RECORD_HEADER_LEN + (size_t)e->stored_len;
		int ret;

		if (e->offset + n > stop) {
			start = e->offset;
			stop = MIN(start + MAX(n, READBACK_WINDOW), end);
			ret = store_reader_scratch(r, stop - start, err);
			if (ret == 0)
				ret = ops_of(w)->read(&w->file, r->scratch, stop - start, start,
						      err);
			if (ret < 0)
				return ret;
		}
		ret = readback_record(w, r, e, r->scratch + (e->offset - start), plain, err);
		if (ret < 0)
			return err_prefix(err, "slot %" PRIu32 " read back", e->slot);
	}
	return 0;
}

/* Header, trailer and footer decode to what was meant. */
static int readback_frame(struct store_writer *w, uint64_t *records_end, struct err *err)
{
	uint8_t header[PACK_HEADER_LEN], tail[PACK_TRAILER_LEN];
	struct pack_header h;
	struct pack_trailer t;
	cleanup_free struct footer_entry *entries = NULL;
	cleanup_free uint8_t *footer = NULL;
	uint64_t size;
	int r = ops_of(w)->size(&w->file, &size, err);

	if (r == 0 && size != w->written)
		return err_set(err, ERR_IO, "has %" PRIu64 " bytes instead of %" PRIu64, size,
			       w->written);
	if (r == 0)
		r = ops_of(w)->read(&w->file, header, sizeof(header), 0, err);
	if (r == 0)
		r = pack_header_decode(header, &h, err);
	if (r == 0)
		r = ops_of(w)->read(&w->file, tail, sizeof(tail), size - sizeof(tail), err);
	if (r == 0)
		r = pack_trailer_decode(tail, size, &t, err);
	if (r < 0)
		return r;
	footer = mem_alloc(t.footer_len);
	if (!footer)
		return err_nomem(err, "footer of a pack");
	r = ops_of(w)->read(&w->file, footer, t.footer_len, t.footer_offset, err);
	if (r == 0)
		r = footer_decode(footer, t.footer_len, &t, &entries, err);
	if (r < 0)
		return r;
	if (t.count != w->count || t.slots != w->slots || h.number != w->header.number ||
	    memcmp(h.salt, w->header.salt, SALT_LEN) != 0)
		return err_set(err, ERR_IO, "header or footer read back differ");
	for (uint32_t i = 0; i < t.count; i++)
		if (entries[i].slot != w->entries[i].slot ||
		    entries[i].offset != w->entries[i].offset ||
		    memcmp(entries[i].id, w->entries[i].id, ID_LEN) != 0)
			return err_set(err, ERR_IO, "footer read back differs at slot %" PRIu32, i);
	*records_end = t.footer_offset;
	return 0;
}

int store_writer_finish(struct store_writer *w, struct store_reader *r, struct err *err)
{
	cleanup_free uint8_t *plain = NULL;
	uint32_t largest = 0;
	uint64_t records_end;
	int ret;

	if (w->state != WRITER_OPEN)
		return err_set(err, ERR_INTERNAL, "pack %012" PRIx64 " is not open",
			       w->header.number);
	ret = write_footer(w, err);
	if (ret == 0)
		ret = ops_of(w)->sync(&w->file, w->sync_point, err);
	if (ret < 0)
		return fail(w, ret);
	for (uint32_t i = 0; i < w->count; i++)
		largest = MAX(largest, w->entries[i].plain_len);
	plain = mem_alloc(MAX(largest, 1u));
	if (!plain)
		return fail(w, err_nomem(err, "read-back of a pack"));
	ret = readback_frame(w, &records_end, err);
	if (ret == 0)
		ret = readback_records(w, r, records_end, plain, err);
	if (ret < 0) {
		err_prefix(err, "pack %012" PRIx64 " as written to '%s'", w->header.number,
			   w->file.path);
		return fail(w, ret);
	}
	buf_release(&w->pending);
	ops_of(w)->close(&w->file);
	w->state = WRITER_FINISHED;
	return 0;
}

int store_writer_publish(struct store_writer *w, struct err *err)
{
	struct store_stage *st = w->stage;
	unsigned low = (unsigned)(w->header.number & 0xff);
	int r;

	if (w->state != WRITER_FINISHED)
		return err_set(err, ERR_INTERNAL, "pack %012" PRIx64 " is not finished",
			       w->header.number);
	r = ops_of(w)->publish(st->store->backend, st->token, w->name, BACKEND_PACK,
			       w->header.number, err);
	if (r < 0)
		return fail(w, r);
	st->folders[low / 64] |= (uint64_t)1 << (low % 64);
	w->state = WRITER_PUBLISHED;
	return 0;
}
