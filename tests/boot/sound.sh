#!/bin/bash
# tests/boot/sound.sh: Linux's snd-intel8x0 plays tones at two rates, and they are in the WAV file as they were made.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
. scripts/lib-sound.sh
scripts/get-guests linux-amd64 initramfs-amd64 || exit 1

dir=$(mktemp -d) || exit 1
sound_initramfs "$dir/initramfs" linux-image-amd64 $sound_ac97_modules

# play RATE HZ: a guest that plays a tone of 2 s and amplitude 10000.
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
        -audiodev "wav,id=w,path=$dir/out.wav" -device AC97,audiodev=w -append "console=ttyS0 calque.run=\"
        for m in /modules/*.ko; do insmod \$m; done; amixer -q sset Master 100% unmute; amixer -q sset PCM 74% unmute;
        aplay -D plughw:0 /root/tone.wav; cat /proc/asound/cards\" calque.poweroff"
    trap 'guest_kill; rm -rf "$dir"' EXIT
    guest_expect 150 'calque-guest: ready'
    guest_expect 30 'Intel 82801AA-ICH' 'calque-guest: status 0'
    guest_end 30
    guest_refuse "$guest_linux_complaints"
    python3 tests/boot/tone.py "$dir/out.wav" "$2" 1.9 10000 || exit 1
}

play 44100 440
play 48000 1000
guest_pass
