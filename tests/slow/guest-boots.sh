#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Each kind of records guest boots once, writes records, loses its power in the middle, and has every record that its console
# told of: BIOS and UEFI through GRUB with systemd and the guest agent, two disks, the writer as process 1, and that without
# firmware and GRUB.  A second boot goes on where the first one ended; and records.sh sees what it must not find.
# check: alone
. "$(dirname "$0")/../functions.sh"
requires qemu-system-x86_64 --version
requires test "$(id -u)" = 0
requires test -r /usr/share/OVMF/OVMF_CODE_4M.fd

guest=$abs_top_srcdir/tests/guest
root=$(bash "$guest/build.sh" records-tree)
tree=$(dirname "$root")
passed=0 failed=0

# boot NAME DISK [DATA] [OPTION OF boot.sh...]: until record $upto, then the power is cut; prints the time.
upto=20
boot() {
	local name=$1 disk=$2 last
	shift 2
	bash "$guest/boot.sh" --write --no-poweroff --timeout 300 --marker "SEQ $upto" --log "$name.log" "$@" "$disk" >"$name.time" ||
		{ cat "$name.time"; fail "$name did not come to record $upto"; }
	last=$(tr -d '\r' <"$name.log" | sed -n 's/^SEQ \([0-9]*\)$/\1/p' | tail -n 1)
	echo "guest-boots: $name: record $last, $(cat "$name.time")"
	least=$last
}

# judged NAME ARGS OF records.sh...
judged() {
	local name=$1
	shift
	if bash "$guest/records.sh" --least "$least" "$@" >"$name.out" 2>"$name.err"; then
		passed=$((passed + 1))
		sed "s/^/guest-boots: $name: /" "$name.out"
	else
		failed=$((failed + 1))
		echo "guest-boots: $name: FAILED"
		cat "$name.out" "$name.err"
	fi
}

bash "$guest/build.sh" records bios.raw 1G
boot bios bios.raw --agent
judged bios bios.raw
grep -q LIVEPOINT-BOOT-OK bios.log || fail "no end of the boot: $(tail -n 3 bios.log)"

# once more: it goes on behind the last record
upto=$((least + 20))
boot again bios.raw
judged again bios.raw
from=$(tr -d '\r' <again.log | sed -n 's/^RECORDS FROM //p')
[ "$from" -gt 20 ] || fail "the second boot began with record $from"
upto=20
rm bios.raw

bash "$guest/build.sh" records uefi.raw 1G --uefi
boot uefi uefi.raw --uefi --agent
judged uefi uefi.raw
rm uefi.raw

bash "$guest/build.sh" records two.raw 1G --fast --data two-data.raw
boot two two.raw --data two-data.raw
judged two --data two-data.raw two.raw
grep -q 'RECORDS FROM 0, two disks' two.log || fail "not two disks: $(grep RECORDS two.log)"
# the second disk behind the first one: as if it had lost what was written before
bash "$guest/build.sh" records none.raw 1G --data none-data.raw
expect_exit 1 bash "$guest/records.sh" --data none-data.raw two.raw >/dev/null 2>&1
expect_exit 1 bash "$guest/records.sh" --least $((least + 100000)) two.raw >/dev/null 2>&1

bash "$guest/build.sh" records fast.raw 1G
boot direct fast.raw --kernel "$tree/vmlinuz" --initrd "$tree/initrd.img" \
	--append "$(cat "$tree/cmdline") init=/usr/local/sbin/livepoint-records livepoint.records=0"
judged direct fast.raw

# --- what must be seen ---
# seen WHAT FILE LINE STATUS: the judge's line on a file of records, and its status.
writer=$root/usr/local/sbin/livepoint-records
seen() {
	local got status=0
	got=$("$writer" check "$2" 2>/dev/null) || status=$?
	[ "$got" = "$3" ] && [ "$status" -eq "$4" ] || fail "$1: judged as \"$got\", status $status"
	passed=$((passed + 1))
}
dd if=fast.raw of=part.raw bs=1M skip=1 conv=sparse status=none
e2fsck -fp part.raw >/dev/null || [ $? -eq 1 ]
debugfs -R "dump /records records" part.raw 2>/dev/null
truncate -s $((21 * 512)) records
seen 'whole records' records 'highest=20 gaps=0 torn=0 tail=0' 0
cp records bad
dd if=/dev/zero of=bad bs=512 seek=5 count=1 conv=notrunc status=none
seen 'a record of zeroes' bad 'highest=20 gaps=1 torn=0 tail=0' 1
cp records bad
dd if=records of=bad bs=256 skip=17 seek=15 count=1 conv=notrunc status=none
seen 'half of another record' bad 'highest=20 gaps=0 torn=1 tail=0' 1
dd if=records of=bad bs=512 skip=8 seek=7 count=1 conv=notrunc status=none
seen 'another record' bad 'highest=20 gaps=0 torn=1 tail=0' 1
cp records bad
truncate -s $((20 * 512 + 100)) bad
seen 'a cut end' bad 'highest=19 gaps=0 torn=0 tail=1' 0
: >bad
seen 'no record' bad 'highest=- gaps=0 torn=0 tail=0' 0
# a file system that nothing can be said of any more: its inodes are gone
dd if=/dev/urandom of=fast.raw bs=64K count=48 oflag=seek_bytes seek=$((1048576 + 65536)) conv=notrunc status=none
expect_exit 1 bash "$guest/records.sh" fast.raw >/dev/null 2>&1
truncate -s 1M empty.raw
expect_exit 2 bash "$guest/records.sh" empty.raw 2>/dev/null
slow_done guest-boots $passed $failed 11
