# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash
# Rows of retention and garbage collection.
# shellcheck disable=SC2154 # variables of bench/run and functions.sh

# A 1 TiB disk with all its leaves and a long history; one point after the other is forgotten, the oldest, one from the
# middle and one near the end, and pruned.  The ceiling reads what a prune must at least read of that point: its map.
group_prune()
{
	local i repo=$work/repo-prune point all
	use plain "$repo"
	say "making $points increments of 2 % of the leaves of 1 TiB"
	"$tools/bench-mapscale" make "$repo" d 1T 64M $((points + 1)) 2 >/dev/null
	rm -f "$work"/prune-*
	for ((i = 0; i < reps; i++)); do
		all=$(lp list --json | jq length)
		point=$(lp list --json | jq -r ".[$((i * (all - 2) / (reps > 1 ? reps - 1 : 1)))].id")
		drop "$repo"
		measured "$work/prune-map" "$livepoint" -q verify "$point" >/dev/null
		lp -q forget "$point" >/dev/null
		drop "$repo"
		measured "$work/prune-all" "$livepoint" -q prune >/dev/null
	done
	row prune "prune after forgetting one of $points points of 1 TiB, wall" s "$(median "$work/prune-all" .wall)" \
		"$(median "$work/prune-map" .wall)" "structure check of that point" max 10
	row prune "the same, CPU" s "$(median "$work/prune-all" .cpu)" "$(median "$work/prune-map" .cpu)" \
		"structure check of that point" none 0
	row prune "prune memory" MiB "$(calc "$(median "$work/prune-all" .anon_peak) / 1048576")" null - max 128
	rm -rf "$repo"
}
