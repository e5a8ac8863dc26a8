// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Log lines to the program's sink.
 *
 * Invariants:
 *  1. A line that reaches the sink holds no control characters: names come from outside, and a
 *     line break in one must not forge a second line.
 *  2. errno is kept.
 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include "base/banned.h"

#define LOG_LINE_MAX 2048

/* Written before other threads exist, read by all. */
static log_sink_fn log_sink;
static void *log_opaque;
static enum log_level log_most;

void log_set_sink(log_sink_fn sink, void *opaque, enum log_level most)
{
	log_sink = sink;
	log_opaque = opaque;
	log_most = most;
}

static void log_line(enum log_level level, const char *fmt, va_list ap)
{
	char line[LOG_LINE_MAX] = "";
	int saved = errno;
	char *c;

	if (!log_sink || level > log_most)
		return;
	vsnprintf(line, sizeof(line), fmt, ap);
	for (c = line; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = *c == '\n' || *c == '\t' ? ' ' : '?';
	log_sink(log_opaque, level, line);
	errno = saved;
}

void log_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(LOG_LEVEL_ERROR, fmt, ap);
	va_end(ap);
}

void log_warning(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(LOG_LEVEL_WARNING, fmt, ap);
	va_end(ap);
}

void log_info(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(LOG_LEVEL_INFO, fmt, ap);
	va_end(ap);
}

void log_debug(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(LOG_LEVEL_DEBUG, fmt, ap);
	va_end(ap);
}
