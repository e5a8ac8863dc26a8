#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A server is killed after it had answered writes that nobody had flushed; the overlay is sealed before anybody attaches it
# again.  Those writes survive the death of their server (livepoint-repository(5)), so the point has them too.
. "$(dirname "$0")/../functions.sh"

export LIVEPOINT_REPOSITORY=$tmp/r
driver=$abs_top_builddir/tests/overlay-driver
once() {
	local id point
	rm -rf "$LIVEPOINT_REPOSITORY"
	lp -q init "$@"
	random_file a.raw 2M 1
	lp -q backup web1 vda=a.raw >/dev/null
	id=$("$driver" create "$LIVEPOINT_REPOSITORY" web1)
	random_bytes 9000 2 >x
	dd if=x of=a.raw bs=1 seek=500000 conv=notrunc status=none
	expect_exit 137 "$driver" die "$LIVEPOINT_REPOSITORY" "$id" vda 500000 <x
	point=$(lp -q seal "$id")
	lp -q restore "$point/vda" out.raw --overwrite
	cmp a.raw out.raw || fail "answered writes are not in the point"
	lp -q verify --data
}
once
export LIVEPOINT_PASSPHRASE='for overlays'
once --encrypt
