#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# verify --data: a sample with its share, going on after an interruption, a limit of the rate; findings with pack, slot and id, and
# every restore point, disk and range that has the damaged chunk; what is recorded and when it is cleared.
. "$(dirname "$0")/functions.sh"
requires jq --version

make_repo
random_file disk.raw 4M 1
for i in 1 2 3 4 5; do
	random_bytes 64K $((i + 20)) | dd of=disk.raw bs=64K seek=$((i + 8)) conv=notrunc status=none
	lp -q backup a disk.raw >/dev/null
done
# a disk of another name, twice the same data in one point: the same chunks in several places
cat disk.raw disk.raw >twice.raw
lp -q backup b x=twice.raw >/dev/null
packs=$(find "$LIVEPOINT_REPOSITORY/packs" -name '*.pack' | wc -l)
summary() { jq -c 'select(.type == "summary")' "$1"; }

# --- all, and its record ---
lp --json verify --data >all.json
[ "$(summary all.json | jq .packs)" = "$packs" ] || fail "not all packs were read: $(summary all.json)"
summary all.json | jq -e '.share == 1' >/dev/null || fail "share: $(summary all.json)"
[ "$(lp --json list | jq -r '.[0].verified.kind')" = data ]
lp --json list | jq -e '.[0].verified.share == 1' >/dev/null || fail "the share is not recorded"

# --- since: all packs were just read ---
lp --json verify --data --since-verified 1d >since.json
[ "$(summary since.json | jq .packs)" = 0 ] || fail "packs were read again: $(summary since.json)"
summary since.json | jq -e '.share == 1' >/dev/null || fail "what was read lately does not count"
sleep 2
lp --json verify --data --since-verified 1 >since.json
[ "$(summary since.json | jq .packs)" = "$packs" ] || fail "old readings count: $(summary since.json)"

# --- a sample ---
lp --json verify --data --sample 30 >sample.json
read=$(summary sample.json | jq .packs)
[ "$read" -gt 0 ] && [ "$read" -lt "$packs" ] || fail "a sample of 30 % read $read of $packs packs"
summary sample.json | jq -e '.share > 0 and .share < 1' >/dev/null || fail "share of a sample"
lp --json list | jq -e '.[0].verified.share < 1' >/dev/null || fail "the share is not recorded"
lp show a | grep -q '^Verified:.*data.*%' || fail "show does not say the share: $(lp show a | grep Verified)"

# --- interrupted: what was done counts ---
lp -q verify --data --sample 100 >/dev/null
rm -rf again
cp -a "$LIVEPOINT_REPOSITORY" again
sleep 2
status=0
LIVEPOINT_FAULT=catalog.packread.after:3:kill lp -q -r again verify --data >/dev/null 2>&1 || status=$?
[ $status -eq 137 ] || fail "not killed: $status"
lp --json -r again verify --data --since-verified 1 >rest.json
[ "$(summary rest.json | jq .packs)" -lt "$packs" ] || fail "an interrupted run begins from the start"

# --- the rate: 4 MiB at 2 MiB a second are 2 seconds, less the first quarter of a second ---
begun=$(date +%s%N)
lp -q verify --data --io-limit 2M
[ $(($(date +%s%N) - begun)) -ge 1400000000 ] || fail "the limit is not kept"
expect_exit 2 lp -q verify --io-limit 2M
expect_exit 2 lp -q verify --sample 10
# a signal ends it at once
lp -q verify --data --io-limit 100K >/dev/null 2>&1 &
pid=$!
sleep 0.5
begun=$(date +%s%N)
kill -TERM $pid
status=0
wait $pid || status=$?
[ $status -eq 143 ] || fail "SIGTERM: $status"
[ $(($(date +%s%N) - begun)) -le 2000000000 ] || fail "SIGTERM took too long"

# --- one chunk that all points have, b's disk twice ---
pack=$LIVEPOINT_REPOSITORY/packs/01/000000000001.pack
cp "$pack" pack.good
printf 'XXXX' | dd of="$pack" bs=1 seek=3000000 conv=notrunc status=none
expect_exit 4 lp --json verify --data >bad.json 2>/dev/null
jq -c 'select(.type == "finding")' bad.json >findings.txt
[ "$(jq -c 'select(.point == null)' findings.txt | wc -l)" = 1 ] || fail "one object is bad: $(cat findings.txt)"
jq -e -s '.[] | select(.point == null) | .pack == 1 and .slot == 45 and (.id | length) == 64' findings.txt >/dev/null ||
	fail "pack, slot and id: $(head -n 1 findings.txt)"
# the chunk behind slot 45 lies at the same place in all of a, and at two in b
start=$((45 * 65536))
[ "$(jq -c 'select(.point != null and (.point | startswith("a@"))) | [.disk, .start, .length]' findings.txt | sort | uniq -c | awk '{print $1, $2}')" = \
	"5 [\"vda\",$start,65536]" ] || fail "points of a: $(cat findings.txt)"
[ "$(jq -c 'select(.point != null and (.point | startswith("b@"))) | [.disk, .start, .length]' findings.txt | tr '\n' ' ')" = \
	"[\"x\",$start,65536] [\"x\",$((start + 4194304)),65536] " ] || fail "the point of b: $(cat findings.txt)"
jq -e -s 'all(.[]; .id != null and .pack == 1 and .slot == 45)' findings.txt >/dev/null || fail "ids: $(cat findings.txt)"
expect_exit 4 lp -q verify --data >text.txt
grep -q "pack 000000000001, slot 45, id " text.txt || fail "text: $(cat text.txt)"
[ "$(lp --json list | jq -c '[.[].damaged] | unique')" = '[true]' ] || fail "not marked"

# --- a good reading of a part does not clear it, one of everything does ---
cp pack.good "$pack"
lp -q verify
[ "$(lp --json list | jq '.[0].damaged')" = true ] || fail "a structure check has cleared the mark"
lp -q verify --data --sample 99 || fail "a sample"
lp -q verify --data
[ "$(lp --json list | jq -c '[.[].damaged] | unique')" = '[false]' ] || fail "the mark is not cleared"

# --- a slot that no point uses is found too, and said so ---
rm "$pack"
expect_exit 4 lp --json verify >lost.json 2>/dev/null
[ "$(jq -c 'select(.type == "finding" and .point == null)' lost.json | wc -l)" = 1 ] || fail "a lost pack is one finding: $(grep -c . lost.json)"
jq -e -s '.[] | select(.type == "finding" and .point == null) | .pack == 1 and .slot == null' lost.json >/dev/null || fail "a lost pack: $(head -n 1 lost.json)"
jq -e -s '[.[] | select(.type == "finding" and .point != null)] | length > 5 and all(.[]; .slots >= 1)' lost.json >/dev/null || fail "ranges of a lost pack"
