/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Values of every kind of object, random but the same in every run; for the tests of format/. */
#ifndef LIVEPOINT_TESTS_FORMAT_SAMPLES_H
#define LIVEPOINT_TESTS_FORMAT_SAMPLES_H

#include "format/overlay.h"
#include "format/state.h"

struct sample_source {
	uint64_t state;
};

static inline uint64_t sample_next(struct sample_source *s)
{
	/* xorshift64 (Marsaglia 2003) */
	s->state ^= s->state << 13;
	s->state ^= s->state >> 7;
	s->state ^= s->state << 17;
	return s->state;
}

static inline uint64_t sample_below(struct sample_source *s, uint64_t n)
{
	return (sample_next(s) >> 8) % n;
}

static inline void sample_bytes(struct sample_source *s, void *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *)p)[i] = (uint8_t)(sample_next(s) >> 16);
}

static inline uint64_t sample_locator(struct sample_source *s)
{
	return locator_make(1 + sample_below(s, PACK_NUMBER_MAX),
			    (uint32_t)sample_below(s, SLOT_MAX_COUNT));
}

static inline struct conf sample_conf(struct sample_source *s)
{
	struct conf c = { .compatible = sample_next(s),
			  .autoclear = sample_next(s),
			  .chunk_size = CHUNK_SIZE_MIN << sample_below(s, 9),
			  .leaf_chunks = LEAF_CHUNKS,
			  .suite = (uint16_t)sample_below(s, SUITE_LAST + 1),
			  .compression = (enum compression)sample_below(s, COMPRESSION_BEST + 1),
			  .grace = sample_below(s, 10000000),
			  .created = (int64_t)sample_below(s, 253402300800) };
	sample_bytes(s, c.uuid, UUID_LEN);
	if (c.suite) {
		c.kdf_n = (uint64_t)2 << sample_below(s, 15);
		c.kdf_r = (uint32_t)(1 + sample_below(s, 32));
		c.kdf_p = (uint32_t)(1 + sample_below(s, 16));
	}
	return c;
}

static inline struct key_file sample_key(struct sample_source *s)
{
	struct key_file k = { .suite = 1,
			      .kdf_n = (uint64_t)2 << sample_below(s, 15),
			      .kdf_r = (uint32_t)(1 + sample_below(s, 32)),
			      .kdf_p = (uint32_t)(1 + sample_below(s, 16)),
			      .created = (int64_t)sample_next(s) };
	sample_bytes(s, k.salt, SALT_LEN);
	sample_bytes(s, k.nonce, 12);
	sample_bytes(s, k.uuid, UUID_LEN);
	sample_bytes(s, k.wrapped, KEY_WRAPPED_LEN);
	size_t n = sample_below(s, KEY_LABEL_MAX + 1);
	for (size_t i = 0; i < n; i++)
		k.label[i] = (char)(' ' + sample_below(s, 95));
	return k;
}

static inline void sample_key_ring(struct sample_source *s, struct key_ring *k)
{
	memset(k, 0, sizeof(*k));
	k->suite = 1;
	k->serial = 1 + sample_below(s, 1000);
	k->nslots = 1 + (unsigned)sample_below(s, KEY_SLOTS_MAX);
	k->epochs = 1 + (unsigned)sample_below(s, sample_below(s, 4) ? 4 : KEY_EPOCHS_MAX);
	sample_bytes(s, k->uuid, UUID_LEN);
	for (unsigned i = 0; i < k->nslots; i++) {
		struct key_ring_slot *x = &k->slots[i];

		x->kind = sample_below(s, 2) ? KEY_PASSPHRASE : KEY_RECOVERY;
		x->bound = (uint16_t)(1 + sample_below(s, k->epochs));
		x->kdf_n = (uint64_t)2 << sample_below(s, 15);
		x->kdf_r = (uint32_t)(1 + sample_below(s, 32));
		x->kdf_p = (uint32_t)(1 + sample_below(s, 16));
		sample_bytes(s, x->salt, SALT_LEN);
		sample_bytes(s, x->nonce, 12);
		snprintf(x->label, sizeof(x->label), "slot %u \xc3\xa9", i);
		x->created = (int64_t)sample_next(s);
		sample_bytes(s, x->public, KEY_PUBLIC_LEN);
		sample_bytes(s, x->wrapped, sizeof(x->wrapped));
		sample_bytes(s, x->ephemeral, KEY_PUBLIC_LEN);
		sample_bytes(s, x->sealed, KEY_WRAPPED_LEN);
	}
	for (unsigned i = 0; i + 1 < k->epochs; i++)
		sample_bytes(s, k->chain[i], KEY_WRAPPED_LEN);
	sample_bytes(s, k->mac, ID_LEN);
}

