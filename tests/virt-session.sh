#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A guest in a session of libvirt, as an ordinary user, through the face of virt/: its life, its screen, its disk moved while it
# writes, and what goes wrong in between.
. "$(dirname "$0")/functions.sh"
# shellcheck source=libvirt.sh
. "$abs_top_srcdir/tests/libvirt.sh"

requires libvirt_usable
requires command -v nbdkit
requires command -v nbdcopy
requires test -x "$abs_top_builddir/tests/virt-driver"

export LIBVIRT_WARM=$abs_top_builddir/tests/libvirt-warm
cleanup_fn libvirt_stop
libvirt_start "$tmp/u" || fail "no session of libvirt"
libvirt_bring "$abs_top_builddir" tests/virt-driver
u=$tmp/u
driver=built/tests/virt-driver
d() { as_user $driver "$@"; }
# holds KEY=VALUE COMMAND...: what the driver prints has that line
holds() {
	local want=$1
	shift
	"$@" >"$tmp/out" || fail "$*"
	grep -qxF -- "$want" "$tmp/out" || fail "$*: no '$want' in: $(cat "$tmp/out")"
}
# refuses CODE COMMAND...: fails with that code
refuses() {
	local want=$1
	shift
	! "$@" >"$tmp/out" 2>"$tmp/err" || fail "not refused: $*"
	grep -q "^$want: ." "$tmp/err" || fail "$*: not '$want': $(cat "$tmp/err")"
}

# listen: events go to $tmp/events from now on; unlisten ends that
listen() {
	as_user $driver events 300 >"$tmp/events" 2>&1 &
	for ((n = 0; n < 300; n++)); do ! grep -qs ^waiting= "$tmp/events" || return 0; sleep 0.1; done
	fail "no connection for events: $(cat "$tmp/events")"
}
unlisten() {
	kill "$(sed -n 's/^waiting=//p' "$tmp/events")"
	wait
}

# --- connection ---
holds session=1 d open
holds local=1 d open
refuses unsupported as_user env LIBVIRT_DEFAULT_URI=test:///default $driver open
refuses not-found d status nobody
refuses io d slow 1
grep -q 'no answer from libvirt within' "$tmp/err" || fail "the limit: $(cat "$tmp/err")"
refuses unsupported d network lpt0 up

# --- a disk on an NBD server, a guest on it ---
make_record_disk "$u/golden.raw" 16M || fail "boot sector"
as_user nbdkit -U "$u/n.sock" -P "$u/n.pid" memory 16M
nbdcopy "$u/golden.raw" "nbd+unix:///?socket=$u/n.sock"
d make 'tick & <tock>' "$u/n.sock" web@1/vda "$u/serial.log" >"$u/g.xml"
d define g.xml || fail "libvirt does not take it"
v undefine 'tick & <tock>' >/dev/null

holds name=0 d knows 'tick & <tock>' 00000000-0000-4000-8000-000000000000
listen
d create g.xml paused >"$tmp/created" || fail "create"
uuid=$(sed -n 's/^uuid=//p' "$tmp/created")
holds name=1 d knows 'tick & <tock>' "$uuid"
holds uuid=1 d knows nobody "$uuid"
holds state=paused d status 'tick & <tock>'
holds reason=user d status "$uuid"
holds persistent=0 d status "$uuid"
refuses exists d create g.xml
[ ! -s "$u/serial.log" ] || fail "a paused guest printed: $(cat "$u/serial.log")"
holds result=0 d power "$uuid" resume
wait_records "$u/serial.log" 3 || fail "the guest does not run"
holds state=running d status "$uuid"

# --- live XML: policy, and does this libvirt keep <reconnect>? ---
d xml "$uuid" live >"$tmp/live.xml"
grep -q "error_policy='stop' rerror_policy='stop'" "$tmp/live.xml" || fail "policy: $(grep '<driver' "$tmp/live.xml")"
d disks "$uuid" >"$tmp/disks"
kept=$(grep -c "<reconnect delay" "$tmp/live.xml" || :)
grep -qE "^disk=vda virtio network .* reconnect=$kept size=16777216\$" "$tmp/disks" || fail "disks: $(cat "$tmp/disks")"
echo "libvirt keeps <reconnect>: $kept"

# --- screen, agent ---
d screenshot "$uuid" screen.png
[ "$(head -c 8 "$u/screen.png" | od -An -tx1 | tr -d ' \n')" = 89504e470d0a1a0a ] || fail "not a PNG"
! d agent "$uuid" '{"execute":"guest-ping"}' 2 >"$tmp/out" 2>"$tmp/err" || fail "an agent in a boot sector"

# --- move the disk while the guest writes: a target that is too small fails, the guest goes on ---
as_user truncate -s 1M small.raw
holds event=failed d copy "$uuid" vda "$u/small.raw" raw reuse
holds state=running d status "$uuid"
before=$(last_record "$u/serial.log")
wait_records "$u/serial.log" "$before" || fail "the guest stopped with the copy"
holds copy=none d copy-status "$uuid" vda
! d copy "$uuid" vda "$u/nowhere/x.raw" raw reuse >"$tmp/out" 2>"$tmp/err" || fail "a copy into a missing folder"
refuses invalid d copy "$uuid" vda relative.raw raw reuse

