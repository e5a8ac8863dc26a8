// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Rewriting a captured domain's XML so that the guest runs here; the rules are in virt/xml.h, what was tried in the notes to it.
 *
 * How it works: the document is changed in place, by white lists: an element or device that is not known to be harmless goes,
 * with a note when a person would miss it.  What is kept is the guest's view of its machine.
 *
 * Invariants:
 *  1. Nothing that names a resource of the host comes from the captured XML, but networks and bridges (virt_rewrite.net).
 *  2. The machine type and each address stay, unless the machine's family was changed by the caller: then all addresses go.
 *  3. What needs KVM goes when there is none: the CPU becomes `maximum`, and clocks and features of KVM and Hyper-V are dropped.
 */
#include "virt/xml-internal.h"

#include <stdarg.h>
#include <stdlib.h>

#include "base/banned.h"

void xml_note(struct buf *notes, const char *fmt, ...)
{
	char line[400];
	va_list ap;

	if (!notes)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	buf_printf(notes, "%s\n", line);
}

/* --- white lists --- */

/* `silent`: what nobody misses; `names` says what is kept. */
static void keep_noting(xmlNodePtr parent, const char *const *names, const char *const *silent,
			struct buf *notes)
{
	xmlNodePtr c, next;

	for (c = parent->children; c; c = next) {
		const char *const *k;
		bool keep = false, say = true;

		next = c->next;
		if (c->type != XML_ELEMENT_NODE)
			continue;
		for (k = names; *k && !c->ns; k++)
			keep = keep || node_is(c, *k);
		for (k = silent; *k && !c->ns; k++)
			say = say && !node_is(c, *k);
		if (keep)
			continue;
		if (say)
			xml_note(notes, "<%s>: left out", (const char *)c->name);
		node_remove(c);
	}
}

static void keep_domain(xmlNodePtr domain, struct buf *notes)
{
	static const char *const names[] = {
		"name",	    "uuid",   "genid",	       "title",	      "description",
		"metadata", "memory", "currentMemory", "vcpu",	      "os",
		"features", "cpu",    "clock",	       "on_poweroff", "on_reboot",
		"on_crash", "pm",     "devices",       "sysinfo",     NULL
	};
	static const char *const silent[] = {
		"resource",  "seclabel",  "memtune",	 "numatune",  "cputune",
		"blkiotune", "iothreads", "iothreadids", "maxMemory", "memoryBacking",
		"vcpus",     "perf",	  NULL
	};
	static const char *const attributes[] = { "type", NULL };

	keep_noting(domain, names, silent, notes);
	node_keep_attributes(domain, attributes);
}

static void keep_devices(xmlNodePtr devices, struct buf *notes)
{
	static const char *const names[] = { "disk",	   "controller", "interface", "serial",
					     "console",	   "parallel",	 "channel",   "input",
					     "graphics",   "video",	 "sound",     "watchdog",
					     "memballoon", "rng",	 "panic",     "iommu",
					     "hub",	   NULL };
	static const char *const silent[] = { "emulator",    "audio", "redirdev",
					      "redirfilter", "lease", NULL };

	keep_noting(devices, names, silent, notes);
}

/* --- devices that need a look --- */

static bool fix_controller(xmlNodePtr c)
{
	node_unset(node_child(c, "driver"), "iothread");
	node_remove_children(c, "alias");
	return true;
}

static bool fix_input(xmlNodePtr n)
{
	if (node_attr_is(n, "type", "passthrough") || node_attr_is(n, "type", "evdev"))
		node_remove(n);
	return true;
}

static bool fix_any(xmlNodePtr n)
{
	node_remove_children(n, "alias");
	return true;
}

static bool fix_devices(xmlNodePtr devices)
{
	static const struct {
		const char *name;
		bool (*fix)(xmlNodePtr n);
	} fixes[] = {
		{ "controller", fix_controller },
		{ "input", fix_input },
		{ "rng", rng_set },
	};
	xmlNodePtr n, next;
	bool ok = true;
	size_t i;

	for (n = devices->children; n; n = next) {
		next = n->next;
		if (n->type != XML_ELEMENT_NODE)
			continue;
		fix_any(n);
		for (i = 0; i < ARRAY_SIZE(fixes); i++)
			if (node_is(n, fixes[i].name)) {
				ok = fixes[i].fix(n) && ok;
				break;
			}
	}
	return ok;
}

