#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A full disk: the first pack that a prune rewrites has no room for its copy.  The prune ended there, before it came to packs that
# only had to be removed and would have made that room.
. "$(dirname "$0")/../functions.sh"
requires jq --version

random_file a.raw 4M 1
{
	random_bytes 2M 2
	tail -c 2M a.raw
} >b.raw
random_file c.raw 4M 3
make_repo
# map packs are rewritten before data packs are removed: one with two manifests, of which one goes
a=$(lp -q backup web vda=a.raw)
b=$(lp -q backup web vda=b.raw)
c=$(lp -q backup third vda=c.raw)
lp -q forget "$a" "$c" >/dev/null
cp -a "$LIVEPOINT_REPOSITORY" was

# no room the first time only: it is tried again once others made some
LIVEPOINT_FAULT=store.rewrite.write:1:enospc lp --json prune --min-unused 0 >prune.json || fail "$(cat prune.json)"
jq -e '.packs_rewritten >= 1 and .packs_removed >= 2 and .bytes_freed > 6000000' prune.json >/dev/null || fail "$(cat prune.json)"
lp -q verify --data

# never any room: what needs none goes, and the error is said
export LIVEPOINT_REPOSITORY=$tmp/was
code=0
LIVEPOINT_FAULT=store.rewrite.write:1+:enospc lp -q prune --min-unused 0 2>prune.err || code=$?
[ $code = 1 ] || fail "exit $code: $(cat prune.err)"
grep -q 'no space\|No space' prune.err || fail "not said: $(cat prune.err)"
[ "$(du -s --block-size=1M "$tmp/was/packs" | cut -f1)" -le 9 ] || fail "nothing was removed: $(du -s "$tmp/was/packs")"
[ -z "$(lp -q verify --leftovers)" ] || fail "leftovers: $(lp -q verify --leftovers)"
lp -q restore "$b" out.raw
cmp out.raw b.raw
lp -q prune --min-unused 0
lp -q verify --data
