#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A repository on a full disk can be read: that may be what it is needed for.  A backup there fails, and leaves nothing.
. "$(dirname "$0")/../functions.sh"
requires test "$(id -u)" = 0
mkdir disk
requires mount -t tmpfs -o size=40M lp-full disk
cleanup_fn umount disk

make_repo "$tmp/disk/repo"
random_file disk.raw 8M 1
random_file other.raw 8M 2
lp -q backup a disk.raw
dd if=/dev/zero of=disk/fill bs=4k status=none 2>/dev/null && fail "the disk is not full"
lp --json list >list.json
[ "$(jq length list.json)" = 1 ] || fail "list on a full disk"
lp -q restore a out.raw 2>warnings
cmp disk.raw out.raw
[ "$(grep -c 'without a lease' warnings)" = 1 ] || fail "not said once: $(cat warnings)"
lp -q verify --data
expect_exit 1 lp -q backup b other.raw
rm disk/fill
lp verify --leftovers
lp -q backup b other.raw
lp -q verify --data
