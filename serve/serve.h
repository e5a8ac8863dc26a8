/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Servers: start nbdkit with our plugin in the background, list and stop them; the run folder.
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

#include "repo/repo.h"

#define SERVE_ID_LEN 9 /* letter and eight hexadecimal digits */

struct serve_disk {
	char *name, *uri; /* owned */
};
struct serve_export {
	char id[SERVE_ID_LEN + 1];
	char *point; /* NAME@TIME */
	char *repo; /* absolute path */
	struct serve_disk *disks;
	size_t ndisks;
	int64_t pid; /* of the nbdkit that serves now; of the last one while it is started again */
	int64_t supervisor; /* pid of the process that stays: ending it ends the export */
	char *overlay; /* id or NULL */
	int64_t since;
};
void serve_export_release(struct serve_export *e);
void serve_exports_free(struct serve_export *list, size_t count);

struct serve_spec {
	const char *point; /* POINT[/DISK]; latest is resolved first */
	const char *cache; /* size for the plugin (as parse_size()), or NULL */
	const char *listen; /* HOST:PORT, or NULL: UNIX socket */
	const char *tls_certificates, *tls_psk; /* with listen one is needed */
	const char *socket_group; /* NULL: libvirt-qemu for root */
	const volatile int *stop; /* a code there ends the start; may be NULL */
};
/* Starts one server for that point; returns when it answers.  r: open, unlocked if encrypted; it need not be started.
 * out: released by the caller.  ERR_USAGE, ERR_KEY, as repo_resolve() and repo_point_open(); ERR_INVALID for a socket
 * path over 107 bytes; ERR_CHILD with nbdkit's last words; the code in stop. */
int serve_export_start(struct repo *r, const struct serve_spec *spec, struct serve_export *out,
		       struct err *err);
/* Living servers of this user and host; stale files are removed on the way. */
int serve_export_list(struct serve_export **out, size_t *count, struct err *err);
/* Ends one (or all: id NULL).  With clients connected ERR_LOCKED unless force (of several, those without clients are
 * ended all the same).  ERR_NOT_FOUND.  Returns how many ended. */
int serve_export_stop(const char *id, bool force, struct err *err);

#endif
