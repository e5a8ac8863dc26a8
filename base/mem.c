// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Memory: scope cleanup, allocation that a test can make fail, zero test, random bytes.
 *
 * Invariants:
 *  1. Every allocation of base/ passes mem_fails_now() once, so that a loop over mem_fail_after(1),
 *     (2), ... reaches each of them.
 *  2. Sizes are multiplied with an overflow check; a size of 0 gives a pointer that can be freed.
 *  3. Cleanup functions keep errno, so that an early return may read it.
 */
#include "base/base.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/internal.h"

#include "base/banned.h"

static atomic_uint mem_fail_left; /* 0: hook off; else the allocation that brings it to 0 fails */

void base_cleanup_free(void *p)
{
	void *mem;

	memcpy(&mem, p, sizeof(mem));
	free(mem);
}

void base_cleanup_fd(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	errno = saved;
}

void base_cleanup_file(FILE **f)
{
	int saved = errno;

	if (*f)
		fclose(*f);
	errno = saved;
}

void mem_fail_after(unsigned n)
{
	atomic_store(&mem_fail_left, n);
}

bool mem_fails_now(void)
{
	unsigned left = atomic_load_explicit(&mem_fail_left, memory_order_relaxed);

	while (left) {
		if (atomic_compare_exchange_weak(&mem_fail_left, &left, left - 1)) {
			if (left == 1)
				errno = ENOMEM;
			return left == 1;
		}
	}
	return false;
}

void *mem_alloc(size_t n)
{
	return mem_fails_now() ? NULL : calloc(1, n ? n : 1);
}

void *mem_alloc_array(size_t n, size_t size)
{
	size_t bytes;

	if (mul_overflow(n, size, &bytes))
		return NULL;
	return mem_alloc(bytes);
}

void *mem_realloc_array(void *p, size_t n, size_t size)
{
	size_t bytes;

	if (mul_overflow(n, size, &bytes) || mem_fails_now())
		return NULL;
	return realloc(p, bytes ? bytes : 1);
}

void *mem_dup(const void *p, size_t n)
{
	void *copy = mem_fails_now() ? NULL : malloc(n ? n : 1);

	if (copy && n)
		memcpy(copy, p, n);
	return copy;
}

char *str_dup(const char *s)
{
	return mem_dup(s, strlen(s) + 1);
}

char *str_printf(const char *fmt, ...)
{
	va_list ap;
	char *s;
	int n;

	if (mem_fails_now())
		return NULL;
	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	return n < 0 ? NULL : s;
}

void mem_wipe(void *p, size_t n)
{
	explicit_bzero(p, n);
}

/* Sixteen bytes by hand end the test of most data at once.  If they are zero, the rest is zero exactly
 * if each byte equals the one 16 before it, and libc's memcmp, which picks the widest vectors of the
 * running CPU, is the fastest loop that there is (the idea is CCAN's memeqzero). */
bool mem_is_zero(const void *p, size_t n)
{
	const uint8_t *b = p;
	uint64_t first, second;

	if (n < 16) {
		while (n)
			if (b[--n])
				return false;
		return true;
	}
	memcpy(&first, b, 8);
	memcpy(&second, b + 8, 8);
	return !(first | second) && memcmp(b, b + 16, n - 16) == 0;
}

void random_bytes(void *p, size_t n)
{
	uint8_t *b = p;

	while (n) {
		ssize_t r = getrandom(b, n, 0);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			abort(); /* keys and nonces depend on it: there is no safe way on */
		b += r;
		n -= (size_t)r;
	}
}
