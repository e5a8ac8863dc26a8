// SPDX-License-Identifier: GPL-3.0-or-later
/* livepoint recover, recoveries, watch-guests: guests that run on restore points. */
#include "cli/internal.h"

#include <stdlib.h>

#include "recover/recover.h"

#include "base/banned.h"

#define LOCAL "local"

static void note(void *opaque, const char *line)
{
	out_note(opaque, "%s", line);
}

/* --- output --- */

static struct jval *damage_json(const struct recovery_info *r)
{
	struct jval *array = jval_array();
	size_t i;

	for (i = 0; i < r->ndamage; i++) {
		struct jval *d = jval_object();

		jval_set(d, "disk", jval_str(r->damage[i].disk));
		jval_set(d, "start", jval_uint(r->damage[i].start));
		jval_set(d, "length", jval_uint(r->damage[i].length));
		jval_set(d, "whole", jval_str(r->damage[i].other));
		jval_set(d, "time", json_time(r->damage[i].time));
		jval_append(array, d);
	}
	return array;
}

static struct jval *progress_json(const struct recovery_info *r)
{
	struct jval *v;

	if (r->total == 0)
		return jval_null();
	v = jval_object();
	jval_set(v, "done", jval_uint(r->done));
	jval_set(v, "total", jval_uint(r->total));
	return v;
}

static struct jval *recovery_json(const struct recovery_info *r)
{
	struct jval *v = jval_object();
	cleanup_free char *name = r->point ? str_dup(r->point) : NULL;

	if (name)
		name[strcspn(name, "@")] = 0;
	jval_set(v, "id", jval_str(r->id));
	jval_set(v, "name", jval_str(name));
	jval_set(v, "point", jval_str(r->point));
	jval_set(v, "state", jval_str(recovery_state_name(r->state)));
	jval_set(v, "domain", jval_str(r->domain));
	jval_set(v, "uuid", jval_str(r->uuid));
	jval_set(v, "connection", jval_str(r->connection));
	jval_set(v, "host", jval_str(r->host));
	jval_set(v, "here", jval_bool(r->here));
	jval_set(v, "guest", jval_str(r->guest));
	jval_set(v, "problem", jval_str(r->problem));
	jval_set(v, "damage", damage_json(r));
	jval_set(v, "accelerator", jval_str(r->accel));
	jval_set(v, "overlay", jval_str(r->overlay));
	jval_set(v, "local", jval_bool(r->local));
	jval_set(v, "bytes", jval_uint(r->bytes));
	jval_set(v, "progress", progress_json(r));
	jval_set(v, "busy", jval_bool(r->busy));
	jval_set(v, "watched", jval_bool(r->watched));
	jval_set(v, "created", json_time(r->created));
	jval_set(v, "since", json_time(r->since));
	return v;
}

/* --- recover --- */

/* Sorts the texts of an option that may be given several times. */
static void gather(const struct options *o, enum opt_id id, const char **dst, size_t *count)
{
	size_t n = opt_count(o, id), i;

	for (i = 0; i < n; i++)
		dst[(*count)++] = opt_nth(o, id, i);
}

static int read_network(const struct options *o, const char **texts, struct recover_spec *spec,
			struct err *err)
{
	size_t i;

	gather(o, O_NETWORK, texts, &spec->nnetworks);
	spec->networks = texts;
	for (i = 0; i < spec->nnetworks; i++) {
		if (strchr(texts[i], '='))
			continue;
		if (spec->nnetworks > 1 ||
		    (strcmp(texts[i], "isolated") != 0 && strcmp(texts[i], "none") != 0))
			return err_set(
				err, ERR_USAGE,
				"'%s' is no value for --network: OLD=NEW, or isolated, or none alone",
				texts[i]);
		spec->network = texts[i];
		spec->nnetworks = 0;
		break;
	}
	return 0;
}

static int read_overlay(const char *text, struct recover_spec *spec, struct err *err)
{
	if (!text || strcmp(text, "server") == 0)
		return 0;
	spec->local = strcmp(text, LOCAL) == 0 || str_starts(text, LOCAL ":");
	if (spec->local && text[strlen(LOCAL)] == ':')
		spec->local_dir = text + strlen(LOCAL) + 1;
	if (!spec->local || (spec->local_dir && !*spec->local_dir))
		return err_set(err, ERR_USAGE,
			       "'%s' is no value for --overlay: server, local or local:DIR", text);
	return 0;
}

/* texts: room for as many strings as there are options. */
static int read_spec(struct cli *cli, const char **texts, struct recover_spec *spec,
		     struct err *err)
{
	const struct options *o = &cli->opt;
	int code;

