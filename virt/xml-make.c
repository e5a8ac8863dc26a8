// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * XML that is made here: a guest for a bare disk, and the documents that calls of libvirt's take (a copy's target, a volume, a
 * network).
 *
 * How it works: the guest is a small one of today: one bus for its disks, a serial console, the agent's channel, random numbers,
 * a plain VGA screen.  Addresses are libvirt's to choose; from then on they stay, in the domain's own XML.
 *
 * Invariants:
 *  1. Every text of the caller goes in as text: a name with markup in it is a name with markup in it.
 */
#include "virt/xml-internal.h"

#include <stdlib.h>

#include "base/banned.h"

#define MEMORY_DEFAULT (1 * GiB)

/* --- a guest --- */

static const char *make_bus(const struct virt_make *how)
{
	return how->bus ? how->bus : "virtio";
}

static bool make_number(xmlNodePtr parent, const char *name, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	return node_add_text(parent, name, text) != NULL;
}

static bool make_head(xmlNodePtr domain, const struct virt_make *how)
{
	xmlNodePtr memory;
	char kib[24];

	snprintf(kib, sizeof(kib), "%llu",
		 (unsigned long long)((how->memory ? how->memory : MEMORY_DEFAULT) / KiB));
	if (!node_set(domain, "type", how->accel == VIRT_ACCEL_KVM ? "kvm" : "qemu") ||
	    !node_add_text(domain, "name", how->name) ||
	    (how->uuid && !node_add_text(domain, "uuid", how->uuid)))
		return false;
	memory = node_add_text(domain, "memory", kib);
	return node_set(memory, "unit", "KiB") &&
	       make_number(domain, "vcpu", how->vcpus ? how->vcpus : 1);
}

/* The template that goes with a firmware file: the same name with VARS for CODE (Debian, Fedora, Arch and SUSE all do so). */
static char *vars_template(const char *loader)
{
	const char *code = strstr(loader, "CODE");

	return code ? str_printf("%.*sVARS%s", (int)(code - loader), loader, code + 4) : NULL;
}

static int make_firmware(xmlNodePtr os, const struct virt_make *how, struct err *err)
{
	const char *path = how->host ? host_loader(how->host, NULL, false, 0) : NULL;
	cleanup_free char *vars = path ? vars_template(path) : NULL;
	xmlNodePtr loader, nvram;
	bool ok;

	if (how->firmware == VIRT_BIOS)
		return 0;
	if (!path)
		return err_set(err, ERR_UNSUPPORTED,
			       "the guest needs UEFI, and libvirt lists no such firmware");
	if (!how->nvram)
		return err_set(err, ERR_INVALID,
			       "the guest has UEFI, and no file for its variables was given");
	loader = node_add_text(os, "loader", path);
	ok = node_set(loader, "readonly", "yes") && node_set(loader, "type", "pflash");
	nvram = node_add_text(os, "nvram", how->nvram);
	ok = nvram && (!vars || node_set(nvram, "template", vars)) && ok;
	return ok ? 0 : err_nomem(err, "domain XML");
}

static int make_os(xmlNodePtr domain, const struct virt_make *how, bool *q35, struct err *err)
{
	const char *machine = how->machine		 ? how->machine :
			      how->firmware == VIRT_UEFI ? "q35" :
							   "pc";
	xmlNodePtr os = node_add(domain, "os"), type = node_add_text(os, "type", "hvm"), f;
	const char *got = how->host ? host_machine(how->host, machine) : machine;
	int r;

	if (!got)
		return err_set(err, ERR_UNSUPPORTED, "machine type \"%s\": not on this host",
			       machine);
	*q35 = machine_is_q35(got);
	if (!node_set(type, "arch", "x86_64") || !node_set(type, "machine", got))
		return err_nomem(err, "domain XML");
	r = make_firmware(os, how, err);
	if (r < 0)
		return r;
	f = node_add(os, "boot");
	if (!node_set(f, "dev", "hd"))
		return err_nomem(err, "domain XML");
	f = node_add(domain, "features");
	return node_add(f, "acpi") && node_add(f, "apic") ? 0 : err_nomem(err, "domain XML");
}

