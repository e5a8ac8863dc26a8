/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Reclaiming (G9): packs with doomed slots are rewritten without them, or removed.
 *
 * Manifests go first: a catalog that is lost now is rebuilt from those that are still there, and each of them has all it
 * needs.  Then other map packs, then data packs; among equals whole packs first (they need no room), then by how much is
 * freed for what is copied.
 *
 * Invariants:
 *  1. Only packs with doomed slots are looked at.
 *  2. Each pack: read its row again, write the new file or unlink, sync the folder, note what was dropped.  A crash in
 *     between is repaired by doing it again.
 *  3. A pack that cannot be rewritten (a bad live record, an immutable file, a limit, no room) keeps its doomed slots; the
 *     rest goes on.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/log.h"
#include "repo/gc-internal.h"

#include "base/banned.h"

#define FOOTER_READ (64 * KiB) /* what looking at a footer costs, about */

enum pack_class { CLASS_MANIFESTS, CLASS_MAPS, CLASS_DATA };
struct doomed_pack {
	uint64_t number;
	enum pack_class class;
	bool whole; /* nothing is left to keep */
	bool fixed; /* immutable */
	bool crowded; /* there was no room for the new file */
	uint64_t bytes, doomed; /* of the file; of it of doomed records */
};
struct plan {
	struct gc *gc;
	struct doomed_pack *packs; /* owned */
	size_t count;
	uint64_t bytes, done; /* doomed bytes, for progress */
	uint64_t immutable, immutable_bytes;
	uint64_t crowded; /* packs */
	struct err full; /* the error of the first of them */
};

/* --- the plan --- */

static uint8_t keep_byte(const struct pack_row *row, uint32_t k)
{
	return (uint8_t)(slots_byte(row->slots, k) &
			 (~bits_byte(&row->gone, k) | bits_byte(&row->condemned, k)));
}

static bool nothing_to_keep(const struct pack_row *row)
{
	for (uint32_t k = 0; k < div_round_up(row->slots, 8); k++)
		if (keep_byte(row, k))
			return false;
	return true;
}

static bool any_doomed(const struct pack_row *row)
{
	for (uint32_t k = 0; k < row->doomed.nbytes; k++)
		if (row->doomed.bits[k])
			return true;
	return false;
}

/* Sizes and class from the footer.  One that cannot be read: what is known without it. */
static void look(struct gc *g, const struct pack_row *row, struct doomed_pack *d)
{
	cleanup_ptr(store_pack) p = NULL;
	const struct footer_entry *e;
	struct err why = ERR_INIT;
	unsigned count;

	*d = (struct doomed_pack){ .number = row->number,
				   .class = row->kind == PACK_DATA ? CLASS_DATA : CLASS_MAPS,
				   .whole = nothing_to_keep(row),
				   .fixed = store_pack_fixed(g->repo->store, row->number),
				   .bytes = row->bytes,
				   .doomed = row->bytes };
	if (d->whole && row->kind == PACK_DATA)
		return;
	if (store_pack_get(g->repo->store, row->number, &p, &why) < 0) {
		if (row->kind == PACK_MAP)
			d->class = CLASS_MANIFESTS;
		return;
	}
	e = store_pack_entries(p, &count);
	d->bytes = store_pack_size(p);
	d->doomed = d->whole ? d->bytes : 0;
	for (unsigned i = 0; i < count; i++) {
		if (!bits_has(&row->doomed, e[i].slot))
			continue;
		if (e[i].type == OBJECT_MANIFEST)
			d->class = CLASS_MANIFESTS;
		if (!d->whole)
			d->doomed += store_entry_bytes(&e[i]);
	}
}

static int compare_packs(const void *a, const void *b)
{
	const struct doomed_pack *x = a, *y = b;
	double fx = x->bytes ? (double)x->doomed / (double)x->bytes : 1;
	double fy = y->bytes ? (double)y->doomed / (double)y->bytes : 1;

	if (x->class != y->class)
		return x->class < y->class ? -1 : 1;
	if (x->whole != y->whole)
		return x->whole ? -1 : 1;
	if (!x->whole && fx != fy)
		return fx > fy ? -1 : 1;
	return x->number < y->number ? -1 : x->number > y->number;
}

static int plan_make(struct plan *p, const struct pack_list *rows, struct err *err)
{
	int r = 0;

	p->packs = mem_alloc_array(MAX(rows->count, 1u), sizeof(*p->packs));
	if (!p->packs)
		return err_nomem(err, "list of packs");
	for (size_t i = 0; i < rows->count && r == 0; i++) {
		if (!any_doomed(&rows->rows[i]))
			continue;
		r = rate_take(p->gc->rate, FOOTER_READ, err);
		if (r == 0)
			r = gc_stopped(p->gc, err);
		if (r < 0)
			break;
		look(p->gc, &rows->rows[i], &p->packs[p->count]);
		p->bytes += p->packs[p->count++].doomed;
	}
	qsort(p->packs, p->count, sizeof(*p->packs), compare_packs);
	return r;
}

