#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The first hit of each fault point of a first backup, an init and a forget, and a prune that stops at each, is fenced and wakes
# up; tests/slow/fault-backup.sh and fault-retention.sh have the rest.
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"
requires_faults

fast_dir fault
drive fault-loop "$fast/e" encrypted full first "$seed"
drive fault-loop "$fast/p" plain init first "$seed"
drive fault-loop "$fast/f" plain forget first "$seed"
drive fault-loop "$fast/w" plain fence-prune first "$seed"
drive_done
