/* What machine it is: -machine, -m, -smp, -cpu, -accel, -rtc, -uuid, -name. */
#define _GNU_SOURCE
#include "machine/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MIN_RAM  (1ull << 20)
#define MAX_RAM  (1ull << 39) /* half of the physical address space of 40 bits */
#define MAX_CPUS 64

int options_memory(struct options *o, const char *option, const char *arg)
{
    struct option_list l;
    int err = option_list_parse(&l, option, arg, "size");
    if (err) return err;
    const char *size = option_list_get(&l, "size");
    u64 bytes = 0;
    if (!size || !option_size(size, 1 << 20, &bytes))
        err = option_bad(option, arg, "not a memory size");
    else if (bytes < MIN_RAM)
        err = option_bad(option, arg, "too little memory: a PC needs 1 MiB or more");
    else if (bytes > MAX_RAM)
        err = option_bad(option, arg, "too much memory: the limit is 512 GiB");
    if (!err) err = option_list_check(&l);
    o->ram_size = (bytes + 8191) & ~8191ull;
    option_list_free(&l);
    return err;
}

int options_smp(struct options *o, const char *option, const char *arg)
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
        if (value && (!option_number(value, 65535, &n) || n == 0)) err = option_bad(option, arg, "counts start at 1");
    }
    option_list_free(&l);
    if (err) return err;
    if (dies != 1 || clusters != 1) return option_bad(option, arg, "dies and clusters not supported");

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
        return option_bad(option, arg, "sockets * cores * threads is not the number of CPUs");
    if (total != cpus) return option_bad(option, arg, "CPU hotplug (maxcpus above cpus) not supported");
    if (cpus > MAX_CPUS) return option_bad(option, arg, "the limit is 64 CPUs");
    o->cpus = (unsigned)cpus;
    o->cores = (unsigned)cores;
    o->threads = (unsigned)threads;
    return 0;
}

int options_cpu(struct options *o, const char *option, const char *arg)
{
    (void)option;
    if (!strcmp(arg, "help") || !strcmp(arg, "?")) {
        cpu_model_list(stdout);
        return 1;
    }
    return option_set(&o->cpu, arg);
}

/* One accelerator of a -machine accel=a:b list, or of several -accel options. */
static void accelerator(struct options *o, const char *name, size_t len)
{
    /* tcg: QEMU's name for its own translator. */
    static const char *const software[] = {"interp", "bt", "tcg", "auto"};
    size_t i = 0;
    while (i < ARRAY_LEN(software) && (len != strlen(software[i]) || strncmp(name, software[i], len))) i++;
    if (i == ARRAY_LEN(software)) {
        snprintf(o->accel_missing, sizeof(o->accel_missing), "%.*s", (int)len, name);
    } else {
        if (!o->accel_found) o->interpret = i == 0; /* the first that exists decides */
        o->accel_found = true;
    }
}

int options_accel(struct options *o, const char *option, const char *arg)
{
    struct option_list l;
    int err = option_list_parse(&l, option, arg, "accel");
    if (err) return err;
    const char *name = option_list_get(&l, "accel");
    if (name && (!strcmp(name, "help") || !strcmp(name, "?"))) {
        printf("Accelerators supported:\nbt (the binary translator; also called auto and tcg)\ninterp\n");
        err = 1;
    } else if (!name || !*name) {
        err = option_bad(option, arg, "no accelerator named");
    } else {
        accelerator(o, name, strlen(name));
        err = option_list_check(&l);
    }
    option_list_free(&l);
    return err;
}

int options_accel_check(const struct options *o)
{
    if (o->accel_found || !*o->accel_missing) return 0;
    const char *name = o->accel_missing;
    return option_bad("-accel", name, !strcmp(name, "kvm") ? "not available in this build" : "no such accelerator");
}

int options_enable_kvm(struct options *o, const char *option, const char *arg)
{
    (void)o;
    (void)arg;
    fprintf(stderr, "calque: %s: kvm is not available in this build\n", option);
    return -EINVAL;
}

