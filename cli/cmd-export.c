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
	jval_set(v, "point", jval_str(e->point));
	jval_set(v, "disks", disks);
	jval_set(v, "uri", jval_str(e->ndisks ? e->disks[0].uri : NULL));
	jval_set(v, "pid", jval_int(e->pid));
	jval_set(v, "supervisor", jval_int(e->supervisor));
	jval_set(v, "overlay", jval_str(e->overlay));
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
	return out_check(err);
}

int cmd_export(struct cli *cli, struct err *err)
{
	const struct options *o = &cli->opt;
	cleanup_ptr(repo) repo = NULL;
	struct serve_export e = { 0 };
	struct serve_spec spec = {
		.point = o->args[0],
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
	if (!spec.listen && (spec.tls_certificates || spec.tls_psk))
		return err_set(err, ERR_USAGE, "TLS is for --listen; a UNIX socket needs none");
	/* no threads here: a server is about to be forked off */
	r = cli_repo_open(cli, REPO_READ, KEY_NEEDED, false, &repo, err);
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

static int exports_text(const struct serve_export *list, size_t count, struct err *err)
{
	static const char *const heads[] = { "ID", "POINT", ">PID", "SINCE", "DISK", "URI" };
	cleanup_ptr(table) t = NULL;
	size_t i, k;
	int r = table_new(heads, ARRAY_SIZE(heads), &t, err);

	if (r < 0)
		return r;
	for (i = 0; i < count; i++) {
		const struct serve_export *e = &list[i];
		char since[TIME_TEXT_MAX];

		out_local_time(since, e->since);
		for (k = 0; k < e->ndisks; k++) {
			table_cell(t, "%s", e->id);
			table_cell(t, "%s", e->point);
			table_cell(t, "%lld", (long long)e->pid);
			table_cell(t, "%s", since);
			table_cell(t, "%s", e->disks[k].name);
			table_cell(t, "%s", e->disks[k].uri);
		}
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

int cmd_unexport(struct cli *cli, struct err *err)
{
	const struct options *o = &cli->opt;
	struct jval *v;
	int ended;

	if (opt_given(o, O_ALL) == (o->nargs > 0))
		return err_set(err, ERR_USAGE, "name one ID, or --all");
	ended = serve_export_stop(o->nargs ? o->args[0] : NULL, opt_given(o, O_FORCE), err);
	if (ended < 0)
		return ended;
	if (!cli->json) {
		out_note(cli, "%d export%s ended", ended, ended == 1 ? "" : "s");
		return 0;
	}
	v = jval_object();
	jval_set(v, "ended", jval_int(ended));
	return out_json(v, err);
}
