/* The command line: QEMU's options with QEMU's meaning, for what there is; all others are refused by name.
 *
 * Options that refer to character devices are looked at after all others, so that -chardev and -nographic may
 * come in any order. */
#define _GNU_SOURCE
#include "machine/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "core/log.h"
#include "machine/option_list.h"
#include "machine/version.h"

#define DEFAULT_RAM (128ull << 20)
#define MIN_RAM     (1ull << 20)
#define MAX_RAM     (1ull << 39) /* half of the physical address space of 40 bits */
#define MAX_CPUS    64

/* Texts of options that wait for the end of the command line. */
struct deferred {
    const char *chardev[OPTIONS_CHARDEVS];
    int chardev_count;
    const char *serial[OPTIONS_SERIALS];
    int serial_count;
    const char *debugcon, *parallel;
    const char *monitor[OPTIONS_MONITORS]; /* -monitor, -qmp, -qmp-pretty and -mon */
    const char *monitor_option[OPTIONS_MONITORS]; /* which of them */
    int monitor_count;
    const char *device[OPTIONS_DEVICES];
    int device_count;
    const char *netdev[OPTIONS_NETS];
    int netdev_count;
    const char *net[OPTIONS_NETS];
    int net_count;
    const char *object[OPTIONS_NETS];
    int object_count;
    bool accel_said;   /* an -accel was given */
    bool accel_found;  /* one of them exists here */
    char accel_name[32]; /* the last that does not */
};

struct context {
    struct options *o;  /* what we fill in */
    struct deferred d;  /* what waits */
};

typedef int option_handler(struct context *c, const char *option, const char *arg);

static int bad(const char *option, const char *arg, const char *why)
{
    fprintf(stderr, "calque: %s %s: %s\n", option, arg, why);
    return -EINVAL;
}

static int set_string(char **to, const char *arg)
{
    free(*to);
    *to = strdup(arg);
    return *to ? 0 : -ENOMEM;
}

/* ---- memory and processors ---- */

static int opt_m(struct context *c, const char *option, const char *arg)
{
    struct option_list l;
    int err = option_list_parse(&l, option, arg, "size");
    if (err) return err;
    const char *size = option_list_get(&l, "size");
    u64 bytes = 0;
    if (!size || !option_size(size, 1 << 20, &bytes))
        err = bad(option, arg, "not a memory size");
    else if (bytes < MIN_RAM)
        err = bad(option, arg, "too little memory: a PC needs 1 MiB or more");
    else if (bytes > MAX_RAM)
        err = bad(option, arg, "too much memory: the limit is 512 GiB");
    if (!err) err = option_list_check(&l);
    c->o->ram_size = (bytes + 8191) & ~8191ull;
    option_list_free(&l);
    return err;
}

static int opt_smp(struct context *c, const char *option, const char *arg)
{
    struct option_list l;
    u64 cpus = 0, maxcpus = 0, sockets = 0, dies = 1, clusters = 1, cores = 0, threads = 0;
    int err = option_list_parse(&l, option, arg, "cpus");
    if (err) return err;
    if (!err) err = option_list_number(&l, "cpus", 65535, &cpus);
    if (!err) err = option_list_number(&l, "maxcpus", 65535, &maxcpus);
    if (!err) err = option_list_number(&l, "sockets", 65535, &sockets);
    if (!err) err = option_list_number(&l, "dies", 65535, &dies);
    if (!err) err = option_list_number(&l, "clusters", 65535, &clusters);
    if (!err) err = option_list_number(&l, "cores", 65535, &cores);
    if (!err) err = option_list_number(&l, "threads", 65535, &threads);
    if (!err) err = option_list_check(&l);
    static const char *const keys[] = {"cpus", "maxcpus", "sockets", "cores", "threads"};
    for (size_t i = 0; i < ARRAY_LEN(keys) && !err; i++) {
        const char *value = option_list_get(&l, keys[i]);
        u64 n;
        if (value && (!option_number(value, 65535, &n) || n == 0)) err = bad(option, arg, "counts start at 1");
    }
    option_list_free(&l);
    if (err) return err;
    if (dies != 1 || clusters != 1) return bad(option, arg, "dies and clusters not supported");

    /* What is not given follows from the rest: sockets first, as for machine types from version 6.2 on it is
     * the number of cores that is computed. */
    u64 total = maxcpus ? maxcpus : cpus;
    if (!total) {
        total = (sockets ? sockets : 1) * (cores ? cores : 1) * (threads ? threads : 1);
        sockets = sockets ? sockets : 1;
        cores = cores ? cores : 1;
        threads = threads ? threads : 1;
    }
    if (!threads && sockets && cores) threads = total / (sockets * cores);
    if (!threads) threads = 1;
    if (!sockets && cores) sockets = total / (cores * threads);
    if (!sockets) sockets = 1;
    if (!cores) cores = total / (sockets * threads);
    if (!cpus) cpus = total;
    if (sockets * cores * threads != total)
        return bad(option, arg, "sockets * cores * threads is not the number of CPUs");
    if (total != cpus) return bad(option, arg, "CPU hotplug (maxcpus above cpus) not supported");
    if (cpus > MAX_CPUS) return bad(option, arg, "the limit is 64 CPUs");
    c->o->cpus = (unsigned)cpus;
    c->o->cores = (unsigned)cores;
    c->o->threads = (unsigned)threads;
    return 0;
}

static int opt_cpu(struct context *c, const char *option, const char *arg)
{
    (void)option;
    if (!strcmp(arg, "help") || !strcmp(arg, "?")) {
        cpu_model_list(stdout);
        return 1;
    }
    return set_string(&c->o->cpu, arg);
}

/* One accelerator of a -machine accel=a:b list, or of several -accel options. */
static int accelerator(struct context *c, const char *name, size_t len)
{
    c->d.accel_said = true;
    /* tcg: QEMU's name for its own translator. */
    static const char *const software[] = {"interp", "bt", "tcg", "auto"};
    size_t i = 0;
    while (i < ARRAY_LEN(software) && (len != strlen(software[i]) || strncmp(name, software[i], len))) i++;
    if (i < ARRAY_LEN(software)) {
        if (!c->d.accel_found) c->o->interpret = i == 0; /* the first that exists decides */
        c->d.accel_found = true;
    } else {
        snprintf(c->d.accel_name, sizeof(c->d.accel_name), "%.*s", (int)len, name);
    }
    return 0;
}

