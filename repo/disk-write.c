/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One disk of a session: ranges in, in order, through the pool, into the map.
 *
 * 1. Ranges are submitted and applied in ascending order without gap; the queue keeps that order.
 * 2. Buffers come from a fixed set: when all are under way, the caller's thread applies the oldest job first. That is the
 *    back-pressure, and the bound of memory.
 * 3. Which chunk is stored first is decided here, in order: packs do not depend on the number of workers.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "repo/session-internal.h"

#include "base/banned.h"

int session_stopped(const struct repo_session *s, struct err *err)
{
	int code = s->stop ? *s->stop : 0;

	return code ? err_set(err, code, "%s", err_code_sentence(code)) : 0;
}

/* --- jobs and their buffers --- */

static void job_free(struct chunk_job *j)
{
	if (!j)
		return;
	free(j->buffer);
	free(j->packed);
	free(j->parents);
	free(j->out);
	free(j);
}

static struct chunk_job *job_new(struct repo_session *s)
{
	const unsigned chunks = SESSION_BUFFER / s->repo->conf.chunk_size;
	struct chunk_job *j = mem_alloc(sizeof(*j));

	if (!j)
		return NULL;
	j->session = s;
	j->job.run = chunk_job_run;
	/* Sources with O_DIRECT want pages. */
	if (posix_memalign((void **)&j->buffer, 4096, SESSION_BUFFER) != 0)
		j->buffer = NULL;
	j->packed = mem_realloc_array(NULL, SESSION_BUFFER, 1);
	j->parents = mem_alloc_array(MAX(chunks, 1u), sizeof(*j->parents));
	j->out = mem_alloc_array(MAX(chunks, 1u), sizeof(*j->out));
	if (!j->buffer || !j->packed || !j->parents || !j->out) {
		job_free(j);
		return NULL;
	}
	return j;
}

int session_jobs_make(struct repo_session *s, struct err *err)
{
	s->njobs = 2 * MAX(pool_threads(s->repo->pool), 1u) + 4;
	s->all_jobs = mem_alloc_array(s->njobs, sizeof(struct chunk_job *));
	if (!s->all_jobs)
		return err_nomem(err, "session buffers");
	for (unsigned i = 0; i < s->njobs; i++) {
		struct chunk_job *j = job_new(s);

		if (!j)
			return err_nomem(err, "session buffers");
		s->all_jobs[i] = j;
		j->next = s->free_jobs;
		s->free_jobs = j;
	}
	return queue_new(s->repo->pool, s->njobs, &s->chunks, err);
}

void session_jobs_free(struct repo_session *s)
{
	queue_free(s->chunks);
	s->chunks = NULL;
	for (unsigned i = 0; i < s->njobs && s->all_jobs; i++)
		job_free(s->all_jobs[i]);
	free(s->all_jobs);
	s->all_jobs = NULL;
}

static void job_put(struct repo_session *s, struct chunk_job *j)
{
	j->next = s->free_jobs;
	s->free_jobs = j;
}

/* --- applying what comes out of the queue --- */

static int apply_new(struct repo_session *s, const struct chunk_out *o, uint64_t *locator,
		     struct err *err)
{
	struct store_append a = {
		.type = OBJECT_CHUNK,
		.id = o->id,
		.plain_len = s->repo->conf.chunk_size,
		.codec = o->codec,
		.level = s->level,
		.xxh3 = o->xxh3,
		.payload = o->payload,
		.n = o->codec == CODEC_RAW ? s->repo->conf.chunk_size : o->n,
	};
	int r;

	*locator = id_table_find(&s->ids, o->id);
	if (*locator == LOCATOR_NONE)
		*locator = o->locator;
	if (*locator != LOCATOR_NONE) {
		s->counters.chunks_index++;
		return 0;
	}
	r = session_append(s, PACK_DATA, &a, locator, err);
	s->counters.chunks_new += r == 0;
	return r;
}

static int apply_chunk(struct repo_session *s, const struct chunk_out *o, struct err *err)
{
	uint64_t locator = o->locator;
	int r = 0;

	switch (o->result) {
	case CHUNK_HOLE:
		s->counters.chunks_zero++;
		return map_put(s, LOCATOR_NONE, NULL, err);
	case CHUNK_PARENT:
		s->counters.chunks_parent++;
		break;
	case CHUNK_INDEX:
		s->counters.chunks_index++;
		if (!usable_is_own(&s->usable, locator))
			r = slot_set_add(&s->reused, locator, err);
		break;
	case CHUNK_NEW:
		r = apply_new(s, o, &locator, err);
		break;
	case CHUNK_UNREADABLE:
		return map_put(s, LOCATOR_UNREADABLE, NULL, err);
	}
	return r < 0 ? r : map_put(s, locator, o->id, err);
}

