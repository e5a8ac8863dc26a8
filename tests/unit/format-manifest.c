// SPDX-License-Identifier: GPL-3.0-or-later
/* Manifests: round trips, items of newer programs, what must be refused, on both sides. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/format-samples.h"

#include "base/banned.h"

static bool text_equal(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static void check_equal(const struct manifest *a, const struct manifest *b)
{
	assert_memory_equal(a->uuid, b->uuid, UUID_LEN);
	assert_string_equal(a->name, b->name);
	assert_true(a->time == b->time && a->sequence == b->sequence &&
		    a->generation == b->generation && a->kind == b->kind &&
		    a->has_parent == b->has_parent && a->consistency == b->consistency &&
		    a->stored == b->stored);
	assert_memory_equal(a->parent, b->parent, POINT_ID_LEN);
	assert_true(text_equal(a->program, b->program));
	assert_int_equal(a->ndisks, b->ndisks);
	assert_int_equal(a->nlabels, b->nlabels);
	assert_int_equal(a->nconfigs, b->nconfigs);
	for (size_t i = 0; i < a->nconfigs; i++) {
		const struct manifest_config *x = &a->configs[i], *y = &b->configs[i];
		assert_string_equal(x->name, y->name);
		assert_true(x->size == y->size && x->nparts == y->nparts);
		for (unsigned k = 0; k < x->nparts; k++) {
			assert_true(x->parts[k].locator == y->parts[k].locator);
			assert_memory_equal(x->parts[k].id, y->parts[k].id, ID_LEN);
		}
	}
	for (size_t i = 0; i < a->ndisks; i++) {
		const struct manifest_disk *x = &a->disks[i], *y = &b->disks[i];
		assert_string_equal(x->name, y->name);
		assert_true(x->size == y->size && x->source_size == y->source_size &&
			    x->chunk_size == y->chunk_size && x->method == y->method &&
			    x->read_bytes == y->read_bytes &&
			    x->unreadable_bytes == y->unreadable_bytes &&
			    x->root.locator == y->root.locator);
		assert_memory_equal(x->root.id, y->root.id, ID_LEN);
		assert_true(text_equal(x->source, y->source));
	}
	for (size_t i = 0; i < a->nlabels; i++) {
		assert_string_equal(a->labels[i].key, b->labels[i].key);
		assert_string_equal(a->labels[i].value, b->labels[i].value);
	}
}

static void check_round_trip(const struct manifest *a)
{
	cleanup_buf struct buf out = BUF_INIT, again = BUF_INIT;
	cleanup_ptr(manifest) b = NULL;
	struct err err = ERR_INIT;
	assert_int_equal(manifest_encode(a, &out, &err), 0);
	assert_int_equal(manifest_decode(out.data, out.len, &b, &err), 0);
	check_equal(a, b);
	assert_int_equal(manifest_encode(b, &again, &err), 0);
	assert_int_equal(out.len, again.len);
	assert_memory_equal(out.data, again.data, out.len);
}

static void test_round_trips(void **state)
{
	struct sample_source s = { 1 };
	(void)state;
	for (int i = 0; i < 500; i++) {
		cleanup_ptr(manifest) m = sample_manifest(&s, (unsigned)sample_below(&s, 5),
							  (unsigned)sample_below(&s, 5));
		assert_true(sample_configs(&s, m, (unsigned)sample_below(&s, 5)));
		check_round_trip(m);
	}
	cleanup_ptr(manifest) big = sample_manifest(&s, POINT_DISKS_MAX, POINT_LABELS_MAX);
	assert_true(sample_configs(&s, big, POINT_CONFIGS_MAX));
	check_round_trip(big);
}

/* --- a manifest put together by hand --- */

static void item(struct buf *b, unsigned tag, unsigned flags, const void *p, size_t n)
{
	buf_put_le16(b, (uint16_t)tag);
	buf_put_le16(b, (uint16_t)flags);
	buf_put_le32(b, (uint32_t)n);
	buf_put(b, p, n);
}