static int opt_accel(struct context *c, const char *option, const char *arg)
{
    struct option_list l;
    int err = option_list_parse(&l, option, arg, "accel");
    if (err) return err;
    const char *name = option_list_get(&l, "accel");
    if (name && (!strcmp(name, "help") || !strcmp(name, "?"))) {
        printf("Accelerators supported:\nbt (the binary translator; also called auto and tcg)\ninterp\n");
        err = 1;
    } else if (!name || !*name) {
        err = bad(option, arg, "no accelerator named");
    } else {
        err = accelerator(c, name, strlen(name));
    }
    if (!err) err = option_list_check(&l);
    option_list_free(&l);
    return err;
}

static int check_accelerators(const struct context *c)
{
    if (!c->d.accel_said || c->d.accel_found) return 0;
    const char *name = c->d.accel_name;
    fprintf(stderr, "calque: -accel %s: %s\n", name, !strcmp(name, "kvm") ? "not available in this build" : "no such accelerator");
    return -EINVAL;
}

static int opt_enable_kvm(struct context *c, const char *option, const char *arg)
{
    (void)c;
    (void)arg;
    fprintf(stderr, "calque: %s: kvm is not available in this build\n", option);
    return -EINVAL;
}

static int opt_machine(struct context *c, const char *option, const char *arg)
{
    struct option_list l;
    int err = option_list_parse(&l, option, arg, "type");
    if (err) return err;

    const char *type = option_list_get(&l, "type");
    if (type && (!strcmp(type, "help") || !strcmp(type, "?"))) {
        printf("Supported machines are:\nnone                 a PC that never starts, to be asked questions\n"
               "pc                   i440FX + PIIX3 PC (default)\n");
        option_list_free(&l);
        return 1;
    }
    if (type && !strcmp(type, "none"))
        c->o->no_machine = c->o->start_stopped = c->o->nodefaults = true;
    else if (type && strcmp(type, "pc") && strcmp(type, "i440fx") && strncmp(type, "pc-i440fx-", 10))
        err = bad(option, type, "machine type not supported (there is pc)");

    const char *accel = option_list_get(&l, "accel");
    while (!err && accel && *accel) {
        size_t len = strcspn(accel, ":");
        err = accelerator(c, accel, len);
        accel += len;
        if (*accel) accel++;
    }
    if (!err) err = option_list_bool(&l, "hpet", &c->o->hpet);
    if (!err) err = option_list_bool(&l, "usb", &c->o->usb);
    const char *acpi = option_list_get(&l, "acpi");
    if (!err && acpi && strcmp(acpi, "auto")) err = option_list_bool(&l, "acpi", &c->o->acpi);
    static const char *const texts[] = {"kernel", "initrd", "append", "firmware", "pcspk-audiodev"};
    char **const places[] = {&c->o->kernel, &c->o->initrd, &c->o->append, &c->o->bios,
                             &c->o->pcspk_audiodev};
    for (size_t i = 0; i < ARRAY_LEN(texts) && !err; i++) {
        const char *value = option_list_get(&l, texts[i]);
        if (value) err = set_string(places[i], value);
    }
    /* These may be given, as long as they ask for what is the case. */
    static const struct {
        const char *key, *values[4];
    } fixed[] = {
        {"smm", {"off", "auto"}},
        {"vmport", {"off", "auto"}},
        {"smbus", {"on"}},
        {"pit", {"on"}},
        {"sata", {"off", "on"}},
        {"i8042", {"on"}},
        {"nvdimm", {"off"}},
        {"hmat", {"off"}},
        {"graphics", {"on", "off"}},
        {"dump-guest-core", {"on", "off"}},
        {"mem-merge", {"on", "off"}},
        {"kernel_irqchip", {"on", "off", "split"}},
        {"kernel-irqchip", {"on", "off", "split"}},
    };
    for (size_t i = 0; i < ARRAY_LEN(fixed) && !err; i++) {
        const char *value = option_list_get(&l, fixed[i].key);
        bool fits = !value;
        for (size_t k = 0; k < ARRAY_LEN(fixed[i].values) && fixed[i].values[k] && !fits; k++)
            fits = !strcmp(value, fixed[i].values[k]);
        if (fits) continue;
        fprintf(stderr, "calque: %s: %s=%s not supported\n", option, fixed[i].key, value);
        err = -EINVAL;
    }
    if (!err) err = option_list_check(&l);
    option_list_free(&l);
    return err;
}

/* ---- what to boot ---- */

static int opt_kernel(struct context *c, const char *option, const char *arg)
{
    (void)option;
    return set_string(&c->o->kernel, arg);
}

static int opt_initrd(struct context *c, const char *option, const char *arg)
{
    (void)option;
    return set_string(&c->o->initrd, arg);
}

static int opt_append(struct context *c, const char *option, const char *arg)
{
    (void)option;
    return set_string(&c->o->append, arg);
}

static int opt_bios(struct context *c, const char *option, const char *arg)
{
    (void)option;
    return set_string(&c->o->bios, arg);
}

static int opt_path(struct context *c, const char *option, const char *arg)
{
    if (c->o->path_count == OPTIONS_PATHS) return bad(option, arg, "too many directories");
    return set_string(&c->o->paths[c->o->path_count++], arg);
}

static int opt_option_rom(struct context *c, const char *option, const char *arg)
{
    struct option_list l;
    int err = option_list_parse(&l, option, arg, "romfile");
    if (err) return err;
    const char *file = option_list_get(&l, "romfile");
    if (!file || !*file)
        err = bad(option, arg, "no file named");
    else if (c->o->option_rom_count == OPTIONS_FILES)
        err = bad(option, arg, "too many ROMs");
    else
        err = set_string(&c->o->option_roms[c->o->option_rom_count++], file);
    if (!err) err = option_list_check(&l);
    option_list_free(&l);
    return err;
}

