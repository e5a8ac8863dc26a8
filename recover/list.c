// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Recoveries as a list: what the records say, and what libvirt says about those of this host.
 *
 * On the way the list puts right what nobody watched: a guest that is gone is recorded as ended, a note that a reboot
 * took is written again, a watcher that has ended is started.
 */
#include "recover/internal.h"

#include <stdlib.h>

#include "base/log.h"

#include "base/banned.h"

#define ASK_MS 5000

void recovery_info_release(struct recovery_info *i)
{
	size_t k;

	for (k = 0; k < i->ndamage; k++)
		free(i->damage[k].other);
	free(i->damage);
	free(i->overlay);
	free(i->point);
	free(i->connection);
	free(i->host);
	free(i->domain);
	free(i->uuid);
	free(i->guest);
	free(i->problem);
	free(i->accel);
	memset(i, 0, sizeof(*i));
}

void recovery_infos_free(struct recovery_info *list, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		recovery_info_release(&list[i]);
	free(list);
}

/* One that a watcher looks after. */
static bool has_guest(enum recovery_state state)
{
	return state == RECOVERY_RUNNING || state == RECOVERY_MIGRATING ||
	       state == RECOVERY_PIVOTING || state == RECOVERY_MIGRATED;
}

static int copy_damage(const struct record *rec, struct recovery_info *out, struct err *err)
{
	size_t i;

	if (rec->ndamage == 0)
		return 0;
	out->damage = mem_alloc_array(rec->ndamage, sizeof(*out->damage));
	if (!out->damage)
		return err_nomem(err, "list of recoveries");
	for (i = 0; i < rec->ndamage; i++) {
		out->damage[i] = rec->damage[i];
		out->damage[i].other = NULL;
		out->ndamage++;
		if (!text_copy(&out->damage[i].other, rec->damage[i].other))
			return err_nomem(err, "list of recoveries");
	}
	return 0;
}

int info_fill(const char *folder, const struct record *rec, struct recovery_info *out,
	      struct err *err)
{
	struct recovery_info i = { .state = rec->state,
				   .local = rec->local_dir != NULL,
				   .created = rec->created,
				   .since = rec->since };
	cleanup_free char *host = NULL;
	int code = host_name(&host, err);

	if (code < 0)
		return code;
	str_copy(i.id, sizeof(i.id), rec->id);
	i.here = strcmp(host, rec->host) == 0;
	i.busy = recovery_is_locked(folder);
	i.bytes = host_files_bytes(rec);
	code = copy_damage(rec, &i, err);
	if (code == 0 &&
	    (!text_copy(&i.overlay, rec->overlay[0] ? rec->overlay : NULL) ||
	     !text_copy(&i.point, rec->point) || !text_copy(&i.connection, rec->connection) ||
	     !text_copy(&i.host, rec->host) || !text_copy(&i.domain, rec->domain) ||
	     !text_copy(&i.uuid, rec->uuid) || !text_copy(&i.problem, rec->problem) ||
	     !text_copy(&i.accel, rec->accel)))
		code = err_nomem(err, "list of recoveries");
	if (code < 0) {
		recovery_info_release(&i);
		return code;
	}
	i.watched = i.here && has_guest(i.state) && watch_lives(i.connection);
	*out = i;
	return 0;
}

/* --- the list --- */

struct listing {
	struct repo *repo;
	struct recovery_info *list; /* owned */
	size_t count;
	struct virt *v; /* owned: the connection of the last one that was looked at */
	char *connection; /* owned: its name, also when it could not be made */
};

static void listing_release(struct listing *l)
{
	recovery_infos_free(l->list, l->count);
	virt_close(l->v);
	free(l->connection);
}
#define cleanup_listing __attribute__((cleanup(listing_release)))

static struct recovery_info *listing_add(struct listing *l, struct err *err)
{
	struct recovery_info *more = mem_realloc_array(l->list, l->count + 1, sizeof(*l->list));

	if (!more) {
		err_nomem(err, "list of recoveries");
		return NULL;
	}
	l->list = more;
	memset(&more[l->count], 0, sizeof(*more));
	return &more[l->count];
}

static struct virt *connection_of(struct listing *l, const char *uri)
{
	struct err local = ERR_INIT;

	if (l->connection && strcmp(l->connection, uri) == 0)
		return l->v;
	virt_close(l->v);
	l->v = NULL;
	text_set(&l->connection, uri);
	if (virt_open(uri, &l->v, &local) < 0) {
		log_warning("libvirt is not asked about guests: %s", local.text);
		l->v = NULL;
	} else {
		virt_set_limit(l->v, ASK_MS);
	}
	return l->v;
}

