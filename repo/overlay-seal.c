// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Sealing: a write session whose source is an overlay and whose parent is the overlay's point.
 *
 * Not attached: the lock is held throughout; the publishing transaction lets the row go; files, then the row, are removed.
 * Attached: the server freezes (repo/overlay-control.c), the frozen layers are read here, the publishing transaction moves the row to the new
 * point and the layer above; the server is told, and changes its ground.
 *
 * 1. Only chunks with a block that some layer has are read; the others are the parent's.
 * 2. The transaction publishes only if the row still stands where the frozen layers do (catalog/overlay.h): whoever
 *    discarded or sealed the overlay meanwhile wins, and nothing is published.
 * 3. After the transaction nothing here is an error any more: what is left to do is done by the next attach or sweep.
 */
#include <stdlib.h>

#include "base/log.h"
#include "repo/overlay-life-internal.h"
#include "repo/session-internal.h"

#include "base/banned.h"

#define AGAIN_MS 200u

struct sealing {
	struct repo *repo;
	const struct overlay_seal_spec *spec;
	struct overlay_row row;
	struct overlay_header header;
	int lock_fd; /* not attached; else -1 */
	struct overlay_client *client; /* attached; else NULL */
	uint32_t first, last; /* frozen layers */
	bool unclean;
	struct repo_point *point;
	struct overlay_stack **stacks; /* of each disk of the header */
};

/* --- getting hold of it --- */

static int seal_stopped(const struct sealing *s, struct err *err)
{
	int code = s->spec->stop ? *s->spec->stop : 0;

	return code ? err_set(err, code, "%s", err_code_sentence(code)) : 0;
}

/* Through the server, or by the lock.  ERR_NOT_FOUND of the one and ERR_LOCKED of the other: it is coming or going. */
static int take_once(struct sealing *s, uint64_t until, struct err *err)
{
	int r = overlay_find(s->repo, s->spec->overlay, &s->row, err);

	if (r < 0)
		return r;
	r = overlay_client_open(s->repo, s->row.id, until, s->spec->stop, &s->client, err);
	if (r != ERR_NOT_FOUND)
		return r;
	err_clear(err);
	r = overlay_lock(s->repo, s->row.id, &s->lock_fd, err);
	if (r == ERR_NOT_FOUND)
		r = err_recode(err, ERR_DAMAGED);
	return r;
}

static int take(struct sealing *s, struct err *err)
{
	uint64_t until = time_mono_ns() + MAX(s->spec->wait_seconds, 5u) * UINT64_C(1000000000);
	uint64_t again = time_mono_ns() + s->spec->wait_seconds * UINT64_C(1000000000);
	int r;

	for (;;) {
		r = take_once(s, until, err);
		if (r != ERR_LOCKED || time_mono_ns() >= again)
			break;
		r = seal_stopped(s, err);
		if (r < 0)
			return r;
		time_sleep_ms(AGAIN_MS);
		err_clear(err);
	}
	if (r == 0 && s->client)
		r = overlay_client_freeze(s->client, &s->first, &s->last, err);
	return r;
}

/* The row and the header as they are now that nobody else moves them. */
static int look(struct sealing *s, struct err *err)
{
	int r = overlay_find(s->repo, s->row.id, &s->row, err);

	if (r == 0) {
		r = overlay_header_load(s->repo, s->row.id, &s->header, err);
		if (r == ERR_NOT_FOUND)
			r = err_recode(err, ERR_DAMAGED);
	}
	if (r < 0)
		return r;
	if (!s->client) {
		if (overlay_error_is(s->repo, s->row.id))
			return overlay_in_error(s->row.id, err);
		s->unclean = overlay_attached(s->repo, s->row.id, NULL);
		r = overlay_reconcile(s->repo, &s->row, &s->header, err);
		s->first = s->header.first;
		s->last = s->header.last;
		return r;
	}
	if (s->header.first == s->first && s->header.last > s->last &&
	    s->row.layer == s->header.first)
		return 0;
	err_set(err, ERR_LOCKED, "overlay '%s' was attached anew meanwhile; seal it again",
		s->row.id);
	return err_object(err, "%s", s->row.id);
}

