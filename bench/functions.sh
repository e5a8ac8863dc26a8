# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash
# What the rows of bench/run share: scratch folder, disks, servers, medians, results.
#
#  1. What is started here ends with the run, and the scratch folder goes, unless --keep.
#  2. A row is printed only when figure and ceiling were both measured; a failing step ends the run.
#
# shellcheck disable=SC2154 # variables of bench/run

readonly passphrase='bench: not a secret'
livepoint=$abs_top_builddir/cli/livepoint
plugin=$abs_top_builddir/nbdkit-plugin/.libs/nbdkit-livepoint-plugin.so
tools=$abs_top_builddir/bench
guest=$abs_top_srcdir/tests/guest
results=$abs_top_builddir/bench-results
declare -A server_pid=()

say()
{
	echo "bench: $*" >&2
}

die()
{
	say "$*"
	exit 1
}

load()
{
	cut -d' ' -f1 /proc/loadavg
}

# lp ARGUMENT...: the livepoint that was built, quietly; REPO and passphrase by environment.
lp()
{
	"$livepoint" -q "$@"
}

# use plain|encrypted FOLDER: a new repository there, which lp and the servers use from now on.
use()
{
	rm -rf "$2"
	export LIVEPOINT_REPOSITORY=$2
	if [ "$1" = encrypted ]; then
		export LIVEPOINT_PASSPHRASE=$passphrase
		lp init --encrypt
	else
		unset LIVEPOINT_PASSPHRASE
		lp init
	fi
}

# measured OUT COMMAND...: runs it, one JSON object more in OUT.
measured()
{
	local out=$1
	shift
	"$tools/bench-measure" "$work/measured" "$@"
	cat "$work/measured" >>"$out"
}

# median FILE FIELD: of the JSON objects in FILE; FIELD is a jq expression.
median()
{
	jq -s "map($2) | sort | .[length / 2 | floor]" "$1"
}

# calc EXPRESSION: a number.
calc()
{
	jq -n "$1"
}

# drop PATH...: out of the page cache.
drop()
{
	local left
	left=$("$tools/bench-nbdlat" drop "$@" | jq .left)
	[ "$left" -lt 1048576 ] || say "warning: $left bytes stayed in the page cache: not cold"
}

# serve NAME NBDKIT-ARGUMENT...: a server on $work/NAME.sock; sets uri.
serve()
{
	local name=$1 i
	shift
	uri="nbd+unix:///?socket=$work/$name.sock"
	rm -f "$work/$name.sock" "$work/$name.pid"
	# Descriptor 9 is the key, for servers that ask for it.
	nbdkit -f -P "$work/$name.pid" -U "$work/$name.sock" "$@" 9<"$work/key" >"$work/$name.log" 2>&1 &
	server_pid[$name]=$!
	for ((i = 0; i < 500; i++)); do
		[ ! -s "$work/$name.pid" ] || return 0
		sleep 0.02
	done
	cat "$work/$name.log" >&2
	die "nbdkit $name did not start"
}

# ours [PARAMETER...]: arguments of a server of the repository in use.
ours()
{
	arguments=("$plugin" "repo=$LIVEPOINT_REPOSITORY" "$@")
	if [ -n "${LIVEPOINT_PASSPHRASE:-}" ]; then
		"$tools/bench-mapscale" key "$LIVEPOINT_REPOSITORY" >"$work/key"
		arguments+=(key-fd=9)
	fi
}

stop()
{
	local pid=${server_pid[$1]:-}
	[ -n "$pid" ] || return 0
	unset "server_pid[$1]"
	kill "$pid" 2>/dev/null || :
	wait "$pid" || :
}

anonymous()
{
	awk '/^RssAnon:/ { print $2 * 1024 }' "/proc/${server_pid[$1]}/status"
}

# row GROUP WHAT UNIT FIGURE CEILING CEILING-NAME RULE LIMIT [NOTE]: one result.  RULE: "le" or "ge": figure
# through ceiling at most or at least LIMIT; "plus": at most LIMIT over the ceiling; "max": at most LIMIT, no
# ceiling; "none": only for information.  CEILING may be "null".
row()
{
	jq -nc --arg group "$1" --arg what "$2" --arg unit "$3" --argjson figure "$4" --argjson ceiling "$5" \
		--arg name "$6" --arg rule "$7" --argjson limit "$8" --arg note "${9:-}" --argjson load "$(load)" '
		(if $ceiling == null or $ceiling == 0 then null else $figure / $ceiling end) as $ratio |
		{group: $group, what: $what, unit: $unit, figure: $figure, ceiling: $ceiling, ceiling_name: $name,
		 ratio: $ratio, rule: $rule, limit: $limit,
		 met: (if $rule == "le" then $ratio <= $limit elif $rule == "ge" then $ratio >= $limit
		       elif $rule == "plus" then $figure <= $ceiling + $limit
		       elif $rule == "max" then $figure <= $limit else null end),
		 load: $load, note: $note}' >>"$work/rows"
	tail -n 1 "$work/rows" | jq -r '"  \(.what): \(.figure) \(.unit), \(.ceiling_name) \(.ceiling), ratio \(.ratio)"' >&2
}

