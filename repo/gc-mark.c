/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Marking: which slots do points need?  Manifest -> roots -> pages -> leaves -> runs of chunks, and manifest -> parts of
 * the files that are kept with it.
 *
 * Each level has a list of references still to be read.  The deepest list that is long enough goes first, so that lists
 * stay short however many points there are: a batch of references is sorted by locator, cut into jobs, read and decoded
 * on the pool; what comes out is marked here, in one thread, so the bitmaps need no lock.
 *
 * Invariants:
 *  1. A map object is read once: its bit in `visited` is set when it is put into a list.  Bits of map objects are apart
 *     from those of chunks, so that a leaf which names a leaf as if it were data hides nothing.
 *  2. Memory: a bit a slot, and lists of at most LEAVES_MOST + PAGES_BATCH * PAGE_LEAVES references at the lowest level,
 *     PAGES_MOST + ROOTS_BATCH * ROOT_PAGES_MAX above it, and so on.
 *  3. Every object is checked by its hash: what is marked is what its point was published with.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "repo/gc-internal.h"

#include "base/banned.h"

#define LEAVES_MOST 16384u /* references */
#define PAGES_MOST 1024u
#define LEAVES_BATCH 16384u
#define PAGES_BATCH 32u
#define ROOTS_BATCH 8u
#define MANIFESTS_BATCH 64u
#define JOB_REFS 16u

enum level { LEVEL_MANIFEST, LEVEL_ROOT, LEVEL_PAGE, LEVEL_LEAF, LEVELS };
static const enum object_type level_type[LEVELS] = { OBJECT_MANIFEST, OBJECT_ROOT, OBJECT_PAGE,
						     OBJECT_LEAF };
static const size_t level_bytes[LEVELS] = { MANIFEST_MAX, PAGE_BYTES_MAX, PAGE_BYTES_MAX,
					    LEAF_BYTES_MAX };

struct mark_ref {
	struct object_ref ref;
	uint32_t point; /* index of the first point that was seen to have it */
};
struct mark_list {
	struct mark_ref *refs; /* owned */
	size_t count, cap;
};
struct walk {
	struct gc *gc;
	struct marks *marks;
	const struct point_list *points;
	struct mark_list lists[LEVELS];
	struct queue *queue;
	size_t at; /* next point whose manifest is to be read */
	bool *lost; /* per point: already counted in marks->lost */
	uint64_t bytes; /* of map objects read, for progress */
};

struct mark_job {
	struct pool_job job;
	struct repo *repo;
	enum level level;
	const struct mark_ref *refs; /* of the batch */
	unsigned count;
	void *out[JOB_REFS]; /* struct manifest, root, page or leaf */
	int results[JOB_REFS];
	uint64_t bytes;
	struct err first; /* the first error */
};

/* --- on the pool --- */

static int decode(enum level level, const void *p, size_t n, void **out, struct err *err)
{
	switch (level) {
	case LEVEL_MANIFEST:
		return manifest_decode(p, n, (struct manifest **)out, err);
	case LEVEL_ROOT:
		return root_decode(p, n, (struct root **)out, err);
	case LEVEL_PAGE:
		return page_decode(p, n, (struct page **)out, err);
	default:
		return leaf_decode(p, n, (struct leaf **)out, err);
	}
}

static void drop(enum level level, void *object)
{
	if (level == LEVEL_MANIFEST)
		manifest_free(object);
	else
		free(object);
}

static void job_run(struct pool_job *job, void *ctx)
{
	struct mark_job *j = container_of(job, struct mark_job, job);
	struct repo_worker *w = ctx;
	const size_t cap = level_bytes[j->level];
	cleanup_free uint8_t *bytes = mem_realloc_array(NULL, cap, 1);

	if (w && bytes)
		for (unsigned i = 0; i < j->count; i++)
			store_records_willneed(j->repo->store, j->refs[i].ref.locator, 1);
	for (unsigned i = 0; i < j->count; i++) {
		const struct object_ref *ref = &j->refs[i].ref;
		struct err local = ERR_INIT;
		size_t n = 0;

		if (!w || !bytes)
			j->results[i] = err_nomem(&local, "marking");
		else
			j->results[i] = store_record_read(j->repo->store, w->reader, ref->locator,
							  level_type[j->level], ref->id, true,
							  bytes, cap, &n, &local);
		if (j->results[i] == 0)
			j->results[i] = decode(j->level, bytes, n, &j->out[i], &local);
		j->bytes += n;
		if (j->results[i] < 0 && !j->first.code)
			j->first = local;
	}
}

