/* -hda to -hdd, -cdrom, -fda, -fdb, -drive, -blockdev and the -device options of disks. */
#define _GNU_SOURCE
#include "machine/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/fdc.h"
#include "devices/piix3_ide.h"

static int refuse(const char *option, const char *what, const char *why)
{
    fprintf(stderr, "calque: %s: %s: %s\n", option, what, why);
    return -EINVAL;
}

static struct drive_option *new_drive(struct options *o, const char *option)
{
    if (o->drive_count == OPTIONS_DRIVES) {
        fprintf(stderr, "calque: %s: too many drives\n", option);
        return NULL;
    }
    struct drive_option *d = &o->drives[o->drive_count++];
    memset(d, 0, sizeof(*d));
    d->index = -1;
    d->bootindex = -1;
    d->virtio.devfn = -1;
    d->write_error = DISK_ENOSPC;
    d->option = strdup(option);
    return d;
}

static int take(char **to, const char *text) { return text ? option_set(to, text) : 0; }

int options_drive_file(struct options *o, const char *option, const char *file)
{
    static const char *const names[] = {"hda", "hdb", "hdc", "hdd"};
    const char *name = *option == '-' ? option + 1 + (option[1] == '-') : "hda"; /* a file alone is -hda */
    struct drive_option *d = new_drive(o, *option == '-' ? option : "-hda");
    if (!d) return -EINVAL;
    d->interface = DRIVE_IDE;
    for (int i = 0; i < 4; i++)
        if (!strcmp(name, names[i])) d->index = i;
    if (name[0] == 'f') {
        d->interface = DRIVE_FLOPPY;
        d->index = name[2] - 'a';
    }
    if (!strcmp(name, "cdrom")) {
        d->cdrom = d->readonly = true;
        d->index = 2;
    }
    return *file || (!d->cdrom && d->interface == DRIVE_IDE) ? option_set(&d->file, file) : 0;
}

/* cache=: when a write counts as done, and whether the host's page cache is used. */
static int cache_mode(struct drive_option *d, const char *mode)
{
    d->direct = !strcmp(mode, "none") || !strcmp(mode, "off") || !strcmp(mode, "directsync");
    if (!strcmp(mode, "writeback") || (d->direct && mode[0] != 'd')) return 0;
    if (!strcmp(mode, "writethrough") || !strcmp(mode, "directsync"))
        d->write_through = true;
    else if (!strcmp(mode, "unsafe"))
        d->unsafe = true;
    else
        return refuse("-drive", mode, "invalid cache option");
    return 0;
}

/* Keys that may ask for what is the case anyway. */
static int fixed_keys(struct option_list *l, const char *option)
{
    static const struct {
        const char *key, *values[4];
    } fixed[] = {
        {"aio", {"threads", "native", "io_uring"}},
        {"copy-on-read", {"off"}},
        {"detect-zeroes", {"off"}},
    };
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++) {
        const char *value = option_list_get(l, fixed[i].key);
        bool fits = !value;
        for (size_t k = 0; k < ARRAY_LEN(fixed[i].values) && fixed[i].values[k] && !fits; k++)
            fits = !strcmp(value, fixed[i].values[k]);
        if (!fits) {
            fprintf(stderr, "calque: %s: %s=%s not supported\n", option, fixed[i].key, value);
            return -EINVAL;
        }
    }
    return 0;
}

/* The keys that -drive and -blockdev share. */
static int common_keys(struct drive_option *d, struct option_list *l, const char *option)
{
    const char *discard = option_list_get(l, "discard");
    bool write_back = !d->write_through;
    if (discard && (!strcmp(discard, "unmap") || !strcmp(discard, "on")))
        d->discard = true;
    else if (discard && strcmp(discard, "ignore") && strcmp(discard, "off"))
        return refuse(option, discard, "invalid discard option");
    int err = option_list_bool(l, "read-only", &d->readonly);
    if (!err) err = option_list_bool(l, "cache.direct", &d->direct);
    if (!err) err = option_list_bool(l, "cache.no-flush", &d->unsafe);
    if (!err) err = option_list_bool(l, "cache.writeback", &write_back);
    d->write_through = !write_back;
    return err ? err : fixed_keys(l, option);
}

static int error_action(const char *option, struct option_list *l, const char *key, enum disk_action *action)
{
    static const char *const names[] = {[DISK_REPORT] = "report", [DISK_IGNORE] = "ignore", [DISK_STOP] = "stop",
                                        [DISK_ENOSPC] = "enospc"};
    const char *name = option_list_get(l, key);
    if (!name || !strcmp(name, "auto")) return 0;
    for (size_t i = 0; i < ARRAY_LEN(names) - (*key == 'r'); i++) { /* a full disk can be read */
        if (strcmp(name, names[i])) continue;
        *action = (enum disk_action)i;
        return 0;
    }
    return refuse(option, name, "invalid error action");
}