	spec->as = opt_text(o, O_AS);
	spec->connect = opt_text(o, O_CONNECT);
	spec->disks = opt_text(o, O_DISKS);
	spec->disk_bus = opt_text(o, O_DISK_BUS);
	spec->machine = opt_text(o, O_MACHINE);
	spec->os_info = opt_text(o, O_OS_INFO);
	spec->memory = opt_number(o, O_MEMORY, 0);
	spec->vcpus = (unsigned)opt_number(o, O_VCPUS, 0);
	spec->paused = opt_given(o, O_PAUSED);
	spec->cache = opt_text(o, O_CACHE);
	spec->note = note;
	spec->opaque = cli;
	spec->stop = &cli_stop;
	if (opt_given(o, O_KEEP_IDENTITY) && opt_given(o, O_NEW_IDENTITY))
		return err_set(err, ERR_USAGE,
			       "--keep-identity and --new-identity exclude each other");
	spec->identity = opt_given(o, O_KEEP_IDENTITY) ? IDENTITY_KEEP :
			 opt_given(o, O_NEW_IDENTITY)  ? IDENTITY_NEW :
							 IDENTITY_AUTO;
	code = read_overlay(opt_text(o, O_OVERLAY), spec, err);
	if (code == 0)
		code = read_network(o, texts, spec, err);
	spec->macs = texts + spec->nnetworks;
	gather(o, O_MAC, texts + spec->nnetworks, &spec->nmacs);
	return code;
}

static int print_plan(struct cli *cli, struct repo *repo, const struct recover_spec *spec,
		      struct err *err)
{
	cleanup_buf struct buf text = BUF_INIT, xml = BUF_INIT;
	struct jval *v;
	int code = recover_plan(repo, spec, &text, &xml, err);

	if (code < 0)
		return code;
	if (!cli->json) {
		printf("%s\n%s", buf_str(&text), buf_str(&xml));
		return out_check(err);
	}
	v = jval_object();
	jval_set(v, "plan", jval_str(buf_str(&text)));
	jval_set(v, "xml", jval_str(buf_str(&xml)));
	return out_json(v, err);
}

static int print_recovered(struct cli *cli, const struct recovery_info *r, struct err *err)
{
	if (cli->json)
		return out_json(recovery_json(r), err);
	out_note(cli, "recovery %s of %s", r->id, r->point);
	printf("%s\n", r->domain);
	return out_check(err);
}

/* A change, unless it cannot be made: then only a local overlay will do, and recover_start() says so. */
static int open_repository(struct cli *cli, bool plan, struct repo **out, struct err *err)
{
	int code = cli_repo_open(cli, plan ? REPO_READ : REPO_WRITE, KEY_NEEDED, false, out, err);

	if (code != ERR_READONLY && code != ERR_PERM)
		return code;
	err_clear(err);
	return cli_repo_open(cli, REPO_READ, KEY_NEEDED, false, out, err);
}

int cmd_recover(struct cli *cli, struct err *err)
{
	const struct options *o = &cli->opt;
	const char *resume = opt_text(o, O_RESUME);
	cleanup_free const char **texts = mem_alloc_array(o->nvalues + 1, sizeof(*texts));
	struct recover_spec spec = { .point = o->nargs ? o->args[0] : NULL };
	struct recovery_info r = { .ndamage = 0 };
	cleanup_ptr(repo) repo = NULL;
	int code;

	if (!texts)
		return err_nomem(err, "options");
	if (!resume == !spec.point)
		return err_set(err, ERR_USAGE, "name a POINT, or --resume ID");
	code = read_spec(cli, texts, &spec, err);
	if (code == 0)
		code = open_repository(cli, opt_given(o, O_DRY_RUN), &repo, err);
	if (code < 0)
		return code;
	if (opt_given(o, O_DRY_RUN))
		return resume ? err_set(err, ERR_USAGE, "--dry-run is for a new recovery") :
				print_plan(cli, repo, &spec, err);
	cli_stop_patiently = true;
	code = resume ? recover_resume(repo, resume, &spec, &r, err) :
			recover_start(repo, &spec, &r, err);
	if (code < 0)
		return code;
	code = print_recovered(cli, &r, err);
	recovery_info_release(&r);
	return code;
}

/* --- migrate --- */

struct migrating {
	struct cli *cli;
	struct progress_view view;
	const char *guest;
};

static void migrate_note(void *opaque, const char *line)
{
	struct migrating *m = opaque;

	progress_clear();
	out_note(m->cli, "%s", line);
}

static void migrate_progress(void *opaque, uint64_t done, uint64_t total)
{
	struct migrating *m = opaque;
	struct progress p = { .phase = m->guest, .done = done, .total = total, .stored = done };

	progress_show(&m->view, &p);
}

static int print_migrated(struct cli *cli, const struct recovery_info *r, bool abort,
			  struct err *err)
{
	if (cli->json)
		return out_json(recovery_json(r), err);
	out_note(cli, abort ? "guest '%s' stays on %s" : "guest '%s' has left %s", r->domain,
		 r->point);
	printf("%s\n", r->domain);
	return out_check(err);
}

