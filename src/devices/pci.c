/* A conventional PCI bus behind configuration mechanism #1.
 *
 * Models one bus (number 0) with 32 slots of 8 functions, type 0 headers, memory and I/O BARs, expansion
 * ROMs, the INTx wires and the capability list. MSI and MSI-X are in pci_msi.c.
 *
 * Leaves out: PCI-to-PCI bridges (buses 1..255 are empty), parity and system errors (no device raises
 * them), latency timers and cache line effects (storable, without effect), special cycles.
 *
 * References: [PCI3] PCI Local Bus Specification 3.0; [440FX] Intel 82441FX data sheet. */
#include "devices/pci.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "devices/pci_msi.h"

#define ADDRESS_ENABLE 0x80000000u /* CONFADD bit 31: accesses to 0xcfc become configuration cycles */
#define ADDRESS_MASK   0x80fffffcu /* the rest of CONFADD is reserved and reads zero [440FX] */

struct pci_bus {
    struct bus *memory;                 /* memory space: BARs and DMA */
    struct bus *ports;                  /* I/O space */
    struct region *config_ports;        /* 0xcf8-0xcff */
    struct pci_device *devices[256];    /* by devfn */
    u32 address;                        /* CONFADD */
    int pirq_count[4];                  /* how many pins assert each wire */
    void (*set_pirq)(void *, int, int); /* receiver of the wires */
    void *pirq_opaque;                  /* its own pointer */
    void (*msi)(void *, u64, u32);      /* receiver of MSIs */
    void *msi_opaque;                   /* its own pointer */
    u8 (*rcr_read)(void *);             /* port 0xcf9 */
    void (*rcr_write)(void *, u8);      /* port 0xcf9 */
    void *rcr_opaque;                   /* their own pointer */
};

/* ---- interrupt wires ---- */

int pci_pirq_of(int devfn, int pin)
{
    /* Slot 1 is the south bridge, whose INTA# is PIRQA#; each slot further rotates by one. */
    return ((devfn >> 3) - 1 + (pin - 1)) & 3;
}

static void update_irq(struct pci_device *d)
{
    bool disabled = pci_get16(d->config + PCI_COMMAND) & PCI_COMMAND_INTX_OFF;
    bool level = d->irq_level && !disabled;
    struct pci_bus *b = d->bus;
    int pin = d->config[PCI_INTERRUPT_PIN];

    /* The status bit tells what the device wants, whether or not INTx is disabled [PCI3] 6.2.3. */
    if (d->irq_level)
        d->config[PCI_STATUS] |= PCI_STATUS_INTX;
    else
        d->config[PCI_STATUS] &= (u8)~PCI_STATUS_INTX;
    if (level == d->irq_on_bus || pin < 1 || pin > 4) return;
    d->irq_on_bus = level;

    int pirq = pci_pirq_of(d->devfn, pin);
    int before = b->pirq_count[pirq];
    b->pirq_count[pirq] += level ? 1 : -1;
    if (b->set_pirq && (before == 0 || b->pirq_count[pirq] == 0)) b->set_pirq(b->pirq_opaque, pirq, level);
}

void pci_set_irq(struct pci_device *d, int level)
{
    d->irq_level = level != 0;
    update_irq(d);
}

/* ---- BARs ---- */

static unsigned bar_offset(int index)
{
    return index == PCI_ROM_INDEX ? PCI_ROM_BAR : PCI_BAR0 + 4 * (unsigned)index;
}

bool pci_bar_address(const struct pci_device *d, int index, u64 *address)
{
    const struct pci_bar *bar = &d->bar[index];
    u16 command = pci_get16(d->config + PCI_COMMAND);
    u64 value = pci_get32(d->config + bar_offset(index));

    if (!bar->size) return false;
    if (!(command & (bar->flags & PCI_BAR_IO ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY))) return false;
    if (index == PCI_ROM_INDEX && !(value & 1)) return false;
    if (bar->flags & PCI_BAR_MEM64) value |= (u64)pci_get32(d->config + bar_offset(index) + 4) << 32;
    value &= ~(bar->size - 1);
    /* Zero is how a BAR says that nobody placed it. I/O addresses beyond 64 KiB cannot be reached. */
    if (value == 0 || value >> 52) return false;
    if (bar->flags & PCI_BAR_IO && value + bar->size > 0x10000) return false;
    *address = value;
    return true;
}

