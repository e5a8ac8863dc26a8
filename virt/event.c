// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Events of a connection: libvirt's callbacks fill a bounded queue, one reader takes them; and the last word on each block copy.
 *
 * How it works: callbacks come from the thread of the event loop, where nothing may wait and no call to libvirt is made, so they
 * copy what they were told and leave.  An eventfd says that something is there.
 *
 * Invariants:
 *  1. A callback holds a reference to the queue until libvirt says that it will never be called again.
 *  2. The descriptor is readable if and only if an event waits (both change under the lock).
 *  3. When the queue is full the oldest event goes, and the reader is told before the next one (MISSED).
 *  4. Of each disk's copies the last event is kept, until the next copy begins; at most COPIES_MAX disks.
 */
#include "virt/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "virt/xml-internal.h"

#include "base/banned.h"

#define EVENTS_MAX 1024
#define COPIES_MAX 1024

struct copy_word {
	char uuid[VIRT_UUID_TEXT];
	char disk[VIRT_TARGET_MAX];
	enum virt_copy_state state;
};

struct virt_queue {
	pthread_mutex_t lock;
	pthread_cond_t changed; /* an event came */
	unsigned refs; /* lock */
	int fd; /* eventfd */
	bool closed; /* lock */
	bool missed; /* lock */
	struct virt_event *ring; /* lock; EVENTS_MAX */
	unsigned head, count; /* lock */
	struct copy_word *copies; /* lock; COPIES_MAX, a ring: the oldest is replaced */
	unsigned ncopies, next_copy; /* lock */
};

int virt_queue_new(struct virt_queue **out, struct err *err)
{
	struct virt_queue *q = mem_alloc(sizeof(*q));
	pthread_condattr_t attr;

	if (!q)
		return err_nomem(err, "events");
	q->ring = mem_alloc_array(EVENTS_MAX, sizeof(*q->ring));
	q->copies = mem_alloc_array(COPIES_MAX, sizeof(*q->copies));
	q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->refs = 1;
	pthread_mutex_init(&q->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&q->changed, &attr);
	pthread_condattr_destroy(&attr);
	if (!q->ring || !q->copies || q->fd < 0) {
		virt_queue_unref(q);
		return err_nomem(err, "events");
	}
	*out = q;
	return 0;
}

void virt_queue_unref(struct virt_queue *q)
{
	bool last;

	pthread_mutex_lock(&q->lock);
	last = --q->refs == 0;
	pthread_mutex_unlock(&q->lock);
	if (!last)
		return;
	if (q->fd >= 0)
		close(q->fd);
	pthread_cond_destroy(&q->changed);
	pthread_mutex_destroy(&q->lock);
	free(q->ring);
	free(q->copies);
	free(q);
}

static void queue_drop(void *opaque)
{
	virt_queue_unref(opaque);
}

/* --- filling: the event loop's thread --- */

static struct copy_word *copy_find_locked(struct virt_queue *q, const char *uuid, const char *disk)
{
	unsigned i;

	for (i = 0; i < q->ncopies; i++)
		if (strcmp(q->copies[i].uuid, uuid) == 0 && strcmp(q->copies[i].disk, disk) == 0)
			return &q->copies[i];
	return NULL;
}

static void copy_note_locked(struct virt_queue *q, const struct virt_event *e)
{
	struct copy_word *c = copy_find_locked(q, e->uuid, e->disk);

	if (!c) {
		c = &q->copies[q->next_copy];
		q->next_copy = (q->next_copy + 1) % COPIES_MAX;
		if (q->ncopies < COPIES_MAX)
			q->ncopies++;
		str_copy(c->uuid, sizeof(c->uuid), e->uuid);
		str_copy(c->disk, sizeof(c->disk), e->disk);
	}
	c->state = e->copy;
}

static void queue_put(struct virt_queue *q, const struct virt_event *e)
{
	const uint64_t one = 1;

	pthread_mutex_lock(&q->lock);
	if (e->kind == VIRT_EVENT_COPY)
		copy_note_locked(q, e);
	if (e->kind == VIRT_EVENT_CLOSED)
		q->closed = true;
	if (q->count == EVENTS_MAX) {
		q->head = (q->head + 1) % EVENTS_MAX;
		q->count--;
		q->missed = true;
	}
	q->ring[(q->head + q->count++) % EVENTS_MAX] = *e;
	(void)!write(q->fd, &one, sizeof(one)); /* full only when it is readable anyway */
	pthread_cond_broadcast(&q->changed);
	pthread_mutex_unlock(&q->lock);
}

static struct virt_event event_of(virDomainPtr dom, enum virt_event_kind kind)
{
	struct virt_event e = { .kind = kind };
	const char *name = dom ? virDomainGetName(dom) : NULL;

