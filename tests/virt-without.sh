#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A build without libvirt: whoever asks for a guest is told so, exit 1.
. "$(dirname "$0")/functions.sh"

expect_exit 1 "$abs_top_builddir/tests/virt-driver" open 2>err
grep -qx 'unsupported: this livepoint was built without libvirt' err || fail "$(cat err)"
