/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Shared by the files of base/ and its unit tests only. */
#ifndef LIVEPOINT_BASE_INTERNAL_H
#define LIVEPOINT_BASE_INTERNAL_H

#include "base/base.h"

/* Counts one allocation against mem_fail_after(); true: this one has to fail. */
bool mem_fails_now(void);

/* In builds with --enable-coverage: writes gcov's counters, once, for a process that ends without atexit().  Any thread. */
#ifdef ENABLE_COVERAGE
void counters_write(void);
#else
static inline void counters_write(void)
{
}
#endif

/* The two ways to a CRC-32C: by tables (any machine) and by the SSE 4.2 instruction.  The second must be
 * called only where crc32c_have_sse42() is true. */
uint32_t crc32c_table(const void *p, size_t n);
bool crc32c_have_sse42(void);
uint32_t crc32c_sse42(const void *p, size_t n);

#endif
