// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * virt/ from the shell: runs one guest through the face of the room, for tests/virt-session.sh and others.
 *
 *	virt-driver COMMAND [ARGUMENT...]
 *
 * Connects to LIBVIRT_DEFAULT_URI, does one thing, prints what it found as "key=value" lines.  Exit 0, or 1 with the error and
 * its code ("not-found: ...") on stderr.
 */
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "virt/accel.h"
#include "virt/virt.h"
#include "virt/xml.h"

#include "base/banned.h"

#define WAIT_MS 60000

struct driver {
	struct virt *v;
	int argc;
	char **argv; /* of the command */
};

static const char *arg(const struct driver *d, int i)
{
	return i < d->argc ? d->argv[i] : NULL;
}

static int find(struct driver *d, struct virt_domain **out, struct err *err)
{
	return virt_domain_find(d->v, arg(d, 0), out, err);
}

/* uri */
static int do_open(struct driver *d, struct err *err)
{
	(void)err;
	printf("uri=%s\nsession=%d\nlocal=%d\nalive=%d\n", virt_uri(d->v), virt_is_session(d->v),
	       virt_is_local(d->v), virt_is_alive(d->v));
	return 0;
}

/* NAME UUID */
static int do_knows(struct driver *d, struct err *err)
{
	int r = virt_knows(d->v, arg(d, 0), arg(d, 1), err);

	if (r >= 0)
		printf("name=%d\nuuid=%d\n", !!(r & VIRT_KNOWS_NAME), !!(r & VIRT_KNOWS_UUID));
	return r;
}

/* make NAME SOCKET EXPORT SERIAL-FILE [bios|uefi NVRAM] [BUS]: a guest for one NBD disk, as XML */
static int do_make(struct driver *d, struct err *err)
{
	const struct virt_source disk = { .kind = VIRT_SOURCE_NBD,
					  .socket = arg(d, 1),
					  .export_name = arg(d, 2),
					  .reconnect = 10 };
	bool uefi = arg(d, 4) && strcmp(arg(d, 4), "uefi") == 0;
	cleanup_ptr(virt_host) host = NULL;
	cleanup_free char *caps = NULL, *xml = NULL;
	struct virt_make how = { .name = arg(d, 0),
				 .memory = 64 * MiB,
				 .firmware = uefi ? VIRT_UEFI : VIRT_BIOS,
				 .nvram = arg(d, 5),
				 .bus = arg(d, 6),
				 .disks = &disk,
				 .ndisks = 1,
				 .serial = VIRT_SERIAL_FILE,
				 .serial_path = arg(d, 3),
				 .graphics = VIRT_GRAPHICS_SOCKET,
				 .network = "user",
				 .on_reboot = VIRT_ON_RESTART };
	int r = virt_accel_probe(&how.accel, err);

	if (r == 0)
		r = virt_host_xml(d->v, NULL, uefi ? "q35" : NULL, &caps, err);
	if (r == 0)
		r = virt_host_read(caps, strlen(caps), virt_is_local(d->v), &host, err);
	if (r < 0)
		return r;
	how.host = host;
	r = virt_xml_make(&how, &xml, err);
	if (r == 0)
		puts(xml);
	return r;
}

/* host [MACHINE] */
static int do_host(struct driver *d, struct err *err)
{
	cleanup_free char *xml = NULL;
	int r = virt_host_xml(d->v, NULL, arg(d, 0), &xml, err);

	if (r == 0)
		puts(xml);
	return r;
}

/* create FILE [paused] */
static int do_create(struct driver *d, struct err *err)
{
	cleanup_ptr(virt_domain) dom = NULL;
	cleanup_buf struct buf xml = BUF_INIT;
	unsigned flags = VIRT_CREATE_VALIDATE | (arg(d, 1) ? VIRT_CREATE_PAUSED : 0);
	int r = file_read_all(arg(d, 0), VIRT_XML_MAX, &xml, err);

	if (r == 0)
		r = virt_domain_create(d->v, buf_str(&xml), flags, &dom, err);
	if (r == 0)
		printf("name=%s\nuuid=%s\n", virt_domain_name(dom), virt_domain_uuid(dom));
	return r;
}

