// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Stands in for a server of overlays in shell tests.  The passphrase is that of LIVEPOINT_PASSPHRASE.
 *
 *	overlay-driver create REPO POINT [NAME]		prints the id
 *	overlay-driver write REPO ID DISK OFFSET	standard input, then a flush
 *	overlay-driver die REPO ID DISK OFFSET		the same, but is killed by itself before the flush
 *	overlay-driver read REPO ID DISK		to standard output
 *	overlay-driver run REPO ID FILE			writes numbered records until SIGTERM
 *	overlay-driver moment REPO POINT		is it one moment of what run writes?  prints the highest number
 *	overlay-driver kept REPO ID NUMBER		does the overlay have all records up to NUMBER?
 *
 * run: record n (from the highest that is there on) is n in the first 8 bytes of sector n % RECORDS, written to one disk after the
 * other.  Every so many records all disks are flushed, and then n is written to FILE, whole.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "repo/overlay.h"

#include "base/banned.h"

#define RECORDS 1000u
#define SECTOR 512u
#define DISKS_MAX 8u

static volatile sig_atomic_t stop;

static void on_term(int number)
{
	(void)number;
	stop = 1;
}

static void say(void *opaque, enum log_level level, const char *line)
{
	(void)opaque, (void)level;
	fprintf(stderr, "overlay-driver: %s\n", line);
}

struct driver {
	struct repo *repo;
	struct repo_overlay *overlay;
	struct repo_view *views[DISKS_MAX];
	unsigned count;
};

static void driver_release(struct driver *r)
{
	while (r->count)
		repo_view_close(r->views[--r->count]);
	repo_overlay_detach(r->overlay);
	repo_close(r->repo);
}
#define cleanup_driver __attribute__((cleanup(driver_release)))

static int open_repo(const char *path, struct driver *r, struct err *err)
{
	const char *pass = getenv("LIVEPOINT_PASSPHRASE");
	int ret = repo_open(path, REPO_WRITE, &r->repo, err);

	if (ret == 0 && repo_is_locked(r->repo) && pass)
		ret = repo_unlock(r->repo, pass, strlen(pass), true, err);
	return ret < 0 ? ret : repo_start(r->repo, 0, 1, err);
}

static int attach(struct driver *r, const char *id, const char *disk, struct err *err)
{
	struct overlay_info *info = NULL;
	int ret = repo_overlay_find(r->repo, id, &info, err);

	if (ret == 0)
		ret = repo_overlay_attach(r->repo, id, &r->overlay, err);
	for (size_t i = 0; ret == 0 && i < info->ndisks && r->count < DISKS_MAX; i++) {
		if (disk && strcmp(disk, info->disks[i].name) != 0)
			continue;
		ret = repo_view_open(r->overlay, info->disks[i].name, &r->views[r->count], err);
		r->count += ret == 0;
	}
	overlay_infos_free(info, info ? 1 : 0);
	if (ret == 0 && !r->count)
		ret = err_set(err, ERR_NOT_FOUND, "no disk '%s'", disk ? disk : "");
	return ret;
}

static int create(struct driver *r, const char *point, const char *name, struct err *err)
{
	struct repo_spec spec = { 0 };
	char id[OVERLAY_ID_LEN + 1];
	int ret = repo_resolve(r->repo, point, &spec, err);

	if (ret < 0)
		return ret;
	ret = repo_overlay_create(r->repo, spec.row.id, name, id, err);
	repo_spec_release(&spec);
	if (ret == 0)
		printf("%s\n", id);
	return ret;
}

static int copy_in(struct driver *r, uint64_t offset, bool die, struct err *err)
{
	cleanup_free uint8_t *buffer = mem_alloc(MiB);
	ssize_t n;
	int ret = buffer ? 0 : err_nomem(err, "buffer");

	while (ret == 0 && (n = file_read_some(0, buffer, MiB, "standard input", err)) != 0) {
		if (n < 0)
			return (int)n;
		ret = repo_view_write(r->views[0], buffer, (size_t)n, offset, err);
		offset += (uint64_t)n;
	}
	if (ret == 0 && die)
		kill(getpid(), SIGKILL);
	return ret < 0 ? ret : repo_view_flush(r->views[0], err);
}

static int copy_out(struct driver *r, struct err *err)
{
	cleanup_free uint8_t *buffer = mem_alloc(MiB);
	uint64_t size = repo_view_size(r->views[0]), at;
	int ret = buffer ? 0 : err_nomem(err, "buffer");

	for (at = 0; at < size && ret == 0; at += MiB) {
		size_t n = (size_t)MIN(MiB, size - at);

		ret = repo_view_read(r->views[0], buffer, n, at, err);
		if (ret == 0)
			ret = file_write(1, buffer, n, "standard output", err);
	}
	return ret;
}

/* --- records --- */

static uint64_t highest(const uint8_t *disk)
{
	uint64_t most = 0;

	for (unsigned i = 0; i < RECORDS; i++)
		most = MAX(most, get_le64(disk + (size_t)SECTOR * i));
	return most;
}

static int note(const char *path, uint64_t n, struct err *err)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu\n", (unsigned long long)n);
	return file_write_all(path, text, strlen(text), 0600, true, "driver.note", err);
}

