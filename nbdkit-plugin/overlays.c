// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Names of overlays' disks: OVERLAY-ID/DISK and OVERLAY-NAME/DISK, and without /DISK if there is only one.
 *
 * Nothing is remembered, as with points: an overlay made after the start is served.  A server for one overlay has it by
 * its id, which stays, whatever point it stands on.
 *
 * Invariants:
 *  1. Overlays are served by a server of the whole repository and by one started with overlay=, never with point=.
 *  2. The name of an overlay wins over a NAME; NAME@latest is always the point.
 *  3. A name always means the same overlay to connections that are open at a time: one that is attached is not discarded.
 */
#include "nbdkit-plugin/internal.h"

#include "base/banned.h"

static void infos_cleanup(struct overlay_info **info)
{
	if (*info)
		overlay_infos_free(*info, 1);
}
#define cleanup_info __attribute__((cleanup(infos_cleanup)))

bool overlay_name_split(const char *name, char *what, size_t size, const char **disk)
{
	size_t n = strcspn(name, "/");

	if (n == 0 || n >= size)
		return false;
	memcpy(what, name, n);
	what[n] = 0;
	*disk = name[n] ? name + n + 1 : "";
	return true;
}

/* Whether it can be an overlay's id and no point's: 'o' is no hexadecimal digit. */
static bool is_overlay_id(const char *what)
{
	return strlen(what) == OVERLAY_ID_LEN && what[0] == 'o' &&
	       strspn(what + 1, "0123456789abcdef") == OVERLAY_ID_LEN - 1;
}

static void describe(const struct overlay_info *info, const struct overlay_disk *d,
		     char dst[EXPORT_TEXT_MAX])
{
	char size[32];

	export_size_text(d->size, size, sizeof(size));
	snprintf(dst, EXPORT_TEXT_MAX, "%s, writable, of %s%s%s", size, info->point_text,
		 info->name[0] ? ", named " : "", info->name);
}

/* The disk of that name, or the only one if disk is "". */
static const struct overlay_disk *find_disk(const struct overlay_info *info, const char *disk,
					    struct err *err)
{
	size_t i;

	if (!*disk && info->ndisks != 1) {
		err_set(err, ERR_AMBIGUOUS, "overlay '%s' has %zu disks; name one as %s/DISK",
			info->id, info->ndisks, info->id);
		return NULL;
	}
	for (i = 0; i < info->ndisks; i++)
		if (!*disk || strcmp(info->disks[i].name, disk) == 0)
			return &info->disks[i];
	err_set(err, ERR_NOT_FOUND, "overlay '%s' has no disk '%s'", info->id, disk);
	return NULL;
}

static int fill_target(const struct serving *s, const struct overlay_info *info, const char *disk,
		       struct export_target *t, struct err *err)
{
	const struct overlay_disk *d;

	if (s->disk[0] && *disk && strcmp(s->disk, disk) != 0)
		return err_set(err, ERR_NOT_FOUND, "this server has only disk '%s' of overlay '%s'",
			       s->disk, info->id);
	d = find_disk(info, s->disk[0] ? s->disk : disk, err);
	if (!d)
		return err->code;
	str_copy(t->overlay, sizeof(t->overlay), info->id);
	str_copy(t->disk, sizeof(t->disk), d->name);
	t->fixed = true;
	describe(info, d, t->overlay_text);
	return 1;
}

int overlay_export_find(struct repo *r, const struct serving *s, const char *name,
			struct export_target *t, struct err *err)
{
	cleanup_info struct overlay_info *info = NULL;
	char what[NAME_MAX_LEN + 1] = "";
	const char *disk = "";
	struct err why = ERR_INIT;
	int code = 0;

	if (s->scope != SCOPE_ALL && s->scope != SCOPE_OVERLAY)
		return 0;
	if (overlay_name_split(name, what, sizeof(what), &disk) && name_valid(what))
		code = repo_overlay_find(r, what, &info, &why);
	if (code < 0 && code != ERR_NOT_FOUND) {
		*err = why;
		return err_prefix(err, "export '%s'", name);
	}
	if (s->scope == SCOPE_OVERLAY && (!info || strcmp(info->id, s->overlay) != 0))
		return err_set(err, ERR_NOT_FOUND, "export '%s' is not served here: overlay=%s",
			       name, s->overlay);
	if (!info) {
		if (!is_overlay_id(what))
			return 0;
		return err_set(err, ERR_NOT_FOUND, "export '%s': there is no overlay '%s'", name,
			       what);
	}
	code = fill_target(s, info, disk, t, err);
	return code < 0 ? err_prefix(err, "export '%s'", name) : code;
}

int overlay_export_default(struct repo *r, const struct serving *s, char dst[EXPORT_NAME_MAX],
			   struct err *err)
{
	cleanup_info struct overlay_info *info = NULL;
	const struct overlay_disk *d;

	if (repo_overlay_find(r, s->overlay, &info, err) < 0)
		return err->code;
	d = find_disk(info, s->disk, err);
	if (!d)
		return err_prefix(err, "the empty export name");
	snprintf(dst, EXPORT_NAME_MAX, "%s/%s", info->id, d->name);
	return 0;
}

static int add_name(const struct overlay_info *info, const struct overlay_disk *d, const char *what,
		    struct nbdkit_exports *out, unsigned *left, struct err *err)
{
	char name[EXPORT_NAME_MAX], text[EXPORT_TEXT_MAX];

	if (!*what || *left == 0)
		return 0;
	snprintf(name, sizeof(name), "%s/%s", what, d->name);
	describe(info, d, text);
	if (nbdkit_add_export(out, name, text) == -1)
		return err_set(err, ERR_FAILED, "cannot list export '%s'", name);
	--*left;
	return 0;
}

static int list_one(const struct overlay_info *info, const struct serving *s,
		    struct nbdkit_exports *out, unsigned *left, struct err *err)
{
	int code = 0;
	size_t i;

	for (i = 0; code == 0 && i < info->ndisks; i++) {
		const struct overlay_disk *d = &info->disks[i];

		if (s->disk[0] && strcmp(s->disk, d->name) != 0)
			continue;
		code = add_name(info, d, info->id, out, left, err);
		if (code == 0)
			code = add_name(info, d, info->name, out, left, err);
	}
	return code;
}

int overlay_export_list(struct repo *r, const struct serving *s, struct nbdkit_exports *out,
			unsigned *left, struct err *err)
{
	struct overlay_info *list = NULL;
	size_t count = 0, i;
	int code;

	if (s->scope != SCOPE_ALL && s->scope != SCOPE_OVERLAY)
		return 0;
	code = repo_overlays(r, &list, &count, err);
	for (i = 0; code == 0 && i < count; i++)
		if (s->scope == SCOPE_ALL || strcmp(list[i].id, s->overlay) == 0)
			code = list_one(&list[i], s, out, left, err);
	overlay_infos_free(list, count);
	return code;
}
