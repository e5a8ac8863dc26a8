// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Damage that a guest ran into: where, and which other point is whole there.
 *
 * The server logs each read that fails for damage with the name of the export and the disk's offset ("export 'E': ... offset
 * N: ..."); QEMU and libvirt say neither.  A range counts only if it still cannot be read from the point; whether it can be is
 * asked of the server itself, over NBD, since it has the key and the watcher has not.
 */
#include "recover/internal.h"

#include <fcntl.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/proc.h"

#include "base/banned.h"

#define LOG_READ_MAX (1 * MiB) /* of new lines, at a time */
#define RANGES_MAX 64
#define OTHERS_MAX 30 /* points that are tried, newest first */

struct found {
	struct recovery_damage *list; /* owned */
	size_t count;
};

static bool has_range(const struct found *f, const char *disk, uint64_t start)
{
	size_t i;

	for (i = 0; i < f->count; i++)
		if (f->list[i].start == start && strcmp(f->list[i].disk, disk) == 0)
			return true;
	return false;
}

static int add_range(struct found *f, const struct record_disk *d, uint64_t offset, uint32_t chunk,
		     struct err *err)
{
	uint64_t start = offset - offset % chunk;
	struct recovery_damage *more;

	if (offset >= d->size || f->count == RANGES_MAX || has_range(f, d->name, start))
		return 0;
	more = mem_realloc_array(f->list, f->count + 1, sizeof(*more));
	if (!more)
		return err_nomem(err, "list of damage");
	f->list = more;
	more[f->count] = (struct recovery_damage){
		.start = start,
		.length = MIN((uint64_t)chunk, d->size - start),
		.time = time_now(),
	};
	str_copy(more[f->count].disk, sizeof(more[f->count].disk), d->name);
	f->count++;
	return 0;
}

/* The number behind "offset " in the words after the export's name. */
static bool read_offset(const char *text, uint64_t *offset)
{
	char digits[24];
	const char *at = strstr(text, "offset ");
	size_t n;

	if (!at)
		return false;
	at += strlen("offset ");
	n = strspn(at, "0123456789");
	return n > 0 && n < sizeof(digits) && snprintf(digits, n + 1, "%s", at) > 0 &&
	       parse_u64(digits, offset);
}

static int read_line(struct found *f, const struct record *rec, const char *line, uint32_t chunk,
		     struct err *err)
{
	size_t i;
	int code = 0;

	for (i = 0; code == 0 && i < rec->ndisks; i++) {
		cleanup_free char *name = disk_export(rec, &rec->disks[i]);
		cleanup_free char *mark = name ? str_printf("export '%s': ", name) : NULL;
		const char *at = mark ? strstr(line, mark) : NULL;
		uint64_t offset;

		if (!mark)
			return err_nomem(err, "name of an export");
		if (at && read_offset(at, &offset))
			code = add_range(f, &rec->disks[i], offset, chunk, err);
	}
	return code;
}

int damage_read(const struct record *rec, const struct serve_export *shared, uint32_t chunk_size,
		uint64_t *offset, struct recovery_damage **out, size_t *count, struct err *err)
{
	cleanup_free char *run = NULL, *path = NULL, *text = NULL;
	cleanup_fd int fd = -1;
	struct found f = { 0 };
	uint64_t size = 0;
	char *line, *next;
	ssize_t n;
	int code = serve_run_folder(&run, err);

	if (code < 0)
		return code;
	path = str_printf("%s/%s.log", run, shared->id);
	text = mem_alloc(LOG_READ_MAX + 1);
	if (!path || !text)
		return err_nomem(err, "log of a server");
	fd = file_open(path, O_RDONLY, 0, err);
	if (fd < 0 || file_size(fd, &size, path, err) < 0)
		return err->code;
	if (*offset > size || size - *offset > LOG_READ_MAX)
		*offset = size > LOG_READ_MAX ? size - LOG_READ_MAX : 0;
	n = file_pread_some(fd, text, size - *offset, *offset, path, err);
	if (n < 0)
		return (int)n;
	*offset += (uint64_t)n;
	for (line = text; code == 0 && *line; line = next) {
		next = line + strcspn(line, "\n");
		if (*next)
			*next++ = 0;
		code = read_line(&f, rec, line, chunk_size, err);
	}
	if (code < 0) {
		free(f.list);
		return code;
	}
	*out = f.list;
	*count = f.count;
	return 0;
}

/* One read over NBD, by qemu-io, which every host with QEMU has. */
static bool can_read(const struct serve_export *shared, const char *export, uint64_t start,
		     uint64_t length)
{
	cleanup_free char *uri = serve_uri(shared, export);
	cleanup_free char *command = str_printf("read -q %llu %llu", (unsigned long long)start,
						(unsigned long long)length);
	const char *const argv[] = { "qemu-io", "-r", "-f", "raw", "-c", command, uri, NULL };
	cleanup_buf struct buf out = BUF_INIT;

	return uri && command && proc_run(argv, &out, 64 * KiB, NULL) == 0 &&
	       !strstr(buf_str(&out), "failed");
}

static bool point_can(const struct serve_export *shared, const char *point,
		      const struct recovery_damage *d)
{
	cleanup_free char *name = str_printf("%s/%s", point, d->disk);

	return name && can_read(shared, name, d->start, d->length);
}

bool damage_is_there(const struct serve_export *shared, const char *point,
		     const struct recovery_damage *d)
{
	return !point_can(shared, point, d);
}

static bool has_disk(const struct manifest *m, const struct recovery_damage *d)
{
	size_t i;

	for (i = 0; i < m->ndisks; i++)
		if (strcmp(m->disks[i].name, d->disk) == 0)
			return m->disks[i].size >= d->start + d->length;
	return false;
}

int damage_find_other(struct repo *repo, const struct serve_export *shared,
		      const struct record *rec, struct recovery_damage *d, struct err *err)
{
	cleanup_free char *name = str_dup(rec->point);
	struct point_filter filter = { 0 };
	struct point_list list = { 0 };
	unsigned tried = 0;
	size_t i;
	int code;

	if (!name)
		return err_nomem(err, "name of a point");
	name[strcspn(name, "@")] = 0;
	filter.name = name;
	filter.newest_first = true;
	code = repo_points(repo, &filter, &list, err);
	if (code < 0)
		return code;
	for (i = 0; i < list.count && tried < OTHERS_MAX && !d->other; i++) {
		const struct manifest *m = list.rows[i].m;
		char text[POINT_TEXT_MAX];

		repo_point_text(m, text);
		if (strcmp(text, rec->point) == 0 || !has_disk(m, d))
			continue;
		tried++;
		if (point_can(shared, text, d))
			text_set(&d->other, text);
	}
	point_list_release(&list);
	return 0;
}
