/* What connects local APICs, I/O APICs and message-signalled interrupts: it finds the destinations of an
 * interrupt message and hands it to them, and carries EOI broadcasts back to the I/O APICs. */
#ifndef DEVICES_APIC_BUS_H
#define DEVICES_APIC_BUS_H

#include "core/bus.h"
#include "core/irq.h"
#include "core/types.h"

struct apic_bus;
struct lapic;

/* Delivery modes: bits 10:8 of the ICR, of redirection entries and of MSI data ([SDM3] 11.6.1). */
enum apic_mode {
    APIC_MODE_FIXED = 0,
    APIC_MODE_LOWEST = 1,
    APIC_MODE_SMI = 2,
    APIC_MODE_NMI = 4,
    APIC_MODE_INIT = 5,
    APIC_MODE_SIPI = 6,
    APIC_MODE_EXTINT = 7,
};

struct apic_message {
    u32 dest;      /* destination field: 8 bits, or 32 when wide */
    u8 vector;     /* interrupt vector, or start-up page */
    u8 mode;       /* enum apic_mode */
    bool logical;  /* dest is a logical destination */
    bool wide;     /* sent in x2APIC format: dest has 32 bits and 0xff is not a broadcast */
    bool level;    /* level triggered: sets the TMR bit, so that EOI is broadcast */
    bool redirect; /* MSI redirection hint: one of the destinations only, like lowest priority */
};

/* NULL when the host has no memory. */
struct apic_bus *apic_bus_create(void);
void apic_bus_destroy(struct apic_bus *b);

/* Called by lapic_create() and lapic_destroy(). false when the bus is full. */
bool apic_bus_attach(struct apic_bus *b, struct lapic *l);
void apic_bus_detach(struct apic_bus *b, struct lapic *l);
/* Who hears of EOIs to level-triggered vectors (I/O APICs). */
void apic_bus_on_eoi(struct apic_bus *b, void (*eoi)(void *opaque, u8 vector), void *opaque);
void apic_bus_eoi(struct apic_bus *b, u8 vector);

/* Deliver to all destinations; whether any local APIC accepted it. */
bool apic_bus_send(struct apic_bus *b, const struct apic_message *m);
/* Deliver to every local APIC, except this one (may be NULL). */
bool apic_bus_broadcast(struct apic_bus *b, const struct apic_message *m, const struct lapic *except);
/* A device's message write: address bits 31:20 are 0xfee ([SDM3] 11.11). */
bool apic_bus_msi(struct apic_bus *b, u64 address, u32 data);
/* Claim 0xfee00000-0xfeefffff of the memory bus, where writes by devices are MSIs. vCPUs try their own
 * local APIC first (lapic_mmio_write()). */
struct region *apic_bus_map_msi(struct apic_bus *b, struct bus *memory);

/* An input that drives LINT0 or LINT1 (pin 0, 1) of all local APICs, as the i8259's INTR does. */
struct irq_line apic_bus_lint(struct apic_bus *b, int pin);

#endif
