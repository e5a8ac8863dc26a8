// SPDX-License-Identifier: GPL-3.0-or-later
/* livepoint benchmark: the figures of repo/benchmark.h as a table or JSON. */
#include "repo/benchmark.h"

#include "cli/internal.h"

#include <stdlib.h>

#include "base/banned.h"

#define SECONDS_MAX 60

static double mib_per_second(const struct benchmark_row *row)
{
	return row->seconds > 0 ? (double)row->bytes / (double)MiB / row->seconds : 0;
}

static int benchmark_json(const struct benchmark_spec *spec, const struct benchmark_row *rows,
			  size_t count, struct err *err)
{
	struct jval *o = jval_object(), *list = jval_array();
	size_t i;

	for (i = 0; i < count; i++) {
		struct jval *v = jval_object();

		jval_set(v, "name", jval_str(rows[i].name));
		jval_set(v, "what", jval_str(rows[i].what));
		jval_set(v, "bytes", jval_uint(rows[i].bytes));
		jval_set(v, "seconds", jval_real(rows[i].seconds));
		jval_set(v, "rate", jval_uint((uint64_t)(mib_per_second(&rows[i]) * (double)MiB)));
		jval_set(v, "ratio", rows[i].ratio > 0 ? jval_real(rows[i].ratio) : jval_null());
		jval_append(list, v);
	}
	jval_set(o, "path", jval_str(spec->dir));
	jval_set(o, "chunk_size", jval_uint(spec->chunk_size));
	jval_set(o, "rows", list);
	return out_json(o, err);
}

static int benchmark_text(const struct cli *cli, const struct benchmark_spec *spec,
			  const struct benchmark_row *rows, size_t count, struct err *err)
{
	static const char *const heads[] = { "WHAT", ">MiB/S", ">RATIO", "REMARK" };
	cleanup_ptr(table) t = NULL;
	char chunk[SIZE_TEXT_MAX];
	size_t i;
	int r = table_new(heads, ARRAY_SIZE(heads), &t, err);

	if (r < 0)
		return r;
	for (i = 0; i < count; i++) {
		table_cell(t, "%s", rows[i].name);
		table_cell(t, "%.0f", mib_per_second(&rows[i]));
		if (rows[i].ratio > 0)
			table_cell(t, "%.2f", rows[i].ratio);
		else
			table_cell(t, "-");
		table_cell(t, "%s", rows[i].what);
	}
	out_size(chunk, spec->chunk_size);
	out_note(cli, "one thread, made-up data in chunks of %s, disk in '%s'", chunk, spec->dir);
	return table_print(t, err);
}

/* The repository's folder and chunk size, if one is named. */
static int benchmark_place(const struct cli *cli, struct benchmark_spec *spec, struct repo **repo,
			   struct err *err)
{
	bool named = opt_given(&cli->opt, O_REPOSITORY) || getenv("LIVEPOINT_REPOSITORY");
	int r;

	spec->dir = opt_given(&cli->opt, O_PATH) ? opt_text(&cli->opt, O_PATH) : ".";
	spec->chunk_size = CHUNK_SIZE_DEFAULT;
	if (!named)
		return 0;
	r = cli_repo_open(cli, REPO_READ, KEY_NOT_USED, false, repo, err);
	if (r < 0)
		return r;
	spec->chunk_size = repo_conf(*repo)->chunk_size;
	if (!opt_given(&cli->opt, O_PATH))
		spec->dir = repo_path(*repo);
	return 0;
}

int cmd_benchmark(struct cli *cli, struct err *err)
{
	struct benchmark_row rows[BENCHMARK_ROWS_MAX];
	uint64_t seconds = opt_number(&cli->opt, O_SECONDS, 1);
	struct benchmark_spec spec = { .stop = &cli_stop };
	cleanup_ptr(repo) repo = NULL;
	size_t count = 0;
	int r;

	if (seconds > SECONDS_MAX)
		return err_set(err, ERR_USAGE, "--seconds is at most %d", SECONDS_MAX);
	/* 0: each row goes once through its data */
	spec.millis = (unsigned)seconds * 1000;
	r = benchmark_place(cli, &spec, &repo, err);
	if (r >= 0)
		r = repo_benchmark(&spec, rows, &count, err);
	if (r < 0)
		return r;
	return cli->json ? benchmark_json(&spec, rows, count, err) :
			   benchmark_text(cli, &spec, rows, count, err);
}
