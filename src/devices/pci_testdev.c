/* The PCI test device, 1b36:0005: a memory BAR and an I/O BAR, each with a page of registers that describes a test
 * and counts the accesses to the address that the test names.
 *
 *     0x00  test number, written: selects and resets that test
 *     0x01  width of the accesses that count, bytes
 *     0x04  32 bits: offset of the address that counts
 *     0x08  32 bits: data that such a write must have
 *     0x0c  32 bits: accesses counted
 *     0x10  the test's name, zero terminated; empty: there is no such test
 *
 * Reference: [pci-testdev] the device's specification, which its drivers follow.
 * Leaves out: the variants without an exit to the device model, whose only difference is how a host implements them:
 * all tests behave alike here. */
#include "devices/pci_testdev.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_OFFSET 0x10
#define DATA_OFFSET 0x80 /* where the accesses that count go, behind the registers */
#define TESTS       3
#define NAME_SIZE   32
#define TEST_DATA   0xfa

/* One BAR's tests. */
struct bar_state {
    const char *kind;  /* "mmio" or "portio", the names' prefix */
    int test;          /* the selected one, -1: none */
    u32 count;         /* accesses counted */
};

struct pci_testdev {
    struct pci_device pci;      /* 1b36:0005; must stay first */
    struct bar_state memory;    /* BAR 0 */
    struct bar_state ports;     /* BAR 1 */
};

static void test_name(const struct bar_state *b, char name[NAME_SIZE])
{
    static const char *const variants[TESTS] = {"no-eventfd", "wildcard-eventfd", "datamatch-eventfd"};
    memset(name, 0, NAME_SIZE);
    if (b->test >= 0 && b->test < TESTS) snprintf(name, NAME_SIZE, "%s-%s", b->kind, variants[b->test]);
}

static u64 pci_testdev_read(void *opaque, u64 offset, unsigned size)
{
    const struct bar_state *b = opaque;
    u8 page[NAME_OFFSET + NAME_SIZE] = {0};
    bool exists = b->test >= 0 && b->test < TESTS;
    page[0] = (u8)b->test;
    page[1] = exists ? 1 : 0;
    pci_put32(page + 4, exists ? DATA_OFFSET : 0);
    pci_put32(page + 8, exists ? TEST_DATA : 0);
    pci_put32(page + 12, b->count);
    test_name(b, (char *)page + NAME_OFFSET);
    u64 value = 0;
    for (unsigned i = 0; i < size; i++)
        if (offset + i < sizeof(page)) value |= (u64)page[offset + i] << (8 * i);
    return value;
}

static void pci_testdev_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct bar_state *b = opaque;
    if (offset == 0) {
        b->test = (u8)value;
        b->count = 0;
    } else if (offset == DATA_OFFSET && size == 1 && b->test >= 0 && b->test < TESTS && value == TEST_DATA) {
        b->count++;
    }
}

static const struct region_ops ops = {
    .read = pci_testdev_read, .write = pci_testdev_write, .min_size = 1, .max_size = 4};

static void pci_testdev_reset(struct device *d)
{
    struct pci_testdev *t = (struct pci_testdev *)d;
    pci_device_reset(&t->pci);
    t->memory.test = t->ports.test = -1;
    t->memory.count = t->ports.count = 0;
}

static void pci_testdev_destroy(struct device *d)
{
    struct pci_testdev *t = (struct pci_testdev *)d;
    pci_device_destroy(&t->pci);
    free(t);
}

static const struct device_class class = {
    .name = "pci-testdev", .reset = pci_testdev_reset, .destroy = pci_testdev_destroy};

static const struct pci_info info = {.vendor = 0x1b36, .device = 0x0005, .class_code = 0x00ff00};

struct device *pci_testdev_create(struct pci_bus *pci, int devfn)
{
    struct pci_testdev *t = calloc(1, sizeof(*t));
    if (!t) {
        fprintf(stderr, "calque: pci-testdev: out of memory\n");
        return NULL;
    }
    t->memory.kind = "mmio";
    t->ports.kind = "portio";
    if (pci_device_init(&t->pci, pci, devfn, &info, &class) < 0) {
        free(t);
        return NULL;
    }
    pci_add_bar(&t->pci, 0, PCI_BAR_MEM32, 0x1000, "pci-testdev-mmio", &ops, &t->memory);
    pci_add_bar(&t->pci, 1, PCI_BAR_IO, 0x100, "pci-testdev-portio", &ops, &t->ports);
    pci_testdev_reset(&t->pci.dev);
    return &t->pci.dev;
}
