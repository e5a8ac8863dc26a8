// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Guests: finding, starting, defining, their state and power; see virt/virt.h.
 *
 * How it works: each public function is a call (virt/internal.h) whose function makes one or two calls of libvirt's.
 *
 * Invariants:
 *  1. What libvirt says about a guest that it does not know is an answer, not a failure, wherever the question was its state.
 *  2. The libvirt object that a call found is the call's until the caller took it: a call that was given up leaks none.
 */
#include "virt/internal.h"

#include <libvirt/virterror.h>
#include <stdlib.h>

#include "virt/xml-internal.h"

#include "base/banned.h"

static void drop_domain(void *dom)
{
	virDomainFree(dom);
}

int virt_domain_wrap(struct virt *v, virDomainPtr dom, struct virt_domain **out, struct err *err)
{
	struct virt_domain *d = mem_alloc(sizeof(*d));
	const char *name = virDomainGetName(dom);

	if (d) {
		d->v = v;
		d->dom = dom;
		d->name = str_dup(name ? name : "");
	}
	if (!d || !d->name || virDomainGetUUIDString(dom, d->uuid) < 0) {
		free(d ? d->name : NULL);
		free(d);
		virDomainFree(dom);
		return err_nomem(err, "a guest");
	}
	*out = d;
	return 0;
}

void virt_domain_free(struct virt_domain *d)
{
	if (!d)
		return;
	virDomainFree(d->dom);
	free(d->name);
	free(d);
}

const char *virt_domain_name(const struct virt_domain *d)
{
	return d->name;
}

const char *virt_domain_uuid(const struct virt_domain *d)
{
	return d->uuid;
}

/* Runs a call that leaves a domain in c->object; out may be NULL.  c may be NULL. */
static int run_for_domain(struct virt *v, struct virt_call *c, struct virt_domain **out,
			  struct err *err)
{
	int r = virt_call_run(c, err);

	if (r < 0 || !out)
		return r;
	return virt_domain_wrap(v, steal_ptr(c->object), out, err);
}

/* --- finding and making --- */

static int find_call(struct virt_call *c)
{
	virDomainPtr dom = virDomainLookupByName(c->conn, c->s[0]);
	bool uuid = strlen(c->s[0]) == VIRT_UUID_TEXT - 1;

	if (!dom && virt_last() == VIR_ERR_NO_DOMAIN && uuid) {
		dom = virDomainLookupByUUIDString(c->conn, c->s[0]);
		if (!dom && virt_last() != VIR_ERR_NO_DOMAIN)
			return err_set(&c->err, ERR_NOT_FOUND, "no guest \"%s\"", c->s[0]);
	}
	if (!dom && virt_last() == VIR_ERR_NO_DOMAIN)
		return err_set(&c->err, ERR_NOT_FOUND, "no guest \"%s\"", c->s[0]);
	if (!dom)
		return virt_failed(c);
	c->object = dom;
	c->drop = drop_domain;
	return 0;
}

int virt_domain_find(struct virt *v, const char *name_or_uuid, struct virt_domain **out,
		     struct err *err)
{
	cleanup_ptr(virt_call) c = virt_call_new(v, NULL, "cannot look for a guest", find_call);
	int r;

	if (!virt_call_string(c, 0, name_or_uuid))
		return err_nomem(err, "a call to libvirt");
	r = run_for_domain(v, c, out, err);
	if (r < 0)
		err_object(err, "%s", name_or_uuid);
	return r;
}

/* A libvirt that does not know <reconnect delay=> of NBD refuses it by its schema (9.0) or drops it: refused, it is left out, so
 * that both look the same, in the live XML. */
static bool without_reconnect(struct virt_call *c)
{
	cleanup_free char *xml = NULL;

	if (virt_last() != VIR_ERR_XML_INVALID_SCHEMA ||
	    virt_xml_drop_reconnect(c->s[0], strlen(c->s[0]), &xml, NULL) != 1)
		return false;
	free(c->s[0]);
	c->s[0] = steal_ptr(xml);
	return true;
}

static int create_call(struct virt_call *c)
{
	unsigned flags = 0;

	if (c->flags & VIRT_CREATE_PAUSED)
		flags |= VIR_DOMAIN_START_PAUSED;
	if (c->flags & VIRT_CREATE_VALIDATE)
		flags |= VIR_DOMAIN_START_VALIDATE;
	if (c->flags & VIRT_CREATE_AUTODESTROY)
		flags |= VIR_DOMAIN_START_AUTODESTROY;
	c->object = virDomainCreateXML(c->conn, c->s[0], flags);
	if (!c->object && without_reconnect(c))
		c->object = virDomainCreateXML(c->conn, c->s[0], flags);
	c->drop = drop_domain;
	return c->object ? 0 : virt_failed(c);
}

int virt_domain_create(struct virt *v, const char *xml, unsigned flags, struct virt_domain **out,
		       struct err *err)
{
	cleanup_ptr(virt_call) c = virt_call_new(v, NULL, "cannot start the guest", create_call);

	if (!virt_call_string(c, 0, xml))
		return err_nomem(err, "a call to libvirt");
	c->flags = flags;
	return run_for_domain(v, c, out, err);
}

