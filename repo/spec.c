/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a person types, to a point: NAME@TIME, NAME@latest, NAME, hexadecimal id, each with /DISK.
 *
 * A NAME that exists wins over an id; a shortened TIME or id must fit exactly one point.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "repo/internal.h"

#include "base/banned.h"

#define SPEC_MAX 512u /* bytes of what is typed; longer cannot be right */
#define SHOW_MOST 8u /* points or names named in an error */

void repo_spec_release(struct repo_spec *s)
{
	point_row_release(&s->row);
}

void repo_point_text(const struct manifest *m, char dst[POINT_TEXT_MAX])
{
	char time[TIME_TEXT_MAX];

	time_format(time, m->time);
	snprintf(dst, POINT_TEXT_MAX, "%s@%s", m->name, time);
}

int repo_points(struct repo *r, const struct point_filter *f, struct point_list *out,
		struct err *err)
{
	struct catalog *c;
	int ret = repo_catalog_get(r, &c, err);

	if (ret < 0)
		return ret;
	ret = catalog_points(c, f, out, err);
	repo_catalog_put(r, c);
	return ret;
}

/* --- near matches --- */

/* Edit distance (Levenshtein 1966), bounded by the lengths of names. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[NAME_MAX_LEN + 2];
	size_t la = MIN(strlen(a), NAME_MAX_LEN), lb = MIN(strlen(b), NAME_MAX_LEN);

	for (size_t j = 0; j <= lb; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= la; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= lb; j++) {
			unsigned above = row[j];
			unsigned change = diagonal + (a[i - 1] != b[j - 1]);

			row[j] = MIN(MIN(row[j] + 1, row[j - 1] + 1), change);
			diagonal = above;
		}
	}
	return row[lb];
}

static bool is_near(const char *typed, const char *name)
{
	return strstr(name, typed) || strstr(typed, name) || distance(typed, name) <= 2;
}

static int no_such_name(struct repo *r, struct catalog *c, const char *name, struct err *err)
{
	cleanup_buf struct buf near = BUF_INIT;
	unsigned shown = 0;
	char **names;
	size_t count;
	int ret = catalog_names(c, &names, &count, err);

	if (ret < 0)
		return ret;
	for (size_t i = 0; i < count && shown < SHOW_MOST; i++)
		if (is_near(name, names[i]))
			buf_printf(&near, "%s%s", shown++ ? ", " : "", names[i]);
	catalog_names_free(names, count);
	if (shown)
		err_set(err, ERR_NOT_FOUND, "no restore point '%s' in '%s'; near: %s", name,
			r->path, buf_str(&near));
	else
		err_set(err, ERR_NOT_FOUND,
			"no restore point '%s' in '%s'; 'livepoint list' shows what there is", name,
			r->path);
	err_object(err, "%s", name);
	return ERR_NOT_FOUND;
}

static void list_points(const struct point_list *l, struct buf *out)
{
	for (size_t i = 0; i < l->count && i < SHOW_MOST; i++) {
		char text[POINT_TEXT_MAX];

		repo_point_text(l->rows[i].m, text);
		buf_printf(out, "%s%s", i ? ", " : "", text);
	}
	if (l->count > SHOW_MOST)
		buf_printf(out, ", ...");
}

/* Moves the one row out of the list, or says why there is not one. */
static int take_only(struct point_list *l, const char *typed, struct point_row *out,
		     struct err *err)
{
	cleanup_buf struct buf text = BUF_INIT;

	if (l->count == 1) {
		*out = l->rows[0];
		memset(&l->rows[0], 0, sizeof(l->rows[0]));
		return 0;
	}
	list_points(l, &text);
	err_set(err, ERR_AMBIGUOUS, "'%s' fits several restore points: %s", typed, buf_str(&text));
	err_object(err, "%s", typed);
	return ERR_AMBIGUOUS;
}

static int by_time(struct repo *r, struct catalog *c, const char *typed, const char *name,
		   const char *time, struct point_row *out, struct err *err)
{
	struct point_list l = { 0 }, near = { 0 };
	cleanup_buf struct buf text = BUF_INIT;
	int ret = catalog_points_by_time(c, name, time, SHOW_MOST + 1, &l, err);

	if (ret < 0)
		return ret;
	if (l.count) {
		ret = take_only(&l, typed, out, err);
		point_list_release(&l);
		return ret;
	}
	point_list_release(&l);
	ret = catalog_points_by_time(c, name, "", SHOW_MOST, &near, err);
	if (ret < 0)
		return ret;
	if (near.count) {
		list_points(&near, &text);
		err_set(err, ERR_NOT_FOUND, "no restore point '%s'; the newest of '%s': %s", typed,
			name, buf_str(&text));
		err_object(err, "%s", typed);
		ret = ERR_NOT_FOUND;
	} else {
		ret = no_such_name(r, c, name, err);
	}
	point_list_release(&near);
	return ret;
}

static bool is_hex(const char *s)
{
	size_t n = strspn(s, "0123456789abcdefABCDEF");

	return n >= 4 && n <= 2 * POINT_ID_LEN && !s[n];
}

static int by_name_or_id(struct repo *r, struct catalog *c, const char *typed,
			 struct repo_spec *out, struct err *err)
{
	struct point_list l = { 0 };
	int ret = ERR_NOT_FOUND;

	if (name_valid(typed)) {
		ret = catalog_point_latest(c, typed, &out->row, err);
		out->latest = ret == 0;
	}
	if (ret != ERR_NOT_FOUND)
		return ret;
	if (is_hex(typed)) {
		ret = catalog_points_by_prefix(c, typed, SHOW_MOST + 1, &l, err);
		if (ret == 0 && l.count) {
			ret = take_only(&l, typed, &out->row, err);
			point_list_release(&l);
			return ret;
		}
		point_list_release(&l);
		if (ret < 0)
			return ret;
	}
	return no_such_name(r, c, typed, err);
}

