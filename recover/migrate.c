// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Migration: the disks of a recovered guest move to their new place while it runs.  Steps and what a kill leaves after each:
 * docs/PROTOCOL.md, Recoveries.
 *
 * Each disk is copied by QEMU (block copy) until all are READY.  Then the guest is suspended, every disk is pivoted, the record
 * says MIGRATED, and the guest runs on.  From the record's PIVOTING to its MIGRATED the guest does not run, so that whatever
 * dies in between, the overlay has all that the guest has ever written: if the guest is gone then, its disks are copied from
 * there.  A guest that powers off while it is copied is finished the same way and defined, off.
 *
 * Invariants:
 *  1. The overlay is the truth until the record says MIGRATED, and is not touched; afterwards it is never read.
 *  2. No disk is pivoted before all are READY.
 *  3. The guest is left suspended by nobody: whoever is killed between, the watcher goes on (migrate_settle()).
 */
#include "recover/internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "base/proc.h"

#include "base/banned.h"

#define TICK_MS 250
#define RESUME_MS 60000
#define SETTLE_MS 30000 /* a pivot that was asked for and not answered */

static int stopped_here(const char *point, struct err *err)
{
	return fault_hit(point) ? err_set(err, ERR_IO, "stopped by a fault point") : 0;
}

/* --- the definition that the guest gets --- */

static char *definition_path(const struct record *rec, struct err *err)
{
	cleanup_free char *folder = NULL;
	char *path;

	if (state_subfolder("guests", &folder, err) < 0)
		return NULL;
	path = str_printf("%s/%s.xml", folder, rec->id);
	if (!path)
		err_nomem(err, "path");
	return path;
}

int migrate_definition_remove(const struct record *rec, struct err *err)
{
	cleanup_free char *path = definition_path(rec, err);
	int code = path ? file_unlink(path, "recover.definition.unlink", err) : err->code;

	return MIN(code, 0);
}

/* For a guest that powers off while it is copied. */
static int definition_keep(const struct record *rec, struct virt_domain *guest, struct err *err)
{
	cleanup_free char *path = definition_path(rec, err), *xml = NULL;
	int code = path ? virt_domain_xml(guest, VIRT_XML_MIGRATABLE, &xml, err) : err->code;

	return code < 0 ? code :
			  file_write_all(path, xml, strlen(xml), 0600, true, "recover.definition",
					 err);
}

/* What stands in the definition of a disk at its new place. */
static int source_of(const struct record *rec, const struct record_disk *d, struct virt_source *s,
		     struct target *t, struct err *err)
{
	int code = target_of(rec, d, t, err);

	if (code < 0)
		return code;
	if (t->kind == VIRT_TARGET_NBD && !t->socket)
		return err_set(err, ERR_UNSUPPORTED,
			       "guest '%s' is off, and a definition with disks on nbd://%s is not "
			       "made by this version",
			       rec->domain, t->host);
	*s = (struct virt_source){ .target = d->target,
				   .kind = t->kind == VIRT_TARGET_NBD	? VIRT_SOURCE_NBD :
					   t->kind == VIRT_TARGET_BLOCK ? VIRT_SOURCE_BLOCK :
									  VIRT_SOURCE_FILE,
				   .socket = t->socket,
				   .export_name = t->export_name,
				   .path = t->path,
				   .format = t->format };
	return 0;
}

static int define_off(const struct record *rec, struct virt *v, struct err *err)
{
	cleanup_free char *path = definition_path(rec, err), *xml = NULL;
	struct virt_source sources[VIRT_DISKS_MAX];
	struct target targets[VIRT_DISKS_MAX];
	cleanup_buf struct buf kept = BUF_INIT;
	size_t n = 0, i;
	int code = path ? file_read_all(path, VIRT_XML_MAX, &kept, err) : err->code;

	for (; code == 0 && n < rec->ndisks; n++)
		code = source_of(rec, &rec->disks[n], &sources[n], &targets[n], err);
	if (code == 0)
		code = virt_xml_set_sources((const char *)kept.data, kept.len, sources, (unsigned)n,
					    &xml, err);
	for (i = 0; i < n; i++)
		target_release(&targets[i]);
	return code < 0 ? code : virt_domain_define(v, xml, NULL, err);
}

/* --- without the guest --- */

