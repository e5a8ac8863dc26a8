// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The schema of catalog.sqlite, as numbered migrations, and what identifies the file.
 * livepoint-repository(5) points here for the meaning of tables and columns.
 *
 * application_id is "LIVP" (0x4c495650), user_version the number of the schema, page size 8192,
 * journal mode WAL.  Step i leads from version i to version i + 1; a released step is never edited.
 * All tables are STRICT.  Numbers that may use 64 bits (locators) are stored as SQLite's signed
 * 64-bit integers with the same bits.  Times are seconds since 1970 UTC.  Bitmaps are blobs, bit i
 * of byte i / 8 is slot i, (slots + 7) / 8 bytes long, NULL if no bit is set.
 *
 * meta		One row.  uuid: of the repository.  generation: raised by every reservation of a
 *		publish sequence, every prune and every state object.  next_pack, next_segment, next_sequence: the
 *		next number to hand out; they never go back.  condemn_gen: generation at which the
 *		condemned slots were condemned; 0: nothing is condemned.  state_locator, state_id:
 *		the newest state object (0, NULL: none yet).  audit_number, audit_mac: the end of
 *		the audit log before its first row here (0, NULL: it begins here), which a rebuild
 *		found in the state object.  rebuilt: 1 after a rebuild that nobody accepted yet.
 * lease	One row for each session at work; a token that is not here changes nothing.
 *		token: AUTOINCREMENT, so never used twice.  kind: 1 ingest, 2 reader,
 *		3 maintenance (at most one).  gen: generation when it was taken.  lock_name: its
 *		file in locks/, on which the owner holds flock(2); alive or dead is told by that
 *		alone.  name: NAME being backed up, "" else; at most one ingest lease a NAME, and
 *		one with "", which stores the state object.
 *		host, pid, boot_id, start_ticks, since: for messages.  reserved_*: name, second and
 *		sequence of the point that is about to be published, all three or none.
 * pin		A reader's hold on a point: prune keeps a pinned point, forgotten or not.
 * pack		The pack directory; a row exists before the file and until the file is gone
 *		durably.  state: 1 writing (under token), 2 live.  token: of the session that wrote
 *		it.  kind: 1 data, 2 map.  slots: highest slot + 1, 0 while writing.  bytes: of the
 *		file, 0 while writing.  gone: slots that no new session may use; holds all of
 *		condemned (may still be taken back) and doomed (for ever), and what was dropped
 *		from the file.  damaged: slots that failed their check; misses for dedup.
 *		published: 1 if its session published a point, so that what it holds was wanted
 *		once (also after a rebuild, which cannot know).  verified: when all its records
 *		were last read and good, 0: never.
 * segment	Chunk index segments.  state: 1 writing (under token), 2 listed: may be read.
 *		records: entries, 0 while writing.
 * point	Restore points.  The row is a cache of the manifest, which counts.  num: internal.
 *		state: 1 complete, 2 forgotten, 3 expired (not readable, the row goes at the end of
 *		the prune).  forgotten, until: when it was forgotten and the second up to which it
 *		can come back, 0 of a complete point.  Name and time belong to it until it is
 *		expired.  manifest_locator, manifest_id: where the manifest is.  name to program:
 *		fields of the manifest; time_text: the time as RFC 3339 text, for lookups by a
 *		shortened time; parent: point id or NULL.  verified_kind: 0 none, 1 structure,
 *		2 data, 3 boot, with the time and the share (0 to 1) of the last verification;
 *		damaged: 1 if one found damage since the last clean one.
 * disk		Disks of a point in the manifest's order (ord from 0).
 * label	Labels of a point in the manifest's order.
 * hold		Complete points that no rule forgets.  reason: text.  since, until: times; until 0:
 *		without end.
 * tomb		Expired points whose row is gone but whose manifest still lies in a pack (doomed):
 *		a rebuild that finds it must not bring the point back.  Goes when that slot is
 *		dropped.
 * overlay	Writable views (overlays/ID/).  num: internal, rises.  id, name ("": none).  state: 1 there, 2 going: discarded or
 *		sealed, its files may be removed, then the row goes.  point: that it stands on, NULL of
 *		one that is going; prune keeps the point.  layer: the first of its layers that
 *		counts (those below were sealed into the point).  sealed: id of the point that an
 *		overlay that is going has become.  created: time.
 * audit	A row for each command that changed the repository, numbered without a gap; mac is
 *		over the row before and this one (livepoint-repository(5)).
 *
 * Rows of overlays are rebuilt from the headers in their folders.
 * What cannot be rebuilt from the packs: verification results, the audit log; holds and forgotten
 * points newer than the newest state object; which packs were published.
 */
