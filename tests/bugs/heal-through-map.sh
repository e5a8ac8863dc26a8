#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A change map says nothing about chunks that are known to be damaged: the next backup reads and stores them again.
. "$(dirname "$0")/../functions.sh"
requires jq --version

make_repo
random_file disk.raw 8M 1
lp -q backup a disk.raw
pack=$LIVEPOINT_REPOSITORY/packs/01/000000000001.pack
printf 'XXXX' | dd of="$pack" bs=1 seek=4000000 conv=notrunc status=none
expect_exit 4 lp -q verify --data
echo '[]' >nothing.json
lp --json backup a disk.raw --changed vda=nothing.json --sample 0 >second.json
[ "$(jq -r 'select(.type == "summary").chunks_new' second.json)" = 1 ] || fail "the damaged chunk was not stored again"
lp -q restore a out.raw
cmp disk.raw out.raw
lp -q verify a --data || fail "the new point is not whole"
# the damage of the first point is still there, and said
expect_exit 4 lp -q verify "$(lp --json list a | jq -r '.[0].point')" --data
