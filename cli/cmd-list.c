// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * livepoint list and show: restore points as tables and as the objects of livepoint-json(5).
 *
 * Invariants:
 *  1. Neither needs a key: both print what the catalog caches of the manifests, so that also a point whose
 *     contents are damaged can be looked at.  Files kept with a point are not cached: show tells them if the manifest
 *     can be read, and proofs by booting if the repository is unlocked.
 *  2. Fields that have no value are null, never left out.
 */
#include "cli/internal.h"

#include <stdlib.h>

#include "base/file.h"
#include "repo/proof.h"
#include "repo/retention.h"

#include "base/banned.h"

static const char *verified_name(int kind)
{
	switch (kind) {
	case VERIFIED_STRUCTURE:
		return "structure";
	case VERIFIED_DATA:
		return "data";
	case VERIFIED_BOOT:
		return "boot";
	default:
		return NULL;
	}
}

static struct jval *verified_json(const struct point_row *row)
{
	const char *kind = verified_name(row->verified_kind);
	struct jval *v;

	if (!kind)
		return jval_null();
	v = jval_object();
	jval_set(v, "kind", jval_str(kind));
	jval_set(v, "time", json_time(row->verified_time));
	jval_set(v, "share", jval_real(row->verified_share));
	return v;
}

static struct jval *labels_json(const struct manifest *m)
{
	struct jval *v = jval_object();
	size_t i;

	for (i = 0; i < m->nlabels; i++)
		jval_set(v, m->labels[i].key, jval_str(m->labels[i].value));
	return v;
}

static struct jval *disk_json(const struct manifest_disk *d, bool more)
{
	struct jval *v = jval_object();

	jval_set(v, "name", jval_str(d->name));
	jval_set(v, "size", jval_uint(d->size));
	jval_set(v, "method", jval_str(disk_method_name(d->method)));
	if (!more)
		return v;
	jval_set(v, "source", jval_str(d->source));
	jval_set(v, "source_size", jval_uint(d->source_size));
	jval_set(v, "chunk_size", jval_uint(d->chunk_size));
	jval_set(v, "read", jval_uint(d->read_bytes));
	jval_set(v, "unreadable", jval_uint(d->unreadable_bytes));
	return v;
}

/* A hold that has ended is none. */
static const struct hold *hold_of(const struct state *notes, const struct point_row *row)
{
	const struct hold *h = state_hold(notes, row->id);

	return h && !hold_is_over(h, time_now()) ? h : NULL;
}

static struct jval *forgotten_json(const struct state_point *p)
{
	struct jval *v;

	if (!p)
		return jval_null();
	v = jval_object();
	jval_set(v, "time", json_time(p->forgotten));
	jval_set(v, "until", json_time(p->until));
	return v;
}

/* m: the manifest itself, or NULL: nobody can tell. */
static struct jval *config_json(const struct manifest *m)
{
	struct jval *array = m ? jval_array() : jval_null();
	size_t i;

	for (i = 0; m && i < m->nconfigs; i++) {
		struct jval *v = jval_object();

		jval_set(v, "name", jval_str(m->configs[i].name));
		jval_set(v, "size", jval_uint(m->configs[i].size));
		jval_append(array, v);
	}
	return array;
}

