// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * livepoint backup: from options to a struct ingest_spec, and from its result to the summary.
 */
#include "cli/internal.h"

#include <limits.h>
#include <stdlib.h>

#include "ingest/ingest.h"

#include "base/banned.h"

#define SAMPLE_PERCENT 1.0 /* of unchanged chunks, with a change map */
#define RECONNECT_SECONDS (30 * 60)

/* What the spec points into. */
struct backup_input {
	struct ingest_source *sources;
	size_t nsources;
	struct manifest_label *labels;
	size_t nlabels;
	struct ingest_config *configs;
	size_t nconfigs;
};

void labels_free(struct manifest_label *labels, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++) {
		free(labels[i].key);
		free(labels[i].value);
	}
	free(labels);
}

static void backup_input_release(struct backup_input *in)
{
	size_t i;

	for (i = 0; i < in->nsources; i++)
		ingest_source_release(&in->sources[i]);
	free(in->sources);
	labels_free(in->labels, in->nlabels);
	for (i = 0; i < in->nconfigs; i++)
		free(in->configs[i].name);
	free(in->configs);
}

static int read_sources(const struct options *o, struct backup_input *in, struct err *err)
{
	size_t i;
	int r;

	in->sources = mem_alloc_array(o->nargs - 1, sizeof(*in->sources));
	if (!in->sources)
		return err_nomem(err, "reading sources");
	for (i = 1; i < o->nargs; i++) {
		r = ingest_source_parse(o->args[i], &in->sources[i - 1], err);
		if (r < 0)
			return r;
		in->nsources++;
	}
	return 0;
}

/* The source that --changed [DISK=]FILE is about; NULL if no disk is called so, or several could be meant. */
static struct ingest_source *changed_source(struct backup_input *in,
					    char (*names)[DISK_NAME_MAX_LEN + 1], const char *disk)
{
	size_t i;

	if (!disk)
		return in->nsources == 1 ? &in->sources[0] : NULL;
	for (i = 0; i < in->nsources; i++)
		if (strcmp(names[i], disk) == 0)
			return &in->sources[i];
	return NULL;
}

static int read_changed(const struct options *o, struct backup_input *in, struct err *err)
{
	cleanup_free char(*names)[DISK_NAME_MAX_LEN + 1] =
		mem_alloc_array(in->nsources, sizeof(*names));
	const char *text;
	size_t i;
	int r;

	if (!names)
		return err_nomem(err, "names of disks");
	r = ingest_disk_names(in->sources, in->nsources, names, err);
	if (r < 0)
		return r;
	for (i = 0; (text = opt_nth(o, O_CHANGED, i)) != NULL; i++) {
		struct ingest_source map = { 0 }, *source;

		r = ingest_source_parse(text, &map, err);
		if (r < 0)
			return err_prefix(err, "--changed");
		source = changed_source(in, names, map.disk);
		if (!source)
			r = err_set(
				err, ERR_USAGE,
				"--changed '%.128s' fits no disk of this backup: name it, as in "
				"vda=SOURCE and --changed vda=FILE",
				text);
		else if (source->changed)
			r = err_set(err, ERR_USAGE, "--changed is given twice for one source");
		else
			source->changed = steal_ptr(map.where);
		ingest_source_release(&map);
		if (r < 0)
			return r;
	}
	return 0;
}

int labels_read(const struct options *o, struct manifest_label **out, size_t *count,
		struct err *err)
{
	const char *text;
	size_t i, k;
	int r = 0;
	struct manifest_label *labels = mem_alloc_array(opt_count(o, O_LABEL) + 1, sizeof(*labels));

