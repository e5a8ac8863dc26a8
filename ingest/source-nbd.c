// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Source: an NBD server, over TCP or a UNIX socket, by libnbd; also the way in for image formats (source-image.c).
 *
 * How it works: one connection; the pass keeps up to PASS_DEPTH buffers under way, each cut into requests of at most
 * 256 KiB, so that 12 are in flight (nbdcopy's measured best is of that order).  Every wait is a poll of 0.2 s at most, with
 * a look at the stop flag.  base:allocation is asked for 1 GiB at a time; a server may answer for less and is asked
 * again from there.
 *
 * Invariants:
 *  1. Only what the server calls zero is a hole; "hole" alone does not say what it reads as.
 *  2. Reads respect the server's block sizes: they begin and end on the granule, and none is above its maximum.
 *  3. Memory of a request belongs to libnbd until its piece is DONE or FAILED, or cancel has closed the handle.
 *  4. A lost connection is told from an unreadable place: broken, against ERR_SOURCE alone.
 *
 * Source: NBD protocol, doc/proto.md ("Block size constraints", "base:allocation"); libnbd(3) 1.14.
 */
#include "ingest/internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "peer/peer.h"

#include "base/banned.h"

#define NBD_REQUEST (256u << 10)
#define NBD_STATUS_BYTES GiB
#define NBD_STATUS_ENTRIES (256u << 10)

struct nbd_run {
	uint64_t end; /* bytes */
	bool zero;
};
struct source_nbd {
	struct source base;
	char *uri; /* owned */
	struct source_helper helper;
	struct nbd_handle *h; /* NULL: closed */
	bool has_status;
	/* What the server said about [runs_start, runs[nruns - 1].end): */
	uint64_t runs_start;
	struct nbd_run *runs; /* owned; ascending, neighbours differ */
	size_t nruns, cap, at; /* at: of the last look-up */
	bool status_done, status_failed;
};

static struct source_nbd *nbd_of(struct source *s)
{
	return container_of(s, struct source_nbd, base);
}

/* Lets libnbd work for a moment. */
static int nbd_turn(struct source_nbd *n, struct err *err)
{
	int r = ingest_stopped(n->base.stop, err);

	if (r < 0)
		return r;
	if (peer_lost(n->h) || (nbd_poll(n->h, PEER_POLL_MS) < 0 && peer_lost(n->h))) {
		n->base.broken = true;
		err_set(err, ERR_SOURCE, "the connection to '%s' broke: %s", n->base.where,
			peer_reason());
		return err_object(err, "%s", n->base.where);
	}
	return 0;
}

/* --- connecting --- */

static int nbd_connect_failed(struct source_nbd *n, struct err *err)
{
	err_recode(err, ERR_SOURCE);
	err_prefix(err, "cannot connect to '%s'", n->base.where);
	err_object(err, "%s", n->base.where);
	peer_leave(n->h);
	n->h = NULL;
	return ERR_SOURCE;
}

static int nbd_dial(struct source_nbd *n, struct err *err)
{
	int r = peer_dial(n->uri, n->base.stop, &n->h, err);

	if (r == 0 || r == ERR_NOMEM)
		return r;
	r = ingest_stopped(n->base.stop, err);
	return r < 0 ? r : nbd_connect_failed(n, err);
}

static uint64_t block_size(struct source_nbd *n, int which)
{
	int64_t size = nbd_get_block_size(n->h, which);

	return size < 0 ? 0 : (uint64_t)size;
}

/* Invariant 2. */
static int nbd_limits(struct source_nbd *n, struct err *err)
{
	uint64_t least = block_size(n, LIBNBD_SIZE_MINIMUM),
		 most = block_size(n, LIBNBD_SIZE_MAXIMUM);
	uint64_t granule = MAX((uint64_t)SOURCE_GRANULE, least);

	if (!most || most > NBD_REQUEST)
		most = MAX((uint64_t)NBD_REQUEST, least);
	while (granule > most)
		granule /= 2;
	if ((least & (least - 1)) || granule > SESSION_BUFFER || granule < MAX(least, 512u)) {
		err_set(err, ERR_SOURCE,
			"'%s' takes reads of %llu to %llu bytes only: that is no use",
			n->base.where, (unsigned long long)least, (unsigned long long)most);
		return err_object(err, "%s", n->base.where);
	}
	n->base.granule = (uint32_t)granule;
	n->base.max_request = (uint32_t)MIN(most & ~(granule - 1), (uint64_t)SESSION_BUFFER);
	return 0;
}

/* Connects and learns what the server can; *size: bytes. */
static int nbd_attach(struct source_nbd *n, uint64_t *size, struct err *err)
{
	int64_t bytes;
	int r = nbd_dial(n, err);

	if (r < 0)
		return r;
	bytes = nbd_get_size(n->h);
	if (bytes < 0) {
		err_set(err, ERR_SOURCE, "%s", peer_reason());
		return nbd_connect_failed(n, err);
	}
	n->has_status = nbd_can_meta_context(n->h, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1;
	*size = (uint64_t)bytes;
	return nbd_limits(n, err);
}

static void nbd_cancel(struct source *s)
{
	struct source_nbd *n = nbd_of(s);

	peer_leave(n->h);
	n->h = NULL;
}

static int nbd_reopen(struct source *s, uint64_t *size, struct err *err)
{
	struct source_nbd *n = nbd_of(s);
	uint32_t granule = s->granule;
	int r;

	nbd_cancel(s);
	n->nruns = 0;
	s->last.start = s->last.end = 0;
	r = nbd_attach(n, size, err);
	if (r < 0)
		return r;
	if (s->granule > granule) {
		err_set(err, ERR_SOURCE, "'%s' came back with larger blocks", s->where);
		return err_object(err, "%s", s->where);
	}
	s->granule = granule;
	s->max_request = s->max_request & ~(granule - 1);
	s->broken = false;
	return 0;
}

/* --- reading --- */

static int piece_finished(void *opaque, int *error)
{
	struct source_piece *p = opaque;

	p->eno = *error;
	p->state = *error ? PIECE_FAILED : PIECE_DONE;
	return 1;
}

static void nbd_start(struct source *s, struct source_piece *p)
{
	struct source_nbd *n = nbd_of(s);
	nbd_completion_callback done = { .callback = piece_finished, .user_data = p };

	p->state = PIECE_UNDER_WAY;
	if (n->h && nbd_aio_pread(n->h, p->p, p->n, p->offset, done, 0) >= 0)
		return;
	if (p->state == PIECE_UNDER_WAY) { /* it may have failed by its callback */
		p->state = PIECE_FAILED;
		p->eno = n->h ? nbd_get_errno() : ENOTCONN;
	}
}

static bool is_lost_errno(int eno)
{
	return eno == ENOTCONN || eno == ESHUTDOWN || eno == ECONNRESET || eno == EPIPE;
}

static int nbd_wait(struct source *s, struct source_piece *p, struct err *err)
{
	struct source_nbd *n = nbd_of(s);
	int r;

	while (p->state == PIECE_UNDER_WAY) {
		r = nbd_turn(n, err);
		if (r < 0)
			return r;
	}
	if (p->state == PIECE_DONE)
		return 0;
	if (peer_lost(n->h) || is_lost_errno(p->eno))
		s->broken = true;
	err_set_errno(err, ERR_SOURCE, p->eno ? p->eno : EIO, "%s '%s' at offset %llu",
		      s->broken ? "lost the connection to" : "cannot read", s->where,
		      (unsigned long long)p->offset);
	err_object(err, "%s", s->where);
	return err_recode(err, ERR_SOURCE);
}

/* --- extents --- */

static int status_entries(void *opaque, const char *context, uint64_t offset, uint32_t *entries,
			  size_t count, int *error)
{
	struct source_nbd *n = opaque;
	uint64_t end = offset;
	size_t i;

	(void)error;
	if (strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0 || offset != n->runs_start ||
	    n->nruns)
		return 0;
	for (i = 0; i + 1 < count && end < n->base.size; i += 2) {
		bool zero = entries[i + 1] & LIBNBD_STATE_ZERO;

		end = MIN(end + entries[i], n->base.size);
		if (n->nruns && n->runs[n->nruns - 1].zero == zero) {
			n->runs[n->nruns - 1].end = end;
			continue;
		}
		if (n->nruns == n->cap) {
			size_t cap = n->cap ? n->cap * 2 : 1024;
			struct nbd_run *grown = NULL;

			if (cap <= NBD_STATUS_ENTRIES) /* the rest is asked again */
				grown = mem_realloc_array(n->runs, cap, sizeof(*grown));
			if (!grown)
				return 0;
			n->runs = grown;
			n->cap = cap;
		}
		n->runs[n->nruns++] = (struct nbd_run){ .end = end, .zero = zero };
	}
	return 0;
}

static int status_finished(void *opaque, int *error)
{
	struct source_nbd *n = opaque;

	n->status_done = true;
	n->status_failed = *error != 0;
	return 1;
}

static int nbd_ask_status(struct source_nbd *n, uint64_t offset, struct err *err)
{
	nbd_extent_callback each = { .callback = status_entries, .user_data = n };
	nbd_completion_callback done = { .callback = status_finished, .user_data = n };
	int r;

	n->runs_start = offset;
	n->nruns = n->at = 0;
	n->status_done = n->status_failed = false;
	if (!n->h ||
	    nbd_aio_block_status(n->h, MIN(n->base.size - offset, (uint64_t)NBD_STATUS_BYTES),
				 offset, each, done, 0) < 0)
		n->status_done = n->status_failed = true;
	while (!n->status_done) {
		r = nbd_turn(n, err);
		if (r < 0)
			return r;
	}
	if (peer_lost(n->h)) {
		n->base.broken = true;
		return err_set(err, ERR_SOURCE, "lost the connection to '%s'", n->base.where);
	}
	if (n->status_failed || !n->nruns || n->runs[n->nruns - 1].end <= offset) {
		log_warning("'%s' does not answer about its holes: all of it is read",
			    n->base.where);
		n->has_status = false;
	}
	return 0;
}

/* The run that holds offset, or NULL if it is not known. */
static const struct nbd_run *run_find(struct source_nbd *n, uint64_t offset)
{
	if (!n->nruns || offset < n->runs_start || offset >= n->runs[n->nruns - 1].end)
		return NULL;
	if (n->at >= n->nruns || (n->at && offset < n->runs[n->at - 1].end))
		n->at = 0;
	while (n->runs[n->at].end <= offset)
		n->at++;
	return &n->runs[n->at];
}

static int nbd_extent(struct source *s, uint64_t offset, struct source_extent *out, struct err *err)
{
	struct source_nbd *n = nbd_of(s);
	uint64_t mask = s->granule - 1;
	const struct nbd_run *run;
	int r;

	*out = (struct source_extent){ .start = offset, .end = s->size };
	run = n->has_status ? run_find(n, offset) : NULL;
	if (!run && n->has_status) {
		r = nbd_ask_status(n, offset, err);
		if (r < 0)
			return r;
		run = n->has_status ? run_find(n, offset) : NULL;
	}
	if (!run)
		return 0;
	out->hole = run->zero && (run->end == s->size || (run->end & ~mask) > offset);
	/* A granule that is not all zero is data; so is one that the server's answer ends in. */
	if (out->hole)
		out->end = run->end == s->size ? run->end : run->end & ~mask;
	else if (run->zero)
		out->end = MIN(offset + s->granule, s->size);
	else
		out->end = MIN(round_up_u64(run->end, s->granule), s->size);
	return 0;
}

static void nbd_source_close(struct source *s)
{
	struct source_nbd *n = nbd_of(s);

	nbd_cancel(s);
	if (n->helper.drop)
		n->helper.drop(n->helper.opaque);
	free(n->runs);
	free(n->uri);
	free(n);
}

static const struct source_ops nbd_ops = {
	.extent = nbd_extent,
	.start = nbd_start,
	.wait = nbd_wait,
	.cancel = nbd_cancel,
	.reopen = nbd_reopen,
	.close = nbd_source_close,
};
/* What ends with its helper cannot be connected to again. */
static const struct source_ops helped_ops = {
	.extent = nbd_extent,
	.start = nbd_start,
	.wait = nbd_wait,
	.cancel = nbd_cancel,
	.close = nbd_source_close,
};

int source_nbd_open(const char *uri, const char *where, const struct source_helper *helper,
		    const volatile int *stop, struct source **out, struct err *err)
{
	struct source_nbd *n = mem_alloc(sizeof(*n));
	cleanup_ptr(source) owner = NULL;
	int r;

	if (!n)
		return err_nomem(err, "a source");
	owner = &n->base;
	n->base = (struct source){ .ops = helper ? &helped_ops : &nbd_ops,
				   .where = str_dup(where),
				   .stop = stop,
				   .depth = PASS_DEPTH };
	n->uri = str_dup(uri);
	if (!n->base.where || !n->uri)
		return err_nomem(err, "a source");
	r = nbd_attach(n, &n->base.size, err);
	if (r < 0)
		return r;
	n->base.readable = n->base.size;
	if (helper)
		n->helper = *helper;
	*out = steal_ptr(owner);
	return 0;
}
