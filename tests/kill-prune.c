// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * kill-prune DIR plain|encrypted KILLS SEED: backups, forgets, holds, prunes that rewrite packs, and repairs of a
 * repository with a changing 8 MiB disk, in random order, each killed with signal 9, KILLS times.
 *
 * Two thirds of the kills come after a random time, uniform up to 1.15 times what the command took lately; a third at
 * the first to third hit of a fault point of `ops`, so between the transactions and the steps on files.  A kill counts
 * only if the process was still there.
 *
 * In half of the rounds the repository is looked at after the kill; in the other half a prune is the first to open it.
 * Expected:
 *  1. Each complete point is listed, nothing else is, and a rotating sample restores to its SHA-256.
 *  2. A forget of several points has happened as a whole or not at all.  A point forgotten with time left comes back
 *     by unforget, whole, however many prunes there were.  A hold that was confirmed is there.
 *  3. The next command works without another step; after a repair that was killed the next one heals what it was for.
 *  4. Now and then, and at the end: a prune ends with 0, nothing is left over, verify of all data is clean, the audit log's
 *     chain is whole.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "repo/retention.h"
#include "tests/reliability.h"

#include "base/banned.h"

#define DISK (8 * MiB)
#define SAMPLE 2
#define AT_MOST 60 /* complete points; then more are forgotten than made */
#define CHOSEN_MAX 4
#define CLEAN_EVERY 16 /* rounds */
#define SPIN_NS 200000 /* a sleep is not exact enough below this */

enum op { OP_BACKUP, OP_FORGET, OP_UNFORGET, OP_PROTECT, OP_UNPROTECT, OP_PRUNE, OP_REPAIR, OPS };

static const struct {
	const char *name;
	unsigned weight;
	const char *aims[24];
} ops[OPS] = {
	{ "backup",
	  6,
	  { "catalog.session.after", "catalog.pack.after", "store.pack.rename",
	    "catalog.reserve.after", "catalog.publish.before", "catalog.publish.after" } },
	{ "forget", 4, { "catalog.forget.before", "catalog.forget.after" } },
	{ "unforget", 1, { "catalog.unforget.before", "catalog.unforget.after" } },
	{ "protect",
	  1,
	  { "catalog.statelease.after", "store.pack.rename", "catalog.state.before",
	    "catalog.state.after" } },
	{ "unprotect", 1, { "catalog.statelease.after", "catalog.state.after" } },
	{ "prune", 9, { "catalog.lease.after",	 "repo.gc.staged",	   "catalog.roots.before",
			"catalog.roots.after",	 "catalog.state.before",   "catalog.state.after",
			"repo.gc.marked",	 "catalog.condemn.before", "catalog.condemn.after",
			"repo.gc.again",	 "catalog.settle.before",  "catalog.settle.after",
			"store.rewrite.write",	 "store.rewrite.sync",	   "store.rewrite.rename",
			"store.pack.remove",	 "store.folder.sync",	   "catalog.dropped.before",
			"catalog.dropped.after", "catalog.audit.after",	   "catalog.end.before",
			"catalog.end.after",	 "store.lock.remove" } },
	{ "repair",
	  2,
	  { "catalog.lease.after", "store.rewrite.write", "store.rewrite.sync",
	    "store.rewrite.rename", "store.folder.sync", "catalog.replaced.after",
	    "store.segment.rename", "catalog.end.before" } },
};

struct loop {
	struct rel t;
	struct rel_promise *graced; /* forgotten, can come back */
	size_t ngraced;
	uint8_t (*held)[POINT_ID_LEN]; /* confirmed holds */
	size_t nheld;
	size_t chosen[CHOSEN_MAX]; /* promises that the command under way names */
	size_t nchosen;
	bool grace; /* it leaves them time */
	uint64_t usual_ns[OPS];
	unsigned kills, late, unseen, cleaned, kills_of[OPS]; /* counts */
	unsigned phase
		[4]; /* killed prunes: before the roots, marking, between condemning and dooming, reclaiming */
	size_t sample;
	char log[256];
};

static void wait_ns(uint64_t ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / 1000000000u),
			       .tv_nsec = (long)(ns % 1000000000u) };
	uint64_t until = time_mono_ns() + ns;

	if (ns >= SPIN_NS)
		nanosleep(&ts, NULL);
	while (time_mono_ns() < until)
		;
}

/* --- what must be there --- */

static struct rel_promise take_promise(struct rel *t, size_t i)
{
	struct rel_promise p = t->promises[i];

	memmove(&t->promises[i], &t->promises[i + 1], (t->npromises - i - 1) * sizeof(p));
	t->npromises--;
	return p;
}

