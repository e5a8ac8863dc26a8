/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Reading packs: a cache of open files with their footers, and records out of them.
 *
 * 1. Descriptor and footer are read together and dropped together.
 * 2. A pack in use (refs > 0) is never dropped; unused ones leave in the order of their last use when the cache is over
 *    its bytes or descriptors.
 * 3. The lock is held for memory work only; a pack being opened is a busy mark, later comers wait for it.
 * 4. Bytes leave only after: record header = footer entry, tag or XXH3, codec, plain length.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/log.h"
#include "store/internal.h"

#include "base/banned.h"

/* Footers are near the end: one read usually brings trailer and footer of up to this many bytes. */
#define TAIL_READ (64u * 1024)

/* --- the cache's lists; all with s->lock held --- */

static struct store_pack **bucket_of(struct store *s, uint64_t number)
{
	return &s->buckets[number % PACK_BUCKETS];
}

static uint64_t pack_bytes(const struct store_pack *p)
{
	return sizeof(*p) + (uint64_t)p->trailer.count * sizeof(*p->entries) + 512;
}

static void use_unlink_locked(struct store *s, struct store_pack *p)
{
	if (p->newer)
		p->newer->older = p->older;
	else
		s->newest = p->older;
	if (p->older)
		p->older->newer = p->newer;
	else
		s->oldest = p->newer;
	p->newer = p->older = NULL;
}

static void use_push_locked(struct store *s, struct store_pack *p)
{
	p->older = s->newest;
	p->newer = NULL;
	if (s->newest)
		s->newest->newer = p;
	else
		s->oldest = p;
	s->newest = p;
}

static struct store_pack *find_locked(struct store *s, uint64_t number)
{
	struct store_pack *p = *bucket_of(s, number);

	while (p && p->number != number)
		p = p->chain;
	return p;
}

static void uncache_locked(struct store *s, struct store_pack *p)
{
	struct store_pack **at = bucket_of(s, p->number);

	while (*at != p)
		at = &(*at)->chain;
	*at = p->chain;
	use_unlink_locked(s, p);
	if (!p->loading) {
		s->cached_bytes -= pack_bytes(p);
		s->cached_packs--;
	}
	p->cached = false;
}

static void pack_destroy(struct store_pack *p)
{
	if (p->file.path)
		p->store->backend->ops->close(&p->file);
	codec_pack_key_free(p->key);
	free(p->entries);
	free(p);
}

/* Takes unused packs out of the cache until it fits; returns them chained for destruction outside the lock. */
static struct store_pack *trim_locked(struct store *s, uint64_t most_bytes, unsigned most_packs)
{
	struct store_pack *gone = NULL, *p = s->oldest;

	while (p && (s->cached_bytes > most_bytes || s->cached_packs > most_packs)) {
		struct store_pack *next = p->newer;

		if (!p->refs) {
			uncache_locked(s, p);
			p->chain = gone;
			gone = p;
		}
		p = next;
	}
	return gone;
}

static void destroy_chain(struct store_pack *p)
{
	while (p) {
		struct store_pack *next = p->chain;

		pack_destroy(p);
		p = next;
	}
}

/* Planted bug: descriptors go and footers stay, so that an old footer meets a new file. */
static void reopen_locked(struct store *s)
{
	for (struct store_pack *p = s->oldest; p; p = p->newer) {
		const struct backend_ops *ops = s->backend->ops;

		if (p->refs || p->loading)
			continue;
		ops->close(&p->file);
		(void)ops->open(s->backend, BACKEND_PACK, p->number, &p->file, NULL);
	}
}

void store_drop_cache(struct store *s)
{
	struct store_pack *gone = NULL;

	pthread_mutex_lock(&s->lock);
	if (fault_planted("store.footer"))
		reopen_locked(s);
	else
		gone = trim_locked(s, 0, 0);
	pthread_mutex_unlock(&s->lock);
	destroy_chain(gone);
}

/* --- opening --- */

