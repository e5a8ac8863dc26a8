/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Text dumps: what a file or object holds, one "key value" fact a line, for people and for tests.
 *
 * Invariants:
 *  1. Equal bytes give equal text, on every machine: no local time, no locale, no addresses.
 *  2. Bytes that come from the object appear as hexadecimal or escaped, so that a dump of hostile
 *     data is harmless on a terminal.
 *  3. What is wrong is a line "problem TEXT", and the dump goes on as far as it can.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#include "format/internal.h"
#include "format/overlay.h"
#include "format/state.h"

#include "base/banned.h"

void dump_problem(struct dump *d, int code, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	buf_printf(d->out, "problem");
	dump_text(d, "", text, strlen(text));
	buf_put_u8(d->out, '\n');
	if (d->code == 0)
		d->code = err_set(d->err, code, "%s", text);
}

void dump_hex(struct dump *d, const char *key, const uint8_t *p, size_t n)
{
	char text[2 * ID_LEN + 1];
	buf_printf(d->out, " %s ", key);
	while (n > 0) {
		size_t part = MIN(n, (size_t)ID_LEN);
		hex_encode(text, p, part);
		buf_printf(d->out, "%s", text);
		p += part;
		n -= part;
	}
}

void dump_text(struct dump *d, const char *key, const void *p, size_t n)
{
	const uint8_t *bytes = p;
	buf_printf(d->out, key[0] ? " %s " : "%s ", key);
	for (size_t i = 0; i < n; i++) {
		if (bytes[i] >= 0x20 && bytes[i] < 0x7f && bytes[i] != '\\')
			buf_put_u8(d->out, bytes[i]);
		else
			buf_printf(d->out, "\\x%02x", bytes[i]);
	}
}

int dump_end(struct dump *d)
{
	if (d->out->failed)
		return err_nomem(d->err, "a dump");
	return d->code;
}

static void hex_line(struct dump *d, const char *key, const uint8_t *p, size_t n)
{
	char text[2 * ID_LEN + 1];
	hex_encode(text, p, MIN(n, (size_t)ID_LEN));
	buf_printf(d->out, "%s %s\n", key, text);
}

static void text_line(struct dump *d, const char *key, const char *s)
{
	buf_printf(d->out, "%s", key);
	dump_text(d, "", s, strlen(s));
	buf_put_u8(d->out, '\n');
}

/* --- files --- */

static void dump_conf(struct dump *d, const uint8_t *p, size_t n)
{
	struct conf c;
	struct err err = ERR_INIT;
	buf_printf(d->out, "file livepoint.conf\n");
	int r = conf_decode(p, n, &c, &err);
	if (r < 0) {
		dump_problem(d, r, "%s", err.text);
		return;
	}
	hex_line(d, "uuid", c.uuid, UUID_LEN);
	buf_printf(d->out,
		   "incompatible %016" PRIx64 "\ncompatible %016" PRIx64 "\nautoclear %016" PRIx64
		   "\n",
		   c.incompatible, c.compatible, c.autoclear);
	buf_printf(d->out,
		   "chunk-size %" PRIu32 "\nleaf-chunks %" PRIu32 "\nsuite %u\ncompression %s\n",
		   c.chunk_size, c.leaf_chunks, c.suite, compression_name(c.compression));
	if (c.suite)
		buf_printf(d->out, "kdf-n %" PRIu64 "\nkdf-r %" PRIu32 "\nkdf-p %" PRIu32 "\n",
			   c.kdf_n, c.kdf_r, c.kdf_p);
	char created[TIME_TEXT_MAX];
	time_format(created, c.created);
	buf_printf(d->out, "grace %" PRIu64 "\ncreated %s\n", c.grace, created);
}

static void dump_key(struct dump *d, const uint8_t *p, size_t n)
{
	struct key_file k;
	struct err err = ERR_INIT;
	buf_printf(d->out, "file key\n");
	int r = key_file_decode(p, n, &k, &err);
	if (r < 0) {
		dump_problem(d, r, "%s", err.text);
		return;
	}
	buf_printf(d->out,
		   "suite %u\nkdf scrypt\nkdf-n %" PRIu64 "\nkdf-r %" PRIu32 "\nkdf-p %" PRIu32
		   "\n",
		   k.suite, k.kdf_n, k.kdf_r, k.kdf_p);
	hex_line(d, "salt", k.salt, SALT_LEN);
	hex_line(d, "nonce", k.nonce, NONCE_MAX);
	hex_line(d, "uuid", k.uuid, UUID_LEN);
	text_line(d, "label", k.label);
	/* seconds: nothing bounds them to what a date can tell */
	buf_printf(d->out, "created %" PRId64 "\nwrapped %d\n", k.created, KEY_WRAPPED_LEN);
}

