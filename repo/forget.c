/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Forgetting points by rule and one by one, their way back, and holds: what repo/retention.c decides, applied.
 *
 * 1. A plan is made from one reading of points and holds; it is applied in one transaction or not at all.
 * 2. The catalog looks again at every point of the plan: one that was held or forgotten meanwhile fails the whole.
 * 3. Nothing is changed without the key of an encrypted repository: the audit log could not be kept.
 */
#include <assert.h>
#include <stdlib.h>
#include <strings.h>

#include "base/json.h"
#include "repo/audit.h"
#include "repo/internal.h"
#include "repo/retention.h"

#include "base/banned.h"

#define DETAIL_POINTS 1000u /* named in the audit log; of more their number stands there */

/* --- holds and forgotten points --- */

int repo_notes(struct repo *r, struct state *out, struct err *err)
{
	struct catalog *c;
	int ret = repo_catalog_get(r, &c, err);

	if (ret < 0)
		return ret;
	ret = catalog_state_read(c, out, err);
	repo_catalog_put(r, c);
	return ret;
}

/* Both lists ascend by id, which stands first in their elements. */
static int compare_id(const void *id, const void *element)
{
	return memcmp(id, element, POINT_ID_LEN);
}

const struct hold *state_hold(const struct state *s, const uint8_t id[POINT_ID_LEN])
{
	static_assert(offsetof(struct hold, point) == 0, "searched by id");
	return s->nholds ? bsearch(id, s->holds, s->nholds, sizeof(*s->holds), compare_id) : NULL;
}

const struct state_point *state_forgotten(const struct state *s, const uint8_t id[POINT_ID_LEN])
{
	static_assert(offsetof(struct state_point, id) == 0, "searched by id");
	return s->npoints ? bsearch(id, s->points, s->npoints, sizeof(*s->points), compare_id) :
			    NULL;
}

bool hold_is_over(const struct hold *h, int64_t now)
{
	return h->until && h->until <= now;
}

/* --- plans --- */

void forget_plan_release(struct forget_plan *p)
{
	for (size_t i = 0; i < p->count; i++)
		free(p->items[i].hold_reason);
	free(p->items);
	memset(p, 0, sizeof(*p));
}

/* Adds an item; hold: that counts, or NULL. */
static int plan_add(struct forget_plan *p, const struct point_row *row, unsigned reasons,
		    const struct hold *hold, struct err *err)
{
	struct forget_item *items = mem_realloc_array(p->items, p->count + 1, sizeof(*items));
	struct forget_item *item;

	if (!items)
		return err_nomem(err, "plan of points to forget");
	p->items = items;
	item = &items[p->count];
	memset(item, 0, sizeof(*item));
	if (hold) {
		item->hold_reason = str_dup(hold->reason);
		item->hold_until = hold->until;
		if (!item->hold_reason)
			return err_nomem(err, "plan of points to forget");
	}
	memcpy(item->id, row->id, POINT_ID_LEN);
	repo_point_text(row->m, item->point);
	str_copy(item->name, sizeof(item->name), row->m->name);
	item->time = row->m->time;
	item->reasons = reasons;
	p->count++;
	p->going += reasons == 0;
	return 0;
}

static const struct hold *hold_now(const struct state *s, const struct point_row *row, int64_t now)
{
	const struct hold *h = state_hold(s, row->id);

	return h && !hold_is_over(h, now) ? h : NULL;
}

static int newest_row_first(const void *a, const void *b)
{
	const struct manifest *x = ((const struct point_row *)a)->m;
	const struct manifest *y = ((const struct point_row *)b)->m;

	if (x->time != y->time)
		return x->time > y->time ? -1 : 1;
	return x->sequence > y->sequence ? -1 : x->sequence < y->sequence;
}

