#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# kill -9 of `livepoint backup` at random instants, plain and encrypted: no point is ever lost and nobody has to help.
# What is checked after each kill stands in tests/kill-loop.c.  LIVEPOINT_SEED repeats a run.
. "$(dirname "$0")/../functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"

fast_dir kill
count=$(slow_count 220 2000)
for kind in plain encrypted; do
	drive kill-loop "$fast/$kind" $kind $((count / 2)) "$seed"
done
slow_done "kills of backup (seed $seed)" $passed $failed $((count / 2 * 2))
