/* The MSI and MSI-X capabilities of PCI devices.
 *
 * Models MSI with 64-bit message addresses and multiple messages, and MSI-X with its table, per-vector and
 * function masks and pending bits, in a BAR of its own.
 *
 * Leaves out: per-vector masking of plain MSI (optional by the specification, and not announced).
 *
 * Reference: [PCI3] PCI Local Bus Specification 3.0, section 6.8. */
#include "devices/pci_msi.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* MSI capability, offsets from its start, 64-bit form [PCI3] 6.8.1. */
#define MSI_CONTROL      2
#define MSI_ADDRESS      4
#define MSI_ADDRESS_HIGH 8
#define MSI_DATA         12
#define MSI_SIZE         14
#define MSI_ENABLE       0x0001
#define MSI_64BIT        0x0080

/* MSI-X capability [PCI3] 6.8.2. */
#define MSIX_CONTROL       2
#define MSIX_TABLE         4
#define MSIX_PENDING       8
#define MSIX_SIZE          12
#define MSIX_ENABLE        0x8000
#define MSIX_FUNCTION_MASK 0x4000

/* A table entry: address low, address high, data, control (bit 0: masked). */
#define ENTRY_SIZE 16

struct pci_msix {
    unsigned vectors;   /* table entries */
    u64 pending_offset; /* of the pending bits in the BAR */
    u8 *table;          /* vectors * ENTRY_SIZE bytes, as the guest wrote them */
    u8 *pending;        /* pending bits, rounded up to 8 bytes */
};

/* ---- MSI ---- */

void pci_msi_init(struct pci_device *d, u8 offset, unsigned vectors)
{
    unsigned log2 = 0;
    while (1u << log2 < vectors)
        log2++;
    assert(1u << log2 == vectors && vectors <= 32);

    d->msi_cap = pci_add_capability(d, 0x05, offset, MSI_SIZE);
    pci_put16(d->config + d->msi_cap + MSI_CONTROL, (u16)(MSI_64BIT | log2 << 1));
    pci_put16(d->wmask + d->msi_cap + MSI_CONTROL, MSI_ENABLE | 0x70);
    pci_put32(d->wmask + d->msi_cap + MSI_ADDRESS, 0xfffffffc);
    pci_put32(d->wmask + d->msi_cap + MSI_ADDRESS_HIGH, 0xffffffff);
    pci_put16(d->wmask + d->msi_cap + MSI_DATA, 0xffff);
}

bool pci_msi_enabled(const struct pci_device *d)
{
    return d->msi_cap && (pci_get16(d->config + d->msi_cap + MSI_CONTROL) & MSI_ENABLE);
}

void pci_msi_notify(struct pci_device *d, unsigned vector)
{
    if (!pci_msi_enabled(d)) return;
    const u8 *cap = d->config + d->msi_cap;
    unsigned capable = pci_get16(cap + MSI_CONTROL) >> 1 & 7;
    unsigned enabled = MIN(pci_get16(cap + MSI_CONTROL) >> 4 & 7, capable);
    u32 data = pci_get16(cap + MSI_DATA);

    /* With 2^n messages enabled the function may change the low n bits of the data only. */
    u32 low = (1u << enabled) - 1;
    data = (data & ~low) | (vector & low);
    pci_bus_msi(d->bus, pci_get32(cap + MSI_ADDRESS) | (u64)pci_get32(cap + MSI_ADDRESS_HIGH) << 32, data);
}

/* ---- MSI-X ---- */

bool pci_msix_enabled(const struct pci_device *d)
{
    return d->msix_cap && (pci_get16(d->config + d->msix_cap + MSIX_CONTROL) & MSIX_ENABLE);
}

static bool is_masked(const struct pci_device *d, unsigned vector)
{
    u16 control = pci_get16(d->config + d->msix_cap + MSIX_CONTROL);
    return (control & MSIX_FUNCTION_MASK) || (d->msix->table[vector * ENTRY_SIZE + 12] & 1);
}

static void send_pending(struct pci_device *d)
{
    struct pci_msix *x = d->msix;
    if (!pci_msix_enabled(d)) return;
    for (unsigned i = 0; i < x->vectors; i++) {
        if (!(x->pending[i / 8] & 1u << i % 8) || is_masked(d, i)) continue;
        x->pending[i / 8] &= (u8) ~(1u << i % 8);
        const u8 *e = x->table + i * ENTRY_SIZE;
        pci_bus_msi(d->bus, pci_get32(e) | (u64)pci_get32(e + 4) << 32, pci_get32(e + 8));
    }
}

