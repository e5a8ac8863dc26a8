// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The pass: carries one disk from its source into the session, in order.
 *
 * How it works: a ring of items (read, hole, unchanged) is planned ahead of what the session has; items that read hold
 * one of the session's buffers and have requests under way.  The oldest item is waited for and handed on, so that the
 * session sees ascending ranges without gap while a network source works on the next buffers.
 *
 *	done ............... pos ............... size
 *	     items (ring)        not planned yet
 *
 * Invariants:
 *  1. Items begin and end on units (the disk's end aside); buffers do not cross a multiple of SESSION_BUFFER.
 *  2. What the source calls a hole is never read: whole units become holes, parts of a unit are zeroed in the buffer.
 *  3. A place that cannot be read is never zeroes: it ends the pass, or (keep_going) its chunks are unreadable, and
 *     only those in which a granule failed when it was read alone.
 *  4. At most PASS_DEPTH buffers are held, so that the session can always give one more.
 *  5. Whatever pass_run() returns but PASS_DONE: no buffer is held, no request is under way, pos == done.
 */
#include "ingest/internal.h"

#include <math.h>
#include <stdlib.h>

#include "base/log.h"

#include "base/banned.h"

#define PASS_ITEMS 16u
#define PLAN_WAIT 100 /* no enum pass_end */

enum item_kind { ITEM_READ, ITEM_HOLE, ITEM_UNCHANGED };
struct pass_item {
	enum item_kind kind;
	bool sample; /* "unchanged": read to see whether that is true */
	uint64_t start, end; /* bytes */
	uint8_t *buffer; /* the session's; NULL: none */
	struct source_piece *pieces; /* owned by the slot */
	unsigned npieces;
};

/* --- begin and end --- */

static unsigned pieces_most(const struct pass *p)
{
	return SESSION_BUFFER / p->source->granule + SESSION_BUFFER / p->source->max_request + 2;
}

int pass_begin(struct pass *p, struct err *err)
{
	unsigned i;

	p->items = mem_alloc_array(PASS_ITEMS, sizeof(*p->items));
	if (!p->items)
		return err_nomem(err, "reading a disk");
	for (i = 0; i < PASS_ITEMS; i++) {
		p->items[i].pieces = mem_alloc_array(pieces_most(p), sizeof(struct source_piece));
		if (!p->items[i].pieces)
			return err_nomem(err, "reading a disk");
	}
	pass_rewind(p);
	return 0;
}

static double random_unit(void)
{
	uint64_t bits;

	random_bytes(&bits, sizeof(bits));
	return ((double)(bits >> 11) + 1) / 9007199254740992.0; /* above 0, up to 1 */
}

/* The next unit from `from` on to be re-read: gaps of a coin that falls with sample_percent are geometric. */
static void draw_sample(struct pass *p, uint64_t from)
{
	double share = p->sample_percent / 100, skip;

	p->next_sample = UINT64_MAX;
	if (!(share > 0))
		return;
	skip = share < 1 ? floor(log(random_unit()) / log1p(-share)) : 0;
	if (skip < (double)(UINT64_MAX / 4 / p->unit))
		p->next_sample = from + (uint64_t)skip * p->unit;
}

void pass_rewind(struct pass *p)
{
	p->pos = p->done = 0;
	p->unreadable_bytes = 0;
	p->nbad = 0;
	p->samples_seen = 0;
	draw_sample(p, 0);
}

static struct pass_item *item_at(struct pass *p, unsigned i)
{
	return &p->items[(p->head + i) % PASS_ITEMS];
}

/* Invariant 5.  wait: let requests finish, for the source is good and goes on. */
static void pass_drop(struct pass *p, bool wait)
{
	bool cancel = !wait;
	unsigned i, k;

	for (i = 0; i < p->count && !cancel; i++)
		for (k = 0; k < item_at(p, i)->npieces && !cancel; k++)
			if (item_at(p, i)->pieces[k].state == PIECE_UNDER_WAY) {
				struct err ignored = ERR_INIT;

				p->source->ops->wait(p->source, &item_at(p, i)->pieces[k],
						     &ignored);
				cancel = item_at(p, i)->pieces[k].state == PIECE_UNDER_WAY;
			}
	if (cancel && p->source->ops->cancel)
		p->source->ops->cancel(p->source);
	for (i = 0; i < p->count; i++)
		if (item_at(p, i)->buffer)
			session_buffer_put(p->session, item_at(p, i)->buffer);
	p->count = p->buffers = 0;
	p->pos = p->done;
}

void pass_release(struct pass *p)
{
	unsigned i;

	for (i = 0; p->items && i < PASS_ITEMS; i++)
		free(p->items[i].pieces);
	free(p->items);
	free(p->bad);
	p->items = NULL;
	p->bad = NULL;
}

/* --- planning --- */

static struct pass_item *plan_item(struct pass *p, enum item_kind kind, uint64_t end)
{
	struct pass_item *item = item_at(p, p->count++);

	item->kind = kind;
	item->sample = false;
	item->start = p->pos;
	item->end = end;
	item->buffer = NULL;
	item->npieces = 0;
	p->pos = end;
	return item;
}

static uint64_t unit_floor(const struct pass *p, uint64_t offset)
{
	return offset >= p->size ? p->size : offset & ~(uint64_t)(p->unit - 1);
}

/* Where a buffer that begins at pos ends at the latest (invariant 1). */
static uint64_t buffer_end(const struct pass *p, uint64_t limit)
{
	return MIN(limit, (p->pos & ~(uint64_t)(SESSION_BUFFER - 1)) + SESSION_BUFFER);
}

static void add_pieces(struct pass *p, struct pass_item *item, uint64_t from, uint64_t to)
{
	while (from < to) {
		size_t n = (size_t)MIN(to - from, (uint64_t)p->source->max_request);

		item->pieces[item->npieces++] =
			(struct source_piece){ .offset = from,
					       .n = n,
					       .p = item->buffer + (from - item->start),
					       .state = PIECE_IDLE };
		from += n;
	}
}

/* Lays out item->buffer for [item->start, *end); ends earlier where whole units of a hole begin. */
static int lay_out(struct pass *p, struct pass_item *item, uint64_t *end, struct err *err)
{
	uint64_t at = item->start;

	while (at < *end) {
		struct source_extent e;
		int r = source_extent(p->source, at, &e, err);

		if (r < 0)
			return r;
		if (e.hole && at > item->start && !item->sample) {
			uint64_t cut = round_up_u64(at, p->unit);

			if (cut < *end && unit_floor(p, e.end) > cut)
				*end = cut;
		}
		e.end = MIN(e.end, *end);
		if (e.hole)
			memset(item->buffer + (at - item->start), 0, (size_t)(e.end - at));
		else
			add_pieces(p, item, at, e.end);
		at = e.end;
	}
	return 0;
}

/* A read of [pos, end), or less; the caller has seen that a buffer may be taken. */
static int plan_buffer(struct pass *p, uint64_t end, bool sample, struct err *err)
{
	struct pass_item *item = item_at(p, p->count);
	unsigned i;
	int r;

	item->kind = ITEM_READ;
	item->sample = sample;
	item->start = p->pos;
	item->npieces = 0;
	r = session_buffer(p->session, &item->buffer, err);
	if (r < 0)
		return r;
	r = lay_out(p, item, &end, err);
	if (r < 0) {
		session_buffer_put(p->session, item->buffer);
		return r;
	}
	item->end = p->pos = end;
	p->count++;
	p->buffers++;
	for (i = 0; i < item->npieces && p->source->ops->start; i++)
		p->source->ops->start(p->source, &item->pieces[i]);
	return 0;
}

static bool buffers_left(const struct pass *p)
{
	return p->buffers < MIN(p->source->depth, (unsigned)PASS_DEPTH);
}

/* Returns PLAN_WAIT if it has to wait for a buffer. */
static int plan_data(struct pass *p, uint64_t limit, struct err *err)
{
	struct source_extent e;
	int r = source_extent(p->source, p->pos, &e, err);

	if (r < 0)
		return r;
	if (e.hole && unit_floor(p, MIN(e.end, limit)) > p->pos) {
		plan_item(p, ITEM_HOLE, unit_floor(p, MIN(e.end, limit)));
		return 0;
	}
	return buffers_left(p) ? plan_buffer(p, buffer_end(p, limit), false, err) : PLAN_WAIT;
}

/* Samples below end that the source calls a hole: the parent must have zeroes there.  No buffer and no item for them, for
 * most of a big disk may be such.  Returns 0 with next_sample at the next one to be read, PASS_MAP_WRONG, or a code. */
static int check_hole_samples(struct pass *p, uint64_t end, struct err *err)
{
	while (p->next_sample < end) {
		struct source_extent e;
		uint64_t at = p->next_sample, stop = MIN(at + p->unit, end);
		int r = source_extent(p->source, at, &e, err);

		if (r < 0)
			return r;
		if (!e.hole || e.end < stop)
			return 0;
		for (; at + p->chunk <= stop; at += p->chunk) {
			uint8_t id[ID_LEN];

			r = repo_disk_chunk_id(p->parent, at / p->chunk, id, err);
			if (r == ERR_DAMAGED)
				return 0; /* read and written: that heals it */
			if (r < 0)
				return r;
			if (!mem_is_zero(id, ID_LEN)) {
				p->wrong_offset = at;
				return PASS_MAP_WRONG;
			}
		}
		draw_sample(p, stop);
	}
	return 0;
}

static int plan_unchanged(struct pass *p, uint64_t limit, struct err *err)
{
	uint64_t end;
	int r;

	if (p->next_sample < p->pos)
		draw_sample(p, p->pos);
	r = check_hole_samples(p, limit, err);
	if (r != 0)
		return r;
	if (p->next_sample > p->pos) {
		plan_item(p, ITEM_UNCHANGED, MIN(limit, p->next_sample));
		return 0;
	}
	if (!buffers_left(p))
		return PLAN_WAIT;
	for (end = p->pos; end == p->next_sample && end < buffer_end(p, limit);) {
		end = MIN(end + p->unit, limit);
		draw_sample(p, end);
	}
	return plan_buffer(p, end, true, err);
}

/* Plans one item more; returns 0, PLAN_WAIT if that has to wait for a buffer, PASS_MAP_WRONG, or a code. */
static int plan_next(struct pass *p, struct err *err)
{
	enum change change = CHANGE_DATA;
	uint64_t end = p->size;

	if (p->map)
		change = change_map_get(p->map, p->pos, &end);
	if (change == CHANGE_NONE)
		return plan_unchanged(p, end, err);
	if (change == CHANGE_DATA)
		return plan_data(p, end, err);
	plan_item(p, ITEM_HOLE, end);
	return 0;
}

/* --- what cannot be read --- */

static int note_bad(struct pass *p, uint64_t start, uint64_t end, struct err *err)
{
	struct pass_range *grown;

	p->unreadable_bytes += end - start;
	if (p->nbad && p->bad[p->nbad - 1].end == start) {
		p->bad[p->nbad - 1].end = end;
		return 0;
	}
	grown = mem_realloc_array(p->bad, p->nbad + 1, sizeof(*grown));
	if (!grown)
		return err_nomem(err, "list of unreadable ranges");
	p->bad = grown;
	grown[p->nbad++] = (struct pass_range){ .start = start, .end = end };
	return 0;
}

/* Reads the failed pieces again, a granule at a time; marks the chunks in which one fails. */
static int reread(struct pass *p, const struct pass_item *item, uint8_t *data, bool *bad,
		  struct err *err)
{
	uint32_t granule = p->source->granule;
	unsigned i;
	size_t at;

	for (i = 0; i < item->npieces; i++) {
		const struct source_piece *piece = &item->pieces[i];

		for (at = 0; piece->state == PIECE_FAILED && at < piece->n; at += granule) {
			uint64_t offset = piece->offset + at, in = offset - item->start, k;
			size_t n = MIN(piece->n - at, (size_t)granule);
			struct err why = ERR_INIT;
			int r = source_read(p->source, data + in, n, offset, &why);

			if (r == 0)
				continue;
			if (r != ERR_SOURCE || p->source->broken) {
				*err = why;
				return r;
			}
			if (!p->bad_reason[0])
				str_copy(p->bad_reason, sizeof(p->bad_reason), why.text);
			for (k = in / p->chunk; k <= (in + n - 1) / p->chunk; k++)
				bad[k] = true;
		}
	}
	return 0;
}

static int emit_good(struct pass *p, const uint8_t *data, uint64_t offset, size_t n,
		     struct err *err)
{
	uint8_t *buffer;
	int r = session_buffer(p->session, &buffer, err);

	if (r < 0)
		return r;
	memcpy(buffer, data, n);
	return session_disk_write(p->session, buffer, offset, n, err);
}

/* Invariant 3: hands an item on whose reads partly failed; its buffer was given back, data is its content. */
static int salvage(struct pass *p, const struct pass_item *item, uint8_t *data, struct err *err)
{
	bool bad[SESSION_BUFFER / CHUNK_SIZE_MIN] = { false };
	uint64_t n = item->end - item->start, from, to;
	int r = reread(p, item, data, bad, err);

	for (from = 0; r == 0 && from < n; from = to) {
		bool is_bad = bad[from / p->chunk];

		for (to = from; to < n && bad[to / p->chunk] == is_bad;)
			to = MIN(to + p->chunk, n);
		if (!is_bad) {
			r = emit_good(p, data + from, item->start + from, (size_t)(to - from), err);
			continue;
		}
		r = session_disk_unreadable(p->session, item->start + from, to - from, err);
		if (r == 0)
			r = note_bad(p, item->start + from, item->start + to, err);
	}
	return r;
}

/* --- samples --- */

/* Content id as the map keeps it: zeroes for zeroes. */
static int content_id(struct pass *p, const uint8_t *data, uint8_t id[ID_LEN], struct err *err)
{
	memset(id, 0, ID_LEN);
	return mem_is_zero(data, p->chunk) ? 0 : repo_content_id(p->repo, data, p->chunk, id, err);
}

/* Whether "unchanged" is true: 1 or 0, or a code. */
static int sample_holds(struct pass *p, const struct pass_item *item, struct err *err)
{
	uint64_t at;

	for (at = item->start; at + p->chunk <= item->end; at += p->chunk) {
		uint8_t here[ID_LEN], there[ID_LEN];
		struct err why = ERR_INIT;
		int r = content_id(p, item->buffer + (at - item->start), here, err);

		if (r < 0)
			return r;
		r = repo_disk_chunk_id(p->parent, at / p->chunk, there, &why);
		if (r == ERR_DAMAGED)
			continue; /* nothing to compare with; written below, which heals it */
		if (r < 0) {
			*err = why;
			return r;
		}
		if (memcmp(here, there, ID_LEN) != 0) {
			p->wrong_offset = at;
			return 0;
		}
	}
	return 1;
}

/* Reservoir sampling (Vitter's algorithm R): any chunk read so far is in the sample with the same chance. */
static int keep_samples(struct pass *p, const struct pass_item *item, struct err *err)
{
	uint64_t at, slot;
	int r;

	for (at = item->start; at + p->chunk <= item->end; at += p->chunk) {
		slot = p->samples_seen++;
		if (slot >= SAMPLE_CHUNKS)
			slot = (uint64_t)(random_unit() * (double)p->samples_seen);
		if (slot >= SAMPLE_CHUNKS)
			continue;
		r = content_id(p, item->buffer + (at - item->start), p->samples[slot].id, err);
		if (r < 0)
			return r;
		p->samples[slot].offset = at;
	}
	return 0;
}

int pass_samples_same(struct pass *p, struct err *err)
{
	cleanup_free uint8_t *data = mem_alloc(p->unit);
	uint64_t i;

	if (!data)
		return err_nomem(err, "comparing a source");
	for (i = 0; i < MIN(p->samples_seen, (uint64_t)SAMPLE_CHUNKS); i++) {
		const struct pass_sample *sample = &p->samples[i];
		uint64_t offset = sample->offset & ~(uint64_t)(p->unit - 1);
		uint8_t id[ID_LEN];
		int r = source_read(p->source, data,
				    (size_t)MIN((uint64_t)p->unit, p->size - offset), offset, err);

		if (r == 0)
			r = content_id(p, data + (sample->offset - offset), id, err);
		if (r < 0)
			return r;
		if (memcmp(id, sample->id, ID_LEN) != 0)
			return 0;
	}
	return 1;
}

/* --- handing on --- */

/* Waits for all pieces; returns 1 if some failed and that is bearable. */
static int wait_pieces(struct pass *p, struct pass_item *item, struct err *err)
{
	bool failed = false;
	unsigned i;

	for (i = 0; i < item->npieces; i++) {
		struct err why = ERR_INIT;
		int r = p->source->ops->wait(p->source, &item->pieces[i], &why);

		if (r == 0) {
			p->read_bytes += item->pieces[i].n;
			continue;
		}
		if (r != ERR_SOURCE || p->source->broken || !p->keep_going) {
			*err = why;
			return r;
		}
		failed = true;
	}
	return failed;
}

static uint8_t *take_buffer(struct pass *p, struct pass_item *item)
{
	p->buffers--;
	return steal_ptr(item->buffer);
}

static int finish_failed(struct pass *p, struct pass_item *item, struct err *err)
{
	cleanup_free uint8_t *data = NULL;

	if (item->sample) {
		/* The map says that the parent has it: no reason to lose it. */
		log_warning(
			"'%s': %llu bytes at offset %llu could not be read to check the change map",
			p->source->where, (unsigned long long)(item->end - item->start),
			(unsigned long long)item->start);
		session_buffer_put(p->session, take_buffer(p, item));
		return session_disk_unchanged(p->session, item->start, item->end - item->start,
					      err);
	}
	data = mem_dup(item->buffer, (size_t)(item->end - item->start));
	if (!data)
		return err_nomem(err, "reading a disk");
	session_buffer_put(p->session, take_buffer(p, item));
	return salvage(p, item, data, err);
}

/* Returns 0, PASS_MAP_WRONG, or a code. */
static int finish_read(struct pass *p, struct pass_item *item, struct err *err)
{
	int r = wait_pieces(p, item, err);

	if (r < 0)
		return r;
	if (r > 0)
		return finish_failed(p, item, err);
	if (item->sample) {
		r = sample_holds(p, item, err);
		if (r <= 0)
			return r < 0 ? r : PASS_MAP_WRONG;
	}
	if (p->keep_samples) {
		r = keep_samples(p, item, err);
		if (r < 0)
			return r;
	}
	/* A sample that holds is written too: the session finds it equal to the parent's, or heals a damaged one. */
	return session_disk_write(p->session, take_buffer(p, item), item->start,
				  (size_t)(item->end - item->start), err);
}

static int finish_oldest(struct pass *p, struct err *err)
{
	struct pass_item *item = item_at(p, 0);
	uint64_t n = item->end - item->start;
	int r;

	if (item->kind == ITEM_READ)
		r = finish_read(p, item, err);
	else if (item->kind == ITEM_HOLE)
		r = session_disk_hole(p->session, item->start, n, err);
	else
		r = session_disk_unchanged(p->session, item->start, n, err);
	if (r != 0)
		return r;
	p->done = item->end;
	p->head = (p->head + 1) % PASS_ITEMS;
	p->count--;
	return 0;
}

static void show_progress(const struct pass *p)
{
	struct session_result so_far = { .stored = 0 };
	struct progress progress = { .phase = p->disk, .done = p->done, .total = p->size };

	if (!p->progress)
		return;
	repo_session_counters(p->session, &so_far);
	progress.stored = so_far.stored;
	p->progress(p->progress_opaque, &progress);
}

/* Plans ahead and hands the oldest item on. */
static int pass_step(struct pass *p, struct err *err)
{
	int r = ingest_stopped(p->source->stop, err);

	while (r == 0 && p->pos < p->size && p->count < PASS_ITEMS)
		r = plan_next(p, err);
	if (r != 0 && r != PLAN_WAIT)
		return r;
	r = finish_oldest(p, err);
	if (r == 0)
		show_progress(p);
	return r;
}

int pass_run(struct pass *p, struct err *err)
{
	int r = 0;

	while (r == 0 && p->done < p->size)
		r = pass_step(p, err);
	if (r == 0)
		return PASS_DONE;
	pass_drop(p, r == PASS_MAP_WRONG);
	return r == ERR_SOURCE && p->source->broken ? PASS_BROKEN : r;
}

int pass_stream(struct pass *p, struct err *err)
{
	ssize_t got;

	p->pos = p->done = 0;
	do {
		uint8_t *buffer;
		int r = session_buffer(p->session, &buffer, err);

		if (r < 0)
			return r;
		got = source_stream_next(p->source, buffer, SESSION_BUFFER, err);
		if (got <= 0) {
			session_buffer_put(p->session, buffer);
			if (got < 0)
				return (int)got;
			break;
		}
		r = session_disk_write(p->session, buffer, p->done, (size_t)got, err);
		if (r < 0)
			return r;
		p->pos = p->done += (uint64_t)got;
		p->read_bytes += (uint64_t)got;
		show_progress(p);
	} while ((size_t)got == SESSION_BUFFER);
	if (!p->done)
		return err_set(err, ERR_SOURCE, "standard input ended before its first byte");
	p->size = p->done;
	return 0;
}
