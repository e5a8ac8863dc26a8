// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Proof by booting: a point is booted from the repository, and what is seen is stored with it.
 *
 * One boot is a recovery that never gets further than `starting`: its record (docs/PROTOCOL.md, Recoveries), overlay and guest are
 * called verify- and the id.  It has no note, so that no watcher looks after it; a clean end removes it as discard does.  The
 * guest ends with our connection to libvirt, so with this process.  What else a killed one leaves is found by its name by
 * the next run, or by discard.  All guests of a run are looked at in turn by one thread, several times a second.
 *
 * Invariants:
 *  1. No guest of a proof has a way out: its network is isolated, or its cables are not plugged in.
 *  2. A verdict is of what was seen: without a sign of life that was waited for, nothing has passed.
 *  3. QEMU is not told to reconnect, and there is no proxy: a read that fails ends the proof at once.
 */
#include "recover/boot-internal.h"

#include <stdlib.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "virt/accel.h"

#include "base/banned.h"

#define CACHE_BYTES (16 * MiB) /* for this process: configuration and first sectors */
#define TICK_MS 200
#define ORPHAN_SECONDS                                                                             \
	60 /* an overlay without a record may belong to a run that is about to write it */
#define LOGIN "login:"

bool record_is_boot(const struct record *rec)
{
	return rec->domain && str_starts(rec->domain, BOOT_PREFIX) &&
	       strcmp(rec->domain + strlen(BOOT_PREFIX), rec->id) == 0;
}

/* --- what a killed run left --- */

static int collect(void *opaque, const char *folder, const struct record *rec, struct err *err)
{
	struct texts *ids = opaque;

	if (!record_is_boot(rec) || recovery_is_locked(folder))
		return 0;
	return texts_add(ids, rec->id, err);
}

/* ours: the connection that there is. */
static int sweep_one(struct repo *repo, struct virt *ours, const char *id, struct err *err)
{
	cleanup_recovery struct recovery r = RECOVERY_INIT(repo);
	cleanup_ptr(virt) other = NULL;
	int code = recovery_open(repo, id, 0, &r, err);

	if (code == 0)
		code = check_here(&r.rec, err);
	if (code == 0 && strcmp(r.rec.connection, virt_uri(ours)) != 0)
		code = virt_open(r.rec.connection, &other, err);
	if (code == 0)
		code = recovery_remove(&r, other ? other : ours, err);
	if (code == 0)
		log_info("what a proof by booting left, '%s', is removed", id);
	return code;
}

/* Overlays of runs that died before they wrote a record. */
static int sweep_overlays(struct repo *repo, struct err *err)
{
	struct overlay_info *list = NULL;
	size_t count = 0, i;
	int code = repo_overlays(repo, &list, &count, err);

	for (i = 0; code == 0 && i < count; i++) {
		cleanup_free char *path =
			str_printf("%s/overlays/%s/%s", repo_path(repo), list[i].id, RECORD_FILE);
		struct err local = ERR_INIT;
		cleanup_buf struct buf text = BUF_INIT;

		if (!path) {
			code = err_nomem(err, "path");
		} else if (str_starts(list[i].name, BOOT_PREFIX) &&
			   recovery_id_valid(list[i].name + strlen(BOOT_PREFIX)) &&
			   list[i].created + ORPHAN_SECONDS < time_now() &&
			   file_read_all(path, RECORD_BYTES_MAX, &text, &local) == ERR_NOT_FOUND) {
			err_clear(&local);
			if (repo_overlay_discard(repo, list[i].id, &local) < 0)
				log_warning("%s", local.text);
		}
	}
	overlay_infos_free(list, count);
	return code;
}

static int sweep(struct repo *repo, struct virt *v, struct err *err)
{
	struct texts ids = { 0 };
	size_t i;
	int code = recovery_each(repo, collect, &ids, err);

	for (i = 0; code == 0 && i < ids.count; i++) {
		struct err local = ERR_INIT;
		int one = sweep_one(repo, v, ids.items[i], &local);

		if (one < 0 && one != ERR_LOCKED && one != ERR_NOT_FOUND && one != ERR_REFUSED)
			log_warning("what a proof by booting left, '%s', stays: %s", ids.items[i],
				    local.text);
	}
	texts_release(&ids);
	return code < 0 ? code : sweep_overlays(repo, err);
}

/* --- one boot --- */

static void boot_free(struct boot *b)
{
	size_t i;

	if (!b)
		return;
	for (i = 0; i < b->ndamage; i++)
		free(b->damage[i].other);
	free(b->damage);
	virt_domain_free(b->guest);
	plan_release(&b->plan);
	recovery_release(&b->r);
	agent_release(&b->agent);
	buf_release(&b->png);
	free(b->path);
	free(b->machine);
	free(b);
}
DEFINE_CLEANUP(boot, boot_free)