#include "catalog/internal.h"

#include "base/banned.h"

static const char schema_1[] =
	"CREATE TABLE meta ("
	" one INTEGER PRIMARY KEY CHECK (one = 1),"
	" uuid BLOB NOT NULL CHECK (length(uuid) = 16),"
	" generation INTEGER NOT NULL CHECK (generation > 0),"
	" next_pack INTEGER NOT NULL CHECK (next_pack > 0),"
	" next_segment INTEGER NOT NULL CHECK (next_segment > 0),"
	" next_sequence INTEGER NOT NULL CHECK (next_sequence > 0),"
	" condemn_gen INTEGER NOT NULL CHECK (condemn_gen >= 0)"
	") STRICT;"

	"CREATE TABLE lease ("
	" token INTEGER PRIMARY KEY AUTOINCREMENT,"
	" kind INTEGER NOT NULL CHECK (kind IN (1, 2, 3)),"
	" gen INTEGER NOT NULL,"
	" lock_name TEXT NOT NULL,"
	" name TEXT NOT NULL,"
	" host TEXT NOT NULL,"
	" pid INTEGER NOT NULL,"
	" boot_id TEXT NOT NULL,"
	" start_ticks INTEGER NOT NULL,"
	" since INTEGER NOT NULL,"
	" reserved_name TEXT,"
	" reserved_time INTEGER,"
	" reserved_sequence INTEGER,"
	" CHECK ((reserved_name IS NULL) = (reserved_time IS NULL)"
	"  AND (reserved_name IS NULL) = (reserved_sequence IS NULL))"
	") STRICT;"
	"CREATE UNIQUE INDEX lease_name ON lease (name) WHERE kind = 1;"
	"CREATE UNIQUE INDEX lease_maintenance ON lease (kind) WHERE kind = 3;"
	"CREATE UNIQUE INDEX lease_reserved ON lease (reserved_name, reserved_time)"
	" WHERE reserved_name IS NOT NULL;"

	"CREATE TABLE pack ("
	" number INTEGER PRIMARY KEY CHECK (number BETWEEN 1 AND 1099511627775),"
	" state INTEGER NOT NULL CHECK (state IN (1, 2)),"
	" token INTEGER NOT NULL,"
	" kind INTEGER NOT NULL CHECK (kind IN (1, 2)),"
	" slots INTEGER NOT NULL CHECK (slots BETWEEN 0 AND 65536),"
	" bytes INTEGER NOT NULL CHECK (bytes >= 0),"
	" gone BLOB,"
	" condemned BLOB,"
	" doomed BLOB,"
	" damaged BLOB"
	") STRICT;"
	"CREATE INDEX pack_writing ON pack (token) WHERE state = 1;"

	"CREATE TABLE segment ("
	" number INTEGER PRIMARY KEY,"
	" state INTEGER NOT NULL CHECK (state IN (1, 2)),"
	" token INTEGER NOT NULL,"
	" records INTEGER NOT NULL CHECK (records >= 0)"
	") STRICT;"
	"CREATE INDEX segment_writing ON segment (token) WHERE state = 1;"

	"CREATE TABLE point ("
	" num INTEGER PRIMARY KEY,"
	" id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),"
	" manifest_locator INTEGER NOT NULL,"
	" manifest_id BLOB NOT NULL CHECK (length(manifest_id) = 32),"
	" state INTEGER NOT NULL CHECK (state IN (1, 2, 3)),"
	" name TEXT NOT NULL,"
	" time INTEGER NOT NULL,"
	" time_text TEXT NOT NULL,"
	" sequence INTEGER NOT NULL,"
	" generation INTEGER NOT NULL,"
	" kind INTEGER NOT NULL,"
	" parent BLOB CHECK (parent IS NULL OR length(parent) = 16),"
	" consistency INTEGER NOT NULL,"
	" stored INTEGER NOT NULL,"
	" program TEXT,"
	" verified_kind INTEGER NOT NULL DEFAULT 0 CHECK (verified_kind BETWEEN 0 AND 3),"
	" verified_time INTEGER NOT NULL DEFAULT 0,"
	" verified_share REAL NOT NULL DEFAULT 0,"
	" damaged INTEGER NOT NULL DEFAULT 0 CHECK (damaged IN (0, 1))"
	") STRICT;"
	"CREATE UNIQUE INDEX point_time ON point (name, time) WHERE state <> 3;"
	"CREATE INDEX point_text ON point (name, state, time_text);"
	"CREATE INDEX point_sequence ON point (name, state, sequence);"
	"CREATE INDEX point_order ON point (sequence);"

	"CREATE TABLE disk ("
	" point INTEGER NOT NULL REFERENCES point (num) ON DELETE CASCADE,"
	" ord INTEGER NOT NULL,"
	" name TEXT NOT NULL,"
	" size INTEGER NOT NULL,"
	" source_size INTEGER NOT NULL,"
	" chunk_size INTEGER NOT NULL,"
	" root_locator INTEGER NOT NULL,"
	" root_id BLOB NOT NULL CHECK (length(root_id) = 32),"
	" method INTEGER NOT NULL,"
	" source TEXT,"
	" read_bytes INTEGER NOT NULL,"
	" unreadable_bytes INTEGER NOT NULL,"
	" PRIMARY KEY (point, ord)"
	") STRICT, WITHOUT ROWID;"

	"CREATE TABLE label ("
	" point INTEGER NOT NULL REFERENCES point (num) ON DELETE CASCADE,"
	" ord INTEGER NOT NULL,"
	" key TEXT NOT NULL,"
	" value TEXT NOT NULL,"
	" PRIMARY KEY (point, ord)"
	") STRICT, WITHOUT ROWID;"
	"CREATE INDEX label_find ON label (key, value, point);"

	"CREATE TABLE pin ("
	" point INTEGER NOT NULL REFERENCES point (num),"
	" token INTEGER NOT NULL REFERENCES lease (token) ON DELETE CASCADE,"
	" PRIMARY KEY (point, token)"
	") STRICT, WITHOUT ROWID;"
	"CREATE INDEX pin_token ON pin (token);";

