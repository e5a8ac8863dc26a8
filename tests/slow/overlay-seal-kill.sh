#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# tests/overlay-seal-kill.sh with every step that a seal takes, its session's too.
. "$(dirname "$0")/../functions.sh"

status=0
LIVEPOINT_SEAL_STEPS=. bash "$abs_top_srcdir/tests/overlay-seal-kill.sh" >out 2>&1 || status=$?
cat out
deaths=$(sed -nE 's/^([0-9]+) deaths$/\1/p' out)
slow_done "deaths of sealers and servers" "${deaths:-0}" $((status != 0)) 30
