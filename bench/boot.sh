#!/bin/bash
# bench/boot.sh [KERNEL...]: seconds from start to the shell prompt of Debian's kernels, Calque against QEMU's TCG
# in one run, and their ratio. KERNELs: cloud-amd64 686-pae amd64 686 (all).
#   CALQUE     the emulator (build/calque)
#   QEMU       the peer (qemu-system-x86_64)
#   RUNS       boots of each; the fastest counts (2)
cd "$(dirname "$0")/.." || exit 1
CALQUE_ROOT=$PWD
. scripts/lib.sh
. scripts/lib-guest.sh

qemu=${QEMU:-qemu-system-x86_64}
command -v "$qemu" >/dev/null || echo "no $qemu here: Calque alone" >&2

# boot EMULATOR KERNEL ARCH: milliseconds until the prompt.
boot() {
    calque=$1
    guest_start "boot-$2" -m 512 -no-reboot -kernel "guests/vmlinuz-$2" -initrd "guests/initramfs-$3.cpio" \
        -append console=ttyS0 >&2
    guest_expect 600 '^calque:~# ' >&2
    local now=${EPOCHREALTIME/[.,]/}
    guest_send 'exit\n'
    guest_end 60 >&2
    echo $(((now - guest_started) / 1000))
}

# best EMULATOR KERNEL ARCH
best() {
    local run ms best=""
    for ((run = 0; run < ${RUNS:-2}; run++)); do
        ms=$(boot "$@") || exit 1
        [ -n "$best" ] && [ "$best" -le "$ms" ] || best=$ms
    done
    echo "$best"
}

printf '%-14s %10s %10s %8s\n' 'to the prompt' calque TCG ratio
for kernel in ${@:-cloud-amd64 686-pae amd64 686}; do
    case $kernel in
        *amd64) arch=amd64 ;;
        *) arch=i386 ;;
    esac
    scripts/get-guests "linux-$kernel" initramfs-$arch >&2 || exit 1
    ours=$(best "$calque" "$kernel" $arch) || exit 1
    theirs=
    if command -v "$qemu" >/dev/null; then
        theirs=$(best "$qemu" "$kernel" $arch) || exit 1
    fi
    awk -v kernel="$kernel" -v ours="$ours" -v theirs="$theirs" 'BEGIN {
        printf "%-14s %8.1f s ", kernel, ours / 1000
        if (theirs) printf "%8.1f s %8.2f\n", theirs / 1000, ours / theirs
        else print "        -        -"
    }'
done
