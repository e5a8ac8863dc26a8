# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash
# Rows of what goes out: open to first byte, random and sequential reads, restore, verify, memory, boot.
# shellcheck disable=SC2154 # variables of bench/run and functions.sh

# repo_of_guest KIND: a repository with gen0 in it, as point d; its server's arguments in `arguments`.
repo_of_guest()
{
	guest_disks
	use "$1" "$work/repo-$1"
	lp backup d "vda=$work/gen0.raw" >/dev/null
	ours point=d "${@:2}"
}

group_open()
{
	local i kind
	for kind in encrypted plain; do
		repo_of_guest $kind
		rm -f "$work/first" "$work/ceiling"
		for ((i = 0; i < reps; i++)); do
			"$tools/bench-nbdlat" first 11 "$work/key" file "$work/gen0.raw" >>"$work/ceiling"
			"$tools/bench-nbdlat" first 11 "$work/key" "${arguments[@]}" >>"$work/first"
		done
		row open "open to first byte, $kind" ms "$(median "$work/first" .p50_ms)" \
			"$(median "$work/ceiling" .p50_ms)" "nbdkit file start" plus 10
	done
}

# reads_of NAME BLOCK: one JSON object of reading the offsets in $work/offsets from a fresh server NAME.
reads_of()
{
	"$tools/bench-nbdlat" read "nbd+unix:///?socket=$work/$1.sock" "$2" <"$work/offsets"
}

# cold NAME BLOCK PATH NBDKIT-ARGUMENT...: a fresh server, its files out of the page cache, then the reads.
cold()
{
	local name=$1 block=$2 path=$3
	shift 3
	serve "$name" "$@"
	drop "$path" >&2
	reads_of "$name" "$block" >>"$work/$name.reads"
	stop "$name"
}

group_read()
{
	local kind
	for kind in encrypted plain; do
		repo_of_guest $kind
		serve ours "${arguments[@]}"
		"$tools/bench-nbdlat" blocks "$uri" 1M >"$work/offsets-mib"
		random_reads $kind
		sequential_reads $kind
	done
	cached_reads
	export_memory
}

