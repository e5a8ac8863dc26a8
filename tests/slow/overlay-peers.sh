#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# tests/overlay-peers.sh and tests/overlay-sectors.sh, longer, each time with another seed.
. "$(dirname "$0")/../functions.sh"

count=$(slow_count 3 40)
passed=0 failed=0
seed=${LIVEPOINT_SEED:-$(date +%s)}
for ((n = 0; n < count; n++)); do
	for name in overlay-peers overlay-sectors; do
		if LIVEPOINT_SEED=$((seed + n * 10)) OVERLAY_REQUESTS=12000 OVERLAY_ROUNDS=3000 \
			bash "$abs_top_srcdir/tests/$name.sh" >log 2>&1; then
			passed=$((passed + 1))
		else
			tail -n 5 log
			failed=$((failed + 1))
		fi
	done
done
slow_done "writable exports against peers and models (seed $seed)" $passed $failed $((count * 2))
