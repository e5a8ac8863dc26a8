// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The watcher of a connection: looks after the guests that notes in the run folder name, until there is none.
 *
 * A guest that an I/O error has paused is let go on, again and again for a minute: its server was killed or replaced, and QEMU
 * connects anew in the background.  Not when the repository is damaged there, or the overlay in error: then the record says so.
 * When space has run out, it is tried again when there is some.  A guest that is gone makes its recovery ended.
 *
 * One thread: events of libvirt, and a look at everything now and then, since events get lost and so do connections.
 *
 * Invariants:
 *  1. Nothing here waits for a lock of a record; what cannot be written now is written at the next look.
 *  2. A guest of others is never resumed: guest_find() says whose it is.
 *  3. Notes are looked for once more after the lock was let go: who writes one and sees the lock held is not left alone.
 */
#include "recover/internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"

#include "base/banned.h"

#define MS UINT64_C(1000000) /* nanoseconds */
#define NOTES_MS 2000
#define LOOK_MS 5000 /* at a guest without events */
#define RETRY_MS 150
#define RETRY_FOR_MS 60000
#define STEADY 5 /* looks */
#define JUDGE_AGAIN 20 /* resumes */
#define SPACE_MS 10000
#define SETTLE_SECONDS 600 /* later a suspended guest that was moved is somebody's wish */
#define SPACE_BYTES (64 * MiB)
#define CONNECT_MS 1000
#define CALL_MS 30000
#define LOCK_MS 50
#define LOCK_TRIES 10

enum mode {
	MODE_FINE,
	MODE_RETRY, /* resumed until it stays so */
	MODE_SPACE, /* until there is some */
	MODE_STUCK, /* damage, an overlay in error, or a minute was not enough: a person must look */
};
struct guest {
	struct note note; /* owned */
	enum mode mode;
	uint64_t look_ns; /* when to look next */
	uint64_t until_ns; /* MODE_RETRY */
	unsigned tries; /* resumes */
	unsigned steady; /* looks in a row at which it ran, after one */
	char server[SERVE_ID_LEN + 1]; /* whose log was read up to: */
	uint64_t log_offset;
	bool there; /* a note still names it */
	struct guest *next;
};
struct watch {
	const char *connection;
	struct virt *v; /* NULL: no connection now */
	uint64_t connect_ns, notes_ns;
	struct guest *guests;
	const volatile int *stop;
};

static uint64_t after_ms(unsigned ms)
{
	return time_mono_ns() + ms * MS;
}

/* --- which guests --- */

static struct guest *find_guest(struct watch *w, const char *id)
{
	struct guest *g = w->guests;

	while (g && strcmp(g->note.id, id) != 0)
		g = g->next;
	return g;
}

static void free_guest(struct guest *g)
{
	note_release(&g->note);
	free(g);
}

static int see_note(void *opaque, const struct note *n, struct err *err)
{
	struct watch *w = opaque;
	struct guest *g = find_guest(w, n->id);

	if (strcmp(n->connection, w->connection) != 0)
		return 0;
	if (!g) {
		g = mem_alloc(sizeof(*g));
		if (!g)
			return err_nomem(err, "guest");
		str_copy(g->note.id, sizeof(g->note.id), n->id);
		if (!text_copy(&g->note.repository, n->repository) ||
		    !text_copy(&g->note.folder, n->folder) ||
		    !text_copy(&g->note.connection, n->connection) ||
		    !text_copy(&g->note.uuid, n->uuid)) {
			free_guest(g);
			return err_nomem(err, "guest");
		}
		g->next = w->guests;
		w->guests = g;
		log_info("%s: watched", n->id);
	}
	g->there = true;
	return 0;
}

static int read_notes(struct watch *w, struct err *err)
{
	struct guest **at = &w->guests, *g;
	int code;

	for (g = w->guests; g; g = g->next)
		g->there = false;
	code = note_each(see_note, w, err);
	if (code < 0)
		return code;
	while ((g = *at)) {
		if (g->there) {
			at = &g->next;
			continue;
		}
		log_info("%s: no longer watched", g->note.id);
		*at = g->next;
		free_guest(g);
	}
	w->notes_ns = after_ms(NOTES_MS);
	return 0;
}

/* --- the record --- */

