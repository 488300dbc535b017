/* Intel 82540EM Gigabit Ethernet controller: registers, interrupts, life. The rings are in e1000_tx.c and
 * e1000_rx.c, EEPROM and PHY in e1000_phy.c.
 *
 * Models what the drivers of Linux, the BSDs, Windows and iPXE use: both descriptor formats, checksum and
 * segmentation offload, address and VLAN filters, interrupt throttling, statistics, loopback, I/O access to the
 * registers, and the 82542's register addresses that this part still decodes.
 *
 * Leaves out: wake-up and management (the registers store), flow control (nothing is ever paused), TBI/SerDes,
 * the flash, half duplex, MSI (the part's is broken, and no driver uses it).
 * DEVIATION: RDTR/RADV/TIDV/TADV delay nothing: single interrupts come at once, which costs less here than to time them; how
 * many there are a second is ITR's business, which all drivers of today set.
 *
 * References: [8254x] PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual, 317453. */
#include "devices/e1000.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "devices/e1000_state.h"

#define ITR_UNIT_NS 256ull
#define IO_SIZE     0x40u

/* ---- interrupts ---- */

/* Drive the pin, not sooner after its last rise than ITR allows. */
static void update_irq(struct e1000 *e)
{
    bool wanted = e->icr & e->ims;
    if (wanted && !e->irq) {
        u64 gap = (e1000_get(e, E1000_ITR) & 0xffff) * ITR_UNIT_NS, now = clock_now(e->clock);
        if (gap && now < e->irq_time + gap) {
            if (!timer_armed(e->itr_timer)) timer_arm(e->itr_timer, e->irq_time + gap);
            return;
        }
        e->irq_time = now;
    }
    if (!wanted) timer_cancel(e->itr_timer);
    if (e->irq == wanted) return;
    e->irq = wanted;
    pci_set_irq(&e->pci, wanted);
}

static void itr_over(void *opaque) { update_irq(opaque); }

void e1000_cause(struct e1000 *e, u32 causes)
{
    e->icr |= causes;
    update_irq(e);
}

/* ---- statistics ---- */

void e1000_count(struct e1000 *e, u32 offset)
{
    u32 *r = e1000_reg(e, offset);
    if (*r != UINT32_MAX) ++*r;
}

void e1000_count_octets(struct e1000 *e, u32 offset, size_t octets)
{
    u32 *r = e1000_reg(e, offset);
    u64 sum = r[0] | (u64)r[1] << 32;
    sum = sum + octets < sum ? UINT64_MAX : sum + octets;
    r[0] = (u32)sum;
    r[1] = (u32)(sum >> 32);
}

void e1000_count_size(struct e1000 *e, u32 offset, size_t octets)
{
    static const u16 limits[] = {64, 127, 255, 511, 1023};
    u32 i = 0;
    while (i < ARRAY_LEN(limits) && octets > limits[i]) i++;
    e1000_count(e, offset + 4 * i);
}

/* ---- registers ---- */

/* The 82542's places of some registers [8254x] 13.3. */
static u32 canonical(u32 offset)
{
    if (offset >= 0x0040 && offset < 0x00c0) return offset - 0x0040 + E1000_RA;
    if (offset >= 0x0200 && offset < 0x0400) return offset - 0x0200 + E1000_MTA;
    if (offset >= 0x0600 && offset < 0x0800) return offset - 0x0600 + E1000_VFTA;
    switch (offset) {
    case 0x0108: return E1000_RDTR;
    case 0x0110: return E1000_RDBAL;
    case 0x0114: return E1000_RDBAH;
    case 0x0118: return E1000_RDLEN;
    case 0x0120: return E1000_RDH;
    case 0x0128: return E1000_RDT;
    case 0x0420: return E1000_TDBAL;
    case 0x0424: return E1000_TDBAH;
    case 0x0428: return E1000_TDLEN;
    case 0x0430: return E1000_TDH;
    case 0x0438: return E1000_TDT;
    case E1000_CTRL_DUP: return E1000_CTRL;
    default: return offset;
    }
}

