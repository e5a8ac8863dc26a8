// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * livepoint stats --prometheus: figures in Prometheus' text format (exposition format 0.0.4), for a file that
 * node_exporter's textfile collector reads.  Ages are those of the moment of the call, in seconds.
 */
#include "cli/internal.h"

#include "repo/stats.h"

#include "base/banned.h"

struct name_state {
	const char *name; /* borrowed from the list */
	int64_t good; /* newest point without known damage */
	int64_t verified; /* newest successful verification of a point */
	uint64_t points, damaged;
	bool any_good, any_verified;
};

static void metric(const char *name, const char *help, uint64_t value)
{
	printf("# HELP livepoint_%s %s\n# TYPE livepoint_%s gauge\nlivepoint_%s %llu\n", name, help,
	       name, name, (unsigned long long)value);
}

static void head(const char *name, const char *help)
{
	printf("# HELP livepoint_%s %s\n# TYPE livepoint_%s gauge\n", name, help, name);
}

static struct name_state *state_of(struct name_state *states, size_t *count, const char *name)
{
	for (size_t i = 0; i < *count; i++)
		if (!strcmp(states[i].name, name))
			return &states[i];
	states[*count].name = name;
	return &states[(*count)++];
}

static void add_point(struct name_state *s, const struct point_row *row)
{
	s->points++;
	s->damaged += row->damaged;
	if (row->damaged)
		return;
	if (!s->any_good || row->m->time > s->good)
		s->good = row->m->time;
	s->any_good = true;
	if (row->verified_kind == VERIFIED_NONE)
		return;
	if (!s->any_verified || row->verified_time > s->verified)
		s->verified = row->verified_time;
	s->any_verified = true;
}

/* A NAME has no character that the format would want escaped. */
static void print_names(const struct name_state *states, size_t count)
{
	int64_t now = time_now();

	head("points_of_name", "restore points of this name");
	for (size_t i = 0; i < count; i++)
		printf("livepoint_points_of_name{name=\"%s\"} %llu\n", states[i].name,
		       (unsigned long long)states[i].points);
	head("damaged_points", "restore points of this name with known damage");
	for (size_t i = 0; i < count; i++)
		printf("livepoint_damaged_points{name=\"%s\"} %llu\n", states[i].name,
		       (unsigned long long)states[i].damaged);
	head("last_good_age_seconds", "age of the newest restore point without known damage");
	for (size_t i = 0; i < count; i++)
		if (states[i].any_good)
			printf("livepoint_last_good_age_seconds{name=\"%s\"} %lld\n",
			       states[i].name, (long long)(now - states[i].good));
	head("last_verified_age_seconds", "time since a restore point was last verified");
	for (size_t i = 0; i < count; i++)
		if (states[i].any_verified)
			printf("livepoint_last_verified_age_seconds{name=\"%s\"} %lld\n",
			       states[i].name, (long long)(now - states[i].verified));
}

int stats_prometheus(struct repo *repo, const struct repo_stats *s, struct err *err)
{
	struct point_filter filter = { 0 };
	struct point_list points = { 0 };
	cleanup_free struct name_state *states = NULL;
	size_t count = 0;
	int r = repo_points(repo, &filter, &points, err);

	if (r < 0)
		return r;
	states = mem_alloc_array(MAX(points.count, 1u), sizeof(*states));
	if (!states) {
		point_list_release(&points);
		return err_nomem(err, "figures");
	}
	for (size_t i = 0; i < points.count; i++)
		add_point(state_of(states, &count, points.rows[i].m->name), &points.rows[i]);
	metric("points", "restore points", s->points);
	metric("packs", "pack files", s->packs);
	metric("pack_bytes", "bytes of the pack files", s->pack_bytes);
	metric("index_bytes", "bytes of the index files", s->index_bytes);
	metric("catalog_bytes", "bytes of the catalog", s->catalog_bytes);
	metric("chunks", "stored chunks", s->chunks);
	metric("chunk_plain_bytes", "plain bytes of the stored chunks", s->chunk_plain_bytes);
	metric("chunk_stored_bytes", "stored bytes of the chunks", s->chunk_stored_bytes);
	if (s->referenced_bytes != UINT64_MAX)
		metric("referenced_bytes", "data that all points refer to", s->referenced_bytes);
	print_names(states, count);
	point_list_release(&points);
	return out_check(err);
}
