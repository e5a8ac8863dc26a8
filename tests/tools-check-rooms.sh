#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# tools/check-rooms passes on the tree and fails on each planted violation, naming it.
. "$(dirname "$0")/functions.sh"

table=docs/ARCHITECTURE.md

# A copy with what the check looks at.
fresh() {
	rm -rf copy
	mkdir copy
	(cd "$abs_top_srcdir" && bash tools/list-files | grep -E "\.[ch]\$|\.def\$|^tools/check-rooms|^tools/c-code|^$table\$" |
		tar -cf - -T -) | tar -C copy -xf -
}

# rejected WORDS: the check fails and says so.
count=0
rejected() {
	local status=0
	bash copy/tools/check-rooms copy >out 2>&1 || status=$?
	[ "$status" -eq 1 ] || { cat out >&2; fail "exit $status, not 1, for: $*"; }
	grep -qF -- "$*" out || { cat out >&2; fail "not named: $*"; }
	count=$((count + 1))
	fresh
}
accepted() {
	bash copy/tools/check-rooms copy >out 2>&1 || { cat out >&2; fail "refused: $*"; }
	count=$((count + 1))
	fresh
}

# plant FILE TEXT: the file with that text at its end.
plant() {
	mkdir -p "copy/$(dirname "$1")"
	printf '%b' "$2" >>"copy/$1"
}

fresh
accepted "the tree as it is"

# floors
plant base/planted.c '#include "store/store.h"\n'
plant store/store.h ''
rejected 'base/planted.c'
plant format/planted.c '#include "codec/codec.h"\n'
plant codec/codec.h ''
rejected 'the row of format/ does not allow codec/'
plant nbdkit-plugin/planted.c '#include "store/store.h"\n'
plant store/store.h ''
rejected 'the row of nbdkit-plugin/ does not allow store/'
plant serve/planted.h '\t #  include\t"ingest/ingest.h"\n'
plant ingest/ingest.h ''
rejected 'the row of serve/ does not allow ingest/'

# faces
plant store/internal.h ''
plant repo/planted.c '#include "store/internal.h"\n'
rejected '"store/internal.h" is private to store/'
plant store/thing-internal.h ''
plant repo/planted.c '#include "store/thing-internal.h"\n'
rejected '"store/thing-internal.h" is private to store/'
plant store/internal.h ''
plant store/planted.c '#include "store/internal.h"\n'
plant tests/unit/planted.c '#include "store/internal.h"\n'
accepted "a room's own internal.h, and its unit test"
plant repo/planted.c '#include "../base/base.h"\n'
rejected 'is not named from the top of the tree'
plant base/planted.c '#include "base.h"\n'
rejected 'is not named from the top of the tree'
plant repo/planted.c '#include "base/nowhere.h"\n'
rejected '"base/nowhere.h" does not exist'
plant attic/planted.c 'int x;\n'
rejected "room 'attic' has no row"
plant base/planted.c '/*\n#include "store/store.h"\n*/ // #include "repo/repo.h"\n'
accepted "includes in comments"

# alone touches
for call in 'fsync(fd)' 'fdatasync (fd)' 'rename(a, b)' 'unlink(a)' 'unlinkat(d, a, 0)' \
	'pthread_create(&t, 0, f, 0)' 'fork()' 'execvp(a, b)' 'posix_spawn(&p, a, 0, 0, b, c)'; do
	plant store/planted.c "int f(void)\n{\n\treturn $call;\n}\n"
	rejected "store/planted.c:3: call only allowed in base"
done
plant base/planted.c 'int f(void)\n{\n\treturn fsync(fork());\n}\n'
plant store/planted.c 'int f(void)\n{ /* fork() */\n\treturn ops->rename(a) + g("unlink(x)") + my_fork();\n}\n'
accepted "calls in base/, and words that only look like calls"
header_case() { # ROOM HEADER
	plant "$1/planted.h" "#include <$2>\n"
	rejected "<$2> only in"
}
header_case store zstd.h
header_case repo openssl/evp.h
header_case repo sqlite3.h
header_case cli jansson.h
header_case serve libnbd.h
header_case repo nbdkit-plugin.h
header_case ingest libvirt/libvirt.h
plant codec/planted.c '#include <zstd.h>\n#include <openssl/evp.h>\n'
plant ingest/planted.c '#include <libnbd.h>\n'
plant restore/planted.c '#include <libnbd.h>\n'
plant nbdkit-plugin/planted.c '#include <nbdkit-plugin.h>\n'
accepted "libraries in their own rooms"

# the table
sed -i '/^| `base\//s/nothing of ours/repo/' copy/$table
rejected 'cycle: '
sed -i '/^| `repo\//s/store, catalog/store, cattle/' copy/$table
rejected "allows 'cattle', which is no room"
sed -i '/^| /d' copy/$table
rejected 'no table of rooms found'
rm copy/$table
rejected "$table does not exist"

echo "tools-check-rooms: $count cases"
