/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Prune from its lease to its end.  The steps G1 to G10 of docs/PROTOCOL.md are named where they happen; marking is
 * gc-mark.c, packs are gc-reclaim.c.
 *
 * Invariants:
 *  1. Nothing is condemned before everything that points need was marked, and nothing is doomed before it was marked
 *     again with no backup left that began before.
 *  2. The state object is stored between expiring and condemning: a catalog lost later knows what was given up.
 *  3. Marked again are the points that were not marked before, by their ids: sequences are handed out before the points
 *     are published, so a lower one may come later.
 *  4. Whatever ends a prune, also in the middle of a step, the next one continues: everything that counts is in the
 *     catalog.  Here nothing but the lease, the lock file and the staging folder is cleaned up.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/log.h"
#include "repo/audit.h"
#include "repo/gc-internal.h"

#include "base/banned.h"

#define WAIT_STEP_MS 200
/* What nobody can explain is refused if it is more than both. */
#define UNEXPLAINED_SLOTS 1024u
#define UNEXPLAINED_PERCENT 5u

void gc_note(const struct gc *g, const char *fmt, ...)
{
	char line[ERR_TEXT_MAX];
	va_list ap;

	if (!g->spec->note)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	g->spec->note(g->spec->opaque, line);
}

int gc_stopped(const struct gc *g, struct err *err)
{
	int code = g->spec->stop ? *g->spec->stop : 0;

	return code ? err_set(err, code, "%s", err_code_sentence(code)) : 0;
}

/* A named place where tests stop or kill; an error of it is one of the step. */
static int step(const char *name, struct err *err)
{
	int eno = fault_hit(name);

	return eno ? err_set_errno(err, ERR_IO, eno > 0 ? eno : 5, "%s", name) : 0;
}

/* --- before: may it run at all?  Fencing, lease (G1, G2) --- */

static int check_accepted(struct gc *g, struct err *err)
{
	bool rebuilt = false;
	int r = catalog_rebuilt(g->catalog, &rebuilt, err);

	if (r == 0 && rebuilt)
		r = err_set(err, ERR_REFUSED,
			    "the catalog of '%s' was rebuilt and nobody has accepted it: look at "
			    "'livepoint list', then run 'livepoint repair --accept'; nothing was "
			    "changed",
			    g->repo->path);
	return r;
}

static int find_lease(struct gc *g, uint64_t token, struct lease *out, struct err *err)
{
	cleanup_free struct lease *leases = NULL;
	size_t count = 0;
	int r = catalog_leases(g->catalog, &leases, &count, err);

	for (size_t i = 0; i < count && r == 0; i++) {
		if (leases[i].token != token)
			continue;
		*out = leases[i];
		return 0;
	}
	if (r < 0)
		return r;
	err_set(err, ERR_NOT_FOUND, "no session has the lease %" PRIu64 "; nothing was changed",
		token);
	return err_object(err, "%" PRIu64, token);
}

/* Ends a session that hangs: after S1 it cannot publish, after S2 it cannot rename; the sweep does both.  A reader's lease
 * keeps data under an open export: only its owner's death ends that. */
static int fence(struct gc *g, struct err *err)
{
	struct lease l = { 0 };
	char detail[64];
	int held, r = find_lease(g, g->spec->fence, &l, err);

	if (r < 0)
		return r;
	held = store_lock_held(g->repo->store, l.lock_name, err);
	if (held < 0)
		return held;
	if (held && l.kind == LEASE_READER)
		return err_set(err, ERR_REFUSED,
			       "lease %" PRIu64 " is a reader's (process %" PRId64 " on '%s'): "
			       "prune never waits for those; end that process if it must go",
			       l.token, l.pid, l.host);
	r = catalog_lease_end(g->catalog, l.token, err);
	if (r == 0)
		r = sweep_with(g->repo, g->catalog, err);
	if (r < 0)
		return r;
	snprintf(detail, sizeof(detail), "{\"lease\": %" PRIu64 "}", l.token);
	gc_note(g,
		"ended session %" PRIu64 "%s%s%s of process %" PRId64 " on '%s': it can neither "
		"publish nor store any more",
		l.token, *l.name ? " (backup of '" : "", l.name, *l.name ? "')" : "", l.pid,
		l.host);
	return repo_audit_append(g->repo, "fence", l.name, detail, err);
}

