/* -device virtio-*, and the -object that random numbers come from. */
#define _GNU_SOURCE
#include "machine/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int refuse(const char *driver, const char *what, const char *why)
{
    fprintf(stderr, "calque: -device %s: %s: %s\n", driver, what, why);
    return -EINVAL;
}

/* ---- PCI places ---- */

int options_pci_place(struct option_list *l, const char *driver, int *devfn)
{
    const char *address = option_list_get(l, "addr"), *bus = option_list_get(l, "bus");
    if (bus && strcmp(bus, "pci.0") && strcmp(bus, "pci")) return refuse(driver, bus, "no such bus");
    if (!address) return 0;
    /* "SLOT" or "SLOT.FUNCTION", hexadecimal. */
    char *end;
    unsigned long slot = strtoul(address, &end, 16), function = 0;
    bool good = end != address && slot <= 31;
    if (good && *end == '.') function = strtoul(end + 1, &end, 16);
    if (!good || *end || function > 7) return refuse(driver, address, "not a PCI address");
    *devfn = (int)(slot << 3 | function);
    return 0;
}

/* ---- drivers ---- */

static const char *const kinds[] = {"blk", "net", "rng", "keyboard", "mouse", "tablet"};
enum { KIND_BLK, KIND_NET, KIND_RNG, KIND_KEYBOARD, KIND_MOUSE, KIND_TABLET, KINDS };

/* "virtio-KIND", then "-pci", then "-transitional" or "-non-transitional": the kind, -1: no virtio driver. */
static int parse_driver(const char *driver, bool *transitional, bool *modern)
{
    *transitional = *modern = false;
    if (strncmp(driver, "virtio-", 7)) return -1;
    for (int i = 0; i < KINDS; i++) {
        size_t n = strlen(kinds[i]);
        const char *rest = driver + 7 + n;
        if (strncmp(driver + 7, kinds[i], n)) continue;
        if (!strncmp(rest, "-pci", 4)) rest += 4;
        *transitional = !strcmp(rest, "-transitional");
        *modern = !strcmp(rest, "-non-transitional");
        return !*rest || *transitional || *modern ? i : -1;
    }
    return -1;
}

bool options_virtio_driver(const char *driver)
{
    bool transitional, modern;
    return parse_driver(driver, &transitional, &modern) >= 0;
}

bool options_virtio_net(const char *driver)
{
    bool transitional, modern;
    return parse_driver(driver, &transitional, &modern) == KIND_NET;
}

/* disable-legacy takes "auto", too. */
static int tri_state(struct option_list *l, const char *key, bool *value)
{
    const char *text = option_list_get(l, key);
    return text && !strcmp(text, "auto") ? 0 : option_list_bool(l, key, value);
}

int options_virtio_place(struct option_list *l, const char *driver, struct virtio_place *p)
{
    /* What is there, or not there, in any case. */
    static const struct {
        const char *key;
        bool value;
    } fixed[] = {{"event_idx", true},       {"indirect_desc", true},  {"any_layout", true},      {"packed", false},
                 {"iommu_platform", false}, {"in_order", false},      {"ats", false},            {"use-started", true},
                 {"ioeventfd", true},       {"modern-pio-notify", false}};
    bool transitional, modern;
    u64 vectors = 0;
    int kind = parse_driver(driver, &transitional, &modern);
    *p = (struct virtio_place){.devfn = -1, .no_legacy = modern};
    int err = options_pci_place(l, driver, &p->devfn);
    if (!err) err = tri_state(l, "disable-legacy", &p->no_legacy);
    if (!err) err = tri_state(l, "disable-modern", &p->no_modern);
    if (!err) err = option_list_number(l, "vectors", 2048, &vectors); /* there are always enough */
    for (size_t i = 0; i < ARRAY_LEN(fixed) && !err; i++) {
        bool value = fixed[i].value;
        err = option_list_bool(l, fixed[i].key, &value);
        if (!err && value != fixed[i].value) err = refuse(driver, fixed[i].key, "that value is not supported");
    }
    if (err) return err;
    if (transitional && (p->no_legacy || p->no_modern))
        return refuse(driver, "disable-legacy, disable-modern", "a transitional device has both");
    if (p->no_modern && (p->no_legacy || kind > KIND_RNG)) return refuse(driver, "disable-modern", "no interface is left");
    return 0;
}

