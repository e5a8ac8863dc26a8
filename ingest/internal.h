/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Shared by the files of ingest/ and its unit tests only: sources behind one table of operations, change maps, and the
 * pass that carries one disk from a source into a session.
 *
 * One thread at a time.
 */
#ifndef LIVEPOINT_INGEST_INTERNAL_H
#define LIVEPOINT_INGEST_INTERNAL_H

#include "ingest/ingest.h"

#define SIZE_UNKNOWN UINT64_MAX
#define SOURCE_GRANULE 4096u

/* --- sources --- */
struct source;

enum piece_state { PIECE_IDLE, PIECE_UNDER_WAY, PIECE_DONE, PIECE_FAILED };
/* One request for data; the memory is the caller's and must stay until state is DONE or FAILED. */
struct source_piece {
	uint64_t offset; /* of the source, bytes */
	size_t n; /* at most source.max_request */
	uint8_t *p;
	enum piece_state state;
	int eno; /* of a failed one */
};
struct source_extent {
	uint64_t start, end; /* bytes; end > start */
	bool hole; /* reads as zeroes, need not be read */
};
struct source_ops {
	/* Fills *out with an extent that holds offset (below size); ends lie on the granule, or at the size. */
	int (*extent)(struct source *s, uint64_t offset, struct source_extent *out,
		      struct err *err);
	/* Begins to read; never waits, failures show in wait.  NULL: wait does it all. */
	void (*start)(struct source *s, struct source_piece *p);
	/* Waits until the piece is read.  ERR_SOURCE: it cannot be read, or s->broken tells that nothing can now. */
	int (*wait)(struct source *s, struct source_piece *p, struct err *err);
	/* Ends everything under way, so that its memory is free; only close and reopen may follow.  NULL: nothing is. */
	void (*cancel)(struct source *s);
	/* After the last read: 0, or 1 and a sentence in err if it changed while it was read, or ERR_SOURCE if it shrank.
	 * NULL: cannot tell. */
	int (*check)(struct source *s, struct err *err);
	/* One attempt to connect again; fills *size.  NULL: what breaks stays broken. */
	int (*reopen)(struct source *s, uint64_t *size, struct err *err);
	void (*close)(struct source *s);
};
struct source {
	const struct source_ops *ops;
	char *where; /* owned: for messages and the record */
	const volatile int *stop; /* borrowed, may be NULL */
	uint64_t size; /* bytes; SIZE_UNKNOWN for a stream */
	uint64_t readable; /* bytes; below size once it was seen to have shrunk */
	uint32_t granule; /* bytes, a power of two: reads begin and end on it, or at the size */
	uint32_t max_request; /* bytes, a multiple of granule, at most SESSION_BUFFER */
	unsigned depth; /* buffers worth having under way */
	bool broken; /* the connection is lost */
	struct source_extent last; /* of source_extent() */
	char *note; /* owned: something to tell the user about this source, or NULL */
};
struct source_options {
	const char *format; /* or NULL */
	bool allow_backing;
	const volatile int *stop;
};
/* Opens WHERE by what it is.  A directory and kinds that come later are refused with a clear error. */
int source_open(const char *where, const struct source_options *o, struct source **out,
		struct err *err);
void source_close(struct source *s);
DEFINE_CLEANUP(source, source_close)
/* ops->extent, remembering the last answer: asking again for each buffer costs nothing. */
int source_extent(struct source *s, uint64_t offset, struct source_extent *out, struct err *err);
/* Reads one range at once, in pieces of max_request. */
int source_read(struct source *s, void *p, size_t n, uint64_t offset, struct err *err);
/* The code in *stop as an error, or 0. */
int ingest_stopped(const volatile int *stop, struct err *err);

int source_file_open(const char *path, const volatile int *stop, struct source **out,
		     struct err *err);
int source_stream_open(int fd, const char *where, const volatile int *stop, struct source **out,
		       struct err *err);
/* Reads the next up to n bytes of a stream; 0 at its end.  Ends within 0.2 s of a stop. */
ssize_t source_stream_next(struct source *s, void *p, size_t n, struct err *err);
/* helper: what must live as long as the connection, released by drop after it; then reopen is refused. */
struct source_helper {
	void (*drop)(void *opaque);
	void *opaque;
};
/* uri: connected to; where: said in messages.  Takes helper->opaque on success only. */
int source_nbd_open(const char *uri, const char *where, const struct source_helper *helper,
		    const volatile int *stop, struct source **out, struct err *err);
/* format: one of those that image_format() gives. */
int source_image_open(const char *path, const char *format, bool allow_backing,
		      const volatile int *stop, struct source **out, struct err *err);

/* --- names --- */
/* "nbd://", "nbd+unix://" and their TLS kin. */
bool where_is_nbd(const char *where);
/* QEMU's name of a format as given by a user ("raw", "qcow2", "vhd" ...); NULL if unknown. */
const char *image_format(const char *name);
/* The same by the ending of a file name; "raw" if it says nothing. */
const char *image_format_of_path(const char *path);

