// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * What a host offers to guests: machine types, firmware files, video models; and which of them fit a captured guest.
 *
 * How it works: libvirt lists machine types for each architecture, and firmware files for a machine type.  Firmware lies in
 * other places, in builds of other sizes, on other distributions, so it is chosen by what fits: a flash of 2 or 4 MiB is the code
 * file and the variables' file together (edk2, OvmfPkg/README), and the variables of the captured guest have a size.
 *
 * Invariants:
 *  1. Only firmware that libvirt lists is chosen, so hostile XML cannot name a file of the host.
 *  2. A machine type that is there is taken as it is; else the oldest of its family, since compatibility types are dropped
 *     from the old end; but the newest, if what was captured is newer than all.
 */
#include "virt/xml-internal.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "base/banned.h"

#define HOST_NAMES_MAX 2048

struct name_list {
	char **names;
	uint64_t *sizes; /* of files; 0: unknown */
	unsigned n;
};

struct virt_host {
	struct name_list archs, machines, loaders, videos;
};

static void list_release(struct name_list *l)
{
	unsigned i;

	for (i = 0; i < l->n; i++)
		free(l->names[i]);
	free(l->names);
	free(l->sizes);
}

void virt_host_free(struct virt_host *h)
{
	if (!h)
		return;
	list_release(&h->archs);
	list_release(&h->machines);
	list_release(&h->loaders);
	list_release(&h->videos);
	free(h);
}

static bool list_has(const struct name_list *l, const char *name)
{
	unsigned i;

	for (i = 0; i < l->n; i++)
		if (strcmp(l->names[i], name) == 0)
			return true;
	return false;
}

/* takes name; NULL names are nothing. */
static int list_add(struct name_list *l, char *name, uint64_t size, struct err *err)
{
	char **names;
	uint64_t *sizes;

	if (!name || list_has(l, name) || l->n == HOST_NAMES_MAX) {
		free(name);
		return 0;
	}
	names = mem_realloc_array(l->names, l->n + 1, sizeof(*names));
	if (names)
		l->names = names;
	sizes = names ? mem_realloc_array(l->sizes, l->n + 1, sizeof(*sizes)) : NULL;
	if (!sizes) {
		free(name);
		return err_nomem(err, "capabilities");
	}
	l->sizes = sizes;
	l->names[l->n] = name;
	l->sizes[l->n++] = size;
	return 0;
}

/* --- reading --- */

static int read_guests(xmlNodePtr caps, struct virt_host *h, struct err *err)
{
	xmlNodePtr guest, arch, m;
	int r = 0;

	for (guest = node_child(caps, "guest"); guest && r == 0; guest = node_next(guest, "guest"))
		for (arch = node_child(guest, "arch"); arch && r == 0;
		     arch = node_next(arch, "arch")) {
			r = list_add(&h->archs, node_dup(arch, "name"), 0, err);
			for (m = node_child(arch, "machine"); m && r == 0;
			     m = node_next(m, "machine"))
				r = list_add(&h->machines, node_dup(m, NULL), 0, err);
		}
	return r;
}

