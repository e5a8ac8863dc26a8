// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * From changes of state in memory to durable ones: room for them ahead, flush by groups, compaction, holes.
 *
 * A request that may change states announces how many (layer_change_begin), writes its data, and enters the changes in table and
 * pending set at once (layer_change_commit).  One thread at a time flushes, for all who wait: it takes the pending set, syncs
 * the data file, appends the set to the log, syncs the log, says that it is done, and then punches holes where blocks are zero.
 * Who comes while it is at work waits for the next flush, which one of those who wait makes.
 *
 * Compaction is a flush that writes a new log instead: the table as it is in memory, page by page, then the pending set that
 * is taken afterwards.  Each change of a block that a page has already seen, or not yet, is in that set or in an older record,
 * and the set is in order, so the last word on each block is that of the moment of taking; and the data file is synced after it.
 * A compaction that fails before the rename is given up: the old log has room for the set.
 *
 * Invariants:
 *  1. log_size - log_used is at least the room of the pending set and of all promised changes, each in a record of its own: an
 *     append never needs space.
 *  2. A state is in a record only if its data had been written before the fdatasync that came before the record.
 *  3. Holes are punched where the state in memory is zero, and the durable one too: no flush begins before they are punched.
 *  4. After a failed sync or append nothing is synced or appended any more.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "repo/overlay-layer-internal.h"

#include "base/banned.h"

#define PUNCH_MOST (1 * GiB / OVERLAY_BLOCK) /* blocks, while writers of them wait */
#define CHANGE_ROOM                                                                                \
	OVERLAY_SECTOR /* at most that a change adds to the room of a set, or takes alone */

int layer_failed(const struct overlay_layer *l, struct err *err)
{
	err_set(err, ERR_IO,
		"'%s' is in error since a sync failed: 'livepoint overlays --check' tells what is "
		"left of it",
		l->data_path);
	return err_object(err, "%s", l->data_path);
}

static int fail_for_ever(struct overlay_layer *l, struct err *err)
{
	if (!atomic_exchange(&l->failed, true))
		log_error("overlay: %s; it is in error from now on", err ? err->text : "sync");
	pthread_mutex_lock(&l->lock);
	layer_live_forget(l);
	pthread_mutex_unlock(&l->lock);
	return err_recode(err, ERR_IO);
}

/* --- room, and changes --- */

static uint64_t room_needed(const struct overlay_layer *l, unsigned more)
{
	return l->log_used + layer_log_room(l->pending.count) +
	       (l->promised + more) * (uint64_t)CHANGE_ROOM;
}

/* Called and returns with the lock; nobody else extends. */
static int extend_log(struct overlay_layer *l, unsigned changes, struct err *err)
{
	uint64_t need = room_needed(l, changes);
	uint64_t step = fault_number("overlay.log.step", LOG_ROOM_STEP);
	l->extending = true;
	pthread_mutex_unlock(&l->lock);
	int r = layer_log_extend(&l->log, round_up_u64(need + step, 4096), err);
	if (r == ERR_NOSPC)
		r = layer_log_extend(&l->log, round_up_u64(need, 4096), err);
	pthread_mutex_lock(&l->lock);
	l->log_size = l->log.size;
	l->extending = false;
	pthread_cond_broadcast(&l->changed);
	return r;
}

int layer_change_begin(struct overlay_layer *l, unsigned changes, struct err *err)
{
	uint64_t most = fault_number("overlay.pending", PENDING_MAX);
	int r = 0;
	pthread_mutex_lock(&l->lock);
	while (r == 0 && !atomic_load(&l->failed)) {
		if (l->pending.count >= most || !layer_live_room(l, l->promised + changes)) {
			pthread_mutex_unlock(&l->lock);
			r = overlay_layer_flush(l, err);
			pthread_mutex_lock(&l->lock);
		} else if (!pending_reserve(&l->pending,
					    l->pending.count + l->promised + changes)) {
			r = err_nomem(err, "changes of an overlay");
		} else if (room_needed(l, changes) <= l->log_size) {
			break;
		} else if (l->extending) {
			pthread_cond_wait(&l->changed, &l->lock);
		} else {
			r = extend_log(l, changes, err);
		}
	}
	if (r == 0 && atomic_load(&l->failed))
		r = layer_failed(l, err);
	if (r == 0)
		l->promised += changes;
	pthread_mutex_unlock(&l->lock);
	return r;
}

void layer_change_abort(struct overlay_layer *l, unsigned changes, bool wrote)
{
	pthread_mutex_lock(&l->lock);
	l->promised -= changes;
	l->dirty |= wrote;
	pthread_mutex_unlock(&l->lock);
}

