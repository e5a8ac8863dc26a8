// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Names of exports: NAME@TIME/DISK, NAME@latest/DISK, what repo_resolve() takes besides, and overlays (overlays.c), which
 * are asked for first: a name that was an overlay's must not become a point's when a backup of that name is made.
 *
 * Nothing is remembered: each connection asks the catalog, so that points made after the start are served.  The
 * exception is a server for one point (SCOPE_POINT), which knows that point by id and serves it to its end, also
 * after it was forgotten.
 *
 * Invariants:
 *  1. A name from a client is only shown after export_shown(): no control characters in a log.
 *  2. `fixed` is true only for a name that can never mean another point: a whole NAME@TIME or id, or a server for one
 *     point.  Not for latest, shortened forms, or "the only disk there is".
 */
#include "nbdkit-plugin/internal.h"

#include "base/banned.h"

static bool is_name_byte(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("._-@:/+", c));
}

/* The name with everything strange replaced, cut to what fits. */
static const char *export_shown(const char *name, char dst[EXPORT_TEXT_MAX])
{
	size_t i;

	for (i = 0; name[i] && i < EXPORT_TEXT_MAX - 4; i++) {
		unsigned char c = (unsigned char)name[i];

		dst[i] = c > ' ' && c < 0x7f && c != '\'' ? name[i] : '?';
	}
	str_copy(dst + i, 4, name[i] ? "..." : "");
	return dst;
}

static int check_name(const char *name, struct err *err)
{
	char shown[EXPORT_TEXT_MAX];
	size_t n = strlen(name), i;

	if (n >= EXPORT_NAME_MAX)
		return err_set(err, ERR_INVALID, "export name '%s' has %zu bytes, %d is the most",
			       export_shown(name, shown), n, EXPORT_NAME_MAX - 1);
	for (i = 0; i < n; i++)
		if (!is_name_byte((unsigned char)name[i]))
			return err_set(
				err, ERR_INVALID,
				"export name '%s': byte 0x%02x at %zu is in no name; it should look like "
				"NAME@TIME/DISK",
				export_shown(name, shown), (unsigned char)name[i], i);
	if (name[0] == '/' || str_ends(name, "/") || strstr(name, "//") || strstr(name, ".."))
		return err_set(err, ERR_INVALID, "export name '%s' should look like NAME@TIME/DISK",
			       export_shown(name, shown));
	return 0;
}

/* Whether text, up to its '/', is the whole and only name of this point. */
static bool is_exact(const char *text, const char *point, const uint8_t id[POINT_ID_LEN])
{
	uint8_t given[POINT_ID_LEN];
	size_t n = strcspn(text, "/");

	if (strlen(point) == n && memcmp(text, point, n) == 0)
		return true;
	return n == 2 * POINT_ID_LEN && hex_decode(given, text, POINT_ID_LEN) &&
	       memcmp(given, id, POINT_ID_LEN) == 0;
}

/* Applies point=.../DISK. */
static int restrict_disk(const struct serving *s, const char *name, struct export_target *t,
			 struct err *err)
{
	if (!s->disk[0] || strcmp(s->disk, t->disk) == 0)
		return 0;
	if (t->disk[0])
		return err_set(err, ERR_NOT_FOUND,
			       "export '%s': this server has only disk '%s' of %s", name, s->disk,
			       s->text);
	str_copy(t->disk, sizeof(t->disk), s->disk);
	return 0;
}

/* The point of this server by its own name: known without asking, also when it was forgotten since. */
static int find_own(const struct serving *s, const char *name, struct export_target *t,
		    struct err *err)
{
	const char *slash = strchr(name, '/');

	memcpy(t->id, s->id, sizeof(t->id));
	t->fixed = true;
	if (slash && str_starts(slash + 1, "volumes/"))
		return err_set(err, ERR_UNSUPPORTED,
			       "export '%s': volumes are not served by this version", name);
	if (slash &&
	    (!disk_name_valid(slash + 1) || !str_copy(t->disk, sizeof(t->disk), slash + 1)))
		return err_set(err, ERR_NOT_FOUND, "export '%s': no such disk in %s", name,
			       s->text);
	return restrict_disk(s, name, t, err);
}

