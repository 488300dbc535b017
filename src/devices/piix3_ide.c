/* Function 1 of the 82371SB (PIIX3): the PCI IDE controller, two channels in compatibility mode at their ISA
 * ports and interrupts, with a bus master for each.
 *
 * Models the decode enables of IDETIM, the six bus master registers of each channel and their scatter/gather
 * tables. Leaves out timing: the rest of IDETIM and SIDETIM is storage.
 *
 * DEVIATION: the decode enables are set after reset, where the chip has them clear. UEFI firmware for this board
 * relies on that, and otherwise waits for minutes for drives that seem busy.
 *
 * [PIIX3] Intel 82371FB/82371SB data sheet, 2.3 and 2.6; [BMIDE] Programming Interface for Bus Master IDE
 * Controller, revision 1.0. */
#include "devices/piix3_ide.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/ide_drive.h"

#define IDETIM        0x40   /* one word per channel */
#define IDETIM_DECODE 0x8000 /* the channel's ports answer */
#define SIDETIM       0x44

/* Bus master registers, offsets from BMIBA; the secondary channel's are 8 up. */
#define BMICOM     0
#define BMISTA     2
#define BMIDTP     4
#define COM_START  0x01 /* SSBM: start */
#define COM_READ   0x08 /* RWCON: to memory */
#define STA_ACTIVE 0x01
#define STA_ERROR  0x02
#define STA_IRQ    0x04
#define STA_DRIVES 0x60 /* firmware's note that drives can do DMA */
#define PRD_END    0x80000000u

struct bus_master {
    struct piix3_ide *ide; /* whose */
    int channel;           /* 0 or 1 */
    u8 command, status;    /* BMICOM, BMISTA */
    u32 table;             /* BMIDTP */
    u32 prd;               /* address of the next table entry */
    u32 address, count;    /* what is left of the current one */
    bool last;             /* it ends the table */
};

struct piix3_ide {
    struct pci_device pci;         /* 00:01.1; must stay first */
    struct ide_channel channel[2]; /* primary, secondary */
    struct bus_master master[2];   /* likewise */
};

/* ---- bus master ---- */

/* The next table entry, when there is need for one. False: no bus for us. */
static bool next_entry(struct bus_master *m)
{
    u8 entry[8];
    if (m->count) return true;
    if (!pci_dma_read(&m->ide->pci, m->prd, entry, sizeof(entry))) return false;
    u32 length = pci_get32(entry + 4);
    m->prd += sizeof(entry);
    m->address = pci_get32(entry) & ~1u;
    m->count = length & 0xfffe;
    if (!m->count) m->count = 0x10000;
    m->last = length & PRD_END;
    return true;
}

/* A drive that wants more waits for ever [BMIDE] 2.0. */
static void table_ends(struct bus_master *m)
{
    if (!m->count && m->last) m->status &= (u8)~STA_ACTIVE;
}

static int master_find(void *opaque, struct iovec *pieces, unsigned *count, struct ram **ram, size_t size, bool to_memory)
{
    struct bus_master *master = opaque, copy = *master, *m = &copy;
    struct bus_span span = {.first = 1, .last = 0};
    size_t done = 0;
    *count = 0;
    if (!(m->status & STA_ACTIVE) || to_memory != !!(m->command & COM_READ)) return 0;
    while (done < size && *count < IDE_PIECES && !(!m->count && m->last)) {
        if (!next_entry(m)) return done ? -1 : 0;
        if ((m->address < span.first || m->address > span.last) &&
            (!bus_ram_span(pci_bus_memory(m->ide->pci.bus), m->address, &span) || (done && span.ram != *ram)))
            return -1;
        u32 n = (u32)MIN(MIN((u64)m->count, size - done), span.last - m->address + 1);
        u8 *host = span.host + (m->address - span.first);
        struct iovec *last = *count ? &pieces[*count - 1] : NULL;
        if (last && (u8 *)last->iov_base + last->iov_len == host)
            last->iov_len += n;
        else
            pieces[(*count)++] = (struct iovec){.iov_base = host, .iov_len = n};
        *ram = span.ram;
        done += n;
        m->address += n;
        m->count -= n;
    }
    size_t odd = done % IDE_SECTOR;
    if (odd) return done == odd ? -1 : master_find(master, pieces, count, ram, done - odd, to_memory);
    *master = *m;
    return (int)done;
}

