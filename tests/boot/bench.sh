#!/bin/bash
# tests/boot/bench.sh: a hundredth of the benchmark's work: each item computes in a guest what it computes natively.
cd "$(dirname "$0")/../.." || exit 1
started=$SECONDS
output=$(bench/suite.sh --percent 1 --no-tcg --no-boot --skip '^program/(7zip|openssl|compiler|xz)') ||
    { echo "$output"; exit 1; }
count=$(grep -cE '^[a-z]+/' <<<"$output")
[ "$count" -ge 50 ] || { echo "$output"; echo "bench: only $count items"; exit 1; }
echo "bench: $count items as natively, in $((SECONDS - started)) s"
