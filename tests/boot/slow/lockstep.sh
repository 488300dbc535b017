#!/bin/bash
# tests/boot/slow/lockstep.sh: all of Debian's kernels boot with each translated block checked by the interpreter.
cd "$(dirname "$0")/../../.." || exit 1
exec bash tests/boot/lockstep.sh linux-686 linux-686-pae linux-amd64 linux-cloud-amd64
