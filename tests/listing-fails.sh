#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A folder whose listing fails halfway is an error, never a short list (another program took such an error for the end, found
# no snapshots, and its prune would have deleted everything).  Each listing of each command fails once: nothing is deleted,
# forgotten, rebuilt without something, or noted as damaged; the same command works afterwards.
. "$(dirname "$0")/functions.sh"
requires jq --version

packs() {
	(cd "$1" && find packs -name '*.pack' | sort)
}
points() {
	lp --json -q list --forgotten | jq -c '[.[] | [.id, .damaged, .hold != null]] | sort'
}

make_repo "$tmp/repo"
random_file disk 3M 1
lp -q backup a --time 2026-01-01T00:00:00Z disk >out
lp -q protect a@latest --reason kept
random_file disk 3M 2
lp -q backup a --time 2026-01-02T00:00:00Z disk >out
lp -q backup b --time 2026-01-02T00:00:00Z disk >out
random_file disk 3M 3
lp -q backup a --time 2026-01-03T00:00:00Z disk >out
lp -q forget --grace 30d b@latest >out
lp -q prune
# Something for a sweep: a session that was killed with packs in place and a segment that is not listed.
expect_exit 137 env LIVEPOINT_FAULT=catalog.publish.before:1:kill "$LIVEPOINT_BIN" -q backup c disk 2>err
random_file extra 3M 4
expect_exit 137 env LIVEPOINT_FAULT=catalog.publish.before:1:kill "$LIVEPOINT_BIN" -q backup c extra 2>err
cp -a repo saved

# each NAME MAY-REMOVE COMMAND...: the command with each of its listings failing.  MAY-REMOVE: yes if the command, when it goes on
# as it should, removes packs (of dead sessions, or unused).
each() {
	local name=$1 may=$2 count n status before after
	shift 2
	rm -rf repo cache
	cp -a saved repo
	"${prepare:-true}"
	rm -rf prepared && cp -a repo prepared
	before=$(packs prepared)
	rm -f log
	LIVEPOINT_FAULT_LOG=$tmp/log "$LIVEPOINT_BIN" -q "$@" >out 2>err || fail "$name: $(cat err)"
	count=$(grep -cx base.folder.list log) || fail "$name lists nothing"
	good=$(packs repo)
	state=$(points)
	for ((n = 1; n <= count; n++)); do
		rm -rf repo cache
		cp -a prepared repo
		status=0
		LIVEPOINT_FAULT=base.folder.list:$n:eio lp -q "$@" >out 2>err || status=$?
		[ $status != 0 ] || [ -s err ] || fail "$name: listing $n of $count failed, and nothing was said"
		[ $status -lt 128 ] || fail "$name: listing $n of $count: status $status"
		after=$(packs repo)
		if [ "$may" = no ] && [ -n "$(comm -23 <(echo "$before") <(echo "$after"))" ]; then
			fail "$name: listing $n of $count: packs were removed"
		fi
		# what the command without a fault keeps is there in any case
		[ -z "$(comm -23 <(comm -12 <(echo "$before") <(echo "$good")) <(echo "$after"))" ] ||
			fail "$name: listing $n of $count: packs in use were removed"
		# again without a fault: the same points, nothing damaged
		lp -q "$@" >out 2>err || fail "$name: after listing $n of $count: $(cat err)"
		[ "${same:-yes}" = no ] || [ "$(points)" = "$state" ] || fail "$name: listing $n of $count: $(points), not $state"
		lp -q restore --overwrite a@2026-01-01 back
		[ "$(sha back)" = "$(random_bytes 3M 1 | sha)" ] || fail "$name: listing $n of $count: content"
	done
	echo "$name: $count listings" >&3
}
exec 3>&2

same=no
each backup yes backup a disk
same=yes
each "prune beside traces" yes prune
each verify no verify --data
each leftovers no verify --leftovers
each repair yes repair
each forget yes forget --keep-last 1 a --prune

swept() {
	lp -q prune
}
lose_catalog() {
	swept
	rm repo/catalog.sqlite*
}
prepare=lose_catalog
each "repair without catalog" no repair
lose_segment() {
	swept
	rm repo/index/*
}
prepare=lose_segment
each "repair of the index" no repair
lose_pack() {
	swept
	rm "repo/$(packs repo | head -1)"
}
prepare=lose_pack
each "repair of a lost pack" no repair --from "$tmp/saved"

# packs/ not there at all (a file system that is not mounted) is no repository without packs.
rm -rf repo cache
cp -a saved repo
mv repo/packs away
expect_exit 1 lp -q repair --catalog 2>err
grep -q "packs" err || fail "the reason is missing: $(cat err)"
expect_exit 1 lp -q backup a disk 2>err
mv away repo/packs
lp -q backup a disk >out
lp -q verify
