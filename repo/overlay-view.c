// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * One disk of an attached overlay, as a server asks for it: reads, writes, flushes, extents, read-ahead.
 *
 * 1. A request uses one stack from its beginning to its end; one that writes or flushes also stands in the overlay's gate, so that
 *    a freeze waits for it.
 * 2. In error (invariant 4 of repo/overlay.h) only what lies in the point is read.
 * 3. Extents are those of what would be read: data of any layer is data, zeroed blocks and holes of the point are holes.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "repo/overlay-life-internal.h"

#include "base/banned.h"

/* A stream of the disk that lies below now. */
struct view_stream {
	unsigned refs; /* under the view's lock */
	struct overlay_stack *stack; /* counted; holds the disk */
	struct repo_stream *stream; /* owned */
};
struct repo_view {
	struct repo_overlay *overlay; /* counted */
	struct overlay_disk_at *disk; /* borrowed from it */
	pthread_mutex_t lock; /* guards what follows; memory work only */
	struct view_stream *stream; /* counted; NULL: none yet */
};

/* --- opening --- */

static int find_disk(struct repo_overlay *o, const char *name, struct overlay_disk_at **out,
		     struct err *err)
{
	cleanup_buf struct buf names = BUF_INIT;

	if (!name && o->ndisks == 1) {
		*out = &o->disks[0];
		return 0;
	}
	for (size_t i = 0; i < o->ndisks; i++) {
		if (name && !strcmp(o->disks[i].info->name, name)) {
			*out = &o->disks[i];
			return 0;
		}
		buf_printf(&names, "%s%s", i ? ", " : "", o->disks[i].info->name);
	}
	err_set(err, name ? ERR_NOT_FOUND : ERR_AMBIGUOUS,
		name ? "overlay '%s' has no disk '%s'; it has: %s" :
		       "overlay '%s' has several disks, name one%s: %s",
		o->id, name ? name : "", buf_str(&names));
	err_object(err, "%s", o->id);
	return name ? ERR_NOT_FOUND : ERR_AMBIGUOUS;
}

int repo_view_open(struct repo_overlay *o, const char *name, struct repo_view **out,
		   struct err *err)
{
	struct overlay_disk_at *disk;
	struct repo_view *v;
	int r = find_disk(o, name, &disk, err);

	if (r < 0)
		return r;
	v = mem_alloc(sizeof(*v));
	if (!v)
		return err_nomem(err, "view of an overlay");
	pthread_mutex_lock(&o->repo->overlay_lock);
	o->refs++;
	pthread_mutex_unlock(&o->repo->overlay_lock);
	v->overlay = o;
	v->disk = disk;
	pthread_mutex_init(&v->lock, NULL);
	*out = v;
	return 0;
}

/* Under the view's lock: returns what is to be freed outside of it, or NULL. */
static struct view_stream *stream_drop(struct view_stream *s)
{
	return s && !--s->refs ? s : NULL;
}

static void stream_free(struct view_stream *s)
{
	if (!s)
		return;
	repo_stream_free(s->stream);
	overlay_stack_unref(s->stack);
	free(s);
}

void repo_view_close(struct repo_view *v)
{
	if (!v)
		return;
	stream_free(stream_drop(v->stream));
	pthread_mutex_destroy(&v->lock);
	repo_overlay_detach(v->overlay);
	free(v);
}

uint64_t repo_view_size(const struct repo_view *v)
{
	return v->disk->info->size;
}

/* --- requests --- */

static int check_range(const struct repo_view *v, uint64_t n, uint64_t offset, struct err *err)
{
	uint64_t end;

	if (!add_overflow(offset, n, &end) && end <= repo_view_size(v))
		return 0;
	return err_set(err, ERR_INVALID,
		       "%llu bytes at %llu are beyond the end of disk '%s' (%llu bytes)",
		       (unsigned long long)n, (unsigned long long)offset, v->disk->info->name,
		       (unsigned long long)repo_view_size(v));
}

