// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Overlays from outside: made, listed, found, thrown away, checked; what crashes left.
 *
 * 1. Made: folder ID.tmp with all files, synced; renamed; overlays/ synced; then the row.  A folder ID.tmp that nobody holds is
 *    removed by any sweep; a folder ID without a row by nobody (repair gives it one).
 * 2. Thrown away: the row is going (the pin ends with it), then the files, then the row.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "repo/audit.h"
#include "repo/overlay-life-internal.h"

#include "base/banned.h"

#define CREATE_TRIES 16u

/* --- finding --- */

int overlay_find(struct repo *r, const char *id_or_name, struct overlay_row *out, struct err *err)
{
	struct catalog *c;
	int ret = repo_catalog_get(r, &c, err);

	if (ret < 0)
		return ret;
	ret = catalog_overlay_find(c, id_or_name, out, err);
	repo_catalog_put(r, c);
	return ret;
}

static int rows_get(struct repo *r, struct overlay_row **rows, size_t *count, struct err *err)
{
	struct catalog *c;
	int ret = repo_catalog_get(r, &c, err);

	if (ret < 0)
		return ret;
	ret = catalog_overlays(c, rows, count, err);
	repo_catalog_put(r, c);
	return ret;
}

void overlay_infos_free(struct overlay_info *list, size_t count)
{
	for (size_t i = 0; list && i < count; i++)
		free(list[i].disks);
	free(list);
}

static int info_disks(struct overlay_info *info, const struct manifest *m, struct err *err)
{
	info->disks = mem_alloc_array(MAX(m->ndisks, 1u), sizeof(*info->disks));
	if (!info->disks)
		return err_nomem(err, "disks of an overlay");
	info->ndisks = m->ndisks;
	for (size_t i = 0; i < m->ndisks; i++) {
		str_copy(info->disks[i].name, sizeof(info->disks[i].name), m->disks[i].name);
		info->disks[i].size = m->disks[i].size;
	}
	return 0;
}

/* What is in the row, in its point's and in the folder. */
static int info_fill(struct repo *r, const struct overlay_row *row, struct overlay_info *info,
		     struct err *err)
{
	struct point_row point = { 0 };
	struct catalog *c;
	int ret = repo_catalog_get(r, &c, err);

	if (ret < 0)
		return ret;
	ret = catalog_point_by_id(c, row->point, &point, err);
	repo_catalog_put(r, c);
	if (ret < 0)
		return ret;
	str_copy(info->id, sizeof(info->id), row->id);
	str_copy(info->name, sizeof(info->name), row->name);
	memcpy(info->point, row->point, POINT_ID_LEN);
	info->created = row->created;
	repo_point_text(point.m, info->point_text);
	ret = info_disks(info, point.m, err);
	point_row_release(&point);
	if (ret == 0)
		ret = overlay_folder_bytes(r, row->id, &info->bytes, err);
	if (ret < 0)
		return ret;
	info->error = overlay_error_is(r, row->id);
	/* Only where somebody has written that he has it: to look is to hold the lock for a moment. */
	if (overlay_attached(r, row->id, &info->pid)) {
		ret = overlay_lock_held(r, row->id, err);
		info->attached = ret == 1;
	}
	if (!info->attached)
		info->pid = 0;
	return MIN(ret, 0);
}

int repo_overlays(struct repo *r, struct overlay_info **out, size_t *count, struct err *err)
{
	cleanup_free struct overlay_row *rows = NULL;
	struct overlay_info *list;
	size_t nrows = 0, n = 0;
	int ret = rows_get(r, &rows, &nrows, err);

	if (ret < 0)
		return ret;
	list = mem_alloc_array(MAX(nrows, 1u), sizeof(*list));
	if (!list)
		return err_nomem(err, "list of overlays");
	for (size_t i = 0; i < nrows && ret == 0; i++) {
		if (rows[i].going)
			continue;
		ret = info_fill(r, &rows[i], &list[n++], err);
		if (ret ==
		    ERR_NOT_FOUND) { /* discarded, and its point pruned, since the rows were read */
			err_clear(err);
			free(list[--n].disks);
			list[n] = (struct overlay_info){ 0 };
			ret = 0;
		}
	}
	if (ret < 0) {
		overlay_infos_free(list, n);
		return ret;
	}
	*out = list;
	*count = n;
	return 0;
}

