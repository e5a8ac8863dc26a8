#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A writable export and nbdkit's cow filter over the same image get the same random requests and cannot be told apart
# (tests/overlay-peers.c); also an image whose size is no multiple of a block, and from the overlay as it is attached again.
# LIVEPOINT_SEED repeats a run.
. "$(dirname "$0")/functions.sh"

requires nbdcopy --version
requires qemu-io --version
requires jq --version

export LIVEPOINT_RUN_DIR=$tmp/run LIVEPOINT_PASSPHRASE=peers
seed=${LIVEPOINT_SEED:-$(date +%s)}
count=${OVERLAY_REQUESTS:-3000}
echo "seed $seed, $count requests each"
random_file disk.raw 3M 1
truncate -s $((6 * 1048576 + 1536)) disk.raw
random_bytes 700K 2 | dd of=disk.raw bs=1M seek=5 conv=notrunc status=none

for kind in plain sealed; do
	options=()
	[ $kind = plain ] || options=(--encrypt)
	make_repo "$tmp/$kind" "${options[@]}"
	lp -q backup web1 vda=disk.raw >/dev/null
	overlay=$(lp --json export web1 --writable | jq -r .overlay)
	lp -q unexport --all
	start_plugin overlay="$overlay"
	ours=$plugin_uri
	rm -f "$tmp/cow.sock" "$tmp/cow.pid"
	nbdkit -f -P "$tmp/cow.pid" -U "$tmp/cow.sock" --filter=cow file disk.raw cow-block-size=4096 &
	server_pid[cow]=$!
	for ((i = 0; i < 400; i++)); do [ ! -s "$tmp/cow.pid" ] || break; sleep 0.025; done
	theirs="nbd+unix:///?socket=$tmp/cow.sock"
	"$abs_top_builddir/tests/overlay-peers" "$ours" "$theirs" "$seed" "$count" || fail "$kind (seed $seed)"
	nbdcopy "$theirs" theirs.raw
	stop_plugin
	start_plugin overlay="$overlay"
	nbdcopy "$plugin_uri" ours.raw
	cmp ours.raw theirs.raw || fail "$kind: another image after attaching again (seed $seed)"
	# with few flushes and a kill: what was flushed by the end is the same
	"$abs_top_builddir/tests/overlay-peers" "$plugin_uri" "$theirs" $((seed + 1)) $((count / 4)) || fail "$kind (seed $seed + 1)"
	nbdcopy "$theirs" theirs.raw
	qemu-io -f raw -c flush "$plugin_uri" >/dev/null
	kill_plugin
	start_plugin overlay="$overlay"
	nbdcopy "$plugin_uri" ours.raw
	cmp ours.raw theirs.raw || fail "$kind: another image after kill -9 (seed $seed)"
	stop_plugin
	stop_plugin cow
done
