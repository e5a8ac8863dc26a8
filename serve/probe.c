// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The first half of an NBD connection, to learn that a server answers and has the export: greeting, NBD_OPT_INFO,
 * NBD_OPT_ABORT.  Layout and numbers: NetworkBlockDevice/nbd, doc/proto.md, "Fixed newstyle negotiation".
 *
 * The socket listens before the server runs, so connect(2) succeeds at once and the greeting is what tells.  Each wait
 * is short and followed by a look at the child: one that has ended never greets.
 *
 * Invariants:
 *  1. Nothing waits beyond the deadline.
 *  2. A dead child is reaped here at once, and *pid is 0 from then on.
 */
#include "serve/internal.h"

#include <errno.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"

#include "base/banned.h"

#define TICK_MS 50
#define LEAVE_MS 2000
#define REPLY_MAX (64 * 1024)

#define GREETING_LEN 18
#define MAGIC_NBD UINT64_C(0x4e42444d41474943) /* NBDMAGIC */
#define MAGIC_OPT UINT64_C(0x49484156454f5054) /* IHAVEOPT */
#define MAGIC_REPLY UINT64_C(0x0003e889045565a9)
#define FLAG_FIXED_NEWSTYLE 1
#define FLAG_NO_ZEROES 2
#define OPT_ABORT 2
#define OPT_INFO 6
#define REP_ACK 1
#define REP_INFO 3
#define INFO_EXPORT 0

static void put_be64(uint8_t *p, uint64_t v)
{
	put_be32(p, (uint32_t)(v >> 32));
	put_be32(p + 4, (uint32_t)v);
}

/* Returns false when the child has ended. */
static bool child_alive(struct probe *p)
{
	if (*p->pid > 0 && waitpid(*p->pid, p->status, WNOHANG) == *p->pid)
		*p->pid = 0;
	return *p->pid > 0;
}

static int child_ended(struct err *err)
{
	return err_set(err, ERR_CHILD, "nbdkit ended before it answered");
}

/* Waits for input. */
static int wait_input(struct probe *p, struct err *err)
{
	struct pollfd poller = { .fd = p->fd, .events = POLLIN };

	for (;;) {
		int n = poll(&poller, 1, TICK_MS), stop = p->stop ? *p->stop : 0;

		if (stop)
			return err_set(err, stop, "the export was stopped: nothing is served");

		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return err_set_errno(err, ERR_IO, errno, "cannot wait for nbdkit");
		if (!child_alive(p))
			return child_ended(err);
		if (time_mono_ns() > p->deadline_ns)
			return err_set(err, ERR_CHILD, "nbdkit does not answer");
	}
}

