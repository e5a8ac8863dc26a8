// SPDX-License-Identifier: GPL-3.0-or-later
/* livepoint verify --boot: points are booted, and what is seen is kept with them. */
#include "cli/internal.h"

#include <stdlib.h>

#include "recover/recover.h"

#include "base/banned.h"

#define TIMEOUT_DEFAULT 300 /* seconds */

struct boot_view {
	const struct cli *cli;
	size_t failed;
};

static void note(void *opaque, const char *line)
{
	struct boot_view *v = opaque;

	out_note(v->cli, "%s", line);
}

static int copy_member(void *opaque, const char *key, const struct jval *v)
{
	struct jval *o = opaque, *copy = NULL;
	cleanup_buf struct buf text = BUF_INIT;

	if (jval_print(v, false, &text, NULL) == 0 &&
	    jval_parse((const char *)text.data, text.len, &copy, NULL) == 0)
		jval_set(o, key, copy);
	return 0;
}

static void done(void *opaque, const struct boot_result *r)
{
	struct boot_view *v = opaque;
	cleanup_free char *line = NULL;
	struct jval *o;

	v->failed += !r->passed;
	if (!v->cli->json) {
		line = str_printf("%s: %s: %s", r->point, r->passed ? "boots" : "boot failed",
				  r->seen);
		printf("%s\n", line ? out_clean(line) : r->point);
		fflush(stdout);
		return;
	}
	o = jval_object();
	jval_set(o, "type", jval_str("boot"));
	jval_set(o, "point", jval_str(r->point));
	jval_each(r->verdict, copy_member, o);
	jval_set(o, "screenshot", jval_bool(r->png_len > 0));
	out_json_line(o, NULL);
}

/* The newest point of every name. */
static int add_all(struct repo *repo, char ***out, size_t *count, struct err *err)
{
	struct point_filter filter = { .newest_first = true };
	struct point_list list = { 0 };
	size_t n = 0, i, k;
	char **texts;
	int code = repo_points(repo, &filter, &list, err);

	if (code < 0)
		return code;
	texts = mem_alloc_array(list.count + 1, sizeof(*texts));
	if (!texts)
		code = err_nomem(err, "points");
	for (i = 0; code == 0 && i < list.count; i++) {
		for (k = 0; k < i && strcmp(list.rows[k].m->name, list.rows[i].m->name) != 0; k++)
			;
		if (k < i)
			continue;
		texts[n] = str_dup(list.rows[i].m->name);
		if (!texts[n++])
			code = err_nomem(err, "points");
	}
	point_list_release(&list);
	*out = texts;
	*count = n;
	return code;
}

static int read_wait(const char *text, struct boot_spec *spec, struct err *err)
{
	uint64_t seconds;

	if (!text)
		return 0;
	if (strcmp(text, "agent") == 0) {
		spec->wait = BOOT_WAIT_AGENT;
		return 0;
	}
	if (parse_u64(text, &seconds)) {
		spec->wait = BOOT_WAIT_SECONDS;
		spec->seconds = (unsigned)MIN(seconds, (uint64_t)UINT32_MAX);
		if (spec->seconds < 1 || spec->seconds >= spec->timeout)
			return err_set(err, ERR_USAGE,
				       "--wait %s: 1 or more, and below --timeout (%u)", text,
				       spec->timeout);
		return 0;
	}
	if (strlen(text) > BOOT_MARKER_MAX || str_ends(text, " "))
		return err_set(err, ERR_USAGE,
			       "--wait: a marker has at most %d bytes and no blank at its end",
			       BOOT_MARKER_MAX);
	spec->wait = BOOT_WAIT_MARKER;
	spec->marker = text;
	return 0;
}

static int read_spec(const struct cli *cli, struct boot_spec *spec, struct err *err)
{
	const struct options *o = &cli->opt;
	uint64_t timeout = opt_number(o, O_TIMEOUT, TIMEOUT_DEFAULT);
	uint64_t parallel = opt_number(o, O_PARALLEL, 1);

	if (opt_given(o, O_DATA) || opt_given(o, O_SAMPLE) || opt_given(o, O_SINCE_VERIFIED) ||
	    opt_given(o, O_IO_LIMIT) || opt_given(o, O_LEFTOVERS))
		return err_set(err, ERR_USAGE, "--boot checks nothing else");
	if (opt_given(o, O_EXPECT) && !opt_given(o, O_EXEC))
		return err_set(err, ERR_USAGE, "--expect goes with --exec");
	if (timeout < 1 || timeout > 86400)
		return err_set(err, ERR_USAGE, "--timeout: a second to a day");
	if (parallel < 1 || parallel > BOOT_PARALLEL_MAX)
		return err_set(err, ERR_USAGE, "--parallel: 1 to %d", BOOT_PARALLEL_MAX);
	spec->timeout = (unsigned)timeout;
	spec->parallel = (unsigned)parallel;
	spec->connect = opt_text(o, O_CONNECT);
	spec->exec = opt_text(o, O_EXEC);
	spec->expect = opt_text(o, O_EXPECT);
	spec->memory = opt_number(o, O_MEMORY, 0);
	spec->done = done;
	spec->note = note;
	spec->stop = &cli_stop;
	return read_wait(opt_text(o, O_WAIT), spec, err);
}

static int summary(const struct boot_view *v, size_t points, double seconds, struct err *err)
{
	struct jval *o;

	if (!v->cli->json)
		return out_check(err);
	o = jval_object();
	jval_set(o, "type", jval_str("summary"));
	jval_set(o, "kind", jval_str("boot"));
	jval_set(o, "points", jval_uint(points));
	jval_set(o, "failed", jval_uint(v->failed));
	jval_set(o, "seconds", jval_real(seconds));
	return out_json_line(o, err);
}

static int boot_points(struct cli *cli, struct repo *repo, struct boot_spec *spec, struct err *err)
{
	struct boot_view view = { .cli = cli };
	struct err more = ERR_INIT;
	uint64_t begun = time_mono_ns();
	int code, s;

	spec->opaque = &view;
	cli_stop_patiently = true;
	code = recover_boot(repo, spec, err);
	if (code < 0 && code != ERR_FAILED && code != ERR_DAMAGED)
		return code;
	s = summary(&view, spec->npoints, (double)(time_mono_ns() - begun) / 1e9, &more);
	if (code == 0 && s < 0) {
		*err = more;
		return s;
	}
	return code;
}

int cmd_verify_boot(struct cli *cli, struct err *err)
{
	struct boot_spec spec = { .points = cli->opt.args, .npoints = cli->opt.nargs };
	cleanup_ptr(repo) repo = NULL;
	char **all = NULL;
	size_t count = 0, i;
	int code = read_spec(cli, &spec, err);

	if (code == 0)
		code = cli_repo_open(cli, REPO_WRITE, KEY_NEEDED, false, &repo, err);
	if (code == 0 && spec.npoints == 0) {
		code = add_all(repo, &all, &count, err);
		spec.points = (const char *const *)all;
		spec.npoints = count;
	}
	if (code == 0)
		code = boot_points(cli, repo, &spec, err);
	for (i = 0; i < count; i++)
		free(all[i]);
	free(all);
	return code;
}
