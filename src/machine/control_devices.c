/* Commands about devices and back ends, as lists. */
#include "machine/control.h"

#include <stdio.h>

#include "devices/pci.h"
#include "host/chardev_open.h"
#include "machine/machine.h"

/* ---- PCI ---- */

/* [PCI3] appendix D, as far as boards have it. */
static const char *class_name(unsigned class)
{
    static const struct {
        unsigned class;
        const char *name;
    } names[] = {
        {0x0000, "Non-VGA unclassified device"}, {0x0100, "SCSI controller"}, {0x0101, "IDE controller"},
        {0x0106, "SATA controller"}, {0x0200, "Ethernet controller"}, {0x0300, "VGA controller"},
        {0x0401, "Audio controller"}, {0x0600, "Host bridge"}, {0x0601, "ISA bridge"}, {0x0604, "PCI bridge"},
        {0x0680, "Bridge"}, {0x0780, "Communication controller"}, {0x0c03, "USB controller"},
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (names[i].class == class) return names[i].name;
    return NULL;
}

static json_t *pci_regions(const struct pci_device *d)
{
    json_t *list = json_array();
    for (int i = 0; i < (int)ARRAY_LEN(d->bar); i++) {
        const struct pci_bar *bar = &d->bar[i];
        u64 address;
        if (!bar->region) continue;
        bool io = bar->flags & PCI_BAR_IO;
        json_int_t at = pci_bar_address(d, i, &address) ? (json_int_t)address : -1;
        json_t *region = json_pack("{sisssIsI}", "bar", i, "type", io ? "io" : "memory", "address", at, "size",
                                   (json_int_t)bar->size);
        if (!io) {
            json_object_set_new(region, "prefetch", json_boolean(bar->flags & PCI_BAR_PREFETCH));
            json_object_set_new(region, "mem_type_64", json_boolean(bar->flags & PCI_BAR_MEM64));
        }
        json_array_append_new(list, region);
    }
    return list;
}

static json_t *pci_device_info(const struct pci_device *d)
{
    const u8 *c = d->config;
    unsigned class = pci_get16(c + PCI_SUBCLASS);
    json_t *info = json_pack("{sisisi}", "bus", 0, "slot", d->devfn >> 3, "function", d->devfn & 7);
    json_t *class_info = json_pack("{si}", "class", class);
    if (class_name(class)) json_object_set_new(class_info, "desc", json_string(class_name(class)));
    json_object_set_new(info, "class_info", class_info);
    json_t *id = json_pack("{sisi}", "device", pci_get16(c + PCI_DEVICE_ID), "vendor", pci_get16(c + PCI_VENDOR_ID));
    json_object_set_new(id, "subsystem", json_integer(pci_get16(c + PCI_SUBSYSTEM_ID)));
    json_object_set_new(id, "subsystem-vendor", json_integer(pci_get16(c + PCI_SUBSYSTEM_VENDOR)));
    json_object_set_new(info, "id", id);
    if (c[PCI_INTERRUPT_PIN]) json_object_set_new(info, "irq", json_integer(c[PCI_INTERRUPT_LINE]));
    json_object_set_new(info, "irq_pin", json_integer(c[PCI_INTERRUPT_PIN]));
    json_object_set_new(info, "qdev_id", json_string(""));
    json_object_set_new(info, "regions", pci_regions(d));
    return info;
}

static json_t *query_pci(struct machine *m, json_t *args, struct control_error *e)
{
    json_t *devices = json_array();
    (void)args;
    (void)e;
    for (int devfn = 0; devfn < 256; devfn++) {
        const struct pci_device *d = pci_bus_device(pc_pci(m), devfn);
        if (d) json_array_append_new(devices, pci_device_info(d));
    }
    return json_pack("[{siso}]", "bus", 0, "devices", devices);
}

/* ---- character devices ---- */

static json_t *query_chardev(struct machine *m, json_t *args, struct control_error *e)
{
    json_t *list = json_array();
    (void)args;
    (void)e;
    for (int i = 0; i < m->options->chardev_count; i++) {
        const struct chardev_config *c = &m->options->chardevs[i];
        char text[256];
        const char *terminal = m->chardevs[i] ? chardev_pty_path(m->chardevs[i]) : NULL;
        chardev_describe(c, text, sizeof(text));
        if (terminal) snprintf(text, sizeof(text), "pty:%s", terminal);
        json_array_append_new(list, json_pack("{sssssb}", "label", c->label, "filename", text, "frontend-open",
                                              m->options->chardev_used[i]));
    }
    return list;
}

static json_t *query_chardev_backends(struct machine *m, json_t *args, struct control_error *e)
{
    static const char *const names[] = {"file", "null", "pipe", "pty", "serial-pty", "socket", "stdio"};
    json_t *list = json_array();
    (void)m;
    (void)args;
    (void)e;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) json_array_append_new(list, json_pack("{ss}", "name", names[i]));
    return list;
}

const struct control_command control_devices[] = {
    {"query-pci", "", query_pci},
    {"query-chardev", "", query_chardev},
    {"query-chardev-backends", "", query_chardev_backends},
    {0},
};