static void update_bars(struct pci_device *d)
{
    struct pci_bus *b = d->bus;
    bus_begin_update(b->memory);
    bus_begin_update(b->ports);
    for (int i = 0; i < (int)ARRAY_LEN(d->bar); i++) {
        struct region *r = d->bar[i].region;
        u64 address;
        if (!r) continue;
        if (!pci_bar_address(d, i, &address)) {
            if (region_enabled(r)) region_set_enabled(r, false);
            continue;
        }
        if (region_base(r) != address) region_set_base(r, address);
        if (!region_enabled(r)) region_set_enabled(r, true);
    }
    bus_end_update(b->ports);
    bus_end_update(b->memory);
}

/* Registers of a BAR: type bits fixed, address bits above the size writable. */
static void init_bar(struct pci_device *d, int index, u8 flags, u64 size, struct region *region)
{
    unsigned offset = bar_offset(index);
    u64 mask = ~(size - 1);

    assert(size >= 4 && (size & (size - 1)) == 0 && d->bar[index].size == 0);
    d->bar[index] = (struct pci_bar){.region = region, .size = size, .flags = flags};
    if (region) region_set_enabled(region, false);
    pci_put32(d->config + offset, flags);
    pci_put32(d->wmask + offset, (u32)mask);
    if (flags & PCI_BAR_MEM64) {
        assert(index < 5);
        pci_put32(d->wmask + offset + 4, (u32)(mask >> 32));
    }
    if (index == PCI_ROM_INDEX) {
        pci_put32(d->config + offset, 0);
        pci_put32(d->wmask + offset, (u32)mask | 1); /* bit 0: ROM decode enable */
    }
}

struct region *pci_add_bar(struct pci_device *d, int index, u8 flags, u64 size, const char *name,
                           const struct region_ops *ops, void *opaque)
{
    struct bus *space = flags & PCI_BAR_IO ? d->bus->ports : d->bus->memory;
    bus_begin_update(space);
    struct region *r = bus_add(space, name, 0, size, PCI_BAR_PRIORITY, ops, opaque);
    init_bar(d, index, flags, size, r);
    bus_end_update(space);
    return r;
}

struct region *pci_add_bar_ram(struct pci_device *d, int index, u8 flags, u64 size, const char *name,
                               struct ram *ram, u64 ram_offset)
{
    bus_begin_update(d->bus->memory);
    struct region *r = bus_add_ram(d->bus->memory, name, 0, size, PCI_BAR_PRIORITY, ram, ram_offset, false);
    init_bar(d, index, flags, size, r);
    bus_end_update(d->bus->memory);
    return r;
}

/* Firmware runs an image only on the device that it names, and one image may serve several. The checksum is over the
 * whole image [PCI3] 6.3.1, so an unused byte of its header makes up for the change. */
static void adopt_rom(const struct pci_device *d, u8 *rom, size_t size)
{
    size_t data = size >= 0x1a ? pci_get16(rom + 0x18) : size;
    if (data + 8 > size || pci_get16(rom) != 0xaa55 || memcmp(rom + data, "PCIR", 4)) return;
    for (size_t i = 0; i < 4; i++) {
        u8 id = d->config[PCI_VENDOR_ID + i];
        rom[6] = (u8)(rom[6] + rom[data + 4 + i] - id);
        rom[data + 4 + i] = id;
    }
}

void pci_add_rom(struct pci_device *d, const char *name, struct ram *ram, const void *image, size_t size)
{
    u64 rounded = GUEST_PAGE_SIZE;
    while (rounded < size)
        rounded <<= 1;

    u64 offset = ram_alloc(ram, rounded);
    memcpy(ram->host + offset, image, size);
    adopt_rom(d, ram->host + offset, size);
    bus_begin_update(d->bus->memory);
    struct region *r = bus_add_ram(d->bus->memory, name, 0, rounded, PCI_BAR_PRIORITY, ram, offset, true);
    init_bar(d, PCI_ROM_INDEX, PCI_BAR_MEM32, rounded, r);
    bus_end_update(d->bus->memory);
}

/* ---- capabilities ---- */

u8 pci_add_capability(struct pci_device *d, u8 id, u8 offset, u8 size)
{
    if (!offset) offset = (u8)d->cap_end;
    assert(offset >= PCI_HEADER_SIZE && offset % 4 == 0 && offset + size <= 256);
    if (d->cap_end < offset + size) d->cap_end = (u16)((offset + size + 3) & ~3);
    d->config[offset] = id;
    d->config[offset + 1] = d->config[PCI_CAP_POINTER];
    d->config[PCI_CAP_POINTER] = offset;
    d->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
    return offset;
}

/* ---- configuration cycles ---- */

u32 pci_bus_config_read(struct pci_bus *b, int devfn, unsigned offset, unsigned size)
{
    struct pci_device *d = b->devices[devfn & 0xff];
    u32 value = 0;

    if (!d) return size == 4 ? 0xffffffffu : (1u << size * 8) - 1; /* master abort */
    if (d->info->config_reading) d->info->config_reading(d, offset, size);
    for (unsigned i = 0; i < size && offset + i < 256; i++)
        value |= (u32)d->config[offset + i] << i * 8;
    return value;
}

