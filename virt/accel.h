/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Which accelerator can QEMU really use on this machine?  A /dev/kvm that opens proves nothing: nested virtualisation without
 * help of the hardware opens it and is slower than emulation.  So a boot sector has to run to its end within a second.
 * Needs no libvirt.  Any thread.
 */
#ifndef LIVEPOINT_VIRT_ACCEL_H
#define LIVEPOINT_VIRT_ACCEL_H

#include "base/base.h"
#include "virt/xml.h"

/* Fills *out.  LIVEPOINT_ACCEL=kvm|tcg is the answer without a probe; any other value there is ERR_USAGE.  Where nothing
 * can be tried (no QEMU, no /dev/kvm for this user) the answer is TCG.  Takes up to 1.2 s; nothing is remembered. */
int virt_accel_probe(enum virt_accel_kind *out, struct err *err);
const char *virt_accel_name(enum virt_accel_kind accel); /* "kvm", "tcg" */

#endif
