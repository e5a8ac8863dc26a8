/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Manifest: one restore point, as tagged items; the table of tags is in livepoint-repository(5).
 *
 * Decoding has two layers: items (order, flags, lengths) by the rules of a table, then the meaning
 * of the whole, by the same function that the encoder asks; so nothing is written that would be
 * refused.
 *
 * Invariants:
 *  1. Known tags ascend and stand once, unless the table says repeated; an unknown one is skipped
 *     if it is not critical, else the point is ERR_UNSUPPORTED.
 *  2. A number of 0 that need not be there is not there, so that there is one encoding of a value.
 *  3. A text is not empty and holds no 0 byte.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "format/internal.h"

#include "base/banned.h"

static const uint8_t manifest_magic[4] = "LPMF";
#define FLAG_CRITICAL 1u
#define ITEM_HEADER_LEN 8

enum point_tag {
	POINT_UUID = 1,
	POINT_NAME,
	POINT_TIME,
	POINT_SEQUENCE,
	POINT_GENERATION,
	POINT_KIND,
	POINT_PARENT,
	POINT_CONSISTENCY,
	POINT_STORED,
	POINT_PROGRAM,
	POINT_LABEL,
	POINT_DISK,
	POINT_CONFIG,
};
enum disk_tag {
	DISK_NAME = 1,
	DISK_SIZE,
	DISK_ROOT,
	DISK_METHOD,
	DISK_SOURCE,
	DISK_READ,
	DISK_UNREADABLE,
	DISK_SOURCE_SIZE,
	DISK_CHUNK_SIZE,
};
enum config_tag {
	CONFIG_NAME = 1,
	CONFIG_SIZE,
	CONFIG_REF,
};

struct tag_rule {
	bool critical, repeated;
	uint32_t len; /* bytes; 0: any but 0 */
};
static const struct tag_rule point_rules[] = {
	[POINT_UUID] = { true, false, UUID_LEN },
	[POINT_NAME] = { true, false, 0 },
	[POINT_TIME] = { true, false, 8 },
	[POINT_SEQUENCE] = { true, false, 8 },
	[POINT_GENERATION] = { true, false, 8 },
	[POINT_KIND] = { true, false, 1 },
	[POINT_PARENT] = { false, false, POINT_ID_LEN },
	[POINT_CONSISTENCY] = { false, false, 1 },
	[POINT_STORED] = { false, false, 8 },
	[POINT_PROGRAM] = { false, false, 0 },
	[POINT_LABEL] = { false, true, 0 },
	[POINT_DISK] = { true, true, 0 },
	[POINT_CONFIG] = { false, true, 0 },
};
static const struct tag_rule disk_rules[] = {
	[DISK_NAME] = { true, false, 0 },	 [DISK_SIZE] = { true, false, 8 },
	[DISK_ROOT] = { true, false, REF_LEN },	 [DISK_METHOD] = { false, false, 1 },
	[DISK_SOURCE] = { false, false, 0 },	 [DISK_READ] = { false, false, 8 },
	[DISK_UNREADABLE] = { false, false, 8 }, [DISK_SOURCE_SIZE] = { false, false, 8 },
	[DISK_CHUNK_SIZE] = { true, false, 4 },
};
static const struct tag_rule config_rules[] = {
	[CONFIG_NAME] = { true, false, 0 },
	[CONFIG_SIZE] = { true, false, 8 },
	[CONFIG_REF] = { true, true, REF_LEN },
};

void manifest_free(struct manifest *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->ndisks; i++)
		free(m->disks[i].source);
	for (size_t i = 0; i < m->nlabels; i++) {
		free(m->labels[i].key);
		free(m->labels[i].value);
	}
	for (size_t i = 0; i < m->nconfigs; i++)
		free(m->configs[i].parts);
	free(m->disks);
	free(m->labels);
	free(m->configs);
	free(m->program);
	free(m);
}

/* --- meaning --- */

