#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A power cut at random instants of an init, three backups, a forget, a hold and a prune, with checkpoints, a merge of index
# segments, packs rewritten and packs removed, plain and encrypted, simulated over the recorded calls: the model and what is
# expected stand in tests/powerloss-replay.c.  Then planted bugs, each of which must be found: a sync that is left out.
. "$(dirname "${BASH_SOURCE[0]}")/../functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"
requires_faults

export POWERLOSS_RECORD=$abs_top_builddir/tests/.libs/powerloss-record.so
[ -f "$POWERLOSS_RECORD" ] || fail "not built: $POWERLOSS_RECORD"
if nm -D "$LIVEPOINT_BIN" 2>/dev/null | grep -q __asan_init; then
	skip "a sanitizer's runtime must come first: no preloading"
fi
fast_dir power
states=${STATES:-$(slow_count 400 2000)}
for kind in plain encrypted; do
	drive powerloss-replay "$fast/$kind" $kind $((states / 2)) "$seed"
done

# planted FAULT|plant:NAME EXPECTED: the bug must be seen, and by what it does.
planted() {
	local out status=0
	out=$("$abs_top_builddir/tests/powerloss-replay" "$fast/planted" plain 160 "$seed" "$1" 2>&1) || status=$?
	rm -rf "$fast/planted"
	if [ $status -eq 1 ] && grep -qE "$2" <<<"$out"; then
		echo "planted: without $1: $(grep -m 1 FAIL <<<"$out")"
		passed=$((passed + 1))
	else
		echo "planted: nobody has noticed that $1 was left out: $out"
		failed=$((failed + 1))
	fi
}
planted store.folder.sync:1+:skip 'cannot be read|repo_point_open|repo_disk_open|repo_session_begin|leftovers'
planted store.pack.sync:1+:skip 'cannot be read|repo_point_open|repo_disk_open|repo_session_begin|damaged'
planted store.folder.parent-sync:1+:skip 'cannot be read|repo_point_open|repo_disk_open|repo_session_begin|leftovers'
# A compaction, or a removal, that is recorded before the folder is synced.
planted plant:gc.rewrite-sync 'records, [0-9]+ are in use'
planted plant:gc.remove-sync 'leftovers|packs are listed'

if [ -n "${STATES:-}" ]; then drive_done; fi
slow_done "states after a power cut (seed $seed)" $passed $failed "$states"