static inline struct pack_header sample_pack(struct sample_source *s)
{
	struct pack_header h = { .suite = (uint16_t)sample_below(s, SUITE_LAST + 1),
				 .kind = sample_below(s, 2) ? PACK_DATA : PACK_MAP,
				 .number = 1 + sample_below(s, PACK_NUMBER_MAX) };
	sample_bytes(s, h.uuid, UUID_LEN);
	sample_bytes(s, h.instance, sizeof(h.instance));
	if (h.suite) {
		sample_bytes(s, h.salt, SALT_LEN);
		h.epoch = 1 + (uint32_t)sample_below(s, 1000);
	}
	return h;
}

/* most: of the plain length */
static inline struct record_header sample_record(struct sample_source *s, uint32_t slot,
						 uint32_t epoch, uint32_t most)
{
	struct record_header h = { .type = (uint8_t)(1 + sample_below(s, OBJECT_TYPE_LAST)),
				   .codec = (uint8_t)sample_below(s, 2),
				   .slot = slot,
				   .plain_len = 2 + (uint32_t)sample_below(s, most - 1),
				   .epoch = epoch };
	h.stored_len = h.plain_len;
	if (h.codec == CODEC_ZSTD) {
		h.level = (int8_t)(sample_below(s, 2) ? 1 + (int)sample_below(s, 22) :
							-1 - (int)sample_below(s, 128));
		h.stored_len = 1 + (uint32_t)sample_below(s, h.plain_len - 1);
	}
	sample_bytes(s, h.id, ID_LEN);
	if (epoch) {
		h.stored_len += TAG_MAX;
		put_le32(h.nonce, slot);
		sample_bytes(s, h.nonce + 4, 8);
	} else {
		h.xxh3 = sample_next(s);
	}
	return h;
}

/* A whole pack of `count` records with random payloads; returns where its footer begins. */
static inline size_t sample_pack_file(struct sample_source *s, unsigned count, struct buf *out)
{
	uint8_t raw[PACK_HEADER_LEN], record[RECORD_HEADER_LEN], tail[PACK_TRAILER_LEN];
	struct footer_entry entries[64];
	struct pack_header h = sample_pack(s);
	uint32_t slot = 0;
	pack_header_encode(&h, raw);
	buf_put(out, raw, sizeof(raw));
	for (unsigned i = 0; i < count; i++) {
		slot += (uint32_t)sample_below(s, 3);
		struct record_header r = sample_record(s, slot, h.epoch, 60);
		entries[i] = (struct footer_entry){ .slot = slot++,
						    .offset = (uint32_t)out->len,
						    .stored_len = r.stored_len,
						    .plain_len = r.plain_len,
						    .type = r.type,
						    .codec = r.codec };
		memcpy(entries[i].id, r.id, ID_LEN);
		record_header_encode(&r, record);
		buf_put(out, record, sizeof(record));
		for (uint32_t k = 0; k < r.stored_len; k++)
			buf_put_u8(out, (uint8_t)sample_next(s));
	}
	struct pack_trailer t = { .footer_offset = out->len, .count = count, .slots = slot };
	footer_encode(out, entries, count);
	t.footer_len = (uint32_t)(out->len - t.footer_offset);
	memcpy(t.instance, h.instance, sizeof(t.instance));
	t.footer_check = check_xxh3(out->data + t.footer_offset, t.footer_len);
	pack_trailer_encode(&t, tail);
	buf_put(out, tail, sizeof(tail));
	return t.footer_offset;
}

