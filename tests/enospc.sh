#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A full disk in the middle of a backup: exit 1 and a clear message, nothing lost, and after space was made the next backup
# works with nothing left over.  Then the same repository read-only, by file system and by bind mount: reading works,
# a backup refuses clearly.  Needs root, for mounts.
. "$(dirname "$0")/functions.sh"

requires test "$(id -u)" -eq 0
requires mount --version

unmount() {
	mountpoint -q "$1" && umount "$1"
	return 0
}

mkdir small
if [ -z "${ENOSPC_TMPFS:-}" ] && mkfs.ext4 -V >/dev/null 2>&1 && losetup -f >/dev/null 2>&1; then
	truncate -s 96M small.img
	mkfs.ext4 -q -m 0 small.img
	mount -o loop small.img small || skip "cannot mount a loop device"
else
	mount -t tmpfs -o size=90m none small || skip "cannot mount a tmpfs"
fi
cleanup_fn unmount "$tmp/small"

refused() { # WHAT PATTERN...: the last command's message, in refused.err
	local what=$1 pattern
	shift
	for pattern; do
		grep -qiE "$pattern" refused.err || { cat refused.err; fail "$what: the message does not say '$pattern'"; }
	done
	[ "$(wc -l <refused.err)" -le 3 ] || { cat refused.err; fail "$what: too many lines"; }
}
intact() { # WHAT: the first point is there as it was
	[ "$(lp list --json | jq -r '.[].point' | head -n 1)" = "$first" ] || fail "$1: the first point is not listed"
	rm -f back.raw
	lp -q restore "$first" back.raw
	[ "$(sha back.raw)" = "$first_sha" ] || fail "$1: the first point restores to other bytes"
}

for kind in plain encrypted; do
	export LIVEPOINT_PASSPHRASE=secret
	if [ $kind = plain ]; then make_repo "$tmp/small/$kind"; else make_repo "$tmp/small/$kind" --encrypt; fi
	random_file disk.raw 8M 1
	first=$(lp -q backup web1 vda=disk.raw)
	first_sha=$(sha disk.raw)

	# 1: the data does not fit
	random_file big.raw 200M 2
	expect_exit 1 lp -q backup web1 vda=big.raw 2>refused.err
	refused "$kind: full disk" 'no space left' "$tmp/small"
	[ "$(lp list --json | jq length)" -eq 1 ] || fail "$kind: a backup that failed is listed"
	intact "$kind: after a full disk"

	# 2: the disk is full to the last block: nothing can be written at all, reading still works
	dd if=/dev/zero of=small/filler bs=64K status=none 2>/dev/null || true
	dd if=/dev/zero of=small/filler2 bs=512 status=none 2>/dev/null || true
	random_file disk.raw 8M 3
	expect_exit 1 lp -q backup web1 vda=disk.raw 2>refused.err
	refused "$kind: no block left" 'no space left|disk is full'
	lp list --json >list.json || fail "$kind: list fails on a full disk"
	[ "$(jq length list.json)" -eq 1 ] || fail "$kind: a backup that failed is listed"
	rm -f back.raw
	lp -q restore "$first" back.raw || fail "$kind: restore fails on a full disk"
	[ "$(sha back.raw)" = "$first_sha" ] || fail "$kind: the first point restores to other bytes on a full disk"

	# 3: with space again the next backup works by itself
	rm -f small/filler small/filler2
	second=$(lp -q backup web1 vda=disk.raw) || fail "$kind: the next backup failed"
	rm -f back.raw
	lp -q restore "$second" back.raw
	[ "$(sha back.raw)" = "$(sha disk.raw)" ] || fail "$kind: the next point restores to other bytes"
	intact "$kind: after the next backup"
	leftovers=$(lp -q verify --leftovers)
	[ -z "$leftovers" ] || fail "$kind: leftovers: $leftovers"
	lp -q verify --data || fail "$kind: verify"

	# 4: read-only: the file system, then a bind mount of one that is written elsewhere
	for how in remount bind; do
		if [ $how = remount ]; then
			mount -o remount,ro small || fail "cannot remount read-only"
		else
			mkdir -p view
			mount --bind "$tmp/small/$kind" view
			cleanup_fn unmount "$tmp/view"
			mount -o remount,bind,ro view
			export LIVEPOINT_REPOSITORY=$tmp/view
		fi
		[ "$(lp list --json | jq length)" -eq 2 ] || fail "$kind, $how: list"
		intact "$kind, $how"
		lp -q verify 2>/dev/null || fail "$kind, $how: verify"
		uri=$(lp -q export "$second") || fail "$kind, $how: export"
		cleanup_fn lp -q unexport --all
		nbdcopy "$uri" back.raw || fail "$kind, $how: nbdcopy"
		[ "$(sha back.raw)" = "$(sha disk.raw)" ] || fail "$kind, $how: the export has other bytes"
		lp -q unexport --all
		expect_exit 1 lp -q backup web1 vda=disk.raw 2>refused.err
		refused "$kind, $how: backup" 'read-only'
		if [ $how = remount ]; then
			mount -o remount,rw small
		else
			umount view
			export LIVEPOINT_REPOSITORY=$tmp/small/$kind
		fi
	done
	lp -q backup web1 vda=disk.raw >/dev/null || fail "$kind: backup after read-only"
	rm -rf "${tmp:?}/small/$kind"
done
