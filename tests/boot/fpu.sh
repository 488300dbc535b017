#!/bin/bash
# tests/boot/fpu.sh: processes of a Linux guest compute with x87, SSE and AVX at the same time, and get what the host gets.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
scripts/get-guests linux-cloud-amd64 initramfs-amd64 || exit 1
need_packages gcc gcc-multilib cpio || exit 1
dir=$(mktemp -d)
mkdir "$dir/bin"
gcc -O2 -static -o "$dir/bin/fpu64" tests/boot/fpu.c -lm || exit 1
gcc -m32 -march=i686 -O2 -static -o "$dir/bin/fpu32" tests/boot/fpu.c -lm || exit 1
(cat guests/initramfs-amd64.cpio; cd "$dir" && find bin | cpio -o -H newc --quiet) >"$dir/initramfs" || exit 1
guest_start fpu -accel bt -m 256 -kernel guests/vmlinuz-cloud-amd64 -initrd "$dir/initramfs" -no-reboot \
    -append 'console=ttyS0 quiet calque.run="fpu64; fpu32" calque.poweroff'
guest_expect 60 'calque-guest: ready Linux'
for program in fpu64 fpu32; do
    mapfile -t results < <("$dir/bin/$program")
    [ "${results[-1]}" = 'fpu rounds 450 status 0' ] || guest_fail "$program on the host: ${results[-1]}"
    guest_expect 60 "${results[@]}"
done
guest_expect 30 'calque-guest: status 0'
guest_refuse "$guest_linux_complaints"
guest_end 30
rm -rf "$dir"
guest_pass "fpu: the same as on the host, in $(guest_seconds) s"
