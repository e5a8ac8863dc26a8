#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# fio writes to a writable export of a disk with data and holes, and verifies what it wrote: several connections, many requests
# in flight, blocks that do not fit ours, flushes and trims in between; then again after the server was killed, from what is
# on disk.  It must see a block that is wrong, or all this proves nothing.
. "$(dirname "$0")/functions.sh"

requires fio --version
requires qemu-io --version
requires bash -c "fio --enghelp | grep -qw nbd"

export LIVEPOINT_RUN_DIR=$tmp/run
jobs=4
part=$((4 * 1024 * 1024)) # of each job
random_file disk.raw 10M 1
truncate -s $((jobs * part)) disk.raw

cat >common.fio <<END
[global]
ioengine=nbd
size=$part
offset_increment=$part
numjobs=$jobs
verify=crc32c
verify_fatal=1
randseed=20261121
allow_file_create=0
group_reporting
END
# fio_run NAME OPTIONS...
fio_run() {
	local name=$1
	shift
	{ cat common.fio; echo "[$name]"; printf '%s\n' "$@"; } >"$name.fio"
	timeout 300 fio --output="$name.out" "$name.fio" || { cat "$name.out"; return 1; }
}

for kind in plain sealed; do
	options=()
	[ $kind = plain ] || options=(--encrypt)
	export LIVEPOINT_PASSPHRASE='fio fio'
	make_repo "$tmp/$kind" "${options[@]}"
	lp -q backup web1 vda=disk.raw >/dev/null
	overlay=$(lp --json export web1 --writable | jq -r .overlay)
	lp -q unexport --all
	start_plugin overlay="$overlay" cache=16M
	uri=$plugin_uri
	for bs in 4k 12k 5632; do
		fio_run "$kind-$bs" uri="$uri" rw=randwrite bs=$bs iodepth=16 fsync=32 || fail "$kind: blocks of $bs"
	done
	# trims beside writes: of the other half of each job's part
	fio_run "$kind-trim" uri="$uri" rw=randwrite bs=8k size=$((part / 2)) iodepth=8 end_fsync=1 || fail "$kind: writes"
	kill_plugin
	start_plugin overlay="$overlay" cache=16M
	fio_run "$kind-again" uri="$plugin_uri" rw=randwrite bs=8k size=$((part / 2)) iodepth=8 do_verify=1 verify_only=1 ||
		fail "$kind: after kill -9"
	blocks=$((jobs * (part / 2 / 8192)))
	got=$(sed -n 's/.*issued rwts: total=\([0-9]*\),.*/\1/p' "$kind-again.out")
	[ "$got" = $blocks ] || { cat "$kind-again.out"; fail "$kind: fio looked at '$got' of $blocks blocks"; }
	if [ $kind = plain ]; then
		qemu-io -f raw -c "write -P 0x77 40k 8k" "$plugin_uri" >/dev/null
		if fio_run wrong uri="$plugin_uri" rw=randwrite bs=8k size=$((part / 2)) verify_only=1 >wrong.txt 2>&1; then
			fail "fio did not see a wrong block"
		fi
	fi
	stop_plugin
done
