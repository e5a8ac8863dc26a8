// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * A library to preload (LD_PRELOAD) that makes calls of livepoint's into libc, SQLite, libcrypto and libzstd fail, each once: a
 * driver runs a command again and again, and each run fails at the first call from a place that has not failed before, until a run
 * passes untouched (tests/failing-calls.sh).
 *
 *	LIVEPOINT_FAIL_SEEN=FILE	the places that have failed, made if missing
 *	LIVEPOINT_FAIL_CLASSES=LIST	of memory, read, write, sql, crypto, zstd, thread, sqlite (its own memory); separated by commas
 *	LIVEPOINT_FAIL_MODE=ever	all calls of that class fail from then on (else only the one)
 *	LIVEPOINT_FAIL_DEPTH=N	callers that make a place (default 6)
 *	LIVEPOINT_FAIL_SAID=FILE	a line is appended for the call that failed: its name and its callers, for addr2line
 *
 * How it works: a place is the class of the call with the return addresses in the program itself, innermost first; frames of
 * libraries are passed over, so that SQLite's allocations count for who called SQLite.  Their hashes are in a table in FILE, which
 * is mapped and so survives the run.  Memory and files fail for libraries too (how SQLite behaves when its log cannot be written is
 * SQLite's own doing), the others for calls of the program only.  libcrypto's own allocations do not fail: OpenSSL 3.0 dies of some
 * of them (EVP_MD_fetch); its functions fail instead.
 *
 * Invariants:
 *  1. A place is written down before its call fails, so that a run that dies is not repeated.
 *  2. Nothing fails before main() or after exit(), nor in another program or a child that the program forks.
 *  3. A call that fails has done nothing.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/banned.h"

#define VISIBLE __attribute__((visibility("default")))
#define PLACES (1u << 20) /* of the table; a power of two */
#define FRAMES_MAX 96

enum fail_class {
	FAIL_MEMORY = 1,
	FAIL_READ = 2,
	FAIL_WRITE = 4,
	FAIL_SQL = 8,
	FAIL_CRYPTO = 16,
	FAIL_ZSTD = 32,
	FAIL_THREAD = 64,
	FAIL_SQLITE = 128, /* memory, of SQLite's own */
};

struct range {
	uintptr_t from, to;
};

static _Atomic uint64_t *places;
static unsigned wanted, depth = 6;
static bool for_ever;
static int said = -1;
static pid_t self;
static struct range program, sqlite, libraries[16];
static uintptr_t program_base;
static unsigned nlibraries;
static atomic_bool off = true, registered;
static atomic_uint failed; /* the class that has failed, or 0 */
static __thread bool busy;

static void die(const char *what)
{
	dprintf(STDERR_FILENO, "failing-calls: %s\n", what);
	abort();
}

/* --- start --- */

static int module_found(struct dl_phdr_info *info, size_t size, void *data)
{
	static const char *const names[] = { "libzstd", "libjansson" };
	struct range r = { UINTPTR_MAX, 0 };
	bool *first = data;
	size_t i;

	(void)size;
	for (i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type != PT_LOAD || !(p->p_flags & PF_X))
			continue;
		r.from = info->dlpi_addr + p->p_vaddr;
		r.to = r.from + p->p_memsz;
	}
	if (*first) {
		program = r;
		program_base = info->dlpi_addr;
	}
	*first = false;
	if (strstr(info->dlpi_name, "libsqlite3"))
		sqlite = r;
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strstr(info->dlpi_name, names[i]) && nlibraries < 16)
			libraries[nlibraries++] = r;
	return 0;
}

static void read_classes(const char *list)
{
	static const char *const names[] = { "memory", "read", "write",	 "sql",
					     "crypto", "zstd", "thread", "sqlite" };
	size_t i, n;

	for (; *list; list += n + (list[n] == ',')) {
		n = strcspn(list, ",");
		for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			if (strlen(names[i]) == n && memcmp(names[i], list, n) == 0)
				break;
		if (i == sizeof(names) / sizeof(names[0]))
			die("unknown class in LIVEPOINT_FAIL_CLASSES");
		wanted |= 1u << i;
	}
}

