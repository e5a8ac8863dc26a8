/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Changes of keys: slots made, replaced and removed, and new epochs; files and their order are repo/key-files.c's.
 *
 * Each change: lock; the newest ring that was made with our keys, with the slot that opened the repository in it; the
 * change in memory; the audit log's entry; both files; then files of version 1 that are in the ring now.
 *
 * Invariants:
 *  1. The ring that is written is whole and sealed by those keys that will be used: a crash leaves the old or the new one.
 *  2. An epoch is used by nobody before it is in a file that is durable.
 *  3. There is an entry for each change; if the write that follows it fails, it tells of one that did not happen.
 *  4. Whoever knew a passphrase that was replaced or removed, and has an old copy of the files, has no private key that a
 *     later epoch is sealed to: a slot that is written again has a new pair.
 */
#include <stdlib.h>

#include "base/file.h"
#include "repo/audit.h"
#include "repo/keys-internal.h"

#include "base/banned.h"

#define LOCK_TRIES 50
#define LOCK_STEP_MS 100

struct change {
	struct repo *repo;
	int lock;
	struct key_folder folder;
	struct key_ring *ring; /* owned; what will be written */
};

static void change_release(struct change *c)
{
	free(c->ring);
	key_folder_release(&c->folder);
	base_cleanup_fd(&c->lock);
}
#define cleanup_change __attribute__((cleanup(change_release)))

/* --- looking --- */

static struct key_ring_slot *ring_label(struct key_ring *ring, const char *label)
{
	for (unsigned i = 0; i < ring->nslots; i++)
		if (strcmp(ring->slots[i].label, label) == 0)
			return &ring->slots[i];
	return NULL;
}

/* What a file of version 1 is called: its name, if it has no label or one that is in the ring. */
static void file_label(const struct key_found *f, struct key_ring *ring,
		       char out[KEY_LABEL_MAX + 1])
{
	str_copy(out, KEY_LABEL_MAX + 1, f->file->label);
	if (!out[0] || (ring && ring_label(ring, out)))
		str_copy(out, strlen(f->name) - strlen(".key") + 1, f->name);
}

/* The i-th file of version 1 that is a key of its own: not in the ring, and not without use beside several epochs (invariant
 * 3 of key-files.c); NULL: there are no more. */
static const struct key_found *other_file(const struct change *c, size_t i)
{
	for (size_t k = c->folder.nrings; c->ring->epochs == 1 && k < c->folder.count; k++) {
		const struct key_found *f = &c->folder.found[k];

		if (f->file && !key_ring_salt(c->ring, f->file->salt) && i-- == 0)
			return f;
	}
	return NULL;
}

static const struct key_found *other_label(const struct change *c, const char *label)
{
	const struct key_found *f;
	char name[KEY_LABEL_MAX + 1];

	for (size_t i = 0; (f = other_file(c, i)) != NULL; i++) {
		file_label(f, c->ring, name);
		if (strcmp(name, label) == 0)
			return f;
	}
	return NULL;
}

static size_t slots_count(const struct change *c)
{
	size_t n = 0;

	while (other_file(c, n))
		n++;
	return n + c->ring->nslots;
}

/* --- beginning --- */

static int lock_wait(struct repo *r, int *fd, struct err *err)
{
	int ret = keys_lock(r, fd, err);

	for (unsigned i = 0; ret == ERR_LOCKED && i < LOCK_TRIES; i++) {
		time_sleep_ms(LOCK_STEP_MS);
		err_clear(err);
		ret = keys_lock(r, fd, err);
	}
	return ret;
}

static int no_free_slot(struct err *err)
{
	return err_set(err, ERR_TOO_BIG,
		       "a repository has at most %d keys: remove one with 'key remove'",
		       KEY_SLOTS_MAX);
}

/* The file of version 1 that opened the repository moves into the ring. */
static int take_opened(struct change *c, struct err *err)
{
	const uint8_t *salt = codec_keys_opened(c->repo->keys);
	const struct key_found *f = NULL;
	char label[KEY_LABEL_MAX + 1];
	int r;

	if (!salt || key_ring_salt(c->ring, salt))
		return 0;
	for (size_t i = 0; (f = other_file(c, i)) != NULL; i++)
		if (memcmp(f->file->salt, salt, SALT_LEN) == 0)
			break;
	if (!f || c->ring->epochs > 1)
		return err_set(err, ERR_KEY,
			       "the key that opened the repository has been removed meanwhile");
	if (c->ring->nslots == KEY_SLOTS_MAX)
		return no_free_slot(err);
	file_label(f, c->ring, label);
	r = codec_slot_again(c->repo->keys, label, KEY_PASSPHRASE, f->file->created,
			     &c->ring->slots[c->ring->nslots], err);
	if (r == 0)
		c->ring->nslots++;
	return r;
}

