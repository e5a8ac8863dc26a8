// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Where the passphrase comes from: descriptor, file, command, then the same from the environment, then
 * a prompt on a terminal.
 *
 * Invariants:
 *  1. It stands in one buffer of the caller, which is wiped; what passes through others is wiped too.
 *  2. After it was read from the environment it is removed there: child processes do not inherit it.
 *  3. A prompt appears only if standard error is a terminal; without one the answer is an error at once.
 *  4. Echo comes back whatever ends the prompt.
 *  5. Before a secret comes, the process is closed to core dumps and debuggers; it stays so, for the key follows.
 */
#include "cli/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <termios.h>
#include <unistd.h>

#include "base/file.h"
#include "base/proc.h"

#include "base/banned.h"

void passphrase_wipe(struct passphrase *p)
{
	mem_wipe(p, sizeof(*p));
	munlock(p, sizeof(*p));
}

/* Takes n bytes that were read, drops one newline, checks what is left. */
static int passphrase_accept(struct passphrase *p, size_t n, const char *from, struct err *err)
{
	if (n > 0 && p->text[n - 1] == '\n')
		n--;
	if (n > PASSPHRASE_MAX)
		return err_set(err, ERR_KEY, "the passphrase from %s is longer than %d bytes", from,
			       PASSPHRASE_MAX);
	if (n == 0)
		return err_set(err, ERR_KEY, "the passphrase from %s is empty", from);
	p->len = n;
	p->text[n] = 0;
	return 1;
}

/* Reads to the end of a descriptor. */
static int passphrase_read(int fd, const char *from, struct passphrase *p, struct err *err)
{
	size_t n = 0;

	while (n < sizeof(p->text)) {
		ssize_t r = file_read_some(fd, p->text + n, sizeof(p->text) - n, from, err);

		if (r < 0)
			return err_recode(err, ERR_KEY);
		if (r == 0)
			break;
		n += (size_t)r;
	}
	return passphrase_accept(p, n, from, err);
}

static int passphrase_from_fd(const char *number, struct passphrase *p, struct err *err)
{
	cleanup_fd int fd = -1;
	char from[64];
	uint64_t n;

	if (!parse_u64(number, &n) || n > INT_MAX)
		return err_set(err, ERR_USAGE, "'%.32s' is no descriptor for the passphrase",
			       number);
	snprintf(from, sizeof(from), "descriptor %llu", (unsigned long long)n);
	if (fcntl((int)n, F_GETFD) < 0)
		return err_set(err, ERR_KEY, "%s, which should give the passphrase, is not open",
			       from);
	/* closed when read, so that no child gets it; the standard ones stay */
	fd = n > STDERR_FILENO ? (int)n : fcntl((int)n, F_DUPFD_CLOEXEC, 3);
	return passphrase_read(fd, from, p, err);
}

static int passphrase_from_file(const char *path, struct passphrase *p, struct err *err)
{
	cleanup_fd int fd = file_open(path, O_RDONLY | O_NOCTTY, 0, err);

	if (fd < 0) {
		err_recode(err, ERR_KEY);
		return err_prefix(err, "passphrase file");
	}
	return passphrase_read(fd, path, p, err);
}

static int passphrase_from_command(const char *command, struct passphrase *p, struct err *err)
{
	const char *const argv[] = { "sh", "-c", command, NULL };
	cleanup_buf struct buf out = BUF_INIT;
	size_t n;
	int r = proc_run(argv, &out, sizeof(p->text), err);

	n = MIN(out.len, sizeof(p->text));
	if (r >= 0)
		memcpy(p->text, out.data ? out.data : (const uint8_t *)"", n);
	if (out.data)
		mem_wipe(out.data, out.cap);
	if (r < 0) {
		err_recode(err, ERR_KEY);
		return err_prefix(err, "passphrase command");
	}
	return passphrase_accept(p, n, "the command", err);
}

static int passphrase_from_environment(struct passphrase *p, struct err *err)
{
	const char *value = getenv("LIVEPOINT_PASSPHRASE");
	size_t n;
	int r;

	if (!value)
		return 0;
	n = MIN(strlen(value), sizeof(p->text));
	memcpy(p->text, value, n);
	r = passphrase_accept(p, n, "LIVEPOINT_PASSPHRASE", err);
	unsetenv("LIVEPOINT_PASSPHRASE");
	return r;
}

