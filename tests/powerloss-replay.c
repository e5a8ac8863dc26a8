// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * powerloss-replay DIR plain|encrypted STATES SEED [FAULT|plant:NAME]: what a power cut may leave of an init, three backups, a
 * forget, a hold and a prune: the first backup with checkpoints and merges of index segments on its way (packs are full at
 * 64 KiB, and four segments are merged), the last after one that was killed, which it sweeps; the prune removes packs and
 * rewrites packs.
 *
 * The commands run under tests/powerloss-record.c; FAULT (LIVEPOINT_FAULT, "store.folder.sync:1+:skip") plants a bug
 * in the backups, plant:NAME (LIVEPOINT_PLANT) one in all of them.  Then STATES times: a cut after a random call of the trace,
 * in half of the cases from the forget on, and one state that a disk may have then (tests/powerloss-model.h).
 *
 * On each state (in half of them the backup comes first): before init had ended, a repository or none.  After: it opens without help; every point whose publication
 * had returned ("catalog.publish.after" in the trace) and that was not forgotten ("catalog.forget.after") is listed and
 * restores; the one under way is there whole or not at all; so are the forget and the hold; a backup works; a prune works
 * and leaves no pack, row or record that nobody needs; no leftovers; verify is clean.
 */
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/proc.h"
#include "repo/gc.h"
#include "repo/retention.h"
#include "tests/powerloss-model.h"
#include "tests/reliability.h"

#include "base/banned.h"

#define DISK                                                                                       \
	(20 *                                                                                      \
	 MiB) /* more than the buffers of a session: a checkpoint is made when one is free again */
#define SHARE 40 /* of the chunks that have data, in 256 */
#define BACKUPS 3
/* What the second has stored is partly used by the third, so that its pack is rewritten. */
#define GOING 1 /* point that is forgotten */
#define HELD 0
#define FEW_SEGMENTS "repo.index.merge:4"
#define SMALL "store.pack.close:65536," FEW_SEGMENTS

struct replay {
	struct rel t;
	struct pl_model m;
	char marks_path[256], states[256];
	struct rel_promise *points; /* all that the backups reported, in order */
	size_t npoints;
	uint8_t *disk; /* a later content, for the backup on each state */
	unsigned unseen; /* states that a backup was the first to open */
	size_t tail; /* records before the forget */
	unsigned in_tail; /* states cut after it had begun */
};

/* What a state must have. */
enum forgotten { FORGOTTEN_NO, FORGOTTEN_MAYBE, FORGOTTEN_YES };
struct expect {
	size_t committed; /* points */
	enum forgotten forgotten; /* points[GOING] */
	bool held; /* points[HELD] */
};

/* --- recording --- */

/* An init with a cheap key derivation, as its own process under the recorder. */
static int make_repository(const char *path, const char *kind)
{
	struct rel t = { .encrypted = strcmp(kind, "encrypted") == 0 };

	str_copy(t.repo, sizeof(t.repo), path);
	rel_init(&t);
	return 0;
}

static void record_init(struct replay *p, const char *self)
{
	const char *const argv[] = { self, "make", p->t.repo,
				     p->t.encrypted ? "encrypted" : "plain", NULL };
	struct buf out = BUF_INIT;
	struct err err = ERR_INIT;

	rel_ok(&p->t, proc_run(argv, &out, 4096, &err));
	buf_release(&out);
	pl_put_mark(&p->m, "init done\n");
}

static void record_backup(struct replay *p, const char *name, const char *fault)
{
	struct rel *t = &p->t;
	const char *const args[] = { "backup", name, t->source, "--config", t->config, NULL };
	struct rel_status s = rel_run(t, args, fault, p->marks_path);
	char recorded[sizeof(t->repo)];
	struct repo *r;

	if (!s.exited || s.code)
		rel_fail(t, "the backup to record ended with %d", s.code);
	/* A copy is looked at: even a reader writes its lease into the catalog, and the recorder is not in this process. */
	str_copy(recorded, sizeof(recorded), t->repo);
	rel_copy_tree(t->repo, p->states);
	snprintf(t->repo, sizeof(t->repo), "%s", p->states);
	r = rel_open(t, REPO_READ);
	rel_check_after(t, r, s);
	repo_close(r);
	str_copy(t->repo, sizeof(t->repo), recorded);
}

/* Killed with its packs in place: the next backup sweeps, which is recorded too. */
static void record_killed(struct replay *p)
{
	struct rel *t = &p->t;
	const char *const args[] = { "backup", "web1", t->source, "--config", t->config, NULL };
	struct rel_status s = rel_run(t, args, "catalog.publish.before:1:kill", NULL);

	if (s.exited)
		rel_fail(t, "the backup to kill ended with %d by itself", s.code);
}

