/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The directory backend: packs/ab/NUMBER.pack, index/NUMBER.seg, staging/TOKEN/NAME.
 *
 * 1. A published file got there by renameat2(RENAME_NOREPLACE), or by rename(2) over the one that it replaces, and is
 *    never written again.
 * 2. The folder of a pack is made on demand, and packs/ is synced before the folder's first use.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "store/backend.h"

#include "base/banned.h"

static char *stage_path(struct backend *b, uint64_t token, const char *name)
{
	if (!name)
		return str_printf("%s/staging/%" PRIu64, b->path, token);
	return str_printf("%s/staging/%" PRIu64 "/%s", b->path, token, name);
}

static char *folder_path(struct backend *b, enum backend_kind kind, uint64_t number)
{
	if (kind == BACKEND_SEGMENT)
		return str_printf("%s/index", b->path);
	return str_printf("%s/packs/%02x", b->path, (unsigned)(number & 0xff));
}

static char *live_path(struct backend *b, enum backend_kind kind, uint64_t number)
{
	if (kind == BACKEND_SEGMENT)
		return str_printf("%s/index/%016" PRIx64 ".seg", b->path, number);
	return str_printf("%s/packs/%02x/%012" PRIx64 ".pack", b->path, (unsigned)(number & 0xff),
			  number);
}

static int dir_stage_make(struct backend *b, uint64_t token, struct err *err)
{
	cleanup_free char *path = stage_path(b, token, NULL);
	int r;

	if (!path)
		return err_nomem(err, "path of the staging folder");
	r = dir_make(path, 0700, "store.stage.make", err);
	if (r == 0)
		return err_set(err, ERR_EXISTS, "staging folder '%s' is there already", path);
	return r < 0 ? r : 0;
}

static int dir_stage_remove(struct backend *b, uint64_t token, struct err *err)
{
	cleanup_free char *path = stage_path(b, token, NULL);

	if (!path)
		return err_nomem(err, "path of the staging folder");
	return dir_remove_flat(path, "store.stage.remove", err);
}

static int dir_stage_create(struct backend *b, uint64_t token, const char *name,
			    struct backend_file *f, struct err *err)
{
	cleanup_free char *path = stage_path(b, token, name);
	int fd;

	if (!path)
		return err_nomem(err, "path of a staged file");
	fd = file_create(path, "store.stage.create", err);
	if (fd == ERR_NOT_FOUND)
		return err_set(err, ERR_FENCED,
			       "staging folder of session %" PRIu64
			       " is gone: it was ended from outside",
			       token);
	if (fd < 0)
		return fd;
	f->fd = fd;
	f->path = steal_ptr(path);
	return 0;
}

static int dir_write(struct backend_file *f, const void *p, size_t n, uint64_t offset,
		     const char *point, struct err *err)
{
	return file_pwrite(f->fd, p, n, offset, f->path, point, err);
}

static int dir_datasync(struct backend_file *f, const char *point, struct err *err)
{
	return file_datasync(f->fd, f->path, point, err);
}

/* Makes packs/ab if it is not there. */
static int folder_ensure(struct backend *b, enum backend_kind kind, uint64_t number,
			 struct err *err)
{
	cleanup_free char *folder = folder_path(b, kind, number);
	cleanup_free char *packs = str_printf("%s/packs", b->path);
	int r;

	if (!folder || !packs)
		return err_nomem(err, "path of a folder");
	if (kind == BACKEND_SEGMENT || access(folder, F_OK) == 0)
		return 0;
	r = dir_make(folder, 0700, "store.folder.make", err);
	if (r <= 0)
		return r;
	return dir_sync(packs, "store.folder.parent-sync", err);
}

static int dir_publish(struct backend *b, uint64_t token, const char *name, enum backend_kind kind,
		       uint64_t number, struct err *err)
{
	cleanup_free char *from = stage_path(b, token, name);
	cleanup_free char *to = live_path(b, kind, number);
	int r;

	if (!from || !to)
		return err_nomem(err, "path of a file");
	r = folder_ensure(b, kind, number, err);
	if (r < 0)
		return r;
	r = file_rename_new(
		from, to, kind == BACKEND_PACK ? "store.pack.rename" : "store.segment.rename", err);
	if (r == ERR_EXISTS)
		return err_set(
			err, ERR_DAMAGED,
			"'%s' is there already: the catalog is older than the packs; run 'livepoint verify'",
			to);
	if (r == ERR_NOT_FOUND)
		return err_set(err, ERR_FENCED, "'%s' is gone: the session was ended from outside",
			       from);
	return r;
}