static int lease_try(struct gc *g, struct err *err)
{
	int r;

	memset(&g->lease, 0, sizeof(g->lease));
	repo_lease_describe(&g->lease, LEASE_MAINTENANCE, "");
	r = store_lock_make(g->repo->store, g->lease.lock_name, &g->lease_fd, err);
	if (r < 0)
		return r;
	r = catalog_lease_begin(g->catalog, &g->lease, err);
	if (r < 0) {
		(void)store_lock_remove(g->repo->store, g->lease.lock_name, NULL);
		base_cleanup_fd(&g->lease_fd);
		g->lease_fd = -1;
		g->lease.token = 0;
	}
	return r;
}

static int wait_a_moment(struct gc *g, struct err *err)
{
	int r = gc_stopped(g, err);

	if (r == 0)
		time_sleep_ms(WAIT_STEP_MS);
	return r;
}

/* The sweep ends a dead prune's lease; a living one is waited for. */
static int take_lease(struct gc *g, struct err *err)
{
	bool swept = false;

	for (;;) {
		int r = lease_try(g, err);

		if (r != ERR_LOCKED)
			return r;
		if (swept && time_mono_ns() >= g->deadline)
			return r;
		if (swept)
			r = wait_a_moment(g, err);
		else
			r = 0;
		if (r == 0)
			err_clear(err);
		if (r == 0)
			r = sweep_with(g->repo, g->catalog, err);
		if (r < 0)
			return r;
		swept = true;
	}
}

/* --- roots and marks (G4, G7) --- */

static int compare_ids(const void *a, const void *b)
{
	return memcmp(a, b, POINT_ID_LEN);
}

static int remember_points(struct gc *g, const struct point_list *l, struct err *err)
{
	uint8_t(*ids)[POINT_ID_LEN] =
		mem_realloc_array(g->points, MAX(g->npoints + l->count, 1u), sizeof(*ids));

	if (!ids)
		return err_nomem(err, "list of points");
	g->points = ids;
	for (size_t i = 0; i < l->count; i++)
		memcpy(ids[g->npoints++], l->rows[i].id, POINT_ID_LEN);
	qsort(ids, g->npoints, sizeof(*ids), compare_ids);
	return 0;
}

static int mark_state(struct gc *g, struct err *err)
{
	struct object_ref ref = { 0 };
	int r = catalog_state_ref(g->catalog, &ref, err);

	if (r == 0 && ref.locator != LOCATOR_NONE)
		slot_set_fill(&g->live.slots, ref.locator, 1);
	return r;
}

static int mark_live(struct gc *g, const struct point_list *points, struct err *err)
{
	int r = mark_points(g, &g->live, points, err);

	if (r == 0)
		r = mark_state(g, err);
	if (r == 0)
		r = remember_points(g, points, err);
	return r;
}

static unsigned ones(uint8_t byte)
{
	return (unsigned)__builtin_popcount(byte);
}

static uint64_t count_marked(const struct gc *g)
{
	uint64_t n = 0;

	for (size_t i = 0; i < g->packs.count; i++) {
		const struct slot_bits *b = slot_set_find(&g->live.slots, g->packs.rows[i].number);

		for (uint32_t k = 0; b && k < b->nbytes; k++)
			n += ones(b->bits[k]);
	}
	return n;
}

/* Bits of byte k of a pack: neither marked nor gone. */
static uint8_t unused_byte(const struct gc *g, const struct pack_row *row, uint32_t k)
{
	const struct slot_bits *b = slot_set_find(&g->live.slots, row->number);

	return (uint8_t)(slots_byte(row->slots, k) & ~bits_byte(&row->gone, k) &
			 ~(b ? bits_byte(b, k) : 0));
}

/* --- the shrink guard --- */

/* Slots that would be condemned although the session that wrote them published, and no point that expired used them. */
static uint64_t count_unexplained(const struct gc *g, const struct marks *old)
{
	uint64_t n = 0;

	for (size_t i = 0; i < g->packs.count; i++) {
		const struct pack_row *row = &g->packs.rows[i];
		const struct slot_bits *b = slot_set_find(&old->slots, row->number);

		for (uint32_t k = 0; row->published && k < div_round_up(row->slots, 8); k++)
			n += ones((uint8_t)(unused_byte(g, row, k) & ~(b ? bits_byte(b, k) : 0)));
	}
	return n > old->lost ? n - old->lost : 0;
}

