#!/bin/bash
# tests/boot/vnc.sh: GRUB seen and typed to by VNC clients: text on the screen, modes changing, passwords, clients that
# leave in the middle, are slow, or send nonsense. And to a USB keyboard.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
scripts/get-guests grub || exit 1

work=$(mktemp -d)
back=
cc -O2 -o "$work/vnc_client" tests/boot/vnc_client.c $(pkg-config --cflags --libs libvncclient) || exit 1
port=$(free_port)
display=$((port - 5900))
socket=$work/vnc
client() { "$work/vnc_client" "127.0.0.1:$port" "$@" || guest_fail "VNC client: $*"; }

guest_start vnc -m 64 -cdrom guests/grub-rescue-cdrom.iso -vnc "127.0.0.1:$display" -no-reboot
for _ in $(seq 1000); do
    ! (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    sleep 0.1
done
client wait 100 'before booting' key 0x63 wait 60 'grub>' size 720 400 60

# Characters alone, as programs send them, and with shift, as keyboards do.
client type 'echo "Hi_There" $((x|y))<>?:{}~' wait 60 'grub> echo "Hi_There" $((x|y))<>?:{}~'
client key 0xff1b wait 60 'before booting' key 0x63 wait 60 'grub>' down 0xffe1 type A up 0xffe1 type b wait 60 'grub> Ab'

# Others come and go in between, one of them a bad one.
client key 0xff08 key 0xff08 leave
(head -c 20000 /dev/urandom >"/dev/tcp/127.0.0.1/$port") 2>/dev/null
(exec 3<>"/dev/tcp/127.0.0.1/$port"; printf "RFB 0" >&3; sleep 3) 2>/dev/null & # says half a word
client type 'videoinfo' key 0xff0d wait 60 'Legend'
wait $!

# A graphics mode: another size, and a picture.
client key 0xff0d type 'insmod vbe; loadfont unicode; set gfxmode=800x600; terminal_output gfxterm' key 0xff0d size 800 600 60 drawn 60 type Hello save "$work/gfx.ppm"
[ "$(head -c 15 "$work/gfx.ppm" | tr '\n' ' ')" = "P6 800 600 255 " ] || guest_fail "the picture is not one of 800x600"
[ "$(tail -c +16 "$work/gfx.ppm" | od -An -v -tx1 -w3 | sort | uniq -c | wc -l)" -ge 2 ] || guest_fail "the picture is empty"
for _ in $(seq 5); do back="$back key 0xff08"; done
# shellcheck disable=SC2086 # a list
client $back type 'terminal_output console' key 0xff0d size 720 400 60
"$work/vnc_client" "127.0.0.1:$port" type 'halt' key 0xff0d 2>/dev/null # it may be gone before its client
guest_end 60

# Passwords: without one nobody is let in; the monitor sets it. The keys go to a USB keyboard, by way of the BIOS.
guest_start vnc-password -m 64 -cdrom guests/grub-rescue-cdrom.iso -device usb-kbd -vnc "unix:$socket,password=on" \
    -monitor "tcp:127.0.0.1:$port,server=on,wait=off" -no-reboot
for _ in $(seq 1000); do
    ! exec 3<>"/dev/tcp/127.0.0.1/$port" || break
    sleep 0.1
done 2>/dev/null
VNC_PASSWORD='' "$work/vnc_client" "$socket" text 2>/dev/null && guest_fail "no password was set, and a client got in"
printf '%s\n' 'set_password vnc secret12' 'info status' >&3
while IFS= read -r -t 60 line <&3 && [[ $line != *'VM status'* ]]; do :; done
VNC_PASSWORD=wrong "$work/vnc_client" "$socket" text 2>/dev/null && guest_fail "a wrong password was taken"
VNC_PASSWORD=secret12 "$work/vnc_client" "$socket" wait 100 'before booting' key 0x63 wait 60 'grub>' type 'Keys: <{|}>' \
    wait 60 'grub> Keys: <{|}>' || guest_fail "a client with the right password saw something else"
echo 'quit' >&3
guest_end 60
rm -rf "$work"
guest_pass