/* The object of livepoint-json(5); more: with the fields of show, of which those of files need the manifest itself. */
static struct jval *point_json(const struct point_row *row, const struct state *notes, bool more,
			       const struct manifest *whole)
{
	const struct hold *hold = hold_of(notes, row);
	const struct manifest *m = row->m;
	struct jval *v = jval_object(), *disks = jval_array();
	char point[POINT_TEXT_MAX];
	size_t i;

	repo_point_text(m, point);
	for (i = 0; i < m->ndisks; i++)
		jval_append(disks, disk_json(&m->disks[i], more));
	jval_set(v, "id", json_id(row->id, POINT_ID_LEN));
	jval_set(v, "point", jval_str(point));
	jval_set(v, "name", jval_str(m->name));
	jval_set(v, "time", json_time(m->time));
	jval_set(v, "disks", disks);
	jval_set(v, "tree", jval_null());
	jval_set(v, "stored", jval_uint(m->stored));
	jval_set(v, "kind", jval_str(point_kind_name(m->kind)));
	jval_set(v, "parent", m->has_parent ? json_id(m->parent, POINT_ID_LEN) : jval_null());
	jval_set(v, "consistency", jval_str(consistency_name(m->consistency)));
	jval_set(v, "labels", labels_json(m));
	jval_set(v, "hold", hold ? json_hold(hold->reason, hold->until) : jval_null());
	jval_set(v, "verified", verified_json(row));
	jval_set(v, "damaged", jval_bool(row->damaged));
	jval_set(v, "effective", jval_bool(false));
	jval_set(v, "forgotten", forgotten_json(state_forgotten(notes, row->id)));
	if (more) {
		jval_set(v, "sequence", jval_uint(m->sequence));
		jval_set(v, "generation", jval_uint(m->generation));
		jval_set(v, "program", jval_str(m->program));
		jval_set(v, "config", config_json(whole));
	}
	return v;
}

/* --- list --- */

static int list_json(const struct point_list *list, const struct state *notes, struct err *err)
{
	struct out_array a = { 0 };
	size_t i;
	int r;

	for (i = 0; i < list->count; i++) {
		r = out_array_item(&a, point_json(&list->rows[i], notes, false, NULL), err);
		if (r < 0)
			return r;
	}
	return out_array_end(&a, err);
}

static void state_cell(struct table *t, const struct point_row *row)
{
	const char *verified = verified_name(row->verified_kind);

	if (row->damaged)
		table_cell(t, "DAMAGED");
	else if (verified && row->verified_share < 1)
		table_cell(t, "%s %.0f%%", verified, row->verified_share * 100);
	else
		table_cell(t, "%s", verified ? verified : "-");
}

static uint64_t disk_bytes(const struct manifest *m)
{
	uint64_t bytes = 0;
	size_t i;

	for (i = 0; i < m->ndisks; i++)
		bytes += m->disks[i].size;
	return bytes;
}

static void list_row(struct table *t, const struct point_row *row, const struct state *notes)
{
	char point[POINT_TEXT_MAX], when[TIME_TEXT_MAX], size[SIZE_TEXT_MAX], stored[SIZE_TEXT_MAX];
	const struct manifest *m = row->m;

	repo_point_text(m, point);
	out_local_time(when, m->time);
	out_size(size, disk_bytes(m));
	out_size(stored, m->stored);
	table_cell(t, "%s", point);
	table_cell(t, "%s", when);
	table_cell(t, "%zu", m->ndisks);
	table_cell(t, "%s", size);
	table_cell(t, "%s", stored);
	table_cell(t, "%s", point_kind_name(m->kind));
	table_cell(t, "%s", hold_of(notes, row) ? "held" : "-");
	state_cell(t, row);
}

static int list_text(const struct point_list *list, const struct state *notes, struct err *err)
{
	static const char *const heads[] = { "POINT",	"LOCAL TIME", ">DISKS", ">SIZE",
					     ">STORED", "KIND",	      "HOLD",	"VERIFIED" };
	cleanup_ptr(table) t = NULL;
	size_t i;
	int r = table_new(heads, ARRAY_SIZE(heads), &t, err);

	if (r < 0)
		return r;
	for (i = 0; i < list->count; i++)
		list_row(t, &list->rows[i], notes);
	return table_print(t, err);
}

static void forgotten_time(struct table *t, int64_t time)
{
	char text[TIME_TEXT_MAX];

	out_local_time(text, time);
	table_cell(t, "%s", text);
}

static int list_forgotten_text(const struct point_list *list, const struct state *notes,
			       struct err *err)
{
	static const char *const heads[] = { "POINT", "LOCAL TIME", ">SIZE", "FORGOTTEN", "UNTIL" };
	cleanup_ptr(table) t = NULL;
	char text[MAX(POINT_TEXT_MAX, SIZE_TEXT_MAX)];
	size_t i;
	int r = table_new(heads, ARRAY_SIZE(heads), &t, err);