/* --- firmware and machine --- */

static int firmware_uefi(xmlNodePtr os, const struct virt_host *host, const char *nvram,
			 uint64_t nvram_size, struct buf *notes, struct err *err)
{
	cleanup_free char *had = node_dup(node_child(os, "loader"), NULL);
	bool secure = xml_is_secure(os), ok;
	const char *path = had && had[0] ? had : NULL;
	xmlNodePtr loader;

	if (host)
		path = host_loader(host, path, secure, nvram_size);
	if (!path)
		return err_set(err, ERR_UNSUPPORTED,
			       "the guest needs UEFI%s with variables of %llu bytes, and libvirt "
			       "lists no such firmware for its machine type",
			       secure ? " with Secure Boot" : "", (unsigned long long)nvram_size);
	if (!nvram)
		return err_set(err, ERR_INVALID,
			       "the guest has UEFI, and no file for its variables was given");
	if (had && had[0] && strcmp(had, path) != 0)
		xml_note(notes, "firmware: \"%s\" becomes \"%s\"", had, path);
	node_remove_children(os, "loader");
	node_remove_children(os, "nvram");
	node_remove_children(os, "firmware");
	node_unset(os, "firmware");
	loader = node_add_text(os, "loader", path);
	ok = node_set(loader, "readonly", "yes") && node_set(loader, "type", "pflash") &&
	     (!secure || node_set(loader, "secure", "yes")) && node_add_text(os, "nvram", nvram);
	return ok ? 0 : err_nomem(err, "firmware");
}

int os_firmware(xmlNodePtr domain, const struct virt_host *host, const char *nvram,
		uint64_t nvram_size, struct buf *notes, struct err *err)
{
	static const char *const kept[] = { "type",	"loader", "nvram",  "firmware", "boot",
					    "bootmenu", "bios",	  "smbios", NULL };
	xmlNodePtr os = node_child(domain, "os");

	if (!os)
		return err_set(err, ERR_INVALID, "domain XML: no <os>");
	if (node_child(os, "kernel"))
		xml_note(notes,
			 "the guest booted a kernel file of its host; it boots from its disk");
	node_keep_only(os, kept);
	if (xml_is_uefi(os))
		return firmware_uefi(os, host, nvram, nvram_size, notes, err);
	node_remove_children(os, "loader");
	node_remove_children(os, "nvram");
	node_remove_children(os, "firmware");
	node_unset(os, "firmware");
	return 0;
}

/* Another family has another layout of buses: libvirt lays everything out anew. */
static bool new_layout(xmlNodePtr devices, bool q35)
{
	static const char *const drop[] = { "pci", "ide", "usb", "sata", NULL };
	const char *const *d;
	xmlNodePtr n, next;
	bool ok = true;

	for (n = devices ? devices->children : NULL; n; n = next) {
		xmlNodePtr target = node_child(n, "target");

		next = n->next;
		node_remove_children(n, "address");
		if (node_is(n, "disk") && q35 && node_attr_is(target, "bus", "ide")) {
			cleanup_free char *dev = node_dup(target, "dev");
			char name[64];

			snprintf(name, sizeof(name), "sd%s",
				 dev && strlen(dev) > 2 ? dev + 2 : "a");
			ok = node_set(target, "bus", "sata") && node_set(target, "dev", name) && ok;
		}
		for (d = drop; *d && node_is(n, "controller"); d++)
			if (node_attr_is(n, "type", *d)) {
				node_remove(n);
				break;
			}
	}
	return ok;
}

