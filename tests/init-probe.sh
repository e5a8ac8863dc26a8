#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A file system that cannot do what a repository rests on is refused at init, with the reason and nothing left behind: one that
# cannot sync files or folders, whose rename replaces, whose flock excludes nobody.  And by a backup, when a repository came
# to lie on such a one later.  The file systems are played by a library that is loaded before libc.
. "$(dirname "$0")/functions.sh"
requires cc --version

cat >shim.c <<'END'
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int plays(const char *what)
{
	const char *s = getenv("SHIM");

	return s && strcmp(s, what) == 0;
}

static int is_folder(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
}

int fsync(int fd)
{
	if (plays("folder-sync") && is_folder(fd)) {
		errno = EINVAL;
		return -1;
	}
	return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
	if (plays("file-sync")) {
		errno = ENOSYS;
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}

int renameat2(int a, const char *from, int b, const char *to, unsigned flags)
{
	return (int)syscall(SYS_renameat2, a, from, b, to, plays("rename") ? 0 : flags);
}

int flock(int fd, int how)
{
	if (plays("flock-fails")) {
		errno = ENOLCK;
		return -1;
	}
	return plays("flock") ? 0 : (int)syscall(SYS_flock, fd, how);
}
END
cc -shared -fPIC -o shim.so shim.c

# refused WHAT WORDS: init and nothing left.
refused() {
	rm -rf bad
	expect_exit 1 env SHIM="$1" LD_PRELOAD="$tmp/shim.so" "$LIVEPOINT_BIN" -q -r bad init 2>err
	grep -q "$2" err || fail "$1: not the reason: $(cat err)"
	[ ! -e bad ] || fail "$1: something was left: $(find bad)"
}
refused file-sync "cannot make files durable.*Function not implemented"
refused folder-sync "cannot make names durable.*Invalid argument"
refused rename "replaces a file"
refused flock "no working flock"
refused flock-fails "no working flock"
rm -rf bad
SHIM=none LD_PRELOAD=$tmp/shim.so lp -q -r bad init

# the same steps by fault points
for point in store.init.probe store.init.write store.init.sync store.init.rename store.init.dirsync; do
	rm -rf bad
	expect_exit 1 env LIVEPOINT_FAULT=$point:1:eio "$LIVEPOINT_BIN" -q -r bad init 2>err
	[ -s err ] || fail "$point: nothing was said"
	[ ! -e bad ] || fail "$point: something was left: $(find bad)"
done

# later
make_repo "$tmp/repo"
random_file disk 1M 1
lp -q backup a disk >out
for what in flock flock-fails; do
	expect_exit 1 env SHIM=$what LD_PRELOAD="$tmp/shim.so" "$LIVEPOINT_BIN" -q backup a disk 2>err
	[ -s err ] || fail "$what: nothing was said"
done
grep -q "flock\|lock" err || fail "not the reason: $(cat err)"
lp -q backup a disk >out
lp verify --leftovers 2>&1 | grep -qx "0 leftovers" || fail "leftovers"

# packs/ on a mount of its own, even of the same file system
if unshare -m true 2>/dev/null; then
	expect_exit 1 unshare -m bash -c '
		mkdir "$2/elsewhere" && cp -a "$1/packs/." "$2/elsewhere" && mount --bind "$2/elsewhere" "$1/packs" &&
			exec "$3" -q backup a "$2/disk"' - "$tmp/repo" "$tmp" "$LIVEPOINT_BIN" 2>err
	grep -q "not on the same mount" err || fail "not the reason: $(cat err)"
	lp -q backup a disk >out
	lp verify --leftovers 2>&1 | grep -qx "0 leftovers" || fail "leftovers"
fi
