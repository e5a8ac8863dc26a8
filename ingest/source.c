// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * What all sources share: opening WHERE by what it is, the remembered extent, reading at once.
 *
 * Invariants:
 *  1. A source that is not understood is refused, never guessed: a folder and the kinds of later issues by name.
 *  2. Images are opened by a helper process (source-image.c); no foreign format is parsed in this process.
 */
#include "ingest/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/banned.h"

int ingest_stopped(const volatile int *stop, struct err *err)
{
	int code = stop ? *stop : 0;

	return code ? err_set(err, code, "the backup was stopped: nothing is published") : 0;
}

static int refuse_kind(const char *where, struct err *err)
{
	static const char *const later[] = { "libvirt:", "rbd:" };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(later); i++) {
		if (!str_starts(where, later[i]))
			continue;
		err_set(err, ERR_UNSUPPORTED, "source '%s': this version cannot read %s sources",
			where, later[i]);
		return err_object(err, "%s", where);
	}
	return 0;
}

static int open_path(const char *where, const struct source_options *o, struct source **out,
		     struct err *err)
{
	const char *format = o->format ? image_format(o->format) : NULL;
	struct stat st;

	if (o->format && !format)
		return err_set(err, ERR_USAGE,
			       "'%s' is no image format (raw, qcow2, vmdk, vhdx, vdi, vpc)",
			       o->format);
	if (stat(where, &st) < 0) {
		err_set_errno(err, ERR_SOURCE, errno, "cannot open source '%s'", where);
		return err_object(err, "%s", where);
	}
	if (S_ISDIR(st.st_mode)) {
		err_set(err, ERR_UNSUPPORTED,
			"source '%s' is a folder: this version backs up disks, not trees", where);
		return err_object(err, "%s", where);
	}
	if (!format)
		format = S_ISREG(st.st_mode) ? image_format_of_path(where) : "raw";
	if (strcmp(format, "raw") == 0)
		return source_file_open(where, o->stop, out, err);
	/* QEMU's tools would wait for the other end of a pipe. */
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		err_set(err, ERR_SOURCE, "image '%s' is neither a file nor a block device", where);
		return err_object(err, "%s", where);
	}
	return source_image_open(where, format, o->allow_backing, o->stop, out, err);
}

int source_open(const char *where, const struct source_options *o, struct source **out,
		struct err *err)
{
	int r;

	if (strcmp(where, "-") == 0)
		return source_stream_open(STDIN_FILENO, where, o->stop, out, err);
	if (where_is_nbd(where))
		return source_nbd_open(where, where, NULL, o->stop, out, err);
	if (access(where, F_OK) != 0) {
		r = refuse_kind(where, err);
		if (r < 0)
			return r;
	}
	return open_path(where, o, out, err);
}

void source_close(struct source *s)
{
	if (!s)
		return;
	free(s->where);
	free(s->note);
	s->where = s->note = NULL;
	s->ops->close(s);
}

int source_extent(struct source *s, uint64_t offset, struct source_extent *out, struct err *err)
{
	if (offset < s->last.start || offset >= s->last.end) {
		int r = s->ops->extent(s, offset, &s->last, err);

		if (r < 0) {
			s->last.start = s->last.end = 0;
			return r;
		}
	}
	*out = s->last;
	return 0;
}

int source_read(struct source *s, void *p, size_t n, uint64_t offset, struct err *err)
{
	size_t done = 0;

	while (done < n) {
		struct source_piece piece = { .offset = offset + done,
					      .n = MIN(n - done, (size_t)s->max_request),
					      .p = (uint8_t *)p + done };
		int r;

		if (s->ops->start)
			s->ops->start(s, &piece);
		r = s->ops->wait(s, &piece, err);
		if (r < 0) {
			/* A stop leaves the request with the server: it must not write here once we return. */
			if (piece.state == PIECE_UNDER_WAY && s->ops->cancel)
				s->ops->cancel(s);
			return r;
		}
		done += piece.n;
	}
	return 0;
}