static char *offline_source(const struct record *rec, const struct record_disk *d)
{
	cleanup_free char *name = NULL;

	if (d->file)
		return str_dup(d->file);
	name = disk_export(rec, d);
	return name ? str_printf("nbd+unix:///%s?socket=%s", name, rec->socket) : NULL;
}

/* A local overlay says nothing about what lies below it: the definition did. */
static int copy_local(const struct record *rec, const struct record_disk *d, const char *to,
		      struct err *err)
{
	cleanup_free char *name = disk_export(rec, d);
	cleanup_free char *below =
		name ? str_printf("json:{\"driver\":\"qcow2\",\"file\":{\"driver\":"
				  "\"file\",\"filename\":\"%s\"},\"backing\":{"
				  "\"driver\":\"raw\",\"file\":{\"driver\":\"nbd\","
				  "\"export\":\"%s\",\"server\":{\"type\":\"unix\","
				  "\"path\":\"%s\"}}}}",
				  d->file, name, rec->socket) :
		       NULL;
	const char *const argv[] = { "qemu-img", "convert",   "-n",  "-t", "writeback",
				     "-O",	 rec->format, below, to,   NULL };
	cleanup_buf struct buf out = BUF_INIT;

	return below ? proc_run(argv, &out, 65536, err) : err_nomem(err, "source");
}

/* The overlay goes after this. */
static int make_durable(const char *path, struct err *err)
{
	cleanup_fd int fd = file_open(path, O_RDWR, 0, err);
	cleanup_free char *folder = str_dup(path);
	char *slash = folder ? strrchr(folder, '/') : NULL;
	int code = fd < 0 ? fd : file_datasync(fd, path, "recover.target.sync", err);

	if (code < 0 || !slash)
		return code;
	*slash = 0;
	return dir_sync(slash == folder ? "/" : folder, "recover.target.dirsync", err);
}

static int copy_offline(const struct record *rec, const struct record_disk *d, struct err *err)
{
	cleanup_free char *from = offline_source(rec, d);
	const char *to = str_starts(d->moved_to, "nbd:") ? d->moved_to + 4 : d->moved_to;
	/* without -t it would write with a cache that is never flushed */
	const char *const argv[] = { "qemu-img", "convert", "-n",	 "-t", "writeback", "-f",
				     "raw",	 "-O",	    rec->format, from, to,	    NULL };
	cleanup_buf struct buf out = BUF_INIT;
	int code;

	if (!from)
		return err_nomem(err, "source");
	code = d->file ? copy_local(rec, d, to, err) : proc_run(argv, &out, 65536, err);
	if (code == 0 && to == d->moved_to)
		code = make_durable(to, err);
	return code < 0 ? err_prefix(err, "disk '%s'", d->name) : 0;
}

/* An image that a copy left half full is made anew, so that nothing of it is taken for the disk. */
static int target_again(const struct record *rec, const struct record_disk *d, struct err *err)
{
	if (d->moved_block || str_starts(rec->to, "nbd:") || str_starts(rec->to, "pool:"))
		return 0;
	return MIN(file_unlink(d->moved_to, "recover.target.unlink", err), 0);
}

static int finish_offline(struct recovery *r, struct work *work, const struct migrate_spec *spec,
			  struct err *err)
{
	struct record *rec = &r->rec;
	size_t i;
	int code = 0;

	if (spec->note)
		spec->note(spec->opaque,
			   "the guest is off: its disks are copied from the repository, and it is "
			   "defined, off");
	for (i = 0; code == 0 && i < rec->ndisks; i++)
		code = target_again(rec, &rec->disks[i], err);
	if (code == 0)
		code = targets_make(r, work->v, err);
	if (code == 0)
		code = servers_start(r->repo, rec, false, work->cache, work->stop, err);
	for (i = 0; code == 0 && i < rec->ndisks; i++) {
		code = copy_offline(rec, &rec->disks[i], err);
		if (code == 0 && work->stop && *work->stop)
			code = err_set(err, *work->stop, "stopped");
	}
	if (code == 0)
		code = stopped_here("recover.migrate.offline", err);
	if (code == 0)
		code = define_off(rec, work->v, err);
	return code < 0 ? code : recovery_set_state(r, RECOVERY_MIGRATED, err);
}

/* --- copying --- */