static int set_machine(xmlNodePtr domain, const struct virt_rewrite *how, bool *relaid,
		       bool *is_q35, struct buf *notes, struct err *err)
{
	xmlNodePtr type = node_child(node_child(domain, "os"), "type");
	cleanup_free char *had = node_dup(type, "machine");
	cleanup_free char *arch = node_dup(type, "arch");
	const char *wanted = how->machine ? how->machine : had ? had : "pc", *got = wanted;

	if (!type || !node_text_is(type, "hvm"))
		return err_set(err, ERR_UNSUPPORTED, "the guest is not fully virtualised (hvm)");
	if (how->host && arch && !host_has_arch(how->host, arch))
		return err_set(err, ERR_UNSUPPORTED, "this host runs no guests of architecture %s",
			       arch);
	if (how->host)
		got = host_machine(how->host, wanted);
	if (!got)
		return err_set(err, ERR_UNSUPPORTED,
			       "machine type \"%s\": this host has none of its family", wanted);
	if (strcmp(got, wanted) != 0)
		xml_note(notes, "machine type \"%s\" is not on this host, it becomes \"%s\"",
			 wanted, got);
	*is_q35 = machine_is_q35(got);
	*relaid = had && machine_is_q35(had) != *is_q35;
	return node_set(type, "machine", got) ? 0 : err_nomem(err, "machine type");
}

/* --- CPU, clocks, features --- */

static bool without_kvm(xmlNodePtr domain)
{
	static const char *const features[] = { "hyperv", "kvm", "xen", "pvspinlock", "pmu" };
	static const char *const timers[] = { "hypervclock", "kvmclock", "tsc" };
	xmlNodePtr f = node_child(domain, "features"), clock = node_child(domain, "clock"), t, next;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(features) && f; i++)
		node_remove_children(f, features[i]);
	if (node_attr_is(node_child(f, "ioapic"), "driver", "kvm"))
		node_remove_children(f, "ioapic");
	node_unset(node_child(f, "apic"), "eoi");
	for (t = node_child(clock, "timer"); t; t = next) {
		next = node_next(t, "timer");
		for (i = 0; i < ARRAY_SIZE(timers); i++)
			if (node_attr_is(t, "name", timers[i])) {
				node_remove(t);
				break;
			}
	}
	return true;
}

/* Topology stays if it has the number of CPUs that the guest gets; NUMA cells name memory of the host. */
static bool cpu_rewrite(xmlNodePtr domain, const struct virt_rewrite *how)
{
	static const char *const bare[] = { "topology", NULL };
	static const char *const modes[] = { "mode", NULL };
	xmlNodePtr cpu = node_child(domain, "cpu");

	if (how->accel == VIRT_ACCEL_TCG)
		without_kvm(domain);
	if (cpu && how->vcpus)
		node_remove_children(cpu, "topology");
	if (cpu)
		node_remove_children(cpu, "numa");
	if (how->accel == VIRT_ACCEL_KVM)
		return true;
	cpu = cpu ? cpu : node_add(domain, "cpu");
	if (!cpu)
		return false;
	node_keep_only(cpu, bare);
	node_keep_attributes(cpu, modes);
	return node_set(cpu, "mode", "maximum");
}

/* --- sizes, names, what happens at the end --- */

static bool set_memory(xmlNodePtr domain, uint64_t bytes)
{
	static const char *const elements[] = { "memory", "currentMemory" };
	static const char *const no_attributes[] = { NULL };
	char text[24];
	size_t i;

	if (!bytes)
		return true;
	snprintf(text, sizeof(text), "%llu", (unsigned long long)(bytes / KiB));
	for (i = 0; i < ARRAY_SIZE(elements); i++) {
		xmlNodePtr n = node_need(domain, elements[i]);

		node_keep_attributes(n, no_attributes);
		if (!node_set_text(n, text) || !node_set(n, "unit", "KiB"))
			return false;
	}
	return true;
}

static bool set_vcpus(xmlNodePtr domain, unsigned vcpus)
{
	static const char *const attributes[] = { "current", NULL };
	xmlNodePtr n = node_child(domain, "vcpu");
	char text[16];

	node_keep_attributes(n, attributes);
	if (!vcpus)
		return true;
	n = node_need(domain, "vcpu");
	node_unset(n, "current");
	snprintf(text, sizeof(text), "%u", vcpus);
	return node_set_text(n, text);
}

