// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Pass 1 of verify: from a point's manifest down to the footers; chunks, and parts of files kept with the point, are looked
 * up there and not read.
 *
 * 1. An object that several points share is looked at once: v->seen.
 * 2. A point that was forgotten since it was listed is passed over.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "repo/verify-internal.h"

#include "base/banned.h"

struct walk {
	struct verify *v;
	struct repo_disk *disk;
	struct store_pack *pack; /* of the last chunk, or NULL */
	uint64_t number; /* its number, also when it cannot be opened; 0: none yet */
	bool found; /* something bad in this leaf */
	uint64_t locators[LEAF_CHUNKS];
	uint8_t ids[LEAF_CHUNKS][ID_LEN];
};

/* Makes w->pack that of the locator; NULL: it is bad as a whole, which is said. */
static int take_pack(struct walk *w, uint64_t locator, struct err *err)
{
	struct err local = ERR_INIT;
	int r;

	if (w->number == locator_pack(locator))
		return 0;
	if (w->pack)
		store_pack_put(w->pack);
	w->pack = NULL;
	w->number = locator_pack(locator);
	r = store_pack_get(w->v->repo->store, w->number, &w->pack, &local);
	if (r == 0)
		return 0;
	w->pack = NULL;
	if (!verify_is_finding(r)) {
		*err = local;
		return r;
	}
	return verify_bad_pack(w->v, w->number, local.text, err);
}

static const char *judge(struct walk *w, const struct footer_entry *e, uint64_t locator)
{
	const struct pack_row *row = verify_pack_row(&w->v->doomed, locator_pack(locator));

	if (!e)
		return "slot is not in its pack";
	if (e->type != OBJECT_CHUNK || e->plain_len != w->disk->chunk_size)
		return "slot holds no chunk of this disk";
	if (row && bits_have(&row->doomed, locator_slot(locator)))
		return "slot is doomed though a restore point needs it";
	return NULL;
}

static int check_chunk(struct walk *w, unsigned i, struct err *err)
{
	uint64_t locator = w->locators[i];
	const struct footer_entry *e;
	const char *what;
	int r = slot_set_add(&w->v->seen, locator, err);

	if (r == 0)
		r = take_pack(w, locator, err);
	if (r < 0)
		return r;
	if (!w->pack) {
		w->found = true;
		return slot_set_add(&w->v->bad, locator, err);
	}
	e = store_pack_entry(w->pack, locator_slot(locator));
	what = judge(w, e, locator);
	if (e)
		memcpy(w->ids[i], e->id, ID_LEN);
	if (!what)
		return 0;
	w->found = true;
	return verify_bad_object(w->v, locator, e ? e->id : NULL, what, err);
}

static int check_leaf(struct walk *w, const struct object_ref *ref, const struct leaf *leaf,
		      uint64_t leaf_no, struct err *err)
{
	uint8_t digest[ID_LEN];
	int r = disk_locators(w->disk, leaf_no * LEAF_CHUNKS, leaf->chunks, w->locators, err);

	w->found = false;
	for (unsigned i = 0; i < leaf->chunks && r == 0; i++) {
		memset(w->ids[i], w->locators[i] == LOCATOR_UNREADABLE ? 0xff : 0, ID_LEN);
		if (w->locators[i] != LOCATOR_NONE && w->locators[i] != LOCATOR_UNREADABLE)
			r = check_chunk(w, i, err);
	}
	if (r < 0 || w->found)
		return r;
	r = repo_content_id(w->v->repo, w->ids, (size_t)leaf->chunks * ID_LEN, digest, err);
	if (r == 0 && memcmp(digest, leaf->digest, ID_LEN) != 0)
		r = verify_bad_object(w->v, ref->locator, ref->id,
				      "leaf's digest is not that of its chunks", err);
	return r;
}

