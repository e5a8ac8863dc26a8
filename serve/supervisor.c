// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * livepoint-supervisor: what stays while an export lives.  It holds the listening socket, starts nbdkit on it, and when
 * nbdkit was killed or has crashed, starts it again on the same socket: a client that reconnects sees a pause.
 *
 * Started by serve/start.c with the arguments and descriptors of serve/internal.h.  Until the starter has seen the
 * server answer, a death of nbdkit is the supervisor's own, with its status; afterwards it is started again, at once the
 * first time, then later and later (BACKOFF_MS); after QUICK_MAX deaths in a row that each came within QUICK_MS it gives
 * up and leaves ID.log with the reason.  nbdkit that ends by itself (status 0) or by SIGTERM was meant to end.
 *
 * Invariants:
 *  1. One thread, one child, no file of the repository: what happens to nbdkit does not happen here.
 *  2. nbdkit never outlives us: the kernel kills it when we die, however (PR_SET_PDEATHSIG; the plugin keeps it so).
 *  3. The keys are in one page of their own, locked and not dumped, and in the pipe to a server that starts.
 *  4. The lock on ID.json is ours and nbdkit's: it is free exactly when both have ended.
 */
#include "serve/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/proc.h"

#include "base/banned.h"

#define MS UINT64_C(1000000) /* nanoseconds */
#define QUICK_MS 10000 /* a server that lived longer had started well */
#define QUICK_MAX 10
#define BACKOFF_MS 50 /* after the second quick death; doubled with each, at most: */
#define BACKOFF_MAX_MS 2000
#define TERM_MS                                                                                    \
	10000 /* nbdkit finishes requests under way, and waits for clients that need not leave */
#define TERM_FLUSH_MS 60000 /* and flushes overlays */

struct supervisor {
	const char *dir, *id, *preload;
	const char *const *server; /* its arguments */
	uint8_t *key; /* at the start of a page, or NULL: not encrypted */
	size_t key_len; /* bytes: KEY_LEN for each epoch */
	int signals, pid_fd;
	pid_t pid; /* 0: no server runs */
	bool ready, ending;
	bool orphan; /* whoever started us has gone before it was ready */
	unsigned quick; /* deaths in a row within QUICK_MS */
	uint64_t begun_ns,
		timer_ns; /* timer: of the next start, or of SIGKILL when ending; 0: none */
};

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *fmt, ...)
{
	char now[TIME_TEXT_MAX], text[2 * ERR_TEXT_MAX];
	va_list ap;

	time_format(now, time_now());
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	dprintf(STDERR_FILENO, "livepoint: %s: %s\n", now, text);
}

/* --- the key --- */

static int control_byte(uint8_t *out, struct err *err)
{
	return file_read_some(SUPERVISOR_CONTROL, out, 1, "control pipe", err) == 1 ?
		       0 :
		       err_set(err, ERR_CHILD, "the control pipe ends at once");
}

_Static_assert(REPO_KEYS_MAX <= 4096, "in one page and in a pipe of one");

static int key_receive(struct supervisor *s, struct err *err)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), done = 0;
	uint8_t kind = 0, keys = 0;
	void *p;
	int code = control_byte(&kind, err);

	if (code < 0 || kind != CONTROL_KEY)
		return code;
	code = control_byte(&keys, err);
	if (code == 0 && (keys == 0 || keys > KEY_EPOCHS_MAX))
		code = err_set(err, ERR_KEY, "%u keys were announced", keys);
	if (code < 0)
		return code;
	proc_hide_memory();
	p = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return err_nomem(err, "page for the key");
	if (mlock(p, page) < 0)
		say("warning: the key cannot be kept from being swapped: %s", strerror(errno));
	madvise(p, page, MADV_DONTDUMP);
	madvise(p, page, MADV_WIPEONFORK); /* the child gets it by its pipe */
	s->key = p;
	s->key_len = (size_t)keys * KEY_LEN;
	while (done < s->key_len) {
		ssize_t n = file_read_some(SUPERVISOR_CONTROL, s->key + done, s->key_len - done,
					   "control pipe", err);

		if (n <= 0)
			return err_set(err, ERR_KEY, "the key does not come");
		done += (size_t)n;
	}
	return 0;
}

