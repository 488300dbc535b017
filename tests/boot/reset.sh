#!/bin/bash
# tests/boot/reset.sh: a board reset in all the ways that software knows: by a boot sector (reset.asm), and by Linux.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
command -v nasm >/dev/null || { echo "nasm is missing"; exit 77; }
scripts/get-guests linux-cloud-amd64 initramfs-amd64 || exit 1

work=$(mktemp -d) || exit 1
nasm -f bin -o "$work/sector" tests/boot/reset.asm || exit 1
truncate -s 1474560 "$work/sector"
guest_start reset -m 32 -nic none -fda "$work/sector" -boot a -device isa-debug-exit,iobase=0xf4,iosize=4
trap 'guest_kill; rm -rf "$work"' EXIT
guest_expect 20 '^step 0 RAM lost, PIIX3 4D'
for step in 1 2 3 4 5 6 7; do
    guest_expect 20 "^step $step RAM kept, PIIX3 4D"
done
guest_end 20 1

# By ACPI's register, which is port 0xcf9; by that port; the keyboard controller; a triple fault; the BIOS.
for way in acpi pci kbd triple bios; do
    guest_start "reset-$way" -m 256 -nic none -kernel guests/vmlinuz-cloud-amd64 -initrd guests/initramfs-amd64.cpio \
        -no-reboot -append "console=ttyS0 quiet calque.reboot reboot=$way"
    guest_expect 60 'calque-guest: rebooting'
    guest_end 20
    guest_refuse "$guest_linux_complaints"
done
guest_pass "8 steps, and Linux by acpi, pci, kbd, triple, bios"
