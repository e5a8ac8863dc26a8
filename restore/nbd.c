// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Target: an NBD server, by libnbd.
 *
 * How it works: one connection, many requests in flight: the blocks of the copy are read and written by requests of at
 * most 256 KiB, zeroes by write-zeroes where the server can.  Callbacks count down what a block waits for.
 *
 * Invariants:
 *  1. Memory of a block belongs to libnbd while block.pending is not 0, or until cancel has closed the handle.
 *  2. The first failed write or zero is remembered and ends the restore; nothing is flushed as if all were well.
 *  3. What base:allocation calls zero reads as zero and is not zeroed again.
 *  4. Nothing is written before size, read-only flag and block sizes were looked at.
 *
 * Source: NBD protocol, doc/proto.md; libnbd(3) 1.14.
 */
#include "restore/internal.h"

#include <stdlib.h>

#include "base/fault.h"
#include "peer/peer.h"

#include "base/banned.h"

#define NBD_REQUEST (256u << 10)
#define NBD_IN_FLIGHT 64 /* requests; nbdcopy's default */
#define NBD_STATUS_BYTES GiB

struct target_nbd {
	struct target base;
	struct nbd_handle *h; /* NULL: closed */
	uint32_t request; /* bytes, most of one read or write */
	bool can_zero, has_status;
	int failed; /* errno of the first failed request */
	const char *failed_what;
	uint64_t failed_at;
	/* The first extent of the last answer: */
	uint64_t extent_start, extent_end;
	bool extent_zero, status_done;
};
/* One request; freed by its callback. */
struct request {
	struct target_nbd *n;
	struct block *b; /* NULL: zeroes */
	const char *what;
	uint64_t offset;
};

static struct target_nbd *nbd_of(struct target *t)
{
	return container_of(t, struct target_nbd, base);
}

/* A stop, an earlier failure, or a lost connection as an error. */
static int nbd_state(struct target_nbd *n, struct err *err)
{
	int r = restore_stopped(n->base.stop, err);

	if (r < 0)
		return r;
	if (n->failed) {
		r = err_set_errno(err, ERR_TARGET, n->failed, "cannot %s '%s' at offset %llu",
				  n->failed_what, n->base.where, (unsigned long long)n->failed_at);
		err_object(err, "%s", n->base.where);
		return r;
	}
	if (peer_lost(n->h)) {
		err_set(err, ERR_TARGET, "the connection to '%s' broke: %s", n->base.where,
			peer_reason());
		return err_object(err, "%s", n->base.where);
	}
	return 0;
}

/* Waits a moment for something to happen; only while requests are in flight. */
static int nbd_turn(struct target_nbd *n, struct err *err)
{
	int r = nbd_state(n, err);

	if (r < 0)
		return r;
	nbd_poll(n->h, PEER_POLL_MS); /* a failure shows in the state */
	return nbd_state(n, err);
}

static int request_done(void *opaque, int *error)
{
	struct request *q = opaque;

	if (*error && !q->n->failed) {
		q->n->failed = *error;
		q->n->failed_what = q->what;
		q->n->failed_at = q->offset;
	}
	if (q->b)
		q->b->pending--;
	return 1;
}

/* Makes a request once there is room for it; NULL with err. */
static struct request *request_new(struct target_nbd *n, struct block *b, const char *what,
				   uint64_t offset, struct err *err)
{
	struct request *q;

	if (nbd_state(n, err) < 0)
		return NULL;
	while (nbd_aio_in_flight(n->h) >= NBD_IN_FLIGHT)
		if (nbd_turn(n, err) < 0)
			return NULL;
	q = mem_alloc(sizeof(*q));
	if (!q) {
		err_nomem(err, "a request");
		return NULL;
	}
	*q = (struct request){ .n = n, .b = b, .what = what, .offset = offset };
	return q;
}

static int request_failed(struct target_nbd *n, const char *what, uint64_t offset, struct err *err)
{
	err_set(err, ERR_TARGET, "cannot %s '%s' at offset %llu: %s", what, n->base.where,
		(unsigned long long)offset, peer_reason());
	return err_object(err, "%s", n->base.where);
}

/* err was filled by request_new. */
static int no_request(const struct err *err)
{
	return err && err->code ? err->code : ERR_TARGET;
}