# --- disks ---

# guest_disks: gen0.raw, gen1.raw, gen2.raw: the guest, with packages, logs and a database that change.
guest_disks()
{
	local n
	[ ! -e "$work/disks-complete" ] || return 0
	[ "$(id -u)" = 0 ] || die "the guest disks need root"
	say "making three generations of the guest disk"
	bash "$guest/build.sh" disk "$work/gen0.raw" 2G 2>/dev/null
	bash "$guest/edit.sh" "$work/gen0.raw" bash "$here/generation.sh" 0
	for n in 1 2; do
		cp --sparse=always "$work/gen$((n - 1)).raw" "$work/gen$n.raw"
		bash "$guest/edit.sh" "$work/gen$n.raw" bash "$here/generation.sh" "$n"
	done
	: >"$work/disks-complete"
}

# --- start and end ---

leave()
{
	local status=$? name
	trap - EXIT
	for name in "${!server_pid[@]}"; do
		stop "$name"
	done
	[ "$keep" = yes ] || rm -rf "$work"
	exit "$status"
}

settings()
{
	jq -n --arg version "$("$livepoint" version --json | jq -r .version)" \
		--arg commit "$(git -C "$abs_top_srcdir" describe --always --dirty --exclude "*" 2>/dev/null || echo none)" \
		--arg cpu "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" \
		--arg cpus "$(nproc)" --arg kernel "$(uname -r)" --arg load "$(cut -d' ' -f1-3 /proc/loadavg)" \
		--arg nbdkit "$(nbdkit --version)" --arg date "$(date -u +%Y-%m-%dT%H:%M:%SZ)" \
		--arg cflags "$(sed -n 's/^CFLAGS = //p' "$abs_top_builddir/Makefile" 2>/dev/null)" \
		--argjson reps "$reps" --argjson points "$points" --arg rows "${wanted[*]}" '$ARGS.named'
}

prepare()
{
	local program
	for program in "$livepoint" "$plugin" "$tools"/bench-{measure,primitives,nbdlat,mapscale}; do
		[ -e "$program" ] || die "not built: \"$program\" (run make bench)"
	done
	for program in jq nbdkit nbdcopy; do
		command -v "$program" >/dev/null || die "\"$program\" is not installed"
	done
	mkdir -p "$work"
	work=$(readlink -f "$work")
	trap leave EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	export LIVEPOINT_CACHE_DIR=$work/cache
	: >"$work/rows"
	: >"$work/key"
	settings >"$work/settings"
}

# The text table out of the JSON.
table()
{
	jq -r '
		def short: if . == null then "-" elif (. | fabs) >= 100 then (. | round | tostring)
			else ((. * 1000 | round) / 1000 | tostring) end;
		"livepoint \(.settings.version), commit \(.settings.commit), \(.settings.date)",
		"\(.settings.cpu), \(.settings.cpus) CPUs, kernel \(.settings.kernel), \(.settings.nbdkit), CFLAGS \(.settings.cflags)",
		"repetitions \(.settings.reps) (medians), load at the start \(.settings.load), at the end \(.load_end)", "",
		(["row", "figure", "unit", "ceiling or peer", "its figure", "ratio", "target", "met", "load"],
		 (.rows[] | [.what, (.figure | short), .unit, .ceiling_name, (.ceiling | short), (.ratio | short),
			(if .rule == "le" then "<= \(.limit) x" elif .rule == "ge" then ">= \(.limit) x"
			 elif .rule == "plus" then "<= +\(.limit)" elif .rule == "max" then "<= \(.limit)" else "-" end),
			(if .met == null then "-" elif .met then "yes" else "NO" end), .load]) | @tsv)' "$1" |
		awk -F '\t' 'NR <= 4 { print; next }
			{ n++; for (i = 1; i <= NF; i++) { cell[n, i] = $i; if (length($i) > width[i]) width[i] = length($i) } if (NF > most) most = NF }
			END { for (r = 1; r <= n; r++) { line = ""; for (i = 1; i <= most; i++) line = line sprintf("%-*s  ", width[i], cell[r, i]); sub(/ +$/, "", line); print line } }'
	jq -r '.rows[] | select(.note != "") | "* \(.what): \(.note)"' "$1"
}

finish()
{
	jq -s --slurpfile settings "$work/settings" --arg load_end "$(cut -d' ' -f1-3 /proc/loadavg)" \
		'{settings: $settings[0], load_end: $load_end, rows: .}' "$work/rows" >"$results.json"
	table "$results.json" >"$results.txt"
	cat "$results.txt"
}
