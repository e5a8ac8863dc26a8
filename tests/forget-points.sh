#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Single points: forget and its way back, grace, holds, all or nothing, what is refused; an encrypted repository without
# its key; a point that is served while it is forgotten.
. "$(dirname "$0")/functions.sh"
requires jq --version
requires nbdcopy --version

export LIVEPOINT_RUN_DIR=$tmp/run
cleanup_fn lp -q unexport --all --force

random_file one.raw 2M 1
random_file two.raw 2M 2
make_repo "$tmp/repo" --grace 7d
one=$(lp -q backup web1 one.raw)
two=$(lp -q backup web1 two.raw)
three=$(lp -q backup web1 one.raw)
id=$(lp --json show "$one" | jq -r .id)
count() { lp --json list | jq length; }

# --- forget, list --forgotten, unforget ---
lp -q forget "$one" --dry-run | grep -q "^$one .*forget" || fail "the dry run does not show the point"
[ "$(count)" = 3 ] || fail "a dry run forgot"
lp -q forget "$one" >/dev/null
[ "$(count)" = 2 ] || fail "the point is still listed"
expect_exit 13 lp show "$one" 2>/dev/null
expect_exit 13 lp show "$id" 2>/dev/null
expect_exit 13 lp restore "$one" out.raw 2>/dev/null
expect_exit 13 lp forget "$one" 2>/dev/null
expect_exit 13 lp protect "$one" 2>/dev/null
lp --json list --forgotten >forgotten.json
jq -e --arg p "$one" 'length == 1 and .[0].point == $p and
	((.[0].forgotten.until | fromdate) - (.[0].forgotten.time | fromdate)) == 7 * 86400' forgotten.json >/dev/null ||
	fail "list --forgotten: $(cat forgotten.json)"
lp list --forgotten | grep -q "^$one " || fail "list --forgotten as text"
[ "$(lp --json list --forgotten other 2>/dev/null || echo $?)" = 13 ] || fail "an unknown name in list --forgotten"
[ "$(lp --json list | jq 'all(.[]; .forgotten == null)')" = true ] || fail "a complete point says that it is forgotten"
[ "$(lp -q unforget "$one")" = "$one" ] || fail "unforget does not print the point"
[ "$(count)" = 3 ] || fail "unforget did not bring the point back"
[ "$(lp --json list --forgotten)" = "[]" ] || fail "the point is still forgotten"
lp -q restore "$one" out.raw && cmp one.raw out.raw || fail "the point that came back differs"
expect_exit 13 lp unforget "$one" 2>error
grep -q "is not forgotten" error || fail "unforget of a complete point: $(cat error)"
# by id, by its beginning; --grace counts more than the setting
lp -q --json forget "$id" --grace 1h >forget.json
jq -e --arg id "$id" '.grace == 3600 and .forgotten == 1 and .points[0].id == $id and .points[0].stays == false' forget.json \
	>/dev/null || fail "forget by id: $(cat forget.json)"
[ "$(lp --json list --forgotten | jq '(.[0].forgotten.until | fromdate) - (.[0].forgotten.time | fromdate)')" = 3600 ] ||
	fail "--grace was not used"
expect_exit 13 lp unforget "${id:0:3}" 2>/dev/null
[ "$(lp --json unforget "${id:0:12}" | jq -r .point)" = "$one" ] || fail "unforget by the beginning of an id"

# --- all or nothing; twice named is once ---
expect_exit 13 lp forget "$one" "web1@1999" 2>/dev/null
[ "$(count)" = 3 ] || fail "a part was forgotten"
[ "$(lp -q --json forget "$one" "$id" "$one" | jq .forgotten)" = 1 ] || fail "one point named three times"
lp -q unforget "$one" >/dev/null

# --- what a person could not have meant ---
expect_exit 2 lp forget web1 2>error
grep -q "web1@latest" error || fail "the error does not name the way: $(cat error)"
expect_exit 2 lp forget "$one/vda" 2>/dev/null
expect_exit 2 lp protect "$one/vda" 2>/dev/null
expect_exit 2 lp forget "$one" --local 2>/dev/null
[ "$(count)" = 3 ] || fail "a refused command forgot"
[ "$(lp -q --json forget web1@latest | jq -r '.points[0].point')" = "$three" ] || fail "web1@latest"
[ "$(lp --json show web1 | jq -r .point)" = "$two" ] || fail "latest is a forgotten point"

# --- holds ---
lp -q protect "$two" --reason 'keep: it is "the" one' --until 2030-01-31
lp --json show "$two" >show.json
jq -e '.hold == {"reason":"keep: it is \"the\" one","until":"2030-02-01T00:00:00Z"}' show.json >/dev/null ||
	fail "show of a held point: $(cat show.json)"