/* Nothing was ever forgotten in version 1: a session that published is one whose pack holds a manifest. */
static const char schema_2[] =
	"ALTER TABLE meta ADD COLUMN state_locator INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE meta ADD COLUMN state_id BLOB"
	" CHECK (state_id IS NULL OR length(state_id) = 32);"
	"ALTER TABLE meta ADD COLUMN audit_number INTEGER NOT NULL DEFAULT 0"
	" CHECK (audit_number >= 0);"
	"ALTER TABLE meta ADD COLUMN audit_mac BLOB"
	" CHECK (audit_mac IS NULL OR length(audit_mac) = 32);"
	"ALTER TABLE meta ADD COLUMN rebuilt INTEGER NOT NULL DEFAULT 0 CHECK (rebuilt IN (0, 1));"

	"ALTER TABLE pack ADD COLUMN published INTEGER NOT NULL DEFAULT 0"
	" CHECK (published IN (0, 1));"
	"ALTER TABLE pack ADD COLUMN verified INTEGER NOT NULL DEFAULT 0 CHECK (verified >= 0);"
	"CREATE INDEX pack_unpublished ON pack (token) WHERE state = 2 AND published = 0;"
	"UPDATE pack SET published = 1 WHERE state = 2 AND token IN (SELECT token FROM pack"
	" WHERE number IN (SELECT (manifest_locator >> 24) & 1099511627775 FROM point));"

	"ALTER TABLE point ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE point ADD COLUMN until INTEGER NOT NULL DEFAULT 0;"
	"CREATE INDEX point_going ON point (state) WHERE state <> 1;"

	"CREATE TABLE hold ("
	" point INTEGER PRIMARY KEY REFERENCES point (num) ON DELETE CASCADE,"
	" reason TEXT NOT NULL,"
	" since INTEGER NOT NULL,"
	" until INTEGER NOT NULL"
	") STRICT;"

	"CREATE TABLE tomb ("
	" id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),"
	" manifest_locator INTEGER NOT NULL,"
	" forgotten INTEGER NOT NULL,"
	" until INTEGER NOT NULL"
	") STRICT, WITHOUT ROWID;"
	"CREATE INDEX tomb_locator ON tomb (manifest_locator);"

	"CREATE TABLE audit ("
	" number INTEGER PRIMARY KEY CHECK (number > 0),"
	" time INTEGER NOT NULL,"
	" command TEXT NOT NULL,"
	" subject TEXT NOT NULL,"
	" detail TEXT NOT NULL,"
	" actor TEXT NOT NULL,"
	" mac BLOB NOT NULL CHECK (length(mac) = 32)"
	") STRICT;";

