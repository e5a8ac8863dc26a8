// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Verify.  Without a point named, first what no point refers to (verify-files.c).  Then, in three passes:
 *
 *  1. structure (verify-structure.c): every point's manifest, roots, pages and leaves, by hash, each shared object once;
 *     every locator must stand in its pack's footer as a chunk of the right length, must not be doomed, and a leaf's
 *     digest must be that of the ids there;
 *  2. data (verify-data.c, asked for): every record is read, opened, and its content id recomputed, pack by pack on the pool;
 *  3. naming (verify-name.c, if something was bad): who is affected, down to byte ranges of disks.
 *
 * 1. A finding never ends the run; an error of this machine (memory, I/O of the catalog) does.
 * 2. Bad slots are noted in the catalog, so that the next backup of the same data stores them again; a slot that was read
 *    and is good takes such a note back, and a clean pass 2 over everything takes back that of the point.
 * 3. What is noted of packs is noted as it is found: a run that is interrupted leaves what it knows.
 * 4. Packs are listed before points: a slot that was doomed then is needed by no point that is there later.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "repo/verify-internal.h"

#include "base/banned.h"

bool verify_is_finding(int code)
{
	return code == ERR_DAMAGED || code == ERR_UNSUPPORTED || code == ERR_NOT_FOUND ||
	       code == ERR_IO;
}

int verify_stopped(const struct verify *v, struct err *err)
{
	int code = v->spec->stop ? *v->spec->stop : 0;

	return code ? err_set(err, code, "%s", err_code_sentence(code)) : 0;
}

void verify_find(struct verify *v, const struct verify_finding *f)
{
	v->result->findings++;
	if (v->spec->finding)
		v->spec->finding(v->spec->opaque, f);
}

int verify_bad_object(struct verify *v, uint64_t locator, const uint8_t *id, const char *what,
		      struct err *err)
{
	struct verify_finding f = { .what = what, .locator = locator, .slots = 1, .id = id };

	if (id && v->noted)
		v->noted(v->noted_opaque, locator, id);
	if (slot_set_has(&v->bad, locator))
		return 0;
	verify_find(v, &f);
	return slot_set_add(&v->bad, locator, err);
}

int verify_bad_pack(struct verify *v, uint64_t number, const char *what, struct err *err)
{
	struct verify_finding f = { .what = what, .locator = locator_make(number, 0) };

	if (slot_set_has(&v->lost, f.locator))
		return 0;
	verify_find(v, &f);
	return slot_set_add(&v->lost, f.locator, err);
}

bool bits_have(const struct slot_bits *b, uint32_t slot)
{
	return slot / 8 < b->nbytes && (b->bits[slot / 8] >> (slot % 8) & 1);
}

const struct pack_row *verify_pack_row(const struct pack_list *l, uint64_t number)
{
	size_t low = 0, high = l->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (l->rows[mid].number == number)
			return &l->rows[mid];
		if (l->rows[mid].number < number)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

int verify_row_now(struct verify *v, uint64_t number, struct pack_list *out, struct err *err)
{
	return catalog_packs(v->catalog, number, out, err);
}

/* --- recording --- */

static int record_point(struct verify *v, const struct point_row *row, bool damaged,
			struct err *err)
{
	int kind = v->spec->data ? VERIFIED_DATA : VERIFIED_STRUCTURE;

	/* Only what was read in full takes it back. */
	if (!damaged && row->damaged && (kind < VERIFIED_DATA || v->share < 1))
		damaged = true;
	if (kind < row->verified_kind)
		return damaged == row->damaged ?
			       0 :
			       catalog_point_set_verified(v->catalog, row->id, row->verified_kind,
							  row->verified_time, row->verified_share,
							  damaged, err);
	return catalog_point_set_verified(v->catalog, row->id, kind, time_now(),
					  v->spec->data ? v->share : 1.0, damaged, err);
}

static int record_slots(struct verify *v, const struct slot_bits *bad, struct err *err)
{
	cleanup_free uint32_t *slots = mem_alloc_array((size_t)bad->nbytes * 8 + 1, sizeof(*slots));
	struct pack_list now = { 0 };
	size_t n = 0;
	int r = slots ? verify_row_now(v, bad->pack, &now, err) : err_nomem(err, "verify");

	if (r == 0 && now.count)
		for (uint32_t slot = 0; slot < now.rows[0].slots; slot++)
			if (bits_have(bad, slot) && !bits_have(&now.rows[0].damaged, slot))
				slots[n++] = slot;
	if (r == 0 && n)
		r = catalog_slots_damaged(v->catalog, bad->pack, slots, n, true, err);
	pack_list_release(&now);
	return r;
}

int verify_record_slots(struct verify *v, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < v->bad.cap && r == 0 && v->record; i++)
		if (v->bad.packs[i].pack)
			r = record_slots(v, &v->bad.packs[i], err);
	return r;
}

