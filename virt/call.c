// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Calls to libvirt with a time limit, libvirt's errors as ours, and the thread of its event loop; see virt/internal.h.
 *
 * How it works: libvirt has no time limits of its own, and a call may wait for a daemon that is stuck, or for a QEMU whose
 * storage is.  So the call is made by a thread of the connection's pool, on memory that belongs to the call, and its caller
 * waits on a condition for as long as the limit says.
 *
 * Invariants:
 *  1. A call has two references: its caller's and its thread's.  Whoever is last frees it.
 *  2. A call that was given up before its thread came to it is not made.
 *  3. The event loop runs from the first reference to the last; libvirt's handlers are set up once a process.
 */
#include "virt/internal.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <stdlib.h>
#include <time.h>

#include "base/banned.h"

static pthread_mutex_t loop_lock = PTHREAD_MUTEX_INITIALIZER;
static struct pool *loop_pool; /* loop_lock */
static unsigned loop_refs; /* loop_lock */
static bool loop_made; /* loop_lock: virEventRegisterDefaultImpl() was called */
static int loop_timer = -1; /* set once, before the loop's thread is there */
static int loop_stop; /* atomic */

/* --- event loop --- */

static void loop_run(struct pool_job *job, void *ctx)
{
	(void)job;
	(void)ctx;
	while (!__atomic_load_n(&loop_stop, __ATOMIC_ACQUIRE))
		if (virEventRunDefaultImpl() < 0)
			time_sleep_ms(100); /* out of memory or descriptors: no busy loop */
	virEventUpdateTimeout(loop_timer, 0);
	virEventRunDefaultImpl(); /* libvirt frees what was closed in a later round of its loop */
}

/* Ends poll(); the loop then sees loop_stop. */
static void loop_wake(int timer, void *opaque)
{
	(void)opaque;
	virEventUpdateTimeout(timer, -1);
}

static void loop_quiet(void *opaque, virErrorPtr error)
{
	(void)opaque;
	(void)error;
}

static int loop_setup(struct err *err)
{
	if (loop_made)
		return 0;
	if (virInitialize() < 0 || virEventRegisterDefaultImpl() < 0)
		return err_set(err, ERR_FAILED, "cannot start libvirt's event loop");
	virSetErrorFunc(NULL, loop_quiet); /* libraries never print */
	loop_timer = virEventAddTimeout(-1, loop_wake, NULL, NULL);
	if (loop_timer < 0)
		return err_set(err, ERR_FAILED, "cannot add a timer to libvirt's event loop");
	loop_made = true;
	return 0;
}

static int loop_start(struct err *err)
{
	static struct pool_job job = { .run = loop_run };
	int r = loop_setup(err);

	if (r == 0)
		r = pool_new(1, NULL, &loop_pool, err);
	if (r < 0)
		return r;
	__atomic_store_n(&loop_stop, 0, __ATOMIC_RELEASE);
	pool_submit(loop_pool, &job);
	return 0;
}

int virt_loop_ref(struct err *err)
{
	int r = 0;

	pthread_mutex_lock(&loop_lock);
	if (loop_refs == 0)
		r = loop_start(err);
	if (r == 0)
		loop_refs++;
	pthread_mutex_unlock(&loop_lock);
	return r;
}

void virt_loop_unref(void)
{
	pthread_mutex_lock(&loop_lock);
	if (--loop_refs == 0) {
		__atomic_store_n(&loop_stop, 1, __ATOMIC_RELEASE);
		virEventUpdateTimeout(loop_timer, 0);
		pool_free(loop_pool);
		loop_pool = NULL;
	}
	pthread_mutex_unlock(&loop_lock);
}

/* --- errors --- */

int virt_last(void)
{
	virErrorPtr e = virGetLastError();

	return e ? e->code : VIR_ERR_OK;
}

