# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash
# Rows that show that neither age nor size counts: point 1 beside the newest of many, full beside incremental,
# 1 GiB beside 16 TiB.
# shellcheck disable=SC2154 # variables of bench/run and functions.sh

# opens REPO POINT OUT: opening in a process of its own, once.
opens()
{
	"$tools/bench-mapscale" open "$1" "$2" >>"$3"
}

group_age()
{
	local i repo=$work/repo-age first latest
	use plain "$repo"
	say "making $points increments of 2 % of 1 GiB"
	"$tools/bench-mapscale" make "$repo" d 1G 64K $((points + 1)) 2 >"$work/made"
	first=$(jq -r .first "$work/made")
	latest=$(jq -r .latest "$work/made")
	rm -f "$work"/age-*
	for ((i = 0; i < reps; i++)); do
		opens "$repo" "$first" "$work/age-open-first"
		opens "$repo" "$latest" "$work/age-open-latest"
		age_read "$first" first
		age_read "$latest" latest
	done
	row age "open and first read, newest after $points" ms "$(median "$work/age-open-latest" .all_ms)" \
		"$(median "$work/age-open-first" .all_ms)" "the same of point 1 (full)" none 0
	row age "sequential 1 MiB, cold, newest after $points" MiB/s "$(median "$work/age-sequential-latest" .mib_s)" \
		"$(median "$work/age-sequential-first" .mib_s)" "the same of point 1" ge 0.8
	row age "random 4 KiB, cold, newest after $points, reads" "1/s" \
		"$(calc "1e6 / $(median "$work/age-random-latest" .mean_us)")" \
		"$(calc "1e6 / $(median "$work/age-random-first" .mean_us)")" "the same of point 1" ge 0.8
	row age "sequential 1 MiB, warm, newest after $points" MiB/s "$(median "$work/age-warm-latest" .mib_s)" \
		"$(median "$work/age-warm-first" .mib_s)" "the same of point 1" ge 0.8
	rm -rf "$repo"
}

# age_read POINT NAME
age_read()
{
	drop "$repo"
	"$tools/bench-mapscale" read "$repo" "$1" sequential 1024 >>"$work/age-sequential-$2"
	"$tools/bench-mapscale" read "$repo" "$1" sequential 1024 >>"$work/age-warm-$2"
	drop "$repo"
	"$tools/bench-mapscale" read "$repo" "$1" random 2000 >>"$work/age-random-$2"
}

# One chunk of data in each leaf, so that the maps have all their leaves.
group_size()
{
	local size i
	for size in 1G 1T 16T; do
		use plain "$work/repo-size-$size"
		say "making a disk of $size"
		"$tools/bench-mapscale" make "$LIVEPOINT_REPOSITORY" d $size 64M 2 0.1 >/dev/null
	done
	truncate -s 1M "$work/start.raw"
	rm -f "$work"/size-*
	for ((i = 0; i < reps; i++)); do
		for size in 1G 1T 16T; do
			drop "$work/repo-size-$size"
			opens "$work/repo-size-$size" d "$work/size-cold-$size"
			opens "$work/repo-size-$size" d "$work/size-warm-$size"
			LIVEPOINT_REPOSITORY=$work/repo-size-$size
			ours point=d
			"$tools/bench-nbdlat" first 11 - "${arguments[@]}" >>"$work/size-served-$size"
			"$tools/bench-nbdlat" first 11 - file "$work/start.raw" >>"$work/size-file"
		done
	done
	for size in 1G 1T 16T; do
		row size "open to first byte, $size" ms "$(median "$work/size-served-$size" .p50_ms)" \
			"$(median "$work/size-file" .p50_ms)" "nbdkit file start" plus 10
	done
	for size in 1T 16T; do
		row size "open and first read, $size, warm" ms "$(median "$work/size-warm-$size" .all_ms)" \
			"$(median "$work/size-warm-1G" .all_ms)" "the same of 1G" none 0
		row size "open and first read, $size, cold" ms "$(median "$work/size-cold-$size" .all_ms)" \
			"$(median "$work/size-cold-1G" .all_ms)" "the same of 1G" none 0
	done
	unset LIVEPOINT_REPOSITORY
	rm -rf "$work"/repo-size-*
}
