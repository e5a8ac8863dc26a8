#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Every fuzz target holds over its stored corpus, and every corpus has a target.
. "$(dirname "$0")/functions.sh"

count=0
for corpus in "$abs_top_srcdir"/fuzz/corpus/*/; do
	name=$(basename "$corpus")
	program=$abs_top_builddir/fuzz/replay-$name
	[ -x "$program" ] || fail "fuzz/corpus/$name has no program fuzz/replay-$name"
	# -runs=0 is for libFuzzer's main: no fuzzing, only the files
	"$program" -runs=0 "$corpus" >"$tmp/log" 2>&1 || {
		cat "$tmp/log" >&2
		fail "fuzz target $name"
	}
	count=$((count + 1))
done
for target in "$abs_top_srcdir"/fuzz/*.c; do
	name=$(basename "$target" .c)
	case $name in
	replay | seeds) continue ;;
	esac
	[ -d "$abs_top_srcdir/fuzz/corpus/$name" ] || fail "fuzz/$name.c has no corpus"
	count=$((count - 1))
done
[ "$count" = 0 ] || fail "targets and corpora differ in number"
