// SPDX-License-Identifier: GPL-3.0-or-later
/* New identities for guests; also in builds without libvirt. */
#include "virt/xml.h"

#include "base/banned.h"

void virt_new_uuid(char out[37])
{
	uint8_t b[16];
	char hex[33];

	random_bytes(b, sizeof(b));
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40); /* RFC 4122, 4.4: version 4 */
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	hex_encode(hex, b, sizeof(b));
	snprintf(out, 37, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}

void virt_new_mac(char out[18])
{
	uint8_t b[3];

	random_bytes(b, sizeof(b));
	snprintf(out, 18, "52:54:00:%02x:%02x:%02x", b[0], b[1],
		 b[2]); /* QEMU's and libvirt's own prefix */
}