static int resolve(struct repo *r, struct catalog *c, char *typed, struct repo_spec *out,
		   struct err *err)
{
	char *at = strchr(typed, '@');
	cleanup_free char *name = NULL;
	int ret;

	if (!at)
		return by_name_or_id(r, c, typed, out, err);
	name = str_dup(typed);
	if (!name)
		return err_nomem(err, "name of a point");
	name[at - typed] = '\0';
	if (!name_valid(name)) {
		err_set(err, ERR_NOT_FOUND, "'%s' is no NAME (1 to 128 of A-Z a-z 0-9 . _ -)",
			name);
		err_object(err, "%s", typed);
		return ERR_NOT_FOUND;
	}
	if (strcmp(at + 1, "latest") != 0) {
		if (!at[1])
			return err_set(err, ERR_NOT_FOUND, "'%s' has no time after the @", typed);
		return by_time(r, c, typed, name, at + 1, &out->row, err);
	}
	ret = catalog_point_latest(c, name, &out->row, err);
	out->latest = true;
	return ret == ERR_NOT_FOUND ? no_such_name(r, c, name, err) : ret;
}

/* --- points that were forgotten --- */

static bool is_forgotten_as(const struct point_row *row, const char *typed)
{
	const char *at = strchr(typed, '@');
	char point[POINT_TEXT_MAX], hex[2 * POINT_ID_LEN + 1];
	size_t n = at ? (size_t)(at - typed) : strlen(typed);

	if (row->state != POINT_FORGOTTEN)
		return false;
	repo_point_text(row->m, point);
	if (at && strcmp(at, "@latest") != 0)
		return at[1] && str_starts(point, typed);
	hex_encode(hex, row->id, POINT_ID_LEN);
	return (strlen(row->m->name) == n && !strncmp(row->m->name, typed, n)) ||
	       (!at && is_hex(typed) && !strncasecmp(hex, typed, n));
}

/* Nothing that is there fits: the newest forgotten point that does is what was meant.  Leaves the error when in doubt. */
static void say_forgotten(struct catalog *c, const char *typed, struct err *err)
{
	struct point_filter f = { .forgotten = true, .newest_first = true };
	struct point_list l = { 0 };
	char text[POINT_TEXT_MAX];

	if (catalog_points(c, &f, &l, NULL) < 0)
		return;
	for (size_t i = 0; i < l.count; i++) {
		if (!is_forgotten_as(&l.rows[i], typed))
			continue;
		repo_point_text(l.rows[i].m, text);
		err_set(err, ERR_NOT_FOUND,
			"'%s' is forgotten; 'livepoint unforget %s' takes it back", text, text);
		err_object(err, "%s", typed);
		break;
	}
	point_list_release(&l);
}

static int check_disk(struct repo_spec *s, const char *text, const char *disk, struct err *err)
{
	const struct manifest *m = s->row.m;
	cleanup_buf struct buf names = BUF_INIT;

	for (size_t i = 0; i < m->ndisks; i++) {
		if (!strcmp(m->disks[i].name, disk)) {
			str_copy(s->disk, sizeof(s->disk), disk);
			return 0;
		}
		buf_printf(&names, "%s%s", i ? ", " : "", m->disks[i].name);
	}
	err_set(err, ERR_NOT_FOUND, "'%s': the point has no disk '%s'; it has: %s", text, disk,
		buf_str(&names));
	err_object(err, "%s", text);
	return ERR_NOT_FOUND;
}

/* Only what can be shown goes into errors. */
static int check_text(const char *text, struct err *err)
{
	size_t n = strlen(text);

	if (!n)
		return err_set(err, ERR_NOT_FOUND, "empty name of a restore point");
	if (n > SPEC_MAX)
		return err_set(err, ERR_NOT_FOUND,
			       "name of a restore point with %zu bytes, at most %u", n, SPEC_MAX);
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)text[i] < 0x20 || (unsigned char)text[i] >= 0x7f)
			return err_set(
				err, ERR_NOT_FOUND,
				"'%.*s' followed by byte 0x%02x is no name of a restore point",
				(int)MIN(i, NAME_MAX_LEN), text, (unsigned char)text[i]);
	return 0;
}

int repo_resolve(struct repo *r, const char *text, struct repo_spec *out, struct err *err)
{
	cleanup_free char *typed = str_dup(text);
	struct repo_spec spec = { 0 };
	struct catalog *c;
	char *slash;
	int ret;

	if (!typed)
		return err_nomem(err, "name of a point");
	ret = check_text(typed, err);
	if (ret < 0)
		return ret;
	slash = strchr(typed, '/');
	if (slash)
		*slash++ = '\0';
	if (slash && (!strcmp(slash, "volumes") || str_starts(slash, "volumes/")))
		return err_set(err, ERR_UNSUPPORTED,
			       "'%s': volumes inside disks cannot be named yet; name a disk", text);
	if (slash && !disk_name_valid(slash)) {
		err_set(err, ERR_NOT_FOUND, "'%s': '%s' is no DISK", text, slash);
		err_object(err, "%s", text);
		return ERR_NOT_FOUND;
	}
	ret = repo_catalog_get(r, &c, err);
	if (ret < 0)
		return ret;
	ret = resolve(r, c, typed, &spec, err);
	if (ret == ERR_NOT_FOUND)
		say_forgotten(c, typed, err);
	repo_catalog_put(r, c);
	if (ret == 0 && slash)
		ret = check_disk(&spec, text, slash, err);
	if (ret < 0) {
		repo_spec_release(&spec);
		return ret;
	}
	*out = spec;
	return 0;
}
