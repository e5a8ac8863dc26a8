// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The room in a build without libvirt and libxml2: every function is there, so that nobody above asks how this was built, and
 * whatever can fail says why.  tests/without-libvirt.sh builds it.
 */
#include "virt/virt.h"
#include "virt/xml.h"

#include "base/banned.h"

static int none(struct err *err)
{
	return err_set(err, ERR_UNSUPPORTED, "this livepoint was built without libvirt");
}

bool virt_available(void)
{
	return false;
}

int virt_open(const char *uri, struct virt **out, struct err *err)
{
	(void)uri;
	(void)out;
	return none(err);
}

void virt_close(struct virt *v)
{
	(void)v;
}

const char *virt_uri(const struct virt *v)
{
	(void)v;
	return "";
}

bool virt_is_session(const struct virt *v)
{
	(void)v;
	return false;
}

bool virt_is_local(const struct virt *v)
{
	(void)v;
	return false;
}

void virt_set_limit(struct virt *v, unsigned ms)
{
	(void)v;
	(void)ms;
}

bool virt_is_alive(struct virt *v)
{
	(void)v;
	return false;
}

int virt_host_xml(struct virt *v, const char *arch, const char *machine, char **xml,
		  struct err *err)
{
	(void)v;
	(void)arch;
	(void)machine;
	(void)xml;
	return none(err);
}

int virt_knows(struct virt *v, const char *name, const char *uuid, struct err *err)
{
	(void)v;
	(void)name;
	(void)uuid;
	return none(err);
}

int virt_domain_find(struct virt *v, const char *name_or_uuid, struct virt_domain **out,
		     struct err *err)
{
	(void)v;
	(void)name_or_uuid;
	(void)out;
	return none(err);
}

int virt_domain_create(struct virt *v, const char *xml, unsigned flags, struct virt_domain **out,
		       struct err *err)
{
	(void)v;
	(void)xml;
	(void)flags;
	(void)out;
	return none(err);
}

int virt_domain_define(struct virt *v, const char *xml, struct virt_domain **out, struct err *err)
{
	(void)v;
	(void)xml;
	(void)out;
	return none(err);
}

void virt_domain_free(struct virt_domain *d)
{
	(void)d;
}

const char *virt_domain_name(const struct virt_domain *d)
{
	(void)d;
	return "";
}

const char *virt_domain_uuid(const struct virt_domain *d)
{
	(void)d;
	return "";
}

int virt_domain_status(struct virt_domain *d, struct virt_status *out, struct err *err)
{
	(void)d;
	(void)out;
	return none(err);
}

int virt_domain_resume(struct virt_domain *d, struct err *err)
{
	(void)d;
	return none(err);
}

int virt_domain_suspend(struct virt_domain *d, struct err *err)
{
	(void)d;
	return none(err);
}

int virt_domain_destroy(struct virt_domain *d, struct err *err)
{
	(void)d;
	return none(err);
}

int virt_domain_shutdown(struct virt_domain *d, struct err *err)
{
	(void)d;
	return none(err);
}

int virt_domain_reset(struct virt_domain *d, struct err *err)
{
	(void)d;
	return none(err);
}

int virt_domain_xml(struct virt_domain *d, enum virt_xml_kind kind, char **xml, struct err *err)
{
	(void)d;
	(void)kind;
	(void)xml;
	return none(err);
}

int virt_domain_persist(struct virt_domain *d, struct err *err)
{
	(void)d;
	return none(err);
}

int virt_domain_undefine(struct virt_domain *d, struct err *err)
{
	(void)d;
	return none(err);
}

int virt_domain_disk_errors(struct virt_domain *d, struct virt_disk_error *out, unsigned max,
			    struct err *err)
{
	(void)d;
	(void)out;
	(void)max;
	return none(err);
}

int virt_domain_disk_size(struct virt_domain *d, const char *target, uint64_t *bytes,
			  struct err *err)
{
	(void)d;
	(void)target;
	(void)bytes;
	return none(err);
}

int virt_copy_start(struct virt_domain *d, const char *target, const struct virt_target *to,
		    unsigned flags, uint64_t bandwidth, struct err *err)
{
	(void)d;
	(void)target;
	(void)to;
	(void)flags;
	(void)bandwidth;
	return none(err);
}

