/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Opening points and disks.
 *
 * 1. The manifest counts: its content id begins with the point's id, so a row that names another object is noticed; and
 *    every field that the row caches must be equal.
 * 2. An open point is pinned under this process' reader lease, where one can be taken, so that prune keeps it.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "repo/internal.h"

#include "base/banned.h"

int point_manifest_read(struct repo *r, const struct object_ref *ref, struct manifest **out,
			struct err *err)
{
	cleanup_free uint8_t *bytes = NULL;
	size_t n;
	int ret = object_read(r, OBJECT_MANIFEST, ref, MANIFEST_MAX, &bytes, &n, err);

	if (ret == 0)
		ret = manifest_decode(bytes, n, out, err);
	return ret;
}

static bool same_disk(const struct manifest_disk *a, const struct manifest_disk *b)
{
	return !strcmp(a->name, b->name) && a->size == b->size && a->chunk_size == b->chunk_size &&
	       a->root.locator == b->root.locator && memcmp(a->root.id, b->root.id, ID_LEN) == 0 &&
	       a->method == b->method && a->unreadable_bytes == b->unreadable_bytes;
}

static const char *difference(const struct manifest *m, const struct manifest *row)
{
	if (strcmp(m->name, row->name) != 0)
		return "name";
	if (m->time != row->time)
		return "time";
	if (m->sequence != row->sequence || m->generation != row->generation)
		return "sequence";
	if (m->kind != row->kind || m->consistency != row->consistency)
		return "kind";
	if (m->has_parent != row->has_parent ||
	    (m->has_parent && memcmp(m->parent, row->parent, POINT_ID_LEN) != 0))
		return "parent";
	if (m->ndisks != row->ndisks)
		return "disks";
	for (size_t i = 0; i < m->ndisks; i++)
		if (!same_disk(&m->disks[i], &row->disks[i]))
			return "disks";
	return NULL;
}

static int check_row(struct repo *r, const struct point_row *row, const struct manifest *m,
		     struct err *err)
{
	const char *what;

	if (memcmp(row->id, row->manifest_ref.id, POINT_ID_LEN) != 0)
		return err_set(err, ERR_DAMAGED,
			       "catalog: the row names the manifest of another point");
	if (memcmp(m->uuid, r->conf.uuid, UUID_LEN) != 0)
		return err_set(err, ERR_DAMAGED, "manifest belongs to another repository");
	what = difference(m, row->m);
	if (what)
		return err_set(err, ERR_DAMAGED, "catalog and manifest differ in %s", what);
	return 0;
}

/* --- pins --- */

static int make_lease(struct repo *r, struct catalog *c, struct err *err)
{
	struct lease l = { 0 };
	int ret;

	repo_lease_describe(&l, LEASE_READER, "");
	ret = store_lock_make(r->store, l.lock_name, &r->lease_fd, err);
	if (ret < 0)
		return ret;
	ret = catalog_lease_begin(c, &l, err);
	if (ret < 0) {
		base_cleanup_fd(&r->lease_fd);
		r->lease_fd = -1;
		(void)store_lock_remove(r->store, l.lock_name, NULL);
		return ret;
	}
	str_copy(r->lease_name, sizeof(r->lease_name), l.lock_name);
	r->lease_token = l.token;
	return 0;
}

/* A row is one for all opens of a point in this process, some of which may be ending while others begin: so they are
 * counted, and count and row change together. */
struct pin {
	struct pin *next;
	unsigned count;
	uint8_t id[POINT_ID_LEN];
};

static struct pin **pin_find(struct repo *r, const uint8_t *id)
{
	struct pin **at = &r->pins;

	while (*at && memcmp((*at)->id, id, POINT_ID_LEN) != 0)
		at = &(*at)->next;
	return at;
}

static int pin_row(struct repo *r, const uint8_t *id, struct err *err)
{
	struct catalog *c;
	int ret = repo_catalog_get(r, &c, err);

	if (ret < 0)
		return ret;
	if (!r->lease_token)
		ret = make_lease(r, c, err);
	if (ret == 0)
		ret = catalog_pin(c, r->lease_token, id, err);
	repo_catalog_put(r, c);
	return ret;
}