	if (!labels)
		return err_nomem(err, "reading labels");
	for (i = 0; r == 0 && (text = opt_nth(o, O_LABEL, i)) != NULL; i++) {
		const char *eq = strchr(text, '=');
		struct manifest_label *l = &labels[i];

		l->key = str_printf("%.*s", (int)(eq - text), text);
		l->value = str_dup(eq + 1);
		if (!l->key || !l->value)
			r = err_nomem(err, "reading labels");
		for (k = 0; k < i && r == 0; k++)
			if (strcmp(labels[k].key, l->key) == 0)
				r = err_set(err, ERR_USAGE, "label '%.64s' is given twice", l->key);
	}
	if (r < 0) {
		labels_free(labels, i);
		return r;
	}
	*out = labels;
	*count = i;
	return 0;
}

/* --config NAME=FILE; ingest looks at names and files. */
static int read_configs(const struct options *o, struct backup_input *in, struct err *err)
{
	const char *text;
	size_t i;

	in->configs = mem_alloc_array(opt_count(o, O_CONFIG) + 1, sizeof(*in->configs));
	if (!in->configs)
		return err_nomem(err, "reading options");
	for (i = 0; (text = opt_nth(o, O_CONFIG, i)) != NULL; i++) {
		const char *eq = strchr(text, '=');

		in->configs[i].path = eq + 1;
		in->configs[i].name = str_printf("%.*s", (int)(eq - text), text);
		in->nconfigs++;
		if (!in->configs[i].name)
			return err_nomem(err, "reading options");
	}
	return 0;
}

static int read_input(const struct cli *cli, struct backup_input *in, struct err *err)
{
	const struct options *o = &cli->opt;
	int r;

	if (!name_valid(o->args[0]))
		return err_set(
			err, ERR_USAGE,
			"'%.140s' cannot be a NAME: 1 to %d of A-Z a-z 0-9 . _ -, not starting "
			"with . or -",
			o->args[0], NAME_MAX_LEN);
	if (opt_given(o, O_FULL) && opt_given(o, O_SINCE))
		return err_set(err, ERR_USAGE, "--full and --since exclude each other");
	if (opt_given(o, O_FULL) && opt_given(o, O_CHANGED))
		return err_set(err, ERR_USAGE, "--full and --changed exclude each other");
	r = read_sources(o, in, err);
	if (r >= 0)
		r = read_changed(o, in, err);
	if (r >= 0)
		r = read_configs(o, in, err);
	return r < 0 ? r : labels_read(o, &in->labels, &in->nlabels, err);
}

static unsigned seconds_of(const struct options *o, enum opt_id id, unsigned otherwise)
{
	uint64_t s = opt_number(o, id, otherwise);

	return s > UINT_MAX ? UINT_MAX : (unsigned)s;
}

static void fill_spec(const struct options *o, const struct backup_input *in,
		      struct ingest_spec *spec)
{
	*spec = (struct ingest_spec){
		.name = o->args[0],
		.sources = in->sources,
		.nsources = in->nsources,
		.format = opt_text(o, O_FORMAT),
		.allow_backing = opt_given(o, O_ALLOW_BACKING),
		.since = opt_text(o, O_SINCE),
		.full = opt_given(o, O_FULL),
		.sample_percent = opt_percent(o, O_SAMPLE, SAMPLE_PERCENT),
		.keep_going = opt_given(o, O_KEEP_GOING),
		.reconnect_seconds = seconds_of(o, O_RECONNECT, RECONNECT_SECONDS),
		.source_frozen = opt_given(o, O_SOURCE_FROZEN),
		.compression = -1,
		.wait_seconds = seconds_of(o, O_WAIT, 0),
		.time = (int64_t)opt_number(o, O_TIME, 0),
		.consistency = CONSISTENCY_CRASH,
		.labels = in->labels,
		.nlabels = in->nlabels,
		.configs = in->configs,
		.nconfigs = in->nconfigs,
		.dry_run = opt_given(o, O_DRY_RUN),
		.stop = &cli_stop,
	};
	if (opt_given(o, O_COMPRESSION))
		spec->compression = compression_parse(opt_text(o, O_COMPRESSION));
	if (opt_given(o, O_CONSISTENCY))
		spec->consistency = consistency_parse(opt_text(o, O_CONSISTENCY));
}