static void head(struct buf *b)
{
	static const uint8_t zero[16];
	buf_put(b, "LPMF\1\0\0\0", 8);
	item(b, 1, 1, zero, 16);
	item(b, 2, 1, "web1", 4);
	item(b, 3, 1, zero, 8);
	item(b, 4, 1, zero, 8);
	item(b, 5, 1, zero, 8);
	item(b, 6, 1, "\1", 1);
}

static int decode(const struct buf *b)
{
	cleanup_ptr(manifest) m = NULL;
	struct err err = ERR_INIT;
	int r = manifest_decode(b->data, b->len, &m, &err);
	assert_true((r == 0) == (m != NULL));
	assert_true(r == 0 || err.text[0]);
	return r;
}

/* The head and one item behind it. */
static int with_item(unsigned tag, unsigned flags, const void *p, size_t n)
{
	cleanup_buf struct buf b = BUF_INIT;
	head(&b);
	item(&b, tag, flags, p, n);
	return decode(&b);
}

static void test_items(void **state)
{
	static const uint8_t zero[64];
	cleanup_buf struct buf b = BUF_INIT;
	(void)state;
	head(&b);
	assert_int_equal(decode(&b), 0);
	/* an item cut off at each byte */
	for (size_t n = 0; n < b.len; n++) {
		struct buf cut = { .data = b.data, .len = n };
		assert_int_equal(decode(&cut), ERR_DAMAGED);
	}
	assert_int_equal(with_item(7, 0, zero, 16), 0);
	assert_int_equal(with_item(7, 0, zero, 15), ERR_DAMAGED);
	assert_int_equal(with_item(7, 1, zero, 16), ERR_DAMAGED); /* flags not as in the table */
	assert_int_equal(with_item(7, 2, zero, 16), ERR_UNSUPPORTED);
	assert_int_equal(with_item(8, 0, "\3", 1), 0);
	assert_int_equal(with_item(8, 0, "\0", 1), ERR_DAMAGED);
	assert_int_equal(with_item(8, 0, "\4", 1), ERR_UNSUPPORTED);
	assert_int_equal(with_item(9, 0, "\1\0\0\0\0\0\0\0", 8), 0);
	assert_int_equal(with_item(9, 0, zero, 8), ERR_DAMAGED); /* a 0 is left out */
	assert_int_equal(with_item(10, 0, "me", 2), 0);
	assert_int_equal(with_item(10, 0, "m\0e", 3), ERR_DAMAGED);
	assert_int_equal(with_item(10, 0, "", 0), ERR_DAMAGED);
	assert_int_equal(with_item(11, 0, "k\0v", 3), 0);
	assert_int_equal(with_item(11, 0, "k\0", 2), 0);
	assert_int_equal(with_item(11, 0, "k", 1), ERR_DAMAGED);
	assert_int_equal(with_item(11, 0, "\0v", 2), ERR_DAMAGED);
	assert_int_equal(with_item(11, 0, "k\0v\0", 4), ERR_DAMAGED);
	assert_int_equal(with_item(6, 1, "\1", 1), ERR_DAMAGED); /* twice */
	assert_int_equal(with_item(5, 1, zero, 8), ERR_DAMAGED); /* descending */
	assert_int_equal(with_item(0, 0, zero, 8), ERR_DAMAGED);
	/* of newer programs: 14 is in the page, 99 nowhere */
	assert_int_equal(with_item(14, 0, zero, 0), 0);
	assert_int_equal(with_item(99, 0, zero, 64), 0);
	assert_int_equal(with_item(99, 1, zero, 64), ERR_UNSUPPORTED);
	assert_int_equal(with_item(65535, 0, zero, 1), 0);
	b.data[4] = 2;
	assert_int_equal(decode(&b), ERR_UNSUPPORTED);
	b.data[4] = 1;
	b.data[6] = 1;
	assert_int_equal(decode(&b), ERR_DAMAGED);
}

