// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * A restore: which disks go where, then one after the other.  See restore/restore.h.
 *
 * Order: the point and its disks, all targets (what can be refused is refused before the first byte is written), then for each
 * disk copy, flush, compare if asked, finish.  A new file gets its name in "finish", after the comparison.
 *
 * Invariant: damage ends the restore, or (keep_going) is listed in the result and still ends in ERR_DAMAGED.
 */
#include "restore/internal.h"

#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/file.h"

#include "base/banned.h"

struct restore {
	struct repo *repo;
	const struct restore_spec *spec;
	struct repo_point *point, *from; /* owned; from may be NULL */
	struct repo_disk **disks; /* owned */
	struct target **targets; /* owned */
	size_t ndisks;
	struct pool *pool; /* owned */
	struct restore_result result; /* owned until it is given away */
};

void restore_result_release(struct restore_result *r)
{
	free(r->damaged);
	memset(r, 0, sizeof(*r));
}

static void restore_release(struct restore *x)
{
	size_t i;

	for (i = 0; i < x->ndisks; i++) {
		target_close(x->targets[i]);
		if (x->disks[i])
			repo_disk_close(x->disks[i]);
	}
	if (x->pool)
		pool_free(x->pool);
	if (x->from)
		repo_point_close(x->from);
	if (x->point)
		repo_point_close(x->point);
	free(x->disks);
	free(x->targets);
	restore_result_release(&x->result);
}

/* Opens a point by text; disk: what stands behind the slash, "" if nothing. */
static int open_point(struct repo *r, const char *text, struct repo_point **out,
		      char disk[DISK_NAME_MAX_LEN + 1], struct err *err)
{
	struct repo_spec spec;
	int e = repo_resolve(r, text, &spec, err);

	if (e < 0)
		return e;
	str_copy(disk, DISK_NAME_MAX_LEN + 1, spec.disk);
	e = repo_point_open(r, spec.row.id, out, err);
	repo_spec_release(&spec);
	return e;
}

static int open_disks(struct restore *x, struct err *err)
{
	char name[DISK_NAME_MAX_LEN + 1], from_disk[DISK_NAME_MAX_LEN + 1];
	const struct manifest *m;
	size_t n, i;
	int r = open_point(x->repo, x->spec->point, &x->point, name, err);

	if (r < 0)
		return r;
	if (x->spec->from) {
		r = open_point(x->repo, x->spec->from, &x->from, from_disk, err);
		if (r < 0)
			return err_prefix(err, "--from");
	}
	m = repo_point_manifest(x->point);
	n = name[0] ? 1 : m->ndisks;
	if (!n)
		return err_set(err, ERR_NOT_FOUND, "'%s' has no disk", x->spec->point);
	x->disks = mem_alloc_array(n, sizeof(*x->disks));
	x->targets = mem_alloc_array(n, sizeof(*x->targets));
	if (!x->disks || !x->targets)
		return err_nomem(err, "a restore");
	for (i = 0; i < n; i++) {
		x->ndisks = i + 1;
		r = repo_disk_open(x->point, name[0] ? name : m->disks[i].name, &x->disks[i], err);
		if (r < 0)
			return r;
		x->result.size += repo_disk_size(x->disks[i]);
	}
	return 0;
}

/* The repository is no place for a target: --overwrite of a pack would cost every point in it. */
static int refuse_repository(struct restore *x, struct err *err)
{
	char inside[PATH_MAX], target[PATH_MAX];
	cleanup_free char *folder = str_dup(x->spec->target);
	size_t n;

	if (!folder)
		return err_nomem(err, "a restore");
	if (!realpath(repo_path(x->repo), inside))
		return err_set_errno(err, ERR_IO, errno, "repository '%s'", repo_path(x->repo));
	if (!realpath(folder, target) && !realpath(dirname(folder), target))
		return 0; /* opening it says what is wrong */
	n = strlen(inside);
	if (strncmp(target, inside, n) != 0 || (target[n] && target[n] != '/'))
		return 0;
	err_set(err, ERR_TARGET, "target '%s' is in the repository", x->spec->target);
	return err_object(err, "%s", x->spec->target);
}