/* A catalog that lost points (by a bug, or by a hand) makes their data look like garbage: what goes must have a reason. */
static int guard(struct gc *g, const struct point_list *expired, struct err *err)
{
	struct marks old = { .tolerant = true, .other = &g->live };
	uint64_t marked = count_marked(g), unexplained;
	int r = marks_begin(&old, &g->packs, err);

	if (r == 0)
		r = mark_points(g, &old, expired, err);
	unexplained = r == 0 ? count_unexplained(g, &old) : 0;
	marks_release(&old);
	if (r < 0 || unexplained <= UNEXPLAINED_SLOTS ||
	    unexplained * 100 <= marked * UNEXPLAINED_PERCENT)
		return r;
	if (g->spec->really) {
		gc_note(g,
			"%" PRIu64 " chunks that no forgotten point explains go too: --yes-really "
			"was given",
			unexplained);
		return 0;
	}
	return err_set(
		err, ERR_REFUSED,
		"%" PRIu64 " stored chunks that backups had published are in no point, and no "
		"forgotten point explains it; %" PRIu64 " are in use: the catalog may have "
		"lost points. Compare 'livepoint list' with what should be there; nothing was "
		"condemned; --yes-really goes on all the same",
		unexplained, marked);
}

/* --- G4, G5 --- */

static int store_state(struct gc *g, size_t expired, struct err *err)
{
	struct repo_audit audit;
	char detail[64];

	snprintf(detail, sizeof(detail), "{\"expired\": %zu}", expired);
	repo_audit_fill(g->repo, &audit, "prune", "", detail);
	return state_store(g->repo, g->catalog, g->lease.token, g->stage, NULL, &audit.audit, err);
}

/* What is marked, of each candidate; borrowed from the set.  NULL without memory. */
static struct slot_bits *marked_bits(const struct gc *g, struct err *err)
{
	struct slot_bits *bits = mem_alloc_array(MAX(g->packs.count, 1u), sizeof(*bits));

	if (!bits)
		err_nomem(err, "list of packs");
	for (size_t i = 0; bits && i < g->packs.count; i++) {
		const struct pack_row *row = &g->packs.rows[i];
		const struct slot_bits *b = slot_set_find(&g->live.slots, row->number);

		bits[i].pack = row->number;
		if (!b)
			continue;
		bits[i].bits = b->bits;
		bits[i].nbytes = MIN(b->nbytes, (uint32_t)div_round_up(row->slots, 8));
	}
	return bits;
}

static int condemn(struct gc *g, struct err *err)
{
	struct point_list roots = { 0 }, expired = { 0 };
	cleanup_free struct slot_bits *bits = NULL;
	uint64_t condemned = 0;
	int r = catalog_gc_roots(g->catalog, g->lease.token, g->now, &roots, &expired, &g->packs,
				 err);

	if (r == 0)
		r = step("repo.gc.roots", err);
	if (r == 0)
		r = store_state(g, expired.count, err);
	if (r == 0)
		r = marks_begin(&g->live, &g->packs, err);
	if (r == 0)
		r = mark_live(g, &roots, err);
	if (r == 0)
		r = guard(g, &expired, err);
	if (r == 0)
		r = gc_stopped(g, err);
	if (r == 0)
		r = step("repo.gc.marked", err);
	if (r == 0 && !(bits = marked_bits(g, err)))
		r = ERR_NOMEM;
	if (r == 0)
		r = catalog_gc_condemn(g->catalog, g->lease.token, bits, g->packs.count, &condemned,
				       err);
	g->result->condemned += condemned;
	g->condemned = g->marked = r == 0;
	point_list_release(&roots);
	point_list_release(&expired);
	return r;
}

/* --- G6 --- */