static int copy_begin(const struct record *rec, const struct record_disk *d,
		      struct virt_domain *guest, struct err *err)
{
	struct virt_copy_status s;
	struct virt_target to;
	struct target t;
	int code = virt_copy_status(guest, d->target, &s, err);

	if (code < 0 || s.state == VIRT_COPY_RUNNING || s.state == VIRT_COPY_READY)
		return code;
	code = target_of(rec, d, &t, err);
	if (code < 0)
		return code;
	to = (struct virt_target){ .kind = t.kind,
				   .path = t.path,
				   .format = t.format,
				   .host = t.host,
				   .port = t.port,
				   .socket = t.socket,
				   .export_name = t.export_name };
	code = virt_copy_start(guest, d->target, &to, VIRT_COPY_REUSE, rec->bandwidth, err);
	target_release(&t);
	return code < 0 ? err_prefix(err, "disk '%s'", d->name) : 0;
}

static int copies_abort(const struct record *rec, struct virt_domain *guest, struct err *err)
{
	size_t i;

	for (i = 0; i < rec->ndisks; i++)
		if (virt_copy_abort(guest, rec->disks[i].target, err) < 0)
			return err_prefix(err, "disk '%s'", rec->disks[i].name);
	return 0;
}

/* A job of somebody else's leads somewhere else. */
static int check_no_copies(const struct record *rec, struct virt_domain *guest, struct err *err)
{
	struct virt_copy_status s;
	size_t i;

	for (i = 0; i < rec->ndisks; i++) {
		int code = virt_copy_status(guest, rec->disks[i].target, &s, err);

		if (code < 0)
			return code;
		if (s.state == VIRT_COPY_RUNNING || s.state == VIRT_COPY_READY)
			return err_set(err, ERR_REFUSED,
				       "a copy of disk '%s' of guest '%s' is under way that is not "
				       "ours: 'virsh blockjob' shows it",
				       rec->disks[i].name, rec->domain);
	}
	return 0;
}

/* Adds up; returns 1 when all are READY, 0 while they are not. */
static int copies_look(const struct record *rec, struct virt_domain *guest, uint64_t *done,
		       uint64_t *total, struct err *err)
{
	size_t ready = 0, i;

	*done = *total = 0;
	for (i = 0; i < rec->ndisks; i++) {
		struct virt_copy_status s;
		int code = virt_copy_status(guest, rec->disks[i].target, &s, err);

		if (code < 0)
			return code;
		if (s.state != VIRT_COPY_RUNNING && s.state != VIRT_COPY_READY)
			return err_set(err, ERR_FAILED,
				       "the copy of disk '%s' to '%s' has failed: is there room, "
				       "and is the repository's server there?",
				       rec->disks[i].name, rec->disks[i].moved_to);
		ready += s.state == VIRT_COPY_READY;
		*done += s.done;
		*total += s.total;
	}
	return ready == rec->ndisks;
}

/* Is the guest there?  Anything but a clear no is a yes or an error. */
static int guest_there(struct virt_domain *guest, struct virt_status *s, struct err *err)
{
	int code = virt_domain_status(guest, s, err);

	return code < 0 ? code : s->state != VIRT_GONE && s->state != VIRT_OFF;
}

/* Waits until all are READY.  Returns 1, or 0 if the guest has gone. */
static int copies_wait(struct recovery *r, struct work *work, const struct migrate_spec *spec,
		       struct err *err)
{
	for (;;) {
		struct err local = ERR_INIT;
		struct virt_status s;
		uint64_t done = 0, total = 0;
		int code = copies_look(&r->rec, work->guest, &done, &total, &local);
		int there = guest_there(work->guest, &s, err);

		if (there <= 0)
			return there;
		if (code < 0) {
			*err = local;
			return code;
		}
		if (spec->progress)
			spec->progress(spec->opaque, done, total);
		if (code == 1)
			return 1;
		if (work->stop && *work->stop)
			return err_set(err, *work->stop,
				       "stopped; the copy goes on: "
				       "'livepoint migrate' takes it up again");
		time_sleep_ms(TICK_MS);
	}
}

/* --- the switch --- */

static int disk_moved(const struct record_disk *d, struct virt_domain *guest, bool *moved,
		      struct err *err)
{
	cleanup_ptr(virt_xml_info) info = NULL;
	cleanup_free char *xml = NULL;
	const struct virt_xml_disk *x;
	int code = virt_domain_xml(guest, VIRT_XML_LIVE, &xml, err);

