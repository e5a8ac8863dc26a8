// SPDX-License-Identifier: GPL-3.0-or-later
/* livepoint restore. */
#include "cli/internal.h"

#include "restore/restore.h"

#include "base/banned.h"

static int damaged_ranges(const struct cli *cli, const struct restore_result *res, struct err *err)
{
	size_t i;
	int r;

	for (i = 0; i < res->ndamaged; i++) {
		const struct restore_range *d = &res->damaged[i];
		struct jval *o;

		if (!cli->json) {
			printf("%s %llu %llu damaged\n", d->disk, (unsigned long long)d->start,
			       (unsigned long long)d->length);
			continue;
		}
		o = jval_object();
		jval_set(o, "type", jval_str("damaged"));
		jval_set(o, "disk", jval_str(d->disk));
		jval_set(o, "start", jval_uint(d->start));
		jval_set(o, "length", jval_uint(d->length));
		r = out_json_line(o, err);
		if (r < 0)
			return r;
	}
	return out_check(err);
}

static int summary(const struct cli *cli, const struct restore_result *res, struct err *err)
{
	char size[SIZE_TEXT_MAX], written[SIZE_TEXT_MAX], took[TIME_TEXT_MAX];
	struct jval *o;

	if (!cli->json) {
		out_size(size, res->size);
		out_size(written, res->written);
		out_duration(took, res->seconds);
		out_note(cli, "%s restored, %s written, %s", size, written, took);
		return 0;
	}
	o = jval_object();
	jval_set(o, "type", jval_str("summary"));
	jval_set(o, "size", jval_uint(res->size));
	jval_set(o, "written", jval_uint(res->written));
	jval_set(o, "zeroed", jval_uint(res->zeroed));
	jval_set(o, "compared", jval_uint(res->compared));
	jval_set(o, "damaged", jval_uint(res->ndamaged));
	jval_set(o, "seconds", jval_real(res->seconds));
	return out_json_line(o, err);
}

static int restore(const struct cli *cli, struct repo *repo, struct restore_result *res,
		   struct err *err)
{
	const struct options *o = &cli->opt;
	struct progress_view view;
	struct restore_spec spec = {
		.point = o->args[0],
		.target = o->args[1],
		.overwrite = opt_given(o, O_OVERWRITE),
		.delta = opt_given(o, O_DELTA),
		.from = opt_text(o, O_FROM),
		.verify = opt_given(o, O_VERIFY),
		.keep_going = opt_given(o, O_KEEP_GOING),
		.progress = progress_show,
		.progress_opaque = &view,
		.stop = &cli_stop,
	};
	int r;

	progress_begin(&view, cli);
	r = restore_run(repo, &spec, res, err);
	progress_end(&view);
	return r;
}

int cmd_restore(struct cli *cli, struct err *err)
{
	cleanup_ptr(repo) repo = NULL;
	struct restore_result res = { 0 };
	struct err more = ERR_INIT;
	int r, s;

	if (opt_given(&cli->opt, O_FROM) && !opt_given(&cli->opt, O_DELTA))
		return err_set(err, ERR_USAGE, "--from needs --delta");
	r = cli_repo_open(cli, REPO_READ, KEY_NEEDED, true, &repo, err);
	if (r < 0)
		return r;
	r = restore(cli, repo, &res, err);
	/* with --keep-going damage is an error after everything else was written */
	s = damaged_ranges(cli, &res, &more);
	if (s >= 0 && (r >= 0 || (r == ERR_DAMAGED && opt_given(&cli->opt, O_KEEP_GOING))))
		s = summary(cli, &res, &more);
	restore_result_release(&res);
	if (r >= 0 && s < 0) {
		*err = more;
		return s;
	}
	return r;
}