static int opt_fw_cfg(struct context *c, const char *option, const char *arg)
{
    struct option_list l;
    int err = option_list_parse(&l, option, arg, "name");
    if (err) return err;
    const char *name = option_list_get(&l, "name");
    const char *file = option_list_get(&l, "file");
    const char *string = option_list_get(&l, "string");
    if (!name || !*name)
        err = bad(option, arg, "no item named");
    else if (strlen(name) > 55)
        err = bad(option, arg, "the item's name has more than 55 characters");
    else if (!file == !string)
        err = bad(option, arg, "give either file or string");
    else if (c->o->fw_cfg_count == OPTIONS_FILES)
        err = bad(option, arg, "too many items");
    if (!err) err = option_list_check(&l);
    if (!err) {
        struct fw_cfg_option *f = &c->o->fw_cfg[c->o->fw_cfg_count++];
        f->name = strdup(name);
        f->file = file ? strdup(file) : NULL;
        f->string = string ? strdup(string) : NULL;
    }
    option_list_free(&l);
    return err;
}

static int opt_boot(struct context *c, const char *option, const char *arg)
{
    struct option_list l;
    int err = option_list_parse(&l, option, arg, "order");
    if (err) return err;
    const char *order = option_list_get(&l, "order");
    const char *once = option_list_get(&l, "once");
    if (once) order = once; /* there is no second boot order to go back to */
    if (order) {
        u32 seen = 0;
        for (const char *p = order; *p && !err; p++) {
            u32 bit = *p >= 'a' && *p <= 'z' ? 1u << (*p - 'a') : 0;
            if (!strchr("abcdnop", *p) || (seen & bit)) err = bad(option, arg, "invalid boot order");
            seen |= bit;
        }
        /* The CMOS has room for three. */
        if (!err) snprintf(c->o->boot_order, sizeof(c->o->boot_order), "%.3s", order);
    }
    if (!err) err = option_list_bool(&l, "menu", &c->o->boot_menu);
    if (!err) err = option_list_bool(&l, "strict", &c->o->boot_strict);
    if (!err) err = option_list_number(&l, "splash-time", 65535, &c->o->splash_time);
    if (!err) err = option_list_number(&l, "reboot-timeout", 65535, &c->o->reboot_timeout);
    if (!err) err = option_list_check(&l);
    option_list_free(&l);
    return err;
}

/* ---- character devices, collected ---- */

static int opt_serial(struct context *c, const char *option, const char *arg)
{
    if (c->d.serial_count == OPTIONS_SERIALS) return bad(option, arg, "there are four serial ports");
    c->d.serial[c->d.serial_count++] = arg;
    return 0;
}

static int opt_chardev(struct context *c, const char *option, const char *arg)
{
    if (!strcmp(arg, "help") || !strcmp(arg, "?")) {
        printf("Available chardev backend types:\n  file\n  null\n  pipe\n  pty\n  socket\n  stdio\n");
        return 1;
    }
    if (c->d.chardev_count == OPTIONS_CHARDEVS) return bad(option, arg, "too many character devices");
    c->d.chardev[c->d.chardev_count++] = arg;
    return 0;
}

static int opt_parallel(struct context *c, const char *option, const char *arg)
{
    if (c->d.parallel) return bad(option, arg, "there is one parallel port");
    c->d.parallel = arg;
    return 0;
}

static int opt_debugcon(struct context *c, const char *option, const char *arg)
{
    if (c->d.debugcon) return bad(option, arg, "given twice");
    c->d.debugcon = arg;
    return 0;
}

static int opt_monitor(struct context *c, const char *option, const char *arg)
{
    if (c->d.monitor_count == OPTIONS_MONITORS) return bad(option, arg, "too many monitors");
    c->d.monitor_option[c->d.monitor_count] = option + 1 + (option[1] == '-');
    c->d.monitor[c->d.monitor_count++] = arg;
    c->o->monitor_said = true;
    return 0;
}

static int opt_action(struct context *c, const char *option, const char *arg)
{
    (void)option;
    return options_action(c->o, arg);
}

/* Driver, bus. */
static const char *const devices[][2] = {
    {"AC97", "PCI"}, {"e1000", "PCI"}, {"rtl8139", "PCI"}, {"ne2k_pci", "PCI"}, {"piix3-usb-uhci", "PCI"}, {"usb-kbd", "usb-bus"},
    {"usb-mouse", "usb-bus"}, {"usb-tablet", "usb-bus"}, {"floppy", "floppy-bus"}, {"ide-cd", "IDE"}, {"ide-hd", "IDE"},
    {"isa-debug-exit", "ISA"}, {"isa-debugcon", "ISA"}, {"isa-parallel", "ISA"}, {"isa-serial", "ISA"}, {"pc-testdev", "ISA"},
    {"pci-testdev", "PCI"}, {"VGA", "PCI"}, {"virtio-blk-pci", "PCI"}, {"virtio-keyboard-pci", "PCI"},
    {"virtio-mouse-pci", "PCI"}, {"virtio-net-pci", "PCI"}, {"virtio-rng-pci", "PCI"}, {"virtio-tablet-pci", "PCI"},
};

const char *options_device_name(size_t i) { return i < ARRAY_LEN(devices) ? devices[i][0] : NULL; }

static int opt_device(struct context *c, const char *option, const char *arg)
{
    if (!strcmp(arg, "help") || !strcmp(arg, "?")) {
        /* In the form that scripts look for. */
        for (size_t i = 0; i < ARRAY_LEN(devices); i++) printf("name \"%s\", bus %s\n", devices[i][0], devices[i][1]);
        return 1;
    }
    if (c->d.device_count == OPTIONS_DEVICES) return bad(option, arg, "too many devices");
    c->d.device[c->d.device_count++] = arg;
    return 0;
}

static int opt_netdev(struct context *c, const char *option, const char *arg)
{
    if (!strcmp(arg, "help") || !strcmp(arg, "?")) return options_netdev(c->o, arg);
    if (c->d.netdev_count == OPTIONS_NETS) return bad(option, arg, "too many networks");
    c->d.netdev[c->d.netdev_count++] = arg;
    return 0;
}