static size_t master_move(void *opaque, u8 *buf, size_t size, bool to_memory)
{
    struct bus_master *m = opaque;
    size_t done = 0;
    /* The wrong direction moves nothing, and the drive waits. */
    if (!(m->status & STA_ACTIVE) || to_memory != !!(m->command & COM_READ)) return 0;
    while (done < size) {
        if (!next_entry(m)) return done;
        size_t n = MIN(m->count, size - done);
        bool ok = to_memory ? pci_dma_write(&m->ide->pci, m->address, buf + done, n)
                            : pci_dma_read(&m->ide->pci, m->address, buf + done, n);
        if (!ok) return done;
        done += n;
        m->address += (u32)n;
        m->count -= (u32)n;
        table_ends(m);
        if (!(m->status & STA_ACTIVE)) return done;
    }
    table_ends(m);
    return done;
}

static void master_irq(void *opaque)
{
    struct bus_master *m = opaque;
    m->status |= STA_IRQ;
}

static u64 master_read(void *opaque, u64 offset, unsigned size)
{
    struct piix3_ide *ide = opaque;
    const struct bus_master *m = &ide->master[offset >> 3 & 1];
    (void)size;
    switch (offset & 7) {
    case BMICOM: return m->command;
    case BMISTA: return m->status;
    case 4:
    case 5:
    case 6:
    case 7: return m->table >> (8 * (offset & 3)) & 0xff;
    default: return 0;
    }
}

static void master_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct piix3_ide *ide = opaque;
    struct bus_master *m = &ide->master[offset >> 3 & 1];
    (void)size;
    switch (offset & 7) {
    case BMICOM: {
        bool start = value & COM_START && !(m->command & COM_START);
        /* RWCON must not change while the master runs; the table is read from its start after a stop. */
        if (!(m->status & STA_ACTIVE)) m->command = value & COM_READ;
        m->command = (u8)((m->command & COM_READ) | (value & COM_START));
        if (!(value & COM_START)) {
            m->status &= (u8)~STA_ACTIVE;
            m->command = value & COM_READ;
            ide_dma_stop(&ide->channel[m->channel]);
        }
        if (start) {
            m->status |= STA_ACTIVE;
            m->prd = m->table;
            m->count = 0;
            m->last = false;
            ide_dma_continue(&ide->channel[m->channel]);
        }
        break;
    }
    case BMISTA:
        m->status = (u8)((m->status & STA_ACTIVE) | (value & STA_DRIVES) |
                         (m->status & ~value & (STA_ERROR | STA_IRQ)));
        break;
    case 4:
    case 5:
    case 6:
    case 7: {
        unsigned shift = 8 * (offset & 3);
        m->table = (m->table & ~(0xffu << shift)) | (u32)(value & 0xff) << shift;
        m->table &= ~3u;
        break;
    }
    default: break;
    }
}

static const struct region_ops master_ops = {
    .read = master_read, .write = master_write, .min_size = 1, .max_size = 1};

/* ---- configuration ---- */

static void update_decode(struct piix3_ide *ide)
{
    bool io = pci_get16(ide->pci.config + PCI_COMMAND) & PCI_COMMAND_IO;
    struct bus *ports = pci_bus_ports(ide->pci.bus);
    bus_begin_update(ports);
    for (int i = 0; i < 2; i++) {
        bool on = io && pci_get16(ide->pci.config + IDETIM + 2 * i) & IDETIM_DECODE;
        region_set_enabled(ide->channel[i].command, on);
        region_set_enabled(ide->channel[i].ctl, on);
    }
    bus_end_update(ports);
}

static void config_written(struct pci_device *d, unsigned offset, unsigned size, const u8 *old)
{
    struct piix3_ide *ide = (struct piix3_ide *)d;
    if (offset <= PCI_COMMAND || (offset < SIDETIM && offset + size > IDETIM)) update_decode(ide);
    /* A master that could not get the bus goes on. */
    if (~pci_get16(old + PCI_COMMAND) & pci_get16(d->config + PCI_COMMAND) & PCI_COMMAND_MASTER)
        for (int i = 0; i < 2; i++)
            ide_dma_continue(&ide->channel[i]);
}

/* ---- life ---- */

static void piix3_ide_reset(struct device *d)
{
    struct piix3_ide *ide = (struct piix3_ide *)d;
    pci_device_reset(&ide->pci);
    pci_put16(ide->pci.config + PCI_STATUS, 0x0280); /* fast back-to-back, medium DEVSEL# */
    memset(ide->pci.config + IDETIM, 0, 8);
    for (int i = 0; i < 2; i++) {
        pci_put16(ide->pci.config + IDETIM + 2 * i, IDETIM_DECODE);
        struct bus_master *m = &ide->master[i];
        m->command = m->status = 0;
        m->table = m->prd = m->count = 0;
        ide_channel_reset(&ide->channel[i]);
    }
    update_decode(ide);
}

