#!/bin/bash
# tests/boot/again.sh [TIMES [ACCEL [NAME...]]]: boot tests over and over on one engine: no run may end other than the first.
# Without arguments a few quick ones, 3 times on the translator; tests/boot/slow/bt-20.sh runs them all, 20 times.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
times=${1:-3}
accel=${2:-bt}
shift $(($# < 2 ? $# : 2))
[ $# -gt 0 ] || set -- linux-cloud-amd64 linux-686 grub-floppy kernels
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# The emulator with the engine chosen, whatever the test asks for besides.
emulator=${CALQUE:-build/calque}
[ -x "$(command -v "$emulator")" ] || die "no emulator at $emulator: build it first"
printf '#!/bin/sh\nexec %s -accel %s "$@"\n' "$(realpath "$(command -v "$emulator")")" "$accel" >"$work/calque"
chmod +x "$work/calque"

# How a run ended: its last line without what times and random choices leave there.
outcome() { tail -n 1 "$work/out" | sed -E 's/[0-9]+(\.[0-9]+)? (s|ms|seconds)\b/N s/g; s/\b[0-9]{5}\b/N/g'; }

passed=0
failed=0
for name; do
    started=$SECONDS
    first=
    for ((n = 1; n <= times; n++)); do
        CALQUE=$work/calque timeout -k 10 "${BOOT_TIMEOUT:-900}" bash "tests/boot/$name.sh" >"$work/out" 2>&1 </dev/null
        status=$?
        if [ $status = 77 ]; then
            echo "$name: skipped: $(tail -n 1 "$work/out")"
            continue 2
        fi
        now="status $status: $(outcome)"
        first=${first:-$now}
        if [ $status = 0 ] && [ "$now" = "$first" ]; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
            tail -n 30 "$work/out" | sed 's/^/    /'
            echo "$name, run $n: $now; the first: $first"
        fi
    done
    echo "$name: $times times in $((SECONDS - started)) s under $accel: $first"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
