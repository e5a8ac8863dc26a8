#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Where a point can go: a file, a block device, an NBD server, a folder of files; and what is refused before a byte is
# written: too small, in use, existing, read-only.
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/nbd-servers.sh"
requires jq --version
requires nbdkit --version

make_repo
truncate -s 96M disk.raw
random_file part 11M 1
dd if=part of=disk.raw bs=1M seek=30 conv=notrunc status=none
dd if=part of=disk.raw bs=4k count=1 seek=$((24 * 1024 - 1)) conv=notrunc status=none
lp backup web disk.raw
want=$(sha disk.raw)

# refused CODE TEXT ARGS...: the restore ends with that code and says that.
refused() {
	local code=$1 text=$2
	shift 2
	expect_exit "$code" lp restore "$@" 2>err.txt
	grep -q -- "$text" err.txt || { cat err.txt >&2; fail "no '$text' for: $*"; }
}

# --- files ---
lp restore web out.raw --verify
[ "$(sha out.raw)" = "$want" ] || fail "a file differs"
[ "$(stat -c %b out.raw)" -le $((12 << 11)) ] || fail "a file is not sparse"
[ "$(stat -c %a out.raw)" = 600 ] || fail "a new file is open to others"
refused 1 '--overwrite' web out.raw
refused 1 'does not exist' web none.raw --delta
refused 2 'delta' web out2.raw --from web
refused 1 'No such file' web nowhere/out.raw
mkfifo pipe
refused 1 'neither a file' web pipe
refused 13 '' nothing out2.raw
refused 13 '' web/vdz out2.raw
head -c 200M /dev/zero >long.raw
chmod 640 long.raw
ln -s long.raw link.raw
lp restore web link.raw --overwrite
[ -L link.raw ] || fail "a link was replaced"
[ "$(sha long.raw)" = "$want" ] || fail "an overwritten file differs"
[ "$(stat -c %a long.raw)" = 640 ] || fail "an overwritten file lost its mode"

