// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Block copies: moving a disk of a running guest to another place; see virt/virt.h.
 *
 * How it works: libvirt starts a mirror job in QEMU.  That it is in step is an event, and from then on libvirt's own record in the
 * live XML (<mirror ready='yes'>), which also a process sees that was not there for the event.  Whether a job failed is told
 * by the event alone; without it the job is just gone.
 *
 * Invariants:
 *  1. READY comes from libvirt's record or event, never from "done == total": that is true for moments before, too.
 *  2. A pivot is asked for only of a copy that is READY; libvirt refuses others.
 */
#include "virt/internal.h"

#include <libvirt/virterror.h>
#include <stdlib.h>

#include "virt/xml-internal.h"

#include "base/banned.h"

#define COPY_GONE_MS 1500 /* a job that is gone: the event that says why may be on its way */
#define COPY_LOOK_MS 500 /* between two looks at a running job */

static bool has_copy(virDomainPtr dom, const char *disk, virDomainBlockJobInfo *info, int *r)
{
	*r = virDomainGetBlockJobInfo(dom, disk, info, VIR_DOMAIN_BLOCK_JOB_INFO_BANDWIDTH_BYTES);
	return *r == 1 && info->type == VIR_DOMAIN_BLOCK_JOB_TYPE_COPY;
}

/* s: target, disk XML. */
static int start_call(struct virt_call *c)
{
	unsigned flags =
		VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB; /* else libvirt wants a transient guest */
	virTypedParameterPtr params = NULL;
	int n = 0, max = 0, r = 0;

	if (c->flags & VIRT_COPY_REUSE)
		flags |= VIR_DOMAIN_BLOCK_COPY_REUSE_EXT;
	if (c->flags & VIRT_COPY_SYNC)
		flags |= VIR_DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES;
	if (c->flags & VIRT_COPY_SHALLOW)
		flags |= VIR_DOMAIN_BLOCK_COPY_SHALLOW;
	if (c->n &&
	    virTypedParamsAddULLong(&params, &n, &max, VIR_DOMAIN_BLOCK_COPY_BANDWIDTH, c->n) < 0)
		return virt_failed(c);
	if (virDomainBlockCopy(c->dom, c->s[0], c->s[1], params, n, flags) < 0)
		r = virt_failed(c);
	virTypedParamsFree(params, n);
	return r;
}

int virt_copy_start(struct virt_domain *d, const char *target, const struct virt_target *to,
		    unsigned flags, uint64_t bandwidth, struct err *err)
{
	cleanup_ptr(virt_call)
		c = virt_call_new(d->v, d, "cannot start to copy the disk", start_call);
	cleanup_free char *xml = NULL;
	int r = virt_xml_target(to, &xml, err);

	if (r < 0)
		return err_prefix(err, "disk \"%s\"", target);
	if (!virt_call_string(c, 0, target) || !virt_call_string(c, 1, xml))
		return err_nomem(err, "a call to libvirt");
	c->flags = flags;
	c->n = bandwidth;
	virt_queue_forget_copy(d->v->queue, d->uuid, target);
	r = virt_call_run(c, err);
	return r < 0 ? err_prefix(err, "disk \"%s\"", target) : 0;
}

/* num: done, total, bandwidth; returns 1 with a job, text: the live XML. */
static int status_call(struct virt_call *c)
{
	virDomainBlockJobInfo info;
	int r;

	if (!has_copy(c->dom, c->s[0], &info, &r)) {
		if (r < 0 && virt_last() != VIR_ERR_NO_DOMAIN &&
		    virDomainIsActive(c->dom) != 0) /* one that does not run has no job */
			return virt_failed(c);
		return 0;
	}
	c->num[0] = info.cur;
	c->num[1] = info.end;
	c->num[2] = info.bandwidth;
	c->text = virDomainGetXMLDesc(c->dom, 0);
	if (c->text)
		return 1;
	return virt_last() == VIR_ERR_NO_DOMAIN ? 0 : virt_failed(c);
}

/* Invariant 1. */
static int copy_is_ready(const char *xml, const char *target, bool *ready, struct err *err)
{
	cleanup_ptr(virt_xml_info) info = NULL;
	const struct virt_xml_disk *disk;
	int r = virt_xml_read(xml, strlen(xml), &info, err);

	if (r < 0)
		return r;
	disk = virt_xml_find_disk(info, target);
	*ready = disk && disk->copy_ready;
	return 0;
}

