// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * How a seal talks with the process that has the overlay attached: the UNIX socket `control` in the overlay's folder, lines of
 * text, one conversation at a time.
 *
 *	server					client
 *	ready
 *						freeze
 *	frozen FIRST LAST
 *						(reads these layers, publishes)
 *						rebase
 *	ok
 *
 * or, instead of any line of the server's, `error CODE TEXT` (CODE: a number of base/errcodes.def).
 *
 * 1. The socket is bound, and connected to, through a descriptor of its folder: a path may be longer than a socket's name.
 * 2. A conversation that ends early leaves the overlay frozen below and written above, which is right at any time: the next
 *    freeze, rebase or attach follows the catalog's row.
 * 3. The folder is the owner's alone (0700): who can connect could change the files too.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/pool.h"
#include "repo/overlay-life-internal.h"

#include "base/banned.h"

#define LINE_MAX_LEN 1280u /* an error's text and some */
#define CLIENT_STEP_MS 200
#define ANSWER_NS (600 * UINT64_C(1000000000)) /* for a freeze, which syncs what is dirty */

struct overlay_control {
	struct repo_overlay *overlay;
	struct pool *thread; /* of one thread */
	struct pool_job job;
	int listen_fd, wake_fd;
	int client_fd; /* -1: none */
	size_t len; /* of line */
	char line[LINE_MAX_LEN];
};

static int folder_open(struct repo *r, const char *id, struct sockaddr_un *name, struct err *err)
{
	cleanup_free char *path = overlay_path(r, id, NULL);
	int fd = path ? file_open(path, O_RDONLY | O_DIRECTORY, 0, err) :
			err_nomem(err, "path of an overlay");

	memset(name, 0, sizeof(*name));
	name->sun_family = AF_UNIX;
	snprintf(name->sun_path, sizeof(name->sun_path), "/proc/self/fd/%d/control", fd);
	return fd;
}

static int socket_new(struct err *err)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? err_set_errno(err, ERR_IO, errno, "make a socket") : fd;
}

/* --- the server --- */

