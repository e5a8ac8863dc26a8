// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Pass 3 of verify: every point, disk or file kept with it, and byte range that a bad slot belongs to.  Done only when there are bad slots.
 *
 * 1. Each page and leaf is looked at once, however many disks share it: what has nothing bad below is remembered in one set,
 *    the bad ranges of the leaves that have some in a table.
 * 2. Each bad chunk is named on its own, with its id; of a pack that is bad as a whole, one range for each run of slots.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "repo/verify-internal.h"

#include "base/banned.h"

struct bad_range {
	uint16_t first, count; /* chunks in the leaf */
	uint64_t locator; /* of the first one, or of the map object */
	bool map; /* the leaf itself is bad */
};
struct bad_leaf {
	uint64_t locator; /* LOCATOR_NONE: free */
	struct bad_range *ranges; /* owned */
	size_t count;
};

struct name {
	struct verify *v;
	size_t point; /* index in v->points */
	char text[POINT_TEXT_MAX];
	struct repo_disk *disk;
	struct slot_set clean; /* roots, pages and leaves with nothing bad below */
	struct bad_leaf *leaves; /* hash table by locator, a power of two */
	size_t cap, count;
};

static void report(struct name *n, struct verify_finding f)
{
	struct store_pack *p = NULL;
	const struct footer_entry *e;

	f.point = n->text;
	n->v->damaged[n->point] = true;
	if (f.slots == 1 &&
	    store_pack_get(n->v->repo->store, locator_pack(f.locator), &p, NULL) == 0) {
		e = store_pack_entry(p, locator_slot(f.locator));
		f.id = e ? e->id : NULL;
		verify_find(n->v, &f);
		store_pack_put(p);
		return;
	}
	verify_find(n->v, &f);
}

static void affected(struct name *n, const char *disk, uint64_t start, uint64_t length,
		     const char *what, uint64_t locator, uint32_t slots)
{
	report(n, (struct verify_finding){ .what = what,
					   .locator = locator,
					   .slots = slots,
					   .disk = disk,
					   .start = start,
					   .length = length });
}

/* --- the table of bad leaves --- */

static struct bad_leaf *leaf_at(const struct name *n, uint64_t locator)
{
	size_t i = (size_t)(locator * 0x9e3779b97f4a7c15u >> 32) & (n->cap - 1);

	while (n->leaves[i].locator != LOCATOR_NONE && n->leaves[i].locator != locator)
		i = (i + 1) & (n->cap - 1);
	return &n->leaves[i];
}

static int table_grow(struct name *n, struct err *err)
{
	struct bad_leaf *old = n->leaves;
	size_t cap = n->cap;

	n->cap = cap ? cap * 2 : 64;
	n->leaves = mem_alloc_array(n->cap, sizeof(*n->leaves));
	if (!n->leaves) {
		n->leaves = old;
		n->cap = cap;
		return err_nomem(err, "verify");
	}
	for (size_t i = 0; i < cap; i++)
		if (old[i].locator != LOCATOR_NONE)
			*leaf_at(n, old[i].locator) = old[i];
	free(old);
	return 0;
}

static int range_add(struct bad_leaf *l, struct bad_range range, struct err *err)
{
	struct bad_range *more = mem_realloc_array(l->ranges, l->count + 1, sizeof(*more));

	if (!more)
		return err_nomem(err, "verify");
	l->ranges = more;
	more[l->count++] = range;
	return 0;
}

/* Bad chunks of one run of a leaf. */
static int scan_run(const struct verify *v, const struct run *run, struct bad_leaf *out,
		    struct err *err)
{
	bool lost = slot_set_has(&v->lost, locator_make(locator_pack(run->locator), 0));
	int r = 0;

	if (run->kind != RUN_DATA)
		return 0;
	for (unsigned i = 0; i < run->count && r == 0;) {
		unsigned n = 0;

		while (i + n < run->count && (lost || n == 0) &&
		       slot_set_has(&v->bad, run->locator + i + n))
			n++;
		if (n)
			r = range_add(out,
				      (struct bad_range){ (uint16_t)(run->start + i), (uint16_t)n,
							  run->locator + i, false },
				      err);
		i += n ? n : 1;
	}
	return r;
}

