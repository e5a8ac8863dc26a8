// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Progress: one refreshing line on a terminal, a line every few seconds elsewhere, an object a second
 * with --json, nothing with -q; SIGUSR1 asks for one now, whatever the settings.
 *
 * Invariants:
 *  1. The refreshing line is wiped before anything else is printed (progress_clear).
 *  2. Asking costs a clock read per call; printing happens at most ten times a second.
 */
#include "cli/internal.h"

#include <stdatomic.h>
#include <unistd.h>

#include "base/banned.h"

#define NS_PER_S 1000000000ull
#define TERMINAL_PERIOD_NS (NS_PER_S / 10)
#define LINE_PERIOD_NS (5 * NS_PER_S)
#define JSON_PERIOD_NS NS_PER_S
#define RATE_PERIOD_NS (NS_PER_S / 2)
#define RATE_WEIGHT 0.3 /* of the newest sample */

/* A refreshing line stands on the terminal.  Warnings of worker threads wipe it too. */
static atomic_bool line_stands;

void progress_clear(void)
{
	if (atomic_exchange(&line_stands, false))
		fputs("\r\033[K", stderr);
}

void progress_begin(struct progress_view *v, const struct cli *cli)
{
	*v = (struct progress_view){ .cli = cli };
	v->terminal = isatty(STDERR_FILENO) != 0;
	v->begun_ns = v->phase_ns = time_mono_ns();
	v->shown_ns = v->begun_ns;
	v->rate_ns = v->begun_ns;
}

void progress_end(struct progress_view *v)
{
	(void)v;
	progress_clear();
}

/* Notes a new phase, and smooths the rate of this one. */
static void progress_sample(struct progress_view *v, const struct progress *p, uint64_t now)
{
	const char *phase = p->phase ? p->phase : "";
	double seconds = (double)(now - v->rate_ns) / 1e9, rate;

	if (strcmp(phase, v->phase) != 0 || p->done < v->rate_done) {
		str_copy(v->phase, sizeof(v->phase), phase);
		v->phase_ns = v->rate_ns = now;
		v->rate_done = p->done;
		v->rate = 0;
		return;
	}
	if (now - v->rate_ns < RATE_PERIOD_NS)
		return;
	rate = (double)(p->done - v->rate_done) / seconds;
	v->rate = v->rate > 0 ? RATE_WEIGHT * rate + (1 - RATE_WEIGHT) * v->rate : rate;
	v->rate_ns = now;
	v->rate_done = p->done;
}

static void progress_text(const struct progress_view *v, const struct progress *p, struct buf *out)
{
	char done[SIZE_TEXT_MAX], total[SIZE_TEXT_MAX], rate[SIZE_TEXT_MAX], left[TIME_TEXT_MAX];

	out_size(done, p->done);
	out_size(rate, (uint64_t)v->rate);
	buf_printf(out, "%s  %s", v->phase, done);
	if (p->total != UINT64_MAX) {
		out_size(total, p->total);
		buf_printf(out, " / %s  %.0f %%", total,
			   p->total ? 100.0 * (double)p->done / (double)p->total : 100.0);
	}
	buf_printf(out, "  %s/s", rate);
	if (p->total != UINT64_MAX && p->total >= p->done && v->rate > 0) {
		out_duration(left, (double)(p->total - p->done) / v->rate);
		buf_printf(out, "  %s left", left);
	}
}

static void progress_json(const struct progress_view *v, const struct progress *p, uint64_t now)
{
	struct jval *o = jval_object();
	bool known = p->total != UINT64_MAX;

	jval_set(o, "type", jval_str("progress"));
	jval_set(o, "phase", jval_str(v->phase));
	jval_set(o, "done", jval_uint(p->done));
	jval_set(o, "total", known ? jval_uint(p->total) : jval_null());
	jval_set(o, "stored", jval_uint(p->stored));
	jval_set(o, "rate", jval_uint((uint64_t)v->rate));
	jval_set(o, "seconds", jval_real((double)(now - v->begun_ns) / 1e9));
	/* a reader that has gone is found when the summary is written */
	out_json_line(o, NULL);
}

void progress_show(void *opaque, const struct progress *p)
{
	struct progress_view *v = opaque;
	cleanup_buf struct buf text = BUF_INIT;
	uint64_t now = time_mono_ns(), period;
	bool asked = cli_progress_wanted != 0;

	progress_sample(v, p, now);
	period = v->cli->json ? JSON_PERIOD_NS : v->terminal ? TERMINAL_PERIOD_NS : LINE_PERIOD_NS;
	if (!asked && (v->cli->quiet || now - v->shown_ns < period))
		return;
	cli_progress_wanted = 0;
	v->shown_ns = now;
	if (v->cli->json) {
		progress_json(v, p, now);
		return;
	}
	progress_text(v, p, &text);
	out_clean((char *)(uintptr_t)buf_str(&text));
	if (v->terminal && !v->cli->quiet) {
		fprintf(stderr, "\r%s\033[K", buf_str(&text));
		atomic_store(&line_stands, true);
	} else {
		fprintf(stderr, "%s\n", buf_str(&text));
	}
	fflush(stderr);
}
