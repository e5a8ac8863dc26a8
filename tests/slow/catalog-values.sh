#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# soak only: it has not ended within ten minutes on two busy CPUs; its short form is in make check.
# Every column of the catalog with values that no program of ours writes, all commands.
. "$(dirname "$0")/../functions.sh"

status=0 passed=0
LIVEPOINT_SLOW=1 bash "$abs_top_srcdir/tests/catalog-values.sh" >out 2>&1 || status=$?
[ $status -ne 77 ] || skip "catalog-values"
cat out
passed=$(sed -nE 's/^([0-9]+) passed, 0 failed.*/\1/p' out)
slow_done "values of the catalog" "${passed:-0}" "$((status != 0))" 2000
