#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Several passphrases and a recovery key for one repository: each opens it, a removed one does not; labels, bounds, the last
# key; what is typed wrong; two copies of the key ring, of which one may be damaged, lost or old; the audit log.
. "$(dirname "$0")/functions.sh"
requires jq --version

random_file a.raw 256K 1
for n in one two three four new; do echo "passphrase $n" >$n; done
make_repo "$tmp/repo" --encrypt --passphrase-file one
lp -q backup web1 vda=a.raw --passphrase-file one >/dev/null

opens() { rm -f out.raw && lp -q restore web1 out.raw --passphrase-file "$1" && cmp a.raw out.raw || fail "$1 does not open: $2"; }
refused() { expect_exit 12 lp -q restore web1 no.raw --passphrase-file "$1" 2>error || fail "$1 opens: $2"; }
labels() { lp --json key list | jq -r 'map(.label) | join(" ")'; }
keys_sum() { (cd "$LIVEPOINT_REPOSITORY" && find . -type f -not -name '*-shm' -not -name '*-wal' -print0 | sort -z | xargs -0 sha256sum | sha256sum); }

# --- passphrases ---
lp -q key add --label second --new-passphrase-file two --passphrase-file one
lp -q key add --label 'dritte, Lösung' --new-passphrase-fd 9 --passphrase-file two 9<three
[ "$(labels)" = "first second dritte, Lösung" ] || fail "labels: $(labels)"
for p in one two three; do opens $p "after add"; done
lp --json key list --passphrase-file two >list.json
jq -e 'length == 3 and (map(.opened) == [false, true, false]) and
	all(.kind == "passphrase" and .epochs == 1 and .version == 2 and (.created | test("Z$")) and .file == "ring-a.key")' \
	list.json >/dev/null || fail "key list: $(cat list.json)"
cmp "$LIVEPOINT_REPOSITORY"/keys/ring-[ab].key || fail "the copies differ"

# --- nothing is touched by what is refused ---
before=$(keys_sum)
expect_exit 12 lp -q key add --label x --new-passphrase-file two --passphrase-file new 2>/dev/null
expect_exit 12 lp -q key rotate --passphrase-file new 2>/dev/null
expect_exit 12 lp -q key add --label x --passphrase-file one </dev/null 2>error
grep -q 'no new passphrase was given' error || fail "no word about the new passphrase: $(cat error)"
: >empty
expect_exit 12 lp -q key add --label x --new-passphrase-file empty --passphrase-file one 2>/dev/null
expect_exit 1 lp -q key add --label second --new-passphrase-file new --passphrase-file one 2>error
grep -q "label 'second' already" error || fail "$(cat error)"
expect_exit 2 lp -q key add --new-passphrase-file new --passphrase-file one 2>/dev/null
expect_exit 2 lp -q key add --label $'a\nb' --new-passphrase-file new --passphrase-file one 2>/dev/null
expect_exit 13 lp -q key remove --label none --passphrase-file one 2>/dev/null
expect_exit 13 lp -q key change --label none --new-passphrase-file new --passphrase-file one 2>/dev/null
[ "$(keys_sum)" = "$before" ] || fail "something was written by what was refused"
exec 8<>"$LIVEPOINT_REPOSITORY/livepoint.conf"
flock 8
expect_exit 11 lp -q key remove --label second --passphrase-file one 2>/dev/null
exec 8>&-