int layer_change_commit(struct overlay_layer *l, unsigned changes, const struct overlay_run *runs,
			unsigned count, bool wrote, struct err *err)
{
	bool ready = true;
	pthread_mutex_lock(&l->lock);
	l->promised -= changes;
	l->dirty |= wrote;
	for (unsigned i = 0; ready && i < count; i++)
		ready = block_table_prepare(&l->table, runs[i].first, runs[i].count,
					    (enum block_state)runs[i].state);
	for (unsigned i = 0; ready && i < count; i++) {
		enum block_state state = (enum block_state)runs[i].state;
		if (block_table_is(&l->table, runs[i].first, runs[i].count, state))
			continue;
		block_table_set(&l->table, runs[i].first, runs[i].count, state);
		pending_add(&l->pending, &runs[i]);
		layer_live_add(l, &runs[i]);
	}
	for (unsigned i = 0; ready && i < count; i++)
		block_table_tidy(&l->table, runs[i].first, runs[i].count);
	pthread_mutex_unlock(&l->lock);
	return ready ? 0 : err_nomem(err, "the states of a disk's blocks");
}

/* --- compaction --- */

static bool table_page(void *opaque, uint64_t page, uint8_t states[OVERLAY_PAGE_LEN])
{
	struct overlay_layer *l = opaque;
	pthread_mutex_lock(&l->lock);
	bool some = block_table_page(&l->table, page, states);
	pthread_mutex_unlock(&l->lock);
	return some;
}

static char *fresh_path(const struct overlay_layer *l)
{
	return str_printf("%s.tmp", l->log_path);
}

static void compact_give_up(struct overlay_layer *l, struct layer_log *fresh, const struct err *why)
{
	cleanup_free char *path = fresh_path(l);
	log_warning("overlay: a state log was not compacted: %s", why->text);
	if (path && fresh->fd >= 0)
		(void)file_unlink(path, "overlay.compact.remove", NULL);
	layer_log_close(fresh);
	l->compact_at = l->log.end * 2;
}

/* Makes the new log, with all states of now; not synced.  Without one fresh->fd is -1. */
static void compact_begin(struct overlay_layer *l, struct layer_log *fresh)
{
	struct err err = ERR_INIT;
	cleanup_free char *path = fresh_path(l);
	int r = path ? file_unlink(path, "overlay.compact.remove", &err) :
		       err_nomem(&err, "a state log");
	if (r >= 0)
		r = layer_log_create(path, l->log_path, &l->log.h, l->key, 0, fresh, &err);
	if (r >= 0)
		r = layer_log_append_table(fresh, l->table.npages, table_page, l, &err);
	if (r < 0)
		compact_give_up(l, fresh, &err);
}

/* With what was taken, and room for what may still come: nobody extends the old log meanwhile.  1: it is the log now; 0: given
 * up. */
static int compact_end(struct overlay_layer *l, struct layer_log *fresh, uint64_t room,
		       struct err *err)
{
	struct err why = ERR_INIT;
	cleanup_free char *path = fresh_path(l);
	int r = path ? layer_log_append(fresh, l->taken.runs, l->taken.count, &why) :
		       err_nomem(&why, "a state log");
	fresh->size = MAX(fresh->size, fresh->end);
	if (r == 0)
		r = layer_log_extend(fresh, fresh->end + room, &why);
	if (r == 0)
		r = file_datasync(fresh->fd, path, "overlay.compact.sync", &why);
	if (r == 0)
		r = file_rename_over(path, l->log_path, "overlay.compact.rename", &why);
	if (r < 0) {
		compact_give_up(l, fresh, &why);
		return 0;
	}
	r = dir_sync(l->folder, "overlay.compact.dirsync", err);
	if (r < 0) {
		layer_log_close(fresh);
		return r;
	}
	layer_log_close(&l->log);
	l->log = *fresh;
	l->compact_at = MAX(fault_number("overlay.log.compact", LOG_COMPACT),
			    LOG_COMPACT_TIMES * fresh->end);
	return 1;
}

/* --- flush --- */

/* Takes the pending set: 1, 0 if there is nothing to do. */
static int take(struct overlay_layer *l, const struct layer_log *fresh, uint64_t *room,
		struct err *err)
{
	int r = 1;
	pthread_mutex_lock(&l->lock);
	if (fresh->fd >= 0) {
		while (l->extending)
			pthread_cond_wait(&l->changed, &l->lock);
		l->extending = true; /* until the log is changed */
	}
	if (!l->dirty && l->pending.count == 0 && fresh->fd < 0) {
		r = 0;
	} else if (!pending_reserve(&l->taken, l->promised)) {
		r = err_nomem(err, "changes of an overlay");
	} else {
		struct pending empty = l->taken;
		empty.count = 0;
		l->taken = l->pending;
		l->pending = empty;
		l->log_used += layer_log_room(l->taken.count);
		l->dirty = false;
		layer_live_turn(l);
	}
	*room = l->log_size - l->log_used;
	pthread_mutex_unlock(&l->lock);
	return r;
}

