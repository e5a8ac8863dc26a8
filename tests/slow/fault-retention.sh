#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Every fault point that prune, forget, protect and repair hit: killed there, failing there in each way; and prunes and backups
# that stop there, are fenced and wake up.  What is expected stands in tests/fault-loop.c.  First, second and last hit of each
# name of a prune, the first of the others; all of them with --soak.
. "$(dirname "$0")/../functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"
requires_faults

hits=first some=some
[ -z "${LIVEPOINT_SOAK:-}" ] || hits=all some=all
fast_dir retention
drive fault-loop "$fast/plain" plain prune $some "$seed"
for scenario in forget protect repair fence-prune fence-backup; do
	drive fault-loop "$fast/plain" plain $scenario $hits "$seed"
done
for scenario in prune fence-prune; do
	drive fault-loop "$fast/encrypted" encrypted $scenario $hits "$seed"
done
slow_done "fault points of prune, forget, protect and repair (seed $seed)" $passed $failed 850
