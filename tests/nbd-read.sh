#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# One disk through nbdcopy, qemu-img, nbdfuse with a loop device, and restore: one SHA-256.  Then reads
# of all shapes: across chunk borders, unaligned, single bytes, up to the last one.
. "$(dirname "$0")/functions.sh"

requires nbdcopy --version
requires nbdfuse --version
requires qemu-img --version
requires qemu-io --version
requires test -c /dev/fuse

# 8 MiB and three sectors: data, holes, a chunk of zeroes between data, a short last chunk.
random_file disk.raw $((8 * 1024 * 1024 + 3 * 512)) 1
dd if=/dev/zero of=disk.raw bs=64K seek=10 count=40 conv=notrunc status=none
dd if=/dev/zero of=disk.raw bs=64K seek=70 count=1 conv=notrunc status=none
want=$(sha disk.raw)

make_repo
point=$(lp -q backup web1 vda=disk.raw)
start_plugin
uri="nbd+unix:///$point/vda?socket=$plugin_sock"

nbdcopy "$uri" nbdcopy.raw
[ "$(sha nbdcopy.raw)" = "$want" ] || fail "nbdcopy got other bytes"
nbdcopy --threads=4 --connections=4 --requests=32 --request-size=$((128 * 1024)) "$uri" nbdcopy.raw
[ "$(sha nbdcopy.raw)" = "$want" ] || fail "nbdcopy with 4 connections got other bytes"
qemu-img compare -f raw -F raw "$uri" disk.raw || fail "qemu-img finds a difference"
qemu-img convert -f raw -O raw "$uri" convert.raw
[ "$(sha convert.raw)" = "$want" ] || fail "qemu-img convert got other bytes"
lp -q restore "$point/vda" restored.raw
[ "$(sha restored.raw)" = "$want" ] || fail "restore wrote other bytes"

# As a file, and that file as a device.
mkdir mnt
nbdfuse -r mnt/disk.img "$uri" &
nbdfuse_pid=$!
cleanup_fn wait "$nbdfuse_pid"
cleanup_fn fusermount3 -u "$tmp/mnt"
for ((i = 0; i < 400; i++)); do
	[ ! -s mnt/disk.img ] || break
	sleep 0.025
done
[ "$(sha mnt/disk.img)" = "$want" ] || fail "nbdfuse shows other bytes"
if [ "$(id -u)" -eq 0 ] && losetup -f >/dev/null 2>&1; then
	loop=$(losetup -r -f --show mnt/disk.img)
	got=$(sha "$loop")
	losetup -d "$loop"
	[ "$got" = "$want" ] || fail "the loop device shows other bytes"
fi

# hex_of_file OFFSET LENGTH, hex_of_nbd OFFSET LENGTH: the bytes, one line.
hex_of_file() { tail -c +$(($1 + 1)) disk.raw | head -c "$2" | od -An -v -tx1 | tr -d ' \n'; }
hex_of_nbd() {
	qemu-io -r -f raw -c "read -v $1 $2" "$uri" >io.out || fail "read of $2 bytes at $1: $(cat io.out)"
	sed -nE 's/^[0-9a-f]{8,}:  (([0-9a-f]{2} ){1,16}).*/\1/p' io.out | tr -d ' \n'
}
chunk=65536
size=$(stat -c %s disk.raw)
for range in "0 1" "$((chunk - 1)) 2" "$((chunk - 1)) 1" "$chunk 1" "$((chunk - 3)) $((chunk + 6))" \
	"$((10 * chunk - 5)) 10" "$((50 * chunk - 5)) 10" "$((70 * chunk - 1)) $((chunk + 2))" \
	"1234567 4321" "$((size - 1)) 1" "$((size - 1537)) 1537" "$((size - 512)) 512" \
	"$((3 * chunk + 17)) $((5 * chunk))"; do
	read -r offset length <<<"$range"
	got=$(hex_of_nbd "$offset" "$length")
	[ ${#got} -eq $((2 * length)) ] || fail "read of $length bytes at $offset gave $((${#got} / 2))"
	[ "$got" = "$(hex_of_file "$offset" "$length")" ] || fail "other bytes: $length at $offset"
done

# What clients are told.
nbdinfo --json "$uri" >info.json
for field in '"export-size": '"$size" '"is_read_only": true' '"can_cache": true' '"can_multi_conn": true' \
	'"is_rotational": false' '"block_size_minimum": 1,' '"block_size_preferred": 65536'; do
	grep -qF "$field" info.json || { cat info.json; fail "nbdinfo does not say $field"; }
done
qemu-io -f raw -c 'write 0 512' "$uri" >io.out 2>&1 && fail "a write went through"

# A cache request works and changes nothing.
qemu-img compare -f raw -F raw "$uri" disk.raw >/dev/null || fail "difference at the end"
fusermount3 -u mnt
wait "$nbdfuse_pid" || true
cleanup_fns=()
stop_plugin
