// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * What no point refers to: the catalog itself, the index segments, the newest state object, the audit log, the overlays, and that the
 * footer of each live pack has every slot that its row says is there.
 *
 * 1. What a prune or a backup did meanwhile is no finding: each one is looked at again in the catalog of now.
 * 2. Gone slots are not asked for, and neither are those that are known to be damaged and that no point needs.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "repo/audit.h"
#include "repo/verify-internal.h"

#include "base/banned.h"

static int check_catalog(struct verify *v, struct err *err)
{
	cleanup_buf struct buf lines = BUF_INIT;
	struct verify_finding f = { 0 };
	char *line, *rest;
	int r = catalog_check(v->catalog, &lines, err);

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
		verify_find(v, &f);
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
static int check_segments(struct verify *v, struct err *err)
{
	cleanup_free struct segment_row *rows = NULL;
	size_t count = 0;
	int r = catalog_segments(v->catalog, &rows, &count, err);

	for (size_t i = 0; i < count && r == 0; i++) {
		struct err local = ERR_INIT;
		struct verify_finding f = { .what = local.text };

		r = verify_stopped(v, err);
		if (r < 0)
			break;
		if (store_segment_check(v->repo->store, rows[i].number, &local) < 0) {
			if (local.code == ERR_NOMEM)
				return err_nomem(err, "verify");
			if (still_listed(v->catalog, rows[i].number))
				verify_find(v, &f);
		}
	}
	return r;
}

/* The small tables as an object: what a rebuild of the catalog would need. */
static int check_state(struct verify *v, struct err *err)
{
	struct object_ref ref, now;
	struct state state = { 0 };
	struct err local = ERR_INIT;
	int r = catalog_state_ref(v->catalog, &ref, err);

	if (r < 0 || ref.locator == LOCATOR_NONE)
		return r;
	r = state_load(v->repo, &ref, &state, &local);
	state_release(&state);
	if (r == 0) {
		v->result->objects++;
		return slot_set_add(&v->seen, ref.locator, err);
	}
	if (!verify_is_finding(r)) {
		*err = local;
		return r;
	}
	/* A newer one took its place, and a prune the old one's slot? */
	r = catalog_state_ref(v->catalog, &now, err);
	if (r < 0 || now.locator != ref.locator)
		return r;
	return verify_bad_object(v, ref.locator, ref.id, local.text, err);
}

static int check_log(struct verify *v, struct err *err)
{
	struct err local = ERR_INIT;
	struct verify_finding f = { .what = local.text };
	uint64_t entries;
	int r = repo_log_verify(v->repo, &entries, &local);

	if (r < 0 && r != ERR_DAMAGED) {
		*err = local;
		return r;
	}
	if (r < 0)
		verify_find(v, &f);
	return 0;
}

static int check_footer(struct verify *v, const struct pack_row *row, struct store_pack *p,
			struct err *err)
{
	struct pack_list now = { 0 };
	int r = 0;

	for (uint32_t slot = 0; slot < row->slots && r == 0; slot++) {
		if (bits_have(&row->gone, slot) || bits_have(&row->damaged, slot) ||
		    store_pack_entry(p, slot))
			continue;
		if (!now.count)
			r = verify_row_now(v, row->number, &now, err);
		if (r == 0 && now.count && !bits_have(&now.rows[0].gone, slot))
			r = verify_bad_object(v, locator_make(row->number, slot), NULL,
					      "slot is not in its pack", err);
	}
	pack_list_release(&now);
	return r;
}

/* Does the row know of every slot that is not gone that it is damaged?  Then there is nothing to say, unless a point needs one. */
static bool all_damaged(const struct pack_row *row)
{
	for (uint32_t slot = 0; slot < row->slots; slot++)
		if (!bits_have(&row->gone, slot) && !bits_have(&row->damaged, slot))
			return false;
	return true;
}

static int check_pack(struct verify *v, const struct pack_row *row, struct err *err)
{
	struct pack_list now = { 0 };
	struct store_pack *p;
	struct err local = ERR_INIT;
	int r = store_pack_get(v->repo->store, row->number, &p, &local);

	if (r == 0) {
		r = check_footer(v, row, p, err);
		store_pack_put(p);
		return r;
	}
	if (!verify_is_finding(r)) {
		*err = local;
		return r;
	}
	r = verify_row_now(v, row->number, &now, err);
	if (r == 0 && now.count && !all_damaged(&now.rows[0]))
		r = verify_bad_pack(v, row->number, local.text, err);
	for (uint32_t slot = 0; r == 0 && now.count && slot < row->slots; slot++)
		if (!bits_have(&now.rows[0].gone, slot) &&
		    slot_set_has(&v->lost, locator_make(row->number, 0)))
			r = slot_set_add(&v->bad, locator_make(row->number, slot), err);
	pack_list_release(&now);
	return r;
}

int verify_packs(struct verify *v, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < v->packs.count && r == 0; i++) {
		if (v->packs.rows[i].state != PACK_LIVE)
			continue;
		r = verify_stopped(v, err);
		if (r == 0)
			r = check_pack(v, &v->packs.rows[i], err);
	}
	return r;
}

int verify_files(struct verify *v, struct err *err)
{
	int r = check_catalog(v, err);

	if (r == 0)
		r = check_segments(v, err);
	if (r == 0)
		r = check_state(v, err);
	if (r == 0)
		r = check_log(v, err);
	if (r == 0)
		r = verify_overlays(v, err);
	return r < 0 ? r : verify_packs(v, err);
}
