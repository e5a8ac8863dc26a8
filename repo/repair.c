// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Repair, in this order: the catalog, if it is lost, corrupt, or asked for; footers and lost packs; bad slots, until nothing more
 * can be healed; the index; the state of the points.
 *
 * 1. Everything but the catalog is done under the maintenance lease, after a sweep.
 * 2. A dry run opens the catalog read-only, takes no lease and pins nothing.
 * 3. Each step can be done twice: a run that died is done again from the start.
 * 4. A footer that was made again may bring manifests that a new catalog does not know: then the catalog is built once more.
 *    A run that died in between is noticed by the next one: until a rebuilt catalog is accepted, it is compared with
 *    the manifests in the packs.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "repo/audit.h"
#include "repo/repair-internal.h"

#include "base/banned.h"

#define PASSES_MAX 16u /* of healing: manifest, root, page, leaf, chunk, and room */

void repair_say(struct repair *x, enum repair_kind kind, uint64_t locator, bool done,
		const char *fmt, ...)
{
	char text[1024];
	struct repair_action a = { .kind = kind, .what = text, .locator = locator, .done = done };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (done)
		x->result->done++;
	else
		x->result->actions++;
	if (x->spec->action)
		x->spec->action(x->spec->opaque, &a);
}

int repair_stopped(const struct repair *x, struct err *err)
{
	int code = x->spec->stop ? *x->spec->stop : 0;

	return code ? err_set(err, code, "%s", err_code_sentence(code)) : 0;
}

/* --- id_map --- */

static struct bad_id *id_at(const struct id_map *m, uint64_t locator)
{
	size_t i = (size_t)(locator * 0x9e3779b97f4a7c15u >> 32) & (m->cap - 1);

	while (m->entries[i].locator != LOCATOR_NONE && m->entries[i].locator != locator)
		i = (i + 1) & (m->cap - 1);
	return &m->entries[i];
}

int id_map_add(struct id_map *m, uint64_t locator, const uint8_t *id, uint8_t known,
	       struct err *err)
{
	struct bad_id *e;

	if (m->count * 2 >= m->cap) {
		struct id_map fresh = { .cap = m->cap ? m->cap * 2 : 256, .count = m->count };

		fresh.entries = mem_alloc_array(fresh.cap, sizeof(*fresh.entries));
		if (!fresh.entries)
			return err_nomem(err, "repair");
		for (size_t i = 0; i < m->cap; i++)
			if (m->entries[i].locator != LOCATOR_NONE)
				*id_at(&fresh, m->entries[i].locator) = m->entries[i];
		free(m->entries);
		*m = fresh;
	}
	e = id_at(m, locator);
	if (e->locator != LOCATOR_NONE && e->known >= known)
		return 0;
	m->count += e->locator == LOCATOR_NONE;
	e->locator = locator;
	e->known = known;
	memcpy(e->id, id, known);
	return 0;
}

const struct bad_id *id_map_find(const struct id_map *m, uint64_t locator)
{
	const struct bad_id *e = m->cap ? id_at(m, locator) : NULL;

	return e && e->locator != LOCATOR_NONE ? e : NULL;
}

void id_map_release(struct id_map *m)
{
	free(m->entries);
	*m = (struct id_map){ 0 };
}

/* --- the catalog's condition --- */

/* Connections to a catalog that is, or was, about to be replaced. */
static void drop_catalogs(struct repo *r)
{
	while (r->ncatalogs)
		catalog_close(r->catalogs[--r->ncatalogs]);
}

static int say_problems(struct repair *x, struct catalog *c, struct err *err)
{
	cleanup_buf struct buf lines = BUF_INIT;
	char *line, *rest;
	int r = catalog_check(c, &lines, err);

	if (r < 0)
		return r;
	buf_put_u8(&lines, 0);
	if (lines.failed)
		return err_nomem(err, "repair");
	for (line = (char *)lines.data; *line; line = rest) {
		rest = strchrnul(line, '\n');
		if (*rest)
			*rest++ = '\0';
		x->undone++;
		repair_say(x, REPAIR_CATALOG, LOCATOR_NONE, false,
			   "the catalog contradicts itself: %s; 'livepoint repair --catalog' "
			   "builds it again",
			   line);
	}
	return 0;
}

