// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The file of a state log: made, replayed, appended to, given room.  Format: livepoint-repository(5); what is synced when:
 * overlay-flush.c.
 *
 * Room is made by writing zeroes, not by preallocation: a record that overwrites blocks which are there needs no space and no
 * transaction of the file system for its sync.
 *
 * Invariants:
 *  1. Records are numbered from 1 without gap, begin at multiples of 512 bytes, and are written in their order, each after all
 *     before were synced or with them in one flush.  So a record that does not hold is either the last thing that was written, or
 *     damage; told apart by looking for a valid one behind it.
 *  2. A tail that was cut off is gone durably before anything is appended.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/file.h"
#include "repo/overlay-layer-internal.h"

#include "base/banned.h"

#define SCAN_LEN ((size_t)1 << 20)
#define RUNS_MAX (OVERLAY_ENTRIES_MAX / OVERLAY_RUN_LEN)
#define PAGE_ENTRY_LEN (8 + OVERLAY_PAGE_LEN)

void layer_log_close(struct layer_log *log)
{
	base_cleanup_fd(&log->fd);
	log->fd = -1;
	free(log->path);
	log->path = NULL;
}

/* --- making --- */

static int header_mac(const struct overlay_log_header *h, const struct codec_layer_key *key,
		      uint8_t mac[ID_LEN], struct err *err)
{
	uint8_t raw[OVERLAY_LOG_HEADER_LEN];
	overlay_log_header_encode(h, raw);
	return codec_layer_mac(key, raw, OVERLAY_LOG_HEADER_MACED, mac, err);
}

int layer_log_extend(struct layer_log *log, uint64_t size, struct err *err)
{
	static const uint8_t zeroes[64 * 1024];
	while (log->size < size) {
		size_t n = (size_t)MIN(size - log->size, sizeof(zeroes));
		int r = file_pwrite(log->fd, zeroes, n, log->size, log->path, "overlay.log.extend",
				    err);
		if (r < 0)
			return r;
		log->size += n;
	}
	return 0;
}

int layer_log_create(const char *at, const char *path, const struct overlay_log_header *h,
		     const struct codec_layer_key *key, uint64_t room, struct layer_log *out,
		     struct err *err)
{
	uint8_t raw[OVERLAY_LOG_HEADER_LEN];
	struct layer_log log = { .fd = -1,
				 .h = *h,
				 .key = key,
				 .end = OVERLAY_LOG_HEADER_LEN,
				 .size = OVERLAY_LOG_HEADER_LEN };
	random_bytes(log.h.log, sizeof(log.h.log));
	memset(log.h.mac, 0, sizeof(log.h.mac));
	int r = header_mac(&log.h, key, log.h.mac, err);
	if (r < 0)
		return r;
	log.path = str_dup(path);
	if (!log.path)
		return err_nomem(err, "a state log");
	overlay_log_header_encode(&log.h, raw);
	log.fd = file_create(at, "overlay.log.create", err);
	r = log.fd < 0 ? log.fd :
			 file_pwrite(log.fd, raw, sizeof(raw), 0, at, "overlay.log.header", err);
	if (r == 0)
		r = layer_log_extend(&log, room, err);
	if (r < 0) {
		layer_log_close(&log);
		return r;
	}
	*out = log;
	return 0;
}

/* --- replay --- */

struct replay {
	struct layer_log *log;
	struct block_table *table;
	uint8_t *buffer; /* OVERLAY_RECORD_MAX bytes */
	uint64_t size; /* of the file */
};

static int damaged(const struct replay *p, uint64_t at, const char *what, struct err *err)
{
	err_set(err, ERR_DAMAGED, "state log '%s' is damaged at offset %" PRIu64 ": %s",
		p->log->path, at, what);
	return err_object(err, "%s", p->log->path);
}

/* Reads and decodes what lies at an offset: 1, or 0 if that is no record of this log. */
static int record_at(struct replay *p, uint64_t at, struct overlay_record *rec, struct err *err)
{
	if (p->size - at < OVERLAY_SECTOR)
		return 0;
	int r = file_pread(p->log->fd, p->buffer, OVERLAY_SECTOR, at, p->log->path, err);
	if (r < 0)
		return r;
	uint64_t n = overlay_record_head(p->buffer, &p->log->h);
	if (n == 0 || n > p->size - at)
		return 0;
	r = file_pread(p->log->fd, p->buffer + OVERLAY_SECTOR, (size_t)n - OVERLAY_SECTOR,
		       at + OVERLAY_SECTOR, p->log->path, err);
	if (r < 0)
		return r;
	return overlay_record_decode(p->buffer, (size_t)n, &p->log->h, rec, NULL) == 0;
}

static int replay_records(struct replay *p, struct err *err)
{
	struct layer_log *log = p->log;
	struct overlay_record rec;
	uint8_t mac[ID_LEN];
	for (;;) {
		int r = record_at(p, log->end, &rec, err);
		if (r <= 0)
			return r;
		r = codec_layer_mac(log->key, p->buffer, rec.maced, mac, err);
		if (r < 0)
			return r;
		if (memcmp(mac, rec.mac, ID_LEN) != 0)
			return damaged(p, log->end, "a record was made by somebody without the key",
				       err);
		if (rec.number != log->last + 1)
			return damaged(p, log->end, "a record has another number than its place",
				       err);
		if (!block_table_apply(p->table, &rec))
			return err_nomem(err, "the states of a disk's blocks");
		log->last = rec.number;
		log->end += rec.size;
	}
}