static int disk_check(const struct manifest_disk *d, struct err *err)
{
	uint64_t chunks, leaves;
	uint32_t pages;
	if (!disk_name_valid(d->name))
		return err_set(err, ERR_INVALID, "a disk of the manifest has no valid name");
	if (d->size % 512 != 0 || !chunk_size_valid(d->chunk_size) ||
	    !map_geometry(d->size, d->chunk_size, &chunks, &leaves, &pages))
		return err_set(err, ERR_INVALID,
			       "disk '%s' of %" PRIu64 " bytes in chunks of %" PRIu32
			       " is not possible",
			       d->name, d->size, d->chunk_size);
	if (d->source_size > d->size || d->size - d->source_size >= 512)
		return err_set(err, ERR_INVALID,
			       "disk '%s' of %" PRIu64 " bytes cannot come from %" PRIu64 " bytes",
			       d->name, d->size, d->source_size);
	if (d->root.locator == LOCATOR_NONE ? !mem_is_zero(d->root.id, ID_LEN) :
					      !locator_run_valid(d->root.locator, 1))
		return err_set(err, ERR_INVALID, "disk '%s' has an invalid root", d->name);
	if (d->method < 0 || d->method > METHOD_SNAPSHOT)
		return err_set(err, ERR_UNSUPPORTED, "disk '%s' was read by method %d", d->name,
			       d->method);
	if (d->source && !d->source[0])
		return err_set(err, ERR_INVALID, "disk '%s' has an empty source", d->name);
	return 0;
}

static int labels_check(const struct manifest *m, struct err *err)
{
	if (m->nlabels > POINT_LABELS_MAX)
		return err_set(err, ERR_INVALID, "%zu labels are more than %d", m->nlabels,
			       POINT_LABELS_MAX);
	for (size_t i = 0; i < m->nlabels; i++) {
		if (!m->labels[i].key || !m->labels[i].value || !m->labels[i].key[0])
			return err_set(err, ERR_INVALID, "label %zu has no key", i + 1);
		for (size_t k = 0; k < i; k++)
			if (strcmp(m->labels[i].key, m->labels[k].key) == 0)
				return err_set(err, ERR_INVALID, "label '%s' stands twice",
					       m->labels[i].key);
	}
	return 0;
}

static int config_check(const struct manifest_config *c, struct err *err)
{
	if (!config_name_valid(c->name))
		return err_set(err, ERR_INVALID, "a file of the manifest has no valid name");
	if (c->size > CONFIG_BYTES_MAX || c->nparts != config_parts(c->size))
		return err_set(err, ERR_INVALID, "file '%s' of %" PRIu64 " bytes has %u parts",
			       c->name, c->size, c->nparts);
	for (unsigned i = 0; i < c->nparts; i++)
		if (!locator_run_valid(c->parts[i].locator, 1))
			return err_set(err, ERR_INVALID, "part %u of file '%s' is nowhere", i,
				       c->name);
	return 0;
}

static int configs_check(const struct manifest *m, struct err *err)
{
	if (m->nconfigs > POINT_CONFIGS_MAX)
		return err_set(err, ERR_INVALID, "%zu files are more than %d", m->nconfigs,
			       POINT_CONFIGS_MAX);
	for (size_t i = 0; i < m->nconfigs; i++) {
		int r = config_check(&m->configs[i], err);
		if (r < 0)
			return r;
		for (size_t k = 0; k < i; k++)
			if (strcmp(m->configs[i].name, m->configs[k].name) == 0)
				return err_set(err, ERR_INVALID, "file '%s' stands twice",
					       m->configs[i].name);
	}
	return 0;
}

static int manifest_check(const struct manifest *m, struct err *err)
{
	if (!name_valid(m->name))
		return err_set(err, ERR_INVALID, "the manifest has no valid name");
	if (m->kind < POINT_FULL || m->kind > POINT_DIFFERENTIAL)
		return err_set(err, ERR_UNSUPPORTED, "restore point of kind %d", m->kind);
	if (m->consistency < 0 || m->consistency > CONSISTENCY_APPLICATION)
		return err_set(err, ERR_UNSUPPORTED, "restore point of consistency %d",
			       m->consistency);
	if (!m->has_parent && !mem_is_zero(m->parent, POINT_ID_LEN))
		return err_set(err, ERR_INVALID,
			       "the manifest has a parent that it says it has not");
	if (m->program && !m->program[0])
		return err_set(err, ERR_INVALID, "the manifest's program is empty");
	if (m->ndisks > POINT_DISKS_MAX)
		return err_set(err, ERR_INVALID, "%zu disks are more than %d", m->ndisks,
			       POINT_DISKS_MAX);
	for (size_t i = 0; i < m->ndisks; i++) {
		int r = disk_check(&m->disks[i], err);
		if (r < 0)
			return r;
		for (size_t k = 0; k < i; k++)
			if (strcmp(m->disks[i].name, m->disks[k].name) == 0)
				return err_set(err, ERR_INVALID, "disk '%s' stands twice",
					       m->disks[i].name);
	}
	int r = configs_check(m, err);
	return r < 0 ? r : labels_check(m, err);
}