static int apply(struct repo_session *s, struct chunk_job *j, struct err *err)
{
	int r = 0;

	if (j->err.code) {
		if (err)
			*err = j->err;
		r = j->err.code;
	} else if (j->kind == JOB_CHUNKS) {
		for (unsigned i = 0; i < j->count && r == 0; i++)
			r = apply_chunk(s, &j->out[i], err);
	} else {
		r = map_fill(s, j->kind, j->count, err);
	}
	s->disk.done += j->count;
	job_put(s, j);
	if (r < 0)
		s->failed = true;
	return r;
}

static int checkpoint_due(struct repo_session *s, struct err *err)
{
	int r = session_collect(s, false, err);

	if (r == 0 && s->nfinished_data &&
	    (s->nfinished_data >= CHECKPOINT_PACKS ||
	     time_mono_ns() - s->checkpoint_ns >= CHECKPOINT_NS))
		r = session_checkpoint(s, err);
	if (r < 0)
		s->failed = true;
	return r;
}

int disk_drain(struct repo_session *s, struct err *err)
{
	struct pool_job *job;

	while ((job = queue_pop(s->chunks))) {
		int r = apply(s, container_of(job, struct chunk_job, job), err);

		if (r < 0)
			return r;
	}
	return 0;
}

void disk_discard(struct repo_session *s)
{
	struct pool_job *job;

	while (s->chunks && (job = queue_pop(s->chunks)))
		job_put(s, container_of(job, struct chunk_job, job));
}

/* A free job: by applying the oldest ones if need be. */
static int job_get(struct repo_session *s, struct chunk_job **out, struct err *err)
{
	struct pool_job *job;
	int r = s->failed ? err_set(err, ERR_INTERNAL, "the session has failed before") :
			    session_stopped(s, err);

	if (r < 0)
		return r;
	while ((job = s->free_jobs ? queue_pop_ready(s->chunks) : queue_pop(s->chunks))) {
		r = apply(s, container_of(job, struct chunk_job, job), err);
		if (r < 0)
			return r;
	}
	r = checkpoint_due(s, err);
	if (r < 0)
		return r;
	if (!s->free_jobs)
		return err_set(err, ERR_INTERNAL, "all session buffers are with the caller");
	*out = s->free_jobs;
	s->free_jobs = (*out)->next;
	return 0;
}

int session_buffer(struct repo_session *s, uint8_t **buffer, struct err *err)
{
	struct chunk_job *j;
	int r = job_get(s, &j, err);

	if (r < 0)
		return r;
	j->next = s->handed;
	s->handed = j;
	*buffer = j->buffer;
	return 0;
}

/* The job whose buffer the caller holds. */
static struct chunk_job *handed_take(struct repo_session *s, const uint8_t *buffer)
{
	for (struct chunk_job **at = &s->handed; *at; at = &(*at)->next) {
		struct chunk_job *j = *at;

		if (j->buffer == buffer) {
			*at = j->next;
			return j;
		}
	}
	return NULL;
}

void session_buffer_put(struct repo_session *s, uint8_t *buffer)
{
	struct chunk_job *j = handed_take(s, buffer);

	if (j)
		job_put(s, j);
}

/* --- a disk --- */

static int find_parent(struct repo_session *s, struct err *err)
{
	const struct manifest *m;

	s->disk.parent = NULL;
	if (!s->parent)
		return 0;
	m = repo_point_manifest(s->parent);
	for (size_t i = 0; i < m->ndisks; i++)
		if (!strcmp(m->disks[i].name, s->disk.name) &&
		    m->disks[i].chunk_size == s->repo->conf.chunk_size)
			return repo_disk_open(s->parent, s->disk.name, &s->disk.parent, err);
	return 0;
}

static void disk_release(struct repo_session *s)
{
	map_release(&s->disk.map);
	repo_disk_close(s->disk.parent);
	free(s->disk.source);
	memset(&s->disk, 0, sizeof(s->disk));
}

