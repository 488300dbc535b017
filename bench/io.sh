#!/bin/bash
# bench/io.sh [--cpu] [--markdown] [--seconds N] [--format F] [ITEM-REGEX]: disk, network and display of a Debian guest
# (scripts/make-disk-image), under Calque and under QEMU's TCG, one after the other, their ratio, and, for disks, what the
# host does without a guest.
#
# Disks are files in the host's page cache, all of them allocated: fio with direct I/O, 1 MiB pieces four at a time and
# 4 KiB pieces 16 at a time. Networks are user mode: iperf3, one TCP connection with a server on the host. The screen is a
# 1024x768x32 frame buffer, written as a whole again and again while a VNC client looks on. Idle is the processor time of
# the emulator while the guest waits at its prompt.
#   --seconds N    how long each item runs (5), after it ran once for a second
#   --cpu          rates per second of the emulator's processor time: for a host that is busy otherwise
#   --format F     of the images (raw), as qemu-img knows it: qcow2
#   CALQUE, QEMU   the emulators (build/calque, qemu-system-x86_64)
cd "$(dirname "$0")/.." || exit 1
CALQUE_ROOT=$PWD
. scripts/lib.sh
. scripts/lib-guest.sh

cpu='' markdown='' seconds=5 format=raw only=.
while [ $# != 0 ]; do
    case $1 in
        --cpu) cpu=1 ;;
        --markdown) markdown=1 ;;
        --seconds) seconds=$2; shift ;;
        --format) format=$2; shift ;;
        -*) die "unknown option: $1" ;;
        *) only=$1 ;;
    esac
    shift
done
need_packages iperf3 libvncserver-dev qemu-utils >&2 || exit 1
scripts/make-disk-image amd64 >&2 || exit 1
work=$(mktemp -d) || exit 1
cc -O2 -o "$work/vnc_client" tests/boot/vnc_client.c $(pkg-config --cflags --libs libvncclient) || exit 1
port=$((20000 + RANDOM % 10000))
iperf3 -s -p "$port" >/dev/null 2>&1 &
server=$!
viewer=
clean() {
    guest_kill
    # shellcheck disable=SC2086 # perhaps none
    kill $server $viewer 2>/dev/null
    rm -rf "$work"
}
trap clean EXIT

