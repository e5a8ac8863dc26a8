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
#include "catalog/gc.h"
#include "repo/gc.h"
#include "repo/internal.h"
#include "repo/retention.h"
#include "repo/session.h"
#include "repo/verify.h"

#include "base/banned.h"

#define PASS "correct horse"
#define CHUNK 4096u
#define CHUNKS 1500u /* of a disk: two leaves */
#define BUFFER_CHUNKS (SESSION_BUFFER / CHUNK)
#define CONTENTS 1200u /* different chunks in the world */
#define NAMES 4u
#define POINTS_MOST 4000u
#define LISTED_MOST 512u
#define CHILDREN_MOST 8u
#define LONG_GRACE 1000000

enum point_is { PENDING, COMPLETE, FORGOTTEN, GONE };
struct point {
	enum point_is state;
	bool maybe; /* asked for something whose outcome is not known: either is right */
	bool grace; /* of a forgotten one: time is left */
	bool held;
	bool alive; /* its backup is suspended: a pending one may still come */
	unsigned name, readers;
	uint8_t id[POINT_ID_LEN];
	uint16_t chunks[CHUNKS]; /* 0: hole */
};

/* What a child tells. */
struct listed {
	uint8_t id[POINT_ID_LEN];
	uint32_t label; /* number of the point */
	bool complete, held;
};
struct report {
	int code; /* of the operation; 1: nothing was told */
	char text[400];
	uint64_t marked, left, entries; /* prune */
	bool waiting;
	uint32_t count, leases;
	uint64_t token; /* of the process that was asked about */
};

enum kind { BACKUP, PRUNE, READER };
struct child {
	pid_t pid; /* 0: free */
	enum kind kind;
	int from; /* pipe */
	unsigned point;
};

static struct {
	char repo[256];
	bool encrypted;
	uint64_t seed, rng;
	struct point *points;
	unsigned count;
	struct listed list[LISTED_MOST];
	struct child children[CHILDREN_MOST];
	uint16_t disks[NAMES][CHUNKS]; /* as they are now */
	unsigned step, done[16];
	char what[256];
} w;

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
static uint64_t rnd(uint64_t below)
{
	w.rng ^= w.rng >> 12;
	w.rng ^= w.rng << 25;
	w.rng ^= w.rng >> 27;
	return (w.rng * 0x2545f4914f6cdd1du >> 20) % below;
}

static bool once_in(unsigned n)
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

/* Every third compresses. */
static void content(uint8_t *p, unsigned number)
{
	uint64_t x = number * 0x9e3779b97f4a7c15u + 1;

	memset(p, 0, CHUNK);
	if (!number)
		return;
	for (unsigned i = 0; i < CHUNK; i += 8) {
		x ^= x >> 12;
		x ^= x << 25;
		x ^= x >> 27;
		put_le64(p + i, number % 3 ? x * 0x2545f4914f6cdd1du : x % 5 + number);
	}
}

/* --- in the child --- */

static int report_fd;

static void __attribute__((noreturn)) tell(const struct report *r)
{
	if (write(report_fd, r, sizeof(*r)) != sizeof(*r))
		_exit(3);
	_exit(0);
}

static void __attribute__((noreturn)) tell_code(int code, const struct err *err)
{
	struct report r = { .code = code };

	if (code < 0)
		str_copy(r.text, sizeof(r.text), err->text);
	tell(&r);
}

static struct repo *child_open(unsigned threads)
{
	struct err err = ERR_INIT;
	struct repo *r;
	int ret = repo_open(w.repo, REPO_WRITE, &r, &err);

	if (ret == 0 && repo_is_locked(r))
		ret = repo_unlock(r, PASS, strlen(PASS), true, &err);
	if (ret == 0)
		ret = repo_start(r, 4 * MiB, threads ? threads : REPO_SERIAL, &err);
	if (ret < 0)
		tell_code(ret, &err);
	return r;
}

static int write_disk(struct repo_session *s, const uint16_t *chunks, unsigned pause_at,
		      struct err *err)
{
	struct disk_spec spec = { .name = "vda",
				  .size = (uint64_t)CHUNKS * CHUNK,
				  .method = METHOD_FULL };
	int r = session_disk_begin(s, &spec, err);

	for (unsigned at = 0; at < CHUNKS && r == 0; at += BUFFER_CHUNKS) {
		unsigned n = MIN(CHUNKS - at, BUFFER_CHUNKS);
		uint8_t *buffer;

		if (pause_at && pause_at == at / BUFFER_CHUNKS)
			kill(getpid(), SIGSTOP);
		r = session_buffer(s, &buffer, err);
		if (r < 0)
			break;
		for (unsigned i = 0; i < n; i++)
			content(buffer + i * CHUNK, chunks[at + i]);
		r = session_disk_write(s, buffer, (uint64_t)at * CHUNK, n * CHUNK, err);
	}
	return r == 0 ? session_disk_end(s, 0, 0, err) : r;
}

struct plan {
	unsigned threads;
	bool full, abandon;
	unsigned pause; /* 1 to 5: SIGSTOP before a part of the disk; 6: before publishing */
	char fault[80];
};

