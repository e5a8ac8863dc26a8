// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The other devices of a domain's XML: network cards, serial ports, the agent's channel, screen and video, random numbers.
 *
 * Invariants:
 *  1. The guest sees the devices that it had, at the addresses that they had.
 *  2. Nothing of a device names a file, socket, device or address of the host, but what the caller gave.
 */
#include "virt/xml-internal.h"

#include <stdlib.h>

#include "base/banned.h"

#define AGENT_NAME "org.qemu.guest_agent.0"

static const char *const no_names[] = { NULL };

/* --- network cards --- */

static bool mac_valid(const char *mac)
{
	unsigned i;
	uint8_t byte;

	for (i = 0; i < 6; i++, mac += 3)
		if (!hex_decode(&byte, mac, 1) || mac[2] != (i == 5 ? 0 : ':') ||
		    (i == 0 && (byte & 1))) /* a group address is no card's */
			return false;
	return true;
}

static bool nic_source(xmlNodePtr nic, const char *type, const char *attribute, const char *name)
{
	return node_set(nic, "type", type) && node_set(node_add(nic, "source"), attribute, name);
}

static bool nic_unplug(xmlNodePtr nic)
{
	return node_set(nic, "type", "user") && node_set(node_need(nic, "link"), "state", "down");
}

static bool nic_bridge(xmlNodePtr nic, const char *bridge)
{
	node_remove_children(nic, "source");
	return bridge && nic_source(nic, "bridge", "bridge", bridge);
}

bool nic_connect(xmlNodePtr nic, const char *to, bool session)
{
	node_remove_children(nic, "source");
	if (strcmp(to, "user") == 0)
		return node_set(nic, "type", "user");
	if (strcmp(to, "none") == 0 || session)
		return nic_unplug(nic);
	if (str_starts(to, "bridge:"))
		return nic_bridge(nic, to + strlen("bridge:"));
	return nic_source(nic, "network", "network", to);
}

static const struct virt_net_map *find_map(const struct virt_rewrite *how, const char *from)
{
	unsigned i;

	for (i = 0; from && i < how->nmaps; i++)
		if (strcmp(how->maps[i].from, from) == 0)
			return &how->maps[i];
	return NULL;
}

/* Kept as captured where a daemon of this kind can have it. */
static bool nic_as_captured(xmlNodePtr nic, const char *kind, const char *source, bool session,
			    unsigned n, struct buf *notes)
{
	static const char *const of_network[] = { "network", "portgroup", NULL };
	static const char *const of_direct[] = { "dev", "mode", NULL };
	xmlNodePtr s = node_child(nic, "source");
	bool plain = strcmp(kind, "network") == 0 || strcmp(kind, "bridge") == 0 ||
		     strcmp(kind, "direct") == 0;

	if (strcmp(kind, "user") == 0)
		return nic_connect(nic, "user", session);
	if (session || !plain || !s) {
		xml_note(notes,
			 "network card %u: %s \"%s\" is not to be had here, its link is down", n,
			 kind, source ? source : "");
		return nic_connect(nic, "none", session);
	}
	if (strcmp(kind, "bridge") == 0)
		return nic_bridge(nic, source);
	node_keep_attributes(s, strcmp(kind, "network") == 0 ? of_network : of_direct);
	while (s->children)
		node_remove(s->children);
	return true;
}

static bool nic_network(xmlNodePtr nic, const struct virt_rewrite *how, bool *used, unsigned n,
			struct buf *notes)
{
	static const char *const places[] = { "network", "bridge", "dev" };
	cleanup_free char *kind = node_dup(nic, "type");
	cleanup_free char *source = NULL;
	const struct virt_net_map *map;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(places) && !source; i++)
		source = node_dup(node_child(nic, "source"), places[i]);
	if (how->net == VIRT_NET_NONE)
		return nic_connect(nic, "none", how->session);
	if (how->net == VIRT_NET_ISOLATED)
		return nic_connect(nic, how->isolated ? how->isolated : "none", how->session);
	map = find_map(how, source);
	if (!map)
		return nic_as_captured(nic, kind ? kind : "user", source, how->session, n, notes);
	used[map - how->maps] = true;
	if (how->session && strcmp(map->to, "user") != 0 && strcmp(map->to, "none") != 0)
		xml_note(notes,
			 "network card %u: a session has no network \"%s\", its link is down", n,
			 map->to);
	return nic_connect(nic, map->to, how->session);
}