/* 1: the catalog was rebuilt, nobody has accepted it, and packs have a manifest that it does not know; 0: else. */
static int misses_points(struct repair *x, struct catalog *c, char why[ERR_TEXT_MAX],
			 struct err *err)
{
	struct survey s = { 0 };
	bool rebuilt = false, known = true;
	int r = catalog_rebuilt(c, &rebuilt, err);

	if (r < 0 || !rebuilt)
		return r;
	if (!x->spec->dry_run) /* what a dead backup renamed and never published is no point */
		r = sweep_with(x->repo, c, err);
	if (r == 0)
		r = survey_make(x, &s, err);
	for (size_t i = 0; i < s.npoints && r == 0 && known; i++)
		r = catalog_point_known(c, s.points[i].ref.id, &known, err);
	survey_release(&s);
	if (r < 0 || known)
		return r;
	snprintf(why, ERR_TEXT_MAX, "packs have restore points that the rebuilt catalog lacks");
	return 1;
}

/* 1: it must be built again, why says what is wrong; 0: it can be used. */
static int catalog_condition(struct repair *x, char why[ERR_TEXT_MAX], struct err *err)
{
	cleanup_free char *path = str_printf("%s/catalog.sqlite", x->repo->path);
	struct err local = ERR_INIT;
	struct catalog *c;
	int r;

	if (!path)
		return err_nomem(err, "path of the catalog");
	if (access(path, F_OK) < 0 && errno == ENOENT) {
		snprintf(why, ERR_TEXT_MAX, "the catalog is missing");
		return 1;
	}
	r = repo_catalog_get(x->repo, &c, &local);
	if (r == ERR_DAMAGED || (r < 0 && r != ERR_NO_REPO && x->spec->catalog)) {
		snprintf(why, ERR_TEXT_MAX, "%s", local.text);
		return 1;
	}
	if (r < 0) {
		*err = local;
		return r;
	}
	r = sweep_check(x->repo, c, &local);
	if (r == ERR_DAMAGED || x->spec->catalog) {
		snprintf(why, ERR_TEXT_MAX, "%s",
			 r < 0 ? local.text : "a new catalog was asked for");
		r = 1;
	} else if (r < 0) {
		*err = local;
	} else {
		r = say_problems(x, c, err);
	}
	if (r == 0) {
		r = misses_points(x, c, why, err);
		repo_catalog_put(x->repo, c);
		return r;
	}
	repo_catalog_put(x->repo, c);
	if (r == 1 && !x->spec->catalog) {
		repair_say(x, REPAIR_CATALOG, LOCATOR_NONE, false,
			   "%s; or 'livepoint repair --catalog' builds it again from the packs",
			   why);
		return err_set(err, ERR_DAMAGED, "%s", why);
	}
	return r;
}

/* --- the lease --- */

static int lease_end(struct repair *x, struct err *err)
{
	struct err local = ERR_INIT;
	int r = 0;

	if (x->catalog && x->lease.token)
		r = catalog_lease_end(x->catalog, x->lease.token, err);
	x->lease.token = 0;
	if (x->stage && store_stage_end(x->stage, &local) < 0)
		log_warning("%s; the next session removes it", local.text);
	x->stage = NULL;
	if (x->lease_fd >= 0)
		(void)store_lock_remove(x->repo->store, x->lease.lock_name, NULL);
	base_cleanup_fd(&x->lease_fd);
	x->lease_fd = -1;
	if (x->catalog)
		repo_catalog_put(x->repo, x->catalog);
	x->catalog = NULL;
	return r;
}