int options_drive_errors(struct drive_option *d, const char *option, struct option_list *l)
{
    int err = error_action(option, l, "rerror", &d->read_error);
    return err ? err : error_action(option, l, "werror", &d->write_error);
}

static int drive_keys(struct options *o, struct option_list *l)
{
    struct drive_option *d = new_drive(o, "-drive");
    if (!d) return -EINVAL;
    const char *file = option_list_get(l, "file"), *interface = option_list_get(l, "if");
    const char *media = option_list_get(l, "media"), *format = option_list_get(l, "format");
    const char *cache = option_list_get(l, "cache");
    u64 index = UINT64_MAX, bus = 0, unit = UINT64_MAX;

    int err = take(&d->file, file && *file ? file : NULL);
    if (!err) err = take(&d->id, option_list_get(l, "id"));
    if (!err) err = take(&d->serial, option_list_get(l, "serial"));
    if (err) return err;
    if (!interface || !strcmp(interface, "ide"))
        d->interface = DRIVE_IDE;
    else if (!strcmp(interface, "virtio"))
        d->interface = DRIVE_VIRTIO;
    else if (!strcmp(interface, "floppy"))
        d->interface = DRIVE_FLOPPY;
    else if (!strcmp(interface, "none"))
        d->interface = DRIVE_NONE;
    else
        return refuse("-drive", interface, "bus not supported (there are ide, virtio, floppy and none)");
    bool floppy = d->interface == DRIVE_FLOPPY;
    if (media && !strcmp(media, "cdrom"))
        d->cdrom = d->readonly = true;
    else if (media && strcmp(media, "disk"))
        return refuse("-drive", media, "invalid media");
    if (format && !disk_format_parse(format, &d->format))
        return refuse("-drive", format, "image format not supported (there are raw, qcow2, vmdk, vpc and vhdx)");
    if (cache) err = cache_mode(d, cache);
    if (!err) err = common_keys(d, l, "-drive");
    if (!err) err = options_drive_errors(d, "-drive", l);
    if (!err) err = option_list_bool(l, "readonly", &d->readonly);
    if (!err) err = option_list_bool(l, "snapshot", &d->snapshot);
    d->keep = option_list_get(l, "snapshot") && !d->snapshot;
    /* On the virtio bus there is a disk for every number. */
    bool virtio = d->interface == DRIVE_VIRTIO;
    if (!err) err = option_list_number(l, "index", virtio ? INT16_MAX : (floppy ? FDC_DRIVES : IDE_DRIVES) - 1, &index);
    if (!err) err = option_list_number(l, "bus", !floppy && !virtio, &bus);
    if (!err) err = option_list_number(l, "unit", virtio ? INT16_MAX : 1, &unit);
    if (!err) err = option_list_check(l);
    if (err) return err;
    if (index != UINT64_MAX)
        d->index = (int)index;
    else if (unit != UINT64_MAX)
        d->index = (int)(2 * bus + unit);
    if (d->interface == DRIVE_VIRTIO || floppy) d->cdrom = false; /* a CD's image is a disk that cannot be written there */
    if (!d->file && !d->cdrom && !floppy && d->interface != DRIVE_NONE) return refuse("-drive", "file", "a disk needs an image");
    if (d->interface == DRIVE_NONE && !d->id)
        return refuse("-drive", "if=none", "nobody can refer to it without an id");
    for (struct drive_option *e = o->drives; e < d && d->id; e++)
        if (e->id && !strcmp(e->id, d->id)) return refuse("-drive", d->id, "a drive with that id exists");
    return 0;
}

int options_drive(struct options *o, const char *option, const char *text)
{
    (void)option;
    struct option_list l;
    int err = option_list_parse(&l, "-drive", text, "file");
    if (err) return err;
    err = drive_keys(o, &l);
    option_list_free(&l);
    return err;
}

/* ---- -blockdev ---- */

