#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Repair killed at each of its steps, in all scenarios.
exec bash "$(dirname "$0")/../repair-kill.sh"