/* The log's position as those who make room see it; ends what take() began. */
static void settle(struct overlay_layer *l, bool compacted)
{
	pthread_mutex_lock(&l->lock);
	if (compacted) {
		l->log_used = l->log.end;
		l->log_size = l->log.size;
	}
	l->extending = false;
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
}

static int write_taken(struct overlay_layer *l, struct layer_log *fresh, uint64_t room,
		       struct err *err)
{
	int r = file_datasync(l->data_fd, l->data_path, "overlay.data.sync", err);
	if (r < 0)
		return r;
	if (fresh->fd >= 0) {
		r = compact_end(l, fresh, room, err);
		if (r != 0)
			return r;
	}
	if (l->taken.count == 0)
		return 0;
	r = layer_log_append(&l->log, l->taken.runs, l->taken.count, err);
	return r < 0 ? r : file_datasync(l->log.fd, l->log_path, "overlay.log.sync", err);
}

static int flush_once(struct overlay_layer *l, struct err *err)
{
	struct layer_log fresh = { .fd = -1 };
	uint64_t room;
	if (l->log.end >= l->compact_at)
		compact_begin(l, &fresh);
	bool compacting = fresh.fd >= 0;
	int r = take(l, &fresh, &room, err);
	if (r <= 0) { /* with a new log there is always something to do: r < 0 */
		if (compacting) {
			compact_give_up(l, &fresh, err);
			settle(l, false);
		}
		return r;
	}
	r = write_taken(l, &fresh, room, err);
	if (compacting)
		settle(l, r == 1);
	return r < 0 ? fail_for_ever(l, err) : 0;
}

/* --- holes --- */

/* Makes a hole of the first blocks of [first, end) that are zero; returns where to go on. */
static uint64_t punch_some(struct overlay_layer *l, uint64_t first, uint64_t end)
{
	enum block_state state;
	struct block_range range;
	struct err err = ERR_INIT;
	pthread_mutex_lock(&l->lock);
	uint64_t n = block_table_run(&l->table, first, MIN(end - first, PUNCH_MOST), &state);
	pthread_mutex_unlock(&l->lock);
	if (state != BLOCK_ZERO)
		return first + n;
	range_take(&l->ranges, &range, first, n, true);
	pthread_mutex_lock(&l->lock);
	n = block_table_run(&l->table, first, n, &state);
	pthread_mutex_unlock(&l->lock);
	if (state == BLOCK_ZERO) {
		uint64_t at = first * OVERLAY_BLOCK;
		int r = file_punch(l->data_fd, at, MIN(n * OVERLAY_BLOCK, l->size - at),
				   l->data_path, "overlay.data.punch", &err);
		/* space is not given back: nothing else */
		if (r < 0)
			log_warning("overlay: %s", err.text);
		if (r <= 0)
			atomic_store(&l->no_punch, true);
	}
	range_drop(&l->ranges, &range);
	return first + n;
}

static void punch(struct overlay_layer *l)
{
	for (size_t i = 0; i < l->taken.count; i++) {
		const struct overlay_run *run = &l->taken.runs[i];
		uint64_t at = run->first, end = run->first + run->count;
		while (run->state == BLOCK_ZERO && at < end && !atomic_load(&l->no_punch))
			at = punch_some(l, at, end);
	}
}

/* Makes flush number `number`; called and returns with the lock. */
static int lead(struct overlay_layer *l, uint64_t number, struct err *err)
{
	l->flushing = true;
	l->flush_begun = number;
	pthread_mutex_unlock(&l->lock);
	int r = flush_once(l, err);
	pthread_mutex_lock(&l->lock);
	if (r == 0) {
		l->flush_done = number;
		layer_live_flushed(l);
		pthread_cond_broadcast(&l->changed);
		pthread_mutex_unlock(&l->lock);
		punch(l);
		pthread_mutex_lock(&l->lock);
	}
	l->taken.count = 0;
	l->flushing = false;
	pthread_cond_broadcast(&l->changed);
	return r;
}

int overlay_layer_flush(struct overlay_layer *l, struct err *err)
{
	int r = 0;
	if (l->frozen)
		return 0;
	pthread_mutex_lock(&l->lock);
	uint64_t want = l->flush_begun + 1;
	while (r == 0 && l->flush_done < want && !atomic_load(&l->failed)) {
		if (l->flushing)
			pthread_cond_wait(&l->changed, &l->lock);
		else
			r = lead(l, l->flush_begun + 1, err);
	}
	if (r == 0 && l->flush_done < want)
		r = layer_failed(l, err);
	pthread_mutex_unlock(&l->lock);
	return r;
}