/* Opens the record for a change; false: not now, or never again. */
static bool open_record(const struct guest *g, struct recovery *r)
{
	struct err err = ERR_INIT;

	r->folder = str_dup(g->note.folder);
	if (r->folder && recovery_lock(r, 0, &err) == 0 &&
	    recovery_record_read(r->folder, &r->rec, &err) == 0)
		return true;
	if (err.code == ERR_NOT_FOUND)
		note_remove(g->note.id, NULL);
	else if (err.code != ERR_LOCKED)
		log_warning("%s: %s", g->note.id, err.text);
	return false;
}

/* problem: NULL: none any more.  damage: taken over into the record. */
static void record_problem(const struct guest *g, const char *problem,
			   const struct recovery_damage *damage, size_t ndamage)
{
	cleanup_recovery struct recovery r = RECOVERY_INIT(NULL);
	struct recovery_damage *copy = NULL;
	struct err err = ERR_INIT;
	size_t i;

	if (problem)
		log_error("%s: %s", g->note.id, problem);
	if (!open_record(g, &r) || (!problem && !r.rec.problem && !r.rec.ndamage))
		return;
	text_set(&r.rec.problem, problem);
	for (i = 0; i < r.rec.ndamage; i++)
		free(r.rec.damage[i].other);
	r.rec.ndamage = 0;
	copy = mem_realloc_array(r.rec.damage, ndamage ? ndamage : 1, sizeof(*copy));
	if (copy) {
		r.rec.damage = copy;
		for (i = 0; i < ndamage; i++) {
			copy[i] = damage[i];
			copy[i].other = damage[i].other ? str_dup(damage[i].other) : NULL;
			r.rec.ndamage++;
		}
	}
	if (recovery_save(&r, &err) < 0)
		log_warning("%s: %s", g->note.id, err.text);
}

static void ended(const struct guest *g)
{
	cleanup_recovery struct recovery r = RECOVERY_INIT(NULL);
	struct err err = ERR_INIT;

	if (!open_record(g, &r))
		return;
	switch (r.rec.state) {
	case RECOVERY_RUNNING:
		log_info(
			"%s: guest '%s' has stopped; its overlay stays: 'livepoint recover --resume %s' boots it "
			"again",
			g->note.id, r.rec.domain, g->note.id);
		if (recovery_advance(&r, RECOVERY_ENDED, NULL, &err) < 0)
			log_warning("%s: %s", g->note.id, err.text);
		break;
	case RECOVERY_PREPARED:
	case RECOVERY_STARTING:
	case RECOVERY_ENDED:
	case RECOVERY_MIGRATED:
		/* whoever was at work on it has died; who goes on with it writes a note again */
		note_remove(g->note.id, NULL);
		break;
	case RECOVERY_MIGRATING:
	case RECOVERY_PIVOTING:
	case RECOVERY_STATES:
		break; /* the migration finishes without the guest */
	}
}

/* --- why it is paused --- */

/* Free bytes where the guest's writes go. */
static uint64_t free_bytes(const struct guest *g, const struct record *rec)
{
	struct statvfs st;

	if (statvfs(rec->local_dir ? rec->local_dir : g->note.folder, &st) < 0)
		return 0;
	return (uint64_t)st.f_bavail * st.f_frsize;
}

static bool overlay_in_error(struct repo *repo, const struct record *rec)
{
	struct overlay_info *o = NULL;
	bool error;

	if (!rec->overlay[0] || rec->local_dir ||
	    repo_overlay_find(repo, rec->overlay, &o, NULL) < 0)
		return false;
	error = o->error;
	overlay_infos_free(o, 1);
	return error;
}

/* A server that ended with its supervisor; one that needs a key is a person's to start. */
static void revive_server(struct guest *g, struct repo *repo, const struct record *rec)
{
	struct serve_export front = { 0 }, shared = { 0 };
	struct err err = ERR_INIT;
	int lives = servers_find(rec->id, &front, &shared, &err);

	serve_export_release(&front);
	serve_export_release(&shared);
	if (lives != 0)
		return;
	if (repo_conf(repo)->suite) {
		record_problem(
			g,
			"its server is gone, and a new one needs the passphrase: 'livepoint recover "
			"--resume' starts it",
			NULL, 0);
		g->mode = MODE_STUCK;
		return;
	}
	log_info("%s: its server is gone: another is started", g->note.id);
	/* behind a proxy: whether this libvirt needs one is known, if at all, from the start of the guest */
	if (servers_start(repo, rec, true, NULL, NULL, &err) < 0)
		log_warning("%s: %s", g->note.id, err.text);
}

