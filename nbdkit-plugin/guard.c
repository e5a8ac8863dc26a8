// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * A guard against a bug of nbdkit 1.32 (Debian 12), for servers that preload this plugin.
 *
 * When a client leaves while several replies are on their way to it, the worker that meets EPIPE marks the connection
 * dead and forgets its socket; the next worker then aborts the whole server (raw_send_socket: Assertion `sock >= 0'
 * failed), and with it every other client.  A killed QEMU does that.  Fixed in nbdkit by commit 9d82aa4f, "server: Don't
 * assert on send if client hangs up early".
 *
 * How it works: with LD_PRELOAD naming the plugin, which serve/ does, nbdkit's send(2) and read(2) are the two here.  A
 * client that has left then looks like one that said goodbye: what is sent to it is dropped, and reading gives the end
 * of file.  nbdkit finishes the requests under way and closes.  Without LD_PRELOAD nothing here is called by nbdkit.
 *
 * Invariants:
 *  1. Only EPIPE and ECONNRESET are changed, which files and pipes that are read never give.
 *  2. No child inherits the preload: it would miss nbdkit's functions.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/banned.h"

#define EXPORTED __attribute__((visibility("default")))
#define PLUGIN_FILE "/nbdkit-livepoint-plugin.so"

/* Named by label: headers may define read() inline. */
EXPORTED ssize_t guard_send(int fd, const void *buf, size_t n, int flags) __asm__("send");
EXPORTED ssize_t guard_read(int fd, void *buf, size_t n) __asm__("read");

ssize_t guard_send(int fd, const void *buf, size_t n, int flags)
{
	ssize_t r = sendto(fd, buf, n, flags | MSG_NOSIGNAL, NULL, 0);

	return r < 0 && (errno == EPIPE || errno == ECONNRESET) ? (ssize_t)n : r;
}

ssize_t guard_read(int fd, void *buf, size_t n)
{
	struct iovec part = { .iov_base = buf, .iov_len = n };
	ssize_t r = readv(fd, &part, 1);

	return r < 0 && errno == ECONNRESET ? 0 : r;
}

/* Takes the plugin, which stands first, out of LD_PRELOAD again. */
static void __attribute__((constructor)) guard_forget_preload(void)
{
	const char *list = getenv("LD_PRELOAD");
	size_t n = list ? strcspn(list, ":") : 0, file = sizeof(PLUGIN_FILE) - 1;

	if (n < file || strncmp(list + n - file, PLUGIN_FILE, file) != 0)
		return;
	if (list[n])
		setenv("LD_PRELOAD", list + n + 1, 1);
	else
		unsetenv("LD_PRELOAD");
}
