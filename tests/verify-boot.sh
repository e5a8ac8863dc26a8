#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Proof by booting in a session of libvirt, as an ordinary user, with the guest of one boot sector: each criterion that it can meet,
# disks that do not boot, damage, several points at a time, the command killed in the middle; plain and encrypted.
. "$(dirname "$0")/functions.sh"
# shellcheck source=libvirt.sh
. "$abs_top_srcdir/tests/libvirt.sh"
# shellcheck source=recover-help.sh
. "$abs_top_srcdir/tests/recover-help.sh"

recover_start
make_record_disk "$u/disk.raw" 16M || fail "boot sector"
# one that goes no further than its first instructions: cli; hlt; jmp
{ printf '\372\364\353\375'; head -c 506 /dev/zero; printf '\125\252'; } >"$u/dead.raw"
truncate -s 1M "$u/dead.raw"
# one that resets the machine: ljmp 0xffff:0
{ printf '\352\000\000\377\377'; head -c 505 /dev/zero; printf '\125\252'; } >"$u/reset.raw"
truncate -s 1M "$u/reset.raw"
chmod 644 "$u"/*.raw
ul -q init
point=$(ul -q backup tick vda="$u/disk.raw")
ul -q backup dead vda="$u/dead.raw" >/dev/null
ul -q backup reset vda="$u/reset.raw" >/dev/null

boot() {
	ul verify "$@" --boot --memory 64M
}

shown() { # POINT FILTER of the field boot
	ul --json show "$1" | jq -e ".boot | $2" >/dev/null || fail "show $1: not $2: $(ul --json show "$1" | jq -c .boot)"
}

is_png() {
	[ "$(head -c 8 "$1" | od -An -tx1 | tr -d ' \n')" = 89504e470d0a1a0a ] || fail "no PNG: $(head -c 16 "$1" | od -c)"
}

# --- what does not go together ---
for words in "--wait 5" "--exec true" "--expect x" "--timeout 5" "--parallel 2" "--memory 64M" "--connect qemu:///session"; do
	# shellcheck disable=SC2086
	expect_exit 2 ul verify tick $words 2>/dev/null
done
expect_exit 2 ul verify tick dead 2>/dev/null
expect_exit 2 ul verify tick --boot --data 2>/dev/null
expect_exit 2 ul verify tick --boot --expect x 2>/dev/null
expect_exit 2 ul verify tick --boot --wait 20 --timeout 20 2>/dev/null
expect_exit 2 ul verify tick --boot --parallel 0 2>/dev/null
expect_exit 2 ul verify tick --boot --parallel 33 2>/dev/null
expect_exit 13 ul verify nobody --boot 2>/dev/null
[ "$(ul --json show tick | jq -c .boot)" = null ] || fail "a proof of a point that was never booted"
expect_exit 13 ul show tick --screenshot "$u/none.png" 2>/dev/null
[ ! -e "$u/none.png" ] || fail "a screenshot of nothing"

# --- a marker on the console ---
before=$(ul --json list | jq -c 'map({id, stored})')
boot tick --wait 0000002a >"$tmp/out" 2>"$tmp/err" || fail "marker: $(cat "$tmp/out" "$tmp/err")"
grep -q "^$point: boots: a line of the console ended in '0000002a' after" "$tmp/out" || fail "marker: $(cat "$tmp/out")"
shown tick '.passed and .criterion == "marker" and .marker == "0000002a" and .accelerator == "tcg" and .screenshot and .seconds > 0 and
	(.machine | length > 0) and .exec == null and .damage == [] and (.console | any(. == "0000002a")) and
	(.console | length <= 41)'
[ "$(ul --json list tick | jq -r '.[0].verified.kind')" = boot ] || fail "list: $(ul list)"
[ "$(ul --json list | jq -c 'map({id, stored})')" = "$before" ] || fail "points have changed"
ul show tick | grep -q "^Boot: *passed, .*: a line of the console ended in '0000002a'" || fail "show: $(ul show tick)"
ul -q show tick --screenshot "$u/screen.png" >/dev/null || fail "--screenshot"
is_png "$u/screen.png"
nothing_left "marker"

# --- so long ---
boot tick --wait 2 --json >"$tmp/out" 2>"$tmp/err" || fail "seconds: $(cat "$tmp/out" "$tmp/err")"
jq -se --arg point "$point" '(.[0] | .type == "boot" and .point == $point and .passed and .criterion == "seconds" and .seconds >= 2 and .screenshot) and
	(.[1] | .type == "summary" and .kind == "boot" and .points == 1 and .failed == 0)' "$tmp/out" >/dev/null || fail "seconds: $(cat "$tmp/out")"
nothing_left "seconds"

# --- what does not boot ---
expect_exit 1 boot dead --wait 0000002a --timeout 4 >"$tmp/out" 2>"$tmp/err"
grep -q ": boot failed: no line of the console ended in '0000002a' within 4 s" "$tmp/out" || fail "dead: $(cat "$tmp/out")"
grep -q "boot failed" "$tmp/err" || fail "dead: $(cat "$tmp/err")"
shown dead '(.passed | not) and .screenshot and .seconds == null and .console == []'
[ "$(ul --json list dead | jq -c '.[0].verified')" = null ] || fail "a failed boot is a verification: $(ul list)"
ul show dead | grep -q "^Boot: *boot failed, " || fail "show: $(ul show dead)"
nothing_left "dead"
expect_exit 1 boot dead --wait agent --timeout 3 >"$tmp/out" 2>/dev/null
grep -q "no guest agent answered within 3 s" "$tmp/out" || fail "no agent: $(cat "$tmp/out")"
expect_exit 1 boot tick --timeout 4 >"$tmp/out" 2>/dev/null
grep -q "within 4 s no guest agent answered and no line of the console ended in 'login:'" "$tmp/out" || fail "default: $(cat "$tmp/out")"
expect_exit 1 boot tick --wait 0000002a --exec true --timeout 6 >"$tmp/out" 2>/dev/null
grep -q "it booted, but no guest agent answered within 6 s" "$tmp/out" || fail "exec: $(cat "$tmp/out")"
[ "$(ul --json list tick | jq -r '.[0].verified.kind')" = boot ] || fail "a later failure takes the mark: $(ul list)"
expect_exit 1 boot reset --wait 20 >"$tmp/out" 2>/dev/null
grep -q "it stopped, or began anew" "$tmp/out" || fail "reset: $(cat "$tmp/out")"
nothing_left "reset"

# --- several, and all ---
expect_exit 1 boot tick dead reset --wait 0000002a --timeout 8 --parallel 2 >"$tmp/out" 2>"$tmp/err"
[ "$(wc -l <"$tmp/out")" -eq 3 ] && [ "$(grep -c ": boots:" "$tmp/out")" -eq 1 ] || fail "several: $(cat "$tmp/out")"
grep -q "2 of 3 points did not pass" "$tmp/err" || fail "several: $(cat "$tmp/err")"
nothing_left "several"
second=$(ul -q backup tick vda="$u/disk.raw")
expect_exit 1 boot --wait 0000002a --timeout 6 --parallel 3 >"$tmp/out" 2>/dev/null
[ "$(wc -l <"$tmp/out")" -eq 3 ] && grep -q "^$second: boots" "$tmp/out" || fail "all: $(cat "$tmp/out")"
nothing_left "all"

# --- killed in the middle: the guest ends at once, the next run removes the rest ---
killed() {
	boot tick --wait never --timeout 60 >/dev/null 2>&1 &
	wait_for 30 eval 'v list --name | grep -q ^verify-r' || fail "no guest"
	id=$(ul --json recoveries | jq -r '.[0].id')
	[ "$(field "$id" state)" = starting ] || fail "its state: $(field "$id" state)"
	expect_exit 11 ul discard "$id" 2>/dev/null
	kill -KILL "$(pgrep -U "$libvirt_uid" -f "livepoint verify tick" | tail -n 1)"
	wait || :
	wait_for 20 eval '[ -z "$(v list --all --name | tr -d "\n")" ]' || fail "the guest lives: $(v list --all)"
}
killed
boot tick --wait 0000002a >/dev/null 2>&1 || fail "the run after a kill"
nothing_left "killed"
killed
expect_exit 1 ul recover --resume "$id" 2>"$tmp/err"
grep -q "proof by booting" "$tmp/err" || fail "resume: $(cat "$tmp/err")"
ul -q discard "$id" || fail "discard of what a kill left"
nothing_left "killed and discarded"
# interrupted: nothing waits for the next run
boot tick --wait never --timeout 60 >/dev/null 2>&1 &
wait_for 30 eval 'v list --name | grep -q ^verify-r' || fail "no guest"
kill -TERM "$(pgrep -U "$libvirt_uid" -f "livepoint verify tick" | tail -n 1)"
wait || :
nothing_left "interrupted"
# faults on the way: nothing is left, and no verdict
id=$(ul -q backup fault vda="$u/disk.raw")
for fault in recover.boot.overlay recover.boot.guest recover.record.write; do
	extra=(LIVEPOINT_FAULT="$fault:1:fail")
	boot fault --wait 0000002a >/dev/null 2>&1 && fail "fault at $fault: it passed"
	extra=()
	[ "$(ul --json show fault | jq -c .boot)" = null ] || fail "fault at $fault: a verdict"
	nothing_left "fault at $fault"
done

# --- damage ---
as_user cp disk.raw hurt.raw
random_bytes 65536 3 | as_user dd of=hurt.raw conv=notrunc status=none
as_user dd if=disk.raw of=hurt.raw bs=512 count=1 conv=notrunc status=none
good=$(ul -q backup hurt vda="$u/disk.raw")
bad=$(ul -q backup hurt vda="$u/hurt.raw")
pack=$(find "$u/repo/packs" -name '*.pack' -size +60k -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d' ' -f2)
chmod u+w "$pack"
printf 'livepoint' | dd of="$pack" bs=1 seek=30000 conv=notrunc status=none
expect_exit 4 boot "$bad" --wait 0000002a --timeout 20 >"$tmp/out" 2>"$tmp/err"
grep -q "disk 'vda' of $bad is damaged from byte 0 to 65536; point $good has that range whole" "$tmp/err" || fail "damage: $(cat "$tmp/err")"
grep -q "^$bad: boot failed: disk 'vda' of" "$tmp/out" || fail "damage: $(cat "$tmp/out")"
shown "$bad" '(.passed | not) and (.damage[0] | .disk == "vda" and .start == 0 and .length == 65536)'
nothing_left "damage"

# --- encrypted: neither verdict nor screen can be read without the key ---
repository=$u/secret
extra=(LIVEPOINT_PASSPHRASE=secret)
ul -q init --encrypt
ul -q backup tock vda="$u/disk.raw" >/dev/null
boot tock --wait 0000002a >/dev/null 2>"$tmp/err" || fail "encrypted: $(cat "$tmp/err")"
shown tock '.passed and .screenshot'
ul -q show tock --screenshot "$u/secret.png" >/dev/null || fail "encrypted: --screenshot"
is_png "$u/secret.png"
nothing_left "encrypted"
grep -rqa "0000002a\|IHDR" "$u/secret/proofs" && fail "the proof can be read without the key"
extra=()
[ "$(ul --json show tock | jq -c .boot)" = null ] || fail "a verdict without the key"
[ "$(ul --json list tock | jq -r '.[0].verified.kind')" = boot ] || fail "encrypted: $(ul list)"
expect_exit 12 ul show tock --screenshot "$u/secret2.png" 2>/dev/null