static int dir_replace(struct backend *b, uint64_t token, const char *name, enum backend_kind kind,
		       uint64_t number, struct err *err)
{
	cleanup_free char *from = stage_path(b, token, name);
	cleanup_free char *to = live_path(b, kind, number);
	int r;

	if (!from || !to)
		return err_nomem(err, "path of a file");
	if (access(to, F_OK) < 0)
		return err_set_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno,
				     "'%s' cannot be replaced", to);
	r = file_rename_over(from, to, "store.rewrite.rename", err);
	if (r == ERR_NOT_FOUND)
		return err_set(err, ERR_FENCED, "'%s' is gone: the session was ended from outside",
			       from);
	return r;
}

static bool dir_fixed(struct backend *b, enum backend_kind kind, uint64_t number)
{
	cleanup_free char *path = live_path(b, kind, number);
	cleanup_fd int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	int flags = 0;

	return fd >= 0 && ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 &&
	       (flags & (FS_IMMUTABLE_FL | FS_APPEND_FL));
}

static int dir_stage_drop(struct backend *b, uint64_t token, const char *name, struct err *err)
{
	cleanup_free char *path = stage_path(b, token, name);
	int r;

	if (!path)
		return err_nomem(err, "path of a staged file");
	r = file_unlink(path, "store.stage.drop", err);
	return r < 0 ? r : 0;
}

static int dir_folder_sync(struct backend *b, enum backend_kind kind, uint64_t number,
			   struct err *err)
{
	cleanup_free char *folder = folder_path(b, kind, number);

	if (!folder)
		return err_nomem(err, "path of a folder");
	return dir_sync(folder,
			kind == BACKEND_PACK ? "store.folder.sync" : "store.segment.dirsync", err);
}

static int dir_open(struct backend *b, enum backend_kind kind, uint64_t number,
		    struct backend_file *f, struct err *err)
{
	cleanup_free char *path = live_path(b, kind, number);
	int fd;

	if (!path)
		return err_nomem(err, "path of a file");
	fd = file_open(path, O_RDONLY, 0, err);
	if (fd < 0)
		return fd;
	f->fd = fd;
	f->path = steal_ptr(path);
	return 0;
}

static int dir_read(const struct backend_file *f, void *p, size_t n, uint64_t offset,
		    struct err *err)
{
	return file_pread(f->fd, p, n, offset, f->path, err);
}

static int dir_size(const struct backend_file *f, uint64_t *bytes, struct err *err)
{
	return file_size(f->fd, bytes, f->path, err);
}

static void dir_willneed(const struct backend_file *f, uint64_t offset, uint64_t n)
{
	(void)posix_fadvise(f->fd, (off_t)offset, (off_t)n, POSIX_FADV_WILLNEED);
}

static void dir_close(struct backend_file *f)
{
	base_cleanup_fd(&f->fd);
	f->fd = -1;
	free(f->path);
	f->path = NULL;
}

static int dir_remove(struct backend *b, enum backend_kind kind, uint64_t number, struct err *err)
{
	cleanup_free char *path = live_path(b, kind, number);

	if (!path)
		return err_nomem(err, "path of a file");
	return file_unlink(
		path, kind == BACKEND_PACK ? "store.pack.remove" : "store.segment.remove", err);
}

/* First the new name is durable, then the old one goes: a power cut leaves the file under one of them at least. */
static int dir_quarantine(struct backend *b, enum backend_kind kind, uint64_t number,
			  const char *name, bool stays, struct err *err)
{
	cleanup_free char *folder = str_printf("%s/quarantine", b->path);
	cleanup_free char *to = str_printf("%s/quarantine/%s", b->path, name);
	cleanup_free char *from = live_path(b, kind, number);
	cleanup_free char *from_folder = folder_path(b, kind, number);
	int r;

	if (!folder || !to || !from || !from_folder)
		return err_nomem(err, "path of a file");
	r = dir_make(folder, 0700, "store.quarantine.make", err);
	/* Also when it was there: who made it may have been killed before this. */
	if (r >= 0)
		r = dir_sync(b->path, "store.quarantine.parent-sync", err);
	if (r >= 0)
		r = stays ? file_link(from, to, "store.quarantine.link", err) :
			    file_rename_new(from, to, "store.quarantine.rename", err);
	if (r == 0)
		r = dir_sync(folder, "store.quarantine.sync", err);
	return r < 0 ? r : dir_sync(from_folder, "store.quarantine.from-sync", err);
}

