// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * livepoint forget and unforget: from options to rules and plans, and plans as tables and documents.
 *
 * Invariants:
 *  1. With rules the arguments are NAMEs, without them POINTs; with neither nothing happens.
 *  2. A dry run prints what the run itself prints.
 */
#include "cli/internal.h"

#include <time.h>

#include "repo/gc.h"
#include "repo/retention.h"

#include "base/banned.h"

#define PLAN_ATTEMPTS 4 /* when somebody else forgets or holds points at the same moment */

static int64_t local_offset(int64_t t)
{
	time_t when = (time_t)t;
	struct tm tm;

	return localtime_r(&when, &tm) ? tm.tm_gmtoff : 0;
}

static int read_rules(const struct options *o, struct keep_rules *rules, struct err *err)
{
	const struct {
		enum opt_id id;
		uint32_t *count;
	} counts[] = {
		{ O_KEEP_LAST, &rules->last },	     { O_KEEP_HOURLY, &rules->hourly },
		{ O_KEEP_DAILY, &rules->daily },     { O_KEEP_WEEKLY, &rules->weekly },
		{ O_KEEP_MONTHLY, &rules->monthly }, { O_KEEP_YEARLY, &rules->yearly },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(counts); i++)
		*counts[i].count = (uint32_t)MIN(opt_number(o, counts[i].id, 0), UINT32_MAX);
	rules->within = opt_number(o, O_KEEP_WITHIN, 0);
	rules->offset = opt_given(o, O_LOCAL) ? local_offset : NULL;
	rules->any_clock = opt_given(o, O_YES_REALLY);
	if (keep_rules_any(rules))
		return 0;
	for (i = 0; i < ARRAY_SIZE(counts); i++)
		if (opt_given(o, counts[i].id))
			return err_set(err, ERR_USAGE,
				       "these rules keep nothing: a number must be above 0");
	if (opt_given(o, O_KEEP_WITHIN))
		return err_set(err, ERR_USAGE, "--keep-within must be above 0");
	if (opt_given(o, O_LOCAL))
		return err_set(err, ERR_USAGE, "--local is for rules (--keep-...)");
	if (!o->nargs)
		return err_set(err, ERR_USAGE,
			       "name points to forget, or say by --keep-... what stays");
	return 0;
}

static int check_names(const struct options *o, struct err *err)
{
	size_t i;

	for (i = 0; i < o->nargs; i++)
		if (!name_valid(o->args[i]))
			return err_set(err, ERR_USAGE,
				       "'%.140s' is no NAME: rules are for all points of a name",
				       o->args[i]);
	return 0;
}

/* --- plans for people and programs --- */

static struct jval *reasons_json(unsigned reasons)
{
	struct jval *v = jval_array();
	unsigned bit;

	for (bit = 1; bit <= KEEP_FUTURE; bit *= 2)
		if (reasons & bit)
			jval_append(v, jval_str(keep_reason_name(bit)));
	return v;
}

/* line: lines of a prune follow. */
static int plan_json(const struct forget_plan *p, bool dry_run, bool line, uint64_t grace,
		     struct err *err)
{
	struct jval *o = jval_object(), *points = jval_array();
	size_t i;

	jval_set(o, "type", jval_str("forget"));

	for (i = 0; i < p->count; i++) {
		const struct forget_item *item = &p->items[i];
		struct jval *v = jval_object();

		jval_set(v, "id", json_id(item->id, POINT_ID_LEN));
		jval_set(v, "point", jval_str(item->point));
		jval_set(v, "name", jval_str(item->name));
		jval_set(v, "time", json_time(item->time));
		jval_set(v, "stays", jval_bool(item->reasons != 0));
		jval_set(v, "reasons", reasons_json(item->reasons));
		jval_set(v, "hold",
			 item->hold_reason ? json_hold(item->hold_reason, item->hold_until) :
					     jval_null());
		jval_append(points, v);
	}
	jval_set(o, "dry_run", jval_bool(dry_run));
	jval_set(o, "grace", jval_uint(grace));
	jval_set(o, "stay", jval_uint(p->count - p->going));
	jval_set(o, "forgotten", jval_uint(p->going));
	jval_set(o, "points", points);
	return line ? out_json_line(o, err) : out_json(o, err);
}

static void reasons_text(const struct forget_item *item, struct buf *out)
{
	unsigned bit;

	for (bit = 1; bit <= KEEP_FUTURE; bit *= 2)
		if (item->reasons & bit)
			buf_printf(out, "%s%s", out->len ? ", " : "", keep_reason_name(bit));
	if (item->hold_reason && item->hold_reason[0])
		buf_printf(out, " (%s)", item->hold_reason);
}