# ticks: hundredths of a second of processor time that the emulator has used.
ticks() {
    local stat
    read -r stat <"/proc/$guest_pid/stat"
    # shellcheck disable=SC2086 # fields
    set -- ${stat##*) }
    echo $((${12} + ${13}))
}

# The items: what the guest runs. It prints a line "rate NUMBER".
fio="fio --name=b --size=256M --direct=1 --ioengine=libaio --minimal --time_based --runtime=$seconds"
declare -A items
# The root file system is on an IDE disk, too, and which of them is sda differs from boot to boot.
for disk in 'ide:$(readlink -f /dev/disk/by-path/pci-0000:00:01.1-ata-2)' virtio:/dev/vda; do
    items[disk/${disk%%:*}/read-1M]="$fio --filename=${disk#*:} --rw=read --bs=1M --iodepth=4 | awk -F';' '{print \"rate\", \$7 / 1024}'"
    items[disk/${disk%%:*}/write-1M]="$fio --filename=${disk#*:} --rw=write --bs=1M --iodepth=4 | awk -F';' '{print \"rate\", \$48 / 1024}'"
    items[disk/${disk%%:*}/randread-4k]="$fio --filename=${disk#*:} --rw=randread --bs=4k --iodepth=16 | awk -F';' '{print \"rate\", \$8}'"
    items[disk/${disk%%:*}/randwrite-4k]="$fio --filename=${disk#*:} --rw=randwrite --bs=4k --iodepth=16 | awk -F';' '{print \"rate\", \$49}'"
done
for card in e1000:2 virtio:3; do
    for way in out: in:-R; do
        items[net/${card%:*}/${way%:*}]="iperf3 -c 10.0.${card#*:}.2 -p $port -t $seconds ${way#*:} -f m | awk '/receiver/{print \"rate\", \$7}'"
    done
done
items[display/frames]="head -c 3145728 /dev/urandom >/dev/shm/f; s=\$(date +%s%N); n=0
    while [ \$(date +%s%N) -lt \$((s+${seconds}000000000)) ]; do for i in 1 2 3 4 5; do cat /dev/shm/f; done; n=\$((n+5)); done >/dev/fb0
    echo rate \$((n*1000/((\$(date +%s%N)-s)/1000000)))"
items[idle]="sleep $((2 * seconds)); echo rate 0"
order="disk/ide/read-1M disk/ide/write-1M disk/ide/randread-4k disk/ide/randwrite-4k disk/virtio/read-1M disk/virtio/write-1M
    disk/virtio/randread-4k disk/virtio/randwrite-4k net/e1000/out net/e1000/in net/virtio/out net/virtio/in display/frames idle"
declare -A unit=([disk-1M]=MiB/s [disk-4k]=requests/s [net]=Mbit/s [display]=frames/s [idle]='% of a processor')

# measure MACHINE EMULATOR ARGUMENT...: all items, into rate[MACHINE ITEM].
declare -A rate
measure() {
    local machine=$1 item command warm before started used elapsed value
    calque=$2
    shift 2
    calque_args=("$@")
    head -c 256M /dev/urandom >"$work/random"
    for disk in ide virtio; do qemu-img convert -f raw -O "$format" "$work/random" "$work/$disk" || exit 1; done
    guest_start "$machine" -m 1024 -snapshot -drive "file=$PWD/guests/debian-amd64.img,format=raw" \
        -drive "file=$work/ide,format=$format,index=2,snapshot=off" -drive "file=$work/virtio,format=$format,if=virtio,snapshot=off" \
        -netdev user,id=a -device e1000,netdev=a -netdev user,id=b,net=10.0.3.0/24 -device virtio-net-pci,netdev=b \
        -vnc "unix:$work/vnc" >&2
    trap clean EXIT
    {
        guest_expect 60 'executed automatically'
        guest_send '\033[B\r'
        guest_expect 400 'debian login: '
        guest_send 'root\n'
        guest_expect 60 'Password: '
        guest_send 'calque\n'
        guest_expect 60 'root@debian:~# '
        guest_send 'export TERM=dumb; bind "set enable-bracketed-paste off"; dmesg -n 1; stty -echo; PS1=; echo res$((1+1))y\n'
        guest_expect 30 '^res2y'
        guest_send 'systemctl is-system-running --wait\n'
        guest_expect 200 '^running|^degraded'
    } >&2
    for item in $order; do
        [[ $item =~ $only ]] || continue
        if [ "$item" = display/frames ]; then
            "$work/vnc_client" "$work/vnc" sleep 1000000 &
            viewer=$!
        fi
        command=$(tr -s '\n ' '; ' <<<"${items[$item]}" | sed 's/do;/do/g; s/; *$//')
        warm=$(sed "s/runtime=$seconds/runtime=1/; s/-t $seconds/-t 1/; s/${seconds}000000000/1000000000/; s/sleep [0-9]*/sleep 1/" <<<"$command")
        guest_send "{ $warm; } | tr e E; echo started; $command\n"
        guest_expect 60 '^started' >&2
        before=$(ticks)
        started=${EPOCHREALTIME/[.,]/}
        guest_expect $((seconds * 10 + 60)) 'rate [0-9.]+' >&2
        elapsed=$((${EPOCHREALTIME/[.,]/} - started))
        used=$((($(ticks) - before) * 10000))
        value=$(grep -aoE 'rate [0-9.]+' "$guest_log" | tail -n 1 | cut -d' ' -f2)
        if [ "$item" = idle ]; then
            value=$(awk "BEGIN { print 100 * $used / $elapsed }")
        elif [ -n "$cpu" ]; then
            value=$(awk "BEGIN { print $value * $seconds * 1000000 / $used }")
        fi
        rate[$machine $item]=$value
        echo "$machine $item $value" >&2
        # shellcheck disable=SC2086 # perhaps none
        [ -z "$viewer" ] || { kill $viewer; viewer=; sleep 1; }
    done
    guest_kill
}

# native_disk WAY BLOCK: fio as the worker of an image does it. Its rate, or that per second of its processor time.
native_disk() {
    head -c 256M /dev/urandom >"$work/native"
    fio --name=b --size=256M --filename="$work/native" --invalidate=0 --ioengine=psync --minimal --time_based --ramp_time=1 \
        --runtime="$seconds" --rw="$1" --bs="$2" |
        awk -F';' -v way="${1#rand}" -v block="$2" -v cpu="$cpu" '{
            field = way == "read" ? 7 : 48
            rate = block == "1M" ? $field / 1024 : $(field + 1)
            print cpu ? rate * 100 / ($88 + $89) : rate
        }'
}

native() {
    local item
    need_packages fio >&2 || exit 1
    for item in $order; do
        [[ $item =~ $only ]] || continue
        # shellcheck disable=SC2046 # two words
        case $item in
            disk/*) rate[native $item]=${rate[native ${item/virtio/ide}]:-$(native_disk $(tr - ' ' <<<"${item##*/}"))} ;;
        esac
        echo "native $item ${rate[native $item]:-}" >&2
    done
}

# quotient A [B [DIGITS]]: A / B, - where one of them is not known.
quotient() { awk "BEGIN { if (${1:-0} && ${2:-1}) printf \"%.${3:-1}f\", $1 / ${2:-1}; else print \"-\" }"; }

native
measure calque "$calque" -accel bt
measure tcg "${QEMU:-qemu-system-x86_64}" -accel tcg
line='%-28s %-18s %12s %12s %12s %7s %7s\n'
[ -z "$markdown" ] || line='| %s | %s | %s | %s | %s | %s | %s |\n'
# shellcheck disable=SC2059 # the line is one of the two above
{
    [ -z "$cpu" ] || printf '%s\n\n' "Rates per second of the emulator's processor time."
    printf "$line" item unit host Calque TCG 'x host' 'x TCG'
    [ -z "$markdown" ] || printf "$line" --- --- ---: ---: ---: ---: ---:
    for item in $order; do
        [ -n "${rate[calque $item]:-}" ] || continue
        kind=${item%%/*}
        [ "$kind" != disk ] || kind=disk-${item##*-}
        host=${rate[native $item]:-0} ours=${rate[calque $item]} theirs=${rate[tcg $item]}
        printf "$line" "$item" "${unit[$kind]}" "$(quotient "$host")" "$(quotient "$ours")" "$(quotient "$theirs")" \
            "$(quotient "$ours" "$host" 2)" "$(quotient "$ours" "$theirs" 2)"
    done
}
