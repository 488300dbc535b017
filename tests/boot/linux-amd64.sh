#!/bin/bash
# tests/boot/linux-amd64.sh: Debian's generic 64-bit kernel boots, runs commands and powers off.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
scripts/get-guests linux-amd64 initramfs-amd64 || exit 1
guest_linux linux-amd64 guests/vmlinuz-amd64 guests/initramfs-amd64.cpio 150