/* Whether what was found is what point= leaves. */
static int check_scope(struct repo *r, const struct serving *s, const struct repo_spec *spec,
		       const char *name, struct err *err)
{
	__attribute__((cleanup(repo_spec_release))) struct repo_spec latest = { 0 };
	const uint8_t *id = s->id;

	if (s->scope == SCOPE_ALL)
		return 0;
	if (s->scope == SCOPE_LATEST) {
		if (spec->latest && strcmp(spec->row.m->name, s->name) == 0)
			return 0;
		if (repo_resolve(r, s->text, &latest, err) < 0)
			return err->code;
		id = latest.row.id;
	}
	if (memcmp(id, spec->row.id, POINT_ID_LEN) == 0)
		return 0;
	return err_set(err, ERR_NOT_FOUND, "export '%s' is not served here: point=%s", name,
		       s->text);
}

static int find_resolved(struct repo *r, const struct serving *s, const char *name,
			 struct export_target *t, struct err *err)
{
	__attribute__((cleanup(repo_spec_release))) struct repo_spec spec = { 0 };
	char point[POINT_TEXT_MAX];

	if (repo_resolve(r, name, &spec, err) < 0)
		return err_prefix(err, "export '%s'", name);
	if (check_scope(r, s, &spec, name, err) < 0)
		return err->code;
	memcpy(t->id, spec.row.id, sizeof(t->id));
	str_copy(t->disk, sizeof(t->disk), spec.disk);
	repo_point_text(spec.row.m, point);
	t->fixed = s->scope == SCOPE_POINT || (!spec.latest && is_exact(name, point, spec.row.id));
	return restrict_disk(s, name, t, err);
}

int export_find(struct repo *r, const struct serving *s, const char *name,
		struct export_target *out, struct err *err)
{
	struct export_target t = { 0 };
	char only[EXPORT_NAME_MAX];
	bool empty = !*name;
	int code = check_name(name, err);

	if (code == 0 && empty) {
		code = export_default(r, s, only, err);
		name = only;
	}
	if (code < 0)
		return code;
	code = overlay_export_find(r, s, name, &t, err);
	if (code < 0)
		return code;
	if (code == 1) {
		*out = t;
		return 0;
	}
	if (s->scope == SCOPE_POINT && is_exact(name, s->text, s->id))
		code = find_own(s, name, &t, err);
	else
		code = find_resolved(r, s, name, &t, err);
	if (code < 0)
		return code;
	if (empty && s->scope != SCOPE_POINT)
		t.fixed = false; /* the next connection may find another point, or two */
	*out = t;
	return 0;
}

/* --- the empty name --- */

static int only_disk(const struct manifest *m, const struct serving *s, const char *point,
		     char dst[EXPORT_NAME_MAX], struct err *err)
{
	const char *disk = s->disk;

	if (!*disk) {
		if (m->ndisks != 1)
			return err_set(
				err, ERR_AMBIGUOUS,
				"the empty export name: %s has %zu disks; name one as %s/DISK",
				point, m->ndisks, point);
		disk = m->disks[0].name;
	}
	snprintf(dst, EXPORT_NAME_MAX, "%s/%s", point, disk);
	return 0;
}

/* Without point= there is one disk only if the repository has one point with one. */
static int only_disk_of_all(struct repo *r, const struct serving *s, char dst[EXPORT_NAME_MAX],
			    struct err *err)
{
	__attribute__((cleanup(point_list_release))) struct point_list list = { 0 };
	struct point_filter filter = { .newest_first = true, .limit = 2 };
	struct overlay_info *overlays = NULL;
	char point[POINT_TEXT_MAX];
	size_t noverlays = 0;
	int code = repo_overlays(r, &overlays, &noverlays, err);

	if (code == 0)
		code = repo_points(r, &filter, &list, err);
	overlay_infos_free(overlays, noverlays);
	if (code < 0)
		return code;
	if (noverlays)
		return err_set(
			err, ERR_AMBIGUOUS,
			"the empty export name: there are points and overlays; name one as NAME@TIME/DISK or "
			"OVERLAY/DISK");
	if (list.count == 0)
		return err_set(err, ERR_NOT_FOUND,
			       "the empty export name: the repository has no point yet");
	if (list.count > 1)
		return err_set(
			err, ERR_AMBIGUOUS,
			"the empty export name: there are several points; name one as NAME@TIME/DISK, or start "
			"the server with point=");
	repo_point_text(list.rows[0].m, point);
	return only_disk(list.rows[0].m, s, point, dst, err);
}

