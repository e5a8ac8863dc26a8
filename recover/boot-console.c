// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The console of a guest that is booted for proof: a file that QEMU, or libvirt's virtlogd, writes.
 *
 * A line ends with a newline, or where the console stands still for a second: a login prompt has no newline.
 *
 * Invariant: a guest is not trusted: what is kept has bounds, and is printable ASCII.
 */
#include "recover/boot-internal.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"

#include "base/banned.h"

#define PIECE 65536
#define PIECES_MAX 64 /* at a time */
#define STILL_NS UINT64_C(1000000000)
#define ESC 0x1b

static bool line_fits(const struct console *c)
{
	size_t n = c->len, m = c->marker ? strlen(c->marker) : 0;

	while (n > 0 && c->line[n - 1] == ' ')
		n--;
	return m > 0 && n >= m && memcmp(c->line + n - m, c->marker, m) == 0;
}

static void keep(char dst[CONSOLE_LINE_MAX + 1], const struct console *c)
{
	snprintf(dst, CONSOLE_LINE_MAX + 1, "%.*s", (int)MIN(c->len, (size_t)CONSOLE_LINE_MAX),
		 c->line);
}

static void line_end(struct console *c)
{
	if (line_fits(c))
		c->met = true;
	if (c->len > 0)
		keep(c->lines[c->count++ % CONSOLE_LINES], c);
	c->len = 0;
}

/* True for a byte of a control sequence (ECMA-48), which is passed over. */
static bool in_escape(struct console *c, uint8_t byte)
{
	if (c->escape == 0 && byte != ESC)
		return false;
	if (byte == ESC)
		c->escape = 1;
	else if (c->escape == 1)
		c->escape = byte == '[' ? 2 : 0;
	else if (byte >= 0x40 && byte <= 0x7e)
		c->escape = 0;
	return true;
}

static void put(struct console *c, uint8_t byte)
{
	if (byte == '\n') {
		c->escape = 0;
		line_end(c);
		return;
	}
	if (in_escape(c, byte) || byte == '\r' || byte == 0)
		return;
	if (c->len == sizeof(c->line)) {
		c->len /= 2;
		memmove(c->line, c->line + sizeof(c->line) - c->len, c->len);
	}
	c->line[c->len++] = byte >= ' ' && byte < 0x7f ? (char)byte : '?';
}

/* A file that was turned over, or cut, is read from its beginning. */
static int open_console(struct console *c, int *fd, struct err *err)
{
	struct err local = ERR_INIT;
	struct stat st;
	int opened = file_open(c->path, O_RDONLY, 0, &local);

	*fd = opened < 0 ? -1 : opened;
	if (opened == ERR_NOT_FOUND)
		return 0;
	if (opened < 0 || fstat(opened, &st) < 0) {
		*err = local;
		return opened < 0 ? opened : err_set(err, ERR_IO, "'%s'", c->path);
	}
	if ((uint64_t)st.st_ino != c->inode || (uint64_t)st.st_size < c->at)
		c->at = 0;
	c->inode = (uint64_t)st.st_ino;
	return 0;
}

int console_read(struct console *c, struct err *err)
{
	cleanup_fd int fd = -1;
	uint8_t piece[PIECE];
	unsigned i;
	int code = open_console(c, &fd, err);

	for (i = 0; code == 0 && fd >= 0 && i < PIECES_MAX; i++) {
		ssize_t n = file_pread_some(fd, piece, sizeof(piece), c->at, c->path, err), k;

		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		for (k = 0; k < n; k++)
			put(c, piece[k]);
		c->at += (uint64_t)n;
		c->bytes += (uint64_t)n;
		c->last = time_mono_ns();
	}
	if (code == 0 && time_mono_ns() - c->last > STILL_NS && line_fits(c))
		c->met = true;
	return code;
}

struct jval *console_json(const struct console *c)
{
	struct jval *array = jval_array();
	char open[CONSOLE_LINE_MAX + 1];
	size_t i = c->count > CONSOLE_LINES ? c->count - CONSOLE_LINES : 0;

	for (; i < c->count; i++)
		jval_append(array, jval_str(c->lines[i % CONSOLE_LINES]));
	keep(open, c);
	if (open[0])
		jval_append(array, jval_str(open));
	return array;
}
