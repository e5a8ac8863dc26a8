// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * One layer of one disk of an overlay: made, opened, read, written.
 *
 * A request takes its range of blocks (writes, zero, trim: alone; reads of data: with other readers), so that nobody reads a half
 * written sector or a block that is being punched, and two requests for parts of one block never copy it up at once.  A read
 * of base or zero takes nothing: it gives what was there before a write that is still under way.
 *
 * Invariants (beside those of repo/overlay.h):
 *  1. A block in state data is in the data file as a whole: a request that covers a part of a block in another state writes the
 *     rest too, from below or zeroes.
 *  2. A change of state is entered after its data was written, before the request is answered, while its range is held.
 *  3. Nothing waits for I/O with a mutex held.
 */
#include <fcntl.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/file.h"
#include "repo/overlay-layer-internal.h"

#include "base/banned.h"

#define CHECK_PIECE ((size_t)1 << 20)

/* --- making and opening --- */

static void log_header_of(const struct overlay_layer_spec *spec, struct overlay_log_header *h)
{
	*h = (struct overlay_log_header){ .size = spec->size,
					  .layer = spec->number,
					  .suite = spec->header->suite,
					  .epoch = spec->header->epoch };
	memcpy(h->uuid, spec->header->uuid, UUID_LEN);
	str_copy(h->id, sizeof(h->id), spec->header->id);
	str_copy(h->disk, sizeof(h->disk), spec->disk);
}

/* Paths and key; nothing is opened. */
static int layer_new(const struct overlay_layer_spec *spec, struct overlay_layer **out,
		     struct err *err)
{
	struct overlay_layer *l = mem_alloc(sizeof(*l));
	if (!l)
		return err_nomem(err, "an overlay's layer");
	l->data_fd = l->log.fd = l->live.fd = -1;
	pthread_mutex_init(&l->lock, NULL);
	pthread_mutex_init(&l->slot_lock, NULL);
	pthread_cond_init(&l->changed, NULL);
	range_lock_init(&l->ranges);
	l->size = spec->size;
	l->blocks = div_round_up(spec->size, OVERLAY_BLOCK);
	l->folder = str_dup(spec->folder);
	l->data_path = str_printf("%s/%s.%u.data", spec->folder, spec->disk, spec->number);
	l->log_path = str_printf("%s/%s.%u.log", spec->folder, spec->disk, spec->number);
	l->live.path = str_printf("%s/%s.%u.live", spec->folder, spec->disk, spec->number);
	int r = l->folder && l->data_path && l->log_path && l->live.path ?
			0 :
			err_nomem(err, "an overlay's layer");
	if (r == 0 && spec->header->suite != codec_keys_suite(spec->keys)->number)
		r = err_set(err, ERR_DAMAGED, "overlay of cipher suite %u in a repository of '%s'",
			    spec->header->suite, codec_keys_suite(spec->keys)->name);
	if (r == 0)
		r = codec_layer_key_new(spec->keys, spec->header->salt, spec->header->epoch,
					spec->disk, spec->number, &l->key, err);
	if (r < 0) {
		overlay_layer_close(l);
		return r;
	}
	*out = l;
	return 0;
}

void overlay_layer_close(struct overlay_layer *l)
{
	if (!l)
		return;
	layer_live_close(l, l->pending.count == 0 && !atomic_load(&l->failed));
	free(l->live.path);
	base_cleanup_fd(&l->data_fd);
	layer_log_close(&l->log);
	layer_slots_free(l);
	block_table_release(&l->table);
	free(l->pending.runs);
	free(l->taken.runs);
	codec_layer_key_free(l->key);
	range_lock_release(&l->ranges);
	pthread_cond_destroy(&l->changed);
	pthread_mutex_destroy(&l->slot_lock);
	pthread_mutex_destroy(&l->lock);
	free(l->folder);
	free(l->data_path);
	free(l->log_path);
	free(l);
}

