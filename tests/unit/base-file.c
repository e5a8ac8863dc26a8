// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * File operations: what each does, what each says when it fails, and each fault action at each step.
 * The environment of fault points is read once a process, so each such case runs in a child of its own.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/file.h"

#include "base/banned.h"

static char old_folder[4096], folder[] = "base-file-XXXXXX";

static int setup(void **state)
{
	(void)state;
	if (!getcwd(old_folder, sizeof(old_folder)) || !mkdtemp(folder))
		return -1;
	return chdir(folder);
}

static int teardown(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	if (chdir(old_folder) < 0)
		return -1;
	return dir_remove_flat(folder, NULL, &err) == 1 ? 0 : -1;
}

/* The folder's files, "a b c " in no order: their number. */
static int count_entry(void *opaque, const char *name, struct err *err)
{
	(void)err;
	assert_string_not_equal(name, ".");
	assert_string_not_equal(name, "..");
	return ++*(int *)opaque == 1000;
}

/* Not by dir_each: the parent of a fault's child must not meet a fault point.  name (256 bytes, may be NULL): the last that begins
 * with "f.tmp-". */
static int entries_named(const char *path, char *name)
{
	DIR *d = opendir(path);
	int n = -2; /* . and .. */

	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d)); n++)
		if (name && str_starts(e->d_name, "f.tmp-"))
			str_copy(name, 256, e->d_name);
	closedir(d);
	return n;
}

static int entries(const char *path)
{
	return entries_named(path, NULL);
}

static void assert_content(const char *path, const char *text)
{
	cleanup_buf struct buf b = BUF_INIT;
	struct err err = ERR_INIT;

	assert_int_equal(file_read_all(path, 1000, &b, &err), 0);
	assert_string_equal(buf_str(&b), text);
}

static void test_open_create(void **state)
{
	struct err err = ERR_INIT;
	struct stat st;
	int fd;

	(void)state;
	assert_int_equal(file_open("absent", O_RDONLY, 0, &err), ERR_NOT_FOUND);
	assert_string_equal(err.text, "cannot open 'absent': No such file or directory");
	assert_string_equal(err.object, "absent");
	fd = file_create("new", NULL, &err);
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	close(fd);
	assert_int_equal(file_create("new", NULL, &err), ERR_EXISTS);
	assert_string_equal(err.text, "cannot create 'new': File exists");
	assert_int_equal(file_unlink("new", NULL, &err), 1);
	assert_int_equal(file_unlink("new", NULL, &err), 0);
	assert_int_equal(file_unlink(".", NULL, &err), ERR_IO);
}

static void test_read_write(void **state)
{
	cleanup_fd int fd = -1;
	struct err err = ERR_INIT;
	uint64_t size = 0;
	char p[8] = "";

	(void)state;
	fd = file_create("rw", NULL, &err);
	assert_int_equal(file_pwrite(fd, "0123456789", 10, 5, "rw", NULL, &err), 0);
	assert_int_equal(file_size(fd, &size, "rw", &err), 0);
	assert_int_equal(size, 15);
	assert_int_equal(file_pread(fd, p, 4, 8, "rw", &err), 0);
	assert_string_equal(p, "3456");
	assert_int_equal(file_pread(fd, p, 8, 10, "rw", &err), ERR_DAMAGED);
	assert_string_equal(err.text, "'rw' ends at offset 15, 8 bytes expected at offset 10");
	assert_int_equal(file_pread(fd, p, 8, 99, "rw", &err), ERR_DAMAGED);
	assert_string_equal(err.text, "'rw' ends at or before offset 99, 8 bytes expected there");
	assert_int_equal(file_pread_some(fd, p, 8, 10, "rw", &err), 5);
	assert_int_equal(file_pread_some(fd, p, 8, 15, "rw", &err), 0);
	assert_int_equal(file_pread(fd, p, 8, UINT64_MAX - 2, "rw", &err), ERR_TOO_BIG);
	assert_int_equal(file_pwrite(fd, p, 8, (uint64_t)INT64_MAX, "rw", NULL, &err), ERR_TOO_BIG);
	assert_int_equal(file_datasync(fd, "rw", NULL, &err), 0);
	close(steal_fd(&fd));
	fd = file_open("rw", O_RDONLY, 0, &err);
	assert_int_equal(file_pwrite(fd, p, 1, 7, "rw", NULL, &err), ERR_IO);
	assert_string_equal(err.text, "cannot write 'rw' at offset 7: Bad file descriptor");
	assert_int_equal(file_unlink("rw", NULL, &err), 1);
}