/* Decides for the points of one name, and adds them newest first. */
static int plan_rows(struct forget_plan *p, struct point_list *l, const struct state *s,
		     const struct keep_rules *rules, int64_t now, struct err *err)
{
	cleanup_free struct keep_point *points = mem_alloc_array(l->count, sizeof(*points));
	cleanup_free unsigned *reasons = mem_alloc_array(l->count, sizeof(*reasons));
	int r;

	if (!points || !reasons)
		return err_nomem(err, "plan of points to forget");
	qsort(l->rows, l->count, sizeof(*l->rows), newest_row_first);
	for (size_t i = 0; i < l->count; i++)
		points[i] = (struct keep_point){ .time = l->rows[i].m->time,
						 .sequence = l->rows[i].m->sequence,
						 .held = hold_now(s, &l->rows[i], now) != NULL };
	r = keep_decide(rules, points, l->count, now, reasons, err);
	for (size_t i = 0; i < l->count && r == 0; i++)
		r = plan_add(p, &l->rows[i], reasons[i], hold_now(s, &l->rows[i], now), err);
	return r;
}

/* An unknown name is an error that says what is near. */
static int no_points(struct repo *r, const char *name, struct err *err)
{
	struct repo_spec spec = { 0 };
	int ret;

	if (!name_valid(name))
		return err_set(err, ERR_USAGE,
			       "'%.140s' is no NAME: rules are for all points of a name", name);
	ret = repo_resolve(r, name, &spec, err);
	if (ret < 0)
		return ret;
	repo_spec_release(&spec); /* an id, which is no NAME */
	err_set(err, ERR_NOT_FOUND, "no restore point of '%s'", name);
	return err_object(err, "%s", name);
}

static int plan_name(struct repo *r, struct catalog *c, struct forget_plan *p, const char *name,
		     const struct state *s, const struct keep_rules *rules, int64_t now,
		     struct err *err)
{
	struct point_filter f = { .name = name };
	struct point_list l = { 0 };
	int ret = catalog_points(c, &f, &l, err);

	if (ret == 0 && !l.count)
		ret = no_points(r, name, err);
	else if (ret == 0)
		ret = plan_rows(p, &l, s, rules, now, err);
	point_list_release(&l);
	return ret;
}

static int plan_names(struct repo *r, struct catalog *c, const char *const *names, size_t nnames,
		      const struct keep_rules *rules, struct forget_plan *p, struct err *err)
{
	struct state s = { 0 };
	int64_t now = time_now();
	int ret = catalog_state_read(c, &s, err);

	for (size_t i = 0; i < nnames && ret == 0; i++) {
		bool again = false;

		for (size_t k = 0; k < i && !again; k++)
			again = !strcmp(names[k], names[i]);
		if (!again)
			ret = plan_name(r, c, p, names[i], &s, rules, now, err);
	}
	state_release(&s);
	return ret;
}

static int refuse_rebuilt(struct repo *r, struct catalog *c, struct err *err)
{
	bool rebuilt;
	int ret = catalog_rebuilt(c, &rebuilt, err);

	if (ret == 0 && rebuilt)
		return err_set(
			err, ERR_REFUSED,
			"the catalog of '%s' was rebuilt, and points could be missing or back "
			"that rules would count: look at 'livepoint list', then 'livepoint "
			"repair --accept'",
			r->path);
	return ret;
}

static int refuse_clock(struct repo *r, struct catalog *c, struct err *err)
{
	struct repo_clock k;
	char name[64];
	int fd = -1, ret = 0;

	/* A file that is new, for the file system's clock; only where something could be forgotten. */
	if (r->mode == REPO_WRITE)
		ret = store_lock_make(r->store, name, &fd, err);
	if (ret == 0)
		ret = repo_clock_look(r, c, fd, &k, err);
	if (fd >= 0) {
		(void)store_lock_remove(r->store, name, NULL);
		base_cleanup_fd(&fd);
	}
	if (ret == 0 && k.doubtful)
		return err_set(err, ERR_REFUSED,
			       "%s: dated holds would seem over, and points in the future count; "
			       "nothing was forgotten; --yes-really goes on all the same",
			       k.why);
	return ret;
}