static void dump_slot(struct dump *d, unsigned i, const struct key_ring_slot *s)
{
	buf_printf(d->out, "slot %u %s bound %u kdf-n %" PRIu64 " kdf-r %" PRIu32 " kdf-p %" PRIu32,
		   i, s->kind == KEY_RECOVERY ? "recovery" : "passphrase", s->bound, s->kdf_n,
		   s->kdf_r, s->kdf_p);
	dump_hex(d, "salt", s->salt, SALT_LEN);
	dump_hex(d, "nonce", s->nonce, NONCE_MAX);
	dump_hex(d, "public", s->public, KEY_PUBLIC_LEN);
	dump_hex(d, "ephemeral", s->ephemeral, KEY_PUBLIC_LEN);
	buf_printf(d->out, " created %" PRId64, s->created);
	dump_text(d, "label", s->label, strlen(s->label));
	buf_put_u8(d->out, '\n');
}

static void dump_ring(struct dump *d, const uint8_t *p, size_t n)
{
	cleanup_free struct key_ring *k = mem_alloc(sizeof(*k));
	struct err err = ERR_INIT;
	int r = k ? key_ring_decode(p, n, k, &err) : err_nomem(&err, "key ring");

	buf_printf(d->out, "file key-ring\n");
	if (r < 0) {
		dump_problem(d, r, "%s", err.text);
		return;
	}
	buf_printf(d->out, "suite %u\nepochs %u\nserial %" PRIu64 "\n", k->suite, k->epochs,
		   k->serial);
	hex_line(d, "uuid", k->uuid, UUID_LEN);
	for (unsigned i = 0; i < k->nslots; i++)
		dump_slot(d, i, &k->slots[i]);
	hex_line(d, "mac", k->mac, ID_LEN);
}

int dump_file(const void *p, size_t n, struct buf *out, struct err *err)
{
	struct dump d = { .out = out, .err = err };
	if (n >= 8 && memcmp(p, "LVPTPACK", 8) == 0)
		dump_pack(&d, p, n);
	else if (n >= 8 && memcmp(p, "LVPTISEG", 8) == 0)
		dump_segment(&d, p, n);
	else if (n >= 8 && memcmp(p, "LVPTKEY1", 8) == 0)
		dump_key(&d, p, n);
	else if (key_ring_is(p, n))
		dump_ring(&d, p, n);
	else if (overlay_header_is(p, n))
		dump_overlay_header(&d, p, n);
	else if (overlay_log_is(p, n))
		dump_overlay_log(&d, p, n);
	else if (n >= 9 && memcmp(p, "format = ", 9) == 0)
		dump_conf(&d, p, n);
	else
		dump_problem(
			&d, ERR_DAMAGED,
			"neither a pack nor an index segment, overlay, key ring, key file or livepoint.conf");
	return dump_end(&d);
}

/* --- objects --- */

static void dump_locator(struct dump *d, uint64_t locator)
{
	buf_printf(d->out, " pack %" PRIu64 " slot %" PRIu32, locator_pack(locator),
		   locator_slot(locator));
}

static void dump_ref(struct dump *d, const char *key, unsigned i, const struct object_ref *ref)
{
	buf_printf(d->out, "%s %u", key, i);
	if (ref->locator == LOCATOR_NONE) {
		buf_printf(d->out, " none\n");
		return;
	}
	dump_locator(d, ref->locator);
	dump_hex(d, "id", ref->id, ID_LEN);
	buf_put_u8(d->out, '\n');
}

static int dump_leaf(struct dump *d, const void *p, size_t n, struct err *err)
{
	static const char *const kinds[] = { "hole", "data", "unreadable" };
	cleanup_free struct leaf *leaf = NULL;
	int r = leaf_decode(p, n, &leaf, err);
	if (r < 0)
		return r;
	buf_printf(d->out, "chunks %u\nruns %u\n", leaf->chunks, leaf->nruns);
	hex_line(d, "digest", leaf->digest, ID_LEN);
	for (unsigned i = 0; i < leaf->nruns; i++) {
		const struct run *run = &leaf->runs[i];
		buf_printf(d->out, "run %u %s start %u count %u", i, kinds[run->kind], run->start,
			   run->count);
		if (run->kind == RUN_DATA)
			dump_locator(d, run->locator);
		buf_put_u8(d->out, '\n');
	}
	return 0;
}

static int dump_page(struct dump *d, const void *p, size_t n, struct err *err)
{
	cleanup_free struct page *page = NULL;
	int r = page_decode(p, n, &page, err);
	if (r < 0)
		return r;
	buf_printf(d->out, "leaves %u\n", page->count);
	for (unsigned i = 0; i < page->count; i++)
		dump_ref(d, "leaf", i, &page->leaves[i]);
	return 0;
}

static int dump_root(struct dump *d, const void *p, size_t n, struct err *err)
{
	cleanup_free struct root *root = NULL;
	int r = root_decode(p, n, &root, err);
	if (r < 0)
		return r;
	buf_printf(d->out,
		   "size %" PRIu64 "\nchunk-size %" PRIu32 "\nleaf-chunks %" PRIu32 "\npages %u\n",
		   root->size, root->chunk_size, root->leaf_chunks, root->count);
	for (unsigned i = 0; i < root->count; i++)
		dump_ref(d, "page", i, &root->pages[i]);
	return 0;
}

