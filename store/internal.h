/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Shared inside store/. */
#ifndef LIVEPOINT_STORE_INTERNAL_H
#define LIVEPOINT_STORE_INTERNAL_H

#include <pthread.h>

#include "store/backend.h"
#include "store/store.h"

#define PACK_BUCKETS 1024u
/* Descriptors that cached packs may hold: half of what the process may open, within these. */
#define PACK_FDS_MIN 32u
#define PACK_FDS_MAX 4096u

struct store_pack {
	struct store *store;
	uint64_t number;
	struct backend_file file;
	uint64_t size; /* bytes of the file */
	struct pack_header header;
	struct pack_trailer trailer;
	struct footer_entry *entries; /* owned; ascending slots */
	struct codec_pack_key *key;
	/* Under store->lock: */
	unsigned refs;
	bool loading; /* somebody reads the footer; wait on store->loaded */
	bool cached; /* in the table */
	struct store_pack *chain; /* of the bucket */
	struct store_pack *newer, *older; /* by last use */
};

struct store {
	struct backend *backend;
	const struct codec_keys *keys;
	uint8_t uuid[UUID_LEN];
	char *path;
	uint64_t footer_cache; /* bytes */
	unsigned fds_max; /* packs in the cache */
	pthread_mutex_t lock; /* guards what follows; memory work only */
	pthread_cond_t loaded;
	struct store_pack *buckets[PACK_BUCKETS];
	struct store_pack *newest, *oldest;
	uint64_t cached_bytes;
	unsigned cached_packs;
};

struct store_reader {
	struct store *store;
	struct codec_ctx *ctx;
	uint8_t *scratch; /* a stored record; owned */
	size_t scratch_len;
};
int store_reader_scratch(struct store_reader *r, size_t n, struct err *err);

struct store_stage {
	struct store *store;
	uint64_t token;
	uint64_t folders[4]; /* bits of packs/ab that need a sync */
	bool index; /* index/ needs one */
};

enum writer_state { WRITER_OPEN, WRITER_FINISHED, WRITER_PUBLISHED, WRITER_ERROR };

struct store_writer {
	struct store *store;
	struct store_stage *stage; /* only for publishing: a writer may be freed after its stage */
	struct backend_file file;
	char name[32]; /* in the staging folder */
	enum writer_state state;
	struct pack_header header;
	struct codec_pack_key *key;
	struct buf pending; /* bytes not yet written */
	uint64_t written; /* bytes of the file before pending */
	struct footer_entry *entries;
	uint32_t count, cap;
	uint32_t slots; /* for the trailer: highest slot ever used + 1 */
	const char *write_point, *sync_point; /* fault points */
	bool hashed; /* each record's content id was recomputed before it was added: not again in the read-back */
};
/* A writer of the pack with this header, its file in staging/TOKEN; name_of gives the name of that file. */
int store_writer_open(struct store_stage *st, const struct pack_header *h,
		      struct store_writer **out, struct err *err);
void store_staged_name(uint64_t number, char name[32]);
/* Seals and adds a record in a slot above all before, without writing; *record (borrowed until the next call): as it will lie
 * in the file. */
int store_writer_seal(struct store_writer *w, struct codec_ctx *ctx, const struct store_append *a,
		      uint32_t slot, const uint8_t **record, struct err *err);
/* Adds a sealed record as it is; e->offset is not looked at. */
int store_writer_copy(struct store_writer *w, const struct footer_entry *e, const uint8_t *record,
		      struct err *err);
/* Writes what is pending, if it is much. */
int store_writer_flush(struct store_writer *w, struct err *err);

/* --- packs outside the cache --- */
/* Opens the file that is there now, with its footer; put gives it back.  Errors as store_pack_get. */
int store_pack_load(struct store *s, uint64_t number, struct store_pack **out, struct err *err);
/* The same without trailer and footer: count is 0. */
int store_pack_load_header(struct store *s, uint64_t number, struct store_pack **out,
			   struct err *err);
/* After a file was replaced or has gone: the next get opens anew; who holds the old one keeps it. */
void store_pack_forget(struct store *s, uint64_t number);

/* A window over a pack's file, so that records are not read one by one. */
struct store_view {
	const struct store_pack *pack;
	uint8_t *data; /* owned */
	size_t cap;
	uint64_t start, len; /* what of the file is in data */
};
void store_view_release(struct store_view *v);
/* Borrows n bytes at offset until the next call.  A window that cannot be read does not spoil the n bytes. */
int store_view_at(struct store_view *v, uint64_t offset, size_t n, const uint8_t **out,
		  struct err *err);
/* Is the record at e's offset good: header, tag or XXH3, and (by_hash) content id?  plain: of e->plain_len bytes.
 * 1: yes; 0: no, or it cannot be read (*record is then undefined); else an error that says nothing about the record. */
int store_view_check(struct store_view *v, struct store_reader *r, const struct footer_entry *e,
		     bool by_hash, uint8_t *plain, const uint8_t **record, struct err *err);

/* Reads header, record and checks them against entry; opens into dst (plain_len bytes). */
int store_record_open(struct store_reader *r, const struct codec_pack_key *key,
		      const struct footer_entry *entry, const uint8_t *record, size_t n, void *dst,
		      struct err *err);

#endif
