// SPDX-License-Identifier: GPL-3.0-or-later
/* Scenarios of tests/fault-loop.c: prune, forget, protect, repair, and processes that stop and are fenced.  What is expected
 * stands there. */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "repo/internal.h"
#include "repo/retention.h"
#include "tests/fault-loop.h"

#include "base/banned.h"

/* --- prune, forget, protect, repair --- */

static const char *const prune_args[] = { "prune", "--min-unused", "0", NULL };

static struct rel_status must_run(struct faults *f, const char *const *args, const char *fault,
				  const char *log)
{
	struct rel_status s = rel_run(&f->t, args, fault, log);
	char text[2048];

	rel_whole(f->t.err, text, sizeof(text));
	if (!s.exited || s.code)
		rel_fail(&f->t, "%s ended with %s %d: %s", args[0], s.exited ? "status" : "signal",
			 s.code, text);
	return s;
}

/* A command that was disturbed: by nothing but what was asked for, and never in silence. */
static struct rel_status disturbed(struct faults *f, const char *const *args, const char *fault)
{
	struct rel_status s = rel_run(&f->t, args, fault, NULL);
	char text[2048];

	rel_whole(f->t.err, text, sizeof(text));
	if (!s.exited && (s.code != SIGKILL || !strstr(fault, ":kill")))
		rel_fail(&f->t, "signal %d", s.code);
	if (s.exited && strstr(fault, ":kill"))
		rel_fail(&f->t, "the fault was not hit");
	if (s.exited && s.code && !*text)
		rel_fail(&f->t, "%s ended with %d and said nothing", args[0], s.code);
	return s;
}

/* The next prune works, and all is whole and clean then. */
static void check_clean(struct faults *f)
{
	struct rel *t = &f->t;
	struct repo *r;

	must_run(f, prune_args, NULL, NULL);
	r = rel_open(t, REPO_WRITE);
	rel_check_list(t, r, 0, NULL);
	for (size_t i = 0; i < t->npromises; i++)
		rel_check_point(t, r, &t->promises[i]);
	rel_check_leftovers(t, r);
	rel_check_verify(t, r, rel_random(t, 8) == 0);
	rel_check_slots(t, r);
	repo_close(r);
}

/* Every complete point is there; in half of the cases nobody looks. */
static void maybe_look(struct faults *f)
{
	struct rel *t = &f->t;
	struct repo *r;

	if (rel_random(t, 2)) {
		f->unseen++;
		return;
	}
	r = rel_open(t, REPO_READ);
	rel_check_list(t, r, 0, NULL);
	for (size_t i = 0; i < t->npromises; i++)
		rel_check_point(t, r, &t->promises[i]);
	repo_close(r);
}

static void drop_promises(struct rel *t, size_t n)
{
	memmove(t->promises, t->promises + n, (t->npromises - n) * sizeof(*t->promises));
	t->npromises -= n;
}

static void forget_args(struct faults *f, const char **args)
{
	unsigned n = 0;

	args[n++] = "forget";
	args[n++] = "--grace";
	args[n++] = "0";
	for (size_t i = 0; i < f->going; i++)
		args[n++] = f->kept ? f->kept[i].text : f->t.promises[i].text;
	args[n] = NULL;
}

/* Six points, of which two are to go or are forgotten already. */
static void prepare_retention(struct faults *f, bool forgotten)
{
	const char *args[8];

	rel_init(&f->t);
	for (unsigned i = 0; i < 6; i++) {
		rel_backup(&f->t, i % 2 ? "web1" : "db1");
		rel_change(&f->t, 20);
	}
	f->going = 2;
	f->more_errors = true;
	if (forgotten) {
		forget_args(f, args);
		must_run(f, args, NULL, NULL);
		drop_promises(&f->t, f->going);
	}
	fault_keep_template(f);
}

static void log_command(struct faults *f, const char *const *args,
			void (*one)(struct faults *f, const char *fault))
{
	fault_restore_template(f);
	must_run(f, args, NULL, f->log);
	fault_read_log(f);
	f->one = one;
}

/* What a dead prune has left in the middle only the next prune ends, so leftovers are not looked at. */
static void backup_after(struct faults *f)
{
	struct rel *t = &f->t;
	const char *const args[] = { "backup", "web1", t->source, "--config", t->config, NULL };
	struct rel_status s = must_run(f, args, NULL, NULL);
	struct repo *r = rel_open(t, REPO_READ);

	rel_check_after(t, r, s);
	repo_close(r);
}

static void one_prune(struct faults *f, const char *fault)
{
	disturbed(f, prune_args, fault);
	maybe_look(f);
	if (rel_random(&f->t, 4) == 0)
		backup_after(f);
	check_clean(f);
}

