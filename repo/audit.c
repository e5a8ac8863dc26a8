/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The audit log: MACs over a canonical encoding of each entry and the MAC before it (byte table in
 * livepoint-repository(5)), and the check of the chain.
 *
 * 1. The MAC is made inside the transaction that appends: two commands never see the same predecessor.
 * 2. Without the key of an encrypted repository no MAC can be made, and nothing is changed.
 * 3. What the newest state object remembers is below the end of the log; a log that ends before was cut.
 * 4. After a rebuild of the catalog the log begins behind the entry that the state object remembers, with the entry of the
 *    rebuild ("repair" of "catalog").
 */
#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "repo/audit.h"
#include "repo/internal.h"

#include "base/banned.h"

#define AUDIT_MAGIC "LVPAUDIT"
#define AUDIT_PURPOSE "audit log"
#define PASSWD_MAX 16384 /* bytes of an entry of the user data base */

static void put_text(struct buf *b, const char *s)
{
	size_t n = strlen(s);

	buf_put_le32(b, (uint32_t)n);
	buf_put(b, s, n);
}

static int audit_mac(const struct codec_keys *keys, const uint8_t previous[ID_LEN],
		     const struct audit_entry *e, uint8_t mac[ID_LEN], struct err *err)
{
	cleanup_buf struct buf b = BUF_INIT;

	buf_put(&b, AUDIT_MAGIC, strlen(AUDIT_MAGIC));
	buf_put(&b, codec_keys_uuid(keys), UUID_LEN);
	buf_put(&b, previous, ID_LEN);
	buf_put_le64(&b, e->number);
	buf_put_le64(&b, (uint64_t)e->time);
	put_text(&b, e->command);
	put_text(&b, e->subject);
	put_text(&b, e->detail);
	put_text(&b, e->actor);
	if (b.failed)
		return err_nomem(err, "entry of the audit log");
	return codec_mac(keys, AUDIT_PURPOSE, b.data, b.len, mac, err);
}

static int fill_mac(void *opaque, const uint8_t previous[ID_LEN], const struct audit_entry *e,
		    uint8_t mac[ID_LEN], struct err *err)
{
	return audit_mac(opaque, previous, e, mac, err);
}

static void describe_actor(char dst[256])
{
	cleanup_free char *room = mem_alloc(PASSWD_MAX);
	struct passwd entry, *found = NULL;
	struct utsname u;
	char user[64];

	if (!room || getpwuid_r(geteuid(), &entry, room, PASSWD_MAX, &found) != 0)
		found = NULL;
	if (found)
		str_copy(user, sizeof(user), found->pw_name);
	else
		snprintf(user, sizeof(user), "uid-%u", (unsigned)geteuid());
	if (uname(&u) < 0)
		u.nodename[0] = '\0';
	snprintf(dst, 256, "%s@%s pid %ld", user, u.nodename, (long)getpid());
}

void repo_audit_fill_keys(const struct codec_keys *keys, struct repo_audit *a, const char *command,
			  const char *subject, const char *detail)
{
	memset(a, 0, sizeof(*a));
	describe_actor(a->actor);
	a->audit.entry.command = command;
	a->audit.entry.subject = subject ? subject : "";
	a->audit.entry.detail = detail ? detail : "{}";
	a->audit.entry.actor = a->actor;
	a->audit.fn = fill_mac;
	a->audit.opaque = (void *)keys;
}

void repo_audit_fill(struct repo *r, struct repo_audit *a, const char *command, const char *subject,
		     const char *detail)
{
	repo_audit_fill_keys(r->keys, a, command, subject, detail);
}

int repo_audit_append(struct repo *r, const char *command, const char *subject, const char *detail,
		      struct err *err)
{
	struct repo_audit a;
	struct catalog *c;
	int ret = repo_need_key(r, err);

	if (ret == 0)
		ret = repo_catalog_get(r, &c, err);
	if (ret < 0)
		return ret;
	repo_audit_fill(r, &a, command, subject, detail);
	ret = catalog_audit_append(c, &a.audit, err);
	repo_catalog_put(r, c);
	return ret;
}