jq -e --arg p "$two" '[.[] | select(.hold != null).point] == [$p]' <(lp --json list) >/dev/null || fail "list of a held point"
lp show "$two" | grep -q '^Held: .*"the" one' || fail "show as text"
lp list | grep "^$two " | grep -qw held || fail "list as text"
expect_exit 1 lp forget "$two" 2>error
grep -q "is held until 2030-02-01T00:00:00Z: keep: it is" error || fail "the error does not say why: $(cat error)"
expect_exit 1 lp forget "$one" "$two" --dry-run 2>/dev/null
expect_exit 1 lp forget "$one" "$two" 2>/dev/null
[ "$(lp --json forget "$two" 2>&1 >/dev/null | jq -r .code)" = held ] || fail "the error's code"
[ "$(count)" = 2 ] || fail "a held point, or what was named with it, was forgotten"
[ "$(lp --json protect "$two" | jq -c .hold)" = '{"reason":null,"until":null}' ] || fail "a second hold replaces the first"
[ "$(lp --json unprotect "$two" | jq -c .hold)" = null ] || fail "unprotect"
expect_exit 13 lp unprotect "$two" 2>error
grep -q "is not held" error || fail "unprotect of what is not held: $(cat error)"
expect_exit 2 lp protect "$two" --until 2020-01-01 2>/dev/null
expect_exit 2 lp protect "$two" --until 2026-02-30 2>/dev/null
expect_exit 2 lp protect "$two" --until soon 2>/dev/null
expect_exit 2 lp protect "$two" --until 9000y 2>/dev/null
expect_exit 2 lp protect "$two" --reason $'two\nlines' 2>/dev/null
expect_exit 2 lp protect "$two" --reason "$(head -c 1025 /dev/zero | tr '\0' x)" 2>/dev/null
lp -q protect "$two" --reason "$(head -c 1024 /dev/zero | tr '\0' x)" --until 2s
expect_exit 1 lp forget "$two" 2>/dev/null
sleep 2.1
[ "$(lp --json show "$two" | jq -c .hold)" = null ] || fail "a hold that ended is shown"
lp -q forget "$two" >/dev/null || fail "a hold that ended still holds"
lp -q unforget "$two" >/dev/null

# --- forgotten while it is served: the export reads on ---
lp -q export "$two" >uri
lp -q forget "$two" --grace 0 >/dev/null
nbdcopy "$(cat uri)" out.raw && cmp two.raw out.raw || fail "the export of a forgotten point differs"
expect_exit 13 lp export "$two" 2>/dev/null
lp -q unexport --all
lp verify >/dev/null 2>&1 || fail "verify"
# both in one: the only point with two.raw goes, and its space with it
[ "$(lp --json list --forgotten | jq length)" = 2 ] || fail "two points are forgotten"
before=$(du -sb repo/packs | cut -f 1)
lp -q --json forget --keep-last 1 --grace 0 --prune >prune.json || fail "forget --prune"
head -n 1 prune.json | jq -e '.type == "forget" and .dry_run == false and .stay == 1' >/dev/null || fail "$(cat prune.json)"
tail -n 1 prune.json | jq -e '.type == "summary" and .points == 1 and .bytes_freed > 1900000' >/dev/null ||
	fail "$(cat prune.json)"
[ $((before - $(du -sb repo/packs | cut -f 1))) -gt 1900000 ] || fail "no space was freed"
# the one with a time of grace can still come back, with its data
lp -q unforget "$three" >/dev/null && lp -q restore "$three" out.raw --overwrite && cmp one.raw out.raw ||
	fail "the point with a time of grace"
expect_exit 13 lp unforget "$two" 2>/dev/null
lp verify --leftovers >left && [ ! -s left ] || fail "leftovers: $(cat left)"

# --- encrypted: without the key nothing changes, and lists and dry runs work ---
echo secret >pass
make_repo "$tmp/enc" --encrypt --passphrase-file pass
lp -q --passphrase-file pass backup web1 one.raw --time 2026-01-01T00:00:00Z >/dev/null
lp -q --passphrase-file pass backup web1 two.raw --time 2026-01-02T00:00:00Z >/dev/null
lp --passphrase-file pass -q protect web1@latest
for command in "forget web1@2026-01-01" "forget --keep-last 1" "protect web1@2026-01-01" "unprotect web1@latest" \
	"unforget web1@2026-01-01"; do
	# shellcheck disable=SC2086 # words
	expect_exit 12 lp $command </dev/null 2>/dev/null
done
expect_exit 12 lp log --verify </dev/null 2>/dev/null
[ "$(count)" = 2 ] || fail "changed without the key"
lp -q forget --keep-last 1 --dry-run | grep -q "web1@2026-01-01T00:00:00Z .*forget" || fail "dry run without the key"
lp --passphrase-file pass -q forget --keep-last 1 >/dev/null
[ "$(lp --json list --forgotten | jq -r '.[].point')" = web1@2026-01-01T00:00:00Z ] || fail "list --forgotten without the key"
lp --passphrase-file pass -q log --verify || fail "log --verify with the key"
