// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Remembers how far each repository had come: a whole repository that was put back from an older copy looks right from
 * inside, and only somebody outside can notice.
 *
 * One small file a repository, CACHE/seen/UUID, with its highest generation seen, in decimal.
 *
 * Invariants:
 *  1. The file is read before the repository is asked: what somebody else publishes meanwhile is no fall.
 *  2. The number in the file never falls: the warning comes again until the repository has overtaken it, or a person
 *     removes the file, which the warning names, or accepts a catalog that was built again (which knows only what
 *     the packs say, and so may be behind).
 *  3. Nothing here fails a command.
 */
#include "cli/internal.h"

#include <stdlib.h>

#include "base/file.h"
#include "repo/stats.h"

#include "base/banned.h"

#define SEEN_MAX 64 /* bytes of the file */

/* LIVEPOINT_CACHE_DIR, $XDG_CACHE_HOME/livepoint or ~/.cache/livepoint; made if it can be.  NULL: none. */
static char *cache_dir(void)
{
	const char *own = getenv("LIVEPOINT_CACHE_DIR"), *xdg = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");
	cleanup_free char *above = NULL;

	if (own && *own) {
		(void)dir_make(own, 0700, NULL, NULL);
		return str_dup(own);
	}
	if (xdg && xdg[0] == '/')
		above = str_dup(xdg);
	else if (home && home[0] == '/')
		above = str_printf("%s/.cache", home);
	if (!above)
		return NULL;
	(void)dir_make(above, 0700, NULL, NULL);
	return str_printf("%s/livepoint", above);
}

static char *seen_path(const struct repo *repo)
{
	cleanup_free char *dir = cache_dir(), *folder = NULL;
	char uuid[2 * UUID_LEN + 1];

	if (!dir)
		return NULL;
	folder = str_printf("%s/seen", dir);
	if (!folder || dir_make(dir, 0700, NULL, NULL) < 0 ||
	    dir_make(folder, 0700, NULL, NULL) < 0)
		return NULL;
	hex_encode(uuid, repo_conf(repo)->uuid, UUID_LEN);
	return str_printf("%s/%s", folder, uuid);
}

/* 0 if nothing was seen yet, or what stands there is no number. */
static uint64_t seen_read(const char *path)
{
	cleanup_buf struct buf text = BUF_INIT;
	uint64_t v;

	if (file_read_all(path, SEEN_MAX, &text, NULL) < 0 || !text.len)
		return 0;
	if (text.data[text.len - 1] == '\n')
		text.len--;
	return parse_u64(buf_str(&text), &v) ? v : 0;
}

static void seen_write(const char *path, uint64_t generation)
{
	char text[SEEN_MAX];
	int n = snprintf(text, sizeof(text), "%llu\n", (unsigned long long)generation);

	(void)file_write_all(path, text, (size_t)n, 0600, true, NULL, NULL);
}

void cli_repo_seen(const struct cli *cli, struct repo *repo)
{
	cleanup_free char *path = seen_path(repo);
	uint64_t seen, now;

	if (!path)
		return;
	seen = seen_read(path);
	if (repo_generation(repo, &now, NULL) < 0 || now == seen)
		return;
	if (now < seen) {
		out_warning(cli,
			    "repository '%s' is at generation %llu, but was seen at %llu: an older "
			    "copy was put back, and newer restore points are lost (if that is "
			    "meant, remove '%s'), or the catalog was built again (then 'livepoint "
			    "repair --accept' ends this)",
			    repo_path(repo), (unsigned long long)now, (unsigned long long)seen,
			    path);
		return;
	}
	seen_write(path, now);
}

void cli_repo_seen_accept(const char *repository)
{
	cleanup_ptr(repo) repo = NULL;
	cleanup_free char *path = NULL;
	uint64_t now;

	if (repo_open(repository, REPO_READ, &repo, NULL) < 0)
		return;
	path = seen_path(repo);
	if (path && repo_generation(repo, &now, NULL) == 0)
		seen_write(path, now);
}
