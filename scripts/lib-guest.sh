# Shell functions (bash) to boot a guest and talk to it on its serial port: sourced, not run.
#   . scripts/lib.sh; . scripts/lib-guest.sh
#
#   CALQUE       the emulator: build/calque unless set. Any program with QEMU's command line works
#   CALQUE_ARGS  more arguments for it, such as -accel or -cpu
#   PATIENCE     how many times longer than usual a guest may take (1)
#   GUEST_LOG    a directory to keep logs in; otherwise they go away, printed by guest_fail first
#
# A guest_expect that is not fulfilled ends the test: one line says what was missing, after the log's end.

calque=${CALQUE:-build/calque}
# shellcheck disable=SC2206 # a list
calque_args=(${CALQUE_ARGS:-})
guest_pid=
guest_dir=
guest_offset=0

# guest_start NAME ARGUMENT...: start the emulator with its serial port on our pipes.
guest_start() {
    guest_kill
    guest_name=$1
    shift
    [ -x "$(command -v "$calque")" ] || die "no emulator at $calque: build it first"
    if [ -n "${GUEST_LOG:-}" ]; then
        guest_dir=$GUEST_LOG/$guest_name
        mkdir -p "$guest_dir"
    else
        guest_dir=$(mktemp -d)
    fi
    trap guest_kill EXIT
    trap 'exit 1' INT TERM HUP
    guest_log=$guest_dir/serial
    rm -f "$guest_dir/input"
    mkfifo "$guest_dir/input" || exit 1
    : >"$guest_log"
    guest_offset=0
    guest_command="$calque ${calque_args[*]} -display none -serial stdio $*"
    guest_started=${EPOCHREALTIME/[.,]/}
    "$calque" "${calque_args[@]}" -display none -serial stdio "$@" \
        <"$guest_dir/input" >"$guest_log" 2>"$guest_dir/stderr" &
    guest_pid=$!
    exec 9>"$guest_dir/input" # kept open: the guest sees no end of input
}

# guest_text: what came since the last match, without carriage returns and terminal control sequences.
guest_text() {
    LC_ALL=C sed -E -e 's/\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>78cDM]|[\x00\r\x0e\x0f]//g' \
        -e '$s/\x1b[^A-Za-z]*$//' "$guest_log" | tail -c "+$((guest_offset + 1))"
}

guest_running() { kill -0 "$guest_pid" 2>/dev/null; }

# guest_seconds: wall clock since the guest was started.
guest_seconds() {
    local now=${EPOCHREALTIME/[.,]/}
    printf '%d.%01d' $(((now - guest_started) / 1000000)) $(((now - guest_started) / 100000 % 10))
}

# guest_expect SECONDS REGEX...: wait until new output matches each (extended) expression, in any order, none across
# lines; the text up to the last of these matches then counts as seen.
guest_expect() {
    local limit=$(($1 * ${PATIENCE:-1})) deadline pattern match ended seen=0
    shift
    deadline=$((SECONDS + limit))
    for pattern in "$@"; do
        while :; do
            ended=
            guest_running || ended=1
            match=$(guest_text | LC_ALL=C grep -aobE -m 1 -e "$pattern" | head -n 1)
            [ -z "$match" ] || break
            [ -z "$ended" ] || guest_fail "ended before: $pattern"
            [ $SECONDS -lt $deadline ] || guest_fail "not seen in $limit s: $pattern"
            sleep 0.1
        done
        match=$((${match%%:*} + $(printf %s "${match#*:}" | wc -c)))
        [ $match -le $seen ] || seen=$match
    done
    guest_offset=$((guest_offset + seen))
}

# guest_send TEXT: type it; escapes as in printf's %b.
guest_send() {
    printf '%b' "$1" >&9
}

# guest_insist SECONDS KEYS REGEX: type the keys again and again until that is seen: for who looks at the keyboard for a moment only.
guest_insist() {
    local deadline=$((SECONDS + $1 * ${PATIENCE:-1}))
    while guest_running && ! guest_text | LC_ALL=C grep -aqE -e "$3" && [ $SECONDS -lt $deadline ]; do
        guest_send "$2"
        sleep 0.2
    done
    guest_expect 1 "$3"
}

