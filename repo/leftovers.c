/* SPDX-License-Identifier: GPL-3.0-or-later */
/* `verify --leftovers`: what no step of the protocol owns.  Looks only; the sweep removes what it may. */
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "repo/internal.h"
#include "repo/session.h"
#include "repo/verify.h"

#include "base/banned.h"

struct look {
	struct repo *repo;
	void (*fn)(void *opaque, const char *line);
	void *opaque;
	int found;
	struct lease *leases;
	size_t nleases;
};

static void __attribute__((format(printf, 2, 3))) tell(struct look *l, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	l->found++;
	if (l->fn)
		l->fn(l->opaque, line);
}

static void tell_line(void *opaque, const char *line)
{
	tell(opaque, "%s", line);
}

static bool leased(const struct look *l, uint64_t token)
{
	for (size_t i = 0; i < l->nleases; i++)
		if (l->leases[i].token == token)
			return true;
	return false;
}

/* Is somebody at work who may be writing packs and segments? */
static bool writers(const struct look *l)
{
	for (size_t i = 0; i < l->nleases; i++)
		if (l->leases[i].kind != LEASE_READER)
			return true;
	return false;
}

static int look_stage(void *opaque, uint64_t token, struct err *err)
{
	struct look *l = opaque;

	(void)err;
	if (!leased(l, token))
		tell(l, "staging/%" PRIu64 ": no lease owns it", token);
	return 0;
}

static int look_lock(void *opaque, const char *name, struct err *err)
{
	struct look *l = opaque;

	(void)err;
	for (size_t i = 0; i < l->nleases; i++)
		if (!strcmp(l->leases[i].lock_name, name))
			return 0;
	tell(l, "locks/%s: no lease names it", name);
	return 0;
}

static int look_leases(struct look *l, struct err *err)
{
	for (size_t i = 0; i < l->nleases; i++) {
		int held = store_lock_held(l->repo->store, l->leases[i].lock_name, err);

		if (held < 0)
			return held;
		if (!held)
			tell(l,
			     "lease %" PRIu64 " of process %" PRId64
			     " on '%s': its owner has ended",
			     l->leases[i].token, l->leases[i].pid, l->leases[i].host);
	}
	return 0;
}

static bool sorted_has(const uint64_t *numbers, size_t n, uint64_t x)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (numbers[mid] == x)
			return true;
		if (numbers[mid] < x)
			low = mid + 1;
		else
			high = mid;
	}
	return false;
}

/* A prune died between removing the file and noting it: every slot is given up, and the next prune ends it. */
static bool given_up(const struct pack_row *row)
{
	for (uint32_t slot = 0; slot < row->slots; slot++)
		if (slot / 8 >= row->doomed.nbytes || slot / 8 >= row->gone.nbytes ||
		    !(row->gone.bits[slot / 8] >> slot % 8 & 1) ||
		    (slot / 8 < row->condemned.nbytes &&
		     row->condemned.bits[slot / 8] >> slot % 8 & 1))
			return false;
	return row->slots != 0;
}

static int look_packs(struct look *l, struct catalog *c, struct err *err)
{
	cleanup_free uint64_t *files = NULL;
	struct pack_list rows = { 0 };
	size_t nfiles = 0;
	int r = store_packs_list(l->repo->store, &files, &nfiles, err);

	if (r == 0)
		r = catalog_packs(c, 0, &rows, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < rows.count; i++) {
		const struct pack_row *row = &rows.rows[i];

		if (row->state == PACK_WRITING && !leased(l, row->token))
			tell(l,
			     "pack %012" PRIx64 ": row of session %" PRIu64 ", which has no lease",
			     row->number, row->token);
		if (row->state == PACK_LIVE && !given_up(row) &&
		    !sorted_has(files, nfiles, row->number))
			tell(l, "pack %012" PRIx64 ": listed, but its file is missing",
			     row->number);
	}
	for (size_t i = 0, k = 0; i < nfiles; i++) {
		while (k < rows.count && rows.rows[k].number < files[i])
			k++;
		if (k == rows.count || rows.rows[k].number != files[i])
			tell(l,
			     "pack %012" PRIx64
			     ": file without a row; the catalog is older, or lost rows",
			     files[i]);
	}
	pack_list_release(&rows);
	return 0;
}

static int look_segments(struct look *l, struct catalog *c, struct err *err)
{
	cleanup_free uint64_t *files = NULL, *tokens = NULL;
	cleanup_free struct segment_row *rows = NULL;
	size_t nfiles = 0, nrows = 0, ntokens = 0;
	int r = store_segments_list(l->repo->store, &files, &nfiles, err);

	if (r == 0)
		r = catalog_segments(c, &rows, &nrows, err);
	if (r == 0)
		r = catalog_writing_tokens(c, &tokens, &ntokens, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ntokens; i++)
		if (!leased(l, tokens[i]))
			tell(l, "rows of session %" PRIu64 ", which has no lease", tokens[i]);
	for (size_t i = 0; i < nrows; i++)
		if (!sorted_has(files, nfiles, rows[i].number))
			tell(l, "index segment %" PRIu64 ": listed, but its file is missing",
			     rows[i].number);
	for (size_t i = 0; i < nfiles && !writers(l); i++) {
		bool listed = false;

		for (size_t k = 0; k < nrows && !listed; k++)
			listed = rows[k].number == files[i];
		if (!listed)
			tell(l, "index segment %" PRIu64 ": file that is not listed", files[i]);
	}
	return 0;
}

int repo_leftovers(struct repo *r, void (*fn)(void *opaque, const char *line), void *opaque,
		   struct err *err)
{
	struct look l = { .repo = r, .fn = fn, .opaque = opaque };
	struct catalog *c;
	int ret = repo_catalog_get(r, &c, err);

	if (ret < 0)
		return ret;
	/* A session that begins while this looks may be reported: run it when nothing else does, or twice. */
	ret = catalog_leases(c, &l.leases, &l.nleases, err);
	if (ret == 0)
		ret = store_stages_each(r->store, look_stage, &l, err);
	if (ret == 0)
		ret = store_locks_each(r->store, look_lock, &l, err);
	if (ret == 0)
		ret = look_leases(&l, err);
	if (ret == 0)
		ret = look_packs(&l, c, err);
	if (ret == 0)
		ret = look_segments(&l, c, err);
	if (ret == 0)
		ret = overlay_leftovers(r, c, tell_line, &l, err);
	if (ret == 0)
		ret = repo_key_leftovers(r, tell_line, &l, err);
	free(l.leases);
	repo_catalog_put(r, c);
	return ret < 0 ? ret : l.found;
}

static int look_quarantined(void *opaque, const char *name, struct err *err)
{
	struct look *l = opaque;

	(void)err;
	tell(l, "quarantine/%s: put there by a repair, used by nobody", name);
	return 0;
}

int repo_quarantined(struct repo *r, void (*fn)(void *opaque, const char *line), void *opaque,
		     struct err *err)
{
	struct look l = { .repo = r, .fn = fn, .opaque = opaque };
	cleanup_free char *path = str_printf("%s/quarantine", r->path);
	int ret;

	if (!path)
		return err_nomem(err, "path of the quarantine");
	ret = dir_each(path, look_quarantined, &l, err);
	if (ret == ERR_NOT_FOUND) {
		err_clear(err);
		ret = 0;
	}
	return ret < 0 ? ret : l.found;
}