/* Does all of the range lie in the point? */
static int all_base(const struct overlay_stack *s, uint64_t n, uint64_t offset, bool *all,
		    struct err *err)
{
	enum block_state state = BLOCK_BASE;
	uint64_t length = n;
	int r = overlay_stack_state(s, offset, n, &state, &length, err);

	*all = state == BLOCK_BASE && length == n;
	return r;
}

static int read_in_error(struct repo_view *v, const struct overlay_stack *s, void *dst, size_t n,
			 uint64_t offset, struct err *err)
{
	bool all = false;
	int r = all_base(s, n, offset, &all, err);

	if (r < 0)
		return r;
	return all ? repo_disk_read(s->base->disk, dst, n, offset, err) :
		     overlay_in_error(v->overlay->id, err);
}

int repo_view_read(struct repo_view *v, void *dst, size_t n, uint64_t offset, struct err *err)
{
	cleanup_ptr(overlay_stack) s = NULL;
	int r = check_range(v, n, offset, err);

	if (r < 0 || n == 0)
		return r;
	s = overlay_read_begin(v->overlay, v->disk);
	if (atomic_load(&v->overlay->error))
		return read_in_error(v, s, dst, n, offset, err);
	return overlay_stack_read(s, dst, n, offset, err);
}

enum change { CHANGE_WRITE, CHANGE_ZERO, CHANGE_TRIM, CHANGE_FLUSH };

static int change_do(struct overlay_stack *s, enum change what, const void *src, uint64_t n,
		     uint64_t offset, struct err *err)
{
	struct overlay_layer *top = overlay_stack_top(s);
	const struct overlay_below *below = overlay_stack_below(s);

	switch (what) {
	case CHANGE_WRITE:
		return overlay_layer_write(top, below, src, (size_t)n, offset, err);
	case CHANGE_ZERO:
		return overlay_layer_zero(top, below, n, offset, err);
	case CHANGE_TRIM:
		return overlay_layer_trim(top, n, offset, err);
	default:
		return overlay_layer_flush(top, err);
	}
}

static int change(struct repo_view *v, enum change what, const void *src, uint64_t n,
		  uint64_t offset, struct err *err)
{
	struct err local = ERR_INIT;
	struct overlay_stack *s;
	int r = check_range(v, n, offset, err);

	if (r < 0 || (n == 0 && what != CHANGE_FLUSH))
		return r;
	if (!err)
		err = &local;
	s = overlay_write_begin(v->overlay, v->disk);
	if (atomic_load(&v->overlay->error))
		r = overlay_in_error(v->overlay->id, err);
	else
		r = change_do(s, what, src, n, offset, err);
	if (r < 0 && overlay_layer_failed(overlay_stack_top(s)))
		overlay_failed(v->overlay, err->text);
	overlay_write_end(v->overlay, s);
	return r;
}

int repo_view_write(struct repo_view *v, const void *src, size_t n, uint64_t offset,
		    struct err *err)
{
	return change(v, CHANGE_WRITE, src, n, offset, err);
}

int repo_view_zero(struct repo_view *v, uint64_t n, uint64_t offset, struct err *err)
{
	return change(v, CHANGE_ZERO, NULL, n, offset, err);
}

int repo_view_trim(struct repo_view *v, uint64_t n, uint64_t offset, struct err *err)
{
	return change(v, CHANGE_TRIM, NULL, n, offset, err);
}

int repo_view_flush(struct repo_view *v, struct err *err)
{
	return change(v, CHANGE_FLUSH, NULL, 0, 0, err);
}

/* --- extents --- */

struct merging {
	int (*fn)(void *opaque, const struct extent *e, struct err *err);
	void *opaque;
	struct extent held; /* not told yet; length 0: none */
	bool stopped; /* fn wants no more */
};

static int merge_out(struct merging *m, struct err *err)
{
	struct extent e = m->held;
	int r = e.length ? m->fn(m->opaque, &e, err) : 0;

	m->held.length = 0;
	m->stopped = r > 0;
	return r;
}

