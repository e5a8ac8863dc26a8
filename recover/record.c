// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * recovery.json: a record as text and back.  Fields: livepoint-repository(5).
 *
 * Invariants:
 *  1. What is decoded was checked: ids, uuid and names have their forms, sizes their bounds; a record is filled whole or not at
 *     all.  It is not authenticated: it names files, so what is removed follows from the id, never from a path in it.
 *  2. No secret and nothing out of the guest's XML stands in it: the XML is made again from the point at each start.
 */
#include "recover/internal.h"

#include <stdlib.h>

#include "base/file.h"

#include "base/banned.h"

#define TEXTS_MAX 1024

void texts_release(struct texts *t)
{
	size_t i;

	for (i = 0; i < t->count; i++)
		free(t->items[i]);
	free(t->items);
	*t = (struct texts){ 0 };
}

int texts_add(struct texts *t, const char *text, struct err *err)
{
	char **more = mem_realloc_array(t->items, t->count + 1, sizeof(*more));

	if (!more)
		return err_nomem(err, "list of texts");
	t->items = more;
	more[t->count] = str_dup(text);
	if (!more[t->count])
		return err_nomem(err, "list of texts");
	t->count++;
	return 0;
}

int texts_copy(struct texts *t, const char *const *items, size_t count, struct err *err)
{
	size_t i;
	int code = 0;

	for (i = 0; i < count && code == 0; i++)
		code = texts_add(t, items[i], err);
	return code;
}

bool text_copy(char **dst, const char *text)
{
	char *copy = text ? str_dup(text) : NULL;

	if (text && !copy)
		return false;
	free(*dst);
	*dst = copy;
	return true;
}

void text_set(char **dst, const char *text)
{
	if (!text_copy(dst, text)) {
		free(*dst);
		*dst = NULL;
	}
}

bool recovery_id_valid(const char *text)
{
	return text[0] == 'r' && strlen(text) == RECOVERY_ID_LEN &&
	       strspn(text + 1, "0123456789abcdef") == RECOVERY_ID_LEN - 1;
}

/* --- the fields that are texts --- */

static const struct {
	const char *key;
	size_t offset; /* of a char * in struct record */
	bool needed;
} text_fields[] = {
	{ "repository", offsetof(struct record, repository), true },
	{ "point", offsetof(struct record, point), true },
	{ "connection", offsetof(struct record, connection), true },
	{ "host", offsetof(struct record, host), true },
	{ "domain", offsetof(struct record, domain), true },
	{ "uuid", offsetof(struct record, uuid), true },
	{ "accel", offsetof(struct record, accel), false },
	{ "local_dir", offsetof(struct record, local_dir), false },
	{ "nvram", offsetof(struct record, nvram), false },
	{ "isolated", offsetof(struct record, isolated), false },
	{ "socket", offsetof(struct record, socket), false },
	{ "problem", offsetof(struct record, problem), false },
	{ "network", offsetof(struct record, network), false },
	{ "disk_bus", offsetof(struct record, disk_bus), false },
	{ "machine", offsetof(struct record, machine), false },
	{ "os_info", offsetof(struct record, os_info), false },
	{ "to", offsetof(struct record, to), false },
	{ "format", offsetof(struct record, format), false },
};

static char **text_field(const struct record *r, size_t i)
{
	return (char **)((char *)r + text_fields[i].offset);
}

void recovery_record_release(struct record *r)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(text_fields); i++)
		free(*text_field(r, i));
	texts_release(&r->networks);
	texts_release(&r->macs);
	for (i = 0; i < r->ndisks; i++) {
		free(r->disks[i].file);
		free(r->disks[i].moved_to);
	}
	free(r->disks);
	for (i = 0; i < r->ndamage; i++)
		free(r->damage[i].other);
	free(r->damage);
	memset(r, 0, sizeof(*r));
}

/* --- to text --- */

static struct jval *texts_json(const struct texts *t)
{
	struct jval *array = jval_array();
	size_t i;

	for (i = 0; i < t->count; i++)
		jval_append(array, jval_str(t->items[i]));
	return array;
}

static struct jval *disks_json(const struct record *r)
{
	struct jval *array = jval_array();
	size_t i;