/* Several disks go into a folder, one too if the target is one.  1: a folder, 0: not, or a code. */
static int target_is_folder(struct restore *x, struct err *err)
{
	const char *where = x->spec->target;
	struct stat st;

	if (target_is_nbd(where)) {
		if (x->ndisks > 1)
			return err_set(
				err, ERR_USAGE,
				"'%s' has %zu disks, and '%s' takes one: name it as POINT/DISK",
				x->spec->point, x->ndisks, where);
		return 0;
	}
	if (stat(where, &st) == 0 && S_ISDIR(st.st_mode))
		return 1;
	if (x->ndisks == 1)
		return 0;
	if (stat(where, &st) == 0)
		return err_set(err, ERR_USAGE,
			       "'%s' has %zu disks: name one as POINT/DISK, or a folder as target",
			       x->spec->point, x->ndisks);
	return dir_make(where, 0700, NULL, err) < 0 ? err_recode(err, ERR_TARGET) : 1;
}

static int open_target(struct restore *x, size_t i, bool folder, struct err *err)
{
	const struct manifest_disk *info = repo_disk_info(x->disks[i]);
	cleanup_free char *path = folder ? str_printf("%s/%s.raw", x->spec->target, info->name) :
					   NULL;
	struct target_spec spec = { .where = folder ? path : x->spec->target,
				    .size = repo_disk_size(x->disks[i]),
				    .chunk = repo_disk_chunk_size(x->disks[i]),
				    .overwrite = x->spec->overwrite,
				    .delta = x->spec->delta,
				    .stop = x->spec->stop };

	if (!spec.where)
		return err_nomem(err, "a restore");
	return target_open(&spec, &x->targets[i], err);
}

static int open_targets(struct restore *x, struct err *err)
{
	int folder, r = 0;
	size_t i;

	if (x->spec->from && !x->spec->delta)
		return err_set(err, ERR_USAGE,
			       "--from says what an existing target holds: it needs --delta");
	if (!*x->spec->target)
		return err_set(err, ERR_USAGE, "the target is empty");
	r = target_is_nbd(x->spec->target) ? 0 : refuse_repository(x, err);
	if (r < 0)
		return r;
	folder = target_is_folder(x, err);
	if (folder < 0)
		return folder;
	for (i = 0; i < x->ndisks && r == 0; i++)
		r = open_target(x, i, folder, err);
	return r;
}

static int restore_disk(struct restore *x, size_t i, struct err *err)
{
	const char *name = repo_disk_info(x->disks[i])->name;
	struct target *t = x->targets[i];
	cleanup_ptr(repo_disk) from = NULL;
	struct copy_spec copy = { .repo = x->repo,
				  .disk = x->disks[i],
				  .target = t,
				  .name = name,
				  .pool = x->pool,
				  .mode = x->spec->delta ? BLOCK_DELTA : BLOCK_COPY,
				  .keep_going = x->spec->keep_going,
				  .stop = x->spec->stop,
				  .progress = x->spec->progress,
				  .progress_opaque = x->spec->progress_opaque,
				  .result = &x->result };
	int r = x->from ? repo_disk_open(x->from, name, &from, err) : 0;

	if (r < 0)
		return err_prefix(err, "--from");
	copy.from = from;
	r = copy_run(&copy, err);
	if (r == 0)
		r = t->ops->flush(t, err);
	if (r == 0 && x->spec->verify) {
		copy.mode = BLOCK_VERIFY;
		r = copy_run(&copy, err);
	}
	return r == 0 && t->ops->finish ? t->ops->finish(t, err) : r;
}

static int damage_left(struct restore *x, struct err *err)
{
	uint64_t bytes = 0;
	size_t i;

	for (i = 0; i < x->result.ndamaged; i++)
		bytes += x->result.damaged[i].length;
	return err_set(
		err, ERR_DAMAGED,
		"%llu bytes in %zu ranges are damaged and were left untouched in the target; everything else was "
		"restored",
		(unsigned long long)bytes, x->result.ndamaged);
}

int restore_run(struct repo *r, const struct restore_spec *spec, struct restore_result *result,
		struct err *err)
{
	__attribute__((cleanup(restore_release))) struct restore x = { .repo = r, .spec = spec };
	uint64_t begun = time_mono_ns();
	size_t i;
	int e = open_disks(&x, err);

	if (e == 0)
		e = open_targets(&x, err);
	if (e == 0)
		e = pool_new(pool_default_threads(), NULL, &x.pool, err);
	for (i = 0; e == 0 && i < x.ndisks; i++) {
		e = restore_disk(&x, i, err);
		if (e < 0 && x.ndisks > 1)
			err_prefix(err, "disk '%s'", repo_disk_info(x.disks[i])->name);
	}
	if (e < 0)
		return e;
	x.result.seconds = (double)(time_mono_ns() - begun) / 1e9;
	e = x.result.ndamaged ? damage_left(&x, err) : 0;
	*result = x.result;
	memset(&x.result, 0, sizeof(x.result));
	return e;
}