# Offsets of each repetition are others: the second visit of a disk's block is not cold below us.
random_reads()
{
	local i
	rm -f "$work"/*.reads
	for ((i = 0; i < reps; i++)); do
		[ -n "${server_pid[ours]:-}" ] || serve ours "${arguments[@]}"
		"$tools/bench-nbdlat" blocks "nbd+unix:///?socket=$work/ours.sock" 4K 1500 $((i + 1)) >"$work/offsets"
		stop ours
		cold file 4K "$work/gen0.raw" file "$work/gen0.raw"
		cold ours 4K "$LIVEPOINT_REPOSITORY" "${arguments[@]}"
	done
	row read "random 4 KiB, queue 1, cold, $1, mean" us "$(median "$work/ours.reads" .mean_us)" \
		"$(median "$work/file.reads" .mean_us)" "nbdkit file, raw image cold" le 1.5
	row read "the same, median of reads" us "$(median "$work/ours.reads" .p50_us)" \
		"$(median "$work/file.reads" .p50_us)" "nbdkit file, raw image cold" le 1.5
}

sequential_reads()
{
	local i
	rm -f "$work"/*.reads
	cp "$work/offsets-mib" "$work/offsets"
	for ((i = 0; i < reps; i++)); do
		cold file 1M "$work/gen0.raw" file "$work/gen0.raw"
		cold ours 1M "$LIVEPOINT_REPOSITORY" "${arguments[@]}"
	done
	row read "sequential 1 MiB, queue 1, cold, $1" MiB/s "$(median "$work/ours.reads" .mib_s)" \
		"$(median "$work/file.reads" .mib_s)" "nbdkit file, raw image cold" ge 1
}

# 1500 blocks out of 160 MiB of data, read once before: all in the cache of decoded chunks (256 MiB).
cached_reads()
{
	local i
	rm -f "$work"/*.reads
	serve ours "${arguments[@]}"
	serve memory memory 2G
	nbdcopy "$work/gen0.raw" "$uri"
	"$tools/bench-nbdlat" blocks "nbd+unix:///?socket=$work/ours.sock" 4K 3000 1 160M >"$work/offsets"
	reads_of ours 4K >/dev/null
	for ((i = 0; i < reps; i++)); do
		reads_of memory 4K >>"$work/memory.reads"
		reads_of ours 4K >>"$work/ours.reads"
	done
	stop ours
	stop memory
	row read "random 4 KiB, queue 1, chunk cached" us "$(median "$work/ours.reads" .p50_us)" \
		"$(median "$work/memory.reads" .p50_us)" "nbdkit memory" le 1.15
}

# After all of the disk was read with four connections.
export_memory()
{
	local size
	for size in 64 256; do
		ours point=d cache=${size}M
		serve ours "${arguments[@]}"
		nbdcopy "$uri" null:
		row read "export memory, cache=${size}M" MiB "$(calc "$(anonymous ours) / 1048576")" \
			null - max $((size + 32))
		stop ours
	done
}

# Into a new sparse file each time, from a cold source; both write out what they wrote before they end.
group_restore()
{
	local i kind
	for kind in encrypted plain; do
		repo_of_guest $kind
		rm -f "$work/restore" "$work/copy"
		for ((i = 0; i < reps; i++)); do
			rm -f "$work/target.raw"
			truncate -s 2G "$work/target.raw"
			serve file file "$work/gen0.raw"
			drop "$work/gen0.raw"
			measured "$work/copy" nbdcopy --flush "$uri" "$work/target.raw"
			stop file
			rm -f "$work/target.raw"
			drop "$LIVEPOINT_REPOSITORY"
			measured "$work/restore" "$livepoint" -q restore d "$work/target.raw"
			cmp "$work/gen0.raw" "$work/target.raw" || die "the restored disk differs"
		done
		rm -f "$work/target.raw"
		row restore "full restore, $kind, speed" "1/s" "$(calc "1 / $(median "$work/restore" .wall)")" \
			"$(calc "1 / $(median "$work/copy" .wall)")" "nbdcopy of the raw image" ge 1
		row restore "the same, CPU" s "$(median "$work/restore" .cpu)" "$(median "$work/copy" .cpu)" \
			"nbdcopy without its server" none 0
	done
}

group_verify()
{
	local i kind suite fixed mib
	for kind in encrypted plain; do
		repo_of_guest $kind
		suite=$([ $kind = plain ] && echo 0 || echo 1)
		rm -f "$work/verify" "$work/structure" "$work/primitives"
		for ((i = 0; i < reps; i++)); do
			"$tools/bench-primitives" --suite "$suite" "$work/gen0.raw" "$work" >>"$work/primitives"
			measured "$work/structure" "$livepoint" -q verify
			measured "$work/verify" "$livepoint" -q verify --data
		done
		# what the key costs is what a check of the structure alone costs, nearly
		fixed=$(median "$work/structure" .cpu)
		[ $kind = encrypted ] || fixed=0
		mib=$(calc "$(median "$work/primitives" .unique_bytes) / 1048576")
		row verify "verify --data, $kind, per core" MiB/s \
			"$(calc "$mib / ($(median "$work/verify" .cpu) - $fixed)")" \
			"$(calc "$mib / $(median "$work/primitives" '.reread + .open + .reid')")" \
			"read, open, hash" ge 0.9
	done
}

# Interleaved; the raw file itself is only printed.
group_boot()
{
	local i
	repo_of_guest plain
	rm -f "$work"/boot-*
	for ((i = 0; i < reps; i++)); do
		boot_once raw "$work/gen0.raw"
		serve file file "$work/gen0.raw"
		boot_once file "$uri"
		stop file
		serve ours "${arguments[@]}"
		boot_once ours "$uri"
		stop ours
	done
	row boot "boot from the repository" s "$(median "$work/boot-ours" .)" "$(median "$work/boot-file" .)" \
		"the same from nbdkit file" le 1.05
	row boot "the same from the raw file" s "$(median "$work/boot-raw" .)" "$(median "$work/boot-file" .)" \
		"the same from nbdkit file" none 0
}

# boot_once NAME DISK
boot_once()
{
	drop "$work/gen0.raw" "$LIVEPOINT_REPOSITORY"
	bash "$guest/boot.sh" --no-poweroff "$2" | sed -n 's/.*seconds_boot=\([0-9.]*\).*/\1/p' >>"$work/boot-$1"
}
