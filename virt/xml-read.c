// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * What a domain's XML says, as a value; see virt/xml.h.
 *
 * Invariants:
 *  1. Every count is bounded before memory is taken; what stands beyond the bound is an error, never left out.
 *  2. A guest without a name, a disk without a target or a memory size that is no number is not accepted: what is built on the
 *     value need not ask again.
 */
#include "virt/xml-internal.h"

#include <stdlib.h>

#include "base/banned.h"

static const struct {
	const char *unit;
	uint64_t bytes;
} units[] = {
	{ "b", 1 },   { "bytes", 1 }, { "KB", 1000 },
	{ "k", KiB }, { "KiB", KiB }, { "MB", 1000 * 1000 },
	{ "M", MiB }, { "MiB", MiB }, { "GB", 1000 * 1000 * 1000 },
	{ "G", GiB }, { "GiB", GiB }, { "TB", 1000ull * 1000 * 1000 * 1000 },
	{ "T", TiB }, { "TiB", TiB },
};

bool xml_memory(xmlNodePtr n, uint64_t *bytes)
{
	cleanup_free char *unit = node_dup(n, "unit");
	uint64_t value;
	size_t i;

	if (!node_u64(n, NULL, &value))
		return false;
	for (i = 0; i < ARRAY_SIZE(units); i++)
		if (strcmp(unit ? unit : "KiB", units[i].unit) == 0)
			return !mul_overflow(value, units[i].bytes, bytes);
	return false;
}

bool xml_is_uefi(xmlNodePtr os)
{
	return node_attr_is(os, "firmware", "efi") ||
	       node_attr_is(node_child(os, "loader"), "type", "pflash") ||
	       (node_child(os, "nvram") && !node_attr_is(os, "firmware", "bios"));
}

/* Also by the names that distributions give to builds with Secure Boot. */
bool xml_is_secure(xmlNodePtr os)
{
	xmlNodePtr loader = node_child(os, "loader"), f;
	cleanup_free char *path = node_dup(loader, NULL);

	for (f = node_child(node_child(os, "firmware"), "feature"); f; f = node_next(f, "feature"))
		if (node_attr_is(f, "name", "secure-boot"))
			return node_attr_is(f, "enabled", "yes");
	return node_attr_is(loader, "secure", "yes") ||
	       (path && (strstr(path, "secboot") || strstr(path, ".ms.")));
}

static unsigned count_children(xmlNodePtr n, const char *name)
{
	unsigned count = 0;
	xmlNodePtr c;

	for (c = node_child(n, name); c; c = node_next(c, name))
		count++;
	return count;
}

/* --- disks and NICs --- */

static char *first_of(xmlNodePtr n, const char *const *attributes)
{
	char *s = NULL;

	for (; *attributes && !s; attributes++)
		s = node_dup(n, *attributes);
	return s;
}

static char *dup_or(xmlNodePtr n, const char *attribute, const char *otherwise)
{
	char *s = node_dup(n, attribute);

	return s ? s : str_dup(otherwise);
}

static int read_disk(xmlNodePtr n, struct virt_xml_disk *d, struct err *err)
{
	static const char *const places[] = { "file", "dev", "volume", "name", "dir", NULL };
	xmlNodePtr source = node_child(n, "source"), target = node_child(n, "target");
	xmlNodePtr mirror = node_child(n, "mirror");

	d->target = node_dup(target, "dev");
	if (!d->target || !d->target[0])
		return err_set(err, ERR_INVALID, "domain XML: a disk without a target");
	d->bus = dup_or(target, "bus", "virtio");
	d->device = dup_or(n, "device", "disk");
	d->kind = dup_or(n, "type", "file");
	if (!d->bus || !d->device || !d->kind)
		return err_nomem(err, "domain XML");
	d->source = first_of(source, places);
	d->protocol = node_dup(source, "protocol");
	d->socket = node_dup(node_child(source, "host"), "socket");
	d->format = node_dup(node_child(n, "driver"), "type");
	d->readonly = node_child(n, "readonly") != NULL;
	d->shareable = node_child(n, "shareable") != NULL;
	d->reconnect = node_child(source, "reconnect") != NULL;
	d->copying = mirror != NULL;
	d->copy_ready = node_attr_is(mirror, "ready", "yes");
	return 0;
}

static int read_nic(xmlNodePtr n, struct virt_xml_nic *nic, struct err *err)
{
	static const char *const places[] = { "network", "bridge", "dev", NULL };

	nic->kind = dup_or(n, "type", "user");
	if (!nic->kind)
		return err_nomem(err, "domain XML");
	nic->mac = node_dup(node_child(n, "mac"), "address");
	nic->source = first_of(node_child(n, "source"), places);
	nic->model = node_dup(node_child(n, "model"), "type");
	return 0;
}

static int read_lists(xmlNodePtr devices, struct virt_xml_info *info, struct err *err)
{
	unsigned disks = count_children(devices, "disk"),
		 nics = count_children(devices, "interface");
	xmlNodePtr c;
	int r = 0;

	if (disks > VIRT_DISKS_MAX || nics > VIRT_NICS_MAX)
		return err_set(err, ERR_TOO_BIG, "domain XML: %u disks and %u network cards", disks,
			       nics);
	info->disks = mem_alloc_array(MAX(disks, 1), sizeof(*info->disks));
	info->nics = mem_alloc_array(MAX(nics, 1), sizeof(*info->nics));
	if (!info->disks || !info->nics)
		return err_nomem(err, "domain XML");
	for (c = node_child(devices, "disk"); c && r == 0; c = node_next(c, "disk"))
		r = read_disk(c, &info->disks[info->ndisks++], err);
	for (c = node_child(devices, "interface"); c && r == 0; c = node_next(c, "interface"))
		r = read_nic(c, &info->nics[info->nnics++], err);
	return r;
}

