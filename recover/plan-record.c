// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * From what was asked for to a record: which disks, whose name, uuid and MACs, which files on the host.
 *
 * Invariants:
 *  1. A name or uuid that the connection, or another recovery of it, has is never taken, but by an error that says so.
 *  2. Names of files and of the isolated network follow from the recovery's id.
 */
#include "recover/internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/banned.h"

/* --- disks --- */

/* True if name is one of those between the commas. */
static bool list_has(const char *list, const char *name)
{
	size_t n = strlen(name);

	for (; list; list = strchr(list, ','), list += list != NULL)
		if (strncmp(list, name, n) == 0 && (list[n] == ',' || list[n] == 0))
			return true;
	return false;
}

/* Each name of the list must be a disk of the point. */
static int check_list(const struct manifest *m, const char *list, struct err *err)
{
	while (list) {
		char name[DISK_NAME_MAX_LEN + 1];
		size_t n = strcspn(list, ","), i;

		snprintf(name, sizeof(name), "%.*s", (int)MIN(n, sizeof(name) - 1), list);
		for (i = 0; i < m->ndisks && strcmp(m->disks[i].name, name) != 0; i++)
			;
		if (i == m->ndisks)
			return err_set(err, ERR_NOT_FOUND, "the point has no disk '%s'", name);
		list = list[n] ? list + n + 1 : NULL;
	}
	return 0;
}

static bool is_disk(const struct virt_xml_disk *d)
{
	return strcmp(d->device, "disk") == 0 || strcmp(d->device, "lun") == 0;
}

/* The i-th disk of the captured XML, CD-ROMs and floppies not counted, or NULL. */
static const struct virt_xml_disk *captured_disk(const struct virt_xml_info *info, size_t nth)
{
	unsigned i;

	for (i = 0; i < info->ndisks; i++)
		if (is_disk(&info->disks[i]) && nth-- == 0)
			return &info->disks[i];
	return NULL;
}

static size_t captured_count(const struct virt_xml_info *info)
{
	size_t n = 0;

	while (captured_disk(info, n))
		n++;
	return n;
}

/* By name when one name fits, else by order when the numbers agree. */
static int captured_targets(struct plan *p, struct record *rec, struct err *err)
{
	const struct manifest *m = repo_point_manifest(p->point);
	size_t fits = 0, i, k;

	for (i = 0; i < m->ndisks; i++)
		fits += virt_xml_find_disk(p->info, m->disks[i].name) != NULL;
	if (!fits && captured_count(p->info) == m->ndisks)
		plan_note(p, "no disk of the point is called as in the guest: taken in order");
	else if (!fits)
		return err_set(err, ERR_INVALID,
			       "the point's disks are not those of its config/domain.xml");
	for (i = 0; i < rec->ndisks; i++) {
		const struct virt_xml_disk *d = virt_xml_find_disk(p->info, rec->disks[i].name);

		for (k = 0; !fits && k < m->ndisks; k++)
			if (strcmp(m->disks[k].name, rec->disks[i].name) == 0)
				d = captured_disk(p->info, k);
		if (!d)
			return err_set(
				err, ERR_INVALID,
				"disk '%s' of the point is not in its config/domain.xml: leave it out "
				"with --disks",
				rec->disks[i].name);
		str_copy(rec->disks[i].target, sizeof(rec->disks[i].target), d->target);
	}
	return 0;
}

/* vda, vdb, ... vdz, vdaa */
static void name_target(char *dst, size_t size, const char *prefix, size_t i)
{
	if (i < 26)
		snprintf(dst, size, "%s%c", prefix, (char)('a' + i));
	else
		snprintf(dst, size, "%s%c%c", prefix, (char)('a' + i / 26 - 1),
			 (char)('a' + i % 26));
}

static int choose_disks(struct plan *p, const struct recover_spec *spec, struct record *rec,
			struct err *err)
{
	const struct manifest *m = repo_point_manifest(p->point);
	const char *bus = rec->disk_bus ? rec->disk_bus : "virtio";
	const char *prefix = strcmp(bus, "virtio") == 0 ? "vd" :
			     strcmp(bus, "ide") == 0	? "hd" :
							  "sd";
	size_t i;
	int code = check_list(m, spec->disks, err);

