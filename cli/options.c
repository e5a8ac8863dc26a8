// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The parser over the table of commands and options, and access to what it found.
 *
 * Invariants:
 *  1. What options_parse accepted has the right type: the accessors convert without failing.
 *  2. Nothing is guessed: an unknown word is an error that names what is near.
 */
#include "cli/options.h"

#include <stdlib.h>

#include "base/buf.h"

#include "base/banned.h"

#define NEAR_DISTANCE 2 /* edits */
#define NEAR_WORD_MAX 40 /* bytes */

/* Levenshtein distance; words longer than NEAR_WORD_MAX are far from everything. */
static unsigned word_distance(const char *a, const char *b)
{
	unsigned row[NEAR_WORD_MAX + 1];
	size_t n = strlen(a), m = strlen(b), i, j;

	if (n > NEAR_WORD_MAX || m > NEAR_WORD_MAX)
		return NEAR_WORD_MAX;
	for (j = 0; j <= m; j++)
		row[j] = (unsigned)j;
	for (i = 1; i <= n; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i;
		for (j = 1; j <= m; j++) {
			unsigned up = row[j], best = diagonal + (a[i - 1] != b[j - 1]);

			best = MIN(best, MIN(up, row[j - 1]) + 1);
			diagonal = up;
			row[j] = best;
		}
	}
	return row[m];
}

static bool word_near(const char *given, const char *known)
{
	size_t n = strlen(given);

	if (n >= 2 && strncmp(given, known, n) == 0)
		return true;
	return word_distance(given, known) <= MIN((size_t)NEAR_DISTANCE, strlen(known) / 2);
}

/* Appends ", 'WORD'" or "; did you mean 'WORD'". */
static void near_add(struct buf *out, const char *prefix, const char *word)
{
	buf_printf(out, "%s '%s%s'", out->len ? " or" : "; did you mean", prefix, word);
}

static int unknown_command(const char *word, struct err *err)
{
	cleanup_buf struct buf near = BUF_INIT;
	size_t i;

	for (i = 0; i < cli_command_count; i++) {
		const struct command_def *c = &cli_commands[i];

		if (word_near(word, c->name) || (c->alias && word_near(word, c->alias)))
			near_add(&near, "", c->name);
	}
	if (near.len)
		buf_printf(&near, "?");
	return err_set(err, ERR_USAGE, "unknown command '%.64s'%s", word,
		       near.len ? buf_str(&near) : "; 'livepoint --help' lists them");
}

static void near_options(struct buf *near, const struct opt_def *opts, size_t n, const char *word)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (word_near(word, opts[i].name))
			near_add(near, "--", opts[i].name);
}

static int unknown_option(const struct options *o, const char *word, struct err *err)
{
	cleanup_buf struct buf near = BUF_INIT;

	if (o->command)
		near_options(&near, o->command->opts, o->command->nopts, word);
	near_options(&near, cli_global_opts, cli_global_opt_count, word);
	if (near.len)
		buf_printf(&near, "?");
	if (!o->command)
		return err_set(err, ERR_USAGE,
			       "unknown option '--%.64s'%s (options of a command stand after it)",
			       word, buf_str(&near));
	return err_set(err, ERR_USAGE, "unknown option '--%.64s' of '%s'%s", word, o->command->name,
		       buf_str(&near));
}

static const struct opt_def *find_in(const struct opt_def *opts, size_t n, const char *name,
				     size_t len, char letter)
{
	size_t i;

	for (i = 0; i < n; i++) {
		if (letter && opts[i].letter == letter)
			return &opts[i];
		if (!letter && strlen(opts[i].name) == len && memcmp(opts[i].name, name, len) == 0)
			return &opts[i];
	}
	return NULL;
}

/* By long name (len bytes), or by letter if that is not 0. */
static const struct opt_def *find_option(const struct options *o, const char *name, size_t len,
					 char letter)
{
	const struct opt_def *def = NULL;

	if (o->command)
		def = find_in(o->command->opts, o->command->nopts, name, len, letter);
	return def ? def : find_in(cli_global_opts, cli_global_opt_count, name, len, letter);
}

/* True if word is one of those between the bars. */
static bool choice_has(const char *choices, const char *word)
{
	size_t n = strlen(word);

	while (choices) {
		const char *bar = strchr(choices, '|');
		size_t len = bar ? (size_t)(bar - choices) : strlen(choices);

		if (len == n && memcmp(choices, word, n) == 0)
			return true;
		choices = bar ? bar + 1 : NULL;
	}
	return false;
}

static bool parse_percent(const char *s, double *percent)
{
	char *end = NULL;
	double v;

	if (*s < '0' || *s > '9')
		return false;
	v = strtod(s, &end);
	if (*end || !(v >= 0 && v <= 100))
		return false;
	*percent = v;
	return true;
}

