/* The local APIC of one vCPU, in xAPIC and x2APIC mode. */
#ifndef DEVICES_LAPIC_H
#define DEVICES_LAPIC_H

#include "core/bus.h"
#include "core/clock.h"
#include "core/device.h"
#include "core/irq.h"
#include "core/types.h"
#include "devices/apic_bus.h"

#define LAPIC_DEFAULT_BASE 0xfee00000ull

struct lapic;

/* What the APIC needs of its CPU. Called under the machine lock, from any thread. */
struct lapic_cpu {
    void *opaque;                             /* passed to all of them */
    void (*set_intr)(void *opaque, bool level); /* INTR input; lapic_ack() answers it */
    void (*nmi)(void *opaque);
    void (*init)(void *opaque);               /* INIT: to the wait-for-SIPI state, or to the reset vector */
    void (*sipi)(void *opaque, u8 vector);    /* start at vector << 12; ignored unless waiting */
    void (*smi)(void *opaque);
    u64 (*ns_to_tsc)(void *opaque, u64 ns);   /* what RDTSC gives at that clock time */
    u64 (*tsc_to_ns)(void *opaque, u64 tsc);  /* when it gives that value; UINT64_MAX when never */
};

struct lapic_config {
    u32 id;                   /* initial APIC ID, as in CPUID */
    bool bsp;                 /* the boot processor */
    bool x2apic;              /* CPUID.1:ECX[21] */
    bool tsc_deadline;        /* CPUID.1:ECX[24] */
    bool directed_eoi;        /* EOI broadcast suppression (version bit 24, SVR bit 12) */
    u8 phys_bits;             /* MAXPHYADDR: higher bits of IA32_APIC_BASE are reserved */
    int (*extint_ack)(void *opaque); /* INTA cycle at the i8259: its vector; may be NULL */
    void *extint_opaque;      /* for extint_ack */
};

/* Attaches itself to the bus. NULL with a message on stderr. */
struct lapic *lapic_create(struct apic_bus *apics, struct clock *clock, const struct lapic_config *config,
                           const struct lapic_cpu *cpu);
struct device *lapic_device(struct lapic *l);

/* ---- the CPU's side ---- */

/* Interrupt acknowledge: the vector (perhaps the spurious one or the i8259's), or -1 when there is none. */
int lapic_ack(struct lapic *l);
/* MSRs 0x1b, 0x6e0 and 0x800-0x8ff. false: #GP(0). */
bool lapic_msr_read(struct lapic *l, u32 msr, u64 *value);
bool lapic_msr_write(struct lapic *l, u32 msr, u64 value);
/* CR8: the task priority class. */
u64 lapic_cr8_read(const struct lapic *l);
void lapic_cr8_write(struct lapic *l, u64 value);

/* The page that vCPU accesses must try here before the memory bus: IA32_APIC_BASE's address. */
gpa lapic_base(const struct lapic *l);
u32 lapic_initial_id(const struct lapic *l);
/* An access by this vCPU to guest-physical address. false: not in this APIC's page, use the bus. An access
 * to the page while the APIC is disabled or in x2APIC mode is taken too: reads give all ones. */
bool lapic_mmio_read(struct lapic *l, gpa address, unsigned size, u64 *value);
bool lapic_mmio_write(struct lapic *l, gpa address, u64 value, unsigned size);

/* Local interrupt pin 0 or 1. */
struct irq_line lapic_lint(struct lapic *l, int pin);

/* ---- for apic_bus.c ---- */

/* Is this APIC among the destinations? */
bool lapic_matches(const struct lapic *l, const struct apic_message *m);
/* Take a message that is for this APIC: whether it was accepted. */
bool lapic_accept(struct lapic *l, const struct apic_message *m);
/* Can it take fixed interrupts, and how important is what it does now (for lowest-priority delivery)? */
bool lapic_accepts_fixed(const struct lapic *l);
u8 lapic_arbitration_priority(const struct lapic *l);

#endif