static u64 e1000_read(void *opaque, u64 at, unsigned size)
{
    struct e1000 *e = opaque;
    u32 offset = canonical((u32)at & ~3u), value = e1000_get(e, offset);
    (void)size;
    switch (offset) {
    case E1000_STATUS: return e1000_status(e);
    case E1000_EECD: return e1000_eecd_read(e);
    case E1000_ICR: /* reading acknowledges [8254x] 13.4.17 */
        value = e->icr;
        e->icr = 0;
        update_irq(e);
        return value;
    case E1000_IMS: return e->ims;
    case E1000_ICS:
    case E1000_IMC: return 0; /* write-only */
    default: break;
    }
    if (offset >= E1000_STATS && offset < E1000_STATS_END) *e1000_reg(e, offset) = 0;
    return value;
}

static void mac_reset(struct e1000 *e);

static void ctrl_write(struct e1000 *e, u32 value)
{
    if (value & CTRL_RST) {
        mac_reset(e);
        return;
    }
    *e1000_reg(e, E1000_CTRL) = value & ~CTRL_PHY_RST;
    if (value & CTRL_PHY_RST) e1000_phy_reset(e);
}

static void e1000_write(void *opaque, u64 at, u64 written, unsigned size)
{
    struct e1000 *e = opaque;
    u32 offset = canonical((u32)at & ~3u), value = (u32)written;
    u32 *r = e1000_reg(e, offset);
    (void)size;
    switch (offset) {
    case E1000_CTRL: ctrl_write(e, value); break;
    case E1000_STATUS: break; /* read-only */
    case E1000_EECD: e1000_eecd_write(e, value); break;
    case E1000_EERD: e1000_eerd_write(e, value); break;
    case E1000_CTRL_EXT:
        *r = value & ~CTRL_EXT_EE_RST;
        if (value & CTRL_EXT_EE_RST) e1000_eeprom_load(e);
        break;
    case E1000_MDIC: e1000_mdic_write(e, value); break;
    case E1000_ICR: /* ones clear */
        e->icr &= ~value;
        update_irq(e);
        break;
    case E1000_ICS: e1000_cause(e, value & ICR_ALL); break;
    case E1000_IMS:
        e->ims |= value & ICR_ALL;
        update_irq(e);
        break;
    case E1000_IMC:
        e->ims &= ~value;
        update_irq(e);
        break;
    case E1000_ITR: *r = value & 0xffff; break;
    case E1000_RCTL:
        *r = value & 0x07ffffffu; /* the rest is reserved */
        netdev_flush(e->net);
        break;
    case E1000_TCTL:
        *r = value;
        e1000_tx_run(e);
        break;
    case E1000_RDBAL:
    case E1000_TDBAL: *r = value & ~15u; break;
    case E1000_RDLEN:
    case E1000_TDLEN: *r = value & 0xfff80u; break;
    case E1000_RDH:
    case E1000_TDH: *r = value & 0xffff; break;
    case E1000_RDT:
        *r = value & 0xffff;
        netdev_flush(e->net);
        break;
    case E1000_TDT:
        *r = value & 0xffff;
        e1000_tx_run(e);
        break;
    case E1000_VET: *r = value & 0xffff; break;
    default:
        if (offset < E1000_STATS || offset >= E1000_STATS_END) *r = value;
        break;
    }
}

static const struct region_ops mmio_ops = {.read = e1000_read, .write = e1000_write, .min_size = 4, .max_size = 4};

/* BAR 1: IOADDR and IODATA [8254x] 13.1.3. */
static u64 io_read(void *opaque, u64 offset, unsigned size)
{
    struct e1000 *e = opaque;
    if (offset == 0) return e->io_address;
    if (offset == 4 && e->io_address < E1000_MMIO_SIZE) return e1000_read(e, e->io_address, size);
    return 0;
}

static void io_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct e1000 *e = opaque;
    if (offset == 0) e->io_address = (u32)value;
    if (offset == 4 && e->io_address < E1000_MMIO_SIZE) e1000_write(e, e->io_address, value, size);
}

