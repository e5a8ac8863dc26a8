#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# export --writable: a new overlay, one with a name, the same again; refusals and their exit codes; what unexport keeps;
# a killed server comes back with the same overlay on the same socket, plain and encrypted; nothing is left of a failed start.
. "$(dirname "$0")/functions.sh"

requires qemu-io --version
requires nbdcopy --version
requires jq --version

export LIVEPOINT_RUN_DIR=$tmp/run
cleanup_fn lp -q unexport --all --force
random_file a.raw 4M 1
random_file b.raw 1M 2
echo "correct horse battery staple" >pw

io() { qemu-io -f raw "${@:2}" "$1" >qemu.log 2>&1 && ! grep -qE "failed|error" qemu.log || { cat qemu.log; return 1; }; }
overlays() { ls "$LIVEPOINT_REPOSITORY/overlays"; }

for kind in plain sealed; do
	options=()
	[ $kind = plain ] || options=(--encrypt)
	export LIVEPOINT_PASSPHRASE_FILE=$tmp/pw
	make_repo "$tmp/$kind" "${options[@]}"
	point=$(lp -q backup web1 vda=a.raw vdb=b.raw)
	other=$(lp -q backup web2 vda=b.raw)

	# --- usage ---
	expect_exit 2 lp export web1 --overlay work 2>/dev/null
	expect_exit 13 lp export web1 --writable --overlay o12345678 2>/dev/null
	expect_exit 13 lp export nothing --writable 2>/dev/null
	[ -z "$(overlays)" ] || fail "$kind: a refused export has left $(overlays)"

	# --- a new one: writes, the point is as it was ---
	lp export web1 --writable >uris 2>words
	[ "$(wc -l <uris)" -eq 2 ] || fail "$kind: not one URI a disk"
	lp --json exports >list.json
	id=$(jq -r '.[0].id' list.json) overlay=$(jq -r '.[0].overlay' list.json) pid=$(jq -r '.[0].pid' list.json)
	[[ $overlay =~ ^o[0-9a-f]{8}$ ]] || fail "$kind: overlay '$overlay' in exports"
	[ "$(overlays)" = "$overlay" ] || fail "$kind: overlays/ has $(overlays)"
	grep -q "$overlay" words || { cat words; fail "$kind: export does not say which overlay"; }
	jq -e --arg point "$point" '.[0] | .point == $point and .kind == "export" and .target == null and
		([.disks[].name] == ["vda", "vdb"])' list.json >/dev/null || { cat list.json; fail "$kind: JSON"; }
	lp exports | grep -q "$overlay" || fail "$kind: the table does not show the overlay"
	vda=$(sed -n 1p uris) vdb=$(sed -n 2p uris)
	[ "$(jq -r '.[0].uri' list.json)" = "$vda" ] || fail "$kind: uri is not the first disk's"
	io "$vda" -c "write -P 0xa1 100k 64k" -c flush || fail "$kind: cannot write vda"
	io "$vdb" -c "write -P 0xb2 0 5000" -c "discard 8k 8k" -c flush || fail "$kind: cannot write vdb"

	# --- killed, with written data: the same overlay on the same socket, without the passphrase ---
	unset LIVEPOINT_PASSPHRASE_FILE
	for round in 1 2; do
		kill -KILL "$pid"
		for ((i = 0; i < 500; i++)); do
			new=$(lp --json exports | jq -r '.[0].pid')
			[ "$new" = "$pid" ] || break
			sleep 0.02
		done
		pid=$new
		io "$vda" -c "read -P 0xa1 100k 64k" || fail "$kind: vda has lost its data (kill $round)"
		io "$vdb" -c "read -P 0xb2 0 5000" -c "read -P 0 8k 8k" || fail "$kind: vdb has lost its data (kill $round)"
		io "$vda" -c "write -P 0xc$round 1M 64k" -c flush || fail "$kind: cannot write after kill $round"
	done
	export LIVEPOINT_PASSPHRASE_FILE=$tmp/pw

	# --- held: exit 11, by id ---
	expect_exit 11 lp export web1 --writable --overlay "$overlay" 2>words
	grep -q "$pid" words || { cat words; fail "$kind: the holder is not named"; }
	# --- clients connected ---
	mkfifo "hold.$kind"
	nbdcopy "$vda" - >"hold.$kind" 2>/dev/null &
	client=$!
	exec 7<"hold.$kind"
	head -c 65536 <&7 >/dev/null
	expect_exit 11 lp unexport "$id" 2>/dev/null
	exec 7<&-
	wait "$client" || true

	# --- unexport keeps it and says how to go on ---
	lp unexport "$id" 2>words
	grep -q "overlay $overlay is kept.*--overlay $overlay" words || { cat words; fail "$kind: unexport does not say what stays"; }
	[ "$(overlays)" = "$overlay" ] || fail "$kind: unexport has removed the overlay"
	lp --json export "$point" --writable --overlay "$overlay" >again.json
	[ "$(jq -r .overlay again.json)" = "$overlay" ] || fail "$kind: another overlay was attached"
	vda=$(jq -r '.disks[0].uri' again.json) vdb=$(jq -r '.disks[1].uri' again.json)
	io "$vda" -c "read -P 0xa1 100k 64k" -c "read -P 0xc2 1M 64k" || fail "$kind: vda attached again"
	io "$vdb" -c "read -P 0xb2 0 5000" -c "read -P 0 8k 8k" || fail "$kind: vdb attached again"
	nbdcopy "$vdb" copy.raw
	cmp <(tail -c +16385 b.raw) <(tail -c +16385 copy.raw) || fail "$kind: what was not written has changed"
	[ "$(lp --json unexport --all | jq -c .)" = "{\"ended\":1,\"overlays\":[\"$overlay\"]}" ] || fail "$kind: JSON of unexport"

	# --- the point itself is as it was ---
	lp export "$point" >uris
	nbdcopy "$(sed -n 1p uris)" copy.raw && cmp a.raw copy.raw || fail "$kind: the point has changed"
	lp -q unexport --all

	# --- of another point: refused, with the right command ---
	expect_exit 1 lp export "$other" --writable --overlay "$overlay" 2>words
	grep -qF "livepoint export $point --writable --overlay $overlay" words || { cat words; fail "$kind: no hint"; }

	# --- with a name; only one disk ---
	lp --json export web1/vdb --writable --overlay work >work.json
	work=$(jq -r .overlay work.json)
	[ "$work" != "$overlay" ] || fail "$kind: no new overlay"
	[ "$(jq '.disks | length' work.json)" -eq 1 ] || fail "$kind: not only the disk asked for"
	io "$(jq -r .uri work.json)" -c "write -P 0xd3 0 4k" || fail "$kind: cannot write"
	lp -q unexport "$(jq -r .id work.json)" # without a flush by the client: the server's end flushes
	lp --json export web1/vdb --writable --overlay work >work2.json
	[ "$(jq -r .overlay work2.json)" = "$work" ] || fail "$kind: the name stands for another overlay"
	io "$(jq -r .uri work2.json)" -c "read -P 0xd3 0 4k" || fail "$kind: the end of the server did not flush"
	lp -q unexport --all

	# --- a start that fails leaves no overlay behind, and does not touch one that was there ---
	before=$(overlays)
	mkdir -p bin
	printf '#!/bin/sh\nexit 1\n' >bin/nbdkit
	chmod +x bin/nbdkit
	PATH=$PWD/bin:$PATH expect_exit 1 lp export web1 --writable 2>/dev/null
	PATH=$PWD/bin:$PATH expect_exit 1 lp export web1 --writable --overlay work 2>/dev/null
	[ "$(overlays)" = "$before" ] || fail "$kind: left by a failed start: $(overlays)"
	[ "$(lp --json exports)" = "[]" ] || fail "$kind: exports are left"
done
