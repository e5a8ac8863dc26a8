#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A few kills of the server of a writable export under a file system (tests/overlay-kills.sh); many: tests/slow/overlay-kill.sh.
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"
. "$abs_top_srcdir/tests/overlay-kills.sh"

requires_kills
fast_dir okill
kill_run plain ext4 1
kill_run encrypted ext4 1
kill_run encrypted xfs 1
kill_run plain btrfs 1
drive_done
