// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * From options and environment to an open repository.
 *
 * Order matters: scrypt runs in a child process, so the key comes before repo_start(), which makes
 * threads.
 */
#include "cli/internal.h"

#include <stdlib.h>

#include "base/banned.h"

int cli_repo_path(const struct cli *cli, const char **out, struct err *err)
{
	const char *path = opt_text(&cli->opt, O_REPOSITORY);

	if (!path)
		path = getenv("LIVEPOINT_REPOSITORY");
	if (!path || !*path)
		return err_set(err, ERR_NO_REPO,
			       "no repository was named: use -r REPO or LIVEPOINT_REPOSITORY");
	*out = path;
	return 0;
}

static int unlock(const struct cli *cli, struct repo *r, enum key_use key, struct err *err)
{
	cleanup_passphrase struct passphrase p = { .len = 0 };
	int got;

	if (key == KEY_NOT_USED || !repo_is_locked(r))
		return 0;
	got = passphrase_get(cli, key == KEY_NEEDED ? PASSPHRASE_ASK : PASSPHRASE_GIVEN, &p, err);
	if (got <= 0)
		return got;
	return repo_unlock(r, p.text, p.len, false, err);
}

int cli_repo_open(const struct cli *cli, enum repo_mode mode, enum key_use key, bool start,
		  struct repo **out, struct err *err)
{
	cleanup_ptr(repo) repo = NULL;
	const char *path;
	int r;

	r = cli_repo_path(cli, &path, err);
	if (r < 0)
		return r;
	r = repo_open(path, mode, &repo, err);
	if (r < 0)
		return r;
	cli_repo_seen(cli, repo);
	r = unlock(cli, repo, key, err);
	if (r >= 0 && start)
		r = repo_start(repo, 0, 0, err);
	if (r < 0)
		return r;
	*out = steal_ptr(repo);
	return 0;
}

const char *cli_suite_name(unsigned suite)
{
	switch (suite) {
	case 0:
		return "none";
	case 1:
		return "aes-256-gcm";
	default:
		return "unknown";
	}
}