static int define_call(struct virt_call *c)
{
	c->object = virDomainDefineXMLFlags(c->conn, c->s[0], VIR_DOMAIN_DEFINE_VALIDATE);
	if (!c->object && without_reconnect(c))
		c->object = virDomainDefineXMLFlags(c->conn, c->s[0], VIR_DOMAIN_DEFINE_VALIDATE);
	c->drop = drop_domain;
	return c->object ? 0 : virt_failed(c);
}

int virt_domain_define(struct virt *v, const char *xml, struct virt_domain **out, struct err *err)
{
	cleanup_ptr(virt_call) c = virt_call_new(v, NULL, "cannot define the guest", define_call);

	if (!virt_call_string(c, 0, xml))
		return err_nomem(err, "a call to libvirt");
	return run_for_domain(v, c, out, err);
}

/* --- state --- */

static enum virt_reason off_reason(int reason)
{
	switch (reason) {
	case VIR_DOMAIN_SHUTOFF_SHUTDOWN:
		return VIRT_REASON_SHUTDOWN;
	case VIR_DOMAIN_SHUTOFF_DESTROYED:
		return VIRT_REASON_DESTROYED;
	case VIR_DOMAIN_SHUTOFF_CRASHED:
	case VIR_DOMAIN_SHUTOFF_FAILED:
	case VIR_DOMAIN_SHUTOFF_DAEMON:
		return VIRT_REASON_FAILED;
	default:
		return VIRT_REASON_OTHER;
	}
}

static enum virt_reason paused_reason(int reason)
{
	switch (reason) {
	case VIR_DOMAIN_PAUSED_IOERROR:
		return VIRT_REASON_IO_ERROR;
	case VIR_DOMAIN_PAUSED_USER:
	case VIR_DOMAIN_PAUSED_STARTING_UP:
		return VIRT_REASON_USER;
	default:
		return VIRT_REASON_OTHER;
	}
}

/* num: state, reason, persistent. */
static int status_call(struct virt_call *c)
{
	enum virt_reason why = VIRT_REASON_OTHER;
	enum virt_state is = VIRT_STATE_OTHER;
	int state, reason, persistent;

	persistent = virDomainIsPersistent(c->dom);
	if (persistent < 0 || virDomainGetState(c->dom, &state, &reason, 0) < 0) {
		if (virt_last() != VIR_ERR_NO_DOMAIN)
			return virt_failed(c);
		c->num[0] = VIRT_GONE; /* invariant 1 */
		return 0;
	}
	switch (state) {
	case VIR_DOMAIN_RUNNING:
	case VIR_DOMAIN_BLOCKED:
		is = VIRT_RUNNING;
		break;
	case VIR_DOMAIN_PAUSED:
		is = VIRT_PAUSED;
		why = paused_reason(reason);
		break;
	case VIR_DOMAIN_SHUTOFF:
		is = VIRT_OFF;
		why = off_reason(reason);
		break;
	case VIR_DOMAIN_CRASHED:
		is = VIRT_CRASHED;
		break;
	}
	c->num[0] = is;
	c->num[1] = why;
	c->num[2] = persistent == 1;
	return 0;
}

int virt_domain_status(struct virt_domain *d, struct virt_status *out, struct err *err)
{
	cleanup_ptr(virt_call)
		c = virt_call_new(d->v, d, "cannot read the guest's state", status_call);
	int r = virt_call_run(c, err);

	if (r < 0)
		return r;
	*out = (struct virt_status){ .state = (enum virt_state)c->num[0],
				     .reason = (enum virt_reason)c->num[1],
				     .persistent = c->num[2] != 0 };
	return 0;
}

static int resume_call(struct virt_call *c)
{
	return virDomainResume(c->dom) < 0 ? virt_failed(c) : 0;
}

int virt_domain_resume(struct virt_domain *d, struct err *err)
{
	return virt_call_domain(d, "cannot resume the guest", resume_call, err);
}

static int suspend_call(struct virt_call *c)
{
	return virDomainSuspend(c->dom) < 0 ? virt_failed(c) : 0;
}

int virt_domain_suspend(struct virt_domain *d, struct err *err)
{
	return virt_call_domain(d, "cannot pause the guest", suspend_call, err);
}

static int destroy_call(struct virt_call *c)
{
	if (virDomainDestroyFlags(c->dom, VIR_DOMAIN_DESTROY_DEFAULT) == 0)
		return 1;
	if (virt_last() == VIR_ERR_NO_DOMAIN || virDomainIsActive(c->dom) == 0)
		return 0;
	return virt_failed(c);
}

int virt_domain_destroy(struct virt_domain *d, struct err *err)
{
	return virt_call_domain(d, "cannot stop the guest", destroy_call, err);
}

static int shutdown_call(struct virt_call *c)
{
	return virDomainShutdownFlags(c->dom, VIR_DOMAIN_SHUTDOWN_DEFAULT) < 0 ? virt_failed(c) : 0;
}

int virt_domain_shutdown(struct virt_domain *d, struct err *err)
{
	return virt_call_domain(d, "cannot ask the guest to power off", shutdown_call, err);
}

