// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * serve-shared REPO [proxy [RETRIES]]: starts the shared server of a repository, or finds it, and with `proxy` a proxy in front of it;
 * prints "ID PID SOCKET" of the last of them.  Passphrase: LIVEPOINT_PASSPHRASE.
 */
#include <stdlib.h>

#include "serve/serve.h"

#include "base/banned.h"

static void export_release(struct serve_export *e)
{
	serve_export_release(e);
}
#define cleanup_export __attribute__((cleanup(export_release)))

static int run(int argc, char **argv, struct err *err)
{
	cleanup_export struct serve_export shared = { 0 };
	cleanup_export struct serve_export proxy = { 0 };
	const struct serve_shared_spec spec = { 0 };
	const char *passphrase = getenv("LIVEPOINT_PASSPHRASE");
	struct serve_proxy_spec proxy_spec = { 0 };
	const struct serve_export *last = &shared;
	cleanup_ptr(repo) r = NULL;
	uint64_t retries = 0;
	int code = repo_open(argv[1], REPO_READ, &r, err);

	if (code == 0 && repo_is_locked(r) && passphrase)
		code = repo_unlock(r, passphrase, strlen(passphrase), false, err);
	if (code == 0)
		code = serve_shared_start(r, &spec, &shared, err);
	if (code == 0 && argc > 2) {
		if (argc > 3 && parse_u64(argv[3], &retries))
			proxy_spec.retries = (unsigned)retries;
		code = serve_proxy_start(&shared, &proxy_spec, &proxy, err);
		last = &proxy;
	}
	if (code == 0)
		printf("%s %lld %s\n", last->id, (long long)last->pid, last->socket);
	return code;
}

int main(int argc, char **argv)
{
	struct err err = ERR_INIT;

	if (argc < 2) {
		fprintf(stderr, "usage: serve-shared REPO [proxy [RETRIES]]\n");
		return 2;
	}
	if (run(argc, argv, &err) < 0) {
		fprintf(stderr, "serve-shared: %s\n", err.text);
		return err_code_exit(err.code);
	}
	return 0;
}