static const char *find_mac(const struct virt_rewrite *how, const char *had, unsigned n, bool *used)
{
	unsigned i;

	for (i = 0; i < how->nmacs; i++) {
		uint64_t number;

		if ((parse_u64(how->macs[i].nic, &number) && number == n) ||
		    (had && strcasecmp(how->macs[i].nic, had) == 0)) {
			used[i] = true;
			return how->macs[i].mac;
		}
	}
	return NULL;
}

static bool nic_mac(xmlNodePtr nic, const struct virt_rewrite *how, bool *used, unsigned n)
{
	cleanup_free char *had = node_dup(node_child(nic, "mac"), "address");
	const char *given = find_mac(how, had, n, used);
	char fresh[18];

	if (!given && how->mac == VIRT_MAC_KEEP) /* without the host's notes beside it */
		given = had;
	if (!given) {
		virt_new_mac(fresh);
		given = fresh;
	}
	node_remove_children(nic, "mac");
	return node_set(node_add(nic, "mac"), "address", given);
}

static int nics_check(const struct virt_rewrite *how, struct err *err)
{
	unsigned i;

	for (i = 0; i < how->nmacs; i++)
		if (!mac_valid(how->macs[i].mac))
			return err_set(err, ERR_INVALID, "\"%s\" is no MAC address of a card",
				       how->macs[i].mac);
	return 0;
}

static int all_used(const bool *maps, const bool *macs, const struct virt_rewrite *how,
		    struct err *err)
{
	unsigned i;

	for (i = 0; i < how->nmaps && how->net == VIRT_NET_AS_MAPPED; i++)
		if (!maps[i])
			return err_set(err, ERR_INVALID,
				       "no network card of the guest is on network \"%s\"",
				       how->maps[i].from);
	for (i = 0; i < how->nmacs; i++)
		if (!macs[i])
			return err_set(err, ERR_INVALID, "the guest has no network card \"%s\"",
				       how->macs[i].nic);
	return 0;
}

int nics_rewrite(xmlNodePtr devices, const struct virt_rewrite *how, struct buf *notes,
		 struct err *err)
{
	static const char *const kept[] = { "mac", "source", "model", "address", "boot",
					    "mtu", "link",   "acpi",  "rom",	 NULL };
	static const char *const attributes[] = { "type", NULL };
	static const char *const of_rom[] = { "bar", "enabled", NULL };
	cleanup_free bool *maps = mem_alloc_array(how->nmaps + 1, sizeof(*maps));
	cleanup_free bool *macs = mem_alloc_array(how->nmacs + 1, sizeof(*macs));
	int r = nics_check(how, err);
	unsigned n = 0;
	xmlNodePtr nic;

	if (r < 0)
		return r;
	if (!maps || !macs)
		return err_nomem(err, "network cards");
	for (nic = node_child(devices, "interface"); nic; nic = node_next(nic, "interface"), n++) {
		if (n >= VIRT_NICS_MAX)
			return err_set(err, ERR_TOO_BIG, "domain XML: over %d network cards",
				       VIRT_NICS_MAX);
		node_keep_attributes(nic, attributes);
		node_keep_only(nic, kept);
		node_keep_attributes(node_child(nic, "rom"), of_rom);
		if (!nic_network(nic, how, maps, n, notes) || !nic_mac(nic, how, macs, n))
			return err_nomem(err, "network cards");
	}
	return all_used(maps, macs, how, err);
}

/* --- character devices --- */

/* Its end on the host becomes `type`; what the guest sees of it stays. */
static bool chardev_reset(xmlNodePtr n, const char *type)
{
	static const char *const kept[] = { "target", "address", NULL };

	node_keep_attributes(n, no_names);
	node_keep_only(n, kept);
	return node_set(n, "type", type);
}

