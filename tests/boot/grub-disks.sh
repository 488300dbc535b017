#!/bin/bash
# tests/boot/grub-disks.sh: SeaBIOS boots GRUB's rescue images from CD and from hard disk, raw and qcow2, and GRUB sees
# the drives. The screen is the firmware's serial console.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
scripts/get-guests grub-rescue || exit 1
work=$(mktemp -d)
printf '\370\003' >"$work/sercon" # port 0x3f8
truncate -s 64M "$work/data.img"

# boots NAME DRIVES ARGUMENT...
boots() {
    local name=$1 drives=$2
    shift 2
    guest_start "$name" -m 64 -vga none -fw_cfg "name=etc/sercon-port,file=$work/sercon" "$@"
    guest_expect 60 'GNU GRUB +version'
    guest_send c
    guest_expect 30 'grub>'
    guest_send 'ls\r'
    guest_expect 30 "$drives"
    guest_kill
    trap 'rm -rf "$work"' EXIT
    guest_pass
}

boots grub-cd '\(hd0\).*\(cd0?\)|\(cd0?\).*\(hd0\)' -cdrom guests/grub-rescue-cdrom.iso -hda "$work/data.img" -boot d
boots grub-disk '\(hd0\).*\(hd1\)' -hda guests/grub-rescue-usb.img -hdb "$work/data.img" -snapshot
boots grub-virtio '\(hd0\).*\(hd1\)' -drive file=guests/grub-rescue-usb.img,format=raw,if=virtio,snapshot=on \
    -drive "file=$work/data.img,format=raw,if=none,id=d" -device virtio-blk-pci,drive=d,disable-modern=on
boots grub-virtio-index '\(hd0\).*\(hd1\)' -hda "$work/data.img" -snapshot \
    -drive file=guests/grub-rescue-usb.img,format=raw,if=none,id=d -device virtio-blk-pci,drive=d,bootindex=0
if command -v qemu-img >/dev/null; then
    qemu-img convert -O qcow2 -c guests/grub-rescue-usb.img "$work/usb.qcow2" || exit 1
    boots grub-qcow2 '\(hd0\)' -drive "file=$work/usb.qcow2,if=none,id=d" -device ide-hd,drive=d,bus=ide.1,unit=1,bootindex=0
    boots grub-blockdev '\(hd0\)' -blockdev "driver=file,node-name=f,filename=$work/usb.qcow2,read-only=on" \
        -blockdev '{"driver": "qcow2", "node-name": "d", "file": "f"}' -device ide-hd,drive=d
fi
rm -rf "$work"