/* Locators of a leaf with runs of all kinds. */
static inline void sample_locators(struct sample_source *s, uint64_t *locators, unsigned chunks)
{
	unsigned longest = 1 + (unsigned)sample_below(s, 40);
	for (unsigned i = 0; i < chunks;) {
		unsigned n = MIN(1 + (unsigned)sample_below(s, longest), chunks - i);
		unsigned kind = (unsigned)sample_below(s, 8);
		uint64_t first = sample_locator(s);
		if (kind > 1 && i > 0 && locators[i - 1] != LOCATOR_NONE &&
		    locators[i - 1] != LOCATOR_UNREADABLE && sample_below(s, 2))
			first = locators[i - 1] + 1 + sample_below(s, 3);
		if (kind > 1 && locator_slot(first) + n > SLOT_MAX_COUNT)
			first = locator_make(locator_pack(first), SLOT_MAX_COUNT - n);
		for (unsigned k = 0; k < n; k++)
			locators[i + k] = kind == 0 ? LOCATOR_NONE :
					  kind == 1 ? LOCATOR_UNREADABLE :
						      first + k;
		i += n;
	}
	if (chunks > 0 && locators[0] == LOCATOR_NONE)
		locators[0] = locator_make(1, 0);
}

static inline struct object_ref sample_ref(struct sample_source *s)
{
	struct object_ref ref = { .locator = sample_locator(s) };
	sample_bytes(s, ref.id, ID_LEN);
	return ref;
}

/* A whole segment of `count` records. */
static inline void sample_segment_file(struct sample_source *s, unsigned count, struct buf *out)
{
	struct segment_header h = { .number = 1 + sample_below(s, 1000),
				    .records = count,
				    .fence_bits = count / 8 > 4 ? 3 : 0,
				    .records_offset = SEGMENT_HEADER_LEN,
				    .bloom_len = segment_bloom_len(count) };
	uint8_t raw[SEGMENT_HEADER_LEN], key[SEGMENT_KEY_LEN], bloom[BLOOM_BLOCK * 64] = { 0 };
	uint32_t fence[9] = { 0 };
	unsigned nfence = (1u << h.fence_bits) + 1;
	h.fence_offset = h.records_offset + (uint64_t)count * SEGMENT_RECORD_LEN;
	h.bloom_offset = h.fence_offset + 4 * (uint64_t)nfence;
	sample_bytes(s, h.uuid, UUID_LEN);
	size_t start = out->len;
	buf_put_zero(out, SEGMENT_HEADER_LEN);
	for (unsigned i = 0; i < count; i++) {
		sample_bytes(s, key, sizeof(key));
		key[0] = (uint8_t)(i * 256 / count);
		key[1] = (uint8_t)(i * 65536 / count);
		for (unsigned k = (h.fence_bits ? key[0] >> (8 - h.fence_bits) : 0) + 1; k < nfence;
		     k++)
			fence[k]++;
		segment_bloom_add(bloom, h.bloom_len, key);
		buf_put(out, key, sizeof(key));
		buf_put_le64(out, sample_locator(s));
	}
	for (unsigned k = 0; k < nfence; k++)
		buf_put_le32(out, fence[k]);
	buf_put(out, bloom, h.bloom_len);
	if (out->failed)
		return;
	const uint8_t *p = out->data + start;
	h.records_check = check_xxh3(p + h.records_offset, (size_t)count * SEGMENT_RECORD_LEN);
	h.fence_check = check_xxh3(p + h.fence_offset, 4 * (size_t)nfence);
	h.bloom_check = check_xxh3(p + h.bloom_offset, h.bloom_len);
	segment_header_encode(&h, raw);
	memcpy(out->data + start, raw, sizeof(raw));
}