/* Reads one line without echo; 0 bytes: nothing was typed. */
static int prompt_line(int tty, const char *question, struct passphrase *p, struct err *err)
{
	struct termios old, quiet;
	size_t n = 0;
	ssize_t r = -1;

	if (tcgetattr(tty, &old) < 0)
		return err_set_errno(err, ERR_KEY, errno, "asking for the passphrase");
	quiet = old;
	quiet.c_lflag &= ~(tcflag_t)ECHO;
	quiet.c_lflag |= ICANON | ECHONL;
	if (tcsetattr(tty, TCSAFLUSH, &quiet) < 0)
		return err_set_errno(err, ERR_KEY, errno, "asking for the passphrase");
	if (dprintf(tty, "%s: ", question) > 0) {
		do {
			r = read(tty, p->text + n, sizeof(p->text) - n);
			n += r > 0 ? (size_t)r : 0;
		} while (!cli_stop && n < sizeof(p->text) &&
			 ((r < 0 && errno == EINTR) || (r > 0 && p->text[n - 1] != '\n')));
	}
	tcsetattr(tty, TCSAFLUSH, &old);
	if (cli_stop)
		dprintf(tty, "\n");
	if (cli_stop)
		return err_set(err, cli_stop, "asking for the passphrase: %s",
			       err_code_sentence(cli_stop));
	if (r < 0)
		return err_set(err, ERR_KEY, "the passphrase could not be read from the terminal");
	return passphrase_accept(p, n, "the terminal", err);
}

/* twice: NULL, or what to ask before the second time.  missing: what to say if nobody can be asked. */
static int prompt(const char *question, const char *twice, const char *missing,
		  struct passphrase *p, struct err *err)
{
	cleanup_passphrase struct passphrase again = { .len = 0 };
	cleanup_fd int tty = -1;
	int r;

	if (isatty(STDERR_FILENO))
		tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	if (tty < 0)
		return err_set(err, ERR_KEY, "%s", missing);
	r = prompt_line(tty, question, p, err);
	if (r < 0 || !twice)
		return r;
	r = prompt_line(tty, twice, &again, err);
	if (r < 0)
		return r;
	if (again.len != p->len || memcmp(again.text, p->text, p->len) != 0)
		return err_set(err, ERR_KEY, "the two passphrases differ");
	return 1;
}

int passphrase_file(const char *path, struct passphrase *out, struct err *err)
{
	return passphrase_from_file(path, out, err);
}

static const char no_passphrase[] =
	"no passphrase was given: use --passphrase-file, --passphrase-fd, --passphrase-command or "
	"their variables";

struct source {
	enum opt_id option;
	const char *variable;
	int (*get)(const char *, struct passphrase *, struct err *);
};

/* A secret is about to come. */
static void prepare(struct passphrase *out)
{
	proc_hide_memory();
	(void)!mlock(out, sizeof(*out)); /* there may be no room for it: then it can be swapped */
}

int passphrase_get(const struct cli *cli, enum passphrase_how how, struct passphrase *out,
		   struct err *err)
{
	static const struct source sources[] = {
		{ O_PASSPHRASE_FD, "LIVEPOINT_PASSPHRASE_FD", passphrase_from_fd },
		{ O_PASSPHRASE_FILE, "LIVEPOINT_PASSPHRASE_FILE", passphrase_from_file },
		{ O_PASSPHRASE_COMMAND, "LIVEPOINT_PASSPHRASE_COMMAND", passphrase_from_command },
	};
	const char *value;
	size_t i;
	int r;

	prepare(out);
	for (i = 0; i < ARRAY_SIZE(sources); i++)
		if ((value = opt_text(&cli->opt, sources[i].option)) != NULL)
			return sources[i].get(value, out, err);
	for (i = 0; i < ARRAY_SIZE(sources); i++)
		if ((value = getenv(sources[i].variable)) != NULL && *value)
			return sources[i].get(value, out, err);
	r = passphrase_from_environment(out, err);
	if (r != 0 || how == PASSPHRASE_GIVEN)
		return r;
	if (how == PASSPHRASE_ASK_TWICE)
		return prompt("New passphrase", "The same again", no_passphrase, out, err);
	return prompt("Passphrase", NULL, no_passphrase, out, err);
}

int passphrase_new(const struct cli *cli, struct passphrase *out, struct err *err)
{
	static const struct source sources[] = {
		{ O_NEW_PASSPHRASE_FD, NULL, passphrase_from_fd },
		{ O_NEW_PASSPHRASE_FILE, NULL, passphrase_from_file },
		{ O_NEW_PASSPHRASE_COMMAND, NULL, passphrase_from_command },
	};
	const char *value;
	size_t i;

	prepare(out);
	for (i = 0; i < ARRAY_SIZE(sources); i++)
		if ((value = opt_text(&cli->opt, sources[i].option)) != NULL)
			return sources[i].get(value, out, err);
	return prompt(
		"New passphrase", "The same again",
		"no new passphrase was given: use --new-passphrase-file, --new-passphrase-fd or "
		"--new-passphrase-command",
		out, err);
}

int passphrase_recovery(const struct cli *cli, struct passphrase *out, struct err *err)
{
	const char *file = opt_text(&cli->opt, O_RECOVERY_FILE);

	prepare(out);
	if (file)
		return passphrase_from_file(file, out, err);
	if (isatty(STDIN_FILENO))
		return prompt("Recovery key", NULL, "no recovery key was given", out, err);
	return passphrase_read(STDIN_FILENO, "standard input", out, err);
}
