/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Shared by the files of serve/ only. */
#ifndef LIVEPOINT_SERVE_INTERNAL_H
#define LIVEPOINT_SERVE_INTERNAL_H

#include <sys/socket.h>
#include <sys/types.h>

#include "serve/serve.h"

/* --- supervisor.c, a program of its own: SUPERVISOR DIR ID PRELOAD NBDKIT ARGUMENTS... ---
 * PRELOAD: "LD_PRELOAD=..." for nbdkit, or "-".  stderr is ID.log.  It has these descriptors: */
enum supervisor_fd {
	SUPERVISOR_LISTENER = 3,
	SUPERVISOR_LOCK = 4, /* ID.json, locked */
	SUPERVISOR_CONTROL =
		5, /* a pipe: CONTROL_KEY, number of keys, keys, or CONTROL_PLAIN; then CONTROL_READY */
};
/* nbdkit's: 3 is the socket. */
enum server_fd { SERVER_LOCK = 4, SERVER_KEY = 5 };
enum control {
	CONTROL_KEY = 'k',
	CONTROL_PLAIN = 'p',
	CONTROL_READY = 'r', /* it answers: from now on it is started again when it dies */
};
/* In its last words if it gives up: the next listing passes them on. */
#define GAVE_UP "given up, the export has ended"
#define SUPERVISOR_FILE "livepoint-supervisor"
/* Length of ID.pid: a decimal number, blanks, a newline. */
#define PID_FILE_LEN 24

/* --- run.c: the run folder --- */
/* Path of the folder, owned by the caller; it need not exist. */
int run_folder_path(char **out, struct err *err);
/* The same, made if it is missing and checked: a folder of ours that nobody else can write. */
int run_folder_make(char **out, struct err *err);
/* ERR_PERM if an existing folder is not as run_folder_make() wants it: what lies there may be forged. */
int run_folder_check(const char *path, struct err *err);
/* DIR/ID.SUFFIX, owned by the caller; NULL: out of memory. */
char *run_file(const char *dir, const char *id, const char *suffix);
bool run_id_valid(const char *id); /* letter and eight hexadecimal digits, nothing behind */
/* Removes what belongs to id, ID.json last. */
int run_remove(const char *dir, const char *id, struct err *err);
/* Group of a socket.  wanted: a group's name or NULL.  Returns 1 and fills *gid, or 0: no group, mode 0600. */
int run_socket_group(const char *wanted, gid_t *gid, struct err *err);
/* The last lines of a log, joined by "; ", without nbdkit's prefix; "" if there are none. */
void run_log_tail(const char *path, char *dst, size_t size);

/* --- listen.c: sockets and URIs --- */
struct listener {
	int fd; /* bound and listening */
	struct sockaddr_storage addr;
	socklen_t addr_len;
	uint16_t port; /* TCP */
	char *uri_head, *uri_tail; /* owned: the URI is head, encoded name of the export, tail */
};
void listener_release(struct listener *l);
/* path: at most 107 bytes, else ERR_INVALID that names a shorter way. */
int listen_unix(const char *path, const char *group, struct listener *out, struct err *err);
/* where: HOST:PORT, [V6]:PORT; port 0 takes a free one. */
int listen_tcp(const char *where, struct listener *out, struct err *err);
/* Owned by the caller; NULL: out of memory. */
char *listener_uri(const struct listener *l, const char *export_name);

/* --- probe.c: is it there yet? --- */
struct probe {
	const struct listener *listener;
	bool tls; /* the greeting is all that can be had without keys */
	pid_t *pid; /* our child; set to 0 when it has ended, with its status */
	int *status;
	uint64_t deadline_ns; /* time_mono_ns() */
	const volatile int *stop; /* may be NULL */
	int fd; /* -1 at first */
};
/* Waits until the server greets.  ERR_CHILD: it has ended, or the deadline has passed; or the code in stop. */
int probe_greet(struct probe *p, struct err *err);
/* Asks for one export (NBD_OPT_INFO); ERR_CHILD if it is refused or has another size. */
int probe_export(struct probe *p, const char *name, uint64_t size, struct err *err);
/* Leaves, and waits until the server has seen it: it would count as a client else. */
void probe_leave(struct probe *p);

/* --- list.c: ID.json --- */
struct record {
	struct serve_export e;
	uint64_t start_ticks; /* of the supervisor: tells it from a later process with its number */
	char *socket; /* owned: path as bound, or NULL: TCP */
	uint16_t port; /* TCP */
	unsigned keys; /* SERVE_SHARED: epochs that it knows; 0: not encrypted */
};
void record_release(struct record *r);
int record_write(int fd, const char *path, const struct record *r, struct err *err);
/* Fills *pid from DIR/ID.pid; ERR_NOT_FOUND if it is not there, ERR_INVALID if it has no number. */
int record_server_pid(const char *dir, const char *id, int64_t *pid, struct err *err);
/* A living shared server of that repository with that many keys: returns 1 and fills out, or 0. */
int list_find_shared(const char *dir, const char *repo, unsigned keys, struct serve_export *out,
		     struct err *err);
/* Opens DIR/ID.json.  Returns 1: alive, *out filled; 0: not there, dead (its files are removed) or not written yet. */
int record_read(const char *dir, const char *id, struct record *out, struct err *err);

/* --- start.c: a server of any kind --- */
struct start_export {
	char *name; /* owned */
	uint64_t size; /* bytes */
};
struct start {
	/* the caller's; texts are borrowed until the end: */
	struct repo *repo; /* whose keys the server gets; NULL: none */
	const char *listen, *tls_certificates, *tls_psk, *socket_group;
	const volatile int *stop;
	char shown[POINT_TEXT_MAX]; /* what is served, for messages */
	struct start_export
		*exports; /* owned; that have to answer: those of record.e.disks, in order */
	size_t nexports;
	/* filled here: */
	uint64_t cache; /* bytes; 0: the plugin's own */
	char *dir, *json, *log, *plugin; /* owned paths */
	int lock_fd, log_fd;
	int control[2]; /* pipe to the supervisor: reading, writing end */
	struct listener listener;
	struct record
		record; /* kind, point, repo, disks' names, overlay and target are the caller's */
	char *args[32]; /* owned */
	size_t nargs;
	bool args_failed;
	pid_t pid; /* of the supervisor; 0: not running */
	int status; /* of the one that has ended */
	bool claimed, done;
};
void start_init(struct start *s);
/* Ends a server that start_run() has not brought up, and takes all back. */
void start_release(struct start *s);
/* nbdkit, the key, the cache's size; fills cache and the record's repo. */
int start_check(struct start *s, const char *cache, struct err *err);
/* Adds an argument of nbdkit; takes it; NULL makes start_run() fail. */
void start_arg(struct start *s, char *arg);
/* Adds our plugin and what it needs for this repository. */
int start_plugin(struct start *s, struct err *err);
/* Starts it; returns when all exports answer.  out takes the record. */
int start_run(struct start *s, struct serve_export *out, struct err *err);

#endif
