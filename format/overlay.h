/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Files of an overlay (overlays/ID/): its header and the state log of a layer.  Byte tables in livepoint-repository(5).
 * MACs are made and checked by who has the keys: encoders leave them to a second call, decoders hand them out.
 * Any thread.
 */
#ifndef LIVEPOINT_FORMAT_OVERLAY_H
#define LIVEPOINT_FORMAT_OVERLAY_H

#include "format/format.h"

#define OVERLAY_BLOCK_SIZE 4096u /* bytes */
#define OVERLAY_ID_TEXT 10 /* 'o', eight hexadecimal digits, terminating zero */
bool overlay_id_valid(const char *id);

struct overlay_header_disk {
	char name[DISK_NAME_MAX_LEN + 1];
	uint64_t size; /* bytes */
};
struct overlay_header {
	uint8_t uuid[UUID_LEN]; /* of the repository */
	char id[OVERLAY_ID_TEXT]; /* 'o' and eight hexadecimal digits */
	char name[NAME_MAX_LEN + 1]; /* "": none */
	uint8_t point[POINT_ID_LEN]; /* that the first layer stands on */
	uint32_t block_size; /* bytes */
	int64_t created; /* seconds since 1970 UTC */
	uint16_t suite;
	uint32_t epoch; /* of the key that the layers' keys come from; 0 of suite 0 */
	uint8_t salt[SALT_LEN];
	uint32_t first, last; /* layers, from 1 */
	struct overlay_header_disk *disks; /* owned */
	size_t ndisks;
	uint8_t mac[ID_LEN]; /* filled by the decoder; zero for suite 0 */
};
#define OVERLAY_HEADER_MAX (64u * 1024) /* bytes */
#define OVERLAY_HEADER_TAIL 40u /* MAC and check */
bool overlay_header_is(const void *p, size_t n); /* by its magic */
/* Appends all that the MAC covers; ERR_INTERNAL for what the decoder would refuse. */
int overlay_header_encode(const struct overlay_header *h, struct buf *out, struct err *err);
/* Appends MAC (NULL: zeroes, suite 0) and check.  out: nothing but what overlay_header_encode() made. */
void overlay_header_seal(struct buf *out, const uint8_t mac[ID_LEN]);
/* The MAC covers the first n - OVERLAY_HEADER_TAIL bytes.  Fills *out only on success; released with overlay_header_release(). */
int overlay_header_decode(const void *p, size_t n, struct overlay_header *out, struct err *err);
void overlay_header_release(struct overlay_header *h); /* what it owns; the struct is the caller's */

/* --- state log of one layer of one disk --- */
#define OVERLAY_SECTOR 512u /* records begin at multiples of it */
#define OVERLAY_LOG_HEADER_LEN 512u
#define OVERLAY_LOG_HEADER_MACED 144u /* bytes that its MAC covers */
#define OVERLAY_LOG_ID_LEN 16
struct overlay_log_header {
	uint8_t uuid[UUID_LEN];
	char id[OVERLAY_ID_TEXT]; /* of the overlay */
	char disk[DISK_NAME_MAX_LEN + 1];
	uint64_t size; /* of the disk, bytes */
	uint32_t layer;
	uint16_t suite;
	uint32_t epoch;
	uint8_t log[OVERLAY_LOG_ID_LEN]; /* random, new for each file */
	uint8_t mac[ID_LEN]; /* zero for suite 0 */
};
bool overlay_log_is(const void *p, size_t n); /* by its magic */
/* With h->mac as it is; the bytes before it are right with any. */
void overlay_log_header_encode(const struct overlay_log_header *h,
			       uint8_t out[OVERLAY_LOG_HEADER_LEN]);
int overlay_log_header_decode(const uint8_t in[OVERLAY_LOG_HEADER_LEN],
			      struct overlay_log_header *out, struct err *err);

