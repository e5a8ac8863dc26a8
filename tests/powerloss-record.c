// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * A library to preload (LD_PRELOAD) that records what a program asks of the file system below one folder.
 *
 *	LIVEPOINT_RECORD_DIR=PATH	the folder (absolute, without symbolic links)
 *	LIVEPOINT_RECORD_TRACE=FILE	the record, appended to, outside of it (format: tests/powerloss.h)
 *	LIVEPOINT_RECORD_MARKS=FILE	what is written to this file (LIVEPOINT_FAULT_LOG) becomes marks in the trace
 *
 * Recorded after success and in the order of the calls, for all threads under one lock: creation, opening, writes with
 * their data, truncation, holes, fsync and fdatasync of files and folders, rename, link, unlink, mkdir, rmdir.  SQLite's shared
 * memory file (-shm) is left out: it is made anew after a crash.  What is not wrapped would show: powerloss-replay
 * compares the end of the trace with the folder as it is.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/powerloss.h"

#include "base/banned.h"

#define VISIBLE __attribute__((visibility("default")))
#define FDS_MAX 4096

static pthread_mutex_t record_lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static pthread_once_t record_once = PTHREAD_ONCE_INIT;
static char record_dir[PATH_MAX], marks_path[PATH_MAX];
static size_t record_dir_len;
static int trace_fd = -1;
static enum { FD_OTHER, FD_FILE, FD_MARKS } fd_kind[FDS_MAX]; /* under record_lock */

static void record_die(const char *what)
{
	dprintf(STDERR_FILENO, "powerloss-record: %s\n", what);
	abort();
}