/* --- marking --- */

static int push(struct mark_list *l, const struct object_ref *ref, uint32_t point, struct err *err)
{
	if (l->count == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 256;
		struct mark_ref *p = mem_realloc_array(l->refs, cap, sizeof(*p));

		if (!p)
			return err_nomem(err, "marking");
		l->refs = p;
		l->cap = cap;
	}
	l->refs[l->count++] = (struct mark_ref){ .ref = *ref, .point = point };
	return 0;
}

/* A map object that a point needs: marked, and read unless it was. */
static int visit(struct walk *w, enum level level, const struct object_ref *ref, uint32_t point,
		 struct err *err)
{
	struct marks *m = w->marks;
	int r;

	if (ref->locator == LOCATOR_NONE)
		return 0;
	if (m->other && slot_set_has(&m->other->visited, ref->locator))
		return 0;
	slot_set_fill(&m->slots, ref->locator, 1);
	r = slot_set_visit(&m->visited, ref->locator, err);
	return r == 1 ? push(&w->lists[level], ref, point, err) : r;
}

static int visit_all(struct walk *w, enum level level, const struct object_ref *refs,
		     unsigned count, uint32_t point, struct err *err)
{
	int r = 0;

	for (unsigned i = 0; i < count && r == 0; i++)
		r = visit(w, level, &refs[i], point, err);
	return r;
}

/* Data, like chunks: nothing refers from there to anything. */
static void mark_config(struct walk *w, const struct manifest_config *c)
{
	for (unsigned i = 0; i < c->nparts; i++)
		slot_set_fill(&w->marks->slots, c->parts[i].locator, 1);
}

static int mark_object(struct walk *w, enum level level, const void *object, uint32_t point,
		       struct err *err)
{
	const struct manifest *m = object;
	const struct root *root = object;
	const struct page *page = object;
	const struct leaf *leaf = object;
	int r = 0;

	switch (level) {
	case LEVEL_MANIFEST:
		for (size_t i = 0; i < m->ndisks && r == 0; i++)
			r = visit(w, LEVEL_ROOT, &m->disks[i].root, point, err);
		for (size_t i = 0; i < m->nconfigs; i++)
			mark_config(w, &m->configs[i]);
		return r;
	case LEVEL_ROOT:
		return visit_all(w, LEVEL_PAGE, root->pages, root->count, point, err);
	case LEVEL_PAGE:
		return visit_all(w, LEVEL_LEAF, page->leaves, page->count, point, err);
	default:
		for (unsigned i = 0; i < leaf->nruns; i++)
			if (leaf->runs[i].kind == RUN_DATA)
				slot_set_fill(&w->marks->slots, leaf->runs[i].locator,
					      leaf->runs[i].count);
		return 0;
	}
}

/* --- what cannot be read --- */

static int damaged(struct walk *w, const struct mark_ref *ref, const struct err *why,
		   struct err *err)
{
	const struct point_row *row = &w->points->rows[ref->point];
	char point[POINT_TEXT_MAX];
	int code = why->code;

	repo_point_text(row->m, point);
	if (code == ERR_NOT_FOUND || code == ERR_UNSUPPORTED)
		code = ERR_DAMAGED;
	if (code != ERR_DAMAGED)
		return err_set(err, code, "map of '%s': %s", point, why->text);
	err_set(err, code,
		"map of '%s' cannot be read, so nobody can tell which data it needs; nothing was "
		"condemned: run 'livepoint repair', or forget that point, then prune again: %s",
		point, why->text);
	return err_object(err, "%s", point);
}