static int system_code(int eno)
{
	switch (eno) {
	case EACCES:
	case EPERM:
		return ERR_PERM;
	case ENOSPC:
	case EDQUOT:
		return ERR_NOSPC;
	case ENOMEM:
		return ERR_NOMEM;
	case EROFS:
		return ERR_READONLY;
	case EEXIST:
		return ERR_EXISTS;
	default:
		return ERR_IO;
	}
}

static int code_of(const virError *e)
{
	switch (e->code) {
	case VIR_ERR_NO_DOMAIN:
	case VIR_ERR_NO_NETWORK:
	case VIR_ERR_NO_STORAGE_POOL:
	case VIR_ERR_NO_STORAGE_VOL:
	case VIR_ERR_DEVICE_MISSING:
		return ERR_NOT_FOUND;
	case VIR_ERR_DOM_EXIST:
	case VIR_ERR_NETWORK_EXIST:
	case VIR_ERR_STORAGE_VOL_EXIST:
		return ERR_EXISTS;
	case VIR_ERR_XML_ERROR:
	case VIR_ERR_XML_DETAIL:
	case VIR_ERR_XML_INVALID_SCHEMA:
	case VIR_ERR_INVALID_ARG:
	case VIR_ERR_INVALID_MAC:
	case VIR_ERR_OS_TYPE:
		return ERR_INVALID;
	case VIR_ERR_CONFIG_UNSUPPORTED:
	case VIR_ERR_OPERATION_UNSUPPORTED:
	case VIR_ERR_ARGUMENT_UNSUPPORTED:
	case VIR_ERR_NO_SUPPORT:
	case VIR_ERR_CPU_INCOMPATIBLE:
		return ERR_UNSUPPORTED;
	case VIR_ERR_AUTH_FAILED:
	case VIR_ERR_AUTH_CANCELLED:
	case VIR_ERR_AUTH_UNAVAILABLE:
	case VIR_ERR_ACCESS_DENIED:
	case VIR_ERR_OPERATION_DENIED:
		return ERR_PERM;
	case VIR_ERR_OPERATION_INVALID:
	case VIR_ERR_BLOCK_COPY_ACTIVE:
	case VIR_ERR_RESOURCE_BUSY:
		return ERR_REFUSED;
	case VIR_ERR_OPERATION_TIMEOUT:
	case VIR_ERR_AGENT_UNRESPONSIVE:
	case VIR_ERR_AGENT_UNSYNCED:
	case VIR_ERR_RPC:
	case VIR_ERR_NO_CONNECT:
	case VIR_ERR_INVALID_CONN:
	case VIR_ERR_UNKNOWN_HOST:
		return ERR_IO;
	case VIR_ERR_NO_MEMORY:
		return ERR_NOMEM;
	case VIR_ERR_SYSTEM_ERROR:
		return system_code(e->int1);
	default:
		/* libvirt 9 has no code of its own for a name that is taken. */
		return e->message && strstr(e->message, "already exists") ? ERR_EXISTS : ERR_FAILED;
	}
}

int virt_failed(struct virt_call *c)
{
	virErrorPtr e = virGetLastError();
	const char *text = e && e->message ? e->message : "libvirt gives no reason";
	char line[ERR_TEXT_MAX / 2];
	size_t i;

	str_copy(line, sizeof(line), text);
	for (i = strlen(line); i > 0 && (line[i - 1] == '\n' || line[i - 1] == '.'); i--)
		line[i - 1] = 0;
	for (i = 0; line[i]; i++)
		if (line[i] == '\n') /* QEMU's own words may have several lines */
			line[i] = ' ';
	return err_set(&c->err, e ? code_of(e) : ERR_FAILED, "%s: %s", c->what, line);
}

/* --- calls --- */

