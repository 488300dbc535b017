#!/bin/bash
# tests/boot/slow/x11.sh [modesetting|fbdev|vesa]...: X on Debian's desktop image with that driver (all of them), seen and
# used by a VNC client through a USB tablet and the keyboard: a terminal clicked and typed into, its window dragged, the
# desktop's menu opened. SCREENSHOTS names a directory that takes the pictures.
cd "$(dirname "$0")/../../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
. scripts/lib-picture.sh
arch=${ARCH:-amd64}
scripts/make-disk-image "$arch" desktop || exit 1
work=$(mktemp -d) || exit 1
picture_client "$work/vnc_client"
client() { "$work/vnc_client" "$work/vnc" "$@" || guest_fail "VNC client: $*"; }

# run SECONDS COMMAND REGEX...: in the shell on the serial port; the last line of the answer ends it.
run() {
    local limit=$1 command=$2
    shift 2
    guest_send "$(tr -s '\n ' ' ' <<<"$command"); echo fin''e\n"
    guest_expect "$limit" "$@" '^fine'
}

session() {
    local driver=$1 keys=$2 shown=$3 width=${4:-1024} height=${5:-768}
    guest_start "x11-$arch-$driver" -m 768 -hda "guests/debian-$arch-desktop.img" -snapshot -usb -device usb-tablet \
        -vnc "unix:$work/vnc"
    trap 'guest_kill; rm -rf "$work"' EXIT
    guest_expect 60 'executed automatically'
    guest_send "$keys\r"
    guest_expect 240 'debian login: '
    guest_send 'root\n'
    guest_expect 60 'Password: '
    guest_send 'calque\n'
    guest_expect 60 'root@debian:~# '
    guest_send 'export TERM=dumb DISPLAY=:0; bind "set enable-bracketed-paste off"; dmesg -n 4; echo res$((1+1))y\n'
    guest_expect 60 '^res2y'
    # With more than one driver to try, X's fbdev refuses to guess.
    [ "$driver" != fbdev ] || run 60 'printf "Section \\"Device\\"\\nIdentifier \\"d\\"\\nDriver \\"fbdev\\"\\nBusID \\"PCI:0:2:0\\"
        \\nEndSection\\n" >/etc/X11/xorg.conf; systemctl restart x'
    # Managed by openbox, and with a shell in it.
    run 200 'for w in calque-xterm xclock; do until timeout 5 xprop -name $w WM_STATE | grep Normal; do sleep 1; done; done;
        until pgrep -t pts/0 bash; do sleep 1; done; sleep 2; echo managed'
    run 30 'cat /var/log/Xorg.0.log' "$shown"
    client size $width $height 20 click 300 200 1 type 'echo "Clicked|&Typed" >/tmp/x' key 0xff0d sleep 3000
    run 30 'cat /tmp/x' '^Clicked.&Typed'
    client sleep 2000 save "$work/before.ppm" drag 280 50 480 250 sleep 3000
    run 30 'xwininfo -name calque-xterm' 'Absolute upper-left X: +24[0-9]' 'Absolute upper-left Y: +2[5-7][0-9]'
    client save "$work/dragged.ppm" click 60 420 3 sleep 3000 save "$work/menu.ppm"
    [ -z "${SCREENSHOTS:-}" ] || cp "$work/menu.ppm" "$SCREENSHOTS/x11-$arch-$driver.ppm"
    [ "$(picture_color "$work/before.ppm" 100 300),$(picture_color "$work/before.ppm" 600 500)" = ffffff,336699 ] ||
        guest_fail "no terminal on a blue desktop"
    [ "$(picture_color "$work/dragged.ppm" 100 300),$(picture_color "$work/dragged.ppm" 600 500)" = 336699,ffffff ] ||
        guest_fail "the terminal's picture was not moved"
    # Right of the short words, whatever size the monitor makes them.
    [ "$(picture_color "$work/menu.ppm" 172 540),$(picture_color "$work/dragged.ppm" 172 540)" = ffffff,336699 ] ||
        guest_fail "no menu where the desktop was clicked"
    guest_send 'poweroff\n'
    guest_end 120
    guest_refuse "$guest_linux_complaints"
    guest_pass
}

for driver in ${@:-modesetting fbdev vesa}; do
    case $driver in
        modesetting) session $driver '' 'modeset\(0\): Output' 1280 800 ;; # as the monitor's EDID says
        fbdev) session $driver '\033[B' 'FBDEV\(0\): hardware: VESA VGA' ;;
        vesa) session $driver '\033[B\033[B' 'VESA\(0\): Virtual size' 1920 1080 ;; # the largest of the EDID that the video BIOS knows
        *) die "unknown driver: $driver" ;;
    esac
done