static int choose_id(struct boot *b, struct err *err)
{
	struct record *rec = &b->r.rec;
	uint8_t random[4];
	int code;

	random_bytes(random, sizeof(random));
	rec->id[0] = 'r';
	hex_encode(rec->id + 1, random, sizeof(random));
	rec->socket = servers_socket(rec->id, err);
	if (!rec->socket)
		return err->code;
	code = host_console(rec->id, &b->path, err);
	b->plan.console = b->console.path = b->path;
	return code;
}

static int make_record(struct boot *b, const char *point, struct err *err)
{
	cleanup_free char *name = NULL;
	struct recover_spec spec = { .point = point,
				     .network = "isolated",
				     .memory = b->spec->memory,
				     .identity = IDENTITY_NEW };
	struct record *rec = &b->r.rec;
	int code;

	name = str_printf("%s%s", BOOT_PREFIX, rec->id);
	if (!name)
		return err_nomem(err, "name of a guest");
	spec.as = name;
	code = plan_record(&b->plan, b->v, &spec, rec, err);
	if (code == 0)
		code = repo_overlay_create(b->r.repo, b->plan.point_id, name, rec->overlay, err);
	if (code == 0 && fault_hit("recover.boot.overlay"))
		code = err_set(err, ERR_IO, "stopped by a fault point");
	if (code < 0)
		return code;
	b->r.folder = str_printf("%s/overlays/%s", rec->repository, rec->overlay);
	if (!b->r.folder)
		return err_nomem(err, "path");
	code = recovery_lock(&b->r, 0, err);
	return code < 0 ? code : recovery_set_state(&b->r, RECOVERY_STARTING, err);
}

static char *machine_of(struct boot *b)
{
	cleanup_free char *xml = NULL;
	cleanup_ptr(virt_xml_info) info = NULL;
	struct err ignored = ERR_INIT;

	if (virt_domain_xml(b->guest, VIRT_XML_LIVE, &xml, &ignored) < 0 ||
	    virt_xml_read(xml, strlen(xml), &info, &ignored) < 0 || !info->machine)
		return NULL;
	return str_dup(info->machine);
}

static int start_guest(struct boot *b, struct err *err)
{
	struct record *rec = &b->r.rec;
	cleanup_free char *xml = NULL;
	int code = host_files_make(rec, &b->plan, err);

	if (code == 0 && rec->isolated)
		code = virt_network_isolated(b->v, rec->isolated, false, err);
	if (code == 0)
		code = servers_start(b->r.repo, rec, false, b->spec->cache, b->spec->stop, err);
	if (code == 0)
		code = plan_xml(&b->plan, rec, rec->socket, 0, true, &xml, err);
	b->begun = b->console.last = time_mono_ns();
	if (code == 0)
		code = virt_domain_create(b->v, xml, VIRT_CREATE_VALIDATE | VIRT_CREATE_AUTODESTROY,
					  &b->guest, err);
	if (code == 0 && fault_hit("recover.boot.guest"))
		code = err_set(err, ERR_IO, "stopped by a fault point");
	if (code == 0)
		b->machine = machine_of(b);
	return code;
}

/* Nothing of it stays. */
static int boot_remove(struct boot *b, struct err *err)
{
	virt_domain_free(b->guest);
	b->guest = NULL;
	if (b->r.folder && b->r.lock_fd >= 0)
		return recovery_remove(&b->r, b->v, err);
	if (b->r.rec.overlay[0])
		return repo_overlay_discard(b->r.repo, b->r.rec.overlay, err);
	return 0;
}

static void take_back(struct boot *b)
{
	struct err local = ERR_INIT;

	if (boot_remove(b, &local) < 0)
		log_warning("%s; 'livepoint discard %s%s' tries again", local.text, BOOT_PREFIX,
			    b->r.rec.id);
}

static int boot_start(struct repo *repo, struct virt *v, enum virt_accel_kind accel,
		      const struct boot_spec *spec, const char *point, struct boot **out,
		      struct err *err)
{
	cleanup_ptr(boot) b = mem_alloc(sizeof(*b));
	int code;

