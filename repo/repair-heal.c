// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Bad slots, written again from the same content elsewhere: another slot of this repository (a later backup stored damaged
 * chunks anew), or another repository.
 *
 * What a slot held is told by its pack's footer, by its record's own header, by those that refer to it (map objects), or by
 * the first 16 bytes of the id in an index segment (chunks of packs that are lost).
 *
 * 1. What is written was read by its content id, and the new file is read back before it takes the old one's place.
 * 2. Slots that nothing has stay marked; the bytes of their bad records get a name in quarantine/ before they are left out.
 * 3. A pack's rewrite is one rename; the notes of its slots go afterwards, so a crash in between costs a second look.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "repo/repair-internal.h"

#include "base/banned.h"

struct want {
	uint64_t locator;
	uint8_t id[ID_LEN];
	uint8_t known; /* bytes of id, 0: nothing */
	uint8_t type; /* enum object_type, 0: unknown */
	bool found, from; /* there is a twin; it is in spec->from */
	uint64_t twin;
	uint8_t twin_type;
	size_t next; /* in the hash chain, + 1; 0: last */
};
struct heal {
	struct repair *x;
	const struct slot_set *bad, *needed;
	struct want *wants; /* owned; ascending locators */
	size_t count;
	size_t *heads; /* owned; hash table of wants by the first bytes of the id, + 1 */
	size_t cap;
	size_t open; /* wants that are known and not found */
	bool progress; /* one was found: there will be another pass */
	uint8_t *plain; /* owned */
};

/* --- what is wanted --- */

static int add_wants(struct heal *h, const struct slot_bits *b, struct err *err)
{
	struct store_pack *p = NULL;
	int r = 0;

	if (store_pack_get(h->x->repo->store, b->pack, &p, NULL) < 0)
		p = NULL;
	for (uint32_t slot = 0; slot < b->nbytes * 8 && r == 0; slot++) {
		const struct footer_entry *e;
		const struct bad_id *known;
		struct want *w;

		if (!bits_have(b, slot))
			continue;
		w = mem_realloc_array(h->wants, h->count + 1, sizeof(*w));
		if (!w) {
			r = err_nomem(err, "repair");
			break;
		}
		h->wants = w;
		w = &h->wants[h->count++];
		*w = (struct want){ .locator = locator_make(b->pack, slot) };
		e = p ? store_pack_entry(p, slot) : NULL;
		known = id_map_find(&h->x->ids, w->locator);
		if (e) {
			memcpy(w->id, e->id, ID_LEN);
			w->known = ID_LEN;
			w->type = e->type;
		} else if (known) {
			memcpy(w->id, known->id, ID_LEN);
			w->known = known->known;
		}
	}
	if (p)
		store_pack_put(p);
	return r;
}

static int by_locator(const void *a, const void *b)
{
	const struct want *x = a, *y = b;

	return x->locator < y->locator ? -1 : x->locator > y->locator;
}

static struct want *want_at(struct heal *h, uint64_t locator)
{
	struct want key = { .locator = locator };

	return h->count ? bsearch(&key, h->wants, h->count, sizeof(key), by_locator) : NULL;
}

/* An index segment's entry: chunks only. */
static int take_key(void *opaque, const struct index_entry *e, struct err *err)
{
	struct heal *h = opaque;
	struct want *w = want_at(h, e->locator);

	(void)err;
	if (w && !w->known) {
		memcpy(w->id, e->key, SEGMENT_KEY_LEN);
		w->known = SEGMENT_KEY_LEN;
		w->type = OBJECT_CHUNK;
	}
	return 0;
}

static int take_keys(struct heal *h, struct err *err)
{
	cleanup_free struct segment_row *rows = NULL;
	size_t count = 0, unknown = 0;
	int r;

	for (size_t i = 0; i < h->count; i++)
		unknown += !h->wants[i].known;
	if (!unknown)
		return 0;
	r = catalog_segments(h->x->catalog, &rows, &count, err);
	for (size_t i = 0; i < count && r == 0; i++)
		(void)store_segment_each(h->x->repo->store, rows[i].number, take_key, h, NULL);
	return r;
}

