/* Realtek RTL8029: an NE2000, that is a DP8390 with 16 KiB of packet memory, as a PCI function.
 *
 * Models the DP8390's register pages, the receive ring with its filters, transmission, internal loopback, remote DMA
 * (the data port, bytes, words and double words) and the station address PROM.
 * Leaves out: the send-packet command, byte order (DCR.BOS), the FIFO, time and collisions: a frame is sent at once.
 * DEVIATION: a frame for which the ring has no room waits, and asks for service like one that has come (PRX), where the
 * chip would lose it and be stopped by its driver for a while (OVW).
 * DEVIATION: loopback puts the frame into the receive ring, where the chip has its last bytes in the FIFO only.
 *
 *   I/O 0x00 DP8390 registers | 0x10 data port | 0x18 reset port, a read resets
 *   local memory 0x0000 PROM, each byte twice | 0x4000 packet memory
 *   received: u8 status, u8 next page, u16 length with these four bytes, the frame
 *
 * References: [DP8390D] National Semiconductor DP8390D NIC data sheet; [RTL8029] Realtek RTL8029AS data sheet. */
#include "devices/ne2000.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PORTS      32u
#define PORT_DATA  0x10u
#define PORT_RESET 0x18u
#define PROM_SIZE  32u
#define RAM_START  0x4000u
#define RAM_END    0x8000u
#define PAGE       256u
#define HEADER     4u
#define FCS        4u
#define MIN_FRAME  60u
#define MAX_FRAME  1518u /* with a VLAN tag; longer ones are lost */

/* Command register, on all pages. */
#define CR_STP  0x01
#define CR_STA  0x02
#define CR_TXP  0x04
#define CR_RD   0x38 /* remote DMA: */
#define CR_READ 0x08
#define CR_WRITE 0x10
#define CR_PAGE_SHIFT 6

#define ISR_PRX 0x01
#define ISR_PTX 0x02
#define ISR_TXE 0x08
#define ISR_RDC 0x40
#define ISR_RST 0x80

#define RCR_AB  0x04
#define RCR_AM  0x08
#define RCR_PRO 0x10
#define RCR_MON 0x20

#define TCR_LOOPBACK 0x06
#define DCR_WORD     0x01
#define TSR_PTX      0x01
#define TSR_ABT      0x08
#define RSR_PRX      0x01
#define RSR_PHY      0x20 /* a multicast address */

/* The registers of page 0, written and read. */
enum {
    W_PSTART = 1, W_PSTOP, BNRY, W_TPSR, W_TBCR0, W_TBCR1, ISR, W_RSAR0, W_RSAR1, W_RBCR0, W_RBCR1, W_RCR, W_TCR, W_DCR, W_IMR,
    R_TSR = 4, R_CRDA0 = 8, R_CRDA1 = 9, R_ID0 = 10, R_ID1 = 11, R_RSR = 12
};

struct ne2000 {
    struct pci_device pci;  /* must stay first */
    struct netdev *net;     /* the cable, NULL: none */
    u8 mac[6];              /* in the PROM */
    u8 memory[RAM_END - RAM_START]; /* packet memory */
    u8 cr;                  /* command */
    u8 pstart, pstop, bnry, curr; /* receive ring, in pages */
    u8 tpsr;                /* page of the frame to be sent */
    u16 tbcr;               /* and its length */
    u16 rsar, rbcr;         /* remote DMA: address, bytes left */
    u8 isr, imr, rcr, tcr, dcr; /* by these names in [DP8390D] */
    u8 tsr, rsr;            /* status of the last frame sent, received */
    u8 par[6], mar[8];      /* station address, multicast filter */
};

static void update_irq(struct ne2000 *n) { pci_set_irq(&n->pci, (n->isr & n->imr & 0x7f) != 0); }

static void raise_isr(struct ne2000 *n, u8 bits)
{
    n->isr |= bits;
    update_irq(n);
}

/* [DP8390D] 10.2: what the reset line does. */
static void chip_reset(struct ne2000 *n)
{
    n->cr = CR_STP | 0x20;
    n->isr = ISR_RST;
    n->imr = 0;
    n->tcr &= (u8)~TCR_LOOPBACK;
    update_irq(n);
}

/* ---- local memory ---- */

static u8 load(const struct ne2000 *n, u32 at)
{
    if (at < PROM_SIZE) return at < 12 ? n->mac[at / 2] : at >= 28 ? 'W' : 0; /* words 14 and 15: a 16-bit card */
    return at >= RAM_START && at < RAM_END ? n->memory[at - RAM_START] : 0xff;
}

static void store(struct ne2000 *n, u32 at, u8 value)
{
    if (at >= RAM_START && at < RAM_END) n->memory[at - RAM_START] = value;
}

/* ---- receiving ---- */

static bool ring_is_sane(const struct ne2000 *n)
{
    return n->pstart < n->pstop && n->pstart >= RAM_START / PAGE && n->pstop <= RAM_END / PAGE && n->curr >= n->pstart &&
           n->curr < n->pstop;
}

