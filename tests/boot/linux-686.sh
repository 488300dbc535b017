#!/bin/bash
# tests/boot/linux-686.sh: Debian's 32-bit kernel without PAE boots, runs commands and powers off.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
scripts/get-guests linux-686 initramfs-i386 || exit 1
guest_linux linux-686 guests/vmlinuz-686 guests/initramfs-i386.cpio 150