	if (code == 0)
		code = virt_xml_read(xml, strlen(xml), &info, err);
	if (code < 0)
		return code;
	x = virt_xml_find_disk(info, d->target);
	*moved = x && record_disk_at_target(x, d);
	return 0;
}

static int pivot_one(const struct record *rec, const struct record_disk *d,
		     struct virt_domain *guest, struct err *err)
{
	uint64_t end = time_mono_ns() + SETTLE_MS * UINT64_C(1000000);
	struct err local = ERR_INIT;
	bool moved = false;
	int code = disk_moved(d, guest, &moved, err);

	while (code == 0 && !moved) {
		int r = copy_begin(rec, d, guest, &local); /* one that has died since */

		if (r == 0)
			r = virt_copy_pivot(guest, d->target, &local);

		code = disk_moved(d, guest, &moved, err);
		if (code == 0 && !moved && (r < 0 && time_mono_ns() > end)) {
			*err = local;
			return err_prefix(err, "disk '%s'", d->name);
		}
		if (code == 0 && !moved)
			time_sleep_ms(TICK_MS);
	}
	return code;
}

static int count_moved(const struct record *rec, struct virt_domain *guest, size_t *n,
		       struct err *err)
{
	bool moved;
	size_t i;

	for (*n = i = 0; i < rec->ndisks; i++) {
		int code = disk_moved(&rec->disks[i], guest, &moved, err);

		if (code < 0)
			return code;
		*n += moved;
	}
	return 0;
}

/* All pivoted, or as before; the guest is suspended. */
static int pivot_all(struct recovery *r, struct virt_domain *guest, struct err *err)
{
	size_t i;
	int code = 0;

	for (i = 0; code == 0 && i < r->rec.ndisks; i++) {
		code = pivot_one(&r->rec, &r->rec.disks[i], guest, err);
		if (code == 0)
			code = stopped_here("recover.migrate.pivoted", err);
	}
	if (code == 0)
		code = virt_domain_persist(guest, err);
	if (code == 0)
		code = stopped_here("recover.migrate.persisted", err);
	return code < 0 ? code : recovery_set_state(r, RECOVERY_MIGRATED, err);
}

/* All disks lie at their targets: the guest is persistent, and runs if it was only suspended. */
static int moved_already(struct recovery *r, struct virt_domain *guest, struct err *err)
{
	struct virt_status s;
	int code = guest_there(guest, &s, err), there = code;

	if (there > 0)
		code = virt_domain_persist(guest, err);
	if (code >= 0 && r->rec.state != RECOVERY_MIGRATED)
		code = recovery_set_state(r, RECOVERY_MIGRATED, err);
	if (code >= 0 && there > 0 && s.state == VIRT_PAUSED)
		code = guest_resume(guest, RESUME_MS, NULL, err);
	return code < 0 ? code : there;
}

int migrate_settle(struct recovery *r, struct virt_domain *guest, struct err *err)
{
	struct virt_status s;
	size_t moved = 0;
	int code = guest_there(guest, &s, err), there = code;

	/* nobody may write while it is not said where the truth is; and a pivot whose caller died is waited for */
	if (there > 0)
		code = virt_domain_suspend(guest, err);
	if (code >= 0)
		code = count_moved(&r->rec, guest, &moved, err);
	if (code < 0)
		return code;
	if (moved == r->rec.ndisks)
		return moved_already(r, guest, err);
	if (there == 0)
		return 0;
	if (moved ==
	    0) { /* it runs before the record says so: from there nobody would let it run again */
		code = guest_resume(guest, RESUME_MS, NULL, err);
		if (code >= 0)
			code = recovery_set_state(r, RECOVERY_MIGRATING, err);
		return code < 0 ? code : 1;
	}
	code = pivot_all(r, guest, err);
	if (code == 0)
		code = guest_resume(guest, RESUME_MS, NULL, err);
	return code < 0 ? code : 1;
}

