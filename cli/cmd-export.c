// SPDX-License-Identifier: GPL-3.0-or-later
/* livepoint export, exports and unexport: restore points over NBD in the background. */
#include "cli/internal.h"

#include "serve/serve.h"

#include "base/banned.h"

static struct jval *export_json(const struct serve_export *e)
{
	struct jval *v = jval_object(), *disks = jval_array();
	size_t i;

	for (i = 0; i < e->ndisks; i++) {
		struct jval *d = jval_object();

		jval_set(d, "name", jval_str(e->disks[i].name));
		jval_set(d, "uri", jval_str(e->disks[i].uri));
		jval_append(disks, d);
	}
	jval_set(v, "id", jval_str(e->id));
	jval_set(v, "kind", jval_str(serve_kind_name(e->kind)));
	jval_set(v, "point", jval_str(e->point));
	jval_set(v, "disks", disks);
	jval_set(v, "uri", jval_str(e->ndisks ? e->disks[0].uri : e->uri));
	jval_set(v, "pid", jval_int(e->pid));
	jval_set(v, "supervisor", jval_int(e->supervisor));
	jval_set(v, "overlay", jval_str(e->overlay));
	jval_set(v, "target", jval_str(e->target));
	jval_set(v, "since", json_time(e->since));
	jval_set(v, "repository", jval_str(e->repo));
	return v;
}

static int export_print(const struct cli *cli, const struct serve_export *e, struct err *err)
{
	size_t i;

	if (cli->json)
		return out_json(export_json(e), err);
	for (i = 0; i < e->ndisks; i++)
		printf("%s\n", e->disks[i].uri);
	if (e->overlay)
		out_note(cli, "writes go to overlay %s of %s", e->overlay, e->point);
	return out_check(err);
}

int cmd_export(struct cli *cli, struct err *err)
{
	const struct options *o = &cli->opt;
	cleanup_ptr(repo) repo = NULL;
	struct serve_export e = { 0 };
	struct serve_spec spec = {
		.point = o->args[0],
		.writable = opt_given(o, O_WRITABLE),
		.overlay = opt_text(o, O_OVERLAY),
		.cache = opt_text(o, O_CACHE),
		.listen = opt_text(o, O_LISTEN),
		.tls_certificates = opt_text(o, O_TLS_CERTIFICATES),
		.tls_psk = opt_text(o, O_TLS_PSK),
		.socket_group = opt_text(o, O_SOCKET_GROUP),
		.stop = &cli_stop,
	};
	int r;

	if (spec.tls_certificates && spec.tls_psk)
		return err_set(err, ERR_USAGE,
			       "--tls-certificates and --tls-psk exclude each other");
	if (spec.listen && !spec.tls_certificates && !spec.tls_psk)
		return err_set(err, ERR_USAGE, "--listen needs --tls-certificates or --tls-psk");
	if (spec.overlay && !spec.writable)
		return err_set(err, ERR_USAGE, "--overlay is for --writable");
	if (!spec.listen && (spec.tls_certificates || spec.tls_psk))
		return err_set(err, ERR_USAGE, "TLS is for --listen; a UNIX socket needs none");
	/* no threads here: a server is about to be forked off */
	r = cli_repo_open(cli, spec.writable ? REPO_WRITE : REPO_READ, KEY_NEEDED, false, &repo,
			  err);
	if (r < 0)
		return r;
	r = serve_export_start(repo, &spec, &e, err);
	if (r < 0)
		return r;
	r = export_print(cli, &e, err);
	if (r >= 0)
		r = out_flush(err);
	if (r < 0) { /* nobody knows where it is */
		struct err ignored = ERR_INIT;

		serve_export_stop(e.id, true, &ignored);
	}
	serve_export_release(&e);
	return r;
}

static int exports_json(const struct serve_export *list, size_t count, struct err *err)
{
	struct out_array a = { 0 };
	size_t i;
	int r;

	for (i = 0; i < count; i++) {
		r = out_array_item(&a, export_json(&list[i]), err);
		if (r < 0)
			return r;
	}
	return out_array_end(&a, err);
}

