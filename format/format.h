/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Encoders and decoders of every object that Livepoint keeps on disk; bytes <-> values, no I/O.
 * The byte tables are in livepoint-repository(5), which came first.
 *
 * Invariants:
 *  1. No struct is written as memory; little-endian through base/base.h.
 *  2. A decoder checks every field (magic, version, reserved, bounds, check) before it fills its
 *     output, allocates only what the bounds allow, and refuses any encoding that the encoder
 *     would not have made.
 *  3. A failed decode is ERR_DAMAGED, except an unknown version or feature: ERR_UNSUPPORTED.
 *
 * All functions: any thread.
 */
#ifndef LIVEPOINT_FORMAT_FORMAT_H
#define LIVEPOINT_FORMAT_FORMAT_H

#include "base/buf.h"

#define UUID_LEN 16
#define ID_LEN 32 /* content id of any object */
#define POINT_ID_LEN 16
#define KEY_LEN 32
#define SALT_LEN 32
#define NONCE_MAX 24
#define TAG_MAX 16

#define FORMAT_VERSION 1
#define SUITE_LAST                                                                                 \
	1 /* highest cipher suite number whose layout (nonce, salt, epoch) is known here */

/* scrypt parameters that are bearable: N a power of two, 2 to 2^20; r 1 to 32; p 1 to 16; N r 2^23 (1 GiB of memory), N r p
 * 2^24 (32 times the work of the default). */
bool kdf_valid(uint64_t n, uint32_t r, uint32_t p);

/* --- locators --- */
#define LOCATOR_NONE ((uint64_t)0)
#define PACK_NUMBER_MAX (((uint64_t)1 << 40) - 1)
#define SLOT_MAX_COUNT 65536u /* slots in a pack */
static inline uint64_t locator_make(uint64_t pack, uint32_t slot)
{
	return pack << 24 | slot;
}
static inline uint64_t locator_pack(uint64_t locator)
{
	return locator >> 24;
}
static inline uint32_t locator_slot(uint64_t locator)
{
	return (uint32_t)(locator & 0xffffff);
}

struct object_ref {
	uint64_t locator; /* LOCATOR_NONE: no object (all holes) */
	uint8_t id[ID_LEN]; /* zero if none */
};
#define REF_LEN 40
void ref_encode(struct buf *out, const struct object_ref *ref);
/* An empty locator with an id, a pack number of 0 or a slot out of range fails the cursor. */
void ref_decode(struct cursor *c, struct object_ref *ref);

/* --- object types and codecs --- */
enum object_type {
	OBJECT_CHUNK = 1,
	OBJECT_LEAF = 2,
	OBJECT_PAGE = 3,
	OBJECT_ROOT = 4,
	OBJECT_MANIFEST = 5,
	OBJECT_BLOB = 6,
	OBJECT_STATE = 7,
};
#define OBJECT_TYPE_LAST OBJECT_STATE
const char *object_type_name(int type); /* "chunk" ...; "unknown" */
#define OBJECT_PLAIN_MAX (4u << 20) /* bytes */
enum object_codec { CODEC_RAW = 0, CODEC_ZSTD = 1 };

/* --- livepoint.conf --- */
enum compression {
	COMPRESSION_NONE,
	COMPRESSION_FAST,
	COMPRESSION_DEFAULT,
	COMPRESSION_BETTER,
	COMPRESSION_BEST
};
/* -1 if unknown */
int compression_parse(const char *name);
const char *compression_name(enum compression c);
int compression_level(enum compression c); /* zstd level; 0 for none */