static int opt_nic(struct context *c, const char *option, const char *arg)
{
    (void)option;
    return options_nic(c->o, arg);
}

static int opt_net(struct context *c, const char *option, const char *arg)
{
    if (c->d.net_count == OPTIONS_NETS) return bad(option, arg, "too many networks");
    c->d.net[c->d.net_count++] = arg;
    return 0;
}

static int opt_object(struct context *c, const char *option, const char *arg)
{
    if (c->d.object_count == OPTIONS_NETS) return bad(option, arg, "too many objects");
    c->d.object[c->d.object_count++] = arg;
    return 0;
}

/* ---- disks ---- */

static int opt_disk(struct context *c, const char *option, const char *arg)
{
    return options_drive_file(c->o, option, arg);
}

static int opt_drive(struct context *c, const char *option, const char *arg)
{
    (void)option;
    return options_drive(c->o, arg);
}

static int opt_blockdev(struct context *c, const char *option, const char *arg)
{
    (void)option;
    return options_blockdev(c->o, arg);
}

/* ---- sound ---- */

static int opt_audiodev(struct context *c, const char *option, const char *arg)
{
    (void)option;
    return options_audiodev(c->o, arg);
}

static int opt_audio(struct context *c, const char *option, const char *arg)
{
    (void)option;
    return options_audio(c->o, arg);
}

/* ---- display ---- */

static int opt_nographic(struct context *c, const char *option, const char *arg)
{
    (void)option;
    (void)arg;
    c->o->nographic = true;
    return 0;
}

static int opt_vga(struct context *c, const char *option, const char *arg)
{
    if (!strcmp(arg, "help") || !strcmp(arg, "?")) {
        printf("none                 no graphic card\nstd                  standard VGA (default)\n");
        return 1;
    }
    if (!strcmp(arg, "std"))
        c->o->vga = true;
    else if (!strcmp(arg, "none"))
        c->o->vga = false;
    else
        return bad(option, arg, "not supported (there are std and none)");
    return 0;
}

static int opt_display(struct context *c, const char *option, const char *arg)
{
    (void)option;
    return options_display(c->o, arg);
}

static int opt_vnc(struct context *c, const char *option, const char *arg)
{
    c->o->display_said = true;
    return options_vnc(c->o, option, arg);
}

static int opt_usbdevice(struct context *c, const char *option, const char *arg)
{
    return options_usb(c->o, option, arg);
}

static int opt_k(struct context *c, const char *option, const char *arg)
{
    (void)c;
    (void)option;
    return options_keyboard(arg);
}

/* ---- the rest ---- */

/* "2006-06-17" or "2006-06-17T16:01:21", UTC. */
static bool parse_date(const char *text, s64 *seconds)
{
    struct tm tm = {0};
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    if (!end || *end) {
        memset(&tm, 0, sizeof(tm));
        end = strptime(text, "%Y-%m-%d", &tm);
    }
    if (!end || *end) return false;
    *seconds = timegm(&tm);
    return true;
}

static int opt_rtc(struct context *c, const char *option, const char *arg)
{
    struct option_list l;
    int err = option_list_parse(&l, option, arg, NULL);
    if (err) return err;
    const char *base = option_list_get(&l, "base");
    const char *clock = option_list_get(&l, "clock");
    const char *fix = option_list_get(&l, "driftfix");
    if (base) {
        c->o->rtc_localtime = !strcmp(base, "localtime");
        c->o->rtc_fixed = false;
        if (!c->o->rtc_localtime && strcmp(base, "utc")) {
            c->o->rtc_fixed = parse_date(base, &c->o->rtc_base);
            if (!c->o->rtc_fixed) err = bad(option, arg, "invalid date");
        }
    }
    if (clock && !strcmp(clock, "vm"))
        c->o->rtc_clock = CLOCK_WALL_GUEST;
    else if (clock && !strcmp(clock, "rt"))
        c->o->rtc_clock = CLOCK_WALL_MONOTONIC;
    else if (clock && !strcmp(clock, "host"))
        c->o->rtc_clock = CLOCK_WALL_HOST;
    else if (!err && clock)
        err = bad(option, arg, "invalid clock");
    if (!err && fix) {
        c->o->rtc_slew = !strcmp(fix, "slew");
        if (!c->o->rtc_slew && strcmp(fix, "none")) err = bad(option, arg, "invalid driftfix");
    }
    if (!err) err = option_list_check(&l);
    option_list_free(&l);
    return err;
}

static int opt_uuid(struct context *c, const char *option, const char *arg)
{
    const char *p = arg;
    for (int i = 0; i < 16; i++) {
        if ((i == 4 || i == 6 || i == 8 || i == 10) && *p++ != '-') return bad(option, arg, "not a UUID");
        if (!isxdigit((unsigned char)p[0]) || !isxdigit((unsigned char)p[1])) return bad(option, arg, "not a UUID");
        char digits[3] = {p[0], p[1], 0};
        c->o->uuid[i] = (u8)strtoul(digits, NULL, 16);
        p += 2;
    }
    if (*p) return bad(option, arg, "not a UUID");
    c->o->has_uuid = true;
    return 0;
}

static int opt_name(struct context *c, const char *option, const char *arg)
{
    struct option_list l;
    int err = option_list_parse(&l, option, arg, "guest");
    if (err) return err;
    const char *guest = option_list_get(&l, "guest");
    if (guest) err = set_string(&c->o->name, guest);
    option_list_get(&l, "process");
    option_list_get(&l, "debug-threads");
    if (!err) err = option_list_check(&l);
    option_list_free(&l);
    return err;
}

static int opt_log(struct context *c, const char *option, const char *arg)
{
    u32 mask;
    const char *where = arg;
    int err = log_parse(arg, &mask, &where);
    if (err > 0) return 1;
    if (err < 0) {
        fprintf(stderr, "calque: %s %s: unknown log item '%.*s'\n", option, arg, (int)strcspn(where, ","), where);
        return -EINVAL;
    }
    return set_string(&c->o->log_items, arg);
}

static int opt_log_file(struct context *c, const char *option, const char *arg)
{
    (void)option;
    return set_string(&c->o->log_file, arg);
}

