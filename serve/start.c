// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Starting a server: a supervisor (serve/supervisor.c) in a session of its own, and under it `nbdkit -f`, on a socket that
 * was bound here.
 *
 * Order: ID.json is made and locked, then the log, the socket; the supervisor starts with the listening socket, the
 * locked descriptor and a control pipe, which for an encrypted repository holds the key; ID.json gets its content; then
 * we are a client until every export answers, and say so in the pipe.  Whatever fails on the way takes all of it back.
 *
 * What is served is the caller's matter (export.c, shared.c): arguments of nbdkit, a record, and names to ask for.
 *
 * Invariants:
 *  1. The key is in memory and in the pipe only: not in argv, environment or a file.  A passphrase in our own
 *     environment does not reach the server's.
 *  2. The server answers for all exports asked for when start_run() returns 0, and nothing is left when it fails.
 */
#include "serve/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/proc.h"

#include "base/banned.h"

#define READY_SECONDS 60
#define ID_TRIES 100
#define STOP_MS 1000 /* for the supervisor to end what it has started */
#define PID_MS 10000 /* for it to write down what it has started */
#define TICK_MS 10
#define PLUGIN_FILE "nbdkit-livepoint-plugin.so"

/* The supervisor ends its server and then itself. */
static void stop_supervisor(struct start *s)
{
	unsigned waited;

	kill(s->pid, SIGTERM);
	for (waited = 0; waited < STOP_MS; waited += TICK_MS) {
		if (waitpid(s->pid, NULL, WNOHANG) == s->pid)
			return;
		time_sleep_ms(TICK_MS);
	}
	kill(s->pid, SIGKILL);
	while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR)
		;
}

void start_init(struct start *s)
{
	memset(s, 0, sizeof(*s));
	s->lock_fd = s->log_fd = s->control[0] = s->control[1] = s->listener.fd = -1;
}

void start_release(struct start *s)
{
	size_t i;

	if (!s->done && s->pid > 0)
		stop_supervisor(s);
	if (!s->done && s->claimed)
		run_remove(s->dir, s->record.e.id, NULL);
	base_cleanup_fd(&s->lock_fd);
	base_cleanup_fd(&s->log_fd);
	base_cleanup_fd(&s->control[0]);
	base_cleanup_fd(&s->control[1]);
	listener_release(&s->listener);
	record_release(&s->record);
	for (i = 0; i < s->nargs; i++)
		free(s->args[i]);
	for (i = 0; i < s->nexports; i++)
		free(s->exports[i].name);
	free(s->exports);
	free(s->dir);
	free(s->json);
	free(s->log);
	free(s->plugin);
}

void start_arg(struct start *s, char *arg)
{
	if (!arg || s->nargs >= ARRAY_SIZE(s->args)) {
		s->args_failed = true;
		free(arg);
		return;
	}
	s->args[s->nargs++] = arg;
}

/* --- files and socket --- */

/* Makes and locks ID.json.  Returns 1 if it is ours, 0 if the id is taken. */
static int claim_id(struct start *s, struct err *err)
{
	cleanup_fd int fd = -1;
	uint8_t random[4];
	struct stat st;
	int code;

	random_bytes(random, sizeof(random));
	s->record.e.id[0] = 'x';
	hex_encode(s->record.e.id + 1, random, sizeof(random));
	free(s->json);
	s->json = run_file(s->dir, s->record.e.id, "json");
	if (!s->json)
		return err_nomem(err, "path");
	fd = file_create(s->json, "serve.record.create", err);
	if (fd < 0)
		return fd == ERR_EXISTS ? 0 : fd;
	code = file_trylock(fd, s->json, err);
	if (code <= 0)
		return code;
	/* A listing may have taken the unlocked file for a dead server's, before us. */
	if (fstat(fd, &st) < 0 || st.st_nlink == 0)
		return 0;
	s->lock_fd = steal_fd(&fd);
	s->claimed = true;
	return 1;
}

