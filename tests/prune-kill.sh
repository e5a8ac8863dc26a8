#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Prune killed at each of its fault points (the first and the last hit of each): every point still reads back, the next
# prune finishes what it began, nothing is left over, and the space is given back all the same.
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"

requires_faults
requires jq --version
fast_dir prune-kill
size() { find "$LIVEPOINT_REPOSITORY/packs" -name '*.pack' -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }'; }

make_repo "$fast/first"
random_file a.raw 4M 1
{ random_bytes 2M 2; tail -c 2M a.raw; } >b.raw
random_file c.raw 2M 3
a=$(lp -q backup web vda=a.raw)
b=$(lp -q backup web vda=b.raw)
c=$(lp -q backup other vda=c.raw)
d=$(lp -q backup other vda=a.raw)
lp -q forget "$a" "$c" >/dev/null

export LIVEPOINT_REPOSITORY=$fast/work
# the cache remembers generations, and would warn of an older copy
fresh() { rm -rf "$fast/work" "$LIVEPOINT_CACHE_DIR" && cp -a "$fast/first" "$fast/work"; }
fresh
LIVEPOINT_FAULT_LOG=$tmp/points lp -q prune
lp -q prune # so that both have dropped the state object before
want=$(size)
# "name first" and "name last"
mapfile -t cases < <(awk '{ n[$1]++ } END { for (p in n) { print p, 1; if (n[p] > 1) print p, n[p] } }' points | sort)
[ ${#cases[@]} -gt 30 ] || fail "only ${#cases[@]} places"
for case in "${cases[@]}"; do
	read -r point hit <<<"$case"
	fresh
	code=0
	LIVEPOINT_FAULT=$point:$hit:kill lp -q prune 2>/dev/null || code=$?
	[ $code = 137 ] || { echo "$case: not reached (exit $code)"; failed=$((failed + 1)); continue; }
	for pair in "$b b" "$d a"; do
		lp -q restore --overwrite "${pair% *}" back.raw
		cmp -s back.raw "${pair##* }.raw" || fail "killed at $case: ${pair% *} differs"
	done
	# a pack that is given up as a whole may be gone already: no reason to alarm anybody
	lp -q verify --leftovers >left || fail "killed at $case: $(cat left)"
	! grep "file is missing" left || fail "killed at $case: a pack that nobody needs is missed"
	lp -q prune
	lp -q prune
	left=$(lp -q verify --leftovers)
	[ -z "$left" ] || fail "killed at $case: $left"
	lp -q verify --data >/dev/null || fail "killed at $case: verify"
	[ "$(size)" -le $((want + 4096)) ] || fail "killed at $case: $(size) bytes instead of $want"
	passed=$((passed + 1))
done
drive_done