struct each {
	enum backend_kind kind;
	const char *folder;
	unsigned low; /* low byte of the numbers in this folder */
	bool strays;
	int (*fn)(void *opaque, uint64_t number, struct err *err);
	void *opaque;
};

/* "0000000001ab.pack" or "0000000000000001.seg"; false: another name. */
static bool parse_name(const char *name, enum backend_kind kind, uint64_t *number)
{
	unsigned digits = kind == BACKEND_PACK ? 12 : 16;
	const char *ending = kind == BACKEND_PACK ? ".pack" : ".seg";
	uint64_t v = 0;

	for (unsigned i = 0; i < digits; i++) {
		const char *hex = "0123456789abcdef";
		const char *p = name[i] ? strchr(hex, name[i]) : NULL;

		if (!p)
			return false;
		v = v << 4 | (uint64_t)(p - hex);
	}
	*number = v;
	return !strcmp(name + digits, ending);
}

static int each_name(void *opaque, const char *name, struct err *err)
{
	struct each *e = opaque;
	uint64_t number;

	if (!parse_name(name, e->kind, &number) ||
	    (e->kind == BACKEND_PACK && (number & 0xff) != e->low)) {
		if (e->strays) {
			log_warning("'%s/%s' is no file of a repository; move it away", e->folder,
				    name);
			return 0;
		}
		return err_set(err, ERR_DAMAGED, "'%s/%s' is no file of a repository; move it away",
			       e->folder, name);
	}
	return e->fn(e->opaque, number, err);
}

static int dir_each_number(struct backend *b, enum backend_kind kind, bool strays,
			   int (*fn)(void *opaque, uint64_t number, struct err *err), void *opaque,
			   struct err *err)
{
	cleanup_free char *packs = str_printf("%s/packs", b->path);

	/* Each of its folders may be missing; all of them are when packs/ itself is not there (not mounted). */
	if (!packs)
		return err_nomem(err, "path of a folder");
	if (kind == BACKEND_PACK && access(packs, R_OK | X_OK) < 0)
		return err_set_errno(err, ERR_IO, errno, "cannot list folder '%s'", packs);
	for (unsigned low = 0; low < (kind == BACKEND_PACK ? 256u : 1u); low++) {
		cleanup_free char *folder = folder_path(b, kind, low);
		struct each e = { .kind = kind,
				  .folder = folder,
				  .low = low,
				  .strays = strays,
				  .fn = fn,
				  .opaque = opaque };
		int r;

		if (!folder)
			return err_nomem(err, "path of a folder");
		if (access(folder, F_OK) < 0 && errno == ENOENT && kind == BACKEND_PACK)
			continue;
		r = dir_each(folder, each_name, &e, err);
		if (r)
			return r;
	}
	return 0;
}

static const struct backend_ops dir_ops = {
	.name = "directory",
	.stage_make = dir_stage_make,
	.stage_remove = dir_stage_remove,
	.stage_create = dir_stage_create,
	.write = dir_write,
	.sync = dir_datasync,
	.publish = dir_publish,
	.replace = dir_replace,
	.stage_drop = dir_stage_drop,
	.fixed = dir_fixed,
	.quarantine = dir_quarantine,
	.folder_sync = dir_folder_sync,
	.open = dir_open,
	.read = dir_read,
	.size = dir_size,
	.willneed = dir_willneed,
	.close = dir_close,
	.remove = dir_remove,
	.each = dir_each_number,
};

int backend_dir_open(const char *path, struct backend **out, struct err *err)
{
	struct backend *b = mem_alloc(sizeof(*b));

	if (!b)
		return err_nomem(err, "storage backend");
	b->ops = &dir_ops;
	b->path = str_dup(path);
	if (!b->path) {
		free(b);
		return err_nomem(err, "storage backend");
	}
	*out = b;
	return 0;
}

void backend_close(struct backend *b)
{
	if (!b)
		return;
	free(b->path);
	free(b);
}