# a restore that is killed or fails leaves no file that looks finished; the next one takes over
LIVEPOINT_FAULT=restore.target.write:5:kill lp restore web killed.raw 2>/dev/null && fail "it was not killed"
[ ! -e killed.raw ] || fail "a killed restore left a file"
[ -e killed.raw.livepoint-partial ] || fail "the partial file is not where it should be"
lp restore web killed.raw
[ "$(sha killed.raw)" = "$want" ] || fail "after a kill the file differs"
[ ! -e killed.raw.livepoint-partial ] || fail "the partial file stayed"
printf old >kept.raw
LIVEPOINT_FAULT=restore.target.write:5:kill lp restore web kept.raw --overwrite 2>/dev/null && fail "it was not killed"
[ "$(cat kept.raw)" = old ] || fail "a killed restore changed the old file"
rm -f ./*.livepoint-partial
for fault in restore.file.create:1:enospc restore.target.write:2:enospc restore.target.sync:1:eio \
	restore.file.rename:1:eio; do
	status=0
	LIVEPOINT_FAULT=$fault lp restore web failed.raw 2>/dev/null || status=$?
	[ $status = 1 ] || fail "$fault ended with $status"
	[ -z "$(find . -name 'failed.raw*')" ] || fail "$fault left a file"
done

# in use: under a program's locks, under a loop device
cp disk.raw used.raw
python3 -c '
import fcntl, os, struct, sys, time
fd = os.open("used.raw", os.O_RDWR)
fcntl.fcntl(fd, 37, struct.pack("hhqqi", fcntl.F_RDLCK, 0, 100, 1, 0)) # F_OFD_SETLK, as QEMU does
print("ready", flush=True)
time.sleep(60)' >ready &
locker=$!
cleanup_fn kill $locker
for ((i = 0; i < 400; i++)); do [ ! -s ready ] || break; sleep 0.025; done
refused 1 'in use' web used.raw --delta
refused 1 'in use' web used.raw --overwrite

# --- folders ---
lp backup two a=disk.raw b=part
mkdir dir
lp restore two dir --verify
cmp disk.raw dir/a.raw || fail "first of two"
cmp part dir/b.raw || fail "second of two"
lp restore two/b single.raw
cmp part single.raw || fail "one of two"
lp restore two newdir
cmp part newdir/b.raw || fail "a new folder"
refused 1 'exists' two dir
touch plainfile
refused 2 'folder' two plainfile --overwrite

# --- NBD ---
truncate -s 100M target.raw
start_nbdkit nbd --filter=log file target.raw logfile="$tmp/nbd.requests"
lp --json restore web "$nbd_uri" --verify >out.json
stop_plugin nbd
cmp -n $((96 << 20)) disk.raw target.raw || fail "NBD differs"
[ "$(log_bytes Write nbd.requests)" -le $((12 << 20)) ] || fail "zeroes were written"
[ -z "$(log_ranges Zero nbd.requests)" ] || fail "what was a hole was zeroed"
grep -q 'Flush' nbd.requests || fail "no flush"
# over old content: zeroed by requests, each byte touched once
random_file target.raw 96M 7
start_nbdkit nbd --filter=log file target.raw logfile="$tmp/nbd2.requests"
lp restore web "$nbd_uri"
stop_plugin nbd
cmp disk.raw target.raw || fail "NBD over old content differs"
[ $(($(log_bytes Write nbd2.requests) + $(log_bytes Zero nbd2.requests))) = $((96 << 20)) ] || fail "not each byte once"
# a server that cannot zero, with small requests
random_file target.raw 96M 7
start_nbdkit nbd --filter=nozero --filter=noextents --filter=blocksize-policy file target.raw \
	blocksize-minimum=512 blocksize-preferred=4K blocksize-maximum=64K blocksize-error-policy=error
lp restore web "$nbd_uri" --verify
stop_plugin nbd
cmp disk.raw target.raw || fail "NBD without zeroing differs"
random_file small.raw 95M 8
was=$(sha small.raw)
start_nbdkit nbd file small.raw
refused 1 'too small' web "$nbd_uri"
refused 2 'takes one' two "$nbd_uri"
stop_plugin nbd
start_nbdkit nbd -r file target.raw
refused 1 'no writing' web "$nbd_uri"
stop_plugin nbd
[ "$(sha small.raw)" = "$was" ] || fail "something was written before refusing"
refused 1 'nonexistent' web 'nbd+unix:///?socket=/nonexistent'
# a server that fails in the middle
start_nbdkit nbd --filter=error memory 100M error-pwrite=ENOSPC error-pwrite-rate=10%
refused 1 'cannot write\|No space' web "$nbd_uri"
stop_plugin nbd

# --- block devices ---
[ "$(id -u)" = 0 ] || exit 0
random_file dev.raw 96M 9
loop=$(losetup --find --show dev.raw) || skip "no loop device"
cleanup_fn losetup -d "$loop"
refused 1 'loop device' web dev.raw --delta
lp restore web "$loop" --verify
cmp disk.raw "$loop" || fail "a device differs"
random_file small.raw 95M 8
small=$(losetup --find --show small.raw)
cleanup_fn losetup -d "$small"
refused 1 'too small' web "$small"
cmp small.raw "$small" || fail "a small device was written"
python3 -c '
import os, sys, time
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_EXCL)
print("ready", flush=True)
time.sleep(60)' "$loop" >exclusive &
holder=$!
for ((i = 0; i < 400; i++)); do [ ! -s exclusive ] || break; sleep 0.025; done
refused 1 'in use' web "$loop"
refused 1 'in use' web "$loop" --delta --overwrite
kill $holder
wait $holder 2>/dev/null || true
if mkfs.ext4 -q "$loop" && mkdir mnt && mount "$loop" mnt; then
	cleanup_fn umount mnt
	refused 1 'mounted at' web "$loop"
	refused 1 'mounted at' web "$loop" --overwrite
	umount mnt
	cleanup_fns=("${cleanup_fns[@]/umount mnt /true}")
	lp restore web "$loop" --delta
	cmp disk.raw "$loop" || fail "a device brought back by --delta differs"
fi
