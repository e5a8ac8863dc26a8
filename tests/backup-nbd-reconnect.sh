#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A network source that breaks in the middle: goes on if the user vouches and it is the same, else begins again; a second
# break in the second pass ends it; no answer within --reconnect is an error.
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/nbd-servers.sh"
requires jq --version
requires nbdkit --version

make_repo
random_file disk.raw 24M 5
random_file other.raw 24M 6

# slow_server FILE: over 1 s for the disk, on the same socket each time, every read in server.requests.
slow_server() {
	start_nbdkit server --filter=log --filter=delay file "$1" rdelay=150ms logfile="$tmp/server.requests" logappend=true
}
# break_at BYTES: waits until so much was read, then kills the server.
break_at() {
	local i
	for ((i = 0; i < 2000; i++)); do
		[ "$(log_bytes Read server.requests)" -lt "$1" ] || break
		sleep 0.01
	done
	[ $i -lt 2000 ] || fail "$1 bytes were never read"
	kill_plugin server
}
# start_backup NAME OPTIONS...: in the background.
start_backup() {
	: >server.requests
	"$LIVEPOINT_BIN" --json backup "$@" "$uri" >out.json 2>err.txt &
	backup=$!
}
finish_backup() {
	local status=0
	wait $backup || status=$?
	[ $status -eq "$1" ] || { cat err.txt >&2; fail "ended with $status, not $1"; }
}

slow_server disk.raw
uri=$nbd_uri

# frozen: goes on where it was
start_backup frozen --source-frozen --reconnect 30s
break_at $((9 << 20))
slow_server disk.raw
finish_backup 0
json_of out.json '.warnings[]' | grep -q 'reading went on there' || fail "going on was not told"
[ "$(log_bytes Read server.requests)" -le $(((24 + 9) << 20)) ] || fail "it was read from the beginning"
[ "$(json_of out.json .read)" -lt $(((24 + 6) << 20)) ] || fail "read: $(json_of out.json .read)"
lp restore frozen out.raw
cmp disk.raw out.raw || fail "the frozen source differs"

# nobody vouches: from the beginning, cheap by dedup, and what is then there counts
start_backup moving --reconnect 30s
break_at $((9 << 20))
slow_server other.raw
finish_backup 0
json_of out.json '.warnings[]' | grep -q 'reading began again' || fail "beginning again was not told"
lp restore moving out.raw --overwrite
cmp other.raw out.raw || fail "the second pass mixes two disks"
stop_plugin server

# vouched for, but not the same: from the beginning all the same
slow_server disk.raw
start_backup liar --source-frozen --reconnect 30s
break_at $((9 << 20))
slow_server other.raw
finish_backup 0
json_of out.json '.warnings[]' | grep -q 'not what it was' || fail "another disk was not noticed"
lp restore liar out.raw --overwrite
cmp other.raw out.raw || fail "another disk was mixed in"
stop_plugin server

# a second break in the second pass ends it
slow_server disk.raw
start_backup twice --reconnect 30s
break_at $((6 << 20))
: >server.requests
slow_server disk.raw
break_at $((6 << 20))
finish_backup 1
grep -q 'second break' err.txt || fail "the second break was not told"
expect_exit 13 lp show twice

# no answer in time; and none wanted
slow_server disk.raw
start_backup gone --reconnect 3s
break_at $((6 << 20))
finish_backup 1
grep -q 'did not come back within 3 s' err.txt || fail "giving up was not told"
slow_server disk.raw
start_backup gone --reconnect 0s
break_at $((6 << 20))
finish_backup 1

# SIGTERM while it waits for the source
slow_server disk.raw
start_backup gone --reconnect 60s
break_at $((6 << 20))
sleep 0.5
begun=$(date +%s%N)
kill -TERM $backup
finish_backup 143
[ $((($(date +%s%N) - begun) / 1000000)) -le 2000 ] || fail "SIGTERM took more than 2 s"
expect_exit 13 lp show gone