	for (i = 0; i < r->ndisks; i++) {
		struct jval *d = jval_object();

		jval_set(d, "name", jval_str(r->disks[i].name));
		jval_set(d, "target", jval_str(r->disks[i].target));
		jval_set(d, "size", jval_uint(r->disks[i].size));
		jval_set(d, "file", jval_str(r->disks[i].file));
		jval_set(d, "moved_to", jval_str(r->disks[i].moved_to));
		jval_set(d, "moved_block", jval_bool(r->disks[i].moved_block));
		jval_append(array, d);
	}
	return array;
}

static struct jval *damage_json(const struct record *r)
{
	struct jval *array = jval_array();
	size_t i;

	for (i = 0; i < r->ndamage; i++) {
		struct jval *d = jval_object();

		jval_set(d, "disk", jval_str(r->damage[i].disk));
		jval_set(d, "start", jval_uint(r->damage[i].start));
		jval_set(d, "length", jval_uint(r->damage[i].length));
		jval_set(d, "other", jval_str(r->damage[i].other));
		jval_set(d, "time", jval_int(r->damage[i].time));
		jval_append(array, d);
	}
	return array;
}

int recovery_record_encode(const struct record *r, struct buf *out, struct err *err)
{
	cleanup_ptr(jval) doc = jval_object();
	size_t i;
	int code;

	jval_set(doc, "version", jval_uint(RECORD_VERSION));
	jval_set(doc, "id", jval_str(r->id));
	jval_set(doc, "overlay", jval_str(r->overlay[0] ? r->overlay : NULL));
	jval_set(doc, "state", jval_str(recovery_state_name(r->state)));
	jval_set(doc, "created", jval_int(r->created));
	jval_set(doc, "since", jval_int(r->since));
	for (i = 0; i < ARRAY_SIZE(text_fields); i++)
		jval_set(doc, text_fields[i].key, jval_str(*text_field(r, i)));
	jval_set(doc, "networks", texts_json(&r->networks));
	jval_set(doc, "macs", texts_json(&r->macs));
	jval_set(doc, "memory", jval_uint(r->memory));
	jval_set(doc, "vcpus", jval_uint(r->vcpus));
	jval_set(doc, "paused", jval_bool(r->paused));
	jval_set(doc, "bandwidth", jval_uint(r->bandwidth));
	jval_set(doc, "captured", jval_bool(r->captured));
	jval_set(doc, "disks", disks_json(r));
	jval_set(doc, "damage", damage_json(r));
	code = jval_print(doc, true, out, err);
	buf_put_u8(out, '\n');
	return code == 0 && out->failed ? err_nomem(err, RECORD_FILE) : code;
}

/* --- from text --- */

/* A missing member and null leave NULL. */
static bool take_text(const struct jval *doc, const char *key, char **dst)
{
	const struct jval *v = jval_get(doc, key);

	return jval_is_null(v) || (jval_as_str(v) && text_copy(dst, jval_as_str(v)));
}

static bool take_texts(const struct jval *array, struct texts *t)
{
	size_t n = jval_count(array), i;

	if (n > TEXTS_MAX)
		return false;
	for (i = 0; i < n; i++)
		if (!jval_as_str(jval_at(array, i)) ||
		    texts_add(t, jval_as_str(jval_at(array, i)), NULL) < 0)
			return false;
	return true;
}

static bool take_disk(const struct jval *v, struct record_disk *d)
{
	const char *name = jval_as_str(jval_get(v, "name"));
	const char *target = jval_as_str(jval_get(v, "target"));

	return name && disk_name_valid(name) && str_copy(d->name, sizeof(d->name), name) &&
	       target && *target && str_copy(d->target, sizeof(d->target), target) &&
	       jval_as_uint(jval_get(v, "size"), &d->size) && take_text(v, "file", &d->file) &&
	       take_text(v, "moved_to", &d->moved_to) &&
	       jval_as_bool(jval_get(v, "moved_block"), &d->moved_block);
}

static bool take_disks(const struct jval *array, struct record *r)
{
	size_t n = jval_count(array), i;

	if (n == 0 || n > POINT_DISKS_MAX)
		return false;
	r->disks = mem_alloc_array(n, sizeof(*r->disks));
	if (!r->disks)
		return false;
	r->ndisks = n;
	for (i = 0; i < n; i++)
		if (!take_disk(jval_at(array, i), &r->disks[i]))
			return false;
	return true;
}