static void test_stream(void **state)
{
	struct err err = ERR_INIT;
	int ends[2];
	uint64_t size;
	char p[8];

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(file_size(ends[0], &size, "pipe", &err), ERR_INVALID);
	assert_int_equal(file_write(ends[1], "abc", 3, "pipe", &err), 0);
	close(ends[1]);
	assert_int_equal(file_read_some(ends[0], p, 8, "pipe", &err), 3);
	assert_int_equal(file_read_some(ends[0], p, 8, "pipe", &err), 0);
	close(ends[0]);
	assert_int_equal(file_read_some(ends[0], p, 8, "pipe", &err), ERR_IO);
	assert_string_equal(err.text, "cannot read 'pipe': Bad file descriptor");
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	close(ends[0]);
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(file_write(ends[1], "abc", 3, "pipe", &err), ERR_IO);
	close(ends[1]);
}

/* A reader that comes late empties a pipe that is full and was made non-blocking. */
static void test_stream_nonblocking(void **state)
{
	static char data[1 << 20];
	struct err err = ERR_INIT;
	char piece[4096];
	int ends[2], status;
	pid_t pid;

	(void)state;
	memset(data, 'x', sizeof(data));
	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		size_t sum = 0;
		ssize_t got;

		close(ends[1]);
		time_sleep_ms(20);
		while ((got = file_read_some(ends[0], piece, sizeof(piece), "pipe", NULL)) > 0)
			sum += (size_t)got;
		_exit(got == 0 && sum == sizeof(data) ? 0 : 1);
	}
	close(ends[0]);
	assert_int_equal(file_write(ends[1], data, sizeof(data), "pipe", &err), 0);
	close(ends[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_rename(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(file_write_all("a", "A", 1, 0644, true, NULL, &err), 0);
	assert_int_equal(file_write_all("b", "B", 1, 0644, true, NULL, &err), 0);
	assert_int_equal(file_rename_new("a", "b", NULL, &err), ERR_EXISTS);
	assert_content("a", "A");
	assert_content("b", "B");
	assert_int_equal(file_rename_over("a", "b", NULL, &err), 0);
	assert_content("b", "A");
	assert_int_equal(file_rename_new("b", "c", NULL, &err), 0);
	assert_content("c", "A");
	assert_int_equal(file_rename_over("absent", "c", NULL, &err), ERR_NOT_FOUND);
	assert_string_equal(err.text, "cannot rename 'absent' to 'c': No such file or directory");
	assert_int_equal(file_rename_new("absent", "d", NULL, &err), ERR_NOT_FOUND);
	assert_int_equal(file_unlink("c", NULL, &err), 1);
	assert_int_equal(entries("."), 0);
}

static void test_folders(void **state)
{
	struct err err = ERR_INIT;
	char name[32];
	int i;

	(void)state;
	assert_int_equal(dir_make("dir", 0700, NULL, &err), 1);
	assert_int_equal(dir_make("dir", 0700, NULL, &err), 0);
	assert_int_equal(dir_make("no/dir", 0700, NULL, &err), ERR_NOT_FOUND);
	for (i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "dir/file-%d", i);
		close(file_create(name, NULL, &err));
	}
	assert_int_equal(entries("dir"), 300);
	assert_int_equal(dir_make("dir/file-0", 0700, NULL, &err), ERR_EXISTS);
	assert_int_equal(dir_sync("dir", NULL, &err), 0);
	assert_int_equal(dir_sync("absent", NULL, &err), ERR_NOT_FOUND);
	assert_int_equal(dir_remove_flat("dir", NULL, &err), 1);
	assert_int_equal(dir_remove_flat("dir", NULL, &err), 0);
	assert_int_equal(dir_each("dir", count_entry, &i, &err), ERR_NOT_FOUND);
	assert_int_equal(dir_make("dir", 0700, NULL, &err), 1);
	assert_int_equal(dir_make("dir/sub", 0700, NULL, &err), 1);
	assert_true(dir_remove_flat("dir", NULL, &err) < 0);
	assert_non_null(strstr(err.text, "cannot remove 'dir/sub'"));
	assert_int_equal(dir_remove_flat("dir/sub", NULL, &err), 1);
	i = 999;
	close(file_create("dir/x", NULL, &err));
	assert_int_equal(dir_each("dir", count_entry, &i, &err), 1);
	assert_int_equal(dir_remove_flat("dir", NULL, &err), 1);
}

/* Writes into dir like a session that does not know yet that it is over: until told, or for so many files. */
struct writer {
	pthread_t thread;
	atomic_bool begun, stop;
	unsigned files;
};

static void *keep_writing(void *opaque)
{
	struct writer *w = opaque;
	unsigned i;

	for (i = 0; i < w->files && !atomic_load(&w->stop); i++) {
		char path[32];
		int fd;

		snprintf(path, sizeof(path), "busy/%u", i);
		fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
		if (fd >= 0)
			close(fd);
		atomic_store(&w->begun, true);
		if (w->files < 1000)
			time_sleep_ms(1);
	}
	return NULL;
}

static void test_remove_while_written(void **state)
{
	struct writer some = { .files = 30 }, endless = { .files = UINT_MAX };
	struct err err = ERR_INIT;
	int r;

	(void)state;
	assert_int_equal(dir_make("busy", 0700, NULL, &err), 1);
	assert_int_equal(pthread_create(&some.thread, NULL, keep_writing, &some), 0);
	while (!atomic_load(&some.begun))
		;
	assert_int_equal(dir_remove_flat("busy", NULL, &err), 1);
	pthread_join(some.thread, NULL);
	assert_int_equal(access("busy", F_OK), -1);

	assert_int_equal(dir_make("busy", 0700, NULL, &err), 1);
	assert_int_equal(pthread_create(&endless.thread, NULL, keep_writing, &endless), 0);
	while (!atomic_load(&endless.begun))
		;
	r = dir_remove_flat("busy", NULL, &err);
	atomic_store(&endless.stop, true);
	pthread_join(endless.thread, NULL);
	/* it is a race: once in a while a removal comes between two files */
	if (r < 0) {
		assert_int_equal(r, ERR_LOCKED);
		assert_non_null(strstr(err.text, "'busy': somebody still writes"));
	}
	assert_true(dir_remove_flat("busy", NULL, &err) >= 0);
}

static void test_whole_files(void **state)
{
	cleanup_buf struct buf b = BUF_INIT;
	struct err err = ERR_INIT;
	struct stat st;
	mode_t mask = umask(022);

	(void)state;
	assert_int_equal(file_write_all("w", "one", 3, 0640, false, NULL, &err), 0);
	umask(mask);
	assert_int_equal(stat("w", &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_int_equal(file_write_all("w", "two", 3, 0600, false, NULL, &err), ERR_EXISTS);
	assert_content("w", "one");
	assert_int_equal(file_write_all("./w", "three", 5, 0600, true, NULL, &err), 0);
	assert_content("w", "three");
	assert_int_equal(entries("."), 1);
	assert_int_equal(file_write_all("absent/w", "x", 1, 0600, true, NULL, &err), ERR_NOT_FOUND);
	assert_int_equal(file_read_all("w", 5, &b, &err), 0);
	assert_int_equal(b.len, 5);
	assert_int_equal(file_read_all("w", 4, &b, &err), ERR_TOO_BIG);
	assert_string_equal(err.text, "'w' is longer than 4 bytes");
	assert_int_equal(b.len, 0);
	assert_int_equal(file_read_all(".", 5, &b, &err), ERR_IO);
	assert_int_equal(file_write_all("w", NULL, 0, 0600, true, NULL, &err), 0);
	assert_content("w", "");
	assert_int_equal(file_unlink("w", NULL, &err), 1);
}

static void test_whole_files_no_memory(void **state)
{
	struct err err = ERR_INIT;
	unsigned n;
	int r = -1;

	(void)state;
	for (n = 1; r < 0; n++) {
		cleanup_buf struct buf b = BUF_INIT;

		mem_fail_after(n);
		r = file_write_all("m", "text", 4, 0600, true, NULL, &err);
		if (r == 0)
			r = file_read_all("m", 100, &b, &err);
		mem_fail_after(0);
		assert_true(r == 0 || r == ERR_NOMEM);
	}
	assert_int_equal(n, 5);
	assert_int_equal(entries("."), 1);
	assert_int_equal(file_unlink("m", NULL, &err), 1);
}

static void test_lock(void **state)
{
	struct err err = ERR_INIT;
	int a = file_create("lock", NULL, &err), b = file_open("lock", O_RDWR, 0, &err);

	(void)state;
	assert_int_equal(file_trylock(a, "lock", &err), 1);
	assert_int_equal(file_trylock(a, "lock", &err), 1);
	assert_int_equal(file_trylock(b, "lock", &err), 0);
	close(a);
	assert_int_equal(file_trylock(b, "lock", &err), 1);
	close(b);
	assert_int_equal(file_trylock(b, "lock", &err), ERR_IO);
	assert_int_equal(file_unlink("lock", NULL, &err), 1);
	assert_false(path_is_readonly_fs("."));
	assert_false(path_is_readonly_fs("absent"));
}

/* --- fault points, each case in a child --- */

/* Runs body in a child with the environment given; returns its wait status. */
static int in_child(const char *fault, const char *log, int (*body)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		setenv("LIVEPOINT_FAULT", fault, 1);
		if (log)
			setenv("LIVEPOINT_FAULT_LOG", log, 1);
		_exit(body());
	}
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	if (WIFSTOPPED(status)) {
		kill(pid, SIGCONT);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
		return -1; /* it stopped, went on and came to its end */
	}
	return status;
}

#ifdef ENABLE_FAULT_POINTS

/* The error code goes out as the exit status: -1000 + status. */
static int body_write_all(void)
{
	struct err err = ERR_INIT;
	int r = file_write_all("f", "new!", 4, 0600, true, "test.file", &err);

	return r == 0 ? 0 : r - ERR_FIRST_;
}

static void assert_code(int status, int code)
{
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status) ? WEXITSTATUS(status) + ERR_FIRST_ : 0, code);
}

