/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Shared by tests/model-gc.c (the model) and tests/model-gc-child.c (what its children do in the repository). */
#ifndef LIVEPOINT_TESTS_MODEL_GC_H
#define LIVEPOINT_TESTS_MODEL_GC_H

#include <sys/types.h>

#include "format/format.h"
#include "repo/session.h"

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

struct world {
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
};
extern struct world w;

uint64_t rnd(uint64_t below); /* 0 to below - 1 */
bool once_in(unsigned n);

struct plan {
	unsigned threads;
	bool full, abandon;
	unsigned pause; /* 1 to 5: SIGSTOP before a part of the disk; 6: before publishing */
	char fault[80];
};

/* --- children: each ends the process, after it has told a struct report through report_fd --- */
extern int report_fd;
void child_init(void);
void child_backup(const struct plan *plan, const struct point *p, unsigned number);
void child_prune(const struct plan *plan, uint64_t fence, bool last);
/* Reads points whole and compares. */
void child_check(const unsigned *points, unsigned count);
/* Stays; each time it is woken it reads a piece, and tells only when something is wrong. */
void child_reader(const struct point *p);
void child_forget(const unsigned *points, unsigned count, int64_t grace);
void child_unforget(const struct point *p);
void child_hold(const struct point *p, bool set);
/* Traces; condemned slots; what verify of all data says. */
void child_clean(void);
/* Points, behind the report, and the lease of a process if there is one. */
void child_list(pid_t pid);

#endif
