/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Packs of a session, from the first append to the transaction that makes them live.
 *
 * open (s->data, s->map) -> finishing (pool: sync, read back; at most FINISH_DEPTH) -> finished (oldest first) ->
 * published (renamed) -> transaction (checkpoint or publication).
 *
 * 1. Numbers are handed out by a committed transaction before the file exists.
 * 2. A checkpoint takes data packs only; map packs wait for the publication, the one with the manifest last.
 * 3. Folders are synced between rename and transaction.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/log.h"
#include "repo/session-internal.h"

#include "base/banned.h"

/* Segments are merged when there are this many listed, so that a lookup asks few filters. */
#define MERGE_AT 16u
#define MERGE_MOST (MERGE_AT / 4 * 3)

static void finish_run(struct pool_job *job, void *ctx)
{
	struct finish_job *f = container_of(job, struct finish_job, job);
	struct repo_worker *w = ctx;

	if (!w)
		f->result = err_nomem(&f->err, "worker");
	else
		f->result = store_writer_finish(f->writer, w->reader, &f->err);
}

static void finish_free(struct finish_job *f)
{
	store_writer_free(f->writer);
	free(f);
}

uint64_t session_pack_bytes(const struct store_writer *w)
{
	return store_writer_bytes(w) + FOOTER_MAGIC_LEN +
	       (uint64_t)store_writer_slots(w) * FOOTER_ENTRY_LEN + PACK_TRAILER_LEN;
}

static void list_add(struct finish_job **head, struct finish_job **tail, struct finish_job *f)
{
	f->next = NULL;
	if (*head)
		(*tail)->next = f;
	else
		*head = f;
	*tail = f;
}

/* A job that came out of the queue, always the oldest under way. */
static int take_finished(struct repo_session *s, struct pool_job *job, struct err *err)
{
	struct finish_job *f = container_of(job, struct finish_job, job);
	int r = f->result;

	s->underway = f->next;
	if (r < 0) {
		if (err)
			*err = f->err;
		s->failed = true;
		finish_free(f);
		return r;
	}
	list_add(&s->finished, &s->finished_tail, f);
	s->nfinished_data += f->kind == PACK_DATA;
	return 0;
}

int session_collect(struct repo_session *s, bool wait, struct err *err)
{
	struct pool_job *job;

	while ((job = wait ? queue_pop(s->finishing) : queue_pop_ready(s->finishing))) {
		int r = take_finished(s, job, err);

		if (r < 0)
			return r;
	}
	return 0;
}

int session_rotate(struct repo_session *s, enum pack_kind kind, struct err *err)
{
	struct store_writer **slot = kind == PACK_DATA ? &s->data : &s->map;
	struct finish_job *f;

	if (!*slot)
		return 0;
	while (queue_full(s->finishing)) {
		int r = take_finished(s, queue_pop(s->finishing), err);

		if (r < 0)
			return r;
	}
	f = mem_alloc(sizeof(*f));
	if (!f)
		return err_nomem(err, "pack");
	f->job.run = finish_run;
	f->session = s;
	f->kind = kind;
	f->writer = *slot;
	*slot = NULL;
	s->counters.stored += session_pack_bytes(f->writer);
	list_add(&s->underway, &s->underway_tail, f);
	queue_push(s->finishing, &f->job);
	return 0;
}

/* A pack of maps is closed early: whoever reads one page or leaf needs the whole footer, and with 65 536 slots that alone
 * made the first read of a 16 TiB disk 4 ms slower than that of a small one. */
static bool writer_done(const struct store_writer *w, enum pack_kind kind)
{
	return store_writer_full(w) ||
	       (kind == PACK_MAP && store_writer_slots(w) >= MAP_PACK_SLOTS);
}

static int writer_for(struct repo_session *s, enum pack_kind kind, struct store_writer **out,
		      struct err *err)
{
	struct store_writer **slot = kind == PACK_DATA ? &s->data : &s->map;
	uint64_t number;
	int r;

	if (*slot && writer_done(*slot, kind)) {
		r = session_rotate(s, kind, err);
		if (r < 0)
			return r;
	}
	if (!*slot) {
		r = catalog_pack_begin(s->catalog, s->lease.token, kind, &number, err);
		if (r == 0)
			r = store_writer_new(s->stage, number, kind, slot, err);
		if (r < 0)
			return r;
	}
	*out = *slot;
	return 0;
}

int session_append(struct repo_session *s, enum pack_kind kind, const struct store_append *a,
		   uint64_t *locator, struct err *err)
{
	struct store_writer *w;
	int r = writer_for(s, kind, &w, err);

	if (r == 0)
		r = store_writer_append(w, store_reader_codec(s->reader), a, locator, err);
	if (r == 0 && a->type == OBJECT_CHUNK)
		r = id_table_add(&s->ids, a->id, *locator, err);
	return r;
}

