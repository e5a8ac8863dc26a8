// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * What the guest will be: what the point says of it, and the XML that libvirt gets.
 *
 * The XML is made anew at each start, out of the point's domain.xml (or, for a bare disk, out of nothing) and of what the
 * record says was chosen.  Invariant: the same record gives the same guest: name, uuid and each card's MAC are in it.
 */
#include "recover/internal.h"

#include <stdlib.h>

#include "base/log.h"
#include "virt/accel.h"

#include "base/banned.h"

#define DOMAIN_CONFIG "domain.xml"
#define NVRAM_CONFIG "nvram"
#define MEMORY_DEFAULT (2 * GiB) /* of a bare disk */

void plan_release(struct plan *p)
{
	virt_xml_info_free(p->info);
	virt_host_free(p->host);
	if (p->point)
		repo_point_close(p->point);
	buf_release(&p->captured);
	buf_release(&p->nvram);
	memset(p, 0, sizeof(*p));
}

void plan_note(const struct plan *p, const char *fmt, ...)
{
	char line[ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (p->note)
		p->note(p->opaque, line);
	else
		log_info("%s", line);
}

/* --- what the point says --- */

static int read_config(struct plan *p, const char *name, struct buf *out, struct err *err)
{
	if (!repo_config_find(repo_point_manifest(p->point), name))
		return 0;
	return repo_config_read(p->point, name, out, err);
}

/* A bare disk: the first one decides. */
static int guess_firmware(struct plan *p, struct err *err)
{
	const struct manifest *m = repo_point_manifest(p->point);
	cleanup_ptr(repo_disk) d = NULL;
	int code;

	if (m->ndisks == 0)
		return 0;
	code = repo_disk_open(p->point, m->disks[0].name, &d, err);
	if (code == 0)
		code = firmware_guess(d, &p->uefi, err);
	if (code == ERR_DAMAGED &&
	    p->console) { /* a proof: the guest runs into it, and that is its verdict */
		err_clear(err);
		p->uefi = false;
		code = 0;
	}
	return code;
}

static int read_point(struct plan *p, const char *point, struct err *err)
{
	struct repo_spec spec = { 0 };
	int code = repo_resolve(p->repo, point, &spec, err);

	if (code < 0)
		return code;
	if (spec.disk[0])
		code = err_set(err, ERR_USAGE,
			       "'%s' names one disk; --disks chooses among a point's", point);
	else
		code = repo_point_open(p->repo, spec.row.id, &p->point, err);
	memcpy(p->point_id, spec.row.id, sizeof(p->point_id));
	repo_spec_release(&spec);
	if (code == 0 && repo_point_manifest(p->point)->ndisks == 0)
		code = err_set(err, ERR_NOT_FOUND, "point '%s' has no disk", point);
	if (code == 0)
		code = read_config(p, DOMAIN_CONFIG, &p->captured, err);
	if (code == 0)
		code = read_config(p, NVRAM_CONFIG, &p->nvram, err);
	if (code < 0)
		return code;
	if (!p->captured.len)
		return guess_firmware(p, err);
	code = virt_xml_read((const char *)p->captured.data, p->captured.len, &p->info, err);
	return code < 0 ? err_prefix(err, "config/" DOMAIN_CONFIG " of point '%s'", point) : 0;
}

static int read_host(struct plan *p, struct virt *v, struct err *err)
{
	cleanup_free char *xml = NULL;
	int code = virt_host_xml(v, p->info ? p->info->arch : NULL,
				 p->info ? p->info->machine : (p->uefi ? "q35" : "pc"), &xml, err);

	if (code == 0)
		code = virt_host_read(xml, strlen(xml), virt_is_local(v), &p->host, err);
	return code;
}

int plan_open(struct repo *repo, struct virt *v, const char *point, struct plan *p, struct err *err)
{
	int code;

	p->repo = repo;
	p->session = virt_is_session(v);
	code = read_point(p, point, err);
	if (code == 0)
		code = read_host(p, v, err);
	return code;
}

/* --- the XML --- */

char *disk_export(const struct record *rec, const struct record_disk *d)
{
	/* a local file takes the writes: what is below it is the point itself, read-only */
	if (d->file || !rec->overlay[0])
		return str_printf("%s/%s", rec->point, d->name);
	return str_printf("%s/%s", rec->overlay, d->name);
}

struct sources {
	struct virt_source list[VIRT_DISKS_MAX];
	char *names[VIRT_DISKS_MAX]; /* owned */
	unsigned count;
};

static void sources_free(struct sources *s)
{
	unsigned i;

	for (i = 0; i < s->count; i++)
		free(s->names[i]);
	free(s);
}
DEFINE_CLEANUP(sources, sources_free)

static int sources_make(const struct record *rec, const char *socket, unsigned reconnect,
			struct sources **out, struct err *err)
{
	cleanup_ptr(sources) s = mem_alloc(sizeof(*s));
	size_t i;

	if (!s)
		return err_nomem(err, "sources of disks");
	if (rec->ndisks > VIRT_DISKS_MAX)
		return err_set(err, ERR_TOO_BIG, "%zu disks are more than a guest can have (%d)",
			       rec->ndisks, VIRT_DISKS_MAX);
	for (i = 0; i < rec->ndisks; i++) {
		const struct record_disk *d = &rec->disks[i];
		char *name = disk_export(rec, d);

		if (!name)
			return err_nomem(err, "name of an export");
		s->names[i] = name;
		s->list[i] = (struct virt_source){
			.target = d->target,
			.kind = d->file ? VIRT_SOURCE_OVERLAY : VIRT_SOURCE_NBD,
			.socket = socket,
			.export_name = name,
			.path = d->file,
			.reconnect = reconnect,
		};
		s->count++;
	}
	*out = steal_ptr(s);
	return 0;
}

struct maps {
	struct virt_net_map *list; /* owned */
	char **texts; /* owned copies that the list points into */
	size_t count;
	struct virt_mac *macs; /* owned */
	char **mac_texts;
	size_t nmacs;
};

static void maps_release(struct maps *m)
{
	size_t i;

	for (i = 0; m->texts && i < m->count; i++)
		free(m->texts[i]);
	for (i = 0; m->mac_texts && i < m->nmacs; i++)
		free(m->mac_texts[i]);
	free(m->texts);
	free(m->mac_texts);
	free(m->list);
	free(m->macs);
}
#define cleanup_maps __attribute__((cleanup(maps_release)))

/* Copies "A=B" and cuts it in two. */
static int split(const char *text, const char *what, char **copy, const char **a, const char **b,
		 struct err *err)
{
	char *eq;

	*copy = str_dup(text);
	if (!*copy)
		return err_nomem(err, "options");
	eq = strchr(*copy, '=');
	if (!eq || eq == *copy || !eq[1])
		return err_set(err, ERR_USAGE, "'%s' is not %s", text, what);
	*eq = 0;
	*a = *copy;
	*b = eq + 1;
	return 0;
}

static int maps_make(const struct record *rec, struct maps *m, struct err *err)
{
	size_t i;
	int code = 0;

	m->list = mem_alloc_array(rec->networks.count + 1, sizeof(*m->list));
	m->texts = mem_alloc_array(rec->networks.count + 1, sizeof(*m->texts));
	m->macs = mem_alloc_array(rec->macs.count + 1, sizeof(*m->macs));
	m->mac_texts = mem_alloc_array(rec->macs.count + 1, sizeof(*m->mac_texts));
	if (!m->list || !m->texts || !m->macs || !m->mac_texts)
		return err_nomem(err, "options");
	for (i = 0; code == 0 && i < rec->networks.count; i++) {
		m->count++;
		code = split(rec->networks.items[i], "OLD=NEW, isolated or none", &m->texts[i],
			     &m->list[i].from, &m->list[i].to, err);
	}
	for (i = 0; code == 0 && i < rec->macs.count; i++) {
		m->nmacs++;
		code = split(rec->macs.items[i], "keep, new or NIC=MAC", &m->mac_texts[i],
			     &m->macs[i].nic, &m->macs[i].mac, err);
	}
	return code;
}

static enum virt_net_rule net_rule(const struct record *rec)
{
	if (rec->network && strcmp(rec->network, "isolated") == 0)
		return VIRT_NET_ISOLATED;
	return rec->network ? VIRT_NET_NONE : VIRT_NET_AS_MAPPED;
}

static int rewrite(struct plan *p, const struct record *rec, const struct sources *s,
		   struct buf *notes, char **xml, struct err *err)
{
	cleanup_maps struct maps m = { 0 };
	struct virt_rewrite how = {
		.name = rec->domain,
		.uuid = rec->uuid,
		.net = net_rule(rec),
		.isolated = rec->isolated,
		.session = p->session,
		.disks = s->list,
		.ndisks = s->count,
		.bus = rec->disk_bus,
		.accel = p->accel,
		.memory = rec->memory,
		.vcpus = (unsigned)rec->vcpus,
		.machine = rec->machine,
		.host = p->host,
		.nvram = rec->nvram,
		.nvram_size = p->nvram.len,
		.serial = p->console ? VIRT_SERIAL_FILE : VIRT_SERIAL_PTY,
		.serial_path = p->console,
		.add_video = p->console != NULL,
		.graphics = VIRT_GRAPHICS_SOCKET,
		.on_reboot = p->console ? VIRT_ON_DESTROY : VIRT_ON_RESTART,
		.on_poweroff = VIRT_ON_DESTROY,
		.on_crash = VIRT_ON_DESTROY,
	};
	int code = maps_make(rec, &m, err);

	if (code < 0)
		return code;
	how.maps = m.list;
	how.nmaps = (unsigned)m.count;
	how.macs = m.macs;
	how.nmacs = (unsigned)m.nmacs;
	how.mac = p->renew_macs ? VIRT_MAC_NEW : VIRT_MAC_KEEP;
	return virt_xml_rewrite((const char *)p->captured.data, p->captured.len, &how, xml, notes,
				err);
}

/* The network of the one card of a bare disk. */
static const char *make_network(const struct record *rec, const struct maps *m)
{
	size_t i;

	if (rec->network)
		return rec->isolated ? rec->isolated : "none";
	for (i = 0; i < m->count; i++)
		if (strcmp(m->list[i].from, "user") == 0)
			return m->list[i].to;
	return "user";
}

static int make(struct plan *p, const struct record *rec, const struct sources *s, char **xml,
		struct err *err)
{
	cleanup_maps struct maps m = { 0 };
	struct virt_make how = {
		.name = rec->domain,
		.uuid = rec->uuid,
		.memory = rec->memory ? rec->memory : MEMORY_DEFAULT,
		.vcpus = rec->vcpus ? (unsigned)rec->vcpus : 1,
		.machine = rec->machine,
		.firmware = p->uefi ? VIRT_UEFI : VIRT_BIOS,
		.host = p->host,
		.nvram = rec->nvram,
		.disks = s->list,
		.ndisks = s->count,
		.bus = rec->disk_bus,
		.accel = p->accel,
		.serial = p->console ? VIRT_SERIAL_FILE : VIRT_SERIAL_PTY,
		.serial_path = p->console,
		.graphics = VIRT_GRAPHICS_SOCKET,
		.on_reboot = p->console ? VIRT_ON_DESTROY : VIRT_ON_RESTART,
	};
	int code = maps_make(rec, &m, err);

	if (code < 0)
		return code;
	how.network = make_network(rec, &m);
	how.mac = m.nmacs ? m.macs[0].mac : NULL;
	return virt_xml_make(&how, xml, err);
}

static void say_lines(const struct plan *p, struct buf *notes)
{
	char *line = notes->len ? (char *)notes->data : NULL, *end;

	buf_str(notes);
	for (; line && *line; line = end + 1) {
		end = line + strcspn(line, "\n");
		if (!*end) {
			plan_note(p, "%s", line);
			return;
		}
		*end = 0;
		plan_note(p, "%s", line);
	}
}

int plan_xml(struct plan *p, const struct record *rec, const char *socket, unsigned reconnect,
	     bool quiet, char **xml, struct err *err)
{
	cleanup_ptr(sources) s = NULL;
	cleanup_buf struct buf notes = BUF_INIT;
	int code = sources_make(rec, socket, reconnect, &s, err);

	if (code < 0)
		return code;
	code = rec->captured ? rewrite(p, rec, s, &notes, xml, err) : make(p, rec, s, xml, err);
	if (code == 0 && !quiet)
		say_lines(p, &notes);
	return code;
}