/* NULL if memory ran out; free with manifest_free(). */
static inline struct manifest *sample_manifest(struct sample_source *s, unsigned ndisks,
					       unsigned nlabels)
{
	struct manifest *m = mem_alloc(sizeof(*m));
	if (!m)
		return NULL;
	sample_bytes(s, m->uuid, UUID_LEN);
	snprintf(m->name, sizeof(m->name), "vm-%u_x.y", (unsigned)sample_below(s, 1000));
	m->time = (int64_t)sample_next(s);
	m->sequence = sample_next(s);
	m->generation = sample_next(s);
	m->kind = 1 + (int)sample_below(s, 3);
	m->has_parent = sample_below(s, 2);
	if (m->has_parent)
		sample_bytes(s, m->parent, POINT_ID_LEN);
	m->consistency = (int)sample_below(s, 4);
	m->stored = sample_below(s, 3) ? sample_next(s) : 0;
	m->program = sample_below(s, 2) ? str_dup("livepoint 0.1") : NULL;
	m->disks = mem_alloc_array(ndisks, sizeof(*m->disks));
	m->labels = mem_alloc_array(nlabels, sizeof(*m->labels));
	for (; m->disks && m->ndisks < ndisks; m->ndisks++) {
		struct manifest_disk *d = &m->disks[m->ndisks];
		snprintf(d->name, sizeof(d->name), "vd%zu", m->ndisks);
		d->size = sample_below(s, 8 * TiB / 512) * 512;
		d->source_size = d->size - (d->size ? sample_below(s, 512) : 0);
		d->chunk_size = CHUNK_SIZE_DEFAULT;
		if (sample_below(s, 4))
			d->root = sample_ref(s);
		d->method = (int)sample_below(s, 6);
		d->source = sample_below(s, 2) ? str_dup("/dev/vg/root") : NULL;
		d->read_bytes = sample_below(s, 2) ? sample_next(s) : 0;
		d->unreadable_bytes = sample_below(s, 2) ? sample_next(s) : 0;
	}
	for (; m->labels && m->nlabels < nlabels; m->nlabels++) {
		struct manifest_label *l = &m->labels[m->nlabels];
		l->key = str_printf("key%zu", m->nlabels);
		l->value = str_dup(sample_below(s, 3) ? "value" : "");
	}
	return m;
}

/* Adds files to a manifest, of sizes around those of parts.  False if memory ran out. */
static inline bool sample_configs(struct sample_source *s, struct manifest *m, unsigned n)
{
	static const uint64_t sizes[] = {
		0, 1, 65536, CONFIG_PART - 1, CONFIG_PART, CONFIG_PART + 1, 540672, CONFIG_BYTES_MAX
	};
	m->configs = mem_alloc_array(n, sizeof(*m->configs));
	for (; m->configs && m->nconfigs < n; m->nconfigs++) {
		struct manifest_config *c = &m->configs[m->nconfigs];
		unsigned parts;
		snprintf(c->name, sizeof(c->name), "file%zu.xml", m->nconfigs);
		c->size = sizes[sample_below(s, ARRAY_SIZE(sizes))];
		parts = config_parts(c->size);
		c->parts = mem_alloc_array(parts ? parts : 1, sizeof(*c->parts));
		if (!c->parts)
			return false;
		for (; c->nparts < parts; c->nparts++)
			c->parts[c->nparts] = sample_ref(s);
	}
	return m->configs != NULL;
}

/* False if memory ran out; release with state_release() either way. */
static inline bool sample_state(struct sample_source *s, unsigned nholds, unsigned npoints,
				struct state *out)
{
	memset(out, 0, sizeof(*out));
	sample_bytes(s, out->uuid, UUID_LEN);
	out->time = (int64_t)sample_next(s);
	out->generation = sample_next(s);
	out->next_pack = 1 + sample_below(s, PACK_NUMBER_MAX);
	out->next_sequence = 1 + sample_below(s, 1000);
	out->next_segment = 1 + sample_below(s, 1000);
	out->audit_number = sample_below(s, 3);
	if (out->audit_number)
		sample_bytes(s, out->audit_mac, ID_LEN);
	out->holds = mem_alloc_array(nholds + 1, sizeof(*out->holds));
	out->points = mem_alloc_array(npoints + 1, sizeof(*out->points));
	if (!out->holds || !out->points)
		return false;
	for (unsigned i = 0; i < nholds; i++) {
		struct hold *h = &out->holds[out->nholds++];

		sample_bytes(s, h->point, POINT_ID_LEN);
		h->point[0] = (uint8_t)(i >> 8);
		h->point[1] = (uint8_t)i;
		h->since = (int64_t)sample_next(s);
		h->until = sample_below(s, 2) ? (int64_t)sample_next(s) : 0;
		h->reason = sample_below(s, 3) ? str_printf("audit %u \xc3\xa9t\xc3\xa9", i) :
						 str_dup("");
		if (!h->reason)
			return false;
	}
	for (unsigned i = 0; i < npoints; i++) {
		struct state_point *p = &out->points[out->npoints++];

		sample_bytes(s, p->id, POINT_ID_LEN);
		p->id[0] = (uint8_t)(i >> 8);
		p->id[1] = (uint8_t)i;
		p->expired = sample_below(s, 2);
		p->forgotten = (int64_t)sample_next(s);
		p->until = (int64_t)sample_next(s);
	}
	return true;
}

