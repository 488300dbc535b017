#!/bin/bash
# tests/boot/slow/memtest-pass.sh: a complete pass of memtest86+, all its tests, in both flavours.
cd "$(dirname "$0")/../../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
scripts/get-guests memtest || exit 1

for flavour in ia32 x64; do
    guest_start memtest-pass-$flavour -m 16 -kernel guests/memtest86+$flavour.bin -append console=ttyS0,115200 -no-reboot
    guest_expect 1200 'Pass: +1'
    guest_refuse 'Errors: +[1-9]'
    guest_pass
    guest_kill
done
