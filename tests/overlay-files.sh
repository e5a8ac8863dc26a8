#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# ext4, xfs and btrfs are made on a writable export, mounted on the host, filled, trimmed, and found clean by their own checkers, also
# after the server was killed and from an overlay attached again.  In an encrypted repository nothing that was written there
# stands in overlays/ in the clear, and nothing of the files' names.
. "$(dirname "$0")/functions.sh"

requires test "$(id -u)" -eq 0 # mounts
requires nbdfuse --version
requires jq --version
requires python3 --version
requires mkfs.xfs -V
requires mkfs.btrfs --version
requires test -e /dev/fuse
requires test -e /dev/loop-control

export LIVEPOINT_RUN_DIR=$tmp/run LIVEPOINT_PASSPHRASE=files
random_file disk.raw 3M 1
truncate -s 400M disk.raw
random_file secret 256K 99

# found FOLDER: how many windows of 16 bytes of the secret, at any place, stand in its files
found() {
	python3 - secret "$1" <<'END'
import mmap, os, sys
secret = open(sys.argv[1], "rb").read()
want = {secret[i:i + 16] for i in range(len(secret) - 15)}
name = b"confidential-name"
hits = 0
for top, _, files in os.walk(sys.argv[2]):
    for f in files:
        path = os.path.join(top, f)
        if not os.path.isfile(path) or os.path.getsize(path) == 0:
            continue
        fd = os.open(path, os.O_RDONLY)
        at = 0
        while True: # data only
            try:
                start = os.lseek(fd, at, os.SEEK_DATA)
            except OSError:
                break
            at = os.lseek(fd, start, os.SEEK_HOLE)
            data = os.pread(fd, at - start, start)
            # each window of the secret, whole, has one that starts at a multiple of 16 in any run of 31 bytes
            hits += sum(data[i:i + 16] in want for i in range(0, len(data) - 15, 1))
            hits += data.count(name)
        os.close(fd)
print(hits)
END
}

for kind in plain sealed; do
	options=()
	[ $kind = plain ] || options=(--encrypt)
	make_repo "$tmp/$kind" "${options[@]}"
	lp -q backup web1 vda=disk.raw >/dev/null
	for fs in ext4 xfs btrfs; do
		[ $kind = plain ] || [ $fs = ext4 ] || continue # the ciphers do not depend on the file system
		overlay=$(lp --json export web1 --writable --overlay "files-$fs" | jq -r .overlay)
		lp -q unexport --all
		start_plugin overlay="$overlay"
		view_attach "$plugin_uri"
		make_fs $fs "$view_dev" || fail "$kind $fs: mkfs"
		check_fs $fs "$view_dev" || fail "$kind $fs: not clean when it was made"
		mount_fs $fs "$view_dev" || fail "$kind $fs: mount"
		mkdir "$tmp/mnt/confidential-name"
		cp secret "$tmp/mnt/confidential-name/a"
		cp "$abs_top_srcdir"/tests/*.sh "$tmp/mnt"
		head -c 30M /dev/zero | tr '\0' x >"$tmp/mnt/large"
		cp secret "$tmp/mnt/b"
		sync -f "$tmp/mnt"
		rm "$tmp/mnt/large"
		sync -f "$tmp/mnt"
		fstrim "$tmp/mnt" || fail "$kind $fs: fstrim"
		umount "$tmp/mnt"
		check_fs $fs "$view_dev" || fail "$kind $fs: not clean after use"
		view_detach
		kill_plugin
		start_plugin # now a server of the whole repository
		view_attach "nbd+unix:///files-$fs/vda?socket=$plugin_sock"
		check_fs $fs "$view_dev" || fail "$kind $fs: not clean after kill -9"
		mount_fs $fs "$view_dev" ro || fail "$kind $fs: mount after kill -9"
		cmp secret "$tmp/mnt/confidential-name/a" && cmp secret "$tmp/mnt/b" || fail "$kind $fs: a file differs"
		for f in "$abs_top_srcdir"/tests/*.sh; do cmp "$f" "$tmp/mnt/${f##*/}" || fail "$kind $fs: ${f##*/} differs"; done
		umount "$tmp/mnt"
		view_detach
		stop_plugin
		used=$(du -s --block-size=1M "$LIVEPOINT_REPOSITORY/overlays/$overlay" | cut -f 1)
		[ $fs = xfs ] || [ "$used" -lt 60 ] || fail "$kind $fs: the overlay has $used MiB: the trim has freed nothing"
	done
	n=$(found "$LIVEPOINT_REPOSITORY/overlays")
	if [ $kind = plain ]; then
		[ "$n" -gt 100000 ] || fail "only $n windows of the secret in a plain overlay: the search finds nothing"
	else
		[ "$n" -eq 0 ] || fail "$n windows of what the guest wrote stand in overlays/ in the clear"
	fi
done
