// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Recovering: from a point to a guest that runs, and again when it stopped or its starter died.
 *
 * The steps and what a kill leaves after each: docs/PROTOCOL.md, Recoveries.
 *
 * Invariants:
 *  1. recover_start() leaves either a guest that runs or nothing, unless it is killed.
 *  2. A guest is started paused, and runs when it is known that QEMU would connect anew, by itself or through the proxy.
 */
#include "recover/internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "virt/accel.h"

#include "base/banned.h"

#define RECONNECT_SECONDS 30
#define CACHE_BYTES (16 * MiB) /* for this process: configuration and first sectors */
#define RESUME_MS 60000
#define ID_TRIES 100

/* --- steps --- */

int step_make_ready(struct recovery *r, struct work *work, struct err *err)
{
	int code = note_write(r, err);

	if (code == 0)
		code = host_files_make(&r->rec, work->plan, err);
	if (code == 0 && r->rec.isolated)
		code = virt_network_isolated(work->v, r->rec.isolated, false, err);
	if (code == ERR_EXISTS)
		code = 0;
	if (code == 0 && fault_hit("recover.ready.server"))
		code = err_set(err, ERR_IO, "stopped by a fault point");
	return code < 0 ? code :
			  servers_start(r->repo, &r->rec, false, work->cache, work->stop, err);
}

/* Known from an earlier start: this libvirt drops what makes QEMU connect anew. */
static bool proxy_known(const char *connection)
{
	cleanup_free char *path = watch_file(connection, "proxy", NULL);

	return path && access(path, F_OK) == 0;
}

static void proxy_remember(const char *connection)
{
	cleanup_free char *path = watch_file(connection, "proxy", NULL);
	cleanup_fd int fd = path ? file_open(path, O_WRONLY | O_CREAT, 0600, NULL) : -1;

	(void)fd;
}

static int create_once(struct recovery *r, struct work *work, bool proxy, struct err *err)
{
	/* the schema of a libvirt that drops <reconnect> does not know it either: it would refuse instead */
	unsigned flags = VIRT_CREATE_PAUSED | (proxy ? VIRT_CREATE_VALIDATE : 0);
	cleanup_free char *xml = NULL;
	int code = servers_start(r->repo, &r->rec, proxy, work->cache, work->stop, err);

	if (code == 0)
		code = plan_xml(work->plan, &r->rec, r->rec.socket, proxy ? 0 : RECONNECT_SECONDS,
				true, &xml, err);
	if (code == 0)
		code = virt_domain_create(work->v, xml, flags, &work->guest, err);
	if (code == 0 && fault_hit("recover.guest.created"))
		code = err_set(err, ERR_IO, "stopped by a fault point");
	return code;
}

static int drop_guest(struct work *work, struct err *err)
{
	int code = guest_end(work->guest, err);

	virt_domain_free(work->guest);
	work->guest = NULL;
	return code;
}

static int create(struct recovery *r, struct work *work, struct err *err)
{
	bool proxy = proxy_known(r->rec.connection), kept = true;
	int code = create_once(r, work, proxy, err);

	if (code == 0 && !proxy)
		code = guest_reconnects(work->guest, &r->rec, &kept, err);
	if (code < 0 || kept)
		return code;
	proxy_remember(r->rec.connection);
	log_debug("libvirt drops <reconnect>: the guest is started anew, behind a proxy");
	code = drop_guest(work, err);
	return code < 0 ? code : create_once(r, work, true, err);
}

/* One that an earlier try left: good, or paused before its first instruction and without a way back to its server. */
static int take_found(struct recovery *r, struct work *work, struct err *err)
{
	struct serve_export front = { 0 }, shared = { 0 };
	struct virt_status s;
	bool kept = false;
	int code = virt_domain_status(work->guest, &s, err);
	int lives;

	if (code == 0)
		code = guest_reconnects(work->guest, &r->rec, &kept, err);
	if (code < 0)
		return code;
	lives = servers_find(r->rec.id, &front, &shared, err);
	kept = kept || (lives > 0 && front.kind == SERVE_PROXY);
	serve_export_release(&front);
	serve_export_release(&shared);
	if (lives < 0)
		return lives;
	if (kept && (s.state == VIRT_RUNNING || s.state == VIRT_PAUSED))
		return 0;
	return drop_guest(work, err);
}

