#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Whoever can write the catalog wrote a lease whose lock file is "../livepoint.conf", or one outside of the repository: the next
# sweep took the lease for dead and removed that file, as the user who ran it.
. "$(dirname "$0")/../functions.sh"
requires sqlite3 --version

random_file a.raw 1M 1
make_repo
lp -q backup web vda=a.raw >/dev/null
echo mine >outside
lease() { # KIND NAME LOCK
	sqlite3 "$LIVEPOINT_REPOSITORY/catalog.sqlite" "INSERT INTO lease (kind, gen, lock_name, name, host, pid, boot_id,
		start_ticks, since) VALUES ($1, 0, '$3', '$2', 'host', 1, 'boot', 1, 1)"
}
lease 1 one ../livepoint.conf
lease 1 two ../../outside
lease 2 '' "$tmp/outside"
lease 3 '' ..
lp -q prune
[ -f outside ] || fail "a file outside of the repository was removed"
[ -f "$LIVEPOINT_REPOSITORY/livepoint.conf" ] || fail "the header of the repository was removed"
[ "$(sqlite3 "$LIVEPOINT_REPOSITORY/catalog.sqlite" 'SELECT count(*) FROM lease')" = 0 ] || fail "the leases are still there"
lp -q backup web vda=a.raw >/dev/null
lp -q verify --data