static int hash_wants(struct heal *h, struct err *err)
{
	h->cap = 64;
	while (h->cap < h->count * 2)
		h->cap *= 2;
	h->heads = mem_alloc_array(h->cap, sizeof(*h->heads));
	if (!h->heads)
		return err_nomem(err, "repair");
	for (size_t i = 0; i < h->count; i++) {
		size_t *head = &h->heads[get_le64(h->wants[i].id) & (h->cap - 1)];

		if (!h->wants[i].known)
			continue;
		h->open++;
		h->wants[i].next = *head;
		*head = i + 1;
	}
	return 0;
}

/* --- where it is --- */

struct source {
	struct repo *repo;
	struct store_reader *reader; /* of that repository */
	bool from; /* the other repository */
	bool translate; /* its ids are under another key */
};

static bool fits(const struct want *w, const struct footer_entry *e, const uint8_t *id)
{
	return !w->found && memcmp(w->id, id, w->known) == 0 && (!w->type || w->type == e->type) &&
	       (w->known == ID_LEN || e->type == OBJECT_CHUNK);
}

/* The content behind the entry has the id: all wants of it are found there. */
static void take_twin(struct heal *h, const struct source *s, uint64_t locator,
		      const struct footer_entry *e, const uint8_t *id)
{
	for (size_t i = h->heads[get_le64(id) & (h->cap - 1)]; i; i = h->wants[i - 1].next) {
		struct want *w = &h->wants[i - 1];

		if (!fits(w, e, id))
			continue;
		memcpy(w->id, id, ID_LEN);
		w->known = ID_LEN;
		w->found = true;
		w->from = s->from;
		w->twin = locator;
		w->twin_type = e->type;
		h->open--;
	}
}

static bool wanted(const struct heal *h, const struct footer_entry *e)
{
	for (size_t i = h->heads[get_le64(e->id) & (h->cap - 1)]; i; i = h->wants[i - 1].next)
		if (fits(&h->wants[i - 1], e, e->id))
			return true;
	return false;
}

static int read_twin(struct heal *h, const struct source *s, uint64_t locator,
		     const struct footer_entry *e, struct err *err)
{
	size_t n;
	int r = rate_take(h->x->rate, RECORD_HEADER_LEN + (uint64_t)e->stored_len, err);

	return r < 0 ? r :
		       store_record_read(s->repo->store, s->reader, locator, e->type, NULL, true,
					 h->plain, OBJECT_PLAIN_MAX, &n, err);
}

static int try_entry(struct heal *h, const struct source *s, uint64_t number,
		     const struct footer_entry *e, struct err *err)
{
	uint64_t locator = locator_make(number, e->slot);
	uint8_t id[ID_LEN];
	struct err local = ERR_INIT;
	int r;

	if (s->translate ? e->type != OBJECT_CHUNK && e->type != OBJECT_BLOB : !wanted(h, e))
		return 0;
	r = read_twin(h, s, locator, e, &local);
	if (r < 0 && verify_is_finding(r))
		return 0; /* bad itself */
	if (r < 0) {
		*err = local;
		return r;
	}
	memcpy(id, e->id, ID_LEN);
	if (s->translate)
		r = codec_id(store_reader_codec(h->x->reader), h->plain, e->plain_len, id, err);
	if (r == 0)
		take_twin(h, s, locator, e, id);
	return r;
}