int overlay_layer_create(const struct overlay_layer_spec *spec, struct err *err)
{
	cleanup_ptr(overlay_layer) l = NULL;
	struct overlay_log_header h;
	int r = layer_new(spec, &l, err);
	if (r < 0)
		return r;
	l->data_fd = file_create(l->data_path, "overlay.data.create", err);
	r = l->data_fd < 0 ?
		    l->data_fd :
		    file_truncate(l->data_fd, l->size, l->data_path, "overlay.data.size", err);
	if (r == 0)
		r = file_datasync(l->data_fd, l->data_path, "overlay.data.create-sync", err);
	log_header_of(spec, &h);
	if (r == 0)
		r = layer_log_create(l->log_path, l->log_path, &h, l->key, LOG_ROOM_FIRST, &l->log,
				     err);
	return r < 0 ? r : file_datasync(l->log.fd, l->log_path, "overlay.log.create-sync", err);
}

static int open_data(struct overlay_layer *l, bool unclean, struct err *err)
{
	uint64_t size;
	int r = 0;
	l->data_fd = file_open(l->data_path, l->frozen ? O_RDONLY : O_RDWR, 0, err);
	if (l->data_fd < 0)
		return l->data_fd == ERR_NOT_FOUND ? err_recode(err, ERR_DAMAGED) : l->data_fd;
	if (unclean) {
		/* what the page cache shows may never reach the device: after this it has, or this says so */
		r = file_datasync(l->data_fd, l->data_path, "overlay.data.open-sync", err);
		file_drop_cache(l->data_fd);
	}
	if (r == 0)
		r = file_size(l->data_fd, &size, l->data_path, err);
	if (r == 0 && size != l->size) {
		err_set(err, ERR_DAMAGED, "'%s' has %llu bytes, %llu expected", l->data_path,
			(unsigned long long)size, (unsigned long long)l->size);
		r = err_object(err, "%s", l->data_path);
	}
	return r;
}

/* A compaction that did not come to its rename. */
static int remove_fresh(const struct overlay_layer *l, struct err *err)
{
	cleanup_free char *path = str_printf("%s.tmp", l->log_path);
	if (!path)
		return err_nomem(err, "an overlay's layer");
	int r = file_unlink(path, "overlay.compact.remove", err);
	return r < 0 ? r : 0;
}

static int layer_open(const struct overlay_layer_spec *spec, bool frozen, bool unclean,
		      struct overlay_layer **out, struct err *err)
{
	cleanup_ptr(overlay_layer) l = NULL;
	struct overlay_log_header want;
	int r = layer_new(spec, &l, err);
	if (r < 0)
		return r;
	l->frozen = frozen;
	log_header_of(spec, &want);
	r = open_data(l, unclean, err);
	if (r == 0 && !frozen)
		r = remove_fresh(l, err);
	if (r == 0)
		r = block_table_init(&l->table, l->blocks, err);
	if (r == 0)
		r = layer_log_open(l->log_path, &want, l->key, frozen, unclean, &l->table, &l->log,
				   err);
	if (r < 0)
		return r;
	l->log_used = l->log.end;
	l->log_size = MAX(l->log.size, l->log.end);
	l->log.size = l->log_size;
	l->compact_at = fault_number("overlay.log.compact", LOG_COMPACT);
	if (!frozen) {
		r = layer_live_enter(l, err);
		if (r < 0)
			return r;
		layer_live_open(l);
	}
	*out = steal_ptr(l);
	return 0;
}

int overlay_layer_open(const struct overlay_layer_spec *spec, bool frozen, bool unclean,
		       struct overlay_layer **out, struct err *err)
{
	cleanup_free char *live = NULL;
	int r = layer_open(spec, frozen, unclean, out, err);

	if (r != ERR_IO || !unclean)
		return r;
	/* What a dead holder had written and not flushed did not reach the device, and the kernel says so only once: the next sync
	 * would succeed.  So its list must not be believed then, and the overlay is in error. */
	live = str_printf("%s/%s.%u.live", spec->folder, spec->disk, spec->number);
	if (live)
		(void)file_unlink(live, "overlay.live.lost", NULL);
	return err_recode(err, ERR_DAMAGED);
}

bool overlay_layer_failed(const struct overlay_layer *l)
{
	return atomic_load(&l->failed);
}

