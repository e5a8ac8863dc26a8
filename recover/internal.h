/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Shared by the files of recover/ only. */
#ifndef LIVEPOINT_RECOVER_INTERNAL_H
#define LIVEPOINT_RECOVER_INTERNAL_H

#include "recover/recover.h"
#include "repo/overlay.h"
#include "serve/serve.h"
#include "virt/virt.h"
#include "virt/xml.h"

/* --- record.c: recovery.json --- */
struct texts { /* a list of strings */
	char **items; /* owned */
	size_t count;
};
void texts_release(struct texts *t);
int texts_add(struct texts *t, const char *text, struct err *err); /* copies */
int texts_copy(struct texts *t, const char *const *items, size_t count, struct err *err);

struct record_disk {
	char name[DISK_NAME_MAX_LEN + 1]; /* in the point */
	char target[32]; /* in the guest */
	uint64_t size; /* bytes */
	char *file; /* owned: the local qcow2, or NULL */
	char *moved_to; /* owned: where a migration leads, or NULL; of a pool, before the volume is made, its name */
	bool moved_block; /* that is a block device */
};
struct record {
	char id[RECOVERY_ID_LEN + 1];
	char overlay[OVERLAY_ID_LEN + 1]; /* "": none */
	enum recovery_state state;
	int64_t created, since;
	/* owned; NULL where nothing is to be said */
	char *repository; /* absolute path */
	char *point; /* NAME@TIME */
	char *connection; /* as the daemon says it */
	char *host; /* on which it runs */
	char *domain, *uuid;
	char *accel;
	char *local_dir; /* of the qcow2 files; NULL: writes go to the overlay */
	char *nvram; /* this guest's copy */
	char *isolated; /* name of the network made for it */
	char *socket; /* what QEMU connects to */
	char *problem;
	/* as asked for */
	char *network, *disk_bus, *machine, *os_info;
	char *to, *format; /* of a migration: as asked for, absolute; NULL: there is none */
	uint64_t bandwidth; /* of it: bytes a second, 0: unlimited */
	struct texts networks;
	struct texts macs; /* NIC=MAC of every card: the same at each start */
	uint64_t memory; /* bytes */
	uint64_t vcpus;
	bool paused;
	bool captured; /* the point has the guest's XML */
	struct record_disk *disks; /* owned */
	size_t ndisks;
	struct recovery_damage *damage; /* owned */
	size_t ndamage;
};
#define RECORD_FILE "recovery.json"
#define RECORD_LOCK "recovery.lock"
#define RECORD_VERSION 1
#define RECORD_BYTES_MAX (4 * MiB)
void recovery_record_release(struct record *r);
#define cleanup_record __attribute__((cleanup(recovery_record_release)))
int recovery_record_encode(const struct record *r, struct buf *out, struct err *err);
/* ERR_UNSUPPORTED: of a later version; ERR_DAMAGED: no record. */
int recovery_record_decode(const void *p, size_t n, struct record *out, struct err *err);
int recovery_record_read(const char *folder, struct record *out,
			 struct err *err); /* ERR_NOT_FOUND */
/* A copy of text, or NULL for NULL; false: out of memory. */
bool text_copy(char **dst, const char *text);
/* Replaces an owned text; best effort for messages: without memory it becomes NULL. */
void text_set(char **dst, const char *text);

/* --- store.c: where records lie, and who holds one --- */
struct recovery {
	struct repo *repo; /* borrowed */
	char *folder; /* owned */
	int lock_fd; /* -1: not held */
	struct record rec;
};
void recovery_release(struct recovery *r);
#define cleanup_recovery __attribute__((cleanup(recovery_release)))
#define RECOVERY_INIT(repository)                                                                  \
	{                                                                                          \
		.repo = (repository), .lock_fd = -1                                                \
	}
/* The folder for this user's state: /var/lib/livepoint, $XDG_STATE_HOME/livepoint, ~/.local/state/livepoint.  Owned by the caller. */
int state_folder(char **out, struct err *err);
/* DIR/NAME below it, made if it is missing; searchable by all for root (QEMU runs as another user), else 0700. */
int state_subfolder(const char *name, char **out, struct err *err);
/* Absolute path of the repository; owned by the caller. */
int repository_path(struct repo *repo, char **out, struct err *err);
/* Takes the lock of r->folder.  wait_ms: how long at most.  ERR_LOCKED: a command is at work on it. */
int recovery_lock(struct recovery *r, unsigned wait_ms, struct err *err);
bool recovery_is_locked(const char *folder); /* by somebody else */
/* Finds by recovery id, overlay's id, or domain's name, locks it and reads the record.  ERR_NOT_FOUND, ERR_AMBIGUOUS, ERR_LOCKED. */
int recovery_open(struct repo *repo, const char *which, unsigned wait_ms, struct recovery *out,
		  struct err *err);
