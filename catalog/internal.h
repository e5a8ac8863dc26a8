/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Private to catalog/: the handle, prepared statements and transactions with scope cleanup.
 *
 * A function of the face opens one transaction and leaves it by commit or by its scope:
 *
 *	cleanup_txn struct txn t = TXN_INIT;
 *	cleanup_stmt sqlite3_stmt *s = NULL;
 *
 * The transaction is declared first, so that statements are finalised before it is rolled back.
 */
#ifndef LIVEPOINT_CATALOG_INTERNAL_H
#define LIVEPOINT_CATALOG_INTERNAL_H

#include <sqlite3.h>
#include <sys/types.h>

#include "base/fault.h"
#include "catalog/gc.h"
#include "catalog/overlay.h"

#define CATALOG_APPLICATION_ID 0x4c495650 /* "LIVP" */
#define CATALOG_PAGE_SIZE 8192 /* bytes */
#define CATALOG_BUSY_MS 30000
#define SLOT_BITS_MAX (SLOT_MAX_COUNT / 8) /* bytes */

struct catalog {
	sqlite3 *db;
	char *path; /* owned; as given, for messages */
	char *private_dir; /* owned; folder with a private copy, removed at close; else NULL */
	uint8_t uuid[UUID_LEN];
	enum catalog_mode mode;
	bool broken; /* a COMMIT or ROLLBACK failed: only close is left (sticky) */
	bool relaxed; /* the connection is set to synchronous = NORMAL */
	bool rebuilding; /* between catalog_rebuild_begin() and _end(): one transaction is open */
	bool state_seen; /* catalog_state_read() was called; then the newest state object was at: */
	uint64_t state_locator;
	pid_t pid; /* of the process that opened it */
};

/* --- sql.c: errors --- */
/* Error of the connection's last call, which returned rc: "catalog 'PATH': WHAT: sqlite's words". */
int sql_err(struct catalog *c, int rc, struct err *err, const char *what);
int sql_code(sqlite3 *db, int rc); /* an err_code for a result code */
/* A row that no version of this program writes: ERR_DAMAGED. */
int sql_bad_row(struct catalog *c, struct err *err, const char *table, int64_t row);

/* --- sql.c: statements --- */
void sql_cleanup_stmt(sqlite3_stmt **s);
#define cleanup_stmt __attribute__((cleanup(sql_cleanup_stmt)))
/*
 * Prepares and binds.  types: one letter a parameter, in order: n int, u uint64_t or int64_t, d double,
 * t const char * (NULL: null), b const void * and size_t (NULL: null).  Texts and blobs are borrowed until
 * the statement is bound again or finalised.
 */
int sql_query(struct catalog *c, sqlite3_stmt **out, struct err *err, const char *sql,
	      const char *types, ...);
/* Resets a statement and binds it again. */
int sql_bind(struct catalog *c, sqlite3_stmt *s, struct err *err, const char *types, ...);
/* 1: a row, 0: no more. */
int sql_step(struct catalog *c, sqlite3_stmt *s, struct err *err);
/* Steps to the end; returns the number of rows changed. */
int sql_finish(struct catalog *c, sqlite3_stmt *s, struct err *err);
/* sql_query() and sql_finish() in one. */
int sql_run(struct catalog *c, struct err *err, const char *sql, const char *types, ...);
int sql_exec(struct catalog *c, const char *sql, struct err *err); /* any number of statements */
/* The first column of the only row; no row is ERR_DAMAGED. */
int sql_number(struct catalog *c, const char *sql, uint64_t *out, struct err *err);

/* --- sql.c: columns --- */
static inline uint64_t column_u64(sqlite3_stmt *s, int i)
{
	return (uint64_t)sqlite3_column_int64(s, i);
}
/* False if null, too long for size bytes, or with a 0 inside. */
bool column_text(sqlite3_stmt *s, int i, char *dst, size_t size);
/* False if not exactly n bytes. */
bool column_blob(sqlite3_stmt *s, int i, void *dst, size_t n);
/* The first column of all rows; *out is freed by the caller. */
int sql_u64_list(struct catalog *c, sqlite3_stmt *s, uint64_t **out, size_t *count,
		 struct err *err);