static bool is_livepoint(void)
{
	char exe[4096];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	if (n < 0)
		return false;
	exe[n] = 0;
	return n > 10 && strcmp(exe + n - 10, "/livepoint") == 0;
}

__attribute__((constructor)) static void start(void)
{
	const char *seen = getenv("LIVEPOINT_FAIL_SEEN"), *list = getenv("LIVEPOINT_FAIL_CLASSES");
	const char *mode = getenv("LIVEPOINT_FAIL_MODE"), *deep = getenv("LIVEPOINT_FAIL_DEPTH");
	const char *log = getenv("LIVEPOINT_FAIL_SAID");
	void *frames[1];
	bool first = true;
	int fd;

	if (!seen || !list || !is_livepoint())
		return;
	read_classes(list);
	for_ever = mode && strcmp(mode, "ever") == 0;
	if (deep)
		depth = (unsigned)strtoul(deep, NULL, 10);
	fd = (int)syscall(SYS_openat, AT_FDCWD, seen, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || syscall(SYS_ftruncate, fd, PLACES * sizeof(*places)) != 0)
		die("cannot use LIVEPOINT_FAIL_SEEN");
	places = (void *)syscall(SYS_mmap, NULL, PLACES * sizeof(*places), PROT_READ | PROT_WRITE,
				 MAP_SHARED, fd, 0);
	syscall(SYS_close, fd);
	if ((void *)places == MAP_FAILED)
		die("cannot map LIVEPOINT_FAIL_SEEN");
	if (log) {
		said = (int)syscall(SYS_openat, AT_FDCWD, log,
				    O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		/* out of the way of everything that counts descriptors */
		said = said < 0 ? said : fcntl(said, F_DUPFD_CLOEXEC, 900);
	}
	dl_iterate_phdr(module_found, &first);
	backtrace(frames, 1); /* loads its library now */
	self = getpid();
	atomic_store(&off, false);
}

/* --- does this call fail? --- */

static void stop(void)
{
	atomic_store(&off, true);
}

static bool in(const struct range *r, uintptr_t at)
{
	return at >= r->from && at < r->to;
}

/* Does the call of somebody at `caller` count, and is it asked for?  May change the class. */
static bool counts_for(unsigned *class, uintptr_t caller)
{
	unsigned i;

	if (in(&program, caller))
		return wanted & *class;
	if (!(*class & (FAIL_MEMORY | FAIL_READ | FAIL_WRITE)))
		return false;
	if (in(&sqlite, caller)) {
		if (*class == FAIL_MEMORY)
			*class = FAIL_SQLITE;
		return wanted & *class;
	}
	for (i = 0; i < nlibraries; i++)
		if (in(&libraries[i], caller))
			return wanted & *class;
	return false;
}

/* FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/), 64 bits. */
static uint64_t mix(uint64_t hash, const void *p, size_t n)
{
	const uint8_t *b = p;

	while (n--)
		hash = (hash ^ *b++) * 0x100000001b3;
	return hash;
}

/* False if it was there. */
static bool place_add(uint64_t key, bool only_look)
{
	uint32_t at = (uint32_t)key & (PLACES - 1), tries;

	for (tries = 0; tries < PLACES; tries++, at = (at + 1) & (PLACES - 1)) {
		uint64_t there = atomic_load(&places[at]);

		if (there == key)
			return false;
		if (there)
			continue;
		if (!only_look)
			atomic_store(&places[at], key);
		return true;
	}
	die("the table of places is full");
	return false;
}

static void say(const char *name, const uintptr_t *at, unsigned n)
{
	char line[2048];
	unsigned i;
	int len = snprintf(line, sizeof(line), "%s", name);

	for (i = 0; i < n && len > 0 && len < (int)sizeof(line) - 32; i++)
		len += snprintf(line + len, sizeof(line) - (size_t)len, " %#llx",
				(unsigned long long)at[i]);
	if (said >= 0 && len > 0) {
		line[len++] = '\n';
		syscall(SYS_write, said, line, len);
	}
}

static bool place_fails(unsigned class, const char *name)
{
	void *frames[FRAMES_MAX];
	uintptr_t at[FRAMES_MAX];
	uint64_t key = mix(0xcbf29ce484222325, &class, sizeof(class));
	int n = backtrace(frames, FRAMES_MAX), i;
	unsigned used = 0, none = 0;

	for (i = 0; i < n; i++)
		if (in(&program, (uintptr_t)frames[i]))
			at[used++] = (uintptr_t)frames[i] - program_base;
	if (!used)
		return false;
	if (!atomic_exchange(&registered, true))
		atexit(stop); /* after main() began, so that it comes before the program's own destructors */
	key = mix(key, at, (used < depth ? used : depth) * sizeof(at[0]));
	if (!key || !place_add(key, true))
		return false;
	if (!atomic_compare_exchange_strong(&failed, &none, class))
		return false;
	place_add(key, false);
	say(name, at, used);
	return true;
}

static bool fails(unsigned class, const char *name, const void *caller)
{
	unsigned before;
	bool yes;
	int eno = errno;

	if (atomic_load_explicit(&off, memory_order_acquire) || busy ||
	    !counts_for(&class, (uintptr_t)caller) || getpid() != self)
		return false;
	before = atomic_load(&failed);
	if (before)
		return for_ever && before == class;
	busy = true;
	yes = place_fails(class, name);
	busy = false;
	errno = eno;
	return yes;
}

/* --- the calls --- */

static void *next(const char *name)
{
	bool was = busy;
	void *p;

	busy = true;
	p = dlsym(RTLD_NEXT, name);
	busy = was;
	if (!p)
		die(name);
	return p;
}

#define CALLER __builtin_extract_return_addr(__builtin_return_address(0))
#define ERRNO(number, value) (errno = (number), (value))

/* A call that, when it fails, returns `failure` and does nothing. */
#define CALL(type, name, class, failure, params, args)                                             \
	VISIBLE type name params                                                                   \
	{                                                                                          \
		static type(*real) params;                                                         \
		if (!real)                                                                         \
			real = (type(*) params)next(#name);                                        \
		if (fails(class, #name, CALLER))                                                   \
			return failure;                                                            \
		return real args;                                                                  \
	}

/* dlsym() allocates, so not by CALL */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);

VISIBLE void *malloc(size_t n)
{
	return fails(FAIL_MEMORY, "malloc", CALLER) ? ERRNO(ENOMEM, NULL) : __libc_malloc(n);
}

VISIBLE void *calloc(size_t n, size_t size)
{
	return fails(FAIL_MEMORY, "calloc", CALLER) ? ERRNO(ENOMEM, NULL) : __libc_calloc(n, size);
}

VISIBLE void *realloc(void *p, size_t n)
{
	return fails(FAIL_MEMORY, "realloc", CALLER) ? ERRNO(ENOMEM, NULL) : __libc_realloc(p, n);
}

CALL(int, posix_memalign, FAIL_MEMORY, ENOMEM, (void **out, size_t align, size_t n),
     (out, align, n))
CALL(int, vasprintf, FAIL_MEMORY, ERRNO(ENOMEM, -1), (char **out, const char *format, va_list ap),
     (out, format, ap))
CALL(void *, mmap, FAIL_MEMORY, ERRNO(ENOMEM, MAP_FAILED),
     (void *at, size_t n, int prot, int flags, int fd, off_t offset),
     (at, n, prot, flags, fd, offset))
CALL(int, pthread_create, FAIL_THREAD, EAGAIN,
     (pthread_t * out, const pthread_attr_t *attr, void *(*f)(void *), void *data),
     (out, attr, f, data))

static int opened(const char *name, const char *path, int flags, mode_t mode, const void *caller)
{
	size_t n = strlen(path);

	/* gcov's counters are no part of the program */
	if (n > 5 && strcmp(path + n - 5, ".gcda") == 0)
		stop();
	if (flags & (O_WRONLY | O_RDWR) ? fails(FAIL_WRITE, name, caller) :
					  fails(FAIL_READ, name, caller))
		return ERRNO(EIO, -1);
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

#define OPEN(name)                                                                                 \
	VISIBLE int name(const char *path, int flags, ...)                                         \
	{                                                                                          \
		mode_t mode = 0;                                                                   \
		if (flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) {                              \
			va_list ap;                                                                \
			va_start(ap, flags);                                                       \
			mode = va_arg(ap, mode_t);                                                 \
			va_end(ap);                                                                \
		}                                                                                  \
		return opened("open", path, flags, mode, CALLER);                                  \
	}
OPEN(open)
OPEN(open64)

CALL(ssize_t, read, FAIL_READ, ERRNO(EIO, -1), (int fd, void *p, size_t n), (fd, p, n))
CALL(ssize_t, pread, FAIL_READ, ERRNO(EIO, -1), (int fd, void *p, size_t n, off_t at),
     (fd, p, n, at))
CALL(ssize_t, pread64, FAIL_READ, ERRNO(EIO, -1), (int fd, void *p, size_t n, off64_t at),
     (fd, p, n, at))
CALL(int, stat, FAIL_READ, ERRNO(EIO, -1), (const char *path, struct stat *st), (path, st))
CALL(int, lstat, FAIL_READ, ERRNO(EIO, -1), (const char *path, struct stat *st), (path, st))
CALL(int, fstat, FAIL_READ, ERRNO(EIO, -1), (int fd, struct stat *st), (fd, st))
CALL(int, stat64, FAIL_READ, ERRNO(EIO, -1), (const char *path, struct stat64 *st), (path, st))
CALL(int, fstat64, FAIL_READ, ERRNO(EIO, -1), (int fd, struct stat64 *st), (fd, st))
CALL(int, statvfs, FAIL_READ, ERRNO(EIO, -1), (const char *path, struct statvfs *st), (path, st))
CALL(DIR *, opendir, FAIL_READ, ERRNO(EIO, NULL), (const char *path), (path))
CALL(struct dirent *, readdir, FAIL_READ, ERRNO(EIO, NULL), (DIR * dir), (dir))
CALL(char *, realpath, FAIL_READ, ERRNO(EIO, NULL), (const char *path, char *out), (path, out))
CALL(off_t, lseek, FAIL_READ, ERRNO(EIO, -1), (int fd, off_t at, int whence), (fd, at, whence))
CALL(int, flock, FAIL_READ, ERRNO(ENOLCK, -1), (int fd, int how), (fd, how))

CALL(ssize_t, write, FAIL_WRITE, ERRNO(ENOSPC, -1), (int fd, const void *p, size_t n), (fd, p, n))
CALL(ssize_t, pwrite, FAIL_WRITE, ERRNO(ENOSPC, -1), (int fd, const void *p, size_t n, off_t at),
     (fd, p, n, at))
CALL(ssize_t, pwrite64, FAIL_WRITE, ERRNO(ENOSPC, -1),
     (int fd, const void *p, size_t n, off64_t at), (fd, p, n, at))
CALL(int, ftruncate, FAIL_WRITE, ERRNO(EIO, -1), (int fd, off_t n), (fd, n))
CALL(int, ftruncate64, FAIL_WRITE, ERRNO(EIO, -1), (int fd, off64_t n), (fd, n))
CALL(int, fallocate, FAIL_WRITE, ERRNO(ENOSPC, -1), (int fd, int mode, off_t at, off_t n),
     (fd, mode, at, n))
CALL(int, fsync, FAIL_WRITE, ERRNO(EIO, -1), (int fd), (fd))
CALL(int, fdatasync, FAIL_WRITE, ERRNO(EIO, -1), (int fd), (fd))
CALL(int, mkdir, FAIL_WRITE, ERRNO(ENOSPC, -1), (const char *path, mode_t mode), (path, mode))
CALL(char *, mkdtemp, FAIL_WRITE, ERRNO(ENOSPC, NULL), (char *path), (path))
CALL(int, rmdir, FAIL_WRITE, ERRNO(EIO, -1), (const char *path), (path))
CALL(int, unlink, FAIL_WRITE, ERRNO(EIO, -1), (const char *path), (path))
CALL(int, unlinkat, FAIL_WRITE, ERRNO(EIO, -1), (int fd, const char *path, int flags),
     (fd, path, flags))
CALL(int, rename, FAIL_WRITE, ERRNO(EIO, -1), (const char *from, const char *to), (from, to))
CALL(int, renameat2, FAIL_WRITE, ERRNO(EIO, -1),
     (int fd, const char *from, int to_fd, const char *to, unsigned flags),
     (fd, from, to_fd, to, flags))

CALL(int, sqlite3_prepare_v2, FAIL_SQL, SQLITE_NOMEM,
     (sqlite3 * db, const char *sql, int n, sqlite3_stmt **out, const char **tail),
     (db, sql, n, out, tail))
CALL(int, sqlite3_step, FAIL_SQL, SQLITE_IOERR_READ, (sqlite3_stmt * s), (s))
CALL(int, sqlite3_exec, FAIL_SQL, SQLITE_IOERR_READ,
     (sqlite3 * db, const char *sql, int (*f)(void *, int, char **, char **), void *data,
      char **text),
     (db, sql, f, data, text))
CALL(int, sqlite3_bind_int64, FAIL_SQL, SQLITE_NOMEM, (sqlite3_stmt * s, int i, sqlite3_int64 v),
     (s, i, v))
CALL(int, sqlite3_bind_text, FAIL_SQL, SQLITE_NOMEM,
     (sqlite3_stmt * s, int i, const char *p, int n, void (*f)(void *)), (s, i, p, n, f))
CALL(int, sqlite3_bind_blob64, FAIL_SQL, SQLITE_NOMEM,
     (sqlite3_stmt * s, int i, const void *p, sqlite3_uint64 n, void (*f)(void *)), (s, i, p, n, f))

CALL(int, EVP_DigestInit_ex2, FAIL_CRYPTO, 0,
     (EVP_MD_CTX * c, const EVP_MD *md, const OSSL_PARAM params[]), (c, md, params))
CALL(int, EVP_DigestUpdate, FAIL_CRYPTO, 0, (EVP_MD_CTX * c, const void *p, size_t n), (c, p, n))
CALL(int, EVP_DigestFinal_ex, FAIL_CRYPTO, 0, (EVP_MD_CTX * c, unsigned char *out, unsigned *n),
     (c, out, n))
CALL(int, EVP_CipherInit_ex2, FAIL_CRYPTO, 0,
     (EVP_CIPHER_CTX * c, const EVP_CIPHER *cipher, const unsigned char *key,
      const unsigned char *iv, int enc, const OSSL_PARAM params[]),
     (c, cipher, key, iv, enc, params))
CALL(int, EVP_CipherUpdate, FAIL_CRYPTO, 0,
     (EVP_CIPHER_CTX * c, unsigned char *out, int *len, const unsigned char *in, int n),
     (c, out, len, in, n))
CALL(int, EVP_EncryptUpdate, FAIL_CRYPTO, 0,
     (EVP_CIPHER_CTX * c, unsigned char *out, int *len, const unsigned char *in, int n),
     (c, out, len, in, n))
CALL(int, EVP_DecryptUpdate, FAIL_CRYPTO, 0,
     (EVP_CIPHER_CTX * c, unsigned char *out, int *len, const unsigned char *in, int n),
     (c, out, len, in, n))
CALL(int, EVP_EncryptFinal_ex, FAIL_CRYPTO, 0, (EVP_CIPHER_CTX * c, unsigned char *out, int *n),
     (c, out, n))
CALL(int, EVP_CIPHER_CTX_ctrl, FAIL_CRYPTO, 0, (EVP_CIPHER_CTX * c, int type, int n, void *p),
     (c, type, n, p))
CALL(int, EVP_MAC_init, FAIL_CRYPTO, 0,
     (EVP_MAC_CTX * c, const unsigned char *key, size_t n, const OSSL_PARAM params[]),
     (c, key, n, params))
CALL(int, EVP_MAC_update, FAIL_CRYPTO, 0, (EVP_MAC_CTX * c, const unsigned char *p, size_t n),
     (c, p, n))
CALL(int, EVP_MAC_final, FAIL_CRYPTO, 0,
     (EVP_MAC_CTX * c, unsigned char *out, size_t *len, size_t size), (c, out, len, size))
CALL(int, EVP_KDF_derive, FAIL_CRYPTO, 0,
     (EVP_KDF_CTX * c, unsigned char *key, size_t n, const OSSL_PARAM params[]),
     (c, key, n, params))
CALL(int, EVP_PBE_scrypt, FAIL_CRYPTO, 0,
     (const char *pass, size_t passlen, const unsigned char *salt, size_t saltlen, uint64_t n,
      uint64_t r, uint64_t p, uint64_t maxmem, unsigned char *key, size_t keylen),
     (pass, passlen, salt, saltlen, n, r, p, maxmem, key, keylen))
CALL(EVP_MD *, EVP_MD_fetch, FAIL_CRYPTO, NULL,
     (OSSL_LIB_CTX * c, const char *name, const char *properties), (c, name, properties))
CALL(EVP_MAC *, EVP_MAC_fetch, FAIL_CRYPTO, NULL,
     (OSSL_LIB_CTX * c, const char *name, const char *properties), (c, name, properties))
CALL(EVP_KDF *, EVP_KDF_fetch, FAIL_CRYPTO, NULL,
     (OSSL_LIB_CTX * c, const char *name, const char *properties), (c, name, properties))
CALL(EVP_CIPHER *, EVP_CIPHER_fetch, FAIL_CRYPTO, NULL,
     (OSSL_LIB_CTX * c, const char *name, const char *properties), (c, name, properties))
CALL(EVP_MD_CTX *, EVP_MD_CTX_new, FAIL_CRYPTO, NULL, (void), ())
CALL(EVP_CIPHER_CTX *, EVP_CIPHER_CTX_new, FAIL_CRYPTO, NULL, (void), ())
CALL(EVP_MAC_CTX *, EVP_MAC_CTX_new, FAIL_CRYPTO, NULL, (EVP_MAC * mac), (mac))
CALL(EVP_KDF_CTX *, EVP_KDF_CTX_new, FAIL_CRYPTO, NULL, (EVP_KDF * kdf), (kdf))
CALL(EVP_PKEY *, EVP_PKEY_new_raw_private_key, FAIL_CRYPTO, NULL,
     (int type, ENGINE *e, const unsigned char *key, size_t n), (type, e, key, n))
CALL(EVP_PKEY *, EVP_PKEY_new_raw_public_key, FAIL_CRYPTO, NULL,
     (int type, ENGINE *e, const unsigned char *key, size_t n), (type, e, key, n))
CALL(EVP_PKEY_CTX *, EVP_PKEY_CTX_new, FAIL_CRYPTO, NULL, (EVP_PKEY * key, ENGINE *e), (key, e))
CALL(int, EVP_PKEY_derive_init, FAIL_CRYPTO, 0, (EVP_PKEY_CTX * c), (c))
CALL(int, EVP_PKEY_derive_set_peer, FAIL_CRYPTO, 0, (EVP_PKEY_CTX * c, EVP_PKEY *peer), (c, peer))
CALL(int, EVP_PKEY_derive, FAIL_CRYPTO, 0, (EVP_PKEY_CTX * c, unsigned char *key, size_t *n),
     (c, key, n))
CALL(int, EVP_PKEY_get_raw_public_key, FAIL_CRYPTO, 0,
     (const EVP_PKEY *key, unsigned char *out, size_t *n), (key, out, n))
CALL(int, CRYPTO_secure_malloc_init, FAIL_CRYPTO, 0, (size_t n, size_t min), (n, min))
CALL(void *, CRYPTO_secure_zalloc, FAIL_CRYPTO, NULL, (size_t n, const char *file, int line),
     (n, file, line))

#define ZSTD_FAILED ((size_t)-ZSTD_error_memory_allocation)
CALL(size_t, ZSTD_CCtx_setParameter, FAIL_ZSTD, ZSTD_FAILED,
     (ZSTD_CCtx * c, ZSTD_cParameter name, int value), (c, name, value))
CALL(size_t, ZSTD_compress2, FAIL_ZSTD, ZSTD_FAILED,
     (ZSTD_CCtx * c, void *to, size_t size, const void *from, size_t n), (c, to, size, from, n))
CALL(size_t, ZSTD_decompressDCtx, FAIL_ZSTD, ZSTD_FAILED,
     (ZSTD_DCtx * c, void *to, size_t size, const void *from, size_t n), (c, to, size, from, n))
CALL(ZSTD_CCtx *, ZSTD_createCCtx, FAIL_ZSTD, NULL, (void), ())
CALL(ZSTD_DCtx *, ZSTD_createDCtx, FAIL_ZSTD, NULL, (void), ())
