/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The other end of an NBD connection of ours: finding it, giving it up in time, leaving it in good order.  What is said
 * over the connection is the callers' business.
 * One thread at a time a handle.
 */
#ifndef LIVEPOINT_PEER_PEER_H
#define LIVEPOINT_PEER_PEER_H

#include <libnbd.h>

#include "base/base.h"

#define PEER_POLL_MS 200 /* of one nbd_poll(): between two looks at a stop flag */

/* Why libnbd failed last in this thread; borrowed until its next call. */
const char *peer_reason(void);
/* True without a handle, too. */
bool peer_lost(struct nbd_handle *h);
/* Connects to uri and asks for base:allocation; within 20 s.  stop: may be NULL; a code there ends the attempt and is
 * returned.  ERR_IO with the reason alone: who could not be reached is for the caller to say.  *out: peer_leave(). */
int peer_dial(const char *uri, const volatile int *stop, struct nbd_handle **out, struct err *err);
/* Closes the handle; requests in flight get half a second to end, and the server is told that we go (nbdkit 1.32 may abort
 * when a connection vanishes under a reply).  Their memory is free when it returns.  NULL is fine. */
void peer_leave(struct nbd_handle *h);

#endif
