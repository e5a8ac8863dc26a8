// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Learned prefetch (repo/trace.h): recording, storing and playing of boot traces.
 *
 * One table has each chunk that the guest has read or the player brought, with two bits.  The player is a job that brings a
 * batch and hands itself in again; when as much lies ahead of the guest as may, it stops, and the guest's next read of a chunk
 * that was brought starts it again.  A batch is a part of the trace in the order of reading; within it the chunks are read in
 * the order in which they lie in the packs.
 *
 * Invariants:
 *  1. t->lock is held for memory work only; the player's job and the store's run without it.
 *  2. `ahead` is the number of chunks that were brought and not read.
 *  3. What was recorded is written once: when the time or the bytes are over, or at the end.
 */
#include <stdlib.h>

#include "base/file.h"
#include "base/log.h"
#include "format/sidefile.h"
#include "repo/internal.h"
#include "repo/trace.h"

#include "base/banned.h"

#define BATCH_CHUNKS 16u /* brought by one run of the job */
#define SORT_CHUNKS 512u /* of the trace, that are put in the order of the packs */
#define STORED_MIN 16u /* chunks: a shorter trace says nothing */
#define NS 1000000000ull

enum { READ = 1, BROUGHT = 2 };
struct seen {
	uint64_t chunk; /* + 1; 0: free */
	unsigned bits;
};

struct place {
	uint64_t chunk, locator;
};

struct repo_trace {
	struct repo_disk *disk;
	struct repo *repo;
	struct pool_job job; /* the player's */
	struct trace played; /* immutable while it is played */

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t idle; /* signalled when the job has ended */
	bool playing; /* the job is handed in or runs */
	bool ended;
	size_t next; /* of played: what is brought next, in parts of SORT_CHUNKS */
	struct place *part; /* the part at work, sorted; SORT_CHUNKS */
	size_t part_count, part_next;
	uint64_t ahead, ahead_most; /* chunks */

	struct seen *table; /* open addressing, a power of two */
	size_t cap, used;
	struct trace record; /* chunks: room for record_most */
	size_t record_most;
	uint64_t until_ns; /* 0: nothing was read yet */
	bool recording, storing;
	struct pool_job store_job;
};

/* --- the table --- */

static struct seen *seen_slot(struct seen *table, size_t cap, uint64_t chunk)
{
	/* Fibonacci hashing (Knuth, TAOCP 3, 6.4) */
	size_t i = (size_t)((chunk + 1) * 0x9e3779b97f4a7c15u >> 20) & (cap - 1);

	while (table[i].chunk && table[i].chunk != chunk + 1)
		i = (i + 1) & (cap - 1);
	return &table[i];
}

static bool seen_grow(struct repo_trace *t)
{
	size_t cap = t->cap ? t->cap * 2 : 1024;
	struct seen *table = mem_alloc_array(cap, sizeof(*table));

	if (!table)
		return false;
	for (size_t i = 0; i < t->cap; i++)
		if (t->table[i].chunk)
			*seen_slot(table, cap, t->table[i].chunk - 1) = t->table[i];
	free(t->table);
	t->table = table;
	t->cap = cap;
	return true;
}

/* Sets the bit; returns the bits that were set before, or both when there is no memory: nothing is done then. */
static unsigned seen_mark(struct repo_trace *t, uint64_t chunk, unsigned bit)
{
	struct seen *s;
	unsigned before;

	if (t->used * 2 >= t->cap && !seen_grow(t))
		return READ | BROUGHT;
	s = seen_slot(t->table, t->cap, chunk);
	if (!s->chunk) {
		s->chunk = chunk + 1;
		t->used++;
	}
	before = s->bits;
	s->bits |= bit;
	return before;
}

/* --- the file --- */

static char *trace_path(struct repo *r, const char *name, const char *disk)
{
	return str_printf("%s/traces/%s~%s.trace", r->path, name, disk);
}

/* Fills *out; ERR_NOT_FOUND if there is none. */
static int trace_load(struct repo_trace *t, struct trace *out, struct err *err)
{
	const char *name = t->disk->point->m->name, *disk = t->disk->info->name;
	cleanup_free char *path = trace_path(t->repo, name, disk);
	cleanup_buf struct buf payload = BUF_INIT;
	int code = path ? 0 : err_nomem(err, "path of a boot trace");

	if (code == 0)
		code = sidefile_read(t->repo, SIDEFILE_TRACE, path, &payload, err);
	if (code == 0)
		code = trace_decode(payload.data, payload.len, out, err);
	if (code < 0)
		return code;
	if (strcmp(out->name, name) != 0 || strcmp(out->disk, disk) != 0) {
		trace_release(out);
		return err_set(err, ERR_DAMAGED, "'%s': the boot trace of another disk", path);
	}
	return 0;
}