static void note_older(struct gc *g, const struct lease *l, bool leaving)
{
	char since[TIME_TEXT_MAX];

	if (l->token <= g->noted && !leaving)
		return;
	time_format(since, l->since);
	gc_note(g,
		"%s of '%s' (process %" PRId64 " on '%s', since %s, lease %" PRIu64
		") began before: %s",
		*l->name ? "a backup" : "a change", *l->name ? l->name : "holds", l->pid, l->host,
		since, l->token,
		leaving ? "what it may still use is freed by the next prune (--wait SECONDS waits, "
			  "--fence TOKEN ends it)" :
			  "waiting for it");
	g->noted = MAX(g->noted, l->token);
}

/* 1: dead ones were swept, look again; 0: only living ones. */
static int look_at_older(struct gc *g, const struct lease *leases, size_t count, bool leaving,
			 struct err *err)
{
	bool dead = false;

	for (size_t i = 0; i < count; i++) {
		int held = store_lock_held(g->repo->store, leases[i].lock_name, err);

		if (held < 0)
			return held;
		dead |= !held;
		if (held)
			note_older(g, &leases[i], leaving);
	}
	if (!dead)
		return 0;
	return sweep_with(g->repo, g->catalog, err) < 0 ? err->code : 1;
}

/* Until nobody is left who may use condemned slots; result->waiting if that takes too long. */
static int wait_for_older(struct gc *g, struct err *err)
{
	for (;;) {
		cleanup_free struct lease *older = NULL;
		size_t count = 0;
		bool late = time_mono_ns() >= g->deadline;
		int r = catalog_gc_older(g->catalog, g->lease.token, &older, &count, err);

		if (r < 0 || !count)
			return r;
		r = look_at_older(g, older, count, late, err);
		if (r < 0)
			return r;
		if (r == 0 && late) {
			g->result->waiting = true;
			return 0;
		}
		if (r == 0)
			r = wait_a_moment(g, err);
		if (r < 0)
			return r;
	}
}

/* --- G7, G8 --- */

static bool is_marked(const struct gc *g, const uint8_t *id)
{
	return g->npoints && bsearch(id, g->points, g->npoints, sizeof(*g->points), compare_ids);
}

/* After a crash: the packs, and what of them is condemned; takes the list. */
static int adopt_packs(struct gc *g, struct pack_list *packs, struct err *err)
{
	g->packs = *packs;
	*packs = (struct pack_list){ 0 };
	for (size_t i = 0; i < g->packs.count; i++)
		for (uint32_t k = 0; k < g->packs.rows[i].condemned.nbytes; k++)
			g->result->condemned += ones(g->packs.rows[i].condemned.bits[k]);
	return marks_begin(&g->live, &g->packs, err);
}

/* Only points that were not marked yet: those published since G4, or, after a crash, all.  Expires nothing (no `until` is
 * so early). */
static int mark_again(struct gc *g, struct err *err)
{
	struct point_list points = { 0 }, expired = { 0 };
	struct pack_list packs = { 0 };
	bool once = g->marked && fault_planted("gc.second-mark");
	size_t n = 0;
	int r = catalog_gc_preview(g->catalog, g->lease.token, INT64_MIN, &points, &expired, &packs,
				   err);

	if (r == 0 && !g->marked)
		r = adopt_packs(g, &packs, err);
	g->marked = true;
	for (size_t i = 0; i < points.count && r == 0; i++) {
		struct point_row row = points.rows[i];

		if (is_marked(g, row.id) || once)
			continue;
		points.rows[i] = points.rows[n];
		points.rows[n++] = row;
	}
	if (r == 0) {
		struct point_list fresh = { .rows = points.rows, .count = n };

		r = mark_live(g, &fresh, err);
	}
	g->expiring = expired.count;
	point_list_release(&points);
	point_list_release(&expired);
	pack_list_release(&packs);
	return r;
}

static int settle_once(struct gc *g, struct err *err)
{
	cleanup_free struct slot_bits *bits = NULL;
	uint64_t doomed = 0;
	int r = mark_again(g, err);

	if (r == 0)
		r = step("repo.gc.again", err);
	if (r == 0 && !(bits = marked_bits(g, err)))
		r = ERR_NOMEM;
	if (r == 0)
		r = catalog_gc_settle(g->catalog, g->lease.token, bits, g->packs.count, &doomed,
				      err);
	if (r < 0)
		return r;
	g->result->marked = count_marked(g);
	g->result->doomed += doomed;
	g->result->points += g->expiring;
	g->condemned = false;
	return 0;
}

