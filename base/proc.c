// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Child processes: the only file that forks; see base/proc.h.
 *
 * How it works: everything that a child needs (path, environment, room for descriptor numbers) is
 * prepared before fork(); the child of a threaded process then makes system calls only.  A
 * close-on-exec pipe tells the parent why exec did not happen; its end of file says that it did.
 *
 * Invariants:
 *  1. Between fork and exec: async-signal-safe calls only, no allocation, no lock (signal-safety(7)).
 *  2. All signals are blocked across fork, so that no handler of ours runs in a child.
 *  3. Wanted descriptors are first moved above all target numbers, then put into place, so that no
 *     order of them can overwrite one that is still needed.
 */
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"

#include "base/banned.h"

#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
#define LISTEN_PID_KEY "LISTEN_PID="
#define STDERR_TAIL 512 /* bytes of stderr that are looked at for its last line */
#define CALL_HEAD_BYTES (4 + 8) /* proc_call: code, length of the result */

/* What a child needs, made before fork. */
struct launch {
	const struct proc_spec *spec;
	char *program; /* owned: path to execute */
	char **env; /* owned array; strings of environ, spec and the two below */
	char listen_fds[32], listen_pid[32];
	int *fds; /* owned: 3 + npass descriptors above all targets */
	int nfds;
	int status_fd; /* write end: a struct launch_failure, if exec failed */
	pid_t parent;
};

struct launch_failure {
	int eno;
	bool in_exec; /* exec itself failed, else the preparation */
};

static void launch_release(struct launch *l)
{
	free(l->program);
	free(l->env);
	free(l->fds);
}
#define cleanup_launch __attribute__((cleanup(launch_release)))

