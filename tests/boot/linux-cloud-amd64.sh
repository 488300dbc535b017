#!/bin/bash
# tests/boot/linux-cloud-amd64.sh: Debian's 64-bit cloud kernel boots, runs commands and powers off.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
scripts/get-guests linux-cloud-amd64 initramfs-amd64 || exit 1
guest_linux linux-cloud-amd64 guests/vmlinuz-cloud-amd64 guests/initramfs-amd64.cpio 150