static void say_damage(struct guest *g, struct repo *repo, const struct serve_export *shared,
		       const struct record *rec, struct recovery_damage *list, size_t count)
{
	struct recovery_damage *d = &list[0];
	char text[ERR_TEXT_MAX];
	size_t i;

	for (i = 0; i < count; i++)
		damage_find_other(repo, shared, rec, &list[i], NULL);
	snprintf(
		text, sizeof(text),
		"disk '%s' of %s is damaged from byte %llu to %llu%s: the guest is paused there; %s%s%s",
		d->disk, rec->point, (unsigned long long)d->start,
		(unsigned long long)(d->start + d->length), count > 1 ? ", and elsewhere" : "",
		d->other ? "point " : "no other point of that name has the range undamaged",
		d->other ? d->other : "",
		d->other ? " has that range whole: recover that one" : "");
	record_problem(g, text, list, count);
}

/* Ranges that the server has logged since the guest last ran, and that cannot be read.  Returns how many. */
static size_t look_for_damage(struct guest *g, struct repo *repo, const struct record *rec)
{
	struct serve_export front = { 0 }, shared = { 0 };
	struct recovery_damage *list = NULL;
	struct err err = ERR_INIT;
	size_t count = 0, kept = 0, i;

	if (servers_find(rec->id, &front, &shared, &err) <= 0)
		return 0;
	if (strcmp(g->server, shared.id) != 0) {
		str_copy(g->server, sizeof(g->server), shared.id);
		g->log_offset = 0;
	}
	if (damage_read(rec, &shared, repo_conf(repo)->chunk_size, &g->log_offset, &list, &count,
			&err) < 0)
		log_warning("%s: %s", g->note.id, err.text);
	for (i = 0; i < count; i++)
		if (damage_is_there(&shared, rec->point, &list[i]))
			list[kept++] = list[i];
	if (kept)
		say_damage(g, repo, &shared, rec, list, kept);
	for (i = 0; i < kept; i++)
		free(list[i].other);
	free(list);
	serve_export_release(&front);
	serve_export_release(&shared);
	return kept;
}

/* Looks at a guest that an I/O error has paused, the first time and now and then: sets its mode. */
static void judge(struct guest *g, struct virt_domain *d, const struct record *rec)
{
	cleanup_ptr(repo) repo = NULL;
	struct virt_disk_error errors[VIRT_DISKS_MAX];
	struct err err = ERR_INIT;
	bool space = false;
	int n, i;

	if (g->mode == MODE_FINE) {
		log_info("%s: guest '%s' is paused by an I/O error", g->note.id, rec->domain);
		g->mode = MODE_RETRY;
		g->tries = 0;
		g->until_ns = after_ms(RETRY_FOR_MS);
	}
	if (repo_open(g->note.repository, REPO_READ, &repo, &err) < 0) {
		log_warning("%s: %s", g->note.id, err.text);
		return;
	}
	n = virt_domain_disk_errors(d, errors, VIRT_DISKS_MAX, &err);
	for (i = 0; i < MIN(n, VIRT_DISKS_MAX); i++)
		space |= errors[i].no_space;
	if (overlay_in_error(repo, rec)) {
		char text[160];

		snprintf(
			text, sizeof(text),
			"its overlay is in error: 'livepoint overlays --check %s' tells what can be read",
			rec->overlay);
		record_problem(g, text, NULL, 0);
		g->mode = MODE_STUCK;
	} else if (look_for_damage(g, repo, rec)) {
		g->mode = MODE_STUCK;
	} else if (space && free_bytes(g, rec) < SPACE_BYTES) {
		record_problem(g, "no space is left for what the guest writes", NULL, 0);
		g->mode = MODE_SPACE;
	} else {
		revive_server(g, repo, rec);
	}
}

/* --- looking --- */

/* Where the log of a living server ends now; false: none lives. */
static bool note_log_end(struct guest *g)
{
	struct serve_export front = { 0 }, shared = { 0 };
	cleanup_free char *run = NULL, *path = NULL;
	struct err err = ERR_INIT;
	int lives = servers_find(g->note.id, &front, &shared, &err);

	if (lives > 0 && serve_run_folder(&run, NULL) == 0 &&
	    (path = str_printf("%s/%s.log", run, shared.id))) {
		cleanup_fd int fd = file_open(path, O_RDONLY, 0, NULL);

		str_copy(g->server, sizeof(g->server), shared.id);
		if (fd >= 0)
			file_size(fd, &g->log_offset, path, NULL);
	}
	serve_export_release(&front);
	serve_export_release(&shared);
	return lives != 0;
}

