// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * One disk to its target, or compared with it.
 *
 * How it works: extents of the disk (or the difference of two maps) are cut into blocks, which go through a ring:
 *
 *	made -> read from the target (delta, verify) -> worker: read from the repository, compare -> written, in order
 *
 * Workers decode and compare on a pool; the caller's thread owns the target and every request to it, but for reads of
 * targets that allow them from any thread.
 *
 * Invariants:
 *  1. Comparison is by content id, chunk by chunk: chunks that are equal are not even read from the repository.
 *  2. No byte of the target is written twice; blocks do not overlap.
 *  3. A damaged chunk is never written: its range stays as it is and is named.
 *  4. Whatever happens: no worker and no request touches a block after copy_run() has returned.
 */
#include "restore/internal.h"

#include <stdlib.h>

#include "base/banned.h"

#define RING 16u
#define READ_AHEAD 4u /* blocks being read from a target that is read by requests */

struct copy {
	const struct copy_spec *s;
	struct queue *queue; /* owned */
	struct block ring[RING];
	uint64_t made, pushed, popped; /* counts of blocks */
	uint32_t chunk; /* bytes */
	uint64_t size; /* bytes */
	uint64_t block_bytes;
};

/* --- in a worker --- */

static size_t chunk_len(const struct block *b, size_t i, uint32_t chunk)
{
	return MIN((size_t)chunk, b->n - i * chunk);
}

static int block_fail(struct block *b, int code)
{
	b->result = code;
	return code;
}

/* Reads one chunk of the point into b->data; damage is noted if it may be. */
static int read_chunk(struct block *b, size_t i, uint32_t chunk)
{
	struct copy *c = b->copy;
	uint64_t offset = b->start + i * chunk;
	int r = repo_disk_read(c->s->disk, b->data + i * chunk, chunk_len(b, i, chunk), offset,
			       &b->err);

	if (r == ERR_DAMAGED && c->s->keep_going) {
		b->damaged[i] = true;
		err_clear(&b->err);
		return 0;
	}
	if (r < 0)
		return block_fail(b, r);
	b->write[i] = true;
	return 0;
}

static void run_copy(struct block *b)
{
	struct copy *c = b->copy;
	size_t count = div_round_up(b->n, c->chunk), i;
	int r = repo_disk_read(c->s->disk, b->data, b->n, b->start, &b->err);

	if (r >= 0) {
		memset(b->write, true, count);
		return;
	}
	if (r != ERR_DAMAGED || !c->s->keep_going) {
		block_fail(b, r);
		return;
	}
	err_clear(&b->err);
	for (i = 0; i < count && !b->result; i++)
		read_chunk(b, i, c->chunk);
}

/* 1: the target's chunk is the point's, 0: it is not, or a code. */
static int chunk_same(struct block *b, size_t i, uint32_t chunk)
{
	struct copy *c = b->copy;
	size_t n = chunk_len(b, i, chunk);
	uint8_t *found = b->found + i * chunk;
	uint8_t want[ID_LEN], have[ID_LEN];
	bool zero = mem_is_zero(found, n);
	int r;

	if (b->hole)
		return zero;
	memset(found + n, 0, chunk - n); /* found has room for whole chunks */
	r = repo_disk_chunk_id(c->s->disk, (b->start + i * chunk) / chunk, want, &b->err);
	if (r < 0)
		return r;
	if (zero || mem_is_zero(want, ID_LEN))
		return zero && mem_is_zero(want, ID_LEN);
	r = repo_content_id(c->s->repo, found, chunk, have, &b->err);
	return r < 0 ? r : memcmp(want, have, ID_LEN) == 0;
}

static void run_compare(struct block *b)
{
	struct copy *c = b->copy;
	size_t count = div_round_up(b->n, c->chunk), i;

	for (i = 0; i < count && !b->result; i++) {
		int r = chunk_same(b, i, c->chunk);

		if (r == ERR_DAMAGED && c->s->keep_going) {
			b->damaged[i] = true;
			err_clear(&b->err);
		} else if (r < 0) {
			block_fail(b, r);
		} else if (r == 0 && b->mode == BLOCK_VERIFY) {
			err_set(&b->err, ERR_TARGET,
				"'%s' differs from the restore point at offset %llu",
				c->s->target->where, (unsigned long long)(b->start + i * c->chunk));
			block_fail(b, ERR_TARGET);
		} else if (r == 0 && b->hole) {
			b->write[i] = true;
		} else if (r == 0) {
			read_chunk(b, i, c->chunk);
		}
	}
}

static void block_run(struct pool_job *job, void *ctx)
{
	struct block *b = container_of(job, struct block, job);
	struct target *t = b->copy->s->target;
	int r = 0;

	(void)ctx;
	if (b->mode != BLOCK_COPY && t->ops->read)
		r = t->ops->read(t, b->found, b->n, b->start, &b->err);
	if (r < 0)
		block_fail(b, r);
	else if (b->mode == BLOCK_COPY)
		run_copy(b);
	else
		run_compare(b);
}

/* --- in the caller's thread --- */