static void test_names_and_kinds(void **state)
{
	static const uint8_t zero[16];
	static const struct {
		const char *name;
		size_t n;
		uint8_t kind;
		int code;
	} cases[] = {
		{ "web1", 4, 1, 0 },
		{ "web1", 4, 0, ERR_UNSUPPORTED },
		{ "web1", 4, 4, ERR_UNSUPPORTED },
		{ ".web", 4, 1, ERR_DAMAGED },
		{ "a b", 3, 1, ERR_DAMAGED },
		{ "a\0b", 3, 1, ERR_DAMAGED },
		{ "a\0", 2, 1, ERR_DAMAGED },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		for (unsigned missing = 0; missing <= 6; missing++) {
			cleanup_buf struct buf b = BUF_INIT;
			buf_put(&b, "LPMF\1\0\0\0", 8);
			for (unsigned tag = 1; tag <= 6; tag++) {
				const void *p = tag == 2 ? (const void *)cases[i].name :
						tag == 6 ? (const void *)&cases[i].kind :
							   zero;
				size_t n = tag == 1 ? 16 : tag == 2 ? cases[i].n : tag == 6 ? 1 : 8;
				if (tag != missing)
					item(&b, tag, 1, p, n);
			}
			assert_int_equal(decode(&b) == 0, missing == 0 && cases[i].code == 0);
			if (missing == 0)
				assert_int_equal(decode(&b), cases[i].code);
		}
}

struct disk_case {
	const char *name;
	uint64_t size, source_size; /* source_size 0: left out */
	uint32_t chunk_size;
	uint64_t locator;
	uint8_t id, method;
};

static void put_disk(struct buf *b, const struct disk_case *c)
{
	cleanup_buf struct buf d = BUF_INIT;
	uint8_t raw[40] = { 0 };
	item(&d, 1, 1, c->name, strlen(c->name));
	put_le64(raw, c->size);
	item(&d, 2, 1, raw, 8);
	put_le64(raw, c->locator);
	raw[8] = c->id;
	item(&d, 3, 1, raw, 40);
	if (c->method)
		item(&d, 4, 0, &c->method, 1);
	put_le64(raw, c->source_size);
	if (c->source_size)
		item(&d, 8, 0, raw, 8);
	put_le32(raw, c->chunk_size);
	item(&d, 9, 1, raw, 4);
	item(b, 12, 1, d.data, d.len);
}

static int with_disk(struct disk_case c)
{
	cleanup_buf struct buf b = BUF_INIT;
	head(&b);
	put_disk(&b, &c);
	return decode(&b);
}

static void test_disks(void **state)
{
	const struct disk_case good = { "vda", 1 << 20, 0, 65536, locator_make(1, 1), 1, 1 };
	struct disk_case c;
	(void)state;
#define WITH(change) (c = good, change, with_disk(c))
	assert_int_equal(with_disk(good), 0);
	assert_int_equal(WITH(c.name = "tree"), ERR_DAMAGED);
	assert_int_equal(WITH(c.name = "-a"), ERR_DAMAGED);
	assert_int_equal(
		WITH(c.name = "x123456789012345678901234567890123456789012345678901234567890123"),
		0);
	assert_int_equal(
		WITH(c.name = "xx123456789012345678901234567890123456789012345678901234567890123"),
		ERR_DAMAGED);
	assert_int_equal(WITH(c.size = 1000), ERR_DAMAGED);
	assert_int_equal(WITH(c.size = 0), 0);
	assert_int_equal(WITH(c.size = 64 * TiB), 0);
	assert_int_equal(WITH(c.size = 64 * TiB + 512), ERR_DAMAGED);
	assert_int_equal(WITH(c.chunk_size = 0), ERR_DAMAGED);
	assert_int_equal(WITH(c.chunk_size = 65537), ERR_DAMAGED);
	assert_int_equal(WITH(c.locator = 0), ERR_DAMAGED);
	assert_int_equal(WITH((c.locator = 0, c.id = 0)), 0);
	assert_int_equal(WITH(c.locator = 7), ERR_DAMAGED);
	assert_int_equal(WITH(c.method = 5), 0);
	assert_int_equal(WITH(c.method = 6), ERR_UNSUPPORTED);
	assert_int_equal(WITH(c.source_size = (1 << 20) - 511), 0);
	assert_int_equal(WITH(c.source_size = (1 << 20) - 512), ERR_DAMAGED);
	assert_int_equal(WITH(c.source_size = 1 << 20), ERR_DAMAGED); /* would have been left out */
	assert_int_equal(WITH(c.source_size = (1 << 20) + 1), ERR_DAMAGED);
#undef WITH
	cleanup_buf struct buf b = BUF_INIT;
	head(&b);
	put_disk(&b, &good);
	size_t first = b.len;
	put_disk(&b, &good);
	assert_int_equal(decode(&b), ERR_DAMAGED); /* one name twice */
	b.data[first + 8 + 8 + 2] = 'b';
	assert_int_equal(decode(&b), 0);
	/* one disk too many */
	cleanup_buf struct buf many = BUF_INIT;
	head(&many);
	for (unsigned i = 0; i <= POINT_DISKS_MAX; i++) {
		assert_int_equal(decode(&many), 0);
		cleanup_free char *name = str_printf("d%u", i);
		c = good;
		c.name = name;
		put_disk(&many, &c);
	}
	assert_int_equal(decode(&many), ERR_DAMAGED);
}

static void test_labels(void **state)
{
	cleanup_buf struct buf b = BUF_INIT;
	(void)state;
	head(&b);
	item(&b, 11, 0, "a\0x", 3);
	item(&b, 11, 0, "b\0x", 3);
	assert_int_equal(decode(&b), 0);
	item(&b, 11, 0, "a\0y", 3);
	assert_int_equal(decode(&b), ERR_DAMAGED);
	cleanup_buf struct buf many = BUF_INIT;
	head(&many);
	for (unsigned i = 0; i < POINT_LABELS_MAX; i++) {
		char text[16] = { 0 };
		snprintf(text, sizeof(text), "%u", i);
		item(&many, 11, 0, text, strlen(text) + 1);
	}
	assert_int_equal(decode(&many), 0);
	item(&many, 11, 0, "x\0", 2);
	assert_int_equal(decode(&many), ERR_DAMAGED);
}

struct config_case {
	const char *name;
	uint64_t size;
	unsigned parts;
	uint64_t locator; /* of each part */
	unsigned flags; /* of the item */
};

static void put_config(struct buf *b, const struct config_case *c)
{
	cleanup_buf struct buf d = BUF_INIT;
	uint8_t raw[40] = { 0 };
	item(&d, 1, 1, c->name, strlen(c->name));
	put_le64(raw, c->size);
	item(&d, 2, 1, raw, 8);
	put_le64(raw, c->locator);
	raw[8] = 1;
	for (unsigned i = 0; i < c->parts; i++)
		item(&d, 3, 1, raw, 40);
	item(b, 13, c->flags, d.data, d.len);
}

static int with_config(struct config_case c)
{
	cleanup_buf struct buf b = BUF_INIT;
	head(&b);
	put_config(&b, &c);
	return decode(&b);
}

static void test_configs(void **state)
{
	const struct config_case good = { "domain.xml", 1, 1, locator_make(1, 1), 0 };
	const uint64_t part = 4 * MiB; /* as the page says */
	static const uint8_t zero[64];
	struct config_case c;
	(void)state;
#define WITH(change) (c = good, change, with_config(c))
	assert_int_equal(with_config(good), 0);
	assert_int_equal(WITH(c.name = "nvram"), 0);
	assert_int_equal(WITH(c.name = "config"), 0); /* no folder of a disk's */
	assert_int_equal(WITH(c.name = ".xml"), ERR_DAMAGED);
	assert_int_equal(WITH(c.name = "a/b"), ERR_DAMAGED);
	assert_int_equal(WITH(c.name = ""), ERR_DAMAGED);
	assert_int_equal(
		WITH(c.name = "x123456789012345678901234567890123456789012345678901234567890123"),
		0);
	assert_int_equal(
		WITH(c.name = "xx123456789012345678901234567890123456789012345678901234567890123"),
		ERR_DAMAGED);
	assert_int_equal(WITH((c.size = 0, c.parts = 0)), 0);
	assert_int_equal(WITH(c.size = 0), ERR_DAMAGED);
	assert_int_equal(WITH(c.parts = 0), ERR_DAMAGED);
	assert_int_equal(WITH(c.parts = 2), ERR_DAMAGED);
	assert_int_equal(WITH(c.size = part), 0);
	assert_int_equal(WITH(c.size = part + 1), ERR_DAMAGED);
	assert_int_equal(WITH((c.size = part + 1, c.parts = 2)), 0);
	assert_int_equal(WITH((c.size = 64 * MiB, c.parts = 16)), 0);
	assert_int_equal(WITH((c.size = 64 * MiB + 1, c.parts = 16)), ERR_DAMAGED);
	assert_int_equal(WITH((c.size = 64 * MiB + 1, c.parts = 17)), ERR_DAMAGED);
	assert_int_equal(WITH(c.size = UINT64_MAX), ERR_DAMAGED);
	assert_int_equal(WITH(c.locator = 0), ERR_DAMAGED);
	assert_int_equal(WITH(c.locator = 7), ERR_DAMAGED);
	assert_int_equal(WITH(c.flags = 1), ERR_DAMAGED);
#undef WITH
	assert_int_equal(with_item(13, 0, zero, 50), ERR_DAMAGED);
	cleanup_buf struct buf twice = BUF_INIT;
	head(&twice);
	put_config(&twice, &good);
	put_config(&twice, &good);
	assert_int_equal(decode(&twice), ERR_DAMAGED);
	cleanup_buf struct buf many = BUF_INIT;
	head(&many);
	for (unsigned i = 0; i <= POINT_CONFIGS_MAX; i++) {
		assert_int_equal(decode(&many), 0);
		cleanup_free char *name = str_printf("f%u", i);
		c = good;
		c.name = name;
		put_config(&many, &c);
	}
	assert_int_equal(decode(&many), ERR_DAMAGED);
}

static void test_encoder_refuses(void **state)
{
	struct sample_source s = { 5 };
	(void)state;
#define REFUSED(code, change)                                                                      \
	do {                                                                                       \
		cleanup_buf struct buf out = BUF_INIT;                                             \
		cleanup_ptr(manifest) m = sample_manifest(&s, 2, 2);                               \
		struct manifest_disk *d = &m->disks[1];                                            \
		(void)d;                                                                           \
		change;                                                                            \
		assert_int_equal(manifest_encode(m, &out, NULL), code);                            \
		assert_int_equal(out.len, 0);                                                      \
	} while (0)
	REFUSED(ERR_INVALID, m->name[0] = 0);
	REFUSED(ERR_INVALID, m->name[0] = '/');
	REFUSED(ERR_UNSUPPORTED, m->kind = 0);
	REFUSED(ERR_UNSUPPORTED, m->consistency = 4);
	REFUSED(ERR_INVALID, (m->has_parent = false, m->parent[3] = 1));
	REFUSED(ERR_INVALID, d->size++);
	REFUSED(ERR_INVALID, d->source_size = d->size + 1);
	REFUSED(ERR_INVALID, (d->size = 1 * MiB, d->source_size = 0));
	REFUSED(ERR_INVALID, d->chunk_size = 0);
	REFUSED(ERR_INVALID, d->name[0] = 0);
	REFUSED(ERR_INVALID, str_copy(d->name, sizeof(d->name), m->disks[0].name));
	REFUSED(ERR_INVALID, d->root.locator = 1);
	REFUSED(ERR_UNSUPPORTED, d->method = 6);
	REFUSED(ERR_INVALID, (free(d->source), d->source = str_dup("")));
	REFUSED(ERR_INVALID, (free(m->program), m->program = str_dup("")));
	REFUSED(ERR_INVALID, m->labels[1].key[0] = 0);
	REFUSED(ERR_INVALID, (free(m->labels[1].value), m->labels[1].value = NULL));
	REFUSED(ERR_INVALID,
		(free(m->labels[1].key), m->labels[1].key = str_dup(m->labels[0].key)));
#define REFUSED_FILE(change)                                                                       \
	REFUSED(ERR_INVALID, assert_true(sample_configs(&s, m, 2));                                \
		struct manifest_config *c = &m->configs[1]; change)
	REFUSED_FILE(c->name[0] = '/');
	REFUSED_FILE(str_copy(c->name, sizeof(c->name), m->configs[0].name));
	REFUSED_FILE(c->size += CONFIG_PART);
	REFUSED_FILE(c->size = CONFIG_BYTES_MAX + 1);
#undef REFUSED_FILE
	cleanup_free char *big = mem_alloc(MANIFEST_MAX + 1);
	memset(big, 'x', MANIFEST_MAX);
	REFUSED(ERR_TOO_BIG, (free(m->program), m->program = str_dup(big)));
#undef REFUSED
	cleanup_buf struct buf b = BUF_INIT;
	buf_put(&b, "LPMF\1\0\0\0", 8);
	buf_put_zero(&b, MANIFEST_MAX);
	assert_int_equal(decode(&b), ERR_DAMAGED);
}

/* No bit crashes; what is taken is canonical. */
static void test_every_bit(void **state)
{
	struct sample_source s = { 6 };
	cleanup_ptr(manifest) m = sample_manifest(&s, 3, 3);
	cleanup_buf struct buf out = BUF_INIT;
	(void)state;
	assert_true(sample_configs(&s, m, 3));
	assert_int_equal(manifest_encode(m, &out, NULL), 0);
	for (size_t bit = 0; bit < 8 * out.len; bit++) {
		cleanup_ptr(manifest) back = NULL;
		cleanup_buf struct buf again = BUF_INIT;
		out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		int r = manifest_decode(out.data, out.len, &back, NULL);
		assert_true(r == 0 || r == ERR_DAMAGED || r == ERR_UNSUPPORTED);
		if (r == 0) {
			assert_int_equal(manifest_encode(back, &again, NULL), 0);
			/* shorter if a tag became one that is skipped */
			assert_true(again.len < out.len ||
				    memcmp(again.data, out.data, out.len) == 0);
		}
		out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

static void test_allocation_failures(void **state)
{
	struct sample_source s = { 7 };
	cleanup_ptr(manifest) m = sample_manifest(&s, 3, 3);
	assert_true(sample_configs(&s, m, 3));
	int r = ERR_NOMEM;
	unsigned n = 0;
	(void)state;
	while (r == ERR_NOMEM && ++n < 1000) {
		cleanup_ptr(manifest) back = NULL;
		cleanup_buf struct buf out = BUF_INIT;
		struct err err = ERR_INIT;
		mem_fail_after(n);
		r = manifest_encode(m, &out, &err);
		if (r == 0)
			r = manifest_decode(out.data, out.len, &back, &err);
		mem_fail_after(0);
		assert_true(r == 0 || !back);
	}
	assert_int_equal(r, 0);
	assert_true(n > 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trips),
		cmocka_unit_test(test_items),
		cmocka_unit_test(test_names_and_kinds),
		cmocka_unit_test(test_disks),
		cmocka_unit_test(test_labels),
		cmocka_unit_test(test_configs),
		cmocka_unit_test(test_encoder_refuses),
		cmocka_unit_test(test_every_bit),
		cmocka_unit_test(test_allocation_failures),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