	str_copy(e.name, sizeof(e.name), name ? name : "");
	if (!dom || virDomainGetUUIDString(dom, e.uuid) < 0)
		e.uuid[0] = 0;
	return e;
}

static enum virt_reason stopped_reason(int detail)
{
	switch (detail) {
	case VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN:
		return VIRT_REASON_SHUTDOWN;
	case VIR_DOMAIN_EVENT_STOPPED_DESTROYED:
		return VIRT_REASON_DESTROYED;
	case VIR_DOMAIN_EVENT_STOPPED_FAILED:
	case VIR_DOMAIN_EVENT_STOPPED_CRASHED:
		return VIRT_REASON_FAILED;
	default:
		return VIRT_REASON_OTHER;
	}
}

static int on_lifecycle(virConnectPtr conn, virDomainPtr dom, int event, int detail, void *opaque)
{
	struct virt_event e = event_of(dom, VIRT_EVENT_STARTED);

	(void)conn;
	switch (event) {
	case VIR_DOMAIN_EVENT_STARTED:
		break;
	case VIR_DOMAIN_EVENT_STOPPED:
		e.kind = VIRT_EVENT_STOPPED;
		e.reason = stopped_reason(detail);
		break;
	case VIR_DOMAIN_EVENT_SUSPENDED:
		e.kind = VIRT_EVENT_PAUSED;
		if (detail == VIR_DOMAIN_EVENT_SUSPENDED_IOERROR)
			e.reason = VIRT_REASON_IO_ERROR;
		else if (detail == VIR_DOMAIN_EVENT_SUSPENDED_PAUSED)
			e.reason = VIRT_REASON_USER;
		break;
	case VIR_DOMAIN_EVENT_RESUMED:
		e.kind = VIRT_EVENT_RESUMED;
		break;
	default: /* defined, undefined, about to shut down: nothing that a state would not tell */
		return 0;
	}
	queue_put(opaque, &e);
	return 0;
}

static void on_reboot(virConnectPtr conn, virDomainPtr dom, void *opaque)
{
	struct virt_event e = event_of(dom, VIRT_EVENT_REBOOT);

	(void)conn;
	queue_put(opaque, &e);
}

/* The device comes as libvirt's alias; virt_event_next() makes a target of it. */
static void on_io_error(virConnectPtr conn, virDomainPtr dom, const char *path, const char *alias,
			int action, const char *reason, void *opaque)
{
	struct virt_event e = event_of(dom, VIRT_EVENT_IO_ERROR);

	(void)conn;
	(void)path;
	(void)action;
	str_copy(e.disk, sizeof(e.disk), alias ? alias : "");
	str_copy(e.text, sizeof(e.text), reason ? reason : "");
	queue_put(opaque, &e);
}

static void on_block_job(virConnectPtr conn, virDomainPtr dom, const char *disk, int type,
			 int status, void *opaque)
{
	struct virt_event e = event_of(dom, VIRT_EVENT_COPY);

	(void)conn;
	if (type != VIR_DOMAIN_BLOCK_JOB_TYPE_COPY)
		return;
	str_copy(e.disk, sizeof(e.disk), disk ? disk : "");
	switch (status) {
	case VIR_DOMAIN_BLOCK_JOB_READY:
		e.copy = VIRT_COPY_READY;
		break;
	case VIR_DOMAIN_BLOCK_JOB_COMPLETED:
		e.copy = VIRT_COPY_DONE;
		break;
	case VIR_DOMAIN_BLOCK_JOB_CANCELED:
		e.copy = VIRT_COPY_CANCELED;
		break;
	default:
		e.copy = VIRT_COPY_FAILED;
		break;
	}
	queue_put(opaque, &e);
}

static void on_agent(virConnectPtr conn, virDomainPtr dom, int state, int reason, void *opaque)
{
	struct virt_event e = event_of(dom, VIRT_EVENT_AGENT);

	(void)conn;
	(void)reason;
	e.connected = state == VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED;
	queue_put(opaque, &e);
}

static void on_close(virConnectPtr conn, int reason, void *opaque)
{
	struct virt_event e = event_of(NULL, VIRT_EVENT_CLOSED);

	(void)conn;
	if (reason != VIR_CONNECT_CLOSE_REASON_CLIENT)
		queue_put(opaque, &e);
}

static void queue_ref(struct virt_queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->refs++;
	pthread_mutex_unlock(&q->lock);
}

