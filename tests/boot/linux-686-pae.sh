#!/bin/bash
# tests/boot/linux-686-pae.sh: Debian's 32-bit kernel with PAE boots, runs commands and powers off.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
scripts/get-guests linux-686-pae initramfs-i386 || exit 1
guest_linux linux-686-pae guests/vmlinuz-686-pae guests/initramfs-i386.cpio 150