static ssize_t held_at(const struct loop *l, const uint8_t *id)
{
	for (size_t i = 0; i < l->nheld; i++)
		if (memcmp(l->held[i], id, POINT_ID_LEN) == 0)
			return (ssize_t)i;
	return -1;
}

static void set_held(struct loop *l, const uint8_t *id, bool held)
{
	ssize_t at = held_at(l, id);

	if (held == (at >= 0))
		return;
	if (!held) {
		memmove(l->held[at], l->held[--l->nheld], POINT_ID_LEN);
		return;
	}
	l->held = realloc(l->held, (l->nheld + 1) * sizeof(*l->held));
	if (!l->held)
		rel_fail(&l->t, "out of memory");
	memcpy(l->held[l->nheld++], id, POINT_ID_LEN);
}

static void add_graced(struct loop *l, const struct rel_promise *p)
{
	l->graced = realloc(l->graced, (l->ngraced + 1) * sizeof(*p));
	if (!l->graced)
		rel_fail(&l->t, "out of memory");
	l->graced[l->ngraced++] = *p;
}

static bool is_listed(const struct point_list *list, const uint8_t *id)
{
	for (size_t i = 0; i < list->count; i++)
		if (memcmp(list->rows[i].id, id, POINT_ID_LEN) == 0)
			return true;
	return false;
}

static void look_holds(struct loop *l, struct repo *r)
{
	struct rel *t = &l->t;
	struct err err = ERR_INIT;
	struct state notes;

	rel_ok(t, repo_notes(r, &notes, &err));
	for (size_t i = 0; i < l->nheld; i++)
		if (!state_hold(&notes, l->held[i]))
			rel_fail(t, "a hold that was confirmed is gone");
	for (size_t i = 0; i < t->npromises; i++)
		if (state_hold(&notes, t->promises[i].id) && held_at(l, t->promises[i].id) < 0)
			rel_fail(t, "%s is held, and nobody asked for it", t->promises[i].text);
	for (size_t i = 0; i < l->ngraced; i++)
		if (!state_forgotten(&notes, l->graced[i].id))
			rel_fail(t, "%s cannot come back", l->graced[i].text);
	state_release(&notes);
}

static void look(struct loop *l, struct repo *r)
{
	struct rel *t = &l->t;

	rel_check_list(t, r, 0, NULL);
	look_holds(l, r);
	for (size_t i = 0; i < MIN((size_t)SAMPLE, t->npromises); i++) {
		l->sample = (l->sample + 1) % t->npromises;
		rel_check_point(t, r, &t->promises[l->sample]);
	}
}

/* --- commands --- */

/* Chooses points that are not held. */
static void choose(struct loop *l, unsigned most)
{
	struct rel *t = &l->t;
	size_t from = t->npromises ? rel_random(t, t->npromises) : 0;

	l->nchosen = 0;
	for (size_t i = 0; i < t->npromises && l->nchosen < most; i++) {
		size_t at = (from + i) % t->npromises;

		if (held_at(l, t->promises[at].id) < 0)
			l->chosen[l->nchosen++] = at;
	}
}

static void damage_segment(struct loop *l);
static void damage_pack(struct loop *l);

/* Fills args (room for 12); false: there is nothing to do it on. */
static bool prepare(struct loop *l, enum op op, const char **args)
{
	struct rel *t = &l->t;
	unsigned n = 0;

	args[n++] = ops[op].name;
	switch (op) {
	case OP_BACKUP:
		if (rel_random(t, 8))
			rel_change(t, 1 + (unsigned)rel_random(t, 20));
		args[n++] = rel_random(t, 3) ? "web1" : "db1";
		args[n++] = t->source;
		args[n++] = "--config";
		args[n++] = t->config;
		break;
	case OP_FORGET:
		choose(l, 1 + (unsigned)rel_random(t, CHOSEN_MAX));
		if (t->npromises < 4 || !l->nchosen)
			return false;
		l->grace = rel_random(t, 4) == 0;
		args[n++] = "--grace";
		args[n++] = l->grace ? "2d" : "0";
		for (size_t i = 0; i < l->nchosen; i++)
			args[n++] = t->promises[l->chosen[i]].text;
		break;
	case OP_UNFORGET:
		if (!l->ngraced)
			return false;
		l->chosen[0] = rel_random(t, l->ngraced);
		args[n++] = l->graced[l->chosen[0]].text;
		break;
	case OP_PROTECT:
		choose(l, 1);
		if (!l->nchosen || l->nheld > 4)
			return false;
		args[n++] = t->promises[l->chosen[0]].text;
		args[n++] = "--reason";
		args[n++] = "kept";
		break;
	case OP_UNPROTECT:
		for (l->chosen[0] = 0; l->chosen[0] < t->npromises; l->chosen[0]++)
			if (held_at(l, t->promises[l->chosen[0]].id) >= 0)
				break;
		if (l->chosen[0] == t->npromises)
			return false;
		args[n++] = t->promises[l->chosen[0]].text;
		break;
	case OP_PRUNE:
		args[n++] = "--min-unused";
		args[n++] = "0";
		break;
	case OP_REPAIR:
		if (rel_random(t, 2))
			damage_segment(l);
		else
			damage_pack(l);
		break;
	case OPS:
		return false;
	}
	args[n] = NULL;
	return true;
}