/* What lies behind the last record: 0 zeroes, 1 something that is no record, ERR_DAMAGED a record. */
static int look_behind(struct replay *p, struct err *err)
{
	cleanup_free uint8_t *piece = mem_alloc(SCAN_LEN);
	struct overlay_record rec;
	int torn = 0;
	if (!piece)
		return err_nomem(err, "a state log");
	for (uint64_t at = p->log->end; at < p->size; at += SCAN_LEN) {
		size_t n = (size_t)MIN(p->size - at, (uint64_t)SCAN_LEN);
		int r = file_pread(p->log->fd, piece, n, at, p->log->path, err);
		if (r < 0)
			return r;
		if (mem_is_zero(piece, n))
			continue;
		torn = 1;
		for (size_t i = 0; i + OVERLAY_SECTOR <= n; i += OVERLAY_SECTOR) {
			if (overlay_record_head(piece + i, &p->log->h) == 0)
				continue;
			r = record_at(p, at + i, &rec, err);
			if (r < 0)
				return r;
			if (r > 0)
				return damaged(p, p->log->end,
					       "no record there, and a later one behind it", err);
		}
	}
	return torn;
}

static int check_header(const struct layer_log *log, const struct overlay_log_header *want,
			struct err *err)
{
	const struct overlay_log_header *h = &log->h;
	uint8_t mac[ID_LEN];
	if (memcmp(h->uuid, want->uuid, UUID_LEN) != 0 || strcmp(h->id, want->id) != 0 ||
	    strcmp(h->disk, want->disk) != 0 || h->size != want->size || h->layer != want->layer ||
	    h->suite != want->suite || h->epoch != want->epoch)
		return err_set(err, ERR_DAMAGED, "it is the state log of another layer");
	int r = header_mac(h, log->key, mac, err);
	if (r == 0 && memcmp(mac, h->mac, ID_LEN) != 0)
		return err_set(err, ERR_DAMAGED, "it was made by somebody without the key");
	return r;
}

/* Cuts off a torn tail. */
static int cut_tail(struct layer_log *log, struct err *err)
{
	int r = file_truncate(log->fd, log->end, log->path, "overlay.log.cut", err);
	if (r == 0)
		r = file_datasync(log->fd, log->path, "overlay.log.cut-sync", err);
	if (r == 0)
		log->size = log->end;
	return r;
}

static int replay(struct layer_log *log, const struct overlay_log_header *want, bool frozen,
		  struct block_table *table, struct err *err)
{
	cleanup_free uint8_t *buffer = mem_alloc(OVERLAY_RECORD_MAX);
	struct replay p = { .log = log, .table = table, .buffer = buffer };
	if (!buffer)
		return err_nomem(err, "a state log");
	int r = file_size(log->fd, &p.size, log->path, err);
	if (r == 0)
		r = file_pread(log->fd, buffer, OVERLAY_LOG_HEADER_LEN, 0, log->path, err);
	if (r == 0)
		r = overlay_log_header_decode(buffer, &log->h, err);
	if (r == 0)
		r = check_header(log, want, err);
	if (r < 0) {
		err_object(err, "%s", log->path);
		return err_prefix(err, "state log '%s'", log->path);
	}
	log->end = OVERLAY_LOG_HEADER_LEN;
	log->size = p.size;
	r = replay_records(&p, err);
	if (r == 0)
		r = look_behind(&p, err);
	if (r > 0 && !frozen)
		r = cut_tail(log, err);
	return r < 0 ? r : 0;
}

int layer_log_open(const char *path, const struct overlay_log_header *want,
		   const struct codec_layer_key *key, bool frozen, bool unclean,
		   struct block_table *table, struct layer_log *out, struct err *err)
{
	struct layer_log log = { .fd = -1, .key = key, .path = str_dup(path) };
	int r = 0;
	if (!log.path)
		return err_nomem(err, "a state log");
	log.fd = file_open(path, frozen ? O_RDONLY : O_RDWR, 0, err);
	if (log.fd < 0)
		r = log.fd == ERR_NOT_FOUND ? err_recode(err, ERR_DAMAGED) : log.fd;
	if (r == 0 && unclean) {
		r = file_datasync(log.fd, path, "overlay.log.open-sync", err);
		file_drop_cache(log.fd);
	}
	if (r == 0)
		r = replay(&log, want, frozen, table, err);
	if (r < 0) {
		layer_log_close(&log);
		return r;
	}
	*out = log;
	return 0;
}

/* --- appending --- */

uint64_t layer_log_room(size_t runs)
{
	uint64_t full = runs / RUNS_MAX, rest = runs % RUNS_MAX;
	return full * overlay_record_size(OVERLAY_ENTRIES_MAX) +
	       (rest ? overlay_record_size(rest * OVERLAY_RUN_LEN) : 0);
}