static int opt_pidfile(struct context *c, const char *option, const char *arg)
{
    (void)option;
    return set_string(&c->o->pidfile, arg);
}

static int opt_flag(struct context *c, const char *option, const char *arg)
{
    (void)arg;
    const char *name = option + 1 + (option[1] == '-');
    if (!strcmp(name, "no-reboot")) c->o->no_reboot = true;
    if (!strcmp(name, "no-shutdown")) c->o->no_shutdown = true;
    if (!strcmp(name, "S")) c->o->start_stopped = true;
    if (!strcmp(name, "daemonize")) c->o->daemonize = true;
    if (!strcmp(name, "no-hpet")) c->o->hpet = false;
    if (!strcmp(name, "no-acpi")) c->o->acpi = false;
    if (!strcmp(name, "usb")) c->o->usb = true;
    if (!strcmp(name, "full-screen")) c->o->full_screen = true;
    if (!strcmp(name, "nodefaults")) c->o->nodefaults = true;
    if (!strcmp(name, "snapshot")) c->o->snapshot = true;
    if (!strcmp(name, "perfmap")) c->o->perfmap = true;
    return 0;
}

/* What may be given, as it asks for what is the case: nothing is locked in memory; messages are what they are. */
static int opt_fixed(struct context *c, const char *option, const char *arg)
{
    static const char *const off[] = {"mem-lock", "cpu-pm", "timestamp", "guest-name"};
    struct option_list l;
    bool on = false;
    (void)c;
    int err = option_list_parse(&l, option, arg, NULL);
    if (err) return err;
    for (size_t i = 0; i < ARRAY_LEN(off) && !err; i++) {
        err = option_list_bool(&l, off[i], &on);
        if (!err && on && i < 2) err = bad(option, arg, "not supported");
        on = false;
    }
    if (!err) err = option_list_check(&l);
    option_list_free(&l);
    return err;
}

static int opt_add_fd(struct context *c, const char *option, const char *arg)
{
    (void)option;
    return options_add_fd(c->o, arg);
}

static int opt_version(struct context *c, const char *option, const char *arg)
{
    (void)c;
    (void)option;
    (void)arg;
    printf("Calque emulator version " CALQUE_VERSION "\n");
    return 1;
}

static int opt_help(struct context *c, const char *option, const char *arg);

/* ---- the table ---- */

static const struct option {
    const char *name;        /* without the dash */
    const char *argument;    /* as in the help; NULL: takes none */
    option_handler *handler; /* what it does */
    const char *help;        /* one line; NULL: not shown */
} table[] = {
    {"h", NULL, opt_help, "print this help and exit"},
    {"help", NULL, opt_help, NULL},
    {"version", NULL, opt_version, "print the version and exit"},
    {"machine", "[type=]pc[,prop=value...]", opt_machine, "select the machine (accel=, hpet=, acpi=, ...)"},
    {"M", "pc", opt_machine, NULL},
    {"cpu", "model[,feature=on|off...]", opt_cpu, "select the CPU (-cpu help lists them)"},
    {"accel", "bt|interp|auto|tcg", opt_accel, "select the engine that runs guest code (default: bt)"},
    {"enable-kvm", NULL, opt_enable_kvm, NULL},
    {"smp", "[cpus=]n[,sockets=][,cores=][,threads=]", opt_smp, "number of CPUs"},
    {"m", "[size=]megabytes", opt_m, "guest memory, suffixes M and G (default: 128M)"},
    {"boot", "[order=drives][,menu=on|off][,strict=on|off]", opt_boot, "where to boot from"},
    {"hda", "file", opt_disk, "hard disk image, IDE primary master; likewise -hdb, -hdc and -hdd"},
    {"hdb", "file", opt_disk, NULL},
    {"hdc", "file", opt_disk, NULL},
    {"hdd", "file", opt_disk, NULL},
    {"cdrom", "file", opt_disk, "CD image, IDE secondary master"},
    {"fda", "file", opt_disk, "floppy image; likewise -fdb"},
    {"fdb", "file", opt_disk, NULL},
    {"drive", "[file=]file[,if=ide|virtio|floppy|none][,media=disk|cdrom][,index=n][,format=raw|qcow2][,readonly=on][,snapshot=on|off]"
              "[,cache=mode][,discard=unmap][,rerror=|werror=report|ignore|stop|enospc][,id=name][,serial=text]", opt_drive, "a drive"},
    {"blockdev", "driver=raw|qcow2|vmdk|vpc|vhdx|file,node-name=name,file=node|file.filename=file|filename=file", opt_blockdev,
     "a drive for -device ...,drive=name"},
    {"kernel", "file", opt_kernel, "boot a Linux, Multiboot or ELF kernel"},
    {"initrd", "file", opt_initrd, "its initial RAM disk, or Multiboot modules (\"file args,file...\")"},
    {"append", "text", opt_append, "its command line"},
    {"bios", "file", opt_bios, "firmware image (default: bios-256k.bin)"},
    {"L", "directory", opt_path, "look there for firmware"},
    {"option-rom", "file", opt_option_rom, "have the firmware load an expansion ROM"},
    {"fw_cfg", "[name=]name,file=file|string=text", opt_fw_cfg, "add a firmware configuration item"},
    {"serial", "target", opt_serial, "connect a serial port: stdio, pty, file:F, pipe:F, unix:F, tcp:H:P, null, none; mon:target "
     "shares it with a monitor"},
    {"parallel", "target", opt_parallel, "connect the parallel port, as for -serial"},
    {"monitor", "target", opt_monitor, "a monitor for people, there"},
    {"qmp", "target", opt_monitor, "a monitor for programs, there (QMP)"},
    {"qmp-pretty", "target", opt_monitor, NULL},
    {"mon", "[chardev=]id[,mode=readline|control][,pretty=on|off]", opt_monitor, "a monitor on a -chardev"},
    {"chardev", "kind,id=id[,...]", opt_chardev, "a character device, for -serial chardev:id"},
    {"add-fd", "fd=n,set=n", opt_add_fd, "an open file, for -chardev file,path=/dev/fdset/n"},
    {"overcommit", "mem-lock=off,cpu-pm=off", opt_fixed, NULL},
    {"msg", "timestamp=on|off", opt_fixed, NULL},
    {"debugcon", "target", opt_debugcon, "connect the debug port 0xe9"},
    {"device", "driver[,prop=value...]", opt_device, "add a device (-device help lists them)"},
    {"nographic", NULL, opt_nographic, "no display; serial port 0 on standard input and output"},
    {"display", "none|vnc=address|sdl|curses[,prop=value...]", opt_display, "how the screen is shown"},
    {"vnc", "none|[host]:display|unix:path[,to=n][,password=on][,share=policy]", opt_vnc, "show it to VNC clients"},
    {"k", "en-us", opt_k, "the keyboard layout that the guest believes in"},
    {"usb", NULL, opt_flag, "a USB controller (UHCI)"},
    {"usbdevice", "tablet|mouse|keyboard", opt_usbdevice, "the same with that device"},
    {"full-screen", NULL, opt_flag, "start with a window that fills the screen"},
    {"vga", "std|none", opt_vga, "select the graphics adapter"},
    {"nic", "user|tap|socket|stream|none[,model=][,mac=][,prop=value...]", opt_nic, "a network card and its network"},
    {"netdev", "user|tap|socket|stream,id=id[,prop=value...]", opt_netdev, "a network, for -device e1000,netdev=id"},
    {"net", "nic|user|tap|socket|none[,prop=value...]", opt_net, NULL},
    {"object", "kind,id=id[,prop=value...]", opt_object, "filter-dump: write a network's frames to a file; rng-random, rng-builtin"},
    {"audiodev", "none|sdl|wav,id=id[,path=file][,out.frequency=n]", opt_audiodev, "where sound goes, for -device AC97,audiodev=id"},
    {"audio", "none|sdl|wav,model=ac97|pcspk[,prop=value...]", opt_audio, "the same with that card"},
    {"rtc", "[base=utc|localtime|date][,clock=host|rt|vm][,driftfix=none|slew]", opt_rtc, "the guest's real-time clock"},
    {"S", NULL, opt_flag, "do not start before the monitor says so (cont)"},
    {"daemonize", NULL, opt_flag, "go to the background when everything is ready"},
    {"action", "[reboot=reset|shutdown][,shutdown=poweroff|pause]", opt_action, "what the guest's reset and power-off do"},
    {"no-reboot", NULL, opt_flag, "exit instead of rebooting"},
    {"no-shutdown", NULL, opt_flag, "stop instead of exiting on power-off"},
    {"no-acpi", NULL, opt_flag, "no ACPI tables"},
    {"no-hpet", NULL, opt_flag, "no HPET"},
    {"nodefaults", NULL, opt_flag, "no devices that were not asked for"},
    {"no-user-config", NULL, opt_flag, NULL},
    {"snapshot", NULL, opt_flag, "write to temporary files instead of disk images"},
    {"uuid", "uuid", opt_uuid, "the machine's identity in SMBIOS"},
    {"name", "text", opt_name, "the machine's name"},
    {"d", "item,...", opt_log, "log (-d help lists the items)"},
    {"D", "file", opt_log_file, "log there instead of to standard error"},
    {"perfmap", NULL, opt_flag, "name translated code for perf(1), in /tmp/perf-PID.map"},
    {"pidfile", "file", opt_pidfile, "write the process ID there"},
};

