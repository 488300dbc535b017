/* What reads files, command lines and what clients say. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/bus.h"
#include "cpu/decode.h"
#include "cpu/disasm.h"
#include "devices/fw_cfg.h"
#include "fuzz.h"
#include "host/disk.h"
#include "host/disk_qcow2.h"
#include "machine/loader.h"
#include "machine/machine.h"
#include "machine/monitor.h"
#include "machine/options.h"

/* ---- the decoder ---- */

/* A length is within the bytes, more bytes do not change it, and text exists for what it accepts. */
static void run_decoder(const u8 *data, size_t size)
{
    if (!size) return;
    enum code_size mode = data[0] % 3;
    for (size_t at = 1; at < size;) {
        u8 *bytes = memcpy(malloc(size - at), data + at, size - at); /* to see reads behind the end */
        struct insn i, again;
        char text[64];
        int n = decode(&i, bytes, size - at, mode);
        if (n > 15 || n > (int)(size - at)) abort();
        if (n > 0) {
            if (i.len != n || !insn_name(&i, text, sizeof(text))) abort();
            if (decode(&again, bytes, (size_t)n, mode) != n) abort();
            if (n > 1 && decode(&again, bytes, (size_t)n - 1, mode) != DECODE_MORE) abort();
        }
        free(bytes);
        at += n > 0 ? (size_t)n : 1;
    }
}

/* ---- files ---- */

static int file_of(const u8 *data, size_t size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    return fd;
}

/* The image, then what is done with it: read, write, discard, here and there. */
static void run_qcow2(const u8 *data, size_t size)
{
    size_t steps = MIN(size / 4, 32);
    struct fuzz_bytes in = {data + size - steps, data + size};
    const struct disk_config config = {.option = "-hda", .path = "fuzz", .readonly = size & 1, .discard = true};
    struct disk *d = disk_qcow2_open(file_of(data, size - steps), &config, 1);
    if (!d) return;
    u8 *buf = calloc(1, 0x10000);
    while (in.at < in.end && d->size) {
        u8 op = (u8)fuzz_take(&in, 1);
        u64 offset = (fuzz_take(&in, 2) << (op >> 4)) * BLOCK_SECTOR % d->size;
        size_t length = MIN(BLOCK_SECTOR << (op >> 2 & 7), d->size - offset);
        if ((op & 3) == 0 && !d->readonly) d->ops->write(d, offset, buf, length);
        else if ((op & 3) == 1 && !d->readonly && d->ops->discard) d->ops->discard(d, offset, length);
        else if ((op & 3) == 2) d->ops->flush(d);
        else d->ops->read(d, offset, buf, length);
    }
    free(buf);
    disk_close(d);
}

static void run_loader(const u8 *data, size_t size)
{
    struct bus *ports = bus_create("io", 0x10000), *memory = bus_create("memory", 1ull << 52);
    struct fw_cfg *f = fw_cfg_create(ports, memory);
    int fd = file_of(data, size);
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    struct loader l = {.fw_cfg = f, .low_ram = 64u << 20, .kernel_path = path, .initrd_path = path, .cmdline = "fuzz"};
    load_kernel(&l);
    close(fd);
    struct device *d = fw_cfg_device(f);
    d->cls->destroy(d);
    bus_destroy(ports);
    bus_destroy(memory);
}

/* ---- what users say ---- */

/* Arguments, each ending with a newline. */
static void run_options(const u8 *data, size_t size)
{
    char *text = memcpy(calloc(1, size + 1), data, size);
    char *argv[34] = {(char *)"calque"};
    int argc = 1;
    char *rest = text, *arg;
    while (argc < 33 && (arg = strsep(&rest, "\n"))) argv[argc++] = arg;
    struct options *o = calloc(1, sizeof(*o));
    options_parse(o, argc, argv);
    options_free(o);
    free(o);
    free(text);
}

static void say_nothing(struct chardev *c, const u8 *buf, size_t len)
{
    (void)c;
    (void)buf;
    (void)len;
}

/* A whole machine, which is never run, and a client who says what the input says. */
static void say(const u8 *data, size_t size, bool qmp)
{
    static const struct chardev_ops ops = {.write = say_nothing};
    static struct options options;
    static struct machine *m;
    if (!m) {
        fuzz_running = false;
        static const u8 disc[65536];
        char path[32];
        snprintf(path, sizeof(path), "/proc/self/fd/%d", file_of(disc, sizeof(disc)));
        char *argv[] = {(char *)"calque", (char *)"-m",      (char *)"2",    (char *)"-nodefaults", (char *)"-S",
                        (char *)"-nic",   (char *)"none",    (char *)"-cdrom", path,
                        (char *)"-display", (char *)"none",  (char *)"-accel", (char *)"interp", (char *)"-usb"};
        if (options_parse(&options, (int)ARRAY_LEN(argv), argv) || !(m = machine_create(&options))) exit(1);
        fuzz_running = true;
    }
    m->parked_count = options.cpus; /* nobody runs that would have to stop */
    struct chardev chr = {.ops = &ops, .up = true};
    m->chardevs[0] = &chr;
    const struct monitor_option option = {.qmp = qmp};
    struct monitor *mon = monitor_create(m, &option);
    static const char hello[] = "{\"execute\":\"qmp_capabilities\"}\n";
    if (qmp) chr.front->receive(chr.front_opaque, (const u8 *)hello, sizeof(hello) - 1);
    while (size) {
        size_t room = MIN(chr.front->can_receive(chr.front_opaque), size);
        if (!room) break;
        chr.front->receive(chr.front_opaque, data, room);
        data += room;
        size -= room;
    }
    chardev_set_up(&chr, false);
    monitor_destroy(mon);
    m->chardevs[0] = NULL;
}

static void run_qmp(const u8 *data, size_t size) { say(data, size, true); }
static void run_monitor(const u8 *data, size_t size) { say(data, size, false); }

const struct fuzz_target fuzz_parsers[] = {
    {"decoder", run_decoder, NULL},
    {"qcow2", run_qcow2, NULL},
    {"loader", run_loader, NULL},
    {"options", run_options, NULL},
    {"qmp", run_qmp, NULL},
    {"monitor", run_monitor, NULL},
    {NULL, NULL, NULL},
};