static bool is_executable(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* Fills *out with the program's path (owned by the caller) or NULL if there is none. */
static int find_program(const char *program, char **out, struct err *err)
{
	const char *dirs = getenv("PATH");

	*out = NULL;
	if (strchr(program, '/')) { /* exec says best what is wrong with it */
		*out = str_dup(program);
		return *out ? 0 : err_nomem(err, "program path");
	}
	if (!dirs)
		dirs = DEFAULT_PATH;
	for (;;) {
		size_t n = strcspn(dirs, ":");
		cleanup_free char *path =
			str_printf("%.*s%s%s", (int)n, dirs, n ? "/" : "./", program);

		if (!path)
			return err_nomem(err, "program path");
		if (*program && is_executable(path)) {
			*out = steal_ptr(path);
			return 0;
		}
		if (!dirs[n])
			return 0;
		dirs += n + 1;
	}
}

bool proc_exists(const char *program)
{
	cleanup_free char *path = NULL;

	return find_program(program, &path, NULL) == 0 && path && is_executable(path);
}

static bool same_key(const char *a, const char *b)
{
	size_t n = strcspn(a, "=");

	return strncmp(a, b, n) == 0 && b[n] == '=';
}

/* Whether a variable of ours does not go to the child as it is. */
static bool env_replaced(const char *var, const char *const *add)
{
	/* A socket protocol that was meant for us is not meant for our children. */
	if (str_starts(var, "LISTEN_FDS=") || str_starts(var, LISTEN_PID_KEY) ||
	    str_starts(var, "LISTEN_FDNAMES="))
		return true;
	for (; add && *add; add++)
		if (same_key(*add, var))
			return true;
	return false;
}

static int launch_env(struct launch *l, struct err *err)
{
	const struct proc_spec *spec = l->spec;
	const char *const *add;
	size_t n = 0;
	char **var;

	for (var = environ; var && *var; var++)
		n++;
	for (add = spec->env_add; add && *add; add++)
		n++;
	l->env = mem_alloc_array(n + 3, sizeof(*l->env));
	if (!l->env)
		return err_nomem(err, "environment of a child");
	n = 0;
	for (var = environ; var && *var; var++)
		if (!env_replaced(*var, spec->env_add))
			l->env[n++] = *var;
	for (add = spec->env_add; add && *add; add++)
		l->env[n++] = (char *)(uintptr_t)*add;
	if (spec->listen_fds) {
		snprintf(l->listen_fds, sizeof(l->listen_fds), "LISTEN_FDS=%u",
			 spec->nlisten ? spec->nlisten : spec->npass);
		str_copy(l->listen_pid, sizeof(l->listen_pid), LISTEN_PID_KEY);
		l->env[n++] = l->listen_fds;
		l->env[n++] = l->listen_pid; /* the number is added in the child */
	}
	return 0;
}

static int launch_prepare(struct launch *l, struct err *err)
{
	const char *name = l->spec->argv[0];
	int r = find_program(name, &l->program, err);

	if (r < 0)
		return r;
	if (!l->program) {
		err_set(err, ERR_CHILD, "cannot run '%s': no such program", name);
		err_object(err, "%s", name);
		return ERR_CHILD;
	}
	l->nfds = 3 + (int)l->spec->npass;
	l->fds = mem_alloc_array((size_t)l->nfds, sizeof(*l->fds));
	if (!l->fds)
		return err_nomem(err, "descriptors of a child");
	return launch_env(l, err);
}

/* --- in the child: system calls only --- */

static void child_listen_pid(struct launch *l)
{
	char digits[16];
	size_t n = 0, at = sizeof(LISTEN_PID_KEY) - 1;
	pid_t pid = getpid();

	for (; pid; pid /= 10)
		digits[n++] = (char)('0' + pid % 10);
	while (n)
		l->listen_pid[at++] = digits[--n];
	l->listen_pid[at] = 0;
}

static void child_reset_signals(void)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	sigset_t none;
	int sig;

	for (sig = 1; sig < NSIG; sig++)
		sigaction(sig, &dfl, NULL); /* fails for SIGKILL, SIGSTOP and libc's own */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static bool child_place_fds(struct launch *l)
{
	const struct proc_spec *spec = l->spec;
	const int std[3] = { spec->in_fd, spec->out_fd, spec->err_fd };
	int i;

	l->status_fd = fcntl(l->status_fd, F_DUPFD_CLOEXEC, l->nfds);
	if (l->status_fd < 0)
		return false;
	for (i = 0; i < l->nfds; i++) {
		int from = i < 3 ? std[i] : spec->pass_fds[i - 3];
		int null = -1;

		if (i < 3 && from < 0)
			from = null = open("/dev/null", O_RDWR | O_CLOEXEC);
		l->fds[i] = fcntl(from, F_DUPFD_CLOEXEC, l->nfds);
		if (l->fds[i] < 0)
			return false;
		if (null >= 0)
			close(null);
	}
	for (i = 0; i < l->nfds; i++)
		if (dup2(l->fds[i], i) < 0)
			return false;
	/* Descriptors of libraries may lack the flag; ours all have it. */
	return close_range((unsigned)l->nfds, ~0u, CLOSE_RANGE_CLOEXEC) == 0;
}

static void __attribute__((noreturn)) child_main(struct launch *l)
{
	const struct rlimit none = { 0, 0 };
	const struct proc_spec *spec = l->spec;
	struct launch_failure failure = { 0 };
	int status = l->status_fd;
	bool ok;

	child_reset_signals();
	if (spec->new_session)
		setsid();
	if (spec->die_with_parent) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != l->parent) /* it died before the call above */
			_exit(127);
	}
	if (spec->no_core)
		setrlimit(RLIMIT_CORE, &none);
	if (spec->listen_fds)
		child_listen_pid(l);
	ok = child_place_fds(l);
	if (ok) {
		execve(l->program, (char *const *)(uintptr_t)spec->argv, l->env);
		failure.in_exec = true;
	}
	failure.eno = errno;
	if (l->status_fd >= 0)
		status = l->status_fd;
	while (write(status, &failure, sizeof(failure)) < 0 && errno == EINTR)
		;
	_exit(127);
}

/* --- in the parent --- */

static int make_pipe(int ends[2], const char *what, struct err *err)
{
	if (pipe2(ends, O_CLOEXEC) == 0)
		return 0;
	ends[0] = ends[1] = -1;
	return err_set_errno(err, ERR_FAILED, errno, "cannot make a pipe to %s", what);
}

/* fork() with all signals blocked in both; the parent gets its mask back, the child keeps the full one. */
static pid_t fork_blocked(void)
{
	sigset_t all, old;
	pid_t pid;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pid = fork();
	if (pid != 0) {
		int saved = errno;

		pthread_sigmask(SIG_SETMASK, &old, NULL);
		errno = saved;
	}
	return pid;
}

/* Reads up to n bytes of a pipe until its end; returns how many came. */
static size_t read_pipe(int fd, void *p, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t got = read(fd, (char *)p + done, n - done);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		done += (size_t)got;
	}
	return done;
}

