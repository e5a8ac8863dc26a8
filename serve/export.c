// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Starting an export: which point, or overlay of a point, with which names; then serve/start.c.
 *
 * Invariants:
 *  1. A new overlay goes again if its server does not start; one that was there is left as it is.
 *  2. Somebody else's overlay is ERR_LOCKED, whether that is seen before the server starts or by it.
 */
#include "serve/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"

#include "base/banned.h"

struct export
{
	struct repo *repo;
	const struct serve_spec *spec;
	struct repo_spec point; /* resolved */
	char point_text[POINT_TEXT_MAX];
	struct overlay_info *overlay; /* owned; NULL: the point itself */
	bool made; /* the overlay is new, and nobody has it yet */
	struct start start;
};

static void export_release(struct export *x)
{
	struct err err = ERR_INIT;

	start_release(&x->start); /* the server has ended before its overlay goes */
	if (x->made && repo_overlay_discard(x->repo, x->overlay->id, &err) < 0)
		log_warning("overlay '%s', made for a server that did not start, is left: %s",
			    x->overlay->id, err.text);
	if (x->overlay)
		overlay_infos_free(x->overlay, 1);
	repo_spec_release(&x->point);
}
#define cleanup_export __attribute__((cleanup(export_release)))

/* --- what is to be served --- */

static bool is_wanted(const struct export *x, const struct manifest_disk *d)
{
	return !x->point.disk[0] || strcmp(x->point.disk, d->name) == 0;
}

/* Opens the point and its disks once, here, where a failure has its own code and words. */
static int try_disks(struct export *x, struct err *err)
{
	const struct manifest *m = x->point.row.m;
	cleanup_ptr(repo_point) p = NULL;
	size_t i, n = 0;
	int code = repo_point_open(x->repo, x->point.row.id, &p, err);

	for (i = 0; code == 0 && i < m->ndisks; i++) {
		cleanup_ptr(repo_disk) d = NULL;

		if (!is_wanted(x, &m->disks[i]))
			continue;
		code = repo_disk_open(p, m->disks[i].name, &d, err);
		n++;
	}
	if (code < 0)
		return err_prefix(err, "point '%s'", x->point_text);
	if (n == 0)
		return err_set(err, ERR_NOT_FOUND, "point '%s' has no disk%s%s", x->point_text,
			       x->point.disk[0] ? " named " : "", x->point.disk);
	x->start.record.e.disks = mem_alloc_array(n, sizeof(*x->start.record.e.disks));
	x->start.exports = mem_alloc_array(n, sizeof(*x->start.exports));
	return x->start.record.e.disks && x->start.exports ? 0 :
							     err_nomem(err, "disks of an export");
}

/* What can be known to be wrong without looking at the repository. */
static int check_spec(const struct serve_spec *spec, struct err *err)
{
	if (spec->listen && !spec->tls_certificates == !spec->tls_psk)
		return err_set(
			err, ERR_USAGE,
			"a network address needs TLS: give either certificates or a file of pre-shared keys");
	if (!spec->listen && (spec->tls_certificates || spec->tls_psk))
		return err_set(err, ERR_USAGE,
			       "TLS is for a network address; the socket is private to this host");
	if (spec->overlay && !spec->writable)
		return err_set(err, ERR_USAGE, "an overlay is for a writable export");
	return 0;
}

static int resolve(struct export *x, struct err *err)
{
	struct serve_export *e = &x->start.record.e;
	int code = check_spec(x->spec, err);

	if (code == 0)
		code = start_check(&x->start, x->spec->cache, err);
	if (code == 0)
		code = repo_resolve(x->repo, x->spec->point, &x->point, err);
	if (code < 0)
		return code;
	repo_point_text(x->point.row.m, x->point_text);
	str_copy(x->start.shown, sizeof(x->start.shown), x->point_text);
	e->point = str_dup(x->point_text);
	return e->point ? try_disks(x, err) : err_nomem(err, "point");
}

/* --- the overlay --- */

static bool is_id(const char *overlay)
{
	return strlen(overlay) == OVERLAY_ID_LEN && overlay[0] == 'o' &&
	       strspn(overlay + 1, "0123456789abcdef") == OVERLAY_ID_LEN - 1;
}

static int refuse_held(const struct overlay_info *o, struct err *err)
{
	err_set(err, ERR_LOCKED,
		"overlay '%s' is attached by process %lld: end that server ('livepoint exports' lists them), or "
		"make another overlay",
		o->id, (long long)o->pid);
	return err_object(err, "%s", o->id);
}