	if (r < 0)
		return r;
	for (i = 0; i < list->count; i++) {
		const struct manifest *m = list->rows[i].m;
		const struct state_point *p = state_forgotten(notes, list->rows[i].id);

		repo_point_text(m, text);
		table_cell(t, "%s", text);
		forgotten_time(t, m->time);
		out_size(text, disk_bytes(m));
		table_cell(t, "%s", text);
		forgotten_time(t, p ? p->forgotten : 0);
		forgotten_time(t, p ? p->until : 0);
	}
	return table_print(t, err);
}

static void only_forgotten(struct point_list *list)
{
	size_t i, n = 0;

	for (i = 0; i < list->count; i++) {
		if (list->rows[i].state == POINT_FORGOTTEN)
			list->rows[n++] = list->rows[i];
		else
			point_row_release(&list->rows[i]);
	}
	list->count = n;
}

/* Points of the filter; an unknown NAME is an error that names what is near. */
static int list_find(const struct options *o, struct repo *repo, struct point_list *list,
		     struct err *err)
{
	const char *label = opt_text(o, O_LABEL), *eq = label ? strchr(label, '=') : NULL;
	cleanup_free char *key = label ? str_printf("%.*s", (int)(eq - label), label) : NULL;
	struct point_filter f = { .name = o->nargs ? o->args[0] : NULL,
				  .forgotten = opt_given(o, O_FORGOTTEN) };
	struct repo_spec spec = { 0 };
	int r;

	if (label && !key)
		return err_nomem(err, "listing");
	f.label_key = key;
	f.label_value = label ? eq + 1 : NULL;
	if (f.name && !name_valid(f.name))
		return err_set(err, ERR_USAGE, "'%.140s' is no NAME", f.name);
	r = repo_points(repo, &f, list, err);
	if (r >= 0 && f.forgotten && list->count) {
		only_forgotten(list);
		return 0;
	}
	if (r < 0 || list->count || !f.name)
		return r;
	r = repo_resolve(repo, f.name, &spec, err);
	if (r >= 0)
		repo_spec_release(&spec);
	/* it exists, and only the label fits none; or it is an id, which is no NAME */
	if (r >= 0 && !label)
		return err_set(err, ERR_NOT_FOUND, "no restore point of '%s'", f.name);
	return r;
}

