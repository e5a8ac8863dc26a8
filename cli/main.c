// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The program: reads the command line, sets signals and log up, runs one command, turns its result
 * into an exit status.
 *
 * Invariants:
 *  1. Exit statuses are those of livepoint(1) and come from base/errcodes.def, but 3 (attention).  Not found (13) are
 *     points, disks and exports only: a file that is not there is a failure like any other (1).
 *  2. The first SIGINT or SIGTERM sets a flag that all long work looks at; the second ends at once,
 *     and so does an alarm STOP_SECONDS after the first, for what waits where no flag is looked at
 *     (a pipe that nobody writes, a program that gives the passphrase), unless the command has to take
 *     back what it began (a guest).  Ending is safe at any
 *     instant, because nothing listed depends on unfinished work.
 *  3. Descriptors 0, 1 and 2 are open: a file of a repository never gets one of these numbers, and
 *     with it what is meant for people.
 */
#include "cli/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/banned.h"

#define EXIT_ATTENTION 3
#define STOP_SECONDS 2

volatile int cli_stop;
volatile sig_atomic_t cli_stop_patiently;
volatile sig_atomic_t cli_progress_wanted;
static volatile sig_atomic_t json_errors;

static void on_stop(int sig)
{
	int code = sig == SIGINT ? ERR_INTERRUPTED : ERR_TERMINATED;

	if (cli_stop)
		_exit(sig == SIGINT ? 130 : 143);
	cli_stop = code;
	if (!cli_stop_patiently)
		alarm(STOP_SECONDS);
}

static void on_alarm(int sig)
{
	static const char *const lines[2][2] = {
		{ "livepoint: terminated\n", "livepoint: interrupted\n" },
		{ "{\"type\":\"error\",\"code\":\"terminated\",\"message\":\"terminated\",\"object\":null}\n",
		  "{\"type\":\"error\",\"code\":\"interrupted\",\"message\":\"interrupted\",\"object\":null}\n" },
	};
	bool interrupted = cli_stop == ERR_INTERRUPTED;
	const char *line = lines[json_errors][interrupted];

	(void)sig;
	(void)!write(STDERR_FILENO, line, strlen(line));
	_exit(interrupted ? 130 : 143);
}

static void on_progress(int sig)
{
	(void)sig;
	cli_progress_wanted = 1;
}

static void set_signals(void)
{
	/* no SA_RESTART for the first two: a prompt must notice */
	struct sigaction stop = { .sa_handler = on_stop };
	struct sigaction show = { .sa_handler = on_progress, .sa_flags = SA_RESTART };
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	struct sigaction end = { .sa_handler = on_alarm };

	sigaction(SIGALRM, &end, NULL);
	sigaction(SIGINT, &stop, NULL);
	sigaction(SIGTERM, &stop, NULL);
	sigaction(SIGUSR1, &show, NULL);
	/* a reader or an NBD peer that goes is an error of the write, not our death */
	sigaction(SIGPIPE, &ignore, NULL);
}

/* Invariant 3.  Opened the wrong way round, so that using one is still the error that it was. */
static void open_standard(void)
{
	int fd;

	for (fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
			(void)!open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

/* Any thread. */
static void log_line(void *opaque, enum log_level level, const char *line)
{
	const struct cli *cli = opaque;

	if (level == LOG_LEVEL_WARNING || level == LOG_LEVEL_ERROR)
		out_warning(cli, "%s", line);
	else if (!cli->json)
		fprintf(stderr, "livepoint: %s\n", line);
}

static void set_log(struct cli *cli)
{
	unsigned verbose = opt_count(&cli->opt, O_VERBOSE);
	enum log_level most = LOG_LEVEL_WARNING;

	if (verbose >= 2)
		most = LOG_LEVEL_DEBUG;
	else if (verbose == 1)
		most = LOG_LEVEL_INFO;
	log_set_sink(log_line, cli, most);
}

/* For the form of errors in the command line itself. */
static bool wants_json(int argc, char **argv)
{
	int i;

	for (i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--json") == 0)
			return true;
	return false;
}

static int run(struct cli *cli, struct err *err)
{
	const struct options *o = &cli->opt;
	int r;

	if (opt_given(o, O_HELP)) {
		options_help(o->command);
		return out_flush(err);
	}
	if (opt_given(o, O_VERSION))
		r = cmd_version(cli, err);
	else
		r = o->command->run(cli, err);
	if (r < 0) {
		fflush(stdout); /* what was found so far; its own failure is the smaller news */
		return r;
	}
	return out_flush(err);
}

int main(int argc, char **argv)
{
	struct cli cli = { .json = wants_json(argc, argv) };
	struct err err = ERR_INIT;
	int r, status;

	json_errors = cli.json;
	open_standard();
	tzset();
	set_signals();
	r = options_parse(argc, argv, &cli.opt, &err);
	cli.quiet = opt_given(&cli.opt, O_QUIET);
	set_log(&cli);
	if (r >= 0)
		r = run(&cli, &err);
	if (r == ERR_NOT_FOUND && err.no_file)
		r = err_recode(&err, ERR_IO);
	progress_clear();
	status = r < 0 ? err_code_exit(r) : cli.attention ? EXIT_ATTENTION : 0;
	if (r < 0 && !out_broken_pipe())
		out_error(cli.json, &err);
	options_release(&cli.opt);
	return status;
}