int session_object(struct repo_session *s, enum object_type type, const void *p, size_t n,
		   struct object_ref *ref, struct err *err)
{
	struct codec_ctx *codec = store_reader_codec(s->reader);
	cleanup_free uint8_t *packed = mem_realloc_array(NULL, n, 1);
	struct store_append a = {
		.type = type, .plain_len = (uint32_t)n, .level = s->level, .payload = p, .n = n
	};
	struct object_ref fresh = { 0 };
	int r;

	if (!packed)
		return err_nomem(err, "object");
	if (!n || n > OBJECT_PLAIN_MAX)
		return err_set(err, ERR_TOO_BIG, "%s of %zu bytes", object_type_name(type), n);
	r = codec_id(codec, p, n, fresh.id, err);
	if (r == 0)
		r = codec_compress(codec, s->level, p, n, packed, n, &a.codec, &a.n, err);
	if (r < 0)
		return r;
	if (a.codec == CODEC_RAW)
		a.n = n;
	else
		a.payload = packed;
	a.id = fresh.id;
	if (!codec_keys_suite(s->repo->keys)->keyed)
		a.xxh3 = check_xxh3(p, n);
	r = session_append(s, PACK_MAP, &a, &fresh.locator, err);
	if (r == 0)
		*ref = fresh;
	return r;
}

/* --- from finished to live --- */

static int rename_kind(struct repo_session *s, enum pack_kind kind, struct err *err)
{
	struct finish_job **at = &s->finished, *last = NULL;

	while (*at) {
		struct finish_job *f = *at;
		int r;

		if (f->kind != kind) {
			last = f;
			at = &f->next;
			continue;
		}
		r = store_writer_publish(f->writer, err);
		if (r < 0)
			return r;
		*at = f->next;
		s->nfinished_data -= kind == PACK_DATA;
		f->next = s->published;
		s->published = f;
	}
	s->finished_tail = last;
	return 0;
}

int session_rename(struct repo_session *s, bool maps, struct err *err)
{
	int r = rename_kind(s, PACK_DATA, err);

	if (r == 0 && maps)
		r = rename_kind(s, PACK_MAP, err);
	if (r == 0)
		r = store_stage_sync(s->stage, err);
	return r;
}

static int write_segment(struct repo_session *s, size_t records, struct session_done *done,
			 struct err *err)
{
	cleanup_free struct index_entry *entries = mem_alloc_array(records, sizeof(*entries));
	size_t n = 0;
	uint64_t number;
	int r;

	if (!entries)
		return err_nomem(err, "index segment");
	for (struct finish_job *f = s->published; f; f = f->next) {
		unsigned count;
		const struct footer_entry *e = store_writer_entries(f->writer, &count);

		for (unsigned i = 0; i < count; i++) {
			if (e[i].type != OBJECT_CHUNK)
				continue;
			memcpy(entries[n].key, e[i].id, SEGMENT_KEY_LEN);
			entries[n++].locator =
				locator_make(store_writer_number(f->writer), e[i].slot);
		}
	}
	r = catalog_segment_begin(s->catalog, s->lease.token, &number, err);
	if (r == 0)
		r = store_segment_write(s->stage, number, entries, n, err);
	if (r < 0)
		return r;
	done->segment = number;
	done->segment_records = n;
	return 0;
}

int session_done_fill(struct repo_session *s, struct session_done *done, struct pack_done **packs,
		      struct err *err)
{
	size_t n = 0, records = 0;

	*done = (struct session_done){ 0 };
	for (struct finish_job *f = s->published; f; f = f->next) {
		n++;
		records += f->kind == PACK_DATA ? store_writer_slots(f->writer) : 0;
	}
	*packs = mem_alloc_array(n ? n : 1, sizeof(**packs));
	if (!*packs)
		return err_nomem(err, "list of packs");
	for (struct finish_job *f = s->published; f; f = f->next)
		(*packs)[done->npacks++] =
			(struct pack_done){ .number = store_writer_number(f->writer),
					    .slots = store_writer_slots(f->writer),
					    .bytes = store_writer_bytes(f->writer) };
	done->packs = *packs;
	return records ? write_segment(s, records, done, err) : 0;
}

void session_done_clear(struct repo_session *s)
{
	while (s->published) {
		struct finish_job *f = s->published;

		s->published = f->next;
		finish_free(f);
	}
}

/* What was published is live: workers may find it by the index from now on. */
static int adopt(struct repo_session *s, const struct session_done *done, struct err *err)
{
	int r = 0;

	/* Renamed last, first in the list: add them in ascending order. */
	for (size_t i = done->npacks; i-- > 0 && r == 0;)
		r = usable_add_own(&s->usable, done->packs[i].number, err);
	if (r == 0 && done->segment && store_index_add(s->index, done->segment, err) < 0) {
		/* Chunks of it may be stored again: a hint is lost, no data. */
		log_warning("index segment %" PRIu64 " cannot be opened after it was written: %s",
			    done->segment, err ? err->text : "");
		err_clear(err);
	}
	return r;
}