/* G6 to G8; result->waiting if a backup is not over. */
static int settle(struct gc *g, struct err *err)
{
	for (;;) {
		int r = wait_for_older(g, err);

		if (r < 0 || g->result->waiting)
			return r;
		r = settle_once(g, err);
		if (r != ERR_LOCKED)
			return r;
		err_clear(err); /* an older lease after all: look again */
	}
}

/* What the last prune had begun is finished; then one of our own begins, with new marks. */
static int settle_former(struct gc *g, struct err *err)
{
	int r = settle(g, err);

	if (r < 0 || g->result->waiting)
		return r;
	marks_release(&g->live);
	pack_list_release(&g->packs);
	memset(&g->live, 0, sizeof(g->live));
	memset(&g->packs, 0, sizeof(g->packs));
	g->npoints = 0;
	g->marked = false;
	return 0;
}

/* --- a dry run: the same sums, nothing written --- */

/* What would be doomed, into row->doomed; whatever is in row->bits is replaced. */
static int doom_row(const struct gc *g, struct pack_row *row, struct err *err)
{
	const struct slot_bits *marked = slot_set_find(&g->live.slots, row->number);
	uint32_t n = (uint32_t)div_round_up(row->slots, 8);
	struct slot_bits doomed = { .pack = row->number, .nbytes = n }, gone = doomed;

	doomed.bits = mem_alloc(MAX(n, 1u));
	gone.bits = mem_alloc(MAX(n, 1u));
	if (!doomed.bits || !gone.bits) {
		free(doomed.bits);
		free(gone.bits);
		return err_nomem(err, "list of packs");
	}
	for (uint32_t k = 0; k < n; k++) {
		uint8_t keep = marked ? bits_byte(marked, k) : 0;
		uint8_t fresh =
			(uint8_t)(unused_byte(g, row, k) | (bits_byte(&row->condemned, k) & ~keep));

		g->result->condemned += ones(fresh);
		doomed.bits[k] = fresh | bits_byte(&row->doomed, k);
		gone.bits[k] = (uint8_t)(bits_byte(&row->gone, k) | fresh);
	}
	free(row->doomed.bits);
	free(row->gone.bits);
	free(row->condemned.bits);
	row->doomed = doomed;
	row->gone = gone;
	row->condemned = (struct slot_bits){ 0 };
	return 0;
}

static int dry_run(struct gc *g, struct err *err)
{
	struct point_list roots = { 0 }, expired = { 0 };
	int r = catalog_gc_preview(g->catalog, g->lease.token, g->now, &roots, &expired, &g->packs,
				   err);

	if (r == 0)
		r = marks_begin(&g->live, &g->packs, err);
	if (r == 0)
		r = mark_live(g, &roots, err);
	if (r == 0)
		r = guard(g, &expired, err);
	g->result->points = expired.count;
	g->result->marked = count_marked(g);
	for (size_t i = 0; i < g->packs.count && r == 0; i++)
		r = doom_row(g, &g->packs.rows[i], err);
	g->result->doomed = g->result->condemned;
	if (r == 0)
		r = reclaim_preview(g, &g->packs, err);
	point_list_release(&roots);
	point_list_release(&expired);
	return r;
}

/* --- the whole --- */

static int log_end(struct gc *g, struct err *err)
{
	const struct prune_result *p = g->result;
	char detail[256];

	if (!p->points && !p->packs_removed && !p->packs_rewritten)
		return 0;
	snprintf(detail, sizeof(detail),
		 "{\"points\": %" PRIu64 ", \"packs_removed\": %" PRIu64
		 ", \"packs_rewritten\": %" PRIu64 ", \"bytes_freed\": %" PRIu64 "}",
		 p->points, p->packs_removed, p->packs_rewritten, p->bytes_freed);
	return repo_audit_append(g->repo, "prune", "", detail, err);
}

