// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Connecting to libvirt, what the daemon knows and offers, and leaving; see virt/virt.h.
 *
 * Invariants:
 *  1. The event loop runs before the connection is opened and until after it is closed.
 *  2. A connection with a call that never came back is not taken apart: its pool and itself stay until the process ends.
 */
#include "virt/internal.h"

#include <libvirt/virterror.h>
#include <stdlib.h>

#include "base/banned.h"

#define CALL_THREADS 6
#define KEEPALIVE_S 5 /* a daemon that misses three is gone */
#define KEEPALIVE_COUNT 3

bool virt_available(void)
{
	return true;
}

static void drop_conn(void *conn)
{
	virConnectClose(conn);
}

/* --- opening --- */

static int open_call(struct virt_call *c)
{
	const char *type;
	virConnectPtr conn = virConnectOpen(c->s[0]);

	if (!conn)
		return virt_failed(c);
	c->object = conn;
	c->drop = drop_conn;
	type = virConnectGetType(conn);
	if (!type || strcmp(type, "QEMU") != 0)
		return err_set(&c->err, ERR_UNSUPPORTED,
			       "%s: guests of \"%s\" are not supported, only those of QEMU",
			       c->what, type ? type : "?");
	c->text = virConnectGetURI(conn);
	if (!c->text)
		return virt_failed(c);
	(void)virConnectSetKeepAlive(conn, KEEPALIVE_S, KEEPALIVE_COUNT); /* embedded: none */
	return 0;
}

static int register_call(struct virt_call *c)
{
	struct virt *v = c->v; /* also after the call was given up: invariant 2 */

	if (virt_queue_register(v->queue, c->conn, v->callbacks, ARRAY_SIZE(v->callbacks)) < 0)
		return virt_failed(c);
	return 0;
}

/* "qemu:///session", "qemu+unix:///system?socket=/run/x": of this machine if no host stands between the slashes. */
static void read_uri(struct virt *v)
{
	const char *rest = strstr(v->uri, "://");
	size_t n;

	v->local = rest && rest[3] == '/';
	rest = rest ? strchr(rest + 3, '/') : NULL;
	n = rest ? strcspn(rest, "?#") : 0;
	v->session = n == strlen("/session") && strncmp(rest, "/session", n) == 0;
}

static int open_connected(struct virt *v, const char *uri, struct err *err)
{
	cleanup_ptr(virt_call) c = virt_call_new(v, NULL, "cannot connect to libvirt", open_call);
	cleanup_ptr(virt_call) events = NULL;
	int r;

	if (!c || !virt_call_string(c, 0, uri))
		return err_nomem(err, "a connection to libvirt");
	r = virt_call_run(c, err);
	if (r < 0)
		return r;
	v->conn = steal_ptr(c->object);
	v->uri = steal_ptr(c->text);
	read_uri(v);
	events = virt_call_new(v, NULL, "cannot receive events of libvirt", register_call);
	return virt_call_run(events, err);
}

int virt_open(const char *uri, struct virt **out, struct err *err)
{
	struct virt *v = mem_alloc(sizeof(*v));
	size_t i;
	int r;

	if (!v)
		return err_nomem(err, "a connection to libvirt");
	v->limit_ms = VIRT_LIMIT_DEFAULT_MS;
	for (i = 0; i < ARRAY_SIZE(v->callbacks); i++)
		v->callbacks[i] = -1;
	r = virt_loop_ref(err); /* invariant 1 */
	if (r < 0) {
		free(v);
		return r;
	}
	r = virt_queue_new(&v->queue, err);
	if (r == 0)
		r = pool_new(CALL_THREADS, NULL, &v->pool, err);
	if (r == 0)
		r = open_connected(v, uri, err);
	if (r < 0) {
		virt_close(v);
		if (uri)
			err_object(err, "%s", uri);
		return r;
	}
	*out = v;
	return 0;
}