/* Sessions have buffers by the number of CPUs: one, so that the disk has more than they hold everywhere.  Fills *before. */
static void one_cpu(const struct rel *t, cpu_set_t *before)
{
	cpu_set_t one;
	int cpu = 0;

	CPU_ZERO(&one);
	if (sched_getaffinity(0, sizeof(*before), before) < 0)
		rel_fail(t, "sched_getaffinity: %s", strerror(errno));
	while (cpu < CPU_SETSIZE - 1 && !CPU_ISSET(cpu, before))
		cpu++;
	CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one) < 0)
		rel_fail(t, "sched_setaffinity: %s", strerror(errno));
}

static void record_command(struct replay *p, const char *const *args)
{
	struct rel_status s = rel_run(&p->t, args, NULL, p->marks_path);
	char text[1024];

	rel_whole(p->t.err, text, sizeof(text));
	if (!s.exited || s.code)
		rel_fail(&p->t, "the %s to record ended with %d: %s", args[0], s.code, text);
}

/* A point is forgotten, another one held; then prune.  In the trace from p->tail on. */
static void record_retention(struct replay *p)
{
	const struct rel_promise *of = p->t.promises;

	pl_put_mark(&p->m, "retention begins\n");
	record_command(p, (const char *const[]){ "forget", "--grace", "0", of[GOING].text, NULL });
	record_command(p,
		       (const char *const[]){ "protect", of[HELD].text, "--reason", "kept", NULL });
	record_command(p, (const char *const[]){ "prune", "--min-unused", "0", NULL });
}

static void record(struct replay *p, const char *self, const char *fault)
{
	struct rel *t = &p->t;
	cpu_set_t cpus;

	one_cpu(t, &cpus);
	setenv("LD_PRELOAD", pl_preload(), 1);
	setenv("LIVEPOINT_RECORD_DIR", t->repo, 1);
	setenv("LIVEPOINT_RECORD_TRACE", p->m.trace_path, 1);
	setenv("LIVEPOINT_RECORD_MARKS", p->marks_path, 1);
	record_init(p, self);
	setenv("LIVEPOINT_FAULT_NUMBER", SMALL, 1);
	for (unsigned i = 0; i < BACKUPS; i++) {
		if (i) {
			setenv("LIVEPOINT_FAULT_NUMBER", FEW_SEGMENTS, 1);
			rel_change(t, 60);
		}
		if (i == 2 && !fault)
			record_killed(p);
		record_backup(p, i == 1 ? "db1" : "web1", fault);
	}
	record_retention(p);
	unsetenv("LD_PRELOAD");
	unsetenv("LIVEPOINT_FAULT_NUMBER");
	if (sched_setaffinity(0, sizeof(cpus), &cpus) < 0)
		rel_fail(t, "sched_setaffinity: %s", strerror(errno));
	rel_change(t, 8);
	p->points = t->promises;
	p->npoints = t->npromises;
}

static void find_tail(struct replay *p)
{
	while (p->tail < p->m.nrecords && !pl_marks(&p->m, p->tail, "retention begins\n"))
		p->tail++;
	if (!pl_marks(&p->m, p->m.nrecords, "store.rewrite.rename\n") ||
	    pl_marks(&p->m, p->m.nrecords, "catalog.dropped.after\n") <=
		    pl_marks(&p->m, p->m.nrecords, "store.rewrite.rename\n"))
		rel_fail(&p->t, "the prune of the trace does not remove and rewrite packs");
}

/* --- checking --- */

static void backup_in_process(struct replay *p, struct repo *r)
{
	struct rel *t = &p->t;
	struct err err = ERR_INIT;
	struct session_spec spec = { .name = "web1", .compression = -1 };
	struct disk_spec disk = { .name = "vda", .size = t->size, .method = METHOD_HASH };
	struct publish_spec publish = { 0 };
	struct session_result result;
	struct repo_session *s;
	uint8_t sha[REL_SHA_LEN], *buffer;

	rel_sha(t, sha);
	rel_ok(t, repo_session_begin(r, &spec, &s, &err));
	rel_ok(t, repo_session_config(s, "sum", sha, sizeof(sha), &err));
	rel_ok(t, session_disk_begin(s, &disk, &err));
	for (uint64_t at = 0; at < t->size; at += SESSION_BUFFER) {
		rel_ok(t, session_buffer(s, &buffer, &err));
		memcpy(buffer, t->disk + at, SESSION_BUFFER);
		rel_ok(t, session_disk_write(s, buffer, at, SESSION_BUFFER, &err));
	}
	rel_ok(t, session_disk_end(s, t->size, t->size, &err));
	rel_ok(t, repo_session_publish(s, &publish, &result, &err));
	rel_promise(t, result.id, result.point, sha);
	rel_check_point(t, r, &t->promises[t->npromises - 1]);
}

