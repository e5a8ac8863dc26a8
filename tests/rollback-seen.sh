#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A whole repository put back from an older copy: commands warn, also with -q and --json, and work all the same, until it
# has overtaken what was seen or the remembered number is removed; a cache that cannot be used is no error.
. "$(dirname "$0")/functions.sh"
requires jq --version

warning="an older copy was put back"
random_file a.raw 64K 1
make_repo "$tmp/repo"
lp -q backup web1 a.raw --time 2026-01-01T00:00:00Z >/dev/null
cp -a repo old
lp -q backup web1 a.raw --time 2026-01-02T00:00:00Z 2>error >/dev/null
lp list 2>>error >/dev/null
lp -q verify 2>>error >/dev/null
[ ! -s error ] || fail "warned without a reason: $(cat error)"
seen=$(echo "$LIVEPOINT_CACHE_DIR"/seen/*)
[ -f "$seen" ] && [ "$(stat -c %a "$seen" "$LIVEPOINT_CACHE_DIR/seen")" = $'600\n700' ] || fail "what is remembered: $seen"

rm -rf repo
mv old repo
lp list 2>error >out || fail "list"
grep -q "$warning" error || fail "no warning: $(cat error)"
grep -q "remove '$seen'" error || fail "the warning does not name the file: $(cat error)"
[ "$(grep -c web1 out)" = 1 ] || fail "list: $(cat out)"
lp -q list 2>error >/dev/null || fail "list -q"
grep -q "$warning" error || fail "no warning with -q"
[ "$(lp --json list 2>error | jq length)" = 1 ] || fail "list --json"
jq -e '.type == "warning"' error >/dev/null && grep -q "$warning" error || fail "warning as JSON: $(cat error)"
# another user, or a person who meant it
LIVEPOINT_CACHE_DIR=$tmp/other lp list 2>error >/dev/null
[ ! -s error ] || fail "warned without having seen it: $(cat error)"
# publishing overtakes: each backup raises the generation
for day in 3 4 5 6; do
	lp -q backup web1 a.raw --time "2026-01-0${day}T00:00:00Z" >/dev/null 2>error || fail "backup: $(cat error)"
done
[ ! -s error ] || fail "still warned: $(cat error)"
lp -q verify >/dev/null 2>&1 || fail "verify"

# --- caches that are none ---
echo 999999 >"$seen"
lp list 2>error >/dev/null && grep -q "$warning" error || fail "a higher number is not noticed"
echo nonsense >"$seen"
lp list 2>error >/dev/null && [ ! -s error ] || fail "a file that is no number: $(cat error)"
[ "$(cat "$seen")" -gt 0 ] || fail "the file was not mended"
: >"$seen"
lp list 2>error >/dev/null && [ ! -s error ] || fail "an empty file: $(cat error)"
for dir in /dev/null/x "$tmp/a.raw" /proc; do
	LIVEPOINT_CACHE_DIR=$dir lp list 2>error >/dev/null && [ ! -s error ] || fail "cache in $dir: $(cat error)"
done
unset LIVEPOINT_CACHE_DIR
XDG_CACHE_HOME=$tmp/xdg lp list >/dev/null && [ -f "$tmp/xdg/livepoint/seen/$(basename "$seen")" ] || fail "XDG_CACHE_HOME"
env -u XDG_CACHE_HOME HOME="$tmp/home" "$LIVEPOINT_BIN" list >/dev/null || fail "no home"
mkdir home
env -u XDG_CACHE_HOME HOME="$tmp/home" "$LIVEPOINT_BIN" list >/dev/null
[ -f "home/.cache/livepoint/seen/$(basename "$seen")" ] || fail "HOME"
env -u XDG_CACHE_HOME -u HOME "$LIVEPOINT_BIN" list >/dev/null || fail "neither"