int step_start_guest(struct recovery *r, struct work *work, struct err *err)
{
	int code = guest_find(work->v, &r->rec, &work->guest, err);

	if (code == 0 && work->guest)
		code = take_found(r, work, err);
	if (code == 0 && !work->guest)
		code = create(r, work, err);
	if (code == 0 && !r->rec.paused)
		code = guest_resume(work->guest, RESUME_MS, work->stop, err);
	if (code < 0)
		return code;
	text_set(&r->rec.accel, virt_accel_name(work->plan->accel));
	text_set(&r->rec.problem, NULL);
	return 0;
}

int step_note_end(struct recovery *r, struct work *work, struct err *err)
{
	(void)work;
	return note_remove(r->rec.id, err);
}

/* --- opening --- */

static void work_release(struct work *work)
{
	virt_domain_free(work->guest);
	virt_close(work->v);
}
#define cleanup_work __attribute__((cleanup(work_release)))

/* Accelerator, connection, plan. */
static int work_open(struct work *work, struct plan *plan, struct repo *repo, const char *point,
		     const char *connection, const struct recover_spec *spec, struct err *err)
{
	int code = virt_accel_probe(&plan->accel, err);

	plan->note = spec->note;
	plan->opaque = spec->opaque;
	work->plan = plan;
	work->cache = spec->cache;
	work->stop = spec->stop;
	if (code == 0)
		code = repo_start(repo, CACHE_BYTES, REPO_SERIAL, err);
	if (code == 0)
		code = virt_open(connection, &work->v, err);
	if (code < 0)
		return code;
	if (!virt_is_local(work->v))
		return err_set(
			err, ERR_UNSUPPORTED,
			"'%s' is another machine: its QEMU cannot reach the sockets of this one",
			virt_uri(work->v));
	return plan_open(repo, work->v, point, plan, err);
}

static void say_plan(const struct plan *p, const struct record *rec)
{
	plan_note(p, "accelerator: %s", virt_accel_name(p->accel));
	if (!rec->captured)
		plan_note(p,
			  "the point has no config/domain.xml: a guest is made up (%s, %s disks)",
			  p->uefi ? "UEFI" : "BIOS", rec->disk_bus ? rec->disk_bus : "virtio");
	if (rec->local_dir && repo_conf(p->repo)->suite)
		plan_note(p, "the repository is encrypted and the files in '%s' will not be",
			  rec->local_dir);
}

/* --- a new one --- */

static void new_id(char id[RECOVERY_ID_LEN + 1])
{
	uint8_t random[4];

	random_bytes(random, sizeof(random));
	id[0] = 'r';
	hex_encode(id + 1, random, sizeof(random));
}

static int check_spec(const struct recover_spec *spec, struct err *err)
{
	if (spec->network && spec->nnetworks)
		return err_set(err, ERR_USAGE, "--network %s excludes OLD=NEW", spec->network);
	if (spec->local_dir && !spec->local)
		return err_set(err, ERR_USAGE, "a folder is for local overlays");
	if (spec->as && strlen(spec->as) > 200)
		return err_set(err, ERR_USAGE, "'%s' is too long for the name of a guest",
			       spec->as);
	return 0;
}

/* The overlay, called as the recovery; or a folder below the user's state. */
static int make_place(struct recovery *r, struct plan *plan, const struct recover_spec *spec,
		      struct err *err)
{
	cleanup_free char *state = NULL;
	int code = repo_overlay_create(r->repo, plan->point_id, r->rec.id, r->rec.overlay, err);

	if (code == 0) {
		r->folder = str_printf("%s/overlays/%s", r->rec.repository, r->rec.overlay);
		return r->folder ? 0 : err_nomem(err, "path");
	}
	if (code != ERR_READONLY || !spec->local)
		return code == ERR_READONLY ?
			       err_prefix(err,
					  "--overlay local keeps the guest's writes on this host") :
			       code;
	err_clear(err);
	code = state_subfolder("recoveries", &state, err);
	if (code < 0)
		return code;
	r->folder = str_printf("%s/%s", state, r->rec.id);
	if (!r->folder)
		return err_nomem(err, "path");
	code = dir_make(r->folder, 0700, "recover.folder.make", err);
	return code < 0 ? code : 0;
}