static void is_fine(struct guest *g, const struct record *rec)
{
	cleanup_ptr(repo) repo = NULL;
	struct err err = ERR_INIT;
	bool served = note_log_end(g);

	g->look_ns = after_ms(LOOK_MS);
	if (!served && g->mode == MODE_STUCK)
		return; /* it has not noticed yet that a person is needed */
	if (g->mode != MODE_FINE) {
		log_info("%s: the guest goes on%s", g->note.id,
			 g->mode == MODE_RETRY ? "" : ": somebody has resumed it");
		record_problem(g, NULL, NULL, 0);
	}
	g->mode = MODE_FINE;
	if (served)
		return;
	/* its server has ended for good, and the guest has not noticed yet */
	if (repo_open(g->note.repository, REPO_READ, &repo, &err) < 0)
		log_warning("%s: %s", g->note.id, err.text);
	else
		revive_server(g, repo, rec);
}

static void try_again(struct guest *g, struct virt_domain *d, const struct record *rec)
{
	struct err err = ERR_INIT;

	if (g->mode == MODE_SPACE) {
		g->look_ns = after_ms(SPACE_MS);
		if (free_bytes(g, rec) < SPACE_BYTES)
			return;
		log_info("%s: there is space again", g->note.id);
		g->mode = MODE_RETRY;
		g->until_ns = after_ms(RETRY_FOR_MS);
	}
	g->look_ns = after_ms(g->mode == MODE_STUCK ? LOOK_MS : RETRY_MS);
	if (g->mode == MODE_STUCK)
		return;
	if (time_mono_ns() > g->until_ns) {
		record_problem(
			g,
			"the guest is paused by an I/O error that does not go away: the server's log has "
			"the reason",
			NULL, 0);
		g->mode = MODE_STUCK;
		return;
	}
	if (virt_domain_resume(d, &err) < 0)
		log_warning("%s: %s", g->note.id, err.text);
	g->tries++;
}

/* A migration that died while the guest was suspended for the switch: nobody else would let it run again.  True: it was one. */
static bool settle(const struct guest *g, struct virt_domain *d, const struct virt_status *s)
{
	cleanup_recovery struct recovery r = RECOVERY_INIT(NULL);
	struct err err = ERR_INIT;
	int code = 0;

	if (!open_record(g, &r)) /* its command is at work */
		return false;
	if (r.rec.state == RECOVERY_PIVOTING)
		code = migrate_settle(&r, d, &err);
	else if (r.rec.state == RECOVERY_MIGRATED && s->state == VIRT_PAUSED &&
		 time_now() - r.rec.since < SETTLE_SECONDS)
		code = guest_resume(d, RETRY_FOR_MS, NULL, &err);
	else
		return false;
	if (code < 0)
		log_warning("%s: %s", g->note.id, err.text);
	else
		log_info("%s: a migration that was cut short: guest '%s' runs, the recovery is %s",
			 g->note.id, r.rec.domain, recovery_state_name(r.rec.state));
	return true;
}

static void look(struct watch *w, struct guest *g)
{
	cleanup_record struct record rec = { 0 };
	cleanup_ptr(virt_domain) d = NULL;
	struct virt_status s = { .state = VIRT_GONE };
	struct err err = ERR_INIT;
	int code = recovery_record_read(g->note.folder, &rec, &err);

	g->look_ns = after_ms(LOOK_MS);
	if (code == ERR_NOT_FOUND) {
		note_remove(g->note.id, NULL);
		w->notes_ns = 0;
		return;
	}
	if (code == 0)
		code = guest_find(w->v, &rec, &d, &err);
	if (code == 0 && d)
		code = virt_domain_status(d, &s, &err);
	if (code < 0) {
		log_warning("%s: %s", g->note.id, err.text);
		return;
	}
	if ((rec.state == RECOVERY_PIVOTING || rec.state == RECOVERY_MIGRATED) && d &&
	    settle(g, d, &s))
		return;
	if (rec.state == RECOVERY_PIVOTING && d) /* its command suspends it and lets it go on */
		return;
	if (s.state == VIRT_GONE || s.state == VIRT_OFF) {
		ended(g);
		w->notes_ns = 0;
	} else if (s.state == VIRT_PAUSED && s.reason == VIRT_REASON_IO_ERROR) {
		g->steady = 0;
		if (g->mode == MODE_FINE || (g->mode == MODE_RETRY && g->tries % JUDGE_AGAIN == 0))
			judge(g, d, &rec);
		try_again(g, d, &rec);
	} else if (g->mode == MODE_RETRY && ++g->steady < STEADY) {
		g->look_ns = after_ms(RETRY_MS); /* it may pause again at once */
	} else {
		is_fine(g, &rec);
	}
}

