// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The chunk index: segments that are lost or bad are taken off the list, and what no good segment knows is listed again from
 * the footers of live data packs.
 *
 * 1. The index is a hint: nothing here is ever an error of a backup, and no point depends on it.
 * 2. A new segment is listed and the bad ones are dropped in one transaction; their files go to quarantine/ afterwards.
 * 3. Slots that are gone or damaged are not listed.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "repo/repair-internal.h"

#include "base/banned.h"

#define SEGMENT_MOST (4u << 20) /* records of a new segment: 96 MiB of memory */
#define BATCH 1024u /* lookups at once */

struct reindex {
	struct repair *x;
	struct store_index *index; /* of the good segments */
	struct index_entry *fresh; /* owned; what none of them knows */
	size_t count, cap;
	uint64_t total; /* records written, or that would be */
	uint64_t *bad; /* owned; numbers */
	size_t nbad;
	struct index_entry batch[BATCH];
	uint8_t ids[BATCH][ID_LEN];
	unsigned nbatch;
};

static int write_fresh(struct reindex *y, struct err *err)
{
	struct repair *x = y->x;
	uint64_t number;
	int r;

	if (x->spec->dry_run || (!y->count && !y->nbad)) {
		y->count = 0;
		return 0;
	}
	r = catalog_segment_begin(x->catalog, x->lease.token, &number, err);
	if (r == 0)
		r = store_segment_write(x->stage, number, y->fresh, y->count, err);
	if (r == 0)
		r = catalog_segments_swap(x->catalog, x->lease.token, number, y->count, y->bad,
					  y->nbad, err);
	if (r == 0) /* a backup merged them away meanwhile */
		r = catalog_segments_swap(x->catalog, x->lease.token, number, y->count, NULL, 0,
					  err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < y->nbad; i++) {
		cleanup_free char *name = NULL;
		struct err local = ERR_INIT;

		if (store_segment_quarantine(x->repo->store, y->bad[i], &name, &local) < 0 &&
		    local.code != ERR_NOT_FOUND) {
			*err = local;
			return local.code;
		}
	}
	y->nbad = 0;
	y->count = 0;
	return 0;
}

static int fresh_add(struct reindex *y, const struct index_entry *e, struct err *err)
{
	struct index_entry *more;

	y->total++;
	if (y->count == y->cap) {
		y->cap = y->cap ? y->cap * 2 : 4096;
		more = mem_realloc_array(y->fresh, y->cap, sizeof(*more));
		if (!more)
			return err_nomem(err, "index segment");
		y->fresh = more;
	}
	y->fresh[y->count++] = *e;
	return y->count >= SEGMENT_MOST ? write_fresh(y, err) : 0;
}

/* A full answer may have left our locator out; then it does not matter. */
static bool knows(const struct index_query *q, uint64_t locator)
{
	for (unsigned i = 0; i < q->count; i++)
		if (q->locators[i] == locator)
			return true;
	return q->count == INDEX_CANDIDATES;
}

static int look_up(struct reindex *y, struct err *err)
{
	cleanup_free struct index_query *q = mem_alloc_array(BATCH, sizeof(*q));
	int r = 0;

	if (!q)
		return err_nomem(err, "index segment");
	for (unsigned i = 0; i < y->nbatch; i++)
		q[i].id = y->ids[i];
	store_index_lookup(y->index, q, y->nbatch);
	for (unsigned i = 0; i < y->nbatch && r == 0; i++)
		if (!knows(&q[i], y->batch[i].locator))
			r = fresh_add(y, &y->batch[i], err);
	y->nbatch = 0;
	return r;
}

static int look_pack(struct reindex *y, const struct pack_row *row, struct err *err)
{
	const struct footer_entry *e;
	struct store_pack *p;
	unsigned count;
	int r = 0;

	if (store_pack_get(y->x->repo->store, row->number, &p, NULL) < 0)
		return 0;
	e = store_pack_entries(p, &count);
	for (unsigned i = 0; i < count && r == 0; i++) {
		if (e[i].type != OBJECT_CHUNK || bits_have(&row->gone, e[i].slot) ||
		    bits_have(&row->damaged, e[i].slot))
			continue;
		memcpy(y->ids[y->nbatch], e[i].id, ID_LEN);
		memcpy(y->batch[y->nbatch].key, e[i].id, SEGMENT_KEY_LEN);
		y->batch[y->nbatch++].locator = locator_make(row->number, e[i].slot);
		if (y->nbatch == BATCH)
			r = look_up(y, err);
	}
	store_pack_put(p);
	return r;
}

static int check_segments(struct reindex *y, struct err *err)
{
	struct repair *x = y->x;
	cleanup_free struct segment_row *rows = NULL;
	size_t count = 0;
	int r = catalog_segments(x->catalog, &rows, &count, err);

	if (r == 0)
		y->bad = mem_alloc_array(MAX(count, 1u), sizeof(*y->bad));
	if (r == 0 && !y->bad)
		r = err_nomem(err, "repair");
	for (size_t i = 0; i < count && r == 0; i++) {
		struct err local = ERR_INIT;

		r = repair_stopped(x, err);
		if (r == 0 && store_segment_check(x->repo->store, rows[i].number, &local) == 0 &&
		    store_index_add(y->index, rows[i].number, &local) == 0)
			continue;
		if (r < 0 || local.code == ERR_NOMEM)
			return r < 0 ? r : err_nomem(err, "repair");
		y->bad[y->nbad++] = rows[i].number;
		repair_say(x, REPAIR_INDEX, LOCATOR_NONE, false,
			   "%s: what it knew is listed again from the footers", local.text);
	}
	return r;
}

/* Without a bad segment a few unknown chunks (of a checkpoint whose segment was dropped) are not worth a word. */
int repair_index(struct repair *x, struct err *err)
{
	cleanup_free struct reindex *y = mem_alloc(sizeof(*y));
	struct pack_list rows = { 0 };
	size_t bad = 0;
	int r = y ? store_index_new(x->repo->store, &y->index, err) : err_nomem(err, "repair");

	if (r < 0)
		return r;
	y->x = x;
	r = check_segments(y, err);
	bad = y->nbad;
	if (r == 0)
		r = catalog_packs(x->catalog, 0, &rows, err);
	for (size_t i = 0; i < rows.count && r == 0; i++)
		if (rows.rows[i].state == PACK_LIVE && rows.rows[i].kind == PACK_DATA)
			r = look_pack(y, &rows.rows[i], err);
	if (r == 0)
		r = look_up(y, err);
	if (r == 0 && !bad && y->total)
		repair_say(x, REPAIR_INDEX, LOCATOR_NONE, false,
			   "%" PRIu64 " chunks are in no index segment: they are listed again",
			   y->total);
	if (r == 0)
		r = write_fresh(y, err);
	if (r == 0 && !x->spec->dry_run && (bad || y->total))
		repair_say(x, REPAIR_INDEX, LOCATOR_NONE, true,
			   "%zu index segments replaced, %" PRIu64 " chunks listed again", bad,
			   y->total);
	pack_list_release(&rows);
	store_index_free(y->index);
	free(y->fresh);
	free(y->bad);
	return r;
}
