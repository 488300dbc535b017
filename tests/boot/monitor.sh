#!/bin/bash
# tests/boot/monitor.sh: CALQUE=build/calque tests/boot/monitor.sh
# The monitor on the terminal that -nographic shares between it and the serial port.
CALQUE=${CALQUE:-build/calque}
command -v expect >/dev/null || { echo "expect is missing"; exit 77; }
export CALQUE
expect -f - <<'END'
set timeout 200
log_user 0
set passed 0
proc step {name keys pattern} {
    global passed
    send $keys
    expect {
        -re $pattern { incr passed }
        timeout { puts "not seen: $name"; exit 1 }
        eof { puts "ended before: $name"; exit 1 }
    }
}
spawn $env(CALQUE) -nographic -m 64 -nic none
step "serial port first" "" "SeaBIOS"
step "banner" "\001c" "monitor - type 'help'.*\\(qemu\\) "
step "status" "info status\r" "VM status: running\r+\n\\(qemu\\) "
step "completion" "info ver\t\r" "Calque \[0-9\]"
step "registers" "info registers\r" "RIP=\[0-9a-f\]{16}.*\\(qemu\\) "
step "code" "x/2i \$pc\r" "0x\[0-9a-f\]+:  .*\\(qemu\\) "
step "BIOS date" "xp/1xb 0xffff0\r" "00000000000ffff0: 0xea"
step "stop" "stop\r" "stop.*\\(qemu\\) "
step "stopped" "info status\r" "VM status: paused"
step "recalled" "\033\[A\r" "VM status: paused"
step "devices" "info pci\r" "Host bridge: PCI device 8086:1237.*\\(qemu\\) "
step "drives" "info block\r" "ide1-cd0: .not inserted."
step "memory map" "info mtree\r" "mc146818.*\\(qemu\\) "
step "reset" "system_reset\r" "\\(qemu\\) "
step "after it" "info status\r" "paused .prelaunch."
step "continue" "cont\r" "\\(qemu\\) "
step "back to the serial port" "\001c" "SeaBIOS"
step "keys" "\001h" "C-a c +switch"
step "monitor again" "\001c" "\\(qemu\\) "
send "quit\r"
expect eof
lassign [wait] pid spawn os status
if {$status != 0} { puts "exit status $status"; exit 1 }
incr passed
puts "$passed passed, 0 failed"
END
