/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Chunk index segment: its header, and the arithmetic of fence and bloom filter.
 *
 * The blocked filter touches one cache line a lookup: the key's first half picks the block, its
 * second half six bits in it (Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom
 * Filters", 2007); keys are content ids, so no further hashing is needed.
 *
 * Invariants:
 *  1. Records, fence and filter lie behind the header, within the file, and do not overlap.
 *  2. A key that was added is always found.
 */
#include <inttypes.h>

#include "format/internal.h"

#include "base/banned.h"

static const uint8_t segment_magic[8] = "LVPTISEG";
#define SEGMENT_CHECK_OFFSET 120
#define FENCE_BITS_MAX 30
#define RECORDS_PER_FENCE 128

void segment_header_encode(const struct segment_header *h, uint8_t out[SEGMENT_HEADER_LEN])
{
	memset(out, 0, SEGMENT_HEADER_LEN);
	memcpy(out, segment_magic, 8);
	put_le16(out + 8, FORMAT_VERSION);
	put_le16(out + 10, (uint16_t)h->fence_bits);
	put_le32(out + 12, BLOOM_PROBES);
	memcpy(out + 16, h->uuid, UUID_LEN);
	put_le64(out + 32, h->number);
	put_le64(out + 40, h->records);
	put_le64(out + 48, h->records_offset);
	put_le64(out + 56, h->fence_offset);
	put_le64(out + 64, h->bloom_offset);
	put_le64(out + 72, h->bloom_len);
	put_le64(out + 80, h->records_check);
	put_le64(out + 88, h->fence_check);
	put_le64(out + 96, h->bloom_check);
	put_le64(out + SEGMENT_CHECK_OFFSET, check_xxh3(out, SEGMENT_CHECK_OFFSET));
}

struct part {
	uint64_t offset, len;
};

static bool part_fits(struct part part, uint64_t file_size)
{
	return part.offset >= SEGMENT_HEADER_LEN && part.offset <= file_size &&
	       part.len <= file_size - part.offset;
}

/* Both fit the file, so the sums do not overflow. */
static bool parts_overlap(struct part a, struct part b)
{
	return a.len && b.len && a.offset < b.offset + b.len && b.offset < a.offset + a.len;
}

static const char *segment_wrong(const struct segment_header *h, uint64_t file_size)
{
	if (h->fence_bits > FENCE_BITS_MAX)
		return "fence bits out of range";
	if (h->records > UINT32_MAX)
		return "number of records out of range";
	if (h->bloom_len == 0 || h->bloom_len % BLOOM_BLOCK != 0)
		return "length of the filter out of range";
	const struct part parts[] = {
		{ h->records_offset, h->records * SEGMENT_RECORD_LEN },
		{ h->fence_offset, 4 * (((uint64_t)1 << h->fence_bits) + 1) },
		{ h->bloom_offset, h->bloom_len },
	};
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		if (!part_fits(parts[i], file_size))
			return "a part does not fit the file";
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		for (size_t k = 0; k < i; k++)
			if (parts_overlap(parts[i], parts[k]))
				return "parts overlap";
	return NULL;
}

int segment_header_decode(const uint8_t in[SEGMENT_HEADER_LEN], uint64_t file_size,
			  struct segment_header *out, struct err *err)
{
	if (memcmp(in, segment_magic, 8) != 0)
		return err_set(err, ERR_DAMAGED, "not an index segment: wrong magic");
	if (get_le64(in + SEGMENT_CHECK_OFFSET) != check_xxh3(in, SEGMENT_CHECK_OFFSET))
		return err_set(err, ERR_DAMAGED,
			       "the check of the index segment's header does not match");
	if (get_le16(in + 8) != FORMAT_VERSION || get_le32(in + 12) != BLOOM_PROBES)
		return err_set(err, ERR_UNSUPPORTED,
			       "index segment of version %u with %" PRIu32 " probes",
			       get_le16(in + 8), get_le32(in + 12));
	struct segment_header h = { .number = get_le64(in + 32),
				    .records = get_le64(in + 40),
				    .fence_bits = get_le16(in + 10),
				    .records_offset = get_le64(in + 48),
				    .fence_offset = get_le64(in + 56),
				    .bloom_offset = get_le64(in + 64),
				    .bloom_len = get_le64(in + 72),
				    .records_check = get_le64(in + 80),
				    .fence_check = get_le64(in + 88),
				    .bloom_check = get_le64(in + 96) };
	memcpy(h.uuid, in + 16, UUID_LEN);
	const char *wrong = segment_wrong(&h, file_size);
	if (!wrong && !mem_is_zero(in + 104, SEGMENT_CHECK_OFFSET - 104))
		wrong = "reserved bytes are not zero";
	if (wrong)
		return err_set(err, ERR_DAMAGED, "index segment %" PRIu64 ": %s", h.number, wrong);
	*out = h;
	return 0;
}

unsigned segment_fence_bits(uint64_t records)
{
	unsigned k = 0;
	while (k < FENCE_BITS_MAX && records >> k > RECORDS_PER_FENCE)
		k++;
	return k;
}

uint64_t segment_bloom_len(uint64_t records)
{
	uint64_t blocks = div_round_up(records * BLOOM_BITS_PER_KEY, BLOOM_BLOCK * 8);
	return MAX(blocks, 1) * BLOOM_BLOCK;
}

static uint64_t bloom_block(uint64_t len, const uint8_t key[SEGMENT_KEY_LEN])
{
	return (uint64_t)((unsigned __int128)get_be64(key) * (len / BLOOM_BLOCK) >> 64);
}

void segment_bloom_add(uint8_t *bloom, uint64_t len, const uint8_t key[SEGMENT_KEY_LEN])
{
	uint8_t *block = bloom + bloom_block(len, key) * BLOOM_BLOCK;
	uint64_t h = get_le64(key + 8);
	for (unsigned i = 0; i < BLOOM_PROBES; i++, h >>= 9)
		block[(h & 511) / 8] |= (uint8_t)(1u << (h & 7));
}

bool segment_bloom_has(const uint8_t *bloom, uint64_t len, const uint8_t key[SEGMENT_KEY_LEN])
{
	const uint8_t *block = bloom + bloom_block(len, key) * BLOOM_BLOCK;
	uint64_t h = get_le64(key + 8);
	for (unsigned i = 0; i < BLOOM_PROBES; i++, h >>= 9)
		if (!(block[(h & 511) / 8] & 1u << (h & 7)))
			return false;
	return true;
}