static void child_backup(const struct plan *plan, const struct point *p, unsigned number)
{
	struct err err = ERR_INIT;
	struct repo *r = child_open(plan->threads);
	char name[16], label[16];
	struct manifest_label l = { .key = (char[]){ "n" }, .value = label };
	struct session_spec spec = { .name = name, .full = plan->full, .compression = -1 };
	struct publish_spec publish = { .labels = &l, .nlabels = 1 };
	struct session_result res;
	struct repo_session *s;
	int ret;

	snprintf(name, sizeof(name), "n%u", p->name);
	snprintf(label, sizeof(label), "%u", number);
	ret = repo_session_begin(r, &spec, &s, &err);
	if (ret == 0)
		ret = write_disk(s, p->chunks, plan->pause, &err);
	if (ret < 0)
		tell_code(ret, &err);
	if (plan->abandon)
		_exit(0); /* as it is: a death without a signal */
	if (plan->pause == 6)
		kill(getpid(), SIGSTOP);
	ret = repo_session_publish(s, &publish, &res, &err);
	if (ret < 0)
		tell_code(ret, &err);
	repo_close(r);
	tell_code(0, &err);
}

static uint64_t count_entries(struct repo *r)
{
	cleanup_free uint64_t *numbers = NULL;
	size_t count = 0;
	uint64_t n = 0;
	struct err err = ERR_INIT;

	if (store_packs_list(r->store, &numbers, &count, &err) < 0)
		tell_code(ERR_FAILED, &err);
	for (size_t i = 0; i < count; i++) {
		struct store_pack *p;
		unsigned entries;

		if (store_pack_get(r->store, numbers[i], &p, &err) < 0)
			tell_code(ERR_FAILED, &err);
		(void)store_pack_entries(p, &entries);
		n += entries;
		store_pack_put(p);
	}
	return n;
}

static void child_prune(const struct plan *plan, uint64_t fence, bool last)
{
	struct err err = ERR_INIT;
	struct repo *r = child_open(plan->threads);
	struct prune_spec spec = { .fence = fence,
				   .min_doomed = last ? 0 : (unsigned)rnd(60),
				   .max_rewrite = last || !once_in(4) ? 0 : 200 * KiB };
	struct prune_result res;
	struct report rep = { .code = repo_prune(r, &spec, &res, &err) };

	if (rep.code < 0)
		tell_code(rep.code, &err);
	if (res.packs_damaged)
		tell_code(ERR_DAMAGED, &err);
	rep.marked = res.marked;
	rep.left = res.bytes_left;
	rep.waiting = res.waiting;
	if (last)
		rep.entries = count_entries(r);
	repo_close(r);
	tell(&rep);
}

static void compare(struct repo_disk *d, const struct point *p, unsigned first, unsigned count)
{
	uint8_t wanted[CHUNK];
	cleanup_free uint8_t *got = malloc((size_t)count * CHUNK);
	struct err err = ERR_INIT;
	int r = repo_disk_read(d, got, (size_t)count * CHUNK, (uint64_t)first * CHUNK, &err);

	if (r < 0)
		tell_code(r, &err);
	for (unsigned i = 0; i < count; i++) {
		content(wanted, p->chunks[first + i]);
		if (memcmp(wanted, got + i * CHUNK, CHUNK) == 0)
			continue;
		err_set(&err, ERR_DAMAGED, "chunk %u has other bytes", first + i);
		tell_code(ERR_DAMAGED, &err);
	}
}

static void child_check(const unsigned *points, unsigned count)
{
	struct err err = ERR_INIT;
	struct repo *r = child_open(0);

	for (unsigned i = 0; i < count; i++) {
		const struct point *p = &w.points[points[i]];
		struct repo_point *open;
		struct repo_disk *d;
		int ret = repo_point_open(r, p->id, &open, &err);

		if (ret == 0)
			ret = repo_disk_open(open, NULL, &d, &err);
		if (ret < 0)
			tell_code(ret, &err);
		compare(d, p, 0, CHUNKS);
		repo_disk_close(d);
		repo_point_close(open);
	}
	repo_close(r);
	tell_code(0, &err);
}

/* Stays; each time it is woken it reads a piece, and tells only when something is wrong. */
static void child_reader(const struct point *p)
{
	struct err err = ERR_INIT;
	struct repo *r = child_open(0);
	struct repo_point *open;
	struct repo_disk *d;
	int ret = repo_point_open(r, p->id, &open, &err);

	if (ret == 0)
		ret = repo_disk_open(open, NULL, &d, &err);
	if (ret < 0)
		tell_code(ret, &err);
	for (;;) {
		unsigned first = (unsigned)rnd(CHUNKS), n = (unsigned)MIN(CHUNKS - first, 200u);

		kill(getpid(), SIGSTOP);
		if (once_in(2))
			store_drop_cache(r->store);
		compare(d, p, first, n);
	}
}

