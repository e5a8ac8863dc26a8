// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * model-gc DIR plain|encrypted STEPS SEED: backup, forget, unforget, holds, prune, readers that stay, kills, suspended
 * processes that are fenced and wake up again, crashes of everything, in random order, against a model in memory.
 *
 * The model knows each point: its name, its chunks (numbers that stand for contents), what was asked for.  The repository
 * is never open here: every operation is a child made by fork, which opens it, works and tells the outcome through a pipe,
 * so it can be killed or stopped at any fault point.  After every step the list of points is compared with the model.
 *
 * What must hold:
 *  1. A complete point is there, and reads back as it was backed up; one that was forgotten with time left can come back.
 *  2. A point that was never promised appears only if its backup was killed or suspended after its commit, and is whole then.
 *  3. A reader reads its point's bytes however often it is pruned beneath.
 *  4. No backup is refused, but for another one of its name, or after it was fenced; a fenced one publishes nothing.
 *  5. When nobody is left, one prune leaves no traces, and just the slots that points need.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "tests/model-gc.h"

#include "base/banned.h"

struct world w;

static void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *fmt, ...)
{
	va_list ap;

	printf("FAILED: seed %" PRIu64 ", step %u, %s: ", w.seed, w.step, w.what);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n0 passed, 1 failed\n");
	fflush(stdout);
	for (unsigned i = 0; i < CHILDREN_MOST; i++)
		if (w.children[i].pid)
			kill(w.children[i].pid, SIGKILL);
	exit(1);
}

/* xorshift64*, Vigna 2016 */
uint64_t rnd(uint64_t below)
{
	w.rng ^= w.rng >> 12;
	w.rng ^= w.rng << 25;
	w.rng ^= w.rng >> 27;
	return (w.rng * 0x2545f4914f6cdd1du >> 20) % below;
}

bool once_in(unsigned n)
{
	return rnd(n) == 0;
}

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(w.what, sizeof(w.what), fmt, ap);
	va_end(ap);
	if (getenv("MODEL_GC_TRACE"))
		printf("%u: %s\n", w.step, w.what);
}

/* --- in the parent --- */

/* Returns 0 in the child.  fault: LIVEPOINT_FAULT, or "". */
static pid_t spawn(const char *fault, int *from)
{
	int fds[2];
	pid_t pid;

	fflush(stdout);
	if (pipe2(fds, O_CLOEXEC) < 0 || (pid = fork()) < 0)
		fail("fork: %s", strerror(errno));
	if (pid) {
		close(fds[1]);
		*from = fds[0];
		(void)rnd(2); /* or parent and child would go on with the same numbers */
		return pid;
	}
	report_fd = fds[1];
	w.rng += 0x9e3779b97f4a7c15u;
	if (*fault)
		setenv("LIVEPOINT_FAULT", fault, 1);
	return 0;
}

/* Everything it told; the code is 1 if it told nothing. */
static struct report collect(int from)
{
	struct report r = { .code = 1 };
	size_t at = 0;
	ssize_t n;

	while (at < sizeof(r) && (n = read(from, (char *)&r + at, sizeof(r) - at)) > 0)
		at += (size_t)n;
	if (at != sizeof(r))
		r = (struct report){ .code = 1 };
	for (size_t got = 0; r.count && got < r.count * sizeof(*w.list); got += (size_t)n) {
		n = read(from, (char *)w.list + got, r.count * sizeof(*w.list) - got);
		if (n <= 0)
			fail("the list ends early");
	}
	close(from);
	return r;
}

/* Waits until it has ended (true) or stopped. */
static bool ended(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, WUNTRACED) < 0)
		if (errno != EINTR)
			fail("waitpid: %s", strerror(errno));
	if (WIFSTOPPED(status))
		return false;
	if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
		fail("a child died of signal %d", WTERMSIG(status));
	return true;
}

