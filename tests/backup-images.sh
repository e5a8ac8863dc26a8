#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Image formats, by ending or --format and never by content; images that name other files are refused.
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/nbd-servers.sh"
requires jq --version
requires qemu-img --version
requires pgrep --version

make_repo
truncate -s 64M disk.raw
random_file part 5M 1
dd if=part of=disk.raw bs=1M seek=20 conv=notrunc status=none
dd if=part of=disk.raw bs=4k count=1 seek=16383 conv=notrunc status=none

for format in qcow2 vmdk vhdx vdi vpc; do
	options=()
	[ $format != vpc ] || options=(-o force_size=on)
	qemu-img convert -f raw -O $format "${options[@]}" disk.raw "disk.$format"
	lp --json backup "img-$format" "disk.$format" >out.json
	rm -f out.raw
	lp restore "img-$format" out.raw
	cmp disk.raw out.raw || fail "$format differs"
	[ "$(json_of out.json .stored)" -le $((6 << 20)) ] || fail "$format: zeroes were stored"
	# the same by --format, whatever the ending
	cp "disk.$format" disk.bin
	lp --json backup --format $format "img-$format" disk.bin >again.json
	[ "$(json_of again.json .chunks_new)" = 0 ] || fail "$format by --format differs"
done
json_of out.json '.warnings[]' | grep -q 'cylinders' || fail "the size of vpc was not explained"
[ "$(json_of out.json .read)" -le $((8 << 20)) ] || fail "holes of an image were read"

# sizes of vpc are rounded up by its geometry: all of the disk is there
qemu-img convert -f raw -O vpc disk.raw chs.vhd
lp backup chs chs.vhd
lp restore chs out.raw --overwrite
cmp -n $((64 << 20)) disk.raw out.raw || fail "vpc with rounded size differs"

# a raw disk whose guest wrote an image's header to it stays what it is
cp disk.qcow2 trap.raw
cp disk.qcow2 trap.img
lp backup trap trap.raw
lp restore trap out.raw --overwrite
cmp -n "$(stat -c %s trap.raw)" trap.raw out.raw || fail "a raw disk was taken for an image"
lp --json backup trap trap.img >out.json
[ "$(json_of out.json .chunks_new)" = 0 ] || fail "an .img file was taken for an image"
expect_exit 1 lp backup wrong --format vdi disk.qcow2
expect_exit 1 lp backup wrong --format qcow2 disk.raw

# other files
qemu-img create -q -f qcow2 -b "$tmp/disk.raw" -F raw top.qcow2
expect_exit 1 lp backup top top.qcow2 2>err.txt
grep -q -- '--allow-backing' err.txt || fail "the way out is not named"
lp backup --allow-backing top top.qcow2
lp restore top out.raw --overwrite
cmp disk.raw out.raw || fail "an image with a backing file differs"
qemu-img create -q -f qcow2 -o data_file=data.bin,data_file_raw=on ext.qcow2 1M
expect_exit 1 lp backup ext ext.qcow2
qemu-img convert -f raw -O vmdk -o subformat=monolithicFlat disk.raw flat.vmdk
expect_exit 1 lp backup flat flat.vmdk
lp backup --allow-backing flat flat.vmdk
lp restore flat out.raw --overwrite
cmp disk.raw out.raw || fail "a vmdk of two files differs"

# a name with a comma and a colon means nothing
cp disk.qcow2 'a,b:c.qcow2'
lp --json backup odd vda=a,b:c.qcow2 >out.json
[ "$(json_of out.json .chunks_new)" = 0 ] || fail "a file with a comma differs"

# nothing is left: no helper, no folder
[ -z "$(find /tmp -maxdepth 1 -name 'livepoint-image.*' -newer disk.raw 2>/dev/null)" ] || fail "a private folder was left"
if pgrep -f "qemu-storage-daemon.*$tmp" >/dev/null; then fail "a helper was left"; fi