/* The chosen points are forgotten, all or none; must: the command said so. */
static void settle_forget(struct loop *l, struct repo *r, bool must)
{
	struct rel *t = &l->t;
	struct point_filter all = { 0 };
	struct point_list list = { 0 };
	struct err err = ERR_INIT;
	size_t there = 0;

	rel_ok(t, repo_points(r, &all, &list, &err));
	for (size_t i = 0; i < l->nchosen; i++)
		there += is_listed(&list, t->promises[l->chosen[i]].id);
	point_list_release(&list);
	if (there && (must || there != l->nchosen))
		rel_fail(t, "of %zu points that were to be forgotten %zu are listed", l->nchosen,
			 there);
	if (there)
		return;
	/* from the highest index down, so that the others stay right */
	for (size_t k = 0; k < l->nchosen; k++) {
		size_t top = 0;
		struct rel_promise p;

		for (size_t i = 1; i < l->nchosen; i++)
			if (l->chosen[i] != SIZE_MAX &&
			    (l->chosen[top] == SIZE_MAX || l->chosen[i] > l->chosen[top]))
				top = i;
		p = take_promise(t, l->chosen[top]);
		l->chosen[top] = SIZE_MAX;
		if (l->grace)
			add_graced(l, &p);
	}
}

static void settle_unforget(struct loop *l, struct repo *r, bool must)
{
	struct rel *t = &l->t;
	struct rel_promise p = l->graced[l->chosen[0]], more;

	if (!rel_check_list(t, r, 1, &more)) {
		if (must)
			rel_fail(t, "%s did not come back", p.text);
		return;
	}
	if (memcmp(more.id, p.id, POINT_ID_LEN) != 0)
		rel_fail(t, "%s came back instead of %s", more.text, p.text);
	l->graced[l->chosen[0]] = l->graced[--l->ngraced];
	rel_promise(t, p.id, p.text, p.sha);
	rel_check_point(t, r, &p);
}

static void settle_hold(struct loop *l, struct repo *r, bool set, bool must)
{
	struct rel *t = &l->t;
	const struct rel_promise *p = &t->promises[l->chosen[0]];
	struct err err = ERR_INIT;
	struct state notes;
	bool held;

	rel_ok(t, repo_notes(r, &notes, &err));
	held = state_hold(&notes, p->id) != NULL;
	state_release(&notes);
	if (must && held != set)
		rel_fail(t, "the hold of %s is not as asked for", p->text);
	set_held(l, p->id, held);
}

/* What came of the command: of it all, or nothing of it. */
static void settle(struct loop *l, enum op op, const struct rel_ended *e)
{
	struct rel *t = &l->t;
	struct repo *r = rel_open(t, REPO_READ);
	bool must = e->status.exited;

	switch (op) {
	case OP_BACKUP:
		rel_check_ended(t, r, e, 1);
		break;
	case OP_FORGET:
		settle_forget(l, r, must);
		break;
	case OP_UNFORGET:
		settle_unforget(l, r, must);
		break;
	case OP_PROTECT:
	case OP_UNPROTECT:
		settle_hold(l, r, op == OP_PROTECT, must);
		break;
	case OP_PRUNE:
	case OP_REPAIR:
	case OPS:
		break;
	}
	look(l, r);
	repo_close(r);
}

static struct rel_status undisturbed(struct loop *l, enum op op, const char *const *args)
{
	struct rel *t = &l->t;
	struct rel_status s = rel_run(t, args, NULL, NULL);
	char text[2048];

	rel_whole(t->err, text, sizeof(text));
	if (!s.exited || s.code)
		rel_fail(t, "the next %s ended with %s %d: %s", ops[op].name,
			 s.exited ? "status" : "signal", s.code, text);
	l->usual_ns[op] = l->usual_ns[op] ?
				  (l->usual_ns[op] * 7 + MIN(t->last_ns, 4 * l->usual_ns[op])) / 8 :
				  t->last_ns;
	return s;
}

