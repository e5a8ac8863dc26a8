/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Files kept with a point (domain XML, NVRAM): in through a write session, out of an open point.
 *
 * A file is cut into parts of CONFIG_PART bytes, each stored as a blob among the map objects, and named by the manifest.
 *
 * 1. A part whose content is that of the parent's file of this name at the same place is not stored again, unless the
 *    parent's slot is known to be damaged.
 * 2. What a reader gets was checked by its content id and length.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/log.h"
#include "repo/session-internal.h"

#include "base/banned.h"

const struct manifest_config *repo_config_find(const struct manifest *m, const char *name)
{
	for (size_t i = 0; i < m->nconfigs; i++)
		if (strcmp(m->configs[i].name, name) == 0)
			return &m->configs[i];
	return NULL;
}

/* --- in --- */

static bool given(const struct repo_session *s, const char *name)
{
	for (size_t i = 0; i < s->nconfigs; i++)
		if (strcmp(s->configs[i].name, name) == 0)
			return true;
	return false;
}

/* A new empty file at the end of the session's list; borrowed until the next one. */
static int config_begin(struct repo_session *s, const char *name, struct manifest_config **out,
			struct err *err)
{
	struct manifest_config *more, *c;

	if (!config_name_valid(name))
		return err_set(err, ERR_INVALID,
			       "'%.80s' is no name of a file kept with a point (1 to %d of A-Z "
			       "a-z 0-9 . _ -, not starting with . or -)",
			       name, CONFIG_NAME_MAX_LEN);
	if (given(s, name))
		return err_set(err, ERR_EXISTS, "file '%s' is given twice", name);
	if (s->nconfigs == POINT_CONFIGS_MAX)
		return err_set(err, ERR_TOO_BIG, "more than %d files kept with a point",
			       POINT_CONFIGS_MAX);
	more = mem_realloc_array(s->configs, s->nconfigs + 1, sizeof(*more));
	if (!more)
		return err_nomem(err, "list of files");
	s->configs = more;
	c = &more[s->nconfigs];
	memset(c, 0, sizeof(*c));
	c->parts = mem_alloc_array(CONFIG_PARTS_MAX, sizeof(*c->parts));
	if (!c->parts)
		return err_nomem(err, "list of files");
	str_copy(c->name, sizeof(c->name), name);
	s->nconfigs++;
	*out = c;
	return 0;
}

static const struct manifest_config *in_parent(const struct repo_session *s, const char *name)
{
	return s->parent ? repo_config_find(repo_point_manifest(s->parent), name) : NULL;
}

static int put_part(struct repo_session *s, struct manifest_config *c, const void *p, size_t n,
		    struct err *err)
{
	const struct manifest_config *old = in_parent(s, c->name);
	const struct object_ref *same = old && c->nparts < old->nparts ? &old->parts[c->nparts] :
									 NULL;
	int r = session_stopped(s, err);

	if (r < 0)
		return r;
	if (c->nparts == CONFIG_PARTS_MAX)
		return err_set(err, ERR_TOO_BIG, "file '%s' has more than %u MiB", c->name,
			       CONFIG_BYTES_MAX >> 20);
	r = session_share(s, OBJECT_BLOB, p, n, same, &c->parts[c->nparts], err);
	if (r < 0)
		return r;
	c->nparts++;
	c->size += n;
	return 0;
}

int repo_session_config(struct repo_session *s, const char *name, const void *p, size_t n,
			struct err *err)
{
	struct manifest_config *c;
	int r = config_begin(s, name, &c, err);

	for (size_t at = 0; at < n && r == 0; at += CONFIG_PART)
		r = put_part(s, c, (const uint8_t *)p + at, MIN(n - at, (size_t)CONFIG_PART), err);
	return r;
}

/* Fills as much of the buffer as there is; the count, less only at the end. */
static ssize_t read_part(int fd, uint8_t *p, const char *path, struct err *err)
{
	size_t n = 0;

	while (n < CONFIG_PART) {
		ssize_t got = file_read_some(fd, p + n, CONFIG_PART - n, path, err);

		if (got < 0)
			return got;
		if (got == 0)
			break;
		n += (size_t)got;
	}
	return (ssize_t)n;
}

