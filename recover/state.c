// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The states of a recovery and the steps between them.
 *
 * A step leads from one state to the next; the record says the new state when the step has done its work, so that after a
 * kill the step is done again from its beginning.  docs/PROTOCOL.md (Recoveries) has what each leaves.
 *
 * Invariants:
 *  1. The state changes here only, along the table.
 *  2. A step that fails leaves the state as it was.
 */
#include "recover/internal.h"

#include "base/fault.h"

#include "base/banned.h"

static const char *const names[RECOVERY_STATES] = {
	[RECOVERY_PREPARED] = "prepared", [RECOVERY_STARTING] = "starting",
	[RECOVERY_RUNNING] = "running",	  [RECOVERY_MIGRATING] = "migrating",
	[RECOVERY_PIVOTING] = "pivoting", [RECOVERY_MIGRATED] = "migrated",
	[RECOVERY_ENDED] = "ended",
};

const char *recovery_state_name(enum recovery_state state)
{
	return (unsigned)state < RECOVERY_STATES ? names[state] : "unknown";
}

bool recovery_state_parse(const char *name, enum recovery_state *out)
{
	unsigned i;

	for (i = 0; i < RECOVERY_STATES; i++) {
		if (strcmp(names[i], name) == 0) {
			*out = (enum recovery_state)i;
			return true;
		}
	}
	return false;
}

/* The first row that fits counts.  A migration (recover/migrate.c) sets its states itself: where it goes on depends on where the
 * guest's disks lie, not on the record alone. */
static const struct {
	enum recovery_state from, to, goal;
	int (*step)(struct recovery *r, struct work *work, struct err *err);
	const char *fault; /* fault point between the step and its record */
} table[] = {
	{ RECOVERY_PREPARED, RECOVERY_STARTING, RECOVERY_RUNNING, step_make_ready,
	  "recover.step.ready" },
	{ RECOVERY_STARTING, RECOVERY_RUNNING, RECOVERY_RUNNING, step_start_guest,
	  "recover.step.guest" },
	{ RECOVERY_ENDED, RECOVERY_STARTING, RECOVERY_RUNNING, step_make_ready,
	  "recover.step.again" },
	{ RECOVERY_RUNNING, RECOVERY_ENDED, RECOVERY_ENDED, step_note_end, "recover.step.end" },
};

int recovery_set_state(struct recovery *r, enum recovery_state to, struct err *err)
{
	enum recovery_state from = r->rec.state;
	int64_t since = r->rec.since;
	int code;

	r->rec.state = to;
	r->rec.since = time_now();
	code = recovery_save(r, err);
	if (code < 0) { /* what is on disk may be either: whoever comes next reads it */
		r->rec.state = from;
		r->rec.since = since;
	}
	return code;
}

int recovery_advance(struct recovery *r, enum recovery_state goal, struct work *work,
		     struct err *err)
{
	while (r->rec.state != goal) {
		size_t i = 0;
		int code;

		while (i < ARRAY_SIZE(table) &&
		       (table[i].from != r->rec.state || table[i].goal != goal))
			i++;
		if (i == ARRAY_SIZE(table))
			return err_set(err, ERR_REFUSED,
				       "recovery '%s' is %s: from there no step leads to %s",
				       r->rec.id, recovery_state_name(r->rec.state),
				       recovery_state_name(goal));
		code = table[i].step(r, work, err);
		if (code == 0 && fault_hit(table[i].fault))
			code = err_set(err, ERR_IO, "recovery '%s': stopped by a fault point",
				       r->rec.id);
		if (code == 0)
			code = recovery_set_state(r, table[i].to, err);
		if (code < 0)
			return code;
	}
	return 0;
}