/* The guest has gone and nobody has seen it. */
static void note_ended(struct listing *l, const char *folder, struct recovery_info *i)
{
	cleanup_recovery struct recovery r = RECOVERY_INIT(l->repo);
	struct err local = ERR_INIT;

	r.folder = str_dup(folder);
	if (!r.folder || recovery_lock(&r, 0, &local) < 0 ||
	    recovery_record_read(r.folder, &r.rec, &local) < 0 || r.rec.state != RECOVERY_RUNNING)
		return;
	if (recovery_advance(&r, RECOVERY_ENDED, NULL, &local) == 0) {
		i->state = RECOVERY_ENDED;
		i->since = r.rec.since;
	}
}

static void ask_copies(struct virt_domain *d, const struct record *rec, struct recovery_info *i)
{
	struct virt_copy_status s;
	size_t k;

	for (k = 0; k < rec->ndisks; k++)
		if (virt_copy_status(d, rec->disks[k].target, &s, NULL) == 0) {
			i->done += s.done;
			i->total += s.total;
		}
}

static void ask(struct listing *l, const char *folder, const struct record *rec,
		struct recovery_info *i)
{
	struct virt *v = connection_of(l, rec->connection);
	cleanup_ptr(virt_domain) d = NULL;
	struct virt_status s = { .state = VIRT_GONE };
	struct err local = ERR_INIT;

	if (!v)
		return;
	if (guest_find(v, rec, &d, &local) < 0 || (d && virt_domain_status(d, &s, &local) < 0)) {
		log_warning("recovery '%s': %s", rec->id, local.text);
		return;
	}
	text_set(&i->guest, guest_state_name(&s));
	if (d && rec->state == RECOVERY_MIGRATING)
		ask_copies(d, rec, i);
	if (s.state == VIRT_GONE && rec->state == RECOVERY_RUNNING)
		note_ended(l, folder, i);
}

/* What a reboot, or a kill, has taken from the run folder. */
static void watch_again(struct listing *l, const char *folder, const struct record *rec,
			struct recovery_info *i)
{
	struct recovery r = RECOVERY_INIT(l->repo);
	struct err local = ERR_INIT;

	if (!has_guest(i->state) || !i->guest)
		return;
	r.folder = (char *)folder;
	r.rec = *rec; /* borrowed, for the note alone */
	if (note_write(&r, &local) < 0 || watch_start(rec->connection, &local) < 0)
		log_warning("recovery '%s' is not watched: %s", rec->id, local.text);
	else
		i->watched = true;
}

static int list_fn(void *opaque, const char *folder, const struct record *rec, struct err *err)
{
	struct listing *l = opaque;
	struct recovery_info *i = listing_add(l, err);
	int code = i ? info_fill(folder, rec, i, err) : err->code;

	if (code < 0)
		return code;
	l->count++;
	if (i->here && rec->state != RECOVERY_PREPARED)
		ask(l, folder, rec, i);
	if (i->here && !i->busy && rec->state != RECOVERY_PREPARED)
		watch_again(l, folder, rec, i);
	return 0;
}

/* Overlays that are called as a recovery and have no record: it died between the two. */
static int add_unrecorded(struct listing *l, const struct overlay_info *o, struct err *err)
{
	struct recovery_info *i;
	size_t k;

	for (k = 0; k < l->count; k++)
		if (l->list[k].overlay && strcmp(l->list[k].overlay, o->id) == 0) {
			if (!l->list[k].local)
				l->list[k].bytes = o->bytes;
			return 0;
		}
	if (!recovery_id_valid(o->name))
		return 0;
	i = listing_add(l, err);
	if (!i)
		return err->code;
	i->state = RECOVERY_PREPARED;
	i->created = i->since = o->created;
	i->bytes = o->bytes;
	str_copy(i->id, sizeof(i->id), o->name);
	l->count++;
	if (!text_copy(&i->overlay, o->id) || !text_copy(&i->point, o->point_text))
		return err_nomem(err, "list of recoveries");
	return 0;
}

static int by_age(const void *a, const void *b)
{
	const struct recovery_info *x = a, *y = b;

	if (x->created != y->created)
		return x->created < y->created ? -1 : 1;
	return strcmp(x->id, y->id);
}

int recover_list(struct repo *repo, struct recovery_info **out, size_t *count, struct err *err)
{
	cleanup_listing struct listing l = { .repo = repo };
	struct overlay_info *overlays = NULL;
	size_t n = 0, i;
	int code = recovery_each(repo, list_fn, &l, err);

	if (code == 0)
		code = repo_overlays(repo, &overlays, &n, err);
	for (i = 0; code == 0 && i < n; i++)
		code = add_unrecorded(&l, &overlays[i], err);
	overlay_infos_free(overlays, n);
	if (code < 0)
		return code;
	if (l.count)
		qsort(l.list, l.count, sizeof(*l.list), by_age);
	*out = steal_ptr(l.list);
	*count = l.count;
	l.count = 0;
	return 0;
}
