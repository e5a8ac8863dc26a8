// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Disks of a domain's XML: where they lie, which are kept, on which bus.
 *
 * Invariants:
 *  1. No source of the captured XML is left: each disk lies where the caller says, each drive for removable media is empty.
 *  2. A disk on an NBD server of ours has policy "stop" for errors: a guest whose server is gone pauses with its writes, where
 *     with "report" it would see I/O errors while it is called running.
 *  3. Names, addresses and order stay, unless the bus changes; then no new name or derived address meets one that stays.
 */
#include "virt/xml-internal.h"

#include <stdlib.h>

#include "base/banned.h"

#define IDE_UNITS 4
#define NAMES_MAX 1024 /* places looked at for a new name */

static const struct {
	const char *bus, *prefix;
} prefixes[] = {
	{ "virtio", "vd" }, { "sata", "sd" }, { "scsi", "sd" }, { "usb", "sd" }, { "ide", "hd" },
};

const char *disk_prefix(const char *bus)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (strcmp(prefixes[i].bus, bus) == 0)
			return prefixes[i].prefix;
	return NULL;
}

void disk_name(const char *prefix, unsigned index, char *name, size_t size)
{
	char letters[8];
	size_t n = sizeof(letters) - 1;

	letters[n] = 0;
	index++;
	while (index > 0 && n > 0) {
		index--;
		letters[--n] = (char)('a' + index % 26);
		index /= 26;
	}
	snprintf(name, size, "%s%s", prefix, letters + n);
}

/* --- sources --- */

int disk_check_source(const struct virt_source *s, struct err *err)
{
	const char *target = s->target ? s->target : "?";
	bool nbd = s->kind == VIRT_SOURCE_NBD || s->kind == VIRT_SOURCE_OVERLAY;

	if (nbd && (!s->socket || s->socket[0] != '/'))
		return err_set(err, ERR_INVALID, "disk \"%s\": its socket has no absolute path",
			       target);
	if (s->kind != VIRT_SOURCE_NBD && (!s->path || s->path[0] != '/'))
		return err_set(err, ERR_INVALID, "disk \"%s\": its file has no absolute path",
			       target);
	return 0;
}

static bool source_nbd(xmlNodePtr parent, const struct virt_source *s)
{
	xmlNodePtr source = node_add(parent, "source"), host, again;
	bool ok = node_set(source, "protocol", "nbd") &&
		  node_set(source, "name", s->export_name ? s->export_name : "");

	host = node_add(source, "host");
	ok = node_set(host, "transport", "unix") && node_set(host, "socket", s->socket) && ok;
	if (s->reconnect) {
		char seconds[16];

		snprintf(seconds, sizeof(seconds), "%u", s->reconnect);
		again = node_add(source, "reconnect");
		ok = node_set(again, "delay", seconds) && ok;
	}
	return ok;
}

static bool source_driver(xmlNodePtr disk, const char *format)
{
	xmlNodePtr d = node_add(disk, "driver");

	return node_set(d, "name", "qemu") && node_set(d, "type", format) &&
	       node_set(d, "cache", "none") && node_set(d, "discard", "unmap") &&
	       node_set(d, "error_policy", "stop") &&
	       node_set(d, "rerror_policy", "stop"); /* invariant 2 */
}

static bool source_file(xmlNodePtr disk, const struct virt_source *s)
{
	bool block = s->kind == VIRT_SOURCE_BLOCK;

	return node_set(disk, "type", block ? "block" : "file") &&
	       source_driver(disk, s->format ? s->format : "raw") &&
	       node_set(node_add(disk, "source"), block ? "dev" : "file", s->path);
}

static bool source_overlay(xmlNodePtr disk, const struct virt_source *s)
{
	bool ok = node_set(disk, "type", "file") && source_driver(disk, "qcow2") &&
		  node_set(node_add(disk, "source"), "file", s->path);
	xmlNodePtr base = node_add(disk, "backingStore");

	ok = node_set(base, "type", "network") && ok;
	ok = node_set(node_add(base, "format"), "type", "raw") && ok;
	ok = source_nbd(base, s) && ok;
	return node_add(base, "backingStore") &&
	       ok; /* the end of the chain: QEMU looks for no more */
}

bool disk_set_source(xmlNodePtr disk, const struct virt_source *s)
{
	node_remove_children(disk, "source");
	node_remove_children(disk, "driver");
	node_remove_children(disk, "backingStore");
	switch (s->kind) {
	case VIRT_SOURCE_OVERLAY:
		return source_overlay(disk, s);
	case VIRT_SOURCE_NBD:
		return node_set(disk, "type", "network") && source_driver(disk, "raw") &&
		       source_nbd(disk, s);
	default:
		return source_file(disk, s);
	}
}

/* --- one disk --- */

static const char *const kept_elements[] = { "target",	"serial", "wwn",     "vendor",	 "product",
					     "address", "boot",	  "blockio", "geometry", "readonly",
					     "driver",	"source", NULL };