static bool make_cpu(xmlNodePtr domain, const struct virt_make *how)
{
	xmlNodePtr cpu = node_add(domain, "cpu");

	/* host-model can be looked up again on another host, where host-passthrough is whatever that one has */
	return node_set(cpu, "mode", how->accel == VIRT_ACCEL_KVM ? "host-model" : "maximum") &&
	       node_set(node_add(domain, "clock"), "offset", "utc") &&
	       on_event(domain, "on_reboot", how->on_reboot);
}

static int make_disks(xmlNodePtr devices, const struct virt_make *how, bool q35, struct err *err)
{
	const char *bus = make_bus(how), *prefix = disk_prefix(bus);
	unsigned i;

	if (!prefix || strcmp(bus, "usb") == 0 || (q35 && strcmp(bus, "ide") == 0))
		return err_set(err, ERR_INVALID, "disk bus \"%s\": not on this machine type", bus);
	for (i = 0; i < how->ndisks; i++) {
		const struct virt_source *s = &how->disks[i];
		int r = disk_check_source(s, err);
		xmlNodePtr disk, target;
		char name[16];

		if (r < 0)
			return r;
		disk_name(prefix, i, name, sizeof(name));
		disk = node_add(devices, "disk");
		if (!node_set(disk, "device", "disk") || !disk_set_source(disk, s))
			return err_nomem(err, "domain XML");
		target = node_add(disk, "target");
		/* a name of another bus would not be taken for what it says */
		if (!node_set(target, "dev",
			      s->target && str_starts(s->target, prefix) ? s->target : name) ||
		    !node_set(target, "bus", bus))
			return err_nomem(err, "domain XML");
	}
	if (strcmp(bus, "scsi") == 0) {
		xmlNodePtr c = node_add(devices, "controller");

		if (!node_set(c, "type", "scsi") || !node_set(c, "index", "0") ||
		    !node_set(c, "model", "virtio-scsi"))
			return err_nomem(err, "domain XML");
	}
	return 0;
}

static bool make_nic(xmlNodePtr devices, const struct virt_make *how, bool q35)
{
	const char *model = how->nic_model;
	xmlNodePtr nic;

	if (!how->network)
		return true;
	if (!model)
		model = strcmp(make_bus(how), "virtio") == 0 || strcmp(make_bus(how), "scsi") == 0 ?
				"virtio" :
			q35 ? "e1000e" :
			      "e1000";
	nic = node_add(devices, "interface");
	return nic && nic_connect(nic, how->network, false) &&
	       (!how->mac || node_set(node_add(nic, "mac"), "address", how->mac)) &&
	       node_set(node_add(nic, "model"), "type", model);
}

static bool make_others(xmlNodePtr devices, const struct virt_make *how, bool q35)
{
	xmlNodePtr rng;

	if (!make_nic(devices, how, q35) ||
	    !serials_rewrite(devices, how->serial, how->serial_path) ||
	    !channels_rewrite(devices) || !graphics_rewrite(devices, how->graphics) ||
	    !video_rewrite(devices, NULL, true, NULL))
		return false;
	rng = node_add(devices, "rng");
	return node_set(rng, "model", "virtio") && rng_set(rng);
}

int virt_xml_make(const struct virt_make *how, char **out, struct err *err)
{
	cleanup_doc xmlDocPtr doc = NULL;
	xmlNodePtr domain = virt_doc_new("domain", &doc), devices;
	bool q35 = false;
	int r;

	if (!domain)
		return err_nomem(err, "domain XML");
	if (!how->name || !how->name[0] || how->ndisks > VIRT_DISKS_MAX)
		return err_set(err, ERR_INVALID, "a guest needs a name, and at most %d disks",
			       VIRT_DISKS_MAX);
	if (!make_head(domain, how))
		return err_nomem(err, "domain XML");
	r = make_os(domain, how, &q35, err);
	if (r < 0)
		return r;
	devices = make_cpu(domain, how) ? node_add(domain, "devices") : NULL;
	if (!devices)
		return err_nomem(err, "domain XML");
	r = make_disks(devices, how, q35, err);
	if (r == 0 && !make_others(devices, how, q35))
		r = err_nomem(err, "domain XML");
	if (r < 0)
		return r;
	return virt_doc_text(doc, out, err);
}

