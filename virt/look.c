// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Looking into a guest: its screen, and commands to its agent; see virt/virt.h.
 *
 * Invariants:
 *  1. A screenshot is what QEMU sent, checked for PNG by its type and its first bytes; nothing is converted.
 *  2. No answer of a guest is longer than SCREEN_MAX or AGENT_MAX: a guest is not trusted.
 */
#include "virt/internal.h"

#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>
#include <stdlib.h>

#include "base/banned.h"

#define SCREEN_MAX (64 * MiB)
#define AGENT_MAX (64 * MiB) /* libvirt's own bound is 16 MiB */
#define AGENT_SECONDS_MAX 3600
#define STREAM_PIECE 65536

static const uint8_t png_magic[] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n' };

static int stream_read(struct virt_call *c, virStreamPtr stream)
{
	cleanup_free char *piece = mem_alloc(STREAM_PIECE);

	if (!piece)
		return err_nomem(&c->err, c->what);
	for (;;) {
		int n = virStreamRecv(stream, piece, STREAM_PIECE);

		if (n < 0)
			return virt_failed(c);
		if (n == 0)
			return virStreamFinish(stream) < 0 ? virt_failed(c) : 0;
		buf_put(&c->bytes, piece, (size_t)n);
		if (c->bytes.failed)
			return err_nomem(&c->err, c->what);
		if (c->bytes.len > SCREEN_MAX)
			return err_set(&c->err, ERR_TOO_BIG, "%s: over %llu bytes", c->what,
				       (unsigned long long)SCREEN_MAX);
	}
}

static int screen_call(struct virt_call *c)
{
	virStreamPtr stream = virStreamNew(c->conn, 0);
	int r;

	if (!stream)
		return virt_failed(c);
	c->text = virDomainScreenshot(c->dom, stream, 0, 0);
	r = c->text ? stream_read(c, stream) : virt_failed(c);
	if (r < 0)
		virStreamAbort(stream);
	virStreamFree(stream);
	return r;
}

int virt_domain_screenshot(struct virt_domain *d, struct buf *png, struct err *err)
{
	cleanup_ptr(virt_call) c = virt_call_new(d->v, d, "cannot take a screenshot", screen_call);
	int r = virt_call_run(c, err);

	if (r < 0) {
		err_object(err, "%s", d->name);
		return r;
	}
	if (strcmp(c->text, "image/png") != 0 || c->bytes.len < sizeof(png_magic) ||
	    memcmp(c->bytes.data, png_magic, sizeof(png_magic)) != 0)
		return err_set(err, ERR_UNSUPPORTED,
			       "screenshot: QEMU sent a picture of type \"%.40s\", not PNG",
			       c->text);
	buf_put(png, c->bytes.data, c->bytes.len);
	return png->failed ? err_nomem(err, "a screenshot") : 0;
}

static int agent_call(struct virt_call *c)
{
	int r;

	c->text = virDomainQemuAgentCommand(c->dom, c->s[0], (int)c->n, 0);
	if (!c->text) {
		r = virt_failed(c);
		/* no channel, or none that is connected: libvirt has one code for argument errors of all kinds */
		if (virt_last() == VIR_ERR_ARGUMENT_UNSUPPORTED ||
		    virt_last() == VIR_ERR_CONFIG_UNSUPPORTED)
			return err_recode(&c->err, ERR_UNSUPPORTED);
		return r;
	}
	if (strlen(c->text) > AGENT_MAX)
		return err_set(&c->err, ERR_TOO_BIG, "%s: the reply is too long", c->what);
	return 0;
}

int virt_agent(struct virt_domain *d, const char *command, unsigned seconds, char **reply,
	       struct err *err)
{
	cleanup_ptr(virt_call) c = virt_call_new(d->v, d, "command to the guest agent", agent_call);
	int r;

	if (!virt_call_string(c, 0, command))
		return err_nomem(err, "a call to libvirt");
	c->n = MIN(MAX(seconds, 1), AGENT_SECONDS_MAX);
	c->extra_ms = (unsigned)c->n * 1000;
	r = virt_call_run(c, err);
	if (r < 0) {
		err_object(err, "%s", d->name);
		return r;
	}
	*reply = steal_ptr(c->text);
	return 0;
}