static void exports_row(struct table *t, const struct serve_export *e, const char *disk,
			const char *uri)
{
	char since[TIME_TEXT_MAX];

	out_local_time(since, e->since);
	table_cell(t, "%s", e->id);
	if (e->target)
		table_cell(t, "proxy of %s", e->target);
	else
		table_cell(t, "%s", e->point ? e->point : "*");
	table_cell(t, "%s", e->overlay ? e->overlay : "-");
	table_cell(t, "%lld", (long long)e->pid);
	table_cell(t, "%s", since);
	table_cell(t, "%s", disk);
	table_cell(t, "%s", uri);
}

static int exports_text(const struct serve_export *list, size_t count, struct err *err)
{
	static const char *const heads[] = { "ID",    "POINT", "OVERLAY", ">PID",
					     "SINCE", "DISK",  "URI" };
	cleanup_ptr(table) t = NULL;
	size_t i, k;
	int r = table_new(heads, ARRAY_SIZE(heads), &t, err);

	if (r < 0)
		return r;
	for (i = 0; i < count; i++) {
		const struct serve_export *e = &list[i];

		for (k = 0; k < e->ndisks; k++)
			exports_row(t, e, e->disks[k].name, e->disks[k].uri);
		if (e->ndisks == 0)
			exports_row(t, e, "*", e->uri);
	}
	return table_print(t, err);
}

int cmd_exports(struct cli *cli, struct err *err)
{
	struct serve_export *list = NULL;
	size_t count = 0;
	int r = serve_export_list(&list, &count, err);

	if (r < 0)
		return r;
	r = cli->json ? exports_json(list, count, err) : exports_text(list, count, err);
	serve_exports_free(list, count);
	return r;
}

static bool is_listed(const struct serve_export *list, size_t count, const char *id)
{
	size_t i;

	for (i = 0; i < count; i++)
		if (strcmp(list[i].id, id) == 0)
			return true;
	return false;
}

/* Overlays whose exports were in `before` and are gone; with text, says how to go on. */
static struct jval *overlays_kept(const struct cli *cli, const struct serve_export *before,
				  size_t count, struct err *err)
{
	struct jval *kept = jval_array();
	struct serve_export *now = NULL;
	size_t nnow = 0, i;

	if (serve_export_list(&now, &nnow, err) < 0)
		return kept;
	for (i = 0; i < count; i++) {
		const struct serve_export *e = &before[i];

		if (!e->overlay || is_listed(now, nnow, e->id))
			continue;
		jval_append(kept, jval_str(e->overlay));
		out_note(
			cli,
			"overlay %s is kept: 'livepoint export %s --writable --overlay %s' attaches it again, "
			"'livepoint discard %s' throws it away",
			e->overlay, e->point, e->overlay, e->overlay);
	}
	serve_exports_free(now, nnow);
	return kept;
}

int cmd_unexport(struct cli *cli, struct err *err)
{
	const struct options *o = &cli->opt;
	struct serve_export *before = NULL;
	struct err ignored = ERR_INIT;
	struct jval *v, *kept;
	size_t count = 0;
	int ended;

	if (opt_given(o, O_ALL) == (o->nargs > 0))
		return err_set(err, ERR_USAGE, "name one ID, or --all");
	if (serve_export_list(&before, &count, err) < 0)
		return err->code;
	ended = serve_export_stop(o->nargs ? o->args[0] : NULL, opt_given(o, O_FORCE), err);
	kept = overlays_kept(cli, before, count, &ignored); /* also if others could not be ended */
	serve_exports_free(before, count);
	if (ended < 0 || !cli->json) {
		jval_free(kept);
		if (ended >= 0)
			out_note(cli, "%d export%s ended", ended, ended == 1 ? "" : "s");
		return MIN(ended, 0);
	}
	v = jval_object();
	jval_set(v, "ended", jval_int(ended));
	jval_set(v, "overlays", kept);
	return out_json(v, err);
}
