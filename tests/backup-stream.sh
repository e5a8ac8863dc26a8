#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Standard input as a source: any length, zeroes found, padded, ended by SIGTERM within 2 s though it is silent.
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/nbd-servers.sh"
requires jq --version

make_repo
for size in 512 65536 1048576 5242880 7340544; do
	random_file data.raw $size $size
	cat data.raw | lp --json backup "s$size" - >out.json
	lp restore "s$size" out.raw --overwrite
	cmp data.raw out.raw || fail "a stream of $size bytes differs"
	[ "$(lp --json list "s$size" | jq '.[0].disks[0].size')" = $size ] || fail "size"
done

# in drips, with zeroes, of odd length
{ head -c 100000 data.raw; sleep 0.3; head -c 30000000 /dev/zero; sleep 0.3; head -c 77 data.raw; } >whole
{ head -c 100000 data.raw; sleep 0.3; head -c 30000000 /dev/zero; sleep 0.3; head -c 77 data.raw; } |
	lp --json backup drip disk=- >drip.json
json_of drip.json '.warnings[]' | grep -q 'no multiple of 512' || fail "padding was not told"
[ "$(json_of drip.json .stored)" -le 400000 ] || fail "zeroes of a stream were stored"
lp restore drip/disk out.raw --overwrite
truncate -s 30100480 whole
cmp whole out.raw || fail "a dripping stream differs"

# the second time it is compared
lp --json backup drip disk=- <whole >again.json
[ "$(json_of again.json '.disks[0].method')" = hash ] || fail "method of the second stream"
[ "$(json_of again.json .chunks_new)" = 0 ] || fail "an equal stream was stored again"

# SIGTERM while nothing comes
mkfifo silent
sleep 60 >silent &
writer=$!
"$LIVEPOINT_BIN" backup quiet - <silent & # not lp: the signal is for the program
backup=$!
sleep 0.7
begun=$(date +%s%N)
kill -TERM $backup
status=0
wait $backup || status=$?
took=$((($(date +%s%N) - begun) / 1000000))
kill $writer
[ $status = 143 ] || fail "ended with $status, not 143"
[ $took -le 2000 ] || fail "SIGTERM took $took ms"
expect_exit 13 lp show quiet
expect_exit 2 lp backup two a=- b=-
# a writer that died at once is no disk
expect_exit 1 lp backup empty - </dev/null
