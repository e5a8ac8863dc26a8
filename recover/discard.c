// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The end of a recovery: nothing of it stays.
 *
 * Order: guest, note, network, files, link and servers, overlay.  The record goes with the overlay's folder, last: until then
 * a discard that died can be called again.
 */
#include "recover/internal.h"

#include <stdlib.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"

#include "base/banned.h"

#define DETACH_MS 15000 /* the server lets an overlay go when it sees the guest's connection end */
#define TICK_MS 100

static int step(const char *fault, struct err *err)
{
	return fault_hit(fault) ? err_set(err, ERR_IO, "stopped by a fault point") : 0;
}

static int remove_guest(struct recovery *r, struct virt *v, struct err *err)
{
	cleanup_ptr(virt_domain) guest = NULL;
	int code = guest_find(v, &r->rec, &guest, err);

	if (code == 0 && guest)
		code = guest_end(guest, err);
	if (code == 0)
		code = step("recover.discard.guest", err);
	if (code == 0 && r->rec.isolated) {
		code = virt_network_destroy(v, r->rec.isolated, err);
		code = MIN(code, 0);
	}
	return code;
}

static int remove_overlay(struct recovery *r, struct err *err)
{
	unsigned waited = 0;
	int code;

	while ((code = repo_overlay_discard(r->repo, r->rec.overlay, err)) == ERR_LOCKED &&
	       waited < DETACH_MS) {
		time_sleep_ms(TICK_MS);
		waited += TICK_MS;
	}
	if (code == ERR_NOT_FOUND)
		code = 0;
	return code;
}

int recovery_remove(struct recovery *r, struct virt *v, struct err *err)
{
	int code = v ? remove_guest(r, v, err) : 0;

	if (code == 0)
		code = note_remove(r->rec.id, err);
	if (code == 0)
		code = host_files_remove(&r->rec, err);
	if (code == 0)
		code = step("recover.discard.files", err);
	if (code == 0)
		code = servers_release(r->repo, &r->rec, err);
	if (code == 0)
		code = step("recover.discard.servers", err);
	if (code == 0 && r->rec.overlay[0])
		code = remove_overlay(r, err);
	else if (code == 0)
		code = MIN(dir_remove_flat(r->folder, "recover.folder.remove", err), 0);
	return code < 0 ? err_prefix(err, "recovery '%s'", r->rec.id) : 0;
}

/* True for an id or name of an overlay that has the record's. */
static int find_by_overlay(struct repo *repo, const char *which, char id[OVERLAY_ID_LEN + 1],
			   struct err *err)
{
	struct overlay_info *o = NULL;
	int code = repo_overlay_find(repo, which, &o, err);

	if (code < 0)
		return code;
	str_copy(id, OVERLAY_ID_LEN + 1, o->id);
	overlay_infos_free(o, 1);
	return 0;
}

static int open_any(struct repo *repo, const char *which, struct recovery *r, struct err *err)
{
	char overlay[OVERLAY_ID_LEN + 1];
	struct err local = ERR_INIT;
	int code = recovery_open(repo, which, 2000, r, &local);

	if (code == ERR_NOT_FOUND && find_by_overlay(repo, which, overlay, err) == 0) {
		err_clear(&local);
		code = recovery_open(repo, overlay, 2000, r, &local);
	}
	err_clear(err);
	if (code == ERR_NOT_FOUND)
		return 0;
	if (code < 0)
		*err = local;
	return code < 0 ? code : 1;
}

/* A migration that died at its very end left the guest suspended: the record that says so goes now. */
static int wake_moved(const struct record *rec, struct err *err)
{
	cleanup_ptr(virt_domain) guest = NULL;
	cleanup_ptr(virt) v = NULL;
	struct virt_status s;
	int code = virt_open(rec->connection, &v, err);

	if (code == 0)
		code = guest_find(v, rec, &guest, err);
	if (code == 0 && guest)
		code = virt_domain_status(guest, &s, err);
	if (code == 0 && guest && s.state == VIRT_PAUSED)
		code = guest_resume(guest, DETACH_MS, NULL, err);
	return MIN(code, 0);
}

int recover_discard(struct repo *repo, const char *which, char id[RECOVERY_ID_LEN + 1],
		    struct err *err)
{
	cleanup_recovery struct recovery r = RECOVERY_INIT(repo);
	cleanup_ptr(virt) v = NULL;
	cleanup_free char *host = NULL;
	int found = open_any(repo, which, &r, err);
	int code;

	if (found <= 0)
		return found;
	code = check_here(&r.rec, err);
	if (code == 0 && (r.rec.state == RECOVERY_MIGRATING || r.rec.state == RECOVERY_PIVOTING))
		code = err_set(err, ERR_REFUSED,
			       "guest '%s' is being migrated: let it finish, or end that with "
			       "'livepoint migrate --abort %s'",
			       r.rec.domain, r.rec.id);
	if (code == 0)
		code = host_name(&host, err);
	/* elsewhere nothing runs, as check_here() knows; and one that was moved is nobody's to end */
	if (code == 0 && strcmp(host, r.rec.host) == 0 && r.rec.state != RECOVERY_MIGRATED)
		code = virt_open(r.rec.connection, &v, err);
	if (code == 0 && strcmp(host, r.rec.host) == 0 && r.rec.state == RECOVERY_MIGRATED)
		code = wake_moved(&r.rec, err);
	if (code == 0)
		code = recovery_remove(&r, v, err);
	if (code < 0)
		return code;
	str_copy(id, RECOVERY_ID_LEN + 1, r.rec.id);
	return 1;
}