static int load_footer(struct store_pack *p, const uint8_t *tail, size_t tail_len, struct err *err)
{
	const struct backend_ops *ops = p->store->backend->ops;
	uint64_t tail_start = p->size - tail_len;
	cleanup_free uint8_t *own = NULL;
	const uint8_t *footer;
	int r;

	if (p->trailer.footer_offset >= tail_start) {
		footer = tail + (p->trailer.footer_offset - tail_start);
	} else {
		own = mem_alloc(p->trailer.footer_len);
		if (!own)
			return err_nomem(err, "footer of a pack");
		r = ops->read(&p->file, own, p->trailer.footer_len, p->trailer.footer_offset, err);
		if (r < 0)
			return r;
		footer = own;
	}
	return footer_decode(footer, p->trailer.footer_len, &p->trailer, &p->entries, err);
}

static int check_header(struct store_pack *p, struct err *err)
{
	const struct codec_suite *suite = codec_keys_suite(p->store->keys);

	if (p->header.number != p->number)
		return err_set(err, ERR_DAMAGED, "header is that of pack %" PRIx64,
			       p->header.number);
	if (memcmp(p->header.uuid, p->store->uuid, UUID_LEN) != 0)
		return err_set(err, ERR_DAMAGED, "belongs to another repository");
	/* A store without the key (suite 0 of an encrypted repository) may look at footers, not at records. */
	if (suite->keyed && p->header.suite != suite->number)
		return err_set(err, ERR_DAMAGED, "cipher suite %u, the repository has %u",
			       p->header.suite, suite->number);
	return 0;
}

static int check_instance(const struct store_pack *p, struct err *err)
{
	if (memcmp(p->header.instance, p->trailer.instance, sizeof(p->header.instance)) != 0)
		return err_set(err, ERR_DAMAGED, "header and trailer are of different instances");
	return 0;
}

/* Without the repository's key only the footer can be used. */
static int make_key(struct store_pack *p, struct err *err)
{
	if (p->header.suite != codec_keys_suite(p->store->keys)->number)
		return 0;
	return codec_pack_key_new(p->store->keys, p->header.salt, p->header.epoch, p->number,
				  &p->key, err);
}

static int pack_load(struct store_pack *p, struct err *err)
{
	struct backend *b = p->store->backend;
	uint8_t header[PACK_HEADER_LEN];
	cleanup_free uint8_t *tail = NULL;
	size_t tail_len;
	int r;

	r = b->ops->open(b, BACKEND_PACK, p->number, &p->file, err);
	if (r < 0)
		return r;
	r = b->ops->size(&p->file, &p->size, err);
	if (r < 0)
		return r;
	if (p->size < PACK_HEADER_LEN + FOOTER_MAGIC_LEN + PACK_TRAILER_LEN ||
	    p->size > PACK_BYTES_MAX)
		return err_set(err, ERR_DAMAGED, "has %" PRIu64 " bytes, which no pack has",
			       p->size);
	tail_len = MIN(p->size, TAIL_READ);
	tail = mem_alloc(tail_len);
	if (!tail)
		return err_nomem(err, "tail of a pack");
	r = b->ops->read(&p->file, tail, tail_len, p->size - tail_len, err);
	if (r == 0)
		r = b->ops->read(&p->file, header, sizeof(header), 0, err);
	if (r == 0)
		r = pack_header_decode(header, &p->header, err);
	if (r == 0)
		r = pack_trailer_decode(tail + tail_len - PACK_TRAILER_LEN, p->size, &p->trailer,
					err);
	if (r == 0)
		r = check_header(p, err);
	if (r == 0)
		r = check_instance(p, err);
	if (r == 0)
		r = load_footer(p, tail, tail_len, err);
	return r < 0 ? r : make_key(p, err);
}

static int header_load(struct store_pack *p, struct err *err)
{
	struct backend *b = p->store->backend;
	uint8_t header[PACK_HEADER_LEN];
	int r = b->ops->open(b, BACKEND_PACK, p->number, &p->file, err);

	if (r == 0)
		r = b->ops->size(&p->file, &p->size, err);
	if (r == 0)
		r = b->ops->read(&p->file, header, sizeof(header), 0, err);
	if (r == 0)
		r = pack_header_decode(header, &p->header, err);
	if (r == 0)
		r = check_header(p, err);
	return r < 0 ? r : make_key(p, err);
}

