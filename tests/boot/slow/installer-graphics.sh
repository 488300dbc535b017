#!/bin/bash
# tests/boot/slow/installer-graphics.sh: the Debian installer with vga=788, as its own boot menu starts it: the kernel begins in
# 800x600, bochs-drm takes over with the monitor's preferred mode, and the first dialogs appear and take keys from a VNC client.
# Then the graphical installer, an X server, which takes clicks from the client's pointer, too.
# SCREENSHOTS names a directory that takes the pictures.
cd "$(dirname "$0")/../../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
. scripts/lib-picture.sh
scripts/get-guests installer-amd64 installer-gtk-amd64 || exit 1
work=$(mktemp -d) || exit 1
picture_client "$work/vnc_client"
client() { "$work/vnc_client" "$work/vnc" "$@" || guest_fail "VNC client: $*"; }

# wait_color SECONDS X Y COLOR WHAT
wait_color() {
    local deadline=$((SECONDS + $1))
    until client save "$work/picture" && [ "$(picture_color "$work/picture" "$2" "$3")" = "$4" ]; do
        [ $SECONDS -lt $deadline ] || guest_fail "not in time: $5"
        sleep 1
    done
    # The rest of the screen may still be being drawn.
    [ -z "${SCREENSHOTS:-}" ] || client sleep 1000 save "$SCREENSHOTS/installer-${5// /-}.ppm"
}

# start INSTALLER ARGUMENT...: to the second mode.
start() {
    local installer=$1
    shift
    guest_start "$installer" -m 1024 -no-reboot -kernel "guests/$installer/linux" -initrd "guests/$installer/initrd.gz" \
        -append 'vga=788 --- quiet' -vnc "unix:$work/vnc" "$@"
    trap 'guest_kill; rm -rf "$work"' EXIT
    until [ -S "$work/vnc" ] || ! guest_running; do sleep 0.2; done
    client size 800 600 120
    client size 1280 800 300
}

start installer-amd64
wait_color 100 780 360 aa0000 "first dialog"
[ "$(picture_color "$work/picture" 10 100),$(picture_color "$work/picture" 60 100)" = 0000aa,aaaaaa ] ||
    guest_fail "no grey dialog on a blue screen"
client key 0xff54
wait_color 20 780 376 aa0000 "next language"
client key 0xff52
wait_color 20 780 360 aa0000 "English again"
client key 0xff0d
wait_color 100 680 528 aa0000 "second dialog"
guest_pass
guest_kill

start installer-gtk-amd64 -usb -device usb-tablet
wait_color 200 700 455 29847d "gtk first dialog"
client click 300 478 1
wait_color 30 700 478 29847d "gtk next language"
client click 300 455 1 sleep 1000 click 1219 775 1
wait_color 100 700 455 ffffff "gtk second dialog"
guest_pass