int options_machine(struct options *o, const char *option, const char *arg)
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
        o->no_machine = o->start_stopped = o->nodefaults = true;
    else if (type && strcmp(type, "pc") && strcmp(type, "i440fx") && strncmp(type, "pc-i440fx-", 10))
        err = option_bad(option, type, "machine type not supported (there is pc)");

    const char *accel = option_list_get(&l, "accel");
    while (!err && accel && *accel) {
        size_t len = strcspn(accel, ":");
        accelerator(o, accel, len);
        accel += len;
        if (*accel) accel++;
    }
    if (!err) err = option_list_bool(&l, "hpet", &o->hpet);
    if (!err) err = option_list_bool(&l, "usb", &o->usb);
    const char *acpi = option_list_get(&l, "acpi");
    if (!err && acpi && strcmp(acpi, "auto")) err = option_list_bool(&l, "acpi", &o->acpi);
    static const char *const texts[] = {"kernel", "initrd", "append", "firmware", "pcspk-audiodev"};
    char **const places[] = {&o->kernel, &o->initrd, &o->append, &o->bios,
                             &o->pcspk_audiodev};
    for (size_t i = 0; i < ARRAY_LEN(texts) && !err; i++) {
        const char *value = option_list_get(&l, texts[i]);
        if (value) err = option_set(places[i], value);
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

/* ---- clock and names ---- */

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

int options_rtc(struct options *o, const char *option, const char *arg)
{
    struct option_list l;
    int err = option_list_parse(&l, option, arg, NULL);
    if (err) return err;
    const char *base = option_list_get(&l, "base");
    const char *clock = option_list_get(&l, "clock");
    const char *fix = option_list_get(&l, "driftfix");
    if (base) {
        o->rtc_localtime = !strcmp(base, "localtime");
        o->rtc_fixed = false;
        if (!o->rtc_localtime && strcmp(base, "utc")) {
            o->rtc_fixed = parse_date(base, &o->rtc_base);
            if (!o->rtc_fixed) err = option_bad(option, arg, "invalid date");
        }
    }
    if (clock && !strcmp(clock, "vm"))
        o->rtc_clock = CLOCK_WALL_GUEST;
    else if (clock && !strcmp(clock, "rt"))
        o->rtc_clock = CLOCK_WALL_MONOTONIC;
    else if (clock && !strcmp(clock, "host"))
        o->rtc_clock = CLOCK_WALL_HOST;
    else if (!err && clock)
        err = option_bad(option, arg, "invalid clock");
    if (!err && fix) {
        o->rtc_slew = !strcmp(fix, "slew");
        if (!o->rtc_slew && strcmp(fix, "none")) err = option_bad(option, arg, "invalid driftfix");
    }
    if (!err) err = option_list_check(&l);
    option_list_free(&l);
    return err;
}

int options_uuid(struct options *o, const char *option, const char *arg)
{
    const char *p = arg;
    for (int i = 0; i < 16; i++) {
        if ((i == 4 || i == 6 || i == 8 || i == 10) && *p++ != '-') return option_bad(option, arg, "not a UUID");
        if (!isxdigit((unsigned char)p[0]) || !isxdigit((unsigned char)p[1])) return option_bad(option, arg, "not a UUID");
        char digits[3] = {p[0], p[1], 0};
        o->uuid[i] = (u8)strtoul(digits, NULL, 16);
        p += 2;
    }
    if (*p) return option_bad(option, arg, "not a UUID");
    o->has_uuid = true;
    return 0;
}

int options_guest_name(struct options *o, const char *option, const char *arg)
{
    struct option_list l;
    int err = option_list_parse(&l, option, arg, "guest");
    if (err) return err;
    const char *guest = option_list_get(&l, "guest");
    if (guest) err = option_set(&o->name, guest);
    option_list_get(&l, "process");
    option_list_get(&l, "debug-threads");
    if (!err) err = option_list_check(&l);
    option_list_free(&l);
    return err;
}