int repo_forget_plan(struct repo *r, const char *const *names, size_t nnames,
		     const struct keep_rules *rules, struct forget_plan *out, struct err *err)
{
	struct forget_plan p = { 0 };
	char **all = NULL;
	size_t nall = 0;
	struct catalog *c;
	int ret;

	if (!keep_rules_any(rules))
		return err_set(err, ERR_USAGE, "no rule says what to keep");
	ret = repo_catalog_get(r, &c, err);
	if (ret < 0)
		return ret;
	ret = refuse_rebuilt(r, c, err);
	if (ret == 0 && !rules->any_clock)
		ret = refuse_clock(r, c, err);
	if (ret == 0 && !names)
		ret = catalog_names(c, &all, &nall, err);
	if (ret == 0)
		ret = plan_names(r, c, names ? names : (const char *const *)all,
				 names ? nnames : nall, rules, &p, err);
	catalog_names_free(all, nall);
	repo_catalog_put(r, c);
	if (ret < 0) {
		forget_plan_release(&p);
		return ret;
	}
	*out = p;
	return 0;
}

/* --- F1 --- */

static int detail_json(const struct forget_plan *p, int64_t until, struct buf *out, struct err *err)
{
	cleanup_ptr(jval) o = jval_object();
	struct jval *points = jval_array();
	char text[TIME_TEXT_MAX];
	size_t named = 0;

	for (size_t i = 0; i < p->count && named < DETAIL_POINTS; i++) {
		if (p->items[i].reasons)
			continue;
		jval_append(points, jval_str(p->items[i].point));
		named++;
	}
	time_format(text, until);
	jval_set(o, "count", jval_uint(p->going));
	jval_set(o, "until", jval_str(text));
	jval_set(o, "points", points);
	return jval_print(o, false, out, err);
}

/* The name if there is only one, else nothing: the detail has the points. */
static const char *subject_of(const struct forget_plan *p)
{
	const char *name = NULL;

	for (size_t i = 0; i < p->count; i++) {
		if (p->items[i].reasons)
			continue;
		if (p->going == 1)
			return p->items[i].point;
		if (name && strcmp(name, p->items[i].name) != 0)
			return "";
		name = p->items[i].name;
	}
	return name ? name : "";
}

/* An older catalog that was put back knows of neither the newest points nor their holds. */
static int check_write(struct repo *r, struct err *err)
{
	struct catalog *c;
	int ret = repo_need_key(r, err);

	if (ret == 0 && r->mode != REPO_WRITE)
		return err_set(err, ERR_INTERNAL, "the repository is not open for writing");
	if (ret == 0)
		ret = repo_catalog_get(r, &c, err);
	if (ret < 0)
		return ret;
	ret = sweep_check(r, c, err);
	repo_catalog_put(r, c);
	return ret;
}

int repo_forget_apply(struct repo *r, const struct forget_plan *plan, int64_t grace,
		      struct err *err)
{
	cleanup_free uint8_t(*ids)[POINT_ID_LEN] =
		mem_alloc_array(plan->going ? plan->going : 1, sizeof(*ids));
	cleanup_buf struct buf detail = BUF_INIT;
	int64_t now = time_now(), until;
	struct repo_audit audit;
	struct catalog *c;
	size_t n = 0;
	int ret = check_write(r, err);

	if (ret < 0 || !plan->going)
		return ret;
	if (!ids)
		return err_nomem(err, "points to forget");
	/* the repository's may be anything that a person wrote there */
	until = now + (int64_t)MIN(grace < 0 ? r->conf.grace : (uint64_t)grace, GRACE_MAX);
	for (size_t i = 0; i < plan->count; i++)
		if (!plan->items[i].reasons)
			memcpy(ids[n++], plan->items[i].id, POINT_ID_LEN);
	ret = detail_json(plan, until, &detail, err);
	if (ret == 0)
		ret = repo_catalog_get(r, &c, err);
	if (ret < 0)
		return ret;
	repo_audit_fill(r, &audit, "forget", subject_of(plan), buf_str(&detail));
	ret = catalog_forget(c, (const uint8_t(*)[POINT_ID_LEN])ids, n, now, until, &audit.audit,
			     err);
	repo_catalog_put(r, c);
	return ret;
}

/* --- single points --- */