# guest_end SECONDS [STATUS]: the emulator must end by itself, with that exit status (0). Its log stays for guest_refuse.
guest_end() {
    local deadline=$((SECONDS + $1 * ${PATIENCE:-1})) status
    while guest_running; do
        [ $SECONDS -lt $deadline ] || guest_fail "still running $1 s after it should have ended"
        sleep 0.1
    done
    wait "$guest_pid"
    status=$?
    [ $status = "${2:-0}" ] || guest_fail "exit status $status, not ${2:-0}"
    guest_pid=
}

# guest_type TEXT: the same with pauses, for a guest that polls its serial port.
guest_type() {
    local text character
    printf -v text '%b' "$1"
    while [ -n "$text" ]; do
        character=${text:0:1}
        text=${text:1}
        printf %s "$character" >&9
        sleep 0.05
    done
}

guest_fail() {
    echo "$guest_command"
    tail -c 3000 "$guest_log" | tr -d '\000\r' | tail -n 40
    tail -n 20 "$guest_dir/stderr"
    echo "$guest_name: $1"
    exit 1
}

guest_clean() {
    exec 9>&-
    [ -n "${GUEST_LOG:-}" ] || rm -rf "$guest_dir"
}

# Stop the guest where it is; also what happens when a test ends early.
guest_kill() {
    [ -n "$guest_dir" ] || return 0
    if [ -n "$guest_pid" ]; then
        kill "$guest_pid" 2>/dev/null
        wait "$guest_pid" 2>/dev/null
        guest_pid=
    fi
    guest_clean
    guest_dir=
}

# guest_pass [TEXT]: the test's one line.
guest_pass() {
    echo "${1:-$guest_name: passed in $(guest_seconds) s}"
}

# guest_refuse REGEX...: no line of all the output may match any of these.
guest_refuse() {
    local pattern line
    for pattern in "$@"; do
        line=$(tr -d '\000\r' <"$guest_log" | grep -aE -m 1 -e "$pattern")
        [ -z "$line" ] || guest_fail "unwanted: $line"
    done
}

# What a Linux kernel prints when it finds the machine or itself at fault.
guest_linux_complaints='BUG:|Oops|WARNING:|Call Trace|Kernel panic|general protection|segfault at [0-9a-f]{2}|'
guest_linux_complaints+='alg: .*(failed|wrong)|soft lockup|rcu_.* stall|nobody cared|\[Firmware Bug\]|'
guest_linux_complaints+='Marking TSC unstable|spurious|Unknown NMI|ACPI (BIOS )?Error|APIC error|unchecked MSR'

# guest_linux NAME KERNEL INITRAMFS SECONDS ARGUMENT...: boot a kernel to its first process within that time, run
# commands there and power off. The kernel may complain of nothing. Prints the test's line.
guest_linux() {
    local name=$1 kernel=$2 initramfs=$3 limit=$4 ready
    # shellcheck disable=SC2016 # for the guest's shell; no double quotes, the kernel's parser ends at them
    local commands='cat /proc/interrupts; sleep 1; i=0; while [ $i -lt 1000 ]; do i=$((i+1)); done; echo counted $i;
        head -c 200000 /bin/busybox >/tmp/a; gzip </tmp/a | gunzip | cmp - /tmp/a && echo same;
        { echo a; echo b; } | md5sum; echo 1234567 7 / p | dc; awk '"'BEGIN{print 355/113, 2/3}'"''
    shift 4
    guest_start "$name" -m 256 -kernel "$kernel" -initrd "$initramfs" -no-reboot "$@" \
        -append "console=ttyS0 calque.run=\"$(tr -s ' \n' ' ' <<<"$commands")\" calque.poweroff"
    guest_expect "$limit" 'calque-guest: ready Linux calque 6'
    ready=$(guest_seconds)
    guest_expect 60 '^counted 1000' '^same' dd8c6a395b5dd36c56d23275028f526c '^3.14159 0.666667' 'calque-guest: status 0'
    guest_end 30
    guest_refuse "$guest_linux_complaints"
    guest_pass "first process after $ready s, off after $(guest_seconds) s"
}

# free_port: a port of the host's loopback that nobody listens at, below those that the host chooses from by itself.
free_port() {
    local port=$((10000 + RANDOM % 20000))
    while (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        port=$((10000 + RANDOM % 20000))
    done
    echo "$port"
}