static int merge_in(void *opaque, const struct extent *e, struct err *err)
{
	struct merging *m = opaque;
	int r;

	if (m->held.length && m->held.kind == e->kind) {
		m->held.length += e->length;
		return 0;
	}
	r = merge_out(m, err);
	if (r == 0)
		m->held = *e;
	return r;
}

int repo_view_extents(struct repo_view *v, uint64_t offset, uint64_t n,
		      int (*fn)(void *opaque, const struct extent *e, struct err *err),
		      void *opaque, struct err *err)
{
	cleanup_ptr(overlay_stack) s = NULL;
	struct merging m = { .fn = fn, .opaque = opaque };
	uint64_t end = offset + n;
	int r = check_range(v, n, offset, err);

	if (r < 0)
		return r;
	s = overlay_read_begin(v->overlay, v->disk);
	while (offset < end && r >= 0 && !m.stopped) {
		enum block_state state;
		struct extent e = { .start = offset };

		r = overlay_stack_state(s, offset, end - offset, &state, &e.length, err);
		if (r < 0)
			break;
		e.kind = state == BLOCK_ZERO ? EXTENT_HOLE : EXTENT_DATA;
		if (state == BLOCK_BASE)
			r = repo_disk_extents(s->base->disk, offset, e.length, merge_in, &m, err);
		else
			r = merge_in(&m, &e, err);
		offset += e.length;
	}
	if (r == 0 && !m.stopped)
		r = merge_out(&m, err);
	return MIN(r, 0);
}

/* --- read-ahead --- */

/* The view's stream of the disk that the stack has, made anew after that changed; counted.  NULL: no memory. */
static struct view_stream *stream_get(struct repo_view *v, struct overlay_stack *stack)
{
	struct view_stream *fresh = NULL, *old = NULL, *s;

	pthread_mutex_lock(&v->lock);
	s = v->stream;
	if (s && s->stack->base == stack->base) {
		s->refs++;
		pthread_mutex_unlock(&v->lock);
		return s;
	}
	pthread_mutex_unlock(&v->lock);
	fresh = mem_alloc(sizeof(*fresh));
	if (!fresh || repo_stream_new(stack->base->disk, &fresh->stream, NULL) < 0) {
		free(fresh);
		return NULL;
	}
	fresh->stack = overlay_stack_ref(stack);
	fresh->refs = 2; /* the view's, and the caller's */
	pthread_mutex_lock(&v->lock);
	old = stream_drop(v->stream);
	v->stream = fresh;
	pthread_mutex_unlock(&v->lock);
	stream_free(old);
	return fresh;
}

static void stream_put(struct repo_view *v, struct view_stream *s)
{
	pthread_mutex_lock(&v->lock);
	s = stream_drop(s);
	pthread_mutex_unlock(&v->lock);
	stream_free(s);
}

void repo_view_hint(struct repo_view *v, uint64_t offset, size_t n)
{
	cleanup_ptr(overlay_stack) s = overlay_read_begin(v->overlay, v->disk);
	struct view_stream *stream;
	enum block_state state;
	uint64_t length;

	/* What begins in the overlay comes from its own file, which the kernel reads ahead. */
	if (check_range(v, n, offset, NULL) < 0 || n == 0 ||
	    overlay_stack_state(s, offset, n, &state, &length, NULL) < 0 || state != BLOCK_BASE)
		return;
	stream = stream_get(v, s);
	if (!stream)
		return;
	repo_stream_hint(stream->stream, offset, n);
	stream_put(v, stream);
}

void repo_view_prefetch(struct repo_view *v, uint64_t offset, uint64_t n)
{
	cleanup_ptr(overlay_stack) s = overlay_read_begin(v->overlay, v->disk);
	uint64_t end = MIN(repo_view_size(v), offset + n);

	while (offset < end) {
		enum block_state state;
		uint64_t length;

		if (overlay_stack_state(s, offset, end - offset, &state, &length, NULL) < 0)
			return;
		if (state == BLOCK_BASE)
			repo_disk_prefetch(s->base->disk, offset, length);
		offset += length;
	}
}