bool on_event(xmlNodePtr domain, const char *element, enum virt_on_event what)
{
	static const char *const words[] = {
		[VIRT_ON_RESTART] = "restart", [VIRT_ON_DESTROY] = "destroy", [VIRT_ON_PRESERVE] = "preserve"
	};

	return what == VIRT_ON_KEEP || node_set_text(node_need(domain, element), words[what]);
}

/* The host's name, its serial numbers and files are not the guest's. */
static bool identity(xmlNodePtr domain, const struct virt_rewrite *how)
{
	xmlNodePtr genid = node_child(domain, "genid"), info, next, e;
	bool ok = true;

	if (genid) /* "" : libvirt makes a new one, and the guest knows that it was set back in time */
		while (genid->children)
			node_remove(genid->children);
	for (info = node_child(domain, "sysinfo"); info; info = next) {
		next = node_next(info, "sysinfo");
		if (node_attr_is(info, "type", "fwcfg"))
			node_remove(info);
		else if (how->uuid && (e = node_child(info, "system")))
			for (e = node_child(e, "entry"); e; e = node_next(e, "entry"))
				if (node_attr_is(e, "name",
						 "uuid")) /* must be equal to the guest's */
					ok = node_set_text(e, how->uuid) && ok;
	}
	if (how->name)
		ok = node_set_text(node_need(domain, "name"), how->name) && ok;
	if (how->uuid)
		ok = node_set_text(node_need(domain, "uuid"), how->uuid) && ok;
	return ok;
}

static bool rewrite_plain(xmlNodePtr domain, xmlNodePtr devices, const struct virt_rewrite *how,
			  struct buf *notes)
{
	return node_set(domain, "type", how->accel == VIRT_ACCEL_KVM ? "kvm" : "qemu") &&
	       identity(domain, how) && set_memory(domain, how->memory) &&
	       set_vcpus(domain, how->vcpus) && cpu_rewrite(domain, how) &&
	       on_event(domain, "on_reboot", how->on_reboot) &&
	       on_event(domain, "on_poweroff", how->on_poweroff) &&
	       on_event(domain, "on_crash", how->on_crash) && fix_devices(devices) &&
	       serials_rewrite(devices, how->serial, how->serial_path) &&
	       channels_rewrite(devices) && graphics_rewrite(devices, how->graphics) &&
	       video_rewrite(devices, how->host, how->add_video, notes);
}

static int rewrite_domain(xmlNodePtr domain, const struct virt_rewrite *how, struct buf *notes,
			  struct err *err)
{
	xmlNodePtr devices = node_child(domain, "devices");
	bool relaid = false, q35 = false;
	int r;

	if (!devices)
		return err_set(err, ERR_INVALID, "domain XML: no <devices>");
	if (how->serial == VIRT_SERIAL_FILE && !how->serial_path)
		return err_set(err, ERR_INVALID, "no file for the serial port");
	keep_domain(domain, notes);
	keep_devices(devices, notes);
	r = set_machine(domain, how, &relaid, &q35, notes, err);
	if (r == 0)
		r = os_firmware(domain, how->host, how->nvram, how->nvram_size, notes, err);
	if (r == 0 && relaid)
		xml_note(notes, "another family of machine: the devices get new addresses");
	if (r == 0 && relaid && !new_layout(devices, q35))
		r = err_nomem(err, "domain XML");
	if (r == 0)
		r = disks_rewrite(devices, how, q35, notes, err);
	if (r == 0)
		r = nics_rewrite(devices, how, notes, err);
	if (r == 0 && !rewrite_plain(domain, devices, how, notes))
		r = err_nomem(err, "domain XML");
	return r;
}

int virt_xml_rewrite(const char *xml, size_t len, const struct virt_rewrite *how, char **out,
		     struct buf *notes, struct err *err)
{
	cleanup_ptr(virt_xml_info) info = NULL;
	cleanup_doc xmlDocPtr doc = NULL;
	int r = virt_xml_read(xml, len, &info, err); /* counts, names and sizes hold from here on */

	if (r == 0)
		r = virt_doc_parse(xml, len, "domain", &doc, err);
	if (r == 0)
		r = rewrite_domain(xmlDocGetRootElement(doc), how, notes, err);
	if (r < 0)
		return r;
	return virt_doc_text(doc, out, err);
}
