#!/bin/bash
# tests/boot/memtest.sh: memtest86+ goes through its first tests without finding an error, in both flavours.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
scripts/get-guests memtest || exit 1

for flavour in ia32 x64; do
    guest_start memtest-$flavour -m 16 -kernel guests/memtest86+$flavour.bin -append console=ttyS0,115200 -no-reboot
    guest_expect 60 'Memtest86\+ v6'
    guest_expect 200 '#([4-9]|10) +\[' # five different tests done, of which several in cached memory
    guest_refuse 'Errors: +[1-9]'
    guest_pass
    guest_kill
done
