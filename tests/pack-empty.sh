#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Packs of size 0, as others had them after power cuts and disk faults (proxmox-backup, kopia): found by verify without --data, never
# read as good, no reason for prune to stop or to take the file away, healed by the next backup and a repair.
. "$(dirname "$0")/functions.sh"

random_file a.raw 4M 1
random_file b.raw 4M 2
make_repo
a=$(lp -q backup web vda=a.raw)
b=$(lp -q backup two vda=b.raw)
pack=$(find "$LIVEPOINT_REPOSITORY/packs" -name '*.pack' -size +1M | sort | tail -n 1)
: >"$pack"
number=$(basename "$pack" .pack)
expect_exit 4 lp -q verify >verify.txt
grep -q "$number" verify.txt || fail "pack $number is not named: $(cat verify.txt)"
expect_exit 4 lp -q restore "$b" out.raw
lp -q restore "$a" out.raw --overwrite
cmp out.raw a.raw
lp -q forget "$a" >/dev/null
lp -q prune
[ -f "$pack" ] || fail "prune took the empty pack away, which a point needs"
[ "$(find "$LIVEPOINT_REPOSITORY/packs" -name '*.pack' -size +1M | wc -l)" = 0 ] || fail "prune has freed nothing"
expect_exit 4 lp -q repair >repair.txt
lp -q backup two vda=b.raw >/dev/null
lp -q repair >repair.txt || fail "$(cat repair.txt)"
lp -q verify --data
lp -q restore "$b" out.raw --overwrite
cmp out.raw b.raw || fail "healed to something else"
