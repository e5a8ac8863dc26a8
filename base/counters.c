// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Counters of gcov that are written before a process ends without atexit(): in builds configured with --enable-coverage only.
 *
 * How it works: gcov writes its counters in a destructor of the program, which SIGKILL and _exit() pass by; so fault points
 * that kill, and children that tests leave by _exit(), would show as if they had never run.  Fault points call
 * counters_write(); _exit() is defined here, before libc's, in each program that links this room.
 *
 * Invariants:
 *  1. In any other build this file has no code, and counters_write() is nothing.
 *  2. Counters are written once: what other threads do meanwhile is not counted, and the process ends for certain.
 */
#include "base/internal.h"

#ifdef ENABLE_COVERAGE

#include <gcov.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/banned.h"

void counters_write(void)
{
	static atomic_flag written = ATOMIC_FLAG_INIT;

	if (!atomic_flag_test_and_set(&written))
		__gcov_dump();
}

void _exit(int status)
{
	counters_write();
	for (;;)
		syscall(SYS_exit_group, status);
}

#else

typedef int counters_are_off; /* ISO C has no empty translation unit */

#endif
