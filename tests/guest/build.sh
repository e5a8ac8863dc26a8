#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Makes the guests of the demo and of the boot tests: small real Debian 12s.
#
#   build.sh tree                make or check the demo guest's tree; its path on stdout
#   build.sh disk OUT [SIZE]     a raw disk of it, which boots from its MBR; SIZE as 2G or 1536M, 2G if not given
#   build.sh records-tree        the same two for the records guest
#   build.sh records OUT [SIZE] [--uefi] [--fast] [--data OUT2]
#       --uefi       a GPT disk with an ESP, for OVMF, instead of one with an MBR
#       --fast       process 1 is the writer of records: no systemd, no agent, a third of the time
#       --data OUT2  two disks: a record goes to OUT2 (one file system, label lp-data) first
#
# Progress goes to stderr.  Needs root and the packages in packages.txt.  Beside a tree ROOT stand
# ROOT/../vmlinuz, initrd.img and cmdline for a direct kernel boot, boot.img and core.img for the MBR, core.efi
# (records guest) for the ESP.
# The cache is ${LIVEPOINT_GUEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/livepoint}; the mirror is the one
# that apt uses for this Debian, or $LIVEPOINT_GUEST_MIRROR.
#
# The guest prints LIVEPOINT-BOOT-OK and "LIVEPOINT-MARKER: <text of /etc/livepoint-marker>" on the
# console, each on a line of its own, then powers off if /etc/livepoint-poweroff exists.
# livepoint.poweroff=0 or =1 on the kernel command line overrules the file.
#
# The records guest does that too, but stays on; it has the QEMU guest agent, and writes numbered records
# from the end of its boot on (records.c, /usr/local/sbin/livepoint-records; records.sh judges a disk).
#
#  1. guest-VERSION (of the records guest: records-VERSION) exists only complete: it is built as guest-VERSION.tmp and renamed at the end.
#  2. Builds hold an exclusive lock; whoever gets it removes what a dead build left.  The build's own
#     children hold it too, so a leftover is never removed under a process that still writes to it.
#  3. All mounts and processes of a build are in namespaces of their own, so they end with it (in a chroot
#     whose / is no mount point the mounts may be seen outside, and are unmounted at the end).
#  4. A finished tree is never written to.  A raised version builds a new one: when a list of packages, what is
#     written into the tree, or records.c changes.
#  5. OUT appears only complete: it is written as OUT.tmp and renamed.

set -euo pipefail
export LC_ALL=C
umask 022

readonly demo_version=12-1 records_version=12-1
readonly suite=bookworm
readonly demo_packages=linux-image-cloud-amd64,initramfs-tools,zstd,systemd-sysv,udev,kmod,e2fsprogs
readonly label=lp-root
readonly esp_offset=1048576 esp_size=33554432 # of a UEFI disk, bytes
# The switches spare what a software-emulated CPU pays for dearly; none changes what is proven.
readonly cmdline="root=LABEL=$label rootfstype=ext4 ro console=ttyS0 loglevel=4 panic=-1 \
mitigations=off cryptomgr.notests tsc=reliable no_timer_check"
readonly writer=/usr/local/sbin/livepoint-records

self=$(readlink -f "${BASH_SOURCE[0]}")
cache=${LIVEPOINT_GUEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/livepoint}
# Of the guest that is asked for: choose() sets them, and make_disk() part_offset, where the root file system is.
flavour='' guest='' work='' packages='' part_offset=1048576

choose()
{
	flavour=$1
	case $flavour in
	demo)
		guest=$cache/guest-$demo_version
		packages=$demo_packages
		;;
	records)
		guest=$cache/records-$records_version
		packages=$demo_packages,qemu-guest-agent
		;;
	*) usage ;;
	esac
	work=$guest.tmp
}

say()
{
	echo "build.sh: $*" >&2
}

die()
{
	say "$*"
	exit 1
}

usage()
{
	echo "usage: build.sh tree | records-tree | disk OUT [SIZE] |" \
		"records OUT [SIZE] [--uefi] [--fast] [--data OUT2]" >&2
	exit 2
}

