#!/bin/bash
# bench/mips.sh [--linux]: instructions a second of the interpreter, per mix of bench/mixes.S.
#
# The mixes run natively, in a bare 32-bit guest under Calque, and there under QEMU's TCG when it is installed.
# With --linux also as 64-bit and 32-bit programs of a Linux guest, which is what applications see.
#   CALQUE     the emulator (build/calque)
#   QEMU       the peer (qemu-system-x86_64)
#   MILLIONS   of instructions for each mix (200)
cd "$(dirname "$0")/.." || exit 1
CALQUE_ROOT=$PWD
. scripts/lib.sh
. scripts/lib-guest.sh

qemu=${QEMU:-qemu-system-x86_64}
millions=${MILLIONS:-200}
out=build/bench
mkdir -p $out || exit 1

need_packages gcc gcc-multilib || exit 1
gcc -O2 -static -o $out/mips64 bench/mips.c bench/mixes.S || exit 1
gcc -O2 -m32 -static -o $out/mips32 bench/mips.c bench/mixes.S || exit 1
gcc -O2 -m32 -march=i686 -ffreestanding -fno-pic -fno-stack-protector -fno-asynchronous-unwind-tables -nostdlib \
    -static -no-pie -Wl,--build-id=none,-N,-Ttext=0x101000,--section-start=.multiboot=0x100000,-e,_start \
    -o $out/mips.elf bench/mips_start.S bench/mips_bare.c bench/mixes.S || exit 1

# bare EMULATOR MILLIONS: "NAME MIPS" lines from the bare guest.
bare() {
    local name count now start=
    timeout 600 "$1" -m 32 -display none -serial stdio -no-reboot -kernel $out/mips.elf -append "$2" \
        -device isa-debug-exit,iobase=0xf4,iosize=0x4 </dev/null 2>/dev/null | while read -r name count; do
        now=${EPOCHREALTIME/[.,]/}
        count=${count%$'\r'}
        case $name in
            end*) awk -v name="$mix" -v n="$instructions" -v us=$((now - start)) \
                    'BEGIN { printf "%s %.1f\n", name, n / us }' ;;
            done*) ;;
            *) mix=$name instructions=$count start=$now ;;
        esac
    done
}

# table TITLE FILE...: one line for each mix, a column for each file, "-" where it has none.
table() {
    local files=("${@:2}") title=$1
    echo "$title"
    printf '%-10s' mix
    for file in "${files[@]}"; do printf '%12s' "${file##*-}"; done
    echo
    while read -r name _; do
        printf '%-10s' "$name"
        for file in "${files[@]}"; do
            printf '%12s' "$(awk -v name="$name" '$1 == name { print $2; found = 1 } END { if (!found) print "-" }' "$file")"
        done
        echo
    done <"${files[0]}"
    printf '%-10s' 'integer'
    for file in "${files[@]}"; do
        # What a program of equal parts of the first four would see: the harmonic mean.
        printf '%12s' "$(awk '/^(alu|memory|branch|call) / { s += 1 / $2; n++ } END { if (n) printf "%.1f", n / s; else print "-" }' "$file")"
    done
    echo
}

$out/mips32 "$((millions * 5))" >$out/bare-native
bare "$calque" "$millions" >$out/bare-calque
[ -s $out/bare-calque ] || die "no result under $calque"
columns=($out/bare-native $out/bare-calque)
if command -v "$qemu" >/dev/null; then
    bare "$qemu" $((millions * 2)) >$out/bare-tcg
    columns+=($out/bare-tcg)
fi
table "MIPS, 32-bit code on the bare machine" "${columns[@]}"

[ "${1:-}" = --linux ] || exit 0
scripts/get-guests linux-cloud-amd64 || exit 1
scripts/make-initramfs amd64 $out/mips.cpio $out/mips64 $out/mips32 >/dev/null || exit 1
in_linux() {
    calque=$1
    guest_start "mips" -m 256 -kernel guests/vmlinuz-cloud-amd64 -initrd $out/mips.cpio -no-reboot \
        -append "console=ttyS0 quiet calque.run=\"echo start 64; /root/mips64 $2; echo start 32; /root/mips32 $2\" calque.poweroff"
    guest_end 600
}
for emulator in calque tcg; do
    binary=$calque
    [ $emulator = calque ] || binary=$qemu
    command -v "$binary" >/dev/null || continue
    GUEST_LOG=$out in_linux "$binary" "$millions"
    for bits in 32 64; do
        tr -d '\r' <$out/mips/serial | awk -v bits=$bits '
            /^start / { on = $2 == bits; next } on && NF == 2 && $2 ~ /^[0-9.]+$/' >$out/linux$bits-$emulator
    done
done
$out/mips64 "$((millions * 5))" >$out/linux64-native
cp $out/bare-native $out/linux32-native
table "MIPS, 64-bit program of a Linux guest" $out/linux64-{native,calque,tcg}
table "MIPS, 32-bit program of a Linux guest" $out/linux32-{native,calque,tcg}
