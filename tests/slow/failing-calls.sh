#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# soak only: it has not ended within ten minutes on two busy CPUs; its short form is in make check.
# Each call into libc, SQLite, libcrypto and libzstd fails once, in all commands that change or judge a repository.
. "$(dirname "$0")/../functions.sh"

passed=0 failed=0 status=0
LIVEPOINT_SLOW=1 bash "$abs_top_srcdir/tests/failing-calls.sh" >out 2>&1 || status=$?
[ $status -ne 77 ] || skip "failing-calls"
tail -n 40 out
line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' out | tail -n 1) || true
[[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]] && passed=${BASH_REMATCH[1]} failed=${BASH_REMATCH[2]}
[ $status -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
slow_done "calls that fail" "$passed" "$failed" 1500
