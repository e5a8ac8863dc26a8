#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The life of overlays at the command line: list, check, seal, discard, their exit codes and JSON; forget and prune beside
# them; a lost catalog; files without a row; damaged headers and logs; file systems that are refused.
. "$(dirname "$0")/functions.sh"

requires jq --version
driver=$abs_top_builddir/tests/overlay-driver
repo=$tmp/r
export LIVEPOINT_REPOSITORY=$repo

leftovers() { lp --json verify --leftovers | jq -r 'select(.type == "summary") | .leftovers'; }
quiet_kill() { kill -9 "$1" 2>/dev/null || true; }
# says TEXT COMMAND...: the command, however it ends, prints it
says() {
	local text=$1
	shift
	{ "$@" 2>&1 || true; } >says.txt
	grep -q -- "$text" says.txt || { cat says.txt; fail "'$text' is not said by $*"; }
}
drive() { "$driver" "$@"; }
# disk_is ID DISK FILE
disk_is() { drive read "$repo" "$1" "$2" | cmp - "$3" || fail "$1/$2 is not $3"; }

life() {
	local p id id2 sealed want
	rm -rf "$repo"
	lp -q init "$@"
	random_file a.raw 3M 1
	random_file b.raw 1M 2
	p=$(lp -q backup web1 vda=a.raw vdb=b.raw --config machine=functions.json)
	[ "$(lp --json overlays)" = '[]' ] || fail "overlays of an empty repository"
	expect_exit 13 lp discard nobody
	expect_exit 13 lp seal nobody
	expect_exit 13 lp overlays --check nobody

	id=$(drive create "$repo" web1 lab)
	id2=$(drive create "$repo" "$p")
	if drive create "$repo" web1 lab 2>/dev/null; then fail "two overlays of one name"; fi
	lp --json overlays >o.json
	jq -e --arg id "$id" --arg p "$p" 'length == 2 and .[0].id == $id and .[0].overlay == $id and .[0].name == "lab" and
		.[0].point == $p and (.[0].disks | map(.name)) == ["vda","vdb"] and .[0].disks[0].size == 3145728 and
		.[0].uri == null and .[0].disks[0].uri == null and .[0].pid == null and .[0].since == null and
		(.[0].created | test("Z$")) and .[0].bytes > 0 and .[0].attached == false and .[0].error == false and
		.[1].name == null' o.json >/dev/null || { cat o.json; fail "overlays --json"; }
	lp overlays | grep -q "^$id  *lab  *$p .*vdb" || { lp overlays; fail "overlays"; }

	# written, and read again by another process
	cp a.raw a2.raw
	random_bytes 5000 3 >x
	dd if=x of=a2.raw bs=1 seek=777777 conv=notrunc status=none
	drive write "$repo" lab vda 777777 <x
	disk_is "$id" vda a2.raw
	disk_is "$id" vdb b.raw
	disk_is "$id2" vda a.raw
	says 'vda.*can be read' lp overlays --check lab
	lp --json overlays --check "$id" | jq -e '.good and (.findings | length) == 2' >/dev/null || fail "check --json"

	# attached: nobody else has it
	"$driver" run "$repo" "$id2" flushed &
	local pid=$!
	cleanup_fn quiet_kill "$pid"
	for _ in $(seq 200); do [ ! -e flushed ] || break; sleep 0.05; done
	lp --json overlays | jq -e --argjson pid "$pid" '.[1].attached and .[1].pid == $pid' >/dev/null || fail "who has it"
	expect_exit 11 lp discard "$id2"
	says "process $pid" lp discard "$id2"
	expect_exit 11 lp overlays --check "$id2"
	kill "$pid"
	wait "$pid" || fail "the driver failed"
	rm -f flushed

	# the point under it goes on being there, however much it is forgotten
	lp -q forget "$p" --prune >/dev/null
	lp -q prune >/dev/null
	disk_is lab vda a2.raw
	[ "$(lp --json list)" = '[]' ] || fail "the point is not forgotten"

	# sealed: another point; its first one can go
	sealed=$(lp -q seal lab --label k=v --name web2)
	lp --json show "$sealed" >s.json
	jq -e '.kind == "incremental" and .labels == {"k":"v"} and .name == "web2" and .consistency == "crash" and
		(.disks | map(.method)) == ["map","map"]' s.json >/dev/null || { cat s.json; fail "the sealed point"; }
	lp dump "$sealed" config/machine | cmp - functions.json || fail "files kept with the point"
	lp -q restore "$sealed/vda" out.raw --overwrite
	cmp out.raw a2.raw || fail "the sealed point has other bytes"
	expect_exit 13 lp seal lab
	[ "$(lp --json overlays | jq length)" = 1 ] || fail "it is still there"
	want=$(lp --json seal "$id2" | jq -r 'select(.type == "summary") | "\(.overlay) \(.id | length) \(.chunks_new > 0)"')
	[ "$want" = "$id2 32 true" ] || fail "seal --json: $want"
	lp -q prune >/dev/null
	lp -q restore "$sealed/vda" out.raw --overwrite
	cmp out.raw a2.raw || fail "the sealed point has lost bytes"
	[ "$(find "$repo/overlays" -mindepth 1 | wc -l)" = 0 ] || fail "files are left"

	# the log has all of it
	lp -q log --verify || fail "log"
	[ "$(lp --json log | jq -r '[.[].command | select(. == "overlay" or . == "seal" or . == "discard")] | join(" ")')" = \
		"overlay overlay seal seal" ] || { lp log; fail "the log's entries"; }

	# a catalog that is lost: its overlays come back from their folders, with what they hold
	id=$(drive create "$repo" "$sealed" lab)
	drive write "$repo" lab vdb 4096 <x
	cp b.raw b2.raw
	dd if=x of=b2.raw bs=1 seek=4096 conv=notrunc status=none
	rm "$repo"/catalog.sqlite*
	lp -q repair >repair.txt 2>&1 || { cat repair.txt; fail "repair"; }
	disk_is lab vdb b2.raw
	[ "$(lp --json overlays | jq -r '.[0].id')" = "$id" ] || fail "another overlay came back"
	lp -q repair --accept
	[ "$(leftovers)" = 0 ] || { lp verify --leftovers; fail "leftovers"; }

	# a folder without its row: told, never removed, and given it back
	sqlite3 "$repo/catalog.sqlite" "DELETE FROM overlay"
	expect_exit 13 lp discard lab
	says "overlays/$id" lp verify --leftovers
	says "$id" lp repair --dry-run
	[ "$(lp --json overlays)" = '[]' ] || fail "a dry run has changed something"
	lp -q repair >repair.txt 2>&1 || { cat repair.txt; fail "repair of a row"; }
	disk_is lab vdb b2.raw
	mkdir "$repo/overlays/o99999999" "$repo/overlays/o88888888.tmp"
	lp verify --leftovers >left.txt
	grep -q o99999999 left.txt || { cat left.txt; fail "a folder without a header"; }
	grep -q o88888888.tmp left.txt || { cat left.txt; fail "a half-made one"; }
	rmdir "$repo/overlays/o99999999"

	# verify and attach notice what is damaged
	lp -q verify || fail "verify beside an overlay"
	cp "$repo/overlays/$id/header" header.good
	printf 'X' | dd of="$repo/overlays/$id/header" bs=1 seek=50 conv=notrunc status=none
	expect_exit 4 lp -q verify
	says "$id" lp verify
	expect_exit 4 drive read "$repo" lab vda
	cp header.good "$repo/overlays/$id/header"
	cp "$repo/overlays/$id/vdb.1.log" log.good
	printf 'X' | dd of="$repo/overlays/$id/vdb.1.log" bs=1 seek=100 conv=notrunc status=none
	expect_exit 4 lp -q verify
	expect_exit 4 drive read "$repo" lab vdb
	lp --json overlays | jq -e '.[0].error' >/dev/null || fail "it is not in error"
	expect_exit 4 lp overlays --check lab
	cp log.good "$repo/overlays/$id/vdb.1.log"
	# good again, and still in error until somebody has looked
	expect_exit 1 drive read "$repo" lab vdb
	drive read "$repo" lab vda | cmp - a2.raw || fail "what lies in the point cannot be read"
	expect_exit 1 lp seal lab
	says 'no longer in error' lp overlays --check lab
	disk_is lab vdb b2.raw

	# its folder is lost: discard takes the row
	rm -r "$repo/overlays/$id"
	expect_exit 4 lp -q verify
	lp -q discard lab
	lp -q verify
	[ "$(leftovers)" = 0 ] || { lp verify --leftovers; fail "leftovers at the end"; }

	LIVEPOINT_FAULT_NUMBER=repo.overlay.fs:26985 expect_exit 1 drive create "$repo" "$sealed"
	LIVEPOINT_FAULT_NUMBER=repo.overlay.fs:26985 says nfs drive create "$repo" "$sealed"
}

echo '{"machine": 1}' >functions.json
life
export LIVEPOINT_PASSPHRASE='for overlays'
life --encrypt
