package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// diskWords is what a machine says that was booted from the disk.
const diskWords = "disk: booted"

// diskPackages make the part of the disk that UEFI boots.
var diskPackages = []string{"dosfstools", "grub-common", "grub-efi-amd64-bin", "mtools"}

// bootSector is what BIOS boots: it prints the text behind it on the first
// serial port, waits for some seconds, and has the keyboard controller reset the
// machine.
var bootSector = []byte{
	0xfa,       // cli
	0x31, 0xc0, // xor ax, ax
	0x8e, 0xd8, // mov ds, ax
	0xfc,             // cld
	0xbe, 0x2e, 0x7c, // mov si, 0x7c2e: the text
	0xac,       // 09: lodsb
	0x84, 0xc0, // test al, al
	0x74, 0x12, // jz 20
	0x88, 0xc4, // mov ah, al
	0xba, 0xfd, 0x03, // mov dx, 0x3fd: the line's status
	0xec,       // 13: in al, dx
	0xa8, 0x20, // test al, 0x20: ready for the next
	0x74, 0xfb, // jz 13
	0x88, 0xe0, // mov al, ah
	0xba, 0xf8, 0x03, // mov dx, 0x3f8
	0xee,       // out dx, al
	0xeb, 0xe9, // jmp 09
	0xb9, 0x5a, 0x00, // 20: mov cx, 90: five seconds of ticks
	0xfb,       // 23: sti
	0xf4,       // hlt
	0xe2, 0xfc, // loop 23
	0xb0, 0xfe, // mov al, 0xfe
	0xe6, 0x64, // out 0x64, al
	0xf4,       // 2b: hlt
	0xeb, 0xfd, // jmp 2b
}

const (
	sector    = 512
	partition = 2048 // the first sector of the only one
	diskSize  = 16 << 20
	diskImage = "disk.img"
)

// makeDisk makes a disk that both firmwares boot, and that says so.
func makeDisk(ctx context.Context, dir string) error {
	efi := filepath.Join(dir, "BOOTX64.EFI")
	script := filepath.Join(dir, "grub.cfg")
	words := "echo '" + diskWords + "'\nsleep 5\nreboot\n"
	if err := os.WriteFile(script, []byte(words), 0o644); err != nil {
		return err
	}
	image := filepath.Join(dir, diskImage)
	if err := os.WriteFile(image, masterBootRecord(), 0o644); err != nil {
		return err
	}
	if err := os.Truncate(image, diskSize); err != nil {
		return err
	}
	at := fmt.Sprintf("%s@@%d", image, partition*sector)
	for _, command := range [][]string{
		{"grub-mkimage", "-O", "x86_64-efi", "-p", "/EFI/BOOT", "-c", script, "-o", efi, "normal", "echo", "sleep", "reboot"},
		{"mkfs.vfat", "--offset", fmt.Sprint(partition), "-F", "16", image},
		{"mmd", "-i", at, "::EFI", "::EFI/BOOT"},
		{"mcopy", "-i", at, efi, "::EFI/BOOT/BOOTX64.EFI"},
	} {
		if _, err := output(ctx, nil, nil, nil, command...); err != nil {
			return fmt.Errorf("%w\ntry: apt-get install %v", err, diskPackages)
		}
	}
	return errors.Join(os.Remove(efi), os.Remove(script))
}

// masterBootRecord is the first sector: what BIOS boots, and where the partition
// is that UEFI does.
func masterBootRecord() []byte {
	b := make([]byte, sector)
	copy(b[copy(b, bootSector):], "\r\n"+diskWords+"\r\n\x00")
	entry := b[0x1be:]
	entry[0] = 0x80 // active
	entry[4] = 0xef // an EFI system partition
	put := func(at int, n uint32) {
		entry[at], entry[at+1], entry[at+2], entry[at+3] = byte(n), byte(n>>8), byte(n>>16), byte(n>>24)
	}
	put(8, partition)
	put(12, diskSize/sector-partition)
	b[510], b[511] = 0x55, 0xaa
	return b
}
