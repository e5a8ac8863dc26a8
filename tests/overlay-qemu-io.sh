#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Patterns of qemu-io on a writable export: requests in flight, edges, discard, write-zeroes with and without unmapping, flush,
# FUA; what reads as zeroes is called so, and what was freed takes no space; all of it again after the server was killed.
. "$(dirname "$0")/functions.sh"

requires qemu-io --version
requires qemu-img --version
requires jq --version

export LIVEPOINT_RUN_DIR=$tmp/run LIVEPOINT_PASSPHRASE=qemu
head -c 8M /dev/zero | tr '\0' '\21' >disk.raw # 0x11

io() { # io COMMAND...: one run; every pattern must hold
	local args=() c
	for c; do args+=(-c "$c"); done
	qemu-io -f raw --cache=none "${args[@]}" "$plugin_uri" >qemu.log 2>&1 || { cat qemu.log; fail "qemu-io: $*"; }
	if grep -qiE "failed|error|verification" qemu.log; then cat qemu.log; fail "qemu-io: $*"; fi
}
# map: start, length, data and zero of each extent
map() { qemu-img map --output=json -f raw "$plugin_uri" | jq -r '.[] | "\(.start) \(.length) \(.data) \(.zero)"'; }
bytes() { du -s --block-size=1 "$LIVEPOINT_REPOSITORY/overlays/$overlay" | cut -f 1; }

patterns() {
	io "read -P 0xa1 0 4096" "read -P 0xa2 4096 512" "read -P 0x11 4608 512" "read -P 0xa3 5120 1024" "read -P 0x11 6144 2048"
	io "read -P 0x11 100000 1" "read -P 0xa4 100001 3" "read -P 0x11 100004 100"
	io "read -P 0xb1 1M 64k" "read -P 0xb2 1088k 64k" "read -P 0xb3 1152k 64k" "read -P 0xb4 1216k 64k"
	io "read -P 0xc1 2M 1M" "read -P 0 3M 512k" "read -P 0xc1 3584k 512k"
	io "read -P 0 4M 64k" "read -P 0xd1 4160k 4k" "read -P 0 4164k 60k" "read -P 0x11 4224k 4k"
	io "read -P 0x11 4999k 1k" "read -P 0 5000k 1001" "read -P 0x11 $((5000 * 1024 + 1001)) 23"
	io "read -P 0xe1 7M 8k" "read -P 0xee $((8 * 1048576 - 512)) 512"
}

for kind in plain sealed; do
	options=()
	[ $kind = plain ] || options=(--encrypt)
	make_repo "$tmp/$kind" "${options[@]}"
	lp -q backup web1 vda=disk.raw >/dev/null
	overlay=$(lp --json export web1 --writable | jq -r .overlay)
	lp -q unexport --all
	start_plugin overlay="$overlay"
	# whole blocks, sectors, bytes
	io "write -P 0xa1 0 4096" "write -P 0xa2 4096 512" "write -P 0xa3 5120 1024" "write -P 0xa4 100001 3"
	# four at a time, then all waited for
	io "aio_write -P 0xb1 1M 64k" "aio_write -P 0xb2 1088k 64k" "aio_write -P 0xb3 1152k 64k" "aio_write -P 0xb4 1216k 64k" aio_flush
	# data that is discarded, and data that stays
	io "write -P 0xc1 2M 2M" flush
	before=$(bytes)
	io "discard 3M 512k" flush
	# base that is made zero: unmapping and not; a write into it
	io "write -z -u 4M 64k" "write -z 4160k 64k" "write -P 0xd1 4160k 4k" "write -z 5000k 1001"
	# FUA, and the last sector
	io "write -f -P 0xe1 7M 8k" "write -f -P 0xee $((8 * 1048576 - 512)) 512"
	patterns
	[ "$(bytes)" -le $((before - 400 * 1024)) ] || fail "$kind: discarded blocks still take space ($before, now $(bytes))"
	map >map.txt
	grep -qx "$((3 * 1048576)) 524288 false true" map.txt || { cat map.txt; fail "$kind: discarded blocks are no hole"; }
	grep -qx "$((4 * 1048576)) 65536 false true" map.txt || { cat map.txt; fail "$kind: zeroed blocks are no hole"; }
	io flush
	kill_plugin
	start_plugin overlay="$overlay"
	patterns
	map | diff -u map.txt - || fail "$kind: other extents after kill -9"
	# what is out of bounds changes nothing
	if qemu-io -f raw -c "write -P 1 8M 512" "$plugin_uri" >/dev/null 2>&1; then fail "$kind: a write beyond the end"; fi
	patterns
	stop_plugin
	[ "$(stat -c %s "$LIVEPOINT_REPOSITORY/overlays/$overlay"/vda.1.data)" -ge 0 ] || fail "$kind: no data file"
done