/* Too little to free for what is to be copied, or over the limit? */
static bool left_alone(const struct plan *p, const struct doomed_pack *d)
{
	const struct prune_spec *spec = p->gc->spec;
	uint64_t live = d->bytes - MIN(d->doomed, d->bytes);

	if (d->whole || d->class == CLASS_MANIFESTS)
		return false;
	if (d->doomed * 100 < (uint64_t)spec->min_doomed * d->bytes)
		return true;
	return spec->max_rewrite && p->gc->result->bytes_rewritten + live > spec->max_rewrite;
}

static void leave(struct plan *p, const struct doomed_pack *d)
{
	p->gc->result->packs_left++;
	p->gc->result->bytes_left += d->doomed;
}

/* --- one pack --- */

static int damaged(struct plan *p, const struct doomed_pack *d, const struct err *why)
{
	p->gc->result->packs_damaged++;
	p->gc->result->bytes_left += d->doomed;
	gc_note(p->gc, "pack %012" PRIx64 " is left as it is: %s", d->number, why->text);
	return 0;
}

/* A bad live record: dropping the rest around it would make the damage final. */
static int bad_records(struct plan *p, const struct doomed_pack *d,
		       const struct rewrite_result *res, struct err *err)
{
	struct err why = ERR_INIT;
	int r = catalog_slots_damaged(p->gc->catalog, d->number, res->bad, res->nbad, true, err);

	if (r < 0)
		return r;
	err_set(&why, ERR_DAMAGED,
		"%zu stored chunk%s in use cannot be read (first: slot %" PRIu32
		"); run 'livepoint verify', then 'livepoint repair'",
		res->nbad, res->nbad == 1 ? "" : "s", res->bad[0]);
	return damaged(p, d, &why);
}

/* Its doomed slots stay: the protocol allows any delay. */
static int immutable(struct plan *p, const struct doomed_pack *d)
{
	p->immutable++;
	p->immutable_bytes += d->doomed;
	leave(p, d);
	return 0;
}

static int remove_pack(struct plan *p, const struct doomed_pack *d, const struct pack_row *row,
		       struct err *err)
{
	struct gc *g = p->gc;
	int r = store_pack_remove(g->repo->store, d->number, err);

	if (r == ERR_PERM) {
		err_clear(err);
		return immutable(p, d);
	}
	if (r >= 0 && !fault_planted("gc.remove-sync"))
		r = store_pack_folder_sync(g->repo->store, d->number, err); /* G9c */
	if (r >= 0)
		r = catalog_gc_dropped(g->catalog, g->lease.token, d->number, &row->doomed, 0, NULL,
				       err); /* G9d */
	if (r < 0)
		return r;
	g->result->packs_removed++;
	g->result->bytes_freed += row->bytes;
	return 0;
}

static int replace(struct plan *p, const struct doomed_pack *d, const struct pack_row *row,
		   const struct rewrite_result *res, struct err *err)
{
	struct gc *g = p->gc;
	int r = store_pack_replace(g->stage, d->number, err);

	if (r == ERR_PERM) {
		err_clear(err);
		return immutable(p, d);
	}
	if (r == 0 && !fault_planted("gc.rewrite-sync"))
		r = store_stage_sync(g->stage, err); /* G9c */
	if (r == 0)
		r = catalog_gc_dropped(g->catalog, g->lease.token, d->number, &row->doomed,
				       res->new_bytes, NULL, err); /* G9d */
	if (r < 0)
		return r;
	g->result->packs_rewritten++;
	g->result->bytes_rewritten += res->new_bytes;
	g->result->bytes_freed += res->old_bytes - MIN(res->old_bytes, res->new_bytes);
	return 0;
}

/* No room for a copy.  What takes none goes on, and makes some. */
static int crowded(struct plan *p, struct doomed_pack *d, const struct err *why)
{
	if (!p->crowded++)
		p->full = *why;
	d->crowded = true;
	return 0;
}

static int rewrite(struct plan *p, struct doomed_pack *d, const struct pack_row *row,
		   struct err *err)
{
	struct gc *g = p->gc;
	uint32_t n = (uint32_t)div_round_up(row->slots, 8);
	cleanup_free uint8_t *keep = mem_alloc(MAX(n, 1u));
	struct rewrite_spec spec = { .number = d->number, .keep = keep, .keep_bytes = n };
	struct rewrite_result res = { 0 };
	struct store_reader *reader;
	struct err why = ERR_INIT;
	int r;

