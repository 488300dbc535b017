#!/bin/bash
# bench/tlb.sh [ARGUMENT...]: nanoseconds that a load of CR3 and INVLPG cost a bare guest (bench/tlb_bare.c): alone, and with what
# accesses cost afterwards to 8 pages and to one. Arguments are Calque's, such as `-accel interp`.
#   CALQUE     the emulator (build/calque)
cd "$(dirname "$0")/.." || exit 1
CALQUE_ROOT=$PWD
. scripts/lib.sh
. scripts/lib-guest.sh

out=build/bench
mkdir -p $out || exit 1
need_packages gcc gcc-multilib || exit 1
gcc -O2 -m32 -march=i686 -ffreestanding -fno-pic -fno-stack-protector -fno-asynchronous-unwind-tables -nostdlib \
    -static -no-pie -Wl,--build-id=none,-N,-Ttext=0x101000,--section-start=.multiboot=0x100000,-e,_start \
    -o $out/tlb.elf bench/mips_start.S bench/tlb_bare.c || exit 1
timeout 100 "$calque" "$@" -m 32 -display none -serial stdio -no-reboot -kernel $out/tlb.elf \
    -device isa-debug-exit,iobase=0xf4,iosize=0x4 </dev/null | tr -d '\r' | grep -v done
