// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * --help out of the table.
 *
 * The layout is read by the test cli-help-man: a line of an option starts with two spaces and its
 * letter or long name, a line of a command with two spaces and its name.
 */
#include "cli/options.h"

#include "base/banned.h"

#define HELP_COLUMN 34 /* where the sentence starts */

static void help_option(const struct opt_def *d)
{
	char left[160];
	int n;

	n = snprintf(left, sizeof(left), "  %c%c%c --%s", d->letter ? '-' : ' ',
		     d->letter ? d->letter : ' ', d->letter ? ',' : ' ', d->name);
	if (d->arg && n > 0 && (size_t)n < sizeof(left))
		snprintf(left + n, sizeof(left) - (size_t)n,
			 d->type == OPT_CHOICE_OR_NONE ? "[=%s]" : " %s", d->arg);
	if (strlen(left) >= HELP_COLUMN)
		printf("%s\n%*s%s\n", left, HELP_COLUMN, "", d->help);
	else
		printf("%-*s%s\n", HELP_COLUMN, left, d->help);
}

static void help_global(void)
{
	size_t i;

	printf("\nGlobal options, before or after the command:\n");
	for (i = 0; i < cli_global_opt_count; i++)
		help_option(&cli_global_opts[i]);
}

static void help_program(void)
{
	size_t i;

	printf("Usage: livepoint [-r REPO] [OPTIONS] COMMAND [ARGUMENTS]\n\n"
	       "Backups of disks that are served live: any restore point is a disk.\n\n"
	       "Commands:\n");
	for (i = 0; i < cli_command_count; i++)
		printf("  %-20s %s\n", cli_commands[i].name, cli_commands[i].help);
	help_global();
	printf("\nPOINT is NAME@TIME, NAME@latest, NAME alone (its latest), or an id.\n"
	       "'livepoint COMMAND --help' says more; so does livepoint(1).\n");
}

static void help_command(const struct command_def *c)
{
	size_t i;

	printf("Usage: livepoint %s%s%s%s\n\n%c%s.\n", c->name, c->nopts ? " [OPTIONS]" : "",
	       c->args[0] ? " " : "", c->args, c->help[0] - 'a' + 'A', c->help + 1);
	if (c->alias)
		printf("'livepoint %s' is the same.\n", c->alias);
	if (c->nopts)
		printf("\nOptions:\n");
	for (i = 0; i < c->nopts; i++)
		help_option(&c->opts[i]);
	help_global();
}

void options_help(const struct command_def *command)
{
	if (command)
		help_command(command);
	else
		help_program();
}