static void promise_first(struct replay *p, size_t n)
{
	struct rel *t = &p->t;

	free(t->promises);
	t->promises = NULL;
	t->npromises = 0;
	for (size_t i = 0; i < n; i++)
		rel_promise(t, p->points[i].id, p->points[i].text, p->points[i].sha);
}

/* The points that must be there. */
static void promise_expected(struct replay *p, const struct expect *x,
			     const struct rel_promise *made)
{
	struct rel *t = &p->t;

	promise_first(p, x->committed);
	if (x->forgotten != FORGOTTEN_NO)
		t->promises[GOING] = t->promises[--t->npromises];
	if (made)
		rel_promise(t, made->id, made->text, made->sha);
}

static void check_hold(struct replay *p, struct repo *r)
{
	struct err err = ERR_INIT;
	struct state notes;

	rel_ok(&p->t, repo_notes(r, &notes, &err));
	if (!state_hold(&notes, p->points[HELD].id))
		rel_fail(&p->t, "the hold is lost");
	state_release(&notes);
}

/* What is listed is what was committed, and at most what was under way: a point, or the forget; all of it promised from
 * then on.  made: a point that was made on this state, or NULL. */
static void check_points(struct replay *p, struct repo *r, const struct expect *x,
			 const struct rel_promise *made)
{
	struct rel *t = &p->t;
	struct rel_promise more[2];
	unsigned n;

	promise_expected(p, x, made);
	n = rel_check_list(t, r, 2, more);
	for (unsigned i = 0; i < n; i++) {
		const struct rel_promise *of = NULL;

		if (x->forgotten == FORGOTTEN_MAYBE &&
		    memcmp(more[i].id, p->points[GOING].id, POINT_ID_LEN) == 0)
			of = &p->points[GOING];
		else if (x->committed < p->npoints &&
			 memcmp(more[i].id, p->points[x->committed].id, POINT_ID_LEN) == 0)
			of = &p->points[x->committed];
		else
			rel_fail(
				t,
				"a point is listed that nobody has made, or that was forgotten: %s",
				more[i].text);
		rel_promise(t, of->id, of->text, of->sha);
	}
	for (size_t i = 0; i < t->npromises; i++)
		rel_check_point(t, r, &t->promises[i]);
	if (x->held)
		check_hold(p, r);
}

/* Opened for the first time, to look: false if there is no repository, which is allowed before init has ended. */
static bool look_first(struct replay *p, const struct expect *x, bool inited)
{
	struct rel *t = &p->t;
	struct err err = ERR_INIT;
	struct repo *r;
	int ret = repo_open(t->repo, REPO_READ, &r, &err);

	if (ret == ERR_NO_REPO && !inited)
		return false;
	rel_ok(t, ret);
	repo_close(r);
	r = rel_open(t, rel_random(t, 3) ? REPO_WRITE : REPO_READ);
	check_points(p, r, x, NULL);
	repo_close(r);
	return true;
}

static struct expect expectation(const struct replay *p, size_t cut)
{
	struct expect x = { .committed = pl_marks(&p->m, cut, "catalog.publish.after\n") };

	if (pl_marks(&p->m, cut, "catalog.forget.after\n"))
		x.forgotten = FORGOTTEN_YES;
	else if (pl_marks(&p->m, cut, "catalog.forget.before\n"))
		x.forgotten = FORGOTTEN_MAYBE;
	/* the hold's state object is the first that is published */
	x.held = pl_marks(&p->m, cut, "catalog.state.after\n") > 0;
	return x;
}

static void prune_in_process(struct replay *p, struct repo *r)
{
	struct prune_spec spec = { .min_doomed = 0 };
	struct prune_result result;
	struct err err = ERR_INIT;

	rel_ok(&p->t, repo_prune(r, &spec, &result, &err));
	if (result.waiting || result.bytes_left || result.packs_damaged)
		rel_fail(&p->t, "prune could not end its work");
}