static int lease_begin(struct repair *x, struct err *err)
{
	int r = repo_catalog_get(x->repo, &x->catalog, err);

	if (r < 0 || x->spec->dry_run)
		return r;
	r = sweep_with(x->repo, x->catalog, err);
	if (r < 0)
		return r;
	x->lease = (struct lease){ 0 };
	repo_lease_describe(&x->lease, LEASE_MAINTENANCE, "");
	r = store_lock_make(x->repo->store, x->lease.lock_name, &x->lease_fd, err);
	if (r == 0)
		r = catalog_lease_begin(x->catalog, &x->lease, err);
	return r < 0 ? r : store_stage_begin(x->repo->store, x->lease.token, &x->stage, err);
}

/* --- bad slots --- */

static void note_id(void *opaque, uint64_t locator, const uint8_t *id)
{
	struct repair *x = opaque;

	(void)id_map_add(&x->ids, locator, id, ID_LEN, NULL);
}

/* Slots that are marked, and not gone. */
static int add_marked(struct repair *x, struct verify *v, struct err *err)
{
	struct pack_list rows = { 0 };
	int r = catalog_packs(x->catalog, 0, &rows, err);

	for (size_t i = 0; i < rows.count; i++) {
		const struct pack_row *row = &rows.rows[i];

		for (uint32_t slot = 0; slot < row->slots && r == 0; slot++)
			if (bits_have(&row->damaged, slot) && !bits_have(&row->gone, slot))
				r = slot_set_add(&v->bad, locator_make(row->number, slot), err);
	}
	pack_list_release(&rows);
	return r;
}

/* A dry run: of packs whose footer would be made again only those records that are bad themselves. */
static int drop_remade(struct repair *x, struct verify *v, struct err *err)
{
	struct slot_set rest = { 0 };
	int r = 0;

	for (size_t i = 0; i < v->bad.cap; i++) {
		const struct slot_bits *b = &v->bad.packs[i];

		for (uint32_t slot = 0; slot < b->nbytes * 8 && r == 0; slot++) {
			uint64_t locator = locator_make(b->pack, slot);

			if (bits_have(b, slot) &&
			    (!slot_set_has(&x->remade, locator_make(b->pack, 0)) ||
			     id_map_find(&x->ids, locator)))
				r = slot_set_add(&rest, locator, err);
		}
	}
	slot_set_release(&v->bad);
	v->bad = rest;
	return r;
}

/* One look at everything, and healing of what can be healed; *again: something was. */
static int heal_pass(struct repair *x, struct verify *v, bool *again, struct err *err)
{
	uint64_t healed = 0;
	int r = verify_begin(v, err);

	if (r == 0)
		r = verify_packs(v, err);
	for (size_t i = 0; i < v->points.count && r == 0; i++)
		r = verify_walk_point(v, i, err);
	if (r == 0 && v->spec->data)
		r = verify_data(v, err);
	if (r == 0 && !x->spec->dry_run)
		r = verify_record_slots(v, err);
	if (r == 0)
		r = add_marked(x, v, err);
	if (r == 0 && x->remade.count)
		r = drop_remade(x, v, err);
	x->result->lost = 0;
	if (r == 0 && v->bad.count)
		r = repair_heal(x, &v->bad, &v->seen, &healed, err);
	*again = healed && !x->spec->dry_run;
	return r;
}

static int settle_points(struct repair *x, struct verify *v, struct err *err)
{
	int r = v->bad.count || v->lost.count || v->mixed.count ? verify_name(v, err) : 0;

	for (size_t i = 0; i < v->points.count && r == 0; i++) {
		const struct point_row *row = &v->points.rows[i];
		bool known = row->verified_kind != VERIFIED_NONE;

		x->undone += v->damaged[i] && !x->spec->dry_run;
		if (x->spec->dry_run || v->left[i] || (known && row->damaged == v->damaged[i]))
			continue;
		r = catalog_point_set_verified(x->catalog, row->id,
					       known ? row->verified_kind : VERIFIED_STRUCTURE,
					       known ? row->verified_time : time_now(),
					       known ? row->verified_share : 1.0, v->damaged[i],
					       err);
		if (r == ERR_NOT_FOUND) { /* forgotten and pruned meanwhile */
			err_clear(err);
			r = 0;
		}
	}
	return r;
}