int repo_session_config_fd(struct repo_session *s, const char *name, int fd, const char *path,
			   struct err *err)
{
	cleanup_free uint8_t *part = mem_realloc_array(NULL, CONFIG_PART, 1);
	struct manifest_config *c;
	ssize_t n = CONFIG_PART;
	int r = part ? config_begin(s, name, &c, err) : err_nomem(err, "file kept with a point");

	while (r == 0 && n == CONFIG_PART) {
		n = read_part(fd, part, path, err);
		r = n < 0 ? (int)n : 0;
		if (n > 0)
			r = put_part(s, c, part, (size_t)n, err);
	}
	return r;
}

/* A part of the parent as it is.  One that is known to be damaged may read well again, and is stored anew then; else it
 * stays what it is, and verify names this point too. */
static int inherit_part(struct repo_session *s, struct manifest_config *c,
			const struct object_ref *ref, struct err *err)
{
	cleanup_free uint8_t *bytes = NULL;
	struct err why = ERR_INIT;
	size_t n;

	c->parts[c->nparts] = *ref;
	if (usable_damaged(&s->usable, ref->locator)) {
		if (object_read(s->repo, OBJECT_BLOB, ref, CONFIG_PART, &bytes, &n, &why) == 0)
			return put_part(s, c, bytes, n, err);
		log_warning("file '%s', taken over from the point before: %s", c->name, why.text);
	}
	c->nparts++;
	return 0;
}

int repo_session_config_inherit(struct repo_session *s, struct err *err)
{
	const struct manifest *m = s->parent ? repo_point_manifest(s->parent) : NULL;
	int r = 0;

	for (size_t i = 0; m && i < m->nconfigs && r == 0; i++) {
		const struct manifest_config *old = &m->configs[i];
		struct manifest_config *c;

		if (given(s, old->name))
			continue;
		r = config_begin(s, old->name, &c, err);
		for (unsigned k = 0; k < old->nparts && r == 0; k++)
			r = inherit_part(s, c, &old->parts[k], err);
		if (r == 0)
			c->size = old->size;
	}
	return r;
}

void session_configs_free(struct repo_session *s)
{
	for (size_t i = 0; i < s->nconfigs; i++)
		free(s->configs[i].parts);
	free(s->configs);
}

/* --- out --- */

static int no_such_file(const struct repo_point *p, const char *name, struct err *err)
{
	cleanup_buf struct buf names = BUF_INIT;
	char point[POINT_TEXT_MAX];

	repo_point_text(p->m, point);
	for (size_t i = 0; i < p->m->nconfigs; i++)
		buf_printf(&names, "%s%s", i ? ", " : "", p->m->configs[i].name);
	err_set(err, ERR_NOT_FOUND, "'%s' keeps no file '%.80s'; %s%s", point, name,
		p->m->nconfigs ? "it has: " : "it has none", buf_str(&names));
	return err_object(err, "%s/config/%.80s", point, name);
}

int repo_config_read(struct repo_point *p, const char *name, struct buf *out, struct err *err)
{
	const struct manifest_config *c = repo_config_find(p->m, name);
	int r = 0;

	if (!c)
		return no_such_file(p, name, err);
	if (!buf_reserve(out, (size_t)c->size))
		return err_nomem(err, "file kept with a point");
	for (unsigned i = 0; i < c->nparts && r == 0; i++) {
		cleanup_free uint8_t *bytes = NULL;
		size_t n = 0;

		r = object_read(p->repo, OBJECT_BLOB, &c->parts[i], CONFIG_PART, &bytes, &n, err);
		if (r == 0 && n != config_part_len(c->size, i))
			r = err_set(err, ERR_DAMAGED, "part %u has %zu bytes", i, n);
		if (r == 0)
			buf_put(out, bytes, n);
	}
	if (r == 0 && out->failed)
		r = err_nomem(err, "file kept with a point");
	return r < 0 ? err_prefix(err, "file 'config/%s'", name) : 0;
}

int repo_manifest_read(struct repo *r, const struct point_row *row, struct manifest **out,
		       struct err *err)
{
	cleanup_ptr(manifest) m = NULL;
	int ret = point_manifest_read(r, &row->manifest_ref, &m, err);

	if (ret < 0)
		return ret;
	if (memcmp(row->id, row->manifest_ref.id, POINT_ID_LEN) != 0 ||
	    memcmp(m->uuid, r->conf.uuid, UUID_LEN) != 0)
		return err_set(err, ERR_DAMAGED, "catalog: the row names another manifest");
	*out = steal_ptr(m);
	return 0;
}