static int held_error(const char *point, const struct hold *h, struct err *err)
{
	char until[TIME_TEXT_MAX];

	time_format(until, h->until);
	err_set(err, ERR_HELD, "'%s' is held%s%s%s%s; 'livepoint unprotect %s' ends that", point,
		h->until ? " until " : "", h->until ? until : "", h->reason[0] ? ": " : "",
		h->reason, point);
	return err_object(err, "%s", point);
}

static int plan_point(struct repo *r, struct forget_plan *p, const char *text,
		      const struct state *s, int64_t now, struct err *err)
{
	struct repo_spec spec = { 0 };
	char point[POINT_TEXT_MAX];
	bool again = false;
	int ret = repo_resolve(r, text, &spec, err);

	if (ret < 0)
		return ret;
	repo_point_text(spec.row.m, point);
	for (size_t i = 0; i < p->count && !again; i++)
		again = !memcmp(p->items[i].id, spec.row.id, POINT_ID_LEN);
	if (spec.disk[0])
		ret = err_set(err, ERR_USAGE,
			      "'%s' is one disk of a point: only whole points can be forgotten",
			      text);
	else if (spec.latest && !strchr(text, '@'))
		ret = err_set(err, ERR_USAGE,
			      "'%s' is a NAME: say by --keep-... what stays of it, or name a point "
			      "('%s@latest' is the newest)",
			      text, text);
	else if (hold_now(s, &spec.row, now))
		ret = held_error(point, hold_now(s, &spec.row, now), err);
	else if (!again)
		ret = plan_add(p, &spec.row, 0, NULL, err);
	repo_spec_release(&spec);
	return ret;
}

/* What holds are compared with: with a doubtful clock the last time that is known, so that none has ended by it. */
static int time_for_holds(struct repo *r, int64_t *now, struct err *err)
{
	struct repo_clock k;
	struct catalog *c;
	int ret = repo_catalog_get(r, &c, err);

	if (ret < 0)
		return ret;
	ret = repo_clock_look(r, c, -1, &k, err);
	repo_catalog_put(r, c);
	if (ret == 0)
		*now = k.doubtful ? k.seen : k.now;
	return ret;
}

int repo_forget_points(struct repo *r, const char *const *points, size_t count, int64_t grace,
		       bool dry_run, struct forget_plan *out, struct err *err)
{
	struct forget_plan p = { 0 };
	struct state s = { 0 };
	int64_t now = 0;
	int ret = time_for_holds(r, &now, err);

	if (ret == 0)
		ret = repo_notes(r, &s, err);
	for (size_t i = 0; i < count && ret == 0; i++)
		ret = plan_point(r, &p, points[i], &s, now, err);
	state_release(&s);
	if (ret == 0 && !dry_run)
		ret = repo_forget_apply(r, &p, grace, err);
	if (ret < 0) {
		forget_plan_release(&p);
		return ret;
	}
	*out = p;
	return 0;
}

/* --- unforget --- */

static bool is_called(const struct point_row *row, const char *text)
{
	char point[POINT_TEXT_MAX], hex[2 * POINT_ID_LEN + 1];
	size_t n = strlen(text);

	repo_point_text(row->m, point);
	if (strchr(text, '@'))
		return strchr(text, '@')[1] && str_starts(point, text);
	hex_encode(hex, row->id, POINT_ID_LEN);
	return n >= 4 && n <= 2 * POINT_ID_LEN && strncasecmp(hex, text, n) == 0;
}

static int find_forgotten(struct repo *r, const char *text, uint8_t id[POINT_ID_LEN],
			  char point[POINT_TEXT_MAX], struct err *err)
{
	struct point_filter f = { .forgotten = true };
	struct point_list l = { 0 };
	const struct point_row *found = NULL, *complete = NULL;
	unsigned matches = 0;
	int ret = repo_points(r, &f, &l, err);

	for (size_t i = 0; i < l.count && ret == 0; i++) {
		if (!is_called(&l.rows[i], text))
			continue;
		if (l.rows[i].state == POINT_FORGOTTEN) {
			found = &l.rows[i];
			matches++;
		} else {
			complete = &l.rows[i];
		}
	}
	if (ret == 0 && matches > 1)
		ret = err_set(err, ERR_AMBIGUOUS,
			      "'%.300s' fits %u forgotten points; 'livepoint list --forgotten "
			      "--json' has their ids",
			      text, matches);
	else if (ret == 0 && !found)
		ret = err_set(err, ERR_NOT_FOUND, "'%.300s' %s", text,
			      complete ? "is not forgotten" :
					 "is no forgotten point; 'livepoint list --forgotten' "
					 "shows what there is");
	if (ret == 0) {
		memcpy(id, found->id, POINT_ID_LEN);
		repo_point_text(found->m, point);
	} else {
		err_object(err, "%.300s", text);
	}
	point_list_release(&l);
	return ret;
}