/* After each failed step the old content stands and no temporary file is left, except that the
 * content is new once it was renamed. */
static void test_fault_each_step(void **state)
{
	static const char *const steps[] = { "create", "write", "sync", "rename", "dirsync" };
	static const struct {
		const char *action;
		int code;
	} actions[] = { { "eio", ERR_IO },
			{ "enospc", ERR_NOSPC },
			{ "erofs", ERR_READONLY },
			{ "eperm", ERR_PERM },
			{ "short", ERR_NOSPC } };
	struct err err = ERR_INIT;
	char fault[64];
	size_t i, k;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		for (k = 0; k < ARRAY_SIZE(actions); k++) {
			assert_int_equal(file_write_all("f", "old", 3, 0600, true, NULL, &err), 0);
			snprintf(fault, sizeof(fault), "test.file.%s:1:%s", steps[i],
				 actions[k].action);
			assert_code(in_child(fault, NULL, body_write_all), actions[k].code);
			assert_content("f", strcmp(steps[i], "dirsync") == 0 ? "new!" : "old");
			assert_int_equal(entries("."), 1);
		}
	}
	assert_int_equal(file_unlink("f", NULL, &err), 1);
}

/* kill leaves the old content or the new one, and the temporary file until the rename. */
static void test_fault_kill_stop(void **state)
{
	static const char *const steps[] = { "create", "write", "sync", "rename", "dirsync" };
	static const int left[] = { 1, 2, 2, 2, 1 };
	struct err err = ERR_INIT;
	char fault[64], name[256];
	size_t i;
	int status;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		assert_int_equal(file_write_all("f", "old", 3, 0600, true, NULL, &err), 0);
		snprintf(fault, sizeof(fault), "test.file.%s:1:kill", steps[i]);
		status = in_child(fault, NULL, body_write_all);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		assert_content("f", i == 4 ? "new!" : "old");
		assert_int_equal(entries("."), left[i]);
		name[0] = 0;
		assert_true(entries_named(".", name) > 0);
		assert_int_equal(name[0] != 0, left[i] == 2);
		if (name[0])
			assert_int_equal(file_unlink(name, NULL, &err), 1);
	}
	assert_int_equal(in_child("test.file.sync:1:stop", NULL, body_write_all), -1);
	assert_content("f", "new!");
	assert_int_equal(file_unlink("f", NULL, &err), 1);
}