static int check_overlay(const struct export *x, struct err *err)
{
	const struct overlay_info *o = x->overlay;

	if (memcmp(o->point, x->point.row.id, POINT_ID_LEN) != 0) {
		err_set(err, ERR_INVALID,
			"overlay '%s' is of %s, not of %s: 'livepoint export %s --writable --overlay %s' attaches it",
			x->spec->overlay, o->point_text, x->point_text, o->point_text,
			x->spec->overlay);
		return err_object(err, "%s", o->id);
	}
	return o->attached ? refuse_held(o, err) : 0;
}

static int make_overlay(struct export *x, struct err *err)
{
	char id[OVERLAY_ID_LEN + 1];
	int code = repo_overlay_create(x->repo, x->point.row.id, x->spec->overlay, id, err);

	if (code < 0)
		return code;
	code = repo_overlay_find(x->repo, id, &x->overlay, err);
	x->made = code == 0;
	return code;
}

static int take_overlay(struct export *x, struct err *err)
{
	const char *wanted = x->spec->overlay;
	int code;

	if (!x->spec->writable)
		return 0;
	code = wanted ? repo_overlay_find(x->repo, wanted, &x->overlay, err) : ERR_NOT_FOUND;
	if (code == 0)
		code = check_overlay(x, err);
	else if (code == ERR_NOT_FOUND && !(wanted && is_id(wanted)))
		code = make_overlay(x, err);
	if (code < 0)
		return code;
	x->start.record.e.overlay = str_dup(x->overlay->id);
	return x->start.record.e.overlay ? 0 : err_nomem(err, "overlay");
}

/* Another server may have come first since we looked. */
static int explain(struct export *x, struct err *err)
{
	struct overlay_info *now = NULL;
	struct err ignored = ERR_INIT;
	int code = err->code;

	if (code != ERR_CHILD || !x->overlay ||
	    repo_overlay_find(x->repo, x->overlay->id, &now, &ignored) < 0)
		return code;
	if (now->attached && now->pid != x->start.pid)
		code = refuse_held(now, err);
	overlay_infos_free(now, 1);
	return code;
}

/* --- names --- */

static int name_disks(struct export *x, struct err *err)
{
	const struct manifest *m = x->point.row.m;
	struct serve_export *e = &x->start.record.e;
	const char *what = x->overlay ? x->overlay->id : x->point_text;
	size_t i;

	for (i = 0; i < m->ndisks; i++) {
		struct serve_disk *d = &e->disks[e->ndisks];
		struct start_export *se = &x->start.exports[x->start.nexports];

		if (!is_wanted(x, &m->disks[i]))
			continue;
		e->ndisks++;
		x->start.nexports++;
		se->size = m->disks[i].size;
		se->name = str_printf("%s/%s", what, m->disks[i].name);
		d->name = str_dup(m->disks[i].name);
		if (!se->name || !d->name)
			return err_nomem(err, "names of disks");
	}
	return 0;
}

static int name_arguments(struct export *x, struct err *err)
{
	int code = start_plugin(&x->start, err);

	if (code < 0)
		return code;
	start_arg(&x->start, str_printf("%s=%s%s%s", x->overlay ? "overlay" : "point",
					x->overlay ? x->overlay->id : x->point_text,
					x->point.disk[0] ? "/" : "", x->point.disk));
	return 0;
}

int serve_export_start(struct repo *r, const struct serve_spec *spec, struct serve_export *out,
		       struct err *err)
{
	cleanup_export struct export x = { .repo = r, .spec = spec };
	static int (*const steps[])(struct export *, struct err *) = {
		resolve,
		take_overlay,
		name_disks,
		name_arguments,
	};
	int code = 0;
	size_t i;

	start_init(&x.start);
	x.start.repo = r;
	x.start.listen = spec->listen;
	x.start.tls_certificates = spec->tls_certificates;
	x.start.tls_psk = spec->tls_psk;
	x.start.socket_group = spec->socket_group;
	x.start.stop = spec->stop;
	for (i = 0; code == 0 && i < ARRAY_SIZE(steps); i++)
		code = steps[i](&x, err);
	if (code == 0)
		code = start_run(&x.start, out, err);
	if (code < 0)
		return explain(&x, err);
	x.made = false;
	return 0;
}
