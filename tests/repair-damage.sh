#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Packs and index damaged in every way that repair knows: index lost, footer zeroed, trailer cut, header zeroed, pack lost, records
# flipped; healed from the records, by a later backup, by a plain repository, by a copy, by one with another key.
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"
requires jq --version
fast_dir repair

tree() {
	(cd "$1" && find . -type f ! -name '*-shm' ! -name '*-wal' -print0 | sort -z | xargs -0 sha256sum; find . -type d | sort)
}

good=$fast/good
random_file one.raw 3M 1
cp one.raw two.raw
random_bytes 256K 2 | dd of=two.raw bs=64K seek=8 conv=notrunc status=none
make_repo "$good"
one=$(lp -q backup web one.raw)
two=$(lp -q backup web two.raw)
data=packs/01/000000000001.pack # of the first point
map=packs/02/000000000002.pack
[ -f "$good/$data" ] && [ -f "$good/$map" ]

# fresh: the repository as it was, in another place.
fresh() {
	rm -rf "$fast/repo"
	cp -a "$good" "$fast/repo"
	export LIVEPOINT_REPOSITORY=$fast/repo
}
size() { stat -c %s "$LIVEPOINT_REPOSITORY/$1"; }
overwrite() { # FILE OFFSET COUNT
	head -c "$3" /dev/zero | tr '\0' '\252' | dd of="$LIVEPOINT_REPOSITORY/$1" bs=1 seek="$2" conv=notrunc status=none
}
damaged() { lp --json list | jq -c '[.[].damaged]'; }
restored() {
	rm -f out.raw
	lp -q restore "$1" out.raw
	cmp "$2" out.raw || fail "$1 is not what it was"
}
whole() { # WHAT
	lp -q verify --data >verify.txt || fail "$1: verify: $(cat verify.txt)"
	restored "$one" one.raw
	restored "$two" two.raw
	[ "$(damaged)" = '[false,false]' ] || fail "$1: points are still marked as damaged"
}
repaired() { # WHAT [OPTIONS]: repairs all, a dry run first changes nothing and says what is done
	local what=$1
	shift
	tree "$LIVEPOINT_REPOSITORY" >before.txt
	lp -q repair --dry-run "$@" >plan.txt || [ $? -eq 4 ] || fail "$what: dry run"
	tree "$LIVEPOINT_REPOSITORY" >after.txt
	cmp before.txt after.txt || fail "$what: a dry run has changed the repository"
	[ -s plan.txt ] || fail "$what: the plan is empty"
	lp -q repair "$@" >done.txt || fail "$what: $(cat done.txt)"
	grep -q 'done: ' done.txt || fail "$what: nothing was done"
	whole "$what"
	[ -z "$(lp -q repair "$@")" ] || fail "$what: a second repair finds something"
}

# --- nothing wrong: nothing said, nothing changed ---
fresh
[ -z "$(lp -q repair)" ] || fail "a whole repository is repaired"