# abort: stays where it was
holds end=canceled d copy "$uuid" vda "$u/other.raw" raw make 0 abort
grep -qx 'abort=1 again=0' "$tmp/out" || fail "abort: $(cat "$tmp/out")"
grep -q "type network\|^disk=vda virtio network" <(d disks "$uuid") || fail "the guest moved without a pivot"

# slowly at first: READY does not come, a pivot is refused; let go, READY, pivot
as_user qemu-img create -q -f qcow2 moved.qcow2 16M
d copy "$uuid" vda "$u/moved.qcow2" qcow2 reuse 64K pivot >"$tmp/out" || fail "copy: $(cat "$tmp/out")"
for line in 'early=running 65536' copy=ready event=ready end=done; do
	grep -qxF "$line" "$tmp/out" || fail "copy: no '$line' in: $(cat "$tmp/out")"
done
d disks "$uuid" | grep -q "^disk=vda virtio file $u/moved.qcow2 " || fail "not moved: $(d disks "$uuid")"
kill "$(<"$u/n.pid")" # the server is not needed any more
before=$(last_record "$u/serial.log")
wait_records "$u/serial.log" $((before + 50)) || fail "the guest died with the server it left"

# --- permanent, and gone ---
holds result=0 d power "$uuid" persist
holds persistent=1 d status "$uuid"
d xml "$uuid" inactive | grep -q "$u/moved.qcow2" || fail "the definition names another disk"
holds result=0 d power "$uuid" suspend
holds state=paused d status "$uuid"
last=$(last_record "$u/serial.log")
holds result=1 d power "$uuid" destroy
holds result=0 d power "$uuid" destroy
holds state=off d status "$uuid"
holds result=1 d power "$uuid" undefine
refuses not-found d status "$uuid"
qemu-img convert -O raw "$u/moved.qcow2" "$tmp/moved.raw"
got=$(disk_record "$tmp/moved.raw" "$last")
[ "$got" = "$last" ] || fail "record $last was printed, its sector has $got"
cmp -n 512 "$u/golden.raw" "$tmp/moved.raw" || fail "boot sector"

unlisten
for kind in started paused resumed copy stopped; do
	grep -q "^event=$kind .*name=tick & <tock> " "$tmp/events" || fail "no event '$kind': $(cat "$tmp/events")"
done
grep -q "^event=copy .* disk=vda " "$tmp/events" || fail "event without disk"

# --- a server that dies: the guest pauses with its write, and goes on when the server is back ---
as_user cp golden.raw second.raw
rm -f "$u/n.sock"
as_user nbdkit -U "$u/n.sock" -P "$u/n.pid" file second.raw
: >"$u/serial.log"
d create g.xml >"$tmp/created" || fail "create"
uuid=$(sed -n 's/^uuid=//p' "$tmp/created")
wait_records "$u/serial.log" 3 || fail "the guest does not run"
listen
kill -9 "$(<"$u/n.pid")"
for ((n = 0; n < 300; n++)); do ! d status "$uuid" | grep -qx reason=io-error || break; sleep 0.1; done
holds reason=io-error d status "$uuid"
d disks "$uuid" | grep -qx 'error=vda no-space=0' || fail "disk errors: $(d disks "$uuid")"
grep -q '^event=io-error .* disk=vda ' "$tmp/events" || fail "no event of the error: $(cat "$tmp/events")"
rm -f "$u/n.sock"
as_user nbdkit -U "$u/n.sock" -P "$u/n.pid" file second.raw
before=$(last_record "$u/serial.log")
for ((n = 0; n < 100; n++)); do
	d power "$uuid" resume >/dev/null 2>&1 || :
	sleep 0.2
	! d status "$uuid" | grep -qx state=running || [ "$(last_record "$u/serial.log")" -le $((before + 5)) ] || break
done
wait_records "$u/serial.log" $((before + 5)) || fail "the guest does not go on"
! grep -aq E "$u/serial.log" || fail "the guest saw an error"
holds result=0 d power "$uuid" suspend
last=$(last_record "$u/serial.log")
holds result=1 d power "$uuid" destroy
refuses not-found d status "$uuid"
unlisten
got=$(disk_record "$u/second.raw" "$last")
[ "$got" = "$last" ] || fail "record $last was printed, its sector has $got"

# --- storage pools ---
as_user mkdir pool
v pool-create-as lp dir --target "$u/pool" >/dev/null
holds block=0 d volume lp new.qcow2 qcow2 16M
grep -qx "path=$u/pool/new.qcow2" "$tmp/out" || fail "volume: $(cat "$tmp/out")"
[ "$(qemu-img info --output=json "$u/pool/new.qcow2" | jq '.["virtual-size"]')" = 16777216 ] || fail "size of the volume"
refuses exists d volume lp new.qcow2 qcow2 16M
refuses not-found d volume nopool new.qcow2 qcow2 16M
holds result=1 d volume-remove lp new.qcow2
holds result=0 d volume-remove lp new.qcow2
v pool-destroy lp >/dev/null
echo "virt-session: the guest printed $last records on its second disk"
