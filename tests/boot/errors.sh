#!/bin/bash
# tests/boot/errors.sh: CALQUE=build/calque tests/boot/errors.sh
# Bad command lines and broken files: each ends with one line on standard error that names the culprit, nothing on
# standard output, and exit code 1.
CALQUE=${CALQUE:-build/calque}
case $CALQUE in /*) ;; *) CALQUE=$PWD/$CALQUE ;; esac
kernel=${CALQUE_KERNEL:-$PWD/guests/vmlinuz-amd64} # some cases need a real one
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
passed=0
failed=0

# refused PATTERN ARGUMENT...: exit code 1, and standard error is one line "calque: ..." that matches PATTERN.
refused() {
    local pattern=$1 code lines
    shift
    timeout 100 "$CALQUE" "$@" >out 2>err </dev/null
    code=$?
    lines=$(wc -l <err)
    if [ $code = 1 ] && [ "$lines" = 1 ] && grep -q '^calque: ' err && grep -qE -- "$pattern" err && [ ! -s out ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "calque $*: code $code, expected one line matching /$pattern/, got:"
        head -n 5 err out
    fi
}

# accepted PATTERN ARGUMENT...: says something on standard output and exits with 0.
accepted() {
    local pattern=$1 code
    shift
    timeout 100 "$CALQUE" "$@" >out 2>err </dev/null
    code=$?
    if [ $code = 0 ] && grep -qE -- "$pattern" out && [ ! -s err ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "calque $*: code $code, expected /$pattern/ on standard output"
        head -n 5 err out
    fi
}

accepted '^Calque emulator version' -version
accepted '^usage:' -help
accepted '^usage:' -h
accepted 'max' -cpu help
accepted 'guest_errors' -d help
accepted '^pc ' -machine help
accepted '^bt' -accel help
accepted 'isa-debug-exit' -device help

# Unknown and incomplete options.
refused '-foo: option not supported' -foo
refused '-smbios: option not supported' -smbios type=0
refused '-kernel: requires an argument' -kernel
refused '-m: requires an argument' -nographic -m
refused '-initrd needs -kernel' -initrd x
refused '-append needs -kernel' -append x

# Machine, processors, memory.
refused '-machine q35: machine type not supported' -machine q35
refused '-M isapc: machine type' -M isapc
refused "property 'foo' not supported" -machine pc,foo=bar
refused 'smm=on not supported' -machine pc,smm=on
refused 'kvm: not available in this build' -accel kvm
refused 'kvm: not available in this build' -machine accel=kvm
refused 'kvm is not available' -enable-kvm
refused 'xyz: no such accelerator' -accel xyz
refused "-cpu nosuch" -cpu nosuch
refused "nosuchfeature" -cpu max,+nosuchfeature
for size in 0 -5 abc 1x 1.5.5 '' 99999999999999999999G 600G 16E 64k; do refused "-m $size: " -m "$size"; done
refused '-m: 512000 MiB are more than this host' -m 500G
refused "property 'maxmem' not supported" -m 64,maxmem=128
for count in 0 -1 abc 65 100000 2,cores=3 2,maxcpus=4 2,sockets=0; do refused '-smp' -smp "$count"; done

# Firmware and kernels.
head -c 1000 /dev/zero >small
head -c 65536 /dev/zero >zeros
head -c 100000 /dev/urandom >garbage
mkdir directory
printf '\x7fELF\x01\x01\x01' >short-elf
refused 'firmware nosuch.bin: No such file' -bios nosuch.bin
refused 'firmware small: 1000 bytes are not a BIOS image' -bios small
refused 'firmware directory: Is a directory' -bios directory
refused 'kernel nosuch: No such file' -kernel nosuch
refused 'kernel directory: Is a directory' -kernel directory
refused 'kernel garbage: not a Linux, Multiboot or ELF image' -kernel garbage
refused 'kernel /dev/null: not a Linux' -kernel /dev/null
refused 'kernel short-elf: the ELF image is truncated' -kernel short-elf
refused 'firmware nosuch.rom: No such file' -option-rom nosuch.rom
refused 'fw_cfg item nosuch: No such file' -fw_cfg name=opt/x,file=nosuch
refused 'give either file or string' -fw_cfg name=opt/x
refused 'more than 55 characters' -fw_cfg "name=opt/$(printf '%060d' 0),string=x"

# A Linux image with a set-up header and nothing behind it; then one that is half there.
{
    head -c 497 /dev/zero
    printf '\004\000\000\000\020\000\000\000\000\000\000\000\000\125\252\000\000HdrS\014\002'
    head -c 3000 /dev/zero
} >linux-cut
refused 'kernel linux-cut: the file is truncated' -kernel linux-cut
if [ -e "$kernel" ]; then
    head -c 1000000 "$kernel" >linux-half
    refused 'kernel linux-half: the file is truncated' -kernel linux-half
    refused 'initrd nosuch: No such file' -kernel "$kernel" -initrd nosuch
    refused 'too large for the guest' -m 4 -kernel "$kernel"
    head -c 200000000 /dev/zero >big
    refused 'initrd big: too large' -m 128 -kernel "$kernel" -initrd big
    refused 'command line is longer' -kernel "$kernel" -append "$(printf '%05000d' 0)"
fi

# Character devices.
refused "'foo' is not a supported character device" -serial foo
refused 'stdio is already in use' -serial mon:stdio -monitor stdio
refused "chardev 'x' not found" -serial chardev:x
refused "property 'id' is missing" -chardev stdio
refused "kind 'spicevmc' not supported" -chardev spicevmc,id=a
refused "duplicate chardev id 'a'" -chardev null,id=a -chardev null,id=a
refused 'stdio is already in use' -serial stdio -serial stdio
refused "chardev 'a' is in use" -chardev null,id=a -serial chardev:a -serial chardev:a
refused "property 'path' is missing" -chardev file,id=a
refused 'cannot open /nosuch/file' -serial file:/nosuch/file
refused 'cannot open directory' -serial file:directory
refused 'cannot connect to unix:/nosuch/socket' -serial unix:/nosuch/socket
refused 'cannot listen on unix:/nosuch/socket' -serial unix:/nosuch/socket,server=on,wait=off
refused 'cannot connect to tcp:127.0.0.1:1' -serial tcp:127.0.0.1:1
refused "expected HOST:PORT" -serial tcp:localhost
refused "server=maybe: expected on or off" -serial unix:x,server=maybe
refused '-serial null: given too often' -serial null -serial null -serial null -serial null -serial null
refused 'cannot write to /dev/full' -serial file:/dev/full -monitor none -nographic -boot menu=on

# Disks.
head -c 1000000 /dev/zero >disk.img
: >empty.img
printf 'KDMV' >disk.vmdk
printf 'QFI\373\0\0\0\3' >short.qcow2
refused '-hda nosuch.img: No such file' -hda nosuch.img
refused '-hda nosuch.img: No such file' nosuch.img
refused '-cdrom nosuch.iso: No such file' -cdrom nosuch.iso
refused '-hdb directory: ' -hdb directory
refused '-hda empty.img: the image is empty' -hda empty.img
refused '-hdc disk.vmdk: an image of this format can only be read' -hdc disk.vmdk
refused '-drive disk.vmdk: .*VMDK image' -drive file=disk.vmdk,readonly=on
refused '-drive short.qcow2: damaged qcow2 header' -drive file=short.qcow2
refused '-drive disk.img: not a qcow2 image' -drive file=disk.img,format=qcow2
refused '-drive: vdi: image format not supported' -drive file=disk.img,format=vdi
refused '-drive: scsi: bus not supported' -drive file=disk.img,if=scsi
refused '-drive: sometimes: invalid cache' -drive file=disk.img,cache=sometimes
refused "-drive: property 'foo' not supported" -drive file=disk.img,foo=1
refused '-drive: .*index' -drive file=disk.img,index=4
refused 'a drive at bus=0,unit=0 \(index=0\) already' -hda disk.img -drive file=empty.img,index=0
refused '-hdb disk.img: in use by another process' -hda disk.img -hdb disk.img
refused 'nobody can refer to it without an id' -drive if=none,file=disk.img
refused '-device ide-hd: d0: no such drive' -device ide-hd,drive=d0
truncate -s 3M large.img
refused '-fda large.img: 3145728 bytes are no floppy disk' -fda large.img
refused '-drive: index=2' -drive if=floppy,index=2
refused 'no place left' -device floppy -device floppy -device floppy
refused '-device isa-fdc: device not supported' -device isa-fdc
refused '-drive: enospc: invalid error action' -drive file=disk.img,rerror=enospc
refused '-blockdev: nbd: driver not supported' -blockdev driver=nbd,node-name=n
refused '-blockdev: node-name: property missing' -blockdev driver=raw,file.filename=disk.img
refused '-blockdev: n: no such node' -blockdev driver=raw,node-name=d,file=n
refused '-blockdev: .*not understood' -blockdev '{"driver": ["raw"]}'
refused "-blockdev: property 'foo' not supported" -blockdev driver=file,node-name=n,filename=disk.img,foo=1
refused '-device ide-hd: d0: the drive is in use' -drive if=none,id=d0,file=disk.img -device ide-hd,drive=d0 -device ide-hd,drive=d0

# Devices and the rest.
refused "-device nosuch: device not supported" -device nosuch
refused "property 'foo' not supported" -device isa-debug-exit,foo=1
refused 'iobase=0x10000' -device isa-debug-exit,iobase=0x10000
refused '-vga qxl: not supported' -vga qxl
refused '-display gtk: not supported' -display gtk
refused "-monitor: 'foo' is not a supported character device" -monitor foo
refused "-qmp: '4444': expected HOST:PORT" -qmp tcp:4444
refused "-mon: chardev 'x' not found" -mon x
refused 'mode=foo not supported' -chardev null,id=x -mon x,mode=foo
refused '-action: reboot=foo not supported' -action reboot=foo
refused '-nic bogus: network type not supported' -nic bogus
refused "-nic rtl9999: network card not supported" -nic tap,model=rtl9999
refused "-device nowhere: no such netdev" -device e1000,netdev=nowhere
refused "-netdev tap: property 'id' is missing" -netdev tap
refused "-netdev: property 'color' not supported" -netdev tap,id=a,color=red
refused 'invalid boot order' -boot order=cxd
refused 'invalid boot order' -boot cc
refused 'invalid date' -rtc base=yesterday
refused 'not a UUID' -uuid 1234
refused "unknown log item 'nosuch'" -d int,nosuch
refused 'cannot open log file /nosuch/log' -d int -D /nosuch/log
refused 'cannot write pidfile /nosuch/pid' -pidfile /nosuch/pid
refused '-daemonize stdio: there is no terminal' -daemonize -serial stdio
refused '-machine q35: machine type' -daemonize -machine q35
refused 'cannot open' -daemonize -D /nosuch/log -d int
refused '/dev/fdset/5: no such set' -chardev file,id=f,path=/dev/fdset/5
refused '-overcommit mem-lock=on: not supported' -overcommit mem-lock=on

refused '-device bootindex 3: another device has it' -drive if=none,id=d,file=disk.img -device ide-hd,drive=d,bootindex=3 -device e1000,bootindex=3
refused 'unix:disk.img: cannot listen: Address already in use' -vnc unix:disk.img
refused 'cannot listen on unix:disk.img: Address already in use' -serial unix:disk.img,server=on,wait=off
refused '-netdev n: cannot listen on disk.img: Address already in use' -netdev stream,id=n,server=on,addr.type=unix,addr.path=disk.img
[ -s disk.img ] || { echo "a file that is no socket was removed"; failed=$((failed + 1)); }
devices=()
for _ in $(seq 16); do devices+=(-device pc-testdev); done
refused '-device pc-testdev: too many devices' -audio none,model=ac97 "${devices[@]}"

echo "$passed passed, $failed failed"
[ $failed = 0 ]