static uint64_t file_bytes(const char *path, bool local)
{
	struct stat st;

	return local && path && stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static int read_domcaps(xmlNodePtr caps, bool local, struct virt_host *h, struct err *err)
{
	xmlNodePtr loader = node_child(node_child(caps, "os"), "loader");
	xmlNodePtr video = node_child(node_child(caps, "devices"), "video");
	xmlNodePtr v, e;
	int r = 0;

	for (v = node_child(loader, "value"); v && r == 0; v = node_next(v, "value")) {
		char *path = node_dup(v, NULL);
		uint64_t size = file_bytes(path, local);

		if (path && str_ends(path, ".qcow2")) { /* its size says nothing about the flash */
			free(path);
			continue;
		}
		r = list_add(&h->loaders, path, size, err);
	}
	for (e = node_child(video, "enum"); e && r == 0; e = node_next(e, "enum"))
		for (v = node_child(e, "value"); v && r == 0; v = node_next(v, "value"))
			r = list_add(&h->videos, node_dup(v, NULL), 0, err);
	return r;
}

int virt_host_read(const char *xml, size_t len, bool local, struct virt_host **out, struct err *err)
{
	cleanup_doc xmlDocPtr doc = NULL;
	cleanup_ptr(virt_host) h = NULL;
	xmlNodePtr c;
	int r = virt_doc_parse(xml, len, "livepoint-host", &doc, err);

	if (r < 0)
		return err_prefix(err, "capabilities");
	h = mem_alloc(sizeof(*h));
	if (!h)
		return err_nomem(err, "capabilities");
	c = xmlDocGetRootElement(doc);
	r = read_guests(node_child(c, "capabilities"), h, err);
	for (c = node_child(c, "domainCapabilities"); c && r == 0;
	     c = node_next(c, "domainCapabilities"))
		r = read_domcaps(c, local, h, err);
	if (r < 0)
		return r;
	*out = steal_ptr(h);
	return 0;
}

bool virt_host_has_machine(const struct virt_host *h, const char *machine)
{
	return list_has(&h->machines, machine);
}

bool virt_host_has_uefi(const struct virt_host *h)
{
	return host_loader(h, NULL, false, 0) != NULL;
}

bool host_has_arch(const struct virt_host *h, const char *arch)
{
	return list_has(&h->archs, arch);
}

bool host_has_video(const struct virt_host *h, const char *model)
{
	return h->videos.n == 0 || list_has(&h->videos, model);
}

/* --- machine types --- */

bool machine_is_q35(const char *machine)
{
	return machine && strstr(machine, "q35");
}

/* "pc-i440fx-7.2": its family's length (with the last dash) and 7.2 as 7002; a name without digits there is 0. */
static size_t machine_family(const char *machine, unsigned *version)
{
	const char *dash = strrchr(machine, '-');
	unsigned major = 0, minor = 0;
	size_t n = dash ? (size_t)(dash - machine) + 1 : strlen(machine);

	*version = 0;
	if (dash && sscanf(dash + 1, "%4u.%3u", &major, &minor) == 2)
		*version = major * 1000 + minor;
	return n;
}

const char *host_machine(const struct virt_host *h, const char *wanted)
{
	const char *oldest = NULL, *newest = NULL;
	unsigned asked, low = 0, high = 0, i;
	size_t n = machine_family(wanted, &asked);

	if (list_has(&h->machines, wanted))
		return wanted;
	for (i = 0; i < h->machines.n; i++) {
		const char *m = h->machines.names[i];
		unsigned version;

		if (machine_family(m, &version) != n || strncmp(m, wanted, n) != 0 || !version)
			continue;
		if (!oldest || version < low) {
			oldest = m;
			low = version;
		}
		if (!newest || version > high) {
			newest = m;
			high = version;
		}
	}
	return asked > high ? newest : oldest; /* invariant 2 */
}

/* --- firmware --- */

static bool loader_secure(const char *path)
{
	return strstr(path, "secboot") || strstr(path, ".ms.");
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Code and variables fill a flash whose size is a power of two; of what is unknown, the names decide. */
static bool loader_fits(const struct name_list *l, unsigned i, const char *path,
			uint64_t nvram_size)
{
	uint64_t both = l->sizes[i] + nvram_size;

	if (l->sizes[i] && nvram_size)
		return (both & (both - 1)) == 0;
	return !path || !strstr(base_name(path), "4M") || strstr(base_name(l->names[i]), "4M");
}

/* OVMF, not another firmware that libvirt may list (SEV, ARM, images without variables). */
static bool loader_usual(const char *path)
{
	return strstr(base_name(path), "CODE") != NULL;
}

const char *host_loader(const struct virt_host *h, const char *path, bool secure,
			uint64_t nvram_size)
{
	const struct name_list *l = &h->loaders;
	const char *best = NULL;
	unsigned i, best_score = 0;

	for (i = 0; i < l->n; i++) {
		const char *name = l->names[i];
		unsigned score = 1;

		if (loader_secure(name) != secure || !loader_fits(l, i, path, nvram_size))
			continue;
		score += loader_usual(name) ? 1 : 0;
		score += strstr(base_name(name), "4M") ? 1 : 0; /* the usual build today */
		score += path && strcmp(base_name(name), base_name(path)) == 0 ? 4 : 0;
		score += path && strcmp(name, path) == 0 ? 4 : 0;
		if (score > best_score) {
			best = name;
			best_score = score;
		}
	}
	return best;
}
