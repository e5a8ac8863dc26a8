/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Small sets of a write session: ids just stored, slots reused by the index, packs that may be used. */
#include <stdlib.h>

#include "base/fault.h"
#include "repo/session-internal.h"

#include "base/banned.h"

/* --- id_table --- */

#define ID_TABLE_FIRST 4096u

static int gen_init(struct id_gen *g, size_t cap, struct err *err)
{
	g->entries = mem_alloc_array(cap, sizeof(*g->entries));
	if (!g->entries)
		return err_nomem(err, "table of new chunks");
	g->cap = cap;
	g->count = 0;
	return 0;
}

int id_table_init(struct id_table *t, struct err *err)
{
	pthread_rwlock_init(&t->lock, NULL);
	t->before = (struct id_gen){ 0 };
	return gen_init(&t->now, ID_TABLE_FIRST, err);
}

void id_table_release(struct id_table *t)
{
	if (!t->now.entries)
		return;
	pthread_rwlock_destroy(&t->lock);
	free(t->now.entries);
	free(t->before.entries);
	t->now.entries = t->before.entries = NULL;
}

/* The entry of the id, or the free one where it would stand. */
static struct id_entry *gen_at(const struct id_gen *g, const uint8_t *id)
{
	size_t i = (size_t)get_le64(id + 8) & (g->cap - 1);

	while (g->entries[i].locator != LOCATOR_NONE && memcmp(g->entries[i].id, id, ID_LEN) != 0)
		i = (i + 1) & (g->cap - 1);
	return &g->entries[i];
}

uint64_t id_table_find(struct id_table *t, const uint8_t *id)
{
	uint64_t locator;

	pthread_rwlock_rdlock(&t->lock);
	locator = gen_at(&t->now, id)->locator;
	if (locator == LOCATOR_NONE && t->before.entries)
		locator = gen_at(&t->before, id)->locator;
	pthread_rwlock_unlock(&t->lock);
	return locator;
}

static int gen_grow(struct id_gen *g, struct err *err)
{
	struct id_gen fresh;
	int r = gen_init(&fresh, g->cap * 2, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < g->cap; i++)
		if (g->entries[i].locator != LOCATOR_NONE)
			*gen_at(&fresh, g->entries[i].id) = g->entries[i];
	fresh.count = g->count;
	free(g->entries);
	*g = fresh;
	return 0;
}

int id_table_add(struct id_table *t, const uint8_t *id, uint64_t locator, struct err *err)
{
	struct id_entry *e;
	int r = 0;

	pthread_rwlock_wrlock(&t->lock);
	if (t->now.count * 2 >= t->now.cap)
		r = gen_grow(&t->now, err);
	if (r == 0) {
		e = gen_at(&t->now, id);
		t->now.count += e->locator == LOCATOR_NONE;
		memcpy(e->id, id, ID_LEN);
		e->locator = locator;
	}
	pthread_rwlock_unlock(&t->lock);
	return r;
}

int id_table_turn(struct id_table *t, struct err *err)
{
	struct id_gen fresh;
	int r = gen_init(&fresh, ID_TABLE_FIRST, err);

	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&t->lock);
	free(t->before.entries);
	t->before = t->now;
	t->now = fresh;
	pthread_rwlock_unlock(&t->lock);
	return 0;
}

/* --- slot_set --- */

static struct slot_bits *set_at(const struct slot_set *s, uint64_t pack)
{
	size_t i = (size_t)(pack * 0x9e3779b97f4a7c15u >> 32) & (s->cap - 1);

	while (s->packs[i].pack && s->packs[i].pack != pack)
		i = (i + 1) & (s->cap - 1);
	return &s->packs[i];
}

static int set_grow(struct slot_set *s, struct err *err)
{
	struct slot_set fresh = { .cap = s->cap ? s->cap * 2 : 64 };

	fresh.packs = mem_alloc_array(fresh.cap, sizeof(*fresh.packs));
	if (!fresh.packs)
		return err_nomem(err, "set of slots");
	for (size_t i = 0; i < s->cap; i++)
		if (s->packs[i].pack)
			*set_at(&fresh, s->packs[i].pack) = s->packs[i];
	fresh.count = s->count;
	free(s->packs);
	*s = fresh;
	return 0;
}

/* The pack's bits, with room for `bytes` of them. */
static struct slot_bits *set_room(struct slot_set *s, uint64_t pack, uint32_t bytes,
				  struct err *err)
{
	struct slot_bits *b;

	if (s->count * 2 >= s->cap && set_grow(s, err) < 0)
		return NULL;
	b = set_at(s, pack);
	if (b->nbytes < bytes) {
		uint32_t n = (uint32_t)round_up_u64(bytes, 64);
		uint8_t *bits = mem_realloc_array(b->bits, n, 1);

		if (!bits) {
			err_nomem(err, "set of slots");
			return NULL;
		}
		memset(bits + b->nbytes, 0, n - b->nbytes);
		b->bits = bits;
		b->nbytes = n;
	}
	s->count += !b->pack;
	b->pack = pack;
	return b;
}

