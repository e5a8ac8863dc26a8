/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Files of an overlay (overlays/ID/): its header and the state log of a layer.  Byte tables in livepoint-repository(5).
 * Any thread.
 */
#ifndef LIVEPOINT_FORMAT_OVERLAY_H
#define LIVEPOINT_FORMAT_OVERLAY_H

#include "format/format.h"

struct overlay_header_disk {
	char name[DISK_NAME_MAX_LEN + 1];
	uint64_t size; /* bytes */
};
struct overlay_header {
	uint8_t uuid[UUID_LEN]; /* of the repository */
	char id[10]; /* 'o' and eight hexadecimal digits */
	char name[NAME_MAX_LEN + 1]; /* "": none */
	uint8_t point[POINT_ID_LEN]; /* that the first layer stands on */
	uint32_t block_size; /* bytes */
	int64_t created; /* seconds since 1970 UTC */
	uint16_t suite;
	uint32_t epoch; /* of the key that the layers' keys come from; 0 of suite 0 */
	uint8_t salt[SALT_LEN];
	uint32_t first, last; /* layers, from 1 */
	struct overlay_header_disk *disks; /* owned */
	size_t ndisks;
};

#endif