/* define FILE */
static int do_define(struct driver *d, struct err *err)
{
	cleanup_buf struct buf xml = BUF_INIT;
	int r = file_read_all(arg(d, 0), VIRT_XML_MAX, &xml, err);

	return r < 0 ? r : virt_domain_define(d->v, buf_str(&xml), NULL, err);
}

static int do_status(struct driver *d, struct err *err)
{
	static const char *const states[] = {
		"gone", "off", "running", "paused", "crashed", "other"
	};
	static const char *const reasons[] = { "other",	   "user",	"io-error",
					       "shutdown", "destroyed", "failed" };
	cleanup_ptr(virt_domain) dom = NULL;
	struct virt_status s;
	int r = find(d, &dom, err);

	if (r == 0)
		r = virt_domain_status(dom, &s, err);
	if (r == 0)
		printf("state=%s\nreason=%s\npersistent=%d\n", states[s.state], reasons[s.reason],
		       s.persistent);
	return r;
}

static int do_power(struct driver *d, struct err *err)
{
	static const struct {
		const char *name;
		int (*fn)(struct virt_domain *dom, struct err *err);
	} verbs[] = {
		{ "resume", virt_domain_resume },     { "suspend", virt_domain_suspend },
		{ "destroy", virt_domain_destroy },   { "shutdown", virt_domain_shutdown },
		{ "reset", virt_domain_reset },	      { "persist", virt_domain_persist },
		{ "undefine", virt_domain_undefine },
	};
	cleanup_ptr(virt_domain) dom = NULL;
	int r = find(d, &dom, err);
	size_t i;

	for (i = 0; i < ARRAY_SIZE(verbs) && r == 0; i++)
		if (arg(d, 1) && strcmp(verbs[i].name, arg(d, 1)) == 0) {
			r = verbs[i].fn(dom, err);
			if (r >= 0)
				printf("result=%d\n", r);
			return r;
		}
	return r < 0 ? r : err_set(err, ERR_USAGE, "no such verb");
}

/* xml NAME live|inactive|migratable */
static int do_xml(struct driver *d, struct err *err)
{
	cleanup_ptr(virt_domain) dom = NULL;
	cleanup_free char *xml = NULL;
	const char *kind = arg(d, 1);
	int r = find(d, &dom, err);

	if (r == 0)
		r = virt_domain_xml(dom,
				    kind[0] == 'l' ? VIRT_XML_LIVE :
				    kind[0] == 'i' ? VIRT_XML_INACTIVE :
						     VIRT_XML_MIGRATABLE,
				    &xml, err);
	if (r == 0)
		puts(xml);
	return r;
}

/* disks NAME: of the live XML */
static int do_disks(struct driver *d, struct err *err)
{
	cleanup_ptr(virt_domain) dom = NULL;
	cleanup_ptr(virt_xml_info) info = NULL;
	cleanup_free char *xml = NULL;
	struct virt_disk_error errors[8];
	unsigned i;
	int n, r = find(d, &dom, err);

	if (r == 0)
		r = virt_domain_xml(dom, VIRT_XML_LIVE, &xml, err);
	if (r == 0)
		r = virt_xml_read(xml, strlen(xml), &info, err);
	for (i = 0; r == 0 && i < info->ndisks; i++) {
		const struct virt_xml_disk *disk = &info->disks[i];
		uint64_t size = 0;

		virt_domain_disk_size(dom, disk->target, &size, NULL);
		printf("disk=%s %s %s %s reconnect=%d size=%llu\n", disk->target, disk->bus,
		       disk->kind, disk->source ? disk->source : "-", disk->reconnect,
		       (unsigned long long)size);
	}
	n = r < 0 ? r : virt_domain_disk_errors(dom, errors, ARRAY_SIZE(errors), err);
	for (i = 0; n > 0 && i < (unsigned)n; i++)
		printf("error=%s no-space=%d\n", errors[i].target, errors[i].no_space);
	return n < 0 ? n : r;
}

static const char *copy_word(enum virt_copy_state state)
{
	static const char *const words[] = { "none",   "running", "ready",
					     "failed", "done",	  "canceled" };

	return words[state];
}

static void print_copy(const struct virt_copy_status *s)
{
	printf("copy=%s\ndone=%llu\ntotal=%llu\nbandwidth=%llu\n", copy_word(s->state),
	       (unsigned long long)s->done, (unsigned long long)s->total,
	       (unsigned long long)s->bandwidth);
}

