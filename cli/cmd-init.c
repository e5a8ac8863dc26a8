// SPDX-License-Identifier: GPL-3.0-or-later
/* livepoint init: a missing or empty folder becomes a repository. */
#include "cli/internal.h"

#include <stdlib.h>

#include "repo/retention.h"

#include "base/banned.h"

/* Of what init wrote, not of what is read back: a repository that was made is no failure. */
static int init_show(const struct cli *cli, const char *path, const struct conf *conf,
		     struct err *err)
{
	cleanup_free char *whole = realpath(path, NULL);
	struct jval *o;

	if (!cli->json) {
		out_note(cli, "made repository '%s' (%s)", path,
			 conf->suite ? "encrypted" : "not encrypted");
		return 0;
	}
	o = jval_object();
	jval_set(o, "repository", jval_str(whole ? whole : path));
	jval_set(o, "uuid", json_id(conf->uuid, UUID_LEN));
	jval_set(o, "chunk_size", jval_uint(conf->chunk_size));
	jval_set(o, "compression", jval_str(compression_name(conf->compression)));
	jval_set(o, "suite", jval_str(cli_suite_name(conf->suite)));
	jval_set(o, "grace", jval_uint(conf->grace));
	return out_json(o, err);
}

int cmd_init(struct cli *cli, struct err *err)
{
	cleanup_passphrase struct passphrase p = { .len = 0 };
	struct conf conf;
	struct repo_init_spec spec = { .compression = -1, .made = &conf };
	const struct options *o = &cli->opt;
	uint64_t chunk = opt_number(o, O_CHUNK_SIZE, 0);
	const char *path;
	int r;

	r = cli_repo_path(cli, &path, err);
	if (r < 0)
		return r;
	if (opt_given(o, O_CHUNK_SIZE) &&
	    (chunk < CHUNK_SIZE_MIN || chunk > CHUNK_SIZE_MAX || (chunk & (chunk - 1)) != 0))
		return err_set(err, ERR_USAGE,
			       "--chunk-size must be a power of two from %u to %u bytes, not %llu",
			       CHUNK_SIZE_MIN, CHUNK_SIZE_MAX, (unsigned long long)chunk);
	spec.chunk_size = (uint32_t)chunk;
	spec.grace = opt_number(o, O_GRACE, 0);
	if (spec.grace > GRACE_MAX)
		return err_set(err, ERR_USAGE, "--grace is at most 100 years");
	if (opt_given(o, O_COMPRESSION))
		spec.compression = compression_parse(opt_text(o, O_COMPRESSION));
	if (opt_given(o, O_ENCRYPT)) {
		r = passphrase_get(cli, PASSPHRASE_ASK_TWICE, &p, err);
		if (r < 0)
			return r;
		spec.suite = 1;
		spec.passphrase = p.text;
		spec.passphrase_len = p.len;
	}
	r = repo_init(path, &spec, err);
	if (r == ERR_NOT_FOUND) /* of the folder above: no point, disk or export is missing */
		return err_recode(err, ERR_FAILED);
	return r < 0 ? r : init_show(cli, path, &conf, err);
}
