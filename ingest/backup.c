// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * A backup: sources in, a point out.  See ingest/ingest.h.
 *
 * Order: names, files to keep, sources and change maps first, for what is wrong with them costs nothing yet; then the session
 * (which locks the NAME and chooses the parent); the files, for they are small and may fail; the disks one after the other;
 * publish.
 *
 * Invariants:
 *  1. Nothing is published unless every disk went through; with keep_going its unreadable ranges are named in the point.
 *  2. Warnings of a backup that failed go to the log: there is no result that could hold them.
 */
#include "ingest/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"

#include "base/banned.h"

#define CLOCK_SLACK 60 /* seconds */

/* Of one backup. */
struct backup {
	struct repo *repo;
	const struct ingest_spec *spec;
	char (*names)[DISK_NAME_MAX_LEN + 1]; /* owned */
	struct disk_job *jobs; /* owned */
	size_t njobs; /* prepared ones */
	int *config_fds; /* owned; of the spec's files */
	size_t nconfigs; /* open ones */
	struct ingest_result result; /* owned until it is given away */
};

static void run_release(struct backup *run)
{
	size_t i;

	for (i = 0; i < run->njobs; i++)
		ingest_disk_release(&run->jobs[i]);
	for (i = 0; i < run->nconfigs; i++)
		base_cleanup_fd(&run->config_fds[i]);
	free(run->config_fds);
	free(run->jobs);
	free(run->names);
	for (i = 0; i < run->result.nwarnings; i++)
		log_warning("%s", run->result.warnings[i]); /* invariant 2 */
	ingest_result_release(&run->result);
}

static int check_spec(const struct ingest_spec *spec, struct err *err)
{
	size_t i, streams = 0;

	if (!name_valid(spec->name)) {
		err_set(err, ERR_USAGE,
			"a name is 1 to %d of A-Z a-z 0-9 . _ - and does not begin with . or -: this one cannot be used",
			NAME_MAX_LEN);
		return ERR_USAGE;
	}
	if (!(spec->sample_percent >= 0 && spec->sample_percent <= 100))
		return err_set(err, ERR_USAGE, "a sample is 0 to 100 percent");
	for (i = 0; i < spec->nsources; i++) {
		streams += strcmp(spec->sources[i].where, "-") == 0;
		if (spec->full && spec->sources[i].changed)
			return err_set(err, ERR_USAGE,
				       "a full backup reads everything: it takes no change map");
	}
	if (streams > 1)
		return err_set(err, ERR_USAGE, "standard input can be one disk only");
	if (spec->full && spec->since)
		return err_set(err, ERR_USAGE, "a full backup is compared with no point");
	return 0;
}

static int check_config(const struct ingest_spec *spec, size_t i, struct err *err)
{
	const char *name = spec->configs[i].name;
	size_t k;

	if (!config_name_valid(name))
		return err_set(err, ERR_USAGE,
			       "--config: '%.80s' cannot be a name: 1 to %d of A-Z a-z 0-9 . _ -, "
			       "not starting with . or -",
			       name, CONFIG_NAME_MAX_LEN);
	for (k = 0; k < i; k++)
		if (strcmp(spec->configs[k].name, name) == 0)
			return err_set(err, ERR_USAGE, "--config: '%s' is given twice", name);
	return 0;
}

static int open_config(const struct ingest_config *c, int *out, struct err *err)
{
	cleanup_fd int fd = file_open(c->path, O_RDONLY, 0, err);
	struct stat st;

	if (fd < 0) {
		err_prefix(err, "--config %s", c->name);
		return err_recode(err, ERR_SOURCE);
	}
	if (fstat(fd, &st) < 0)
		return err_set_errno(err, ERR_SOURCE, errno, "--config %s: '%s'", c->name, c->path);
	if (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode))
		return err_set(err, ERR_SOURCE, "--config %s: '%s' is neither a file nor a pipe",
			       c->name, c->path);
	if (S_ISREG(st.st_mode) && st.st_size > CONFIG_BYTES_MAX)
		return err_set(err, ERR_TOO_BIG,
			       "--config %s: '%s' has %lld bytes; at most %u MiB are kept", c->name,
			       c->path, (long long)st.st_size, CONFIG_BYTES_MAX >> 20);
	*out = fd;
	fd = -1;
	return 0;
}

static int open_configs(struct backup *run, struct err *err)
{
	const struct ingest_spec *spec = run->spec;
	size_t i;
	int r = 0;

	if (spec->nconfigs > POINT_CONFIGS_MAX)
		return err_set(err, ERR_USAGE, "--config: at most %d files", POINT_CONFIGS_MAX);
	run->config_fds = mem_alloc_array(spec->nconfigs + 1, sizeof(*run->config_fds));
	if (!run->config_fds)
		return err_nomem(err, "a backup");
	for (i = 0; i < spec->nconfigs && r == 0; i++)
		r = check_config(spec, i, err);
	for (i = 0; i < spec->nconfigs && r == 0; i++) {
		r = open_config(&spec->configs[i], &run->config_fds[i], err);
		run->nconfigs += r == 0;
	}
	return r;
}

static int keep_configs(struct backup *run, struct repo_session *session, struct err *err)
{
	const struct ingest_config *c = run->spec->configs;
	size_t i;
	int r = 0;

	for (i = 0; i < run->nconfigs && r == 0; i++) {
		r = repo_session_config_fd(session, c[i].name, run->config_fds[i], c[i].path, err);
		if (r < 0 && r != ERR_INTERRUPTED && r != ERR_TERMINATED)
			err_prefix(err, "--config %s", c[i].name);
	}
	return r;
}