static int begin(struct recovery *r, struct work *work, const struct recover_spec *spec,
		 struct err *err)
{
	int code = make_place(r, work->plan, spec, err);

	if (code == 0)
		code = recovery_lock(r, 0, err);
	if (code == 0)
		code = recovery_set_state(r, RECOVERY_PREPARED, err);
	return code < 0 ? code : recovery_advance(r, RECOVERY_RUNNING, work, err);
}

/* Says the first problem; what cannot be taken back is said too. */
static int take_back(struct recovery *r, struct work *work, struct err *err)
{
	struct err local = ERR_INIT;

	if (r->folder && r->lock_fd < 0)
		recovery_lock(r, 0, &local);
	virt_domain_free(work->guest);
	work->guest = NULL;
	if (r->folder && recovery_remove(r, work->v, &local) < 0)
		log_warning("%s; 'livepoint discard %s' tries again", local.text, r->rec.id);
	else if (!r->folder && r->rec.overlay[0])
		repo_overlay_discard(r->repo, r->rec.overlay, &local);
	return err->code;
}

int recover_start(struct repo *repo, const struct recover_spec *spec, struct recovery_info *out,
		  struct err *err)
{
	cleanup_recovery struct recovery r = RECOVERY_INIT(repo);
	cleanup_plan struct plan plan = { 0 };
	cleanup_work struct work work = { 0 };
	int code = check_spec(spec, err);

	if (code == 0)
		code = work_open(&work, &plan, repo, spec->point, spec->connect, spec, err);
	if (code < 0)
		return code;
	new_id(r.rec.id);
	r.rec.socket = servers_socket(r.rec.id, err);
	if (!r.rec.socket)
		return err->code;
	code = plan_record(&plan, work.v, spec, &r.rec, err);
	if (code < 0)
		return code;
	say_plan(&plan, &r.rec);
	code = begin(&r, &work, spec, err);
	if (code == 0)
		code = watch_start(r.rec.connection, err);
	if (code == 0)
		code = info_fill(r.folder, &r.rec, out, err);
	return code < 0 ? take_back(&r, &work, err) : 0;
}

int recover_plan(struct repo *repo, const struct recover_spec *spec, struct buf *text,
		 struct buf *xml, struct err *err)
{
	cleanup_record struct record rec = { 0 };
	cleanup_plan struct plan plan = { 0 };
	cleanup_work struct work work = { 0 };
	cleanup_free char *doc = NULL;
	size_t i;
	int code = check_spec(spec, err);

	if (code == 0)
		code = work_open(&work, &plan, repo, spec->point, spec->connect, spec, err);
	if (code < 0)
		return code;
	new_id(rec.id);
	str_copy(rec.overlay, sizeof(rec.overlay), "o00000000"); /* it is made later */
	rec.socket = servers_socket(rec.id, err);
	if (!rec.socket)
		return err->code;
	code = plan_record(&plan, work.v, spec, &rec, err);
	if (code < 0)
		return code;
	say_plan(&plan, &rec);
	code = plan_xml(&plan, &rec, rec.socket, RECONNECT_SECONDS, true, &doc, err);
	if (code < 0)
		return code;
	buf_printf(text, "point %s\nconnection %s\nguest %s\nuuid %s\naccelerator %s\n", rec.point,
		   rec.connection, rec.domain, rec.uuid, virt_accel_name(plan.accel));
	for (i = 0; i < rec.ndisks; i++)
		buf_printf(text, "disk %s as %s, %llu bytes%s%s\n", rec.disks[i].name,
			   rec.disks[i].target, (unsigned long long)rec.disks[i].size,
			   rec.disks[i].file ? ", writes to " : "",
			   rec.disks[i].file ? rec.disks[i].file : "");
	if (rec.nvram)
		buf_printf(text, "nvram %s\n", rec.nvram);
	buf_printf(xml, "%s", doc);
	return text->failed || xml->failed ? err_nomem(err, "plan") : 0;
}

