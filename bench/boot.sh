#!/bin/bash
# bench/boot.sh [--cpu] [--markdown] [KERNEL...]: seconds from the emulator's start to its end, with Debian's kernels booting
# to a shell, running a command there and powering off: Calque against QEMU's TCG in one run, and their ratio.
# --cpu: seconds of processor time, user and system, on a host that is busy otherwise.
# KERNELs: cloud-amd64 686-pae amd64 686 (all).
#   CALQUE, QEMU   the emulators (build/calque, qemu-system-x86_64)
#   CALQUE_ARGS    more arguments for Calque (-accel bt)
#   RUNS           boots of each; the fastest counts (2)
cd "$(dirname "$0")/.." || exit 1
CALQUE_ROOT=$PWD
. scripts/lib.sh
. scripts/lib-guest.sh

markdown='' cpu=''
while [[ ${1:-} == --* ]]; do
    case $1 in
        --markdown) markdown=1 ;;
        --cpu) cpu=1 ;;
        *) die "unknown option: $1" ;;
    esac
    shift
done
ours=$calque ours_args=${CALQUE_ARGS:--accel bt}
qemu=${QEMU:-qemu-system-x86_64}
command -v "$qemu" >/dev/null || echo "no $qemu here: Calque alone" >&2

# boot EMULATOR ARGUMENTS KERNEL ARCH: milliseconds until it has ended. Runs in a subshell, whose children's times are its own.
boot() {
    calque=$1
    # shellcheck disable=SC2206 # a list
    calque_args=($2)
    guest_start "boot-$3" -m 512 -no-reboot -kernel "guests/vmlinuz-$3" -initrd "guests/initramfs-$4.cpio" \
        -append 'console=ttyS0 calque.run="echo in the shell" calque.poweroff' >&2
    wait "$guest_pid"
    if [ -n "$cpu" ]; then
        local used # of this shell itself: not in a pipeline
        used=$(mktemp) && times >"$used" || exit 1
        awk -F '[ms ]+' 'NR == 2 { printf "%.0f\n", ($1 * 60 + $2 + $3 * 60 + $4) * 1000 }' "$used"
        rm "$used"
    else
        echo $(((${EPOCHREALTIME/[.,]/} - guest_started) / 1000))
    fi
    guest_expect 1 '^in the shell' >&2
    guest_end 1 >&2
}

# best EMULATOR ARGUMENTS KERNEL ARCH
best() {
    local run ms best=""
    for ((run = 0; run < ${RUNS:-2}; run++)); do
        ms=$(boot "$@") || exit 1
        [ -n "$best" ] && [ "$best" -le "$ms" ] || best=$ms
    done
    echo "$best"
}

format='%-24s %9s %9s %9s\n'
[ -z "$markdown" ] || format='| %s | %s | %s | %s |\n'
# shellcheck disable=SC2059 # the format is one of the two above
{
    echo
    printf "$format" 'boot and power off' 'Calque s' 'TCG s' 'of TCG'
    [ -z "$markdown" ] || printf "$format" --- ---: ---: ---:
    for kernel in ${@:-cloud-amd64 686-pae amd64 686}; do
        case $kernel in
            *amd64) arch=amd64 ;;
            *) arch=i386 ;;
        esac
        scripts/get-guests "linux-$kernel" initramfs-$arch >&2 || exit 1
        mine=$(best "$ours" "$ours_args" "$kernel" $arch) || exit 1
        theirs=
        ! command -v "$qemu" >/dev/null || theirs=$(best "$qemu" '' "$kernel" $arch) || exit 1
        printf "$format" "$kernel" "$(awk "BEGIN { printf \"%.2f\", $mine / 1000 }")" \
            "$([ -z "$theirs" ] && echo - || awk "BEGIN { printf \"%.2f\", $theirs / 1000 }")" \
            "$([ -z "$theirs" ] && echo - || awk "BEGIN { printf \"%.2f\", $mine / $theirs }")"
    done
}
