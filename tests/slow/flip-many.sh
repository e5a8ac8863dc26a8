#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# tests/flip.sh with thousands of flips.
if [ -n "${LIVEPOINT_SOAK:-}" ]; then
	FLIPS=$(awk -v f="$LIVEPOINT_SOAK" 'BEGIN { printf "%d\n", 20000 * f }')
else
	FLIPS=3400 # some are refused by the catalog's own checks, and a plain repository has no key to flip
fi
# shellcheck source=/dev/null
. "$(dirname "$0")/../flip.sh"