static int body_list(void)
{
	struct err err = ERR_INIT;
	int n = 0, r = dir_each("listed", count_entry, &n, &err);

	if (!strstr(err.text, "cannot list 'listed'") || n > 1)
		return 250;
	return r - ERR_FIRST_;
}

/* A listing that fails is an error, with whatever number of entries, and what it had called for was at most the first. */
static void test_fault_list(void **state)
{
	struct err err = ERR_INIT;
	char name[32];

	(void)state;
	assert_int_equal(dir_make("listed", 0700, NULL, &err), 1);
	for (unsigned i = 0; i < 4; i++) {
		assert_code(in_child("base.folder.list:1:eio", NULL, body_list), ERR_IO);
		snprintf(name, sizeof(name), "listed/%u", i);
		close(file_create(name, NULL, &err));
	}
	assert_int_equal(dir_remove_flat("listed", NULL, &err), 1);
}

static int body_short(void)
{
	struct err err = ERR_INIT;
	int fd = file_create("s", NULL, &err);
	int r = file_pwrite(fd, "01234567", 8, 0, "s", "test.short.write", &err);

	if (strcmp(err.text, "cannot write 's' at offset 4: No space left on device") != 0)
		return 250;
	return r - ERR_FIRST_;
}

static void test_fault_short(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	assert_code(in_child("test.short.write:1:short", NULL, body_short), ERR_NOSPC);
	assert_content("s", "0123");
	assert_int_equal(file_unlink("s", NULL, &err), 1);
}

