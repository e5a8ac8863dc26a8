// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * What the packs say, when there is no catalog to ask: rows of packs, restore points, the newest state object, and numbers
 * that must not be given out again.
 *
 * 1. Looks only.
 * 2. A manifest counts when its content has its id, it decodes, and it is of this repository.
 * 3. Map objects are read, all of them: a pack that is lost is known by those that name its slots, and its number must not be
 *    used again, for a locator means one content for ever.
 * 4. A slot that a map object names is never called gone: it is in the file, or damaged.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "repo/repair-internal.h"

#include "base/banned.h"

/* Numbers that were handed out and of which nothing is left to see: sessions that died, packs that are gone. */
#define NUMBER_MARGIN 1024u

struct surveyor {
	struct repair *x;
	struct survey *s;
	uint64_t number; /* of the pack being looked at */
	struct footer_entry *entries; /* owned; of the pack */
	size_t count;
	bool *bad; /* owned; of each entry */
	uint8_t *plain; /* owned */
};

static void raise(uint64_t *value, uint64_t least)
{
	*value = MAX(*value, least);
}

static int note_refs(struct survey *s, struct slot_set *set, const struct object_ref *refs,
		     size_t count, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < count && r == 0; i++)
		if (refs[i].locator != LOCATOR_NONE) {
			raise(&s->next_pack, locator_pack(refs[i].locator) + 1);
			r = slot_set_add(set, refs[i].locator, err);
		}
	return r;
}

static int note_leaf(struct survey *s, const void *p, size_t n, struct err *err)
{
	struct leaf *leaf = NULL;
	int r = 0;

	if (leaf_decode(p, n, &leaf, NULL) < 0)
		return 0;
	for (unsigned i = 0; i < leaf->nruns && r == 0; i++) {
		const struct run *run = &leaf->runs[i];

		for (unsigned k = 0; run->kind == RUN_DATA && k < run->count && r == 0; k++)
			r = slot_set_add(&s->data_refs, run->locator + k, err);
		if (run->kind == RUN_DATA)
			raise(&s->next_pack, locator_pack(run->locator) + 1);
	}
	free(leaf);
	return r;
}

static int note_page(struct survey *s, const void *p, size_t n, struct err *err)
{
	struct page *page = NULL;
	int r;

	if (page_decode(p, n, &page, NULL) < 0)
		return 0;
	r = note_refs(s, &s->map_refs, page->leaves, page->count, err);
	free(page);
	return r;
}

static int note_root(struct survey *s, const void *p, size_t n, struct err *err)
{
	struct root *root = NULL;
	int r;

	if (root_decode(p, n, &root, NULL) < 0)
		return 0;
	r = note_refs(s, &s->map_refs, root->pages, root->count, err);
	free(root);
	return r;
}

static int note_manifest(struct surveyor *y, const struct object_ref *ref, const void *p, size_t n,
			 struct err *err)
{
	struct survey *s = y->s;
	struct survey_point *more;
	struct manifest *m = NULL;
	int r = 0;

	if (manifest_decode(p, n, &m, NULL) < 0)
		return 0;
	for (size_t i = 0; i < s->npoints; i++)
		if (memcmp(s->points[i].ref.id, ref->id, ID_LEN) == 0)
			r = 1;
	if (r || memcmp(m->uuid, y->x->repo->conf.uuid, UUID_LEN) != 0) {
		manifest_free(m);
		return 0;
	}
	more = mem_realloc_array(s->points, s->npoints + 1, sizeof(*more));
	if (!more) {
		manifest_free(m);
		return err_nomem(err, "survey of the packs");
	}
	s->points = more;
	more[s->npoints++] = (struct survey_point){ .ref = *ref, .m = m };
	raise(&s->generation, m->generation);
	raise(&s->next_sequence, m->sequence + 1);
	for (size_t i = 0; i < m->ndisks && r == 0; i++)
		r = note_refs(s, &s->map_refs, &m->disks[i].root, 1, err);
	for (size_t i = 0; i < m->nconfigs && r == 0; i++)
		r = note_refs(s, &s->map_refs, m->configs[i].parts, m->configs[i].nparts, err);
	return r;
}

