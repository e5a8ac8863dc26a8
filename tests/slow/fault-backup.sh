#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Every fault point that a backup, an init and a restore hit: killed there, failing there, stopped there.  What is
# expected stands in tests/fault-loop.c.  First, second and last hit of each name; all of them with --soak.
. "$(dirname "$0")/../functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"
requires_faults

hits=some
[ -z "${LIVEPOINT_SOAK:-}" ] || hits=all
fast_dir fault
for kind in plain encrypted; do
	for scenario in full incremental merge init restore stop; do
		drive fault-loop "$fast/$kind" $kind $scenario $hits "$seed"
	done
done
drive fault-loop "$tmp/checkpoint" plain checkpoint first "$seed"
slow_done "fault points of backup, init and restore (seed $seed)" $passed $failed 1500
