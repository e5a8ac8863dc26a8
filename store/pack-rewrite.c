/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Making a pack's file anew, with fewer slots (compaction), other ones (healing) or a new footer (repair), and putting it
 * in the place of the old one.
 *
 * The old file's list of records, from its footer or from a scan, and the fresh ones are merged by slot; each record is
 * checked, content id and all, before it is added.  The read-back then proves that the file has what was checked.
 *
 * Invariants:
 *  1. Number, slots, salt, suite and epoch stay; the instance is new.  A sealed record is copied byte for byte: its nonce
 *     names its slot, its key hangs on salt and number, and nothing of it on offset or instance.
 *  2. A bad record is never copied: it would launder damage.  Without skip_bad it stops the whole; the walk goes on only to
 *     name the others.
 *  3. The old file is not touched until the rename; before it, nothing but a file in staging/TOKEN was made.
 *  4. The trailer's slots never fall, so that what was once a slot is not taken for a number never given out.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "store/internal.h"

#include "base/banned.h"

struct old_record {
	struct footer_entry entry;
	bool bad; /* the scan says so; not looked at again */
};

struct rewrite {
	struct store *store;
	struct store_stage *stage;
	struct store_reader *reader;
	const struct rewrite_spec *spec;
	struct store_pack *old;
	struct store_view view;
	struct old_record *records; /* owned; ascending slots */
	size_t nrecords, cap;
	uint32_t slots; /* of the old trailer, 0 if it does not hold */
	uint8_t *plain; /* owned; OBJECT_PLAIN_MAX bytes */
	struct store_writer *writer; /* NULL: only naming what is bad */
	struct rewrite_result result;
};

void rewrite_result_release(struct rewrite_result *r)
{
	free(r->bad);
	r->bad = NULL;
	r->nbad = 0;
}

static void rewrite_release(struct rewrite *rw)
{
	store_writer_free(rw->writer);
	store_view_release(&rw->view);
	free(rw->records);
	free(rw->plain);
	if (rw->old)
		store_pack_put(rw->old);
	rewrite_result_release(&rw->result);
}
#define cleanup_rewrite __attribute__((cleanup(rewrite_release)))

static bool kept(const struct rewrite_spec *spec, uint32_t slot)
{
	return slot / 8 < spec->keep_bytes && (spec->keep[slot / 8] >> (slot % 8) & 1);
}

static int check_spec(const struct rewrite_spec *spec, struct err *err)
{
	for (size_t i = 0; i < spec->nfresh; i++)
		if (!kept(spec, spec->fresh[i].slot) || spec->fresh[i].slot >= SLOT_MAX_COUNT ||
		    (i > 0 && spec->fresh[i].slot <= spec->fresh[i - 1].slot))
			return err_set(err, ERR_INTERNAL,
				       "fresh slot %" PRIu32 " is out of order or not kept",
				       spec->fresh[i].slot);
	return 0;
}

/* --- what the old file has --- */

static int add_record(void *opaque, const struct footer_entry *e, bool ok, struct err *err)
{
	struct rewrite *rw = opaque;

	if (rw->nrecords == rw->cap) {
		size_t cap = rw->cap ? rw->cap * 2 : 1024;
		struct old_record *p = mem_realloc_array(rw->records, cap, sizeof(*p));

		if (!p)
			return err_nomem(err, "records of a pack");
		rw->records = p;
		rw->cap = cap;
	}
	rw->records[rw->nrecords++] = (struct old_record){ .entry = *e, .bad = !ok };
	return 0;
}

/* By the footer. */
static int list_footer(struct rewrite *rw, struct err *err)
{
	const struct footer_entry *entries;
	unsigned count;
	int r = store_pack_load(rw->store, rw->spec->number, &rw->old, err);

	if (r < 0)
		return r;
	rw->slots = rw->old->trailer.slots;
	entries = store_pack_entries(rw->old, &count);
	for (unsigned i = 0; i < count && r == 0; i++)
		r = add_record(rw, &entries[i], true, err);
	return r;
}

/* By the records themselves; of the trailer, if it holds, only the number of slots. */
static int list_records(struct rewrite *rw, struct err *err)
{
	const struct backend_ops *ops = rw->store->backend->ops;
	uint8_t tail[PACK_TRAILER_LEN];
	struct pack_trailer t;
	struct scan_result scan;
	int r = store_pack_load_header(rw->store, rw->spec->number, &rw->old, err);

	if (r == 0)
		r = store_pack_scan(rw->store, rw->reader, rw->spec->number, add_record, rw, &scan,
				    err);
	if (r < 0)
		return r;
	if (rw->old->size >= sizeof(tail) &&
	    ops->read(&rw->old->file, tail, sizeof(tail), rw->old->size - sizeof(tail), NULL) ==
		    0 &&
	    pack_trailer_decode(tail, rw->old->size, &t, NULL) == 0 &&
	    memcmp(t.instance, rw->old->header.instance, sizeof(t.instance)) == 0)
		rw->slots = t.slots;
	return 0;
}

