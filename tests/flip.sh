#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Flipped bits in every kind of file of a repository and every region of packs; packs and segments cut, emptied, lost:
# right bytes or an error that names the place, never wrong bytes.  See tests/flip.c; tests/slow/flip-many.sh has more.
. "$(dirname "${BASH_SOURCE[0]}")/functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"

fast_dir flip
flips=${FLIPS:-300}
for kind in plain encrypted; do
	drive flip "$fast/$kind" $kind $((flips / 2)) "$seed"
done
if [ -n "${FLIPS:-}" ]; then slow_done "flipped bits (seed $seed)" $passed $failed $((FLIPS * 85 / 100)); fi
drive_done