static int pin(struct repo *r, const uint8_t *id, struct err *err)
{
	struct pin *fresh = mem_alloc(sizeof(*fresh)), **at;
	int ret = 0;

	if (!fresh)
		return err_nomem(err, "pin");
	pthread_mutex_lock(&r->lease_lock);
	at = pin_find(r, id);
	if (!*at)
		ret = pin_row(r, id, err);
	if (ret == 0 && !*at) {
		memcpy(fresh->id, id, POINT_ID_LEN);
		*at = steal_ptr(fresh);
	}
	if (ret == 0)
		(*at)->count++;
	pthread_mutex_unlock(&r->lease_lock);
	free(fresh);
	return ret;
}

static void unpin(struct repo *r, const uint8_t *id)
{
	struct pin **at, *last = NULL;
	struct catalog *c;

	pthread_mutex_lock(&r->lease_lock);
	at = pin_find(r, id);
	if (!--(*at)->count) {
		last = *at;
		*at = last->next;
	}
	/* A row too many ends with the lease. */
	if (last && repo_catalog_get(r, &c, NULL) == 0) {
		(void)catalog_unpin(c, r->lease_token, id, NULL);
		repo_catalog_put(r, c);
	}
	pthread_mutex_unlock(&r->lease_lock);
	free(last);
}

/* --- points --- */

static struct repo_point *find_open(struct repo *r, const uint8_t *id)
{
	struct repo_point *p;

	pthread_mutex_lock(&r->lock);
	for (p = r->points; p; p = p->next)
		if (memcmp(p->id, id, POINT_ID_LEN) == 0)
			break;
	if (p)
		p->refs++;
	pthread_mutex_unlock(&r->lock);
	return p;
}

static void point_free(struct repo_point *p)
{
	if (p->pinned)
		unpin(p->repo, p->id);
	manifest_free(p->m);
	free(p);
}

static int point_load(struct repo *r, struct repo_point *p, struct err *err)
{
	struct point_row row = { 0 };
	struct catalog *c;
	char hex[2 * POINT_ID_LEN + 1];
	int ret;

	/* The pin comes first, so that what the row names cannot go away in between. */
	if (r->pinnable) {
		ret = pin(r, p->id, err);
		if (ret < 0 && !repo_goes_unpinned(r, ret, err))
			return ret;
		p->pinned = ret == 0;
	}
	ret = repo_catalog_get(r, &c, err);
	if (ret < 0)
		return ret;
	ret = catalog_point_by_id(c, p->id, &row, err);
	repo_catalog_put(r, c);
	if (ret < 0)
		return ret;
	ret = point_manifest_read(r, &row.manifest_ref, &p->m, err);
	if (ret == 0)
		ret = check_row(r, &row, p->m, err);
	point_row_release(&row);
	if (ret < 0) {
		hex_encode(hex, p->id, POINT_ID_LEN);
		err_object(err, "%s", hex);
		return err_prefix(err, "restore point %s", hex);
	}
	return 0;
}

int repo_point_open(struct repo *r, const uint8_t id[POINT_ID_LEN], struct repo_point **out,
		    struct err *err)
{
	struct repo_point *p, *other;
	int ret = repo_need_key(r, err);

	if (ret < 0)
		return ret;
	p = find_open(r, id);
	if (p) {
		*out = p;
		return 0;
	}
	p = mem_alloc(sizeof(*p));
	if (!p)
		return err_nomem(err, "restore point");
	p->repo = r;
	p->refs = 1;
	memcpy(p->id, id, POINT_ID_LEN);
	ret = point_load(r, p, err);
	if (ret < 0) {
		point_free(p);
		return ret;
	}
	pthread_mutex_lock(&r->lock);
	for (other = r->points; other; other = other->next)
		if (memcmp(other->id, id, POINT_ID_LEN) == 0)
			break;
	if (other) {
		other->refs++;
	} else {
		p->next = r->points;
		r->points = p;
	}
	pthread_mutex_unlock(&r->lock);
	if (other) {
		/* Somebody was quicker. */
		point_free(p);
	}
	*out = other ? other : p;
	return 0;
}

