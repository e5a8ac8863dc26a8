#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Raw files and block devices as sources: holes are not read, zeroes are not stored, kind and method are told, disks
# come and go, and a restore of each point is the same bytes.
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/nbd-servers.sh"
requires jq --version

make_repo
truncate -s 300M disk.raw
random_file part 4M 1
dd if=part of=disk.raw bs=1M seek=100 conv=notrunc status=none
dd if=part of=disk.raw bs=4k seek=50001 conv=notrunc status=none # off the grid of chunks
dd if=/dev/zero of=disk.raw bs=1M seek=250 count=8 conv=notrunc status=none # zeroes, not holes
want=$(sha disk.raw)

# the first point: full, and only what is allocated was read
lp --json backup web disk.raw >1.json
[ "$(json_of 1.json .read)" -le $((18 << 20)) ] || fail "holes were read: $(json_of 1.json .read)"
[ "$(json_of 1.json .read)" -ge $((16 << 20)) ] || fail "too little was read"
[ "$(json_of 1.json .stored)" -le $((10 << 20)) ] || fail "zeroes were stored"
[ "$(json_of 1.json '.disks[0].method')" = full ] || fail "the first method is not full"
[ "$(json_of 1.json '.warnings | length')" = 0 ] || fail "warnings without reason"
lp restore web@latest out.raw
[ "$(sha out.raw)" = "$want" ] || fail "the restored disk differs"
[ "$(stat -c %b out.raw)" -le $((12 << 11)) ] || fail "the restored file is not sparse"

# unchanged: compared, nothing stored but the map's few
lp --json backup web disk.raw >2.json
[ "$(json_of 2.json .chunks_new)" = 0 ] || fail "unchanged chunks were stored again"
[ "$(json_of 2.json '.disks[0].method')" = hash ] || fail "the second method is not hash"
lp --json show web@latest >show.json
[ "$(jq -r .kind show.json)" = incremental ] || fail "kind: $(jq -r .kind show.json)"
[ "$(jq -r .consistency show.json)" = crash ] || fail "consistency"
first=$(json_of 1.json .id)
[ "$(jq -r .parent show.json)" = "$first" ] || fail "parent"

# one chunk of the disk changes; a dry run stores no point
printf changed | dd of=disk.raw bs=1 seek=$((100 << 20)) conv=notrunc status=none
lp --json backup --dry-run web disk.raw >dry.json
[ "$(json_of dry.json .point)" = null ] || fail "a dry run has a point"
[ "$(lp --json list | jq length)" = 2 ] || fail "a dry run left a point"
lp --json backup web disk.raw >3.json
[ "$(json_of 3.json .chunks_new)" = 1 ] || fail "one chunk changed, $(json_of 3.json .chunks_new) stored"
lp --json backup --since "$first" web disk.raw >4.json
[ "$(lp --json show web | jq -r .kind)" = differential ] || fail "not differential"
lp --json backup --full web disk.raw >5.json
[ "$(lp --json show web | jq -r '.kind, .disks[0].method' | xargs)" = "full full" ] || fail "not full"
[ "$(lp --json show web | jq -r .parent)" = null ] || fail "a full point has a parent"

# disks by name, by order, added and removed
cp --sparse=always disk.raw second.raw
lp --json backup two root=disk.raw second.raw >6.json
[ "$(json_of 6.json '[.disks[].name] | join(",")')" = root,vda ] || fail "names"
lp --json backup two root=disk.raw >7.json
json_of 7.json '.warnings[]' | grep -q "disk 'vda' of two@" || fail "a missing disk was not told"
lp --json backup two root=disk.raw third=second.raw >8.json
[ "$(json_of 8.json '[.disks[].method] | join(",")')" = hash,full ] || fail "methods of an added disk"
[ "$(json_of 8.json .chunks_new)" = 0 ] || fail "an equal disk was stored twice"
expect_exit 2 lp backup two vda=disk.raw second.raw
expect_exit 2 lp backup two a=disk.raw a=second.raw

# a block device is called as its folder calls it
if [ "$(id -u)" = 0 ] && loop=$(losetup --find --show --read-only disk.raw 2>/dev/null); then
	cleanup_fn losetup -d "$loop"
	lp --json backup dev "$loop" >9.json
	[ "$(json_of 9.json '.disks[0].name')" = "$(basename "$loop")" ] || fail "name of a device"
	[ "$(json_of 9.json .chunks_new)" = 0 ] || fail "the device's content differs from the file's"
fi
