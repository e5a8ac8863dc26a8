/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Log: libraries never print; they hand one line to the program's sink, which decides.
 * Any thread; the sink must be able to take calls from any thread.  Without a sink lines are dropped.
 */
#ifndef LIVEPOINT_BASE_LOG_H
#define LIVEPOINT_BASE_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* line: one sentence without newline, borrowed until the sink returns. */
typedef void (*log_sink_fn)(void *opaque, enum log_level level, const char *line);

/* Call before other threads exist. */
void log_set_sink(log_sink_fn sink, void *opaque, enum log_level most);
void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