/* A bit for each of 8 hits of two names in turn that failed. */
static int body_count(void)
{
	int i, failed = 0;

	for (i = 0; i < 8; i++)
		if (fault_hit(i % 2 ? "test.odd.hit" : "test.even.hit"))
			failed |= 1 << i;
	return failed;
}

static void test_fault_counts(void **state)
{
	static const struct {
		const char *fault;
		int failed;
	} cases[] = { { "", 0 },
		      { "test.odd.hit:1:eio", 0x02 },
		      { "test.odd.hit:2:eio", 0x08 },
		      { "test.even.hit:3+:eio", 0x50 },
		      { "*:4:eio", 0x08 },
		      { "*:5+:eio", 0xf0 },
		      { "test.odd.hit:1:eio,test.even.hit:1:enospc", 0x03 },
		      { "test.other.hit:1+:eio", 0 },
		      { "*:2:eio,test.odd.hit:2:eio", 0x0a },
		      { "test.odd.hit:9:eio", 0 } };
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(in_child(cases[i].fault, NULL, body_count), cases[i].failed << 8);
}

static int body_bad(void)
{
	close(STDERR_FILENO);
	return fault_hit("test.odd.hit") ? 1 : 0;
}

/* What cannot be read ends the process: it must not run as if there were no fault. */
static void test_fault_bad(void **state)
{
	static const char *const bad[] = { "x",	     "x:1",    "x:0:eio",  "x:1:bang",
					   "x::eio", ":1:eio", "x:1:eio,", "x:-1:eio" };
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		int status = in_child(bad[i], NULL, body_bad);

		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
			fail_msg("'%s' was taken", bad[i]);
	}
}

static void test_fault_log(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(in_child("", "log", body_write_all), 0);
	assert_content(
		"log",
		"test.file.create\ntest.file.write\ntest.file.sync\ntest.file.rename\ntest.file.dirsync\n");
	assert_int_equal(file_unlink("log", NULL, &err), 1);
	assert_int_equal(file_unlink("f", NULL, &err), 1);
}

/* A bit for each number that is as it should be. */
static int body_numbers(void)
{
	if (setenv("LIVEPOINT_FAULT_NUMBER", "test.pack.close:65536,test.index.merge:4", 1) < 0)
		return 0;
	return (fault_number("test.pack.close", 7) == 65536) |
	       (fault_number("test.index.merge", 16) == 4) << 1 |
	       (fault_number("test.other", UINT64_MAX) == UINT64_MAX) << 2 |
	       (fault_hit("test.pack.close") == 0) << 3;
}

/* None of these may be taken: the process ends. */
static const char *bad_number;
static int body_bad_number(void)
{
	close(STDERR_FILENO);
	if (setenv("LIVEPOINT_FAULT_NUMBER", bad_number, 1) < 0)
		return 1;
	return fault_number("x", 1) == 1;
}

static void test_fault_numbers(void **state)
{
	static const char *const bad[] = {
		"x", "x:", "x:0", "x:-1", "x:1y", "x:1,", ",x:1", "x:1:2"
	};

	(void)state;
	assert_int_equal(in_child("", NULL, body_numbers), 15 << 8);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		int status;

		bad_number = bad[i];
		status = in_child("", NULL, body_bad_number);
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
			fail_msg("'%s' was taken", bad[i]);
	}
}

static int body_plants(void)
{
	if (setenv("LIVEPOINT_PLANT", "test.one,test.two", 1) < 0)
		return 0;
	return fault_planted("test.one") | fault_planted("test.two") << 1 |
	       !fault_planted("test") << 2 | (fault_hit("test.one") == 0) << 3;
}

