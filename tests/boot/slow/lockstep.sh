#!/bin/bash
# tests/boot/slow/lockstep.sh: SeaBIOS and GRUB, and all of Debian's kernels, one of them with two processors, too, boot with each
# translated block checked by the interpreter.
cd "$(dirname "$0")/../../.." || exit 1
CALQUE_ARGS="${CALQUE_ARGS:-} -accel bt -d check -D /dev/null" bash tests/boot/grub.sh || exit 1
bash tests/boot/lockstep.sh linux-686 linux-686-pae linux-amd64 linux-cloud-amd64 || exit 1
CALQUE_ARGS="${CALQUE_ARGS:-} -smp 2" exec bash tests/boot/lockstep.sh
