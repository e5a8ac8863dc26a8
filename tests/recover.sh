#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Recoveries in a session of libvirt, as an ordinary user: a guest that writes from its first instruction; servers, supervisors,
# the watcher and libvirtd killed under it; identity, disks, local overlays, damage, a key that only a person has.
. "$(dirname "$0")/functions.sh"
# shellcheck source=libvirt.sh
. "$abs_top_srcdir/tests/libvirt.sh"
# shellcheck source=recover-help.sh
. "$abs_top_srcdir/tests/recover-help.sh"

recover_start
make_record_disk "$u/disk.raw" 16M || fail "boot sector"
random_file "$u/second.raw" 4M 7
chmod 644 "$u"/*.raw
ul -q init
point=$(ul -q backup tick vda="$u/disk.raw")

# --- a plan changes nothing ---
ul recover tick --dry-run --memory 64M >"$tmp/plan" 2>/dev/null || fail "--dry-run"
grep -q "^guest tick$" "$tmp/plan" && grep -q '<name>tick</name>' "$tmp/plan" || fail "the plan: $(cat "$tmp/plan")"
ul --json recover tick --dry-run | jq -e '(.plan | test("accelerator tcg")) and (.xml | test("error_policy"))' >/dev/null ||
	fail "the plan as JSON"
nothing_left "plan"

# --- what cannot be ---
expect_exit 13 ul recover nobody 2>/dev/null
expect_exit 13 ul recover tick --disks vdz 2>/dev/null
expect_exit 2 ul recover tick --keep-identity --new-identity 2>/dev/null
expect_exit 2 ul recover tick --network isolated --network a=b 2>/dev/null
expect_exit 2 ul recover tick --network elsewhere 2>/dev/null
expect_exit 2 ul recover tick --overlay somewhere 2>/dev/null
expect_exit 2 ul recover 2>/dev/null
expect_exit 13 ul recover --resume r00000000 2>/dev/null
expect_exit 13 ul discard r00000000 2>/dev/null
expect_exit 2 ul recover tick/vda 2>/dev/null
nothing_left "refusals"

# --- a guest that runs ---
name=$(ul -q recover tick --memory 64M --paused) || fail "recover"
[ "$name" = tick ] || fail "it is called '$name'"
id=$(ul --json recoveries | jq -r '.[0].id')
[ "$(field "$id" guest)" = paused ] || fail "--paused: $(field "$id" guest)"
ul --json recoveries | jq -e --arg point "$point" '
	length == 1 and (.[0] | .point == $point and .name == "tick" and .state == "running" and .here and .watched and
	.accelerator == "tcg" and .connection == "qemu:///session" and (.overlay | test("^o[0-9a-f]{8}$")) and
	.problem == null and .damage == [] and .progress == null and (.created | test("Z$")))' >/dev/null ||
	fail "recoveries --json: $(ul --json recoveries)"
ul overlays | grep -q "$id" || fail "the overlay is not called as the recovery"
watch_serial tick "$tmp/serial"
v resume tick
wait_records "$tmp/serial" 50 || fail "it does not write"

# servers die; the guest notes a pause at most
for i in 1 2 3 4; do
	sleep 0.$((RANDOM % 10))
	kill -KILL "$(server_pid shared)"
	at=$(last_record "$tmp/serial")
	wait_records "$tmp/serial" $((at + 20)) 60 || fail "round $i: the server was killed: $(cat "$run"/g*.log)"
done
if [ -n "$(server proxy)" ]; then
	kill -KILL "$(server_pid proxy)"
	at=$(last_record "$tmp/serial")
	wait_records "$tmp/serial" $((at + 20)) 60 || fail "the proxy was killed: $(cat "$run"/g*.log)"
	kill -KILL "$(server proxy supervisor)"
	sleep 0.5
	at=$(last_record "$tmp/serial")
	wait_records "$tmp/serial" $((at + 20)) 90 || fail "the proxy's supervisor was killed: $(cat "$run"/g*.log)"
fi
kill -KILL "$(server shared supervisor)"
sleep 0.5
at=$(last_record "$tmp/serial")
wait_records "$tmp/serial" $((at + 20)) 90 || fail "the server's supervisor was killed: $(cat "$run"/g*.log)"

# the watcher dies: recoveries starts another
watcher() { pgrep -U "$libvirt_uid" -f watch-guests; }
kill -KILL "$(watcher)"
wait_for 5 eval '! watcher >/dev/null'
[ "$(field "$id" watched)" = true ] || fail "recoveries starts no watcher"
wait_for 5 eval '! flock -n "$run"/g*.lock true' || fail "there is no watcher"
expect_exit 11 ul watch-guests qemu:///session 2>/dev/null

# libvirtd restarts under it
if [ -f "$u/run/libvirt/libvirtd.pid" ]; then
	kill -KILL "$(cat "$u/run/libvirt/libvirtd.pid")"
	v list >/dev/null
	wait_for 30 eval 'tail -n 1 "$run"/g*.log | grep -q "connected to"' || fail "not connected again: $(cat "$run"/g*.log)"
	kill -KILL "$(server_pid shared)"
	at=$(last_record "$tmp/serial")
	wait_records "$tmp/serial" $((at + 20)) 60 || fail "after a restart of libvirtd: $(cat "$run"/g*.log)"
fi

# --- a name that is taken ---
other=$(ul -q recover tick --memory 64M) || fail "a second one"
other_id=$(ul --json recoveries | jq -r --arg id "$id" '.[] | select(.id != $id) | .id')
[ "$other" = "tick-$other_id" ] || fail "the second one is called '$other'"
[ "$(v domuuid tick)" != "$(v domuuid "$other")" ] || fail "two guests of one uuid"
expect_exit 1 ul recover tick --keep-identity 2>"$tmp/err"
grep -q "already" "$tmp/err" || fail "--keep-identity: $(cat "$tmp/err")"
expect_exit 1 ul recover tick --as tick 2>/dev/null
expect_exit 11 ul -q unexport "$(server shared)" 2>/dev/null

# --- the power goes: what was written is there ---
v destroy tick >/dev/null
last=$(last_record "$tmp/serial")
wait_for 10 eval '[ "$(field "$id" state)" = ended ]' || fail "state after the end: $(field "$id" state)"
read_disk "$id" vda "$u/after.raw"
check_records "$u/after.raw" "$last" || fail "records are lost"
cmp -s <(head -c 512 "$u/disk.raw") <(head -c 512 "$u/after.raw") || fail "another boot sector"

# --- again from what it wrote; then nothing of it stays, and the other one runs on ---
[ "$(ul -q recover --resume "$id")" = tick ] || fail "--resume"
[ "$(field "$id" guest)" = running ] || fail "it does not run again"
[ "$(ul -q recover --resume tick)" = tick ] || fail "--resume of one that runs"
ul -q discard "$id" || fail "discard"
[ "$(v list --name | tr -d '\n')" = "$other" ] || fail "guests: $(v list)"
[ "$(field "$other_id" guest)" = running ] || fail "the other one: $(field "$other_id" guest)"
ul -q discard "$(field "$other_id" overlay)" || fail "discard by the overlay"
nothing_left "discard"
[ "$(ul --json list | jq length)" = 1 ] || fail "points: $(ul list)"

# --- two disks, one of them ---
two=$(ul -q backup two vda="$u/disk.raw" vdb="$u/second.raw")
ul -q recover two --memory 64M --new-identity --disk-bus sata >"$tmp/name"
id=$(ul --json recoveries | jq -r '.[0].id')
[ "$(cat "$tmp/name")" = "two-$id" ] || fail "--new-identity: $(cat "$tmp/name")"
v domblklist "two-$id" >"$tmp/disks"
[ "$(grep -c "$(field "$id" overlay)/vd[ab]" "$tmp/disks")" -eq 2 ] || fail "two disks: $(cat "$tmp/disks")"
[ "$(grep -c '^ *sd[ab] ' "$tmp/disks")" -eq 2 ] || fail "their bus: $(cat "$tmp/disks")"
ul -q discard "$id"
ul -q recover two --memory 64M --disks vda --as small >/dev/null
[ "$(v domblklist small | grep -c /vd)" -eq 1 ] || fail "one disk: $(v domblklist small)"
ul -q discard small || fail "discard by the guest's name"
nothing_left "two disks"

# --- local overlays: qcow2 files of this host ---
ul -q recover tick --memory 64M --overlay local >/dev/null || fail "--overlay local"
id=$(ul --json recoveries | jq -r '.[0].id')
[ -f "$u/state/overlays/$id-vda.qcow2" ] || fail "no local file: $(find "$u/state")"
v domblklist tick | grep -q "$id-vda.qcow2" || fail "local: $(v domblklist tick)"
[ "$(field "$id" local)" = true ] || fail "it does not say that it is local"
wait_for 20 eval '[ "$(field "$id" bytes)" -gt 300000 ]' || fail "nothing is written: $(field "$id" bytes)"
kill -KILL "$(server_pid shared)"
before=$(field "$id" bytes)
sleep 1
[ "$(field "$id" guest)" = running ] || wait_for 30 eval '[ "$(field "$id" guest)" = running ]' || fail "local, server killed"
ul -q discard "$id"
nothing_left "local overlay"
mkdir -p "$u/files" && chown --reference="$u" "$u/files"
ul -q recover "$two" --memory 64M --overlay local:"$u/files" >/dev/null || fail "--overlay local:DIR"
[ "$(find "$u/files" -name '*.qcow2' | wc -l)" -eq 2 ] || fail "two local files: $(ls "$u/files")"
ul -q discard two
[ -z "$(ls "$u/files")" ] || fail "local files are left"
nothing_left "local overlay elsewhere"

# --- damage: the guest stops there, and it is said where, and what to use instead ---
good=$(ul -q backup hurt vda="$u/disk.raw")
as_user cp disk.raw hurt.raw
random_bytes 65536 3 | as_user dd of=hurt.raw conv=notrunc status=none
as_user dd if=disk.raw of=hurt.raw bs=512 count=1 conv=notrunc status=none
bad=$(ul -q backup hurt vda="$u/hurt.raw")
pack=$(find "$u/repo/packs" -name '*.pack' -size +60k -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d' ' -f2)
chmod u+w "$pack"
# the boot sector is in the same chunk: its damage would stop the firmware, so a chunk further on is needed
as_user cp disk.raw far.raw
random_bytes 65536 4 | as_user dd of=far.raw bs=65536 seek=3 conv=notrunc status=none
bad=$(ul -q backup hurt vda="$u/far.raw")
pack=$(find "$u/repo/packs" -name '*.pack' -size +60k -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d' ' -f2)
chmod u+w "$pack"
printf 'livepoint' | dd of="$pack" bs=1 seek=30000 conv=notrunc status=none
ul -q recover "$bad" --memory 64M >/dev/null
id=$(ul --json recoveries | jq -r '.[0].id')
wait_for 90 eval '[ "$(field "$id" problem)" != null ]' || fail "no word of the damage: $(cat "$run"/g*.log)"
[ "$(field "$id" guest)" = paused-io-error ] || fail "damage: the guest is $(field "$id" guest)"
field "$id" problem >"$tmp/problem"
grep -q "disk 'vda' of $bad is damaged from byte 196608 to 262144" "$tmp/problem" || fail "which: $(cat "$tmp/problem")"
ul --json recoveries | jq -e --arg bad "$bad" '.[0].damage[0] | .disk == "vda" and .start == 196608 and .length == 65536 and
	(.whole | startswith("hurt@")) and .whole != $bad' >/dev/null || fail "damage: $(ul --json recoveries)"
grep -q "point $(ul --json recoveries | jq -r '.[0].damage[0].whole') has" "$tmp/problem" || fail "what to use: $(cat "$tmp/problem")"
resumed=$(grep -c "goes on" "$run"/g*.log) || :
sleep 3
[ "$(grep -c "goes on" "$run"/g*.log || :)" = "$resumed" ] || fail "it is resumed again and again: $(cat "$run"/g*.log)"
ul -q discard "$id"
nothing_left "damage"
[ -n "$good" ]

# --- encrypted: a new server needs the passphrase, which the watcher has not ---
repository=$u/secret
extra=(LIVEPOINT_PASSPHRASE=secret)
ul -q init --encrypt
ul -q backup tock vda="$u/disk.raw" >/dev/null
ul -q recover tock --memory 64M --paused >/dev/null
id=$(ul --json recoveries | jq -r '.[0].id')
watch_serial tock "$tmp/serial2"
v resume tock
wait_records "$tmp/serial2" 20 || fail "encrypted: it does not write"
kill -KILL "$(server_pid shared)"
at=$(last_record "$tmp/serial2")
wait_records "$tmp/serial2" $((at + 20)) 60 || fail "encrypted: the server was killed"
kill -KILL "$(server shared supervisor)"
wait_for 60 eval 'field "$id" problem | grep -q passphrase' || fail "encrypted: $(field "$id" problem)"
ul -q recover --resume "$id" >/dev/null || fail "encrypted: --resume"
at=$(last_record "$tmp/serial2")
wait_records "$tmp/serial2" $((at + 20)) 60 || fail "encrypted: it does not go on: $(cat "$run"/g*.log)"
grep -rq "tock-marker" "$u/secret/overlays" && fail "never"
ul -q discard "$id"
nothing_left "encrypted"
extra=()

# --- a repository that cannot be written: only with local files ---
repository=$u/repo
mv "$u/repo" "$u/still"
repository=$u/still
chmod -R a-w "$u/still"
expect_exit 1 ul -q recover tick --memory 64M 2>"$tmp/err"
grep -q -- "--overlay local" "$tmp/err" || fail "read-only: $(cat "$tmp/err")"
ul -q recover "$point" --memory 64M --overlay local >/dev/null || fail "read-only: --overlay local"
id=$(ul --json recoveries | jq -r '.[0].id')
[ -f "$u/state/recoveries/$id/recovery.json" ] || fail "read-only: no record: $(find "$u/state")"
[ "$(field "$id" overlay)" = null ] || fail "read-only: an overlay: $(field "$id" overlay)"
wait_for 20 eval '[ "$(field "$id" bytes)" -gt 250000 ]' || fail "read-only: nothing is written"
ul -q discard "$id" || fail "read-only: discard"
nothing_left "read-only"
chmod -R u+w "$u/still"
