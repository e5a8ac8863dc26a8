/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the scenarios of tests/fault-loop.c share: the template, the points that a command hits, a case each. */
#ifndef LIVEPOINT_TESTS_FAULT_LOOP_H
#define LIVEPOINT_TESTS_FAULT_LOOP_H

#include "tests/reliability.h"

#define NAMES_MAX 128

struct hit_name {
	char name[64];
	unsigned hits;
};

struct faults {
	struct rel t;
	const char *hits; /* "first", "some" or "all" */
	char template[256], log[256], target[256];
	struct hit_name names[NAMES_MAX];
	unsigned nnames;
	unsigned unseen; /* cases in which nobody looked before the next command */
	struct rel_promise *kept; /* the template's promises */
	size_t nkept;
	void (*one)(struct faults *f, const char *fault);
	bool more_errors; /* eintr, edquot, eperm too */
	size_t going; /* of the promises the first ones are to be forgotten */
	unsigned stops, unreached; /* processes that were to stop; of them did not come there */
	unsigned fenced, woken; /* processes that were fenced; of them ended with an error */
};

/* The points that a command hit which ran with LIVEPOINT_FAULT_LOG=f->log. */
void fault_read_log(struct faults *f);
bool fault_is_logged(const struct faults *f, const char *name);
/* The repository and the promises as they are now become the template; as the template has them again. */
void fault_keep_template(struct faults *f);
void fault_restore_template(struct faults *f);
/* f->one on a fresh copy of the template, with NAME:NTH:ACTION. */
void fault_one_case(struct faults *f, const char *name, const char *nth, const char *action);
/* Is this hit one of those to be tried (f->hits)? */
bool fault_wanted(const struct faults *f, unsigned nth, unsigned hits);
/* Kill and each error at each hit that is wanted. */
void fault_each_hit(struct faults *f);
/* Waits until the process has stopped itself.  False: it ended with 0 and never came there, which is counted: another case has changed
 * the source, and with it how many pieces are read. */
bool fault_wait_stopped(struct faults *f, pid_t pid);

/* --- tests/fault-retention.c --- */
void scenario_prune(struct faults *f);
void scenario_forget(struct faults *f);
void scenario_protect(struct faults *f);
void scenario_repair(struct faults *f);
void scenario_fence_prune(struct faults *f);
void scenario_fence_backup(struct faults *f);

#endif
