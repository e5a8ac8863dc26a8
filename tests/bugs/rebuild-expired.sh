#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The catalog is lost in the middle of a prune, built again, a hold is set, and the catalog is lost again.  The first rebuild
# left expired points out of the new catalog, so the state object of the hold did not name them any more: the second one brought
# them back as complete.
. "$(dirname "$0")/../functions.sh"
requires jq --version

random_file a.raw 8M 1
random_file b.raw 4M 2
make_repo
lp -q backup web vda=a.raw >/dev/null
b=$(lp -q backup other vda=b.raw)
lp -q forget web@latest >/dev/null
code=0
LIVEPOINT_FAULT=repo.gc.again:1:kill lp -q prune 2>/dev/null || code=$?
[ $code = 137 ] || fail "the prune was not killed: $code"
for i in 1 2; do
	rm -f "$LIVEPOINT_REPOSITORY"/catalog.sqlite*
	lp -q repair --catalog >repair.txt || fail "$(cat repair.txt)"
	[ "$(lp --json list | jq -c 'map(.name)')" = '["other"]' ] || fail "rebuild $i: $(lp list)"
	[ "$(lp --json list --forgotten | jq length)" = 0 ] || fail "rebuild $i: $(lp list --forgotten)"
	lp -q protect "$b" --reason "round $i"
done
lp -q repair --accept >/dev/null
lp --json prune >prune.json
jq -e '.points == 1 and .bytes_freed > 8000000' prune.json >/dev/null || fail "$(cat prune.json)"
lp -q verify --data
[ -z "$(lp -q verify --leftovers)" ] || fail "leftovers: $(lp -q verify --leftovers)"