/* --- an older one --- */

/* Of a guest that runs: server, way to it, then the guest itself. */
static int revive(struct recovery *r, struct work *work, struct err *err)
{
	struct serve_export front = { 0 }, shared = { 0 };
	bool kept = false;
	int lives = servers_find(r->rec.id, &front, &shared, err), code = 0;

	serve_export_release(&front);
	serve_export_release(&shared);
	if (lives < 0)
		return lives;
	if (!lives) {
		code = guest_reconnects(work->guest, &r->rec, &kept, err);
		if (code == 0)
			code = servers_start(r->repo, &r->rec, !kept, work->cache, work->stop, err);
	}
	if (code == 0)
		code = note_write(r, err);
	if (code == 0)
		code = guest_resume(work->guest, RESUME_MS, work->stop, err);
	if (code == 0)
		return err_set(
			err, ERR_IO, "guest '%s' is paused again and again by an I/O error: %s",
			r->rec.domain,
			r->rec.problem ? r->rec.problem : "'livepoint exports' names the log");
	if (code < 0)
		return code;
	text_set(&r->rec.problem, NULL);
	return recovery_save(r, err);
}

static int resume(struct recovery *r, struct work *work, struct err *err)
{
	int code;

	if (r->rec.state == RECOVERY_MIGRATING || r->rec.state == RECOVERY_PIVOTING ||
	    r->rec.state == RECOVERY_MIGRATED)
		return err_set(
			err, ERR_REFUSED,
			"guest '%s' is being migrated: 'livepoint migrate %s' goes on with that",
			r->rec.domain, r->rec.id);
	if (r->rec.state == RECOVERY_RUNNING) {
		code = guest_find(work->v, &r->rec, &work->guest, err);
		if (code < 0)
			return code;
		if (work->guest)
			return revive(r, work, err);
		code = recovery_advance(r, RECOVERY_ENDED, work, err);
		if (code < 0)
			return code;
	}
	return recovery_advance(r, RECOVERY_RUNNING, work, err);
}

int check_here(const struct record *rec, struct err *err)
{
	cleanup_free char *host = NULL;
	int code = host_name(&host, err);

	if (code == 0 && strcmp(host, rec->host) != 0 && rec->state != RECOVERY_PREPARED &&
	    rec->state != RECOVERY_ENDED)
		return err_set(err, ERR_REFUSED, "recovery '%s' runs on host '%s': do it there",
			       rec->id, rec->host);
	return code;
}

/* A seal moves an overlay to the new point: that one has what lies below it now. */
static int follow_point(struct recovery *r, struct err *err)
{
	struct overlay_info *o = NULL;
	int code;

	if (!r->rec.overlay[0] || r->rec.local_dir)
		return 0;
	code = repo_overlay_find(r->repo, r->rec.overlay, &o, err);
	if (code < 0)
		return code;
	if (!text_copy(&r->rec.point, o->point_text))
		code = err_nomem(err, "record");
	overlay_infos_free(o, 1);
	return code;
}

int recover_resume(struct repo *repo, const char *which, const struct recover_spec *how,
		   struct recovery_info *out, struct err *err)
{
	cleanup_recovery struct recovery r = RECOVERY_INIT(repo);
	cleanup_plan struct plan plan = { 0 };
	cleanup_work struct work work = { 0 };
	int code = recovery_open(repo, which, 2000, &r, err);

	if (code == 0)
		code = check_here(&r.rec, err);
	r.rec.paused = how->paused;
	if (code == 0 && record_is_boot(&r.rec))
		code = err_set(err, ERR_REFUSED,
			       "'%s' was a proof by booting, which has died: discard it", r.rec.id);
	if (code == 0)
		code = follow_point(&r, err);
	if (code == 0)
		code = work_open(&work, &plan, repo, r.rec.point, r.rec.connection, how, err);
	if (code == 0)
		code = resume(&r, &work, err);
	if (code == 0)
		code = watch_start(r.rec.connection, err);
	return code < 0 ? code : info_fill(r.folder, &r.rec, out, err);
}
