#!/bin/bash
# tests/boot/net-e1000.sh: Linux's e1000 driver on user mode networking: DHCP, HTTP from the host, a connection into it, and
# a packet dump of it all.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
. scripts/lib-net.sh
"${CALQUE:-build/calque}" -nic help | grep -qx user || { echo "no libslirp"; exit 77; }
scripts/get-guests linux-amd64 initramfs-amd64 e1000-amd64 || exit 1

net_dir=$(mktemp -d) || exit 1
head -c 2000000 /dev/urandom >"$net_dir/data"
net_initramfs "$net_dir/initramfs" guests/e1000-amd64.ko
net_serve "$net_dir"
forwarded=$(free_port)

guest_start net-e1000 -m 256 -kernel guests/vmlinuz-amd64 -initrd "$net_dir/initramfs" -no-reboot \
    -netdev "user,id=n0,hostfwd=tcp:127.0.0.1:$forwarded-:7" -device e1000,netdev=n0,mac=52:54:00:11:22:33 \
    -object "filter-dump,id=d0,netdev=n0,file=$net_dir/dump" \
    -append "console=ttyS0 calque.run=\"$(net_commands)\" calque.poweroff"
trap net_cleanup EXIT
net_talk 150
[ "$(stat -c %s "$net_dir/dump")" -gt 4000000 ] || guest_fail "the packet dump has not all of it"
guest_pass