int slot_set_visit(struct slot_set *s, uint64_t locator, struct err *err)
{
	uint32_t slot = locator_slot(locator);
	struct slot_bits *b = set_room(s, locator_pack(locator), slot / 8 + 1, err);
	uint8_t bit = (uint8_t)(1u << (slot % 8));
	bool there;

	if (!b)
		return ERR_NOMEM;
	there = b->bits[slot / 8] & bit;
	b->bits[slot / 8] |= bit;
	return !there;
}

int slot_set_add(struct slot_set *s, uint64_t locator, struct err *err)
{
	int r = slot_set_visit(s, locator, err);

	return r < 0 ? r : 0;
}

int slot_set_reserve(struct slot_set *s, uint64_t pack, uint32_t slots, struct err *err)
{
	return set_room(s, pack, MAX((uint32_t)div_round_up(slots, 8), 1u), err) ? 0 : ERR_NOMEM;
}

const struct slot_bits *slot_set_find(const struct slot_set *s, uint64_t pack)
{
	const struct slot_bits *b = s->cap ? set_at(s, pack) : NULL;

	return b && b->pack ? b : NULL;
}

bool slot_set_has(const struct slot_set *s, uint64_t locator)
{
	const struct slot_bits *b = slot_set_find(s, locator_pack(locator));
	uint32_t slot = locator_slot(locator);

	return b && slot / 8 < b->nbytes && (b->bits[slot / 8] >> (slot % 8) & 1);
}

void slot_set_fill(struct slot_set *s, uint64_t locator, uint32_t count)
{
	struct slot_bits *b = s->cap ? set_at(s, locator_pack(locator)) : NULL;
	uint64_t at = locator_slot(locator), end;

	if (!b || !b->pack)
		return;
	end = MIN(at + count, (uint64_t)b->nbytes * 8);
	for (; at < end && at % 8; at++)
		b->bits[at / 8] |= (uint8_t)(1u << (at % 8));
	if (at + 8 <= end) {
		memset(b->bits + at / 8, 0xff, (size_t)((end - at) / 8));
		at += (end - at) / 8 * 8;
	}
	for (; at < end; at++)
		b->bits[at / 8] |= (uint8_t)(1u << (at % 8));
}

size_t slot_set_compact(struct slot_set *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->cap; i++) {
		struct slot_bits b = s->packs[i];

		if (!b.pack)
			continue;
		memset(&s->packs[i], 0, sizeof(s->packs[i]));
		s->packs[n++] = b;
	}
	return n;
}

void slot_set_release(struct slot_set *s)
{
	for (size_t i = 0; i < s->cap; i++)
		free(s->packs[i].bits);
	free(s->packs);
	*s = (struct slot_set){ 0 };
}

/* --- usable packs --- */

static const struct pack_row *row_of(const struct usable *u, uint64_t number)
{
	size_t low = 0, high = u->packs.count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (u->packs.rows[mid].number == number)
			return &u->packs.rows[mid];
		if (u->packs.rows[mid].number < number)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

static bool has_bit(const struct slot_bits *b, uint32_t slot)
{
	return slot / 8 < b->nbytes && (b->bits[slot / 8] >> (slot % 8) & 1);
}

bool usable_is_own(struct usable *u, uint64_t locator)
{
	uint64_t number = locator_pack(locator);
	size_t low = 0, high;
	bool own = false;

	pthread_rwlock_rdlock(&u->lock);
	high = u->nown;
	while (low < high && !own) {
		size_t mid = low + (high - low) / 2;

		own = u->own[mid] == number;
		if (u->own[mid] < number)
			low = mid + 1;
		else
			high = mid;
	}
	pthread_rwlock_unlock(&u->lock);
	return own;
}

bool usable_by_index(struct usable *u, uint64_t locator)
{
	const struct pack_row *row = row_of(u, locator_pack(locator));

	if (!row)
		return usable_is_own(u, locator);
	return row->state == PACK_LIVE &&
	       (!has_bit(&row->gone, locator_slot(locator)) || fault_planted("session.gone")) &&
	       !has_bit(&row->damaged, locator_slot(locator));
}

bool usable_damaged(const struct usable *u, uint64_t locator)
{
	const struct pack_row *row;

	if (!u->any_damaged)
		return false;
	row = row_of(u, locator_pack(locator));
	return row && has_bit(&row->damaged, locator_slot(locator));
}

int usable_add_own(struct usable *u, uint64_t number, struct err *err)
{
	int r = 0;

	pthread_rwlock_wrlock(&u->lock);
	if (u->nown == u->own_cap) {
		size_t cap = u->own_cap ? u->own_cap * 2 : 64;
		uint64_t *p = mem_realloc_array(u->own, cap, sizeof(*p));

		if (p) {
			u->own = p;
			u->own_cap = cap;
		} else {
			r = err_nomem(err, "list of own packs");
		}
	}
	/* Data packs are numbered in ascending order; map packs never get here. */
	if (r == 0)
		u->own[u->nown++] = number;
	pthread_rwlock_unlock(&u->lock);
	return r;
}
