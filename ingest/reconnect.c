// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * A network source that broke: probe until it is back, then decide whether what comes is still the same disk.
 *
 * Invariants:
 *  1. Reading goes on in the middle only if somebody says that the source stands still (the user with --source-frozen; a
 *     source that names its own state will say so here) and what can be seen agrees: the size, and 64 chunks already read.
 *  2. Else the pass begins again, once: a second break ends the backup.  Dedup makes the second pass cheap.
 *  3. Whatever happened stands in the warnings.
 */
#include "ingest/internal.h"

#include "base/log.h"

#include "base/banned.h"

#define PROBE_EVERY_NS (5ull * 1000 * 1000 * 1000)
#define PROBE_TURN_MS 100

static int wait_until(const volatile int *stop, uint64_t when, struct err *err)
{
	int r = ingest_stopped(stop, err);

	while (r == 0 && time_mono_ns() < when) {
		time_sleep_ms(PROBE_TURN_MS);
		r = ingest_stopped(stop, err);
	}
	return r;
}

/* Until the source answers or the time is over. */
static int probe(struct disk_job *job, uint64_t deadline, uint64_t *size, struct err *err)
{
	struct source *s = job->source;
	uint64_t next = time_mono_ns();

	for (;;) {
		struct err why = ERR_INIT;
		int r = wait_until(job->spec->stop, next, err);

		if (r < 0)
			return r;
		r = s->ops->reopen(s, size, &why);
		if (r == 0)
			return 0;
		if (r != ERR_SOURCE) {
			*err = why;
			return r;
		}
		next += PROBE_EVERY_NS;
		if (next > deadline) {
			*err = why;
			err_prefix(err, "source of '%s' did not come back within %u s", job->name,
				   job->spec->reconnect_seconds);
			return ERR_SOURCE;
		}
		log_info("%s: next attempt in 5 s", why.text);
	}
}

/* 1: it is what it was (invariant 1). */
static int same_source(struct disk_job *job, uint64_t size, struct err *err)
{
	if (!job->spec->source_frozen || size != job->source->size)
		return 0;
	return pass_samples_same(&job->pass, err);
}

static int begin_again(struct disk_job *job, uint64_t size, const char *why, uint64_t at,
		       uint64_t seconds)
{
	struct source *s = job->source;

	ingest_warn(
		job->result, false,
		"disk '%s': the connection to '%s' broke at offset %llu and came back after %llu s; %s, so reading began "
		"again",
		job->name, s->where, (unsigned long long)at, (unsigned long long)seconds, why);
	if (size != s->size && job->pass.map) {
		job->pass.map = NULL;
		ingest_warn(job->result, false,
			    "disk '%s': its size is another now: the change map is not used",
			    job->name);
	}
	s->size = s->readable = job->pass.size = size;
	job->second_pass = true;
	return 1;
}

int ingest_disk_reconnect(struct disk_job *job, struct err *err)
{
	struct source *s = job->source;
	uint64_t begun = time_mono_ns(), at = job->pass.pos, size, seconds;
	uint64_t deadline = begun + (uint64_t)job->spec->reconnect_seconds * 1000 * 1000 * 1000;
	int r;

	if (!s->ops->reopen || !job->spec->reconnect_seconds)
		return ERR_SOURCE; /* err says what broke */
	if (job->second_pass)
		return err_prefix(err, "a second break, in the second pass over '%s'", job->name);
	log_warning("%s; trying to connect again", err->text);
	do {
		err_clear(err);
		r = probe(job, deadline, &size, err);
		if (r < 0)
			return r;
		r = same_source(job, size, err);
	} while (r == ERR_SOURCE && s->broken && time_mono_ns() < deadline);
	if (r < 0)
		return r;
	seconds = (time_mono_ns() - begun) / 1000000000;
	if (!job->spec->source_frozen)
		return begin_again(job, size, "nobody says that it stood still", at, seconds);
	if (r == 0)
		return begin_again(job, size, "it is not what it was", at, seconds);
	ingest_warn(
		job->result, false,
		"disk '%s': the connection to '%s' broke at offset %llu and came back unchanged after %llu s: reading went "
		"on there",
		job->name, s->where, (unsigned long long)at, (unsigned long long)seconds);
	return 0;
}
