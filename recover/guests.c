// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The guest of a recovery: is it ours, does it run, how is it made to run again.
 *
 * Invariant: a guest is ours if it has the record's uuid and a disk of it is the record's: an export of that name over the
 * recovery's own socket, or its local file.  No other is resumed, ended or changed.
 */
#include "recover/internal.h"

#include <stdlib.h>

#include "base/banned.h"

#define RETRY_MS 150 /* short works better: QEMU connects in the background (libvirt note, 3b) */
#define STEADY 3 /* so often in a row it has to be seen running */
#define END_MS 15000

static int read_live(struct virt_domain *d, struct virt_xml_info **out, struct err *err)
{
	cleanup_free char *xml = NULL;
	int code = virt_domain_xml(d, VIRT_XML_LIVE, &xml, err);

	return code < 0 ? code : virt_xml_read(xml, strlen(xml), out, err);
}

bool record_disk_at_target(const struct virt_xml_disk *x, const struct record_disk *d)
{
	struct target t = { 0 };
	bool at;

	if (!d->moved_to || strcmp(x->target, d->target) != 0)
		return false;
	if (!str_starts(d->moved_to, "nbd:"))
		return x->source && strcmp(x->source, d->moved_to) == 0;
	/* another server than ours: its export (an empty name may be left out) and, over UNIX, its socket */
	at = target_uri(d->moved_to + strlen("nbd:"), &t, NULL) == 0 && x->protocol &&
	     strcmp(x->protocol, "nbd") == 0 &&
	     strcmp(x->source ? x->source : "", t.export_name) == 0 &&
	     (t.socket ? x->socket && strcmp(x->socket, t.socket) == 0 : !x->socket);
	target_release(&t);
	return at;
}

static bool disk_matches(const struct virt_xml_disk *x, const struct record *rec,
			 const struct record_disk *d)
{
	cleanup_free char *name = disk_export(rec, d);

	if (record_disk_at_target(x, d))
		return true;
	if (!x->source)
		return false;
	if (d->file)
		return strcmp(x->kind, "file") == 0 && strcmp(x->source, d->file) == 0;
	return name && x->protocol && strcmp(x->protocol, "nbd") == 0 && x->socket && rec->socket &&
	       strcmp(x->socket, rec->socket) == 0 && strcmp(x->source, name) == 0;
}

/* The record's disk that this one is, or NULL. */
static const struct record_disk *record_disk_of(const struct virt_xml_disk *x,
						const struct record *rec)
{
	size_t i;

	for (i = 0; i < rec->ndisks; i++)
		if (disk_matches(x, rec, &rec->disks[i]))
			return &rec->disks[i];
	return NULL;
}

static bool has_disk_of(const struct virt_xml_info *info, const struct record *rec)
{
	unsigned i;

	for (i = 0; i < info->ndisks; i++)
		if (record_disk_of(&info->disks[i], rec))
			return true;
	return false;
}

static int check_ours(struct virt_domain *d, const struct record *rec, struct err *err)
{
	cleanup_ptr(virt_xml_info) info = NULL;
	int code = read_live(d, &info, err);

	if (code < 0)
		return code;
	if (strcmp(virt_domain_uuid(d), rec->uuid) == 0 && has_disk_of(info, rec))
		return 0;
	err_set(err, ERR_REFUSED,
		"guest '%s' of %s has the uuid of recovery '%s' and other disks: it is left alone",
		virt_domain_name(d), rec->connection, rec->id);
	return err_object(err, "%s", virt_domain_name(d));
}

int guest_find(struct virt *v, const struct record *rec, struct virt_domain **out, struct err *err)
{
	cleanup_ptr(virt_domain) d = NULL;
	struct virt_status status;
	struct err local = ERR_INIT;
	int code = virt_domain_find(v, rec->uuid, &d, &local);

	*out = NULL;
	if (code == ERR_NOT_FOUND)
		return 0;
	if (code < 0) {
		*err = local;
		return code;
	}
	code = virt_domain_status(d, &status, err);
	if (code < 0 || status.state == VIRT_GONE)
		return code;
	code = check_ours(d, rec, err);
	if (code < 0) {
		/* it may have stopped between the two looks */
		if (code != ERR_REFUSED && virt_domain_status(d, &status, NULL) == 0 &&
		    status.state == VIRT_GONE)
			return 0;
		return code;
	}
	*out = steal_ptr(d);
	return 0;
}

int guest_reconnects(struct virt_domain *d, const struct record *rec, bool *out, struct err *err)
{
	cleanup_ptr(virt_xml_info) info = NULL;
	int code = read_live(d, &info, err);
	unsigned i;

	if (code < 0)
		return code;
	*out = true;
	for (i = 0; i < info->ndisks; i++)
		if (record_disk_of(&info->disks[i], rec) && !info->disks[i].reconnect)
			*out = false;
	return 0;
}

int guest_resume(struct virt_domain *d, unsigned ms, const volatile int *stop, struct err *err)
{
	uint64_t end = time_mono_ns() + ms * UINT64_C(1000000);
	unsigned steady = 0;

	for (;;) {
		struct virt_status s;
		int code = virt_domain_status(d, &s, err);

		if (code < 0)
			return code;
		if (s.state == VIRT_PAUSED) {
			steady = 0;
			code = virt_domain_resume(d, err);
		} else if (s.state != VIRT_RUNNING) {
			return err_set(err, ERR_FAILED, "guest '%s' has stopped",
				       virt_domain_name(d));
		} else if (++steady == STEADY) {
			return 1;
		}
		if (code < 0)
			return code;
		if (stop && *stop)
			return err_set(err, *stop, "stopped");
		if (time_mono_ns() > end && s.state == VIRT_PAUSED)
			return 0;
		time_sleep_ms(RETRY_MS);
	}
}

int guest_end(struct virt_domain *d, struct err *err)
{
	unsigned waited = 0;
	struct virt_status s;
	int code = virt_domain_destroy(d, err);

	while (code >= 0) {
		code = virt_domain_status(d, &s, err);
		if (code == 0 && (s.state == VIRT_GONE || s.state == VIRT_OFF))
			return 0;
		if (waited >= END_MS)
			return err_set(err, ERR_FAILED, "guest '%s' does not end",
				       virt_domain_name(d));
		time_sleep_ms(RETRY_MS);
		waited += RETRY_MS;
	}
	return code;
}

const char *guest_state_name(const struct virt_status *s)
{
	switch (s->state) {
	case VIRT_GONE:
		return "gone";
	case VIRT_OFF:
		return "off";
	case VIRT_RUNNING:
		return "running";
	case VIRT_PAUSED:
		return s->reason == VIRT_REASON_IO_ERROR ? "paused-io-error" : "paused";
	case VIRT_CRASHED:
		return "crashed";
	case VIRT_STATE_OTHER:
		break;
	}
	return "other";
}
