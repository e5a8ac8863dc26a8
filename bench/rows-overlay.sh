# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash
# Rows of writes to an overlay, beside nbdkit's cow filter over the raw image.
#
#  1. The filter is asked with blocks of 4096 bytes and with its own size; the better of the two is the peer.
#  2. Nobody flushes within a row: the filter keeps nothing, and would have nothing to do.
#  3. Each repetition has a new overlay and a new server; "again" are the same places a second time.
# shellcheck disable=SC2154 # variables of bench/run and functions.sh

# overlay_disk: 2 GiB, a quarter of it data; the writes fall on both.
overlay_disk()
{
	[ ! -e "$work/overlay.raw" ] || return 0
	head -c 512M /dev/urandom >"$work/overlay.raw"
	truncate -s 2G "$work/overlay.raw"
}

# writes_to NAME SERVER-ARGUMENT...: one object per kind of write in $work/NAME.KIND.
writes_to()
{
	local name=$1
	shift
	serve "$name" "$@"
	"$tools/bench-nbdlat" write "$uri" 4K 1 6000 11 >>"$work/$name.q1"
	"$tools/bench-nbdlat" write "$uri" 4K 1 6000 11 >>"$work/$name.q1again"
	"$tools/bench-nbdlat" write "$uri" 4K 32 30000 70001 >>"$work/$name.q32"
	"$tools/bench-nbdlat" write "$uri" 4K 32 30000 70001 >>"$work/$name.q32again"
	"$tools/bench-nbdlat" write "$uri" 1M 1 512 0 >>"$work/$name.seq"
	stop "$name"
}

# better KIND: MiB/s of the better of the two peers.
better()
{
	calc "[$(median "$work/cow4k.$1" .mib_s), $(median "$work/cow.$1" .mib_s)] | max"
}

group_overlay()
{
	local i kind id what
	local -A rows=([q1]="4 KiB writes, queue 1" [q1again]="the same again"
		[q32]="4 KiB writes, queue 32" [q32again]="the same again" [seq]="1 MiB writes, queue 1")
	export LIVEPOINT_RUN_DIR=$work/run
	overlay_disk
	for kind in plain encrypted; do
		use $kind "$work/repo-overlay"
		lp backup d "vda=$work/overlay.raw" >/dev/null
		rm -f "$work"/{ours,cow,cow4k}.*
		for ((i = 0; i < reps; i++)); do
			id=$("$livepoint" --json export d --writable | jq -r .overlay)
			lp unexport --all
			ours "overlay=$id"
			writes_to ours "${arguments[@]}"
			TMPDIR=$work writes_to cow4k --filter=cow file "$work/overlay.raw" cow-block-size=4096
			TMPDIR=$work writes_to cow --filter=cow file "$work/overlay.raw"
			lp discard "$id"
			sync -f "$work"
		done
		for what in q1 q1again q32 q32again seq; do
			row overlay "${rows[$what]}, $kind" MiB/s "$(median "$work/ours.$what" .mib_s)" "$(better $what)" \
				"nbdkit cow filter" ge 1
		done
	done
	rm -rf "$work/repo-overlay"
}