/* Disks are the caller's: ndisks of them, with names. */
static inline struct overlay_header sample_overlay(struct sample_source *s,
						   struct overlay_header_disk *disks, size_t ndisks)
{
	struct overlay_header h = { .block_size = OVERLAY_BLOCK_SIZE,
				    .created = (int64_t)sample_next(s),
				    .suite = (uint16_t)sample_below(s, SUITE_LAST + 1),
				    .first = (uint32_t)(1 + sample_below(s, 5)),
				    .disks = disks,
				    .ndisks = ndisks };
	h.last = h.first + (uint32_t)sample_below(s, 3);
	sample_bytes(s, h.uuid, UUID_LEN);
	sample_bytes(s, h.point, POINT_ID_LEN);
	snprintf(h.id, sizeof(h.id), "o%08x", (unsigned)sample_below(s, UINT32_MAX));
	if (sample_below(s, 2))
		str_copy(h.name, sizeof(h.name), "work.1_on-web1");
	if (h.suite) {
		h.epoch = (uint32_t)(1 + sample_below(s, KEY_EPOCHS_MAX));
		sample_bytes(s, h.salt, SALT_LEN);
		sample_bytes(s, h.mac, ID_LEN);
	}
	for (size_t i = 0; i < ndisks; i++) {
		snprintf(disks[i].name, sizeof(disks[i].name), "vd%zu", i);
		disks[i].size = sample_below(s, 1 << 24) * 512;
	}
	return h;
}

static inline struct overlay_log_header sample_overlay_log(struct sample_source *s)
{
	struct overlay_header_disk disk;
	struct overlay_header h = sample_overlay(s, &disk, 1);
	struct overlay_log_header l = {
		.size = disk.size + 512, .layer = h.first, .suite = h.suite, .epoch = h.epoch
	};
	memcpy(l.uuid, h.uuid, UUID_LEN);
	memcpy(l.mac, h.mac, ID_LEN);
	str_copy(l.id, sizeof(l.id), h.id);
	str_copy(l.disk, sizeof(l.disk), disk.name);
	sample_bytes(s, l.log, sizeof(l.log));
	return l;
}

/* A record of up to `most` runs, or of some pages (then most counts pages), appended to out. */
static inline void sample_overlay_record(struct sample_source *s,
					 const struct overlay_log_header *l,
					 enum overlay_record_kind kind, uint64_t number,
					 size_t most, struct buf *out)
{
	uint64_t blocks = div_round_up(l->size, OVERLAY_BLOCK_SIZE);
	uint64_t pages = div_round_up(blocks, OVERLAY_PAGE_BLOCKS);
	struct buf b = BUF_INIT;
	uint8_t mac[ID_LEN] = { 0 }, states[OVERLAY_PAGE_LEN];

	overlay_record_begin(&b, kind, number, l->log);
	for (size_t i = 0; kind == OVERLAY_RUNS && i < most; i++) {
		struct overlay_run run = { .first = sample_below(s, blocks),
					   .state = 1 + (unsigned)sample_below(s, 2) };
		run.count = 1 + sample_below(s, blocks - run.first);
		overlay_record_run(&b, &run);
	}
	for (uint64_t p = 0; kind == OVERLAY_PAGES && p < MIN(most, pages); p++) {
		uint64_t n = MIN(blocks - p * OVERLAY_PAGE_BLOCKS, OVERLAY_PAGE_BLOCKS);

		memset(states, 0, sizeof(states));
		for (uint64_t i = 0; i < n; i++)
			states[i / 4] |= (uint8_t)(sample_below(s, 3) << i % 4 * 2);
		overlay_record_page(&b, p, states);
	}
	overlay_record_end(&b);
	if (l->suite)
		sample_bytes(s, mac, sizeof(mac));
	overlay_record_close(&b, mac);
	if (b.failed)
		out->failed = true;
	buf_put(out, b.data, b.len);
	buf_release(&b);
}

#endif