int repo_overlay_find(struct repo *r, const char *id_or_name, struct overlay_info **out,
		      struct err *err)
{
	struct overlay_row row;
	struct overlay_info *info;
	int ret = overlay_find(r, id_or_name, &row, err);

	if (ret < 0)
		return ret;
	info = mem_alloc(sizeof(*info));
	if (!info)
		return err_nomem(err, "overlay");
	ret = info_fill(r, &row, info, err);
	if (ret < 0) {
		overlay_infos_free(info, 1);
		return ret;
	}
	*out = info;
	return 0;
}

/* --- making --- */

static int header_fill(struct repo *r, const struct manifest *m, const uint8_t point[POINT_ID_LEN],
		       const char *name, struct overlay_header *h, struct err *err)
{
	memset(h, 0, sizeof(*h));
	memcpy(h->uuid, r->conf.uuid, UUID_LEN);
	memcpy(h->point, point, POINT_ID_LEN);
	str_copy(h->name, sizeof(h->name), name ? name : "");
	h->block_size = OVERLAY_BLOCK;
	h->created = time_now();
	h->suite = r->conf.suite;
	h->epoch = codec_keys_epoch(r->keys);
	if (h->suite)
		random_bytes(h->salt, sizeof(h->salt));
	h->first = h->last = 1;
	h->disks = mem_alloc_array(m->ndisks, sizeof(*h->disks));
	if (!h->disks)
		return err_nomem(err, "header of an overlay");
	h->ndisks = m->ndisks;
	for (size_t i = 0; i < m->ndisks; i++) {
		str_copy(h->disks[i].name, sizeof(h->disks[i].name), m->disks[i].name);
		h->disks[i].size = m->disks[i].size;
	}
	return 0;
}

/* A folder ID.tmp that nobody had, with its lock held. */
static int folder_make(struct repo *r, struct overlay_header *h, char folder[32], int *lock,
		       struct err *err)
{
	cleanup_free char *all = overlay_path(r, NULL, NULL);
	int ret = all ? dir_make(all, 0700, "overlay.folders.make", err) :
			err_nomem(err, "path of the overlays");

	for (unsigned i = 0; i < CREATE_TRIES && ret >= 0; i++) {
		cleanup_free char *path = NULL, *final = NULL;
		uint8_t random[4];

		random_bytes(random, sizeof(random));
		h->id[0] = 'o';
		hex_encode(h->id + 1, random, sizeof(random));
		snprintf(folder, 32, "%s" OVERLAY_TMP, h->id);
		path = overlay_path(r, folder, NULL);
		final = overlay_path(r, h->id, NULL);
		if (!path || !final)
			return err_nomem(err, "path of an overlay");
		if (access(final, F_OK) == 0)
			continue;
		ret = dir_make(path, 0700, "overlay.folder.make", err);
		if (ret <= 0)
			continue;
		ret = overlay_lock_make(r, folder, lock, err);
		if (ret == 0)
			return 0;
		/* A sweep took the new folder for an abandoned one. */
		if (ret == ERR_NOT_FOUND || ret == ERR_LOCKED) {
			err_clear(err);
			ret = 0;
		}
	}
	return ret < 0 ? ret : err_set(err, ERR_IO, "no folder could be made for an overlay");
}

static int files_make(struct repo *r, const struct overlay_header *h, const char *folder,
		      struct err *err)
{
	cleanup_free char *path = overlay_path(r, folder, NULL);
	int ret = path ? 0 : err_nomem(err, "path of an overlay");

	for (size_t i = 0; i < h->ndisks && ret == 0; i++) {
		struct overlay_layer_spec spec;

		overlay_layer_spec_of(r, h, &h->disks[i], h->first, path, &spec);
		ret = overlay_layer_create(&spec, err);
	}
	if (ret == 0)
		ret = overlay_header_store(r, folder, h, err);
	return ret < 0 ? ret : dir_sync(path, "overlay.folder.sync", err);
}