/* Ends the record in b and writes it. */
static int put_record(struct layer_log *log, struct buf *b, struct err *err)
{
	uint8_t mac[ID_LEN];
	size_t maced = overlay_record_end(b);
	if (b->failed)
		return err_nomem(err, "a record of a state log");
	int r = codec_layer_mac(log->key, b->data, maced, mac, err);
	if (r < 0)
		return r;
	overlay_record_close(b, mac);
	if (b->failed)
		return err_nomem(err, "a record of a state log");
	r = file_pwrite(log->fd, b->data, b->len, log->end, log->path, "overlay.log.append", err);
	if (r < 0)
		return r;
	log->last++;
	log->end += b->len;
	return 0;
}

int layer_log_append(struct layer_log *log, const struct overlay_run *runs, size_t count,
		     struct err *err)
{
	cleanup_buf struct buf b = BUF_INIT;
	while (count > 0) {
		size_t n = MIN(count, (size_t)RUNS_MAX);
		buf_reset(&b);
		overlay_record_begin(&b, OVERLAY_RUNS, log->last + 1, log->h.log);
		for (size_t i = 0; i < n; i++)
			overlay_record_run(&b, &runs[i]);
		int r = put_record(log, &b, err);
		if (r < 0)
			return r;
		runs += n;
		count -= n;
		/* one record behind a torn one would be damage: each is durable before the next */
		if (count > 0)
			r = file_datasync(log->fd, log->path, "overlay.log.sync", err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* --- a whole table: each page as runs or as it is, whichever is shorter --- */

struct table_writer {
	struct layer_log *log;
	struct overlay_run *runs; /* RUNS_MAX of them */
	size_t nruns;
	struct buf pages; /* entries of a record */
};

static int put_runs(struct table_writer *w, struct err *err)
{
	int r = layer_log_append(w->log, w->runs, w->nruns, err);
	w->nruns = 0;
	return r;
}

static int put_pages(struct table_writer *w, struct err *err)
{
	cleanup_buf struct buf b = BUF_INIT;
	if (w->pages.len == 0)
		return 0;
	overlay_record_begin(&b, OVERLAY_PAGES, w->log->last + 1, w->log->h.log);
	buf_put(&b, w->pages.data, w->pages.len);
	buf_reset(&w->pages);
	return put_record(w->log, &b, err);
}

/* Runs of a page that are not base, at most `most`: how many. */
static size_t page_runs(const uint8_t *states, uint64_t page, struct overlay_run *runs, size_t most)
{
	struct block_table one = { .blocks = OVERLAY_PAGE_BLOCKS,
				   .npages = 1,
				   .pages = &(uint8_t *){ (uint8_t *)(uintptr_t)states } };
	size_t n = 0;
	for (uint64_t i = 0, len; i < OVERLAY_PAGE_BLOCKS; i += len) {
		enum block_state state;
		len = block_table_run(&one, i, OVERLAY_PAGE_BLOCKS - i, &state);
		if (state == BLOCK_BASE)
			continue;
		if (n == most)
			return n + 1;
		runs[n++] = (struct overlay_run){ page * OVERLAY_PAGE_BLOCKS + i, len, state };
	}
	return n;
}

static int put_page(struct table_writer *w, uint64_t page, const uint8_t *states, struct err *err)
{
	struct overlay_run runs[PAGE_ENTRY_LEN / OVERLAY_RUN_LEN];
	struct pending join = { .runs = w->runs, .count = w->nruns, .cap = RUNS_MAX };
	size_t n = page_runs(states, page, runs, ARRAY_SIZE(runs));
	int r = 0;
	if (n > ARRAY_SIZE(runs)) {
		if (w->pages.len + PAGE_ENTRY_LEN > OVERLAY_ENTRIES_MAX)
			r = put_pages(w, err);
		overlay_record_page(&w->pages, page, states);
		return w->pages.failed ? err_nomem(err, "a record of a state log") : r;
	}
	if (w->nruns + n > RUNS_MAX) {
		r = put_runs(w, err);
		join.count = 0;
	}
	for (size_t i = 0; i < n; i++)
		pending_add(&join, &runs[i]);
	w->nruns = join.count;
	return r;
}

int layer_log_append_table(struct layer_log *log, uint64_t npages,
			   bool (*page)(void *opaque, uint64_t page,
					uint8_t states[OVERLAY_PAGE_LEN]),
			   void *opaque, struct err *err)
{
	cleanup_free struct overlay_run *runs = mem_alloc_array(RUNS_MAX, sizeof(*runs));
	struct table_writer w = { .log = log, .runs = runs };
	uint8_t states[OVERLAY_PAGE_LEN];
	int r = runs ? 0 : err_nomem(err, "a state log");
	for (uint64_t i = 0; r == 0 && i < npages; i++)
		if (page(opaque, i, states))
			r = put_page(&w, i, states, err);
	if (r == 0)
		r = put_runs(&w, err);
	if (r == 0)
		r = put_pages(&w, err);
	buf_release(&w.pages);
	return r;
}