int virt_queue_register(struct virt_queue *q, virConnectPtr conn, int *callbacks, size_t n)
{
	const struct {
		int id;
		virConnectDomainEventGenericCallback fn;
	} events[] = {
		{ VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle) },
		{ VIR_DOMAIN_EVENT_ID_REBOOT, VIR_DOMAIN_EVENT_CALLBACK(on_reboot) },
		{ VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON, VIR_DOMAIN_EVENT_CALLBACK(on_io_error) },
		{ VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, VIR_DOMAIN_EVENT_CALLBACK(on_block_job) },
		{ VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_agent) },
	};
	size_t i;

	for (i = 0; i < n; i++)
		callbacks[i] = -1;
	for (i = 0; i < ARRAY_SIZE(events) && i < n; i++) {
		queue_ref(q);
		callbacks[i] = virConnectDomainEventRegisterAny(conn, NULL, events[i].id,
								events[i].fn, q, queue_drop);
		if (callbacks[i] < 0) {
			virt_queue_unref(q);
			return -1;
		}
	}
	queue_ref(q);
	if (virConnectRegisterCloseCallback(conn, on_close, q, queue_drop) < 0)
		virt_queue_unref(q); /* a driver within the process cannot lose its connection */
	return 0;
}

void virt_queue_unregister(virConnectPtr conn, int *callbacks, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (callbacks[i] >= 0)
			virConnectDomainEventDeregisterAny(conn, callbacks[i]);
	virConnectUnregisterCloseCallback(conn, on_close);
}

/* --- copies --- */

bool virt_queue_closed(struct virt_queue *q)
{
	bool closed;

	pthread_mutex_lock(&q->lock);
	closed = q->closed;
	pthread_mutex_unlock(&q->lock);
	return closed;
}

enum virt_copy_state virt_queue_copy(struct virt_queue *q, const char *uuid, const char *disk)
{
	enum virt_copy_state state = VIRT_COPY_NONE;
	const struct copy_word *c;

	pthread_mutex_lock(&q->lock);
	c = copy_find_locked(q, uuid, disk);
	if (c)
		state = c->state;
	pthread_mutex_unlock(&q->lock);
	return state;
}

void virt_queue_forget_copy(struct virt_queue *q, const char *uuid, const char *disk)
{
	struct copy_word *c;

	pthread_mutex_lock(&q->lock);
	c = copy_find_locked(q, uuid, disk);
	if (c)
		c->state = VIRT_COPY_NONE;
	pthread_mutex_unlock(&q->lock);
}

static struct timespec time_after(unsigned ms)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += (time_t)(ms / 1000);
	t.tv_nsec += (long)(ms % 1000) * 1000 * 1000;
	if (t.tv_nsec >= 1000 * 1000 * 1000) {
		t.tv_sec++;
		t.tv_nsec -= 1000 * 1000 * 1000;
	}
	return t;
}

void virt_queue_wait(struct virt_queue *q, unsigned ms)
{
	struct timespec until = time_after(ms);

	pthread_mutex_lock(&q->lock);
	(void)!pthread_cond_timedwait(&q->changed, &q->lock, &until);
	pthread_mutex_unlock(&q->lock);
}

/* --- reading --- */

static bool queue_take(struct virt_queue *q, unsigned timeout_ms, struct virt_event *out)
{
	struct timespec until = time_after(timeout_ms);
	bool got = true;
	uint64_t n;

	pthread_mutex_lock(&q->lock);
	while (q->count == 0 && timeout_ms &&
	       pthread_cond_timedwait(&q->changed, &q->lock, &until) != ETIMEDOUT)
		;
	if (q->missed) { /* invariant 3 */
		q->missed = false;
		*out = (struct virt_event){ .kind = VIRT_EVENT_MISSED };
	} else if (q->count > 0) {
		*out = q->ring[q->head];
		q->head = (q->head + 1) % EVENTS_MAX;
		q->count--;
	} else {
		got = false;
	}
	if (q->count == 0)
		(void)!read(q->fd, &n, sizeof(n));
	pthread_mutex_unlock(&q->lock);
	return got;
}

/* The alias of a device as the target of its disk, by the live XML; "" if that is not to be had. */
static void event_target(struct virt *v, struct virt_event *e)
{
	cleanup_ptr(virt_domain) d = NULL;
	cleanup_free char *xml = NULL;
	char target[sizeof(e->disk)] = "";

	if (virt_domain_find(v, e->uuid, &d, NULL) == 0 &&
	    virt_domain_xml(d, VIRT_XML_LIVE, &xml, NULL) == 0)
		virt_xml_alias_target(xml, strlen(xml), e->disk, target, sizeof(target));
	str_copy(e->disk, sizeof(e->disk), target);
}

int virt_event_next(struct virt *v, unsigned timeout_ms, struct virt_event *out, struct err *err)
{
	struct virt_event e;

	(void)err; /* no way to fail today; a remote queue would have one */
	if (!queue_take(v->queue, timeout_ms, &e))
		return 0;
	if (e.kind == VIRT_EVENT_IO_ERROR && e.disk[0])
		event_target(v, &e);
	*out = e;
	return 1;
}

int virt_queue_fd(const struct virt_queue *q)
{
	return q->fd;
}