/* --- the rest --- */

static bool has_agent(xmlNodePtr devices)
{
	xmlNodePtr c;

	for (c = node_child(devices, "channel"); c; c = node_next(c, "channel"))
		if (node_attr_is(node_child(c, "target"), "name", "org.qemu.guest_agent.0"))
			return true;
	return false;
}

static int read_numbers(xmlNodePtr domain, struct virt_xml_info *info, struct err *err)
{
	uint64_t vcpus = 1;

	if (!xml_memory(node_child(domain, "memory"), &info->memory))
		return err_set(err, ERR_INVALID, "domain XML: no memory size");
	if (node_child(domain, "vcpu") &&
	    (!node_u64(node_child(domain, "vcpu"), NULL, &vcpus) || !vcpus || vcpus > 65535))
		return err_set(err, ERR_INVALID, "domain XML: the number of CPUs is none");
	info->vcpus = (unsigned)vcpus;
	return 0;
}

static int read_domain(xmlNodePtr domain, struct virt_xml_info *info, struct err *err)
{
	xmlNodePtr os = node_child(domain, "os"), devices = node_child(domain, "devices");
	xmlNodePtr type = node_child(os, "type");

	info->name = node_dup(node_child(domain, "name"), NULL);
	if (!info->name || !info->name[0])
		return err_set(err, ERR_INVALID, "domain XML: a guest without a name");
	info->uuid = node_dup(node_child(domain, "uuid"), NULL);
	info->type = dup_or(domain, "type", "qemu");
	if (!info->type)
		return err_nomem(err, "domain XML");
	info->arch = node_dup(type, "arch");
	info->machine = node_dup(type, "machine");
	info->firmware = xml_is_uefi(os) ? VIRT_UEFI : VIRT_BIOS;
	info->secure_boot = info->firmware == VIRT_UEFI && xml_is_secure(os);
	info->loader = node_dup(node_child(os, "loader"), NULL);
	info->nvram = node_dup(node_child(os, "nvram"), NULL);
	info->tpm = node_child(devices, "tpm") != NULL;
	info->agent = has_agent(devices);
	info->hostdevs = count_children(devices, "hostdev");
	if (info->nvram && !info->nvram[0]) {
		free(info->nvram);
		info->nvram = NULL;
	}
	if (read_numbers(domain, info, err) < 0)
		return err->code;
	return read_lists(devices, info, err);
}

int virt_xml_read(const char *xml, size_t len, struct virt_xml_info **out, struct err *err)
{
	cleanup_ptr(virt_xml_info) info = NULL;
	cleanup_doc xmlDocPtr doc = NULL;
	struct err own = ERR_INIT;
	int r;

	if (!err)
		err = &own;
	r = virt_doc_parse(xml, len, "domain", &doc, err);
	if (r < 0)
		return r;
	info = mem_alloc(sizeof(*info));
	if (!info)
		return err_nomem(err, "domain XML");
	r = read_domain(xmlDocGetRootElement(doc), info, err);
	if (r < 0)
		return r;
	*out = steal_ptr(info);
	return 0;
}

void virt_xml_info_free(struct virt_xml_info *info)
{
	unsigned i;

	if (!info)
		return;
	for (i = 0; i < info->ndisks; i++) {
		struct virt_xml_disk *d = &info->disks[i];

		free(d->target);
		free(d->bus);
		free(d->device);
		free(d->kind);
		free(d->source);
		free(d->protocol);
		free(d->socket);
		free(d->format);
	}
	for (i = 0; i < info->nnics; i++) {
		struct virt_xml_nic *n = &info->nics[i];

		free(n->mac);
		free(n->kind);
		free(n->source);
		free(n->model);
	}
	free(info->disks);
	free(info->nics);
	free(info->name);
	free(info->uuid);
	free(info->type);
	free(info->arch);
	free(info->machine);
	free(info->loader);
	free(info->nvram);
	free(info);
}

const struct virt_xml_disk *virt_xml_find_disk(const struct virt_xml_info *info, const char *target)
{
	unsigned i;

	for (i = 0; i < info->ndisks; i++)
		if (strcmp(info->disks[i].target, target) == 0)
			return &info->disks[i];
	return NULL;
}

void virt_xml_alias_target(const char *xml, size_t len, const char *alias, char *target,
			   size_t size)
{
	cleanup_doc xmlDocPtr doc = NULL;
	struct err err = ERR_INIT;
	xmlNodePtr d;

	if (virt_doc_parse(xml, len, "domain", &doc, &err) < 0)
		return;
	d = node_child(node_child(xmlDocGetRootElement(doc), "devices"), "disk");
	for (; d; d = node_next(d, "disk"))
		if (node_attr_is(node_child(d, "alias"), "name", alias)) {
			cleanup_free char *name = node_dup(node_child(d, "target"), "dev");

			str_copy(target, size, name ? name : "");
			return;
		}
}