/* A leaf that was checked under the id of its first reference: this one must mean the same. */
static int check_reference(struct verify *v, const struct object_ref *ref, struct err *err)
{
	struct verify_finding f = { .what = "leaf is referenced under another id than its own",
				    .locator = ref->locator,
				    .slots = 1,
				    .id = ref->id };
	const struct footer_entry *e;
	struct store_pack *p;
	bool same;

	if (store_pack_get(v->repo->store, locator_pack(ref->locator), &p, NULL) < 0)
		return 0; /* a finding of the first reference */
	e = store_pack_entry(p, locator_slot(ref->locator));
	same = e && e->type == OBJECT_LEAF && memcmp(e->id, ref->id, ID_LEN) == 0;
	store_pack_put(p);
	if (same || slot_set_has(&v->bad, ref->locator) || slot_set_has(&v->mixed, ref->locator))
		return 0;
	verify_find(v, &f);
	return slot_set_add(&v->mixed, ref->locator, err);
}

/* Pages are reached through disk_leaf_ref, which checks them by hash. */
static int walk_leaf(struct walk *w, uint64_t leaf_no, struct err *err)
{
	struct verify *v = w->v;
	struct object_ref ref;
	struct cache_item *item;
	const struct leaf *leaf;
	struct err local = ERR_INIT;
	int r = disk_leaf_ref(w->disk, leaf_no, &ref, &local);

	if (r == 0 && ref.locator == LOCATOR_NONE)
		return 0;
	if (r == 0 && slot_set_has(&v->seen, ref.locator))
		return check_reference(v, &ref, err);
	if (r == 0) {
		v->result->objects++;
		r = slot_set_add(&v->seen, ref.locator, err);
		if (r < 0)
			return r;
		r = leaf_ref_get(v->repo, &ref, disk_leaf_chunks(w->disk, leaf_no), &item, &leaf,
				 &local);
	} else {
		ref = w->disk->root->pages[leaf_no / PAGE_LEAVES];
	}
	if (r < 0 && !verify_is_finding(r)) {
		*err = local;
		return r;
	}
	if (r < 0)
		return verify_bad_object(v, ref.locator, ref.id, local.text, err);
	r = check_leaf(w, &ref, leaf, leaf_no, err);
	cache_put(v->repo->map, item);
	return r;
}

static int walk_leaves(struct walk *w, const struct manifest_disk *info, struct err *err)
{
	struct verify *v = w->v;
	uint64_t leaves = div_round_up(w->disk->chunks, LEAF_CHUNKS);
	int r;

	/* The same root is the same map. */
	if (slot_set_has(&v->seen, info->root.locator))
		return 0;
	v->result->objects++;
	r = slot_set_add(&v->seen, info->root.locator, err);
	for (uint32_t i = 0; i < w->disk->root->count && r == 0; i++)
		if (w->disk->root->pages[i].locator != LOCATOR_NONE)
			r = slot_set_add(&v->seen, w->disk->root->pages[i].locator, err);
	for (uint64_t leaf = 0; leaf < leaves && r == 0; leaf++) {
		r = verify_stopped(v, err);
		if (r == 0)
			r = walk_leaf(w, leaf, err);
	}
	return r;
}

/* What the footer says of a part of a file; NULL: nothing wrong. */
static const char *judge_part(struct verify *v, const struct footer_entry *e,
			      const struct object_ref *ref, uint32_t len)
{
	const struct pack_row *row = verify_pack_row(&v->doomed, locator_pack(ref->locator));

	if (!e)
		return "slot is not in its pack";
	if (e->type != OBJECT_BLOB || e->plain_len != len || memcmp(e->id, ref->id, ID_LEN) != 0)
		return "slot holds no part of this file";
	if (row && bits_have(&row->doomed, locator_slot(ref->locator)))
		return "slot is doomed though a restore point needs it";
	return NULL;
}