static int folder_publish(struct repo *r, const char *folder, const char *id, struct err *err)
{
	cleanup_free char *from = overlay_path(r, folder, NULL), *to = overlay_path(r, id, NULL);
	cleanup_free char *all = overlay_path(r, NULL, NULL);
	int ret;

	if (!from || !to || !all)
		return err_nomem(err, "path of an overlay");
	ret = file_rename_new(from, to, "overlay.folder.rename", err);
	return ret < 0 ? ret : dir_sync(all, "overlay.folders.sync", err);
}

/* The row; an error of its COMMIT is looked after: 0 if it is there. */
static int row_insert(struct repo *r, const struct overlay_header *h, const char *point,
		      struct err *err)
{
	struct overlay_row row = { .created = h->created, .layer = h->first }, seen;
	struct repo_audit audit;
	struct catalog *c;
	cleanup_buf struct buf detail = BUF_INIT;
	struct err again = ERR_INIT;
	int ret = repo_catalog_get(r, &c, err);

	if (ret < 0)
		return ret;
	str_copy(row.id, sizeof(row.id), h->id);
	str_copy(row.name, sizeof(row.name), h->name);
	memcpy(row.point, h->point, POINT_ID_LEN);
	buf_printf(&detail, "{\"name\":%s%s%s,\"point\":\"%s\"}", *h->name ? "\"" : "",
		   *h->name ? h->name : "null", *h->name ? "\"" : "", point);
	repo_audit_fill(r, &audit, "overlay", h->id, buf_str(&detail));
	ret = catalog_overlay_insert(c, &row, &audit.audit, err);
	repo_catalog_put(r, c);
	if (ret != ERR_UNKNOWN)
		return ret;
	ret = overlay_find(r, h->id, &seen, &again);
	if (ret == 0)
		err_clear(err);
	return ret == 0 ? 0 : ret == ERR_NOT_FOUND ? err_recode(err, ERR_IO) : ERR_UNKNOWN;
}

static int make(struct repo *r, const struct manifest *m, struct overlay_header *h, struct err *err)
{
	char folder[32] = "", point[POINT_TEXT_MAX];
	cleanup_fd int lock = -1;
	bool renamed = false;
	int ret = folder_make(r, h, folder, &lock, err);

	if (ret < 0)
		return ret;
	repo_point_text(m, point);
	ret = files_make(r, h, folder, err);
	if (ret == 0) {
		ret = folder_publish(r, folder, h->id, err);
		renamed = ret == 0;
	}
	if (ret == 0)
		ret = row_insert(r, h, point, err);
	if (ret < 0 && ret != ERR_UNKNOWN) {
		struct err local = ERR_INIT;

		if (overlay_folder_remove(r, renamed ? h->id : folder, &local) < 0)
			log_warning("%s: 'overlays/%s' is left", local.text,
				    renamed ? h->id : folder);
	}
	return ret;
}

/* Before anything is made; the row's transaction looks again. */
static int check_name(struct repo *r, const char *name, struct err *err)
{
	struct overlay_row row;
	struct err local = ERR_INIT;
	int ret;

	if (!name)
		return 0;
	if (!name_valid(name) || overlay_id_valid(name)) {
		err_set(err, ERR_INVALID,
			"'%.140s' is no name for an overlay (1 to 128 of A-Z a-z 0-9 . _ -, not "
			"starting with . or -, and not of the form of an id)",
			name);
		return err_object(err, "%.140s", name);
	}
	ret = overlay_find(r, name, &row, &local);
	if (ret == ERR_NOT_FOUND)
		return 0;
	if (ret < 0)
		return err_set(err, ret, "%s", local.text);
	err_set(err, ERR_EXISTS, "there is an overlay '%s' already (%s)", name, row.id);
	return err_object(err, "%s", name);
}

static int check_writer(struct repo *r, struct err *err)
{
	int ret = repo_need_key(r, err);

	if (ret == 0 && (r->mode != REPO_WRITE || !r->pinnable))
		ret = err_set(err, ERR_READONLY, "repository '%s' is not open for writing",
			      r->path);
	return ret;
}