# mirror: the address this machine's apt has for the suite's main component.
mirror()
{
	local uri rel component origin found=
	# shellcheck disable=SC2016 # apt's variables, not ours
	local format='$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)'

	if [ -n "${LIVEPOINT_GUEST_MIRROR:-}" ]; then
		echo "$LIVEPOINT_GUEST_MIRROR"
		return
	fi
	# ORIGIN is known only after apt-get update; the plain match is for machines without lists.
	while read -r uri rel component origin; do
		[ "$component" = main ] || continue
		[ "${origin:-Debian}" = Debian ] || continue
		if [ "$rel" = "$suite" ]; then
			found=$uri
			break
		fi
		# Another release of Debian on this machine: its mirror has our suite too, unless it is
		# the security archive or the updates.
		case $rel in
		*-*) ;;
		*) [ -n "$found" ] || found=$uri ;;
		esac
	done < <(apt-get indextargets --format "$format" 'Identifier: Packages')
	[ -n "$found" ] || die "apt names no Debian mirror here: set LIVEPOINT_GUEST_MIRROR"
	echo "$found"
}

# in_namespaces COMMAND...: in mount and process namespaces that end with this script, even if killed.
in_namespaces()
{
	local propagation=private

	# In a chroot whose / is no mount point nothing can be made private: the build unmounts what it mounted.
	unshare --mount --propagation private true 2>/dev/null || propagation=unchanged
	setpriv --pdeathsig KILL unshare --mount --propagation "$propagation" --pid --kill-child \
		--mount-proc "$@"
}

