#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A server was killed, and what it had not flushed cannot be written out: the sync at the next start says so once.  The overlay
# is in error from then on, and the start after that does not take the killed one's list of changes for data.
. "$(dirname "$0")/../functions.sh"

requires command -v qemu-io
make_repo
random_file disk 1M 1
lp -q backup web1 vda=disk >/dev/null
uri=$(lp export web1 --writable --overlay work)
lp -q unexport --all --force
: "$uri"
start_plugin repo="$LIVEPOINT_REPOSITORY" overlay=work
qemu-io -f raw -t unsafe -c "write -P 7 0 64k" "$plugin_uri" >/dev/null
kill_plugin
status=0
LIVEPOINT_FAULT=overlay.data.open-sync:1:eio timeout 20 nbdkit -f -U "$tmp/n.sock" "$LIVEPOINT_PLUGIN" \
	repo="$LIVEPOINT_REPOSITORY" overlay=work >log 2>&1 || status=$?
[ $status -ne 0 ] && [ $status -ne 124 ] || grep -q "in error" log || fail "the failed sync was not noticed: $status, $(cat log)"
[ "$(lp --json overlays | jq '.[0].error')" = true ] || fail "not in error: $(lp --json overlays)"
[ -z "$(find "$LIVEPOINT_REPOSITORY/overlays" -name '*.live' -size +0)" ] || fail "the list of changes is still there"