static int switch_over(struct recovery *r, struct work *work, struct err *err)
{
	struct err local = ERR_INIT;
	uint64_t done, total;
	int code = note_write(r, err), back; /* for who lets it run if this process dies */

	if (code == 0)
		code = watch_start(r->rec.connection, err);
	if (code == 0)
		code = recovery_set_state(r, RECOVERY_PIVOTING, err);
	if (code < 0)
		return code;
	code = stopped_here("recover.migrate.ready", err);
	if (code == 0)
		code = virt_domain_suspend(work->guest, err);
	if (code == 0)
		code = stopped_here("recover.migrate.suspended", err);
	if (code == 0) { /* nobody has looked since they were READY */
		code = copies_look(&r->rec, work->guest, &done, &total, err);
		if (code == 0)
			code = err_set(err, ERR_FAILED, "a copy is not ready any more");
		code = MIN(code, 0);
	}
	if (code == 0)
		code = pivot_all(r, work->guest, err);
	if (code == 0)
		return guest_resume(work->guest, RESUME_MS, NULL, err) < 0 ? err->code : 0;
	back = migrate_settle(r, work->guest, &local);
	if (back < 0)
		log_warning("%s; the watcher tries again", local.text);
	return r->rec.state == RECOVERY_MIGRATED && back == 1 ? 0 : code;
}

/* --- the whole --- */

static int take_back(struct recovery *r, struct work *work, struct err *err)
{
	struct err local = ERR_INIT;
	size_t moved = 0;
	int code = work->guest ? 0 : guest_find(work->v, &r->rec, &work->guest, &local);

	/* a guest that was defined or pivoted meanwhile stands on the targets */
	if (code == 0 && work->guest)
		code = count_moved(&r->rec, work->guest, &moved, &local);
	if (code == 0 && moved)
		code = err_set(&local, ERR_REFUSED,
			       "a disk of the guest lies at its target already");
	if (code == 0 && work->guest)
		code = copies_abort(&r->rec, work->guest, &local);
	if (code == 0)
		code = targets_remove(&r->rec, work->v, &local);
	if (code < 0) {
		log_warning("%s; nothing is taken back: 'livepoint migrate' goes on, 'livepoint "
			    "migrate --abort' tries again",
			    local.text);
		return err->code ? err->code : code;
	}
	if (migrate_definition_remove(&r->rec, &local) < 0 ||
	    recovery_set_state(r, work->guest ? RECOVERY_RUNNING : RECOVERY_ENDED, &local) < 0)
		log_warning("%s; 'livepoint migrate --abort' tries again", local.text);
	return err->code;
}

/* MIGRATING: copies until the record says MIGRATED. */
static int copy_all(struct recovery *r, struct work *work, const struct migrate_spec *spec,
		    struct err *err)
{
	size_t i;
	int code = targets_make(r, work->v, err);

	if (code == 0)
		code = stopped_here("recover.migrate.targets", err);
	if (code == 0 && !work->guest)
		return finish_offline(r, work, spec, err);
	for (i = 0; code == 0 && i < r->rec.ndisks; i++)
		code = copy_begin(&r->rec, &r->rec.disks[i], work->guest, err);
	if (code == 0)
		code = stopped_here("recover.migrate.copying", err);
	if (code == 0)
		code = copies_wait(r, work, spec, err);
	else if (guest_there(work->guest, &(struct virt_status){ 0 }, &(struct err)ERR_INIT) == 0)
		code = 0; /* it powered off under our hands */
	if (code == 0) {
		virt_domain_free(work->guest);
		work->guest = NULL;
		return finish_offline(r, work, spec, err);
	}
	if (code == 1)
		code = switch_over(r, work, err);
	return code;
}

static int begin(struct recovery *r, struct work *work, const struct migrate_spec *spec,
		 struct err *err)
{
	int code;

	if (!spec->to)
		return err_set(err, ERR_USAGE, "where to?  --to FILE, DIR, pool:NAME or nbd:URI");
	if (!work->guest)
		return err_set(err, ERR_REFUSED,
			       "guest '%s' is off: 'livepoint recover --resume %s' boots it, or "
			       "'livepoint seal' and 'livepoint restore' copy its disks",
			       r->rec.domain, r->rec.id);
	code = check_no_copies(&r->rec, work->guest, err);
	if (code == 0)
		code = targets_choose(&r->rec, spec->to, spec->format, err);
	if (code == 0) {
		r->rec.bandwidth = spec->bandwidth;
		code = definition_keep(&r->rec, work->guest, err);
	}
	if (code == 0)
		code = recovery_set_state(r, RECOVERY_MIGRATING, err);
	if (code < 0)
		targets_remove(&r->rec, work->v, NULL);
	return code;
}

