// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The completion script for bash, made out of the table: commands, options, words of choices, names of
 * files and folders; names of points come from `livepoint list` when asked for.
 */
#include "cli/internal.h"

#include "base/banned.h"

/* The words between the bars, with spaces. */
static void print_choices(const char *choices)
{
	for (; *choices; choices++)
		putchar(*choices == '|' ? ' ' : *choices);
}

/* Cases of what comes after an option that takes a value. */
static void bash_values(const struct opt_def *opts, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++) {
		const struct opt_def *d = &opts[i];

		if (d->type == OPT_FLAG || d->type == OPT_CHOICE_OR_NONE)
			continue;
		printf("\t--%s", d->name);
		if (d->letter)
			printf("|-%c", d->letter);
		printf(") ");
		if (d->type == OPT_CHOICE) {
			printf("COMPREPLY=($(compgen -W '");
			print_choices(d->arg);
			printf("' -- \"$cur\")); ");
		} else if (d->type == OPT_FILE) {
			printf("COMPREPLY=($(compgen -f -- \"$cur\")); ");
		} else if (d->type == OPT_DIR) {
			printf("COMPREPLY=($(compgen -d -- \"$cur\")); ");
		}
		printf("return ;;\n");
	}
}

static void bash_words(const struct opt_def *opts, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		printf("%s--%s", i ? " " : "", opts[i].name);
}

/* What the arguments of a command are completed with. */
static const char *bash_args(const struct command_def *c)
{
	if (strcmp(c->name, "unforget") == 0)
		return "forgotten";
	if (str_starts(c->args, "POINT") || str_starts(c->args, "[POINT]"))
		return "points";
	if (str_starts(c->args, "NAME") || str_starts(c->args, "FILE"))
		return "files";
	if (strcmp(c->args, "bash") == 0)
		return "shells";
	return "none";
}

/* Length of the first word. */
static size_t first_word(const struct command_def *c)
{
	return strcspn(c->name, " ");
}

/* Do both begin with the same word?  Then they are one group: "key add", "key list". */
static bool same_group(const struct command_def *a, const struct command_def *b)
{
	return first_word(a) == first_word(b) && strncmp(a->name, b->name, first_word(a)) == 0;
}

static bool begins_group(size_t i)
{
	return i == 0 || !same_group(&cli_commands[i - 1], &cli_commands[i]);
}

static void bash_commands(void)
{
	size_t i, k;

	printf("\tcase $command in\n");
	for (i = 0; i < cli_command_count; i++) {
		const struct command_def *c = &cli_commands[i];

		if (!begins_group(i))
			continue;
		printf("\t%.*s", (int)first_word(c), c->name);
		if (c->alias)
			printf("|%s", c->alias);
		printf(") options='");
		for (k = i; k < cli_command_count && same_group(c, &cli_commands[k]); k++) {
			printf("%s", k > i ? " " : "");
			bash_words(cli_commands[k].opts, cli_commands[k].nopts);
		}
		printf("' args=%s sub='", bash_args(c));
		for (k = i; k < cli_command_count && same_group(c, &cli_commands[k]); k++)
			if (c->name[first_word(c)])
				printf("%s%s", k > i ? " " : "",
				       cli_commands[k].name + first_word(c) + 1);
		printf("' ;;\n");
	}
	printf("\tesac\n");
}

void options_bash(void)
{
	size_t i;

	printf("# bash completion for livepoint; made by 'livepoint completion bash'\n"
	       "_livepoint()\n{\n"
	       "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
	       "\tlocal command='' options='' args=none sub='' repo=() i\n"
	       "\tCOMPREPLY=()\n"
	       "\tcase $prev in\n");
	bash_values(cli_global_opts, cli_global_opt_count);
	for (i = 0; i < cli_command_count; i++)
		bash_values(cli_commands[i].opts, cli_commands[i].nopts);
	printf("\tesac\n"
	       "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	       "\t\tcase ${COMP_WORDS[i]} in\n"
	       "\t\t-r|--repository) repo=(-r \"${COMP_WORDS[i+1]}\"); ((i++)) ;;\n"
	       "\t\t--passphrase-*) ((i++)) ;;\n"
	       "\t\t-*) ;;\n"
	       "\t\t*) command=${COMP_WORDS[i]}; break ;;\n"
	       "\t\tesac\n"
	       "\tdone\n");
	bash_commands();
	printf("\tif [[ $cur == -* ]]; then\n\t\tCOMPREPLY=($(compgen -W \"$options ");
	bash_words(cli_global_opts, cli_global_opt_count);
	printf("\" -- \"$cur\"))\n\telif [[ -z $command ]]; then\n\t\tCOMPREPLY=($(compgen -W '");
	for (i = 0; i < cli_command_count; i++)
		if (begins_group(i))
			printf("%s%.*s", i ? " " : "", (int)first_word(&cli_commands[i]),
			       cli_commands[i].name);
	printf("' -- \"$cur\"))\n"
	       "\telif [[ -n $sub && $prev == \"$command\" ]]; then\n"
	       "\t\tCOMPREPLY=($(compgen -W \"$sub\" -- \"$cur\"))\n"
	       "\telse\n"
	       "\t\tcase $args in\n"
	       "\t\tpoints)\n"
	       "\t\t\tCOMPREPLY=($(compgen -W \"$(livepoint \"${repo[@]}\" -q list 2>/dev/null |\n"
	       "\t\t\t\tawk 'NR > 1 { print $1 }')\" -- \"$cur\") $(compgen -f -- \"$cur\")) ;;\n"
	       "\t\tforgotten)\n"
	       "\t\t\tCOMPREPLY=($(compgen -W \"$(livepoint \"${repo[@]}\" -q list --forgotten 2>/dev/null |\n"
	       "\t\t\t\tawk 'NR > 1 { print $1 }')\" -- \"$cur\")) ;;\n"
	       "\t\tfiles) COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n"
	       "\t\tshells) COMPREPLY=($(compgen -W bash -- \"$cur\")) ;;\n"
	       "\t\tesac\n"
	       "\tfi\n"
	       "}\n"
	       "complete -o filenames -F _livepoint livepoint\n");
}

int cmd_completion(struct cli *cli, struct err *err)
{
	if (strcmp(cli->opt.args[0], "bash") != 0)
		return err_set(err, ERR_USAGE, "no completion for '%.64s': only bash is known",
			       cli->opt.args[0]);
	options_bash();
	return 0;
}
