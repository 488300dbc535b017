/* The local APIC's private state, shared by lapic.c (interrupts), lapic_registers.c and lapic_timer.c. */
#ifndef DEVICES_LAPIC_STATE_H
#define DEVICES_LAPIC_STATE_H

#include "devices/lapic.h"

/* Local vector table entries in the order of their registers, 0x320 + 0x10 * n. */
enum lapic_lvt {
    LVT_TIMER,
    LVT_THERMAL,
    LVT_PERF,
    LVT_LINT0,
    LVT_LINT1,
    LVT_ERROR,
    LVT_COUNT,
};

#define LVT_MODE_SHIFT 8
#define LVT_LEVEL      (1u << 15) /* LINT0/1: level triggered, in fixed mode */
#define LVT_REMOTE_IRR (1u << 14) /* LINT0/1: level interrupt accepted and not yet EOIed */
#define LVT_MASKED     (1u << 16)
#define LVT_TIMER_MODE (3u << 17)
#define LVT_PERIODIC   (1u << 17)
#define LVT_DEADLINE   (2u << 17)

/* IA32_APIC_BASE, [SDM3] figure 11-5. */
#define BASE_BSP    (1ull << 8)
#define BASE_X2APIC (1ull << 10)
#define BASE_ENABLE (1ull << 11)

#define SVR_ENABLE       (1u << 8)
#define SVR_SUPPRESS_EOI (1u << 12)

/* Error status bits, [SDM3] 11.5.3. */
#define ESR_SEND_ILLEGAL    (1u << 5)
#define ESR_RECEIVE_ILLEGAL (1u << 6)
#define ESR_REGISTER        (1u << 7)

struct lapic {
    struct device dev;          /* class part, first */
    struct apic_bus *apics;     /* where messages come from and go to */
    struct clock *clock;        /* time base of the timer */
    struct timer *timer;        /* armed while an unmasked timer runs */
    struct lapic_config config; /* what this APIC can do */
    struct lapic_cpu cpu;       /* the CPU's inputs */

    u64 base;          /* IA32_APIC_BASE */
    u8 xapic_id;       /* ID register in xAPIC mode (software may change it) */
    u8 tpr;            /* task priority */
    u32 ldr, dfr, svr; /* logical destination (xAPIC form), destination format, spurious vector */
    u32 isr[8];        /* in service, by vector */
    u32 irr[8];        /* requested */
    u32 tmr[8];        /* level triggered */
    u32 esr;           /* error status as software sees it */
    u32 esr_pending;   /* errors since the last write to ESR */
    u32 icr_low;       /* interrupt command */
    u32 icr_high;      /* its destination: bits 31:24 in xAPIC mode, all in x2APIC mode */
    u32 lvt[LVT_COUNT];
    bool lint[2];          /* levels of the local pins */
    bool extint_requested; /* an ExtINT message arrived and was not acknowledged yet */
    bool intr_level;       /* what the CPU was last told */

    u32 timer_initial;  /* initial count register */
    u32 timer_divide;   /* divide configuration register */
    bool timer_running; /* the counter counts */
    u64 timer_zero;     /* when running: the time at which it reaches zero, ns */
    u64 timer_deadline; /* IA32_TSC_DEADLINE; 0 when disarmed */
};

static inline bool lapic_enabled(const struct lapic *l) { return (l->base & BASE_ENABLE) != 0; }
static inline bool lapic_is_x2apic(const struct lapic *l) { return lapic_enabled(l) && l->base & BASE_X2APIC; }
static inline bool lapic_software_enabled(const struct lapic *l) { return (l->svr & SVR_ENABLE) != 0; }

/* ---- lapic.c ---- */

/* Processor priority. */
u8 lapic_ppr(const struct lapic *l);
/* Logical destination in x2APIC mode. */
u32 lapic_x2apic_ldr(const struct lapic *l);
/* Tell the CPU whether there is something to acknowledge. */
void lapic_update(struct lapic *l);
/* Request a fixed interrupt from inside; raises the illegal-vector error. */
void lapic_local_interrupt(struct lapic *l, u8 vector, bool level);
/* Report errors: ESR_ bits. */
void lapic_error(struct lapic *l, u32 bits);
/* The entry of local pin 0 or 1 was written. */
void lapic_lint_evaluate(struct lapic *l, int pin);
void lapic_eoi(struct lapic *l);
/* Do what the interrupt command register says. */
void lapic_send_ipi(struct lapic *l);
/* Registers to their reset values except APIC ID and IA32_APIC_BASE, [SDM3] 11.4.7.1. wire: leave LINT0 open for the
 * i8259. */
void lapic_load_defaults(struct lapic *l, bool wire);

/* ---- lapic_timer.c ---- */

void lapic_timer_reset(struct lapic *l);
/* Let everything happen that is due by now. */
void lapic_timer_sync(struct lapic *l);
void lapic_timer_fire(void *opaque);
void lapic_timer_set_lvt(struct lapic *l, u32 value);
void lapic_timer_set_initial(struct lapic *l, u32 value);
void lapic_timer_set_divide(struct lapic *l, u32 value);
u32 lapic_timer_count(struct lapic *l);
void lapic_timer_set_deadline(struct lapic *l, u64 tsc);

#endif
