// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * livepoint list and show: restore points as tables and as the objects of livepoint-json(5).
 *
 * Invariants:
 *  1. Neither needs a key: both print what the catalog caches of the manifests, so that also a point whose
 *     contents are damaged can be looked at.
 *  2. Fields that have no value are null, never left out.
 */
#include "cli/internal.h"

#include <stdlib.h>

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

/* The object of livepoint-json(5); more: with the fields of show. */
static struct jval *point_json(const struct point_row *row, bool more)
{
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
	jval_set(v, "hold", jval_null());
	jval_set(v, "verified", verified_json(row));
	jval_set(v, "damaged", jval_bool(row->damaged));
	jval_set(v, "effective", jval_bool(false));
	if (more) {
		jval_set(v, "sequence", jval_uint(m->sequence));
		jval_set(v, "generation", jval_uint(m->generation));
		jval_set(v, "program", jval_str(m->program));
	}
	return v;
}

/* --- list --- */

static int list_json(const struct point_list *list, struct err *err)
{
	struct out_array a = { 0 };
	size_t i;
	int r;

	for (i = 0; i < list->count; i++) {
		r = out_array_item(&a, point_json(&list->rows[i], false), err);
		if (r < 0)
			return r;
	}
	return out_array_end(&a, err);
}

static const char *state_text(const struct point_row *row)
{
	const char *verified = verified_name(row->verified_kind);

	if (row->damaged)
		return "DAMAGED";
	return verified ? verified : "-";
}

static void list_row(struct table *t, const struct point_row *row)
{
	char point[POINT_TEXT_MAX], when[TIME_TEXT_MAX], size[SIZE_TEXT_MAX], stored[SIZE_TEXT_MAX];
	const struct manifest *m = row->m;
	uint64_t bytes = 0;
	size_t i;

	for (i = 0; i < m->ndisks; i++)
		bytes += m->disks[i].size;
	repo_point_text(m, point);
	out_local_time(when, m->time);
	out_size(size, bytes);
	out_size(stored, m->stored);
	table_cell(t, "%s", point);
	table_cell(t, "%s", when);
	table_cell(t, "%zu", m->ndisks);
	table_cell(t, "%s", size);
	table_cell(t, "%s", stored);
	table_cell(t, "%s", point_kind_name(m->kind));
	table_cell(t, "%s", state_text(row));
}

static int list_text(const struct point_list *list, struct err *err)
{
	static const char *const heads[] = { "POINT",	"LOCAL TIME", ">DISKS",	 ">SIZE",
					     ">STORED", "KIND",	      "VERIFIED" };
	cleanup_ptr(table) t = NULL;
	size_t i;
	int r = table_new(heads, ARRAY_SIZE(heads), &t, err);

	if (r < 0)
		return r;
	for (i = 0; i < list->count; i++)
		list_row(t, &list->rows[i]);
	return table_print(t, err);
}

/* Points of the filter; an unknown NAME is an error that names what is near. */
static int list_find(const struct options *o, struct repo *repo, struct point_list *list,
		     struct err *err)
{
	const char *label = opt_text(o, O_LABEL), *eq = label ? strchr(label, '=') : NULL;
	cleanup_free char *key = label ? str_printf("%.*s", (int)(eq - label), label) : NULL;
	struct point_filter f = { .name = o->nargs ? o->args[0] : NULL };
	struct repo_spec spec = { 0 };
	int r;

	if (label && !key)
		return err_nomem(err, "listing");
	f.label_key = key;
	f.label_value = label ? eq + 1 : NULL;
	if (f.name && !name_valid(f.name))
		return err_set(err, ERR_USAGE, "'%.140s' is no NAME", f.name);
	r = repo_points(repo, &f, list, err);
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
	int r;

	r = cli_repo_open(cli, REPO_READ, KEY_NOT_USED, false, &repo, err);
	if (r < 0)
		return r;
	r = list_find(&cli->opt, repo, &list, err);
	if (r >= 0 && list.count)
		qsort(list.rows, list.count, sizeof(*list.rows), by_time);
	if (r >= 0)
		r = cli->json ? list_json(&list, err) : list_text(&list, err);
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

static void show_head(const struct point_row *row)
{
	const struct manifest *m = row->m;
	char point[POINT_TEXT_MAX], text[SIZE_TEXT_MAX + TIME_TEXT_MAX], id[2 * POINT_ID_LEN + 1];
	const char *verified = verified_name(row->verified_kind);
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
	out_local_time(text, row->verified_time);
	printf("%-13s %s%s%s\n", "Verified:", verified ? verified : "never", verified ? ", " : "",
	       verified ? text : "");
	show_line("Damaged:", row->damaged ? "yes" : "no");
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

static int show_text(const struct point_row *row, struct err *err)
{
	static const char *const heads[] = { "DISK",  ">SIZE",	     ">CHUNK", "METHOD",
					     ">READ", ">UNREADABLE", "SOURCE" };
	cleanup_ptr(table) t = NULL;
	size_t i;
	int r = table_new(heads, ARRAY_SIZE(heads), &t, err);

	if (r < 0)
		return r;
	show_head(row);
	putchar('\n');
	for (i = 0; i < row->m->ndisks; i++)
		show_disk(t, &row->m->disks[i]);
	return table_print(t, err);
}

int cmd_show(struct cli *cli, struct err *err)
{
	cleanup_ptr(repo) repo = NULL;
	struct repo_spec spec = { 0 };
	int r;

	r = cli_repo_open(cli, REPO_READ, KEY_NOT_USED, false, &repo, err);
	if (r < 0)
		return r;
	r = repo_resolve(repo, cli->opt.args[0], &spec, err);
	if (r < 0)
		return r;
	if (spec.disk[0])
		r = err_set(err, ERR_USAGE, "show takes a POINT, not one disk of it ('%s')",
			    spec.disk);
	else if (cli->json)
		r = out_json(point_json(&spec.row, true), err);
	else
		r = show_text(&spec.row, err);
	repo_spec_release(&spec);
	return r;
}