#define CONF_MAX (64 * 1024)
struct conf {
	uint8_t uuid[UUID_LEN];
	uint64_t incompatible, compatible, autoclear; /* feature bits */
	uint32_t chunk_size; /* bytes */
	uint32_t leaf_chunks;
	uint16_t suite;
	enum compression compression;
	uint64_t kdf_n;
	uint32_t kdf_r, kdf_p;
	uint64_t grace; /* seconds */
	int64_t created;
};
#define CHUNK_SIZE_DEFAULT 65536u
#define CHUNK_SIZE_MIN 4096u
#define CHUNK_SIZE_MAX (1u << 20) /* a session buffer (repo/session.h) holds at least one */
#define LEAF_CHUNKS 1024u
#define PAGE_LEAVES 1024u
#define ROOT_PAGES_MAX 1024u
/* Bits that this program knows. */
#define FEATURES_INCOMPATIBLE ((uint64_t)0)
#define FEATURES_AUTOCLEAR ((uint64_t)0)
int conf_encode(const struct conf *conf, struct buf *out, struct err *err);
/* An unknown incompatible bit, key, or newer format is ERR_NO_REPO (exit 10). */
int conf_decode(const void *p, size_t n, struct conf *out, struct err *err);

/* --- key file, version 1: one slot; written by no program any more --- */
#define KEY_LABEL_MAX 64
#define KEY_WRAPPED_LEN (KEY_LEN + TAG_MAX)
#define KEY_FILE_LEN 240
#define KEY_AAD_LEN 184 /* the first bytes of the file are the associated data */
struct key_file {
	uint16_t suite;
	uint64_t kdf_n;
	uint32_t kdf_r, kdf_p;
	uint8_t salt[SALT_LEN];
	uint8_t nonce[NONCE_MAX];
	uint8_t uuid[UUID_LEN];
	char label[KEY_LABEL_MAX + 1];
	int64_t created;
	uint8_t wrapped[KEY_WRAPPED_LEN];
};
/* At most KEY_LABEL_MAX bytes of UTF-8 without control characters; may be empty. */
bool key_label_valid(const char *label);
void key_file_encode(const struct key_file *k, uint8_t out[KEY_FILE_LEN]);
int key_file_decode(const void *p, size_t n, struct key_file *out, struct err *err);

/* --- key ring: all slots and epochs of a repository --- */
#define KEY_SLOTS_MAX 8
/* One a month for ten years; all of them fit into a pipe of one page. */
#define KEY_EPOCHS_MAX 120
#define KEY_PUBLIC_LEN 32 /* X25519 */
#define KEY_SECRET_LEN (2 * KEY_LEN) /* what a passphrase wraps: private key, key of an epoch */
#define KEY_SLOT_LEN 344
#define KEY_SLOT_AAD_LEN 184 /* its first bytes, behind the uuid, are the associated data */
#define KEY_RING_HEAD_LEN 40
#define KEY_RING_TAIL_LEN 40 /* MAC and check */
#define KEY_RING_MAX                                                                               \
	(KEY_RING_HEAD_LEN + KEY_SLOTS_MAX * KEY_SLOT_LEN +                                        \
	 (KEY_EPOCHS_MAX - 1) * KEY_WRAPPED_LEN + KEY_RING_TAIL_LEN)
enum key_slot_kind { KEY_PASSPHRASE = 1, KEY_RECOVERY = 2 };
struct key_ring_slot {
	uint16_t kind; /* enum key_slot_kind */
	uint16_t bound; /* epoch whose key is in wrapped */
	uint64_t kdf_n;
	uint32_t kdf_r, kdf_p;
	uint8_t salt[SALT_LEN];
	uint8_t nonce[NONCE_MAX];
	char label[KEY_LABEL_MAX + 1]; /* not empty */
	int64_t created;
	uint8_t public[KEY_PUBLIC_LEN];
	uint8_t wrapped[KEY_SECRET_LEN + TAG_MAX];
	uint8_t ephemeral[KEY_PUBLIC_LEN];
	uint8_t sealed[KEY_WRAPPED_LEN]; /* key of the newest epoch */
};
struct key_ring {
	uint16_t suite;
	uint8_t uuid[UUID_LEN];
	uint64_t serial;
	unsigned nslots, epochs;
	struct key_ring_slot slots[KEY_SLOTS_MAX];
	uint8_t chain[KEY_EPOCHS_MAX - 1]
		     [KEY_WRAPPED_LEN]; /* key of epoch i + 1, under that of the next */
	uint8_t mac[ID_LEN];
};
bool key_ring_is(const void *p, size_t n); /* by its magic */
/* ERR_INVALID for what the decoder would refuse. */
int key_ring_encode(const struct key_ring *k, struct buf *out, struct err *err);
int key_ring_decode(const void *p, size_t n, struct key_ring *out, struct err *err);
/* The first bytes of a slot, KEY_SLOT_AAD_LEN of them. */
void key_slot_head_encode(const struct key_ring_slot *s, uint8_t out[KEY_SLOT_AAD_LEN]);