static int change_begin(struct repo *r, struct change *c, struct err *err)
{
	const struct key_found *ours;
	int ret = repo_need_key(r, err);

	*c = (struct change){ .repo = r, .lock = -1 };
	if (ret < 0)
		return ret;
	if (!r->conf.suite)
		return err_set(err, ERR_INVALID, "repository '%s' is not encrypted: it has no keys",
			       r->path);
	if (r->mode != REPO_WRITE || r->started)
		return err_set(err, ERR_INTERNAL, "the repository is not open for changes of keys");
	c->ring = mem_alloc(sizeof(*c->ring));
	if (!c->ring)
		return err_nomem(err, "key ring");
	ret = lock_wait(r, &c->lock, err);
	if (ret == 0)
		ret = key_folder_load(r, false, &c->folder, err);
	if (ret == 0)
		ret = keys_ring_ours(r, &c->folder, &ours, err);
	if (ret < 0)
		return ret;
	if (ours)
		*c->ring = *ours->ring;
	else
		c->ring->epochs = codec_keys_epoch(r->keys);
	return take_opened(c, err);
}

/* --- ending --- */

static int next_serial(struct change *c, struct err *err)
{
	uint64_t highest = c->folder.nrings ? c->folder.found[0].ring->serial : 0;

	if (highest == UINT64_MAX)
		return err_set(err, ERR_DAMAGED, "'keys/%s' is forged: its serial is the last one",
			       c->folder.found[0].name);
	c->ring->serial = highest + 1;
	return 0;
}

static int change_log(struct change *c, const char *command, const char *label, uint32_t epoch,
		      struct err *err)
{
	char detail[80];

	snprintf(detail, sizeof(detail), "{\"slots\":%zu,\"epochs\":%u}", slots_count(c), epoch);
	return repo_audit_append(c->repo, command, label, detail, err);
}

/* keys: those to seal with, the repository's or their successors.  drop: a file of version 1 that goes, or NULL. */
static int change_end(struct change *c, const struct codec_keys *keys, const struct key_found *drop,
		      const char *command, const char *label, struct err *err)
{
	cleanup_buf struct buf bytes = BUF_INIT;
	int r = next_serial(c, err);

	if (r == 0)
		r = codec_ring_seal(keys, c->ring, err);
	if (r == 0)
		r = key_ring_encode(c->ring, &bytes, err);
	if (r == 0)
		r = change_log(c, command, label, codec_keys_epoch(keys), err);
	if (r == 0)
		r = keys_write(c->repo, &bytes, err);
	if (r == 0 && drop)
		r = keys_remove(c->repo, drop->name, err);
	if (r == 0 && drop)
		r = keys_sync(c->repo, err);
	return r < 0 ? r : keys_tidy(c->repo, &c->folder, c->ring, err);
}

/* --- changes --- */

static int make_slot(struct change *c, const char *label, enum key_slot_kind kind,
		     const void *secret, size_t n, struct key_ring_slot *out, struct err *err)
{
	const struct conf *conf = &c->repo->conf;
	const struct codec_slot_spec spec = {
		.passphrase = secret,
		.n = n,
		.label = label,
		.kind = kind,
		.kdf_n = conf->kdf_n,
		.kdf_r = conf->kdf_r,
		.kdf_p = conf->kdf_p,
	};

	return codec_slot_make(c->repo->keys, &spec, out, err);
}

static int add(struct repo *r, const char *label, enum key_slot_kind kind, const void *secret,
	       size_t n, const char *command, struct err *err)
{
	cleanup_change struct change c;
	int ret = change_begin(r, &c, err);

	if (ret < 0)
		return ret;
	if (ring_label(c.ring, label) || other_label(&c, label))
		return err_set(err, ERR_EXISTS, "there is a key with the label '%s' already",
			       label);
	if (slots_count(&c) >= KEY_SLOTS_MAX)
		return no_free_slot(err);
	ret = make_slot(&c, label, kind, secret, n, &c.ring->slots[c.ring->nslots], err);
	if (ret < 0)
		return ret;
	c.ring->nslots++;
	return change_end(&c, r->keys, NULL, command, label, err);
}

