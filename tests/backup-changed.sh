#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Change maps: every form is read, only changed ranges are, a wrong map is noticed, what is no change map is refused.
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/nbd-servers.sh"
requires jq --version

make_repo
chunk=65536
# the disk ends inside a chunk
size=$((40 * 1024 * 1024 + 1536))
random_file disk.raw $size 1
lp backup web disk.raw
lp --json list web | jq -r '.[0].id' >base.id

# change OFFSET TEXT: a few bytes of the disk.
change() {
	printf '%s' "$2" | dd of=disk.raw bs=1 seek="$1" conv=notrunc status=none
}
# mapped READ ARGS...: a backup with a map that reads that many bytes and gives the same disk.
mapped() {
	local read=$1 got
	shift
	lp --json backup --sample 0 "$@" web vda=disk.raw >out.json
	[ "$(json_of out.json '.disks[0].method')" = map ] || fail "method: $(json_of out.json '.disks[0].method')"
	got=$(json_of out.json .read)
	[ "$got" = "$read" ] || fail "$got bytes were read, not $read: $*"
	lp restore web out.raw --overwrite
	cmp disk.raw out.raw || fail "the disk differs: $*"
}
tail=1536 # the last, partial chunk is always read

echo '[]' >empty.json
mapped $tail --changed empty.json
: >nothing
expect_exit 1 lp backup web disk.raw --changed nothing

# our diff: an array; widened to chunks; another disk's ranges are not this one's
change 200000 one
echo '[{"disk":"vda","start":200000,"length":3,"data":true},{"disk":"vdb","start":0,"length":1048576,"data":true}]' >m.json
mapped $((chunk + tail)) --changed m.json
# across a border, unsorted, overlapping, beyond the end, one a line
change $((10 * chunk - 1)) xx
change 5 five
printf '%s\n' "{\"start\":$((10 * chunk - 1)),\"length\":2}" '{"start":5,"length":4}' '{"start":4,"length":6}' \
	"{\"start\":$size,\"length\":1000000}" "{\"start\":$((size - 1)),\"length\":99999999}" >m.json
mapped $((3 * chunk + tail)) --changed vda=m.json
# to a hole: not read; part of a chunk: read
dd if=/dev/zero of=disk.raw bs=$chunk seek=100 count=4 conv=notrunc status=none
echo "{\"start\":$((100 * chunk)),\"length\":$((4 * chunk)),\"data\":false}" >m.json
mapped $tail --changed m.json
dd if=/dev/zero of=disk.raw bs=4096 seek=$((200 * 16 + 1)) count=20 conv=notrunc status=none
echo "{\"start\":$((200 * chunk + 4096)),\"length\":$((20 * 4096)),\"data\":false}" >m.json
mapped $((2 * chunk + tail)) --changed m.json
# rbd diff --format json
change $((300 * chunk)) rbd
dd if=/dev/zero of=disk.raw bs=$chunk seek=320 count=1 conv=notrunc status=none
echo "[{\"offset\":$((300 * chunk)),\"length\":$chunk,\"exists\":\"true\"},{\"offset\":$((320 * chunk)),\"length\":$chunk,\"exists\":\"false\"}]" >m.json
mapped $((chunk + tail)) --changed m.json
# nbdinfo --map=qemu:dirty-bitmap:b0 --json
change $((400 * chunk)) bitmap
cat >m.json <<JSON
[
{ "offset": 0, "length": $((400 * chunk)), "type": 0, "description": "clean" },
{ "offset": $((400 * chunk)), "length": $chunk, "type": 1, "description": "dirty" },
{ "offset": $((401 * chunk)), "length": $((size - 401 * chunk)), "type": 0, "description": "clean" }
]
JSON
mapped $((chunk + tail)) --changed m.json
# our own diff, as it comes
cp disk.raw old.raw
lp backup diffed vda=disk.raw
change $((500 * chunk)) diff
lp backup diffed vda=disk.raw
lp --json list diffed | jq -r '.[].id' >ids
lp --json diff "$(sed -n 1p ids)" "$(sed -n 2p ids)" >m.json
mapped $((chunk + tail)) --changed m.json

# growth is read whatever the map says; so is the end after shrinking
random_bytes 300000 9 >>disk.raw
echo '[]' >empty.json
lp --json backup --sample 0 --changed empty.json web disk.raw >out.json
lp restore web out.raw --overwrite
cmp -n "$(stat -c %s disk.raw)" disk.raw out.raw || fail "growth was not read"
[ "$(json_of out.json .read)" -lt $((300000 + 3 * chunk)) ] || fail "more than growth was read"
truncate -s $((20 * 1024 * 1024 + 512)) disk.raw
lp --json backup --sample 0 --changed empty.json web disk.raw >out.json
lp restore web out.raw --overwrite
cmp disk.raw out.raw || fail "a shrunk disk differs"

