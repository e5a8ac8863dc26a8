// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * What the agent of a guest that is booted for proof says: that it is there, and what a command prints.
 *
 * Commands of the QEMU guest agent's protocol: guest-ping, guest-get-osinfo, guest-exec, guest-exec-status.  A guest without a
 * connected agent is answered for by libvirt, at once.
 *
 * Invariant: a guest is not trusted: an answer that is not as the protocol says is a problem that the verdict tells.
 */
#include "recover/boot-internal.h"

#include <stdlib.h>

#include "base/banned.h"

#define ASK_NS UINT64_C(1000000000)
#define REPLY_SECONDS 5

void agent_release(struct agent *a)
{
	buf_release(&a->output);
}

/* *out: the document, whose "return" is the answer. */
static int command(struct virt_domain *d, const char *name, struct jval *arguments,
		   unsigned seconds, struct jval **out, struct err *err)
{
	cleanup_ptr(jval) doc = jval_object();
	cleanup_buf struct buf text = BUF_INIT;
	cleanup_free char *reply = NULL;
	int code;

	jval_set(doc, "execute", jval_str(name));
	if (arguments)
		jval_set(doc, "arguments", arguments);
	code = jval_print(doc, false, &text, err);
	if (code == 0)
		code = virt_agent(d, buf_str(&text), seconds, &reply, err);
	return code < 0 ? code : jval_parse(reply, strlen(reply), out, err);
}

bool agent_ask(struct agent *a, struct virt_domain *d)
{
	struct err ignored = ERR_INIT;
	struct jval *doc = NULL;

	if (a->answers || (a->asked && time_mono_ns() - a->asked < ASK_NS))
		return a->answers;
	a->answers = command(d, "guest-ping", NULL, 1, &doc, &ignored) == 0;
	a->asked = time_mono_ns();
	jval_free(doc);
	return a->answers;
}

/* --- base64 (RFC 4648) --- */

static int digit(char c)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

static void decode(struct buf *out, const char *text)
{
	uint32_t bits = 0;
	unsigned n = 0;

	for (; text && digit(*text) >= 0; text++) {
		bits = bits << 6 | (uint32_t)digit(*text);
		n += 6;
		if (n >= 8) {
			n -= 8;
			buf_put_u8(out, (uint8_t)(bits >> n));
		}
	}
}

/* --- a command --- */

static bool is_windows(struct virt_domain *d)
{
	struct err ignored = ERR_INIT;
	cleanup_ptr(jval) doc = NULL;
	const char *id;

	if (command(d, "guest-get-osinfo", NULL, REPLY_SECONDS, &doc, &ignored) < 0)
		return false;
	id = jval_as_str(jval_get(jval_get(doc, "return"), "id"));
	return id && strcmp(id, "mswindows") == 0;
}

static bool give_up(struct agent *a, const char *why)
{
	snprintf(a->problem, sizeof(a->problem), "%s", why);
	a->ended = true;
	return true;
}

static bool start(struct agent *a, struct virt_domain *d, const char *text)
{
	bool windows = is_windows(d);
	struct jval *arguments = jval_object(), *args = jval_array();
	cleanup_ptr(jval) doc = NULL;
	struct err why = ERR_INIT;

	jval_append(args, jval_str(windows ? "/c" : "-c"));
	jval_append(args, jval_str(text));
	jval_set(arguments, "path", jval_str(windows ? "cmd.exe" : "/bin/sh"));
	jval_set(arguments, "arg", args);
	jval_set(arguments, "capture-output", jval_bool(true));
	if (command(d, "guest-exec", arguments, REPLY_SECONDS, &doc, &why) < 0)
		return give_up(a, why.text);
	if (!jval_as_uint(jval_get(jval_get(doc, "return"), "pid"), &a->pid))
		return give_up(a, "the agent's answer has no pid");
	a->started = true;
	return false;
}

bool agent_exec(struct agent *a, struct virt_domain *d, const char *text)
{
	struct jval *arguments;
	const struct jval *answer;
	cleanup_ptr(jval) doc = NULL;
	struct err why = ERR_INIT;
	int64_t number;
	bool exited = false;

	if (a->ended)
		return true;
	if (!a->started)
		return start(a, d, text);
	arguments = jval_object();
	jval_set(arguments, "pid", jval_uint(a->pid));
	if (command(d, "guest-exec-status", arguments, REPLY_SECONDS, &doc, &why) < 0)
		return give_up(a, why.text);
	answer = jval_get(doc, "return");
	if (!jval_as_bool(jval_get(answer, "exited"), &exited))
		return give_up(a, "the agent's answer does not say whether the command has ended");
	if (!exited)
		return false;
	if (jval_as_int(jval_get(answer, "exitcode"), &number))
		a->status = number;
	else if (jval_as_int(jval_get(answer, "signal"), &number))
		a->status = 128 + number;
	else
		return give_up(a, "the agent does not say how the command ended");
	decode(&a->output, jval_as_str(jval_get(answer, "out-data")));
	decode(&a->output, jval_as_str(jval_get(answer, "err-data")));
	a->ended = true;
	return true;
}

bool agent_said(const struct agent *a, const char *text)
{
	return a->output.len > 0 &&
	       memmem(a->output.data, a->output.len, text, strlen(text)) != NULL;
}
