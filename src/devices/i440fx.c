/* The 82441FX (440FX) host bridge.
 *
 * Models the two places where guests and firmware feel it: the programmable attribute map (PAM), which for
 * 13 segments of 0xc0000-0xfffff sends reads and writes to DRAM or to PCI (where the BIOS ROM answers), and
 * the SMRAM register's open window at 0xa0000. It also owns the layout of DRAM in the address space.
 *
 * Leaves out: DRAM timing, row boundary and error registers (storable, without effect; firmware is told the
 * memory size by fw_cfg and CMOS), system management mode itself, the AGP-less bridge's turbo and latency
 * knobs.
 *
 * Reference: [440FX] Intel 82441FX PCI and Memory Controller data sheet, the PAM and SMRAM registers. */
#include "devices/i440fx.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAM0  0x59 /* .. PAM6 0x5f */
#define PAM6  0x5f
#define SMRAM 0x72

#define PAM_READ  1
#define PAM_WRITE 2

#define SMRAM_OPEN   0x40 /* D_OPEN: the window shows DRAM to everybody */
#define SMRAM_CLOSED 0x20 /* D_CLS: data accesses go to PCI even then */
#define SMRAM_LOCK   0x10 /* D_LCK: this register is read-only until reset */
#define SMRAM_ENABLE 0x08 /* G_SMRAME */
#define SMRAM_BASE   0x02 /* C_BASE_SEG, hardwired to 0xa0000 */

#define HOLE_LIMIT 0xe0000000u /* as much DRAM and more than this is cut at HOLE_START */
#define HOLE_START 0xc0000000u
#define HIGH_BASE  0x100000000ull

/* Segment 0 is 0xf0000-0xfffff (64 KiB, PAM0 high nibble); 1..12 are the 16 KiB pieces from 0xc0000. */
#define SEGMENTS 13

struct i440fx {
    struct pci_device pci;           /* 00:00.0 */
    u64 ram_offset;                  /* of address 0 */
    struct region *low;              /* DRAM 0-0x9ffff */
    struct region *main;             /* DRAM from 1 MiB to the hole; NULL when there is none */
    struct region *high;             /* DRAM from 4 GiB; NULL when there is none */
    struct region *shadow[SEGMENTS]; /* DRAM behind each PAM segment */
    struct region *smram;            /* DRAM at 0xa0000-0xbffff */
};

u64 i440fx_low_size(u64 ram_size)
{
    /* A guest-visible layout that firmware and snapshots of other tools agree on: 3.5 GiB and more leaves
     * a 1 GiB hole, anything less is not cut. */
    return ram_size >= HOLE_LIMIT ? HOLE_START : ram_size;
}

static u8 segment_attributes(const struct i440fx *h, int segment)
{
    /* Each PAM register holds two segments, the lower address in the low nibble; PAM0 has only the BIOS
     * segment, in the high one. */
    if (segment == 0) return h->pci.config[PAM0] >> 4 & 3;
    u8 reg = h->pci.config[PAM0 + (segment + 1) / 2];
    return segment % 2 ? reg & 3 : reg >> 4 & 3;
}

static void update_map(struct i440fx *h)
{
    struct bus *memory = pci_bus_memory(h->pci.bus);
    u8 smram = h->pci.config[SMRAM];

    bus_begin_update(memory);
    for (int i = 0; i < SEGMENTS; i++) {
        u8 attributes = segment_attributes(h, i);
        region_set_access(h->shadow[i], attributes & PAM_READ, attributes & PAM_WRITE);
    }
    /* There is no system management mode, so only D_OPEN shows the window. DEVIATION: D_CLS keeps data
     * accesses on PCI but lets code fetches through; here it closes the window for both. */
    region_set_enabled(h->smram,
                       (smram & (SMRAM_OPEN | SMRAM_CLOSED | SMRAM_ENABLE)) == (SMRAM_OPEN | SMRAM_ENABLE));
    bus_end_update(memory);
}

static void config_written(struct pci_device *d, unsigned offset, unsigned size, const u8 *old)
{
    struct i440fx *h = (struct i440fx *)d;

    if (offset <= SMRAM && offset + size > SMRAM) {
        u8 *reg = &d->config[SMRAM];
        if (old[SMRAM] & SMRAM_LOCK)
            *reg = old[SMRAM];
        else if (*reg & SMRAM_LOCK)
            *reg &= (u8)~SMRAM_OPEN; /* locking closes */
    }
    if (memcmp(old + PAM0, d->config + PAM0, 7) || old[SMRAM] != d->config[SMRAM]) update_map(h);
}

