// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * What a bare disk boots with: looks at its first sectors.
 *
 * A BIOS runs the code in the first 440 bytes of the disk; UEFI firmware ignores it and looks for an EFI system partition.  A
 * disk with both boots by BIOS here, which every host has.  GPT: UEFI specification 2.10, 5.3; the MBR's code: 5.2.1.
 *
 * The disk's bytes are hostile: every number out of them is bounded before it is used.
 */
#include "recover/internal.h"

#include "base/banned.h"

#define BOOT_CODE 440 /* bytes */
#define GPT_ENTRIES_MAX 1024
#define GPT_ENTRY_MIN 128 /* bytes */
#define GPT_ENTRY_MAX 4096
#define SECTOR_SMALL 512
#define SECTOR_LARGE 4096

/* C12A7328-F81F-11D2-BA4B-00A0C93EC93B as it lies on the disk. */
static const uint8_t efi_system[16] = { 0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11,
					0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b };

/* Reads what lies within the disk; 1: all of it, 0: it does not. */
static int read_at(struct repo_disk *d, void *dst, size_t n, uint64_t offset, struct err *err)
{
	int code;

	if (offset > repo_disk_size(d) || n > repo_disk_size(d) - offset)
		return 0;
	code = repo_disk_read(d, dst, n, offset, err);
	return code < 0 ? code : 1;
}

/* 1: there is a GPT for this sector size and it has an EFI system partition. */
static int gpt_has_efi(struct repo_disk *d, unsigned sector, struct err *err)
{
	uint8_t head[92], entry[16];
	uint64_t at;
	uint32_t count, size, i;
	int code = read_at(d, head, sizeof(head), sector, err);

	if (code <= 0 || memcmp(head, "EFI PART", 8) != 0)
		return code < 0 ? code : 0;
	count = get_le32(head + 80);
	size = get_le32(head + 84);
	if (mul_overflow(get_le64(head + 72), (uint64_t)sector, &at) || size < GPT_ENTRY_MIN ||
	    size > GPT_ENTRY_MAX)
		return 0;
	for (i = 0; i < MIN(count, (uint32_t)GPT_ENTRIES_MAX); i++) {
		code = read_at(d, entry, sizeof(entry), at + (uint64_t)i * size, err);
		if (code <= 0)
			return code;
		if (memcmp(entry, efi_system, sizeof(entry)) == 0)
			return 1;
	}
	return 0;
}

int firmware_guess(struct repo_disk *d, bool *uefi, struct err *err)
{
	uint8_t boot[BOOT_CODE];
	int code = read_at(d, boot, sizeof(boot), 0, err);

	if (code == 1 && mem_is_zero(boot, sizeof(boot))) {
		code = gpt_has_efi(d, SECTOR_SMALL, err);
		if (code == 0)
			code = gpt_has_efi(d, SECTOR_LARGE, err);
	} else if (code == 1) {
		code = 0;
	}
	if (code < 0)
		return err_prefix(err, "looking for what the disk boots with");
	*uefi = code;
	return 0;
}
