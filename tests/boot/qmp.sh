#!/bin/bash
# tests/boot/qmp.sh: a Linux guest driven by QMP: stopped and continued, typed into, looked at, its disc changed, its power
# button pressed, reset and ended; clients that misbehave meanwhile do not matter to it.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
scripts/get-guests linux-amd64 initramfs-amd64 button-amd64 grub-rescue || exit 1

qmp_dir=$(mktemp -d) || exit 1
cat >"$qmp_dir/guest.sh" <<'END'
insmod /root/button-amd64.ko
insmod /root/evdev-amd64.ko
button=$(awk '/Name=/ { name = $0 } /Handlers=/ && name ~ /Power Button/ { print $NF }' /proc/bus/input/devices)
echo 'screen shows this' >/dev/tty1
date -s @1000000000 >/dev/null && hwclock -u -w
head -n 1 </dev/tty1 | sed 's/^/typed: /' &
(dd if=/dev/input/$button bs=24 count=1 2>/dev/null | hexdump -C | sed 's/^/button: /') &
echo "listening on $button"
while :; do read -r uptime _ </proc/uptime; echo "up $uptime"; usleep 200000; done
END
scripts/make-initramfs amd64 "$qmp_dir/initramfs" guests/button-amd64.ko guests/evdev-amd64.ko "$qmp_dir/guest.sh" \
    >/dev/null || exit 1
guest_start qmp -m 256 -kernel guests/vmlinuz-amd64 -initrd "$qmp_dir/initramfs" -no-shutdown -name tested \
    -qmp "unix:$qmp_dir/socket,server=on,wait=off" -S \
    -append "console=tty0 console=ttyS0 calque.run=\"sh /root/guest.sh\""
trap 'guest_kill; rm -rf "$qmp_dir"' EXIT
python3 tests/boot/qmp.py "$qmp_dir/socket" "$guest_log" "$qmp_dir" || guest_fail "the client has failed"
guest_end 20
guest_refuse "$guest_linux_complaints"
guest_pass