static int receive(struct probe *p, void *dst, size_t n, struct err *err)
{
	size_t done = 0;

	while (done < n) {
		int code = wait_input(p, err);
		ssize_t got;

		if (code < 0)
			return code;
		got = recv(p->fd, (char *)dst + done, n - done, MSG_DONTWAIT);
		if (got < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (got <= 0) {
			/* It is on its way out, or threw us out: give it a moment, its status says more. */
			for (unsigned i = 0; i < 20 && child_alive(p); i++)
				time_sleep_ms(TICK_MS);
			return err_set(err, ERR_CHILD, "nbdkit closed the connection");
		}
		done += (size_t)got;
	}
	return 0;
}

static int transmit(struct probe *p, const void *src, size_t n, struct err *err)
{
	size_t done = 0;

	while (done < n) {
		ssize_t sent = send(p->fd, (const char *)src + done, n - done, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return err_set_errno(err, ERR_CHILD, errno, "cannot write to nbdkit");
		done += (size_t)sent;
	}
	return 0;
}

int probe_greet(struct probe *p, struct err *err)
{
	const struct listener *l = p->listener;
	uint8_t greeting[GREETING_LEN], flags[4];
	int code;

	p->fd = socket(l->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (p->fd < 0 || connect(p->fd, (const struct sockaddr *)&l->addr, l->addr_len) < 0)
		return err_set_errno(err, ERR_CHILD, errno, "cannot connect to nbdkit");
	code = receive(p, greeting, sizeof(greeting), err);
	if (code < 0)
		return code;
	if (get_be64(greeting) != MAGIC_NBD || get_be64(greeting + 8) != MAGIC_OPT ||
	    !(greeting[17] & FLAG_FIXED_NEWSTYLE))
		return err_set(err, ERR_CHILD,
			       "nbdkit does not greet in the fixed newstyle of NBD");
	put_be32(flags, FLAG_FIXED_NEWSTYLE | (greeting[17] & FLAG_NO_ZEROES));
	return transmit(p, flags, sizeof(flags), err);
}

static int send_option(struct probe *p, uint32_t option, const void *data, uint32_t n,
		       struct err *err)
{
	uint8_t head[16];
	int code;

	put_be64(head, MAGIC_OPT);
	put_be32(head + 8, option);
	put_be32(head + 12, n);
	code = transmit(p, head, sizeof(head), err);
	return code < 0 || n == 0 ? code : transmit(p, data, n, err);
}

/* One reply to OPT_INFO: returns its type; fills *size if it brings one. */
static int receive_reply(struct probe *p, uint32_t *type, uint64_t *size, struct err *err)
{
	cleanup_free uint8_t *data = NULL;
	uint8_t head[20];
	uint32_t n;
	int code = receive(p, head, sizeof(head), err);

	if (code < 0)
		return code;
	n = get_be32(head + 16);
	if (get_be64(head) != MAGIC_REPLY || get_be32(head + 8) != OPT_INFO || n > REPLY_MAX)
		return err_set(err, ERR_CHILD, "nbdkit's reply to NBD_OPT_INFO makes no sense");
	data = mem_alloc(n + 1);
	if (!data)
		return err_nomem(err, "reply");
	code = receive(p, data, n, err);
	if (code < 0)
		return code;
	*type = get_be32(head + 12);
	if (*type == REP_INFO && n >= 10 && data[0] == 0 && data[1] == INFO_EXPORT)
		*size = get_be64(data + 2);
	return 0;
}

int probe_export(struct probe *p, const char *name, uint64_t size, struct err *err)
{
	uint32_t len = (uint32_t)strlen(name), type = REP_INFO;
	cleanup_buf struct buf b = BUF_INIT;
	uint64_t seen = UINT64_MAX;
	uint8_t be[4];
	int code;

	if (p->tls)
		return 0;
	put_be32(be, len);
	buf_put(&b, be, sizeof(be));
	buf_put(&b, name, len);
	buf_put_zero(&b, 2); /* no information asked for by number: size and flags come anyway */
	if (b.failed)
		return err_nomem(err, "request");
	code = send_option(p, OPT_INFO, b.data, (uint32_t)b.len, err);
	while (code == 0 && type == REP_INFO)
		code = receive_reply(p, &type, &seen, err);
	if (code < 0)
		return code;
	if (type != REP_ACK)
		return err_set(err, ERR_CHILD, "nbdkit refuses export '%s' (reply %#x)", name,
			       type);
	if (seen != size)
		return err_set(err, ERR_CHILD, "nbdkit serves '%s' with %llu bytes, not %llu", name,
			       (unsigned long long)seen, (unsigned long long)size);
	return 0;
}

void probe_leave(struct probe *p)
{
	uint64_t end = time_mono_ns() + LEAVE_MS * UINT64_C(1000000);
	uint8_t rest[256];

	if (p->fd < 0)
		return;
	p->deadline_ns = MIN(p->deadline_ns, end);
	if (send_option(p, OPT_ABORT, NULL, 0, NULL) == 0 && shutdown(p->fd, SHUT_WR) == 0)
		while (wait_input(p, NULL) == 0 &&
		       recv(p->fd, rest, sizeof(rest), MSG_DONTWAIT) > 0)
			;
	close(steal_fd(&p->fd));
}