void pci_msix_notify(struct pci_device *d, unsigned vector)
{
    if (!pci_msix_enabled(d) || vector >= d->msix->vectors) return;
    d->msix->pending[vector / 8] |= (u8)(1u << vector % 8);
    send_pending(d);
}

/* The byte of the BAR at offset, or NULL where nothing is. */
static u8 *byte_at(struct pci_msix *x, u64 offset)
{
    if (offset < x->vectors * ENTRY_SIZE) return x->table + offset;
    if (offset >= x->pending_offset && offset - x->pending_offset < (x->vectors + 7) / 8)
        return x->pending + (offset - x->pending_offset);
    return NULL;
}

static u64 bar_read(void *opaque, u64 offset, unsigned size)
{
    struct pci_device *d = opaque;
    u64 value = 0;
    for (unsigned i = 0; i < size; i++) {
        const u8 *p = byte_at(d->msix, offset + i);
        if (p) value |= (u64)*p << i * 8;
    }
    return value;
}

static void bar_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct pci_device *d = opaque;
    for (unsigned i = 0; i < size; i++) {
        u8 *p = byte_at(d->msix, offset + i);
        if (!p || offset + i >= d->msix->pending_offset) continue; /* pending bits are read-only */
        u8 byte = (u8)(value >> i * 8);
        switch ((offset + i) % ENTRY_SIZE) {
        case 0: byte &= 0xfc; break;  /* messages are dwords */
        case 12: byte &= 0x01; break; /* the mask bit is all there is of vector control */
        case 13:
        case 14:
        case 15: byte = 0; break;
        default: break;
        }
        *p = byte;
    }
    send_pending(d);
}

static const struct region_ops bar_ops = {.read = bar_read, .write = bar_write, .min_size = 4, .max_size = 8};

int pci_msix_init(struct pci_device *d, u8 offset, int bar, unsigned vectors)
{
    assert(vectors >= 1 && vectors <= 2048);
    u64 size = GUEST_PAGE_SIZE;
    while (size / 2 < (u64)vectors * ENTRY_SIZE)
        size <<= 1;

    struct pci_msix *x = calloc(1, sizeof *x + (size_t)vectors * ENTRY_SIZE + (vectors + 7) / 8);
    if (!x) {
        fprintf(stderr, "calque: pci: out of memory\n");
        return -ENOMEM;
    }
    x->vectors = vectors;
    x->pending_offset = size / 2;
    x->table = (u8 *)(x + 1);
    x->pending = x->table + (size_t)vectors * ENTRY_SIZE;
    d->msix = x;

    d->msix_cap = pci_add_capability(d, 0x11, offset, MSIX_SIZE);
    pci_put16(d->config + d->msix_cap + MSIX_CONTROL, (u16)(vectors - 1));
    pci_put16(d->wmask + d->msix_cap + MSIX_CONTROL, MSIX_ENABLE | MSIX_FUNCTION_MASK);
    pci_put32(d->config + d->msix_cap + MSIX_TABLE, (u32)bar);
    pci_put32(d->config + d->msix_cap + MSIX_PENDING, (u32)x->pending_offset | (u32)bar);
    pci_add_bar(d, bar, PCI_BAR_MEM32, size, "msix", &bar_ops, d);
    pci_msi_reset(d);
    return 0;
}

/* ---- hooks of pci.c ---- */

void pci_msi_config_written(struct pci_device *d)
{
    if (d->msix) send_pending(d);
}

void pci_msi_reset(struct pci_device *d)
{
    if (d->msi_cap) {
        u8 *cap = d->config + d->msi_cap;
        for (unsigned i = MSI_CONTROL; i < MSI_SIZE; i++)
            cap[i] &= (u8)~d->wmask[d->msi_cap + i];
    }
    if (d->msix) {
        struct pci_msix *x = d->msix;
        u8 *control = d->config + d->msix_cap + MSIX_CONTROL;
        pci_put16(control, pci_get16(control) & 0x7ff);
        memset(x->table, 0, (size_t)x->vectors * ENTRY_SIZE);
        memset(x->pending, 0, (x->vectors + 7) / 8);
        for (unsigned i = 0; i < x->vectors; i++)
            x->table[i * ENTRY_SIZE + 12] = 1; /* all masked */
    }
}

void pci_msi_destroy(struct pci_device *d)
{
    free(d->msix);
    d->msix = NULL;
}