void scenario_prune(struct faults *f)
{
	prepare_retention(f, true);
	log_command(f, prune_args, one_prune);
	if (!fault_is_logged(f, "store.rewrite.rename") || !fault_is_logged(f, "store.pack.remove"))
		rel_fail(&f->t, "this prune does not rewrite and remove packs");
	fault_each_hit(f);
}

static void one_forget(struct faults *f, const char *fault)
{
	struct rel *t = &f->t;
	struct rel_promise more[4];
	struct rel_promise *all;
	struct rel_status s;
	const char *args[8];
	size_t before = t->npromises;
	struct repo *r;
	unsigned there;

	forget_args(f, args);
	s = disturbed(f, args, fault);
	all = mem_dup(t->promises, before * sizeof(*all));
	drop_promises(t, f->going);
	if (rel_random(t, 2)) {
		f->unseen++;
		must_run(f, prune_args, NULL, NULL);
	}
	r = rel_open(t, REPO_READ);
	there = rel_check_list(t, r, (unsigned)f->going, more);
	repo_close(r);
	if (there && (there != f->going || (s.exited && s.code == 0)))
		rel_fail(t, "of %zu points that were to be forgotten %u are listed", f->going,
			 there);
	for (size_t i = 0; i < there; i++)
		rel_promise(t, all[i].id, all[i].text, all[i].sha);
	free(all);
	check_clean(f);
}

void scenario_forget(struct faults *f)
{
	const char *args[8];

	prepare_retention(f, false);
	forget_args(f, args);
	log_command(f, args, one_forget);
	fault_each_hit(f);
}

static bool is_held(struct faults *f, size_t point)
{
	struct err err = ERR_INIT;
	struct state notes;
	struct repo *r = rel_open(&f->t, REPO_READ);
	bool held;

	rel_ok(&f->t, repo_notes(r, &notes, &err));
	held = state_hold(&notes, f->t.promises[point].id) != NULL;
	state_release(&notes);
	repo_close(r);
	return held;
}

static void one_protect(struct faults *f, const char *fault)
{
	struct rel *t = &f->t;
	const char *const args[] = { "protect", t->promises[0].text, "--reason", "kept", NULL };
	const char *const other[] = { "protect", t->promises[1].text, "--reason", "kept", NULL };
	struct rel_status s = disturbed(f, args, fault);

	maybe_look(f);
	must_run(f, other, NULL, NULL);
	if (s.exited && s.code == 0 && !is_held(f, 0))
		rel_fail(t, "the hold that was confirmed is not there");
	if (!is_held(f, 1))
		rel_fail(t, "the next hold is not there");
	check_clean(f);
}

void scenario_protect(struct faults *f)
{
	const char *args[] = { "protect", NULL, "--reason", "kept", NULL };

	prepare_retention(f, true);
	args[1] = f->kept[0].text; /* the promises are made anew with the template */
	log_command(f, args, one_protect);
	fault_each_hit(f);
}

/* An index segment is lost and the first pack's trailer is bad. */
static void damage(struct faults *f)
{
	struct rel *t = &f->t;
	cleanup_free char *pack = str_printf("%s/packs/01/000000000001.pack", t->repo);
	cleanup_free char *segment = str_printf("%s/index/0000000000000001.seg", t->repo);
	struct err err = ERR_INIT;
	cleanup_fd int fd = -1;
	uint64_t size;

	if (unlink(segment) < 0)
		rel_fail(t, "cannot remove '%s'", segment);
	rel_ok(t, fd = file_open(pack, O_RDWR, 0, &err));
	rel_ok(t, file_size(fd, &size, pack, &err));
	rel_ok(t, file_pwrite(fd, "damaged", 7, size - 20, pack, NULL, &err));
}

static void one_repair(struct faults *f, const char *fault)
{
	static const char *const args[] = { "repair", NULL };

	disturbed(f, args, fault);
	f->unseen++;
	must_run(f, args, NULL, NULL);
	check_clean(f);
}

void scenario_repair(struct faults *f)
{
	static const char *const args[] = { "repair", NULL };

	rel_init(&f->t);
	for (unsigned i = 0; i < 3; i++) {
		rel_backup(&f->t, i % 2 ? "web1" : "db1");
		rel_change(&f->t, 20);
	}
	damage(f);
	f->more_errors = true;
	fault_keep_template(f);
	log_command(f, args, one_repair);
	if (!fault_is_logged(f, "store.rewrite.rename") ||
	    !fault_is_logged(f, "store.segment.rename"))
		rel_fail(&f->t, "this repair does not make a pack and a segment anew");
	fault_each_hit(f);
}

