#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# kill -9 of the server of a writable export in the middle of writes, under ext4, xfs and btrfs, plain and encrypted: mounted
# again each acknowledged record is there, and the checker is clean (tests/overlay-kills.sh).  LIVEPOINT_SEED repeats a run.
. "$(dirname "$0")/../functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"
. "$abs_top_srcdir/tests/overlay-kills.sh"

requires_kills
fast_dir okill
count=$(slow_count 60 504)
each=$(((count + 5) / 6))
for fs in ext4 xfs btrfs; do
	for kind in plain encrypted; do
		kill_run $kind $fs $each
	done
done
slow_done "kills of a writable export (seed $seed)" $passed $failed $((each * 6))
