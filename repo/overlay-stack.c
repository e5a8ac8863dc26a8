// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Layers of one disk, one over the other, over the point's disk.
 *
 * 1. A stack never changes: a freeze and a rebase make a new one, which shares layers with the old one.  Whoever is reading goes on
 *    with the stack that he began with, whose frozen layers do not change either.
 * 2. Layers and disk are closed when the last stack that has them goes.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "repo/overlay-life-internal.h"

#include "base/banned.h"

void overlay_layer_spec_of(const struct repo *r, const struct overlay_header *h,
			   const struct overlay_header_disk *disk, uint32_t number,
			   const char *folder, struct overlay_layer_spec *out)
{
	*out = (struct overlay_layer_spec){ .folder = folder,
					    .disk = disk->name,
					    .size = disk->size,
					    .number = number,
					    .keys = r->keys,
					    .header = h };
}

/* --- parts --- */

static int base_new(struct repo_disk *disk, struct overlay_base **out, struct err *err)
{
	struct overlay_base *b = mem_alloc(sizeof(*b));

	if (!b) {
		repo_disk_close(disk);
		return err_nomem(err, "disk of an overlay");
	}
	b->disk = disk;
	atomic_init(&b->refs, 1);
	*out = b;
	return 0;
}

static void base_put(struct overlay_base *b)
{
	if (!b || atomic_fetch_sub(&b->refs, 1) != 1)
		return;
	repo_trace_end(b->trace);
	repo_disk_close(b->disk);
	free(b);
}

static int level_new(uint32_t number, struct overlay_layer *layer, struct overlay_level **out,
		     struct err *err)
{
	struct overlay_level *l = mem_alloc(sizeof(*l));

	if (!l) {
		overlay_layer_close(layer);
		return err_nomem(err, "layer of an overlay");
	}
	l->layer = layer;
	l->number = number;
	atomic_init(&l->refs, 1);
	*out = l;
	return 0;
}

static void level_put(struct overlay_level *l)
{
	if (!l || atomic_fetch_sub(&l->refs, 1) != 1)
		return;
	overlay_layer_close(l->layer);
	free(l);
}

/* --- the stack --- */

static int read_disk(void *opaque, void *dst, size_t n, uint64_t offset, struct err *err)
{
	struct overlay_base *b = opaque;

	repo_trace_note(b->trace, offset, n);
	return repo_disk_read(b->disk, dst, n, offset, err);
}

static int read_level(void *opaque, void *dst, size_t n, uint64_t offset, struct err *err)
{
	const struct overlay_step *step = opaque;
	const struct overlay_stack *s = step->stack;

	return overlay_layer_read(s->levels[step->level]->layer, &s->below[step->level], dst, n,
				  offset, err);
}

static int stack_new(struct overlay_stack **out, struct err *err)
{
	struct overlay_stack *s = mem_alloc(sizeof(*s));

	if (!s)
		return err_nomem(err, "layers of an overlay");
	atomic_init(&s->refs, 1);
	*out = s;
	return 0;
}

/* Connects what was put in. */
static void stack_link(struct overlay_stack *s)
{
	s->below[0] = (struct overlay_below){ read_disk, s->base };
	for (unsigned i = 1; i < s->count; i++) {
		s->steps[i - 1] = (struct overlay_step){ s, i - 1 };
		s->below[i] = (struct overlay_below){ read_level, &s->steps[i - 1] };
	}
}

/* Takes the level. */
static int stack_push(struct overlay_stack *s, struct overlay_level *level, struct err *err)
{
	if (s->count == OVERLAY_LAYERS_MAX) {
		level_put(level);
		return err_set(
			err, ERR_TOO_BIG,
			"the overlay has %u layers already, which seals that failed have left; "
			"seal it while it is not attached",
			OVERLAY_LAYERS_MAX);
	}
	s->levels[s->count++] = level;
	return 0;
}

static int push_shared(struct overlay_stack *s, struct overlay_level *level, struct err *err)
{
	atomic_fetch_add(&level->refs, 1);
	return stack_push(s, level, err);
}

static int push_layer(struct overlay_stack *s, const struct overlay_layer_spec *spec, bool frozen,
		      bool unclean, struct err *err)
{
	struct overlay_layer *layer;
	struct overlay_level *level = NULL;
	int r = overlay_layer_open(spec, frozen, unclean, &layer, err);

	if (r == 0)
		r = level_new(spec->number, layer, &level, err);
	return r < 0 ? r : stack_push(s, level, err);
}

static int open_base(const struct overlay_open *spec, const struct overlay_header_disk *disk,
		     struct overlay_base **out, struct err *err)
{
	struct repo_disk *d;
	int r = repo_disk_open(spec->point, disk->name, &d, err);

	if (r == ERR_NOT_FOUND)
		return err_recode(err, ERR_DAMAGED);
	if (r < 0)
		return r;
	if (repo_disk_size(d) != disk->size) {
		repo_disk_close(d);
		return err_set(err, ERR_DAMAGED,
			       "overlay '%s' has another size of disk '%s' than its restore point",
			       spec->header->id, disk->name);
	}
	return base_new(d, out, err);
}