int repo_key_add(struct repo *r, const char *label, const void *passphrase, size_t n,
		 struct err *err)
{
	return add(r, label, KEY_PASSPHRASE, passphrase, n, "key add", err);
}

int repo_key_export_recovery(struct repo *r, const char *label, char text[RECOVERY_TEXT_MAX],
			     struct err *err)
{
	uint8_t bits[RECOVERY_BITS_LEN];
	char made[RECOVERY_TEXT_MAX], letters[RECOVERY_LETTERS];
	int ret;

	random_bytes(bits, sizeof(bits));
	recovery_encode(bits, made);
	(void)recovery_decode(made, strlen(made), letters);
	ret = add(r, label, KEY_RECOVERY, letters, sizeof(letters), "key export-recovery", err);
	if (ret == 0)
		memcpy(text, made, sizeof(made));
	mem_wipe(bits, sizeof(bits));
	mem_wipe(made, sizeof(made));
	mem_wipe(letters, sizeof(letters));
	return ret;
}

static int no_such_key(const char *label, struct err *err)
{
	return err_set(err, ERR_NOT_FOUND, "there is no key with the label '%s'", label);
}

int repo_key_remove(struct repo *r, const char *label, struct err *err)
{
	cleanup_change struct change c;
	struct key_ring_slot *slot;
	const struct key_found *file;
	size_t at;
	int ret = change_begin(r, &c, err);

	if (ret < 0)
		return ret;
	slot = ring_label(c.ring, label);
	file = slot ? NULL : other_label(&c, label);
	if (!slot && !file)
		return no_such_key(label, err);
	if (slots_count(&c) == 1)
		return err_set(err, ERR_REFUSED,
			       "'%s' is the last key: without it nobody can open the repository",
			       label);
	if (slot && c.ring->nslots == 1)
		return err_set(
			err, ERR_REFUSED,
			"'%s' is the last key in the key ring, the others are files of "
			"version 1: open the repository with one of them and use 'key change' "
			"first",
			label);
	if (slot) {
		at = (size_t)(slot - c.ring->slots);
		memmove(slot, slot + 1, (c.ring->nslots - at - 1) * sizeof(*slot));
		c.ring->nslots--;
	}
	return change_end(&c, r->keys, file, "key remove", label, err);
}

/* The slot to change, by label or that which opened the repository. */
static int change_target(struct change *c, const char *label, struct key_ring_slot **slot,
			 const struct key_found **file, struct err *err)
{
	const uint8_t *salt = codec_keys_opened(c->repo->keys);

	*file = NULL;
	if (label)
		*slot = ring_label(c->ring, label);
	else
		*slot = salt ? (struct key_ring_slot *)key_ring_salt(c->ring, salt) : NULL;
	if (!*slot && label)
		*file = other_label(c, label);
	if (!*slot && !*file)
		return label ? no_such_key(label, err) :
			       err_set(err, ERR_INVALID, "no key of its own opened the repository");
	if (*slot && (*slot)->kind == KEY_RECOVERY)
		return err_set(err, ERR_INVALID,
			       "'%s' is a recovery key: 'key import-recovery' adds a passphrase, "
			       "'key remove' and 'key export-recovery' make another one",
			       (*slot)->label);
	return 0;
}

int repo_key_change(struct repo *r, const char *label, const void *passphrase, size_t n,
		    struct err *err)
{
	cleanup_change struct change c;
	struct key_ring_slot *slot = NULL, made;
	const struct key_found *file = NULL;
	char name[KEY_LABEL_MAX + 1];
	int ret = change_begin(r, &c, err);

	if (ret == 0)
		ret = change_target(&c, label, &slot, &file, err);
	if (ret < 0)
		return ret;
	if (!slot && c.ring->nslots == KEY_SLOTS_MAX)
		return no_free_slot(err);
	if (slot)
		str_copy(name, sizeof(name), slot->label);
	else
		file_label(file, c.ring, name);
	ret = make_slot(&c, name, KEY_PASSPHRASE, passphrase, n, &made, err);
	if (ret < 0)
		return ret;
	if (!slot)
		slot = &c.ring->slots[c.ring->nslots++];
	*slot = made;
	return change_end(&c, r->keys, file, "key change", name, err);
}