/* --- documents for calls --- */

static bool target_nbd(xmlNodePtr disk, const struct virt_target *to)
{
	xmlNodePtr source = node_add(disk, "source"), host = node_add(source, "host");
	char port[16];
	bool ok = node_set(disk, "type", "network") && node_set(source, "protocol", "nbd") &&
		  node_set(source, "name", to->export_name ? to->export_name : "");

	if (!to->host)
		return node_set(host, "transport", "unix") &&
		       node_set(host, "socket", to->socket) && ok;
	snprintf(port, sizeof(port), "%u", to->port ? to->port : 10809);
	return node_set(host, "name", to->host) && node_set(host, "port", port) && ok;
}

int virt_xml_target(const struct virt_target *to, char **xml, struct err *err)
{
	const char *format = to->format ? to->format : "raw";
	bool block = to->kind == VIRT_TARGET_BLOCK;
	cleanup_doc xmlDocPtr doc = NULL;
	xmlNodePtr disk = virt_doc_new("disk", &doc), driver = node_add(disk, "driver");
	bool ok;

	if (strcmp(format, "raw") != 0 && strcmp(format, "qcow2") != 0)
		return err_set(err, ERR_INVALID, "format \"%s\": it is raw or qcow2", format);
	if (to->kind == VIRT_TARGET_NBD ? !to->host && !to->socket :
					  !to->path || to->path[0] != '/')
		return err_set(err, ERR_INVALID, "the target of a copy has no absolute path");
	ok = node_set(driver, "name", "qemu") && node_set(driver, "type", format) &&
	     node_set(driver, "cache", "none") && node_set(driver, "discard", "unmap");
	if (to->kind == VIRT_TARGET_NBD)
		ok = target_nbd(disk, to) && ok;
	else
		ok = node_set(disk, "type", block ? "block" : "file") &&
		     node_set(node_add(disk, "source"), block ? "dev" : "file", to->path) && ok;
	return ok ? virt_doc_text(doc, xml, err) : err_nomem(err, "disk XML");
}

int virt_xml_volume(const char *name, const char *format, uint64_t size, char **xml,
		    struct err *err)
{
	cleanup_doc xmlDocPtr doc = NULL;
	xmlNodePtr volume = virt_doc_new("volume", &doc), target, text;
	bool ok;

	if (strcmp(format, "raw") != 0 && strcmp(format, "qcow2") != 0)
		return err_set(err, ERR_INVALID, "format \"%s\": it is raw or qcow2", format);
	ok = node_add_text(volume, "name", name) && make_number(volume, "capacity", size);
	text = node_child(volume, "capacity");
	ok = node_set(text, "unit", "bytes") && ok;
	text = node_add_text(volume, "allocation",
			     "0"); /* else libvirt writes the whole of a raw one */
	ok = text && ok;
	target = node_add(volume, "target");
	ok = node_set(node_add(target, "format"), "type", format) && ok;
	if (strcmp(format, "qcow2") == 0) /* version 3: dirty bitmaps, zero clusters */
		ok = node_add_text(target, "compat", "1.1") && ok;
	return ok ? virt_doc_text(doc, xml, err) : err_nomem(err, "volume XML");
}

int virt_xml_network(const char *name, bool see_each_other, char **xml, struct err *err)
{
	cleanup_doc xmlDocPtr doc = NULL;
	xmlNodePtr network = virt_doc_new("network", &doc), bridge;
	bool ok = node_add_text(network, "name", name) != NULL;

	bridge = node_add(network, "bridge");
	ok = node_set(bridge, "name", name) && node_set(bridge, "stp", "off") &&
	     node_set(bridge, "delay", "0") && ok;
	if (!see_each_other)
		ok = node_set(node_add(network, "port"), "isolated", "yes") && ok;
	return ok ? virt_doc_text(doc, xml, err) : err_nomem(err, "network XML");
}
