// SPDX-License-Identifier: GPL-3.0-or-later
/* livepoint overlays, seal and discard: writable views. */
#include "cli/internal.h"

#include "repo/overlay.h"
#include "serve/serve.h"

#include "recover/recover.h"

#include "base/banned.h"

/* --- overlays --- */

/* The export that serves it; NULL: none. */
static const struct serve_export *export_of(const struct serve_export *exports, size_t count,
					    const struct repo *repo, const char *id)
{
	size_t i;

	for (i = 0; i < count; i++)
		if (exports[i].overlay && strcmp(exports[i].overlay, id) == 0 && exports[i].repo &&
		    strcmp(exports[i].repo, repo_path(repo)) == 0)
			return &exports[i];
	return NULL;
}

static const char *uri_of(const struct serve_export *e, const char *disk)
{
	size_t i;

	for (i = 0; e && i < e->ndisks; i++)
		if (strcmp(e->disks[i].name, disk) == 0)
			return e->disks[i].uri;
	return NULL;
}

static struct jval *overlay_json(const struct overlay_info *o, const struct serve_export *e,
				 const char *path)
{
	struct jval *v = jval_object(), *disks = jval_array();
	size_t i;

	for (i = 0; i < o->ndisks; i++) {
		struct jval *d = jval_object();

		jval_set(d, "name", jval_str(o->disks[i].name));
		jval_set(d, "size", jval_uint(o->disks[i].size));
		jval_set(d, "uri", jval_str(uri_of(e, o->disks[i].name)));
		jval_append(disks, d);
	}
	jval_set(v, "id", jval_str(o->id));
	jval_set(v, "name", jval_str(*o->name ? o->name : NULL));
	jval_set(v, "point", jval_str(o->point_text));
	jval_set(v, "disks", disks);
	jval_set(v, "uri", jval_str(o->ndisks ? uri_of(e, o->disks[0].name) : NULL));
	jval_set(v, "pid", e ? jval_int(e->pid) : o->pid ? jval_int(o->pid) : jval_null());
	jval_set(v, "supervisor", e ? jval_int(e->supervisor) : jval_null());
	jval_set(v, "overlay", jval_str(o->id));
	jval_set(v, "since", e ? json_time(e->since) : jval_null());
	jval_set(v, "repository", jval_str(path));
	jval_set(v, "created", json_time(o->created));
	jval_set(v, "bytes", jval_uint(o->bytes));
	jval_set(v, "attached", jval_bool(o->attached));
	jval_set(v, "error", jval_bool(o->error));
	return v;
}

struct overlay_list {
	struct overlay_info *overlays;
	struct serve_export *exports;
	size_t noverlays, nexports;
};

static int list_json(const struct overlay_list *l, const struct repo *repo, struct err *err)
{
	struct out_array a = { 0 };
	size_t i;
	int r;

	for (i = 0; i < l->noverlays; i++) {
		const struct overlay_info *o = &l->overlays[i];

		r = out_array_item(&a,
				   overlay_json(o, export_of(l->exports, l->nexports, repo, o->id),
						repo_path(repo)),
				   err);
		if (r < 0)
			return r;
	}
	return out_array_end(&a, err);
}

static int list_text(const struct overlay_list *l, struct err *err)
{
	static const char *const heads[] = { "ID",     "NAME",	"POINT", "CREATED",
					     ">BYTES", "STATE", "DISK" };
	cleanup_ptr(table) t = NULL;
	size_t i, k;
	int r = table_new(heads, ARRAY_SIZE(heads), &t, err);

	if (r < 0)
		return r;
	for (i = 0; i < l->noverlays; i++) {
		const struct overlay_info *o = &l->overlays[i];
		char created[TIME_TEXT_MAX], bytes[SIZE_TEXT_MAX];

		out_local_time(created, o->created);
		out_size(bytes, o->bytes);
		for (k = 0; k < o->ndisks; k++) {
			table_cell(t, "%s", o->id);
			table_cell(t, "%s", *o->name ? o->name : "-");
			table_cell(t, "%s", o->point_text);
			table_cell(t, "%s", created);
			table_cell(t, "%s", bytes);
			table_cell(t, "%s", o->error ? "error" : o->attached ? "attached" : "-");
			table_cell(t, "%s", o->disks[k].name);
		}
	}
	return table_print(t, err);
}

