#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# 32 clients at once read 32 different points, of two names, from one server of the whole repository whose cache holds a
# fraction of them; each gets its own image, byte
# for byte, while one more client asks them all for their sizes.
. "$(dirname "$0")/functions.sh"

requires nbdcopy --version
requires nbdinfo --version

clients=32
make_repo "$tmp/repo"
random_file disk.raw 3M 1
truncate -s 4M disk.raw
points=() want=()
for ((i = 0; i < clients; i++)); do
	# a chunk of its own in each, the rest is shared; every fourth disk is a little longer
	random_bytes 65536 $((1000 + i)) | dd of=disk.raw bs=64K seek=$((i * 2)) conv=notrunc status=none
	[ $((i % 4)) -ne 3 ] || truncate -s $((4 * 1024 * 1024 + i * 512)) disk.raw
	points[i]=$(lp -q backup "web$((i % 2))" vda=disk.raw)
	want[i]=$(sha disk.raw)
done
[ "$(printf '%s\n' "${want[@]}" | sort -u | wc -l)" -eq $clients ] || fail "the disks are not $clients different ones"

start_plugin cache=2M
uri_of() { echo "nbd+unix:///${points[$1]}/vda?socket=$plugin_sock"; }
for ((round = 1; round <= 2; round++)); do
	pids=()
	for ((i = 0; i < clients; i++)); do
		nbdcopy --requests=8 --connections=2 "$(uri_of $i)" - 2>"$i.err" | sha256sum >"$i.sha" &
		pids+=($!)
	done
	for ((i = 0; i < clients; i++)); do
		size=$(nbdinfo --size "$(uri_of $i)")
		[ "$size" -ge $((4 * 1024 * 1024)) ] || fail "point $i has $size bytes"
	done
	for ((i = 0; i < clients; i++)); do
		wait "${pids[i]}" || { cat "$i.err"; fail "round $round: client $i failed"; }
		read -r got _ <"$i.sha"
		[ "$got" = "${want[i]}" ] || fail "round $round: client $i got other bytes"
	done
done
listed=$(nbdinfo --list --json "nbd+unix:///?socket=$plugin_sock" | grep -c '"export-name"')
[ "$listed" -eq $clients ] || fail "the server lists $listed points"
stop_plugin