int repo_unforget(struct repo *r, const char *point, char text[POINT_TEXT_MAX], struct err *err)
{
	uint8_t id[POINT_ID_LEN];
	char found[POINT_TEXT_MAX];
	struct repo_audit audit;
	struct catalog *c;
	int ret = check_write(r, err);

	if (ret == 0)
		ret = find_forgotten(r, point, id, found, err);
	if (ret == 0)
		ret = repo_catalog_get(r, &c, err);
	if (ret < 0)
		return ret;
	repo_audit_fill(r, &audit, "unforget", found, NULL);
	ret = catalog_unforget(c, id, &audit.audit, err);
	repo_catalog_put(r, c);
	if (ret == 0)
		memcpy(text, found, sizeof(found));
	return ret;
}

/* --- holds --- */

/* Before a pack is written for nothing. */
static int check_held(struct repo *r, const struct hold_change *change, const char *text,
		      struct err *err)
{
	struct state s = { 0 };
	int ret = change->set ? 0 : repo_notes(r, &s, err);

	if (ret == 0 && !change->set && !state_hold(&s, change->point))
		ret = err_set(err, ERR_NOT_FOUND, "'%s' is not held", text);
	state_release(&s);
	return ret;
}

static int change_hold(struct repo *r, const char *point, struct hold_change *change,
		       const char *detail, struct err *err)
{
	struct repo_spec spec = { 0 };
	struct repo_audit audit;
	char text[POINT_TEXT_MAX];
	int ret = check_write(r, err);

	if (ret == 0)
		ret = repo_resolve(r, point, &spec, err);
	if (ret < 0)
		return ret;
	memcpy(change->point, spec.row.id, POINT_ID_LEN);
	repo_point_text(spec.row.m, text);
	if (spec.disk[0])
		ret = err_set(err, ERR_USAGE,
			      "'%s' is one disk of a point: only whole points are held", point);
	repo_spec_release(&spec);
	if (ret == 0)
		ret = check_held(r, change, text, err);
	if (ret < 0)
		return ret;
	repo_audit_fill(r, &audit, change->set ? "protect" : "unprotect", text, detail);
	ret = state_publish(r, change, &audit.audit, err);
	return ret < 0 ? err_object(err, "%s", text) : 0;
}

int repo_protect(struct repo *r, const char *point, const char *reason, int64_t until,
		 struct err *err)
{
	struct hold_change change = {
		.set = true, .reason = reason ? reason : "", .since = time_now(), .until = until
	};
	cleanup_ptr(jval) o = jval_object();
	cleanup_buf struct buf detail = BUF_INIT;
	char text[TIME_TEXT_MAX];
	int ret;

	if (!hold_reason_valid(change.reason))
		return err_set(err, ERR_INVALID,
			       "a reason has at most %u bytes of UTF-8 without control characters",
			       HOLD_REASON_MAX);
	if (until && until <= change.since)
		return err_set(err, ERR_INVALID, "the hold would have ended already");
	time_format(text, until);
	jval_set(o, "reason", jval_str(change.reason));
	jval_set(o, "until", until ? jval_str(text) : jval_null());
	ret = jval_print(o, false, &detail, err);
	return ret < 0 ? ret : change_hold(r, point, &change, buf_str(&detail), err);
}

int repo_unprotect(struct repo *r, const char *point, struct err *err)
{
	struct hold_change change = { .set = false };

	return change_hold(r, point, &change, NULL, err);
}