/* --- encoding --- */

static void put_item(struct buf *out, const struct tag_rule *rules, unsigned tag, const void *p,
		     size_t n)
{
	buf_put_le16(out, (uint16_t)tag);
	buf_put_le16(out, rules[tag].critical ? FLAG_CRITICAL : 0);
	buf_put_le32(out, (uint32_t)n);
	buf_put(out, p, n);
}

static void put_text(struct buf *out, const struct tag_rule *rules, unsigned tag, const char *s)
{
	if (s)
		put_item(out, rules, tag, s, strlen(s));
}

/* Width as in the rule; a 0 that is not critical is left out. */
static void put_number(struct buf *out, const struct tag_rule *rules, unsigned tag, uint64_t v)
{
	uint8_t raw[8];
	put_le64(raw, v);
	if (v != 0 || rules[tag].critical)
		put_item(out, rules, tag, raw, rules[tag].len);
}

static void put_ref(struct buf *out, unsigned tag, const struct object_ref *ref)
{
	buf_put_le16(out, (uint16_t)tag);
	buf_put_le16(out, FLAG_CRITICAL);
	buf_put_le32(out, REF_LEN);
	ref_encode(out, ref);
}

static void disk_encode(const struct manifest_disk *d, struct buf *scratch, struct buf *out)
{
	buf_reset(scratch);
	put_text(scratch, disk_rules, DISK_NAME, d->name);
	put_number(scratch, disk_rules, DISK_SIZE, d->size);
	put_ref(scratch, DISK_ROOT, &d->root);
	put_number(scratch, disk_rules, DISK_METHOD, (uint64_t)d->method);
	put_text(scratch, disk_rules, DISK_SOURCE, d->source);
	put_number(scratch, disk_rules, DISK_READ, d->read_bytes);
	put_number(scratch, disk_rules, DISK_UNREADABLE, d->unreadable_bytes);
	if (d->source_size != d->size) {
		uint8_t raw[8];
		put_le64(raw, d->source_size);
		put_item(scratch, disk_rules, DISK_SOURCE_SIZE, raw, 8);
	}
	put_number(scratch, disk_rules, DISK_CHUNK_SIZE, d->chunk_size);
	if (scratch->failed)
		out->failed = true;
	else
		put_item(out, point_rules, POINT_DISK, scratch->data, scratch->len);
}

static void label_encode(const struct manifest_label *l, struct buf *scratch, struct buf *out)
{
	buf_reset(scratch);
	buf_put(scratch, l->key, strlen(l->key) + 1);
	buf_put(scratch, l->value, strlen(l->value));
	if (scratch->failed)
		out->failed = true;
	else
		put_item(out, point_rules, POINT_LABEL, scratch->data, scratch->len);
}

static void config_encode(const struct manifest_config *c, struct buf *scratch, struct buf *out)
{
	buf_reset(scratch);
	put_text(scratch, config_rules, CONFIG_NAME, c->name);
	put_number(scratch, config_rules, CONFIG_SIZE, c->size);
	for (unsigned i = 0; i < c->nparts; i++)
		put_ref(scratch, CONFIG_REF, &c->parts[i]);
	if (scratch->failed)
		out->failed = true;
	else
		put_item(out, point_rules, POINT_CONFIG, scratch->data, scratch->len);
}