static int nbd_start_read(struct target *t, struct block *b, struct err *err)
{
	struct target_nbd *n = nbd_of(t);
	size_t at, piece;

	for (at = 0; at < b->n; at += piece) {
		struct request *q = request_new(n, b, "read", b->start + at, err);
		nbd_completion_callback done = { .callback = request_done,
						 .user_data = q,
						 .free = free };

		if (!q)
			return no_request(err);
		piece = MIN(b->n - at, (size_t)n->request);
		b->pending++;
		if (nbd_aio_pread(n->h, b->found + at, piece, b->start + at, done, 0) < 0) {
			b->pending--;
			return request_failed(n, "read", b->start + at, err);
		}
	}
	return 0;
}

static int nbd_start_write(struct target *t, struct block *b, uint64_t offset, size_t len,
			   struct err *err)
{
	struct target_nbd *n = nbd_of(t);
	int fault = fault_hit("restore.target.write");
	size_t at, piece;

	if (fault)
		return err_set_errno(err, ERR_TARGET, fault > 0 ? fault : ENOSPC,
				     "cannot write '%s' at offset %llu", t->where,
				     (unsigned long long)offset);
	for (at = 0; at < len; at += piece) {
		struct request *q = request_new(n, b, "write", offset + at, err);
		nbd_completion_callback done = { .callback = request_done,
						 .user_data = q,
						 .free = free };

		if (!q)
			return no_request(err);
		piece = MIN(len - at, (size_t)n->request);
		b->pending++;
		if (nbd_aio_pwrite(n->h, b->data + (offset - b->start) + at, piece, offset + at,
				   done, 0) < 0) {
			b->pending--;
			return request_failed(n, "write", offset + at, err);
		}
	}
	return 0;
}

static int nbd_wait(struct target *t, struct block *b, struct err *err)
{
	while (b->pending) {
		int r = nbd_turn(nbd_of(t), err);

		if (r < 0)
			return r;
	}
	return 0;
}

static int nbd_target_zero(struct target *t, uint64_t offset, uint64_t len, struct err *err)
{
	static const uint8_t zeroes[NBD_REQUEST];
	struct target_nbd *n = nbd_of(t);
	uint64_t at, piece;

	for (at = 0; at < len; at += piece) {
		struct request *q = request_new(n, NULL, "zero", offset + at, err);
		nbd_completion_callback done = { .callback = request_done,
						 .user_data = q,
						 .free = free };
		int64_t cookie;

		if (!q)
			return no_request(err);
		piece = n->can_zero ? len - at : MIN(len - at, (uint64_t)n->request);
		if (n->can_zero)
			cookie = nbd_aio_zero(n->h, piece, offset + at, done, 0);
		else
			cookie = nbd_aio_pwrite(n->h, zeroes, piece, offset + at, done, 0);
		if (cookie < 0)
			return request_failed(n, "zero", offset + at, err);
	}
	return 0;
}

/* --- extents --- */

static int status_entries(void *opaque, const char *context, uint64_t offset, uint32_t *entries,
			  size_t count, int *error)
{
	struct target_nbd *n = opaque;
	size_t i;

	(void)error;
	if (strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0 || offset != n->extent_start)
		return 0;
	for (i = 0; i + 1 < count; i += 2) {
		bool zero = entries[i + 1] & LIBNBD_STATE_ZERO;

		if (i && zero != n->extent_zero)
			break;
		n->extent_zero = zero;
		n->extent_end = MAX(n->extent_end, offset) + entries[i];
	}
	return 0;
}

static int status_done(void *opaque, int *error)
{
	struct target_nbd *n = opaque;

	if (*error)
		n->has_status = false; /* it said that it could: treat everything as data */
	n->status_done = true;
	return 1;
}

static int nbd_extent(struct target *t, uint64_t offset, uint64_t *end, struct err *err)
{
	struct target_nbd *n = nbd_of(t);
	nbd_extent_callback each = { .callback = status_entries, .user_data = n };
	nbd_completion_callback done = { .callback = status_done, .user_data = n };
	uint64_t len = MIN(t->size - offset, (uint64_t)NBD_STATUS_BYTES);
	int r;

	*end = t->size;
	if (!n->has_status)
		return 0;
	if (offset >= n->extent_start && offset < n->extent_end) {
		*end = MIN(n->extent_end, t->size);
		return n->extent_zero;
	}
	n->extent_start = offset;
	n->extent_end = 0;
	n->status_done = false;
	if (nbd_aio_block_status(n->h, len, offset, each, done, 0) < 0)
		return request_failed(n, "ask for the extents of", offset, err);
	while (!n->status_done) {
		r = nbd_turn(n, err);
		if (r < 0)
			return r;
	}
	if (n->extent_end <= offset)
		n->has_status = false;
	if (!n->has_status)
		return 0;
	*end = MIN(n->extent_end, t->size);
	return n->extent_zero;
}