/* An operation that nothing disturbs. */
#define RUN(call)                                                                                  \
	({                                                                                         \
		int from_;                                                                         \
		pid_t pid_ = spawn("", &from_);                                                    \
		struct report report_;                                                             \
		if (!pid_) {                                                                       \
			call;                                                                      \
			_exit(4);                                                                  \
		}                                                                                  \
		report_ = collect(from_);                                                          \
		if (!ended(pid_))                                                                  \
			fail("%s stopped", #call);                                                 \
		report_;                                                                           \
	})

static struct child *free_child(void)
{
	for (unsigned i = 0; i < CHILDREN_MOST; i++)
		if (!w.children[i].pid)
			return &w.children[i];
	return NULL;
}

static struct child *any_child(enum kind kind)
{
	unsigned from = (unsigned)rnd(CHILDREN_MOST);

	for (unsigned i = 0; i < CHILDREN_MOST; i++) {
		struct child *c = &w.children[(from + i) % CHILDREN_MOST];

		if (c->pid && c->kind == kind)
			return c;
	}
	return NULL;
}

static bool name_suspended(unsigned name)
{
	for (unsigned i = 0; i < CHILDREN_MOST; i++)
		if (w.children[i].pid && w.children[i].kind == BACKUP &&
		    w.points[w.children[i].point].name == name)
			return true;
	return false;
}

/* --- comparing --- */

static void compare_point(struct point *p, const struct listed *l)
{
	switch (p->state) {
	case PENDING:
		if (!p->maybe)
			fail("point %u, whose backup failed, is there", (unsigned)(p - w.points));
		memcpy(p->id, l->id, POINT_ID_LEN);
		p->state = COMPLETE;
		break;
	case COMPLETE:
		if (!l->complete && !p->maybe)
			fail("point %u is forgotten, nobody asked for it",
			     (unsigned)(p - w.points));
		if (!l->complete)
			p->state = FORGOTTEN;
		break;
	case FORGOTTEN:
		if (l->complete && !p->maybe)
			fail("point %u came back by itself", (unsigned)(p - w.points));
		if (l->complete)
			p->state = COMPLETE;
		break;
	case GONE:
		fail("point %u came back from nowhere", (unsigned)(p - w.points));
	}
	if (p->held != l->held && !p->maybe)
		fail("hold of point %u: %d", (unsigned)(p - w.points), l->held);
	p->held = l->held;
}

static uint64_t reconcile(pid_t pid)
{
	cleanup_free bool *seen = calloc(MAX(w.count, 1u), sizeof(*seen));
	struct report r = RUN(child_list(pid));

	if (r.code)
		fail("list: %s", r.text);
	for (unsigned i = 0; i < r.count; i++) {
		unsigned n = w.list[i].label;

		if (n >= w.count || seen[n])
			fail("an unknown point is there (%u)", n);
		seen[n] = true;
		compare_point(&w.points[n], &w.list[i]);
	}
	for (unsigned n = 0; n < w.count; n++) {
		struct point *p = &w.points[n];

		if (seen[n] || p->state == PENDING || p->state == GONE)
			continue;
		if (p->state == COMPLETE && !p->maybe)
			fail("point %u is lost", n);
		if (p->grace)
			fail("point %u is lost, although it could come back", n);
		if (p->readers)
			fail("point %u is lost under its reader", n);
		p->state = GONE;
	}
	for (unsigned n = 0; n < w.count; n++)
		w.points[n].maybe = w.points[n].state == PENDING && w.points[n].alive &&
				    w.points[n].maybe;
	return r.token;
}

static int random_points(enum point_is state, unsigned *out, unsigned most)
{
	unsigned n = 0, from = w.count ? (unsigned)rnd(w.count) : 0;

	for (unsigned i = 0; i < w.count && n < most; i++) {
		unsigned at = (from + i) % w.count;

		if (w.points[at].state == state && (n == 0 || once_in(3)))
			out[n++] = at;
	}
	return (int)n;
}

static void check(const unsigned *points, unsigned count)
{
	struct report r = RUN(child_check(points, count));

	if (r.code)
		fail("reading points (first %u): %d %s", points[0], r.code, r.text);
}

/* --- operations --- */

static void fault_kill(char *fault, size_t n, unsigned most)
{
	snprintf(fault, n, "*:%u:kill", 1 + (unsigned)rnd(most));
}

/* Places where nobody holds the catalog: a process that stops inside a transaction stops everybody. */
static void fault_stop(char *fault, size_t n)
{
	static const char *const names[] = {
		"catalog.lease.after",	 "catalog.session.after",   "store.stage.make",
		"catalog.pack.after",	 "store.pack.rename",	    "store.folder.sync",
		"store.pack.create",	 "store.stage.create",	    "repo.gc.staged",
		"repo.gc.roots",	 "catalog.roots.after",	    "catalog.state.after",
		"repo.gc.marked",	 "catalog.condemn.after",   "repo.gc.again",
		"catalog.settle.after",	 "store.rewrite.rename",    "store.pack.remove",
		"catalog.dropped.after", "catalog.reserve.after",   "store.segment.rename",
		"catalog.segment.after", "catalog.packread.before", "catalog.packread.after",
	};

	snprintf(fault, n, "%s:%u:stop", names[rnd(ARRAY_SIZE(names) - 2)], 1 + (unsigned)rnd(3));
}

/* The outcome of a backup that was left to itself; fenced: it must not publish any more. */
static void backup_ended(unsigned n, const struct report *r, bool fenced, bool was_locked)
{
	struct point *p = &w.points[n];

	p->alive = false;
	if (r->code == 1) { /* killed */
		p->maybe = p->maybe || !fenced;
		reconcile(0);
		return;
	}
	if (r->code == 0) {
		p->maybe = true;
		reconcile(0);
		if (p->state != COMPLETE)
			fail("point %u was published and is not there", n);
		return;
	}
	if (!(r->code == ERR_LOCKED && was_locked) && !fenced)
		fail("backup: %d %s", r->code, r->text);
	reconcile(0);
}

static void change(uint16_t *disk)
{
	unsigned changes = once_in(5) ? 200 : (unsigned)rnd(30);

	if (once_in(8)) { /* as another disk is now */
		memcpy(disk, w.disks[rnd(NAMES)], sizeof(w.disks[0]));
		return;
	}
	for (unsigned i = 0; i < changes; i++) {
		unsigned at = (unsigned)rnd(CHUNKS), n = 1 + (unsigned)rnd(6);
		unsigned first = 1 + (unsigned)rnd(CONTENTS);

		for (unsigned k = 0; k < n && at + k < CHUNKS; k++)
			disk[at + k] = once_in(3) ? 0 :
						    (uint16_t)(1 + (first + k) % (CONTENTS - 1));
	}
}

static void op_backup(void)
{
	unsigned n = w.count, name = (unsigned)rnd(NAMES), dice = (unsigned)rnd(12);
	bool busy = name_suspended(name);
	struct child *c = free_child();
	struct plan plan = { .threads = once_in(4) ? 2 : 0, .full = once_in(6) };
	struct report r;
	pid_t pid;
	int from;

	if (w.count == POINTS_MOST)
		return;
	change(w.disks[name]);
	w.count++;
	memset(&w.points[n], 0, sizeof(w.points[n]));
	w.points[n].name = name;
	memcpy(w.points[n].chunks, w.disks[name], sizeof(w.disks[name]));
	if (dice < 3)
		fault_kill(plan.fault, sizeof(plan.fault), 70);
	else if (dice == 3)
		plan.abandon = true;
	else if (dice == 4 && c)
		fault_stop(plan.fault, sizeof(plan.fault));
	else if (dice < 7 && c)
		plan.pause = 1 + (unsigned)rnd(6);
	say("backup %u of n%u, fault '%s', pause %u", n, name, plan.fault, plan.pause);
	pid = spawn(plan.fault, &from);
	if (!pid)
		child_backup(&plan, &w.points[n], n);
	if (!ended(pid)) {
		*c = (struct child){ .pid = pid, .kind = BACKUP, .from = from, .point = n };
		w.points[n].maybe = w.points[n].alive = true;
		reconcile(0);
		w.done[0]++;
		return;
	}
	r = collect(from);
	if (r.code == 1 && !*plan.fault && !plan.abandon)
		fail("the backup died");
	backup_ended(n, &r, false, busy);
	w.done[1]++;
}

static void op_forget(void)
{
	unsigned points[8];
	int n = random_points(COMPLETE, points, 1 + (unsigned)rnd(4));
	int64_t grace = once_in(3) ? LONG_GRACE : 0;
	bool held = false;
	struct report r;
	char fault[80] = "";
	pid_t pid;
	int from;

	if (n == 0)
		return;
	if (once_in(5))
		fault_kill(fault, sizeof(fault), 6);
	say("forget %d, first %u, fault '%s'", n, points[0], fault);
	for (int i = 0; i < n; i++) {
		w.points[points[i]].maybe = true;
		w.points[points[i]].grace = grace;
		held |= w.points[points[i]].held;
	}
	pid = spawn(fault, &from);
	if (!pid)
		child_forget(points, (unsigned)n, grace);
	r = collect(from);
	(void)ended(pid);
	if (held != (r.code == ERR_HELD) && r.code != 1)
		fail("forget: %d %s", r.code, r.text);
	if (r.code == 1 && !*fault)
		fail("forget died");
	reconcile(0);
	for (int i = 0; i < n; i++) {
		struct point *p = &w.points[points[i]];

		if (r.code == 0 && p->state == COMPLETE)
			fail("point %u was not forgotten", points[i]);
		if (held && p->state != COMPLETE)
			fail("point %u was forgotten beside a held one", points[i]);
	}
	w.done[2]++;
}

static void op_unforget(void)
{
	unsigned n;
	struct point *p;
	struct report r;

	if (random_points(FORGOTTEN, &n, 1) == 0)
		return;
	p = &w.points[n];
	say("unforget %u", n);
	p->maybe = true;
	r = RUN(child_unforget(p));
	if (r.code && p->grace)
		fail("unforget: %d %s", r.code, r.text);
	reconcile(0);
	if (r.code == 0 && p->state != COMPLETE)
		fail("point %u did not come back", n);
	if (r.code == 0)
		check(&n, 1);
	w.done[3]++;
}

static void op_hold(void)
{
	unsigned n;
	struct point *p;
	struct report r;
	bool set;

	if (random_points(COMPLETE, &n, 1) == 0)
		return;
	p = &w.points[n];
	set = !p->held;
	say("%s %u", set ? "protect" : "unprotect", n);
	p->maybe = true;
	r = RUN(child_hold(p, set));
	if (r.code)
		fail("hold: %d %s", r.code, r.text);
	reconcile(0);
	if (p->held != set)
		fail("the hold of point %u is not as asked for", n);
	w.done[4]++;
}

static void op_prune(void)
{
	unsigned dice = (unsigned)rnd(6);
	struct plan plan = { .threads = once_in(4) ? 2 : 0 };
	struct child *c = free_child();
	bool busy = any_child(PRUNE) != NULL;
	struct report r;
	pid_t pid;
	int from;

	if (dice < 2)
		fault_kill(plan.fault, sizeof(plan.fault), 90);
	else if (dice == 2 && c)
		fault_stop(plan.fault, sizeof(plan.fault));
	say("prune, fault '%s'", plan.fault);
	pid = spawn(plan.fault, &from);
	if (!pid)
		child_prune(&plan, 0, false);
	if (!ended(pid)) {
		*c = (struct child){ .pid = pid, .kind = PRUNE, .from = from };
		reconcile(0);
		w.done[5]++;
		return;
	}
	r = collect(from);
	if (r.code < 0 && !(r.code == ERR_LOCKED && busy))
		fail("prune: %d %s", r.code, r.text);
	if (r.code == 1 && !*plan.fault)
		fail("prune died");
	reconcile(0);
	w.done[6]++;
}

/* A suspended process goes on: by itself, after it was fenced, or not at all. */
static void op_wake(void)
{
	struct child *c = any_child(once_in(2) ? BACKUP : PRUNE);
	unsigned dice = (unsigned)rnd(4);
	const struct plan plan = { 0 };
	bool fenced = false;
	struct report r;
	uint64_t token;

	if (!c)
		return;
	token = reconcile(c->pid);
	say("wake %s %u (lease %" PRIu64 "), %s", c->kind == BACKUP ? "backup" : "prune", c->point,
	    token,
	    dice == 0 ? "killed" :
	    dice < 3  ? "fenced" :
			"as it is");
	if (dice == 0)
		kill(c->pid, SIGKILL);
	if (dice >= 1 && dice < 3 && token) {
		r = RUN(child_prune(&plan, token, false));
		if (r.code && r.code != ERR_LOCKED)
			fail("fence: %d %s", r.code, r.text);
		fenced = true;
		reconcile(0);
		if (c->kind == BACKUP && w.points[c->point].state == PENDING)
			w.points[c->point].maybe = false; /* from now on it cannot come */
	}
	kill(c->pid, SIGCONT);
	while (!ended(c->pid)) /* stopped again */
		kill(c->pid, SIGCONT);
	r = collect(c->from);
	if (c->kind == BACKUP)
		/* without a lease yet, another of its name may have got in meanwhile */
		backup_ended(c->point, &r, fenced, token == 0);
	else if (r.code < 0 && !fenced)
		fail("woken prune: %d %s", r.code, r.text);
	c->pid = 0;
	reconcile(0);
	w.done[7 + (fenced ? 1 : 0)]++;
}

static void op_reader(void)
{
	struct child *c = any_child(READER), *room = free_child();
	unsigned n;
	pid_t pid;
	int from;

	if (c && (!room || once_in(3))) {
		say("end of the reader of %u", c->point);
		kill(c->pid, SIGKILL);
		(void)ended(c->pid);
		close(c->from);
		w.points[c->point].readers--;
		c->pid = 0;
		return;
	}
	if (!room || random_points(COMPLETE, &n, 1) == 0)
		return;
	say("reader of %u", n);
	pid = spawn("", &from);
	if (!pid)
		child_reader(&w.points[n]);
	if (ended(pid))
		fail("the reader could not begin: %s", collect(from).text);
	*room = (struct child){ .pid = pid, .kind = READER, .from = from, .point = n };
	w.points[n].readers++;
	w.done[9]++;
}

static void readers_read(void)
{
	for (unsigned i = 0; i < CHILDREN_MOST; i++) {
		struct child *c = &w.children[i];

		if (!c->pid || c->kind != READER)
			continue;
		kill(c->pid, SIGCONT);
		if (ended(c->pid))
			fail("reader of %u: %s", c->point, collect(c->from).text);
		w.done[10]++;
	}
}

static void op_crash(void)
{
	say("crash");
	for (unsigned i = 0; i < CHILDREN_MOST; i++)
		if (w.children[i].pid)
			kill(w.children[i].pid, SIGKILL);
	for (unsigned i = 0; i < CHILDREN_MOST; i++) {
		struct child *c = &w.children[i];
		const struct report killed = { .code = 1 };

		if (!c->pid)
			continue;
		(void)ended(c->pid);
		close(c->from);
		c->pid = 0;
		if (c->kind == READER)
			w.points[c->point].readers--;
		if (c->kind == BACKUP)
			backup_ended(c->point, &killed, false, false);
	}
	w.done[11]++;
}

/* Nobody is left: one prune, and nothing is there but what points need. */
static void op_clean(void)
{
	const struct plan plan = { 0 };
	struct report r;

	op_crash();
	say("clean");
	r = RUN(child_prune(&plan, 0, true));
	if (r.code || r.waiting || r.left)
		fail("prune: %d %s, waiting %d, left %" PRIu64, r.code, r.text, r.waiting, r.left);
	/* the state object that this very prune stored was no candidate */
	if (r.entries != r.marked + 1)
		fail("%" PRIu64 " records are there, %" PRIu64 " are needed", r.entries, r.marked);
	reconcile(0);
	r = RUN(child_clean());
	if (r.code)
		fail("not clean: %s", r.text);
	w.done[12]++;
}

static void check_all(void)
{
	unsigned *all = calloc(MAX(w.count, 1u), sizeof(*all)), n = 0;

	say("check of all points");
	for (unsigned i = 0; i < w.count; i++)
		if (w.points[i].state == COMPLETE)
			all[n++] = i;
	if (n)
		check(all, n);
	free(all);
}

static void one_step(void)
{
	static void (*const ops[])(void) = {
		op_backup, op_backup,	op_backup, op_backup, op_forget, op_forget,
		op_prune,  op_prune,	op_prune,  op_wake,   op_wake,	 op_reader,
		op_hold,   op_unforget, op_reader, op_prune,  op_backup, op_forget,
	};
	unsigned points[3];
	int n;

	w.step++;
	if (once_in(90))
		op_crash();
	else if (once_in(90))
		op_clean();
	else
		ops[rnd(ARRAY_SIZE(ops))]();
	if (once_in(2))
		readers_read();
	n = once_in(3) ? random_points(COMPLETE, points, 3) : 0;
	if (n)
		check(points, (unsigned)n);
	if (w.step % 100 == 0)
		check_all();
}

int main(int argc, char **argv)
{
	uint64_t steps;
	struct report r;

	if (argc != 5 || !parse_u64(argv[3], &steps) || !parse_u64(argv[4], &w.seed)) {
		fprintf(stderr, "usage: model-gc DIR plain|encrypted STEPS SEED\n");
		return 2;
	}
	unsetenv("LIVEPOINT_FAULT");
	snprintf(w.repo, sizeof(w.repo), "%s/repo", argv[1]);
	w.encrypted = strcmp(argv[2], "encrypted") == 0;
	w.rng = w.seed * 0x9e3779b97f4a7c15u + 1;
	w.points = calloc(POINTS_MOST, sizeof(*w.points));
	if (!w.points || dir_make(argv[1], 0700, NULL, NULL) < 0)
		return 1;
	printf("seed %" PRIu64 ", %s, %" PRIu64 " steps\n", w.seed, argv[2], steps);
	say("init");
	r = RUN(child_init());
	if (r.code)
		fail("%s", r.text);
	while (w.step < steps)
		one_step();
	check_all();
	op_clean();
	printf("%u backups and %u suspended ones, %u forgets, %u unforgets, %u holds, %u prunes and %u "
	       "suspended ones, %u woken and %u fenced, %u readers with %u reads, %u crashes, %u times "
	       "clean\n",
	       w.done[1], w.done[0], w.done[2], w.done[3], w.done[4], w.done[6], w.done[5],
	       w.done[7], w.done[8], w.done[9], w.done[10], w.done[11], w.done[12]);
	printf("%u passed, 0 failed\n", w.step);
	free(w.points);
	return 0;
}