static void dump_manifest_disk(struct dump *d, unsigned i, const struct manifest_disk *disk)
{
	buf_printf(d->out,
		   "disk %u name %s size %" PRIu64 " source-size %" PRIu64 " chunk-size %" PRIu32,
		   i, disk->name, disk->size, disk->source_size, disk->chunk_size);
	buf_printf(d->out, " method %s read %" PRIu64 " unreadable %" PRIu64,
		   disk_method_name(disk->method), disk->read_bytes, disk->unreadable_bytes);
	if (disk->source)
		dump_text(d, "source", disk->source, strlen(disk->source));
	buf_put_u8(d->out, '\n');
	dump_ref(d, "root", i, &disk->root);
}

static int dump_manifest(struct dump *d, const void *p, size_t n, struct err *err)
{
	cleanup_ptr(manifest) m = NULL;
	int r = manifest_decode(p, n, &m, err);
	if (r < 0)
		return r;
	hex_line(d, "uuid", m->uuid, UUID_LEN);
	buf_printf(d->out,
		   "name %s\ntime %" PRId64 "\nsequence %" PRIu64 "\ngeneration %" PRIu64
		   "\nkind %s\n",
		   m->name, m->time, m->sequence, m->generation, point_kind_name(m->kind));
	if (m->has_parent)
		hex_line(d, "parent", m->parent, POINT_ID_LEN);
	buf_printf(d->out, "consistency %s\nstored %" PRIu64 "\n", consistency_name(m->consistency),
		   m->stored);
	if (m->program)
		text_line(d, "program", m->program);
	for (size_t i = 0; i < m->nlabels; i++) {
		buf_printf(d->out, "label");
		dump_text(d, "key", m->labels[i].key, strlen(m->labels[i].key));
		dump_text(d, "value", m->labels[i].value, strlen(m->labels[i].value));
		buf_put_u8(d->out, '\n');
	}
	for (size_t i = 0; i < m->ndisks; i++)
		dump_manifest_disk(d, (unsigned)i, &m->disks[i]);
	for (size_t i = 0; i < m->nconfigs; i++) {
		buf_printf(d->out, "config %zu name %s size %" PRIu64 "\n", i, m->configs[i].name,
			   m->configs[i].size);
		for (unsigned k = 0; k < m->configs[i].nparts; k++)
			dump_ref(d, "part", k, &m->configs[i].parts[k]);
	}
	return 0;
}

static int dump_state(struct dump *d, const void *p, size_t n, struct err *err)
{
	struct state s;
	int r = state_decode(p, n, &s, err);
	if (r < 0)
		return r;
	hex_line(d, "uuid", s.uuid, UUID_LEN);
	buf_printf(d->out,
		   "time %" PRId64 "\ngeneration %" PRIu64 "\nnext-pack %" PRIu64
		   "\nnext-sequence %" PRIu64 "\nnext-segment %" PRIu64 "\naudit %" PRIu64 "\n",
		   s.time, s.generation, s.next_pack, s.next_sequence, s.next_segment,
		   s.audit_number);
	hex_line(d, "audit-mac", s.audit_mac, ID_LEN);
	for (size_t i = 0; i < s.nholds; i++) {
		buf_printf(d->out, "hold %zu", i);
		dump_hex(d, "point", s.holds[i].point, POINT_ID_LEN);
		buf_printf(d->out, " since %" PRId64 " until %" PRId64, s.holds[i].since,
			   s.holds[i].until);
		dump_text(d, "reason", s.holds[i].reason, strlen(s.holds[i].reason));
		buf_put_u8(d->out, '\n');
	}
	for (size_t i = 0; i < s.npoints; i++) {
		buf_printf(d->out, "point %zu", i);
		dump_hex(d, "id", s.points[i].id, POINT_ID_LEN);
		buf_printf(d->out, " %s at %" PRId64 " until %" PRId64 "\n",
			   s.points[i].expired ? "expired" : "forgotten", s.points[i].forgotten,
			   s.points[i].until);
	}
	state_release(&s);
	return 0;
}

int dump_object(enum object_type type, const void *p, size_t n, struct buf *out, struct err *err)
{
	struct dump d = { .out = out, .err = err };
	struct err local = ERR_INIT;
	int r = 0;
	buf_printf(out, "object %s\nlength %zu\n", object_type_name((int)type), n);
	switch (type) {
	case OBJECT_LEAF:
		r = dump_leaf(&d, p, n, &local);
		break;
	case OBJECT_PAGE:
		r = dump_page(&d, p, n, &local);
		break;
	case OBJECT_ROOT:
		r = dump_root(&d, p, n, &local);
		break;
	case OBJECT_MANIFEST:
		r = dump_manifest(&d, p, n, &local);
		break;
	case OBJECT_STATE:
		r = dump_state(&d, p, n, &local);
		break;
	case OBJECT_CHUNK:
	case OBJECT_BLOB:
		buf_printf(out, "xxh3 %016" PRIx64 "\n", check_xxh3(p, n));
		break;
	default:
		r = err_set(&local, ERR_UNSUPPORTED, "object of type %d", (int)type);
	}
	if (r < 0)
		dump_problem(&d, r, "%s", local.text);
	return dump_end(&d);
}