static int record(struct verify *v, struct err *err)
{
	int r = verify_record_slots(v, err);

	if (!v->record)
		return r;
	for (size_t i = 0; i < v->points.count && r == 0; i++) {
		if (v->left[i])
			continue;
		r = record_point(v, &v->points.rows[i], v->damaged[i], err);
		if (r == ERR_NOT_FOUND) { /* forgotten and pruned meanwhile */
			err_clear(err);
			r = 0;
		}
	}
	return r;
}

/* --- the run --- */

static int list_points(struct verify *v, struct err *err)
{
	struct point_filter all = { 0 };
	struct repo_spec one;
	int r;

	if (v->whole)
		return repo_points(v->repo, &all, &v->points, err);
	r = repo_resolve(v->repo, v->spec->point, &one, err);
	if (r < 0)
		return r;
	v->points.rows = mem_alloc(sizeof(*v->points.rows));
	if (!v->points.rows) {
		repo_spec_release(&one);
		return err_nomem(err, "verify");
	}
	v->points.rows[0] = one.row;
	v->points.count = 1;
	return 0;
}

int verify_begin(struct verify *v, struct err *err)
{
	int r = repo_need_key(v->repo, err);

	memset(v->result, 0, sizeof(*v->result));
	v->whole = !v->spec->point;
	v->record = v->repo->pinnable && v->repo->mode == REPO_WRITE && !v->spec->no_record;
	if (r == 0)
		r = rate_new(v->spec->io_limit, v->spec->stop, NULL, &v->rate, err);
	if (r == 0)
		r = repo_catalog_get(v->repo, &v->catalog, err);
	if (r == 0)
		r = catalog_packs(v->catalog, 0, &v->packs, err);
	if (r == 0)
		r = catalog_gc_doomed(v->catalog, &v->doomed, err);
	if (r == 0)
		r = list_points(v, err);
	if (r < 0)
		return r;
	v->damaged = mem_alloc_array(MAX(v->points.count, 1u), sizeof(*v->damaged));
	v->left = mem_alloc_array(MAX(v->points.count, 1u), sizeof(*v->left));
	if (!v->damaged || !v->left)
		return err_nomem(err, "verify");
	/* What an earlier reader put into the caches proves nothing about the files. */
	store_drop_cache(v->repo->store);
	return 0;
}

int verify_run(struct verify *v, struct err *err)
{
	int r = v->whole ? verify_files(v, err) : 0;

	for (size_t i = 0; i < v->points.count && r == 0; i++)
		r = verify_walk_point(v, i, err);
	if (r == 0 && v->spec->data)
		r = verify_data(v, err);
	if (r == 0 && (v->bad.count || v->lost.count || v->mixed.count))
		r = verify_name(v, err);
	for (size_t i = 0; i < v->points.count; i++)
		v->result->damaged_points += v->damaged[i];
	v->result->points = v->points.count;
	v->result->share = v->share;
	return r < 0 ? r : record(v, err);
}

void verify_end(struct verify *v)
{
	if (v->catalog)
		repo_catalog_put(v->repo, v->catalog);
	pack_list_release(&v->packs);
	pack_list_release(&v->doomed);
	point_list_release(&v->points);
	slot_set_release(&v->seen);
	slot_set_release(&v->bad);
	slot_set_release(&v->mixed);
	slot_set_release(&v->lost);
	rate_free(v->rate);
	free(v->damaged);
	free(v->left);
}

int repo_verify(struct repo *r, const struct verify_spec *spec, struct verify_result *result,
		struct err *err)
{
	struct verify v = { .repo = r, .spec = spec, .result = result };
	struct err local = ERR_INIT;
	int ret;

	if (!err)
		err = &local;
	ret = verify_begin(&v, err);
	if (ret == 0)
		ret = verify_run(&v, err);
	verify_end(&v);
	if (ret == 0 && result->findings)
		return err_set(err, ERR_DAMAGED,
			       "%" PRIu64 " findings, %" PRIu64 " of %" PRIu64
			       " restore points damaged",
			       result->findings, result->damaged_points, result->points);
	return ret;
}