static const char *const kept_attributes[] = { "type", "device", "model", NULL };

/* What the captured XML said about the host goes; the guest's view of the disk stays. */
static bool disk_strip(xmlNodePtr disk)
{
	node_keep_only(disk, kept_elements);
	node_keep_attributes(disk, kept_attributes);
	node_remove_children(disk, "source");
	node_remove_children(disk, "driver");
	if (node_attr_is(disk, "device", "lun"))
		return node_set(disk, "device", "disk");
	return true;
}

/* The drive stays, since removing it would change the numbers of others; the medium goes. */
static bool drive_strip(xmlNodePtr disk)
{
	node_unset(node_child(disk, "target"), "tray");
	return disk_strip(disk) && node_set(disk, "type", "file");
}

static bool is_drive(xmlNodePtr disk)
{
	return node_attr_is(disk, "device", "cdrom") || node_attr_is(disk, "device", "floppy");
}

static const struct virt_source *find_source(const struct virt_rewrite *how, const char *target)
{
	unsigned i;

	for (i = 0; i < how->ndisks; i++)
		if (strcmp(how->disks[i].target, target) == 0)
			return &how->disks[i];
	return NULL;
}

/* --- another bus --- */

struct move {
	const char *bus, *prefix;
	bool used[NAMES_MAX]; /* by drives that stay */
};

/* The place that libvirt derives from a drive's address (virDomainDiskDefAssignAddress); NAMES_MAX: none. */
static unsigned address_index(xmlNodePtr disk, const char *bus)
{
	xmlNodePtr a = node_child(disk, "address");
	uint64_t controller = 0, channel = 0, unit = 0;

	if (!node_attr_is(a, "type", "drive"))
		return NAMES_MAX;
	node_u64(a, "controller", &controller);
	node_u64(a, "bus", &channel);
	node_u64(a, "unit", &unit);
	if (controller > 99 || channel > 9 || unit > 99)
		return NAMES_MAX;
	if (strcmp(bus, "ide") == 0)
		return (unsigned)(controller * 4 + channel * 2 + unit);
	if (strcmp(bus, "sata") == 0)
		return (unsigned)(controller * 6 + unit);
	return (unsigned)(controller * 7 + unit);
}

static void mark_used(struct move *m, xmlNodePtr disk)
{
	cleanup_free char *dev = node_dup(node_child(disk, "target"), "dev");
	cleanup_free char *bus = node_dup(node_child(disk, "target"), "bus");
	unsigned i;

	for (i = 0; dev && i < NAMES_MAX; i++) {
		char name[16];

		disk_name(m->prefix, i, name, sizeof(name));
		if (strcmp(name, dev) == 0)
			m->used[i] = true;
	}
	if (bus && strcmp(bus, m->bus) == 0) {
		i = address_index(disk, m->bus);
		if (i < NAMES_MAX)
			m->used[i] = true;
	}
}

static bool move_disk(struct move *m, xmlNodePtr disk, unsigned *at)
{
	static const char *const no_attributes[] = { NULL };
	xmlNodePtr target = node_child(disk, "target");
	char name[16];

	while (*at < NAMES_MAX && m->used[*at])
		++*at;
	disk_name(m->prefix, (*at)++, name, sizeof(name));
	node_remove_children(disk, "address");
	node_remove_children(disk, "wwn"); /* what only some buses have */
	node_remove_children(disk, "vendor");
	node_remove_children(disk, "product");
	node_unset(disk, "model"); /* of virtio: transitional and so on */
	node_keep_attributes(target, no_attributes);
	return node_set(target, "dev", name) && node_set(target, "bus", m->bus);
}

/* QEMU's default SCSI controller is one that today's guests have no driver for; one that the guest had is its own. */
static bool need_virtio_scsi(xmlNodePtr devices)
{
	xmlNodePtr c;

	for (c = node_child(devices, "controller"); c; c = node_next(c, "controller"))
		if (node_attr_is(c, "type", "scsi"))
			return true;
	c = node_add(devices, "controller");
	return node_set(c, "type", "scsi") && node_set(c, "index", "0") &&
	       node_set(c, "model", "virtio-scsi");
}

static int move_all(xmlNodePtr devices, const char *bus, bool q35, struct err *err)
{
	cleanup_free struct move *m = mem_alloc(sizeof(*m));
	unsigned at = 0;
	xmlNodePtr d;

	if (!m)
		return err_nomem(err, "disks");
	m->bus = bus;
	m->prefix = disk_prefix(bus);
	if (!m->prefix || strcmp(bus, "usb") == 0)
		return err_set(err, ERR_INVALID,
			       "disk bus \"%s\": it is one of virtio, sata, scsi and ide", bus);
	if (q35 && strcmp(bus, "ide") == 0)
		return err_set(err, ERR_INVALID, "disk bus \"ide\": a q35 machine has none");
	for (d = node_child(devices, "disk"); d; d = node_next(d, "disk"))
		if (is_drive(d))
			mark_used(m, d);
	for (d = node_child(devices, "disk"); d; d = node_next(d, "disk"))
		if (!is_drive(d) && !move_disk(m, d, &at))
			return err_nomem(err, "disks");
	if (strcmp(bus, "ide") == 0 && at > IDE_UNITS)
		return err_set(err, ERR_INVALID,
			       "disk bus \"ide\": it has room for %d disks and drives", IDE_UNITS);
	if (strcmp(bus, "scsi") == 0 && !need_virtio_scsi(devices))
		return err_nomem(err, "disks");
	return 0;
}