int repo_overlay_create(struct repo *r, const uint8_t point[POINT_ID_LEN], const char *name,
			char id[OVERLAY_ID_LEN + 1], struct err *err)
{
	cleanup_ptr(repo_point) p = NULL;
	struct overlay_header h = { 0 };
	const struct manifest *m;
	struct err local = ERR_INIT;
	int ret = check_writer(r, err);

	if (!err)
		err = &local;
	if (ret == 0)
		ret = check_name(r, name, err);
	if (ret == 0)
		ret = overlay_fs_check(r, err);
	if (ret == 0)
		ret = repo_overlay_sweep(r, err);
	if (ret == 0)
		ret = repo_point_open(r, point, &p, err);
	if (ret < 0)
		return ret;
	m = repo_point_manifest(p);
	if (!m->ndisks)
		return err_set(err, ERR_NOT_FOUND, "the restore point of '%s' has no disks",
			       m->name);
	ret = header_fill(r, m, point, name, &h, err);
	if (ret == 0)
		ret = make(r, m, &h, err);
	if (ret == 0)
		str_copy(id, OVERLAY_ID_LEN + 1, h.id);
	overlay_header_release(&h);
	return ret;
}

/* --- throwing away --- */

/* Of a row that is going; the lock is held, or there is no folder. */
static int finish_going(struct repo *r, struct catalog *c, const char *id, struct err *err)
{
	int ret = overlay_folder_remove(r, id, err);

	return ret < 0 ? ret : catalog_overlay_delete(c, id, err);
}

static int discard_locked(struct repo *r, const char *id, struct err *err)
{
	struct repo_audit audit;
	struct catalog *c;
	struct overlay_row row;
	char detail[POINT_TEXT_MAX + NAME_MAX_LEN + 40];
	char point[2 * POINT_ID_LEN + 1];
	int ret = repo_catalog_get(r, &c, err);

	if (ret < 0)
		return ret;
	ret = catalog_overlay_find(c, id, &row, err);
	if (ret == 0) {
		hex_encode(point, row.point, POINT_ID_LEN);
		snprintf(detail, sizeof(detail), "{\"point\":\"%s\"}", point);
		repo_audit_fill(r, &audit, "discard", row.id, detail);
		ret = catalog_overlay_going(c, id, &audit.audit, err);
	}
	if (ret == 0)
		ret = finish_going(r, c, id, err);
	repo_catalog_put(r, c);
	return ret;
}

int repo_overlay_discard(struct repo *r, const char *id_or_name, struct err *err)
{
	struct overlay_row row;
	cleanup_fd int lock = -1;
	int ret = check_writer(r, err);

	if (ret == 0)
		ret = repo_overlay_sweep(r, err);
	if (ret == 0)
		ret = overlay_find(r, id_or_name, &row, err);
	if (ret < 0)
		return ret;
	ret = overlay_lock(r, row.id, &lock, err);
	if (ret == ERR_NOT_FOUND) { /* its folder was lost: nobody can have it */
		err_clear(err);
		ret = 0;
	}
	return ret < 0 ? ret : discard_locked(r, row.id, err);
}

/* --- what crashes left --- */

static int sweep_going(struct repo *r, struct catalog *c, struct err *err)
{
	cleanup_free struct overlay_row *rows = NULL;
	size_t n = 0;
	int ret = catalog_overlays(c, &rows, &n, err);

	for (size_t i = 0; i < n && ret == 0; i++) {
		cleanup_fd int lock = -1;

		if (!rows[i].going)
			continue;
		ret = overlay_lock_held(r, rows[i].id, err);
		if (ret == 0)
			ret = overlay_lock(r, rows[i].id, &lock, err);
		if (ret == 1 || ret == ERR_LOCKED || ret == ERR_NOT_FOUND) {
			bool missing = ret == ERR_NOT_FOUND;

			err_clear(err);
			ret = 0;
			if (!missing)
				continue; /* who has it removes it, or the next sweep */
		}
		if (ret == 0)
			ret = finish_going(r, c, rows[i].id, err);
	}
	return ret;
}