# write_before_unpack ROOT: settings that dpkg and update-initramfs must see on their first run.
write_before_unpack()
{
	mkdir -p "$1/etc/dpkg/dpkg.cfg.d" "$1/etc/initramfs-tools/conf.d"
	# Renaming the finished tree is what makes it count, so dpkg need not sync each file.
	cat >"$1/etc/dpkg/dpkg.cfg.d/livepoint" <<-'END'
		force-unsafe-io
		path-exclude=/usr/share/doc/*
		path-include=/usr/share/doc/*/copyright
		path-exclude=/usr/share/man/*
		path-exclude=/usr/share/info/*
		path-exclude=/usr/share/locale/*
		path-include=/usr/share/locale/locale.alias
	END
	# A small initrd: under TCG unpacking one with every driver takes longer than the rest of it.
	printf 'MODULES=list\nCOMPRESS=zstd\n' >"$1/etc/initramfs-tools/conf.d/livepoint"
	printf '%s\n' virtio_pci virtio_blk virtio_scsi sd_mod ata_piix ext4 crc32c_generic \
		>"$1/etc/initramfs-tools/modules"
	cat >"$1/etc/fstab" <<-END
		LABEL=$label / ext4 errors=remount-ro 0 1
	END
}

# write_marker_unit ROOT: the service that says on the console that the boot came to its end.
write_marker_unit()
{
	cat >"$1/usr/local/sbin/livepoint-marker" <<-'END'
		#!/bin/sh
		# One write for all lines, so that no other writer of the console gets in between.
		printf '\nLIVEPOINT-BOOT-OK\nLIVEPOINT-MARKER: %s\n' "$(cat /etc/livepoint-marker)" |
			dd bs=64k iflag=fullblock of=/dev/console status=none
		off=0
		[ ! -e /etc/livepoint-poweroff ] || off=1
		for word in $(cat /proc/cmdline); do
			case $word in livepoint.poweroff=*) off=${word#*=} ;; esac
		done
		[ "$off" != 1 ] || systemctl --no-block poweroff
	END
	chmod 0755 "$1/usr/local/sbin/livepoint-marker"
	cat >"$1/etc/systemd/system/livepoint-marker.service" <<-'END'
		[Unit]
		Description=Livepoint boot marker
		ConditionPathExists=/etc/livepoint-marker

		[Service]
		Type=oneshot
		ExecStart=/usr/local/sbin/livepoint-marker

		[Install]
		WantedBy=multi-user.target
	END
	echo base >"$1/etc/livepoint-marker"
	: >"$1/etc/livepoint-poweroff"
	chroot "$1" systemctl --quiet enable livepoint-marker.service
}

# write_records ROOT: the writer of records and its service; unlike the demo's, this guest stays on.
write_records()
{
	cc -static -O2 -I "$(dirname "$self")/../.." -o "$1$writer" "$(dirname "$self")/records.c"
	cat >"$1/etc/systemd/system/livepoint-records.service" <<-END
		[Unit]
		Description=Livepoint numbered records
		ConditionPathExists=|/etc/livepoint-records
		ConditionKernelCommandLine=|livepoint.records

		[Service]
		ExecStart=$writer run

		[Install]
		WantedBy=multi-user.target
	END
	: >"$1/etc/livepoint-records"
	rm "$1/etc/livepoint-poweroff"
	chroot "$1" systemctl --quiet enable livepoint-records.service
}

# settle ROOT: names, and no unit that only a long-lived machine needs.
settle()
{
	echo livepoint-guest >"$1/etc/hostname"
	printf '127.0.0.1 localhost\n127.0.1.1 livepoint-guest\n' >"$1/etc/hosts"
	# A host's resolver settings have no place in the guest, which has no network.
	: >"$1/etc/resolv.conf"
	chroot "$1" passwd --quiet --delete root
	chroot "$1" systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer \
		dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
		systemd-networkd-wait-online.service getty@tty1.service
	# With an identity and the two stamps a first boot is like every other one.
	rm -f "$1/etc/machine-id" "$1/var/lib/dbus/machine-id"
	chroot "$1" systemd-machine-id-setup
	rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/* "$1/var/log/bootstrap.log"
	touch "$1/etc/.updated" "$1/var/.updated"
}

# grub_cfg [WORD]: the menu; WORD is added to the kernel's command line.
grub_cfg()
{
	cat <<-END
		serial --unit=0 --speed=115200
		terminal_input serial
		terminal_output serial
		set timeout=0
		menuentry "Debian 12 (Livepoint guest)" {
			echo "GRUB: loading the kernel"
			linux /vmlinuz $cmdline${1:+ $1}
			initrd /initrd.img
		}
	END
}

# write_grub_efi DIR: one file for the ESP, which finds the menu on the root file system by its label.
write_grub_efi()
{
	cat >"$1/early.cfg" <<-END
		search --no-floppy --label $label --set root
		configfile (\$root)/boot/grub/grub.cfg
	END
	grub-mkimage -O x86_64-efi -o "$1/core.efi" -c "$1/early.cfg" -p /boot/grub \
		part_gpt part_msdos ext2 linux normal configfile search search_label serial terminal echo
}

# write_grub DIR: what the MBR boot needs, the image for the gap before the partition included.
write_grub()
{
	mkdir -p "$1/root/boot/grub"
	grub_cfg >"$1/root/boot/grub/grub.cfg"
	grub-mkimage -O i386-pc -o "$1/core.img" -p '(hd0,msdos1)/boot/grub' \
		biosdisk part_msdos ext2 linux normal serial terminal echo
	cp "$(dirname "$(command -v grub-mkimage)")/../lib/grub/i386-pc/boot.img" "$1/boot.img"
	[ "$(stat -c %s "$1/core.img")" -le $((part_offset - 512)) ] || die "core.img is too large"
}

# build_in_namespaces MIRROR: the slow part; runs as a second copy of this script.
build_in_namespaces()
{
	local root=$work/root kernel

	debootstrap --variant=minbase --foreign --force-check-gpg --cache-dir="$cache/debs" \
		--include="$packages" "$suite" "$root" "$1"
	write_before_unpack "$root"
	DEBIAN_FRONTEND=noninteractive chroot "$root" /debootstrap/debootstrap --second-stage
	mount -t proc proc "$root/proc"
	# shellcheck disable=SC2064 # root is local
	trap "umount $(printf %q "$root/proc")" EXIT
	write_marker_unit "$root"
	[ "$flavour" != records ] || write_records "$root"
	settle "$root"
	write_grub "$work"
	[ "$flavour" != records ] || write_grub_efi "$work"

	if ! kernel=$(readlink -e "$root/vmlinuz") || [ ! -s "$root/initrd.img" ]; then
		die "the tree has no kernel or no initrd"
	fi
	cp "$kernel" "$work/vmlinuz"
	cp "$root/initrd.img" "$work/initrd.img"
	echo "$cmdline" >"$work/cmdline"
	check_initrd "$root"
}

# check_initrd ROOT: the drivers of the root disk are in the initrd or in the kernel itself.
check_initrd()
{
	local list driver builtin

	# By its own name: zstd refuses to read a symbolic link.
	list=$(chroot "$1" lsinitramfs "/$(readlink "$1/initrd.img")")
	builtin=$(cat "$1"/lib/modules/*/modules.builtin)
	for driver in virtio_pci virtio_blk ext4; do
		grep -q "/$driver\.ko" <<<"$list"$'\n'"$builtin" ||
			die "neither kernel nor initrd has \"$driver\""
	done
}

