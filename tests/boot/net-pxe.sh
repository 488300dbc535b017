#!/bin/bash
# tests/boot/net-pxe.sh: the card's expansion ROM (iPXE) gets an address and, by TFTP, a script, a kernel and an
# initramfs, which boot.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
. scripts/lib-net.sh
"${CALQUE:-build/calque}" -nic help | grep -qx user || { echo "no libslirp"; exit 77; }
need_packages ipxe-qemu || exit 1
scripts/get-guests linux-cloud-amd64 initramfs-amd64 || exit 1

net_dir=$(mktemp -d) || exit 1
cp guests/vmlinuz-cloud-amd64 "$net_dir/vmlinuz"
cp guests/initramfs-amd64.cpio "$net_dir/initramfs"
cat >"$net_dir/boot.ipxe" <<'END'
#!ipxe
kernel vmlinuz console=ttyS0 initrd=initramfs calque.run=uname calque.poweroff
initrd initramfs
boot
END
for model in e1000 virtio-net-pci; do
    guest_start "net-pxe-$model" -m 256 -no-reboot -boot n -nic "user,model=$model,tftp=$net_dir,bootfile=boot.ipxe"
    trap net_cleanup EXIT
    guest_expect 200 'calque-guest: ready' 'calque-guest: status 0'
    guest_end 30
    guest_pass
done
rm -rf "$net_dir"
