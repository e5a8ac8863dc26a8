/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Domain XML: reading a captured one, rewriting it so that it runs here from served disks, making one for a bare disk.
 *
 * Pure functions on text: no connection, no network, no file but for the sizes of firmware files.  Input is hostile (it may come
 * from another site): at most VIRT_XML_MAX bytes, no document type, no entities, no external anything, bounded depth and counts.
 * In a build without libvirt and libxml2 all of them are ERR_UNSUPPORTED.  Any thread.
 */
#ifndef LIVEPOINT_VIRT_XML_H
#define LIVEPOINT_VIRT_XML_H

#include "base/buf.h"

#define VIRT_XML_MAX (1 * MiB)
#define VIRT_DISKS_MAX 256
#define VIRT_NICS_MAX 64

/* --- what a domain's XML says --- */

struct virt_xml_disk {
	char *target; /* "vda"; never NULL */
	char *bus; /* "virtio", "scsi", "sata", "ide", "usb", "fdc"; never NULL */
	char *device; /* "disk", "cdrom", "floppy", "lun"; never NULL */
	char *kind; /* of the source: "file", "block", "network", "volume", ...; never NULL */
	char *source; /* path, volume, or name of the network source; NULL: none */
	char *protocol; /* "nbd", "rbd", ...; NULL unless network */
	char *socket; /* of the first host over a UNIX socket; NULL: none */
	char *format; /* of the driver; NULL: not said */
	bool readonly, shareable;
	bool reconnect; /* <reconnect delay=> stands in the source: in live XML, libvirt kept it */
	bool copying; /* a block copy runs on it (live XML) */
	bool copy_ready;
};
struct virt_xml_nic {
	char *mac; /* NULL: not said */
	char *kind; /* "network", "bridge", "user", ...; never NULL */
	char *source; /* network, bridge or device; NULL: none */
	char *model; /* NULL: not said */
};
enum virt_firmware { VIRT_BIOS, VIRT_UEFI };
struct virt_xml_info {
	char *name; /* never NULL */
	char *uuid; /* NULL: not said */
	char *type; /* "kvm", "qemu"; never NULL */
	char *arch, *machine; /* NULL: not said */
	uint64_t memory; /* bytes */
	unsigned vcpus;
	enum virt_firmware firmware;
	bool secure_boot;
	char *loader, *nvram; /* paths; NULL: none */
	bool tpm, agent; /* has a TPM; has the channel of the guest agent */
	unsigned hostdevs; /* devices of the host handed through */
	struct virt_xml_disk *disks; /* in the order of the XML */
	unsigned ndisks;
	struct virt_xml_nic *nics;
	unsigned nnics;
};
/* *out: virt_xml_info_free(). */
int virt_xml_read(const char *xml, size_t len, struct virt_xml_info **out, struct err *err);
void virt_xml_info_free(struct virt_xml_info *info);
/* The disk of that target, or NULL; borrowed. */
const struct virt_xml_disk *virt_xml_find_disk(const struct virt_xml_info *info,
					       const char *target);

/* --- what a host offers --- */

struct virt_host; /* out of virt_host_xml() of virt/virt.h */
/* local: the paths in it are of this machine, so the sizes of firmware files can be looked at.  *out: virt_host_free(). */
int virt_host_read(const char *xml, size_t len, bool local, struct virt_host **out,
		   struct err *err);
void virt_host_free(struct virt_host *h);
bool virt_host_has_machine(const struct virt_host *h, const char *machine);
bool virt_host_has_uefi(const struct virt_host *h);

/* --- where disks lie --- */

enum virt_source_kind {
	VIRT_SOURCE_NBD, /* an export on a UNIX socket, read-write */
	VIRT_SOURCE_OVERLAY, /* a local qcow2 file whose backing file is an export, read-only */
	VIRT_SOURCE_FILE, /* a local file or block device */
	VIRT_SOURCE_BLOCK,
};
struct virt_source {
	const char *
		target; /* which disk of the XML: "vda"; in virt_make, the name it gets (NULL: by bus and order) */
	enum virt_source_kind kind;
	const char *socket, *export_name; /* NBD, OVERLAY */
	const char *path; /* OVERLAY, FILE, BLOCK */
	const char *format; /* FILE: NULL is raw */
	unsigned reconnect; /* NBD, OVERLAY: seconds that QEMU holds requests and connects anew; 0: leave it out (libvirt 9.0 drops it
			     * silently: see virt_xml_disk.reconnect) */
};

/* --- common choices --- */

