/* SPDX-License-Identifier: GPL-3.0-or-later */
/* XXH3-64 over pieces, for files that are written and checked without being in memory at once. */
#include <stdlib.h>

#include <xxhash.h>

#include "base/base.h"
#include "base/banned.h"

struct check_stream {
	XXH3_state_t *state;
};

struct check_stream *check_stream_new(void)
{
	struct check_stream *c = mem_alloc(sizeof(*c));

	if (!c)
		return NULL;
	c->state = XXH3_createState();
	if (!c->state || XXH3_64bits_reset(c->state) == XXH_ERROR) {
		check_stream_free(c);
		return NULL;
	}
	return c;
}

void check_stream_update(struct check_stream *c, const void *p, size_t n)
{
	/* It can only fail for a NULL state or input. */
	(void)XXH3_64bits_update(c->state, p, n);
}

uint64_t check_stream_value(const struct check_stream *c)
{
	return XXH3_64bits_digest(c->state);
}

void check_stream_free(struct check_stream *c)
{
	if (!c)
		return;
	XXH3_freeState(c->state);
	free(c);
}
