/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Names: the grammar of points' and disks' names, and the words for enums.
 *
 * The words are a contract (command line, JSON, livepoint.conf): one table each, index = number.
 *
 * Invariants:
 *  1. A valid name is safe as a file name, in a URI and on a terminal.
 *  2. A number without a word is "unknown"; a word without a number is -1.
 */
#include "format/format.h"

#include "base/banned.h"

static const char *const object_words[] = { NULL,   "chunk",	"leaf", "page",
					    "root", "manifest", "blob", "state" };
static const char *const kind_words[] = { NULL, "full", "incremental", "differential" };
static const char *const method_words[] = { NULL, "full", "hash", "map", "cbt", "snapshot" };
static const char *const consistency_words[] = { NULL, "crash", "filesystem", "application" };

/* Levels: "default" was chosen by measurement on disks cut at 64 KiB (DESIGN 2); the others spread
 * around it. */
static const struct {
	const char *word;
	int level;
} compressions[] = {
	[COMPRESSION_NONE] = { "none", 0 },	  [COMPRESSION_FAST] = { "fast", -3 },
	[COMPRESSION_DEFAULT] = { "default", 1 }, [COMPRESSION_BETTER] = { "better", 3 },
	[COMPRESSION_BEST] = { "best", 9 },
};

static const char *word_of(const char *const *words, size_t count, int number)
{
	if (number < 0 || (size_t)number >= count || !words[number])
		return "unknown";
	return words[number];
}

const char *object_type_name(int type)
{
	return word_of(object_words, ARRAY_SIZE(object_words), type);
}

const char *point_kind_name(int kind)
{
	return word_of(kind_words, ARRAY_SIZE(kind_words), kind);
}

const char *disk_method_name(int method)
{
	return word_of(method_words, ARRAY_SIZE(method_words), method);
}

const char *consistency_name(int consistency)
{
	return word_of(consistency_words, ARRAY_SIZE(consistency_words), consistency);
}

int consistency_parse(const char *name)
{
	for (size_t i = 1; i < ARRAY_SIZE(consistency_words); i++)
		if (strcmp(name, consistency_words[i]) == 0)
			return (int)i;
	return -1;
}

int compression_parse(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(compressions); i++)
		if (strcmp(name, compressions[i].word) == 0)
			return (int)i;
	return -1;
}

const char *compression_name(enum compression c)
{
	return (size_t)c < ARRAY_SIZE(compressions) ? compressions[c].word : "unknown";
}

int compression_level(enum compression c)
{
	return (size_t)c < ARRAY_SIZE(compressions) ? compressions[c].level : 0;
}

static bool name_char(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
	       c == '.' || c == '_' || c == '-';
}

static bool grammar_ok(const char *name, size_t max)
{
	size_t n = strnlen(name, max + 1);
	if (n == 0 || n > max || name[0] == '.' || name[0] == '-')
		return false;
	for (size_t i = 0; i < n; i++)
		if (!name_char(name[i]))
			return false;
	return true;
}

bool name_valid(const char *name)
{
	return grammar_ok(name, NAME_MAX_LEN);
}

bool disk_name_valid(const char *name)
{
	/* these are folders of a served point */
	static const char *const reserved[] = { "disks", "volumes", "tree", "config" };
	for (size_t i = 0; i < ARRAY_SIZE(reserved); i++)
		if (strcmp(name, reserved[i]) == 0)
			return false;
	return grammar_ok(name, DISK_NAME_MAX_LEN);
}

bool config_name_valid(const char *name)
{
	return grammar_ok(name, CONFIG_NAME_MAX_LEN);
}
