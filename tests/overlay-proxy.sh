#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A client that does not reconnect writes, through the proxy, to an overlay on the shared server; the server is killed and away
# for OUTAGE seconds: the client waits, sees no error, and what it verifies is what it wrote, also what was answered and not
# flushed before the server was killed, without its writing it again.
. "$(dirname "$0")/functions.sh"

requires fio --version
requires qemu-io --version
requires jq --version
requires bash -c "fio --enghelp | grep -qw nbd"

outage=${OUTAGE:-6}
export LIVEPOINT_RUN_DIR=$tmp/run LIVEPOINT_PASSPHRASE=proxy
cleanup_fn lp -q unexport --all --force
random_file disk.raw 8M 1
truncate -s 32M disk.raw
make_repo "$tmp/repo" --encrypt
lp -q backup web1 vda=disk.raw >/dev/null
overlay=$(lp --json export web1 --writable | jq -r .overlay)
lp -q unexport --all
read -r proxy _ sock < <("$abs_top_builddir/tests/serve-shared" "$LIVEPOINT_REPOSITORY" proxy 60)
uri="nbd+unix:///$overlay/vda?socket=$sock"
of_shared() { lp --json exports | jq -r ".[] | select(.kind == \"shared\") | .$1"; }

# kill_for SECONDS: the server is killed, and its supervisor asleep for so long
kill_for() {
	local supervisor server
	supervisor=$(of_shared supervisor) server=$(of_shared pid)
	kill -STOP "$supervisor"
	kill -KILL "$server"
	sleep "$1"
	kill -CONT "$supervisor"
}

# --- fio: writes for longer than the outage, then reads all of it back ---
cat >job.fio <<END
[writes]
ioengine=nbd
uri=$uri
size=24M
bs=4k
rw=randwrite
iodepth=8
fsync=64
rate_iops=400
verify=crc32c
verify_fatal=1
randseed=7
allow_file_create=0
END
fio --output=fio.out job.fio &
client=$!
sleep 3
kill -0 "$client" || { cat fio.out; fail "fio was over too early"; }
begun=$(date +%s)
kill_for "$outage"
wait "$client" || { cat fio.out; fail "the client has seen an error"; }
[ "$(sed -n 's/.*total=[0-9]*,\([0-9]*\),.*/\1/p' fio.out)" = 6144 ] || { cat fio.out; fail "fio has not written all"; }
max=$(sed -nE 's/.*sync .*: min=.*max=([0-9.]+)(.*),.*/\1/p' fio.out | head -n 1)
echo "fio went on after an outage of $outage s ($(($(date +%s) - begun)) s after the kill)${max:+, longest sync $max}"

# --- answered, not flushed: a client that stays connected over the kill finds it, and can flush it then ---
mkfifo commands
qemu-io -f raw "$uri" <commands >answers 2>&1 &
client=$!
exec 8>commands
echo "write -P 0x5c 26M 64k" >&8
for ((i = 0; i < 400; i++)); do
	! grep -q "wrote 65536/65536" answers || break
	sleep 0.025
done
grep -q "wrote 65536/65536" answers || { cat answers; fail "no answer"; }
kill_for 1
{ echo "read -P 0x5c 26M 64k"; echo flush; echo "read -P 0x5c 26M 64k"; } >&8
exec 8>&-
wait "$client" || { cat answers; fail "the client has failed"; }
if grep -qE "failed|error" answers; then cat answers; fail "what was answered before the kill is gone"; fi
[ "$(grep -c "read 65536/65536" answers)" -eq 2 ] || { cat answers; fail "not both reads"; }
[ -n "$proxy" ] && lp -q unexport "$proxy"