int manifest_encode(const struct manifest *m, struct buf *out, struct err *err)
{
	cleanup_buf struct buf text = BUF_INIT, scratch = BUF_INIT;
	int r = manifest_check(m, err);
	if (r < 0)
		return r;
	buf_put(&text, manifest_magic, 4);
	buf_put_le16(&text, FORMAT_VERSION);
	buf_put_le16(&text, 0);
	put_item(&text, point_rules, POINT_UUID, m->uuid, UUID_LEN);
	put_text(&text, point_rules, POINT_NAME, m->name);
	put_number(&text, point_rules, POINT_TIME, (uint64_t)m->time);
	put_number(&text, point_rules, POINT_SEQUENCE, m->sequence);
	put_number(&text, point_rules, POINT_GENERATION, m->generation);
	put_number(&text, point_rules, POINT_KIND, (uint64_t)m->kind);
	if (m->has_parent)
		put_item(&text, point_rules, POINT_PARENT, m->parent, POINT_ID_LEN);
	put_number(&text, point_rules, POINT_CONSISTENCY, (uint64_t)m->consistency);
	put_number(&text, point_rules, POINT_STORED, m->stored);
	put_text(&text, point_rules, POINT_PROGRAM, m->program);
	for (size_t i = 0; i < m->nlabels; i++)
		label_encode(&m->labels[i], &scratch, &text);
	for (size_t i = 0; i < m->ndisks; i++)
		disk_encode(&m->disks[i], &scratch, &text);
	for (size_t i = 0; i < m->nconfigs; i++)
		config_encode(&m->configs[i], &scratch, &text);
	if (!text.failed && text.len > MANIFEST_MAX)
		return err_set(err, ERR_TOO_BIG, "the manifest has %zu bytes, more than %u",
			       text.len, MANIFEST_MAX);
	if (!text.failed)
		buf_put(out, text.data, text.len);
	return text.failed || out->failed ? err_nomem(err, "a manifest") : 0;
}

/* --- decoding --- */

struct item {
	unsigned tag;
	const uint8_t *p; /* borrowed */
	size_t n;
};
struct item_reader {
	struct cursor c;
	const struct tag_rule *rules;
	size_t nrules; /* tags below it may be known */
	unsigned last;
	uint64_t seen; /* bit per known tag */
};

/* Returns 1 if the item is known, 0 if it is to be skipped. */
static int item_judge(struct item_reader *r, const struct item *item, unsigned flags,
		      struct err *err)
{
	bool known = item->tag != 0 && item->tag < r->nrules;
	const struct tag_rule *rule = known ? &r->rules[item->tag] : NULL;
	if (flags & ~FLAG_CRITICAL || (!known && flags))
		return err_set(err, ERR_UNSUPPORTED,
			       "the manifest has item %u with flags %#x, of a newer program",
			       item->tag, flags);
	if (item->tag == 0 || item->tag < r->last ||
	    (known && !rule->repeated && item->tag == r->last))
		return err_set(err, ERR_DAMAGED, "item %u of the manifest stands behind item %u",
			       item->tag, r->last);
	r->last = item->tag;
	if (!known)
		return 0;
	if ((flags != 0) != rule->critical || item->n == 0 || (rule->len && item->n != rule->len))
		return err_set(err, ERR_DAMAGED,
			       "item %u of the manifest has %zu bytes and flags %u", item->tag,
			       item->n, flags);
	r->seen |= (uint64_t)1 << item->tag;
	return 1;
}

/* Returns 1 and fills *item with the next known one, 0 at the end. */
static int item_next(struct item_reader *r, struct item *item, struct err *err)
{
	int known = 0;
	while (!known) {
		if (cursor_left(&r->c) == 0)
			return 0;
		item->tag = cursor_le16(&r->c);
		unsigned flags = cursor_le16(&r->c);
		item->n = cursor_le32(&r->c);
		item->p = cursor_take(&r->c, item->n);
		if (r->c.failed)
			return err_set(err, ERR_DAMAGED, "the manifest ends within item %u",
				       item->tag);
		known = item_judge(r, item, flags, err);
	}
	return known;
}

static int items_complete(const struct item_reader *r, struct err *err)
{
	for (unsigned tag = 1; tag < r->nrules; tag++)
		if (r->rules[tag].critical && !r->rules[tag].repeated && !(r->seen >> tag & 1))
			return err_set(err, ERR_DAMAGED, "item %u of the manifest is missing", tag);
	return 0;
}

static int item_text(const struct item *item, char *dst, size_t size, struct err *err)
{
	if (item->n >= size || memchr(item->p, 0, item->n))
		return err_set(err, ERR_DAMAGED, "item %u of the manifest is not a name",
			       item->tag);
	memcpy(dst, item->p, item->n);
	dst[item->n] = 0;
	return 0;
}