static bool take_damage(const struct jval *array, struct record *r)
{
	size_t n = jval_count(array), i;

	if (n == 0)
		return true;
	if (n > TEXTS_MAX)
		return false;
	r->damage = mem_alloc_array(n, sizeof(*r->damage));
	if (!r->damage)
		return false;
	r->ndamage = n;
	for (i = 0; i < n; i++) {
		const struct jval *v = jval_at(array, i);
		struct recovery_damage *d = &r->damage[i];
		const char *disk = jval_as_str(jval_get(v, "disk"));

		if (!disk || !str_copy(d->disk, sizeof(d->disk), disk) ||
		    !jval_as_uint(jval_get(v, "start"), &d->start) ||
		    !jval_as_uint(jval_get(v, "length"), &d->length) ||
		    !jval_as_int(jval_get(v, "time"), &d->time) ||
		    !take_text(v, "other", &d->other))
			return false;
	}
	return true;
}

static bool take_ids(const struct jval *doc, struct record *r)
{
	const char *id = jval_as_str(jval_get(doc, "id"));
	const char *overlay = jval_as_str(jval_get(doc, "overlay"));
	const char *state = jval_as_str(jval_get(doc, "state"));

	return id && recovery_id_valid(id) && str_copy(r->id, sizeof(r->id), id) &&
	       (!overlay ||
		(overlay[0] == 'o' && str_copy(r->overlay, sizeof(r->overlay), overlay))) &&
	       state && recovery_state_parse(state, &r->state);
}

static bool take_all(const struct jval *doc, struct record *r)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(text_fields); i++)
		if (!take_text(doc, text_fields[i].key, text_field(r, i)) ||
		    (text_fields[i].needed && !*text_field(r, i)))
			return false;
	return take_ids(doc, r) && jval_as_int(jval_get(doc, "created"), &r->created) &&
	       jval_as_int(jval_get(doc, "since"), &r->since) &&
	       jval_as_uint(jval_get(doc, "memory"), &r->memory) &&
	       jval_as_uint(jval_get(doc, "vcpus"), &r->vcpus) &&
	       jval_as_bool(jval_get(doc, "paused"), &r->paused) &&
	       jval_as_uint(jval_get(doc, "bandwidth"), &r->bandwidth) &&
	       jval_as_bool(jval_get(doc, "captured"), &r->captured) &&
	       strlen(r->uuid) == VIRT_UUID_TEXT - 1 &&
	       take_texts(jval_get(doc, "networks"), &r->networks) &&
	       take_texts(jval_get(doc, "macs"), &r->macs) &&
	       take_disks(jval_get(doc, "disks"), r) && take_damage(jval_get(doc, "damage"), r);
}

int recovery_record_decode(const void *p, size_t n, struct record *out, struct err *err)
{
	cleanup_ptr(jval) doc = NULL;
	cleanup_record struct record r = { 0 };
	uint64_t version;
	int code = jval_parse(p, n, &doc, err);

	if (code < 0)
		return err_recode(err, code == ERR_NOMEM ? code : ERR_DAMAGED);
	if (!jval_as_uint(jval_get(doc, "version"), &version))
		return err_set(err, ERR_DAMAGED, "it has no version");
	if (version != RECORD_VERSION)
		return err_set(err, ERR_UNSUPPORTED, "it has version %llu, this program knows %d",
			       (unsigned long long)version, RECORD_VERSION);
	if (!take_all(doc, &r))
		return err_set(err, ERR_DAMAGED, "a field is missing or has no valid value");
	*out = r;
	memset(&r, 0, sizeof(r));
	return 0;
}

int recovery_record_read(const char *folder, struct record *out, struct err *err)
{
	cleanup_free char *path = str_printf("%s/%s", folder, RECORD_FILE);
	cleanup_buf struct buf text = BUF_INIT;
	int code;

	if (!path)
		return err_nomem(err, "path");
	code = file_read_all(path, RECORD_BYTES_MAX, &text, err);
	if (code == 0) {
		code = recovery_record_decode(text.data, text.len, out, err);
		if (code < 0)
			err_prefix(err, "'%s'", path);
	}
	return code;
}
