/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * libvirt: a connection, its events, guests, block copies, pools and networks.  What stands in a domain's XML is virt/xml.h.
 *
 * libvirt's types stay in this room: `struct virt` is a connection, `struct virt_domain` a handle of one guest.
 * In a build without libvirt everything here exists, and virt_open() says ERR_UNSUPPORTED.
 *
 * Any thread, several at a time on one connection or domain, unless said otherwise.  Errors carry libvirt's own message;
 * codes: ERR_NOT_FOUND (no such guest, pool, network), ERR_EXISTS, ERR_PERM, ERR_INVALID (libvirt refuses the XML or an argument),
 * ERR_REFUSED (not in this state of the guest), ERR_UNSUPPORTED, ERR_IO (connection, time limit), else ERR_FAILED.
 *
 * No call waits for ever: after the connection's limit (virt_set_limit) it is given up with ERR_IO, "... no answer from libvirt
 * within N s".  What was asked for may still happen then: look at the state before it is asked again.
 * From the first virt_open() to the last virt_close() the process has threads: no fork without exec between them.
 */
#ifndef LIVEPOINT_VIRT_VIRT_H
#define LIVEPOINT_VIRT_VIRT_H

#include "base/buf.h"

struct virt;
struct virt_domain;

#define VIRT_UUID_TEXT 37 /* bytes of "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx" with its end */
#define VIRT_LIMIT_DEFAULT_MS                                                                      \
	90000 /* libvirt itself waits 30 s for a job on a guest, and probes QEMU for 10 s at first */

/* --- connection --- */

/* False in a build without libvirt. */
bool virt_available(void);
/* Connects; uri NULL: LIBVIRT_DEFAULT_URI, or what libvirt thinks best (root: qemu:///system, else qemu:///session).
 * Guests of QEMU only: another driver is ERR_UNSUPPORTED.  *out: virt_close(). */
int virt_open(const char *uri, struct virt **out, struct err *err);
/* Handles of domains are closed before.  NULL is fine. */
void virt_close(struct virt *v);
/* As the daemon says it ("qemu:///session"); borrowed until virt_close(). */
const char *virt_uri(const struct virt *v);
/* True for a session of an ordinary user: no networks of libvirt, the same user owns sockets and images. */
bool virt_is_session(const struct virt *v);
/* True if the daemon runs on this machine: its paths are ours. */
bool virt_is_local(const struct virt *v);
/* Time limit of each later call, milliseconds, at least 1. */
void virt_set_limit(struct virt *v, unsigned ms);
/* True while the connection lives (keepalive: a daemon that is gone or stopped is noticed within 20 s). */
bool virt_is_alive(struct virt *v);
/* libvirt's capabilities XML and, for each of KVM and emulation that is offered, domain capabilities, for virt_host_read() of
 * virt/xml.h, in one document of our own.  arch: as in a domain's XML, NULL: x86_64; machine: NULL, or a machine type (pc and
 * q35 have different answers).  *xml: free(). */
int virt_host_xml(struct virt *v, const char *arch, const char *machine, char **xml,
		  struct err *err);

/* --- finding and making guests --- */

#define VIRT_KNOWS_NAME 1
#define VIRT_KNOWS_UUID 2
/* Does the connection know a guest, running or not, of that name or that uuid (either may be NULL)?  Returns the bits. */
int virt_knows(struct virt *v, const char *name, const char *uuid, struct err *err);
/* By name, or by uuid in its 36 characters (a name that is there wins).  *out: virt_domain_free(). */
int virt_domain_find(struct virt *v, const char *name_or_uuid, struct virt_domain **out,
		     struct err *err);

enum virt_create {
	VIRT_CREATE_PAUSED = 1, /* stays paused before its first instruction */
	VIRT_CREATE_VALIDATE = 2, /* libvirt checks the XML against its schema first */
	VIRT_CREATE_AUTODESTROY = 4, /* ends with this connection, however that ends */
};
/* Starts a transient guest: when it stops, libvirt forgets it.  flags: of enum virt_create.  Returns when QEMU runs and has
 * opened the disks.  A libvirt whose schema has no <reconnect> of NBD gets the XML without it: ask virt_xml_disk.reconnect of
 * the live XML whether it is there. */
int virt_domain_create(struct virt *v, const char *xml, unsigned flags, struct virt_domain **out,
		       struct err *err);
/* Defines a persistent guest that does not run, or replaces the definition of the one of that uuid (running or not).
 * out may be NULL. */
int virt_domain_define(struct virt *v, const char *xml, struct virt_domain **out, struct err *err);
/* NULL is fine.  Does nothing to the guest. */
void virt_domain_free(struct virt_domain *d);
const char *virt_domain_name(const struct virt_domain *d); /* borrowed until virt_domain_free() */
const char *virt_domain_uuid(const struct virt_domain *d); /* the same */

/* --- state --- */

