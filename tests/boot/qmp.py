# The client of tests/boot/qmp.sh: qmp.py SOCKET SERIAL_LOG DIRECTORY
import json
import re
import socket
import struct
import sys
import time

path, log, directory = sys.argv[1:]


class Client:
    def __init__(self, negotiate=True):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(200)
        self.socket.connect(path)
        self.lines = self.socket.makefile("rb")
        self.events = []
        self.greeting = self.read()["QMP"]
        if negotiate:
            self("qmp_capabilities")

    def read(self):
        line = self.lines.readline()
        if not line:
            raise EOFError
        return json.loads(line)

    def __call__(self, command, fails=None, **arguments):
        arguments = {key.replace("_", "-"): value for key, value in arguments.items()}
        identity = {"n": time.time(), "command": command}
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments, "id": identity}).encode())
        while True:
            message = self.read()
            if "event" in message:
                self.events.append(message)
                continue
            assert message["id"] == identity, message
            if fails:
                assert re.search(fails, message["error"]["desc"]), message
                return message["error"]["class"]
            assert "return" in message, (command, message)
            return message["return"]

    def event(self, name, **data):
        while True:
            for i, event in enumerate(self.events):
                if event["event"] == name:
                    del self.events[: i + 1]
                    assert event["timestamp"]["seconds"] > 1e9
                    for key, value in data.items():
                        assert event["data"][key.replace("_", "-")] == value, event
                    return
            message = self.read()
            assert "event" in message, message
            self.events.append(message)


def serial():
    with open(log, "rb") as f:
        return f.read().decode("latin1")


def expect(pattern, seconds=300, start=0):
    deadline = time.time() + seconds
    while time.time() < deadline:
        found = re.search(pattern, serial()[start:])
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not seen on the serial port: {pattern}")


def uptime():
    start = len(serial())
    return float(expect(r"up ([0-9.]+)\r?\n", start=start)[1])


qmp = Client()
assert qmp.greeting["version"]["qemu"]["major"] >= 2
assert qmp("query-status") == {"status": "prelaunch", "singlestep": False, "running": False}
time.sleep(0.5)
assert serial() == "", "a guest that was not started says something"
qmp("cont")
qmp.event("RESUME")
expect("listening on event")
qmp("query-status")
changes = [event["data"]["offset"] for event in qmp.events if event["event"] == "RTC_CHANGE"]
assert changes and abs(time.time() + changes[-1] - 1000000000) < 600, qmp.events

# Lists name what there is.
assert qmp("query-name") == {"name": "tested"}
names = [command["name"] for command in qmp("query-commands")]
assert "screendump" in names and len(names) == len(set(names))
assert [cpu["cpu-index"] for cpu in qmp("query-cpus-fast")] == [0]
devices = qmp("query-pci")[0]["devices"]
assert {"device": 0x1237, "vendor": 0x8086}.items() <= devices[0]["id"].items()
assert "serial0" in [device["label"] for device in qmp("query-chardev")]

# Stopped is stopped: no output, and the guest's clock has not moved afterwards.
started = time.time()
before = uptime()
qmp("stop")
qmp.event("STOP")
stopped = time.time()
length = len(serial())
time.sleep(4)
assert len(serial()) == length, "a stopped guest goes on"
continued = time.time()
qmp("cont")
gone = uptime() - before
assert gone < stopped - started + time.time() - continued + 1, "guest time went on while the guest was stopped"

# A flood, half a command, nonsense, and a client that does not read: the next one does not notice.
qmp.socket.close()
qmp.lines.close()
for garbage in (b'{"execute": "query-st', b"\xff\x00}{]][", b"[" * 100000, b'{"execute": "query-commands"}' * 2000):
    client = Client()
    client.socket.settimeout(5)
    try:
        client.socket.sendall(garbage)
    except socket.timeout:
        pass
    client.socket.close()
    client.lines.close()
qmp = Client()
assert qmp("query-status")["running"]
uptime()

# The screen, and the keyboard.
for name in "hello_world":
    keys = ["shift", "minus"] if name == "_" else [name]
    qmp("send-key", keys=[{"type": "qcode", "data": key} for key in keys], hold_time=20)
qmp("input-send-event", events=[{"type": "key", "data": {"down": down, "key": {"type": "qcode", "data": "ret"}}}
                                for down in (True, False)])
expect("typed: hello_world")
qmp("screendump", filename=f"{directory}/screen.ppm")
qmp("screendump", filename=f"{directory}/screen.png", format="png")
with open(f"{directory}/screen.ppm", "rb") as f:
    ppm = f.read()
size = re.match(rb"P6\s(\d+) (\d+)\s255\s", ppm)
width, height = int(size[1]), int(size[2])
assert width >= 640 and len(ppm) == size.end() + 3 * width * height
assert sum(byte > 100 for byte in ppm[size.end():]) > 3000, "the screen is black"
with open(f"{directory}/screen.png", "rb") as f:
    assert struct.unpack(">8x8xII", f.read(24)) == (width, height)
