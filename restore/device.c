// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Target: a block device.
 *
 * Invariants:
 *  1. A device that is mounted, held by another (LVM, md, dm, swap) or opened exclusively is refused, always; O_EXCL keeps
 *     it so until we are done (the kernel's claim, which covers the whole disk and its partitions).
 *  2. Zeroes are made by calls that promise zeroes: fallocate(PUNCH_HOLE) on a block device is a zero-out that may unmap,
 *     BLKZEROOUT one that does not, else they are written.  BLKDISCARD promises nothing about what is read and is not used.
 *  3. What lies beyond the disk's end is not touched.
 *
 * Source: Linux block/fops.c, blkdev_fallocate() and blkdev_common_ioctl().
 */
#include "restore/internal.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/file.h"

#include "base/banned.h"

struct target_device {
	struct target base;
	int fd;
	bool no_punch, no_zeroout;
};

static struct target_device *device_of(struct target *t)
{
	return container_of(t, struct target_device, base);
}

static int to_target(int r, struct err *err)
{
	return r == ERR_IO || r == ERR_NOT_FOUND ? err_recode(err, ERR_TARGET) : r;
}

static int device_read(struct target *t, void *p, size_t n, uint64_t offset, struct err *err)
{
	return to_target(file_pread(device_of(t)->fd, p, n, offset, t->where, err), err);
}

static int device_start_write(struct target *t, struct block *b, uint64_t offset, size_t n,
			      struct err *err)
{
	return to_target(file_pwrite(device_of(t)->fd, b->data + (offset - b->start), n, offset,
				     t->where, "restore.target.write", err),
			 err);
}

/* Invariant 2. */
static int device_zero(struct target *t, uint64_t offset, uint64_t n, struct err *err)
{
	struct target_device *d = device_of(t);
	uint64_t range[2] = { offset, n };

	if (!d->no_punch && fallocate(d->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				      (off_t)offset, (off_t)n) == 0)
		return 0;
	d->no_punch = true;
	if (!d->no_zeroout && ioctl(d->fd, BLKZEROOUT, range) == 0)
		return 0;
	d->no_zeroout = true;
	return target_write_zeroes(d->fd, offset, n, t->where, err);
}

static int device_flush(struct target *t, struct err *err)
{
	int fd = device_of(t)->fd;
	int r = to_target(file_datasync(fd, t->where, "restore.target.sync", err), err);

	if (r < 0)
		return r;
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	return 0;
}

static void device_close(struct target *t)
{
	struct target_device *d = device_of(t);

	if (d->fd >= 0)
		close(d->fd);
	free(t->where);
	free(d);
}

static const struct target_ops device_ops = {
	.read = device_read,
	.start_write = device_start_write,
	.zero = device_zero,
	.flush = device_flush,
	.close = device_close,
};

static int first_name(void *opaque, const char *name, struct err *err)
{
	(void)err;
	str_copy(opaque, DISK_NAME_MAX_LEN, name);
	return 1;
}

/* Finds "MAJOR:MINOR" as third field of a line of mountinfo (proc(5)) and fills where it is mounted. */
static bool find_mount(dev_t device, char *where, size_t size)
{
	cleanup_buf struct buf text = BUF_INIT;
	unsigned major_number, minor_number;
	char *rest, *line;

	if (file_read_all("/proc/self/mountinfo", 64 * MiB, &text, NULL) < 0)
		return false;
	buf_str(&text);
	rest = (char *)text.data;
	while (rest && (line = strsep(&rest, "\n"))) {
		char path[256];

		if (sscanf(line, "%*d %*d %u:%u %*s %255s", &major_number, &minor_number, path) ==
			    3 &&
		    makedev(major_number, minor_number) == device)
			return str_copy(where, size, path) || true;
	}
	return false;
}

static int refuse_busy(const char *where, const char *how, const char *who, struct err *err)
{
	err_set(err, ERR_TARGET, "target '%s' is in use: %s%s", where, how, who);
	return err_object(err, "%s", where);
}

/* Invariant 1, in words; O_EXCL is what enforces it. */
static int check_busy(const char *where, dev_t device, struct err *err)
{
	char path[64], name[256] = "";
	int r;

	if (find_mount(device, name, sizeof(name)))
		return refuse_busy(where, "mounted at ", name, err);
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/holders", major(device), minor(device));
	r = access(path, F_OK) == 0 ? dir_each(path, first_name, name, err) : 0;
	if (r > 0)
		return refuse_busy(where, "held by ", name, err);
	return r;
}

static int device_attach(struct target_device *d, const struct target_spec *spec, struct err *err)
{
	const char *where = spec->where;
	struct stat st;
	uint64_t size;
	int r;

	if (stat(where, &st) < 0)
		return err_set_errno(err, ERR_TARGET, errno, "cannot open '%s'", where);
	r = check_busy(where, st.st_rdev, err);
	if (r < 0)
		return r;
	d->fd = open(where, O_RDWR | O_EXCL | O_CLOEXEC);
	if (d->fd < 0 && errno == EBUSY)
		return refuse_busy(where,
				   "a partition is mounted, or somebody has opened it exclusively",
				   "", err);
	if (d->fd < 0)
		return err_set_errno(err, ERR_TARGET, errno, "cannot open '%s' for writing", where);
	r = file_size(d->fd, &size, where, err);
	if (r < 0)
		return to_target(r, err);
	return size < spec->size ? target_too_small(where, size, spec->size, err) : 0;
}

int target_device_open(const struct target_spec *spec, struct target **out, struct err *err)
{
	struct target_device *d = mem_alloc(sizeof(*d));
	cleanup_ptr(target) owner = NULL;
	int r;

	if (!d)
		return err_nomem(err, "a target");
	owner = &d->base;
	d->fd = -1;
	d->base = (struct target){ .ops = &device_ops,
				   .where = str_dup(spec->where),
				   .stop = spec->stop,
				   .size = spec->size };
	if (!d->base.where)
		return err_nomem(err, "a target");
	r = device_attach(d, spec, err);
	if (r < 0)
		return r;
	*out = steal_ptr(owner);
	return 0;
}
