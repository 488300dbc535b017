#!/bin/bash
# tests/boot/werror.sh: a disk image cannot grow any more while Linux writes to it: with werror=stop the machine stands still and
# says why, and goes on with nothing lost when there is room again; with werror=report the guest has an I/O error.
cd "$(dirname "$0")/../.." || exit 1
. scripts/lib.sh
. scripts/lib-guest.sh
command -v prlimit >/dev/null || { echo "prlimit is missing"; exit 77; }
scripts/get-guests linux-amd64 linux-cloud-amd64 initramfs-amd64 virtio-cloud-amd64 ata-amd64 || exit 1

work=$(mktemp -d) || exit 1
cat >"$work/write.sh" <<'END_GUEST'
for module in /root/*.ko; do insmod $module; done
until disk=$(ls /dev/[sv]da 2>/dev/null); do usleep 50000; done
echo "have $disk"
read -r go
dd if=/dev/urandom of=/tmp/data bs=1M count=12 2>/dev/null
dd if=/tmp/data of=$disk bs=1M conv=fsync && echo written
echo "sum $(md5sum </tmp/data)"
END_GUEST
cat >"$work/client.py" <<'END_CLIENT'
# client.py SOCKET PID: let the guest write, wait for the error, make room, go on.
import json, resource, socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(250)
s.connect(sys.argv[1])
lines = s.makefile("rb")
def ask(command):
    s.sendall(json.dumps({"execute": command}).encode())
    while True:
        answer = json.loads(lines.readline())
        if "return" in answer:
            return answer["return"]
        events.append(answer)
events = []
lines.readline()
ask("qmp_capabilities")
print(flush=True)
while not any(e["event"] == "STOP" for e in events):
    events.append(json.loads(lines.readline()))
(error,) = [e["data"] for e in events if e["event"] == "BLOCK_IO_ERROR"]
assert (error["operation"], error["action"], error["nospace"], error["reason"]) == ("write", "stop", False, "File too large"), error
assert ask("query-status")["status"] == "io-error"
assert "failed" in [drive.get("io-status") for drive in ask("query-block")]
ask("cont") # there is no room yet
events.clear()
while not any(e["event"] == "STOP" for e in events):
    events.append(json.loads(lines.readline()))
resource.prlimit(int(sys.argv[2]), resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
ask("cont")
END_CLIENT

# session NAME KERNEL MODULES ACTION DRIVE-OPTION...
session() {
    local name=$1 kernel=$2 modules=$3 action=$4 sum
    shift 4
    rm -f "$work/disk"
    truncate -s 64M "$work/disk"
    scripts/make-initramfs amd64 "$work/initramfs" "$modules"/*.ko "$work/write.sh" >/dev/null || exit 1
    guest_start "$name" -m 256 -nic none -kernel "$kernel" -initrd "$work/initramfs" -no-reboot "$@" \
        -qmp "unix:$work/qmp,server=on,wait=off" -append 'console=ttyS0 quiet calque.run="sh /root/write.sh" calque.poweroff'
    trap 'guest_kill; rm -rf "$work"' EXIT
    guest_expect 60 '^have /dev/[sv]da'
    prlimit --pid "$guest_pid" --fsize=4194304:unlimited
    if [ "$action" = stop ]; then
        # What the client says is what the guest waits for.
        python3 "$work/client.py" "$work/qmp" "$guest_pid" >&9 || guest_fail "the client has failed"
        guest_expect 60 '^written'
        guest_expect 60 '^sum [0-9a-f]+'
        sum=$(grep -ao 'sum [0-9a-f]*' "$guest_log")
        guest_end 30
        [ "sum $(head -c 12M "$work/disk" | md5sum | cut -d ' ' -f 1)" = "$sum" ] || guest_fail "the disk has something else"
        guest_refuse 'I/O error'
    else
        guest_send '\n'
        guest_expect 60 'I/O error|Input/output error'
        guest_end 60
        guest_refuse '^written'
    fi
}

session werror-virtio guests/vmlinuz-cloud-amd64 guests/virtio-cloud-amd64 stop -drive "file=$work/disk,format=raw,if=virtio,werror=stop"
session werror-ide guests/vmlinuz-amd64 guests/ata-amd64 stop -drive "file=$work/disk,format=raw,if=none,id=d" \
    -device ide-hd,drive=d,werror=stop
session werror-report guests/vmlinuz-cloud-amd64 guests/virtio-cloud-amd64 report -drive "file=$work/disk,format=raw,if=virtio"
guest_pass "stop on virtio and IDE, report"
