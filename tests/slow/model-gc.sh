#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Backup, forget, unforget, holds, prune, readers, kills, suspended processes that are fenced and wake up again, crashes:
# in random order against a model in memory (tests/model-gc.c).  LIVEPOINT_SEED repeats a run.
. "$(dirname "$0")/../functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"

requires_faults
fast_dir model
count=$(slow_count 3000 20000)
# a world at a time: a repository does not grow for ever, and each seed begins with a small one
for ((i = 0; i * 500 < count; i++)); do
	kind=plain
	[ $((i % 2)) -eq 0 ] || kind=encrypted
	drive model-gc "$fast/$i" $kind 500 $((seed + i))
	rm -rf "$fast/$i"
done
slow_done "steps of the garbage collection model (seed $seed)" $passed $failed $((count / 500 * 500))
