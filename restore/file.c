// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Target: a sparse file.
 *
 * How it works: a whole restore, to a new name or over an old file, is written to TARGET.livepoint-partial, which is
 * renamed to TARGET when it is complete and on disk.  A restore that is killed leaves the old file, or none, and the partial
 * one; the next restore to this name takes the partial file over and begins it again, so that there is never more than
 * one.  --delta changes an existing file in place: that is what it is for, and its next run goes on where it was.
 *
 * Invariants:
 *  1. A file under the target's name is complete, or (--delta) was there before.
 *  2. A file that another program has open for its disk (QEMU's locks) or that is behind a loop device is refused.
 *  3. New files are sparse: holes are never written.
 *
 * Source: QEMU block/file-posix.c: permissions in use are read locks of bytes 100 to 163, shared ones of 200 to 263.
 *
 * Fault points: "restore.file.create", "restore.target.write", "restore.target.sync", "restore.file.rename",
 * "restore.file.dirsync".
 */
#include "restore/internal.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"

#include "base/banned.h"

#define QEMU_LOCK_FIRST 100
#define QEMU_LOCK_COUNT 164 /* both groups */

struct target_file {
	struct target base;
	int fd;
	char *path; /* owned: links resolved */
	char *partial; /* owned: the file being written; NULL: in place */
	bool replace; /* an old file goes when this one is complete */
	bool no_punch;
	uint64_t dirty_from, dirty; /* written and not yet handed to writeback: offset, bytes */
};

/* The disk writes while the next blocks are decoded, instead of all at the final sync. */
#define WRITEBACK_BYTES (8 * MiB)

static struct target_file *file_of(struct target *t)
{
	return container_of(t, struct target_file, base);
}

static int to_target(int r, struct err *err)
{
	return r == ERR_IO || r == ERR_NOT_FOUND ? err_recode(err, ERR_TARGET) : r;
}

static int file_read(struct target *t, void *p, size_t n, uint64_t offset, struct err *err)
{
	return to_target(file_pread(file_of(t)->fd, p, n, offset, t->where, err), err);
}

static int file_start_write(struct target *t, struct block *b, uint64_t offset, size_t n,
			    struct err *err)
{
	struct target_file *f = file_of(t);
	int r = file_pwrite(f->fd, b->data + (offset - b->start), n, offset, t->where,
			    "restore.target.write", err);

	if (r < 0)
		return to_target(r, err);
	if (!f->dirty)
		f->dirty_from = offset;
	f->dirty += n;
	if (f->dirty >= WRITEBACK_BYTES) {
		file_writeback_start(f->fd, f->dirty_from, offset + n - f->dirty_from);
		f->dirty = 0;
	}
	return 0;
}

static int file_zero(struct target *t, uint64_t offset, uint64_t n, struct err *err)
{
	struct target_file *f = file_of(t);

	if (!f->no_punch && fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				      (off_t)offset, (off_t)n) == 0)
		return 0;
	f->no_punch = true; /* the file system cannot: never asked again */
	return target_write_zeroes(f->fd, offset, n, t->where, err);
}

static int file_extent(struct target *t, uint64_t offset, uint64_t *end, struct err *err)
{
	struct target_file *f = file_of(t);
	off_t at = lseek(f->fd, (off_t)offset, SEEK_DATA);

	(void)err;
	*end = t->size;
	if (at < 0)
		return errno == ENXIO; /* no data follows; any other reason: read it */
	if ((uint64_t)at > offset) {
		*end = MIN((uint64_t)at, t->size);
		return 1;
	}
	at = lseek(f->fd, (off_t)offset, SEEK_HOLE);
	if (at > (off_t)offset)
		*end = MIN((uint64_t)at, t->size);
	return 0;
}

static int file_flush(struct target *t, struct err *err)
{
	struct target_file *f = file_of(t);
	int r;

	/* In place an old file may have been longer. */
	if (ftruncate(f->fd, (off_t)t->size) < 0)
		return err_set_errno(err, ERR_TARGET, errno, "cannot set the size of '%s'",
				     t->where);
	r = file_datasync(f->fd, t->where, "restore.target.sync", err);
	if (r < 0)
		return to_target(r, err);
	posix_fadvise(f->fd, 0, 0, POSIX_FADV_DONTNEED); /* what verifies reads the device */
	return 0;
}