int virt_copy_status(struct virt_domain *d, const char *target, struct virt_copy_status *out,
		     struct err *err)
{
	cleanup_ptr(virt_call)
		c = virt_call_new(d->v, d, "cannot read how far the copy is", status_call);
	enum virt_copy_state told;
	bool ready = false;
	int r;

	if (!virt_call_string(c, 0, target))
		return err_nomem(err, "a call to libvirt");
	r = virt_call_run(c, err);
	if (r < 0)
		return err_prefix(err, "disk \"%s\"", target);
	told = virt_queue_copy(d->v->queue, d->uuid, target);
	if (r == 0) {
		*out = (struct virt_copy_status){ .state = told == VIRT_COPY_READY ?
								   VIRT_COPY_NONE :
								   told };
		return 0;
	}
	r = copy_is_ready(c->text, target, &ready, err);
	if (r < 0)
		return r;
	*out = (struct virt_copy_status){ .state = ready ? VIRT_COPY_READY : VIRT_COPY_RUNNING,
					  .done = c->num[0],
					  .total = c->num[1],
					  .bandwidth = c->num[2] };
	return 0;
}

int virt_copy_wait(struct virt_domain *d, const char *target, unsigned timeout_ms,
		   struct virt_copy_status *out, struct err *err)
{
	uint64_t start = time_mono_ns(), gone = 0, now;

	for (;;) {
		struct virt_copy_status s;
		uint64_t left;
		int r = virt_copy_status(d, target, &s, err);

		if (r < 0)
			return r;
		now = time_mono_ns();
		if (s.state != VIRT_COPY_NONE)
			gone = 0;
		else if (!gone)
			gone = now;
		*out = s;
		if (s.state != VIRT_COPY_RUNNING && s.state != VIRT_COPY_NONE)
			return 1;
		if (gone && (now - gone) / 1000000 >= COPY_GONE_MS)
			return 1;
		left = (now - start) / 1000000;
		if (left >= timeout_ms)
			return 0;
		virt_queue_wait(d->v->queue, (unsigned)MIN(timeout_ms - left, COPY_LOOK_MS));
	}
}

static int abort_call(struct virt_call *c)
{
	virDomainBlockJobInfo info;
	int r;

	if (!has_copy(c->dom, c->s[0], &info, &r)) {
		if (c->flags & VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
			return err_set(&c->err, ERR_REFUSED, "%s: no copy is under way", c->what);
		return r < 0 && virt_last() != VIR_ERR_NO_DOMAIN && virDomainIsActive(c->dom) != 0 ?
			       virt_failed(c) :
			       0;
	}
	if (virDomainBlockJobAbort(c->dom, c->s[0], c->flags) == 0)
		return 1;
	virt_failed(c);
	/* "not ready for pivot yet", and a job that ended by itself meanwhile, which is none to abort */
	if (!(c->flags & VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT) && !has_copy(c->dom, c->s[0], &info, &r))
		return 0;
	return c->err.code;
}

static int copy_end(struct virt_domain *d, const char *target, const char *what, unsigned flags,
		    struct err *err)
{
	cleanup_ptr(virt_call) c = virt_call_new(d->v, d, what, abort_call);
	int r;

	if (!virt_call_string(c, 0, target))
		return err_nomem(err, "a call to libvirt");
	c->flags = flags;
	r = virt_call_run(c, err);
	return r < 0 ? err_prefix(err, "disk \"%s\"", target) : r;
}

int virt_copy_pivot(struct virt_domain *d, const char *target, struct err *err)
{
	int r = copy_end(d, target, "cannot move the guest to the copy",
			 VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT, err);

	return r < 0 ? r : 0;
}

int virt_copy_abort(struct virt_domain *d, const char *target, struct err *err)
{
	return copy_end(d, target, "cannot end the copy", 0, err);
}

static int speed_call(struct virt_call *c)
{
	return virDomainBlockJobSetSpeed(c->dom, c->s[0], (unsigned long)c->n,
					 VIR_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES) < 0 ?
		       virt_failed(c) :
		       0;
}

int virt_copy_set_bandwidth(struct virt_domain *d, const char *target, uint64_t bandwidth,
			    struct err *err)
{
	cleanup_ptr(virt_call)
		c = virt_call_new(d->v, d, "cannot change the copy's bandwidth", speed_call);
	int r;

	if (!virt_call_string(c, 0, target))
		return err_nomem(err, "a call to libvirt");
	c->n = bandwidth;
	r = virt_call_run(c, err);
	return r < 0 ? err_prefix(err, "disk \"%s\"", target) : 0;
}
