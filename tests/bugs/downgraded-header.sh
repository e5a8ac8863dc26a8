#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Somebody makes the header of an encrypted repository say that it is plain, and empties keys/: no backup stores plaintext
# into it, whatever its name, and what is there is not called fine.
. "$(dirname "$0")/../functions.sh"
requires test -x "$abs_top_builddir/tests/xxh3"

echo secret >pw
make_repo "$tmp/repo" --encrypt --passphrase-file pw
for i in $(seq 3000); do echo "MARKER of plaintext $i"; done >text
cp text disk.raw
truncate -s 1M disk.raw
lp -q --passphrase-file pw backup web1 vda=disk.raw >/dev/null
cp -r repo hurt
rm hurt/keys/*.key
grep -vE '^(check|kdf)' repo/livepoint.conf | sed 's/^suite = .*/suite = 0/' >hurt/livepoint.conf
echo "check = $("$abs_top_builddir/tests/xxh3" <hurt/livepoint.conf)" >>hurt/livepoint.conf
lp -q -r hurt list >/dev/null || fail "the forged header is not taken for one: it was no test"

sed 's/MARKER/SECRET/' disk.raw >new.raw
for arguments in "other new.raw" "web1 vda=new.raw" "web1 --full vda=new.raw" "web1 --dry-run vda=new.raw"; do
	status=0
	# shellcheck disable=SC2086 # words
	lp -q -r hurt backup --compression none $arguments >/dev/null 2>words || status=$?
	[ $status -eq 4 ] || { cat words >&2; fail "exit $status, not 4: backup $arguments"; }
	grep -q 'livepoint.conf' words || { cat words >&2; fail "the header is not named: $arguments"; }
	if grep -rqa SECRET hurt; then fail "plaintext in the repository: $arguments"; fi
done
# the newest packs unreadable: an older one tells
for i in 1 2; do
	random_file more.raw 1M $i
	lp -q --passphrase-file pw backup "more$i" more.raw >/dev/null
done
rm -r hurt/packs hurt/catalog.sqlite*
cp -r repo/packs repo/catalog.sqlite* hurt/
newest=$(find hurt/packs -name '*.pack' -printf '%f %p\n' | sort | tail -n 1)
truncate -s -8 "${newest#* }"
expect_exit 4 lp -q -r hurt backup other new.raw 2>/dev/null
if grep -rqa SECRET hurt; then fail "plaintext in the repository"; fi

for command in "restore web1 out.raw" "verify --data"; do
	status=0
	# shellcheck disable=SC2086 # words
	lp -q -r hurt $command >/dev/null 2>&1 || status=$?
	[ $status -eq 4 ] || [ $status -eq 12 ] || fail "exit $status, neither damage nor key: $command"
done
# the true one is as it was
lp -q --passphrase-file pw backup web1 vda=new.raw >/dev/null
lp -q --passphrase-file pw restore web1/vda out.raw
cmp new.raw out.raw
