// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * A new catalog out of the packs.
 *
 * Order: own lock file; nobody else alive; survey; catalog.sqlite.new, one transaction, synced; the old catalog and then its
 * -wal and -shm to quarantine/, synced; nobody else alive still; the new one renamed into place, synced.
 *
 * 1. A crash at any step leaves the old catalog, or none, beside the packs, which nothing here changes: running it again does
 *    the same.  An old one without its -wal is never in place: the file itself is moved first.
 * 2. While no catalog is in place nobody can begin; who had the old one open cannot take a lease in it any more, and has
 *    made his lock before he tries (catalog/lease.c).  So the second look finds everybody.
 * 3. Forgotten points come back forgotten, expired ones as rows that only the next prune sees, held ones held, as the newest
 *    state object says.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "repo/audit.h"
#include "repo/repair-internal.h"

#include "base/banned.h"

static int refuse_held(void *opaque, const char *name, struct err *err)
{
	struct repair *x = opaque;
	int r;

	if (!strcmp(name, x->lease.lock_name))
		return 0;
	r = store_lock_held(x->repo->store, name, err);
	if (r <= 0)
		return r;
	err_set(err, ERR_LOCKED,
		"a process holds 'locks/%s': end every backup, prune, mount and export of '%s' first; "
		"its catalog is to be replaced",
		name, x->repo->path);
	return err_object(err, "%s", name);
}

/* --- writing it --- */

static const struct state_point *state_of(const struct survey *s, const uint8_t *id)
{
	for (size_t i = 0; i < s->state.npoints; i++)
		if (memcmp(s->state.points[i].id, id, POINT_ID_LEN) == 0)
			return &s->state.points[i];
	return NULL;
}

static bool expired(const struct survey *s, const struct survey_point *p)
{
	const struct state_point *known = state_of(s, p->ref.id);

	return known && known->expired;
}

static int by_sequence(const void *a, const void *b)
{
	const struct survey_point *x = a, *y = b;

	return x->m->sequence < y->m->sequence ? -1 : x->m->sequence > y->m->sequence;
}

static int write_points(struct catalog *c, struct survey *s, uint64_t *count, struct err *err)
{
	int r = 0;

	if (s->npoints)
		qsort(s->points, s->npoints, sizeof(*s->points), by_sequence);
	for (size_t i = 0; i < s->npoints && r == 0; i++) {
		const struct survey_point *p = &s->points[i];

		/* Expired ones too: their rows go with the next prune, which then knows why their data is in no point, and
		 * until then each state object says again that they are not to come back. */
		r = catalog_rebuild_point(c, p->ref.id, &p->ref, p->m, err);
		*count += r == 0 && !expired(s, p);
	}
	return r;
}

/* Those that pass their check; the others are written anew afterwards. */
static int write_segments(struct repair *x, struct catalog *c, struct err *err)
{
	cleanup_free uint64_t *numbers = NULL;
	size_t count = 0;
	int r = store_segments_list(x->repo->store, &numbers, &count, err);

	for (size_t i = 0; i < count && r == 0; i++) {
		uint64_t records;

		if (store_segment_check(x->repo->store, numbers[i], NULL) == 0 &&
		    store_segment_records(x->repo->store, numbers[i], &records, NULL) == 0)
			r = catalog_rebuild_segment(c, numbers[i], records, err);
	}
	return r;
}

static int write_rows(struct repair *x, struct catalog *c, struct survey *s, struct err *err)
{
	struct repo_audit audit;
	char detail[160];
	uint64_t points = 0;
	int r = catalog_rebuild_begin(c, err);

	for (size_t i = 0; i < s->npacks && r == 0; i++) {
		const struct survey_pack *p = &s->packs[i];
		struct rebuilt_pack row = { .number = p->number,
					    .kind = p->kind,
					    .slots = p->slots,
					    .bytes = p->bytes,
					    .gone = &p->gone,
					    .damaged = &p->damaged };

		r = catalog_rebuild_pack(c, &row, err);
	}
	if (r == 0)
		r = write_points(c, s, &points, err);
	if (r == 0)
		r = overlay_rebuild(x->repo, c, err);
	if (r == 0)
		r = write_segments(x, c, err);
	if (r == 0)
		r = catalog_rebuild_state(c, s->has_state ? &s->state : NULL,
					  s->has_state ? &s->state_ref : NULL, err);
	if (r == 0)
		r = catalog_rebuild_counters(c, s->generation, s->next_pack, s->next_sequence,
					     s->next_segment, s->next_token, err);
	snprintf(detail, sizeof(detail),
		 "{\"catalog\":true,\"points\":%" PRIu64 ",\"packs\":%zu,\"state\":%" PRIu64 "}",
		 points, s->npacks, s->has_state ? s->state.generation : 0);
	repo_audit_fill(x->repo, &audit, "repair", "catalog", detail);
	if (r == 0)
		r = catalog_rebuild_end(c, &audit.audit, err);
	x->result->points = points;
	return r;
}