static int steps(struct gc *g, struct err *err)
{
	struct catalog_totals totals;
	int r = sweep_with(g->repo, g->catalog, err); /* G2 */

	if (r == 0)
		r = store_stage_begin(g->repo->store, g->lease.token, &g->stage, err); /* G3 */
	if (r == 0)
		r = step("repo.gc.staged", err);
	if (r == 0)
		r = catalog_totals(g->catalog, &totals, err);
	if (r == 0)
		g->condemned = totals.condemn_gen != 0;
	if (r == 0 && g->condemned)
		r = settle_former(g, err);
	if (r == 0 && !g->condemned)
		r = condemn(g, err);
	if (r == 0 && !g->result->waiting)
		r = settle(g, err);
	/* G9; also beside a backup that is waited for: doomed is doomed */
	if (r == 0)
		r = reclaim(g, err);
	if (r == 0)
		r = sidefile_sweep(g->repo, g->catalog, err);
	if (r == 0)
		r = index_trim(g, err);
	return r == 0 ? log_end(g, err) : r;
}

/* G10, and the way out of a failure: lease, then what the sweep does. */
static void end(struct gc *g, int result)
{
	struct err err = ERR_INIT;
	bool mine = g->lease.token != 0;

	if (result ==
	    ERR_UNKNOWN) { /* only from the committed state, which another connection sees */
		repo_catalog_put(g->repo, g->catalog);
		g->catalog = NULL;
		mine = mine && repo_catalog_get(g->repo, &g->catalog, &err) == 0;
	}
	if (mine && catalog_lease_end(g->catalog, g->lease.token, &err) == 0) {
		if (g->stage && store_stage_end(g->stage, &err) < 0)
			log_warning("%s; the next session removes it", err.text);
		(void)store_lock_remove(g->repo->store, g->lease.lock_name, NULL);
		if (result < 0)
			(void)sweep_with(g->repo, g->catalog, &err);
	} else if (g->stage) {
		store_stage_abandon(g->stage);
	}
	base_cleanup_fd(&g->lease_fd);
	if (g->catalog)
		repo_catalog_put(g->repo, g->catalog);
	marks_release(&g->live);
	pack_list_release(&g->packs);
	free(g->points);
	rate_free(g->rate);
}

/* With a doubtful clock no time of grace is over; said only if one would be. */
static int look_at_clock(struct gc *g, struct err *err)
{
	struct repo_clock k;
	uint64_t due = 0;
	int r = repo_clock_look(g->repo, g->catalog, g->lease_fd, &k, err);

	g->now = k.now;
	if (r < 0 || !k.doubtful)
		return r;
	if (g->spec->really)
		return g->spec->dry_run ? 0 : repo_clock_accept(g->repo, &k, err);
	g->now = INT64_MIN;
	r = catalog_gc_due(g->catalog, k.now, &due, err);
	if (r < 0 || !due)
		return r;
	g->result->clock = true;
	gc_note(g,
		"%s: %" PRIu64 " forgotten point%s could still come back by another clock, and "
		"stay%s; --yes-really says that this one is right",
		k.why, due, due == 1 ? "" : "s", due == 1 ? "s" : "");
	return 0;
}

static int begin(struct gc *g, struct err *err)
{
	int r = check_accepted(g, err);

	if (r == 0)
		r = sweep_check(g->repo, g->catalog, err);
	if (r == 0 && g->spec->fence)
		r = fence(g, err);
	if (r == 0)
		r = take_lease(g, err); /* G1 */
	return r == 0 ? look_at_clock(g, err) : r;
}

int repo_prune(struct repo *r, const struct prune_spec *spec, struct prune_result *out,
	       struct err *err)
{
	struct err local = ERR_INIT;
	struct gc g = { .repo = r, .spec = spec, .result = out, .lease_fd = -1 };
	int ret;

	if (!err)
		err = &local;
	memset(out, 0, sizeof(*out));
	ret = repo_need_key(r, err);
	if (ret == 0 && (r->mode != REPO_WRITE || !r->started))
		ret = err_set(err, ERR_INTERNAL, "the repository is not open for writing");
	if (ret == 0)
		ret = rate_new(spec->io_limit, spec->stop, NULL, &g.rate, err);
	if (ret == 0)
		ret = repo_catalog_get(r, &g.catalog, err);
	if (ret < 0) {
		rate_free(g.rate);
		return ret;
	}
	g.deadline = time_mono_ns() + (uint64_t)spec->wait_seconds * 1000000000u;
	ret = begin(&g, err);
	if (ret == 0)
		ret = spec->dry_run ? dry_run(&g, err) : steps(&g, err);
	end(&g, ret);
	return ret;
}
