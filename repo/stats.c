/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Figures of a repository: rows from the catalog, chunks from pack footers, references from the maps. */
#include <stdlib.h>
#include <sys/stat.h>

#include "base/log.h"
#include "repo/internal.h"
#include "repo/stats.h"

#include "base/banned.h"

static int stats_packs(struct repo *r, struct catalog *c, struct repo_stats *out, struct err *err)
{
	struct pack_list packs = { 0 };
	int ret = catalog_packs(c, 0, &packs, err);

	for (size_t i = 0; i < packs.count && ret == 0; i++) {
		const struct footer_entry *e;
		struct store_pack *p;
		unsigned count;

		if (packs.rows[i].state != PACK_LIVE)
			continue;
		ret = store_pack_get(r->store, packs.rows[i].number, &p, err);
		if (ret < 0)
			break;
		e = store_pack_entries(p, &count);
		out->pack_bytes += store_pack_size(p);
		for (unsigned k = 0; k < count; k++) {
			if (e[k].type != OBJECT_CHUNK) {
				out->map_stored_bytes += e[k].stored_len;
				continue;
			}
			out->chunks++;
			out->chunk_plain_bytes += e[k].plain_len;
			out->chunk_stored_bytes += e[k].stored_len;
		}
		store_pack_put(p);
	}
	pack_list_release(&packs);
	return ret;
}

static int add_extent(void *opaque, const struct extent *e, struct err *err)
{
	uint64_t *bytes = opaque;

	(void)err;
	if (e->kind == EXTENT_DATA)
		*bytes += e->length;
	return 0;
}

static int stats_disk(struct repo_point *p, const char *name, uint64_t *bytes, struct err *err)
{
	struct repo_disk *d;
	int r = repo_disk_open(p, name, &d, err);

	if (r < 0)
		return r;
	r = repo_disk_extents(d, 0, repo_disk_size(d), add_extent, bytes, err);
	repo_disk_close(d);
	return r;
}

static int stats_point(struct repo *r, const struct point_row *row, struct repo_stats *out,
		       struct err *err)
{
	struct repo_point *p;
	int ret;

	for (size_t i = 0; i < row->m->ndisks; i++)
		out->disk_bytes += row->m->disks[i].size;
	if (r->locked)
		return 0;
	ret = repo_point_open(r, row->id, &p, err);
	if (ret < 0)
		return ret;
	for (size_t i = 0; i < row->m->ndisks && ret == 0; i++)
		ret = stats_disk(p, row->m->disks[i].name, &out->referenced_bytes, err);
	repo_point_close(p);
	return ret;
}

static uint64_t file_bytes(struct repo *r, const char *name)
{
	cleanup_free char *path = str_printf("%s/%s", r->path, name);
	struct stat st;

	return path && stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static int stats_index(struct repo *r, struct catalog *c, struct repo_stats *out, struct err *err)
{
	cleanup_free struct segment_row *rows = NULL;
	size_t count = 0;
	int ret = catalog_segments(c, &rows, &count, err);

	out->segments = count;
	for (size_t i = 0; i < count && ret == 0; i++) {
		char name[64];

		snprintf(name, sizeof(name), "index/%016llx.seg",
			 (unsigned long long)rows[i].number);
		out->index_bytes += file_bytes(r, name);
	}
	return ret;
}

int repo_stats(struct repo *r, struct repo_stats *out, struct err *err)
{
	struct point_filter filter = { 0 };
	struct repo_stats stats = { 0 };
	struct point_list points = { 0 };
	struct catalog_totals totals;
	struct catalog *c;
	int ret = repo_catalog_get(r, &c, err);

	if (ret < 0)
		return ret;
	ret = catalog_totals(c, &totals, err);
	if (ret == 0)
		ret = catalog_points(c, &filter, &points, err);
	if (ret == 0)
		ret = stats_packs(r, c, &stats, err);
	if (ret == 0)
		ret = stats_index(r, c, &stats, err);
	repo_catalog_put(r, c);
	for (size_t i = 0; i < points.count && ret == 0; i++)
		ret = stats_point(r, &points.rows[i], &stats, err);
	point_list_release(&points);
	if (ret < 0)
		return ret;
	stats.points = totals.points;
	stats.names = totals.names;
	stats.packs = totals.packs;
	if (r->locked)
		stats.referenced_bytes = UINT64_MAX;
	stats.catalog_bytes = file_bytes(r, "catalog.sqlite") + file_bytes(r, "catalog.sqlite-wal");
	*out = stats;
	return 0;
}

int repo_generation(struct repo *r, uint64_t *generation, struct err *err)
{
	struct catalog_totals t;
	struct catalog *c;
	int ret = repo_catalog_get(r, &c, err);

	if (ret < 0)
		return ret;
	ret = catalog_totals(c, &t, err);
	repo_catalog_put(r, c);
	if (ret == 0)
		*generation = t.generation;
	return ret;
}