int overlay_layer_bytes(const struct overlay_layer *l, uint64_t *bytes, struct err *err)
{
	struct overlay_layer *own = (struct overlay_layer *)(uintptr_t)l;
	uint64_t data, log = 0;
	int r = file_allocated(l->data_fd, &data, l->data_path, err);
	pthread_mutex_lock(&own->lock); /* a compaction changes the log's descriptor */
	log = l->log_size;
	pthread_mutex_unlock(&own->lock);
	if (r == 0)
		*bytes = data + log;
	return r;
}

/* --- reading --- */

static int check_bounds(const struct overlay_layer *l, uint64_t n, uint64_t offset, struct err *err)
{
	if (offset <= l->size && n <= l->size - offset)
		return 0;
	return err_set(err, ERR_INVALID,
		       "%llu bytes at offset %llu are not within the disk of %llu bytes",
		       (unsigned long long)n, (unsigned long long)offset,
		       (unsigned long long)l->size);
}

/* State at offset, and how many of n bytes have it. */
static enum block_state run_at(struct overlay_layer *l, uint64_t offset, uint64_t n, uint64_t *len)
{
	uint64_t first = offset / OVERLAY_BLOCK,
		 most = (offset + n - 1) / OVERLAY_BLOCK - first + 1;
	enum block_state state;
	pthread_mutex_lock(&l->lock);
	uint64_t blocks = block_table_run(&l->table, first, most, &state);
	pthread_mutex_unlock(&l->lock);
	*len = MIN(n, (first + blocks) * OVERLAY_BLOCK - offset);
	return state;
}

int overlay_layer_runs(struct overlay_layer *l, uint64_t offset, uint64_t n,
		       int (*fn)(void *opaque, enum block_state state, uint64_t start,
				 uint64_t length, struct err *err),
		       void *opaque, struct err *err)
{
	int r = check_bounds(l, n, offset, err);
	while (r == 0 && n > 0) {
		uint64_t len;
		enum block_state state = run_at(l, offset, n, &len);
		r = fn(opaque, state, offset, len, err);
		offset += len;
		n -= len;
	}
	return r < 0 ? r : 0;
}

/* Up to n bytes of data; *len: how many, 0 if the state is another one by now. */
static int read_data(struct overlay_layer *l, void *dst, uint64_t n, uint64_t offset, uint64_t *len,
		     struct err *err)
{
	struct block_range range;
	uint64_t first = offset / OVERLAY_BLOCK;
	int r = 0;
	range_take(&l->ranges, &range, first, (offset + n - 1) / OVERLAY_BLOCK - first + 1, false);
	if (run_at(l, offset, n, len) != BLOCK_DATA)
		*len = 0;
	else if (atomic_load(&l->failed))
		r = layer_failed(l, err);
	else
		r = layer_data_read(l, dst, (size_t)*len, offset, err);
	range_drop(&l->ranges, &range);
	return r;
}

int overlay_layer_read(struct overlay_layer *l, const struct overlay_below *below, void *dst,
		       size_t n, uint64_t offset, struct err *err)
{
	uint8_t *p = dst;
	int r = check_bounds(l, n, offset, err);
	while (r == 0 && n > 0) {
		uint64_t len;
		switch (run_at(l, offset, n, &len)) {
		case BLOCK_BASE:
			r = below->read(below->opaque, p, (size_t)len, offset, err);
			break;
		case BLOCK_ZERO:
			memset(p, 0, (size_t)len);
			break;
		case BLOCK_DATA:
			r = read_data(l, p, len, offset, &len, err);
			break;
		}
		p += len;
		offset += len;
		n -= (size_t)len;
	}
	return r;
}

struct checker {
	struct overlay_layer *l;
	uint8_t *buffer;
};

static int check_run(void *opaque, enum block_state state, uint64_t start, uint64_t length,
		     struct err *err)
{
	struct checker *c = opaque;
	int r = 0;
	while (r == 0 && state == BLOCK_DATA && length > 0) {
		uint64_t n = MIN(length, CHECK_PIECE);
		r = file_pread(c->l->data_fd, c->buffer, (size_t)n, start, c->l->data_path, err);
		start += n;
		length -= n;
	}
	return r;
}

