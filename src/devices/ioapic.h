/* The I/O APIC: 24 inputs, each sent to local APICs as its redirection entry says. */
#ifndef DEVICES_IOAPIC_H
#define DEVICES_IOAPIC_H

#include <stdio.h>

#include "core/bus.h"
#include "core/device.h"
#include "core/irq.h"
#include "core/types.h"
#include "devices/apic_bus.h"

#define IOAPIC_DEFAULT_BASE 0xfec00000ull
#define IOAPIC_PINS         24

struct ioapic;

/* Registers at base in memory (one page), messages through apics. NULL with a message on stderr. */
struct ioapic *ioapic_create(struct bus *memory, gpa base, struct apic_bus *apics);
struct device *ioapic_device(struct ioapic *io);
/* Input pin 0..23; level 1 is asserted, whatever polarity the entry says. */
struct irq_line ioapic_input(struct ioapic *io, int pin);

/* Its registers, for people. */
void ioapic_print(const struct ioapic *p, FILE *out);

#endif