static int trace_write(struct repo_trace *t, const struct trace *record, struct err *err)
{
	cleanup_free char *path = trace_path(t->repo, record->name, record->disk);
	cleanup_free char *folder = str_printf("%s/traces", t->repo->path);
	cleanup_buf struct buf payload = BUF_INIT;
	int code = trace_encode(record, &payload, err);

	if (code == 0 && (!path || !folder))
		code = err_nomem(err, "path of a boot trace");
	return code < 0 ? code :
			  sidefile_write(t->repo, SIDEFILE_TRACE, folder, path, &payload, err);
}

/* --- recording --- */

static void store_run(struct pool_job *job, void *ctx)
{
	struct repo_trace *t = container_of(job, struct repo_trace, store_job);
	struct err err = ERR_INIT;

	(void)ctx;
	/* The record is complete: nobody adds to it any more. */
	if (t->record.count >= STORED_MIN && t->record.count >= t->played.count / 2 &&
	    trace_write(t, &t->record, &err) < 0)
		log_warning("the boot trace of %s/%s was not kept: %s", t->record.name,
			    t->record.disk, err.text);
	pthread_mutex_lock(&t->lock);
	t->storing = false;
	pthread_cond_broadcast(&t->idle);
	pthread_mutex_unlock(&t->lock);
}

/* Under the lock: is this the end of recording?  Then the caller hands in the store's job. */
static bool record_over(struct repo_trace *t)
{
	if (!t->recording || (t->record.count < t->record_most && time_mono_ns() < t->until_ns))
		return false;
	t->recording = false;
	t->storing = true;
	return true;
}

/* Under the lock. */
static void note_chunk(struct repo_trace *t, uint64_t chunk)
{
	unsigned before = seen_mark(t, chunk, READ);

	if (before & READ)
		return;
	if (before & BROUGHT)
		t->ahead--;
	if (t->recording && t->record.count < t->record_most)
		t->record.chunks[t->record.count++] = chunk;
}

/* --- playing --- */

static int place_compare(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	return x->locator < y->locator ? -1 : x->locator > y->locator;
}

/* The next part of the trace in the order of the packs.  Job only. */
static void part_fill(struct repo_trace *t)
{
	t->part_count = t->part_next = 0;
	while (t->part_count == 0 && t->next < t->played.count) {
		size_t end = MIN(t->next + SORT_CHUNKS, t->played.count);

		for (; t->next < end; t->next++) {
			struct place *p = &t->part[t->part_count];

			p->chunk = t->played.chunks[t->next];
			if (p->chunk < t->disk->chunks &&
			    disk_locators(t->disk, p->chunk, 1, &p->locator, NULL) == 0 &&
			    p->locator != LOCATOR_NONE && p->locator != LOCATOR_UNREADABLE)
				t->part_count++;
		}
		qsort(t->part, t->part_count, sizeof(*t->part), place_compare);
		for (size_t i = 0; i < t->part_count; i++)
			store_records_willneed(t->repo->store, t->part[i].locator, 1);
	}
}

/* Fills batch with what the guest has not read yet, and counts it as ahead. */
static unsigned batch_take(struct repo_trace *t, uint64_t batch[BATCH_CHUNKS])
{
	unsigned n = 0;

	pthread_mutex_lock(&t->lock);
	while (n < BATCH_CHUNKS && t->part_next < t->part_count && !t->ended &&
	       t->ahead < t->ahead_most) {
		const struct place *p = &t->part[t->part_next++];

		if (seen_mark(t, p->chunk, BROUGHT) == 0) {
			t->ahead++;
			batch[n++] = p->locator;
		}
	}
	pthread_mutex_unlock(&t->lock);
	return n;
}

/* Is there more to bring just now?  If not, the job has ended. */
static bool play_more(struct repo_trace *t)
{
	bool more;

	pthread_mutex_lock(&t->lock);
	more = !t->ended && t->ahead < t->ahead_most &&
	       (t->part_next < t->part_count || t->next < t->played.count);
	if (!more) {
		t->playing = false;
		pthread_cond_broadcast(&t->idle);
	}
	pthread_mutex_unlock(&t->lock);
	return more;
}