/* A node of a format, on one of a file that is named or described (file.*); such a drive waits for its -device. */
static int blockdev_keys(struct options *o, struct option_list *l)
{
    static const char *const ignored[] = {"file.aio", "file.locking", "file.auto-read-only", "auto-read-only", "locking",
                                          "file.node-name", "file.discard"};
    const char *driver = option_list_get(l, "driver"), *name = option_list_get(l, "node-name");
    const char *on = option_list_get(l, "file"), *below = option_list_get(l, "file.driver");
    const char *path = option_list_get(l, "filename"), *inner = option_list_get(l, "file.filename");
    const char *backing = option_list_get(l, "backing"); /* the image itself says the same, and we follow that */
    struct drive_option *file = NULL, *below_it = NULL, *d = new_drive(o, "-blockdev");
    if (!d) return -EINVAL;
    d->interface = DRIVE_NONE;
    d->keep = true; /* -snapshot is for the other options */
    if (!driver || !name) return refuse("-blockdev", driver ? "node-name" : "driver", "property missing");
    for (struct drive_option *e = o->drives; e < d; e++) {
        if (e->id && !strcmp(e->id, name)) return refuse("-blockdev", name, "a drive or node with that name exists");
        bool unused = e->id && e->interface == DRIVE_NONE && !e->taken;
        if (on && unused && !strcmp(e->id, on)) file = e;
        if (backing && unused && !strcmp(e->id, backing)) below_it = e;
    }
    bool plain = !strcmp(driver, "file") || !strcmp(driver, "host_device");
    if (!plain && !disk_format_parse(driver, &d->format)) return refuse("-blockdev", driver, "driver not supported");
    d->plain = plain;
    if (plain) d->format = DISK_RAW;
    if (below && strcmp(below, "file") && strcmp(below, "host_device"))
        return refuse("-blockdev", below, "driver not supported");
    if (on && !file) return refuse("-blockdev", on, "no such node, or it is in use");
    if (backing && *backing && !below_it) return refuse("-blockdev", backing, "no such node, or it is in use");
    if (below_it) {
        below_it->taken = true;
        free(below_it->file);
        below_it->file = NULL;
    }
    int err = take(&d->id, name);
    if (!err && file) {
        file->taken = true; /* it has no medium of its own any more */
        d->readonly = file->readonly;
        d->direct = file->direct;
        d->unsafe = file->unsafe;
        d->file = file->file;
        file->file = NULL;
        err = take(&d->below, on);
    } else if (!err) {
        if (!(plain ? path : inner)) return refuse("-blockdev", plain ? "filename" : "file", "property missing");
        err = take(&d->file, plain ? path : inner);
        if (!err && !plain) err = option_list_bool(l, "file.cache.direct", &d->direct);
        if (!err && !plain) err = option_list_bool(l, "file.read-only", &d->readonly);
    }
    for (size_t i = 0; i < ARRAY_LEN(ignored); i++) option_list_get(l, ignored[i]);
    if (!err) err = common_keys(d, l, "-blockdev");
    return err ? err : option_list_check(l);
}

int options_blockdev(struct options *o, const char *option, const char *text)
{
    (void)option;
    struct option_list l;
    int err = option_list_parse(&l, "-blockdev", text, "driver");
    if (err) return err;
    err = blockdev_keys(o, &l);
    option_list_free(&l);
    return err;
}

int options_drive_take(struct options *o, const char *option, const char *id, int *ref)
{
    for (int i = 0; i < o->drive_count; i++) {
        struct drive_option *d = &o->drives[i];
        if (!d->id || strcmp(d->id, id)) continue;
        if (d->interface != DRIVE_NONE || d->taken) return refuse(option, id, "the drive is in use");
        d->taken = true;
        *ref = i;
        return 0;
    }
    return refuse(option, id, "no such drive");
}

/* -device ide-hd and ide-cd: a drive with a place. */
int options_device_ide(struct options *o, struct option_list *l, const char *driver)
{
    char option[32];
    bool cdrom = !strcmp(driver, "ide-cd");
    const char *id = option_list_get(l, "drive"), *bus = option_list_get(l, "bus");
    const char *serial = option_list_get(l, "serial"), *model = option_list_get(l, "model");
    u64 unit = UINT64_MAX, bootindex = UINT64_MAX, channel = 0;
    struct drive_option *d;

    snprintf(option, sizeof(option), "-device %s", driver);
    int err = option_list_number(l, "unit", 1, &unit);
    if (!err) err = option_list_number(l, "bootindex", INT32_MAX, &bootindex);
    if (err) return err;
    if (id) {
        int ref;
        if ((err = options_drive_take(o, option, id, &ref))) return err;
        d = &o->drives[ref];
    } else if (cdrom) {
        if (!(d = new_drive(o, option))) return -EINVAL;
    } else {
        return refuse(option, "drive", "property missing");
    }
    if (!cdrom && !d->file) return refuse(option, id, "the drive is empty");
    if ((err = options_drive_errors(d, option, l))) return err;
    if (cdrom) d->cdrom = d->readonly = true;
    d->interface = DRIVE_IDE;
    d->index = -1;
    if (bus) {
        if (strncmp(bus, "ide.", 4) || !option_number(bus + 4, 1, &channel))
            return refuse(option, bus, "no such bus");
        d->first = (int)(2 * channel);
        d->last = d->first + 1;
        if (unit != UINT64_MAX) d->index = (int)(2 * channel + unit);
    } else if (unit != UINT64_MAX) {
        d->index = (int)unit;
    }
    if (bootindex != UINT64_MAX) d->bootindex = (int)bootindex;
    if (!(err = take(&d->serial, serial))) err = take(&d->model, model);
    return err;
}