static void record_start(void)
{
	const char *dir = getenv("LIVEPOINT_RECORD_DIR"), *trace = getenv("LIVEPOINT_RECORD_TRACE");
	const char *marks = getenv("LIVEPOINT_RECORD_MARKS");

	if (!dir || !trace)
		return;
	if (snprintf(record_dir, PATH_MAX, "%s", dir) >= PATH_MAX ||
	    snprintf(marks_path, PATH_MAX, "%s", marks ? marks : "") >= PATH_MAX)
		record_die("a path is too long");
	record_dir_len = strlen(record_dir);
	trace_fd = (int)syscall(SYS_openat, AT_FDCWD, trace,
				O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	/* out of the way of everything that counts descriptors */
	if (trace_fd >= 0)
		trace_fd = fcntl(trace_fd, F_DUPFD_CLOEXEC, 900);
	if (trace_fd < 0)
		record_die("cannot open the trace");
}

static void begin(void)
{
	pthread_once(&record_once, record_start);
	pthread_mutex_lock(&record_lock);
}

static void end(void)
{
	pthread_mutex_unlock(&record_lock);
}

/* Path below the folder ("" for itself), or NULL if it is elsewhere.  Fills full, PATH_MAX bytes. */
static const char *inside(int dirfd, const char *path, char *full)
{
	char link[64], at[PATH_MAX] = "";
	ssize_t n = 0;

	if (trace_fd < 0)
		return NULL;
	if (path[0] != '/') {
		if (dirfd == AT_FDCWD)
			n = getcwd(at, sizeof(at)) ? (ssize_t)strlen(at) : -1;
		else {
			snprintf(link, sizeof(link), "/proc/self/fd/%d", dirfd);
			n = readlink(link, at, sizeof(at) - 1);
		}
		if (n < 0)
			return NULL;
		at[n] = 0;
	}
	if (snprintf(full, PATH_MAX, "%s%s%s", at, *at ? "/" : "", path) >= PATH_MAX)
		record_die("a path is too long");
	if (strncmp(full, record_dir, record_dir_len) != 0)
		return NULL;
	if (full[record_dir_len] == 0)
		return full + record_dir_len;
	if (full[record_dir_len] != '/')
		return NULL;
	if (strlen(full) > 4 && strcmp(full + strlen(full) - 4, "-shm") == 0)
		return NULL;
	return full + record_dir_len + 1;
}

static void put_all(const void *p, size_t n)
{
	const char *at = p;

	while (n) {
		ssize_t put = syscall(SYS_write, trace_fd, at, n);

		if (put <= 0)
			record_die("cannot write the trace");
		at += put;
		n -= (size_t)put;
	}
}

static void put(enum pl_op op, int fd, uint64_t offset, const char *a, const char *b,
		const void *data, size_t n)
{
	struct pl_record r = { .op = (uint32_t)op,
			       .fd = fd,
			       .pid = (uint32_t)getpid(),
			       .offset = offset,
			       .len = n,
			       .alen = a ? (uint32_t)strlen(a) : 0,
			       .blen = b ? (uint32_t)strlen(b) : 0 };
	int eno = errno;

	put_all(&r, sizeof(r));
	put_all(a ? a : "", r.alen);
	put_all(b ? b : "", r.blen);
	if (data)
		put_all(data, n);
	errno = eno;
}

static bool watched(int fd)
{
	return fd >= 0 && fd < FDS_MAX && fd_kind[fd] == FD_FILE && trace_fd >= 0;
}

/* --- opening --- */

static int opened(int dirfd, const char *path, int flags, mode_t mode)
{
	char full[PATH_MAX];
	const char *rel;
	struct stat st;
	bool there;
	int fd;

	begin();
	rel = inside(dirfd, path, full);
	there = rel && fstatat(dirfd, path, &st, 0) == 0;
	fd = (int)syscall(SYS_openat, dirfd, path, flags, mode);
	if (fd >= FDS_MAX)
		record_die("too many descriptors");
	if (fd >= 0) {
		fd_kind[fd] = rel ? FD_FILE : FD_OTHER;
		if (trace_fd >= 0 && *marks_path && strcmp(path, marks_path) == 0)
			fd_kind[fd] = FD_MARKS;
	}
	if (fd >= 0 && rel) {
		if (!there)
			put(PL_CREATE, fd, 0, rel, NULL, NULL, 0);
		put(PL_OPEN, fd, 0, rel, NULL, NULL, 0);
		if (there && flags & O_TRUNC)
			put(PL_TRUNCATE, fd, 0, NULL, NULL, NULL, 0);
	}
	end();
	return fd;
}

#define OPEN_MODE                                                                                  \
	mode_t mode = 0;                                                                           \
	if (flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) {                                      \
		va_list ap;                                                                        \
		va_start(ap, flags);                                                               \
		mode = va_arg(ap, mode_t);                                                         \
		va_end(ap);                                                                        \
	}

VISIBLE int open(const char *path, int flags, ...)
{
	OPEN_MODE
	return opened(AT_FDCWD, path, flags, mode);
}
VISIBLE int open64(const char *path, int flags, ...)
{
	OPEN_MODE
	return opened(AT_FDCWD, path, flags | O_LARGEFILE, mode);
}
VISIBLE int openat(int dirfd, const char *path, int flags, ...)
{
	OPEN_MODE
	return opened(dirfd, path, flags, mode);
}
VISIBLE int openat64(int dirfd, const char *path, int flags, ...)
{
	OPEN_MODE
	return opened(dirfd, path, flags | O_LARGEFILE, mode);
}
VISIBLE int creat(const char *path, mode_t mode)
{
	return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
/* What _FORTIFY_SOURCE makes of open() without a mode. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dirfd, const char *path, int flags);
int __openat64_2(int dirfd, const char *path, int flags);
VISIBLE int __open_2(const char *path, int flags)
{
	return opened(AT_FDCWD, path, flags, 0);
}
VISIBLE int __open64_2(const char *path, int flags)
{
	return opened(AT_FDCWD, path, flags | O_LARGEFILE, 0);
}
VISIBLE int __openat_2(int dirfd, const char *path, int flags)
{
	return opened(dirfd, path, flags, 0);
}
VISIBLE int __openat64_2(int dirfd, const char *path, int flags)
{
	return opened(dirfd, path, flags | O_LARGEFILE, 0);
}

VISIBLE int close(int fd)
{
	int r;

	begin();
	if (watched(fd))
		put(PL_CLOSE, fd, 0, NULL, NULL, NULL, 0);
	if (fd >= 0 && fd < FDS_MAX)
		fd_kind[fd] = FD_OTHER;
	r = (int)syscall(SYS_close, fd);
	end();
	return r;
}

/* --- data --- */

static ssize_t written(int fd, const void *p, size_t n, off64_t offset)
{
	ssize_t r;

	begin();
	r = (ssize_t)syscall(SYS_pwrite64, fd, p, n, offset);
	if (r > 0 && watched(fd))
		put(PL_WRITE, fd, (uint64_t)offset, NULL, NULL, p, (size_t)r);
	end();
	return r;
}

VISIBLE ssize_t pwrite(int fd, const void *p, size_t n, off_t offset)
{
	return written(fd, p, n, offset);
}
VISIBLE ssize_t pwrite64(int fd, const void *p, size_t n, off64_t offset)
{
	return written(fd, p, n, offset);
}
VISIBLE ssize_t write(int fd, const void *p, size_t n)
{
	ssize_t r;

	begin();
	r = (ssize_t)syscall(SYS_write, fd, p, n);
	if (r > 0 && watched(fd))
		put(PL_WRITE, fd, (uint64_t)(lseek(fd, 0, SEEK_CUR) - r), NULL, NULL, p, (size_t)r);
	if (r > 0 && fd >= 0 && fd < FDS_MAX && fd_kind[fd] == FD_MARKS)
		put(PL_MARK, 0, 0, NULL, NULL, p, (size_t)r);
	end();
	return r;
}

static int truncated(int fd, off64_t size)
{
	int r;

	begin();
	r = (int)syscall(SYS_ftruncate, fd, size);
	if (r == 0 && watched(fd))
		put(PL_TRUNCATE, fd, (uint64_t)size, NULL, NULL, NULL, 0);
	end();
	return r;
}
VISIBLE int ftruncate(int fd, off_t size)
{
	return truncated(fd, size);
}
VISIBLE int ftruncate64(int fd, off64_t size)
{
	return truncated(fd, size);
}

/* A hole is a write of zeroes; nothing else is asked for by what is recorded. */
static int allocated(int fd, int mode, off64_t offset, off64_t n)
{
	struct stat st;
	void *zeroes;
	int r;

	begin();
	r = (int)syscall(SYS_fallocate, fd, mode, offset, n);
	if (r == 0 && watched(fd)) {
		if (mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) || fstat(fd, &st) < 0)
			record_die("a call of fallocate that is not known");
		n = offset + n > st.st_size ? st.st_size - offset : n;
		zeroes = n > 0 ? calloc(1, (size_t)n) : NULL;
		if (n > 0 && !zeroes)
			record_die("out of memory");
		if (n > 0)
			put(PL_WRITE, fd, (uint64_t)offset, NULL, NULL, zeroes, (size_t)n);
		free(zeroes);
	}
	end();
	return r;
}
VISIBLE int fallocate(int fd, int mode, off_t offset, off_t n)
{
	return allocated(fd, mode, offset, n);
}
VISIBLE int fallocate64(int fd, int mode, off64_t offset, off64_t n)
{
	return allocated(fd, mode, offset, n);
}

static int synced(int fd, long call)
{
	int r;

	begin();
	r = (int)syscall(call, fd);
	if (r == 0 && watched(fd))
		put(PL_SYNC, fd, 0, NULL, NULL, NULL, 0);
	end();
	return r;
}
VISIBLE int fsync(int fd)
{
	return synced(fd, SYS_fsync);
}
VISIBLE int fdatasync(int fd)
{
	return synced(fd, SYS_fdatasync);
}

/* --- names --- */

/* op with one or two paths; result: of the call, made by the caller under the lock. */
static int named(int result, enum pl_op op, int dir1, const char *one, int dir2, const char *two)
{
	char full1[PATH_MAX], full2[PATH_MAX];
	const char *a = inside(dir1, one, full1), *b = two ? inside(dir2, two, full2) : NULL;

	if (result == 0 && a && two && !b)
		record_die("a name leaves the folder");
	if (result == 0 && a)
		put(op, -1, 0, a, b, NULL, 0);
	return result;
}

static int renamed(int dir1, const char *one, int dir2, const char *two, unsigned flags)
{
	int r;

	begin();
	r = named((int)syscall(SYS_renameat2, dir1, one, dir2, two, flags), PL_RENAME, dir1, one,
		  dir2, two);
	end();
	return r;
}
VISIBLE int rename(const char *one, const char *two)
{
	return renamed(AT_FDCWD, one, AT_FDCWD, two, 0);
}
VISIBLE int renameat(int dir1, const char *one, int dir2, const char *two)
{
	return renamed(dir1, one, dir2, two, 0);
}
VISIBLE int renameat2(int dir1, const char *one, int dir2, const char *two, unsigned flags)
{
	return renamed(dir1, one, dir2, two, flags);
}
VISIBLE int link(const char *one, const char *two)
{
	int r;

	begin();
	r = named((int)syscall(SYS_linkat, AT_FDCWD, one, AT_FDCWD, two, 0), PL_LINK, AT_FDCWD, one,
		  AT_FDCWD, two);
	end();
	return r;
}
VISIBLE int unlinkat(int dir, const char *path, int flags)
{
	int r;

	begin();
	r = named((int)syscall(SYS_unlinkat, dir, path, flags), PL_UNLINK, dir, path, -1, NULL);
	end();
	return r;
}
VISIBLE int unlink(const char *path)
{
	return unlinkat(AT_FDCWD, path, 0);
}
VISIBLE int rmdir(const char *path)
{
	return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}
VISIBLE int mkdirat(int dir, const char *path, mode_t mode)
{
	int r;

	begin();
	r = named((int)syscall(SYS_mkdirat, dir, path, mode), PL_MKDIR, dir, path, -1, NULL);
	end();
	return r;
}
VISIBLE int mkdir(const char *path, mode_t mode)
{
	return mkdirat(AT_FDCWD, path, mode);
}