/* Most slots that a point can name. */
static uint64_t most_slots(const struct manifest *m)
{
	uint64_t all = 1;

	for (size_t i = 0; i < m->ndisks; i++) {
		uint64_t chunks, leaves;
		uint32_t pages;

		if (map_geometry(m->disks[i].size, m->disks[i].chunk_size, &chunks, &leaves,
				 &pages))
			all += chunks + leaves + pages + 1;
	}
	/* A row does not say which files there are. */
	all += POINT_CONFIGS_MAX * CONFIG_PARTS_MAX;
	return all;
}

/* An expired point's map: nothing is lost by not knowing what only it used, but that explains as many slots less. */
static void note_lost(struct walk *w, enum level level, const struct mark_ref *ref,
		      const struct err *why)
{
	const struct point_row *row = &w->points->rows[ref->point];
	char point[POINT_TEXT_MAX];

	if (level == LEVEL_LEAF) {
		w->marks->lost += LEAF_CHUNKS + 1;
	} else if (!w->lost[ref->point]) {
		w->marks->lost += most_slots(row->m);
	}
	if (!w->lost[ref->point]) {
		repo_point_text(row->m, point);
		gc_note(w->gc, "map of '%s', which is going, cannot be read: %s", point, why->text);
	}
	w->lost[ref->point] = true;
}

static bool is_damage(int code)
{
	return code == ERR_DAMAGED || code == ERR_NOT_FOUND || code == ERR_UNSUPPORTED ||
	       code == ERR_IO;
}

/* --- batches --- */

static int job_done(struct walk *w, struct mark_job *j, int so_far, struct err *err)
{
	int r = so_far;

	w->bytes += j->bytes;
	for (unsigned i = 0; i < j->count; i++) {
		if (r == 0 && j->results[i] == 0)
			r = mark_object(w, j->level, j->out[i], j->refs[i].point, err);
		else if (r == 0 && w->marks->tolerant && is_damage(j->results[i]))
			note_lost(w, j->level, &j->refs[i], &j->first);
		else if (r == 0)
			r = damaged(w, &j->refs[i], &j->first, err);
		if (j->out[i])
			drop(j->level, j->out[i]);
	}
	free(j);
	return r;
}

static int compare_refs(const void *a, const void *b)
{
	const struct mark_ref *x = a, *y = b;

	return x->ref.locator < y->ref.locator ? -1 : x->ref.locator > y->ref.locator;
}

/* Pops jobs: all of them, or until there is room for one more. */
static int drain(struct walk *w, bool all, int so_far, struct err *err)
{
	struct pool_job *job;

	while ((all || queue_full(w->queue)) && (job = queue_pop(w->queue)))
		so_far = job_done(w, container_of(job, struct mark_job, job), so_far, err);
	return so_far;
}

static void show(struct walk *w)
{
	struct progress p = { .phase = "mark", .done = w->bytes, .total = UINT64_MAX };

	if (w->gc->spec->progress)
		w->gc->spec->progress(w->gc->spec->opaque, &p);
}

/* refs: taken out of the list; job_done puts others into the lists meanwhile. */
static int run_batch(struct walk *w, enum level level, const struct mark_ref *refs, size_t count,
		     struct err *err)
{
	uint64_t before = w->bytes;
	int r = 0;

	for (size_t i = 0; i < count && r == 0; i += JOB_REFS) {
		struct mark_job *j;

		r = drain(w, false, r, err);
		if (r == 0)
			r = gc_stopped(w->gc, err);
		if (r == 0)
			r = rate_take(w->gc->rate, w->bytes - before, err);
		if (r < 0)
			break;
		before = w->bytes;
		j = mem_alloc(sizeof(*j));
		if (!j) {
			r = err_nomem(err, "marking");
			break;
		}
		j->job.run = job_run;
		j->repo = w->gc->repo;
		j->level = level;
		j->refs = refs + i;
		j->count = (unsigned)MIN(count - i, JOB_REFS);
		queue_push(w->queue, &j->job);
	}
	r = drain(w, true, r, err);
	show(w);
	return r;
}