static bool wanted(struct ne2000 *n, const u8 *frame)
{
    n->rsr = RSR_PRX;
    if (netdev_is_broadcast(frame)) {
        n->rsr |= RSR_PHY;
        return n->rcr & RCR_AB;
    }
    if (frame[0] & 1) {
        unsigned hash = netdev_multicast_hash(frame);
        n->rsr |= RSR_PHY;
        return n->rcr & RCR_AM && n->mar[hash >> 3] >> (hash & 7) & 1;
    }
    return n->rcr & RCR_PRO || !memcmp(frame, n->par, 6);
}

/* True: it is over with this frame, taken or not. */
static bool put_frame(struct ne2000 *n, const u8 *frame, size_t len)
{
    if (n->cr & CR_STP || !ring_is_sane(n) || len < 6 || len > MAX_FRAME || !wanted(n, frame) || n->rcr & RCR_MON) return true;
    unsigned size = HEADER + MAX((unsigned)len, MIN_FRAME), ring = n->pstop - n->pstart;
    unsigned pages = (size + FCS + PAGE - 1) / PAGE; /* that of the frame is stored, but not counted */
    /* CURR must not reach BNRY [DP8390D] 7.3, which drivers keep a page behind it, also at the start of the ring. */
    unsigned room = n->bnry == n->curr ? ring : (n->bnry + 256 * ring - n->curr) % ring;
    if (pages + 1 >= ring) return true; /* there will never be room */
    if (pages >= room) {
        raise_isr(n, ISR_PRX);
        return false;
    }
    unsigned next = n->pstart + (n->curr - n->pstart + pages) % ring;
    const u8 header[HEADER] = {n->rsr, (u8)next, (u8)size, (u8)(size >> 8)};
    u32 at = n->curr * PAGE;
    for (unsigned i = 0; i < size; i++) {
        store(n, at, i < HEADER ? header[i] : i - HEADER < len ? frame[i - HEADER] : 0);
        if (++at == n->pstop * PAGE) at = n->pstart * PAGE;
    }
    n->curr = (u8)next;
    raise_isr(n, ISR_PRX);
    return true;
}

static bool receive(void *opaque, const u8 *frame, size_t len) { return put_frame(opaque, frame, len); }

static const struct netdev_front front = {.receive = receive};

/* ---- sending ---- */

static void transmit(struct ne2000 *n)
{
    u32 at = n->tpsr * PAGE;
    n->cr &= (u8)~CR_TXP;
    if (at < RAM_START || n->tbcr < 14 || n->tbcr > MAX_FRAME || at + n->tbcr > RAM_END) {
        n->tsr = TSR_ABT;
        raise_isr(n, ISR_TXE);
        return;
    }
    const u8 *frame = n->memory + (at - RAM_START);
    if (n->tcr & TCR_LOOPBACK) {
        u8 copy[MAX_FRAME];
        memcpy(copy, frame, n->tbcr);
        put_frame(n, copy, n->tbcr);
    } else {
        netdev_transmit(n->net, frame, n->tbcr);
    }
    n->tsr = TSR_PTX;
    raise_isr(n, ISR_PTX);
}

/* ---- remote DMA ---- */

/* The data port: [DP8390D] 6.0. Beyond the byte count it is not asked for. */
static u32 data_port(struct ne2000 *n, u32 value, unsigned size, bool write)
{
    u32 result = 0;
    unsigned step = n->dcr & DCR_WORD ? MAX(size, 2u) : 1;
    if ((n->cr & CR_RD) != (write ? CR_WRITE : CR_READ) || !n->rbcr) return 0xffffffff;
    for (unsigned i = 0; i < MIN(size, step); i++) {
        u32 at = n->rsar + i;
        if (write) store(n, at, (u8)(value >> 8 * i));
        else result |= (u32)load(n, at) << 8 * i;
    }
    n->rsar = (u16)(n->rsar + step);
    if (n->rsar == n->pstop * PAGE) n->rsar = (u16)(n->pstart * PAGE);
    n->rbcr = n->rbcr > step ? (u16)(n->rbcr - step) : 0;
    if (!n->rbcr) raise_isr(n, ISR_RDC);
    return result;
}

/* ---- registers ---- */

static void write_command(struct ne2000 *n, u8 value)
{
    n->cr = (value & ~CR_TXP) | (n->cr & CR_TXP);
    if (value & CR_STP) {
        n->isr |= ISR_RST;
        return;
    }
    n->isr &= (u8)~ISR_RST;
    u8 dma = value & CR_RD;
    if ((dma == CR_READ || dma == CR_WRITE) && !n->rbcr) raise_isr(n, ISR_RDC);
    if (value & CR_TXP) transmit(n);
    netdev_flush(n->net);
}

static u8 *field16(u16 *value, bool high) { return (u8 *)value + high; }

