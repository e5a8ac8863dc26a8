// SPDX-License-Identifier: GPL-3.0-or-later
/* livepoint verify: findings as they come, one a line, then what was looked at. */
#include "cli/internal.h"

#include "repo/verify.h"

#include "base/banned.h"

struct verify_view {
	const struct cli *cli;
	struct progress_view progress;
};

static void show_progress(void *opaque, const struct progress *p)
{
	struct verify_view *v = opaque;

	progress_show(&v->progress, p);
}

static void finding_json(const struct verify_finding *f)
{
	struct jval *o = jval_object();
	bool record = f->locator != LOCATOR_NONE, range = (f->disk || f->config) && f->length;
	bool slot = record && f->slots;

	jval_set(o, "type", jval_str("finding"));
	jval_set(o, "message", jval_str(f->what));
	jval_set(o, "point", jval_str(f->point));
	jval_set(o, "disk", jval_str(f->disk));
	jval_set(o, "config", jval_str(f->config));
	jval_set(o, "start", range ? jval_uint(f->start) : jval_null());
	jval_set(o, "length", range ? jval_uint(f->length) : jval_null());
	jval_set(o, "pack", record ? jval_uint(locator_pack(f->locator)) : jval_null());
	jval_set(o, "slot", slot ? jval_uint(locator_slot(f->locator)) : jval_null());
	jval_set(o, "slots", slot ? jval_uint(f->slots) : jval_null());
	jval_set(o, "id", json_id(f->id, ID_LEN));
	out_json_line(o, NULL);
}

/* Pack, slots and id, unless the message names them: without a point it is mostly that of the record's reader. */
static void finding_place(struct buf *line, const struct verify_finding *f)
{
	char hex[2 * ID_LEN + 1];
	bool named = !f->point && f->what && strstr(f->what, "pack ");

	if (named)
		return;
	buf_printf(line, " (pack %012llx", (unsigned long long)locator_pack(f->locator));
	if (f->slots)
		buf_printf(line, ", slot %u", locator_slot(f->locator));
	if (f->slots > 1)
		buf_printf(line, " to %u", locator_slot(f->locator) + f->slots - 1);
	if (f->id) {
		hex_encode(hex, f->id, ID_LEN);
		buf_printf(line, ", id %s", hex);
	}
	buf_printf(line, ")");
}

static void finding_text(const struct verify_finding *f)
{
	cleanup_buf struct buf line = BUF_INIT;

	if (f->point)
		buf_printf(&line, "%s%s%s: ", f->point,
			   f->config ? "/config/" :
			   f->disk   ? "/" :
				       "",
			   f->config ? f->config :
			   f->disk   ? f->disk :
				       "");
	buf_printf(&line, "%s", f->what ? f->what : "damaged");
	if ((f->disk || f->config) && f->length)
		buf_printf(&line, ", bytes %llu to %llu", (unsigned long long)f->start,
			   (unsigned long long)(f->start + f->length - 1));
	if (f->locator != LOCATOR_NONE)
		finding_place(&line, f);
	progress_clear();
	printf("%s\n", out_clean((char *)(uintptr_t)buf_str(&line)));
	fflush(stdout);
}

static void show_finding(void *opaque, const struct verify_finding *f)
{
	struct verify_view *v = opaque;

	if (v->cli->json)
		finding_json(f);
	else
		finding_text(f);
}

static int summary(const struct cli *cli, const struct verify_spec *spec,
		   const struct verify_result *res, double seconds, struct err *err)
{
	char bytes[SIZE_TEXT_MAX], took[TIME_TEXT_MAX], share[48] = "";
	struct jval *o;

	if (!cli->json) {
		if (spec->data && res->share < 1)
			snprintf(share, sizeof(share), ", %.1f %% of the data", res->share * 100);
		out_size(bytes, res->bytes);
		out_duration(took, seconds);
		out_note(
			cli,
			"%llu points, %llu packs, %llu objects, %s read, %llu findings, %llu damaged "
			"points%s, %s",
			(unsigned long long)res->points, (unsigned long long)res->packs,
			(unsigned long long)res->objects, bytes, (unsigned long long)res->findings,
			(unsigned long long)res->damaged_points, share, took);
		return 0;
	}
	o = jval_object();
	jval_set(o, "type", jval_str("summary"));
	jval_set(o, "kind", jval_str(spec->data ? "data" : "structure"));
	jval_set(o, "points", jval_uint(res->points));
	jval_set(o, "packs", jval_uint(res->packs));
	jval_set(o, "objects", jval_uint(res->objects));
	jval_set(o, "bytes", jval_uint(res->bytes));
	jval_set(o, "share", spec->data ? jval_real(res->share) : jval_null());
	jval_set(o, "findings", jval_uint(res->findings));
	jval_set(o, "damaged_points", jval_uint(res->damaged_points));
	jval_set(o, "seconds", jval_real(seconds));
	return out_json_line(o, err);
}