/* --- recovery key: 160 random bits as a person types them --- */
#define RECOVERY_LETTERS 32 /* five bits each; they are the passphrase of its slot */
#define RECOVERY_CHECKS 4
#define RECOVERY_TEXT_MAX 64
#define RECOVERY_BITS_LEN 20 /* bytes */
/* "ABCD-EFGH-...": eight groups and the check group. */
void recovery_encode(const uint8_t bits[RECOVERY_BITS_LEN], char out[RECOVERY_TEXT_MAX]);
enum recovery_text {
	RECOVERY_NOT, /* nothing like it */
	RECOVERY_WRONG, /* as long as one, of its letters, and the check group does not fit: a typing error */
	RECOVERY_RIGHT,
};
/* Case, blanks and hyphens do not matter; 0, 1 and 8, which are no letters of base32, are taken as O, I and B.  Fills letters
 * when it is right. */
enum recovery_text recovery_decode(const void *text, size_t n, char letters[RECOVERY_LETTERS]);

/* --- pack --- */
enum pack_kind { PACK_DATA = 1, PACK_MAP = 2 };
#define PACK_CLOSE_BYTES (64u << 20) /* a pack is closed when it has reached this */
#define PACK_HEADER_LEN 128
#define PACK_TRAILER_LEN 64
#define RECORD_HEADER_LEN 96
#define FOOTER_MAGIC_LEN 8
#define FOOTER_ENTRY_LEN 52
#define RECORD_AAD_LEN 64
/* Bound of a file: the last record may pass PACK_CLOSE_BYTES. */
#define PACK_BYTES_MAX (PACK_CLOSE_BYTES + OBJECT_PLAIN_MAX + (8u << 20))

struct pack_header {
	uint16_t suite;
	enum pack_kind kind;
	uint64_t number;
	uint8_t uuid[UUID_LEN];
	uint8_t instance[16];
	uint8_t salt[SALT_LEN];
	uint32_t epoch;
};
void pack_header_encode(const struct pack_header *h, uint8_t out[PACK_HEADER_LEN]);
int pack_header_decode(const uint8_t in[PACK_HEADER_LEN], struct pack_header *out, struct err *err);

struct record_header {
	uint8_t type; /* enum object_type */
	uint8_t codec; /* enum object_codec */
	int8_t level;
	uint32_t slot;
	uint32_t plain_len; /* bytes */
	uint32_t stored_len; /* bytes of payload, tag included */
	uint32_t epoch;
	uint8_t id[ID_LEN];
	uint64_t xxh3; /* of the plaintext; 0 when sealed */
	uint8_t nonce[NONCE_MAX];
};
void record_header_encode(const struct record_header *h, uint8_t out[RECORD_HEADER_LEN]);
int record_header_decode(const uint8_t in[RECORD_HEADER_LEN], struct record_header *out,
			 struct err *err);
void record_aad(const uint8_t uuid[UUID_LEN], const struct record_header *h,
		uint8_t out[RECORD_AAD_LEN]);

struct footer_entry {
	uint32_t slot;
	uint32_t offset; /* of the record header in the file, bytes */
	uint32_t stored_len, plain_len;
	uint8_t type, codec;
	uint8_t id[ID_LEN];
};
/* Appends magic and entries. */
void footer_encode(struct buf *out, const struct footer_entry *entries, size_t count);
struct pack_trailer {
	uint64_t footer_offset;
	uint32_t footer_len;
	uint32_t count; /* entries */
	uint32_t slots; /* highest slot + 1 */
	uint8_t instance[16];
	uint64_t footer_check;
};
void pack_trailer_encode(const struct pack_trailer *t, uint8_t out[PACK_TRAILER_LEN]);
/* file_size: bytes; the trailer must fit it exactly. */
int pack_trailer_decode(const uint8_t in[PACK_TRAILER_LEN], uint64_t file_size,
			struct pack_trailer *out, struct err *err);