static int sync_folder(const char *path, struct err *err)
{
	cleanup_free char *folder = str_dup(path);
	char *slash;

	if (!folder)
		return err_nomem(err, "a target");
	slash = strrchr(folder, '/'); /* the path is absolute */
	slash[slash == folder] = 0;
	return dir_sync(folder, "restore.file.dirsync", err);
}

static int file_finish(struct target *t, struct err *err)
{
	struct target_file *f = file_of(t);
	int r;

	if (!f->partial)
		return 0;
	if (f->replace)
		r = file_rename_over(f->partial, f->path, "restore.file.rename", err);
	else
		r = file_rename_new(f->partial, f->path, "restore.file.rename", err);
	if (r < 0)
		return to_target(r, err);
	free(f->partial);
	f->partial = NULL;
	return to_target(sync_folder(f->path, err), err);
}

static void file_close(struct target *t)
{
	struct target_file *f = file_of(t);

	if (f->partial && f->fd >= 0) /* with the lock held: nobody else's */
		file_unlink(f->partial, NULL, NULL);
	if (f->fd >= 0)
		close(f->fd);
	free(f->partial);
	free(f->path);
	free(t->where);
	free(f);
}

static const struct target_ops file_ops = {
	.extent = file_extent,
	.read = file_read,
	.start_write = file_start_write,
	.zero = file_zero,
	.flush = file_flush,
	.finish = file_finish,
	.close = file_close,
};

/* --- opening --- */

struct loop_search {
	const char *path;
	bool found;
};

static int loop_is(void *opaque, const char *name, struct err *err)
{
	struct loop_search *search = opaque;
	cleanup_free char *path = str_printf("/sys/block/%s/loop/backing_file", name);
	cleanup_buf struct buf text = BUF_INIT;

	(void)err;
	if (!str_starts(name, "loop") || !path || file_read_all(path, PATH_MAX, &text, NULL) < 0)
		return 0;
	if (text.len && text.data[text.len - 1] == '\n')
		text.len--;
	search->found = strcmp(buf_str(&text), search->path) == 0;
	return search->found;
}

/* Invariant 2. */
static int check_unused(int fd, const char *path, struct err *err)
{
	struct flock lock = { .l_type = F_WRLCK,
			      .l_whence = SEEK_SET,
			      .l_start = QEMU_LOCK_FIRST,
			      .l_len = QEMU_LOCK_COUNT };
	struct loop_search search = { .path = path };

	if (fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK) {
		err_set(err, ERR_TARGET,
			"target '%s' is in use: another program (a virtual machine?) holds locks on it",
			path);
		return err_object(err, "%s", path);
	}
	/* Without sysfs nobody can tell; a listing that fails halfway is another matter. */
	if (access("/sys/block", R_OK) == 0) {
		int r = dir_each("/sys/block", loop_is, &search, err);

		if (r < 0)
			return r;
	}
	if (search.found) {
		err_set(err, ERR_TARGET, "target '%s' is in use: a loop device stands on it", path);
		return err_object(err, "%s", path);
	}
	return 0;
}

/* The target's own path: a link is followed, so that its file is replaced and not the link.  Owned by the caller. */
static char *resolve(const char *where, bool exists, struct err *err)
{
	const char *slash = strrchr(where, '/');
	cleanup_free char *folder = NULL;
	char resolved[PATH_MAX];
	char *path;

	if (exists)
		folder = str_dup(where);
	else
		folder = slash ? str_printf("%.*s", (int)(slash - where) + 1, where) : str_dup(".");
	if (!folder || !realpath(folder, resolved)) {
		err_set_errno(err, ERR_TARGET, folder ? errno : ENOMEM, "cannot write to '%s'",
			      where);
		return NULL;
	}
	if (exists)
		path = str_dup(resolved);
	else
		path = str_printf("%s/%s", strcmp(resolved, "/") == 0 ? "" : resolved,
				  slash ? slash + 1 : where);
	if (!path)
		err_nomem(err, "a target");
	return path;
}