enum overlay_record_kind { OVERLAY_RUNS = 1, OVERLAY_PAGES = 2 };
#define OVERLAY_RUN_LEN 16u
#define OVERLAY_PAGE_BLOCKS 16384u
#define OVERLAY_PAGE_LEN 4096u /* bytes: two bits a block */
#define OVERLAY_ENTRIES_MAX (1u << 20) /* bytes of entries in a record */
#define OVERLAY_RECORD_HEAD 40u
#define OVERLAY_RECORD_TAIL 36u /* MAC and CRC */
#define OVERLAY_RECORD_MAX                                                                         \
	((OVERLAY_RECORD_HEAD + OVERLAY_ENTRIES_MAX + OVERLAY_RECORD_TAIL + OVERLAY_SECTOR - 1) &  \
	 ~(OVERLAY_SECTOR - 1))
/* Bytes in the file of a record with n bytes of entries. */
uint64_t overlay_record_size(uint64_t n);
struct overlay_run {
	uint64_t first, count; /* blocks */
	unsigned state; /* 1 data, 2 zero */
};
/* A record in an empty buffer: begin; entries of the kind, one or more; end, which returns how many bytes the MAC covers; close with
 * the MAC (NULL: zeroes, suite 0), which adds check and padding.  out->failed at the end: out of memory. */
void overlay_record_begin(struct buf *out, enum overlay_record_kind kind, uint64_t number,
			  const uint8_t log[OVERLAY_LOG_ID_LEN]);
void overlay_record_run(struct buf *out, const struct overlay_run *run);
void overlay_record_page(struct buf *out, uint64_t page, const uint8_t states[OVERLAY_PAGE_LEN]);
size_t overlay_record_end(struct buf *out);
void overlay_record_close(struct buf *out, const uint8_t mac[ID_LEN]);

struct overlay_record {
	enum overlay_record_kind kind;
	uint64_t number;
	size_t entries; /* how many */
	const uint8_t *data; /* entries, borrowed from the record's bytes */
	size_t maced; /* the MAC covers so many bytes from the record's start */
	const uint8_t *mac; /* borrowed */
	uint64_t size; /* bytes in the file, padding included */
};
/* Bytes that a record of this head has in the file, or 0 if it is the head of none of this log.  head: OVERLAY_RECORD_HEAD
 * bytes. */
uint64_t overlay_record_head(const uint8_t *head, const struct overlay_log_header *log);
/* p: n bytes from the start of a record on, at least as many as it has; ERR_DAMAGED for any other. */
int overlay_record_decode(const void *p, size_t n, const struct overlay_log_header *log,
			  struct overlay_record *out, struct err *err);
/* Entry i of a decoded record of that kind. */
struct overlay_run overlay_record_get_run(const struct overlay_record *r, size_t i);
/* Returns the states, borrowed, and fills page. */
const uint8_t *overlay_record_get_page(const struct overlay_record *r, size_t i, uint64_t *page);

/* --- live file of a layer --- */
#define OVERLAY_LIVE_HEADER_LEN 4096u
#define OVERLAY_LIVE_FIXED 68u /* bytes of the header that stay; the rest are counters */
#define OVERLAY_BOOT_LEN 16
#define OVERLAY_LIVE_SLOTS_MAX (1u << 24)
struct overlay_live_header {
	uint8_t boot[OVERLAY_BOOT_LEN];
	char id[OVERLAY_ID_TEXT]; /* of the overlay */
	uint32_t layer, slots;
	uint64_t size; /* of the disk, bytes */
};
/* Offsets of 8-byte counters: slots in use, and age, of area 0 or 1. */
#define OVERLAY_LIVE_USED(area) (72u + 8u * (area))
#define OVERLAY_LIVE_AGE(area) (88u + 8u * (area))
void overlay_live_header_encode(const struct overlay_live_header *h,
				uint8_t out[OVERLAY_LIVE_FIXED]);
int overlay_live_header_decode(const uint8_t in[OVERLAY_LIVE_FIXED],
			       struct overlay_live_header *out, struct err *err);
/* The two words of a slot, as the file has them. */
void overlay_live_slot(const struct overlay_run *run, uint64_t words[2]);
/* False for what no change of a disk of so many blocks looks like. */
bool overlay_live_slot_get(const uint8_t slot[OVERLAY_RUN_LEN], uint64_t blocks,
			   struct overlay_run *out);

#endif
