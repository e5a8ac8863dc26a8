#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# tests/slow/powerloss-overlay.sh with few states.
STATES=120
# shellcheck source=/dev/null
. "$(dirname "$0")/slow/powerloss-overlay.sh"
