// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * One disk of a backup: prepare (source, change map), choose the method, run the pass, tell what happened.
 *
 *	no parent with this disk	full	everything is read
 *	parent, no change map		hash	everything is read and compared
 *	parent and change map		map	changed units are read, and a sample of the others
 *
 * Invariants:
 *  1. With a map, what the parent cannot vouch for counts as changed: the last chunk of either disk when it is not
 *     whole, growth, what was unreadable then, and what is known to be damaged.
 *  2. A sample that differs makes the whole disk be compared; the map is not trusted for anything any more.
 */
#include "ingest/internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/file.h"

#include "base/banned.h"

#define RANGES_NAMED 32 /* warnings about unreadable ranges of one disk */

/* --- prepare --- */

static int read_map(struct disk_job *job, struct err *err)
{
	const char *path = job->given->changed;
	struct change_map *map;
	cleanup_fd int fd = -1;
	struct stat st;
	int r;

	if (job->source->size == SIZE_UNKNOWN)
		return err_set(err, ERR_USAGE,
			       "disk '%s': a stream is read as it comes, a change map is of no use",
			       job->name);
	fd = file_open(path, O_RDONLY, 0, err);
	if (fd < 0) {
		err_prefix(err, "change map of '%s'", job->name);
		return err_recode(err, ERR_SOURCE);
	}
	/* What a producer that failed leaves; taken at its word, the point would be stale. */
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == 0) {
		err_set(err, ERR_SOURCE,
			"change map '%s' of disk '%s' is an empty file; '[]' says that nothing changed",
			path, job->name);
		return err_object(err, "%s", path);
	}
	r = change_map_new(job->source->size, job->unit, &map, err);
	if (r < 0)
		return r;
	job->map = map;
	return change_map_read(map, fd, path, job->name, err);
}

int ingest_disk_prepare(struct repo *r, const struct ingest_spec *spec,
			const struct ingest_source *given, const char *name, struct disk_job *job,
			struct err *err)
{
	struct source_options options = { .format = spec->format,
					  .allow_backing = spec->allow_backing,
					  .stop = spec->stop };
	int e;

	job->given = given;
	job->name = name;
	e = source_open(given->where, &options, &job->source, err);
	if (e < 0)
		return e;
	job->unit = MAX(repo_conf(r)->chunk_size, job->source->granule);
	return given->changed ? read_map(job, err) : 0;
}

void ingest_disk_release(struct disk_job *job)
{
	pass_release(&job->pass);
	change_map_free(job->map);
	source_close(job->source);
	memset(job, 0, sizeof(*job));
}

int ingest_disk_reopen(struct disk_job *job, const struct ingest_spec *spec,
		       struct ingest_result *result, struct err *err)
{
	struct source_options options = { .format = spec->format,
					  .allow_backing = spec->allow_backing,
					  .stop = spec->stop };
	const char *where = job->given->where;
	uint64_t size = job->source->size;
	int r;

	if (size == SIZE_UNKNOWN || where_is_nbd(where))
		return 0;
	source_close(job->source);
	job->source = NULL;
	r = source_open(where, &options, &job->source, err);
	if (r < 0)
		return r;
	if (job->source->size != size && job->map) {
		change_map_free(job->map);
		job->map = NULL;
		ingest_warn(
			result, false,
			"disk '%s': its size has changed since the start: the change map is not used",
			job->name);
	}
	return 0;
}

/* --- method --- */

static int mark_unreadable(void *opaque, const struct extent *e, struct err *err)
{
	(void)err;
	if (e->kind == EXTENT_UNREADABLE)
		change_map_add(opaque, e->start, e->length, CHANGE_DATA);
	return 0;
}

static int mark_damaged(void *opaque, uint64_t start, uint64_t length, struct err *err)
{
	struct disk_job *job = opaque;

	(void)err;
	if (start < job->source->size)
		change_map_add(job->map, start, MIN(length, job->source->size - start),
			       CHANGE_DATA);
	return 0;
}

/* Invariant 1. */
static int distrust_parent(struct disk_job *job, struct repo_disk *parent, struct err *err)
{
	uint64_t common = MIN(repo_disk_size(parent), job->source->size);
	uint64_t whole = common & ~(uint64_t)(job->unit - 1);

	int e;

	change_map_add(job->map, whole, job->source->size - whole, CHANGE_DATA);
	e = session_disk_damaged(job->session, mark_damaged, job, err);
	if (e < 0)
		return e;
	if (!repo_disk_info(parent)->unreadable_bytes)
		return 0;
	return repo_disk_extents(parent, 0, common, mark_unreadable, job->map, err);
}

static void warn_no_base(struct disk_job *job)
{
	struct repo_point *point = repo_session_parent(job->session);
	char text[POINT_TEXT_MAX];

	if (!point) {
		ingest_warn(
			job->result, false,
			"disk '%s': there is no point that the change map could be for: everything was read",
			job->name);
		return;
	}
	repo_point_text(repo_point_manifest(point), text);
	ingest_warn(job->result, false, "disk '%s' is not in %s: %severything was read", job->name,
		    text, job->map ? "the change map was not used, " : "");
}

/* Begins the disk in the session, and says how it is read. */
static int begin_disk(struct disk_job *job, const struct change_map *map, struct err *err)
{
	struct disk_spec spec = { .name = job->name,
				  .size = job->source->size,
				  .method = METHOD_FULL,
				  .source = job->source->where };
	int r = session_disk_begin(job->session, &spec, err);

	if (r < 0)
		return r;
	job->pass.parent = session_disk_parent(job->session);
	job->pass.map = job->pass.parent ? map : NULL;
	if (job->pass.parent)
		session_disk_method(job->session, job->pass.map ? METHOD_MAP : METHOD_HASH);
	return 0;
}

