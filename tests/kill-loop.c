// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * kill-loop DIR plain|encrypted KILLS SEED: `livepoint backup` of a changing 8 MiB disk, killed with signal 9 after a
 * random time, KILLS times.
 *
 * The delay is uniform from 0 to 1.15 times what an undisturbed backup took lately, so that starting, reading, writing
 * packs, syncing, committing and cleaning up are all hit; a kill counts only if the process was still there.
 * A third of the kills is aimed at the end, which is short: the backup stops at one of `aims`, and the delay begins when
 * it is told to go on.  How long such a delay may be is found while going: less after a kill that came too late, more
 * after one that did not.
 * In half of the rounds every earlier point is listed after each kill, a rotating sample restores to its SHA-256, and the
 * point of the killed backup is there whole or not at all.  In the other half nobody opens the repository before the
 * next backup, which meets SQLite's log and the staged packs as they were left; then the same is asked of all kills.
 * After one to three kills: the same command works without any other step, and leaves nothing over.  At the end: every
 * point restores, `verify` of all data is clean.
 */
#include "tests/reliability.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"

#include "base/banned.h"

#define DISK (8 * MiB)
#define SAMPLE 2
#define AT_MOST 250 /* points in one repository: then another one */
#define SPIN_NS 200000 /* a sleep is not exact enough below this */

static const struct aim {
	const char *name;
	bool at_commit; /* about half of the kills while the transaction is being written; else anywhere up to the end */
} aims[] = {
	{ "store.pack.sync", false },
	{ "store.pack.rename", false },
	{ "catalog.publish.before", false },
	{ "catalog.publish.before", true },
};