int proc_start(const struct proc_spec *spec, pid_t *pid, struct err *err)
{
	cleanup_launch struct launch l = { .spec = spec, .parent = getpid() };
	cleanup_fd int status_read = -1, status_write = -1;
	struct launch_failure failure;
	const char *name = spec->argv[0];
	int ends[2], r = launch_prepare(&l, err);
	pid_t child;

	if (r < 0)
		return r;
	r = make_pipe(ends, name, err);
	if (r < 0)
		return r;
	status_read = ends[0];
	l.status_fd = status_write = ends[1];
	child = fork_blocked();
	if (child == 0)
		child_main(&l);
	if (child < 0)
		return err_set_errno(err, ERR_CHILD, errno, "cannot start '%s'", name);
	close(steal_fd(&status_write));
	if (read_pipe(status_read, &failure, sizeof(failure)) != sizeof(failure)) {
		*pid = child;
		return 0;
	}
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	err_set_errno(err, ERR_CHILD, failure.eno,
		      failure.in_exec ? "cannot run '%s'" : "cannot prepare '%s'", name);
	err_object(err, "%s", name);
	return err_recode(err, ERR_CHILD);
}

int proc_wait(pid_t pid, int *status, struct err *err)
{
	int value;

	while (waitpid(pid, &value, 0) < 0)
		if (errno != EINTR)
			return err_set_errno(err, ERR_CHILD, errno, "cannot wait for process %ld",
					     (long)pid);
	*status = value;
	return 0;
}

/* The end of a child's stderr. */
struct tail {
	char text[STDERR_TAIL];
	size_t len;
};

static void tail_add(struct tail *tail, const char *p, size_t n)
{
	size_t drop;

	if (n > sizeof(tail->text)) {
		p += n - sizeof(tail->text);
		n = sizeof(tail->text);
	}
	drop = tail->len + n > sizeof(tail->text) ? tail->len + n - sizeof(tail->text) : 0;
	memmove(tail->text, tail->text + drop, tail->len - drop);
	tail->len -= drop;
	memcpy(tail->text + tail->len, p, n);
	tail->len += n;
}

/* The last line that is not empty; returns its length and fills *line. */
static size_t tail_line(const struct tail *tail, const char **line)
{
	size_t end = tail->len, start;

	while (end && (tail->text[end - 1] == '\n' || tail->text[end - 1] == '\r'))
		end--;
	for (start = end; start && tail->text[start - 1] != '\n'; start--)
		;
	*line = tail->text + start;
	return end - start;
}

/* Collects both streams until their ends. */
static int collect(int out_fd, int err_fd, struct buf *out, size_t max_out, struct tail *tail,
		   const char *name, struct err *err)
{
	struct pollfd fds[2] = { { .fd = out_fd, .events = POLLIN },
				 { .fd = err_fd, .events = POLLIN } };
	size_t before = out->len;
	char piece[4096];
	int i;

	while (fds[0].fd >= 0 || fds[1].fd >= 0) {
		if (poll(fds, 2, -1) < 0) {
			if (errno == EINTR) /* revents are those of the call before */
				continue;
			return err_set_errno(err, ERR_CHILD, errno, "cannot read from '%s'", name);
		}
		for (i = 0; i < 2; i++) {
			ssize_t got;

			if (fds[i].fd < 0 || !fds[i].revents)
				continue;
			got = file_read_some(fds[i].fd, piece, sizeof(piece), name, err);
			if (got < 0)
				return (int)got;
			if (!got)
				fds[i].fd = -1;
			else if (i == 1)
				tail_add(tail, piece, (size_t)got);
			else if ((size_t)got > max_out - (out->len - before))
				return err_set(err, ERR_TOO_BIG, "'%s' printed more than %zu bytes",
					       name, max_out);
			else
				buf_put(out, piece, (size_t)got);
		}
		if (out->failed)
			return err_nomem(err, "output of a program");
	}
	return 0;
}

static int check_status(int status, const struct tail *tail, const char *name, struct err *err)
{
	const char *line;
	int n = (int)tail_line(tail, &line);
	const char *colon = n ? ": " : "";

	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFSIGNALED(status))
		err_set(err, ERR_CHILD, "'%s' was killed by signal %d%s%.*s", name,
			WTERMSIG(status), colon, n, line);
	else
		err_set(err, ERR_CHILD, "'%s' failed with exit status %d%s%.*s", name,
			WEXITSTATUS(status), colon, n, line);
	err_object(err, "%s", name);
	return ERR_CHILD;
}

int proc_run(const char *const *argv, struct buf *out, size_t max_out, struct err *err)
{
	/* nobody would read what it prints */
	struct proc_spec spec = { .argv = argv, .in_fd = -1, .die_with_parent = true };
	cleanup_fd int out_read = -1, out_write = -1, err_read = -1, err_write = -1;
	struct tail tail = { .len = 0 };
	int ends[2], status = 0, r = make_pipe(ends, argv[0], err);
	size_t before = out->len;
	pid_t pid;

	if (r < 0)
		return r;
	out_read = ends[0];
	spec.out_fd = out_write = ends[1];
	r = make_pipe(ends, argv[0], err);
	if (r < 0)
		return r;
	err_read = ends[0];
	spec.err_fd = err_write = ends[1];
	r = proc_start(&spec, &pid, err);
	if (r < 0)
		return r;
	close(steal_fd(&out_write));
	close(steal_fd(&err_write));
	r = collect(out_read, err_read, out, max_out, &tail, argv[0], err);
	if (r < 0) {
		kill(pid, SIGKILL); /* not waited for yet: the number is still its */
		proc_wait(pid, &status, NULL);
	} else {
		r = proc_wait(pid, &status, err);
		if (r == 0)
			r = check_status(status, &tail, argv[0], err);
	}
	if (r < 0)
		out->len = before;
	return r;
}