int virt_copy_status(struct virt_domain *d, const char *target, struct virt_copy_status *out,
		     struct err *err)
{
	(void)d;
	(void)target;
	(void)out;
	return none(err);
}

int virt_copy_wait(struct virt_domain *d, const char *target, unsigned timeout_ms,
		   struct virt_copy_status *out, struct err *err)
{
	(void)d;
	(void)target;
	(void)timeout_ms;
	(void)out;
	return none(err);
}

int virt_copy_pivot(struct virt_domain *d, const char *target, struct err *err)
{
	(void)d;
	(void)target;
	return none(err);
}

int virt_copy_abort(struct virt_domain *d, const char *target, struct err *err)
{
	(void)d;
	(void)target;
	return none(err);
}

int virt_copy_set_bandwidth(struct virt_domain *d, const char *target, uint64_t bandwidth,
			    struct err *err)
{
	(void)d;
	(void)target;
	(void)bandwidth;
	return none(err);
}

int virt_domain_screenshot(struct virt_domain *d, struct buf *png, struct err *err)
{
	(void)d;
	(void)png;
	return none(err);
}

int virt_agent(struct virt_domain *d, const char *command, unsigned seconds, char **reply,
	       struct err *err)
{
	(void)d;
	(void)command;
	(void)seconds;
	(void)reply;
	return none(err);
}

int virt_event_next(struct virt *v, unsigned timeout_ms, struct virt_event *out, struct err *err)
{
	(void)v;
	(void)timeout_ms;
	(void)out;
	return none(err);
}

int virt_event_fd(const struct virt *v)
{
	(void)v;
	return -1;
}

int virt_volume_create(struct virt *v, const char *pool, const char *name, const char *format,
		       uint64_t size, char **path, bool *block, struct err *err)
{
	(void)v;
	(void)pool;
	(void)name;
	(void)format;
	(void)size;
	(void)path;
	(void)block;
	return none(err);
}

int virt_volume_remove(struct virt *v, const char *pool, const char *name, struct err *err)
{
	(void)v;
	(void)pool;
	(void)name;
	return none(err);
}

int virt_pool_refresh(struct virt *v, const char *pool, struct err *err)
{
	(void)v;
	(void)pool;
	return none(err);
}

int virt_network_isolated(struct virt *v, const char *name, bool see_each_other, struct err *err)
{
	(void)v;
	(void)name;
	(void)see_each_other;
	return none(err);
}

int virt_network_destroy(struct virt *v, const char *name, struct err *err)
{
	(void)v;
	(void)name;
	return none(err);
}

int virt_xml_read(const char *xml, size_t len, struct virt_xml_info **out, struct err *err)
{
	(void)xml;
	(void)len;
	(void)out;
	return none(err);
}

void virt_xml_info_free(struct virt_xml_info *info)
{
	(void)info;
}

const struct virt_xml_disk *virt_xml_find_disk(const struct virt_xml_info *info, const char *target)
{
	(void)info;
	(void)target;
	return NULL;
}

int virt_host_read(const char *xml, size_t len, bool local, struct virt_host **out, struct err *err)
{
	(void)xml;
	(void)len;
	(void)local;
	(void)out;
	return none(err);
}

void virt_host_free(struct virt_host *h)
{
	(void)h;
}

bool virt_host_has_machine(const struct virt_host *h, const char *machine)
{
	(void)h;
	(void)machine;
	return false;
}

bool virt_host_has_uefi(const struct virt_host *h)
{
	(void)h;
	return false;
}

int virt_xml_rewrite(const char *xml, size_t len, const struct virt_rewrite *how, char **out,
		     struct buf *notes, struct err *err)
{
	(void)xml;
	(void)len;
	(void)how;
	(void)out;
	(void)notes;
	return none(err);
}

int virt_xml_set_sources(const char *xml, size_t len, const struct virt_source *disks,
			 unsigned ndisks, char **out, struct err *err)
{
	(void)xml;
	(void)len;
	(void)disks;
	(void)ndisks;
	(void)out;
	return none(err);
}

int virt_xml_make(const struct virt_make *how, char **out, struct err *err)
{
	(void)how;
	(void)out;
	return none(err);
}