# --- index ---
fresh
rm "$LIVEPOINT_REPOSITORY"/index/*
expect_exit 4 lp -q verify
repaired "index lost"
lp --json backup new two.raw >new.json
[ "$(jq -r 'select(.type == "summary").chunks_new' new.json)" = 0 ] || fail "the new index does not know the chunks"
fresh
for f in "$LIVEPOINT_REPOSITORY"/index/*; do printf X | dd of="$f" bs=1 seek=200 conv=notrunc status=none; done
repaired "index bad"
[ "$(find "$LIVEPOINT_REPOSITORY/quarantine" -name 'segment-*' | wc -l)" -eq 2 ] || fail "bad segments are not in quarantine"

# --- footer, trailer ---
for pack in $data $map; do
	fresh
	overwrite $pack $(($(size $pack) - 64 - 100)) 100
	repaired "footer of $pack"
	[ "$(find "$LIVEPOINT_REPOSITORY/quarantine" -name 'pack-*' | wc -l)" -eq 1 ] || fail "the old file is not in quarantine"
	[ "$(lp -q verify --leftovers | grep -c ^quarantine/)" = 1 ] || fail "quarantine is not listed"
	fresh
	truncate -s -30 "$LIVEPOINT_REPOSITORY/$pack"
	repaired "trailer of $pack"
done

# footer and a record: the rest is whole, the record is named as lost
fresh
overwrite $data $(($(size $data) - 64 - 100)) 100
overwrite $data 100000 8
expect_exit 4 lp -q repair >done.txt
grep -q '^lost ' done.txt || fail "a record that is lost is not said: $(cat done.txt)"
[ "$(damaged)" = '[true,true]' ] || fail "points are not marked"
repaired "record after footer" --from "$good"

# --- records, healed by a later backup ---
fresh
overwrite $data 100000 8
overwrite $data 2500000 8
expect_exit 4 lp -q verify --data >verify.txt
[ "$(damaged)" = '[true,true]' ] || fail "points are not marked"
expect_exit 4 lp -q repair >done.txt
[ "$(grep -c '^lost ' done.txt)" = 2 ] || fail "two records are lost: $(cat done.txt)"
lp -q backup web two.raw >/dev/null
lp -q repair >done.txt || fail "a later backup does not heal: $(cat done.txt)"
[ "$(lp --json list | jq -c '[.[].damaged]')" = '[false,false,false]' ] || fail "points are still marked after the heal"
restored "$one" one.raw
restored "$two" two.raw
lp -q verify --data

# --- records, found by --read-data, healed by the copy ---
fresh
overwrite $data 100000 8
overwrite $map 200 8
[ -n "$(lp -q repair --dry-run --read-data --from "$good" 2>&1)" ]
repaired "records with a copy" --read-data --from "$good"

# --- a slot that reads well again loses its mark ---
fresh
overwrite $data 100000 8
expect_exit 4 lp -q verify --data >verify.txt
cp "$good/$data" "$LIVEPOINT_REPOSITORY/$data"
repaired "mark taken back"

# --- header zeroed; pack lost ---
for pack in $data $map; do
	for how in header lost; do
		fresh
		case $how in
		header) overwrite $pack 0 128 ;;
		lost) rm "$LIVEPOINT_REPOSITORY/$pack" ;;
		esac
		expect_exit 4 lp -q verify >verify.txt
		expect_exit 4 lp -q repair >done.txt
		lp --json list | jq -e '.[0].damaged' >/dev/null || fail "$how: not marked"
		# what nothing has is lost; with the copy everything comes back into its place
		repaired "$how of $pack" --from "$good"
	done
done

# a lost data pack comes back by backups of the same disks
fresh
rm "$LIVEPOINT_REPOSITORY/$data"
expect_exit 4 lp -q repair >done.txt
lp -q backup again one.raw >/dev/null
lp -q backup again two.raw >/dev/null
lp -q repair >done.txt || fail "lost pack: $(cat done.txt)"
restored "$one" one.raw
restored "$two" two.raw
lp -q verify --data

# --- other repositories: plain to plain, and one with another key ---
other=$fast/other
echo pass >pass
for kind in plain encrypted; do
	rm -rf "$other"
	from=(--from "$other")
	if [ $kind = plain ]; then
		lp -q -r "$other" init
	else
		lp -q -r "$other" --passphrase-file pass init --encrypt
		from+=(--from-passphrase-file pass)
	fi
	lp -q -r "$other" --passphrase-file pass backup x one.raw >/dev/null
	fresh
	rm "$LIVEPOINT_REPOSITORY/$data"
	repaired "$data from a repository that is $kind" "${from[@]}"
done
expect_exit 12 lp -q repair --from "$other" --from-passphrase-file /dev/null
expect_exit 2 lp -q repair --from-passphrase-file pass
expect_exit 2 lp -q repair --accept --catalog
