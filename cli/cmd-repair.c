// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * livepoint repair: what is wrong and what is done about it, one a line, each before it is done and again when it is; then
 * what was looked at.
 *
 * The repository is opened by repo_repair() itself: its catalog may not be there.
 */
#include "cli/internal.h"

#include "repo/repair.h"

#include "base/banned.h"

struct repair_view {
	const struct cli *cli;
	bool dry_run;
	struct progress_view progress;
};

static void show_progress(void *opaque, const struct progress *p)
{
	struct repair_view *v = opaque;

	progress_show(&v->progress, p);
}

static const char *kind_name(enum repair_kind kind)
{
	switch (kind) {
	case REPAIR_CATALOG:
		return "catalog";
	case REPAIR_INDEX:
		return "index";
	case REPAIR_FOOTER:
		return "footer";
	case REPAIR_PACK:
		return "pack";
	case REPAIR_SLOT:
		return "slot";
	case REPAIR_LOST:
		return "lost";
	case REPAIR_OVERLAY:
		return "overlay";
	}
	return "unknown";
}

static void action_json(const struct repair_action *a)
{
	struct jval *o = jval_object();
	bool record = a->locator != LOCATOR_NONE;
	bool slot = record && (a->kind == REPAIR_SLOT || a->kind == REPAIR_LOST);

	jval_set(o, "type", jval_str("action"));
	jval_set(o, "kind", jval_str(kind_name(a->kind)));
	jval_set(o, "message", jval_str(a->what));
	jval_set(o, "pack", record ? jval_uint(locator_pack(a->locator)) : jval_null());
	jval_set(o, "slot", slot ? jval_uint(locator_slot(a->locator)) : jval_null());
	jval_set(o, "done", jval_bool(a->done));
	out_json_line(o, NULL);
}

static void show_action(void *opaque, const struct repair_action *a)
{
	struct repair_view *v = opaque;
	cleanup_free char *text = NULL;

	if (v->cli->json) {
		action_json(a);
		return;
	}
	text = str_dup(a->what);
	progress_clear();
	printf("%-8s %s%s\n", kind_name(a->kind), a->done ? "done: " : "",
	       text ? out_clean(text) : "");
	fflush(stdout);
}

static int summary(const struct cli *cli, const struct repair_spec *spec,
		   const struct repair_result *res, struct err *err)
{
	struct jval *o;

	if (!cli->json) {
		if (!res->actions)
			out_note(cli, "nothing to repair");
		else
			out_note(cli, "%llu to repair, %llu done%s, %llu slots without a source",
				 (unsigned long long)res->actions, (unsigned long long)res->done,
				 spec->dry_run ? " (dry run)" : "", (unsigned long long)res->lost);
		return out_check(err);
	}
	o = jval_object();
	jval_set(o, "type", jval_str("summary"));
	jval_set(o, "actions", jval_uint(res->actions));
	jval_set(o, "done", jval_uint(res->done));
	jval_set(o, "lost", jval_uint(res->lost));
	jval_set(o, "points", res->points ? jval_uint(res->points) : jval_null());
	jval_set(o, "dry_run", jval_bool(spec->dry_run));
	return out_json_line(o, err);
}

/* The passphrase of this repository, got when it is first needed: environment and descriptor give it only once. */
struct own_passphrase {
	struct passphrase p;
	bool got;
};

static void own_wipe(struct own_passphrase *own)
{
	passphrase_wipe(&own->p);
}

static int own_get(const struct cli *cli, struct own_passphrase *own, struct err *err)
{
	int r = own->got ? 0 : passphrase_get(cli, PASSPHRASE_ASK, &own->p, err);

	own->got |= r >= 0;
	return r;
}

/* The passphrase of the other repository: its own file, else the one of this repository (a copy has the same). */
static int unlock_other(const struct cli *cli, struct repo *repo, struct own_passphrase *own,
			struct err *err)
{
	cleanup_passphrase struct passphrase p = { .len = 0 };
	const char *file = opt_text(&cli->opt, O_FROM_PASSPHRASE_FILE);
	const struct passphrase *use = file ? &p : &own->p;
	int r;

	if (!repo_is_locked(repo))
		return 0;
	r = file ? passphrase_file(file, &p, err) : own_get(cli, own, err);
	return r < 0 ? r : repo_unlock(repo, use->text, use->len, false, err);
}

static int open_other(const struct cli *cli, struct own_passphrase *own, struct repo **out,
		      struct err *err)
{
	const char *path = opt_text(&cli->opt, O_FROM);
	cleanup_ptr(repo) repo = NULL;
	int r;

	if (!path)
		return 0;
	r = repo_open(path, REPO_READ, &repo, err);
	if (r == 0)
		r = unlock_other(cli, repo, own, err);
	if (r < 0)
		return err_prefix(err, "--from");
	*out = steal_ptr(repo);
	return 0;
}

static int check_options(const struct options *o, struct err *err)
{
	if (opt_given(o, O_FROM_PASSPHRASE_FILE) && !opt_given(o, O_FROM))
		return err_set(err, ERR_USAGE, "--from-passphrase-file goes with --from");
	if (opt_given(o, O_ACCEPT) && (opt_given(o, O_CATALOG) || opt_given(o, O_READ_DATA) ||
				       opt_given(o, O_FROM) || opt_given(o, O_IO_LIMIT)))
		return err_set(err, ERR_USAGE, "--accept goes with --dry-run alone");
	return 0;
}

/* First without a passphrase: a plain repository needs none, and whether it is one only the repository says. */
static int run(struct cli *cli, const char *path, const struct repair_spec *spec,
	       struct own_passphrase *own, struct repair_result *res, struct err *err)
{
	struct repair_key key = { .passphrase = own->p.text };
	int r = repo_repair(path, NULL, spec, res, err);

	if (r != ERR_KEY)
		return r;
	err_clear(err);
	r = own_get(cli, own, err);
	key.n = own->p.len;
	return r < 0 ? r : repo_repair(path, &key, spec, res, err);
}

int cmd_repair(struct cli *cli, struct err *err)
{
	const struct options *o = &cli->opt;
	__attribute__((cleanup(own_wipe))) struct own_passphrase own = { .got = false };
	cleanup_ptr(repo) other = NULL;
	struct repair_view view = { .cli = cli, .dry_run = opt_given(o, O_DRY_RUN) };
	struct repair_result res = { 0 };
	struct err more = ERR_INIT;
	struct repair_spec spec = {
		.dry_run = view.dry_run,
		.catalog = opt_given(o, O_CATALOG),
		.accept = opt_given(o, O_ACCEPT),
		.read_data = opt_given(o, O_READ_DATA),
		.io_limit = opt_number(o, O_IO_LIMIT, 0),
		.progress = show_progress,
		.action = show_action,
		.opaque = &view,
		.stop = &cli_stop,
	};
	const char *path;
	int s, r = check_options(o, err);

	if (r == 0)
		r = cli_repo_path(cli, &path, err);
	if (r == 0)
		r = open_other(cli, &own, &other, err);
	if (r < 0)
		return r;
	spec.from = other;
	progress_begin(&view.progress, cli);
	r = run(cli, path, &spec, &own, &res, err);
	progress_end(&view.progress);
	if (r < 0 && r != ERR_DAMAGED)
		return r;
	if (spec.accept && !spec.dry_run && res.done)
		cli_repo_seen_accept(path);
	s = summary(cli, &spec, &res, &more);
	if (r >= 0 && s < 0) {
		*err = more;
		return s;
	}
	return r;
}