bool serials_rewrite(xmlNodePtr devices, enum virt_serial serial, const char *path)
{
	const char *type = serial == VIRT_SERIAL_FILE ? "file" : "pty";
	xmlNodePtr first = node_child(devices, "serial"), n, next;
	bool ok = true;

	for (n = node_child(devices, "console"); n; n = next) {
		next = node_next(n, "console");
		if (node_attr_is(node_child(n, "target"), "type", "virtio"))
			ok = chardev_reset(n, "null") && ok;
		else
			node_remove(n); /* libvirt's other name for the first serial port */
	}
	for (n = first; n; n = node_next(n, "serial"))
		ok = chardev_reset(n, n == first ? type : "null") && ok;
	for (n = node_child(devices, "parallel"); n; n = node_next(n, "parallel"))
		ok = chardev_reset(n, "null") && ok;
	if (!first) {
		first = node_add(devices, "serial");
		ok = node_set(first, "type", type) &&
		     node_set(node_add(first, "target"), "port", "0") && ok;
	}
	if (serial == VIRT_SERIAL_FILE)
		ok = path && node_set(node_add(first, "source"), "path", path) && ok;
	return ok;
}

bool channels_rewrite(xmlNodePtr devices)
{
	bool agent = false, ok = true;
	xmlNodePtr n, next;

	for (n = node_child(devices, "channel"); n; n = next) {
		xmlNodePtr target = node_child(n, "target");

		next = node_next(n, "channel");
		if (!node_attr_is(target, "type", "virtio")) {
			node_remove(n); /* of guestfwd, Xen: nothing to talk to */
			continue;
		}
		node_unset(target, "state");
		if (!agent && node_attr_is(target, "name", AGENT_NAME)) {
			ok = chardev_reset(n, "unix") && ok; /* libvirt names the socket */
			agent = true;
		} else {
			ok = chardev_reset(n, "null") && ok;
		}
	}
	if (agent)
		return ok;
	n = node_add(devices, "channel");
	ok = node_set(n, "type", "unix") && ok;
	n = node_add(n, "target");
	return node_set(n, "type", "virtio") && node_set(n, "name", AGENT_NAME) && ok;
}

/* --- screen --- */

bool graphics_rewrite(xmlNodePtr devices, enum virt_graphics graphics)
{
	cleanup_free char *keymap = node_dup(node_child(devices, "graphics"), "keymap");
	xmlNodePtr n;
	bool ok;

	node_remove_children(devices, "graphics");
	if (graphics == VIRT_GRAPHICS_NONE)
		return true;
	n = node_add(devices, "graphics");
	ok = node_set(n, "type", "vnc") && (!keymap || node_set(n, "keymap", keymap));
	return node_set(node_add(n, "listen"), "type", "socket") && ok;
}

static bool video_fix(xmlNodePtr video, const struct virt_host *host, struct buf *notes)
{
	xmlNodePtr model = node_child(video, "model");
	cleanup_free char *type = node_dup(model, "type");

	node_remove_children(video, "driver");
	node_remove_children(video, "alias");
	node_remove_children(model, "acceleration"); /* asks for a GPU of the host */
	if (!type || !host || strcmp(type, "none") == 0 || host_has_video(host, type))
		return true;
	xml_note(notes, "video \"%s\": this host has none, it becomes \"vga\"", type);
	node_clear(model);
	return node_set(model, "type", "vga");
}

bool video_rewrite(xmlNodePtr devices, const struct virt_host *host, bool add, struct buf *notes)
{
	xmlNodePtr n = node_child(devices, "video");
	bool ok = true;

	if (!n && add)
		return node_set(node_add(node_add(devices, "video"), "model"), "type", "vga");
	for (; n; n = node_next(n, "video"))
		ok = video_fix(n, host, notes) && ok;
	return ok;
}

bool rng_set(xmlNodePtr rng)
{
	xmlNodePtr backend;

	node_remove_children(rng, "backend");
	backend = node_add_text(rng, "backend", "/dev/urandom");
	return node_set(backend, "model", "random");
}