static int repair_slots(struct repair *x, struct err *err)
{
	struct verify_spec spec = { .data = x->spec->read_data,
				    .io_limit = x->spec->io_limit,
				    .no_record = x->spec->dry_run,
				    .progress = x->spec->progress,
				    .opaque = x->spec->opaque,
				    .stop = x->spec->stop };
	bool again = true;
	int r = 0;

	for (unsigned pass = 0; pass < PASSES_MAX && r == 0 && again; pass++) {
		struct verify_result result;
		struct verify v = { .repo = x->repo,
				    .spec = &spec,
				    .result = &result,
				    .noted = note_id,
				    .noted_opaque = x };

		r = heal_pass(x, &v, &again, err);
		if (r == 0 && (!again || pass + 1 == PASSES_MAX))
			r = settle_points(x, &v, err);
		verify_end(&v);
		spec.data = false; /* what it found is marked */
	}
	return r;
}

/* --- the newest state object --- */

static int repair_state(struct repair *x, struct err *err)
{
	struct object_ref ref;
	struct state state = { 0 };
	struct repo_audit audit;
	struct err local = ERR_INIT;
	int r = catalog_state_ref(x->catalog, &ref, err);

	if (r < 0 || ref.locator == LOCATOR_NONE)
		return r;
	r = state_load(x->repo, &ref, &state, &local);
	state_release(&state);
	if (r == 0)
		return 0;
	if (!verify_is_finding(r)) {
		*err = local;
		return r;
	}
	repair_say(x, REPAIR_SLOT, ref.locator, false,
		   "state object: %s: it is written again from the catalog", local.text);
	if (x->spec->dry_run)
		return 0;
	repo_audit_fill(x->repo, &audit, "repair", "state", "{}");
	r = state_store(x->repo, x->catalog, x->lease.token, x->stage, NULL, &audit.audit, err);
	if (r == 0)
		repair_say(x, REPAIR_SLOT, LOCATOR_NONE, true, "state object written again");
	return r;
}

/* --- the whole --- */

static int repair_parts(struct repair *x, struct err *err)
{
	int r = repair_slots(x, err);

	if (r == 0)
		r = repair_state(x, err);
	if (r == 0)
		r = repair_overlays(x, err);
	return r < 0 ? r : repair_index(x, err);
}

static int note_run(struct repair *x, struct err *err)
{
	char detail[160];

	if (x->spec->dry_run || !x->result->done)
		return 0;
	snprintf(detail, sizeof(detail), "{\"done\":%" PRIu64 ",\"lost\":%" PRIu64 "}",
		 x->result->done, x->result->lost);
	return repo_audit_append(x->repo, "repair", "", detail, err);
}

static int repair_all(struct repair *x, struct err *err)
{
	char why[ERR_TEXT_MAX];
	struct err local = ERR_INIT;
	int last, r = catalog_condition(x, why, err);
	bool rebuild = r == 1, again = true;

	while (r >= 0) {
		if (rebuild) {
			drop_catalogs(x->repo);
			r = repair_catalog(x, why, err);
			if (r < 0 || x->spec->dry_run)
				return r;
			x->repo->pinnable = true;
		}
		r = lease_begin(x, err);
		if (r == 0)
			r = repair_packs(x, err);
		if (r == 0 && again && x->map_footers && !x->spec->dry_run)
			r = misses_points(x, x->catalog, why, err);
		rebuild = r == 1;
		if (!rebuild)
			break;
		again = false;
		r = lease_end(x, err);
	}
	if (r >= 0)
		r = repair_parts(x, err);
	last = lease_end(x, &local);
	if (r >= 0 && last < 0)
		*err = local;
	r = r < 0 ? r : last;
	if (r >= 0)
		r = note_run(x, err);
	if (r >= 0 && (x->undone || x->result->lost))
		return err_set(
			err, ERR_DAMAGED,
			"not everything could be repaired: %" PRIu64
			" bad slots have no source ('livepoint verify' names the restore points)",
			x->result->lost);
	return r;
}

