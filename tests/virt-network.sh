#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# An isolated network of a system daemon: a bridge without address or DHCP whose ports do not see each other, there and gone.  The
# daemon runs in namespaces of mounts and network of its own, so nothing of this machine is touched.
. "$(dirname "$0")/functions.sh"

requires test "$(id -u)" -eq 0 # for a system daemon
PATH=$PATH:/usr/sbin:/sbin
requires command -v libvirtd
requires command -v ip
requires unshare -m -n --propagation private true
driver=$abs_top_builddir/tests/virt-driver
requires test -x "$driver"

mkdir b b/etc b/lib b/log b/cache
printf 'user = "root"\ngroup = "root"\nsecurity_driver = "none"\n' >b/etc/qemu.conf # Debian's own user may not be there
cat >inside <<EOS
set -e
mount -t tmpfs none /run
for dir in etc:/etc/libvirt lib:/var/lib/libvirt log:/var/log/libvirt cache:/var/cache/libvirt; do
	mount --bind "$tmp/b/\${dir%%:*}" "\${dir#*:}"
done
mkdir /run/libvirt
ip link set lo up
libvirtd -d -p "$tmp/libvirtd.pid" >&2
export LIBVIRT_DEFAULT_URI=qemu:///system
d() { "$driver" "\$@"; }
d open
d network lp-iso up
virsh -q net-dumpxml lp-iso >"$tmp/net.xml"
ip -o addr show dev lp-iso >"$tmp/addr"
! d network lp-iso up 2>"$tmp/again"
! d network lp-iso-far-too-long up 2>"$tmp/long"
d network lp-iso down
d network lp-iso down
! ip link show dev lp-iso 2>/dev/null
EOS
for dir in /etc/libvirt /var/lib/libvirt /var/log/libvirt /var/cache/libvirt; do
	if [ ! -d $dir ]; then
		mkdir -p $dir # only to mount upon
		cleanup_fn rmdir $dir
	fi
done
stop_daemon() {
	local pid n
	pid=$(cat "$tmp/libvirtd.pid" 2>/dev/null) || return 0
	kill "$pid" 2>/dev/null || return 0
	for ((n = 0; n < 50; n++)); do
		kill -0 "$pid" 2>/dev/null || return 0
		sleep 0.1
	done
}
cleanup_fn stop_daemon
unshare -m -n --propagation private bash inside >out 2>err || fail "$(cat out err)"
grep -qx session=0 out && grep -qx 'uri=qemu:///system' out || fail "connection: $(cat out)"
[ "$(grep -c '^result=' out)" = 3 ] && [ "$(grep '^result=' out | tr -d '\n')" = result=0result=1result=0 ] || fail "$(cat out)"
grep -q "<port isolated='yes'/>" net.xml || fail "$(cat net.xml)"
! grep -qE '<ip|<forward|<dhcp' net.xml || fail "a way out: $(cat net.xml)"
! grep -q 'inet ' addr || fail "an address: $(cat addr)"
grep -q '^exists: ' again || fail "twice: $(cat again)"
grep -q '^invalid: .*15 bytes' long || fail "name: $(cat long)"