/* --- change maps --- */
enum change { CHANGE_NONE = 0, CHANGE_DATA = 1, CHANGE_HOLE = 2 };
struct change_map;
/* All units unchanged.  unit: bytes, a power of two. */
int change_map_new(uint64_t size, uint32_t unit, struct change_map **out, struct err *err);
void change_map_free(struct change_map *m);
DEFINE_CLEANUP(change_map, change_map_free)
/* Any order, overlapping, beyond the end: clipped and merged.  Data is widened to units; a hole changes whole units to
 * holes and those that it touches to data; data wins over a hole. */
void change_map_add(struct change_map *m, uint64_t start, uint64_t length, enum change change);
/* What holds from byte offset (of a unit) on, and up to which byte. */
enum change change_map_get(const struct change_map *m, uint64_t offset, uint64_t *end);
/* Reads --changed FILE: the ranges of one disk (objects that name another disk are passed over). */
int change_map_read(struct change_map *m, int fd, const char *path, const char *disk,
		    struct err *err);

/* --- results --- */
/* Adds a sentence; attention: exit 3.  Out of memory: it goes to the log alone. */
void ingest_warn(struct ingest_result *result, bool attention, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* --- the pass over one disk --- */
#define PASS_DEPTH 3 /* buffers under way: the smallest session has 4 */
#define SAMPLE_CHUNKS 64 /* of what was read, to tell whether a source came back the same */

struct pass_item; /* private to pass.c */
struct pass_range {
	uint64_t start, end; /* bytes */
};
struct pass_sample {
	uint64_t offset; /* of the chunk */
	uint8_t id[ID_LEN];
};
enum pass_end { PASS_DONE = 0, PASS_BROKEN = 1, PASS_MAP_WRONG = 2 };
struct pass {
	/* set by the caller, borrowed */
	struct repo *repo;
	struct repo_session *session;
	struct source *source;
	struct repo_disk *parent; /* NULL: none */
	const struct change_map *map; /* NULL: read everything */
	const char *disk;
	uint32_t chunk,
		unit; /* bytes; unit: what may be told apart, chunk or the source's granule */
	uint64_t size;
	double sample_percent;
	bool keep_going;
	bool keep_samples; /* fill samples[] */
	progress_fn progress;
	void *progress_opaque;
	/* counted here */
	uint64_t pos; /* bytes: everything below is planned */
	uint64_t done; /* bytes: everything below is with the session */
	uint64_t read_bytes;
	uint64_t unreadable_bytes;
	uint64_t wrong_offset; /* PASS_MAP_WRONG: where */
	struct pass_range *bad; /* owned */
	size_t nbad;
	char bad_reason[160]; /* of the first */
	struct pass_sample samples[SAMPLE_CHUNKS];
	uint64_t samples_seen;
	/* private to pass.c */
	struct pass_item *items; /* ring of PASS_ITEMS */
	unsigned head, count, buffers;
	uint64_t next_sample; /* byte offset of a unit; UINT64_MAX: none any more */
};
/* Allocates; everything above "counted here" is set before. */
int pass_begin(struct pass *p, struct err *err);
/* Goes on at p->pos to the disk's end; returns an enum pass_end or a code.  With anything but PASS_DONE the buffers are
 * back with the session and pos is at the first byte that the session does not have. */
int pass_run(struct pass *p, struct err *err);
/* From the beginning: after session_disk_restart. */
void pass_rewind(struct pass *p);
void pass_release(struct pass *p);
#define cleanup_pass __attribute__((cleanup(pass_release)))
/* For a stream: to its end; fills size. */
int pass_stream(struct pass *p, struct err *err);
/* After a reconnection: reads the samples again.  1: all the same, 0: not, or a code. */
int pass_samples_same(struct pass *p, struct err *err);

/* --- one disk (disk.c) --- */
struct disk_job {
	/* prepared by ingest_disk_prepare, before the session begins */
	const struct ingest_source *given; /* borrowed */
	const char *name; /* borrowed */
	struct source *source; /* owned */
	struct change_map *map; /* owned; NULL: none was given, or it cannot be used */
	uint32_t unit; /* bytes */
	/* while it is read */
	struct repo *repo;
	struct repo_session *session;
	const struct ingest_spec *spec;
	struct ingest_result *result;
	struct pass pass;
	bool second_pass; /* the source broke and was begun again */
};
/* Opens the source and reads the change map: what is wrong with them shows before anything is locked. */
int ingest_disk_prepare(struct repo *r, const struct ingest_spec *spec,
			const struct ingest_source *given, const char *name, struct disk_job *job,
			struct err *err);
/* Opens a file, device or image again, as it is now; a change map for another size is dropped with a warning. */
int ingest_disk_reopen(struct disk_job *job, const struct ingest_spec *spec,
		       struct ingest_result *result, struct err *err);
void ingest_disk_release(struct disk_job *job);
/* Carries it into the session; fills *out. */
int ingest_disk_run(struct disk_job *job, struct repo *r, struct repo_session *s,
		    const struct ingest_spec *spec, struct ingest_result *result,
		    struct ingest_disk_result *out, struct err *err);
/* After PASS_BROKEN (reconnect.c): 0 if the pass may go on at pass.pos, 1 if it has to begin again, or a code. */
int ingest_disk_reconnect(struct disk_job *job, struct err *err);

#endif
