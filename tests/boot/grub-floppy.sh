#!/bin/bash
# tests/boot/grub-floppy.sh: SeaBIOS boots GRUB's rescue floppy from drive A; memdisk puts the same image behind the BIOS's
# INT 13h, and GRUB boots from there. GRUB's text screen comes over the serial port by SeaBIOS's own redirection.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
scripts/get-guests grub-rescue memdisk || exit 1

port=$(mktemp)
printf '\xf8\x03' >"$port" # SeaBIOS's etc/sercon-port: 0x3f8

# boots NAME ARGUMENT...
boots() {
    guest_start "$1" -m 64 -no-reboot -fw_cfg name=etc/sercon-port,file="$port" "${@:2}"
    guest_expect 60 'GNU GRUB +version 2' 'highlighted entry will be executed'
    guest_insist 60 c 'gr.*ub>' # the menu waits for some seconds only
    guest_type '\x15ls (fd0)/boot/grub/\r'
    guest_expect 30 'i386-pc'
    guest_type 'halt\r'
    guest_end 30
    guest_pass
}

boots grub-floppy -drive if=floppy,file=guests/grub-rescue-floppy.img,format=raw,readonly=on
boots grub-memdisk -kernel guests/memdisk -initrd guests/grub-rescue-floppy.img -append floppy
rm "$port"
