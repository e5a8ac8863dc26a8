// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * livepoint key: the passphrases and recovery keys of a repository, and the epochs of its sealing key.
 *
 * Invariants:
 *  1. The repository is opened with what opens it now, before a new secret is asked for.
 *  2. A recovery key is printed when its slot is durable, once, on standard output, and nothing else is.
 */
#include "cli/internal.h"

#include <stdlib.h>

#include "repo/keys.h"

#include "base/banned.h"

static int open_for_change(const struct cli *cli, struct repo **out, struct err *err)
{
	return cli_repo_open(cli, REPO_WRITE, KEY_NEEDED, false, out, err);
}

static int label_needed(const struct cli *cli, const char **out, struct err *err)
{
	*out = opt_text(&cli->opt, O_LABEL);
	if (!*out)
		return err_set(err, ERR_USAGE, "'%s' needs --label LABEL, the name of the key",
			       cli->opt.command->name);
	if (!(*out)[0] || !key_label_valid(*out))
		return err_set(err, ERR_USAGE,
			       "--label takes 1 to %d bytes of UTF-8 without control characters",
			       KEY_LABEL_MAX);
	return 0;
}

/* The result of a change: {"label"} or a line for people. */
static int done(const struct cli *cli, const char *verb, const char *label, const char *more,
		struct err *err)
{
	struct jval *o;

	if (!cli->json) {
		out_note(cli, "%s the key '%s'%s", verb, label, more);
		return 0;
	}
	o = jval_object();
	jval_set(o, "label", jval_str(label));
	return out_json(o, err);
}

/* --- list --- */

static const char *kind_name(const struct key_slot *k)
{
	return k->epochs == 0 ? "damaged" : k->recovery ? "recovery" : "passphrase";
}

static int list_json(const struct key_slot *slots, size_t n, struct err *err)
{
	struct out_array a = { false };
	int r = 0;

	for (size_t i = 0; i < n && r >= 0; i++) {
		const struct key_slot *k = &slots[i];
		struct jval *o = jval_object();

		jval_set(o, "label", k->epochs ? jval_str(k->label) : jval_null());
		jval_set(o, "kind", jval_str(kind_name(k)));
		jval_set(o, "created", k->epochs ? json_time(k->created) : jval_null());
		jval_set(o, "epochs", jval_uint(k->epochs));
		jval_set(o, "opened", jval_bool(k->opened));
		jval_set(o, "version", k->epochs ? jval_uint(k->old ? 1 : 2) : jval_null());
		jval_set(o, "file", jval_str(k->file));
		r = out_array_item(&a, o, err);
	}
	return r < 0 ? r : out_array_end(&a, err);
}

static int list_text(const struct key_slot *slots, size_t n, struct err *err)
{
	static const char *const heads[] = { "LABEL",	"KIND", "LOCAL TIME",
					     ">EPOCHS", "USED", "FILE" };
	cleanup_ptr(table) t = NULL;
	char when[TIME_TEXT_MAX];
	int r = table_new(heads, ARRAY_SIZE(heads), &t, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		const struct key_slot *k = &slots[i];

		out_local_time(when, k->created);
		table_cell(t, "%s", k->epochs ? k->label : "-");
		table_cell(t, "%s", kind_name(k));
		table_cell(t, "%s", k->epochs ? when : "-");
		table_cell(t, "%u", k->epochs);
		table_cell(t, "%s", k->opened ? "now" : "-");
		table_cell(t, "%s", k->file);
	}
	return table_print(t, err);
}

int cmd_key_list(struct cli *cli, struct err *err)
{
	cleanup_free struct key_slot *slots = NULL;
	cleanup_ptr(repo) repo = NULL;
	size_t n;
	int r = cli_repo_open(cli, REPO_READ, KEY_IF_GIVEN, false, &repo, err);

	if (r >= 0)
		r = repo_key_list(repo, &slots, &n, err);
	if (r < 0)
		return r;
	return cli->json ? list_json(slots, n, err) : list_text(slots, n, err);
}

/* --- changes --- */

int cmd_key_add(struct cli *cli, struct err *err)
{
	cleanup_passphrase struct passphrase p = { .len = 0 };
	cleanup_ptr(repo) repo = NULL;
	const char *label;
	int r = label_needed(cli, &label, err);

	if (r == 0)
		r = open_for_change(cli, &repo, err);
	if (r >= 0)
		r = passphrase_new(cli, &p, err);
	if (r >= 0)
		r = repo_key_add(repo, label, p.text, p.len, err);
	return r < 0 ? r : done(cli, "added", label, "", err);
}

