#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# tests/overlay-seal-kill.sh with every step that a seal takes, its session's too.
LIVEPOINT_SEAL_STEPS=.
# shellcheck source=/dev/null
. "$(dirname "$0")/../overlay-seal-kill.sh"
slow_done overlay-seal-kill "$rounds" 0 60
