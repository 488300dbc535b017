#!/bin/bash
# tests/fuzz/run.sh [-k DIR] SECONDS [TARGET...]: run the fuzzers of build-fuzz, SECONDS each, all of them by default.
#
#   cmake -G Ninja -B build-fuzz -DCMAKE_C_COMPILER=clang -DCALQUE_FUZZ=ON -DBUILD_TESTING=OFF && ninja -C build-fuzz fuzz
#   tests/fuzz/run.sh 2                     what CI does
#   tests/fuzz/run.sh -k corpus 3600 ide    for hours: what is found is kept in corpus/ide, and gone on from
#
# Each target starts from tests/fuzz/seeds/TARGET.hex, one input a line; tests/fuzz/seeds.py makes such a file from a
# directory. An input that fails is left in build-fuzz/failed; run it again with
#   build-fuzz/fuzz --target=TARGET build-fuzz/failed/TARGET-...
# The last line is "N passed, N failed".
cd "$(dirname "$0")/../.." || exit 1
build=${CALQUE_FUZZ_BUILD:-build-fuzz}
keep=
if [ "$1" = -k ]; then
    keep=$2
    shift 2
fi
seconds=${1:?seconds}
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$build/failed"
passed=0
failed=0
for target in ${*:-$("$build/fuzz" --target=help)}; do
    corpus=${keep:-$work}/$target
    mkdir -p "$corpus" "$work/seeds-$target"
    [ ! -e "tests/fuzz/seeds/$target.hex" ] || tests/fuzz/seeds.py unpack "tests/fuzz/seeds/$target.hex" "$work/seeds-$target"
    if "$build/fuzz" --target="$target" -seed=1 -max_total_time="$seconds" -max_len=4096 -len_control=0 -timeout=120 \
        -rss_limit_mb=2048 -malloc_limit_mb=1024 -reload=0 -close_fd_mask=1 -print_final_stats=1 \
        -artifact_prefix="$build/failed/$target-" "$corpus" "$work/seeds-$target" >"$work/log" 2>&1; then
        passed=$((passed + 1))
        echo "$target: $(awk '/number_of_executed_units/ { print $2 }' "$work/log") inputs"
    else
        failed=$((failed + 1))
        grep -av '^#[0-9]' "$work/log" | tail -n 60
        echo "$target: failed"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
