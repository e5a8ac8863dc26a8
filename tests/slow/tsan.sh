#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The unit tests in which threads meet, under ThreadSanitizer, in a build of their own (build-tsan beside the build).
# check: alone
. "$(dirname "$0")/../functions.sh"

build=$(dirname "$abs_top_builddir")/build-tsan
tests=(base-pool store-index store-pack repo-session repo-read repo-slab repo-trouble)
passed=0 failed=0

mkdir -p "$build"
cd "$build"
[ -f config.status ] || "$abs_top_srcdir/configure" --enable-developer --enable-sanitizer=thread >configure.out 2>&1 ||
	fail "configure: see $build/config.log"
make -j"$(nproc)" "${tests[@]/#/tests/unit/}" >make.out 2>&1 || fail "make: see $build/make.out"
for t in "${tests[@]}"; do
	if "tests/unit/$t" >"$t.out" 2>&1 && ! grep -q 'WARNING: ThreadSanitizer' "$t.out"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "tsan: $t: see $build/$t.out"
		grep -m1 -A12 'WARNING: ThreadSanitizer' "$t.out" || tail -3 "$t.out"
	fi
done
slow_done tsan "$passed" "$failed" ${#tests[@]}
