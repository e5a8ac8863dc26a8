/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Recoveries: guests that run on a restore point, in the time of a boot, and what becomes of them.
 *
 * A recovery is a record (overlays/ID/recovery.json, or beside the user's state for a repository that cannot be written), an
 * overlay that takes the guest's writes, files on the host (NVRAM, a local qcow2) and a transient guest of libvirt whose disks
 * are exports of the repository's shared server.  The record's state says how far it has come; each step can be done again,
 * so that a process that dies in it is followed by another (recover_resume(), recover_discard()).  docs/PROTOCOL.md has the
 * steps, with what a kill leaves after each.
 *
 * Invariants:
 *  1. The record is there, durable, before anything that it would have to clean up, but for the overlay, whose name is the
 *     recovery's id (of a proof by booting: "verify-" and the id).
 *  2. Nothing of a guest that is not ours is touched: a guest is ours if uuid and the sources of its disks are the record's.
 *  3. Who changes a recovery holds the lock of its record; nobody waits for it while holding another.
 *
 * One thread at a time.  From the first call that connects, the process has threads of libvirt.
 */
#ifndef LIVEPOINT_RECOVER_RECOVER_H
#define LIVEPOINT_RECOVER_RECOVER_H

#include "base/buf.h"
#include "base/json.h"
#include "repo/repo.h"

#define RECOVERY_ID_LEN 9 /* 'r' and eight hexadecimal digits */
/* True for the text of such an id, nothing behind it. */
bool recovery_id_valid(const char *text);

enum recovery_state {
	RECOVERY_PREPARED, /* overlay and record are there, nothing else */
	RECOVERY_STARTING, /* files on the host and the server may be there, and the guest */
	RECOVERY_RUNNING, /* the guest was started; it may be paused */
	RECOVERY_MIGRATING, /* its disks are being copied; it runs on the repository */
	RECOVERY_PIVOTING, /* all disks are ready; some may have moved */
	RECOVERY_MIGRATED, /* it is persistent on its new disks; what it leaves is being cleaned */
	RECOVERY_ENDED, /* the guest is gone; what it wrote is in the overlay */
	RECOVERY_STATES
};
const char *recovery_state_name(enum recovery_state state); /* "running" */

/* Called with a line for a person: what was chosen, and what is not as it was. */
typedef void (*recover_note_fn)(void *opaque, const char *line);

enum recover_identity {
	IDENTITY_AUTO, /* kept if the connection knows neither name nor uuid */
	IDENTITY_KEEP, /* ERR_EXISTS if it does */
	IDENTITY_NEW
};
struct recover_spec {
	const char *point; /* POINT */
	const char *as; /* name of the guest, or NULL */
	const char
		*connect; /* URI of libvirt, or NULL: root qemu:///system, others qemu:///session */
	bool local; /* writes go to qcow2 files on the host, not to the overlay */
	const char *local_dir; /* where; NULL: in the user's state folder */
	const char *network; /* "isolated", "none", or NULL: as captured but for networks[] */
	const char *const *networks; /* OLD=NEW; NEW as in struct virt_net_map */
	size_t nnetworks;
	const char *disks; /* names with commas, or NULL: all */
	const char *
		disk_bus; /* virtio, sata, scsi, ide, or NULL: as captured, virtio for a bare disk */
	const char *const *macs; /* "keep", "new", or NIC=MAC */
	size_t nmacs;
	uint64_t memory; /* bytes, 0: as captured, 2 GiB for a bare disk */
	unsigned vcpus; /* 0: as captured, 1 */
	const char *machine; /* or NULL */
	const char
		*os_info; /* of a bare disk: short id of libosinfo ("debian12", "win10"), or NULL */
	enum recover_identity identity;
	bool paused; /* stays paused before its first instruction */
	const char *cache; /* of the shared server if it is started, as in struct serve_spec */
	recover_note_fn note; /* or NULL */
	void *opaque;
	const volatile int
		*stop; /* a code there ends it, and all that was begun is taken back; may be NULL */
};

struct recovery_damage {
	char disk[DISK_NAME_MAX_LEN + 1];
	uint64_t start, length; /* bytes of the disk, whole chunks */
	char *other; /* NAME@TIME of the newest point of that name that has the range; NULL: none or not known */
	int64_t time;
};
struct recovery_info {
	char id[RECOVERY_ID_LEN + 1];
	enum recovery_state state;
	char *overlay; /* its id, or NULL: a repository that cannot be written */
	char *point; /* NAME@TIME */
	char *connection, *host, *domain, *uuid;
	char *guest; /* what libvirt says now: "running", "paused", "paused-io-error", "off", "gone"; NULL: not asked */
	char *problem; /* what keeps it from running, in a sentence, or NULL */
	char *accel; /* "kvm" or "tcg" */
	bool local; /* writes go to local files */
	bool here; /* it runs on this host */
	bool busy; /* a command is at work on it */
	bool watched; /* its watcher lives */
	uint64_t bytes; /* written: allocated by the overlay, or by the local files */
	uint64_t done, total; /* bytes of a migration; total 0: none */
	int64_t created, since; /* since: in this state */
	struct recovery_damage *damage;
	size_t ndamage;
};
void recovery_info_release(struct recovery_info *i);
void recovery_infos_free(struct recovery_info *list, size_t count);

/* --- commands --- */

/* Plans only: fills xml with what libvirt would get and text with lines for a person.  Changes nothing.  r: open, unlocked,
 * not started (a probe of the accelerator forks). */
int recover_plan(struct repo *r, const struct recover_spec *spec, struct buf *text, struct buf *xml,
		 struct err *err);
/* Recovers: returns when QEMU runs, with server and watcher.  Whatever fails takes all of it back.  r: as above, REPO_WRITE, or
 * REPO_READ with spec->local (ERR_READONLY else).  *out: recovery_info_release().  ERR_USAGE for options that contradict each other,
 * as repo_resolve(), ERR_EXISTS for a name that is taken, ERR_UNSUPPORTED, ERR_CHILD. */
int recover_start(struct repo *r, const struct recover_spec *spec, struct recovery_info *out,
		  struct err *err);
/* Goes on with one whose process died, whose guest has gone or is paused, whose server or watcher has ended.
 * which: its id, or the domain's name (ERR_AMBIGUOUS).  ERR_LOCKED while a command is at work on it. */
int recover_resume(struct repo *r, const char *which, const struct recover_spec *how,
		   struct recovery_info *out, struct err *err);
/* Ends the guest if it is ours, removes files and overlay: nothing stays.  which: a recovery, by id, or by its overlay's id or
 * name.  Returns 1 and fills id, its own, or 0 if there is no such recovery (an overlay of that name there may be). */
int recover_discard(struct repo *r, const char *which, char id[RECOVERY_ID_LEN + 1],
		    struct err *err);

/* --- migration --- */

struct migrate_spec {
	const char *which; /* the recovery's id, or the domain's name */
	const char *to; /* FILE, DIR, pool:NAME, nbd:URI; NULL: as begun before */
	const char *format; /* "raw", "qcow2"; NULL: by the name, else qcow2 */
	uint64_t bandwidth; /* bytes a second, 0: unlimited */
	bool abort; /* end the one that is under way: the guest stays on the repository, targets are removed */
	void (*progress)(void *opaque, uint64_t done, uint64_t total); /* bytes; or NULL */
	recover_note_fn note; /* or NULL */
	void *opaque;
	const volatile int
		*stop; /* a code there leaves it: the copy goes on, a later call takes it up */
};
/* Moves the guest's disks, running, and makes it persistent; its overlay and server go.  A call after one that died goes on with
 * it.  Whatever fails before the disks are switched leaves the guest on the repository, and removes what was made.  r: open,
 * unlocked, REPO_WRITE.  out: as it was before it was cleaned.  ERR_EXISTS: something stands at the target; ERR_REFUSED. */
int recover_migrate(struct repo *repo, const struct migrate_spec *spec, struct recovery_info *out,
		    struct err *err);

/* Those of the repository, oldest first; asks libvirt about those of this host, if it answers within seconds, and starts
 * watchers that have ended.  Needs no key. */
int recover_list(struct repo *r, struct recovery_info **out, size_t *count, struct err *err);

/* --- proof by booting --- */

#define BOOT_PARALLEL_MAX 32
#define BOOT_MARKER_MAX 200 /* bytes */
enum boot_wait {
	BOOT_WAIT_DEFAULT, /* the agent, or a line of the console that ends in "login:" */
	BOOT_WAIT_MARKER, /* a line of the console that ends in the marker, blanks behind it not counted */
	BOOT_WAIT_AGENT, /* the guest agent answers */
	BOOT_WAIT_SECONDS /* it runs so long: no more is proven */
};
struct boot_result {
	const char *point; /* NAME@TIME */
	bool passed;
	const char *seen; /* a sentence */
	const struct jval *verdict; /* what was stored, as in livepoint-json(5) */
	size_t png_len; /* bytes of the screenshot, 0: there is none */
};
struct boot_spec {
	const char *const *points; /* POINT */
	size_t npoints;
	const char *connect; /* as in struct recover_spec */
	enum boot_wait wait;
	const char *marker;
	unsigned seconds;
	const char *
		exec; /* a command for the guest's shell, through the agent, when it has booted; or NULL */
	const char *expect; /* text that its output must have; or NULL */
	unsigned timeout; /* seconds, for one point, all of it */
	unsigned parallel; /* guests at a time, 1 to BOOT_PARALLEL_MAX */
	uint64_t memory; /* bytes of each guest, 0: as captured, 2 GiB for a bare disk */
	const char *cache;
	void (*done)(void *opaque, const struct boot_result *r); /* borrowed for the call */
	recover_note_fn note; /* or NULL */
	void *opaque;
	const volatile int *stop;
};
/* Boots each point on a throw-away overlay and without a network, and stores verdict and screenshot with the point, also of one that
 * fails.  Nothing of the guests stays, whatever happens: they end with this process, and what a killed one left is removed by
 * the next.  r: open, unlocked, REPO_WRITE, not started.  0: all passed.  ERR_DAMAGED: a guest met damage; ERR_FAILED: one did not
 * pass.  Another error (a guest that cannot be made, no libvirt) ends it, and nothing is stored for that point. */
int recover_boot(struct repo *r, const struct boot_spec *spec, struct err *err);

/* --- the watcher --- */

/* What `livepoint watch-guests` does: looks after the guests of a connection until none is left, or a code stands in stop.
 * ERR_LOCKED: there is one already. */
int recover_watch(const char *connection, const volatile int *stop, struct err *err);

#endif