static int scan_leaf(struct name *n, uint64_t leaf_no, const struct object_ref *ref,
		     struct bad_leaf *out, struct err *err)
{
	unsigned chunks = disk_leaf_chunks(n->disk, leaf_no);
	struct bad_range all = { 0, (uint16_t)chunks, ref->locator, true };
	struct cache_item *item;
	const struct leaf *leaf;
	struct err local = ERR_INIT;
	int r;

	if (slot_set_has(&n->v->bad, ref->locator))
		return range_add(out, all, err);
	r = leaf_ref_get(n->v->repo, ref, chunks, &item, &leaf, &local);
	if (r < 0 && verify_is_finding(r))
		return range_add(out, all, err);
	if (r < 0) {
		*err = local;
		return r;
	}
	for (unsigned i = 0; i < leaf->nruns && r == 0; i++)
		r = scan_run(n->v, &leaf->runs[i], out, err);
	cache_put(n->v->repo->map, item);
	return r;
}

/* *out: what is bad in the leaf, owned by the table; NULL: nothing. */
static int leaf_ranges(struct name *n, uint64_t leaf_no, const struct object_ref *ref,
		       const struct bad_leaf **out, struct err *err)
{
	struct bad_leaf fresh = { .locator = ref->locator }, *l;
	int r = n->count * 2 >= n->cap ? table_grow(n, err) : 0;

	*out = NULL;
	if (r < 0 || slot_set_has(&n->clean, ref->locator))
		return r;
	l = leaf_at(n, ref->locator);
	if (l->locator == LOCATOR_NONE) {
		r = scan_leaf(n, leaf_no, ref, &fresh, err);
		if (r < 0 || !fresh.count) {
			free(fresh.ranges);
			return r < 0 ? r : slot_set_add(&n->clean, ref->locator, err);
		}
		*l = fresh;
		n->count++;
	}
	*out = l;
	return 0;
}

/* --- the walk --- */

static void name_leaf(struct name *n, uint64_t leaf_no, const struct bad_leaf *l)
{
	const uint32_t cs = n->disk->chunk_size;

	for (size_t i = 0; i < l->count; i++) {
		const struct bad_range *b = &l->ranges[i];
		uint64_t start = (leaf_no * LEAF_CHUNKS + b->first) * cs;

		affected(n, n->disk->info->name, start,
			 MIN((uint64_t)b->count * cs, n->disk->info->size - start),
			 b->map ? "bad map" : "bad chunks", b->locator, b->map ? 1 : b->count);
	}
}

/* A leaf that is known under two ids is looked at for each reference.  Returns 1 if something is bad. */
static int name_mixed(struct name *n, uint64_t leaf_no, const struct object_ref *ref,
		      struct err *err)
{
	struct bad_leaf own = { .locator = ref->locator };
	int r = scan_leaf(n, leaf_no, ref, &own, err);

	if (r == 0)
		name_leaf(n, leaf_no, &own);
	free(own.ranges);
	return r < 0 ? r : own.count > 0;
}