static int look_source(struct heal *h, const struct source *s, struct err *err)
{
	cleanup_free uint64_t *numbers = NULL;
	size_t count = 0;
	int r = store_packs_list(s->repo->store, &numbers, &count, err);

	for (size_t i = 0; i < count && h->open && r == 0; i++) {
		struct progress p = { .phase = "sources", .done = i, .total = count };
		const struct footer_entry *e;
		struct store_pack *pack;
		unsigned n;

		r = repair_stopped(h->x, err);
		if (r < 0)
			break;
		if (h->x->spec->progress)
			h->x->spec->progress(h->x->spec->opaque, &p);
		if (store_pack_get(s->repo->store, numbers[i], &pack, NULL) < 0)
			continue;
		e = store_pack_entries(pack, &n);
		for (unsigned k = 0; k < n && r == 0; k++)
			r = try_entry(h, s, numbers[i], &e[k], err);
		store_pack_put(pack);
	}
	return r;
}

/* Both give the same content the same id: both are plain, or they have one id key. */
static int same_ids(struct repo *a, struct repo *b, struct err *err)
{
	static const char probe[] = "do both give this the same id?";
	uint8_t x[ID_LEN], y[ID_LEN];
	int r = repo_content_id(a, probe, sizeof(probe), x, err);

	if (r == 0)
		r = repo_content_id(b, probe, sizeof(probe), y, err);
	return r < 0 ? r : memcmp(x, y, ID_LEN) == 0;
}

static int look_everywhere(struct heal *h, struct err *err)
{
	struct repair *x = h->x;
	struct source own = { .repo = x->repo, .reader = x->reader };
	struct source other = { .repo = x->spec->from, .from = true };
	int r = h->open ? look_source(h, &own, err) : 0;

	if (r < 0 || !h->open || !other.repo)
		return r;
	r = same_ids(x->repo, other.repo, err);
	if (r < 0)
		return r;
	other.translate = !r;
	r = repo_reader_get(other.repo, &other.reader, err);
	if (r < 0)
		return err_prefix(err, "the other repository");
	r = look_source(h, &other, err);
	repo_reader_put(other.repo, other.reader);
	return r < 0 ? err_prefix(err, "looking for a source") : 0;
}

/* --- writing it --- */

struct batch { /* of one pack */
	struct heal *h;
	struct want **wants; /* owned array; those that are found */
	struct rewrite_slot *fresh; /* owned, their payloads too */
	uint32_t *slots; /* owned */
	size_t count;
	bool lost_some; /* bad slots of the pack stay bad */
};

static void batch_release(struct batch *b)
{
	for (size_t i = 0; i < b->count; i++)
		free((void *)b->fresh[i].append.payload);
	free(b->fresh);
	free(b->wants);
	free(b->slots);
}

static int fill_one(struct batch *b, struct want *w, struct err *err)
{
	struct repair *x = b->h->x;
	struct repo *repo = w->from ? x->spec->from : x->repo;
	int level = compression_level(x->repo->conf.compression);
	struct store_reader *reader = x->reader;
	struct store_append *a = &b->fresh[b->count].append;
	cleanup_free uint8_t *payload = NULL;
	size_t n = 0;
	int r = w->from ? repo_reader_get(repo, &reader, err) : 0;

	if (r == 0)
		r = store_record_read(repo->store, reader, w->twin, w->twin_type, NULL, true,
				      b->h->plain, OBJECT_PLAIN_MAX, &n, err);
	if (w->from && reader)
		repo_reader_put(repo, reader);
	if (r < 0)
		return r;
	payload = mem_realloc_array(NULL, n, 1);
	if (!payload)
		return err_nomem(err, "repair");
	*a = (struct store_append){
		.type = w->twin_type, .id = w->id, .plain_len = (uint32_t)n, .level = level
	};
	r = codec_compress(store_reader_codec(x->reader), level, b->h->plain, n, payload, n,
			   &a->codec, &a->n, err);
	if (r < 0)
		return r;
	if (a->codec == CODEC_RAW) {
		memcpy(payload, b->h->plain, n);
		a->n = n;
	}
	if (!codec_keys_suite(x->repo->keys)->keyed)
		a->xxh3 = check_xxh3(b->h->plain, n);
	a->payload = steal_ptr(payload);
	b->fresh[b->count].slot = locator_slot(w->locator);
	b->slots[b->count] = locator_slot(w->locator);
	b->wants[b->count++] = w;
	return 0;
}