/* The child's side of proc_call(): code and length, the error object, the result.  Both sides are one
 * program image, so that struct err may pass as it lies in memory. */
static void __attribute__((noreturn))
call_child(int fd, int (*fn)(void *arg, struct buf *result, struct err *err), void *arg)
{
	struct buf result = BUF_INIT;
	struct err err = ERR_INIT;
	uint8_t head[CALL_HEAD_BYTES];
	int r = fn(arg, &result, &err);

	if (r == 0 && result.failed)
		r = err_nomem(&err, "result of a helper process");
	put_le32(head, (uint32_t)r);
	put_le64(head + 4, r == 0 ? result.len : 0);
	if (file_write(fd, head, sizeof(head), "helper pipe", NULL) < 0 ||
	    file_write(fd, &err, sizeof(err), "helper pipe", NULL) < 0 ||
	    (r == 0 && file_write(fd, result.data, result.len, "helper pipe", NULL) < 0))
		_exit(1);
	_exit(0);
}

/* Reads what call_child() wrote; ERR_CHILD if it is not whole. */
static int call_receive(int fd, struct buf *result, struct err *err)
{
	uint8_t head[CALL_HEAD_BYTES];
	struct err said;
	uint64_t n;
	int r;

	if (read_pipe(fd, head, sizeof(head)) != sizeof(head) ||
	    read_pipe(fd, &said, sizeof(said)) != sizeof(said))
		return err_set(err, ERR_CHILD, "a helper process ended without an answer");
	r = (int)get_le32(head);
	n = get_le64(head + 4);
	if (r != 0) {
		if (err)
			*err = said;
		return r;
	}
	/* Straight to its place and at once: a secret leaves no copies behind. */
	if (!buf_reserve(result, n))
		return err_nomem(err, "result of a helper process");
	if (read_pipe(fd, result->data + result->len, n) != n)
		return err_set(err, ERR_CHILD, "a helper process ended within its answer");
	result->len += n;
	return 0;
}

int proc_call(int (*fn)(void *arg, struct buf *result, struct err *err), void *arg,
	      struct buf *result, struct err *err)
{
	cleanup_fd int from = -1, to = -1;
	int ends[2], status = 0, r = make_pipe(ends, "a helper process", err);
	pid_t pid, parent = getpid();

	if (r < 0)
		return r;
	from = ends[0];
	to = ends[1];
	pid = fork_blocked();
	if (pid == 0) {
		/* It holds our locks open: it must not outlive us. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		close(from);
		call_child(to, fn, arg);
	}
	if (pid < 0)
		return err_set_errno(err, ERR_CHILD, errno, "cannot start a helper process");
	close(steal_fd(&to));
	r = call_receive(from, result, err);
	if (proc_wait(pid, &status, r == 0 ? err : NULL) < 0 && r == 0)
		r = ERR_CHILD;
	if (r == ERR_CHILD && WIFSIGNALED(status))
		err_prefix(err, "killed by signal %d", WTERMSIG(status));
	return r;
}

uint64_t proc_start_ticks(pid_t pid)
{
	cleanup_buf struct buf stat = BUF_INIT;
	char path[64];
	const char *p;
	uint64_t ticks;
	char *word, *save;
	int field;

	snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
	if (file_read_all(path, 4096, &stat, NULL) < 0)
		return 0;
	/* Field 2 is the name in parentheses and may hold anything, also blanks and parentheses. */
	p = strrchr(buf_str(&stat), ')');
	if (!p)
		return 0;
	save = (char *)(uintptr_t)p + 1;
	for (field = 3; (word = strsep(&save, " \n")); field += *word != 0)
		if (*word && field == 22)
			return parse_u64(word, &ticks) ? ticks : 0;
	return 0;
}

void proc_hide_memory(void)
{
	const struct rlimit none = { 0 };

	/* Both: a core_pattern that is a pipe does not ask for the limit; a debugger's gcore does not ask for a dump. */
	prctl(PR_SET_DUMPABLE, 0);
	setrlimit(RLIMIT_CORE, &none);
}