/* Returns 1 if something is bad below the page. */
static int name_page(struct name *n, uint64_t page, struct err *err)
{
	const struct object_ref *page_ref = &n->disk->root->pages[page];
	uint64_t first = page * PAGE_LEAVES, bytes = (uint64_t)n->disk->chunk_size * LEAF_CHUNKS;
	uint64_t leaves =
		MIN(div_round_up(n->disk->chunks, LEAF_CHUNKS) - first, (uint64_t)PAGE_LEAVES);
	int r = 0, bad = 0;

	for (uint64_t i = 0; i < leaves && r == 0; i++) {
		const struct bad_leaf *l = NULL;
		struct err local = ERR_INIT;
		struct object_ref ref;

		r = disk_leaf_ref(n->disk, first + i, &ref, &local);
		if (r < 0 && verify_is_finding(r)) {
			affected(n, n->disk->info->name, first * bytes,
				 MIN(leaves * bytes, n->disk->info->size - first * bytes),
				 "bad map", page_ref->locator, 1);
			return 1;
		}
		if (r < 0) {
			*err = local;
			return r;
		}
		if (slot_set_has(&n->v->mixed, ref.locator)) {
			r = name_mixed(n, first + i, &ref, err);
			bad |= r > 0;
			r = r < 0 ? r : 0;
			continue;
		}
		if (ref.locator != LOCATOR_NONE)
			r = leaf_ranges(n, first + i, &ref, &l, err);
		if (r == 0 && l) {
			name_leaf(n, first + i, l);
			bad = 1;
		}
	}
	return r < 0 ? r : bad;
}

static int name_pages(struct name *n, uint64_t root, struct err *err)
{
	int r = verify_stopped(n->v, err), bad = 0;

	if (r < 0 || slot_set_has(&n->clean, root))
		return r;
	for (uint32_t i = 0; i < n->disk->root->count && r >= 0; i++) {
		uint64_t page = n->disk->root->pages[i].locator;

		if (page == LOCATOR_NONE || slot_set_has(&n->clean, page))
			continue;
		r = name_page(n, i, err);
		bad |= r > 0;
		if (r == 0)
			r = slot_set_add(&n->clean, page, err);
	}
	if (r >= 0 && !bad)
		r = slot_set_add(&n->clean, root, err);
	return r < 0 ? r : 0;
}

static void name_config(struct name *n, const struct manifest_config *c)
{
	for (unsigned i = 0; i < c->nparts; i++)
		if (slot_set_has(&n->v->bad, c->parts[i].locator))
			report(n, (struct verify_finding){ .what = "bad file",
							   .locator = c->parts[i].locator,
							   .slots = 1,
							   .config = c->name,
							   .start = (uint64_t)i * CONFIG_PART,
							   .length = config_part_len(c->size, i) });
}

static int name_point(struct name *n, struct err *err)
{
	const struct point_row *row = &n->v->points.rows[n->point];
	struct err local = ERR_INIT;
	struct repo_point *p;
	int r;

	repo_point_text(row->m, n->text);
	r = repo_point_open(n->v->repo, row->id, &p, &local);
	if (r < 0 && !verify_is_finding(r)) {
		*err = local;
		return r;
	}
	if (r < 0 || slot_set_has(&n->v->bad, row->manifest_ref.locator)) {
		affected(n, NULL, 0, 0, r < 0 ? local.text : "bad manifest",
			 row->manifest_ref.locator, 1);
		if (r >= 0)
			repo_point_close(p);
		return 0;
	}
	for (size_t i = 0; i < row->m->ndisks && r == 0; i++) {
		const struct manifest_disk *info = &repo_point_manifest(p)->disks[i];
		struct err why = ERR_INIT;

		r = repo_disk_open(p, info->name, &n->disk, &why);
		if (r < 0 && verify_is_finding(r)) {
			affected(n, info->name, 0, info->size, "bad root", info->root.locator, 1);
			r = 0;
			continue;
		}
		if (r < 0) {
			*err = why;
			break;
		}
		r = name_pages(n, info->root.locator, err);
		repo_disk_close(n->disk);
	}
	for (size_t i = 0; i < repo_point_manifest(p)->nconfigs && r == 0; i++)
		name_config(n, &repo_point_manifest(p)->configs[i]);
	repo_point_close(p);
	return r;
}

int verify_name(struct verify *v, struct err *err)
{
	struct name n = { .v = v };
	int r = 0;

	for (n.point = 0; n.point < v->points.count && r == 0; n.point++)
		if (!v->left[n.point])
			r = name_point(&n, err);
	for (size_t i = 0; i < n.cap; i++)
		free(n.leaves[i].ranges);
	free(n.leaves);
	slot_set_release(&n.clean);
	return r;
}