/* One of the commands runs to its end. */
static void run_one(struct loop *l, enum op op)
{
	const char *args[12];
	struct rel_ended e;

	if (!prepare(l, op, args))
		return;
	rel_note(&l->t, undisturbed(l, op, args), &e);
	settle(l, op, &e);
}

/* --- what repair is for --- */

struct files {
	struct loop *l;
	const char *folder, *end;
	char found[512]; /* one of them, by random */
	unsigned count;
};

static int pick_file(void *opaque, const char *name, struct err *err)
{
	struct files *f = opaque;

	(void)err;
	if (str_ends(name, f->end) && rel_random(&f->l->t, ++f->count) == 0)
		snprintf(f->found, sizeof(f->found), "%s/%s", f->folder, name);
	return 0;
}

static int pick_folder(void *opaque, const char *name, struct err *err)
{
	struct files *f = opaque;
	cleanup_free char *path = str_printf("%s/packs/%s", f->l->t.repo, name);

	f->folder = path;
	return dir_each(path, pick_file, f, err);
}

static void damage_segment(struct loop *l)
{
	cleanup_free char *folder = str_printf("%s/index", l->t.repo);
	struct files f = { .l = l, .folder = folder, .end = ".seg" };
	struct err err = ERR_INIT;

	rel_ok(&l->t, dir_each(folder, pick_file, &f, &err));
	if (f.count && unlink(f.found) < 0)
		rel_fail(&l->t, "cannot remove '%s'", f.found);
}

/* One byte of a trailer. */
static void damage_pack(struct loop *l)
{
	struct rel *t = &l->t;
	cleanup_free char *folder = str_printf("%s/packs", t->repo);
	struct files f = { .l = l, .end = ".pack" };
	struct err err = ERR_INIT;
	cleanup_fd int fd = -1;
	uint64_t size;
	uint8_t byte;

	rel_ok(t, dir_each(folder, pick_folder, &f, &err));
	if (!f.count)
		return;
	rel_ok(t, fd = file_open(f.found, O_RDWR, 0, &err));
	rel_ok(t, file_size(fd, &size, f.found, &err));
	size -= 1 + rel_random(t, PACK_TRAILER_LEN);
	rel_ok(t, file_pread(fd, &byte, 1, size, f.found, &err));
	byte ^= 0x10;
	rel_ok(t, file_pwrite(fd, &byte, 1, size, f.found, NULL, &err));
}

/* --- one kill --- */

#ifdef ENABLE_FAULT_POINTS
static const bool can_aim = true;
#else
static const bool can_aim = false;
#endif

static void note_phase(struct loop *l)
{
	static const char *const marks[] = { "catalog.roots.after\n", "catalog.condemn.after\n",
					     "catalog.settle.after\n" };
	struct err err = ERR_INIT;
	struct buf log = BUF_INIT;
	unsigned phase = 0;

	/* killed before its first step: no log */
	(void)file_read_all(l->log, MiB, &log, &err);
	for (unsigned i = 0; i < ARRAY_SIZE(marks); i++)
		if (log.len && memmem(log.data, log.len, marks[i], strlen(marks[i])))
			phase = i + 1;
	buf_release(&log);
	l->phase[phase]++;
}

static enum op pick_op(struct loop *l)
{
	unsigned sum = 0, dice;

	for (unsigned i = 0; i < OPS; i++)
		sum += ops[i].weight;
	dice = (unsigned)rel_random(&l->t, sum);
	if (l->t.npromises > AT_MOST && dice % 2)
		return OP_FORGET;
	for (unsigned i = 0; i < OPS; i++) {
		if (dice < ops[i].weight)
			return (enum op)i;
		dice -= ops[i].weight;
	}
	return OP_PRUNE;
}

static void kill_one(struct loop *l, enum op op, const char *const *args, struct rel_ended *e)
{
	struct rel *t = &l->t;
	unsigned naims = 0;
	cleanup_free char *fault = NULL;
	uint64_t delay;
	struct rel_status s;
	pid_t pid;

	while (naims < ARRAY_SIZE(ops[op].aims) && ops[op].aims[naims])
		naims++;
	(void)unlink(l->log);
	if (can_aim && naims && rel_random(t, 3) == 0) {
		fault = str_printf("%s:%u:kill", ops[op].aims[rel_random(t, naims)],
				   1 + (unsigned)rel_random(t, 3));
		snprintf(t->what, sizeof(t->what), "kill %u, %s, %s", l->kills + 1, ops[op].name,
			 fault);
		s = rel_run(t, args, fault, l->log);
	} else {
		delay = rel_random(t, l->usual_ns[op] + l->usual_ns[op] * 15 / 100 + 1);
		snprintf(t->what, sizeof(t->what), "kill %u, %s, %" PRIu64 " us after its start",
			 l->kills + 1, ops[op].name, delay / 1000);
		pid = rel_spawn(t, args, NULL, op == OP_PRUNE ? l->log : NULL, t->out, t->err);
		wait_ns(delay);
		kill(pid, SIGKILL);
		s = rel_wait(t, pid);
	}
	rel_note(t, s, e);
	if (s.exited && s.code != 0)
		rel_fail(t, "it failed by itself with status %d: %s", s.code, e->complained);
	l->kills += !s.exited;
	l->kills_of[op] += !s.exited;
	l->late += s.exited;
	if (!s.exited && op == OP_PRUNE)
		note_phase(l);
}