void pci_bus_config_write(struct pci_bus *b, int devfn, unsigned offset, u32 value, unsigned size)
{
    struct pci_device *d = b->devices[devfn & 0xff];
    u8 old[256];

    if (!d) return;
    memcpy(old, d->config, sizeof old);
    for (unsigned i = 0; i < size && offset + i < 256; i++) {
        unsigned o = offset + i;
        u8 byte = (u8)(value >> i * 8);
        d->config[o] = (u8)((d->config[o] & ~d->wmask[o]) | (byte & d->wmask[o]));
        d->config[o] &= (u8) ~(byte & d->w1cmask[o]);
    }
    /* One range test for everything the header moves: the command register and all BARs. */
    if (offset < PCI_ROM_BAR + 4 && offset + size > PCI_COMMAND && memcmp(old, d->config, PCI_HEADER_SIZE)) {
        update_irq(d);
        update_bars(d);
    }
    pci_msi_config_written(d);
    if (d->info->config_written) d->info->config_written(d, offset, size, old);
}

static u64 port_read(void *opaque, u64 offset, unsigned size)
{
    struct pci_bus *b = opaque;

    if (offset == 0 && size == 4) return b->address;
    if (offset < 4) {
        /* Anything but a dword at 0xcf8 is an ordinary I/O cycle [PCI3] 3.2.2.3.2, and only the reset
         * control register lives there. */
        if (offset == 1 && size == 1 && b->rcr_read) return b->rcr_read(b->rcr_opaque);
        return ~0ull;
    }
    if (!(b->address & ADDRESS_ENABLE)) return ~0ull;
    if (b->address & 0x00ff0000) return ~0ull; /* no bridge forwards to another bus: master abort */
    return pci_bus_config_read(b, b->address >> 8 & 0xff, (b->address & 0xfc) + (unsigned)(offset & 3), size);
}

static void port_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct pci_bus *b = opaque;

    if (offset == 0 && size == 4) {
        b->address = (u32)value & ADDRESS_MASK;
    } else if (offset < 4) {
        if (offset == 1 && size == 1 && b->rcr_write) b->rcr_write(b->rcr_opaque, (u8)value);
    } else if ((b->address & ADDRESS_ENABLE) && !(b->address & 0x00ff0000)) {
        pci_bus_config_write(b, b->address >> 8 & 0xff, (b->address & 0xfc) + (unsigned)(offset & 3),
                             (u32)value, size);
    }
}

static const struct region_ops port_ops = {
    .read = port_read, .write = port_write, .min_size = 1, .max_size = 4};

/* ---- the bus ---- */

struct pci_bus *pci_bus_create(struct bus *memory, struct bus *ports)
{
    struct pci_bus *b = calloc(1, sizeof *b);
    if (!b) {
        fprintf(stderr, "calque: pci: out of memory\n");
        return NULL;
    }
    b->memory = memory;
    b->ports = ports;
    b->config_ports = bus_add(ports, "pci-config", 0xcf8, 8, 0, &port_ops, b);
    return b;
}

void pci_bus_destroy(struct pci_bus *b)
{
    region_remove(b->config_ports);
    free(b);
}

struct bus *pci_bus_memory(struct pci_bus *b) { return b->memory; }
struct bus *pci_bus_ports(struct pci_bus *b) { return b->ports; }
struct pci_device *pci_bus_device(struct pci_bus *b, int devfn) { return b->devices[devfn & 0xff]; }
void pci_bus_reset(struct pci_bus *b) { b->address = 0; }

void pci_bus_set_pirq_handler(struct pci_bus *b, void (*set)(void *opaque, int pirq, int level), void *opaque)
{
    b->set_pirq = set;
    b->pirq_opaque = opaque;
}

void pci_bus_set_msi_handler(struct pci_bus *b, void (*msi)(void *opaque, u64 address, u32 data),
                             void *opaque)
{
    b->msi = msi;
    b->msi_opaque = opaque;
}

void pci_bus_set_reset_control(struct pci_bus *b, u8 (*read)(void *opaque),
                               void (*write)(void *opaque, u8 value), void *opaque)
{
    b->rcr_read = read;
    b->rcr_write = write;
    b->rcr_opaque = opaque;
}

void pci_bus_msi(struct pci_bus *b, u64 address, u32 data)
{
    if (b->msi)
        b->msi(b->msi_opaque, address, data);
    else
        bus_write(b->memory, address, data, 4);
}

/* ---- devices ---- */

