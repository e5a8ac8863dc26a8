/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * zstd (RFC 8878): one frame an object, without checksum and dictionary.
 *
 * Invariants:
 *  1. What is stored compressed saved at least 1/32; so an opener may refuse a frame that is not
 *     shorter than its content.
 *  2. Same bytes and level give the same frame: zstd is given the same room each time, not the
 *     caller's.
 *  3. Incompressible means: a fast level does not shrink it, and no longer piece of it stands
 *     there twice.  Measured on 64 KiB of random bytes (one core, MB/s): level 1 10500, level 3
 *     8800, level 6 413, level 15 41; so only levels above 4 look first, which leaves them at
 *     1000.  The fast level steps over random bytes and misses a 4 KiB repetition in them, which
 *     saves 6 %: hence the search for those.
 *  4. An object is exactly one frame that ends where the payload ends and gives exactly the plain
 *     length.
 */
#include <inttypes.h>
#include <zstd_errors.h>

#include "codec/internal.h"

#include "base/banned.h"

#define SHRINK_SHARE 32
#define QUICK_LEVEL_MAX 4
#define PROBE_LEAST 16384 /* bytes; less is compressed at once */

static int zstd_failed(struct err *err, int code, const char *what, size_t result)
{
	return err_set(err, code, "%s with zstd: %s", what, ZSTD_getErrorName(result));
}

static int set_level(struct codec_ctx *ctx, int level, struct err *err)
{
	if (level == ctx->level)
		return 0;
	if (level < INT8_MIN || level > ZSTD_maxCLevel())
		return err_set(err, ERR_INVALID, "compression level %d is out of range", level);
	size_t r = ZSTD_CCtx_setParameter(ctx->cctx, ZSTD_c_compressionLevel, level);
	if (ZSTD_isError(r))
		return zstd_failed(err, ERR_INTERNAL, "setting the level", r);
	ctx->level = level;
	return 0;
}

/* Fills *len with the frame's length, 0 if it would be longer than most. */
static int try_level(struct codec_ctx *ctx, int level, const void *p, size_t n, void *dst,
		     size_t most, size_t *len, struct err *err)
{
	int r = set_level(ctx, level, err);
	if (r < 0)
		return r;
	size_t size = ZSTD_compress2(ctx->cctx, dst, most, p, n);
	if (!ZSTD_isError(size)) {
		*len = size;
		return 0;
	}
	if (ZSTD_getErrorCode(size) == ZSTD_error_memory_allocation)
		return err_nomem(err, "compression");
	if (ZSTD_getErrorCode(size) != ZSTD_error_dstSize_tooSmall)
		return zstd_failed(err, ERR_INTERNAL, "compressing", size);
	*len = 0;
	return 0;
}

/* Samples about 1024 positions by their content, so that both copies of a piece are sampled alike.
 * 4 MiB need 12 bits of the hash to choose them, the table the 12 below. */
static bool repeats(const uint8_t *p, size_t n)
{
	enum { TABLE = 4096, SAMPLES = 1024, LEAST = 4 };
	uint32_t table[TABLE] = { 0 }; /* position + 1 */
	unsigned found = 0, samples = 0, bits = 1;
	while (n >> bits > SAMPLES)
		bits++;
	for (size_t i = 0; i + 8 <= n; i++) {
		uint64_t v, h;
		memcpy(&v, p + i, 8);
		h = v * UINT64_C(0x9e3779b97f4a7c15);
		if (h >> (64 - bits)) /* one of 2^bits is taken */
			continue;
		uint32_t *entry = &table[h >> 40 & (TABLE - 1)];
		samples++;
		found += *entry && memcmp(p + *entry - 1, p + i, 8) == 0;
		*entry = (uint32_t)i + 1;
	}
	return found >= LEAST && found >= samples / (2 * SHRINK_SHARE);
}

/* Fills *worth: whether a slow level is to be tried.  n: at least PROBE_LEAST. */
static int probe(struct codec_ctx *ctx, const uint8_t *p, size_t n, void *dst, bool *worth,
		 struct err *err)
{
	enum { SAMPLE = 4096, PROBE_LEVEL = 1 };
	size_t len = 0;
	/* most data shows what it is in its middle */
	int r = try_level(ctx, PROBE_LEVEL, p + (n - SAMPLE) / 2, SAMPLE, dst, SAMPLE - SAMPLE / 16,
			  &len, err);
	if (r == 0 && !len)
		r = try_level(ctx, PROBE_LEVEL, p, n, dst, n - n / (2 * SHRINK_SHARE), &len, err);
	*worth = len > 0 || (r == 0 && repeats(p, n));
	return r;
}

int codec_compress(struct codec_ctx *ctx, int level, const void *p, size_t n, void *dst, size_t cap,
		   enum object_codec *codec, size_t *len, struct err *err)
{
	if (n < 1 || n > OBJECT_PLAIN_MAX || cap < n)
		return err_set(err, ERR_INTERNAL, "compressing %zu bytes into %zu", n, cap);
	size_t most = n - MAX(n / SHRINK_SHARE, 1), size = 0;
	bool worth = level != 0;
	int r = 0;
	if (level > QUICK_LEVEL_MAX && n >= PROBE_LEAST)
		r = probe(ctx, p, n, dst, &worth, err);
	if (r == 0 && worth)
		r = try_level(ctx, level, p, n, dst, most, &size, err);
	if (r < 0)
		return r;
	*codec = size ? CODEC_ZSTD : CODEC_RAW;
	*len = size ? size : n;
	return 0;
}

int codec_decompress(struct codec_ctx *ctx, const void *p, size_t n, void *dst, size_t plain_len,
		     struct err *err)
{
	size_t frame = ZSTD_findFrameCompressedSize(p, n);
	if (ZSTD_isError(frame) || frame != n)
		return err_set(err, ERR_DAMAGED, "%zu bytes are not one zstd frame", n);
	if (ZSTD_getFrameContentSize(p, n) != plain_len)
		return err_set(err, ERR_DAMAGED, "the zstd frame does not hold %zu bytes",
			       plain_len);
	size_t size = ZSTD_decompressDCtx(ctx->dctx, dst, plain_len, p, n);
	if (!ZSTD_isError(size) && size == plain_len)
		return 0;
	mem_wipe(dst, plain_len);
	if (ZSTD_isError(size) && ZSTD_getErrorCode(size) == ZSTD_error_memory_allocation)
		return err_nomem(err, "decompression");
	return ZSTD_isError(size) ?
		       zstd_failed(err, ERR_DAMAGED, "decompressing", size) :
		       err_set(err, ERR_DAMAGED, "the zstd frame gave %zu bytes, not %zu", size,
			       plain_len);
}