/* p, n: the footer's bytes.  Fills *entries (caller frees with free()), t->count of them: ascending slots below
 * t->slots, records in ascending order that do not overlap and lie between header and footer. */
int footer_decode(const void *p, size_t n, const struct pack_trailer *t,
		  struct footer_entry **entries, struct err *err);

/* --- block map --- */
enum run_kind { RUN_HOLE = 0, RUN_DATA = 1, RUN_UNREADABLE = 2 };
struct run {
	uint8_t kind; /* enum run_kind */
	uint16_t start; /* first chunk in the leaf */
	uint16_t count; /* chunks, 1 to 1024 */
	uint64_t locator; /* of the first chunk (data) */
};
#define LEAF_BYTES_MAX (16u * 1024)
#define PAGE_BYTES_MAX (48u * 1024)
struct leaf {
	uint16_t chunks; /* 1 to LEAF_CHUNKS */
	uint16_t nruns;
	uint8_t digest[ID_LEN];
	struct run runs[]; /* cover 0 to chunks - 1 without gap */
};
/* Locators of all chunks: LOCATOR_NONE = hole, LOCATOR_UNREADABLE, else data. */
#define LOCATOR_UNREADABLE UINT64_MAX
/* Appends the canonical encoding.  chunks: 1 to LEAF_CHUNKS; not all holes. */
int leaf_encode(const uint64_t *locators, unsigned chunks, const uint8_t digest[ID_LEN],
		struct buf *out, struct err *err);
/* Fills *out (caller frees with free()). */
int leaf_decode(const void *p, size_t n, struct leaf **out, struct err *err);
/* Locator of chunk i (LOCATOR_NONE, LOCATOR_UNREADABLE or data); *run_left: chunks from i to the end of its run. */
uint64_t leaf_lookup(const struct leaf *leaf, unsigned i, unsigned *run_left);
size_t leaf_size(const struct leaf *leaf); /* bytes of memory */

/* pages: count references. */
int page_encode(const struct object_ref *leaves, unsigned count, struct buf *out, struct err *err);
struct page {
	uint16_t count;
	struct object_ref leaves[];
};
int page_decode(const void *p, size_t n, struct page **out, struct err *err);
struct root {
	uint64_t size; /* of the disk, bytes */
	uint32_t chunk_size, leaf_chunks;
	uint16_t count; /* pages */
	struct object_ref pages[];
};
int root_encode(const struct root *root, struct buf *out, struct err *err);
int root_decode(const void *p, size_t n, struct root **out, struct err *err);
/* Numbers of things for a disk of size bytes; false if it is too big for a root. */
bool map_geometry(uint64_t size, uint32_t chunk_size, uint64_t *chunks, uint64_t *leaves,
		  uint32_t *pages);

/* --- manifest --- */
#define NAME_MAX_LEN 128 /* of a NAME, bytes */
#define DISK_NAME_MAX_LEN 64
#define MANIFEST_MAX (1u << 20)
#define POINT_DISKS_MAX 256
#define POINT_LABELS_MAX 1024
#define POINT_CONFIGS_MAX 64
#define CONFIG_NAME_MAX_LEN 64
#define CONFIG_BYTES_MAX (64u << 20) /* of one file */
#define CONFIG_PART OBJECT_PLAIN_MAX /* bytes of every part but the last */
#define CONFIG_PARTS_MAX (CONFIG_BYTES_MAX / CONFIG_PART)
bool name_valid(const char *name); /* the grammar of DESIGN 6 */
bool disk_name_valid(const char *name);
bool config_name_valid(const char *name); /* the characters of a DISK, 1 to 64 */

enum point_kind { POINT_FULL = 1, POINT_INCREMENTAL = 2, POINT_DIFFERENTIAL = 3 };
enum disk_method {
	METHOD_FULL = 1,
	METHOD_HASH = 2,
	METHOD_MAP = 3,
	METHOD_CBT = 4,
	METHOD_SNAPSHOT = 5
};
enum consistency { CONSISTENCY_CRASH = 1, CONSISTENCY_FILESYSTEM = 2, CONSISTENCY_APPLICATION = 3 };
const char *point_kind_name(int kind);
const char *disk_method_name(int method);
const char *consistency_name(int consistency);
int consistency_parse(const char *name); /* -1 if unknown */

