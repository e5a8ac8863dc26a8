#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A few rounds of tests/slow/kill-backup.sh.
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"

fast_dir kill
for kind in plain encrypted; do
	drive kill-loop "$fast/$kind" $kind 12 "$seed"
done
drive_done
