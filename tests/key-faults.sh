#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Changes of keys killed, or failed, at the first hit of each of their fault points: whatever was left, every passphrase that
# opened before or opens after does, old and new packs are read, and the next command that writes leaves nothing behind.
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"
requires_faults
requires jq --version
requires test -x "$abs_top_builddir/tests/xxh3"

for n in one two three recovered; do echo "passphrase $n" >$n; done
random_file old.raw 64K 1
random_file new.raw 64K 2
make_repo made --encrypt --passphrase-file one
# a hundred times a second of scrypt tests nothing
grep -v '^check' made/livepoint.conf | sed 's/^kdf-n = .*/kdf-n = 16/' >conf
echo "check = $("$abs_top_builddir/tests/xxh3" <conf)" >>conf
cp conf made/livepoint.conf
lp -q key change --new-passphrase-file one --passphrase-file one
lp -q key add --label second --new-passphrase-file two --passphrase-file one
lp -q backup web1 vda=old.raw --time 2026-01-01T00:00:00Z --passphrase-file one >/dev/null
export LIVEPOINT_REPOSITORY=$tmp/repo
passed=0

# tries OPENS STILL COMMAND...: the passphrases OPENS open whatever happens, those of STILL before or after.
tries() {
	local opens=$1 still=$2 name action got before after now p
	shift 2
	rm -rf repo cache && cp -a made repo
	before=$(lp --json key list | jq -c 'map([.label, .epochs])')
	rm -f hits
	LIVEPOINT_FAULT_LOG=$tmp/hits lp -q "$@" >/dev/null || fail "$*"
	after=$(lp --json key list | jq -c 'map([.label, .epochs])')
	sort -u hits >names
	for name in repo.key.a.rename repo.key.b.rename repo.key.wipe; do
		grep -q "^$name" names || fail "$*: no fault point $name"
	done
	while read -r name; do
		for action in kill eio; do
			rm -rf repo cache && cp -a made repo
			LIVEPOINT_FAULT=$name:1:$action lp -q "$@" >/dev/null 2>error && got=0 || got=$?
			# a failed step may be passed over (overwriting of what is gone)
			[ $got -eq 137 ] || { [ $action = eio ] && [ $got -le 1 ]; } ||
				fail "$*: $name: exit $got after $action: $(cat error)"
			now=$(lp --json key list 2>/dev/null | jq -c 'map([.label, .epochs])')
			[ "$now" = "$before" ] || [ "$now" = "$after" ] || fail "$*: $name $action: neither before nor after: $now"
			[ $got -ne 0 ] || [ "$now" = "$after" ] || fail "$*: $name $action: success, and nothing was done"
			for p in $still; do
				lp -q verify --passphrase-file "$p" >/dev/null 2>&1 && break
				[ "$p" != "${still##* }" ] || fail "$*: $name $action: neither of $still opens"
			done
			p=${opens%% *}
			lp -q backup web1 vda=new.raw --time 2026-01-02T00:00:00Z --passphrase-file "$p" >/dev/null 2>error ||
				fail "$*: $name $action: the next backup: $(cat error)"
			for p in $opens; do
				lp -q verify --data --passphrase-file "$p" >/dev/null || fail "$*: $name $action: $p does not open"
			done
			cmp repo/keys/ring-[ab].key || fail "$*: $name $action: the copies differ"
			lp verify --leftovers >left 2>&1 || fail "$*: $name $action: left $(cat left)"
			lp -q log --verify --passphrase-file "$p" || fail "$*: $name $action: log"
			passed=$((passed + 1))
		done
	done <names
}
tries "two one" "" key rotate --passphrase-file one
tries "one two" "" key add --label third --new-passphrase-file three --passphrase-file one
tries "one" "one" key remove --label second --passphrase-file one
tries "one" "two three" key change --label second --new-passphrase-file three --passphrase-file one
echo "key-faults: $passed passed"
[ "$passed" -ge 80 ] || fail "only $passed places"
