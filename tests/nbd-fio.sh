#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# fio writes a disk in which each block carries its own checksum and place, the disk is backed up, and fio verifies it
# over the export: several connections, random order, many requests in flight, cold and with a cache of next to nothing.
# It must also see a block that is wrong, or all this proves nothing.
. "$(dirname "$0")/functions.sh"

requires fio --version
requires bash -c "fio --enghelp | grep -qw nbd"

export LIVEPOINT_PASSPHRASE='fio fio'
jobs=4
part=$((6 * 1024 * 1024)) # of each job
truncate -s $((jobs * part)) disk.raw

# What both runs have in common: block sizes that do not fit chunks, compressible data, crc32c in each block's header.
cat >common.fio <<END
[global]
size=$part
offset_increment=$part
numjobs=$jobs
verify=crc32c
verify_fatal=1
buffer_compress_percentage=60
buffer_compress_chunk=512
randseed=20261121
allow_file_create=0
group_reporting
END

# fio_run NAME ENGINE-OPTIONS...: one job file; the output stays in NAME.out.
fio_run() {
	local name=$1
	shift
	{ cat common.fio; echo "[$name]"; printf '%s\n' "$@"; } >"$name.fio"
	fio --output="$name.out" "$name.fio" || { cat "$name.out"; return 1; }
}

fio_run write ioengine=psync filename="$tmp/disk.raw" rw=write bs=12k do_verify=0 || fail "fio cannot write"
make_repo "$tmp/repo" --encrypt
point=$(lp -q backup web1 vda=disk.raw)
# a second point in which one block is overwritten by a copy of another: right bytes at a wrong place
cp --sparse=always disk.raw bad.raw
dd if=disk.raw of=bad.raw bs=12288 skip=40 seek=7 count=1 conv=notrunc status=none
bad=$(lp -q backup web1 vda=bad.raw)

start_plugin cache=1M
verify_over() {
	local name=$1 which=$2
	shift 2
	fio_run "$name" ioengine=nbd uri="nbd+unix:///$which/vda?socket=$plugin_sock" bs=12k do_verify=1 verify_only=1 "$@"
}
verify_over random "$point" rw=randwrite iodepth=16 || fail "random verification over the export"
verify_over sequential "$point" rw=write iodepth=4 || fail "sequential verification over the export"
# as many blocks as were written were looked at
blocks=$((jobs * (part / 12288)))
for name in random sequential; do
	got=$(sed -n 's/.*issued rwts: total=\([0-9]*\),.*/\1/p' $name.out)
	[ "$got" = $blocks ] || { cat $name.out; fail "$name: fio looked at '$got' of $blocks blocks"; }
done
if verify_over wrong "$bad" rw=randwrite iodepth=16 >wrong.txt 2>&1; then
	cat wrong.out
	fail "fio did not see the wrong block"
fi
grep -q "bad header offset 491520, wanted 86016" wrong.txt || { cat wrong.txt; fail "fio failed for another reason"; }
stop_plugin
