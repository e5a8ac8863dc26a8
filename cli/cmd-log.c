// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * livepoint log: what changed the repository, and whether the record of it is whole.
 *
 * Listing needs no key; checking an encrypted repository's chain does.
 */
#include "cli/internal.h"

#include "repo/audit.h"

#include "base/banned.h"

struct log_view {
	struct table *table; /* or NULL: JSON */
	struct out_array array;
};

static int entry_json(struct log_view *v, const struct audit_entry *e, struct err *err)
{
	struct jval *o = jval_object(), *detail = NULL;

	/* text that somebody put there by hand is shown as text */
	if (jval_parse(e->detail, strlen(e->detail), &detail, NULL) < 0)
		detail = jval_str(e->detail);
	jval_set(o, "number", jval_uint(e->number));
	jval_set(o, "time", json_time(e->time));
	jval_set(o, "command", jval_str(e->command));
	jval_set(o, "subject", e->subject[0] ? jval_str(e->subject) : jval_null());
	jval_set(o, "actor", jval_str(e->actor));
	jval_set(o, "detail", detail);
	jval_set(o, "mac", json_id(e->mac, ID_LEN));
	return out_array_item(&v->array, o, err);
}

static int entry(void *opaque, const struct audit_entry *e, struct err *err)
{
	struct log_view *v = opaque;
	char when[TIME_TEXT_MAX];

	if (!v->table)
		return entry_json(v, e, err);
	out_local_time(when, e->time);
	table_cell(v->table, "%llu", (unsigned long long)e->number);
	table_cell(v->table, "%s", when);
	table_cell(v->table, "%s", e->command);
	table_cell(v->table, "%s", e->subject[0] ? e->subject : "-");
	table_cell(v->table, "%s", e->actor);
	return 0;
}

static int list(const struct cli *cli, struct repo *repo, struct err *err)
{
	static const char *const heads[] = { ">ENTRY", "LOCAL TIME", "COMMAND", "SUBJECT", "BY" };
	cleanup_ptr(table) t = NULL;
	struct log_view v = { 0 };
	int r = cli->json ? 0 : table_new(heads, ARRAY_SIZE(heads), &t, err);

	v.table = t;
	if (r >= 0)
		r = repo_log_each(repo, MAX(opt_number(&cli->opt, O_FROM, 1), (uint64_t)1), entry,
				  &v, err);
	if (r < 0)
		return r;
	return t ? table_print(t, err) : out_array_end(&v.array, err);
}

static int check(const struct cli *cli, struct repo *repo, struct err *err)
{
	struct jval *o;
	uint64_t count;
	int r = repo_log_verify(repo, &count, err);

	if (r < 0)
		return r;
	if (!cli->json) {
		out_note(cli, "%llu entries, none changed, none missing",
			 (unsigned long long)count);
		return 0;
	}
	o = jval_object();
	jval_set(o, "entries", jval_uint(count));
	jval_set(o, "verified", jval_bool(true));
	return out_json(o, err);
}

int cmd_log(struct cli *cli, struct err *err)
{
	const struct options *o = &cli->opt;
	bool verify = opt_given(o, O_VERIFY);
	cleanup_ptr(repo) repo = NULL;
	int r;

	if (verify && opt_given(o, O_FROM))
		return err_set(err, ERR_USAGE,
			       "--verify checks the whole chain: --from does not go with it");
	r = cli_repo_open(cli, REPO_READ, verify ? KEY_NEEDED : KEY_NOT_USED, false, &repo, err);
	if (r < 0)
		return r;
	return verify ? check(cli, repo, err) : list(cli, repo, err);
}
