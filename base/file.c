// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Durable file operations: the only caller of fsync, fdatasync, rename and unlink; see base/file.h.
 *
 * How it works: each step asks its fault point first and then does one system call, continued after
 * EINTR and partial transfers, never after a failure.
 *
 * Invariants (beside those of the header):
 *  3. A sync is called once; its failure is reported, never retried.
 *  4. file_write_all() leaves the old content or the new one under the path, nothing between.
 */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/fault.h"

#include "base/banned.h"

#define REMOVE_PASSES 100 /* over one folder, before a rest */
#define REMOVE_TRIES 11
#define REMOVE_WAIT_MS 20
#define FILE_READ_PIECE ((size_t)64 * 1024)

static void cleanup_dir_fn(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}
#define cleanup_dir __attribute__((cleanup(cleanup_dir_fn)))

/* 0 or the errno value to fail with; a short write is asked for by file_pwrite() itself. */
static int step_fault(const char *point)
{
	int fault = point ? fault_hit(point) : 0;

	if (fault == FAULT_SKIP)
		return EINVAL; /* not a step that can be left out */
	return fault == FAULT_SHORT ? ENOSPC : fault;
}

/* The same for a sync; *skip: it is to be left out. */
static int sync_fault(const char *point, bool *skip)
{
	int fault = point ? fault_hit(point) : 0;

	*skip = fault == FAULT_SKIP;
	return fault == FAULT_SHORT ? ENOSPC : *skip ? 0 : fault;
}

static int note_no_file(struct err *err, int code)
{
	if (err)
		err->no_file = code == ERR_NOT_FOUND;
	return code;
}

/* "cannot VERB 'PATH': reason" */
static int fail_errno(struct err *err, int eno, const char *verb, const char *path)
{
	int r = err_set_errno(err, eno == ENOENT ? ERR_NOT_FOUND : ERR_IO, eno, "cannot %s '%s'",
			      verb, path);

	err_object(err, "%s", path);
	return note_no_file(err, r);
}

static int fail_errno_at(struct err *err, int eno, const char *verb, const char *path,
			 uint64_t offset)
{
	int r = err_set_errno(err, ERR_IO, eno, "cannot %s '%s' at offset %llu", verb, path,
			      (unsigned long long)offset);

	err_object(err, "%s", path);
	return r;
}

static int open_continued(const char *path, int flags, mode_t mode)
{
	int fd;

	do
		fd = open(path, flags | O_CLOEXEC, mode);
	while (fd < 0 && errno == EINTR);
	return fd;
}

int file_open(const char *path, int flags, mode_t mode, struct err *err)
{
	int fd = open_continued(path, flags, mode);

	return fd < 0 ? fail_errno(err, errno, flags & O_CREAT ? "create" : "open", path) : fd;
}

static int create_mode(const char *path, mode_t mode, const char *point, struct err *err)
{
	int fault = step_fault(point);

	if (fault)
		return fail_errno(err, fault, "create", path);
	return file_open(path, O_RDWR | O_CREAT | O_EXCL, mode, err);
}

int file_create(const char *path, const char *point, struct err *err)
{
	return create_mode(path, 0600, point, err);
}

/* off_t is signed: what lies beyond it cannot be asked of the kernel. */
static int check_range(uint64_t offset, size_t n, const char *path, struct err *err)
{
	uint64_t end;

	if (!add_overflow(offset, (uint64_t)n, &end) && end <= INT64_MAX)
		return 0;
	err_set(err, ERR_TOO_BIG, "'%s': %zu bytes at offset %llu are beyond what a file can hold",
		path, n, (unsigned long long)offset);
	err_object(err, "%s", path);
	return ERR_TOO_BIG;
}

ssize_t file_pread_some(int fd, void *p, size_t n, uint64_t offset, const char *path,
			struct err *err)
{
	size_t done = 0;
	int r = check_range(offset, n, path, err);

