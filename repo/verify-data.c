// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Pass 2 of verify: every record of the packs is read, opened, and its content id recomputed; pack by pack on the pool.
 *
 * Of all points: every slot that is not gone, also such as no point uses: a backup may reuse it.  Of one point: its own.
 *
 * 1. What is known of a pack afterwards is noted at once: bad slots, notes taken back, and, if all was read and good, when.
 *    So a run that is interrupted goes on with --since-verified.
 * 2. A slot that has gone meanwhile is no finding.
 * 3. The share is of bytes of packs; a pack that was good lately enough counts as read.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "repo/verify-internal.h"

#include "base/banned.h"

struct bad_slot {
	uint32_t slot;
	uint8_t id[ID_LEN];
};
struct pack_job {
	struct pool_job job;
	struct verify *v;
	const struct pack_row *row; /* NULL: published since the packs were listed */
	const struct slot_bits *bits; /* to be read; NULL: all that are not gone */
	uint64_t number;
	bool opened;
	struct bad_slot *bad; /* owned */
	size_t nbad;
	uint64_t bytes;
	struct err first; /* of the bad slots */
	struct err err; /* of this machine */
	int result;
};

static int add_bad(struct pack_job *j, const struct footer_entry *e)
{
	struct bad_slot *p = mem_realloc_array(j->bad, j->nbad + 1, sizeof(*p));

	if (!p)
		return err_nomem(&j->err, "verify");
	j->bad = p;
	p[j->nbad].slot = e->slot;
	memcpy(p[j->nbad++].id, e->id, ID_LEN);
	return 0;
}

static bool wanted(const struct pack_job *j, uint32_t slot)
{
	return j->bits ? bits_have(j->bits, slot) : !bits_have(&j->row->gone, slot);
}

static int read_slot(struct pack_job *j, struct store_reader *reader, const struct footer_entry *e,
		     uint8_t *plain)
{
	struct err local = ERR_INIT;
	size_t len;
	int r = rate_take(j->v->rate, RECORD_HEADER_LEN + (uint64_t)e->stored_len, &j->err);

	if (r == 0)
		r = verify_stopped(j->v, &j->err);
	if (r < 0)
		return r;
	r = store_record_read(j->v->repo->store, reader, locator_make(j->number, e->slot), e->type,
			      NULL, true, plain, OBJECT_PLAIN_MAX, &len, &local);
	j->bytes += e->stored_len;
	if (r == 0)
		return 0;
	if (!verify_is_finding(r)) {
		j->err = local;
		return r;
	}
	if (!j->nbad)
		j->first = local;
	return add_bad(j, e);
}

static void pack_run(struct pool_job *job, void *ctx)
{
	struct pack_job *j = container_of(job, struct pack_job, job);
	struct repo_worker *w = ctx;
	cleanup_free uint8_t *plain = mem_realloc_array(NULL, OBJECT_PLAIN_MAX, 1);
	const struct footer_entry *e;
	struct store_pack *p;
	unsigned count;

	if (!w || !plain) {
		j->result = err_nomem(&j->err, "verify");
		return;
	}
	j->result = store_pack_get(j->v->repo->store, j->number, &p, &j->err);
	if (j->result < 0) {
		/* Was found before, by the structure. */
		if (verify_is_finding(j->result))
			j->result = 0;
		return;
	}
	j->opened = true;
	e = store_pack_entries(p, &count);
	for (unsigned i = 0; i < count && j->result == 0; i++)
		if (wanted(j, e[i].slot))
			j->result = read_slot(j, w->reader, &e[i], plain);
	store_pack_put(p);
}

/* --- what is noted of a pack --- */

static bool job_has_bad(const struct pack_job *j, uint32_t slot)
{
	for (size_t i = 0; i < j->nbad; i++)
		if (j->bad[i].slot == slot)
			return true;
	return false;
}

/* Sets notes of bad slots, or takes back those of slots that were read and are good. */
static int note_slots(struct verify *v, const struct pack_job *j, const struct pack_row *now,
		      bool damaged, struct err *err)
{
	cleanup_free uint32_t *slots = mem_alloc_array(MAX(now->slots, 1u), sizeof(*slots));
	cleanup_ptr(store_pack) p = NULL;
	size_t n = 0;

	if (!slots)
		return err_nomem(err, "verify");
	if (!damaged && store_pack_get(v->repo->store, j->number, &p, NULL) < 0) {
		p = NULL;
		return 0;
	}
	for (uint32_t slot = 0; slot < now->slots; slot++) {
		bool noted = bits_have(&now->damaged, slot), bad = job_has_bad(j, slot);

		if (damaged ? bad && !noted :
			      noted && !bad && wanted(j, slot) && store_pack_entry(p, slot))
			slots[n++] = slot;
	}
	return n ? catalog_slots_damaged(v->catalog, j->number, slots, n, damaged, err) : 0;
}

static int note_pack(struct verify *v, const struct pack_job *j, const struct pack_row *now,
		     struct err *err)
{
	bool missing = false;
	int r = 0;

	if (!v->record || !j->opened)
		return 0;
	if (j->nbad)
		r = note_slots(v, j, now, true, err);
	if (r == 0 && now->damaged.nbytes)
		r = note_slots(v, j, now, false, err);
	if (r < 0 || j->bits)
		return r;
	for (uint32_t slot = 0; slot < now->slots && !missing; slot++)
		missing = slot_set_has(&v->bad, locator_make(j->number, slot));
	if (j->nbad || missing)
		return now->verified ? catalog_pack_set_verified(v->catalog, j->number, 0, err) : 0;
	return catalog_pack_set_verified(v->catalog, j->number, time_now(), err);
}

