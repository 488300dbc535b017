#!/bin/bash
# bench/suite.sh [OPTION...]: one run that measures Calque, QEMU's TCG and the host, side by side.
#
# Each item (bench/guest/run) is run natively, then in a Linux guest under Calque, then in the same under TCG. The
# guests stay booted and idle between items. The table shows the seconds by the guest's own clock, which is compared
# with the host's at the end. An item that computes something else than natively is reported, and fails the run.
#
#   --only REGEX    the items whose "CLASS/ITEM" matches (all)
#   --skip REGEX    not these
#   --runs N        measure each item N times, the best counts (1)
#   --percent N     that much of each item's work (100)
#   --quick         --percent 10 --no-boot
#   --cpu           seconds of processor time instead of elapsed time, on a host that is busy otherwise
#   --no-tcg        without TCG
#   --no-boot       without the times of whole boots
#   --accel NAME    Calque's engine (bt)
#   --markdown      tables as docs/PERFORMANCE.md has them
#   --list          print what there is to measure
#   CALQUE, QEMU            the emulators (build/calque, qemu-system-x86_64)
#   CALQUE_ARGS, QEMU_ARGS  more arguments for them
cd "$(dirname "$0")/.." || exit 1
CALQUE_ROOT=$PWD
. scripts/lib.sh

only=. skip='^$' runs=1 percent=100 cpu= tcg=1 boot=1 accel=bt markdown= list=
while [ $# != 0 ]; do
    case $1 in
        --only | --skip | --runs | --percent | --accel)
            [ $# -gt 1 ] || die "$1 wants a value"
            declare "${1#--}=$2"
            shift
            ;;
        --quick) percent=10 boot= ;;
        --cpu) cpu=1 ;;
        --no-tcg) tcg= ;;
        --no-boot) boot= ;;
        --markdown) markdown=1 ;;
        --list) list=1 ;;
        --help)
            sed -n '/^# /!{/^#$/!q}; s/^# \{0,1\}//p' <(tail -n +2 "$0")
            exit
            ;;
        *) die "unknown option: $1" ;;
    esac
    shift
done

calque=${CALQUE:-build/calque}
qemu=${QEMU:-qemu-system-x86_64}
out=build/bench
tree=$out/tree
image=$out/suite.cpio