const char *options_name(size_t i) { return i < ARRAY_LEN(table) ? table[i].name : NULL; }

static int opt_help(struct context *c, const char *option, const char *arg)
{
    (void)c;
    (void)option;
    (void)arg;
    printf("Calque emulator version " CALQUE_VERSION "\nusage: calque [options]\n"
           "Options have the names and the meaning they have in QEMU.\n\n");
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (!table[i].help) continue;
        int width = printf("-%s %s", table[i].name, table[i].argument ? table[i].argument : "");
        if (width >= 40) {
            putchar('\n');
            width = 0;
        }
        printf("%*s%s\n", 40 - width, "", table[i].help);
    }
    return 1;
}

/* ---- devices ---- */

static int device_ports(struct option_list *l, struct device_option *d, u16 iobase, u16 iosize)
{
    u64 base = iobase, size = iosize;
    int err = option_list_number(l, "iobase", 0xffff, &base);
    if (!err && iosize) err = option_list_number(l, "iosize", 0xffff, &size);
    if (!err && iosize && (!size || base + size > 0x10000)) {
        fprintf(stderr, "calque: -device: ports %#llx+%#llx are not possible\n", (unsigned long long)base,
                (unsigned long long)size);
        err = -EINVAL;
    }
    d->iobase = (u16)base;
    d->iosize = (u16)size;
    return err;
}

static int add_serial(struct options *o, struct option_list *l)
{
    static const u16 bases[OPTIONS_SERIALS] = {0x3f8, 0x2f8, 0x3e8, 0x2e8};
    u64 index = OPTIONS_SERIALS, base = 0, irq = 0;
    int err = option_list_number(l, "index", OPTIONS_SERIALS - 1, &index);
    if (!err) err = option_list_number(l, "iobase", 0xffff, &base);
    if (!err) err = option_list_number(l, "irq", 15, &irq);
    if (err) return err;
    if (base) {
        for (index = 0; index < OPTIONS_SERIALS && bases[index] != base; index++) continue;
        if (index == OPTIONS_SERIALS) {
            fprintf(stderr, "calque: -device isa-serial: no standard serial port is at %#llx\n",
                    (unsigned long long)base);
            return -EINVAL;
        }
    }
    if (index == OPTIONS_SERIALS)
        for (index = 0; index < OPTIONS_SERIALS && o->serial[index] >= 0; index++) continue;
    if (index == OPTIONS_SERIALS || o->serial[index] >= 0) {
        fprintf(stderr, "calque: -device isa-serial: that serial port exists already\n");
        return -EINVAL;
    }
    if (irq && irq != (index % 2 ? 3 : 4)) {
        fprintf(stderr, "calque: -device isa-serial: irq=%llu not supported for that port\n", (unsigned long long)irq);
        return -EINVAL;
    }
    const char *id = option_list_get(l, "chardev");
    if (!id) {
        fprintf(stderr, "calque: -device isa-serial: property 'chardev' is missing\n");
        return -EINVAL;
    }
    return options_chardev_take(o, "-device isa-serial", id, &o->serial[index]);
}

