#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Clients that vanish with many replies under way: the server of an export lives on, and another
# client, connected all the time, notices nothing.
. "$(dirname "$0")/functions.sh"

requires nbdcopy --version
requires jq --version
: "${RUDE_CLIENT:=$abs_top_builddir/tests/nbd-rude-client}"
requires test -x "$RUDE_CLIENT"

export LIVEPOINT_RUN_DIR=$tmp/run
cleanup_fn lp -q unexport --all --force

random_file disk.raw 48M 1
make_repo
lp -q backup web1 vda=disk.raw >/dev/null
lp --json export web1 >export.json
uri=$(jq -r .uri export.json)
pid=$(jq -r .pid export.json)

# A slow, well-behaved client over the whole time.
mkfifo slow
nbdcopy --requests=4 "$uri" - >slow &
polite=$!
exec 7<slow
head -c 1000000 <&7 >head.raw
for ((i = 1; i <= 8; i++)); do
	"$RUDE_CLIENT" "$uri" || fail "the rude client could not connect (round $i)"
	sleep 0.05
	readlink "/proc/$pid/exe" >/dev/null && [ "$(lp --json exports | jq -r '.[0].pid')" = "$pid" ] || { cat "$LIVEPOINT_RUN_DIR"/*.log; fail "the server died in round $i"; }
done
cat head.raw - <&7 >polite.raw
exec 7<&-
wait "$polite" || fail "the polite client failed"
cmp disk.raw polite.raw || fail "the polite client got other bytes"
nbdcopy "$uri" copy.raw
cmp disk.raw copy.raw || fail "other bytes after rude clients"

# What is loaded first into the server is not loaded into its children, which would not start with it.
make_repo "$tmp/secret" --encrypt --passphrase-file <(echo secret)
LD_PRELOAD=$LIVEPOINT_PLUGIN LIVEPOINT_PASSPHRASE_COMMAND='echo secret; env | grep ^LD_PRELOAD >&2 || true' \
	nbdkit -U - "$LIVEPOINT_PLUGIN" "$LIVEPOINT_REPOSITORY" --run 'nbdinfo --list "$uri" >/dev/null || true' 2>preload.log ||
	{ cat preload.log; fail "nbdkit does not start with the plugin loaded first"; }
if grep -q LD_PRELOAD preload.log; then fail "a child has inherited LD_PRELOAD"; fi

for ((i = 0; i < 100; i++)); do
	if lp -q unexport --all 2>/dev/null; then
		exit 0
	fi
	sleep 0.05
done
fail "connections of clients that are gone are still counted"