static int check_one(struct cli *cli, const char *id, struct err *err)
{
	cleanup_ptr(repo) repo = NULL;
	cleanup_buf struct buf text = BUF_INIT;
	struct jval *v, *lines;
	char *at, *rest;
	int r = cli_repo_open(cli, REPO_WRITE, KEY_NEEDED, true, &repo, err), good;

	if (r < 0)
		return r;
	good = repo_overlay_check(repo, id, &text, err);
	if (good < 0 && good != ERR_DAMAGED)
		return good;
	if (!cli->json) {
		fputs(buf_str(&text), stdout);
		r = out_check(good < 0 ? NULL : err);
		return good < 0 ? good : r;
	}
	if (good < 0)
		return good;
	v = jval_object();
	lines = jval_array();
	buf_put_u8(&text, 0);
	if (text.failed)
		return err_nomem(err, "findings");
	for (at = (char *)text.data; *at; at = rest) {
		rest = strchrnul(at, '\n');
		if (*rest)
			*rest++ = '\0';
		jval_append(lines, jval_str(at));
	}
	jval_set(v, "id", jval_str(id));
	jval_set(v, "good", jval_bool(true));
	jval_set(v, "findings", lines);
	return out_json(v, err);
}

int cmd_overlays(struct cli *cli, struct err *err)
{
	cleanup_ptr(repo) repo = NULL;
	struct overlay_list l = { 0 };
	struct err ignored = ERR_INIT;
	int r;

	if (opt_given(&cli->opt, O_CHECK))
		return check_one(cli, opt_text(&cli->opt, O_CHECK), err);
	r = cli_repo_open(cli, REPO_READ, KEY_NOT_USED, false, &repo, err);
	if (r == 0)
		r = repo_overlays(repo, &l.overlays, &l.noverlays, err);
	if (r < 0)
		return r;
	/* Where they are served is a help, not what was asked for. */
	if (serve_export_list(&l.exports, &l.nexports, &ignored) < 0)
		l.nexports = 0;
	r = cli->json ? list_json(&l, repo, err) : list_text(&l, err);
	overlay_infos_free(l.overlays, l.noverlays);
	serve_exports_free(l.exports, l.nexports);
	return r;
}

/* --- seal --- */

static int sealed_json(const struct session_result *s, double seconds, const char *overlay,
		       struct err *err)
{
	struct jval *o = jval_object();

	jval_set(o, "type", jval_str("summary"));
	jval_set(o, "id", json_id(s->id, POINT_ID_LEN));
	jval_set(o, "point", jval_str(s->point));
	jval_set(o, "read", jval_uint(s->read_bytes));
	jval_set(o, "stored", jval_uint(s->stored));
	jval_set(o, "seconds", jval_real(seconds));
	jval_set(o, "warnings", jval_array());
	jval_set(o, "chunks_new", jval_uint(s->chunks_new));
	jval_set(o, "chunks_parent", jval_uint(s->chunks_parent));
	jval_set(o, "chunks_index", jval_uint(s->chunks_index));
	jval_set(o, "chunks_zero", jval_uint(s->chunks_zero));
	jval_set(o, "overlay", jval_str(overlay));
	return out_json_line(o, err);
}

static int sealed_text(const struct cli *cli, const struct session_result *s, double seconds,
		       struct err *err)
{
	char read[SIZE_TEXT_MAX], stored[SIZE_TEXT_MAX], took[TIME_TEXT_MAX];

