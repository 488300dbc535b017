#!/bin/bash
# tests/boot/floppy.sh: Linux's floppy driver reads, writes and formats disks of several kinds, finds out what they are,
# notices one that is changed, and one that is write protected.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
scripts/get-guests linux-amd64 initramfs-amd64 floppy-amd64 || exit 1

dir=$(mktemp -d) || exit 1
cat >"$dir/guest.sh" <<'END'
mknod /dev/fd1D720 b 2 17
insmod /root/floppy-amd64.ko
until dmesg | grep -q 'FDC 0'; do usleep 50000; done
dmesg | grep -E 'Floppy drive|FDC 0'
echo "A: $(blockdev --getsize64 /dev/fd0) $(md5sum </dev/fd0)"
echo "B: $(md5sum </dev/fd1)"
dd if=/dev/urandom of=data bs=18k count=40 2>/dev/null
dd if=data of=/dev/fd0 bs=18k seek=20 conv=fsync 2>/dev/null || echo 'write failed'
blockdev --flushbufs /dev/fd0
dd if=/dev/fd0 of=back bs=18k skip=20 count=40 2>/dev/null
cmp data back && echo 'A: compared'
/root/floppy /dev/fd1D720
echo "formatted: $(tr -d '\366' </dev/fd1D720 | wc -c) other bytes"
echo 'change it'
read -r line
echo "changed: $(md5sum </dev/fd0)"
dd if=data of=/dev/fd0 bs=512 count=1 2>&1 | grep -o 'Read-only.*'
echo done
END
cc -static -O -o "$dir/floppy" tests/boot/floppy.c || { echo "no static C library"; exit 77; }
scripts/make-initramfs amd64 "$dir/initramfs" guests/floppy-amd64.ko "$dir/floppy" "$dir/guest.sh" >/dev/null || exit 1
head -c 1474560 /dev/urandom >"$dir/a.img"
head -c 737280 /dev/urandom >"$dir/b.img"
head -c 1474560 /dev/urandom >"$dir/c.img"
cp "$dir/a.img" "$dir/a.old"
sum() { md5sum <"$dir/$1" | cut -d ' ' -f 1; }

guest_start floppy -m 256 -kernel guests/vmlinuz-amd64 -initrd "$dir/initramfs" -no-reboot \
    -fda "$dir/a.img" -drive "if=floppy,index=1,file=$dir/b.img,format=raw" -monitor "unix:$dir/monitor,server=on,wait=off" \
    -append 'console=ttyS0 calque.run="cd /tmp; sh /root/guest.sh" calque.poweroff'
trap 'guest_kill; rm -rf "$dir"' EXIT
guest_expect 60 'Floppy drive\(s\): fd0 is 1.44M, fd1 is 1.44M' 'FDC 0 is a (S82078B|8207[0-9])' "^A: 1474560 $(sum a.img)"
guest_expect 30 "^B: $(sum b.img)" '^A: compared'
guest_expect 60 '^formatted 80 cylinders, 2 heads, 9 sectors' '^formatted: 0 other bytes' '^change it'
printf 'change floppy0 %s raw read-only\n' "$dir/c.img" | python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(sys.stdin.buffer.read() + b"info status\n")
said = b""
while b"VM status: running" not in said:
    said += s.recv(4096)' "$dir/monitor"
guest_send '\n'
guest_expect 60 "^changed: $(sum c.img)" 'Read-only file system' '^done' 'calque-guest: status 0'
guest_end 30
cmp -s <(head -c $((20 * 18432)) "$dir/a.img") <(head -c $((20 * 18432)) "$dir/a.old") || guest_fail "other sectors were written"
cmp -s "$dir/a.img" "$dir/a.old" && guest_fail "nothing was written"
guest_refuse 'calque:'
guest_pass