int cmd_key_remove(struct cli *cli, struct err *err)
{
	cleanup_ptr(repo) repo = NULL;
	const char *label;
	int r = label_needed(cli, &label, err);

	if (r == 0)
		r = open_for_change(cli, &repo, err);
	if (r >= 0)
		r = repo_key_remove(repo, label, err);
	return r < 0 ? r :
		       done(cli, "removed", label,
			    "; who had it may have kept what it opened: "
			    "'key rotate' seals new data with a key that it never opened",
			    err);
}

/* The label of the slot that opened the repository. */
static int opened_label(struct repo *repo, char out[KEY_LABEL_MAX + 1], struct err *err)
{
	cleanup_free struct key_slot *slots = NULL;
	size_t n;
	int r = repo_key_list(repo, &slots, &n, err);

	out[0] = '\0';
	for (size_t i = 0; r == 0 && i < n; i++)
		if (slots[i].opened)
			str_copy(out, KEY_LABEL_MAX + 1, slots[i].label);
	return r;
}

int cmd_key_change(struct cli *cli, struct err *err)
{
	cleanup_passphrase struct passphrase p = { .len = 0 };
	cleanup_ptr(repo) repo = NULL;
	const char *label = opt_text(&cli->opt, O_LABEL);
	char used[KEY_LABEL_MAX + 1];
	int r = open_for_change(cli, &repo, err);

	if (r >= 0)
		r = opened_label(repo, used, err);
	if (r >= 0)
		r = passphrase_new(cli, &p, err);
	if (r >= 0)
		r = repo_key_change(repo, label, p.text, p.len, err);
	return r < 0 ? r : done(cli, "changed", label ? label : used, "", err);
}

int cmd_key_export_recovery(struct cli *cli, struct err *err)
{
	const char *label = opt_text(&cli->opt, O_LABEL);
	char text[RECOVERY_TEXT_MAX];
	cleanup_ptr(repo) repo = NULL;
	struct jval *o;
	int r;

	label = label ? label : "recovery";
	if (!label[0] || !key_label_valid(label))
		return label_needed(cli, &label, err);
	r = open_for_change(cli, &repo, err);
	if (r >= 0)
		r = repo_key_export_recovery(repo, label, text, err);
	if (r < 0)
		return r;
	if (cli->json) {
		o = jval_object();
		jval_set(o, "label", jval_str(label));
		jval_set(o, "recovery_key", jval_str(text));
		r = out_json(o, err);
	} else {
		printf("%s\n", text);
		out_note(cli, "write it down: it opens the repository and is not shown again");
	}
	mem_wipe(text, sizeof(text));
	return r;
}

static int unlock_recovery(const struct cli *cli, struct repo *repo, struct err *err)
{
	cleanup_passphrase struct passphrase p = { .len = 0 };
	char letters[RECOVERY_LETTERS];
	enum recovery_text what;
	int r;

	if (!repo_is_locked(repo))
		return err_set(err, ERR_INVALID, "the repository is not encrypted: it has no keys");
	r = passphrase_recovery(cli, &p, err);
	if (r < 0)
		return r;
	what = recovery_decode(p.text, p.len, letters);
	mem_wipe(letters, sizeof(letters));
	if (what != RECOVERY_RIGHT)
		return err_set(err, ERR_KEY,
			       what == RECOVERY_WRONG ?
				       "the recovery key has a typing error" :
				       "this is no recovery key: it has 36 letters A to Z and "
				       "digits 2 to 7");
	return repo_unlock(repo, p.text, p.len, false, err);
}

int cmd_key_import_recovery(struct cli *cli, struct err *err)
{
	cleanup_passphrase struct passphrase p = { .len = 0 };
	cleanup_ptr(repo) repo = NULL;
	const char *label;
	int r = label_needed(cli, &label, err);

	if (r == 0)
		r = cli_repo_open(cli, REPO_WRITE, KEY_NOT_USED, false, &repo, err);
	if (r >= 0)
		r = unlock_recovery(cli, repo, err);
	if (r >= 0)
		r = passphrase_new(cli, &p, err);
	if (r >= 0)
		r = repo_key_add(repo, label, p.text, p.len, err);
	return r < 0 ? r : done(cli, "added", label, "", err);
}

int cmd_key_rotate(struct cli *cli, struct err *err)
{
	cleanup_ptr(repo) repo = NULL;
	uint32_t epoch;
	struct jval *o;
	int r = open_for_change(cli, &repo, err);

	if (r >= 0)
		r = repo_key_rotate(repo, &epoch, err);
	if (r < 0)
		return r;
	if (cli->json) {
		o = jval_object();
		jval_set(o, "epoch", jval_uint(epoch));
		return out_json(o, err);
	}
	out_note(cli,
		 "new data is sealed with key epoch %u; exports and backups that run now keep "
		 "their keys until they are started again",
		 epoch);
	return 0;
}