static const char schema_3[] =
	"CREATE TABLE overlay ("
	" num INTEGER PRIMARY KEY,"
	" id TEXT NOT NULL UNIQUE CHECK (length(id) = 9),"
	" name TEXT NOT NULL,"
	" point INTEGER REFERENCES point (num),"
	" created INTEGER NOT NULL,"
	" layer INTEGER NOT NULL CHECK (layer BETWEEN 1 AND 4294967295),"
	" state INTEGER NOT NULL CHECK (state IN (1, 2)),"
	" sealed BLOB CHECK (sealed IS NULL OR (state = 2 AND length(sealed) = 16)),"
	" CHECK ((point IS NULL) = (state = 2))"
	") STRICT;"
	"CREATE UNIQUE INDEX overlay_name ON overlay (name) WHERE name <> '' AND state = 1;"
	"CREATE INDEX overlay_point ON overlay (point) WHERE point IS NOT NULL;";

const struct schema_step schema_steps[CATALOG_SCHEMA_VERSION] = {
	{ schema_1 },
	{ schema_2 },
	{ schema_3 },
};

static int set_version(struct catalog *c, int version, struct err *err)
{
	char sql[64];

	/* Pragmas take no parameters. */
	snprintf(sql, sizeof(sql), "PRAGMA user_version = %d", version);
	return sql_exec(c, sql, err);
}

/* One step, if nobody else did it since `from` was read. */
static int upgrade_once(struct catalog *c, const struct schema_step *step, int from,
			struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	uint64_t now = 0;
	int r = txn_begin(&t, c, err);

	if (r < 0)
		return r;
	r = sql_number(c, "PRAGMA user_version", &now, err);
	if (r < 0)
		return r;
	if (now != (uint64_t)from)
		return 0;
	r = sql_exec(c, step->sql, err);
	if (r < 0)
		return r;
	r = set_version(c, from + 1, err);
	if (r < 0)
		return r;
	return txn_commit(&t, "catalog.upgrade.before", "catalog.upgrade.after", err);
}

int schema_upgrade(struct catalog *c, const struct schema_step *steps, int count, struct err *err)
{
	uint64_t version = 0;
	int r, from;

	r = sql_number(c, "PRAGMA user_version", &version, err);
	if (r < 0)
		return r;
	for (from = (int)version; from < count; from++) {
		r = upgrade_once(c, &steps[from], from, err);
		if (r < 0)
			return err_prefix(err, "migration from schema %d to %d", from, from + 1);
	}
	return 0;
}

int schema_create(struct catalog *c, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	char sql[64];
	int r = txn_begin(&t, c, err);

	if (r < 0)
		return r;
	snprintf(sql, sizeof(sql), "PRAGMA application_id = %d", CATALOG_APPLICATION_ID);
	r = sql_exec(c, sql, err);
	if (r < 0)
		return r;
	r = sql_exec(c, schema_1, err);
	if (r < 0)
		return r;
	r = set_version(c, 1, err);
	if (r < 0)
		return r;
	r = sql_run(
		c, err,
		"INSERT INTO meta (one, uuid, generation, next_pack, next_segment, next_sequence,"
		" condemn_gen) VALUES (1, ?, 1, 1, 1, 1, 0)",
		"b", c->uuid, (size_t)UUID_LEN);
	if (r < 0)
		return r;
	r = txn_commit(&t, "catalog.create.before", "catalog.create.after", err);
	if (r < 0)
		return r;
	return schema_upgrade(c, schema_steps, CATALOG_SCHEMA_VERSION, err);
}

int schema_identify(struct catalog *c, int *version, struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	uint64_t application = 0, user = 0;
	int r = sql_number(c, "PRAGMA application_id", &application, err);

	if (r < 0)
		return r;
	if (application != CATALOG_APPLICATION_ID)
		return err_set(err, ERR_DAMAGED,
			       "catalog '%s': not a catalog (application id %lld)", c->path,
			       (long long)application);
	r = sql_number(c, "PRAGMA user_version", &user, err);
	if (r < 0)
		return r;
	if ((int64_t)user < 1)
		return err_set(err, ERR_DAMAGED, "catalog '%s': schema %lld does not exist",
			       c->path, (long long)user);
	if (user > CATALOG_SCHEMA_VERSION)
		return err_set(err, ERR_NO_REPO,
			       "catalog '%s': schema %lld is newer than this program's %d", c->path,
			       (long long)user, CATALOG_SCHEMA_VERSION);
	r = sql_query(c, &s, err, "SELECT 1 FROM meta WHERE one = 1 AND uuid = ?", "b", c->uuid,
		      (size_t)UUID_LEN);
	if (r >= 0)
		r = sql_step(c, s, err);
	if (r == ERR_FAILED) /* no such table */
		return err_recode(err, ERR_DAMAGED);
	if (r < 0)
		return r;
	if (r == 0)
		return err_set(err, ERR_DAMAGED, "catalog '%s': belongs to another repository",
			       c->path);
	*version = (int)user;
	return 0;
}