/* The pass from the beginning, after session_disk_restart. */
static int begin_again(struct disk_job *job, const struct change_map *map, struct err *err)
{
	int r = session_disk_restart(job->session, err);

	if (r == 0)
		r = begin_disk(job, map, err);
	if (r == 0)
		pass_rewind(&job->pass);
	return r;
}

/* --- run --- */

static int map_wrong(struct disk_job *job, struct err *err)
{
	ingest_warn(
		job->result, true,
		"disk '%s': the change map is wrong: the chunk at offset %llu changed and is not in it; the whole disk "
		"was compared",
		job->name, (unsigned long long)job->pass.wrong_offset);
	return begin_again(job, NULL, err);
}

static int run_pass(struct disk_job *job, struct err *err)
{
	for (;;) {
		int r = pass_run(&job->pass, err);

		if (r == PASS_DONE || r < 0)
			return r;
		if (r == PASS_MAP_WRONG) {
			r = map_wrong(job, err);
		} else {
			r = ingest_disk_reconnect(job, err);
			if (r == 1)
				r = begin_again(job, job->pass.map, err);
		}
		if (r < 0)
			return r;
	}
}

static void setup_pass(struct disk_job *job)
{
	struct source *s = job->source;

	job->pass.repo = job->repo;
	job->pass.session = job->session;
	job->pass.source = s;
	job->pass.disk = job->name;
	job->pass.chunk = repo_conf(job->repo)->chunk_size;
	job->pass.unit = job->unit;
	job->pass.size = s->size;
	job->pass.sample_percent = job->spec->sample_percent;
	job->pass.keep_going = job->spec->keep_going;
	job->pass.keep_samples = s->ops->reopen && job->spec->source_frozen &&
				 job->spec->reconnect_seconds;
	job->pass.progress = job->spec->progress;
	job->pass.progress_opaque = job->spec->progress_opaque;
}

/* Whether the source stood still. */
static int check_source(struct disk_job *job, struct err *err)
{
	struct err why = ERR_INIT;
	int r = job->source->ops->check ? job->source->ops->check(job->source, &why) : 0;

	if (r < 0 && !(r == ERR_SOURCE && job->spec->keep_going)) {
		*err = why;
		return r;
	}
	if (r != 0)
		ingest_warn(job->result, true, "disk '%s': %s", job->name, why.text);
	return 0;
}

static void warn_ranges(struct disk_job *job)
{
	const struct pass *p = &job->pass;
	size_t i;

	for (i = 0; i < MIN(p->nbad, (size_t)RANGES_NAMED); i++)
		ingest_warn(
			job->result, true,
			"disk '%s': %llu bytes at offset %llu could not be read and are unreadable in this point (%s)",
			job->name, (unsigned long long)(p->bad[i].end - p->bad[i].start),
			(unsigned long long)p->bad[i].start, p->bad_reason);
	if (p->nbad > RANGES_NAMED)
		ingest_warn(
			job->result, true,
			"disk '%s': %zu more ranges could not be read, %llu bytes in all (the point's extents name them)",
			job->name, p->nbad - RANGES_NAMED, (unsigned long long)p->unreadable_bytes);
}

static int finish_disk(struct disk_job *job, struct ingest_disk_result *out, int method,
		       struct err *err)
{
	const struct pass *p = &job->pass;
	int r = check_source(job, err);

	if (r < 0)
		return r;
	warn_ranges(job);
	if (job->source->note)
		ingest_warn(job->result, false, "disk '%s': %s", job->name, job->source->note);
	if (p->size % 512)
		ingest_warn(
			job->result, false,
			"disk '%s': its %llu bytes are no multiple of 512: padded with zeroes to %llu",
			job->name, (unsigned long long)p->size,
			(unsigned long long)round_up_u64(p->size, 512));
	r = session_disk_end(job->session, p->size, p->read_bytes, err);
	if (r < 0)
		return r;
	str_copy(out->name, sizeof(out->name), job->name);
	out->size = round_up_u64(p->size, 512);
	out->read_bytes = p->read_bytes;
	out->unreadable_bytes = p->unreadable_bytes;
	out->method = method;
	return 0;
}

int ingest_disk_run(struct disk_job *job, struct repo *r, struct repo_session *s,
		    const struct ingest_spec *spec, struct ingest_result *result,
		    struct ingest_disk_result *out, struct err *err)
{
	bool had_parent;
	int e;

	job->repo = r;
	job->session = s;
	job->spec = spec;
	job->result = result;
	setup_pass(job);
	e = begin_disk(job, job->map, err);
	if (e < 0)
		return e;
	had_parent = job->pass.parent;
	if (!had_parent && (job->map || spec->since))
		warn_no_base(job);
	else if (job->map)
		e = distrust_parent(job, job->pass.parent, err);
	if (e == 0)
		e = pass_begin(&job->pass, err);
	if (e == 0)
		e = job->source->size == SIZE_UNKNOWN ? pass_stream(&job->pass, err) :
							run_pass(job, err);
	if (e < 0)
		return e;
	return finish_disk(job, out,
			   job->pass.map ? METHOD_MAP :
			   had_parent	 ? METHOD_HASH :
					   METHOD_FULL,
			   err);
}