void virt_close(struct virt *v)
{
	bool stuck;

	if (!v)
		return;
	stuck = __atomic_load_n(&v->stuck, __ATOMIC_ACQUIRE) != 0;
	if (!stuck && v->pool) {
		pool_free(v->pool);
		v->pool = NULL;
	}
	if (v->conn && !stuck) {
		virt_queue_unregister(v->conn, v->callbacks, ARRAY_SIZE(v->callbacks));
		virConnectClose(v->conn);
	}
	virt_loop_unref();
	if (stuck) /* invariant 2 */
		return;
	if (v->queue)
		virt_queue_unref(v->queue);
	free(v->uri);
	free(v);
}

const char *virt_uri(const struct virt *v)
{
	return v->uri;
}

bool virt_is_session(const struct virt *v)
{
	return v->session;
}

bool virt_is_local(const struct virt *v)
{
	return v->local;
}

void virt_set_limit(struct virt *v, unsigned ms)
{
	__atomic_store_n(&v->limit_ms, MAX(ms, 1), __ATOMIC_RELEASE);
}

bool virt_is_alive(struct virt *v)
{
	return !virt_queue_closed(v->queue) && virConnectIsAlive(v->conn) == 1;
}

int virt_event_fd(const struct virt *v)
{
	return virt_queue_fd(v->queue);
}

/* --- what the host offers --- */

/* No KVM is no failure; neither of the two is. */
static bool host_domcaps(struct virt_call *c, const char *machine)
{
	static const char *const types[] = { "kvm", "qemu" };
	bool any = false;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(types); i++) {
		cleanup_free char *one = virConnectGetDomainCapabilities(c->conn, NULL, c->s[0],
									 machine, types[i], 0);

		if (one)
			buf_printf(&c->bytes, "%s\n", one);
		any = any || one;
	}
	return any;
}

static int host_call(struct virt_call *c)
{
	cleanup_free char *caps = virConnectGetCapabilities(c->conn);
	const char *machine = c->s[1];
	bool any;

	if (!caps)
		return virt_failed(c);
	buf_printf(&c->bytes, "<livepoint-host>\n%s\n", caps);
	any = host_domcaps(c, machine);
	if (!any &&
	    machine) /* a type that this host has not: its family's default answers for it */
		any = host_domcaps(c, strstr(machine, "q35") ? "q35" : "pc");
	if (!any)
		return virt_failed(c);
	buf_printf(&c->bytes, "</livepoint-host>\n");
	return 0;
}

int virt_host_xml(struct virt *v, const char *arch, const char *machine, char **xml,
		  struct err *err)
{
	cleanup_ptr(virt_call)
		c = virt_call_new(v, NULL, "cannot read what libvirt offers", host_call);
	int r;

	if (!virt_call_string(c, 0, arch ? arch : "x86_64") || !virt_call_string(c, 1, machine))
		return err_nomem(err, "capabilities");
	r = virt_call_run(c, err);
	if (r < 0)
		return r;
	*xml = str_dup(buf_str(&c->bytes));
	return *xml && !c->bytes.failed ? 0 : err_nomem(err, "capabilities");
}

static int knows_call(struct virt_call *c)
{
	virDomainPtr by_name = c->s[0] ? virDomainLookupByName(c->conn, c->s[0]) : NULL;
	virDomainPtr by_uuid;
	int bits = by_name ? VIRT_KNOWS_NAME : 0;

	if (by_name)
		virDomainFree(by_name);
	else if (c->s[0] && virt_last() != VIR_ERR_NO_DOMAIN)
		return virt_failed(c);
	by_uuid = c->s[1] ? virDomainLookupByUUIDString(c->conn, c->s[1]) : NULL;
	if (by_uuid) {
		virDomainFree(by_uuid);
		bits |= VIRT_KNOWS_UUID;
	} else if (c->s[1] && virt_last() != VIR_ERR_NO_DOMAIN) {
		return virt_failed(c);
	}
	return bits;
}

int virt_knows(struct virt *v, const char *name, const char *uuid, struct err *err)
{
	cleanup_ptr(virt_call) c = virt_call_new(v, NULL, "cannot look for a guest", knows_call);

	if (!virt_call_string(c, 0, name) || !virt_call_string(c, 1, uuid))
		return err_nomem(err, "a call to libvirt");
	return virt_call_run(c, err);
}