	if (!b)
		return err_nomem(err, "a boot");
	b->r = (struct recovery)RECOVERY_INIT(repo);
	b->v = v;
	b->spec = spec;
	b->seconds = -1;
	b->criterion = spec->wait == BOOT_WAIT_MARKER  ? "marker" :
		       spec->wait == BOOT_WAIT_AGENT   ? "agent" :
		       spec->wait == BOOT_WAIT_SECONDS ? "seconds" :
							 "agent or login";
	b->console.marker = spec->wait == BOOT_WAIT_MARKER  ? spec->marker :
			    spec->wait == BOOT_WAIT_DEFAULT ? LOGIN :
							      NULL;
	b->plan.accel = accel;
	b->plan.note = spec->note;
	b->plan.opaque = spec->opaque;
	code = choose_id(b, err);
	if (code == 0)
		code = plan_open(repo, v, point, &b->plan, err);
	if (code == 0)
		code = make_record(b, point, err);
	if (code == 0)
		code = start_guest(b, err);
	if (code < 0) {
		take_back(b);
		return err_prefix(err, "'%s'", point);
	}
	*out = steal_ptr(b);
	return 0;
}

/* --- looking --- */

static double seconds_since(uint64_t begun)
{
	return (double)(time_mono_ns() - begun) / 1e9;
}

/* Fills damage with what the server has logged for this guest and cannot be read. */
static int look_for_damage(struct boot *b, struct err *err)
{
	struct serve_export front = { 0 }, shared = { 0 };
	size_t kept = 0, i;
	int code;

	if (b->ndamage)
		return 0;
	code = servers_find(b->r.rec.id, &front, &shared, err);
	if (code <= 0)
		return code;
	code = damage_read(&b->r.rec, &shared, repo_conf(b->r.repo)->chunk_size, &b->log_at,
			   &b->damage, &b->ndamage, err);
	for (i = 0; code == 0 && i < b->ndamage; i++)
		if (damage_is_there(&shared, b->r.rec.point, &b->damage[i]))
			b->damage[kept++] = b->damage[i];
	b->ndamage = kept;
	for (i = 0; code == 0 && i < kept; i++)
		code = damage_find_other(b->r.repo, &shared, &b->r.rec, &b->damage[i], err);
	serve_export_release(&front);
	serve_export_release(&shared);
	return code;
}

static void say_damage(struct boot *b)
{
	const struct recovery_damage *d = &b->damage[0];

	boot_failed(b, "disk '%s' of %s is damaged from byte %llu to %llu%s; %s%s%s", d->disk,
		    b->r.rec.point, (unsigned long long)d->start,
		    (unsigned long long)(d->start + d->length),
		    b->ndamage > 1 ? ", and elsewhere" : "",
		    d->other ? "point " : "no other point of that name has the range undamaged",
		    d->other ? d->other : "", d->other ? " has that range whole" : "");
}

/* Is the criterion met? */
static bool has_booted(struct boot *b)
{
	switch (b->spec->wait) {
	case BOOT_WAIT_MARKER:
		return b->console.met;
	case BOOT_WAIT_AGENT:
		return agent_ask(&b->agent, b->guest);
	case BOOT_WAIT_SECONDS:
		return seconds_since(b->begun) >= b->spec->seconds;
	case BOOT_WAIT_DEFAULT:
		break;
	}
	if (agent_ask(&b->agent, b->guest)) {
		b->criterion = "agent";
		return true;
	}
	if (b->console.met)
		b->criterion = "login";
	return b->console.met;
}

/* The guest has booted; true when nothing is left to be done with it. */
static bool run_command(struct boot *b)
{
	const struct boot_spec *s = b->spec;
	struct agent *a = &b->agent;

	if (s->exec && (!agent_ask(a, b->guest) || !agent_exec(a, b->guest, s->exec)))
		return false;
	if (s->exec && a->problem[0])
		boot_failed(b, "the command cannot be run: %s", a->problem);
	else if (s->exec && a->status != 0)
		boot_failed(b, "the command ended with status %lld", (long long)a->status);
	else if (s->exec && s->expect && !agent_said(a, s->expect))
		boot_failed(b, "the command printed nothing with '%.100s' in it", s->expect);
	else
		boot_passed(b);
	return true;
}

static void say_late(struct boot *b)
{
	const struct boot_spec *s = b->spec;

	if (b->seconds >= 0)
		boot_failed(b,
			    b->agent.answers ?
				    "it booted, but the command did not end within %u s" :
				    "it booted, but no guest agent answered within %u s",
			    s->timeout);
	else if (s->wait == BOOT_WAIT_MARKER)
		boot_failed(b, "no line of the console ended in '%s' within %u s", s->marker,
			    s->timeout);
	else if (s->wait == BOOT_WAIT_AGENT)
		boot_failed(b, "no guest agent answered within %u s", s->timeout);
	else if (s->wait == BOOT_WAIT_SECONDS)
		boot_failed(b, "the time limit of %u s came first", s->timeout);
	else
		boot_failed(
			b,
			"within %u s no guest agent answered and no line of the console ended in '" LOGIN
			"'",
			s->timeout);
}

