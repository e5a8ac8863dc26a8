// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * What QEMU connects to: the repository's shared server, or a proxy in front of it.
 *
 * QEMU remembers the path of the socket for as long as it runs.  So it gets RUN/ID.sock, a link to the server's socket, which
 * is made to lead to another server when the first has gone with its supervisor, or when another is needed.
 *
 * Invariants:
 *  1. The link is replaced by rename: it always leads somewhere.
 *  2. A server is ended only if no recovery of the repository on this host needs it and no client is connected.
 */
#include "recover/internal.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"

#include "base/banned.h"

/* Seconds that the proxy tries again before a request is answered with an error.  Damage, too, waits so long. */
#define PROXY_RETRIES 15

char *servers_socket(const char *id, struct err *err)
{
	cleanup_free char *run = NULL;
	char *path;

	if (serve_run_folder(&run, err) < 0)
		return NULL;
	path = str_printf("%s/%s.sock", run, id);
	if (!path)
		err_nomem(err, "path");
	return path;
}

static int link_to(const char *id, const struct serve_export *server, struct err *err)
{
	cleanup_free char *path = servers_socket(id, err), *tmp = NULL;
	int code;

	if (!path)
		return err->code;
	tmp = str_printf("%s.tmp", path);
	if (!tmp)
		return err_nomem(err, "path");
	code = file_unlink(tmp, "recover.link.unlink", err);
	if (code < 0)
		return code;
	if (symlink(server->socket, tmp) < 0)
		return err_set_errno(err, ERR_IO, errno, "cannot make the link '%s'", tmp);
	return file_rename_over(tmp, path, "recover.link.rename", err);
}

/* --- the list of servers --- */

struct servers {
	struct serve_export *list;
	size_t count;
};
static void servers_free(struct servers *s)
{
	serve_exports_free(s->list, s->count);
}
#define cleanup_servers __attribute__((cleanup(servers_free)))

/* Moves one out of the list. */
static void take(struct serve_export *from, struct serve_export *out)
{
	*out = *from;
	memset(from, 0, sizeof(*from));
}

static struct serve_export *find_proxy(struct servers *s, const char *shared)
{
	size_t i;

	for (i = 0; i < s->count; i++)
		if (s->list[i].kind == SERVE_PROXY && s->list[i].target &&
		    strcmp(s->list[i].target, shared) == 0)
			return &s->list[i];
	return NULL;
}

static struct serve_export *find_id(struct servers *s, const char *id)
{
	size_t i;

	for (i = 0; i < s->count; i++)
		if (strcmp(s->list[i].id, id) == 0)
			return &s->list[i];
	return NULL;
}

/* Fills the id of the server that the link names; false: there is no link of ours. */
static bool read_link(const char *id, char server[SERVE_ID_LEN + 1])
{
	cleanup_free char *path = servers_socket(id, NULL);
	char to[PATH_MAX];
	ssize_t n = path ? readlink(path, to, sizeof(to) - 1) : -1;

	if (n <= 0)
		return false;
	to[n] = 0;
	snprintf(server, SERVE_ID_LEN + 1, "%s", basename(to));
	return true;
}

int servers_find(const char *id, struct serve_export *out, struct serve_export *shared,
		 struct err *err)
{
	cleanup_servers struct servers s = { 0 };
	char server[SERVE_ID_LEN + 1];
	struct serve_export *found, *behind;
	int code;

	if (!read_link(id, server))
		return 0;
	code = serve_export_list(&s.list, &s.count, err);
	if (code < 0)
		return code;
	found = find_id(&s, server);
	if (!found)
		return 0;
	behind = found->kind == SERVE_PROXY ? find_id(&s, found->target) : NULL;
	if (found->kind == SERVE_PROXY && !behind)
		return 0;
	if (behind) {
		take(behind, shared);
		take(found, out);
		return 1;
	}
	/* one server, told twice */
	take(found, shared);
	memset(out, 0, sizeof(*out));
	str_copy(out->id, sizeof(out->id), shared->id);
	out->kind = shared->kind;
	return 1;
}