static int rewrite(struct batch *b, uint64_t number, uint64_t *bytes, struct err *err)
{
	struct repair *x = b->h->x;
	uint32_t n = SLOT_MAX_COUNT / 8;
	cleanup_free uint8_t *keep = mem_alloc(n);
	cleanup_free char *name = NULL;
	struct rewrite_spec spec = { .number = number,
				     .keep = keep,
				     .keep_bytes = n,
				     .fresh = b->fresh,
				     .nfresh = b->count,
				     .skip_bad = true };
	struct rewrite_result result = { 0 };
	int r = 0;

	if (!keep)
		return err_nomem(err, "repair");
	memset(keep, 0xff, n);
	if (b->lost_some)
		r = store_pack_quarantine_copy(x->repo->store, number, &name, err);
	if (r == 0)
		r = store_pack_rewrite(x->stage, x->reader, &spec, &result, err);
	if (r == 0)
		r = store_pack_replace(x->stage, number, err);
	*bytes = result.new_bytes;
	rewrite_result_release(&result);
	return r;
}

/* The row says what kind of pack it was. */
static int write_pack(struct batch *b, uint64_t number, struct err *err)
{
	struct repair *x = b->h->x;
	struct pack_list row = { 0 };
	struct store_pack *p = NULL;
	uint64_t bytes = 0;
	int r = catalog_packs(x->catalog, number, &row, err);

	if (r == 0 && !row.count)
		r = err_set(err, ERR_INTERNAL, "pack %012" PRIx64 " has no row", number);
	if (r == 0 && store_pack_get(x->repo->store, number, &p, NULL) == 0) {
		store_pack_put(p);
		r = rewrite(b, number, &bytes, err);
	} else if (r == 0) {
		r = store_pack_remake(x->stage, x->reader, number, row.rows[0].kind, b->fresh,
				      b->count, &bytes, err);
	}
	pack_list_release(&row);
	if (r == 0)
		r = store_stage_sync(x->stage, err);
	if (r == 0)
		r = catalog_pack_replaced(x->catalog, x->lease.token, number, bytes, b->slots,
					  b->count, err);
	return r;
}

static void tell(struct heal *h, const struct want *w, bool done)
{
	struct repair *x = h->x;
	char hex[2 * ID_LEN + 1] = "unknown";
	uint64_t pack = locator_pack(w->locator);
	uint32_t slot = locator_slot(w->locator);

	if (w->known)
		hex_encode(hex, w->id, w->known);
	if (w->found && !w->from && w->twin == w->locator)
		repair_say(x, REPAIR_SLOT, w->locator, done,
			   "pack %012" PRIx64 ", slot %" PRIu32
			   ", id %s: is good again; the mark is taken back",
			   pack, slot, hex);
	else if (w->found)
		repair_say(x, REPAIR_SLOT, w->locator, done,
			   "pack %012" PRIx64 ", slot %" PRIu32 ", id %s: %s from pack %012" PRIx64
			   ", slot %" PRIu32 "%s",
			   pack, slot, hex, done ? "written again" : "is written again",
			   locator_pack(w->twin), locator_slot(w->twin),
			   w->from ? " of the other repository" : "");
	else if (!slot_set_has(h->needed, w->locator))
		repair_say(x, REPAIR_SLOT, w->locator, false,
			   "pack %012" PRIx64 ", slot %" PRIu32
			   ", id %s: no complete restore point uses it; it stays marked until a "
			   "prune removes it",
			   pack, slot, hex);
	else
		repair_say(x, REPAIR_LOST, w->locator, false,
			   "pack %012" PRIx64 ", slot %" PRIu32
			   ", id %s: nothing has its content; back the disk up again, or name "
			   "another repository with --from",
			   pack, slot, hex);
}

