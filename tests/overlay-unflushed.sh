#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What a client was told is written, and did not flush, is there after kill -9 of the server: writes, zeroes and trims, in the
# order they came, over flushes in between.  After another start of the host (another boot id) only what was flushed counts, and
# the rest is as it was before.  A clean end leaves nothing to be entered.
. "$(dirname "$0")/functions.sh"

requires qemu-io --version
requires jq --version

export LIVEPOINT_RUN_DIR=$tmp/run LIVEPOINT_PASSPHRASE=unflushed
head -c 4M /dev/zero | tr '\0' '\21' >disk.raw # 0x11

# client COMMAND...: a client that stays, and does not flush as it would at its end; returns when each command is answered.
client() {
	local i n=1 c
	rm -f commands
	mkfifo commands
	qemu-io -f raw --cache=writeback "$plugin_uri" <commands >answers 2>&1 &
	client=$!
	exec 8>commands
	for c; do
		# a line at a time: it does not look for a second one in its buffer
		echo "$c" >&8
		n=$((n + 1))
		for ((i = 0; i < 800; i++)); do
			[ "$(grep -o "qemu-io>" answers | wc -l)" -lt $n ] || break
			sleep 0.025
		done
	done
	if [ "$(grep -o "qemu-io>" answers | wc -l)" -ne $n ] || grep -qE "failed|error" answers; then
		cat answers
		kill "$client"
		fail "the client has failed"
	fi
}
client_end() {
	exec 8>&-
	wait "$client" || true
}
holds() { # holds PATTERN OFFSET LENGTH...
	while [ $# -gt 0 ]; do
		qemu-io -r -f raw -c "read -P $1 $2 $3" "$plugin_uri" >qemu.log 2>&1 && ! grep -q "failed" qemu.log ||
			{ cat qemu.log; fail "$kind: not $1 at $2 ($3)"; }
		shift 3
	done
}

for kind in plain sealed; do
	options=()
	[ $kind = plain ] || options=(--encrypt)
	make_repo "$tmp/$kind" "${options[@]}"
	lp -q backup web1 vda=disk.raw >/dev/null
	overlay=$(lp --json export web1 --writable | jq -r .overlay)
	lp -q unexport --all
	live=$LIVEPOINT_REPOSITORY/overlays/$overlay/vda.1.live
	start_plugin overlay="$overlay"
	client "write -P 0xa1 0 64k" flush "write -P 0xa2 64k 64k" "write -P 0xa3 200000 700" "write -z -u 1M 64k" \
		"write -P 0xa4 1M 4k" "discard 32k 8k" "write -P 0xa5 36k 4k" "write -z 36k 4k"
	kill_plugin
	client_end
	cp -a "$LIVEPOINT_REPOSITORY/overlays/$overlay" killed
	start_plugin overlay="$overlay"
	all=(0xa1 0 32k 0 32k 8k 0xa1 40k 24k 0xa2 64k 64k 0x11 199999 1 0xa3 200000 700 0x11 200700 100
		0xa4 1M 4k 0 1052672 61440 0x11 1114112 4096)
	holds "${all[@]}"
	kill_plugin # nothing was written since: what was entered is durable now
	start_plugin overlay="$overlay"
	holds "${all[@]}"
	stop_plugin
	[ ! -s "$live" ] || fail "$kind: a clean end leaves changes behind"

	# As after a power cut: the same files, of another start of the host.  (The page cache is kept: the worst case.)
	cp -a killed/. "$LIVEPOINT_REPOSITORY/overlays/$overlay/"
	python3 - "$live" <<'END'
import struct, sys
def crc32c(data):
    crc = 0xffffffff
    for b in data:
        crc ^= b
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff
f = open(sys.argv[1], "r+b")
head = bytearray(f.read(64))
assert head[:8] == b"LVPTLIVE"
head[16] ^= 1
f.seek(0)
f.write(head + struct.pack("<I", crc32c(head)))
END
	start_plugin overlay="$overlay"
	holds 0xa1 0 36k 0xa1 40k 24k 0x11 64k 900000 0x11 1M 64k # in the block between each sector is old or new
	stop_plugin
	rm -rf killed
done
