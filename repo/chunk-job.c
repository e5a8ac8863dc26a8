/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a worker does with a buffer of chunks: zero test, id, comparison with the parent, index, compression.
 *
 * 1. The result depends on the input, the parent and the listed index only, not on the number of workers: what other
 *    jobs stored meanwhile is decided again, in order, by the session's thread (disk-write.c).
 * 2. An index hit counts only when the pack's footer lists the full id at that slot and the slot may be used.
 *    Among several, the lowest locator, so that the order of segments does not matter.
 * 3. Errors stay in the job; a parent's footer that cannot be read makes its chunks different, never an error.
 */
#include <stdlib.h>

#include "repo/session-internal.h"

#include "base/banned.h"

/* A pack used by several chunks in a row. */
struct held {
	struct store *store;
	struct store_pack *pack;
	uint64_t number; /* of the last one asked for; 0: none */
};

static const struct footer_entry *held_entry(struct held *h, uint64_t locator)
{
	const struct footer_entry *e;

	if (h->number != locator_pack(locator)) {
		if (h->pack)
			store_pack_put(h->pack);
		h->pack = NULL;
		h->number = locator_pack(locator);
		if (store_pack_get(h->store, h->number, &h->pack, NULL) < 0)
			h->pack = NULL;
	}
	if (!h->pack)
		return NULL;
	e = store_pack_entry(h->pack, locator_slot(locator));
	return e && e->type == OBJECT_CHUNK ? e : NULL;
}

static void held_release(struct held *h)
{
	if (h->pack)
		store_pack_put(h->pack);
}

static bool equals_parent(struct chunk_job *j, struct held *h, uint64_t locator, const uint8_t *id)
{
	const struct footer_entry *e;

	if (locator == LOCATOR_NONE || locator == LOCATOR_UNREADABLE ||
	    usable_damaged(&j->session->usable, locator))
		return false;
	e = held_entry(h, locator);
	return e && memcmp(e->id, id, ID_LEN) == 0;
}

/* First pass: holes, ids, the parent.  Chunks that remain are CHUNK_NEW for now. */
static int pass_ids(struct chunk_job *j, struct codec_ctx *ctx, struct held *h, struct err *err)
{
	const uint32_t cs = j->session->repo->conf.chunk_size;

	for (unsigned i = 0; i < j->count; i++) {
		const uint8_t *p = j->buffer + (size_t)i * cs;
		struct chunk_out *o = &j->out[i];
		int r;

		if (mem_is_zero(p, cs)) {
			o->result = CHUNK_HOLE;
			continue;
		}
		r = codec_id(ctx, p, cs, o->id, err);
		if (r < 0)
			return r;
		o->result = CHUNK_NEW;
		o->locator = LOCATOR_NONE;
		if (j->parents && equals_parent(j, h, j->parents[i], o->id)) {
			o->result = CHUNK_PARENT;
			o->locator = j->parents[i];
		}
	}
	return 0;
}

struct candidate {
	uint64_t locator;
	unsigned chunk;
};

static int compare_candidates(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	return x->locator < y->locator ? -1 : x->locator > y->locator;
}

/* Second pass: the index, all chunks of the job at once; footers are visited in pack order. */
static void pass_index(struct chunk_job *j, struct held *h)
{
	struct index_query queries[JOB_CHUNKS_MAX];
	unsigned chunk_of[JOB_CHUNKS_MAX], nq = 0, nc = 0;
	struct candidate candidates[JOB_CHUNKS_MAX * INDEX_CANDIDATES];

	for (unsigned i = 0; i < j->count; i++) {
		if (j->out[i].result != CHUNK_NEW)
			continue;
		j->out[i].locator = id_table_find(&j->session->ids, j->out[i].id);
		if (j->out[i].locator != LOCATOR_NONE)
			continue;
		queries[nq].id = j->out[i].id;
		chunk_of[nq++] = i;
	}
	if (!nq)
		return;
	store_index_lookup(j->session->index, queries, nq);
	for (unsigned q = 0; q < nq; q++)
		for (unsigned k = 0; k < queries[q].count; k++)
			if (usable_by_index(&j->session->usable, queries[q].locators[k]))
				candidates[nc++] =
					(struct candidate){ queries[q].locators[k], chunk_of[q] };
	qsort(candidates, nc, sizeof(candidates[0]), compare_candidates);
	for (unsigned c = 0; c < nc; c++) {
		struct chunk_out *o = &j->out[candidates[c].chunk];
		const struct footer_entry *e;

		if (o->result == CHUNK_INDEX)
			continue;
		e = held_entry(h, candidates[c].locator);
		if (!e || memcmp(e->id, o->id, ID_LEN) != 0)
			continue;
		o->result = CHUNK_INDEX;
		o->locator = candidates[c].locator;
	}
}

/* Third pass: what is left is compressed, unless this session has stored it already (o->locator). */
static int pass_compress(struct chunk_job *j, struct codec_ctx *ctx, struct err *err)
{
	const uint32_t cs = j->session->repo->conf.chunk_size;
	bool keyed = codec_keys_suite(j->session->repo->keys)->keyed;

	for (unsigned i = 0; i < j->count; i++) {
		const uint8_t *p = j->buffer + (size_t)i * cs;
		struct chunk_out *o = &j->out[i];
		int r;

		o->payload = NULL;
		if (o->result != CHUNK_NEW || o->locator != LOCATOR_NONE)
			continue;
		r = codec_compress(ctx, j->session->level, p, cs, j->packed + (size_t)i * cs, cs,
				   &o->codec, &o->n, err);
		if (r < 0)
			return r;
		o->payload = o->codec == CODEC_RAW ? p : j->packed + (size_t)i * cs;
		o->xxh3 = keyed ? 0 : check_xxh3(p, cs);
	}
	return 0;
}

void chunk_job_run(struct pool_job *job, void *ctx)
{
	struct chunk_job *j = container_of(job, struct chunk_job, job);
	struct repo_worker *w = ctx;
	struct held h = { .store = j->session->repo->store };
	struct codec_ctx *codec;
	int r;

	err_clear(&j->err);
	if (j->kind != JOB_CHUNKS)
		return;
	if (!w) {
		err_nomem(&j->err, "worker");
		return;
	}
	codec = store_reader_codec(w->reader);
	r = pass_ids(j, codec, &h, &j->err);
	if (r == 0) {
		pass_index(j, &h);
		r = pass_compress(j, codec, &j->err);
	}
	held_release(&h);
	if (r < 0 && !j->err.code)
		err_set(&j->err, ERR_INTERNAL, "worker failed");
}
