// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * nbd-rude-client URI: asks for 40 times 1 MiB, takes no reply, and is gone after 0.2 s without a goodbye, as a killed
 * machine would be.  Exit 0 if it could be rude, 1 else.
 */
#include <libnbd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/banned.h"

#define REQUESTS 40
#define BYTES (1u << 20)

static char buffer[REQUESTS][BYTES];

int main(int argc, char **argv)
{
	struct nbd_handle *nbd = nbd_create();
	unsigned i;

	if (argc != 2 || !nbd || nbd_connect_uri(nbd, argv[1]) < 0) {
		fprintf(stderr, "nbd-rude-client: %s\n", nbd_get_error());
		return 1;
	}
	for (i = 0; i < REQUESTS; i++) {
		if (nbd_aio_pread(nbd, buffer[i], BYTES, (uint64_t)i * BYTES, NBD_NULL_COMPLETION,
				  0) < 0) {
			fprintf(stderr, "nbd-rude-client: %s\n", nbd_get_error());
			return 1;
		}
	}
	usleep(200 * 1000);
	_exit(0);
}
