#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The audit log: every changing command leaves its entry and no other does; each way of tampering with a row is found and
# the row named; a log that was cut below what the state object remembers is found; without the key no MAC can be forged.
. "$(dirname "$0")/functions.sh"
requires jq --version
requires sqlite3 --version

# tampered SQL ENTRY: after SQL on a copy of the repository, log --verify fails and names the entry.
tampered() {
	rm -rf copy && cp -a "$LIVEPOINT_REPOSITORY" copy
	sqlite3 copy/catalog.sqlite "$1" || fail "sqlite3: $1"
	lp -q -r copy log --verify "${key[@]}" 2>error && fail "not found: $1"
	expect_exit 4 lp -q -r copy log --verify "${key[@]}" 2>error
	grep -q "$2" error || fail "after '$1' the error is not '$2': $(cat error)"
}

random_file a.raw 64K 1
echo secret >pass
for kind in plain encrypted; do
	key=()
	[ $kind = plain ] || key=(--passphrase-file pass)
	if [ $kind = plain ]; then make_repo "$tmp/$kind"; else make_repo "$tmp/$kind" --encrypt "${key[@]}"; fi
	point=$(lp -q backup web1 a.raw --time 2026-01-01T00:00:00Z "${key[@]}")
	lp -q backup web1 a.raw --time 2026-01-02T00:00:00Z "${key[@]}" >/dev/null
	lp -q protect "$point" --reason 'said "no"' --until 2030-01-01T00:00:00Z "${key[@]}"
	lp -q forget web1@latest "${key[@]}" >/dev/null
	lp -q unforget web1@2026-01-02 "${key[@]}" >/dev/null
	lp -q unprotect "$point" "${key[@]}"
	lp -q forget --keep-last 1 "${key[@]}" >/dev/null
	# what changes nothing leaves nothing
	lp -q forget --keep-last 1 "${key[@]}" >/dev/null
	lp -q forget --keep-last 1 --dry-run >/dev/null
	lp -q backup web1 a.raw --dry-run "${key[@]}" >/dev/null
	lp list >/dev/null
	lp verify "${key[@]}" >/dev/null 2>&1
	expect_exit 13 lp -q unprotect web1@latest "${key[@]}" 2>/dev/null
	expect_exit 13 lp -q unforget web1@1999 "${key[@]}" 2>/dev/null
	lp --json log >log.json
	[ "$(jq -r '[.[] | .command] | join(" ")' log.json)" = \
		"init backup backup protect forget unforget unprotect forget" ] || fail "$kind: $(cat log.json)"
	jq -e --arg p "$point" --arg who "$(id -un)@" '[.[].number] == [1,2,3,4,5,6,7,8] and .[0].subject == null and
		.[1].subject == $p and (.[1].detail.id | length == 32) and .[1].detail.kind == "full" and
		.[3].detail == {"reason":"said \"no\"","until":"2030-01-01T00:00:00Z"} and .[3].subject == $p and
		.[4].detail.count == 1 and .[7].detail.points == [$p] and
		all(.[]; (.actor | startswith($who)) and (.mac | length == 64))' log.json >/dev/null || fail "$kind: $(cat log.json)"
	[ "$(lp --json log --from 7 | jq -c '[.[].number]')" = "[7,8]" ] || fail "--from"
	[ "$(lp --json log --from 99)" = "[]" ] || fail "--from behind the end"
	lp log | grep -q "protect .*$point" || fail "log as text"
	[ "$(lp --json log --verify "${key[@]}" | jq -c .)" = '{"entries":8,"verified":true}' ] || fail "log --verify"
	expect_exit 2 lp log --verify --from 2 "${key[@]}" 2>/dev/null

	tampered "UPDATE audit SET subject = 'web2' WHERE number = 2" "entry 2 "
	tampered "UPDATE audit SET command = 'bakcup' WHERE number = 3" "entry 3 "
	tampered "UPDATE audit SET time = time - 1 WHERE number = 4" "entry 4 "
	tampered "UPDATE audit SET detail = '{}' WHERE number = 5" "entry 5 "
	tampered "UPDATE audit SET actor = 'nobody' WHERE number = 6" "entry 6 "
	tampered "UPDATE audit SET mac = zeroblob(32) WHERE number = 7" "entry 7 "
	tampered "UPDATE audit SET mac = (SELECT mac FROM audit WHERE number = 5) WHERE number = 8" "entry 8 "
	tampered "DELETE FROM audit WHERE number = 1" "entry 1 "
	tampered "DELETE FROM audit WHERE number = 4" "entry 4 "
	tampered "DELETE FROM audit WHERE number = 3; UPDATE audit SET number = number - 1 WHERE number > 3" "entry 3 "
	# unprotect (entry 7) wrote the newest state object, which remembers entry 6
	tampered "DELETE FROM audit WHERE number > 5" "ends with entry 5.*remembers entry 6"
	tampered "DELETE FROM audit" "ends with entry 0.*remembers entry 6"
	# a beginning behind the first entry is only right after a rebuild
	tampered "UPDATE meta SET audit_number = 5, audit_mac = (SELECT mac FROM audit WHERE number = 5);
		DELETE FROM audit WHERE number < 6" "begins with entry 6.*cut"
	tampered "UPDATE meta SET audit_number = 6, audit_mac = (SELECT mac FROM audit WHERE number = 6);
		DELETE FROM audit" "no entry after 6"
	tampered "UPDATE meta SET audit_number = 6, audit_mac = zeroblob(32); DELETE FROM audit WHERE number < 7" \
		"entry 6 .*another one"
	lp -q log --verify "${key[@]}" || fail "the original is damaged"
	# the chain goes on behind a good end
	lp -q protect web1@latest "${key[@]}"
	lp -q log --verify "${key[@]}" || fail "the chain broke"
done

# a whole chain of another key is no chain: the rows of the plain repository in the encrypted one
rm -rf copy && cp -a "$tmp/encrypted" copy
sqlite3 copy/catalog.sqlite "ATTACH '$tmp/plain/catalog.sqlite' AS p; DELETE FROM audit; INSERT INTO audit SELECT * FROM p.audit"
expect_exit 4 lp -q -r copy log --verify --passphrase-file pass 2>error
grep -q "entry 1 " error || fail "a foreign chain: $(cat error)"
