/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Durable file operations.  Only base/file.c calls fsync, fdatasync, rename and unlink.
 *
 * `point` parameters name the fault point of the step (base/fault.h), "room.object.step".
 * All descriptors are close-on-exec.  Interrupted and partial system calls are continued.
 * Errors name the path.  Any thread, unless two calls use one descriptor's position.
 *
 * Invariants:
 *  1. A failed sync is final for that file: the caller throws the file away (PostgreSQL wiki, "Fsync Errors").
 *  2. A rename or unlink is durable only after dir_sync() of the folder.
 */
#ifndef LIVEPOINT_BASE_FILE_H
#define LIVEPOINT_BASE_FILE_H

#include <sys/types.h>

#include "base/buf.h"

/* Opens with O_CLOEXEC; flags and mode as open(2).  Returns the descriptor (caller owns) or a code:
 * ERR_NOT_FOUND for ENOENT, ERR_PERM, ERR_READONLY, ERR_NOSPC, else ERR_IO. */
int file_open(const char *path, int flags, mode_t mode, struct err *err);
/* Creates a new file (O_EXCL, O_RDWR), mode 0600. */
int file_create(const char *path, const char *point, struct err *err);

/* Reads exactly n bytes at offset; a short file is ERR_DAMAGED ("ends at ..."), EIO is ERR_IO. */
int file_pread(int fd, void *p, size_t n, uint64_t offset, const char *path, struct err *err);
/* Reads up to n bytes; returns bytes read (0: end of file). */
ssize_t file_pread_some(int fd, void *p, size_t n, uint64_t offset, const char *path,
			struct err *err);
/* Reads the next up to n bytes of a stream; returns bytes read, 0 at its end. */
ssize_t file_read_some(int fd, void *p, size_t n, const char *path, struct err *err);
int file_pwrite(int fd, const void *p, size_t n, uint64_t offset, const char *path,
		const char *point, struct err *err);
/* Writes to a stream (pipe, socket). */
int file_write(int fd, const void *p, size_t n, const char *path, struct err *err);
int file_size(int fd, uint64_t *bytes, const char *path, struct err *err); /* block devices too */

/* Sets the size: cut off, or grown by a hole.  ERR_NOSPC, ERR_TOO_BIG (more than the file system can hold), ERR_IO. */
int file_truncate(int fd, uint64_t size, const char *path, const char *point, struct err *err);
/* Makes a hole of a range: it reads as zeroes, the size stays.  Returns 1, or 0 if the file system cannot; nothing has
 * changed then. */
int file_punch(int fd, uint64_t offset, uint64_t n, const char *path, const char *point,
	       struct err *err);
/* Drops what is not dirty of the file from the page cache, so that reads come from the device.  As far as the system likes. */
void file_drop_cache(int fd);
/* Bytes that the file takes on the device. */
int file_allocated(int fd, uint64_t *bytes, const char *path, struct err *err);

/* Lets the kernel begin to write a range out, so that a later sync finds less to do.  Promises nothing; errors are the sync's. */
void file_writeback_start(int fd, uint64_t offset, uint64_t n);
int file_datasync(int fd, const char *path, const char *point, struct err *err);
/* fsync of the folder at path. */
int dir_sync(const char *path, const char *point, struct err *err);
/* rename(2) that refuses to replace (RENAME_NOREPLACE): ERR_EXISTS. */
int file_rename_new(const char *from, const char *to, const char *point, struct err *err);
/* rename(2) that may replace. */
int file_rename_over(const char *from, const char *to, const char *point, struct err *err);
/* link(2): a second name for a file, on one mount; never replaces: ERR_EXISTS. */
int file_link(const char *from, const char *to, const char *point, struct err *err);
/* A missing file is not an error: returns 1 if it was there, 0 if not. */
int file_unlink(const char *path, const char *point, struct err *err);
/* Returns 1 if made, 0 if it was there already. */
int dir_make(const char *path, mode_t mode, const char *point, struct err *err);
/* Removes the files in a folder and the folder (no recursion below).  While somebody else puts new files there, tries for
 * a fifth of a second.  A missing folder is not an error: returns 1 if it was there, 0 if not. */
int dir_remove_flat(const char *path, const char *point, struct err *err);

/* Whole small files.  read: at most max bytes, else ERR_TOO_BIG; fills out (what was in it is dropped).
 * write: temporary file beside it (PATH.tmp-16HEX, left behind by a kill only), datasync, rename (over, or new if `replace` is false), sync of the folder.
 * Fault points: "PREFIX.create", ".write", ".sync", ".rename", ".dirsync". */
int file_read_all(const char *path, size_t max, struct buf *out, struct err *err);
int file_write_all(const char *path, const void *p, size_t n, mode_t mode, bool replace,
		   const char *point_prefix, struct err *err);

/* Calls fn for each entry but "." and ".."; fn returns 0 to go on, else the walk ends with that value.  A listing that fails halfway is
 * an error, never a short list: the caller changes nothing before it has ended.  Fault point "base.folder.list", once a listing,
 * after its first entry. */
int dir_each(const char *path, int (*fn)(void *opaque, const char *name, struct err *err),
	     void *opaque, struct err *err);

/* flock(2), exclusive, without waiting.  Returns 1 if taken, 0 if somebody else holds it.
 * The lock belongs to the open file description: it ends when the last descriptor of it is closed. */
int file_trylock(int fd, const char *path, struct err *err);

/* True if the file system of path is mounted read-only. */
bool path_is_readonly_fs(const char *path);

#endif
