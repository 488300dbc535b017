#!/bin/bash
# tests/boot/baremetal.sh [NAME...]: CALQUE=build/calque tests/boot/baremetal.sh
# Programs without an operating system (tests/boot/baremetal) that check the processor and its interrupt controllers in the whole
# machine: page walks, APICs, several processors, privileges. Each prints what is wrong and its counts.
CALQUE=${CALQUE:-build/calque}
case $CALQUE in /*) ;; *) CALQUE=$PWD/$CALQUE ;; esac
source_dir=$(cd "$(dirname "$0")" && pwd)/baremetal
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
passed=0
failed=0

flags="-m64 -O1 -ffreestanding -fno-pic -fno-pie -fno-stack-protector -fno-asynchronous-unwind-tables -mno-red-zone
    -mgeneral-regs-only -mcmodel=small -Wall -Wextra"

# image NAME: $dir/NAME, in the 32-bit ELF format that Multiboot asks for.
image() {
    # shellcheck disable=SC2086
    ${CC:-gcc} $flags -nostdlib -static -no-pie -Wl,--build-id=none,-z,noexecstack,-z,max-page-size=4096 \
        -Wl,--no-warn-rwx-segments,-T,"$source_dir/image.ld" "$source_dir/start.S" "$source_dir/runtime.c" \
        "$source_dir/$1.c" -o "$dir/$1.elf" && objcopy -O elf32-i386 "$dir/$1.elf" "$dir/$1"
}

# runs NAME ARGUMENT...
runs() {
    local name=$1 code p f
    shift
    [ -z "$only" ] || [[ " $only " == *" $name "* ]] || return
    if ! [ -e "$dir/$name" ] && ! image "$name"; then
        failed=$((failed + 1))
        return
    fi
    timeout $((90 * ${PATIENCE:-1})) "$CALQUE" -nodefaults -display none -serial stdio -device pc-testdev \
        -device isa-debug-exit,iobase=0xf4,iosize=4 -no-reboot -kernel "$dir/$name" "$@" >"$dir/out" 2>&1 </dev/null
    code=$?
    read -r p f < <(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed.*/\1 \2/p' "$dir/out")
    if [ -z "$p" ]; then
        p=0
        f=1
    elif [ $code != 1 ] && [ "$f" = 0 ]; then
        f=1
    fi
    passed=$((passed + p))
    failed=$((failed + f))
    [ "$f" = 0 ] || { echo "$name $* (exit code $code):" && sed 's/^/    /' "$dir/out"; }
}

only="$*"
runs system
runs system -cpu qemu64,-x2apic
runs paging
runs apic
runs apic -smp 2
runs smp -smp 2
runs smp -smp 4
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
