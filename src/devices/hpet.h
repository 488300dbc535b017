/* The high precision event timer block. */
#ifndef DEVICES_HPET_H
#define DEVICES_HPET_H

#include "core/bus.h"
#include "core/clock.h"
#include "core/device.h"
#include "core/irq.h"
#include "core/types.h"

#define HPET_DEFAULT_BASE 0xfed00000ull
#define HPET_TIMERS       3
/* Low half of the capability register, for the ACPI table's event timer block ID. */
#define HPET_BLOCK_ID (0x80860000u | 1u << 15 | 1u << 13 | (HPET_TIMERS - 1) << 8 | 1u)

struct hpet;

struct hpet_wiring {
    struct irq_line irq0;    /* where the PIT's output goes while legacy replacement is off */
    struct irq_line irq8;    /* where the RTC's interrupt goes then */
    struct irq_line gsi[24]; /* I/O APIC inputs for freely routed timers */
    u32 routes;              /* those of gsi[] that software may choose */
    void (*msi)(void *opaque, u64 address, u32 data); /* FSB delivery; NULL: not offered */
    void *msi_opaque;                                 /* for msi */
};

/* Registers in the KiB at base. NULL with a message on stderr. */
struct hpet *hpet_create(struct bus *memory, gpa base, struct clock *clock, const struct hpet_wiring *wiring);
struct device *hpet_device(struct hpet *h);
/* The PIT's channel 0 and the RTC drive these inputs; they pass through to irq0 and irq8 unless legacy
 * replacement routing gives those to timers 0 and 1. */
struct irq_line hpet_pit_input(struct hpet *h);
struct irq_line hpet_rtc_input(struct hpet *h);

#endif