/* --- the new file --- */

static int writer_begin(struct rewrite *rw, struct err *err)
{
	struct pack_header h = rw->old->header;
	int r;

	random_bytes(h.instance, sizeof(h.instance));
	r = store_writer_open(rw->stage, &h, &rw->writer, err);
	if (r < 0)
		return r;
	rw->writer->write_point = "store.rewrite.write";
	rw->writer->sync_point = "store.rewrite.sync";
	rw->writer->slots = rw->slots;
	rw->writer->hashed = true;
	return 0;
}

/* Closes and removes the file that was begun; the first error counts, and the stage's end removes what stays. */
static void writer_drop(struct rewrite *rw)
{
	const struct backend_ops *ops = rw->store->backend->ops;
	char name[32];

	if (!rw->writer)
		return;
	store_writer_free(rw->writer);
	rw->writer = NULL;
	store_staged_name(rw->spec->number, name);
	(void)ops->stage_drop(rw->store->backend, rw->stage->token, name, NULL);
}

static int note_bad(struct rewrite *rw, uint32_t slot, struct err *err)
{
	struct rewrite_result *res = &rw->result;
	uint32_t *p = mem_realloc_array(res->bad, res->nbad + 1, sizeof(*p));

	if (!p)
		return err_nomem(err, "list of bad records");
	res->bad = p;
	res->bad[res->nbad++] = slot;
	if (!rw->spec->skip_bad)
		writer_drop(rw);
	return 0;
}

static int copy_record(struct rewrite *rw, const struct old_record *old, struct err *err)
{
	const uint8_t *record;
	int r = old->bad ? 0 :
			   store_view_check(&rw->view, rw->reader, &old->entry, true, rw->plain,
					    &record, err);

	if (r == 0)
		return note_bad(rw, old->entry.slot, err);
	if (r < 0 || !rw->writer)
		return r < 0 ? r : 0;
	return store_writer_copy(rw->writer, &old->entry, record, err);
}

/* Is what was just sealed what its id says?  Whoever gives it has read it from somewhere. */
static int check_sealed(struct rewrite *rw, const uint8_t *record, struct err *err)
{
	const struct footer_entry *e = &rw->writer->entries[rw->writer->count - 1];
	uint8_t id[ID_LEN];
	int r = store_record_open(rw->reader, rw->writer->key, e, record, store_entry_bytes(e),
				  rw->plain, err);

	if (r == 0)
		r = codec_id(rw->reader->ctx, rw->plain, e->plain_len, id, err);
	if (r == 0 && memcmp(id, e->id, ID_LEN) != 0)
		r = err_set(err, ERR_DAMAGED, "content has another id");
	return r < 0 ? err_prefix(err, "what is to heal slot %" PRIu32, e->slot) : 0;
}

static int seal_fresh(struct rewrite *rw, const struct rewrite_slot *fresh, struct err *err)
{
	const uint8_t *record;
	int r;

	if (!rw->writer)
		return 0;
	r = store_writer_seal(rw->writer, rw->reader->ctx, &fresh->append, fresh->slot, &record,
			      err);
	if (r == 0)
		r = check_sealed(rw, record, err);
	return r < 0 ? r : store_writer_flush(rw->writer, err);
}

/* Both lists by slot; a fresh one takes the place of the old. */
static int merge(struct rewrite *rw, struct err *err)
{
	const struct rewrite_spec *spec = rw->spec;
	size_t i = 0, k = 0;
	int r = 0;

	while (r == 0 && (i < rw->nrecords || k < spec->nfresh)) {
		uint32_t slot = i < rw->nrecords ? rw->records[i].entry.slot : UINT32_MAX;

		if (k < spec->nfresh && spec->fresh[k].slot <= slot) {
			i += spec->fresh[k].slot == slot;
			r = seal_fresh(rw, &spec->fresh[k++], err);
		} else if (kept(spec, slot)) {
			r = copy_record(rw, &rw->records[i++], err);
		} else {
			i++;
		}
	}
	return r;
}