static int open_stacks(struct sealing *s, struct err *err)
{
	struct overlay_open spec = {
		.repo = s->repo,
		.header = &s->header,
		.first = s->first,
		.last = s->last,
		/* What its server had answered and not flushed when it died is entered by
				      * who opens the top layer to write. */
		.frozen = s->client || !s->unclean,
		.unclean = s->unclean
	};
	int r = repo_point_open(s->repo, s->row.point, &s->point, err);

	if (r < 0)
		return r;
	spec.point = s->point;
	s->stacks = mem_alloc_array(s->header.ndisks, sizeof(*s->stacks));
	if (!s->stacks)
		return err_nomem(err, "seal of an overlay");
	for (size_t i = 0; i < s->header.ndisks && r == 0; i++)
		r = overlay_stack_open(&spec, &s->header.disks[i], &s->stacks[i], err);
	return r;
}

/* --- one disk --- */

struct walk {
	struct repo_session *session;
	const struct overlay_stack *stack;
	uint64_t size, chunk; /* bytes */
	bool parent; /* the session's parent has the disk */
	uint64_t read; /* bytes taken from the overlay */
};

/* What is to be done with the disk from `at`, a chunk's start, on, and up to where: whole chunks, or the disk's end. */
static int next_part(const struct walk *w, uint64_t at, enum block_state *what, uint64_t *end,
		     struct err *err)
{
	uint64_t length;
	int r = overlay_stack_state(w->stack, at, w->size - at, what, &length, err);

	if (r < 0)
		return r;
	*end = at + length == w->size ? w->size : (at + length) / w->chunk * w->chunk;
	if (*end <= at || (*what == BLOCK_BASE && !w->parent)) {
		*what = BLOCK_DATA;
		*end = MIN(at + w->chunk, w->size);
	}
	return 0;
}

static int write_part(struct walk *w, uint64_t at, uint64_t end, struct err *err)
{
	while (at < end) {
		uint64_t n = MIN(end - at, SESSION_BUFFER);
		uint8_t *buffer;
		int r = session_buffer(w->session, &buffer, err);

		if (r < 0)
			return r;
		r = overlay_stack_read(w->stack, buffer, (size_t)n, at, err);
		if (r < 0) {
			session_buffer_put(w->session, buffer);
			return r;
		}
		r = session_disk_write(w->session, buffer, at, (size_t)n, err);
		if (r < 0)
			return r;
		w->read += n;
		at += n;
	}
	return 0;
}

static int walk_disk(struct walk *w, struct err *err)
{
	uint64_t at = 0, end = 0;
	int r = 0;

	for (; at < w->size && r == 0; at = end) {
		enum block_state what, next;
		uint64_t more;

		r = next_part(w, at, &what, &end, err);
		/* Neighbours of one kind in one call. */
		while (r == 0 && end < w->size && end - at < SESSION_BUFFER) {
			r = next_part(w, end, &next, &more, err);
			if (r < 0 || next != what)
				break;
			end = more;
		}
		if (r < 0)
			break;
		if (what == BLOCK_BASE)
			r = session_disk_unchanged(w->session, at, end - at, err);
		else if (what == BLOCK_ZERO)
			r = session_disk_hole(w->session, at, end - at, err);
		else
			r = write_part(w, at, end, err);
	}
	return r;
}

static int seal_disk(struct sealing *s, struct repo_session *session, size_t i, struct err *err)
{
	const struct overlay_header_disk *disk = &s->header.disks[i];
	struct disk_spec spec = {
		.name = disk->name, .size = disk->size, .method = METHOD_MAP, .source = s->row.id
	};
	struct walk w = { .session = session,
			  .stack = s->stacks[i],
			  .size = disk->size,
			  .chunk = s->repo->conf.chunk_size };
	int r = session_disk_begin(session, &spec, err);

	if (r < 0)
		return r;
	w.parent = session_disk_parent(session) != NULL;
	r = walk_disk(&w, err);
	if (r == 0)
		r = session_disk_end(session, 0, w.read, err);
	return r < 0 ? err_prefix(err, "disk '%s'", disk->name) : 0;
}

