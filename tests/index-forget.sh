#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The chunk index follows what is stored: a prune merges the segments that are mostly entries of what is gone, and a backup that
# merges many leaves such entries out.  Killed or failing at each step of it: nothing is lost, nothing is left over.
. "$(dirname "$0")/functions.sh"
requires jq --version

# round SEED: a backup of other data, and the one before forgotten.
round() {
	random_file disk 4M "$1"
	lp -q backup a >point --time "2026-01-01T00:00:$1Z" disk
	lp -q forget a --keep-last 1 >forgotten
}
index_bytes() {
	lp --json stats | jq .index_bytes
}
# whole: the newest point is right, nothing is left over, all is found by the index.
whole() {
	local new
	lp -q restore --overwrite a back
	cmp disk back || fail "$1: another content"
	lp verify --leftovers >leftovers 2>&1 || fail "$1: verify --leftovers"
	grep -qx "0 leftovers" leftovers || fail "$1: $(cat leftovers)"
	[ "${2:-kill}" = kill ] || return 0
	lp -q verify --data || fail "$1: verify"
	new=$(lp --json backup again disk | jq -s '.[-1].stored')
	[ "$new" -lt 100000 ] || fail "$1: $new bytes were stored again"
	lp -q forget again@latest >forgotten
}

make_repo "$tmp/repo"
round 01
one=$(index_bytes)
for ((i = 2; i < 8; i++)); do
	round 0$i
	lp -q prune
done
now=$(index_bytes)
[ "$now" -le $((2 * one)) ] || fail "index of $now bytes, of one generation $one"
whole "after prunes"

# By their number: entries that are gone are left out, with a prune before that was not allowed to trim.
for ((i = 10; i < 17; i++)); do
	round $i
	LIVEPOINT_FAULT=store.segment.write:1+:eio lp prune >err 2>&1 || fail "a prune without a merge failed: $(cat err)"
	grep -q "index segments stay" err || fail "nothing was said: $(cat err)"
done
grown=$(index_bytes)
[ "$grown" -gt $((4 * one)) ] || fail "nothing to leave out: $grown"
LIVEPOINT_FAULT_NUMBER=repo.index.merge:4 lp -q backup b disk >point
now=$(index_bytes)
[ "$now" -lt "$grown" ] || fail "a merge by number left nothing out: $now of $grown"
whole "after a merge by number"

# Each step of the merge in prune.
round 30
cp -a repo saved
rm -f log
before=$(index_bytes)
LIVEPOINT_FAULT_LOG=$tmp/log lp -q prune
clean=$(index_bytes)
[ "$clean" -lt "$before" ] || fail "nothing was left out: $clean of $before"
for point in store.segment.write store.segment.sync store.segment.rename store.segment.dirsync catalog.segment.before \
	catalog.segment.after catalog.swap.before catalog.swap.after store.segment.remove; do
	grep -qx "$point" log || fail "$point was not passed"
	for action in kill eio enospc; do
		rm -rf repo cache
		cp -a saved repo
		status=0
		LIVEPOINT_FAULT=$point:1:$action lp -q prune 2>err || status=$?
		[ $action != kill ] || [ $status = 137 ] || fail "$point: $status, not killed"
		[ $status = 0 ] || [ -s err ] || [ $action = kill ] || fail "$point:$action: said nothing"
		lp -q prune || fail "$point:$action: the next prune failed"
		now=$(index_bytes)
		[ "$now" -le $((clean + 200)) ] || fail "$point:$action: index of $now bytes, not $clean"
		whole "$point:$action" $action
	done
done