	out_size(read, s->read_bytes);
	out_size(stored, s->stored);
	out_duration(took, seconds);
	out_note(cli, "%s read, %s stored, %s", read, stored, took);
	printf("%s\n", s->point);
	return out_check(err);
}

static int seal(struct cli *cli, const struct publish_spec *publish, struct err *err)
{
	const struct options *o = &cli->opt;
	cleanup_ptr(repo) repo = NULL;
	struct overlay_info *info = NULL;
	struct session_result result = { 0 };
	struct overlay_seal_spec spec = { .name = opt_text(o, O_NAME),
					  .publish = publish,
					  .wait_seconds = (unsigned)MIN(opt_number(o, O_WAIT, 0),
									UINT32_MAX),
					  .stop = &cli_stop };
	char id[OVERLAY_ID_LEN + 1];
	uint64_t begun = time_mono_ns();
	double seconds;
	int r = cli_repo_open(cli, REPO_WRITE, KEY_NEEDED, true, &repo, err);

	if (r == 0)
		r = repo_overlay_find(repo, o->args[0], &info, err);
	if (r < 0)
		return r;
	str_copy(id, sizeof(id), info->id);
	overlay_infos_free(info, 1);
	spec.overlay = id;
	r = repo_overlay_seal(repo, &spec, &result, err);
	if (r < 0)
		return r;
	cli_repo_seen(cli, repo);
	seconds = (double)(time_mono_ns() - begun) / 1e9;
	return cli->json ? sealed_json(&result, seconds, id, err) :
			   sealed_text(cli, &result, seconds, err);
}

int cmd_seal(struct cli *cli, struct err *err)
{
	struct manifest_label *labels = NULL;
	struct publish_spec publish = { .consistency = CONSISTENCY_CRASH };
	const char *name = opt_text(&cli->opt, O_NAME);
	int r;

	if (name && !name_valid(name))
		return err_set(err, ERR_USAGE,
			       "'%.140s' is no NAME (1 to 128 of A-Z a-z 0-9 . _ -, not starting "
			       "with . or -)",
			       name);
	r = labels_read(&cli->opt, &labels, &publish.nlabels, err);
	if (r < 0)
		return r;
	publish.labels = labels;
	r = seal(cli, &publish, err);
	labels_free(labels, publish.nlabels);
	return r;
}

/* --- discard --- */

static int discard_overlay(struct repo *repo, const char *which, char id[OVERLAY_ID_LEN + 1],
			   struct err *err)
{
	struct overlay_info *info = NULL;
	int r = repo_overlay_find(repo, which, &info, err);

	if (r < 0)
		return r;
	str_copy(id, OVERLAY_ID_LEN + 1, info->id);
	overlay_infos_free(info, 1);
	return repo_overlay_discard(repo, id, err);
}

/* A recovery goes with its guest; one of a repository that cannot be written has no overlay there. */
int cmd_discard(struct cli *cli, struct err *err)
{
	const char *which = cli->opt.args[0];
	cleanup_ptr(repo) repo = NULL;
	char id[RECOVERY_ID_LEN + 1];
	struct jval *v;
	int r = cli_repo_open(cli, REPO_WRITE, KEY_NEEDED, false, &repo, err);

	if (r == ERR_READONLY || r == ERR_PERM) {
		err_clear(err);
		r = cli_repo_open(cli, REPO_READ, KEY_NEEDED, false, &repo, err);
	}
	if (r == 0)
		r = recover_discard(repo, which, id, err);
	if (r == 0)
		r = discard_overlay(repo, which, id, err);
	if (r < 0)
		return r;
	if (!cli->json) {
		out_note(cli, "%s '%s' is discarded", id[0] == 'r' ? "recovery" : "overlay", id);
		return 0;
	}
	v = jval_object();
	jval_set(v, "discarded", jval_str(id));
	return out_json(v, err);
}