static struct jval *disks_json(const struct ingest_result *res)
{
	struct jval *disks = jval_array();
	size_t i;

	for (i = 0; i < res->ndisks; i++) {
		const struct ingest_disk_result *d = &res->disks[i];
		struct jval *v = jval_object();

		jval_set(v, "name", jval_str(d->name));
		jval_set(v, "size", jval_uint(d->size));
		jval_set(v, "method", jval_str(disk_method_name(d->method)));
		jval_set(v, "read", jval_uint(d->read_bytes));
		jval_set(v, "unreadable", jval_uint(d->unreadable_bytes));
		jval_append(disks, v);
	}
	return disks;
}

static int summary_json(const struct ingest_result *res, bool dry_run, struct err *err)
{
	const struct session_result *s = &res->session;
	struct jval *o = jval_object(), *warnings = jval_array();
	size_t i;

	for (i = 0; i < res->nwarnings; i++)
		jval_append(warnings, jval_str(res->warnings[i]));
	jval_set(o, "type", jval_str("summary"));
	jval_set(o, "id", dry_run ? jval_null() : json_id(s->id, POINT_ID_LEN));
	jval_set(o, "point", dry_run ? jval_null() : jval_str(s->point));
	jval_set(o, "read", jval_uint(s->read_bytes));
	jval_set(o, "stored", jval_uint(s->stored));
	jval_set(o, "seconds", jval_real(res->seconds));
	jval_set(o, "warnings", warnings);
	jval_set(o, "disks", disks_json(res));
	jval_set(o, "chunks_new", jval_uint(s->chunks_new));
	jval_set(o, "chunks_parent", jval_uint(s->chunks_parent));
	jval_set(o, "chunks_index", jval_uint(s->chunks_index));
	jval_set(o, "chunks_zero", jval_uint(s->chunks_zero));
	jval_set(o, "dry_run", jval_bool(dry_run));
	return out_json_line(o, err);
}

static int summary_text(const struct cli *cli, const struct ingest_result *res, bool dry_run,
			struct err *err)
{
	char read[SIZE_TEXT_MAX], stored[SIZE_TEXT_MAX], took[TIME_TEXT_MAX];
	size_t i;

	for (i = 0; i < res->nwarnings; i++)
		out_warning(cli, "%s", res->warnings[i]);
	out_size(read, res->session.read_bytes);
	out_size(stored, res->session.stored);
	out_duration(took, res->seconds);
	out_note(cli, "%s read, %s %s, %s", read, stored, dry_run ? "would be stored" : "stored",
		 took);
	if (!dry_run)
		printf("%s\n", res->session.point);
	return out_check(err);
}

static int backup(struct cli *cli, const struct backup_input *in, struct err *err)
{
	cleanup_ptr(repo) repo = NULL;
	struct ingest_result res = { 0 };
	struct ingest_spec spec;
	struct progress_view view;
	int r;

	fill_spec(&cli->opt, in, &spec);
	r = cli_repo_open(cli, REPO_WRITE, KEY_NEEDED, true, &repo, err);
	if (r < 0)
		return r;
	progress_begin(&view, cli);
	spec.progress = progress_show;
	spec.progress_opaque = &view;
	r = ingest_backup(repo, &spec, &res, err);
	progress_end(&view);
	if (r >= 0) {
		cli_repo_seen(cli, repo);
		cli->attention = res.attention;
		r = cli->json ? summary_json(&res, spec.dry_run, err) :
				summary_text(cli, &res, spec.dry_run, err);
	}
	ingest_result_release(&res);
	return r;
}

int cmd_backup(struct cli *cli, struct err *err)
{
	struct backup_input in = { 0 };
	int r = read_input(cli, &in, err);

	if (r >= 0)
		r = backup(cli, &in, err);
	backup_input_release(&in);
	return r;
}