/* Makes room for one more row behind `count` and zeroes it; false without memory. */
bool array_grow(void **rows, size_t count, size_t *cap, size_t size);

/* --- sql.c: transactions --- */
struct txn {
	struct catalog *c; /* NULL: not open */
};
#define TXN_INIT                                                                                   \
	{                                                                                          \
		NULL                                                                               \
	}
int txn_begin(struct txn *t, struct catalog *c, struct err *err); /* BEGIN IMMEDIATE */
/* The same for what need not outlive a power cut, because its process does not either (leases and pins of readers): the
 * commit is seen by everybody at once, but not synced.  A later txn_begin of the handle is durable again. */
int txn_begin_relaxed(struct txn *t, struct catalog *c, struct err *err);
int txn_begin_read(struct txn *t, struct catalog *c, struct err *err);
/* before, after: the step's fault points on both sides of COMMIT. */
int txn_commit(struct txn *t, const char *before, const char *after, struct err *err);
void txn_rollback(struct txn *t); /* of a transaction that is open; else nothing */
#define cleanup_txn __attribute__((cleanup(txn_rollback)))

/* --- schema.c --- */
/* step[i] leads from user_version i to i + 1. */
struct schema_step {
	const char *sql;
};
extern const struct schema_step schema_steps[CATALOG_SCHEMA_VERSION];
/* Does the steps from the version found to `count`, each in its own transaction. */
int schema_upgrade(struct catalog *c, const struct schema_step *steps, int count, struct err *err);
/* A new catalog: first schema, identity, counters. */
int schema_create(struct catalog *c, struct err *err);
/* Application id, version and uuid; fills *version. */
int schema_identify(struct catalog *c, int *version, struct err *err);

/* --- lease.c --- */
/* ERR_FENCED if the token is not in `lease`; gen and kind may be NULL. */
int lease_alive(struct catalog *c, uint64_t token, uint64_t *gen, int *kind, struct err *err);
/* Inserts spec with gen = generation of now; fills *token, *gen. */
int lease_insert(struct catalog *c, const struct lease *spec, uint64_t *token, uint64_t *gen,
		 struct err *err);
/* Finds a lease of the kind and (ingest) name: 1 if there is one, which is filled in. */
int lease_find(struct catalog *c, enum lease_kind kind, const char *name, struct lease *out,
	       struct err *err);
/* from: what follows the columns, " FROM lease ..."; *out is freed by the caller. */
int lease_rows(struct catalog *c, const char *from, struct lease **out, size_t *count,
	       struct err *err);
/* ERR_LOCKED with who, since when, and what to do; `what` names what is held. */
int lease_locked(const struct lease *holder, const char *what, struct err *err);

/* --- pack.c --- */
#define PACK_ROW "number, state, token, kind, slots, bytes, published, verified, gone, damaged, "
#define PACK_COLUMNS PACK_ROW "NULL, NULL" /* without condemned and doomed bits */
#define PACK_COLUMNS_ALL PACK_ROW "condemned, doomed"
int pack_rows(struct catalog *c, sqlite3_stmt *s, struct pack_list *out, struct err *err);

/* --- point.c --- */
#define POINT_COLUMNS                                                                              \
	"p.num, p.id, p.manifest_locator, p.manifest_id, p.state, p.verified_kind, "               \
	"p.verified_time, p.verified_share, p.damaged, p.name, p.time, p.sequence, "               \
	"p.generation, p.kind, p.parent, p.consistency, p.stored, p.program, p.forgotten, p.until"