static int note_damaged(struct copy *c, uint64_t start, uint64_t length, struct err *err)
{
	struct restore_result *result = c->s->result;
	struct restore_range *last = result->ndamaged ? &result->damaged[result->ndamaged - 1] :
							NULL;
	struct restore_range *grown;

	if (c->s->mode == BLOCK_VERIFY)
		return 0; /* noted when it was not written */
	if (last && strcmp(last->disk, c->s->name) == 0 && last->start + last->length == start) {
		last->length += length;
		return 0;
	}
	grown = mem_realloc_array(result->damaged, result->ndamaged + 1, sizeof(*grown));
	if (!grown)
		return err_nomem(err, "list of damaged ranges");
	result->damaged = grown;
	last = &grown[result->ndamaged++];
	*last = (struct restore_range){ .start = start, .length = length };
	str_copy(last->disk, sizeof(last->disk), c->s->name);
	return 0;
}

static int zero_now(struct copy *c, uint64_t start, uint64_t end, struct err *err)
{
	while (start < end) {
		uint64_t n = MIN(end - start, (uint64_t)ZERO_BYTES);
		int r = restore_stopped(c->s->stop, err);

		if (r == 0)
			r = c->s->target->ops->zero(c->s->target, start, n, err);
		if (r < 0)
			return r;
		c->s->result->zeroed += n;
		start += n;
	}
	return 0;
}

/* Writes or zeroes the marked runs of a block that came back. */
static int write_runs(struct copy *c, struct block *b, struct err *err)
{
	size_t count = div_round_up(b->n, c->chunk), from, to;
	int r = 0;

	for (from = 0; from < count && r == 0; from = to) {
		uint64_t start = b->start + from * c->chunk;
		size_t n;

		for (to = from + 1; to < count && b->write[to] == b->write[from] &&
				    b->damaged[to] == b->damaged[from];)
			to++;
		n = MIN(to * c->chunk, b->n) - from * c->chunk;
		if (b->damaged[from]) {
			r = note_damaged(c, start, n, err);
		} else if (b->write[from] && b->hole) {
			r = zero_now(c, start, start + n, err);
		} else if (b->write[from]) {
			r = c->s->target->ops->start_write(c->s->target, b, start, n, err);
			c->s->result->written += n;
		}
	}
	return r;
}

static void show_progress(const struct copy *c, uint64_t done)
{
	struct progress p = { .phase = c->s->mode == BLOCK_VERIFY ? "verify" : c->s->name,
			      .done = done,
			      .total = c->size,
			      .stored = c->s->result->written };

	if (c->s->progress)
		c->s->progress(c->s->progress_opaque, &p);
}

static int pop_one(struct copy *c, struct err *err)
{
	struct pool_job *job = queue_pop(c->queue);
	struct block *b = container_of(job, struct block, job);
	int r;

	c->popped++;
	if (b->result < 0) {
		if (err)
			*err = b->err;
		return b->result;
	}
	if (b->mode != BLOCK_COPY)
		c->s->result->compared += b->n;
	r = write_runs(c, b, err);
	if (r == 0)
		show_progress(c, b->start + b->n);
	return r;
}

static int push_one(struct copy *c, struct err *err)
{
	struct block *b = &c->ring[c->pushed % RING];
	struct target *t = c->s->target;
	int r = 0;

	if (b->mode != BLOCK_COPY && !t->ops->read)
		r = t->ops->wait(t, b, err);
	while (r == 0 && queue_full(c->queue))
		r = pop_one(c, err);
	if (r < 0)
		return r;
	queue_push(c->queue, &b->job);
	c->pushed++;
	return 0;
}

static int block_memory(struct copy *c, struct block *b, struct err *err)
{
	if (!b->data)
		b->data = mem_alloc(c->block_bytes);
	if (!b->found && c->s->mode != BLOCK_COPY)
		b->found = mem_alloc(c->block_bytes);
	return b->data && (b->found || c->s->mode == BLOCK_COPY) ?
		       0 :
		       err_nomem(err, "restoring a disk");
}

/* Sends [start, start + n) on its way. */
static int make_block(struct copy *c, uint64_t start, size_t n, bool hole, enum block_mode mode,
		      struct err *err)
{
	struct block *b = &c->ring[c->made % RING];
	struct target *t = c->s->target;
	int r = restore_stopped(c->s->stop, err);

	while (r == 0 && c->made - c->popped >= RING)
		r = c->pushed > c->popped ? pop_one(c, err) : push_one(c, err);
	if (r == 0 && t->ops->wait)
		r = t->ops->wait(t, b, err); /* its last write */
	if (r == 0)
		r = block_memory(c, b, err);
	if (r < 0)
		return r;
	b->job.run = block_run;
	b->copy = c;
	b->mode = mode;
	b->hole = hole;
	b->start = start;
	b->n = n;
	b->result = 0;
	memset(b->write, 0, sizeof(b->write));
	memset(b->damaged, 0, sizeof(b->damaged));
	c->made++;
	if (mode == BLOCK_COPY || t->ops->read)
		return push_one(c, err);
	r = t->ops->start_read(t, b, err);
	while (r == 0 && c->made - c->pushed > READ_AHEAD)
		r = push_one(c, err);
	return r;
}

