// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * fault-loop DIR plain|encrypted SCENARIO HITS SEED: every fault point that a command hits, one case each.
 *
 * A scenario has a template (a repository) and a command.  The command runs once with LIVEPOINT_FAULT_LOG; then, for
 * hits of each name (HITS: first = the first, some = first, second and last, all), on a copy of the template: kill, eio, enospc and,
 * for writes, short; and once eio from the first hit on, for ever.  Expected each time:
 *
 *	a backup   (in half of the cases, by the seed, nobody opens the repository before the next backup has run)
 *	           says 0 and is listed with the right bytes; or fails with a message and is not listed (but for "it is
 *	           unknown whether the commit happened"); killed: there whole or not at all.  All earlier points are
 *	           listed and restore.  The next backup works without another step and leaves nothing over.  verify is clean
 *	           (of all data, now and then).
 *	an init    says 0 and the repository works; or fails, has removed what it made, and the same init works then; killed:
 *	           is a whole repository or none.
 *	a restore  says 0 and the target has the right bytes; or fails and has left no target, or the old one.
 *	           The repository is as before.
 *
 *	a prune, forget or protect
 *	           says 0, or fails with a message; killed or not, every complete point is listed and restores; of a forget all
 *	           points or none are forgotten, a hold that was confirmed is there.  A prune without a fault then ends with 0
 *	           and leaves nothing over, neither files nor rows nor a slot that no point needs.
 *	a repair   the next repair ends with 0, and everything is whole.
 *
 * Scenarios: full (a first backup), incremental, merge (the publication merges index segments), checkpoint (packs listed
 * before the end: 520 MiB, few cases), init, restore, stop.  stop: SIGSTOP at each name; then backups of another name and of the same
 * name; then SIGCONT: nothing is lost, whoever was first.  fence-backup, fence-prune: SIGSTOP at each name, `prune --fence` of its
 * lease, SIGCONT: a fenced backup publishes nothing, a fenced prune changes nothing any more, and the next one ends the work.
 * The commands of retention also get eintr, edquot and eperm, one of them at each hit (all of them with HITS all).
 */
#include "tests/fault-loop.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"

#include "base/banned.h"

#define DISK (8 * MiB)
#define SMALL_DISK (4 * MiB)

/* --- the points that a command hits --- */

void fault_read_log(struct faults *f)
{
	cleanup_stdio FILE *log = fopen(f->log, "r");
	char line[128];
	unsigned i;

	f->nnames = 0;
	while (log && fgets(line, sizeof(line), log)) {
		line[strcspn(line, "\n")] = 0;
		for (i = 0; i < f->nnames && strcmp(f->names[i].name, line) != 0; i++)
			;
		if (i == NAMES_MAX)
			rel_fail(&f->t, "too many fault points");
		if (i == f->nnames) {
			f->names[i].hits = 0;
			str_copy(f->names[f->nnames++].name, sizeof(f->names[i].name), line);
		}
		f->names[i].hits++;
	}
	if (!f->nnames)
		rel_fail(&f->t, "no fault point was hit: are they built in?");
}

/* The template's repository and promises again. */
void fault_restore_template(struct faults *f)
{
	struct rel *t = &f->t;

	rel_remove_tree(t->repo);
	if (access(f->template, F_OK) == 0)
		rel_copy_tree(f->template, t->repo);
	free(t->promises);
	t->promises = mem_alloc_array(f->nkept + 1, sizeof(*f->kept));
	t->npromises = f->nkept;
	if (!t->promises)
		rel_fail(t, "out of memory");
	for (size_t i = 0; i < f->nkept; i++)
		t->promises[i] = f->kept[i];
}

void fault_keep_template(struct faults *f)
{
	struct rel *t = &f->t;

	rel_copy_tree(t->repo, f->template);
	f->nkept = t->npromises;
	f->kept = mem_alloc_array(f->nkept + 1, sizeof(*f->kept));
	if (!f->kept)
		rel_fail(t, "out of memory");
	for (size_t i = 0; i < f->nkept; i++)
		f->kept[i] = t->promises[i];
}

void fault_one_case(struct faults *f, const char *name, const char *nth, const char *action)
{
	char fault[128];

	snprintf(fault, sizeof(fault), "%s:%s:%s", name, nth, action);
	snprintf(f->t.what, sizeof(f->t.what), "%s", fault);
	fault_restore_template(f);
	f->one(f, fault);
	f->t.passed++;
}

bool fault_wanted(const struct faults *f, unsigned nth, unsigned hits)
{
	if (strcmp(f->hits, "all") == 0)
		return true;
	return nth == 1 || (strcmp(f->hits, "some") == 0 && (nth == 2 || nth == hits));
}

void fault_each_hit(struct faults *f)
{
	static const char *const actions[] = { "kill", "eio", "enospc", "short" };
	static const char *const more[] = { "eintr", "edquot", "eperm" };
	char nth[32];

	for (unsigned i = 0; i < f->nnames; i++) {
		const struct hit_name *h = &f->names[i];

		for (unsigned n = 1; n <= h->hits; n++) {
			if (!fault_wanted(f, n, h->hits))
				continue;
			snprintf(nth, sizeof(nth), "%u", n);
			for (unsigned a = 0; a < ARRAY_SIZE(actions); a++)
				if (strcmp(actions[a], "short") != 0 || str_ends(h->name, ".write"))
					fault_one_case(f, h->name, nth, actions[a]);
			for (unsigned a = 0; a < ARRAY_SIZE(more) && f->more_errors; a++)
				if (strcmp(f->hits, "all") == 0 || (i + n) % ARRAY_SIZE(more) == a)
					fault_one_case(f, h->name, nth, more[a]);
		}
		fault_one_case(f, h->name, "1+", "eio");
	}
}

/* --- backup --- */

static void check_rest(struct faults *f)
{
	struct rel *t = &f->t;
	struct repo *r = rel_open(t, REPO_WRITE);

	for (size_t i = 0; i < t->npromises; i++)
		if (i < 1 || i + 2 >= t->npromises)
			rel_check_point(t, r, &t->promises[i]);
	rel_check_verify(t, r, rel_random(t, 8) == 0);
	rel_check_leftovers(t, r);
	repo_close(r);
}

static void one_backup(struct faults *f, const char *fault)
{
	struct rel *t = &f->t;
	const char *const args[] = { "backup", "web1", t->source, "--config", t->config, NULL };
	struct rel_status s = rel_run(t, args, fault, NULL);
	struct rel_ended ended;
	struct repo *r;

	if (!s.exited && s.code != SIGKILL)
		rel_fail(t, "signal %d", s.code);
	if (!s.exited && !strstr(fault, ":kill"))
		rel_fail(t, "killed, but nobody asked for it");
	if (s.exited && strstr(fault, ":kill"))
		rel_fail(t, "the fault was not hit");
	if (rel_random(t, 2)) {
		rel_note(t, s, &ended);
		rel_backup_unseen(t, "web1", &ended, 1);
		f->unseen++;
	} else {
		r = rel_open(t, REPO_READ);
		rel_check_after(t, r, s);
		repo_close(r);
		rel_backup(t, "web1");
	}
	check_rest(f);
}

static void log_backup(struct faults *f)
{
	const char *const args[] = { "backup", "web1", f->t.source, "--config", f->t.config, NULL };
	struct rel_status s;

	fault_restore_template(f);
	s = rel_run(&f->t, args, NULL, f->log);
	if (!s.exited || s.code)
		rel_fail(&f->t, "the backup without a fault ended with %d", s.code);
	fault_read_log(f);
	f->one = one_backup;
}

static void scenario_full(struct faults *f)
{
	rel_init(&f->t);
	fault_keep_template(f);
	log_backup(f);
	fault_each_hit(f);
}

static void prepare_backups(struct faults *f, unsigned count)
{
	rel_init(&f->t);
	for (unsigned i = 0; i < count; i++) {
		rel_backup(&f->t, i % 2 ? "web1" : "db1");
		rel_change(&f->t, 3);
	}
	fault_keep_template(f);
}

static void scenario_incremental(struct faults *f)
{
	prepare_backups(f, 2);
	log_backup(f);
	fault_each_hit(f);
}

bool fault_is_logged(const struct faults *f, const char *name)
{
	for (unsigned i = 0; i < f->nnames; i++)
		if (strcmp(f->names[i].name, name) == 0)
			return true;
	return false;
}

static unsigned count_segments(struct faults *f)
{
	char dir[512];
	unsigned n = 0;
	DIR *d;

	snprintf(dir, sizeof(dir), "%s/index", f->t.repo);
	d = opendir(dir);
	if (!d)
		rel_fail(&f->t, "%s cannot be listed", dir);
	for (struct dirent *e; (e = readdir(d));)
		n += str_ends(e->d_name, ".seg");
	closedir(d);
	return n;
}

/* A publication merges when it finds 16 segments.  A backup whose changes were all holes or known chunks adds none, so
 * segments are counted and not backups. */
static void scenario_merge(struct faults *f)
{
	rel_init(&f->t);
	for (unsigned i = 0; count_segments(f) < 16; i++) {
		if (i == 100)
			rel_fail(&f->t, "100 backups did not make 16 index segments");
		rel_backup(&f->t, i % 2 ? "web1" : "db1");
		rel_change(&f->t, 3);
	}
	fault_keep_template(f);
	log_backup(f);
	if (!fault_is_logged(f, "catalog.swap.before"))
		rel_fail(&f->t, "index segments were not merged");
	fault_each_hit(f);
}

/* The disk is big, so only what a small one does not hit. */
static void scenario_checkpoint(struct faults *f)
{
	struct hit_name all[NAMES_MAX];
	unsigned n = 0;

	rel_init(&f->t);
	fault_keep_template(f);
	log_backup(f);
	for (unsigned i = 0; i < f->nnames; i++)
		if (str_starts(f->names[i].name, "catalog.checkpoint.") ||
		    strcmp(f->names[i].name, "store.segment.rename") == 0)
			all[n++] = f->names[i];
	if (!n || !fault_is_logged(f, "catalog.checkpoint.after"))
		rel_fail(&f->t, "there was no checkpoint");
	for (unsigned i = 0; i < n; i++) {
		fault_one_case(f, all[i].name, "1", "kill");
		fault_one_case(f, all[i].name, "1", "eio");
	}
}

/* --- init --- */

static const char *init_args[] = { "init", NULL, NULL };

static bool is_repository(struct rel *t)
{
	struct err err = ERR_INIT;
	struct repo *r;
	int ret = repo_open(t->repo, REPO_READ, &r, &err);

	if (ret == 0)
		repo_close(r);
	else if (ret != ERR_NO_REPO)
		rel_fail(t, "what init left cannot be told: %s", err.text);
	return ret == 0;
}

/* A backup is the first to meet what a killed init left: it works, or says that there is no repository. */
static bool backup_or_none(struct rel *t)
{
	const char *const args[] = { "backup", "db1", t->source, "--config", t->config, NULL };
	struct rel_status s = rel_run(t, args, NULL, NULL);
	struct rel_ended e;
	struct repo *r;

	rel_note(t, s, &e);
	if (s.exited && s.code == 10) {
		rel_remove_tree(t->repo);
		return false;
	}
	if (!s.exited || s.code)
		rel_fail(t, "the backup after a killed init ended with %d: %s", s.code,
			 e.complained);
	r = rel_open(t, REPO_READ);
	rel_check_ended(t, r, &e, 1);
	repo_close(r);
	return true;
}

static void one_init(struct faults *f, const char *fault)
{
	struct rel *t = &f->t;
	struct rel_status s = rel_run(t, init_args, fault, NULL);
	char text[2048];

	if (s.exited && s.code != 0) {
		rel_whole(t->err, text, sizeof(text));
		if (!*text)
			rel_fail(t, "init failed and said nothing");
		if (is_repository(t))
			rel_fail(t, "init failed, but there is a repository; it said: %s", text);
		/* a file or folder that could not be removed either is all that may be left */
		if (access(t->repo, F_OK) == 0 && rmdir(t->repo) < 0)
			rel_fail(t, "init failed and left something in the folder: %s", text);
		s = rel_run(t, init_args, NULL, NULL);
		if (!s.exited || s.code)
			rel_fail(t, "init after an init that failed: %d", s.code);
	} else if (!s.exited && rel_random(t, 2)) {
		f->unseen++;
		if (!backup_or_none(t))
			return;
	} else if (!s.exited && !is_repository(t)) {
		rel_remove_tree(t->repo);
		return;
	}
	rel_backup(t, "web1");
	check_rest(f);
}

static void scenario_init(struct faults *f)
{
	struct rel_status s;

	if (f->t.encrypted)
		init_args[1] = "--encrypt";
	s = rel_run(&f->t, init_args, NULL, f->log);
	if (!s.exited || s.code)
		rel_fail(&f->t, "init without a fault ended with %d", s.code);
	fault_read_log(f);
	f->one = one_init;
	/* Each case of an encrypted one costs a second of scrypt: what a plain one does not hit. */
	for (unsigned i = 0; f->t.encrypted && i < f->nnames;)
		if (str_starts(f->names[i].name, "repo.init.key"))
			i++;
		else
			f->names[i] = f->names[--f->nnames];
	fault_each_hit(f);
}

/* --- restore --- */

static void check_target(struct faults *f, bool must)
{
	struct rel *t = &f->t;
	struct err err = ERR_INIT;
	struct buf data = BUF_INIT;
	int r = file_read_all(f->target, t->room + 1, &data, &err);

	if (r == ERR_NOT_FOUND && !must)
		return;
	rel_ok(t, r);
	if (data.len != t->size || memcmp(data.data, t->disk, t->size) != 0)
		rel_fail(t, "the target has other bytes than the point");
	buf_release(&data);
}

static void one_restore(struct faults *f, const char *fault)
{
	struct rel *t = &f->t;
	const char *const args[] = { "restore", "web1", f->target, NULL };
	char text[2048];
	struct rel_status s;

	(void)unlink(f->target);
	s = rel_run(t, args, fault, NULL);
	rel_whole(t->err, text, sizeof(text));
	if (!s.exited && s.code != SIGKILL)
		rel_fail(t, "signal %d", s.code);
	if (s.exited && s.code && !*text)
		rel_fail(t, "the restore ended with %d and said nothing", s.code);
	/* A file of that name is whole, whatever was said. */
	check_target(f, s.exited && s.code == 0);
	f->unseen++;
	s = rel_run(t, (const char *const[]){ "restore", "--overwrite", "web1", f->target, NULL },
		    NULL, NULL);
	if (!s.exited || s.code) {
		rel_whole(t->err, text, sizeof(text));
		rel_fail(t, "the next restore ended with %d: %s", s.code, text);
	}
	check_target(f, true);
	rel_change(t, 1);
	rel_backup(t, "web1");
	check_rest(f);
}

static void again_restore(struct faults *f, const char *fault)
{
	uint8_t *disk = mem_dup(f->t.disk, f->t.room);

	one_restore(f, fault);
	memcpy(f->t.disk, disk, f->t.room);
	free(disk);
}

static void scenario_restore(struct faults *f)
{
	const char *const args[] = { "restore", "web1", f->target, NULL };
	struct rel_status s;

	rel_init(&f->t);
	rel_backup(&f->t, "db1");
	rel_backup(&f->t, "web1");
	fault_keep_template(f);
	s = rel_run(&f->t, args, NULL, f->log);
	if (!s.exited || s.code)
		rel_fail(&f->t, "the restore without a fault ended with %d", s.code);
	fault_read_log(f);
	f->one = again_restore;
	fault_each_hit(f);
}

/* --- stop --- */

bool fault_wait_stopped(struct faults *f, pid_t pid)
{
	struct rel *t = &f->t;
	int status;

	while (waitpid(pid, &status, WUNTRACED) < 0)
		if (errno != EINTR)
			rel_fail(t, "waitpid: %s", strerror(errno));
	f->stops++;
	if (WIFSTOPPED(status))
		return true;
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		rel_fail(t, "the backup was not stopped and did not end with 0");
	f->unreached++;
	if (f->unreached > 2 + f->stops / 20)
		rel_fail(t, "%u of %u did not come to the place where they were to stop",
			 f->unreached, f->stops);
	return false;
}

/* Inside a transaction everybody else waits, as long as SQLite's patience lasts. */
static bool holds_catalog(const char *fault)
{
	return str_starts(fault, "catalog.") && strstr(fault, ".before:");
}

/* One of the backups that ran at once has ended with s; its point is the one that out names. */
static void adopt(struct rel *t, struct repo *r, struct rel_status s, const char *out,
		  const char *who)
{
	char line[POINT_TEXT_MAX + 2];
	struct rel_promise p = { .text = "" };
	struct repo_spec spec;
	struct err err = ERR_INIT;

	if (s.exited && s.code == 11 && strcmp(who, "same") == 0)
		return;
	if (!s.exited || s.code) {
		char text[2048];

		rel_whole(t->err, text, sizeof(text));
		rel_fail(t, "the %s backup ended with %d: %s", who, s.code, text);
	}
	rel_first_line(t, out, line, sizeof(line));
	rel_ok(t, repo_resolve(r, line, &spec, &err));
	memcpy(p.id, spec.row.id, POINT_ID_LEN);
	repo_spec_release(&spec);
	rel_sha(t, p.sha);
	str_copy(p.text, sizeof(p.text), line);
	rel_check_point(t, r, &p);
	rel_promise(t, p.id, p.text, p.sha);
}

static void one_stop(struct faults *f, const char *fault)
{
	struct rel *t = &f->t;
	const char *const same[] = { "backup", "web1", t->source, "--config", t->config, NULL };
	const char *const other[] = { "backup", "db1", t->source, "--config", t->config, NULL };
	cleanup_free char *out2 = str_printf("%s.other", t->out);
	cleanup_free char *out3 = str_printf("%s.same", t->out);
	cleanup_free char *stopped_err = str_printf("%s.stopped", t->err);
	pid_t stopped = rel_spawn(t, same, fault, NULL, t->out, stopped_err), two, three;
	struct rel_status s1, s2, s3;
	struct repo *r;

	if (!fault_wait_stopped(f, stopped)) {
		r = rel_open(t, REPO_READ);
		adopt(t, r, (struct rel_status){ .exited = true }, t->out, "stopped");
		repo_close(r);
		return;
	}
	f->unseen++;
	two = rel_spawn(t, other, NULL, NULL, out2, t->err);
	if (holds_catalog(fault)) {
		three = rel_spawn(t, same, NULL, NULL, out3, t->err);
		time_sleep_ms(30);
		kill(stopped, SIGCONT);
		s2 = rel_wait(t, two);
		s3 = rel_wait(t, three);
	} else {
		s2 = rel_wait(t, two);
		three = rel_spawn(t, same, NULL, NULL, out3, t->err);
		s3 = rel_wait(t, three);
		kill(stopped, SIGCONT);
	}
	s1 = rel_wait(t, stopped);
	r = rel_open(t, REPO_READ);
	/* Not even the one that was stopped may fail: nobody has ended its session.  Only when the same name got in before its
	 * lease, and still holds it, is it refused. */
	adopt(t, r, s2, out2, "other");
	adopt(t, r, s3, out3, "same");
	adopt(t, r, s1, t->out, holds_catalog(fault) ? "same" : "stopped");
	if (s1.code && s3.code)
		rel_fail(t, "both backups of one name were refused");
	rel_check_list(t, r, 0, NULL);
	repo_close(r);
	rel_backup(t, "web1");
	check_rest(f);
}

static void scenario_stop(struct faults *f)
{
	prepare_backups(f, 2);
	log_backup(f);
	f->one = one_stop;
	for (unsigned i = 0; i < f->nnames; i++) {
		char nth[32];

		for (unsigned n = 1; n <= f->names[i].hits; n++) {
			if (!fault_wanted(f, n, f->names[i].hits))
				continue;
			snprintf(nth, sizeof(nth), "%u", n);
			fault_one_case(f, f->names[i].name, nth, "stop");
		}
	}
}

static const struct scenario {
	const char *name;
	void (*run)(struct faults *f);
	uint64_t size;
	unsigned share; /* of chunks with data, in 256 */
} scenarios[] = {
	{ "full", scenario_full, DISK, 64 },
	{ "incremental", scenario_incremental, DISK, 64 },
	{ "merge", scenario_merge, DISK, 64 },
	{ "checkpoint", scenario_checkpoint, 520 * MiB, 256 },
	{ "init", scenario_init, DISK, 32 },
	{ "restore", scenario_restore, DISK, 64 },
	{ "stop", scenario_stop, DISK, 64 },
	{ "prune", scenario_prune, SMALL_DISK, 96 },
	{ "forget", scenario_forget, SMALL_DISK, 96 },
	{ "protect", scenario_protect, SMALL_DISK, 96 },
	{ "repair", scenario_repair, SMALL_DISK, 96 },
	{ "fence-prune", scenario_fence_prune, SMALL_DISK, 96 },
	{ "fence-backup", scenario_fence_backup, SMALL_DISK, 96 },
};

int main(int argc, char **argv)
{
	struct faults f = { .nnames = 0 };
	const struct scenario *s = scenarios;
	uint64_t seed;

	if (argc != 6 || !parse_u64(argv[5], &seed)) {
		fprintf(stderr,
			"usage: fault-loop DIR plain|encrypted SCENARIO first|some|all SEED\n");
		return 2;
	}
	while (s < scenarios + ARRAY_SIZE(scenarios) && strcmp(s->name, argv[3]) != 0)
		s++;
	if (s == scenarios + ARRAY_SIZE(scenarios)) {
		fprintf(stderr, "fault-loop: no scenario '%s'\n", argv[3]);
		return 2;
	}
	rel_begin(&f.t, argv[1], strcmp(argv[2], "encrypted") == 0, seed, s->size, s->share);
	f.hits = argv[4];
	snprintf(f.template, sizeof(f.template), "%s/template", argv[1]);
	snprintf(f.log, sizeof(f.log), "%s/log", argv[1]);
	snprintf(f.target, sizeof(f.target), "%s/back.raw", argv[1]);
	s->run(&f);
	printf("%s, %s: %u fault points, %u cases, in %u nobody looked before the next command\n",
	       argv[3], argv[2], f.nnames, f.t.passed, f.unseen);
	printf("%u passed, 0 failed\n", f.t.passed);
	free(f.kept);
	rel_end(&f.t);
	return 0;
}