# build: the programs, and the guest's initramfs out of them, Debian's programs and busybox.
build() {
    need_packages gcc gcc-multilib p7zip openssl perl-base gzip xz-utils cpio >&2 || exit 1
    scripts/get-guests linux-cloud-amd64 initramfs-amd64 >&2 || exit 1
    [ ! "$image" -nt guests/initramfs-amd64.cpio ] || [ -n "$(find bench -newer "$image")" ] || return 0
    rm -rf "$tree"
    mkdir -p "$tree/bench" "$tree/bin" || exit 1
    local flags=(-std=gnu11 -O2 -Wall -Wextra -Wshadow -static) file
    gcc "${flags[@]}" -o "$tree/bench/bench64" bench/guest/*.c -lm -pthread || exit 1
    gcc "${flags[@]}" -m32 -march=i686 -o "$tree/bench/bench32" bench/guest/*.c -lm -pthread || exit 1
    for file in bench/guest/*.c; do
        gcc -E -std=gnu11 -o "$tree/bench/$(basename "$file" .c).i" "$file" || exit 1
    done
    cp bench/guest/run bench/guest/words.pl "$(gcc -print-prog-name=cc1)" "$tree/bench/" || exit 1
    for file in /usr/lib/p7zip/7zr /usr/bin/{openssl,perl,gzip,xz} "$tree/bench/cc1"; do
        { [[ $file != /* ]] || echo "$file"; ldd "$file" | grep -o '/[^ ]*'; } >>"$out/files" || die "no $file"
    done
    echo /usr/lib/x86_64-linux-gnu/libcrypto.so.3 >>"$out/files"
    sort -u "$out/files" | while read -r file; do
        mkdir -p "$tree${file%/*}" && cp -L "$file" "$tree$file" || exit 1
    done || exit 1
    rm "$out/files"
    # Two archives in one file: the kernel unpacks both.
    { cat guests/initramfs-amd64.cpio &&
        (cd "$tree" && find . | sort | cpio -o -H newc -R 0:0 --quiet); } >"$image.new" || exit 1
    cp guests/busybox-amd64/bin/busybox "$tree/bin/" || exit 1 # for the native runs: the guest has it
    mv "$image.new" "$image"
}

# start MACHINE COMMAND...: a process that answers on its output what it is told on its input.
declare -A pid input output
start() {
    local machine=$1 in out_fd
    shift
    rm -f "$out/$machine".{in,out}
    mkfifo "$out/$machine".{in,out} || exit 1
    "$@" <"$out/$machine.in" >"$out/$machine.out" 2>"$out/$machine.stderr" &
    pid[$machine]=$!
    exec {in}>"$out/$machine.in" {out_fd}<"$out/$machine.out"
    input[$machine]=$in output[$machine]=$out_fd
    answer "$machine" 100 >/dev/null || die "$machine does not start: $(tail -n 3 "$out/$machine.stderr")"
}

start_guest() { # MACHINE COMMAND...
    start "$@" -m 1024 -display none -serial stdio -no-reboot -kernel guests/vmlinuz-cloud-amd64 -initrd "$image" \
        -append 'console=ttyS0 quiet calque.run="sh /bench/run serve" calque.poweroff'
}

# answer MACHINE LIMIT: the next line that begins with "@ ", without that. The lines before go to MACHINE.said.
answer() {
    local line piece='' deadline=$((SECONDS + $2))
    while [ $SECONDS -lt $deadline ]; do
        if IFS= read -r -t 1 line <&"${output[$1]}"; then
            line=$piece${line%$'\r'}
            piece=
            [[ $line != '@ '* ]] || { echo "${line#@ }"; return 0; }
            echo "$line" >>"$out/$1.said"
        elif piece+=$line && ! kill -0 "${pid[$1]}" 2>/dev/null; then
            return 1
        fi
    done
    return 1
}

stop() {
    local machine
    for machine in "${!pid[@]}"; do
        kill "${pid[$machine]}" 2>/dev/null
    done
    wait
}

# ticks MACHINE: hundredths of a second that the process and its children have used.
ticks() {
    local stat
    read -r stat 2>/dev/null <"/proc/${pid[$1]}/stat" || stat=
    # shellcheck disable=SC2086 # fields
    set -- ${stat##*) }
    echo $((${12:-0} + ${13:-0} + ${14:-0} + ${15:-0}))
}

# measure MACHINE CLASS ITEM: a line "MACHINE CLASS ITEM SECONDS SUM HOST-SECONDS" in the results.
measure() {
    local before used started elapsed line seconds sum own
    before=$(ticks "$1")
    started=${EPOCHREALTIME/[.,]/}
    : >"$out/$1.said"
    echo "$3 $percent" >&"${input[$1]}"
    line=$(answer "$1" 300)
    elapsed=$((${EPOCHREALTIME/[.,]/} - started))
    used=$(($(ticks "$1") - before))
    read -r _ seconds sum own <<<"$line"
    if ! [[ $seconds =~ ^[0-9.]+$ ]]; then
        [ "$sum" = unsupported ] || sum=failed
        [ $sum != failed ] || { echo "$1: $3: $line"; tail -n 20 "$out/$1.said"; } >&2
        seconds=-
    elif [ -n "$cpu" ] && [ "$1" = native ] && [ -n "$own" ]; then
        seconds=$own # finer than ticks
    elif [ -n "$cpu" ]; then
        seconds=$(awk "BEGIN { printf \"%.4f\", $seconds * $used * 1e4 / $elapsed }")
    fi
    echo "$1 $2 $3 $seconds $sum $elapsed" >>"$out/results"
    kill -0 "${pid[$1]}" 2>/dev/null || die "$1 has ended: $(tail -n 3 "$out/$1.stderr")"
}

# table: the results by item, the means by class.
table() {
    awk -v cpu="$cpu" -v markdown="$markdown" -v tcg="$tcg" '
    function row(a, b, c, d, e, f) {
        if (markdown) printf "| %s | %s | %s | %s | %s | %s |\n", a, b, c, d, e, f
        else printf "%-24s %9s %9s %9s %9s %9s\n", a, b, c, d, e, f
    }
    function ratio(x) { return x == "" ? "-" : sprintf("%.2f", x) }
    function show(x) { return x == "" ? "-" : sprintf("%.3f", x) }
    function mean(key) { return count[key] ? exp(total[key] / count[key]) : "" }
    function add(key, x) {
        if (x != "") { total[key] += log(x); count[key]++ }
    }
    $5 == "failed" { wrong[++wrongs] = $1 ": " $3 " fails" }
    $4 != "-" {
        key = $1 " " $3
        if (!(key in best) || $4 < best[key]) best[key] = $4 > 0 ? $4 : 0.001
        if ($5 != "rate") { inside[$1] += $4; outside[$1] += $6 / 1e6 }
        if (!($1 SUBSEP $3 in sum)) sum[$1, $3] = $5
        if ($1 != "native" && sum["native", $3] != $5)
            wrong[++wrongs] = $1 ": " $3 " computes " $5 ", natively " sum["native", $3]
    }
    !($3 in class) { class[$3] = $2; item[++items] = $3 }
    !($2 in seen) { seen[$2] = 1; kind[++kinds] = $2 }
    END {
        row("item", "native s", "Calque s", "TCG s", "x native", "x TCG")
        if (markdown) row("---", "---:", "---:", "---:", "---:", "---:")
        for (i = 1; i <= items; i++) {
            name = item[i]
            n = best["native " name]; c = best["calque " name]; t = best["tcg " name]
            of = n != "" && c != "" ? n / c : ""
            over = t != "" && c != "" ? t / c : ""
            add("n " class[name], of); add("t " class[name], over); add("n", of); add("t", over)
            row(class[name] "/" name, show(n), show(c), show(t), ratio(of), ratio(over))
            if (over != "" && over < 1) slower = slower " " class[name] "/" name
        }
        print ""
        row("geometric mean", "", "", "", "x native", "x TCG")
        if (markdown) row("---", "---:", "---:", "---:", "---:", "---:")
        for (i = 1; i <= kinds; i++)
            row(kind[i], "", "", "", ratio(mean("n " kind[i])), ratio(mean("t " kind[i])))
        row("all", "", "", "", ratio(mean("n")), ratio(mean("t")))
        print ""
        print "Slower than TCG:" (slower == "" ? " none" : slower)
        for (machine in outside)
            if (!cpu)
                printf "%s: its clock saw %.1f s in items, the host %.1f s around them\n", machine,
                    inside[machine], outside[machine]
        for (i = 1; i <= wrongs; i++) print "WRONG " wrong[i]
        exit wrongs > 0
    }' "$out/results"
}

mkdir -p $out || exit 1
build
items=$(sh "$tree/bench/run" list | awk -v only="$only" -v skip="$skip" '{ name = $1 "/" $2 } name ~ only && name !~ skip')
if [ -n "$list" ]; then
    echo "$items"
    exit
fi
[ -x "$(command -v "$calque")" ] || die "no emulator at $calque: build it first"
[ -z "$tcg" ] || command -v "$qemu" >/dev/null || need_packages qemu-system-x86 >&2 || exit 1

trap stop EXIT
trap 'exit 1' INT TERM HUP
machines="native calque ${tcg:+tcg}"
start native "$tree/bin/busybox" sh "$tree/bench/run" serve
# shellcheck disable=SC2086 # lists
start_guest calque "$calque" -accel "$accel" ${CALQUE_ARGS:-}
# shellcheck disable=SC2086
[ -z "$tcg" ] || start_guest tcg "$qemu" -accel tcg ${QEMU_ARGS:-}

: >"$out/results"
while read -r class item; do
    [ ! -t 2 ] || printf '\r\e[K%s ' "$class/$item" >&2
    for ((run = 0; run < runs; run++)); do
        for machine in $machines; do
            measure "$machine" "$class" "$item"
        done
    done
done <<<"$items"
[ ! -t 2 ] || printf '\r\e[K' >&2
echo "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) processors. Calque $(git describe --always \
    --dirty 2>/dev/null) with -accel $accel${CALQUE_ARGS:+ $CALQUE_ARGS}$([ -z "$tcg" ] || "$qemu" --version | sed -n \
    's/^QEMU emulator version \([^ ]*\).*/; QEMU \1 with -accel tcg/p')${tcg:+${QEMU_ARGS:+ $QEMU_ARGS}}."
echo "$([ -n "$cpu" ] && echo 'Processor time' || echo 'Elapsed time'), best of $runs, $percent% of the work."
echo
table
status=$?
trap - EXIT
stop
[ -z "$boot" ] || bench/boot.sh ${markdown:+--markdown} || status=1
exit $status
