#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# NBD servers as sources: several requests in flight, holes never read, block sizes respected, short answers to block
# status, servers without it, odd sizes.
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/nbd-servers.sh"
requires jq --version
requires nbdkit --version

make_repo
truncate -s 256M disk.raw
random_file part 9M 1
dd if=part of=disk.raw bs=1M seek=50 conv=notrunc status=none
dd if=part of=disk.raw bs=4k count=3 seek=40001 conv=notrunc status=none # holes beside it inside a chunk
dd if=part of=disk.raw bs=4k count=1 seek=65535 conv=notrunc status=none # the last bytes
allocated=$(($(stat -c %b disk.raw) * 512))

# same NAME: the newest point is disk.raw.
same() {
	rm -f out.raw
	lp restore "$1" out.raw
	cmp disk.raw out.raw || fail "$1 differs"
}

# holes are never read, each byte at most once, nothing above the maximum
start_nbdkit plain --filter=log file disk.raw logfile="$tmp/plain.requests"
lp --json backup plain "$nbd_uri" >1.json
same plain
stop_plugin plain
log_ranges Read plain.requests >reads
[ -s reads ] || fail "nothing was logged"
bytes=$(awk '{ n += $2 } END { print n }' reads)
[ "$bytes" -le "$allocated" ] || fail "$bytes bytes were read, $allocated are allocated"
[ "$(json_of 1.json .read)" = "$bytes" ] || fail "read: $(json_of 1.json .read), the server saw $bytes"
python3 - reads disk.raw <<'PY' || fail "holes were read"
import os, sys
fd = os.open(sys.argv[2], os.O_RDONLY)
for line in open(sys.argv[1]):
    offset, count = map(int, line.split())
    assert count <= 256 << 10, count
    assert os.lseek(fd, offset, os.SEEK_DATA) == offset, offset
    assert os.lseek(fd, offset, os.SEEK_HOLE) >= offset + count, (offset, count)
PY

# in flight: with 60 ms a read, one after the other would take 36 x 60 ms and more
start_nbdkit slow --filter=log --filter=delay file disk.raw rdelay=60ms logfile="$tmp/slow.requests"
lp --json backup plain "$nbd_uri" >2.json
stop_plugin slow
most=$(awk '/ Read id=/ { for (i = 1; i <= NF; i++) if ($i ~ /^id=/) { id = $i } ; n++; if (n > most) most = n }
	/ \.\.\.Read id=/ { n -= 2 } END { print most }' slow.requests)
[ "$most" -ge 8 ] || fail "only $most requests were in flight"
[ "$(json_of 2.json .chunks_new)" = 0 ] || fail "unchanged chunks stored"

# a server with narrow limits
start_nbdkit limits --filter=blocksize-policy file disk.raw blocksize-minimum=4096 blocksize-preferred=32K \
	blocksize-maximum=64K blocksize-error-policy=error
lp backup limits "$nbd_uri"
same limits
stop_plugin limits
start_nbdkit coarse --filter=blocksize-policy file disk.raw blocksize-minimum=64K blocksize-preferred=64K \
	blocksize-maximum=128K blocksize-error-policy=error
lp backup limits "$nbd_uri"
same limits
stop_plugin coarse

# one without block status: all is read, zeroes are found all the same
start_nbdkit noextents --filter=noextents file disk.raw
lp --json backup noextents "$nbd_uri" >3.json
same noextents
stop_plugin noextents
[ "$(json_of 3.json .read)" = $((256 << 20)) ] || fail "not all was read"
[ "$(json_of 3.json .stored)" -le $((10 << 20)) ] || fail "zeroes were stored"

# many small extents, answered a few at a time by QEMU
for ((i = 0; i < 300; i++)); do printf 'block %d' $i | dd of=disk.raw bs=1 seek=$((i * 12288 + 200704)) conv=notrunc status=none; done
if command -v qemu-nbd >/dev/null; then
	qemu-nbd -r -f raw -k "$tmp/q.sock" --pid-file="$tmp/q.pid" --fork disk.raw
	lp backup qemu "nbd+unix:///?socket=$tmp/q.sock"
	same qemu
fi
start_nbdkit many --filter=log file disk.raw logfile="$tmp/many.requests"
lp backup many "$nbd_uri"
same many
stop_plugin many
[ "$(log_bytes Read many.requests)" -le $(($(stat -c %b disk.raw) * 512)) ] || fail "small holes were read"

# an odd size, an export name, TCP
head -c 1000001 part >odd.raw
start_nbdkit odd file dir="$tmp"
lp backup odd "nbd+unix:///odd.raw?socket=$nbd_sock"
stop_plugin odd
lp restore odd out.raw --overwrite
truncate -s 1000448 odd.raw
cmp odd.raw out.raw || fail "an odd size differs"
port=$((20000 + $$ % 20000))
nbdkit -P tcp.pid -i 127.0.0.1 -p $port file disk.raw
cleanup_fn kill "$(cat tcp.pid)"
lp backup tcp nbd://127.0.0.1:$port/
same tcp
