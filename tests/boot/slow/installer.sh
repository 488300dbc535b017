#!/bin/bash
# tests/boot/slow/installer.sh [amd64|i386]: the Debian installer's netboot kernel and initrd, to the first dialogs on the serial
# console: the language's, and after an answer the country's.
cd "$(dirname "$0")/../../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
installer=installer-${1:-amd64}
scripts/get-guests "$installer" || exit 1

guest_start "$installer" -m 1024 -no-reboot -kernel "guests/$installer/linux" -initrd "guests/$installer/initrd.gz" \
    -append 'console=ttyS0 TERM=vt102 --- quiet'
guest_expect 400 'Select a language'
ready=$(guest_seconds)
sleep 2
guest_type '\r'
guest_expect 100 'Select your location'
guest_refuse "$guest_linux_complaints"
guest_kill
guest_pass "first dialog after $ready s, second after $(guest_seconds) s"