static int write_catalog(struct repair *x, const char *path, struct survey *s, struct err *err)
{
	static const char *const endings[] = { "", "-wal", "-shm" };
	struct catalog *c = NULL;
	cleanup_fd int fd = -1;
	int r = 0;

	/* What a repair that died has left: never in place, so nobody's. */
	for (size_t i = 0; i < ARRAY_SIZE(endings) && r >= 0; i++) {
		cleanup_free char *old = str_printf("%s%s", path, endings[i]);

		r = old ? file_unlink(old, "repair.catalog.unlink", err) :
			  err_nomem(err, "path of the catalog");
	}
	if (r >= 0)
		r = catalog_create(path, x->repo->conf.uuid, err);
	if (r == 0)
		r = catalog_open(path, CATALOG_READ_WRITE, x->repo->conf.uuid, &c, err);
	if (r == 0)
		r = write_rows(x, c, s, err);
	catalog_close(c);
	if (r < 0)
		return r;
	/* The last connection has written the WAL back; by SQLite's own sync, and once more by ours. */
	fd = file_open(path, O_RDONLY, 0, err);
	return fd < 0 ? fd : file_datasync(fd, path, "repair.catalog.sync", err);
}

/* --- putting it in place --- */

static int quarantine_one(struct repair *x, const char *ending, const char *stamp, struct err *err)
{
	cleanup_free char *from = str_printf("%s/catalog.sqlite%s", x->repo->path, ending);
	cleanup_free char *to =
		str_printf("%s/quarantine/catalog-%s.sqlite%s", x->repo->path, stamp, ending);
	int r;

	if (!from || !to)
		return err_nomem(err, "path of the catalog");
	if (access(from, F_OK) < 0 && errno == ENOENT)
		return 0;
	r = file_rename_new(from, to, "repair.catalog.quarantine", err);
	if (r == 0 && !*ending)
		log_info("the old catalog is now 'quarantine/catalog-%s.sqlite'", stamp);
	return r;
}

static int quarantine_old(struct repair *x, const char *stamp, struct err *err)
{
	static const char *const endings[] = { "", "-wal", "-shm" };
	cleanup_free char *folder = str_printf("%s/quarantine", x->repo->path);
	int r;

	if (!folder)
		return err_nomem(err, "path of the quarantine");
	r = dir_make(folder, 0700, "repair.quarantine.make", err);
	for (size_t i = 0; i < ARRAY_SIZE(endings) && r >= 0; i++)
		r = quarantine_one(x, endings[i], stamp, err);
	if (r >= 0)
		r = dir_sync(folder, "repair.quarantine.sync", err);
	return r < 0 ? r : dir_sync(x->repo->path, "repair.catalog.old-sync", err);
}

static int swap_in(struct repair *x, const char *fresh, struct err *err)
{
	cleanup_free char *path = str_printf("%s/catalog.sqlite", x->repo->path);
	char stamp[40];
	uint8_t random[4];
	int r;

	if (!path)
		return err_nomem(err, "path of the catalog");
	random_bytes(random, sizeof(random));
	snprintf(stamp, sizeof(stamp), "%" PRId64 "-", time_now());
	hex_encode(stamp + strlen(stamp), random, sizeof(random));
	r = quarantine_old(x, stamp, err);
	if (r == 0)
		r = store_locks_each(x->repo->store, refuse_held, x, err);
	if (r == 0)
		r = file_rename_new(fresh, path, "repair.catalog.rename", err);
	return r < 0 ? r : dir_sync(x->repo->path, "repair.catalog.dirsync", err);
}

static void tell_plan(struct repair *x, const char *why, const struct survey *s)
{
	char when[TIME_TEXT_MAX];
	uint64_t going = 0, forgotten = 0;

	for (size_t i = 0; i < s->npoints; i++) {
		const struct state_point *p = state_of(s, s->points[i].ref.id);

		going += p && p->expired;
		forgotten += p && !p->expired;
	}
	if (s->has_state)
		time_format(when, s->state.time);
	repair_say(x, REPAIR_CATALOG, LOCATOR_NONE, false,
		   "%s: it is built again from %zu packs: %" PRIu64 " restore points, %" PRIu64
		   " of them forgotten, %zu holds; %s%s%s",
		   why, s->npacks, (uint64_t)s->npoints - going, forgotten, s->state.nholds,
		   s->has_state ? "forgotten points and holds are those of " : "nothing says",
		   s->has_state ? when : " what was forgotten or held", "");
	x->result->points = s->npoints - going;
}

static int rebuild(struct repair *x, const char *why, struct err *err)
{
	cleanup_free char *fresh = str_printf("%s/catalog.sqlite.new", x->repo->path);
	struct survey s = { 0 };
	int r;

	if (!fresh)
		return err_nomem(err, "path of the catalog");
	r = survey_make(x, &s, err);
	if (r == 0)
		tell_plan(x, why, &s);
	if (r == 0 && !x->spec->dry_run) {
		r = write_catalog(x, fresh, &s, err);
		if (r == 0)
			r = swap_in(x, fresh, err);
		if (r == 0)
			repair_say(x, REPAIR_CATALOG, LOCATOR_NONE, true,
				   "the catalog was built again, with %" PRIu64
				   " restore points; forget by rule and prune wait for "
				   "'livepoint repair --accept'",
				   x->result->points);
	}
	survey_release(&s);
	return r;
}

int repair_catalog(struct repair *x, const char *why, struct err *err)
{
	struct repo *repo = x->repo;
	int r, fd = -1;

	if (x->spec->dry_run)
		return rebuild(x, why, err);
	r = store_lock_make(repo->store, x->lease.lock_name, &fd, err);
	if (r < 0)
		return r;
	r = store_locks_each(repo->store, refuse_held, x, err);
	if (r == 0)
		r = rebuild(x, why, err);
	(void)store_lock_remove(repo->store, x->lease.lock_name, NULL);
	base_cleanup_fd(&fd);
	return r;
}
