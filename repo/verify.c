/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Verify.  Without a point named, first the catalog (SQLite's own check and the rules of the schema) and the index
 * segments.  Then, in three passes:
 *
 *  1. structure: every point's manifest, roots, pages and leaves, by hash, each shared object once; every locator must
 *     stand in its pack's footer as a chunk of the right length, and a leaf's digest must be that of the ids there;
 *  2. data (asked for): every referenced record is read, opened, and its content id recomputed, pack by pack on the pool;
 *  3. if something was bad: who is affected, down to byte ranges of disks.
 *
 * 1. A finding never ends the run; an error of this machine (memory, I/O of the catalog) does.
 * 2. Bad slots are noted in the catalog, so that the next backup of the same data stores them again; a clean pass 2
 *    takes such notes back.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "repo/internal.h"
#include "repo/verify.h"

#include "base/banned.h"

struct verify {
	struct repo *repo;
	const struct verify_spec *spec;
	struct verify_result *result;
	struct slot_set seen; /* objects and chunks that are referenced */
	struct slot_set bad;
	struct slot_set mixed; /* good objects that somebody refers to under another id */
	uint64_t seen_bytes;
	/* of the walk: */
	const struct point_row *row;
	char point[POINT_TEXT_MAX];
	bool naming; /* pass 3 */
	bool affected; /* the point being walked */
};

static int stopped(const struct verify *v, struct err *err)
{
	int code = v->spec->stop ? *v->spec->stop : 0;

	return code ? err_set(err, code, "%s", err_code_sentence(code)) : 0;
}

static void find(struct verify *v, const struct verify_finding *f)
{
	v->result->findings++;
	if (v->spec->finding)
		v->spec->finding(v->spec->opaque, f);
}

static bool set_has(const struct slot_set *s, uint64_t locator)
{
	uint32_t slot = locator_slot(locator);

	for (size_t i = 0, at; s->cap && i < s->cap; i++) {
		at = ((size_t)(locator_pack(locator) * 0x9e3779b97f4a7c15u >> 32) + i) &
		     (s->cap - 1);
		if (!s->packs[at].pack)
			return false;
		if (s->packs[at].pack == locator_pack(locator))
			return slot / 8 < s->packs[at].nbytes &&
			       (s->packs[at].bits[slot / 8] >> (slot % 8) & 1);
	}
	return false;
}

/* A bad object, reported once however many points have it. */
static int bad_object(struct verify *v, uint64_t locator, const uint8_t *id, const char *what,
		      struct err *err)
{
	struct verify_finding f = { .what = what, .locator = locator, .id = id };

	if (set_has(&v->bad, locator))
		return 0;
	find(v, &f);
	return slot_set_add(&v->bad, locator, err);
}

static void affected(struct verify *v, const char *disk, uint64_t start, uint64_t length,
		     const char *what, uint64_t locator)
{
	struct verify_finding f = { .what = what,
				    .locator = locator,
				    .point = v->point,
				    .disk = disk,
				    .start = start,
				    .length = length };

	v->affected = true;
	find(v, &f);
}

/* Errors that say something about the repository and not about this machine. */
static bool is_finding(int code)
{
	return code == ERR_DAMAGED || code == ERR_UNSUPPORTED || code == ERR_NOT_FOUND ||
	       code == ERR_IO;
}

/* --- the walk --- */

struct walk {
	struct verify *v;
	struct repo_disk *disk;
	uint64_t locators[LEAF_CHUNKS];
	uint8_t ids[LEAF_CHUNKS][ID_LEN];
};

static int check_chunks(struct walk *w, unsigned n, struct err *err)
{
	struct verify *v = w->v;
	int r = 0;

	for (unsigned i = 0; i < n && r == 0; i++) {
		uint64_t locator = w->locators[i];
		const struct footer_entry *e;
		struct store_pack *p;
		struct err local = ERR_INIT;

		if (locator == LOCATOR_NONE || locator == LOCATOR_UNREADABLE)
			continue;
		r = slot_set_add(&v->seen, locator, err);
		if (r < 0)
			break;
		if (store_pack_get(v->repo->store, locator_pack(locator), &p, &local) < 0) {
			r = is_finding(local.code) ? bad_object(v, locator, NULL, local.text, err) :
						     (*err = local, local.code);
			continue;
		}
		e = store_pack_entry(p, locator_slot(locator));
		if (!e)
			r = bad_object(v, locator, NULL, "slot is not in its pack", err);
		else if (e->type != OBJECT_CHUNK || e->plain_len != w->disk->chunk_size)
			r = bad_object(v, locator, e->id, "slot holds no chunk of this disk", err);
		if (e)
			memcpy(w->ids[i], e->id, ID_LEN);
		store_pack_put(p);
	}
	return r;
}

static int check_leaf(struct walk *w, const struct object_ref *ref, const struct leaf *leaf,
		      uint64_t leaf_no, struct err *err)
{
	struct verify *v = w->v;
	uint8_t digest[ID_LEN];
	uint64_t bad_before = v->result->findings;
	int r = disk_locators(w->disk, leaf_no * LEAF_CHUNKS, leaf->chunks, w->locators, err);

	for (unsigned i = 0; i < leaf->chunks; i++)
		memset(w->ids[i], w->locators[i] == LOCATOR_UNREADABLE ? 0xff : 0, ID_LEN);
	if (r == 0)
		r = check_chunks(w, leaf->chunks, err);
	if (r < 0 || v->result->findings != bad_before)
		return r;
	r = repo_content_id(v->repo, w->ids, (size_t)leaf->chunks * ID_LEN, digest, err);
	if (r == 0 && memcmp(digest, leaf->digest, ID_LEN) != 0)
		r = bad_object(v, ref->locator, ref->id, "leaf's digest is not that of its chunks",
			       err);
	return r;
}

static int name_leaf(struct walk *w, const struct leaf *leaf, uint64_t leaf_no, struct err *err)
{
	const uint32_t cs = w->disk->chunk_size;
	uint64_t first = leaf_no * LEAF_CHUNKS;
	int r = disk_locators(w->disk, first, leaf->chunks, w->locators, err);

	for (unsigned i = 0; i < leaf->chunks && r == 0;) {
		unsigned n = 0;

		while (i + n < leaf->chunks && w->locators[i + n] != LOCATOR_NONE &&
		       w->locators[i + n] != LOCATOR_UNREADABLE &&
		       set_has(&w->v->bad, w->locators[i + n]))
			n++;
		if (n) {
			uint64_t start = (first + i) * cs;

			affected(w->v, w->disk->info->name, start,
				 MIN((uint64_t)n * cs, w->disk->info->size - start), "bad chunks",
				 w->locators[i]);
		}
		i += n ? n : 1;
	}
	return r;
}

/* A leaf that was checked under the id of its first reference: this one must mean the same. */
static int check_reference(struct verify *v, const struct object_ref *ref, struct err *err)
{
	struct verify_finding f = { .what = "leaf is referenced under another id than its own",
				    .locator = ref->locator,
				    .id = ref->id };
	const struct footer_entry *e;
	struct store_pack *p;
	bool same;

	if (store_pack_get(v->repo->store, locator_pack(ref->locator), &p, NULL) < 0)
		return 0; /* a finding of the first reference */
	e = store_pack_entry(p, locator_slot(ref->locator));
	same = e && e->type == OBJECT_LEAF && memcmp(e->id, ref->id, ID_LEN) == 0;
	store_pack_put(p);
	if (same || set_has(&v->bad, ref->locator) || set_has(&v->mixed, ref->locator))
		return 0;
	find(v, &f);
	return slot_set_add(&v->mixed, ref->locator, err);
}

/* Pages are reached through disk_leaf_ref, which checks them by hash. */
static int walk_leaf(struct walk *w, uint64_t leaf_no, struct err *err)
{
	struct verify *v = w->v;
	const uint64_t leaf_bytes = (uint64_t)w->disk->chunk_size * LEAF_CHUNKS;
	struct object_ref ref;
	struct cache_item *item;
	const struct leaf *leaf;
	struct err local = ERR_INIT;
	int r = disk_leaf_ref(w->disk, leaf_no, &ref, &local);

	if (r == 0 && ref.locator == LOCATOR_NONE)
		return 0;
	if (r == 0 && !v->naming && set_has(&v->seen, ref.locator))
		return check_reference(v, &ref, err);
	if (r == 0) {
		v->result->objects += !v->naming;
		r = slot_set_add(&v->seen, ref.locator, err);
		if (r < 0)
			return r;
		r = leaf_ref_get(v->repo, &ref, disk_leaf_chunks(w->disk, leaf_no), &item, &leaf,
				 &local);
	} else {
		ref = w->disk->root->pages[leaf_no / PAGE_LEAVES];
	}
	if (r < 0 && !is_finding(r)) {
		*err = local;
		return r;
	}
	if (r < 0 || (v->naming && set_has(&v->bad, ref.locator))) {
		if (r == 0)
			cache_put(v->repo->map, item);
		if (v->naming)
			affected(v, w->disk->info->name, leaf_no * leaf_bytes,
				 MIN(leaf_bytes, w->disk->info->size - leaf_no * leaf_bytes),
				 "bad map", ref.locator);
		return v->naming ? 0 : bad_object(v, ref.locator, ref.id, local.text, err);
	}
	r = v->naming ? name_leaf(w, leaf, leaf_no, err) : check_leaf(w, &ref, leaf, leaf_no, err);
	cache_put(v->repo->map, item);
	return r;
}

static int walk_disk(struct verify *v, struct repo_point *p, const struct manifest_disk *info,
		     struct err *err)
{
	cleanup_free struct walk *w = mem_alloc(sizeof(*w));
	struct err local = ERR_INIT;
	uint64_t leaves;
	int r;

	if (!w)
		return err_nomem(err, "verify");
	w->v = v;
	r = repo_disk_open(p, info->name, &w->disk, &local);
	if (r < 0) {
		if (!is_finding(r)) {
			*err = local;
			return r;
		}
		if (v->naming)
			affected(v, info->name, 0, info->size, "bad root", info->root.locator);
		return v->naming ?
			       0 :
			       bad_object(v, info->root.locator, info->root.id, local.text, err);
	}
	leaves = div_round_up(w->disk->chunks, LEAF_CHUNKS);
	r = slot_set_add(&v->seen, info->root.locator, err);
	for (uint32_t i = 0; i < w->disk->root->count && r == 0; i++)
		if (w->disk->root->pages[i].locator != LOCATOR_NONE)
			r = slot_set_add(&v->seen, w->disk->root->pages[i].locator, err);
	for (uint64_t leaf = 0; leaf < leaves && r == 0; leaf++) {
		r = stopped(v, err);
		if (r == 0)
			r = walk_leaf(w, leaf, err);
	}
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

static int walk_point(struct verify *v, const struct point_row *row, struct err *err)
{
	struct err local = ERR_INIT;
	struct repo_point *p;
	int r;

	v->row = row;
	v->affected = false;
	repo_point_text(row->m, v->point);
	r = repo_point_open(v->repo, row->id, &p, &local);
	if (r < 0) {
		if (!is_finding(r) || (r != ERR_DAMAGED && manifest_holds(v, row))) {
			*err = local;
			return r;
		}
		if (v->naming)
			affected(v, NULL, 0, 0, local.text, row->manifest_ref.locator);
		return v->naming ? 0 :
				   bad_object(v, row->manifest_ref.locator, row->manifest_ref.id,
					      local.text, err);
	}
	r = slot_set_add(&v->seen, row->manifest_ref.locator, err);
	for (size_t i = 0; i < row->m->ndisks && r == 0; i++)
		r = walk_disk(v, p, &repo_point_manifest(p)->disks[i], err);
	repo_point_close(p);
	return r;
}

/* --- data --- */

struct pack_job {
	struct pool_job job;
	struct verify *v;
	const struct slot_bits *bits;
	uint32_t *bad; /* slots; owned */
	uint32_t nbad;
	uint64_t bytes;
	struct err pack_err; /* the pack as a whole */
	struct err first; /* of the bad slots */
	int result;
};

static int add_bad(struct pack_job *j, uint32_t slot)
{
	uint32_t *p = mem_realloc_array(j->bad, j->nbad + 1, sizeof(*p));

	if (!p)
		return ERR_NOMEM;
	j->bad = p;
	p[j->nbad++] = slot;
	return 0;
}

static int pack_read_slots(struct pack_job *j, struct store_reader *reader, struct store_pack *p,
			   uint8_t *plain)
{
	struct store *store = j->v->repo->store;
	unsigned count;
	const struct footer_entry *e = store_pack_entries(p, &count);

	for (unsigned i = 0; i < count; i++) {
		uint32_t slot = e[i].slot;
		struct err local = ERR_INIT;
		size_t len;
		int r;

		if (slot / 8 >= j->bits->nbytes || !(j->bits->bits[slot / 8] >> (slot % 8) & 1))
			continue;
		r = store_record_read(store, reader, locator_make(j->bits->pack, slot), e[i].type,
				      NULL, true, plain, OBJECT_PLAIN_MAX, &len, &local);
		j->bytes += e[i].stored_len;
		if (r == 0)
			continue;
		if (!is_finding(r)) {
			j->pack_err = local;
			return r;
		}
		if (!j->nbad)
			j->first = local;
		if (add_bad(j, slot) < 0)
			return err_nomem(&j->pack_err, "verify");
	}
	return 0;
}

static void pack_run(struct pool_job *job, void *ctx)
{
	struct pack_job *j = container_of(job, struct pack_job, job);
	struct repo_worker *w = ctx;
	cleanup_free uint8_t *plain = mem_realloc_array(NULL, OBJECT_PLAIN_MAX, 1);
	struct store_pack *p;

	if (!w || !plain) {
		j->result = err_nomem(&j->pack_err, "verify");
		return;
	}
	j->result = store_pack_get(j->v->repo->store, j->bits->pack, &p, &j->pack_err);
	if (j->result < 0) {
		/* Already found by pass 1, for each of its chunks. */
		j->result = is_finding(j->pack_err.code) ? 0 : j->result;
		return;
	}
	j->result = pack_read_slots(j, w->reader, p, plain);
	store_pack_put(p);
}

static int pack_done(struct verify *v, struct pack_job *j, struct err *err)
{
	int r = 0;

	v->result->packs++;
	v->result->bytes += j->bytes;
	if (j->result < 0)
		*err = j->pack_err;
	for (uint32_t i = 0; i < j->nbad && j->result == 0 && r == 0; i++)
		r = bad_object(v, locator_make(j->bits->pack, j->bad[i]), NULL,
			       i == 0 ? j->first.text : "record is damaged", err);
	if (v->spec->progress) {
		struct progress p = { .phase = "verify",
				      .done = v->result->bytes,
				      .total = v->seen_bytes };

		v->spec->progress(v->spec->opaque, &p);
	}
	r = j->result < 0 ? j->result : r;
	free(j->bad);
	free(j);
	return r;
}

static int compare_bits(const void *a, const void *b)
{
	const struct slot_bits *const *x = a, *const *y = b;

	return (*x)->pack < (*y)->pack ? -1 : (*x)->pack > (*y)->pack;
}

static int drain(struct verify *v, struct queue *q, bool all, struct err *err)
{
	struct pool_job *job;
	int r = 0;

	while ((all || queue_full(q)) && (job = queue_pop(q))) {
		struct err local = ERR_INIT;
		int one = pack_done(v, container_of(job, struct pack_job, job), &local);

		if (one < 0 && r == 0) {
			r = one;
			*err = local;
		}
	}
	return r;
}

static int verify_data(struct verify *v, struct err *err)
{
	cleanup_free const struct slot_bits **order =
		mem_alloc_array(MAX(v->seen.count, 1u), sizeof(*order));
	cleanup_ptr(queue) q = NULL;
	size_t n = 0;
	int r, last;

	if (!order)
		return err_nomem(err, "verify");
	for (size_t i = 0; i < v->seen.cap; i++)
		if (v->seen.packs[i].pack)
			order[n++] = &v->seen.packs[i];
	qsort(order, n, sizeof(*order), compare_bits);
	v->seen_bytes = UINT64_MAX;
	r = queue_new(v->repo->pool, MAX(pool_threads(v->repo->pool), 1u) * 2, &q, err);
	for (size_t i = 0; i < n && r == 0; i++) {
		struct pack_job *j;

		r = drain(v, q, false, err);
		if (r == 0)
			r = stopped(v, err);
		if (r < 0)
			break;
		j = mem_alloc(sizeof(*j));
		if (!j)
			return err_nomem(err, "verify");
		j->job.run = pack_run;
		j->v = v;
		j->bits = order[i];
		queue_push(q, &j->job);
	}
	last = q ? drain(v, q, true, r < 0 ? &(struct err)ERR_INIT : err) : 0;
	return r < 0 ? r : last;
}

/* --- recording --- */

static int record_point(struct verify *v, struct catalog *c, const struct point_row *row,
			bool damaged, struct err *err)
{
	int kind = v->spec->data ? VERIFIED_DATA : VERIFIED_STRUCTURE;

	if (!damaged && row->damaged && kind < VERIFIED_DATA)
		damaged = true; /* only a clean --data takes it back */
	if (kind < row->verified_kind)
		return damaged == row->damaged ?
			       0 :
			       catalog_point_set_verified(c, row->id, row->verified_kind,
							  row->verified_time, row->verified_share,
							  damaged, err);
	return catalog_point_set_verified(c, row->id, kind, time_now(), 1.0, damaged, err);
}

/* Of one pack: the slots to note as bad, or those whose note is taken back because this run read them and found them good. */
static int record_pack(struct verify *v, struct catalog *c, const struct pack_row *row,
		       bool damaged, struct err *err)
{
	cleanup_free uint32_t *slots = mem_alloc_array(MAX(row->slots, 1u), sizeof(*slots));
	size_t n = 0;

	if (!slots)
		return err_nomem(err, "verify");
	for (uint32_t slot = 0; slot < row->slots; slot++) {
		uint64_t locator = locator_make(row->number, slot);
		bool noted = slot / 8 < row->damaged.nbytes &&
			     (row->damaged.bits[slot / 8] >> (slot % 8) & 1);
		bool bad = set_has(&v->bad, locator);

		if (damaged ? bad && !noted : noted && !bad && set_has(&v->seen, locator))
			slots[n++] = slot;
	}
	return n ? catalog_slots_damaged(c, row->number, slots, n, damaged, err) : 0;
}

static int record_slots(struct verify *v, struct catalog *c, struct err *err)
{
	struct pack_list packs = { 0 };
	int r = catalog_packs(c, 0, &packs, err);

	for (size_t i = 0; i < packs.count && r == 0; i++) {
		if (v->bad.count)
			r = record_pack(v, c, &packs.rows[i], true, err);
		if (r == 0 && v->spec->data && packs.rows[i].damaged.nbytes)
			r = record_pack(v, c, &packs.rows[i], false, err);
	}
	pack_list_release(&packs);
	return r;
}

static int record(struct verify *v, const struct point_list *points, const bool *damaged,
		  struct err *err)
{
	struct catalog *c;
	int r;

	if (!v->repo->pinnable || v->repo->mode != REPO_WRITE)
		return 0;
	r = repo_catalog_get(v->repo, &c, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < points->count && r == 0; i++)
		r = record_point(v, c, &points->rows[i], damaged[i], err);
	if (r == 0)
		r = record_slots(v, c, err);
	repo_catalog_put(v->repo, c);
	return r;
}

/* --- what no point refers to: the catalog itself and the index --- */

static int check_catalog(struct verify *v, struct catalog *c, struct err *err)
{
	cleanup_buf struct buf lines = BUF_INIT;
	struct verify_finding f = { 0 };
	char *line, *rest;
	int r = catalog_check(c, &lines, err);

	if (r < 0)
		return r;
	buf_put_u8(&lines, 0);
	if (lines.failed)
		return err_nomem(err, "verify");
	for (line = (char *)lines.data; *line; line = rest) {
		rest = strchrnul(line, '\n');
		if (*rest)
			*rest++ = '\0';
		f.what = line;
		find(v, &f);
	}
	return 0;
}

/* A backup that runs meanwhile may have merged the segment into another. */
static bool still_listed(struct catalog *c, uint64_t number)
{
	cleanup_free struct segment_row *rows = NULL;
	size_t count = 0;

	if (catalog_segments(c, &rows, &count, NULL) < 0)
		return true;
	for (size_t i = 0; i < count; i++)
		if (rows[i].number == number)
			return true;
	return false;
}

/* The index is derived: a bad segment costs space at the next backups, never data. */
static int check_segments(struct verify *v, struct catalog *c, struct err *err)
{
	cleanup_free struct segment_row *rows = NULL;
	size_t count = 0;
	int r = catalog_segments(c, &rows, &count, err);

	for (size_t i = 0; i < count && r == 0; i++) {
		struct err local = ERR_INIT;
		struct verify_finding f = { .what = local.text };

		if (store_segment_check(v->repo->store, rows[i].number, &local) < 0) {
			if (local.code == ERR_NOMEM)
				return err_nomem(err, "verify");
			if (still_listed(c, rows[i].number))
				find(v, &f);
		}
	}
	return r;
}

static int verify_files(struct verify *v, struct err *err)
{
	struct catalog *c;
	int r = repo_catalog_get(v->repo, &c, err);

	if (r < 0)
		return r;
	r = check_catalog(v, c, err);
	if (r == 0)
		r = check_segments(v, c, err);
	repo_catalog_put(v->repo, c);
	return r;
}

static int verify_points(struct verify *v, const struct point_list *points, struct err *err)
{
	cleanup_free bool *damaged = mem_alloc_array(MAX(points->count, 1u), sizeof(*damaged));
	int r = damaged ? 0 : err_nomem(err, "verify");

	/* What an earlier reader put into the caches proves nothing about the files. */
	store_drop_cache(v->repo->store);
	if (r == 0 && !v->spec->point)
		r = verify_files(v, err);
	for (size_t i = 0; i < points->count && r == 0; i++)
		r = walk_point(v, &points->rows[i], err);
	if (r == 0 && v->spec->data)
		r = verify_data(v, err);
	v->naming = true;
	for (size_t i = 0; i < points->count && r == 0 && (v->bad.count || v->mixed.count); i++) {
		r = walk_point(v, &points->rows[i], err);
		damaged[i] = v->affected;
		v->result->damaged_points += v->affected;
	}
	v->result->points = points->count;
	return r < 0 ? r : record(v, points, damaged, err);
}

static int list_points(struct repo *r, const struct verify_spec *spec, struct point_list *out,
		       struct err *err)
{
	struct point_filter all = { 0 };
	struct repo_spec one;
	int ret;

	if (!spec->point)
		return repo_points(r, &all, out, err);
	ret = repo_resolve(r, spec->point, &one, err);
	if (ret < 0)
		return ret;
	out->rows = mem_alloc(sizeof(*out->rows));
	if (!out->rows) {
		repo_spec_release(&one);
		return err_nomem(err, "verify");
	}
	out->rows[0] = one.row;
	out->count = 1;
	return 0;
}

int repo_verify(struct repo *r, const struct verify_spec *spec, struct verify_result *result,
		struct err *err)
{
	struct verify v = { .repo = r, .spec = spec, .result = result };
	struct point_list points = { 0 };
	struct err local = ERR_INIT;
	int ret = repo_need_key(r, err);

	if (!err)
		err = &local;
	memset(result, 0, sizeof(*result));
	if (ret == 0)
		ret = list_points(r, spec, &points, err);
	if (ret == 0)
		ret = verify_points(&v, &points, err);
	point_list_release(&points);
	slot_set_release(&v.seen);
	slot_set_release(&v.bad);
	slot_set_release(&v.mixed);
	if (ret == 0 && result->findings)
		return err_set(err, ERR_DAMAGED,
			       "%" PRIu64 " findings, %" PRIu64 " of %" PRIu64
			       " restore points damaged",
			       result->findings, result->damaged_points, result->points);
	return ret;
}
