#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Sources that cannot be read in places, shrink, or change while they are read: never zeroes, never silently.
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/nbd-servers.sh"
requires jq --version
requires nbdkit --version

make_repo
random_file disk.raw 8M 1
chunk=65536

# a server whose 4 KiB blocks 165 and 166 (chunk 10) and 1024 (chunk 64) are bad
cat >bad.sh <<'SH'
case $1 in
get_size) stat -c %s "$disk" ;;
pread)
	for bad in 165 166 1024; do
		if [ $(($4)) -lt $(((bad + 1) * 4096)) ] && [ $(($4 + $3)) -gt $((bad * 4096)) ]; then
			echo "EIO bad block $bad" >&2
			exit 1
		fi
	done
	dd if="$disk" iflag=skip_bytes,count_bytes skip=$4 count=$3 status=none ;;
thread_model) echo parallel ;;
*) exit 2 ;;
esac
SH
chmod +x bad.sh
export disk=$PWD/disk.raw
start_nbdkit bad sh "$PWD/bad.sh"
status=0
lp backup web "$nbd_uri" 2>err.txt || status=$?
[ $status = 1 ] || fail "a bad source ended with $status"
grep -Eq 'offset [0-9]+' err.txt || { cat err.txt >&2; fail "the offset is not named"; }
expect_exit 13 lp show web

status=0
lp --json backup --keep-going web "$nbd_uri" >out.json || status=$?
[ $status = 3 ] || fail "--keep-going ended with $status"
[ "$(json_of out.json '.disks[0].unreadable')" = $((2 * chunk)) ] || fail "unreadable: $(json_of out.json '.disks[0].unreadable')"
json_of out.json '.warnings[]' >warnings
grep -q "$chunk bytes at offset $((10 * chunk)) " warnings || fail "the first range is not named"
grep -q "$chunk bytes at offset $((64 * chunk)) " warnings || fail "the second range is not named"
stop_plugin bad

# what was read is there, what was not is no zeroes: restore refuses, or leaves it and lists it
expect_exit 4 lp restore web out.raw 2>/dev/null
[ ! -e out.raw ] || fail "a damaged restore left a file that looks finished"
random_file mask.raw 8M 2
cp mask.raw out.raw
expect_exit 4 lp restore web out.raw --delta --keep-going >damaged.txt 2>/dev/null
cat damaged.txt
grep -q "^vda $((10 * chunk)) $chunk damaged" damaged.txt || fail "the first range is not listed"
grep -q "^vda $((64 * chunk)) $chunk damaged" damaged.txt || fail "the second range is not listed"
cp disk.raw want.raw
for c in 10 64; do dd if=mask.raw of=want.raw bs=$chunk skip=$c seek=$c count=1 conv=notrunc status=none; done
cmp want.raw out.raw || fail "something else than the readable ranges was written"

# the next backup reads them again, also with a map that says nothing changed
echo '[]' >empty.json
lp --json backup --sample 0 --changed empty.json web disk.raw >heal.json
[ "$(json_of heal.json .read)" = $((2 * chunk)) ] || fail "healing read $(json_of heal.json .read) bytes"
lp restore web out.raw --overwrite
cmp disk.raw out.raw || fail "the healed disk differs"

# a local file: the second read fails once
expect_exit 1 env LIVEPOINT_FAULT=ingest.file.read:2:eio "$LIVEPOINT_BIN" backup local disk.raw 2>err.txt
grep -q 'offset 1048576' err.txt || { cat err.txt >&2; fail "the offset is not named"; }
LIVEPOINT_FAULT=ingest.file.read:2:eio lp --json backup --keep-going local disk.raw >out.json
[ "$(json_of out.json '.disks[0].unreadable')" = 0 ] || fail "a place that could be read the second time is lost"
lp restore local out.raw --overwrite
cmp disk.raw out.raw || fail "after a passing error the disk differs"

# shrinks while it is read: a pipe on the first disk holds the backup until the second has shrunk
shrink() {
	local status=0
	cp disk.raw victim.raw
	rm -f gate
	mkfifo gate
	"$LIVEPOINT_BIN" --json backup "$@" first=- second=victim.raw <gate >out.json 2>err.txt &
	local backup=$!
	exec 9>gate
	head -c 65536 disk.raw >&9
	for ((i = 0; i < 500; i++)); do
		[ "$(readlink /proc/$backup/fd/* 2>/dev/null | grep -c victim.raw)" = 0 ] || break
		sleep 0.01
	done
	"${how[@]}"
	exec 9>&-
	wait $backup || status=$?
	return $status
}
how=(truncate -s 5M victim.raw)
expect_exit 1 shrink shrunk
grep -q 'shrank from 8388608 to 5242880' err.txt || { cat err.txt >&2; fail "shrinking is not told"; }
expect_exit 13 lp show shrunk
expect_exit 3 shrink --keep-going shrunk
[ "$(json_of out.json '.disks[1].unreadable')" = $((3 << 20)) ] || fail "what is gone is not unreadable"
expect_exit 4 lp restore shrunk/second out.raw --overwrite

# the same with a sparse victim: what is gone is no hole
truncate -s 8M disk.raw
cp disk.raw full.raw
truncate -s 2M disk.raw
truncate -s 8M disk.raw
how=(truncate -s 3M victim.raw)
expect_exit 1 shrink sparse
cp full.raw disk.raw

# changes while it is read
how=(dd if=mask.raw of=victim.raw bs=4k count=1 conv=notrunc status=none)
expect_exit 3 shrink changed
json_of out.json '.warnings[]' | grep -q 'changed while it was read' || fail "a change is not told"
how=(truncate -s 9M victim.raw)
expect_exit 3 shrink grown
how=(true)
expect_exit 0 shrink still