/* -device floppy */
int options_device_floppy(struct options *o, struct option_list *l)
{
    const char *option = "-device floppy", *id = option_list_get(l, "drive"), *type = option_list_get(l, "drive-type");
    const char *bus = option_list_get(l, "bus");
    u64 unit = UINT64_MAX, bootindex = UINT64_MAX;
    struct drive_option *d;
    int ref, err = option_list_number(l, "unit", FDC_DRIVES - 1, &unit);
    if (!err) err = option_list_number(l, "bootindex", INT32_MAX, &bootindex);
    if (err) return err;
    if (bus && strcmp(bus, "floppy-bus.0")) return refuse(option, bus, "no such bus");
    if (type && strcmp(type, "auto")) return refuse(option, type, "drive-type not supported: the image decides");
    if (id) {
        if ((err = options_drive_take(o, option, id, &ref))) return err;
        d = &o->drives[ref];
    } else if (!(d = new_drive(o, option))) {
        return -EINVAL;
    }
    d->interface = DRIVE_FLOPPY;
    d->cdrom = false;
    d->index = unit == UINT64_MAX ? -1 : (int)unit;
    if (bootindex != UINT64_MAX) d->bootindex = (int)bootindex;
    return 0;
}

/* Places for drives that were not given one; -1 when all are taken. */
static int free_index(const struct options *o, const struct drive_option *d)
{
    int last = d->interface == DRIVE_FLOPPY   ? FDC_DRIVES - 1
               : d->interface == DRIVE_VIRTIO ? INT16_MAX
               : d->last                      ? d->last
                                              : IDE_DRIVES - 1;
    for (int index = d->first; index <= last; index++) {
        bool taken = false;
        for (int i = 0; i < o->drive_count; i++)
            taken |= o->drives[i].interface == d->interface && o->drives[i].index == index;
        if (!taken) return index;
    }
    return -1;
}

int options_drive_finish(struct options *o)
{
    bool have_cd = false;
    for (int i = 0; i < o->drive_count; i++) {
        struct drive_option *d = &o->drives[i];
        if (o->snapshot && !d->readonly && !d->keep) d->snapshot = true;
        if (d->interface == DRIVE_NONE) continue;
        have_cd |= d->cdrom && d->interface == DRIVE_IDE;
        if (d->index < 0 && (d->index = free_index(o, d)) < 0)
            return refuse(d->option, d->file ? d->file : "empty drive", "no place left on the controller");
        for (int k = 0; k < o->drive_count; k++) {
            const struct drive_option *e = &o->drives[k];
            if (e == d || e->interface != d->interface || e->index != d->index) continue;
            int units = d->interface == DRIVE_IDE ? 2 : INT16_MAX + 1; /* on a bus */
            fprintf(stderr, "calque: %s %s: there is a drive at bus=%d,unit=%d (index=%d) already\n",
                    d->option, d->file ? d->file : "", d->index / units, d->index % units, d->index);
            return -EINVAL;
        }
    }
    /* The board comes with a CD drive, master of the second channel. */
    struct drive_option probe = {.first = 2, .last = 2};
    if (!o->nodefaults && !have_cd && free_index(o, &probe) == 2) {
        struct drive_option *d = new_drive(o, "-cdrom");
        if (!d) return -EINVAL;
        d->interface = DRIVE_IDE;
        d->cdrom = d->readonly = true;
        d->index = 2;
    }
    return 0;
}

void options_drive_drop(struct options *o, int i)
{
    struct drive_option *d = &o->drives[i];
    char *const strings[] = {d->option, d->file, d->id, d->serial, d->model, d->below};
    for (size_t k = 0; k < ARRAY_LEN(strings); k++) free(strings[k]);
    memmove(d, d + 1, (size_t)(--o->drive_count - i) * sizeof(*d));
}

void options_drive_free(struct options *o)
{
    while (o->drive_count) options_drive_drop(o, o->drive_count - 1);
}
