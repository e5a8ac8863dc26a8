// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Fault points: reads the environment once, counts hits, acts.
 *
 * How it works: fault_state says whether anything is asked for; without it a hit is one load.  Each
 * spec counts the hits that match it, atomically, so that exactly one thread sees the N-th.
 *
 * Invariants:
 *  1. Nothing is allocated here, so that mem_fail_after() counts the same with and without.
 *  2. A spec that cannot be read ends the process: a test that asks for a fault and silently runs
 *     without it would prove nothing.
 */
#include "base/fault.h"

#ifdef ENABLE_FAULT_POINTS

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"

#include "base/internal.h"

#include "base/banned.h"

#define FAULT_SPECS_MAX 64
#define FAULT_ENV_MAX 8192

enum fault_state { FAULT_UNREAD, FAULT_OFF, FAULT_ARMED };
enum fault_action { FAULT_KILL, FAULT_STOP, FAULT_FAIL };

struct fault_spec {
	const char *name; /* points into fault_env */
	uint64_t nth;
	bool later; /* "N+": every later hit too */
	enum fault_action action;
	int result; /* of FAULT_FAIL: an errno value, FAULT_SHORT or FAULT_SKIP */
	_Atomic uint64_t hits;
};

struct fault_value {
	const char *name; /* points into fault_numbers_env */
	uint64_t value;
};

static atomic_int fault_state;
static pthread_once_t fault_once = PTHREAD_ONCE_INIT;
/* Written once under fault_once. */
static char fault_env[FAULT_ENV_MAX], fault_numbers_env[FAULT_ENV_MAX];
static struct fault_spec fault_specs[FAULT_SPECS_MAX];
static unsigned fault_nspecs;
static struct fault_value fault_values[FAULT_SPECS_MAX];
static unsigned fault_nvalues;
static int fault_log = -1;
static char fault_plants_env[FAULT_ENV_MAX];
static const char *fault_plants[FAULT_SPECS_MAX];
static unsigned fault_nplants;

static void fault_bad(const char *what, const char *value)
{
	char line[256];
	int n = snprintf(line, sizeof(line), "fault points: cannot use %s '%s'\n", what, value);

	if (n > 0 && write(STDERR_FILENO, line, MIN((size_t)n, sizeof(line) - 1)) < 0)
		abort(); /* nobody to tell */
	abort();
}

static bool fault_parse_action(struct fault_spec *spec, const char *text)
{
	static const struct {
		const char *name;
		enum fault_action action;
		int result;
	} actions[] = {
		{ "kill", FAULT_KILL, 0 },	    { "stop", FAULT_STOP, 0 },
		{ "eio", FAULT_FAIL, EIO },	    { "enospc", FAULT_FAIL, ENOSPC },
		{ "erofs", FAULT_FAIL, EROFS },	    { "short", FAULT_FAIL, FAULT_SHORT },
		{ "skip", FAULT_FAIL, FAULT_SKIP }, { "eperm", FAULT_FAIL, EPERM },
		{ "eintr", FAULT_FAIL, EINTR },	    { "edquot", FAULT_FAIL, EDQUOT },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(actions); i++) {
		if (strcmp(actions[i].name, text) == 0) {
			spec->action = actions[i].action;
			spec->result = actions[i].result;
			return true;
		}
	}
	return false;
}

/* text: NAME:N:ACTION, is cut into pieces. */
static bool fault_parse_spec(struct fault_spec *spec, char *text)
{
	char *number = strchr(text, ':');
	char *action = number ? strchr(number + 1, ':') : NULL;
	size_t n;

	if (!action || number == text)
		return false;
	*number++ = 0;
	*action++ = 0;
	n = strlen(number);
	if (n && number[n - 1] == '+') {
		spec->later = true;
		number[n - 1] = 0;
	}
	spec->name = text;
	return parse_u64(number, &spec->nth) && spec->nth > 0 && fault_parse_action(spec, action);
}

/* NAME:VALUE[,NAME:VALUE...] */
static void fault_read_numbers(const char *numbers)
{
	char *next = fault_numbers_env, *one;

	if (!str_copy(fault_numbers_env, sizeof(fault_numbers_env), numbers))
		fault_bad("too long LIVEPOINT_FAULT_NUMBER", numbers);
	while ((one = strsep(&next, ","))) {
		struct fault_value *v = &fault_values[fault_nvalues];
		char *value = strchr(one, ':');

		if (!value || fault_nvalues == FAULT_SPECS_MAX)
			fault_bad("LIVEPOINT_FAULT_NUMBER", numbers);
		*value++ = 0;
		v->name = one;
		if (!parse_u64(value, &v->value) || !v->value)
			fault_bad("LIVEPOINT_FAULT_NUMBER", numbers);
		fault_nvalues++;
	}
}

