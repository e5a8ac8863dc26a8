/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the drivers of the reliability tests share: a work folder with a repository and a source disk, the built
 * livepoint run as a child (with a fault, killed or stopped when asked), and a list of what the repository promised.
 *
 * A driver checks through librepo in its own process, serially and without threads: that costs milliseconds where
 * a command costs tens of them.  Encrypted repositories get a cheap key derivation (N = 1024) for the same reason.
 *
 * Invariants:
 *  1. A point is in the list of promises as soon as a command said that it was made; from then on every check
 *     expects it, with its bytes.
 *  2. The first broken promise ends the driver with status 1, the case, the seed and what was seen; the work
 *     folder stays then if LIVEPOINT_KEEP is set.
 *  3. The last line is "N passed, M failed".
 */
#ifndef LIVEPOINT_TESTS_RELIABILITY_H
#define LIVEPOINT_TESTS_RELIABILITY_H

#include <sys/types.h>

#include "repo/session.h"
#include "repo/verify.h"

#define REL_PASS "correct horse"
#define REL_SHA_LEN 32
#define REL_CHUNK CHUNK_SIZE_DEFAULT

struct rel_promise {
	uint8_t id[POINT_ID_LEN];
	char text[POINT_TEXT_MAX]; /* NAME@TIME */
	uint8_t sha[REL_SHA_LEN]; /* of the disk, padded to 512 */
};

struct rel {
	char dir[200]; /* work folder */
	char repo[256], source[256], out[256], err[256]; /* paths below it */
	char config[280]; /* "sum=FILE": what --config takes; the file has the SHA-256 of the source */
	bool encrypted;
	uint64_t seed, rng; /* as given; state */
	uint8_t *disk; /* content of the source file */
	uint64_t size, room; /* bytes of the disk; of the memory */
	struct rel_promise *promises;
	size_t npromises;
	unsigned passed;
	uint64_t last_ns; /* that the last rel_run() took */
	char what[512]; /* the case under way, for messages */
	const char *plant; /* LIVEPOINT_PLANT of the programs that are run, or NULL */
};

/* dir: an existing empty folder, or one below it that is made.  size: of the disk, at most; about share/256 of its
 * chunks have data. */
void rel_begin(struct rel *t, const char *dir, bool encrypted, uint64_t seed, uint64_t size,
	       unsigned share);
void rel_end(struct rel *t); /* removes the work folder and frees */
void rel_init(struct rel *t); /* makes the repository, in process */
/* Forgets repository and promises. */
void rel_reset(struct rel *t);
/* Copies the repository folder (flat copy of files; not while anybody writes). */
void rel_copy_tree(const char *from, const char *to);
void rel_remove_tree(const char *path);

__attribute__((noreturn, format(printf, 2, 3))) void rel_fail(const struct rel *t, const char *fmt,
							      ...);
#define rel_ok(t, call)                                                                            \
	do {                                                                                       \
		struct err *rel_err_ = &err;                                                       \
		if ((call) < 0)                                                                    \
			rel_fail(t, "%s: %s", #call, rel_err_->text);                              \
	} while (0)

uint64_t rel_random(struct rel *t, uint64_t below); /* 0 to below - 1 */
/* Changes about `chunks` chunks of the disk and writes the file. */
void rel_change(struct rel *t, unsigned chunks);
/* Gives the disk another size (grown with data or shrunk), below its memory, and writes the file. */
void rel_resize(struct rel *t, uint64_t size);
void rel_sha(const struct rel *t, uint8_t sha[REL_SHA_LEN]); /* of the disk, padded to 512 */

/* --- running the program --- */
struct rel_status {
	bool exited;
	int code; /* exit status, or the signal */
};
/* Starts livepoint -r REPO with these arguments and the passphrase by descriptor; fault and log may be NULL. */
pid_t rel_spawn(struct rel *t, const char *const *args, const char *fault, const char *log,
		const char *out, const char *errfile);
struct rel_status rel_wait(struct rel *t, pid_t pid);
struct rel_status rel_run(struct rel *t, const char *const *args, const char *fault,
			  const char *log);
/* Standard output's first line, or standard error whole, of the last run with the usual files. */
void rel_first_line(struct rel *t, const char *file, char *line, size_t size);
void rel_whole(const char *file, char *text, size_t size);

/* --- checking --- */
/* Opens, unlocks and starts it, serially. */
struct repo *rel_open(struct rel *t, enum repo_mode mode);
void rel_promise(struct rel *t, const uint8_t *id, const char *text, const uint8_t *sha);
/* Every promise is listed and nothing else but at most `extra` points, whose ids go into *more (extra of them);
 * returns how many there were. */
unsigned rel_check_list(struct rel *t, struct repo *r, unsigned extra, struct rel_promise *more);
/* The point restores to these bytes. */
void rel_check_point(struct rel *t, struct repo *r, const struct rel_promise *p);
void rel_check_leftovers(struct rel *t, struct repo *r);
/* After a prune that dropped all it could: each listed pack is there and no other, and its records are just those that the catalog
 * says are in use. */
void rel_check_slots(struct rel *t, struct repo *r);
void rel_check_verify(struct rel *t, struct repo *r, bool data);
/* All of it. */
void rel_check_all(struct rel *t);
/* A backup by the program, without a fault, must work and is promised. */
void rel_backup(struct rel *t, const char *name);
/* How a backup ended, what it said and of which bytes it was.  Noting it does not touch the repository. */
struct rel_ended {
	struct rel_status status;
	char said[POINT_TEXT_MAX + 2]; /* first line of standard output */
	char complained[2048]; /* standard error */
	uint8_t sha[REL_SHA_LEN];
};
void rel_note(struct rel *t, struct rel_status s, struct rel_ended *e);
/* After n backups, in this order, that ended somehow with nobody looking in between: what each said against what is
 * listed.  A point that is there must hold its backup's bytes and is promised from then on.  Returns how many are there. */
unsigned rel_check_ended(struct rel *t, struct repo *r, const struct rel_ended *ended, size_t n);
/* The same for the last run alone, with the disk as it is. */
bool rel_check_after(struct rel *t, struct repo *r, struct rel_status s);
/* rel_backup() as the first to open the repository after these n backups (REL_UNSEEN_MAX at most), then the check of
 * all of them.  Returns how many of the n are there. */
#define REL_UNSEEN_MAX 4
unsigned rel_backup_unseen(struct rel *t, const char *name, const struct rel_ended *ended,
			   size_t n);

#endif
