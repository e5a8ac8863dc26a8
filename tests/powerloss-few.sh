#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# tests/slow/powerloss.sh with few states.
STATES=60
# shellcheck source=/dev/null
. "$(dirname "$0")/slow/powerloss.sh"