static int make_blocks(struct copy *c, uint64_t start, uint64_t end, bool hole,
		       enum block_mode mode, struct err *err)
{
	int r = 0;

	while (r == 0 && start < end) {
		uint64_t stop = MIN(end, (start / c->block_bytes + 1) * c->block_bytes);

		r = make_block(c, start, (size_t)(stop - start), hole, mode, err);
		start = stop;
	}
	return r;
}

static int drain(struct copy *c, struct err *err)
{
	struct target *t = c->s->target;
	unsigned i;
	int r = 0;

	while (r == 0 && c->pushed < c->made)
		r = push_one(c, err);
	while (r == 0 && c->popped < c->pushed)
		r = pop_one(c, err);
	for (i = 0; r == 0 && t->ops->wait && i < RING; i++)
		r = t->ops->wait(t, &c->ring[i], err);
	return r;
}

/* --- ranges --- */

/* The next part of [start, end) as the target sees it: cut at chunks; *zero: known to read as zeroes. */
static int target_part(struct copy *c, uint64_t start, uint64_t end, uint64_t *stop, bool *zero,
		       struct err *err)
{
	struct target *t = c->s->target;
	int r;

	*stop = end;
	*zero = t->known_zero && c->s->mode != BLOCK_VERIFY;
	if (*zero || !t->ops->extent)
		return 0;
	r = t->ops->extent(t, start, stop, err);
	if (r < 0)
		return r;
	*zero = r == 1;
	*stop = MIN(*stop, end);
	if (*stop < end && *stop % c->chunk) { /* a chunk of both kinds counts as data */
		uint64_t whole = *stop - *stop % c->chunk;

		if (*zero && whole > start) {
			*stop = whole;
		} else {
			*zero = false;
			*stop = MIN(whole + c->chunk, end);
		}
	}
	return 0;
}

/* Zeroes in the point: what already reads as zeroes stays. */
static int hole_range(struct copy *c, uint64_t start, uint64_t end, enum block_mode mode,
		      struct err *err)
{
	while (start < end) {
		uint64_t stop;
		bool zero;
		int r = target_part(c, start, end, &stop, &zero, err);

		if (r == 0 && !zero && mode == BLOCK_COPY)
			r = zero_now(c, start, stop, err);
		else if (r == 0 && !zero)
			r = make_blocks(c, start, stop, true, mode, err);
		if (r < 0)
			return r;
		start = stop;
		show_progress(c, start);
	}
	return 0;
}

static int on_extent(void *opaque, const struct extent *e, struct err *err)
{
	struct copy *c = opaque;
	uint64_t end = e->start + e->length;

	if (e->kind == EXTENT_HOLE)
		return hole_range(c, e->start, end, c->s->mode, err);
	if (e->kind == EXTENT_DATA)
		return make_blocks(c, e->start, end, false, c->s->mode, err);
	if (c->s->keep_going)
		return note_damaged(c, e->start, e->length, err);
	err_set(err, ERR_DAMAGED,
		"disk '%s': %llu bytes at offset %llu could not be read when the point was made",
		c->s->name, (unsigned long long)e->length, (unsigned long long)e->start);
	return ERR_DAMAGED;
}

/* The target holds `from`: what differs is written without looking. */
static int on_difference(void *opaque, const struct diff_extent *e, struct err *err)
{
	struct copy *c = opaque;
	uint64_t end = MIN(e->start + e->length, c->size);

	if (e->start >= end)
		return 0;
	if (!e->data)
		return hole_range(c, e->start, end, BLOCK_COPY, err);
	return make_blocks(c, e->start, end, false, BLOCK_COPY, err);
}

/* Invariant 4: queue, then requests, then memory. */
static void copy_release(struct copy *c, bool failed)
{
	struct target *t = c->s->target;
	unsigned i;

	if (c->queue)
		queue_free(c->queue);
	if (failed && t->ops->cancel)
		t->ops->cancel(t);
	for (i = 0; i < RING; i++) {
		free(c->ring[i].data);
		free(c->ring[i].found);
	}
	free(c);
}

static int copy_disk(struct copy *c, struct err *err)
{
	const struct copy_spec *s = c->s;
	int r;

	if (s->from && s->mode == BLOCK_DELTA)
		r = repo_disk_diff(s->from, s->disk, on_difference, c, err);
	else
		r = repo_disk_extents(s->disk, 0, c->size, on_extent, c, err);
	return r < 0 ? r : drain(c, err);
}

int copy_run(const struct copy_spec *spec, struct err *err)
{
	struct copy *c = mem_alloc(sizeof(*c));
	int r;

	if (!c)
		return err_nomem(err, "restoring a disk");
	c->s = spec;
	c->chunk = repo_disk_chunk_size(spec->disk);
	c->size = repo_disk_size(spec->disk);
	c->block_bytes = MAX(BLOCK_BYTES, (uint64_t)c->chunk);
	r = queue_new(spec->pool, pool_threads(spec->pool) * 2 + 2, &c->queue, err);
	if (r == 0)
		r = copy_disk(c, err);
	copy_release(c, r < 0);
	return r;
}