/* NAME[,NAME...] */
static void fault_read_plants(const char *plants)
{
	char *next = fault_plants_env, *one;

	if (!str_copy(fault_plants_env, sizeof(fault_plants_env), plants))
		fault_bad("too long LIVEPOINT_PLANT", plants);
	while ((one = strsep(&next, ","))) {
		if (!*one || fault_nplants == FAULT_SPECS_MAX)
			fault_bad("LIVEPOINT_PLANT", plants);
		fault_plants[fault_nplants++] = one;
	}
}

static void fault_read_env(void)
{
	const char *plants = secure_getenv("LIVEPOINT_PLANT");
	const char *numbers = secure_getenv("LIVEPOINT_FAULT_NUMBER");
	const char *specs = secure_getenv("LIVEPOINT_FAULT");
	const char *log = secure_getenv("LIVEPOINT_FAULT_LOG");
	char *next = fault_env, *one;

	if (specs && !str_copy(fault_env, sizeof(fault_env), specs))
		fault_bad("too long LIVEPOINT_FAULT", specs);
	while (specs && *specs && (one = strsep(&next, ","))) {
		if (fault_nspecs == FAULT_SPECS_MAX)
			fault_bad("too many in LIVEPOINT_FAULT", specs);
		if (!fault_parse_spec(&fault_specs[fault_nspecs++], one))
			fault_bad("LIVEPOINT_FAULT", specs);
	}
	if (numbers && *numbers)
		fault_read_numbers(numbers);
	if (plants && *plants)
		fault_read_plants(plants);
	if (log && *log) {
		fault_log = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		if (fault_log < 0)
			fault_bad("LIVEPOINT_FAULT_LOG", log);
	}
	atomic_store(&fault_state,
		     fault_nspecs || fault_nvalues || fault_nplants || fault_log >= 0 ?
			     FAULT_ARMED :
			     FAULT_OFF);
}

static void fault_write_log(const char *name)
{
	char line[256];
	int n = snprintf(line, sizeof(line), "%s\n", name);

	/* One write with O_APPEND, so that lines of several processes do not mix. */
	if (n < 0 || (size_t)n >= sizeof(line) || write(fault_log, line, (size_t)n) != n)
		fault_bad("the log for", name);
}

static int fault_act(const struct fault_spec *spec)
{
	switch (spec->action) {
	case FAULT_KILL:
		counters_write();
		kill(getpid(), SIGKILL);
		for (;;)
			pause();
	case FAULT_STOP:
		kill(getpid(), SIGSTOP);
		return 0;
	case FAULT_FAIL:
		break;
	}
	return spec->result;
}

int fault_hit(const char *name)
{
	int state = atomic_load_explicit(&fault_state, memory_order_acquire);
	int result = 0;
	unsigned i;

	if (state == FAULT_OFF)
		return 0;
	if (state == FAULT_UNREAD)
		pthread_once(&fault_once, fault_read_env);
	if (fault_log >= 0)
		fault_write_log(name);
	for (i = 0; i < fault_nspecs; i++) {
		struct fault_spec *spec = &fault_specs[i];
		uint64_t hit;

		if (strcmp(spec->name, "*") != 0 && strcmp(spec->name, name) != 0)
			continue;
		/* All specs count each hit, also when an earlier one decides the result. */
		hit = atomic_fetch_add(&spec->hits, 1) + 1;
		if (!result && (hit == spec->nth || (spec->later && hit > spec->nth)))
			result = fault_act(spec);
	}
	return result;
}

uint64_t fault_number(const char *name, uint64_t usual)
{
	int state = atomic_load_explicit(&fault_state, memory_order_acquire);

	if (state == FAULT_OFF)
		return usual;
	if (state == FAULT_UNREAD)
		pthread_once(&fault_once, fault_read_env);
	for (unsigned i = 0; i < fault_nvalues; i++)
		if (strcmp(fault_values[i].name, name) == 0)
			return fault_values[i].value;
	return usual;
}

bool fault_planted(const char *name)
{
	int state = atomic_load_explicit(&fault_state, memory_order_acquire);

	if (state == FAULT_OFF)
		return false;
	if (state == FAULT_UNREAD)
		pthread_once(&fault_once, fault_read_env);
	for (unsigned i = 0; i < fault_nplants; i++)
		if (strcmp(fault_plants[i], name) == 0)
			return true;
	return false;
}

#else

typedef int fault_points_are_off; /* ISO C has no empty translation unit */

#endif
