#!/bin/bash
# tests/boot/slow/debian.sh [amd64|i386] [ide|virtio]: Debian 12 on a disk, as a person uses it: GRUB, logins on the serial
# port and on the screen (by VNC), files fetched by HTTP and by ssh, fio's verification, GRUB installed again, a clean
# power off, a kill -9 in the middle of writing, the journal replayed. IDE means e1000 and a raw image, virtio the
# virtio network card and a qcow2 overlay. About two minutes each; without arguments, all four.
cd "$(dirname "$0")/../../.." || exit 1
if [ $# = 0 ]; then
    for arch in amd64 i386; do
        for bus in ide virtio; do
            "tests/boot/slow/$(basename "$0")" $arch $bus || exit 1
        done
    done
    exit 0
fi
. scripts/lib.sh
. scripts/lib-guest.sh
. scripts/lib-net.sh
arch=$1 bus=${2:-ide}
need_packages openssh-client e2fsprogs qemu-utils libvncserver-dev || exit 1
scripts/make-disk-image "$arch" || exit 1

net_dir=$(mktemp -d) || exit 1
trap net_cleanup EXIT
base=$PWD/guests/debian-$arch.img
disk=$net_dir/disk
case $bus in
    ide)
        cp --sparse=always "$base" "$disk" || exit 1
        machine=(-drive "file=$disk,format=raw" -netdev "user,id=n,HOSTFWD" -device e1000,netdev=n)
        device=sda
        ;;
    virtio)
        qemu-img create -q -f qcow2 -F raw -b "$base" "$disk" || exit 1
        machine=(-drive "file=$disk,format=qcow2,if=virtio" -netdev "user,id=n,HOSTFWD" -device virtio-net-pci,netdev=n
            -device virtio-rng-pci)
        device=vda
        ;;
    *) die "unknown bus: $bus" ;;
esac
ssh_port=$(free_port)
machine=("${machine[@]/HOSTFWD/hostfwd=tcp:127.0.0.1:$ssh_port-:22}")
cc -O2 -o "$net_dir/vnc_client" tests/boot/vnc_client.c $(pkg-config --cflags --libs libvncclient) || exit 1
head -c 5000000 /dev/urandom >"$net_dir/data"
sum=$(md5sum <"$net_dir/data")
sum=${sum%% *}
net_serve "$net_dir"

# boot NAME: to a root shell on the serial port.
boot() {
    guest_start "debian-$arch-$bus-$1" -m 512 "${machine[@]}" -vnc "unix:$net_dir/vnc"
    trap net_cleanup EXIT
    guest_expect 60 'GNU GRUB'
    guest_expect 180 'debian login: '
    guest_send 'root\n'
    guest_expect 30 'Password: '
    guest_send 'calque\n'
    guest_expect 60 'root@debian:~# '
    guest_send 'export TERM=dumb; bind "set enable-bracketed-paste off"; dmesg -n 4; echo res$((1+1))y\n'
    guest_expect 30 '^res2y'
}

# run SECONDS COMMAND REGEX...: the command succeeds, with these in its output.
run() {
    local limit=$1 command=$2
    shift 2
    guest_send "$command && echo fin''e\n"
    guest_expect "$limit" "$@" '^fine'
}

power_off() {
    guest_send 'poweroff\n'
    guest_end 90
    guest_refuse "$guest_linux_complaints" 'EXT4-fs error|I/O error|ata[0-9.]+: (failed|exception)' 'Tx Unit Hang|timed out'
}

# check WHAT: the file system on the disk is clean in every detail.
check() {
    if [ $bus = virtio ]; then
        qemu-img check -q "$disk" || guest_fail "qemu-img check finds errors in the overlay, $1"
        qemu-img convert -O raw "$disk" "$disk.raw" || guest_fail "cannot read the overlay"
    else
        ln -sf "$disk" "$disk.raw"
    fi
    /sbin/e2fsck -fn "$disk.raw?offset=1048576" >"$net_dir/fsck" 2>&1 ||
        { cat "$net_dir/fsck"; guest_fail "the file system is not clean, $1"; }
    rm "$disk.raw"
}

remote() {
    timeout 120 ssh -p "$ssh_port" -i guests/debian-key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -o LogLevel=ERROR -o BatchMode=yes root@127.0.0.1 "$@" || guest_fail "ssh root@guest $*"
}

boot first
ready=$(guest_seconds)
run 120 'systemctl is-system-running --wait' '^running'
run 60 'findmnt -no SOURCE /' "^/dev/${device}1"

# Only words in whose letters the kernel's font is the video BIOS's.
"$net_dir/vnc_client" "$net_dir/vnc" wait 30 'debian login:' type root key 0xff0d wait 40 'ord:' type calque \
    key 0xff0d wait 60 'root@debian:' type 'tty; echo $((6*7))' key 0xff0d wait 20 '/tty1' wait 5 42 \
    type exit key 0xff0d wait 40 'debian login:' || guest_fail "no login on the screen"

run 90 "wget -qO /root/data http://10.0.2.2:$net_port/data; md5sum /root/data" "^$sum"
[ "$(remote 'cat /root/data' | md5sum)" = "$sum  -" ] || guest_fail "ssh brings another file"
[ "$(remote 'cat >/root/back; md5sum </root/back' <"$net_dir/data")" = "$sum  -" ] || guest_fail "ssh takes another file"
for direct in 0 1; do
    run 200 "fio --name=v --filename=/root/fio --size=48M --rw=randwrite --bsrange=4k-64k --ioengine=libaio \
        --iodepth=16 --direct=$direct --verify=crc32c --verify_fatal=1 --end_fsync=1 --minimal >/root/fio.log" 
done
run 60 'rm /root/fio /root/back'
run 120 "grub-install /dev/$device" 'No error reported'
power_off
check 'after power off'
used=$(guest_seconds)

# The GRUB that its own program has installed starts the same system. Then the machine dies while it writes.
boot second
run 30 "md5sum /root/data" "^$sum"
guest_send 'while :; do rm -rf /root/copy; cp -r /usr/lib/grub /root/copy; sync; echo round; done\n'
guest_expect 100 '^round'
guest_expect 100 '^round'
sleep 0.7
kill -9 "$guest_pid"
wait "$guest_pid" 2>/dev/null
guest_pid=
[ $bus != virtio ] || qemu-img check -q "$disk"
[ $? != 2 ] || guest_fail "the overlay is corrupt after the kill"

boot third
run 60 'dmesg; journalctl -b -u systemd-fsck-root -o cat | cat' 'recover(y complete|ing journal)'
run 30 "md5sum /root/data" "^$sum"
power_off
check 'after the journal has been replayed'
guest_pass "$guest_name: passed; login after $ready s, first run $used s"