#define DAY 86400
#define UNTIL_LAST INT64_C(253402300799) /* 9999-12-31T23:59:59Z: what RFC 3339 can say */

/* A time, a date (which is included: its last second is before the end), or a duration from now. */
static bool parse_until(const char *s, int64_t *t)
{
	char first[TIME_TEXT_MAX];
	uint64_t seconds;
	int64_t v;

	if (time_parse(s, t))
		return true;
	if (strlen(s) == strlen("2026-12-31")) {
		snprintf(first, sizeof(first), "%sT00:00:00Z", s);
		if (time_parse(first, &v)) {
			*t = v + DAY;
			return true;
		}
	}
	if (!parse_duration(s, &seconds) || seconds > UNTIL_LAST ||
	    time_now() + (int64_t)seconds > UNTIL_LAST)
		return false;
	*t = time_now() + (int64_t)seconds;
	return true;
}

static int check_value(const struct opt_def *def, const char *text, struct err *err)
{
	uint64_t u;
	int64_t t;
	double d;
	bool good = true;

	switch (def->type) {
	case OPT_FLAG:
		break;
	case OPT_TEXT:
	case OPT_FILE:
	case OPT_DIR:
		good = text[0] != 0;
		break;
	case OPT_SIZE:
		good = parse_size(text, &u);
		break;
	case OPT_NUMBER:
		good = parse_u64(text, &u);
		break;
	case OPT_DURATION:
		good = parse_duration(text, &u);
		break;
	case OPT_PERCENT:
		good = parse_percent(text, &d);
		break;
	case OPT_TIME:
		good = time_parse(text, &t);
		break;
	case OPT_UNTIL:
		good = parse_until(text, &t);
		break;
	case OPT_LABEL:
		good = text[0] != '=' && strchr(text, '=') != NULL;
		break;
	case OPT_CHOICE:
	case OPT_CHOICE_OR_NONE:
		good = !text || choice_has(def->arg, text);
		break;
	}
	if (!good)
		return err_set(err, ERR_USAGE, "'%.128s' is no value for --%s: %s is wanted", text,
			       def->name, def->arg);
	return 0;
}

static int add_value(struct options *o, const struct opt_def *def, const char *text,
		     struct err *err)
{
	struct opt_value *more;
	int r = check_value(def, text, err);

	if (r < 0)
		return r;
	if (!def->many && opt_given(o, def->id) && def->type != OPT_FLAG)
		return err_set(err, ERR_USAGE, "--%s is given twice", def->name);
	more = mem_realloc_array(o->values, o->nvalues + 1, sizeof(*more));
	if (!more)
		return err_nomem(err, "reading options");
	o->values = more;
	o->values[o->nvalues++] = (struct opt_value){ .def = def, .text = text };
	return 0;
}

/* Takes "--name", "--name=value" or "--name value"; moves *i if it used the next word. */
static int parse_long(struct options *o, int argc, char **argv, int *i, struct err *err)
{
	const char *word = argv[*i] + 2, *eq = strchr(word, '='), *text = eq ? eq + 1 : NULL;
	size_t len = eq ? (size_t)(eq - word) : strlen(word);
	const struct opt_def *def = find_option(o, word, len, 0);

	if (!def) {
		char name[NEAR_WORD_MAX * 2];

		snprintf(name, sizeof(name), "%.*s", (int)MIN(len, (size_t)NEAR_WORD_MAX), word);
		return unknown_option(o, name, err);
	}
	if (def->type == OPT_FLAG && text)
		return err_set(err, ERR_USAGE, "--%s takes no value", def->name);
	if (def->type != OPT_FLAG && def->type != OPT_CHOICE_OR_NONE && !text) {
		if (*i + 1 >= argc)
			return err_set(err, ERR_USAGE, "--%s needs %s", def->name, def->arg);
		text = argv[++*i];
	}
	return add_value(o, def, text, err);
}

/* Takes "-qv", "-r REPO" or "-rREPO"; moves *i if it used the next word. */
static int parse_short(struct options *o, int argc, char **argv, int *i, struct err *err)
{
	const char *p;

	for (p = argv[*i] + 1; *p; p++) {
		const struct opt_def *def = find_option(o, NULL, 0, *p);
		const char *text = NULL;
		int r;

		if (!def)
			return err_set(err, ERR_USAGE, "unknown option '-%c'%s%s", *p,
				       o->command ? " of " : "",
				       o->command ? o->command->name : "");
		if (def->type != OPT_FLAG) {
			if (!p[1] && *i + 1 >= argc)
				return err_set(err, ERR_USAGE, "-%c needs %s", *p, def->arg);
			text = p[1] ? p + 1 : argv[++*i];
		}
		r = add_value(o, def, text, err);
		if (r < 0 || text)
			return r;
	}
	return 0;
}

