#!/bin/bash
# tests/boot/terminal.sh: CALQUE=build/calque tests/boot/terminal.sh
# The user's terminal is raw while the machine runs and as before afterwards, whichever way it ends.
CALQUE=${CALQUE:-build/calque}
case $CALQUE in /*) ;; *) CALQUE=$PWD/$CALQUE ;; esac
command -v script >/dev/null || { echo "script(1) is missing"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
export CALQUE
passed=0
failed=0

check() { # check NAME CONDITION...
    local name=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "failed: $name"
    fi
}

# What runs on the terminal: its settings before and after.
cat >session <<'END'
stty -g >before
sh -c 'echo $$ >pid; exec "$CALQUE" -nographic' 2>stderr
echo $? >code
stty -g >after
END

cat >job_session <<'END'
set -m
stty -g >before
sh -c 'echo $$ >pid; exec "$CALQUE" -nographic' 2>stderr
stty -g >stopped
fg >/dev/null
stty -g >after
END
SHELL_COMMAND='sh session'

# until_true COMMAND...: wait, for a minute at most; what it was for tells if that was in vain.
until_true() {
    local deadline=$((SECONDS + 60))
    until "$@" || [ $SECONDS -ge $deadline ]; do
        sleep 0.1
    done
}

# run KEYS ACTION: start a session, wait for raw mode, type KEYS, do ACTION with $pid, wait for the end.
run() {
    rm -f before after code pid tty during stopped continued typescript
    mkfifo keys 2>/dev/null
    timeout 200 script -qefc "tty >tty; $SHELL_COMMAND" typescript <keys >/dev/null 2>&1 &
    local session=$!
    exec 9>keys
    until_true test -s pid -a -s tty
    until_true grep -aqs SeaBIOS typescript
    pid=$(cat pid)
    stty -g <"$(cat tty)" >during
    printf "$1" >&9
    eval "$2"
    wait $session
    exec 9>&-
}

run '\001x' :
check "Ctrl-A x: raw while it runs" test "$(cat before)" != "$(cat during)"
check "Ctrl-A x: restored" test "$(cat before)" = "$(cat after)"
check "Ctrl-A x: exit code 0" test "$(cat code)" = 0

run '\001h' 'until_true grep -aq "C-a x" typescript; kill -TERM $pid'
check "SIGTERM: restored" test "$(cat before)" = "$(cat after)"
check "SIGTERM: says so" grep -q 'terminating on signal 15' stderr
check "Ctrl-A h: help" grep -aq 'C-a x' typescript

run '' 'kill -SEGV $pid'
check "SIGSEGV: restored" test "$(cat before)" = "$(cat after)"
check "SIGSEGV: killed by it" test "$(cat code)" = 139

run '' 'kill -HUP $pid'
check "SIGHUP: restored" test "$(cat before)" = "$(cat after)"

# A stop needs a shell with job control, which takes the emulator to the foreground again.
SHELL_COMMAND='bash job_session'
raw_again() { [ -s stopped ] && stty -g <"$(cat tty)" >continued && cmp -s during continued; }
run '' 'kill -TSTP $pid; until_true raw_again; kill -TERM $pid'
check "SIGTSTP: raw before" test "$(cat before)" != "$(cat during)"
check "SIGTSTP: restored while stopped" test "$(cat before)" = "$(cat stopped)"
check "SIGCONT: raw again" test "$(cat during)" = "$(cat continued)"
check "after that: restored" test "$(cat before)" = "$(cat after)"

echo "$passed passed, $failed failed"
[ $failed = 0 ]
