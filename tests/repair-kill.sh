#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A repair that is killed at any of its steps is run again, and everything is whole.  With LIVEPOINT_SLOW=1 (tests/slow/
# repair-kill.sh) in more scenarios, and at the last hit of each step too.
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"
requires jq --version
requires_faults
fast_dir repair # neither a kill nor a fault takes the page cache

good=$fast/good
random_file one.raw 1M 1
cp one.raw two.raw
random_bytes 128K 2 | dd of=two.raw bs=64K seek=8 conv=notrunc status=none
make_repo "$good"
one=$(lp -q backup web one.raw)
two=$(lp -q backup web two.raw)
lp -q protect "$one" --reason kept
data=packs/01/000000000001.pack
map=packs/02/000000000002.pack

fresh() { # SCENARIO
	rm -rf "$fast/repo" "$tmp/cache"
	cp -a "$good" "$fast/repo"
	export LIVEPOINT_REPOSITORY=$fast/repo
	case $1 in
	catalog) rm -f "$fast"/repo/catalog.sqlite* ;;
	older) ;;
	footer) printf 'XXXX' | dd of="$fast/repo/$map" bs=1 seek=$(($(stat -c %s "$fast/repo/$map") - 100)) conv=notrunc status=none ;;
	records) printf 'XXXX' | dd of="$fast/repo/$data" bs=1 seek=300000 conv=notrunc status=none ;;
	lost) rm "$fast/repo/$data" ;;
	index) rm "$fast"/repo/index/* ;;
	both) rm -f "$fast"/repo/catalog.sqlite*; printf 'XXXX' | dd of="$fast/repo/$map" bs=1 seek=$(($(stat -c %s "$fast/repo/$map") - 100)) conv=notrunc status=none ;;
	esac
}
options() {
	case $1 in
	older) echo --catalog ;;
	records) echo --read-data --from "$good" ;;
	lost) echo --from "$good" ;;
	esac
}
whole() { # WHAT
	[ "$(lp --json list | jq -c '[.[].point]')" = "[\"$one\",\"$two\"]" ] || fail "$1: points: $(lp --json list | jq -c '[.[].point]')"
	[ "$(lp --json list | jq -c '[.[].damaged]')" = '[false,false]' ] || fail "$1: points are marked as damaged"
	[ "$(lp --json list | jq -r '.[0].hold.reason')" = kept ] || fail "$1: the hold is gone"
	lp -q verify --data >verify.txt || fail "$1: $(cat verify.txt)"
	rm -f out.raw
	lp -q restore "$one" out.raw
	cmp one.raw out.raw || fail "$1: the first point is not what it was"
	rm -f out.raw
	lp -q restore "$two" out.raw
	cmp two.raw out.raw || fail "$1: the second point is not what it was"
	[ "$(lp -q verify --leftovers | grep -vc ^quarantine/)" = 0 ] || fail "$1: $(lp -q verify --leftovers)"
	[ ! -e "$fast/repo/catalog.sqlite.new" ] || fail "$1: catalog.sqlite.new is still there"
}

echo 0 >killed.txt
: >seen.txt
scenarios="catalog footer records lost"
[ -z "${LIVEPOINT_SLOW:-}" ] || scenarios+=" older both index"
for scenario in $scenarios; do
	fresh $scenario
	mapfile -t opts < <(options $scenario | tr ' ' '\n')
	rm -f hits.txt
	LIVEPOINT_FAULT_LOG=$tmp/hits.txt lp -q repair ${opts[0]:+"${opts[@]}"} >done.txt || fail "$scenario: $(cat done.txt)"
	whole "$scenario"
	# each name, its first hit and its last
	sort hits.txt | uniq -c | while read -r count name; do
		echo "$name 1"
		[ "$count" -eq 1 ] || [ -z "${LIVEPOINT_SLOW:-}" ] || echo "$name $count"
	done >points.txt
	while read -r name hit; do
		# without LIVEPOINT_SLOW each step once, in the first scenario that has it
		if [ -z "${LIVEPOINT_SLOW:-}" ]; then
			if grep -qx "$name" seen.txt; then continue; fi
			echo "$name" >>seen.txt
		fi
		fresh $scenario
		status=0
		LIVEPOINT_FAULT=$name:$hit:kill lp -q repair ${opts[0]:+"${opts[@]}"} >done.txt 2>err.txt || status=$?
		[ $status -eq 137 ] || fail "$scenario: not killed at $name:$hit: $status"
		lp -q repair ${opts[0]:+"${opts[@]}"} >done.txt 2>err.txt ||
			fail "$scenario, killed at $name:$hit: $(cat done.txt err.txt)"
		# the records scenario has nothing left to do if it was killed at its end
		whole "$scenario, killed at $name:$hit"
		echo $(($(cat killed.txt) + 1)) >killed.txt
	done <points.txt
done 2>&1 | { grep -v 'Killed' || true; }
[ "${PIPESTATUS[0]}" -eq 0 ] || exit 1
killed=$(cat killed.txt)
echo "$killed kills, all repaired by the next run"
[ "$killed" -ge 35 ] || fail "only $killed kills"
[ -z "${LIVEPOINT_SLOW:-}" ] || slow_done repair-kill "$killed" 0 150