static int look_untouched(void *opaque, enum block_state state, uint64_t start, uint64_t length,
			  struct err *err)
{
	(void)start;
	(void)length;
	(void)err;
	*(bool *)opaque &= state == BLOCK_BASE;
	return state != BLOCK_BASE;
}

/* What is read from the point is a boot's beginning only while nothing was written: a guest writes early. */
static bool untouched(const struct overlay_stack *s, uint64_t size)
{
	bool yes = s->count == 1;

	return yes &&
	       overlay_layer_runs(s->levels[0]->layer, 0, size, look_untouched, &yes, NULL) >= 0 &&
	       yes;
}

int overlay_stack_open(struct overlay_open *spec, const struct overlay_header_disk *disk,
		       struct overlay_stack **out, struct err *err)
{
	cleanup_ptr(overlay_stack) s = NULL;
	cleanup_free char *folder = overlay_path(spec->repo, spec->header->id, NULL);
	int r = folder ? stack_new(&s, err) : err_nomem(err, "path of an overlay");

	if (r == 0)
		r = open_base(spec, disk, &s->base, err);
	for (uint32_t n = spec->first; r == 0 && n <= spec->last; n++) {
		struct overlay_layer_spec layer;

		overlay_layer_spec_of(spec->repo, spec->header, disk, n, folder, &layer);
		r = push_layer(s, &layer, spec->frozen || n < spec->last, spec->unclean, err);
		spec->damaged = r == ERR_DAMAGED;
	}
	if (r < 0)
		return err_prefix(err, "overlay '%s', disk '%s'", spec->header->id, disk->name);
	stack_link(s);
	if (!spec->frozen)
		s->base->trace = repo_trace_start(s->base->disk, untouched(s, disk->size));
	*out = steal_ptr(s);
	return 0;
}

int overlay_stack_grow(const struct overlay_stack *below, uint32_t number,
		       struct overlay_layer *top, struct overlay_stack **out, struct err *err)
{
	cleanup_ptr(overlay_stack) s = NULL;
	struct overlay_level *level = NULL;
	int r = level_new(number, top, &level, err);

	if (r == 0)
		r = stack_new(&s, err);
	if (r == 0) {
		s->base = below->base;
		atomic_fetch_add(&s->base->refs, 1);
	}
	for (unsigned i = 0; r == 0 && i < below->count; i++)
		r = push_shared(s, below->levels[i], err);
	if (r < 0) {
		level_put(level);
		return r;
	}
	r = stack_push(s, level, err);
	if (r < 0)
		return r;
	stack_link(s);
	*out = steal_ptr(s);
	return 0;
}

int overlay_stack_rebase(const struct overlay_stack *above, uint32_t first, struct repo_disk *disk,
			 struct overlay_stack **out, struct err *err)
{
	cleanup_ptr(overlay_stack) s = NULL;
	struct overlay_base *base = NULL;
	int r = base_new(disk, &base, err);

	if (r == 0)
		r = stack_new(&s, err);
	if (r < 0) {
		base_put(base);
		return r;
	}
	s->base = base;
	for (unsigned i = 0; r == 0 && i < above->count; i++)
		if (above->levels[i]->number >= first)
			r = push_shared(s, above->levels[i], err);
	if (r == 0 && s->count == 0)
		r = err_set(err, ERR_INTERNAL, "no layer from %u on", first);
	if (r < 0)
		return r;
	stack_link(s);
	*out = steal_ptr(s);
	return 0;
}

struct overlay_stack *overlay_stack_ref(struct overlay_stack *s)
{
	atomic_fetch_add(&s->refs, 1);
	return s;
}

void overlay_stack_unref(struct overlay_stack *s)
{
	if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
		return;
	while (s->count)
		level_put(s->levels[--s->count]);
	base_put(s->base);
	free(s);
}

/* --- reading --- */

struct overlay_layer *overlay_stack_top(const struct overlay_stack *s)
{
	return s->levels[s->count - 1]->layer;
}

const struct overlay_below *overlay_stack_below(const struct overlay_stack *s)
{
	return &s->below[s->count - 1];
}

int overlay_stack_read(const struct overlay_stack *s, void *dst, size_t n, uint64_t offset,
		       struct err *err)
{
	return overlay_layer_read(overlay_stack_top(s), overlay_stack_below(s), dst, n, offset,
				  err);
}

struct first_run {
	enum block_state state;
	uint64_t length;
};

static int take_first(void *opaque, enum block_state state, uint64_t start, uint64_t length,
		      struct err *err)
{
	struct first_run *f = opaque;

	(void)start;
	(void)err;
	f->state = state;
	f->length = length;
	return 1;
}

int overlay_stack_state(const struct overlay_stack *s, uint64_t offset, uint64_t n,
			enum block_state *state, uint64_t *length, struct err *err)
{
	struct first_run run = { BLOCK_BASE, n };

	/* What the upper ones leave to those below narrows how far is looked there. */
	for (unsigned i = s->count; i > 0 && run.state == BLOCK_BASE; i--) {
		int r = overlay_layer_runs(s->levels[i - 1]->layer, offset, run.length, take_first,
					   &run, err);

		if (r < 0)
			return r;
	}
	*state = run.state;
	*length = run.length;
	return 0;
}
