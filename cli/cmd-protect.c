// SPDX-License-Identifier: GPL-3.0-or-later
/* livepoint protect and unprotect: holds of restore points. */
#include "cli/internal.h"

#include "repo/retention.h"

#include "base/banned.h"

/* The point's whole name, for messages: what was typed may be shortened. */
static int point_text(struct repo *repo, const char *typed, char point[POINT_TEXT_MAX],
		      struct err *err)
{
	struct repo_spec spec = { 0 };
	int r = repo_resolve(repo, typed, &spec, err);

	if (r < 0)
		return r;
	repo_point_text(spec.row.m, point);
	if (spec.disk[0])
		r = err_set(err, ERR_USAGE, "'%s' is one disk of a point: only points are held",
			    typed);
	repo_spec_release(&spec);
	return r;
}

static int hold_json(const char *point, struct jval *hold, struct err *err)
{
	struct jval *o = jval_object();

	jval_set(o, "point", jval_str(point));
	jval_set(o, "hold", hold);
	return out_json(o, err);
}

int cmd_protect(struct cli *cli, struct err *err)
{
	const struct options *o = &cli->opt;
	const char *reason = opt_text(o, O_REASON);
	int64_t until = (int64_t)opt_number(o, O_UNTIL, 0);
	char point[POINT_TEXT_MAX], when[TIME_TEXT_MAX];
	cleanup_ptr(repo) repo = NULL;
	int r;

	if (!hold_reason_valid(reason ? reason : ""))
		return err_set(err, ERR_USAGE,
			       "--reason takes at most %u bytes of UTF-8 without control "
			       "characters",
			       HOLD_REASON_MAX);
	if (opt_given(o, O_UNTIL) && until <= time_now())
		return err_set(err, ERR_USAGE, "--until %s is not in the future",
			       opt_text(o, O_UNTIL));
	r = cli_repo_open(cli, REPO_WRITE, KEY_NEEDED, false, &repo, err);
	if (r >= 0)
		r = point_text(repo, o->args[0], point, err);
	if (r >= 0)
		r = repo_protect(repo, point, reason, until, err);
	if (r < 0)
		return r;
	cli_repo_seen(cli, repo);
	if (cli->json)
		return hold_json(point, json_hold(reason ? reason : "", until), err);
	out_local_time(when, until);
	out_note(cli, "'%s' is held%s%s", point, until ? " until " : "", until ? when : "");
	return 0;
}

int cmd_unprotect(struct cli *cli, struct err *err)
{
	char point[POINT_TEXT_MAX];
	cleanup_ptr(repo) repo = NULL;
	int r = cli_repo_open(cli, REPO_WRITE, KEY_NEEDED, false, &repo, err);

	if (r >= 0)
		r = point_text(repo, cli->opt.args[0], point, err);
	if (r >= 0)
		r = repo_unprotect(repo, point, err);
	if (r < 0)
		return r;
	cli_repo_seen(cli, repo);
	if (cli->json)
		return hold_json(point, jval_null(), err);
	out_note(cli, "'%s' is no longer held", point);
	return 0;
}