/* Reads events until one says what became of the copy. */
static int copy_event(struct driver *d, const char *disk, enum virt_copy_state *got,
		      struct err *err)
{
	struct virt_event e;
	unsigned i;

	for (i = 0; i < 200; i++) {
		int r = virt_event_next(d->v, WAIT_MS / 200, &e, err);

		if (r < 0)
			return r;
		if (r == 1 && e.kind == VIRT_EVENT_COPY && strcmp(e.disk, disk) == 0) {
			*got = e.copy;
			return 0;
		}
	}
	return err_set(err, ERR_IO, "no event of the copy within a minute");
}

/* copy NAME TARGET FILE FORMAT reuse|make BANDWIDTH [pivot]: to READY (or its failure), and on */
static int do_copy(struct driver *d, struct err *err)
{
	const struct virt_target to = { .kind = VIRT_TARGET_FILE,
					.path = arg(d, 2),
					.format = arg(d, 3) };
	const char *disk = arg(d, 1);
	cleanup_ptr(virt_domain) dom = NULL;
	struct virt_copy_status s;
	enum virt_copy_state told;
	uint64_t bandwidth = 0;
	int r = find(d, &dom, err);

	if (arg(d, 5))
		parse_size(arg(d, 5), &bandwidth);
	if (r == 0)
		r = virt_copy_start(dom, disk, &to,
				    strcmp(arg(d, 4), "reuse") == 0 ? VIRT_COPY_REUSE : 0,
				    bandwidth, err);
	if (r == 0 && bandwidth) { /* READY must not come before it is let go */
		r = virt_copy_status(dom, disk, &s, err);
		if (r == 0)
			printf("early=%s %llu\n", copy_word(s.state),
			       (unsigned long long)s.bandwidth);
		if (r == 0 && virt_copy_pivot(dom, disk, err) != ERR_REFUSED)
			return err_set(err, ERR_FAILED, "a pivot before READY was not refused");
		r = r < 0 ? r : virt_copy_set_bandwidth(dom, disk, 0, err);
	}
	if (r == 0)
		r = virt_copy_wait(dom, disk, WAIT_MS, &s, err);
	if (r < 0)
		return r;
	print_copy(&s);
	r = copy_event(d, disk, &told, err);
	if (r < 0)
		return r;
	printf("event=%s\n", copy_word(told));
	if (s.state != VIRT_COPY_READY || !arg(d, 6))
		return 0;
	if (strcmp(arg(d, 6), "abort") == 0) {
		r = virt_copy_abort(dom, disk, err);
		printf("abort=%d again=%d\n", r, virt_copy_abort(dom, disk, err));
	} else {
		r = virt_copy_pivot(dom, disk, err);
	}
	if (r < 0)
		return r;
	r = copy_event(d, disk, &told, err);
	printf("end=%s\n", copy_word(told));
	return r;
}

static int do_copy_status(struct driver *d, struct err *err)
{
	cleanup_ptr(virt_domain) dom = NULL;
	struct virt_copy_status s;
	int r = find(d, &dom, err);

	if (r == 0)
		r = virt_copy_status(dom, arg(d, 1), &s, err);
	if (r == 0)
		print_copy(&s);
	return r;
}

/* screenshot NAME FILE */
static int do_screenshot(struct driver *d, struct err *err)
{
	cleanup_ptr(virt_domain) dom = NULL;
	cleanup_buf struct buf png = BUF_INIT;
	int r = find(d, &dom, err);

	if (r == 0)
		r = virt_domain_screenshot(dom, &png, err);
	if (r == 0)
		r = file_write_all(arg(d, 1), png.data, png.len, 0600, true, "virt.driver", err);
	return r;
}

/* agent NAME JSON SECONDS */
static int do_agent(struct driver *d, struct err *err)
{
	cleanup_ptr(virt_domain) dom = NULL;
	cleanup_free char *reply = NULL;
	uint64_t seconds = 1;
	int r = find(d, &dom, err);

	parse_u64(arg(d, 2), &seconds);
	if (r == 0)
		r = virt_agent(dom, arg(d, 1), (unsigned)seconds, &reply, err);
	if (r == 0)
		puts(reply);
	return r;
}

