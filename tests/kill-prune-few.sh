#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A few kills of tests/slow/kill-prune.sh.
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"

fast_dir prune
for kind in plain encrypted; do
	drive kill-prune "$fast/$kind" $kind 12 "$seed"
done
drive_done
