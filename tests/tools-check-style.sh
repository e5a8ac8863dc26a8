#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# tools/check-style accepts a small clean tree and fails on each planted violation, naming it.
. "$(dirname "$0")/functions.sh"

spdx='SPDX-License-Identifier: GPL-3.0-or-later'
good="/* $spdx */\n#include \"base/base.h\"\n\n#include \"base/banned.h\"\n\nint x;\n"

fresh() {
	rm -rf copy
	mkdir -p copy/docs copy/base copy/tools
	cp "$abs_top_srcdir"/tools/{check-style,list-files,c-code.awk} copy/tools/
	cp "$abs_top_srcdir/.clang-format" copy/
	printf '# A\n\n`base/good.c` and [B](HACKING.md), never `build/x`\n' >copy/docs/ARCHITECTURE.md
	printf '# B\n\n```\n`not/a/path`\n```\n| `later/` |\n' >copy/docs/HACKING.md
	printf '%b' "$good" >copy/base/good.c
}
count=0
check() {
	status=0
	bash copy/tools/check-style copy >out 2>&1 || status=$?
	count=$((count + 1))
}
rejected() {
	check
	[ "$status" -eq 1 ] || { cat out >&2; fail "exit $status, not 1, for: $*"; }
	grep -qF -- "$*" out || { cat out >&2; fail "not named: $*"; }
	grep -q ': 1 violation(s)$' out || { cat out >&2; fail "not just one violation: $*"; }
	fresh
}
accepted() {
	check
	[ "$status" -eq 0 ] || { cat out >&2; fail "refused: $*"; }
	fresh
}

fresh
accepted "a clean tree"
printf '#!/bin/sh\ntrue\n' >copy/tools/script
rejected 'tools/script: no SPDX line on top'
printf '/*\n * words\n * first\n * %s\n */\n' "$spdx" >copy/base/late.h
rejected 'base/late.h: no SPDX line on top'
printf '%b#include <zzz.h>\n' "$good" >copy/base/bad.c
rejected 'base/bad.c: base/banned.h is not the last'
printf '/* %s */\nint x;\n' "$spdx" >copy/base/bad.c
rejected 'base/bad.c: base/banned.h is not the last'
{ printf '/* %s */\n' "$spdx"; for ((i = 0; i < 810; i++)); do echo "extern int x$i;"; done; } >long.h
cp long.h copy/base/long.h
rejected 'base/long.h: 811 lines'
sed '2i /* Over 800 lines: one table. */' long.h >copy/base/long.h
accepted "a long file with its reason"
printf '%b\nvoid f(void)\n{\n\tgoto out;\nout:\n\treturn;\n}\n' "$good" >copy/base/bad.c
rejected 'base/bad.c:10: goto'
printf '%b/* goto the end */\n' "$good" >copy/base/fine.c
accepted "the word in a comment"
printf 'see `base/missing.c`\n' >>copy/docs/HACKING.md
rejected "docs/HACKING.md names 'base/missing.c'"
printf 'see [it](gone.md)\n' >>copy/docs/ARCHITECTURE.md
rejected "docs/ARCHITECTURE.md names 'gone.md'"
printf 'in /wor%s/main/x\n' k >copy/notes.txt
rejected 'notes.txt:1: path of this machine'
if command -v clang-format >/dev/null; then
	printf '%bint  y;\n' "$good" >copy/base/bad.c
	rejected 'base/bad.c:7: clang-format would change 1 place(s)'
fi

echo "tools-check-style: $count cases"
