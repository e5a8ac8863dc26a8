#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A power cut at random instants of a layer of an overlay under two writers, plain and encrypted, simulated over the recorded
# calls: tests/powerloss-overlay.c.  Then planted bugs, each of which must be found: a sync that is left out.
. "$(dirname "${BASH_SOURCE[0]}")/../functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"
requires_faults

export POWERLOSS_RECORD=$abs_top_builddir/tests/.libs/powerloss-record.so
[ -f "$POWERLOSS_RECORD" ] || fail "not built: $POWERLOSS_RECORD"
if nm -D "$LIVEPOINT_BIN" 2>/dev/null | grep -q __asan_init; then
	skip "a sanitizer's runtime must come first: no preloading"
fi
fast_dir power
states=${STATES:-$(slow_count 1000 6000)}
for kind in plain encrypted; do
	drive powerloss-overlay "$fast/$kind" $kind $((states / 2)) "$seed"
done

# planted FAULT KIND: the bug must be seen, and by what it does.
planted() {
	local out status=0
	out=$("$abs_top_builddir/tests/powerloss-overlay" "$fast/planted" "$2" 400 "$seed" "$1" 2>&1) || status=$?
	rm -rf "$fast/planted"
	if [ $status -eq 1 ] && grep -qE 'neither as flushed|cannot open|state log' <<<"$out"; then
		echo "planted: without $1: $(grep -m 1 FAIL <<<"$out")"
		passed=$((passed + 1))
	else
		echo "planted: nobody has noticed that $1 was left out: $out"
		failed=$((failed + 1))
	fi
}
planted overlay.data.sync:1+:skip plain
planted overlay.data.sync:1+:skip encrypted
planted overlay.log.sync:1+:skip plain
planted overlay.compact.sync:1+:skip plain
planted overlay.compact.dirsync:1+:skip plain

if [ -n "${STATES:-}" ]; then drive_done; fi
slow_done "states of an overlay after a power cut (seed $seed)" $passed $failed "$states"
