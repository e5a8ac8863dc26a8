// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Packs as files: a footer or trailer that does not hold is made again from the records; a pack whose header does not hold is
 * moved to quarantine/; of one that is not there the slots are marked damaged.
 *
 * 1. Before a file is replaced by one that has less, its bytes have a second name in quarantine/.
 * 2. Marks come after the file: a crash in between leaves a pack that the next run finds in the same state.
 * 3. A file that cannot be read for a reason of the disk (EIO) is left alone: that may pass.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "repo/repair-internal.h"

#include "base/banned.h"

struct pack_repair {
	struct repair *x;
	const struct pack_row *row;
	uint64_t records, bad;
};

static int note_record(void *opaque, const struct footer_entry *e, bool ok, struct err *err)
{
	struct pack_repair *p = opaque;

	p->records++;
	if (ok)
		return 0;
	p->bad++;
	return id_map_add(&p->x->ids, locator_make(p->row->number, e->slot), e->id, ID_LEN, err);
}

/* Every slot that is needed by somebody and is not in the file now. */
static int mark_missing(struct repair *x, const struct pack_row *row, struct err *err)
{
	cleanup_free uint32_t *slots = mem_alloc_array(MAX(row->slots, 1u), sizeof(*slots));
	struct store_pack *p = NULL;
	size_t n = 0;

	if (!slots)
		return err_nomem(err, "repair");
	if (store_pack_get(x->repo->store, row->number, &p, NULL) < 0)
		p = NULL;
	for (uint32_t slot = 0; slot < row->slots; slot++)
		if (!bits_have(&row->gone, slot) && !bits_have(&row->damaged, slot) &&
		    !(p && store_pack_entry(p, slot)))
			slots[n++] = slot;
	if (p)
		store_pack_put(p);
	return n ? catalog_slots_damaged(x->catalog, row->number, slots, n, true, err) : 0;
}

static int remake_footer(struct pack_repair *p, struct err *err)
{
	struct repair *x = p->x;
	uint32_t bytes = SLOT_MAX_COUNT / 8;
	cleanup_free uint8_t *keep = mem_alloc(bytes);
	cleanup_free char *name = NULL;
	struct rewrite_spec spec = { .number = p->row->number,
				     .keep = keep,
				     .keep_bytes = bytes,
				     .skip_bad = true,
				     .from_records = true };
	struct rewrite_result result = { 0 };
	int r;

	if (!keep)
		return err_nomem(err, "repair");
	memset(keep, 0xff, bytes);
	r = store_pack_quarantine_copy(x->repo->store, p->row->number, &name, err);
	if (r == 0)
		r = store_pack_rewrite(x->stage, x->reader, &spec, &result, err);
	if (r == 0)
		r = store_pack_replace(x->stage, p->row->number, err);
	if (r == 0)
		r = store_stage_sync(x->stage, err);
	if (r == 0)
		r = catalog_pack_replaced(x->catalog, x->lease.token, p->row->number,
					  result.new_bytes, NULL, 0, err);
	if (r == 0)
		r = mark_missing(x, p->row, err);
	x->map_footers += r == 0 && p->row->kind == PACK_MAP;
	if (r == 0)
		repair_say(x, REPAIR_FOOTER, locator_make(p->row->number, 0), true,
			   "pack %012" PRIx64 ": footer made again from %" PRIu64
			   " records, %zu of them left out; the old file is also '%s'",
			   p->row->number, p->records, result.nbad, name);
	rewrite_result_release(&result);
	return r;
}

static int quarantine(struct pack_repair *p, const char *why, struct err *err)
{
	struct repair *x = p->x;
	cleanup_free char *name = NULL;
	uint64_t number = p->row->number;
	int r;

	repair_say(x, REPAIR_PACK, locator_make(number, 0), false,
		   "%s: moved to quarantine/, its slots are marked damaged", why);
	if (x->spec->dry_run)
		return 0;
	r = store_pack_quarantine(x->repo->store, number, &name, err);
	if (r == 0)
		r = mark_missing(x, p->row, err);
	if (r == 0)
		repair_say(x, REPAIR_PACK, locator_make(number, 0), true,
			   "pack %012" PRIx64 " is now '%s'", number, name);
	return r;
}

static bool known_lost(const struct pack_row *row)
{
	for (uint32_t slot = 0; slot < row->slots; slot++)
		if (!bits_have(&row->gone, slot) && !bits_have(&row->damaged, slot))
			return false;
	return true;
}

static int missing(struct pack_repair *p, struct err *err)
{
	struct repair *x = p->x;
	int r;

	if (known_lost(p->row))
		return 0;
	repair_say(x, REPAIR_PACK, locator_make(p->row->number, 0), false,
		   "pack %012" PRIx64 ": its file is missing: its slots are marked damaged",
		   p->row->number);
	if (x->spec->dry_run)
		return 0;
	r = mark_missing(x, p->row, err);
	if (r == 0)
		repair_say(x, REPAIR_PACK, locator_make(p->row->number, 0), true,
			   "pack %012" PRIx64 ": slots marked damaged", p->row->number);
	return r;
}

/* Header, footer or trailer does not hold: why. */
static int broken(struct pack_repair *p, const char *why, struct err *err)
{
	struct repair *x = p->x;
	struct scan_result scan;
	struct err local = ERR_INIT;
	int r = store_pack_scan(x->repo->store, x->reader, p->row->number, note_record, p, &scan,
				&local);

	if (r == ERR_DAMAGED || (r == 0 && p->records == p->bad))
		return quarantine(p, r < 0 ? local.text : why, err);
	if (r < 0) {
		*err = local;
		return r;
	}
	repair_say(x, REPAIR_FOOTER, locator_make(p->row->number, 0), false,
		   "%s: made again from %" PRIu64 " records, %" PRIu64 " of them bad, %" PRIu64
		   " bytes lost",
		   why, p->records, p->bad, scan.lost_bytes);
	if (x->spec->dry_run)
		return slot_set_add(&x->remade, locator_make(p->row->number, 0), err);
	return remake_footer(p, err);
}

static int look(struct repair *x, const struct pack_row *row, struct err *err)
{
	struct pack_repair p = { .x = x, .row = row };
	struct err local = ERR_INIT;
	struct store_pack *pack;
	int r = store_pack_get(x->repo->store, row->number, &pack, &local);

	if (r == 0) {
		store_pack_put(pack);
		return 0;
	}
	if (r == ERR_NOT_FOUND)
		return missing(&p, err);
	if (r == ERR_DAMAGED)
		return broken(&p, local.text, err);
	if (r != ERR_IO) {
		*err = local;
		return r;
	}
	x->undone++;
	repair_say(x, REPAIR_PACK, locator_make(row->number, 0), false,
		   "%s: left alone, the disk may answer another time", local.text);
	return 0;
}

int repair_packs(struct repair *x, struct err *err)
{
	struct pack_list rows = { 0 };
	int r = catalog_packs(x->catalog, 0, &rows, err);

	for (size_t i = 0; i < rows.count && r == 0; i++) {
		if (rows.rows[i].state != PACK_LIVE)
			continue;
		r = repair_stopped(x, err);
		if (r == 0)
			r = look(x, &rows.rows[i], err);
	}
	pack_list_release(&rows);
	return r;
}
