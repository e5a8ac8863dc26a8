/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Removing what dead sessions left (S1 to S5 of the protocol).
 *
 * 1. Dead is who does not hold the lock of its lease.  Nothing else counts: no clock, no pid.
 * 2. Order: lease, staging folder, files of rows `writing`, sync of their folders, rows, lock file.  After the lease the
 *    session cannot publish; after the folder it cannot rename; what it had renamed goes with its rows.
 * 3. Everything can be done twice and by several at once.
 * 4. Beside an older catalog that was put back nothing is swept: what it calls `writing` may be a point's since.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "repo/internal.h"
#include "repo/session.h"

#include "base/banned.h"

static int sweep_files(struct repo *r, struct catalog *c, uint64_t token, struct err *err)
{
	cleanup_free uint64_t *packs = NULL, *segments = NULL;
	size_t npacks = 0, nsegments = 0;
	int ret = catalog_writing(c, token, &packs, &npacks, &segments, &nsegments, err);

	/* Synced also when the file is gone: who removed it may have died before his sync, or not be there yet. */
	for (size_t i = 0; i < npacks && ret >= 0; i++) {
		ret = store_pack_remove(r->store, packs[i], err);
		if (ret >= 0)
			ret = store_pack_folder_sync(r->store, packs[i], err);
	}
	for (size_t i = 0; i < nsegments && ret >= 0; i++)
		ret = store_segment_remove(r->store, segments[i], err);
	if (nsegments && ret >= 0)
		ret = store_segment_folder_sync(r->store, err);
	return ret < 0 ? ret : 0;
}

int sweep_rows(struct repo *r, struct catalog *c, uint64_t token, struct err *err)
{
	int ret = sweep_files(r, c, token, err);

	return ret < 0 ? ret : catalog_writing_delete(c, token, err);
}

/* S2 to S5 for a token whose lease is gone. */
static int sweep_token(struct repo *r, struct catalog *c, uint64_t token, struct err *err)
{
	int ret = store_stage_remove(r->store, token, err);

	if (ret >= 0)
		ret = sweep_rows(r, c, token, err);
	return ret < 0 ? err_prefix(err, "sweep of session %" PRIu64, token) : 0;
}

static int sweep_leases(struct repo *r, struct catalog *c, struct err *err)
{
	cleanup_free struct lease *leases = NULL;
	size_t count = 0;
	int ret = catalog_leases(c, &leases, &count, err);

	for (size_t i = 0; i < count && ret == 0; i++) {
		ret = store_lock_held(r->store, leases[i].lock_name, err);
		if (ret) {
			ret = ret < 0 ? ret : 0;
			continue;
		}
		log_info("sweeping session %" PRIu64 " of process %" PRId64
			 " on '%s', which has ended",
			 leases[i].token, leases[i].pid, leases[i].host);
		ret = catalog_lease_end(c, leases[i].token, err);
		if (ret == 0)
			ret = sweep_token(r, c, leases[i].token, err);
		if (ret == 0)
			ret = store_lock_remove(r->store, leases[i].lock_name, err);
	}
	return ret;
}

struct token_list {
	uint64_t *tokens;
	size_t count;
};

static int add_token(void *opaque, uint64_t token, struct err *err)
{
	struct token_list *l = opaque;
	uint64_t *p = mem_realloc_array(l->tokens, l->count + 1, sizeof(*p));

	if (!p)
		return err_nomem(err, "list of sessions");
	l->tokens = p;
	p[l->count++] = token;
	return 0;
}

/* Traces whose lease is gone already.  The folders are listed before the leases are: a folder is made after its lease. */
static int sweep_orphans(struct repo *r, struct catalog *c, struct err *err)
{
	struct token_list stages = { 0 };
	cleanup_free uint64_t *writing = NULL;
	cleanup_free struct lease *leases = NULL;
	size_t nwriting = 0, nleases = 0;
	int ret = store_stages_each(r->store, add_token, &stages, err);

	if (ret == 0)
		ret = catalog_leases(c, &leases, &nleases, err);
	for (size_t i = 0; i < stages.count && ret == 0; i++) {
		bool leased = false;

		for (size_t k = 0; k < nleases && !leased; k++)
			leased = leases[k].token == stages.tokens[i];
		if (!leased)
			ret = sweep_token(r, c, stages.tokens[i], err);
	}
	free(stages.tokens);
	if (ret == 0)
		ret = catalog_writing_tokens(c, &writing, &nwriting, err);
	for (size_t i = 0; i < nwriting && ret == 0; i++)
		ret = sweep_token(r, c, writing[i], err);
	return ret;
}

/* Index files without a row: a merge dropped the row, and then died or lost the removal to a power cut.  Files are listed
 * before rows are read: a row is made before its file. */
static int sweep_segments(struct repo *r, struct catalog *c, struct err *err)
{
	cleanup_free uint64_t *files = NULL, *rows = NULL;
	size_t nfiles = 0, nrows = 0, k = 0;
	int ret = store_segments_list(r->store, &files, &nfiles, err);

	if (ret == ERR_DAMAGED) {
		log_warning("%s", err->text);
		err_clear(err);
		return 0;
	}
	if (ret == 0)
		ret = catalog_segment_numbers(c, &rows, &nrows, err);
	for (size_t i = 0; i < nfiles && ret >= 0; i++) {
		while (k < nrows && rows[k] < files[i])
			k++;
		if (k == nrows || rows[k] != files[i])
			ret = store_segment_remove(r->store, files[i], err);
	}
	return ret < 0 ? ret : 0;
}

/* A file that nobody holds: a session died between making it and its lease, or before its end's last step. */
static int sweep_lock(void *opaque, const char *name, struct err *err)
{
	struct repo *r = opaque;

	return store_lock_sweep(r->store, name, err);
}

int sweep_check(struct repo *r, struct catalog *c, struct err *err)
{
	struct catalog_totals t;
	uint64_t newest;
	/* Files first: a number is handed out before its file is there. */
	int ret = store_packs_newest(r->store, &newest, err);

	if (ret == 0)
		ret = catalog_totals(c, &t, err);
	if (ret == 0 && newest >= t.next_pack)
		return err_set(err, ERR_DAMAGED,
			       "pack %012" PRIx64
			       " is newer than the catalog of '%s': an older catalog was put back; "
			       "put the right one back, or build it again with 'livepoint repair "
			       "--catalog'; nothing was changed",
			       newest, r->path);
	return ret;
}

int sweep_with(struct repo *r, struct catalog *c, struct err *err)
{
	struct err local = ERR_INIT;
	int ret = sweep_leases(r, c, err);

	if (ret == 0)
		ret = sweep_orphans(r, c, err);
	if (ret == 0)
		ret = sweep_segments(r, c, err);
	if (ret == 0)
		ret = store_locks_each(r->store, sweep_lock, r, err);
	/* No session uses anything of them: none fails for them. */
	if (ret == 0 && overlay_sweep_with(r, c, &local) < 0)
		log_warning("%s; the next sweep tries again", local.text);
	return ret;
}

int repo_sweep(struct repo *r, struct err *err)
{
	struct catalog *c;
	int ret = repo_catalog_get(r, &c, err);

	if (ret < 0)
		return ret;
	ret = sweep_check(r, c, err);
	if (ret == 0)
		ret = sweep_with(r, c, err);
	repo_catalog_put(r, c);
	return ret;
}