/* A cached pack, counted; NULL: the caller has become its loader (*mine, counted, marked loading). */
static struct store_pack *get_or_claim(struct store *s, struct store_pack *fresh)
{
	struct store_pack *p;

	pthread_mutex_lock(&s->lock);
	while ((p = find_locked(s, fresh->number)) && p->loading)
		pthread_cond_wait(&s->loaded, &s->lock);
	if (p) {
		p->refs++;
		use_unlink_locked(s, p);
		use_push_locked(s, p);
	} else {
		fresh->refs = 1;
		fresh->loading = true;
		fresh->cached = true;
		fresh->chain = *bucket_of(s, fresh->number);
		*bucket_of(s, fresh->number) = fresh;
		use_push_locked(s, fresh);
	}
	pthread_mutex_unlock(&s->lock);
	return p;
}

static struct store_pack *get_cached(struct store *s, uint64_t number)
{
	struct store_pack *p;

	pthread_mutex_lock(&s->lock);
	p = find_locked(s, number);
	if (p && !p->loading) {
		p->refs++;
		if (s->newest != p) {
			use_unlink_locked(s, p);
			use_push_locked(s, p);
		}
	} else {
		p = NULL;
	}
	pthread_mutex_unlock(&s->lock);
	return p;
}

int store_pack_get(struct store *s, uint64_t number, struct store_pack **out, struct err *err)
{
	struct store_pack *p = get_cached(s, number), *fresh, *gone;
	int r;

	if (p) {
		*out = p;
		return 0;
	}
	fresh = mem_alloc(sizeof(*fresh));
	if (!fresh)
		return err_nomem(err, "pack");
	fresh->store = s;
	fresh->number = number;
	p = get_or_claim(s, fresh);
	if (p) {
		free(fresh);
		*out = p;
		return 0;
	}
	r = pack_load(fresh, err);
	pthread_mutex_lock(&s->lock);
	if (r < 0) {
		uncache_locked(s, fresh);
		gone = fresh;
		fresh->chain = NULL;
	} else {
		fresh->loading = false;
		s->cached_bytes += pack_bytes(fresh);
		s->cached_packs++;
		gone = trim_locked(s, s->footer_cache, s->fds_max);
	}
	pthread_cond_broadcast(&s->loaded);
	pthread_mutex_unlock(&s->lock);
	destroy_chain(gone);
	if (r < 0) {
		err_object(err, "pack %012" PRIx64, number);
		return err_prefix(err, "pack %012" PRIx64, number);
	}
	*out = fresh;
	return 0;
}

void store_pack_put(struct store_pack *p)
{
	struct store *s = p->store;
	bool destroy;

	pthread_mutex_lock(&s->lock);
	p->refs--;
	destroy = !p->refs && !p->cached;
	pthread_mutex_unlock(&s->lock);
	if (destroy)
		pack_destroy(p);
}

static int load_alone(struct store *s, uint64_t number,
		      int (*load)(struct store_pack *p, struct err *err), struct store_pack **out,
		      struct err *err)
{
	struct store_pack *p = mem_alloc(sizeof(*p));
	int r;

	if (!p)
		return err_nomem(err, "pack");
	p->store = s;
	p->number = number;
	p->refs = 1;
	r = load(p, err);
	if (r < 0) {
		pack_destroy(p);
		err_object(err, "pack %012" PRIx64, number);
		return err_prefix(err, "pack %012" PRIx64, number), r;
	}
	*out = p;
	return 0;
}

int store_pack_load(struct store *s, uint64_t number, struct store_pack **out, struct err *err)
{
	return load_alone(s, number, pack_load, out, err);
}

int store_pack_load_header(struct store *s, uint64_t number, struct store_pack **out,
			   struct err *err)
{
	return load_alone(s, number, header_load, out, err);
}

void store_pack_forget(struct store *s, uint64_t number)
{
	struct store_pack *p;

	pthread_mutex_lock(&s->lock);
	/* One that is being loaded may have the old file. */
	while ((p = find_locked(s, number)) && p->loading)
		pthread_cond_wait(&s->loaded, &s->lock);
	if (p)
		uncache_locked(s, p);
	if (p && p->refs)
		p = NULL; /* the last put destroys it */
	pthread_mutex_unlock(&s->lock);
	if (p)
		pack_destroy(p);
}