/* Returns 1 when the verdict is known. */
static int boot_look(struct boot *b, struct err *err)
{
	struct virt_status now;
	int code = virt_domain_status(b->guest, &now, err);

	if (code == 0)
		code = console_read(&b->console, err);
	if (code < 0)
		return code;
	if (now.state == VIRT_PAUSED && now.reason == VIRT_REASON_IO_ERROR) {
		boot_failed(b, "a disk gave an I/O error after %.1f s", seconds_since(b->begun));
		return 1;
	}
	if (now.state != VIRT_RUNNING) {
		boot_failed(b, "it stopped, or began anew, after %.1f s", seconds_since(b->begun));
		return 1;
	}
	if (b->seconds < 0 && has_booted(b))
		b->seconds = seconds_since(b->begun);
	if (b->seconds >= 0 && run_command(b))
		return 1;
	if (seconds_since(b->begun) < b->spec->timeout)
		return 0;
	say_late(b);
	return 1;
}

/* The verdict is stored before anything is removed. */
static int boot_finish(struct boot *b, struct err *err)
{
	int code = look_for_damage(b, err);

	if (code == 0 && b->ndamage)
		say_damage(b);
	boot_screenshot(b);
	if (code == 0)
		code = boot_verdict(b, err);
	if (code < 0) {
		take_back(b);
		return code;
	}
	return boot_remove(b, err);
}

/* --- many --- */

struct boot_run {
	struct repo *repo;
	const struct boot_spec *spec;
	struct virt *v; /* owned */
	enum virt_accel_kind accel;
	struct boot *active[BOOT_PARALLEL_MAX]; /* owned */
	size_t next; /* of the points */
	size_t failed, damaged;
	char what[ERR_TEXT_MAX]; /* of the first damage, else of the first failure */
};

static void run_release(struct boot_run *run)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(run->active); i++) {
		if (run->active[i])
			take_back(run->active[i]);
		boot_free(run->active[i]);
	}
	virt_close(run->v);
}
#define cleanup_run __attribute__((cleanup(run_release)))

static void count(struct boot_run *run, const struct boot *b)
{
	if (b->passed)
		return;
	if (run->failed == 0 || (b->ndamage && run->damaged == 0))
		snprintf(run->what, sizeof(run->what), "boot failed: %.*s",
			 (int)sizeof(run->what) - 32, b->seen);
	run->failed++;
	run->damaged += b->ndamage > 0;
}

/* One turn of a slot; *busy: a guest is in it. */
static int turn(struct boot_run *run, struct boot **slot, bool *busy, struct err *err)
{
	int code;

	if (!*slot && run->next < run->spec->npoints) {
		code = boot_start(run->repo, run->v, run->accel, run->spec,
				  run->spec->points[run->next++], slot, err);
		if (code < 0)
			return code;
	}
	if (!*slot)
		return 0;
	*busy = true;
	code = boot_look(*slot, err);
	if (code <= 0)
		return code;
	code = boot_finish(*slot, err);
	count(run, *slot);
	boot_free(*slot);
	*slot = NULL;
	return code;
}

static int run_all(struct boot_run *run, struct err *err)
{
	bool busy = true;
	size_t i;
	int code = 0;

	while (busy) {
		busy = false;
		for (i = 0; code == 0 && i < run->spec->parallel; i++)
			code = turn(run, &run->active[i], &busy, err);
		if (code < 0)
			return code;
		if (run->spec->stop && *run->spec->stop)
			return err_set(err, *run->spec->stop, "stopped");
		if (busy)
			time_sleep_ms(TICK_MS);
	}
	if (!run->failed)
		return 0;
	code = run->damaged ? ERR_DAMAGED : ERR_FAILED;
	if (run->spec->npoints == 1)
		return err_set(err, code, "%s", run->what);
	return err_set(err, code, "%zu of %zu points did not pass: %s", run->failed,
		       run->spec->npoints, run->what);
}

int recover_boot(struct repo *repo, const struct boot_spec *spec, struct err *err)
{
	cleanup_run struct boot_run run = { .repo = repo, .spec = spec };
	int code;

	if (spec->parallel < 1 || spec->parallel > BOOT_PARALLEL_MAX)
		return err_set(err, ERR_USAGE, "1 to %d guests at a time", BOOT_PARALLEL_MAX);
	code = virt_accel_probe(&run.accel, err);
	if (code == 0)
		code = repo_start(repo, CACHE_BYTES, REPO_SERIAL, err);
	if (code == 0)
		code = virt_open(spec->connect, &run.v, err);
	if (code < 0)
		return code;
	if (!virt_is_local(run.v))
		return err_set(
			err, ERR_UNSUPPORTED,
			"'%s' is another machine: its QEMU cannot reach the sockets of this one",
			virt_uri(run.v));
	code = sweep(repo, run.v, err);
	return code < 0 ? code : run_all(&run, err);
}