	if (!keep)
		return err_nomem(err, "pack");
	for (uint32_t k = 0; k < n; k++)
		keep[k] = keep_byte(row, k);
	r = rate_take(g->rate, d->bytes + 2 * (d->bytes - MIN(d->doomed, d->bytes)), err);
	if (r == 0)
		r = repo_reader_get(g->repo, &reader, err);
	if (r < 0)
		return r;
	r = store_pack_rewrite(g->stage, reader, &spec, &res, &why);
	repo_reader_put(g->repo, reader);
	if (r == 1)
		r = bad_records(p, d, &res, err);
	else if (r == 0)
		r = replace(p, d, row, &res, err);
	else if (r == ERR_DAMAGED || r == ERR_NOT_FOUND)
		r = damaged(p, d, &why);
	else if (r == ERR_NOSPC)
		r = crowded(p, d, &why);
	else if (err)
		*err = why;
	rewrite_result_release(&res);
	return r;
}

static int reclaim_pack(struct plan *p, struct doomed_pack *d, struct err *err)
{
	struct gc *g = p->gc;
	struct pack_list now = { 0 };
	int r = catalog_gc_pack(g->catalog, g->lease.token, d->number, &now, err); /* G9a */

	if (r == ERR_NOT_FOUND) {
		err_clear(err);
		return 0;
	}
	if (r < 0)
		return r;
	if (!any_doomed(&now.rows[0]))
		r = 0;
	else if (nothing_to_keep(&now.rows[0]))
		r = remove_pack(p, d, &now.rows[0], err);
	else
		r = rewrite(p, d, &now.rows[0], err);
	pack_list_release(&now);
	return r;
}

/* --- all --- */

static void show(const struct plan *p)
{
	struct progress now = { .phase = "reclaim",
				.done = p->done,
				.total = p->bytes,
				.stored = p->gc->result->bytes_rewritten };

	if (p->gc->spec->progress)
		p->gc->spec->progress(p->gc->spec->opaque, &now);
}

static int reclaim_next(struct plan *p, struct doomed_pack *d, struct err *err)
{
	int r;

	show(p);
	r = gc_stopped(p->gc, err);
	if (r == 0 && d->fixed)
		r = immutable(p, d);
	else if (r == 0 && left_alone(p, d))
		leave(p, d);
	else if (r == 0)
		r = reclaim_pack(p, d, err);
	if (!d->crowded)
		p->done += d->doomed;
	return r;
}

/* On a full disk the packs that had no room are tried again as long as others make some. */
static int reclaim_all(struct plan *p, struct err *err)
{
	uint64_t before, freed = 0;
	int r = 0;

	for (size_t i = 0; i < p->count && r == 0; i++)
		r = reclaim_next(p, &p->packs[i], err);
	while (r == 0 && p->crowded && p->gc->result->bytes_freed > freed) {
		freed = p->gc->result->bytes_freed;
		before = p->crowded;
		p->crowded = 0;
		for (size_t i = 0; i < p->count && before && r == 0; i++) {
			if (!p->packs[i].crowded)
				continue;
			p->packs[i].crowded = false;
			r = reclaim_next(p, &p->packs[i], err);
			before--;
		}
	}
	if (r == 0 && p->crowded && err)
		*err = p->full;
	return r == 0 && p->crowded ? ERR_NOSPC : r;
}

int reclaim(struct gc *g, struct err *err)
{
	struct plan p = { .gc = g };
	struct pack_list rows = { 0 };
	int r = catalog_gc_doomed(g->catalog, &rows, err);

	if (r == 0)
		r = plan_make(&p, &rows, err);
	pack_list_release(&rows);
	if (r == 0)
		r = reclaim_all(&p, err);
	if (r == 0)
		show(&p);
	if (p.immutable)
		gc_note(g,
			"%" PRIu64
			" pack%s may not be changed (immutable, or no permission): %" PRIu64
			" bytes stay",
			p.immutable, p.immutable == 1 ? "" : "s", p.immutable_bytes);
	free(p.packs);
	return r;
}

int reclaim_preview(struct gc *g, const struct pack_list *rows, struct err *err)
{
	struct plan p = { .gc = g };
	int r = plan_make(&p, rows, err);

	for (size_t i = 0; i < p.count && r == 0; i++) {
		const struct doomed_pack *d = &p.packs[i];

		if (d->fixed || left_alone(&p, d)) {
			leave(&p, d);
			continue;
		}
		g->result->packs_removed += d->whole;
		g->result->packs_rewritten += !d->whole;
		g->result->bytes_freed += d->doomed;
		g->result->bytes_rewritten += d->whole ? 0 : d->bytes - MIN(d->doomed, d->bytes);
	}
	free(p.packs);
	return r;
}