/* --- the end --- */

static int nbd_target_flush(struct target *t, struct err *err)
{
	struct target_nbd *n = nbd_of(t);
	struct request *q;
	nbd_completion_callback done = { .callback = request_done, .free = free };
	int r = 0;

	while (r == 0 && n->h && nbd_aio_in_flight(n->h) > 0)
		r = nbd_turn(n, err);
	if (r < 0)
		return r;
	n->extent_start = n->extent_end = 0; /* what was written changed it */
	q = request_new(n, NULL, "flush", 0, err);
	if (!q)
		return no_request(err);
	if (nbd_can_flush(n->h) != 1) {
		free(q);
		return 0;
	}
	done.user_data = q;
	if (nbd_aio_flush(n->h, done, 0) < 0)
		return request_failed(n, "flush", 0, err);
	while (r == 0 && nbd_aio_in_flight(n->h) > 0)
		r = nbd_turn(n, err);
	return r < 0 ? r : nbd_state(n, err);
}

static void nbd_cancel(struct target *t)
{
	struct target_nbd *n = nbd_of(t);

	peer_leave(n->h);
	n->h = NULL;
}

static void nbd_target_close(struct target *t)
{
	nbd_cancel(t);
	free(t->where);
	free(nbd_of(t));
}

static const struct target_ops nbd_ops = {
	.extent = nbd_extent,
	.start_read = nbd_start_read,
	.start_write = nbd_start_write,
	.wait = nbd_wait,
	.zero = nbd_target_zero,
	.flush = nbd_target_flush,
	.cancel = nbd_cancel,
	.close = nbd_target_close,
};

/* --- connecting --- */

static int nbd_refuse(struct target_nbd *n, const char *why, struct err *err)
{
	err_set(err, ERR_TARGET, "target '%s': %s", n->base.where, why);
	return err_object(err, "%s", n->base.where);
}

static int nbd_dial(struct target_nbd *n, struct err *err)
{
	char why[ERR_TEXT_MAX];
	int r = peer_dial(n->base.where, n->base.stop, &n->h, err);

	if (r == 0 || r == ERR_NOMEM)
		return r;
	r = restore_stopped(n->base.stop, err);
	if (r < 0)
		return r;
	str_copy(why, sizeof(why), err->text);
	return nbd_refuse(n, why, err);
}

/* Invariant 4. */
static int nbd_look(struct target_nbd *n, const struct target_spec *spec, struct err *err)
{
	int64_t size = nbd_get_size(n->h);
	int64_t least = nbd_get_block_size(n->h, LIBNBD_SIZE_MINIMUM);
	int64_t most = nbd_get_block_size(n->h, LIBNBD_SIZE_MAXIMUM);

	if (size < 0)
		return nbd_refuse(n, peer_reason(), err);
	if (nbd_is_read_only(n->h) == 1)
		return nbd_refuse(n, "the server allows no writing", err);
	if ((uint64_t)size < spec->size)
		return target_too_small(n->base.where, (uint64_t)size, spec->size, err);
	if (least > 1 && (spec->chunk % least || spec->size % least))
		return nbd_refuse(
			n, "its smallest block does not divide the disk's chunks and size", err);
	if (most <= 0 || most > NBD_REQUEST)
		most = MAX((int64_t)NBD_REQUEST, least);
	n->request = (uint32_t)(least > 1 ? most - most % least : most);
	n->can_zero = nbd_can_zero(n->h) == 1;
	n->has_status = nbd_can_meta_context(n->h, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1;
	return 0;
}

int target_nbd_open(const struct target_spec *spec, struct target **out, struct err *err)
{
	struct target_nbd *n = mem_alloc(sizeof(*n));
	cleanup_ptr(target) owner = NULL;
	int r;

	if (!n)
		return err_nomem(err, "a target");
	owner = &n->base;
	n->base = (struct target){ .ops = &nbd_ops,
				   .where = str_dup(spec->where),
				   .stop = spec->stop,
				   .size = spec->size };
	if (!n->base.where)
		return err_nomem(err, "a target");
	r = nbd_dial(n, err);
	if (r == 0)
		r = nbd_look(n, spec, err);
	if (r < 0)
		return r;
	*out = steal_ptr(owner);
	return 0;
}