/* Opens the partial file and locks it; whoever held it last may have just renamed it, so look again. */
static int open_partial(struct target_file *f, mode_t mode, struct err *err)
{
	int fault = fault_hit("restore.file.create");
	struct stat ours, now;
	int r;

	if (fault)
		return err_set_errno(err, ERR_TARGET, fault > 0 ? fault : ENOSPC,
				     "cannot create '%s'", f->partial);
	for (;;) {
		cleanup_fd int fd = file_open(f->partial, O_RDWR | O_CREAT | O_NOFOLLOW, mode, err);

		if (fd < 0)
			return to_target(fd, err);
		r = file_trylock(fd, f->partial, err);
		if (r < 0)
			return to_target(r, err);
		if (!r) {
			err_set(err, ERR_LOCKED, "another restore is writing '%s'", f->partial);
			return err_object(err, "%s", f->partial);
		}
		if (fstat(fd, &ours) == 0 && stat(f->partial, &now) == 0 &&
		    ours.st_ino == now.st_ino && ours.st_dev == now.st_dev) {
			f->fd = steal_fd(&fd);
			break;
		}
	}
	if (ftruncate(f->fd, 0) < 0 || ftruncate(f->fd, (off_t)f->base.size) < 0)
		return err_set_errno(err, ERR_TARGET, errno, "cannot set the size of '%s'",
				     f->partial);
	f->base.known_zero = true;
	return 0;
}

static int open_in_place(struct target_file *f, struct err *err)
{
	struct stat st;
	int r;

	f->fd = file_open(f->path, O_RDWR, 0, err);
	if (f->fd < 0)
		return to_target(f->fd, err);
	r = check_unused(f->fd, f->path, err);
	if (r < 0)
		return r;
	r = file_trylock(f->fd, f->path, err);
	if (r < 0)
		return to_target(r, err);
	if (!r)
		return err_set(err, ERR_LOCKED, "another restore is writing '%s'", f->path);
	if (fstat(f->fd, &st) < 0)
		return err_set_errno(err, ERR_TARGET, errno, "cannot look at '%s'", f->path);
	if ((uint64_t)st.st_size < f->base.size && ftruncate(f->fd, (off_t)f->base.size) < 0)
		return err_set_errno(err, ERR_TARGET, errno, "cannot set the size of '%s'",
				     f->path);
	return 0;
}

/* Over an old file: it keeps its owner and mode. */
static int open_over(struct target_file *f, const struct stat *old, struct err *err)
{
	cleanup_fd int fd = file_open(f->path, O_RDWR, 0, err);
	int r;

	if (fd < 0)
		return to_target(fd, err);
	r = check_unused(fd, f->path, err);
	if (r < 0)
		return r;
	f->replace = true;
	r = open_partial(f, old->st_mode & 0777, err);
	if (r < 0)
		return r;
	(void)!fchown(f->fd, old->st_uid, old->st_gid); /* only root may, and need not */
	(void)!fchmod(f->fd, old->st_mode & 0777);
	return 0;
}

static int open_kind(struct target_file *f, const struct target_spec *spec, const struct stat *old,
		     struct err *err)
{
	if (!old && spec->delta)
		return err_set(err, ERR_TARGET,
			       "target '%s' does not exist: --delta changes what is there",
			       spec->where);
	if (old && spec->delta)
		return open_in_place(f, err);
	if (old && !spec->overwrite) {
		err_set(err, ERR_EXISTS,
			"target '%s' exists: --overwrite replaces it, --delta changes what differs",
			spec->where);
		return err_object(err, "%s", spec->where);
	}
	f->partial = str_printf("%s.livepoint-partial", f->path);
	if (!f->partial)
		return err_nomem(err, "a target");
	return old ? open_over(f, old, err) : open_partial(f, 0600, err);
}

int target_file_open(const struct target_spec *spec, struct target **out, struct err *err)
{
	struct target_file *f = mem_alloc(sizeof(*f));
	cleanup_ptr(target) owner = NULL;
	struct stat st;
	bool exists = stat(spec->where, &st) == 0;
	int r;

	if (!f)
		return err_nomem(err, "a target");
	owner = &f->base;
	f->fd = -1;
	f->base = (struct target){ .ops = &file_ops,
				   .where = str_dup(spec->where),
				   .stop = spec->stop,
				   .size = spec->size };
	if (!f->base.where)
		return err_nomem(err, "a target");
	if (!exists && lstat(spec->where, &st) == 0) { /* found when it is to get its name, else */
		err_set(err, ERR_TARGET, "target '%s' is a link that leads nowhere", spec->where);
		return err_object(err, "%s", spec->where);
	}
	f->path = resolve(spec->where, exists, err);
	if (!f->path)
		return err && err->code ? err->code : ERR_TARGET;
	r = open_kind(f, spec, exists ? &st : NULL, err);
	if (r < 0)
		return r;
	*out = steal_ptr(owner);
	return 0;
}