/* ---- devices ---- */

static int blk_device(struct options *o, const char *driver, struct option_list *l)
{
    const char *id = option_list_get(l, "drive"), *serial = option_list_get(l, "serial");
    u64 bootindex = UINT64_MAX, queues = 1, queue_size = 256;
    bool writeback = true, wce_said = option_list_get(l, "write-cache");
    char option[64];
    int ref, err = 0;
    snprintf(option, sizeof(option), "-device %s", driver);
    if (!id) return refuse(driver, "drive", "property missing");
    if ((err = options_drive_take(o, option, id, &ref))) return err;
    struct drive_option *d = &o->drives[ref];
    if (!d->file) return refuse(driver, id, "the drive is empty");
    d->interface = DRIVE_VIRTIO;
    d->cdrom = false;
    err = options_virtio_place(l, driver, &d->virtio);
    if (!err) err = option_list_number(l, "bootindex", INT32_MAX, &bootindex);
    if (!err) err = option_list_number(l, "num-queues", UINT32_MAX, &queues);
    if (!err) err = option_list_number(l, "queue-size", UINT32_MAX, &queue_size);
    if (!err && (queues != 1 || queue_size != 256)) err = refuse(driver, "num-queues, queue-size", "1 and 256 is all there is");
    if (!err && wce_said) {
        err = tri_state(l, "write-cache", &writeback);
        d->write_through = !writeback;
    }
    if (err) return err;
    if (bootindex != UINT64_MAX) d->bootindex = (int)bootindex;
    if ((err = options_drive_errors(d, option, l))) return err;
    if (serial) {
        free(d->serial);
        d->serial = strdup(serial);
    }
    return 0;
}

int options_virtio_device(struct options *o, const char *driver, struct option_list *l)
{
    static const enum device_kind device_kinds[] = {[KIND_RNG] = DEVICE_VIRTIO_RNG,
                                                    [KIND_KEYBOARD] = DEVICE_VIRTIO_KEYBOARD,
                                                    [KIND_MOUSE] = DEVICE_VIRTIO_MOUSE,
                                                    [KIND_TABLET] = DEVICE_VIRTIO_TABLET};
    bool transitional, modern;
    int err, kind = parse_driver(driver, &transitional, &modern);
    if (kind == KIND_NET) return options_net_device(o, driver, l);
    if (kind == KIND_BLK) {
        err = blk_device(o, driver, l);
    } else {
        struct device_option *d = &o->devices[o->device_count];
        const char *source = option_list_get(l, "rng");
        *d = (struct device_option){.kind = device_kinds[kind], .chardev = CHARDEV_NONE, .object = -1};
        if (kind > KIND_RNG && transitional) return refuse(driver, "transitional", "there is no legacy interface");
        err = options_virtio_place(l, driver, &d->virtio);
        for (int i = 0; i < o->rng_count && source; i++)
            if (!strcmp(o->rngs[i].id, source)) d->object = i;
        if (!err && source && (kind != KIND_RNG || d->object < 0)) err = refuse(driver, source, "no such rng object");
        if (!err) o->device_count++;
    }
    return err ? err : option_list_check(l);
}

int options_rng(struct options *o, const char *kind, const char *id, struct option_list *l)
{
    struct rng_option *r = &o->rngs[o->rng_count];
    bool random = !strcmp(kind, "rng-random");
    const char *file = random ? option_list_get(l, "filename") : NULL;
    if (!id || !*id || o->rng_count == OPTIONS_RNGS) {
        fprintf(stderr, "calque: -object %s: %s\n", kind, id && *id ? "too many of them" : "property 'id' is missing");
        return -EINVAL;
    }
    int err = option_list_check(l);
    if (err) return err;
    r->id = strdup(id);
    r->file = random ? strdup(file ? file : "/dev/urandom") : NULL;
    o->rng_count++;
    return 0;
}

void options_virtio_free(struct options *o)
{
    for (int i = 0; i < o->rng_count; i++) {
        free(o->rngs[i].id);
        free(o->rngs[i].file);
    }
}
