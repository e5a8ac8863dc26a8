# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash
# Rows of what comes in: first backup, levels, unchanged disk, change map, memory.
# shellcheck disable=SC2154 # variables of bench/run and functions.sh

gib='/ 1073741824'

# fixed_cpu plain|encrypted: median CPU seconds of a backup of 4 KiB: start, catalog, key derivation.
fixed_cpu()
{
	local i
	head -c 4096 /dev/urandom >"$work/tiny.raw"
	use "$1" "$work/repo-tiny"
	rm -f "$work/fixed"
	for ((i = 0; i < reps; i++)); do
		measured "$work/fixed" "$livepoint" -q backup --full "t$i" "$work/tiny.raw" >/dev/null
	done
	median "$work/fixed" .cpu
}

# first_backup plain|encrypted SUITE LEVEL COMPRESSION: repetitions of primitives and backup, interleaved.  Leaves
# their JSON in $work/primitives and $work/first and the last repository in $work/repo-KIND.
first_backup()
{
	local i
	rm -f "$work/primitives" "$work/first"
	for ((i = 0; i < reps; i++)); do
		"$tools/bench-primitives" --suite "$2" --level "$3" "$work/gen0.raw" "$work" >>"$work/primitives"
		use "$1" "$work/repo-$1"
		measured "$work/first" "$livepoint" -q backup --compression "$4" d "vda=$work/gen0.raw" >/dev/null
	done
	data=$(median "$work/primitives" .data_bytes)
}

group_backup()
{
	local kind suite scrypt plain encrypted
	guest_disks
	plain=$(fixed_cpu plain)
	encrypted=$(fixed_cpu encrypted)
	scrypt=$(calc "[$encrypted - $plain, 0] | max")
	for kind in encrypted plain; do
		suite=$([ $kind = plain ] && echo 0 || echo 1)
		first_backup $kind "$suite" 1 default
		[ $kind = encrypted ] || scrypt=0
		row backup "first backup, $kind, CPU" "s/GiB" \
			"$(calc "($(median "$work/first" .cpu) - $scrypt) / ($data $gib)")" \
			"$(calc "$(median "$work/primitives" .sum) / ($data $gib)")" "sum of primitives" le 1.15 \
			"$(calc "$scrypt * 1000 | round") ms of key derivation (scrypt) left out"
		row backup "ingest memory, $kind" MiB "$(calc "$(median "$work/first" .anon_peak) / 1048576")" \
			null - max 128
		unchanged "$kind" "$scrypt"
	done
}

# unchanged KIND SCRYPT: the disk again, compared with its parent.
unchanged()
{
	local i
	rm -f "$work/again"
	for ((i = 0; i < reps; i++)); do
		measured "$work/again" "$livepoint" -q backup d "vda=$work/gen0.raw" >/dev/null
	done
	row backup "unchanged disk, $1, CPU" "s/GiB" \
		"$(calc "($(median "$work/again" .cpu) - $2) / ($data $gib)")" \
		"$(calc "$(median "$work/primitives" '.read + .zero + .id') / ($data $gib)")" \
		"read, zero test, hash" le 1.1
}

group_levels()
{
	local pair
	guest_disks
	for pair in none:0 fast:-3 default:1 better:3 best:9; do
		first_backup plain 0 "${pair#*:}" "${pair%:*}"
		row levels "compression ${pair%:*}, CPU" "s/GiB" \
			"$(calc "$(median "$work/first" .cpu) / ($data $gib)")" \
			"$(calc "$(median "$work/primitives" .sum) / ($data $gib)")" "sum of primitives" le 1.15 \
			"$(lp --json stats | jq '.compression_ratio * 100 | round / 100') : 1 compression"
	done
}

# A disk of 1 TiB with a chunk of data in each of its leaves, 64 MiB of it changed each time.  The reads are those
# of the same ranges, one after the other, from the page cache as in the backup.
group_map()
{
	local image=$work/tib.raw i every=64M sample changed=1024
	"$tools/bench-mapscale" image "$image" 1T $every
	use plain "$work/repo-map"
	lp backup m "vda=$image" >/dev/null
	for sample in 1 0; do
		rm -f "$work/map" "$work/reads"
		for ((i = 0; i < reps; i++)); do
			"$tools/bench-mapscale" change "$image" 1T $every $changed $((i + 10 * sample)) >"$work/changed"
			measured "$work/reads" "$tools/bench-mapscale" ranges "$image" "$work/changed"
			measured "$work/map" "$livepoint" -q backup --changed "vda=$work/changed" --sample $sample \
				m "vda=$image" >/dev/null
		done
		row map "1 TiB, 64 MiB changed, map, sample $sample %, wall" s "$(median "$work/map" .wall)" \
			"$(median "$work/reads" .wall)" "reading these ranges" plus 1
		row map "the same, CPU" s "$(median "$work/map" .cpu)" "$(median "$work/reads" .cpu)" \
			"reading these ranges" none 0
	done
	row map "ingest memory, 1 TiB" MiB "$(calc "$(median "$work/map" .anon_peak) / 1048576")" null - max 128
	rm -rf "$image" "$work/repo-map"
}
