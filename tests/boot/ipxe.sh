#!/bin/bash
# tests/boot/ipxe.sh: iPXE comes up through the BIOS, shown on SeaBIOS's serial redirection, and its command line works.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
scripts/get-guests ipxe || exit 1

port=$(mktemp)
printf '\xf8\x03' >"$port" # SeaBIOS's etc/sercon-port: 0x3f8
guest_start ipxe -m 64 -kernel guests/ipxe.lkrn -no-reboot -net none -fw_cfg name=etc/sercon-port,file="$port"
guest_expect 60 'iPXE 1\.'
rm "$port"
guest_insist 60 '\x02' 'iPXE>' # which takes it for "cursor left"
guest_type 'cpuid --ext 29 && echo long mode\r'
guest_expect 20 '^long mode'
guest_type 'set a:int32 42\r'
guest_type 'show a\r'
guest_expect 20 'a:int32 = 42'
guest_type 'reboot\r'
guest_end 20
guest_pass
