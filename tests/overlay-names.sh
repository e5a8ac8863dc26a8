#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Names of writable exports: OVERLAY-ID/DISK and OVERLAY-NAME/DISK of a server of the whole repository, also of overlays made
# after its start; overlay=; what is listed, offered and refused; points stay read-only; several disks.
. "$(dirname "$0")/functions.sh"

requires nbdinfo --version
requires nbdcopy --version
requires qemu-io --version

export LIVEPOINT_RUN_DIR=$tmp/run
cleanup_fn lp -q unexport --all --force
random_file a.raw 2M 1
random_file b.raw 1M 2
make_repo
two=$(lp -q backup web1 vda=a.raw vdb=b.raw)
one=$(lp -q backup db1 vda=b.raw)

# overlay POINT [NAME]: makes one by way of an export, which ends again; prints its id.
overlay() {
	lp --json export "$1" --writable ${2:+--overlay "$2"} >made.json
	lp -q unexport "$(jq -r .id made.json)"
	jq -r .overlay made.json
}
uri() { echo "nbd+unix:///$1?socket=$plugin_sock"; }
refused() { # refused NAME WORDS
	if nbdinfo --size "$(uri "$1")" >/dev/null 2>&1; then fail "'$1' is served"; fi
	grep -qF -- "$2" "$tmp/plugin.log" || { cat "$tmp/plugin.log"; fail "'$1': no '$2' in the log"; }
}
write() { qemu-io -f raw -c "write -P $2 0 4096" -c flush "$(uri "$1")" >/dev/null; }
holds() { # holds NAME BYTE
	qemu-io -f raw -c "read -P $2 0 4096" "$(uri "$1")" >qemu.log 2>&1 && ! grep -q "verification failed" qemu.log ||
		{ cat qemu.log; fail "'$1' does not hold $2"; }
}

# --- a server of the whole repository ---
start_plugin
o1=$(overlay web1)
[[ $o1 =~ ^o[0-9a-f]{8}$ ]] || fail "id '$o1'"
o2=$(overlay db1 work)
[ "$o1" != "$o2" ] || fail "two overlays have one id"
for name in "$o1/vda" "$o1/vdb" "$o2/vda" work/vda work "$o2"; do
	nbdinfo --size "$(uri "$name")" >/dev/null || fail "'$name' is not served"
	nbdinfo --is read-only "$(uri "$name")" 2>/dev/null && fail "'$name' is read-only"
	for what in flush fua trim zero fast-zero multi-conn; do
		nbdinfo --can "$what" "$(uri "$name")" || fail "'$name': no $what"
	done
done
[ "$(nbdinfo --size "$(uri "$o1/vdb")")" -eq 1048576 ] || fail "size"
nbdinfo "$(uri "$o1/vda")" | grep -q "block_size_preferred: 4096" || fail "no preferred block size of 4096"
nbdinfo "$(uri "$o1/vda")" | grep -q "block_size_minimum: 1$" || fail "no minimum block size of 1"
for name in "$two/vda" db1@latest/vda db1/vda; do
	nbdinfo --is read-only "$(uri "$name")" || fail "'$name' is writable"
	for what in flush fua trim zero; do
		nbdinfo --can "$what" "$(uri "$name")" 2>/dev/null && fail "'$name' has $what"
	done
done
refused "$o1" "has 2 disks"
refused "$o1/vdz" "has no disk 'vdz'"
refused o00000000/vda "there is no overlay 'o00000000'"
refused "" "points and overlays"

# Written by one name, read by the other; the point has not changed; the overlay is free when nobody has it open.
write work/vda 0x5a
holds "$o2/vda" 0x5a
nbdcopy "$(uri "$one/vda")" copy.raw && cmp b.raw copy.raw || fail "the point has changed"
write "$o1/vda" 0x11
write "$o1/vdb" 0x22
holds "$o1/vda" 0x11
holds "$o1/vdb" 0x22

nbdinfo --list "$(uri "")" | sed -nE 's/^export="(.*)":$/\1/p' >names
{ printf '%s\n' "$o1/vda" "$o1/vdb" "$o2/vda" work/vda "$one/vda" "$two/vda" "$two/vdb"; } | diff -u - names || fail "the list"
nbdinfo --list "$(uri "")" | grep -q "writable, of $one, named work" || fail "no description"

# One that another server has: refused here, with the holder in the log; and the other way round (exit 11).
lp --json export "$one" --writable --overlay work >held.json
holder=$(jq -r .pid held.json)
refused work/vda "$holder"
lp -q unexport "$(jq -r .id held.json)"
holds work/vda 0x5a
mkfifo hold
qemu-io -f raw "$(uri work/vda)" <hold >/dev/null 2>&1 &
client=$!
exec 8>hold
for ((i = 0; i < 200; i++)); do
	lp --json export "$one" --writable --overlay work >/dev/null 2>words || break
	lp -q unexport --all
	sleep 0.02
done
expect_exit 11 lp export "$one" --writable --overlay work 2>words
grep -q "$plugin_pid" words || { cat words; fail "exit 11 does not name the holder"; }
exec 8>&-
wait "$client"
stop_plugin || fail "the server has not ended well"

# --- a server of one overlay, by name and by id, and of one disk of it ---
start_plugin overlay=work
holds "" 0x5a
holds "$o2" 0x5a
refused "$one/vda" "is not served here: overlay=$o2"
refused "$o1/vda" "is not served here"
[ "$(nbdinfo --list "$(uri "")" | grep -c '^export=')" -eq 2 ] || fail "more is listed than the overlay's names"
expect_exit 11 lp export "$one" --writable --overlay work 2>/dev/null
stop_plugin
start_plugin overlay="$o1"
refused "" "has 2 disks"
holds "$o1/vdb" 0x22
stop_plugin
start_plugin overlay="$o1/vdb"
holds "" 0x22
refused "$o1/vda" "only disk 'vdb'"
stop_plugin
# with -r nothing is written
start_plugin -o -r overlay="$o1/vdb"
nbdinfo --is read-only "$(uri "")" || fail "-r serves it writable"
stop_plugin
# point= serves no overlay
start_plugin point="$one"
refused work/vda "no restore point 'work'"
refused "$o2/vda" "$o2"
stop_plugin

wrong() { # wrong WORDS PARAMETERS...
	local words=$1
	shift
	if nbdkit -f -U "$tmp/wrong.sock" "$LIVEPOINT_PLUGIN" repo="$LIVEPOINT_REPOSITORY" "$@" >wrong.log 2>&1 </dev/null; then
		fail "nbdkit started with $*"
	fi
	grep -qF -- "$words" wrong.log || { cat wrong.log; fail "$*: no '$words'"; }
}
wrong "overlay=o12345678" overlay=o12345678
wrong "no disk 'vdz'" overlay="$o1/vdz"
wrong "exclude each other" overlay="$o1" point="$one"
nbdkit --dump-plugin "$LIVEPOINT_PLUGIN" | grep -qx livepoint_writable=yes || fail "--dump-plugin"

# --- an overlay's name is not taken by a backup of that name ---
start_plugin
lp -q backup work vda=a.raw >/dev/null
holds work/vda 0x5a
nbdcopy "$(uri work@latest/vda)" copy.raw && cmp a.raw copy.raw || fail "NAME@latest is not the point"
stop_plugin
