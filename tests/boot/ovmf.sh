#!/bin/bash
# tests/boot/ovmf.sh: UEFI firmware instead of a BIOS, to its shell, where a few commands work; then Linux from it.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
scripts/get-guests ovmf linux-cloud-amd64 initramfs-amd64 || exit 1

guest_start ovmf -m 256 -bios guests/ovmf.fd -net none -no-reboot
guest_expect 100 'UEFI Interactive Shell' 'any other key to continue'
guest_type '\r'
guest_expect 20 'Shell>'
guest_type 'set number 42\r'
guest_type 'echo number is %number%\r'
guest_expect 20 'number is 42'
guest_type 'reset -s\r'
guest_end 20

guest_start ovmf-linux -m 256 -bios guests/ovmf.fd -net none -no-reboot -kernel guests/vmlinuz-cloud-amd64 \
    -initrd guests/initramfs-amd64.cpio -append 'console=ttyS0 calque.run="dmesg | head -n 20" calque.poweroff'
guest_expect 100 'efi: EFI v2' 'calque-guest: ready Linux calque 6'
guest_end 20
guest_pass
