#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# tests/slow/kill-resume.sh with 512 MiB, where the five packs are most of it: what was checkpointed is not stored again.
SIZE_MIB=512
# shellcheck source=/dev/null
. "$(dirname "$0")/slow/kill-resume.sh"
