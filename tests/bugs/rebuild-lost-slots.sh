#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A repair leaves bad records out of a pack; then the catalog is lost.  The rebuild took those slots for dropped by a prune, or
# for slots that never were: healed slots that a point needs were then left out by the next prune that rewrote the pack, and
# the last one could not be healed at all ("has no slot", exit 1).
. "$(dirname "$0")/../functions.sh"

biggest() { find "$LIVEPOINT_REPOSITORY/packs" -name '*.pack' -printf '%s %p\n' | sort -n | tail -n 1 | cut -d' ' -f2; }
spoil() { printf 'XXXXXXXX' | dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }

random_file a.raw 8M 1
{
	random_bytes 4M 2
	tail -c 4M a.raw
} >b.raw
for lost in 1 2; do
	make_repo "$tmp/$lost"
	a=$(lp -q backup web vda=a.raw)
	pack=$(biggest)
	size=$(stat -c %s "$pack")
	b=$(lp -q backup two vda=b.raw)
	# a record in the second half, which both have; the last one (before footer and trailer, 6.6 KiB); the trailer
	spoil "$pack" $((size * 3 / 4))
	[ "$lost" = 1 ] || spoil "$pack" $((size - 30000))
	spoil "$pack" $((size - 8))
	expect_exit 4 lp -q repair >repair.txt
	[ "$(grep -c '^lost' repair.txt)" = "$lost" ] || fail "$lost records were to be lost: $(cat repair.txt)"
	rm -f "$LIVEPOINT_REPOSITORY"/catalog.sqlite*
	expect_exit 4 lp -q repair --catalog >repair.txt
	lp -q repair --accept >/dev/null
	lp -q backup two vda=b.raw >/dev/null
	lp -q repair >repair.txt || fail "not healed: $(cat repair.txt)"
	lp -q verify --data
	lp -q forget "$a" >/dev/null
	lp -q prune --min-unused 0
	lp -q restore "$b" out.raw
	cmp out.raw b.raw || fail "what was healed did not outlive a prune"
	lp -q verify --data
	rm -f out.raw
done
