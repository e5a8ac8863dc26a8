#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Rotation: new packs under a new epoch, old ones readable by every passphrase; who was removed does not get the new key, nor
# does an old copy of the key files; an export and a plugin that began before; repositories with key files of version 1.
. "$(dirname "$0")/functions.sh"
requires jq --version
requires nbdcopy --version
requires xz --version

export LIVEPOINT_RUN_DIR=$tmp/run
cleanup_fn lp -q unexport --all --force
for n in one two three; do echo "passphrase $n" >$n; done
random_file old.raw 256K 1
random_file new.raw 256K 2
make_repo "$tmp/repo" --encrypt --passphrase-file one
lp -q key add --label second --new-passphrase-file two --passphrase-file one
lp -q key export-recovery --passphrase-file one >recovery
lp -q backup web1 vda=old.raw --time 2026-01-01T00:00:00Z --passphrase-file one >/dev/null
epochs() { # of the packs, by number
	local pack
	for pack in "$LIVEPOINT_REPOSITORY"/packs/*/*.pack; do
		lp debug dump "$pack" | sed -nE 's/^header .* epoch ([0-9]+).*/\1/p'
	done | sort | uniq -c | awk '{ print $2 }' | xargs
}
reads() { # reads PASSPHRASE POINT FILE
	rm -f out.raw
	lp -q restore "$2" out.raw --passphrase-file "$1" && cmp "$3" out.raw || fail "$1 does not read $2"
}
[ "$(epochs)" = 1 ] || fail "epochs before: $(epochs)"

# --- a server that was started before ---
lp --json export web1@2026-01-01 --passphrase-file one >export.json
pid=$(jq -r .pid export.json)
start_plugin passphrase-file="$tmp/one"

lp --json key rotate --passphrase-file one >rotated.json
[ "$(jq -c . rotated.json)" = '{"epoch":2}' ] || fail "$(cat rotated.json)"
[ "$(lp --json key list | jq -c 'map(.epochs)')" = '[2,2,2]' ] || fail "$(lp --json key list)"
lp -q backup web1 vda=new.raw --time 2026-01-02T00:00:00Z --passphrase-file two >/dev/null
[ "$(epochs)" = "1 2" ] || fail "epochs after: $(epochs)"
for p in one two recovery; do
	reads $p web1@2026-01-01 old.raw
	reads $p web1@2026-01-02 new.raw
	lp -q verify --data --passphrase-file $p >/dev/null || fail "verify --data with $p"
done
# unchanged data is found again in packs of the older epoch
lp --json backup web1 vda=old.raw --time 2026-01-03T00:00:00Z --passphrase-file recovery >backup.json
jq -se 'map(select(.type == "summary"))[0].stored < 20000' backup.json >/dev/null || fail "old chunks were stored again"

nbdcopy "$(jq -r .uri export.json)" copy.raw && cmp old.raw copy.raw || fail "an old point by an old export"
nbdcopy "nbd+unix:///web1@2026-01-01T00:00:00Z/vda?socket=$plugin_sock" copy.raw && cmp old.raw copy.raw ||
	fail "an old point by an old server"
nbdcopy "nbd+unix:///web1@2026-01-02T00:00:00Z/vda?socket=$plugin_sock" copy.raw 2>/dev/null &&
	fail "a new point by an old server"
grep -qE 'key epoch 2, which is newer .* start it again' plugin.log ||
	fail "no word about the epoch: $(cat plugin.log)"
# one that comes back after a kill has the keys that its supervisor has
kill -9 "$pid"
nbdcopy "$(jq -r .uri export.json)" copy.raw 2>/dev/null || { sleep 1; nbdcopy "$(jq -r .uri export.json)" copy.raw; }
cmp old.raw copy.raw || fail "after the restart"
lp -q unexport --all
# a new one has all keys: two of them, by the pipe
lp --json export web1@2026-01-02 --passphrase-file two >export.json
nbdcopy "$(jq -r .uri export.json)" copy.raw && cmp new.raw copy.raw || fail "a new point by a new export"
kill -9 "$(jq -r .pid export.json)"
nbdcopy "$(jq -r .uri export.json)" copy.raw 2>/dev/null || { sleep 1; nbdcopy "$(jq -r .uri export.json)" copy.raw; }
cmp new.raw copy.raw || fail "a new point after the restart"
lp -q unexport --all
stop_plugin plugin

# --- removed, then rotated ---
cp -a "$LIVEPOINT_REPOSITORY/keys" keys.old
lp -q key remove --label second --passphrase-file one
lp -q key rotate --passphrase-file one
random_file newer.raw 256K 3
lp -q backup web1 vda=newer.raw --time 2026-01-04T00:00:00Z --passphrase-file one >/dev/null
expect_exit 12 lp -q verify --passphrase-file two 2>/dev/null
for p in one recovery; do
	reads $p web1@2026-01-01 old.raw
	reads $p web1@2026-01-04 newer.raw