static int batch(struct walk *w, enum level level, size_t most, struct err *err)
{
	struct mark_list *l = &w->lists[level];
	size_t n = MIN(most, l->count);
	cleanup_free struct mark_ref *refs = mem_alloc_array(MAX(n, 1u), sizeof(*refs));

	if (!refs)
		return err_nomem(err, "marking");
	l->count -= n;
	memcpy(refs, l->refs + l->count, n * sizeof(*refs));
	qsort(refs, n, sizeof(*refs), compare_refs);
	return run_batch(w, level, refs, n, err);
}

/* The next manifests into their list. */
static int feed(struct walk *w, struct err *err)
{
	int r = 0;

	for (unsigned i = 0; i < MANIFESTS_BATCH && w->at < w->points->count && r == 0; i++) {
		const struct point_row *row = &w->points->rows[w->at];
		struct mark_ref ref = { .ref = row->manifest_ref, .point = (uint32_t)w->at++ };

		if (memcmp(row->id, row->manifest_ref.id, POINT_ID_LEN) != 0) {
			struct err why = ERR_INIT;

			err_set(&why, ERR_DAMAGED,
				"catalog: the row names the manifest of another point");
			if (w->marks->tolerant)
				note_lost(w, LEVEL_MANIFEST, &ref, &why);
			else
				r = damaged(w, &ref, &why, err);
			continue;
		}
		r = visit(w, LEVEL_MANIFEST, &ref.ref, ref.point, err);
	}
	return r;
}

static int run(struct walk *w, struct err *err)
{
	int r = 0;

	while (r == 0) {
		struct mark_list *l = w->lists;

		if (l[LEVEL_LEAF].count >= LEAVES_MOST)
			r = batch(w, LEVEL_LEAF, LEAVES_BATCH, err);
		else if (l[LEVEL_PAGE].count >= PAGES_MOST ||
			 (l[LEVEL_PAGE].count && !l[LEVEL_ROOT].count && !l[LEVEL_MANIFEST].count &&
			  w->at == w->points->count))
			r = batch(w, LEVEL_PAGE, PAGES_BATCH, err);
		else if (l[LEVEL_ROOT].count)
			r = batch(w, LEVEL_ROOT, ROOTS_BATCH, err);
		else if (l[LEVEL_MANIFEST].count)
			r = batch(w, LEVEL_MANIFEST, MANIFESTS_BATCH, err);
		else if (w->at < w->points->count)
			r = feed(w, err);
		else if (l[LEVEL_LEAF].count)
			r = batch(w, LEVEL_LEAF, LEAVES_BATCH, err);
		else
			break;
	}
	return r;
}

int mark_points(struct gc *g, struct marks *m, const struct point_list *points, struct err *err)
{
	cleanup_free bool *lost = mem_alloc_array(MAX(points->count, 1u), sizeof(*lost));
	cleanup_ptr(queue) queue = NULL;
	struct walk w = { .gc = g, .marks = m, .points = points, .lost = lost };
	int r;

	if (!lost || points->count > UINT32_MAX)
		return err_nomem(err, "marking");
	r = queue_new(g->repo->pool, MAX(pool_threads(g->repo->pool), 1u) * 2, &queue, err);
	w.queue = queue;
	if (r == 0)
		r = run(&w, err);
	for (unsigned i = 0; i < LEVELS; i++)
		free(w.lists[i].refs);
	return r;
}

int marks_begin(struct marks *m, const struct pack_list *candidates, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < candidates->count && r == 0; i++)
		if (candidates->rows[i].state == PACK_LIVE)
			r = slot_set_reserve(&m->slots, candidates->rows[i].number,
					     candidates->rows[i].slots, err);
	return r;
}

void marks_release(struct marks *m)
{
	slot_set_release(&m->slots);
	slot_set_release(&m->visited);
}