/* --- all of them --- */

static int check_sources(xmlNodePtr devices, const struct virt_rewrite *how, struct err *err)
{
	unsigned i;

	for (i = 0; i < how->ndisks; i++) {
		const char *target = how->disks[i].target;
		xmlNodePtr d;
		int r;

		if (!target)
			return err_set(err, ERR_INVALID, "a disk without the name of its target");
		for (d = node_child(devices, "disk"); d; d = node_next(d, "disk"))
			if (!is_drive(d) && node_attr_is(node_child(d, "target"), "dev", target))
				break;
		if (!d)
			return err_set(err, ERR_INVALID, "the guest's XML has no disk \"%s\"",
				       target);
		r = disk_check_source(&how->disks[i], err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int rewrite_disk(xmlNodePtr disk, const struct virt_rewrite *how, struct buf *notes,
			struct err *err)
{
	cleanup_free char *target = node_dup(node_child(disk, "target"), "dev");
	const struct virt_source *source;

	if (!target)
		return err_set(err, ERR_INVALID, "domain XML: a disk without a target");
	if (is_drive(disk)) {
		if (node_child(disk, "source"))
			xml_note(notes, "drive \"%s\": its medium is taken out", target);
		return drive_strip(disk) ? 0 : err_nomem(err, "disks");
	}
	source = find_source(how, target);
	if (!source) {
		xml_note(notes, "disk \"%s\": left out", target);
		node_remove(disk);
		return 0;
	}
	if (node_child(disk, "shareable"))
		xml_note(notes, "disk \"%s\": shared with other guests before, not here", target);
	if (node_child(disk, "encryption"))
		xml_note(notes, "disk \"%s\": encrypted by QEMU before; what is served is plain",
			 target);
	return disk_strip(disk) && disk_set_source(disk, source) ? 0 : err_nomem(err, "disks");
}

int disks_rewrite(xmlNodePtr devices, const struct virt_rewrite *how, bool q35, struct buf *notes,
		  struct err *err)
{
	xmlNodePtr d, next;
	int r = check_sources(devices, how, err);

	for (d = node_child(devices, "disk"); d && r == 0; d = next) {
		next = node_next(d, "disk");
		r = rewrite_disk(d, how, notes, err);
	}
	if (r < 0 || !how->bus)
		return r;
	return move_all(devices, how->bus, q35, err);
}

int virt_xml_set_sources(const char *xml, size_t len, const struct virt_source *disks,
			 unsigned ndisks, char **out, struct err *err)
{
	const struct virt_rewrite how = { .disks = disks, .ndisks = ndisks };
	cleanup_doc xmlDocPtr doc = NULL;
	xmlNodePtr devices, d;
	int r = virt_doc_parse(xml, len, "domain", &doc, err);

	if (r < 0)
		return r;
	devices = node_child(xmlDocGetRootElement(doc), "devices");
	r = check_sources(devices, &how, err);
	if (r < 0)
		return r;
	for (d = node_child(devices, "disk"); d; d = node_next(d, "disk")) {
		cleanup_free char *target = node_dup(node_child(d, "target"), "dev");
		const struct virt_source *s = target ? find_source(&how, target) : NULL;

		if (s && !disk_set_source(d, s))
			return err_nomem(err, "disks");
	}
	return virt_doc_text(doc, out, err);
}

static bool drop_reconnect(xmlNodePtr n)
{
	xmlNodePtr source = node_child(n, "source"), base = node_child(n, "backingStore"),
		   r = node_child(source, "reconnect");
	bool found = false;

	if (r && node_attr_is(source, "protocol", "nbd")) {
		node_remove(r);
		found = true;
	}
	for (; base;
	     n = base, base = node_child(n, "backingStore")) { /* depth: that of the parser */
		r = node_child(node_child(base, "source"), "reconnect");
		found = found || r;
		node_remove(r);
	}
	return found;
}

int virt_xml_drop_reconnect(const char *xml, size_t len, char **out, struct err *err)
{
	cleanup_doc xmlDocPtr doc = NULL;
	bool found = false;
	xmlNodePtr d;
	int r = virt_doc_parse(xml, len, "domain", &doc, err);

	if (r < 0)
		return r;
	d = node_child(node_child(xmlDocGetRootElement(doc), "devices"), "disk");
	for (; d; d = node_next(d, "disk"))
		found = drop_reconnect(d) || found;
	if (!found)
		return 0;
	r = virt_doc_text(doc, out, err);
	return r < 0 ? r : 1;
}