int repo_log_each(struct repo *r, uint64_t from,
		  int (*fn)(void *opaque, const struct audit_entry *e, struct err *err),
		  void *opaque, struct err *err)
{
	struct catalog *c;
	int ret = repo_catalog_get(r, &c, err);

	if (ret < 0)
		return ret;
	ret = catalog_audit_each(c, from, fn, opaque, err);
	repo_catalog_put(r, c);
	return ret;
}

/* --- the chain --- */

struct chain {
	const struct codec_keys *keys;
	uint64_t begin; /* number after which the log begins: not 0 after a rebuild */
	uint64_t count; /* number of the last entry that was looked at */
	uint8_t last[ID_LEN];
	uint64_t head; /* number that a state object remembers; 0: none */
	uint8_t head_mac[ID_LEN];
};

static int head_differs(uint64_t number, struct err *err)
{
	return err_set(err, ERR_DAMAGED,
		       "entry %" PRIu64
		       " of the audit log is another one than the state object remembers",
		       number);
}

static int check_entry(void *opaque, const struct audit_entry *e, struct err *err)
{
	struct chain *k = opaque;
	uint8_t mac[ID_LEN];
	int r;

	if (e->number != k->count + 1)
		return err_set(err, ERR_DAMAGED,
			       "entry %" PRIu64 " of the audit log is missing: %" PRIu64
			       " comes next",
			       k->count + 1, e->number);
	r = audit_mac(k->keys, k->last, e, mac, err);
	if (r < 0)
		return r;
	if (memcmp(mac, e->mac, ID_LEN) != 0)
		return err_set(err, ERR_DAMAGED,
			       "entry %" PRIu64
			       " of the audit log ('%s') was changed, or the one before it was",
			       e->number, e->command);
	/* Else anybody could let the log begin where he likes. */
	if (k->begin && e->number == k->begin + 1 &&
	    (strcmp(e->command, "repair") != 0 || strcmp(e->subject, "catalog") != 0))
		return err_set(err, ERR_DAMAGED,
			       "the audit log begins with entry %" PRIu64
			       ", which is no rebuild of the catalog: those before were cut",
			       e->number);
	if (e->number == k->head && memcmp(mac, k->head_mac, ID_LEN) != 0)
		return head_differs(e->number, err);
	memcpy(k->last, mac, ID_LEN);
	k->count++;
	return 0;
}

/* The newest state object's memory of the log. */
static int load_head(struct repo *r, struct catalog *c, struct chain *k, struct err *err)
{
	struct object_ref ref;
	struct state s = { 0 };
	int ret = catalog_state_ref(c, &ref, err);

	if (ret < 0 || ref.locator == LOCATOR_NONE)
		return ret;
	ret = state_load(r, &ref, &s, err);
	if (ret < 0)
		return ret;
	k->head = s.audit_number;
	memcpy(k->head_mac, s.audit_mac, ID_LEN);
	state_release(&s);
	return 0;
}

int repo_log_verify(struct repo *r, uint64_t *count, struct err *err)
{
	struct chain k = { .keys = r->keys };
	struct catalog *c;
	int ret = repo_need_key(r, err);

	if (ret == 0)
		ret = repo_catalog_get(r, &c, err);
	if (ret < 0)
		return ret;
	/* Before the log: it may grow meanwhile. */
	ret = load_head(r, c, &k, err);
	if (ret == 0)
		ret = catalog_audit_anchor(c, &k.begin, k.last, err);
	k.count = k.begin;
	if (ret == 0 && k.head && k.head == k.begin && memcmp(k.last, k.head_mac, ID_LEN) != 0)
		ret = head_differs(k.head, err);
	if (ret == 0)
		ret = catalog_audit_each(c, 1, check_entry, &k, err);
	repo_catalog_put(r, c);
	if (ret < 0)
		return ret;
	if (k.begin && k.count == k.begin)
		return err_set(err, ERR_DAMAGED,
			       "the audit log has no entry after %" PRIu64 ", where it begins",
			       k.begin);
	if (k.count < k.head)
		return err_set(err, ERR_DAMAGED,
			       "the audit log ends with entry %" PRIu64
			       ", but the state object remembers entry %" PRIu64 ": it was cut",
			       k.count, k.head);
	*count = k.count - k.begin;
	return 0;
}