static int sweep_tmp(void *opaque, const char *name, struct err *err)
{
	struct repo *r = opaque;
	int held;

	if (!str_ends(name, OVERLAY_TMP))
		return 0;
	held = overlay_lock_held(r, name, err);
	if (held)
		return MIN(held, 0);
	return overlay_folder_remove(r, name, err);
}

int overlay_sweep_with(struct repo *r, struct catalog *c, struct err *err)
{
	int ret = sweep_going(r, c, err);

	return ret < 0 ? ret : overlay_folders_each(r, sweep_tmp, r, err);
}

int repo_overlay_sweep(struct repo *r, struct err *err)
{
	struct err local = ERR_INIT;
	struct catalog *c;
	int ret = repo_catalog_get(r, &c, err ? err : &local);

	if (ret < 0)
		return ret;
	ret = overlay_sweep_with(r, c, err ? err : &local);
	repo_catalog_put(r, c);
	return ret;
}

/* --- checking --- */

static int check_disk(struct overlay_open *spec, const struct overlay_header_disk *disk,
		      struct buf *out, struct err *err)
{
	cleanup_ptr(overlay_stack) s = NULL;
	struct err local = ERR_INIT;
	int r = overlay_stack_open(spec, disk, &s, &local);

	for (unsigned i = 0; r == 0 && i < s->count; i++) {
		uint64_t bytes = 0;

		r = overlay_layer_check(s->levels[i]->layer, &local);
		if (r == 0)
			r = overlay_layer_bytes(s->levels[i]->layer, &bytes, &local);
		if (r == 0)
			buf_printf(out,
				   "disk '%s', layer %" PRIu32 ": %" PRIu64 " bytes, can be read\n",
				   disk->name, s->levels[i]->number, bytes);
	}
	if (r == 0)
		return 0;
	if (r == ERR_NOMEM || r == ERR_KEY)
		return err_set(err, r, "%s", local.text);
	buf_printf(out, "disk '%s': %s\n", disk->name, local.text);
	return 1;
}

static int check_files(struct repo *r, const struct overlay_header *h, struct buf *out,
		       struct err *err)
{
	struct overlay_open spec = {
		.repo = r, .header = h, .first = h->first, .last = h->last, .unclean = true
	};
	cleanup_ptr(repo_point) point = NULL;
	int bad = 0, ret = repo_point_open(r, h->point, &point, err);

	spec.point = point;
	for (size_t i = 0; i < h->ndisks && ret >= 0; i++) {
		ret = check_disk(&spec, &h->disks[i], out, err);
		bad += ret > 0;
	}
	if (ret < 0)
		return ret;
	if (out->failed)
		return err_nomem(err, "check of an overlay");
	if (!bad)
		return 0;
	err_set(err, ERR_DAMAGED,
		"overlay '%s': %d of %zu disks cannot be read as a whole; it stays in error", h->id,
		bad, h->ndisks);
	return err_object(err, "%s", h->id);
}

int repo_overlay_check(struct repo *r, const char *id_or_name, struct buf *out, struct err *err)
{
	struct overlay_header h = { 0 };
	struct overlay_row row;
	cleanup_fd int lock = -1;
	bool was;
	int ret = check_writer(r, err);

	if (ret == 0)
		ret = overlay_find(r, id_or_name, &row, err);
	if (ret == 0)
		ret = overlay_lock(r, row.id, &lock, err);
	if (ret == 0)
		ret = overlay_find(r, row.id, &row, err);
	if (ret == 0)
		ret = overlay_header_load(r, row.id, &h, err);
	if (ret == ERR_NOT_FOUND && lock >= 0)
		ret = err_recode(err, ERR_DAMAGED);
	if (ret == 0)
		ret = overlay_reconcile(r, &row, &h, err);
	if (ret == 0)
		ret = check_files(r, &h, out, err);
	was = overlay_error_is(r, row.id);
	if (ret == ERR_DAMAGED && lock >= 0 && !was)
		overlay_error_set(r, row.id, err->text);
	if (ret == 0 && was) {
		ret = overlay_error_clear(r, row.id, err);
		if (ret == 0)
			buf_printf(out,
				   "no longer in error; what was written and not flushed before "
				   "it may be lost\n");
	}
	overlay_header_release(&h);
	return ret;
}