static int finish(struct rewrite *rw, struct err *err)
{
	struct store_writer *w = rw->writer;
	uint64_t bytes = store_writer_bytes(w) + FOOTER_MAGIC_LEN +
			 (uint64_t)w->count * FOOTER_ENTRY_LEN + PACK_TRAILER_LEN;

	if (bytes > PACK_BYTES_MAX)
		return err_set(err, ERR_TOO_BIG, "%" PRIu64 " bytes do not fit a pack", bytes);
	rw->result.new_bytes = bytes;
	rw->result.slots = w->slots;
	return store_writer_finish(w, rw->reader, err);
}

static int make(struct rewrite *rw, struct err *err)
{
	int r;

	rw->plain = mem_alloc(OBJECT_PLAIN_MAX);
	if (!rw->plain)
		return err_nomem(err, "rewriting of a pack");
	rw->view.pack = rw->old;
	r = writer_begin(rw, err);
	if (r == 0)
		r = merge(rw, err);
	/* Without a writer there is something bad. */
	if (r == 0 && rw->writer)
		r = finish(rw, err);
	if (r < 0)
		writer_drop(rw);
	return r;
}

int store_pack_rewrite(struct store_stage *st, struct store_reader *r,
		       const struct rewrite_spec *spec, struct rewrite_result *result,
		       struct err *err)
{
	cleanup_rewrite struct rewrite rw = {
		.store = st->store, .stage = st, .reader = r, .spec = spec
	};
	int ret = check_spec(spec, err);

	if (ret == 0)
		ret = spec->from_records ? list_records(&rw, err) : list_footer(&rw, err);
	if (ret < 0)
		return ret;
	if (!rw.old->key)
		return err_set(err, ERR_KEY,
			       "pack %012" PRIx64 ": the repository's key is needed to rewrite it",
			       spec->number);
	rw.result.old_bytes = rw.old->size;
	ret = make(&rw, err);
	if (ret < 0)
		return err_prefix(err, "rewriting pack %012" PRIx64, spec->number), ret;
	*result = rw.result;
	rw.result = (struct rewrite_result){ 0 };
	return rw.writer ? 0 : 1;
}

int store_pack_replace(struct store_stage *st, uint64_t number, struct err *err)
{
	struct backend *b = st->store->backend;
	unsigned low = (unsigned)(number & 0xff);
	char name[32];
	int r;

	store_staged_name(number, name);
	r = b->ops->replace(b, st->token, name, BACKEND_PACK, number, err);
	if (r < 0) {
		/* The old file stands; the new one would only take space until the stage ends. */
		(void)b->ops->stage_drop(b, st->token, name, NULL);
		return err_prefix(err, "pack %012" PRIx64, number), r;
	}
	st->folders[low / 64] |= (uint64_t)1 << (low % 64);
	store_pack_forget(st->store, number);
	return 0;
}

bool store_pack_fixed(struct store *s, uint64_t number)
{
	return s->backend->ops->fixed(s->backend, BACKEND_PACK, number);
}

/* --- packs that have no file --- */

static int remake_fill(struct store_writer *w, struct store_reader *r,
		       const struct rewrite_slot *fresh, size_t nfresh, uint64_t *bytes,
		       struct err *err)
{
	const uint8_t *record;
	int ret = 0;

	w->write_point = "store.remake.write";
	w->sync_point = "store.remake.sync";
	for (size_t i = 0; i < nfresh && ret == 0; i++) {
		if (fresh[i].slot >= SLOT_MAX_COUNT ||
		    (i > 0 && fresh[i].slot <= fresh[i - 1].slot))
			return err_set(err, ERR_INTERNAL, "fresh slot %" PRIu32 " is out of order",
				       fresh[i].slot);
		ret = store_writer_seal(w, r->ctx, &fresh[i].append, fresh[i].slot, &record, err);
		if (ret == 0)
			ret = store_writer_flush(w, err);
	}
	if (ret == 0) /* reads back, and recomputes the ids */
		ret = store_writer_finish(w, r, err);
	if (ret == 0)
		*bytes = store_writer_bytes(w);
	return ret < 0 ? ret : store_writer_publish(w, err);
}

int store_pack_remake(struct store_stage *st, struct store_reader *r, uint64_t number,
		      enum pack_kind kind, const struct rewrite_slot *fresh, size_t nfresh,
		      uint64_t *bytes, struct err *err)
{
	cleanup_ptr(store_writer) w = NULL;
	int ret = store_writer_new(st, number, kind, &w, err);

	if (ret == 0)
		ret = remake_fill(w, r, fresh, nfresh, bytes, err);
	if (ret < 0)
		return err_prefix(err, "making pack %012" PRIx64 " again", number), ret;
	store_pack_forget(st->store, number);
	return 0;
}