static int pack_done(struct verify *v, struct pack_job *j, struct err *err)
{
	struct pack_list now = { 0 };
	int r = j->result;

	v->result->packs++;
	v->result->bytes += j->bytes;
	if (r < 0)
		*err = j->err;
	else if (j->nbad || j->row)
		r = verify_row_now(v, j->number, &now, err);
	for (size_t i = 0; i < j->nbad && r == 0; i++)
		if (now.count && !bits_have(&now.rows[0].gone, j->bad[i].slot))
			r = verify_bad_object(v, locator_make(j->number, j->bad[i].slot),
					      j->bad[i].id,
					      i == 0 ? j->first.text : "record is damaged", err);
	if (r == 0 && now.count)
		r = note_pack(v, j, &now.rows[0], err);
	pack_list_release(&now);
	return r;
}

static void show(struct verify *v, uint64_t total)
{
	struct progress p = { .phase = "verify", .done = v->result->bytes, .total = total };

	if (v->spec->progress)
		v->spec->progress(v->spec->opaque, &p);
}

static int drain(struct verify *v, struct queue *q, bool all, uint64_t total, struct err *err)
{
	struct pool_job *job;
	int r = 0;

	while ((all || queue_full(q)) && (job = queue_pop(q))) {
		struct pack_job *j = container_of(job, struct pack_job, job);
		struct err local = ERR_INIT;
		int one = pack_done(v, j, &local);

		show(v, total);
		free(j->bad);
		free(j);
		if (one < 0 && r == 0) {
			r = one;
			*err = local;
		}
	}
	return r;
}

/* --- which packs --- */

struct choice {
	uint64_t number, bytes;
	const struct pack_row *row;
	const struct slot_bits *bits;
};
struct choices {
	struct choice *list; /* owned */
	size_t count;
	uint64_t bytes; /* of the list */
};

static void choose_add(struct choices *c, const struct choice *one)
{
	c->list[c->count++] = *one;
	c->bytes += one->bytes;
}

static int by_number(const void *a, const void *b)
{
	const struct choice *x = a, *y = b;

	return x->number < y->number ? -1 : x->number > y->number;
}

/* Leaves `percent` of the packs, at least one, chosen by random (Fisher and Yates, from the front). */
static void sample(struct choices *c, double percent)
{
	size_t keep = (size_t)((double)c->count * percent / 100 + 0.999999);

	for (size_t i = 0; i < keep && i < c->count; i++) {
		struct choice swap = c->list[i];
		uint64_t random;
		size_t with;

		random_bytes(&random, sizeof(random));
		with = i + (size_t)(random % (c->count - i));
		c->list[i] = c->list[with];
		c->list[with] = swap;
	}
	c->count = MIN(c->count, keep);
	c->bytes = 0;
	for (size_t i = 0; i < c->count; i++)
		c->bytes += c->list[i].bytes;
}

static bool lately(const struct verify *v, const struct pack_row *row)
{
	int64_t age = time_now() - row->verified;

	return v->spec->since_verified && row->verified && age >= 0 &&
	       (uint64_t)age <= v->spec->since_verified;
}

static int choose(struct verify *v, struct choices *c, struct err *err)
{
	uint64_t total = 0, fresh = 0;

	c->list = mem_alloc_array(v->packs.count + v->seen.count + 1, sizeof(*c->list));
	if (!c->list)
		return err_nomem(err, "verify");
	for (size_t i = 0; i < v->packs.count && v->whole; i++) {
		const struct pack_row *row = &v->packs.rows[i];
		struct choice one = { row->number, row->bytes, row, NULL };

		if (row->state != PACK_LIVE)
			continue;
		total += row->bytes;
		if (lately(v, row))
			fresh += row->bytes;
		else
			choose_add(c, &one);
	}
	for (size_t i = 0; i < v->seen.cap; i++) {
		const struct slot_bits *bits = &v->seen.packs[i];
		const struct pack_row *row = verify_pack_row(&v->packs, bits->pack);
		struct choice one = { bits->pack, row ? row->bytes : 0, row, bits };

		if (!bits->pack || (v->whole && row && row->state == PACK_LIVE))
			continue;
		total += one.bytes;
		if (row && lately(v, row))
			fresh += one.bytes;
		else
			choose_add(c, &one);
	}
	if (v->spec->sample > 0)
		sample(c, v->spec->sample);
	v->share = total ? (double)(fresh + c->bytes) / (double)total : 1;
	if (c->count)
		qsort(c->list, c->count, sizeof(*c->list), by_number);
	return 0;
}

int verify_data(struct verify *v, struct err *err)
{
	cleanup_free struct choice *list = NULL;
	cleanup_ptr(queue) q = NULL;
	struct choices c = { 0 };
	int last, r = choose(v, &c, err);

	list = c.list;
	if (r == 0)
		r = queue_new(v->repo->pool, MAX(pool_threads(v->repo->pool), 1u) * 2, &q, err);
	for (size_t i = 0; i < c.count && r == 0; i++) {
		struct pack_job *j;

		r = drain(v, q, false, c.bytes, err);
		if (r == 0)
			r = verify_stopped(v, err);
		if (r < 0)
			break;
		j = mem_alloc(sizeof(*j));
		if (!j) {
			r = err_nomem(err, "verify");
			break;
		}
		j->job.run = pack_run;
		j->v = v;
		j->number = list[i].number;
		j->row = list[i].row;
		j->bits = list[i].bits;
		queue_push(q, &j->job);
	}
	last = q ? drain(v, q, true, c.bytes, r < 0 ? &(struct err)ERR_INIT : err) : 0;
	return r < 0 ? r : last;
}