	if (code < 0)
		return code;
	rec->disks = mem_alloc_array(m->ndisks, sizeof(*rec->disks));
	if (!rec->disks)
		return err_nomem(err, "disks");
	for (i = 0; i < m->ndisks; i++) {
		struct record_disk *d = &rec->disks[rec->ndisks];

		if (spec->disks && !list_has(spec->disks, m->disks[i].name))
			continue;
		str_copy(d->name, sizeof(d->name), m->disks[i].name);
		d->size = m->disks[i].size;
		name_target(d->target, sizeof(d->target), prefix, rec->ndisks++);
		if (rec->local_dir) {
			d->file = str_printf("%s/%s-%s.qcow2", rec->local_dir, rec->id, d->name);
			if (!d->file)
				return err_nomem(err, "path");
		}
	}
	return rec->captured ? captured_targets(p, rec, err) : 0;
}

/* --- identity --- */

struct claim { /* do other recoveries have it? */
	const struct record *rec;
	const char *name, *uuid;
	char by[RECOVERY_ID_LEN + 1];
	int bits;
};

static int claim_fn(void *opaque, const char *folder, const struct record *rec, struct err *err)
{
	struct claim *c = opaque;

	(void)folder;
	(void)err;
	if (strcmp(rec->id, c->rec->id) == 0 || strcmp(rec->connection, c->rec->connection) != 0 ||
	    strcmp(rec->host, c->rec->host) != 0 || rec->state == RECOVERY_MIGRATED)
		return 0;
	if (strcmp(rec->domain, c->name) == 0)
		c->bits |= VIRT_KNOWS_NAME;
	if (c->uuid && strcmp(rec->uuid, c->uuid) == 0)
		c->bits |= VIRT_KNOWS_UUID;
	if (c->bits)
		str_copy(c->by, sizeof(c->by), rec->id);
	return 0;
}

/* Who has the name or the uuid: bits of virt_knows(). */
static int who_has(struct plan *p, struct virt *v, const struct record *rec, const char *name,
		   const char *uuid, int *bits, struct err *err)
{
	struct claim c = { .rec = rec, .name = name, .uuid = uuid };
	int code = virt_knows(v, name, uuid, err);

	if (code < 0)
		return code;
	*bits = code;
	code = recovery_each(p->repo, claim_fn, &c, err);
	*bits |= c.bits;
	return code;
}

static int refuse_name(const char *name, int bits, const struct record *rec, struct err *err)
{
	err_set(err, ERR_EXISTS,
		bits & VIRT_KNOWS_NAME ?
			"%s has a guest '%s' already: choose another name with --as" :
			"%s has the guest of '%s' already, by its uuid: --new-identity gives another",
		rec->connection, name);
	return err_object(err, "%s", name);
}

/* Fills domain and uuid; *fresh: its cards get new MACs. */
static int choose_identity(struct plan *p, struct virt *v, const struct recover_spec *spec,
			   struct record *rec, bool *fresh, struct err *err)
{
	const char *original = p->info ? p->info->name : repo_point_manifest(p->point)->name;
	const char *uuid = p->info ? p->info->uuid : NULL;
	const char *name = spec->as ? spec->as : original;
	char made[VIRT_UUID_TEXT];
	int had = 0, wanted = 0;
	int code = who_has(p, v, rec, original, uuid, &had, err);

	if (code == 0 && spec->as)
		code = who_has(p, v, rec, spec->as, NULL, &wanted, err);
	if (code < 0)
		return code;
	if (spec->as && wanted)
		return refuse_name(spec->as, wanted, rec, err);
	if (spec->identity == IDENTITY_KEEP && had)
		return refuse_name(original, spec->as ? VIRT_KNOWS_UUID : had, rec, err);
	*fresh = spec->identity == IDENTITY_NEW || had;
	virt_new_uuid(made);
	rec->uuid = str_dup(*fresh || !uuid ? made : uuid);
	rec->domain = *fresh && !spec->as ? str_printf("%s-%s", name, rec->id) : str_dup(name);
	if (!rec->uuid || !rec->domain)
		return err_nomem(err, "identity");
	if (had && spec->identity == IDENTITY_AUTO)
		plan_note(p,
			  "%s has '%s' already: the guest is called '%s', with a new uuid and MACs",
			  rec->connection, original, rec->domain);
	return 0;
}

/* NIC=MAC for each card of the guest, as it is with what was asked for. */
static int choose_macs(struct plan *p, const struct recover_spec *spec, bool fresh,
		       struct record *rec, struct err *err)
{
	cleanup_free char *xml = NULL;
	cleanup_ptr(virt_xml_info) info = NULL;
	struct texts asked = { 0 };
	bool renew = fresh;
	size_t i;
	int code = 0;