static void note_state(struct surveyor *y, const struct object_ref *ref, const void *p, size_t n)
{
	struct survey *s = y->s;
	struct state fresh = { 0 };

	if (state_decode(p, n, &fresh, NULL) < 0)
		return;
	/* Of one generation the one that was written later has the higher locator. */
	if (memcmp(fresh.uuid, y->x->repo->conf.uuid, UUID_LEN) != 0 ||
	    (s->has_state &&
	     (fresh.generation < s->state.generation ||
	      (fresh.generation == s->state.generation && ref->locator < s->state_ref.locator)))) {
		state_release(&fresh);
		return;
	}
	state_release(&s->state);
	s->state = fresh;
	s->state_ref = *ref;
	s->has_state = true;
}

/* Reads one map object and notes what it says; one that cannot be read is for the checks to come. */
static int note_object(struct surveyor *y, const struct footer_entry *e, struct err *err)
{
	struct object_ref ref = { .locator = locator_make(y->number, e->slot) };
	struct repo *r = y->x->repo;
	struct err local = ERR_INIT;
	size_t n;
	int ret = rate_take(y->x->rate, RECORD_HEADER_LEN + (uint64_t)e->stored_len, err);

	if (ret < 0)
		return ret;
	ret = store_record_read(r->store, y->x->reader, ref.locator, e->type, NULL, true, y->plain,
				OBJECT_PLAIN_MAX, &n, &local);
	if (ret < 0 && verify_is_finding(ret))
		return 0;
	if (ret < 0) {
		*err = local;
		return ret;
	}
	memcpy(ref.id, e->id, ID_LEN);
	switch (e->type) {
	case OBJECT_LEAF:
		return note_leaf(y->s, y->plain, n, err);
	case OBJECT_PAGE:
		return note_page(y->s, y->plain, n, err);
	case OBJECT_ROOT:
		return note_root(y->s, y->plain, n, err);
	case OBJECT_MANIFEST:
		return note_manifest(y, &ref, y->plain, n, err);
	case OBJECT_STATE:
		note_state(y, &ref, y->plain, n);
		return 0;
	default:
		return 0;
	}
}

/* --- one pack --- */

static int scan_entry(void *opaque, const struct footer_entry *e, bool ok, struct err *err)
{
	struct surveyor *y = opaque;
	struct footer_entry *entries;
	bool *bad;

	if (y->count % 1024 == 0) {
		entries = mem_realloc_array(y->entries, y->count + 1024, sizeof(*entries));
		if (entries)
			y->entries = entries;
		bad = mem_realloc_array(y->bad, y->count + 1024, sizeof(*bad));
		if (bad)
			y->bad = bad;
		if (!entries || !bad)
			return err_nomem(err, "survey of the packs");
	}
	y->bad[y->count] = !ok;
	y->entries[y->count++] = *e;
	return 0;
}

static int take_footer(struct surveyor *y, struct survey_pack *p, struct err *err)
{
	const struct footer_entry *e;
	struct store_pack *pack;
	unsigned count;
	int r = store_pack_get(y->x->repo->store, y->number, &pack, err);

	if (r < 0)
		return r;
	e = store_pack_entries(pack, &count);
	for (unsigned i = 0; i < count && r == 0; i++)
		r = scan_entry(y, &e[i], true, err);
	p->bytes = store_pack_size(pack);
	p->kind = count && e[0].type == OBJECT_CHUNK ? PACK_DATA : PACK_MAP;
	store_pack_put(pack);
	return r;
}

/* 1: nothing can be read of it. */
static int take_records(struct surveyor *y, struct survey_pack *p, bool *lost, struct err *err)
{
	struct scan_result scan;
	struct err local = ERR_INIT;
	int r = store_pack_scan(y->x->repo->store, y->x->reader, y->number, scan_entry, y, &scan,
				&local);

	if (r == ERR_DAMAGED || (r == 0 && !y->count))
		return 1;
	if (r < 0) {
		*err = local;
		return r;
	}
	p->bytes = scan.bytes;
	p->kind = scan.header.kind;
	*lost = scan.lost_bytes != 0;
	return 0;
}

static bool bits_set(struct slot_bits *b, uint32_t slots, uint32_t slot)
{
	if (!b->bits) {
		b->nbytes = (slots + 7) / 8;
		b->bits = mem_alloc(b->nbytes);
	}
	if (!b->bits)
		return false;
	b->bits[slot / 8] |= (uint8_t)(1u << (slot % 8));
	return true;
}