/* Lines are far shorter than a socket's buffer: who does not read them is gone. */
static void say(int fd, const char *line)
{
	(void)send(fd, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void say_error(int fd, const struct err *e)
{
	char line[LINE_MAX_LEN];

	snprintf(line, sizeof(line), "error %d %.1024s\n", e->code, e->text);
	say(fd, line);
}

static void do_freeze(struct overlay_control *c)
{
	struct err err = ERR_INIT;
	char line[64];
	uint32_t first = 0, last = 0;

	if (overlay_freeze(c->overlay, &first, &last, &err) < 0) {
		log_warning("overlay '%s' was not frozen: %s", c->overlay->id, err.text);
		say_error(c->client_fd, &err);
		return;
	}
	snprintf(line, sizeof(line), "frozen %" PRIu32 " %" PRIu32 "\n", first, last);
	say(c->client_fd, line);
}

static void do_rebase(struct overlay_control *c)
{
	struct err err = ERR_INIT;

	if (overlay_rebase(c->overlay, &err) < 0) {
		log_warning("overlay '%s': %s", c->overlay->id, err.text);
		say_error(c->client_fd, &err);
		return;
	}
	say(c->client_fd, "ok\n");
}

static void do_line(struct overlay_control *c)
{
	struct err err = ERR_INIT;

	if (!strcmp(c->line, "freeze")) {
		do_freeze(c);
	} else if (!strcmp(c->line, "rebase")) {
		do_rebase(c);
	} else {
		err_set(&err, ERR_USAGE, "what is '%.40s'?", c->line);
		say_error(c->client_fd, &err);
	}
}

/* The conversation is over, maybe early: a point may have been published. */
static void client_end(struct overlay_control *c)
{
	struct err err = ERR_INIT;

	close(c->client_fd);
	c->client_fd = -1;
	c->len = 0;
	if (overlay_rebase(c->overlay, &err) < 0)
		log_warning("overlay '%s': %s", c->overlay->id, err.text);
}

static void client_input(struct overlay_control *c)
{
	ssize_t got = recv(c->client_fd, c->line + c->len, sizeof(c->line) - 1 - c->len, 0);
	char *end;

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		client_end(c);
		return;
	}
	c->len += (size_t)got;
	c->line[c->len] = '\0';
	while (c->client_fd >= 0 && (end = strchr(c->line, '\n'))) {
		*end = '\0';
		do_line(c);
		c->len -= (size_t)(end + 1 - c->line);
		memmove(c->line, end + 1, c->len + 1);
	}
	if (c->len == sizeof(c->line) - 1)
		client_end(c);
}

static void client_new(struct overlay_control *c)
{
	struct err err = ERR_INIT;
	int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	if (c->client_fd < 0) {
		c->client_fd = fd;
		say(fd, "ready\n");
		return;
	}
	err_set(&err, ERR_LOCKED, "overlay '%s' is being sealed already", c->overlay->id);
	say_error(fd, &err);
	close(fd);
}

static void serve(struct pool_job *job, void *ctx)
{
	struct overlay_control *c = container_of(job, struct overlay_control, job);

	(void)ctx;
	for (;;) {
		struct pollfd p[3] = { { .fd = c->wake_fd, .events = POLLIN },
				       { .fd = c->listen_fd, .events = POLLIN },
				       { .fd = c->client_fd, .events = POLLIN } };

		if (poll(p, ARRAY_SIZE(p), -1) < 0 && errno != EINTR)
			break;
		if (p[0].revents)
			break;
		if (c->client_fd >= 0 && p[2].revents)
			client_input(c);
		if (p[1].revents)
			client_new(c);
	}
}

static int control_bind(struct overlay_control *c, struct err *err)
{
	struct repo_overlay *o = c->overlay;
	struct sockaddr_un name;
	cleanup_free char *path = overlay_path(o->repo, o->id, "control");
	cleanup_fd int folder = -1;
	int r;

	if (!path)
		return err_nomem(err, "path of an overlay");
	folder = folder_open(o->repo, o->id, &name, err);
	if (folder < 0)
		return folder;
	/* Of a holder that died: we have the lock. */
	r = file_unlink(path, "overlay.control.remove", err);
	if (r < 0)
		return r;
	c->listen_fd = socket_new(err);
	if (c->listen_fd < 0)
		return c->listen_fd;
	if (bind(c->listen_fd, (struct sockaddr *)&name, sizeof(name)) < 0 ||
	    listen(c->listen_fd, 8) < 0)
		return err_set_errno(err, ERR_IO, errno, "listen on '%s'", path);
	c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return c->wake_fd < 0 ? err_set_errno(err, ERR_IO, errno, "make an eventfd") : 0;
}

int overlay_control_start(struct repo_overlay *o, struct overlay_control **out, struct err *err)
{
	struct overlay_control *c = mem_alloc(sizeof(*c));
	int r;

	if (!c)
		return err_nomem(err, "control of an overlay");
	c->overlay = o;
	c->listen_fd = c->wake_fd = c->client_fd = -1;
	r = control_bind(c, err);
	if (r == 0)
		r = pool_new(1, NULL, &c->thread, err);
	if (r < 0) {
		overlay_control_stop(c);
		return r;
	}
	c->job.run = serve;
	pool_submit(c->thread, &c->job);
	*out = c;
	return 0;
}

void overlay_control_stop(struct overlay_control *c)
{
	cleanup_free char *path = NULL;
	uint64_t one = 1;

	if (!c)
		return;
	if (c->thread && write(c->wake_fd, &one, sizeof(one)) != sizeof(one))
		log_error("overlay '%s': its control thread cannot be woken", c->overlay->id);
	pool_free(c->thread);
	path = overlay_path(c->overlay->repo, c->overlay->id, "control");
	if (c->listen_fd >= 0 && path)
		(void)file_unlink(path, "overlay.control.remove", NULL);
	base_cleanup_fd(&c->client_fd);
	base_cleanup_fd(&c->listen_fd);
	base_cleanup_fd(&c->wake_fd);
	free(c);
}

/* --- the client --- */

struct overlay_client {
	int fd;
	char id[OVERLAY_ID_TEXT];
	const volatile int *stop;
	size_t len;
	char line[LINE_MAX_LEN];
};

static int stopped(const struct overlay_client *c, struct err *err)
{
	int code = c->stop ? *c->stop : 0;

	return code ? err_set(err, code, "%s", err_code_sentence(code)) : 0;
}

static int no_answer(const struct overlay_client *c, struct err *err)
{
	err_set(err, ERR_LOCKED, "the server of overlay '%s' does not answer", c->id);
	return err_object(err, "%s", c->id);
}

/* The next line, without its end, into line; at most LINE_MAX_LEN. */
static int hear(struct overlay_client *c, uint64_t until, char line[LINE_MAX_LEN], struct err *err)
{
	for (;;) {
		struct pollfd p = { .fd = c->fd, .events = POLLIN };
		char *end = memchr(c->line, '\n', c->len);
		ssize_t got;
		int r;

		if (end) {
			size_t n = (size_t)(end - c->line);

			memcpy(line, c->line, n);
			line[n] = '\0';
			c->len -= n + 1;
			memmove(c->line, end + 1, c->len);
			return 0;
		}
		r = stopped(c, err);
		if (r < 0)
			return r;
		if (time_mono_ns() >= until || c->len == sizeof(c->line))
			return no_answer(c, err);
		if (poll(&p, 1, CLIENT_STEP_MS) <= 0)
			continue;
		got = recv(c->fd, c->line + c->len, sizeof(c->line) - c->len, 0);
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (got <= 0) {
			err_set(err, ERR_IO, "the server of overlay '%s' has ended", c->id);
			return err_object(err, "%s", c->id);
		}
		c->len += (size_t)got;
	}
}

/* `error CODE TEXT` as an error. */
static int answer_error(const struct overlay_client *c, const char *line, struct err *err)
{
	char *text = NULL;
	long code = str_starts(line, "error ") ? strtol(line + 6, &text, 10) : 0;

	if (code > ERR_FIRST_ && code < ERR_LAST_)
		err_set(err, (int)code, "%s", text + (*text == ' '));
	else
		err_set(err, ERR_IO, "the server of overlay '%s' says '%.80s'", c->id, line);
	return err_object(err, "%s", c->id);
}

static int client_connect(struct repo *r, struct overlay_client *c, struct err *err)
{
	struct sockaddr_un name;
	cleanup_fd int folder = folder_open(r, c->id, &name, err);

	if (folder < 0)
		return folder;
	c->fd = socket_new(err);
	if (c->fd < 0)
		return c->fd;
	if (connect(c->fd, (struct sockaddr *)&name, sizeof(name)) == 0)
		return 0;
	if (errno == EAGAIN)
		return no_answer(c, err);
	if (errno == ENOENT || errno == ECONNREFUSED)
		return err_set(err, ERR_NOT_FOUND, "no server has overlay '%s'", c->id);
	return err_set_errno(err, ERR_IO, errno, "connect to the server of overlay '%s'", c->id);
}

int overlay_client_open(struct repo *r, const char *id, uint64_t until, const volatile int *stop,
			struct overlay_client **out, struct err *err)
{
	cleanup_ptr(overlay_client) c = mem_alloc(sizeof(*c));
	char line[LINE_MAX_LEN];
	int ret;

	if (!c)
		return err_nomem(err, "seal of an overlay");
	c->fd = -1;
	c->stop = stop;
	str_copy(c->id, sizeof(c->id), id);
	ret = client_connect(r, c, err);
	if (ret == 0)
		ret = hear(c, until, line, err);
	if (ret < 0)
		return ret;
	if (strcmp(line, "ready") != 0)
		return answer_error(c, line, err);
	*out = steal_ptr(c);
	return 0;
}

void overlay_client_close(struct overlay_client *c)
{
	if (!c)
		return;
	base_cleanup_fd(&c->fd);
	free(c);
}

static int ask(struct overlay_client *c, const char *question, char line[LINE_MAX_LEN],
	       struct err *err)
{
	if (send(c->fd, question, strlen(question), MSG_NOSIGNAL) != (ssize_t)strlen(question))
		return err_set_errno(err, ERR_IO, errno, "the server of overlay '%s'", c->id);
	return hear(c, time_mono_ns() + ANSWER_NS, line, err);
}

int overlay_client_freeze(struct overlay_client *c, uint32_t *first, uint32_t *last,
			  struct err *err)
{
	char line[LINE_MAX_LEN], *at;
	unsigned long a, b;
	int r = ask(c, "freeze\n", line, err);

	if (r < 0)
		return r;
	if (!str_starts(line, "frozen "))
		return answer_error(c, line, err);
	a = strtoul(line + 7, &at, 10);
	b = strtoul(at, NULL, 10);
	if (a == 0 || b < a || b >= UINT32_MAX)
		return answer_error(c, line, err);
	*first = (uint32_t)a;
	*last = (uint32_t)b;
	return 0;
}

int overlay_client_rebase(struct overlay_client *c, struct err *err)
{
	char line[LINE_MAX_LEN];
	int r = ask(c, "rebase\n", line, err);

	if (r < 0)
		return r;
	return strcmp(line, "ok") == 0 ? 0 : answer_error(c, line, err);
}
