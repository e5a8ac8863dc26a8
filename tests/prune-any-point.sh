#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Twelve generations, forgotten in random order with a prune after each: all that remain restore to their SHA-256, nothing
# is left over, and what the last one takes is near what it takes in a repository of its own.  Plain and encrypted.
. "$(dirname "$0")/functions.sh"

seed=${LIVEPOINT_SEED:-$RANDOM}
echo "seed $seed"
RANDOM=$seed
export LIVEPOINT_PASSPHRASE=secret
size_of() { find "$1/packs" -name '*.pack' -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }'; }

for kind in plain encrypted; do
	options=()
	[ $kind = plain ] || options=(--encrypt)
	make_repo "$tmp/$kind" "${options[@]}"
	random_file disk.raw 6M "$seed"
	declare -A want=()
	for ((i = 0; i < 12; i++)); do
		for ((k = 0; k < 8; k++)); do
			random_bytes 65536 $((seed + i * 100 + k)) |
				dd of=disk.raw bs=64K seek=$((RANDOM % 96)) conv=notrunc status=none
		done
		want[$(lp -q backup web vda=disk.raw 2>backup.err)]=$(sha disk.raw)
	done
	full=$(size_of "$LIVEPOINT_REPOSITORY")
	for ((i = 0; i < 11; i++)); do
		points=("${!want[@]}")
		point=${points[RANDOM % ${#points[@]}]}
		lp -q forget "$point" >/dev/null
		unset "want[$point]"
		lp -q prune --min-unused $((RANDOM % 40))
		left=$(lp -q verify --leftovers)
		[ -z "$left" ] || fail "$kind, after prune $i: $left"
		looked=0
		for point in "${!want[@]}"; do
			# a passphrase costs 0.15 s each time: encrypted, two after most prunes, all after every fourth
			[ $kind = plain ] || [ $((i % 4)) = 3 ] || [ $((looked++)) -lt 2 ] || break
			lp -q restore --overwrite "$point" back.raw
			[ "$(sha back.raw)" = "${want[$point]}" ] || fail "$kind, after prune $i: $point differs"
		done
	done
	lp -q prune --min-unused 0
	lp -q verify --data
	one=$(size_of "$LIVEPOINT_REPOSITORY")
	lp -q restore --overwrite "${!want[@]}" back.raw
	make_repo "$tmp/$kind-fresh" "${options[@]}"
	lp -q backup web vda=back.raw >/dev/null
	fresh=$(size_of "$LIVEPOINT_REPOSITORY")
	echo "$kind: $full bytes of twelve, $one of the last, $fresh in a fresh repository"
	[ "$one" -le $((fresh + fresh / 20 + 65536)) ] || fail "$kind: $one bytes, fresh $fresh"
	unset want
done