static int make_files(struct start *s, struct err *err)
{
	int code = 0;
	unsigned i;

	for (i = 0; i < ID_TRIES && code == 0; i++)
		code = claim_id(s, err);
	if (code == 0)
		return err_set(err, ERR_FAILED, "no free id in run folder '%s'", s->dir);
	if (code < 0)
		return code;
	s->log = run_file(s->dir, s->record.e.id, "log");
	if (!s->log)
		return err_nomem(err, "path");
	s->log_fd = file_open(s->log, O_WRONLY | O_CREAT | O_EXCL | O_APPEND, 0600, err);
	return s->log_fd < 0 ? s->log_fd : 0;
}

static int make_socket(struct start *s, struct err *err)
{
	cleanup_free char *path = NULL;

	if (s->listen)
		return listen_tcp(s->listen, &s->listener, err);
	path = run_file(s->dir, s->record.e.id, "sock");
	if (!path)
		return err_nomem(err, "path");
	s->record.socket = str_dup(path);
	if (!s->record.socket)
		return err_nomem(err, "path");
	return listen_unix(path, s->socket_group, &s->listener, err);
}

/* Fills the URIs. */
static int make_uris(struct start *s, struct err *err)
{
	struct serve_export *e = &s->record.e;
	size_t i;

	e->uri = listener_uri(&s->listener, "");
	e->socket = s->record.socket ? str_dup(s->record.socket) : NULL;
	if (!e->uri || (s->record.socket && !e->socket))
		return err_nomem(err, "URI");
	for (i = 0; i < e->ndisks; i++) {
		e->disks[i].uri = listener_uri(&s->listener, s->exports[i].name);
		if (!e->disks[i].uri)
			return err_nomem(err, "URI");
	}
	e->since = time_now();
	s->record.port = s->listener.port;
	return 0;
}

/* --- the command --- */

/* A file of the build tree that this program stands in, or NULL: cli/livepoint, cli/.libs/livepoint, or a test's
 * program. */
