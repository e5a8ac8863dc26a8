// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Source: a raw file or a block device.
 *
 * How it works: holes by SEEK_HOLE and SEEK_DATA (where the file system has them), data by large reads straight into the
 * session's buffers.  The kernel is told that reading is sequential.
 *
 * Invariants:
 *  1. A hole is believed only below the size that the file has at that moment: what a shrunk file no longer has is an
 *     error and never zeroes.
 *  2. A regular file whose size, time of change or time of content differs after the last read was changed while read.
 *
 * Fault point: "ingest.file.read" (eio).
 */
#include "ingest/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"

#include "base/banned.h"

struct source_file {
	struct source base;
	int fd;
	bool no_seek; /* SEEK_HOLE and SEEK_DATA do not work here */
	struct stat before;
};

static struct source_file *file_of(struct source *s)
{
	return container_of(s, struct source_file, base);
}

/* Notes a file that has become shorter; true if it has. */
static bool note_shrunk(struct source_file *f)
{
	struct stat st;

	if (!S_ISREG(f->before.st_mode) || fstat(f->fd, &st) < 0 ||
	    (uint64_t)st.st_size >= f->base.size)
		return false;
	f->base.readable = MIN(f->base.readable, (uint64_t)st.st_size);
	return true;
}

/* The end of the hole or data that begins at offset, or a negative errno value.  ENXIO: nothing but hole follows. */
static int64_t seek_from(struct source_file *f, uint64_t offset, int whence)
{
	off_t at = lseek(f->fd, (off_t)offset, whence);

	return at < 0 ? -errno : at;
}

static int file_extent(struct source *s, uint64_t offset, struct source_extent *out,
		       struct err *err)
{
	struct source_file *f = file_of(s);
	uint64_t grid = ~(uint64_t)(s->granule - 1);
	int64_t at;

	(void)err;
	*out = (struct source_extent){ .start = offset, .end = s->size };
	if (f->no_seek || offset >= s->readable)
		return 0; /* data: reading says what is wrong */
	at = seek_from(f, offset, SEEK_DATA);
	if (at == -ENXIO) {
		out->hole = !note_shrunk(f); /* invariant 1 */
		return 0;
	}
	if (at < 0) {
		f->no_seek = true;
		return 0;
	}
	if (((uint64_t)at & grid) > offset) {
		out->hole = true;
		out->end = MIN((uint64_t)at & grid, s->size);
		return 0;
	}
	at = seek_from(f, (uint64_t)at, SEEK_HOLE);
	if (at > (int64_t)offset)
		out->end = MIN(round_up_u64((uint64_t)at, s->granule), s->size);
	return 0;
}

static int file_shrank(struct source *s, struct err *err)
{
	err_set(err, ERR_SOURCE, "source '%s' shrank from %llu to %llu bytes while it was read",
		s->where, (unsigned long long)s->size, (unsigned long long)s->readable);
	return err_object(err, "%s", s->where);
}

static int file_wait(struct source *s, struct source_piece *p, struct err *err)
{
	struct source_file *f = file_of(s);
	int fault = fault_hit("ingest.file.read");
	ssize_t got;

	p->state = PIECE_FAILED;
	if (fault) {
		err_set_errno(err, ERR_SOURCE, fault > 0 ? fault : EIO,
			      "cannot read '%s' at offset %llu", s->where,
			      (unsigned long long)p->offset);
		return err_recode(err, ERR_SOURCE);
	}
	if (p->offset >= s->readable)
		return file_shrank(s, err);
	got = file_pread_some(f->fd, p->p, p->n, p->offset, s->where, err);
	if (got < 0)
		return err_recode(err, ERR_SOURCE);
	if ((size_t)got < p->n) {
		s->readable = MIN(s->readable, p->offset + (uint64_t)got);
		return file_shrank(s, err);
	}
	p->state = PIECE_DONE;
	return 0;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static int file_check(struct source *s, struct err *err)
{
	struct source_file *f = file_of(s);
	struct stat now;

	if (!S_ISREG(f->before.st_mode))
		return 0;
	if (fstat(f->fd, &now) < 0)
		return err_set_errno(err, ERR_SOURCE, errno, "cannot look at '%s' again", s->where);
	if (note_shrunk(f))
		return file_shrank(s, err);
	if (now.st_size == f->before.st_size && same_time(&now.st_mtim, &f->before.st_mtim))
		return 0;
	err_set(err, ERR_SOURCE,
		"'%s' was changed while it was read: the point may mix old and new content",
		s->where);
	return 1;
}

static void file_close(struct source *s)
{
	struct source_file *f = file_of(s);

	close(f->fd);
	free(f);
}

static const struct source_ops file_ops = {
	.extent = file_extent,
	.wait = file_wait,
	.check = file_check,
	.close = file_close,
};

int source_file_open(const char *path, const volatile int *stop, struct source **out,
		     struct err *err)
{
	/* O_NONBLOCK: a pipe with a name is refused below, not waited for. */
	cleanup_fd int fd = file_open(path, O_RDONLY | O_NONBLOCK, 0, err);
	cleanup_free struct source_file *f = mem_alloc(sizeof(*f));
	uint64_t size;
	int r;

	if (fd < 0)
		return err_recode(err, ERR_SOURCE);
	if (!f)
		return err_nomem(err, "a source");
	r = file_size(fd, &size, path, err);
	if (r < 0)
		return err_recode(err, ERR_SOURCE);
	if (fstat(fd, &f->before) < 0)
		return err_set_errno(err, ERR_SOURCE, errno, "cannot look at '%s'", path);
	posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	f->base = (struct source){ .ops = &file_ops,
				   .where = str_dup(path),
				   .stop = stop,
				   .size = size,
				   .readable = size,
				   .granule = SOURCE_GRANULE,
				   .max_request = SESSION_BUFFER,
				   .depth = 1 };
	if (!f->base.where)
		return err_nomem(err, "a source");
	f->fd = steal_fd(&fd);
	*out = &steal_ptr(f)->base;
	return 0;
}