/* Slots that are not in the file were dropped, unless a part of the file could not be read. */
static int fill_bits(const struct surveyor *y, struct survey_pack *p, bool lost, struct err *err)
{
	size_t i = 0;

	for (size_t k = 0; k < y->count; k++)
		p->slots = MAX(p->slots, y->entries[k].slot + 1);
	for (uint32_t slot = 0; slot < p->slots; slot++) {
		bool there = i < y->count && y->entries[i].slot == slot;

		if (there && y->bad[i] && !bits_set(&p->damaged, p->slots, slot))
			return err_nomem(err, "survey of the packs");
		if (!there && !bits_set(lost ? &p->damaged : &p->gone, p->slots, slot))
			return err_nomem(err, "survey of the packs");
		i += there;
	}
	return 0;
}

static struct survey_pack *pack_add(struct survey *s, uint64_t number)
{
	struct survey_pack *more = mem_realloc_array(s->packs, s->npacks + 1, sizeof(*more));

	if (!more)
		return NULL;
	s->packs = more;
	more[s->npacks] = (struct survey_pack){ .number = number };
	return &more[s->npacks++];
}

static int look_pack(struct surveyor *y, struct err *err)
{
	struct survey_pack *p = pack_add(y->s, y->number);
	bool lost = false;
	struct err local = ERR_INIT;
	int r;

	if (!p)
		return err_nomem(err, "survey of the packs");
	raise(&y->s->next_pack, y->number + 1);
	y->count = 0;
	r = take_footer(y, p, &local);
	if (r == ERR_DAMAGED) {
		y->count = 0;
		r = take_records(y, p, &lost, err);
	} else if (r < 0) {
		*err = local;
	}
	if (r == 1) { /* repair_packs() moves it away */
		y->s->npacks--;
		y->s->unreadable++;
		return 0;
	}
	if (r == 0)
		r = fill_bits(y, p, lost, err);
	for (size_t i = 0; i < y->count && r == 0; i++) {
		bool map = y->entries[i].type != OBJECT_CHUNK && y->entries[i].type != OBJECT_BLOB;

		if (map && !y->bad[i] && p->kind == PACK_MAP)
			r = note_object(y, &y->entries[i], err);
	}
	return r;
}

/* --- slots and packs that are named but not there --- */

/* More slots than the file shows: its last records may have been left out by a repair. */
static int grow(struct slot_bits *b, uint32_t slots, struct err *err)
{
	uint32_t n = (slots + 7) / 8;
	uint8_t *p;

	if (!b->bits || b->nbytes >= n)
		return 0;
	p = mem_realloc_array(b->bits, n, 1);
	if (!p)
		return err_nomem(err, "survey of the packs");
	memset(p + b->nbytes, 0, n - b->nbytes);
	b->bits = p;
	b->nbytes = n;
	return 0;
}

/* A slot that is named and not in the file: left out by a repair as damaged, or dropped by a prune and named by what is
 * garbage itself.  Who takes the first for dropped gives up what a point needs: the next prune would not keep it, even
 * healed.  Who takes the second for damaged loses nothing: the next prune gives it up again. */
static int doubt_gone(struct survey_pack *p, const struct slot_bits *refs, struct err *err)
{
	uint32_t most = refs->nbytes * 8;
	int r;

	while (most && !bits_have(refs, most - 1))
		most--;
	if (most > SLOT_MAX_COUNT)
		most = SLOT_MAX_COUNT;
	r = grow(&p->gone, most, err);
	if (r == 0)
		r = grow(&p->damaged, most, err);
	for (uint32_t slot = 0; slot < most && r == 0; slot++) {
		bool beyond = slot >= p->slots;

		if (!bits_have(refs, slot)) {
			if (beyond && !bits_set(&p->gone, most, slot))
				r = err_nomem(err, "survey of the packs");
			continue;
		}
		if (!beyond && !bits_have(&p->gone, slot))
			continue;
		if (!beyond)
			p->gone.bits[slot / 8] &= (uint8_t) ~(1u << slot % 8);
		if (!bits_set(&p->damaged, MAX(most, p->slots), slot))
			r = err_nomem(err, "survey of the packs");
	}
	p->slots = MAX(p->slots, most);
	return r;
}

static int doubt_all(struct survey *s, const struct slot_set *refs, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < s->npacks && r == 0; i++) {
		const struct slot_bits *b = slot_set_find(refs, s->packs[i].number);

		if (b)
			r = doubt_gone(&s->packs[i], b, err);
	}
	return r;
}

static bool has_pack(const struct survey *s, size_t known, uint64_t number)
{
	size_t low = 0, high = known;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (s->packs[mid].number == number)
			return true;
		if (s->packs[mid].number < number)
			low = mid + 1;
		else
			high = mid;
	}
	return false;
}