/* events SECONDS: prints each until the time is over */
static int do_events(struct driver *d, struct err *err)
{
	static const char *const kinds[] = { "started",	 "stopped", "paused", "resumed", "reboot",
					     "io-error", "copy",    "agent",  "closed",	 "missed" };
	uint64_t seconds = 1, until;
	struct virt_event e;
	int r = 0;

	parse_u64(arg(d, 0), &seconds);
	until = time_mono_ns() + seconds * 1000000000ull;
	printf("waiting=%d\n", (int)getpid());
	fflush(stdout);
	while (r >= 0 && time_mono_ns() < until) {
		r = virt_event_next(d->v, 100, &e, err);
		if (r == 1) {
			printf("event=%s reason=%d name=%s disk=%s text=%s\n", kinds[e.kind],
			       e.reason, e.name, e.disk, e.text);
			fflush(stdout);
		}
	}
	return r < 0 ? r : 0;
}

/* volume POOL NAME FORMAT SIZE */
static int do_volume(struct driver *d, struct err *err)
{
	cleanup_free char *path = NULL;
	uint64_t size = 0;
	bool block;
	int r;

	parse_size(arg(d, 3), &size);
	r = virt_volume_create(d->v, arg(d, 0), arg(d, 1), arg(d, 2), size, &path, &block, err);
	if (r == 0)
		r = virt_pool_refresh(d->v, arg(d, 0), err);
	if (r == 0)
		printf("path=%s\nblock=%d\n", path, block);
	return r;
}

static int do_volume_remove(struct driver *d, struct err *err)
{
	int r = virt_volume_remove(d->v, arg(d, 0), arg(d, 1), err);

	if (r >= 0)
		printf("result=%d\n", r);
	return r;
}

/* network NAME up|down */
static int do_network(struct driver *d, struct err *err)
{
	int r = strcmp(arg(d, 1), "up") == 0 ? virt_network_isolated(d->v, arg(d, 0), false, err) :
					       virt_network_destroy(d->v, arg(d, 0), err);

	if (r >= 0)
		printf("result=%d\n", r);
	return r;
}

/* slow MS: a call that may take longer than MS */
static int do_slow(struct driver *d, struct err *err)
{
	cleanup_free char *xml = NULL;
	uint64_t ms = 1;

	parse_u64(arg(d, 0), &ms);
	virt_set_limit(d->v, (unsigned)ms);
	return virt_host_xml(d->v, NULL, NULL, &xml, err);
}

static const struct {
	const char *name;
	int least; /* arguments */
	int (*fn)(struct driver *d, struct err *err);
} commands[] = {
	{ "open", 0, do_open },
	{ "knows", 2, do_knows },
	{ "host", 0, do_host },
	{ "make", 4, do_make },
	{ "create", 1, do_create },
	{ "define", 1, do_define },
	{ "status", 1, do_status },
	{ "power", 2, do_power },
	{ "xml", 2, do_xml },
	{ "disks", 1, do_disks },
	{ "copy", 5, do_copy },
	{ "copy-status", 2, do_copy_status },
	{ "screenshot", 2, do_screenshot },
	{ "agent", 3, do_agent },
	{ "events", 1, do_events },
	{ "volume", 4, do_volume },
	{ "volume-remove", 2, do_volume_remove },
	{ "network", 2, do_network },
	{ "slow", 1, do_slow },
};

static int run(int argc, char **argv, struct err *err)
{
	cleanup_ptr(virt) v = NULL;
	struct driver d = { .argc = argc - 2, .argv = argv + 2 };
	size_t i;
	int r;

	for (i = 0; i < ARRAY_SIZE(commands); i++)
		if (argc > 1 && strcmp(commands[i].name, argv[1]) == 0 &&
		    d.argc >= commands[i].least)
			break;
	if (i == ARRAY_SIZE(commands))
		return err_set(err, ERR_USAGE, "no such command, or too few arguments");
	r = virt_open(NULL, &v, err);
	if (r < 0)
		return r;
	d.v = v;
	return commands[i].fn(&d, err);
}

int main(int argc, char **argv)
{
	struct err err = ERR_INIT;

	if (run(argc, argv, &err) >= 0)
		return 0;
	fprintf(stderr, "%s: %s\n", err_code_name(err.code), err.text);
	return 1;
}