	for (i = 0; i < spec->nmacs; i++) {
		if (strcmp(spec->macs[i], "keep") == 0)
			renew = false;
		else if (strcmp(spec->macs[i], "new") == 0)
			renew = true;
	}
	for (i = 0; code == 0 && i < spec->nmacs; i++)
		if (strcmp(spec->macs[i], "keep") != 0 && strcmp(spec->macs[i], "new") != 0)
			code = texts_add(&asked, spec->macs[i], err);
	p->renew_macs = renew;
	rec->macs = asked;
	if (code == 0)
		code = plan_xml(p, rec, "/run/livepoint/none", 0, false, &xml, err);
	if (code == 0)
		code = virt_xml_read(xml, strlen(xml), &info, err);
	texts_release(&rec->macs);
	p->renew_macs = false;
	for (i = 0; code == 0 && i < info->nnics; i++) {
		char made[18];
		cleanup_free char *text = NULL;

		virt_new_mac(made);
		text = str_printf("%zu=%s", i, info->nics[i].mac ? info->nics[i].mac : made);
		code = text ? texts_add(&rec->macs, text, err) : err_nomem(err, "MAC");
	}
	return code;
}

/* --- files, network --- */

static int choose_places(struct plan *p, const struct recover_spec *spec, struct record *rec,
			 struct err *err)
{
	bool uefi = p->info ? p->info->firmware == VIRT_UEFI : p->uefi;
	cleanup_free char *state = NULL;
	int code = state_folder(&state, err);

	if (code < 0)
		return code;
	if (uefi)
		rec->nvram = str_printf("%s/nvram/%s.fd", state, rec->id);
	if (spec->local) {
		rec->local_dir = spec->local_dir ? realpath(spec->local_dir, NULL) :
						   str_printf("%s/overlays", state);
		if (!rec->local_dir)
			return err_set_errno(err, ERR_INVALID, errno, "folder '%s'",
					     spec->local_dir ? spec->local_dir : state);
	}
	if (rec->network && strcmp(rec->network, "isolated") == 0 && !p->session)
		rec->isolated = str_printf("lp-%s", rec->id);
	if (uefi && p->info && !p->nvram.len)
		plan_note(p,
			  "the point has no config/nvram: the firmware starts with its defaults");
	return 0;
}

/* A captured guest knows its own devices; of a bare disk the system that is on it may be told. */
static const char *default_bus(const struct recover_spec *spec, bool captured)
{
	if (spec->disk_bus || captured || !spec->os_info)
		return spec->disk_bus;
	return strncmp(spec->os_info, "win", 3) == 0 ? "sata" : NULL;
}

static int copy_choices(struct plan *p, struct virt *v, const struct recover_spec *spec,
			struct record *rec, struct err *err)
{
	char text[POINT_TEXT_MAX];
	int code;

	repo_point_text(repo_point_manifest(p->point), text);
	rec->created = rec->since = time_now();
	rec->captured = p->info != NULL;
	rec->memory = spec->memory;
	rec->vcpus = spec->vcpus;
	rec->paused = spec->paused;
	rec->point = str_dup(text);
	rec->connection = str_dup(virt_uri(v));
	if (!rec->point || !rec->connection || !text_copy(&rec->network, spec->network) ||
	    !text_copy(&rec->disk_bus, default_bus(spec, rec->captured)) ||
	    !text_copy(&rec->machine, spec->machine) || !text_copy(&rec->os_info, spec->os_info))
		return err_nomem(err, "record");
	code = texts_copy(&rec->networks, spec->networks, spec->nnetworks, err);
	if (code == 0)
		code = repository_path(p->repo, &rec->repository, err);
	if (code == 0)
		code = host_name(&rec->host, err);
	return code;
}

int plan_record(struct plan *p, struct virt *v, const struct recover_spec *spec, struct record *rec,
		struct err *err)
{
	bool fresh = false;
	int code = copy_choices(p, v, spec, rec, err);

	if (code == 0)
		code = choose_places(p, spec, rec, err);
	if (code == 0)
		code = choose_disks(p, spec, rec, err);
	if (code == 0)
		code = choose_identity(p, v, spec, rec, &fresh, err);
	if (code == 0)
		code = choose_macs(p, spec, fresh, rec, err);
	return code;
}