/* A row for each, with all its slots damaged, so that backups store again what it had and a repair can bring it back. */
static int add_missing(struct survey *s, const struct slot_set *refs, enum pack_kind kind,
		       size_t known, struct err *err)
{
	for (size_t i = 0; i < refs->cap; i++) {
		const struct slot_bits *b = &refs->packs[i];
		struct survey_pack *p;
		uint32_t slot = b->nbytes * 8;

		if (!b->pack || has_pack(s, known, b->pack))
			continue;
		p = pack_add(s, b->pack);
		if (!p)
			return err_nomem(err, "survey of the packs");
		while (slot && !bits_have(b, slot - 1))
			slot--;
		p->kind = kind;
		p->slots = slot;
		p->bytes = PACK_HEADER_LEN;
		while (slot)
			if (!bits_set(&p->damaged, p->slots, --slot))
				return err_nomem(err, "survey of the packs");
	}
	return 0;
}

/* --- what is not in packs --- */

static int see_token(void *opaque, uint64_t token, struct err *err)
{
	struct survey *s = opaque;

	(void)err;
	raise(&s->next_token, token + 1);
	return 0;
}

static int see_entry(void *opaque, const struct index_entry *e, struct err *err)
{
	struct survey *s = opaque;

	(void)err;
	raise(&s->next_pack, locator_pack(e->locator) + 1);
	return 0;
}

static int look_elsewhere(struct repair *x, struct survey *s, struct err *err)
{
	cleanup_free uint64_t *segments = NULL;
	size_t count = 0;
	struct err local = ERR_INIT;
	int r = store_stages_each(x->repo->store, see_token, s, err);

	if (r == 0)
		r = store_segments_list(x->repo->store, &segments, &count, err);
	for (size_t i = 0; i < count && r == 0; i++) {
		raise(&s->next_segment, segments[i] + 1);
		if (store_segment_each(x->repo->store, segments[i], see_entry, s, &local) < 0)
			err_clear(&local); /* derived: repair_index() writes it again */
	}
	if (s->has_state) {
		raise(&s->generation, s->state.generation);
		raise(&s->next_pack, s->state.next_pack);
		raise(&s->next_sequence, s->state.next_sequence);
		raise(&s->next_segment, s->state.next_segment);
	}
	s->generation++;
	s->next_pack = MIN(s->next_pack + NUMBER_MARGIN, PACK_NUMBER_MAX);
	s->next_segment += NUMBER_MARGIN;
	s->next_token += NUMBER_MARGIN;
	return r;
}

int survey_make(struct repair *x, struct survey *s, struct err *err)
{
	struct surveyor y = { .x = x, .s = s };
	cleanup_free uint64_t *numbers = NULL;
	size_t count = 0, known;
	int r = store_packs_list(x->repo->store, &numbers, &count, err);

	s->next_pack = s->next_sequence = s->next_segment = s->next_token = 1;
	y.plain = mem_realloc_array(NULL, OBJECT_PLAIN_MAX, 1);
	if (r == 0 && !y.plain)
		r = err_nomem(err, "survey of the packs");
	for (size_t i = 0; i < count && r == 0; i++) {
		struct progress p = { .phase = "survey", .done = i, .total = count };

		if (x->spec->progress)
			x->spec->progress(x->spec->opaque, &p);
		y.number = numbers[i];
		r = repair_stopped(x, err);
		if (r == 0)
			r = look_pack(&y, err);
	}
	known = s->npacks;
	if (r == 0)
		r = doubt_all(s, &s->map_refs, err);
	if (r == 0)
		r = doubt_all(s, &s->data_refs, err);
	if (r == 0)
		r = add_missing(s, &s->map_refs, PACK_MAP, known, err);
	if (r == 0)
		r = add_missing(s, &s->data_refs, PACK_DATA, known, err);
	if (r == 0)
		r = look_elsewhere(x, s, err);
	free(y.entries);
	free(y.bad);
	free(y.plain);
	return r;
}

void survey_release(struct survey *s)
{
	for (size_t i = 0; i < s->npacks; i++) {
		free(s->packs[i].gone.bits);
		free(s->packs[i].damaged.bits);
	}
	free(s->packs);
	for (size_t i = 0; i < s->npoints; i++)
		manifest_free(s->points[i].m);
	free(s->points);
	state_release(&s->state);
	slot_set_release(&s->data_refs);
	slot_set_release(&s->map_refs);
}