/* True if word is the first of a command of two words. */
static bool is_group(const char *word)
{
	size_t n = strlen(word), i;

	for (i = 0; i < cli_command_count; i++)
		if (strncmp(cli_commands[i].name, word, n) == 0 && cli_commands[i].name[n] == ' ')
			return true;
	return false;
}

static const struct command_def *find_command(const char *name)
{
	size_t i;

	for (i = 0; i < cli_command_count; i++) {
		const struct command_def *c = &cli_commands[i];

		if (strcmp(c->name, name) == 0 || (c->alias && strcmp(c->alias, name) == 0))
			return c;
	}
	return NULL;
}

/* An argument, or the command's name; *group holds the first word of a command of two. */
static int parse_word(struct options *o, const char *word, const char **group, struct err *err)
{
	char name[2 * NEAR_WORD_MAX];

	if (o->command) {
		o->args[o->nargs++] = word;
		return 0;
	}
	if (!*group && is_group(word)) {
		*group = word;
		return 0;
	}
	snprintf(name, sizeof(name), "%s%s%s", *group ? *group : "", *group ? " " : "", word);
	o->command = find_command(name);
	return o->command ? 0 : unknown_command(name, err);
}

static int check_args(const struct options *o, const char *group, struct err *err)
{
	const struct command_def *c = o->command;

	if (opt_given(o, O_HELP) || opt_given(o, O_VERSION))
		return 0;
	if (!c && group)
		return unknown_command(group, err);
	if (!c)
		return err_set(err, ERR_USAGE, "no command; 'livepoint --help' lists them");
	if (o->nargs < c->min_args)
		return err_set(err, ERR_USAGE, "too few arguments; usage: livepoint %s %s", c->name,
			       c->args);
	if (o->nargs > c->max_args)
		return err_set(err, ERR_USAGE,
			       "too many arguments ('%.64s'); usage: livepoint %s%s%s",
			       o->args[c->max_args], c->name, c->args[0] ? " " : "", c->args);
	return 0;
}

int options_parse(int argc, char **argv, struct options *out, struct err *err)
{
	const char *group = NULL;
	bool ended = false;
	int i, r = 0;

	*out = (struct options){ 0 };
	out->args = mem_alloc_array((size_t)argc + 1, sizeof(*out->args));
	if (!out->args)
		return err_nomem(err, "reading options");
	for (i = 1; i < argc && r >= 0; i++) {
		const char *word = argv[i];

		if (!ended && strcmp(word, "--") == 0)
			ended = true;
		else if (!ended && word[0] == '-' && word[1] == '-')
			r = parse_long(out, argc, argv, &i, err);
		else if (!ended && word[0] == '-' && word[1])
			r = parse_short(out, argc, argv, &i, err);
		else
			r = parse_word(out, word, &group, err);
	}
	return r < 0 ? r : check_args(out, group, err);
}

void options_release(struct options *o)
{
	free(o->values);
	free(o->args);
	*o = (struct options){ 0 };
}

/* --- what was given --- */

static const struct opt_value *opt_last(const struct options *o, enum opt_id id)
{
	size_t i;

	for (i = o->nvalues; i > 0; i--)
		if (o->values[i - 1].def->id == id)
			return &o->values[i - 1];
	return NULL;
}

bool opt_given(const struct options *o, enum opt_id id)
{
	return opt_last(o, id) != NULL;
}

const char *opt_text(const struct options *o, enum opt_id id)
{
	const struct opt_value *v = opt_last(o, id);

	return v ? v->text : NULL;
}

uint64_t opt_number(const struct options *o, enum opt_id id, uint64_t otherwise)
{
	const struct opt_value *v = opt_last(o, id);
	uint64_t u = otherwise;
	int64_t t;

	if (!v)
		return otherwise;
	if (v->def->type == OPT_SIZE)
		parse_size(v->text, &u);
	else if (v->def->type == OPT_DURATION)
		parse_duration(v->text, &u);
	else if (v->def->type == OPT_NUMBER)
		parse_u64(v->text, &u);
	else if (v->def->type == OPT_TIME && time_parse(v->text, &t))
		u = (uint64_t)t;
	else if (v->def->type == OPT_UNTIL && parse_until(v->text, &t))
		u = (uint64_t)t;
	return u;
}

double opt_percent(const struct options *o, enum opt_id id, double otherwise)
{
	const char *text = opt_text(o, id);
	double v = otherwise;

	if (text)
		parse_percent(text, &v);
	return v;
}

const char *opt_nth(const struct options *o, enum opt_id id, size_t i)
{
	size_t k;

	for (k = 0; k < o->nvalues; k++)
		if (o->values[k].def->id == id && i-- == 0)
			return o->values[k].text;
	return NULL;
}

unsigned opt_count(const struct options *o, enum opt_id id)
{
	unsigned n = 0;
	size_t i;

	for (i = 0; i < o->nvalues; i++)
		n += o->values[i].def->id == id;
	return n;
}
