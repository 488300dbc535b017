#!/bin/bash
# tests/boot/u-boot.sh: U-Boot as the firmware (-bios) sets up the bare machine without SeaBIOS, to its prompt.
# Without VGA: U-Boot runs its ROM with 64 KiB segment limits, and SeaBIOS's reads above them where limits are checked.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
scripts/get-guests u-boot || exit 1

guest_start u-boot -m 256 -bios guests/u-boot.rom -net none -vga none -no-reboot
guest_expect 60 'U-Boot 20'
guest_insist 60 '\r' '^=> '
guest_send 'bdinfo\r'
guest_expect 20 'relocaddr'
guest_send 'pci\r'
guest_expect 20 '0x8086 .*0x1237'
guest_send 'reset\r'
guest_end 20
guest_pass
