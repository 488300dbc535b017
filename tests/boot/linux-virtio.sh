#!/bin/bash
# tests/boot/linux-virtio.sh: Linux's virtio drivers, over the modern and over the legacy interface: a file system on the
# disk that the host finds clean, random numbers, DHCP, HTTP from the host and large TCP packets to it.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
. scripts/lib-net.sh
PATH=$PATH:/sbin:/usr/sbin
"${CALQUE:-build/calque}" -nic help | grep -qx user || { echo "no libslirp"; exit 77; }
need_packages e2fsprogs || exit 1
scripts/get-guests linux-cloud-amd64 initramfs-amd64 virtio-cloud-amd64 || exit 1

net_dir=$(mktemp -d) || exit 1
head -c 4000000 /dev/urandom >"$net_dir/data"
sum=$(md5sum <"$net_dir/data")
sum=${sum%% *}
net_initramfs "$net_dir/initramfs" guests/virtio-cloud-amd64/*.ko
net_serve "$net_dir"

# session NAME PROPERTY: all of it, with that property of the devices.
session() {
    local forwarded disk=$net_dir/$1.img
    forwarded=$(free_port)
    truncate -s 64M "$disk"
    mkfs.ext4 -q "$disk" || exit 1
    guest_start "$1" -m 256 -kernel guests/vmlinuz-cloud-amd64 -initrd "$net_dir/initramfs" -no-reboot \
        -drive "file=$disk,format=raw,if=none,id=d,serial=calque-1" -device "virtio-blk-pci,drive=d$2" \
        -netdev "user,id=n0,hostfwd=tcp:127.0.0.1:$forwarded-:7" -device "virtio-net-pci,netdev=n0,mac=52:54:00:11:22:33$2" \
        -device "virtio-rng-pci$2" -device virtio-tablet-pci -device virtio-keyboard-pci \
        -append "console=ttyS0 calque.run=\"sh /root/net-up.sh; ip link show eth0; cat /sys/block/vda/serial; echo;
            mount -t ext4 /dev/vda /tmp; cd /tmp; wget -q http://10.0.2.2:$net_port/data; cd /; umount /tmp; sync;
            echo 3 >/proc/sys/vm/drop_caches; mount -t ext4 /dev/vda /tmp; md5sum </tmp/data;
            head -c 100000 /dev/hwrng | gzip | wc -c; grep Virtio /proc/bus/input/devices;
            sh /root/net-listen.sh </tmp/data; umount /tmp; cat /sys/class/net/eth0/statistics/rx_errors\" calque.poweroff"
    trap net_cleanup EXIT
    guest_expect 100 'calque-guest: ready'
    guest_expect 60 '^lease: 10.0.2.15/24' 'ether 52:54:00:11:22:33' '^calque-1' "^$sum" '^1000[0-9][0-9]' \
        'Name="Calque Virtio Tablet"' 'Name="Calque Virtio Keyboard"' '^waiting'
    timeout 60 cat <"/dev/tcp/127.0.0.1/$forwarded" | md5sum | grep -q "^$sum" || guest_fail "the guest's file came damaged"
    guest_expect 60 '^0$' 'calque-guest: status 0'
    guest_end 30
    guest_refuse "$guest_linux_complaints"
    e2fsck -fn "$disk" >/dev/null 2>&1 || die "$1: the file system is damaged"
    debugfs -R 'cat data' "$disk" 2>/dev/null | md5sum | grep -q "^$sum" || die "$1: the file on the disk is damaged"
    guest_pass
}

session virtio-modern ,disable-legacy=on
session virtio-legacy ,disable-modern=on
rm -rf "$net_dir"
