// SPDX-License-Identifier: GPL-3.0-or-later
/* livepoint prune: what was given back, what stays and why. */
#include "cli/internal.h"

#include <limits.h>

#include "repo/gc.h"

#include "base/banned.h"

struct prune_view {
	const struct cli *cli;
	struct progress_view progress;
};

static void show_progress(void *opaque, const struct progress *p)
{
	struct prune_view *v = opaque;

	progress_show(&v->progress, p);
}

static void show_note(void *opaque, const char *line)
{
	struct prune_view *v = opaque;

	progress_clear();
	out_warning(v->cli, "%s", line);
}

static int summary_json(const struct prune_spec *spec, const struct prune_result *res,
			double seconds, struct err *err)
{
	struct jval *o = jval_object();

	jval_set(o, "type", jval_str("summary"));
	jval_set(o, "dry_run", jval_bool(spec->dry_run));
	jval_set(o, "waiting", jval_bool(res->waiting));
	jval_set(o, "clock_doubtful", jval_bool(res->clock));
	jval_set(o, "points", jval_uint(res->points));
	jval_set(o, "marked", jval_uint(res->marked));
	jval_set(o, "condemned", jval_uint(res->condemned));
	jval_set(o, "doomed", jval_uint(res->doomed));
	jval_set(o, "packs_removed", jval_uint(res->packs_removed));
	jval_set(o, "packs_rewritten", jval_uint(res->packs_rewritten));
	jval_set(o, "packs_left", jval_uint(res->packs_left));
	jval_set(o, "packs_damaged", jval_uint(res->packs_damaged));
	jval_set(o, "bytes_freed", jval_uint(res->bytes_freed));
	jval_set(o, "bytes_rewritten", jval_uint(res->bytes_rewritten));
	jval_set(o, "bytes_left", jval_uint(res->bytes_left));
	jval_set(o, "seconds", jval_real(seconds));
	return out_json_line(o, err);
}

static int summary_text(const struct cli *cli, const struct prune_spec *spec,
			const struct prune_result *res, double seconds, struct err *err)
{
	char freed[SIZE_TEXT_MAX], copied[SIZE_TEXT_MAX], left[SIZE_TEXT_MAX], took[TIME_TEXT_MAX];

	out_size(freed, res->bytes_freed);
	out_size(copied, res->bytes_rewritten);
	out_size(left, res->bytes_left);
	out_duration(took, seconds);
	if (!cli->quiet)
		printf("%s%s: %llu pack%s removed, %llu rewritten (%s copied)\n",
		       spec->dry_run ? "would free " : "freed ", freed,
		       (unsigned long long)res->packs_removed, res->packs_removed == 1 ? "" : "s",
		       (unsigned long long)res->packs_rewritten, copied);
	out_note(cli, "%llu point%s gone, %llu chunks in use, %llu given up, %s",
		 (unsigned long long)res->points, res->points == 1 ? "" : "s",
		 (unsigned long long)res->marked, (unsigned long long)res->doomed, took);
	if (res->bytes_left)
		out_note(cli,
			 "%s stay in %llu packs of which too little is unused, or over a limit",
			 left, (unsigned long long)(res->packs_left + res->packs_damaged));
	if (res->waiting)
		out_note(cli, "the next prune continues");
	return out_check(err);
}

int prune_run(struct cli *cli, struct repo *repo, struct prune_spec *spec, struct err *err)
{
	struct prune_view view = { .cli = cli };
	struct prune_result res = { 0 };
	uint64_t begun = time_mono_ns();
	double seconds;
	int r;

	spec->progress = show_progress;
	spec->note = show_note;
	spec->opaque = &view;
	spec->stop = &cli_stop;
	progress_begin(&view.progress, cli);
	r = repo_prune(repo, spec, &res, err);
	progress_end(&view.progress);
	if (r < 0)
		return r;
	cli_repo_seen(cli, repo); /* the generation has risen */
	cli->attention |= res.packs_damaged != 0 || res.clock;
	seconds = (double)(time_mono_ns() - begun) / 1e9;
	return cli->json ? summary_json(spec, &res, seconds, err) :
			   summary_text(cli, spec, &res, seconds, err);
}

int cmd_prune(struct cli *cli, struct err *err)
{
	const struct options *o = &cli->opt;
	cleanup_ptr(repo) repo = NULL;
	struct prune_spec spec = {
		.dry_run = opt_given(o, O_DRY_RUN),
		.really = opt_given(o, O_YES_REALLY),
		.max_rewrite = opt_number(o, O_MAX_REWRITE, 0),
		.io_limit = opt_number(o, O_IO_LIMIT, 0),
		.min_doomed = (unsigned)opt_percent(o, O_MIN_UNUSED, PRUNE_MIN_DOOMED),
		.wait_seconds = (unsigned)MIN(opt_number(o, O_WAIT, 0), (uint64_t)UINT_MAX),
		.fence = opt_number(o, O_FENCE, 0),
	};
	int r;

	if (spec.dry_run && opt_given(o, O_FENCE))
		return err_set(err, ERR_USAGE, "--fence and --dry-run exclude each other");
	if (opt_given(o, O_FENCE) && !spec.fence)
		return err_set(err, ERR_USAGE, "--fence: 0 is no session");
	if (opt_given(o, O_MAX_REWRITE) && !spec.max_rewrite)
		spec.max_rewrite = 1; /* 0: copy nothing */
	r = cli_repo_open(cli, REPO_WRITE, KEY_NEEDED, true, &repo, err);
	return r < 0 ? r : prune_run(cli, repo, &spec, err);
}