static char *in_build_tree(const char *file)
{
	char exe[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	cleanup_free char *path = NULL;
	char *dir;

	if (n <= 0)
		return NULL;
	exe[n] = 0;
	dir = dirname(exe);
	if (str_ends(dir, "/.libs"))
		dir = dirname(dir);
	if (!str_ends(dir, "/cli") && !str_ends(dir, "/tests"))
		return NULL;
	path = str_printf("%s/%s", dirname(dir), file);
	return path && access(path, R_OK) == 0 ? steal_ptr(path) : NULL;
}

/* What nbdkit is told to load: named by the environment, of the build tree, installed by us, or by name. */
static char *plugin_path(void)
{
	const char *named = getenv("LIVEPOINT_NBDKIT_PLUGIN");
	char *path;

	if (named && *named) {
		/* nbdkit is started from another folder */
		path = strchr(named, '/') ? realpath(named, NULL) : NULL;
		return path ? path : str_dup(named);
	}
	path = in_build_tree("nbdkit-plugin/.libs/" PLUGIN_FILE);
	if (path)
		return path;
	if (access(NBDKIT_PLUGINDIR "/" PLUGIN_FILE, R_OK) == 0)
		return str_dup(NBDKIT_PLUGINDIR "/" PLUGIN_FILE);
	return str_dup("livepoint");
}

static char *supervisor_path(void)
{
	char *path = in_build_tree("serve/" SUPERVISOR_FILE);

	return path ? path : str_dup(PKGLIBEXECDIR "/" SUPERVISOR_FILE);
}

/* The plugin guards nbdkit against clients that leave abruptly, if it is loaded first (nbdkit-plugin/guard.c).  "-" if
 * it is not known by path, or by one that LD_PRELOAD cannot say. */
static char *preload_setting(const struct start *s)
{
	const char *others = getenv("LD_PRELOAD");

	if (!s->plugin || !strchr(s->plugin, '/') || strpbrk(s->plugin, ": ") ||
	    access(s->plugin, R_OK) < 0)
		return str_dup("-");
	return str_printf("LD_PRELOAD=%s%s%s", s->plugin, others ? ":" : "", others ? others : "");
}

static int add_tls_args(struct start *s, struct err *err)
{
	const char *given = s->tls_certificates ? s->tls_certificates : s->tls_psk;
	cleanup_free char *path = NULL;

	if (!given)
		return 0;
	path = realpath(given, NULL);
	if (!path)
		return err_set_errno(err, ERR_INVALID, errno, "'%s'", given);
	start_arg(s, str_dup("--tls=require"));
	/* else certificates would prove the server to clients, and everybody were a client */
	if (s->tls_certificates)
		start_arg(s, str_dup("--tls-verify-peer"));
	start_arg(s, str_printf("--tls-%s=%s", s->tls_certificates ? "certificates" : "psk", path));
	return 0;
}

/* In front of the caller's arguments, which become nbdkit's. */
static int make_args(struct start *s, struct err *err)
{
	char *own[ARRAY_SIZE(s->args)];
	size_t n = s->nargs, i;
	int code;

	memcpy(own, s->args, n * sizeof(*own));
	s->nargs = 0;
	start_arg(s, supervisor_path());
	start_arg(s, str_dup(s->dir));
	start_arg(s, str_dup(s->record.e.id));
	start_arg(s, preload_setting(s));
	start_arg(s, str_dup("nbdkit"));
	start_arg(s, str_dup("-f"));
	code = add_tls_args(s, err);
	for (i = 0; i < n; i++)
		start_arg(s, own[i]);
	if (code == 0 && s->args_failed)
		code = err_nomem(err, "arguments of nbdkit");
	return code;
}

/* The keys, if there are any, are in the pipe until the supervisor has read them: a page always fits. */
static int make_control(struct start *s, struct err *err)
{
	uint8_t head[2 + REPO_KEYS_MAX] = { CONTROL_PLAIN };
	size_t keys = 0, n = 1;
	int code = 0;

	if (pipe2(s->control, O_CLOEXEC) < 0) {
		s->control[0] = s->control[1] = -1;
		return err_set_errno(err, ERR_FAILED, errno, "cannot make a pipe");
	}
	if (s->repo && repo_conf(s->repo)->suite) {
		code = repo_export_key(s->repo, head + 2, &keys, err);
		head[0] = CONTROL_KEY;
		head[1] = (uint8_t)(keys / KEY_LEN);
		n = 2 + keys;
	}
	if (code == 0)
		code = file_write(s->control[1], head, n, "pipe to the supervisor", err);
	mem_wipe(head, sizeof(head));
	return code;
}

static int launch(struct start *s, struct err *err)
{
	/* Empty counts as unset; what was in ours stays here. */
	const char *const env[] = { "LIVEPOINT_PASSPHRASE=", "LIVEPOINT_PASSPHRASE_FD=",
				    "LIVEPOINT_PASSPHRASE_FILE=", "LIVEPOINT_PASSPHRASE_COMMAND=",
				    NULL };
	const int fds[] = { s->listener.fd, s->lock_fd, s->control[0] };
	const struct proc_spec spec = {
		.argv = (const char *const *)s->args,
		.env_add = env,
		.in_fd = -1,
		.out_fd = -1,
		.err_fd = s->log_fd,
		.pass_fds = fds,
		.npass = ARRAY_SIZE(fds),
		.new_session = true,
	};
	int code = proc_start(&spec, &s->pid, err);

	if (code < 0)
		return code;
	/* With our copy gone, a connect to an export that has ended fails instead of waiting for ever. */
	close(steal_fd(&s->listener.fd));
	close(steal_fd(&s->control[0]));
	s->record.e.supervisor = s->pid;
	s->record.start_ticks = proc_start_ticks(s->pid);
	return record_write(s->lock_fd, s->json, &s->record, err);
}

/* --- until it answers --- */

/* The log says best what went wrong. */
static int explain(struct start *s, struct err *err)
{
	char tail[ERR_TEXT_MAX / 2];

	run_log_tail(s->log, tail, sizeof(tail));
	if (s->pid == 0 && WIFSIGNALED(s->status))
		err_prefix(err, "signal %d", WTERMSIG(s->status));
	return *tail ? err_set(err, err->code, "cannot serve '%s': %s", s->shown, tail) :
		       err_prefix(err, "cannot serve '%s'", s->shown);
}

/* The server may answer before its supervisor, which has started it, comes to write its number down. */
static int learn_pid(struct start *s, struct err *err)
{
	unsigned waited = 0;
	int code;

	do {
		code = record_server_pid(s->dir, s->record.e.id, &s->record.e.pid, err);
		if (code != ERR_INVALID && code != ERR_NOT_FOUND)
			return code;
		time_sleep_ms(TICK_MS);
		waited += TICK_MS;
	} while (waited < PID_MS);
	return err_recode(err, ERR_CHILD);
}

/* From now on a server that dies is started again. */
static int say_ready(struct start *s, struct err *err)
{
	const uint8_t byte = CONTROL_READY;
	int code = file_write(s->control[1], &byte, 1, "pipe to the supervisor", err);

	if (code == 0)
		code = learn_pid(s, err);
	return code < 0 ? err_prefix(err, "cannot serve '%s'", s->shown) : 0;
}

static int wait_ready(struct start *s, struct err *err)
{
	struct probe p = {
		.listener = &s->listener,
		.tls = s->listen,
		.pid = &s->pid,
		.status = &s->status,
		.deadline_ns = time_mono_ns() + READY_SECONDS * UINT64_C(1000000000),
		.stop = s->stop,
		.fd = -1,
	};
	int code = probe_greet(&p, err);
	size_t i;

	for (i = 0; code == 0 && i < s->nexports; i++)
		code = probe_export(&p, s->exports[i].name, s->exports[i].size, err);
	if (code == 0) {
		probe_leave(&p);
		return say_ready(s, err);
	}
	base_cleanup_fd(&p.fd);
	return code == ERR_INTERRUPTED || code == ERR_TERMINATED ? code : explain(s, err);
}

int start_plugin(struct start *s, struct err *err)
{
	s->plugin = plugin_path();
	if (!s->plugin)
		return err_nomem(err, "path of the plugin");
	start_arg(s, str_dup(s->plugin));
	start_arg(s, str_printf("repo=%s", s->record.e.repo));
	start_arg(s, str_printf("lock-fd=%d", SERVER_LOCK));
	if (repo_conf(s->repo)->suite)
		start_arg(s, str_printf("key-fd=%d", SERVER_KEY));
	if (s->cache)
		start_arg(s, str_printf("cache=%llu", (unsigned long long)s->cache));
	return 0;
}

int start_check(struct start *s, const char *cache, struct err *err)
{
	/* nbdkit's own notation knows fewer units */
	if (cache && (!parse_size(cache, &s->cache) || s->cache < MiB))
		return err_set(err, ERR_USAGE, "cache size '%s' is not a size of at least 1M",
			       cache);
	if (!proc_exists("nbdkit"))
		return err_set(err, ERR_CHILD, "cannot find the program 'nbdkit'");
	if (!s->repo)
		return 0;
	if (repo_is_locked(s->repo))
		return err_set(err, ERR_KEY,
			       "the repository is encrypted and no passphrase was given");
	s->record.e.repo = realpath(repo_path(s->repo), NULL);
	return s->record.e.repo ?
		       0 :
		       err_set_errno(err, ERR_IO, errno, "repository '%s'", repo_path(s->repo));
}

int start_run(struct start *s, struct serve_export *out, struct err *err)
{
	static int (*const steps[])(struct start *, struct err *) = {
		make_files, make_socket, make_uris, make_control, make_args, launch, wait_ready,
	};
	int code = s->dir ? 0 : run_folder_make(&s->dir, err);
	size_t i;

	for (i = 0; code == 0 && i < ARRAY_SIZE(steps); i++)
		code = steps[i](s, err);
	if (code < 0)
		return code;
	s->done = true;
	*out = s->record.e;
	memset(&s->record.e, 0, sizeof(s->record.e));
	return 0;
}