/* --- starting --- */

static int find_or_start_proxy(const struct serve_export *shared, const volatile int *stop,
			       struct serve_export *out, struct err *err)
{
	const struct serve_proxy_spec spec = { .retries = PROXY_RETRIES, .stop = stop };
	cleanup_servers struct servers s = { 0 };
	struct serve_export *found;
	int code = serve_export_list(&s.list, &s.count, err);

	if (code < 0)
		return code;
	found = find_proxy(&s, shared->id);
	if (!found)
		return serve_proxy_start(shared, &spec, out, err);
	take(found, out);
	return 0;
}

/* A proxy whose server is gone for good keeps its clients waiting for a socket that nobody has. */
static int end_orphans(const char *repository, struct err *err)
{
	cleanup_servers struct servers s = { 0 };
	size_t i;
	int code = serve_export_list(&s.list, &s.count, err);

	for (i = 0; code == 0 && i < s.count; i++) {
		const struct serve_export *e = &s.list[i];

		if (e->kind != SERVE_PROXY || !e->repo || strcmp(e->repo, repository) != 0 ||
		    !e->target || find_id(&s, e->target))
			continue;
		code = serve_export_stop(e->id, true, err);
		if (code > 0 || code == ERR_NOT_FOUND)
			code = 0;
	}
	return code;
}

int servers_start(struct repo *repo, const struct record *rec, bool proxy, const char *cache,
		  const volatile int *stop, struct err *err)
{
	const struct serve_shared_spec spec = { .cache = cache, .stop = stop };
	struct serve_export shared = { 0 }, front = { 0 };
	int code = serve_shared_start(repo, &spec, &shared, err);

	if (code < 0)
		return err_prefix(err, "server of the repository");
	code = end_orphans(rec->repository, err);
	if (code == 0 && proxy)
		code = find_or_start_proxy(&shared, stop, &front, err);
	if (code >= 0)
		code = link_to(rec->id, proxy ? &front : &shared, err);
	serve_export_release(&shared);
	serve_export_release(&front);
	return code < 0 ? code : 0;
}

/* --- ending --- */

struct users {
	const struct record *rec;
	bool others;
};

static int users_fn(void *opaque, const char *folder, const struct record *rec, struct err *err)
{
	struct users *u = opaque;

	(void)folder;
	(void)err;
	if (strcmp(rec->id, u->rec->id) != 0 && strcmp(rec->host, u->rec->host) == 0 &&
	    rec->state != RECOVERY_ENDED)
		u->others = true;
	return 0;
}

/* Proxies first; one that has clients stays, and what it stands before. */
static int end_unused(const char *repository, struct err *err)
{
	static const enum serve_kind order[] = { SERVE_PROXY, SERVE_SHARED };
	cleanup_servers struct servers s = { 0 };
	size_t i, k;
	int code = serve_export_list(&s.list, &s.count, err);

	if (code < 0)
		return code;
	for (k = 0; k < ARRAY_SIZE(order); k++) {
		for (i = 0; i < s.count; i++) {
			struct err local = ERR_INIT;

			if (s.list[i].kind != order[k] || !s.list[i].repo ||
			    strcmp(s.list[i].repo, repository) != 0)
				continue;
			code = serve_export_stop(s.list[i].id, false, &local);
			if (code == ERR_LOCKED)
				return 0;
			if (code < 0 && code != ERR_NOT_FOUND) {
				*err = local;
				return code;
			}
		}
	}
	return 0;
}

int servers_release(struct repo *repo, const struct record *rec, struct err *err)
{
	cleanup_free char *run = NULL;
	struct users u = { .rec = rec };
	int code = serve_run_folder(&run, err);

	if (code == 0)
		code = host_remove_named(run, rec->id, err);
	if (code == 0)
		code = recovery_each(repo, users_fn, &u, err);
	if (code < 0 || u.others)
		return code;
	return end_unused(rec->repository, err);
}
