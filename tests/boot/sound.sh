#!/bin/bash
# tests/boot/sound.sh: Linux's snd-intel8x0 plays tones at two rates, and they are in the WAV file as they were made; the
# console's bell beeps by pcspkr, and lp prints. The same through SDL2, whose disk driver keeps what a sound card would get.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
. scripts/lib-sound.sh
scripts/get-guests linux-amd64 initramfs-amd64 || exit 1

dir=$(mktemp -d) || exit 1
sound_initramfs "$dir/initramfs" linux-image-amd64 $sound_ac97_modules pcspkr parport parport_pc lp

# play RATE HZ AUDIODEV: a guest that plays a tone of 2 s and amplitude 10000.
play() {
    mkdir -p "$dir/tree/root"
    python3 - "$dir/tree/root/tone.wav" "$1" "$2" <<'END'
import array, math, sys, wave
rate, hertz = int(sys.argv[2]), int(sys.argv[3])
with wave.open(sys.argv[1], "wb") as w:
    w.setparams((2, 2, rate, 0, "NONE", ""))
    tone = [round(10000 * math.sin(2 * math.pi * hertz * i / rate)) for i in range(2 * rate)]
    w.writeframes(array.array("h", [v for v in tone for _ in range(2)]).tobytes())
END
    (cd "$dir/tree" && find . | cpio -o -H newc -R 0:0 --quiet) | cat "$dir/initramfs" - >"$dir/all"
    guest_start "sound-$1" -m 256 -kernel guests/vmlinuz-amd64 -initrd "$dir/all" -no-reboot \
        -audiodev "$3" -device AC97,audiodev=w -append "console=ttyS0 calque.run=\"
        for m in /modules/*.ko; do insmod \$m; done; amixer -q sset Master 100% unmute; amixer -q sset PCM 74% unmute;
        aplay -D plughw:0 -B 600000 -F 50000 /root/tone.wav; cat /proc/asound/cards\" calque.poweroff"
    trap 'guest_kill; rm -rf "$dir"' EXIT
    guest_expect 150 'calque-guest: ready'
    guest_expect 30 'Intel 82801AA-ICH' 'calque-guest: status 0'
    guest_end 30
    guest_refuse "$guest_linux_complaints"
}

play 44100 440 "wav,id=w,path=$dir/out.wav"
python3 tests/boot/tone.py "$dir/out.wav" 440 1.9 10000 || exit 1
play 48000 1000 "wav,id=w,path=$dir/out.wav"
python3 tests/boot/tone.py "$dir/out.wav" 1000 1.9 10000 || exit 1

# Its disk takes frames faster than a sound card would, and gets silence in between: so a busy host is seldom late.
if ! "${CALQUE:-build/calque}" -audiodev help | grep -qx sdl; then
    echo "no SDL2"
else
    SDL_AUDIODRIVER=disk SDL_DISKAUDIODELAY=5 SDL_DISKAUDIOFILE=$dir/sdl play 48000 500 sdl,id=w,out.frequency=48000
    python3 - "$dir/sdl" <<'END' || exit 1
import array, itertools, sys
with open(sys.argv[1], "rb") as f:
    runs = [list(run) for _, run in itertools.groupby(array.array("h", f.read())[::2], bool)]
left = [v for run in runs if run[0] or len(run) < 4 for v in run]
rises = [i for i in range(1, len(left)) if left[i - 1] < 0 <= left[i]]
periods = [b - a for a, b in zip(rises, rises[1:])]
good = sum(period in (95, 96, 97) for period in periods)
print(f"by SDL2: {good} periods of 500 Hz, {len(periods) - good} others")
sys.exit(not (good > 700 and good > 0.9 * len(periods) and 9000 < max(left) < 11000))
END
fi

cat >"$dir/tree/root/beep.sh" <<'END'
for module in /modules/*.ko; do insmod $module; done
printf '\033[10;700]\033[11;1000]\a' >/dev/tty1
head -c 5000 /bin/busybox >/dev/lp0
dmesg | grep -o 'lp0: using parport0'
sleep 2
END
(cd "$dir/tree" && find . | cpio -o -H newc -R 0:0 --quiet) | cat "$dir/initramfs" - >"$dir/all"
guest_start sound-speaker -m 256 -kernel guests/vmlinuz-amd64 -initrd "$dir/all" -no-reboot \
    -audiodev "wav,id=w,path=$dir/out.wav" -machine pcspk-audiodev=w -parallel "file:$dir/printed" \
    -append "console=tty1 console=ttyS0 calque.run=\"sh /root/beep.sh\" calque.poweroff"
trap 'guest_kill; rm -rf "$dir"' EXIT
guest_expect 150 'calque-guest: ready'
guest_expect 30 '^lp0: using parport0' 'calque-guest: status 0'
guest_end 30
head -c 5000 guests/busybox-amd64/bin/busybox | cmp - "$dir/printed" || exit 1
python3 - "$dir/out.wav" <<'END' || exit 1
import array, sys, wave
with wave.open(sys.argv[1]) as w:
    left, rate = array.array("h", w.readframes(w.getnframes()))[::2], w.getframerate()
rises = [i for i in range(1, len(left)) if left[i - 1] < 0 <= left[i]]
hertz = (len(rises) - 1) / ((rises[-1] - rises[0]) / rate) if len(rises) > 600 else 0
print(f"the speaker: {hertz:.1f} Hz, {len(rises)} periods")
sys.exit(not 697 < hertz < 703)
END
guest_pass
