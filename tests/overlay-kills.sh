# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash disable=SC2154
# Sourced after functions.sh and reliability.sh: kill -9 of the server of a writable export in the middle of writes to a file
# system on it, through nbdfuse, a loop device and a mount.
#
# After each kill the server is started again, the file system mounted (its journal is replayed), every acknowledged record
# looked for (tests/overlay-records.c), and the file system's own checker run on the unmounted device.

acknowledged() { od -An -tu8 acks 2>/dev/null | tr -d ' ' | grep . || echo 0; }

# kill_run KIND FS COUNT: a new repository and overlay, COUNT kills.  Adds to passed and failed.
kill_run() {
	local kind=$1 fs=$2 count=$3 options=() overlay dir=$fast/$1-$2 n i have=0 writer
	[ "$kind" = plain ] || options=(--encrypt)
	export LIVEPOINT_PASSPHRASE=kills
	make_repo "$dir" "${options[@]}"
	random_file "$fast/disk.raw" 4M 1
	truncate -s 400M "$fast/disk.raw"
	lp -q backup web1 vda="$fast/disk.raw" >/dev/null
	overlay=$(lp --json export web1 --writable | jq -r .overlay)
	lp -q unexport --all
	rm -f acks
	start_plugin overlay="$overlay"
	view_attach "$plugin_uri"
	make_fs "$fs" "$view_dev" || fail "$kind $fs: mkfs"
	for ((n = 1; n <= count; n++)); do
		mount_fs "$fs" "$view_dev" || fail "$kind $fs: mount before kill $n (seed $seed)"
		"$abs_top_builddir/tests/overlay-records" write "$tmp/mnt" acks 2>/dev/null &
		writer=$!
		# so many at least, however busy the machine is; then any moment
		for ((i = 0; i < 800; i++)); do
			[ "$(acknowledged)" -lt $((have + 3)) ] || break
			sleep 0.025
		done
		sleep "$(printf '0.%03d' $((RANDOM % 600)))"
		kill_plugin
		wait "$writer" || fail "$kind $fs: the writer has ended strangely"
		view_detach
		start_plugin overlay="$overlay"
		view_attach "$plugin_uri"
		if mount_fs "$fs" "$view_dev" &&
			have=$("$abs_top_builddir/tests/overlay-records" check "$tmp/mnt" acks) &&
			umount "$tmp/mnt" && check_fs "$fs" "$view_dev"; then
			passed=$((passed + 1))
		else
			echo "$kind $fs: kill $n: FAILED (seed $seed)"
			failed=$((failed + 1))
			break
		fi
	done
	echo "$kind $fs: $((n - 1)) kills, $have records"
	if [ "$have" -lt $((count * 2)) ]; then
		echo "$kind $fs: only $have records were acknowledged: it was no test"
		failed=$((failed + 1))
	fi
	view_detach
	stop_plugin || failed=$((failed + 1))
	rm -rf "$dir" "$fast/disk.raw"
}

requires_kills() {
	requires test "$(id -u)" -eq 0 # mounts
	requires nbdfuse --version
	requires jq --version
	requires mkfs.ext4 -V
	requires mkfs.xfs -V
	requires mkfs.btrfs --version
	requires test -e /dev/fuse
	requires test -e /dev/loop-control
	export LIVEPOINT_RUN_DIR=$tmp/run
	RANDOM=$((seed % 32768))
}