# make_tree: the tree of the chosen guest exists when it returns.
make_tree()
{
	local uri start=$SECONDS

	mkdir -p "$cache"
	[ ! -e "$guest/complete" ] || return 0
	exec {lock}>"$cache/lock"
	flock "$lock"
	[ ! -e "$guest/complete" ] || { exec {lock}>&-; return 0; }
	uri=$(mirror)
	say "building $guest from $uri"
	rm -rf --one-file-system "$work"
	mkdir -p "$work" "$cache/debs"
	if ! in_namespaces "$self" build-in-namespaces "$flavour" "$uri" >&2; then
		tail -n 20 "$work/root/debootstrap/debootstrap.log" >&2 2>/dev/null || true
		rm -rf --one-file-system "$work"
		die "building the tree failed"
	fi
	: >"$work/complete"
	sync -f "$work"
	mv -T "$work" "$guest"
	exec {lock}>&-
	say "tree ready after $((SECONDS - start)) s"
}

# le32 N: N as four bytes, least first.
le32()
{
	local n=$1

	# shellcheck disable=SC2059 # the format is the bytes
	printf "$(printf '\\x%02x\\x%02x\\x%02x\\x%02x' $((n & 255)) $((n >> 8 & 255)) \
		$((n >> 16 & 255)) $((n >> 24 & 255)))"
}

# put FILE OFFSET: stdin over the bytes at OFFSET.
put()
{
	dd of="$1" bs=64k iflag=fullblock oflag=seek_bytes seek="$2" conv=notrunc status=none
}

# partition_table SECTORS: one active Linux partition from part_offset, and the signature.
partition_table()
{
	printf '\x80\xfe\xff\xff\x83\xfe\xff\xff'
	le32 $((part_offset / 512))
	le32 "$1"
	head -c 48 /dev/zero
	printf '\x55\xaa'
}

# mkfs_root DISK END: the tree as file system from part_offset to END.
mkfs_root()
{
	# GRUB 2.06 cannot read a file system with metadata_csum_seed, which some hosts' defaults have.
	mkfs.ext4 -q -F -L "$label" -m 1 -O ^metadata_csum_seed \
		-E "offset=$part_offset,lazy_itable_init=0,lazy_journal_init=0,nodiscard" \
		-d "$guest/root" "$1" $((($2 - part_offset) / 1024))k >&2
}

# mbr_boot DISK SIZE: one partition, and GRUB before it.
mbr_boot()
{
	head -c 440 "$guest/boot.img" | put "$1" 0
	partition_table $((($2 - part_offset) / 512)) | put "$1" 446
	put "$1" 512 <"$guest/core.img"
}

# efi_table DISK END: a GPT with two partitions.
efi_table()
{
	sfdisk -q "$1" >/dev/null <<-END
		label: gpt
		start=$((esp_offset / 512)), size=$((esp_size / 512)), type=uefi, name=esp
		start=$((part_offset / 512)), size=$((($2 - part_offset) / 512)), type=linux, name=root
	END
}

# efi_boot DISK: the ESP has GRUB as the file that firmware starts when it was told nothing.
efi_boot()
{
	local esp=$1.esp

	rm -f "$esp"
	truncate -s $esp_size "$esp"
	mkfs.fat -F 16 -n LP-ESP "$esp" >/dev/null
	mmd -i "$esp" ::/EFI ::/EFI/BOOT
	mcopy -i "$esp" "$guest/core.efi" ::/EFI/BOOT/BOOTX64.EFI
	put "$1" $esp_offset <"$esp"
	rm "$esp"
}