static int body_bad_plant(void)
{
	close(STDERR_FILENO);
	if (setenv("LIVEPOINT_PLANT", "one,,two", 1) < 0)
		return 1;
	return fault_planted("one");
}

static int body_no_plant(void)
{
	return fault_planted("test.one") ? 1 : 15;
}

static void test_fault_plants(void **state)
{
	int status;

	(void)state;
	assert_int_equal(in_child("", NULL, body_plants), 15 << 8);
	assert_int_equal(in_child("", NULL, body_no_plant), 15 << 8);
	status = in_child("", NULL, body_bad_plant);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

/* What comes from the kernel with these numbers is said as with any other. */
static int body_quota(void)
{
	struct err err = ERR_INIT;
	int fd = file_create("q", NULL, &err);

	if (file_pwrite(fd, "x", 1, 0, "q", "test.q.write", &err) != ERR_NOSPC)
		return 1;
	if (file_datasync(fd, "q", "test.q.sync", &err) != ERR_IO)
		return 2;
	return file_unlink("q", NULL, &err) == 1 ? 0 : 3;
}

static void test_fault_quota(void **state)
{
	(void)state;
	assert_int_equal(in_child("test.q.write:1:edquot,test.q.sync:1:eintr", NULL, body_quota),
			 0);
}

static int body_others(void)
{
	struct err err = ERR_INIT;
	int fd = file_create("o", NULL, &err);

	if (dir_make("d", 0700, "test.o.mkdir", &err) != ERR_IO || access("d", F_OK) == 0)
		return 1;
	if (dir_make("d", 0700, NULL, &err) != 1 ||
	    dir_remove_flat("d", "test.o.rmdir", &err) != ERR_NOSPC)
		return 2;
	if (dir_remove_flat("d", NULL, &err) != 1)
		return 3;
	if (file_unlink("o", "test.o.unlink", &err) != ERR_READONLY || access("o", F_OK) != 0)
		return 4;
	if (file_rename_new("o", "p", "test.o.rename", &err) != ERR_IO || access("o", F_OK) != 0)
		return 5;
	if (file_datasync(fd, "o", "test.o.sync", &err) != ERR_IO)
		return 6;
	if (file_datasync(fd, "o", "test.o.sync", &err) != 0) /* the second hit */
		return 7;
	return file_unlink("o", NULL, &err) == 1 ? 0 : 8;
}

static void test_fault_others(void **state)
{
	(void)state;
	assert_int_equal(
		in_child("test.o.mkdir:1:eio,test.o.rmdir:1:enospc,test.o.unlink:1:erofs,test.o.rename:1:eio,"
			 "test.o.sync:1:eio",
			 NULL, body_others),
		0);
}

#else

static int body_off(void)
{
	return fault_hit("test.odd.hit");
}

static void test_fault_off(void **state)
{
	(void)state;
	assert_int_equal(in_child("*:1+:kill", NULL, body_off), 0);
}

#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
#ifdef ENABLE_FAULT_POINTS
		cmocka_unit_test(test_fault_each_step),
		cmocka_unit_test(test_fault_kill_stop),
		cmocka_unit_test(test_fault_list),
		cmocka_unit_test(test_fault_short),
		cmocka_unit_test(test_fault_counts),
		cmocka_unit_test(test_fault_bad),
		cmocka_unit_test(test_fault_log),
		cmocka_unit_test(test_fault_numbers),
		cmocka_unit_test(test_fault_plants),
		cmocka_unit_test(test_fault_quota),
		cmocka_unit_test(test_fault_others),
#else
		cmocka_unit_test(test_fault_off),
#endif
		cmocka_unit_test(test_open_create),
		cmocka_unit_test(test_read_write),
		cmocka_unit_test(test_stream),
		cmocka_unit_test(test_stream_nonblocking),
		cmocka_unit_test(test_rename),
		cmocka_unit_test(test_folders),
		cmocka_unit_test(test_remove_while_written),
		cmocka_unit_test(test_whole_files),
		cmocka_unit_test(test_whole_files_no_memory),
		cmocka_unit_test(test_lock),
	};

	/* The parent must not read the environment of fault points before its children do: those tests come first. */
	unsetenv("LIVEPOINT_FAULT");
	unsetenv("LIVEPOINT_FAULT_LOG");
	unsetenv("LIVEPOINT_FAULT_NUMBER");
	unsetenv("LIVEPOINT_PLANT");
	return cmocka_run_group_tests(tests, setup, teardown);
}
