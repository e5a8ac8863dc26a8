#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Two connections write alternate sectors of the same blocks at the same time, against a model (tests/overlay-sectors.c):
# base, data and zero blocks, plain and encrypted.  LIVEPOINT_SEED repeats a run.
. "$(dirname "$0")/functions.sh"

requires jq --version

export LIVEPOINT_RUN_DIR=$tmp/run LIVEPOINT_PASSPHRASE=sectors
seed=${LIVEPOINT_SEED:-$(date +%s)}
rounds=${OVERLAY_ROUNDS:-400}
random_file disk.raw 3M 1

for kind in plain sealed; do
	options=()
	[ $kind = plain ] || options=(--encrypt)
	make_repo "$tmp/$kind" "${options[@]}"
	lp -q backup web1 vda=disk.raw >/dev/null
	overlay=$(lp --json export web1 --writable | jq -r .overlay)
	lp -q unexport --all
	start_plugin overlay="$overlay"
	"$abs_top_builddir/tests/overlay-sectors" "$plugin_uri" "$seed" "$rounds" disk.raw || fail "$kind (seed $seed)"
	stop_plugin
done
