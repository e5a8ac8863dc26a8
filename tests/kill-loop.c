// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * kill-loop DIR plain|encrypted KILLS SEED: `livepoint backup` of a changing 8 MiB disk, killed with signal 9 after a
 * random time, KILLS times.
 *
 * The delay is uniform from 0 to 1.15 times what an undisturbed backup took lately, so that starting, reading, writing
 * packs, syncing, committing and cleaning up are all hit; a kill counts only if the process was still there.
 * After each kill: every earlier point is listed and a rotating sample restores to its SHA-256; the point of the killed
 * backup is there whole or not at all.  After one to three kills: the same command works without any other step, and
 * leaves nothing over.  At the end: every point restores, `verify` of all data is clean.
 */
#include "tests/reliability.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "base/banned.h"

#define DISK (8 * MiB)
#define SAMPLE 2
#define AT_MOST 250 /* points in one repository: then another one */

struct loop {
	struct rel t;
	uint64_t usual_ns; /* of a backup that nobody disturbs */
	unsigned kills, late, published; /* counts */
	size_t sample; /* next promise to look at */
};

static void sleep_ns(uint64_t ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / 1000000000u),
			       .tv_nsec = (long)(ns % 1000000000u) };

	nanosleep(&ts, NULL);
}

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

static void one_kill(struct loop *l)
{
	struct rel *t = &l->t;
	const char *args[] = { "backup", "web1", t->source, rel_random(t, 6) ? NULL : "--full",
			       NULL };
	uint64_t delay = rel_random(t, l->usual_ns + l->usual_ns * 15 / 100);
	struct rel_status s;
	struct repo *r;
	pid_t pid;

	snprintf(t->what, sizeof(t->what), "kill %u after %" PRIu64 " us", l->kills + 1,
		 delay / 1000);
	change(t);
	pid = rel_spawn(t, args, NULL, NULL, t->out, t->err);
	sleep_ns(delay);
	kill(pid, SIGKILL);
	s = rel_wait(t, pid);
	if (s.exited && s.code != 0)
		rel_fail(t, "the backup failed by itself with status %d", s.code);
	l->kills += !s.exited;
	l->late += s.exited;
	r = rel_open(t, REPO_READ);
	l->published += rel_check_after(t, r, s) && !s.exited;
	look(l, r);
	repo_close(r);
	t->passed += !s.exited;
}

static void one_round(struct loop *l, unsigned kills)
{
	struct rel *t = &l->t;

	for (unsigned n = 1 + (unsigned)rel_random(t, 3); n && l->kills < kills; n--)
		one_kill(l);
	snprintf(t->what, sizeof(t->what), "backup after kill %u", l->kills);
	change(t);
	rel_backup(t, "web1");
	/* A moving mean, so that a busy moment does not make all the others late. */
	l->usual_ns = (l->usual_ns * 7 + MIN(t->last_ns, 4 * l->usual_ns)) / 8;
}

static void measure(struct loop *l)
{
	struct rel *t = &l->t;
	const char *const args[] = { "backup", "first", t->source, NULL };
	struct rel_status s = rel_run(t, args, NULL, NULL);
	struct repo *r = rel_open(t, REPO_READ);

	l->usual_ns = t->last_ns;
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
	printf("%u passed, 0 failed\n", l.t.passed);
	rel_end(&l.t);
	return 0;
}
