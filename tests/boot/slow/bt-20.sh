#!/bin/bash
# tests/boot/slow/bt-20.sh [TIMES]: every boot test on the translator, 20 times without one difference in outcome.
cd "$(dirname "$0")/../../.." || exit 1
names=
for script in tests/boot/*.sh; do
    name=$(basename "$script" .sh)
    case $name in again | lockstep | errors) continue ;; esac # no guests of their own
    names+=" $name"
done
# shellcheck disable=SC2086 # a list
exec bash tests/boot/again.sh "${1:-20}" bt $names
