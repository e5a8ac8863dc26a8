// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Listening sockets, made here and handed to the server, and the URIs that lead to them.
 *
 * Invariants:
 *  1. A UNIX socket has its owner, group and mode before it listens; until then a connect is refused.  It is never
 *     open to all, not even for a moment: the descriptor's mode is narrowed before bind(2), which applies it.
 *  2. URIs are those of the NBD URI specification (NetworkBlockDevice/nbd, doc/uri.md), percent-encoded after RFC 3986.
 */
#include "serve/internal.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/banned.h"

#define BACKLOG 128
#define SOCKET_PATH_MAX (sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1)

void listener_release(struct listener *l)
{
	if (l->fd >= 0)
		close(steal_fd(&l->fd));
	free(l->uri_head);
	free(l->uri_tail);
	l->uri_head = l->uri_tail = NULL;
}

/* Appends s; bytes other than RFC 3986's unreserved ones and those in `keep` become %XX. */
static void put_encoded(struct buf *out, const char *s, const char *keep)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		    strchr("-._~", c) || strchr(keep, c))
			buf_put_u8(out, c);
		else
			buf_printf(out, "%%%02X", c);
	}
}

static char *encoded(const char *prefix, const char *s, const char *keep)
{
	cleanup_buf struct buf b = BUF_INIT;

	buf_printf(&b, "%s", prefix);
	put_encoded(&b, s, keep);
	return b.failed ? NULL : str_dup(buf_str(&b));
}

char *listener_uri(const struct listener *l, const char *export_name)
{
	cleanup_free char *name = encoded("", export_name, "/@:");

	return name ? str_printf("%s%s%s", l->uri_head, name, l->uri_tail) : NULL;
}

char *serve_uri(const struct serve_export *e, const char *export_name)
{
	cleanup_free char *name = encoded("", export_name, "/@:");
	size_t head = strcspn(
		e->uri,
		"?"); /* the server's URI ends in its only '/', or has "?socket=" behind it */

	return name ? str_printf("%.*s%s%s", (int)head, e->uri, name, e->uri + head) : NULL;
}

/* --- UNIX --- */

static int bind_unix(int fd, const struct sockaddr_un *addr, const char *group, struct err *err)
{
	gid_t gid = 0;
	int grouped = run_socket_group(group, &gid, err);

	if (grouped < 0)
		return grouped;
	if (fchmod(fd, 0600) < 0 || bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0)
		return err_set_errno(err, ERR_IO, errno, "cannot bind socket '%s'", addr->sun_path);
	if (grouped && lchown(addr->sun_path, (uid_t)-1, gid) < 0)
		return err_set_errno(err, ERR_IO, errno, "cannot set the group of socket '%s'",
				     addr->sun_path);
	if (chmod(addr->sun_path, grouped ? 0660 : 0600) < 0)
		return err_set_errno(err, ERR_IO, errno, "cannot set the mode of socket '%s'",
				     addr->sun_path);
	if (listen(fd, BACKLOG) < 0)
		return err_set_errno(err, ERR_IO, errno, "cannot listen on socket '%s'",
				     addr->sun_path);
	return 0;
}

int listen_unix(const char *path, const char *group, struct listener *out, struct err *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	cleanup_fd int fd = -1;
	int code;

	if (!str_copy(addr.sun_path, sizeof(addr.sun_path), path))
		return err_set(
			err, ERR_INVALID,
			"socket path '%s' has %zu bytes and %zu is the most: set LIVEPOINT_RUN_DIR to a shorter "
			"folder, such as /tmp/livepoint-%u",
			path, strlen(path), SOCKET_PATH_MAX, (unsigned)geteuid());
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set_errno(err, ERR_IO, errno, "cannot make a socket");
	code = bind_unix(fd, &addr, group, err);
	if (code < 0)
		return code;
	memcpy(&out->addr, &addr, sizeof(addr));
	out->addr_len = sizeof(addr);
	out->uri_head = str_dup("nbd+unix:///");
	out->uri_tail = encoded("?socket=", path, "/");
	out->fd = steal_fd(&fd);
	return out->uri_head && out->uri_tail ? 0 : err_nomem(err, "URI");
}

/* --- TCP --- */

/* Splits HOST:PORT or [V6]:PORT; both owned by the caller. */
static int split_where(const char *where, char **host, const char **port, struct err *err)
{
	const char *colon = strrchr(where, ':');
	size_t n = colon ? (size_t)(colon - where) : 0;
	uint64_t number;

	if (n == 0 || !parse_u64(colon + 1, &number) || number > UINT16_MAX)
		return err_set(err, ERR_USAGE, "'%s' is not HOST:PORT", where);
	if (where[0] == '[' && where[n - 1] == ']')
		*host = str_printf("%.*s", (int)n - 2, where + 1);
	else if (memchr(where, ':', n))
		return err_set(err, ERR_USAGE, "'%s': write an IPv6 address as [ADDRESS]:PORT",
			       where);
	else
		*host = str_printf("%.*s", (int)n, where);
	*port = colon + 1;
	return *host ? 0 : err_nomem(err, "host");
}

static int listen_on(const struct addrinfo *a)
{
	cleanup_fd int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1;

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
		return -1;
	return steal_fd(&fd);
}

static uint16_t port_of(const struct sockaddr_storage *addr)
{
	return ntohs(addr->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)addr)->sin6_port :
						   ((const struct sockaddr_in *)addr)->sin_port);
}

static int tcp_uri(struct listener *l, const char *host, struct err *err)
{
	bool v6 = strchr(host, ':');

	l->addr_len = sizeof(l->addr);
	if (getsockname(l->fd, (struct sockaddr *)&l->addr, &l->addr_len) < 0)
		return err_set_errno(err, ERR_IO, errno, "cannot read the address of a socket");
	l->port = port_of(&l->addr);
	l->uri_head = str_printf("nbds://%s%s%s:%u/", v6 ? "[" : "", host, v6 ? "]" : "", l->port);
	l->uri_tail = str_dup("");
	return l->uri_head && l->uri_tail ? 0 : err_nomem(err, "URI");
}

int listen_tcp(const char *where, struct listener *out, struct err *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
				  .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
	struct addrinfo *list = NULL, *a;
	cleanup_free char *host = NULL;
	const char *port = NULL;
	int code = split_where(where, &host, &port, err);

	if (code < 0)
		return code;
	code = getaddrinfo(host, port, &hints, &list);
	if (code)
		return err_set(err, ERR_INVALID, "cannot listen on '%s': %s", where,
			       gai_strerror(code));
	for (a = list; a && out->fd < 0; a = a->ai_next)
		out->fd = listen_on(a);
	code = errno;
	freeaddrinfo(list);
	if (out->fd < 0)
		return err_set_errno(err, ERR_IO, code, "cannot listen on '%s'", where);
	return tcp_uri(out, host, err);
}
