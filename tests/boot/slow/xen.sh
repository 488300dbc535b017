#!/bin/bash
# tests/boot/slow/xen.sh: the Xen hypervisor, a Multiboot kernel with modules, runs Debian's generic kernel as its first
# domain (paravirtualized: in ring 3, with Xen's page tables), up to its first process and power off.
cd "$(dirname "$0")/../../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
scripts/get-guests xen linux-amd64 initramfs-amd64 || exit 1

guest_start xen -m 512 -no-reboot -kernel guests/xen -append 'console=com1 com1=115200,8n1 loglvl=all' \
    -initrd 'guests/vmlinuz-amd64 console=hvc0 calque.poweroff,guests/initramfs-amd64.cpio'
guest_expect 60 '\(XEN\) Xen version 4'
guest_expect 200 'calque-guest: ready Linux calque 6.*x86_64'
guest_expect 20 '\(XEN\) Entering ACPI S5 state'
guest_end 20
guest_refuse '\(XEN\).*(BUG|ASSERT|panic|[^e]fault)' 'Oops' 'Call Trace'
guest_pass
