// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Attaching an overlay, once a process, and letting it go; the freeze and the change of the ground of one that is attached.
 *
 * 1. Who attaches has the lock before he looks at anything but the catalog's row, which he reads again under it.
 * 2. The header follows the row before a layer is opened (overlay_reconcile): whatever a seal left half done is over then.
 * 3. A freeze: what is dirty is written without holding anybody; writes are held, those under way end, all top layers are
 *    flushed; new layers of all disks are made durably; the header names them; the stacks are changed; writes go on.  Until
 *    the header names them the new layers are strays.
 * 4. After a header whose replacement failed nobody knows which one is on disk.  Both are right for what is written to the layers
 *    that they have in common, but no further freeze is made.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "repo/overlay-life-internal.h"

#include "base/banned.h"

/* --- the gate --- */

struct overlay_stack *overlay_write_begin(struct repo_overlay *o, struct overlay_disk_at *d)
{
	struct overlay_stack *s;

	pthread_mutex_lock(&o->lock);
	while (o->held)
		pthread_cond_wait(&o->changed, &o->lock);
	o->writing++;
	s = overlay_stack_ref(d->stack);
	pthread_mutex_unlock(&o->lock);
	return s;
}

void overlay_write_end(struct repo_overlay *o, struct overlay_stack *stack)
{
	pthread_mutex_lock(&o->lock);
	if (!--o->writing && o->held)
		pthread_cond_broadcast(&o->changed);
	pthread_mutex_unlock(&o->lock);
	overlay_stack_unref(stack);
}

struct overlay_stack *overlay_read_begin(struct repo_overlay *o, struct overlay_disk_at *d)
{
	struct overlay_stack *s;

	pthread_mutex_lock(&o->lock);
	s = overlay_stack_ref(d->stack);
	pthread_mutex_unlock(&o->lock);
	return s;
}

static void hold_writes(struct repo_overlay *o)
{
	pthread_mutex_lock(&o->lock);
	o->held = true;
	while (o->writing)
		pthread_cond_wait(&o->changed, &o->lock);
	pthread_mutex_unlock(&o->lock);
}

static void release_writes(struct repo_overlay *o)
{
	pthread_mutex_lock(&o->lock);
	o->held = false;
	pthread_cond_broadcast(&o->changed);
	pthread_mutex_unlock(&o->lock);
}

void overlay_failed(struct repo_overlay *o, const char *why)
{
	if (!atomic_exchange(&o->error, true))
		overlay_error_set(o->repo, o->id, why);
}

/* --- freeze --- */

static int flush_all(struct repo_overlay *o, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < o->ndisks && r == 0; i++) {
		struct overlay_stack *s = overlay_read_begin(o, &o->disks[i]);

		r = overlay_layer_flush(overlay_stack_top(s), err);
		if (r < 0 && overlay_layer_failed(overlay_stack_top(s)))
			overlay_failed(o, err->text);
		overlay_stack_unref(s);
	}
	return r;
}

/* A new top layer for each disk; fresh: as many stacks as disks. */
static int grow_all(struct repo_overlay *o, const char *folder, struct overlay_stack **fresh,
		    struct err *err)
{
	int r = dir_sync(folder, "overlay.freeze.before", err);

	for (size_t i = 0; i < o->ndisks && r == 0; i++) {
		struct overlay_layer_spec spec;
		struct overlay_layer *layer;

		overlay_layer_spec_of(o->repo, &o->header, o->disks[i].info, o->header.last + 1,
				      folder, &spec);
		r = overlay_layer_create(&spec, err);
		if (r == 0)
			r = overlay_layer_open(&spec, false, false, &layer, err);
		if (r == 0)
			r = overlay_stack_grow(o->disks[i].stack, spec.number, layer, &fresh[i],
					       err);
	}
	return r < 0 ? r : dir_sync(folder, "overlay.freeze.sync", err);
}

static void swap_stacks(struct repo_overlay *o, struct overlay_stack **fresh)
{
	pthread_mutex_lock(&o->lock);
	for (size_t i = 0; i < o->ndisks; i++) {
		struct overlay_stack *old = o->disks[i].stack;

		o->disks[i].stack = fresh[i];
		fresh[i] = old;
	}
	pthread_mutex_unlock(&o->lock);
}

static void stacks_free(struct overlay_stack **stacks, size_t count)
{
	for (size_t i = 0; stacks && i < count; i++)
		overlay_stack_unref(stacks[i]);
	free(stacks);
}

