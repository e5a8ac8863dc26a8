// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Overlays for verify and repair: their structure, what no row owns, and rows out of headers.
 *
 * 1. What somebody has attached, or is making, is not looked at: he has the lock.
 * 2. Folders are listed before rows are read: a row is made after its folder, and goes after it.
 * 3. A folder without a row is never removed, only told of, or given a row.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "repo/overlay-life-internal.h"
#include "repo/repair-internal.h"

#include "base/banned.h"

struct names {
	char (*ids)[64];
	size_t count;
};

static int name_add(void *opaque, const char *name, struct err *err)
{
	struct names *n = opaque;
	void *more = mem_realloc_array(n->ids, n->count + 1, sizeof(*n->ids));

	if (!more)
		return err_nomem(err, "list of overlays");
	n->ids = more;
	str_copy(n->ids[n->count++], sizeof(*n->ids), name);
	return 0;
}

/* Folders first. */
static int look_all(struct repo *r, struct catalog *c, struct names *names,
		    struct overlay_row **rows, size_t *nrows, struct err *err)
{
	int ret = overlay_folders_each(r, name_add, names, err);

	return ret < 0 ? ret : catalog_overlays(c, rows, nrows, err);
}

static bool has_row(const struct overlay_row *rows, size_t n, const char *id)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(rows[i].id, id))
			return true;
	return false;
}

static bool has_name(const struct names *n, const char *id)
{
	for (size_t i = 0; i < n->count; i++)
		if (!strcmp(n->ids[i], id))
			return true;
	return false;
}

static bool there(const struct repo *r, const char *name)
{
	cleanup_free char *path = overlay_path(r, name, NULL);

	return path && access(path, F_OK) == 0;
}

/* --- verify --- */

static int look_layers(struct repo *r, const struct overlay_header *h, struct err *err)
{
	cleanup_free char *folder = overlay_path(r, h->id, NULL);
	int ret = folder ? 0 : err_nomem(err, "path of an overlay");

	for (size_t i = 0; i < h->ndisks && ret == 0; i++) {
		for (uint32_t n = h->first; n <= h->last && ret == 0; n++) {
			cleanup_ptr(overlay_layer) l = NULL;
			struct overlay_layer_spec spec;

			overlay_layer_spec_of(r, h, &h->disks[i], n, folder, &spec);
			ret = overlay_layer_open(&spec, true, false, &l, err);
		}
	}
	return ret;
}

static int look_one(struct repo *r, const struct overlay_row *row, struct err *err)
{
	struct overlay_header h = { 0 };
	int ret = overlay_header_load(r, row->id, &h, err);

	if (ret == 0 && (row->layer < h.first || row->layer > h.last))
		ret = err_set(err, ERR_DAMAGED,
			      "the catalog says layer %" PRIu32 ", the header %" PRIu32
			      " to %" PRIu32,
			      row->layer, h.first, h.last);
	if (ret == 0)
		ret = look_layers(r, &h, err);
	overlay_header_release(&h);
	return ret;
}

int verify_overlays(struct verify *v, struct err *err)
{
	cleanup_free struct overlay_row *rows = NULL;
	size_t n = 0;
	int r = catalog_overlays(v->catalog, &rows, &n, err);

	for (size_t i = 0; i < n && r == 0; i++) {
		struct err local = ERR_INIT;
		struct verify_finding f = { .what = local.text, .locator = LOCATOR_NONE };
		cleanup_fd int lock = -1;
		struct overlay_row now;

		r = verify_stopped(v, err);
		if (r < 0 || rows[i].going || overlay_lock_held(v->repo, rows[i].id, &local) == 1)
			continue;
		/* Where nothing can be written nobody has anything attached. */
		if (v->repo->pinnable)
			r = overlay_lock(v->repo, rows[i].id, &lock, &local);
		if (r == 0)
			r = look_one(v->repo, &rows[i], &local);
		if (r == ERR_LOCKED || r == 0) {
			v->result->objects += r == 0;
			r = 0;
			continue;
		}
		if (!verify_is_finding(r))
			return err_set(err, r, "%s", local.text);
		/* Discarded meanwhile is no finding. */
		r = catalog_overlay_find(v->catalog, rows[i].id, &now, err);
		if (r == 0) {
			err_prefix(&local, "overlay '%s'", rows[i].id);
			verify_find(v, &f);
		}
		err_clear(err);
		r = r == ERR_NOT_FOUND ? 0 : r;
	}
	return r;
}

/* --- leftovers --- */

struct telling {
	void (*tell)(void *opaque, const char *line);
	void *opaque;
};

