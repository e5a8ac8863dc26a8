#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A point that is forgotten was "no restore point" to show, diff, restore and export, without a word about unforget; and
# the completion of unforget offered the points that are not forgotten.
. "$(dirname "$0")/../functions.sh"

random_file a.raw 64K 1
make_repo "$tmp/repo" --grace 7d
one=$(lp -q backup web1 a.raw --time 2026-01-01T00:00:00Z)
lp -q backup web1 a.raw --time 2026-01-02T00:00:00Z >/dev/null
lp -q backup old a.raw --time 2026-01-03T00:00:00Z >/dev/null
id=$(lp --json list web1 | sed -n 's/.*"id":"\([0-9a-f]*\)".*/\1/p' | head -n 1)
lp -q forget "$one" old@latest >/dev/null
for typed in "$one" "${one%T*}" "$id" "${id:0:12}"; do
	expect_exit 13 lp show "$typed" 2>error
	grep -q "'$one' is forgotten; 'livepoint unforget $one' takes it back" error || fail "$typed: $(cat error)"
done
for typed in old old@latest; do
	expect_exit 13 lp show "$typed" 2>error
	grep -q "'old@2026-01-03T00:00:00Z' is forgotten" error || fail "$typed: $(cat error)"
done
expect_exit 13 lp show web1@1999 2>error
grep -q "the newest of 'web1'" error || fail "a time that no point has: $(cat error)"
expect_exit 13 lp show web2 2>error
grep -q "near: web1" error || fail "near matches: $(cat error)"

# --- completion ---
livepoint() { lp "$@"; }
eval "$(lp completion bash)"
COMP_WORDS=(livepoint unforget '') COMP_CWORD=2
_livepoint
[[ " ${COMPREPLY[*]} " == *" $one "* ]] || fail "unforget is not completed with forgotten points: ${COMPREPLY[*]}"
[[ " ${COMPREPLY[*]} " != *"web1@2026-01-02"* ]] || fail "unforget is completed with a point that is not forgotten"
COMP_WORDS=(livepoint show '')
_livepoint
[[ " ${COMPREPLY[*]} " == *"web1@2026-01-02T00:00:00Z"* ]] || fail "show is not completed: ${COMPREPLY[*]}"