/* With writes held. */
static int freeze_held(struct repo_overlay *o, struct overlay_stack **fresh, struct err *err)
{
	cleanup_free char *folder = overlay_path(o->repo, o->id, NULL);
	struct err local = ERR_INIT;
	int r = folder ? flush_all(o, err) : err_nomem(err, "path of an overlay");

	if (r == 0)
		r = overlay_strays_remove(o->repo, &o->header, err);
	if (r == 0)
		r = grow_all(o, folder, fresh, err);
	if (r < 0) {
		(void)overlay_strays_remove(o->repo, &o->header, &local);
		return r;
	}
	o->header.last++;
	r = overlay_header_store(o->repo, o->id, &o->header, err);
	if (r < 0) {
		o->header.last--;
		o->header_failed = true;
		return r;
	}
	swap_stacks(o, fresh);
	return 0;
}

int overlay_freeze(struct repo_overlay *o, uint32_t *first, uint32_t *last, struct err *err)
{
	struct overlay_stack **fresh;
	int r;

	if (atomic_load(&o->error))
		return overlay_in_error(o->id, err);
	/* A seal that died after it had published. */
	r = overlay_rebase(o, err);
	if (r < 0)
		return r;
	if (o->header_failed)
		return err_set(
			err, ERR_IO,
			"overlay '%s': its header could not be written before; attach it again",
			o->id);
	if (o->header.last - o->header.first + 1 >= OVERLAY_LAYERS_MAX)
		return err_set(
			err, ERR_REFUSED,
			"overlay '%s' has %u layers, which seals that failed have left: seal "
			"it while it is not attached",
			o->id, OVERLAY_LAYERS_MAX);
	fresh = mem_alloc_array(o->ndisks, sizeof(*fresh));
	if (!fresh)
		return err_nomem(err, "layers of an overlay");
	r = flush_all(o, err);
	if (r == 0) {
		hold_writes(o);
		r = freeze_held(o, fresh, err);
		release_writes(o);
	}
	stacks_free(fresh, o->ndisks);
	if (r < 0)
		return r;
	*first = o->header.first;
	*last = o->header.last - 1;
	return 0;
}

/* --- other ground --- */

static int rebase_stacks(struct repo_overlay *o, const struct overlay_row *row,
			 struct repo_point *point, struct overlay_stack **fresh, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < o->ndisks && r == 0; i++) {
		struct repo_disk *disk;

		r = repo_disk_open(point, o->disks[i].info->name, &disk, err);
		if (r == 0)
			r = overlay_stack_rebase(o->disks[i].stack, row->layer, disk, &fresh[i],
						 err);
	}
	return r;
}

int overlay_rebase(struct repo_overlay *o, struct err *err)
{
	struct overlay_stack **fresh = NULL;
	struct repo_point *point = NULL;
	struct overlay_row row;
	int r = overlay_find(o->repo, o->id, &row, err);

	if (r < 0 || row.layer == o->header.first)
		return r;
	fresh = mem_alloc_array(o->ndisks, sizeof(*fresh));
	if (!fresh)
		return err_nomem(err, "layers of an overlay");
	r = repo_point_open(o->repo, row.point, &point, err);
	if (r == 0)
		r = rebase_stacks(o, &row, point, fresh, err);
	if (r == 0)
		r = overlay_reconcile(o->repo, &row, &o->header, err);
	if (r == 0) {
		struct repo_point *old = o->point;

		swap_stacks(o, fresh);
		o->point = point;
		point = old;
	}
	stacks_free(fresh, o->ndisks);
	repo_point_close(point);
	return r;
}

/* --- attaching --- */

static int open_disks(struct repo_overlay *o, bool unclean, struct err *err)
{
	struct overlay_open spec = { .repo = o->repo,
				     .header = &o->header,
				     .first = o->header.first,
				     .last = o->header.last,
				     .unclean = unclean };
	int r = repo_point_open(o->repo, o->header.point, &o->point, err);

	spec.point = o->point;
	if (r == 0 && o->header.last - o->header.first >= OVERLAY_LAYERS_MAX)
		r = err_set(err, ERR_DAMAGED, "overlay '%s' has %u layers", o->id,
			    o->header.last - o->header.first + 1);
	o->disks = mem_alloc_array(o->header.ndisks, sizeof(*o->disks));
	if (r == 0 && !o->disks)
		r = err_nomem(err, "disks of an overlay");
	for (size_t i = 0; i < o->header.ndisks && r == 0; i++) {
		o->disks[i].info = &o->header.disks[i];
		r = overlay_stack_open(&spec, o->disks[i].info, &o->disks[i].stack, err);
		o->ndisks += r == 0;
	}
	if (spec.damaged && !atomic_load(&o->error))
		overlay_failed(o, err->text);
	return r;
}