done
# an old file put back, in each place: it does not get the new key, and nobody is led astray
for place in ring-a ring-b stray; do
	rm -rf copy cache && cp -a "$LIVEPOINT_REPOSITORY" copy
	cp keys.old/ring-a.key copy/keys/$place.key
	expect_exit 12 lp -q -r copy verify --passphrase-file two 2>/dev/null
	lp -q -r copy backup web1 vda=newer.raw --passphrase-file one >/dev/null 2>&1 || fail "$place: backup"
	expect_exit 12 lp -q -r copy verify --passphrase-file two 2>/dev/null
	[ "$(lp --json -r copy key list | jq -c 'map(.label)')" = '["first","recovery"]' ] || fail "$place: list"
	lp -q -r copy key rotate --passphrase-file one 2>/dev/null || fail "$place: rotate"
	expect_exit 12 lp -q -r copy verify --passphrase-file two 2>/dev/null
	[ $place = stray ] || cmp copy/keys/ring-[ab].key || fail "$place: not mended"
done
# all of the old files: older points and no newer one
rm -rf copy cache && cp -a "$LIVEPOINT_REPOSITORY" copy
rm copy/keys/* && cp keys.old/* copy/keys/
lp -q -r copy restore web1@2026-01-01 out2.raw --passphrase-file two 2>/dev/null || fail "the old keys do not read old points"
expect_exit 12 lp -q -r copy restore web1@2026-01-04 out3.raw --passphrase-file two 2>error
grep -q 'key epoch 3' error || fail "$(cat error)"
[ ! -s out3.raw ] || fail "bytes without a key"

# --- key files of version 1 ---
mkdir g && xz -dc "$abs_top_srcdir/tests/golden/format-1-encrypted.tar.xz" | tar -C g -x --no-same-owner
sed -n 's/^Passphrase: //p' g/README >golden
rm -rf cache
export LIVEPOINT_REPOSITORY=$tmp/g/repo
[ "$(lp --json key list --passphrase-file golden | jq -c 'map([.label, .version, .opened, .epochs])')" = \
	'[["first",1,true,1]]' ] || fail "list: $(lp --json key list)"
v1=$(basename "$LIVEPOINT_REPOSITORY"/keys/*.key)
cp "$LIVEPOINT_REPOSITORY/keys/$v1" v1.key
point=$(lp --json list | jq -r '.[0].point')
lp -q restore "$point" want.raw --passphrase-file golden || lp -q restore "$point" want --passphrase-file golden
# a copy for later, with the file of version 1 alone
rm -rf two.repo && cp -a "$LIVEPOINT_REPOSITORY" two.repo
lp -q key add --label second --new-passphrase-file two --passphrase-file golden
[ "$(lp --json key list | jq -c 'map([.label, .version])')" = '[["first",2],["second",2]]' ] || fail "the one that was used did not move"
[ "$(cd "$LIVEPOINT_REPOSITORY/keys" && echo *)" = "ring-a.key ring-b.key" ] || fail "files: $(ls "$LIVEPOINT_REPOSITORY/keys")"
lp -q verify --passphrase-file golden >/dev/null
# its old file beside the ring, as a crash leaves it: used by nobody, removed by the next command that writes
cp v1.key "$LIVEPOINT_REPOSITORY/keys/$v1"
lp verify --leftovers >left 2>&1 || true
grep -q "keys/$v1: a key file whose slot is in the key ring" left || fail "$(cat left)"
lp -q protect "$point" --passphrase-file two
[ ! -e "$LIVEPOINT_REPOSITORY/keys/$v1" ] || fail "it stays"
# after its passphrase has changed it opens no more, but it is a key of its own again, and keeps rotation from happening
lp -q key change --label first --new-passphrase-file three --passphrase-file two
cp v1.key "$LIVEPOINT_REPOSITORY/keys/$v1"
expect_exit 1 lp -q key rotate --passphrase-file two 2>error
grep -q "the key '${v1%.key}' is a file of version 1" error || fail "$(cat error)"
cp -a "$LIVEPOINT_REPOSITORY" upgrade.repo
lp -q key remove --label "${v1%.key}" --passphrase-file two
lp -q key rotate --passphrase-file two
for p in two three; do lp -q verify --data --passphrase-file $p >/dev/null || fail "verify with $p"; done
# beside several epochs it is used by nobody
cp v1.key "$LIVEPOINT_REPOSITORY/keys/$v1"
expect_exit 12 lp -q verify --passphrase-file golden 2>/dev/null
lp verify --leftovers >left 2>&1 || true
grep -q "keys/$v1: a key file of version 1" left || fail "$(cat left)"
lp -q key rotate --passphrase-file two || fail "an unused file stops rotation"
# upgraded instead of removed
rm -rf cache
lp -q -r upgrade.repo key change --label "${v1%.key}" --new-passphrase-file one --passphrase-file two
lp -q -r upgrade.repo key rotate --passphrase-file one
for p in one two three; do lp -q -r upgrade.repo verify --passphrase-file $p >/dev/null || fail "upgraded: $p"; done
# rotation of one that has only a file of version 1
rm -rf cache
lp -q -r two.repo key rotate --passphrase-file golden
lp -q -r two.repo verify --data --passphrase-file golden >/dev/null
[ "$(cd two.repo/keys && echo *)" = "ring-a.key ring-b.key" ] || fail "files: $(ls two.repo/keys)"
