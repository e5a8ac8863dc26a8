#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Notes of damaged slots: an error of the catalog makes none, and a clean verify --data takes back every one, not only
# those of a pack's first slots.
. "$(dirname "$0")/../functions.sh"
requires jq --version

# damaged POINT: what list says.
damaged() {
	lp --json list | jq -r '.[0].damaged'
}

make_repo
random_file disk.raw 8M 1
lp -q backup a disk.raw

# an error of this machine says nothing about the point
expect_exit 1 env LIVEPOINT_FAULT=catalog.pin.before:1+:eio "$LIVEPOINT_BIN" verify
[ "$(damaged)" = false ] || fail "a catalog that could not be written made a good point damaged"

# a chunk in the middle of the pack goes bad, and comes back
pack=$LIVEPOINT_REPOSITORY/packs/01/000000000001.pack
cp "$pack" pack.good
printf 'XXXX' | dd of="$pack" bs=1 seek=4000000 conv=notrunc status=none
expect_exit 4 lp -q verify --data
[ "$(damaged)" = true ] || fail "damage was not noted"
cp pack.good "$pack"
lp -q verify --data
[ "$(damaged)" = false ] || fail "the note of the point was not taken back"
# a slot that were still noted would be stored again
lp --json backup a disk.raw >again.json
[ "$(jq -r 'select(.type == "summary").chunks_new' again.json)" = 0 ] || fail "the note of the slot was not taken back"