const struct footer_entry *store_pack_entry(const struct store_pack *p, uint32_t slot)
{
	uint32_t low = 0, high = p->trailer.count;

	/* Until a pack is compacted, entry i is slot i. */
	if (slot < high && p->entries[slot].slot == slot)
		return &p->entries[slot];
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (p->entries[mid].slot == slot)
			return &p->entries[mid];
		if (p->entries[mid].slot < slot)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

const struct footer_entry *store_pack_entries(const struct store_pack *p, unsigned *count)
{
	*count = p->trailer.count;
	return p->entries;
}

unsigned store_pack_suite(const struct store_pack *p)
{
	return p->header.suite;
}

uint64_t store_pack_size(const struct store_pack *p)
{
	return p->size;
}

/* --- records --- */

int store_reader_new(struct store *s, struct store_reader **out, struct err *err)
{
	struct store_reader *r = mem_alloc(sizeof(*r));
	int ret;

	if (!r)
		return err_nomem(err, "reader");
	r->store = s;
	ret = codec_ctx_new(s->keys, &r->ctx, err);
	if (ret < 0) {
		free(r);
		return ret;
	}
	*out = r;
	return 0;
}

void store_reader_free(struct store_reader *r)
{
	if (!r)
		return;
	codec_ctx_free(r->ctx);
	free(r->scratch);
	free(r);
}

struct codec_ctx *store_reader_codec(struct store_reader *r)
{
	return r->ctx;
}

int store_reader_scratch(struct store_reader *r, size_t n, struct err *err)
{
	uint8_t *p;

	if (r->scratch_len >= n)
		return 0;
	n = round_up_u64(n, 128 * KiB);
	p = mem_realloc_array(r->scratch, n, 1);
	if (!p)
		return err_nomem(err, "buffer for a record");
	r->scratch = p;
	r->scratch_len = n;
	return 0;
}

int store_record_open(struct store_reader *r, const struct codec_pack_key *key,
		      const struct footer_entry *entry, const uint8_t *record, size_t n, void *dst,
		      struct err *err)
{
	struct record_header h;
	int ret;

	if (n != RECORD_HEADER_LEN + (size_t)entry->stored_len)
		return err_set(err, ERR_DAMAGED, "record is cut off");
	ret = record_header_decode(record, &h, err);
	if (ret < 0)
		return ret;
	if (h.slot != entry->slot || h.type != entry->type || h.codec != entry->codec ||
	    h.stored_len != entry->stored_len || h.plain_len != entry->plain_len ||
	    memcmp(h.id, entry->id, ID_LEN) != 0)
		return err_set(err, ERR_DAMAGED, "record differs from the pack's footer");
	return codec_open_record(r->ctx, key, &h, record + RECORD_HEADER_LEN, dst, err);
}

static int by_hash_check(struct store_reader *r, const struct footer_entry *e, const void *dst,
			 struct err *err)
{
	uint8_t id[ID_LEN];
	int ret = codec_id(r->ctx, dst, e->plain_len, id, err);

	if (ret < 0)
		return ret;
	if (memcmp(id, e->id, ID_LEN) != 0)
		return err_set(err, ERR_DAMAGED, "content has another id");
	return 0;
}

static int read_entry(struct store_reader *r, struct store_pack *p, const struct footer_entry *e,
		      bool by_hash, void *dst, struct err *err)
{
	size_t n = RECORD_HEADER_LEN + (size_t)e->stored_len;
	int ret = p->key ? store_reader_scratch(r, n, err) :
			   err_set(err, ERR_KEY, "the repository's key is needed to read it");

	if (ret < 0)
		return ret;
	ret = p->store->backend->ops->read(&p->file, r->scratch, n, e->offset, err);
	if (ret < 0)
		return ret;
	ret = store_record_open(r, p->key, e, r->scratch, n, dst, err);
	if (ret == 0 && by_hash)
		ret = by_hash_check(r, e, dst, err);
	return ret;
}

static int find_entry(struct store_pack *p, uint64_t locator, enum object_type type,
		      const uint8_t *id, size_t cap, const struct footer_entry **out,
		      struct err *err)
{
	const struct footer_entry *e = store_pack_entry(p, locator_slot(locator));

	if (!e)
		return err_set(err, ERR_DAMAGED, "slot is not in the pack");
	if (e->type != type)
		return err_set(err, ERR_DAMAGED, "slot holds a %s, not a %s",
			       object_type_name(e->type), object_type_name(type));
	if (id && memcmp(e->id, id, ID_LEN) != 0)
		return err_set(err, ERR_DAMAGED, "slot holds another object");
	if (e->plain_len > cap)
		return err_set(err, ERR_DAMAGED, "object has %" PRIu32 " bytes, at most %zu fit",
			       e->plain_len, cap);
	*out = e;
	return 0;
}

/* Says where: pack, slot, offset, id, in text and log, once. */
static int say_where(uint64_t locator, const struct footer_entry *e, const uint8_t *id,
		     struct err *err)
{
	char hex[2 * ID_LEN + 1] = "unknown";

	if (e || id)
		hex_encode(hex, e ? e->id : id, ID_LEN);
	err_object(err, "pack %012" PRIx64 " slot %" PRIu32, locator_pack(locator),
		   locator_slot(locator));
	if (e)
		err_prefix(err, "pack %012" PRIx64 ", slot %" PRIu32 ", offset %" PRIu32 ", id %s",
			   locator_pack(locator), locator_slot(locator), e->offset, hex);
	else
		err_prefix(err, "pack %012" PRIx64 ", slot %" PRIu32 ", id %s",
			   locator_pack(locator), locator_slot(locator), hex);
	if (err && err->code == ERR_DAMAGED)
		log_error("%s", err->text);
	return err ? err->code : ERR_DAMAGED;
}

int store_record_read(struct store *s, struct store_reader *r, uint64_t locator,
		      enum object_type type, const uint8_t *id, bool by_hash, void *dst, size_t cap,
		      size_t *len, struct err *err)
{
	struct err local = ERR_INIT;
	const struct footer_entry *e = NULL;
	cleanup_ptr(store_pack) p = NULL;
	int ret;

	if (!err)
		err = &local;
	ret = store_pack_get(s, locator_pack(locator), &p, err);
	if (ret == ERR_NOT_FOUND) {
		/* A listed object must be there: its pack's absence is damage, whoever asks. */
		err_recode(err, ERR_DAMAGED);
		return say_where(locator, NULL, id, err);
	}
	if (ret < 0)
		return say_where(locator, NULL, id, err);
	ret = find_entry(p, locator, type, id, cap, &e, err);
	if (ret == 0)
		ret = read_entry(r, p, e, by_hash, dst, err);
	if (ret < 0) {
		say_where(locator, e, id, err);
		return ret;
	}
	*len = e->plain_len;
	return 0;
}

void store_pack_willneed(struct store *s, uint64_t number)
{
	struct backend *b = s->backend;
	struct backend_file f;
	uint64_t size;
	bool there;

	pthread_mutex_lock(&s->lock);
	there = find_locked(s, number);
	pthread_mutex_unlock(&s->lock);
	if (there || b->ops->open(b, BACKEND_PACK, number, &f, NULL) < 0)
		return;
	if (b->ops->size(&f, &size, NULL) == 0) {
		uint64_t tail_len = MIN(size, TAIL_READ);

		b->ops->willneed(&f, size - tail_len, tail_len);
		b->ops->willneed(&f, 0, PACK_HEADER_LEN);
	}
	b->ops->close(&f);
}

void store_records_willneed(struct store *s, uint64_t locator, unsigned count)
{
	const struct footer_entry *first, *last;
	cleanup_ptr(store_pack) p = NULL;

	if (store_pack_get(s, locator_pack(locator), &p, NULL) < 0)
		return;
	first = store_pack_entry(p, locator_slot(locator));
	last = store_pack_entry(p, locator_slot(locator) + count - 1);
	if (first && last && last->offset >= first->offset)
		s->backend->ops->willneed(&p->file, first->offset,
					  last->offset - first->offset + RECORD_HEADER_LEN +
						  (uint64_t)last->stored_len);
}