static u8 read_register(struct ne2000 *n, unsigned at)
{
    unsigned page = n->cr >> CR_PAGE_SHIFT;
    if (!at) return n->cr;
    if (page == 1) return at < 7 ? n->par[at - 1] : at == 7 ? n->curr : n->mar[at - 8];
    if (page == 2) {
        const u8 setup[16] = {[1] = n->pstart, [2] = n->pstop, [4] = n->tpsr, [12] = n->rcr, [13] = n->tcr, [14] = n->dcr,
                              [15] = n->imr};
        return setup[at];
    }
    if (page == 3) return 0; /* configuration [RTL8029] 6.1: 10BaseT, half duplex, no EEPROM to talk to */
    switch (at) {
    case BNRY: return n->bnry;
    case R_TSR: return n->tsr;
    case ISR: return n->isr;
    case R_CRDA0: return (u8)n->rsar;
    case R_CRDA1: return (u8)(n->rsar >> 8);
    case R_ID0: return 0x50; /* [RTL8029] */
    case R_ID1: return 0x43;
    case R_RSR: return n->rsr;
    default: return 0; /* the counters of errors, and what nothing happens in */
    }
}

static void write_register(struct ne2000 *n, unsigned at, u8 value)
{
    unsigned page = n->cr >> CR_PAGE_SHIFT;
    if (!at) {
        write_command(n, value);
    } else if (page == 1) {
        *(at < 7 ? &n->par[at - 1] : at == 7 ? &n->curr : &n->mar[at - 8]) = value;
    } else if (page == 0) {
        switch (at) {
        case W_PSTART: n->pstart = value; break;
        case W_PSTOP: n->pstop = value; break;
        case BNRY:
            n->bnry = value;
            netdev_flush(n->net);
            break;
        case W_TPSR: n->tpsr = value; break;
        case W_TBCR0:
        case W_TBCR1: *field16(&n->tbcr, at == W_TBCR1) = value; break;
        case ISR:
            n->isr &= (u8)~(value & 0x7f); /* RST goes when it starts */
            netdev_flush(n->net); /* what waits asks again */
            break;
        case W_RSAR0:
        case W_RSAR1: *field16(&n->rsar, at == W_RSAR1) = value; break;
        case W_RBCR0:
        case W_RBCR1: *field16(&n->rbcr, at == W_RBCR1) = value; break;
        case W_RCR: n->rcr = value; break;
        case W_TCR: n->tcr = value; break;
        case W_DCR: n->dcr = value; break;
        case W_IMR: n->imr = value; break;
        default: break;
        }
    }
    update_irq(n);
}

static u64 ne2000_read(void *opaque, u64 offset, unsigned size)
{
    struct ne2000 *n = opaque;
    unsigned at = (unsigned)offset;
    u32 value = 0;
    if (at >= PORT_DATA && at < PORT_RESET) return data_port(n, 0, size, false);
    if (at >= PORT_RESET) {
        chip_reset(n);
        return 0;
    }
    for (unsigned i = 0; i < size; i++) value |= (u32)read_register(n, (at + i) & 15) << 8 * i;
    return value;
}

static void ne2000_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct ne2000 *n = opaque;
    unsigned at = (unsigned)offset;
    if (at >= PORT_RESET) return;
    if (at >= PORT_DATA) {
        data_port(n, (u32)value, size, true);
        return;
    }
    for (unsigned i = 0; i < size; i++) write_register(n, (at + i) & 15, (u8)(value >> 8 * i));
}

static const struct region_ops ops = {ne2000_read, ne2000_write, 1, 4};

/* ---- life ---- */

static void ne2000_reset(struct device *d)
{
    struct ne2000 *n = (struct ne2000 *)d;
    pci_device_reset(&n->pci);
    n->tcr = n->rcr = n->dcr = 0;
    n->pstart = n->pstop = n->bnry = n->curr = n->tpsr = 0;
    n->tbcr = n->rsar = n->rbcr = 0;
    n->tsr = n->rsr = 0;
    memset(n->memory, 0, sizeof(n->memory));
    memset(n->par, 0, sizeof(n->par));
    memset(n->mar, 0, sizeof(n->mar));
    chip_reset(n);
}

static void ne2000_destroy(struct device *d)
{
    struct ne2000 *n = (struct ne2000 *)d;
    netdev_detach(n->net);
    pci_device_destroy(&n->pci);
    free(n);
}

static const struct device_class class = {.name = "ne2000", .reset = ne2000_reset, .destroy = ne2000_destroy};
static const struct pci_info info = {.vendor = 0x10ec, .device = 0x8029, .class_code = 0x020000, .interrupt_pin = 1};

struct device *ne2000_create(struct pci_bus *pci, int devfn, struct netdev *net, const u8 mac[6], struct ram *ram,
                             const void *rom, size_t rom_size)
{
    struct ne2000 *n = calloc(1, sizeof(*n));
    if (!n) {
        fprintf(stderr, "calque: ne2k_pci: out of memory\n");
        return NULL;
    }
    if (pci_device_init(&n->pci, pci, devfn, &info, &class) < 0) {
        free(n);
        return NULL;
    }
    n->net = net;
    memcpy(n->mac, mac, sizeof(n->mac));
    pci_add_bar(&n->pci, 0, PCI_BAR_IO, PORTS, "ne2000", &ops, n);
    if (rom) pci_add_rom(&n->pci, "ne2000-rom", ram, rom, rom_size);
    ne2000_reset(&n->pci.dev);
    netdev_attach(net, &front, n);
    return &n->pci.dev;
}
