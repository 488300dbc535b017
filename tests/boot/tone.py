#!/usr/bin/env python3
"""tests/boot/tone.py FILE.wav HZ SECONDS [PEAK]: both channels of the file have a tone of that frequency for at least that long,
without gaps, clicks or doubled pieces; its amplitude is PEAK (of 32767), within 3%, if that is given."""
import array
import math
import sys
import wave

path, hertz, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
with wave.open(path) as w:
    assert (w.getnchannels(), w.getsampwidth()) == (2, 2), "not 16-bit stereo"
    rate = w.getframerate()
    data = array.array("h", w.readframes(w.getnframes()))


def check(channel):
    samples = data[channel::2]
    loud = [i for i, v in enumerate(samples) if abs(v) > 300]
    if not loud or (loud[-1] - loud[0]) / rate < seconds:
        return f"sound of {(loud[-1] - loud[0]) / rate if loud else 0:.2f} s"
    tone = samples[loud[0]:loud[-1]]
    # Blocks of 20 ms against a sine and a cosine: amplitude, phase, and what is left.
    size, omega = rate // 50, 2 * math.pi * hertz / rate
    good, phases, peaks = 0, [], []
    blocks = len(tone) // size
    for b in range(blocks):
        part = tone[b * size:(b + 1) * size]
        re = sum(v * math.cos(omega * (b * size + i)) for i, v in enumerate(part)) * 2 / size
        im = sum(v * math.sin(omega * (b * size + i)) for i, v in enumerate(part)) * 2 / size
        rest = sum((v - re * math.cos(omega * (b * size + i)) - im * math.sin(omega * (b * size + i))) ** 2
                   for i, v in enumerate(part)) / size
        peak = math.hypot(re, im)
        if peak and rest < 0.01 * peak * peak:
            good += 1
            phases.append(math.atan2(im, re))
            peaks.append(peak)
    if good * size / rate < seconds * 0.95:
        return f"{good} of {blocks} blocks are a tone of {hertz} Hz"
    # A piece lost, doubled or silent moves the phase; a wrong rate makes it turn.
    jumps = sum(abs(math.remainder(b - a, 2 * math.pi)) > 0.3 for a, b in zip(phases, phases[1:]))
    if jumps:
        return f"{jumps} jumps of phase"
    if len(sys.argv) > 4 and abs(sorted(peaks)[len(peaks) // 2] / float(sys.argv[4]) - 1) > 0.03:
        return f"peak {sorted(peaks)[len(peaks) // 2]:.0f}"
    return None


for side in (0, 1):
    problem = check(side)
    if problem:
        sys.exit(f"{path}: channel {side}: {problem}")
print(f"{path}: {hertz} Hz for {len(data) / 2 / rate:.2f} s")