/* Once: what the structure finds wrong with a slot that reads well (a leaf's digest, say) comes again in the next pass. */
static int take_back(struct heal *h, const struct want *w, uint64_t *healed, struct err *err)
{
	uint32_t slot = locator_slot(w->locator);
	uint64_t before = *healed;
	int r;

	if (h->x->spec->dry_run)
		return 0;
	r = slot_set_visit(&h->x->taken, w->locator, err);
	if (r < 0)
		return r;
	*healed += r == 1;
	r = catalog_slots_damaged(h->x->catalog, locator_pack(w->locator), &slot, 1, false, err);
	if (r == 0 && *healed > before)
		tell(h, w, true);
	return r;
}

/* What this pass heals may tell what a lost slot held: those are for the last one to say. */
static bool tells(const struct heal *h, const struct want *w)
{
	if (w->found && !w->from && w->twin == w->locator)
		return !slot_set_has(&h->x->taken, w->locator);
	return w->found || !h->progress || h->x->spec->dry_run;
}

/* Wants of one pack: h->wants[first] up to end. */
static int heal_pack(struct heal *h, size_t first, size_t end, uint64_t *healed, struct err *err)
{
	struct batch b = { .h = h };
	int r = 0;

	b.wants = mem_alloc_array(end - first, sizeof(*b.wants));
	b.fresh = mem_alloc_array(end - first, sizeof(*b.fresh));
	b.slots = mem_alloc_array(end - first, sizeof(*b.slots));
	if (!b.wants || !b.fresh || !b.slots)
		r = err_nomem(err, "repair");
	for (size_t i = first; i < end && r == 0; i++) {
		struct want *w = &h->wants[i];

		if (tells(h, w))
			tell(h, w, false);
		b.lost_some |= !w->found;
		if (w->found && w->twin == w->locator && !w->from)
			r = take_back(h, w, healed, err);
		else if (w->found && !h->x->spec->dry_run)
			r = fill_one(&b, w, err);
	}
	if (r == 0 && b.count)
		r = write_pack(&b, locator_pack(h->wants[first].locator), err);
	for (size_t i = 0; i < b.count && r == 0; i++)
		tell(h, b.wants[i], true);
	if (r == 0)
		*healed += b.count;
	batch_release(&b);
	return r;
}

int repair_heal(struct repair *x, const struct slot_set *bad, const struct slot_set *needed,
		uint64_t *healed, struct err *err)
{
	struct heal h = { .x = x, .bad = bad, .needed = needed };
	int r = 0;

	*healed = 0;
	h.plain = mem_realloc_array(NULL, OBJECT_PLAIN_MAX, 1);
	if (!h.plain)
		return err_nomem(err, "repair");
	for (size_t i = 0; i < bad->cap && r == 0; i++)
		if (bad->packs[i].pack)
			r = add_wants(&h, &bad->packs[i], err);
	if (r == 0 && h.count) {
		qsort(h.wants, h.count, sizeof(*h.wants), by_locator);
		r = take_keys(&h, err);
		if (r == 0)
			r = hash_wants(&h, err);
		if (r == 0)
			r = look_everywhere(&h, err);
	}
	for (size_t i = 0; i < h.count; i++)
		x->result->lost += !h.wants[i].found && slot_set_has(needed, h.wants[i].locator);
	for (size_t i = 0; i < h.count; i++)
		h.progress |= h.wants[i].found && tells(&h, &h.wants[i]);
	for (size_t i = 0, end; i < h.count && r == 0; i = end) {
		uint64_t pack = locator_pack(h.wants[i].locator);

		for (end = i; end < h.count && locator_pack(h.wants[end].locator) == pack;)
			end++;
		r = repair_stopped(x, err);
		if (r == 0)
			r = heal_pack(&h, i, end, healed, err);
	}
	free(h.wants);
	free(h.heads);
	free(h.plain);
	return r;
}
