/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Servers: start nbdkit with our plugin in the background, list and stop them; the run folder.
 *
 * There are three kinds: an export serves one point, or one overlay, and is what people start; the shared server has the
 * whole repository, one a repository and user, for recoveries; a proxy stands between a shared server and a client that does
 * not reconnect, so that a server that starts again is a pause for it.
 *
 * The run folder is $LIVEPOINT_RUN_DIR, else /run/livepoint for root, else $XDG_RUNTIME_DIR/livepoint, else
 * /tmp/livepoint-UID; in it ID.json, ID.sock, ID.log.  The socket is bound, moded and listened on here and handed over (LISTEN_FDS), so there is no race on
 * mode or readiness.  A supervisor (serve/supervisor.c) starts nbdkit, holds the socket open, and starts it again on it
 * when it was killed.  The key goes through inherited pipes.
 *
 * An export is alive exactly when the lock on ID.json, which its processes hold, cannot be taken.
 * One thread at a time.
 */
#ifndef LIVEPOINT_SERVE_SERVE_H
#define LIVEPOINT_SERVE_SERVE_H

#include "repo/overlay.h"

#define SERVE_ID_LEN 9 /* letter and eight hexadecimal digits */

struct serve_disk {
	char *name, *uri; /* owned */
};
enum serve_kind { SERVE_EXPORT, SERVE_SHARED, SERVE_PROXY };
const char *serve_kind_name(enum serve_kind kind); /* "export", "shared", "proxy" */
struct serve_export {
	char id[SERVE_ID_LEN + 1];
	enum serve_kind kind;
	char *point; /* NAME@TIME, an overlay's as it stood at the start; NULL but for SERVE_EXPORT */
	char *repo; /* absolute path */
	struct serve_disk *disks; /* of SERVE_EXPORT: none of the others */
	size_t ndisks;
	char *uri; /* of the server: without the name of an export */
	char *socket; /* path, or NULL: TCP */
	char *target; /* SERVE_PROXY: id of the shared server behind it; else NULL */
	int64_t pid; /* of the nbdkit that serves now; of the last one while it is started again */
	int64_t supervisor; /* pid of the process that stays: ending it ends the export */
	char *overlay; /* id or NULL */
	int64_t since;
};
void serve_export_release(struct serve_export *e);
void serve_exports_free(struct serve_export *list, size_t count);

struct serve_spec {
	const char *point; /* POINT[/DISK]; latest is resolved first */
	bool writable; /* an overlay of the point is served, with all its disks */
	const char *overlay; /* with writable: an id or name; NULL: a new one without a name */
	const char *cache; /* size for the plugin (as parse_size()), or NULL */
	const char *listen; /* HOST:PORT, or NULL: UNIX socket */
	const char *tls_certificates, *tls_psk; /* with listen one is needed */
	const char *socket_group; /* NULL: libvirt-qemu for root */
	const volatile int *stop; /* a code there ends the start; may be NULL */
};
/* Starts one server for that point; returns when it answers.  r: open, unlocked if encrypted; it need not be started.
 * writable: REPO_WRITE; an overlay of that id or name is attached, or one of that name made; one that is made goes again
 * if the server does not start.
 * out: released by the caller.  ERR_USAGE, ERR_KEY, as repo_resolve() and repo_point_open(); ERR_INVALID for a socket
 * path over 107 bytes, and for an overlay of another point; ERR_LOCKED: somebody else has the overlay; ERR_CHILD with
 * nbdkit's last words; the code in stop. */
int serve_export_start(struct repo *r, const struct serve_spec *spec, struct serve_export *out,
		       struct err *err);
struct serve_shared_spec {
	const char *cache; /* as in struct serve_spec; of the one that starts it */
	const char *socket_group;
	const volatile int *stop; /* may be NULL */
};
/* The server of the whole repository: the one that runs, or a new one.  r: as above, REPO_READ will do.  Of several that call at
 * a time one starts it.  A server that began before the last change of the repository's keys is not taken for it. */
int serve_shared_start(struct repo *r, const struct serve_shared_spec *spec,
		       struct serve_export *out, struct err *err);

struct serve_proxy_spec {
	const char *socket_group;
	unsigned retries; /* attempts, one a second, before a request is answered with EIO; 0: 60.  Damage too is tried so often. */
	const volatile int *stop; /* may be NULL */
};
/* Starts a proxy in front of a shared server, with all its exports under their names.  Requests wait while the server is
 * away; each connection has one under way at a time. */
int serve_proxy_start(const struct serve_export *shared, const struct serve_proxy_spec *spec,
		      struct serve_export *out, struct err *err);
/* URI of an export of it, such as OVERLAY/DISK; owned by the caller; NULL: out of memory. */
char *serve_uri(const struct serve_export *e, const char *export_name);

/* The run folder, made if it is missing; owned by the caller.  ERR_PERM if somebody else could write to it.  Of a recovery its note
 * and the link to its socket are there, too (recover/notes.c). */
int serve_run_folder(char **out, struct err *err);
/* Living servers of this user and host; stale files are removed on the way. */
int serve_export_list(struct serve_export **out, size_t *count, struct err *err);
/* Ends one (or all: id NULL).  With clients connected ERR_LOCKED unless force (of several, those without clients are
 * ended all the same).  ERR_NOT_FOUND.  Returns how many ended. */
int serve_export_stop(const char *id, bool force, struct err *err);

#endif