/* --- the whole --- */

static int publish(struct sealing *s, struct session_result *result, struct err *err)
{
	const struct manifest *m = repo_point_manifest(s->point);
	struct overlay_sealed sealed = { .layer = s->row.layer,
					 .next = s->client ? s->last + 1 : 0 };
	struct session_spec spec = { .name = s->spec->name ? s->spec->name : m->name,
				     .since_id = s->row.point,
				     .compression = -1,
				     .wait_seconds = s->spec->wait_seconds,
				     .stop = s->spec->stop };
	struct repo_session *session;
	int r = repo_session_begin(s->repo, &spec, &session, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < s->header.ndisks && r == 0; i++)
		r = seal_disk(s, session, i, err);
	if (r == 0)
		r = repo_session_config_inherit(session, err);
	if (r < 0) {
		repo_session_abort(session);
		return r;
	}
	str_copy(sealed.id, sizeof(sealed.id), s->row.id);
	memcpy(sealed.point, s->row.point, POINT_ID_LEN);
	session->sealed = &sealed;
	return repo_session_publish(session, s->spec->publish, result, err);
}

/* The server may have gone since: then the next one that attaches does it, or this does it now. */
static void rebase_after(struct sealing *s)
{
	struct err err = ERR_INIT;

	if (overlay_client_rebase(s->client, &err) == 0)
		return;
	log_debug("%s; overlay '%s' follows later", err.text, s->row.id);
	overlay_client_close(s->client);
	s->client = NULL;
	if (overlay_client_open(s->repo, s->row.id, time_mono_ns() + UINT64_C(5000000000), NULL,
				&s->client, &err) == 0)
		(void)overlay_client_rebase(s->client, &err);
	else if (overlay_lock(s->repo, s->row.id, &s->lock_fd, &err) == 0 &&
		 overlay_find(s->repo, s->row.id, &s->row, &err) == 0)
		(void)overlay_reconcile(s->repo, &s->row, &s->header, &err);
}

static void sealing_release(struct sealing *s)
{
	for (size_t i = 0; s->stacks && i < s->header.ndisks; i++)
		overlay_stack_unref(s->stacks[i]);
	free(s->stacks);
	repo_point_close(s->point);
	overlay_header_release(&s->header);
	overlay_client_close(s->client);
	base_cleanup_fd(&s->lock_fd);
}

static void remove_after(struct sealing *s)
{
	struct err err = ERR_INIT;
	struct catalog *c;

	/* The lock stays ours until the folder is gone: nobody attaches what is being removed. */
	if (overlay_folder_remove(s->repo, s->row.id, &err) < 0 ||
	    repo_catalog_get(s->repo, &c, &err) < 0) {
		log_warning("%s; the next sweep removes what is left of overlay '%s'", err.text,
			    s->row.id);
		return;
	}
	if (catalog_overlay_delete(c, s->row.id, &err) < 0)
		log_warning("%s; the next sweep removes the row of overlay '%s'", err.text,
			    s->row.id);
	repo_catalog_put(s->repo, c);
}

int repo_overlay_seal(struct repo *r, const struct overlay_seal_spec *spec,
		      struct session_result *result, struct err *err)
{
	struct sealing s = { .repo = r, .spec = spec, .lock_fd = -1 };
	struct err local = ERR_INIT;
	int ret = repo_need_key(r, err);

	if (!err)
		err = &local;
	if (ret == 0)
		ret = repo_overlay_sweep(r, err);
	if (ret == 0)
		ret = take(&s, err);
	if (ret == 0)
		ret = look(&s, err);
	if (ret == 0)
		ret = open_stacks(&s, err);
	if (ret == 0)
		ret = publish(&s, result, err);
	if (ret == 0 && s.client)
		rebase_after(&s);
	else if (ret == 0)
		remove_after(&s);
	sealing_release(&s);
	return ret;
}
