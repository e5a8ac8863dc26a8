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

/* Reads header, record and checks them against entry; opens into dst (plain_len bytes). */
int store_record_open(struct store_reader *r, const struct codec_pack_key *key,
		      const struct footer_entry *entry, const uint8_t *record, size_t n, void *dst,
		      struct err *err);

#endif
