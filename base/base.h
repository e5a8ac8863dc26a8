/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Small things that every file uses: scope cleanup, memory, checked arithmetic, integers on
 * byte buffers, hexadecimal, time stamps, random bytes, checks.  Any thread.
 */
#ifndef LIVEPOINT_BASE_BASE_H
#define LIVEPOINT_BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

/* --- scope cleanup: the variable is released when its scope ends --- */
void base_cleanup_free(void *p); /* p: pointer to the pointer */
void base_cleanup_fd(int *fd); /* closes if >= 0 */
void base_cleanup_file(FILE **f);
#define cleanup_free __attribute__((cleanup(base_cleanup_free)))
#define cleanup_fd __attribute__((cleanup(base_cleanup_fd)))
#define cleanup_stdio __attribute__((cleanup(base_cleanup_file)))
/* Defines base_cleanup_TYPE() for `struct TYPE *`; use as cleanup_ptr(TYPE). */
#define DEFINE_CLEANUP(type, fn)                                                                   \
	static inline void base_cleanup_##type(struct type **p)                                    \
	{                                                                                          \
		if (*p)                                                                            \
			fn(*p);                                                                    \
	}
#define cleanup_ptr(type) __attribute__((cleanup(base_cleanup_##type))) struct type *
/* Gives the value away and leaves NULL or -1 behind, so that cleanup does nothing. */
#define steal_ptr(p)                                                                               \
	({                                                                                         \
		typeof(p) steal_tmp = (p);                                                         \
		(p) = NULL;                                                                        \
		steal_tmp;                                                                         \
	})
static inline int steal_fd(int *fd)
{
	int r = *fd;
	*fd = -1;
	return r;
}

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define KiB ((uint64_t)1024)
#define MiB (KiB * 1024)
#define GiB (MiB * 1024)
#define TiB (GiB * 1024)
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* --- memory: NULL on failure (or on overflow of n * size); the caller owns the result --- */
void *mem_alloc(size_t n); /* zeroed */
void *mem_alloc_array(size_t n, size_t size); /* zeroed */
void *mem_realloc_array(void *p, size_t n, size_t size);
void *mem_dup(const void *p, size_t n);
char *str_dup(const char *s);
char *str_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Copies with truncation; returns false if it did not fit.  dst is always terminated (size > 0). */
bool str_copy(char *dst, size_t size, const char *src);
bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);
/* Test hook: the n-th allocation from now on fails (0: never). */
void mem_fail_after(unsigned n);
/* Wipes; never optimised away. */
void mem_wipe(void *p, size_t n);
bool mem_is_zero(const void *p, size_t n); /* n == 0 is true; vectorised */

/* --- checked arithmetic: true on overflow, *r then unspecified --- */
#define add_overflow(a, b, r) __builtin_add_overflow(a, b, r)
#define mul_overflow(a, b, r) __builtin_mul_overflow(a, b, r)
static inline uint64_t div_round_up(uint64_t a, uint64_t b)
{
	return a / b + (a % b != 0);
}
/* b a power of two; the caller rules out overflow */
static inline uint64_t round_up_u64(uint64_t a, uint64_t b)
{
	return (a + b - 1) & ~(b - 1);
}

/* --- integers on byte buffers --- */
static inline uint16_t get_le16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}
static inline uint32_t get_le32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint64_t get_le64(const uint8_t *p)
{
	return (uint64_t)get_le32(p) | (uint64_t)get_le32(p + 4) << 32;
}
static inline void put_le16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}
static inline void put_le32(uint8_t *p, uint32_t v)
{
	put_le16(p, (uint16_t)v);
	put_le16(p + 2, (uint16_t)(v >> 16));
}
static inline void put_le64(uint8_t *p, uint64_t v)
{
	put_le32(p, (uint32_t)v);
	put_le32(p + 4, (uint32_t)(v >> 32));
}
static inline uint32_t get_be32(const uint8_t *p)
{
	return (uint32_t)p[3] | (uint32_t)p[2] << 8 | (uint32_t)p[1] << 16 | (uint32_t)p[0] << 24;
}
static inline uint64_t get_be64(const uint8_t *p)
{
	return (uint64_t)get_be32(p + 4) | (uint64_t)get_be32(p) << 32;
}
static inline void put_be32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

/* --- text --- */
void hex_encode(char *dst, const uint8_t *src, size_t n); /* fills 2n + 1 bytes, lower case */
/* Decodes exactly n bytes from 2n hexadecimal digits (either case), whatever follows them; false otherwise. */
bool hex_decode(uint8_t *dst, const char *src, size_t n);
/* Unsigned decimal number, the whole string; false on anything else or overflow. */
bool parse_u64(const char *s, uint64_t *value);
/* Bytes: decimal with optional suffix K M G T (powers of 1024, either case, optional "iB" or "B"). */
bool parse_size(const char *s, uint64_t *bytes);
/* Seconds: a decimal number, or numbers with the units y (365 days), mo (30 days), w, d, h, m (minutes), s, each at most
 * once, larger ones first: "90", "30m", "1y6mo", "1d12h". */
bool parse_duration(const char *s, uint64_t *seconds);

/* --- time: seconds since 1970 UTC --- */
#define TIME_TEXT_MAX 32
int64_t time_now(void); /* wall clock */
uint64_t time_mono_ns(void); /* monotonic, nanoseconds */
void time_sleep_ms(unsigned ms);
/* RFC 3339 in UTC, "2026-11-20T14:03:07Z"; fills at most TIME_TEXT_MAX bytes. */
void time_format(char *dst, int64_t t);
/* Exactly that form; false otherwise. */
bool time_parse(const char *s, int64_t *t);

/* --- random bytes from the kernel; never fails to fill (aborts the process if the kernel has none) --- */
void random_bytes(void *p, size_t n);

/* --- checks that detect accidents (not adversaries) ---
 * XXH3-64 with seed 0 (xxHash specification 0.1.1); CRC-32C, polynomial 0x1EDC6F41, reflected,
 * initial and final value all ones (RFC 3720 appendix B.4). */
uint64_t check_xxh3(const void *p, size_t n);
uint32_t check_crc32c(const void *p, size_t n);
/* XXH3-64 of bytes that come in pieces: the same value as in one piece.  NULL: out of memory. */
struct check_stream;
struct check_stream *check_stream_new(void);
void check_stream_update(struct check_stream *c, const void *p, size_t n);
uint64_t check_stream_value(const struct check_stream *c);
void check_stream_free(struct check_stream *c);
DEFINE_CLEANUP(check_stream, check_stream_free)

#endif