/* n bytes as a string of its own. */
static int own_text(const uint8_t *p, size_t n, char **out, struct err *err)
{
	if (memchr(p, 0, n))
		return err_set(err, ERR_DAMAGED, "a text of the manifest has a 0 byte");
	char *s = mem_alloc(n + 1);
	if (!s)
		return err_nomem(err, "a manifest");
	memcpy(s, p, n);
	*out = s;
	return 0;
}

/* A number that need not be there: 0 would have been left out. */
static int item_number(const struct item *item, uint64_t *out, struct err *err)
{
	uint64_t v = item->n == 1 ? item->p[0] : get_le64(item->p);
	if (v == 0)
		return err_set(err, ERR_DAMAGED, "item %u of the manifest is an empty number",
			       item->tag);
	*out = v;
	return 0;
}

static int disk_item(const struct item *item, struct manifest_disk *d, struct err *err)
{
	uint64_t v = 0;
	struct cursor c = cursor_of(item->p, item->n);
	int r = 0;
	switch (item->tag) {
	case DISK_NAME:
		return item_text(item, d->name, sizeof(d->name), err);
	case DISK_SIZE:
		d->size = d->source_size = get_le64(item->p);
		return 0;
	case DISK_ROOT:
		ref_decode(&c, &d->root);
		return c.failed ?
			       err_set(err, ERR_DAMAGED, "disk '%s' has an invalid root", d->name) :
			       0;
	case DISK_METHOD:
		r = item_number(item, &v, err);
		d->method = (int)v;
		return r;
	case DISK_SOURCE:
		return own_text(item->p, item->n, &d->source, err);
	case DISK_READ:
		return item_number(item, &d->read_bytes, err);
	case DISK_UNREADABLE:
		return item_number(item, &d->unreadable_bytes, err);
	case DISK_SOURCE_SIZE:
		v = get_le64(item->p);
		if (v == d->size)
			return err_set(err, ERR_DAMAGED, "disk '%s' repeats its size", d->name);
		d->source_size = v;
		return 0;
	default:
		d->chunk_size = get_le32(item->p);
		return 0;
	}
}

static int disk_decode(const struct item *whole, struct manifest *m, struct err *err)
{
	if (m->ndisks == POINT_DISKS_MAX)
		return err_set(err, ERR_DAMAGED, "more than %d disks", POINT_DISKS_MAX);
	struct manifest_disk *disks = mem_realloc_array(m->disks, m->ndisks + 1, sizeof(*disks));
	if (!disks)
		return err_nomem(err, "a manifest");
	m->disks = disks;
	struct manifest_disk *d = &disks[m->ndisks++];
	memset(d, 0, sizeof(*d));
	struct item_reader reader = { .c = cursor_of(whole->p, whole->n),
				      .rules = disk_rules,
				      .nrules = ARRAY_SIZE(disk_rules) };
	struct item item;
	int r;
	while ((r = item_next(&reader, &item, err)) > 0) {
		r = disk_item(&item, d, err);
		if (r < 0)
			break;
	}
	return r < 0 ? r : items_complete(&reader, err);
}

static int config_part(const struct item *item, struct manifest_config *c, struct err *err)
{
	struct cursor at = cursor_of(item->p, item->n);
	if (c->nparts == CONFIG_PARTS_MAX)
		return err_set(err, ERR_DAMAGED, "file '%s' has too many parts", c->name);
	struct object_ref *parts = mem_realloc_array(c->parts, c->nparts + 1, sizeof(*parts));
	if (!parts)
		return err_nomem(err, "a manifest");
	c->parts = parts;
	ref_decode(&at, &parts[c->nparts++]);
	return at.failed ? err_set(err, ERR_DAMAGED, "file '%s' has an invalid part", c->name) : 0;
}

static int config_item(const struct item *item, struct manifest_config *c, struct err *err)
{
	switch (item->tag) {
	case CONFIG_NAME:
		return item_text(item, c->name, sizeof(c->name), err);
	case CONFIG_SIZE:
		c->size = get_le64(item->p);
		return 0;
	default:
		return config_part(item, c, err);
	}
}

