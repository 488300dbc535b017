#!/bin/bash
# tests/boot/grub.sh: GRUB, started as a Linux kernel, works through the BIOS: memory map, PCI, ACPI tables, power off.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
scripts/get-guests grub || exit 1

guest_start grub -m 64 -kernel guests/grub.lkrn -no-reboot
guest_expect 60 '^grub> '
guest_send 'lsmmap\r'
guest_expect 20 'base_addr = 0x0, length = 0x9fc00, available' 'base_addr = 0x100000, length = 0x3[ef][0-9a-f]{5}, available'
guest_send 'lspci\r'
guest_expect 20 '00:00.0 8086:1237' '00:01.0 8086:7000' '00:01.3 8086:7113'
guest_send 'lsacpi\r'
guest_expect 20 'FACP|RSDT' 'APIC'
guest_send 'sleep 1; if cpuid -l; then echo has long mode; fi; date\r'
guest_expect 20 '^has long mode' '^20[0-9]{2}-[0-9]+-[0-9]+ '
guest_send 'halt\r'
guest_end 20
guest_pass
