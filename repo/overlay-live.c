// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Changes of state that survive the death of their process: the live file of a layer.
 *
 * A client that is told that its write is done, and finds the server again after it was killed, sends a flush next and takes
 * what it wrote for durable.  The data is in the page cache; its states are here, in a mapped file: the stores of a
 * killed process stay, as its writes do.  A power cut takes both, and the boot id tells.
 *
 * There are two areas.  Changes go to one; when a flush takes the pending set, the next ones go to the other; when the flush is
 * done, the first one is empty again.  Who opens the layer after a kill enters both, older first, and flushes.
 *
 * Invariants:
 *  1. A change is in the file before its request is answered, and after its data was written.
 *  2. Nothing of the file is ever synced, and nothing in it counts after another start of the kernel.
 *  3. A slot is written before the counter that covers it; a slot that is covered only grows, by one store.
 *  4. After a failed sync the file is empty: what it says of blocks may stand on data that was never written.
 *  5. A layer without its live file works: only what was not flushed is lost with its process then.
 */
#include <endian.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "repo/overlay-layer-internal.h"

#include "base/banned.h"

static uint64_t *word_at(const struct layer_live *v, uint64_t offset)
{
	return (uint64_t *)(void *)(v->map + offset);
}

static void counter_set(const struct layer_live *v, uint64_t offset, uint64_t value)
{
	__atomic_store_n(word_at(v, offset), htole64(value), __ATOMIC_RELEASE);
}

static uint64_t area_start(unsigned area)
{
	return OVERLAY_LIVE_HEADER_LEN + (uint64_t)area * LIVE_SLOTS * OVERLAY_RUN_LEN;
}

/* The boot id in binary; false if the kernel has none to tell. */
static bool boot_id(uint8_t out[OVERLAY_BOOT_LEN])
{
	cleanup_buf struct buf text = BUF_INIT;
	char digits[2 * OVERLAY_BOOT_LEN + 1];
	size_t i, n = 0;

	if (file_read_all("/proc/sys/kernel/random/boot_id", 256, &text, NULL) < 0)
		return false;
	for (i = 0; i < text.len && n < sizeof(digits) - 1; i++)
		if (text.data[i] != '-')
			digits[n++] = (char)text.data[i];
	digits[n] = 0;
	return n == sizeof(digits) - 1 && hex_decode(out, digits, OVERLAY_BOOT_LEN);
}

static bool header_now(const struct overlay_layer *l, struct overlay_live_header *h)
{
	*h = (struct overlay_live_header){ .layer = l->log.h.layer,
					   .slots = LIVE_SLOTS,
					   .size = l->size };
	str_copy(h->id, sizeof(h->id), l->log.h.id);
	return boot_id(h->boot);
}

/* --- what is left of the last process --- */

static bool is_ours(const struct overlay_layer *l, const struct buf *file)
{
	struct overlay_live_header want, have;

	return file->len >= OVERLAY_LIVE_HEADER_LEN && header_now(l, &want) &&
	       overlay_live_header_decode(file->data, &have, NULL) == 0 &&
	       memcmp(want.boot, have.boot, sizeof(have.boot)) == 0 &&
	       strcmp(want.id, have.id) == 0 && want.layer == have.layer && want.size == have.size;
}

static int enter(struct overlay_layer *l, const struct overlay_run *run, struct err *err)
{
	int r = layer_change_begin(l, 1, err);

	return r < 0 ? r : layer_change_commit(l, 1, run, 1, true, err);
}

static int enter_area(struct overlay_layer *l, const struct buf *file, unsigned area,
		      uint64_t *entered, struct err *err)
{
	uint64_t slots = get_le32(file->data + 12), i;
	uint64_t used = MIN(get_le64(file->data + OVERLAY_LIVE_USED(area)), slots);
	uint64_t start = OVERLAY_LIVE_HEADER_LEN + area * slots * OVERLAY_RUN_LEN;
	int r = 0;

	for (i = 0; r == 0 && i < used; i++) {
		uint64_t at = start + i * OVERLAY_RUN_LEN;
		struct overlay_run run;

		if (at + OVERLAY_RUN_LEN > file->len ||
		    !overlay_live_slot_get(file->data + at, l->blocks, &run))
			return err_set(err, ERR_DAMAGED, "'%s': slot %llu is none", l->live.path,
				       (unsigned long long)i);
		r = enter(l, &run, err);
		++*entered;
	}
	return r;
}