# --since another point: the map is against that
lp backup since disk.raw
lp --json show since | jq -r .id >since.id
change 70000 since
lp backup since disk.raw
echo '{"start":70000,"length":5}' >m.json
lp --json backup --sample 0 --since "$(cat since.id)" --changed m.json since disk.raw >out.json
lp restore since out.raw --overwrite
cmp disk.raw out.raw || fail "--since with a map differs"
[ "$(lp --json show since | jq -r '.kind, .disks[0].method' | xargs)" = 'differential map' ] || fail "kind and method"

# without a base everything is read, and said
lp --json backup --changed empty.json fresh disk.raw >out.json
json_of out.json '.warnings[]' | grep -q 'everything was read' || fail "reading everything was not told"
[ "$(json_of out.json '.disks[0].method')" = full ] || fail "method without a base"
lp --json backup --changed new=empty.json fresh new=disk.raw >out.json
json_of out.json '.warnings[]' | grep -q "disk 'new' is not in fresh@" || fail "a disk without a base was not told"

# a wrong map: noticed by the sample, everything compared, exit 3
change $((8 * 1024 * 1024)) sneaky
status=0
lp --json backup --sample 100 --changed new=empty.json fresh new=disk.raw >out.json || status=$?
[ $status = 3 ] || fail "a wrong map ended with $status"
json_of out.json '.warnings[]' | grep -q 'change map is wrong' || fail "a wrong map was not told"
[ "$(json_of out.json '.disks[0].method')" = hash ] || fail "a wrong map was trusted"
lp restore fresh/new out.raw --overwrite
cmp disk.raw out.raw || fail "after a wrong map the disk differs"
# a right one under the same sample: all is read, and that is fine
lp --json backup --sample 100 --changed new=empty.json fresh new=disk.raw >out.json
[ "$(json_of out.json '.disks[0].method')" = map ] || fail "a right map was not trusted"
[ "$(json_of out.json .read)" = $((20 * 1024 * 1024 + 512)) ] || fail "a sample of 100 % did not read all"
# 10 % of 320 chunks: between 5 and 80 but for one run in a billion
lp --json backup --sample 10 --changed new=empty.json fresh new=disk.raw >out.json
read=$(json_of out.json .read)
if [ "$read" -lt $((5 * chunk)) ] || [ "$read" -gt $((80 * chunk)) ]; then
	fail "a sample of 10 % read $read bytes"
fi
# holes are sampled too: one that the point before has data for is noticed without a read
truncate -s 64M sparse.raw
dd if=disk.raw of=sparse.raw bs=1M count=2 seek=30 conv=notrunc status=none
lp backup sparse new=sparse.raw
truncate -s 0 sparse.raw
truncate -s 64M sparse.raw
status=0
lp --json backup --sample 100 --changed new=empty.json sparse new=sparse.raw >out.json || status=$?
[ $status = 3 ] || fail "data that became a hole unseen ended with $status"
lp restore sparse/new out.raw --overwrite
cmp sparse.raw out.raw || fail "data that became a hole is still there"
lp --json backup --sample 100 --changed new=empty.json sparse new=sparse.raw >out.json
[ "$(json_of out.json .read)" = 0 ] || fail "holes were read to sample them"

# what is no change map
refused() {
	echo "$2" >bad.json
	expect_exit 1 lp backup --changed new=bad.json fresh new=disk.raw 2>err.txt
	grep -q -- "$1" err.txt || { cat err.txt >&2; fail "no '$1' for: $2"; }
}
refused 'allocation map' '[{"offset":0,"length":65536,"type":0,"description":"data"}]'
refused 'allocation map' '[{"offset":0,"length":65536,"type":3,"description":"hole,zero"}]'
refused 'allocation map' '[{"offset":0,"length":65536,"type":1,"description":"hole"}]'
refused 'start' '{"length":4}'
refused 'whole numbers' '{"start":-1,"length":4}'
refused 'whole numbers' '{"start":1}'
refused 'whole numbers' '{"start":"1","length":4}'
refused 'either' '{"start":1,"offset":1,"length":4}'
refused 'neither true nor false' '{"start":1,"length":4,"data":1}'
refused 'neither true nor false' '{"offset":1,"length":4,"exists":"yes"}'
refused 'bad.json' 'no json'
refused 'bad.json' '[{"start":1,"length":4}'
expect_exit 2 lp backup --changed - fresh - <disk.raw
expect_exit 2 lp backup --changed empty.json fresh a=disk.raw b=disk.raw
