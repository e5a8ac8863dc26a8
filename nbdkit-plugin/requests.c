// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Requests of clients: reads of a point's disk, reads and writes of an overlay's.
 *
 * FUA is nbdkit's (a flush after the request), and a flush is of the whole overlay: that of any connection covers each write
 * that any connection was told is done.
 *
 * Invariants:
 *  1. A read gives all its bytes, verified or the overlay's own, or an error; never zeroes for damage.
 *  2. A connection without a view is never written: .can_write has said so, and nbdkit refuses.
 *  3. What zero and trim leave reads as zeroes, whatever the hint: zero always makes whole blocks holes, which is as fast
 *     for any length, so that it is never refused for not being fast, and promises no space (NBD_CMD_FLAG_NO_HOLE is a
 *     wish: NetworkBlockDevice/nbd, doc/proto.md).
 */
#include "nbdkit-plugin/internal.h"

#include "base/banned.h"

int request_failed(const struct err *err)
{
	nbdkit_error("%s", err->text);
	nbdkit_set_error(err_code_errno(err->code));
	return -1;
}

/* Of a connection: damage is logged with the export that ran into it, which recover/damage.c reads. */
static int disk_failed(struct err *err)
{
	const char *name = err->code == ERR_DAMAGED ? nbdkit_export_name() : NULL;

	if (name)
		err_prefix(err, "export '%s'", name);
	return request_failed(err);
}

/* An overlay in error stays so, over restarts too, until a person looks at it: the log has to say how. */
static int view_failed(const struct connection *c, struct err *err)
{
	const char *id = repo_overlay_id(c->overlay);

	if (err->code != ERR_IO || strstr(err->text, "--check"))
		return disk_failed(err);
	nbdkit_error("overlay '%s': %s; 'livepoint overlays --check %s' tells what can be read", id,
		     err->text, id);
	nbdkit_set_error(err_code_errno(err->code));
	return -1;
}

int request_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
	struct connection *c = handle;
	struct err err = ERR_INIT;

	(void)flags;
	if (c->view) {
		repo_view_hint(c->view, offset, count);
		return repo_view_read(c->view, buf, count, offset, &err) < 0 ?
			       view_failed(c, &err) :
			       0;
	}
	repo_stream_hint(c->stream, offset, count);
	return repo_disk_read(c->disk, buf, count, offset, &err) < 0 ? disk_failed(&err) : 0;
}

int request_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
	struct connection *c = handle;
	struct err err = ERR_INIT;

	(void)flags;
	return repo_view_write(c->view, buf, count, offset, &err) < 0 ? view_failed(c, &err) : 0;
}

int request_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	struct connection *c = handle;
	struct err err = ERR_INIT;

	(void)flags;
	return repo_view_zero(c->view, count, offset, &err) < 0 ? view_failed(c, &err) : 0;
}

int request_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	struct connection *c = handle;
	struct err err = ERR_INIT;

	(void)flags;
	return repo_view_trim(c->view, count, offset, &err) < 0 ? view_failed(c, &err) : 0;
}

int request_flush(void *handle, uint32_t flags)
{
	struct connection *c = handle;
	struct err err = ERR_INIT;

	(void)flags;
	return repo_view_flush(c->view, &err) < 0 ? view_failed(c, &err) : 0;
}

int request_cache(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	struct connection *c = handle;

	(void)flags;
	if (c->view)
		repo_view_prefetch(c->view, offset, count);
	else
		repo_disk_prefetch(c->disk, offset, count);
	return 0;
}

struct extents_request {
	struct nbdkit_extents *out;
	bool one;
};

static int add_extent(void *opaque, const struct extent *e, struct err *err)
{
	struct extents_request *q = opaque;
	/* What could not be read at the source is no hole: a copy must run into its error. */
	uint32_t type = e->kind == EXTENT_HOLE ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0;

	if (nbdkit_add_extent(q->out, e->start, e->length, type) == -1)
		return err_set(err, ERR_NOMEM, "cannot list the extent at %llu",
			       (unsigned long long)e->start);
	return q->one;
}

int request_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
		    struct nbdkit_extents *extents)
{
	struct extents_request q = { .out = extents, .one = flags & NBDKIT_FLAG_REQ_ONE };
	struct connection *c = handle;
	struct err err = ERR_INIT;

	if (c->view)
		return repo_view_extents(c->view, offset, count, add_extent, &q, &err) < 0 ?
			       view_failed(c, &err) :
			       0;
	return repo_disk_extents(c->disk, offset, count, add_extent, &q, &err) < 0 ?
		       disk_failed(&err) :
		       0;
}
