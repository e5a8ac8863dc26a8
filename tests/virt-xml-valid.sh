#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What tests/unit/virt-xml makes is what libvirt takes: each result against its schema, defined, and (where nothing but a session
# is needed) started by QEMU, paused.
. "$(dirname "$0")/functions.sh"
# shellcheck source=libvirt.sh
. "$abs_top_srcdir/tests/libvirt.sh"

requires libvirt_usable
requires command -v virt-xml-validate
requires command -v xmllint
requires test -x "$abs_top_builddir/tests/unit/virt-xml"

export LIBVIRT_WARM=$abs_top_builddir/tests/libvirt-warm
cleanup_fn libvirt_stop
libvirt_start "$tmp/u" || fail "no session of libvirt"
u=$tmp/u
libvirt_bring "$abs_top_builddir" tests/virt-driver
driver=built/tests/virt-driver
as_user mkdir xml
as_user $driver host q35 >"$u/host.xml"
abs_top_srcdir=$abs_top_srcdir VIRT_XML_OUT=$u/xml VIRT_XML_DIR=$u VIRT_XML_SOCKET=$u/n.sock VIRT_XML_HOST=$u/host.xml \
	"$abs_top_builddir/tests/unit/virt-xml" >unit.log 2>&1 || fail "unit test: $(grep -v '^\[ *\(RUN\|OK\)' unit.log)"
chmod -R a+rX "$u/xml"
as_user nbdkit -U "$u/n.sock" -P "$u/n.pid" memory 16M
as_user qemu-img create -q -f qcow2 -F raw -b "nbd+unix:///p/sdb?socket=$u/n.sock" over.qcow2 16M

checked=0 started=0
for file in "$u"/xml/*.xml; do
	name=$(basename "$file" .xml)
	# Without <reconnect>, which the schema of libvirt 9.0 does not know; virt_domain_create() leaves it out then, too.
	sed '/<reconnect delay=/d' "$file" >"$tmp/plain.xml"
	virt-xml-validate "$tmp/plain.xml" domain >"$tmp/out" 2>&1 || fail "$name: $(cat "$tmp/out" "$file")"
	checked=$((checked + 1))
	case $name in
	net-*) [ "$name" = net-none ] || [ "$name" = net-session ] || continue ;; # networks of the test's own mind
	data-*) continue ;; # firmware and machine types of the test's own host
	esac
	as_user $driver create "xml/$name.xml" paused >"$tmp/created" 2>"$tmp/err" || fail "$name: $(cat "$tmp/err" "$file")"
	uuid=$(sed -n 's/^uuid=//p' "$tmp/created")
	as_user $driver xml "$uuid" inactive >"$tmp/inactive.xml"
	as_user $driver power "$uuid" destroy >/dev/null
	# As libvirt gives it back it is a captured one: it can be rewritten again.
	grep -q "<channel type='unix'>" "$tmp/inactive.xml" || fail "$name: no channel for the agent"
	started=$((started + 1))
done
[ "$checked" -ge 25 ] && [ "$started" -ge 15 ] || fail "only $checked checked, $started started"
echo "virt-xml-valid: $checked valid, $started of them started"
