// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The one probe of the accelerator; see virt/accel.h.
 *
 * How it works: QEMU starts a boot sector of 512 bytes, from memory, which writes to the isa-debug-exit device and so ends
 * QEMU with a status that nothing else gives.
 *
 * Invariants:
 *  1. The probe is killed after one second: no answer in time means TCG.  Nothing outlives the call.
 *  2. Only the exit status that the boot sector itself chose counts.
 *  3. Nothing is remembered between calls, and no file is made.
 */
#include "virt/accel.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/proc.h"

#include "base/banned.h"

#define ACCEL_QEMU "qemu-system-x86_64"
#define ACCEL_LIMIT_NS (1000ull * 1000 * 1000)
#define ACCEL_POLL_MS 10
/* What QEMU leaves with when a guest writes 0x10 to isa-debug-exit: (0x10 << 1) | 1 (QEMU, hw/misc/debugexit.c). */
#define ACCEL_STATUS 33
#define SECTOR_BYTES 512

/* mov dx,0x501; mov al,0x10; out dx,al; then hlt for ever. */
static const uint8_t accel_code[] = { 0xba, 0x01, 0x05, 0xb0, 0x10, 0xee, 0xf4, 0xeb, 0xfd };

const char *virt_accel_name(enum virt_accel_kind accel)
{
	return accel == VIRT_ACCEL_KVM ? "kvm" : "tcg";
}

static int accel_sector(struct err *err)
{
	uint8_t sector[SECTOR_BYTES] = { 0 };
	int fd = memfd_create("boot-sector", MFD_CLOEXEC), r;

	if (fd < 0)
		return err_set_errno(err, ERR_IO, errno, "memory for a boot sector");
	memcpy(sector, accel_code, sizeof(accel_code));
	put_le16(sector + SECTOR_BYTES - 2, 0xaa55);
	r = file_write(fd, sector, sizeof(sector), "boot sector", err);
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

/* Invariant 1.  Returns the exit status, or -1. */
static int accel_end(pid_t pid)
{
	uint64_t until = time_mono_ns() + ACCEL_LIMIT_NS;
	int status = 0;
	pid_t got;

	while ((got = waitpid(pid, &status, WNOHANG)) == 0 && time_mono_ns() < until)
		time_sleep_ms(ACCEL_POLL_MS);
	if (got == 0) {
		kill(pid, SIGKILL);
		proc_wait(pid, &status, NULL);
		return -1;
	}
	return got == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The CPU is the one that guests get: KVM may work with one model and not with another. */
static int accel_try(const char *accel, struct err *err)
{
	const char *const argv[] = { ACCEL_QEMU,
				     "-accel",
				     accel,
				     "-cpu",
				     "max",
				     "-machine",
				     "pc",
				     "-m",
				     "16",
				     "-nodefaults",
				     "-no-user-config",
				     "-display",
				     "none",
				     "-no-reboot",
				     "-boot",
				     "order=c,menu=off",
				     "-drive",
				     "file=/proc/self/fd/3,format=raw,if=ide",
				     "-device",
				     "isa-debug-exit,iobase=0x501",
				     NULL };
	cleanup_fd int sector = accel_sector(err);
	struct proc_spec spec = { .argv = argv,
				  .in_fd = -1,
				  .out_fd = -1,
				  .err_fd = -1,
				  .pass_fds = &sector,
				  .npass = 1,
				  .no_core = true, /* QEMU aborts over a CPU that it cannot give */
				  .die_with_parent = true };
	pid_t pid;
	int r;

	if (sector < 0)
		return sector;
	r = proc_start(&spec, &pid, err);
	if (r < 0)
		return r;
	return accel_end(pid) == ACCEL_STATUS;
}

int virt_accel_probe(enum virt_accel_kind *out, struct err *err)
{
	const char *said = getenv("LIVEPOINT_ACCEL");
	int works;

	if (said && *said) {
		if (strcmp(said, "kvm") != 0 && strcmp(said, "tcg") != 0)
			return err_set(err, ERR_USAGE,
				       "LIVEPOINT_ACCEL: \"%s\" is neither kvm nor tcg", said);
		*out = said[0] == 'k' ? VIRT_ACCEL_KVM : VIRT_ACCEL_TCG;
		return 0;
	}
	*out = VIRT_ACCEL_TCG;
	if (access("/dev/kvm", R_OK | W_OK) != 0 || !proc_exists(ACCEL_QEMU))
		return 0;
	works = accel_try("kvm", err);
	if (works < 0)
		return works;
	*out = works ? VIRT_ACCEL_KVM : VIRT_ACCEL_TCG;
	return 0;
}