static const struct region_ops io_ops = {.read = io_read, .write = io_write, .min_size = 4, .max_size = 4};

/* ---- the cable ---- */

static bool receive(void *opaque, const u8 *frame, size_t len) { return e1000_rx_frame(opaque, frame, len); }
static void link_changed(void *opaque, bool up)
{
    (void)up;
    e1000_phy_link(opaque);
}

static const struct netdev_front front = {.receive = receive, .link_changed = link_changed};

/* ---- life ---- */

/* CTRL.RST: everything but the PHY and the PCI configuration. */
static void mac_reset(struct e1000 *e)
{
    memset(e->regs, 0, E1000_MMIO_SIZE);
    e->icr = e->ims = 0;
    timer_cancel(e->itr_timer);
    e->irq_time = 0;
    update_irq(e);
    *e1000_reg(e, E1000_CTRL) = 0x00140200u | CTRL_SLU | CTRL_FD;
    *e1000_reg(e, E1000_VET) = 0x8100;
    *e1000_reg(e, E1000_PBA) = 0x00100030u; /* 48 KiB to receive, 16 to transmit */
    *e1000_reg(e, E1000_LEDCTL) = 0x07068302u;
    *e1000_reg(e, E1000_TIPG) = 0x00602008u;
    e1000_tx_reset(e);
    e1000_eeprom_load(e);
}

static void e1000_reset(struct device *d)
{
    struct e1000 *e = (struct e1000 *)d;
    pci_device_reset(&e->pci);
    e->irq = false;
    e->io_address = 0;
    e->ee_writable = false;
    mac_reset(e);
    e1000_eecd_write(e, 0);
    e->link = false;
    e1000_phy_reset(e);
}

static void e1000_destroy(struct device *d)
{
    struct e1000 *e = (struct e1000 *)d;
    netdev_detach(e->net);
    pci_device_destroy(&e->pci);
    timer_destroy(e->itr_timer);
    timer_destroy(e->link_timer);
    timer_destroy(e->tx_timer);
    free(e->regs);
    free(e->tx);
    free(e);
}

static const struct device_class class = {.name = "e1000", .reset = e1000_reset, .destroy = e1000_destroy};

static const struct pci_info info = {
    .vendor = 0x8086, .device = 0x100e, .revision = 3, .class_code = 0x020000, .interrupt_pin = 1};

struct device *e1000_create(struct pci_bus *pci, int devfn, struct clock *clock, struct netdev *net, const u8 mac[6],
                            struct ram *ram, const void *rom, size_t rom_size)
{
    struct e1000 *e = calloc(1, sizeof(*e));
    u32 *regs = calloc(1, E1000_MMIO_SIZE);
    if (!e || !regs) {
        fprintf(stderr, "calque: e1000: out of memory\n");
        goto fail;
    }
    if (pci_device_init(&e->pci, pci, devfn, &info, &class) < 0) goto fail;
    e->regs = regs;
    e->clock = clock;
    e->net = net;
    memcpy(e->mac, mac, sizeof(e->mac));
    e->itr_timer = timer_create_on(clock, itr_over, e);
    e->link_timer = timer_create_on(clock, e1000_phy_negotiated, e);
    e->tx_timer = timer_create_on(clock, e1000_tx_run, e);
    if (!e->itr_timer || !e->link_timer || !e->tx_timer) {
        fprintf(stderr, "calque: e1000: out of memory\n");
        e1000_destroy(&e->pci.dev);
        return NULL;
    }
    pci_add_bar(&e->pci, 0, PCI_BAR_MEM32, E1000_MMIO_SIZE, "e1000-mmio", &mmio_ops, e);
    pci_add_bar(&e->pci, 1, PCI_BAR_IO, IO_SIZE, "e1000-io", &io_ops, e);
    if (rom) pci_add_rom(&e->pci, "e1000-rom", ram, rom, rom_size);
    e1000_eeprom_init(e);
    e1000_reset(&e->pci.dev);
    netdev_attach(net, &front, e);
    return &e->pci.dev;

fail:
    free(regs);
    free(e);
    return NULL;
}
