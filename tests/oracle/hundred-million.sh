#!/bin/bash
# tests/oracle/hundred-million.sh [CASES]: so many random cases (100,000,000) on the host's processor and on Calque's engines, most of
# them on the translator, over the code sizes, lengths of sequences and CPU models that make a difference. About an hour on two
# quiet cores; a line a minute. Ends with status 1 if anything differed.
# SEED=N: the cases of that seed; else others each time. JOBS=N: processes; else one for each processor. BUILD=DIR: instead of build.
cd "$(dirname "$0")/../.." || exit 1
oracle=${BUILD:-build}/tests/oracle/oracle
cases=${1:-100000000} seed=${SEED:-$(date +%s)} jobs=${JOBS:-$(nproc)}
[ -x "$oracle" ] || { echo "hundred-million.sh: there is no $oracle: build it with ninja -C ${BUILD:-build} oracle" >&2; exit 2; }

# permille of the cases, and the rest of the command
parts="
290 --engine bt --mode 64
160 --engine bt --mode 32
120 --engine bt --mode 16
110 --engine bt --mode 64 --insns 2..40
 60 --engine bt --mode 32 --insns 2..40
 40 --engine bt --mode 16 --insns 2..40
 50 --engine bt --mode 64 --cpu Nehalem
 30 --engine bt --mode 64 --cpu qemu64
 30 --engine bt --mode 32 --cpu pentium3
 20 --engine bt --mode 32 --cpu 486
 10 --engine bt --mode 64 --ud
 10 --engine bt --mode 32 --ud
 30 --engine interp --mode 64
 20 --engine interp --mode 32
 20 --engine interp --mode 16
"
failed=0 done=0 start=$SECONDS
while read -r permille options; do
    [ "$permille" ] || continue
    count=$((cases * permille / 1000))
    echo "== --seed $seed $options: $count cases"
    # shellcheck disable=SC2086 # words
    "$oracle" --jobs "$jobs" --seed "$seed" --count "$count" $options </dev/null
    status=$?
    [ $status -le 1 ] || { echo "hundred-million.sh: the oracle ended with status $status" >&2; exit $status; }
    failed=$((failed | status)) done=$((done + count)) seed=$((seed + 1))
done <<<"$parts"
echo "hundred-million.sh: $done cases in $((SECONDS - start)) s, $([ $failed = 0 ] && echo no differences || echo "DIFFERENCES, see above")"
exit $failed