void repo_point_close(struct repo_point *p)
{
	struct repo *r;
	struct repo_point **at;
	bool last;

	if (!p)
		return;
	r = p->repo;
	pthread_mutex_lock(&r->lock);
	last = !--p->refs;
	if (last) {
		for (at = &r->points; *at != p;)
			at = &(*at)->next;
		*at = p->next;
	}
	pthread_mutex_unlock(&r->lock);
	if (last)
		point_free(p);
}

const struct manifest *repo_point_manifest(const struct repo_point *p)
{
	return p->m;
}

/* --- disks --- */

static int find_disk(struct repo_point *p, const char *name, const struct manifest_disk **out,
		     struct err *err)
{
	const struct manifest *m = p->m;
	char text[POINT_TEXT_MAX];
	cleanup_buf struct buf names = BUF_INIT;

	repo_point_text(m, text);
	if (!name && m->ndisks == 1) {
		*out = &m->disks[0];
		return 0;
	}
	for (size_t i = 0; i < m->ndisks; i++) {
		if (name && !strcmp(m->disks[i].name, name)) {
			*out = &m->disks[i];
			return 0;
		}
		buf_printf(&names, "%s%s", i ? ", " : "", m->disks[i].name);
	}
	if (!m->ndisks)
		err_set(err, ERR_NOT_FOUND, "'%s' has no disks", text);
	else if (!name)
		err_set(err, ERR_AMBIGUOUS, "'%s' has several disks, name one as '%s/DISK': %s",
			text, text, buf_str(&names));
	else
		err_set(err, ERR_NOT_FOUND, "'%s' has no disk '%s'; it has: %s", text, name,
			buf_str(&names));
	err_object(err, "%s", text);
	return m->ndisks && !name ? ERR_AMBIGUOUS : ERR_NOT_FOUND;
}

static int load_root(struct repo_disk *d, struct err *err)
{
	cleanup_free uint8_t *bytes = NULL;
	uint64_t leaves;
	uint32_t pages;
	size_t n;
	int r = object_read(d->point->repo, OBJECT_ROOT, &d->info->root, PAGE_BYTES_MAX, &bytes, &n,
			    err);

	if (r == 0)
		r = root_decode(bytes, n, &d->root, err);
	if (r < 0)
		return r;
	if (d->root->size != d->info->size || d->root->chunk_size != d->info->chunk_size ||
	    !map_geometry(d->root->size, d->root->chunk_size, &d->chunks, &leaves, &pages) ||
	    pages != d->root->count)
		return err_set(err, ERR_DAMAGED, "root and manifest differ in size");
	return 0;
}

int repo_disk_open(struct repo_point *p, const char *name, struct repo_disk **out, struct err *err)
{
	cleanup_ptr(repo_disk) d = mem_alloc(sizeof(*d));
	int r;

	if (!d)
		return err_nomem(err, "disk");
	r = find_disk(p, name, &d->info, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&p->repo->lock);
	p->refs++;
	pthread_mutex_unlock(&p->repo->lock);
	d->point = p;
	d->chunk_size = d->info->chunk_size;
	r = load_root(d, err);
	if (r < 0)
		return err_prefix(err, "disk '%s' of '%s'", d->info->name, p->m->name);
	chunk_memory_ahead(p->repo);
	*out = steal_ptr(d);
	return 0;
}

void repo_disk_close(struct repo_disk *d)
{
	if (!d)
		return;
	repo_point_close(d->point);
	free(d->root);
	free(d);
}

uint64_t repo_disk_size(const struct repo_disk *d)
{
	return d->info->size;
}

uint32_t repo_disk_chunk_size(const struct repo_disk *d)
{
	return d->chunk_size;
}

const struct manifest_disk *repo_disk_info(const struct repo_disk *d)
{
	return d->info;
}
