#!/bin/bash
# bench/real.sh: real-mode code (bench/real.S) on the translator, the interpreter and QEMU's TCG: nanoseconds of the emulator's
# processor time per round of each loop.
#   CALQUE     the emulator (build/calque)
#   QEMU       the peer (qemu-system-x86_64)
#   SCALE      thousands of rounds per unit; each item has some units (50)
cd "$(dirname "$0")/.." || exit 1
CALQUE_ROOT=$PWD
. scripts/lib.sh
. scripts/lib-guest.sh

qemu=${QEMU:-qemu-system-x86_64}
out=build/bench
mkdir -p $out || exit 1
need_packages gcc || exit 1

# image SCALE: $out/real.img
image() {
    gcc -m32 -c -DSCALE="$1" -DSECTORS=3 -o $out/real.o bench/real.S &&
        ld -m elf_i386 -Ttext=0x7c00 --oformat binary -o $out/real.img $out/real.o &&
        truncate -s 1M $out/real.img
}

# ticks PID: processor time of a process in hundredths of a second.
ticks() {
    local stat
    read -r stat <"/proc/$1/stat"
    # shellcheck disable=SC2086 # fields
    set -- ${stat##*) }
    echo $((${12} + ${13}))
}

# items SCALE EMULATOR ARGUMENT...: "NAME NANOSECONDS" lines.
items() {
    local scale=$1 name count pid now start=
    shift
    image "$scale" || return
    coproc guest { exec timeout 900 "$@" -m 32 -display none -serial stdio -no-reboot \
        -drive file=$out/real.img,format=raw,index=0 -device isa-debug-exit,iobase=0xf4,iosize=0x4 </dev/null 2>/dev/null; }
    while read -r name count; do
        name=${name%$'\r'}
        case $name in
            alu | memory | call | far | segment | string | copy | interrupt | pusha | wide)
                pid=$(pgrep -P "$guest_PID") && start=$(ticks "$pid") item=$name rounds=${count%$'\r'} ;;
            end)
                now=$(ticks "$pid")
                awk -v name="$item" -v n=$((rounds * scale)) -v t=$((now - start)) 'BEGIN { printf "%s %.2f\n", name, t * 1e7 / n }' ;;
        esac
    done <&"${guest[0]}"
    wait 2>/dev/null
}

scale=${SCALE:-50}000
items "$scale" "$calque" >$out/real-bt
items "$((scale / 5))" "$calque" -accel interp >$out/real-interp
columns=(bt interp)
if command -v "$qemu" >/dev/null; then
    items "$scale" "$qemu" >$out/real-tcg
    columns+=(tcg)
fi
printf '%-12s' item
printf '%10s' "${columns[@]}"
echo
while read -r name _; do
    printf '%-12s' "$name"
    for column in "${columns[@]}"; do
        printf '%10s' "$(awk -v name="$name" '$1 == name { print $2 }' "$out/real-$column")"
    done
    echo
done <$out/real-bt
