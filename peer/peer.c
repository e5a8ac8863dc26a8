// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Connections to NBD servers, for sources and targets; see peer/peer.h.
 *
 * Invariants:
 *  1. No wait here is longer than its limit, whatever the server does: PEER_CONNECT_NS to connect, PEER_LEAVE_NS to leave.
 *  2. A peer that is gone without a word is noticed within a minute: TCP asks for it.
 */
#include "peer/peer.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base/banned.h"

#define PEER_CONNECT_NS (20ull * 1000 * 1000 * 1000)
#define PEER_LEAVE_NS (500ull * 1000 * 1000)
#define PEER_LEAVE_POLL_MS 50

const char *peer_reason(void)
{
	const char *text = nbd_get_error();

	return text ? text : "the server ended the connection";
}

bool peer_lost(struct nbd_handle *h)
{
	return !h || nbd_aio_is_dead(h) || nbd_aio_is_closed(h);
}

/* Invariant 2. */
static void peer_keepalive(int fd)
{
	const struct {
		int option, value;
	} options[] = { { TCP_KEEPIDLE, 30 },
			{ TCP_KEEPINTVL, 10 },
			{ TCP_KEEPCNT, 3 },
			{ TCP_USER_TIMEOUT, 60000 } };
	int on = 1;
	size_t i;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) < 0)
		return;
	for (i = 0; i < ARRAY_SIZE(options); i++) /* a UNIX socket has none of them */
		(void)!setsockopt(fd, IPPROTO_TCP, options[i].option, &options[i].value,
				  sizeof(options[i].value));
}

static int peer_connect(struct nbd_handle *h, const char *uri, const volatile int *stop,
			struct err *err)
{
	uint64_t until = time_mono_ns() + PEER_CONNECT_NS;

	if (nbd_add_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION) < 0 ||
	    nbd_set_uri_allow_local_file(h, true) < 0 || nbd_aio_connect_uri(h, uri) < 0)
		return err_set(err, ERR_IO, "%s", peer_reason());
	while (nbd_aio_is_connecting(h) || nbd_aio_is_negotiating(h)) {
		int code = stop ? *stop : 0;

		if (code)
			return err_set(err, code, "stopped while connecting");
		if (time_mono_ns() > until)
			return err_set(err, ERR_IO, "no answer within 20 s");
		nbd_poll(h, PEER_POLL_MS); /* a failure shows in the state */
	}
	if (!nbd_aio_is_ready(h))
		return err_set(err, ERR_IO, "%s", peer_reason());
	peer_keepalive(nbd_aio_get_fd(h));
	return 0;
}

int peer_dial(const char *uri, const volatile int *stop, struct nbd_handle **out, struct err *err)
{
	struct nbd_handle *h = nbd_create();
	int r;

	if (!h)
		return err_nomem(err, "an NBD handle");
	r = peer_connect(h, uri, stop, err);
	if (r < 0) {
		nbd_close(h);
		return r;
	}
	*out = h;
	return 0;
}

void peer_leave(struct nbd_handle *h)
{
	uint64_t until = time_mono_ns() + PEER_LEAVE_NS;

	if (!h)
		return;
	while (nbd_aio_in_flight(h) > 0 && !peer_lost(h) && time_mono_ns() < until)
		nbd_poll(h, PEER_LEAVE_POLL_MS);
	if (nbd_aio_in_flight(h) == 0 && nbd_aio_is_ready(h) && nbd_aio_disconnect(h, 0) >= 0)
		while (!peer_lost(h) && time_mono_ns() < until)
			nbd_poll(h, PEER_LEAVE_POLL_MS);
	nbd_close(h);
}