struct loop {
	struct rel t;
	uint64_t usual_ns; /* of a backup that nobody disturbs */
	uint64_t aim_ns[ARRAY_SIZE(aims)]; /* longest delay after it */
	unsigned kills, late, published, unseen; /* counts */
	unsigned before, within, after; /* aimed kills, by the publishing transaction */
	size_t sample; /* next promise to look at */
	char log[256]; /* names of the fault points that an aimed one has hit */
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

/* --- aiming --- */

#ifdef ENABLE_FAULT_POINTS
static const bool can_aim = true;
#else
static const bool can_aim = false;
#endif

/* Until it stops (true) or ends, which fills *s. */
static bool wait_stopped(const struct rel *t, pid_t pid, struct rel_status *s)
{
	int status;

	while (waitpid(pid, &status, WUNTRACED) < 0)
		if (errno != EINTR)
			rel_fail(t, "waitpid: %s", strerror(errno));
	if (WIFSTOPPED(status))
		return true;
	*s = WIFEXITED(status) ? (struct rel_status){ true, WEXITSTATUS(status) } :
				 (struct rel_status){ false, WTERMSIG(status) };
	return false;
}

static struct rel_status kill_aimed(struct loop *l, const char *const *args, const char *aim,
				    uint64_t delay)
{
	struct rel *t = &l->t;
	cleanup_free char *fault = str_printf("%s:1:stop", aim);
	struct rel_status s;
	pid_t pid;

	(void)unlink(l->log);
	pid = rel_spawn(t, args, fault, l->log, t->out, t->err);
	if (!wait_stopped(t, pid, &s))
		return s;
	kill(pid, SIGCONT);
	wait_ns(delay);
	kill(pid, SIGKILL);
	return rel_wait(t, pid);
}

static void aim_judge(struct loop *l, size_t aim, bool killed)
{
	uint64_t *longest = &l->aim_ns[aim];
	struct err err = ERR_INIT;
	struct buf log = BUF_INIT;
	bool begun, committed;

	rel_ok(&l->t, file_read_all(l->log, MiB, &log, &err));
	begun = memmem(log.data, log.len, "catalog.publish.before\n", 23);
	committed = memmem(log.data, log.len, "catalog.publish.after\n", 22);
	buf_release(&log);
	if (!killed || (committed && aims[aim].at_commit))
		*longest -= *longest / 8;
	else
		*longest += *longest / (aims[aim].at_commit ? 8 : 32) + 1;
	if (!killed)
		return;
	l->before += !begun;
	l->within += begun && !committed;
	l->after += committed;
}

/* --- one kill --- */

static void change(struct rel *t)
{
	switch (rel_random(t, 12)) {
	case 0:
		rel_resize(t, t->room - rel_random(t, 8) * (REL_CHUNK / 2) - 500);
		break;
	case 1:
		break; /* nothing has changed */
	case 2:
		rel_change(t, 60);
		break;
	default:
		rel_change(t, 1 + (unsigned)rel_random(t, 12));
	}
}

static void look(struct loop *l, struct repo *r)
{
	struct rel *t = &l->t;

	for (size_t i = 0; i < MIN((size_t)SAMPLE, t->npromises); i++) {
		l->sample = (l->sample + 1) % t->npromises;
		rel_check_point(t, r, &t->promises[l->sample]);
	}
}

/* Starts the backup and kills it; fills *e. */
static void kill_backup(struct loop *l, struct rel_ended *e)
{
	struct rel *t = &l->t;
	const char *args[] = { "backup",   "web1",    t->source,
			       "--config", t->config, rel_random(t, 6) ? NULL : "--full",
			       NULL };
	size_t aim = rel_random(t, 3 * ARRAY_SIZE(aims));
	bool aimed = aim < ARRAY_SIZE(aims) && can_aim;
	uint64_t most = aimed ? l->aim_ns[aim] : l->usual_ns + l->usual_ns * 15 / 100;
	uint64_t delay = rel_random(t, most + 1);
	struct rel_status s;
	pid_t pid;

	snprintf(t->what, sizeof(t->what), "kill %u, %" PRIu64 " us after %s", l->kills + 1,
		 delay / 1000, aimed ? aims[aim].name : "its start");
	if (aimed) {
		s = kill_aimed(l, args, aims[aim].name, delay);
	} else {
		pid = rel_spawn(t, args, NULL, NULL, t->out, t->err);
		wait_ns(delay);
		kill(pid, SIGKILL);
		s = rel_wait(t, pid);
	}
	if (s.exited && s.code != 0)
		rel_fail(t, "the backup failed by itself with status %d", s.code);
	if (aimed)
		aim_judge(l, aim, !s.exited);
	l->kills += !s.exited;
	l->late += s.exited;
	rel_note(t, s, e);
}

static void one_round(struct loop *l, unsigned kills)
{
	struct rel *t = &l->t;
	struct rel_ended ended[3], *e = ended;
	bool look_first = rel_random(t, 2);
	unsigned late = l->late, kills_before = l->kills;
	struct repo *r;

	for (unsigned n = 1 + (unsigned)rel_random(t, 3); n && l->kills < kills; n--) {
		change(t);
		kill_backup(l, e);
		l->unseen += !look_first && !e->status.exited;
		if (!look_first) {
			e++;
			continue;
		}
		r = rel_open(t, REPO_READ);
		l->published += rel_check_ended(t, r, e, 1) && !e->status.exited;
		look(l, r);
		repo_close(r);
	}
	late = l->late - late;
	snprintf(t->what, sizeof(t->what), "backup after kill %u (%s)", l->kills,
		 look_first ? "looked at" : "unseen");
	change(t);
	/* the late ones among the unseen are there, but are no kills */
	l->published +=
		rel_backup_unseen(t, "web1", ended, (size_t)(e - ended)) - (look_first ? 0 : late);
	if (!look_first) {
		r = rel_open(t, REPO_READ);
		look(l, r);
		repo_close(r);
	}
	t->passed += l->kills - kills_before;
	/* A moving mean, so that a busy moment does not make all the others late. */
	l->usual_ns = (l->usual_ns * 7 + MIN(t->last_ns, 4 * l->usual_ns)) / 8;
}

static void measure(struct loop *l)
{
	struct rel *t = &l->t;
	const char *const args[] = { "backup", "first", t->source, "--config", t->config, NULL };
	struct rel_status s = rel_run(t, args, NULL, NULL);
	struct repo *r = rel_open(t, REPO_READ);

	l->usual_ns = t->last_ns;
	for (size_t i = 0; i < ARRAY_SIZE(aims); i++)
		l->aim_ns[i] = l->usual_ns / (8 << i);
	if (!rel_check_after(t, r, s))
		rel_fail(t, "the first backup did not work");
	repo_close(r);
}

int main(int argc, char **argv)
{
	struct loop l = { .kills = 0 };
	uint64_t kills, seed;

	if (argc != 5 || !parse_u64(argv[3], &kills) || !parse_u64(argv[4], &seed)) {
		fprintf(stderr, "usage: kill-loop DIR plain|encrypted KILLS SEED\n");
		return 2;
	}
	rel_begin(&l.t, argv[1], strcmp(argv[2], "encrypted") == 0, seed, DISK, 160);
	snprintf(l.log, sizeof(l.log), "%s/log", l.t.dir);
	printf("seed %" PRIu64 ", %s, %" PRIu64 " kills\n", seed, argv[2], kills);
	while (l.kills < kills) {
		rel_reset(&l.t);
		rel_init(&l.t);
		l.sample = 0;
		measure(&l);
		while (l.kills < kills && l.t.npromises < AT_MOST)
			one_round(&l, (unsigned)kills);
		snprintf(l.t.what, sizeof(l.t.what), "at the end, after %u kills", l.kills);
		rel_check_all(&l.t);
	}
	printf("%u kills, %u of them after the commit; %u came too late and do not count\n",
	       l.kills, l.published, l.late);
	printf("aimed at the end: %u before, %u in, %u after the publishing transaction\n",
	       l.before, l.within, l.after);
	printf("after %u kills nobody looked before the next backup\n", l.unseen);
	printf("%u passed, 0 failed\n", l.t.passed);
	rel_end(&l.t);
	return 0;
}
