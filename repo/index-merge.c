// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Merging index segments into one, without the entries of slots that are gone for ever.
 *
 * A session merges when there are many segments; a prune merges those that are mostly such entries, however few there
 * are, so that the index follows what is stored and not what ever was.  Entries are sorted by content id, so the first
 * few thousand of a segment are a fair sample of it.
 *
 * 1. Left out is an entry whose slot is doomed or dropped, or whose pack has a number that was handed out and no row any
 *    more.  What is only condemned may come back and stays; so does everything of a pack that nobody knows.
 * 2. Numbers are read before rows: a number that is handed out meanwhile counts as unknown.
 * 3. As long as nobody accepted a rebuilt catalog, packs without a row are not taken for removed.
 * 4. The index is a hint.  A segment that cannot be read is never an error of a prune.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "repo/gc-internal.h"

#include "base/banned.h"

#define SAMPLE 4096u /* entries of a segment that are looked at: 96 KiB */
#define TRIM_MOST 12u /* segments at once: 1 MiB each */

/* --- which slots are gone for ever --- */

static bool pack_has_dropped(const struct pack_row *row)
{
	for (uint32_t k = 0; k < row->gone.nbytes; k++)
		if (row->gone.bits[k] & ~bits_byte(&row->condemned, k))
			return true;
	return false;
}

int index_live_read(struct catalog *c, struct index_live *out, struct err *err)
{
	struct catalog_totals totals;
	bool rebuilt = false;
	int r;

	*out = (struct index_live){ 0 };
	r = catalog_totals(c, &totals, err);
	if (r == 0)
		r = catalog_rebuilt(c, &rebuilt, err);
	if (r == 0)
		r = catalog_packs(c, 0, &out->packs, err);
	if (r < 0)
		return r;
	out->next_pack = rebuilt ? 0 : totals.next_pack;
	out->any = !rebuilt && out->packs.count + 1 < totals.next_pack;
	for (size_t i = 0; i < out->packs.count && !out->any; i++)
		out->any = pack_has_dropped(&out->packs.rows[i]);
	return 0;
}

void index_live_release(struct index_live *l)
{
	pack_list_release(&l->packs);
}

bool index_live_keeps(void *opaque, uint64_t locator)
{
	const struct index_live *l = opaque;
	uint64_t number = locator_pack(locator);
	size_t low = 0, high = l->packs.count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct pack_row *row = &l->packs.rows[mid];

		if (row->number == number)
			return !bits_has(&row->gone, locator_slot(locator)) ||
			       bits_has(&row->condemned, locator_slot(locator));
		if (row->number < number)
			low = mid + 1;
		else
			high = mid;
	}
	return number >= l->next_pack;
}

/* --- the merge --- */

int index_merge(struct repo *r, struct catalog *c, uint64_t token, struct store_stage *stage,
		struct index_live *live, const uint64_t *old, size_t n, struct segment_row *out,
		struct err *err)
{
	uint64_t number, records;
	int ret = catalog_segment_begin(c, token, &number, err);

	if (ret == 0)
		ret = store_segment_merge(stage, number, old, n,
					  live->any ? index_live_keeps : NULL, live, &records, err);
	if (ret == 0)
		ret = catalog_segments_swap(c, token, number, records, old, n, err);
	if (ret <= 0)
		return ret;
	*out = (struct segment_row){ .number = number, .records = records };
	/* What stays of the old ones is a file without a row, which the next sweep removes. */
	for (size_t i = 0; i < n; i++)
		(void)store_segment_remove(r->store, old[i], NULL);
	return 1;
}

/* --- prune's part --- */

struct sample {
	struct index_live *live;
	unsigned seen, dead;
};

static int sample_entry(void *opaque, const struct index_entry *e, struct err *err)
{
	struct sample *s = opaque;

	(void)err;
	s->dead += !index_live_keeps(s->live, e->locator);
	return ++s->seen == SAMPLE;
}

static bool mostly_dead(struct gc *g, struct index_live *live, const struct segment_row *row)
{
	struct sample s = { .live = live };

	return store_segment_each(g->repo->store, row->number, sample_entry, &s, NULL) >= 0 &&
	       s.dead * 2 > s.seen;
}

static int trim_some(struct gc *g, struct index_live *live, const uint64_t *old, size_t n,
		     uint64_t entries, struct err *err)
{
	struct segment_row fresh = { 0 };
	int r = gc_stopped(g, err);

	if (r == 0)
		r = rate_take(g->rate, 3 * entries * SEGMENT_RECORD_LEN, err);
	if (r == 0)
		r = index_merge(g->repo, g->catalog, g->lease.token, g->stage, live, old, n, &fresh,
				err);
	if (r == 0) /* a backup merged them meanwhile: ours is no more */
		return sweep_rows(g->repo, g->catalog, g->lease.token, err);
	if (r == 1)
		log_info("%zu index segments became one: %" PRIu64 " of %" PRIu64 " entries stay",
			 n, fresh.records, entries);
	return r < 0 ? r : 0;
}

static int trim_all(struct gc *g, struct index_live *live, struct err *err)
{
	cleanup_free struct segment_row *rows = NULL;
	uint64_t old[TRIM_MOST], entries = 0;
	size_t count = 0, n = 0;
	int r = catalog_segments(g->catalog, &rows, &count, err);

	for (size_t i = 0; i < count && r == 0; i++) {
		if (rows[i].records && !mostly_dead(g, live, &rows[i]))
			continue; /* empty ones come along */
		old[n++] = rows[i].number;
		entries += rows[i].records;
		if (n == TRIM_MOST) {
			r = trim_some(g, live, old, n, entries, err);
			n = entries = 0;
		}
	}
	return r == 0 && (entries || n > 1) ? trim_some(g, live, old, n, entries, err) : r;
}

int index_trim(struct gc *g, struct err *err)
{
	struct index_live live = { 0 };
	struct err local = ERR_INIT;
	int r = index_live_read(g->catalog, &live, err);

	if (r < 0)
		return r;
	r = live.any ? trim_all(g, &live, &local) : 0;
	index_live_release(&live);
	if (r == 0)
		return 0;
	if (r == ERR_FENCED || r == ERR_UNKNOWN || r == ERR_INTERRUPTED || r == ERR_TERMINATED) {
		if (err)
			*err = local;
		return r;
	}
	gc_note(g, "index segments stay as they are: %s", local.text);
	return sweep_rows(g->repo, g->catalog, g->lease.token, err);
}
