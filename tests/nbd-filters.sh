#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The plugin under nbdkit's own filters, with --run, in the background, and its --dump-plugin.
. "$(dirname "$0")/functions.sh"

requires nbdcopy --version
requires qemu-io --version

# A disk with a partition table: one partition of 2 MiB at 1 MiB.
random_file part.raw 2M 3
truncate -s 4M disk.raw
# entry 1: type 83, first sector 2048, 4096 sectors; then the signature
printf '\0\0\0\0\203\0\0\0\0\010\0\0\0\020\0\0' | dd of=disk.raw bs=1 seek=446 conv=notrunc status=none
printf '\125\252' | dd of=disk.raw bs=1 seek=510 conv=notrunc status=none
dd if=part.raw of=disk.raw bs=1M seek=1 conv=notrunc status=none
make_repo
point=$(lp -q backup web1 vda=disk.raw)

# partition: the bytes of the partition alone.
start_plugin -o --filter=partition point="$point" partition=1
nbdcopy "$plugin_uri" got.raw
cmp part.raw got.raw || fail "the partition filter shows other bytes"
stop_plugin

# cow: writes are taken and thrown away; the point stays as it was.
start_plugin -o --filter=cow point="$point"
qemu-io -f raw -c 'write -P 0x5a 65000 1000' "$plugin_uri" >/dev/null || fail "no writes under cow"
qemu-io -r -f raw -c 'read -P 0x5a 65000 1000' "$plugin_uri" | grep -q 'verification failed' &&
	fail "a write under cow is lost"
stop_plugin
start_plugin point="$point"
nbdcopy "$plugin_uri" got.raw
cmp disk.raw got.raw || fail "the point has changed"
stop_plugin

# cache, readahead, blocksize and offset in one pile.
start_plugin -o --filter=offset -o --filter=blocksize -o --filter=readahead -o --filter=cache \
	point="$point" offset=1048576 range=2M
nbdcopy "$plugin_uri" got.raw
cmp part.raw got.raw || fail "a pile of filters shows other bytes"
stop_plugin

# exportname gives a short name to a long one.
start_plugin -o --filter=exportname default-export="$point/vda"
nbdcopy "$plugin_uri" got.raw
cmp disk.raw got.raw || fail "default-export shows other bytes"
stop_plugin

# --run: nbdkit forks with the repository closed and opens it in the child.  The status is the
# command's, so the server is judged by what the command saw.
nbdkit -U - "$LIVEPOINT_PLUGIN" "$LIVEPOINT_REPOSITORY" point="$point" --run "nbdcopy \"\$uri\" '$tmp/run.raw'"
cmp disk.raw run.raw || fail "--run shows other bytes"

# In the background, as a daemon: the fork is a real one.
nbdkit -P "$tmp/daemon.pid" -U "$tmp/daemon.sock" "$LIVEPOINT_PLUGIN" repo="$LIVEPOINT_REPOSITORY" point="$point"
# The parent ends at the fork; the child writes its number when it is ready.
for ((i = 0; i < 400; i++)); do
	[ ! -s daemon.pid ] || break
	sleep 0.025
done
daemon=$(cat daemon.pid)
cleanup_fn kill "$daemon"
nbdcopy "nbd+unix:///?socket=$tmp/daemon.sock" got.raw
cmp disk.raw got.raw || fail "the daemon shows other bytes"
nbdcopy --threads=4 --connections=4 --request-size=65536 "nbd+unix:///?socket=$tmp/daemon.sock" got.raw
cmp disk.raw got.raw || fail "the daemon shows other bytes to four connections"
kill "$daemon"
for ((i = 0; i < 400; i++)); do
	kill -0 "$daemon" 2>/dev/null || break
	sleep 0.025
done
kill -0 "$daemon" 2>/dev/null && fail "the daemon does not end"
cleanup_fns=()
[ -z "$(ls -A "$LIVEPOINT_REPOSITORY/locks")" ] || fail "the daemon left its lock: $(ls "$LIVEPOINT_REPOSITORY/locks")"

nbdkit "$LIVEPOINT_PLUGIN" --dump-plugin >dump
for line in name=livepoint max_thread_model=parallel magic_config_key=repo livepoint_version= livepoint_format=1 \
	livepoint_writable=yes has_extents=1 has_cache=1; do
	grep -q "^$line" dump || { cat dump; fail "--dump-plugin has no $line"; }
done
nbdkit "$LIVEPOINT_PLUGIN" --help >help
for parameter in repo= point= cache= passphrase-file= passphrase-fd= key-fd= lock-fd=; do
	grep -qF -- "$parameter" help || fail "--help does not know $parameter"
	grep -qF -- "$parameter" <(sed 's/\\//g' "$abs_top_srcdir/man/nbdkit-livepoint-plugin.1" | sed 's/^\.BI \(.*\)= /\1=/') ||
		fail "the manual page does not know $parameter"
done
