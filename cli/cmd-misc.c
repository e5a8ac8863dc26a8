// SPDX-License-Identifier: GPL-3.0-or-later
/* livepoint version, debug dump and debug accel: what needs no repository. */
#include "cli/internal.h"

#include "base/file.h"
#include "virt/accel.h"

#include "base/banned.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif

#define DUMP_MAX (1024 * MiB) /* of a file; packs are 76 MiB at most, segments may be larger */

int cmd_version(struct cli *cli, struct err *err)
{
	struct jval *o;

	if (!cli->json) {
		printf("livepoint %s\nrepository format %d, catalog schema %d\n", PACKAGE_VERSION,
		       FORMAT_VERSION, CATALOG_SCHEMA_VERSION);
		return out_check(err);
	}
	o = jval_object();
	jval_set(o, "version", jval_str(PACKAGE_VERSION));
	jval_set(o, "format", jval_int(FORMAT_VERSION));
	jval_set(o, "catalog_schema", jval_int(CATALOG_SCHEMA_VERSION));
	return out_json(o, err);
}

/* The text is printed also when the file is broken: it says where. */
int cmd_debug_dump(struct cli *cli, struct err *err)
{
	const char *path = cli->opt.args[0];
	cleanup_buf struct buf file = BUF_INIT;
	cleanup_buf struct buf text = BUF_INIT;
	struct jval *o;
	int r;

	r = file_read_all(path, DUMP_MAX, &file, err);
	if (r < 0)
		return r;
	r = dump_file(file.data, file.len, &text, err);
	if (r < 0)
		err_prefix(err, "'%s'", path);
	if (!cli->json) {
		if (text.len)
			fwrite(text.data, 1, text.len, stdout);
		return r < 0 ? r : out_check(err);
	}
	o = jval_object();
	jval_set(o, "file", jval_str(path));
	jval_set(o, "text", jval_str(buf_str(&text)));
	if (r < 0) {
		out_json(o, NULL);
		return r;
	}
	return out_json(o, err);
}

int cmd_debug_accel(struct cli *cli, struct err *err)
{
	enum virt_accel_kind accel;
	struct jval *o;
	int r = virt_accel_probe(&accel, err);

	if (r < 0)
		return r;
	if (!cli->json) {
		printf("%s\n", virt_accel_name(accel));
		return out_check(err);
	}
	o = jval_object();
	jval_set(o, "accel", jval_str(virt_accel_name(accel)));
	return out_json(o, err);
}
