#!/bin/bash
# tests/boot/window.sh: GRUB in a window (on a virtual X server) and in a terminal: seen, typed to, closed.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
scripts/get-guests grub || exit 1
for tool in Xvfb xdotool openbox expect; do
    command -v $tool >/dev/null || { echo "$tool is missing"; exit 77; }
done

work=$(mktemp -d)
Xvfb -displayfd 3 -screen 0 1024x768x24 3>"$work/display" 2>/dev/null &
x_server=$!
for _ in $(seq 100); do
    [ ! -s "$work/display" ] || break
    sleep 0.1
done
DISPLAY=:$(cat "$work/display")
export DISPLAY

openbox 2>/dev/null & # it fills screens and decorates windows
manager=$!

# What the window shows is told by its size and by the monitor's view of the same screen.
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
until managed || [ $SECONDS -gt 20 ]; do
    sleep 0.1
done
managed || { echo "window: no window manager"; kill $manager $x_server; rm -rf "$work"; exit 1; }

guest_start window -m 64 -cdrom guests/grub-rescue-cdrom.iso -display sdl -name test -no-reboot \
    -monitor "unix:$work/monitor,server=on,wait=off"
trap 'guest_kill; kill $manager $x_server; rm -rf "$work"' EXIT # instead of guest_start's
wait_for 20 "a window" title_is 'Calque (test)'
wait_for 20 "a text mode" width_is 720
window=$(xdotool search --onlyvisible --name '^Calque')
sleep 3
xdotool windowfocus "$window" key --delay 50 c
sleep 1
xdotool type --delay 60 'insmod vbe; loadfont unicode; set gfxmode=800x600; terminal_output gfxterm'
xdotool key Return
wait_for 30 "the window to follow the mode" width_is 800
xdotool mousemove --window "$window" 100 100 click 1
wait_for 5 "the pointer to be grabbed" title_is 'Calque (test) - Press to release: Ctrl-Alt-G'
xdotool keydown ctrl keydown alt key g keyup alt keyup ctrl
wait_for 5 "the pointer to be released" title_is 'Calque (test)'
xdotool keydown ctrl keydown alt key f keyup alt keyup ctrl
wait_for 5 "the window to fill the screen" width_is 1024
xdotool keydown ctrl keydown alt key f keyup alt keyup ctrl
wait_for 5 "the window as it was" width_is 800
xdotool windowsize "$window" 500 500
wait_for 5 "another size" width_is 500
xdotool keydown ctrl keydown alt key u keyup alt keyup ctrl
wait_for 5 "the picture's size" width_is 800
xdotool type --delay 60 'halt'
xdotool key Return
guest_end 30 # cleans up, too

# The same in a terminal.
cat >"$work/curses" <<'END'
log_user 0
set timeout 60
set stty_init "rows 30 cols 100"
set env(TERM) xterm
spawn {*}$argv
proc want {text} { expect $text {} timeout { puts "not seen: $text"; exit 1 } eof { puts "ended before: $text"; exit 1 } }
want "GNU GRUB"
sleep 2
send "c"
want "grub>"
send "echo Hi_There \$((7*6))"
# Drawn as it is typed, with the cursor moved about in between.
expect -re [join [split "Hi_There" ""] {(?:\x1b[^A-Za-z]*[A-Za-z]|\x08)*}] {} timeout { puts "not seen: Hi_There"; exit 1 }
send "\033\[D\177"
sleep 1
send "\033" ;# to the menu, and back to an empty line
sleep 2
send "c"
sleep 2
send "halt\r"
expect eof {} timeout { puts "did not end"; exit 1 }
exit [lindex [wait] 3]
END
expect "$work/curses" "$calque" -m 64 -cdrom guests/grub-rescue-cdrom.iso -display curses -serial none -no-reboot ||
    { echo "window: -display curses"; exit 1; }
guest_pass
