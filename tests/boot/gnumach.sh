#!/bin/bash
# tests/boot/gnumach.sh: GNU Mach, a Multiboot kernel, finds its memory, calls the 32-bit PCI BIOS, probes its drivers'
# hardware and stops where it should: for want of a module to start.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
scripts/get-guests gnumach || exit 1

guest_start gnumach -m 64 -kernel guests/gnumach -append console=com0 -no-reboot
guest_expect 60 '^GNU Mach 1' 'biosmem: 0*100000:0*3f[0-9a-f]{5}, available' 'pcibios_init : PCI BIOS revision' \
    '^RTC time is 20' 'panic .*No bootstrap code loaded with the kernel'
guest_kill
guest_pass