int session_disk_begin(struct repo_session *s, const struct disk_spec *spec, struct err *err)
{
	uint64_t chunks, leaves;
	uint32_t pages;
	int r;

	if (s->disk.open)
		return err_set(err, ERR_INTERNAL, "disk '%s' is not ended", s->disk.name);
	if (!disk_name_valid(spec->name))
		return err_set(err, ERR_INVALID, "'%s' is no DISK (1 to 64 of A-Z a-z 0-9 . _ -)",
			       spec->name);
	for (size_t i = 0; i < s->ndisks; i++)
		if (!strcmp(s->disks[i].name, spec->name))
			return err_set(err, ERR_INVALID, "disk '%s' is named twice", spec->name);
	if (s->ndisks == POINT_DISKS_MAX)
		return err_set(err, ERR_TOO_BIG, "more than %u disks", POINT_DISKS_MAX);
	memset(&s->disk, 0, sizeof(s->disk));
	s->disk.size = UINT64_MAX;
	if (spec->size != UINT64_MAX) {
		if (spec->size > INT64_MAX - 512)
			return err_set(err, ERR_TOO_BIG, "disk '%s' of %" PRIu64 " bytes",
				       spec->name, spec->size);
		s->disk.source_size = spec->size;
		s->disk.size = round_up_u64(spec->size, 512);
		if (!map_geometry(s->disk.size, s->repo->conf.chunk_size, &chunks, &leaves, &pages))
			return err_set(err, ERR_TOO_BIG,
				       "disk '%s' of %" PRIu64
				       " bytes is too big for chunks of %u bytes",
				       spec->name, spec->size, s->repo->conf.chunk_size);
	}
	str_copy(s->disk.name, sizeof(s->disk.name), spec->name);
	s->disk.method = spec->method;
	if (spec->source && !(s->disk.source = str_dup(spec->source)))
		return err_nomem(err, "disk");
	r = find_parent(s, err);
	if (r == 0)
		r = map_begin(s, err);
	if (r < 0) {
		disk_release(s);
		return r;
	}
	s->disk.open = true;
	return 0;
}

struct repo_disk *session_disk_parent(struct repo_session *s)
{
	return s->disk.parent;
}

void session_disk_method(struct repo_session *s, int method)
{
	s->disk.method = method;
}

/* Checks order and grid; fills the number of chunks. */
static int check_range(struct repo_session *s, uint64_t offset, uint64_t n, uint64_t *count,
		       struct err *err)
{
	const uint32_t cs = s->repo->conf.chunk_size;
	uint64_t end;

	if (!s->disk.open)
		return err_set(err, ERR_INTERNAL, "no disk is begun");
	if (offset != s->disk.position * cs || add_overflow(offset, n, &end))
		return err_set(err, ERR_INTERNAL,
			       "disk '%s': range at %" PRIu64 " instead of %" PRIu64, s->disk.name,
			       offset, s->disk.position * cs);
	if (s->disk.size != UINT64_MAX && end > s->disk.size)
		return err_set(err, ERR_INTERNAL, "disk '%s': range beyond its end", s->disk.name);
	if (n % cs && s->disk.size != UINT64_MAX && end != s->disk.size &&
	    end != s->disk.source_size)
		return err_set(err, ERR_INTERNAL,
			       "disk '%s': range of %" PRIu64 " bytes is off the grid",
			       s->disk.name, n);
	*count = div_round_up(n, cs);
	return 0;
}

/* The parent's locators, which the worker compares with. */
static void fill_parents(struct repo_session *s, struct chunk_job *j, struct err *err)
{
	uint64_t have;

	memset(j->parents, 0, j->count * sizeof(*j->parents));
	if (!s->disk.parent || j->first >= s->disk.parent->chunks)
		return;
	have = MIN(j->count, s->disk.parent->chunks - j->first);
	if (disk_locators(s->disk.parent, j->first, (unsigned)have, j->parents, err) < 0) {
		/* A damaged map of the parent: everything below it counts as different, which heals it. */
		log_warning("the parent's map cannot be read, its chunks count as changed: %s",
			    err ? err->text : "");
		err_clear(err);
		memset(j->parents, 0, j->count * sizeof(*j->parents));
	}
}

static void submit(struct repo_session *s, struct chunk_job *j)
{
	s->disk.position += j->count;
	queue_push(s->chunks, &j->job);
}

int session_disk_write(struct repo_session *s, uint8_t *buffer, uint64_t offset, size_t n,
		       struct err *err)
{
	const uint32_t cs = s->repo->conf.chunk_size;
	struct chunk_job *j = handed_take(s, buffer);
	uint64_t count;
	int r;

