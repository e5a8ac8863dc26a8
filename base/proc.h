/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Child processes.  Only this file forks.  A child gets descriptors 0, 1 and 2 as asked, the
 * descriptors listed, and nothing else; default signal dispositions, empty signal mask.
 * Any thread (posix semantics: the child execs at once).
 */
#ifndef LIVEPOINT_BASE_PROC_H
#define LIVEPOINT_BASE_PROC_H

#include <sys/types.h>

#include "base/buf.h"

struct proc_spec {
	const char *const *argv; /* NULL-terminated; argv[0] is looked up in PATH */
	const char *const *env_add; /* "K=V" strings, NULL-terminated, added to ours; or NULL */
	int in_fd, out_fd, err_fd; /* -1: /dev/null */
	const int *pass_fds; /* kept open in the child under these numbers + see fd_base */
	unsigned npass; /* passed as consecutive numbers from 3 on, in this order */
	bool listen_fds; /* sets LISTEN_FDS and LISTEN_PID (sd_listen_fds(3) protocol) */
	unsigned nlisten; /* with listen_fds: that many of pass_fds, the first ones, are sockets; 0: all */
	bool new_session; /* setsid: survives the terminal */
	bool die_with_parent; /* PR_SET_PDEATHSIG SIGKILL */
	bool no_core; /* RLIMIT_CORE 0: one that is expected to abort leaves no file */
};

/* Starts; fills *pid.  A program that cannot be executed is ERR_CHILD with its name and the reason. */
int proc_start(const struct proc_spec *spec, pid_t *pid, struct err *err);
/* Waits; fills *status as waitpid(2).  SIGCHLD must not be ignored, else there is nothing to wait for: a
 * program may have inherited that, its main() sets SIG_DFL. */
int proc_wait(pid_t pid, int *status, struct err *err);
/* Runs to the end, stdin /dev/null; stdout appended to out (at most max_out bytes, else ERR_TOO_BIG), stderr's
 * last line goes into the error text.  A non-zero exit is ERR_CHILD. */
int proc_run(const char *const *argv, struct buf *out, size_t max_out, struct err *err);
/* Runs fn in a forked child without exec and returns what it wrote to its fd: for work whose memory must not
 * stay (scrypt).  fn returns 0 or a code; its err text is handed over.  Call before threads exist or with a fn
 * that takes no locks but malloc's. */
int proc_call(int (*fn)(void *arg, struct buf *result, struct err *err), void *arg,
	      struct buf *result, struct err *err);
/* Looks a program up in PATH. */
bool proc_exists(const char *program);
/* Start time of a process in clock ticks after boot (/proc/PID/stat field 22), 0 if there is none. */
uint64_t proc_start_ticks(pid_t pid);
/* For a process that is about to hold a secret: no core dump has its memory from now on, whatever core_pattern says,
 * and only root can look into it (PR_SET_DUMPABLE 0, RLIMIT_CORE 0, which children inherit).  Cannot be taken back. */
void proc_hide_memory(void);

#endif
