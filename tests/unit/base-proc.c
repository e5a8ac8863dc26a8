// SPDX-License-Identifier: GPL-3.0-or-later
/* Child processes: descriptors, environment, signals, LISTEN_FDS, failures, proc_run, proc_call. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <pthread.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/proc.h"

#include "base/banned.h"

/* Runs the shell text by spec and returns what it wrote to descriptor 1; its exit status must be 0. */
static const char *run_shell(struct proc_spec *spec, const char *text, struct buf *out)
{
	const char *const argv[] = { "sh", "-c", text, NULL };
	struct err err = ERR_INIT;
	int ends[2], status = -1;
	char piece[512];
	ssize_t got;
	pid_t pid;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	spec->argv = argv;
	spec->out_fd = ends[1];
	if (proc_start(spec, &pid, &err) < 0)
		fail_msg("%s", err.text);
	close(ends[1]);
	buf_reset(out);
	while ((got = file_read_some(ends[0], piece, sizeof(piece), "pipe", &err)) > 0)
		buf_put(out, piece, (size_t)got);
	close(ends[0]);
	assert_int_equal(proc_wait(pid, &status, &err), 0);
	assert_int_equal(status, 0);
	return buf_str(out);
}

static int text_fd(const char *text)
{
	int fd = memfd_create("text", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

static void test_pass_fds(void **state)
{
	cleanup_buf struct buf out = BUF_INIT;
	struct proc_spec spec = { .in_fd = -1, .err_fd = -1 };
	int fds[3] = { text_fd("first"), text_fd("second"), text_fd("third") };
	int leak = open("/dev/zero", O_RDONLY); /* without close-on-exec, as a library might */
	int swapped[3] = { fds[2], fds[0], fds[1] };

	(void)state;
	spec.pass_fds = swapped;
	spec.npass = 3;
	assert_string_equal(run_shell(&spec, "cat <&3; echo; cat <&4; echo; cat <&5", &out),
			    "third\nfirst\nsecond");
	assert_true(fcntl(fds[0], F_GETFD) & FD_CLOEXEC); /* ours stay as they were */
	spec.npass = 1;
	assert_true(leak > 3);
	assert_string_equal(run_shell(&spec, "ls /proc/$$/fd; true", &out), "0\n1\n2\n3\n");
	close(leak);
	close(fds[0]);
	close(fds[1]);
	close(fds[2]);
}

/* The wanted descriptors lie on each other's target numbers, 0 to 4 reversed. */
static void test_crossed_fds(void **state)
{
	const char *const argv[] = { "sh", "-c",
				     "cat <&0; cat <&3; cat <&4; printf out; printf err >&2",
				     NULL };
	char said_out[32] = "", said_err[32] = "";
	int in = text_fd("in,"), three = text_fd("three,"), four = text_fd("four,");
	int out = text_fd(""), errfd = text_fd(""), saved[5], i, status;
	struct proc_spec spec = { .argv = argv, .in_fd = 4, .out_fd = 3, .err_fd = 0, .npass = 2 };
	const int pass[2] = { 1, 2 };
	struct err err = ERR_INIT;
	pid_t pid;
	int r;

	(void)state;
	spec.pass_fds = pass;
	in = fcntl(in, F_DUPFD_CLOEXEC, 20);
	three = fcntl(three, F_DUPFD_CLOEXEC, 20);
	four = fcntl(four, F_DUPFD_CLOEXEC, 20);
	out = fcntl(out, F_DUPFD_CLOEXEC, 20);
	errfd = fcntl(errfd, F_DUPFD_CLOEXEC, 20);
	for (i = 0; i < 5; i++)
		saved[i] = fcntl(i, F_DUPFD_CLOEXEC, 20);
	dup2(in, 4);
	dup2(out, 3);
	dup2(errfd, 0);
	dup2(three, 1);
	dup2(four, 2);
	r = proc_start(&spec, &pid, &err);
	for (i = 0; i < 5; i++) {
		close(i);
		if (saved[i] >= 0)
			dup2(saved[i], i);
	}
	assert_int_equal(r, 0);
	assert_int_equal(proc_wait(pid, &status, &err), 0);
	assert_int_equal(status, 0);
	assert_true(pread(out, said_out, sizeof(said_out) - 1, 0) > 0);
	assert_true(pread(errfd, said_err, sizeof(said_err) - 1, 0) > 0);
	assert_string_equal(said_out, "in,three,four,out");
	assert_string_equal(said_err, "err");
}

static void test_listen_fds(void **state)
{
	cleanup_buf struct buf out = BUF_INIT;
	int fds[2] = { text_fd("a"), text_fd("b") };
	struct proc_spec spec = {
		.in_fd = -1, .err_fd = -1, .pass_fds = fds, .npass = 2, .listen_fds = true
	};

	(void)state;
	setenv("LISTEN_PID", "1", 1);
	setenv("LISTEN_FDNAMES", "stale", 1);
	assert_string_equal(
		run_shell(
			&spec,
			"[ $LISTEN_PID = $$ ] && echo $LISTEN_FDS${LISTEN_FDNAMES-none} && cat <&4",
			&out),
		"2none\nb");
	spec.listen_fds = false;
	assert_string_equal(run_shell(&spec, "echo ${LISTEN_PID-unset}", &out), "unset\n");
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDNAMES");
	close(fds[0]);
	close(fds[1]);
}

static void test_environment(void **state)
{
	static const char *const add[] = { "BASE_PROC_A=new", "BASE_PROC_C=c=c", NULL };
	cleanup_buf struct buf out = BUF_INIT;
	struct proc_spec spec = { .in_fd = -1, .err_fd = -1, .env_add = add };

	(void)state;
	setenv("BASE_PROC_A", "old", 1);
	setenv("BASE_PROC_AB", "kept", 1);
	assert_string_equal(
		run_shell(&spec,
			  "echo $BASE_PROC_A $BASE_PROC_AB $BASE_PROC_C; env | grep -c BASE_PROC",
			  &out),
		"new kept c=c\n3\n");
}

static void on_signal(int sig)
{
	(void)sig;
}

static void test_signals_and_session(void **state)
{
	cleanup_buf struct buf out = BUF_INIT;
	struct proc_spec spec = { .in_fd = -1, .err_fd = -1 };
	sigset_t set, old;

	(void)state;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, &old);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGUSR1, on_signal);
	/* Signals 32 and 33 are libc's own: its posix_spawn(), make's for one, leaves them ignored. */
	assert_string_equal(
		run_shell(&spec,
			  "while read k v; do case $k in SigBlk:|SigIgn:) "
			  "echo $((0x$v & ~0x180000000));; esac; done </proc/self/status",
			  &out),
		"0\n0\n");
	sigprocmask(SIG_SETMASK, &old, NULL);
	spec.new_session = true;
	/* Field 6 of stat is the session; of a leader it is its own pid. */
	assert_string_equal(
		run_shell(&spec, "set -- $(cat /proc/$$/stat); [ $6 = $$ ] && echo leader", &out),
		"leader\n");
	spec.new_session = false;
	assert_string_equal(
		run_shell(&spec, "set -- $(cat /proc/$$/stat); [ $6 = $$ ] || echo member", &out),
		"member\n");
}

