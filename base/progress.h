/* SPDX-License-Identifier: GPL-3.0-or-later */
/* How long work tells how far it is: called often (after each buffer) from the thread that does the work; the
 * receiver decides what to show. */
#ifndef LIVEPOINT_BASE_PROGRESS_H
#define LIVEPOINT_BASE_PROGRESS_H

#include <stdint.h>

struct progress {
	const char *phase; /* "vda", "verify": what is being worked on */
	uint64_t done, total; /* bytes; total UINT64_MAX: unknown */
	uint64_t stored; /* bytes added to packs or written to the target so far */
};
typedef void (*progress_fn)(void *opaque, const struct progress *p);

#endif
