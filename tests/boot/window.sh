#!/bin/bash
# tests/boot/window.sh: GRUB in a window (on a virtual X server) and in a terminal: seen, typed to, closed.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
. scripts/lib-picture.sh
scripts/get-guests grub || exit 1
for tool in Xvfb xdotool openbox expect; do
    command -v $tool >/dev/null || { echo "$tool is missing"; exit 77; }
done

work=$(mktemp -d)
picture_client "$work/vnc_client"
client() { "$work/vnc_client" "$work/vnc" "$@" || guest_fail "VNC client: $*"; }
Xvfb -displayfd 3 -screen 0 1024x768x24 3>"$work/display" 2>/dev/null &
x_server=$!
for _ in $(seq 600); do
    [ ! -s "$work/display" ] || break
    sleep 0.1
done
DISPLAY=:$(cat "$work/display")
export DISPLAY

openbox 2>/dev/null & # it fills screens and decorates windows
manager=$!

# What the window shows is told by its size, and by a VNC client's view of the same screen.
wait_for() { # wait_for SECONDS WHAT COMMAND...: until it succeeds
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ $SECONDS -lt $deadline ] || guest_fail "not in time: $what"
        sleep 0.2
    done
}
title_is() { [ "$(xdotool search --onlyvisible --name '^Calque' getwindowname 2>/dev/null)" = "$1" ]; }
width_is() { xdotool search --onlyvisible --name '^Calque' getwindowgeometry 2>/dev/null | grep -q "Geometry: $1x"; }

# A window that appears while the manager starts may wait for ever for being shown.
managed() { xdotool get_num_desktops >/dev/null 2>&1; }
until managed || [ $SECONDS -gt 100 ]; do
    sleep 0.1
done
managed || { echo "window: no window manager"; kill $manager $x_server; rm -rf "$work"; exit 1; }

guest_start window -m 64 -cdrom guests/grub-rescue-cdrom.iso -display sdl -name test -no-reboot \
    -vnc "unix:$work/vnc"
trap 'guest_kill; kill $manager $x_server; rm -rf "$work"' EXIT # instead of guest_start's
wait_for 60 "a window" title_is 'Calque (test)'
wait_for 60 "a text mode" width_is 720
window=$(xdotool search --onlyvisible --name '^Calque')
client wait 100 'before booting'
xdotool windowfocus "$window" key --delay 1 c
client wait 60 'grub>'
# A busy guest has room for a few keys only, and a key that is held down begins to repeat, however busy the host is.
type() {
    local at
    for ((at = 0; at < ${#1}; at++)); do
        xdotool type --delay 1 "${1:at:1}"
    done
}
typed='grub> '
for word in 'insmod ' 'vbe; ' 'loadfont ' 'unicode; ' 'set ' 'gfxmode=' '800x600; ' 'terminal' '_output ' gfxterm; do
    type "$word"
    typed+=$word
    client wait 60 "${typed% }"
done
xdotool key --delay 1 Return
wait_for 60 "the window to follow the mode" width_is 800
xdotool mousemove --window "$window" 100 100 click 1
wait_for 60 "the pointer to be grabbed" title_is 'Calque (test) - Press to release: Ctrl-Alt-G'
xdotool keydown ctrl keydown alt key g keyup alt keyup ctrl
wait_for 60 "the pointer to be released" title_is 'Calque (test)'
xdotool keydown ctrl keydown alt key f keyup alt keyup ctrl
wait_for 60 "the window to fill the screen" width_is 1024
xdotool keydown ctrl keydown alt key f keyup alt keyup ctrl
wait_for 60 "the window as it was" width_is 800
xdotool windowsize "$window" 500 500
wait_for 60 "another size" width_is 500
xdotool keydown ctrl keydown alt key u keyup alt keyup ctrl
wait_for 60 "the picture's size" width_is 800
type halt
xdotool key --delay 1 Return
guest_end 60 # cleans up, too

# The same in a terminal.
cat >"$work/curses" <<'END'
log_user 0
set timeout 200
lassign $argv client socket
set stty_init "rows 30 cols 100"
set env(TERM) xterm
spawn {*}[lrange $argv 2 end]
set emulator $spawn_id
# What the screen must show, seen by a VNC client; the terminal gets what it gets meanwhile.
proc shown {text} {
    global client socket emulator
    spawn $client $socket wait 100 $text
    expect {
        -i $emulator -re .+ exp_continue
        -i $emulator eof { puts "ended before: $text"; exit 1 }
        -i $spawn_id eof {}
        timeout { puts "no end of the client"; exit 1 }
    }
    if {[lindex [wait] 3]} { puts "not seen: $text"; exit 1 }
}
expect "GNU GRUB" {} timeout { puts "not seen: GNU GRUB"; exit 1 } eof { puts "it ended"; exit 1 }
shown "before booting"
send "c"
expect "grub>" {} timeout { puts "not seen: grub>"; exit 1 } eof { puts "it ended"; exit 1 }
send "echo Hi_There \$((7*6))"
# Drawn as it is typed, with the cursor moved about in between.
expect -re [join [split "Hi_There" ""] {(?:\x1b[^A-Za-z]*[A-Za-z]|\x08)*}] {} timeout { puts "not seen: Hi_There"; exit 1 }
send "\033OD\177x"
shown "grub> echo Hi_There \$((7*6x)"
send "\033" ;# to the menu, and back to an empty line
shown "before booting"
send "c"
shown "grub>"
send "halt\r"
expect eof {} timeout { puts "did not end"; exit 1 }
exit [lindex [wait] 3]
END
expect "$work/curses" "$work/vnc_client" "$work/vnc" "$calque" -m 64 -cdrom guests/grub-rescue-cdrom.iso -display curses \
    -vnc "unix:$work/vnc" -serial none -no-reboot ||
    { echo "window: -display curses"; exit 1; }
guest_pass