	if (!j)
		return err_set(err, ERR_INTERNAL, "a buffer that is not the session's");
	r = n <= SESSION_BUFFER ? check_range(s, offset, n, &count, err) : ERR_INTERNAL;
	if (r < 0 || !n) {
		job_put(s, j);
		return r;
	}
	memset(j->buffer + n, 0, count * cs - n);
	j->kind = JOB_CHUNKS;
	j->first = s->disk.position;
	j->count = count;
	fill_parents(s, j, err);
	submit(s, j);
	return 0;
}

static int range_job(struct repo_session *s, enum job_kind kind, uint64_t offset, uint64_t n,
		     struct err *err)
{
	struct chunk_job *j;
	uint64_t count;
	int r = check_range(s, offset, n, &count, err);

	if (r < 0 || !n)
		return r;
	r = job_get(s, &j, err);
	if (r < 0)
		return r;
	j->kind = kind;
	j->first = s->disk.position;
	j->count = count;
	submit(s, j);
	return 0;
}

int session_disk_hole(struct repo_session *s, uint64_t offset, uint64_t n, struct err *err)
{
	return range_job(s, JOB_HOLE, offset, n, err);
}

int session_disk_unreadable(struct repo_session *s, uint64_t offset, uint64_t n, struct err *err)
{
	return range_job(s, JOB_UNREADABLE, offset, n, err);
}

int session_disk_unchanged(struct repo_session *s, uint64_t offset, uint64_t n, struct err *err)
{
	const uint32_t cs = s->repo->conf.chunk_size;
	uint64_t end = div_round_up(offset + n, cs) * cs;

	if (!s->disk.parent)
		return err_set(err, ERR_INTERNAL, "disk '%s' has no parent", s->disk.name);
	/* The last chunk of either disk may be cut differently: only if both end at the same byte is it the same. */
	if (end > MIN(s->disk.parent->info->size, s->disk.size) &&
	    s->disk.parent->info->size != s->disk.size)
		return err_set(err, ERR_INTERNAL,
			       "disk '%s': range beyond the parent's whole chunks", s->disk.name);
	return range_job(s, JOB_UNCHANGED, offset, n, err);
}

int session_disk_end(struct repo_session *s, uint64_t size, uint64_t read_bytes, struct err *err)
{
	const uint32_t cs = s->repo->conf.chunk_size;
	struct manifest_disk *disks, *d;
	int r;

	if (!s->disk.open)
		return err_set(err, ERR_INTERNAL, "no disk is begun");
	if (s->disk.size == UINT64_MAX) {
		s->disk.source_size = size;
		s->disk.size = round_up_u64(size, 512);
	}
	if (s->disk.position != div_round_up(s->disk.size, cs))
		return err_set(err, ERR_INTERNAL, "disk '%s' ends at chunk %" PRIu64 " of %" PRIu64,
			       s->disk.name, s->disk.position, div_round_up(s->disk.size, cs));
	r = disk_drain(s, err);
	if (r < 0)
		return r;
	disks = mem_realloc_array(s->disks, s->ndisks + 1, sizeof(*disks));
	if (!disks)
		return err_nomem(err, "disk");
	s->disks = disks;
	d = &disks[s->ndisks];
	memset(d, 0, sizeof(*d));
	r = map_end(s, s->disk.size, &d->root, err);
	if (r < 0) {
		s->failed = true;
		return r;
	}
	str_copy(d->name, sizeof(d->name), s->disk.name);
	d->size = s->disk.size;
	d->source_size = s->disk.source_size;
	d->chunk_size = cs;
	d->method = s->disk.method;
	d->source = s->disk.source;
	s->disk.source = NULL;
	d->read_bytes = read_bytes;
	d->unreadable_bytes = MIN(s->disk.unreadable * cs, s->disk.size);
	s->counters.read_bytes += read_bytes;
	s->ndisks++;
	disk_release(s);
	return 0;
}

int session_disk_restart(struct repo_session *s, struct err *err)
{
	if (!s->disk.open)
		return err_set(err, ERR_INTERNAL, "no disk is begun");
	while (s->handed)
		session_buffer_put(s, s->handed->buffer);
	/* What is under way is applied, so that its chunks are found again; the map made of it is dropped. */
	if (disk_drain(s, err) < 0)
		return err ? err->code : ERR_FAILED;
	disk_release(s);
	return 0;
}