static int walk_part(struct verify *v, const struct object_ref *ref, uint32_t len, struct err *err)
{
	struct err local = ERR_INIT;
	struct store_pack *p;
	const char *what;
	int r = slot_set_visit(&v->seen, ref->locator, err);

	if (r < 0)
		return r;
	v->result->objects += (uint64_t)r;
	r = store_pack_get(v->repo->store, locator_pack(ref->locator), &p, &local);
	if (r < 0 && !verify_is_finding(r)) {
		*err = local;
		return r;
	}
	if (r < 0) {
		r = verify_bad_pack(v, locator_pack(ref->locator), local.text, err);
		return r < 0 ? r : slot_set_add(&v->bad, ref->locator, err);
	}
	what = judge_part(v, store_pack_entry(p, locator_slot(ref->locator)), ref, len);
	store_pack_put(p);
	return what ? verify_bad_object(v, ref->locator, ref->id, what, err) : 0;
}

static int walk_config(struct verify *v, const struct manifest_config *c, struct err *err)
{
	int r = 0;

	for (unsigned i = 0; i < c->nparts && r == 0; i++)
		r = walk_part(v, &c->parts[i], config_part_len(c->size, i), err);
	return r;
}

static int walk_disk(struct verify *v, struct repo_point *p, const struct manifest_disk *info,
		     struct err *err)
{
	cleanup_free struct walk *w = mem_alloc(sizeof(*w));
	struct err local = ERR_INIT;
	int r;

	if (!w)
		return err_nomem(err, "verify");
	w->v = v;
	r = repo_disk_open(p, info->name, &w->disk, &local);
	if (r < 0 && !verify_is_finding(r)) {
		*err = local;
		return r;
	}
	if (r < 0) {
		r = slot_set_add(&v->seen, info->root.locator, err);
		return r < 0 ? r :
			       verify_bad_object(v, info->root.locator, info->root.id, local.text,
						 err);
	}
	r = walk_leaves(w, info, err);
	if (w->pack)
		store_pack_put(w->pack);
	repo_disk_close(w->disk);
	return r;
}

/* Then it was the catalog that could not be asked, which says nothing about the point. */
static bool manifest_holds(struct verify *v, const struct point_row *row)
{
	struct manifest *m;

	if (point_manifest_read(v->repo, &row->manifest_ref, &m, NULL) < 0)
		return false;
	manifest_free(m);
	return true;
}

static bool point_left(struct verify *v, const struct point_row *row)
{
	struct point_row now = { 0 };
	bool left;
	int r = catalog_point_by_id(v->catalog, row->id, &now, NULL);

	left = r == ERR_NOT_FOUND || (r == 0 && now.state != POINT_COMPLETE);
	point_row_release(&now);
	return left;
}

int verify_walk_point(struct verify *v, size_t point, struct err *err)
{
	const struct point_row *row = &v->points.rows[point];
	struct err local = ERR_INIT;
	struct repo_point *p;
	int r = repo_point_open(v->repo, row->id, &p, &local);

	if (r < 0 && point_left(v, row)) {
		v->left[point] = true;
		return 0;
	}
	if (r < 0) {
		if (!verify_is_finding(r) || (r != ERR_DAMAGED && manifest_holds(v, row))) {
			*err = local;
			return r;
		}
		r = slot_set_add(&v->seen, row->manifest_ref.locator, err);
		return r < 0 ? r :
			       verify_bad_object(v, row->manifest_ref.locator, row->manifest_ref.id,
						 local.text, err);
	}
	v->result->objects++;
	r = slot_set_add(&v->seen, row->manifest_ref.locator, err);
	for (size_t i = 0; i < row->m->ndisks && r == 0; i++)
		r = walk_disk(v, p, &repo_point_manifest(p)->disks[i], err);
	for (size_t i = 0; i < repo_point_manifest(p)->nconfigs && r == 0; i++)
		r = walk_config(v, &repo_point_manifest(p)->configs[i], err);
	repo_point_close(p);
	return r;
}
