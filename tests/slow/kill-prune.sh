#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# kill -9 of backup, forget, unforget, protect, unprotect, prune with compaction and repair, plain and encrypted: no point is
# ever lost, none that can come back either, and nobody has to help.  What is checked after each kill stands in
# tests/kill-prune.c.  LIVEPOINT_SEED repeats a run.
. "$(dirname "$0")/../functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"

fast_dir prune
count=$(slow_count 320 2000)
for kind in plain encrypted; do
	drive kill-prune "$fast/$kind" $kind $((count / 2)) "$seed"
done
slow_done "kills of backup, forget, prune and repair (seed $seed)" $passed $failed $((count / 2 * 2))