int overlay_layer_check(struct overlay_layer *l, struct err *err)
{
	cleanup_free uint8_t *buffer = mem_alloc(CHECK_PIECE);
	struct checker c = { .l = l, .buffer = buffer };
	if (!buffer)
		return err_nomem(err, "the check of an overlay");
	file_drop_cache(l->data_fd);
	return overlay_layer_runs(l, 0, l->size, check_run, &c, err);
}

/* --- writing --- */

/* Begins a request that may change so many times: takes its blocks. */
static int change_start(struct overlay_layer *l, unsigned changes, uint64_t n, uint64_t offset,
			struct block_range *range, struct err *err)
{
	uint64_t first = offset / OVERLAY_BLOCK;
	int r = check_bounds(l, n, offset, err);
	if (r == 0 && l->frozen)
		r = err_set(err, ERR_READONLY, "'%s' is frozen", l->data_path);
	if (r == 0)
		r = layer_change_begin(l, changes, err);
	if (r == 0)
		range_take(&l->ranges, range, first, (offset + n - 1) / OVERLAY_BLOCK - first + 1,
			   true);
	return r;
}

static uint64_t block_end(const struct overlay_layer *l, uint64_t block)
{
	return MIN((block + 1) * OVERLAY_BLOCK, l->size);
}

static enum block_state state_of(struct overlay_layer *l, uint64_t block)
{
	pthread_mutex_lock(&l->lock);
	enum block_state state = block_table_get(&l->table, block);
	pthread_mutex_unlock(&l->lock);
	return state;
}

/* Writes bytes [from, to) of one block, and whatever else of it has to be written with them.  src NULL: zeroes. */
static int write_part(struct overlay_layer *l, const struct overlay_below *below, const void *src,
		      uint64_t from, uint64_t to, struct err *err)
{
	uint64_t unit = codec_layer_key_encrypts(l->key) ? CODEC_UNIT : 1;
	uint64_t block = from / OVERLAY_BLOCK, start = block * OVERLAY_BLOCK;
	uint64_t end = block_end(l, block);
	enum block_state state = state_of(l, block);
	uint8_t whole[OVERLAY_BLOCK] = { 0 };
	int r = 0;
	if (state == BLOCK_DATA) {
		start = from / unit * unit;
		end = round_up_u64(to, unit);
		if (start < from || to < end)
			r = layer_data_read(l, whole, (size_t)(end - start), start, err);
	} else if (state == BLOCK_BASE && (start < from || to < end)) {
		r = below->read(below->opaque, whole, (size_t)(end - start), start, err);
	}
	if (r < 0)
		return r;
	if (src)
		memcpy(whole + (from - start), src, (size_t)(to - from));
	else
		memset(whole + (from - start), 0, (size_t)(to - from));
	return layer_data_write(l, whole, (size_t)(end - start), start, err);
}

/* Can a part of this block be written as it is? */
static bool part_is_plain(struct overlay_layer *l, uint64_t from, uint64_t to)
{
	uint64_t unit = codec_layer_key_encrypts(l->key) ? CODEC_UNIT : 1;
	if (from % OVERLAY_BLOCK == 0 && to == block_end(l, from / OVERLAY_BLOCK))
		return true;
	return from % unit == 0 && to % unit == 0 &&
	       state_of(l, from / OVERLAY_BLOCK) == BLOCK_DATA;
}

/* [offset, end): the parts of its first and last block that need more than its own bytes, and the rest in one piece. */
static int write_range(struct overlay_layer *l, const struct overlay_below *below,
		       const uint8_t *src, uint64_t offset, uint64_t end, struct err *err)
{
	uint64_t first_end = MIN(end, block_end(l, offset / OVERLAY_BLOCK));
	uint64_t last_start = MAX(first_end, (end - 1) / OVERLAY_BLOCK * OVERLAY_BLOCK);
	uint64_t from = offset, to = end;
	int r = 0;
	if (!part_is_plain(l, offset, first_end)) {
		r = write_part(l, below, src, offset, first_end, err);
		from = first_end;
	}
	if (r == 0 && last_start < end && !part_is_plain(l, last_start, end)) {
		r = write_part(l, below, src + (last_start - offset), last_start, end, err);
		to = last_start;
	}
	if (r == 0 && from < to)
		r = layer_data_write(l, src + (from - offset), (size_t)(to - from), from, err);
	return r;
}

