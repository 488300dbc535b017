#!/bin/bash
# tests/boot/smp.sh [SECONDS [PROCESSORS...]]: processors that share memory: code that another one writes, locked instructions, the
# order of loads and stores, page tables that change under running threads (smp.c; a second for each of 2 and 4 processors), and
# a kernel that patches its own code while all of them run it. `smp.sh 60 2` is a thorough run.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
scripts/get-guests linux-cloud-amd64 initramfs-amd64 || exit 1
need_packages gcc cpio || exit 1
seconds=${1:-1}
shift
[ $# -gt 0 ] || set -- 2 4
dir=$(mktemp -d)
mkdir "$dir/bin"
gcc -O2 -static -pthread -o "$dir/bin/smp" tests/boot/smp.c || exit 1
# Static keys switched on and off, and every function of the kernel traced or not, under load.
cat >"$dir/bin/patching" <<'END'
mount -t tracefs tracefs /sys/kernel/tracing
cd /sys/kernel/tracing
smp $(($1 * 3)) atomics tables wakeups >/tmp/load &
end=$(($(cut -d. -f1 /proc/uptime) + $1 * 2))
n=0
while [ "$(cut -d. -f1 /proc/uptime)" -lt $end ]; do
    for v in 1 0; do
        for key in sched_schedstats bpf_stats_enabled timer_migration; do echo $v >/proc/sys/kernel/$key; done
        echo $v >events/enable
    done
    [ ! -e set_ftrace_filter ] || { echo function >current_tracer; echo nop >current_tracer; }
    n=$((n + 1))
done
wait
grep WRONG /tmp/load || echo patched $n times, $(grep -c ok /tmp/load) ok
END
chmod +x "$dir/bin/patching"
(cat guests/initramfs-amd64.cpio; cd "$dir" && find bin | cpio -o -H newc --quiet) >"$dir/initramfs" || exit 1
for processors; do
    guest_start "smp-$processors" -accel bt -smp "$processors" -m 512 -kernel guests/vmlinuz-cloud-amd64 -initrd "$dir/initramfs" \
        -no-reboot -append "console=ttyS0 quiet calque.run=\"smp $seconds; patching $seconds\" calque.poweroff"
    guest_expect 120 'calque-guest: ready Linux'
    guest_expect $((seconds * 30 + 240)) '^smp [0-9]+ passed, 0 failed'
    guest_expect $((seconds * 30 + 240)) '^patched [0-9]+ times, 5 ok'
    guest_expect 30 'calque-guest: status 0'
    guest_end 30
    guest_refuse "$guest_linux_complaints"
    guest_pass "smp: $processors processors in $(guest_seconds) s"
done
rm -rf "$dir"
