// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * livepoint diff A B: which ranges of B differ from A, from the maps only.
 *
 * Which disks are compared: both named, those two; one named, that one with the other point's disk of
 * the same name (or its only one); none named, all of B with A's of the same name.  A disk that only B
 * has is listed whole, one that only A has is warned about.  Ranges are printed as they are found.
 */
#include "cli/internal.h"

#include "base/banned.h"

struct diff_side {
	struct repo_spec spec;
	struct repo_point *point;
	const struct manifest *m;
};

static void diff_side_close(struct diff_side *s)
{
	if (s->point)
		repo_point_close(s->point);
	repo_spec_release(&s->spec);
}

struct diff_print {
	const struct cli *cli;
	const char *disk; /* B's name */
	struct out_array array;
};

static int side_open(struct repo *repo, const char *text, struct diff_side *s, struct err *err)
{
	int r = repo_resolve(repo, text, &s->spec, err);

	if (r >= 0)
		r = repo_point_open(repo, s->spec.row.id, &s->point, err);
	if (r < 0)
		return r;
	s->m = repo_point_manifest(s->point);
	return 0;
}

static int print_extent(void *opaque, const struct diff_extent *e, struct err *err)
{
	struct diff_print *p = opaque;
	struct jval *v;

	if (cli_stop)
		return err_set(err, cli_stop, "diff: %s", err_code_sentence(cli_stop));
	if (!p->cli->json) {
		printf("%s %llu %llu %s\n", p->disk, (unsigned long long)e->start,
		       (unsigned long long)e->length, e->data ? "data" : "hole");
		return out_check(err);
	}
	v = jval_object();
	jval_set(v, "disk", jval_str(p->disk));
	jval_set(v, "start", jval_uint(e->start));
	jval_set(v, "length", jval_uint(e->length));
	jval_set(v, "data", jval_bool(e->data));
	return out_array_item(&p->array, v, err);
}

static bool has_disk(const struct manifest *m, const char *name)
{
	size_t i;

	for (i = 0; i < m->ndisks; i++)
		if (strcmp(m->disks[i].name, name) == 0)
			return true;
	return false;
}

/* a_name NULL: only B has it. */
static int diff_disk(struct diff_print *print, const struct diff_side *a, const char *a_name,
		     const struct diff_side *b, const char *b_name, struct err *err)
{
	cleanup_ptr(repo_disk) da = NULL;
	cleanup_ptr(repo_disk) db = NULL;
	int r = 0;

	if (a_name)
		r = repo_disk_open(a->point, a_name, &da, err);
	if (r >= 0)
		r = repo_disk_open(b->point, b_name, &db, err);
	if (r < 0)
		return r;
	print->disk = b_name;
	r = repo_disk_diff(da, db, print_extent, print, err);
	return r < 0 ? r : 0;
}

/* The disk of the side that names none, beside `other` of the side that does. */
static const char *counterpart(const struct diff_side *s, const char *other)
{
	if (s->spec.disk[0])
		return s->spec.disk;
	if (s->m->ndisks == 1)
		return s->m->disks[0].name;
	return other;
}

static bool same_config(const struct manifest_config *a, const struct manifest_config *b)
{
	unsigned i;

	for (i = 0; i < a->nparts && i < b->nparts; i++)
		if (memcmp(a->parts[i].id, b->parts[i].id, ID_LEN) != 0)
			return false;
	return a->size == b->size;
}

/* Files kept with the points are told beside the ranges, which go to programs. */
static void diff_configs(const struct cli *cli, const struct manifest *a, const struct manifest *b)
{
	const struct manifest_config *other;
	size_t i;

	for (i = 0; i < b->nconfigs; i++) {
		other = repo_config_find(a, b->configs[i].name);
		if (!other)
			out_note(cli, "config/%s is only in the second point", b->configs[i].name);
		else if (!same_config(other, &b->configs[i]))
			out_note(cli, "config/%s differs", b->configs[i].name);
	}
	for (i = 0; i < a->nconfigs; i++)
		if (!repo_config_find(b, a->configs[i].name))
			out_note(cli, "config/%s is only in the first point", a->configs[i].name);
}

static int diff_points(struct diff_print *print, const struct diff_side *a,
		       const struct diff_side *b, struct err *err)
{
	size_t i;
	int r;

	if (a->spec.disk[0] || b->spec.disk[0])
		return diff_disk(print, a, counterpart(a, b->spec.disk), b,
				 counterpart(b, a->spec.disk), err);
	for (i = 0; i < b->m->ndisks; i++) {
		const char *name = b->m->disks[i].name;

		r = diff_disk(print, a, has_disk(a->m, name) ? name : NULL, b, name, err);
		if (r < 0)
			return r;
	}
	for (i = 0; i < a->m->ndisks; i++)
		if (!has_disk(b->m, a->m->disks[i].name))
			out_warning(print->cli, "disk '%s' is only in the first point",
				    a->m->disks[i].name);
	diff_configs(print->cli, a->m, b->m);
	return 0;
}

int cmd_diff(struct cli *cli, struct err *err)
{
	cleanup_ptr(repo) repo = NULL;
	__attribute__((cleanup(diff_side_close))) struct diff_side a = { .point = NULL };
	__attribute__((cleanup(diff_side_close))) struct diff_side b = { .point = NULL };
	struct diff_print print = { .cli = cli };
	int r;

	r = cli_repo_open(cli, REPO_READ, KEY_NEEDED, true, &repo, err);
	if (r >= 0)
		r = side_open(repo, cli->opt.args[0], &a, err);
	if (r >= 0)
		r = side_open(repo, cli->opt.args[1], &b, err);
	if (r >= 0)
		r = diff_points(&print, &a, &b, err);
	if (r >= 0 && cli->json)
		r = out_array_end(&print.array, err);
	return r;
}