int point_rows(struct catalog *c, sqlite3_stmt *s, struct point_list *out, struct err *err);
/* The first row of the statement: 1 and filled, or 0. */
int point_first(struct catalog *c, sqlite3_stmt *s, struct point_row *out, struct err *err);
/* The name's complete point with the highest sequence: 1 and filled, or 0. */
int point_newest(struct catalog *c, const char *name, struct point_row *out, struct err *err);
/* ERR_NOT_FOUND, with the id. */
int point_missing(const uint8_t id[POINT_ID_LEN], struct err *err);
int point_insert(struct catalog *c, const uint8_t id[POINT_ID_LEN], enum point_state state,
		 const struct object_ref *manifest_ref, const struct manifest *m, struct err *err);

/* --- pack-edit.c --- */
/* The bits of one live pack after another, to be changed inside a transaction.  Each map is SLOT_BITS_MAX long, with zeroes
 * beyond nbytes; no bit stands beyond the last slot. */
struct pack_edit {
	sqlite3_stmt *read, *write;
	uint64_t number, bytes;
	uint32_t slots, nbytes; /* of a map: (slots + 7) / 8 */
	uint8_t *gone, *condemned, *doomed, *damaged; /* one allocation, at gone */
};
int pack_edit_init(struct catalog *c, struct pack_edit *e, struct err *err);
/* 1, or 0 if there is no such live pack. */
int pack_edit_read(struct catalog *c, struct pack_edit *e, uint64_t number, struct err *err);
int pack_edit_write(struct catalog *c, struct pack_edit *e, struct err *err);
void pack_edit_release(struct pack_edit *e);
#define PACK_EDIT_INIT                                                                             \
	{                                                                                          \
		NULL                                                                               \
	}
#define cleanup_edit __attribute__((cleanup(pack_edit_release)))

/* --- session.c --- */
/* Makes what is done live and listed; ERR_INTERNAL if it was not begun under the token. */
int session_done_apply(struct catalog *c, uint64_t token, const struct session_done *done,
		       struct err *err);

/* --- audit.c --- */
/* Appends inside the transaction that is open; NULL: nothing. */
int audit_put(struct catalog *c, struct audit *audit, struct err *err);
/* The last entry's number, mac and time, or the anchor's; zeroes if there is none. */
int audit_last(struct catalog *c, uint64_t *number, uint8_t mac[ID_LEN], int64_t *time,
	       struct err *err);

/* --- hold.c --- */
int hold_rows(struct catalog *c, struct hold **out, size_t *count, struct err *err);
/* ERR_NOT_FOUND as catalog_state_publish(), ERR_INVALID. */
int hold_put(struct catalog *c, const struct hold_change *h, struct err *err);

/* --- state.c --- */
/* The reference that meta has; ERR_DAMAGED if it cannot be. */
int state_ref_read(struct catalog *c, struct object_ref *out, struct err *err);

/* --- overlay.c --- */
/* Both in the transaction that is open.  In a rebuild points have no state yet: any will do. */
int overlay_put(struct catalog *c, const struct overlay_row *row, struct err *err);
/* id: of the point that it became, whose row is there. */
int overlay_seal(struct catalog *c, const struct overlay_sealed *sealed,
		 const uint8_t id[POINT_ID_LEN], struct err *err);

/* --- gc.c --- */
/* ERR_FENCED, or ERR_INTERNAL if it is not a maintenance lease. */
int maintenance_alive(struct catalog *c, uint64_t token, struct err *err);

/* --- open.c --- */
void catalog_set_busy(struct catalog *c, int ms); /* how long to wait for other writers */

/* --- readonly.c --- */
/* Opens the catalog at the real path for reading by the first way that works: fills c->db, c->private_dir.
 * ERR_DAMAGED and ERR_NO_REPO of schema_identify() end the search. */
int readonly_open(struct catalog *c, const char *real, int *version, struct err *err);
/* Instead of what is open, if it is not that already: a private copy, brought to the newest schema. */
int readonly_migrate(struct catalog *c, const char *real, struct err *err);
/* Opens a connection and sets what every connection has; fills c->db. */
int connection_open(struct catalog *c, const char *name, int flags, struct err *err);
void connection_close(struct catalog *c);
/* Removes a private copy; tells the log if it cannot. */
void readonly_remove(const char *dir);

#endif
