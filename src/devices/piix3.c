/* The 82371SB (PIIX3) PCI-to-ISA bridge, function 0.
 *
 * Models the PIRQ route control registers, which connect the four PCI interrupt wires to ISA interrupts, the
 * reset control register at port 0xcf9, and storage for the rest of configuration space.
 *
 * Leaves out: what the other registers would change (ISA timings, BIOS chip select, top of memory, the fast
 * A20 and mouse IRQ12 latches), and the functions it hosts: the interrupt and DMA controllers and the timer
 * are devices of their own, as are IDE (00:01.1) and power management (00:01.3). The edge/level register
 * belongs to the 8259s. The board has an I/O APIC, to which the wires also go directly, not through the
 * router.
 *
 * DEVIATION: a soft reset by port 0xcf9 (SRST clear) reaches not only the processor: whoever provides `reset` is told
 * which it is, and resets the board for both.
 *
 * Reference: [PIIX3] Intel 82371FB/82371SB PCI ISA IDE Xcelerator data sheet. */
#include "devices/piix3.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIRQRC          0x60 /* PIRQRCA..PIRQRCD: 0x60..0x63 */
#define PIRQRC_DISABLED 0x80
#define PIRQRC_IRQ      0x0f

#define RCR_HARD  0x02 /* SRST: what the next reset resets */
#define RCR_RESET 0x04 /* RCPU: start it */

/* ISA interrupts a PIRQ may be routed to [PIIX3]: 3-7, 9-12, 14, 15. The others are reserved. */
#define ROUTABLE 0xdef8u

struct piix3 {
    struct pci_device pci;      /* 00:01.0 */
    struct piix3_wiring wiring; /* the machine's side */
    bool pirq_level[4];         /* PIRQA#..PIRQD# */
    u16 isa_level;              /* what piix3_isa_input() sources drive, a bit per interrupt */
    u16 isa_out;                /* what was last driven on wiring.isa_irq */
    u8 rcr;                     /* port 0xcf9 */
};

static void update_isa(struct piix3 *p)
{
    u16 level = p->isa_level;

    for (int i = 0; i < 4; i++) {
        u8 route = p->pci.config[PIRQRC + i];
        unsigned bit = 1u << (route & PIRQRC_IRQ);
        if (p->pirq_level[i] && !(route & PIRQRC_DISABLED) && (bit & ROUTABLE)) level |= (u16)bit;
    }
    /* Release before asserting: a route that moves from one input to another is never seen on both. */
    u16 changed = level ^ p->isa_out;
    p->isa_out = level;
    for (int n = 0; n < 16; n++)
        if (changed & ~level & 1u << n) irq_set(&p->wiring.isa_irq[n], 0);
    for (int n = 0; n < 16; n++)
        if (changed & level & 1u << n) irq_set(&p->wiring.isa_irq[n], 1);
}

static void set_pirq(void *opaque, int pirq, int level)
{
    struct piix3 *p = opaque;
    p->pirq_level[pirq] = level != 0;
    irq_set(&p->wiring.pirq_apic[pirq], level);
    update_isa(p);
}

static void set_isa(void *opaque, int n, int level)
{
    struct piix3 *p = opaque;
    p->isa_level = (u16)((p->isa_level & ~(1u << n)) | (level ? 1u << n : 0));
    update_isa(p);
}

static void config_written(struct pci_device *d, unsigned offset, unsigned size, const u8 *old)
{
    (void)old;
    if (offset < PIRQRC + 4 && offset + size > PIRQRC) update_isa((struct piix3 *)d);
}

static u8 rcr_read(void *opaque)
{
    struct piix3 *p = opaque;
    return p->rcr;
}

static void rcr_write(void *opaque, u8 value)
{
    struct piix3 *p = opaque;

    /* A reset starts when RCPU goes from 0 to 1; as the reset clears the register, RCPU never stays set. */
    p->rcr = value & RCR_HARD;
    if ((value & RCR_RESET) && p->wiring.reset) p->wiring.reset(p->wiring.opaque, value & RCR_HARD);
}

static void piix3_reset(struct device *d)
{
    struct piix3 *p = (struct piix3 *)d;
    u8 *c = p->pci.config;

    pci_device_reset(&p->pci);
    memset(c + PCI_HEADER_SIZE, 0, sizeof p->pci.config - PCI_HEADER_SIZE);
    pci_put16(c + PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER); /* hardwired */
    pci_put16(c + PCI_STATUS, 0x0200);                                                    /* medium DEVSEL# */
    c[0x4c] = 0x4d; /* IORT: ISA recovery times */
    c[0x4e] = 0x03; /* XBCS: RTC and keyboard chip selects */
    memset(c + PIRQRC, PIRQRC_DISABLED, 4);
    c[0x69] = 0x02;           /* TOM: 1 MiB forwarded to PCI */
    c[0x70] = 0x80;           /* MBIRQ0: disabled */
    c[0x76] = c[0x77] = 0x0c; /* MBDMA: disabled */
    c[0x78] = 0x02;           /* PCSC */
    c[0xa0] = 0x08;           /* SMICNTL: clock scaling off */
    c[0xa8] = 0x0f;           /* FTMR: fast-off timer */
    p->rcr = 0;
    update_isa(p);
}

static void piix3_destroy(struct device *d)
{
    struct piix3 *p = (struct piix3 *)d;

    pci_bus_set_pirq_handler(p->pci.bus, NULL, NULL);
    pci_bus_set_reset_control(p->pci.bus, NULL, NULL, NULL);
    pci_device_destroy(&p->pci);
    free(p);
}

static const struct device_class piix3_class = {
    .name = "piix3", .reset = piix3_reset, .destroy = piix3_destroy};

static const struct pci_info piix3_info = {
    .vendor = 0x8086,
    .device = 0x7000,
    .class_code = 0x060100,
    .multifunction = true,
    .config_written = config_written,
};

struct piix3 *piix3_create(struct pci_bus *pci, const struct piix3_wiring *wiring)
{
    struct piix3 *p = calloc(1, sizeof *p);

    if (!p) {
        fprintf(stderr, "calque: piix3: out of memory\n");
        return NULL;
    }
    if (pci_device_init(&p->pci, pci, PCI_DEVFN(1, 0), &piix3_info, &piix3_class) < 0) {
        free(p);
        return NULL;
    }
    p->wiring = *wiring;
    pci_put16(p->pci.wmask + PCI_COMMAND, 0x0100); /* SERR# enable; the rest is hardwired */
    memset(p->pci.wmask + PCI_HEADER_SIZE, 0xff, sizeof p->pci.wmask - PCI_HEADER_SIZE);
    memset(p->pci.wmask + PIRQRC, PIRQRC_DISABLED | PIRQRC_IRQ, 4);
    pci_bus_set_pirq_handler(pci, set_pirq, p);
    pci_bus_set_reset_control(pci, rcr_read, rcr_write, p);
    piix3_reset(&p->pci.dev);
    return p;
}

struct device *piix3_device(struct piix3 *p) { return &p->pci.dev; }
struct irq_line piix3_isa_input(struct piix3 *p, int irq)
{
    return (struct irq_line){.handler = set_isa, .opaque = p, .n = irq};
}
