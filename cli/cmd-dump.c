// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * livepoint dump POINT PATH: one thing of a point to standard output.  Of this version: files kept with the point, under
 * config/.
 *
 * 1. Nothing is written before all of it was read and checked: what a pipe gets is whole, or nothing.
 */
#include "cli/internal.h"

#include "base/banned.h"

static int check_dump(const struct cli *cli, const char **name, struct err *err)
{
	const char *path = cli->opt.args[1];

	if (cli->json)
		return err_set(err, ERR_USAGE,
			       "dump writes the contents as they are: there is no JSON of it");
	if (!str_starts(path, "config/"))
		return err_set(err, ERR_USAGE,
			       "'%.128s': this version dumps files kept with the point only, as "
			       "config/NAME ('livepoint show' lists them)",
			       path);
	*name = path + strlen("config/");
	return 0;
}

int cmd_dump(struct cli *cli, struct err *err)
{
	cleanup_ptr(repo) repo = NULL;
	cleanup_ptr(repo_point) point = NULL;
	cleanup_buf struct buf bytes = BUF_INIT;
	struct repo_spec spec = { 0 };
	const char *name = NULL;
	int r = check_dump(cli, &name, err);

	if (r >= 0)
		r = cli_repo_open(cli, REPO_READ, KEY_NEEDED, true, &repo, err);
	if (r >= 0)
		r = repo_resolve(repo, cli->opt.args[0], &spec, err);
	if (r < 0)
		return r;
	if (spec.disk[0])
		r = err_set(err, ERR_USAGE, "dump takes a POINT, not one disk of it ('%s')",
			    spec.disk);
	else
		r = repo_point_open(repo, spec.row.id, &point, err);
	repo_spec_release(&spec);
	if (r >= 0)
		r = repo_config_read(point, name, &bytes, err);
	if (r >= 0 && bytes.len)
		fwrite(bytes.data, 1, bytes.len, stdout);
	return r < 0 ? r : out_check(err);
}
