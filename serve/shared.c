// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The server of the whole repository that recoveries share, and proxies in front of it.
 *
 * Who looks for the shared server, and starts it if there is none, holds a lock on the run folder itself (flock of the
 * directory): of two starters the second finds the first one's.
 *
 * A proxy is `nbdkit --filter=retry nbd`: when the connection behind it breaks, the filter opens it again, once a second, and
 * repeats the request.  It has neither key nor repository.
 *
 * Invariants:
 *  1. At most one shared server a repository, user and number of keys is started.  A rotation of keys makes another one:
 *     the old one cannot read what was sealed since, and guests hang on it.
 *  2. The lock is never handed to a child: it ends with its holder.
 */
#include "serve/internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"

#include "base/banned.h"

#define TICK_MS 20
#define LOCK_SECONDS 120 /* longer than a start may take */
#define RETRIES 60

/* Returns the descriptor. */
static int lock_folder(const char *dir, const volatile int *stop, struct err *err)
{
	cleanup_fd int fd = file_open(dir, O_RDONLY | O_DIRECTORY, 0, err);
	unsigned waited = 0;
	int code;

	if (fd < 0)
		return fd;
	while ((code = file_trylock(fd, dir, err)) == 0) {
		if (stop && *stop)
			return err_set(err, *stop, "stopped while another start was under way");
		if (waited >= LOCK_SECONDS * 1000)
			return err_set(err, ERR_LOCKED,
				       "another start of a shared server in '%s' does not end",
				       dir);
		time_sleep_ms(TICK_MS);
		waited += TICK_MS;
	}
	return code < 0 ? code : steal_fd(&fd);
}

static int count_keys(struct repo *r, unsigned *keys, struct err *err)
{
	uint8_t raw[REPO_KEYS_MAX];
	size_t n = 0;
	int code;

	*keys = 0;
	if (!repo_conf(r)->suite)
		return 0;
	code = repo_export_key(r, raw, &n, err);
	mem_wipe(raw, sizeof(raw));
	*keys = (unsigned)(n / KEY_LEN);
	return code;
}

int serve_shared_start(struct repo *r, const struct serve_shared_spec *spec,
		       struct serve_export *out, struct err *err)
{
	__attribute__((cleanup(start_release))) struct start s;
	cleanup_fd int lock = -1;
	int code;

	start_init(&s);
	s.repo = r;
	s.socket_group = spec->socket_group;
	s.stop = spec->stop;
	s.record.e.kind = SERVE_SHARED;
	code = start_check(&s, spec->cache, err);
	if (code == 0)
		code = count_keys(r, &s.record.keys, err);
	if (code == 0)
		code = run_folder_make(&s.dir, err);
	if (code < 0)
		return code;
	lock = lock_folder(s.dir, spec->stop, err);
	if (lock < 0)
		return lock;
	code = list_find_shared(s.dir, s.record.e.repo, s.record.keys, out, err);
	if (code != 0)
		return code < 0 ? code : 0;
	snprintf(s.shown, sizeof(s.shown), "%s", "the repository");
	code = start_plugin(&s, err);
	return code < 0 ? code : start_run(&s, out, err);
}

int serve_proxy_start(const struct serve_export *shared, const struct serve_proxy_spec *spec,
		      struct serve_export *out, struct err *err)
{
	__attribute__((cleanup(start_release))) struct start s;
	int code;

	start_init(&s);
	s.socket_group = spec->socket_group;
	s.stop = spec->stop;
	s.record.e.kind = SERVE_PROXY;
	snprintf(s.shown, sizeof(s.shown), "%s", "a proxy");
	if (!shared->socket)
		return err_set(err, ERR_USAGE, "a proxy is for a server on a UNIX socket");
	code = start_check(&s, NULL, err);
	if (code < 0)
		return code;
	s.record.e.repo = str_dup(shared->repo);
	s.record.e.target = str_dup(shared->id);
	if (!s.record.e.repo || !s.record.e.target)
		return err_nomem(err, "proxy");
	start_arg(&s, str_dup("--filter=retry"));
	start_arg(&s, str_dup("nbd"));
	start_arg(&s, str_printf("socket=%s", shared->socket));
	start_arg(&s, str_dup("dynamic-export=true"));
	start_arg(&s, str_printf("retries=%u", spec->retries ? spec->retries : RETRIES));
	start_arg(&s, str_dup("retry-delay=1"));
	start_arg(&s, str_dup("retry-exponential=no"));
	return start_run(&s, out, err);
}