static void piix3_ide_destroy(struct device *d)
{
    struct piix3_ide *ide = (struct piix3_ide *)d;
    for (int i = 0; i < 2; i++)
        ide_channel_fini(&ide->channel[i]);
    pci_device_destroy(&ide->pci);
    free(ide);
}

static const struct device_class class = {
    .name = "piix3-ide", .reset = piix3_ide_reset, .destroy = piix3_ide_destroy};

static const struct pci_info info = {
    .vendor = 0x8086,
    .device = 0x7010,
    .class_code = 0x010180, /* IDE, bus master, compatibility mode */
    .config_written = config_written,
};

struct piix3_ide *piix3_ide_create(struct pci_bus *pci, int devfn, struct irq_line irq14,
                                   struct irq_line irq15)
{
    struct piix3_ide *ide = calloc(1, sizeof(*ide));
    if (!ide) {
        fprintf(stderr, "calque: ide: out of memory\n");
        return NULL;
    }
    if (pci_device_init(&ide->pci, pci, devfn, &info, &class) < 0) {
        free(ide);
        return NULL;
    }
    pci_put16(ide->pci.wmask + PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
    memset(ide->pci.wmask + IDETIM, 0xff, 5);
    pci_add_bar(&ide->pci, 4, PCI_BAR_IO, 16, "ide-bus-master", &master_ops, ide);
    struct bus *ports = pci_bus_ports(pci);
    ide_channel_init(&ide->channel[0], ports, 0x1f0, 0x3f6, irq14);
    ide_channel_init(&ide->channel[1], ports, 0x170, 0x376, irq15);
    for (int i = 0; i < 2; i++) {
        ide->master[i].ide = ide;
        ide->master[i].channel = i;
        ide->channel[i].dma = (struct ide_dma){master_find, master_move, master_irq, &ide->master[i]};
    }
    piix3_ide_reset(&ide->pci.dev);
    return ide;
}

struct device *piix3_ide_device(struct piix3_ide *ide) { return &ide->pci.dev; }

int piix3_ide_attach(struct piix3_ide *ide, int index, const struct piix3_ide_drive *config)
{
    struct ide_drive *d = &ide->channel[index >> 1].drive[index & 1];
    if (d->kind != IDE_NONE) {
        fprintf(stderr, "calque: ide: there is a drive at index %d already\n", index);
        return -EBUSY;
    }
    if (!config->cdrom && (!config->block || config->block->size < IDE_SECTOR)) {
        fprintf(stderr, "calque: ide: the disk at index %d is empty\n", index);
        return -EINVAL;
    }
    d->block = config->block;
    d->kind = config->cdrom ? IDE_ATAPI : IDE_ATA;
    d->default_write_cache = !config->write_through;
    d->tray_moved = config->tray_moved;
    d->tray_opaque = config->opaque;
    if (config->serial)
        snprintf(d->serial, sizeof(d->serial), "%s", config->serial);
    else
        snprintf(d->serial, sizeof(d->serial), "CQ%05d", index + 1);
    const char *model = config->cdrom ? "CALQUE DVD-ROM" : "CALQUE HARDDISK";
    snprintf(d->model, sizeof(d->model), "%s", config->model ? config->model : model);
    if (d->kind == IDE_ATA) ide_ata_attach(d);
    ide_channel_reset(d->channel);
    return 0;
}

int piix3_ide_change_medium(struct piix3_ide *ide, int index, struct block *block, bool force)
{
    struct ide_drive *d = &ide->channel[index >> 1].drive[index & 1];
    if (d->kind != IDE_ATAPI) return -EINVAL;
    return ide_atapi_change(d, block, force);
}

int piix3_ide_move_tray(struct piix3_ide *ide, int index, bool open, bool force)
{
    struct ide_drive *d = &ide->channel[index >> 1].drive[index & 1];
    return d->kind == IDE_ATAPI ? ide_atapi_tray(d, open, force) : -EINVAL;
}

bool piix3_ide_tray(const struct piix3_ide *ide, int index, bool *open, bool *locked)
{
    const struct ide_drive *d = &ide->channel[index >> 1].drive[index & 1];
    *open = d->tray_open;
    *locked = d->tray_locked;
    return d->kind == IDE_ATAPI;
}

bool piix3_ide_geometry(const struct piix3_ide *ide, int index, u16 *cylinders, u8 *heads, u8 *sectors)
{
    const struct ide_drive *d = &ide->channel[index >> 1].drive[index & 1];
    if (d->kind != IDE_ATA) return false;
    *cylinders = d->cylinders;
    *heads = d->heads;
    *sectors = d->sectors;
    return true;
}
