#!/bin/bash
# tests/boot/kernels.sh: CALQUE=build/calque tests/boot/kernels.sh
# -kernel with Multiboot, PVH and plain ELF images: what they find when they start.
CALQUE=${CALQUE:-build/calque}
case $CALQUE in /*) ;; *) CALQUE=$PWD/$CALQUE ;; esac
source_dir=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
passed=0
failed=0

# build NAME LINKER_OPTIONS -- DEFINITION...
build() {
    local name=$1
    shift
    ${CC:-gcc} -m32 -O1 -ffreestanding -fno-pic -fno-pie -fno-stack-protector -fno-asynchronous-unwind-tables \
        -nostdlib -static -no-pie -Wl,--build-id=none,-z,noexecstack,--no-warn-rwx-segments \
        -Wl,-T,"$source_dir/kernels.ld" "$@" "$source_dir/kernels.c" -o "$name" || exit 1
}

# boots IMAGE EXPECTED ARGUMENT...: the serial output and the exit code (0x10 << 1 | 1).
boots() {
    local image=$1 expected=$2 code
    shift 2
    timeout 100 "$CALQUE" -m 64 -nodefaults -display none -serial stdio -device isa-debug-exit,iobase=0xf4,iosize=4 \
        -kernel "$image" "$@" >out 2>err </dev/null
    code=$?
    printf '%s\n' "$expected" >expected
    if [ $code = 33 ] && cmp -s out expected && [ ! -s err ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "$image $*: exit code $code; differences from what was expected:"
        diff expected out
        cat err
    fi
}

echo "first module" >one
printf 'x,y' >two
build multiboot -DMULTIBOOT=1
build addresses -DMULTIBOOT=2
objcopy -O binary addresses addresses.bin
build pvh -DPVH=1
build plain

version=$("$CALQUE" -version | sed 's/.* version //')
multiboot_start='bss=00000000
cr0=00000001
multiboot
flags=0000024f
lower=0000027f
upper=0000fbfc'
usable=$((0x9fc00 + 0x3eff000))
usable=$(printf 'usable=%08x' $usable)

boots multiboot "$multiboot_start
cmdline=multiboot
loader=Calque $version
$usable"
boots multiboot "$multiboot_start
cmdline=multiboot one two  three
loader=Calque $version
module=one with arguments {first module
}
aligned=00000000
module=two a,b {x,y}
aligned=00000000
$usable" -append 'one two  three' -initrd 'one with arguments,two a,,b'
boots addresses.bin "$multiboot_start
cmdline=addresses.bin x
loader=Calque $version
$usable" -append x
boots pvh "bss=00000000
cr0=00000001
pvh
version=00000001
cmdline=root=/dev/null
module={first module
}
rsdp=RSD PTR 
$usable" -append root=/dev/null -initrd one
boots plain 'bss=00000000
cr0=00000001
plain'

# Truncation is noticed.
head -c 4000 multiboot >cut
timeout 100 "$CALQUE" -kernel cut 2>err && failed=$((failed + 1))
if grep -q 'kernel cut: the ELF image is truncated' err; then passed=$((passed + 1)); else failed=$((failed + 1)); cat err; fi
head -c 100 addresses.bin >cut
timeout 100 "$CALQUE" -kernel cut 2>err && failed=$((failed + 1))
if grep -q 'kernel cut: the Multiboot image is truncated' err; then passed=$((passed + 1)); else failed=$((failed + 1)); cat err; fi

echo "$passed passed, $failed failed"
[ $failed = 0 ]