static int prepare(struct backup *run, struct err *err)
{
	const struct ingest_spec *spec = run->spec;
	int r = check_spec(spec, err);
	size_t i;

	if (r == 0)
		r = open_configs(run, err);
	if (r < 0)
		return r;
	if (repo_conf(run->repo)->chunk_size > SESSION_BUFFER)
		return err_set(
			err, ERR_UNSUPPORTED,
			"the repository's chunks of %u bytes are more than this version can write",
			repo_conf(run->repo)->chunk_size);
	run->names = mem_alloc_array(MAX(spec->nsources, (size_t)1), sizeof(*run->names));
	run->jobs = mem_alloc_array(MAX(spec->nsources, (size_t)1), sizeof(*run->jobs));
	run->result.disks =
		mem_alloc_array(MAX(spec->nsources, (size_t)1), sizeof(*run->result.disks));
	if (!run->names || !run->jobs || !run->result.disks)
		return err_nomem(err, "a backup");
	r = ingest_disk_names(spec->sources, spec->nsources, run->names, err);
	for (i = 0; r == 0 && i < spec->nsources; i++) {
		run->njobs = i + 1;
		r = ingest_disk_prepare(run->repo, spec, &spec->sources[i], run->names[i],
					&run->jobs[i], err);
	}
	return r;
}

/* Disks of the parent that are not backed up any more: worth a word, for it may be a slip. */
static void warn_removed(struct backup *run, struct repo_session *session)
{
	struct repo_point *parent = repo_session_parent(session);
	const struct manifest *m = parent ? repo_point_manifest(parent) : NULL;
	char text[POINT_TEXT_MAX];
	size_t i, k;

	for (i = 0; m && i < m->ndisks; i++) {
		for (k = 0; k < run->njobs; k++)
			if (strcmp(m->disks[i].name, run->jobs[k].name) == 0)
				break;
		if (k < run->njobs)
			continue;
		repo_point_text(m, text);
		ingest_warn(&run->result, false, "disk '%s' of %s is not in this backup",
			    m->disks[i].name, text);
	}
}

/* `latest` and the parent go by publish sequence, so nothing breaks; but keep rules and people go by time. */
static void warn_clock(struct backup *run, struct repo_session *session)
{
	struct repo_point *parent = repo_session_parent(session);
	int64_t now = time_now(), time = run->spec->time ? run->spec->time : now;
	char text[POINT_TEXT_MAX], stamp[TIME_TEXT_MAX];

	time_format(stamp, time);
	if (time > now + 86400)
		ingest_warn(&run->result, false,
			    "the time of this point, %s, is more than a day in the future", stamp);
	/* Publication moves a time to a free second: backups that follow at once are no sign of a wrong clock. */
	if (!parent || time + CLOCK_SLACK >= repo_point_manifest(parent)->time)
		return;
	repo_point_text(repo_point_manifest(parent), text);
	ingest_warn(&run->result, false,
		    "the time of this point, %s, is before that of %s: is the clock right?", stamp,
		    text);
}

/* What happened to a file while we waited for another backup is no change while it was read, and QEMU's helpers have
 * looked into their images before. */
static int reopen_sources(struct backup *run, struct err *err)
{
	size_t i;
	int r = 0;

	for (i = 0; i < run->njobs && r == 0; i++)
		r = ingest_disk_reopen(&run->jobs[i], run->spec, &run->result, err);
	return r;
}

static int run_disks(struct backup *run, struct repo_session *session, struct err *err)
{
	size_t i;

	for (i = 0; i < run->njobs; i++) {
		int r = ingest_disk_run(&run->jobs[i], run->repo, session, run->spec, &run->result,
					&run->result.disks[i], err);

		if (r < 0) {
			/* A stop is no disk's fault. */
			if (r != ERR_INTERRUPTED && r != ERR_TERMINATED)
				err_prefix(err, "disk '%s'", run->jobs[i].name);
			return r;
		}
		run->result.ndisks = i + 1;
	}
	return 0;
}

static int publish(struct backup *run, struct repo_session *session, struct err *err)
{
	const struct ingest_spec *spec = run->spec;
	struct publish_spec p = { .time = spec->time,
				  .consistency = spec->consistency ? spec->consistency :
								     CONSISTENCY_CRASH,
				  .labels = spec->labels,
				  .nlabels = spec->nlabels };

	if (spec->dry_run) {
		repo_session_counters(session, &run->result.session);
		repo_session_abort(session);
		return 0;
	}
	return repo_session_publish(session, &p, &run->result.session, err);
}

int ingest_backup(struct repo *r, const struct ingest_spec *spec, struct ingest_result *result,
		  struct err *err)
{
	__attribute__((cleanup(run_release))) struct backup run = { .repo = r, .spec = spec };
	struct session_spec begin = { .name = spec->name,
				      .since = spec->since,
				      .full = spec->full,
				      .compression = spec->compression,
				      .wait_seconds = spec->wait_seconds,
				      .stop = spec->stop };
	cleanup_ptr(repo_session) session = NULL;
	uint64_t begun = time_mono_ns();
	int e = prepare(&run, err);

	if (e < 0)
		return e;
	e = repo_session_begin(r, &begin, &session, err);
	if (e < 0)
		return e;
	if (spec->wait_seconds) {
		e = reopen_sources(&run, err);
		if (e < 0)
			return e;
	}
	warn_clock(&run, session);
	warn_removed(&run, session);
	e = keep_configs(&run, session, err);
	if (e < 0)
		return e;
	e = run_disks(&run, session, err);
	if (e < 0)
		return e;
	e = publish(&run, steal_ptr(session), err);
	if (e < 0)
		return e;
	run.result.seconds = (double)(time_mono_ns() - begun) / 1e9;
	*result = run.result;
	memset(&run.result, 0, sizeof(run.result));
	return 0;
}
