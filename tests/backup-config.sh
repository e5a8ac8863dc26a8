#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Files kept with a point: backup --config, show, dump; what is refused; what is stored once; forget and prune; damage, its
# name and its repair; a catalog built again; nothing of them readable in an encrypted repository.
. "$(dirname "$0")/functions.sh"
requires jq --version

part=$((4 << 20))
random_file disk.raw 2M 1
printf '<domain type="kvm"><name>secret-guest-name</name></domain>\n' >domain.xml
{ random_bytes 540652 2; printf 'marker-of-the-NVRAM.'; } >nvram
random_file big $((2 * part + 5)) 3
random_file whole $part 4
: >empty

# same POINT NAME FILE
same() {
	lp -q dump "$1" "config/$2" >out || fail "config/$2 of $1 cannot be read"
	cmp out "$3" || fail "config/$2 of $1 has other bytes"
}
files() { lp --json show "$1" | jq -c '[.config[] | "\(.name) \(.size)"]'; }
stored() { lp --json show "$1" | jq .stored; }

round() {
	local one two three
	one=$(lp -q backup web disk.raw --config domain.xml=domain.xml --config nvram=nvram --config empty=empty \
		--config big=big --config whole=whole --config piped=<(cat domain.xml nvram))
	[ "$(files "$one")" = '["domain.xml 59","nvram 540672","empty 0","big 8388613","whole 4194304","piped 540731"]' ] ||
		fail "show: $(files "$one")"
	lp show "$one" | grep -qE '^config/nvram +540672$' || fail "show as text: $(lp show "$one")"
	for f in domain.xml nvram empty big whole; do same "$one" $f $f; done
	cat domain.xml nvram >piped
	same "$one" piped piped

	# as the parent has it: not stored again; what differs, is
	two=$(lp -q backup web disk.raw --config big=big --config nvram=nvram)
	[ "$(files "$two")" = '["big 8388613","nvram 540672"]' ] || fail "files come by themselves: $(files "$two")"
	[ "$(stored "$two")" -lt 10000 ] || fail "$(stored "$two") bytes stored for files that were there"
	cp big big2
	printf 'X' | dd of=big2 bs=1 seek=$((part + 7)) conv=notrunc status=none
	three=$(lp -q backup web disk.raw --config big=big2)
	[ "$(stored "$three")" -gt $part ] && [ "$(stored "$three")" -lt $((part + 10000)) ] ||
		fail "$(stored "$three") bytes stored for one part of three"
	same "$three" big big2
	lp diff "$two" "$three" 2>diff.txt
	grep -qx 'config/big differs' diff.txt && grep -qx 'config/nvram is only in the first point' diff.txt ||
		fail "diff: $(cat diff.txt)"
	same "$two" big big
	lp -q verify --data

	# prune keeps what a point still needs, and takes the rest
	lp -q forget "$one" >/dev/null
	lp -q prune --min-unused 0
	same "$two" big big
	same "$two" nvram nvram
	same "$three" big big2
	lp -q verify --data
	lp -q forget "$two" "$three" >/dev/null
	lp -q prune --min-unused 0
	[ "$(du -sb "$LIVEPOINT_REPOSITORY/packs" | cut -f 1)" -lt $((part / 8)) ] || fail "parts of files survive their points"
}
make_repo plain
round
lp -q backup web disk.raw --config domain.xml=domain.xml >/dev/null

# --- what is refused, and what is not there ---
refused() { # CODE ARGS...
	local code=$1
	shift
	expect_exit "$code" lp -q backup no disk.raw "$@" 2>err.txt
	[ -z "$(lp --json list | jq -r '.[].name' | grep -x no)" ] || fail "published in spite of: $*"
}
truncate -s $(((64 << 20) + 1)) huge
mkfifo fifo
refused 2 --config domain.xml
refused 2 --config a/b=nvram
refused 2 --config .xml=nvram
refused 2 --config "$(printf 'x%.0s' {1..65})=nvram"
refused 2 --config a=nvram --config a=empty
refused 1 --config a=none-such
grep -q none-such err.txt || fail "the file is not named: $(cat err.txt)"
refused 1 --config a="$tmp"
refused 1 --config a=huge
refused 1 --config a=<(cat huge)
many=()
for ((i = 0; i < 65; i++)); do many+=(--config "f$i=empty"); done
refused 2 "${many[@]}"
lp -q backup many disk.raw "${many[@]:2}" >/dev/null
[ "$(lp --json show many | jq '.config | length')" = 64 ] || fail "64 files"
truncate -s $((64 << 20)) huge
lp -q backup many disk.raw --config a=huge >/dev/null
same many a huge
lp -q backup many disk.raw --config a=empty --dry-run
[ "$(files many)" = '["a 67108864"]' ] || fail "a dry run has published"
expect_exit 13 lp dump web config/none 2>err.txt
grep -q 'it has: domain.xml' err.txt || fail "what there is, is not named: $(cat err.txt)"
expect_exit 13 lp dump none config/domain.xml 2>/dev/null
expect_exit 2 lp dump web vda 2>/dev/null
expect_exit 2 lp dump web/vda config/domain.xml 2>/dev/null
expect_exit 2 lp --json dump web config/domain.xml 2>/dev/null
[ "$(lp --json list | jq 'all(has("config"))')" = false ] || fail "list tells files, which needs the manifests"