static int reset_call(struct virt_call *c)
{
	return virDomainReset(c->dom, 0) < 0 ? virt_failed(c) : 0;
}

int virt_domain_reset(struct virt_domain *d, struct err *err)
{
	return virt_call_domain(d, "cannot reset the guest", reset_call, err);
}

/* --- definition --- */

static int xml_call(struct virt_call *c)
{
	c->text = virDomainGetXMLDesc(c->dom, c->flags);
	return c->text ? 0 : virt_failed(c);
}

int virt_domain_xml(struct virt_domain *d, enum virt_xml_kind kind, char **xml, struct err *err)
{
	static const unsigned flags[] = {
		[VIRT_XML_LIVE] = 0,
		[VIRT_XML_INACTIVE] = VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE,
		[VIRT_XML_MIGRATABLE] = VIR_DOMAIN_XML_MIGRATABLE | VIR_DOMAIN_XML_SECURE,
	};
	cleanup_ptr(virt_call) c = virt_call_new(d->v, d, "cannot read the guest's XML", xml_call);
	int r;

	if (!c)
		return err_nomem(err, "a call to libvirt");
	c->flags = flags[kind];
	r = virt_call_run(c, err);
	if (r < 0) {
		err_object(err, "%s", d->name);
		return r;
	}
	*xml = steal_ptr(c->text);
	return 0;
}

static int persist_call(struct virt_call *c)
{
	cleanup_free char *xml =
		virDomainGetXMLDesc(c->dom, VIR_DOMAIN_XML_MIGRATABLE | VIR_DOMAIN_XML_SECURE);
	virDomainPtr dom = xml ? virDomainDefineXML(c->conn, xml) : NULL;

	if (!dom)
		return virt_failed(c);
	virDomainFree(dom);
	return 0;
}

int virt_domain_persist(struct virt_domain *d, struct err *err)
{
	return virt_call_domain(d, "cannot make the guest permanent", persist_call, err);
}

static int undefine_call(struct virt_call *c)
{
	int persistent = virDomainIsPersistent(c->dom);

	if (persistent < 0 && virt_last() == VIR_ERR_NO_DOMAIN)
		return 0;
	if (persistent < 0)
		return virt_failed(c);
	if (persistent == 0)
		return 0;
	if (virDomainUndefineFlags(c->dom, VIR_DOMAIN_UNDEFINE_KEEP_NVRAM |
						   VIR_DOMAIN_UNDEFINE_MANAGED_SAVE |
						   VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA |
						   VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA) < 0)
		return virt_failed(c);
	return 1;
}

int virt_domain_undefine(struct virt_domain *d, struct err *err)
{
	return virt_call_domain(d, "cannot remove the guest's definition", undefine_call, err);
}

/* --- disks --- */

/* bytes: the array, as it is. */
static int errors_call(struct virt_call *c)
{
	int n = virDomainGetDiskErrors(c->dom, NULL, 0, 0), i;
	cleanup_free virDomainDiskErrorPtr errors = NULL;

	if (n < 0)
		return virt_failed(c);
	if (n == 0)
		return 0;
	errors = mem_alloc_array((size_t)n, sizeof(*errors));
	if (!errors)
		return err_nomem(&c->err, c->what);
	n = virDomainGetDiskErrors(c->dom, errors, (unsigned)n, 0);
	if (n < 0)
		return virt_failed(c);
	for (i = 0; i < n; i++) {
		struct virt_disk_error e = { .no_space = errors[i].error ==
							 VIR_DOMAIN_DISK_ERROR_NO_SPACE };

		str_copy(e.target, sizeof(e.target), errors[i].disk ? errors[i].disk : "");
		buf_put(&c->bytes, &e, sizeof(e));
		free(errors[i].disk);
	}
	return c->bytes.failed ? err_nomem(&c->err, c->what) : n;
}

int virt_domain_disk_errors(struct virt_domain *d, struct virt_disk_error *out, unsigned max,
			    struct err *err)
{
	cleanup_ptr(virt_call)
		c = virt_call_new(d->v, d, "cannot read the disks' errors", errors_call);
	int n = virt_call_run(c, err);

	if (n > 0 && max > 0)
		memcpy(out, c->bytes.data, MIN((size_t)n, (size_t)max) * sizeof(*out));
	return n;
}

static int size_call(struct virt_call *c)
{
	virDomainBlockInfo info;

	if (virDomainGetBlockInfo(c->dom, c->s[0], &info, 0) < 0)
		return virt_failed(c);
	c->num[0] = info.capacity;
	return 0;
}

int virt_domain_disk_size(struct virt_domain *d, const char *target, uint64_t *bytes,
			  struct err *err)
{
	cleanup_ptr(virt_call) c = virt_call_new(d->v, d, "cannot read a disk's size", size_call);
	int r;

	if (!virt_call_string(c, 0, target))
		return err_nomem(err, "a call to libvirt");
	r = virt_call_run(c, err);
	if (r < 0)
		return err_prefix(err, "disk \"%s\"", target);
	*bytes = c->num[0];
	return 0;
}