static void test_die_with_parent(void **state)
{
	const char *const argv[] = { "sleep", "1000", NULL };
	struct proc_spec spec = {
		.argv = argv, .in_fd = -1, .out_fd = -1, .err_fd = -1, .die_with_parent = true
	};
	pid_t *child = mmap(NULL, sizeof(*child), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status, i;
	pid_t pid = fork();

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(proc_start(&spec, child, NULL) == 0 ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	/* Nobody of ours can wait for it: it is gone, or a zombie of init's. */
	for (i = 0; i < 500 && kill(*child, 0) == 0; i++) {
		cleanup_buf struct buf stat = BUF_INIT;
		char path[64];

		snprintf(path, sizeof(path), "/proc/%ld/stat", (long)*child);
		if (file_read_all(path, 4096, &stat, NULL) < 0 || strstr(buf_str(&stat), ") Z"))
			break;
		time_sleep_ms(10);
	}
	assert_true(i < 500);
	munmap(child, sizeof(*child));
}

static void test_missing_program(void **state)
{
	const char *argv[] = { "no-such-program-of-livepoint", NULL };
	struct proc_spec spec = { .argv = argv, .in_fd = -1, .out_fd = -1, .err_fd = -1 };
	struct err err = ERR_INIT;
	pid_t pid = -7;

	(void)state;
	assert_int_equal(proc_start(&spec, &pid, &err), ERR_CHILD);
	assert_string_equal(err.text, "cannot run 'no-such-program-of-livepoint': no such program");
	argv[0] = "/absent/program";
	assert_int_equal(proc_start(&spec, &pid, &err), ERR_CHILD);
	assert_string_equal(err.text, "cannot run '/absent/program': No such file or directory");
	assert_string_equal(err.object, "/absent/program");
	argv[0] = "/dev/null";
	assert_int_equal(proc_start(&spec, &pid, &err), ERR_CHILD);
	assert_string_equal(err.text, "cannot run '/dev/null': Permission denied");
	argv[0] = "sh";
	spec.out_fd = 999;
	assert_int_equal(proc_start(&spec, &pid, &err), ERR_CHILD);
	assert_string_equal(err.text, "cannot prepare 'sh': Bad file descriptor");
	assert_int_equal(pid, -7);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no zombie is left */
	assert_true(proc_exists("sh"));
	assert_true(proc_exists("/bin/sh"));
	assert_false(proc_exists("no-such-program-of-livepoint"));
	assert_false(proc_exists("/dev/null"));
	assert_false(proc_exists(""));
}

static int run_text(const char *text, struct buf *out, size_t max, struct err *err)
{
	const char *const argv[] = { "sh", "-c", text, NULL };

	return proc_run(argv, out, max, err);
}

static void test_run(void **state)
{
	cleanup_buf struct buf out = BUF_INIT;
	struct err err = ERR_INIT;

	(void)state;
	buf_put(&out, "> ", 2);
	assert_int_equal(run_text("echo some; cat; echo noise >&2", &out, 5, &err), 0);
	assert_string_equal(buf_str(&out), "> some\n");
	assert_int_equal(run_text("echo some more", &out, 9, &err), ERR_TOO_BIG);
	assert_string_equal(err.text, "'sh' printed more than 9 bytes");
	assert_string_equal(buf_str(&out), "> some\n");
	assert_int_equal(run_text("yes", &out, 100000, &err),
			 ERR_TOO_BIG); /* endless: it is killed */
	assert_int_equal(run_text("echo lost; echo first >&2; echo 'the reason' >&2; exit 3", &out,
				  100, &err),
			 ERR_CHILD);
	assert_string_equal(err.text, "'sh' failed with exit status 3: the reason");
	assert_string_equal(err.object, "sh");
	assert_string_equal(buf_str(&out), "> some\n");
	assert_int_equal(run_text("exit 1", &out, 100, &err), ERR_CHILD);
	assert_string_equal(err.text, "'sh' failed with exit status 1");
	assert_int_equal(run_text("kill -9 $$", &out, 100, &err), ERR_CHILD);
	assert_string_equal(err.text, "'sh' was killed by signal 9");
	/* Much on both streams at once must not block either side. */
	buf_reset(&out);
	assert_int_equal(
		run_text(
			"i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789; "
			"echo 0123456789012345678901234567890123456789 >&2; i=$((i+1)); done; echo end >&2; exit 1",
			&out, 1000000, &err),
		ERR_CHILD);
	assert_string_equal(err.text, "'sh' failed with exit status 1: end");
}

static int call_fn(void *arg, struct buf *result, struct err *err)
{
	const char *what = arg;

	if (strcmp(what, "fail") == 0) {
		err_set(err, ERR_KEY, "wrong passphrase");
		return err_object(err, "slot 3");
	}
	if (strcmp(what, "die") == 0)
		raise(SIGKILL);
	if (strcmp(what, "exit") == 0)
		_exit(0);
	if (strcmp(what, "big") == 0) {
		buf_put_zero(result, 300000);
		return 0;
	}
	buf_printf(result, "%s in %s", what, getpid() == getpgrp() ? "?" : "child");
	return 0;
}

static void test_call(void **state)
{
	static char work[] = "work", failing[] = "fail", die[] = "die", leave[] = "exit",
		    big[] = "big";
	cleanup_buf struct buf result = BUF_INIT;
	struct err err = ERR_INIT;
	sigset_t before, after;

	(void)state;
	sigprocmask(SIG_SETMASK, NULL, &before);
	buf_put(&result, "> ", 2);
	assert_int_equal(proc_call(call_fn, work, &result, &err), 0);
	assert_string_equal(buf_str(&result), "> work in child");
	assert_int_equal(proc_call(call_fn, failing, &result, &err), ERR_KEY);
	assert_int_equal(err.code, ERR_KEY);
	assert_string_equal(err.text, "wrong passphrase");
	assert_string_equal(err.object, "slot 3");
	assert_int_equal(proc_call(call_fn, die, &result, &err), ERR_CHILD);
	assert_string_equal(err.text,
			    "killed by signal 9: a helper process ended without an answer");
	assert_int_equal(proc_call(call_fn, leave, &result, &err), ERR_CHILD);
	assert_string_equal(buf_str(&result), "> work in child");
	buf_reset(&result);
	assert_int_equal(proc_call(call_fn, big, &result, &err), 0);
	assert_int_equal(result.len, 300000);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	sigprocmask(SIG_SETMASK, NULL, &after);
	assert_int_equal(sigismember(&after, SIGTERM), sigismember(&before, SIGTERM));
}

static void test_start_ticks(void **state)
{
	const char *const argv[] = { "sleep", "100", NULL };
	struct proc_spec spec = { .argv = argv, .in_fd = -1, .out_fd = -1, .err_fd = -1 };
	uint64_t mine = proc_start_ticks(getpid());
	struct err err = ERR_INIT;
	int status;
	pid_t pid;

	(void)state;
	assert_true(mine > 0);
	assert_int_equal(proc_start(&spec, &pid, &err), 0);
	assert_true(proc_start_ticks(pid) >= mine);
	kill(pid, SIGKILL);
	assert_int_equal(proc_wait(pid, &status, &err), 0);
	assert_true(WIFSIGNALED(status));
	assert_true(proc_start_ticks(pid) == 0);
	assert_int_equal(proc_wait(pid, &status, &err), ERR_CHILD);
}

/* In a process of its own, for there is no way back. */
static int hide(void *arg, struct buf *result, struct err *err)
{
	struct rlimit limit = { .rlim_cur = 1, .rlim_max = 1 };
	int before = prctl(PR_GET_DUMPABLE);

	(void)arg;
	(void)err;
	proc_hide_memory();
	getrlimit(RLIMIT_CORE, &limit);
	buf_printf(result, "%d %d %llu %llu", before, prctl(PR_GET_DUMPABLE),
		   (unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_max);
	return 0;
}

static void test_hide_memory(void **state)
{
	cleanup_buf struct buf said = BUF_INIT;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(proc_call(hide, NULL, &said, &err), 0);
	assert_string_equal(buf_str(&said), "1 0 0 0");
	assert_int_equal(prctl(PR_GET_DUMPABLE), 1);
}

static void *start_many(void *opaque)
{
	int i;

	for (i = 0; i < 15; i++) {
		cleanup_buf struct buf out = BUF_INIT;
		struct err err = ERR_INIT;

		if (run_text("echo $((6*7))", &out, 100, &err) < 0 ||
		    strcmp(buf_str(&out), "42\n") != 0)
			return NULL;
	}
	return opaque;
}

static void test_many_threads(void **state)
{
	pthread_t ids[6];
	void *result;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(ids); i++)
		assert_int_equal(pthread_create(&ids[i], NULL, start_many, ids), 0);
	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		pthread_join(ids[i], &result);
		assert_ptr_equal(result, ids);
	}
}

static void test_no_memory(void **state)
{
	struct err err = ERR_INIT;
	unsigned n;
	int r = -1;

	(void)state;
	for (n = 1; r < 0; n++) {
		cleanup_buf struct buf out = BUF_INIT;

		mem_fail_after(n);
		r = run_text("echo x", &out, 100, &err);
		mem_fail_after(0);
		assert_true(r == 0 || r == ERR_NOMEM);
	}
	assert_true(n > 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pass_fds),
		cmocka_unit_test(test_crossed_fds),
		cmocka_unit_test(test_listen_fds),
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_signals_and_session),
		cmocka_unit_test(test_die_with_parent),
		cmocka_unit_test(test_missing_program),
		cmocka_unit_test(test_run),
		cmocka_unit_test(test_call),
		cmocka_unit_test(test_start_ticks),
		cmocka_unit_test(test_hide_memory),
		cmocka_unit_test(test_many_threads),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
