#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Migration in a session of libvirt, as an ordinary user, of a guest that writes from its first instruction: to a file, a folder, a
# server, and two disks; the command killed at each of its steps and called again; taken back; the guest's power cut at the
# end, every record there.  And a guest that is gone while it is copied.
. "$(dirname "$0")/functions.sh"
# shellcheck source=libvirt.sh
. "$abs_top_srcdir/tests/libvirt.sh"
# shellcheck source=recover-help.sh
. "$abs_top_srcdir/tests/recover-help.sh"

recover_start
make_record_disk "$u/disk.raw" 48M || fail "boot sector"
random_bytes 32M 3 | dd of="$u/disk.raw" bs=1M seek=16 conv=notrunc status=none
random_file "$u/second.raw" 8M 7
chmod 644 "$u"/*.raw
ul -q init
ul -q backup tick vda="$u/disk.raw" vdb="$u/second.raw" >/dev/null

# recovered: a guest that writes; sets name and id.
recovered() {
	rm -f "$tmp/serial"
	name=$(ul -q recover "$@" --memory 64M --paused) || fail "recover $*"
	id=$(ul --json recoveries | jq -r '.[0].id')
	watch_serial "$name" "$tmp/serial"
	v resume "$name"
	wait_records "$tmp/serial" 50 || fail "it does not write"
}

quiet() {
	ul "$@" >/dev/null 2>&1
}

goes_on() {
	local at
	at=$(last_record "$tmp/serial")
	wait_records "$tmp/serial" $((at + 20)) 60 || fail "$1: the guest does not go on; $(v domstate "$name" --reason); $(cat "$run"/g*.log)"
}

# power_cut FILE FORMAT: ends the guest, whose last acknowledged records are in FILE then.
power_cut() {
	local last
	last=$(last_record "$tmp/serial")
	v destroy "$name" >/dev/null || fail "destroy"
	as_user qemu-img convert -f "$2" -O raw "$1" "$u/after.raw" || fail "convert $1"
	check_records "$u/after.raw" "$last" || fail "records are lost in $1"
	cmp -s <(tail -c 32M "$u/disk.raw") <(tail -c 32M "$u/after.raw") || fail "$1 differs from the point"
	v undefine "$name" >/dev/null || fail "$name was not persistent"
	rm -f "$u/after.raw"
}

# --- what cannot be ---
recovered tick --disks vda
expect_exit 2 quiet migrate "$name"
expect_exit 13 quiet migrate nobody --to "$u/x.qcow2"
touch "$u/there.qcow2"
expect_exit 1 quiet migrate "$name" --to "$u/there.qcow2"
expect_exit 2 quiet migrate "$name" --to nbd:ftp://somewhere
expect_exit 1 quiet migrate "$name" --abort
[ ! -s "$u/there.qcow2" ] || fail "what stood there was written to"
[ "$(field "$id" state)" = running ] || fail "refusals changed the state: $(field "$id" state)"

# --- taken back: by hand, and because there is no room ---
ul -q migrate "$name" --to "$u/slow.qcow2" --bandwidth 1M >/dev/null 2>&1 &
pid=$!
wait_for 20 eval '[ "$(field "$id" state)" = migrating ] && field "$id" progress | grep -q "[1-9]"' || fail "no progress: $(ul recoveries)"
expect_exit 11 quiet migrate "$name"
expect_exit 11 quiet discard "$id"
pkill -TERM -U "$libvirt_uid" -f "migrate $name"
wait "$pid" && fail "a migration that was ended says that it is done"
[ "$(field "$id" state)" = migrating ] || fail "ended: $(field "$id" state)"
expect_exit 1 quiet discard "$id"
ul -q migrate "$name" --abort >/dev/null || fail "--abort"
[ "$(field "$id" state)" = running ] && [ ! -e "$u/slow.qcow2" ] || fail "--abort left $(field "$id" state)"
goes_on "taken back"

# --- moved, while it writes ---
[ "$(ul -q migrate "$name" --to "$u/moved.qcow2")" = tick ] || fail "migrate"
goes_on "moved"
nothing_of() { [ "$(ul --json recoveries)" = "[]" ] && [ "$(ul --json overlays)" = "[]" ]; }
nothing_of || fail "left: $(ul recoveries; ul overlays)"
v dumpxml "$name" --inactive | grep -q "$u/moved.qcow2" || fail "the definition: $(v dumpxml "$name" --inactive)"
power_cut "$u/moved.qcow2" qcow2
nothing_left "moved"

# --- killed at each step, called again ---
for at in targets:1 copying:1 ready:1 suspended:1 pivoted:1 pivoted:2 persisted:1 clean:1; do
	recovered tick
	status=0
	extra=("LIVEPOINT_FAULT=recover.migrate.$at:kill")
	ul -q migrate "$name" --to "$u" >/dev/null 2>&1 || status=$?
	extra=()
	[ $status -eq 137 ] || fail "not killed at $at: $status"
	goes_on "killed at $at"
	ul -q migrate "$name" >/dev/null || fail "again after $at: $(ul recoveries)"
	goes_on "again after $at"
	nothing_of || fail "killed at $at, left: $(ul recoveries; ul overlays)"
	cmp -s "$u/second.raw" <(as_user qemu-img convert -U -O raw "$u/tick-vdb.qcow2" "$u/b.raw" && cat "$u/b.raw") ||
		fail "killed at $at: the second disk differs"
	power_cut "$u/tick-vda.qcow2" qcow2
	rm -f "$u"/tick-vd?.qcow2 "$u/b.raw"
	nothing_left "killed at $at"
done

# --- to a server, raw; its own server killed meanwhile ---
recovered tick --disks vda
as_user nbdkit -U "$u/n.sock" -P "$u/n.pid" memory 48M
(sleep 1; kill -KILL "$(server_pid shared)") &
ul -q migrate "$name" --to "nbd:nbd+unix:///?socket=$u/n.sock" --bandwidth 8M >/dev/null || fail "migrate to a server"
goes_on "on a server"
last=$(last_record "$tmp/serial")
v destroy "$name" >/dev/null
as_user nbdcopy "nbd+unix:///?socket=$u/n.sock" "$u/after.raw"
check_records "$u/after.raw" "$last" || fail "records are lost on the server"
v undefine "$name" >/dev/null
kill "$(cat "$u/n.pid")"
rm -f "$u/after.raw"
nothing_left "to a server"

# --- the guest goes while it is copied: finished without it, and defined, off; also killed in that ---
for at in none offline; do
	recovered tick
	ul -q migrate "$name" --to "$u" --bandwidth 1M >"$tmp/out" 2>&1 &
	pid=$!
	wait_for 20 eval '[ "$(field "$id" state)" = migrating ] && field "$id" progress | grep -q "[1-9]"' || fail "no progress"
	if [ $at != none ]; then
		pkill -KILL -U "$libvirt_uid" -f "migrate $name"
		wait "$pid" 2>/dev/null || :
	fi
	last=$(last_record "$tmp/serial")
	v destroy "$name" >/dev/null
	if [ $at != none ]; then
		extra=("LIVEPOINT_FAULT=recover.migrate.$at:1:kill")
		ul -q migrate "$id" >/dev/null 2>&1 && fail "not killed at $at"
		extra=()
		ul -q migrate "$id" >"$tmp/out" 2>&1 || fail "again: $(cat "$tmp/out")"
	else
		wait "$pid" || fail "finished without the guest: $(cat "$tmp/out")"
	fi
	nothing_of || fail "without the guest, left: $(ul recoveries; ul overlays)"
	as_user qemu-img convert -O raw "$u/tick-vda.qcow2" "$u/after.raw"
	check_records "$u/after.raw" "$last" || fail "records are lost without the guest"
	[ "$(v domstate "$name")" = "shut off" ] || fail "it is not defined, off"
	v start "$name" >/dev/null || fail "it does not start from where it was copied to"
	v destroy "$name" >/dev/null
	v undefine "$name" >/dev/null
	rm -f "$u"/tick-vd?.qcow2 "$u/after.raw"
	nothing_left "without the guest"
done
