// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Source: a stream (standard input), whose size is known at its end.
 *
 * How it works: pass_stream() takes what comes, in whole buffers; the session finds the zeroes.  The descriptor stays as it
 * was given (others may share it, so no O_NONBLOCK): poll(2) comes before each read, and a read after it takes what is there.
 *
 * Invariant: a stop is answered within 0.2 s, however silent the writer is.
 */
#include "ingest/internal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

#include "base/banned.h"

#define STREAM_POLL_MS 200

struct source_stream {
	struct source base;
	int fd; /* borrowed */
};

static void stream_close(struct source *s)
{
	free(container_of(s, struct source_stream, base));
}

static const struct source_ops stream_ops = { .close = stream_close };

int source_stream_open(int fd, const char *where, const volatile int *stop, struct source **out,
		       struct err *err)
{
	struct source_stream *s;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set_errno(err, ERR_SOURCE, errno, "cannot read standard input");
	if (S_ISDIR(st.st_mode) || isatty(fd))
		return err_set(err, ERR_SOURCE, "standard input is %s, not the stream of a disk",
			       S_ISDIR(st.st_mode) ? "a folder" : "a terminal");
	s = mem_alloc(sizeof(*s));
	if (!s)
		return err_nomem(err, "a source");
	s->fd = fd;
	s->base = (struct source){ .ops = &stream_ops,
				   .where = str_dup(where),
				   .stop = stop,
				   .size = SIZE_UNKNOWN,
				   .readable = SIZE_UNKNOWN,
				   .granule = SOURCE_GRANULE,
				   .max_request = SESSION_BUFFER,
				   .depth = 1 };
	*out = &s->base;
	return 0;
}

ssize_t source_stream_next(struct source *base, void *p, size_t n, struct err *err)
{
	struct source_stream *s = container_of(base, struct source_stream, base);
	size_t done = 0;

	while (done < n) {
		struct pollfd fd = { .fd = s->fd, .events = POLLIN };
		int ready, r = ingest_stopped(base->stop, err);
		ssize_t got;

		if (r < 0)
			return r;
		ready = poll(&fd, 1, STREAM_POLL_MS);
		if (ready < 0 && errno != EINTR)
			return err_set_errno(err, ERR_SOURCE, errno,
					     "cannot wait for standard input");
		if (ready <= 0)
			continue;
		got = file_read_some(s->fd, (uint8_t *)p + done, n - done, "standard input", err);
		if (got < 0)
			return err_recode(err, ERR_SOURCE);
		if (!got)
			break;
		done += (size_t)got;
	}
	return (ssize_t)done;
}