static int config_decode(const struct item *whole, struct manifest *m, struct err *err)
{
	if (m->nconfigs == POINT_CONFIGS_MAX)
		return err_set(err, ERR_DAMAGED, "more than %d files", POINT_CONFIGS_MAX);
	struct manifest_config *configs =
		mem_realloc_array(m->configs, m->nconfigs + 1, sizeof(*configs));
	if (!configs)
		return err_nomem(err, "a manifest");
	m->configs = configs;
	struct manifest_config *c = &configs[m->nconfigs++];
	memset(c, 0, sizeof(*c));
	struct item_reader reader = { .c = cursor_of(whole->p, whole->n),
				      .rules = config_rules,
				      .nrules = ARRAY_SIZE(config_rules) };
	struct item item;
	int r;
	while ((r = item_next(&reader, &item, err)) > 0) {
		r = config_item(&item, c, err);
		if (r < 0)
			break;
	}
	return r < 0 ? r : items_complete(&reader, err);
}

static int label_decode(const struct item *item, struct manifest *m, struct err *err)
{
	const uint8_t *zero = memchr(item->p, 0, item->n);
	if (!zero || m->nlabels == POINT_LABELS_MAX)
		return err_set(err, ERR_DAMAGED, "label %zu of the manifest is invalid",
			       m->nlabels + 1);
	struct manifest_label *labels =
		mem_realloc_array(m->labels, m->nlabels + 1, sizeof(*labels));
	if (!labels)
		return err_nomem(err, "a manifest");
	m->labels = labels;
	struct manifest_label *l = &labels[m->nlabels++];
	memset(l, 0, sizeof(*l));
	size_t key_len = (size_t)(zero - item->p);
	int r = own_text(item->p, key_len, &l->key, err);
	return r < 0 ? r : own_text(zero + 1, item->n - key_len - 1, &l->value, err);
}

static int point_item(const struct item *item, struct manifest *m, struct err *err)
{
	uint64_t v = 0;
	int r = 0;
	switch (item->tag) {
	case POINT_UUID:
		memcpy(m->uuid, item->p, UUID_LEN);
		return 0;
	case POINT_NAME:
		return item_text(item, m->name, sizeof(m->name), err);
	case POINT_TIME:
		m->time = (int64_t)get_le64(item->p);
		return 0;
	case POINT_SEQUENCE:
		m->sequence = get_le64(item->p);
		return 0;
	case POINT_GENERATION:
		m->generation = get_le64(item->p);
		return 0;
	case POINT_KIND:
		m->kind = item->p[0];
		return 0;
	case POINT_PARENT:
		m->has_parent = true;
		memcpy(m->parent, item->p, POINT_ID_LEN);
		return 0;
	case POINT_CONSISTENCY:
		r = item_number(item, &v, err);
		m->consistency = (int)v;
		return r;
	case POINT_STORED:
		return item_number(item, &m->stored, err);
	case POINT_PROGRAM:
		return own_text(item->p, item->n, &m->program, err);
	case POINT_LABEL:
		return label_decode(item, m, err);
	case POINT_DISK:
		return disk_decode(item, m, err);
	default:
		return config_decode(item, m, err);
	}
}

int manifest_decode(const void *p, size_t n, struct manifest **out, struct err *err)
{
	const uint8_t *in = p;
	if (n < ITEM_HEADER_LEN || n > MANIFEST_MAX || memcmp(in, manifest_magic, 4) != 0)
		return err_set(err, ERR_DAMAGED, "not a manifest (%zu bytes)", n);
	if (get_le16(in + 4) != FORMAT_VERSION)
		return err_set(err, ERR_UNSUPPORTED, "manifest of version %u", get_le16(in + 4));
	if (get_le16(in + 6) != 0)
		return err_set(err, ERR_DAMAGED, "reserved bytes of the manifest are not zero");
	cleanup_ptr(manifest) m = mem_alloc(sizeof(*m));
	if (!m)
		return err_nomem(err, "a manifest");
	struct item_reader reader = { .c = cursor_of(in + 8, n - 8),
				      .rules = point_rules,
				      .nrules = ARRAY_SIZE(point_rules) };
	struct item item;
	int r;
	while ((r = item_next(&reader, &item, err)) > 0) {
		r = point_item(&item, m, err);
		if (r < 0)
			return r;
	}
	if (r == 0)
		r = items_complete(&reader, err);
	if (r < 0)
		return r;
	r = manifest_check(m, err);
	if (r < 0)
		return r == ERR_INVALID ? err_recode(err, ERR_DAMAGED) : r;
	*out = steal_ptr(m);
	return 0;
}
