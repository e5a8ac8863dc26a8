// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * What a TARGET is: an NBD server, a block device, or a file.
 *
 * Invariant: kinds that this version cannot write are refused by name, and so is whatever is neither file nor block device
 * (a pipe, a character device: nothing could be compared or written twice there).
 */
#include "restore/internal.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "base/file.h"

#include "base/banned.h"

int restore_stopped(const volatile int *stop, struct err *err)
{
	int code = stop ? *stop : 0;

	return code ? err_set(err, code, "the restore was stopped: the target is not complete") : 0;
}

bool target_is_nbd(const char *where)
{
	return str_starts(where, "nbd://") || str_starts(where, "nbd+unix://") ||
	       str_starts(where, "nbds://") || str_starts(where, "nbds+unix://");
}

int target_too_small(const char *where, uint64_t has, uint64_t needs, struct err *err)
{
	err_set(err, ERR_TARGET, "target '%s' is too small: %llu bytes, the disk has %llu", where,
		(unsigned long long)has, (unsigned long long)needs);
	return err_object(err, "%s", where);
}

int target_write_zeroes(int fd, uint64_t offset, uint64_t n, const char *path, struct err *err)
{
	static const uint8_t zeroes[256 << 10];

	while (n) {
		size_t piece = (size_t)MIN(n, (uint64_t)sizeof(zeroes));
		int r = file_pwrite(fd, zeroes, piece, offset, path, "restore.target.write", err);

		if (r < 0)
			return r == ERR_IO ? err_recode(err, ERR_TARGET) : r;
		offset += piece;
		n -= piece;
	}
	return 0;
}

int target_open(const struct target_spec *spec, struct target **out, struct err *err)
{
	struct stat st;

	if (target_is_nbd(spec->where))
		return target_nbd_open(spec, out, err);
	if (stat(spec->where, &st) < 0) {
		if (str_starts(spec->where, "rbd:") || str_starts(spec->where, "libvirt:"))
			return err_set(
				err, ERR_UNSUPPORTED,
				"target '%s': this version writes files, block devices and NBD",
				spec->where);
		return target_file_open(spec, out, err);
	}
	if (S_ISBLK(st.st_mode))
		return target_device_open(spec, out, err);
	if (S_ISREG(st.st_mode))
		return target_file_open(spec, out, err);
	err_set(err, ERR_TARGET,
		"target '%s' is neither a file nor a block device nor an NBD server", spec->where);
	return err_object(err, "%s", spec->where);
}

void target_close(struct target *t)
{
	if (t)
		t->ops->close(t);
}
