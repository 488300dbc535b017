#!/bin/bash
# tests/boot/memtest-x64.sh: memtest86+, the 64-bit flavour, goes through its first tests without finding an error.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
scripts/get-guests memtest || exit 1

guest_start memtest-x64 -m 16 -kernel guests/memtest86+x64.bin -append console=ttyS0,115200 -no-reboot
guest_expect 60 'Memtest86\+ v6'
guest_expect 200 '#([4-9]|10) +\[' # five different tests done, of which several in cached memory
guest_refuse 'Errors: +[1-9]'
guest_kill
guest_pass