static void i440fx_reset(struct device *d)
{
    struct i440fx *h = (struct i440fx *)d;
    u8 *c = h->pci.config;

    pci_device_reset(&h->pci);
    memset(c + PCI_HEADER_SIZE, 0, sizeof h->pci.config - PCI_HEADER_SIZE);
    pci_put16(c + PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER); /* hardwired */
    pci_put16(c + PCI_STATUS, 0x0280); /* medium DEVSEL#, fast back-to-back */
    c[SMRAM] = SMRAM_BASE;
    update_map(h);
}

static void i440fx_destroy(struct device *d)
{
    struct i440fx *h = (struct i440fx *)d;

    region_remove(h->low);
    if (h->main) region_remove(h->main);
    if (h->high) region_remove(h->high);
    for (int i = 0; i < SEGMENTS; i++)
        region_remove(h->shadow[i]);
    region_remove(h->smram);
    pci_device_destroy(&h->pci);
    free(h);
}

static const struct device_class i440fx_class = {
    .name = "i440fx", .reset = i440fx_reset, .destroy = i440fx_destroy};

static const struct pci_info i440fx_info = {
    .vendor = 0x8086,
    .device = 0x1237,
    .revision = 2,
    .class_code = 0x060000,
    .config_written = config_written,
};

struct i440fx *i440fx_create(struct pci_bus *pci, struct ram *ram, u64 ram_size)
{
    struct bus *memory = pci_bus_memory(pci);
    struct i440fx *h = calloc(1, sizeof *h);
    u64 low_size = i440fx_low_size(ram_size);

    assert(ram_size >= 0x100000 && (ram_size & GUEST_PAGE_MASK) == 0);
    if (!h) {
        fprintf(stderr, "calque: i440fx: out of memory\n");
        return NULL;
    }
    if (pci_device_init(&h->pci, pci, PCI_DEVFN(0, 0), &i440fx_info, &i440fx_class) < 0) {
        free(h);
        return NULL;
    }
    pci_put16(h->pci.wmask + PCI_COMMAND, 0x0100); /* SERR# enable is the only bit that is not hardwired */
    memset(h->pci.wmask + PCI_HEADER_SIZE, 0xff, sizeof h->pci.wmask - PCI_HEADER_SIZE);
    h->pci.wmask[PAM0] = 0x30;
    memset(h->pci.wmask + PAM0 + 1, 0x33, PAM6 - PAM0);
    h->pci.wmask[SMRAM] = SMRAM_OPEN | SMRAM_CLOSED | SMRAM_LOCK | SMRAM_ENABLE;

    u64 at = h->ram_offset = ram_alloc(ram, low_size);
    bus_begin_update(memory);
    h->low = bus_add_ram(memory, "dram-low", 0, 0xa0000, I440FX_PRIORITY_DRAM, ram, at, false);
    h->smram =
        bus_add_ram(memory, "smram", 0xa0000, 0x20000, I440FX_PRIORITY_SHADOW, ram, at + 0xa0000, false);
    for (int i = 0; i < SEGMENTS; i++) {
        u64 base = i == 0 ? 0xf0000 : 0xc0000 + (u64)(i - 1) * 0x4000;
        u64 size = i == 0 ? 0x10000 : 0x4000;
        h->shadow[i] =
            bus_add_ram(memory, "shadow", base, size, I440FX_PRIORITY_SHADOW, ram, at + base, false);
    }
    if (low_size > 0x100000)
        h->main = bus_add_ram(memory, "dram", 0x100000, low_size - 0x100000, I440FX_PRIORITY_DRAM, ram,
                              at + 0x100000, false);
    if (ram_size > low_size) {
        u64 high_size = ram_size - low_size;
        h->high = bus_add_ram(memory, "dram-high", HIGH_BASE, high_size, I440FX_PRIORITY_DRAM, ram,
                              ram_alloc(ram, high_size), false);
    }
    i440fx_reset(&h->pci.dev);
    bus_end_update(memory);
    return h;
}

struct device *i440fx_device(struct i440fx *h) { return &h->pci.dev; }
u64 i440fx_ram_offset(const struct i440fx *h) { return h->ram_offset; }