/* Returns the reading end of a pipe that holds the keys: a page always fits. */
static int key_pipe(const struct supervisor *s, struct err *err)
{
	cleanup_fd int from = -1, to = -1;
	int ends[2], code;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_set_errno(err, ERR_FAILED, errno, "cannot make a pipe");
	from = ends[0];
	to = ends[1];
	code = file_write(to, s->key, s->key_len, "pipe to nbdkit", err);
	return code < 0 ? code : steal_fd(&from);
}

/* --- the server --- */

static int pid_write(struct supervisor *s, struct err *err)
{
	char text[PID_FILE_LEN + 1];

	snprintf(text, sizeof(text), "%-*lld\n", PID_FILE_LEN - 1, (long long)s->pid);
	return file_pwrite(s->pid_fd, text, PID_FILE_LEN, 0, "ID.pid", "serve.pid.write", err);
}

static int server_start(struct supervisor *s, struct err *err)
{
	const char *const env[] = { strcmp(s->preload, "-") != 0 ? s->preload : NULL, NULL };
	cleanup_fd int key = s->key ? key_pipe(s, err) : -1;
	const int fds[] = { SUPERVISOR_LISTENER, SUPERVISOR_LOCK, key };
	const struct proc_spec spec = {
		.argv = s->server,
		.env_add = env,
		.in_fd = -1,
		.out_fd = -1,
		.err_fd = STDERR_FILENO,
		.pass_fds = fds,
		.npass = s->key ? 3 : 2,
		.listen_fds = true,
		.nlisten = 1,
		.die_with_parent = true,
	};
	int code;

	if (s->key && key < 0)
		return key;
	s->begun_ns = time_mono_ns();
	code = proc_start(&spec, &s->pid, err);
	return code < 0 ? code : pid_write(s, err);
}

/* The end of the supervisor: nobody else needs the files, unless their log says why. */
static void __attribute__((noreturn)) leave(struct supervisor *s, bool keep, int status)
{
	if (!keep && (s->ready || s->orphan))
		run_remove(s->dir, s->id, NULL);
	if (s->key)
		mem_wipe(s->key, s->key_len);
	exit(status);
}

