#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Some steps of tests/slow/model-gc.sh.
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"

requires_faults
fast_dir model
for kind in plain encrypted; do
	drive model-gc "$fast/$kind" $kind 60 "$seed"
done
drive_done
