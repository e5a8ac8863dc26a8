#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A flipped bit in a pack: the client gets EIO for that chunk, the log names the place, all other
# chunks are served, and the server lives on.  Plain and encrypted.
. "$(dirname "$0")/functions.sh"

requires qemu-io --version
requires nbdcopy --version

random_file disk.raw 2M 1 # 32 chunks that do not compress, one after the other in one pack
export LIVEPOINT_PASSPHRASE=secret

# damage REPO: flips a bit in the middle of the largest pack's first half.
damage() {
	local pack offset byte
	pack=$(find "$1/packs" -name '*.pack' -printf '%s %p\n' | sort -n | tail -1 | cut -d' ' -f2)
	offset=$(($(stat -c %s "$pack") / 4))
	byte=$(dd if="$pack" bs=1 skip=$offset count=1 status=none | od -An -tu1 | tr -d ' ')
	chmod u+w "$pack"
	printf "$(printf '\\%03o' $((byte ^ 16)))" | dd of="$pack" bs=1 seek=$offset conv=notrunc status=none
}

for kind in plain encrypted; do
	if [ $kind = plain ]; then make_repo "$tmp/$kind"; else make_repo "$tmp/$kind" --encrypt; fi
	point=$(lp -q backup web1 vda=disk.raw)
	damage "$tmp/$kind"
	start_plugin -n $kind point="$point"
	# One request at a time: nbdkit 1.32.5 itself aborts when a client leaves while several replies are
	# on their way (fixed by its commit 9d82aa4f, "server: Don't assert on send if client hangs up early").
	nbdcopy --connections=1 --requests=1 "$plugin_uri" copy.raw 2>copy.err && fail "$kind: a copy of damaged data went through"
	grep -q 'Input/output error' copy.err || { cat copy.err; fail "$kind: the client did not get EIO"; }
	grep -qE "disk 'vda', offset [0-9]+: pack [0-9a-f]+, slot [0-9]+, offset [0-9]+, id [0-9a-f]{64}" "$tmp/$kind.log" ||
		{ cat "$tmp/$kind.log"; fail "$kind: the log does not name the place"; }
	bad=0
	for ((i = 0; i < 32; i++)); do
		if qemu-io -r -f raw -c "read $((i * 65536)) 65536" "$plugin_uri" >io.out 2>&1 &&
			! grep -q 'failed' io.out; then
			continue
		fi
		grep -q 'Input/output error' io.out || { cat io.out; fail "$kind: chunk $i: another error"; }
		bad=$((bad + 1))
	done
	[ $bad -eq 1 ] || fail "$kind: $bad chunks cannot be read, not 1"
	stop_plugin $kind
done
