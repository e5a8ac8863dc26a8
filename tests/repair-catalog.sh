#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The catalog is lost, corrupt, or an older one was put back: repair builds it from the packs, with every point, forgotten ones
# forgotten and held ones held; a dry run changes nothing; nobody may have the repository in use.
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"
requires jq --version
fast_dir repair

# tree DIR: what is in it, to the byte; SQLite's own scratch files aside.
tree() {
	(cd "$1" && find . -type f ! -name '*-shm' ! -name '*-wal' -print0 | sort -z | xargs -0 sha256sum; find . -type d | sort)
}

# points: all restore points, one a line, without what only a catalog knows.
points() {
	lp --json list --forgotten | jq -cS 'map(del(.verified, .damaged)) | sort_by(.time)[]'
	lp --json list | jq -cS 'map(del(.verified, .damaged)) | sort_by(.time)[]'
}

# restored POINT: SHA-256 of its disk.
restored() {
	rm -f out.raw
	lp -q restore "$1" out.raw
	sha out.raw
}

change() { # FILE SEED: 200 KiB of it, somewhere
	random_bytes 200K "$2" | dd of="$1" bs=64K seek=$(($2 % 40)) conv=notrunc status=none
}

declare -A sums=()
fill() {
	random_file disk.raw 4M 1
	local i point
	sums=()
	for i in 1 2 3 4 5; do
		change disk.raw $((i + 10))
		point=$(lp -q backup web disk.raw)
		sums[$point]=$(sha disk.raw)
	done
	order=("${!sums[@]}")
	mapfile -t order < <(lp --json list | jq -r '.[].point')
}

check_points() {
	local point
	for point in "${!sums[@]}"; do
		[ "$(restored "$point")" = "${sums[$point]}" ] || fail "$point is not what it was"
	done
	lp -q verify --data || fail "verify after the repair"
}

lose() { rm -f "$LIVEPOINT_REPOSITORY"/catalog.sqlite*; }

round() { # what to do to the catalog...
	tree "$LIVEPOINT_REPOSITORY" >before.txt
	lp -q repair --catalog --dry-run >plan.txt
	grep -q '5 restore points' plan.txt || fail "the plan does not count the points: $(cat plan.txt)"
	tree "$LIVEPOINT_REPOSITORY" >after.txt
	cmp before.txt after.txt || fail "a dry run has changed the repository"
	lp -q repair "$@" >done.txt || fail "repair: $(cat done.txt)"
	check_points
}

for kind in plain encrypted; do
	export LIVEPOINT_PASSPHRASE_FILE=$tmp/pass
	echo "correct horse" >pass
	case $kind in
	plain) unset LIVEPOINT_PASSPHRASE_FILE; make_repo "$fast/$kind" ;;
	encrypted) make_repo "$fast/$kind" --encrypt ;;
	esac
	fill
	points >was.txt

	# lost
	lose
	round
	points >now.txt
	cmp was.txt now.txt || fail "$kind: the points are not the same"
	# the next backup compares with the newest point and stores next to nothing
	lp --json backup web disk.raw >again.json
	[ "$(jq -r 'select(.type == "summary").chunks_new' again.json)" = 0 ] || fail "$kind: chunks were stored again"
	[ "$(lp --json list | jq -r '.[-1].kind')" = incremental ] || fail "$kind: not incremental"
	lp -q forget "$(lp --json list | jq -r '.[-1].point')"
	# by rule only once it was accepted; single points any time
	expect_exit 1 lp -q forget web --keep-last 1
	lp -q repair --accept
	lp -q forget web --keep-last 9
	lp -q verify >verify.txt || fail "$kind: verify: $(cat verify.txt)"
	[ -z "$(lp -q verify --leftovers)" ] || fail "$kind: leftovers: $(lp -q verify --leftovers)"

	# corrupt: no catalog at all, moved away
	head -c 8192 /dev/urandom >"$LIVEPOINT_REPOSITORY/catalog.sqlite"
	expect_exit 4 lp -q list
	sums_before=${#sums[@]}
	lp -q repair >done.txt
	check_points
	[ "$sums_before" = "${#sums[@]}" ]
	ls "$LIVEPOINT_REPOSITORY/quarantine" | grep -q '^catalog-.*sqlite$' || fail "$kind: the old catalog is not in quarantine"
	lp -q repair --accept
done
unset LIVEPOINT_PASSPHRASE_FILE

# --- an older catalog was put back ---
make_repo "$fast/older"
fill
cp "$LIVEPOINT_REPOSITORY/catalog.sqlite" old.sqlite
change disk.raw 99
point=$(lp -q backup web disk.raw)
sums[$point]=$(sha disk.raw)
cp old.sqlite "$LIVEPOINT_REPOSITORY/catalog.sqlite"
expect_exit 4 lp -q backup web disk.raw
expect_exit 4 lp -q forget "${order[0]}"
expect_exit 4 lp -q repair
[ "$(lp --json list | jq length)" = 5 ]
lp -q repair --catalog >done.txt
[ "$(lp --json list | jq length)" = 6 ] || fail "the newest point is not back"
check_points
lp -q backup web disk.raw

# --- forgotten stays forgotten, held stays held, with the reason ---
make_repo "$fast/held"
fill
lp -q forget "${order[1]}" --grace 90d
lp -q protect "${order[0]}" --reason "audit 2026" --until 90d
points >was.txt
lose
lp -q repair >done.txt
points >now.txt
cmp was.txt now.txt || fail "holds or forgotten points differ: $(diff was.txt now.txt)"
[ "$(lp --json list | jq -r '.[0].hold.reason')" = "audit 2026" ] || fail "the hold is gone"
expect_exit 1 lp -q forget "${order[0]}"
lp -q unforget "${order[1]}"
check_points
# what changed since the newest state object is not known: --accept says since when
lose
lp -q repair --catalog >done.txt
lp -q repair --accept >accept.txt
grep -q 'unprotected after 20' accept.txt || fail "--accept does not say since when: $(cat accept.txt)"
lp -q unforget "${order[1]}"
lp -q unprotect "${order[0]}" # stores the next state object
lose
lp -q repair >done.txt
[ "$(lp --json list | jq -r '.[0].hold')" = null ] || fail "a hold that had ended came back"
check_points

# --- nobody may be at work ---
make_repo "$fast/busy"
fill
lp -q export "${order[0]}" >/dev/null
expect_exit 11 lp -q repair --catalog 2>busy.txt
lp -q unexport --all
lp -q repair --catalog >done.txt
check_points

# --- points whose data is not whole come back, marked ---
rm "$(ls "$LIVEPOINT_REPOSITORY"/packs/*/*.pack | head -n 1)"
lose
expect_exit 4 lp -q repair >done.txt
[ "$(lp --json list | jq length)" = 5 ] || fail "damaged points were dropped"
[ "$(lp --json list | jq '[.[] | select(.damaged)] | length')" = 5 ] || fail "damaged points are not marked"
# and the number of the lost pack is not given out again
rm -f out.raw
lp -q backup web disk.raw
lp -q restore web out.raw
cmp disk.raw out.raw
