#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The catalog is lost after forget, protect and half a prune, which was killed at each of its steps: what was forgotten stays
# forgotten, what was held stays held, and every complete point is what it was.  Then the prune is done to its end.
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"
requires jq --version
requires_faults
fast_dir prune

good=$fast/good
make_repo "$good"
random_file disk.raw 2M 1
points=() sums=()
for i in 0 1 2 3; do
	random_bytes 512K $((i + 5)) | dd of=disk.raw bs=64K seek=$((i * 6)) conv=notrunc status=none
	points+=("$(lp -q backup web disk.raw 2>/dev/null)")
	sums+=("$(sha disk.raw)")
done
lp -q forget "${points[1]}" --grace 90d
lp -q forget "${points[2]}"
lp -q protect "${points[0]}" --reason kept
sleep 1.1 # the grace of point 2, none, is over

fresh() {
	rm -rf "$fast/repo" "$tmp/cache"
	cp -a "$good" "$fast/repo"
	export LIVEPOINT_REPOSITORY=$fast/repo
}
check_point() { # WHAT NUMBER
	rm -f out.raw
	lp -q restore "${points[$2]}" out.raw || fail "$1: point $2 cannot be restored"
	[ "$(sha out.raw)" = "${sums[$2]}" ] || fail "$1: point $2 is not what it was"
}
check() { # WHAT
	[ "$(lp --json list | jq -c '[.[] | [.point, .damaged, .hold.reason]]')" = \
		"[[\"${points[0]}\",false,\"kept\"],[\"${points[3]}\",false,null]]" ] || fail "$1: $(lp list)"
	check_point "$1" 0
	check_point "$1" 3
	[ "$(lp --json list --forgotten | jq -c --arg p "${points[1]}" '[.[] | select(.point == $p)] | length')" = 1 ] ||
		fail "$1: the forgotten point is gone: $(lp list --forgotten)"
	expect_exit 1 lp -q forget "${points[0]}" 2>/dev/null
}

fresh
LIVEPOINT_FAULT_LOG=$tmp/hits.txt lp -q prune --min-unused 0
check "the whole prune"
sort -u hits.txt >steps.txt
[ "$(wc -l <steps.txt)" -ge 25 ] || fail "a prune has only $(wc -l <steps.txt) steps"
killed=0
while read -r step; do
	hits=$(grep -cx "$step" hits.txt)
	for hit in 1 $([ "$hits" -eq 1 ] || [ -z "${LIVEPOINT_SLOW:-}" ] || seq 2 "$hits"); do
		fresh
		status=0
		{ LIVEPOINT_FAULT=$step:$hit:kill lp -q prune --min-unused 0 >/dev/null; } 2>/dev/null || status=$?
		[ $status -eq 137 ] || fail "not killed at $step:$hit: $status"
		rm -f "$fast"/repo/catalog.sqlite*
		what="killed at $step:$hit"
		lp -q repair >repair.txt 2>&1 || fail "$what: $(cat repair.txt)"
		check "$what"
		expect_exit 1 lp -q prune 2>/dev/null # nobody accepted it yet
		lp -q repair --accept >/dev/null
		lp -q prune --min-unused 0 2>prune.txt || fail "$what: prune: $(cat prune.txt)"
		check "$what, pruned"
		lp -q unforget "${points[1]}" >/dev/null
		check_point "$what, pruned" 1
		lp -q verify --data >verify.txt 2>&1 || fail "$what: $(cat verify.txt)"
		[ -z "$(lp -q verify --leftovers | grep -v ^quarantine/)" ] || fail "$what: $(lp -q verify --leftovers)"
		killed=$((killed + 1))
	done
done <steps.txt
echo "$killed kills"