static void clean(struct loop *l)
{
	static const char *const prune[] = { "prune", "--min-unused", "0", NULL };
	static const char *const log[] = { "log", "--verify", NULL };
	struct rel *t = &l->t;
	struct rel_status s;
	struct repo *r;

	undisturbed(l, OP_PRUNE, prune);
	s = rel_run(t, log, NULL, NULL);
	if (!s.exited || s.code)
		rel_fail(t, "the audit log's chain is not whole (%d)", s.code);
	r = rel_open(t, REPO_WRITE);
	look(l, r);
	rel_check_leftovers(t, r);
	rel_check_verify(t, r, l->cleaned++ % 4 == 0);
	repo_close(r);
}

static void one_round(struct loop *l)
{
	static const char *const prune[] = { "prune", "--min-unused", "0", NULL };
	static const char *const repair[] = { "repair", NULL };
	struct rel *t = &l->t;
	unsigned before = l->kills;
	struct rel_ended e;
	const char *args[12];
	enum op op;
	bool unseen;

	do
		op = pick_op(l);
	while (!prepare(l, op, args));
	if (!l->usual_ns[op])
		l->usual_ns[op] = l->usual_ns[OP_BACKUP];
	kill_one(l, op, args, &e);
	unseen = op != OP_REPAIR && rel_random(t, 2);
	if (op == OP_REPAIR)
		undisturbed(l, op, repair);
	else if (unseen)
		undisturbed(l, OP_PRUNE, prune);
	l->unseen += unseen && l->kills != before;
	settle(l, op, &e);
	if (!unseen)
		run_one(l, (enum op)rel_random(t, OP_REPAIR));
	t->passed += l->kills - before;
}

static void begin(struct loop *l)
{
	rel_init(&l->t);
	for (unsigned i = 0; i < 5; i++)
		run_one(l, OP_BACKUP);
	run_one(l, OP_FORGET);
	run_one(l, OP_PRUNE);
}

static void finish(struct loop *l)
{
	snprintf(l->t.what, sizeof(l->t.what), "at the end, after %u kills", l->kills);
	while (l->ngraced)
		run_one(l, OP_UNFORGET);
	l->cleaned = 0; /* with all data */
	clean(l);
	rel_check_all(&l->t);
}

int main(int argc, char **argv)
{
	struct loop l = { .kills = 0 };
	uint64_t kills, seed;

	if (argc != 5 || !parse_u64(argv[3], &kills) || !parse_u64(argv[4], &seed)) {
		fprintf(stderr, "usage: kill-prune DIR plain|encrypted KILLS SEED\n");
		return 2;
	}
	rel_begin(&l.t, argv[1], strcmp(argv[2], "encrypted") == 0, seed, DISK, 160);
	snprintf(l.log, sizeof(l.log), "%s/log", l.t.dir);
	printf("seed %" PRIu64 ", %s, %" PRIu64 " kills\n", seed, argv[2], kills);
	begin(&l);
	for (unsigned n = 1; l.kills < kills; n++) {
		one_round(&l);
		if (n % CLEAN_EVERY == 0)
			clean(&l);
	}
	finish(&l);
	printf("%u kills:", l.kills);
	for (unsigned i = 0; i < OPS; i++)
		printf(" %s %u%s", ops[i].name, l.kills_of[i], i + 1 < OPS ? "," : "\n");
	printf("%u came too late and do not count; after %u nobody looked before the next prune\n",
	       l.late, l.unseen);
	printf("killed prunes: %u before the roots were read, %u marking, %u between condemning and "
	       "dooming, %u reclaiming\n",
	       l.phase[0], l.phase[1], l.phase[2], l.phase[3]);
	printf("%u passed, 0 failed\n", l.t.passed);
	free(l.graced);
	free(l.held);
	rel_end(&l.t);
	return 0;
}