static int check_again(const struct record *rec, const struct migrate_spec *spec, struct err *err)
{
	size_t n = rec->to ? strlen(rec->to) : 0, k = spec->to ? strlen(spec->to) : 0;

	/* a relative path was made absolute */
	if (spec->to && (k > n || strcmp(rec->to + n - k, spec->to) != 0))
		return err_set(
			err, ERR_REFUSED,
			"guest '%s' is being migrated to '%s': let that finish, or end it with "
			"--abort",
			rec->domain, rec->to);
	return 0;
}

static int abort_it(struct recovery *r, struct work *work, struct err *err)
{
	if (r->rec.state == RECOVERY_PIVOTING && work->guest &&
	    migrate_settle(r, work->guest, err) < 0)
		return err->code;
	if (r->rec.state == RECOVERY_MIGRATED)
		return err_set(err, ERR_REFUSED, "guest '%s' has been moved already",
			       r->rec.domain);
	if (r->rec.state != RECOVERY_MIGRATING && r->rec.state != RECOVERY_PIVOTING)
		return err_set(err, ERR_REFUSED, "guest '%s' is not being migrated", r->rec.domain);
	err_clear(err);
	return take_back(r, work, err);
}

static bool may_fail_back(int code)
{
	/* ERR_IO: libvirt does not answer, and nobody knows what the guest's disks are doing */
	return code < 0 && code != ERR_INTERRUPTED && code != ERR_TERMINATED && code != ERR_IO;
}

static int run(struct recovery *r, struct work *work, const struct migrate_spec *spec,
	       struct err *err)
{
	size_t moved = 0;
	int code = 0;

	switch (r->rec.state) {
	case RECOVERY_RUNNING:
	case RECOVERY_ENDED:
		code = begin(r, work, spec, err);
		break;
	case RECOVERY_MIGRATING:
	case RECOVERY_PIVOTING:
	case RECOVERY_MIGRATED:
		code = check_again(&r->rec, spec, err);
		break;
	case RECOVERY_PREPARED:
	case RECOVERY_STARTING:
	case RECOVERY_STATES:
		code = err_set(err, ERR_REFUSED, "recovery '%s' has not started: --resume it first",
			       r->rec.id);
		break;
	}
	if (code == 0 && work->guest)
		code = count_moved(&r->rec, work->guest, &moved, err);
	if (code < 0)
		return code;
	if (work->guest && moved == r->rec.ndisks)
		code = moved_already(r, work->guest, err);
	else if (r->rec.state == RECOVERY_PIVOTING && work->guest)
		code = migrate_settle(r, work->guest, err);
	if (code >= 0 && r->rec.state == RECOVERY_PIVOTING)
		code = recovery_set_state(r, RECOVERY_MIGRATING, err);
	if (code >= 0 && r->rec.state == RECOVERY_MIGRATING)
		code = copy_all(r, work, spec, err);
	if (may_fail_back(code) && r->rec.state == RECOVERY_MIGRATING)
		return take_back(r, work, err);
	return MIN(code, 0);
}

/* The record goes with the overlay: until then this is done again by the next call. */
static int clean(struct recovery *r, struct work *work, struct err *err)
{
	int code = stopped_here("recover.migrate.clean", err);

	targets_refresh(&r->rec, work->v);
	if (code == 0)
		code = migrate_definition_remove(&r->rec, err);
	return code < 0 ? code : recovery_remove(r, NULL, err);
}

int recover_migrate(struct repo *repo, const struct migrate_spec *spec, struct recovery_info *out,
		    struct err *err)
{
	cleanup_recovery struct recovery r = RECOVERY_INIT(repo);
	struct work work = { .cache = NULL, .stop = spec->stop };
	int code = recovery_open(repo, spec->which, 2000, &r, err);

	if (code == 0)
		code = check_here(&r.rec, err);
	if (code == 0)
		code = virt_open(r.rec.connection, &work.v, err);
	if (code == 0)
		code = guest_find(work.v, &r.rec, &work.guest, err);
	if (code == 0)
		code = spec->abort ? abort_it(&r, &work, err) : run(&r, &work, spec, err);
	if (code == 0)
		code = info_fill(r.folder, &r.rec, out, err);
	if (code == 0 && r.rec.state == RECOVERY_MIGRATED)
		code = clean(&r, &work, err);
	virt_domain_free(work.guest);
	virt_close(work.v);
	return code;
}
