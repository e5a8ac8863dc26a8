#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# kill -9 of `livepoint backup` at random instants, plain and encrypted: no point is ever lost and nobody has to help.
# What is checked after each kill stands in tests/kill-loop.c.  LIVEPOINT_SEED repeats a run.
. "$(dirname "$0")/../functions.sh"

seed=${LIVEPOINT_SEED:-$(date +%s)}
count=$(slow_count 220 2000)
passed=0 failed=0
for kind in plain encrypted; do
	"$abs_top_builddir/tests/kill-loop" "$tmp/$kind" $kind $((count / 2)) "$seed" | tee "$kind.log" || true
	last=$(tail -n 1 "$kind.log")
	passed=$((passed + ${last%% passed*}))
	[ "$last" = "${last%% *} passed, 0 failed" ] || failed=$((failed + 1))
done
slow_done "kills of backup (seed $seed)" $passed $failed $((count / 2 * 2))
