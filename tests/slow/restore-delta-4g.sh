#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# restore --delta of a 4 GiB disk of which 1 % is rolled back: the server counts the writes.  They are that 1 % and at
# most one chunk for each changed run, no byte twice, by looking at the target and by the maps; the disk is then the old
# one.  Most of the disk is holes and data that repeats, so that it costs seconds.
. "$(dirname "${BASH_SOURCE[0]}")/../functions.sh"
. "$abs_top_srcdir/tests/nbd-servers.sh"
requires jq --version
requires nbdkit --version

size=$((4096 * 1024 * 1024)) chunk=65536 run=131072
one_percent=$((size / 100))
runs=$((one_percent / run))
rounds=$(slow_count 1 3)
free=$(df --output=avail -m "$tmp" | tail -n 1)
[ "$free" -ge 3000 ] || skip "needs 3000 MiB free in $tmp, $free are"

passed=0
make_repo
random_file part 16M 1
truncate -s $size disk.raw
for ((i = 0; i < 16; i++)); do
	dd if=part of=disk.raw bs=1M seek=$((i * 256 + 3)) conv=notrunc status=none
done
cp --sparse=always disk.raw first.raw
lp -q backup web disk.raw >/dev/null

# counted LOG: all of the server's writes against what changed
counted() {
	local bytes
	bytes=$(($(log_bytes Write "$1") + $(log_bytes Zero "$1")))
	echo "$1: $bytes bytes written for $changed changed in $runs runs ($((bytes * 10000 / size)) in 10000 of the disk)"
	[ $bytes -ge $changed ] || fail "$1: $bytes bytes were written for $changed that changed"
	[ $bytes -le $((changed + runs * chunk)) ] || fail "$1: $bytes bytes were written for $changed that changed"
	{ log_ranges Write "$1"; log_ranges Zero "$1"; } | sort -n |
		awk '$1 < end { exit 1 } { end = $1 + $2 }' || fail "$1: bytes were written twice"
	passed=$((passed + 1))
}

for ((round = 1; round <= rounds; round++)); do
	lp --json list web | jq -r '.[-1].id' >old.id
	cp --sparse=always disk.raw before.raw
	# runs of 128 KiB on sectors, spread over the whole disk: onto data and onto holes
	random_file new $one_percent $((100 + round))
	for ((i = 0; i < runs; i++)); do
		at=$((i * (size / runs / 512) * 512 + 512 * ((i * 37 + round * 11) % 128)))
		dd if=new of=disk.raw bs=$run skip=$i count=1 oflag=seek_bytes seek=$at conv=notrunc status=none
	done
	changed=$((runs * run))
	lp -q backup web disk.raw >/dev/null
	lp --json list web | jq -r '.[-1].id' >new.id

	cp --sparse=always disk.raw target.raw
	start_nbdkit looked --filter=log file target.raw logfile="$tmp/looked.requests"
	lp -q restore "$(cat old.id)" "$nbd_uri" --delta
	stop_plugin looked
	cmp before.raw target.raw || fail "a rolled back disk differs"
	counted looked.requests

	start_nbdkit maps --filter=log file target.raw logfile="$tmp/maps.requests"
	lp -q restore "$(cat new.id)" "$nbd_uri" --delta --from "$(cat old.id)"
	stop_plugin maps
	cmp disk.raw target.raw || fail "a disk rolled forward by the maps differs"
	[ "$(log_bytes Read maps.requests)" = 0 ] || fail "with --from the target was read"
	counted maps.requests
	rm -f looked.requests maps.requests
done
slow_done restore-delta-4g $passed 0 $((rounds * 2))
