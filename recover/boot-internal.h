/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Shared by the boot-*.c files: one guest that is booted for proof. */
#ifndef LIVEPOINT_RECOVER_BOOT_INTERNAL_H
#define LIVEPOINT_RECOVER_BOOT_INTERNAL_H

#include "recover/internal.h"

/* --- boot-console.c: what the first serial port says --- */
#define CONSOLE_LINES 40 /* that are kept */
#define CONSOLE_LINE_MAX 200 /* bytes of each */
struct console {
	const char *path; /* borrowed */
	const char *marker; /* borrowed: what a line is to end in; NULL: nothing */
	bool met;
	uint64_t bytes; /* read so far */
	uint64_t at; /* where in the file */
	uint64_t inode;
	uint64_t last; /* when something came, monotonic ns */
	unsigned escape; /* 1: ESC was the last, 2: within a control sequence */
	size_t len;
	char line[1024]; /* the one that is not yet ended; of a long one, its end */
	char lines[CONSOLE_LINES][CONSOLE_LINE_MAX + 1]; /* a ring */
	size_t count; /* of all lines that ever were, empty ones not counted */
};
/* Reads what has come.  A file that is not there yet is empty. */
int console_read(struct console *c, struct err *err);
/* The last lines, the open one too, as an array of strings. */
struct jval *console_json(const struct console *c);

/* --- boot-agent.c: what the guest agent says --- */
#define EXEC_OUTPUT_MAX 4096 /* bytes that are kept */
struct agent {
	bool answers;
	uint64_t asked; /* when, monotonic ns */
	bool started, ended;
	uint64_t pid;
	int64_t status; /* exit status, or 128 and the signal */
	struct buf output; /* standard output, then standard error */
	char problem[ERR_TEXT_MAX]; /* why the command cannot be run, or "" */
};
void agent_release(struct agent *a);
/* Pings, at most once a second; true once it has answered. */
bool agent_ask(struct agent *a, struct virt_domain *d);
/* Starts the command, or looks how it goes on; true when it has ended, or cannot be run. */
bool agent_exec(struct agent *a, struct virt_domain *d, const char *command);
/* Is text in the output? */
bool agent_said(const struct agent *a, const char *text);

/* --- one boot --- */
struct boot {
	const struct boot_spec *spec;
	struct recovery r;
	struct plan plan;
	struct virt *v; /* borrowed */
	struct virt_domain *guest; /* owned */
	char *path; /* owned: of the console */
	char *machine; /* owned: the machine type that libvirt made of it, or NULL */
	struct console console;
	struct agent agent;
	uint64_t begun; /* monotonic ns */
	double seconds; /* until the criterion was met, -1: it was not */
	const char *
		criterion; /* "agent", "login", "marker", "seconds"; of a default that was not met "agent or login" */
	uint64_t log_at; /* of the server's log */
	struct recovery_damage *damage; /* owned */
	size_t ndamage;
	bool passed;
	char seen[ERR_TEXT_MAX];
	struct buf png;
};
/* --- boot-verdict.c --- */
/* Fills seen: what was seen when the guest did not pass. */
void boot_failed(struct boot *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void boot_passed(struct boot *b);
/* The screen as it is now, if there is one. */
void boot_screenshot(struct boot *b);
/* Stores the verdict and tells whoever asked. */
int boot_verdict(struct boot *b, struct err *err);

#endif
