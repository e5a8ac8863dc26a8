// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Files of a recovery on this host: its NVRAM, and its local overlay files.
 *
 * Invariants:
 *  1. Each has the recovery's id in its name, appears whole, by rename, and is never written again by us: a guest may have.
 *  2. Only files whose names follow from the id are removed, whatever the record says.
 */
#include "recover/internal.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/proc.h"

#include "base/banned.h"

int host_name(char **out, struct err *err)
{
	char name[HOST_NAME_MAX + 1] = "";

	if (gethostname(name, sizeof(name) - 1) < 0)
		return err_set_errno(err, ERR_FAILED, errno, "cannot read the host's name");
	*out = str_dup(name);
	return *out ? 0 : err_nomem(err, "name of the host");
}

static int nvram_make(const struct record *rec, const struct plan *p, struct err *err)
{
	cleanup_free char *folder = NULL;
	int code;

	if (!rec->nvram || !p->nvram.len || access(rec->nvram, F_OK) == 0)
		return 0;
	code = state_subfolder("nvram", &folder, err);
	if (code == 0)
		code = file_write_all(rec->nvram, p->nvram.data, p->nvram.len, 0600, false,
				      "recover.nvram", err);
	return code < 0 ? err_prefix(err, "NVRAM of the guest") : 0;
}

/* An empty qcow2; what is below it is said by the guest's XML alone, since the server's socket is not for ever. */
static int local_make(const struct record_disk *d, struct err *err)
{
	cleanup_free char *tmp = str_printf("%s.tmp", d->file), *copy = str_dup(d->file);
	cleanup_free char *size = str_printf("%llu", (unsigned long long)d->size);
	const char *const argv[] = { "qemu-img", "create", "-q", "-f", "qcow2", tmp, size, NULL };
	cleanup_buf struct buf out = BUF_INIT;
	int code;

	if (!tmp || !size || !copy)
		return err_nomem(err, "path");
	if (access(d->file, F_OK) == 0)
		return 0;
	code = proc_run(argv, &out, 4096, err);
	if (code == 0 && chmod(tmp, 0600) < 0)
		code = err_set_errno(err, ERR_IO, errno, "'%s'", tmp);
	if (code == 0)
		code = file_rename_new(tmp, d->file, "recover.local.rename", err);
	if (code == 0)
		code = dir_sync(dirname(copy), "recover.local.dirsync", err);
	if (code < 0)
		file_unlink(tmp, "recover.local.unlink", NULL);
	return code < 0 ? err_prefix(err, "local overlay '%s'", d->file) : 0;
}

int host_files_make(const struct record *rec, const struct plan *p, struct err *err)
{
	cleanup_free char *folder = NULL;
	size_t i;
	int code = nvram_make(rec, p, err);

	if (code == 0 && rec->local_dir && access(rec->local_dir, F_OK) < 0)
		code = state_subfolder("overlays", &folder, err);
	for (i = 0; code == 0 && i < rec->ndisks; i++)
		if (rec->disks[i].file)
			code = local_make(&rec->disks[i], err);
	return code;
}

struct removal {
	const char *folder, *id;
};

/* Also what a kill has left of a file that was being written: ID.fd.tmp-..., ID.sock.tmp. */
static int remove_visit(void *opaque, const char *name, struct err *err)
{
	const struct removal *r = opaque;
	cleanup_free char *path = NULL;
	int code;

	if (!str_starts(name, r->id) ||
	    (name[RECOVERY_ID_LEN] != '.' && name[RECOVERY_ID_LEN] != '-'))
		return 0;
	path = str_printf("%s/%s", r->folder, name);
	if (!path)
		return err_nomem(err, "path");
	code = file_unlink(path, "recover.file.unlink", err);
	return code < 0 ? code : 0;
}

int host_remove_named(const char *folder, const char *id, struct err *err)
{
	struct removal r = { .folder = folder, .id = id };

	return access(folder, F_OK) < 0 ? 0 : dir_each(folder, remove_visit, &r, err);
}

int host_console(const char *id, char **out, struct err *err)
{
	cleanup_free char *folder = NULL;
	int code = state_subfolder("consoles", &folder, err);

	if (code < 0)
		return code;
	*out = str_printf("%s/%s.log", folder, id);
	return *out ? 0 : err_nomem(err, "path");
}

/* Of consoles also ID.log.0, ID.log.1 and so on: libvirt's virtlogd turns a long one over. */
int host_files_remove(const struct record *rec, struct err *err)
{
	cleanup_free char *state = NULL, *nvram = NULL, *consoles = NULL;
	int code = state_folder(&state, err);

	if (code < 0)
		return code;
	nvram = str_printf("%s/nvram", state);
	consoles = str_printf("%s/consoles", state);
	if (!nvram || !consoles)
		return err_nomem(err, "path");
	code = host_remove_named(consoles, rec->id, err);
	/* a guest that was moved has its firmware's variables there for good */
	if (code == 0 && rec->state != RECOVERY_MIGRATED)
		code = host_remove_named(nvram, rec->id, err);
	if (code == 0 && rec->local_dir)
		code = host_remove_named(rec->local_dir, rec->id, err);
	return code;
}

uint64_t host_files_bytes(const struct record *rec)
{
	uint64_t bytes = 0;
	struct stat st;
	size_t i;

	for (i = 0; i < rec->ndisks; i++)
		if (rec->disks[i].file && stat(rec->disks[i].file, &st) == 0)
			bytes += (uint64_t)st.st_blocks * 512;
	return bytes;
}
