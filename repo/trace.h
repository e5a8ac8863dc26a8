/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Learned prefetch: the chunks that the first minutes of a recovery read from its point are remembered in order, per NAME and
 * disk, and the next recovery of any point of that name has them brought into the chunk cache ahead of the guest.
 *
 * A trace is derived data, one file of traces/, replaced by rename and sealed like a record: losing it costs time only, so
 * that nothing here is an error of its caller.
 *
 * Invariants:
 *  1. Recorded are the first TRACE_SECONDS seconds, or TRACE_BYTES bytes, of what is read from the point.
 *  2. What is brought ahead and was not read yet stays under half of the chunk cache; one job of a trace is at work at a
 *     time, at the end of the pool's line, so that many recoveries share the pool and none waits behind another's trace.
 *  3. A trace that is shorter than half of the stored one does not replace it.
 */
#ifndef LIVEPOINT_REPO_TRACE_H
#define LIVEPOINT_REPO_TRACE_H

#include "repo/repo.h"

#define TRACE_SECONDS 120
#define TRACE_BYTES (512ull << 20)

struct repo_trace;
/* Plays what is stored for d's name and, with record, records d's reads (not in a repository that cannot be written).  NULL: nothing
 * to do here, or no memory.  d: borrowed until repo_trace_end().  LIVEPOINT_NO_TRACE=1 in the environment: NULL
 * (for measurements). */
struct repo_trace *repo_trace_start(struct repo_disk *d, bool record);
/* About to read [offset, offset + n) of the disk.  Any thread; t may be NULL. */
void repo_trace_note(struct repo_trace *t, uint64_t offset, uint64_t n);
/* Ends playing; stores what was recorded, if that was not done before.  No repo_trace_note() is at work or comes later. */
void repo_trace_end(struct repo_trace *t);

#endif