static void child_forget(const unsigned *points, unsigned count, int64_t grace)
{
	struct err err = ERR_INIT;
	struct repo *r = child_open(0);
	char hex[8][2 * POINT_ID_LEN + 1];
	const char *text[8];
	struct forget_plan plan;

	for (unsigned i = 0; i < count; i++) {
		hex_encode(hex[i], w.points[points[i]].id, POINT_ID_LEN);
		text[i] = hex[i];
	}
	tell_code(repo_forget_points(r, text, count, grace, false, &plan, &err), &err);
}

static void child_unforget(const struct point *p)
{
	struct err err = ERR_INIT;
	struct repo *r = child_open(0);
	char hex[2 * POINT_ID_LEN + 1], text[POINT_TEXT_MAX];

	hex_encode(hex, p->id, POINT_ID_LEN);
	tell_code(repo_unforget(r, hex, text, &err), &err);
}

static void child_hold(const struct point *p, bool set)
{
	struct err err = ERR_INIT;
	struct repo *r = child_open(0);
	char hex[2 * POINT_ID_LEN + 1];

	hex_encode(hex, p->id, POINT_ID_LEN);
	tell_code(set ? repo_protect(r, hex, "because", 0, &err) : repo_unprotect(r, hex, &err),
		  &err);
}

static void leftover(void *opaque, const char *line)
{
	struct report *rep = opaque;

	str_copy(rep->text, sizeof(rep->text), line);
}

/* Traces; condemned slots; what verify of all data says. */
static void child_clean(void)
{
	struct err err = ERR_INIT;
	struct repo *r = child_open(0);
	struct verify_spec spec = { .data = true };
	struct verify_result res;
	struct catalog_totals t;
	struct catalog *c;
	struct report rep = { .code = repo_leftovers(r, leftover, &rep, &err) };

	if (rep.code > 0)
		rep.code = ERR_FAILED;
	if (rep.code < 0)
		tell(&rep);
	rep.code = repo_catalog_get(r, &c, &err);
	if (rep.code == 0)
		rep.code = catalog_totals(c, &t, &err);
	if (rep.code == 0 && t.condemn_gen)
		rep.code = err_set(&err, ERR_FAILED, "slots are condemned");
	if (rep.code < 0)
		tell_code(rep.code, &err);
	repo_catalog_put(r, c);
	rep.code = repo_verify(r, &spec, &res, &err);
	if (rep.code < 0)
		tell_code(rep.code, &err);
	repo_close(r);
	tell(&rep);
}

static bool has_id(const struct hold *holds, size_t n, const uint8_t *id)
{
	for (size_t i = 0; i < n; i++)
		if (!memcmp(holds[i].point, id, POINT_ID_LEN))
			return true;
	return false;
}

/* Points, and the lease of a process if there is one. */
static void child_list(pid_t pid)
{
	struct err err = ERR_INIT;
	struct repo *r = child_open(0);
	const struct point_filter f = { .forgotten = true };
	struct point_list points = { 0 };
	struct report rep = { 0 };
	struct lease *leases = NULL;
	struct hold *holds = NULL;
	struct catalog *c;
	size_t n = 0, nholds = 0;
	int ret = repo_catalog_get(r, &c, &err);

	if (ret == 0)
		ret = catalog_points(c, &f, &points, &err);
	if (ret == 0)
		ret = catalog_leases(c, &leases, &n, &err);
	if (ret == 0)
		ret = catalog_holds(c, &holds, &nholds, &err);
	if (ret < 0)
		tell_code(ret, &err);
	for (size_t i = 0; i < n; i++)
		if (leases[i].pid == pid && leases[i].kind != LEASE_READER)
			rep.token = leases[i].token;
	rep.leases = (uint32_t)n;
	for (size_t i = 0; i < points.count && i < LISTED_MOST; i++) {
		const struct point_row *row = &points.rows[i];
		struct listed *l = &w.list[rep.count++];
		uint64_t label = UINT32_MAX;

		memcpy(l->id, row->id, POINT_ID_LEN);
		if (row->m->nlabels != 1 || !parse_u64(row->m->labels[0].value, &label))
			label = UINT32_MAX;
		l->label = (uint32_t)label;
		l->complete = row->state == POINT_COMPLETE;
		l->held = has_id(holds, nholds, row->id);
	}
	repo_catalog_put(r, c);
	if (write(report_fd, &rep, sizeof(rep)) != sizeof(rep))
		_exit(3);
	for (size_t at = 0; at < rep.count * sizeof(*w.list);) {
		ssize_t k = write(report_fd, (char *)w.list + at, rep.count * sizeof(*w.list) - at);

		if (k <= 0)
			_exit(3);
		at += (size_t)k;
	}
	_exit(0);
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
		backup_ended(c->point, &r, fenced, false);
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

static void init(void)
{
	struct err err = ERR_INIT;
	struct repo_init_spec spec = { .suite = w.encrypted,
				       .passphrase = PASS,
				       .passphrase_len = strlen(PASS),
				       .compression = -1,
				       .chunk_size = CHUNK,
				       .kdf_n = 1024 };

	tell_code(repo_init(w.repo, &spec, &err), &err);
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
	r = RUN(init());
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
