// SPDX-License-Identifier: GPL-3.0-or-later
/* livepoint stats: what the repository holds; dedup and compression apart. */
#include "cli/internal.h"

#include "repo/stats.h"

#include "base/banned.h"

/* Negative: cannot be said. */
static double ratio(uint64_t a, uint64_t b)
{
	return b && a != UINT64_MAX ? (double)a / (double)b : -1;
}

static struct jval *ratio_json(double v)
{
	return v < 0 ? jval_null() : jval_real(v);
}

static int stats_json(const struct conf *conf, const struct repo_stats *s, struct err *err)
{
	struct jval *o = jval_object();
	bool known = s->referenced_bytes != UINT64_MAX;

	jval_set(o, "uuid", json_id(conf->uuid, UUID_LEN));
	jval_set(o, "suite", jval_str(cli_suite_name(conf->suite)));
	jval_set(o, "chunk_size", jval_uint(conf->chunk_size));
	jval_set(o, "compression", jval_str(compression_name(conf->compression)));
	jval_set(o, "points", jval_uint(s->points));
	jval_set(o, "names", jval_uint(s->names));
	jval_set(o, "packs", jval_uint(s->packs));
	jval_set(o, "segments", jval_uint(s->segments));
	jval_set(o, "disk_bytes", jval_uint(s->disk_bytes));
	jval_set(o, "referenced_bytes", known ? jval_uint(s->referenced_bytes) : jval_null());
	jval_set(o, "chunks", jval_uint(s->chunks));
	jval_set(o, "chunk_plain_bytes", jval_uint(s->chunk_plain_bytes));
	jval_set(o, "chunk_stored_bytes", jval_uint(s->chunk_stored_bytes));
	jval_set(o, "map_stored_bytes", jval_uint(s->map_stored_bytes));
	jval_set(o, "pack_bytes", jval_uint(s->pack_bytes));
	jval_set(o, "index_bytes", jval_uint(s->index_bytes));
	jval_set(o, "catalog_bytes", jval_uint(s->catalog_bytes));
	jval_set(o, "dedup_ratio", ratio_json(ratio(s->referenced_bytes, s->chunk_plain_bytes)));
	jval_set(o, "compression_ratio",
		 ratio_json(ratio(s->chunk_plain_bytes, s->chunk_stored_bytes)));
	return out_json(o, err);
}

static void line_size(const char *head, uint64_t bytes)
{
	char text[SIZE_TEXT_MAX];

	if (bytes != UINT64_MAX)
		out_size(text, bytes);
	else
		str_copy(text, sizeof(text), "needs the passphrase");
	printf("%-24s %s\n", head, text);
}

static void line_count(const char *head, uint64_t n)
{
	printf("%-24s %llu\n", head, (unsigned long long)n);
}

static void line_ratio(const char *head, double v)
{
	if (v < 0)
		printf("%-24s -\n", head);
	else
		printf("%-24s %.2f\n", head, v);
}

static int stats_text(const struct conf *conf, const struct repo_stats *s, struct err *err)
{
	line_count("Restore points:", s->points);
	line_count("Names:", s->names);
	line_size("Disks of all points:", s->disk_bytes);
	line_size("Data in all points:", s->referenced_bytes);
	line_count("Chunks:", s->chunks);
	line_size("Chunks, plain:", s->chunk_plain_bytes);
	line_size("Chunks, stored:", s->chunk_stored_bytes);
	line_size("Maps, stored:", s->map_stored_bytes);
	line_ratio("Dedup ratio:", ratio(s->referenced_bytes, s->chunk_plain_bytes));
	line_ratio("Compression ratio:", ratio(s->chunk_plain_bytes, s->chunk_stored_bytes));
	line_count("Packs:", s->packs);
	line_size("Pack files:", s->pack_bytes);
	line_count("Index segments:", s->segments);
	line_size("Index files:", s->index_bytes);
	line_size("Catalog:", s->catalog_bytes);
	line_size("Chunk size:", conf->chunk_size);
	printf("%-24s %s\n", "Compression:", compression_name(conf->compression));
	printf("%-24s %s\n", "Encryption:", cli_suite_name(conf->suite));
	return out_check(err);
}

int cmd_stats(struct cli *cli, struct err *err)
{
	cleanup_ptr(repo) repo = NULL;
	struct repo_stats s = { 0 };
	int r;

	if (cli->json && opt_given(&cli->opt, O_PROMETHEUS))
		return err_set(err, ERR_USAGE, "--json and --prometheus exclude each other");
	r = cli_repo_open(cli, REPO_READ, KEY_IF_GIVEN, true, &repo, err);
	if (r >= 0)
		r = repo_stats(repo, &s, err);
	if (r < 0)
		return r;
	if (opt_given(&cli->opt, O_PROMETHEUS))
		return stats_prometheus(repo, &s, err);
	return cli->json ? stats_json(repo_conf(repo), &s, err) :
			   stats_text(repo_conf(repo), &s, err);
}