assert qmp("screendump", fails="No such file", filename="/nosuch/file") == "GenericError"

# Discs.
(drive,) = [drive for drive in qmp("query-block") if drive["removable"]]
assert "inserted" not in drive and not drive["tray_open"]
name = drive["device"]
qmp("blockdev-change-medium", device=name, filename="guests/grub-rescue-cdrom.iso", format="raw")
qmp.event("DEVICE_TRAY_MOVED", device=name, tray_open=True)
qmp.event("DEVICE_TRAY_MOVED", device=name, tray_open=False)
(node,) = qmp("query-named-block-nodes")
assert node["ro"] and node["drv"] == "raw"
qmp("eject", device=name)
qmp.event("DEVICE_TRAY_MOVED", device=name, tray_open=True)
assert qmp("query-named-block-nodes") == []
assert qmp("eject", fails="not found", device="nothing") == "DeviceNotFound"

# The same by nodes, as libvirt does it.
iso = "guests/grub-rescue-cdrom.iso"
qmp("blockdev-add", driver="file", node_name="storage", filename=iso, auto_read_only=True)
qmp("blockdev-add", driver="raw", node_name="disc", read_only=True, file="storage", cache={"direct": False})
qmp("blockdev-add", fails="Duplicate", driver="raw", node_name="disc", file="storage")
qmp("blockdev-add", fails="No such file", driver="file", node_name="x", filename="/nosuch/file")
qmp("blockdev-add", fails="'driver' does not accept value 'nosuch'", driver="nosuch", node_name="x")
qmp("blockdev-add", fails="Could not open 'x'", driver="raw", node_name="x", file="y")
qmp("blockdev-del", fails="in use", node_name="storage")
qmp("blockdev-insert-medium", fails="not found", id=name, node_name="x")
qmp("blockdev-insert-medium", fails="in use", id=name, node_name="storage")
qmp("blockdev-insert-medium", id=name, node_name="disc")
qmp("blockdev-insert-medium", fails="already is a medium", id=name, node_name="disc")
(drive,) = [drive for drive in qmp("query-block") if drive["removable"]]
assert drive["inserted"]["node-name"] == "disc" and drive["inserted"]["file"] == iso and drive["tray_open"], drive
qmp("blockdev-close-tray", id=name)
qmp.event("DEVICE_TRAY_MOVED", device=name, tray_open=False)
qmp("blockdev-remove-medium", fails="not open", id=name)
qmp("blockdev-del", fails="in use", node_name="disc")
assert [node["node-name"] for node in qmp("query-named-block-nodes")] == ["disc"]
qmp("blockdev-open-tray", id=name)
qmp("blockdev-remove-medium", id=name)
assert [node["node-name"] for node in qmp("query-named-block-nodes")] == ["disc"]
qmp("blockdev-del", node_name="disc")
qmp("blockdev-insert-medium", id=name, node_name="storage")
qmp("eject", device=name)
qmp("blockdev-del", node_name="storage")
qmp("blockdev-del", fails="Failed to find", node_name="storage")
for number in range(40):
    qmp("blockdev-add", driver="raw", node_name=f"disc{number}", file={"driver": "file", "filename": iso}, read_only=True)
    if number % 2:
        qmp("blockdev-del", node_name=f"disc{number - 1}")
        qmp("blockdev-del", node_name=f"disc{number}")
qmp("blockdev-add", driver="raw", node_name="disc", file={"driver": "file", "filename": iso}, read_only=True)
qmp("blockdev-insert-medium", id=name, node_name="disc")  # and there it stays to the end
assert qmp("device_del", fails="not found", id="d") == "DeviceNotFound"
qmp("device_add", fails="not a valid device model", driver="nosuch")
qmp("device_add", fails="hotplugging: virtio-blk-pci", driver="virtio-blk-pci", drive="disc", id="d")

# People's commands for programs.
assert qmp("human-monitor-command", command_line="info status") == "VM status: running\r\n"
assert "RIP=" in qmp("human-monitor-command", command_line="info registers")
assert re.search(r"(?m)^ffff[0-9a-f]{12}-ffff", qmp("human-monitor-command", command_line="info mem"))

# The power button: EV_KEY (1), KEY_POWER (0x74), pressed (1), as the kernel's driver reports it.
qmp("system_powerdown")
qmp.event("POWERDOWN")
expect("button: 00000010  01 00 74 00 01 00 00 00")

# A reset starts over, the guest's power-off stops it, and then nothing but a reset helps.
start = len(serial())
qmp("system_reset")
qmp.event("RESET", guest=False, reason="host-qmp-system-reset")
expect("calque-guest: ready", start=start)
qmp("human-monitor-command", command_line="stop")
qmp("system_reset")
qmp.event("RESET")
assert qmp("query-status")["status"] == "prelaunch"
assert qmp("system_wakeup", fails="not in suspended state") == "GenericError"
qmp("quit")
qmp.event("SHUTDOWN", guest=False, reason="host-qmp-quit")
