/* The PIIX3 south bridge's ISA function: PCI interrupt router and reset control register. */
#ifndef DEVICES_PIIX3_H
#define DEVICES_PIIX3_H

#include "core/device.h"
#include "core/irq.h"
#include "devices/pci.h"

/* What the machine does for the bridge. */
struct piix3_wiring {
    struct irq_line isa_irq[16];  /* where ISA interrupt n goes: the 8259s and I/O APIC pin n (0 to pin 2) */
    struct irq_line pirq_apic[4]; /* I/O APIC inputs that PIRQA#..PIRQD# are wired to directly: 16..19 */
    void (*reset)(void *opaque,
                  bool hard); /* port 0xcf9: hard: the whole board; else the processors (INIT) */
    void *opaque;             /* for reset */
};

struct piix3;

/* Plugs in at 00:01.0 (multifunction: IDE is 00:01.1, power management 00:01.3) and takes the bus's PIRQ
 * wires and port 0xcf9. NULL with a message. */
struct piix3 *piix3_create(struct pci_bus *pci, const struct piix3_wiring *wiring);
struct device *piix3_device(struct piix3 *p);
/* An ISA interrupt line that a level-triggered source on the board (the SCI) may share with the PIRQs:
 * wired-OR. */
struct irq_line piix3_isa_input(struct piix3 *p, int irq);

#endif