/* Where the page does not say critical, a number or enum of 0 and a NULL text are not stored. */
struct manifest_disk {
	char name[DISK_NAME_MAX_LEN + 1];
	uint64_t size; /* bytes */
	uint64_t source_size; /* bytes, before padding to 512: size - 511 to size */
	uint32_t chunk_size;
	struct object_ref root;
	int method; /* enum disk_method */
	char *source; /* owned; NULL if unknown */
	uint64_t read_bytes, unreadable_bytes;
};
struct manifest_label {
	char *key, *value; /* owned; keys are unique and not empty */
};
/* A file kept with the point. */
struct manifest_config {
	char name[CONFIG_NAME_MAX_LEN + 1];
	uint64_t size; /* bytes */
	unsigned nparts; /* as config_parts(size) */
	struct object_ref *parts; /* owned; blobs */
};
static inline unsigned config_parts(uint64_t size)
{
	return (unsigned)((size + CONFIG_PART - 1) / CONFIG_PART);
}
/* Bytes of part i. */
static inline uint32_t config_part_len(uint64_t size, unsigned i)
{
	uint64_t left = size - (uint64_t)i * CONFIG_PART;

	return (uint32_t)(left < CONFIG_PART ? left : CONFIG_PART);
}
struct manifest {
	uint8_t uuid[UUID_LEN];
	char name[NAME_MAX_LEN + 1];
	int64_t time;
	uint64_t sequence, generation;
	int kind; /* enum point_kind */
	bool has_parent;
	uint8_t parent[POINT_ID_LEN];
	int consistency;
	uint64_t stored; /* bytes */
	char *program; /* owned or NULL */
	size_t ndisks, nlabels, nconfigs;
	struct manifest_disk *disks; /* owned */
	struct manifest_label *labels; /* owned */
	struct manifest_config *configs; /* owned; never in a row of the catalog */
};
int manifest_encode(const struct manifest *m, struct buf *out, struct err *err);
int manifest_decode(const void *p, size_t n, struct manifest **out, struct err *err);
void manifest_free(struct manifest *m);
DEFINE_CLEANUP(manifest, manifest_free)

/* --- index segment --- */
#define SEGMENT_HEADER_LEN 128
#define SEGMENT_KEY_LEN 16
#define SEGMENT_RECORD_LEN 24
#define BLOOM_BLOCK 64
#define BLOOM_PROBES 6
#define BLOOM_BITS_PER_KEY 10
struct segment_header {
	uint8_t uuid[UUID_LEN];
	uint64_t number, records;
	unsigned fence_bits;
	uint64_t records_offset, fence_offset, bloom_offset, bloom_len;
	uint64_t records_check, fence_check, bloom_check;
};
void segment_header_encode(const struct segment_header *h, uint8_t out[SEGMENT_HEADER_LEN]);
/* The parts must lie in file_size and not overlap. */
int segment_header_decode(const uint8_t in[SEGMENT_HEADER_LEN], uint64_t file_size,
			  struct segment_header *out, struct err *err);
unsigned
segment_fence_bits(uint64_t records); /* so that at most about 128 records share an entry */
uint64_t segment_bloom_len(uint64_t records); /* bytes */
void segment_bloom_add(uint8_t *bloom, uint64_t len, const uint8_t key[SEGMENT_KEY_LEN]);
bool segment_bloom_has(const uint8_t *bloom, uint64_t len, const uint8_t key[SEGMENT_KEY_LEN]);

/* --- text dumps --- */
/* Appends a text form of a whole file (conf, key, pack: header, footer and record headers; segment; overlay header, state log) to out, told by its
 * magic.  Broken parts are said in the text; ERR_DAMAGED after as much as could be dumped. */
int dump_file(const void *p, size_t n, struct buf *out, struct err *err);
/* The same of an object's plaintext. */
int dump_object(enum object_type type, const void *p, size_t n, struct buf *out, struct err *err);

#endif