static void play_run(struct pool_job *job, void *ctx)
{
	struct repo_trace *t = container_of(job, struct repo_trace, job);
	struct repo_worker *w = ctx;
	uint64_t batch[BATCH_CHUNKS];
	struct cache_item *item;
	unsigned n;

	if (t->part_next == t->part_count)
		part_fill(t);
	n = batch_take(t, batch);
	for (unsigned i = 0; w && i < n; i++)
		if (!cache_has(t->repo->chunks, batch[i]) &&
		    chunk_get(t->repo, w->reader, batch[i], t->disk->chunk_size, &item, NULL) == 0)
			cache_put(t->repo->chunks, item);
	if (play_more(t))
		pool_submit(t->repo->pool, &t->job);
}

/* Under the lock: is the player to be started?  Then the caller hands it in. */
static bool play_wanted(struct repo_trace *t)
{
	if (t->playing || t->ended || t->ahead > t->ahead_most / 2 ||
	    (t->part_next == t->part_count && t->next == t->played.count))
		return false;
	t->playing = true;
	return true;
}

/* --- the face --- */

void repo_trace_note(struct repo_trace *t, uint64_t offset, uint64_t n)
{
	uint64_t chunk, last;
	bool play, store;

	if (!t || !n)
		return;
	chunk = offset / t->disk->chunk_size;
	last = (offset + n - 1) / t->disk->chunk_size;
	pthread_mutex_lock(&t->lock);
	if (!t->until_ns)
		t->until_ns = time_mono_ns() + TRACE_SECONDS * NS;
	if (t->recording || t->ahead)
		for (; chunk <= last; chunk++)
			note_chunk(t, chunk);
	store = record_over(t);
	play = play_wanted(t);
	pthread_mutex_unlock(&t->lock);
	if (play)
		pool_submit(t->repo->pool, &t->job);
	if (store)
		pool_submit(t->repo->pool, &t->store_job);
}

static void trace_free(struct repo_trace *t)
{
	trace_release(&t->played);
	trace_release(&t->record);
	free(t->part);
	free(t->table);
	pthread_cond_destroy(&t->idle);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

static void record_prepare(struct repo_trace *t, bool record)
{
	const struct repo_disk *d = t->disk;

	t->record_most = MIN(TRACE_BYTES / d->chunk_size, (uint64_t)TRACE_CHUNKS_MAX);
	t->record = (struct trace){ .size = d->info->size,
				    .chunk_size = d->chunk_size,
				    .time = time_now() };
	str_copy(t->record.name, sizeof(t->record.name), d->point->m->name);
	str_copy(t->record.disk, sizeof(t->record.disk), d->info->name);
	if (record && t->repo->pinnable)
		t->record.chunks = mem_alloc_array(t->record_most, sizeof(*t->record.chunks));
	t->recording = t->record.chunks != NULL;
}

static void play_prepare(struct repo_trace *t)
{
	struct err err = ERR_INIT;
	int code = trace_load(t, &t->played, &err);

	if (code < 0 && code != ERR_NOT_FOUND)
		log_warning("the boot trace of %s/%s is of no use: %s", t->disk->point->m->name,
			    t->disk->info->name, err.text);
	if (t->played.count && t->played.chunk_size != t->disk->chunk_size)
		trace_release(&t->played);
	t->part = mem_alloc_array(SORT_CHUNKS, sizeof(*t->part));
	if (!t->part)
		trace_release(&t->played);
	t->ahead_most = cache_limit(t->repo->chunks) / 2 / t->disk->chunk_size;
}

struct repo_trace *repo_trace_start(struct repo_disk *d, bool record)
{
	const char *no = getenv("LIVEPOINT_NO_TRACE");
	struct repo_trace *t;

	if ((no && *no) || !pool_threads(d->point->repo->pool))
		return NULL;
	t = mem_alloc(sizeof(*t));
	if (!t)
		return NULL;
	t->disk = d;
	t->repo = d->point->repo;
	t->job.run = play_run;
	t->store_job.run = store_run;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->idle, NULL);
	record_prepare(t, record);
	play_prepare(t);
	if (!t->recording && !t->played.count) {
		trace_free(t);
		return NULL;
	}
	t->playing = t->played.count > 0;
	if (t->playing)
		pool_submit(t->repo->pool, &t->job);
	return t;
}

void repo_trace_end(struct repo_trace *t)
{
	bool store;

	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	t->ended = true;
	store = t->recording && t->record.count > 0;
	t->recording = false;
	t->storing |= store;
	pthread_mutex_unlock(&t->lock);
	if (store)
		store_run(&t->store_job, NULL);
	pthread_mutex_lock(&t->lock);
	while (t->playing || t->storing)
		pthread_cond_wait(&t->idle, &t->lock);
	pthread_mutex_unlock(&t->lock);
	trace_free(t);
}