int cmd_migrate(struct cli *cli, struct err *err)
{
	const struct options *o = &cli->opt;
	struct migrating m = { .cli = cli, .guest = o->args[0] };
	struct migrate_spec spec = { .which = o->args[0],
				     .to = opt_text(o, O_TO),
				     .format = opt_text(o, O_FORMAT),
				     .bandwidth = opt_number(o, O_BANDWIDTH, 0),
				     .abort = opt_given(o, O_ABORT),
				     .progress = migrate_progress,
				     .note = migrate_note,
				     .opaque = &m,
				     .stop = &cli_stop };
	struct recovery_info r = { .ndamage = 0 };
	cleanup_ptr(repo) repo = NULL;
	int code;

	if (spec.abort && (spec.to || spec.format || spec.bandwidth))
		return err_set(err, ERR_USAGE, "--abort goes with no other option");
	code = cli_repo_open(cli, REPO_WRITE, KEY_NEEDED, false, &repo, err);
	if (code < 0)
		return code;
	cli_stop_patiently = true;
	progress_begin(&m.view, cli);
	code = recover_migrate(repo, &spec, &r, err);
	progress_end(&m.view);
	if (code == 0)
		code = print_migrated(cli, &r, spec.abort, err);
	recovery_info_release(&r);
	return code;
}

/* --- recoveries --- */

static int print_json(const struct recovery_info *list, size_t count, struct err *err)
{
	struct out_array a = { 0 };
	size_t i;
	int code;

	for (i = 0; i < count; i++) {
		code = out_array_item(&a, recovery_json(&list[i]), err);
		if (code < 0)
			return code;
	}
	return out_array_end(&a, err);
}

static void print_progress(struct table *t, const struct recovery_info *r)
{
	if (r->total)
		table_cell(t, "%u %%", (unsigned)(r->done / (r->total / 100 + 1)));
	else
		table_cell(t, "-");
}

static int print_text(const struct cli *cli, const struct recovery_info *list, size_t count,
		      struct err *err)
{
	static const char *const heads[] = {
		"ID",	    "GUEST",	 "POINT", "STATE", "NOW",
		">OVERLAY", ">PROGRESS", ">AGE",  "SINCE", "CONNECTION"
	};
	cleanup_ptr(table) t = NULL;
	size_t i;
	int code = table_new(heads, ARRAY_SIZE(heads), &t, err);

	if (code < 0)
		return code;
	for (i = 0; i < count; i++) {
		const struct recovery_info *r = &list[i];
		char since[TIME_TEXT_MAX], age[TIME_TEXT_MAX], size[SIZE_TEXT_MAX];

		out_local_time(since, r->since);
		out_duration(age, (double)(time_now() - r->created));
		out_size(size, r->bytes);
		table_cell(t, "%s", r->id);
		table_cell(t, "%s", r->domain ? r->domain : "-");
		table_cell(t, "%s", r->point);
		table_cell(t, "%s", recovery_state_name(r->state));
		table_cell(t, "%s", r->busy ? "busy" : r->guest ? r->guest : "-");
		table_cell(t, "%s", size);
		print_progress(t, r);
		table_cell(t, "%s", age);
		table_cell(t, "%s", since);
		table_cell(t, "%s%s%s", r->connection ? r->connection : "-",
			   r->here || !r->host ? "" : " on ", r->here || !r->host ? "" : r->host);
	}
	code = table_print(t, err);
	for (i = 0; code >= 0 && i < count; i++)
		if (list[i].problem)
			out_note(cli, "%s: %s", list[i].id, list[i].problem);
	return code;
}

int cmd_recoveries(struct cli *cli, struct err *err)
{
	cleanup_ptr(repo) repo = NULL;
	struct recovery_info *list = NULL;
	size_t count = 0;
	int code = cli_repo_open(cli, REPO_READ, KEY_NOT_USED, false, &repo, err);

	if (code == 0)
		code = recover_list(repo, &list, &count, err);
	if (code < 0)
		return code;
	code = cli->json ? print_json(list, count, err) : print_text(cli, list, count, err);
	recovery_infos_free(list, count);
	return code;
}

/* --- watch-guests --- */

/* Its standard error is a log. */
static void watch_line(void *opaque, enum log_level level, const char *line)
{
	char now[TIME_TEXT_MAX];

	(void)opaque;
	time_format(now, time_now());
	fprintf(stderr, "%s %s%s\n", now,
		level == LOG_LEVEL_ERROR   ? "error: " :
		level == LOG_LEVEL_WARNING ? "warning: " :
					     "",
		line);
}

int cmd_watch_guests(struct cli *cli, struct err *err)
{
	log_set_sink(watch_line, NULL,
		     opt_count(&cli->opt, O_VERBOSE) ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
	cli_stop_patiently = true;
	return recover_watch(cli->opt.args[0], &cli_stop, err);
}