static int segment_note(struct repo_session *s, uint64_t number, uint64_t records, struct err *err)
{
	struct segment_row *rows = mem_realloc_array(s->segments, s->nsegments + 1, sizeof(*rows));

	if (!rows)
		return err_nomem(err, "list of segments");
	s->segments = rows;
	rows[s->nsegments++] = (struct segment_row){ .number = number, .records = records };
	return 0;
}

static int remember(struct repo_session *s, const struct store_writer *w, struct err *err)
{
	unsigned count;
	const struct footer_entry *e = store_writer_entries(w, &count);
	int r = 0;

	for (unsigned i = 0; i < count && r == 0; i++)
		if (e[i].type == OBJECT_CHUNK)
			r = id_table_add(&s->ids, e[i].id,
					 locator_make(store_writer_number(w), e[i].slot), err);
	return r;
}

int session_checkpoint(struct repo_session *s, struct err *err)
{
	cleanup_free struct pack_done *packs = NULL;
	struct session_done done;
	int r;

	if (!s->nfinished_data)
		return 0;
	r = session_rename(s, false, err);
	if (r == 0)
		r = session_done_fill(s, &done, &packs, err);
	if (r == 0)
		r = catalog_checkpoint(s->catalog, s->lease.token, &done, err);
	if (r == 0)
		r = adopt(s, &done, err);
	if (r == 0 && done.segment)
		r = segment_note(s, done.segment, done.segment_records, err);
	if (r == 0)
		r = id_table_turn(&s->ids, err);
	/* Chunks of packs that are not listed yet must stay findable. */
	for (struct finish_job *f = s->underway; f && r == 0; f = f->next)
		r = remember(s, f->writer, err);
	for (struct finish_job *f = s->finished; f && r == 0; f = f->next)
		r = remember(s, f->writer, err);
	if (r == 0 && s->data)
		r = remember(s, s->data, err);
	if (r < 0) {
		s->failed = true;
		return r;
	}
	session_done_clear(s);
	s->checkpoint_ns = time_mono_ns();
	return session_merge_index(s, err);
}

/* --- merging of index segments --- */

static int compare_segments(const void *a, const void *b)
{
	const struct segment_row *x = a, *y = b;

	return x->records < y->records ? -1 : x->records > y->records;
}

static int merge_now(struct repo_session *s, size_t n, struct err *err)
{
	struct index_live live = { 0 };
	uint64_t old[MERGE_MOST];
	struct segment_row fresh = { 0 };
	int r = index_live_read(s->catalog, &live, err);

	for (size_t i = 0; i < n; i++)
		old[i] = s->segments[i].number;
	if (r == 0)
		r = index_merge(s->repo, s->catalog, s->lease.token, s->stage, &live, old, n,
				&fresh, err);
	index_live_release(&live);
	if (r == 0) { /* another session was first: its list counts, ours is no more */
		free(s->segments);
		s->segments = NULL;
		s->nsegments = 0;
		return catalog_segments(s->catalog, &s->segments, &s->nsegments, err);
	}
	if (r < 0)
		return r;
	(void)store_index_add(s->index, fresh.number, NULL);
	for (size_t i = 0; i < n; i++)
		store_index_drop(s->index, old[i]);
	s->segments[0] = fresh;
	memmove(&s->segments[1], &s->segments[n], (s->nsegments - n) * sizeof(*s->segments));
	s->nsegments -= n - 1;
	return 0;
}

int session_merge_index(struct repo_session *s, struct err *err)
{
	const size_t at = MIN(fault_number("repo.index.merge", MERGE_AT), (uint64_t)MERGE_AT);
	const size_t most = at / 4 * 3;
	struct err local = ERR_INIT;
	int r;

	if (!most || s->nsegments < at)
		return 0;
	qsort(s->segments, s->nsegments, sizeof(*s->segments), compare_segments);
	r = merge_now(s, most, &local);
	if (r == ERR_FENCED || r == ERR_UNKNOWN || r == ERR_NOSPC) {
		if (err)
			*err = local;
		return r;
	}
	/* A bad or lost segment is never an error of a backup: it is dropped from the list and the chunks it knew are
	 * stored again when they come. */
	if (r < 0) {
		log_warning("index segments cannot be merged: %s", local.text);
		for (size_t i = 0; i < most; i++) {
			r = store_segment_check(s->repo->store, s->segments[i].number, NULL);
			if (r != ERR_DAMAGED && r != ERR_NOT_FOUND)
				continue;
			(void)catalog_segment_drop(s->catalog, s->segments[i].number, NULL);
			store_index_drop(s->index, s->segments[i].number);
			(void)store_segment_remove(s->repo->store, s->segments[i].number, NULL);
			memmove(&s->segments[i], &s->segments[i + 1],
				(s->nsegments - i - 1) * sizeof(*s->segments));
			s->nsegments--;
			break;
		}
	}
	return 0;
}