/* --- fence --- */

/* The token of the lease of a process, 0: it has none. */
static uint64_t token_of(struct faults *f, pid_t pid)
{
	cleanup_free struct lease *leases = NULL;
	struct repo *r = rel_open(&f->t, REPO_READ);
	struct err err = ERR_INIT;
	uint64_t token = 0;
	struct catalog *c;
	size_t count = 0;

	rel_ok(&f->t, repo_catalog_get(r, &c, &err));
	rel_ok(&f->t, catalog_leases(c, &leases, &count, &err));
	for (size_t i = 0; i < count; i++)
		if (leases[i].pid == pid && leases[i].kind != LEASE_READER)
			token = leases[i].token;
	repo_catalog_put(r, c);
	repo_close(r);
	return token;
}

/* Starts the command, which stops at the fault; fences it if it has a lease; lets it go on.  True: it was fenced. */
static bool stop_and_fence(struct faults *f, const char *const *args, const char *fault,
			   struct rel_status *s)
{
	struct rel *t = &f->t;
	cleanup_free char *stopped_out = str_printf("%s.stopped", t->out);
	cleanup_free char *stopped_err = str_printf("%s.stopped", t->err);
	pid_t pid = rel_spawn(t, args, fault, NULL, stopped_out, stopped_err);
	char number[32], text[2048];
	uint64_t token;

	if (!fault_wait_stopped(f, pid)) {
		*s = (struct rel_status){ .exited = true };
		return false;
	}
	token = token_of(f, pid);
	snprintf(number, sizeof(number), "%" PRIu64, token);
	if (token)
		must_run(f,
			 (const char *const[]){ "prune", "--min-unused", "0", "--fence", number,
						NULL },
			 NULL, NULL);
	kill(pid, SIGCONT);
	*s = rel_wait(t, pid);
	if (!s->exited)
		rel_fail(t, "signal %d", s->code);
	rel_whole(stopped_err, text, sizeof(text));
	if (s->code && !*text)
		rel_fail(t, "it ended with %d and said nothing", s->code);
	if (s->code && !token)
		rel_fail(t, "it was not fenced and ended with %d: %s", s->code, text);
	f->fenced += token != 0;
	f->woken += token && s->code;
	return token != 0;
}

static void one_fence_prune(struct faults *f, const char *fault)
{
	struct rel_status s;

	stop_and_fence(f, prune_args, fault, &s);
	maybe_look(f);
	check_clean(f);
}

static void one_fence_backup(struct faults *f, const char *fault)
{
	struct rel *t = &f->t;
	const char *const args[] = { "backup", "web1", t->source, "--config", t->config, NULL };
	struct rel_promise more;
	struct rel_status s;
	struct repo *r;
	bool fenced = stop_and_fence(f, args, fault, &s);

	r = rel_open(t, REPO_READ);
	if (rel_check_list(t, r, 1, &more)) {
		if (fenced)
			rel_fail(t, "a fenced backup has published %s", more.text);
		rel_sha(t, more.sha);
		rel_promise(t, more.id, more.text, more.sha);
	} else if (s.code == 0) {
		rel_fail(t, "the backup said 0, but its point is not listed");
	}
	repo_close(r);
	rel_change(t, 3);
	rel_backup(t, "web1");
	check_clean(f);
}

/* Whoever stops inside a transaction cannot be fenced: everybody waits for the catalog. */
static void each_stop(struct faults *f)
{
	for (unsigned i = 0; i < f->nnames; i++) {
		const struct hit_name *h = &f->names[i];
		char nth[32];

		if (str_starts(h->name, "catalog.") && str_ends(h->name, ".before"))
			continue;
		for (unsigned n = 1; n <= h->hits; n++) {
			if (!fault_wanted(f, n, h->hits))
				continue;
			snprintf(nth, sizeof(nth), "%u", n);
			fault_one_case(f, h->name, nth, "stop");
		}
	}
	printf("%u were fenced, %u of them ended with an error\n", f->fenced, f->woken);
	if (!f->woken)
		rel_fail(&f->t, "nobody was fenced");
}

void scenario_fence_prune(struct faults *f)
{
	prepare_retention(f, true);
	log_command(f, prune_args, one_fence_prune);
	each_stop(f);
}

void scenario_fence_backup(struct faults *f)
{
	const char *const args[] = { "backup", "web1", f->t.source, "--config", f->t.config, NULL };

	prepare_retention(f, true);
	log_command(f, args, one_fence_backup);
	each_stop(f);
}