static int write_records(struct driver *r, const char *file, struct err *err)
{
	static uint8_t table[RECORDS * SECTOR];
	uint8_t sector[SECTOR] = { 0 };
	uint64_t n;
	int ret = repo_view_read(r->views[0], table, sizeof(table), 0, err);

	for (n = highest(table) + 1; ret == 0 && !stop; n++) {
		put_le64(sector, n);
		for (unsigned i = 0; i < r->count && ret == 0; i++)
			ret = repo_view_write(r->views[i], sector, SECTOR, SECTOR * (n % RECORDS),
					      err);
		if (ret < 0 || n % 50)
			continue;
		for (unsigned i = 0; i < r->count && ret == 0; i++)
			ret = repo_view_flush(r->views[i], err);
		if (ret == 0)
			ret = note(file, n, err);
		time_sleep_ms(2);
	}
	return ret;
}

/* All numbers up to the highest, of those that the sectors can still have. */
static int whole(const uint8_t *disk, uint64_t most, struct err *err)
{
	for (uint64_t n = most >= RECORDS ? most - RECORDS + 1 : 1; n <= most; n++)
		if (get_le64(disk + (size_t)SECTOR * (n % RECORDS)) != n)
			return err_set(err, ERR_DAMAGED, "record %llu of %llu is not there",
				       (unsigned long long)n, (unsigned long long)most);
	return 0;
}

static int moment(struct driver *r, const char *point, struct err *err)
{
	static uint8_t table[RECORDS * SECTOR];
	cleanup_ptr(repo_point) p = NULL;
	struct repo_spec spec = { 0 };
	uint64_t first = 0, most = 0;
	int ret = repo_resolve(r->repo, point, &spec, err);

	if (ret == 0)
		ret = repo_point_open(r->repo, spec.row.id, &p, err);
	repo_spec_release(&spec);
	for (size_t i = 0; ret == 0 && i < repo_point_manifest(p)->ndisks; i++) {
		cleanup_ptr(repo_disk) d = NULL;

		ret = repo_disk_open(p, repo_point_manifest(p)->disks[i].name, &d, err);
		if (ret == 0)
			ret = repo_disk_read(d, table, sizeof(table), 0, err);
		if (ret == 0)
			ret = whole(table, highest(table), err);
		if (ret < 0)
			return ret;
		most = highest(table);
		first = i ? first : most;
		/* The disks are written in their order: a later one may lack the last record, and has none more. */
		if (most > first || first - most > 1)
			return err_set(err, ERR_DAMAGED, "disk %zu has %llu, the first %llu", i,
				       (unsigned long long)most, (unsigned long long)first);
	}
	if (ret == 0)
		printf("%llu\n", (unsigned long long)first);
	return ret;
}

/* Each sector has what it had when NUMBER was flushed, or what was written since. */
static int kept(struct driver *r, uint64_t number, struct err *err)
{
	static uint8_t table[RECORDS * SECTOR];
	int ret = 0;

	for (unsigned i = 0; i < r->count && ret == 0; i++) {
		ret = repo_view_read(r->views[i], table, sizeof(table), 0, err);
		for (uint64_t n = number >= RECORDS ? number - RECORDS + 1 : 1;
		     ret == 0 && n <= number; n++) {
			uint64_t is = get_le64(table + (size_t)SECTOR * (n % RECORDS));

			if (is < n || is % RECORDS != n % RECORDS)
				ret = err_set(err, ERR_DAMAGED, "disk %u: %llu where %llu was", i,
					      (unsigned long long)is, (unsigned long long)n);
		}
	}
	return ret;
}

static int act(int argc, char **argv, struct err *err)
{
	cleanup_driver struct driver r = { 0 };
	const char *what = argv[1];
	uint64_t number = 0;
	int ret = open_repo(argv[2], &r, err);

	if (ret < 0)
		return ret;
	if (!strcmp(what, "create"))
		return create(&r, argv[3], argc > 4 ? argv[4] : NULL, err);
	if (!strcmp(what, "moment"))
		return moment(&r, argv[3], err);
	if (argc > 4 && !strcmp(what, "read")) {
		ret = attach(&r, argv[3], argv[4], err);
		return ret < 0 ? ret : copy_out(&r, err);
	}
	if (argc > 5 && (!strcmp(what, "write") || !strcmp(what, "die")) &&
	    parse_u64(argv[5], &number)) {
		ret = attach(&r, argv[3], argv[4], err);
		return ret < 0 ? ret : copy_in(&r, number, !strcmp(what, "die"), err);
	}
	if (argc <= 4)
		return err_set(err, ERR_USAGE, "see the source");
	ret = attach(&r, argv[3], NULL, err);
	if (ret < 0)
		return ret;
	if (!strcmp(what, "run"))
		return write_records(&r, argv[4], err);
	if (!strcmp(what, "kept") && parse_u64(argv[4], &number))
		return kept(&r, number, err);
	return err_set(err, ERR_USAGE, "see the source");
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_term };
	struct err err = ERR_INIT;
	int r;

	log_set_sink(say, NULL, LOG_LEVEL_WARNING);
	sigaction(SIGTERM, &sa, NULL);
	if (argc < 4)
		return 2;
	r = act(argc, argv, &err);
	if (r >= 0)
		return 0;
	fprintf(stderr, "overlay-driver: %s\n", err.text);
	return err_code_exit(r);
}