static int add_device(struct options *o, struct option_list *l)
{
    const char *driver = option_list_get(l, "driver");
    struct device_option d = {.chardev = CHARDEV_NONE};
    int err = 0;
    option_list_get(l, "id"); /* nobody can refer to it yet */
    if (!driver || !*driver) {
        fprintf(stderr, "calque: -device: no driver named\n");
        return -EINVAL;
    }
    if (options_virtio_driver(driver)) return options_virtio_device(o, driver, l);
    if (options_audio_driver(driver)) return options_audio_device(o, driver, l);
    if (options_net_driver(driver)) return options_net_device(o, driver, l);
    if (options_usb_driver(driver)) {
        option_list_get(l, "bus"); /* there is one, and all its ports are alike */
        option_list_get(l, "port");
        err = options_usb(o, "-device", driver);
        return err ? err : option_list_check(l);
    }
    if (!strcmp(driver, "piix3-usb-uhci")) {
        int devfn = PCI_DEVFN(1, 2);
        o->usb = true;
        if ((err = options_pci_place(l, driver, &devfn))) return err;
        if (devfn != PCI_DEVFN(1, 2)) return bad("-device", driver, "it is at addr=1.2");
        return option_list_check(l);
    }
    if (!strcmp(driver, "VGA")) return options_vga_device(o, l);
    if (!strcmp(driver, "isa-serial")) {
        err = add_serial(o, l);
        return err ? err : option_list_check(l);
    }
    if (!strcmp(driver, "isa-parallel")) {
        const char *id = option_list_get(l, "chardev");
        u64 base = 0x378, irq = 7, index = 0;
        err = option_list_number(l, "iobase", 0xffff, &base);
        if (!err) err = option_list_number(l, "irq", 15, &irq);
        if (!err) err = option_list_number(l, "index", 2, &index);
        if (!err && (base != 0x378 || irq != 7 || index)) err = bad("-device", driver, "there is only port 0x378 with interrupt 7");
        if (!err && o->parallel >= 0) err = bad("-device", driver, "there is a parallel port already");
        if (!err && !id) err = bad("-device", driver, "property 'chardev' is missing");
        if (!err) err = options_chardev_take(o, "-device isa-parallel", id, &o->parallel);
        return err ? err : option_list_check(l);
    }
    if (!strcmp(driver, "ide-hd") || !strcmp(driver, "ide-cd")) {
        err = options_device_ide(o, l, driver);
        return err ? err : option_list_check(l);
    }
    if (!strcmp(driver, "floppy")) {
        err = options_device_floppy(o, l);
        return err ? err : option_list_check(l);
    }
    if (!strcmp(driver, "isa-debug-exit")) {
        d.kind = DEVICE_DEBUG_EXIT;
        err = device_ports(l, &d, 0x501, 2);
    } else if (!strcmp(driver, "isa-debugcon")) {
        d.kind = DEVICE_DEBUG_CONSOLE;
        u64 readback = 0xe9;
        err = device_ports(l, &d, 0xe9, 0);
        if (!err) err = option_list_number(l, "readback", 0xff, &readback);
        d.readback = (u8)readback;
        const char *id = option_list_get(l, "chardev");
        if (!err && id) err = options_chardev_take(o, "-device isa-debugcon", id, &d.chardev);
    } else if (!strcmp(driver, "pc-testdev")) {
        d.kind = DEVICE_PC_TESTDEV;
    } else if (!strcmp(driver, "pci-testdev")) {
        d.kind = DEVICE_PCI_TESTDEV;
    } else {
        fprintf(stderr, "calque: -device %s: device not supported\n", driver);
        return -EINVAL;
    }
    if (err || (err = option_list_check(l))) return err;
    o->devices[o->device_count++] = d;
    return 0;
}

static int add_object(struct options *o, const char *text)
{
    struct option_list l;
    int err = option_list_parse(&l, "-object", text, "qom-type");
    if (err) return err;
    const char *kind = option_list_get(&l, "qom-type");
    const char *id = option_list_get(&l, "id");
    if (kind && !strcmp(kind, "filter-dump")) {
        err = options_net_dump(o, &l);
    } else if (kind && !strcmp(kind, "secret")) {
        for (int i = 0; i < l.count; i++) l.items[i].used = true; /* nothing here has one to ask for */
    } else if (kind && (!strcmp(kind, "rng-random") || !strcmp(kind, "rng-builtin"))) {
        err = options_rng(o, kind, id, &l);
    } else {
        fprintf(stderr, "calque: -object %s: not supported\n", kind ? kind : text);
        err = -EINVAL;
    }
    option_list_free(&l);
    return err;
}

/* Devices refer to these; the others refer to devices. */
static bool is_rng(const char *object) { return !strncmp(object, "rng-", 4) || !strncmp(object, "qom-type=rng-", 13); }

static int finish_networks(struct context *c)
{
    int err = 0;
    for (int i = 0; i < c->d.net_count && !err; i++) err = options_net(c->o, c->d.net[i]);
    if (!err) err = options_net_finish(c->o);
    for (int i = 0; i < c->d.object_count && !err; i++)
        if (!is_rng(c->d.object[i])) err = add_object(c->o, c->d.object[i]);
    return err;
}