	if (r < 0)
		return r;
	while (done < n) {
		ssize_t got = pread(fd, (char *)p + done, n - done, (off_t)(offset + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return fail_errno_at(err, errno, "read", path, offset + done);
		if (!got)
			break;
		done += (size_t)got;
	}
	return (ssize_t)done;
}

int file_pread(int fd, void *p, size_t n, uint64_t offset, const char *path, struct err *err)
{
	ssize_t got = file_pread_some(fd, p, n, offset, path, err);

	if (got < 0)
		return (int)got;
	if ((size_t)got == n)
		return 0;
	/* A read that starts beyond the end gets nothing and does not know where the end is. */
	if (got)
		err_set(err, ERR_DAMAGED,
			"'%s' ends at offset %llu, %zu bytes expected at offset %llu", path,
			(unsigned long long)offset + (unsigned long long)got, n,
			(unsigned long long)offset);
	else
		err_set(err, ERR_DAMAGED,
			"'%s' ends at or before offset %llu, %zu bytes expected there", path,
			(unsigned long long)offset, n);
	err_object(err, "%s", path);
	return ERR_DAMAGED;
}

/* Waits until a descriptor that was made non-blocking by somebody else can go on. */
static bool wait_ready(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	return (errno == EAGAIN || errno == EWOULDBLOCK) && (poll(&p, 1, -1) > 0 || errno == EINTR);
}

ssize_t file_read_some(int fd, void *p, size_t n, const char *path, struct err *err)
{
	for (;;) {
		ssize_t got = read(fd, p, MIN(n, (size_t)SSIZE_MAX));

		if (got >= 0)
			return got;
		if (errno != EINTR && !wait_ready(fd, POLLIN))
			return fail_errno(err, errno, "read", path);
	}
}

static int pwrite_continued(int fd, const void *p, size_t n, uint64_t offset, const char *path,
			    struct err *err)
{
	size_t done = 0;

	while (done < n) {
		ssize_t put = pwrite(fd, (const char *)p + done, n - done, (off_t)(offset + done));

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return fail_errno_at(err, put < 0 ? errno : EIO, "write", path,
					     offset + done);
		done += (size_t)put;
	}
	return 0;
}

int file_pwrite(int fd, const void *p, size_t n, uint64_t offset, const char *path,
		const char *point, struct err *err)
{
	int fault = point ? fault_hit(point) : 0;
	int r = check_range(offset, n, path, err);

	if (r < 0)
		return r;
	if (fault == FAULT_SHORT) {
		r = pwrite_continued(fd, p, n / 2, offset, path, err);
		return r < 0 ? r : fail_errno_at(err, ENOSPC, "write", path, offset + n / 2);
	}
	if (fault)
		return fail_errno_at(err, fault == FAULT_SKIP ? EINVAL : fault, "write", path,
				     offset);
	return pwrite_continued(fd, p, n, offset, path, err);
}

int file_write(int fd, const void *p, size_t n, const char *path, struct err *err)
{
	size_t done = 0;

	while (done < n) {
		ssize_t put = write(fd, (const char *)p + done, n - done);

		if (put < 0 && (errno == EINTR || wait_ready(fd, POLLOUT)))
			continue;
		if (put <= 0)
			return fail_errno(err, put < 0 ? errno : EIO, "write", path);
		done += (size_t)put;
	}
	return 0;
}

int file_size(int fd, uint64_t *bytes, const char *path, struct err *err)
{
	struct stat st;
	uint64_t size;

	if (fstat(fd, &st) < 0)
		return fail_errno(err, errno, "stat", path);
	if (S_ISREG(st.st_mode)) {
		*bytes = (uint64_t)st.st_size;
		return 0;
	}
	if (S_ISBLK(st.st_mode)) {
		if (ioctl(fd, BLKGETSIZE64, &size) < 0)
			return fail_errno(err, errno, "get the size of", path);
		*bytes = size;
		return 0;
	}
	err_set(err, ERR_INVALID, "'%s' is neither a file nor a block device", path);
	err_object(err, "%s", path);
	return ERR_INVALID;
}

int file_truncate(int fd, uint64_t size, const char *path, const char *point, struct err *err)
{
	int fault = step_fault(point), r;

	if (fault)
		return fail_errno(err, fault, "set the size of", path);
	r = check_range(size, 0, path, err);
	if (r < 0)
		return r;
	do
		r = ftruncate(fd, (off_t)size);
	while (r < 0 && errno == EINTR);
	if (r == 0)
		return 0;
	fault = errno;
	r = fail_errno(err, fault, "set the size of", path);
	return fault == EFBIG ? err_recode(err, ERR_TOO_BIG) : r;
}

int file_punch(int fd, uint64_t offset, uint64_t n, const char *path, const char *point,
	       struct err *err)
{
	int fault = step_fault(point), r = check_range(offset, n, path, err);

	if (r < 0)
		return r;
	if (fault)
		return fail_errno_at(err, fault, "make a hole in", path, offset);
	do
		r = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
			      (off_t)n);
	while (r < 0 && errno == EINTR);
	if (r == 0)
		return 1;
	return errno == EOPNOTSUPP || errno == ENOSYS ?
		       0 :
		       fail_errno_at(err, errno, "make a hole in", path, offset);
}

void file_drop_cache(int fd)
{
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

int file_allocated(int fd, uint64_t *bytes, const char *path, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return fail_errno(err, errno, "stat", path);
	*bytes = (uint64_t)st.st_blocks * 512;
	return 0;
}

void file_writeback_start(int fd, uint64_t offset, uint64_t n)
{
	/* Without the WAIT flags it neither waits nor takes note of write errors: fdatasync still sees them. */
	(void)sync_file_range(fd, (off64_t)offset, (off64_t)n, SYNC_FILE_RANGE_WRITE);
}

int file_datasync(int fd, const char *path, const char *point, struct err *err)
{
	bool skip;
	int fault = sync_fault(point, &skip);

	if (fault)
		return fail_errno(err, fault, "sync", path);
	return skip ? 0 : fdatasync(fd) < 0 ? fail_errno(err, errno, "sync", path) : 0;
}

int dir_sync(const char *path, const char *point, struct err *err)
{
	bool skip;
	int fault = sync_fault(point, &skip);
	cleanup_fd int fd = -1;

	if (fault || skip)
		return fault ? fail_errno(err, fault, "sync folder", path) : 0;
	fd = open_continued(path, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fail_errno(err, errno, "open folder", path);
	return fsync(fd) < 0 ? fail_errno(err, errno, "sync folder", path) : 0;
}

static int fail_rename(struct err *err, int eno, const char *from, const char *to)
{
	int r = err_set_errno(err, eno == ENOENT ? ERR_NOT_FOUND : ERR_IO, eno,
			      "cannot rename '%s' to '%s'", from, to);

	err_object(err, "%s", to);
	return note_no_file(err, r);
}

int file_rename_new(const char *from, const char *to, const char *point, struct err *err)
{
	int fault = step_fault(point);

	if (fault)
		return fail_rename(err, fault, from, to);
	if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return fail_rename(err, errno, from, to);
	/* The file system (NFS, say) has no such rename.  link(2) never replaces either; a crash before the
	 * unlink leaves the whole file under both names, and the old one is a leftover like any other. */
	if (link(from, to) < 0)
		return fail_rename(err, errno, from, to);
	return unlink(from) < 0 ? fail_errno(err, errno, "remove", from) : 0;
}

int file_link(const char *from, const char *to, const char *point, struct err *err)
{
	int fault = step_fault(point);

	if (fault)
		return fail_rename(err, fault, from, to);
	return link(from, to) < 0 ? fail_rename(err, errno, from, to) : 0;
}

int file_rename_over(const char *from, const char *to, const char *point, struct err *err)
{
	int fault = step_fault(point);

	if (fault)
		return fail_rename(err, fault, from, to);
	return rename(from, to) < 0 ? fail_rename(err, errno, from, to) : 0;
}

int file_unlink(const char *path, const char *point, struct err *err)
{
	int fault = step_fault(point);

	if (fault)
		return fail_errno(err, fault, "remove", path);
	if (unlink(path) == 0)
		return 1;
	return errno == ENOENT ? 0 : fail_errno(err, errno, "remove", path);
}

int dir_make(const char *path, mode_t mode, const char *point, struct err *err)
{
	int fault = step_fault(point);
	struct stat st;

	if (fault)
		return fail_errno(err, fault, "make folder", path);
	if (mkdir(path, mode) == 0)
		return 1;
	if (errno == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		return 0;
	return fail_errno(err, errno, "make folder", path);
}

/* The next entry but "." and ".."; *name is NULL at the end.  Returns 0 or an errno value. */
static int next_entry(DIR *dir, const char **name)
{
	struct dirent *entry;

	do {
		errno = 0;
		entry = readdir(dir);
	} while (entry && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
	*name = entry ? entry->d_name : NULL;
	return entry ? 0 : errno;
}

/* One pass over the folder; returns how many files went. */
static int remove_entries(DIR *dir, const char *path, const char *point, struct err *err)
{
	int removed = 0;
	const char *name;

	for (;;) {
		int eno = next_entry(dir, &name);

		if (eno)
			return fail_errno(err, eno, "list", path);
		if (!name)
			return removed;
		eno = step_fault(point);
		if (!eno && unlinkat(dirfd(dir), name, 0) < 0 && errno != ENOENT)
			eno = errno;
		if (eno) {
			err_set_errno(err, ERR_IO, eno, "cannot remove '%s/%s'", path, name);
			return err_object(err, "%s/%s", path, name);
		}
		removed++;
	}
}

/* POSIX does not say whether a listing shows everything while entries go: looks until it is empty. */
static int remove_all_entries(DIR *dir, const char *path, const char *point, struct err *err)
{
	unsigned pass;
	int r = 1;

	for (pass = 0; r > 0 && pass < REMOVE_PASSES; pass++) {
		rewinddir(dir);
		r = remove_entries(dir, path, point, err);
	}
	return MIN(r, 0);
}

int dir_remove_flat(const char *path, const char *point, struct err *err)
{
	cleanup_dir DIR *dir = opendir(path);
	unsigned tries;
	int fault, r;

	if (!dir)
		return errno == ENOENT ? 0 : fail_errno(err, errno, "open folder", path);
	for (tries = 0; tries < REMOVE_TRIES; tries++) {
		if (tries)
			time_sleep_ms(REMOVE_WAIT_MS);
		r = remove_all_entries(dir, path, point, err);
		if (r < 0)
			return r;
		fault = step_fault(point);
		if (fault)
			return fail_errno(err, fault, "remove folder", path);
		if (rmdir(path) == 0 || errno == ENOENT)
			return 1;
		if (errno != ENOTEMPTY && errno != EEXIST)
			return fail_errno(err, errno, "remove folder", path);
	}
	err_set(err, ERR_LOCKED, "cannot remove folder '%s': somebody still writes into it", path);
	return err_object(err, "%s", path);
}

int file_read_all(const char *path, size_t max, struct buf *out, struct err *err)
{
	cleanup_fd int fd = file_open(path, O_RDONLY, 0, err);

	if (fd < 0)
		return fd;
	buf_reset(out);
	for (;;) {
		ssize_t got;

		if (out->len == out->cap && !buf_reserve(out, FILE_READ_PIECE)) {
			buf_reset(out);
			return err_nomem(err, "reading a file");
		}
		got = file_read_some(fd, out->data + out->len, out->cap - out->len, path, err);
		if (got <= 0) {
			if (got < 0)
				buf_reset(out);
			return (int)got;
		}
		out->len += (size_t)got;
		if (out->len > max) {
			buf_reset(out);
			err_set(err, ERR_TOO_BIG, "'%s' is longer than %zu bytes", path, max);
			err_object(err, "%s", path);
			return ERR_TOO_BIG;
		}
	}
}

/* The points of file_write_all(); texts are "" without a prefix. */
struct write_points {
	char create[96], write[96], sync[96], rename[96], dirsync[96];
};

static void make_points(struct write_points *points, const char *prefix)
{
	const struct {
		char *text;
		const char *step;
	} all[] = { { points->create, "create" },
		    { points->write, "write" },
		    { points->sync, "sync" },
		    { points->rename, "rename" },
		    { points->dirsync, "dirsync" } };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(all); i++) {
		all[i].text[0] = 0;
		if (prefix)
			snprintf(all[i].text, sizeof(points->create), "%s.%s", prefix, all[i].step);
	}
}

static const char *point_or_null(const char *point)
{
	return *point ? point : NULL;
}

static int write_temporary(const char *temporary, const void *p, size_t n, mode_t mode,
			   const struct write_points *points, struct err *err)
{
	cleanup_fd int fd = create_mode(temporary, mode, point_or_null(points->create), err);
	int r;

	if (fd < 0)
		return fd;
	r = file_pwrite(fd, p, n, 0, temporary, point_or_null(points->write), err);
	if (r < 0)
		return r;
	return file_datasync(fd, temporary, point_or_null(points->sync), err);
}

static char *folder_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *folder;

	if (!slash)
		return str_dup(".");
	folder = mem_dup(path, (size_t)(slash - path) + 2);
	if (folder) /* the root keeps its slash */
		folder[slash == path ? 1 : slash - path] = 0;
	return folder;
}

int file_write_all(const char *path, const void *p, size_t n, mode_t mode, bool replace,
		   const char *point_prefix, struct err *err)
{
	cleanup_free char *temporary = NULL;
	cleanup_free char *folder = folder_of(path);
	struct write_points points;
	uint8_t salt[8];
	char hex[2 * sizeof(salt) + 1];
	int r;

	random_bytes(salt, sizeof(salt));
	hex_encode(hex, salt, sizeof(salt));
	temporary = str_printf("%s.tmp-%s", path, hex);
	if (!folder || !temporary)
		return err_nomem(err, "writing a file");
	make_points(&points, point_prefix);
	r = write_temporary(temporary, p, n, mode, &points, err);
	if (r == 0 && replace)
		r = file_rename_over(temporary, path, point_or_null(points.rename), err);
	else if (r == 0)
		r = file_rename_new(temporary, path, point_or_null(points.rename), err);
	if (r < 0) {
		unlink(temporary); /* the first error counts; a file that stays is a leftover */
		return r;
	}
	return dir_sync(folder, point_or_null(points.dirsync), err);
}

int dir_each(const char *path, int (*fn)(void *opaque, const char *name, struct err *err),
	     void *opaque, struct err *err)
{
	cleanup_dir DIR *dir = opendir(path);
	const char *name;

	if (!dir)
		return fail_errno(err, errno, "open folder", path);
	for (unsigned entries = 0;; entries++) {
		int r = next_entry(dir, &name);

		/* Once a listing, as far in as it gets: what fails halfway must not pass for the end. */
		if (r == 0 && (entries == 1 || (entries == 0 && !name)))
			r = step_fault("base.folder.list");

		if (r)
			return fail_errno(err, r, "list", path);
		if (!name)
			return 0;
		r = fn(opaque, name, err);
		if (r)
			return r;
	}
}

int file_trylock(int fd, const char *path, struct err *err)
{
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno == EWOULDBLOCK)
			return 0;
		if (errno != EINTR)
			return fail_errno(err, errno, "lock", path);
	}
	return 1;
}

bool path_is_readonly_fs(const char *path)
{
	struct statvfs st;

	return statvfs(path, &st) == 0 && (st.f_flag & ST_RDONLY);
}