static void __attribute__((format(printf, 2, 3))) tell(struct telling *t, const char *fmt, ...)
{
	char line[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	t->tell(t->opaque, line);
}

static int tell_folder(struct repo *r, const char *name, struct telling *t, struct err *err)
{
	int held = overlay_lock_held(r, name, err);

	if (held || !there(r, name))
		return MIN(held, 0);
	if (str_ends(name, OVERLAY_TMP))
		tell(t, "overlays/%s: an overlay that was not made to the end", name);
	else if (overlay_id_valid(name))
		tell(t,
		     "overlays/%s: the catalog does not know it; 'livepoint repair' takes it in, if "
		     "it is whole",
		     name);
	else
		tell(t, "overlays/%s: no overlay", name);
	return 0;
}

int overlay_leftovers(struct repo *r, struct catalog *c, void (*fn)(void *opaque, const char *line),
		      void *opaque, struct err *err)
{
	struct telling t = { fn, opaque };
	struct names names = { 0 };
	cleanup_free struct overlay_row *rows = NULL;
	size_t n = 0;
	int ret = look_all(r, c, &names, &rows, &n, err);

	for (size_t i = 0; i < names.count && ret == 0; i++)
		if (!has_row(rows, n, names.ids[i]))
			ret = tell_folder(r, names.ids[i], &t, err);
	for (size_t i = 0; i < n && ret == 0; i++) {
		if (rows[i].going)
			tell(&t, "overlay %s: %s, and not removed to the end", rows[i].id,
			     rows[i].sealed ? "sealed" : "discarded");
		else if (!has_name(&names, rows[i].id) && !there(r, rows[i].id))
			tell(&t, "overlay %s: its folder is missing", rows[i].id);
	}
	free(names.ids);
	return ret;
}

/* --- rows out of headers --- */

static int row_of(const struct repo *r, const char *id, struct overlay_row *row, struct err *err)
{
	struct overlay_header h = { 0 };
	int ret = overlay_header_load(r, id, &h, err);

	if (ret < 0)
		return ret;
	*row = (struct overlay_row){ .created = h.created, .layer = h.first };
	str_copy(row->id, sizeof(row->id), h.id);
	str_copy(row->name, sizeof(row->name), h.name);
	memcpy(row->point, h.point, POINT_ID_LEN);
	overlay_header_release(&h);
	return 0;
}

/* A name that another one has by now is lost. */
static int put_row(struct overlay_row *row,
		   int (*put)(struct catalog *, const struct overlay_row *, struct err *),
		   struct catalog *c, struct err *err)
{
	int r = put(c, row, err);

	if (r == ERR_EXISTS && *row->name) {
		err_clear(err);
		log_warning("overlay '%s': its name '%s' belongs to another one", row->id,
			    row->name);
		row->name[0] = '\0';
		r = put(c, row, err);
	}
	return r;
}

int overlay_rebuild(struct repo *r, struct catalog *c, struct err *err)
{
	struct names names = { 0 };
	int ret = overlay_folders_each(r, name_add, &names, err);

	for (size_t i = 0; i < names.count && ret == 0; i++) {
		struct err local = ERR_INIT;
		struct overlay_row row;

		if (!overlay_id_valid(names.ids[i]))
			continue;
		ret = row_of(r, names.ids[i], &row, &local);
		if (ret == 0)
			ret = put_row(&row, catalog_rebuild_overlay, c, &local);
		/* Repair tells of those that have no row afterwards. */
		if (ret == ERR_NOMEM || ret == ERR_KEY || ret == ERR_INTERNAL)
			ret = err_set(err, ret, "%s", local.text);
		else
			ret = 0;
	}
	free(names.ids);
	return ret;
}

static int insert_plain(struct catalog *c, const struct overlay_row *row, struct err *err)
{
	return catalog_overlay_insert(c, row, NULL, err);
}

static int repair_one(struct repair *x, const char *id, struct err *err)
{
	struct err local = ERR_INIT;
	struct overlay_row row;
	int held = overlay_lock_held(x->repo, id, err), r;

	if (held || !there(x->repo, id))
		return MIN(held, 0);
	r = row_of(x->repo, id, &row, &local);
	if (r == 0) {
		repair_say(
			x, REPAIR_OVERLAY, LOCATOR_NONE, false,
			"overlay '%s': the catalog does not know it: it is taken in from its folder",
			id);
		if (x->spec->dry_run)
			return 0;
		r = put_row(&row, insert_plain, x->catalog, &local);
	}
	if (r == 0) {
		repair_say(x, REPAIR_OVERLAY, LOCATOR_NONE, true, "overlay '%s' was taken in", id);
		return 0;
	}
	if (!verify_is_finding(r) && r != ERR_EXISTS)
		return err_set(err, r, "%s", local.text);
	x->undone++;
	repair_say(x, REPAIR_OVERLAY, LOCATOR_NONE, false, "'overlays/%s' is left as it is: %s", id,
		   local.text);
	return 0;
}

int repair_overlays(struct repair *x, struct err *err)
{
	struct names names = { 0 };
	cleanup_free struct overlay_row *rows = NULL;
	size_t n = 0;
	int r = look_all(x->repo, x->catalog, &names, &rows, &n, err);

	for (size_t i = 0; i < names.count && r == 0; i++)
		if (overlay_id_valid(names.ids[i]) && !has_row(rows, n, names.ids[i]))
			r = repair_one(x, names.ids[i], err);
	free(names.ids);
	return r;
}