# --- damage: found, named, never half a file; healed by the next backup, then repaired ---
make_repo hurt
random_file disk.raw 1M 9
one=$(lp -q backup web disk.raw --config nvram=nvram --config big=big --config domain.xml=domain.xml)
cp -a hurt kept
pack=$(find hurt/packs -name '*.pack' -size +8M)
# the second part of big lies behind nvram and the first one
printf 'XXXX' | dd of="$pack" bs=1 seek=$((540672 + part + 100000)) conv=notrunc status=none
lp -q verify || fail "the structure is whole"
expect_exit 4 lp --json verify --data >bad.json 2>/dev/null
jq -e -s '[.[] | select(.type == "finding" and .point != null)] | length == 1 and all(.point == "'"$one"'" and .disk == null and
	.config == "big" and .start == 4194304 and .length == 4194304 and .slots == 1 and (.id | length) == 64)' bad.json >/dev/null ||
	fail "the finding: $(cat bad.json)"
expect_exit 4 lp -q verify "$one" --data >bad.txt
grep -q "^$one/config/big: bad file, bytes 4194304 to 8388607" bad.txt || fail "the finding as text: $(cat bad.txt)"
[ "$(lp --json show "$one" | jq .damaged)" = true ] || fail "the point is not marked"
expect_exit 4 lp -q dump "$one" config/big >out 2>err.txt
[ ! -s out ] || fail "a part of a damaged file was printed"
same "$one" nvram nvram
two=$(lp -q backup web disk.raw --config nvram=nvram --config big=big)
same "$two" big big
lp -q verify "$two" --data || fail "the next backup has taken the damaged part over"
lp -q repair >repair.txt || fail "repair: $(cat repair.txt)"
same "$one" big big
lp -q verify --data

# from another repository, also one with another key, which knows the content by another id
echo other >pass
for from in plain encrypted; do
	rm -rf hurt other
	cp -a kept hurt
	printf 'XXXX' | dd of="$pack" bs=1 seek=$((540672 + part + 100000)) conv=notrunc status=none
	if [ $from = plain ]; then
		lp -q -r other init
	else
		lp -q -r other init --encrypt --passphrase-file pass
	fi
	LIVEPOINT_PASSPHRASE=other lp -q -r other backup x disk.raw --config b=big >/dev/null
	expect_exit 4 lp -q verify --data >/dev/null
	expect_exit 4 lp -q repair >/dev/null
	lp -q repair --from other --from-passphrase-file pass >repair.txt 2>&1 || fail "repair from $from: $(cat repair.txt)"
	same "$one" big big
	lp -q verify --data
done

# their pack is lost: the structure says so, for each file of a point whose manifest is elsewhere
rm -rf hurt
cp -a kept hurt
two=$(lp -q backup web disk.raw --config nvram=nvram --config big=big)
rm "$pack"
expect_exit 4 lp -q verify >bad.txt
grep -q "^$two/config/nvram: bad file, bytes 0 to 540671" bad.txt || fail "a lost pack: $(cat bad.txt)"
[ "$(grep -c "^$two/config/big: bad file" bad.txt)" -eq 3 ] || fail "a lost pack: $(cat bad.txt)"

# --- a catalog built again from the packs ---
rm -rf hurt
cp -a kept hurt
lp -q backup other disk.raw >/dev/null
rm hurt/catalog.sqlite*
lp -q repair >/dev/null
lp -q repair --accept
same "$one" big big
[ "$(files "$one")" = '["nvram 540672","big 8388613","domain.xml 59"]' ] || fail "after a rebuild: $(files "$one")"
lp -q prune --min-unused 0
same "$one" big big
same "$one" nvram nvram
lp -q verify --data

# --- encrypted: nothing to read, neither names nor contents ---
export LIVEPOINT_PASSPHRASE='a passphrase'
make_repo sealed --encrypt
round
for repo in plain sealed; do
	point=$(lp -q -r $repo backup web disk.raw --config secret-file.xml=domain.xml --config nvram=nvram --compression none)
	for what in secret-guest-name secret-file marker-of-the-NVRAM; do
		found=$(grep -rlaF $what $repo) || true
		if [ $repo = plain ]; then
			[ -n "$found" ] || fail "'$what' is not even in a plain repository: this looks for nothing"
		else
			[ -z "$found" ] || fail "'$what' is readable in $found"
		fi
	done
done
same "$point" secret-file.xml domain.xml
(
	unset LIVEPOINT_PASSPHRASE
	[ "$(lp --json show "$point" </dev/null | jq .config)" = null ] || fail "files without a key: $(lp --json show "$point")"
	lp show "$point" </dev/null >/dev/null
	expect_exit 12 lp dump "$point" config/nvram </dev/null 2>/dev/null
)
LIVEPOINT_PASSPHRASE=wrong expect_exit 12 lp dump "$point" config/nvram 2>/dev/null
echo "backup-config: passed"
