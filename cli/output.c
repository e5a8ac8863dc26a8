// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Output: sizes, times, JSON and messages.  Tables are in cli/table.c.
 *
 * A write to standard output that fails is found by out_check(): commands that print much call it, and
 * main() does at the end, so that a full disk behind ">" is never a success.
 */
#include "cli/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/banned.h"

void out_size(char dst[SIZE_TEXT_MAX], uint64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double v = (double)bytes;
	unsigned i = 0;

	while (v >= 1024 && i + 1 < ARRAY_SIZE(units)) {
		v /= 1024;
		i++;
	}
	snprintf(dst, SIZE_TEXT_MAX, i == 0 || v >= 1000 ? "%.0f %s" : "%.1f %s", v, units[i]);
}

void out_local_time(char dst[TIME_TEXT_MAX], int64_t t)
{
	time_t when = (time_t)t;
	struct tm tm;

	if (!localtime_r(&when, &tm) || strftime(dst, TIME_TEXT_MAX, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		time_format(dst, t);
}

void out_duration(char dst[TIME_TEXT_MAX], double seconds)
{
	uint64_t s = (uint64_t)(seconds + 0.5);

	if (seconds < 59.95)
		snprintf(dst, TIME_TEXT_MAX, "%.1f s", seconds);
	else if (s < 3600)
		snprintf(dst, TIME_TEXT_MAX, "%u min %02u s", (unsigned)(s / 60),
			 (unsigned)(s % 60));
	else
		snprintf(dst, TIME_TEXT_MAX, "%llu h %02u min", (unsigned long long)(s / 3600),
			 (unsigned)(s / 60 % 60));
}

char *out_clean(char *s)
{
	char *p;

	for (p = s; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	return s;
}

/* --- messages on standard error --- */

/* Colour only where a person looks and did not forbid it (no-color.org). */
static bool err_coloured(void)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return !(no && *no) && term && strcmp(term, "dumb") != 0 && isatty(STDERR_FILENO);
}

/* One line in one write, so that lines of threads do not mix. */
static void err_line(const char *colour, const char *word, const char *text)
{
	char line[ERR_TEXT_MAX + 256];
	bool coloured = colour && err_coloured();

	snprintf(line, sizeof(line), "livepoint: %s%s%s%s%s", coloured ? colour : "", word,
		 coloured ? "\033[0m" : "", *word ? " " : "", text);
	if (!coloured)
		out_clean(line);
	progress_clear();
	fprintf(stderr, "%s\n", line);
}

static void err_json(struct jval *v)
{
	cleanup_ptr(jval) doc = v;
	cleanup_buf struct buf text = BUF_INIT;

	if (jval_print(doc, false, &text, NULL) < 0)
		return;
	progress_clear();
	fprintf(stderr, "%s\n", buf_str(&text));
}

void out_warning(const struct cli *cli, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	struct jval *v;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (!cli->json) {
		err_line("\033[33m", "warning:", out_clean(text));
		return;
	}
	v = jval_object();
	jval_set(v, "type", jval_str("warning"));
	jval_set(v, "message", jval_str(text));
	err_json(v);
}

void out_note(const struct cli *cli, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;

	if (cli->quiet || cli->json)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	progress_clear();
	fprintf(stderr, "%s\n", out_clean(text));
}

void out_error(bool json, const struct err *err)
{
	const char *text = err->text[0] ? err->text : err_code_sentence(err->code);
	struct jval *v;
	char line[ERR_TEXT_MAX];

	if (!json) {
		str_copy(line, sizeof(line), text);
		err_line(NULL, "", out_clean(line));
		return;
	}
	v = jval_object();
	jval_set(v, "type", jval_str("error"));
	jval_set(v, "code", jval_str(err_code_name(err->code)));
	jval_set(v, "message", jval_str(text));
	jval_set(v, "object", jval_str(err->object[0] ? err->object : NULL));
	err_json(v);
}

/* --- JSON on standard output --- */

static bool out_pipe_broken;

int out_check(struct err *err)
{
	if (!ferror(stdout))
		return 0;
	out_pipe_broken = out_pipe_broken || errno == EPIPE;
	return err_set(err, ERR_IO, "writing standard output: %s",
		       out_pipe_broken ? "the reader has gone" : "failed");
}

int out_flush(struct err *err)
{
	if (!ferror(stdout) && fflush(stdout) == 0)
		return 0;
	out_pipe_broken = out_pipe_broken || errno == EPIPE;
	if (ferror(stdout) && out_pipe_broken)
		return out_check(err);
	return err_set_errno(err, ERR_IO, errno, "writing standard output");
}

bool out_broken_pipe(void)
{
	return out_pipe_broken;
}

static int json_write(struct jval *v, bool pretty, const char *before, const char *after,
		      struct err *err)
{
	cleanup_ptr(jval) doc = v;
	cleanup_buf struct buf text = BUF_INIT;
	int r;

	/* without a value, too: what was lost is told, and forgotten before the error is printed */
	r = jval_print(doc, pretty, &text, err);
	if (r < 0)
		return r;
	progress_clear();
	errno = 0;
	if (fputs(before, stdout) < 0 || fwrite(text.data, 1, text.len, stdout) != text.len ||
	    fputs(after, stdout) < 0)
		return out_check(err);
	return 0;
}

int out_json(struct jval *v, struct err *err)
{
	return json_write(v, true, "", "\n", err);
}

int out_json_line(struct jval *v, struct err *err)
{
	int r = json_write(v, false, "", "\n", err);

	return r < 0 ? r : out_flush(err);
}

int out_array_item(struct out_array *a, struct jval *v, struct err *err)
{
	const char *before = a->begun ? ",\n " : "[\n ";

	a->begun = true;
	return json_write(v, false, before, "", err);
}

int out_array_end(struct out_array *a, struct err *err)
{
	errno = 0;
	if (fputs(a->begun ? "\n]\n" : "[]\n", stdout) < 0)
		return out_check(err);
	return 0;
}

struct jval *json_id(const uint8_t *id, size_t n)
{
	char hex[2 * ID_LEN + 1];

	if (!id || n > ID_LEN)
		return jval_null();
	hex_encode(hex, id, n);
	return jval_str(hex);
}

struct jval *json_time(int64_t t)
{
	char text[TIME_TEXT_MAX];

	time_format(text, t);
	return jval_str(text);
}

struct jval *json_hold(const char *reason, int64_t until)
{
	struct jval *v = jval_object();

	jval_set(v, "reason", reason[0] ? jval_str(reason) : jval_null());
	jval_set(v, "until", until ? json_time(until) : jval_null());
	return v;
}