enum virt_accel_kind { VIRT_ACCEL_TCG, VIRT_ACCEL_KVM };
enum virt_net_rule {
	VIRT_NET_AS_MAPPED, /* `maps`, else as captured */
	VIRT_NET_ISOLATED, /* all on the network `isolated`; session (isolated NULL): as VIRT_NET_NONE */
	VIRT_NET_NONE, /* the card is there, without a cable: user networking, link down */
};
struct virt_net_map {
	const char *from; /* network, bridge or device of the captured XML */
	const char *to; /* a network; "bridge:NAME"; "none": link down; "user": user networking */
};
enum virt_mac_rule { VIRT_MAC_KEEP, VIRT_MAC_NEW };
struct virt_mac {
	const char *nic; /* number from 0 in the order of the XML, or the MAC that it had */
	const char *mac; /* "52:54:00:12:34:56" */
};
enum virt_graphics {
	VIRT_GRAPHICS_NONE,
	VIRT_GRAPHICS_SOCKET /* VNC, local socket that libvirt names */
};
enum virt_serial { VIRT_SERIAL_PTY, VIRT_SERIAL_FILE };
enum virt_on_event { VIRT_ON_KEEP, VIRT_ON_RESTART, VIRT_ON_DESTROY, VIRT_ON_PRESERVE };

/* --- rewriting --- */

/* All pointers are borrowed.  Zeroed, it means: keep what can be kept, on TCG, disks without a source here left out. */
struct virt_rewrite {
	const char *name, *uuid; /* NULL: as captured */
	enum virt_mac_rule mac;
	const struct virt_mac *macs; /* win over `mac` */
	unsigned nmacs;
	enum virt_net_rule net;
	const struct virt_net_map *maps; /* AS_MAPPED: a map that fits no card is ERR_INVALID */
	unsigned nmaps;
	const char *isolated; /* name of the network */
	bool session; /* no networks and bridges: what stays on one becomes link down, and notes say so */
	const struct virt_source *
		disks; /* disks (device='disk', 'lun') that are not here are taken out of the XML; one that the
					  * XML has not is ERR_INVALID */
	unsigned ndisks;
	const char *
		bus; /* "virtio", "sata", "scsi", "ide": all disks move to it, with new names and addresses; NULL: as captured */
	enum virt_accel_kind accel;
	uint64_t memory; /* bytes, 0: as captured */
	unsigned vcpus; /* 0: as captured */
	const char *machine; /* NULL: as captured, or the oldest of its family that the host has */
	const struct virt_host *host; /* NULL: machine and firmware are taken as they are */
	const char *nvram; /* path of this guest's own copy; NULL: as captured */
	uint64_t nvram_size; /* bytes of that file, 0: unknown; decides which build of the firmware fits */
	enum virt_serial serial;
	const char *serial_path; /* FILE */
	enum virt_graphics graphics;
	bool add_video; /* a guest without a video device gets one (for screenshots) */
	enum virt_on_event on_reboot, on_poweroff, on_crash;
};
/* Rewrites a captured XML.  Kept: machine type, every address, order of devices, CD-ROM drives (without their medium), metadata.
 * Dropped: emulator, security label, resource and tuning elements, host devices, shared memory and file systems, TPM, throttling.
 * notes: lines ("network \"br0\": not on this connection, link down\n") for a person are appended; may be NULL.
 * ERR_INVALID: not a domain, or an option that fits it not; ERR_UNSUPPORTED: it cannot run here (no UEFI, no machine type).
 * *out: libvirt takes it with VIRT_CREATE_VALIDATE; free(). */
int virt_xml_rewrite(const char *xml, size_t len, const struct virt_rewrite *how, char **out,
		     struct buf *notes, struct err *err);
/* Virtual disks moved: sets the sources of `disks` in a domain's XML (an inactive or migratable one of ours) and leaves the
 * rest alone: for a guest that powered off while its disks were moved.  *out: free(). */
int virt_xml_set_sources(const char *xml, size_t len, const struct virt_source *disks,
			 unsigned ndisks, char **out, struct err *err);

/* --- a guest for a bare disk --- */

struct virt_make {
	const char *name; /* with characters that XML must escape, too */
	const char *uuid; /* NULL: libvirt makes one */
	uint64_t memory; /* bytes; 0: 1 GiB */
	unsigned vcpus; /* 0: 1 */
	const char *machine; /* NULL: q35 for UEFI, else pc */
	enum virt_firmware firmware;
	const struct virt_host
		*host; /* firmware and machine are looked for in it; NULL: ERR_INVALID with UEFI */
	const char *
		nvram; /* path for the firmware's variables; libvirt fills it from the template if it is not there; UEFI only */
	const struct virt_source *disks;
	unsigned ndisks;
	const char *bus; /* NULL: virtio */
	enum virt_accel_kind accel;
	const char *mac; /* NULL: libvirt makes one */
	const char *
		network; /* a network, "bridge:NAME", "user" or "none" (link down); NULL: no card */
	const char *nic_model; /* NULL: virtio with virtio disks, else e1000 (pc) or e1000e (q35) */
	enum virt_serial serial;
	const char *serial_path;
	enum virt_graphics graphics;
	enum virt_on_event on_reboot;
};
int virt_xml_make(const struct virt_make *how, char **out, struct err *err);

/* Random: version 4 uuid; MAC 52:54:00:... */
void virt_new_uuid(char out[37]);
void virt_new_mac(char out[18]);

DEFINE_CLEANUP(virt_xml_info, virt_xml_info_free)
DEFINE_CLEANUP(virt_host, virt_host_free)

#endif