/* Imports can carry times before those of points that were published earlier. */
static int by_time(const void *a, const void *b)
{
	const struct manifest *x = ((const struct point_row *)a)->m;
	const struct manifest *y = ((const struct point_row *)b)->m;

	if (x->time != y->time)
		return x->time < y->time ? -1 : 1;
	return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

int cmd_list(struct cli *cli, struct err *err)
{
	cleanup_ptr(repo) repo = NULL;
	struct point_list list = { 0 };
	struct state notes = { 0 };
	int r;

	r = cli_repo_open(cli, REPO_READ, KEY_NOT_USED, false, &repo, err);
	if (r < 0)
		return r;
	r = list_find(&cli->opt, repo, &list, err);
	if (r >= 0)
		r = repo_notes(repo, &notes, err);
	if (r >= 0 && list.count)
		qsort(list.rows, list.count, sizeof(*list.rows), by_time);
	if (r >= 0 && cli->json)
		r = list_json(&list, &notes, err);
	else if (r >= 0 && opt_given(&cli->opt, O_FORGOTTEN))
		r = list_forgotten_text(&list, &notes, err);
	else if (r >= 0)
		r = list_text(&list, &notes, err);
	state_release(&notes);
	point_list_release(&list);
	return r;
}

/* --- show --- */

static void show_line(const char *head, const char *text)
{
	cleanup_free char *copy = str_dup(text);

	if (copy)
		printf("%-13s %s\n", head, out_clean(copy));
}

static void show_hold(const struct hold *hold)
{
	cleanup_free char *text = NULL;
	char until[TIME_TEXT_MAX];

	if (!hold)
		return;
	out_local_time(until, hold->until);
	text = str_printf("%s%s%s%s", hold->until ? "until " : "without end",
			  hold->until ? until : "", hold->reason[0] ? ": " : "", hold->reason);
	show_line("Held:", text ? text : "");
}

/* boot: the verdict of a proof, or NULL. */
static void show_boot(const struct jval *boot)
{
	const char *seen = jval_as_str(jval_get(boot, "seen"));
	const char *time = jval_as_str(jval_get(boot, "time"));
	char when[TIME_TEXT_MAX];
	cleanup_free char *text = NULL;
	bool passed = false;
	int64_t t;

	if (!boot)
		return;
	jval_as_bool(jval_get(boot, "passed"), &passed);
	if (time && time_parse(time, &t))
		out_local_time(when, t);
	else
		snprintf(when, sizeof(when), "at an unknown time");
	text = str_printf("%s, %s: %s", passed ? "passed" : "boot failed", when, seen ? seen : "");
	show_line("Boot:", text ? text : "");
}

static void show_verified(const struct point_row *row)
{
	char when[TIME_TEXT_MAX];

	if (!verified_name(row->verified_kind)) {
		show_line("Verified:", "never");
		return;
	}
	out_local_time(when, row->verified_time);
	printf("%-13s %s, ", "Verified:", verified_name(row->verified_kind));
	if (row->verified_share < 1)
		printf("%.1f %% of the data, ", row->verified_share * 100);
	printf("%s\n", when);
}

static void show_head(const struct point_row *row, const struct state *notes,
		      const struct jval *boot)
{
	const struct manifest *m = row->m;
	char point[POINT_TEXT_MAX], text[SIZE_TEXT_MAX + TIME_TEXT_MAX], id[2 * POINT_ID_LEN + 1];
	size_t i;

	repo_point_text(m, point);
	show_line("Point:", point);
	hex_encode(id, row->id, POINT_ID_LEN);
	show_line("Id:", id);
	out_local_time(text, m->time);
	show_line("Local time:", text);
	show_line("Kind:", point_kind_name(m->kind));
	if (m->has_parent) {
		hex_encode(id, m->parent, POINT_ID_LEN);
		show_line("Parent:", id);
	}
	show_line("Consistency:", consistency_name(m->consistency));
	out_size(text, m->stored);
	show_line("Stored:", text);
	printf("%-13s %llu, generation %llu\n", "Sequence:", (unsigned long long)m->sequence,
	       (unsigned long long)m->generation);
	if (m->program)
		show_line("Program:", m->program);
	for (i = 0; i < m->nlabels; i++) {
		cleanup_free char *label =
			str_printf("%s=%s", m->labels[i].key, m->labels[i].value);

		show_line("Label:", label ? label : "");
	}
	show_verified(row);
	show_boot(boot);
	show_line("Damaged:", row->damaged ? "yes" : "no");
	show_hold(hold_of(notes, row));
}

static void show_disk(struct table *t, const struct manifest_disk *d)
{
	char size[SIZE_TEXT_MAX], chunk[SIZE_TEXT_MAX], read[SIZE_TEXT_MAX], bad[SIZE_TEXT_MAX];

	out_size(size, d->size);
	out_size(chunk, d->chunk_size);
	out_size(read, d->read_bytes);
	out_size(bad, d->unreadable_bytes);
	table_cell(t, "%s", d->name);
	table_cell(t, "%s", size);
	table_cell(t, "%s", chunk);
	table_cell(t, "%s", disk_method_name(d->method));
	table_cell(t, "%s", read);
	table_cell(t, "%s", bad);
	table_cell(t, "%s", d->source ? d->source : "-");
}

static int show_configs(const struct manifest *m, struct err *err)
{
	static const char *const heads[] = { "FILE", ">BYTES" };
	cleanup_ptr(table) t = NULL;
	size_t i;
	int r = table_new(heads, ARRAY_SIZE(heads), &t, err);

	if (r < 0)
		return r;
	putchar('\n');
	for (i = 0; i < m->nconfigs; i++) {
		table_cell(t, "config/%s", m->configs[i].name);
		table_cell(t, "%llu", (unsigned long long)m->configs[i].size);
	}
	return table_print(t, err);
}

static int show_text(const struct point_row *row, const struct state *notes,
		     const struct manifest *whole, const struct jval *boot, struct err *err)
{
	static const char *const heads[] = { "DISK",  ">SIZE",	     ">CHUNK", "METHOD",
					     ">READ", ">UNREADABLE", "SOURCE" };
	cleanup_ptr(table) t = NULL;
	size_t i;
	int r = table_new(heads, ARRAY_SIZE(heads), &t, err);

	if (r < 0)
		return r;
	show_head(row, notes, boot);
	putchar('\n');
	for (i = 0; i < row->m->ndisks; i++)
		show_disk(t, &row->m->disks[i]);
	r = table_print(t, err);
	return r == 0 && whole && whole->nconfigs ? show_configs(whole, err) : r;
}

/* NULL, with a word on it unless it is for want of a key: everything else can be shown all the same. */
static struct manifest *whole_manifest(const struct cli *cli, struct repo *repo,
				       const struct point_row *row)
{
	struct err why = ERR_INIT;
	struct manifest *m = NULL;

	if (!repo_is_locked(repo) && repo_manifest_read(repo, row, &m, &why) < 0)
		out_warning(cli, "the manifest cannot be read: %s", why.text);
	return m;
}

/* *verdict: NULL if the point was never booted, or nobody can tell.  A screenshot that is asked for must be there. */
static int read_proof(const struct cli *cli, struct repo *repo, const struct point_row *row,
		      struct jval **verdict, struct err *err)
{
	const char *file = opt_text(&cli->opt, O_SCREENSHOT);
	struct err why = ERR_INIT;
	struct proof p = { .passed = false };
	int code;

	if (repo_is_locked(repo))
		return file ? err_set(err, ERR_KEY, "the screenshot needs the passphrase") : 0;
	code = repo_proof_load(repo, row->id, &p, &why);
	if (code == ERR_NOT_FOUND) {
		err_clear(&why);
		err_set(&why, code, "the point was never booted");
	}
	if (code == 0)
		code = jval_parse(p.verdict, strlen(p.verdict), verdict, &why);
	if (code == 0)
		jval_set(*verdict, "screenshot", jval_bool(p.png != NULL));
	if (code == 0 && file && !p.png)
		code = err_set(&why, ERR_NOT_FOUND, "the proof by booting has no screenshot");
	if (code == 0 && file)
		code = file_write_all(file, p.png, p.png_len, 0644, true, "cli.screenshot", &why);
	proof_release(&p);
	if (code < 0 && file) {
		*err = why;
		return code;
	}
	if (code < 0 && code != ERR_NOT_FOUND)
		out_warning(cli, "the proof by booting cannot be read: %s", why.text);
	return 0;
}

static int show_point(const struct cli *cli, struct repo *repo, const struct repo_spec *spec,
		      const struct state *notes, struct err *err)
{
	cleanup_ptr(manifest) whole = NULL;
	cleanup_ptr(jval) boot = NULL;
	struct jval *v;
	int r;

	if (spec->disk[0])
		return err_set(err, ERR_USAGE, "show takes a POINT, not one disk of it ('%s')",
			       spec->disk);
	whole = whole_manifest(cli, repo, &spec->row);
	r = read_proof(cli, repo, &spec->row, &boot, err);
	if (r < 0)
		return r;
	if (!cli->json)
		return show_text(&spec->row, notes, whole, boot, err);
	v = point_json(&spec->row, notes, true, whole);
	jval_set(v, "boot", boot ? steal_ptr(boot) : jval_null());
	return out_json(v, err);
}

int cmd_show(struct cli *cli, struct err *err)
{
	cleanup_ptr(repo) repo = NULL;
	struct repo_spec spec = { 0 };
	struct state notes = { 0 };
	int r;

	r = cli_repo_open(cli, REPO_READ, KEY_IF_GIVEN, false, &repo, err);
	if (r >= 0)
		r = repo_notes(repo, &notes, err);
	if (r < 0)
		return r;
	r = repo_resolve(repo, cli->opt.args[0], &spec, err);
	if (r < 0) {
		state_release(&notes);
		return r;
	}
	r = show_point(cli, repo, &spec, &notes, err);
	state_release(&notes);
	repo_spec_release(&spec);
	return r;
}