/* Calls fn for the folder of each record of the repository (which may have gone by then), the overlays' first. */
int recovery_each(struct repo *repo,
		  int (*fn)(void *opaque, const char *folder, const struct record *rec,
			    struct err *err),
		  void *opaque, struct err *err);
/* Writes the record, durably.  The lock is held. */
int recovery_save(struct recovery *r, struct err *err);

/* --- state.c --- */
struct work; /* start.c: what a step works with */
int recovery_set_state(struct recovery *r, enum recovery_state to, struct err *err);
/* Does the steps that lead from the record's state to `goal`.  ERR_REFUSED: no way leads there. */
int recovery_advance(struct recovery *r, enum recovery_state goal, struct work *work,
		     struct err *err);
bool recovery_state_parse(const char *name, enum recovery_state *out);

/* The steps of the table; each can be done again. */
int step_make_ready(struct recovery *r, struct work *work, struct err *err); /* start.c */
int step_start_guest(struct recovery *r, struct work *work, struct err *err); /* start.c */
int step_note_end(struct recovery *r, struct work *work, struct err *err); /* start.c */

/* --- plan.c: what the guest will be --- */
struct plan {
	struct repo *repo;
	struct repo_point *point; /* owned */
	uint8_t point_id[POINT_ID_LEN];
	struct virt_host *host; /* owned */
	struct buf captured; /* domain.xml of the point, or empty */
	struct buf nvram; /* its NVRAM, or empty */
	struct virt_xml_info *info; /* owned: what the captured XML says, or NULL */
	bool uefi; /* of a bare disk */
	bool session;
	bool renew_macs; /* while a record is made: cards that no MAC is given for get new ones */
	enum virt_accel_kind accel;
	const char *
		console; /* borrowed: a proof by booting, whose first serial port writes to that file; or NULL */
	recover_note_fn note;
	void *opaque;
};
void plan_release(struct plan *p);
#define cleanup_plan __attribute__((cleanup(plan_release)))
void plan_note(const struct plan *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Opens the point and reads what it has of the guest.  The accelerator was probed before the connection was made. */
int plan_open(struct repo *repo, struct virt *v, const char *point, struct plan *p,
	      struct err *err);
/* Fills a new record out of what was asked for: disks, identity, MACs, network, name of the files; v is asked for names. */
int plan_record(struct plan *p, struct virt *v, const struct recover_spec *spec, struct record *rec,
		struct err *err);
/* The XML of rec's guest with its disks on `socket`.  quiet: notes were said before.  *xml: free(). */
int plan_xml(struct plan *p, const struct record *rec, const char *socket, unsigned reconnect,
	     bool quiet, char **xml, struct err *err);
/* Name of the export that the disk is in a server of the whole repository; owned by the caller. */
char *disk_export(const struct record *rec, const struct record_disk *d);

/* --- firmware.c: what a bare disk boots with --- */
/* UEFI: a GPT with an EFI system partition and no boot code in the MBR. */
int firmware_guess(struct repo_disk *d, bool *uefi, struct err *err);

/* --- host.c: files of a recovery on this host --- */
/* Name of this host, for records; owned by the caller. */
int host_name(char **out, struct err *err);
/* Copies the NVRAM and makes local files; what is there stays. */
int host_files_make(const struct record *rec, const struct plan *p, struct err *err);
/* Removes the files of a folder that are called ID.... or ID-...; a missing folder has none. */
int host_remove_named(const char *folder, const char *id, struct err *err);
/* Those whose names follow from the id. */
int host_files_remove(const struct record *rec, struct err *err);
/* Where the console of a proof by booting goes, STATE/consoles/ID.log, the folder made; owned by the caller. */
int host_console(const char *id, char **out, struct err *err);
/* Bytes allocated by local files. */
uint64_t host_files_bytes(const struct record *rec);

/* --- servers.c: what QEMU connects to ---
 * RUN/ID.sock is a link to the socket of the server, so that it stays the same when another server comes. */
char *servers_socket(const char *id, struct err *err); /* owned by the caller; NULL: err */
/* The server, behind a proxy or not: the one that is there, or a new one; the link leads to it.  r: as serve_shared_start(). */
int servers_start(struct repo *repo, const struct record *rec, bool proxy, const char *cache,
		  const volatile int *stop, struct err *err);
/* Where the link leads: 1 and fills out, or 0 if no server lives there.  shared: the server itself, behind a proxy if there is one. */
int servers_find(const char *id, struct serve_export *out, struct serve_export *shared,
		 struct err *err);
/* Removes the link; ends servers of the repository that nothing else of it needs and nobody is connected to. */
int servers_release(struct repo *repo, const struct record *rec, struct err *err);

/* --- guests.c --- */
/* The guest of the record: *out NULL if there is none.  ERR_REFUSED: there is one of that uuid that is not ours. */
int guest_find(struct virt *v, const struct record *rec, struct virt_domain **out, struct err *err);
/* In live XML: does QEMU connect anew by itself on each disk of ours? */
int guest_reconnects(struct virt_domain *d, const struct record *rec, bool *out, struct err *err);
/* Lets it run; after an I/O error again and again for at most ms.  Returns 1: it runs, 0: it does not. */
int guest_resume(struct virt_domain *d, unsigned ms, const volatile int *stop, struct err *err);
/* Cuts its power and waits until libvirt has forgotten it. */
int guest_end(struct virt_domain *d, struct err *err);
const char *guest_state_name(const struct virt_status *s); /* as in struct recovery_info */
/* Does this disk of the guest lie where the migration leads? */
bool record_disk_at_target(const struct virt_xml_disk *x, const struct record_disk *d);

/* --- start.c --- */
/* ERR_REFUSED if it is another host's, unless nothing runs there. */
int check_here(const struct record *rec, struct err *err);
struct work {
	struct virt *v;
	struct plan *plan;
	const char *cache;
	const volatile int *stop;
	struct virt_domain *guest; /* owned */
};

/* --- target.c: where a migration leads --- */
struct target {
	enum virt_target_kind kind;
	const char *path, *format; /* borrowed from the record */
	char *host, *socket, *export_name; /* owned */
	unsigned port;
};
void target_release(struct target *t);
/* nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH; ERR_USAGE. */
int target_uri(const char *uri, struct target *t, struct err *err);
int target_of(const struct record *rec, const struct record_disk *d, struct target *t,
	      struct err *err);
/* Fills to, format and each disk's moved_to.  ERR_EXISTS if something stands there; ERR_USAGE. */
int targets_choose(struct record *rec, const char *to, const char *format, struct err *err);
/* Makes what is missing; saves the record where a volume's path is known only then. */
int targets_make(struct recovery *r, struct virt *v, struct err *err);
/* Removes what was made, and what the record says of it (not saved). */
int targets_remove(struct record *rec, struct virt *v, struct err *err);
void targets_refresh(const struct record *rec, struct virt *v);

/* --- migrate.c --- */
/* PIVOTING, and whoever did it has died: goes on to MIGRATED, or back to MIGRATING, and lets the guest run.  Returns 1, or 0 if the
 * guest has gone.  The lock is held. */
int migrate_settle(struct recovery *r, struct virt_domain *guest, struct err *err);
int migrate_definition_remove(const struct record *rec, struct err *err);

/* --- discard.c --- */
/* Guest, note, network, files, overlay.  v: NULL if nothing of the guest can be there.  The lock is held. */
int recovery_remove(struct recovery *r, struct virt *v, struct err *err);

/* --- list.c --- */
int info_fill(const char *folder, const struct record *rec, struct recovery_info *out,
	      struct err *err);

/* --- notes.c: what tells the watcher --- */
struct note {
	char id[RECOVERY_ID_LEN + 1];
	char *repository, *folder, *connection, *uuid; /* owned */
};
void note_release(struct note *n);
int note_write(const struct recovery *r, struct err *err);
int note_remove(const char *id, struct err *err);
/* Calls fn for each; a file that cannot be read is passed over. */
int note_each(int (*fn)(void *opaque, const struct note *n, struct err *err), void *opaque,
	      struct err *err);
/* RUN/gXXXXXXXX.SUFFIX of a connection; owned by the caller; NULL: err. */
char *watch_file(const char *connection, const char *suffix, struct err *err);
/* Takes the watcher's lock.  Returns the descriptor, or 0 if a watcher lives. */
int watch_lock(const char *connection, struct err *err);
bool watch_lives(const char *connection);
/* Starts one unless it lives. */
int watch_start(const char *connection, struct err *err);

/* --- boot.c --- */
#define BOOT_PREFIX                                                                                \
	"verify-" /* and the id: name of the guest and of the overlay of a proof by booting */
bool record_is_boot(const struct record *rec);

/* --- damage.c --- */
/* What the server has logged about the exports of rec from *offset on; moves *offset to the log's end. */
int damage_read(const struct record *rec, const struct serve_export *shared, uint32_t chunk_size,
		uint64_t *offset, struct recovery_damage **out, size_t *count, struct err *err);
/* Tries the range in rec's point: true if it cannot be read now. */
bool damage_is_there(const struct serve_export *shared, const char *point,
		     const struct recovery_damage *d);
/* Fills d->other: the newest other point of the name in which the range can be read. */
int damage_find_other(struct repo *repo, const struct serve_export *shared,
		      const struct record *rec, struct recovery_damage *d, struct err *err);

#endif
