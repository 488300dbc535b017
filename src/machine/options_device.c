/* -device and -object: which of them is whose. */
#define _GNU_SOURCE
#include "machine/options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Driver, bus. */
static const char *const devices[][2] = {
    {"AC97", "PCI"}, {"e1000", "PCI"}, {"rtl8139", "PCI"}, {"ne2k_pci", "PCI"}, {"piix3-usb-uhci", "PCI"}, {"usb-kbd", "usb-bus"},
    {"usb-mouse", "usb-bus"}, {"usb-tablet", "usb-bus"}, {"floppy", "floppy-bus"}, {"ide-cd", "IDE"}, {"ide-hd", "IDE"},
    {"isa-debug-exit", "ISA"}, {"isa-debugcon", "ISA"}, {"isa-parallel", "ISA"}, {"isa-serial", "ISA"}, {"pc-testdev", "ISA"},
    {"pci-testdev", "PCI"}, {"VGA", "PCI"}, {"virtio-blk-pci", "PCI"}, {"virtio-keyboard-pci", "PCI"},
    {"virtio-mouse-pci", "PCI"}, {"virtio-net-pci", "PCI"}, {"virtio-rng-pci", "PCI"}, {"virtio-tablet-pci", "PCI"},
};

const char *options_device_name(size_t i) { return i < ARRAY_LEN(devices) ? devices[i][0] : NULL; }

void options_device_list(void)
{
    /* In the form that scripts look for. */
    for (size_t i = 0; i < ARRAY_LEN(devices); i++) printf("name \"%s\", bus %s\n", devices[i][0], devices[i][1]);
}

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
        if (devfn != PCI_DEVFN(1, 2)) return option_bad("-device", driver, "it is at addr=1.2");
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
        if (!err && (base != 0x378 || irq != 7 || index))
            err = option_bad("-device", driver, "there is only port 0x378 with interrupt 7");
        if (!err && o->parallel >= 0) err = option_bad("-device", driver, "there is a parallel port already");
        if (!err && !id) err = option_bad("-device", driver, "property 'chardev' is missing");
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

int options_device(struct options *o, const char *text)
{
    struct option_list l;
    if (o->device_count == OPTIONS_DEVICES) return option_bad("-device", text, "too many devices"); /* -audio makes some, too */
    int err = option_list_parse(&l, "-device", text, "driver");
    if (err) return err;
    err = add_device(o, &l);
    option_list_free(&l);
    return err;
}

int options_object(struct options *o, const char *text)
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
