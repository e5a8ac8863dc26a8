#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Run by tests/guest/edit.sh inside a guest disk: what happened to it in generation $1.  Files of this machine
# stand for packages, so the figures of two machines differ a little; within one run all programs get the same.
#
#   0  a machine in use: compiler, headers, interpreter; a 64 MiB database, logs
#   1  a busy day: documentation and tools come in, headers are upgraded (written again, with a change in each),
#      the database changes in 2000 places, logs grow
#   2  a clean-up: part of it is removed, other packages come, the database changes, logs are rotated

set -euo pipefail
export LC_ALL=C

# put TO FROM...: copies what there is of FROM.
put()
{
	local to=$1 from
	shift
	mkdir -p "$to"
	for from; do
		[ ! -e "$from" ] || cp -a "$from" "$to/"
	done
}

# log_lines SEED COUNT: lines as a system log has them.
log_lines()
{
	awk -v seed="$1" -v count="$2" 'BEGIN { srand(seed); for (i = 0; i < count; i++)
		printf "Nov %2d %02d:%02d:%02d guest app[%d]: request %d from 10.0.%d.%d took %d us, status %d\n",
		1 + seed, i / 3600 % 24, i / 60 % 60, i % 60, 300 + rand() * 9000, i, rand() * 255, rand() * 255,
		rand() * 90000, rand() < 0.9 ? 200 : 404 }'
}

# pages SEED COUNT: 8 KiB pages of rows, about as a database has them.
pages()
{
	awk -v seed="$1" -v count="$2" 'BEGIN { srand(seed); for (p = 0; p < count; p++) { page = ""
		while (length(page) < 8100) page = page sprintf("%08d|%d|%.6f|customer %d|", rand() * 1e8, rand() * 1e6, rand(), rand() * 1e4)
		printf "%-8191.8191s\n", page } }'
}

# database SEED COUNT: COUNT pages in new places.
database()
{
	local n=0 place
	pages "$1" "$2" >new-pages
	for place in $(awk -v seed="$1" -v count="$2" 'BEGIN { srand(seed * 7 + 1); for (i = 0; i < count / 8; i++) print int(rand() * 1000) * 8 }'); do
		dd if=new-pages of=srv/database bs=8k count=8 skip=$((n * 8)) seek="$place" conv=notrunc status=none
		n=$((n + 1))
	done
	rm new-pages
}

case $1 in
0)
	put usr/lib /usr/lib/gcc /usr/lib/python3
	put usr /usr/include
	pages 1 8192 >srv/database
	log_lines 1 200000 >var/log/app.log
	;;
1)
	put usr/share /usr/share/doc /usr/share/perl
	put usr/lib /usr/lib/git-core
	find usr/include -name '*.h' -size -64k -print0 | xargs -0 sed -i '1i /* upgraded */'
	database 2 2000
	log_lines 2 150000 >>var/log/app.log
	;;
2)
	rm -rf usr/share/doc usr/lib/git-core
	put usr/share /usr/share/man /usr/share/java
	put opt /usr/lib/python3
	database 3 1000
	mv var/log/app.log var/log/app.log.1
	gzip var/log/app.log.1
	log_lines 3 100000 >var/log/app.log
	;;
esac
echo "generation $1" >etc/livepoint-marker