int pci_device_init(struct pci_device *d, struct pci_bus *bus, int devfn, const struct pci_info *info,
                    const struct device_class *cls)
{
    if (devfn < 0) {
        /* Slots 0 and 1 are the chipset. A slot is free when none of its functions is taken. */
        for (int slot = 2; slot < 32 && devfn < 0; slot++) {
            bool taken = false;
            for (int f = 0; f < 8; f++)
                taken |= bus->devices[PCI_DEVFN(slot, f)] != NULL;
            if (!taken) devfn = PCI_DEVFN(slot, 0);
        }
        if (devfn < 0) {
            fprintf(stderr, "calque: pci: no free slot for %s\n", cls->name);
            return -ENOSPC;
        }
    }
    if (devfn > 255 || bus->devices[devfn]) {
        fprintf(stderr, "calque: pci: %s: address %02x.%x is taken or does not exist\n", cls->name,
                devfn >> 3, devfn & 7);
        return -EBUSY;
    }
    d->dev.cls = cls;
    d->bus = bus;
    d->info = info;
    d->devfn = devfn;
    d->cap_end = PCI_HEADER_SIZE;
    bus->devices[devfn] = d;

    u8 *c = d->config;
    pci_put16(c + PCI_VENDOR_ID, info->vendor);
    pci_put16(c + PCI_DEVICE_ID, info->device);
    c[PCI_REVISION] = info->revision;
    c[PCI_PROG_IF] = (u8)info->class_code;
    c[PCI_SUBCLASS] = (u8)(info->class_code >> 8);
    c[PCI_CLASS] = (u8)(info->class_code >> 16);
    c[PCI_HEADER_TYPE] = info->multifunction ? 0x80 : 0;
    c[PCI_INTERRUPT_PIN] = info->interrupt_pin;
    if (!info->no_subsystem) {
        bool own = info->subsystem_vendor != 0;
        pci_put16(c + PCI_SUBSYSTEM_VENDOR, own ? info->subsystem_vendor : PCI_SUBSYSTEM_VENDOR_CALQUE);
        pci_put16(c + PCI_SUBSYSTEM_ID, own ? info->subsystem_id : PCI_SUBSYSTEM_ID_CALQUE);
    }

    /* I/O, memory, master, parity response, SERR# enable, INTx disable; the rest is hardwired to zero. */
    pci_put16(d->wmask + PCI_COMMAND, 0x0547);
    pci_put16(d->w1cmask + PCI_STATUS, 0xf900);
    d->wmask[PCI_CACHE_LINE] = 0xff;
    d->wmask[PCI_LATENCY] = 0xff;
    d->wmask[PCI_INTERRUPT_LINE] = 0xff;
    return 0;
}

void pci_device_destroy(struct pci_device *d)
{
    pci_set_irq(d, 0);
    pci_msi_destroy(d);
    for (int i = 0; i < (int)ARRAY_LEN(d->bar); i++)
        if (d->bar[i].region) region_remove(d->bar[i].region);
    d->bus->devices[d->devfn] = NULL;
}

void pci_device_reset(struct pci_device *d)
{
    pci_set_irq(d, 0);
    pci_put16(d->config + PCI_COMMAND, 0);
    d->config[PCI_STATUS + 1] &= (u8)~0xf9; /* the error bits; timing bits are hardwired */
    d->config[PCI_CACHE_LINE] = 0;
    d->config[PCI_LATENCY] = 0;
    d->config[PCI_INTERRUPT_LINE] = 0;
    for (int i = 0; i < (int)ARRAY_LEN(d->bar); i++) {
        if (!d->bar[i].size) continue;
        pci_put32(d->config + bar_offset(i), i == PCI_ROM_INDEX ? 0 : d->bar[i].flags);
        if (d->bar[i].flags & PCI_BAR_MEM64) pci_put32(d->config + bar_offset(i) + 4, 0);
    }
    pci_msi_reset(d);
    update_bars(d);
}

/* ---- bus mastering ---- */

static bool may_master(const struct pci_device *d)
{
    if (pci_get16(d->config + PCI_COMMAND) & PCI_COMMAND_MASTER) return true;
    log_printf(LOG_GUEST_ERROR, "pci %02x.%x: DMA with bus mastering off\n", d->devfn >> 3, d->devfn & 7);
    return false;
}

bool pci_dma_read(struct pci_device *d, gpa address, void *buf, u64 size)
{
    if (!may_master(d)) return false;
    bus_read_block(d->bus->memory, address, buf, size);
    return true;
}

bool pci_dma_write(struct pci_device *d, gpa address, const void *buf, u64 size)
{
    if (!may_master(d)) return false;
    bus_write_block(d->bus->memory, address, buf, size);
    return true;
}
