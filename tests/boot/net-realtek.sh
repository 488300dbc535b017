#!/bin/bash
# tests/boot/net-realtek.sh: Linux's drivers for Realtek's cards (8139cp, ne2k-pci) on user mode networking: DHCP, HTTP from the
# host, a connection into it. Before that, iPXE's driver, which works the RTL8139 the old way, gets the kernel by TFTP.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
. scripts/lib-net.sh
"${CALQUE:-build/calque}" -nic help | grep -qx user || { echo "no libslirp"; exit 77; }
need_packages ipxe-qemu || exit 1
scripts/get-guests linux-amd64 initramfs-amd64 rtl8139-amd64 ne2k-amd64 || exit 1

net_dir=$(mktemp -d) || exit 1
head -c 2000000 /dev/urandom >"$net_dir/data"
cp guests/vmlinuz-amd64 "$net_dir/vmlinuz"
net_serve "$net_dir"

# session MODEL MODULE...
session() {
    local model=$1
    shift
    forwarded=$(free_port)
    net_initramfs "$net_dir/initramfs" "$@"
    cat >"$net_dir/boot.ipxe" <<END_SCRIPT
#!ipxe
kernel vmlinuz console=ttyS0 initrd=initramfs calque.run="$(net_commands)" calque.poweroff
initrd initramfs
boot
END_SCRIPT
    guest_start "net-$model" -m 256 -no-reboot -boot n -netdev \
        "user,id=n0,hostfwd=tcp:127.0.0.1:$forwarded-:7,tftp=$net_dir,bootfile=boot.ipxe" \
        -device "$model,netdev=n0,mac=52:54:00:11:22:33"
    trap net_cleanup EXIT
    net_talk 200
    guest_pass
}

session rtl8139 guests/rtl8139-amd64/*.ko
session ne2k_pci guests/ne2k-amd64/*.ko
