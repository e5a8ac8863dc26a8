// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * What comes out of a proof by booting: a sentence of what was seen, the verdict as JSON, the last screen.
 *
 * Invariant: the verdict fits into PROOF_VERDICT_MAX: all texts in it have bounds, six bytes of JSON for each of theirs at most.
 */
#include "recover/boot-internal.h"

#include <stdarg.h>
#include <stdlib.h>

#include "base/log.h"
#include "repo/proof.h"
#include "virt/accel.h"

#include "base/banned.h"

#define COMMAND_MAX 1024 /* bytes of what --exec was given, in the verdict */

void boot_failed(struct boot *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(b->seen, sizeof(b->seen), fmt, ap);
	va_end(ap);
	b->passed = false;
}

void boot_passed(struct boot *b)
{
	const struct boot_spec *s = b->spec;
	size_t n;

	if (strcmp(b->criterion, "agent") == 0)
		snprintf(b->seen, sizeof(b->seen), "the guest agent answered after %.1f s",
			 b->seconds);
	else if (strcmp(b->criterion, "seconds") == 0)
		snprintf(b->seen, sizeof(b->seen),
			 "it ran for %u s and did not stop; its console showed %llu bytes",
			 s->seconds, (unsigned long long)b->console.bytes);
	else
		snprintf(b->seen, sizeof(b->seen),
			 "a line of the console ended in '%s' after %.1f s", b->console.marker,
			 b->seconds);
	n = strlen(b->seen);
	if (s->exec)
		snprintf(b->seen + n, sizeof(b->seen) - n, "; the command ended with status 0%s",
			 s->expect ? " and printed what was expected" : "");
	b->passed = true;
}

void boot_screenshot(struct boot *b)
{
	struct err why = ERR_INIT;

	buf_reset(&b->png);
	if (virt_domain_screenshot(b->guest, &b->png, &why) == 0 && b->png.len <= PROOF_PNG_MAX)
		return;
	log_debug("%s: no screenshot: %s", b->r.rec.domain, why.text);
	buf_reset(&b->png);
}

static char *bounded(const void *text, size_t len, size_t max)
{
	return str_printf("%.*s", (int)MIN(len, max), (const char *)text);
}

static struct jval *exec_json(struct boot *b)
{
	struct agent *a = &b->agent;
	struct jval *v;
	cleanup_free char *command = NULL, *output = NULL;

	if (!b->spec->exec)
		return jval_null();
	command = bounded(b->spec->exec, strlen(b->spec->exec), COMMAND_MAX);
	output = bounded(buf_str(&a->output), strlen(buf_str(&a->output)), EXEC_OUTPUT_MAX);
	v = jval_object();
	jval_set(v, "command", jval_str(command));
	jval_set(v, "status", a->ended && !a->problem[0] ? jval_int(a->status) : jval_null());
	jval_set(v, "output", jval_str(output));
	jval_set(v, "expected",
		 b->spec->expect ? jval_bool(agent_said(a, b->spec->expect)) : jval_null());
	return v;
}

static struct jval *damage_json(const struct boot *b)
{
	struct jval *array = jval_array();
	size_t i;

	for (i = 0; i < b->ndamage; i++) {
		struct jval *d = jval_object();

		jval_set(d, "disk", jval_str(b->damage[i].disk));
		jval_set(d, "start", jval_uint(b->damage[i].start));
		jval_set(d, "length", jval_uint(b->damage[i].length));
		jval_set(d, "whole", jval_str(b->damage[i].other));
		jval_append(array, d);
	}
	return array;
}

static struct jval *verdict_json(struct boot *b, int64_t now)
{
	struct jval *v = jval_object();
	char when[TIME_TEXT_MAX];

	time_format(when, now);
	jval_set(v, "passed", jval_bool(b->passed));
	jval_set(v, "time", jval_str(when));
	jval_set(v, "criterion", jval_str(b->criterion));
	jval_set(v, "marker", jval_str(b->spec->marker));
	jval_set(v, "seen", jval_str(b->seen));
	jval_set(v, "seconds", b->seconds < 0 ? jval_null() : jval_real(b->seconds));
	jval_set(v, "accelerator", jval_str(virt_accel_name(b->plan.accel)));
	jval_set(v, "machine", jval_str(b->machine));
	jval_set(v, "host", jval_str(b->r.rec.host));
	jval_set(v, "exec", exec_json(b));
	jval_set(v, "damage", damage_json(b));
	jval_set(v, "console", console_json(&b->console));
	return v;
}

int boot_verdict(struct boot *b, struct err *err)
{
	cleanup_ptr(jval) v = NULL;
	cleanup_buf struct buf text = BUF_INIT;
	struct proof p = { .time = time_now(), .passed = b->passed };
	struct boot_result result = {
		.point = b->r.rec.point, .passed = b->passed, .seen = b->seen, .png_len = b->png.len
	};
	int code;

	v = verdict_json(b, p.time);
	code = jval_print(v, false, &text, err);
	if (code < 0)
		return code;
	memcpy(p.point, b->plan.point_id, POINT_ID_LEN);
	p.verdict = (char *)(uintptr_t)buf_str(&text);
	p.png = b->png.len ? b->png.data : NULL;
	p.png_len = b->png.len;
	code = repo_proof_store(b->r.repo, &p, err);
	if (code < 0)
		return code;
	result.verdict = v;
	b->spec->done(b->spec->opaque, &result);
	return 0;
}