static int finish_chardevs(struct context *c)
{
    struct options *o = c->o;
    int err = 0;
    for (int i = 0; i < c->d.netdev_count && !err; i++) err = options_netdev(o, c->d.netdev[i]);
    for (int i = 0; i < c->d.chardev_count && !err; i++) err = options_chardev_define(o, c->d.chardev[i]);
    for (int i = 0; i < c->d.serial_count && !err; i++) {
        static const char *const labels[OPTIONS_SERIALS] = {"serial0", "serial1", "serial2", "serial3"};
        err = options_chardev_target(o, "-serial", c->d.serial[i], labels[i], &o->serial[i]);
    }
    for (int i = 0; i < c->d.monitor_count && !err; i++) {
        const char *option = c->d.monitor_option[i];
        bool pretty = !strcmp(option, "qmp-pretty");
        err = !strcmp(option, "mon")
                  ? options_mon(o, c->d.monitor[i])
                  : options_monitor(o, option - 1, c->d.monitor[i], strcmp(option, "monitor") != 0, pretty);
    }
    if (!err && c->d.parallel) err = options_chardev_target(o, "-parallel", c->d.parallel, "parallel0", &o->parallel);
    if (!err && c->d.debugcon) err = options_chardev_target(o, "-debugcon", c->d.debugcon, "debugcon", &o->debugcon);
    for (int i = 0; i < c->d.object_count && !err; i++)
        if (is_rng(c->d.object[i])) err = add_object(o, c->d.object[i]);
    for (int i = 0; i < c->d.device_count && !err; i++) {
        struct option_list l;
        err = option_list_parse(&l, "-device", c->d.device[i], "driver");
        if (err) break;
        err = add_device(o, &l);
        option_list_free(&l);
    }
    if (err || o->nodefaults) return err;
    if (o->parallel == CHARDEV_UNSET && (err = options_chardev_target(o, "-parallel", "null", "parallel0", &o->parallel)))
        return err;
    /* The default serial port, and the default monitor. */
    bool use_stdio = o->nographic;
    for (int i = 0; i < o->chardev_count; i++) use_stdio &= o->chardevs[i].kind != CHARDEV_STDIO;
    if (o->serial[0] == CHARDEV_UNSET) {
        const char *target = !use_stdio ? "null" : o->monitor_said ? "stdio" : "mon:stdio";
        return options_chardev_target(o, "-serial", target, "serial0", &o->serial[0]);
    }
    return use_stdio && !o->monitor_said ? options_monitor(o, "-monitor", "stdio", false, false) : 0;
}

/* ---- all of it ---- */

static const struct option *lookup(const char *arg)
{
    const char *name = arg + 1 + (arg[1] == '-');
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (!strcmp(table[i].name, name)) return &table[i];
    return NULL;
}

static int parse(struct context *c, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] != '-' || !argv[i][1]) {
            int err = options_drive_file(c->o, argv[i], argv[i]);
            if (err) return err;
            continue;
        }
        const struct option *option = lookup(argv[i]);
        if (!option) {
            fprintf(stderr, "calque: %s: option not supported\n", argv[i]);
            return -EINVAL;
        }
        const char *arg = "";
        const char *given = argv[i];
        if (option->argument) {
            if (i + 1 == argc) {
                fprintf(stderr, "calque: %s: requires an argument\n", given);
                return -EINVAL;
            }
            arg = argv[++i];
        }
        int result = option->handler(c, given, arg);
        if (result) return result;
    }
    return 0;
}

/* What only makes sense together. */
static int check(const struct options *o)
{
    for (int i = 0; i < o->chardev_count && o->daemonize; i++)
        if (o->chardevs[i].kind == CHARDEV_STDIO) return bad("-daemonize", "stdio", "there is no terminal in the background");
    for (int i = 0; i < o->display_count && o->daemonize; i++)
        if (o->displays[i].kind == DISPLAY_CURSES) return bad("-daemonize", "curses", "there is no terminal in the background");
    if (o->kernel) return 0;
    if (o->initrd) fprintf(stderr, "calque: -initrd needs -kernel\n");
    else if (o->append) fprintf(stderr, "calque: -append needs -kernel\n");
    else return 0;
    return -EINVAL;
}

int options_parse(struct options *o, int argc, char **argv)
{
    struct context c = {.o = o};
    memset(o, 0, sizeof(*o));
    o->ram_size = DEFAULT_RAM;
    o->cpus = o->cores = o->threads = 1;
    o->hpet = o->acpi = o->vga = true;
    o->vga_config = (struct vga_config)VGA_DEFAULT;
    o->splash_time = o->reboot_timeout = UINT64_MAX;
    o->debugcon = o->parallel = CHARDEV_UNSET;
    for (int i = 0; i < OPTIONS_SERIALS; i++) o->serial[i] = CHARDEV_UNSET;

    /* -nodefaults also means no VGA, unless one is asked for, wherever it stands. */
    bool vga_said = false;
    for (int i = 1; i < argc; i++) vga_said |= !strcmp(argv[i], "-vga") || !strcmp(argv[i], "--vga");

    int result = parse(&c, argc, argv);
    if (!result) result = check_accelerators(&c);
    if (!result && o->nodefaults && !vga_said) o->vga = false;
    if (!result) result = finish_chardevs(&c);
    if (!result) result = finish_networks(&c);
    if (!result) result = options_audio_finish(o);
    if (!result) result = options_drive_finish(o);
    if (!result) result = options_display_finish(o);
    if (!result) result = check(o);
    if (!result) result = cpu_model_parse(o->cpu ? o->cpu : "max", &o->cpu_model);
    if (!result) cpu_model_set_topology(o->cpu_model, o->cores, o->threads);
    return result;
}

void options_free(struct options *o)
{
    options_net_free(o);
    if (o->cpu_model) cpu_model_destroy(o->cpu_model);
    char *const strings[] = {o->cpu,  o->kernel,    o->initrd,   o->append, o->bios,
                             o->name, o->log_items, o->log_file, o->pidfile};
    for (size_t i = 0; i < ARRAY_LEN(strings); i++) free(strings[i]);
    options_drive_free(o);
    options_virtio_free(o);
    options_audio_free(o);
    for (int i = 0; i < o->display_count; i++) options_display_free(&o->displays[i]);
    for (int i = 0; i < o->path_count; i++) free(o->paths[i]);
    for (int i = 0; i < o->option_rom_count; i++) free(o->option_roms[i]);
    for (int i = 0; i < o->fw_cfg_count; i++) {
        free(o->fw_cfg[i].name);
        free(o->fw_cfg[i].file);
        free(o->fw_cfg[i].string);
    }
    for (int i = 0; i < o->chardev_count; i++) {
        free((char *)o->chardevs[i].label);
        free((char *)o->chardevs[i].path);
        free((char *)o->chardevs[i].host);
        free((char *)o->chardevs[i].port);
    }
}