static void show_line(const struct cli *cli, const char *line, bool information)
{
	cleanup_free char *copy = NULL;
	struct jval *o;

	if (!cli->json) {
		copy = str_dup(line);
		printf("%s\n", copy ? out_clean(copy) : "");
		return;
	}
	o = jval_object();
	jval_set(o, "type", jval_str("leftover"));
	jval_set(o, "message", jval_str(line));
	jval_set(o, "information", jval_bool(information));
	out_json_line(o, NULL);
}

static void show_leftover(void *opaque, const char *line)
{
	show_line(opaque, line, false);
}

static void show_quarantined(void *opaque, const char *line)
{
	show_line(opaque, line, true);
}

static int leftovers(struct cli *cli, struct err *err)
{
	cleanup_ptr(repo) repo = NULL;
	struct jval *o;
	int count, kept;

	if (cli->opt.nargs || opt_given(&cli->opt, O_DATA))
		return err_set(err, ERR_USAGE, "--leftovers goes alone");
	count = cli_repo_open(cli, REPO_READ, KEY_NOT_USED, false, &repo, err);
	if (count < 0)
		return count;
	count = repo_leftovers(repo, show_leftover, cli, err);
	kept = count < 0 ? count : repo_quarantined(repo, show_quarantined, cli, err);
	if (kept < 0)
		return kept;
	if (!cli->json) {
		out_note(cli, "%d leftover%s", count, count == 1 ? "" : "s");
		return out_check(err);
	}
	o = jval_object();
	jval_set(o, "type", jval_str("summary"));
	jval_set(o, "leftovers", jval_int(count));
	return out_json_line(o, err);
}

/* Results are noted in the points' rows, if the repository can be written. */
static int open_for_verify(const struct cli *cli, struct repo **out, struct err *err)
{
	int r = cli_repo_open(cli, REPO_WRITE, KEY_NEEDED, true, out, err);

	if (r != ERR_READONLY && r != ERR_PERM && r != ERR_NOSPC)
		return r;
	err_clear(err);
	r = cli_repo_open(cli, REPO_READ, KEY_NEEDED, true, out, err);
	if (r >= 0)
		out_warning(cli, "the repository cannot be written: the result is not recorded");
	return r;
}

/* Name of one that was given and means nothing here, or NULL. */
static const char *boot_option(const struct options *o)
{
	static const enum opt_id ids[] = { O_WAIT,     O_EXEC,	 O_EXPECT, O_TIMEOUT,
					   O_PARALLEL, O_MEMORY, O_CONNECT };
	size_t i, k;

	for (i = 0; i < o->nvalues; i++)
		for (k = 0; k < ARRAY_SIZE(ids); k++)
			if (o->values[i].def->id == ids[k])
				return o->values[i].def->name;
	return NULL;
}

int cmd_verify(struct cli *cli, struct err *err)
{
	cleanup_ptr(repo) repo = NULL;
	struct verify_view view = { .cli = cli };
	struct verify_result res = { 0 };
	struct err more = ERR_INIT;
	struct verify_spec spec = {
		.point = cli->opt.nargs ? cli->opt.args[0] : NULL,
		.data = opt_given(&cli->opt, O_DATA),
		.sample = opt_percent(&cli->opt, O_SAMPLE, 0),
		.since_verified = opt_number(&cli->opt, O_SINCE_VERIFIED, 0),
		.io_limit = opt_number(&cli->opt, O_IO_LIMIT, 0),
		.progress = show_progress,
		.finding = show_finding,
		.opaque = &view,
		.stop = &cli_stop,
	};
	uint64_t begun;
	int r, s;

	if (opt_given(&cli->opt, O_BOOT))
		return cmd_verify_boot(cli, err);
	if (boot_option(&cli->opt))
		return err_set(err, ERR_USAGE, "--%s goes with --boot", boot_option(&cli->opt));
	if (cli->opt.nargs > 1)
		return err_set(err, ERR_USAGE, "several points go with --boot only");
	if (opt_given(&cli->opt, O_LEFTOVERS))
		return leftovers(cli, err);
	if (!spec.data && (opt_given(&cli->opt, O_SAMPLE) || opt_given(&cli->opt, O_IO_LIMIT) ||
			   opt_given(&cli->opt, O_SINCE_VERIFIED)))
		return err_set(err, ERR_USAGE,
			       "--sample, --since-verified and --io-limit go with --data");
	if (opt_given(&cli->opt, O_SAMPLE) && spec.sample <= 0)
		return err_set(err, ERR_USAGE, "--sample: the share must be above 0");
	r = open_for_verify(cli, &repo, err);
	if (r < 0)
		return r;
	begun = time_mono_ns();
	progress_begin(&view.progress, cli);
	r = repo_verify(repo, &spec, &res, err);
	progress_end(&view.progress);
	if (r < 0 && r != ERR_DAMAGED)
		return r;
	s = summary(cli, &spec, &res, (double)(time_mono_ns() - begun) / 1e9, &more);
	if (r >= 0 && s < 0) {
		*err = more;
		return s;
	}
	return r;
}
