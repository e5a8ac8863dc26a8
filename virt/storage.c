// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Storage pools and networks of libvirt; see virt/virt.h.
 *
 * Invariants:
 *  1. An isolated network has no address of the host, no DHCP, no forwarding: guests on it reach one another at most.
 *  2. The networks made here are transient: none is left after the daemon ended.
 */
#include "virt/internal.h"

#include <libvirt/virterror.h>
#include <net/if.h>
#include <stdlib.h>

#include "virt/xml-internal.h"

#include "base/banned.h"

/* --- volumes --- */

static int volume_describe(struct virt_call *c, virStorageVolPtr vol)
{
	virStorageVolInfo info;

	c->text = virStorageVolGetPath(vol);
	if (!c->text || virStorageVolGetInfo(vol, &info) < 0)
		return virt_failed(c);
	c->num[0] = info.type == VIR_STORAGE_VOL_BLOCK;
	return 0;
}

/* s: pool, XML of the volume. */
static int volume_call(struct virt_call *c)
{
	virStoragePoolPtr pool = virStoragePoolLookupByName(c->conn, c->s[0]);
	virStorageVolPtr vol = pool ? virStorageVolCreateXML(pool, c->s[1], 0) : NULL;
	int r = vol ? volume_describe(c, vol) : virt_failed(c);

	if (vol && r < 0)
		virStorageVolDelete(vol, 0);
	if (vol)
		virStorageVolFree(vol);
	if (pool)
		virStoragePoolFree(pool);
	return r;
}

int virt_volume_create(struct virt *v, const char *pool, const char *name, const char *format,
		       uint64_t size, char **path, bool *block, struct err *err)
{
	cleanup_ptr(virt_call) c = virt_call_new(v, NULL, "cannot make a volume", volume_call);
	cleanup_free char *xml = NULL;
	int r = virt_xml_volume(name, format, size, &xml, err);

	if (r < 0)
		return r;
	if (!virt_call_string(c, 0, pool) || !virt_call_string(c, 1, xml))
		return err_nomem(err, "a call to libvirt");
	r = virt_call_run(c, err);
	if (r < 0)
		return err_prefix(err, "pool \"%s\"", pool);
	*path = steal_ptr(c->text);
	if (block)
		*block = c->num[0] != 0;
	return 0;
}

static int remove_call(struct virt_call *c)
{
	virStoragePoolPtr pool = virStoragePoolLookupByName(c->conn, c->s[0]);
	virStorageVolPtr vol = pool ? virStorageVolLookupByName(pool, c->s[1]) : NULL;
	int r = 1;

	if (!vol)
		r = pool && virt_last() == VIR_ERR_NO_STORAGE_VOL ? 0 : virt_failed(c);
	else if (virStorageVolDelete(vol, 0) < 0)
		r = virt_failed(c);
	if (vol)
		virStorageVolFree(vol);
	if (pool)
		virStoragePoolFree(pool);
	return r;
}

int virt_volume_remove(struct virt *v, const char *pool, const char *name, struct err *err)
{
	cleanup_ptr(virt_call) c = virt_call_new(v, NULL, "cannot remove a volume", remove_call);
	int r;

	if (!virt_call_string(c, 0, pool) || !virt_call_string(c, 1, name))
		return err_nomem(err, "a call to libvirt");
	r = virt_call_run(c, err);
	return r < 0 ? err_prefix(err, "pool \"%s\"", pool) : r;
}

static int refresh_call(struct virt_call *c)
{
	virStoragePoolPtr pool = virStoragePoolLookupByName(c->conn, c->s[0]);
	int r = 0;

	if (!pool || virStoragePoolRefresh(pool, 0) < 0)
		r = virt_failed(c);
	if (pool)
		virStoragePoolFree(pool);
	return r;
}

int virt_pool_refresh(struct virt *v, const char *pool, struct err *err)
{
	cleanup_ptr(virt_call) c = virt_call_new(v, NULL, "cannot refresh the pool", refresh_call);
	int r;

	if (!virt_call_string(c, 0, pool))
		return err_nomem(err, "a call to libvirt");
	r = virt_call_run(c, err);
	return r < 0 ? err_prefix(err, "pool \"%s\"", pool) : 0;
}

/* --- networks --- */

static int network_call(struct virt_call *c)
{
	virNetworkPtr net = virNetworkCreateXML(c->conn, c->s[0]);

	if (!net)
		return virt_failed(c);
	virNetworkFree(net);
	return 0;
}

int virt_network_isolated(struct virt *v, const char *name, bool see_each_other, struct err *err)
{
	cleanup_ptr(virt_call)
		c = virt_call_new(v, NULL, "cannot make an isolated network", network_call);
	cleanup_free char *xml = NULL;
	int r;

	if (v->session)
		return err_set(err, ERR_UNSUPPORTED,
			       "a session of an ordinary user has no networks");
	if (strlen(name) >= IF_NAMESIZE)
		return err_set(err, ERR_INVALID,
			       "network \"%s\": a bridge has at most %d bytes in its name", name,
			       IF_NAMESIZE - 1);
	r = virt_xml_network(name, see_each_other, &xml, err);
	if (r < 0)
		return r;
	if (!virt_call_string(c, 0, xml))
		return err_nomem(err, "a call to libvirt");
	r = virt_call_run(c, err);
	return r < 0 ? err_prefix(err, "network \"%s\"", name) : 0;
}

static int network_end_call(struct virt_call *c)
{
	virNetworkPtr net = virNetworkLookupByName(c->conn, c->s[0]);
	int r = 1;

	if (!net)
		return virt_last() == VIR_ERR_NO_NETWORK ? 0 : virt_failed(c);
	if (virNetworkDestroy(net) < 0)
		r = virt_last() == VIR_ERR_NO_NETWORK ? 0 : virt_failed(c);
	virNetworkFree(net);
	return r;
}

int virt_network_destroy(struct virt *v, const char *name, struct err *err)
{
	cleanup_ptr(virt_call)
		c = virt_call_new(v, NULL, "cannot take the network down", network_end_call);
	int r;

	if (!virt_call_string(c, 0, name))
		return err_nomem(err, "a call to libvirt");
	r = virt_call_run(c, err);
	return r < 0 ? err_prefix(err, "network \"%s\"", name) : r;
}
