#!/bin/bash
# tests/boot/lockstep.sh [KERNEL...]: Debian's kernels boot while the interpreter checks every block that the translator runs
# (-d check). Without arguments the 64-bit cloud kernel; tests/boot/slow/lockstep.sh boots all four.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
work=$(mktemp -d) || exit 1
for kernel in "${@:-linux-cloud-amd64}"; do
    case $kernel in
    *686*) initramfs=initramfs-i386 ;;
    *) initramfs=initramfs-amd64 ;;
    esac
    scripts/get-guests "$kernel" $initramfs || exit 1
    # A failure ends the subshell.
    (GUEST_LOG=$work guest_linux "$kernel" "guests/vmlinuz-${kernel#linux-}" guests/$initramfs.cpio 600 \
        -accel bt -d check -D "$work/check") >"$work/out" || { cat "$work/out" "$work/$kernel/stderr"; rm -rf "$work"; exit 1; }
    # Most of a boot must have been compared, not left out.
    read -r compared others < <(awk '/^check: vCPU/ { for (i = 1; i < NF; i++) if ($i ~ /^[0-9]+$/) {
        if ($(i + 1) == "blocks") c += $i; else if ($(i + 1) != "with") o += $i } } END { print c + 0, o + 0 }' "$work/check")
    [ "$compared" -gt 1000000 ] && [ "$compared" -gt $((20 * others)) ] || {
        tail -n 5 "$work/check"
        echo "$kernel: $compared blocks compared, $others not"
        rm -rf "$work"
        exit 1
    }
    echo "$(cat "$work/out"), $compared blocks alike, $others not compared"
done
rm -rf "$work"