static int plan_text(const struct cli *cli, const struct forget_plan *p, bool dry_run,
		     uint64_t grace, struct err *err)
{
	static const char *const heads[] = { "POINT", "LOCAL TIME", "ACTION", "WHY" };
	cleanup_ptr(table) t = NULL;
	char when[TIME_TEXT_MAX], stay[32] = "";
	size_t i;
	int r = table_new(heads, ARRAY_SIZE(heads), &t, err);

	if (r < 0)
		return r;
	for (i = 0; i < p->count; i++) {
		cleanup_buf struct buf why = BUF_INIT;

		reasons_text(&p->items[i], &why);
		out_local_time(when, p->items[i].time);
		table_cell(t, "%s", p->items[i].point);
		table_cell(t, "%s", when);
		table_cell(t, "%s", p->items[i].reasons ? "stays" : "forget");
		table_cell(t, "%s", why.len ? buf_str(&why) : "-");
	}
	r = table_print(t, err);
	if (r < 0)
		return r;
	out_local_time(when, time_now() + (int64_t)MIN(grace, GRACE_MAX));
	if (p->count > p->going)
		snprintf(stay, sizeof(stay), "%zu %s, ", p->count - p->going,
			 p->count - p->going == 1 ? "stays" : "stay");
	out_note(cli, "%s%zu %s%s%s", stay, p->going, dry_run ? "would be forgotten" : "forgotten",
		 p->going && grace ? "; they can come back until " : "",
		 p->going && grace ? when : "");
	return 0;
}

/* --- forget --- */

/* Somebody else may forget or hold a point between plan and deed: then the plan is made again. */
static int forget_by_rule(const struct cli *cli, struct repo *repo, const struct keep_rules *rules,
			  int64_t grace, bool dry_run, struct forget_plan *out, struct err *err)
{
	const struct options *o = &cli->opt;
	unsigned attempt;
	int r = check_names(o, err);

	if (r < 0)
		return r;
	for (attempt = 1;; attempt++) {
		r = repo_forget_plan(repo, o->nargs ? o->args : NULL, o->nargs, rules, out, err);
		if (r < 0 || dry_run)
			return r;
		r = repo_forget_apply(repo, out, grace, err);
		if (r >= 0)
			return 0;
		forget_plan_release(out);
		if ((r != ERR_NOT_FOUND && r != ERR_HELD) || attempt == PLAN_ATTEMPTS)
			return r;
		err_clear(err);
	}
}

static int prune(struct cli *cli, struct repo *repo, bool dry_run, struct err *err)
{
	struct prune_spec spec = { .min_doomed = PRUNE_MIN_DOOMED };

	if (!dry_run)
		return prune_run(cli, repo, &spec, err);
	out_note(cli, "a dry run of forget does not say what prune would free");
	return 0;
}

int cmd_forget(struct cli *cli, struct err *err)
{
	const struct options *o = &cli->opt;
	cleanup_ptr(repo) repo = NULL;
	bool dry_run = opt_given(o, O_DRY_RUN), with_prune = opt_given(o, O_PRUNE);
	struct keep_rules rules = { 0 };
	struct forget_plan plan = { 0 };
	uint64_t grace = opt_number(o, O_GRACE, 0);
	int r = read_rules(o, &rules, err);

	if (r < 0)
		return r;
	if (grace > GRACE_MAX)
		return err_set(err, ERR_USAGE, "--grace is at most 100 years");
	r = cli_repo_open(cli, dry_run ? REPO_READ : REPO_WRITE,
			  dry_run ? KEY_NOT_USED : KEY_NEEDED, with_prune && !dry_run, &repo, err);
	if (r < 0)
		return r;
	if (!opt_given(o, O_GRACE))
		grace = repo_conf(repo)->grace;
	if (keep_rules_any(&rules))
		r = forget_by_rule(cli, repo, &rules, (int64_t)MIN(grace, GRACE_MAX), dry_run,
				   &plan, err);
	else
		r = repo_forget_points(repo, o->args, o->nargs, (int64_t)MIN(grace, GRACE_MAX),
				       dry_run, &plan, err);
	if (r >= 0)
		r = cli->json ? plan_json(&plan, dry_run, with_prune && !dry_run, grace, err) :
				plan_text(cli, &plan, dry_run, grace, err);
	forget_plan_release(&plan);
	return r >= 0 && with_prune ? prune(cli, repo, dry_run, err) : r;
}

/* --- unforget --- */

int cmd_unforget(struct cli *cli, struct err *err)
{
	cleanup_ptr(repo) repo = NULL;
	char point[POINT_TEXT_MAX];
	struct jval *o;
	int r = cli_repo_open(cli, REPO_WRITE, KEY_NEEDED, false, &repo, err);

	if (r >= 0)
		r = repo_unforget(repo, cli->opt.args[0], point, err);
	if (r < 0)
		return r;
	if (!cli->json) {
		printf("%s\n", point);
		return out_check(err);
	}
	o = jval_object();
	jval_set(o, "point", jval_str(point));
	return out_json(o, err);
}