int overlay_layer_write(struct overlay_layer *l, const struct overlay_below *below, const void *src,
			size_t n, uint64_t offset, struct err *err)
{
	struct block_range range;
	if (n == 0)
		return 0;
	int r = change_start(l, 1, n, offset, &range, err);
	if (r < 0)
		return r;
	r = write_range(l, below, src, offset, offset + n, err);
	if (r < 0) {
		layer_change_abort(l, 1, true);
	} else {
		const struct overlay_run run = { range.first, range.count, BLOCK_DATA };
		r = layer_change_commit(l, 1, &run, 1, true, err);
	}
	range_drop(&l->ranges, &range);
	return r;
}

/* The whole blocks of a range: [*first, returned). */
static uint64_t whole_blocks(const struct overlay_layer *l, uint64_t offset, uint64_t end,
			     uint64_t *first)
{
	*first = div_round_up(offset, OVERLAY_BLOCK);
	return end == l->size ? l->blocks : end / OVERLAY_BLOCK;
}

/* One edge of a range of zeroes: adds its run if it had to be written. */
static int zero_part(struct overlay_layer *l, const struct overlay_below *below, uint64_t from,
		     uint64_t to, struct overlay_run *runs, unsigned *count, struct err *err)
{
	uint64_t block = from / OVERLAY_BLOCK;
	if (from >= to || state_of(l, block) == BLOCK_ZERO)
		return 0;
	int r = write_part(l, below, NULL, from, to, err);
	if (r == 0)
		runs[(*count)++] = (struct overlay_run){ block, 1, BLOCK_DATA };
	return r;
}

static int zero_range(struct overlay_layer *l, const struct overlay_below *below, uint64_t offset,
		      uint64_t end, struct overlay_run *runs, unsigned *count, struct err *err)
{
	uint64_t first, last = whole_blocks(l, offset, end, &first);
	if (first > last) /* within one block */
		return zero_part(l, below, offset, end, runs, count, err);
	int r = zero_part(l, below, offset, MIN(end, first * OVERLAY_BLOCK), runs, count, err);
	if (r == 0 && last < l->blocks)
		r = zero_part(l, below, last * OVERLAY_BLOCK, end, runs, count, err);
	if (r == 0 && first < last)
		runs[(*count)++] = (struct overlay_run){ first, last - first, BLOCK_ZERO };
	return r;
}

int overlay_layer_zero(struct overlay_layer *l, const struct overlay_below *below, uint64_t n,
		       uint64_t offset, struct err *err)
{
	struct overlay_run runs[3];
	struct block_range range;
	unsigned count = 0;
	if (n == 0)
		return 0;
	int r = change_start(l, 3, n, offset, &range, err);
	if (r < 0)
		return r;
	r = zero_range(l, below, offset, offset + n, runs, &count, err);
	if (r < 0)
		layer_change_abort(l, 3, true);
	else
		r = layer_change_commit(l, 3, runs, count, true, err);
	range_drop(&l->ranges, &range);
	return r;
}

int overlay_layer_trim(struct overlay_layer *l, uint64_t n, uint64_t offset, struct err *err)
{
	struct block_range range;
	uint64_t first, last;
	int r = check_bounds(l, n, offset, err);
	if (r < 0 || n == 0)
		return r;
	last = whole_blocks(l, offset, offset + n, &first);
	if (first >= last)
		return 0;
	r = change_start(l, 1, MIN(last * OVERLAY_BLOCK, l->size) - first * OVERLAY_BLOCK,
			 first * OVERLAY_BLOCK, &range, err);
	if (r < 0)
		return r;
	const struct overlay_run run = { first, last - first, BLOCK_ZERO };
	r = layer_change_commit(l, 1, &run, 1, false, err);
	range_drop(&l->ranges, &range);
	return r;
}
