// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Runs a command and says what it cost: bench-measure OUT COMMAND [ARGUMENT...]
 *
 * OUT gets one JSON object: wall and cpu (user and system, children that it waited for included) in seconds, and
 * anon_peak, the most anonymous memory in bytes that the command itself was seen with (children of its own not
 * counted), looked up every 5 ms in /proc/PID/status.  The exit status is the command's.
 *
 *  1. CPU time is the kernel's account of just this child (wait4), so that other work on the machine does not count.
 *  2. A peak shorter than 5 ms may be missed; RssAnon, not VmHWM, because mapped files are the page cache's memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "base/file.h"
#include "base/json.h"
#include "base/proc.h"

#include "base/banned.h"

#define LOOK_MS 5u

static uint64_t anonymous_bytes(pid_t pid)
{
	char path[64], text[4096];
	cleanup_fd int fd = -1;
	const char *at;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	fd = file_open(path, O_RDONLY, 0, NULL);
	if (fd < 0)
		return 0;
	n = file_pread_some(fd, text, sizeof(text) - 1, 0, path, NULL);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	at = strstr(text, "RssAnon:");
	return at ? strtoull(at + strlen("RssAnon:"), NULL, 10) * KiB : 0;
}

static double seconds(const struct timeval *t)
{
	return (double)t->tv_sec + (double)t->tv_usec / 1e6;
}

static int report(const char *path, double wall, const struct rusage *use, uint64_t peak,
		  struct err *err)
{
	cleanup_ptr(jval) v = jval_object();
	cleanup_buf struct buf b = BUF_INIT;
	int r;

	jval_set(v, "wall", jval_real(wall));
	jval_set(v, "cpu", jval_real(seconds(&use->ru_utime) + seconds(&use->ru_stime)));
	jval_set(v, "user", jval_real(seconds(&use->ru_utime)));
	jval_set(v, "system", jval_real(seconds(&use->ru_stime)));
	jval_set(v, "anon_peak", jval_uint(peak));
	r = jval_print(v, false, &b, err);
	buf_put_u8(&b, '\n');
	return r < 0 ? r : file_write_all(path, b.data, b.len, 0644, true, NULL, err);
}

int main(int argc, char **argv)
{
	struct err err = ERR_INIT;
	struct rusage use = { 0 };
	uint64_t begun, peak = 0;
	pid_t pid, ended = 0;
	int status = 0, r;

	if (argc < 3) {
		fprintf(stderr, "usage: bench-measure OUT COMMAND [ARGUMENT...]\n");
		return 2;
	}
	begun = time_mono_ns();
	r = proc_start(&(struct proc_spec){ .argv = (const char *const *)argv + 2,
					    .in_fd = STDIN_FILENO,
					    .out_fd = STDOUT_FILENO,
					    .err_fd = STDERR_FILENO,
					    .die_with_parent = true },
		       &pid, &err);
	while (r == 0 && ended == 0) {
		peak = MAX(peak, anonymous_bytes(pid));
		time_sleep_ms(LOOK_MS);
		ended = wait4(pid, &status, WNOHANG, &use);
	}
	if (r == 0 && ended < 0)
		r = err_set_errno(&err, ERR_CHILD, errno, "waiting for %s", argv[2]);
	if (r == 0)
		r = report(argv[1], (double)(time_mono_ns() - begun) / 1e9, &use, peak, &err);
	if (r < 0) {
		fprintf(stderr, "bench-measure: %s\n", err.text);
		return 1;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