enum virt_state {
	VIRT_GONE, /* libvirt knows it no longer: a transient one that stopped, or one undefined */
	VIRT_OFF, /* defined, not running */
	VIRT_RUNNING,
	VIRT_PAUSED,
	VIRT_CRASHED,
	VIRT_STATE_OTHER, /* shutting down, suspended by its own power management */
};
enum virt_reason {
	VIRT_REASON_OTHER,
	VIRT_REASON_USER, /* paused: somebody asked; also before the first instruction */
	VIRT_REASON_IO_ERROR, /* paused: a request to a disk failed under policy stop */
	VIRT_REASON_SHUTDOWN, /* off: the guest powered off */
	VIRT_REASON_DESTROYED, /* off: power cut */
	VIRT_REASON_FAILED, /* off: QEMU failed or was killed */
};
struct virt_status {
	enum virt_state state;
	enum virt_reason reason;
	bool persistent; /* it has a definition that outlives its run */
};
/* A guest that libvirt does not know is VIRT_GONE and no error. */
int virt_domain_status(struct virt_domain *d, struct virt_status *out, struct err *err);
/* Lets it run.  After an I/O error it may pause again at once, since QEMU reconnects in the background: ask the state 0.1 to
 * 0.3 s later and come again. */
int virt_domain_resume(struct virt_domain *d, struct err *err);
int virt_domain_suspend(struct virt_domain *d, struct err *err);
/* Cuts the power.  A guest that does not run is not an error: returns 1 if it ran, 0 if not. */
int virt_domain_destroy(struct virt_domain *d, struct err *err);
/* Asks the guest to power off (agent if it answers, else ACPI); returns at once. */
int virt_domain_shutdown(struct virt_domain *d, struct err *err);
/* Presses reset. */
int virt_domain_reset(struct virt_domain *d, struct err *err);

enum virt_xml_kind {
	VIRT_XML_LIVE, /* as it runs (or as defined, if it does not) */
	VIRT_XML_INACTIVE, /* the definition that the next start takes, secrets included */
	VIRT_XML_MIGRATABLE, /* what virt_domain_define() of this or another libvirt takes */
};
int virt_domain_xml(struct virt_domain *d, enum virt_xml_kind kind, char **xml, struct err *err);
/* Defines the running guest as it is, so that it outlives its run.  A guest that is persistent already is redefined. */
int virt_domain_persist(struct virt_domain *d, struct err *err);
/* Takes the definition away; a running guest goes on, transient.  NVRAM file, images: untouched.  Not defined: 0, else 1. */
int virt_domain_undefine(struct virt_domain *d, struct err *err);

struct virt_disk_error {
	char target[32]; /* "vda" */
	bool no_space; /* else: some other error */
};
/* Disks with an error since the guest's start; stays set after a resume, so it is no proof that it still fails.
 * Fills at most max; returns how many there are. */
int virt_domain_disk_errors(struct virt_domain *d, struct virt_disk_error *out, unsigned max,
			    struct err *err);
/* Virtual size in bytes of a disk, by its target. */
int virt_domain_disk_size(struct virt_domain *d, const char *target, uint64_t *bytes,
			  struct err *err);

/* --- moving a disk: block copy --- */

enum virt_target_kind { VIRT_TARGET_FILE, VIRT_TARGET_BLOCK, VIRT_TARGET_NBD };
struct virt_target {
	enum virt_target_kind kind;
	const char *path; /* FILE, BLOCK; as the daemon sees it */
	const char *format; /* "raw" or "qcow2"; NULL: raw */
	const char *host; /* NBD over TCP; NULL: over the UNIX socket */
	unsigned port; /* 0: 10809 */
	const char *socket;
	const char *export_name; /* NULL: "" */
};
#define VIRT_COPY_REUSE                                                                            \
	1 /* the target is there, with the right size and format; else libvirt makes the file (FILE only) */
#define VIRT_COPY_SYNC                                                                             \
	2 /* guest writes wait for the target: READY comes and stays under any load */
#define VIRT_COPY_SHALLOW 4 /* the top layer only; the target has its own backing file */

enum virt_copy_state {
	VIRT_COPY_NONE, /* no job on that disk: never begun, or over (where does the disk lie now?) */
	VIRT_COPY_RUNNING,
	VIRT_COPY_READY, /* source and target are the same and stay so: pivot or abort */
	VIRT_COPY_FAILED, /* by an event that this connection got: the guest is still on the source */
	VIRT_COPY_DONE, /* by event: pivoted */
	VIRT_COPY_CANCELED, /* by event */
};
struct virt_copy_status {
	enum virt_copy_state state;
	uint64_t done, total; /* bytes; total grows while the guest writes */
	uint64_t bandwidth; /* bytes a second, 0: unlimited */
};
/* Begins to copy the disk `target` of a running or paused guest to `to`.  bandwidth: bytes a second, 0: unlimited.  The job may
 * fail after this returned 0: watch the state, or the events.  The job ends with the guest's run. */