int export_default(struct repo *r, const struct serving *s, char dst[EXPORT_NAME_MAX],
		   struct err *err)
{
	__attribute__((cleanup(repo_spec_release))) struct repo_spec spec = { 0 };
	cleanup_ptr(repo_point) p = NULL;

	if (s->scope == SCOPE_ALL)
		return only_disk_of_all(r, s, dst, err);
	if (s->scope == SCOPE_OVERLAY)
		return overlay_export_default(r, s, dst, err);
	if (s->scope == SCOPE_LATEST) {
		if (repo_resolve(r, s->text, &spec, err) < 0)
			return err->code;
		return only_disk(spec.row.m, s, s->text, dst, err);
	}
	if (repo_point_open(r, s->id, &p, err) < 0)
		return err->code;
	return only_disk(repo_point_manifest(p), s, s->text, dst, err);
}

/* --- the list --- */

/* 1000 rather than 1024 of a unit would print four digits: the next unit is taken from 1000 on. */
void export_size_text(uint64_t bytes, char *dst, size_t size)
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB", "PiB" };
	double v = (double)bytes;
	size_t u = 0;

	for (; v >= 1000 && u + 1 < ARRAY_SIZE(units); u++)
		v /= 1024;
	if (u == 0)
		snprintf(dst, size, "%u bytes", (unsigned)bytes);
	else
		snprintf(dst, size, "%.1f %s", v, units[u]);
}

void export_describe(const struct manifest *m, const struct manifest_disk *d,
		     char dst[EXPORT_TEXT_MAX])
{
	char when[TIME_TEXT_MAX], size[32];

	time_format(when, m->time);
	export_size_text(d->size, size, sizeof(size));
	snprintf(dst, EXPORT_TEXT_MAX, "%s, %s, %s-consistent, %s", size, point_kind_name(m->kind),
		 consistency_name(m->consistency), when);
}

/* Adds the disks of one point; *left counts names down. */
static int list_point(const struct manifest *m, const struct serving *s, struct nbdkit_exports *out,
		      unsigned *left, struct err *err)
{
	char point[POINT_TEXT_MAX], name[EXPORT_NAME_MAX], text[EXPORT_TEXT_MAX];
	size_t i;

	repo_point_text(m, point);
	for (i = 0; i < m->ndisks && *left; i++) {
		const struct manifest_disk *d = &m->disks[i];

		if (s->disk[0] && strcmp(s->disk, d->name) != 0)
			continue;
		snprintf(name, sizeof(name), "%s/%s", point, d->name);
		export_describe(m, d, text);
		if (nbdkit_add_export(out, name, text) == -1)
			return err_set(err, ERR_FAILED, "cannot list export '%s'", name);
		--*left;
	}
	return 0;
}

int export_list(struct repo *r, const struct serving *s, struct nbdkit_exports *out,
		struct err *err)
{
	__attribute__((cleanup(point_list_release))) struct point_list list = { 0 };
	struct point_filter filter = { .newest_first = true, .limit = EXPORTS_LISTED_MAX };
	cleanup_ptr(repo_point) own = NULL;
	unsigned left = EXPORTS_LISTED_MAX;
	int code;
	size_t i;

	if (s->scope == SCOPE_POINT) {
		code = repo_point_open(r, s->id, &own, err);
		return code < 0 ? code : list_point(repo_point_manifest(own), s, out, &left, err);
	}
	code = overlay_export_list(r, s, out, &left, err);
	if (code < 0 || s->scope == SCOPE_OVERLAY)
		return code;
	if (s->scope == SCOPE_LATEST) {
		filter.name = s->name;
		filter.limit = 1;
	}
	code = repo_points(r, &filter, &list, err);
	for (i = 0; code == 0 && i < list.count && left; i++)
		code = list_point(list.rows[i].m, s, out, &left, err);
	return code;
}