/* --- the loop --- */

static void connect(struct watch *w)
{
	struct err err = ERR_INIT;
	struct guest *g;

	if (time_mono_ns() < w->connect_ns)
		return;
	w->connect_ns = after_ms(CONNECT_MS);
	if (virt_open(w->connection, &w->v, &err) < 0) {
		w->v = NULL;
		log_warning("%s", err.text);
		return;
	}
	virt_set_limit(w->v, CALL_MS);
	log_info("connected to %s", w->connection);
	for (g = w->guests; g; g = g->next)
		g->look_ns = 0;
}

static void take_events(struct watch *w, unsigned wait_ms)
{
	struct virt_event e;
	struct err err = ERR_INIT;
	struct guest *g;

	while (virt_event_next(w->v, wait_ms, &e, &err) > 0) {
		for (g = w->guests; g; g = g->next)
			if (e.kind == VIRT_EVENT_MISSED || strcmp(e.uuid, g->note.uuid) == 0)
				g->look_ns = 0;
		if (e.kind == VIRT_EVENT_CLOSED)
			break;
		wait_ms = 0;
	}
	if (!virt_is_alive(w->v)) {
		log_warning("the connection to %s is lost", w->connection);
		virt_close(w->v);
		w->v = NULL;
	}
}

/* Until something has to be done: at most a second, so that a stop is seen. */
static unsigned wait_ms(const struct watch *w)
{
	uint64_t now = time_mono_ns(), next = now + 1000 * MS;
	const struct guest *g;

	for (g = w->guests; g; g = g->next)
		next = MIN(next, g->look_ns);
	next = MIN(next, w->notes_ns);
	return next <= now ? 0 : (unsigned)((next - now) / MS + 1);
}

static int run(struct watch *w, struct err *err)
{
	while (!(w->stop && *w->stop)) {
		struct guest *g;
		int code;

		if (time_mono_ns() >= w->notes_ns) {
			code = read_notes(w, err);
			if (code < 0)
				return code;
			if (!w->guests)
				return 0;
		}
		if (!w->v)
			connect(w);
		if (!w->v) {
			time_sleep_ms(MIN(wait_ms(w), 200u));
			continue;
		}
		take_events(w, wait_ms(w));
		for (g = w->guests; w->v && g; g = g->next)
			if (time_mono_ns() >= g->look_ns)
				look(w, g);
	}
	return 0;
}

static int count_note(void *opaque, const struct note *n, struct err *err)
{
	const struct watch *w = opaque;

	(void)err;
	return strcmp(n->connection, w->connection) == 0;
}

/* Who only looks whether a watcher lives has the lock for a moment, too. */
static int lock(const char *connection, struct err *err)
{
	unsigned tries;
	int fd = 0;

	for (tries = 0; fd == 0 && tries < LOCK_TRIES; tries++) {
		if (tries)
			time_sleep_ms(LOCK_MS);
		fd = watch_lock(connection, err);
	}
	return fd;
}

int recover_watch(const char *connection, const volatile int *stop, struct err *err)
{
	struct watch w = { .connection = connection, .stop = stop };
	int code, more;

	do {
		int fd = lock(connection, err);

		if (fd == 0)
			return err_set(err, ERR_LOCKED, "guests of '%s' are watched already",
				       connection);
		if (fd < 0)
			return fd;
		code = run(&w, err);
		virt_close(w.v);
		w.v = NULL;
		close(fd);
		more = code == 0 && !(stop && *stop) ? note_each(count_note, &w, err) : 0;
	} while (more > 0);
	while (w.guests) {
		struct guest *g = w.guests;

		w.guests = g->next;
		free_guest(g);
	}
	return code < 0 ? code : MIN(more, 0);
}