/* The passphrase of this session is the only one whose key is at hand: its slot is bound to the new epoch. */
static int bind_opened(struct change *c, const struct codec_keys *keys, struct err *err)
{
	const uint8_t *salt = codec_keys_opened(keys);
	struct key_ring_slot *slot = salt ? (struct key_ring_slot *)key_ring_salt(c->ring, salt) :
					    NULL;
	struct key_ring_slot made;
	int r;

	if (!slot)
		return 0;
	r = codec_slot_again(keys, slot->label, slot->kind, slot->created, &made, err);
	if (r == 0)
		*slot = made;
	return r;
}

int repo_key_rotate(struct repo *r, uint32_t *epoch, struct err *err)
{
	cleanup_change struct change c;
	cleanup_ptr(codec_keys) next = NULL;
	const struct key_found *old;
	char label[KEY_LABEL_MAX + 1];
	int ret = change_begin(r, &c, err);

	if (ret < 0)
		return ret;
	old = other_file(&c, 0);
	if (old) {
		file_label(old, c.ring, label);
		return err_set(
			err, ERR_REFUSED,
			"the key '%s' is a file of version 1, which cannot take a new epoch: "
			"'key change --label' upgrades it, 'key remove' removes it",
			label);
	}
	ret = codec_keys_rotate(r->keys, &next, err);
	if (ret < 0)
		return ret;
	c.ring->epochs = codec_keys_epoch(next);
	ret = bind_opened(&c, next, err);
	if (ret == 0)
		ret = change_end(&c, next, NULL, "key rotate", "", err);
	if (ret < 0)
		return ret;
	*epoch = codec_keys_epoch(next);
	return repo_use_keys(r, steal_ptr(next), err);
}

/* --- the list --- */

static void list_ring(const struct repo *r, const struct key_found *f, struct key_slot *out,
		      size_t *n)
{
	const uint8_t *salt = codec_keys_opened(r->keys);

	for (unsigned i = 0; i < f->ring->nslots; i++) {
		const struct key_ring_slot *s = &f->ring->slots[i];
		struct key_slot *k = &out[(*n)++];

		str_copy(k->file, sizeof(k->file), f->name);
		str_copy(k->label, sizeof(k->label), s->label);
		k->created = s->created;
		k->recovery = s->kind == KEY_RECOVERY;
		k->opened = salt && memcmp(salt, s->salt, SALT_LEN) == 0;
		k->epochs = f->ring->epochs;
	}
}

static void list_file(const struct repo *r, const struct key_found *f, struct key_ring *ring,
		      struct key_slot *k)
{
	const uint8_t *salt = codec_keys_opened(r->keys);

	str_copy(k->file, sizeof(k->file), f->name);
	if (!f->file)
		return;
	file_label(f, ring, k->label);
	k->old = true;
	k->created = f->file->created;
	k->opened = salt && memcmp(salt, f->file->salt, SALT_LEN) == 0;
	k->epochs = 1;
}

int repo_key_list(struct repo *r, struct key_slot **out, size_t *count, struct err *err)
{
	cleanup_key_folder struct key_folder f = { 0 };
	struct key_ring *ring = NULL;
	struct key_slot *slots;
	size_t n = 0;
	int ret = r->conf.suite ? key_folder_load(r, true, &f, err) : 0;

	if (ret < 0)
		return ret;
	slots = mem_alloc_array(f.count + KEY_SLOTS_MAX, sizeof(*slots));
	if (!slots)
		return err_nomem(err, "list of keys");
	if (f.nrings) {
		ring = f.found[0].ring;
		list_ring(r, &f.found[0], slots, &n);
	}
	for (size_t i = f.nrings; i < f.count; i++) {
		const struct key_file *file = f.found[i].file;

		/* not what has moved into the ring, nor what it has made useless */
		if (!file || !ring || (!key_ring_salt(ring, file->salt) && ring->epochs == 1))
			list_file(r, &f.found[i], ring, &slots[n++]);
	}
	*out = slots;
	*count = n;
	return 0;
}