int layer_live_enter(struct overlay_layer *l, struct err *err)
{
	cleanup_buf struct buf file = BUF_INIT;
	uint64_t entered = 0;
	unsigned older;
	int r = file_read_all(l->live.path,
			      OVERLAY_LIVE_HEADER_LEN +
				      2 * (uint64_t)OVERLAY_LIVE_SLOTS_MAX * OVERLAY_RUN_LEN,
			      &file, err);

	if (r == ERR_NOT_FOUND)
		return 0;
	if (r < 0 || !is_ours(l, &file))
		return r;
	older = get_le64(file.data + OVERLAY_LIVE_AGE(0)) >
		get_le64(file.data + OVERLAY_LIVE_AGE(1));
	r = enter_area(l, &file, older, &entered, err);
	if (r == 0)
		r = enter_area(l, &file, !older, &entered, err);
	if (r == 0 && entered)
		r = overlay_layer_flush(l, err);
	if (r == 0 && entered)
		log_info(
			"overlay: %llu changes that a killed process had not flushed are kept ('%s')",
			(unsigned long long)entered, l->data_path);
	return r;
}

/* --- a new one --- */

static int make(struct overlay_layer *l, struct err *err)
{
	struct layer_live *v = &l->live;
	cleanup_free uint8_t *zeroes =
		mem_alloc(LIVE_LEN); /* room is taken now: a store cannot fail */
	struct overlay_live_header h;
	void *map;
	int r;

	if (!zeroes)
		return err_nomem(err, "a live file");
	if (!header_now(l, &h))
		return err_set(err, ERR_UNSUPPORTED, "the kernel has no boot id");
	v->fd = file_open(v->path, O_RDWR | O_CREAT, 0600, err);
	if (v->fd < 0)
		return v->fd;
	/* emptied first: what was entered must not be entered again by who comes after a half of this */
	r = file_truncate(v->fd, 0, v->path, "overlay.live.empty", err);
	if (r == 0)
		r = file_pwrite(v->fd, zeroes, LIVE_LEN, 0, v->path, "overlay.live.room", err);
	if (r < 0)
		return r;
	map = mmap(NULL, LIVE_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (map == MAP_FAILED)
		return err_set(err, ERR_UNSUPPORTED, "cannot map '%s'", v->path);
	v->map = map;
	counter_set(v, OVERLAY_LIVE_AGE(0), 1);
	overlay_live_header_encode(&h, v->map);
	return 0;
}

void layer_live_open(struct overlay_layer *l)
{
	struct err err = ERR_INIT;

	if (make(l, &err) == 0)
		return;
	log_warning("overlay: what is not flushed is lost if the server is killed: %s", err.text);
	layer_live_close(l, true);
}

void layer_live_close(struct overlay_layer *l, bool empty)
{
	struct layer_live *v = &l->live;

	if (v->map)
		munmap(v->map, LIVE_LEN);
	v->map = NULL;
	/* its room is given back; that it stays is no harm */
	if (v->fd >= 0 && empty)
		(void)file_truncate(v->fd, 0, v->path, "overlay.live.empty", NULL);
	base_cleanup_fd(&v->fd);
}

/* --- while it is attached: with the layer's lock --- */

bool layer_live_room(const struct overlay_layer *l, uint64_t changes)
{
	const struct layer_live *v = &l->live;

	return !v->map || v->used[v->area] + changes <= LIVE_SLOTS;
}

void layer_live_add(struct overlay_layer *l, const struct overlay_run *run)
{
	struct layer_live *v = &l->live;
	uint64_t words[2], at;

	if (!v->map)
		return;
	at = area_start(v->area) + v->used[v->area] * OVERLAY_RUN_LEN;
	if (v->used[v->area] && run->state == v->last.state &&
	    run->first == v->last.first + v->last.count) {
		v->last.count += run->count;
		overlay_live_slot(&v->last, words);
		__atomic_store_n(word_at(v, at - 8), words[1], __ATOMIC_RELEASE);
		return;
	}
	overlay_live_slot(run, words);
	*word_at(v, at) = words[0];
	*word_at(v, at + 8) = words[1];
	v->last = *run;
	counter_set(v, OVERLAY_LIVE_USED(v->area), ++v->used[v->area]);
}

void layer_live_turn(struct overlay_layer *l)
{
	struct layer_live *v = &l->live;

	if (!v->map)
		return;
	v->area = !v->area;
	counter_set(v, OVERLAY_LIVE_AGE(v->area), ++v->age);
}

void layer_live_flushed(struct overlay_layer *l)
{
	struct layer_live *v = &l->live;

	v->used[!v->area] = 0;
	if (v->map)
		counter_set(v, OVERLAY_LIVE_USED(!v->area), 0);
}

void layer_live_forget(struct overlay_layer *l)
{
	struct layer_live *v = &l->live;

	if (!v->map)
		return;
	counter_set(v, OVERLAY_LIVE_USED(0), 0);
	counter_set(v, OVERLAY_LIVE_USED(1), 0);
	v->used[0] = v->used[1] = 0;
}
