#!/bin/bash
# tests/boot/small-bios.sh: Linux starts from other BIOS images than the usual one: SeaBIOS's of 128 KiB, and qboot of 64.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
scripts/get-guests qboot linux-cloud-amd64 initramfs-amd64 || exit 1

for bios in /usr/share/seabios/bios.bin guests/qboot.rom; do
    guest_start "bios-$(basename "$bios")" -m 256 -bios "$bios" -no-reboot -kernel guests/vmlinuz-cloud-amd64 \
        -initrd guests/initramfs-amd64.cpio -append 'console=ttyS0 quiet calque.poweroff'
    guest_expect 100 'calque-guest: ready Linux calque 6'
    guest_end 20
done
guest_pass "both passed"