static int attach_parts(struct repo_overlay *o, struct err *err)
{
	struct overlay_row row;
	bool unclean;
	int r = overlay_lock(o->repo, o->id, &o->lock_fd, err);

	/* The row again: it may have been discarded or sealed before the lock was taken. */
	if (r == 0)
		r = overlay_find(o->repo, o->id, &row, err);
	if (r == 0) {
		r = overlay_header_load(o->repo, o->id, &o->header, err);
		if (r == ERR_NOT_FOUND)
			r = err_recode(err, ERR_DAMAGED);
	}
	if (r == 0)
		r = overlay_reconcile(o->repo, &row, &o->header, err);
	if (r < 0)
		return r;
	unclean = overlay_attached(o->repo, o->id, NULL);
	atomic_store(&o->error, overlay_error_is(o->repo, o->id));
	r = open_disks(o, unclean, err);
	if (r == 0)
		r = overlay_attached_write(o->repo, o->id, err);
	return r < 0 ? r : overlay_control_start(o, &o->control, err);
}

static void overlay_free(struct repo_overlay *o)
{
	for (size_t i = 0; i < o->ndisks; i++)
		overlay_stack_unref(o->disks[i].stack);
	free(o->disks);
	repo_point_close(o->point);
	overlay_header_release(&o->header);
	base_cleanup_fd(&o->lock_fd);
	pthread_mutex_destroy(&o->lock);
	pthread_cond_destroy(&o->changed);
	free(o);
}

/* Finds it among the attached ones, waiting for one that is coming or going; under repo->overlay_lock. */
static struct repo_overlay *attached_find(struct repo *r, const char *id)
{
	struct repo_overlay *o;

	for (;;) {
		for (o = r->overlays; o && strcmp(o->id, id) != 0;)
			o = o->next;
		if (!o || o->use == OVERLAY_OPEN)
			return o;
		pthread_cond_wait(&r->overlay_changed, &r->overlay_lock);
	}
}

static void attached_remove(struct repo_overlay *o)
{
	struct repo *r = o->repo;
	struct repo_overlay **at;

	pthread_mutex_lock(&r->overlay_lock);
	for (at = &r->overlays; *at != o;)
		at = &(*at)->next;
	*at = o->next;
	pthread_cond_broadcast(&r->overlay_changed);
	pthread_mutex_unlock(&r->overlay_lock);
	overlay_free(o);
}

static int check_attach(struct repo *r, struct err *err)
{
	int ret = repo_need_key(r, err);

	if (ret < 0)
		return ret;
	if (!r->started)
		return err_set(err, ERR_INTERNAL, "the repository is not started");
	if (!r->pinnable)
		return err_set(err, ERR_READONLY,
			       "repository '%s' cannot be written: no writable views there",
			       r->path);
	return 0;
}

int repo_overlay_attach(struct repo *r, const char *id_or_name, struct repo_overlay **out,
			struct err *err)
{
	struct err local = ERR_INIT;
	struct repo_overlay *o, *other;
	struct overlay_row row;
	int ret;

	if (!err)
		err = &local;
	ret = check_attach(r, err);
	if (ret == 0)
		ret = overlay_find(r, id_or_name, &row, err);
	if (ret < 0)
		return ret;
	o = mem_alloc(sizeof(*o));
	if (!o)
		return err_nomem(err, "overlay");
	o->repo = r;
	o->lock_fd = -1;
	o->refs = 1;
	str_copy(o->id, sizeof(o->id), row.id);
	pthread_mutex_init(&o->lock, NULL);
	pthread_cond_init(&o->changed, NULL);
	pthread_mutex_lock(&r->overlay_lock);
	other = attached_find(r, row.id);
	if (other) {
		other->refs++;
	} else {
		o->next = r->overlays;
		r->overlays = o;
	}
	pthread_mutex_unlock(&r->overlay_lock);
	if (other) {
		overlay_free(o);
		*out = other;
		return 0;
	}
	ret = attach_parts(o, err);
	if (ret < 0) {
		attached_remove(o);
		return ret;
	}
	pthread_mutex_lock(&r->overlay_lock);
	o->use = OVERLAY_OPEN;
	pthread_cond_broadcast(&r->overlay_changed);
	pthread_mutex_unlock(&r->overlay_lock);
	*out = o;
	return 0;
}

void repo_overlay_detach(struct repo_overlay *o)
{
	struct err err = ERR_INIT;
	struct repo *r;
	bool last;

	if (!o)
		return;
	r = o->repo;
	pthread_mutex_lock(&r->overlay_lock);
	last = !--o->refs;
	if (last)
		o->use = OVERLAY_CLOSING;
	pthread_mutex_unlock(&r->overlay_lock);
	if (!last)
		return;
	overlay_control_stop(o->control);
	if (atomic_load(&o->error) || flush_all(o, &err) < 0) {
		if (err.code)
			log_error("overlay '%s': %s", o->id, err.text);
	} else if (overlay_attached_remove(r, o->id, &err) < 0) {
		log_warning("%s", err.text);
	}
	attached_remove(o);
}

const char *repo_overlay_id(const struct repo_overlay *o)
{
	return o->id;
}