# root_write DISK NAME: stdin as file NAME (of the root file system, no blanks in it), which is replaced.
root_write()
{
	local from said

	from=$(mktemp "${TMPDIR:-/tmp}/lp-build.XXXXXX")
	cat >"$from"
	chmod 0644 "$from"
	# debugfs tells errors, and ends with status 0; that there was nothing to replace is none.
	said=$(debugfs -w -f /dev/stdin "$1?offset=$part_offset" 2>&1 <<-END | grep -v -e '^debugfs' -e '^Allocated'
		rm $2
		write $from $2
	END
	) || :
	rm -f "$from"
	case $said in
	'' | "rm: File not found by ext2_lookup"*) ;;
	*) die "$2: $said" ;;
	esac
}

# disk_size TEXT: bytes.
disk_size()
{
	local size

	size=$(numfmt --from=iec "$1") || die "\"$1\" is no size"
	# Whole MiB, and few enough sectors for an MBR.
	size=$((size / 1048576 * 1048576))
	if [ "$size" -lt $((512 << 20)) ] || [ "$size" -ge $((2 << 40)) ]; then
		die "a disk has 512M to less than 2T, not \"$1\""
	fi
	echo "$size"
}

# make_data OUT: the second disk, without a partition.
make_data()
{
	truncate -s 128M "$1.tmp"
	mkfs.ext4 -q -F -L lp-data -m 0 -E lazy_itable_init=0,lazy_journal_init=0,nodiscard "$1.tmp" >&2
	mv -T "$1.tmp" "$1"
}

# make_disk OUT SIZE [FIRMWARE [INIT [DATA]]]: FIRMWARE bios or uefi; INIT a program, or nothing; DATA a second disk.
make_disk()
{
	local out=$1 size end firmware=${3:-bios} init=${4:-} data=${5:-}

	size=$(disk_size "$2")
	make_tree
	tmp=$out.tmp
	trap 'rm -f "$tmp" "$tmp.esp" "${data:-$tmp}.tmp"' EXIT
	rm -f "$tmp"
	truncate -s "$size" "$tmp"
	end=$size
	if [ "$firmware" = uefi ]; then
		part_offset=$((esp_offset + esp_size))
		end=$((size - 1048576)) # the last MiB is for the copy of the table
		efi_table "$tmp" "$end"
	fi
	mkfs_root "$tmp" "$end"
	if [ "$firmware" = uefi ]; then
		efi_boot "$tmp"
	else
		mbr_boot "$tmp" "$size"
	fi
	[ -z "$init" ] || grub_cfg "init=$init" | root_write "$tmp" /boot/grub/grub.cfg
	[ -z "$data" ] || root_write "$tmp" /etc/livepoint-data </dev/null
	[ -z "$data" ] || make_data "$data"
	mv -T "$tmp" "$out"
}

# records_disk OUT [SIZE] [OPTION...]
records_disk()
{
	local out='' size='' firmware=bios init='' data=''

	while [ $# -gt 0 ]; do
		case $1 in
		--uefi) firmware=uefi ;;
		--fast) init=$writer ;;
		--data)
			[ $# -ge 2 ] || usage
			data=$2
			shift
			;;
		-*) usage ;;
		*)
			[ -z "$size" ] || usage
			[ -z "$out" ] || size=$1
			out=${out:-$1}
			;;
		esac
		shift
	done
	[ -n "$out" ] || usage
	make_disk "$out" "${size:-2G}" "$firmware" "$init" "$data"
}

[ "$(id -u)" = 0 ] || die "needs root: the tree has files of several owners"
case $#:${1:-} in
1:tree | 1:records-tree)
	choose "$([ "$1" = tree ] && echo demo || echo records)"
	make_tree
	echo "$guest/root"
	;;
2:disk | 3:disk)
	choose demo
	make_disk "$2" "${3:-2G}"
	;;
*:records)
	choose records
	records_disk "${@:2}"
	;;
3:build-in-namespaces)
	choose "$2"
	build_in_namespaces "$3"
	;;
*) usage ;;
esac
