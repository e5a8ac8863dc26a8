/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Inside virt/: what a connection is made of, and how every call to libvirt is made.
 *
 *  1. libvirt is called by the threads of a connection's pool alone (and by virt_close(), once no such call is under way).
 *     The caller waits for its call, up to the limit; after that the call is given up: its thread goes on, and what it finds is
 *     dropped.
 *  2. A call (struct virt_call) owns all that its thread needs: references to the connection and the guest, copies of strings.
 *  3. Locks: virt_call.lock, virt_queue.lock; neither is held while libvirt is called, and no two at once.
 */
#ifndef LIVEPOINT_VIRT_INTERNAL_H
#define LIVEPOINT_VIRT_INTERNAL_H

#include <libvirt/libvirt.h>
#include <pthread.h>

#include "base/pool.h"
#include "virt/virt.h"

#define VIRT_TARGET_MAX 64

struct virt_queue; /* events; private to event.c */

struct virt {
	virConnectPtr conn; /* owned */
	struct pool *pool; /* owned; left to the end of the process if a call never came back */
	struct virt_queue *queue; /* one reference */
	int callbacks[8]; /* of libvirt, -1: none */
	char *uri; /* owned */
	bool session, local;
	unsigned limit_ms; /* atomic */
	unsigned stuck; /* atomic: calls that were given up and still run */
};

struct virt_domain {
	struct virt *v; /* borrowed: outlives it */
	virDomainPtr dom; /* owned */
	char *name; /* owned */
	char uuid[VIRT_UUID_TEXT];
};

/* One call to libvirt.  The first group is set by the caller before virt_call_run(), the second by the call's function. */
struct virt_call {
	int (*fn)(struct virt_call *c); /* 0 or more, or a code with c->err filled */
	const char *what; /* "cannot resume guest", a literal */
	virConnectPtr conn; /* reference, or NULL while connecting */
	virDomainPtr dom; /* reference, or NULL */
	char *s[4]; /* owned copies, or NULL */
	uint64_t n;
	unsigned flags;
	unsigned extra_ms; /* on top of the limit: the call itself waits that long */

	char *text; /* owned */
	struct buf bytes;
	uint64_t num[3];
	void *object; /* owned */
	void (*drop)(void *object);
	struct err err;
	int r;

	struct pool_job job; /* from here on call.c's */
	struct virt *v; /* borrowed by the caller's side only */
	pthread_mutex_t lock;
	pthread_cond_t ended;
	unsigned refs; /* lock */
	bool done, given_up; /* lock */
	unsigned *stuck; /* the connection's; virt_close() leaves it where it is while it is not 0 */
};

/* NULL: out of memory.  One reference: virt_call_put(). */
struct virt_call *virt_call_new(struct virt *v, const struct virt_domain *d, const char *what,
				int (*fn)(struct virt_call *c));
void virt_call_put(struct virt_call *c);
DEFINE_CLEANUP(virt_call, virt_call_put)
/* Copies a string into s[i]; false: out of memory.  s NULL: nothing. */
bool virt_call_string(struct virt_call *c, unsigned i, const char *s);
/* Runs it in the pool, waits; returns its r.  c may be NULL: out of memory. */
int virt_call_run(struct virt_call *c, struct err *err);
/* The call with nothing but a guest. */
int virt_call_domain(struct virt_domain *d, const char *what, int (*fn)(struct virt_call *c),
		     struct err *err);

/* For a call's function: fills c->err from libvirt's last error in this thread ("what: message"); returns the code. */
int virt_failed(struct virt_call *c);
/* libvirt's own code of that error (enum virErrorNumber). */
int virt_last(void);

/* The event loop: a reference starts it, the last one ends it. */
int virt_loop_ref(struct err *err);
void virt_loop_unref(void);

/* event.c */
int virt_queue_new(struct virt_queue **out, struct err *err);
void virt_queue_unref(struct virt_queue *q);
/* In a call's function: registers the callbacks on conn; they hold references to q. */
int virt_queue_register(struct virt_queue *q, virConnectPtr conn, int *callbacks, size_t n);
void virt_queue_unregister(virConnectPtr conn, int *callbacks, size_t n);
bool virt_queue_closed(struct virt_queue *q);
/* The last state of a copy that an event told; VIRT_COPY_NONE: no event since virt_queue_forget_copy(). */
enum virt_copy_state virt_queue_copy(struct virt_queue *q, const char *uuid, const char *disk);
void virt_queue_forget_copy(struct virt_queue *q, const char *uuid, const char *disk);
/* Waits for any event, or the time. */
void virt_queue_wait(struct virt_queue *q, unsigned ms);
int virt_queue_fd(const struct virt_queue *q);

/* connect.c, domain.c */
/* takes dom */
int virt_domain_wrap(struct virt *v, virDomainPtr dom, struct virt_domain **out, struct err *err);

#endif