int virt_copy_start(struct virt_domain *d, const char *target, const struct virt_target *to,
		    unsigned flags, uint64_t bandwidth, struct err *err);
/* READY is libvirt's own record (live XML), so it holds for a job that an earlier process began, too. */
int virt_copy_status(struct virt_domain *d, const char *target, struct virt_copy_status *out,
		     struct err *err);
/* Waits until the state is neither NONE without an event nor RUNNING, at most timeout_ms; fills *out as
 * virt_copy_status().  Returns 1 if it came, 0 after the time. */
int virt_copy_wait(struct virt_domain *d, const char *target, unsigned timeout_ms,
		   struct virt_copy_status *out, struct err *err);
/* Moves the guest to the target; returns when it runs there.  Not READY: ERR_REFUSED, and the copy goes on. */
int virt_copy_pivot(struct virt_domain *d, const char *target, struct err *err);
/* Ends the job, the guest stays on the source; the target is as it is.  No job: returns 0, else 1. */
int virt_copy_abort(struct virt_domain *d, const char *target, struct err *err);
int virt_copy_set_bandwidth(struct virt_domain *d, const char *target, uint64_t bandwidth,
			    struct err *err);

/* --- looking in --- */

/* Screenshot of the first screen, as PNG, appended to png.  A QEMU that answers with another type of picture, or a guest without
 * a video device, is ERR_UNSUPPORTED. */
int virt_domain_screenshot(struct virt_domain *d, struct buf *png, struct err *err);
/* Sends one command ({"execute":"guest-ping"}) to the guest agent and waits at most `seconds` (1 or more) for its reply.
 * ERR_UNSUPPORTED: no channel for an agent; ERR_IO: it did not answer; ERR_FAILED: it answered with an error.
 * *reply: JSON, free(). */
int virt_agent(struct virt_domain *d, const char *command, unsigned seconds, char **reply,
	       struct err *err);

/* --- events --- */

enum virt_event_kind {
	VIRT_EVENT_STARTED,
	VIRT_EVENT_STOPPED, /* reason */
	VIRT_EVENT_PAUSED, /* reason */
	VIRT_EVENT_RESUMED,
	VIRT_EVENT_REBOOT,
	VIRT_EVENT_IO_ERROR, /* disk: its target, "" if unknown; text: "enospc" or "".  libvirt 9.0 loses it when an NBD source has an
			      * empty export name: PAUSED with its reason comes always */
	VIRT_EVENT_COPY, /* disk, copy: READY, DONE, FAILED or CANCELED */
	VIRT_EVENT_AGENT, /* connected */
	VIRT_EVENT_CLOSED, /* the connection is lost; uuid and name are empty */
	VIRT_EVENT_MISSED, /* the queue ran over: read states anew */
};
struct virt_event {
	enum virt_event_kind kind;
	enum virt_reason reason;
	enum virt_copy_state copy;
	bool connected;
	char uuid[VIRT_UUID_TEXT];
	char name[256];
	char disk[64];
	char text[64];
};
/* Events of all guests of the connection wait in a queue (the last 1024) from virt_open() on, for one reader.  Takes the
 * oldest, waiting at most timeout_ms for one (0: not at all).  Returns 1 and fills *out, or 0. */
int virt_event_next(struct virt *v, unsigned timeout_ms, struct virt_event *out, struct err *err);
/* Descriptor that is readable while events wait, for poll(2) beside others; the room's own, never read or close it. */
int virt_event_fd(const struct virt *v);

/* --- pools and networks --- */

/* Makes a volume of `size` bytes in a pool; format "raw" or "qcow2" (pools of block devices: raw).  *path: where it lies, as the
 * daemon sees it; free().  *block: it is a block device (may be NULL).  ERR_EXISTS: there is one of that name. */
int virt_volume_create(struct virt *v, const char *pool, const char *name, const char *format,
		       uint64_t size, char **path, bool *block, struct err *err);
/* Returns 1 if it was there, 0 if not. */
int virt_volume_remove(struct virt *v, const char *pool, const char *name, struct err *err);
/* Makes the pool look at what has changed below it. */
int virt_pool_refresh(struct virt *v, const char *pool, struct err *err);

/* A transient network: a bridge without address, DHCP or way out.  see_each_other: guests on it may talk to one another.
 * name: also of the bridge, so at most 15 bytes.  Session: ERR_UNSUPPORTED. */
int virt_network_isolated(struct virt *v, const char *name, bool see_each_other, struct err *err);
/* Returns 1 if it was there, 0 if not. */
int virt_network_destroy(struct virt *v, const char *name, struct err *err);

DEFINE_CLEANUP(virt, virt_close)
DEFINE_CLEANUP(virt_domain, virt_domain_free)

#endif