# --- change, remove ---
cp -a "$LIVEPOINT_REPOSITORY/keys" keys.old
lp -q key change --new-passphrase-file four --passphrase-file two
refused two "after change"
opens four "after change"
lp -q key change --label first --new-passphrase-command "cat $tmp/new" --passphrase-file three
refused one "after its change by another"
opens new "after its change by another"
[ "$(labels)" = "first second dritte, Lösung" ] || fail "labels after change: $(labels)"
# removing the one that is used
lp --json key remove --label second --passphrase-file four >removed.json
jq -e '.label == "second"' removed.json >/dev/null || fail "$(cat removed.json)"
refused four "after remove"
lp -q key remove --label 'dritte, Lösung' --passphrase-file new
expect_exit 1 lp -q key remove --label first --passphrase-file new 2>error
grep -q "the last key" error || fail "$(cat error)"
opens new "the last one"
grep -qa 'second' "$LIVEPOINT_REPOSITORY"/keys/* && fail "the removed slot is still there"

# --- copies: the newer one counts, however a damaged, a lost and an older one came about ---
for state in lost damaged cut old foreign; do
	for copy in a b; do
		rm -rf copy cache && cp -a "$LIVEPOINT_REPOSITORY" copy
		file=copy/keys/ring-$copy.key
		case $state in
		lost) rm $file ;;
		damaged) printf X | dd of=$file bs=1 seek=77 conv=notrunc status=none ;;
		cut) truncate -s 100 $file ;;
		old) cp keys.old/ring-$copy.key $file ;;
		foreign) lp -q -r "other-$copy" init --encrypt --passphrase-file new && cp other-$copy/keys/ring-a.key $file ;;
		esac
		lp -q -r copy verify --passphrase-file new >/dev/null 2>error || fail "$state $copy: $(cat error)"
		expect_exit 12 lp -q -r copy verify --passphrase-file one 2>/dev/null
		expect_exit 12 lp -q -r copy verify --passphrase-file two 2>/dev/null
		# a command that writes makes them equal
		lp -q -r copy protect web1@latest --passphrase-file new 2>/dev/null || fail "$state $copy: protect"
		cmp copy/keys/ring-[ab].key || fail "$state $copy: not mended"
		lp -r copy verify --leftovers >left 2>&1 || fail "$state $copy: $(cat left)"
	done
done
rm -rf copy cache && cp -a "$LIVEPOINT_REPOSITORY" copy
cp keys.old/ring-a.key copy/keys/stray.key
lp -r copy verify --leftovers >left 2>&1 || true
grep -q 'keys/stray.key' left || fail "a stray ring is no leftover: $(cat left)"
expect_exit 12 lp -q -r copy verify --passphrase-file one 2>/dev/null
rm copy/keys/*
expect_exit 12 lp -q -r copy verify --passphrase-file new 2>error
grep -q 'no usable file in keys/' error || fail "$(cat error)"

# --- recovery key ---
lp -q key export-recovery --passphrase-file new >recovery 2>notes
[[ $(cat recovery) =~ ^([A-Z2-7]{4}-){8}[A-Z2-7]{4}$ ]] || fail "the recovery key is $(cat recovery)"
[ "$(wc -l <recovery)" -eq 1 ] || fail "more than the recovery key on standard output"
[ "$(lp --json key list | jq -r '.[1] | "\(.label) \(.kind)"')" = "recovery recovery" ] || fail "list with a recovery key"
expect_exit 1 lp -q key export-recovery --passphrase-file new 2>/dev/null
opens recovery "as printed"
tr 'A-Z-' 'a-z ' <recovery | tr 'oib' '018' >typed
opens typed "as typed"
tr -d '\n-' <recovery >typed
opens typed "without hyphens"
# a typing error is told from a wrong passphrase
sed 's/^A/C/; t; s/^./A/' recovery >typed
refused typed "with a wrong letter"
grep -q 'typing error' error || fail "$(cat error)"
refused two "two"
grep -q 'typing error' error && fail "a typing error in a passphrase: $(cat error)"
expect_exit 12 lp -q key import-recovery --label x --new-passphrase-file two <typed 2>error
grep -q 'typing error' error || fail "$(cat error)"
expect_exit 12 lp -q key import-recovery --label x --new-passphrase-file two --recovery-file new 2>error
grep -q 'no recovery key' error || fail "$(cat error)"
lp -q key import-recovery --label lost --new-passphrase-file two <recovery
opens two "imported"
tr -d '-' <recovery >typed
lp -q key import-recovery --label again --new-passphrase-file three --recovery-file typed
opens three "imported by a file"
expect_exit 1 lp -q key change --label recovery --new-passphrase-file one --passphrase-file two 2>error
grep -q 'is a recovery key' error || fail "$(cat error)"
lp -q key remove --label recovery --passphrase-file two
refused recovery "removed"
lp --json key export-recovery --label paper --passphrase-file two >recovery.json
jq -r .recovery_key recovery.json >recovery
opens recovery "of --json"

# --- eight, and no more; a wrong passphrase then in good time (said, not asserted: the machine may be busy) ---
for n in 5 6 7 8; do lp -q key add --label "key $n" --new-passphrase-file four --passphrase-file two; done
before=$(keys_sum)
expect_exit 1 lp -q key add --label nine --new-passphrase-file four --passphrase-file two 2>error
grep -q 'at most 8 keys' error || fail "$(cat error)"
begin=$EPOCHREALTIME
refused one "with eight keys"
end=$EPOCHREALTIME
echo "key-slots: a wrong passphrase with 8 keys: $(((${end/./} - ${begin/./}) / 1000)) ms"
[ "$(keys_sum)" = "$before" ] || fail "a wrong passphrase touched something"
opens four "one of several slots"

# --- the log, secrets, a repository without keys ---
lp --json log >log.json
[ "$(jq -r '[.[].command | select(startswith("key"))] | join(",")' log.json)" = \
	"key add,key add,key change,key change,key remove,key remove,key export-recovery,key add,key add,key remove,key export-recovery,key add,key add,key add,key add" ] ||
	fail "log: $(jq -c '[.[].command]' log.json)"
jq -e '.[2] | .subject == "second" and .detail == {"slots": 2, "epochs": 1}' log.json >/dev/null || fail "entry of key add"
lp -q log --verify --passphrase-file two
grep -raq -e "passphrase t" -e "$(cut -c 1-9 recovery)" "$LIVEPOINT_REPOSITORY" && fail "a secret is in the repository"
lp -q verify --leftovers >left 2>&1 || fail "$(cat left)"
make_repo "$tmp/plain"
[ "$(lp --json key list)" = "[]" ] || fail "keys of a plain repository"
expect_exit 1 lp -q key add --label x --new-passphrase-file two 2>error
grep -q 'not encrypted' error || fail "$(cat error)"
