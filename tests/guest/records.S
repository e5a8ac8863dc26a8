/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A guest in one boot sector, for tests that move disks under a running guest in a second instead of half a minute.
 *
 * For ever: n = n + 1; write n (first and last four bytes of the sector, little-endian) to sector 1 + n % 1024; when the write
 * came back, print n as eight hexadecimal digits and a newline on the first serial port; wait 2 ms.  So a disk on which
 * the sector of the last number printed has another number lost a write.  A write that fails prints "E" and is tried again.
 *
 * Built by make_record_disk of tests/libvirt.sh: as --32; ld -m elf_i386 -Ttext 0x7c00 --oformat binary.
 */
	.code16
	.globl _start
_start:
	cli
	xorw %ax, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movw $0x7c00, %sp
	sti
	cld
	movb %dl, drive
	movl $0, number
next:
	incl number
write:
	movl number, %eax
	movl %eax, 0x8000
	movl %eax, 0x81fc
	andl $1023, %eax
	incl %eax
	movl %eax, lba
	movw $packet, %si
	movw $0x4300, %ax		/* extended write, no verify */
	movb drive, %dl
	int $0x13
	jnc print
	movb $'E', %al
	call put
	call pause
	jmp write
print:
	movw $8, %cx
	movl number, %ebx
digit:
	roll $4, %ebx
	movb %bl, %al
	andb $15, %al
	addb $'0', %al
	cmpb $'9', %al
	jbe 1f
	addb $39, %al			/* 'a' - '9' - 1 */
1:	call put
	loop digit
	movb $'\n', %al
	call put
	call pause
	jmp next

put:	pushw %dx
	pushw %ax
	movw $0x3fd, %dx
1:	inb %dx, %al
	testb $0x20, %al
	jz 1b
	popw %ax
	movw $0x3f8, %dx
	outb %al, %dx
	popw %dx
	ret

pause:	xorw %cx, %cx
	movw $2000, %dx			/* microseconds */
	movb $0x86, %ah
	int $0x15
	ret

number:	.long 0
drive:	.byte 0
	.balign 4
packet:	.byte 16, 0
	.word 1
	.word 0x8000, 0			/* buffer: offset, segment */
lba:	.long 0, 0

	.org 510
	.word 0xaa55