/* What nobody could know is said, then the answer is taken. */
static int repair_accept(struct repair *x, struct err *err)
{
	struct object_ref ref;
	struct state state = { 0 };
	struct repo_audit audit;
	char when[TIME_TEXT_MAX], why[ERR_TEXT_MAX];
	bool rebuilt = false;
	int r = repo_catalog_get(x->repo, &x->catalog, err);

	if (r == 0)
		r = catalog_rebuilt(x->catalog, &rebuilt, err);
	if (r == 0 && rebuilt)
		r = misses_points(x, x->catalog, why, err);
	if (r == 1)
		r = err_set(err, ERR_DAMAGED,
			    "%s: run 'livepoint repair' again first; nothing was accepted", why);
	if (r == 0 && rebuilt)
		r = catalog_state_ref(x->catalog, &ref, err);
	if (r == 0 && rebuilt && ref.locator != LOCATOR_NONE) {
		r = state_load(x->repo, &ref, &state, err);
		time_format(when, state.time);
	}
	if (r == 0 && rebuilt) {
		repair_say(
			x, REPAIR_CATALOG, LOCATOR_NONE, false,
			"the catalog was built again; not known: what was forgotten, protected or "
			"unprotected %s%s, results of verify, the audit log before; forget by "
			"rule and prune go by it from now on",
			ref.locator == LOCATOR_NONE ? "ever" : "after ",
			ref.locator == LOCATOR_NONE ? "" : when);
		state_release(&state);
		repo_audit_fill(x->repo, &audit, "repair", "accept", "{}");
		if (!x->spec->dry_run)
			r = catalog_rebuild_accept(x->catalog, &audit.audit, err);
		if (r == 0 && !x->spec->dry_run)
			repair_say(x, REPAIR_CATALOG, LOCATOR_NONE, true, "accepted");
	}
	if (x->catalog)
		repo_catalog_put(x->repo, x->catalog);
	x->catalog = NULL;
	return r;
}

static int begin(struct repair *x, const char *path, const struct repair_key *key, struct err *err)
{
	int r = repo_open_bare(path, x->spec->dry_run ? REPO_READ : REPO_WRITE, &x->repo, err);

	if (r == 0 && repo_is_locked(x->repo) && key && key->passphrase)
		r = repo_unlock(x->repo, key->passphrase, key->n, false, err);
	if (r == 0)
		r = repo_need_key(x->repo, err);
	if (r == 0)
		r = repo_start(x->repo, 0, 0, err);
	if (r == 0)
		r = rate_new(x->spec->io_limit, x->spec->stop, NULL, &x->rate, err);
	return r < 0 ? r : repo_reader_get(x->repo, &x->reader, err);
}

int repo_repair(const char *path, const struct repair_key *key, const struct repair_spec *spec,
		struct repair_result *out, struct err *err)
{
	struct repair x = { .spec = spec, .result = out, .lease_fd = -1 };
	struct err local = ERR_INIT;
	int r;

	if (!err)
		err = &local;
	memset(out, 0, sizeof(*out));
	r = begin(&x, path, key, err);
	if (r == 0)
		r = spec->accept ? repair_accept(&x, err) : repair_all(&x, err);
	if (x.reader)
		repo_reader_put(x.repo, x.reader);
	rate_free(x.rate);
	id_map_release(&x.ids);
	slot_set_release(&x.remade);
	slot_set_release(&x.taken);
	repo_close(x.repo);
	return r < 0 ? r : 0;
}