static void call_free(struct virt_call *c)
{
	size_t i;

	if (c->object && c->drop)
		c->drop(c->object);
	if (c->dom)
		virDomainFree(c->dom);
	if (c->conn)
		virConnectClose(c->conn); /* a reference */
	for (i = 0; i < ARRAY_SIZE(c->s); i++)
		free(c->s[i]);
	free(c->text);
	buf_release(&c->bytes);
	pthread_cond_destroy(&c->ended);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

void virt_call_put(struct virt_call *c)
{
	bool last;

	pthread_mutex_lock(&c->lock);
	last = --c->refs == 0;
	pthread_mutex_unlock(&c->lock);
	if (last)
		call_free(c);
}

struct virt_call *virt_call_new(struct virt *v, const struct virt_domain *d, const char *what,
				int (*fn)(struct virt_call *c))
{
	struct virt_call *c = mem_alloc(sizeof(*c));
	pthread_condattr_t attr;

	if (!c)
		return NULL;
	c->fn = fn;
	c->what = what;
	c->v = v;
	c->refs = 1;
	if (v->conn && virConnectRef(v->conn) == 0)
		c->conn = v->conn;
	if (d && virDomainRef(d->dom) == 0)
		c->dom = d->dom;
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->ended, &attr);
	pthread_condattr_destroy(&attr);
	return c;
}

bool virt_call_string(struct virt_call *c, unsigned i, const char *s)
{
	if (!c)
		return false;
	if (!s)
		return true;
	c->s[i] = str_dup(s);
	return c->s[i] != NULL;
}

/* In a thread of the pool. */
static void call_job(struct pool_job *job, void *ctx)
{
	struct virt_call *c = container_of(job, struct virt_call, job);
	unsigned *stuck;
	bool skip;
	int r = 0;

	(void)ctx;
	pthread_mutex_lock(&c->lock);
	skip = c->given_up; /* invariant 2 */
	pthread_mutex_unlock(&c->lock);
	if (!skip) {
		virResetLastError();
		r = c->fn(c);
	}
	pthread_mutex_lock(&c->lock);
	c->r = r;
	c->done = true;
	stuck = c->given_up ? c->stuck : NULL;
	pthread_cond_signal(&c->ended);
	pthread_mutex_unlock(&c->lock);
	virt_call_put(c);
	if (stuck)
		__atomic_sub_fetch(stuck, 1, __ATOMIC_RELEASE);
}

/* Returns true if it ended in time. */
static bool call_wait(struct virt_call *c, uint64_t ms)
{
	struct timespec until;
	bool done;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)(ms / 1000);
	until.tv_nsec += (long)(ms % 1000) * 1000 * 1000;
	if (until.tv_nsec >= 1000 * 1000 * 1000) {
		until.tv_sec++;
		until.tv_nsec -= 1000 * 1000 * 1000;
	}
	pthread_mutex_lock(&c->lock);
	while (!c->done && pthread_cond_timedwait(&c->ended, &c->lock, &until) != ETIMEDOUT)
		;
	done = c->done;
	if (!done) {
		c->given_up = true;
		__atomic_add_fetch(c->stuck, 1, __ATOMIC_ACQ_REL);
	}
	pthread_mutex_unlock(&c->lock);
	return done;
}

int virt_call_run(struct virt_call *c, struct err *err)
{
	uint64_t ms;

	if (!c)
		return err_nomem(err, "a call to libvirt");
	ms = (uint64_t)__atomic_load_n(&c->v->limit_ms, __ATOMIC_ACQUIRE) + c->extra_ms;
	c->stuck = &c->v->stuck;
	c->job.run = call_job;
	c->refs = 2; /* nobody else knows it yet */
	pool_submit(c->v->pool, &c->job);
	if (!call_wait(c, ms))
		return err_set(err, ERR_IO, "%s: no answer from libvirt within %llu s", c->what,
			       (unsigned long long)(ms + 999) / 1000);
	if (c->r < 0 && err)
		*err = c->err;
	return c->r;
}

int virt_call_domain(struct virt_domain *d, const char *what, int (*fn)(struct virt_call *c),
		     struct err *err)
{
	cleanup_ptr(virt_call) c = virt_call_new(d->v, d, what, fn);
	int r = virt_call_run(c, err);

	if (r < 0)
		err_object(err, "%s", d->name);
	return r;
}