/* The starter sees how it ended. */
static void __attribute__((noreturn)) leave_like(struct supervisor *s, int status)
{
	sigset_t none;

	if (WIFSIGNALED(status)) {
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		signal(WTERMSIG(status), SIG_DFL);
		raise(WTERMSIG(status));
	}
	leave(s, true, WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

/* how: "was killed by signal 9".  Sets the timer of the next start, or gives up. */
static void schedule(struct supervisor *s, const char *how)
{
	uint64_t now = time_mono_ns(), wait = 0;
	unsigned i;

	s->quick = now - s->begun_ns < QUICK_MS * MS ? s->quick + 1 : 1;
	if (s->quick > QUICK_MAX) {
		say("nbdkit %s; it has ended %u times in a row soon after its start: " GAVE_UP, how,
		    s->quick);
		leave(s, true, 1);
	}
	for (i = 1; i < s->quick; i++)
		wait = wait ? MIN(wait * 2, BACKOFF_MAX_MS) : BACKOFF_MS;
	say("nbdkit %s; it is started again on the same socket", how);
	s->timer_ns = now + wait * MS + 1;
}

static void server_ended(struct supervisor *s, int status)
{
	bool meant = (WIFEXITED(status) && WEXITSTATUS(status) == 0) ||
		     (WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	char how[80];

	if (WIFSIGNALED(status))
		snprintf(how, sizeof(how), "(process %d) was killed by signal %d", (int)s->pid,
			 WTERMSIG(status));
	else
		snprintf(how, sizeof(how), "(process %d) ended with status %d", (int)s->pid,
			 WEXITSTATUS(status));
	s->pid = 0;
	if (s->ending || (s->ready && meant))
		leave(s, false, 0);
	if (!s->ready)
		leave_like(s, status);
	schedule(s, how);
}

static void server_restart(struct supervisor *s)
{
	struct err err = ERR_INIT;
	char how[ERR_TEXT_MAX + 32];

	s->timer_ns = 0;
	if (server_start(s, &err) == 0)
		return;
	if (s->pid) { /* it runs, and nobody could find it */
		kill(s->pid, SIGKILL);
		return;
	}
	snprintf(how, sizeof(how), "cannot be started (%s)", err.text);
	schedule(s, how);
}

/* --- what happens --- */

/* A server of one point has nothing to write. */
static bool may_flush(const struct supervisor *s)
{
	size_t i;

	for (i = 0; s->server[i]; i++)
		if (str_starts(s->server[i], "point="))
			return false;
	return true;
}

/* The first time politely, unless nobody can have connected yet. */
static void end_server(struct supervisor *s)
{
	if (s->pid == 0)
		leave(s, false, 0);
	kill(s->pid, s->ready && !s->ending ? SIGTERM : SIGKILL);
	s->ending = true;
	s->timer_ns = time_mono_ns() + (may_flush(s) ? TERM_FLUSH_MS : TERM_MS) * MS;
}

static void on_signal(struct supervisor *s)
{
	struct signalfd_siginfo info;
	int status;

	if (read(s->signals, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo != SIGCHLD)
		end_server(s);
	else if (s->pid && waitpid(s->pid, &status, WNOHANG) == s->pid)
		server_ended(s, status);
}

static void on_control(struct supervisor *s)
{
	char byte = 0;
	ssize_t n = file_read_some(SUPERVISOR_CONTROL, &byte, 1, "control pipe", NULL);

	if (n == 1 && byte == CONTROL_READY) {
		s->ready = true;
	} else {
		s->orphan = true;
		end_server(s);
	}
	close(SUPERVISOR_CONTROL);
}

static void on_timer(struct supervisor *s)
{
	if (s->timer_ns == 0 || time_mono_ns() < s->timer_ns)
		return;
	if (s->ending)
		end_server(s);
	else
		server_restart(s);
}

static int timer_ms(const struct supervisor *s)
{
	uint64_t now = time_mono_ns();

	if (s->timer_ns == 0)
		return -1;
	return s->timer_ns <= now ? 0 : (int)((s->timer_ns - now) / MS + 1);
}

static void __attribute__((noreturn)) watch(struct supervisor *s)
{
	struct pollfd fds[] = { { .fd = s->signals, .events = POLLIN },
				{ .fd = SUPERVISOR_CONTROL, .events = POLLIN } };

	for (;;) {
		int n = poll(fds, ARRAY_SIZE(fds), timer_ms(s));

		/* First: the starter may have said that it is ready just before the server died. */
		if (n > 0 && fds[1].revents) {
			on_control(s);
			fds[1].fd = -1;
		}
		if (n > 0 && fds[0].revents)
			on_signal(s);
		on_timer(s);
	}
}

static int set_up(struct supervisor *s, struct err *err)
{
	cleanup_free char *path = run_file(s->dir, s->id, "pid");
	sigset_t set;
	int code;

	if (!path)
		return err_nomem(err, "path");
	prctl(PR_SET_NAME, "livepoint-serve");
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_SETMASK, &set, NULL);
	s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signals < 0)
		return err_set_errno(err, ERR_FAILED, errno, "cannot wait for signals");
	code = key_receive(s, err);
	if (code < 0)
		return code;
	s->pid_fd = file_open(path, O_WRONLY | O_CREAT, 0600, err);
	if (s->pid_fd < 0)
		return s->pid_fd;
	if (chdir("/") < 0) /* it must keep no folder busy */
		return err_set_errno(err, ERR_FAILED, errno, "cannot leave the current folder");
	return server_start(s, err);
}

int main(int argc, char **argv)
{
	struct supervisor s = { .signals = -1, .pid_fd = -1 };
	struct err err = ERR_INIT;

	if (argc < 5 || !run_id_valid(argv[2]) || fcntl(SUPERVISOR_CONTROL, F_GETFD) < 0) {
		fputs("livepoint-supervisor: it is started by 'livepoint export' only\n", stderr);
		return 2;
	}
	s.dir = argv[1];
	s.id = argv[2];
	s.preload = argv[3];
	s.server = (const char *const *)argv + 4;
	if (set_up(&s, &err) < 0) {
		dprintf(STDERR_FILENO, "%s\n", err.text);
		if (s.pid)
			kill(s.pid, SIGKILL);
		return 1;
	}
	watch(&s);
}
