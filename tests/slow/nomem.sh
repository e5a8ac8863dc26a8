#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Each allocation of a backup with its reading, of forget and protect, of prune and of verify fails, one at a time
# (tests/unit/repo-nomem.c, tests/unit/repo-nomem-gc.c); the counts are those of allocations.
. "$(dirname "$0")/../functions.sh"

passed=0 failed=0
for name in repo-nomem repo-nomem-gc; do
	status=0
	LIVEPOINT_SLOW=1 "$abs_top_builddir/tests/unit/$name" >out 2>&1 || status=$?
	grep 'allocations failed' out || true
	if [ $status -ne 0 ]; then
		failed=$((failed + 1))
		tail -n 20 out
	fi
	passed=$((passed + $(sed -nE 's/^.*: ([0-9]+) allocations failed.*/\1/p' out | awk '{ n += $1 } END { print n + 0 }')))
done
slow_done "allocations that fail" $passed $failed 4300