static void check_state(struct replay *p, size_t cut)
{
	struct rel *t = &p->t;
	struct expect x = expectation(p, cut);
	bool inited = pl_marks(&p->m, cut, "init done\n") > 0;
	struct rel_promise made;
	struct repo *r;

	p->unseen += inited && p->m.state % 2;
	if (!(inited && p->m.state % 2) && !look_first(p, &x, inited))
		return;
	r = rel_open(t, REPO_WRITE);
	backup_in_process(p, r);
	made = t->promises[t->npromises - 1];
	check_points(p, r, &x, &made);
	/* what a dead prune has left only a prune ends */
	if (cut >= p->tail || p->m.state % 3 == 0) {
		prune_in_process(p, r);
		check_points(p, r, &x, &made);
		rel_check_slots(t, r);
	}
	rel_check_leftovers(t, r);
	rel_check_verify(t, r, p->m.state % 10 < 2);
	repo_close(r);
}

static void one_state(struct replay *p, unsigned number)
{
	struct rel *t = &p->t;
	static const char *const names[] = { "nothing unsynced", "everything",
					     "some of what was not synced" };
	size_t cut = rel_random(t, 2) ? rel_random(t, p->m.nrecords + 1) :
					p->tail + rel_random(t, p->m.nrecords - p->tail + 1);
	enum pl_luck luck = (int)rel_random(t, 8);
	char mark[128];

	luck = MIN(luck, PL_LUCK_ANY);
	p->m.state = number + 1;
	pl_last_mark(&p->m, cut, mark, sizeof(mark));
	snprintf(t->what, sizeof(t->what), "state %u, cut after call %zu of %zu (after %s), %s",
		 number, cut, p->m.nrecords, mark, names[luck]);
	pl_build(&p->m, cut);
	snprintf(t->repo, sizeof(t->repo), "%s", p->states);
	rel_remove_tree(t->repo);
	pl_put_state(&p->m, p->m.root, t->repo, luck);
	check_state(p, cut);
	p->in_tail += cut > p->tail;
	t->passed++;
}

int main(int argc, char **argv)
{
	struct replay p = { .npoints = 0 };
	unsigned checkpoints, merges;
	uint64_t states, seed;

	if (argc == 4 && strcmp(argv[1], "make") == 0)
		return make_repository(argv[2], argv[3]);
	if ((argc != 5 && argc != 6) || !parse_u64(argv[3], &states) ||
	    !parse_u64(argv[4], &seed)) {
		fprintf(stderr,
			"usage: powerloss-replay DIR plain|encrypted STATES SEED [FAULT|plant:NAME]\n");
		return 2;
	}
	rel_begin(&p.t, argv[1], strcmp(argv[2], "encrypted") == 0, seed, DISK, SHARE);
	p.m.t = &p.t;
	snprintf(p.m.trace_path, sizeof(p.m.trace_path), "%s/trace", argv[1]);
	snprintf(p.marks_path, sizeof(p.marks_path), "%s/marks", argv[1]);
	snprintf(p.states, sizeof(p.states), "%s/state", argv[1]);
	if (argc == 6 && str_starts(argv[5], "plant:"))
		p.t.plant = argv[5] + 6;
	record(&p, argv[0], argc == 6 && !p.t.plant ? argv[5] : NULL);
	pl_read_trace(&p.m);
	find_tail(&p);
	if (pl_marks(&p.m, p.m.nrecords, "catalog.publish.after\n") != BACKUPS)
		rel_fail(&p.t, "the trace has not the marks of %u publications", BACKUPS);
	checkpoints = pl_marks(&p.m, p.m.nrecords, "catalog.checkpoint.after\n");
	merges = pl_marks(&p.m, p.m.nrecords, "catalog.swap.after\n");
	if (!checkpoints || !merges)
		rel_fail(&p.t, "the trace has %u checkpoints and %u merges of index segments",
			 checkpoints, merges);
	pl_build(&p.m, p.m.nrecords);
	pl_compare(&p.m, p.m.root, p.t.repo);
	p.t.promises = NULL;
	p.t.npromises = 0;
	for (unsigned i = 0; i < states; i++)
		one_state(&p, i);
	printf("%s: %zu calls recorded, %u checkpoints, %u merges of index segments, %u packs rewritten and %u "
	       "removed by prune among them; %u states, %u of them first opened by a backup, %u cut in forget, "
	       "protect and prune\n",
	       argv[2], p.m.nrecords, checkpoints, merges,
	       pl_marks(&p.m, p.m.nrecords, "store.rewrite.rename\n"),
	       pl_marks(&p.m, p.m.nrecords, "catalog.dropped.after\n") -
		       pl_marks(&p.m, p.m.nrecords, "store.rewrite.rename\n"),
	       p.t.passed, p.unseen, p.in_tail);
	printf("%u passed, 0 failed\n", p.t.passed);
	free(p.points);
	rel_end(&p.t);
	return 0;
}
