#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# restore --delta: what is equal is not written, what differs once; counted by the server.  It can be killed and run again.
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/nbd-servers.sh"
requires jq --version
requires nbdkit --version

make_repo
chunk=65536
random_file part 64M 1
truncate -s 512M disk.raw
dd if=part of=disk.raw bs=1M seek=7 conv=notrunc status=none
dd if=part of=disk.raw bs=1M seek=300 conv=notrunc status=none
lp backup web disk.raw
cp --sparse=always disk.raw before.raw
lp --json list web | jq -r '.[0].id' >old.id

# 1 %, in 40 runs of 128 KiB and some, on no grid; some onto data, some onto holes; and a hole onto data
changed=0
for ((i = 0; i < 40; i++)); do
	at=$(((i * 11 + 5) * 1024 * 1024 + i * 4096 + 512 * i))
	random_bytes 131072 $((100 + i)) | dd of=disk.raw bs=64k oflag=seek_bytes seek=$at conv=notrunc status=none
	changed=$((changed + 131072))
done
fallocate -p -o $((310 * 1024 * 1024 + 4096)) -l 262144 disk.raw
changed=$((changed + 262144))
runs=41
lp backup web disk.raw
lp --json list web | jq -r '.[1].id' >new.id

# counted LOG: each byte at most once, and no more than what changed and one chunk more at either end of a run
counted() {
	local bytes
	bytes=$(($(log_bytes Write "$1") + $(log_bytes Zero "$1")))
	[ $bytes -ge 1 ] || fail "nothing was written"
	[ $bytes -le $((changed + runs * chunk)) ] || fail "$bytes bytes were written for $changed that changed"
	{ log_ranges Write "$1"; log_ranges Zero "$1"; } | sort -n |
		awk '$1 < end { exit 1 } { end = $1 + $2 }' || fail "bytes were written twice"
}

# rolled back by looking at the target
cp --sparse=always disk.raw target.raw
start_nbdkit delta --filter=log file target.raw logfile="$tmp/delta.requests"
lp --json restore "$(cat old.id)" "$nbd_uri" --delta >out.json
stop_plugin delta
cmp before.raw target.raw || fail "a rolled back disk differs"
counted delta.requests
[ "$(json_of out.json '.written + .zeroed')" = $(($(log_bytes Write delta.requests) + $(log_bytes Zero delta.requests))) ] ||
	fail "the summary counts otherwise"

# again: nothing to write
start_nbdkit again --filter=log file target.raw logfile="$tmp/again.requests"
lp restore "$(cat old.id)" "$nbd_uri" --delta --verify
stop_plugin again
[ $(($(log_bytes Write again.requests) + $(log_bytes Zero again.requests))) = 0 ] || fail "equal blocks were written"

# rolled forward by the maps: the target is not even read
start_nbdkit maps --filter=log file target.raw logfile="$tmp/maps.requests"
lp restore "$(cat new.id)" "$nbd_uri" --delta --from "$(cat old.id)"
stop_plugin maps
cmp disk.raw target.raw || fail "a disk rolled forward by maps differs"
counted maps.requests
[ "$(log_bytes Read maps.requests)" = 0 ] || fail "with --from the target was read"

# killed in the middle, run again: complete, and what was done is not done twice
LIVEPOINT_FAULT=restore.target.write:6:kill lp restore "$(cat old.id)" target.raw --delta 2>/dev/null && fail "it was not killed"
cmp -s before.raw target.raw && fail "it was killed after its end"
lp --json restore "$(cat old.id)" target.raw --delta --verify >out.json
cmp before.raw target.raw || fail "after a kill the disk differs"
[ "$(json_of out.json '.written + .zeroed')" -lt $((changed + runs * chunk)) ] || fail "nothing of the first run was kept"

# an older file that is longer or shorter gets the disk's size
truncate -s 600M target.raw
lp restore "$(cat old.id)" target.raw --delta
cmp before.raw target.raw || fail "a longer file differs"
truncate -s 301M target.raw
lp restore "$(cat old.id)" target.raw --delta --verify
cmp before.raw target.raw || fail "a shorter file differs"
# and one of rubbish
random_file target.raw 512M 99
lp restore "$(cat old.id)" target.raw --delta
cmp before.raw target.raw || fail "rubbish was left"

# --verify notices a target that lies
start_nbdkit liar --filter=cow --filter=noextents file before.raw
lp restore "$(cat old.id)" "$nbd_uri" --delta --verify
stop_plugin liar
cat >liar.sh <<'SH'
case $1 in
get_size) echo $((512 * 1024 * 1024)) ;;
pread) head -c $3 /dev/zero ;;
pwrite) cat >/dev/null ;;
can_write | can_zero | can_flush) exit 0 ;;
zero | flush) exit 0 ;;
can_extents) exit 3 ;;
thread_model) echo parallel ;;
*) exit 2 ;;
esac
SH
chmod +x liar.sh
start_nbdkit liar sh "$PWD/liar.sh"
expect_exit 1 lp restore "$(cat old.id)" "$nbd_uri" --verify 2>err.txt
grep -q 'differs from the restore point at offset 7340032' err.txt || { cat err.txt >&2; fail "a lie was not noticed"; }
