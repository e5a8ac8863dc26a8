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

#define CONSOLE_TURNS_MAX 16

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

static int remove_file(char *path, struct err *err)
{
	int code = path ? file_unlink(path, "recover.file.unlink", err) : err_nomem(err, "path");

	free(path);
	return code < 0 ? code : 0;
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

/* libvirt's virtlogd turns a long one over: ID.log.0, ID.log.1 and so on. */
static int console_remove(const char *state, const char *id, struct err *err)
{
	int code = remove_file(str_printf("%s/consoles/%s.log", state, id), err);
	unsigned i;

	for (i = 0; code == 0 && i < CONSOLE_TURNS_MAX; i++)
		code = remove_file(str_printf("%s/consoles/%s.log.%u", state, id, i), err);
	return code;
}

int host_files_remove(const struct record *rec, struct err *err)
{
	cleanup_free char *state = NULL;
	int code = state_folder(&state, err);
	size_t i;

	if (code == 0 && record_is_boot(rec))
		code = console_remove(state, rec->id, err);

	/* a guest that was moved has its firmware's variables there for good */
	if (code == 0 && rec->state != RECOVERY_MIGRATED)
		code = remove_file(str_printf("%s/nvram/%s.fd", state, rec->id), err);
	for (i = 0; code == 0 && rec->local_dir && i < rec->ndisks; i++) {
		code = remove_file(str_printf("%s/%s-%s.qcow2", rec->local_dir, rec->id,
					      rec->disks[i].name),
				   err);
		if (code == 0)
			code = remove_file(str_printf("%s/%s-%s.qcow2.tmp", rec->local_dir, rec->id,
						      rec->disks[i].name),
					   err);
	}
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
