// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * What the user wrote: SOURCE = [DISK=]WHERE, disk names, image formats by name or ending; and the result that goes back.
 *
 * Invariants:
 *  1. A format comes from an option or a file name, never from content: a raw disk may hold anything, also the header of
 *     an image that names files of the host.
 *  2. No two disks of a point have one name.
 */
#include "ingest/internal.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

#include "base/banned.h"

int ingest_source_parse(const char *text, struct ingest_source *out, struct err *err)
{
	char disk[DISK_NAME_MAX_LEN + 1] = "";
	const char *equals = strchr(text, '=');
	struct ingest_source s = { 0 };

	if (equals && (size_t)(equals - text) <= DISK_NAME_MAX_LEN && access(text, F_OK) != 0) {
		memcpy(disk, text, (size_t)(equals - text));
		if (disk_name_valid(disk))
			text = equals + 1;
		else
			disk[0] = 0;
	}
	if (!*text)
		return err_set(err, ERR_USAGE, "a source is empty");
	s.where = str_dup(text);
	s.disk = disk[0] ? str_dup(disk) : NULL;
	if (!s.where || (disk[0] && !s.disk)) {
		ingest_source_release(&s);
		return err_nomem(err, "a source");
	}
	*out = s;
	return 0;
}

void ingest_source_release(struct ingest_source *s)
{
	free(s->disk);
	free(s->where);
	free(s->changed);
	memset(s, 0, sizeof(*s));
}

bool where_is_nbd(const char *where)
{
	static const char *const schemes[] = { "nbd://", "nbd+unix://", "nbds://", "nbds+unix://" };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(schemes); i++)
		if (str_starts(where, schemes[i]))
			return true;
	return false;
}

static const struct {
	const char *user, *qemu;
} formats[] = {
	{ "raw", "raw" },   { "img", "raw" }, { "qcow2", "qcow2" }, { "vmdk", "vmdk" },
	{ "vhdx", "vhdx" }, { "vdi", "vdi" }, { "vpc", "vpc" },	    { "vhd", "vpc" },
};

const char *image_format(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(formats); i++)
		if (strcasecmp(name, formats[i].user) == 0)
			return formats[i].qemu;
	return NULL;
}

const char *image_format_of_path(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *dot = strrchr(slash ? slash : path, '.');
	const char *format = dot ? image_format(dot + 1) : NULL;

	return format ? format : "raw";
}

/* The name of a block device in its folder, if it can be a disk's: sda for /dev/sda and for links to it; a device
 * mapper device is called as it was given, for dm-3 is another one after the next boot. */
static bool device_name(const char *where, char name[DISK_NAME_MAX_LEN + 1])
{
	char resolved[PATH_MAX];
	const char *base;
	struct stat st;

	if (stat(where, &st) < 0 || !S_ISBLK(st.st_mode) || !realpath(where, resolved))
		return false;
	base = strrchr(resolved, '/') + 1;
	if (str_starts(base, "dm-")) {
		base = strrchr(where, '/');
		base = base ? base + 1 : where;
	}
	return disk_name_valid(base) && str_copy(name, DISK_NAME_MAX_LEN + 1, base);
}

/* vda to vdz, vdaa to vdzz. */
static void numbered_name(size_t i, char name[DISK_NAME_MAX_LEN + 1])
{
	if (i < 26)
		snprintf(name, DISK_NAME_MAX_LEN + 1, "vd%c", (char)('a' + i));
	else
		snprintf(name, DISK_NAME_MAX_LEN + 1, "vd%c%c", (char)('a' + i / 26 - 1),
			 (char)('a' + i % 26));
}

static int names_unique(char (*names)[DISK_NAME_MAX_LEN + 1], size_t n, struct err *err)
{
	size_t i, k;

	for (i = 0; i < n; i++) {
		for (k = 0; k < i; k++) {
			if (strcmp(names[i], names[k]) != 0)
				continue;
			err_set(err, ERR_USAGE,
				"two disks would be called '%s': name them as DISK=SOURCE",
				names[i]);
			return err_object(err, "%s", names[i]);
		}
	}
	return 0;
}

int ingest_disk_names(const struct ingest_source *sources, size_t n,
		      char (*names)[DISK_NAME_MAX_LEN + 1], struct err *err)
{
	size_t i, numbered = 0;

	if (!n)
		return err_set(err, ERR_USAGE, "a backup needs a source");
	if (n > POINT_DISKS_MAX)
		return err_set(err, ERR_USAGE, "%zu sources are more than the %d disks of a point",
			       n, POINT_DISKS_MAX);
	for (i = 0; i < n; i++) {
		if (sources[i].disk && !disk_name_valid(sources[i].disk)) {
			err_set(err, ERR_USAGE, "'%s' cannot be the name of a disk",
				sources[i].disk);
			return err_object(err, "%s", sources[i].disk);
		}
		if (sources[i].disk)
			str_copy(names[i], DISK_NAME_MAX_LEN + 1, sources[i].disk);
		else if (where_is_nbd(sources[i].where) || !device_name(sources[i].where, names[i]))
			numbered_name(numbered++, names[i]);
	}
	return names_unique(names, n, err);
}

void ingest_warn(struct ingest_result *result, bool attention, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;
	char **grown;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (attention)
		result->attention = true;
	grown = mem_realloc_array(result->warnings, result->nwarnings + 1, sizeof(*grown));
	if (grown) {
		result->warnings = grown;
		grown[result->nwarnings] = str_dup(text);
		if (grown[result->nwarnings]) {
			result->nwarnings++;
			return;
		}
	}
	log_warning("%s", text);
}

void ingest_result_release(struct ingest_result *r)
{
	size_t i;

	for (i = 0; i < r->nwarnings; i++)
		free(r->warnings[i]);
	free(r->warnings);
	free(r->disks);
	memset(r, 0, sizeof(*r));
}
